// Which values between steps become bfloat16, and that the graph computes the same up to their rounding.
#include <gtest/gtest.h>

#include "graph/text.hpp"
#include "kernel_case.hpp"
#include "ops/interpreter.hpp"
#include "ops/registry.hpp"
#include "passes/bfloat16_values.hpp"

namespace tenfold {
namespace {

bool always(const Node&, const std::vector<TensorType>&, const std::vector<TensorType>&) { return true; }

Graph parsed(const std::string& body, const std::string& inputs = "%x: float32[n, 8, 8, 32]") {
  return parse_graph("graph net(" + inputs + ") {\n" + body + "}\n", make_op);
}
constexpr const char* kWeights = "  %w = constant float32[32, 32, 1, 1] random(1)\n";

DType dtype_of(const Graph& graph, const std::string& name) {
  return graph.value(graph.find_value(name).value()).type.dtype;
}
/// Largest difference of the first output after the pass, over its largest size; 8 samples, all else as declared.
double distance(const Graph& before, const Graph& after) {
  const Tensor x = random_tensor(DType::float32, {2, 8, 8, 32}, 3, -1, 1);
  const auto run = [&](const Graph& graph) { return interpret(graph, {&x, 1})[0].to_double(); };
  const std::vector<double> wanted = run(before), got = run(after);
  double most = 0, size = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    most = std::max(most, std::abs(got[i] - wanted[i]));
    size = std::max(size, std::abs(wanted[i]));
  }
  return most / size;
}

TEST(Bfloat16Values, BetweenProducts) {
  Graph graph = parsed(std::string(kWeights) + R"(  %a = Conv(%x, %w) {layout="nhwc", strides=[1, 1], epilogue="relu 0"}
  %b = Conv(%a, %w) {layout="nhwc", strides=[1, 1]}
  return %b
)");
  const Graph before = graph;
  EXPECT_EQ(store_as_bfloat16(graph, always), 1);
  graph.verify();
  EXPECT_EQ(dtype_of(graph, "a"), DType::bfloat16);
  EXPECT_EQ(dtype_of(graph, "b"), DType::float32) << "an output keeps its type";
  // Two roundings to 8 bits for each of 32 products.
  EXPECT_LT(distance(before, graph), 4 * 0x1p-8);
  EXPECT_EQ(store_as_bfloat16(graph, always), 0) << "again";
}

TEST(Bfloat16Values, ThroughWhatMovesElements) {
  Graph graph = parsed(std::string(kWeights) + R"(  %v = constant float32[32, 64, 3, 3] random(2)
  %a = Conv(%x, %w) {layout="nhwc", strides=[1, 1]}
  %p = MaxPool(%a) {layout="nhwc", strides=[1, 1], kernel_shape=[3, 3], pads=[1, 1, 1, 1]}
  %c = Concat(%p, %a) {axis=3}
  %b = Conv(%c, %v) {layout="nhwc", strides=[1, 1], pads=[1, 1, 1, 1]}
  return %b
)");
  const Graph before = graph;
  EXPECT_EQ(store_as_bfloat16(graph, always), 3);
  graph.verify();
  for (const char* name : {"a", "p", "c"}) EXPECT_EQ(dtype_of(graph, name), DType::bfloat16) << name;
  EXPECT_LT(distance(before, graph), 4 * 0x1p-8);
}

TEST(Bfloat16Values, ResidualsOfTheResultsShape) {
  Graph graph = parsed(std::string(kWeights) + R"(  %a = Conv(%x, %w) {layout="nhwc", strides=[1, 1]}
  %b = Conv(%a, %w, _, %a) {layout="nhwc", strides=[1, 1], epilogue="add 0 1; relu 2", epilogue_inputs=1}
  %c = Conv(%b, %w) {layout="nhwc", strides=[1, 1]}
  return %c
)");
  const Graph before = graph;
  EXPECT_EQ(store_as_bfloat16(graph, always), 2);
  graph.verify();
  EXPECT_LT(distance(before, graph), 8 * 0x1p-8);
}

TEST(Bfloat16Values, AllOfASetOrNone) {
  // Another reader of any member keeps the whole set.
  Graph graph = parsed(std::string(kWeights) + R"(  %v = constant float32[32, 64, 1, 1] random(2)
  %a = Conv(%x, %w) {layout="nhwc", strides=[1, 1]}
  %b = Conv(%x, %w) {layout="nhwc", strides=[1, 1], epilogue="relu 0"}
  %c = Concat(%a, %b) {axis=3}
  %d = Conv(%c, %v) {layout="nhwc", strides=[1, 1]}
  %s = Softmax(%a) {axis=3}
  return %d, %s
)");
  EXPECT_EQ(store_as_bfloat16(graph, always), 0);
  EXPECT_EQ(dtype_of(graph, "c"), DType::float32);
}

TEST(Bfloat16Values, NeitherInputsNorOutputsNorWhatHasNoKernel) {
  const std::string body = std::string(kWeights) + R"(  %a = Conv(%x, %w) {layout="nhwc", strides=[1, 1]}
  %b = Conv(%a, %w) {layout="nhwc", strides=[1, 1]}
  return %b, %a
)";
  Graph outputs = parsed(body);
  EXPECT_EQ(store_as_bfloat16(outputs, always), 0);
  Graph moved_input = parsed(std::string(kWeights) + R"(  %t = Transpose(%x) {perm=[0, 2, 1, 3]}
  %b = Conv(%t, %w) {layout="nhwc", strides=[1, 1]}
  return %b
)");
  EXPECT_EQ(store_as_bfloat16(moved_input, always), 0);
  Graph refused = parsed(std::string(kWeights) + R"(  %a = Conv(%x, %w) {layout="nhwc", strides=[1, 1]}
  %p = MaxPool(%a) {layout="nhwc", strides=[1, 1], kernel_shape=[2, 2]}
  %b = Conv(%p, %w) {layout="nhwc", strides=[1, 1]}
  return %b
)");
  const auto no_pools = [](const Node& node, const auto& inputs, const auto&) {
    EXPECT_EQ(inputs[0].dtype, DType::bfloat16);
    return node.op->type() != "MaxPool";
  };
  EXPECT_EQ(store_as_bfloat16(refused, no_pools), 0);
}

TEST(Bfloat16Values, SmallProductsStay) {
  // One row, and a depth of half a tile.
  Graph rows = parsed(std::string(kWeights) + R"(  %a = Conv(%x, %w) {layout="nhwc", strides=[1, 1]}
  %b = Conv(%a, %w) {layout="nhwc", strides=[1, 1]}
  return %b
)",
                      "%x: float32[1, 1, 1, 32]");
  EXPECT_EQ(store_as_bfloat16(rows, always), 0);
  Graph depth = parsed(R"(  %w = constant float32[16, 16, 1, 1] random(1)
  %a = Conv(%x, %w) {layout="nhwc", strides=[1, 1]}
  %b = Conv(%a, %w) {layout="nhwc", strides=[1, 1]}
  return %b
)",
                       "%x: float32[1, 8, 8, 16]");
  EXPECT_EQ(store_as_bfloat16(depth, always), 0);
}

TEST(Bfloat16Values, MatrixProducts) {
  Graph graph = parsed(R"(  %w = constant float32[64, 128] random(1)
  %v = constant float32[64, 128] random(2)
  %b = constant float32[128] random(3)
  %h = MatMul(%x, %w, %b) {epilogue="add 0 1; gelu 2", epilogue_inputs=1}
  %y = MatMul(%h, %v) {trans_b=1}
  return %y
)",
                       "%x: float32[n, 64]");
  EXPECT_EQ(store_as_bfloat16(graph, always), 1);
  graph.verify();
  EXPECT_EQ(dtype_of(graph, "h"), DType::bfloat16);
  EXPECT_EQ(dtype_of(graph, "y"), DType::float32);
  EXPECT_EQ(dtype_of(graph, "b"), DType::float32) << "biases stay";
}

TEST(Bfloat16Values, NormalizationsKeepFloat32) {
  Graph graph = parsed(R"(  %w = constant float32[64, 64] random(1)
  %s = constant float32[64] random(2)
  %a = MatMul(%x, %w)
  %h = LayerNormalization(%a, %s)
  %y = MatMul(%h, %w, %h) {epilogue="add 0 1", epilogue_inputs=1}
  return %y
)",
                       "%x: float32[n, 64]");
  EXPECT_EQ(store_as_bfloat16(graph, always), 0);
}

}  // namespace
}  // namespace tenfold
