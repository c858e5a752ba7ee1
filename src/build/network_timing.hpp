// Times whole networks against each other.
#pragma once

#include <functional>
#include <vector>

#include "engine/engine_file.hpp"

namespace tenfold {

struct NetworkTiming {
  int rounds = 0;
  double round_us = 0;  ///< aim for one profile's part of a round
  int num_threads = 1;
  std::function<bool()> is_cancelled;
  std::function<void(double fraction)> on_progress;
};

/// Runs every profile of `file` beside profile 0, in turns, at the optimum of the shapes, on random numbers. Returns
/// the medians of the ratios to profile 0, for profiles 1 and on; 1 where a quarter of the rounds say the opposite.
/// Throws Error(cancelled), Error(out_of_memory).
std::vector<double> time_profiles(EngineFile file, const Backend& backend, const NetworkTiming& timing);

}  // namespace tenfold
