// Runs a compiled pointwise program over a rectangle of floats: by its machine code, or interpreted, where each step is
// one loop over a block that stays in L1. Both give the same bits.
#pragma once

#include <cstdint>

#include "backend/cpu/compiled_pointwise.hpp"
#include "backend/cpu/tier.hpp"

namespace tenfold::cpu {

/// One input of a program over `rows` x `cols` results: element (r, c) is data[r * row_stride + c * col_stride].
struct PointwiseOperand {
  const float* data = nullptr;
  std::int64_t row_stride = 0;  ///< elements; 0 repeats one row
  std::int64_t col_stride = 1;  ///< 1, or 0: one number a row
};

struct PointwiseKernels {
  /// out[r * out_row_stride + c] = program(inputs...)[r, c]. An input may be `out` itself, with the same stride: this
  /// is how an epilogue runs over the tile that an anchor has just written. Never allocates.
  void (*run)(const CompiledPointwise& program, const PointwiseOperand* inputs, float* out, std::int64_t out_row_stride,
              std::int64_t rows, std::int64_t cols);
};
TENFOLD_TIER_TABLE(PointwiseKernels, kPointwiseKernels)

}  // namespace tenfold::cpu

#ifdef TENFOLD_TIER
namespace tenfold::cpu::TENFOLD_TIER {

/// PointwiseKernels::run, for other kernels of the tier.
void run_pointwise(const CompiledPointwise& program, const PointwiseOperand* inputs, float* out,
                   std::int64_t out_row_stride, std::int64_t rows, std::int64_t cols);

}  // namespace tenfold::cpu::TENFOLD_TIER
#endif
