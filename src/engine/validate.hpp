// The meaning of a plan: what must hold so that the runtime and the kernels need not check it again.
#pragma once

#include <functional>

#include "engine/plan.hpp"

namespace tenfold {

/// Checks, in this order:
///   values     element types, storage, constants inside the weights, views inside other values
///   profiles   ranges fit the inputs; arena places lie in the arena
///   steps      every operand is computed before it is read, every symbol is decided before it is used and once only;
///              operators can be made; their shape rules agree with the stored types; control flow is well formed
///   memory     what lives at the same time does not overlap
/// What depends on numbers that only a run knows (a size that the expressions leave open) is checked when they are
/// known.
/// Throws Error(incompatible_engine) naming value or step, and the rule.
/// `code_bytes`: of machine code in the engine; steps refer to it.
void validate_plan(const Plan& plan, const WeightData& weights, std::uint64_t code_bytes = 0);

/// "Output 0 of `step` may lie where its input `input` lies": what validate_plan took for granted where two values
/// share their place. Only a kernel can tell whether it is true.
using InPlaceUse = std::function<void(const PlanStep& step, int profile, int input)>;
/// Throws Error(incompatible_engine) where values overlap in any other way.
void visit_in_place(const Plan& plan, const InPlaceUse& visit);

}  // namespace tenfold
