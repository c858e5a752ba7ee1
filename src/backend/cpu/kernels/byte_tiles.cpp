#include "backend/cpu/kernels/byte_tiles.hpp"

#include "backend/cpu/kernels/tile_unit.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

#if defined(__AVX512F__)
const ByteTileKernels kByteTileKernels = {run_byte_tiles<TileUnit<UnsignedByteTiles>, TileUnit<SignedByteTiles>>};
#else
const ByteTileKernels kByteTileKernels = {nullptr};
#endif

}  // namespace tenfold::cpu::TENFOLD_TIER
