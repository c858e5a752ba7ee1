// Recurrent layers against their references, constants packed.
#include "kernel_case.hpp"

namespace tenfold {
namespace {

Tensor floats(const Shape& shape, std::uint32_t seed, double size = 0.5) {
  return random_tensor(DType::float32, shape, seed, -size, size);
}

/// States stay within 1 and contract, so errors do not build up from step to step: each step adds the rounding of sums
/// over the features and units (at most 2 x 90 numbers of size 1/4) and of the activations (6 units in the last place).
constexpr Tolerance kTolerance{64 * 0x1p-24 * 8, 0};

void check(const char* op, std::int64_t steps, std::int64_t batch, std::int64_t features, std::int64_t hidden,
           const char* direction, bool bias, bool initial, Attributes attributes = {}) {
  const std::int64_t gates = std::string(op) == "LSTM" ? 4 : std::string(op) == "GRU" ? 3 : 1;
  const std::int64_t directions = std::string(direction) == "bidirectional" ? 2 : 1;
  attributes.set("direction", std::string(direction));
  KernelCase c{op,
               attributes,
               {floats({steps, batch, features}, 1, 1), floats({directions, gates * hidden, features}, 2),
                floats({directions, gates * hidden, hidden}, 3, 0.25)}};
  c.constant = {false, true, true, true};
  c.inputs.push_back(bias ? floats({directions, 2 * gates * hidden}, 4) : Tensor());
  c.inputs.emplace_back();
  c.inputs.push_back(initial ? floats({directions, batch, hidden}, 5) : Tensor());
  if (gates == 4) c.inputs.push_back(initial ? floats({directions, batch, hidden}, 6) : Tensor());
  while (c.inputs.back().empty()) c.inputs.pop_back();
  c.num_outputs = gates == 4 ? 3 : 2;
  check_tactic(c, "recurrent.steps", kTolerance);
}

TEST(RecurrentKernel, EveryKindAndDirection) {
  for (const char* op : {"LSTM", "GRU", "RNN"}) {
    for (const char* direction : {"forward", "reverse", "bidirectional"}) {
      check(op, 5, 1, 10, 12, direction, true, false);
      check(op, 4, 2, 7, 16, direction, false, true);
      check(op, 3, 5, 16, 21, direction, true, true);
    }
  }
}

TEST(RecurrentKernel, BatchesAreCutIntoRowsOfEqualSize) {
  for (std::int64_t batch = 1; batch <= 13; ++batch) {
    check("LSTM", 3, batch, 5, 20, "forward", true, true);
    check("GRU", 3, batch, 5, 20, "forward", true, true);
  }
}

TEST(RecurrentKernel, ALargeBatchTakesTheWeightsInPieces) {
  for (const char* op : {"LSTM", "GRU", "RNN"}) check(op, 2, 29, 5, 180, "forward", true, true);
}

TEST(RecurrentKernel, UnitsOfEveryNumberFillGroupsOfBlocks) {
  for (const std::int64_t hidden : {3, 8, 16, 24, 32, 40, 56, 100, 180}) {
    for (const char* op : {"LSTM", "GRU", "RNN"}) check(op, 3, 4, 5, hidden, "forward", true, true);
  }
}

TEST(RecurrentKernel, StepsAreTakenInStretches) {
  for (const char* direction : {"forward", "reverse", "bidirectional"}) {
    check("LSTM", 101, 2, 5, 12, direction, true, true);
    check("GRU", 13, 12, 5, 12, direction, true, true);
    check("RNN", 3, 100, 5, 12, direction, true, true);
  }
}

TEST(RecurrentKernel, AGruMayResetAfterTheProduct) {
  for (const std::int64_t batch : {1, 4}) {
    check("GRU", 6, batch, 9, 20, "bidirectional", true, true, {{"linear_before_reset", std::int64_t{1}}});
  }
}

TEST(RecurrentKernel, ThreadsShareTheUnitsOrTheSequencesOfALargeLayer) {
  check("LSTM", 3, 3, 90, 160, "bidirectional", true, true);
  check("GRU", 3, 6, 90, 160, "forward", true, true);
}

TEST(RecurrentKernel, WhatItCannotDoIsRefused) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  KernelCase c{"LSTM",
               {{"clip", 1.0}},
               {floats({2, 1, 3}, 1), floats({1, 16, 3}, 2), floats({1, 16, 4}, 3)},
               {false, true, true},
               3};
  EXPECT_NE(refusal_of(c, "recurrent.steps").find("clipped"), std::string::npos);
  c.attributes = {};
  c.constant = {};
  EXPECT_NE(refusal_of(c, "recurrent.steps").find("computed"), std::string::npos);
}

}  // namespace
}  // namespace tenfold
