// Runs an epilogue's program over a rectangle of results that has just been written.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/gemm.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// Rows [row_begin, row_end) x columns [column_begin, column_end) of the whole result; `c` is the rectangle's first
/// element.
void run_finish_program(const FinishArgs& finish, float* c, std::int64_t c_stride, std::int64_t row_begin,
                        std::int64_t row_end, std::int64_t column_begin, std::int64_t column_end);

}  // namespace tenfold::cpu::TENFOLD_TIER
