// Times whole networks against each other.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "build/lower.hpp"
#include "build/profiles.hpp"
#include "build/tactics.hpp"
#include "engine/engine_file.hpp"

namespace tenfold {

struct NetworkTiming {
  int rounds = 0;
  double round_us = 0;  ///< aim for one profile's part of a round
  double most_us = 0;   ///< fewer rounds, but three, where all of them would take longer; 0: no matter
  int num_threads = 1;
  std::function<bool()> is_cancelled;
  std::function<void(double fraction)> on_progress;
};

/// Runs every profile of `file` beside profile 0, in turns, at the optimum of the shapes, on random numbers. Returns
/// the medians of the ratios to profile 0, for profiles 1 and on; 1 where a quarter of the rounds say the opposite.
/// Throws Error(cancelled), Error(out_of_memory).
std::vector<double> time_profiles(EngineFile file, const Backend& backend, const NetworkTiming& timing);
/// The same for engines of one model, each beside the first one, all in one profile. Returns microseconds of a run: the
/// median for the first one, and for the others that times their ratio.
std::vector<double> time_networks(std::vector<EngineFile> files, std::size_t profile, const Backend& backend,
                                  const NetworkTiming& timing);

/// An engine in memory, as far as it is needed to run. `choices` of every step, for all profiles. Throws
/// Error(out_of_memory) beyond `workspace_limit` bytes.
EngineFile trial_engine(LoweredPlan lowered, std::span<const StepChoices> choices,
                        std::span<const ShapeRanges> profiles, std::uint64_t workspace_limit);

}  // namespace tenfold
