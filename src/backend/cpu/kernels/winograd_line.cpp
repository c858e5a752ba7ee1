#include "backend/cpu/kernels/winograd_line.hpp"

#include "backend/cpu/kernels/finish.hpp"
#include "backend/cpu/kernels/gemm_block.hpp"
#include "backend/cpu/kernels/winograd_transforms.hpp"
#include "backend/cpu/kernels/workers.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

constexpr std::int64_t kWidth = Vec::kWidth;

template <int kTaps>
class LineFilter {
 public:
  static constexpr int kTile = static_cast<int>(kLineTile);
  static constexpr int kPositions = kTile + kTaps - 1;

  explicit LineFilter(const WinogradLineArgs& args)
      : args_(args),
        blocks_(line_blocks(args.kernel)),
        lines_(args.outer * args.inner),
        tiles_(ceil_div(args.out_length, kTile)),
        out_padded_(ceil_div(args.out_channels, kWidth) * kWidth) {}

  void run(const Workers& workers) const {
    const std::int64_t threads = workers.pool->num_threads(), all = lines_ * tiles_;
    const std::int64_t filters = blocks_ * args_.in_channels * out_padded_;
    LinePart part = winograd_line_part(args_.out_length, lines_, args_.tiling.row_block);
    const auto bytes = [&] { return winograd_line_bytes(part, args_.kernel, args_.in_channels, args_.out_channels); };
    if (threads > 1 && !pays_to_keep_tiles(all, threads, filters, all * (args_.in_channels + out_padded_))) {
      for_each_part(part, [&](const Part& some) { run_shared(workers, some); });
      return;
    }
    while (bytes() > static_cast<std::int64_t>(workers.scratch_bytes) ||
           (threads > 1 && part.lines * part.tiles * threads > all)) {
      if (part.lines * part.tiles == 1) break;
      std::int64_t& longer = part.lines > 1 ? part.lines : part.tiles;
      longer = ceil_div(longer, 2);
    }
    const std::int64_t line_parts = ceil_div(lines_, part.lines), tile_parts = ceil_div(tiles_, part.tiles);
    for_each_item(workers, line_parts * tile_parts, [&](std::int64_t item, std::byte* scratch) {
      const Part some = part_at(part, item / tile_parts, item % tile_parts);
      const Buffers buffers = buffers_of(some, scratch);
      for (std::int64_t t = 0; t < some.tiles + blocks_ - 1; ++t) {
        for (std::int64_t l = 0; l < some.lines; ++l) load_tile(some, t, l, 0, args_.in_channels, buffers.input);
      }
      const std::int64_t panels = ceil_div(args_.out_channels, args_.tiling.tile_vectors * kWidth);
      for (int p = 0; p < kPositions; ++p) multiply(some, p, 0, panels, buffers);
      for (std::int64_t row = 0; row < some.tiles * some.lines; ++row) {
        store_tile(some, row, 0, args_.out_channels, buffers.product);
      }
    });
  }

 private:
  /// Which tiles of which lines.
  struct Part {
    std::int64_t tile, tiles, line, lines;
  };
  /// input: [position][tile, those of the further blocks too][line][channel]; product: [position][tile][line][channel].
  struct Buffers {
    float* input;
    float* product;
  };

  Part part_at(const LinePart& size, std::int64_t line_part, std::int64_t tile_part) const {
    const std::int64_t tile = tile_part * size.tiles, line = line_part * size.lines;
    return {tile, min(size.tiles, tiles_ - tile), line, min(size.lines, lines_ - line)};
  }
  template <typename F>
  void for_each_part(const LinePart& size, const F& f) const {
    for (std::int64_t l = 0; l * size.lines < lines_; ++l) {
      for (std::int64_t t = 0; t * size.tiles < tiles_; ++t) f(part_at(size, l, t));
    }
  }
  Buffers buffers_of(const Part& part, std::byte* memory) const {
    const auto input = reinterpret_cast<float*>(memory);
    // Rows of products are whole vectors; so may be where they begin.
    const std::int64_t inputs = kPositions * (part.tiles + blocks_ - 1) * part.lines * args_.in_channels;
    return {input, input + ceil_div(inputs, kWidth) * kWidth};
  }

  /// Three steps, each spread over the threads.
  void run_shared(const Workers& workers, const Part& part) const {
    const Buffers buffers = buffers_of(part, args_.workspace);
    const std::int64_t wanted = 3 * workers.pool->num_threads();
    const std::int64_t rows = part.tiles * part.lines, in_rows = rows + (blocks_ - 1) * part.lines;
    const auto for_each_piece = [&](std::int64_t of, std::int64_t channels, const auto& f) {
      const std::int64_t vectors = ceil_div(channels, kWidth), pieces = min(ceil_div(wanted, of), vectors);
      for_each_item(workers, of * pieces, [&](std::int64_t item, std::byte*) {
        const std::int64_t piece = item % pieces;
        f(item / pieces, vectors * piece / pieces * kWidth, min(channels, vectors * (piece + 1) / pieces * kWidth));
      });
    };
    for_each_piece(in_rows, args_.in_channels, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
      load_tile(part, row / part.lines, row % part.lines, begin, end, buffers.input);
    });
    const std::int64_t panels = ceil_div(args_.out_channels, args_.tiling.tile_vectors * kWidth);
    const std::int64_t panel_parts = min(panels, ceil_div(wanted, kPositions));
    for_each_item(workers, kPositions * panel_parts, [&](std::int64_t item, std::byte*) {
      const std::int64_t some = item % panel_parts;
      multiply(part, static_cast<int>(item / panel_parts), panels * some / panel_parts,
               panels * (some + 1) / panel_parts, buffers);
    });
    for_each_piece(rows, args_.out_channels, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
      store_tile(part, row, begin, end, buffers.product);
    });
  }

  /// The first pixel of a line of an image of this length.
  std::int64_t first_pixel(std::int64_t line, std::int64_t length) const {
    return line / args_.inner * length * args_.inner + line % args_.inner;
  }

  /// Transforms channels [begin, end) of the input of a part's tile.
  void load_tile(const Part& part, std::int64_t tile, std::int64_t line, std::int64_t begin, std::int64_t end,
                 float* out) const {
    const std::int64_t first = (part.tile + tile) * kTile - args_.pad;
    const std::int64_t line_pixel = first_pixel(part.line + line, args_.in_length);
    const float* pixels[kPositions];
    for (int j = 0; j < kPositions; ++j) {
      const std::int64_t at = first + j;
      const bool inside = 0 <= at && at < args_.in_length;
      pixels[j] = inside ? args_.x + (line_pixel + at * args_.inner) * args_.x_stride : args_.zeros;
    }
    const std::int64_t step = (part.tiles + blocks_ - 1) * part.lines * args_.in_channels;
    float* target = out + (tile * part.lines + line) * args_.in_channels;
    for (std::int64_t c = begin; c < end; c += kWidth) {
      const int tail = static_cast<int>(min(kWidth, end - c));
      Vec d[kPositions], o[kPositions];
      TENFOLD_UNROLL
      for (int j = 0; j < kPositions; ++j) {
        d[j] = tail == kWidth ? Vec::load(pixels[j] + c) : Vec::load_first(pixels[j] + c, tail);
      }
      transform_input(d, o);
      TENFOLD_UNROLL
      for (int j = 0; j < kPositions; ++j) {
        if (tail == kWidth) {
          o[j].store(target + j * step + c);
        } else {
          o[j].store_first(target + j * step + c, tail);
        }
      }
    }
  }

  /// One position's products for some panels of filters.
  void multiply(const Part& part, int position, std::int64_t panel_begin, std::int64_t panel_end,
                const Buffers& buffers) const {
    const std::int64_t channels = args_.in_channels, all_deep = blocks_ * channels;
    const std::int64_t rows = part.tiles * part.lines;
    const float* panels = args_.panels + position * all_deep * out_padded_;
    const float* a = buffers.input + position * (rows + (blocks_ - 1) * part.lines) * channels;
    float* c = buffers.product + position * rows * out_padded_;
    TileArgs tile{};
    tile.c_stride = out_padded_;
    tile.tail = static_cast<int>(kWidth);
    const std::int64_t most = min(channels, args_.tiling.depth_block);
    for (std::int64_t p = panel_begin; p < panel_end; ++p) {
      const std::int64_t n = p * args_.tiling.tile_vectors * kWidth;
      const int vectors = panel_columns(out_padded_ - n, args_.tiling.tile_vectors).vectors;
      tile.panel = panels + n * all_deep;
      tile.accumulates = false;
      for (std::int64_t b = 0; b < blocks_; ++b) {
        for (std::int64_t k = 0; k < channels; k += most) {
          tile.depth = min(most, channels - k);
          const std::int64_t floats = tile.depth * vectors * kWidth;
          // What follows in memory follows in time.
          const bool is_last = b + 1 == blocks_ && k + most >= channels;
          PanelAhead ahead;
          if (!is_last || p + 1 < panel_end) {
            ahead = PanelAhead(tile.panel + floats, kFloatBytes * floats, rows, args_.tiling.tile_rows, tile.depth);
          }
          run_plain_rows(tile, rows, args_.tiling.tile_rows, vectors, a + b * part.lines * channels + k, channels,
                         c + n, nullptr, ahead);
          tile.panel += floats;
          tile.accumulates = true;
        }
      }
    }
  }

  /// Transforms channels [begin, end) of a tile's products back and finishes them. Row: tile * lines + line.
  void store_tile(const Part& part, std::int64_t row, std::int64_t begin, std::int64_t end,
                  const float* product) const {
    const FinishArgs& finish = args_.finish;
    const std::int64_t first = (part.tile + row / part.lines) * kTile;
    const int count = static_cast<int>(min(kTile, args_.out_length - first));
    const std::int64_t pixel = first_pixel(part.line + row % part.lines, args_.out_length) + first * args_.inner;
    const std::int64_t step = part.tiles * part.lines * out_padded_;
    const float* source = product + row * out_padded_;
    for (std::int64_t c = begin; c < end; c += kWidth) {
      const int tail = static_cast<int>(min(kWidth, end - c));
      Vec m[kPositions], o[kTile];
      TENFOLD_UNROLL
      for (int i = 0; i < kPositions; ++i) m[i] = Vec::load(source + i * step + c);
      transform_output(m, o);
      store_pixels(o, {pixel, args_.inner, count}, finish, c, tail, args_.y, args_.y_stride);
    }
    if (finish.program == nullptr) return;
    for (int j = 0; j < count; ++j) {
      const std::int64_t at = pixel + j * args_.inner;
      run_finish_program(finish, args_.y + at * args_.y_stride + begin, args_.y_stride, at, at + 1, begin, end);
    }
  }

  const WinogradLineArgs& args_;
  std::int64_t blocks_, lines_, tiles_, out_padded_;
};

void run(const WinogradLineArgs& args, const Workers& workers) {
  if (args.outer <= 0 || args.inner <= 0 || args.out_length <= 0) return;
  if (line_block_taps(args.kernel) == 3) {
    LineFilter<3>(args).run(workers);
  } else {
    LineFilter<4>(args).run(workers);
  }
}

}  // namespace

const WinogradLineKernels kWinogradLineKernels = {run};

}  // namespace tenfold::cpu::TENFOLD_TIER
