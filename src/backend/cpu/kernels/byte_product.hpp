// Products of 8-bit integers, and convolutions seen as such products: what the kernels are given.
//
//   C[m, n] = finish( sum over k of (A[m][k] - zero point) * B[k][n] )
//
// A is unsigned, or signed and then shifted by 128 on the way, B signed; sums are exact in 32 bits. They begin with
// what the zero point makes of a column, -zero * sum over k of B[k][n], so that the products are those of the bytes as
// they are. Four of them are added at once ("quads"): B is packed in panels, [panel][quad][column][4], the last panel
// as narrow as whole vectors allow, depth and columns padded with zeros. The windows of a convolution are first copied
// together, some rows at a time; outside the image they hold the zero point.
//
// Without the processor's instruction for quads there are two others. One multiplies bytes and adds two products in 16
// bits, where they may saturate; one does so with 16-bit numbers in 32 bits. Saturation is ruled out by the weights: a
// 16-bit sum stays within 255 * 128 if neither the positive nor the negative ones of its weights add up to more than
// 128. Rows are copied in several versions, kQuadVersions, so that for each quad two things can be chosen: which two of
// its four products are added, and whether one of these two is made of the weight with the other sign: a * w is
// 255 * w + (255 - a) * -w, of which the first belongs to where sums begin. So panels made for these instructions, of
// one vector of columns, are ordered, each segment of their depth for itself:
//   fours    the sums of four quads fit in 16 bits together
//   paired   those of two do
//   single   those of each quad do
//   wide     they do not: weights are 16-bit numbers, [even, odd][column][2], and so become those of the rows
//
// Or, with tiles (tile_product.hpp), an instruction multiplies 16 rows by 16 columns, of signed or of unsigned bytes.
#pragma once

#include <cstdint>
#include <iterator>

#include "backend/cpu/kernels/gemm.hpp"
#include "backend/cpu/kernels/tiles.hpp"

namespace tenfold::cpu {

/// int32: of products alone, whose results are the sums as they are.
enum class ByteResult : std::uint8_t { float32, uint8, int8, int32 };

/// What happens to a sum. Nothing, for a result of int32. Else, in registers:
///   clip(x + residual[m, n] * residual_scale, low, high)  rounded, + zero_point, as bytes
/// where x is sum * scale[n] + offset[n], or what becomes of it if it is first made an integer as well, `rounds_first`:
///   round(clip(sum * scale[n] + offset[n], first_low, first_high)) * factor + shift
/// or, with a program: the program on the sums as floats, in cache; rounded and saturated. With a program and scales,
/// whose results are floats, the program follows what is done in registers.
struct ByteFinish {
  ByteResult result = ByteResult::float32;
  const float* scale = nullptr;  ///< nullptr, or one for each column, and offsets
  const float* offset = nullptr;
  bool rounds_product = false;  ///< is sum * scale[n] rounded before offset[n] is added?
  bool rounds_first = false;
  float first_low = 0, first_high = 0, factor = 1, shift = 0;
  const void* residual = nullptr;  ///< nullptr: none
  ByteResult residual_type = ByteResult::float32;
  std::int64_t residual_stride = 0;
  float residual_scale = 0;
  float low = 0, high = 0;  ///< within the range of the result, less zero_point
  bool has_limits = true;   ///< else they are those of the bytes, and saturation does it: `fits`
  bool fits = false;        ///< do results fit in 32 bits before they are limited?
  std::int32_t zero_point = 0;
  /// Of it `program`, `operands` and `group_rows` count. The data of an operand is of its type.
  FinishArgs program;
  ByteResult operand_types[FinishArgs::kMaxOperands] = {};
};

struct ByteTiling {
  int tile_rows = 0;             ///< of the register tile
  int tile_vectors = 0;          ///< its columns, in vectors: the panel width
  std::int64_t row_block = 0;    ///< rows that share a pass over the panels
  std::int64_t depth_block = 0;  ///< of tiles: bytes of a row between two visits of C; of ordered panels: a segment
};

/// The bytes of a quad in one of the versions of rows: byte i is that at order[i], or 255 less that.
struct QuadVersion {
  int order[4];
  bool flips[4];
};
constexpr QuadVersion kQuadVersions[] = {
    {{0, 1, 2, 3}, {}},
    {{0, 2, 1, 3}, {}},
    {{0, 3, 1, 2}, {}},
    {{0, 1, 2, 3}, {false, true, false, true}},
    {{0, 2, 1, 3}, {false, true, false, true}},
    {{0, 3, 1, 2}, {false, true, false, true}},
};
constexpr std::int64_t kNumQuadVersions = std::size(kQuadVersions);
/// A segment uses the first one, the first three or all of them.
constexpr std::size_t kVersionSets[] = {1, 3, std::size(kQuadVersions)};
/// Of so many bytes of a row, rounded up to what is copied at once.
constexpr std::int64_t version_quads(std::int64_t depth) { return (depth + 31) / 32 * 8; }
/// The order of a panel's quads: [how many are in fours, how many paired, how many single, the versions that are needed
/// as bits, then for each quad where it is in the segment: version * version_quads + quad]. Wide ones are of version 0.
constexpr std::int64_t kOrderHead = 4;
constexpr std::int64_t panel_order_size(std::int64_t quads) { return kOrderHead + quads; }
/// Vectors of weights that a panel of this order holds.
constexpr std::int64_t ordered_panel_vectors(const std::uint16_t* order, std::int64_t quads) {
  return 2 * quads - order[0] - order[1] - order[2];
}
constexpr std::int64_t kMaxOrderedRows = 8;      ///< of the register tile
constexpr std::int64_t kMaxOrderedDepth = 8192;  ///< of a segment: what is copied of rows fits in the scratch memory

struct ByteProductArgs {
  std::int64_t rows = 0, columns = 0, depth = 0;
  std::int64_t groups =
      1;  ///< group g: columns of A and C shifted by g * depth (of a tap) and g * columns, its own panels
  const std::uint8_t* a = nullptr;
  std::int64_t a_stride = 0;  ///< from row to row; with `conv` from pixel to pixel
  bool a_is_signed = false;
  std::uint8_t zero = 0;           ///< the zero point, as a byte of A
  const ConvRows* conv = nullptr;  ///< nullptr: plain rows. Depth is that of all taps
  const std::int8_t* panels = nullptr;
  const std::uint16_t* orders = nullptr;  ///< [group][segment][panel][panel_order_size(quads)]; nullptr: not ordered
  const std::int64_t* panel_offsets = nullptr;  ///< of ordered panels: where each is, in the same sequence
  const std::int32_t* start = nullptr;          ///< [group][columns, padded to whole vectors]
  void* c = nullptr;
  std::int64_t c_stride = 0;
  ByteFinish finish;
  ByteTiling tiling;
  bool has_byte_dot = false;  ///< may the processor's own instruction be used? Not for ordered panels
};

struct ByteDepthwiseArgs {
  ConvRows geometry;  ///< axis 0 is unused: sizes of 1
  std::int64_t channels = 0;
  const std::uint8_t* x = nullptr;
  std::int64_t x_stride = 0;  ///< from pixel to pixel
  bool x_is_signed = false;
  std::uint8_t zero = 0;
  /// [block of channels][kernel column][quad of rows][line of the tile][vector][lane][4], see byte_depthwise.cpp
  const std::int8_t* weights = nullptr;
  const std::int32_t* start = nullptr;  ///< this and the finish's scale and offset in the order of the blocks' lanes
  void* y = nullptr;
  std::int64_t y_stride = 0;
  ByteFinish finish;
  bool has_byte_dot = false;
};

/// How many lines of results are computed together, and from how many quads of input lines.
struct DepthwiseTile {
  std::int64_t lines, quads;
};
constexpr DepthwiseTile depthwise_tile(std::int64_t kernel, std::int64_t stride, std::int64_t dilation) {
  const std::int64_t lines = stride == 1 && dilation == 1 ? 2 : 1;
  // With a dilation a quad holds lines of the kernel instead of neighbours; then there is one line of results.
  return {lines, (kernel + (lines - 1) + 3) / 4};
}
/// Channels of a block: those of four vectors.
constexpr std::int64_t depthwise_block(int vector_floats) { return 4 * std::int64_t{vector_floats}; }
/// The channel within a block of a lane of one of its vectors.
constexpr std::int64_t depthwise_channel(std::int64_t vector, std::int64_t lane) {
  return lane / 4 * 16 + vector * 4 + lane % 4;
}

struct ByteKernels {
  /// Bytes as floats and back: rounded to nearest even, saturated.
  void (*to_floats)(const std::uint8_t* from, std::int64_t count, ByteResult type, float* to);
  void (*from_floats)(const float* from, std::int64_t count, ByteResult type, std::uint8_t* to);
  /// The tallest register tile that is `vectors` vectors wide; 0 if there is none.
  int (*max_tile_rows)(int vectors);
  void (*run)(const ByteProductArgs& args, const Workers& workers);
  /// Requires the columns that a piece of a line of kDepthwiseLine results reads to fit in the scratch memory.
  void (*run_depthwise)(const ByteDepthwiseArgs& args, const Workers& workers);
};
TENFOLD_TIER_TABLE(ByteKernels, kByteKernels)

struct ByteTileKernels {
  /// One group, `orders` and `has_byte_dot` do not count, and A is multiplied as it is, so that `start` is -zero point
  /// * sum. nullptr in tiers without the instructions. Requires has_byte_tiles().
  void (*run)(const ByteProductArgs& args, const Workers& workers);
};
TENFOLD_TIER_TABLE(ByteTileKernels, kByteTileKernels)

}  // namespace tenfold::cpu
