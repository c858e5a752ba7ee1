// Convolutions, poolings and matrix products against values worked out by hand.
#include "ops/conv.hpp"
#include "ops/matmul.hpp"
#include "ops/pool.hpp"
#include "ops_case.hpp"

namespace tenfold {
namespace {

using namespace ops_case;  // NOLINT(google-build-using-namespace): the vocabulary of these tests
using Ints = std::vector<std::int64_t>;

std::int64_t one() { return 1; }

TEST(Conv, SlidesTheKernelOverTheImage) {
  // 0 1 2 / 3 4 5 / 6 7 8 under a 2x2 kernel of ones.
  const Tensor y = evaluate("Conv", {{"strides", Ints{1, 1}}},
                            {iota({1, 1, 3, 3}), floats({1, 1, 2, 2}, {1, 1, 1, 1}), floats({1}, {100})});
  EXPECT_TRUE(y.equals(floats({1, 1, 2, 2}, {108, 112, 120, 124})));
}

TEST(Conv, StridesDilationsAndPaddingCombine) {
  // x = 0 1 2 3 4 padded by one; taps two apart, windows two apart: x[-1] + 10 x[1], x[1] + 10 x[3], x[3] + 10 x[5].
  const Tensor y = evaluate("Conv", {{"strides", Ints{2}}, {"pads", Ints{1, 1}}, {"dilations", Ints{2}}},
                            {iota({1, 1, 5}), floats({1, 1, 2}, {1, 10})});
  EXPECT_TRUE(y.equals(floats({1, 1, 3}, {10, 31, 3})));
}

TEST(Conv, GroupsSeeTheirOwnChannels) {
  const Tensor y = evaluate("Conv", {{"strides", Ints{1, 1}}, {"group", std::int64_t{2}}},
                            {iota({1, 2, 1, 2}), floats({2, 1, 1, 1}, {2, 3}), floats({2}, {10, 20})});
  EXPECT_TRUE(y.equals(floats({1, 2, 1, 2}, {10, 12, 26, 29})));
}

TEST(Conv, BothLayoutsGiveTheSameImage) {
  const Tensor x = iota({2, 3, 4, 5});
  const Tensor w = iota({4, 3, 2, 3});
  const Attributes nchw{{"strides", Ints{1, 2}}, {"pads", Ints{1, 0, 0, 1}}};
  Attributes nhwc = nchw;
  nhwc.set("layout", std::string("nhwc"));
  const auto transpose = [](const Tensor& t, const Ints& perm) { return evaluate("Transpose", {{"perm", perm}}, {t}); };
  const Tensor expected = evaluate("Conv", nchw, {x, w});
  const Tensor y = evaluate("Conv", nhwc, {transpose(x, {0, 2, 3, 1}), w});
  EXPECT_TRUE(transpose(y, {0, 3, 1, 2}).equals(expected));
}

TEST(Conv, SizesMayBeSymbols) {
  const Graph graph = parse_graph(R"(graph g(%x: float32[n, 3, h, w]) {
    %w = constant float32[8, 3, 3, 3] zeros
    %y = Conv(%x, %w) {strides=[2, 1], pads=[1, 1, 1, 1]}
    return %y
  })");
  const TensorType& type = graph.value(graph.outputs()[0]).type;
  EXPECT_EQ(type.dims[0], Dim::symbol("n"));
  EXPECT_EQ(type.dims[1], Dim(8));
  EXPECT_EQ(type.dims[2], Dim::floordiv(Dim::symbol("h") - 1, 2) + 1);
  EXPECT_EQ(type.dims[3], Dim::symbol("w"));
}

TEST(Conv, SamePaddingIsResolvedAtImportWhereTheSizeDoesNotMatter) {
  const TensorType x{DType::float32, {1, 1, Dim::symbol("h"), 5}};
  ModelNode strideless("Conv", 11, {{"auto_pad", std::string("SAME_UPPER")}});
  strideless.with_input(x).with_constant(iota({1, 1, 2, 3})).import();
  const auto* op = op_cast<Conv>(strideless.graph().producer(strideless.output()));
  EXPECT_EQ(op->window().pads, (Ints{0, 1, 1, 1}));
  ModelNode strided("Conv", 11, {{"auto_pad", std::string("SAME_LOWER")}, {"strides", Ints{2, 2}}});
  strided.with_input(x).with_constant(iota({1, 1, 2, 3})).import();
  EXPECT_EQ(op_cast<Conv>(strided.graph().producer(strided.output()))->window().auto_pad, AutoPad::same_lower);
  EXPECT_EQ(strided.graph().value(strided.output()).type.dims[2], Dim::ceildiv(Dim::symbol("h"), 2));
}

TEST(Conv, MistakesAreNamed) {
  const auto message = [](const Attributes& attributes, const std::vector<Tensor>& inputs) {
    return failure(Code::invalid_model, [&] { evaluate("Conv", attributes, inputs); });
  };
  EXPECT_NE(message({{"strides", Ints{1, 1}}}, {iota({1, 4, 3, 3}), iota({2, 3, 1, 1})})
                .find("expect 3 input channels, got 4"),
            std::string::npos);
  EXPECT_NE(message({{"strides", Ints{1, 1}}}, {iota({1, 1, 3, 3}), iota({1, 1, 5, 1})}).find("larger than the padded"),
            std::string::npos);
  EXPECT_NE(message({{"strides", Ints{0, 1}}}, {iota({1, 1, 3, 3}), iota({1, 1, 1, 1})}).find("strides must be 1"),
            std::string::npos);
  EXPECT_NE(message({{"strides", Ints{1, 1}}}, {iota({1, 1, 3, 3}), iota({1, 1, 1, 1}), iota({2})}).find("bias"),
            std::string::npos);
  EXPECT_NE(message({{"strides", Ints{1}}}, {iota({1, 1, 3, 3}), iota({1, 1, 1, 1})}).find("rank 3"),
            std::string::npos);
}

TEST(ConvTranspose, SpreadsEachElementOverTheKernel) {
  // 1 2 with stride 2: 1 10 100 . . plus . . 2 20 200.
  const std::vector<Tensor> inputs{floats({1, 1, 2}, {1, 2}), floats({1, 1, 3}, {1, 10, 100})};
  EXPECT_TRUE(
      evaluate("ConvTranspose", {{"strides", Ints{2}}}, inputs).equals(floats({1, 1, 5}, {1, 10, 102, 20, 200})));
  EXPECT_TRUE(
      evaluate("ConvTranspose", {{"strides", Ints{2}}, {"pads", Ints{1, 2}}, {"output_padding", Ints{1}}}, inputs)
          .equals(floats({1, 1, 3}, {10, 102, 20})));
}

TEST(ConvTranspose, GroupsMapTheirOwnChannels) {
  const Tensor y = evaluate("ConvTranspose", {{"strides", Ints{1}}, {"group", std::int64_t{2}}},
                            {floats({1, 2, 1}, {1, 2}), floats({2, 2, 1}, {1, 10, 100, 1000})});
  EXPECT_TRUE(y.equals(floats({1, 4, 1}, {1, 10, 200, 2000})));
}

TEST(ConvTranspose, OutputShapeAndSamePaddingBecomePads) {
  // Full size (3-1)*2 + 3 = 7; 6 wanted leaves 1 to cut, at the front unless SAME_UPPER.
  const TensorType x{DType::float32, {1, 1, 3}};
  ModelNode node("ConvTranspose", 11, {{"strides", Ints{2}}, {"output_shape", Ints{6}}});
  node.with_input(x).with_constant(iota({1, 1, 3})).import();
  EXPECT_EQ(op_cast<ConvTranspose>(node.graph().producer(node.output()))->window().pads, (Ints{1, 0}));
  const TensorType dynamic{DType::float32, {1, 1, Dim::symbol("w")}};
  ModelNode same("ConvTranspose", 11, {{"strides", Ints{2}}, {"auto_pad", std::string("SAME_UPPER")}});
  same.with_input(dynamic).with_constant(iota({1, 1, 3})).import();
  EXPECT_EQ(op_cast<ConvTranspose>(same.graph().producer(same.output()))->window().pads, (Ints{0, 1}));
  EXPECT_EQ(same.graph().value(same.output()).type.dims[2], Dim::symbol("w") * 2);
  ModelNode unknown("ConvTranspose", 11, {{"strides", Ints{2}}, {"output_shape", Ints{6}}});
  unknown.with_input(dynamic).with_constant(iota({1, 1, 3}));
  EXPECT_NE(failure(Code::unsupported, [&] { unknown.import(); }).find("fixed shape"), std::string::npos);
}

TEST(MatMul, FollowsNumPy) {
  const Tensor a = iota({2, 3});
  const Tensor b = iota({3, 2});
  EXPECT_TRUE(evaluate("MatMul", {}, {a, b}).equals(floats({2, 2}, {10, 13, 28, 40})));
  EXPECT_TRUE(
      evaluate("MatMul", {{"trans_a", one()}, {"trans_b", one()}}, {b, a}).equals(floats({2, 2}, {10, 28, 13, 40})));
  EXPECT_TRUE(evaluate("MatMul", {}, {iota({3}), b}).equals(floats({2}, {10, 13})));
  EXPECT_TRUE(evaluate("MatMul", {}, {a, iota({3})}).equals(floats({2}, {5, 14})));
  EXPECT_TRUE(evaluate("MatMul", {}, {iota({3}), iota({3})}).equals(floats({}, {5})));
  EXPECT_EQ(evaluate("MatMul", {}, {iota({4, 1, 2, 3}), iota({5, 3, 2})}).shape(), (Shape{4, 5, 2, 2}));
  EXPECT_TRUE(evaluate("MatMul", {}, {ints({1, 2}, {1LL << 62, 3}), ints({2, 1}, {4, 5})}).equals(ints({1, 1}, {15})));
  EXPECT_TRUE(evaluate("MatMul", {}, {iota({2, 0}), iota({0, 1})}).equals(floats({2, 1}, {0, 0})));
}

TEST(MatMul, InfersSymbolsAndRefusesMismatches) {
  EXPECT_EQ(inferred("graph g(%a: float32[b, 1, l, 64], %c: float32[h, 64, s]) { %y = MatMul(%a, %c) return %y }"),
            "float32[b, h, l, s]");
  EXPECT_NE(failure(Code::invalid_model,
                    [] {
                      evaluate("MatMul", {}, {iota({2, 3}), iota({2, 3})});
                    })
                .find("3 columns against 2 rows"),
            std::string::npos);
  EXPECT_THROW(evaluate("MatMul", {}, {iota({}), iota({3})}), Error);
}

TEST(Gemm, IsImportedAsProductScaleAndSum) {
  ModelNode node("Gemm", 13, {{"alpha", 0.5}, {"beta", 2.0}, {"transB", one()}});
  node.with_input({DType::float32, {2, 2}}).with_input({DType::float32, {3, 2}}).with_input({DType::float32, {3}});
  node.import();
  const std::vector<Tensor> inputs{iota({2, 2}), iota({3, 2}), floats({3}, {1, 2, 3})};
  // rows (0 1), (2 3) times columns (0 1), (2 3), (4 5): 1 3 5 / 3 13 23; halved, plus 2 4 6.
  EXPECT_EQ(interpret(node.graph(), inputs)[0].to_double(), (std::vector<double>{2.5, 5.5, 8.5, 3.5, 10.5, 17.5}));
}

TEST(MaxPool, GivesMaximaAndTheirPlaces) {
  const Attributes attributes{{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}};
  const auto y = evaluate_all("MaxPool", attributes, {iota({1, 2, 2, 4})}, 2);
  EXPECT_TRUE(y[0].equals(floats({1, 2, 1, 2}, {5, 7, 13, 15})));
  EXPECT_TRUE(y[1].equals(ints({1, 2, 1, 2}, {5, 7, 13, 15})));
  Attributes by_column = attributes;
  by_column.set("storage_order", one());
  // Places in an image of 2 rows stored column by column: (1,1) is 3, (1,3) is 7.
  EXPECT_TRUE(
      evaluate_all("MaxPool", by_column, {iota({1, 2, 2, 4})}, 2)[1].equals(ints({1, 2, 1, 2}, {3, 7, 11, 15})));
  Attributes nhwc = attributes;
  nhwc.set("layout", std::string("nhwc"));
  const auto last = evaluate_all("MaxPool", nhwc, {iota({1, 2, 2, 2})}, 2);
  EXPECT_TRUE(last[0].equals(floats({1, 1, 1, 2}, {6, 7})));
  EXPECT_TRUE(last[1].equals(ints({1, 1, 1, 2}, {3, 7})));  // counted as if channels came first
}

TEST(MaxPool, PaddingNeverWins) {
  const Tensor y = evaluate("MaxPool", {{"kernel_shape", Ints{3}}, {"strides", Ints{2}}, {"pads", Ints{1, 1}}},
                            {floats({1, 1, 3}, {-5, -7, -6})});
  EXPECT_TRUE(y.equals(floats({1, 1, 2}, {-5, -6})));
}

TEST(Pooling, ACeilingModeWindowStartsInsideTheInput) {
  const auto size = [](std::int64_t input, Ints kernel, Ints stride, Ints pads) {
    return evaluate("MaxPool", {{"kernel_shape", kernel}, {"strides", stride}, {"pads", pads}, {"ceil_mode", one()}},
                    {iota({1, 1, input})})
        .shape()[2];
  };
  EXPECT_EQ(size(5, {2}, {2}, {0, 0}), 3);
  // ceil((2 + 2 - 1) / 3) + 1 = 2, but the second window would start at 3 of 2 + 1: in the padding.
  EXPECT_EQ(size(2, {1}, {3}, {1, 1}), 1);
  const Graph graph = parse_graph(R"(graph g(%x: float32[1, 1, w]) {
    %y = MaxPool(%x) {kernel_shape=[3], strides=[2], pads=[1, 1], ceil_mode=1}
    return %y
  })");
  EXPECT_EQ(graph.value(graph.outputs()[0]).type.dims[2], Dim::ceildiv(Dim::symbol("w") - 1, 2) + 1);
}

TEST(AveragePool, DividesByWhatTheWindowCovers) {
  const Tensor x = floats({1, 1, 3}, {3, 6, 9});
  Attributes attributes{{"kernel_shape", Ints{3}}, {"strides", Ints{1}}, {"pads", Ints{1, 1}}};
  EXPECT_TRUE(evaluate("AveragePool", attributes, {x}).equals(floats({1, 1, 3}, {4.5, 6, 7.5})));
  attributes.set("count_include_pad", one());
  EXPECT_TRUE(evaluate("AveragePool", attributes, {x}).equals(floats({1, 1, 3}, {3, 6, 5})));
  // What hangs over the padded input counts neither way: the second window holds 9 and one padding.
  const Attributes ceiling{{"kernel_shape", Ints{3}},
                           {"strides", Ints{2}},
                           {"pads", Ints{0, 1}},
                           {"ceil_mode", one()},
                           {"count_include_pad", one()}};
  EXPECT_TRUE(evaluate("AveragePool", ceiling, {x}).equals(floats({1, 1, 2}, {6, 4.5})));
}

TEST(LpPool, IsANormOfTheWindow) {
  const Attributes attributes{{"kernel_shape", Ints{2}}, {"strides", Ints{2}}, {"p", std::int64_t{2}}};
  EXPECT_TRUE(evaluate("LpPool", attributes, {floats({1, 1, 4}, {3, -4, 5, 12})}).equals(floats({1, 1, 2}, {5, 13})));
}

TEST(GlobalPooling, IsImportedAsReduction) {
  ModelNode node("GlobalAveragePool", 1, {});
  node.with_input({DType::float32, {Dim::symbol("n"), 2, 3, Dim::symbol("w")}}).import();
  EXPECT_EQ(node.result(), "ReduceMean{axes=[2, 3], keepdims=1} -> float32[n, 2, 1, 1]");
}

}  // namespace
}  // namespace tenfold
