// Transposed convolution on channels-last images, as one small convolution for each phase of the output.
//
//   y[o * ...] gets x[i] * w[k] where  o + pad = i * stride + k * dilation.
// All output pixels with the same phase (o + pad) mod stride use the same kernel positions k, and their inputs lie one
// step apart: so each phase is a convolution of stride 1 with part of the kernel, whose rows are scattered over the
// output (sub-pixel convolution: Shi et al. 2016, arXiv:1609.07009).
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/gemm.hpp"

namespace tenfold::cpu {

/// Kernel positions along one axis that serve `phase`, ascending: k0, k0 + step, ... `count` of them.
struct PhaseTaps {
  std::int64_t first = 0, step = 1, count = 0;
};
/// Plain arithmetic, but in one place: packing and running must agree.
PhaseTaps phase_taps(std::int64_t phase, std::int64_t kernel, std::int64_t stride, std::int64_t dilation);

struct ConvTransposeArgs {
  /// `in` and `out` are sizes of x and y; zeros: depth zeros.
  ConvRows geometry;
  std::int64_t columns = 0, depth = 0;  ///< output and input channels of a group
  std::int64_t groups = 1;
  const float* x = nullptr;
  std::int64_t x_stride = 0;
  /// [group][phase z][phase y][phase x], each a packed matrix of its kernel positions; or see `dots`.
  const float* panels = nullptr;
  float* y = nullptr;
  std::int64_t y_stride = 0;
  FinishArgs finish;
  GemmTiling tiling;
  bool dots = false;  ///< few columns: panels are [group][phases][column][tap][depth, padded to kDotLanes]
};

struct ConvTransposeKernels {
  void (*run)(const ConvTransposeArgs& args, const Workers& workers);
};
TENFOLD_TIER_TABLE(ConvTransposeKernels, kConvTransposeKernels)

}  // namespace tenfold::cpu
