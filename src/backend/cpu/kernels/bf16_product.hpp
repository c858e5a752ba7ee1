// Matrix products and convolutions whose factors are rounded to bfloat16, summed in float32.
//
// As in gemm.hpp, but B is packed as pairs, [panel][pair of depth][column][2], and depth is that of all taps: A's rows,
// or the windows of a convolution, are rounded and copied together some rows at a time. An instruction adds two
// products.
//
// Or, with tiles (tile_product.hpp), an instruction multiplies 16 rows by 16 columns. A is bfloat16 already, or rounded
// before; the result is float32 or bfloat16. Or A is float32 and so are its products: both factors are split into three
// parts of bfloat16 (bf16_split.hpp).
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

/// Of a float32 factor that is split, see bf16_split.hpp, and below which power of 2 its numbers must be.
constexpr std::int64_t kSplitParts = 3;
constexpr int kSplitLimitExponent = 55;

struct Bf16Args {
  /// `panels` and `taps` do not count; depth is that of all taps. Of the tiling only tiles have a depth_block, in
  /// numbers.
  GemmArgs product;
  const std::uint16_t* panels = nullptr;
  // For tiles.
  std::uint16_t* rounded = nullptr;  ///< room for images of float32 whose windows are copied; see rounded_image_bytes
  /// A, C: are they stored as bfloat16? Then `product` has their addresses all the same; strides count numbers.
  bool a_is_bf16 = false, c_is_bf16 = false;
  /// Are factors split? Then A is float32, and `panels` have three parts.
  bool is_split = false;
  std::int64_t parts() const { return is_split ? kSplitParts : 1; }
  /// By lines: so are `panels` packed.
  Windows windows = Windows::copied;
};

/// Room for a part of images, pixel after pixel. Other parts follow behind it.
constexpr std::int64_t rounded_image_bytes(std::int64_t pixels, std::int64_t channels) { return pixels * channels * 2; }

/// Windows that tiles read where they lie: a kernel position's rows of one line of results are pixels of one line of
/// the image, evenly spaced. What lies outside, left and right, is zeros in a copy of a block's lines with these longer
/// ones; above and below, one line of zeros.
struct WindowLines {
  std::int64_t pixels = 0;      ///< of a line; 0: windows must be copied together
  bool is_copied = false;       ///< else the image's own lines serve
  std::int64_t line_bytes = 0;  ///< from line to line, of one part
  std::int64_t extent = 0;      ///< lines of the image under a window
  /// Of the scratch memory, for a block of some lines of results: so much for each, and besides.
  std::int64_t bytes_per_line = 0, bytes_besides = 0;
};
/// `a_stride`: from pixel to pixel, in numbers; `scratch_bytes`: what a thread has. Inlined by force: files for several
/// tiers have it.
[[gnu::always_inline]] inline WindowLines window_lines(const ConvRows& conv, Windows windows, std::int64_t channels,
                                                       std::int64_t a_stride, bool a_is_bf16, std::int64_t parts,
                                                       std::int64_t scratch_bytes) {
  constexpr std::int64_t kNumber = 2, kNumbers = kTileBytes / kNumber, kLongest = 1 << 20;
  const bool by_lines = windows == Windows::by_lines;
  if (windows == Windows::copied || (!by_lines && channels % kNumbers != 0)) return {};
  if (conv.pad[2] < 0 || conv.out[2] > kLongest || conv.in[2] > kLongest) return {};
  if (conv.kernel[1] > kLongest || conv.dilation[1] > kLongest || conv.stride[1] > kLongest) return {};
  const std::int64_t reach =
      (conv.out[2] - 1) * conv.stride[2] + (conv.kernel[2] - 1) * conv.dilation[2] + 1 - conv.pad[2];
  WindowLines lines;
  lines.pixels = conv.pad[2] + (reach > conv.in[2] ? reach : conv.in[2]);
  lines.is_copied = by_lines || !a_is_bf16 || lines.pixels != conv.in[2];
  lines.line_bytes = lines.pixels * (lines.is_copied ? channels : a_stride) * kNumber;
  lines.extent = (conv.kernel[1] - 1) * conv.dilation[1] + 1;
  // A block's lines of one image, n of them, need (n - 1) * stride + extent; its first and last image may be parts.
  const std::int64_t stride = conv.stride[1], of_two = conv.out[1] > 1 ? (stride + lines.extent + 1) / 2 : lines.extent;
  if (lines.is_copied) {
    lines.bytes_per_line = parts * conv.kernel[0] * (stride > of_two ? stride : of_two) * lines.line_bytes;
    lines.bytes_besides = parts * conv.kernel[0] * 2 * lines.extent * lines.line_bytes;
  }
  lines.bytes_besides += parts * (lines.line_bytes + 2 * kTileBytes);
  // A line's sums, and where its tiles lie.
  const std::int64_t tiles = whole_tiles(conv.out[2], kTileRows);
  const std::int64_t line_depth = by_lines ? window_line_depth(conv.kernel[2], channels) : conv.kernel[2] * channels;
  const std::int64_t steps = conv.kernel[0] * conv.kernel[1] * (line_depth / kNumbers);
  constexpr std::int64_t kMargin = 64 << 10;
  const std::int64_t bytes = tiles * (kPanelTiles * kTileSize + steps * std::int64_t{sizeof(void*)}) +
                             lines.bytes_per_line + lines.bytes_besides;
  return bytes + kMargin > scratch_bytes ? WindowLines{} : lines;
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
