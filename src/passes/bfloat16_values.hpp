// Stores values between steps as bfloat16 where products round them to it anyway: arithmetic stays in float32.
#pragma once

#include <functional>
#include <vector>

#include "graph/graph.hpp"

namespace tenfold {

/// Has the target a kernel for the node, better than its reference, once its operands have these types?
using HasKernel = std::function<bool(const Node& node, const std::vector<TensorType>& inputs,
                                     const std::vector<TensorType>& outputs)>;

/// A float32 value becomes bfloat16 if whatever computes it and whatever reads it can do that, and a product is among
/// them; inputs and outputs of the graph keep their types. `has_kernel` is asked about single nodes of which every
/// operand that may become bfloat16 is; kernels of products take any mixture then. Returns how many values changed.
int store_as_bfloat16(Graph& graph, const HasKernel& has_kernel);

}  // namespace tenfold
