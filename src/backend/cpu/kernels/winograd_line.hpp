// Winograd's minimal filtering along one axis, for windows that are long in one direction and one pixel wide in all
// others, at stride 1, on channels-last images.
//
// A window of three is F(4, 3). A longer one is cut into blocks of four, filled up with zeros, each F(4, 4): because a
// block is as long as a tile of results, the transformed input of block b of tile t is that of tile t + b, made once:
//
//   Y_t = A^T [ sum over b  (G g_b) . (B^T d_(t+b)) ]      four results, from seven products for each four taps
//
// So 64 taps take 7/16 of the multiply-adds. Points 0, 1, -1, 2, -2, 1/2, infinity; source of the construction:
// Winograd, Arithmetic Complexity of Computations, SIAM 1980. Rounding errors are about 2 times those of the plain sum
// (random numbers, depth 256, rms).
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/gemm.hpp"

namespace tenfold::cpu {

inline constexpr std::int64_t kLineTile = 4;  ///< results of a tile
/// Taps of a block, and blocks, of a window of so many taps (at least 3).
constexpr std::int64_t line_block_taps(std::int64_t kernel) { return kernel == 3 ? 3 : 4; }
constexpr std::int64_t line_blocks(std::int64_t kernel) {
  return (kernel + line_block_taps(kernel) - 1) / line_block_taps(kernel);
}
/// Products for each tile and block.
constexpr std::int64_t line_positions(std::int64_t kernel) { return kLineTile + line_block_taps(kernel) - 1; }

struct WinogradLineArgs {
  /// Lines along the axis: [outer][length][inner] pixels of the input and of the output.
  std::int64_t outer = 0, inner = 0, in_length = 0, out_length = 0;
  std::int64_t kernel = 0, pad = 0;  ///< taps, and pixels before the first one
  std::int64_t in_channels = 0, out_channels = 0;
  const float* x = nullptr;
  std::int64_t x_stride = 0;      ///< from pixel to pixel
  const float* zeros = nullptr;   ///< in_channels, padded to whole vectors
  const float* panels = nullptr;  ///< [position][panel][block][in_channels][column]: transformed weights
  float* y = nullptr;
  std::int64_t y_stride = 0;
  std::byte* workspace = nullptr;  ///< of winograd_line_bytes of a part
  FinishArgs finish;
  GemmTiling tiling;  ///< row_block: tiles that are transformed together
};

/// Tiles of some lines that are transformed together.
struct LinePart {
  std::int64_t tiles, lines;
};
LinePart winograd_line_part(std::int64_t out_length, std::int64_t lines, std::int64_t row_block);
/// Bytes for its transformed input and products.
std::int64_t winograd_line_bytes(const LinePart& part, std::int64_t kernel, std::int64_t in_channels,
                                 std::int64_t out_channels);

struct WinogradLineKernels {
  /// Requires that one tile fits in the scratch memory.
  void (*run)(const WinogradLineArgs& args, const Workers& workers);
};
TENFOLD_TIER_TABLE(WinogradLineKernels, kWinogradLineKernels)

}  // namespace tenfold::cpu
