// The register tile of the matrix product: kRows x kVectors accumulators that stay in registers over the whole depth.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/kernels/activation.hpp"
#include "backend/cpu/kernels/gemm.hpp"
#include "backend/cpu/kernels/simd.hpp"
#include "backend/cpu/kernels/tile_steps.hpp"
#include "backend/cpu/kernels/tile_sums.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// Largest number of rows of any tile; tables of row pointers are this wide.
inline constexpr int kMaxTileRows = 12;
inline constexpr int kMaxTileVectors = 4;
inline constexpr bool kManyRegisters = Vec::kWidth == 16;  // 32, not 16

inline constexpr std::int64_t kFloatBytes = sizeof(float);
inline constexpr std::int64_t kLineBytes = 64, kLineFloats = kLineBytes / kFloatBytes;

/// Whether tiles ask for the rows of C and of the residual before they come to them. Not for AVX2: not measured there.
inline constexpr bool kAsksForRows = kManyRegisters;

/// Lines that a tile asks for from memory while it computes, see PanelAhead.
struct Ahead {
  const std::byte* first;
  int lines;                  ///< for every `depth` multiply-adds of a row
  std::int64_t depth;         ///< > 0 in tiles that fetch
  std::int64_t line_stride;   ///< bytes from a line to the next
  std::int64_t piece_stride;  ///< and from the first one for so many multiply-adds to that for the next ones

  /// Asks for piece i. Never fails, whatever is there.
  [[gnu::always_inline]] void ask(std::int64_t i) const {
    const std::byte* line = first + i * piece_stride;
    for (int j = 0; j < lines; ++j) __builtin_prefetch(line + j * line_stride, 0, 2);
  }
};

struct TileArgs {
  /// The rows of A. In a table: [taps][kMaxTileRows] pointers, of which the tile's rows are used. Evenly spaced:
  /// [taps] pointers to the first row.
  const float* const* rows;
  std::int64_t row_stride;  ///< only if evenly spaced
  std::int64_t offset;      ///< added to each row
  std::int64_t taps, depth;
  const float* panel;         ///< [taps][depth][kVectors * kWidth]
  std::int64_t panel_stride;  ///< floats to the next panel; of find_row_tile's
  float* c;
  std::int64_t c_stride;
  int tail;          ///< columns of the last vector that exist: 1 .. kWidth
  bool accumulates;  ///< continue the sums in c; else begin with bias, or zero
  const float* bias;
  const float* residual;  ///< nullptr: none
  std::int64_t residual_stride;
  std::int64_t more;             ///< tiles right below this one; only if evenly spaced
  const Activation* activation;  ///< nullptr: none
  const float* slopes;           ///< of the tile's columns, see activate
  Ahead ahead;
  bool rows_ahead;  ///< ask for the next tile's part of c and residual, see are_rows_far
};

using TileFunction = void (*)(const TileArgs&);

/// The tile for so many rows and vectors, of whose last one `tail` columns exist; nullptr if this tier has none. Only
/// one that `fetches` looks at TileArgs::ahead: the loop around the loop would cost shallow products 5 %.
template <Rows kRows>
TileFunction find_tile(int rows, int vectors, int tail, bool fetches = false);
int max_tile_rows(int vectors);

/// A tile of all of a product's evenly spaced rows and of `panels` whole panels that follow each other, of `vectors`
/// vectors: see row_tiles.cpp. nullptr if this tier has none. `accumulates` is not looked at, and `tail` is of the last
/// vector of all.
TileFunction find_row_tile(int rows, int vectors, std::int64_t panels);
/// 0: there is no such tile for any number of panels.
std::int64_t max_row_panels(std::int64_t rows, int vectors);

/// A tile for few columns, see GemmArgs::dots: evenly spaced rows, `panel` is [column][tap][depth, padded], and `tail`
/// and `accumulates` are not looked at. Requires 1 <= columns <= kMaxDotColumns and rows of next_dot_rows.
TileFunction find_dot_tile(int rows, int columns);
/// Rows of the next tile when `rest` rows remain. As many tiles as fit may run in one call, see TileArgs::more.
constexpr int next_dot_rows(std::int64_t rest, int columns) {
  const int most = columns == 1 ? 8 : columns == 2 ? 4 : 2;
  return rest >= most ? most : columns == 1 && rest >= 4 ? 4 : 1;
}

// Without full unrolling gcc keeps the accumulators in memory, at a third of the speed.
#define TENFOLD_UNROLL _Pragma("GCC unroll 16")

/// One column of vectors of a tile: its sums from the start to the store.
template <typename V, int kRows>
struct TileColumn {
  V sum[kRows];

  // Inlined by force: a call would send all sums through memory.
  [[gnu::always_inline]] void start(const TileArgs& args, const float* c, int column, bool whole) {
    if (args.accumulates) {
      TENFOLD_UNROLL
      for (int i = 0; i < kRows; ++i) sum[i] = load(c + i * args.c_stride + column, args.tail, whole);
    } else {
      const V first = args.bias == nullptr ? V::zero() : load(args.bias + column, args.tail, whole);
      TENFOLD_UNROLL
      for (int i = 0; i < kRows; ++i) sum[i] = first;
    }
  }
  [[gnu::always_inline]] void finish(const TileArgs& args, float* c, const float* residual, int column, bool whole) {
    if (residual != nullptr) {
      TENFOLD_UNROLL
      for (int i = 0; i < kRows; ++i) {
        sum[i] = sum[i] + load(residual + i * args.residual_stride + column, args.tail, whole);
      }
    }
    if (args.activation != nullptr) {
      const float* slopes = args.slopes == nullptr ? nullptr : args.slopes + column;
      activate(sum, *args.activation, slopes, [&](const float* p) { return load(p, args.tail, whole); });
    }
    const std::int64_t c_stride = args.c_stride;  // a copy: for all that the compiler knows, a store might change it
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      float* p = c + i * c_stride + column;
      if (whole) {
        sum[i].store(p);
      } else {
        sum[i].store_first(p, args.tail);
      }
    }
  }

 private:
  static V load(const float* p, int tail, bool whole) { return whole ? V::load(p) : V::load_first(p, tail); }
};

/// Element k of the rows of one tap. Evenly spaced rows need a third of the pointers: x86 adds once or twice the stride
/// to one for nothing.
template <Rows kKind, int kRows>
struct TileRows;
template <int kRows>
struct TileRows<Rows::table, kRows> {
  const float* a[kRows];
  const float* const* table;
  std::int64_t offset;
  TileRows(const TileArgs& args, std::int64_t, std::int64_t tap)
      : table(args.rows + tap * kMaxTileRows), offset(args.offset) {
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) a[i] = table[i] + offset;
  }
  const float* at(int i, std::int64_t k) const { return a[i] + k; }
  void advance(std::int64_t) {}
  template <int kVectors, typename Sum>
  [[gnu::always_inline]] void run_steps(const float* panel, std::int64_t k, std::int64_t turns, const Sum& sum) const {
    run_table_steps<kRows, kVectors>(panel, table, offset + k, turns, sum);
  }
  static constexpr bool kAdvances = false;
};
template <int kRows>
struct TileRows<Rows::even, kRows> {
  static constexpr int kPointers = (kRows + 2) / 3;
  const float* a[kPointers];
  std::int64_t stride;
  TileRows(const TileArgs& args, std::int64_t tile, std::int64_t tap) : stride(args.row_stride) {
    const float* row = args.rows[tap] + args.offset + tile * kRows * stride;
    TENFOLD_UNROLL
    for (int i = 0; i < kPointers; ++i, row += 3 * stride) a[i] = row;
  }
  const float* at(int i, std::int64_t k) const { return a[i / 3] + (i % 3) * stride + k; }
  template <int kVectors, typename Sum>
  [[gnu::always_inline]] void run_steps(const float* panel, std::int64_t, std::int64_t turns, const Sum& sum) {
    run_even_steps<kRows, kVectors>(panel, a[0], stride, turns, sum);
    advance(kTileSteps * turns);
  }
  void advance(std::int64_t k) {
    TENFOLD_UNROLL
    for (int i = 0; i < kPointers; ++i) a[i] += k;
  }
  static constexpr bool kAdvances = true;
};

/// Asks for the `rows` rows of a tile, each of so many lines. Never fails, also where there are no such rows.
template <bool kWritten>
void ask_for_rows(const float* row, std::int64_t stride, int rows, int lines) {
  for (int i = 0; i < rows; ++i, row += stride) {
    for (int j = 0; j < lines; ++j) __builtin_prefetch(row + j * kLineFloats, kWritten ? 1 : 0);
  }
}

/// Of the tile below, if TileArgs::rows_ahead says so.
template <int kRows, int kVectors>
void ask_for_next_rows(const TileArgs& args, const float* c, const float* residual) {
  if constexpr (kAsksForRows) {
    if (!args.rows_ahead) return;
    constexpr int kLines = kVectors * Vec::kWidth / kLineFloats;
    ask_for_rows<true>(c + kRows * args.c_stride, args.c_stride, kRows, kLines);
    if (residual == nullptr) return;
    ask_for_rows<false>(residual + kRows * args.residual_stride, args.residual_stride, kRows, kLines);
  }
}

/// Stores what the sums have become. Of the last vector of `columns`, or of `half`, args.tail columns exist.
template <int kRows, int kVectors, bool kHalf, int kColumns>
[[gnu::always_inline]] inline void finish_tile(const TileArgs& args, float* c, const float* residual,
                                               TileColumn<Vec, kRows> (&columns)[kColumns],
                                               TileColumn<Half, kRows>& half) {
  constexpr int kWidth = Vec::kWidth, kWhole = kHalf ? kVectors - 1 : kVectors;
  const bool last_is_whole = !kHalf && args.tail == kWidth;
  TENFOLD_UNROLL
  for (int j = 0; j < kWhole; ++j) columns[j].finish(args, c, residual, j * kWidth, j + 1 < kVectors || last_is_whole);
  if constexpr (kHalf) half.finish(args, c, residual, kWhole * kWidth, args.tail == Half::kWidth);
}

#if defined(__AVX512F__)
/// The sums of tiles below each other, see tile_sums.hpp.
template <Rows kKind, int kRows, int kVectors, bool kHalf, bool kFetches>
class TileSummer {
 public:
  explicit TileSummer(const TileArgs& args)
      : args_(args),
        is_whole_(args.tail == kWidth),
        begin_(args.accumulates || args.bias == nullptr ? kZeros : args.bias),
        what_{.begin_stride = 0,
              .rows = nullptr,
              .offset = args.offset * kFloatBytes,
              .stride = args.row_stride * kFloatBytes,
              .turns = args.depth / kSumSteps,
              .rest = args.depth % kSumSteps,
              .taps = 0,
              .ahead = args.ahead.first,
              .lines = args.ahead.lines,
              .turns_of_piece = args.ahead.depth / kSumSteps,
              .turns_left = 0,
              .line_stride = args.ahead.line_stride,
              .piece_stride = args.ahead.piece_stride},
        ahead_(args.ahead) {
    if constexpr (kFetches) {
      pieces_in_loop_ = args.taps * ((what_.turns + what_.turns_of_piece - 1) / what_.turns_of_piece);
      pieces_ = args.taps * ((args.depth + ahead_.depth - 1) / ahead_.depth);
    }
    if (begin_ == kZeros || is_whole_) return;
    copy_row(begin_, copies_);
    begin_ = copies_;
  }

  /// The sums of the next tile, whose results belong to `c`; of half a last vector in `half`.
  [[gnu::always_inline]] void run(const float* c, TileColumn<Vec, kRows> (&columns)[kVectors],
                                  TileColumn<Half, kRows>& half) {
    if (args_.accumulates) begin_with(c);
    what_.rows = args_.rows;
    what_.taps = args_.taps;
    if constexpr (kFetches) {
      for (std::int64_t i = pieces_in_loop_; i < pieces_; ++i) ahead_.ask(i);
    }
    // A transposed convolution has pixels that no position of the kernel reaches.
    const float* row = args_.taps == 0 ? nullptr : args_.rows[0] + what_.offset / kFloatBytes;
    TileSumLoop<kKind, kRows, kVectors>::template run<kHalf, kFetches>(&what_, begin_, row, args_.panel, columns, half);
    what_.offset += kRows * what_.stride;
    if constexpr (kFetches) what_.ahead = ahead_.first += pieces_ * ahead_.piece_stride;
  }

 private:
  static_assert(kMaxTileRows * sizeof(float*) == 96, "the distance of two taps in a table, for the assembly");
  static constexpr std::int64_t kWidth = Vec::kWidth, kColumns = kVectors * kWidth;
  alignas(kLineBytes) static constexpr float kZeros[kColumns] = {};

  void copy_row(const float* from, float* to) const {
    for (int j = 0; j + 1 < kVectors; ++j) Vec::load(from + j * kWidth).store(to + j * kWidth);
    Vec::load_first(from + kColumns - kWidth, args_.tail).store(to + kColumns - kWidth);
  }
  void begin_with(const float* c) {
    begin_ = c;
    what_.begin_stride = args_.c_stride * kFloatBytes;
    if (is_whole_) return;
    for (int i = 0; i < kRows; ++i) copy_row(c + i * args_.c_stride, copies_ + i * kColumns);
    begin_ = copies_;
    what_.begin_stride = kColumns * kFloatBytes;
  }

  const TileArgs& args_;
  const bool is_whole_;
  const float* begin_;
  TileSums what_;
  Ahead ahead_;  ///< of the next tile
  /// Pieces of a tile before which it asks; a last one that is shorter than a turn is not in the loop.
  std::int64_t pieces_ = 0, pieces_in_loop_ = 0;
  alignas(kLineBytes) float copies_[kRows * kColumns];  ///< what sums begin with where the last vector is not whole
};

template <Rows kKind, int kRows, int kVectors, bool kHalf, bool kFetches>
void run_summed_tiles(const TileArgs& args) {
  TileSummer<kKind, kRows, kVectors, kHalf, kFetches> summer(args);
  float* c = args.c;
  const float* residual = args.residual;
  for (std::int64_t tile = 0; tile <= args.more; ++tile) {
    ask_for_next_rows<kRows, kVectors>(args, c, residual);
    TileColumn<Vec, kRows> columns[kVectors];
    TileColumn<Half, kRows> half;
    summer.run(c, columns, half);
    finish_tile<kRows, kVectors, kHalf>(args, c, residual, columns, half);
    c += kRows * args.c_stride;
    if (residual != nullptr) residual += kRows * args.residual_stride;
  }
}
#endif

/// kHalf: the last vector is only a Half wide, although the panel holds a whole one. kFetches: see find_tile.
template <Rows kKind, int kRows, int kVectors, bool kHalf, bool kFetches>
void run_tile(const TileArgs& args) {
#if defined(__AVX512F__)
  if constexpr (kHasTileSums<kKind, kRows, kVectors>) {
    run_summed_tiles<kKind, kRows, kVectors, kHalf, kFetches>(args);
    return;
  }
#endif
  constexpr int kWidth = Vec::kWidth;
  constexpr int kWhole = kHalf ? kVectors - 1 : kVectors;
  const bool last_is_whole = !kHalf && args.tail == kWidth;
  float* c = args.c;
  const float* residual = args.residual;
  [[maybe_unused]] Ahead ahead = args.ahead;
  const std::int64_t depth = args.depth;
  for (std::int64_t tile = 0; tile <= args.more; ++tile) {
    ask_for_next_rows<kRows, kVectors>(args, c, residual);
    TileColumn<Vec, kRows> columns[kWhole == 0 ? 1 : kWhole];
    TileColumn<Half, kRows> half;
    TENFOLD_UNROLL
    for (int j = 0; j < kWhole; ++j) columns[j].start(args, c, j * kWidth, j + 1 < kVectors || last_is_whole);
    if constexpr (kHalf) half.start(args, c, kWhole * kWidth, false);

    const float* panel = args.panel;
    for (std::int64_t t = 0; t < args.taps; ++t) {
      TileRows<kKind, kRows> rows(args, tile, t);
      const auto multiply_add = [&](std::int64_t k, const float* p) __attribute__((always_inline)) {
        Vec b[kWhole == 0 ? 1 : kWhole];
        Half b_half;
        TENFOLD_UNROLL
        for (int j = 0; j < kWhole; ++j) b[j] = Vec::load(p + j * kWidth);
        if constexpr (kHalf) b_half = Half::load(p + kWhole * kWidth);
        TENFOLD_UNROLL
        for (int i = 0; i < kRows; ++i) {
          if constexpr (kWhole == 0) {
            // A whole vector would take twice as long to load.
            half.sum[i] = fma(Half::broadcast(rows.at(i, k)), b_half, half.sum[i]);
          } else {
            const Vec x = Vec::broadcast(rows.at(i, k));
            TENFOLD_UNROLL
            for (int j = 0; j < kWhole; ++j) columns[j].sum[i] = fma(x, b[j], columns[j].sum[i]);
            if constexpr (kHalf) half.sum[i] = fma(Half(x), b_half, half.sum[i]);
          }
        }
      };
      const auto multiply_rows = [&](std::int64_t k, std::int64_t end) __attribute__((always_inline)) {
        if constexpr (kIsStepped<kRows, kVectors> && !kHalf) {
          if (const std::int64_t turns = (end - k) / kTileSteps; turns > 0) {
            rows.template run_steps<kVectors>(
                panel, k, turns, [&](int i, int j) __attribute__((always_inline))->Vec & { return columns[j].sum[i]; });
            panel += kTileSteps * turns * kVectors * kWidth;
            k += kTileSteps * turns;
          }
        }
        if constexpr (TileRows<kKind, kRows>::kAdvances) {
          // Offsets known to the compiler: the pointers move once for two steps, if there are registers for that.
          if constexpr (kManyRegisters) {
            for (; k + 2 <= end; k += 2) {
              multiply_add(0, panel);
              multiply_add(1, panel + kVectors * kWidth);
              rows.advance(2);
              panel += 2 * kVectors * kWidth;
            }
          }
          for (; k < end; ++k) {
            multiply_add(0, panel);
            rows.advance(1);
            panel += kVectors * kWidth;
          }
        } else {
          for (; k < end; ++k) {
            multiply_add(k, panel);
            panel += kVectors * kWidth;
          }
        }
      };
      if constexpr (kFetches) {
        for (std::int64_t k = 0; k < depth; k += ahead.depth) {
          ahead.ask(0);
          ahead.first += ahead.piece_stride;
          multiply_rows(k, depth - k < ahead.depth ? depth : k + ahead.depth);
        }
      } else {
        multiply_rows(0, depth);
      }
    }

    finish_tile<kRows, kVectors, kHalf>(args, c, residual, columns, half);
    c += kRows * args.c_stride;
    if (residual != nullptr) residual += kRows * args.residual_stride;
  }
}

}  // namespace tenfold::cpu::TENFOLD_TIER
