#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

#include "backend/cpu/tier.hpp"
#include "build/builder.hpp"
#include "build/timing_cache.hpp"
#include "graph/text.hpp"
#include "ops/registry.hpp"
#include "support/build_and_run.hpp"
#include "tenfold/types.hpp"

namespace tenfold {
namespace {

std::string scratch_file(const std::string& name) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "tenfold_timing_cache_test";
  std::filesystem::create_directories(folder);
  std::filesystem::remove(folder / name);
  return (folder / name).string();
}

TEST(TimingCache, SavingMergesWithWhatOthersWrote) {
  const std::string path = scratch_file("merged.json");
  TimingCache first;
  first.add("problem", "a(1)", 10.5);
  first.save(path);
  TimingCache second;
  second.add("problem", "b(2)", 3.25);
  second.save(path);

  std::vector<std::string> warnings;
  const TimingCache read = TimingCache::load(path, warnings);
  EXPECT_TRUE(warnings.empty());
  EXPECT_EQ(read.find("problem", "a(1)"), 10.5);
  EXPECT_EQ(read.find("problem", "b(2)"), 3.25);
  EXPECT_FALSE(read.find("problem", "c").has_value());
  EXPECT_FALSE(read.find("other", "a(1)").has_value());
}

TEST(TimingCache, ABrokenFileIsIgnoredWithAWarning) {
  const std::string path = scratch_file("broken.json");
  for (const char* text : {"", "{", "[1, 2]", "{\"tenfold_timing_cache\": 99, \"entries\": {}}", "\x01\x02"}) {
    std::ofstream(path) << text;
    std::vector<std::string> warnings;
    EXPECT_FALSE(TimingCache::load(path, warnings).find("problem", "a").has_value());
    ASSERT_EQ(warnings.size(), 1U) << text;
    EXPECT_NE(warnings[0].find(path), std::string::npos);
  }
}

TEST(TimingCache, AMissingFileIsAnEmptyCache) {
  std::vector<std::string> warnings;
  (void)TimingCache::load(scratch_file("missing.json"), warnings);
  EXPECT_TRUE(warnings.empty());
}

TEST(TimingCache, TimesThatAreNoTimesAreDropped) {
  const TimingCache cache = TimingCache::from_text(
      R"({"tenfold_timing_cache": 1, "entries": {"k": {"a": -1, "b": "fast", "c": 2.5}, "bad": 3}})");
  EXPECT_FALSE(cache.find("k", "a").has_value());
  EXPECT_FALSE(cache.find("k", "b").has_value());
  EXPECT_EQ(cache.find("k", "c"), 2.5);
}

/// A build that takes its times from a cache in which the first candidate of `tactic` is by far the fastest.
BuildResult build_with_fastest(const std::string& tactic, std::uint64_t workspace_bytes) {
  const Graph graph = parse_graph(R"(
    graph g(%x: float32[1, 24, 20, 20]) {
      %w = constant float32[40, 24, 3, 3] random(1)
      %y = Conv(%x, %w, _) {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1}
      return %y
    })");
  BuildOptions options;
  options.num_threads = 1;
  options.timing_cache = "";
  nlohmann::json cache = nlohmann::json::parse(build(graph, cpu_backend(), options).timing_cache);
  bool is_first = true;
  for (auto& candidates : cache["entries"]) {
    for (auto& [name, microseconds] : candidates.items()) {
      const bool is_it = is_first && name.starts_with(tactic + "(");
      microseconds = is_it ? 0.5 : 1000;
      is_first = is_first && !is_it;
    }
  }
  EXPECT_FALSE(is_first) << tactic << " was not timed";
  options.timing_cache = cache.dump();
  options.workspace_bytes = workspace_bytes;
  return build(graph, cpu_backend(), options);
}

std::string chosen_convolution(const BuildResult& result) {
  for (const PlanStep& step : result.plan.steps) {
    if (step.op_type == "Conv") return step.choices[0].tactic;
  }
  return "";
}

TEST(TimingCache, ACompleteCacheDecidesAloneAndTheWorkspaceLimitStillHolds) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  for (const char* tactic : {"conv.winograd2", "conv.winograd4"}) {
    const BuildResult free = build_with_fastest(tactic, std::uint64_t{1} << 40);
    EXPECT_EQ(chosen_convolution(free), tactic);
  }
  const std::uint64_t arena = build_with_fastest("conv.winograd4", std::uint64_t{1} << 40).plan.profiles[0].arena_bytes;
  const BuildResult limited = build_with_fastest("conv.winograd4", arena - 1);
  EXPECT_NE(chosen_convolution(limited), "conv.winograd4");
  EXPECT_LT(limited.plan.profiles[0].arena_bytes, arena);
}

/// The matrix unit, whose speed may not last, must measure a tenth faster than vectors.
TEST(TimingCache, TheMatrixUnitIsTakenWithCaution) {
  if (!cpu::has_bf16_tiles()) GTEST_SKIP() << "*** NOT EXERCISED: there are no tiles of bfloat16";
  const Graph graph = parse_graph(R"(
    graph g(%x: float32[64, 96]) {
      %w = constant float32[96, 160] random(1)
      %y = MatMul(%x, %w)
      return %y
    })");
  BuildOptions options;
  options.num_threads = 1;
  options.timing_cache = "";
  const nlohmann::json measured = nlohmann::json::parse(build(graph, cpu_backend(), options).timing_cache);
  for (const double microseconds : {92.0, 90.0}) {
    nlohmann::json cache = measured;
    for (auto& candidates : cache["entries"]) {
      for (auto& [name, time] : candidates.items()) time = name.starts_with("gemm.amx_split(") ? microseconds : 100;
    }
    options.timing_cache = cache.dump();
    const BuildResult result = build(graph, cpu_backend(), options);
    for (const PlanStep& step : result.plan.steps) {
      if (step.op_type != "MatMul") continue;
      EXPECT_EQ(step.choices[0].tactic == "gemm.amx_split", microseconds < 91) << step.choices[0].tactic;
    }
  }
}

}  // namespace
}  // namespace tenfold
