// Runs an engine on made-up inputs, and engines that are worth running.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "formats/small_plans.hpp"
#include "tenfold/tenfold.hpp"

namespace tenfold::test {

/// For engines out of the mutator: one thread, and loops that end soon.
inline LoadOptions test_load_options() {
  LoadOptions options;
  options.num_threads = 1;
  options.max_loop_iterations = 1000;
  return options;
}

/// All outputs of runs at the least and the largest shapes of every profile, with their shapes, as bytes.
std::vector<std::byte> run_all_profiles(const Engine& engine);

/// Made by hand: If, Loop, Scan, sizes that data decide, views.
std::vector<std::pair<std::string, SmallEngine>> control_flow_engines();
/// Made by the builder from small networks, so that the tactics of this processor take part.
std::vector<std::pair<std::string, SmallEngine>> built_engines();

}  // namespace tenfold::test
