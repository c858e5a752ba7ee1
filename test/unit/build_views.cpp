// Which parts become views, and where they lie.
#include <gtest/gtest.h>

#include "base/error.hpp"
#include "build/lower.hpp"
#include "build/views.hpp"
#include "graph/text.hpp"
#include "ops/registry.hpp"

namespace tenfold {
namespace {

const PlanValue& value_named(const Plan& plan, std::string_view name) {
  for (const PlanValue& value : plan.values) {
    if (value.name == name) return value;
  }
  throw Error(Code::internal, "no such value");
}

/// Kernels that take pitched operands everywhere, inputs at multiples of `alignment` bytes.
PitchRules rules(std::int64_t alignment) {
  return {.input = [alignment](int, int, std::int64_t bytes) { return bytes % alignment == 0; },
          .output = [](int, int) { return true; }};
}

constexpr std::string_view kParts = R"(
graph g(%x: float16[6, 40]) {
  %y = Relu(%x)
  %a, %b = Split(%y) {axis=-1, sizes=[16, 24]}
  %c = Reshape(%a) {dims=["2", "3", "1", "16"]}
  %d = Relu(%c)
  %e = Relu(%b)
  return %d, %e
}
)";

TEST(Views, PartsAreReadWhereTheyLieAlsoReshaped) {
  const Graph graph = parse_graph(kParts, make_op);
  LoweredPlan lowered = lower(graph);
  const std::size_t steps = lowered.plan.steps.size();
  make_views(lowered, rules(16));
  EXPECT_EQ(lowered.plan.steps.size(), steps - 1);
  for (const auto& [name, offset] : {std::pair("a", 0), std::pair("b", 16), std::pair("c", 0)}) {
    const PlanValue& part = value_named(lowered.plan, name);
    EXPECT_EQ(part.storage, Storage::view) << name;
    EXPECT_EQ(part.view_offset, Dim(offset)) << name;
    EXPECT_EQ(part.pitch, Dim(40)) << name;
  }
}

TEST(Views, PartsThatAreNotAlignedForTheirReadersAreCopied) {
  const Graph graph = parse_graph(kParts, make_op);
  LoweredPlan lowered = lower(graph);
  const std::size_t steps = lowered.plan.steps.size();
  make_views(lowered, rules(32));
  EXPECT_EQ(lowered.plan.steps.size(), steps);
}

TEST(Views, APartWhoseRowsAreCutAnewIsCopied) {
  const Graph graph = parse_graph(R"(
graph g(%x: float16[6, 40]) {
  %y = Relu(%x)
  %a, %b = Split(%y) {axis=-1, sizes=[16, 24]}
  %c = Reshape(%a) {dims=["6", "2", "8"]}
  %d = Relu(%c)
  %e = Relu(%b)
  return %d, %e
}
)",
                                  make_op);
  LoweredPlan lowered = lower(graph);
  const std::size_t steps = lowered.plan.steps.size();
  make_views(lowered, rules(1));
  EXPECT_EQ(lowered.plan.steps.size(), steps);
}

TEST(Views, WhatIsJoinedIsMadeInItsPlace) {
  const Graph graph = parse_graph(R"(
graph g(%x: float16[6, 16], %z: float16[6, 24]) {
  %a = Relu(%x)
  %b = Relu(%z)
  %r = Reshape(%a) {dims=["2", "3", "16"]}
  %c = Concat(%a, %b) {axis=1}
  %d = Relu(%c)
  %e = Relu(%r)
  return %d, %e
}
)",
                                  make_op);
  LoweredPlan lowered = lower(graph);
  const std::size_t steps = lowered.plan.steps.size();
  make_views(lowered, rules(16));
  EXPECT_EQ(lowered.plan.steps.size(), steps - 1);
  EXPECT_EQ(value_named(lowered.plan, "b").view_offset, Dim(16));
  EXPECT_EQ(value_named(lowered.plan, "r").pitch, Dim(40));
}

}  // namespace
}  // namespace tenfold
