// The quantised operators of ONNX Runtime's own domain, com.microsoft, which its quantiser writes in the format
// QOperator beside ONNX's QLinearConv and QLinearMatMul. Each is imported as the float operator between
// DequantizeLinear and QuantizeLinear that its definition names; passes make integer arithmetic of these
// (passes/quantised.cpp). Source: ONNX Runtime, docs/ContribOperators.md, domain com.microsoft, version 1.
#include "ops/checks.hpp"
#include "ops/registry.hpp"

namespace tenfold {
namespace {

/// The ONNX operators' version whose defaults these operators share.
constexpr int kInnerOpset = 13;

/// An operator within another one: it reads other inputs, and its outputs are the caller's to use.
class InnerNode final : public ImportNode {
 public:
  InnerNode(ImportNode& outer, std::string_view op_type, Attributes attributes, std::vector<ValueId> inputs)
      : outer_(outer), op_type_(op_type), attributes_(std::move(attributes)), inputs_(std::move(inputs)) {}

  std::string_view op_type() const override { return op_type_; }
  std::string_view domain() const override { return ""; }
  int opset() const override { return kInnerOpset; }
  const Attributes& attributes() const override { return attributes_; }
  int num_inputs() const override { return static_cast<int>(inputs_.size()); }
  int num_outputs() const override { return 1; }
  bool has_input(int index) const override { return input(index) != kNoValue; }
  bool wants_output(int index) const override { return index == 0; }
  ValueId input(int index) const override {
    return 0 <= index && index < num_inputs() ? inputs_[static_cast<std::size_t>(index)] : kNoValue;
  }
  std::vector<ValueId> inputs() const override { return inputs_; }
  Graph take_block(std::string_view attribute, std::span<const TensorType> formals,
                   std::vector<ValueId>& captured) override {
    return outer_.take_block(attribute, formals, captured);
  }
  const Graph& graph() const override { return outer_.graph(); }
  ValueId add(OpPtr op, std::vector<ValueId> inputs, int num_outputs, std::vector<Graph> blocks) override {
    return outer_.add(std::move(op), std::move(inputs), num_outputs, std::move(blocks));
  }
  ValueId constant(Tensor tensor) override { return outer_.constant(std::move(tensor)); }
  void set_output(int, ValueId value) override { output_ = value; }

  /// Imports the operator; returns its output.
  ValueId run() {
    const OpDef* op = find_op(op_type_);
    ensure(op != nullptr && op->import_onnx != nullptr, "operator {} is not ONNX's", op_type_);
    op->import_onnx(*this);
    ensure(output_ != kNoValue, "operator {} has no output", op_type_);
    return output_;
  }

 private:
  ImportNode& outer_;
  std::string_view op_type_;
  Attributes attributes_;
  std::vector<ValueId> inputs_;
  ValueId output_ = kNoValue;
};

const TensorType& type_of(const ImportNode& node, int index, std::string_view what) {
  require(node.has_input(index), Code::invalid_model, "input {} ({}) is missing", index, what);
  return node.graph().value(node.input(index)).type;
}

/// Inputs index, index + 1 and index + 2 are a tensor of 8-bit integers, its scale and its zero point, if it has one.
ValueId dequantised(ImportNode& node, int index, std::int64_t axis = 0) {
  const TensorType& type = type_of(node, index, "a quantised tensor");
  require(type.dtype == DType::int8 || type.dtype == DType::uint8, Code::invalid_model,
          "input {} must be int8 or uint8, got {}", index, to_string(type));
  type_of(node, index + 1, "a scale");
  std::vector<ValueId> inputs{node.input(index), node.input(index + 1)};
  if (node.has_input(index + 2)) inputs.push_back(node.input(index + 2));
  return node.add(make_op("DequantizeLinear", {{"axis", axis}}), std::move(inputs));
}

/// Inputs `scale` and scale + 1 say how the result is quantised; without a zero point it is `like`, and 0.
void set_quantised(ImportNode& node, ValueId result, int scale, DType like) {
  type_of(node, scale, "the output's scale");
  const ValueId zero = node.has_input(scale + 1) ? node.input(scale + 1) : node.constant(Tensor(like, {}));
  node.set_output(0, node.add(make_op("QuantizeLinear"), {result, node.input(scale), zero}));
}

Attributes planar_attributes(const ImportNode& node) {
  Attributes attributes = node.attributes();
  require(attributes.get_int("channels_last", 0) == 0, Code::unsupported,
          "channels_last 1 is not supported; export the model with its channels second");
  attributes.erase("channels_last");
  return attributes;
}

/// (A, its scale, its zero point, B, ..., the output's scale, its zero point)
void import_qlinear_pair(ImportNode& node, std::string_view op_type) {
  const ValueId a = dequantised(node, 0), b = dequantised(node, 3);
  const ValueId result = InnerNode(node, op_type, {}, {a, b}).run();
  set_quantised(node, result, 6, type_of(node, 0, "A").dtype);
}
void import_qlinear_add(ImportNode& node) { import_qlinear_pair(node, "Add"); }
void import_qlinear_mul(ImportNode& node) { import_qlinear_pair(node, "Mul"); }

/// (X, its scale, its zero point, the output's scale, its zero point)
void import_qlinear_unary(ImportNode& node, std::string_view op_type, Attributes attributes) {
  const ValueId result = InnerNode(node, op_type, std::move(attributes), {dequantised(node, 0)}).run();
  set_quantised(node, result, 3, type_of(node, 0, "X").dtype);
}
void import_qlinear_sigmoid(ImportNode& node) { import_qlinear_unary(node, "Sigmoid", {}); }
void import_qlinear_leaky_relu(ImportNode& node) { import_qlinear_unary(node, "LeakyRelu", node.attributes()); }
void import_qlinear_average_pool(ImportNode& node) {
  import_qlinear_unary(node, "AveragePool", planar_attributes(node));
}
void import_qlinear_global_average_pool(ImportNode& node) {
  import_qlinear_unary(node, "GlobalAveragePool", planar_attributes(node));
}
void import_qlinear_softmax(ImportNode& node) {
  Attributes attributes = node.attributes();
  const std::int64_t opset = attributes.get_int("opset", kInnerOpset);
  const std::int64_t axis = attributes.get_int("axis", -1);
  // Before opset 13 the axes from `axis` on were one.
  const int rank = type_of(node, 0, "X").rank();
  require(opset >= 13 || check_axis(axis, rank) == rank - 1, Code::unsupported,
          "softmax over axes {} to {} together (opset {}) is not supported; quantise a model of opset 13 or newer",
          axis, rank - 1, opset);
  import_qlinear_unary(node, "Softmax", {{"axis", axis}});
}

/// (the output's scale, its zero point, then of each input: the tensor, its scale, its zero point)
void import_qlinear_concat(ImportNode& node) {
  require(node.num_inputs() >= 5 && (node.num_inputs() - 2) % 3 == 0, Code::invalid_model,
          "a scale, a zero point and three inputs for each tensor are needed, got {} inputs", node.num_inputs());
  std::vector<ValueId> inputs;
  for (int i = 2; i < node.num_inputs(); i += 3) inputs.push_back(dequantised(node, i));
  const ValueId result = InnerNode(node, "Concat", node.attributes(), std::move(inputs)).run();
  set_quantised(node, result, 0, type_of(node, 2, "the first tensor").dtype);
}

/// (condition, X, its scale, its zero point, Y, ..., the output's scale, its zero point)
void import_qlinear_where(ImportNode& node) {
  type_of(node, 0, "the condition");
  const ValueId x = dequantised(node, 1), y = dequantised(node, 4);
  const ValueId result = InnerNode(node, "Where", {}, {node.input(0), x, y}).run();
  set_quantised(node, result, 7, type_of(node, 1, "X").dtype);
}

std::span<const float> constant_scale(const ImportNode& node, int index, std::string_view what) {
  const Tensor& scale = node.constant_input(index, what);
  require(scale.dtype() == DType::float32, Code::invalid_model, "input {} ({}) must be float32, got {}", index, what,
          to_string(scale.dtype()));
  return scale.as<float>();
}

/// (A, its scale, its zero point, B, ..., C or none, the output's scale and zero point or none: then it is float)
/// B's scale is one number or one for each column of the result; C is int32, its scale alpha * A's scale * B's.
void import_qgemm(ImportNode& node) {
  Attributes attributes = node.attributes();
  const double alpha = attributes.get_float("alpha", 1);
  attributes.erase("alpha");
  const std::int64_t columns_axis = attributes.get_int("transB", 0) != 0 ? 0 : 1;
  std::vector<ValueId> inputs{dequantised(node, 0), dequantised(node, 3, columns_axis)};
  if (node.has_input(6)) {
    require(type_of(node, 6, "C").dtype == DType::int32, Code::invalid_model, "input 6 (C) must be int32, got {}",
            to_string(type_of(node, 6, "C")));
    const std::span<const float> a_scale = constant_scale(node, 1, "A's scale");
    const std::span<const float> b_scale = constant_scale(node, 4, "B's scale");
    require(a_scale.size() == 1, Code::invalid_model, "input 1 (A's scale) must be one number, got {}", a_scale.size());
    Tensor c_scale(DType::float32, node.constant_input(4, "B's scale").shape());
    const std::span<float> products = c_scale.as_mutable<float>();
    for (std::size_t i = 0; i < products.size(); ++i) products[i] = static_cast<float>(alpha) * a_scale[0] * b_scale[i];
    const std::int64_t axis = std::max(type_of(node, 6, "C").rank() - 1, 0);
    inputs.push_back(
        node.add(make_op("DequantizeLinear", {{"axis", axis}}), {node.input(6), node.constant(std::move(c_scale))}));
  }
  if (alpha != 1) {
    Tensor factor(DType::float32, {});
    factor.as_mutable<float>()[0] = static_cast<float>(alpha);
    inputs[1] = node.add(make_op("Mul"), {inputs[1], node.constant(std::move(factor))});
  }
  const ValueId result = InnerNode(node, "Gemm", std::move(attributes), std::move(inputs)).run();
  if (node.has_input(7)) {
    set_quantised(node, result, 7, type_of(node, 0, "A").dtype);
  } else {
    node.set_output(0, result);
  }
}

}  // namespace

const OpDef kMicrosoftQGemmDef{"com.microsoft.QGemm", nullptr, import_qgemm};
const OpDef kMicrosoftQLinearAddDef{"com.microsoft.QLinearAdd", nullptr, import_qlinear_add};
const OpDef kMicrosoftQLinearAveragePoolDef{"com.microsoft.QLinearAveragePool", nullptr, import_qlinear_average_pool};
const OpDef kMicrosoftQLinearConcatDef{"com.microsoft.QLinearConcat", nullptr, import_qlinear_concat};
const OpDef kMicrosoftQLinearGlobalAveragePoolDef{"com.microsoft.QLinearGlobalAveragePool", nullptr,
                                                  import_qlinear_global_average_pool};
const OpDef kMicrosoftQLinearLeakyReluDef{"com.microsoft.QLinearLeakyRelu", nullptr, import_qlinear_leaky_relu};
const OpDef kMicrosoftQLinearMulDef{"com.microsoft.QLinearMul", nullptr, import_qlinear_mul};
const OpDef kMicrosoftQLinearSigmoidDef{"com.microsoft.QLinearSigmoid", nullptr, import_qlinear_sigmoid};
const OpDef kMicrosoftQLinearSoftmaxDef{"com.microsoft.QLinearSoftmax", nullptr, import_qlinear_softmax};
const OpDef kMicrosoftQLinearWhereDef{"com.microsoft.QLinearWhere", nullptr, import_qlinear_where};

}  // namespace tenfold
