#include "backend/cpu/kernels/peak.hpp"

#include "backend/cpu/kernels/simd.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

/// Enough sums for two units with a latency of five cycles.
constexpr int kSums = 12;

std::int64_t multiply_add(std::int64_t rounds) {
  Vec sum[kSums];
  const Vec factor(0.5F);
  // Every loop over the sums must be unrolled, or gcc keeps them in memory.
#pragma GCC unroll 16
  for (int j = 0; j < kSums; ++j) sum[j] = Vec(1.0F);
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kSums; ++j) {
      Vec s = fma(sum[j], factor, factor);
      // The value is used in ways the compiler does not know, so nothing is removed or computed beforehand.
      __asm__ volatile("" : "+v"(s.v));
      sum[j] = s;
    }
  }
  return rounds * kSums * Vec::kWidth * 2;
}

}  // namespace

const PeakKernels kPeakKernels = {multiply_add};

}  // namespace tenfold::cpu::TENFOLD_TIER
