// Products by the processor's matrix unit (AMX) with an emulation in its place, for machines without one: packing,
// blocks, tails and what happens to sums are the product's own code.
#pragma once

#include "backend/cpu/kernels/bf16_product.hpp"
#include "backend/cpu/kernels/byte_product.hpp"

namespace tenfold::test {

/// As kBf16TileKernels.run and kByteTileKernels.run. Require the vectors of Tier::avx2.
void run_emulated_bf16_tiles(const cpu::Bf16Args& args, const cpu::Workers& workers);
void run_emulated_byte_tiles(const cpu::ByteProductArgs& args, const cpu::Workers& workers);

}  // namespace tenfold::test
