#include "backend/cpu/kernels/bf16_tiles.hpp"

#include "backend/cpu/kernels/tile_unit.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

#if defined(__AVX512F__)
const Bf16TileKernels kBf16TileKernels = {run_bf16_tiles<TileUnit<Bf16Tiles>>};
#else
const Bf16TileKernels kBf16TileKernels = {nullptr};
#endif

}  // namespace tenfold::cpu::TENFOLD_TIER
