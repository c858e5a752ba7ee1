// Matrix products by the processor's matrix unit (AMX; Intel SDM vol. 1, chapter 18): the loops around its tiles.
//
// A tile has up to 16 rows of 64 bytes. One of A is 16 rows by 64 bytes of depth; one of B is the same 64 bytes of
// depth by 16 columns, [group of 4 bytes][column][4], a group being a pair of bfloat16 or a quad of bytes; one of C is
// 16 x 16 sums. B is packed in panels of two tiles of columns, [panel][group][column][4 bytes], the last one perhaps of
// one tile, depth and columns padded with zeros (backend/cpu/tile_panels.hpp). Four tiles of C, two rows by two
// columns, stay in the unit while the depth passes: as many loads as products, and a product takes twice as long as a
// load.
//
// Factors may be sums of kParts numbers each (bf16_split.hpp): 1, or 3, of which the six products of larger parts are
// summed. The parts of A are matrices, one behind the other; those of B follow each other for each tile of depth.
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
//   place(row, column)                 of products of parts: where a result goes to, a ResultPlace
// A's rows are read where they are, or `Rows` says how they come:
//   rows.copy(first, rows, stride, part_stride, to)  copies them, or windows, into the cache
//   rows.block(first, rows, scratch)  windows, whose rows of one line of results are evenly spaced in the image:
//     .copy()                         copies the lines they need into the cache
//     .part_stride()                  bytes
//     .place(first, depth, to)        where a tile that begins with row `first` lies, for each tile of so much depth
// A copy is false if there are large numbers in it, see repair_strip.
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
  std::int64_t parts = 1;      ///< of factors; kParts of run_tile_block
  std::int64_t row_bytes = 0;  ///< of A's rows; of all taps of a window
  /// A's rows, if they are read where they are: then each has zeros up to whole tiles of depth. nullptr: they are
  /// copied.
  const std::uint8_t* a = nullptr;
  std::int64_t a_stride = 0;       ///< bytes
  std::int64_t a_part_stride = 0;  ///< bytes from a part of A to the next one, where they are read in place
  /// Of bfloat16 only: what repair_strip takes for large, from which number on; are there such numbers among those that
  /// are not copied here?
  float limit = 0;
  bool has_large = false;
  /// Rows of a line, if tiles of depth are placed; `a_stride` apart. No tile has rows of two lines, and no block parts
  /// of one. 0: there are no lines.
  std::int64_t line_rows = 0;
  std::int64_t scratch_per_line = 0, scratch_besides = 0;  ///< see WindowLines
  /// Depth in pieces, a line of the kernel each: of so many tiles the first numbers are its own. 0: all of them are.
  std::int64_t piece_steps = 0, piece_numbers = 0;
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

/// Where a row's results of a panel's columns go to: `lines` lines from `p` on; the next row's are `stride` bytes
/// behind.
struct ResultPlace {
  std::byte* p = nullptr;
  std::int64_t stride = 0;
  int lines = 0;
};

/// Up to 2 x 2 tiles of C.
struct TileStrip {
  const std::uint8_t* a[2];                ///< the first rows of the tiles
  const std::uint8_t* const* a_places[2];  ///< or: the same for each tile of depth
  std::int64_t a_stride, a_part_stride;
  const std::byte* panel;
  std::int64_t steps;  ///< tiles of depth
  bool continues;      ///< begin with the sums that are there, else with 0
  std::byte* sums;     ///< [tile row][tile column][kTileRows][kTileColumns] of 4 bytes
  const std::byte* ahead;
  std::int64_t ahead_lines;  ///< to ask for in every step
  ResultPlace results;       ///< of parts: to ask for as well, for writing, so many rows in every step
  std::int64_t result_rows;
};

template <typename Unit, int kParts, bool kPlaced, int kRowTiles, int kColumnTiles>
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
  [[maybe_unused]] const std::byte* result = strip.results.p;
  const std::int64_t a_stride = strip.a_stride, ahead_bytes = strip.ahead_lines * kLine;
  [[maybe_unused]] const std::int64_t a_part_stride = strip.a_part_stride;
  for (std::int64_t step = 0; step < strip.steps; ++step) {
    if constexpr (kPlaced) {
      a0 = strip.a_places[0][step];
      a1 = strip.a_places[1][step];
    }
    if constexpr (kParts == 1) {
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
      }
    } else {
      const auto load_a = [&](std::int64_t part) {
        unit.template load<4>(a0 + part * a_part_stride, a_stride);
        if constexpr (kRowTiles == 2) unit.template load<5>(a1 + part * a_part_stride, a_stride);
      };
      const auto load_b = [&](std::int64_t part) {
        unit.template load<6>(panel + part * kTileRows * kPanelStride, kPanelStride);
        if constexpr (kColumnTiles == 2) {
          unit.template load<7>(panel + part * kTileRows * kPanelStride + kTileBytes, kPanelStride);
        }
      };
      const auto multiply = [&] {
        unit.template multiply<0, 4, 6>();
        if constexpr (kColumnTiles == 2) unit.template multiply<1, 4, 7>();
        if constexpr (kRowTiles == 2) unit.template multiply<2, 5, 6>();
        if constexpr (kRowTiles == 2 && kColumnTiles == 2) unit.template multiply<3, 5, 7>();
      };
      // Small products first, and as few loads as can be: each time one factor stays.
      load_a(2), load_b(0), multiply();
      load_a(1), multiply();
      load_b(1), multiply();
      load_a(0), multiply();
      load_b(2), multiply();
      load_b(0), multiply();
    }
    a0 += kTileBytes;
    if constexpr (kRowTiles == 2) a1 += kTileBytes;
    panel += kParts * kTileRows * kPanelStride;
    for (const std::byte* end = ahead + ahead_bytes; ahead != end; ahead += kLine) __builtin_prefetch(ahead, 0, 2);
    if constexpr (kParts > 1) {
      // Products of whole numbers are done too soon for this to pay.
      for (std::int64_t row = 0; row < strip.result_rows; ++row, result += strip.results.stride) {
        for (int i = 0; i < strip.results.lines; ++i) asm volatile("prefetchw %0" : : "m"(result[i * kLine]));
      }
    }
  }
  unit.template store<0>(sums, kLine);
  if constexpr (kColumnTiles == 2) unit.template store<1>(sums + kTileSize, kLine);
  if constexpr (kRowTiles == 2) unit.template store<2>(sums + 2 * kTileSize, kLine);
  if constexpr (kRowTiles == 2 && kColumnTiles == 2) unit.template store<3>(sums + 3 * kTileSize, kLine);
}

template <typename Unit, int kParts, bool kPlaced>
void multiply_strip(Unit& unit, const TileStrip& strip, bool two_rows, bool two_columns) {
  if (two_rows) {
    two_columns ? multiply_strip<Unit, kParts, kPlaced, 2, 2>(unit, strip)
                : multiply_strip<Unit, kParts, kPlaced, 2, 1>(unit, strip);
  } else {
    two_columns ? multiply_strip<Unit, kParts, kPlaced, 1, 2>(unit, strip)
                : multiply_strip<Unit, kParts, kPlaced, 1, 1>(unit, strip);
  }
}

/// A number of A or B that has so many parts.
template <int kParts>
float number_of_parts(const std::uint8_t* p, std::int64_t part_stride) {
  float x = 0;
  for (int part = kParts - 1; part >= 0; --part) {
    std::uint16_t half;
    __builtin_memcpy(&half, p + part * part_stride, sizeof half);
    x += __builtin_bit_cast(float, static_cast<std::uint32_t>(half) << 16);
  }
  return x;
}

/// Sums of a strip of bfloat16 for those rows of A that have large numbers: from the product's limit on, or NaN. What
/// the unit made of them is replaced by float32's own sums, each factor being the sum of its parts. Numbers between the
/// pieces of depth, which meet zeros of B, do not come into it. `before`: the sums when the strip began; `first_step`:
/// of the strip's depth. Which rows these are does not depend on how work is shared. Rarely needed, so it is plain.
template <int kParts, bool kPlaced>
void repair_strip(const TileProduct& product, const TileStrip& strip, std::int64_t first_step, const std::byte* before,
                  std::int64_t height, int row_tiles, int column_tiles) {
  constexpr std::int64_t kNumbers = kTileBytes / 2;
  const std::int64_t part_bytes = column_tiles * kTileSize;
  for (int i = 0; i < row_tiles; ++i) {
    for (std::int64_t r = 0; r < height; ++r) {
      const auto number_at = [&](std::int64_t step, std::int64_t k) {
        const std::uint8_t* a = strip.a[i] + step * kTileBytes;
        if constexpr (kPlaced) a = strip.a_places[i][step];
        return number_of_parts<kParts>(a + r * strip.a_stride + k * 2, strip.a_part_stride);
      };
      bool is_small = true;
      for (std::int64_t k = 0; k < strip.steps * kNumbers; ++k) {
        is_small = is_small && __builtin_fabsf(number_at(k / kNumbers, k % kNumbers)) < product.limit;
      }
      if (is_small) continue;
      for (int j = 0; j < column_tiles; ++j) {
        const std::int64_t at = (i * kPanelTiles + j) * kTileSize + r * kTileBytes;
        float sums[kTileColumns] = {};
        if (strip.continues) __builtin_memcpy(sums, before + at, sizeof sums);
        for (std::int64_t step = 0; step < strip.steps; ++step) {
          const auto* b =
              reinterpret_cast<const std::uint8_t*>(strip.panel) + step * kParts * part_bytes + j * kTileBytes;
          std::int64_t numbers = kNumbers;
          if (product.piece_steps > 0) {
            const std::int64_t in_piece = (first_step + step) % product.piece_steps * kNumbers;
            numbers = max(0, min(kNumbers, product.piece_numbers - in_piece));
          }
          for (std::int64_t k = 0; k < numbers; ++k) {
            const float x = number_at(step, k);
            const std::uint8_t* line = b + k / 2 * column_tiles * kTileBytes + k % 2 * 2;
            for (std::int64_t n = 0; n < kTileColumns; ++n) {
              sums[n] += x * number_of_parts<kParts>(line + n * 4, part_bytes);
            }
          }
        }
        __builtin_memcpy(strip.sums + at, sums, sizeof sums);
      }
    }
  }
}

/// The sums of a strip, and how many strips have room.
inline constexpr std::int64_t kStripSize = 2 * kPanelTiles * kTileSize;
inline std::int64_t sums_slots(std::int64_t tiles) { return max(2, ceil_div(tiles, 2)); }
/// Where the tiles of A lie, in whole lines.
inline std::int64_t tile_places_bytes(const TileProduct& product, std::int64_t tiles) {
  const std::int64_t places = tiles * ceil_div(product.row_bytes, kTileBytes);
  return ceil_div(places * static_cast<std::int64_t>(sizeof(void*)), kTileBytes) * kTileBytes;
}
/// What a block of so many rows needs of the scratch memory, in whole lines.
inline std::int64_t tile_scratch_bytes(const TileProduct& product, std::int64_t rows) {
  const std::int64_t tiles = TileRowCut(product, rows).tiles;
  std::int64_t bytes = 0;
  if (product.copies()) bytes = product.parts * rows * tile_row_stride(product.row_bytes);
  if (product.line_rows > 0) {
    bytes = tile_places_bytes(product, tiles) + rows / product.line_rows * product.scratch_per_line +
            product.scratch_besides;
  }
  return sums_slots(tiles) * kStripSize + ceil_div(bytes, kTileBytes) * kTileBytes;
}

/// Rows, or the lines their windows need, that a thread has copied into its scratch memory: what it takes next often
/// has the same.
struct RowsInScratch {
  std::int64_t begin, end;
  bool has_large;
};

template <typename Unit, int kParts, typename Rows, typename Finish>
void run_tile_block(const TileProduct& product, const ProductBlock& block, const Rows& rows_of_a, Finish& finish,
                    std::byte* scratch, RowsInScratch& copied) {
  constexpr bool kPlaced = requires { &Rows::block; };
  const std::int64_t rows = block.row_end - block.row_begin;
  const std::int64_t steps = ceil_div(product.row_bytes, kTileBytes);
  const TileRowCut cut(product, rows);
  const std::int64_t tiles = cut.tiles, height = cut.height;

  // Sums first: their tiles are lines.
  std::byte* sums = scratch;
  std::byte* behind_sums = scratch + sums_slots(tiles) * kStripSize;
  [[maybe_unused]] const std::uint8_t* a = nullptr;
  [[maybe_unused]] auto* places = reinterpret_cast<const std::uint8_t**>(behind_sums);  // [tile][step]
  std::int64_t a_stride = product.a_stride, a_part_stride = product.a_part_stride;
  [[maybe_unused]] bool has_large = product.has_large;
  const bool is_copied = copied.begin == block.row_begin && copied.end == block.row_end;
  if constexpr (kPlaced) {
    const auto lines = rows_of_a.block(block.row_begin, rows, behind_sums + tile_places_bytes(product, tiles));
    if (!is_copied) copied = {block.row_begin, block.row_end, !lines.copy()};
    has_large = has_large || copied.has_large;
    a_part_stride = lines.part_stride();
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
      lines.place(block.row_begin + cut.begin(tile), steps, places + tile * steps);
    }
  } else if (product.a != nullptr) {
    a = product.a + block.row_begin * product.a_stride;
  } else {
    auto* copy = reinterpret_cast<std::uint8_t*>(behind_sums);
    a_stride = tile_row_stride(product.row_bytes);
    a_part_stride = rows * a_stride;
    if (!is_copied) {
      const bool has_no_large = rows_of_a.copy(block.row_begin, rows, a_stride, a_part_stride, copy);
      copied = {block.row_begin, block.row_end, !has_no_large};
      clear_row_ends(product.row_bytes, kParts * rows, a_stride, copy);
    }
    has_large = has_large || copied.has_large;
    a = copy;
  }

  Unit unit(static_cast<int>(height));
  const std::int64_t column_bytes = kParts * steps * kTileBytes;
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
    strip.a_part_stride = a_part_stride;
    strip.panel = product.panels + n * column_bytes;
    for (std::int64_t first = 0; first < steps; first += product.depth_block) {
      strip.steps = min(product.depth_block, steps - first);
      strip.continues = first > 0;
      const bool is_last = first + strip.steps == steps;
      // What is multiplied next lies behind what is multiplied now. A core that meets it only then waits for memory.
      const std::int64_t bytes = kParts * strip.steps * (two_columns ? 2 : 1) * kTileSize;
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
        if constexpr (kParts > 1) {
          strip.results = is_last ? finish.place(block.row_begin + begin[0], n) : ResultPlace{};
          strip.result_rows = is_last ? ceil_div(begin[1] + height - begin[0], strip.steps) : 0;
        }
        [[maybe_unused]] std::byte before[kStripSize];
        if (has_large) __builtin_memcpy(before, strip.sums, sizeof before);
        multiply_strip<Unit, kParts, kPlaced>(unit, strip, two_rows, two_columns);
        if (has_large) {
          repair_strip<kParts, kPlaced>(product, strip, first, before, height, two_rows ? 2 : 1, two_columns ? 2 : 1);
        }
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
    // If there are more of them than columns, copied rows are cut first, because every thread that has a part of the
    // panels copies its rows; else the panels, which are then read by one thread only.
    if (product.copies() && product.columns < 2 * product.rows && row_parts_ < wanted) {
      row_parts_ = max(row_parts_, min(product.rows / (2 * strip), wanted));
    }
    panel_parts_ = min(panels_, ceil_div(wanted, row_parts_));
    if (row_parts_ * panel_parts_ < wanted) {
      row_parts_ = max(row_parts_, min(ceil_div(product.rows, strip), ceil_div(wanted, panel_parts_)));
    }
  }
  /// Calls f(block, scratch, rows in it) for each.
  template <typename F>
  void for_each_block(const Workers& workers, const F& f) const {
    constexpr int kMostThreads = 256;
    struct alignas(64) Line {
      RowsInScratch rows;
    } lines[kMostThreads];
    for (int i = 0; i < kMostThreads && i < workers.pool->num_threads(); ++i) lines[i].rows = {};
    for_each_product_block(workers, 1, {product_.rows, grain_, row_parts_}, {panels_, 1, panel_parts_},
                           [&](const ProductBlock& block, std::byte* scratch) {
                             const std::int64_t thread =
                                 (scratch - workers.scratch) / static_cast<std::int64_t>(workers.scratch_bytes);
                             RowsInScratch unknown{};
                             f(block, scratch, thread < kMostThreads ? lines[thread].rows : unknown);
                           });
  }

 private:
  const TileProduct& product_;
  std::int64_t grain_;  ///< rows that stay together
  std::int64_t panels_, row_parts_, panel_parts_;
};

}  // namespace tenfold::cpu::TENFOLD_TIER
