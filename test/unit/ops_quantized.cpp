// Quantisation, integer products, Einsum and non-maximum suppression against values worked out by hand.
#include "ops/matmul.hpp"
#include "ops/quantized.hpp"
#include "ops_case.hpp"

namespace tenfold {
namespace {

using namespace ops_case;  // NOLINT(google-build-using-namespace): the vocabulary of these tests
using Ints = std::vector<std::int64_t>;

Tensor bytes(Shape shape, std::initializer_list<std::uint8_t> values) {
  return tensor_of<std::uint8_t>(DType::uint8, std::move(shape), values);
}
Tensor signed_bytes(Shape shape, std::initializer_list<std::int8_t> values) {
  return tensor_of<std::int8_t>(DType::int8, std::move(shape), values);
}

TEST(QuantizeLinear, RoundsTiesToEvenAndSaturates) {
  const Tensor y =
      evaluate("QuantizeLinear", {},
               {floats({6}, {1, 1.25, 1.75, -1.25, 1000, -1000}), floats({}, {0.5}), signed_bytes({}, {1})});
  EXPECT_TRUE(y.equals(signed_bytes({6}, {3, 3, 5, -1, 127, -128})));  // 2, 2.5, 3.5, -2.5, then the limits
  EXPECT_TRUE(evaluate("QuantizeLinear", {}, {floats({1}, {NAN}), floats({}, {1})}).equals(bytes({1}, {0})));
}

TEST(QuantizeLinear, HasOneScalePerAxisOrBlock) {
  const Tensor x = floats({2, 3}, {2, 4, 8, 2, 4, 8});
  EXPECT_TRUE(evaluate("QuantizeLinear", {{"axis", std::int64_t{0}}}, {x, floats({2}, {1, 2})})
                  .equals(bytes({2, 3}, {2, 4, 8, 1, 2, 4})));
  // Blocks of two along the last axis; the last one is short.
  EXPECT_TRUE(evaluate("QuantizeLinear", {{"axis", std::int64_t{1}}, {"block_size", std::int64_t{2}}},
                       {x, floats({2, 2}, {1, 2, 0.5, 4})})
                  .equals(bytes({2, 3}, {2, 4, 4, 4, 8, 2})));
  EXPECT_THROW(evaluate("QuantizeLinear", {{"axis", std::int64_t{0}}}, {x, floats({3}, {1, 2, 3})}), Error);
  EXPECT_THROW(evaluate("QuantizeLinear", {{"axis", std::int64_t{2}}}, {x, floats({3}, {1, 2, 3})}), Error);
}

TEST(DequantizeLinear, UndoesIt) {
  EXPECT_TRUE(evaluate("DequantizeLinear", {}, {bytes({2}, {130, 126}), floats({}, {0.5}), bytes({}, {128})})
                  .equals(floats({2}, {1, -1})));
  EXPECT_TRUE(evaluate("DequantizeLinear", {{"axis", std::int64_t{-1}}}, {int32s({1, 2}, {3, 5}), floats({2}, {2, 10})})
                  .equals(floats({1, 2}, {6, 50})));
}

Tensor float8s(Shape shape, std::initializer_list<float> values) {
  Tensor tensor(DType::float8e4m3, std::move(shape));
  std::transform(values.begin(), values.end(), tensor.as_mutable<Float8E4M3>().begin(),
                 [](float value) { return Float8E4M3(value); });
  return tensor;
}

TEST(QuantizeLinear, ToFloat8DividesAndSaturates) {
  const Tensor x = floats({5}, {1, 1.1, -3, 1000, -0.01});
  const Tensor scale = floats({}, {0.5});
  const Tensor wanted = float8s({5}, {2, 2.25, -6, 448, -0.01953125});
  EXPECT_TRUE(evaluate("QuantizeLinear", {}, {x, scale, float8s({}, {0})}).equals(wanted));
  const Attributes named{{"output_dtype", std::string("float8e4m3")}};
  EXPECT_TRUE(evaluate("QuantizeLinear", named, {x, scale}).equals(wanted));
  Attributes open = named;
  open.set("saturate", std::int64_t{0});
  EXPECT_TRUE(std::isnan(evaluate("QuantizeLinear", open, {x, scale}).to_double()[3]));
  // One scale for each index of an axis.
  EXPECT_TRUE(evaluate("QuantizeLinear", {{"axis", std::int64_t{0}}},
                       {floats({2, 1}, {3, 3}), floats({2}, {1, 2}), float8s({2}, {0, 0})})
                  .equals(float8s({2, 1}, {3, 1.5})));
  EXPECT_THROW(evaluate("QuantizeLinear", {}, {x, scale, float8s({}, {1})}), Error);
}

TEST(DequantizeLinear, OfFloat8Multiplies) {
  EXPECT_TRUE(evaluate("DequantizeLinear", {}, {float8s({3}, {2.25, -448, 0}), floats({}, {0.5})})
                  .equals(floats({3}, {1.125, -224, 0})));
  EXPECT_TRUE(evaluate("DequantizeLinear", {{"axis", std::int64_t{1}}},
                       {float8s({1, 2}, {1, 2}), floats({2}, {3, 5}), float8s({2}, {0, 0})})
                  .equals(floats({1, 2}, {3, 10})));
}

TEST(Cast, ToAndFromFloat8) {
  const auto to = [](std::string_view type) { return Attributes{{"to", std::string(type)}}; };
  const Tensor x = floats({5}, {1.1, 500, -500, NAN, 0x1p-10});
  const Tensor y = evaluate("Cast", to("float8e4m3"), {x});
  EXPECT_EQ(y.as<Float8E4M3>()[0].bits, Float8E4M3::encode(1.125F));
  EXPECT_EQ(y.as<Float8E4M3>()[1].bits, 0x7e);
  EXPECT_EQ(y.as<Float8E4M3>()[2].bits, 0xfe);
  EXPECT_TRUE(std::isnan(y.to_double()[3]));
  EXPECT_EQ(y.as<Float8E4M3>()[4].bits, 0);  // half of the smallest number: to even
  Attributes open = to("float8e4m3");
  open.set("saturate", std::int64_t{0});
  EXPECT_TRUE(std::isnan(evaluate("Cast", open, {x}).to_double()[1]));
  EXPECT_TRUE(evaluate("Cast", to("float32"), {float8s({2}, {1.125, -448})}).equals(floats({2}, {1.125, -448})));
  EXPECT_TRUE(evaluate("Cast", to("int32"), {float8s({3}, {1.75, -2.5, 448})}).equals(int32s({3}, {1, -2, 448})));
  EXPECT_TRUE(evaluate("Cast", to("float8e4m3"), {int32s({2}, {17, -1000})}).equals(float8s({2}, {16, -448})));
  EXPECT_TRUE(evaluate("Cast", to("bool"), {float8s({2}, {0, 0.5})}).equals(bools({2}, {false, true})));
}

TEST(Float8Operators, ArithmeticOnItIsRefused) {
  const Tensor x = float8s({1, 2}, {1, 2});
  for (const char* type : {"Relu", "Exp", "Softmax"}) EXPECT_THROW(evaluate(type, {}, {x}), Error) << type;
  for (const char* type : {"Add", "MatMul"}) EXPECT_THROW(evaluate(type, {}, {x, float8s({2, 1}, {1, 2})}), Error);
  EXPECT_TRUE(evaluate("Transpose", {{"perm", Ints{1, 0}}}, {x}).equals(float8s({2, 1}, {1, 2})));
}

TEST(DynamicQuantizeLinear, CoversTheRangeAndZero) {
  // -3 .. 2 in 255 steps of 5/255: zero lies at 3 / (5/255) = 153.
  const auto y = evaluate_all("DynamicQuantizeLinear", {}, {floats({4}, {0, 2, -3, 0.5})}, 3);
  EXPECT_TRUE(y[0].equals(bytes({4}, {153, 255, 0, 179})));  // 0.5 * 51 = 25.5, to even 26
  EXPECT_FLOAT_EQ(y[1].as<float>()[0], 5.0F / 255);
  EXPECT_TRUE(y[2].equals(bytes({}, {153})));
  EXPECT_TRUE(evaluate_all("DynamicQuantizeLinear", {}, {floats({1}, {0})}, 3)[0].equals(bytes({1}, {0})));
}

TEST(QLinearConv, ScalesTheExactSum) {
  // (10 - 8) * 3 = 6 and (10 - 8) * 4 = 8; times 0.5 * 0.25 / 0.125 = 1, and 0.5 * 0.5 / 0.125 = 2.
  const Tensor y =
      evaluate("QLinearConv", {{"strides", Ints{1}}},
               {bytes({1, 1, 1}, {10}), floats({}, {0.5}), bytes({}, {8}), signed_bytes({2, 1, 1}, {3, 4}),
                floats({2}, {0.25, 0.5}), signed_bytes({2}, {0, 0}), floats({}, {0.125}), bytes({}, {100})});
  EXPECT_TRUE(y.equals(bytes({1, 2, 1}, {106, 116})));
}

TEST(ConvInteger, PadsWithTheZeroPoint) {
  const Tensor y = evaluate("ConvInteger", {{"strides", Ints{1}}, {"pads", Ints{1, 0}}},
                            {bytes({1, 1, 2}, {11, 12}), bytes({1, 1, 2}, {1, 3}), bytes({}, {10}), bytes({}, {1})});
  EXPECT_TRUE(y.equals(int32s({1, 1, 2}, {2, 4})));  // 0*0 + 1*2, 1*0 + 2*2
}

TEST(MatMulInteger, HasZeroPointsPerRowAndColumn) {
  const Tensor a = bytes({2, 2}, {11, 12, 21, 22});
  const Tensor b = signed_bytes({2, 2}, {1, 2, 3, 4});
  EXPECT_TRUE(evaluate("MatMulInteger", {}, {a, b, bytes({2}, {10, 20}), signed_bytes({2}, {1, 2})})
                  .equals(int32s({2, 2}, {4, 4, 4, 4})));  // rows (1 2), columns (0 2) and (0 2)
  EXPECT_THROW(evaluate("MatMulInteger", {}, {a, b, bytes({3}, {1, 2, 3})}), Error);
}

TEST(QLinearMatMul, ScalesPerRow) {
  const Tensor y = evaluate("QLinearMatMul", {},
                            {bytes({2, 1}, {2, 3}), floats({2}, {1, 10}), bytes({2}, {0, 0}), bytes({1, 2}, {1, 2}),
                             floats({}, {2}), bytes({}, {0}), floats({}, {4}), bytes({}, {5})});
  // 2 4 / 3 6 times 1*2/4 and 10*2/4, plus 5.
  EXPECT_TRUE(y.equals(bytes({2, 2}, {6, 7, 20, 35})));
}

Tensor einsum(const char* equation, const std::vector<Tensor>& inputs) {
  return evaluate("Einsum", {{"equation", std::string(equation)}}, inputs);
}

TEST(Einsum, EveryKindOfTerm) {
  EXPECT_TRUE(einsum("ij,jk->ik", {iota({2, 3}), iota({3, 2})}).equals(floats({2, 2}, {10, 13, 28, 40})));
  EXPECT_TRUE(einsum("ij,jk", {iota({2, 3}), iota({3, 2})}).equals(floats({2, 2}, {10, 13, 28, 40})));
  EXPECT_TRUE(einsum("ii->i", {iota({2, 2})}).equals(floats({2}, {0, 3})));
  EXPECT_TRUE(einsum("ii", {iota({2, 2})}).equals(floats({}, {3})));
  EXPECT_TRUE(einsum("i,j->ji", {floats({2}, {1, 2}), floats({2}, {3, 5})}).equals(floats({2, 2}, {3, 6, 5, 10})));
  EXPECT_TRUE(einsum("...ij->...ji", {iota({1, 2, 2})}).equals(floats({1, 2, 2}, {0, 2, 1, 3})));
  EXPECT_TRUE(einsum("...i, ...i -> ...", {iota({2, 2}), iota({2})}).equals(floats({2}, {1, 3})));
  EXPECT_TRUE(einsum("i,i,i->", {iota({3}), iota({3}), iota({3})}).equals(floats({}, {9})));
  EXPECT_TRUE(einsum("ba", {iota({2, 3})}).equals(floats({3, 2}, {0, 3, 1, 4, 2, 5})));  // the result is "ab"
}

TEST(Einsum, BrokenEquationsAreRefused) {
  for (const char* equation : {"ij->k", "ij->ii", "i", "ijk", "i1", "i->->i", "i-j", "....ij", "i,j", "i.j"}) {
    EXPECT_THROW(einsum(equation, {iota({2, 2})}), Error) << equation;
  }
  EXPECT_THROW(einsum("ij,jk->ik", {iota({2, 3}), iota({2, 3})}), Error);
}

TEST(Einsum, TwoInputsBecomeAMatrixProduct) {
  const Dim b = Dim::symbol("b");
  const auto import = [&](const char* equation, std::vector<Dim> x, std::vector<Dim> y) {
    ModelNode node("Einsum", 13, {{"equation", std::string(equation)}});
    node.with_input({DType::float32, std::move(x)}).with_input({DType::float32, std::move(y)}).import();
    return node;
  };
  EXPECT_EQ(import("bhld,bhsd->bhls", {b, 2, 3, 4}, {b, 2, 5, 4}).result(),
            "MatMul{trans_a=0, trans_b=1} -> float32[b, 2, 3, 5]");
  const ModelNode flat = import("bchw,co->bohw", {b, 2, 3, 4}, {2, 5});
  EXPECT_EQ(to_string(flat.graph().value(flat.output()).type), "float32[b, 5, 3, 4]");
  const std::vector<Tensor> inputs{iota({2, 2, 3, 4}), iota({2, 5})};
  const Tensor expected = einsum("bchw,co->bohw", inputs);
  EXPECT_TRUE(interpret(flat.graph(), inputs)[0].equals(expected));
  EXPECT_EQ(import("i,j->ij", {b}, {b}).result(), "Einsum{equation=\"i,j->ij\"} -> float32[b, b]");
}

TEST(NonMaxSuppression, KeepsTheBestOfOverlappingBoxes) {
  // Box 1 overlaps box 0 by 90 of 110; box 2 lies apart; box 3 scores too low.
  const std::vector<Tensor> inputs{floats({1, 4, 4}, {0, 0, 10, 10, 0, 1, 10, 11, 50, 50, 60, 60, 100, 100, 101, 101}),
                                   floats({1, 1, 4}, {0.8F, 0.9F, 0.7F, 0.1F}), ints({}, {10}), floats({}, {0.5F}),
                                   floats({}, {0.2F})};
  EXPECT_TRUE(evaluate("NonMaxSuppression", {}, inputs).equals(ints({2, 3}, {0, 0, 1, 0, 0, 2})));
  std::vector<Tensor> single = inputs;
  single[2] = ints({}, {1});
  EXPECT_TRUE(evaluate("NonMaxSuppression", {}, single).equals(ints({1, 3}, {0, 0, 1})));
  EXPECT_EQ(evaluate("NonMaxSuppression", {}, {inputs[0], inputs[1]}).shape(), (Shape{0, 3}));
}

TEST(NonMaxSuppression, ItsResultIsBounded) {
  const Graph graph = parse_graph(R"(graph g(%b: float32[n, boxes, 4], %s: float32[n, 80, boxes]) {
    %m = constant int64[] data(100)
    %y = NonMaxSuppression(%b, %s, %m)
    return %y
  })");
  EXPECT_EQ(describe_value(graph, graph.outputs()[0]), "int64[\"y#0\", 3]");
  EXPECT_EQ(graph.symbol_bounds.at("y#0"), Dim::symbol("n") * 80 * Dim::min(Dim::symbol("boxes"), 100));
}

}  // namespace
}  // namespace tenfold
