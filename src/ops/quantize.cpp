// Quantisation: integers that stand for real numbers, x = (q - zero_point) * scale.
//   QuantizeLinear         q = saturate(round(x / scale) + zero_point), ties to even
//   DequantizeLinear       x = (q - zero_point) * scale
//   DynamicQuantizeLinear  the same to uint8, with a scale that covers the input's own range and 0
// To float8 there is no rounding to integers and no zero point (one of 0 names the type):
//   QuantizeLinear         q = float8(x / scale), saturating unless the attribute saturate is 0
// Scale and zero point are one number, one per element of an axis, or one per block of `block_size` elements of an
// axis. Source: ONNX operator sets 10 to 23.
#include <algorithm>
#include <cmath>

#include "ops/checks.hpp"
#include "ops/numbers.hpp"
#include "ops/quantized.hpp"
#include "ops/registry.hpp"
#include "ops/shape_math.hpp"

namespace tenfold {
namespace {

bool is_quantized(DType dtype) {
  return dtype == DType::int8 || dtype == DType::uint8 || dtype == DType::int16 || dtype == DType::uint16 ||
         dtype == DType::float8e4m3;
}
constexpr std::string_view kQuantizedTypes = "an integer of 8 or 16 bits, or float8e4m3";

/// float8 has no zero point but 0.
void check_float8_zero_point(const InferContext& context) {
  const Tensor* zero_point = context.input(2).dtype == DType::float8e4m3 ? context.constant(2) : nullptr;
  if (zero_point == nullptr) return;
  for (const double zero : zero_point->to_double()) {
    require(zero == 0, Code::invalid_model, "the zero point of float8e4m3 must be 0, got {}", zero);
  }
}

std::int64_t block_size_from(const Attributes& attributes) {
  const std::int64_t size = attributes.get_int("block_size", 0);
  require(0 <= size && size <= (std::int64_t{1} << 30), Code::invalid_model, "block_size must be 0 or more, got {}",
          size);
  return size;
}

/// Scale and zero point fit the values that they belong to.
void check_scale(const InferContext& context, std::int64_t axis, std::int64_t block_size) {
  const TensorType& x = context.input(0);
  const TensorType& scale = context.input(1);
  check_float(context, 1, "the scale");
  const bool has_zero_point = context.has_input(2);
  // One number may be a scalar here and a tensor of one element there.
  if (has_zero_point && !(scale.num_elements() == Dim(1) && context.input(2).num_elements() == Dim(1))) {
    const TensorType& zero_point = context.input(2);
    require(zero_point.rank() == scale.rank(), Code::invalid_model, "the scale is {} and the zero point {}",
            to_string(scale), to_string(zero_point));
    for (std::size_t a = 0; a < scale.dims.size(); ++a) {
      check_dim(zero_point.dims[a], scale.dims[a], "a size of the zero point");
    }
  }
  if (block_size > 0) {
    check_rank(context, 1, x.rank(), "the scale of blocks");
    const auto blocked = static_cast<std::size_t>(check_axis(axis, x.rank()));
    for (std::size_t a = 0; a < x.dims.size(); ++a) {
      check_dim(scale.dims[a], a == blocked ? Dim::ceildiv(x.dims[a], block_size) : x.dims[a], "a size of the scale");
    }
    return;
  }
  const Dim count = scale.num_elements();
  if (scale.rank() == 0 || count == Dim(1)) return;
  check_rank(context, 1, 1, "the scale of an axis");
  check_dim(count, x.dims[static_cast<std::size_t>(check_axis(axis, x.rank()))], "the length of the scale");
}

/// For each element of x: the index of its scale.
class ScaleIndex {
 public:
  ScaleIndex(std::span<const std::int64_t> dims, std::span<const std::int64_t> scale_dims, std::int64_t axis,
             std::int64_t block_size)
      : single_(num_elements(scale_dims) == 1), block_(std::max<std::int64_t>(block_size, 1)) {
    if (single_) return;
    const auto a = static_cast<std::size_t>(check_axis(axis, static_cast<int>(dims.size())));
    for (std::size_t i = a + 1; i < dims.size(); ++i) inner_ *= dims[i];
    size_ = dims[a];
    blocked_ = block_size > 0;
    scales_ = blocked_ ? scale_dims[a] : size_;
    ensure(num_elements(scale_dims) ==
                   (blocked_ ? num_elements(dims) / std::max<std::int64_t>(size_, 1) * scales_ : size_) &&
               scales_ == (size_ + block_ - 1) / block_,
           "a scale of shape {} for {}", to_string(Shape(scale_dims.begin(), scale_dims.end())),
           to_string(Shape(dims.begin(), dims.end())));
  }
  std::size_t operator()(std::int64_t element) const {
    if (single_) return 0;
    const std::int64_t position = element / inner_ % size_;
    if (!blocked_) return static_cast<std::size_t>(position);
    const std::int64_t outer = element / (inner_ * size_);
    return static_cast<std::size_t>((outer * scales_ + position / block_) * inner_ + element % inner_);
  }

 private:
  bool single_, blocked_ = false;
  std::int64_t block_, inner_ = 1, size_ = 1, scales_ = 1;
};

std::vector<std::int64_t> zero_points(const EvalContext& context, int index, std::size_t count) {
  if (!context.has_input(index) || context.input(index).dtype == DType::float8e4m3)
    return std::vector<std::int64_t>(count, 0);
  std::vector<std::int64_t> points = load_int64(context.input(index));
  ensure(points.size() == count, "{} zero points for {} scales", points.size(), count);
  return points;
}

OpPtr make_quantize(const Attributes& attributes) {
  const DType output = attributes.has("output_dtype") ? get_dtype(attributes, "output_dtype") : DType::undefined;
  require(output == DType::undefined || is_quantized(output), Code::invalid_model, "output_dtype must be {}, got {}",
          kQuantizedTypes, to_string(output));
  return std::make_shared<const QuantizeLinear>(attributes.get_int("axis", 1), block_size_from(attributes), output,
                                                attributes.get_int("saturate", 1) != 0);
}

OpPtr make_dequantize(const Attributes& attributes) {
  const DType output = attributes.has("output_dtype") ? get_dtype(attributes, "output_dtype") : DType::undefined;
  require(output == DType::undefined || is_float(output), Code::invalid_model,
          "output_dtype must be a floating-point type, got {}", to_string(output));
  return std::make_shared<const DequantizeLinear>(attributes.get_int("axis", 1), block_size_from(attributes), output);
}

/// ONNX's number for an element type becomes its name; 0 means "not given".
void import_quantization(ImportNode& node) {
  Attributes attributes = node.attributes();
  const std::int64_t number = attributes.get_int("output_dtype", 0);
  attributes.erase("output_dtype");
  if (number != 0) attributes.set("output_dtype", std::string(to_string(dtype_from_onnx(number))));
  node.set_output(0, node.add(make_op(node.op_type(), attributes), node.inputs()));
}

class DynamicQuantizeLinear final : public Op {
 public:
  std::string_view type() const override { return "DynamicQuantizeLinear"; }
  Attributes attributes() const override { return {}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 3);
    check_dtype(context, 0, DType::float32, "the input");
    context.set_output(0, {DType::uint8, context.input(0).dims});
    context.set_output(1, {DType::float32, {}});
    context.set_output(2, {DType::uint8, {}});
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const auto* values = x.as<const float>();
    const std::int64_t count = x.num_elements();
    float low = 0;
    float high = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      low = std::min(low, values[i]);
      high = std::max(high, values[i]);
    }
    const auto [scale, zero_point] = dynamic_scale(low, high);
    if (context.wants_output(0)) {
      auto* out = context.output(0).as<std::uint8_t>();
      for (std::int64_t i = 0; i < count; ++i) {
        out[i] = static_cast<std::uint8_t>(quantize(values[i], scale, zero_point, DType::uint8));
      }
    }
    if (context.wants_output(1)) *context.output(1).as<float>() = scale;
    if (context.wants_output(2)) *context.output(2).as<std::uint8_t>() = zero_point;
  }
};
OpPtr make_dynamic(const Attributes&) { return std::make_shared<const DynamicQuantizeLinear>(); }

}  // namespace

DynamicScale dynamic_scale(float low, float high) {
  const float scale = high == low ? 1.0F : (high - low) / 255.0F;
  return {scale, static_cast<std::uint8_t>(saturate(static_cast<double>(-low / scale), DType::uint8))};
}

std::int64_t quantize(float value, float scale, std::int64_t zero_point, DType dtype) {
  // The quotient is a float: that is what the operator's definition rounds.
  const double rounded = std::nearbyint(static_cast<double>(value / scale));
  return saturate(rounded + static_cast<double>(zero_point), dtype);
}

Attributes QuantizeLinear::attributes() const {
  Attributes attributes{{"axis", axis_}};
  if (block_size_ > 0) attributes.set("block_size", block_size_);
  if (output_dtype_ != DType::undefined) attributes.set("output_dtype", std::string(to_string(output_dtype_)));
  if (!saturates_) attributes.set("saturate", std::int64_t{0});
  return attributes;
}

void QuantizeLinear::infer(InferContext& context) const {
  check_num_inputs(context, 2, 3);
  check_num_outputs(context, 1, 1);
  const TensorType& x = context.input(0);
  require(is_float(x.dtype) || x.dtype == DType::int32, Code::invalid_model,
          "the input must be floating-point or int32, got {}", to_string(x.dtype));
  check_scale(context, axis_, block_size_);
  DType result = output_dtype_ == DType::undefined ? DType::uint8 : output_dtype_;
  if (context.has_input(2)) {
    result = context.input(2).dtype;
    require(is_quantized(result), Code::invalid_model, "the zero point must be {}, got {}", kQuantizedTypes,
            to_string(result));
    check_float8_zero_point(context);
    require(output_dtype_ == DType::undefined || output_dtype_ == result, Code::invalid_model,
            "output_dtype is {} and the zero point {}", to_string(output_dtype_), to_string(result));
  }
  context.set_output(0, {result, x.dims});
}

void QuantizeLinear::evaluate(EvalContext& context) const {
  const TensorView& x = context.input(0);
  const TensorView& y = context.output(0);
  check_output(context, 0, x.dims);
  const std::vector<double> values = load_doubles(x);
  const std::vector<double> scales = load_doubles(context.input(1));
  const std::vector<std::int64_t> points = zero_points(context, 2, scales.size());
  const ScaleIndex scale_of(x.dims, context.input(1).dims, axis_, block_size_);
  dispatch(y.dtype, [&]<typename T>() {
    if constexpr (std::is_same_v<T, Float8E4M3>) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        const auto scale = static_cast<float>(scales[scale_of(static_cast<std::int64_t>(i))]);
        y.as<T>()[i].bits = T::encode(static_cast<float>(values[i]) / scale, saturates_);
      }
    } else if constexpr (std::is_integral_v<T>) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::size_t s = scale_of(static_cast<std::int64_t>(i));
        y.as<T>()[i] =
            static_cast<T>(quantize(static_cast<float>(values[i]), static_cast<float>(scales[s]), points[s], y.dtype));
      }
    }
  });
}

Attributes DequantizeLinear::attributes() const {
  Attributes attributes{{"axis", axis_}};
  if (block_size_ > 0) attributes.set("block_size", block_size_);
  if (output_dtype_ != DType::undefined) attributes.set("output_dtype", std::string(to_string(output_dtype_)));
  return attributes;
}

void DequantizeLinear::infer(InferContext& context) const {
  check_num_inputs(context, 2, 3);
  check_num_outputs(context, 1, 1);
  const TensorType& x = context.input(0);
  require(is_quantized(x.dtype) || x.dtype == DType::int32, Code::invalid_model,
          "the input must be an integer of 8, 16 or 32 bits, or float8e4m3, got {}", to_string(x.dtype));
  check_scale(context, axis_, block_size_);
  if (context.has_input(2)) {
    check_same_dtype(context, 2, "the zero point");
    check_float8_zero_point(context);
  }
  context.set_output(0, {output_dtype_ == DType::undefined ? context.input(1).dtype : output_dtype_, x.dims});
}

void DequantizeLinear::evaluate(EvalContext& context) const {
  const TensorView& x = context.input(0);
  check_output(context, 0, x.dims);
  std::vector<double> values = load_doubles(x);
  const std::vector<double> scales = load_doubles(context.input(1));
  const std::vector<std::int64_t> points = zero_points(context, 2, scales.size());
  const ScaleIndex scale_of(x.dims, context.input(1).dims, axis_, block_size_);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t s = scale_of(static_cast<std::int64_t>(i));
    values[i] = (values[i] - static_cast<double>(points[s])) * scales[s];
  }
  store_doubles(values, context.output(0));
}

const OpDef kDequantizeLinearDef{"DequantizeLinear", make_dequantize, import_quantization};
const OpDef kDynamicQuantizeLinearDef{"DynamicQuantizeLinear", make_dynamic, import_plain};
const OpDef kQuantizeLinearDef{"QuantizeLinear", make_quantize, import_quantization};

}  // namespace tenfold
