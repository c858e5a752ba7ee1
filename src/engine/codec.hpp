// Parts of a plan and of a graph <-> the bytes of a section. Writing is deterministic; reading checks structure, not
// meaning (validate.hpp does).
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "engine/plan.hpp"

namespace tenfold {

/// All of the plan but provenance, report, backend and target, which have their own places.
std::vector<std::byte> encode_plan(const Plan& plan);
void decode_plan(std::span<const std::byte> section, Plan& plan);

std::vector<std::byte> encode_provenance(const PlanProvenance& provenance);
PlanProvenance decode_provenance(std::span<const std::byte> section);

std::vector<std::byte> encode_report(const std::vector<PlanCandidate>& report);
std::vector<PlanCandidate> decode_report(std::span<const std::byte> section);

/// The portable section: a graph with its constants.
std::vector<std::byte> encode_graph(const Graph& graph);
/// Constants lie in `section`, which `owner` keeps alive. Types are inferred anew and must agree with those stored.
/// Throws Error(incompatible_engine).
Graph decode_graph(std::span<const std::byte> section, const std::shared_ptr<const void>& owner);

}  // namespace tenfold
