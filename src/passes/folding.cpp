// Folding: what can be computed now is computed now. Constants go through the reference operators; integers that are
// known as expressions of sizes become DimValues or attributes, so that no shape arithmetic is left to run.
#include <algorithm>
#include <array>

#include "ops/interpreter.hpp"
#include "ops/registry.hpp"
#include "passes/match.hpp"
#include "passes/passes.hpp"

namespace tenfold {
namespace {

// A folded constant may be this large, or as large as what it is computed from: Expand and its like must not turn a few
// bytes of model into many bytes of engine.
constexpr std::int64_t kMaxFoldedBytes = std::int64_t{4} << 20;
// The plain references are slow; more work than this is left to run time, where kernels do it.
constexpr double kMaxFoldedFlops = 1e9;

/// A node that reads only constants becomes constants.
std::optional<Patch> fold_constants(const GraphView& graph, const Node& node) {
  if (!node.op->is_pure() || node.outputs.empty()) return std::nullopt;
  std::vector<const Tensor*> inputs;
  std::vector<TensorType> input_types;
  std::int64_t input_bytes = 0;
  for (const ValueId input : node.inputs) {
    const Tensor* tensor = graph.constant(input);
    if (tensor == nullptr && input != kNoValue) return std::nullopt;
    inputs.push_back(tensor);
    input_types.push_back(tensor == nullptr ? TensorType{} : tensor->type());
    if (tensor != nullptr) input_bytes += static_cast<std::int64_t>(tensor->size_bytes());
  }
  std::vector<TensorType> output_types;
  std::int64_t output_bytes = 0;
  for (const ValueId output : node.outputs) {
    output_types.push_back(output == kNoValue ? TensorType{} : graph.type(output));
    if (output == kNoValue || !output_types.back().is_static()) continue;
    output_bytes += num_elements(output_types.back().static_shape()) *
                    static_cast<std::int64_t>(size_of(output_types.back().dtype));
  }
  // Integer weights with scales run fastest as the floats they stand for.
  const std::int64_t growth = is(node, "DequantizeLinear") ? 8 : 1;
  const std::int64_t limit = std::max(kMaxFoldedBytes, growth * input_bytes);
  if (output_bytes > limit || node.op->flops(input_types, output_types) > kMaxFoldedFlops) return std::nullopt;
  if (is(node, "DimValues")) return std::nullopt;  // fold_known_integers knows them
  std::vector<Tensor> results;
  try {
    InterpretOptions options;
    options.max_tensor_bytes = limit;
    options.max_iterations = 1000;
    results = evaluate_node(node, inputs, output_types, options);
  } catch (const Error&) {
    return std::nullopt;  // what cannot be computed now says why when it runs, if it runs
  }
  Patch patch(graph, node);
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNoValue) continue;
    patch.replace(node.outputs[i], patch.constant(graph.value(node.outputs[i]).name, std::move(results[i])));
  }
  return patch;
}

Tensor integer_tensor(DType dtype, const Shape& shape, const std::vector<std::int64_t>& values) {
  Tensor tensor(dtype, shape);
  dispatch(dtype, [&]<typename T>() {
    if constexpr (std::is_integral_v<T>) {
      auto elements = tensor.as_mutable<T>();
      for (std::size_t i = 0; i < values.size(); ++i) elements[i] = static_cast<T>(values[i]);
    }
  });
  return tensor;
}

/// An integer value whose elements inference knows becomes a constant, or DimValues where symbols are in it.
std::optional<Patch> fold_known_integers(const GraphView& graph, const Node& node) {
  Patch patch(graph, node);
  bool any = false;
  for (const ValueId output : node.outputs) {
    if (output == kNoValue || graph.num_uses(output) == 0) continue;
    const Value& value = graph.value(output);
    const bool is_whole = is_integer(value.type.dtype) || value.type.dtype == DType::boolean;
    if (!value.integers || !is_whole || !value.type.is_static()) continue;
    const Shape shape = value.type.static_shape();
    if (const auto numbers = known_integers(graph, output)) {
      patch.replace(output, patch.constant(value.name, integer_tensor(value.type.dtype, shape, *numbers)));
      any = true;
      continue;
    }
    const bool fits = value.type.dtype == DType::int64 || value.type.dtype == DType::int32;
    if (!fits || is(node, "DimValues") || shape.size() > 1 || !can_be_stored(graph, *value.integers)) continue;
    const OpPtr op = make_op("DimValues", {{"elements", dim_texts(*value.integers)},
                                           {"shape", shape},
                                           {"dtype", std::string(to_string(value.type.dtype))}});
    patch.replace(output, patch.add(op, {}, 1, value.name));
    any = true;
  }
  if (!any) return std::nullopt;
  return patch;
}

/// Reshape, Expand and ConstantOfShape whose result has known dims keep them as an attribute and drop the shape input.
std::optional<Patch> shape_to_attribute(const GraphView& graph, const Node& node) {
  std::size_t shape_input = 1;
  if (is(node, "ConstantOfShape")) {
    shape_input = 0;
  } else if (!is_one_of(node, {"Reshape", "Expand"})) {
    return std::nullopt;
  }
  if (node.inputs.size() != shape_input + 1) return std::nullopt;
  const std::vector<Dim>& dims = graph.type(node.outputs[0]).dims;
  if (!can_be_stored(graph, dims)) return std::nullopt;
  Attributes attributes = node.op->attributes();
  attributes.erase("allowzero");
  attributes.set("dims", dim_texts(dims));
  std::vector<ValueId> inputs = node.inputs;
  inputs.resize(shape_input);
  Patch patch(graph, node);
  return std::move(patch.replace(node.outputs[0], patch.add(make_op(node.op->type(), attributes), inputs)));
}

constexpr std::array kRewrites{
    Rewrite{"fold_known_integers", fold_known_integers,
            "Shape arithmetic becomes constants or expressions over the sizes of the inputs."},
    Rewrite{"shape_to_attribute", shape_to_attribute, "A known target shape becomes an attribute."},
    Rewrite{"fold_constants", fold_constants, "A node that reads only constants is computed now."},
};

}  // namespace

const std::span<const Rewrite> kFoldingRewrites = kRewrites;

}  // namespace tenfold
