// One-hot vectors along a new axis: y[.., i, ..] = (indices[..] == i) ? on : off, for i < depth. Inputs: indices, depth
// (a scalar), values [off, on]. A negative index counts from the end; one outside gives a vector of `off`.
// Attribute: axis. Source: ONNX operator sets 9 and 11, OneHot.
#include <cmath>

#include "ops/elementwise.hpp"
#include "ops/movement.hpp"

namespace tenfold {
namespace {

class OneHot final : public Op {
 public:
  explicit OneHot(std::int64_t axis) : axis_(axis) {}
  std::string_view type() const override { return "OneHot"; }
  Attributes attributes() const override { return {{"axis", axis_}}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 3, 3);
    check_num_outputs(context, 1, 1);
    check_types(context, 0, Types::numbers);
    check_types(context, 1, Types::numbers);
    check_types(context, 2, Types::any);
    require(!surely_differ(context.input(1).num_elements(), Dim(1)), Code::invalid_model,
            "depth must be a scalar, got {}", to_string(context.input(1)));
    check_rank(context, 2, 1, "values");
    check_dim(context.input(2).dims[0], Dim(2), "the length of values");
    TensorType type{context.input(2).dtype, context.input(0).dims};
    const int axis = check_axis(axis_, type.rank() + 1);
    std::optional<Dim> depth;
    if (const auto known = context.integers(1); known && known->size() == 1) depth = known->front();
    if (const Tensor* tensor = context.constant(1); tensor != nullptr && tensor->num_elements() == 1) {
      depth = Dim(depth_from(tensor->to_double()[0]));
    }
    type.dims.insert(type.dims.begin() + axis, depth ? check_not_negative(*depth, "depth") : context.fresh(0, axis));
    context.set_output(0, std::move(type));
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& indices = context.input(0);
    const TensorView& values = context.input(2);
    const TensorView& y = context.output(0);
    require(context.input(1).num_elements() == 1 && values.num_elements() == 2, Code::invalid_argument,
            "depth needs one element and values two");
    const std::int64_t depth = depth_from(load_doubles(context.input(1))[0]);
    const auto axis = static_cast<std::size_t>(check_axis(axis_, indices.rank() + 1));
    Shape dims(indices.dims.begin(), indices.dims.end());
    dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(axis), depth);
    check_output(context, 0, dims);
    const std::vector<double> at = load_doubles(indices);
    const std::int64_t inner = product_of(dims, axis + 1, dims.size());
    dispatch_bits(y.dtype, [&]<typename T>() {
      const T* off_on = values.as<const T>();
      T* out = y.as<T>();
      std::fill_n(out, y.num_elements(), off_on[0]);
      for (std::size_t i = 0; i < at.size(); ++i) {
        double index = std::trunc(at[i]);
        if (index < 0) index += static_cast<double>(depth);
        if (!(index >= 0 && index < static_cast<double>(depth))) continue;
        const auto n = static_cast<std::int64_t>(i);
        out[(n / inner * depth + static_cast<std::int64_t>(index)) * inner + n % inner] = off_on[1];
      }
    });
  }
  std::vector<int> shape_inputs() const override { return {1}; }

 private:
  static std::int64_t depth_from(double value) {
    require(value >= 0 && value < 0x1p40, Code::invalid_model, "depth must be 0 or a size, got {}", value);
    return static_cast<std::int64_t>(value);
  }
  std::int64_t axis_;
};

OpPtr make_one_hot(const Attributes& attributes) {
  return std::make_shared<const OneHot>(attributes.get_int("axis", -1));
}

}  // namespace

const OpDef kOneHotDef{"OneHot", make_one_hot, import_plain};

}  // namespace tenfold
