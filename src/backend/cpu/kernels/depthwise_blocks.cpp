// Tiles of depthwise convolutions that are several lines high.
//
// What bounds a depthwise convolution is the way from the second-level cache: three lines of all channels are more than
// the first one holds, so a line of results loads each input line anew. A tile of several lines loads what their
// windows share once. Everything is unrolled, so that sums and weights stay in registers; rows outside the image are
// skipped. A sum runs over kernel rows, then columns, as in tiles of one line: the same bits.
//
// AVX-512 only: sixteen registers hold two lines of four results, which load more for each than one line of eight.
#include "backend/cpu/kernels/depthwise_tile.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

#if defined(__AVX512F__)

template <int kKernel, int kStride, int kPixels, int kLines>
void block_tile(const DepthwiseTile& tile) {
  constexpr int kRows = (kLines - 1) * kStride + kKernel;
  constexpr int kColumns = (kPixels - 1) * kStride + kKernel;
  for_each_vector<false>(
      tile, [&tile](std::int64_t c, auto lanes) __attribute__((always_inline)) {
        using V = typename decltype(lanes)::Vector;
        V sum[kLines][kPixels];
        const V start = tile.bias != nullptr ? lanes.load(tile.bias + c) : V::zero();
#pragma GCC unroll 8
        for (int l = 0; l < kLines; ++l) {
#pragma GCC unroll 16
          for (int j = 0; j < kPixels; ++j) sum[l][j] = start;
        }
        const std::int64_t weights_stride = tile.weights_stride, table_width = tile.table_width;
        const float* weights = tile.weights + c;
        const float* const* columns = tile.columns;
        const std::int64_t rows_begin = tile.rows_begin, rows_end = tile.rows_end;
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r, columns += table_width) {
          if (r < rows_begin || r >= rows_end) continue;
          V w[kLines][kKernel];
#pragma GCC unroll 8
          for (int l = 0; l < kLines; ++l) {
            const int ky = r - l * kStride;
            if (ky < 0 || ky >= kKernel) continue;
#pragma GCC unroll 8
            for (int kx = 0; kx < kKernel; ++kx) w[l][kx] = V::load(weights + (ky * kKernel + kx) * weights_stride);
          }
#pragma GCC unroll 40
          for (int i = 0; i < kColumns; ++i) {
            const V x = lanes.load(columns[i] + c);
#pragma GCC unroll 8
            for (int l = 0; l < kLines; ++l) {
              const int ky = r - l * kStride;
              if (ky < 0 || ky >= kKernel) continue;
#pragma GCC unroll 8
              for (int kx = 0; kx < kKernel; ++kx) {
                const int j = (i - kx) / kStride;
                if (i >= kx && (i - kx) % kStride == 0 && j < kPixels) sum[l][j] = fma(x, w[l][kx], sum[l][j]);
              }
            }
          }
        }
#pragma GCC unroll 8
        for (int l = 0; l < kLines; ++l) finish_pixels(tile, l, sum[l], c, lanes);
      });
}

/// For lines of `width` results.
template <int kKernel, int kStride>
DepthwiseBlocks choose(std::int64_t width) {
  const bool sevens = width % 7 == 0;
  // Three lines of 5 x 5 windows or of eight results need more registers than there are.
  if (!sevens) return {2, 8, {nullptr, nullptr, block_tile<kKernel, kStride, 8, 2>}};
  if constexpr (kKernel == 3) {
    return {3, 7, {nullptr, nullptr, block_tile<3, kStride, 7, 2>, block_tile<3, kStride, 7, 3>}};
  } else {
    return {2, 7, {nullptr, nullptr, block_tile<kKernel, kStride, 7, 2>}};
  }
}

#endif

}  // namespace

DepthwiseBlocks find_depthwise_blocks([[maybe_unused]] const ConvRows& g) {
#if defined(__AVX512F__)
  const std::int64_t kernel = g.kernel[2], stride = g.stride[2], width = g.out[2];
  const bool is_square = g.kernel[1] == kernel && g.stride[1] == stride;
  if (!is_square || g.dilation[1] != 1 || g.dilation[2] != 1 || width < 7) return {};
  if (kernel == 3 && stride == 1) return choose<3, 1>(width);
  if (kernel == 3 && stride == 2) return choose<3, 2>(width);
  if (kernel == 5 && stride == 1) return choose<5, 1>(width);
  if (kernel == 5 && stride == 2) return choose<5, 2>(width);
#endif
  return {};
}

}  // namespace tenfold::cpu::TENFOLD_TIER
