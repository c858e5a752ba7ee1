// Products of a block of rows with some panels, shared by the plain, the batched and the Winograd product.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/gemm_tile.hpp"
#include "backend/cpu/kernels/split.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// Rows of the next tile when `rest` rows remain: two last tiles share what is between one and two full ones.
inline std::int64_t next_tile_rows(std::int64_t rest, std::int64_t tile_rows) {
  if (rest >= 2 * tile_rows || rest == tile_rows) return tile_rows;
  return rest > tile_rows ? (rest + 1) / 2 : rest;
}

/// How many tiles of so many rows follow each other.
inline std::int64_t equal_tiles(std::int64_t rest, std::int64_t tile_rows) {
  if (rest < 2 * tile_rows) return 1;
  return rest % tile_rows == 0 ? rest / tile_rows : rest / tile_rows - 1;
}

/// Sets the columns of a tile: how many vectors wide it is and how much of the last one exists.
struct PanelColumns {
  int vectors;
  int tail;
};
inline PanelColumns panel_columns(std::int64_t columns, int tile_vectors) {
  const std::int64_t whole = std::int64_t{tile_vectors} * Vec::kWidth;
  if (columns >= whole) return {tile_vectors, Vec::kWidth};
  const int vectors = static_cast<int>((columns + Vec::kWidth - 1) / Vec::kWidth);
  return {vectors, static_cast<int>(columns - std::int64_t{vectors - 1} * Vec::kWidth)};
}

/// GemmKernels::run_lines; conv_lines.cpp.
void run_lines(const GemmArgs& args, const Workers& workers);

/// The panel behind the one at work: asked for line by line while the tiles of a block's rows are computed. A core that
/// meets a panel only when it multiplies by it waits for memory in the first tile, and memory for it in all others.
class PanelAhead {
 public:
  PanelAhead() = default;  ///< none
  /// Both panels have so many bytes; rows * depth steps of the one at work share the fetching of the other.
  PanelAhead(const void* panel, std::int64_t bytes, std::int64_t rows, std::int64_t tile_rows, std::int64_t depth) {
    if (rows < kFewestRows || depth < kShallowest) return;
    const std::int64_t tiles = (rows + tile_rows - 1) / tile_rows;
    for (of_tile_.depth = kDeepestPiece;; of_tile_.depth /= 2) {
      pieces_ = (depth + of_tile_.depth - 1) / of_tile_.depth;
      const std::int64_t shared = pieces_ * tiles * kLineBytes;
      of_tile_.lines = static_cast<int>((bytes + shared - 1) / shared);
      if (of_tile_.lines <= kMostLines || of_tile_.depth == kShortestPiece) break;
    }
    const bool side_by_side = rows <= kFewRows;
    const std::int64_t place = (bytes + of_tile_.lines * kLineBytes - 1) / (of_tile_.lines * kLineBytes) * kLineBytes;
    of_tile_.first = static_cast<const std::byte*>(panel);
    of_tile_.line_stride = side_by_side ? place : kLineBytes;
    of_tile_.piece_stride = side_by_side ? kLineBytes : of_tile_.lines * kLineBytes;
    end_ = of_tile_.first + (side_by_side ? place : bytes);
  }
  /// Leaves out what so many tiles ask for.
  void skip(std::int64_t tiles) {
    const std::int64_t left = end_ - of_tile_.first, asked = tiles * pieces_ * of_tile_.piece_stride;
    of_tile_.first += asked < left ? asked : left;
  }
  /// Gives the next tiles what they shall ask for. Do they ask for anything?
  bool next(Ahead& ahead, std::int64_t tiles) {
    if (of_tile_.first == end_) return false;
    ahead = of_tile_;
    skip(tiles);
    return true;
  }

 private:
  /// A single row waits for memory in any case; shallow panels come quickly enough.
  static constexpr std::int64_t kFewestRows = 2, kShallowest = 96;
  /// Lines asked for at once: a core has a dozen places (Intel) or two for lines on their way to its first-level cache,
  /// and while they are taken, the panel at work waits too. Few tiles therefore ask more often, in shorter pieces.
  static constexpr int kMostLines = 12;
  static constexpr std::int64_t kDeepestPiece = 32, kShortestPiece = 4;
  /// Products of so few rows are as fast as memory, and more comes when prefetchers follow several places side by side:
  /// lines of a piece are then taken from as many places. With more rows, lines behind each other cost a little less.
  static constexpr std::int64_t kFewRows = 64;
  Ahead of_tile_{};          ///< the next one's
  std::int64_t pieces_ = 0;  ///< of a tile
  const std::byte* end_ = nullptr;
};

/// Do the weights of a product stay in a core's own cache, if others leave them there? Then the first panel of an item
/// is not asked for in the one before: that would cost a small product more than it gains.
inline bool are_weights_near(std::int64_t bytes) { return bytes <= (512 << 10); }

/// Are the result and the residual so large that they lie behind the second-level cache? A tile that begins its sums,
/// or ends them, then waits for a dozen lines that no prefetcher foresees: its rows lie far apart, and it takes a few
/// lines of each. Asked for one tile ahead they come meanwhile, unless the sums are too short.
inline bool are_rows_far(const GemmArgs& args) {
  constexpr std::int64_t kFar = 512 << 10, kShortest = 24;
  const std::int64_t bytes = args.rows * args.columns * args.groups * kFloatBytes;
  return bytes * (args.finish.residual == nullptr ? 1 : 2) > kFar && args.depth * args.taps >= kShortest;
}

/// All rows of a plain block times one panel. `tile` holds what does not depend on the row: depth, panel, flags, bias.
inline void run_plain_rows(TileArgs& tile, std::int64_t rows, int tile_rows, int vectors, const float* a,
                           std::int64_t a_stride, float* c, const float* residual, PanelAhead ahead = {}) {
  tile.rows = &a;
  tile.row_stride = a_stride;
  tile.taps = 1;
  tile.offset = 0;
  for (std::int64_t r = 0; r < rows;) {
    const std::int64_t count = next_tile_rows(rows - r, tile_rows);
    tile.c = c + r * tile.c_stride;
    tile.residual = residual == nullptr ? nullptr : residual + r * tile.residual_stride;
    const std::int64_t tiles = equal_tiles(rows - r, tile_rows);
    const bool fetches = ahead.next(tile.ahead, tiles);
    tile.more = tiles - 1;  // one call for them all, which shallow products feel
    find_tile<Rows::even>(static_cast<int>(count), vectors, tile.tail, fetches)(tile);
    const std::int64_t done = count * tiles;
    a += done * a_stride;
    r += done;
  }
}

}  // namespace tenfold::cpu::TENFOLD_TIER
