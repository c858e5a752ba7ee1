#include <gtest/gtest.h>

#include "graph/text.hpp"

namespace tenfold {
namespace {

/// Any operator name and attributes: every output has the type of the first input.
class Anything final : public Op {
 public:
  Anything(std::string type, Attributes attributes) : type_(std::move(type)), attributes_(std::move(attributes)) {}
  std::string_view type() const override { return type_; }
  Attributes attributes() const override { return attributes_; }
  void infer(InferContext& context) const override {
    for (int i = 0; i < context.num_outputs(); ++i) context.set_output(i, context.input(0));
  }
  void evaluate(EvalContext&) const override {}

 private:
  std::string type_;
  Attributes attributes_;
};

Graph parse(std::string_view text) {
  return parse_graph(text, [](std::string_view type, const Attributes& attributes) -> OpPtr {
    return std::make_shared<Anything>(std::string(type), attributes);
  });
}

std::string failure_of(std::string_view text) {
  try {
    parse(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
    return error.message();
  }
  return "no failure";
}

TEST(GraphText, PrintingWhatWasParsedGivesTheSameText) {
  const std::string text = R"(graph net(%x: float32[batch, floordiv(h + 1, 2)], %"a/b": int64[]) {
  scope "inner/"
  symbol "boxes#0" <= 100*batch
  symbol "free#1"
  %w = constant float32[2, 2] data(0.1, -2, 3, 1e-20)
  %i = constant int64[2] data(-9223372036854775808, 7)
  %b = constant bool[1] data(1)
  %c: float32[batch, floordiv(h + 1, 2)], _ = Conv(%x, %w, _) {axis=-1, mode="a\"b", pads=[0, 1], scales=[0.5, 2.0]}  # name "conv" origins "bn", "conv"
  %d: float32[batch, floordiv(h + 1, 2)] = If(%c) graph then(%y: float32[3]) {
    %z: float32[3] = Neg(%y)
    return %z
  } graph else(%y: float32[3]) {
    return %y
  }  # name "d"
  return %d as "out put", %"a/b"
}
)";
  EXPECT_EQ(print(parse(text)), text);
}

TEST(GraphText, ConstantsCanBeGenerated) {
  const Graph graph = parse(
      "graph g() { %a = constant float32[3] iota  %b = constant int32[2] full(7) %c = constant float32[64] random(1)"
      " %d = constant float16[2] ones return %a, %b, %c, %d }");
  EXPECT_EQ(graph.constant(graph.outputs()[0])->to_double(), (std::vector<double>{0, 1, 2}));
  EXPECT_EQ(graph.constant(graph.outputs()[1])->to_int64(), (std::vector<std::int64_t>{7, 7}));
  for (const double x : graph.constant(graph.outputs()[2])->to_double()) EXPECT_LT(std::abs(x), 1);
  EXPECT_EQ(graph.constant(graph.outputs()[3])->to_double(), (std::vector<double>{1, 1}));
}

TEST(GraphText, LargeConstantsPrintAHashAndDoNotParse) {
  const Graph graph = parse("graph g() { %a = constant float32[100] ones return %a }");
  const std::string text = print(graph);
  EXPECT_NE(text.find("large("), std::string::npos);
  EXPECT_NE(failure_of(text).find("no data to read back"), std::string::npos);
}

TEST(GraphText, AnErrorNamesLineAndColumn) {
  EXPECT_EQ(failure_of("graph g(%x: float32[2]) {\n  %y = Neg(%z)\n}"),
            "graph text, line 2, column 12: value %z is not defined before this place");
  EXPECT_EQ(failure_of("graph g(%x: float32[2]) {\n  %x = Neg(%x)\n}"),
            "graph text, line 2, column 3: value %x is defined twice");
  EXPECT_EQ(failure_of("graph g(%x: float33[2]) {}"), "graph text, line 1, column 13: 'float33' is no element type");
  EXPECT_NE(failure_of("graph g(%x: float32[2]) {\n  %y: float32[3] = Neg(%x)\n return %y }")
                .find("line 2, column 3: value %y is declared as float32[3], but inference gives float32[2]"),
            std::string::npos);
  EXPECT_NE(failure_of("").find("expected 'graph', found the end"), std::string::npos);
}

TEST(GraphText, HostileTextIsRefused) {
  EXPECT_NE(failure_of("graph g() { %a = constant float32[1099511627776] ones return %a }").find("too large"),
            std::string::npos);
  EXPECT_NE(failure_of("graph g() { %a = constant float32[4294967296, 4294967296] ones return %a }").find("elements"),
            std::string::npos);
  std::string deep;
  for (int i = 0; i < 10000; ++i) deep += "graph g(%x: float32[]) { %y = If(%x) ";
  EXPECT_NE(failure_of(deep).find("nested deeper"), std::string::npos);
  EXPECT_NE(failure_of("graph g() { %a = Foo() {x=\"").find("does not end"), std::string::npos);
  EXPECT_NE(failure_of("graph g(%x: float32[((((((").find("column"), std::string::npos);
}

TEST(GraphText, DotQuotesNames) {
  const Graph graph = parse("graph g(%\"a\\\"b\": float32[2]) { %y = Neg(%\"a\\\"b\") return %y }");
  const std::string dot = to_dot(graph);
  EXPECT_NE(dot.find("a\\\"b"), std::string::npos);
  EXPECT_NE(dot.find("g_v0 -> g_n0"), std::string::npos);
}

TEST(GraphText, NotesBehindOperatorsWithoutAttributesAreRead) {
  const Graph graph = parse(R"(graph net(%x: float32[2]) {
  %y: float32[2] = Relu(%x)  # name "act" origins "model/act", "model/scale"
  return %y
})");
  const Node& node = *graph.producer(graph.find_value("y").value());
  EXPECT_EQ(node.name, "act");
  EXPECT_EQ(node.origins, (std::vector<std::string>{"model/act", "model/scale"}));
}

}  // namespace
}  // namespace tenfold
