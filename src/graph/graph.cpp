#include "graph/graph.hpp"

#include <algorithm>
#include <deque>
#include <set>
#include <utility>

namespace tenfold {
namespace {

// Elements of larger integer tensors are data, not shape arithmetic.
constexpr std::int64_t kMaxKnownIntegers = 1024;
constexpr std::int64_t kMaxDim = std::int64_t{1} << 40;

/// Shape inference of one node of a graph: reads the graph, collects the results.
class NodeInference final : public InferContext {
 public:
  NodeInference(const Graph& graph, const Node& node) : graph_(graph), node_(node) {
    result_.types.resize(node.outputs.size());
    result_.integers.resize(node.outputs.size());
    result_.blocks = node.blocks;
  }

  int num_inputs() const override { return static_cast<int>(node_.inputs.size()); }
  bool has_input(int index) const override {
    return index >= 0 && index < num_inputs() && node_.inputs[static_cast<std::size_t>(index)] != kNoValue;
  }
  const TensorType& input(int index) const override { return operand(index).type; }
  const Tensor* constant(int index) const override {
    if (!has_input(index)) return nullptr;
    const Value& value = operand(index);
    return value.constant ? &*value.constant : nullptr;
  }
  std::optional<std::vector<Dim>> integers(int index) const override {
    if (!has_input(index)) return std::nullopt;
    const Value& value = operand(index);
    if (value.integers) return value.integers;
    if (!value.constant || value.constant->num_elements() > kMaxKnownIntegers) return std::nullopt;
    if (!is_integer(value.type.dtype) && value.type.dtype != DType::boolean) return std::nullopt;
    const std::vector<std::int64_t> elements = value.constant->to_int64();
    return std::vector<Dim>(elements.begin(), elements.end());
  }
  int num_outputs() const override { return static_cast<int>(node_.outputs.size()); }
  bool wants_output(int index) const override {
    return index >= 0 && index < num_outputs() && node_.outputs[static_cast<std::size_t>(index)] != kNoValue;
  }
  std::span<Graph> blocks() override { return result_.blocks; }

  void set_output(int index, TensorType type) override {
    if (!wants_output(index)) return;
    require(type.rank() <= kMaxRank, Code::unsupported, "output {} would have rank {}; at most {} is supported", index,
            type.rank(), kMaxRank);
    for (const Dim& dim : type.dims) {
      require(!dim.is_constant() || (dim.constant() >= 0 && dim.constant() < kMaxDim), Code::invalid_model,
              "output {} would have shape {}", index, to_string(type.dims));
    }
    if (type.is_static()) (void)tenfold::num_elements(type.static_shape());
    result_.types[static_cast<std::size_t>(index)] = std::move(type);
  }
  void set_integers(int index, std::vector<Dim> elements) override {
    if (!wants_output(index) || static_cast<std::int64_t>(elements.size()) > kMaxKnownIntegers) return;
    result_.integers[static_cast<std::size_t>(index)] = std::move(elements);
  }
  Dim fresh(int output, int axis, std::optional<Dim> at_most) override {
    ensure(wants_output(output), "a fresh dimension for output {} that nobody wants", output);
    const Value& value = graph_.value(node_.outputs[static_cast<std::size_t>(output)]);
    std::string name = graph_.scope + value.name + "#" + std::to_string(axis);
    // An output that got its symbol under an earlier name keeps it, so that inferring again changes nothing.
    if (axis < value.type.rank()) {
      const std::optional<std::string> before = value.type.dims[static_cast<std::size_t>(axis)].as_symbol();
      if (before && graph_.symbol_bounds.contains(*before)) name = *before;
    }
    result_.fresh_symbols.insert_or_assign(name, at_most.value_or(Dim(kUnbounded)));
    return Dim::symbol(std::move(name));
  }

  InferredTypes take() { return std::move(result_); }

 private:
  const Value& operand(int index) const {
    require(has_input(index), Code::invalid_model, "input {} is missing", index);
    return graph_.value(node_.inputs[static_cast<std::size_t>(index)]);
  }

  const Graph& graph_;
  const Node& node_;
  InferredTypes result_;
};

}  // namespace

std::string describe(const Node& node) { return fmt::format("node '{}' ({})", node.name, node.op->type()); }

InferredTypes infer_node(const Graph& graph, const Node& node) {
  try {
    NodeInference context(graph, node);
    node.op->infer(context);
    InferredTypes result = context.take();
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      ensure(node.outputs[i] == kNoValue || result.types[i].dtype != DType::undefined,
             "shape inference left output {} without a type", i);
      if (result.integers[i]) {
        const Dim count = result.types[i].num_elements();
        ensure(count == Dim(static_cast<std::int64_t>(result.integers[i]->size())),
               "output {} of type {} got {} known elements", i, to_string(result.types[i]), result.integers[i]->size());
      }
    }
    return result;
  } catch (const Error& error) {
    throw error.in_context(describe(node));
  }
}

// --- Values ---------------------------------------------------------------------------------------------------------

std::string Graph::unique_name(const std::string& name_wanted) const {
  if (!name_wanted.empty() && !value_names_.contains(name_wanted)) return name_wanted;
  int& suffix = next_suffix_[name_wanted];
  while (true) {
    std::string candidate = fmt::format("{}_{}", name_wanted.empty() ? "v" : name_wanted, ++suffix);
    if (!value_names_.contains(candidate)) return candidate;
  }
}

std::string Graph::unique_node_name(const std::string& name_wanted) const {
  if (!name_wanted.empty() && !node_names_.contains(name_wanted)) return name_wanted;
  int& suffix = next_suffix_["node:" + name_wanted];
  while (true) {
    std::string candidate = fmt::format("{}_{}", name_wanted.empty() ? "n" : name_wanted, ++suffix);
    if (!node_names_.contains(candidate)) return candidate;
  }
}

ValueId Graph::add_value(Value value) {
  value.name = unique_name(value.name);
  const auto id = static_cast<ValueId>(values_.size());
  value_names_.emplace(value.name, id);
  values_.push_back(std::move(value));
  value_alive_.push_back(true);
  return id;
}

ValueId Graph::add_input(const std::string& input_name, TensorType type) {
  Value value;
  value.name = input_name;
  value.type = std::move(type);
  const ValueId id = add_value(std::move(value));
  inputs_.push_back(id);
  return id;
}

ValueId Graph::add_constant(const std::string& constant_name, Tensor tensor) {
  Value value;
  value.name = constant_name;
  value.type = tensor.type();
  value.constant = std::move(tensor);
  return add_value(std::move(value));
}

void Graph::remove_input(std::size_t position) {
  ensure(position < inputs_.size(), "graph '{}' has no input {}", name, position);
  const auto i = static_cast<std::size_t>(inputs_[position]);
  value_names_.erase(values_[i].name);
  value_alive_[i] = false;
  values_[i] = Value{};
  inputs_.erase(inputs_.begin() + static_cast<std::ptrdiff_t>(position));
}

void Graph::set_outputs(std::vector<ValueId> outputs, std::vector<std::string> names) {
  for (const ValueId id : outputs) ensure(is_alive_value(id), "output {} is no value of graph '{}'", id, name);
  if (names.empty()) {
    for (const ValueId id : outputs) names.push_back(value(id).name);
  }
  ensure(names.size() == outputs.size(), "{} outputs with {} names", outputs.size(), names.size());
  outputs_ = std::move(outputs);
  output_names_ = std::move(names);
}

void Graph::rename(ValueId id, const std::string& new_name) {
  Value& target = value(id);
  if (target.name == new_name) return;
  ensure(!value_names_.contains(new_name), "value name '{}' is taken", new_name);
  value_names_.erase(target.name);
  target.name = new_name;
  value_names_.emplace(new_name, id);
}

bool Graph::is_alive_value(ValueId id) const {
  return id >= 0 && id < value_limit() && value_alive_[static_cast<std::size_t>(id)];
}
const Value& Graph::value(ValueId id) const {
  ensure(is_alive_value(id), "value {} does not exist in graph '{}'", id, name);
  return values_[static_cast<std::size_t>(id)];
}
Value& Graph::value(ValueId id) { return const_cast<Value&>(std::as_const(*this).value(id)); }

std::optional<ValueId> Graph::find_value(std::string_view value_name) const {
  const auto found = value_names_.find(value_name);
  if (found == value_names_.end()) return std::nullopt;
  return found->second;
}

// --- Nodes ----------------------------------------------------------------------------------------------------------

NodeId Graph::add_node(OpPtr op, std::vector<ValueId> inputs, int num_outputs, const std::string& node_name,
                       std::vector<std::string> origins, std::vector<Graph> blocks) {
  ensure(op != nullptr, "node '{}' without an operator", node_name);
  for (const ValueId id : inputs) {
    ensure(id == kNoValue || is_alive_value(id), "node '{}' reads value {} that does not exist", node_name, id);
  }
  const auto id = static_cast<NodeId>(nodes_.size());
  Node node;
  node.op = std::move(op);
  node.inputs = std::move(inputs);
  node.name = unique_node_name(node_name);
  std::sort(origins.begin(), origins.end());
  origins.erase(std::unique(origins.begin(), origins.end()), origins.end());
  node.origins = std::move(origins);
  node.blocks = std::move(blocks);
  for (int i = 0; i < num_outputs; ++i) {
    Value value;
    value.name = i == 0 ? node.name : fmt::format("{}:{}", node.name, i);
    value.producer = id;
    value.output_index = i;
    node.outputs.push_back(add_value(std::move(value)));
  }
  node_names_.emplace(node.name, id);
  nodes_.push_back(std::move(node));
  node_alive_.push_back(true);
  return id;
}

bool Graph::is_alive_node(NodeId id) const {
  return id >= 0 && id < node_limit() && node_alive_[static_cast<std::size_t>(id)];
}
const Node& Graph::node(NodeId id) const {
  ensure(is_alive_node(id), "node {} does not exist in graph '{}'", id, name);
  return nodes_[static_cast<std::size_t>(id)];
}
Node& Graph::node(NodeId id) { return const_cast<Node&>(std::as_const(*this).node(id)); }

int Graph::num_nodes() const { return static_cast<int>(std::count(node_alive_.begin(), node_alive_.end(), true)); }

void Graph::remove_node(NodeId id) {
  Node& dead = node(id);
  for (const ValueId output : dead.outputs) {
    if (output == kNoValue) continue;
    value_names_.erase(values_[static_cast<std::size_t>(output)].name);
    value_alive_[static_cast<std::size_t>(output)] = false;
    values_[static_cast<std::size_t>(output)] = Value{};
  }
  node_names_.erase(dead.name);
  node_alive_[static_cast<std::size_t>(id)] = false;
  dead = Node{};
}

void Graph::drop_output(NodeId id, int output_index) {
  ValueId& output = node(id).outputs.at(static_cast<std::size_t>(output_index));
  if (output == kNoValue) return;
  value_names_.erase(values_[static_cast<std::size_t>(output)].name);
  value_alive_[static_cast<std::size_t>(output)] = false;
  values_[static_cast<std::size_t>(output)] = Value{};
  output = kNoValue;
}

std::vector<NodeId> Graph::order() const {
  // Depth-first from the outputs, so that a producer comes shortly before its reader and buffers live shortly.
  enum : std::uint8_t { white, open, done };
  std::vector<std::uint8_t> state(nodes_.size(), white);
  std::vector<NodeId> result;
  result.reserve(nodes_.size());
  std::vector<std::pair<NodeId, std::size_t>> stack;
  const auto visit = [&](NodeId root) {
    if (state[static_cast<std::size_t>(root)] != white) return;
    stack.emplace_back(root, 0);
    state[static_cast<std::size_t>(root)] = open;
    while (!stack.empty()) {
      auto& [id, next] = stack.back();
      const Node& current = nodes_[static_cast<std::size_t>(id)];
      if (next == current.inputs.size()) {
        state[static_cast<std::size_t>(id)] = done;
        result.push_back(id);
        stack.pop_back();
        continue;
      }
      const ValueId input = current.inputs[next++];
      if (input == kNoValue) continue;
      const NodeId from = values_[static_cast<std::size_t>(input)].producer;
      if (from == kNoNode || state[static_cast<std::size_t>(from)] == done) continue;
      require(state[static_cast<std::size_t>(from)] == white, Code::invalid_model, "{} lies on a cycle",
              describe(nodes_[static_cast<std::size_t>(from)]));
      state[static_cast<std::size_t>(from)] = open;
      stack.emplace_back(from, 0);
    }
  };
  for (const ValueId output : outputs_) {
    if (const NodeId from = values_[static_cast<std::size_t>(output)].producer; from != kNoNode) visit(from);
  }
  for (NodeId id = 0; id < node_limit(); ++id) {
    if (node_alive_[static_cast<std::size_t>(id)]) visit(id);
  }
  return result;
}

const Node* Graph::producer(ValueId id) const {
  if (id == kNoValue) return nullptr;
  const NodeId from = value(id).producer;
  return from == kNoNode ? nullptr : &nodes_[static_cast<std::size_t>(from)];
}

std::vector<std::vector<NodeId>> Graph::readers() const {
  std::vector<std::vector<NodeId>> result(values_.size());
  for (NodeId id = 0; id < node_limit(); ++id) {
    if (!node_alive_[static_cast<std::size_t>(id)]) continue;
    for (const ValueId input : nodes_[static_cast<std::size_t>(id)].inputs) {
      if (input != kNoValue) result[static_cast<std::size_t>(input)].push_back(id);
    }
  }
  return result;
}

bool Graph::is_output(ValueId id) const { return std::find(outputs_.begin(), outputs_.end(), id) != outputs_.end(); }

const Tensor* Graph::constant(ValueId id) const {
  if (id == kNoValue) return nullptr;
  const Value& found = value(id);
  return found.constant ? &*found.constant : nullptr;
}

void Graph::replace_uses(ValueId from, ValueId to) {
  for (NodeId id = 0; id < node_limit(); ++id) {
    if (!node_alive_[static_cast<std::size_t>(id)]) continue;
    for (ValueId& input : nodes_[static_cast<std::size_t>(id)].inputs) {
      if (input == from) input = to;
    }
  }
  std::replace(outputs_.begin(), outputs_.end(), from, to);
}

// --- Whole graph ----------------------------------------------------------------------------------------------------

bool Graph::infer_types(NodeId id) {
  InferredTypes inferred = infer_node(*this, node(id));
  Node& target = node(id);
  bool changed = false;
  for (std::size_t i = 0; i < target.outputs.size(); ++i) {
    if (target.outputs[i] == kNoValue) continue;
    Value& output = values_[static_cast<std::size_t>(target.outputs[i])];
    changed = changed || output.type != inferred.types[i] || output.integers != inferred.integers[i];
    output.type = std::move(inferred.types[i]);
    output.integers = std::move(inferred.integers[i]);
  }
  target.blocks = std::move(inferred.blocks);
  for (auto& [symbol, bound] : inferred.fresh_symbols) symbol_bounds.insert_or_assign(symbol, std::move(bound));
  return changed;
}

void Graph::infer_types() {
  for (const NodeId id : order()) infer_types(id);
}

void Graph::infer_downstream(std::span<const ValueId> changed) {
  const std::vector<std::vector<NodeId>> readers_of = readers();
  // Processed in graph order, so each node is inferred once.
  std::vector<bool> dirty(nodes_.size(), false);
  bool any = false;
  for (const ValueId id : changed) {
    for (const NodeId reader : readers_of[static_cast<std::size_t>(id)])
      dirty[static_cast<std::size_t>(reader)] = any = true;
  }
  if (!any) return;
  for (const NodeId id : order()) {
    if (!dirty[static_cast<std::size_t>(id)] || !infer_types(id)) continue;
    for (const ValueId output : nodes_[static_cast<std::size_t>(id)].outputs) {
      if (output == kNoValue) continue;
      for (const NodeId reader : readers_of[static_cast<std::size_t>(output)])
        dirty[static_cast<std::size_t>(reader)] = true;
    }
  }
}

void Graph::remove_dead() {
  std::vector<bool> needed(nodes_.size(), false);
  std::vector<bool> used(values_.size(), false);
  std::vector<NodeId> work;
  const auto use = [&](ValueId id) {
    if (id == kNoValue || used[static_cast<std::size_t>(id)]) return;
    used[static_cast<std::size_t>(id)] = true;
    const NodeId from = values_[static_cast<std::size_t>(id)].producer;
    if (from == kNoNode || needed[static_cast<std::size_t>(from)]) return;
    needed[static_cast<std::size_t>(from)] = true;
    work.push_back(from);
  };
  for (const ValueId id : outputs_) use(id);
  while (!work.empty()) {
    const NodeId id = work.back();
    work.pop_back();
    for (const ValueId input : nodes_[static_cast<std::size_t>(id)].inputs) use(input);
  }
  for (NodeId id = 0; id < node_limit(); ++id) {
    if (node_alive_[static_cast<std::size_t>(id)] && !needed[static_cast<std::size_t>(id)]) remove_node(id);
  }
  for (ValueId id = 0; id < value_limit(); ++id) {
    const auto i = static_cast<std::size_t>(id);
    if (!value_alive_[i] || used[i] || !values_[i].constant) continue;
    value_names_.erase(values_[i].name);
    value_alive_[i] = false;
    values_[i] = Value{};
  }
}

void Graph::compact() {
  Graph result;
  result.name = name;
  result.scope = scope;
  result.symbol_bounds = symbol_bounds;
  std::vector<ValueId> renumbered(values_.size(), kNoValue);
  for (const ValueId id : inputs_) {
    renumbered[static_cast<std::size_t>(id)] = result.add_input(value(id).name, value(id).type);
    result.values_.back().integers = value(id).integers;
  }
  for (ValueId id = 0; id < value_limit(); ++id) {
    const auto i = static_cast<std::size_t>(id);
    if (value_alive_[i] && values_[i].constant) {
      renumbered[i] = result.add_constant(values_[i].name, std::move(*values_[i].constant));
    }
  }
  for (const NodeId id : order()) {
    Node moved = std::move(nodes_[static_cast<std::size_t>(id)]);
    const auto new_id = static_cast<NodeId>(result.nodes_.size());
    for (ValueId& input : moved.inputs) {
      if (input != kNoValue) input = renumbered[static_cast<std::size_t>(input)];
    }
    for (ValueId& output : moved.outputs) {
      if (output == kNoValue) continue;
      Value value = std::move(values_[static_cast<std::size_t>(output)]);
      value.producer = new_id;
      renumbered[static_cast<std::size_t>(output)] = result.add_value(std::move(value));
      output = renumbered[static_cast<std::size_t>(output)];
    }
    result.node_names_.emplace(moved.name, new_id);
    result.nodes_.push_back(std::move(moved));
    result.node_alive_.push_back(true);
  }
  for (const ValueId id : outputs_) result.outputs_.push_back(renumbered[static_cast<std::size_t>(id)]);
  result.output_names_ = output_names_;
  *this = std::move(result);
}

void Graph::verify() const {
  std::set<std::string_view> names;
  for (ValueId id = 0; id < value_limit(); ++id) {
    if (!is_alive_value(id)) continue;
    const Value& checked = values_[static_cast<std::size_t>(id)];
    ensure(names.insert(checked.name).second, "graph '{}': two values are called '{}'", name, checked.name);
    ensure(checked.type.dtype != DType::undefined, "graph '{}': value '{}' has no type", name, checked.name);
    if (checked.constant) {
      ensure(checked.constant->type() == checked.type, "graph '{}': constant '{}' of type {} has a tensor of type {}",
             name, checked.name, to_string(checked.type), to_string(checked.constant->type()));
    }
    if (checked.producer != kNoNode) {
      ensure(is_alive_node(checked.producer), "graph '{}': value '{}' is computed by a node that is gone", name,
             checked.name);
      const Node& from = nodes_[static_cast<std::size_t>(checked.producer)];
      ensure(checked.output_index < static_cast<int>(from.outputs.size()) &&
                 from.outputs[static_cast<std::size_t>(checked.output_index)] == id,
             "graph '{}': value '{}' is not output {} of {}", name, checked.name, checked.output_index, describe(from));
    }
  }
  for (const ValueId id : outputs_) ensure(is_alive_value(id), "graph '{}': an output is gone", name);
  for (NodeId id = 0; id < node_limit(); ++id) {
    if (!is_alive_node(id)) continue;
    const Node& checked = nodes_[static_cast<std::size_t>(id)];
    for (const ValueId input : checked.inputs) {
      ensure(input == kNoValue || is_alive_value(input), "graph '{}': {} reads a value that is gone", name,
             describe(checked));
    }
  }
  for (const NodeId id : order()) {
    const Node& checked = nodes_[static_cast<std::size_t>(id)];
    const InferredTypes inferred = infer_node(*this, checked);
    for (std::size_t i = 0; i < checked.outputs.size(); ++i) {
      if (checked.outputs[i] == kNoValue) continue;
      const TensorType& type = values_[static_cast<std::size_t>(checked.outputs[i])].type;
      ensure(type == inferred.types[i], "graph '{}': output {} of {} has type {}, but inference gives {}", name, i,
             describe(checked), to_string(type), to_string(inferred.types[i]));
    }
    for (const Graph& block : checked.blocks) block.verify();
  }
}

}  // namespace tenfold
