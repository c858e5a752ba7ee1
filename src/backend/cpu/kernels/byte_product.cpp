// Products of 8-bit integers with panels as they are: the register tile, and the windows of convolutions.
#include "backend/cpu/kernels/byte_product.hpp"

#include <type_traits>
#include <utility>

#include "backend/cpu/kernels/byte_blocks.hpp"
#include "backend/cpu/kernels/byte_kernels.hpp"
#include "backend/cpu/kernels/copied_rows.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

constexpr std::int64_t kWidth = Ints::kWidth;

#if defined(__AVX512F__)
constexpr int kMaxRows = 14;
constexpr int kTallest[kMaxTileVectors] = {14, 12, 8, 6};
#else
constexpr int kMaxRows = 6;
constexpr int kTallest[kMaxTileVectors] = {6, 4, 2, 2};
#endif

struct ByteTile {
  const std::uint8_t* a;  ///< unsigned
  std::int64_t row_stride;
  std::int64_t quads;
  const std::int8_t* panel;  ///< [quads][kVectors * kWidth][4]
  const std::int32_t* start;
  ByteResults to;
  std::int64_t count;  ///< of tiles that follow each other; at the end all point behind the last one
  Ahead ahead;         ///< its depth in quads
};

/// All quads as they come.
template <typename Dot>
struct QuadDot {
  template <int kRows, int kVectors>
  [[gnu::always_inline]] static inline void add_all(Ints (&sums)[kVectors][kRows], ByteTile& tile) {
    // x86 adds once or twice the stride to a pointer for nothing.
    constexpr int kPointers = (kRows + 2) / 3;
    const std::uint8_t* a[kPointers];
    TENFOLD_UNROLL
    for (int i = 0; i < kPointers; ++i) a[i] = tile.a + 3 * i * tile.row_stride;
    const std::int64_t stride = tile.row_stride;
    const std::int8_t* panel = tile.panel;
    Ahead ahead = tile.ahead;
    const std::int64_t quads = tile.quads;
    for (std::int64_t k = 0; k < quads;) {
      ahead.ask(0);
      ahead.first += ahead.piece_stride;
      for (const std::int64_t end = min(quads, k + ahead.depth); k < end; ++k) {
        typename Dot::Right b[kVectors];
        TENFOLD_UNROLL
        for (int j = 0; j < kVectors; ++j) b[j] = Dot::right(Ints::load(panel + j * kWidth * 4));
        TENFOLD_UNROLL
        for (int i = 0; i < kRows; ++i) {
          const typename Dot::Left x = Dot::left(Ints::broadcast(a[i / 3] + (i % 3) * stride));
          TENFOLD_UNROLL
          for (int j = 0; j < kVectors; ++j) Dot::add(sums[j][i], x, b[j]);
        }
        TENFOLD_UNROLL
        for (int i = 0; i < kPointers; ++i) a[i] += 4;
        panel += kVectors * kWidth * 4;
      }
    }
    tile.ahead = ahead;
  }
};

#if defined(__AVX512F__)
/// Fewer do not make up for what the assembly is told.
constexpr std::int64_t kSummedQuads = 16;

/// The same in assembly, see tile_sums.hpp, with the processor's own instruction.
template <int kRows, int kVectors, bool kAsks>
void run_summed_tiles(ByteTile& tile) {
  struct Column {
    Ints sum[kRows];
  };
  Ahead& ahead = tile.ahead;
  TileSums what{.begin_stride = 0,
                .rows = nullptr,
                .offset = 0,
                .stride = tile.row_stride,
                .turns = tile.quads / kSumSteps,
                .rest = tile.quads % kSumSteps,
                .taps = 0,
                .ahead = nullptr,
                .lines = ahead.lines,
                .turns_of_piece = ahead.depth / kSumSteps,
                .turns_left = 0,
                .line_stride = ahead.line_stride,
                .piece_stride = ahead.piece_stride};
  for (; tile.count > 0; --tile.count) {
    what.taps = 1;
    if constexpr (kAsks) {
      // A last piece that is shorter than a turn is not in the loop.
      const std::int64_t pieces = ceil_div(tile.quads, ahead.depth);
      for (std::int64_t i = ceil_div(what.turns, what.turns_of_piece); i < pieces; ++i) ahead.ask(i);
      what.ahead = ahead.first;
      ahead.first += pieces * ahead.piece_stride;
    }
    Column columns[kVectors], no_half;
    TileSumLoop<Rows::quads, kRows, kVectors>::template run<false, kAsks>(
        &what, reinterpret_cast<const float*>(tile.start), reinterpret_cast<const float*>(tile.a),
        reinterpret_cast<const float*>(tile.panel), columns, no_half);
    Ints sums[kVectors][kRows];
    TENFOLD_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      TENFOLD_UNROLL
      for (int i = 0; i < kRows; ++i) sums[j][i] = columns[j].sum[i];
    }
    finish_tile(sums, tile.to);
    tile.a += kRows * tile.row_stride;
    tile.to.skip_rows(kRows);
  }
}
#endif

template <typename Dot, int kRows, int kVectors>
void run_tiles(ByteTile& tile) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<Dot, QuadDot<ByteDot>> && kHasTileSums<Rows::quads, kRows, kVectors>) {
    if (tile.ahead.lines > 0) return run_summed_tiles<kRows, kVectors, true>(tile);
    if (tile.quads >= kSummedQuads) return run_summed_tiles<kRows, kVectors, false>(tile);
  }
#endif
  for (; tile.count > 0; --tile.count) {
    Ints sums[kVectors][kRows];
    TENFOLD_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      const Ints start = Ints::load(tile.start + j * kWidth);
      TENFOLD_UNROLL
      for (int i = 0; i < kRows; ++i) sums[j][i] = start;
    }
    Dot::template add_all<kRows, kVectors>(sums, tile);
    finish_tile(sums, tile.to);
    tile.a += kRows * tile.row_stride;
    tile.to.skip_rows(kRows);
  }
}

using TileRun = void (*)(ByteTile&);
/// By rows, from 1.
struct Tiles {
  TileRun by_rows[kMaxRows];
};
template <typename Dot, int kVectors, int... kLess>
constexpr Tiles make_tiles(std::integer_sequence<int, kLess...>) {
  return {{run_tiles<Dot, kLess + 1, kVectors>...}};
}
template <typename Dot, int kVectors>
constexpr Tiles kTiles = make_tiles<Dot, kVectors>(std::make_integer_sequence<int, kTallest[kVectors - 1]>());
template <typename Dot>
constexpr Tiles kAllTiles[kMaxTileVectors] = {kTiles<Dot, 1>, kTiles<Dot, 2>, kTiles<Dot, 3>, kTiles<Dot, 4>};

int max_byte_tile_rows(int vectors) { return 1 <= vectors && vectors <= kMaxTileVectors ? kTallest[vectors - 1] : 0; }

/// How blocks use the scratch memory: [copied rows][sums][operands of a program].
struct Scratch {
  std::int64_t copied_stride, sum_stride, operand_bytes;

  explicit Scratch(const ByteProductArgs& args) {
    const std::int64_t panel_width = args.tiling.tile_vectors * kWidth;
    copied_stride = copied_row_stride(args.depth);
    sum_stride = panel_width * 4;
    operand_bytes = FinishArgs::kMaxOperands * panel_width * 4;
  }
  /// How many rows fit.
  std::int64_t rows(std::size_t bytes) const {
    return (static_cast<std::int64_t>(bytes) - operand_bytes) / (copied_stride + sum_stride);
  }
};

/// Adds 128 to so many signed bytes, whole lines of them.
void flip_signs(std::uint8_t* bytes, std::int64_t count) {
  const Ints flip(static_cast<std::int32_t>(0x80808080U));
  for (const std::uint8_t* end = bytes + count; bytes != end; bytes += Ints::kBytes) {
    (Ints::load(bytes) ^ flip).store(bytes);
  }
}

void run_block(const ByteProductArgs& args, const Scratch& layout, const ProductBlock& block, std::byte* scratch) {
  const ByteFinish& finish = args.finish;
  const std::int64_t rows = block.row_end - block.row_begin;
  const std::int64_t quads = ceil_div(args.depth, 4);
  const std::int64_t padded_columns = ceil_div(args.columns, kWidth) * kWidth;
  const std::int64_t panel_width = args.tiling.tile_vectors * kWidth;
  const std::uint8_t* a = args.a + block.group * group_channels(args);

  ByteTile tile{};
  tile.quads = quads;
  // Rows as they are, or copied together. Signed bytes become unsigned ones in the copy: in the tile it would take 8
  // instructions for 24 products, again for every panel, and on Intel's processors of the units that multiply.
  const std::uint8_t* first_row = a + block.row_begin * args.a_stride;
  tile.row_stride = args.a_stride;
  if (args.conv != nullptr || args.depth % 4 != 0 || args.a_is_signed) {
    auto* copied = reinterpret_cast<std::uint8_t*>(scratch);
    copy_rows({a, args.a_stride, args.depth, args.conv, args.zero}, block.row_begin, rows, layout.copied_stride,
              copied);
    if (args.a_is_signed) flip_signs(copied, rows * layout.copied_stride);
    first_row = copied;
    tile.row_stride = layout.copied_stride;
    scratch += rows * layout.copied_stride;
  }
  auto* sums = reinterpret_cast<float*>(scratch);
  const bool has_program = finish.program.program != nullptr;
  const bool in_place = has_program && finish.result == ByteResult::float32;
  const std::int64_t element = bytes_of(finish.result);
  const Tiles* tiles = args.has_byte_dot ? kAllTiles<QuadDot<ByteDot>> : kAllTiles<QuadDot<WordDot>>;
  const ByteLimits limits(finish);
  const std::int8_t* panels = args.panels + block.group * padded_columns * quads * 4;
  const std::int64_t next_item = are_weights_near(args.columns * quads * 4) ? -1 : block.next_panel;
  for (std::int64_t p = block.panel_begin; p < block.panel_end; ++p) {
    const std::int64_t n = p * panel_width, column = block.group * args.columns + n;
    const PanelColumns columns = panel_columns(args.columns - n, args.tiling.tile_vectors);
    tile.panel = panels + n * quads * 4;
    tile.start = args.start + block.group * padded_columns + n;
    tile.a = first_row;
    tile.to = byte_results(args, limits, block.row_begin, column);
    tile.to.tail = columns.tail;
    std::uint8_t* c = tile.to.c;
    if (has_program && !in_place) {
      tile.to.c = reinterpret_cast<std::uint8_t*>(sums);
      tile.to.c_stride = panel_width * 4;
    }
    auto* values = reinterpret_cast<float*>(tile.to.c);
    PanelAhead ahead;
    if (const std::int64_t next = p + 1 < block.panel_end ? p + 1 : next_item; next >= 0) {
      const std::int64_t at = next * panel_width;
      const int vectors = panel_columns(args.columns - at, args.tiling.tile_vectors).vectors;
      ahead = PanelAhead(panels + at * quads * 4, quads * vectors * kWidth * 4, rows, args.tiling.tile_rows, quads);
    }
    for (std::int64_t r = 0; r < rows;) {
      const std::int64_t count = next_tile_rows(rows - r, args.tiling.tile_rows);
      tile.count = equal_tiles(rows - r, args.tiling.tile_rows);
      if (!ahead.next(tile.ahead, tile.count))
        tile.ahead = {.first = nullptr, .lines = 0, .depth = quads, .line_stride = 0, .piece_stride = 0};
      r += count * tile.count;
      tiles[columns.vectors - 1].by_rows[count - 1](tile);
    }
    if (has_program) {
      const std::int64_t end = min(args.columns - n, panel_width);
      run_byte_program(finish, values, tile.to.c_stride / 4, block.row_begin, block.row_end, column, column + end,
                       sums + rows * panel_width);
      for (std::int64_t r = 0; r < rows && !in_place; ++r) {
        store_rounded(values + r * panel_width, end, finish.result, c + r * args.c_stride * element);
      }
    }
  }
}

void run(const ByteProductArgs& args, const Workers& workers) {
  if (args.rows <= 0 || args.columns <= 0) return;
  if (args.orders != nullptr) return run_ordered_product(args, workers);
  const Scratch layout(args);
  // Two tiles of the end share the rows of one to two, so one more may be needed.
  const std::int64_t tile_rows = args.tiling.tile_rows;
  const std::int64_t fitting_tiles = layout.rows(workers.scratch_bytes) / tile_rows - 1;
  const std::int64_t row_block = max(1, min(args.tiling.row_block, fitting_tiles * tile_rows));
  for_each_block(args, workers, row_block, args.tiling.tile_vectors * kWidth, 1,
                 [&](const ProductBlock& block, std::byte* scratch) { run_block(args, layout, block, scratch); });
}

template <int kRows>
void finish_rows(const ByteSums& from, std::int64_t row, std::int64_t column, ByteResults& to) {
  const Ints start = Ints::load(from.start + column);
  Ints sums[1][kRows];
  TENFOLD_UNROLL
  for (int i = 0; i < kRows; ++i) sums[0][i] = Ints::load(from.sums + (row + i) * kTileColumns + column) + start;
  finish_tile(sums, to);
  to.skip_rows(kRows);
}

}  // namespace

void finish_byte_sums(const ByteSums& from) {
  constexpr int kRows = 4;
  const ByteFinish& finish = *from.finish;
  const ByteLimits limits(finish);
  const std::int64_t element = from.scale == nullptr ? 4 : bytes_of(finish.result);
  ByteResults to{};
  to.finish = &finish;
  to.limits = &limits;
  to.c_stride = from.c_stride;
  to.residual_stride = from.residual_stride;
  for (std::int64_t n = 0; n < from.columns; n += kWidth) {
    to.tail = static_cast<int>(min(from.columns - n, kWidth));
    to.c = from.c + n * element;
    if (from.scale != nullptr) {
      to.scale = from.scale + n;
      to.offset = from.offset + n;
    }
    to.residual = from.residual == nullptr ? nullptr : from.residual + n * bytes_of(finish.residual_type);
    std::int64_t r = 0;
    for (; r + kRows <= from.rows; r += kRows) finish_rows<kRows>(from, r, n, to);
    for (; r < from.rows; ++r) finish_rows<1>(from, r, n, to);
  }
}

const ByteKernels kByteKernels = {bytes_to_floats, store_rounded, max_byte_tile_rows, run, run_byte_depthwise};

}  // namespace tenfold::cpu::TENFOLD_TIER
