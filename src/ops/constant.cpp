// Constants of the model: Constant in all its forms becomes a constant value of the graph.
// Source: ONNX operator sets 1 to 24, Constant.
#include "ops/registry.hpp"

namespace tenfold {
namespace {

Tensor constant_from(const Attributes& attributes) {
  if (attributes.has("value")) return attributes.get_tensor("value");
  if (attributes.has("sparse_value")) return attributes.get_tensor("sparse_value");  // the import expands it
  if (attributes.has("value_float")) return Tensor::scalar(static_cast<float>(attributes.get_float("value_float")));
  if (attributes.has("value_floats")) {
    const std::vector<double> values = attributes.get_floats("value_floats");
    Tensor tensor(DType::float32, {static_cast<std::int64_t>(values.size())});
    const std::span<float> elements = tensor.as_mutable<float>();
    for (std::size_t i = 0; i < values.size(); ++i) elements[i] = static_cast<float>(values[i]);
    return tensor;
  }
  if (attributes.has("value_int")) {
    const std::int64_t value = attributes.get_int("value_int");
    return Tensor::of_int64({}, std::span(&value, 1));
  }
  if (attributes.has("value_ints")) {
    const std::vector<std::int64_t> values = attributes.get_ints("value_ints");
    return Tensor::of_int64({static_cast<std::int64_t>(values.size())}, values);
  }
  require(!attributes.has("value_string") && !attributes.has("value_strings"), Code::unsupported,
          "constants of strings are not supported");
  throw Error(Code::invalid_model, "a constant without a value");
}

void import_constant(ImportNode& node) { node.set_output(0, node.constant(constant_from(node.attributes()))); }

}  // namespace

const OpDef kConstantDef{"Constant", nullptr, import_constant};

}  // namespace tenfold
