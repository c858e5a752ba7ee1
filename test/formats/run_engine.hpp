// Runs an engine on made-up inputs, and engines that are worth running.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "formats/small_plans.hpp"
#include "tenfold/tenfold.hpp"

namespace tenfold::test {

/// All outputs of runs at the least and the largest shapes of every profile, with their shapes, as bytes.
std::vector<std::byte> run_all_profiles(const Engine& engine);

/// Made by hand: If, Loop, Scan, sizes that data decide, views.
std::vector<std::pair<std::string, SmallEngine>> control_flow_engines();
/// Made by the builder from small networks, so that the tactics of this processor take part.
std::vector<std::pair<std::string, SmallEngine>> built_engines();

}  // namespace tenfold::test
