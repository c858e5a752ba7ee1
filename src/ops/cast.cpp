// Conversion between element types, rounding to nearest even; to integers towards zero. What ONNX leaves open is
// settled so: values outside an integer type saturate, NaN becomes 0; integers wrap when narrowed. Attributes: to, the
// name of the type ("float32"); saturate (default 1): what is beyond the range of float8 becomes its largest number,
// with 0 it becomes NaN. Source: ONNX operator sets 6 to 24, Cast and CastLike.
#include <cmath>
#include <cstring>
#include <limits>

#include "ops/elementwise.hpp"

namespace tenfold {
namespace {

template <typename To, typename From>
To convert(From value) {
  constexpr bool from_float = !std::is_integral_v<From>;
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (std::is_same_v<To, bool>) {
    return static_cast<ComputeType<From>>(value) != ComputeType<From>(0);
  } else if constexpr (std::is_integral_v<To> && from_float) {
    const auto wide = static_cast<double>(value);
    if (std::isnan(wide)) return 0;
    // Compared as doubles: 2^63 and 2^64 are exact, the largest integers below them are not.
    if (wide <= static_cast<double>(std::numeric_limits<To>::lowest())) return std::numeric_limits<To>::lowest();
    if (wide >= static_cast<double>(std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
    return static_cast<To>(wide);
  } else if constexpr (std::is_integral_v<To>) {
    return static_cast<To>(value);
  } else if constexpr (std::is_same_v<To, double> || std::is_same_v<To, float>) {
    return static_cast<To>(value);
  } else {
    return static_cast<To>(static_cast<float>(value));
  }
}

class Cast final : public Op {
 public:
  /// `saturates` counts only for float8, and is true for all others.
  Cast(DType to, bool saturates) : to_(to), saturates_(saturates || to != DType::float8e4m3) {}
  std::string_view type() const override { return "Cast"; }
  Attributes attributes() const override {
    Attributes attributes{{"to", std::string(to_string(to_))}};
    if (!saturates_) attributes.set("saturate", std::int64_t{0});
    return attributes;
  }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 1);
    check_types(context, 0, Types::any);
    const TensorType& x = context.input(0);
    context.set_output(0, {to_, x.dims});
    const bool shape_type = to_ == DType::int64 || to_ == DType::int32;
    if (is_float(x.dtype)) {
      // Sizes that a model computes in floating point.
      const Tensor* tensor = context.constant(0);
      if (tensor == nullptr || !shape_type || tensor->num_elements() > kMaxKnownIntegers) return;
      std::vector<Dim> elements;
      for (const double value : tensor->to_double()) elements.emplace_back(convert<std::int64_t>(value));
      pass_integers(context, 0, std::move(elements));
    } else if (auto elements = context.integers(0)) {
      if (to_ == DType::boolean) {
        for (Dim& element : *elements) {
          const std::optional<bool> is_zero = is_equal(element, Dim(0));
          if (!is_zero) return;
          element = Dim(*is_zero ? 0 : 1);
        }
      } else if (!shape_type) {
        return;
      }
      pass_integers(context, 0, std::move(*elements));
    }
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const TensorView& y = context.output(0);
    check_output(context, 0, x.dims);
    const std::int64_t count = x.num_elements();
    dispatch(x.dtype, [&]<typename From>() {
      dispatch(to_, [&]<typename To>() {
        const From* in = x.as<const From>();
        To* out = y.as<To>();
        for (std::int64_t i = 0; i < count; ++i) {
          if constexpr (std::is_same_v<To, Float8E4M3>) {
            out[i].bits = Float8E4M3::encode(convert<float>(in[i]), saturates_);
          } else {
            out[i] = convert<To>(in[i]);
          }
        }
      });
    });
  }

 private:
  DType to_;
  bool saturates_;
};

class BitCast final : public Op {
 public:
  explicit BitCast(DType to) : to_(to) {}
  std::string_view type() const override { return "BitCast"; }
  Attributes attributes() const override { return {{"to", std::string(to_string(to_))}}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 1);
    const TensorType& x = context.input(0);
    require(size_of(x.dtype) == size_of(to_), Code::invalid_model, "elements of {} and {} differ in size",
            to_string(x.dtype), to_string(to_));
    context.set_output(0, {to_, x.dims});
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const TensorView& y = context.output(0);
    check_output(context, 0, x.dims);
    const std::int64_t count = x.num_elements();
    if (to_ == DType::boolean) {
      // A byte other than 0 and 1 is no bool.
      std::transform(x.as<const std::uint8_t>(), x.as<const std::uint8_t>() + count, y.as<bool>(),
                     [](std::uint8_t byte) { return byte != 0; });
    } else if (count > 0) {
      std::memcpy(y.data, x.data, static_cast<std::size_t>(count) * size_of(to_));
    }
  }

 private:
  DType to_;
};

OpPtr make_bit_cast(const Attributes& attributes) {
  return std::make_shared<const BitCast>(get_dtype(attributes, "to"));
}
void import_bit_cast(ImportNode& node) {
  const DType to = dtype_from_onnx(node.attributes().get_int("to"));
  node.set_output(0, node.add(std::make_shared<const BitCast>(to), node.inputs()));
}

OpPtr make_cast(const Attributes& attributes) {
  return std::make_shared<const Cast>(get_dtype(attributes, "to"), attributes.get_int("saturate", 1) != 0);
}

void import_to(ImportNode& node, DType to) {
  require(node.has_input(0), Code::invalid_model, "input 0 is missing");
  const ValueId x = node.input(0);
  const bool same = node.graph().value(x).type.dtype == to;
  const bool saturates = node.attributes().get_int("saturate", 1) != 0;
  node.set_output(0, same ? x : node.add(std::make_shared<const Cast>(to, saturates), {x}));
}
void import_cast(ImportNode& node) { import_to(node, dtype_from_onnx(node.attributes().get_int("to"))); }
void import_cast_like(ImportNode& node) {
  require(node.has_input(1), Code::invalid_model, "input 1 is missing");
  import_to(node, node.graph().value(node.input(1)).type.dtype);
}

}  // namespace

const OpDef kBitCastDef{"BitCast", make_bit_cast, import_bit_cast};
const OpDef kCastDef{"Cast", make_cast, import_cast};
const OpDef kCastLikeDef{"CastLike", nullptr, import_cast_like};

}  // namespace tenfold
