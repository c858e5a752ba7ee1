// Winograd's minimal filtering for 3 x 3 windows on channels-last images: F(m x m, 3 x 3), m = 2 or 4, at stride 1
// or 2.
//
//   Y = A^T [ (G g G^T) . (B^T d B) ] A      for each m x m tile of the output, d its (m+2) x (m+2) input
// The products of all channels at one of the (m+2)^2 positions form a matrix product [tiles] x [channels] x [filters].
// Source: Lavin and Gray 2016, arXiv:1509.09308. Rounding errors are larger than in a plain sum: by about 2 for m = 2
// and 10 for m = 4.
//
// At stride 2 the first and the last tap of a line only meet every other pixel, and the middle one the pixels between
// them: F(m, 2) and m plain products. That is 2 m + 1 products for m results instead of 3 m, of m + 2 filters, because
// the plain products share one: positions with the same filter follow each other and are one matrix product.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/gemm.hpp"

namespace tenfold::cpu {

/// Images with at most this many tiles may be transformed as a whole into workspace, and the matrix products spread
/// over the threads by position, if their filters are large; others are cut into blocks of tiles that each stay in one
/// thread's scratch memory.
inline constexpr std::int64_t kWinogradSharedTiles = 64;

struct WinogradArgs {
  int tile_size = 0;  ///< m; the stride is the geometry's
  ConvRows geometry;  ///< axis 0 unused; zeros: in_channels, padded to whole vectors
  std::int64_t in_channels = 0, out_channels = 0;
  const float* x = nullptr;
  std::int64_t x_stride = 0;
  const float* panels = nullptr;  ///< [filter][panel][in_channels][column]: transformed weights
  float* y = nullptr;
  std::int64_t y_stride = 0;
  std::byte* workspace = nullptr;
  FinishArgs finish;
  GemmTiling tiling;  ///< row_block: tiles in a block
};

/// Products of a tile along one axis, and of how many filters.
constexpr std::int64_t winograd_positions(std::int64_t tile_size, std::int64_t stride) {
  return stride == 1 ? tile_size + 2 : 2 * tile_size + 1;
}
constexpr std::int64_t winograd_filters(std::int64_t tile_size) { return tile_size + 2; }
/// Tiles of the whole batch.
std::int64_t winograd_tiles(int tile_size, const ConvRows& geometry);
/// Bytes for the transformed input and the products of `tiles` tiles.
std::int64_t winograd_bytes(int tile_size, std::int64_t stride, std::int64_t tiles, std::int64_t in_channels,
                            std::int64_t out_channels);

struct WinogradKernels {
  void (*run)(const WinogradArgs& args, const Workers& workers);
};
TENFOLD_TIER_TABLE(WinogradKernels, kWinogradKernels)

}  // namespace tenfold::cpu
