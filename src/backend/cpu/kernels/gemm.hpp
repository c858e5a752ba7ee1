// Matrix products with packed right-hand sides, and convolutions seen as such products: what the kernels are given.
//
//   C[m, n] = finish( sum over taps t and depth k of  A_t[m][k] * B[t][k][n] )
//
// A plain product has one tap. A convolution over channels-last images has one tap for each kernel position: row m is
// an output pixel, A_t[m] points to the channels of the input pixel under that kernel position ("indirect convolution":
// Dukhan 2019, arXiv:1907.02129). Each result is summed by one chain of fused multiply-adds over t, then k, whatever
// the tile sizes and the number of threads, so they never change a bit.
//
// B is packed in panels of `panel width` columns, [panel][t][k][column]; the last panel is as narrow as whole vectors
// allow and padded with zeros.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/compiled_pointwise.hpp"
#include "backend/cpu/tier.hpp"
#include "backend/weight_panels.hpp"
#include "base/thread_pool.hpp"

namespace tenfold::cpu {

/// Threads and scratch memory.
struct Workers {
  ThreadPool* pool = nullptr;
  std::byte* scratch = nullptr;   ///< one block for each thread, 64-byte aligned
  std::size_t scratch_bytes = 0;  ///< of one block
};

/// A program operand over the result's rows and columns, see FinishArgs::group_rows.
struct FinishOperand {
  static constexpr int kMaxOuter = 8;
  const float* data = nullptr;
  bool is_bf16 = false;  ///< `data` are bfloat16 numbers, one for each element of the result
  std::int64_t row_stride = 0;
  std::int64_t col_stride = 0;  ///< 0 or 1
  int num_outer = 0;            ///< axes that count groups of rows, outermost first
  std::int64_t outer_dims[kMaxOuter] = {};
  std::int64_t outer_strides[kMaxOuter] = {};
};

/// What kernels can do to a result while it is in a register.
struct Activation {
  enum class Kind : std::uint8_t {
    none,
    clip,         ///< clip(x, low, high)
    linear_clip,  ///< clip(slope x + shift, low, high) scale + offset: HardSigmoid
    gated_clip,   ///< x clip(slope x + shift, low, high) scale + offset: HardSwish
    leaky,        ///< x, below 0 times slope, or times slopes[n] of its column
  };
  Kind kind = Kind::none;
  float low = 0, high = 0;
  float slope = 1, shift = 0, scale = 1, offset = 0;
  const float* slopes = nullptr;  ///< one for each column, or nullptr
  const float* slopes_from(std::int64_t column) const { return slopes == nullptr ? nullptr : slopes + column; }
};

/// What happens to a sum:  activation(x + bias[n] + residual[m, n])  in registers, then `program` on the tile in cache.
struct FinishArgs {
  static constexpr int kMaxOperands = 8;
  const float* bias = nullptr;  ///< one for each column
  const float* residual = nullptr;
  bool residual_is_bf16 = false;  ///< as FinishOperand::is_bf16; kernels that Bf16Args belongs to
  std::int64_t residual_stride = 0;
  Activation activation;
  const CompiledPointwise* program = nullptr;
  /// Input 0 is the result itself; the others are operands[1 ..]. Within `group_rows` rows, counted from row 0, each is
  /// affine in the row.
  FinishOperand operands[kMaxOperands];
  std::int64_t group_rows = 0;
};

struct GemmTiling {
  int tile_rows = 0;             ///< of the register tile
  int tile_vectors = 0;          ///< its columns, in vectors: the panel width
  std::int64_t depth_block = 0;  ///< multiply-adds of a row between two visits of C; whole taps when it covers one
  std::int64_t row_block = 0;    ///< rows that share a pass over the panels
};

/// A convolution's rows: output pixels in the order [batch, out[0], out[1], out[2]].
struct ConvRows {
  std::int64_t batch = 1;
  std::int64_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1}, kernel[3] = {1, 1, 1};
  std::int64_t stride[3] = {1, 1, 1}, dilation[3] = {1, 1, 1}, pad[3] = {0, 0, 0};
  const float* zeros = nullptr;  ///< `depth` zeros, for taps outside the image
  std::int64_t plane = 0;        ///< of run_lines: floats from a channel's plane to the next one's; 0: channels last
};

/// Products with at most so many columns can be computed as dot products, lanes running along the depth.
inline constexpr int kMaxDotColumns = 4;
inline constexpr int kDotLanes = 8;

struct GemmArgs {
  std::int64_t rows = 0, columns = 0, depth = 0, taps = 1;
  std::int64_t groups = 1;  ///< group g: columns of A and C shifted by g * depth and g * columns, its own panels
  const float* a = nullptr;
  std::int64_t a_stride = 0;       ///< from row to row; with `conv` from pixel to pixel
  const ConvRows* conv = nullptr;  ///< nullptr: plain rows
  const float* panels = nullptr;   ///< 64-byte aligned
  bool dots = false;               ///< of run_lines: panels are [group][column][line][its depth, padded to kDotLanes]
  float* c = nullptr;
  std::int64_t c_stride = 0;
  FinishArgs finish;
  GemmTiling tiling;
  WeightPanels next_weights;  ///< of `run`: threads ask for them at the end of their shares
};

/// A batch of products whose right-hand sides are packed on the way.
struct BatchedGemmArgs {
  std::int64_t batch = 1;
  std::int64_t rows = 0, columns = 0, depth = 0;
  const float* a = nullptr;
  const float* b = nullptr;
  float* c = nullptr;
  std::int64_t a_stride = 0, b_stride = 0, c_stride = 0;  ///< from row to row, as stored
  bool trans_a = false, trans_b = false;                  ///< a is stored [depth, rows], b [columns, depth]
  /// Where the matrices of the batch begin: element offset = sum of index * stride over the axes, outermost first.
  int num_axes = 0;
  std::int64_t axis_dims[8] = {};
  std::int64_t a_axis_strides[8] = {}, b_axis_strides[8] = {};
  std::int64_t c_matrix_stride = 0;
  FinishArgs finish;  ///< over all rows of the batch: row = matrix * rows + m
  GemmTiling tiling;
};

/// Numbers of a window for GemmKernels::run_lines: windows must fit in the scratch memory.
inline constexpr std::int64_t kMaxLinesDepth = 8192;

struct GemmKernels {
  /// The tallest register tile that is `vectors` vectors wide; 0 if there is none.
  int (*max_tile_rows)(int vectors);
  /// How many panels of so many vectors a plain product reads side by side, if it has so few rows; 0 for more rows.
  std::int64_t (*max_row_panels)(std::int64_t rows, int vectors);
  void (*run)(const GemmArgs& args, const Workers& workers);
  /// A convolution whose kernel positions of one line are taken as one tap, kernel[2] times as deep; for few channels.
  /// A window, with what lies between dilated positions, has at most kMaxLinesDepth numbers. Looks at no depth_block.
  void (*run_lines)(const GemmArgs& args, const Workers& workers);
  void (*run_batched)(const BatchedGemmArgs& args, const Workers& workers);
};
TENFOLD_TIER_TABLE(GemmKernels, kGemmKernels)

}  // namespace tenfold::cpu
