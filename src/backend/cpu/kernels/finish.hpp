// Runs an epilogue's program over a rectangle of results that has just been written.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/gemm.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// Rows [row_begin, row_end) x columns [column_begin, column_end) of the whole result; `c` is the rectangle's first
/// element. `widened`: where operands are bfloat16, [operand] the rectangle of each as floats, `widened_stride` from
/// row to row.
void run_finish_program(const FinishArgs& finish, float* c, std::int64_t c_stride, std::int64_t row_begin,
                        std::int64_t row_end, std::int64_t column_begin, std::int64_t column_end,
                        const float* const* widened = nullptr, std::int64_t widened_stride = 0);

}  // namespace tenfold::cpu::TENFOLD_TIER
