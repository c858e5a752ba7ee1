// Matrix products and convolutions whose factors are rounded to bfloat16, summed in float32.
//
// As in gemm.hpp, but B is packed as pairs, [panel][pair of depth][column][2], and depth is that of all taps: A's rows,
// or the windows of a convolution, are rounded and copied together some rows at a time. An instruction adds two
// products.
//
// Or, with tiles (tile_product.hpp), an instruction multiplies 16 rows by 16 columns. A is rounded as a whole before.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/gemm.hpp"
#include "backend/cpu/kernels/tiles.hpp"

namespace tenfold::cpu {

struct Bf16Args {
  /// `panels` and `taps` do not count; depth is that of all taps. Of the tiling only tiles have a depth_block, in
  /// numbers.
  GemmArgs product;
  const std::uint16_t* panels = nullptr;
  std::uint16_t* rounded = nullptr;  ///< for tiles: room for A, 64-byte aligned; see rounded_bytes
};

/// Room for plain rows, each with zeros up to whole tiles of depth.
constexpr std::int64_t rounded_bytes(std::int64_t rows, std::int64_t depth) {
  return rows * tile_row_stride(depth * 2);
}
/// Room for images, pixel after pixel.
constexpr std::int64_t rounded_image_bytes(std::int64_t pixels, std::int64_t channels) { return pixels * channels * 2; }

struct Bf16Kernels {
  /// nullptr in tiers without the instruction. Requires has_bf16_dot().
  void (*run)(const Bf16Args& args, const Workers& workers);
};
TENFOLD_TIER_TABLE(Bf16Kernels, kBf16Kernels)

struct Bf16TileKernels {
  /// nullptr in tiers without the instructions. Requires has_bf16_tiles().
  void (*run)(const Bf16Args& args, const Workers& workers);
};
TENFOLD_TIER_TABLE(Bf16TileKernels, kBf16TileKernels)

}  // namespace tenfold::cpu
