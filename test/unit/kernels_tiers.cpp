// Which instruction set tiers the kernel tests of this run exercise: what was not run must be visible.
#include <cstdio>

#include <gtest/gtest.h>

#include "backend/backend.hpp"
#include "backend/cpu/tier.hpp"

namespace tenfold {
namespace {

TEST(CpuTiers, TheRunSaysWhatItDidNotExercise) {
  using cpu::Tier;
  EXPECT_LE(cpu::tier(), cpu::machine_tier());
  for (const Tier tier : {Tier::avx2, Tier::avx512}) {
    if (tier == cpu::tier()) continue;
    std::printf(
        "*** NOT EXERCISED: kernels for %s (%s)\n", std::string(target_string(tier)).c_str(),
        tier > cpu::machine_tier() ? "this processor lacks it" : "another tier is in use; see TENFOLD_CPU_TIER");
  }
}

TEST(CpuTiers, EnginesOfAnotherTierAreRefusedInOneSentence) {
  const Backend& backend = cpu_backend();
  EXPECT_EQ(backend.refuses_target(backend.target()), std::nullopt);
  EXPECT_NE(backend.refuses_target("x86-64 avx1024").value_or(""), "");
  if (cpu::tier() > cpu::Tier::none) {
    EXPECT_NE(backend.refuses_target("x86-64").value_or("").find("TENFOLD_CPU_TIER=none"), std::string::npos);
  }
}

}  // namespace
}  // namespace tenfold
