// What tactics that multiply by tiles (AMX) share: packed panels, and the sizes of blocks.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "backend/backend.hpp"
#include "backend/cpu/kernels/bf16_product.hpp"
#include "backend/cpu/kernels/tiles.hpp"
#include "base/float16.hpp"

namespace tenfold::cpu {

/// Packs B[k][n], given as value(k, n, part), see tile_product.hpp; T is bfloat16 or a byte.
template <typename T, typename Value>
std::vector<std::byte> pack_tile_panels(std::int64_t depth, std::int64_t columns, std::int64_t parts,
                                        const Value& value) {
  constexpr std::int64_t kSize = sizeof(T), kGroup = 4 / kSize, kTileDepth = kTileBytes / kSize;
  std::vector<std::byte> bytes(static_cast<std::size_t>(parts * tile_panel_bytes(depth * kSize, columns)));
  const std::int64_t padded_columns = whole_tiles(columns, kTileColumns) * kTileColumns;
  std::byte* out = bytes.data();
  for (std::int64_t n = 0; n < padded_columns; n += kPanelColumns) {
    const std::int64_t end = n + kPanelColumns < padded_columns ? n + kPanelColumns : padded_columns;
    for (std::int64_t tile = 0; tile < depth; tile += kTileDepth) {
      for (std::int64_t part = 0; part < parts; ++part) {
        for (std::int64_t first = tile; first < tile + kTileDepth; first += kGroup) {
          for (std::int64_t j = n; j < end; ++j) {
            for (std::int64_t k = first; k < first + kGroup; ++k, out += kSize) {
              const T x = j < columns && k < depth ? T(value(k, j, static_cast<int>(part))) : T();
              std::memcpy(out, &x, sizeof x);
            }
          }
        }
      }
    }
  }
  return bytes;
}
/// The same of one part, value(k, n).
template <typename T, typename Value>
std::vector<std::byte> pack_tile_panels(std::int64_t depth, std::int64_t columns, const Value& value) {
  return pack_tile_panels<T>(depth, columns, 1, [&](std::int64_t k, std::int64_t n, int) { return value(k, n); });
}
/// The same of float32 as the sum of three numbers of bfloat16, each rounded to nearest, see kernels/bf16_split.hpp.
template <typename Value>
std::vector<std::byte> pack_split_panels(std::int64_t depth, std::int64_t columns, const Value& value) {
  return pack_tile_panels<BFloat16>(depth, columns, kSplitParts, [&](std::int64_t k, std::int64_t n, int part) {
    float x = value(k, n);
    for (; part > 0; --part) x -= static_cast<float>(BFloat16(x));
    return x;
  });
}

/// Candidate parameters: [row_block, depth_block], rows and bytes of depth.
struct TileBlocks {
  std::int64_t rows, depth_bytes;
};
/// Throws Error(incompatible_engine) unless they are two sensible numbers.
TileBlocks tile_blocks_from(std::span<const std::int64_t> parameters);
/// Blocks worth timing for a product of so many rows, most promising first. `row_bytes`: what a row takes in the cache,
/// all parts of it; windows that are read where they lie (`has_lines`) share most of it.
std::vector<TileBlocks> promising_tile_blocks(std::int64_t rows, std::int64_t depth_bytes, std::int64_t row_bytes,
                                              std::int64_t parts = 1, bool has_lines = false);

}  // namespace tenfold::cpu
