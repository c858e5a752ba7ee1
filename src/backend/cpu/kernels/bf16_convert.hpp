// float32 to bfloat16, by the processor's instruction.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/simd.hpp"
#include "backend/cpu/kernels/split.hpp"

#if defined(__AVX512F__)

namespace tenfold::cpu::TENFOLD_TIER {

/// Rounded to nearest even. Requires has_bf16_dot(); as text, because the tier must be compiled for processors without.
inline __m256i to_bf16(Vec x) {
  __m256i result;
  asm("vcvtneps2bf16 %1, %0" : "=v"(result) : "v"(x.v));
  return result;
}

}  // namespace tenfold::cpu::TENFOLD_TIER

#endif
