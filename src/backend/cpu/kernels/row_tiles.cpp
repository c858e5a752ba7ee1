// Tiles of few rows. Their product reads every weight once, so it is as fast as weights come from memory, and more come
// when a core's prefetchers follow several places at once: a tile goes through several panels side by side.
#include <utility>

#include "backend/cpu/kernels/gemm_tile.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

constexpr int kMaxRows = 8;
/// Panels whose places fit in general registers.
constexpr int kMaxPanels = 12;
/// Sums that registers hold, beside what they are made of.
constexpr int kSums = kManyRegisters ? 24 : 12;
/// More rows than one come with panels of one vector only.
constexpr int most_panels(int rows, int vectors) {
  const int most = vectors == 1 || rows == 1 ? kSums / (rows * vectors) : 0;
  return most < kMaxPanels ? most : kMaxPanels;
}

template <int kRows, int kVectors, int kPanels>
void run_row_tile(const TileArgs& args) {
  constexpr int kWidth = Vec::kWidth, kColumns = kVectors * kPanels;
  TileColumn<Vec, kRows> columns[kColumns];
  const auto is_whole = [&](int j) { return j + 1 < kColumns || args.tail == kWidth; };
  TENFOLD_UNROLL
  for (int j = 0; j < kColumns; ++j) columns[j].start(args, args.c, j * kWidth, is_whole(j));
  const float* panels[kPanels];
  TENFOLD_UNROLL
  for (int p = 0; p < kPanels; ++p) panels[p] = args.panel + p * args.panel_stride;
  TileRows<Rows::even, kRows> rows(args, 0, 0);
  const std::int64_t end = args.depth * kVectors * kWidth;
  for (std::int64_t at = 0; at < end; at += kVectors * kWidth) {
    Vec b[kColumns];
    TENFOLD_UNROLL
    for (int j = 0; j < kColumns; ++j) b[j] = Vec::load(panels[j / kVectors] + at + j % kVectors * kWidth);
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const Vec x = Vec::broadcast(rows.at(i, 0));
      TENFOLD_UNROLL
      for (int j = 0; j < kColumns; ++j) columns[j].sum[i] = fma(x, b[j], columns[j].sum[i]);
    }
    rows.advance(1);
  }
  TENFOLD_UNROLL
  for (int j = 0; j < kColumns; ++j) columns[j].finish(args, args.c, args.residual, j * kWidth, is_whole(j));
}

/// By panels, from 1.
struct RowTiles {
  TileFunction by_panels[kMaxPanels];
};
template <int kRows, int kVectors, int... kLess>
constexpr RowTiles make_row_tiles(std::integer_sequence<int, kLess...>) {
  return {{run_row_tile<kRows, kVectors, kLess + 1>...}};
}
template <int kRows, int kVectors>
constexpr RowTiles kRowTiles =
    make_row_tiles<kRows, kVectors>(std::make_integer_sequence<int, most_panels(kRows, kVectors)>());
constexpr RowTiles kOfOneRow[kMaxTileVectors] = {kRowTiles<1, 1>, kRowTiles<1, 2>, kRowTiles<1, 3>, kRowTiles<1, 4>};
constexpr RowTiles kOfOneVector[kMaxRows] = {kRowTiles<1, 1>, kRowTiles<2, 1>, kRowTiles<3, 1>, kRowTiles<4, 1>,
                                             kRowTiles<5, 1>, kRowTiles<6, 1>, kRowTiles<7, 1>, kRowTiles<8, 1>};

}  // namespace

std::int64_t max_row_panels(std::int64_t rows, int vectors) {
  const bool exists = 1 <= rows && rows <= kMaxRows && 1 <= vectors && vectors <= kMaxTileVectors;
  return exists ? most_panels(static_cast<int>(rows), vectors) : 0;
}

TileFunction find_row_tile(int rows, int vectors, std::int64_t panels) {
  if (panels < 1 || panels > max_row_panels(rows, vectors)) return nullptr;
  return (rows == 1 ? kOfOneRow[vectors - 1] : kOfOneVector[rows - 1]).by_panels[panels - 1];
}

}  // namespace tenfold::cpu::TENFOLD_TIER
