// Identity, and Dropout, which is one when a network is not trained. Both vanish at import.
// Source: ONNX operator sets 7 to 24, Identity and Dropout.
#include <cstring>

#include "ops/elementwise.hpp"

namespace tenfold {
namespace {

class Identity final : public Op {
 public:
  std::string_view type() const override { return "Identity"; }
  Attributes attributes() const override { return {}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 1);
    context.set_output(0, context.input(0));
    if (auto elements = context.integers(0)) context.set_integers(0, std::move(*elements));
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    check_output(context, 0, x.dims);
    const std::size_t bytes = static_cast<std::size_t>(x.num_elements()) * size_of(x.dtype);
    if (bytes > 0) std::memcpy(context.output(0).data, x.data, bytes);
  }
};

OpPtr make_identity(const Attributes&) { return std::make_shared<const Identity>(); }

void import_identity(ImportNode& node) {
  require(node.has_input(0), Code::invalid_model, "input 0 is missing");
  node.set_output(0, node.input(0));
}

void import_dropout(ImportNode& node) {
  require(node.has_input(0), Code::invalid_model, "input 0 is missing");
  if (node.has_input(2)) {
    const std::vector<std::int64_t> training = require_integers(node, 2, "training_mode");
    require(training == std::vector<std::int64_t>{0}, Code::unsupported,
            "training_mode is on; export the model for inference");
  }
  node.set_output(0, node.input(0));
  if (!node.wants_output(1)) return;
  // The mask: everything is kept.
  const DType dtype = node.opset() < 10 ? node.graph().value(node.input(0)).type.dtype : DType::boolean;
  Tensor one(dtype, {1});
  dispatch(dtype, [&]<typename T>() {
    if constexpr (std::is_integral_v<T>) {
      one.as_mutable<T>()[0] = T(1);
    } else {
      one.as_mutable<T>()[0] = T(1.0F);
    }
  });
  const ValueId shape = node.add(make_op("Shape"), {node.input(0)});
  node.set_output(1, node.add(make_op("ConstantOfShape", {{"value", std::move(one)}}), {shape}));
}

}  // namespace

const OpDef kDropoutDef{"Dropout", nullptr, import_dropout};
const OpDef kIdentityDef{"Identity", make_identity, import_identity};

}  // namespace tenfold
