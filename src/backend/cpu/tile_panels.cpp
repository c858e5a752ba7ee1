#include "backend/cpu/tile_panels.hpp"

#include <algorithm>

#include "base/error.hpp"

namespace tenfold::cpu {

TileBlocks tile_blocks_from(std::span<const std::int64_t> parameters) {
  require(parameters.size() == 2, Code::incompatible_engine, "blocks of tiles have 2 numbers, got {}",
          parameters.size());
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  const TileBlocks blocks{parameters[0], parameters[1]};
  require(0 < blocks.rows && blocks.rows <= kMost && 0 < blocks.depth_bytes && blocks.depth_bytes <= kMost &&
              blocks.depth_bytes % kTileBytes == 0,
          Code::incompatible_engine, "blocks of {} rows and {} bytes of depth are no sensible ones, whole tiles",
          blocks.rows, blocks.depth_bytes);
  return blocks;
}

std::vector<TileBlocks> promising_tile_blocks(std::int64_t rows, std::int64_t depth_bytes, std::int64_t row_bytes,
                                              std::int64_t parts, bool has_lines) {
  // A block of rows stays in the second-level cache (2 MiB) beside the panel that passes and the next one.
  constexpr std::int64_t kMostBytes = 5 << 18;
  const std::int64_t whole_depth = whole_tiles(depth_bytes, kTileBytes) * kTileBytes;
  const std::int64_t whole_row = whole_tiles(row_bytes, kTileBytes) * kTileBytes;
  const std::int64_t most = std::max(2 * kTileRows, kMostBytes / whole_row / kTileRows * kTileRows);
  // A part of a panel stays in the first-level cache (48 KiB) while rows pass, if there are rows to pass. Six products
  // of parts for each load of them leave the second-level cache the time as well.
  const auto depths = rows <= 2 * kTileRows ? std::vector<std::int64_t>{whole_depth}
                      : parts > 1           ? std::vector<std::int64_t>{whole_depth, 256}
                                            : std::vector<std::int64_t>{512, whole_depth, 1024};
  std::vector<TileBlocks> blocks;
  // Neighbouring blocks of lines both copy those that windows of both need.
  const auto heights =
      has_lines ? std::vector<std::int64_t>{1024, 4096, 256} : std::vector<std::int64_t>{256, 1024, 64};
  for (const std::int64_t wanted : heights) {
    const std::int64_t row_block = std::min(wanted, most);
    // Blocks that hold all rows are the same as larger ones.
    const bool is_new = std::none_of(blocks.begin(), blocks.end(), [&](const TileBlocks& b) {
      return b.rows == row_block || (rows <= b.rows && rows <= row_block);
    });
    if (!is_new) continue;
    for (const std::int64_t depth : depths) {
      if (depth <= whole_depth) blocks.push_back({row_block, depth});
    }
  }
  return blocks;
}

}  // namespace tenfold::cpu
