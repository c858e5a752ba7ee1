// Weights in half the space: runs of the weights section whose float32 numbers are all float16 numbers are stored as
// those. Nothing is rounded here, so the weights that come back are the same bit by bit; a build that rounds its
// weights (BuildOptions::half_weights) makes such runs.
//
// The section "halves" holds, little-endian:
//   u64 bytes of all weights, u64 number of runs, for each: u64 offset, u64 bytes; zeros up to a multiple of 64;
//   the runs' float16 numbers, one run after the other.
// The weights section then holds what lies between the runs, without gaps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/plan.hpp"

namespace tenfold {

struct HalfWeights {
  std::vector<std::byte> section;  ///< "halves"
  std::vector<std::byte> rest;     ///< what the weights section keeps
};
/// nullopt if no run is worth it. `weights` are what the plan's offsets refer to.
std::optional<HalfWeights> split_half_weights(const Plan& plan, std::span<const std::byte> weights);

/// The inverse; the result owns new memory. Throws Error(incompatible_engine) naming the rule that is broken.
WeightData join_half_weights(std::span<const std::byte> section, std::span<const std::byte> rest);

}  // namespace tenfold
