// Copies of elements between two places with any strides: what Transpose, Concat, Slice and their like launch.
#pragma once

#include "backend/cuda/cuda_tactic.hpp"
#include "backend/cuda/loop_nest.hpp"

namespace tenfold::cuda {

/// The module of all copies of elements of this size (1, 2, 4 or 8 bytes).
Source strided_copy_source(std::size_t element_bytes);

class StridedCopy {
 public:
  StridedCopy(std::size_t element_bytes, const LoadedModule& module);

  /// The axes of one copy, in the order of the output's memory, outermost first. Strides in elements.
  struct Axes {
    int rank = 0;
    std::array<std::int64_t, kMaxNestAxes> dims{}, from{}, to{};
    void add(std::int64_t size, std::int64_t from_stride, std::int64_t to_stride) {
      const auto a = static_cast<std::size_t>(rank++);
      dims[a] = size;
      from[a] = from_stride;
      to[a] = to_stride;
    }
  };
  void run(const Axes& axes, const void* from, void* to, CudaStream& stream) const;

 private:
  bool run_transposed(const LoopNest& nest, CudaStream& stream) const;
  bool run_interleaved(const LoopNest& nest, CudaStream& stream) const;

  std::size_t element_bytes_;
  int vector_;
  Function vectors_, elements_, wide_tiles_, tiles_;
  std::array<Function, 3> interleave_;  ///< of 2, 3 and 4 planes
};

/// `element` elements behind the view's first.
inline void* element_at(const TensorView& view, std::int64_t element) {
  return view.as<std::byte>() + element * static_cast<std::int64_t>(size_of(view.dtype));
}

}  // namespace tenfold::cuda
