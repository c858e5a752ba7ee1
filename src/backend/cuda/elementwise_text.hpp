// The text of kernels that compute each element of their output from the elements of their operands at the same place.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "backend/cuda/cuda_tactic.hpp"
#include "graph/dtype.hpp"

namespace tenfold::cuda {

struct ElementwiseSpec {
  std::vector<DType> operands;  ///< x0, x1 ... in the body
  DType output = DType::undefined;
  /// Statements that define `y`, of the output's type in the text, from `x0`, `x1` ...
  std::string body;
  std::string_view helpers;  ///< functions that the body calls
};
/// Elements that one thread moves in entry "vectors".
int elementwise_vector(const ElementwiseSpec& spec);
/// Entries "vectors" and "elements"; the argument of both is a LoopNest of the operands, then the output.
Source elementwise_source(const ElementwiseSpec& spec);

}  // namespace tenfold::cuda
