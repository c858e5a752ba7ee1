// The vector functions behind pointwise programs, against the same function in double, over floats of every exponent.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include <gtest/gtest.h>

#include "backend/cpu/kernels/pointwise_program.hpp"
#include "ops/pointwise.hpp"

namespace tenfold::cpu {
namespace {

struct TierUnderTest {
  const char* name;
  const PointwiseKernels* kernels;
};
/// Those that this machine can run.
std::vector<TierUnderTest> tiers() {
  std::vector<TierUnderTest> found;
  if (machine_tier() >= Tier::avx2) found.push_back({"avx2", &avx2::kPointwiseKernels});
  if (machine_tier() >= Tier::avx512) found.push_back({"avx512", &avx512::kPointwiseKernels});
  return found;
}

/// Floats spread over all bit patterns: every exponent, both signs, subnormals, and the special values.
std::vector<float> floats_of_all_kinds() {
  std::vector<float> values;
  constexpr std::uint64_t kStep = 65'521 * 3;  // no common factor with 2^32, so low bits vary too
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += kStep) {
    values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  }
  // Where functions bend most, denser.
  for (int i = -40'000; i <= 40'000; ++i) values.push_back(static_cast<float>(i) * 0x1.234p-11F);
  using Limits = std::numeric_limits<float>;
  for (const float value : {0.0F,
                            -0.0F,
                            1.0F,
                            -1.0F,
                            Limits::infinity(),
                            -Limits::infinity(),
                            Limits::quiet_NaN(),
                            Limits::min(),
                            Limits::denorm_min(),
                            Limits::max(),
                            Limits::lowest(),
                            88.7F,
                            -87.4F,
                            -103.9F,
                            104.0F,
                            0.5F,
                            1.5F,
                            2.5F,
                            -0.5F,
                            1e5F,
                            1e6F}) {
    values.push_back(value);
  }
  return values;
}

/// Distance in units in the last place of the wanted value; subnormals count as their neighbours.
double ulps(float got, double wanted) {
  if (std::isnan(wanted)) return std::isnan(got) ? 0 : 1e30;
  const auto rounded = static_cast<float>(wanted);
  if (static_cast<double>(got) == wanted || got == rounded) return 0;
  if (std::isnan(got) || std::isinf(got) || std::isinf(wanted)) {
    // Just below the overflow threshold either answer is within one unit.
    return std::isinf(got) != std::isinf(rounded) && std::abs(wanted) > 3.4028e38 && std::abs(wanted) < 3.4029e38
               ? 1
               : 1e30;
  }
  int exponent = 0;
  std::frexp(wanted, &exponent);
  return std::abs(static_cast<double>(got) - wanted) / std::ldexp(1.0, std::max(exponent, -125) - 24);
}

struct Case {
  PointwiseCode code;
  double max_ulps;      // as stated in simd_math.hpp
  double absolute = 0;  // differences up to this do not count
  double (*wanted)(double);
};

constexpr double kSmallestNormal = 0x1p-126;

const std::array kCases = {
    Case{PointwiseCode::exp, 1.1, 0, [](double x) { return std::exp(x); }},
    Case{PointwiseCode::log, 1.0, 0, [](double x) { return std::log(x); }},
    Case{PointwiseCode::tanh, 6, 0, [](double x) { return std::tanh(x); }},
    Case{PointwiseCode::sigmoid, 2.5, kSmallestNormal, [](double x) { return 1 / (1 + std::exp(-x)); }},
    Case{PointwiseCode::erf, 6, 0, [](double x) { return std::erf(x); }},
    Case{PointwiseCode::sin, 2, 0, [](double x) { return std::sin(x); }},
    Case{PointwiseCode::cos, 2, 0, [](double x) { return std::cos(x); }},
    Case{PointwiseCode::softplus, 3, kSmallestNormal,
         [](double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }},
    Case{PointwiseCode::sqrt, 0.5, 0, [](double x) { return std::sqrt(x); }},
    Case{PointwiseCode::reciprocal, 0.5, 0, [](double x) { return 1 / x; }},
    Case{PointwiseCode::floor, 0, 0, [](double x) { return std::floor(x); }},
    Case{PointwiseCode::ceil, 0, 0, [](double x) { return std::ceil(x); }},
    Case{PointwiseCode::round, 0, 0, [](double x) { return std::nearbyint(x); }},
    Case{PointwiseCode::abs, 0, 0, [](double x) { return std::abs(x); }},
    Case{PointwiseCode::neg, 0, 0, [](double x) { return -x; }},
};

std::vector<float> apply(const PointwiseKernels& kernels, const PointwiseProgram& program,
                         const std::vector<PointwiseOperand>& inputs, std::size_t count) {
  std::vector<float> out(count);
  const CompiledPointwise compiled = compile_pointwise(program);
  kernels.run(compiled, inputs.data(), out.data(), 0, 1, static_cast<std::int64_t>(count));
  return out;
}

/// Of negative numbers the result has few digits left by any formula with 1 + erf, so the error is in terms of x.
TEST(KernelMath, GeluStaysWithinItsStatedErrorOnAllFloats) {
  const std::vector<float> x = floats_of_all_kinds();
  PointwiseProgram program;
  program.append(PointwiseCode::gelu, 0);
  for (const TierUnderTest& tier : tiers()) {
    const std::vector<float> y = apply(*tier.kernels, program, {{x.data(), 0, 1}}, x.size());
    double worst = 0;
    float worst_x = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(x[i])) {
        ASSERT_TRUE(std::isnan(y[i])) << tier.name;
      }
      if (std::isnan(x[i]) || x[i] == -std::numeric_limits<float>::infinity()) continue;  // 0 times infinity
      const double wanted = 0.5 * x[i] * std::erfc(-x[i] / std::numbers::sqrt2);
      if (static_cast<double>(y[i]) == wanted) continue;
      const double error = std::abs(static_cast<double>(y[i]) - wanted) / ((std::abs(x[i]) + 0.125) * 0x1p-24);
      ASSERT_FALSE(std::isnan(error)) << tier.name << " at " << x[i];
      if (error > worst) worst = error, worst_x = x[i];
    }
    EXPECT_LE(worst, std::string_view(tier.name) == "avx512" ? 1.1 : 2.8) << tier.name << " at " << worst_x;
  }
}

TEST(KernelMath, UnaryFunctionsStayWithinTheirStatedErrorOnAllFloats) {
  const std::vector<float> x = floats_of_all_kinds();
  for (const TierUnderTest& tier : tiers()) {
    for (const Case& c : kCases) {
      PointwiseProgram program;
      program.append(c.code, 0);
      const std::vector<float> y = apply(*tier.kernels, program, {{x.data(), 0, 1}}, x.size());
      double worst = 0;
      float worst_x = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double wanted = c.wanted(x[i]);
        if (std::abs(static_cast<double>(y[i]) - wanted) <= c.absolute) continue;
        const double error = ulps(y[i], wanted);
        if (error > worst) worst = error, worst_x = x[i];
      }
      const bool has_lookups = std::string_view(tier.name) == "avx512";
      EXPECT_LE(worst, c.code == PointwiseCode::sigmoid && has_lookups ? 3 : c.max_ulps)
          << to_string(c.code) << " on " << tier.name << " at " << worst_x;
    }
  }
}

TEST(KernelMath, PowAgreesWithTheLibrarySpecialCasesIncluded) {
  const std::vector<float> all = floats_of_all_kinds();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::array fixed = {
      0.0F,       -0.0F,     1.0F,       -1.0F,      2.0F,   3.0F,  0.5F,
      -0.5F,      2.5F,      -7.0F,      10.0F,      17.3F,  1e-3F, 123456.F,
      16777217.F, kInfinity, -kInfinity, 0.9999999F, 1e-40F, 1e30F, std::numeric_limits<float>::quiet_NaN()};
  PointwiseProgram program;
  program.num_inputs = 2;
  program.append(PointwiseCode::pow, 0, 1);
  for (const TierUnderTest& tier : tiers()) {
    for (const float value : fixed) {
      const auto power = apply(*tier.kernels, program, {{all.data(), 0, 1}, {&value, 0, 0}}, all.size());
      const auto exponential = apply(*tier.kernels, program, {{&value, 0, 0}, {all.data(), 0, 1}}, all.size());
      for (std::size_t i = 0; i < all.size(); ++i) {
        ASSERT_LE(ulps(power[i], std::pow(static_cast<double>(all[i]), static_cast<double>(value))), 1.5)
            << "pow(" << all[i] << ", " << value << ") = " << power[i] << " on " << tier.name;
        ASSERT_LE(ulps(exponential[i], std::pow(static_cast<double>(value), static_cast<double>(all[i]))), 1.5)
            << "pow(" << value << ", " << all[i] << ") = " << exponential[i] << " on " << tier.name;
      }
    }
  }
}

TEST(KernelMath, EveryCodeComputesItsFormulaAtEveryLengthAndBroadcast) {
  // Moderate arguments: the error of a formula is then a few roundings of results below 16 in size, plus the functions'
  // own.
  constexpr double kTolerance = 16 * 8 * 0x1p-24;
  constexpr std::int64_t kMaxCols = 70;
  std::vector<float> data(3 * 4 * kMaxCols);
  std::uint32_t seed = 7;
  for (float& value : data) {
    seed = seed * 1664525U + 1013904223U;
    value = 0.25F + static_cast<float>(seed >> 8) * 0x1.8p-24F;
  }
  const float* a = data.data();
  const float* b = a + 4 * kMaxCols;
  const float* c = b + 4 * kMaxCols;
  for (const TierUnderTest& tier : tiers()) {
    for (int code = 0; code <= static_cast<int>(PointwiseCode::select); ++code) {
      PointwiseProgram program;
      program.num_inputs = 3;
      program.append(static_cast<PointwiseCode>(code), 0, 1, 2, 0.75F);
      const CompiledPointwise compiled = compile_pointwise(program);
      for (const std::int64_t cols : {1, 7, 8, 9, 16, 31, 64, 70}) {
        for (int kinds = 0; kinds < 8; ++kinds) {
          // b is a row repeated, or a number for each row; c a full matrix or one number.
          const std::array inputs = {PointwiseOperand{a, kMaxCols, (kinds & 1) != 0 ? 0 : 1},
                                     PointwiseOperand{b, (kinds & 2) != 0 ? 3 : 0, (kinds & 2) != 0 ? 0 : 1},
                                     PointwiseOperand{c, (kinds & 4) != 0 ? 0 : kMaxCols, (kinds & 4) != 0 ? 0 : 1}};
          constexpr float kCanary = -12345.0F;
          std::vector<float> out(4 * kMaxCols + 1, kCanary);
          tier.kernels->run(compiled, inputs.data(), out.data(), kMaxCols, 4, cols);
          for (std::int64_t r = 0; r < 4; ++r) {
            for (std::int64_t i = 0; i < kMaxCols; ++i) {
              const float got = out[static_cast<std::size_t>(r * kMaxCols + i)];
              if (i >= cols) {
                ASSERT_EQ(got, kCanary) << "written past the row";
                continue;
              }
              std::array<double, 3> v{};
              for (std::size_t k = 0; k < 3; ++k) {
                v[k] = inputs[k].data[r * inputs[k].row_stride + i * inputs[k].col_stride];
              }
              ASSERT_NEAR(got, evaluate(program.instructions[0], v[0], v[1], v[2]), kTolerance)
                  << to_string(program.instructions[0].code) << " on " << tier.name << " cols " << cols;
            }
          }
        }
      }
    }
  }
}

TEST(KernelMath, ALongProgramReusesSlotsAndRunsInPlace) {
  // x -> ((x + 1) * x + 2) * x ... keeps two values alive at a time over more steps than there are slots.
  PointwiseProgram program;
  int y = 0;
  for (int i = 0; i < 20; ++i) {
    y = program.append(PointwiseCode::mul_imm,
                       program.append(PointwiseCode::mul, program.append(PointwiseCode::add_imm, y, 0, 0, 1.0F), 0), 0,
                       0, 0.5F);
  }
  const CompiledPointwise compiled = compile_pointwise(program);
  EXPECT_LE(compiled.num_slots, 2);
  for (const TierUnderTest& tier : tiers()) {
    constexpr std::int64_t kRows = 5, kCols = 1203;
    std::vector<float> x(kRows * kCols), wanted(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] = static_cast<float>(i % 97) / 97.0F;
      float value = x[i];
      for (int k = 0; k < 20; ++k) value = (value + 1.0F) * x[i] * 0.5F;
      wanted[i] = value;
    }
    const PointwiseOperand input{x.data(), kCols, 1};
    tier.kernels->run(compiled, &input, x.data(), kCols, kRows, kCols);
    EXPECT_EQ(x, wanted) << tier.name;
  }
}

TEST(KernelMath, InstructionsWithoutAReaderAreDropped) {
  PointwiseProgram program;
  program.num_inputs = 2;
  program.append(PointwiseCode::exp, 0);
  program.append(PointwiseCode::add, 0, 1);
  EXPECT_EQ(compile_pointwise(program).num_steps, 1);
}

TEST(KernelMath, AProgramThatReadsAheadIsRefused) {
  PointwiseProgram program;
  program.instructions.push_back({PointwiseCode::relu, 5});
  const auto refusal = refuses_pointwise(program);
  ASSERT_TRUE(refusal.has_value());
  EXPECT_NE(refusal->find("register 5"), std::string::npos) << *refusal;
  EXPECT_THROW(compile_pointwise(program), Error);
}

}  // namespace
}  // namespace tenfold::cpu
