// Graph -> the skeleton of a plan: the flat table of values, the steps in order, blocks nested, views resolved.
// Storage of intermediate values, tactics and offsets are still open afterwards.
#pragma once

#include <functional>
#include <vector>

#include "engine/plan.hpp"
#include "graph/graph.hpp"

namespace tenfold {

/// Where a step came from.
struct StepSource {
  const Graph* graph = nullptr;  ///< the graph or block that holds the node
  const Node* node = nullptr;    ///< nullptr for a copy that lowering added
};

struct LoweredPlan {
  Plan plan;
  std::vector<StepSource> sources;       ///< by step, in the order of for_each_step
  std::vector<const Tensor*> constants;  ///< by value; nullptr for everything else
};

/// `graph` must outlive the result, which points into it.
LoweredPlan lower(const Graph& graph);

/// Visits each step, then the steps of its blocks; `index` counts visits. The order of execution, loops aside.
void for_each_step(std::vector<PlanStep>& steps, const std::function<void(PlanStep& step, int index)>& visit);

/// Steps that compute: those of blocks too, sample sections themselves not.
int count_steps(const std::vector<PlanStep>& steps);

/// By that index: is it a step of a sample section's block?
std::vector<bool> steps_in_sections(std::vector<PlanStep>& steps);

/// The step that the engine uses to copy a value where no alias is possible: Reshape to the value's own shape.
PlanStep make_copy_step(const std::string& name, std::int32_t from, std::int32_t to, const TensorType& type);

}  // namespace tenfold
