// What an operator's import function sees of one node, whoever describes it: a model file (import/onnx) or a caller who
// builds a network by hand (import/network.cpp).
#pragma once

#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ops/registry.hpp"

namespace tenfold {

/// What is folded on the way: only what later nodes may need to know at import (shapes, axes, scales).
inline constexpr std::int64_t kMaxFoldedElements = 1024;

class NodeBuilder : public ImportNode {
 public:
  /// `label` names what is made; unique among the labels of the model. `wanted` tells which outputs are asked for.
  NodeBuilder(Graph& graph, std::string label, int opset, std::vector<ValueId> inputs, std::vector<bool> wanted)
      : graph_(graph),
        label_(std::move(label)),
        opset_(opset),
        inputs_(std::move(inputs)),
        wanted_(std::move(wanted)),
        outputs_(wanted_.size(), kNoValue) {}

  int opset() const override { return opset_; }
  const Attributes& attributes() const override { return attributes_; }
  int num_inputs() const override { return static_cast<int>(inputs_.size()); }
  int num_outputs() const override { return static_cast<int>(wanted_.size()); }
  bool has_input(int index) const override { return input(index) != kNoValue; }
  bool wants_output(int index) const override {
    return index >= 0 && index < num_outputs() && wanted_[static_cast<std::size_t>(index)];
  }
  ValueId input(int index) const override {
    return index >= 0 && index < num_inputs() ? inputs_[static_cast<std::size_t>(index)] : kNoValue;
  }
  std::vector<ValueId> inputs() const override { return inputs_; }
  const Graph& graph() const override { return graph_; }
  ValueId add(OpPtr op, std::vector<ValueId> inputs, int num_outputs, std::vector<Graph> blocks) override;
  ValueId constant(Tensor tensor) override;
  void set_output(int index, ValueId value) override;

  /// The value that became output `index`; throws Error(internal) if the import function set none.
  ValueId output(int index) const;
  /// Names output `index` if it was made for this node and the name is free.
  void name_output(int index, const std::string& name);
  /// Puts an Identity after output `index` if it is a value that was there before, so that the output is its own value.
  void separate_output(int index);

 protected:
  const std::string& label() const { return label_; }
  void set_attributes(Attributes attributes) { attributes_ = std::move(attributes); }

 private:
  ValueId fold(NodeId node);

  Graph& graph_;
  std::string label_;
  int opset_;
  std::vector<ValueId> inputs_;
  std::vector<bool> wanted_;
  std::vector<ValueId> outputs_;
  Attributes attributes_;
  std::set<ValueId> unnamed_;  // made for this node, not yet called as the model calls them
};

}  // namespace tenfold
