// Softmax and the normalizations: statistics along rows or down columns, then one pass that applies them.
#pragma once

#include <cstdint>

#include "backend/cpu/tier.hpp"

namespace tenfold::cpu {

struct NormalizeKernels {
  /// Each row by itself: y = e^(x - max) / sum, or x - max - log(sum). Strides in floats. y may be x.
  void (*softmax_rows)(const float* x, std::int64_t x_stride, float* y, std::int64_t y_stride, std::int64_t rows,
                       std::int64_t length, bool logarithm);
  /// The same down the columns [0, cols) of `length` rows that are `stride` floats apart.
  void (*softmax_columns)(const float* x, float* y, std::int64_t length, std::int64_t stride, std::int64_t cols,
                          bool logarithm);
  /// y = (x - mean) / sqrt(variance + epsilon) * scale + bias for each row; bias may be null. With `centered` false the
  /// mean counts as 0 (RMS normalization). mean and inverse_deviation, one number a row, may be null.
  void (*normalize_rows)(const float* x, std::int64_t x_stride, float* y, std::int64_t y_stride, std::int64_t rows,
                         std::int64_t length, const float* scale, const float* bias, float epsilon, bool centered,
                         float* mean, float* inverse_deviation);
  /// Mean and variance of `length` consecutive floats.
  void (*moments)(const float* x, std::int64_t length, float* mean, float* variance);
  /// Mean and variance of every column of `length` rows that are `stride` floats apart.
  void (*column_moments)(const float* x, std::int64_t length, std::int64_t stride, std::int64_t cols, float* mean,
                         float* variance);
  /// y = x * factor + summand; factor and summand are one number (`per_column` false) or one a column.
  void (*scale_rows)(const float* x, float* y, std::int64_t rows, std::int64_t stride, std::int64_t cols,
                     const float* factor, const float* summand, bool per_column);
};
TENFOLD_TIER_TABLE(NormalizeKernels, kNormalizeKernels)

}  // namespace tenfold::cpu
