// The loop nest of an elementwise kernel: axes of the output with each operand's stride, merged where possible.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <utility>

#include "graph/tensor.hpp"

namespace tenfold::cpu {

/// Up to kMaxOperands operands, the output among them. Fixed size, so that building one at run time allocates nothing.
template <int kMaxOperands>
struct LoopNest {
  int rank = 0;  ///< at least 1; a scalar is one axis of size 1
  std::array<std::int64_t, kMaxRank> dims{};
  /// strides[operand][axis], in elements; 0 where the operand is repeated.
  std::array<std::array<std::int64_t, kMaxRank>, kMaxOperands> strides{};

  std::int64_t num_elements() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= dims[static_cast<std::size_t>(i)];
    return n;
  }
  /// Is the operand walked through without gaps or repetition?
  bool is_dense(int operand) const {
    std::int64_t expected = 1;
    for (int i = rank - 1; i >= 0; --i) {
      const auto axis = static_cast<std::size_t>(i);
      if (dims[axis] != 1 && strides[static_cast<std::size_t>(operand)][axis] != expected) return false;
      expected *= dims[axis];
    }
    return true;
  }
  bool is_scalar(int operand) const {
    for (int i = 0; i < rank; ++i) {
      if (strides[static_cast<std::size_t>(operand)][static_cast<std::size_t>(i)] != 0) return false;
    }
    return true;
  }
};

/// Every operand must broadcast to `dims` (aligned at the last axis). Axes of size 1 vanish, and neighbours that all
/// operands walk through as one become one. Only the last axis of an operand may have a pitch.
template <int kMaxOperands>
LoopNest<kMaxOperands> make_loop_nest(std::span<const std::int64_t> dims, std::span<const TensorView> operands) {
  LoopNest<kMaxOperands> nest;
  const auto count = operands.size();
  // Contiguous strides of each operand, advanced from the last axis to the first.
  std::array<std::int64_t, kMaxOperands> next;
  next.fill(1);
  // Built backwards: axis 0 is the innermost until the end.
  for (std::size_t back = 0; back < dims.size(); ++back) {
    const std::int64_t size = dims[dims.size() - 1 - back];
    std::array<std::int64_t, kMaxOperands> stride{};
    for (std::size_t i = 0; i < count; ++i) {
      const TensorView& view = operands[i];
      if (back >= view.dims.size()) continue;
      const std::int64_t own = view.dims[view.dims.size() - 1 - back];
      stride[i] = own == 1 ? 0 : next[i];
      next[i] = back == 0 ? view.pitch : next[i] * own;
    }
    if (size == 1) continue;
    if (nest.rank > 0) {
      const auto inner = static_cast<std::size_t>(nest.rank - 1);
      bool merges = true;
      for (std::size_t i = 0; i < count && merges; ++i) {
        merges = stride[i] == nest.strides[i][inner] * nest.dims[inner];
      }
      if (merges) {
        nest.dims[inner] *= size;
        continue;
      }
    }
    const auto axis = static_cast<std::size_t>(nest.rank++);
    nest.dims[axis] = size;
    for (std::size_t i = 0; i < count; ++i) nest.strides[i][axis] = stride[i];
  }
  if (nest.rank == 0) {
    nest.rank = 1;
    nest.dims[0] = 1;
    return nest;
  }
  for (int low = 0, high = nest.rank - 1; low < high; ++low, --high) {
    const auto a = static_cast<std::size_t>(low), b = static_cast<std::size_t>(high);
    std::swap(nest.dims[a], nest.dims[b]);
    for (std::size_t i = 0; i < count; ++i) std::swap(nest.strides[i][a], nest.strides[i][b]);
  }
  return nest;
}

}  // namespace tenfold::cpu
