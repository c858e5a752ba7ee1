// Integers on the host that are computed from the sizes of the network's inputs.
// Attributes: elements, expressions ("2*batch"); shape, of rank 0 or 1; dtype, int64 or int32. No inputs. Whoever runs
// a graph evaluates the expressions from the sizes it has; `evaluate` alone knows no sizes.
#include "ops/elementwise.hpp"

namespace tenfold {
namespace {

class DimValues final : public Op {
 public:
  DimValues(std::vector<Dim> elements, Shape shape, DType dtype)
      : elements_(std::move(elements)), shape_(std::move(shape)), dtype_(dtype) {}
  std::string_view type() const override { return "DimValues"; }
  Attributes attributes() const override {
    Attributes attributes{{"shape", shape_}, {"dtype", std::string(to_string(dtype_))}};
    set_dims(attributes, "elements", elements_);
    return attributes;
  }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 0, 0);
    check_num_outputs(context, 1, 1);
    context.set_output(0, {dtype_, std::vector<Dim>(shape_.begin(), shape_.end())});
    context.set_integers(0, elements_);
  }
  void evaluate(EvalContext& context) const override {
    check_output(context, 0, shape_);
    const TensorView& y = context.output(0);
    for (std::size_t i = 0; i < elements_.size(); ++i) {
      const std::int64_t value = elements_[i].constant();
      if (dtype_ == DType::int32) {
        y.as<std::int32_t>()[i] = static_cast<std::int32_t>(value);
      } else {
        y.as<std::int64_t>()[i] = value;
      }
    }
  }

 private:
  std::vector<Dim> elements_;
  Shape shape_;
  DType dtype_;
};

OpPtr make_dim_values(const Attributes& attributes) {
  std::vector<Dim> elements = get_dims(attributes, "elements");
  const DType dtype = attributes.has("dtype") ? get_dtype(attributes, "dtype") : DType::int64;
  require(dtype == DType::int64 || dtype == DType::int32, Code::invalid_model, "dtype must be int64 or int32, got {}",
          to_string(dtype));
  Shape shape = attributes.get_ints("shape", {static_cast<std::int64_t>(elements.size())});
  require(shape.size() <= 1 && num_elements(shape) == static_cast<std::int64_t>(elements.size()), Code::invalid_model,
          "{} elements do not fill a tensor of shape {} and rank 0 or 1", elements.size(), to_string(shape));
  return std::make_shared<const DimValues>(std::move(elements), std::move(shape), dtype);
}

}  // namespace

const OpDef kDimValuesDef{"DimValues", make_dim_values, nullptr};

}  // namespace tenfold
