// The position of the largest or smallest element along an axis. Attributes: axis, keepdims, select_last_index (of
// equal elements take the last one, not the first). NaN counts as larger (ArgMax) or smaller (ArgMin) than everything.
// Source: ONNX operator sets 1 to 13, ArgMax, ArgMin.
#include "ops/elementwise.hpp"
#include "ops/movement.hpp"

namespace tenfold {
namespace {

class ArgReduce final : public Op {
 public:
  ArgReduce(bool largest, std::int64_t axis, bool keep_dims, bool last)
      : largest_(largest), axis_(axis), keep_dims_(keep_dims), last_(last) {}
  std::string_view type() const override { return largest_ ? "ArgMax" : "ArgMin"; }
  Attributes attributes() const override {
    return {{"axis", axis_}, {"keepdims", std::int64_t{keep_dims_}}, {"select_last_index", std::int64_t{last_}}};
  }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 1);
    check_types(context, 0, Types::numbers);
    const TensorType& x = context.input(0);
    const int axis = check_axis(axis_, x.rank());
    require(!(x.dims[static_cast<std::size_t>(axis)] == Dim(0)), Code::invalid_model, "axis {} is empty", axis);
    TensorType y{DType::int64, x.dims};
    if (keep_dims_) {
      y.dims[static_cast<std::size_t>(axis)] = Dim(1);
    } else {
      y.dims.erase(y.dims.begin() + axis);
    }
    context.set_output(0, std::move(y));
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const auto axis = static_cast<std::size_t>(check_axis(axis_, x.rank()));
    const std::int64_t length = x.dims[axis];
    Shape dims(x.dims.begin(), x.dims.end());
    if (keep_dims_) {
      dims[axis] = 1;
    } else {
      dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(axis));
    }
    check_output(context, 0, dims);
    if (context.output(0).num_elements() == 0) return;
    require(length > 0, Code::invalid_argument, "axis {} is empty", axis);
    const std::int64_t outer = product_of(x.dims, 0, axis);
    const std::int64_t inner = product_of(x.dims, axis + 1, x.dims.size());
    std::int64_t* out = context.output(0).as<std::int64_t>();
    dispatch(x.dtype, [&]<typename T>() {
      using Compute = ComputeType<T>;
      const T* data = x.as<const T>();
      for (std::int64_t o = 0; o < outer; ++o) {
        for (std::int64_t i = 0; i < inner; ++i) {
          const T* line = data + o * length * inner + i;
          auto best = static_cast<Compute>(line[0]);
          std::int64_t at = 0;
          for (std::int64_t k = 1; k < length; ++k) {
            const auto value = static_cast<Compute>(line[k * inner]);
            const bool best_is_nan = best != best;  // NOLINT(misc-redundant-expression)
            const bool is_nan = value != value;     // NOLINT(misc-redundant-expression)
            const bool better = !best_is_nan && (is_nan || (largest_ ? value > best : value < best));
            const bool equal = is_nan ? best_is_nan : value == best;
            if (better || (last_ && equal)) {
              best = value;
              at = k;
            }
          }
          out[o * inner + i] = at;
        }
      }
    });
  }
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override {
    (void)outputs;
    return inputs.empty() ? 0 : count_elements(inputs[0]);
  }

 private:
  bool largest_;
  std::int64_t axis_;
  bool keep_dims_;
  bool last_;
};

template <bool kLargest>
OpPtr make_arg(const Attributes& attributes) {
  return std::make_shared<const ArgReduce>(kLargest, attributes.get_int("axis", 0),
                                           attributes.get_int("keepdims", 1) != 0,
                                           attributes.get_int("select_last_index", 0) != 0);
}

}  // namespace

const OpDef kArgMaxDef{"ArgMax", make_arg<true>, import_plain};
const OpDef kArgMinDef{"ArgMin", make_arg<false>, import_plain};

}  // namespace tenfold
