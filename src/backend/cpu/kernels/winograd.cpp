#include "backend/cpu/kernels/winograd.hpp"

#include "backend/cpu/kernels/finish.hpp"
#include "backend/cpu/kernels/gemm_block.hpp"
#include "backend/cpu/kernels/split.hpp"
#include "backend/cpu/kernels/winograd_transforms.hpp"
#include "backend/cpu/kernels/workers.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

constexpr std::int64_t kWidth = Vec::kWidth;
/// Transformed filters of this size fit into half of a core's second-level cache.
constexpr std::int64_t kOwnFilterBytes = 256 << 10;
/// Of this size they may be read once for each of so many blocks of a thread, which grow smaller, so that threads end
/// together.
constexpr std::int64_t kRepeatedFilterBytes = 1 << 20, kMostBlocks = 3;

template <int kTile, int kStride>
class Winograd {
 public:
  static constexpr int kInput = (kTile - 1) * kStride + 3;
  /// Products along one axis, and their filters; the last filter is that of all further ones.
  static constexpr int kLine = static_cast<int>(winograd_positions(kTile, kStride));
  static constexpr int kLineFilters = static_cast<int>(winograd_filters(kTile));
  static constexpr int kPositions = kLine * kLine, kFilters = kLineFilters * kLineFilters;

  explicit Winograd(const WinogradArgs& args)
      : args_(args),
        g_(args.geometry),
        tiles_x_(ceil_div(g_.out[2], kTile)),
        tiles_y_(ceil_div(g_.out[1], kTile)),
        in_padded_(ceil_div(args.in_channels, kWidth) * kWidth),
        out_padded_(ceil_div(args.out_channels, kWidth) * kWidth) {}

  void run(const Workers& workers) const {
    const std::int64_t tiles = g_.batch * tiles_y_ * tiles_x_;
    const std::int64_t threads = workers.pool->num_threads();
    // Each thread has tiles of its own and reads all filters, which costs little where its cache keeps them; or each
    // multiplies some positions of all tiles, which go to and fro between the threads.
    const std::int64_t filters = args_.in_channels * out_padded_;
    const std::int64_t filter_bytes = kFilters * filters * static_cast<std::int64_t>(sizeof(float));
    const bool keeps_filters = filter_bytes <= kOwnFilterBytes;
    const bool has_tiles_for_all = pays_to_keep_tiles(tiles, threads, filters, tiles * (in_padded_ + out_padded_));
    if (tiles <= kWinogradSharedTiles && threads > 1 && !keeps_filters && !has_tiles_for_all) {
      run_shared(workers, tiles);
      return;
    }
    const std::int64_t fitting = static_cast<std::int64_t>(workers.scratch_bytes) /
                                 ((in_padded_ + out_padded_) * kPositions * static_cast<std::int64_t>(sizeof(float)));
    std::int64_t block = max(1, min(fitting, args_.tiling.row_block));
    if (threads > 1) block = min(block, max(kFewestTiles, ceil_div(tiles, (keeps_filters ? 2 : 1) * threads)));
    Cut cut{tiles, 1, ceil_div(tiles, block)};
    if (threads > 1 && filter_bytes <= kRepeatedFilterBytes) {
      for (std::int64_t n = 2; n <= kMostBlocks; ++n) {
        const Cut finer{tiles, 1, threads * n, threads};
        const bool fits = finer.largest() <= min(fitting, args_.tiling.row_block);
        if (fits && tiles >= threads * n * (n + 1) / 2 * kFewestTiles) cut = finer;
      }
    }
    for_each_item(workers, cut.parts, [&](std::int64_t item, std::byte* scratch) {
      const std::int64_t begin = cut.begin(item), count = cut.begin(item + 1) - begin;
      const auto input = reinterpret_cast<float*>(scratch);
      float* product = input + kPositions * count * in_padded_;
      for (std::int64_t t = 0; t < count; ++t) load_tile(begin + t, t, count, 0, args_.in_channels, input);
      const std::int64_t panels = ceil_div(args_.out_channels, args_.tiling.tile_vectors * kWidth);
      for (int f = 0; f < kFilters; ++f) multiply(f, count, 0, panels, input, product);
      for (std::int64_t t = 0; t < count; ++t) store_tile(begin + t, t, count, 0, args_.out_channels, product);
    });
  }

 private:
  /// How many positions along one axis have this filter.
  static constexpr int with_filter(int filter) { return filter + 1 < kLineFilters ? 1 : kLine - kLineFilters + 1; }
  /// The first of the positions that have the filter (row, column), in the order in which they lie in memory.
  static constexpr int first_position(int row, int column) { return row * kLine + with_filter(row) * column; }
  static constexpr int position_of(int row, int column) {
    const int row_filter = row < kLineFilters ? row : kLineFilters - 1;
    const int column_filter = column < kLineFilters ? column : kLineFilters - 1;
    return first_position(row_filter, column_filter) + (row - row_filter) * with_filter(column_filter) +
           (column - column_filter);
  }

  /// Three steps over all tiles, each spread over the threads.
  void run_shared(const Workers& workers, std::int64_t tiles) const {
    const auto input = reinterpret_cast<float*>(args_.workspace);
    float* product = input + kPositions * tiles * in_padded_;
    const std::int64_t threads = workers.pool->num_threads();
    const std::int64_t wanted = 3 * threads;
    const std::int64_t in_parts = min(ceil_div(wanted, tiles), in_padded_ / kWidth);
    for_each_item(workers, tiles * in_parts, [&](std::int64_t item, std::byte*) {
      const std::int64_t part = item % in_parts, vectors = in_padded_ / kWidth;
      load_tile(item / in_parts, item / in_parts, tiles, vectors * part / in_parts * kWidth,
                min(args_.in_channels, vectors * (part + 1) / in_parts * kWidth), input);
    });
    const std::int64_t panels = ceil_div(args_.out_channels, args_.tiling.tile_vectors * kWidth);
    const std::int64_t panel_parts = min(panels, ceil_div(wanted, kFilters));
    for_each_item(workers, kFilters * panel_parts, [&](std::int64_t item, std::byte*) {
      const std::int64_t part = item % panel_parts;
      multiply(static_cast<int>(item / panel_parts), tiles, panels * part / panel_parts,
               panels * (part + 1) / panel_parts, input, product);
    });
    const std::int64_t out_parts = min(ceil_div(wanted, tiles), out_padded_ / kWidth);
    for_each_item(workers, tiles * out_parts, [&](std::int64_t item, std::byte*) {
      const std::int64_t part = item % out_parts, vectors = out_padded_ / kWidth;
      store_tile(item / out_parts, item / out_parts, tiles, vectors * part / out_parts * kWidth,
                 min(args_.out_channels, vectors * (part + 1) / out_parts * kWidth), product);
    });
  }

  struct Place {
    std::int64_t image, y, x;  ///< of the tile's first output pixel
  };
  Place place_of(std::int64_t tile) const {
    return {tile / tiles_x_ / tiles_y_, tile / tiles_x_ % tiles_y_ * kTile, tile % tiles_x_ * kTile};
  }

  /// Transforms channels [begin, end) of a tile's input into out[position][slot of slots][channel].
  void load_tile(std::int64_t tile, std::int64_t slot, std::int64_t slots, std::int64_t begin, std::int64_t end,
                 float* out) const {
    const Place place = place_of(tile);
    const float* pixels[kInput][kInput];
    for (int i = 0; i < kInput; ++i) {
      const std::int64_t y = place.y * kStride - g_.pad[1] + i;
      const float* line = args_.x + (place.image * g_.in[1] + y) * g_.in[2] * args_.x_stride;
      for (int j = 0; j < kInput; ++j) {
        const std::int64_t x = place.x * kStride - g_.pad[2] + j;
        const bool inside = 0 <= y && y < g_.in[1] && 0 <= x && x < g_.in[2];
        pixels[i][j] = inside ? line + x * args_.x_stride : g_.zeros;
      }
    }
    const std::int64_t step = slots * in_padded_;
    float* target = out + slot * in_padded_;
    for (std::int64_t c = begin; c < end; c += kWidth) {
      const int tail = static_cast<int>(min(kWidth, end - c));
      Vec half[kLine][kInput];
      for (int j = 0; j < kInput; ++j) {
        Vec d[kInput], o[kLine];
        if (tail == kWidth) {
#pragma GCC unroll 9
          for (int i = 0; i < kInput; ++i) d[i] = Vec::load(pixels[i][j] + c);
        } else {
#pragma GCC unroll 9
          for (int i = 0; i < kInput; ++i) d[i] = Vec::load_first(pixels[i][j] + c, tail);
        }
        transform_input(d, o);
#pragma GCC unroll 9
        for (int i = 0; i < kLine; ++i) half[i][j] = o[i];
      }
      for (int i = 0; i < kLine; ++i) {
        Vec o[kLine];
        transform_input(half[i], o);
#pragma GCC unroll 9
        for (int j = 0; j < kLine; ++j) o[j].store(target + position_of(i, j) * step + c);
      }
    }
  }

  /// The matrix product of one filter's positions for some panels.
  void multiply(int filter, std::int64_t slots, std::int64_t panel_begin, std::int64_t panel_end, const float* input,
                float* product) const {
    const std::int64_t depth = args_.in_channels;
    const int row = filter / kLineFilters, column = filter % kLineFilters, position = first_position(row, column);
    const std::int64_t rows = with_filter(row) * with_filter(column) * slots;
    const float* panels = args_.panels + filter * depth * out_padded_;
    const float* a = input + position * slots * in_padded_;
    float* c = product + position * slots * out_padded_;
    TileArgs tile{};
    tile.c_stride = out_padded_;
    tile.tail = static_cast<int>(kWidth);
    const std::int64_t block = min(depth, args_.tiling.depth_block);
    const auto panel_at = [&](std::int64_t panel, std::int64_t k) {
      const std::int64_t n = panel * args_.tiling.tile_vectors * kWidth;
      return panels + n * depth + k * panel_columns(out_padded_ - n, args_.tiling.tile_vectors).vectors * kWidth;
    };
    for (std::int64_t k = 0; k < depth; k += block) {
      tile.depth = min(block, depth - k);
      tile.accumulates = k > 0;
      for (std::int64_t p = panel_begin; p < panel_end; ++p) {
        const std::int64_t n = p * args_.tiling.tile_vectors * kWidth;
        const int vectors = panel_columns(out_padded_ - n, args_.tiling.tile_vectors).vectors;
        tile.panel = panel_at(p, k);
        // Behind the last panel comes the next part of the depth, or the next filter.
        const float* next = p + 1 < panel_end       ? panel_at(p + 1, k)
                            : k + block < depth     ? panel_at(panel_begin, k + block)
                            : filter + 1 < kFilters ? panel_at(panel_begin, 0) + depth * out_padded_
                                                    : tile.panel;
        const PanelAhead ahead(next, kFloatBytes * tile.depth * vectors * kWidth, rows, args_.tiling.tile_rows,
                               tile.depth);
        run_plain_rows(tile, rows, args_.tiling.tile_rows, vectors, a + k, in_padded_, c + n, nullptr, ahead);
      }
    }
  }

  /// Transforms channels [begin, end) of a tile's products back and finishes them.
  void store_tile(std::int64_t tile, std::int64_t slot, std::int64_t slots, std::int64_t begin, std::int64_t end,
                  const float* product) const {
    const Place place = place_of(tile);
    const int rows = static_cast<int>(min(kTile, g_.out[1] - place.y));
    const int columns = static_cast<int>(min(kTile, g_.out[2] - place.x));
    const FinishArgs& finish = args_.finish;
    const std::int64_t step = slots * out_padded_;
    const float* source = product + slot * out_padded_;
    const std::int64_t first_pixel = (place.image * g_.out[1] + place.y) * g_.out[2] + place.x;
    for (std::int64_t c = begin; c < end; c += kWidth) {
      const int tail = static_cast<int>(min(kWidth, end - c));
      Vec half[kTile][kLine];
      for (int j = 0; j < kLine; ++j) {
        Vec m[kLine], o[kTile];
#pragma GCC unroll 9
        for (int i = 0; i < kLine; ++i) m[i] = Vec::load(source + position_of(i, j) * step + c);
        transform_output(m, o);
#pragma GCC unroll 4
        for (int i = 0; i < kTile; ++i) half[i][j] = o[i];
      }
      for (int i = 0; i < rows; ++i) {
        Vec o[kTile];
        transform_output(half[i], o);
        store_pixels(o, {first_pixel + i * g_.out[2], 1, columns}, finish, c, tail, args_.y, args_.y_stride);
      }
    }
    if (finish.program != nullptr) {
      for (int i = 0; i < rows; ++i) {
        const std::int64_t pixel = first_pixel + i * g_.out[2];
        run_finish_program(finish, args_.y + pixel * args_.y_stride + begin, args_.y_stride, pixel, pixel + columns,
                           begin, end);
      }
    }
  }

  const WinogradArgs& args_;
  const ConvRows& g_;
  std::int64_t tiles_x_, tiles_y_;
  std::int64_t in_padded_, out_padded_;
};

void run(const WinogradArgs& args, const Workers& workers) {
  const ConvRows& g = args.geometry;
  if (g.batch <= 0 || g.out[1] <= 0 || g.out[2] <= 0) return;
  if (g.stride[1] == 1) {
    if (args.tile_size == 4) {
      Winograd<4, 1>(args).run(workers);
    } else {
      Winograd<2, 1>(args).run(workers);
    }
  } else if (args.tile_size == 4) {
    Winograd<4, 2>(args).run(workers);
  } else {
    Winograd<2, 2>(args).run(workers);
  }
}

}  // namespace

const WinogradKernels kWinogradKernels = {run};

}  // namespace tenfold::cpu::TENFOLD_TIER
