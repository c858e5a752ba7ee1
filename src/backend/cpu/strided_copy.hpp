// The one loop nest behind Transpose, Slice, Concat, Expand and their like: every output element comes from one input
// element, and both are found by strides.
//
//   out[sum_i index_i * out_stride_i] = in[sum_i index_i * in_stride_i]   for every index inside dims
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "base/thread_pool.hpp"
#include "graph/tensor.hpp"

namespace tenfold::cpu {

/// Collects axes from the outermost to the innermost; then runs. Fixed size: nothing is allocated.
class StridedCopy {
 public:
  static constexpr int kMaxAxes = 2 * kMaxRank;

  explicit StridedCopy(std::size_t element_bytes) : element_bytes_(static_cast<std::int64_t>(element_bytes)) {}
  /// Strides in elements; `in_stride` may be 0 (the element is repeated) or negative.
  void add_axis(std::int64_t size, std::int64_t in_stride, std::int64_t out_stride);
  /// Pointers to the elements at index 0. Source and target do not overlap.
  void run(const void* in, void* out, ThreadPool& pool) const;

 private:
  struct Axis {
    std::int64_t size, in, out;
  };
  std::array<Axis, kMaxAxes> axes_;
  int rank_ = 0;
  bool is_empty_ = false;
  std::int64_t element_bytes_;
};

}  // namespace tenfold::cpu
