// Folds along rows and down columns.
#pragma once

#include <cstdint>

#include "backend/cpu/tier.hpp"

namespace tenfold::cpu {

/// What is folded: sum of x, |x|, x^2 or e^(x - offset); largest, smallest, product.
enum class Fold : std::uint8_t { sum = 0, sum_abs = 1, sum_square = 2, max = 3, min = 4, product = 5, sum_exp = 6 };

struct ReduceKernels {
  /// acc[r] = acc[r] folded with the `length` floats of row r. `offset`: one a row, for sum_exp only.
  void (*rows)(Fold fold, const float* x, std::int64_t row_stride, std::int64_t rows, std::int64_t length, float* acc,
               const float* offset);
  /// acc[c] = acc[c] folded with the `length` floats of column c, `stride` floats apart. `offset`: one a column.
  void (*columns)(Fold fold, const float* x, std::int64_t length, std::int64_t stride, std::int64_t cols, float* acc,
                  const float* offset);
  /// index[r] = position of the largest (smallest) of the `length` floats of row r, the first of equal ones or the
  /// last.
  void (*arg_rows)(const float* x, std::int64_t row_stride, std::int64_t rows, std::int64_t length, bool largest,
                   bool last, std::int64_t* index);
  void (*arg_columns)(const float* x, std::int64_t length, std::int64_t stride, std::int64_t cols, bool largest,
                      bool last, std::int64_t* index);
};
TENFOLD_TIER_TABLE(ReduceKernels, kReduceKernels)

}  // namespace tenfold::cpu
