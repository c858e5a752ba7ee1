// Choices between close candidates, made in the network.
#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

#include "backend/cpu/tier.hpp"
#include "build/builder.hpp"
#include "build/network_timing.hpp"
#include "build/refine.hpp"
#include "graph/text.hpp"
#include "ops/registry.hpp"
#include "runtime/program.hpp"
#include "support/build_and_run.hpp"

namespace tenfold {
namespace {

constexpr const char* kConvolution = R"(
    graph g(%x: float32[1, 24, 20, 20]) {
      %w = constant float32[40, 24, 3, 3] random(1)
      %y = Conv(%x, %w, _) {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1}
      return %y
    })";

/// An engine file as time_profiles takes it.
EngineFile engine_file(BuildResult result) {
  EngineFile file;
  file.plan = std::move(result.plan);
  const auto bytes = std::make_shared<AlignedWeights>(PackedWeights{{result.weights}, {}});
  file.weights = {bytes->blobs[0].data(), bytes->blobs[0].size(), bytes};
  return file;
}

/// Of the convolution.
std::string chosen(const BuildResult& result) {
  for (const PlanCandidate& line : result.plan.report) {
    if (line.chosen && line.tactic.starts_with("conv.")) return candidate_key({line.tactic, line.parameters, "", 0});
  }
  return "";
}

std::string fastest_alone(const BuildResult& result) {
  const PlanCandidate* best = nullptr;
  for (const PlanCandidate& line : result.plan.report) {
    if (line.time_us > 0 && line.tactic.starts_with("conv.") && (best == nullptr || line.time_us < best->time_us))
      best = &line;
  }
  return best == nullptr ? "" : candidate_key({best->tactic, best->parameters, "", 0});
}

TEST(Program, ProfilesThatAgreeShareAKernel) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  BuildOptions options;
  options.opt_level = 0;
  options.profiles = {{}, {}};
  EngineFile file = engine_file(build(parse_graph(kConvolution), cpu_backend(), options));
  const auto kernels_of = [&] {
    std::vector<std::shared_ptr<const Kernel>> kernels;
    const Program program(file, cpu_backend());
    for (const RunStep& step : program.steps()) {
      if (step.op->type() == "Conv") kernels = step.kernels;
    }
    return kernels;
  };
  const auto shared = kernels_of();
  ASSERT_EQ(shared.size(), 2);
  EXPECT_EQ(shared[0], shared[1]);

  for (PlanStep& step : file.plan.steps) {  // equal weights in another place: the kernel looks there
    if (step.op_type != "Conv") continue;
    ASSERT_FALSE(step.choices[1].weights.empty());
    const std::size_t end = file.weights.size;
    auto longer = std::vector<std::byte>(file.weights.data, file.weights.data + end);
    const PlanWeight old = step.choices[1].weights[0];
    longer.insert(longer.end(), file.weights.data + old.offset, file.weights.data + old.offset + old.size);
    const auto bytes = std::make_shared<AlignedWeights>(PackedWeights{{longer}, {}});
    file.weights = {bytes->blobs[0].data(), bytes->blobs[0].size(), bytes};
    step.choices[1].weights[0].offset = end;
  }
  const auto own = kernels_of();
  ASSERT_EQ(own.size(), 2);
  EXPECT_NE(own[0], own[1]);
}

TEST(NetworkTiming, ASlowerKernelMakesASlowerNetwork) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  const Graph graph = parse_graph(R"(
    graph g(%a: float32[160, 160], %b: float32[160, 160]) {
      %y = MatMul(%a, %b)
      return %y
    })");
  BuildOptions options;
  options.num_threads = 1;
  options.profiles = {{}, {}};
  EngineFile file = engine_file(build(graph, cpu_backend(), options));
  ASSERT_EQ(file.plan.profiles.size(), 2);
  for (PlanStep& step : file.plan.steps) {
    if (step.op_type != "MatMul") continue;
    ASSERT_NE(step.choices[1].tactic, "reference");
    step.choices[1] = PlanChoice{.tactic = "reference"};
  }
  const std::vector<double> ratios = time_profiles(std::move(file), cpu_backend(), {.rounds = 5, .round_us = 500});
  ASSERT_EQ(ratios.size(), 1);
  EXPECT_GT(ratios[0], 2);
}

TEST(Refine, TheNetworkDecidesBetweenCloseCandidates) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  const Graph graph = parse_graph(kConvolution);
  BuildOptions options;
  options.num_threads = 1;
  options.opt_level = 4;
  options.timing_cache = "";
  nlohmann::json cache = nlohmann::json::parse(build(graph, cpu_backend(), options).timing_cache);
  // All kernels as fast as each other, alone: every build comes to the same order. Not those that are taken with
  // caution (Candidate::caution).
  std::vector<std::string> networks;
  for (auto& [key, entries] : cache["entries"].items()) {
    if (key.starts_with("network")) networks.push_back(key);
    double time = 10;
    for (auto& [candidate, us] : entries.items()) {
      us = candidate.starts_with("conv.amx_split(") ? 1000 : time += 0.01;
    }
  }
  for (const std::string& key : networks) cache["entries"].erase(key);

  options.timing_cache = cache.dump();
  const BuildResult measured = build(graph, cpu_backend(), options);
  cache = nlohmann::json::parse(measured.timing_cache);
  const auto with_ratio = [&](double ratio) {
    int changed = 0;
    for (auto& [key, entries] : cache["entries"].items()) {
      if (!key.starts_with("network")) continue;
      for (auto& [variant, value] : entries.items()) value = ratio, ++changed;
    }
    EXPECT_GE(changed, 1) << "no variant was timed";
    options.timing_cache = cache.dump();
    return build(graph, cpu_backend(), options);
  };
  const BuildResult slower = with_ratio(1.5);
  EXPECT_EQ(chosen(slower), fastest_alone(slower));
  const BuildResult faster = with_ratio(0.5);
  EXPECT_NE(chosen(faster), fastest_alone(faster));

  const std::vector<Tensor> inputs = test::random_inputs(graph, {}, 1);
  const Engine first = test::build_engine(graph, options);  // with the cache of `faster`
  Context context = first.make_context();
  BuildOptions plain;
  plain.num_threads = 1;
  const Engine second = test::build_engine(graph, plain);
  Context other = second.make_context();
  // 216 terms below 1 with rounding errors of 2^-24 each, twice.
  EXPECT_LT(test::relative_error(test::run_engine(other, graph, inputs), test::run_engine(context, graph, inputs)),
            3e-5);
}

TEST(Refine, CancellingStopsIt) {
  BuildOptions options;
  options.opt_level = 5;
  options.num_threads = 1;
  bool refining = false;
  options.on_progress = [&](const BuildProgress& progress) {
    refining = refining || progress.item == "kernels in the network";
  };
  options.is_cancelled = [&] { return refining; };
  try {
    build(parse_graph(kConvolution), cpu_backend(), options);
    EXPECT_FALSE(refining) << "cancelled, but not stopped";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::cancelled);
  }
}

}  // namespace
}  // namespace tenfold
