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
template <Rows kKind, int kVectors, bool kHalf, bool kFetches, int... kLess>
constexpr Tiles make_tiles(std::integer_sequence<int, kLess...>) {
  return {{run_tile<kKind, kLess + 1, kVectors, kHalf, kFetches>...}};
}
template <Rows kKind, int kVectors, bool kHalf, bool kFetches>
constexpr Tiles kTiles =
    make_tiles<kKind, kVectors, kHalf, kFetches>(std::make_integer_sequence<int, kTallest[kVectors - 1]>());

/// By vectors, from 1.
struct TileSet {
  Tiles by_vectors[kMaxTileVectors];
};
template <Rows kKind, bool kHalf, bool kFetches>
constexpr TileSet kTileSet = {{kTiles<kKind, 1, kHalf, kFetches>, kTiles<kKind, 2, kHalf, kFetches>,
                               kTiles<kKind, 3, kHalf, kFetches>, kTiles<kKind, 4, kHalf, kFetches>}};

}  // namespace

int max_tile_rows(int vectors) { return 1 <= vectors && vectors <= kMaxTileVectors ? kTallest[vectors - 1] : 0; }

template <Rows kKind>
TileFunction find_tile(int rows, int vectors, int tail, bool fetches) {
  if (rows < 1 || rows > max_tile_rows(vectors)) return nullptr;
  const TileSet* set = fetches ? &kTileSet<kKind, false, true> : &kTileSet<kKind, false, false>;
  if constexpr (kHasHalf) {
    if (tail <= Half::kWidth) set = fetches ? &kTileSet<kKind, true, true> : &kTileSet<kKind, true, false>;
  }
  return set->by_vectors[vectors - 1].by_rows[rows - 1];
}
template TileFunction find_tile<Rows::table>(int rows, int vectors, int tail, bool fetches);
template TileFunction find_tile<Rows::even>(int rows, int vectors, int tail, bool fetches);

}  // namespace tenfold::cpu::TENFOLD_TIER
