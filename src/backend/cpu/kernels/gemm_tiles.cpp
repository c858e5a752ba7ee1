// The register tiles of the matrix product: as many rows as registers hold beside a row of B and one element of A.
#include "backend/cpu/kernels/gemm_tile.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

#if defined(__AVX512F__)
constexpr TileFunction kTiles1[] = {run_tile<1, 1>, run_tile<2, 1>,  run_tile<3, 1>,  run_tile<4, 1>,
                                    run_tile<5, 1>, run_tile<6, 1>,  run_tile<7, 1>,  run_tile<8, 1>,
                                    run_tile<9, 1>, run_tile<10, 1>, run_tile<11, 1>, run_tile<12, 1>};
constexpr TileFunction kTiles2[] = {run_tile<1, 2>, run_tile<2, 2>,  run_tile<3, 2>,  run_tile<4, 2>,
                                    run_tile<5, 2>, run_tile<6, 2>,  run_tile<7, 2>,  run_tile<8, 2>,
                                    run_tile<9, 2>, run_tile<10, 2>, run_tile<11, 2>, run_tile<12, 2>};
constexpr TileFunction kTiles3[] = {run_tile<1, 3>, run_tile<2, 3>, run_tile<3, 3>, run_tile<4, 3>,
                                    run_tile<5, 3>, run_tile<6, 3>, run_tile<7, 3>, run_tile<8, 3>};
constexpr TileFunction kTiles4[] = {run_tile<1, 4>, run_tile<2, 4>, run_tile<3, 4>,
                                    run_tile<4, 4>, run_tile<5, 4>, run_tile<6, 4>};
#else
constexpr TileFunction kTiles1[] = {run_tile<1, 1>, run_tile<2, 1>, run_tile<3, 1>, run_tile<4, 1>,
                                    run_tile<5, 1>, run_tile<6, 1>, run_tile<7, 1>, run_tile<8, 1>};
constexpr TileFunction kTiles2[] = {run_tile<1, 2>, run_tile<2, 2>, run_tile<3, 2>,
                                    run_tile<4, 2>, run_tile<5, 2>, run_tile<6, 2>};
constexpr TileFunction kTiles3[] = {run_tile<1, 3>, run_tile<2, 3>, run_tile<3, 3>, run_tile<4, 3>};
constexpr TileFunction kTiles4[] = {run_tile<1, 4>, run_tile<2, 4>, run_tile<3, 4>};
#endif

struct Width {
  const TileFunction* tiles;
  int rows;
};
template <int N>
constexpr Width width(const TileFunction (&tiles)[N]) {
  static_assert(N <= kMaxTileRows);
  return {tiles, N};
}
constexpr Width kWidths[kMaxTileVectors] = {width(kTiles1), width(kTiles2), width(kTiles3), width(kTiles4)};

}  // namespace

int max_tile_rows(int vectors) { return 1 <= vectors && vectors <= kMaxTileVectors ? kWidths[vectors - 1].rows : 0; }

TileFunction find_tile(int rows, int vectors) {
  return 1 <= rows && rows <= max_tile_rows(vectors) ? kWidths[vectors - 1].tiles[rows - 1] : nullptr;
}

}  // namespace tenfold::cpu::TENFOLD_TIER
