// Tactic pointwise.blocks against the reference: every operator it takes, every way operands broadcast.
#include "kernel_case.hpp"
#include "ops/pointwise.hpp"

namespace tenfold {
namespace {

const std::string kTactic = "pointwise.blocks";

// The functions' own errors are at most 6 units in the last place (kernels_math.cpp); a formula combines a few of them
// and rounds in between, all at magnitudes below 16.
constexpr Tolerance kTolerance{16 * 4 * 0x1p-24, 16 * 0x1p-24};

Tensor floats(const Shape& shape, std::uint32_t seed, double low = -2, double high = 2) {
  return random_tensor(DType::float32, shape, seed, low, high);
}

TEST(PointwiseKernel, UnaryOperatorsAgreeWithTheirReference) {
  for (const char* op :
       {"Abs",         "Ceil",      "Cos",       "Elu",      "Erf",      "Exp",        "Floor",          "Gelu",
        "HardSigmoid", "HardSwish", "LeakyRelu", "Mish",     "Neg",      "Reciprocal", "Relu",           "Round",
        "Selu",        "Sigmoid",   "Sin",       "Softplus", "Softsign", "Tanh",       "ThresholdedRelu"}) {
    if (find_op(op) == nullptr) continue;
    for (const Shape& shape : {Shape{3, 37}, Shape{}, Shape{0, 4}, Shape{40000}}) {
      check_tactic({op, {}, {floats(shape, 1)}}, kTactic, kTolerance);
    }
  }
  for (const char* op : {"Log", "Sqrt"}) check_tactic({op, {}, {floats({5, 33}, 2, 0.01, 4)}}, kTactic, kTolerance);
}

TEST(PointwiseKernel, AttributesOfActivationsAreHonoured) {
  check_tactic({"LeakyRelu", {{"alpha", 0.3}}, {floats({77}, 1)}}, kTactic, kTolerance);
  check_tactic({"Elu", {{"alpha", 1.7}}, {floats({77}, 1)}}, kTactic, kTolerance);
  check_tactic({"Selu", {{"alpha", 1.5}, {"gamma", 0.7}}, {floats({77}, 1)}}, kTactic, kTolerance);
  check_tactic({"HardSigmoid", {{"alpha", 0.25}, {"beta", 0.4}}, {floats({77}, 1, -6, 6)}}, kTactic, kTolerance);
  check_tactic({"ThresholdedRelu", {{"alpha", 0.5}}, {floats({77}, 1)}}, kTactic, kTolerance);
  check_tactic({"Gelu", {{"approximate", std::string("tanh")}}, {floats({77}, 1)}}, kTactic, kTolerance);
}

TEST(PointwiseKernel, BinaryOperatorsBroadcastInEveryWay) {
  const std::vector<std::pair<Shape, Shape>> shapes = {{{4, 5, 33}, {4, 5, 33}},
                                                       {{4, 5, 33}, {33}},
                                                       {{4, 5, 33}, {4, 5, 1}},
                                                       {{4, 5, 33}, {}},
                                                       {{4, 5, 33}, {4, 1, 33}},
                                                       {{1, 5, 1}, {4, 1, 33}},
                                                       {{2, 3, 4, 5, 6}, {3, 1, 5, 1}},
                                                       {{1000, 4}, {4}},
                                                       {{1000, 4}, {1000, 1}},
                                                       {{6, 7, 7, 3}, {1, 7, 1, 3}},
                                                       {{1}, {1, 1}},
                                                       {{3, 1}, {0}},
                                                       {{300, 300}, {300, 1}},
                                                       {{2, 90000}, {90000}},
                                                       {{64, 48, 1}, {1, 48, 40}}};
  for (const char* op : {"Add", "Sub", "Mul", "Div", "Max", "Min"}) {
    for (const auto& [a, b] : shapes) {
      check_tactic({op, {}, {floats(a, 1), floats(b, 2, 0.5, 2)}}, kTactic, kTolerance);
      if (std::string(op) == "Sub") check_tactic({op, {}, {floats(b, 1), floats(a, 2)}}, kTactic, kTolerance);
    }
  }
  check_tactic({"Pow", {}, {floats({9, 20}, 1, 0.1, 3), floats({20}, 2)}}, kTactic, kTolerance);
  check_tactic({"PRelu", {}, {floats({2, 3, 8, 8}, 1), floats({3, 1, 1}, 2)}}, kTactic, kTolerance);
}

TEST(PointwiseKernel, OptionalOperandsMayBeOmitted) {
  const Tensor a = floats({3, 40}, 1), b = floats({40}, 2);
  const Tensor low = floats({}, 4, -1, 0), high = floats({}, 5, 0, 1);
  check_tactic({"Clip", {}, {a, low, high}}, kTactic, kTolerance);
  check_tactic({"Clip", {}, {a, low}}, kTactic, kTolerance);
  check_tactic({"Clip", {}, {a, Tensor(), high}}, kTactic, kTolerance);
}

TEST(PointwiseKernel, BooleansAreReadAsZeroAndOne) {
  if (find_op("Where") != nullptr) {
    for (const Shape& shape : {Shape{3, 40}, Shape{40}, Shape{3, 1}, Shape{}, Shape{2, 1, 1}}) {
      const Tensor condition = random_tensor(DType::boolean, shape, 7, 0, 2);
      check_tactic({"Where", {}, {condition, floats({3, 40}, 1), floats({1, 40}, 2)}}, kTactic, {});
    }
  }
  if (find_op("Cast") != nullptr) {
    check_tactic({"Cast", {{"to", std::string("float32")}}, {random_tensor(DType::boolean, {5, 9}, 1, 0, 2)}}, kTactic,
                 {});
  }
}

TEST(PointwiseKernel, AProgramMayReadBooleans) {
  check_tactic({"Pointwise",
                {{"num_inputs", std::int64_t{2}}, {"program", std::string("mul 0 1")}},
                {random_tensor(DType::boolean, {5, 90}, 1, 0, 2), floats({5, 90}, 2)}},
               kTactic, {});
}

TEST(PointwiseKernel, AFusedProgramReadsManyOperands) {
  const Attributes attributes = {{"num_inputs", std::int64_t{4}},
                                 {"program", std::string("mul 0 1; add 4 2; relu 5; add 6 3; sigmoid 7; mul 8 0")}};
  check_tactic({"Pointwise", attributes, {floats({2, 9, 40}, 1), floats({40}, 2), floats({2, 9, 1}, 3), floats({}, 4)}},
               kTactic, kTolerance);
  check_tactic(
      {"Pointwise", attributes, {floats({2, 9, 3}, 1), floats({3}, 2), floats({2, 9, 1}, 3), floats({2, 1, 3}, 4)}},
      kTactic, kTolerance);
}

TEST(PointwiseKernel, OtherElementTypesAreRefusedWithASentence) {
  EXPECT_NE(
      refusal_of({"Add", {}, {random_tensor(DType::int64, {3}, 1), random_tensor(DType::int64, {3}, 2)}}, kTactic), "");
}

}  // namespace
}  // namespace tenfold
