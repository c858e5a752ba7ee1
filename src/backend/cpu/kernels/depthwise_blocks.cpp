// Tiles of depthwise convolutions that are several lines high.
//
// What bounds a depthwise convolution is the way from the second-level cache: three lines of all channels are more than
// the first one holds, so a line of results loads each input line anew. A tile of several lines loads what their
// windows share once. Everything is unrolled, so that sums and weights stay in registers; rows outside the image are
// skipped. A sum runs over kernel rows, then columns, as in tiles of one line: the same bits.
#include "backend/cpu/kernels/depthwise_tile.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

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

template <int kKernel, int kStride, int kPixels>
constexpr DepthwiseBlocks two() {
  return {2, kPixels, {nullptr, nullptr, block_tile<kKernel, kStride, kPixels, 2>}};
}
template <int kKernel, int kStride, int kPixels>
constexpr DepthwiseBlocks up_to_three() {
  return {3,
          kPixels,
          {nullptr, nullptr, block_tile<kKernel, kStride, kPixels, 2>, block_tile<kKernel, kStride, kPixels, 3>}};
}

}  // namespace

DepthwiseBlocks find_depthwise_blocks(const ConvRows& g) {
  const std::int64_t kernel = g.kernel[2], stride = g.stride[2], width = g.out[2];
  if (g.dilation[1] != 1 || g.dilation[2] != 1 || g.kernel[1] != kernel || g.stride[1] != stride) return {};
#if defined(__AVX512F__)
  const bool sevens = width % 7 == 0;
  if (width < 7) return {};
  if (kernel == 3 && stride == 1) return sevens ? up_to_three<3, 1, 7>() : two<3, 1, 8>();
  if (kernel == 3 && stride == 2) return sevens ? up_to_three<3, 2, 7>() : two<3, 2, 8>();
  if (kernel == 5 && stride == 1) return sevens ? two<5, 1, 7>() : two<5, 1, 8>();
  if (kernel == 5 && stride == 2) return sevens ? two<5, 2, 7>() : two<5, 2, 8>();
#elif defined(__AVX2__)
  // Eight sums and six weights are what registers hold. Tiles of one line are twice as wide, so what is left of a line
  // must not be much.
  if (kernel == 3 && stride == 1 && (width % 4 == 0 || width >= 28)) return two<3, 1, 4>();
#endif
  return {};
}

}  // namespace tenfold::cpu::TENFOLD_TIER
