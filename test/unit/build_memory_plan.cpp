#include <gtest/gtest.h>

#include <random>

#include "build/memory_plan.hpp"
#include "tenfold/types.hpp"

namespace tenfold {
namespace {

TEST(MemoryPlan, BuffersThatLiveAtTheSameTimeNeverOverlap) {
  std::mt19937 random(7);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<Lifetime> lifetimes;
    const int count = 1 + static_cast<int>(random() % 60);
    for (int i = 0; i < count; ++i) {
      const int first = static_cast<int>(random() % 40);
      lifetimes.push_back({first, first + static_cast<int>(random() % 8), random() % 5000});
    }
    const std::vector<std::uint64_t> offsets = plan_offsets(lifetimes, 64);
    const std::uint64_t size = arena_size(lifetimes, offsets, 64);
    for (std::size_t i = 0; i < lifetimes.size(); ++i) {
      EXPECT_EQ(offsets[i] % 64, 0U);
      EXPECT_LE(offsets[i] + lifetimes[i].bytes, size);
      for (std::size_t j = 0; j < i; ++j) {
        const bool together = lifetimes[i].first <= lifetimes[j].last && lifetimes[j].first <= lifetimes[i].last;
        const bool overlap = offsets[i] < offsets[j] + lifetimes[j].bytes && offsets[j] < offsets[i] + lifetimes[i].bytes;
        EXPECT_FALSE(together && overlap && lifetimes[i].bytes > 0 && lifetimes[j].bytes > 0) << "trial " << trial;
      }
    }
  }
}

TEST(MemoryPlan, AChainNeedsOnlyTwoBuffers) {
  std::vector<Lifetime> chain;
  for (int step = 0; step < 10; ++step) chain.push_back({step, step + 1, 1024});
  const std::vector<std::uint64_t> offsets = plan_offsets(chain, 64);
  EXPECT_EQ(arena_size(chain, offsets, 64), 2048U);
}

TEST(MemoryPlan, ALifetimeThatEndsBeforeItBeginsIsABug) {
  const std::vector<Lifetime> broken{{3, 2, 64}};
  EXPECT_THROW(plan_offsets(broken, 64), Error);
}

}  // namespace
}  // namespace tenfold
