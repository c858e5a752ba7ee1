// The reference interpreter: runs a graph with the plain references, one node after the other, on the host.
// It defines what every engine must answer, folds constants, and is what `tenfold compare` compares with.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "graph/graph.hpp"

namespace tenfold {

struct InterpretOptions {
  /// Called after each top-level node with its outputs, in order; return false to stop early.
  std::function<bool(const Node& node, std::span<const Tensor> outputs)> on_node;
  /// Called after on_node; may put other tensors of the same types in their place, which later nodes then read.
  /// That is how an engine's step is judged by itself, on the inputs that it really had.
  std::function<void(const Node& node, std::span<Tensor> outputs)> substitute;
  /// Throws Error(out_of_memory) before a tensor larger than this is made.
  std::int64_t max_tensor_bytes = std::int64_t{1} << 36;
  /// Loops stop with Error(invalid_model) after this many iterations in total.
  std::int64_t max_iterations = 10'000'000;
};
/// One tensor per graph input, of its dtype and a shape that fits. Values no longer needed are freed on the way.
std::vector<Tensor> interpret(const Graph& graph, std::span<const Tensor> inputs, const InterpretOptions& options = {});
/// One node alone (without blocks' captured state: blocks are run too). Used by constant folding and kernel tests.
std::vector<Tensor> evaluate_node(const Node& node, std::span<const Tensor* const> inputs,
                                  std::span<const TensorType> output_types, const InterpretOptions& options = {});

}  // namespace tenfold
