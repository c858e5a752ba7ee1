#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "build/timing_cache.hpp"
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

}  // namespace
}  // namespace tenfold
