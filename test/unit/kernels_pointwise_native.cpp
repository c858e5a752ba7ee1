// Machine code of pointwise programs: the same bits as from the interpreter, for every code, broadcast and row length.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <sys/prctl.h>
#include <vector>

#include <gtest/gtest.h>

#include "backend/cpu/kernels/pointwise_program.hpp"
#include "backend/cpu/pointwise_jit.hpp"
#include "backend/cpu/pointwise_trace.hpp"
#include "base/env.hpp"
#include "ops/pointwise.hpp"

namespace tenfold::cpu {
namespace {

constexpr std::array kCodes = {
#define TENFOLD_CODE(name, operands, formula) PointwiseCode::name,
    TENFOLD_POINTWISE_CODES(TENFOLD_CODE)
#undef TENFOLD_CODE
};

bool leaves_the_vector_unit(PointwiseCode code) { return code == PointwiseCode::sin || code == PointwiseCode::cos; }

class PointwiseNative : public testing::Test {
 protected:
  void SetUp() override {
    if (tier() == Tier::none) GTEST_SKIP() << "no instruction set that machine code is made for";
    if (read(kCpuJitVariable)) GTEST_SKIP() << kCpuJitVariable.name << " is set";
  }
};

using Random = std::mt19937;
int draw(Random& random, int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); }

/// Numbers of size 1, and now and then those where formulas bend or break.
float draw_number(Random& random) {
  constexpr std::array kSpecial = {0.0F,
                                   -0.0F,
                                   1.0F,
                                   -1.0F,
                                   0.5F,
                                   88.8F,
                                   -104.0F,
                                   3e38F,
                                   -3e38F,
                                   1e-40F,
                                   1e9F,
                                   std::numeric_limits<float>::infinity(),
                                   -std::numeric_limits<float>::infinity(),
                                   std::numeric_limits<float>::quiet_NaN()};
  if (draw(random, 0, 9) == 0) return kSpecial[static_cast<std::size_t>(draw(random, 0, kSpecial.size() - 1))];
  return std::uniform_real_distribution<float>(-4, 4)(random);
}

/// One operand with rows of `cols` elements, a few more between them.
struct Operand {
  enum class Kind { full, repeated_row, number_a_row, number };
  Operand(Random& random, Kind kind, std::int64_t rows, std::int64_t cols)
      : row_stride(kind == Kind::full           ? cols + draw(random, 0, 3)
                   : kind == Kind::number_a_row ? 1 + draw(random, 0, 2)
                                                : 0),
        col_stride(kind == Kind::full || kind == Kind::repeated_row ? 1 : 0),
        data(static_cast<std::size_t>((rows - 1) * row_stride + (cols - 1) * col_stride + 1)) {
    for (float& x : data) x = draw_number(random);
  }
  PointwiseOperand view() const { return {data.data(), row_stride, col_stride}; }

  std::int64_t row_stride, col_stride;
  std::vector<float> data;
};

constexpr float kUntouched = 12345.0F;

/// Runs both ways over the same operands and compares every bit of the output's memory; any NaN equals any other.
void expect_same_bits(const LoadedPointwise& loaded, std::vector<Operand> operands, bool in_place, std::int64_t rows,
                      std::int64_t cols, const std::string& what) {
  ASSERT_NE(loaded.program.native, nullptr) << what;
  CompiledPointwise interpreted = loaded.program;
  interpreted.native = nullptr;
  constexpr std::size_t kGuard = 32;
  std::array<std::vector<float>, 2> results;
  for (int way = 0; way < 2; ++way) {
    std::vector<PointwiseOperand> views;
    views.reserve(operands.size());
    for (const Operand& operand : operands) views.push_back(operand.view());
    const std::int64_t stride = in_place ? operands[0].row_stride : cols + 3;
    std::vector<float>& out = results[static_cast<std::size_t>(way)];
    out.assign(kGuard + static_cast<std::size_t>((rows - 1) * stride + cols) + kGuard, kUntouched);
    if (in_place) {
      std::copy(operands[0].data.begin(), operands[0].data.end(), out.begin() + kGuard);
      views[0].data = out.data() + kGuard;
    }
    TENFOLD_FOR_TIER(kPointwiseKernels)
        .run(way == 0 ? interpreted : loaded.program, views.data(), out.data() + kGuard, stride, rows, cols);
  }
  for (std::size_t i = 0; i < results[0].size(); ++i) {
    const float wanted = results[0][i], got = results[1][i];
    if (std::isnan(wanted) && std::isnan(got)) continue;
    ASSERT_EQ(std::bit_cast<std::uint32_t>(wanted), std::bit_cast<std::uint32_t>(got))
        << what << ", " << rows << " x " << cols << (in_place ? " in place" : "") << ", float "
        << static_cast<std::int64_t>(i) - static_cast<std::int64_t>(kGuard) << ": interpreted " << wanted << ", native "
        << got;
  }
}

PointwiseProgram one_step(PointwiseCode code, float immediate) {
  PointwiseProgram program;
  program.num_inputs = std::max(1, num_operands(code));
  program.instructions = {{code, 0, 1, 2, immediate}};
  return program;
}

std::string name_of(PointwiseCode code) { return "code " + std::to_string(static_cast<int>(code)); }

TEST_F(PointwiseNative, EveryCodeAndRowLengthGivesTheInterpretersBits) {
  Random random(1);
  for (const PointwiseCode code : kCodes) {
    for (const float immediate : {0.3F, -2.0F}) {
      const LoadedPointwise loaded = load_pointwise(one_step(code, immediate));
      if (leaves_the_vector_unit(code)) {
        EXPECT_EQ(loaded.program.native, nullptr);
        continue;
      }
      for (std::int64_t cols = 1; cols <= 2 * vector_floats(tier()) + 1; ++cols) {
        std::vector<Operand> operands;
        for (int i = 0; i < loaded.program.num_inputs; ++i) operands.emplace_back(random, Operand::Kind::full, 3, cols);
        expect_same_bits(loaded, operands, false, 3, cols, name_of(code));
        expect_same_bits(loaded, operands, true, 3, cols, name_of(code));
      }
    }
  }
}

TEST_F(PointwiseNative, EveryCodeGivesTheInterpretersBitsForFloatsOfAllKinds) {
  Random random(2);
  constexpr std::int64_t kCount = 20'000;
  for (const PointwiseCode code : kCodes) {
    if (leaves_the_vector_unit(code)) continue;
    const LoadedPointwise loaded = load_pointwise(one_step(code, 1.7F));
    std::vector<Operand> operands;
    for (int i = 0; i < loaded.program.num_inputs; ++i) {
      operands.emplace_back(random, Operand::Kind::full, 1, kCount);
      for (float& x : operands.back().data) x = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    }
    expect_same_bits(loaded, operands, false, 1, kCount, name_of(code));
  }
}

TEST_F(PointwiseNative, RandomProgramsGiveTheInterpretersBitsOverAllBroadcasts) {
  for (std::uint32_t seed = 0; seed < 400; ++seed) {
    Random random(seed);
    PointwiseProgram program;
    program.num_inputs = draw(random, 1, NativePointwiseArgs::kMaxInputs);
    const int steps = draw(random, 1, 24);
    for (int s = 0; s < steps; ++s) {
      PointwiseInstruction instruction;
      do {
        instruction.code = kCodes[static_cast<std::size_t>(draw(random, 0, kCodes.size() - 1))];
      } while (leaves_the_vector_unit(instruction.code));
      const auto operand = [&] { return static_cast<std::uint8_t>(draw(random, 0, program.num_inputs + s - 1)); };
      instruction.a = operand();
      instruction.b = operand();
      instruction.c = operand();
      instruction.immediate = draw_number(random);
      program.instructions.push_back(instruction);
    }
    const LoadedPointwise loaded = load_pointwise(program);
    for (int round = 0; round < 4; ++round) {
      const std::int64_t rows = draw(random, 1, 4), cols = draw(random, 1, round == 0 ? 700 : 40);
      const bool in_place = draw(random, 0, 1) == 1;
      std::vector<Operand> operands;
      for (int i = 0; i < program.num_inputs; ++i) {
        const bool is_full = i == 0 && in_place;
        operands.emplace_back(random, is_full ? Operand::Kind::full : static_cast<Operand::Kind>(draw(random, 0, 3)),
                              rows, cols);
      }
      expect_same_bits(loaded, operands, in_place, rows, cols, "program of seed " + std::to_string(seed));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(PointwiseNative, MoreValuesThanRegistersGoThroughMemory) {
  // All are needed twice at the end, the last ones first.
  constexpr int kValues = 20;
  PointwiseProgram program;
  program.num_inputs = 2;
  const auto add = [&](PointwiseCode code, int a, int b, float k) {
    program.instructions.push_back(
        {code, static_cast<std::uint8_t>(a), static_cast<std::uint8_t>(b), static_cast<std::uint8_t>(a), k});
    return program.result();
  };
  std::vector<int> values;
  for (int i = 0; i < kValues; ++i)
    values.push_back(add(PointwiseCode::mul_imm, i % 2, 0, 1.0F + static_cast<float>(i)));
  int sum = 0;
  for (int i = kValues - 1; i >= 0; --i) sum = add(PointwiseCode::sub, values[static_cast<std::size_t>(i)], sum, 0);
  for (int i = 0; i < kValues; ++i) sum = add(PointwiseCode::prelu, values[static_cast<std::size_t>(i)], sum, 0);
  Random random(3);
  const std::vector<Operand> operands = {{random, Operand::Kind::full, 2, 37}, {random, Operand::Kind::number, 2, 37}};
  expect_same_bits(load_pointwise(program), operands, false, 2, 37, "many values");
  expect_same_bits(load_pointwise(program), operands, true, 2, 37, "many values");
}

TEST_F(PointwiseNative, EqualProgramsShareTheirCode) {
  const LoadedPointwise first = load_pointwise(one_step(PointwiseCode::add_imm, 0.5F));
  EXPECT_EQ(first.code, load_pointwise(one_step(PointwiseCode::add_imm, 0.5F)).code);
  EXPECT_NE(first.code, load_pointwise(one_step(PointwiseCode::add_imm, 0.25F)).code);
}

TEST_F(PointwiseNative, ProgramsWithManyInputsAreInterpreted) {
  PointwiseProgram program = one_step(PointwiseCode::add, 0);
  program.num_inputs = NativePointwiseArgs::kMaxInputs + 1;
  EXPECT_EQ(load_pointwise(program).program.native, nullptr);
}

TEST_F(PointwiseNative, WithoutExecutableMemoryProgramsAreInterpreted) {
  constexpr int kSetMdwe = 65, kRefuseExecGain = 1;  // PR_SET_MDWE of Linux 6.3, for headers that are older
  const auto refused = [] {
    if (prctl(kSetMdwe, kRefuseExecGain, 0, 0, 0) != 0) std::_Exit(2);
    std::_Exit(load_pointwise(one_step(PointwiseCode::add_imm, 0.75F)).program.native == nullptr ? 0 : 1);
  };
  EXPECT_EXIT(
      refused(), [](int status) { return WIFEXITED(status) && WEXITSTATUS(status) != 1; }, "");
}

TEST(PointwiseTrace, KeepsWhatTheResultNeedsAndNothingTwice) {
  PointwiseProgram program;
  program.num_inputs = 2;
  program.instructions = {{PointwiseCode::sigmoid, 0, 0, 0, 0},
                          {PointwiseCode::silu, 0, 0, 0, 0},
                          {PointwiseCode::mul, 0, 2, 0, 0},
                          {PointwiseCode::add, 3, 4, 0, 0}};
  const auto trace = trace_pointwise(compile_pointwise(program), false);
  ASSERT_TRUE(trace.has_value());
  // silu is the product of the input and its sigmoid. The second input is not needed.
  int divisions = 0, inputs = 0;
  for (const VectorInstruction& instruction : *trace) {
    divisions += instruction.op == VectorOp::div ? 1 : 0;
    inputs += instruction.op == VectorOp::input ? 1 : 0;
  }
  EXPECT_EQ(divisions, 1);
  EXPECT_EQ(inputs, 1);
  EXPECT_EQ(trace->back().op, VectorOp::add);
  EXPECT_EQ(trace->back().a, trace->back().b);
}

}  // namespace
}  // namespace tenfold::cpu
