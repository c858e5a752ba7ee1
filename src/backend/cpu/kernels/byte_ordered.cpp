// Products of 8-bit integers with ordered panels, see byte_product.hpp: for processors without the instruction for
// quads.
//
// A tile is eight rows by one vector of columns: the fewer columns a panel has, the fewer of its quads are wide. Rows
// of a tile are copied together, quad by quad, [version][quad][row][4], so that one address serves all of them; and
// then all panels pass, while the copy stays in the first-level cache. Therefore the depth is cut into segments, each
// with orders of its own; between them sums wait in memory.
#include <utility>

#include "backend/cpu/kernels/byte_blocks.hpp"
#include "backend/cpu/kernels/byte_kernels.hpp"
#include "backend/cpu/kernels/copied_rows.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

constexpr std::int64_t kWidth = Ints::kWidth;
constexpr std::int64_t kRowsTogether = QuadRows::kRows;
constexpr std::int64_t kQuadBytes = 4 * kRowsTogether;  ///< of all rows of a tile
static_assert(kMaxOrderedRows == kRowsTogether);

/// Panels of a segment that follow each other, times the rows of a tile.
struct OrderedTile {
  const std::uint8_t* rows;  ///< [version][quad][row][4]
  std::int64_t quads;
  const std::uint16_t* order;
  const std::int8_t* panel;
  std::int64_t panels;
  int tail;                   ///< columns of the last one
  const std::int32_t* start;  ///< nullptr: `sums` are gone on with
  std::int32_t* sums;         ///< [panel][row][kWidth]
  ByteResults to;
  std::int64_t column_bytes, residual_column_bytes;  ///< from panel to panel
};

/// Quads of which kTogether are added in 16 bits; leads `quad` to what follows them. Returns `end`.
template <int kTogether, int kRows>
[[gnu::always_inline]] inline const std::uint16_t* add_together(Ints (&sums)[kRows], const std::uint8_t* rows,
                                                                const std::uint16_t* order, const std::uint16_t* end,
                                                                const std::int8_t*& quad) {
  constexpr std::int64_t kVector = Ints::kBytes;
  const Ints ones = words::all(1);
  for (; order != end; order += kTogether, quad += kTogether * kVector) {
    const std::uint8_t* row[kTogether];
    Ints b[kTogether];
    TENFOLD_UNROLL
    for (int n = 0; n < kTogether; ++n) {
      row[n] = rows + kQuadBytes * order[n];
      b[n] = Ints::load(quad + n * kVector);
    }
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      Ints both = words::multiply_add_bytes(Ints::broadcast(row[0] + 4 * i), b[0]);
      TENFOLD_UNROLL
      for (int n = 1; n < kTogether; ++n) {
        if constexpr (kTogether > 2) asm("" : "+v"(both.v));  // one after the other: four at once exceed the registers
        both = words::add(both, words::multiply_add_bytes(Ints::broadcast(row[n] + 4 * i), b[n]));
      }
      sums[i] = sums[i] + words::multiply_add_pairs(both, ones);
    }
  }
  return end;
}

/// Adds a panel's products; leads `order` and `quad` to the next panel.
template <int kRows>
[[gnu::always_inline]] inline void add_all(Ints (&sums)[kRows], const OrderedTile& tile, const std::uint16_t*& order,
                                           const std::int8_t*& quad) {
  constexpr std::int64_t kVector = Ints::kBytes;
  const Ints ones = words::all(1);
  const std::uint16_t* const fours_end = order + kOrderHead + order[0];
  const std::uint16_t* const paired_end = fours_end + order[1];
  const std::uint16_t* const single_end = paired_end + order[2];
  const std::uint16_t* const end = order + panel_order_size(tile.quads);
  order += kOrderHead;
  order = add_together<4>(sums, tile.rows, order, fours_end, quad);
  order = add_together<2>(sums, tile.rows, order, paired_end, quad);
  for (; order != single_end; ++order, quad += kVector) {
    const std::uint8_t* row = tile.rows + kQuadBytes * *order;
    const Ints b = Ints::load(quad);
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const Ints two = words::multiply_add_bytes(Ints::broadcast(row + 4 * i), b);
      sums[i] = sums[i] + words::multiply_add_pairs(two, ones);
    }
  }
  for (; order != end; ++order, quad += 2 * kVector) {
    const std::uint8_t* row = tile.rows + kQuadBytes * *order;
    const Ints b0 = Ints::load(quad), b1 = Ints::load(quad + kVector);
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const Ints x = Ints::broadcast(row + 4 * i);
      const Ints four = words::multiply_add_pairs(words::even_unsigned(x), b0) +
                        words::multiply_add_pairs(words::odd_unsigned(x), b1);
      sums[i] = sums[i] + four;
    }
  }
}

/// What becomes of sums: they wait for the next segment, or become bytes in registers, or something else.
enum class After { waits, bytes, other };

template <int kRows, After kAfter>
void run_panels(const OrderedTile& tile) {
  const std::uint16_t* order = tile.order;
  const std::int8_t* panel = tile.panel;
  const std::int32_t* start = tile.start;
  std::int32_t* kept = tile.sums;
  ByteResults to = tile.to;
  for (std::int64_t left = tile.panels; left > 0; --left, kept += kRows * kWidth) {
    Ints sums[1][kRows];
    if (start != nullptr) {
      const Ints first = Ints::load(start);
      TENFOLD_UNROLL
      for (int i = 0; i < kRows; ++i) sums[0][i] = first;
      start += kWidth;
    } else {
      TENFOLD_UNROLL
      for (int i = 0; i < kRows; ++i) sums[0][i] = Ints::load(kept + i * kWidth);
    }
    add_all(sums[0], tile, order, panel);
    if constexpr (kAfter == After::waits) {
      TENFOLD_UNROLL
      for (int i = 0; i < kRows; ++i) sums[0][i].store(kept + i * kWidth);
    } else {
      to.tail = left == 1 ? tile.tail : static_cast<int>(kWidth);
      if (kAfter == After::bytes && (left > 1 || tile.tail == kWidth)) {
        finish_whole_bytes(sums, to);
      } else {
        finish_tile(sums, to);
      }
      to.c += tile.column_bytes;
      if (to.scale != nullptr) {
        to.scale += kWidth;
        to.offset += kWidth;
      }
      if (to.residual != nullptr) to.residual += tile.residual_column_bytes;
    }
  }
}

using PanelsRun = void (*)(const OrderedTile&);
struct PanelsByRows {
  PanelsRun of[kRowsTogether];
};
template <After kAfter, int... kLess>
constexpr PanelsByRows make_panels(std::integer_sequence<int, kLess...>) {
  return {{run_panels<kLess + 1, kAfter>...}};
}
template <After kAfter>
constexpr PanelsByRows kPanelsByRows = make_panels<kAfter>(std::make_integer_sequence<int, int{kRowsTogether}>());

/// All of kQuadVersions.
class RowVersions {
 public:
  RowVersions() : RowVersions(std::make_index_sequence<kNumQuadVersions>()) {}
  const QuadShuffle& operator[](std::int64_t version) const { return shuffles_[version]; }

 private:
  template <std::size_t... kVersion>
  explicit RowVersions(std::index_sequence<kVersion...>)
      : shuffles_{QuadShuffle(kQuadVersions[kVersion].order, kQuadVersions[kVersion].flips)...} {}
  QuadShuffle shuffles_[kNumQuadVersions];
};

/// `count` bytes of up to eight rows, which can be read up to `end`, as OrderedTile wants them, in the versions that
/// the bits of `needed` name. Signed ones are shifted by 128.
void convert_rows(const std::uint8_t* from, std::int64_t stride, std::int64_t rows, std::int64_t count,
                  const std::uint8_t* end, bool is_signed, const RowVersions& versions, unsigned needed,
                  std::uint8_t* to) {
  const std::int64_t version_bytes = version_quads(count) * kQuadBytes;
  for (std::int64_t i = 0; i < count; i += QuadRows::kBytes) {
    QuadRows quads;
    quads.load(from + i, stride, static_cast<int>(rows), end, is_signed);
    quads.transpose();
    for (std::int64_t v = 0; v < kNumQuadVersions; ++v) {
      if ((needed >> v & 1) != 0) quads.store_shuffled(versions[v], to + v * version_bytes);
    }
    to += QuadRows::kRows * QuadRows::kBytes;
  }
}

/// How blocks use the scratch memory: [copied rows][a tile's rows][the same, wide][sums between segments][sums of a
/// tile as floats][operands of a program].
struct Scratch {
  std::int64_t copied_stride, rows_bytes, sum_stride, value_stride, operand_bytes;

  Scratch(const ByteProductArgs& args, std::int64_t panels) {
    const std::int64_t quads = version_quads(min(args.depth, args.tiling.depth_block));
    copied_stride = copied_row_stride(args.depth + QuadRows::kBytes);
    rows_bytes = kNumQuadVersions * quads * kQuadBytes;
    sum_stride = args.depth > args.tiling.depth_block ? panels * kWidth * 4 : 0;
    value_stride = panels * kWidth;
    operand_bytes = FinishArgs::kMaxOperands * value_stride * 4;
  }
  /// How many rows fit.
  std::int64_t rows(std::size_t bytes) const {
    const std::int64_t rest =
        static_cast<std::int64_t>(bytes) - rows_bytes - operand_bytes - kRowsTogether * value_stride * 4;
    return rest / (copied_stride + sum_stride);
  }
};

void run_block(const ByteProductArgs& args, const Scratch& layout, const ProductBlock& block, std::byte* scratch) {
  const ByteFinish& finish = args.finish;
  const std::int64_t rows = block.row_end - block.row_begin, panels = block.panel_end - block.panel_begin;
  const std::int64_t panel_count = ceil_div(args.columns, kWidth);
  const std::int64_t first_column = block.panel_begin * kWidth;
  const std::int64_t columns = min(args.columns - first_column, panels * kWidth);
  const std::int64_t column = block.group * args.columns + first_column;
  const std::int64_t segments = ceil_div(args.depth, args.tiling.depth_block);

  // Rows as they are, or copied together.
  const std::uint8_t* a = args.a + block.group * group_channels(args);
  const std::uint8_t* from = a + block.row_begin * args.a_stride;
  std::int64_t stride = args.a_stride, readable = args.depth;
  if (args.conv != nullptr) {
    auto* copied = reinterpret_cast<std::uint8_t*>(scratch);
    copy_rows({a, args.a_stride, args.depth, args.conv, args.zero}, block.row_begin, rows, layout.copied_stride,
              copied);
    from = copied;
    stride = readable = layout.copied_stride;
  }
  scratch += rows * layout.copied_stride;
  auto* tile_rows = reinterpret_cast<std::uint8_t*>(scratch);
  auto* sums = reinterpret_cast<std::int32_t*>(tile_rows + layout.rows_bytes);
  auto* values = reinterpret_cast<float*>(sums + rows * layout.sum_stride / 4);
  float* room = values + kRowsTogether * layout.value_stride;

  const bool has_program = finish.program.program != nullptr;
  const bool in_place = has_program && finish.result == ByteResult::float32;
  const std::int64_t element = bytes_of(finish.result);
  const ByteLimits limits(finish);
  const RowVersions versions;
  const std::int64_t group_orders = panel_count * (segments * kOrderHead + ceil_div(args.depth, 4));
  const std::uint16_t* orders = args.orders + block.group * group_orders;
  const std::int64_t* offsets = args.panel_offsets + block.group * segments * panel_count + block.panel_begin;
  for (std::int64_t begin = 0; begin < args.depth; begin += args.tiling.depth_block, offsets += panel_count) {
    const std::int64_t depth = min(args.tiling.depth_block, args.depth - begin), quads = ceil_div(depth, 4);
    const std::int64_t order_size = panel_order_size(quads);
    const std::uint16_t* order = orders + block.panel_begin * order_size;
    orders += panel_count * order_size;
    unsigned versions_needed = 0;
    for (std::int64_t p = 0; p < panels; ++p) {
      const std::uint16_t* head = order + p * order_size;
      versions_needed |= head[3];
    }
    const bool is_last = begin + depth == args.depth;
    std::int32_t* tile_sums = sums;
    for (std::int64_t r = 0; r < rows;) {
      const std::int64_t count = next_tile_rows(rows - r, args.tiling.tile_rows), row = block.row_begin + r;
      convert_rows(from + r * stride + begin, stride, count, depth, from + (r + count - 1) * stride + readable,
                   args.a_is_signed, versions, versions_needed, tile_rows);
      OrderedTile tile{};
      tile.rows = tile_rows;
      tile.quads = quads;
      tile.order = order;
      tile.panel = args.panels + offsets[0];
      tile.panels = panels;
      tile.tail = static_cast<int>(columns - (panels - 1) * kWidth);
      tile.start = begin > 0 ? nullptr : args.start + (block.group * panel_count + block.panel_begin) * kWidth;
      tile.sums = tile_sums;
      tile_sums += count * panels * kWidth;
      r += count;
      if (!is_last) {
        kPanelsByRows<After::waits>.of[count - 1](tile);
        continue;
      }
      tile.to = byte_results(args, limits, row, column);
      std::uint8_t* c = tile.to.c;
      tile.column_bytes = kWidth * element;
      tile.residual_column_bytes = kWidth * bytes_of(finish.residual_type);
      if (has_program && !in_place) {
        tile.to.c = reinterpret_cast<std::uint8_t*>(values);
        tile.to.c_stride = layout.value_stride * 4;
        tile.column_bytes = kWidth * 4;
      }
      auto* floats = reinterpret_cast<float*>(tile.to.c);
      const bool makes_bytes = !has_program && finish.result != ByteResult::float32;
      (makes_bytes ? kPanelsByRows<After::bytes> : kPanelsByRows<After::other>).of[count - 1](tile);
      if (has_program) {
        run_byte_program(finish, floats, tile.to.c_stride / 4, row, row + count, column, column + columns, room);
        for (std::int64_t i = 0; i < count && !in_place; ++i) {
          store_rounded(floats + i * layout.value_stride, columns, finish.result, c + i * args.c_stride);
        }
      }
    }
  }
}

}  // namespace

void run_ordered_product(const ByteProductArgs& args, const Workers& workers) {
  // Panels of a segment that stay in the second-level cache while tiles pass, and few enough for the scratch memory.
  constexpr std::int64_t kPartBytes = 256 << 10, kPartPanels = 4096 / kWidth;
  const std::int64_t panels = ceil_div(args.columns, kWidth);
  const std::int64_t panel_bytes = min(args.depth, args.tiling.depth_block) * kWidth;
  const std::int64_t part_panels = max(1, min(kPartPanels, kPartBytes / panel_bytes));
  const std::int64_t parts = ceil_div(panels, part_panels);
  const Scratch layout(args, min(panels, part_panels));
  // Two tiles of the end share the rows of one to two, so one more may be needed.
  const std::int64_t fitting_tiles = layout.rows(workers.scratch_bytes) / args.tiling.tile_rows - 1;
  const std::int64_t row_block = max(1, min(args.tiling.row_block, fitting_tiles * args.tiling.tile_rows));
  for_each_block(args, workers, row_block, kWidth, parts,
                 [&](const ProductBlock& block, std::byte* scratch) { run_block(args, layout, block, scratch); });
}

}  // namespace tenfold::cpu::TENFOLD_TIER
