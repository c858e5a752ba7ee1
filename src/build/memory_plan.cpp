#include "build/memory_plan.hpp"

#include <algorithm>
#include <numeric>

#include "base/error.hpp"

namespace tenfold {
namespace {

std::uint64_t align(std::uint64_t bytes, std::uint64_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

}  // namespace

std::vector<std::uint64_t> plan_offsets(std::span<const Lifetime> lifetimes, std::uint64_t alignment) {
  std::vector<std::size_t> by_size(lifetimes.size());
  std::iota(by_size.begin(), by_size.end(), std::size_t{0});
  std::stable_sort(by_size.begin(), by_size.end(),
                   [&](std::size_t a, std::size_t b) { return lifetimes[a].bytes > lifetimes[b].bytes; });

  std::vector<std::uint64_t> offsets(lifetimes.size(), 0);
  std::vector<std::size_t> placed;  // sorted by offset
  for (const std::size_t i : by_size) {
    const Lifetime& wanted = lifetimes[i];
    ensure(wanted.first <= wanted.last, "a buffer lives from step {} to step {}", wanted.first, wanted.last);
    if (wanted.bytes == 0) continue;
    // The smallest gap between neighbours in time that holds it; else after the last of them.
    std::uint64_t end_of_previous = 0;
    std::uint64_t best_offset = 0;
    std::uint64_t best_gap = UINT64_MAX;
    for (const std::size_t other : placed) {
      const Lifetime& neighbour = lifetimes[other];
      if (neighbour.last < wanted.first || wanted.last < neighbour.first) continue;
      if (offsets[other] >= end_of_previous + wanted.bytes && offsets[other] - end_of_previous < best_gap) {
        best_gap = offsets[other] - end_of_previous;
        best_offset = end_of_previous;
      }
      end_of_previous = std::max(end_of_previous, align(offsets[other] + neighbour.bytes, alignment));
    }
    offsets[i] = best_gap == UINT64_MAX ? end_of_previous : best_offset;
    placed.insert(std::upper_bound(placed.begin(), placed.end(), i,
                                   [&](std::size_t a, std::size_t b) { return offsets[a] < offsets[b]; }),
                  i);
  }
  return offsets;
}

std::uint64_t arena_size(std::span<const Lifetime> lifetimes, std::span<const std::uint64_t> offsets,
                         std::uint64_t alignment) {
  std::uint64_t size = 0;
  for (std::size_t i = 0; i < lifetimes.size(); ++i) size = std::max(size, offsets[i] + lifetimes[i].bytes);
  return align(size, alignment);
}

}  // namespace tenfold
