// Arithmetic of two broadcast operands, and ONNX's operators of many operands as chains of them.
// Source: ONNX operator sets 7 to 24: Add, Sub, Mul, Div, Mod, Pow, Max, Min, PRelu, Sum, Mean.
// Integers wrap around; division truncates, and what ONNX leaves open (division by 0) gives 0.
#include <cmath>

#include "ops/elementwise.hpp"

namespace tenfold {
namespace {

/// Integer arithmetic that wraps: in uint64, which holds every narrower product modulo its own size.
template <typename T>
std::uint64_t wide(T value) {
  return static_cast<std::uint64_t>(value);
}

struct AddRule : NoAttributes {
  static constexpr std::string_view kName = "Add";
  static constexpr Types kTypes = Types::numbers;
  static constexpr bool kBoolean = false;
  template <typename T>
  T apply(T a, T b) const {
    if constexpr (std::is_integral_v<T>)
      return static_cast<T>(wide(a) + wide(b));
    else
      return a + b;
  }
  std::optional<Dim> fold(const Dim& a, const Dim& b) const { return a + b; }
};

struct SubRule : NoAttributes {
  static constexpr std::string_view kName = "Sub";
  static constexpr Types kTypes = Types::numbers;
  static constexpr bool kBoolean = false;
  template <typename T>
  T apply(T a, T b) const {
    if constexpr (std::is_integral_v<T>)
      return static_cast<T>(wide(a) - wide(b));
    else
      return a - b;
  }
  std::optional<Dim> fold(const Dim& a, const Dim& b) const { return a - b; }
};

struct MulRule : NoAttributes {
  static constexpr std::string_view kName = "Mul";
  static constexpr Types kTypes = Types::numbers;
  static constexpr bool kBoolean = false;
  template <typename T>
  T apply(T a, T b) const {
    if constexpr (std::is_integral_v<T>)
      return static_cast<T>(wide(a) * wide(b));
    else
      return a * b;
  }
  std::optional<Dim> fold(const Dim& a, const Dim& b) const { return a * b; }
};

struct DivRule : NoAttributes {
  static constexpr std::string_view kName = "Div";
  static constexpr Types kTypes = Types::numbers;
  static constexpr bool kBoolean = false;
  template <typename T>
  T apply(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      if (b == 0) return 0;
      if constexpr (std::is_signed_v<T>) {
        if (b == -1) return static_cast<T>(0 - wide(a));  // the lowest value has no negative
      }
      return static_cast<T>(a / b);
    } else {
      return a / b;
    }
  }
  std::optional<Dim> fold(const Dim& a, const Dim& b) const { return truncated_div(a, b); }
};

/// fmod = 1: the sign of the dividend, as in C; else the sign of the divisor, as in Python.
struct ModRule {
  static constexpr std::string_view kName = "Mod";
  static constexpr Types kTypes = Types::numbers;
  static constexpr bool kBoolean = false;
  bool fmod = false;
  static ModRule from(const Attributes& attributes) { return {attributes.get_int("fmod", 0) != 0}; }
  void store(Attributes& attributes) const { attributes.set("fmod", std::int64_t{fmod}); }
  template <typename T>
  T apply(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      if (b == 0) return 0;
      if constexpr (std::is_signed_v<T>) {
        if (b == -1) return 0;
      }
      const T rest = static_cast<T>(a % b);
      const bool shift = !fmod && rest != 0 && ((rest < 0) != (b < 0));
      return shift ? static_cast<T>(rest + b) : rest;
    } else {
      const T rest = std::fmod(a, b);
      const bool shift = !fmod && rest != 0 && ((rest < 0) != (b < 0));
      return shift ? rest + b : rest;
    }
  }
  std::optional<Dim> fold(const Dim& a, const Dim& b) const {
    if (!is_nonnegative(b - Dim(1)) || (fmod && !is_nonnegative(a))) return std::nullopt;
    return a - b * Dim::floordiv(a, b);
  }
};

/// The first operand if it is larger or NaN.
struct MaxRule : NoAttributes {
  static constexpr std::string_view kName = "Max";
  static constexpr Types kTypes = Types::numbers;
  static constexpr bool kBoolean = false;
  template <typename T>
  T apply(T a, T b) const {
    return a > b || a != a ? a : b;  // NOLINT(misc-redundant-expression): finds NaN
  }
  std::optional<Dim> fold(const Dim& a, const Dim& b) const { return Dim::max(a, b); }
};

struct MinRule : NoAttributes {
  static constexpr std::string_view kName = "Min";
  static constexpr Types kTypes = Types::numbers;
  static constexpr bool kBoolean = false;
  template <typename T>
  T apply(T a, T b) const {
    return a < b || a != a ? a : b;  // NOLINT(misc-redundant-expression): finds NaN
  }
  std::optional<Dim> fold(const Dim& a, const Dim& b) const { return Dim::min(a, b); }
};

/// x where it is not negative, slope * x elsewhere.
struct PReluRule : NoAttributes {
  static constexpr std::string_view kName = "PRelu";
  static constexpr Types kTypes = Types::numbers;
  static constexpr bool kBoolean = false;
  static constexpr bool kUnidirectional = true;
  template <typename T>
  T apply(T x, T slope) const {
    if constexpr (std::is_unsigned_v<T>)
      return x;
    else if constexpr (std::is_integral_v<T>)
      return x < 0 ? static_cast<T>(wide(x) * wide(slope)) : x;
    else
      return x < 0 ? x * slope : x;
  }
};

/// base ^ exponent. The exponent may be of another type than the base; the result is of the base's.
class Pow final : public Op {
 public:
  std::string_view type() const override { return "Pow"; }
  Attributes attributes() const override { return {}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 2, 2);
    check_num_outputs(context, 1, 1);
    check_types(context, 0, Types::numbers);
    check_types(context, 1, Types::numbers);
    context.set_output(0, {context.input(0).dtype, broadcast_dims(context.input(0).dims, context.input(1).dims)});
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& base = context.input(0);
    const TensorView& exponent = context.input(1);
    const TensorView& y = context.output(0);
    const auto run = [&]<typename T, typename E>() {
      for_each_run<2>(y.dims, {base.dims, exponent.dims},
                      [&](std::int64_t out, const auto& at, const auto& strides, std::int64_t count) {
                        const T* x = base.as<const T>() + at[0];
                        const E* e = exponent.as<const E>() + at[1];
                        T* result = y.as<T>() + out;
                        for (std::int64_t i = 0; i < count; ++i)
                          result[i] = power(x[i * strides[0]], e[i * strides[1]]);
                      });
    };
    dispatch(base.dtype,
             [&]<typename T>() { dispatch(exponent.dtype, [&]<typename E>() { run.template operator()<T, E>(); }); });
  }
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override {
    (void)inputs;
    return outputs.empty() ? 0 : count_elements(outputs[0]);
  }

 private:
  template <typename T, typename E>
  static T power(T base, E exponent) {
    if constexpr (std::is_integral_v<T> && std::is_integral_v<E>) {
      if constexpr (std::is_signed_v<E>) {
        if (exponent < 0) {
          if (base == T(1)) return T(1);
          if constexpr (std::is_signed_v<T>) {
            if (base == -1) return static_cast<T>(exponent % 2 == 0 ? 1 : -1);
          }
          return T(0);
        }
      }
      std::uint64_t result = 1;
      std::uint64_t factor = wide(base);
      for (auto rest = static_cast<std::uint64_t>(exponent); rest != 0; rest >>= 1) {
        if ((rest & 1) != 0) result *= factor;
        factor *= factor;
      }
      return static_cast<T>(result);
    } else {
      const double value = std::pow(static_cast<double>(base), static_cast<double>(exponent));
      if constexpr (std::is_same_v<T, bool>) {
        return value != 0;
      } else if constexpr (std::is_integral_v<T>) {
        return saturate_to<T>(value);
      } else if constexpr (std::is_same_v<T, double>) {
        return value;
      } else {
        return static_cast<T>(static_cast<float>(value));
      }
    }
  }
  /// Rounds towards zero and stays in range; NaN gives 0.
  template <typename T>
  static T saturate_to(double value) {
    if (std::isnan(value)) return 0;
    if (value <= static_cast<double>(std::numeric_limits<T>::lowest())) return std::numeric_limits<T>::lowest();
    if (value >= static_cast<double>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
    return static_cast<T>(value);
  }
};

OpPtr make_pow(const Attributes&) { return std::make_shared<const Pow>(); }

/// Folds all inputs from left to right with a binary operator.
ValueId chain(ImportNode& node, std::string_view type) {
  require(node.num_inputs() >= 1, Code::invalid_model, "needs at least one input");
  ValueId result = node.input(0);
  require(result != kNoValue, Code::invalid_model, "input 0 is missing");
  for (int i = 1; i < node.num_inputs(); ++i) result = node.add(make_op(type), {result, node.input(i)});
  return result;
}
void import_chain(ImportNode& node) {
  node.set_output(0, chain(node, node.op_type() == "Sum" ? "Add" : node.op_type()));
}

void import_mean(ImportNode& node) {
  const ValueId sum = chain(node, "Add");
  const DType dtype = node.graph().value(sum).type.dtype;
  require(is_float(dtype), Code::invalid_model, "inputs must be of a floating-point type, got {}", to_string(dtype));
  Tensor count(dtype, {});
  TensorView view = view_of(count);
  view.data = count.mutable_data();
  const double number = node.num_inputs();
  store_doubles(std::span(&number, 1), view);
  node.set_output(0, node.add(make_op("Div"), {sum, node.constant(std::move(count))}));
}

}  // namespace

const OpDef kAddDef{"Add", make_binary<AddRule>, import_plain};
const OpDef kDivDef{"Div", make_binary<DivRule>, import_plain};
const OpDef kMaxDef{"Max", make_binary<MaxRule>, import_chain};
const OpDef kMeanDef{"Mean", nullptr, import_mean};
const OpDef kMinDef{"Min", make_binary<MinRule>, import_chain};
const OpDef kModDef{"Mod", make_binary<ModRule>, import_plain};
const OpDef kMulDef{"Mul", make_binary<MulRule>, import_plain};
const OpDef kPReluDef{"PRelu", make_binary<PReluRule>, import_plain};
const OpDef kPowDef{"Pow", make_pow, import_plain};
const OpDef kSubDef{"Sub", make_binary<SubRule>, import_plain};
const OpDef kSumDef{"Sum", nullptr, import_chain};

}  // namespace tenfold
