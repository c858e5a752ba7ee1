// Matrix products and convolutions whose factors are rounded to bfloat16, summed in float32.
//
// As in gemm.hpp, but B is packed as pairs, [panel][pair of depth][column][2], and depth is that of all taps: A's rows,
// or the windows of a convolution, are rounded and copied together some rows at a time. An instruction adds two
// products.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/gemm.hpp"

namespace tenfold::cpu {

struct Bf16Args {
  /// `panels`, `taps` and `tiling.depth_block` do not count; depth is whole.
  GemmArgs product;
  const std::uint16_t* panels = nullptr;
};

struct Bf16Kernels {
  /// nullptr in tiers without the instruction. Requires has_bf16_dot().
  void (*run)(const Bf16Args& args, const Workers& workers);
};
TENFOLD_TIER_TABLE(Bf16Kernels, kBf16Kernels)

}  // namespace tenfold::cpu
