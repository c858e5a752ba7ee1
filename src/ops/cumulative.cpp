// Running sums and products along an axis: y[i] = x[0] + ... + x[i], or times; exclusive: without x[i]; reverse: from
// the other end. Inputs: x, axis (a scalar). Attributes: exclusive, reverse. Source: ONNX operator sets 11 and 14,
// CumSum, and 26, CumProd.
#include "ops/elementwise.hpp"
#include "ops/movement.hpp"

namespace tenfold {
namespace {

/// CumSum and CumProd.
template <bool kProduct>
class Cumulative final : public Op {
 public:
  Cumulative(bool exclusive, bool reverse) : exclusive_(exclusive), reverse_(reverse) {}
  std::string_view type() const override { return kProduct ? "CumProd" : "CumSum"; }
  Attributes attributes() const override {
    return {{"exclusive", std::int64_t{exclusive_}}, {"reverse", std::int64_t{reverse_}}};
  }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 2, 2);
    check_num_outputs(context, 1, 1);
    check_types(context, 0, Types::numbers);
    const DType axis_type = context.input(1).dtype;
    require(axis_type == DType::int32 || axis_type == DType::int64, Code::invalid_model,
            "axis must be int32 or int64, got {}", to_string(axis_type));
    require(!surely_differ(context.input(1).num_elements(), Dim(1)), Code::invalid_model,
            "axis must be a scalar, got {}", to_string(context.input(1)));
    const TensorType x = context.input(0);
    const auto axis = constant_integers(context, 1);
    if (axis && axis->size() == 1) (void)check_axis(axis->front(), x.rank());
    context.set_output(0, x);
    auto elements = context.integers(0);
    if (!elements || !axis || axis->size() != 1 || !x.is_static()) return;
    std::vector<Dim> totals(elements->size());
    scan<Dim>(x.static_shape(), check_axis(axis->front(), x.rank()), elements->data(), totals.data());
    pass_integers(context, 0, std::move(totals));
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    check_output(context, 0, x.dims);
    const std::vector<std::int64_t> axis = read_integers(context.input(1));
    require(axis.size() == 1, Code::invalid_argument, "axis must be a scalar");
    const int normal_axis = check_axis(axis[0], x.rank());
    dispatch(x.dtype, [&]<typename T>() {
      if constexpr (std::is_integral_v<T>) {
        scan<std::uint64_t>(x.dims, normal_axis, x.as<const T>(), context.output(0).as<T>());
      } else {
        scan<double>(x.dims, normal_axis, x.as<const T>(), context.output(0).as<T>());
      }
    });
  }

 private:
  template <typename Sum, typename T>
  void scan(std::span<const std::int64_t> dims, int axis, const T* in, T* out) const {
    const auto a = static_cast<std::size_t>(axis);
    const std::int64_t length = dims[a];
    const std::int64_t inner = product_of(dims, a + 1, dims.size());
    const std::int64_t outer = product_of(dims, 0, a);
    const auto narrow = [](const Sum& sum) {
      if constexpr (std::is_same_v<Sum, double> && !std::is_same_v<T, double>) {
        return static_cast<T>(static_cast<float>(sum));
      } else {
        return static_cast<T>(sum);
      }
    };
    for (std::int64_t o = 0; o < outer; ++o) {
      for (std::int64_t i = 0; i < inner; ++i) {
        Sum total(kProduct ? 1 : 0);
        for (std::int64_t step = 0; step < length; ++step) {
          const std::int64_t at = (o * length + (reverse_ ? length - 1 - step : step)) * inner + i;
          const auto element = static_cast<Sum>(in[at]);
          const Sum with = kProduct ? total * element : total + element;
          out[at] = narrow(exclusive_ ? total : with);
          total = with;
        }
      }
    }
  }
  bool exclusive_;
  bool reverse_;
};

template <bool kProduct>
OpPtr make_cumulative(const Attributes& attributes) {
  return std::make_shared<const Cumulative<kProduct>>(attributes.get_int("exclusive", 0) != 0,
                                                      attributes.get_int("reverse", 0) != 0);
}

}  // namespace

const OpDef kCumProdDef{"CumProd", make_cumulative<true>, import_plain};
const OpDef kCumSumDef{"CumSum", make_cumulative<false>, import_plain};

}  // namespace tenfold
