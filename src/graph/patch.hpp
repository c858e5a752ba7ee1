// A patch: the change that a rewrite proposes. It refers to the graph but does not touch it; the driver applies it.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "graph/graph.hpp"

namespace tenfold {

/// What applying a patch did.
struct AppliedPatch {
  std::vector<NodeId> added;
  std::vector<std::pair<ValueId, ValueId>> replaced;  ///< old value, the value now in its place
  std::vector<ValueId> retyped;                       ///< values in the place of others of another, fitting type
};

class Patch {
 public:
  /// New nodes inherit the origins of `root`, and of every other node given to `absorb`.
  Patch(const Graph& graph, const Node& root);

  Patch& absorb(const Node& node);
  /// A provisional id for the constant, usable in `add` and `replace`.
  ValueId constant(std::string name, Tensor tensor);
  /// A new node; returns the provisional id of its first output. Further outputs follow consecutively.
  ValueId add(OpPtr op, std::vector<ValueId> inputs, int num_outputs = 1, std::string name = {},
              std::vector<Graph> blocks = {});
  /// All readers of `old` read `replacement` (an existing value or a provisional one) instead.
  /// dtype, rank and provable dims must agree, or applying fails.
  Patch& replace(ValueId old, ValueId replacement);

  /// Applies: adds, infers the new types, checks and redirects. Dead nodes are left for Graph::remove_dead.
  /// Throws Error(internal) if a replacement's type does not fit.
  /// Returns the ids of new nodes.
  std::vector<NodeId> apply(Graph& graph) const;
  /// The same, but the types behind `retyped` values are left as they were; for callers that apply many patches and
  /// then call Graph::infer_downstream once.
  AppliedPatch apply_deferred(Graph& graph) const;

 private:
  struct NewNode {
    OpPtr op;
    std::vector<ValueId> inputs;
    std::vector<ValueId> outputs;
    std::string name;
    std::vector<Graph> blocks;
  };
  ValueId next_;
  std::string root_name_;
  std::vector<std::string> origins_;
  std::vector<std::pair<ValueId, std::pair<std::string, Tensor>>> constants_;
  std::vector<NewNode> nodes_;
  std::vector<std::pair<ValueId, ValueId>> replacements_;
};

}  // namespace tenfold
