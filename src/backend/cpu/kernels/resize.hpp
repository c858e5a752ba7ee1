// Resampling along two neighbouring axes, one output row at a time.
#pragma once

#include <cstdint>

#include "backend/cpu/tier.hpp"

namespace tenfold::cpu {

/// Weighted sums along an axis: output i = sum over t of weight[i * taps + t] * input[index[i * taps + t]].
struct ResizeTable {
  int taps = 1;
  const std::int32_t* index = nullptr;
  const float* weight = nullptr;  ///< null: taps is 1 and weights are 1
};

struct ResizeKernels {
  /// to[i] = sum over t of weight[t] * from[index[t] * stride + i] for i < length.
  void (*blend_rows)(const float* from, std::int64_t stride, const std::int32_t* index, const float* weight, int taps,
                     float* to, std::int64_t length);
  /// to[x * inner + c] = sum over t of weight * from[index * inner + c] for the table's entries of x, x < cols, c <
  /// inner.
  void (*blend_columns)(const float* from, const ResizeTable& table, std::int64_t cols, std::int64_t inner, float* to);
  /// The same for a table without weights and numbers of two bytes.
  void (*copy_halves)(const std::uint16_t* from, const ResizeTable& table, std::int64_t cols, std::int64_t inner,
                      std::uint16_t* to);
};
TENFOLD_TIER_TABLE(ResizeKernels, kResizeKernels)

}  // namespace tenfold::cpu
