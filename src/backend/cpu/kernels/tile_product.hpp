// Matrix products by the processor's matrix unit (AMX; Intel SDM vol. 1, chapter 18): the loops around its tiles.
//
// A tile has up to 16 rows of 64 bytes. One of A is 16 rows by 64 bytes of depth; one of B is the same 64 bytes of
// depth by 16 columns, [group of 4 bytes][column][4], a group being a pair of bfloat16 or a quad of bytes; one of C is
// 16 x 16 sums. B is packed in panels of two tiles of columns, [panel][group][column][4 bytes], the last one perhaps of
// one tile, depth and columns padded with zeros (backend/cpu/tile_panels.hpp). Four tiles of C, two rows by two
// columns, stay in the unit while the depth passes: as many loads as products, and a product takes twice as long as a
// load.
//
// `Unit` is the matrix unit; tests put an emulation in its place:
//   explicit Unit(int rows)            tiles of A and C get so many rows, 1 .. 16; its end gives the tiles back
//   clear<kTile>(), load<kTile>(p, stride), store<kTile>(p, stride)        strides in bytes
//   multiply<kC, kA, kB>()             adds the product of two tiles to a third
// `Finish` takes the sums while they are in the cache:
//   tiles(sums, row, rows, column, count)  sums [count][kTileRows][kTileColumns] of 4 bytes, of 1 or 2 tiles beside
//   each
//                                      other; of their rows the first, of their columns those that C has count
//   panel(row, rows, column, columns)  all tiles of these rows and columns are done
// A's rows are read where they are, or `Rows` says how they come:
//   rows.copy(first, rows, stride, to)     copies them, or windows, into the cache
//   rows.place(first, tiles_of_depth, to)  gives for a tile that begins with row `first` where each tile of its depth
//                                          lies; for windows, whose rows of one line are evenly spaced in the image
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/product_blocks.hpp"
#include "backend/cpu/kernels/simd_int.hpp"
#include "backend/cpu/kernels/tiles.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// What a block leaves of the scratch memory.
inline constexpr std::int64_t kTileMargin = 16 << 10;

struct TileProduct {
  std::int64_t rows = 0, columns = 0;
  std::int64_t row_bytes = 0;  ///< of A's rows; of all taps of a window
  /// A's rows, if they are read where they are: then each has zeros up to whole tiles of depth. nullptr: they are
  /// copied.
  const std::uint8_t* a = nullptr;
  std::int64_t a_stride = 0;  ///< bytes
  /// Rows of a line, if tiles of depth are placed; `a_stride` apart. No tile has rows of two lines, and no block parts
  /// of one. 0: there are no lines.
  std::int64_t line_rows = 0;
  bool copies() const { return a == nullptr && line_rows == 0; }
  const std::byte* panels = nullptr;
  std::int64_t row_block = 0;    ///< rows that share a pass over the panels
  std::int64_t depth_block = 0;  ///< tiles of depth between two visits of C
};

/// How the rows of a block are cut into tiles. They are equally high, because they all have one configuration; the last
/// one of a line repeats rows of the one before it.
struct TileRowCut {
  TileRowCut(const TileProduct& product, std::int64_t rows)
      : line(product.line_rows > 0 ? product.line_rows : rows),
        line_tiles(ceil_div(line, kTileRows)),
        height(ceil_div(line, line_tiles)),
        tiles(rows / line * line_tiles) {}
  std::int64_t begin(std::int64_t tile) const {
    return tile / line_tiles * line + min(tile % line_tiles * height, line - height);
  }
  std::int64_t line, line_tiles, height, tiles;
};

/// Zeros from the end of the rows to the end of their last tiles.
inline void clear_row_ends(std::int64_t bytes, std::int64_t rows, std::int64_t stride, std::uint8_t* to) {
  const std::int64_t rest = ceil_div(bytes, kTileBytes) * kTileBytes - bytes;
  for (std::int64_t r = 0; r < rows && rest > 0; ++r) {
    for (std::int64_t i = 0; i < rest; i += Ints::kBytes) {
      Ints::zero().store_first_bytes(to + r * stride + bytes + i, rest - i);
    }
  }
}

/// Up to 2 x 2 tiles of C.
struct TileStrip {
  const std::uint8_t* a[2];                ///< the first rows of the tiles
  const std::uint8_t* const* a_places[2];  ///< or: the same for each tile of depth
  std::int64_t a_stride;
  const std::byte* panel;
  std::int64_t steps;  ///< tiles of depth
  bool continues;      ///< begin with the sums that are there, else with 0
  std::byte* sums;     ///< [tile row][tile column][kTileRows][kTileColumns] of 4 bytes
  const std::byte* ahead;
  std::int64_t ahead_lines;  ///< to ask for in every step
};

template <typename Unit, bool kPlaced, int kRowTiles, int kColumnTiles>
void multiply_strip(Unit& unit, const TileStrip& strip) {
  // C takes tiles 0 to 3, A 4 and 5, B 6 and 7.
  constexpr std::int64_t kLine = kTileBytes, kPanelStride = kColumnTiles * kTileBytes;
  std::byte* sums = strip.sums;
  if (strip.continues) {
    unit.template load<0>(sums, kLine);
    if constexpr (kColumnTiles == 2) unit.template load<1>(sums + kTileSize, kLine);
    if constexpr (kRowTiles == 2) unit.template load<2>(sums + 2 * kTileSize, kLine);
    if constexpr (kRowTiles == 2 && kColumnTiles == 2) unit.template load<3>(sums + 3 * kTileSize, kLine);
  } else {
    unit.template clear<0>();
    if constexpr (kColumnTiles == 2) unit.template clear<1>();
    if constexpr (kRowTiles == 2) unit.template clear<2>();
    if constexpr (kRowTiles == 2 && kColumnTiles == 2) unit.template clear<3>();
  }
  const std::uint8_t* a0 = strip.a[0];
  [[maybe_unused]] const std::uint8_t* a1 = strip.a[1];
  const std::byte* panel = strip.panel;
  const std::byte* ahead = strip.ahead;
  const std::int64_t a_stride = strip.a_stride, ahead_bytes = strip.ahead_lines * kLine;
  for (std::int64_t step = 0; step < strip.steps; ++step) {
    if constexpr (kPlaced) {
      a0 = strip.a_places[0][step];
      a1 = strip.a_places[1][step];
    }
    unit.template load<6>(panel, kPanelStride);
    unit.template load<4>(a0, a_stride);
    unit.template multiply<0, 4, 6>();
    if constexpr (kColumnTiles == 2) {
      unit.template load<7>(panel + kTileBytes, kPanelStride);
      unit.template multiply<1, 4, 7>();
    }
    if constexpr (kRowTiles == 2) {
      unit.template load<5>(a1, a_stride);
      unit.template multiply<2, 5, 6>();
      if constexpr (kColumnTiles == 2) unit.template multiply<3, 5, 7>();
      a1 += kTileBytes;
    }
    a0 += kTileBytes;
    panel += kTileRows * kPanelStride;
    for (const std::byte* end = ahead + ahead_bytes; ahead != end; ahead += kLine) __builtin_prefetch(ahead, 0, 2);
  }
  unit.template store<0>(sums, kLine);
  if constexpr (kColumnTiles == 2) unit.template store<1>(sums + kTileSize, kLine);
  if constexpr (kRowTiles == 2) unit.template store<2>(sums + 2 * kTileSize, kLine);
  if constexpr (kRowTiles == 2 && kColumnTiles == 2) unit.template store<3>(sums + 3 * kTileSize, kLine);
}

template <typename Unit, bool kPlaced>
void multiply_strip(Unit& unit, const TileStrip& strip, bool two_rows, bool two_columns) {
  if (two_rows) {
    two_columns ? multiply_strip<Unit, kPlaced, 2, 2>(unit, strip) : multiply_strip<Unit, kPlaced, 2, 1>(unit, strip);
  } else {
    two_columns ? multiply_strip<Unit, kPlaced, 1, 2>(unit, strip) : multiply_strip<Unit, kPlaced, 1, 1>(unit, strip);
  }
}

/// The sums of a strip, and how many strips have room.
inline constexpr std::int64_t kStripSize = 2 * kPanelTiles * kTileSize;
inline std::int64_t sums_slots(std::int64_t tiles) { return max(2, ceil_div(tiles, 2)); }
/// What a block of so many rows needs of the scratch memory, in whole lines.
inline std::int64_t tile_scratch_bytes(const TileProduct& product, std::int64_t rows) {
  const std::int64_t tiles = TileRowCut(product, rows).tiles;
  std::int64_t bytes = 0;
  if (product.copies()) bytes = rows * tile_row_stride(product.row_bytes);
  if (product.line_rows > 0) {
    bytes = tiles * ceil_div(product.row_bytes, kTileBytes) * static_cast<std::int64_t>(sizeof(void*));
  }
  return sums_slots(tiles) * kStripSize + ceil_div(bytes, kTileBytes) * kTileBytes;
}

template <typename Unit, typename Rows, typename Finish>
void run_tile_block(const TileProduct& product, const ProductBlock& block, const Rows& rows_of_a, Finish& finish,
                    std::byte* scratch) {
  constexpr bool kPlaced = requires { &Rows::place; };
  const std::int64_t rows = block.row_end - block.row_begin;
  const std::int64_t steps = ceil_div(product.row_bytes, kTileBytes);
  const TileRowCut cut(product, rows);
  const std::int64_t tiles = cut.tiles, height = cut.height;

  // Sums first: their tiles are lines.
  std::byte* sums = scratch;
  std::byte* behind_sums = scratch + sums_slots(tiles) * kStripSize;
  [[maybe_unused]] const std::uint8_t* a = nullptr;
  [[maybe_unused]] auto* places = reinterpret_cast<const std::uint8_t**>(behind_sums);  // [tile][step]
  std::int64_t a_stride = product.a_stride;
  if constexpr (kPlaced) {
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
      rows_of_a.place(block.row_begin + cut.begin(tile), steps, places + tile * steps);
    }
  } else if (product.a != nullptr) {
    a = product.a + block.row_begin * product.a_stride;
  } else {
    auto* copy = reinterpret_cast<std::uint8_t*>(behind_sums);
    a_stride = tile_row_stride(product.row_bytes);
    rows_of_a.copy(block.row_begin, rows, a_stride, copy);
    clear_row_ends(product.row_bytes, rows, a_stride, copy);
    a = copy;
  }

  Unit unit(static_cast<int>(height));
  const std::int64_t column_bytes = steps * kTileBytes;
  const std::int64_t padded_columns = ceil_div(product.columns, kTileColumns) * kTileColumns;
  // Of all blocks: a thread often goes on with the panels behind its block.
  const std::byte* panels_end = product.panels + padded_columns * column_bytes;
  const std::int64_t strips = ceil_div(tiles, 2);
  // A strip's sums become results after the next one was multiplied: loads of what a tile has just stored would wait
  // for it, and this way the vector units work while the matrix unit does.
  struct Finished {
    const std::byte* sums = nullptr;
    std::int64_t row[2] = {}, column = 0;
    bool two_rows = false, two_columns = false, ends_panel = false;
  } finished;
  const auto finish_strip = [&] {
    if (finished.sums == nullptr) return;
    for (int i = 0; i < (finished.two_rows ? 2 : 1); ++i) {
      finish.tiles(finished.sums + 2 * i * kTileSize, block.row_begin + finished.row[i], height, finished.column,
                   finished.two_columns ? 2 : 1);
    }
    finished.sums = nullptr;
    if (!finished.ends_panel) return;
    finish.panel(block.row_begin, rows, finished.column, min(kPanelColumns, product.columns - finished.column));
  };
  for (std::int64_t p = block.panel_begin; p < block.panel_end; ++p) {
    const std::int64_t n = p * kPanelColumns;
    const bool two_columns = padded_columns - n > kTileColumns;
    TileStrip strip{};
    strip.a_stride = a_stride;
    strip.panel = product.panels + n * column_bytes;
    for (std::int64_t first = 0; first < steps; first += product.depth_block) {
      strip.steps = min(product.depth_block, steps - first);
      strip.continues = first > 0;
      const bool is_last = first + strip.steps == steps;
      // What is multiplied next lies behind what is multiplied now. A core that meets it only then waits for memory.
      const std::int64_t bytes = strip.steps * (two_columns ? 2 : 1) * kTileSize;
      const std::byte* ahead = strip.panel + bytes;
      const std::byte* ahead_end = panels_end - ahead < bytes ? panels_end : ahead + bytes;
      const std::int64_t lines = ceil_div(bytes, kTileBytes * strips * strip.steps);
      for (std::int64_t tile = 0; tile < tiles; tile += 2) {
        const bool two_rows = tile + 1 < tiles;
        const std::int64_t begin[2] = {cut.begin(tile), cut.begin(min(tile + 1, tiles - 1))};
        for (int i = 0; i < 2; ++i) {
          if constexpr (kPlaced) {
            strip.a_places[i] = places + min(tile + i, tiles - 1) * steps + first;
          } else {
            strip.a[i] = a + begin[i] * a_stride + first * kTileBytes;
          }
        }
        // Neighbours, also across panels, have different slots.
        const std::int64_t number = p * strips + tile / 2;
        const bool is_whole = is_last && !strip.continues;
        strip.sums = sums + (is_whole || strips == 1 ? number % 2 : tile / 2) * kStripSize;
        strip.ahead = ahead;
        strip.ahead_lines = min(lines, (ahead_end - ahead) / (kTileBytes * strip.steps));
        ahead += strip.ahead_lines * strip.steps * kTileBytes;
        multiply_strip<Unit, kPlaced>(unit, strip, two_rows, two_columns);
        finish_strip();
        if (!is_last) continue;
        finished = {strip.sums, {begin[0], begin[1]}, n, two_rows, two_columns, tile + 2 >= tiles};
      }
      strip.panel += bytes;
    }
  }
  finish_strip();
}

/// How a product is cut into blocks. `scratch_row_bytes`: what a block needs of the scratch memory for each row besides
/// run_tile_block, behind what that needs.
class TileCut {
 public:
  TileCut(const TileProduct& product, const Workers& workers, std::int64_t scratch_row_bytes) : product_(product) {
    constexpr std::int64_t kItemsPerThread = 3;
    constexpr std::int64_t kSerialWork = 1 << 20;  // multiply-adds of bytes that are not worth a second thread
    grain_ = product.line_rows > 0 ? product.line_rows : kTileRows;
    const std::int64_t strip = 2 * grain_;
    panels_ = ceil_div(product.columns, kPanelColumns);
    const std::int64_t threads = workers.pool->num_threads();
    const std::int64_t work = product.rows * product.columns * product.row_bytes;
    const std::int64_t wanted = threads == 1 || work < kSerialWork ? 1 : kItemsPerThread * threads;
    // Blocks begin with whole tiles, so that no cut makes one larger than it may be.
    const std::int64_t bytes = scratch_row_bytes + ceil_div(tile_scratch_bytes(product, strip), strip);
    const std::int64_t fitting = (static_cast<std::int64_t>(workers.scratch_bytes) - kTileMargin) / bytes;
    const std::int64_t row_block = max(1, min(product.row_block, fitting) / grain_) * grain_;
    row_parts_ = ceil_div(product.rows, row_block);
    // Copied rows are cut first, because every part of the panels copies them again; else the panels, which are then
    // read by one thread only.
    if (product.copies() && row_parts_ < wanted) {
      row_parts_ = max(row_parts_, min(product.rows / (2 * strip), wanted));
    }
    panel_parts_ = min(panels_, ceil_div(wanted, row_parts_));
    if (row_parts_ * panel_parts_ < wanted) {
      row_parts_ = max(row_parts_, min(ceil_div(product.rows, strip), ceil_div(wanted, panel_parts_)));
    }
  }
  /// Do several blocks have the same rows?
  bool repeats_rows() const { return panel_parts_ > 1; }

  /// Calls f(block, scratch) for each.
  template <typename F>
  void for_each_block(const Workers& workers, const F& f) const {
    for_each_product_block(workers, 1, {product_.rows, grain_, row_parts_}, {panels_, 1, panel_parts_}, f);
  }

 private:
  const TileProduct& product_;
  std::int64_t grain_;  ///< rows that stay together
  std::int64_t panels_, row_parts_, panel_parts_;
};

}  // namespace tenfold::cpu::TENFOLD_TIER
