// What the register tiles of depthwise convolutions share.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/activation.hpp"
#include "backend/cpu/kernels/depthwise.hpp"
#include "backend/cpu/kernels/simd.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

struct DepthwiseTile {
  const float* const* columns;  ///< [input rows][table_width], from the tile's first input column on
  std::int64_t table_width;
  std::int64_t rows_begin, rows_end;  ///< rows under the windows that lie in the image, from the first window's top on
  std::int64_t kernel_columns, stride, dilation;
  const float* weights;
  std::int64_t weights_stride;
  const float* bias;
  const float* residual;
  std::int64_t residual_stride, residual_line_stride;
  const Activation* activation;
  float* y;
  std::int64_t y_stride, y_line_stride;
  std::int64_t channel_begin, channel_end;
};

/// Loads and stores of whole vectors, or of the first `count` lanes.
template <typename V>
struct Whole {
  using Vector = V;
  V load(const float* p) const { return V::load(p); }
  void store(V v, float* p) const { v.store(p); }
};
template <typename V>
struct First {
  using Vector = V;
  int count;
  V load(const float* p) const { return V::load_first(p, count); }
  void store(V v, float* p) const { v.store_first(p, count); }
};

template <typename V, int kPixels, typename Lanes>
[[gnu::always_inline]] inline void finish_pixels(const DepthwiseTile& tile, int line, V (&sum)[kPixels], std::int64_t c,
                                                 Lanes lanes) {
  if (tile.residual != nullptr) {
    const float* residual = tile.residual + line * tile.residual_line_stride + c;
    const std::int64_t stride = tile.residual_stride;
#pragma GCC unroll 16
    for (int j = 0; j < kPixels; ++j) sum[j] = sum[j] + lanes.load(residual + j * stride);
  }
  activate(sum, *tile.activation, tile.activation->slopes_from(c), [lanes](const float* p) { return lanes.load(p); });
  float* y =
      tile.y + line * tile.y_line_stride + c;  // a copy: for all that the compiler knows, a store might change the tile
  const std::int64_t stride = tile.y_stride;
#pragma GCC unroll 16
  for (int j = 0; j < kPixels; ++j) lanes.store(sum[j], y + j * stride);
}

/// Calls f(channel, lanes) for whole vectors of channels, then for what is left. Without kHalves it is made for fewer
/// kinds of lanes.
template <bool kHalves = kHasHalf, typename F>
[[gnu::always_inline]] inline void for_each_vector(const DepthwiseTile& tile, F f) {
  constexpr int kWidth = Vec::kWidth;
  std::int64_t c = tile.channel_begin;
  for (; c + kWidth <= tile.channel_end; c += kWidth) f(c, Whole<Vec>{});
  const int rest = static_cast<int>(tile.channel_end - c);
  if (rest == 0) return;
  if constexpr (kHalves) {
    if (rest == Half::kWidth) return f(c, Whole<Half>{});
    if (rest < Half::kWidth) return f(c, First<Half>{rest});
  }
  f(c, First<Vec>{rest});
}

using DepthwiseTileFunction = void (*)(const DepthwiseTile&);

/// Tiles of several output lines, whose input rows are loaded once for all of them. Neither is dilated.
struct DepthwiseBlocks {
  int lines = 1;                           ///< the largest number of lines
  int pixels = 0;                          ///< of each line
  DepthwiseTileFunction by_lines[4] = {};  ///< from 2 on
};
/// The blocks for such windows and lines; one line if there are none. Defined in depthwise_blocks.cpp.
DepthwiseBlocks find_depthwise_blocks(const ConvRows& geometry);

}  // namespace tenfold::cpu::TENFOLD_TIER
