// start, start + delta, start + 2 delta, ... as long as limit is not reached: max(ceil((limit - start) / delta), 0)
// elements. Inputs are scalars of one type. Source: ONNX operator set 11, Range.
#include <cmath>

#include "ops/elementwise.hpp"

namespace tenfold {
namespace {

constexpr double kMostElements = 0x1p40;

/// The number of elements; computed exactly for integers.
template <typename T>
std::int64_t count_steps(T start, T limit, T delta) {
  require(delta != T(0), Code::invalid_model, "delta is 0");
  double count = 0;
  if constexpr (std::is_integral_v<T>) {
    const auto distance = static_cast<__int128>(limit) - start;
    const auto step = static_cast<__int128>(delta);
    // Rounded up: towards zero, plus one if something is left and the quotient is positive.
    count = static_cast<double>(distance / step + (distance % step != 0 && (distance < 0) == (step < 0) ? 1 : 0));
  } else {
    count = std::ceil((static_cast<double>(limit) - static_cast<double>(start)) / static_cast<double>(delta));
  }
  require(count < kMostElements, Code::invalid_model, "{} elements are too many", count);
  return count > 0 ? static_cast<std::int64_t>(count) : 0;
}

class Range final : public Op {
 public:
  std::string_view type() const override { return "Range"; }
  Attributes attributes() const override { return {}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 3, 3);
    check_num_outputs(context, 1, 1);
    const DType dtype = context.input(0).dtype;
    check_types(context, 0, Types::numbers);
    std::array<std::optional<Dim>, 3> known;
    bool constants = true;
    for (int i = 0; i < 3; ++i) {
      check_same_dtype(context, i, "an input");
      require(!surely_differ(context.input(i).num_elements(), Dim(1)), Code::invalid_model,
              "input {} must be a scalar, got {}", i, to_string(context.input(i)));
      const auto elements = context.integers(i);
      if (elements && elements->size() == 1) known[static_cast<std::size_t>(i)] = elements->front();
      const Tensor* tensor = context.constant(i);
      constants = constants && tensor != nullptr && tensor->num_elements() == 1;
    }
    std::optional<Dim> count;
    if (constants) {
      count = dispatch(dtype, [&]<typename T>() {
        const auto read = [&](int i) { return static_cast<ComputeType<T>>(context.constant(i)->as<T>()[0]); };
        return Dim(count_steps(read(0), read(1), read(2)));
      });
    } else if (known[0] && known[1] && known[2] && known[2]->is_constant() && !(*known[2] == Dim(0))) {
      const bool up = known[2]->constant() > 0;
      const Dim distance = up ? *known[1] - *known[0] : *known[0] - *known[1];
      count = Dim::max(divided_up(distance, up ? known[2]->constant() : -known[2]->constant()), Dim(0));
    }
    context.set_output(0, {dtype, {count ? *count : context.fresh(0, 0)}});
    if (!count || !count->is_constant() || count->constant() > kMaxKnownIntegers || !known[0] || !known[2]) return;
    std::vector<Dim> elements;
    for (std::int64_t i = 0; i < count->constant(); ++i) elements.push_back(*known[0] + Dim(i) * *known[2]);
    pass_integers(context, 0, std::move(elements));
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& y = context.output(0);
    for (int i = 0; i < 3; ++i) {
      require(context.input(i).num_elements() == 1, Code::invalid_argument, "input {} must be a scalar", i);
    }
    dispatch(y.dtype, [&]<typename T>() {
      using Compute = ComputeType<T>;
      const auto read = [&](int i) { return static_cast<Compute>(*context.input(i).as<const T>()); };
      const Compute start = read(0);
      const Compute delta = read(2);
      const std::int64_t count = count_steps(start, read(1), delta);
      check_output(context, 0, Shape{count});
      for (std::int64_t i = 0; i < count; ++i) {
        if constexpr (std::is_integral_v<T>) {
          y.as<T>()[i] = static_cast<T>(static_cast<std::uint64_t>(start) +
                                        static_cast<std::uint64_t>(i) * static_cast<std::uint64_t>(delta));
        } else {
          const double value = static_cast<double>(start) + static_cast<double>(i) * static_cast<double>(delta);
          y.as<T>()[i] = static_cast<T>(static_cast<Compute>(value));
        }
      }
    });
  }
  std::vector<int> shape_inputs() const override { return {0, 1, 2}; }
};

OpPtr make_range(const Attributes&) { return std::make_shared<const Range>(); }

}  // namespace

const OpDef kRangeDef{"Range", make_range, import_plain};

}  // namespace tenfold
