// Tensors as numbers, for the references: they compute in double whatever the element type is.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "graph/tensor.hpp"

namespace tenfold {

/// All elements of a contiguous tensor of any numeric type, row-major. 64-bit integers beyond 2^53 lose digits.
std::vector<double> load_doubles(const TensorView& view);
std::vector<std::int64_t> load_int64(const TensorView& view);
/// Rounds to the view's element type: floats to nearest, integers to nearest even, saturating.
void store_doubles(std::span<const double> values, const TensorView& view);
/// Nearest integer, ties to even, limited to the range of the integer type `dtype`. NaN gives 0.
std::int64_t saturate(double value, DType dtype);
/// Smallest and largest value of an integer type of at most 32 bits.
std::int64_t lowest_of(DType dtype);
std::int64_t highest_of(DType dtype);

/// Row-major strides, in elements.
Shape strides_of(std::span<const std::int64_t> dims);
/// Strides that read a tensor of shape `from` as if it had been broadcast to `to`: 0 along repeated axes.
Shape broadcast_strides(std::span<const std::int64_t> from, std::span<const std::int64_t> to);

/// Calls f(offsets) for each index of `dims` in row-major order, where offsets[i] is the inner product of the index
/// with strides[i].
template <typename F>
void for_each_index(std::span<const std::int64_t> dims, std::span<const Shape> strides, F&& f) {
  std::int64_t count = 1;
  for (const std::int64_t d : dims) count *= d;
  if (count == 0) return;
  const std::size_t rank = dims.size();
  Shape index(rank, 0);
  Shape offsets(strides.size(), 0);
  for (;;) {
    f(std::span<const std::int64_t>(offsets));
    std::size_t axis = rank;
    for (;;) {
      if (axis == 0) return;
      --axis;
      if (++index[axis] < dims[axis]) {
        for (std::size_t i = 0; i < strides.size(); ++i) offsets[i] += strides[i][axis];
        break;
      }
      for (std::size_t i = 0; i < strides.size(); ++i) offsets[i] -= strides[i][axis] * (dims[axis] - 1);
      index[axis] = 0;
    }
  }
}

}  // namespace tenfold
