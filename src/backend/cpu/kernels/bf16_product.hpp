// Matrix products and convolutions whose factors are rounded to bfloat16, summed in float32.
//
// As in gemm.hpp, but B is packed as pairs, [panel][pair of depth][column][2], and depth is that of all taps: A's rows,
// or the windows of a convolution, are rounded and copied together some rows at a time. An instruction adds two
// products.
//
// Or, with tiles (tile_product.hpp), an instruction multiplies 16 rows by 16 columns. A is bfloat16 already, or rounded
// before; the result is float32 or bfloat16.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/gemm.hpp"
#include "backend/cpu/kernels/tiles.hpp"

namespace tenfold::cpu {

/// How tiles read the windows of a convolution.
enum class Windows : std::uint8_t {
  copied = 0,  ///< copied together, a block of rows at a time
  /// Where they lie in the image, see WindowLines. A tile of depth is 32 channels of one kernel position.
  by_pixels = 1,
  /// The same for a line of the kernel, whatever the channels are. Its depth is filled up to whole tiles with zeros in
  /// B; the pixels there in A do not count, as long as they are finite. Kernel positions are not dilated along a line.
  by_lines = 2,
};
/// Numbers of depth of a line of the kernel that is read by lines.
constexpr std::int64_t window_line_depth(std::int64_t kernel_columns, std::int64_t channels) {
  return whole_tiles(kernel_columns * channels * 2, kTileBytes) * (kTileBytes / 2);
}

struct Bf16Args {
  /// `panels` and `taps` do not count; depth is that of all taps. Of the tiling only tiles have a depth_block, in
  /// numbers.
  GemmArgs product;
  const std::uint16_t* panels = nullptr;
  // For tiles.
  std::uint16_t* rounded = nullptr;  ///< room for A, if it is float32; 64-byte aligned, see rounded_bytes
  /// A, C: are they stored as bfloat16? Then `product` has their addresses all the same; strides count numbers.
  bool a_is_bf16 = false, c_is_bf16 = false;
  /// By lines: so are `panels` packed. All but copied windows of bfloat16 need `rounded`.
  Windows windows = Windows::copied;
};

/// Room for plain rows, each with zeros up to whole tiles of depth.
constexpr std::int64_t rounded_bytes(std::int64_t rows, std::int64_t depth) {
  return rows * tile_row_stride(depth * 2);
}
/// Room for images, pixel after pixel.
constexpr std::int64_t rounded_image_bytes(std::int64_t pixels, std::int64_t channels) { return pixels * channels * 2; }

/// Windows that tiles read where they lie: a kernel position's rows of one line of results are pixels of one line of
/// the image, evenly spaced. What lies outside, left and right, is zeros in a copy of the image with longer lines;
/// above and below, one line of zeros.
struct WindowLines {
  std::int64_t pixels = 0;  ///< of a line; 0: windows must be copied together
  bool is_copied = false;   ///< else the image's own lines serve
};
/// `scratch_bytes`: what a thread has. Inlined by force: files for several tiers have it.
[[gnu::always_inline]] inline WindowLines window_lines(const ConvRows& conv, Windows windows, std::int64_t channels,
                                                       bool a_is_bf16, std::int64_t scratch_bytes) {
  constexpr std::int64_t kNumbers = kTileBytes / 2, kLongest = 1 << 20;
  const bool by_lines = windows == Windows::by_lines;
  if (windows == Windows::copied || (!by_lines && channels % kNumbers != 0)) return {};
  if (conv.pad[2] < 0 || conv.out[2] > kLongest) return {};
  // A line's sums, and where its tiles lie.
  const std::int64_t tiles = whole_tiles(conv.out[2], kTileRows);
  const std::int64_t line_depth = by_lines ? window_line_depth(conv.kernel[2], channels) : conv.kernel[2] * channels;
  const std::int64_t steps = conv.kernel[0] * conv.kernel[1] * (line_depth / kNumbers);
  constexpr std::int64_t kMargin = 64 << 10;
  if (tiles * (kPanelTiles * kTileSize + steps * std::int64_t{sizeof(void*)}) + kMargin > scratch_bytes) return {};
  const std::int64_t reach =
      (conv.out[2] - 1) * conv.stride[2] + (conv.kernel[2] - 1) * conv.dilation[2] + 1 - conv.pad[2];
  const std::int64_t pixels = conv.pad[2] + (reach > conv.in[2] ? reach : conv.in[2]);
  return {pixels, by_lines || !a_is_bf16 || pixels != conv.in[2]};
}
/// Room for the copied lines, and for one of zeros as long as a line of A, whose pixels are `a_stride` numbers apart,
/// with what a tile reads behind it.
[[gnu::always_inline]] inline std::int64_t window_line_bytes(const ConvRows& conv, const WindowLines& lines,
                                                             std::int64_t channels, std::int64_t a_stride) {
  const std::int64_t copied = lines.is_copied ? conv.batch * conv.in[0] * conv.in[1] : 0;
  return (copied + 1) * lines.pixels * (lines.is_copied ? channels : a_stride) * 2 + kTileBytes;
}

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
