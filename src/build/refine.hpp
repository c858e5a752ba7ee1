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

/// `problem_of(step)` describes a step in this profile. Changes `choices`, and their reports, where a network with
/// other kernels was faster. Problems that occur several times take the same kernel everywhere. A network that cannot
/// be run for a trial (too little memory, random inputs that it refuses) stays as it is, with a warning.
void refine(const LoweredPlan& lowered, const ShapeRanges& ranges, std::size_t profile,
            const std::function<Problem(std::size_t step)>& problem_of, const Backend& backend,
            const TacticChooser& chooser, TimingCache& cache, const RefineOptions& options,
            std::vector<StepChoices>& choices, std::vector<std::string>& warnings);

}  // namespace tenfold
