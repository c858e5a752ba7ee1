// If, Loop and Scan: types of their blocks, and what the interpreter makes of them.
#include <map>

#include <gtest/gtest.h>

#include "ops/interpreter.hpp"
#include "ops/registry.hpp"
#include "ops_case.hpp"

namespace tenfold {
namespace {

Tensor floats(Shape shape, std::vector<float> values) {
  return Tensor::from<float>(DType::float32, std::move(shape), std::span<const float>(values));
}
Tensor flag(bool value) { return Tensor::from<bool>(DType::boolean, {}, std::span<const bool>(&value, 1)); }
Tensor integer(std::int64_t value) { return Tensor::of_int64({}, std::span(&value, 1)); }

using test::failure;

std::string output_type(const Graph& graph, std::size_t index = 0) {
  return to_string(graph.value(graph.outputs()[index]).type);
}

TEST(If, RunsTheBranchThatTheConditionChooses) {
  const Graph graph = parse_graph(R"(graph g(%c: bool[], %x: float32[n]) {
    %y = If(%c, %x) graph then(%a: float32[n]) { %b = Neg(%a) return %b } graph else(%a: float32[n]) { return %a }
    return %y
  })");
  EXPECT_EQ(output_type(graph), "float32[n]");
  const std::vector<Tensor> yes{flag(true), floats({2}, {1, -2})};
  EXPECT_EQ(interpret(graph, yes)[0].to_double(), (std::vector<double>{-1, 2}));
  const std::vector<Tensor> no{flag(false), floats({2}, {1, -2})};
  EXPECT_EQ(interpret(graph, no)[0].to_double(), (std::vector<double>{1, -2}));
}

TEST(If, BranchesOfDifferentSizesGiveABoundedSymbol) {
  const Graph graph = parse_graph(R"(graph g(%c: bool[], %x: float32[n, 2], %z: float32[3, 2]) {
    %y = If(%c, %x, %z)
      graph then(%a: float32[n, 2], %b: float32[3, 2]) { return %a }
      graph else(%a: float32[n, 2], %b: float32[3, 2]) { return %b }
    return %y
  })");
  EXPECT_EQ(output_type(graph), "float32[\"y#0\", 2]");
  EXPECT_EQ(graph.symbol_bounds.at("y#0"), Dim::max(Dim::symbol("n"), 3));
  const std::vector<Tensor> inputs{flag(true), floats({1, 2}, {5, 6}), floats({3, 2}, {0, 0, 0, 0, 0, 0})};
  EXPECT_EQ(interpret(graph, inputs)[0].shape(), (Shape{1, 2}));
}

TEST(If, BranchesOfDifferentRankAreRefusedWithAFix) {
  const std::string message = failure(Code::invalid_argument, [] {
    parse_graph(R"(graph g(%c: bool[], %x: float32[n, 2], %z: float32[3]) {
          %y = If(%c, %x, %z)
            graph then(%a: float32[n, 2], %b: float32[3]) { return %a }
            graph else(%a: float32[n, 2], %b: float32[3]) { return %b }
          return %y
        })");
  });  // the text reader's code
  EXPECT_NE(message.find("give the input a fixed shape"), std::string::npos) << message;
}

/// An If of a model file, with its branches as graph text and the outer values that both of them capture.
class ModelIf final : public ops_case::ModelNode {
 public:
  ModelIf(std::string then_text, std::string else_text)
      : ModelNode("If", 16, {}), texts_{{"then_branch", std::move(then_text)}, {"else_branch", std::move(else_text)}} {}
  Graph take_block(std::string_view attribute, std::span<const TensorType>, std::vector<ValueId>& captured) override {
    captured = captures;
    return parse_graph(texts_.at(std::string(attribute)));
  }
  std::vector<ValueId> captures;

 private:
  std::map<std::string, std::string> texts_;
};

constexpr const char* kSqueezing = "graph then(%a: float32[2, n]) { %b = Squeeze(%a) {axes=[1]} return %b }";
constexpr const char* kNothing = "graph else(%a: float32[2, n]) { return %a }";

TEST(If, ABranchThatTheConditionRulesOutIsNotImported) {
  ModelIf node(kNothing, "this is not looked at");
  node.with_constant(flag(true)).with_input({DType::float32, {2, Dim::symbol("n")}});
  node.captures = {node.input(1)};
  node.import();
  EXPECT_EQ(node.output(), node.input(1));
}

TEST(If, SqueezingAnAxisOfSizeOneIsCheckedWhenItRuns) {
  ModelIf node(kSqueezing, kNothing);
  const ValueId x = node.with_input({DType::float32, {2, Dim::symbol("n")}}).input(0);
  const ValueId sizes = node.add(make_op("Shape"), {x}, 1, {});
  const ValueId size = node.add(make_op("Gather"), {sizes, node.constant(integer(1))}, 1, {});
  node.with_condition(node.add(make_op("Equal"), {size, node.constant(integer(1))}, 1, {}));
  node.captures = {x};
  node.import();
  EXPECT_EQ(node.result(), "CheckedSqueeze{axis=1} -> float32[2]");
  const std::vector<Tensor> one{floats({2, 1}, {3, 4})};
  EXPECT_EQ(interpret(node.graph(), one)[0].to_double(), (std::vector<double>{3, 4}));
  const std::vector<Tensor> two{floats({2, 2}, {3, 4, 5, 6})};
  EXPECT_NE(failure(Code::invalid_argument, [&] { interpret(node.graph(), two); }).find("with a size of 2"),
            std::string::npos);
}

TEST(If, AnyOtherConditionOnASqueezeIsRefused) {
  ModelIf node(kSqueezing, kNothing);
  const ValueId x = node.with_input({DType::float32, {2, Dim::symbol("n")}}).input(0);
  const ValueId sizes = node.add(make_op("Shape"), {x}, 1, {});
  const ValueId size = node.add(make_op("Gather"), {sizes, node.constant(integer(1))}, 1, {});
  node.with_condition(node.add(make_op("Equal"), {size, node.constant(integer(2))}, 1, {}));
  node.captures = {x};
  EXPECT_NE(failure(Code::unsupported, [&] { node.import(); }).find("fixed shape"), std::string::npos);
}

// Doubles x as often as the trip count says; collects the values on the way.
constexpr const char* kDoubling = R"(graph g(%m: int64[], %x: float32[2]) {
  %last, %all = Loop(%m, _, %x) {num_carried=1}
    graph body(%i: int64[], %c: bool[], %a: float32[2]) { %b = Add(%a, %a) return %c, %b, %b }
  return %last, %all
})";

TEST(Loop, CarriesValuesAndStacksScanOutputs) {
  const Graph graph = parse_graph(kDoubling);
  EXPECT_EQ(output_type(graph, 0), "float32[2]");
  const std::vector<Tensor> inputs{integer(3), floats({2}, {1, -1})};
  const std::vector<Tensor> outputs = interpret(graph, inputs);
  EXPECT_EQ(outputs[0].to_double(), (std::vector<double>{8, -8}));
  EXPECT_EQ(outputs[1].shape(), (Shape{3, 2}));
  EXPECT_EQ(outputs[1].to_double(), (std::vector<double>{2, -2, 4, -4, 8, -8}));
}

TEST(Loop, WithoutIterationsGivesInitialValuesAndEmptyStacks) {
  const std::vector<Tensor> inputs{integer(0), floats({2}, {1, -1})};
  const std::vector<Tensor> outputs = interpret(parse_graph(kDoubling), inputs);
  EXPECT_EQ(outputs[0].to_double(), (std::vector<double>{1, -1}));
  EXPECT_EQ(outputs[1].shape(), (Shape{0, 2}));
}

TEST(Loop, AKnownTripCountGivesAKnownLength) {
  const Graph graph = parse_graph(R"(graph g(%x: float32[2]) {
    %m = constant int64[] data(4)
    %t = constant bool[] data(1)
    %last, %all = Loop(%m, %t, %x) {num_carried=1}
      graph body(%i: int64[], %c: bool[], %a: float32[2]) { %b = Add(%a, %a) return %c, %b, %b }
    return %all
  })");
  EXPECT_EQ(output_type(graph), "float32[4, 2]");
}

TEST(Loop, EndsWhenItsConditionTurnsFalse) {
  // Adds 1 until 5 is reached.
  const Graph graph = parse_graph(R"(graph g(%x: float32[]) {
    %one = constant float32[] data(1)
    %five = constant float32[] data(5)
    %last, %all = Loop(_, _, %x, %one, %five) {num_carried=1}
      graph body(%i: int64[], %c: bool[], %a: float32[], %one: float32[], %five: float32[]) {
        %b = Add(%a, %one)
        %go = Less(%b, %five)
        return %go, %b, %b
      }
    return %last, %all
  })");
  EXPECT_EQ(output_type(graph, 1), "float32[\"all#0\"]");
  const std::vector<Tensor> inputs{floats({}, {2})};
  const std::vector<Tensor> outputs = interpret(graph, inputs);
  EXPECT_EQ(outputs[0].to_double(), (std::vector<double>{5}));
  EXPECT_EQ(outputs[1].to_double(), (std::vector<double>{3, 4, 5}));
}

TEST(Loop, ACarriedValueThatGrowsGetsASymbol) {
  const Graph graph = parse_graph(R"(graph g(%m: int64[], %x: float32[1, 2], %y: float32[1, 2]) {
    %last = Loop(%m, _, %x, %y) {num_carried=1}
      graph body(%i: int64[], %c: bool[], %a: float32[1, 2], %b: float32[1, 2]) {
        scope "loop/"
        %d = Concat(%a, %b) {axis=0}
        return %c, %d
      }
    return %last
  })");
  EXPECT_EQ(output_type(graph), "float32[\"last#0\", 2]");
  const Graph& body = graph.producer(graph.outputs()[0])->blocks[0];
  EXPECT_EQ(to_string(body.value(body.inputs()[2]).type), "float32[\"loop/a#0\", 2]");
  EXPECT_EQ(to_string(body.value(body.outputs()[1]).type), "float32[\"loop/a#0\" + 1, 2]");
  const std::vector<Tensor> inputs{integer(2), floats({1, 2}, {1, 2}), floats({1, 2}, {3, 4})};
  EXPECT_EQ(interpret(graph, inputs)[0].to_double(), (std::vector<double>{1, 2, 3, 4, 3, 4}));
}

TEST(Loop, InferringAgainChangesNothing) {
  Graph graph = parse_graph(kDoubling);
  const Graph before = graph;
  graph.infer_types();
  for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(output_type(graph, i), output_type(before, i));
  graph.verify();
}

TEST(Loop, EndlessLoopsStopAtTheLimit) {
  const Graph graph = parse_graph(R"(graph g(%x: float32[]) {
    %last = Loop(_, _, %x) {num_carried=1} graph body(%i: int64[], %c: bool[], %a: float32[]) { return %c, %a }
    return %last
  })");
  const std::vector<Tensor> inputs{floats({}, {2})};
  const InterpretOptions options{.max_iterations = 100};
  EXPECT_NE(failure(Code::invalid_model, [&] { interpret(graph, inputs, options); }).find("100 iterations"),
            std::string::npos);
}

TEST(Scan, SumsAlongAnAxisInBothDirections) {
  const auto text = [](int direction) {
    return fmt::format(R"(graph g(%s: float32[2], %x: float32[n, 2]) {{
      %last, %all = Scan(%s, %x) {{num_carried=1, scan_input_axes=[0], scan_output_axes=[0], scan_input_directions=[{}],
                                  scan_output_directions=[{}]}}
        graph body(%a: float32[2], %b: float32[2]) {{ %c = Add(%a, %b) return %c, %c }}
      return %last, %all
    }})",
                       direction, direction);
  };
  const Graph forward = parse_graph(text(0));
  EXPECT_EQ(output_type(forward, 1), "float32[n, 2]");
  const std::vector<Tensor> inputs{floats({2}, {0, 0}), floats({3, 2}, {1, 10, 2, 20, 3, 30})};
  EXPECT_EQ(interpret(forward, inputs)[1].to_double(), (std::vector<double>{1, 10, 3, 30, 6, 60}));
  EXPECT_EQ(interpret(parse_graph(text(1)), inputs)[1].to_double(), (std::vector<double>{6, 60, 5, 50, 3, 30}));
}

TEST(Interpreter, AnInputOfAnotherShapeIsRefusedByName) {
  const Graph graph = parse_graph("graph g(%x: float32[n, n]) { %y = Neg(%x) return %y }");
  const std::vector<Tensor> inputs{floats({2, 3}, {1, 2, 3, 4, 5, 6})};
  EXPECT_NE(failure(Code::invalid_argument, [&] { interpret(graph, inputs); }).find("input 'x'"), std::string::npos);
}

TEST(Interpreter, ATensorBeyondTheLimitIsRefusedBeforeItIsMade) {
  const Graph graph = parse_graph("graph g(%x: float32[n, 1], %y: float32[1, m]) { %z = Add(%x, %y) return %z }");
  const std::vector<Tensor> inputs{Tensor(DType::float32, {1000, 1}), Tensor(DType::float32, {1, 1000})};
  const InterpretOptions options{.max_tensor_bytes = 1'000'000};
  failure(Code::out_of_memory, [&] { interpret(graph, inputs, options); });
}

TEST(Interpreter, SizesThatSymbolsLeftOpenAreChecked) {
  const Graph graph = parse_graph(R"(graph g(%x: float32[1, c, 4, 4]) {
    %w = constant float32[2, 3, 1, 1] ones
    %y = Conv(%x, %w) {strides=[1, 1]}
    return %y
  })");
  const std::vector<Tensor> inputs{Tensor(DType::float32, {1, 4, 4, 4})};
  EXPECT_NE(failure(Code::invalid_model, [&] { interpret(graph, inputs); }).find("expect 3 input channels, got 4"),
            std::string::npos);
}

TEST(Interpreter, StopsWhenTheCallbackSaysSo) {
  const Graph graph = parse_graph("graph g(%x: float32[1]) { %y = Neg(%x) %z = Abs(%y) return %z }");
  int calls = 0;
  InterpretOptions options;
  options.on_node = [&](const Node& node, std::span<const Tensor> outputs) {
    ++calls;
    EXPECT_EQ(node.name, "y");
    EXPECT_EQ(outputs[0].to_double(), (std::vector<double>{-3}));
    return false;
  };
  const std::vector<Tensor> inputs{floats({1}, {3})};
  EXPECT_TRUE(interpret(graph, inputs, options).empty());
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace tenfold
