// How a matrix product or convolution is cut up where there is no tensor memory accelerator, or where its copies cannot
// take the operands: rows of any alignment, groups, float32 with all of its digits. The formula is that of
// gemm_schedule.hpp. All threads copy slices of k into a ring of stages (cp.async), and multiply with mma.sync or, for
// exact float32, on the ordinary cores.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/cuda/gemm_schedule.hpp"

namespace tenfold::cuda {

struct TileSchedule {
  DType element = DType::float16;  ///< of a: float16, bfloat16, float8e4m3, int8, uint8 (b: int8), float32
  DType output = DType::float16;   ///< any of these
  bool tf32 = false;               ///< float32 operands are rounded to 11 bits and multiplied by tensor cores
  RowSource rows = RowSource::matrix;           ///< matrix or image
  ColumnSource columns = ColumnSource::packed;  ///< packed here: [n][k], k over positions and channels without gaps
  int warps_m = 2, warps_n = 2;                 ///< warps of a block
  int warp_m = 64, warp_n = 32;                 ///< rows and columns of one warp
  int row_bytes = 64;                           ///< bytes of k in one slice: 64 or 128
  int stages = 4;
  int vector_bytes = 16;  ///< of a (and of a computed b) that are neighbours in memory and aligned: 16, 8, 4, 2, 1

  int element_bytes() const;
  int output_bytes() const;
  /// On the ordinary cores.
  bool is_exact() const { return element == DType::float32 && !tf32; }
  int slice() const { return row_bytes / element_bytes(); }
  int tile_m() const { return warps_m * warp_m; }
  int tile_n() const { return warps_n * warp_n; }
  int threads() const { return 32 * warps_m * warps_n; }
  int accumulators() const { return warp_m * warp_n / 32; }
  /// Neighbouring columns that one thread finishes at a time.
  int unit() const;
  std::int64_t shared_bytes() const;
  /// nullopt: can be built. Checked before any text is made, also for what an engine file says.
  std::optional<std::string> refuses() const;
  std::string describe() const;

  std::vector<std::int64_t> encode() const;
  /// Throws Error(incompatible_engine).
  static TileSchedule decode(std::span<const std::int64_t> parameters);
  bool operator==(const TileSchedule&) const = default;
};

/// `*_magic`: ceil(2^32 / divisor), for divisions by multiplication. A batch is a group of an image's channels.
TENFOLD_SHARED_STRUCT(
    kTileOperandsText, struct TileOperands {
      const void* a;
      const void* b;
      long long a_pitch, a_batch, b_pitch, b_batch;
      int k, steps;
      int channels, in_h, in_w;
      int columns, padded_columns;
      unsigned channels_magic, kernel_w_magic;
    });

}  // namespace tenfold::cuda
