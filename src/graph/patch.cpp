#include "graph/patch.hpp"

#include <algorithm>
#include <map>

namespace tenfold {

Patch::Patch(const Graph& graph, const Node& root)
    : next_(graph.value_limit()), root_name_(root.name), origins_(root.origins) {}

Patch& Patch::absorb(const Node& node) {
  origins_.insert(origins_.end(), node.origins.begin(), node.origins.end());
  return *this;
}

ValueId Patch::constant(std::string name, Tensor tensor) {
  constants_.emplace_back(next_, std::make_pair(std::move(name), std::move(tensor)));
  return next_++;
}

ValueId Patch::add(OpPtr op, std::vector<ValueId> inputs, int num_outputs, std::string name,
                   std::vector<Graph> blocks) {
  NewNode node{std::move(op), std::move(inputs), {}, name.empty() ? root_name_ : std::move(name), std::move(blocks)};
  const ValueId first = next_;
  for (int i = 0; i < num_outputs; ++i) node.outputs.push_back(next_++);
  nodes_.push_back(std::move(node));
  return first;
}

Patch& Patch::replace(ValueId old, ValueId replacement) {
  replacements_.emplace_back(old, replacement);
  return *this;
}

std::vector<NodeId> Patch::apply(Graph& graph) const {
  AppliedPatch applied = apply_deferred(graph);
  graph.infer_downstream(applied.retyped);
  return std::move(applied.added);
}

AppliedPatch Patch::apply_deferred(Graph& graph) const {
  AppliedPatch applied;
  std::map<ValueId, ValueId> real;  // provisional id -> id in the graph
  const auto resolve = [&](ValueId id) {
    const auto found = real.find(id);
    return found == real.end() ? id : found->second;
  };
  for (const auto& [id, entry] : constants_) real[id] = graph.add_constant(entry.first, entry.second);
  for (const NewNode& node : nodes_) {
    std::vector<ValueId> inputs;
    inputs.reserve(node.inputs.size());
    for (const ValueId id : node.inputs) inputs.push_back(resolve(id));
    const NodeId id = graph.add_node(node.op, std::move(inputs), static_cast<int>(node.outputs.size()), node.name,
                                     origins_, node.blocks);
    graph.infer_types(id);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) real[node.outputs[i]] = graph.node(id).outputs[i];
    applied.added.push_back(id);
  }
  for (const auto& [old, provisional] : replacements_) {
    const ValueId replacement = resolve(provisional);
    const TensorType& before = graph.value(old).type;
    const TensorType& after = graph.value(replacement).type;
    bool fits = before.dtype == after.dtype && before.rank() == after.rank();
    for (int axis = 0; fits && axis < before.rank(); ++axis) {
      const Dim& a = before.dims[static_cast<std::size_t>(axis)];
      const Dim& b = after.dims[static_cast<std::size_t>(axis)];
      fits = !(a.is_constant() && b.is_constant()) || a == b;
    }
    ensure(fits, "value '{}' of type {} cannot be replaced by '{}' of type {}", graph.value(old).name,
           to_string(before), graph.value(replacement).name, to_string(after));
    if (before != after || graph.value(old).integers != graph.value(replacement).integers)
      applied.retyped.push_back(replacement);
    applied.replaced.emplace_back(old, replacement);
    graph.replace_uses(old, replacement);
  }
  return applied;
}

}  // namespace tenfold
