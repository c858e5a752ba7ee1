// If and Loop: what is known outside moves into the blocks, a branch whose condition is known replaces its If, a loop
// that counts up to a known limit gets a trip count, and a body that runs once replaces its Loop.
#include "ops/control_flow.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "ops/registry.hpp"
#include "passes/passes.hpp"

namespace tenfold {
namespace {

std::optional<bool> known_condition(const Graph& graph, ValueId condition) {
  if (const Tensor* tensor = graph.constant(condition)) return tensor->to_int64().at(0) != 0;
  const auto& integers = graph.value(condition).integers;
  if (!integers || integers->size() != 1 || !integers->front().is_constant()) return std::nullopt;
  return integers->front().constant() != 0;
}

/// Copies the nodes of `block` into `graph` with `operands` in place of its inputs; gives the block's results.
std::vector<ValueId> inline_block(Graph& graph, const Graph& block, const std::vector<ValueId>& operands,
                                  const std::string& prefix) {
  std::vector<ValueId> outer(static_cast<std::size_t>(block.value_limit()), kNoValue);
  for (std::size_t i = 0; i < operands.size(); ++i) outer[static_cast<std::size_t>(block.inputs()[i])] = operands[i];
  const auto resolve = [&](ValueId inner) {
    if (inner == kNoValue) return kNoValue;
    ValueId& known = outer[static_cast<std::size_t>(inner)];
    if (known == kNoValue) {
      if (const Tensor* tensor = block.constant(inner)) {
        known = graph.add_constant(prefix + block.value(inner).name, *tensor);
      }
    }
    return known;
  };
  for (const NodeId id : block.order()) {
    const Node& node = block.node(id);
    std::vector<ValueId> inputs;
    for (const ValueId input : node.inputs) inputs.push_back(resolve(input));
    const NodeId copy = graph.add_node(node.op, std::move(inputs), static_cast<int>(node.outputs.size()),
                                       prefix + node.name, node.origins, node.blocks);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) {
        graph.drop_output(copy, static_cast<int>(i));
      } else {
        outer[static_cast<std::size_t>(node.outputs[i])] = graph.node(copy).outputs[i];
      }
    }
    graph.infer_types(copy);
  }
  std::vector<ValueId> results;
  for (const ValueId output : block.outputs()) results.push_back(resolve(output));
  return results;
}

/// First captured value among the node's inputs, and the block input it feeds.
struct Captures {
  std::size_t first_operand = 0;
  std::size_t first_block_input = 0;
};
std::optional<Captures> captures_of(const Node& node) {
  if (op_cast<If>(&node) != nullptr) return Captures{1, 0};
  if (const auto* loop = op_cast<Loop>(&node)) {
    const auto first = static_cast<std::size_t>(2 + loop->num_carried());
    return Captures{first, first};
  }
  if (const auto* scan = op_cast<Scan>(&node)) {
    const auto first = static_cast<std::size_t>(scan->num_carried() + scan->num_scanned());
    return Captures{first, first};
  }
  return std::nullopt;
}

/// Captured constants become constants of the blocks, and captures that no block reads go.
int sink_constants(Graph& graph, NodeId id) {
  Node& node = graph.node(id);
  const std::optional<Captures> captures = captures_of(node);
  if (!captures) return 0;
  int changes = 0;
  for (std::size_t i = node.inputs.size(); i-- > captures->first_operand;) {
    const std::size_t position = captures->first_block_input + (i - captures->first_operand);
    bool is_read = false;
    for (Graph& block : node.blocks) {
      const ValueId input = block.inputs()[position];
      if (const Tensor* tensor = graph.constant(node.inputs[i])) {
        block.replace_uses(input, block.add_constant(block.value(input).name + ".constant", *tensor));
      }
      is_read = is_read || block.is_output(input) || !block.readers()[static_cast<std::size_t>(input)].empty();
    }
    if (is_read) continue;
    for (Graph& block : node.blocks) block.remove_input(position);
    node.inputs.erase(node.inputs.begin() + static_cast<std::ptrdiff_t>(i));
    ++changes;
  }
  return changes;
}

/// A carried value that the body hands on unchanged is the same in every iteration, so what comes out is what went in.
int uncarry_invariants(Graph& graph, NodeId id) {
  Node& node = graph.node(id);
  const auto* loop = op_cast<Loop>(&node);
  if (loop == nullptr) return 0;
  int changes = 0;
  for (int i = 0; i < loop->num_carried(); ++i) {
    const auto carried = static_cast<std::size_t>(i);
    const Graph& body = node.blocks[0];
    const ValueId result = node.outputs[carried];
    if (body.outputs()[carried + 1] != body.inputs()[carried + 2] || result == kNoValue) continue;
    const ValueId initial = node.inputs[carried + 2];
    const bool is_read = graph.is_output(result) || !graph.readers()[static_cast<std::size_t>(result)].empty();
    if (!is_read || initial == kNoValue) continue;
    graph.replace_uses(result, initial);
    ++changes;
  }
  return changes;
}

/// `results` take the place of the node's outputs, and the node goes.
void replace_node(Graph& graph, NodeId id, const std::vector<ValueId>& outputs, const std::vector<ValueId>& results) {
  std::vector<ValueId> changed;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i] == kNoValue) continue;
    graph.replace_uses(outputs[i], results[i]);
    changed.push_back(results[i]);
  }
  graph.infer_downstream(changed);
  graph.remove_node(id);
}

int inline_known_branch(Graph& graph, NodeId id) {
  if (op_cast<If>(&graph.node(id)) == nullptr) return 0;
  const std::optional<bool> condition = known_condition(graph, graph.node(id).inputs[0]);
  if (!condition) return 0;
  const Node node = graph.node(id);  // adding nodes moves the originals
  const std::vector<ValueId> operands(node.inputs.begin() + 1, node.inputs.end());
  const std::vector<ValueId> results = inline_block(graph, node.blocks[*condition ? 0 : 1], operands, node.name + "/");
  replace_node(graph, id, node.outputs, results);
  return 1;
}

/// Numbers up to here are exact as float32, in which exporters like to compare counters.
constexpr double kExactCount = 1 << 24;

/// The single number behind a value; nullopt if it is not known.
std::optional<double> known_number(const Graph& graph, ValueId value) {
  if (value == kNoValue) return std::nullopt;
  if (const Tensor* tensor = graph.constant(value)) {
    const std::vector<double> elements = tensor->to_double();
    return elements.size() == 1 ? std::optional(elements[0]) : std::nullopt;
  }
  const auto& integers = graph.value(value).integers;
  if (!integers || integers->size() != 1 || !integers->front().is_constant()) return std::nullopt;
  return static_cast<double>(integers->front().constant());
}

/// A carried value of a loop plus a number.
struct Counter {
  std::size_t carried = 0;
  double offset = 0;
};

const Node* producer_of(const Graph& body, ValueId value, std::string_view type) {
  const Node* node = body.producer(value);
  return node != nullptr && node->op->type() == type ? node : nullptr;
}

/// The value without casts of integers to types that hold counts up to kExactCount.
ValueId behind_casts(const Graph& body, ValueId value) {
  for (const Node* cast = producer_of(body, value, "Cast"); cast != nullptr; cast = producer_of(body, value, "Cast")) {
    if (size_of(body.value(value).type.dtype) < 4 || !is_integer(body.value(cast->inputs[0]).type.dtype)) break;
    value = cast->inputs[0];
  }
  return value;
}

std::optional<Counter> counter_of(const Graph& body, const Loop& loop, ValueId value) {
  value = behind_casts(body, value);
  Counter counter;
  if (const Node* add = producer_of(body, value, "Add")) {
    for (const std::size_t i : {0U, 1U}) {
      const std::optional<double> number = known_number(body, behind_casts(body, add->inputs[1 - i]));
      if (!number || body.producer(add->inputs[i]) != nullptr) continue;
      counter.offset = *number;
      value = add->inputs[i];
      break;
    }
  }
  const auto first = body.inputs().begin() + 2;
  const auto found = std::find(first, first + loop.num_carried(), value);
  if (found == first + loop.num_carried()) return std::nullopt;
  const DType dtype = body.value(value).type.dtype;
  if (!is_integer(dtype) || size_of(dtype) < 4) return std::nullopt;
  counter.carried = static_cast<std::size_t>(found - first);
  return counter;
}

/// How often a loop runs whose first iteration is certain and that goes on while `condition` holds behind each. It is
/// known if the condition is counter < limit, with a counter that grows by the same number in each iteration, or
/// several of them joined by And.
std::optional<double> trips_while(const Graph& graph, const Node& node, const Loop& loop, ValueId condition) {
  const Graph& body = node.blocks[0];
  if (const Node* both = producer_of(body, condition, "And")) {
    const std::optional<double> a = trips_while(graph, node, loop, both->inputs[0]);
    const std::optional<double> b = trips_while(graph, node, loop, both->inputs[1]);
    return a && b ? std::optional(std::min(*a, *b)) : std::nullopt;
  }
  ValueId small = kNoValue, large = kNoValue;
  if (const Node* less = producer_of(body, condition, "Less")) {
    small = less->inputs[0];
    large = less->inputs[1];
  } else if (const Node* greater = producer_of(body, condition, "Greater")) {
    small = greater->inputs[1];
    large = greater->inputs[0];
  } else {
    return std::nullopt;
  }
  const std::optional<Counter> counter = counter_of(body, loop, small);
  const std::optional<double> limit = known_number(body, behind_casts(body, large));
  if (!counter || !limit) return std::nullopt;
  const std::optional<Counter> step = counter_of(body, loop, body.outputs()[1 + counter->carried]);
  const std::optional<double> start = known_number(graph, node.inputs[2 + counter->carried]);
  if (!step || step->carried != counter->carried || step->offset <= 0 || !start) return std::nullopt;
  const double first = *start + counter->offset;  // what is compared behind the first iteration
  const double more = std::max(0.0, std::ceil((*limit - first) / step->offset));
  const double largest = std::max({std::abs(*start), std::abs(first), std::abs(*limit) + step->offset});
  if (!(largest < kExactCount) || !(more < kExactCount)) return std::nullopt;
  return 1 + more;
}

/// while (i < n) with a known n becomes a loop with a trip count, whose stacked results then have known sizes.
int count_trips(Graph& graph, NodeId id) {
  const auto* loop = op_cast<Loop>(&graph.node(id));
  if (loop == nullptr) return 0;
  const Node& node = graph.node(id);
  const Graph& body = node.blocks[0];
  if (node.inputs[1] != kNoValue && known_condition(graph, node.inputs[1]) != true) return 0;
  std::optional<double> trips = trips_while(graph, node, *loop, body.outputs()[0]);
  if (!trips) return 0;
  if (node.inputs[0] != kNoValue) {
    const std::optional<double> most = known_number(graph, node.inputs[0]);
    if (!most) return 0;
    trips = std::clamp(*most, 0.0, *trips);
  }
  Tensor count(DType::int64, {});
  count.as_mutable<std::int64_t>()[0] = static_cast<std::int64_t>(*trips);
  const ValueId constant = graph.add_constant(node.name + ".trips", std::move(count));
  Node& counted = graph.node(id);
  counted.inputs[0] = constant;
  std::vector<ValueId> outputs = counted.blocks[0].outputs();
  outputs[0] = counted.blocks[0].inputs()[1];  // go on: the trip count ends it
  counted.blocks[0].set_outputs(std::move(outputs), counted.blocks[0].output_names());
  return 1;
}

/// A body that runs exactly once takes the place of its loop.
int inline_single_trip(Graph& graph, NodeId id) {
  const auto* loop = op_cast<Loop>(&graph.node(id));
  if (loop == nullptr) return 0;
  const Node node = graph.node(id);
  if (node.inputs[0] == kNoValue || known_number(graph, node.inputs[0]) != 1.0) return 0;
  if (node.inputs[1] != kNoValue && known_condition(graph, node.inputs[1]) != true) return 0;
  Tensor iteration(DType::int64, {});
  Tensor goes_on(DType::boolean, {});
  goes_on.as_mutable<bool>()[0] = true;
  std::vector<ValueId> operands{graph.add_constant(node.name + ".iteration", std::move(iteration)),
                                graph.add_constant(node.name + ".goes_on", std::move(goes_on))};
  operands.insert(operands.end(), node.inputs.begin() + 2, node.inputs.end());
  std::vector<ValueId> results = inline_block(graph, node.blocks[0], operands, node.name + "/");
  results.erase(results.begin());  // the condition
  for (std::size_t i = static_cast<std::size_t>(loop->num_carried()); i < results.size(); ++i) {
    if (node.outputs[i] == kNoValue) continue;
    const NodeId stacked = graph.add_node(make_op("Unsqueeze", {{"axes", std::vector<std::int64_t>{0}}}), {results[i]},
                                          1, node.name + "/stack", node.origins);
    graph.infer_types(stacked);
    results[i] = graph.node(stacked).outputs[0];
  }
  replace_node(graph, id, node.outputs, results);
  return 1;
}

}  // namespace

int simplify_control_flow(Graph& graph) {
  int changes = 0;
  for (NodeId id = 0; id < graph.node_limit(); ++id) {
    if (!graph.is_alive_node(id) || graph.node(id).blocks.empty()) continue;
    int here = sink_constants(graph, id) + uncarry_invariants(graph, id) + count_trips(graph, id);
    if (here > 0 && graph.infer_types(id)) {
      std::vector<ValueId> outputs = graph.node(id).outputs;
      std::erase(outputs, kNoValue);
      graph.infer_downstream(outputs);
    }
    here += inline_known_branch(graph, id);
    if (graph.is_alive_node(id)) here += inline_single_trip(graph, id);
    changes += here;
  }
  if (changes > 0) graph.remove_dead();
  return changes;
}

}  // namespace tenfold
