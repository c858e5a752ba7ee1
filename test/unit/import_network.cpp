// Networks made by hand or read from a model, through the public API.
#include <cstring>

#include <gtest/gtest.h>

#include "onnx_models.hpp"
#include "tenfold/network.hpp"

namespace tenfold {
namespace {

HostTensor floats(std::vector<std::int64_t> dims, std::vector<float> values) {
  const auto owner = std::make_shared<const std::vector<float>>(std::move(values));
  return {DType::float32, std::move(dims), owner->data(), owner->size() * sizeof(float), owner};
}

std::string message_of(const std::function<void()>& f, Code code) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.message();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

TEST(Network, TypesAreKnownAtOnceAndTheResultRuns) {
  Network network;
  const auto x = network.add_input("x", DType::float32, {{"batch"}, {2}});
  const auto w = network.add_constant(floats({2, 1}, {1, 10}), "w");
  const auto y = network.add_node("MatMul", {x, w}, {}, 1, "mul");
  EXPECT_EQ(network.value(y[0]).dim_names, (std::vector<std::string>{"batch", "1"}));
  EXPECT_EQ(network.value(y[0]).name, "mul");
  network.mark_output(y[0], "y");
  CompileOptions options;
  options.profiles = {{{"x", {{1, 2}, {1, 2}, {4, 2}}}}};
  const Engine engine = Engine::load(compile(network, "test", options));
  EXPECT_EQ(engine.outputs()[0].name, "y");
  Context context = engine.make_context();
  const float data[] = {1, 2, 3, 4};
  context.set_input("x", {2, 2}, data);
  EXPECT_EQ(context.output_dims("y"), (std::vector<std::int64_t>{2, 1}));
  context.run();
  const auto values = context.output("y").values<float>();
  EXPECT_EQ(std::vector<float>(values.begin(), values.end()), (std::vector<float>{21, 43}));
}

TEST(Network, AFailedNodeLeavesTheNetworkAsItWas) {
  Network network;
  const auto x = network.add_input("x", DType::float32, {{2}, {3}});
  const std::string text = message_of([&] { network.add_node("MatMul", {x, x}, {}, 1, "mul"); }, Code::invalid_model);
  EXPECT_TRUE(text.starts_with("node 'mul' (MatMul): ")) << text;
  EXPECT_EQ(network.num_nodes(), 0);
  EXPECT_FALSE(network.find_value("mul").has_value());
  message_of([&] { network.add_node("Nope", {x}); }, Code::unsupported);
  message_of([&] { network.add_node("Relu", {77}); }, Code::invalid_argument);
  message_of([&] { network.add_input("x", DType::float32, {}); }, Code::invalid_argument);
  EXPECT_EQ(network.value(network.add_node("Relu", {x}, {}, 1, "mul")[0]).name, "mul");
}

TEST(Network, ForgottenNodesCanBeAddedAnewUnderTheSameNames) {
  Network network;
  const auto x = network.add_input("x", DType::float32, {{2}, {3}});
  const auto c = network.add_constant(floats({1}, {2}), "c");
  network.add_node("Relu", {x}, {}, 1, "first");
  const auto folded = network.add_node("Neg", {c}, {}, 1, "folded");
  ASSERT_TRUE(network.constant(folded[0]).has_value());
  const auto scaled = network.add_node("Mul", {x, folded[0]}, {}, 1, "scaled");
  network.mark_output(scaled[0]);
  network.truncate(1);
  EXPECT_EQ(network.num_nodes(), 1);
  EXPECT_TRUE(network.outputs().empty());
  EXPECT_FALSE(network.has_value(folded[0]));
  EXPECT_TRUE(network.has_value(c));
  const auto again = network.add_node("Exp", {c}, {}, 1, "folded");
  EXPECT_EQ(network.value(again[0]).name, "folded");
  message_of([&] { compile(network, "test"); }, Code::invalid_argument);
}

TEST(Network, AResultThatIsAnInputIsAValueOfItsOwn) {
  Network network;
  const auto x = network.add_input("x", DType::float32, {{2}});
  const auto y = network.add_node("Identity", {x}, {}, 1, "same");
  EXPECT_NE(y[0], x);
  network.mark_output(y[0]);
  const Engine engine = Engine::load(compile(network, "test"));
  Context context = engine.make_context();
  const float data[] = {3, 4};
  context.set_input("x", {2}, data);
  context.run();
  EXPECT_EQ(context.output("same").values<float>()[1], 4);
}

TEST(Network, ShapeArithmeticIsVisible) {
  Network network;
  const auto x = network.add_input("x", DType::float32, {{-1}, {3}});
  const auto shape = network.add_node("Shape", {x});
  EXPECT_EQ(network.known_elements(shape[0]), (std::vector<std::string>{"\"x#0\"", "3"}));
}

TEST(Network, KeepsOneEntryForEachNodeOfAModelAndListsProblems) {
  onnx::ModelProto model = onnx::new_model();
  onnx::add_input(model, "x", {2});
  onnx::add_node(model, "Relu", {"x"}, {"a"}, "first");
  onnx::add_node(model, "Identity", {"a"}, {"b"}, "second");
  onnx::add_node(model, "Nope", {"b"}, {"c"}, "third");
  onnx::add_node(model, "Neg", {"c"}, {"d"}, "fourth");
  onnx::add_output(model, "d");
  onnx::add_output(model, "b");
  const std::string bytes = model.SerializeAsString();
  std::vector<ModelProblem> problems;
  Network network = Network::from_onnx(std::as_bytes(std::span(bytes)), "", problems);
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_EQ(problems[0].node, "third");
  EXPECT_EQ(problems[0].op_type, "Nope");
  EXPECT_EQ(problems[0].node_index, 2);
  EXPECT_EQ(network.model_nodes_supported(), (std::vector<bool>{true, true, false, true}));
  ASSERT_EQ(network.num_nodes(), 2);
  EXPECT_EQ(network.node(1).name, "second");
  EXPECT_EQ(network.value(network.node(1).outputs[0]).name, "b");
  EXPECT_EQ(network.node(1).inputs, network.node(0).outputs);
  // What could be read goes on as a network.
  const auto y = network.add_node("Neg", network.node(1).outputs, {}, 1, "own");
  network.mark_output(y[0]);
  const Engine engine = Engine::load(compile(network, "test"));
  ASSERT_EQ(engine.outputs().size(), 2U);
  EXPECT_EQ(engine.outputs()[1].name, "own");
}

}  // namespace
}  // namespace tenfold
