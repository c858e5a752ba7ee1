// Products of 8-bit integers: the register tile, the windows of convolutions, and how the work is cut.
#include "backend/cpu/kernels/byte_product.hpp"

#include <utility>

#include "backend/cpu/kernels/byte_finish.hpp"
#include "backend/cpu/kernels/byte_kernels.hpp"
#include "backend/cpu/kernels/gemm_block.hpp"
#include "backend/cpu/kernels/pixel_walk.hpp"
#include "backend/cpu/kernels/simd_math.hpp"
#include "backend/cpu/kernels/workers.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

constexpr std::int64_t kWidth = Ints::kWidth;
constexpr std::int64_t kItemsPerThread = 3;
/// Multiply-adds that are not worth a second thread.
constexpr std::int64_t kSerialWork = 1 << 18;

#if defined(__AVX512F__)
constexpr int kMaxRows = 14;
constexpr int kTallest[kMaxTileVectors] = {14, 12, 8, 6};
#else
constexpr int kMaxRows = 6;
constexpr int kTallest[kMaxTileVectors] = {6, 4, 2, 2};
#endif

struct ByteTile {
  const std::uint8_t* a;
  std::int64_t row_stride;
  std::int64_t quads;
  const std::int8_t* panel;  ///< [quads][kVectors * kWidth][4]
  const std::int32_t* start;
  std::int32_t flip;  ///< 0x80 in every byte where A is signed
  int tail;           ///< columns of the last vector that exist: 1 .. kWidth
  std::uint8_t* c;
  std::int64_t c_stride;  ///< bytes
  /// All of it from the tile's first row and column on.
  const ByteFinish* finish;
  const float* scale;  ///< nullptr: the sums themselves are stored, as floats
  const float* offset;
  const std::uint8_t* residual;
  std::int64_t residual_stride;  ///< bytes
};

/// From sums to results, one column of vectors at a time.
template <int kRows>
[[gnu::always_inline]] inline void finish_column(const Ints (&sums)[kRows], const ByteTile& tile, int column,
                                                 int count) {
  Vec x[kRows];
  TENFOLD_UNROLL
  for (int i = 0; i < kRows; ++i) x[i] = sums[i].to_float();
  const ByteFinish& finish = *tile.finish;
  std::uint8_t* c = tile.c + column * (tile.scale == nullptr ? 4 : bytes_of(finish.result));
  if (tile.scale != nullptr) {
    const Vec scale = Vec::load_first(tile.scale + column, count),
              offset = Vec::load_first(tile.offset + column, count);
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) x[i] = fma(x[i], scale, offset);
    if (finish.rounds_first) {
      const Vec low(finish.first_low), high(finish.first_high), factor(finish.factor), shift(finish.shift);
      TENFOLD_UNROLL
      for (int i = 0; i < kRows; ++i) {
        x[i] = fma(math::round(math::min(math::max(x[i], low), high)), factor, shift);
      }
    }
    if (tile.residual != nullptr) {
      const Vec factor(finish.residual_scale);
      const std::uint8_t* residual = tile.residual + column * bytes_of(finish.residual_type);
      TENFOLD_UNROLL
      for (int i = 0; i < kRows; ++i) {
        x[i] = fma(load_as_floats(residual + i * tile.residual_stride, finish.residual_type, count), factor, x[i]);
      }
    }
    if (finish.has_limits) {
      const Vec low(finish.low), high(finish.high);
      TENFOLD_UNROLL
      for (int i = 0; i < kRows; ++i) x[i] = math::min(math::max(x[i], low), high);
    }
    if (finish.result != ByteResult::float32) {
      const Ints zero(finish.zero_point);
      if (finish.result == ByteResult::int8) {
        TENFOLD_UNROLL
        for (int i = 0; i < kRows; ++i) (Ints::round(x[i]) + zero).store_bytes(c + i * tile.c_stride, count, true);
      } else {
        TENFOLD_UNROLL
        for (int i = 0; i < kRows; ++i) (Ints::round(x[i]) + zero).store_bytes(c + i * tile.c_stride, count, false);
      }
      return;
    }
  }
  TENFOLD_UNROLL
  for (int i = 0; i < kRows; ++i) x[i].store_first(reinterpret_cast<float*>(c + i * tile.c_stride), count);
}

template <typename Dot, int kRows, int kVectors>
void run_tile(const ByteTile& tile) {
  Ints sums[kVectors][kRows];
  TENFOLD_UNROLL
  for (int j = 0; j < kVectors; ++j) {
    const Ints start = Ints::load(tile.start + j * kWidth);
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) sums[j][i] = start;
  }
  // x86 adds once or twice the stride to a pointer for nothing.
  constexpr int kPointers = (kRows + 2) / 3;
  const std::uint8_t* a[kPointers];
  TENFOLD_UNROLL
  for (int i = 0; i < kPointers; ++i) a[i] = tile.a + 3 * i * tile.row_stride;
  const std::int64_t stride = tile.row_stride;
  const std::int8_t* panel = tile.panel;
  const Ints flip(tile.flip);
  for (std::int64_t k = 0; k < tile.quads; ++k) {
    typename Dot::Right b[kVectors];
    TENFOLD_UNROLL
    for (int j = 0; j < kVectors; ++j) b[j] = Dot::right(Ints::load(panel + j * kWidth * 4));
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const typename Dot::Left x = Dot::left(Ints::broadcast(a[i / 3] + (i % 3) * stride) ^ flip);
      TENFOLD_UNROLL
      for (int j = 0; j < kVectors; ++j) Dot::add(sums[j][i], x, b[j]);
    }
    TENFOLD_UNROLL
    for (int i = 0; i < kPointers; ++i) a[i] += 4;
    panel += kVectors * kWidth * 4;
  }
  TENFOLD_UNROLL
  for (int j = 0; j < kVectors; ++j) {
    finish_column<kRows>(sums[j], tile, j * kWidth, j + 1 < kVectors ? static_cast<int>(kWidth) : tile.tail);
  }
}

using TileRun = void (*)(const ByteTile&);
/// By rows, from 1.
struct Tiles {
  TileRun by_rows[kMaxRows];
};
template <typename Dot, int kVectors, int... kLess>
constexpr Tiles make_tiles(std::integer_sequence<int, kLess...>) {
  return {{run_tile<Dot, kLess + 1, kVectors>...}};
}
template <typename Dot, int kVectors>
constexpr Tiles kTiles = make_tiles<Dot, kVectors>(std::make_integer_sequence<int, kTallest[kVectors - 1]>());
template <typename Dot>
constexpr Tiles kAllTiles[kMaxTileVectors] = {kTiles<Dot, 1>, kTiles<Dot, 2>, kTiles<Dot, 3>, kTiles<Dot, 4>};

int max_byte_tile_rows(int vectors) { return 1 <= vectors && vectors <= kMaxTileVectors ? kTallest[vectors - 1] : 0; }

// Copies are made from front to back, so that what one writes beyond its end, up to a vector, is written again.
void copy_bytes(const std::uint8_t* from, std::int64_t count, std::uint8_t* to) {
  for (std::int64_t i = 0; i < count; i += Ints::kBytes) Ints::load_first_bytes(from + i, count - i).store(to + i);
}
void fill_bytes(std::uint8_t value, std::int64_t count, std::uint8_t* to) {
  const Ints all(static_cast<std::int32_t>(value * 0x01010101U));
  for (std::int64_t i = 0; i < count; i += Ints::kBytes) all.store(to + i);
}

/// Rows from `first` on, one after the other, `stride` bytes apart: those of A, or the windows of a convolution. Writes
/// up to a vector beyond the last one.
void copy_rows(const ByteProductArgs& args, const std::uint8_t* a, std::int64_t first, std::int64_t rows,
               std::int64_t stride, std::uint8_t* to) {
  if (args.conv == nullptr) {
    for (std::int64_t r = 0; r < rows; ++r) copy_bytes(a + (first + r) * args.a_stride, args.depth, to + r * stride);
    return;
  }
  const ConvRows& conv = *args.conv;
  const std::int64_t channels = args.depth / (conv.kernel[0] * conv.kernel[1] * conv.kernel[2]);
  // A line of the kernel is contiguous in memory where nothing lies between its pixels' channels.
  const bool joins = conv.dilation[2] == 1 && args.a_stride == channels;
  PixelWalk pixel(conv, first);
  for (std::int64_t r = 0; r < rows; ++r, pixel.next()) {
    std::uint8_t* out = to + r * stride;
    for (std::int64_t kz = 0; kz < conv.kernel[0]; ++kz) {
      const std::int64_t z = pixel.z + kz * conv.dilation[0];
      for (std::int64_t ky = 0; ky < conv.kernel[1]; ++ky) {
        const std::int64_t y = pixel.y + ky * conv.dilation[1];
        if (z < 0 || z >= conv.in[0] || y < 0 || y >= conv.in[1]) {
          fill_bytes(args.zero, conv.kernel[2] * channels, out);
          out += conv.kernel[2] * channels;
          continue;
        }
        const std::uint8_t* line = a + ((pixel.image * conv.in[0] + z) * conv.in[1] + y) * conv.in[2] * args.a_stride;
        if (joins) {
          const std::int64_t before = min(conv.kernel[2], max(0, -pixel.x));
          const std::int64_t end = max(before, min(conv.kernel[2], conv.in[2] - pixel.x));
          if (before > 0) fill_bytes(args.zero, before * channels, out);
          copy_bytes(line + (pixel.x + before) * channels, (end - before) * channels, out + before * channels);
          if (end < conv.kernel[2]) fill_bytes(args.zero, (conv.kernel[2] - end) * channels, out + end * channels);
          out += conv.kernel[2] * channels;
          continue;
        }
        for (std::int64_t kx = 0; kx < conv.kernel[2]; ++kx, out += channels) {
          const std::int64_t x = pixel.x + kx * conv.dilation[2];
          if (0 <= x && x < conv.in[2]) {
            copy_bytes(line + x * args.a_stride, channels, out);
          } else {
            fill_bytes(args.zero, channels, out);
          }
        }
      }
    }
  }
}

std::int64_t copied_stride(std::int64_t depth) {
  constexpr std::int64_t kLine = 64, kSameSets = 4096;
  const std::int64_t stride = ceil_div(depth, kLine) * kLine;
  return stride % kSameSets == 0 ? stride + kLine : stride;
}

/// One work item: rows x panels of one group.
struct Block {
  std::int64_t group, row_begin, row_end, panel_begin, panel_end;
};

void run_block(const ByteProductArgs& args, const Block& block, std::byte* scratch) {
  const ByteFinish& finish = args.finish;
  const std::int64_t rows = block.row_end - block.row_begin;
  const std::int64_t quads = ceil_div(args.depth, 4);
  const std::int64_t padded_columns = ceil_div(args.columns, kWidth) * kWidth;
  const std::int64_t panel_width = args.tiling.tile_vectors * kWidth;
  const std::int64_t channels = args.conv == nullptr
                                    ? args.depth
                                    : args.depth / (args.conv->kernel[0] * args.conv->kernel[1] * args.conv->kernel[2]);
  const std::uint8_t* a = args.a + block.group * channels;

  ByteTile tile{};
  tile.quads = quads;
  tile.flip = args.a_is_signed ? static_cast<std::int32_t>(0x80808080U) : 0;
  if (args.conv != nullptr || args.depth % 4 != 0) {
    auto* copy = reinterpret_cast<std::uint8_t*>(scratch);
    tile.row_stride = copied_stride(args.depth);
    copy_rows(args, a, block.row_begin, rows, tile.row_stride, copy);
    tile.a = copy;
    scratch += rows * tile.row_stride + Ints::kBytes;
  } else {
    tile.a = a + block.row_begin * args.a_stride;
    tile.row_stride = args.a_stride;
  }
  const std::uint8_t* first_row = tile.a;
  auto* sums = reinterpret_cast<float*>(scratch);
  const bool has_program = finish.program.program != nullptr;
  const std::int64_t element = bytes_of(finish.result), residual_element = bytes_of(finish.residual_type);
  const Tiles* tiles = args.has_byte_dot ? kAllTiles<ByteDot> : kAllTiles<WordDot>;
  tile.finish = &finish;
  tile.residual_stride = finish.residual_stride * residual_element;
  const std::int8_t* panels = args.panels + block.group * padded_columns * quads * 4;
  for (std::int64_t p = block.panel_begin; p < block.panel_end; ++p) {
    const std::int64_t n = p * panel_width, column = block.group * args.columns + n;
    const PanelColumns columns = panel_columns(args.columns - n, args.tiling.tile_vectors);
    tile.panel = panels + n * quads * 4;
    tile.start = args.start + block.group * padded_columns + n;
    tile.tail = columns.tail;
    std::uint8_t* c = static_cast<std::uint8_t*>(args.c) + (block.row_begin * args.c_stride + column) * element;
    const bool in_place = has_program && finish.result == ByteResult::float32;
    std::uint8_t* target = has_program && !in_place ? reinterpret_cast<std::uint8_t*>(sums) : c;
    tile.c_stride = has_program && !in_place ? panel_width * 4 : args.c_stride * element;
    tile.scale = has_program ? nullptr : finish.scale + column;
    tile.offset = has_program ? nullptr : finish.offset + column;
    const std::uint8_t* residual = finish.residual == nullptr
                                       ? nullptr
                                       : static_cast<const std::uint8_t*>(finish.residual) +
                                             (block.row_begin * finish.residual_stride + column) * residual_element;
    for (std::int64_t r = 0; r < rows;) {
      const std::int64_t count = next_tile_rows(rows - r, args.tiling.tile_rows);
      tile.a = first_row + r * tile.row_stride;
      tile.c = target + r * tile.c_stride;
      tile.residual = residual == nullptr ? nullptr : residual + r * tile.residual_stride;
      tiles[columns.vectors - 1].by_rows[count - 1](tile);
      r += count;
    }
    if (has_program) {
      const std::int64_t end = min(args.columns - n, panel_width);
      auto* values = reinterpret_cast<float*>(target);
      run_byte_program(finish, values, tile.c_stride / 4, block.row_begin, block.row_end, column, column + end,
                       sums + rows * panel_width);
      for (std::int64_t r = 0; r < rows && !in_place; ++r) {
        store_rounded(values + r * panel_width, end, finish.result, c + r * args.c_stride);
      }
    }
  }
}

void run(const ByteProductArgs& args, const Workers& workers) {
  if (args.rows <= 0 || args.columns <= 0) return;
  const std::int64_t tile_rows = args.tiling.tile_rows;
  const std::int64_t panel_width = args.tiling.tile_vectors * kWidth;
  const std::int64_t panels = ceil_div(args.columns, panel_width);
  // What a block of rows needs of the scratch memory: copied windows, sums, and operands of a program.
  const std::int64_t row_bytes = copied_stride(args.depth) + panel_width * 4;
  const std::int64_t operand_bytes = FinishArgs::kMaxOperands * panel_width * 4 + Ints::kBytes;
  // Two tiles of the end share the rows of one to two, so one more may be needed.
  const std::int64_t tiles =
      (static_cast<std::int64_t>(workers.scratch_bytes) - operand_bytes) / (row_bytes * tile_rows) - 1;
  const std::int64_t row_block = max(1, min(args.tiling.row_block, tiles * tile_rows));
  const std::int64_t threads = workers.pool->num_threads();
  const std::int64_t work = args.rows * args.columns * args.depth;
  const std::int64_t wanted = threads == 1 || work < kSerialWork ? 1 : kItemsPerThread * threads;
  std::int64_t row_parts = ceil_div(args.rows, row_block);
  // Rows are cut first: every part of the panels copies the windows again.
  if (args.groups * row_parts < wanted) {
    row_parts = max(row_parts, min(args.rows / (4 * tile_rows), ceil_div(wanted, args.groups)));
  }
  const std::int64_t panel_parts = min(panels, max(1, ceil_div(wanted, args.groups * row_parts)));
  const Cut row_cut{args.rows, tile_rows, row_parts};
  const Cut panel_cut{panels, 1, panel_parts};
  for_each_item(workers, args.groups * row_parts * panel_parts, [&](std::int64_t item, std::byte* scratch) {
    const std::int64_t panel_part = item % panel_parts;
    const std::int64_t row_part = item / panel_parts % row_parts;
    const Block block{item / panel_parts / row_parts, row_cut.begin(row_part), row_cut.begin(row_part + 1),
                      panel_cut.begin(panel_part), panel_cut.begin(panel_part + 1)};
    if (block.row_begin < block.row_end) run_block(args, block, scratch);
  });
}

void to_floats(const std::uint8_t* from, std::int64_t count, ByteResult type, float* to) {
  for (std::int64_t i = 0; i < count; i += kWidth) {
    const int n = static_cast<int>(min(count - i, kWidth));
    load_as_floats(from + i, type, n).store_first(to + i, n);
  }
}

}  // namespace

const ByteKernels kByteKernels = {to_floats, store_rounded, max_byte_tile_rows, run, run_byte_depthwise};

}  // namespace tenfold::cpu::TENFOLD_TIER
