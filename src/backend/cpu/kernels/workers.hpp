// Spreads work items over threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/kernels/gemm.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// Calls f(item, scratch) for each item. Every thread has its own contiguous share of the items, the same part of the
/// whole in every job, so that a kernel finds in a core's cache what the kernel before it wrote there; a thread that
/// has finished takes over what others have not begun. `scratch` is the thread's own block.
template <typename F>
void for_each_item(const Workers& workers, std::int64_t items, const F& f) {
  constexpr std::int64_t kMaxParts = 1 << 20;
  const std::int64_t parts = items < kMaxParts ? items : kMaxParts;
  workers.pool->run_on_threads(static_cast<int>(parts), [&](int part, int thread) {
    std::byte* scratch = workers.scratch + static_cast<std::size_t>(thread) * workers.scratch_bytes;
    const std::int64_t end = items * (part + 1) / parts;
    for (std::int64_t item = items * part / parts; item < end; ++item) f(item, scratch);
  });
}

/// Whose share an item is in, see ThreadPool::run_on_threads.
constexpr std::int64_t share_of(std::int64_t item, std::int64_t items, std::int64_t threads) {
  return ((item + 1) * threads - 1) / items;
}

}  // namespace tenfold::cpu::TENFOLD_TIER
