// Integer helpers for cutting work into parts.
#pragma once

#include <cstdint>

#include "backend/cpu/tier.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
inline std::int64_t min(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
inline std::int64_t max(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

/// Cuts [0, count) into `parts` nearly equal ranges of whole `grain`s; the last one takes what is left.
struct Cut {
  std::int64_t count, grain, parts;
  std::int64_t begin(std::int64_t part) const { return min(count, ceil_div(count, grain) * part / parts * grain); }
};

}  // namespace tenfold::cpu::TENFOLD_TIER
