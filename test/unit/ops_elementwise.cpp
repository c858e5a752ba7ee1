#include <cmath>
#include <limits>

#include "ops_case.hpp"

namespace tenfold {
namespace {

using namespace ops_case;  // NOLINT(google-build-using-namespace): the vocabulary of these tests

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// f of one float.
float at(std::string_view type, float x, const Attributes& attributes = {}) {
  return evaluate(type, attributes, {floats({1}, {x})}).as<float>()[0];
}

TEST(Unary, FunctionsHaveTheirTextbookValues) {
  // The reference computes in double and rounds once, so nothing is lost beyond the last bit of a float.
  const float tolerance = 2 * std::numeric_limits<float>::epsilon();
  const auto expect = [&](std::string_view type, float x, double y) {
    EXPECT_NEAR(at(type, x), y, tolerance * std::max(1.0, std::fabs(y))) << type;
  };
  const double pi = 3.14159265358979323846;
  expect("Acos", 0, pi / 2);
  expect("Acosh", 1, 0);
  expect("Asin", 1, pi / 2);
  expect("Asinh", 1, 0.881373587019543);
  expect("Atan", 1, pi / 4);
  expect("Atanh", 0.5F, 0.549306144334055);
  expect("Ceil", 1.25F, 2);
  expect("Cos", 0, 1);
  expect("Cosh", 1, 1.543080634815244);
  expect("Erf", 0.5F, 0.520499877813047);
  expect("Exp", 1, 2.718281828459045);
  expect("Floor", -1.25F, -2);
  expect("HardSwish", 1, 2.0 / 3);
  expect("Log", 2, 0.693147180559945);
  expect("Mish", 1, 0.865098388267284);
  expect("Reciprocal", 4, 0.25);
  expect("Sigmoid", 1, 0.731058578630005);
  expect("Sin", 1, 0.841470984807897);
  expect("Sinh", 1, 1.175201193643801);
  expect("Softplus", 1, 1.313261687518223);
  expect("Softsign", -3, -0.75);
  expect("Sqrt", 2, 1.414213562373095);
  expect("Tan", 1, 1.557407724654902);
  expect("Tanh", 1, 0.761594155955765);
  expect("Celu", -1, -0.632120558828558);
  expect("Elu", -1, -0.632120558828558);
  expect("Gelu", 1, 0.841344746068543);
  expect("HardSigmoid", 1, 0.7);
  expect("LeakyRelu", -2, -0.02);
  expect("Selu", -1, -1.111330737812563);
  expect("Swish", 1, 0.731058578630005);
  expect("ThresholdedRelu", 0.5F, 0);
  expect("ThresholdedRelu", 1.5F, 1.5);
}

TEST(Unary, ParametersComeFromAttributes) {
  EXPECT_EQ(at("Elu", -100, {{"alpha", 2.0}}), -2.0F);
  EXPECT_EQ(at("LeakyRelu", -4, {{"alpha", 0.25}}), -1.0F);
  EXPECT_EQ(at("HardSigmoid", 1, {{"alpha", 0.25}, {"beta", 0.25}}), 0.5F);
  EXPECT_EQ(at("Shrink", -2, {{"lambd", 1.0}, {"bias", 0.5}}), -1.5F);
  EXPECT_EQ(at("Shrink", 0.75F, {{"lambd", 1.0}}), 0.0F);
  EXPECT_EQ(at("ThresholdedRelu", 3, {{"alpha", 3.0}}), 0.0F);
  EXPECT_NEAR(at("Gelu", 1, {{"approximate", "tanh"}}), 0.8411919906, 1e-7);
  EXPECT_THROW(make_op("Gelu", {{"approximate", "sinh"}}), Error);
}

TEST(Unary, LargeArgumentsDoNotOverflow) {
  EXPECT_EQ(at("Softplus", 1000), 1000.0F);
  EXPECT_EQ(at("Softplus", -1000), 0.0F);
  EXPECT_EQ(at("Sigmoid", -1000), 0.0F);
  EXPECT_EQ(at("Mish", 1000), 1000.0F);
}

TEST(Unary, NaNStays) {
  for (const char* type : {"Relu", "HardSigmoid", "HardSwish", "Elu", "Selu", "Celu", "LeakyRelu", "Sign", "Clip"}) {
    EXPECT_TRUE(std::isnan(at(type, kNaN))) << type;
  }
}

TEST(Unary, RoundTakesTheEvenNeighbourOfAHalf) {
  const Tensor y = evaluate("Round", {}, {floats({6}, {0.5F, 1.5F, 2.5F, -0.5F, -1.5F, 2.4F})});
  EXPECT_EQ(values(y), (std::vector<float>{0, 2, 2, -0.0F, -2, 2}));
}

TEST(Unary, IntegersStayExact) {
  const Tensor x = ints({3}, {std::numeric_limits<std::int64_t>::min(), -5, 9007199254740993});
  EXPECT_TRUE(
      evaluate("Abs", {}, {x}).equals(ints({3}, {std::numeric_limits<std::int64_t>::min(), 5, 9007199254740993})));
  EXPECT_TRUE(
      evaluate("Neg", {}, {x}).equals(ints({3}, {std::numeric_limits<std::int64_t>::min(), 5, -9007199254740993})));
  EXPECT_TRUE(evaluate("Sign", {}, {x}).equals(ints({3}, {-1, -1, 1})));
  EXPECT_TRUE(evaluate("Relu", {}, {x}).equals(ints({3}, {0, 0, 9007199254740993})));
}

TEST(Unary, TestsOfNumbersGiveBooleans) {
  const Tensor x = floats({4}, {kInf, -kInf, kNaN, 1});
  EXPECT_TRUE(evaluate("IsNaN", {}, {x}).equals(bools({4}, {false, false, true, false})));
  EXPECT_TRUE(evaluate("IsInf", {}, {x}).equals(bools({4}, {true, true, false, false})));
  EXPECT_TRUE(
      evaluate("IsInf", {{"detect_negative", std::int64_t{0}}}, {x}).equals(bools({4}, {true, false, false, false})));
  EXPECT_TRUE(evaluate("Not", {}, {bools({2}, {true, false})}).equals(bools({2}, {false, true})));
}

TEST(Unary, HalfPrecisionIsRoundedOnce) {
  Tensor x(DType::float16, {1});
  x.as_mutable<Float16>()[0] = Float16(2.0F);
  const Tensor y = evaluate("Sqrt", {}, {x});
  EXPECT_EQ(y.dtype(), DType::float16);
  EXPECT_EQ(y.as<Float16>()[0].bits, Float16(1.41421356F).bits);
}

TEST(Unary, WrongTypesAndCountsAreRefused) {
  EXPECT_NE(failure(Code::invalid_model, [] { evaluate("Exp", {}, {ints({1}, {1})}); }).find("floating-point"),
            std::string::npos);
  EXPECT_NE(failure(Code::invalid_model, [] { evaluate("Not", {}, {floats({1}, {1})}); }).find("bool"),
            std::string::npos);
  EXPECT_NE(failure(Code::invalid_model, [] { evaluate("Exp", {}, {}); }).find("missing"), std::string::npos);
}

TEST(Binary, OperandsBroadcast) {
  const Tensor column = floats({2, 1}, {10, 20});
  const Tensor row = floats({3}, {1, 2, 3});
  EXPECT_TRUE(evaluate("Add", {}, {column, row}).equals(floats({2, 3}, {11, 12, 13, 21, 22, 23})));
  EXPECT_TRUE(evaluate("Sub", {}, {row, column}).equals(floats({2, 3}, {-9, -8, -7, -19, -18, -17})));
  EXPECT_TRUE(evaluate("Mul", {}, {floats({}, {2}), row}).equals(floats({3}, {2, 4, 6})));
  // An axis in the middle.
  EXPECT_TRUE(evaluate("Add", {}, {iota({2, 1, 2}), iota({2, 2})}).equals(floats({2, 2, 2}, {0, 2, 2, 4, 2, 4, 4, 6})));
  EXPECT_EQ(evaluate("Add", {}, {iota({0, 3}), iota({1, 3})}).shape(), (Shape{0, 3}));
}

TEST(Binary, IntegerDivisionTruncatesAndNeverTraps) {
  const Tensor a = int32s({5}, {7, -7, 7, std::numeric_limits<std::int32_t>::min(), 5});
  const Tensor b = int32s({5}, {2, 2, -2, -1, 0});
  EXPECT_TRUE(
      evaluate("Div", {}, {a, b}).equals(int32s({5}, {3, -3, -3, std::numeric_limits<std::int32_t>::min(), 0})));
}

TEST(Binary, ModTakesTheSignOfTheDivisorOrOfTheDividend) {
  const Tensor a = ints({6}, {-4, 7, 5, 4, -7, 8});
  const Tensor b = ints({6}, {2, -3, 8, -2, 3, 5});
  EXPECT_TRUE(evaluate("Mod", {}, {a, b}).equals(ints({6}, {0, -2, 5, 0, 2, 3})));
  EXPECT_TRUE(evaluate("Mod", {{"fmod", std::int64_t{1}}}, {a, b}).equals(ints({6}, {0, 1, 5, 0, -1, 3})));
  EXPECT_EQ(evaluate("Mod", {{"fmod", std::int64_t{1}}}, {floats({1}, {-4.5F}), floats({1}, {2})}).as<float>()[0],
            -0.5F);
}

TEST(Binary, IntegersWrapAround) {
  const Tensor top = tensor_of<std::int8_t>(DType::int8, {1}, {127});
  const Tensor one = tensor_of<std::int8_t>(DType::int8, {1}, {1});
  EXPECT_EQ(evaluate("Add", {}, {top, one}).as<std::int8_t>()[0], -128);
  EXPECT_EQ(evaluate("Mul", {}, {top, top}).as<std::int8_t>()[0], 1);
}

TEST(Binary, MaxAndMinPassNaNOn) {
  for (const char* type : {"Max", "Min"}) {
    EXPECT_TRUE(std::isnan(evaluate(type, {}, {floats({1}, {kNaN}), floats({1}, {1})}).as<float>()[0])) << type;
    EXPECT_TRUE(std::isnan(evaluate(type, {}, {floats({1}, {1}), floats({1}, {kNaN})}).as<float>()[0])) << type;
  }
}

TEST(Binary, PowKeepsTheTypeOfTheBase) {
  EXPECT_TRUE(evaluate("Pow", {}, {ints({4}, {2, -3, 2, -1}), ints({4}, {10, 3, -1, -3})})
                  .equals(ints({4}, {1024, -27, 0, -1})));
  EXPECT_TRUE(evaluate("Pow", {}, {floats({2}, {2, 9}), ints({2}, {3, -1})}).equals(floats({2}, {8, 1.0F / 9})));
  EXPECT_TRUE(evaluate("Pow", {}, {int32s({1}, {2}), floats({1}, {0.5F})}).equals(int32s({1}, {1})));
}

TEST(Binary, PReluScalesNegativesByChannel) {
  const Tensor x = floats({1, 2, 2}, {-1, 2, -3, 4});
  EXPECT_TRUE(evaluate("PRelu", {}, {x, floats({2, 1}, {0.5F, 2})}).equals(floats({1, 2, 2}, {-0.5F, 2, -6, 4})));
  EXPECT_THROW(evaluate("PRelu", {}, {floats({2}, {1, 1}), floats({2, 2}, {1, 1, 1, 1})}), Error);
}

TEST(Binary, ComparisonsAndLogic) {
  const Tensor a = floats({3}, {1, 2, kNaN});
  const Tensor b = floats({3}, {2, 2, kNaN});
  EXPECT_TRUE(evaluate("Equal", {}, {a, b}).equals(bools({3}, {false, true, false})));
  EXPECT_TRUE(evaluate("Less", {}, {a, b}).equals(bools({3}, {true, false, false})));
  EXPECT_TRUE(evaluate("LessOrEqual", {}, {a, b}).equals(bools({3}, {true, true, false})));
  EXPECT_TRUE(evaluate("Greater", {}, {a, b}).equals(bools({3}, {false, false, false})));
  EXPECT_TRUE(evaluate("GreaterOrEqual", {}, {a, b}).equals(bools({3}, {false, true, false})));
  const Tensor p = bools({4}, {false, false, true, true});
  const Tensor q = bools({4}, {false, true, false, true});
  EXPECT_TRUE(evaluate("And", {}, {p, q}).equals(bools({4}, {false, false, false, true})));
  EXPECT_TRUE(evaluate("Or", {}, {p, q}).equals(bools({4}, {false, true, true, true})));
  EXPECT_TRUE(evaluate("Xor", {}, {p, q}).equals(bools({4}, {false, true, true, false})));
}

TEST(Binary, BitsAreMovedAndMasked) {
  const Tensor a = tensor_of<std::uint8_t>(DType::uint8, {3}, {16, 4, 1});
  const Tensor b = tensor_of<std::uint8_t>(DType::uint8, {3}, {1, 2, 9});
  EXPECT_TRUE(evaluate("BitShift", {{"direction", "RIGHT"}}, {a, b})
                  .equals(tensor_of<std::uint8_t>(DType::uint8, {3}, {8, 1, 0})));
  EXPECT_TRUE(evaluate("BitShift", {{"direction", "LEFT"}}, {a, b})
                  .equals(tensor_of<std::uint8_t>(DType::uint8, {3}, {32, 16, 0})));
  EXPECT_TRUE(evaluate("BitwiseAnd", {}, {ints({1}, {6}), ints({1}, {3})}).equals(ints({1}, {2})));
  EXPECT_TRUE(evaluate("BitwiseOr", {}, {ints({1}, {6}), ints({1}, {3})}).equals(ints({1}, {7})));
  EXPECT_TRUE(evaluate("BitwiseXor", {}, {ints({1}, {6}), ints({1}, {3})}).equals(ints({1}, {5})));
  EXPECT_TRUE(evaluate("BitwiseNot", {}, {ints({1}, {6})}).equals(ints({1}, {-7})));
}

TEST(Binary, ShiftsOfSignedNumbersKeepTheSign) {
  const Tensor a = int32s({4}, {-8, -8, -8, 8});
  const Tensor b = int32s({4}, {1, 40, -1, -1});
  EXPECT_TRUE(evaluate("BitShift", {{"direction", "RIGHT"}}, {a, b}).equals(int32s({4}, {-4, -1, -1, 0})));
  EXPECT_TRUE(evaluate("BitShift", {{"direction", "LEFT"}}, {a, b}).equals(int32s({4}, {-16, 0, 0, 0})));
}

TEST(Binary, MismatchedOperandsAreRefused) {
  EXPECT_NE(failure(Code::invalid_model,
                    [] {
                      evaluate("Add", {}, {iota({2}), iota({3})});
                    })
                .find("broadcast"),
            std::string::npos);
  EXPECT_THROW(evaluate("Add", {}, {iota({2}), ints({2}, {1, 2})}), Error);
  EXPECT_THROW(evaluate("And", {}, {iota({2}), iota({2})}), Error);
  EXPECT_THROW(make_op("BitShift", {}), Error);
}

TEST(Where, ChoosesElementwiseWithBroadcasting) {
  const Tensor y = evaluate("Where", {}, {bools({2, 1}, {true, false}), floats({2}, {1, 2}), floats({}, {9})});
  EXPECT_TRUE(y.equals(floats({2, 2}, {1, 2, 9, 9})));
}

TEST(Cast, RoundsTowardsZeroAndSaturates) {
  const Tensor x = floats({6}, {1.9F, -1.9F, 300, -1, kNaN, kInf});
  EXPECT_TRUE(evaluate("Cast", {{"to", "int32"}}, {x})
                  .equals(int32s({6}, {1, -1, 300, -1, 0, std::numeric_limits<std::int32_t>::max()})));
  EXPECT_TRUE(evaluate("Cast", {{"to", "uint8"}}, {x})
                  .equals(tensor_of<std::uint8_t>(DType::uint8, {6}, {1, 0, 255, 0, 0, 255})));
  EXPECT_TRUE(
      evaluate("Cast", {{"to", "bool"}}, {floats({3}, {0, -0.0F, 0.5F})}).equals(bools({3}, {false, false, true})));
  EXPECT_TRUE(evaluate("Cast", {{"to", "float32"}}, {bools({2}, {true, false})}).equals(floats({2}, {1, 0})));
  EXPECT_THROW(make_op("Cast", {{"to", "float8"}}), Error);
}

TEST(BitCast, KeepsTheBits) {
  EXPECT_TRUE(evaluate("BitCast", {{"to", "int32"}}, {floats({2}, {1, -0.0F})})
                  .equals(int32s({2}, {0x3f800000, std::numeric_limits<std::int32_t>::min()})));
  EXPECT_THROW(evaluate("BitCast", {{"to", "int64"}}, {floats({1}, {1})}), Error);
}

TEST(Clip, LimitsOnEitherSide) {
  const Tensor x = floats({3}, {-2, 0.5F, 7});
  EXPECT_TRUE(evaluate("Clip", {}, {x, floats({}, {0}), floats({}, {6})}).equals(floats({3}, {0, 0.5F, 6})));
  EXPECT_TRUE(evaluate("Clip", {}, {x, Tensor(), floats({}, {6})}).equals(floats({3}, {-2, 0.5F, 6})));
  EXPECT_TRUE(evaluate("Clip", {}, {x, floats({}, {3}), floats({}, {1})}).equals(floats({3}, {1, 1, 1})));
  EXPECT_TRUE(evaluate("Clip", {}, {ints({2}, {-5, 5}), ints({}, {0})}).equals(ints({2}, {0, 5})));
  EXPECT_THROW(evaluate("Clip", {}, {x, floats({2}, {0, 1})}), Error);
}

TEST(CumSum, RunsEitherWay) {
  const Tensor x = floats({2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_TRUE(evaluate("CumSum", {}, {x, ints({}, {1})}).equals(floats({2, 3}, {1, 3, 6, 4, 9, 15})));
  EXPECT_TRUE(evaluate("CumSum", {}, {x, int32s({}, {-2})}).equals(floats({2, 3}, {1, 2, 3, 5, 7, 9})));
  EXPECT_TRUE(evaluate("CumSum", {{"exclusive", std::int64_t{1}}, {"reverse", std::int64_t{1}}}, {x, ints({}, {1})})
                  .equals(floats({2, 3}, {5, 3, 0, 11, 6, 0})));
  EXPECT_TRUE(evaluate("CumProd", {}, {x, ints({}, {1})}).equals(floats({2, 3}, {1, 2, 6, 4, 20, 120})));
  EXPECT_THROW(evaluate("CumSum", {}, {x, ints({}, {2})}), Error);
}

TEST(Import, ChainsOfManyOperandsAreFolded) {
  const TensorType type{DType::float32, {Dim(2)}};
  ModelNode sum("Sum", 13, {});
  sum.with_input(type).with_input(type).with_input(type).import();
  EXPECT_EQ(sum.result(), "Add{} -> float32[2]");
  EXPECT_EQ(sum.graph().num_nodes(), 2);
  ModelNode mean("Mean", 13, {});
  mean.with_input(type).with_input(type).import();
  EXPECT_EQ(mean.result(), "Div{} -> float32[2]");
  ModelNode max("Max", 13, {});
  max.with_input(type).import();
  EXPECT_EQ(max.result(), " -> float32[2]");
}

TEST(Import, ClipAttributesOfOldModelsBecomeInputs) {
  ModelNode node("Clip", 6, {{"min", 0.0}, {"max", 6.0}});
  node.with_input({DType::float32, {Dim(2)}}).import();
  EXPECT_EQ(node.result(), "Clip{} -> float32[2]");
  const Node* clip = node.graph().producer(node.output());
  EXPECT_EQ(node.graph().constant(clip->inputs[1])->as<float>()[0], 0.0F);
  EXPECT_EQ(node.graph().constant(clip->inputs[2])->as<float>()[0], 6.0F);
}

TEST(Import, CastReadsTheNumberOfTheType) {
  ModelNode node("Cast", 13, {{"to", std::int64_t{7}}});
  node.with_input({DType::float32, {Dim(2)}}).import();
  EXPECT_EQ(node.result(), "Cast{to=\"int64\"} -> int64[2]");
  ModelNode same("Cast", 13, {{"to", std::int64_t{1}}});
  same.with_input({DType::float32, {Dim(2)}}).import();
  EXPECT_EQ(same.result(), " -> float32[2]");
  EXPECT_NE(failure(Code::unsupported,
                    [] {
                      ModelNode("Cast", 13, {{"to", std::int64_t{8}}}).with_input({DType::float32, {Dim(2)}}).import();
                    })
                .find("strings"),
            std::string::npos);
}

TEST(Import, DropoutVanishesAndItsMaskIsAllTrue) {
  ModelNode node("Dropout", 13, {}, 2);
  node.with_input({DType::float32, {Dim::symbol("n")}}).import();
  EXPECT_EQ(node.result(0), " -> float32[n]");
  EXPECT_EQ(to_string(node.graph().value(node.output(1)).type), "bool[n]");
}

}  // namespace
}  // namespace tenfold
