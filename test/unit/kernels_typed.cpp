// Tactic elementwise.typed against the references: the same bits for every type it takes.
#include <array>

#include "kernel_case.hpp"

namespace tenfold {
namespace {

const std::string kTactic = "elementwise.typed";

/// Small integers, so that equal pairs occur; every type holds them.
Tensor numbers(DType dtype, const Shape& shape, std::uint32_t seed) {
  const bool is_unsigned = dtype == DType::uint8 || dtype == DType::boolean;
  Tensor x = random_tensor(dtype, shape, seed, is_unsigned ? 0 : -3, is_unsigned ? 2 : 3);
  if (dtype == DType::float32) {
    for (float& value : x.as_mutable<float>()) value = std::floor(value);
  }
  return x;
}

const std::vector<std::pair<Shape, Shape>> kShapes = {
    {{3, 37}, {3, 37}}, {{3, 37}, {37}},        {{3, 1}, {3, 37}},     {{}, {50}},          {{50}, {1}}, {{}, {}},
    {{0, 3}, {3}},      {{2, 3, 5}, {2, 1, 5}}, {{300, 70}, {300, 1}}, {{1, 40000}, {1, 1}}};

TEST(TypedKernel, ComparisonsOfEveryType) {
  for (const char* op : {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}) {
    for (const DType dtype : {DType::float32, DType::int32, DType::int64, DType::uint8, DType::int8}) {
      for (const auto& [a, b] : kShapes)
        check_tactic({op, {}, {numbers(dtype, a, 1), numbers(dtype, b, 2)}}, kTactic, {});
    }
  }
  check_tactic({"Equal", {}, {numbers(DType::boolean, {99}, 1), numbers(DType::boolean, {99}, 2)}}, kTactic, {});
}

TEST(TypedKernel, NotANumberComparesFalse) {
  Tensor a = numbers(DType::float32, {40}, 1);
  a.as_mutable<float>()[7] = NAN;
  for (const char* op : {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
    check_tactic({op, {}, {a, a}}, kTactic, {});
}

TEST(TypedKernel, LogicOfBooleans) {
  for (const char* op : {"And", "Or", "Xor"}) {
    for (const auto& [a, b] : kShapes) {
      check_tactic({op, {}, {numbers(DType::boolean, a, 1), numbers(DType::boolean, b, 2)}}, kTactic, {});
    }
  }
  check_tactic({"Not", {}, {numbers(DType::boolean, {5, 71}, 1)}}, kTactic, {});
}

TEST(TypedKernel, IntegersWrap) {
  for (const char* op : {"Add", "Sub", "Mul", "Max", "Min"}) {
    for (const DType dtype : {DType::int32, DType::int64, DType::uint8, DType::int8}) {
      for (const auto& [a, b] : kShapes)
        check_tactic({op, {}, {numbers(dtype, a, 1), numbers(dtype, b, 2)}}, kTactic, {});
      const double large = dtype == DType::int64 ? 1e15 : dtype == DType::int32 ? 2e9 : 120;
      check_tactic(
          {op,
           {},
           {random_tensor(dtype, {100}, 1, large / 2, large), random_tensor(dtype, {100}, 2, large / 2, large)}},
          kTactic, {});
    }
  }
}

TEST(TypedKernel, WhereChoosesElementsOfEverySize) {
  for (const DType dtype : {DType::int64, DType::float32, DType::float16, DType::uint8, DType::boolean}) {
    for (const Shape& condition : {Shape{4, 33}, Shape{33}, Shape{4, 1}, Shape{}}) {
      check_tactic({"Where",
                    {},
                    {numbers(DType::boolean, condition, 3), random_tensor(dtype, {4, 33}, 1, 0, 2),
                     random_tensor(dtype, {1, 33}, 2, 0, 2)}},
                   kTactic, {});
    }
  }
}

TEST(TypedKernel, CastSaturatesFloatsAndWrapsIntegers) {
  Tensor floats = random_tensor(DType::float32, {3, 50}, 1, -300, 300);
  const std::array special = {NAN,     INFINITY, -INFINITY, 1e20F, -1e20F, 2147483648.0F, -2147483648.0F, 127.9F,
                              -128.9F, 255.5F,   -0.5F,     0.0F,  -0.0F,  9.3e18F,       -9.3e18F,       1e-40F};
  std::copy(special.begin(), special.end(), floats.as_mutable<float>().begin());
  const std::array types = {DType::float32, DType::int32, DType::int64, DType::uint8, DType::int8, DType::boolean};
  for (const DType from : types) {
    const Tensor x = from == DType::float32   ? floats
                     : from == DType::int64   ? random_tensor(from, {3, 50}, 1, -1e12, 1e12)
                     : from == DType::int32   ? random_tensor(from, {3, 50}, 1, -2e9, 2e9)
                     : from == DType::boolean ? random_tensor(from, {3, 50}, 1, 0, 2)
                                              : random_tensor(from, {3, 50}, 1, 0, 127);
    for (const DType to : types) {
      if (from != to) check_tactic({"Cast", {{"to", std::string(to_string(to))}}, {x}}, kTactic, {});
    }
  }
  check_tactic({"Cast", {{"to", std::string("float16")}}, {floats}}, kTactic, {});
  check_tactic({"Cast", {{"to", std::string("float32")}}, {random_tensor(DType::float16, {77}, 1, -9, 9)}}, kTactic,
               {});
}

TEST(TypedKernel, OtherTypesAreRefusedWithTheirName) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  const Tensor x = random_tensor(DType::float64, {3}, 1);
  EXPECT_NE(refusal_of({"Less", {}, {x, x}}, kTactic).find("float64"), std::string::npos);
  const Tensor y = random_tensor(DType::float32, {3}, 1);
  EXPECT_NE(refusal_of({"Add", {}, {y, y}}, kTactic).find("float32"), std::string::npos);
}

}  // namespace
}  // namespace tenfold
