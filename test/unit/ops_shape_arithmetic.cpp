// Shapes that models compute from shapes stay expressions.
#include "ops/shape_math.hpp"
#include "ops_case.hpp"

namespace tenfold {
namespace {

using namespace ops_case;  // NOLINT(google-build-using-namespace): the vocabulary of these tests

TEST(ShapeMath, SignsAndComparisonsAreProvenForSizes) {
  const Dim n = Dim::symbol("n");
  const Dim m = Dim::symbol("m");
  EXPECT_TRUE(is_nonnegative(n * m + Dim(1)));
  EXPECT_FALSE(is_nonnegative(n - Dim(1)));
  EXPECT_EQ(is_less(n, n + Dim(1)), true);
  EXPECT_EQ(is_less(n + Dim(1), n), false);
  EXPECT_EQ(is_less(n, m), std::nullopt);
  EXPECT_EQ(is_equal(n, Dim(-1)), false);
  EXPECT_EQ(is_equal(n, Dim(0)), std::nullopt);
  EXPECT_EQ(is_equal(n + m, m + n), true);
}

TEST(ShapeMath, DivisionTruncatesAlsoBelowZero) {
  const Dim n = Dim::symbol("n");
  EXPECT_EQ(truncated_div(Dim(-7), Dim(2)), Dim(-3));
  EXPECT_EQ(truncated_div(Dim(7), Dim(0)), std::nullopt);
  EXPECT_EQ(truncated_div(n, -n), std::nullopt);
  const Dim quotient = *truncated_div(n - Dim(3), Dim(2));
  for (const std::int64_t size : {0, 1, 2, 3, 4, 9}) {
    EXPECT_EQ(quotient.evaluate([&](const std::string&) { return size; }), (size - 3) / 2) << size;
  }
}

TEST(ShapeArithmetic, ShapeGivesTheDimensions) {
  EXPECT_EQ(inferred("graph g(%x: float32[n, 3, h]) { %y = Shape(%x) return %y }"), "int64[3] = [n, 3, h]");
  EXPECT_EQ(inferred("graph g(%x: float32[n, 3, h]) { %y = Shape(%x) {start=-2, end=9} return %y }"),
            "int64[2] = [3, h]");
  EXPECT_EQ(inferred("graph g(%x: float32[n, 3, h]) { %y = Shape(%x) {start=2, end=1} return %y }"), "int64[0] = []");
  EXPECT_EQ(inferred("graph g(%x: float32[n, 3, h]) { %y = Size(%x) return %y }"), "int64[] = [3*h*n]");
}

TEST(ShapeArithmetic, TheUsualExportOfAViewStaysExact) {
  // x.view(x.size(0), -1, 64) as exporters write it.
  EXPECT_EQ(inferred(R"(graph g(%x: float32[batch, seq, 768]) {
    %shape = Shape(%x)
    %zero = constant int64[] data(0)
    %n = Gather(%shape, %zero) {axis=0}
    %n1 = Unsqueeze(%n) {axes=[0]}
    %rest = constant int64[2] data(-1, 64)
    %target = Concat(%n1, %rest) {axis=0}
    %y = Reshape(%x, %target)
    return %y
  })"),
            "float32[batch, 12*seq, 64]");
}

TEST(ShapeArithmetic, ArithmeticOfSizesStaysExact) {
  EXPECT_EQ(inferred(R"(graph g(%x: float32[n, 3, h, w]) {
    %shape = Shape(%x)
    %hw = Slice(%shape) {starts=[2], ends=[9223372036854775807], axes=[0], steps=[1]}
    %two = constant int64[] data(2)
    %half = Div(%hw, %two)
    %one = constant int64[] data(1)
    %more = Add(%half, %one)
    %less = Sub(%more, %two)
    %y = Mul(%less, %hw)
    return %y
  })"),
            "int64[2] = [floordiv(h, 2)*h - h, floordiv(w, 2)*w - w]");
  EXPECT_EQ(inferred(R"(graph g(%x: float32[n, 12]) {
    %shape = Shape(%x)
    %y = ReduceProd(%shape) {axes=[0], keepdims=0}
    return %y
  })"),
            "int64[] = [12*n]");
  EXPECT_EQ(inferred(R"(graph g(%x: float32[n, 12]) {
    %shape = Shape(%x)
    %eight = constant int64[] data(8)
    %y = Mod(%shape, %eight)
    return %y
  })"),
            "int64[2] = [-8*floordiv(n, 8) + n, 4]");
}

TEST(ShapeArithmetic, ChoicesAreTakenWhereTheyAreDecided) {
  // expand(): entries of -1 are replaced by 1; a size is never -1.
  EXPECT_EQ(inferred(R"(graph g(%x: float32[1, 4], %y: float32[n, 4]) {
    %shape = Shape(%y)
    %minus = constant int64[] data(-1)
    %unset = Equal(%shape, %minus)
    %ones = ConstantOfShape() {dims=[2], value=int64[1](1)}
    %target = Where(%unset, %ones, %shape)
    %z = Expand(%x, %target)
    return %z
  })"),
            "float32[n, 4]");
}

TEST(ShapeArithmetic, ValuesMoveThroughEveryRearrangement) {
  const auto of_shape = [](const std::string& rest) {
    return inferred("graph g(%x: float32[a, b, c]) { %s = Shape(%x) " + rest + " return %y }");
  };
  EXPECT_EQ(of_shape("%y = Cast(%s) {to=\"int32\"}"), "int32[3] = [a, b, c]");
  EXPECT_EQ(of_shape("%y = Cast(%s) {to=\"float32\"}"), "float32[3]");
  EXPECT_EQ(of_shape("%y = Slice(%s) {starts=[-1], ends=[-4], axes=[0], steps=[-1]}"), "int64[3] = [c, b, a]");
  EXPECT_EQ(of_shape("%t = Unsqueeze(%s) {axes=[1]} %y = Transpose(%t) {perm=[1, 0]}"), "int64[1, 3] = [a, b, c]");
  EXPECT_EQ(of_shape("%t = Reshape(%s) {dims=[3, 1]} %y = Expand(%t) {dims=[3, 2]}"),
            "int64[3, 2] = [a, a, b, b, c, c]");
  EXPECT_EQ(of_shape("%n = constant int64[1] data(2) %y = Tile(%s, %n)"), "int64[6] = [a, b, c, a, b, c]");
  EXPECT_EQ(of_shape("%p, %y = Split(%s) {axis=0, sizes=[1, 2]}"), "int64[2] = [b, c]");
  EXPECT_EQ(of_shape("%i = constant int64[2] data(-1, 0) %y = Gather(%s, %i)"), "int64[2] = [c, a]");
  EXPECT_EQ(of_shape("%i = constant int64[1, 1] data(1) %u = constant int64[1] data(7) %y = ScatterND(%s, %i, %u)"),
            "int64[3] = [a, 7, c]");
  EXPECT_EQ(of_shape("%i = constant int64[1] data(-1) %u = constant int64[1] data(7) %y = ScatterElements(%s, %i, %u)"),
            "int64[3] = [a, b, 7]");
  EXPECT_EQ(of_shape("%i = constant int64[] data(0) %y = CumSum(%s, %i)"), "int64[3] = [a, a + b, a + b + c]");
  EXPECT_EQ(of_shape("%t = Neg(%s) %y = Abs(%t)"), "int64[3] = [a, b, c]");
}

TEST(ShapeArithmetic, DimValuesAreTheirExpressions) {
  EXPECT_EQ(inferred(R"(graph g(%x: float32[n]) { %y = DimValues() {elements=["2*n", "4"], shape=[2]} return %y })"),
            "int64[2] = [2*n, 4]");
  EXPECT_EQ(
      inferred(R"(graph g(%x: float32[n]) { %y = DimValues() {elements=["n"], shape=[], dtype="int32"} return %y })"),
      "int32[] = [n]");
  EXPECT_TRUE(evaluate("DimValues",
                       {{"elements", std::vector<std::string>{"3", "4"}}, {"shape", std::vector<std::int64_t>{2}}}, {})
                  .equals(ints({2}, {3, 4})));
  EXPECT_THROW(
      make_op("DimValues", {{"elements", std::vector<std::string>{"3"}}, {"shape", std::vector<std::int64_t>{2}}}),
      Error);
  EXPECT_THROW(make_op("DimValues", {{"elements", std::vector<std::string>{"n +"}}}), Error);
}

TEST(Reshape, LeftoverDimensionDividesExactly) {
  const auto reshaped = [](const std::string& x, const std::string& shape) {
    return inferred("graph g(%x: float32" + x + ") { %s = constant int64" + shape +
                    " %y = Reshape(%x, %s) return %y }");
  };
  EXPECT_EQ(reshaped("[n, h, w, 64]", "[3] data(0, -1, 64)"), "float32[n, h*w, 64]");
  EXPECT_EQ(reshaped("[n, s, 768]", "[4] data(0, 0, 12, 64)"), "float32[n, s, 12, 64]");
  EXPECT_EQ(reshaped("[n, s + 1, 768]", "[2] data(-1, 768)"), "float32[n*s + n, 768]");
  EXPECT_EQ(reshaped("[n, 6]", "[2] data(-1, 4)"), "float32[floordiv(n, 2) + n, 4]");
  EXPECT_EQ(reshaped("[0, 6]", "[2] data(-1, 3)"), "float32[0, 3]");
}

TEST(Reshape, ImpossibleShapesAreRefused) {
  const auto refusal = [](const std::string& x, const std::string& shape) {
    return failure(Code::invalid_argument, [&] {
      parse_graph("graph g(%x: float32" + x + ") { %s = constant int64" + shape + " %y = Reshape(%x, %s) return %y }");
    });
  };
  // The text reader reports where in the text; the operator's reason is inside.
  EXPECT_NE(refusal("[2, 3]", "[2] data(4, 2)").find("do not fill"), std::string::npos);
  EXPECT_NE(refusal("[2, 3]", "[2] data(-1, 4)").find("do not fill"), std::string::npos);
  EXPECT_NE(refusal("[2, 3]", "[2] data(-1, -1)").find("more than one -1"), std::string::npos);
  EXPECT_NE(refusal("[2, 3]", "[1] data(-2)").find("negative"), std::string::npos);
  EXPECT_NE(refusal("[6]", "[2] data(6, 0)").find("lacks"), std::string::npos);
}

TEST(Reshape, UnknownShapesGetSymbolsOfTheirOwn) {
  EXPECT_EQ(inferred("graph g(%x: float32[n, 4], %s: int64[2]) { %y = Reshape(%x, %s) return %y }"),
            "float32[\"y#0\", \"y#1\"]");
}

TEST(Slice, SizesAreExpressions) {
  const auto sliced = [](const std::string& attributes) {
    return inferred("graph g(%x: float32[n]) { %y = Slice(%x) {" + attributes + "} return %y }");
  };
  EXPECT_EQ(sliced("starts=[1], ends=[9223372036854775807], axes=[0], steps=[1]"), "float32[max(0, n - 1)]");
  EXPECT_EQ(sliced("starts=[0], ends=[2147483647], axes=[0], steps=[2]"), "float32[floordiv(n + 1, 2)]");
  EXPECT_EQ(sliced("starts=[0], ends=[-1], axes=[0], steps=[1]"), "float32[max(0, n - 1)]");
  EXPECT_EQ(sliced("starts=[-5], ends=[9223372036854775807], axes=[0], steps=[1]"), "float32[min(5, n)]");
  EXPECT_EQ(sliced("starts=[0], ends=[5], axes=[0], steps=[1]"), "float32[min(5, n)]");
  EXPECT_EQ(sliced("starts=[-1], ends=[-9223372036854775807], axes=[0], steps=[-1]"), "float32[n]");
}

TEST(Slice, SizesAgreeWithWhatIsComputed) {
  // Every combination of position and step, against the number of elements for numbers.
  const std::vector<std::int64_t> positions{-9, -4, -1, 0, 2, 5, 9, 1L << 40, -(1L << 40)};
  for (const std::int64_t start : positions) {
    for (const std::int64_t end : positions) {
      for (const std::int64_t step : {-3, -1, 1, 2}) {
        Graph graph;
        const ValueId x = graph.add_input("x", {DType::float32, {Dim::symbol("n")}});
        const OpPtr op = make_op("Slice", {{"starts", std::vector<std::int64_t>{start}},
                                           {"ends", std::vector<std::int64_t>{end}},
                                           {"steps", std::vector<std::int64_t>{step}}});
        const NodeId id = graph.add_node(op, {x}, 1, "y");
        graph.infer_types(id);
        const Dim size = graph.value(graph.node(id).outputs[0]).type.dims[0];
        for (const std::int64_t n : {0, 1, 4, 7}) {
          const Tensor result = evaluate_all("Slice", op->attributes(), {iota({n})}).at(0);
          EXPECT_EQ(size.evaluate([&](const std::string&) { return n; }), result.shape()[0])
              << start << ":" << end << ":" << step << " of " << n << ", " << size.to_string();
        }
      }
    }
  }
}

TEST(Slice, PositionsThatAreExpressions) {
  EXPECT_EQ(inferred(R"(graph g(%table: float32[512, 64], %x: int64[n, seq]) {
    %shape = Shape(%x)
    %one = constant int64[1] data(1)
    %length = Gather(%shape, %one)
    %zero = constant int64[1] data(0)
    %y = Slice(%table, %zero, %length, %zero)
    return %y
  })"),
            "float32[min(512, seq), 64]");
}

TEST(Slice, UnknownPositionsAreBoundedByTheInput) {
  const Graph graph = parse_graph(R"(graph g(%x: float32[n, 4], %s: int64[1], %e: int64[1]) {
    %a = constant int64[1] data(0)
    %y = Slice(%x, %s, %e, %a)
    return %y
  })");
  EXPECT_EQ(describe_value(graph, graph.outputs()[0]), "float32[\"y#0\", 4]");
  EXPECT_EQ(graph.symbol_bounds.at("y#0"), Dim::symbol("n"));
}

TEST(Range, LengthIsAnExpression) {
  EXPECT_EQ(inferred(R"(graph g(%x: float32[n, 4]) {
    %shape = Shape(%x)
    %i = constant int64[] data(0)
    %n = Gather(%shape, %i)
    %one = constant int64[] data(1)
    %y = Range(%i, %n, %one)
    return %y
  })"),
            "int64[n]");
  EXPECT_EQ(inferred(R"(graph g(%x: float32[n]) {
    %a = constant int64[] data(1) %b = constant int64[] data(8) %c = constant int64[] data(3)
    %y = Range(%a, %b, %c)
    return %y
  })"),
            "int64[3] = [1, 4, 7]");
}

TEST(Broadcasting, SizesThatAreNumbersWin) {
  EXPECT_EQ(inferred("graph g(%x: float32[n, 4], %y: float32[3, 1]) { %z = Add(%x, %y) return %z }"), "float32[3, 4]");
  EXPECT_EQ(inferred("graph g(%x: float32[n, 1], %y: float32[m]) { %z = Add(%x, %y) return %z }"), "float32[n, m]");
}

TEST(Operators, AttributesMakeTheSameOperatorAgain) {
  // Every operator that can be made without attributes, or with these, equals its own copy.
  const Attributes attributes{{"axis", std::int64_t{0}},
                              {"axes", std::vector<std::int64_t>{0}},
                              {"to", "int32"},
                              {"direction", "LEFT"},
                              {"blocksize", std::int64_t{2}},
                              {"elements", std::vector<std::string>{"n"}},
                              {"perm", std::vector<std::int64_t>{0}},
                              {"num_inputs", std::int64_t{1}},
                              {"program", "relu 0"}};
  int made = 0;
  for (const OpDef* def : all_ops()) {
    if (def->make == nullptr) continue;
    OpPtr op;
    try {
      op = def->make(attributes);
    } catch (const Error&) {
      continue;
    }
    ++made;
    EXPECT_EQ(op->type(), def->type);
    EXPECT_TRUE(equal(*op, *make_op(op->type(), op->attributes()))) << def->type;
  }
  EXPECT_GT(made, 100);
}

}  // namespace
}  // namespace tenfold
