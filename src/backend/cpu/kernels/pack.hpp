// Copies matrices into the order that kernels read them in.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/simd.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// One panel [depth][width] out of b[depth][count] with rows `stride` apart; columns from `count` on become zeros.
/// `width` is a multiple of the vector width, width - count less than one vector.
void pack_straight(const float* b, std::int64_t stride, std::int64_t depth, std::int64_t count, std::int64_t width,
                   float* panel);
/// The same out of the transposed b[count][depth].
void pack_transposed(const float* b, std::int64_t stride, std::int64_t depth, std::int64_t count, std::int64_t width,
                     float* panel);
/// out[count][rows] = a[rows][count], rows of `a` `stride` apart.
void transpose(const float* a, std::int64_t stride, std::int64_t rows, std::int64_t count, float* out);
/// The same with rows of `out` `out_stride` apart.
void transpose_into(const float* a, std::int64_t stride, std::int64_t rows, std::int64_t count, float* out,
                    std::int64_t out_stride);

}  // namespace tenfold::cpu::TENFOLD_TIER
