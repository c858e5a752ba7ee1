// Spreads work items over threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/kernels/gemm.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// Calls f(item, scratch) for each item, in order of claiming: threads take the next item when they are free, so a
/// thread that is held up delays one item only. `scratch` is the part's own block.
template <typename F>
void for_each_item(const Workers& workers, std::int64_t items, const F& f) {
  const std::int64_t threads = workers.pool->num_threads();
  const int parts = static_cast<int>(items < threads ? items : threads);
  if (parts <= 1) {
    for (std::int64_t item = 0; item < items; ++item) f(item, workers.scratch);
    return;
  }
  std::int64_t next = 0;
  workers.pool->run(parts, [&](int part) {
    std::byte* scratch = workers.scratch + static_cast<std::size_t>(part) * workers.scratch_bytes;
    for (;;) {
      const std::int64_t item = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
      if (item >= items) return;
      f(item, scratch);
    }
  });
}

}  // namespace tenfold::cpu::TENFOLD_TIER
