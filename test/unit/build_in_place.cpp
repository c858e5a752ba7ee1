// Results that take the place of an operand: where that is done, and that answers are the reference's.
#include <gtest/gtest.h>

#include "backend/cpu/tier.hpp"
#include "ops/interpreter.hpp"
#include "ops/registry.hpp"
#include "support/build_and_run.hpp"

namespace tenfold {
namespace {

// Single-precision sums of 40 terms of size 1, three products behind each other: see build_and_run.cpp.
constexpr double kTolerance = 2e-5;

Plan plan_of(const char* text) {
  BuildOptions options;
  options.opt_level = 0;
  options.num_threads = 1;
  return build(parse_graph(text), cpu_backend(), options).plan;
}

/// Where a value lies in the arena; nullopt: elsewhere.
std::optional<std::uint64_t> place(const Plan& plan, std::int32_t value) {
  if (value < 0 || plan.values[static_cast<std::size_t>(value)].storage != Storage::arena) return std::nullopt;
  return plan.profiles[0].arena_offsets[static_cast<std::size_t>(value)];
}

/// The inputs whose places the steps' results take, by step; -1: none.
std::vector<int> inherited(const Plan& plan) {
  std::vector<int> result;
  for (const PlanStep& step : plan.steps) {
    int from = -1;
    const auto own = place(plan, step.outputs[0]);
    for (std::size_t i = 0; i < step.inputs.size(); ++i) {
      if (own && place(plan, step.inputs[i]) == own) from = static_cast<int>(i);
    }
    result.push_back(from);
  }
  return result;
}

TEST(InPlace, ResultsTakeThePlaceOfWhatNobodyReadsLater) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "references do not run in place";
  // A softmax over what a product made; one over what is read again; and a product that adds it to its result.
  constexpr const char* kText = R"(
    graph g(%x: float32[6, 40]) {
      %w1 = constant float32[40, 40] random(1)
      %w2 = constant float32[40, 40] random(2)
      %a = MatMul(%x, %w1)
      %s = Softmax(%a) {axis=1}
      %t = Softmax(%s) {axis=1}
      %m = MatMul(%t, %w2)
      %r = Add(%m, %s)
      %y = MatMul(%r, %w1)
      return %y
    })";
  const Plan plan = plan_of(kText);
  std::vector<std::string> ops;
  for (const PlanStep& step : plan.steps) ops.push_back(step.op_type);
  ASSERT_EQ(ops, (std::vector<std::string>{"MatMul", "Softmax", "Softmax", "MatMul", "MatMul"}));
  EXPECT_EQ(inherited(plan), (std::vector<int>{-1, 0, -1, 2, -1}));
  EXPECT_LT(test::worst_error(kText, {}, {{}}), kTolerance);
}

TEST(InPlace, AProductThatReadsRowsAgainLeavesThemAlone) {
  // r is the product's left side, and what it adds: other panels of the same rows still need it.
  constexpr const char* kText = R"(
    graph g(%x: float32[6, 40]) {
      %w1 = constant float32[40, 40] random(1)
      %a = MatMul(%x, %w1)
      %m = MatMul(%a, %w1)
      %r = Add(%m, %a)
      %y = Softmax(%r) {axis=1}
      %z = MatMul(%y, %w1)
      return %z
    })";
  const Plan plan = plan_of(kText);
  ASSERT_EQ(plan.steps.size(), 4U);
  if (cpu::tier() != cpu::Tier::none) {
    EXPECT_EQ(inherited(plan), (std::vector<int>{-1, -1, 0, -1}));
  }
  EXPECT_LT(test::worst_error(kText, {}, {{}}), kTolerance);
}

TEST(InPlace, ResidualsOfConvolutionsAndLongSums) {
  // The first product's sums fit in one block of the depth and may end where its residual lies, those of the second
  // are stored in between; the gate reads what was added once more, behind the addition.
  constexpr const char* kText = R"(
    graph g(%x: float32[2, 16, 9, 11]) {
      %w1 = constant float32[16, 16, 1, 1] random(1)
      %w2 = constant float32[16, 16, 3, 3] random(2)
      %a = Conv(%x, %w1) {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1}
      %b = Sigmoid(%a)
      %c = Conv(%b, %w1) {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1}
      %d = Add(%c, %a)
      %e = Relu(%d)
      %f = Conv(%e, %w2) {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1}
      %h = Add(%f, %e)
      %i = Mul(%h, %e)
      %j = Conv(%i, %w1) {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1}
      return %j
    })";
  EXPECT_LT(test::worst_error(kText, {}, {{}}), kTolerance);
  constexpr const char* kDeep = R"(
    graph g(%x: float32[64, 2500]) {
      %w1 = constant float32[2500, 48] random(1)
      %w2 = constant float32[48, 2500] random(2)
      %a = MatMul(%x, %w1)
      %s = Softmax(%a) {axis=1}
      %b = MatMul(%s, %w2)
      %m = MatMul(%b, %w1)
      %r = Add(%m, %s)
      %y = Softmax(%r) {axis=1}
      return %y
    })";
  // Sums of 2500 products of random sign are of size 17, and as many roundings of random sign add up to 50 of 2^-24 of
  // that; a softmax makes relative errors of absolute ones. Ten times that again.
  EXPECT_LT(test::worst_error(kDeep, {}, {{}}), 10 * 50 * 17 * 0x1p-24);
}

}  // namespace
}  // namespace tenfold
