// The sizes of the processor's matrix tiles (AMX), and what follows from them for memory; see tile_product.hpp.
#pragma once

#include <cstdint>

namespace tenfold::cpu {

/// A tile: rows of A or C by 64 bytes of depth or 16 columns of 4 bytes; 64 bytes of depth by 16 columns of B.
inline constexpr std::int64_t kTileRows = 16, kTileColumns = 16, kTileBytes = 64;
inline constexpr std::int64_t kTileSize = kTileRows * kTileBytes;
/// Two tiles of columns are a panel of B, [group of 4 bytes of depth][column][4 bytes].
inline constexpr std::int64_t kPanelTiles = 2, kPanelColumns = kPanelTiles * kTileColumns;

constexpr std::int64_t whole_tiles(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }
/// All panels of B, depth and columns padded with zeros to whole tiles.
constexpr std::int64_t tile_panel_bytes(std::int64_t depth_bytes, std::int64_t columns) {
  return whole_tiles(depth_bytes, kTileBytes) * whole_tiles(columns, kTileColumns) * kTileSize;
}
/// From row to row where A is copied. An odd number of lines: tiles spread over all sets of a cache.
constexpr std::int64_t tile_row_stride(std::int64_t depth_bytes) {
  return (whole_tiles(depth_bytes, kTileBytes) | 1) * kTileBytes;
}

}  // namespace tenfold::cpu
