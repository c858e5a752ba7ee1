// Einstein summation as two loop nests: over the result, and over what is summed.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "graph/tensor.hpp"

namespace tenfold {

/// The result is the sum over `inner` of the product of all operands; strides are in elements, one list for each
/// operand.
struct EinsumLoops {
  Shape outer, inner;
  std::vector<Shape> outer_strides, inner_strides;
};
/// Throws Error(invalid_model) if the equation does not fit operands of these dims.
EinsumLoops einsum_loops(const std::string& equation, const std::vector<Shape>& dims);

}  // namespace tenfold
