// What networks quantised dynamically consist of, against the references: exactly the same numbers.
#include <limits>

#include "kernel_case.hpp"

namespace tenfold {
namespace {

/// Any byte of the type.
Tensor bytes(DType dtype, const Shape& shape, std::uint32_t seed) {
  const double low = dtype == DType::int8 ? -128 : 0;
  return random_tensor(dtype, shape, seed, low, low + 256);
}

TEST(IntegerProducts, AgreeWithTheReferenceForEveryTypeAndZeroPoint) {
  struct Sizes {
    Shape a;
    std::int64_t n;
  };
  // Single rows, tails of columns and of quads, several blocks of rows, sums as large as they become.
  for (const Sizes& s : std::vector<Sizes>{{{1, 7}, 5},
                                           {{3, 64}, 48},
                                           {{2, 5, 33}, 100},
                                           {{13, 130}, 17},
                                           {{200, 12}, 65},
                                           {{1, 3000}, 70},
                                           {{40}, 9},
                                           {{0, 8}, 9}}) {
    const std::int64_t depth = s.a.back();
    for (const DType a : {DType::uint8, DType::int8}) {
      for (const DType b : {DType::int8, DType::uint8}) {
        const std::vector<std::vector<Tensor>> zeros = {
            {},
            {bytes(a, {}, 3)},
            {bytes(a, {1}, 4), bytes(b, {}, 5)},
            {Tensor{}, bytes(b, {s.n}, 6)},
            {bytes(a, {}, 7), Tensor(b, {1})},
        };
        for (std::size_t z = 0; z < zeros.size(); ++z) {
          SCOPED_TRACE(fmt::format("{} columns, depth {}, {} and {}, zero points {}", s.n, depth, to_string(a),
                                   to_string(b), z));
          KernelCase c{"MatMulInteger", {}, {bytes(a, s.a, 1), bytes(b, {depth, s.n}, 2)}, {false, true, false, true}};
          c.inputs.insert(c.inputs.end(), zeros[z].begin(), zeros[z].end());
          check_tactic(c, "integers.packed", {});
        }
      }
    }
  }
}

TEST(IntegerProducts, SumsBecomeFloatsInTheEpilogue) {
  for (const DType a : {DType::uint8, DType::int8}) {
    for (const DType b : {DType::int8, DType::uint8}) {
      SCOPED_TRACE(fmt::format("{} and {}", to_string(a), to_string(b)));
      const Tensor middle = b == DType::uint8 ? random_tensor(b, {}, 1, 128, 128) : Tensor{};
      KernelCase c{"MatMulInteger",
                   {{"to", std::string("float32")}},
                   {bytes(a, {2, 9, 130}, 1), bytes(b, {130, 75}, 2), bytes(a, {}, 3), middle},
                   {false, true, false, true}};
      check_tactic(c, "integers.packed", {});  // below 2^24, so exact
      c.attributes.set("epilogue_inputs", std::int64_t{3});
      // In registers: all, all but what follows, a residual alone. By a program: what reads a sum twice.
      for (const char* epilogue : {"mul 0 1; add 4 2; add 5 3", "mul 0 1; add 4 2; relu 5; add 6 3", "mul 1 0; add 3 4",
                                   "mul 0 1; add 4 2; add 5 3; mul 6 6", "add 3 0; mul 4 1", "mul 0 1; min 4 0",
                                   "mul 0 1; add 4 2; min 5 4", "add 0 0; mul 4 1"}) {
        SCOPED_TRACE(epilogue);
        c.attributes.set("epilogue", std::string(epilogue));
        for (const Shape& scale : {Shape{}, Shape{75}, Shape{1, 9, 1}}) {
          c.inputs.resize(4);
          c.inputs.push_back(random_tensor(DType::float32, scale, 4, 0.001, 0.002));
          c.inputs.push_back(random_tensor(DType::float32, {75}, 5, -1, 1));
          c.inputs.push_back(random_tensor(DType::float32, {2, 9, 75}, 6, -1, 1));
          check_tactic(c, "integers.packed",
                       {.absolute = 2 * 4 * 0x1p-24 * 130 * 255 * 128 * 0.002, .relative = 0x1p-21});
        }
      }
    }
  }
}

/// What follows may make bytes of the numbers again, and one rounding decides which.
TEST(IntegerProducts, ComputedScalesAndOffsetsAreRoundedOneAfterTheOther) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  constexpr std::int64_t kRows = 20, kColumns = 60;
  KernelCase c{"MatMulInteger",
               {},
               {bytes(DType::uint8, {kRows, 64}, 1), bytes(DType::int8, {64, kColumns}, 2), bytes(DType::uint8, {}, 3)},
               {false, true}};
  const Tensor sums = run_tactic(c, "integers.packed")[0];
  c.attributes = {{"to", std::string("float32")},
                  {"epilogue", std::string("mul 0 1; add 4 2; add 5 3")},
                  {"epilogue_inputs", std::int64_t{3}}};
  c.inputs.push_back(Tensor{});
  c.inputs.push_back(random_tensor(DType::float32, {}, 4, 0.001, 0.002));
  c.inputs.push_back(random_tensor(DType::float32, {kColumns}, 5, -9, 9));
  c.inputs.push_back(random_tensor(DType::float32, {kRows, kColumns}, 6, -9, 9));
  const Tensor got = run_tactic(c, "integers.packed")[0];
  const float scale = c.inputs[4].as<float>()[0];
  for (std::size_t i = 0; i < kRows * kColumns; ++i) {
    const float product = static_cast<float>(sums.as<std::int32_t>()[i]) * scale;
    const float moved = product + c.inputs[5].as<float>()[i % kColumns];
    ASSERT_EQ(got.as<float>()[i], moved + c.inputs[6].as<float>()[i]) << i;
  }
}

TEST(IntegerProducts, ExtremeBytesDoNotSaturate) {
  for (const std::uint8_t x : {0, 255}) {
    for (const std::int8_t w : {-128, 127}) {
      Tensor a(DType::uint8, {5, 4000}), b(DType::int8, {4000, 40}), zero(DType::uint8, {});
      for (std::uint8_t& value : a.as_mutable<std::uint8_t>()) value = x;
      for (std::int8_t& value : b.as_mutable<std::int8_t>()) value = w;
      zero.as_mutable<std::uint8_t>()[0] = static_cast<std::uint8_t>(255 - x);
      check_tactic({"MatMulInteger", {}, {a, b, zero}, {false, true}}, "integers.packed", {});
    }
  }
}

TEST(IntegerProducts, WhatIsNotTakenIsRefused) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  const auto refusal = [](std::vector<Tensor> inputs, std::vector<bool> constant) {
    return refusal_of({"MatMulInteger", {}, std::move(inputs), std::move(constant)}, "integers.packed");
  };
  const Tensor a = bytes(DType::uint8, {3, 8}, 1), b = bytes(DType::int8, {8, 5}, 2);
  EXPECT_EQ(refusal({a, b}, {false, true}), "");
  EXPECT_EQ(refusal({a, b}, {false, false}), "b is computed");
  EXPECT_EQ(refusal({a, b, bytes(DType::uint8, {3}, 3)}, {false, true}), "rows have zero points of their own");
  EXPECT_EQ(refusal({a, b, Tensor{}, bytes(DType::int8, {5}, 3)}, {false, true}), "the zero points of b are computed");
  EXPECT_EQ(refusal({bytes(DType::uint8, {2, 3, 8}, 1), bytes(DType::int8, {2, 8, 5}, 2)}, {false, true}),
            "b is a batch of matrices");
  EXPECT_EQ(refusal_of({"MatMulInteger",
                        {{"to", std::string("float32")}},
                        {a, b, bytes(DType::uint8, {}, 3), bytes(DType::int8, {5}, 3)},
                        {false, true, false, true}},
                       "integers.packed"),
            "the zero points of b are not in the middle of its range, and the sums become floats");
  EXPECT_EQ(refusal_of({"MatMulInteger", {{"to", std::string("uint8")}}, {a, b}, {false, true}}, "integers.packed"),
            "the result is uint8");
  EXPECT_EQ(refusal({bytes(DType::uint8, {1, 40000}, 1), bytes(DType::int8, {40000, 2}, 2)}, {false, true}),
            "sums of 40000 products may not fit in 32 bits");
}

TEST(IntegerProducts, BrokenSpecsAreRefused) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  const PreparedCase c =
      prepare({"MatMulInteger", {}, {bytes(DType::uint8, {4, 8}, 1), bytes(DType::int8, {8, 16}, 2)}, {false, true}});
  const std::vector<std::byte> panels(8 * 16), sums(16 * 4);
  const KernelSpec good{c.problem.op,     "integers.packed", {1, 1, 48},
                        c.problem.inputs, c.problem.outputs, {panels, sums}};
  EXPECT_NO_THROW(cpu_backend().make_kernel(good));
  KernelSpec bad = good;
  bad.parameters = {99, 1, 48};
  expect_refused(bad, "register tile");
  bad.parameters = {1, 1, 0};
  expect_refused(bad, "register tile");
  bad.parameters = {1, 1};
  expect_refused(bad, "3 parameters");
  bad = good;
  bad.weights[0] = bad.weights[0].first(100);
  expect_refused(bad, "packed weights");
  bad = good;
  bad.weights[1] = bad.weights[1].first(60);
  expect_refused(bad, "packed weights");
  bad = good;
  bad.inputs[1].dtype = DType::float32;
  expect_refused(bad, "no byte");
}

TEST(DynamicQuantisation, CoversAnyRange) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();
  std::vector<Tensor> inputs = {
      random_tensor(DType::float32, {3, 50}, 1, -3, 5),
      random_tensor(DType::float32, {7}, 2, 1, 5),
      random_tensor(DType::float32, {9}, 3, -5, -1),
      random_tensor(DType::float32, {20000}, 4, -1, 1),
      random_tensor(DType::float32, {300'001}, 5, -9, 1),
      Tensor(DType::float32, {40}),
      Tensor(DType::float32, {0}),
  };
  for (const float value : {kNan, kInfinity, -kInfinity}) {
    Tensor odd = random_tensor(DType::float32, {90}, 6, -1, 2);
    odd.as_mutable<float>()[17] = value;
    inputs.push_back(odd);
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    SCOPED_TRACE(i);
    check_tactic({"DynamicQuantizeLinear", {}, {inputs[i]}, {}, 3}, "quantize.dynamic", {});
  }
}

}  // namespace
}  // namespace tenfold
