// How a matrix product is shared among threads: rows and panels of columns are cut into parts, and each pair of parts
// is an item of work.
#pragma once

#include "backend/cpu/kernels/split.hpp"
#include "backend/cpu/kernels/workers.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// Some rows of some panels. Products that are computed together are groups: those of a convolution, samples, matrices.
struct ProductBlock {
  std::int64_t group, row_begin, row_end, panel_begin, panel_end;
  /// The panel with which this thread goes on behind the block; -1: none that is known, or another group's.
  std::int64_t next_panel;
};

/// Calls f(block, scratch) for each pair of parts of each group. Blocks of the same rows follow each other, so a thread
/// finds them in its cache.
template <typename F>
void for_each_product_block(const Workers& workers, std::int64_t groups, const Cut& rows, const Cut& panels,
                            const F& f) {
  const std::int64_t items = groups * rows.parts * panels.parts, threads = workers.pool->num_threads();
  for_each_item(workers, items, [&](std::int64_t item, std::byte* scratch) {
    const std::int64_t panel_part = item % panels.parts;
    const std::int64_t row_part = item / panels.parts % rows.parts;
    const bool goes_on = (item + 1) % (panels.parts * rows.parts) != 0 &&
                         share_of(item, items, threads) == share_of(item + 1, items, threads);
    const ProductBlock block{
        item / panels.parts / rows.parts, rows.begin(row_part),
        rows.begin(row_part + 1),         panels.begin(panel_part),
        panels.begin(panel_part + 1),     goes_on ? panels.begin((panel_part + 1) % panels.parts) : -1};
    if (block.row_begin < block.row_end && block.panel_begin < block.panel_end) f(block, scratch);
  });
}

}  // namespace tenfold::cpu::TENFOLD_TIER
