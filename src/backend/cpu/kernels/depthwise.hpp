// Depthwise convolution on channels-last images: every channel has its own window.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/gemm.hpp"

namespace tenfold::cpu {

struct DepthwiseArgs {
  ConvRows geometry;  ///< axis 0 is unused: sizes of 1; `zeros`: channels zeros
  std::int64_t channels = 0;
  const float* x = nullptr;
  std::int64_t x_stride = 0;        ///< from pixel to pixel
  const float* weights = nullptr;   ///< [kernel position][channels, padded to whole vectors]
  std::int64_t weights_stride = 0;  ///< the padded number of channels
  float* y = nullptr;
  std::int64_t y_stride = 0;
  FinishArgs finish;
};

/// Pointers to input columns that `pixels` neighbouring output pixels need: [kernel rows][columns].
constexpr std::int64_t depthwise_table_width(const ConvRows& g, std::int64_t pixels) {
  return (pixels - 1) * g.stride[2] + (g.kernel[2] - 1) * g.dilation[2] + 1;
}
/// The longest piece of an output line that is computed at once.
inline constexpr std::int64_t kDepthwiseLine = 56;

struct DepthwiseKernels {
  /// Requires kDepthwiseLine output pixels of a line to fit in the scratch memory, see depthwise_table_width.
  void (*run)(const DepthwiseArgs& args, const Workers& workers);
};
TENFOLD_TIER_TABLE(DepthwiseKernels, kDepthwiseKernels)

}  // namespace tenfold::cpu
