// If and Loop: what is known outside moves into the blocks, and a branch whose condition is known replaces its If.
#include "ops/control_flow.hpp"

#include <algorithm>
#include <optional>
#include <utility>

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

int inline_known_branch(Graph& graph, NodeId id) {
  if (op_cast<If>(&graph.node(id)) == nullptr) return 0;
  const std::optional<bool> condition = known_condition(graph, graph.node(id).inputs[0]);
  if (!condition) return 0;
  const Node node = graph.node(id);  // adding nodes moves the originals
  const std::vector<ValueId> operands(node.inputs.begin() + 1, node.inputs.end());
  const std::vector<ValueId> results = inline_block(graph, node.blocks[*condition ? 0 : 1], operands, node.name + "/");
  std::vector<ValueId> changed;
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNoValue) continue;
    graph.replace_uses(node.outputs[i], results[i]);
    changed.push_back(results[i]);
  }
  graph.infer_downstream(changed);
  graph.remove_node(id);
  return 1;
}

}  // namespace

int simplify_control_flow(Graph& graph) {
  int changes = 0;
  for (NodeId id = 0; id < graph.node_limit(); ++id) {
    if (!graph.is_alive_node(id) || graph.node(id).blocks.empty()) continue;
    int here = sink_constants(graph, id) + uncarry_invariants(graph, id);
    if (here > 0 && graph.infer_types(id)) {
      std::vector<ValueId> outputs = graph.node(id).outputs;
      std::erase(outputs, kNoValue);
      graph.infer_downstream(outputs);
    }
    here += inline_known_branch(graph, id);
    changes += here;
  }
  if (changes > 0) graph.remove_dead();
  return changes;
}

}  // namespace tenfold
