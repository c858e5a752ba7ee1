// Products of 8-bit integers: the register tile, the windows of convolutions, and how the work is cut.
#include "backend/cpu/kernels/byte_product.hpp"

#include <utility>

#include "backend/cpu/kernels/byte_finish.hpp"
#include "backend/cpu/kernels/byte_kernels.hpp"
#include "backend/cpu/kernels/copied_rows.hpp"
#include "backend/cpu/kernels/gemm_block.hpp"
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
  std::int32_t flip;  ///< 0x80 in every byte where A is signed; of QuadDot
  /// Of OrderedDot: the panel's order, see byte_product.hpp, and what is wide as 16-bit numbers.
  const std::uint16_t* order;
  const std::uint8_t* wide_a;  ///< rows like those of `a`, [depth] numbers
  std::int64_t wide_row_stride;
  const std::uint8_t* wide_panel;  ///< [wide quads][2][kVectors * kWidth][2]
  int tail;                        ///< columns of the last vector that exist: 1 .. kWidth
  std::uint8_t* c;
  std::int64_t c_stride;  ///< bytes
  /// All of it from the tile's first row and column on.
  const ByteFinish* finish;
  const ByteLimits* limits;
  const float* scale;  ///< nullptr: the sums themselves are stored, as floats
  const float* offset;
  const std::uint8_t* residual;
  std::int64_t residual_stride;  ///< bytes
  std::int64_t count;            ///< of tiles that follow each other; at the end all point behind the last one
};

/// From sums to results that are neither rounded nor stored, one column of vectors at a time.
template <int kRows>
[[gnu::always_inline]] inline void finish_column(const Ints (&sums)[kRows], const ByteTile& tile, int column, int count,
                                                 bool has_limits, Vec (&x)[kRows]) {
  TENFOLD_UNROLL
  for (int i = 0; i < kRows; ++i) x[i] = sums[i].to_float();
  if (tile.scale == nullptr) return;
  const ByteFinish& finish = *tile.finish;
  const Vec scale = Vec::load_first(tile.scale + column, count), offset = Vec::load_first(tile.offset + column, count);
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
  if (has_limits) {
    const Vec low(finish.low), high(finish.high);
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) x[i] = math::min(math::max(x[i], low), high);
  }
}

template <int kRows>
[[gnu::always_inline]] inline void store_column(const Vec (&x)[kRows], const ByteTile& tile, int column, int count) {
  const ByteFinish& finish = *tile.finish;
  if (tile.scale == nullptr || finish.result == ByteResult::float32) {
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      x[i].store_first(reinterpret_cast<float*>(tile.c + i * tile.c_stride) + column, count);
    }
    return;
  }
  const Ints zero(finish.zero_point);
  std::uint8_t* c = tile.c + column;
  if (finish.result == ByteResult::int8) {
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) (Ints::round(x[i]) + zero).store_bytes(c + i * tile.c_stride, count, true);
  } else {
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) (Ints::round(x[i]) + zero).store_bytes(c + i * tile.c_stride, count, false);
  }
}

#if defined(__AVX512F__)
template <int kVectors>
constexpr bool kPacksTogether = false;  // there is an instruction from 32 bits to bytes
template <int kRows, int kVectors>
void store_packed(const Vec (&)[kVectors][kRows], const ByteTile&) {}
#else
template <int kVectors>
constexpr bool kPacksTogether = kVectors != 3;

/// Bytes of four vectors at a time: of one to four rows. Limits are those of the bytes.
template <int kRows, int kVectors>
[[gnu::always_inline]] inline void store_packed(const Vec (&x)[kVectors][kRows], const ByteTile& tile) {
  constexpr int kTogether = 4 / kVectors, kRowBytes = kVectors * static_cast<int>(kWidth);
  const int count = kRowBytes - static_cast<int>(kWidth) + tile.tail;
  TENFOLD_UNROLL
  for (int i = 0; i < kRows; i += kTogether) {
    Ints four[4];
    TENFOLD_UNROLL
    for (int n = 0; n < 4; ++n) {
      const int row = i + n / kVectors;
      four[n] = row < kRows ? Ints::round(x[n % kVectors][row]) : Ints::zero();
    }
    const Ints packed = in_order(tile.limits->pack(four));
    TENFOLD_UNROLL
    for (int n = 0; n < kTogether; ++n) {
      if (i + n < kRows) packed.template store_part<kRowBytes>(n, tile.c + (i + n) * tile.c_stride, count);
    }
  }
}
#endif

template <int kRows, int kVectors>
[[gnu::always_inline]] inline void finish_tile(const Ints (&sums)[kVectors][kRows], const ByteTile& tile) {
  const auto count = [&](int j) { return j + 1 < kVectors ? static_cast<int>(kWidth) : tile.tail; };
  if constexpr (kPacksTogether<kVectors>) {
    if (tile.scale != nullptr && tile.finish->result != ByteResult::float32) {
      Vec x[kVectors][kRows];
      TENFOLD_UNROLL
      for (int j = 0; j < kVectors; ++j) finish_column(sums[j], tile, j * kWidth, count(j), !tile.finish->fits, x[j]);
      store_packed(x, tile);
      return;
    }
  }
  TENFOLD_UNROLL
  for (int j = 0; j < kVectors; ++j) {
    Vec x[kRows];
    finish_column(sums[j], tile, j * kWidth, count(j), tile.finish->has_limits, x);
    store_column(x, tile, j * kWidth, count(j));
  }
}

/// All quads as they come.
template <typename Dot>
struct QuadDot {
  template <int kRows, int kVectors>
  [[gnu::always_inline]] static inline void add_all(Ints (&sums)[kVectors][kRows], const ByteTile& tile) {
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
  }
};

/// Ordered panels. Each of the loops needs all of AVX2's registers for 4 x 2 sums.
struct OrderedDot {
  template <int kRows, int kVectors>
  [[gnu::always_inline]] static inline void add_all(Ints (&sums)[kVectors][kRows], const ByteTile& tile) {
    constexpr std::int64_t kQuadBytes = kVectors * Ints::kBytes;
    const std::uint16_t* order = tile.order + kOrderHead;
    const std::uint16_t* const paired_end = order + tile.order[0];
    const std::uint16_t* const single_end = paired_end + tile.order[1];
    const std::uint16_t* const end = tile.order + panel_order_size(tile.quads);
    const std::int8_t* quad = tile.panel;
    for (; order != paired_end; order += 2, quad += 2 * kQuadBytes) {
      const std::int64_t first = order[0], second = order[1];
      Ints b[2][kVectors];
      TENFOLD_UNROLL
      for (int j = 0; j < kVectors; ++j) {
        b[0][j] = Ints::load(quad + j * Ints::kBytes);
        b[1][j] = Ints::load(quad + kQuadBytes + j * Ints::kBytes);
      }
      TENFOLD_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const std::uint8_t* row = tile.a + i * tile.row_stride;
        const Ints x = Ints::broadcast(row + 4 * first), y = Ints::broadcast(row + 4 * second);
        TENFOLD_UNROLL
        for (int j = 0; j < kVectors; ++j) {
          const Ints four = words::add(words::multiply_add_bytes(x, b[0][j]), words::multiply_add_bytes(y, b[1][j]));
          sums[j][i] = sums[j][i] + words::add_pairs(four);
        }
      }
    }
    for (; order != single_end; ++order, quad += kQuadBytes) {
      Ints b[kVectors];
      TENFOLD_UNROLL
      for (int j = 0; j < kVectors; ++j) b[j] = Ints::load(quad + j * Ints::kBytes);
      TENFOLD_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const Ints x = Ints::broadcast(tile.a + i * tile.row_stride + 4 * std::int64_t{*order});
        TENFOLD_UNROLL
        for (int j = 0; j < kVectors; ++j) {
          sums[j][i] = sums[j][i] + words::add_pairs(words::multiply_add_bytes(x, b[j]));
        }
      }
    }
    const std::uint8_t* panel = tile.wide_panel;
    for (; order != end; ++order, panel += 2 * kQuadBytes) {
      Ints b[2][kVectors];
      TENFOLD_UNROLL
      for (int j = 0; j < kVectors; ++j) {
        b[0][j] = Ints::load(panel + j * Ints::kBytes);
        b[1][j] = Ints::load(panel + kQuadBytes + j * Ints::kBytes);
      }
      TENFOLD_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const std::uint8_t* row = tile.wide_a + i * tile.wide_row_stride + 8 * std::int64_t{*order};
        const Ints x = Ints::broadcast(row), y = Ints::broadcast(row + 4);
        TENFOLD_UNROLL
        for (int j = 0; j < kVectors; ++j) sums[j][i] = sums[j][i] + words::multiply_add_pairs(x, b[0][j]);
        TENFOLD_UNROLL
        for (int j = 0; j < kVectors; ++j) sums[j][i] = sums[j][i] + words::multiply_add_pairs(y, b[1][j]);
      }
    }
  }
};

template <typename Dot, int kRows, int kVectors>
void run_tiles(ByteTile& tile) {
  for (; tile.count > 0; --tile.count) {
    Ints sums[kVectors][kRows];
    TENFOLD_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      const Ints start = Ints::load(tile.start + j * kWidth);
      TENFOLD_UNROLL
      for (int i = 0; i < kRows; ++i) sums[j][i] = start;
    }
    Dot::template add_all<kRows, kVectors>(sums, tile);
    finish_tile(sums, tile);
    tile.a += kRows * tile.row_stride;
    tile.wide_a += kRows * tile.wide_row_stride;
    tile.c += kRows * tile.c_stride;
    if (tile.residual != nullptr) tile.residual += kRows * tile.residual_stride;
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

/// What ordered panels need of rows, each unless it is nullptr: every byte `flip`ped, in one or all of the versions,
/// `version_bytes` apart; and as 16-bit numbers.
struct RowTarget {
  std::uint8_t* bytes;
  std::int64_t stride;
  std::uint8_t* wide;
  std::int64_t wide_stride;
};
/// Versions and wide rows have room for whole vectors. Rows may be converted in place if they have as well.
void convert_rows(const std::uint8_t* from, std::int64_t from_stride, std::int64_t count, std::int64_t rows, Ints flip,
                  bool all_versions, std::int64_t version_bytes, const RowTarget& to) {
  const Ints second = quad_shuffle(kQuadVersions[1]), third = quad_shuffle(kQuadVersions[2]);
  const std::uint8_t* const end = from + (rows - 1) * from_stride + count;
  for (std::int64_t r = 0; r < rows; ++r, from += from_stride) {
    for (std::int64_t i = 0; i < count; i += Ints::kBytes) {
      const bool reads_on = end - from - i >= Ints::kBytes;  // the next row's bytes are of no meaning, but there
      const Ints x = (reads_on ? Ints::load(from + i) : Ints::load_first_bytes(from + i, count - i)) ^ flip;
      if (to.bytes != nullptr) {
        std::uint8_t* out = to.bytes + r * to.stride + i;
        x.store(out);
        if (all_versions) {
          shuffle(x, second).store(out + version_bytes);
          shuffle(x, third).store(out + 2 * version_bytes);
        }
      }
      if (to.wide != nullptr) {
        std::uint8_t* out = to.wide + r * to.wide_stride + 2 * i;
        words::low_unsigned(x).store(out);
        words::high_unsigned(x).store(out + Ints::kBytes);
      }
    }
  }
}

/// The wide ones of an ordered panel's quads, of `vectors` vectors each.
void widen_panel(const std::int8_t* panel, const std::uint16_t* order, std::int64_t quads, int vectors,
                 std::uint8_t* to) {
  const std::int64_t quad_bytes = vectors * Ints::kBytes;
  for (std::int64_t i = order[0] + order[1]; i < quads; ++i, to += 2 * quad_bytes) {
    for (std::int64_t j = 0; j < quad_bytes; j += Ints::kBytes) {
      const Ints bytes = Ints::load(panel + i * quad_bytes + j);
      words::first_signed(bytes).store(to + j);
      words::last_signed(bytes).store(to + quad_bytes + j);
    }
  }
}

/// How blocks use the scratch memory: [copied rows][wide rows][one wide panel][sums][operands of a program].
struct Scratch {
  std::int64_t version_bytes, copied_stride, wide_stride, wide_panel_bytes, sum_stride, operand_bytes;

  explicit Scratch(const ByteProductArgs& args) {
    const bool is_ordered = args.orders != nullptr;
    const std::int64_t panel_width = args.tiling.tile_vectors * kWidth, quads = ceil_div(args.depth, 4);
    version_bytes = 4 * version_quads(args.depth, Vec::kWidth);
    copied_stride = row_stride(is_ordered ? 3 * version_bytes : args.depth);
    wide_stride = is_ordered ? row_stride(2 * version_bytes) : 0;
    wide_panel_bytes = is_ordered ? quads * 8 * panel_width : 0;
    sum_stride = panel_width * 4;
    operand_bytes = FinishArgs::kMaxOperands * panel_width * 4;
  }
  /// How many rows fit.
  std::int64_t rows(std::size_t bytes) const {
    const std::int64_t rest = static_cast<std::int64_t>(bytes) - wide_panel_bytes - operand_bytes;
    return rest / (copied_stride + wide_stride + sum_stride);
  }

 private:
  static std::int64_t row_stride(std::int64_t bytes) {
    constexpr std::int64_t kLine = 64, kSameSets = 4096;
    const std::int64_t stride = ceil_div(bytes, kLine) * kLine;
    return stride % kSameSets == 0 ? stride + kLine : stride;
  }
};

/// One work item: rows x panels of one group.
struct Block {
  std::int64_t group, row_begin, row_end, panel_begin, panel_end;
};

void run_block(const ByteProductArgs& args, const Scratch& layout, const Block& block, std::byte* scratch) {
  const ByteFinish& finish = args.finish;
  const std::int64_t rows = block.row_end - block.row_begin;
  const std::int64_t quads = ceil_div(args.depth, 4);
  const std::int64_t padded_columns = ceil_div(args.columns, kWidth) * kWidth;
  const std::int64_t panel_width = args.tiling.tile_vectors * kWidth;
  const std::int64_t channels = args.conv == nullptr
                                    ? args.depth
                                    : args.depth / (args.conv->kernel[0] * args.conv->kernel[1] * args.conv->kernel[2]);
  const std::uint8_t* a = args.a + block.group * channels;

  const std::int64_t panel_count = ceil_div(args.columns, panel_width);
  const bool is_ordered = args.orders != nullptr;
  const std::uint16_t* orders =
      is_ordered ? args.orders + block.group * panel_count * panel_order_size(quads) : nullptr;
  bool has_wide = false, all_versions = false;
  for (std::int64_t p = block.panel_begin; p < block.panel_end && is_ordered; ++p) {
    const std::uint16_t* order = orders + p * panel_order_size(quads);
    has_wide = has_wide || order[0] + order[1] < quads;
    all_versions = all_versions || order[2] > 1;
  }

  ByteTile tile{};
  tile.quads = quads;
  tile.flip = args.a_is_signed ? static_cast<std::int32_t>(0x80808080U) : 0;
  // Rows as they are, or copied together; ordered panels need them unsigned.
  const std::uint8_t* rows_at = a + block.row_begin * args.a_stride;
  const bool joins = args.conv != nullptr || args.depth % 4 != 0;
  const bool converts = is_ordered && (args.a_is_signed || all_versions);
  RowTarget to{};
  if (joins || converts) {
    to.bytes = reinterpret_cast<std::uint8_t*>(scratch);
    to.stride = layout.copied_stride;
    scratch += rows * to.stride;
  }
  if (has_wide) {
    to.wide = reinterpret_cast<std::uint8_t*>(scratch);
    to.wide_stride = layout.wide_stride;
    scratch += rows * to.wide_stride;
  }
  const Ints flip(is_ordered ? tile.flip : 0);
  if (!joins) {
    if (converts || has_wide) {
      convert_rows(rows_at, args.a_stride, args.depth, rows, flip, all_versions, layout.version_bytes, to);
    }
  } else {
    const RowSource source{a, args.a_stride, args.depth, args.conv, args.zero};
    // Some rows at a time, which are still in the first-level cache when they are converted.
    constexpr std::int64_t kTogether = 32;
    for (std::int64_t r = 0; r < rows; r += kTogether) {
      const std::int64_t count = min(kTogether, rows - r);
      const RowTarget here{to.bytes + r * to.stride, to.stride, has_wide ? to.wide + r * to.wide_stride : nullptr,
                           to.wide_stride};
      copy_rows(source, block.row_begin + r, count, to.stride, here.bytes);
      if (converts || has_wide) {
        convert_rows(here.bytes, to.stride, layout.version_bytes, count, flip, all_versions, layout.version_bytes,
                     here);
      }
    }
  }
  const std::uint8_t* first_row = to.bytes != nullptr ? to.bytes : rows_at;
  tile.row_stride = to.bytes != nullptr ? to.stride : args.a_stride;
  tile.wide_row_stride = to.wide_stride;
  auto* wide_panel = reinterpret_cast<std::uint8_t*>(scratch);
  tile.wide_panel = wide_panel;
  scratch += layout.wide_panel_bytes;
  auto* sums = reinterpret_cast<float*>(scratch);
  const bool has_program = finish.program.program != nullptr;
  const std::int64_t element = bytes_of(finish.result), residual_element = bytes_of(finish.residual_type);
  const Tiles* tiles = is_ordered          ? kAllTiles<OrderedDot>
                       : args.has_byte_dot ? kAllTiles<QuadDot<ByteDot>>
                                           : kAllTiles<QuadDot<WordDot>>;
  const ByteLimits limits(finish);
  tile.finish = &finish;
  tile.limits = &limits;
  tile.residual_stride = finish.residual_stride * residual_element;
  const std::int8_t* panels = args.panels + block.group * padded_columns * quads * 4;
  for (std::int64_t p = block.panel_begin; p < block.panel_end; ++p) {
    const std::int64_t n = p * panel_width, column = block.group * args.columns + n;
    const PanelColumns columns = panel_columns(args.columns - n, args.tiling.tile_vectors);
    tile.panel = panels + n * quads * 4;
    tile.start = args.start + block.group * padded_columns + n;
    tile.order = is_ordered ? orders + p * panel_order_size(quads) : nullptr;
    if (has_wide) widen_panel(tile.panel, tile.order, quads, columns.vectors, wide_panel);
    tile.tail = columns.tail;
    std::uint8_t* c = static_cast<std::uint8_t*>(args.c) + (block.row_begin * args.c_stride + column) * element;
    const bool in_place = has_program && finish.result == ByteResult::float32;
    std::uint8_t* target = has_program && !in_place ? reinterpret_cast<std::uint8_t*>(sums) : c;
    tile.c_stride = has_program && !in_place ? panel_width * 4 : args.c_stride * element;
    tile.scale = has_program ? nullptr : finish.scale + column;
    tile.offset = has_program ? nullptr : finish.offset + column;
    tile.a = first_row;
    tile.wide_a = to.wide;
    tile.c = target;
    tile.residual = finish.residual == nullptr
                        ? nullptr
                        : static_cast<const std::uint8_t*>(finish.residual) +
                              (block.row_begin * finish.residual_stride + column) * residual_element;
    for (std::int64_t r = 0; r < rows;) {
      const std::int64_t count = next_tile_rows(rows - r, args.tiling.tile_rows);
      tile.count = equal_tiles(rows - r, args.tiling.tile_rows);
      r += count * tile.count;
      tiles[columns.vectors - 1].by_rows[count - 1](tile);
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
  const Scratch layout(args);
  // Two tiles of the end share the rows of one to two, so one more may be needed.
  const std::int64_t fitting_tiles = layout.rows(workers.scratch_bytes) / tile_rows - 1;
  const std::int64_t row_block = max(1, min(args.tiling.row_block, fitting_tiles * tile_rows));
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
    if (block.row_begin < block.row_end) run_block(args, layout, block, scratch);
  });
}

void to_floats(const std::uint8_t* from, std::int64_t count, ByteResult type, float* to) {
  for (std::int64_t i = 0; i < count; i += kWidth) {
    const int n = static_cast<int>(min(count - i, kWidth));
    load_as_floats(from + i, type, n).store_first(to + i, n);
  }
}

template <int kRows>
void finish_rows(const ByteSums& from, std::int64_t row, std::int64_t column, ByteTile& tile) {
  const Ints start = Ints::load(from.start + column);
  Ints sums[1][kRows];
  TENFOLD_UNROLL
  for (int i = 0; i < kRows; ++i) sums[0][i] = Ints::load(from.sums + (row + i) * kTileColumns + column) + start;
  finish_tile(sums, tile);
  tile.c += kRows * tile.c_stride;
  if (tile.residual != nullptr) tile.residual += kRows * tile.residual_stride;
}

}  // namespace

void finish_byte_sums(const ByteSums& from) {
  constexpr int kRows = 4;
  const ByteFinish& finish = *from.finish;
  const ByteLimits limits(finish);
  const std::int64_t element = from.scale == nullptr ? 4 : bytes_of(finish.result);
  ByteTile tile{};
  tile.finish = &finish;
  tile.limits = &limits;
  tile.c_stride = from.c_stride;
  tile.residual_stride = from.residual_stride;
  for (std::int64_t n = 0; n < from.columns; n += kWidth) {
    tile.tail = static_cast<int>(min(from.columns - n, kWidth));
    tile.c = from.c + n * element;
    if (from.scale != nullptr) {
      tile.scale = from.scale + n;
      tile.offset = from.offset + n;
    }
    tile.residual = from.residual == nullptr ? nullptr : from.residual + n * bytes_of(finish.residual_type);
    std::int64_t r = 0;
    for (; r + kRows <= from.rows; r += kRows) finish_rows<kRows>(from, r, n, tile);
    for (; r < from.rows; ++r) finish_rows<1>(from, r, n, tile);
  }
}

const ByteKernels kByteKernels = {to_floats, store_rounded, max_byte_tile_rows, run, run_byte_depthwise};

}  // namespace tenfold::cpu::TENFOLD_TIER
