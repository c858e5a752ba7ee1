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
  /// Rows of the same panel that belong to other blocks: all of them together ask for the next panel.
  std::int64_t rows_before = 0, rows_behind = 0;
  /// The share that ends with the block's last panel; -1: none, or not known.
  std::int64_t ended_share = -1;
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

/// How the work of a product is cut at will, where blocks of rows and panels do not depend on each other.
struct ProductPieces {
  std::int64_t panels;
  std::int64_t rows;    ///< pieces of a block's rows, which follow each other down a panel
  std::int64_t shares;  ///< a thread's each
  std::int64_t parts;   ///< of a share, see Cut::shares
};

/// Calls f(block, scratch) for blocks that cover `groups` x `rows` x panels: a block of rows goes through all panels
/// before the next one. Every thread has an equal share of the pieces, whole panels but for the ends of its parts.
template <typename F>
void for_each_product_piece(const Workers& workers, std::int64_t groups, const Cut& rows, std::int64_t tile_rows,
                            const ProductPieces& pieces, const F& f) {
  const std::int64_t of_block = pieces.panels * pieces.rows, all = groups * rows.parts * of_block;
  const std::int64_t parts = pieces.shares * pieces.parts;
  const Cut cut{all, 1, parts, pieces.parts == 1 ? 0 : pieces.shares};
  for_each_item(workers, parts, [&](std::int64_t part, std::byte* scratch) {
    const std::int64_t share_end = cut.begin((part / pieces.parts + 1) * pieces.parts), end = cut.begin(part + 1);
    for (std::int64_t at = cut.begin(part); at < end;) {
      const std::int64_t row_part = at / of_block, in_block = at % of_block;
      const std::int64_t panel = in_block / pieces.rows, first = in_block % pieces.rows;
      const std::int64_t rest = min(end - at, of_block - in_block);
      const bool has_all_rows = first == 0 && rest >= pieces.rows;
      const std::int64_t panels = has_all_rows ? rest / pieces.rows : 1;
      const std::int64_t count = has_all_rows ? panels * pieces.rows : min(rest, pieces.rows - first);
      const std::int64_t row_begin = rows.begin(row_part % rows.parts);
      const Cut row_cut{rows.begin(row_part % rows.parts + 1) - row_begin, tile_rows, pieces.rows};
      const std::int64_t before = has_all_rows ? 0 : row_cut.begin(first);
      const std::int64_t behind = has_all_rows ? 0 : row_cut.count - row_cut.begin(first + count);
      // The next panel, or the first one with the next rows.
      const std::int64_t next = row_part * of_block + (panel + panels) * pieces.rows;
      const bool goes_on = next < share_end && next % (of_block * rows.parts) != 0;
      at += count;
      const ProductBlock block{row_part / rows.parts,
                               row_begin + before,
                               row_begin + row_cut.count - behind,
                               panel,
                               panel + panels,
                               goes_on ? (panel + panels) % pieces.panels : -1,
                               before,
                               behind,
                               next >= share_end ? part / pieces.parts : -1};
      if (block.row_begin < block.row_end) f(block, scratch);
    }
  });
}

}  // namespace tenfold::cpu::TENFOLD_TIER
