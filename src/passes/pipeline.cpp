// The passes in the order they run, each with the reason for its place.
#include <array>

#include "passes/passes.hpp"

namespace tenfold {

std::span<const Pass> pipeline() {
  static const std::array kPasses{
      Pass{.name = "fusion",
           .rewrites = kFusionRewrites,
           .reason = "Last, because a program is opaque to every rule that looks for operators."},
  };
  return kPasses;
}

}  // namespace tenfold
