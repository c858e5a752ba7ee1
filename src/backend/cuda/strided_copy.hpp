// Copies of elements between two places with any strides: what Transpose, Concat, Slice and their like launch.
#pragma once

#include "backend/cuda/cuda_tactic.hpp"
#include "backend/cuda/loop_nest.hpp"
#include "backend/movements.hpp"

namespace tenfold::cuda {

/// The module of all copies of elements of this size (1, 2, 4 or 8 bytes).
Source strided_copy_source(std::size_t element_bytes);

class StridedCopy {
 public:
  StridedCopy(std::size_t element_bytes, const LoadedModule& module);

  /// From the address `from` to `to`.
  void run(const CopyAxes& axes, const void* from, void* to, CudaStream& stream) const;

 private:
  bool run_transposed(const LoopNest& nest, CudaStream& stream) const;
  bool run_interleaved(const LoopNest& nest, CudaStream& stream) const;

  std::size_t element_bytes_;
  int vector_;
  Function vectors_, elements_, wide_tiles_, tiles_;
  std::array<Function, 3> interleave_;  ///< of 2, 3 and 4 planes
};

}  // namespace tenfold::cuda
