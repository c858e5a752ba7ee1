// Where each intermediate tensor lives in one arena.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tenfold {

/// A buffer that is needed from step `first` to step `last`, inclusive.
struct Lifetime {
  std::int32_t first = 0;
  std::int32_t last = 0;
  std::uint64_t bytes = 0;
};

/// Offsets so that buffers alive at the same step never overlap; multiples of `alignment`. Buffers of 0 bytes get 0.
/// Greedy by size, largest first (Pisarchyk and Lee 2020, arXiv:2001.03288). Not optimal: the problem is NP-hard.
/// Throws Error(internal) if first > last. Deterministic.
std::vector<std::uint64_t> plan_offsets(std::span<const Lifetime> lifetimes, std::uint64_t alignment);

/// The arena's size for these offsets.
std::uint64_t arena_size(std::span<const Lifetime> lifetimes, std::span<const std::uint64_t> offsets,
                         std::uint64_t alignment);

}  // namespace tenfold
