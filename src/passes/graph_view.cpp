#include "passes/graph_view.hpp"

#include <algorithm>

namespace tenfold {

GraphView::GraphView(const Graph& graph) : graph_(&graph), readers_(graph.readers()) {
  grow();
  for (const ValueId id : graph.outputs()) ++output_uses_[static_cast<std::size_t>(id)];
}

void GraphView::grow() {
  readers_.resize(static_cast<std::size_t>(graph_->value_limit()));
  output_uses_.resize(static_cast<std::size_t>(graph_->value_limit()), 0);
}

std::span<const NodeId> GraphView::readers(ValueId value) const { return readers_[static_cast<std::size_t>(value)]; }

int GraphView::num_uses(ValueId value) const {
  const auto i = static_cast<std::size_t>(value);
  return static_cast<int>(readers_[i].size()) + output_uses_[i];
}

const Node* GraphView::only_reader(ValueId value) const {
  return has_single_use(value) ? &graph_->node(readers(value)[0]) : nullptr;
}

bool GraphView::is_output(ValueId value) const { return output_uses_[static_cast<std::size_t>(value)] > 0; }

void GraphView::update(const AppliedPatch& applied) {
  grow();
  for (const auto& [old, now] : applied.replaced) {
    if (old == now) continue;
    auto& from = readers_[static_cast<std::size_t>(old)];
    auto& to = readers_[static_cast<std::size_t>(now)];
    to.insert(to.end(), from.begin(), from.end());
    from.clear();
    output_uses_[static_cast<std::size_t>(now)] += std::exchange(output_uses_[static_cast<std::size_t>(old)], 0);
  }
  for (const NodeId id : applied.added) {
    for (const ValueId input : graph_->node(id).inputs) {
      if (input != kNoValue) readers_[static_cast<std::size_t>(input)].push_back(id);
    }
  }
}

void GraphView::removed(const Node& node, NodeId id) {
  for (const ValueId input : node.inputs) {
    if (input != kNoValue) std::erase(readers_[static_cast<std::size_t>(input)], id);
  }
}

}  // namespace tenfold
