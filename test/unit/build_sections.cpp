// Sections that run sample by sample: which the search proposes, and that engines with them answer as the reference.
#include <gtest/gtest.h>

#include "build/lower.hpp"
#include "build/sections.hpp"
#include "engine/engine_file.hpp"
#include "ops/interpreter.hpp"
#include "ops/registry.hpp"
#include "passes/pass.hpp"
#include "passes/samples.hpp"
#include "support/build_and_run.hpp"

namespace tenfold {
namespace {

/// A network as detectors are: a convolution with a residual, depthwise, two branches that meet, a head.
constexpr const char* kNetwork = R"(
    graph g(%x: float32[n, 3, h, 24]) {
      %w1 = constant float32[16, 3, 3, 3] random(1)
      %b1 = constant float32[16] random(2)
      %c1 = Conv(%x, %w1, %b1) {strides=[2, 2], pads=[1, 1, 1, 1], dilations=[1, 1], group=1}
      %r1 = Relu(%c1)
      %w2 = constant float32[16, 1, 3, 3] random(3)
      %c2 = Conv(%r1, %w2) {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=16}
      %w3 = constant float32[16, 16, 1, 1] random(4)
      %c3 = Conv(%c2, %w3) {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1}
      %a = Add(%c3, %r1)
      %s = Sigmoid(%a)
      %m = Mul(%a, %s)
      %p, %q = Split(%m) {axis=1, sizes=[8, 8]}
      %e = Exp(%q)
      %k = Concat(%p, %e, %r1) {axis=1}
      %g = ReduceMean(%k) {axes=[2, 3], keepdims=0}
      %w4 = constant float32[32, 10] random(5)
      %f = MatMul(%g, %w4)
      %y = Softmax(%f) {axis=1}
      return %y, %k
    })";

// Single-precision sums of at most 32 * 9 terms of size 1, three layers behind each other: see build_and_run.cpp.
constexpr double kTolerance = 2e-5;

Graph sample_by_sample(const char* text) {
  Graph graph = parse_graph(text);
  run_pipeline(graph);
  EXPECT_GT(make_section(graph, per_sample_nodes(graph)), 0);
  graph.verify();
  return graph;
}

int num_sections(const Plan& plan) {
  return static_cast<int>(
      std::count_if(plan.steps.begin(), plan.steps.end(), [](const PlanStep& s) { return s.op_type == "Samples"; }));
}

std::vector<std::byte> file_of(const BuildResult& result) { return serialize_engine(result.plan, result.weights); }

TEST(SampleSections, AnswerLikeTheReferenceForAnyBatchAndAnyNumberOfThreads) {
  const Graph original = parse_graph(kNetwork);
  for (const int built_for : {1, 3}) {
    BuildOptions options;
    options.opt_level = 0;
    options.num_threads = built_for;
    options.profiles = {{{"x", {{0, 3, 8, 24}, {4, 3, 16, 24}, {9, 3, 20, 24}}}}};
    const BuildResult result = build(sample_by_sample(kNetwork), cpu_backend(), options);
    ASSERT_EQ(num_sections(result.plan), 1);
    const std::vector<std::byte> file = file_of(result);
    std::map<std::int64_t, std::vector<Tensor>> first_answer;
    for (int threads = 1; threads <= 4; ++threads) {
      LoadOptions load;
      load.num_threads = threads;
      const Engine engine = Engine::load(file, load);
      Context context = engine.make_context();
      for (std::int64_t n = 0; n <= 9; ++n) {
        SCOPED_TRACE(fmt::format("built for {} threads, {} run {} samples", built_for, threads, n));
        const std::vector<Tensor> inputs = test::random_inputs(original, {{"x", {n, 3, 8 + n, 24}}}, 7);
        const std::vector<Tensor> got = test::run_engine(context, original, inputs);
        EXPECT_LT(test::relative_error(interpret(original, inputs), got), kTolerance);
        const auto [entry, is_first] = first_answer.try_emplace(n, got);
        for (std::size_t i = 0; i < got.size() && !is_first; ++i) {
          EXPECT_TRUE(got[i].equals(entry->second[i])) << "the number of threads changed output " << i;
        }
      }
    }
  }
}

TEST(SampleSections, ActivationsAreThoseOfTheSamplesInFlight) {
  const auto arena_bytes = [](Graph graph) {
    BuildOptions options;
    options.opt_level = 0;
    options.num_threads = 2;
    options.disabled_rules = {"sample_sections"};
    options.profiles = {{{"x", {{16, 3, 64, 24}, {16, 3, 64, 24}, {16, 3, 64, 24}}}}};
    return build(std::move(graph), cpu_backend(), options).plan.profiles[0].arena_bytes;
  };
  // Two of sixteen samples, and results that leave the section are whole.
  EXPECT_LT(arena_bytes(sample_by_sample(kNetwork)), arena_bytes(parse_graph(kNetwork)) / 4);
}

TEST(SampleSections, TheGraphAfterwardsIsFlatAgain) {
  BuildOptions options;
  options.opt_level = 0;
  options.profiles = {{{"x", {{3, 3, 8, 24}, {3, 3, 8, 24}, {3, 3, 8, 24}}}}};
  const BuildResult result = build(sample_by_sample(kNetwork), cpu_backend(), options);
  for (const NodeId id : result.optimized.order()) EXPECT_TRUE(result.optimized.node(id).blocks.empty());
  result.optimized.verify();
  const Graph original = parse_graph(kNetwork);
  const std::vector<Tensor> inputs = test::random_inputs(original, {{"x", {3, 3, 8, 24}}}, 1);
  EXPECT_LT(test::relative_error(interpret(original, inputs), interpret(result.optimized, inputs)), kTolerance);
}

TEST(SampleSections, SeveralFollowEachOther) {
  constexpr const char* kText = R"(
    graph g(%x: float32[n, 8]) {
      %a = Relu(%x)
      %b = Exp(%a)
      %s = Softmax(%b) {axis=0}
      %c = Add(%s, %a)
      %w = constant float32[8, 6] random(1)
      %d = MatMul(%c, %w)
      return %d, %b
    })";
  const Graph original = parse_graph(kText);
  Graph graph = original;
  for (int i = 0; i < 2; ++i) EXPECT_EQ(make_section(graph, per_sample_nodes(graph)), 2);
  BuildOptions options;
  options.opt_level = 0;
  options.num_threads = 2;
  options.profiles = {{{"x", {{1, 8}, {5, 8}, {5, 8}}}}};
  const BuildResult result = build(std::move(graph), cpu_backend(), options);
  EXPECT_EQ(num_sections(result.plan), 2);
  for (const NodeId id : result.optimized.order()) EXPECT_TRUE(result.optimized.node(id).blocks.empty());
  const Engine engine = Engine::load(file_of(result));
  Context context = engine.make_context();
  const std::vector<Tensor> inputs = test::random_inputs(original, {{"x", {5, 8}}}, 1);
  const std::vector<Tensor> expected = interpret(original, inputs);
  EXPECT_LT(test::relative_error(expected, test::run_engine(context, original, inputs)), kTolerance);
  EXPECT_LT(test::relative_error(expected, interpret(result.optimized, inputs)), kTolerance);
}

constexpr const char* kLargeImages = R"(
    graph g(%x: float32[n, 8, 96, 96]) {
      %w1 = constant float32[16, 8, 3, 3] random(1)
      %c1 = Conv(%x, %w1) {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1}
      %r1 = Relu(%c1)
      %w2 = constant float32[16, 16, 3, 3] random(2)
      %c2 = Conv(%r1, %w2) {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1}
      %r2 = Relu(%c2)
      %g = ReduceMean(%r2) {axes=[2, 3], keepdims=0}
      %w3 = constant float32[16, 4096] random(3)
      %w4 = constant float32[4096, 10] random(4)
      %f = MatMul(%g, %w3)
      %y = MatMul(%f, %w4)
      return %y
    })";

Plan built_for(std::int64_t batch, std::vector<std::string> disabled = {}) {
  BuildOptions options;
  options.opt_level = 0;
  options.num_threads = 1;
  options.disabled_rules = std::move(disabled);
  options.profiles = {{{"x", {{batch, 8, 96, 96}, {batch, 8, 96, 96}, {batch, 8, 96, 96}}}}};
  return build(parse_graph(kLargeImages), cpu_backend(), options).plan;
}

TEST(SampleSections, TheEstimateTakesLargeImagesAndLeavesLargeMatrices) {
  const Plan plan = built_for(16);
  ASSERT_EQ(num_sections(plan), 1);
  std::vector<std::string> outside;
  for (const PlanStep& step : plan.steps) outside.push_back(step.op_type);
  EXPECT_EQ(outside.front(), "Samples");
  EXPECT_EQ(outside.back(), "MatMul");
  const auto& passes = plan.provenance.passes;
  EXPECT_TRUE(std::any_of(passes.begin(), passes.end(),
                          [](const std::string& p) { return p.starts_with("sample_sections: "); }));
}

TEST(SampleSections, OneSampleHasNoneAndTheyCanBeSwitchedOff) {
  EXPECT_EQ(num_sections(built_for(1)), 0);
  EXPECT_EQ(num_sections(built_for(16, {"sample_sections"})), 0);
}

TEST(SampleSections, AKernelThatRefusesTheSizesItIsTimedAtDoesNotEndTheBuild) {
  // It may stand in a branch that batches of this size never take.
  const Graph graph = parse_graph(R"(
    graph g(%x: float32[n, 2, 8]) {
      %r = Relu(%x)
      %y = CheckedSqueeze(%r) {axis=1}
      return %y
    })");
  BuildOptions options;
  options.opt_level = 1;
  options.num_threads = 1;
  options.profiles = {{{"x", {{1, 2, 8}, {4, 2, 8}, {4, 2, 8}}}}};
  EXPECT_EQ(build(graph, cpu_backend(), options).plan.profiles.size(), 1);
}

TEST(SampleSections, MeasuringThemIsReported) {
  BuildOptions options;
  options.opt_level = 1;
  options.num_threads = 1;
  options.timing_cache = "";
  options.profiles = {{{"x", {{1, 8, 96, 96}, {8, 8, 96, 96}, {8, 8, 96, 96}}}}};
  const Graph graph = parse_graph(kLargeImages);
  const BuildResult result = build(graph, cpu_backend(), options);
  int lines = 0, chosen = 0;
  for (const PlanCandidate& line : result.plan.report) {
    if (line.step != "the network") continue;
    EXPECT_GT(line.time_us, 0);
    if (line.tactic != "sample_sections") continue;
    ++lines;
    chosen += line.chosen ? 1 : 0;
  }
  EXPECT_LE(lines, 3);
  EXPECT_EQ(chosen, num_sections(result.plan) > 0 ? 1 : 0);
  // What was measured once is not measured again, and decides the same.
  options.timing_cache = result.timing_cache;
  const BuildResult again = build(graph, cpu_backend(), options);
  EXPECT_EQ(file_of(again), file_of(result));
  EXPECT_EQ(again.timing_cache, result.timing_cache);
}

TEST(BestSections, AreTheRunsOfNodesWithTheLargestSum) {
  const std::vector<NodeId> nodes{10, 11, 12, 13, 14, 15, 16};
  const std::vector<double> gains{-1, 3, 4, -9, 2, 5, -2};
  EXPECT_EQ(best_sections(nodes, gains, 1, 0.5), (std::vector<SectionNodes>{{11, 12}}));
  EXPECT_EQ(best_sections(nodes, gains, 2, 0.5), (std::vector<SectionNodes>{{11, 12}, {14, 15}}));
  EXPECT_EQ(best_sections(nodes, gains, 2, 7), (std::vector<SectionNodes>{}));  // none is worth entering
  EXPECT_EQ(best_sections({}, {}, 2, 0), (std::vector<SectionNodes>{}));
}

TEST(BestSections, BeginBeforeNodesThatCountWhereTheyAreJoined) {
  const std::vector<NodeId> nodes{1, 2, 3, 4, 5};
  const std::vector<double> gains{0, 0, 6, 0, -1};
  EXPECT_EQ(best_sections(nodes, gains, 1, 1), (std::vector<SectionNodes>{{1, 2, 3}}));
}

TEST(RoundsOfSamples, ARestIsComputedTogetherUnlessItKeepsMostThreadsBusy) {
  EXPECT_EQ(rounds_of_samples(8, 1), 8);
  EXPECT_EQ(rounds_of_samples(8, 2), 4);
  EXPECT_EQ(rounds_of_samples(8, 3), 3);
  EXPECT_GT(rounds_of_samples(9, 4), 2);
  EXPECT_LT(rounds_of_samples(9, 4), 3);
}

}  // namespace
}  // namespace tenfold
