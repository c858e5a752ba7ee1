// The register tile of the matrix product: kRows x kVectors accumulators that stay in registers over the whole depth.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/simd.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// Largest number of rows of any tile; tables of row pointers are this wide.
inline constexpr int kMaxTileRows = 12;
inline constexpr int kMaxTileVectors = 4;

struct TileArgs {
  const float* const* rows;  ///< [taps][kMaxTileRows], of which the tile's rows are used
  std::int64_t offset;       ///< added to each of them
  std::int64_t taps, depth;
  const float* panel;  ///< [taps][depth][kVectors * kWidth]
  float* c;
  std::int64_t c_stride;
  int tail;          ///< columns of the last vector that exist: 1 .. kWidth
  bool accumulates;  ///< continue the sums in c; else begin with bias, or zero
  const float* bias;
  const float* residual;  ///< nullptr: none
  std::int64_t residual_stride;
  bool clips;
  float low, high;
};

using TileFunction = void (*)(const TileArgs&);

/// nullptr if this tier has no such tile.
TileFunction find_tile(int rows, int vectors);
int max_tile_rows(int vectors);

// Without full unrolling gcc keeps the accumulators in memory, at a third of the speed.
#define TENFOLD_UNROLL _Pragma("GCC unroll 16")

template <int kRows, int kVectors>
void run_tile(const TileArgs& args) {
  constexpr int kWidth = Vec::kWidth;
  const bool whole = args.tail == kWidth;
  const std::int64_t c_stride = args.c_stride;
  Vec sum[kRows][kVectors];
  if (args.accumulates) {
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      TENFOLD_UNROLL
      for (int j = 0; j < kVectors; ++j) {
        const float* p = args.c + i * c_stride + j * kWidth;
        sum[i][j] = j + 1 < kVectors || whole ? Vec::load(p) : Vec::load_first(p, args.tail);
      }
    }
  } else {
    Vec start[kVectors];
    TENFOLD_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      const float* p = args.bias + j * kWidth;
      start[j] = args.bias == nullptr        ? Vec::zero()
                 : j + 1 < kVectors || whole ? Vec::load(p)
                                             : Vec::load_first(p, args.tail);
    }
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      TENFOLD_UNROLL
      for (int j = 0; j < kVectors; ++j) sum[i][j] = start[j];
    }
  }

  const float* panel = args.panel;
  const float* const* rows = args.rows;
  const std::int64_t depth = args.depth;
  for (std::int64_t t = 0; t < args.taps; ++t, rows += kMaxTileRows) {
    const float* a[kRows];
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) a[i] = rows[i] + args.offset;
    for (std::int64_t k = 0; k < depth; ++k) {
      Vec b[kVectors];
      TENFOLD_UNROLL
      for (int j = 0; j < kVectors; ++j) b[j] = Vec::load(panel + j * kWidth);
      panel += kVectors * kWidth;
      TENFOLD_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const Vec x = Vec::broadcast(a[i] + k);
        TENFOLD_UNROLL
        for (int j = 0; j < kVectors; ++j) sum[i][j] = fma(x, b[j], sum[i][j]);
      }
    }
  }

  if (args.residual != nullptr) {
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      TENFOLD_UNROLL
      for (int j = 0; j < kVectors; ++j) {
        const float* p = args.residual + i * args.residual_stride + j * kWidth;
        sum[i][j] = sum[i][j] + (j + 1 < kVectors || whole ? Vec::load(p) : Vec::load_first(p, args.tail));
      }
    }
  }
  if (args.clips) {
    const Vec low(args.low), high(args.high);
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      TENFOLD_UNROLL
      for (int j = 0; j < kVectors; ++j) sum[i][j] = math::min(math::max(sum[i][j], low), high);
    }
  }
  TENFOLD_UNROLL
  for (int i = 0; i < kRows; ++i) {
    TENFOLD_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      float* p = args.c + i * c_stride + j * kWidth;
      if (j + 1 < kVectors || whole) {
        sum[i][j].store(p);
      } else {
        sum[i][j].store_first(p, args.tail);
      }
    }
  }
}

}  // namespace tenfold::cpu::TENFOLD_TIER
