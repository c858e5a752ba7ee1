// The register tiles of the matrix product: as many rows as registers hold beside a row of B and one element of A.
#include <utility>

#include "backend/cpu/kernels/gemm_tile.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

/// The tallest tile of each width in vectors.
#if defined(__AVX512F__)
constexpr int kTallest[kMaxTileVectors] = {12, 12, 8, 6};
#else
constexpr int kTallest[kMaxTileVectors] = {8, 6, 4, 3};
#endif

/// By rows, from 1.
struct Tiles {
  TileFunction by_rows[kMaxTileRows];
};
template <Rows kKind, int kVectors, bool kHalf, int... kLess>
constexpr Tiles make_tiles(std::integer_sequence<int, kLess...>) {
  return {{run_tile<kKind, kLess + 1, kVectors, kHalf>...}};
}
template <Rows kKind, int kVectors, bool kHalf>
constexpr Tiles kTiles = make_tiles<kKind, kVectors, kHalf>(std::make_integer_sequence<int, kTallest[kVectors - 1]>());

template <Rows kKind, bool kHalf>
constexpr Tiles kAllTiles[kMaxTileVectors] = {kTiles<kKind, 1, kHalf>, kTiles<kKind, 2, kHalf>, kTiles<kKind, 3, kHalf>,
                                              kTiles<kKind, 4, kHalf>};

}  // namespace

int max_tile_rows(int vectors) { return 1 <= vectors && vectors <= kMaxTileVectors ? kTallest[vectors - 1] : 0; }

template <Rows kKind>
TileFunction find_tile(int rows, int vectors, int tail) {
  if (rows < 1 || rows > max_tile_rows(vectors)) return nullptr;
  if constexpr (kHasHalf) {
    if (tail <= Half::kWidth) return kAllTiles<kKind, true>[vectors - 1].by_rows[rows - 1];
  }
  return kAllTiles<kKind, false>[vectors - 1].by_rows[rows - 1];
}
template TileFunction find_tile<Rows::table>(int rows, int vectors, int tail);
template TileFunction find_tile<Rows::even>(int rows, int vectors, int tail);

}  // namespace tenfold::cpu::TENFOLD_TIER
