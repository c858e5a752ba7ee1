// The processor's peak: what a core does when it does nothing but multiply and add in registers.
#pragma once

#include <cstdint>

#include "backend/cpu/tier.hpp"

namespace tenfold::cpu {

struct PeakKernels {
  /// Runs `rounds` rounds of independent fused multiply-adds; returns how many floating-point operations that were
  /// (a multiply-add counts as 2).
  std::int64_t (*multiply_add)(std::int64_t rounds);
};
TENFOLD_TIER_TABLE(PeakKernels, kPeakKernels)

}  // namespace tenfold::cpu
