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
  /// Not 0: so many equal shares, a thread's each, whose parts grow smaller towards their end, as 3 : 2 : 1. What a
  /// thread waits for at the end is the part that a slower one has begun, so that one should be small.
  std::int64_t shares = 0;

  std::int64_t begin(std::int64_t part) const {
    const std::int64_t grains = ceil_div(count, grain);
    if (shares == 0) return min(count, grains * part / parts * grain);
    const std::int64_t of_share = parts / shares, share = part / of_share, i = part % of_share;
    const std::int64_t whole = of_share * (of_share + 1);
    return min(count, grains * (share * whole + i * (2 * of_share - i + 1)) / (shares * whole) * grain);
  }
  /// The size of the largest part.
  std::int64_t largest() const {
    std::int64_t size = 0;
    for (std::int64_t part = 0; part < parts; ++part) size = max(size, begin(part + 1) - begin(part));
    return size;
  }
};
/// The shares of a cut into `parts` of each of `others` equal things; 0 if threads do not get whole ones.
inline std::int64_t shares_of(std::int64_t threads, std::int64_t others, std::int64_t parts) {
  if (threads == 1 || others > threads || threads % others != 0) return 0;
  const std::int64_t shares = threads / others;
  return parts % shares == 0 ? shares : 0;
}

}  // namespace tenfold::cpu::TENFOLD_TIER
