// A chain of convolutions, channels-last, computed together line by line.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/gemm.hpp"

namespace tenfold::cpu {

struct ChainStage {
  enum class Kind : std::uint8_t {
    product,  ///< 1x1 at stride 1 without padding
    depthwise,
    window,  ///< any other one; only the first stage can be such
  };
  Kind kind = Kind::product;
  ConvRows geometry;                ///< axis 0 is unused: sizes of 1; `zeros` for depthwise ones
  std::int64_t depth = 0;           ///< input channels
  std::int64_t columns = 0;         ///< output channels
  const float* weights = nullptr;   ///< panels, or [kernel position][channels, padded to whole vectors]
  std::int64_t weights_stride = 0;  ///< of depthwise ones: the padded number of channels
  GemmTiling tiling;                ///< of 1x1 ones; depth_block and row_block are not looked at
  FinishArgs finish;                ///< only the last stage has operands
};

struct ConvChainArgs {
  static constexpr int kMaxStages = 3;
  int num_stages = 0;
  ChainStage stages[kMaxStages];
  const float* x = nullptr;
  std::int64_t x_stride = 0;  ///< from pixel to pixel
  float* y = nullptr;
  std::int64_t y_stride = 0;
};

/// What the input lines of a first stage with a window take, see line_block.hpp.
constexpr std::int64_t chain_window_floats(const ConvRows& g, std::int64_t depth) {
  const std::int64_t taps = g.kernel[0] * g.kernel[1];
  const std::int64_t span = (g.out[2] - 1) * g.stride[2] + (g.kernel[2] - 1) * g.dilation[2] + 1;
  return 2 * taps * (1 + g.kernel[2]) + (taps + 1) * span * depth;
}

/// What a thread remembers in its scratch memory.
inline constexpr std::size_t kChainStateBytes = 512;

struct ConvChainKernels {
  /// Requires that the scratch memory holds kChainStateBytes, the pointers of a depthwise stage, the input lines of a
  /// window, and of every stage but the last as many lines as the next one's window is high, each rounded up to whole
  /// cache lines.
  void (*run)(const ConvChainArgs& args, const Workers& workers);
};
TENFOLD_TIER_TABLE(ConvChainKernels, kConvChainKernels)

}  // namespace tenfold::cpu
