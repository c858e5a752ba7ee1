// A tile is up to 16 neighbouring pixels of an output line by one vector of channels, its sums in registers. The input
// columns of a line are reached through a table of pointers, in which columns outside the image point to zeros, so
// edges cost nothing extra; kernel rows outside the image are skipped. Each input vector is loaded once for all the
// kernel columns that need it. A sum runs over kernel rows, then columns.
#include "backend/cpu/kernels/depthwise.hpp"

#include "backend/cpu/kernels/depthwise_line.hpp"
#include "backend/cpu/kernels/depthwise_tile.hpp"
#include "backend/cpu/kernels/finish.hpp"
#include "backend/cpu/kernels/split.hpp"
#include "backend/cpu/kernels/workers.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

constexpr std::int64_t kWidth = Vec::kWidth;
constexpr std::int64_t kItemsPerThread = 4;
/// Channels for each pixel of the input above which threads share the channels.
constexpr std::int64_t kManyChannels = 7;
/// Vectors of channels below which a part takes longer, because its loops are short.
constexpr std::int64_t kFewVectors = 12;
constexpr int kMaxPixels = Vec::kWidth == 16 ? 16 : 8;  // AVX-512 has twice the registers

/// Any window: one load for each multiply-add.
template <int kPixels>
void any_window_tile(const DepthwiseTile& tile) {
  for_each_vector(
      tile, [&tile](std::int64_t c, auto lanes) __attribute__((always_inline)) {
        using V = typename decltype(lanes)::Vector;
        V sum[kPixels];
        const V start = tile.bias != nullptr ? lanes.load(tile.bias + c) : V::zero();
#pragma GCC unroll 16
        for (int j = 0; j < kPixels; ++j) sum[j] = start;
        const float* weights = tile.weights + tile.rows_begin * tile.kernel_columns * tile.weights_stride + c;
        const float* const* line = tile.columns + tile.rows_begin * tile.table_width;
        for (std::int64_t ky = tile.rows_begin; ky < tile.rows_end; ++ky, line += tile.table_width) {
          for (std::int64_t kx = 0; kx < tile.kernel_columns; ++kx, weights += tile.weights_stride) {
            const V w = V::load(weights);
            const float* const* in = line + kx * tile.dilation;
#pragma GCC unroll 8
            for (int j = 0; j < kPixels; ++j) sum[j] = fma(lanes.load(in[j * tile.stride] + c), w, sum[j]);
          }
        }
        finish_pixels(tile, 0, sum, c, lanes);
      });
}

/// Kernel lines of kColumns without dilation: an input column serves all the sums that it belongs to.
template <int kColumns, int kStride, int kPixels>
void fixed_window_tile(const DepthwiseTile& tile) {
  constexpr int kInputs = (kPixels - 1) * kStride + kColumns;
  for_each_vector(
      tile, [&tile](std::int64_t c, auto lanes) __attribute__((always_inline)) {
        using V = typename decltype(lanes)::Vector;
        V sum[kPixels];
        const V start = tile.bias != nullptr ? lanes.load(tile.bias + c) : V::zero();
#pragma GCC unroll 16
        for (int j = 0; j < kPixels; ++j) sum[j] = start;
        const float* weights = tile.weights + tile.rows_begin * tile.kernel_columns * tile.weights_stride + c;
        const float* const* line = tile.columns + tile.rows_begin * tile.table_width;
        for (std::int64_t ky = tile.rows_begin; ky < tile.rows_end; ++ky, line += tile.table_width) {
          V w[kColumns];
#pragma GCC unroll 8
          for (int kx = 0; kx < kColumns; ++kx, weights += tile.weights_stride) w[kx] = V::load(weights);
#pragma GCC unroll 40
          for (int i = 0; i < kInputs; ++i) {
            const V x = lanes.load(line[i] + c);
#pragma GCC unroll 8
            for (int kx = 0; kx < kColumns; ++kx) {
              const int j = (i - kx) / kStride;
              if (i >= kx && (i - kx) % kStride == 0 && j < kPixels) sum[j] = fma(x, w[kx], sum[j]);
            }
          }
        }
        finish_pixels(tile, 0, sum, c, lanes);
      });
}

/// Tiles by number of pixels; what is missing is put together from smaller ones.
struct TileSet {
  DepthwiseTileFunction by_pixels[kMaxPixels + 1] = {};
};
constexpr TileSet any_window() {
  TileSet set;
  set.by_pixels[1] = any_window_tile<1>;
  set.by_pixels[2] = any_window_tile<2>;
  set.by_pixels[4] = any_window_tile<4>;
  set.by_pixels[7] = any_window_tile<7>;
  set.by_pixels[8] = any_window_tile<8>;
  return set;
}
template <int kColumns, int kStride>
constexpr TileSet fixed_window() {
  TileSet set;
  set.by_pixels[1] = fixed_window_tile<kColumns, kStride, 1>;
  set.by_pixels[2] = fixed_window_tile<kColumns, kStride, 2>;
  set.by_pixels[4] = fixed_window_tile<kColumns, kStride, 4>;
  set.by_pixels[7] = fixed_window_tile<kColumns, kStride, 7>;
  set.by_pixels[8] = fixed_window_tile<kColumns, kStride, 8>;
  if constexpr (kMaxPixels == 16) {
    set.by_pixels[14] = fixed_window_tile<kColumns, kStride, 14>;
    set.by_pixels[16] = fixed_window_tile<kColumns, kStride, 16>;
  }
  return set;
}
constexpr TileSet kAnyWindow = any_window();
template <int kColumns, int kStride>
constexpr TileSet kFixedWindow = fixed_window<kColumns, kStride>();

const TileSet& choose_tiles(const ConvRows& g) {
  if (g.dilation[2] == 1 || g.kernel[2] == 1) {
    if (g.kernel[2] == 3 && g.stride[2] == 1) return kFixedWindow<3, 1>;
    if (g.kernel[2] == 3 && g.stride[2] == 2) return kFixedWindow<3, 2>;
    if (g.kernel[2] == 5 && g.stride[2] == 1) return kFixedWindow<5, 1>;
    if (g.kernel[2] == 5 && g.stride[2] == 2) return kFixedWindow<5, 2>;
    if (g.kernel[2] == 7 && g.stride[2] == 1) return kFixedWindow<7, 1>;
  }
  return kAnyWindow;
}

/// How many of `rest` pixels the next tile takes: lines of 7 k pixels are common and take 14 or 7 at a time.
std::int64_t next_pixels(const TileSet& tiles, std::int64_t rest) {
  if (kMaxPixels == 16 && tiles.by_pixels[kMaxPixels] != nullptr && rest >= 14)
    return rest % 14 == 0 ? 14 : rest >= 16 ? 16 : 8;
  if (rest % 7 == 0) return 7;
  if (rest >= 8) return 8;
  return rest >= 4 ? 4 : rest >= 2 ? 2 : 1;
}

/// The tile's line i, on its own.
DepthwiseTile line_of_block(DepthwiseTile tile, int i, const ConvRows& g) {
  const std::int64_t rows = i * g.stride[1];
  tile.columns += rows * tile.table_width;
  tile.rows_begin = max(0, tile.rows_begin - rows);
  tile.rows_end = min(g.kernel[1], tile.rows_end - rows);
  tile.y += i * tile.y_line_stride;
  if (tile.residual != nullptr) tile.residual += i * tile.residual_line_stride;
  return tile;
}

/// Channels of `count` output lines of an image, as many as `blocks` take at once or one.
void run_lines(const DepthwiseArgs& args, const DepthwiseBlocks& blocks, const DepthwiseLine& line, int count,
               std::int64_t channel_begin, std::int64_t channel_end, const float** table) {
  const ConvRows& g = args.geometry;
  const TileSet& tiles = choose_tiles(g);
  const std::int64_t row = line.row, first_pixel = line.first_pixel;
  // The input rows under the windows that lie inside the image.
  const std::int64_t top = row * g.stride[1] - g.pad[1], step = g.dilation[1];
  const std::int64_t rows = (count - 1) * g.stride[1] + g.kernel[1];
  DepthwiseTile tile{};
  tile.rows_begin = top >= 0 ? 0 : min(rows, (-top + step - 1) / step);
  const std::int64_t below = g.in[1] - top;  // rows from the window's top to the image's end
  tile.rows_end = below <= 0 ? tile.rows_begin : max(tile.rows_begin, min(rows, (below + step - 1) / step));
  tile.kernel_columns = g.kernel[2];
  tile.stride = g.stride[2];
  tile.dilation = g.dilation[2];
  tile.weights = args.weights;
  tile.weights_stride = args.weights_stride;
  tile.bias = args.finish.bias;
  tile.residual_stride = args.finish.residual_stride;
  tile.residual_line_stride = g.out[2] * args.finish.residual_stride;
  tile.activation = &args.finish.activation;
  tile.y_stride = args.y_stride;
  tile.y_line_stride = g.out[2] * args.y_stride;
  tile.channel_begin = channel_begin;
  tile.channel_end = channel_end;
  for (std::int64_t begin = 0; begin < g.out[2]; begin += kDepthwiseLine) {
    const std::int64_t end = min(g.out[2], begin + kDepthwiseLine);
    const std::int64_t width = depthwise_table_width(g, end - begin);
    const std::int64_t first = begin * g.stride[2] - g.pad[2];
    const std::int64_t inside_begin = max(0, min(width, -first));
    const std::int64_t inside_end = max(inside_begin, min(width, g.in[2] - first));
    for (std::int64_t r = tile.rows_begin; r < tile.rows_end; ++r) {
      const float* pixels = line.image + (top + r * step) % line.ring * g.in[2] * args.x_stride;
      const float** out = table + r * width;
      std::int64_t i = 0;
      for (; i < inside_begin; ++i) out[i] = g.zeros;
      for (; i < inside_end; ++i) out[i] = pixels + (first + i) * args.x_stride;
      for (; i < width; ++i) out[i] = g.zeros;
    }
    tile.table_width = width;
    for (std::int64_t x = begin; x < end;) {
      tile.columns = table + (x - begin) * g.stride[2];
      tile.y = line.y + x * args.y_stride;
      tile.residual =
          args.finish.residual == nullptr ? nullptr : args.finish.residual + (first_pixel + x) * tile.residual_stride;
      const bool is_block = count > 1 && end - x >= blocks.pixels;
      const std::int64_t pixels = is_block ? blocks.pixels : next_pixels(tiles, end - x);
      if (is_block) {
        blocks.by_lines[count](tile);
      } else if (count == 1) {
        tiles.by_pixels[pixels](tile);
      } else {
        for (int i = 0; i < count; ++i) tiles.by_pixels[pixels](line_of_block(tile, i, g));
      }
      x += pixels;
    }
  }
  if (args.finish.program != nullptr) {
    run_finish_program(args.finish, line.y + channel_begin, args.y_stride, first_pixel, first_pixel + count * g.out[2],
                       channel_begin, channel_end);
  }
}

void run(const DepthwiseArgs& args, const Workers& workers) {
  const ConvRows& g = args.geometry;
  const std::int64_t lines = g.batch * g.out[1];
  if (lines <= 0 || g.out[2] <= 0 || args.channels <= 0) return;
  const std::int64_t threads = workers.pool->num_threads();
  const std::int64_t vectors = (args.channels + kWidth - 1) / kWidth;
  const std::int64_t wanted = threads == 1 ? 1 : kItemsPerThread * threads;
  const DepthwiseBlocks blocks = find_depthwise_blocks(g);
  // Small images with many channels are shared by channels, as the products that make them are.
  const bool by_channels = args.channels > kManyChannels * g.batch * g.in[1] * g.in[2];
  // Parts are no lower than a block, and no narrower than some vectors, as long as all threads have one. A few lines
  // that threads cannot share evenly are cut into halves of their channels, so that each thread has as much of them as
  // of the products' rows around.
  const bool are_uneven = threads > 1 && lines % threads != 0 && lines < 3 * threads;
  const std::int64_t blocks_of_lines = min(lines / blocks.lines, wanted) / threads * threads;
  const std::int64_t line_parts = by_channels ? 1 : are_uneven ? lines : max(min(lines, threads), blocks_of_lines);
  const std::int64_t runs_of_channels = min(vectors / kFewVectors, wanted) / threads * threads;
  const std::int64_t most_channel_parts = line_parts == 1             ? max(threads, runs_of_channels)
                                          : line_parts % threads != 0 ? 2
                                                                      : 1;
  const std::int64_t channel_parts = min((vectors + 3) / 4, most_channel_parts);
  const Cut line_cut{lines, 1, line_parts, shares_of(threads, 1, line_parts)};
  for_each_item(workers, line_parts * channel_parts, [&](std::int64_t item, std::byte* scratch) {
    const std::int64_t channel_part = item % channel_parts, line_part = item / channel_parts;
    const std::int64_t channel_begin = vectors * channel_part / channel_parts * kWidth;
    const std::int64_t channel_end = min(args.channels, vectors * (channel_part + 1) / channel_parts * kWidth);
    const std::int64_t end = line_cut.begin(line_part + 1);
    for (std::int64_t line = line_cut.begin(line_part); line < end;) {
      const std::int64_t image = line / g.out[1], row = line % g.out[1], first_pixel = line * g.out[2];
      const DepthwiseLine one{args.x + image * g.in[1] * g.in[2] * args.x_stride, g.in[1], row,
                              args.y + first_pixel * args.y_stride, first_pixel};
      const int count = next_depthwise_lines(min(end - line, g.out[1] - row), blocks.lines);
      run_lines(args, blocks, one, count, channel_begin, channel_end, reinterpret_cast<const float**>(scratch));
      line += count;
    }
  });
}

}  // namespace

void run_depthwise_lines(const DepthwiseArgs& args, const DepthwiseBlocks& blocks, const DepthwiseLine& line, int count,
                         const float** table) {
  run_lines(args, blocks, line, count, 0, args.channels, table);
}

const DepthwiseKernels kDepthwiseKernels = {run};

}  // namespace tenfold::cpu::TENFOLD_TIER
