// One line of a depthwise convolution, for kernels that have more to do with it.
#pragma once

#include "backend/cpu/kernels/depthwise.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

struct DepthwiseLine {
  const float* image;        ///< its input line i lies at line i % ring
  std::int64_t ring;         ///< lines in memory; those under one window at least
  std::int64_t row;          ///< which output line of the image
  float* y;                  ///< where it goes
  std::int64_t first_pixel;  ///< its first pixel for the epilogue, counted over the batch
};

/// All channels; args.x and args.y are not looked at. `table`: room for the pointers of kDepthwiseLine pixels, see
/// depthwise_table_width. Defined in depthwise.cpp.
void run_depthwise_line(const DepthwiseArgs& args, const DepthwiseLine& line, const float** table);

}  // namespace tenfold::cpu::TENFOLD_TIER
