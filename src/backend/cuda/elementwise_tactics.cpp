// Tactic "elementwise.vectors": pointwise programs, arithmetic, comparisons and logic of every type, Clip, Where, Cast,
// QuantizeLinear and DequantizeLinear, with any broadcast. Works in place; operands and result may be pitched views.
#include <algorithm>
#include <limits>

#include "backend/cuda/elementwise_text.hpp"
#include "backend/cuda/loop_nest.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "backend/cuda/tactic_tools.hpp"
#include "ops/pointwise_form.hpp"
#include "ops/quantized.hpp"

namespace tenfold::cuda {
namespace {

struct Form {
  ElementwiseSpec text;
  std::vector<int> inputs;  ///< operand k is the node's input inputs[k]
  /// Input i with one number per index of this axis of the output, -1: broadcast as NumPy does.
  std::vector<int> axis;
};

/// Floats that are stored only, and computed with as float.
bool is_storage(DType dtype) {
  return dtype == DType::float16 || dtype == DType::bfloat16 || dtype == DType::float8e4m3;
}
/// The operand's value in the arithmetic of its type.
std::string value_of(DType dtype, std::string_view name) {
  if (is_storage(dtype)) return fmt::format("tf::to_float({})", name);
  return std::string(name);
}
std::string stored(DType dtype, std::string_view value) {
  if (is_storage(dtype)) return fmt::format("tf::from_float<{}>((float)({}))", device_type(dtype), value);
  if (dtype == DType::boolean) return fmt::format("({}) != 0", value);
  return fmt::format("({})({})", device_type(dtype), value);
}

std::optional<Form> pointwise(const Signature& signature) {
  const bool is_program = signature.op.type() == "Pointwise";
  const auto as_float = [&](const TensorType& type) {
    const bool is_read_as_float = is_device_float(type.dtype) || (is_program && is_pointwise_result(type.dtype));
    return TensorType{is_read_as_float ? DType::float32 : type.dtype, type.dims};
  };
  std::vector<TensorType> inputs;
  for (const TensorType& type : signature.inputs) inputs.push_back(as_float(type));
  const std::optional<PointwiseForm> form = pointwise_form(signature.op, inputs, as_float(signature.outputs[0]));
  if (!form || signature.op.type() == "Cast") return std::nullopt;
  Form result;
  result.inputs = form->inputs;
  result.text.output = signature.outputs[0].dtype;
  std::vector<std::string> registers;
  for (std::size_t k = 0; k < form->inputs.size(); ++k) {
    result.text.operands.push_back(signature.inputs[static_cast<std::size_t>(form->inputs[k])].dtype);
    registers.push_back(fmt::format("r{}", k));
    result.text.body += fmt::format("    const float r{0} = tf::to_float(x{0});\n", k);
  }
  const ProgramText program = emit_program(form->program, registers, "r", math_mode_for(result.text.output), "    ");
  result.text.body += program.statements;
  const std::string_view type = device_type(result.text.output);
  result.text.body += fmt::format("    const {0} y = tf::from_float<{0}>({1});\n", type, program.result);
  return result;
}

struct NamedExpression {
  std::string_view type;
  std::string_view expression;  ///< of a and b
};
constexpr std::array kExpressions = {
    NamedExpression{"Add", "a + b"},
    NamedExpression{"Sub", "a - b"},
    NamedExpression{"Mul", "a * b"},
    NamedExpression{"Max", "a > b || a != a ? a : b"},
    NamedExpression{"Min", "a < b || a != a ? a : b"},
    NamedExpression{"Equal", "a == b"},
    NamedExpression{"Greater", "a > b"},
    NamedExpression{"GreaterOrEqual", "a >= b"},
    NamedExpression{"Less", "a < b"},
    NamedExpression{"LessOrEqual", "a <= b"},
    NamedExpression{"And", "a && b"},
    NamedExpression{"Or", "a || b"},
    NamedExpression{"Xor", "a != b"},
    NamedExpression{"BitwiseAnd", "a & b"},
    NamedExpression{"BitwiseOr", "a | b"},
    NamedExpression{"BitwiseXor", "a ^ b"},
    NamedExpression{"Not", "!a"},
    NamedExpression{"BitwiseNot", "~a"},
    NamedExpression{"Neg", "-a"},
    NamedExpression{"Abs", "a < 0 ? -a : a"},
    NamedExpression{"Div", "typed::divide(a, b)"},
    NamedExpression{"Mod", "typed::modulo(a, b, {fmod})"},
    NamedExpression{"BitShift", "typed::shift(a, b, {left})"},
    NamedExpression{"Pow", "typed::power(a, b)"},
    NamedExpression{"PRelu", "a < 0 ? a * b : a"},
    NamedExpression{"Sign", "a > 0 ? 1 : a < 0 ? -1 : a"},
    NamedExpression{"Relu", "a < 0 ? 0 : a"},
    NamedExpression{"IsNaN", "a != a"},
    NamedExpression{"IsInf", "isinf(a) && (a > 0 ? {positive} : {negative})"},
    NamedExpression{"Shrink", "a < {lower} ? a + {bias} : a > {upper} ? a - {bias} : 0"},
};
/// Of floats; with `pointwise` before them, these of float64 or of no program.
constexpr std::array kRealExpressions = {
    NamedExpression{"Acos", "acos(a)"},
    NamedExpression{"Acosh", "acosh(a)"},
    NamedExpression{"Asin", "asin(a)"},
    NamedExpression{"Asinh", "asinh(a)"},
    NamedExpression{"Atan", "atan(a)"},
    NamedExpression{"Atanh", "atanh(a)"},
    NamedExpression{"Ceil", "ceil(a)"},
    NamedExpression{"Celu", "a >= 0 ? a : {alpha} * expm1(a / {alpha})"},
    NamedExpression{"Cos", "cos(a)"},
    NamedExpression{"Cosh", "cosh(a)"},
    NamedExpression{"Erf", "erf(a)"},
    NamedExpression{"Exp", "exp(a)"},
    NamedExpression{"Floor", "floor(a)"},
    NamedExpression{"Log", "log(a)"},
    NamedExpression{"Reciprocal", "1 / a"},
    NamedExpression{"Round", "rint(a)"},
    NamedExpression{"Sigmoid", "1 / (1 + exp(-a))"},
    NamedExpression{"Sin", "sin(a)"},
    NamedExpression{"Sinh", "sinh(a)"},
    NamedExpression{"Sqrt", "sqrt(a)"},
    NamedExpression{"Tan", "tan(a)"},
    NamedExpression{"Tanh", "tanh(a)"},
};

/// Arithmetic whose result the language leaves open, as ops/arithmetic.cpp and ops/logical.cpp define it.
constexpr std::string_view kTypedHelpers = R"(
namespace typed {
template <typename T> constexpr bool kReal = (T)0.5 != (T)0;
template <typename T> constexpr bool kSigned = (T)-1 < (T)0;
template <typename T>
TF_FN T divide(T a, T b) {
  if constexpr (kReal<T>) return a / b;
  else if (b == 0) return 0;
  else if (kSigned<T> && b == (T)-1) return (T)(0ull - (unsigned long long)a);
  else return (T)(a / b);
}
template <typename T>
TF_FN T modulo(T a, T b, bool c_rule) {
  T rest;
  if constexpr (kReal<T>) rest = fmod(a, b);
  else if (b == 0 || (kSigned<T> && b == (T)-1)) return 0;
  else rest = (T)(a % b);
  return !c_rule && rest != 0 && (rest < 0) != (b < 0) ? (T)(rest + b) : rest;
}
template <typename T>
TF_FN T shift(T a, T b, bool left) {
  const unsigned long long by = (unsigned long long)b;
  if (by >= 8 * sizeof(T)) return (T)(!left && a < 0 ? -1 : 0);
  return left ? (T)((unsigned long long)a << by) : (T)(a >> by);
}
template <typename A, typename E>
TF_FN auto power(A base, E exponent) {
  if constexpr (!kReal<A> && !kReal<E>) {
    if (kSigned<E> && exponent < 0) return base == (A)1 ? (A)1 : kSigned<A> && base == (A)-1 ? (A)(exponent % 2 == 0 ? 1 : -1) : (A)0;
    unsigned long long result = 1, factor = (unsigned long long)base;
    for (unsigned long long rest = (unsigned long long)exponent; rest != 0; rest >>= 1) {
      if (rest & 1) result *= factor;
      factor *= factor;
    }
    return (A)result;
  } else {
    const double value = pow((double)base, (double)exponent);
    if constexpr (kReal<A>) {
      return value;
    } else {
      // Towards zero and inside the type; NaN gives 0.
      const A highest = kSigned<A> ? (A)((1ull << (8 * sizeof(A) - 1)) - 1) : (A)-1, lowest = kSigned<A> ? (A)(-highest - 1) : (A)0;
      return value != value ? (A)0 : value <= (double)lowest ? lowest : value >= (double)highest ? highest : (A)value;
    }
  }
}
}  // namespace typed
)";

/// Attributes in place of their names in braces.
std::string with_attributes(std::string_view expression, const Signature& signature) {
  const Attributes attributes = signature.op.attributes();
  std::string text(expression);
  const auto put = [&](std::string_view name, const std::string& value) {
    for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at)) {
      text.replace(at, name.size(), value);
    }
  };
  const auto number = [&](std::string_view name, double otherwise) {
    const double value = attributes.get_float(name, otherwise);
    return signature.inputs[0].dtype == DType::float64 ? fmt::format("({:a})", value)
                                                       : fmt::format("({:a}f)", static_cast<float>(value));
  };
  put("{fmod}", attributes.get_int("fmod", 0) != 0 ? "true" : "false");
  put("{left}", attributes.get_string("direction", "LEFT") == "LEFT" ? "true" : "false");
  put("{positive}", attributes.get_int("detect_positive", 1) != 0 ? "true" : "false");
  put("{negative}", attributes.get_int("detect_negative", 1) != 0 ? "true" : "false");
  put("{alpha}", number("alpha", 1));
  put("{bias}", number("bias", 0));
  put("{lower}", fmt::format("-{}", number("lambd", 0.5)));
  put("{upper}", number("lambd", 0.5));
  return text;
}

/// Arithmetic in the operands' own type.
std::optional<Form> typed(const Signature& signature) {
  const auto is_it = [&](const NamedExpression& entry) { return entry.type == signature.op.type(); };
  if (signature.inputs.empty() || signature.inputs.size() > 2) return std::nullopt;
  const NamedExpression* found = std::find_if(kExpressions.begin(), kExpressions.end(), is_it);
  if (found == kExpressions.end()) {
    found = std::find_if(kRealExpressions.begin(), kRealExpressions.end(), is_it);
    if (found == kRealExpressions.end() || !is_float(signature.inputs[0].dtype)) return std::nullopt;
  }
  Form form;
  form.text.helpers = kTypedHelpers;
  form.text.output = signature.outputs[0].dtype;
  for (std::size_t k = 0; k < signature.inputs.size(); ++k) {
    form.inputs.push_back(static_cast<int>(k));
    form.text.operands.push_back(signature.inputs[k].dtype);
    form.text.body += fmt::format("    const auto {} = {};\n", k == 0 ? "a" : "b",
                                  value_of(signature.inputs[k].dtype, fmt::format("x{}", k)));
  }
  form.text.body += fmt::format("    const {} y = {};\n", device_type(form.text.output),
                                stored(form.text.output, with_attributes(found->expression, signature)));
  return form;
}

/// Clip of types that are no pointwise program's. Limits may be missing.
std::optional<Form> clip(const Signature& signature) {
  if (signature.op.type() != "Clip") return std::nullopt;
  Form form;
  form.text.output = signature.outputs[0].dtype;
  form.text.body = fmt::format("    auto value = {};\n", value_of(signature.inputs[0].dtype, "x0"));
  for (std::size_t i = 0; i < signature.inputs.size(); ++i) {
    if (!signature.has_input(i)) continue;
    if (signature.inputs[i].dtype != form.text.output) return std::nullopt;
    const std::size_t k = form.inputs.size();
    form.inputs.push_back(static_cast<int>(i));
    form.text.operands.push_back(signature.inputs[i].dtype);
    if (i == 0) continue;
    form.text.body += fmt::format("    const auto limit{0} = {1};\n    if (value {2} limit{0}) value = limit{0};\n", i,
                                  value_of(form.text.output, fmt::format("x{}", k)), i == 1 ? "<" : ">");
  }
  form.text.body +=
      fmt::format("    const {} y = {};\n", device_type(form.text.output), stored(form.text.output, "value"));
  return form;
}

std::optional<Form> where(const Signature& signature) {
  if (signature.op.type() != "Where" || signature.inputs.size() != 3) return std::nullopt;
  Form form;
  form.inputs = {0, 1, 2};
  for (const TensorType& type : signature.inputs) form.text.operands.push_back(type.dtype);
  form.text.output = signature.outputs[0].dtype;
  form.text.body = fmt::format("    const {} y = x0 ? x1 : x2;\n", device_type(form.text.output));
  return form;
}

/// NaN for floats that round beyond the range of float8, where others saturate.
std::string unsaturated(std::string_view value) {
  return fmt::format("fabsf({0}) > 464.0f ? {1} : {0}", value, float_literal(std::numeric_limits<float>::quiet_NaN()));
}

std::optional<Form> cast(const Signature& signature) {
  if (signature.op.type() != "Cast" || signature.inputs.size() != 1) return std::nullopt;
  Form form;
  form.inputs = {0};
  const DType from = signature.inputs[0].dtype;
  form.text.operands = {from};
  form.text.output = signature.outputs[0].dtype;
  std::string value = value_of(from, "x0");
  if (signature.op.attributes().get_int("saturate", 1) == 0) value = unsaturated(fmt::format("(float)({})", value));
  form.text.body =
      fmt::format("    const {} y = {};\n", device_type(form.text.output), stored(form.text.output, value));
  return form;
}

/// QuantizeLinear: saturate(round(x / scale) + zero point), to float8 without rounding to integers and zero point;
/// DequantizeLinear: (q - zero point) * scale.
std::optional<Form> quantize(const Signature& signature) {
  const bool forward = signature.op.type() == "QuantizeLinear";
  if (!forward && signature.op.type() != "DequantizeLinear") return std::nullopt;
  const auto is_byte = [](DType dtype) {
    return dtype == DType::int8 || dtype == DType::uint8 || dtype == DType::float8e4m3;
  };
  const TensorType& x = signature.inputs[0];
  const TensorType& y = signature.outputs[0];
  const Attributes attributes = signature.op.attributes();
  if (attributes.get_int("block_size", 0) != 0 || signature.inputs.size() < 2) return std::nullopt;
  const DType integer = forward ? y.dtype : x.dtype;
  const DType real = forward ? x.dtype : y.dtype;
  if (!is_device_float(real) || !is_device_float(signature.inputs[1].dtype)) return std::nullopt;
  if (!is_byte(integer) && !(integer == DType::int32 && !forward)) return std::nullopt;
  Form form;
  form.inputs = {0, 1};
  form.text.operands = {x.dtype, signature.inputs[1].dtype};
  form.text.output = y.dtype;
  const std::optional<int> axis = normalized_axis(attributes.get_int("axis", 1), x.rank());
  const bool has_zero_point = signature.has_input(2) && integer != DType::float8e4m3;  // which has none but 0
  for (std::size_t k = 0; k < (has_zero_point ? 3U : 2U); ++k) {
    const bool per_axis = k > 0 && signature.inputs[k].rank() == 1 && !(signature.inputs[k].dims[0] == Dim(1));
    if (per_axis && !axis) return std::nullopt;
    form.axis.push_back(per_axis ? *axis : -1);
  }
  std::string zero_point = "0.0f";
  if (has_zero_point) {
    if (signature.inputs[2].dtype != integer) return std::nullopt;
    form.inputs.push_back(2);
    form.text.operands.push_back(integer);
    zero_point = "(float)x2";
  }
  if (integer == DType::float8e4m3) {
    std::string value = forward ? "tf::to_float(x0) / tf::to_float(x1)" : "tf::to_float(x0) * tf::to_float(x1)";
    if (attributes.get_int("saturate", 1) == 0) value = unsaturated(fmt::format("({})", value));
    form.text.body = fmt::format("    const {0} y = tf::from_float<{0}>({1});\n", device_type(y.dtype), value);
    return form;
  }
  if (forward) {
    form.text.body =
        fmt::format("    const {0} y = tf::from_float<{0}>(rintf(tf::to_float(x0) / tf::to_float(x1)) + {1});\n",
                    device_type(integer), zero_point);
  } else {
    const std::string difference = integer == DType::int32
                                       ? fmt::format("(float)(x0 - {})", has_zero_point ? "x2" : "0")
                                       : fmt::format("((float)x0 - {})", zero_point);
    form.text.body =
        fmt::format("    const {0} y = tf::from_float<{0}>({1} * tf::to_float(x1));\n", device_type(real), difference);
  }
  return form;
}

std::optional<Form> form_of(const Signature& signature) {
  for (const auto find : {pointwise, typed, clip, where, cast, quantize}) {
    if (std::optional<Form> form = find(signature)) return form;
  }
  return std::nullopt;
}

class ElementwiseKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_output(0)) return "output 0 is not wanted";
    if (signature.outputs[0].rank() > kMaxRank)
      return fmt::format("rank {} is above {}", signature.outputs[0].rank(), kMaxRank);
    if (signature.inputs.size() + 1 > kMaxNestOperands)
      return fmt::format("{} operands are more than {}", signature.inputs.size(), kMaxNestOperands - 1);
    if (!form_of(signature)) return "there is no kernel for these element types";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    return elementwise_source(form_of(Signature{*spec.op, spec.inputs, spec.outputs})->text);
  }
  ElementwiseKernel(const KernelSpec& spec, const LoadedModule& module)
      : form_(*form_of(Signature{*spec.op, spec.inputs, spec.outputs})),
        vector_(elementwise_vector(form_.text)),
        vectors_(module.function("vectors")),
        elements_(module.function("elements")) {
    for (const TensorType& input : spec.inputs) {
      may_share_.push_back(input.dtype != DType::undefined && size_of(input.dtype) == size_of(spec.outputs[0].dtype));
    }
  }

  void run(const Launch& launch) const override {
    const TensorView& out = launch.outputs[0];
    std::array<NestOperand, kMaxNestOperands> storage;
    const std::size_t count = form_.inputs.size();
    for (std::size_t k = 0; k < count; ++k) {
      const TensorView& view = launch.inputs[static_cast<std::size_t>(form_.inputs[k])];
      const int axis = form_.axis.empty() ? -1 : form_.axis[k];
      if (axis < 0) {
        storage[k] = broadcast_operand(view, out.dims);
      } else {
        storage[k] = {view.data, size_of(view.dtype), {}};
        storage[k].strides[static_cast<std::size_t>(axis)] = 1;
      }
    }
    storage[count] = broadcast_operand(out, out.dims);
    const std::span<const NestOperand> operands(storage.data(), count + 1);
    LoopNest nest = make_nest(out.dims, operands);
    if (nest.count == 0) return;
    const bool is_vector = vectorise(nest, operands, vector_);
    launch_nest(cuda_stream(launch), is_vector ? vectors_ : elements_, nest, static_cast<int>(count + 1));
  }
  bool accepts_pitched_input(int) const override { return true; }
  bool accepts_pitched_output(int) const override { return true; }
  bool can_run_in_place(int index) const override { return may_share_[static_cast<std::size_t>(index)]; }

 private:
  Form form_;
  int vector_;
  Function vectors_, elements_;
  std::vector<bool> may_share_;
};

}  // namespace

#define TENFOLD_ELEMENTWISE(op) \
  const CudaTactic kElementwise##op = plain_tactic<ElementwiseKernel>("elementwise.vectors", #op);
#include "backend/cuda/elementwise.inc"
#undef TENFOLD_ELEMENTWISE

}  // namespace tenfold::cuda
