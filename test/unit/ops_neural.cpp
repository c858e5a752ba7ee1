// Softmax, normalisations, resizing, recurrence, attention and sampling against values worked out by hand.
#include <cmath>

#include "ops/attention.hpp"
#include "ops/norm.hpp"
#include "ops/resize.hpp"
#include "ops/rnn.hpp"
#include "ops/softmax.hpp"
#include "ops_case.hpp"

namespace tenfold {
namespace {

using namespace ops_case;  // NOLINT(google-build-using-namespace): the vocabulary of these tests
using Ints = std::vector<std::int64_t>;
using Doubles = std::vector<double>;

/// Results are rounded to float once: half a unit in the last place, and as much for the expectation.
void expect_near(const Tensor& tensor, const Doubles& expected) {
  const Doubles got = tensor.to_double();
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1.2e-7 * std::abs(expected[i])) << i;
}

TEST(Softmax, LargeLogitsDoNotOverflow) {
  expect_near(evaluate("Softmax", {}, {floats({3}, {1000, 1000, -1000})}), {0.5, 0.5, 0});
  expect_near(evaluate("LogSoftmax", {}, {floats({2}, {5000, 5000})}), {-std::log(2), -std::log(2)});
}

TEST(Softmax, WorksAlongAnyAxis) {
  const Tensor x = floats({2, 2}, {0, 1, 0, 3});
  const double a = 1 / (1 + std::exp(2.0));
  expect_near(evaluate("Softmax", {{"axis", std::int64_t{0}}}, {x}), {0.5, a, 0.5, 1 - a});
  EXPECT_TRUE(evaluate("Hardmax", {{"axis", std::int64_t{-1}}}, {x}).equals(floats({2, 2}, {0, 1, 0, 1})));
  EXPECT_TRUE(evaluate("Hardmax", {}, {floats({3}, {2, 2, 1})}).equals(floats({3}, {1, 0, 0})));
  EXPECT_THROW(evaluate("Softmax", {{"axis", std::int64_t{2}}}, {x}), Error);
}

TEST(Softmax, BeforeOpset13SumsOverAllAxesFromTheGivenOne) {
  ModelNode node("Softmax", 11, {});
  node.with_input({DType::float32, {2, 1, 2}}).import();
  const std::vector<Tensor> ones{floats({2, 1, 2}, {1, 1, 1, 1})};
  expect_near(interpret(node.graph(), ones)[0], {0.5, 0.5, 0.5, 0.5});
  ModelNode all("Softmax", 11, {{"axis", std::int64_t{0}}});
  all.with_input({DType::float32, {2, 1, 2}}).import();
  expect_near(interpret(all.graph(), ones)[0], {0.25, 0.25, 0.25, 0.25});
}

TEST(BatchNormalization, UsesTheGivenStatistics) {
  const std::vector<Tensor> inputs{floats({1, 2, 1, 2}, {1, 3, 5, 7}), floats({2}, {2, 1}), floats({2}, {10, 0}),
                                   floats({2}, {1, 5}), floats({2}, {3, 3})};
  // sqrt(3 + 1) = 2.
  EXPECT_TRUE(evaluate("BatchNormalization", {{"epsilon", 1.0}}, inputs).equals(floats({1, 2, 1, 2}, {10, 12, 0, 1})));
  EXPECT_NE(failure(Code::invalid_model,
                    [&] {
                      std::vector<Tensor> wrong = inputs;
                      wrong[3] = floats({3}, {1, 2, 3});
                      evaluate("BatchNormalization", {}, wrong);
                    })
                .find("must be 2, got 3"),
            std::string::npos);
}

TEST(BatchNormalization, TrainingIsRefusedAtImport) {
  ModelNode node("BatchNormalization", 15, {{"training_mode", std::int64_t{1}}});
  node.with_input({DType::float32, {1, 1, 1, 1}});
  for (int i = 0; i < 4; ++i) node.with_constant(floats({1}, {1}));
  EXPECT_NE(failure(Code::unsupported, [&] { node.import(); }).find("training_mode"), std::string::npos);
}

TEST(InstanceAndGroupNormalization, NormaliseTheirOwnElements) {
  // Means 2 and 20, deviations 1 and 10.
  const Tensor x = floats({1, 2, 2, 1}, {1, 3, 10, 30});
  const std::vector<Tensor> inputs{x, floats({2}, {1, 2}), floats({2}, {0, 5})};
  const Attributes exact{{"epsilon", 0.0}};
  EXPECT_TRUE(evaluate("InstanceNormalization", exact, inputs).equals(floats({1, 2, 2, 1}, {-1, 1, 3, 7})));
  Attributes two = exact;
  two.set("num_groups", std::int64_t{2});
  EXPECT_TRUE(evaluate("GroupNormalization", two, inputs).equals(floats({1, 2, 2, 1}, {-1, 1, 3, 7})));
  // One group: mean 11, variance (100 + 64 + 1 + 361) / 4 = 131.5.
  Attributes single = exact;
  single.set("num_groups", std::int64_t{1});
  const double d = std::sqrt(131.5);
  expect_near(evaluate("GroupNormalization", single, inputs), {-10 / d, -8 / d, 5 - 2 / d, 5 + 38 / d});
  two.set("layout", std::string("nhwc"));
  EXPECT_TRUE(evaluate("GroupNormalization", two, {floats({1, 2, 2}, {1, 10, 3, 30}), inputs[1], inputs[2]})
                  .equals(floats({1, 2, 2}, {-1, 3, 1, 7})));
}

TEST(GroupNormalization, BeforeOpset21ScalesByGroup) {
  ModelNode node("GroupNormalization", 18, {{"num_groups", std::int64_t{1}}, {"epsilon", 0.0}});
  node.with_input({DType::float32, {1, 2, 1}}).with_input({DType::float32, {1}}).with_input({DType::float32, {1}});
  node.import();
  const std::vector<Tensor> inputs{floats({1, 2, 1}, {1, 3}), floats({1}, {2}), floats({1}, {7})};
  EXPECT_EQ(interpret(node.graph(), inputs)[0].to_double(), (Doubles{5, 9}));
}

TEST(LayerNormalization, GivesItsStatisticsToo) {
  const auto y = evaluate_all("LayerNormalization", {{"axis", std::int64_t{1}}, {"epsilon", 0.0}},
                              {floats({2, 2}, {1, 3, 10, 30}), floats({2}, {1, 2}), floats({2}, {0, 1})}, 3);
  EXPECT_TRUE(y[0].equals(floats({2, 2}, {-1, 3, -1, 3})));
  EXPECT_TRUE(y[1].equals(floats({2, 1}, {2, 20})));
  expect_near(y[2], {1, 0.1});
}

TEST(RMSNormalization, DividesByTheRootOfTheMeanSquare) {
  // mean(1, 49) = 25.
  expect_near(evaluate("RMSNormalization", {{"epsilon", 0.0}}, {floats({2}, {1, 7}), floats({2}, {5, 10})}), {1, 14});
}

TEST(LpNormalization, KeepsZeroLines) {
  const Tensor x = floats({2, 2}, {3, 4, 0, 0});
  expect_near(evaluate("LpNormalization", {}, {x}), {0.6, 0.8, 0, 0});
  const Attributes by_column{{"p", std::int64_t{1}}, {"axis", std::int64_t{0}}};
  expect_near(evaluate("LpNormalization", by_column, {x}), {1, 1, 0, 0});
}

TEST(MeanVarianceNormalization, IsAComposition) {
  ModelNode node("MeanVarianceNormalization", 13, {{"axes", Ints{0}}});
  node.with_input({DType::float32, {2}}).import();
  const std::vector<Tensor> inputs{floats({2}, {1, 3})};
  expect_near(interpret(node.graph(), inputs)[0], {-1, 1});  // the 1e-9 in the divisor is below float's resolution
}

TEST(LRN, DividesByThePowerOfTheNeighbours) {
  // size 3: the middle channel sees 1 + 4 + 9 = 14; alpha/size = 1; beta 1.
  const Attributes attributes{{"size", std::int64_t{3}}, {"alpha", 3.0}, {"beta", 1.0}, {"bias", 1.0}};
  expect_near(evaluate("LRN", attributes, {floats({1, 3, 1}, {1, 2, 3})}), {1.0 / 6, 2.0 / 15, 3.0 / 14});
}

Tensor resized(Attributes attributes, const Tensor& x) { return evaluate("Resize", std::move(attributes), {x}); }

TEST(Resize, LinearInEveryCoordinateMode) {
  const Tensor x = floats({2}, {1, 2});
  const auto linear = [&](const char* coordinates, Ints sizes) {
    return resized({{"mode", std::string("linear")},
                    {"coordinate_transformation_mode", std::string(coordinates)},
                    {"sizes", std::move(sizes)}},
                   x);
  };
  expect_near(linear("half_pixel", {4}), {1, 1.25, 1.75, 2});
  expect_near(linear("pytorch_half_pixel", {1}), {1});
  expect_near(linear("half_pixel", {1}), {1.5});
  expect_near(linear("align_corners", {3}), {1, 1.5, 2});
  expect_near(linear("asymmetric", {4}), {1, 1.5, 2, 2});
  expect_near(linear("half_pixel_symmetric", {4}), {1, 1.25, 1.75, 2});
}

TEST(Resize, NearestRoundsAsTold) {
  // 4 to 2, half pixel: places 0.5 and 2.5.
  const auto nearest = [](const char* rounding) {
    return resized({{"nearest_mode", std::string(rounding)}, {"sizes", Ints{2}}}, iota({4}));
  };
  EXPECT_TRUE(nearest("round_prefer_floor").equals(floats({2}, {0, 2})));
  EXPECT_TRUE(nearest("round_prefer_ceil").equals(floats({2}, {1, 3})));
  EXPECT_TRUE(nearest("floor").equals(floats({2}, {0, 2})));
  EXPECT_TRUE(nearest("ceil").equals(floats({2}, {1, 3})));
  // 3 to 10 without a fraction lost: place i * 3 / 10.
  EXPECT_TRUE(resized({{"nearest_mode", std::string("floor")},
                       {"coordinate_transformation_mode", std::string("asymmetric")},
                       {"sizes", Ints{10}}},
                      iota({3}))
                  .equals(floats({10}, {0, 0, 0, 0, 1, 1, 1, 2, 2, 2})));
}

TEST(Resize, CubicKeepsConstantsAndReproducesItsKernel) {
  const auto cubic = [](const Tensor& x, bool exclude_outside) {
    return resized(
        {{"mode", std::string("cubic")}, {"sizes", Ints{8}}, {"exclude_outside", std::int64_t{exclude_outside}}}, x);
  };
  expect_near(cubic(floats({4}, {3, 3, 3, 3}), false), Doubles(8, 3));
  expect_near(cubic(floats({4}, {3, 3, 3, 3}), true), Doubles(8, 3));
  // Output 3 lies at 1.25. With a = -0.75 the element 1.25 away from 0 weighs -0.10546875, 0.25 away 0.87890625,
  // 0.75 away 0.26171875, 1.75 away -0.03515625.
  EXPECT_NEAR(cubic(floats({4}, {1, 10, 100, 1000}), false).to_double()[3],
              -0.10546875 + 8.7890625 + 26.171875 - 35.15625, 1e-6);
}

TEST(Resize, AntialiasAveragesWhatShrinks) {
  // Places 0.5 and 2.5, a triangle of radius 2: weights 1/4 3/4 3/4 1/4 over 2, edges repeated.
  expect_near(resized({{"mode", std::string("linear")}, {"antialias", std::int64_t{1}}, {"sizes", Ints{2}}},
                      floats({4}, {1, 2, 3, 4})),
              {1.625, 3.375});
}

TEST(Resize, CropAndResizeFillsTheOutside) {
  const Attributes attributes{{"mode", std::string("linear")},
                              {"coordinate_transformation_mode", std::string("tf_crop_and_resize")},
                              {"extrapolation_value", -1.0},
                              {"roi", Doubles{0.5, 1.5}},
                              {"sizes", Ints{3}}};
  // Places 1, 2, 3 of 0 .. 2.
  expect_near(resized(attributes, iota({3})), {1, 2, -1});
}

TEST(Resize, KeepsTheAspectRatioWhenAsked) {
  const auto shape = [](const char* policy) {
    return resized({{"sizes", Ints{4, 4}}, {"keep_aspect_ratio_policy", std::string(policy)}}, iota({2, 4})).shape();
  };
  EXPECT_EQ(shape("not_larger"), (Shape{2, 4}));
  EXPECT_EQ(shape("not_smaller"), (Shape{4, 8}));
}

TEST(Resize, ScaledSizesAreExpressions) {
  EXPECT_EQ(inferred(R"(graph g(%x: float32[n, 3, h, w]) {
    %y = Resize(%x) {scales=[1.0, 1.0, 2.0, 1.5]} return %y })"),
            to_string(TensorType{DType::float32,
                                 {Dim::symbol("n"), 3, Dim::symbol("h") * 2, Dim::floordiv(Dim::symbol("w") * 3, 2)}}));
  // 0.7 as a float is below 7/10; ten times that still means seven.
  EXPECT_EQ(resized({{"scales", Doubles{static_cast<double>(0.7F)}}}, iota({10})).shape(), (Shape{7}));
}

TEST(Resize, IsImportedWithItsSizesAsAttributes) {
  const Dim h = Dim::symbol("h");
  ModelNode node("Resize", 13, {{"mode", std::string("linear")}});
  node.with_input({DType::float32, {1, 2, h, h}}).without_input().with_constant(floats({4}, {1, 1, 2, 2})).import();
  EXPECT_EQ(op_cast<Resize>(node.graph().producer(node.output()))->spec().scales, (Doubles{1, 1, 2, 2}));
  ModelNode sized("Resize", 18, {{"axes", Ints{2, 3}}});
  sized.with_input({DType::float32, {1, 2, h, h}}).without_input().without_input().with_constant(ints({2}, {8, 9}));
  sized.import();
  EXPECT_EQ(op_cast<Resize>(sized.graph().producer(sized.output()))->spec().sizes, (Ints{-1, -1, 8, 9}));
  ModelNode old("Upsample", 7, {{"scales", Doubles{1, 1, 2, 2}}, {"mode", std::string("bilinear")}});
  old.with_input({DType::float32, {1, 2, 3, 3}}).import();
  EXPECT_EQ(old.graph().value(old.output()).type.dims[3], Dim(6));
}

TEST(Resize, EveryScaleIsChecked) {
  EXPECT_THROW(resized({{"scales", Doubles{0}}}, iota({3})), Error);
  EXPECT_THROW(resized({{"scales", Doubles{NAN}}}, iota({3})), Error);
  EXPECT_THROW(resized({{"scales", Doubles{1e30}}}, iota({3})), Error);
  EXPECT_THROW(resized({{"sizes", Ints{-2}}}, iota({3})), Error);
  EXPECT_THROW(resized({{"sizes", Ints{2, 2}}}, iota({3})), Error);
  EXPECT_THROW(resized({}, iota({3})), Error);
  EXPECT_THROW(resized({{"sizes", Ints{2}}}, iota({0})), Error);
}

TEST(LSTM, GatesWeighCellAndCandidate) {
  // All weights 0: gates 1/2, and the candidate's bias 50 makes it tanh(50) = 1.
  const Tensor w = Tensor(DType::float32, {1, 4, 1});
  const Tensor bias = floats({1, 8}, {0, 0, 0, 50, 0, 0, 0, 0});
  const auto y = evaluate_all("LSTM", {}, {iota({2, 1, 1}), w, w, bias}, 3);
  const double h1 = 0.5 * std::tanh(0.5);
  const double h2 = 0.5 * std::tanh(0.75);
  expect_near(y[0], {h1, h2});
  expect_near(y[1], {h2});
  expect_near(y[2], {0.75});
  // Peepholes of 100 on the cell: input gate sees c = 1 and opens, as do the others. c = 1 + 1, h = tanh(2).
  const auto peeped = evaluate_all(
      "LSTM", {},
      {iota({1, 1, 1}), w, w, bias, Tensor(), Tensor(), floats({1, 1, 1}, {1}), floats({1, 3}, {100, 100, 100})}, 3);
  expect_near(peeped[2], {2});
  expect_near(peeped[1], {std::tanh(2.0)});
  const auto coupled = evaluate_all("LSTM", {{"input_forget", std::int64_t{1}}},
                                    {iota({1, 1, 1}), w, w, bias, Tensor(), Tensor(), floats({1, 1, 1}, {3})}, 3);
  expect_near(coupled[2], {2});  // (1 - 1/2) * 3 + 1/2
}

TEST(GRU, UpdateGateMixesOldAndNew) {
  const Tensor w = Tensor(DType::float32, {1, 3, 1});
  const Tensor bias = floats({1, 6}, {0, 0, 50, 0, 0, 0});
  expect_near(evaluate_all("GRU", {}, {iota({2, 1, 1}), w, w, bias}, 2)[0], {0.5, 0.75});
  // linear_before_reset: the recurrent bias passes the reset gate (1/2): atanh-free check with n = tanh(0.5 * 1).
  const Tensor recurrent = floats({1, 6}, {0, 0, 0, 0, 0, 1});
  expect_near(evaluate_all("GRU", {{"linear_before_reset", std::int64_t{1}}}, {iota({1, 1, 1}), w, w, recurrent}, 2)[0],
              {0.5 * std::tanh(0.5)});
  expect_near(evaluate_all("GRU", {}, {iota({1, 1, 1}), w, w, recurrent}, 2)[0], {0.5 * std::tanh(1.0)});
}

TEST(RNN, RunsInBothDirectionsAndStopsAtTheSequencesEnd) {
  // h' = relu(x + h), forward and backward.
  const Attributes attributes{{"direction", std::string("bidirectional")},
                              {"activations", std::vector<std::string>{"Relu", "Relu"}}};
  const Tensor x = floats({3, 1, 1}, {1, 2, 3});
  const Tensor w = floats({2, 1, 1}, {1, 1});
  const auto y = evaluate_all("RNN", attributes, {x, w, w}, 2);
  EXPECT_TRUE(y[0].equals(floats({3, 2, 1, 1}, {1, 6, 3, 5, 6, 3})));
  EXPECT_TRUE(y[1].equals(floats({2, 1, 1}, {6, 6})));
  const auto shorter = evaluate_all("RNN", attributes, {x, w, w, Tensor(), int32s({1}, {2})}, 2);
  EXPECT_TRUE(shorter[0].equals(floats({3, 2, 1, 1}, {1, 3, 3, 2, 0, 0})));
  EXPECT_TRUE(shorter[1].equals(floats({2, 1, 1}, {3, 3})));
}

TEST(RNN, BatchFirstModelsAreTransposed) {
  ModelNode node("RNN", 14, {{"layout", std::int64_t{1}}, {"activations", std::vector<std::string>{"Relu"}}}, 2);
  node.with_input({DType::float32, {2, 3, 1}})
      .with_constant(floats({1, 1, 1}, {1}))
      .with_constant(floats({1, 1, 1}, {1}));
  node.import();
  const std::vector<Tensor> inputs{floats({2, 3, 1}, {1, 2, 3, 10, 20, 30})};
  const auto y = interpret(node.graph(), inputs);
  EXPECT_TRUE(y[0].equals(floats({2, 3, 1, 1}, {1, 3, 6, 10, 30, 60})));
  EXPECT_TRUE(y[1].equals(floats({2, 1, 1}, {6, 60})));
}

TEST(Recurrent, WrongWeightsAndActivationsAreRefused) {
  const Tensor x = iota({2, 1, 3});
  EXPECT_NE(failure(Code::invalid_model,
                    [&] {
                      evaluate_all("LSTM", {}, {x, iota({1, 4, 2}), iota({1, 4, 1})}, 3);
                    })
                .find("the weights must have shape [1, 4, 3], got [1, 4, 2]"),
            std::string::npos);
  EXPECT_NE(failure(Code::unsupported,
                    [] {
                      make_op("RNN", {{"activations", std::vector<std::string>{"Swish"}}});
                    })
                .find("'swish' is not known"),
            std::string::npos);
  EXPECT_THROW(make_op("GRU", {{"activations", std::vector<std::string>{"Tanh"}}}), Error);
  EXPECT_THROW(make_op("GRU", {{"direction", std::string("sideways")}}), Error);
}

TEST(FusedAttention, AveragesTheValuesThatAQuerySees) {
  // Scores are all 0, so every visible key weighs the same.
  const Tensor q = Tensor(DType::float32, {1, 2, 2, 1});
  const Tensor k = Tensor(DType::float32, {1, 1, 2, 1});
  const Tensor v = floats({1, 1, 2, 1}, {2, 4});
  EXPECT_TRUE(evaluate("FusedAttention", {}, {q, k, v}).equals(floats({1, 2, 2, 1}, {3, 3, 3, 3})));
  EXPECT_TRUE(
      evaluate("FusedAttention", {{"causal", std::int64_t{1}}}, {q, k, v}).equals(floats({1, 2, 2, 1}, {2, 3, 2, 3})));
  // A mask that hides everything from the second query.
  const Tensor mask = floats({2, 2}, {0, -INFINITY, -INFINITY, -INFINITY});
  EXPECT_TRUE(evaluate("FusedAttention", {}, {q, k, v, mask}).equals(floats({1, 2, 2, 1}, {2, 0, 2, 0})));
}

TEST(FusedAttention, TokensWholeAreHeadsSideBySide) {
  const Tensor x = floats({1, 2, 4}, {1, 2, 3, 4, 5, 6, 7, 8});
  const Tensor k = floats({1, 3, 2}, {0.1F, 0.2F, 0.3F, 0.5F, 0.7F, 1.1F}), v = floats({1, 3, 1}, {1, 2, 6});
  const auto as_heads = [](const Tensor& tensor, std::int64_t heads) {
    Tensor result(DType::float32, {1, tensor.shape()[1], heads, tensor.shape()[2] / heads});
    std::copy_n(tensor.data(), tensor.as<float>().size_bytes(), result.mutable_data());
    return result;
  };
  const Tensor flat = evaluate(
      "FusedAttention", {{"layout", std::string("flat")}, {"heads", std::int64_t{2}}, {"key_heads", std::int64_t{1}}},
      {x, k, v});
  const Tensor heads =
      evaluate("FusedAttention", {{"layout", std::string("blhd")}}, {as_heads(x, 2), as_heads(k, 1), as_heads(v, 1)});
  EXPECT_EQ(flat.shape(), (Shape{1, 2, 2}));
  expect_near(flat, heads.to_double());
  EXPECT_THROW(evaluate("FusedAttention", {{"heads", std::int64_t{2}}}, {x, k, v}), Error);
  EXPECT_THROW(evaluate("FusedAttention", {{"layout", std::string("flat")}, {"heads", std::int64_t{3}}}, {x, k, v}),
               Error);
}

TEST(GatedMatMul, HalvesOfTheColumnsMeet) {
  const Tensor a = floats({1, 2}, {1, 2}), b = floats({2, 4}, {1, 0, 10, 0, 0, 1, 0, 10});
  const Attributes attributes{{"num_inputs", std::int64_t{3}}, {"program", std::string("mul 0 1; add 3 2")}};
  expect_near(evaluate("GatedMatMul", attributes, {a, b, floats({2}, {5, 6})}), {15, 46});
  EXPECT_THROW(evaluate("GatedMatMul", attributes, {a, floats({2, 3}, {1, 2, 3, 4, 5, 6}), floats({2}, {5, 6})}),
               Error);
  EXPECT_THROW(evaluate("GatedMatMul", attributes, {a, b, floats({3}, {5, 6, 7})}), Error);
}

TEST(FusedAttention, CausalQueriesAreTheLastOnes) {
  const Tensor q = Tensor(DType::float32, {1, 1, 1, 1});
  const Tensor k = Tensor(DType::float32, {1, 1, 3, 1});
  EXPECT_TRUE(evaluate("FusedAttention", {{"causal", std::int64_t{1}}}, {q, k, floats({1, 1, 3, 1}, {1, 2, 6})})
                  .equals(floats({1, 1, 1, 1}, {3})));
}

TEST(FusedAttention, BothLayoutsAgree) {
  const Tensor q = iota({2, 4, 3, 5});
  const Tensor k = iota({2, 2, 7, 5});
  const Tensor v = iota({2, 2, 7, 6});
  const auto swap = [](const Tensor& t) { return evaluate("Transpose", {{"perm", Ints{0, 2, 1, 3}}}, {t}); };
  const Tensor by_head = evaluate("FusedAttention", {{"scale", 0.01}}, {q, k, v});
  const Tensor by_token =
      evaluate("FusedAttention", {{"scale", 0.01}, {"layout", std::string("blhd")}}, {swap(q), swap(k), swap(v)});
  EXPECT_TRUE(swap(by_token).equals(by_head));
  EXPECT_EQ(inferred(R"(graph g(%q: float32[b, 4, l, 8], %k: float32[b, 2, s, 8], %v: float32[b, 2, s, 16]) {
    %y = FusedAttention(%q, %k, %v) return %y })"),
            "float32[b, 4, l, 16]");
}

TEST(GridSample, SamplesBetweenPixels) {
  const Tensor x = floats({1, 1, 1, 2}, {10, 20});
  const Tensor grid = floats({1, 1, 3, 2}, {0, 0, -1, 0, 3, 0});
  const auto sample = [&](const char* mode, const char* padding, std::int64_t align) {
    return evaluate("GridSample",
                    {{"mode", std::string(mode)}, {"padding_mode", std::string(padding)}, {"align_corners", align}},
                    {x, grid});
  };
  // Without align_corners the places are 0.5, -0.5 and 3.5; with it 0.5, 0 and 2.
  expect_near(sample("linear", "zeros", 0), {15, 5, 0});
  expect_near(sample("linear", "border", 0), {15, 10, 20});
  expect_near(sample("linear", "zeros", 1), {15, 10, 0});
  expect_near(sample("linear", "reflection", 1), {15, 10, 10});
  expect_near(sample("nearest", "zeros", 1), {10, 10, 0});  // 0.5 rounds to even
}

TEST(RoiAlign, AveragesSamplesOfTheRegion) {
  // One bin over the whole 2x2 image, sampled at its pixels' centres.
  const Tensor x = floats({1, 1, 2, 2}, {1, 2, 3, 4});
  const Attributes attributes{{"sampling_ratio", std::int64_t{2}}};
  expect_near(evaluate("RoiAlign", attributes, {x, floats({1, 4}, {0, 0, 2, 2}), ints({1}, {0})}), {2.5});
  EXPECT_NE(failure(Code::invalid_argument,
                    [&] {
                      evaluate("RoiAlign", attributes, {x, floats({1, 4}, {0, 0, 2, 2}), ints({1}, {1})});
                    })
                .find("image 1"),
            std::string::npos);
  EXPECT_THROW(evaluate("RoiAlign", {}, {x, floats({1, 4}, {0, 0, 1e9, 1}), ints({1}, {0})}), Error);
}

}  // namespace
}  // namespace tenfold
