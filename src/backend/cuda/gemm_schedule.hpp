// How a matrix product or convolution is cut up on a Hopper GPU, and what its kernels are given.
//
//   out[m][n] = epilogue(sum over k of a[m][k] * b[n][k] + bias[n])
//
// One row m is a row of the matrix or an output pixel; then k runs over (kernel row, kernel column, channel). A tile of
// tile_m() by tile_n results is computed at a time. One warp loads operands through the tensor memory accelerator into
// a ring of stages, `consumers` warpgroups multiply and finish.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/cuda/hopper_text.hpp"
#include "graph/dtype.hpp"

namespace tenfold::cuda {

/// Where rows of `a` come from.
enum class RowSource : std::uint8_t {
  matrix = 0,      ///< [batch][m][k]
  image = 1,       ///< gathered from an image [n][h][w][channels] by im2col loads
  transposed = 2,  ///< [batch][k][m]
};
/// How `b` lies in memory.
enum class ColumnSource : std::uint8_t {
  packed = 0,      ///< [n][k] constants, rows permuted so that a thread finishes neighbouring columns; see column_of
  matrix = 1,      ///< [batch][n][k], computed
  transposed = 2,  ///< [batch][k][n], computed
};

struct GemmSchedule {
  DType element = DType::float16;  ///< of a: float16, bfloat16, float8e4m3, int8, uint8 (b: int8), float32 (as tf32)
  DType output = DType::float16;   ///< any of these
  RowSource rows = RowSource::matrix;
  ColumnSource columns = ColumnSource::packed;
  int consumers = 2;  ///< warpgroups that multiply, 1 to 4
  int blocks_m = 1;   ///< blocks of 64 rows per warpgroup
  int tile_n = 128;
  int row_bytes = 128;      ///< bytes of k per row and load: 128, 64 or 32, the swizzle's span
  int loads_per_stage = 1;  ///< loads of row_bytes along k in one stage
  int stages = 4;
  bool resident = false;     ///< all of a tile's columns stay in shared memory, and the block walks down the rows
  bool ping_pong = false;    ///< every warpgroup has its own tile; they take turns at the tensor cores
  int staged_residuals = 0;  ///< tiles of the epilogue's first whole operand, loaded ahead; 0: read where it is used
  int split_k = 0;           ///< blocks of a cluster that share one tile's k, 1 to 8; 0: persistent blocks
  bool gated = false;        ///< two columns of b make one of the result: groups of them lie side by side in a tile

  int element_bytes() const;
  int output_bytes() const;
  int row_elements() const { return row_bytes / element_bytes(); }
  int tile_m() const { return (ping_pong ? 1 : consumers) * blocks_m * 64; }
  /// Columns of the result that a tile makes.
  int result_columns() const { return gated ? tile_n / 2 : tile_n; }
  int threads() const { return (consumers + 1) * 128; }
  /// Neighbouring columns that one thread finishes at a time.
  int unit() const;
  /// Shared memory for a product of `loads_k` loads along k.
  std::int64_t shared_bytes(std::int64_t loads_k) const;
  /// nullopt: can be built. Checked before any text is made, also for what an engine file says.
  std::optional<std::string> refuses() const;
  std::string describe() const;

  std::vector<std::int64_t> encode() const;
  /// Throws Error(incompatible_engine).
  static GemmSchedule decode(std::span<const std::int64_t> parameters);
  bool operator==(const GemmSchedule&) const = default;
};

/// Row `position` of the packed b holds this column. Within groups of 4 units the accumulators of a thread, which are
/// columns 8 j + 2 q + {0, 1} for lane q of four, become the neighbours unit * q ...
constexpr int column_of(int position, int unit) {
  const int group = 4 * unit, inside = position % group;
  const int j = inside / 8, q = inside % 8 / 2, e = inside % 2;
  return position - inside + unit * q + 2 * j + e;
}

inline constexpr int kMaxEpilogueOperands = 6;
inline constexpr int kMaxSharedBytes = 227 * 1024;

TENFOLD_SHARED_STRUCT(
    kGemmArgumentsText,
    struct EpilogueOperand {
      const void* data;
      long long stride_n, stride_p, stride_q;
    };
    struct GemmArguments {
      void* out;
      const float* bias;
      long long out_pitch;
      int m, n, steps_k, batches;
      int tiles_m, tiles_n, group_m, aligned;
      int a_batched, b_batched;
      int channel_loads, kernel_w, out_h, out_w;
      int stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
      EpilogueOperand operands[6];
    });

}  // namespace tenfold::cuda
