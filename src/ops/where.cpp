// Choice: y = condition ? a : b, all three broadcast.
// Source: ONNX operator set 16, Where.
#include "ops/elementwise.hpp"
#include "ops/movement.hpp"

namespace tenfold {
namespace {

class Where final : public Op {
 public:
  std::string_view type() const override { return "Where"; }
  Attributes attributes() const override { return {}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 3, 3);
    check_num_outputs(context, 1, 1);
    check_dtype(context, 0, DType::boolean, "the condition");
    check_types(context, 1, Types::any);
    check_dtype(context, 2, context.input(1).dtype, "the second choice");
    std::array<const TensorType*, 3> types{&context.input(0), &context.input(1), &context.input(2)};
    const TensorType type{types[1]->dtype,
                          broadcast_dims(types[0]->dims, broadcast_dims(types[1]->dims, types[2]->dims))};
    context.set_output(0, type);

    const auto condition = context.integers(0);
    if (!condition || !type.is_static()) return;
    const std::array<std::optional<std::vector<Dim>>, 3> known{condition, context.integers(1), context.integers(2)};
    const Shape dims = type.static_shape();
    std::array<Shape, 3> strides;
    for (std::size_t i = 0; i < 3; ++i) {
      if (!types[i]->is_static()) return;
      strides[i] = broadcast_strides(types[i]->static_shape(), dims);
    }
    std::vector<Dim> elements;
    bool decided = true;
    for_each_index(dims, strides, [&](std::span<const std::int64_t> at) {
      const Dim& choice = (*condition)[static_cast<std::size_t>(at[0])];
      const std::size_t from = choice == Dim(0) ? 2 : 1;
      decided = decided && choice.is_constant() && known[from].has_value();
      if (decided) elements.push_back((*known[from])[static_cast<std::size_t>(at[from])]);
    });
    if (decided) pass_integers(context, 0, std::move(elements));
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& condition = context.input(0);
    const TensorView& a = context.input(1);
    const TensorView& b = context.input(2);
    const TensorView& y = context.output(0);
    dispatch_bits(y.dtype, [&]<typename T>() {
      for_each_run<3>(y.dims, {condition.dims, a.dims, b.dims},
                      [&](std::int64_t out, const auto& at, const auto& strides, std::int64_t count) {
                        const bool* choice = condition.as<const bool>() + at[0];
                        const T* left = a.as<const T>() + at[1];
                        const T* right = b.as<const T>() + at[2];
                        T* result = y.as<T>() + out;
                        for (std::int64_t i = 0; i < count; ++i) {
                          result[i] = choice[i * strides[0]] ? left[i * strides[1]] : right[i * strides[2]];
                        }
                      });
    });
  }
};

OpPtr make_where(const Attributes&) { return std::make_shared<const Where>(); }

}  // namespace

const OpDef kWhereDef{"Where", make_where, import_plain};

}  // namespace tenfold
