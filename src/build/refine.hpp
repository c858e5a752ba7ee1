// The choice between candidates that are nearly as fast is made in the network itself: alone, in a loop, a kernel finds
// other caches, other neighbours and other clocks than between the steps around it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "build/lower.hpp"
#include "build/profiles.hpp"
#include "build/tactics.hpp"
#include "build/timing_cache.hpp"

namespace tenfold {

struct RefineOptions {
  int opt_level = 3;
  int num_threads = 1;
  std::uint64_t workspace_bytes = 0;  ///< limit for the whole arena
  std::uint64_t workspace_left = 0;   ///< of it for scratch memory
  std::function<bool()> is_cancelled;
  std::function<void(std::string_view item, double fraction)> on_progress;
};

struct Refinement {
  int num_variants = 0;  ///< networks that were run beside the one with the fastest kernels
  int num_changed = 0;   ///< problems that take another kernel now
  double gain = 0;       ///< share of the network's time that this saves
  std::string warning;
};

/// `problem_of(step, profile)` describes a step. Changes `choices`, and their reports, where a network with other
/// kernels was faster. Problems that occur several times take the same kernel everywhere.
Refinement refine(const LoweredPlan& lowered, const ShapeRanges& ranges, std::size_t profile,
                  const std::function<Problem(std::size_t step, std::size_t profile)>& problem_of,
                  const Backend& backend, const TacticChooser& chooser, TimingCache& cache,
                  const RefineOptions& options, std::vector<StepChoices>& choices);

}  // namespace tenfold
