// Maximum and average under a window, over up to three spatial axes (missing ones have size 1).
#pragma once

#include <cstdint>

#include "backend/cpu/tier.hpp"

namespace tenfold::cpu {

struct PoolShape {
  std::int64_t in[3], out[3], kernel[3], stride[3], dilation[3];
  std::int64_t pad_begin[3], pad_end[3];
  bool average;      ///< else the maximum
  bool include_pad;  ///< of an average: positions inside the padding count
};

struct PoolKernels {
  /// One image [spatial, channels]; pixels are x_pitch and y_pitch floats apart. Computes rows [row_begin, row_end) of
  /// the output's out[0] * out[1] rows.
  void (*nhwc)(const PoolShape& shape, const float* x, std::int64_t x_pitch, float* y, std::int64_t y_pitch,
               std::int64_t channels, std::int64_t row_begin, std::int64_t row_end);
  /// The same for the maximum of bfloat16 numbers.
  void (*nhwc_bf16)(const PoolShape& shape, const std::uint16_t* x, std::int64_t x_pitch, std::uint16_t* y,
                    std::int64_t y_pitch, std::int64_t channels, std::int64_t row_begin, std::int64_t row_end);
  /// The same for the maximum of bytes.
  void (*nhwc_bytes)(const PoolShape& shape, bool is_signed, const std::uint8_t* x, std::int64_t x_pitch,
                     std::uint8_t* y, std::int64_t y_pitch, std::int64_t channels, std::int64_t row_begin,
                     std::int64_t row_end);
  /// One plane [spatial]. Requires (kernel[2] - 1) * dilation[2] < kMaxPoolReach.
  void (*plane)(const PoolShape& shape, const float* x, float* y);
};
TENFOLD_TIER_TABLE(PoolKernels, kPoolKernels)

inline constexpr std::int64_t kMaxPoolReach = 2048;

}  // namespace tenfold::cpu
