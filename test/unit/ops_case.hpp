// Short ways to make tensors, evaluate one operator, import one model node and look at inferred types.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "ops/interpreter.hpp"
#include "ops/registry.hpp"
#include "support/failure.hpp"

namespace tenfold::ops_case {

template <typename T>
Tensor tensor_of(DType dtype, Shape shape, std::initializer_list<T> values) {
  Tensor tensor(dtype, std::move(shape));
  EXPECT_EQ(tensor.num_elements(), static_cast<std::int64_t>(values.size()));
  std::copy(values.begin(), values.end(), reinterpret_cast<T*>(tensor.mutable_data()));
  return tensor;
}
inline Tensor floats(Shape shape, std::initializer_list<float> values) {
  return tensor_of<float>(DType::float32, std::move(shape), values);
}
inline Tensor ints(Shape shape, std::initializer_list<std::int64_t> values) {
  return tensor_of<std::int64_t>(DType::int64, std::move(shape), values);
}
inline Tensor int32s(Shape shape, std::initializer_list<std::int32_t> values) {
  return tensor_of<std::int32_t>(DType::int32, std::move(shape), values);
}
inline Tensor bools(Shape shape, std::initializer_list<bool> values) {
  return tensor_of<bool>(DType::boolean, std::move(shape), values);
}
/// 0, 1, 2, ...
inline Tensor iota(Shape shape) {
  Tensor tensor(DType::float32, std::move(shape));
  float next = 0;
  for (float& element : tensor.as_mutable<float>()) element = next++;
  return tensor;
}

inline std::vector<float> values(const Tensor& tensor) {
  const auto elements = tensor.as<float>();
  return {elements.begin(), elements.end()};
}

/// Evaluates one operator. An empty tensor is an omitted input.
inline std::vector<Tensor> evaluate_all(std::string_view type, const Attributes& attributes,
                                        const std::vector<Tensor>& inputs, int num_outputs = 1) {
  Graph graph;
  std::vector<ValueId> ids;
  std::vector<const Tensor*> operands;
  for (const Tensor& input : inputs) {
    ids.push_back(input.empty() ? kNoValue : graph.add_constant("c", input));
    operands.push_back(input.empty() ? nullptr : &input);
  }
  const NodeId id = graph.add_node(make_op(type, attributes), ids, num_outputs, "node");
  graph.infer_types(id);
  std::vector<TensorType> types;
  for (const ValueId output : graph.node(id).outputs) types.push_back(graph.value(output).type);
  return evaluate_node(graph.node(id), operands, types);
}
inline Tensor evaluate(std::string_view type, const Attributes& attributes, const std::vector<Tensor>& inputs) {
  return evaluate_all(type, attributes, inputs).at(0);
}

/// "float32[batch, 3]", and for known integers " = [batch, 3]" after it.
inline std::string describe_value(const Graph& graph, ValueId id) {
  const Value& value = graph.value(id);
  std::string text = to_string(value.type);
  if (value.integers) text += " = " + to_string(*value.integers);
  return text;
}
/// What inference finds for the graph's first output.
inline std::string inferred(std::string_view text) {
  const Graph graph = parse_graph(text);
  return describe_value(graph, graph.outputs().at(0));
}

using test::failure;

/// A model's node over a graph of its own.
class ModelNode : public ImportNode {
 public:
  ModelNode(std::string op_type, int opset, Attributes attributes, int num_outputs = 1)
      : op_type_(std::move(op_type)), opset_(opset), attributes_(std::move(attributes)) {
    outputs_.resize(static_cast<std::size_t>(num_outputs), kNoValue);
  }
  ModelNode& with_input(TensorType type) {
    inputs_.push_back(graph_.add_input("x", std::move(type)));
    return *this;
  }
  ModelNode& with_constant(Tensor tensor) {
    inputs_.push_back(graph_.add_constant("c", std::move(tensor)));
    return *this;
  }
  /// Puts `value`, computed from the inputs so far, before them.
  ModelNode& with_condition(ValueId value) {
    inputs_.insert(inputs_.begin(), value);
    return *this;
  }
  ModelNode& without_input() {
    inputs_.push_back(kNoValue);
    return *this;
  }
  /// Imports and drops what is not needed.
  ModelNode& import() {
    const OpDef* def = find_op(op_type_);
    EXPECT_NE(def, nullptr) << op_type_;
    def->import_onnx(*this);
    graph_.set_outputs(outputs_);
    graph_.remove_dead();
    return *this;
  }
  ValueId output(int index = 0) const { return outputs_.at(static_cast<std::size_t>(index)); }
  /// "Reshape {dims=["2"]} -> float32[2]" of the node that computes the output.
  std::string result(int index = 0) const {
    const Node* node = graph_.producer(output(index));
    const std::string what = node == nullptr ? "" : std::string(node->op->type()) + node->op->attributes().to_string();
    return what + " -> " + describe_value(graph_, output(index));
  }

  std::string_view op_type() const override { return op_type_; }
  std::string_view domain() const override { return ""; }
  int opset() const override { return opset_; }
  const Attributes& attributes() const override { return attributes_; }
  int num_inputs() const override { return static_cast<int>(inputs_.size()); }
  int num_outputs() const override { return static_cast<int>(outputs_.size()); }
  bool has_input(int index) const override { return input(index) != kNoValue; }
  bool wants_output(int index) const override { return index < num_outputs(); }
  ValueId input(int index) const override {
    return index < num_inputs() ? inputs_[static_cast<std::size_t>(index)] : kNoValue;
  }
  std::vector<ValueId> inputs() const override { return inputs_; }
  Graph take_block(std::string_view, std::span<const TensorType>, std::vector<ValueId>&) override { return {}; }
  const Graph& graph() const override { return graph_; }
  ValueId add(OpPtr op, std::vector<ValueId> inputs, int num_outputs, std::vector<Graph> blocks) override {
    const NodeId id = graph_.add_node(std::move(op), std::move(inputs), num_outputs, "node", {}, std::move(blocks));
    graph_.infer_types(id);
    return graph_.node(id).outputs.front();
  }
  ValueId constant(Tensor tensor) override { return graph_.add_constant("c", std::move(tensor)); }
  void set_output(int index, ValueId value) override { outputs_.at(static_cast<std::size_t>(index)) = value; }

 private:
  std::string op_type_;
  int opset_;
  Attributes attributes_;
  Graph graph_;
  std::vector<ValueId> inputs_;
  std::vector<ValueId> outputs_;
};

}  // namespace tenfold::ops_case
