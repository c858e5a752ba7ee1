// Float16 where it is safe. Two passes frame all others, whose rules speak of float32:
//   widen_float16    float16 becomes float32, as if the model had been exported so
//   narrow_float32   operators that lose little compute on float16 again; around the others stand Casts
// Safe are operators whose results are about as large as their operands, and whose kernels accumulate in float32:
// products, convolutions, norms, softmax, attention, pooling, and what moves elements. Sums, powers, exponentials and
// angles stay float32: they leave the range of float16 (65504), or its 11 bits cannot hold their operands.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "ops/registry.hpp"
#include "passes/match.hpp"
#include "passes/passes.hpp"

namespace tenfold {
namespace {

constexpr float kLargestHalf = 65504;

const std::set<std::string_view> kSafe = {"Abs",
                                          "Add",
                                          "AveragePool",
                                          "Clip",
                                          "Concat",
                                          "Conv",
                                          "ConvTranspose",
                                          "DepthToSpace",
                                          "Elu",
                                          "Erf",
                                          "Expand",
                                          "FusedAttention",
                                          "Gather",
                                          "Gelu",
                                          "GroupNormalization",
                                          "HardSigmoid",
                                          "HardSwish",
                                          "InstanceNormalization",
                                          "LayerNormalization",
                                          "LeakyRelu",
                                          "LogSoftmax",
                                          "MatMul",
                                          "Max",
                                          "MaxPool",
                                          "Min",
                                          "Mish",
                                          "Mul",
                                          "Neg",
                                          "PRelu",
                                          "Pad",
                                          "Pointwise",
                                          "RMSNormalization",
                                          "ReduceMax",
                                          "ReduceMean",
                                          "ReduceMin",
                                          "Relu",
                                          "Reshape",
                                          "Resize",
                                          "Selu",
                                          "Sigmoid",
                                          "Slice",
                                          "Softmax",
                                          "Softplus",
                                          "Softsign",
                                          "SpaceToDepth",
                                          "Split",
                                          "Squeeze",
                                          "Sub",
                                          "Swish",
                                          "Tanh",
                                          "Tile",
                                          "Transpose",
                                          "Unsqueeze",
                                          "Where"};

/// A constant so large stands for "infinitely far": the nearest float16 does as well. Elsewhere it is a number.
const std::set<std::string_view> kSaturating = {"Add", "Clip", "FusedAttention", "Max", "Min", "Where"};

/// Instructions of a pointwise program that are not safe.
bool has_unsafe_program(const Node& node) {
  static constexpr std::array<std::string_view, 7> kUnsafe = {"exp ", "log ", "pow ",       "sin ",
                                                              "cos ", "div ", "reciprocal "};
  const Attributes attributes = node.op->attributes();
  const std::string program = attributes.get_string("program", "") + "; " + attributes.get_string("epilogue", "");
  return std::any_of(kUnsafe.begin(), kUnsafe.end(), [&](std::string_view name) {
    // At the beginning of an instruction: "hardsigmoid" is none of them.
    return program.starts_with(name) || program.find("; " + std::string(name)) != std::string::npos;
  });
}

bool is_quantised(DType dtype) { return dtype == DType::int8 || dtype == DType::uint8 || dtype == DType::float8e4m3; }

bool has_blocks(const Graph& graph) {
  for (NodeId id = 0; id < graph.node_limit(); ++id) {
    if (graph.is_alive_node(id) && !graph.node(id).blocks.empty()) return true;
  }
  return false;
}

OpPtr cast_to(DType dtype) { return make_op("Cast", {{"to", std::string(to_string(dtype))}}); }

ValueId add_cast(Graph& graph, ValueId value, DType dtype) {
  const std::string name = graph.value(value).name + "/" + std::string(to_string(dtype));
  const NodeId id = graph.add_node(cast_to(dtype), {value}, 1, name);
  graph.infer_types(id);
  return graph.node(id).outputs[0];
}

class Narrowing {
 public:
  explicit Narrowing(Graph& graph) : graph_(graph) {
    for (ValueId id = 0; id < graph.value_limit(); ++id) {
      before_.push_back(graph.is_alive_value(id) ? graph.value(id).type.dtype : DType::undefined);
    }
  }

  int run() {
    int changes = 0;
    std::vector<DType> wanted;
    for (const ValueId output : graph_.outputs()) wanted.push_back(dtype(output));
    for (const NodeId id : graph_.order()) {
      const Node& node = graph_.node(id);
      if (is(node, "Cast") && dtype(node.inputs[0]) == DType::float16) {
        // Whatever it converts to, it can read float16; to float16 there is nothing left to do.
        if (dtype(node.outputs[0]) == DType::float16) graph_.replace_uses(node.outputs[0], node.inputs[0]);
        continue;
      }
      if (is_narrowed(id)) {
        ++changes;
      } else {
        keep(id);
      }
      graph_.infer_types(id);
    }
    std::vector<ValueId> outputs = graph_.outputs();
    const std::vector<std::string> names = graph_.output_names();
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (wanted[i] == DType::float32 && dtype(outputs[i]) == DType::float16) outputs[i] = as_single(outputs[i]);
    }
    graph_.set_outputs(std::move(outputs), names);
    graph_.remove_dead();
    return changes;
  }

 private:
  DType dtype(ValueId id) const { return graph_.value(id).type.dtype; }
  DType was(ValueId id) const {
    return static_cast<std::size_t>(id) < before_.size() ? before_[static_cast<std::size_t>(id)] : dtype(id);
  }
  /// Only the image of a Resize is data; its other operands are scales and sizes.
  static std::size_t num_data_inputs(const Node& node) {
    return is(node, "Resize") ? std::min<std::size_t>(1, node.inputs.size()) : node.inputs.size();
  }

  /// Gives the node float16 operands, if it is safe and has any of float32.
  bool is_narrowed(NodeId id) {
    const Node node = graph_.node(id);  // a copy: Casts are added meanwhile
    const std::string type(node.op->type());
    if (!kSafe.contains(type) || !node.blocks.empty() || has_unsafe_program(node)) return false;
    const auto is_byte = [this](ValueId value) { return value != kNoValue && is_quantised(was(value)); };
    const bool reads_bytes = is_byte(node.inputs[0]);
    if (reads_bytes && is_one_of(node, {"Conv", "MatMul"})) return stores_half(id);
    if (reads_bytes && type != "Pointwise") return false;
    // A program that gives quantised numbers reads its operands as they come: rounding them first would gain nothing.
    if (type == "Pointwise" && is_byte(node.outputs[0])) return false;
    std::vector<ValueId> inputs = node.inputs;
    bool is_changed = reads_bytes && was(node.outputs[0]) == DType::float32;
    for (std::size_t i = 0; i < num_data_inputs(node); ++i) {
      if (inputs[i] == kNoValue || was(inputs[i]) != DType::float32) continue;
      const std::optional<ValueId> half = as_half(inputs[i], kSaturating.contains(type));
      if (!half) return false;
      inputs[i] = *half;
      is_changed = true;
    }
    if (!is_changed) return false;
    graph_.node(id).inputs = std::move(inputs);
    if (type == "Pointwise" && was(node.outputs[0]) == DType::float32)
      graph_.node(id).op = with_attributes(*node.op, {{"to", std::string("float16")}});
    return true;
  }

  /// A product of quantised numbers has scales, which float16 could not hold, but its epilogue reads and stores any
  /// type.
  bool stores_half(NodeId id) {
    Node& node = graph_.node(id);
    const std::vector<ValueId>& outputs = graph_.outputs();
    const bool is_result = std::find(outputs.begin(), outputs.end(), node.outputs[0]) != outputs.end();
    if (was(node.outputs[0]) != DType::float32 || is_result) return false;
    node.op = with_attributes(*node.op, {{"to", std::string("float16")}});
    return true;
  }

  /// Gives the node the float32 operands that it had.
  void keep(NodeId id) {
    const Node& node = graph_.node(id);
    // Programs read any type, and compute in float32; so do the epilogues of quantised products.
    const bool is_quantised_product = is_one_of(node, {"Conv", "MatMul"}) && is_quantised(dtype(node.inputs[0]));
    if (is(node, "Pointwise") || is_quantised_product) return;
    std::vector<ValueId> inputs = graph_.node(id).inputs;
    for (ValueId& input : inputs) {
      if (input == kNoValue || dtype(input) != DType::float16 || was(input) != DType::float32) continue;
      input = as_single(input);
    }
    graph_.node(id).inputs = std::move(inputs);
  }

  std::optional<ValueId> as_half(ValueId value, bool saturates) {
    if (dtype(value) == DType::float16) return value;
    const auto known = halves_.find({value, saturates});
    if (known != halves_.end()) return known->second;
    std::optional<ValueId> result;
    if (const Tensor* constant = graph_.constant(value)) {
      if (auto tensor = half_of(*constant, saturates)) {
        result = graph_.add_constant(graph_.value(value).name + "/float16", std::move(*tensor));
      }
    } else {
      // A Cast to float32 of a float16 value needs no way back; of any other it goes to float16 at once.
      const Node* producer = graph_.producer(value);
      const bool is_cast = is(producer, "Cast") && dtype(producer->inputs[0]) != DType::float64;
      const ValueId source = is_cast ? producer->inputs[0] : value;
      result = dtype(source) == DType::float16 ? source : add_cast(graph_, source, DType::float16);
    }
    halves_[{value, saturates}] = result;
    return result;
  }

  ValueId as_single(ValueId value) {
    const auto [entry, is_new] = singles_.try_emplace(value, kNoValue);
    if (is_new) entry->second = add_cast(graph_, value, DType::float32);
    return entry->second;
  }

  static std::optional<Tensor> half_of(const Tensor& tensor, bool saturates) {
    Tensor result(DType::float16, tensor.shape());
    const auto from = tensor.as<float>();
    auto to = result.as_mutable<Float16>();
    for (std::size_t i = 0; i < from.size(); ++i) {
      float x = from[i];
      if (std::isfinite(x) && std::abs(x) > kLargestHalf) {
        if (!saturates) return std::nullopt;
        x = std::copysign(kLargestHalf, x);
      }
      to[i] = Float16(x);
    }
    return result;
  }

  Graph& graph_;
  std::vector<DType> before_;  // by value
  std::map<std::pair<ValueId, bool>, std::optional<ValueId>> halves_;
  std::map<ValueId, ValueId> singles_;
};

Tensor widened(const Tensor& tensor) {
  Tensor result(DType::float32, tensor.shape());
  const auto from = tensor.as<Float16>();
  auto to = result.as_mutable<float>();
  for (std::size_t i = 0; i < from.size(); ++i) to[i] = static_cast<float>(from[i]);
  return result;
}

}  // namespace

int widen_float16(Graph& graph) {
  if (has_blocks(graph)) return 0;
  int changes = 0;
  std::vector<bool> was_half_output;
  for (const ValueId output : graph.outputs()) {
    was_half_output.push_back(graph.value(output).type.dtype == DType::float16);
  }
  const std::vector<NodeId> order = graph.order();
  for (ValueId id = 0, limit = graph.value_limit(); id < limit; ++id) {
    if (!graph.is_alive_value(id) || graph.constant(id) == nullptr) continue;
    if (graph.value(id).type.dtype != DType::float16) continue;
    graph.value(id).constant = widened(*graph.constant(id));
    graph.value(id).type.dtype = DType::float32;
    ++changes;
  }
  const auto widen = [&graph, &changes](ValueId id) {
    const NodeId cast = graph.add_node(cast_to(DType::float32), {id}, 1, graph.value(id).name + "/float32");
    const ValueId wide = graph.node(cast).outputs[0];
    graph.replace_uses(id, wide);
    graph.node(cast).inputs = {id};
    graph.infer_types(cast);
    ++changes;
  };
  for (const ValueId id : graph.inputs()) {
    if (graph.value(id).type.dtype == DType::float16) widen(id);
  }
  for (const NodeId id : order) {
    if (is(graph.node(id), "Cast") && graph.value(graph.node(id).outputs[0]).type.dtype == DType::float16) {
      graph.node(id).op = cast_to(DType::float32);
    }
    graph.infer_types(id);
    const std::vector<ValueId> outputs = graph.node(id).outputs;
    for (const ValueId output : outputs) {  // operators that say float16 themselves
      if (output != kNoValue && graph.value(output).type.dtype == DType::float16) widen(output);
    }
  }
  std::vector<ValueId> outputs = graph.outputs();
  const std::vector<std::string> names = graph.output_names();
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (was_half_output[i]) outputs[i] = add_cast(graph, outputs[i], DType::float16);
  }
  graph.set_outputs(std::move(outputs), names);
  return changes;
}

int narrow_float32(Graph& graph) { return has_blocks(graph) ? 0 : Narrowing(graph).run(); }

}  // namespace tenfold
