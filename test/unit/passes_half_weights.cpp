#include <array>

#include <gtest/gtest.h>

#include "graph/text.hpp"
#include "ops/registry.hpp"
#include "passes/half_weights.hpp"

namespace tenfold {
namespace {

Graph network(float largest) {
  Graph graph = parse_graph(R"(graph net(%x: float32[2, 16]) {
  %w = constant float32[16, 16] iota
  %b = constant float32[16] iota
  %y: float32[2, 16] = MatMul(%x, %w)
  %z: float32[2, 16] = Add(%y, %b)
  return %z
})");
  graph.node(graph.value(graph.find_value("y").value()).producer).origins = {"model/dense"};
  Tensor weights(DType::float32, {16, 16});
  std::size_t i = 0;
  for (float& w : weights.as_mutable<float>()) w = 0.1F * static_cast<float>(i++);
  weights.as_mutable<float>()[0] = largest;
  graph.value(graph.find_value("w").value()).constant = std::move(weights);
  return graph;
}

std::span<const float> weights_of(const Graph& graph) {
  return graph.constant(graph.find_value("w").value())->as<float>();
}

TEST(HalfWeightsPass, RoundsWeightsOfProductsToElevenBits) {
  Graph graph = network(1);
  EXPECT_EQ(round_weights_to_half(graph, {}), 1);
  for (const float w : weights_of(graph)) EXPECT_EQ(static_cast<float>(Float16(w)), w);
  EXPECT_NEAR(weights_of(graph)[200], 20.0F, 20.0F / 2048);
  EXPECT_EQ(round_weights_to_half(graph, {}), 1);  // the same again
}

TEST(HalfWeightsPass, KeepsNamedNodesAndWhatDoesNotFit) {
  const std::array<std::string, 1> keep = {"model/dense"};
  Graph kept = network(1);
  EXPECT_EQ(round_weights_to_half(kept, keep), 0);
  EXPECT_EQ(weights_of(kept)[3], 0.1F * 3);
  Graph large = network(70000);
  EXPECT_EQ(round_weights_to_half(large, {}), 0);
  EXPECT_EQ(weights_of(large)[0], 70000);
}

}  // namespace
}  // namespace tenfold
