// Floating-point modes of callers and of networks that run.
#include <algorithm>
#include <array>
#include <cfenv>
#include <cstdlib>
#include <cstring>

#include <gtest/gtest.h>

#include "base/float_mode.hpp"
#include "base/thread_pool.hpp"
#include "build/builder.hpp"
#include "ops/registry.hpp"
#include "support/build_and_run.hpp"

namespace tenfold {
namespace {

#if defined(__x86_64__)

constexpr float kSubnormal = 0x1p-130F;

/// Computed by this thread now, not by the compiler.
float doubled(float x) {
  volatile float value = x;
  return value * 2;
}

bool keeps_subnormals() { return (inference_float_mode() & 0x8040) == 0; }

TEST(FloatMode, SubnormalNumbersCountAsZeroInTheScopeOnly) {
  if (keeps_subnormals()) GTEST_SKIP() << kCpuSubnormalsVariable.name << " is set";
  EXPECT_EQ(doubled(kSubnormal), 2 * kSubnormal);
  {
    const InferenceFloatMode mode;
    EXPECT_EQ(doubled(kSubnormal), 0.0F);
    EXPECT_EQ(doubled(0x1p-126F), 0x1p-125F);
  }
  EXPECT_EQ(doubled(kSubnormal), 2 * kSubnormal);
}

TEST(FloatMode, ThreadsOfAPoolTakeOverTheCallersMode) {
  ThreadPool pool(3);
  const std::uint32_t before = float_mode();
  for (const std::uint32_t mode : {before | 0x8040, before & ~0x8040U, before | 0x4000}) {
    set_float_mode(mode);
    std::array<std::uint32_t, 64> seen{};
    pool.run(64, [&](int part) { seen[static_cast<std::size_t>(part)] = float_mode() & ~0x3fU; });
    set_float_mode(before);
    for (const std::uint32_t one : seen) EXPECT_EQ(one, mode & ~0x3fU);  // without the flags that operations raise
  }
}

Graph small_network() {
  return parse_graph(R"(
    graph g(%x: float32[5, 40]) {
      %w = constant float32[40, 24] random(1)
      %y = MatMul(%x, %w)
      %z = Sigmoid(%y)
      return %z
    })");
}

TEST(FloatMode, ANetworkTakesSubnormalInputsForZero) {
  if (keeps_subnormals()) GTEST_SKIP() << kCpuSubnormalsVariable.name << " is set";
  const Graph graph = parse_graph(R"(
    graph g(%x: float32[40]) {
      %y = Add(%x, %x)
      return %y
    })");
  Engine engine = test::build_engine(graph, {});
  Context context = engine.make_context();
  std::vector<Tensor> inputs = test::random_inputs(graph, {}, 1);
  const std::span<float> x = inputs[0].as_mutable<float>();
  std::fill_n(x.begin(), 20, kSubnormal);
  const std::vector<Tensor> outputs = test::run_engine(context, graph, inputs);
  const std::span<const float> y = outputs[0].as<float>();
  for (std::size_t i = 0; i < x.size(); ++i) EXPECT_EQ(y[i], i < 20 ? 0.0F : 2 * x[i]);
}

TEST(FloatMode, AnswersDoNotDependOnTheCallersModeWhichIsKept) {
  const Graph graph = small_network();
  Engine engine = test::build_engine(graph, {});
  Context context = engine.make_context();
  const std::vector<Tensor> inputs = test::random_inputs(graph, {}, 1);
  const std::vector<Tensor> expected = test::run_engine(context, graph, inputs);
  ASSERT_EQ(std::fesetround(FE_UPWARD), 0);
  const std::uint32_t mode = float_mode();
  const std::vector<Tensor> got = test::run_engine(context, graph, inputs);
  EXPECT_EQ(float_mode() & ~0x3fU, mode & ~0x3fU);
  std::fesetround(FE_TONEAREST);
  ASSERT_EQ(got.size(), 1U);
  ASSERT_EQ(got[0].size_bytes(), expected[0].size_bytes());
  EXPECT_EQ(std::memcmp(got[0].data(), expected[0].data(), got[0].size_bytes()), 0);
}

#endif

TEST(EnvironmentVariables, AnyOtherValueThanTheOneIsRefused) {
  const EnvironmentVariable variable{"TENFOLD_TEST_VARIABLE", "keep", "of this test"};
  EXPECT_FALSE(is_set(variable));
  setenv(variable.name, "keep", 1);
  EXPECT_TRUE(is_set(variable));
  setenv(variable.name, "yes", 1);
  try {
    is_set(variable);
    FAIL() << "'yes' was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
    EXPECT_EQ(error.message(), "environment variable TENFOLD_TEST_VARIABLE must be keep, got 'yes'");
  }
  unsetenv(variable.name);
}

}  // namespace
}  // namespace tenfold
