// A tensor of one value everywhere. Its shape is the input, or the attribute `dims` when it is known at build time.
// Attribute: value, a tensor of one element (float32 0 if absent). Source: ONNX operator sets 9 to 24, ConstantOfShape.
#include "ops/elementwise.hpp"
#include "ops/movement.hpp"

namespace tenfold {
namespace {

class ConstantOfShape final : public Op {
 public:
  ConstantOfShape(Tensor value, std::optional<std::vector<Dim>> dims)
      : value_(std::move(value)), dims_(std::move(dims)) {}
  std::string_view type() const override { return "ConstantOfShape"; }
  Attributes attributes() const override {
    Attributes attributes{{"value", value_}};
    if (dims_) set_dims(attributes, "dims", *dims_);
    return attributes;
  }
  void infer(InferContext& context) const override {
    check_num_inputs(context, dims_ ? 0 : 1, dims_ ? 0 : 1);
    check_num_outputs(context, 1, 1);
    TensorType type{value_.dtype(), {}};
    if (dims_) {
      type.dims = *dims_;
    } else {
      check_rank(context, 0, 1, "the shape");
      if (const auto known = known_integers(context, 0)) {
        type.dims = *known;
      } else {
        const Dim& rank = context.input(0).dims[0];
        require(rank.is_constant() && rank.constant() <= kMaxRank, Code::unsupported,
                "the result's rank {} is not known or larger than {}", rank.to_string(), kMaxRank);
        for (int axis = 0; axis < rank.constant(); ++axis) type.dims.push_back(context.fresh(0, axis));
      }
    }
    for (const Dim& dim : type.dims) check_not_negative(dim, "a dimension");
    const Dim count = type.num_elements();
    const bool is_shape_value = is_integer(type.dtype) || type.dtype == DType::boolean;
    context.set_output(0, std::move(type));
    if (is_shape_value && count.is_constant() && count.constant() <= kMaxKnownIntegers) {
      const Dim element(value_.to_int64()[0]);
      pass_integers(context, 0, std::vector<Dim>(static_cast<std::size_t>(count.constant()), element));
    }
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& y = context.output(0);
    if (!dims_) check_output(context, 0, read_integers(context.input(0)));
    dispatch_bits(y.dtype, [&]<typename T>() {
      std::fill_n(y.as<T>(), y.num_elements(), *reinterpret_cast<const T*>(value_.data()));
    });
  }
  std::vector<int> shape_inputs() const override { return dims_ ? std::vector<int>{} : std::vector<int>{0}; }

 private:
  Tensor value_;
  std::optional<std::vector<Dim>> dims_;
};

OpPtr make_constant_of_shape(const Attributes& attributes) {
  Tensor value = attributes.has("value") ? attributes.get_tensor("value") : Tensor(DType::float32, {1});
  require(!value.empty() && value.num_elements() == 1, Code::invalid_model, "value must have one element, got shape {}",
          to_string(value.shape()));
  std::optional<std::vector<Dim>> dims;
  if (attributes.has("dims")) dims = get_dims(attributes, "dims");
  return std::make_shared<const ConstantOfShape>(value.reshaped({1}), std::move(dims));
}

void import_constant_of_shape(ImportNode& node) {
  Attributes attributes;
  if (node.attributes().has("value")) attributes.set("value", node.attributes().get_tensor("value"));
  const ValueId with_input = node.add(make_op("ConstantOfShape", attributes), node.inputs());
  const std::vector<Dim> dims = node.graph().value(with_input).type.dims;
  if (!are_storable(node.graph(), dims)) {
    node.set_output(0, with_input);
    return;
  }
  set_dims(attributes, "dims", dims);
  node.set_output(0, node.add(make_op("ConstantOfShape", attributes), {}));
}

}  // namespace

const OpDef kConstantOfShapeDef{"ConstantOfShape", make_constant_of_shape, import_constant_of_shape};

}  // namespace tenfold
