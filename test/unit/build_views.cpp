// Which parts become views, and where they lie.
#include <algorithm>

#include <fmt/format.h>
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

/// Kernels that take pitched operands everywhere, and all inputs at multiples of `alignment` bytes.
ViewRules rules(std::int64_t alignment) {
  return {.pitched_input = [alignment](int, int, std::int64_t bytes) { return bytes % alignment == 0; },
          .pitched_output = [](int, int) { return true; },
          .alignment = alignment};
}

/// Steps that became views when operands begin at multiples of 16 bytes.
std::size_t num_removed(std::string_view text) {
  const Graph graph = parse_graph(text, make_op);
  LoweredPlan lowered = lower(graph);
  const std::vector<bool> removed = make_views(lowered, rules(16));
  return static_cast<std::size_t>(std::count(removed.begin(), removed.end(), true));
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

TEST(Views, ContiguousPartsBeginWhereOperandsMay) {
  // Rows of 10 bytes: 8 of them are a multiple of 16, 2 are not.
  for (const auto& [rows, expected] : {std::pair(8, 1U), std::pair(2, 0U)}) {
    EXPECT_EQ(num_removed(fmt::format(R"(
graph g(%x: float16[12, 5]) {{
  %y = Relu(%x)
  %a = Slice(%y) {{starts=[{}], ends=[12], axes=[0], steps=[1]}}
  %b = Relu(%a)
  return %b
}}
)",
                                      rows)),
              expected)
        << "Slice at row " << rows;
    EXPECT_EQ(num_removed(fmt::format(R"(
graph g(%x: float16[12, 5]) {{
  %y = Relu(%x)
  %a, %b = Split(%y) {{axis=0, sizes=[{}, {}]}}
  %c = Relu(%a)
  %d = Relu(%b)
  return %c, %d
}}
)",
                                      rows, 12 - rows)),
              expected)
        << "Split at row " << rows;
    EXPECT_EQ(num_removed(fmt::format(R"(
graph g(%x: float16[{}, 5], %z: float16[3, 5]) {{
  %a = Relu(%x)
  %b = Relu(%z)
  %c = Concat(%a, %b) {{axis=0}}
  %d = Relu(%c)
  return %d
}}
)",
                                      rows)),
              expected)
        << "Concat at row " << rows;
  }
}

TEST(Views, WhereAPartBeginsIsKnownOfEverySize) {
  for (const auto& [columns, expected] : {std::pair(16, 1U), std::pair(12, 0U)}) {
    EXPECT_EQ(num_removed(fmt::format(R"(
graph g(%x: float16[n, {0}], %z: float16[n, {0}]) {{
  %a = Relu(%x)
  %b = Relu(%z)
  %c = Concat(%a, %b) {{axis=0}}
  %d = Relu(%c)
  return %d
}}
)",
                                      columns)),
              expected)
        << columns << " columns";
  }
}

}  // namespace
}  // namespace tenfold
