// Where a plan's data lies once kernels are chosen: constants in the weights section, everything else in the arena.
#pragma once

#include <cstdint>
#include <span>

#include "build/lower.hpp"
#include "build/profiles.hpp"
#include "build/tactics.hpp"
#include "build/weights.hpp"

namespace tenfold {

/// Stores every choice, and its packed weights, with its step. A constant stays in its plain form if anybody reads it
/// so: a kernel that did not pack it, the runtime itself, a block.
void pack_weights(LoweredPlan& lowered, std::span<const StepChoices> choices, WeightSection& section);

/// What the values alone need of the arena, at the largest shapes of any profile.
std::uint64_t activation_bytes(Plan& plan, std::span<const ShapeRanges> profiles);

/// Adds the profiles with their offsets of values and scratch memory. A result takes the place of an operand that nobody
/// reads later, if the step's kernel can do that: it is in the caches already. `choices`: by step, as they were packed;
/// empty: nothing is placed so. Throws Error(out_of_memory) beyond `limit` bytes.
void plan_memory(Plan& plan, std::span<const ShapeRanges> profiles, std::span<const StepChoices> choices,
                 std::uint64_t limit);

}  // namespace tenfold
