// A graph as a rewrite sees it: read-only, with an index of who reads what, so that asking is cheap.
#pragma once

#include <span>
#include <vector>

#include "graph/graph.hpp"
#include "graph/patch.hpp"

namespace tenfold {

class GraphView {
 public:
  /// `graph` must outlive the view. Changes to it are told through `update` and `removed`.
  explicit GraphView(const Graph& graph);

  operator const Graph&() const { return *graph_; }  // NOLINT(google-explicit-constructor): a view is a graph
  const Graph& graph() const { return *graph_; }
  const Value& value(ValueId id) const { return graph_->value(id); }
  const TensorType& type(ValueId id) const { return graph_->value(id).type; }
  const Tensor* constant(ValueId id) const { return graph_->constant(id); }
  const Node* producer(ValueId id) const { return graph_->producer(id); }

  /// Nodes that read `value`; one that reads it twice is listed twice.
  std::span<const NodeId> readers(ValueId value) const;
  /// Reads by nodes, plus how often it is an output of the graph.
  int num_uses(ValueId value) const;
  /// Is `value` read exactly once, by a node?
  bool has_single_use(ValueId value) const { return num_uses(value) == 1 && readers(value).size() == 1; }
  /// The node that alone reads `value` (once), or nullptr.
  const Node* only_reader(ValueId value) const;
  bool is_output(ValueId value) const;

  /// After a patch was applied to the graph.
  void update(const AppliedPatch& applied);
  /// Before a node is removed from the graph.
  void removed(const Node& node, NodeId id);

 private:
  void grow();
  const Graph* graph_;
  std::vector<std::vector<NodeId>> readers_;
  std::vector<int> output_uses_;
};

}  // namespace tenfold
