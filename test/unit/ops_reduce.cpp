#include <cmath>
#include <limits>

#include "ops_case.hpp"

namespace tenfold {
namespace {

using namespace ops_case;  // NOLINT(google-build-using-namespace): the vocabulary of these tests
using Ints = std::vector<std::int64_t>;

Tensor reduced(std::string_view type, const Tensor& x, Ints axes, bool keep = false) {
  return evaluate(type, {{"axes", std::move(axes)}, {"keepdims", std::int64_t{keep}}}, {x});
}

TEST(Reduce, EveryKindOverOneAxis) {
  const Tensor x = floats({2, 2}, {1, -2, 3, 4});
  const auto rows = [&](std::string_view type) { return values(reduced(type, x, {1})); };
  EXPECT_EQ(rows("ReduceSum"), (std::vector<float>{-1, 7}));
  EXPECT_EQ(rows("ReduceMean"), (std::vector<float>{-0.5F, 3.5F}));
  EXPECT_EQ(rows("ReduceMax"), (std::vector<float>{1, 4}));
  EXPECT_EQ(rows("ReduceMin"), (std::vector<float>{-2, 3}));
  EXPECT_EQ(rows("ReduceProd"), (std::vector<float>{-2, 12}));
  EXPECT_EQ(rows("ReduceL1"), (std::vector<float>{3, 7}));
  EXPECT_EQ(rows("ReduceL2"), (std::vector<float>{2.23606797749979F, 5}));
  EXPECT_EQ(rows("ReduceSumSquare"), (std::vector<float>{5, 25}));
  EXPECT_FLOAT_EQ(rows("ReduceLogSum")[1], 1.945910149055313F);
  EXPECT_FLOAT_EQ(rows("ReduceLogSumExp")[0], 1.048587351573742F);
}

TEST(Reduce, AnySetOfAxes) {
  const Tensor x = iota({2, 3, 4});
  EXPECT_EQ(values(reduced("ReduceSum", x, {0})), (std::vector<float>{12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34}));
  EXPECT_EQ(values(reduced("ReduceSum", x, {1})), (std::vector<float>{12, 15, 18, 21, 48, 51, 54, 57}));
  EXPECT_EQ(values(reduced("ReduceSum", x, {0, -1})), (std::vector<float>{60, 92, 124}));
  EXPECT_EQ(values(reduced("ReduceSum", x, {})), std::vector<float>{276});
  EXPECT_EQ(reduced("ReduceSum", x, {0, 2}, true).shape(), (Shape{1, 3, 1}));
  EXPECT_THROW(reduced("ReduceSum", x, {3}), Error);
  EXPECT_THROW(reduced("ReduceSum", x, {1, -2}), Error);
}

TEST(Reduce, OfNothingIsTheNeutralElement) {
  const Tensor x = iota({2, 0});
  constexpr float kInf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(values(reduced("ReduceSum", x, {1})), (std::vector<float>{0, 0}));
  EXPECT_EQ(values(reduced("ReduceProd", x, {1})), (std::vector<float>{1, 1}));
  EXPECT_EQ(values(reduced("ReduceMax", x, {1})), (std::vector<float>{-kInf, -kInf}));
  EXPECT_EQ(values(reduced("ReduceLogSumExp", x, {1})), (std::vector<float>{-kInf, -kInf}));
  EXPECT_TRUE(std::isnan(values(reduced("ReduceMean", x, {1}))[0]));
  EXPECT_EQ(reduced("ReduceSum", x, {0}).shape(), Shape{0});
}

TEST(Reduce, LargeExponentsDoNotOverflow) {
  EXPECT_FLOAT_EQ(values(reduced("ReduceLogSumExp", floats({2}, {1000, 1000}), {0}))[0], 1000.6931F);
}

TEST(Reduce, SumsAreAccumulatedWide) {
  // In float the small numbers would vanish beside the large one.
  Tensor x(DType::float32, {1025});
  const auto elements = x.as_mutable<float>();
  elements[0] = 1 << 24;
  std::fill(elements.begin() + 1, elements.end(), 0.5F);
  EXPECT_EQ(values(reduced("ReduceSum", x, {0}))[0], static_cast<float>((1 << 24) + 512));
}

TEST(Reduce, IntegersStayIntegers) {
  const Tensor x = ints({4}, {7, -3, 2, -2});
  EXPECT_TRUE(reduced("ReduceSum", x, {0}).equals(ints({}, {4})));
  EXPECT_TRUE(reduced("ReduceMean", x, {0}).equals(ints({}, {1})));
  EXPECT_TRUE(reduced("ReduceL1", x, {0}).equals(ints({}, {14})));
  EXPECT_TRUE(reduced("ReduceMin", x, {0}).equals(ints({}, {-3})));
  constexpr std::uint64_t kTop = std::numeric_limits<std::uint64_t>::max();
  const Tensor unsigned_numbers = tensor_of<std::uint64_t>(DType::uint64, {2}, {1, kTop});
  EXPECT_EQ(reduced("ReduceMax", unsigned_numbers, {0}).as<std::uint64_t>()[0], kTop);
  EXPECT_TRUE(reduced("ReduceMax", bools({2}, {false, true}), {0}).equals(bools({}, {true})));
  EXPECT_THROW(reduced("ReduceSum", bools({2}, {false, true}), {0}), Error);
  EXPECT_THROW(reduced("ReduceLogSum", x, {0}), Error);
}

TEST(Reduce, HasTheShapeThatIsPromised) {
  EXPECT_EQ(inferred("graph g(%x: float32[n, 3, h]) { %y = ReduceMean(%x) {axes=[1], keepdims=1} return %y }"),
            "float32[n, 1, h]");
  EXPECT_EQ(inferred("graph g(%x: float32[n, 3, h]) { %y = ReduceMax(%x) {axes=[-1, 0], keepdims=0} return %y }"),
            "float32[3]");
}

TEST(Import, AxesAreMadeExplicit) {
  const TensorType type{DType::float32, {Dim(2), Dim(3)}};
  ModelNode all("ReduceMean", 13, {});
  all.with_input(type).import();
  EXPECT_EQ(all.result(), "ReduceMean{axes=[0, 1], keepdims=1} -> float32[1, 1]");
  ModelNode input("ReduceSum", 13, {{"keepdims", std::int64_t{0}}});
  input.with_input(type).with_constant(ints({1}, {-1})).import();
  EXPECT_EQ(input.result(), "ReduceSum{axes=[1], keepdims=0} -> float32[2]");
  ModelNode none("ReduceSum", 13, {{"noop_with_empty_axes", std::int64_t{1}}});
  none.with_input(type).import();
  EXPECT_EQ(none.result(), " -> float32[2, 3]");
  ModelNode squares("ReduceSumSquare", 18, {{"noop_with_empty_axes", std::int64_t{1}}});
  squares.with_input(type).import();
  EXPECT_EQ(squares.result(), "Mul{} -> float32[2, 3]");
  EXPECT_NE(failure(Code::unsupported,
                    [&] {
                      ModelNode("ReduceSum", 13, {}).with_input(type).with_input({DType::int64, {Dim(1)}}).import();
                    })
                .find("computed by the network"),
            std::string::npos);
}

TEST(ArgMax, TakesTheFirstOrTheLastOfEquals) {
  const Tensor x = floats({2, 3}, {1, 5, 5, 4, 2, 4});
  const Attributes rows{{"axis", std::int64_t{1}}, {"keepdims", std::int64_t{0}}};
  EXPECT_TRUE(evaluate("ArgMax", rows, {x}).equals(ints({2}, {1, 0})));
  EXPECT_TRUE(evaluate("ArgMin", rows, {x}).equals(ints({2}, {0, 1})));
  Attributes last = rows;
  last.set("select_last_index", std::int64_t{1});
  EXPECT_TRUE(evaluate("ArgMax", last, {x}).equals(ints({2}, {2, 2})));
  EXPECT_TRUE(evaluate("ArgMax", {}, {x}).equals(ints({1, 3}, {1, 0, 0})));
  EXPECT_THROW(evaluate("ArgMax", {}, {iota({0})}), Error);
  EXPECT_THROW(evaluate("ArgMax", {{"axis", std::int64_t{2}}}, {x}), Error);
}

TEST(TopK, SortsByValueThenByPosition) {
  const Tensor x = floats({2, 4}, {3, 1, 3, 2, 0, 9, 8, 9});
  auto y = evaluate_all("TopK", {}, {x, ints({1}, {3})}, 2);
  EXPECT_TRUE(y[0].equals(floats({2, 3}, {3, 3, 2, 9, 9, 8})));
  EXPECT_TRUE(y[1].equals(ints({2, 3}, {0, 2, 3, 1, 3, 2})));
  y = evaluate_all("TopK", {{"axis", std::int64_t{0}}, {"largest", std::int64_t{0}}}, {x, ints({1}, {1})}, 2);
  EXPECT_TRUE(y[0].equals(floats({1, 4}, {0, 1, 3, 2})));
  EXPECT_TRUE(y[1].equals(ints({1, 4}, {1, 0, 0, 0})));
  EXPECT_THROW(evaluate_all("TopK", {}, {x, ints({1}, {5})}, 2), Error);
  EXPECT_THROW(evaluate_all("TopK", {}, {x, ints({1}, {-1})}, 2), Error);
}

TEST(TopK, NumbersThatAreNoneComeFirst) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto y = evaluate_all("TopK", {}, {floats({4}, {1, nan, 3, nan}), ints({1}, {3})}, 2);
  EXPECT_TRUE(y[1].equals(ints({3}, {1, 3, 2})));
}

TEST(TopK, UnknownKIsBoundedByTheAxis) {
  const Graph graph =
      parse_graph(R"(graph g(%x: float32[n, 4], %k: int64[1]) { %v, %i = TopK(%x, %k) return %v, %i })");
  EXPECT_EQ(describe_value(graph, graph.outputs()[0]), "float32[n, \"v#1\"]");
  EXPECT_EQ(describe_value(graph, graph.outputs()[1]), "int64[n, \"v#1\"]");
  EXPECT_EQ(graph.symbol_bounds.at("v#1"), Dim(4));
}

TEST(NonZero, ListsPositionsByAxis) {
  EXPECT_TRUE(evaluate("NonZero", {}, {floats({2, 2}, {1, 0, 1, 1})}).equals(ints({2, 3}, {0, 1, 1, 0, 0, 1})));
  EXPECT_EQ(evaluate("NonZero", {}, {floats({3}, {0, 0, 0})}).shape(), (Shape{1, 0}));
  const Graph graph = parse_graph("graph g(%x: bool[n, 4]) { %y = NonZero(%x) return %y }");
  EXPECT_EQ(describe_value(graph, graph.outputs()[0]), "int64[2, \"y#1\"]");
  EXPECT_EQ(graph.symbol_bounds.at("y#1"), Dim(4) * Dim::symbol("n"));
}

TEST(Compress, KeepsWhatTheConditionSays) {
  const Tensor x = iota({3, 2});
  EXPECT_TRUE(evaluate("Compress", {{"axis", std::int64_t{0}}}, {x, bools({3}, {false, true, true})})
                  .equals(floats({2, 2}, {2, 3, 4, 5})));
  EXPECT_TRUE(evaluate("Compress", {{"axis", std::int64_t{1}}}, {x, bools({2}, {false, true})})
                  .equals(floats({3, 1}, {1, 3, 5})));
  EXPECT_TRUE(evaluate("Compress", {}, {x, bools({5}, {false, true, false, false, true})}).equals(floats({2}, {1, 4})));
  EXPECT_THROW(evaluate("Compress", {{"axis", std::int64_t{1}}}, {x, bools({3}, {false, false, true})}), Error);
}

TEST(Unique, SortedOrInOrderOfOccurrence) {
  const Tensor x = floats({6}, {2, 1, 1, 3, 4, 3});
  auto y = evaluate_all("Unique", {}, {x}, 4);
  EXPECT_TRUE(y[0].equals(floats({4}, {1, 2, 3, 4})));
  EXPECT_TRUE(y[1].equals(ints({4}, {1, 0, 3, 4})));
  EXPECT_TRUE(y[2].equals(ints({6}, {1, 0, 0, 2, 3, 2})));
  EXPECT_TRUE(y[3].equals(ints({4}, {2, 1, 2, 1})));
  y = evaluate_all("Unique", {{"sorted", std::int64_t{0}}}, {x}, 4);
  EXPECT_TRUE(y[0].equals(floats({4}, {2, 1, 3, 4})));
  EXPECT_TRUE(y[2].equals(ints({6}, {0, 1, 1, 2, 3, 2})));
}

TEST(Unique, SlicesAlongAnAxis) {
  const Tensor x = floats({3, 2}, {1, 0, 2, 3, 1, 0});
  const auto y = evaluate_all("Unique", {{"axis", std::int64_t{0}}}, {x}, 4);
  EXPECT_TRUE(y[0].equals(floats({2, 2}, {1, 0, 2, 3})));
  EXPECT_TRUE(y[3].equals(ints({2}, {2, 1})));
}

TEST(Det, OfABatchOfMatrices) {
  EXPECT_TRUE(evaluate("Det", {}, {floats({2, 2, 2}, {1, 2, 3, 4, 0, 1, 1, 0})}).equals(floats({2}, {-2, -1})));
  EXPECT_TRUE(evaluate("Det", {}, {floats({2, 2}, {1, 2, 2, 4})}).equals(floats({}, {0})));
  EXPECT_THROW(evaluate("Det", {}, {iota({2, 3})}), Error);
}

}  // namespace
}  // namespace tenfold
