// Concat and Split without copying: operands become views into one buffer.
#pragma once

#include <vector>

#include "build/lower.hpp"

namespace tenfold {

struct ViewRules {
  /// Whether operand `operand` of the step with this index may be a pitched view, by the kernels chosen for all
  /// profiles. An input's start and pitch are multiples of `alignment` bytes.
  std::function<bool(int step, int operand, std::int64_t alignment)> pitched_input;
  std::function<bool(int step, int operand)> pitched_output;
  /// What the start of any other view must be a multiple of, in bytes.
  std::int64_t alignment = 1;
};

/// Turns Concat and Split steps into views where the kernels around them allow it, and removes the steps.
/// Returns, by step index before the call, whether the step was removed.
std::vector<bool> make_views(LoweredPlan& lowered, const ViewRules& rules);

}  // namespace tenfold
