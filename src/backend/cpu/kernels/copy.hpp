// Copies of rectangles: rows that stay rows, and transpositions, for elements of 1, 2, 4 and 8 bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/tier.hpp"

namespace tenfold::cpu {

struct CopyKernels {
  /// `rows` runs of `row_bytes` bytes; strides in bytes. Source and target do not overlap.
  void (*rows)(const std::byte* in, std::int64_t in_stride, std::byte* out, std::int64_t out_stride, std::int64_t rows,
               std::int64_t row_bytes);
  /// out[c * out_stride + r] = in[r * in_stride + c] for r < rows, c < cols; strides in elements of `element_bytes`.
  /// Writes only those elements, and reads only them.
  void (*transpose)(const std::byte* in, std::int64_t in_stride, std::byte* out, std::int64_t out_stride,
                    std::int64_t rows, std::int64_t cols, int element_bytes);
};
TENFOLD_TIER_TABLE(CopyKernels, kCopyKernels)

}  // namespace tenfold::cpu
