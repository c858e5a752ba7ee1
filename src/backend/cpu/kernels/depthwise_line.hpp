// Lines of a depthwise convolution, for kernels that have more to do with them.
#pragma once

#include "backend/cpu/kernels/depthwise.hpp"
#include "backend/cpu/kernels/depthwise_tile.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

struct DepthwiseLine {
  const float* image;        ///< its input line i lies at line i % ring
  std::int64_t ring;         ///< lines in memory; those under the windows of all results at least
  std::int64_t row;          ///< which output line of the image
  float* y;                  ///< where it goes
  std::int64_t first_pixel;  ///< its first pixel for the epilogue, counted over the batch
};

/// How many of `rest` lines are computed at once, `most` at most: no single one is left of four.
constexpr int next_depthwise_lines(std::int64_t rest, int most) {
  if (rest <= most) return static_cast<int>(rest);
  return most > 2 && rest == most + 1 ? most - 1 : most;
}

/// All channels of `count` lines, the first of which is `line`; args.x and args.y are not looked at. As many lines as
/// `blocks` take, or one. `table`: room for the pointers of kDepthwiseLine pixels, see depthwise_table_width, in all
/// rows under the windows. Defined in depthwise.cpp.
void run_depthwise_lines(const DepthwiseArgs& args, const DepthwiseBlocks& blocks, const DepthwiseLine& line, int count,
                         const float** table);

}  // namespace tenfold::cpu::TENFOLD_TIER
