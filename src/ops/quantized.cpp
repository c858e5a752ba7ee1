// Convolutions and matrix products of quantised operands: sums of (a - a_zero) * (b - b_zero), exact in integers, then
// for the QLinear forms  saturate(round(sum * (a_scale * b_scale / y_scale)) + y_zero).
// The sums are formed in double, which holds them exactly: products of 16-bit numbers, fewer than 2^20 of them.
// Source: ONNX operator sets 10 and 21: QLinearConv, ConvInteger, QLinearMatMul, MatMulInteger.
#include "ops/quantized.hpp"

#include <algorithm>
#include <cmath>

#include "ops/checks.hpp"
#include "ops/conv.hpp"
#include "ops/matmul.hpp"
#include "ops/numbers.hpp"
#include "ops/shape_math.hpp"

namespace tenfold {
namespace {

bool is_byte(DType dtype) { return dtype == DType::int8 || dtype == DType::uint8; }

void check_byte(const InferContext& context, int index, std::string_view what) {
  const DType dtype = context.input(index).dtype;
  require(is_byte(dtype), Code::invalid_model, "{} must be int8 or uint8, got {}", what, to_string(dtype));
}

void check_single(const InferContext& context, int index, std::string_view what) {
  check_dim(context.input(index).num_elements(), 1, what);
}

std::int64_t group_from(const Attributes& attributes) {
  const std::int64_t group = attributes.get_int("group", 1);
  require(1 <= group && group <= (std::int64_t{1} << 30), Code::invalid_model, "group must be 1 or more, got {}",
          group);
  return group;
}

Attributes attributes_of(const Window& window, std::int64_t group) {
  Attributes attributes;
  window.store(attributes);
  attributes.set("group", group);
  return attributes;
}

/// Values minus a zero point that is one number or one per run of `run` values.
std::vector<double> load_centred(EvalContext& context, int values_index, int zero_index, std::int64_t run) {
  std::vector<double> values = load_doubles(context.input(values_index));
  if (!context.has_input(zero_index)) return values;
  const std::vector<double> zero = load_doubles(context.input(zero_index));
  ensure(zero.size() == 1 || std::ssize(values) == std::ssize(zero) * run, "{} zero points for {} values", zero.size(),
         values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] -= zero.size() == 1 ? zero[0] : zero[i / static_cast<std::size_t>(run)];
  }
  return values;
}

float single_float(const EvalContext& context, int index) {
  const std::vector<double> values = load_doubles(context.input(index));
  ensure(values.size() == 1, "a scale of {} elements where one is needed", values.size());
  return static_cast<float>(values[0]);
}

std::int64_t single_int(const EvalContext& context, int index) {
  const std::vector<std::int64_t> values = load_int64(context.input(index));
  ensure(values.size() == 1, "{} zero points where one is needed", values.size());
  return values[0];
}

/// A zero point or scale of one factor of a product, with the axes that it has been given for: one number, one per row
/// (a) or column (b), or already shaped to broadcast. Returned with dims that broadcast against that factor.
Shape factor_dims(const TensorView& vector, const TensorView& matrix, bool per_row) {
  if (per_row && matrix.rank() >= 2 && vector.rank() == 1 && vector.dim(0) > 1) return {vector.dim(0), 1};
  return {vector.dims.begin(), vector.dims.end()};
}

std::vector<double> broadcast_to(std::span<const double> values, std::span<const std::int64_t> from,
                                 std::span<const std::int64_t> to) {
  std::vector<double> result;
  result.reserve(static_cast<std::size_t>(num_elements(to)));
  const std::vector<Shape> strides{values.size() == 1 ? Shape(to.size(), 0) : broadcast_strides(from, to)};
  for_each_index(to, strides, [&](std::span<const std::int64_t> offsets) {
    result.push_back(values[static_cast<std::size_t>(offsets[0])]);
  });
  return result;
}

std::vector<double> load_factor(EvalContext& context, int matrix_index, int zero_index, bool per_row) {
  const TensorView& matrix = context.input(matrix_index);
  std::vector<double> values = load_doubles(matrix);
  if (!context.has_input(zero_index)) return values;
  const TensorView& zero = context.input(zero_index);
  const std::vector<double> full = broadcast_to(load_doubles(zero), factor_dims(zero, matrix, per_row), matrix.dims);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] -= full[i];
  return values;
}

/// Zero points and scales of factor `index`: one number, or per row / column.
void check_factor_parameter(const InferContext& context, int parameter, int matrix, bool per_row,
                            std::string_view what) {
  if (!context.has_input(parameter)) return;
  const TensorType& type = context.input(parameter);
  const TensorType& factor = context.input(matrix);
  if (type.num_elements() == Dim(1)) return;
  if (type.rank() == 1 && factor.rank() >= 2) {
    const Dim& expected = factor.dims[factor.dims.size() - (per_row ? 2 : 1)];
    check_dim(type.dims[0], expected, what);
  } else {
    check_broadcasts_to(type.dims, factor.dims, what);
  }
}

/// Inputs: a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point.
class QLinearMatMul final : public Op {
 public:
  std::string_view type() const override { return "QLinearMatMul"; }
  Attributes attributes() const override { return {}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 8, 8);
    check_num_outputs(context, 1, 1);
    for (const int i : {0, 3}) {
      check_byte(context, i, "a factor");
      check_float(context, i + 1, "a scale");
      check_dtype(context, i + 2, context.input(i).dtype, "a zero point");
      check_factor_parameter(context, i + 1, i, i == 0, "a scale");
      check_factor_parameter(context, i + 2, i, i == 0, "a zero point");
    }
    check_float(context, 6, "the result's scale");
    check_byte(context, 7, "the result's zero point");
    check_single(context, 6, "the result's scale");
    check_single(context, 7, "the result's zero point");
    context.set_output(0, {context.input(7).dtype, matmul_output_dims(context.input(0).dims, context.input(3).dims)});
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& a = context.input(0);
    const TensorView& b = context.input(3);
    const TensorView& y = context.output(0);
    const MatMulPlan plan = plan_matmul(a.dims, b.dims, false, false);
    std::vector<double> sums =
        multiply<double>(plan, load_factor(context, 0, 2, true), load_factor(context, 3, 5, false), false, false);
    ensure(std::ssize(sums) == y.num_elements(), "product of inconsistent shapes");
    // Scales per row and per column broadcast to the result, whose last two axes are rows and columns.
    const auto on_result = [&](int index, const TensorView& matrix, bool per_row) {
      const TensorView& scale = context.input(index);
      return broadcast_to(load_doubles(scale), factor_dims(scale, matrix, per_row), y.dims);
    };
    const std::vector<double> a_scale = on_result(1, a, true);
    const std::vector<double> b_scale = on_result(4, b, false);
    const float y_scale = single_float(context, 6);
    const auto zero = static_cast<double>(single_int(context, 7));
    for (std::size_t i = 0; i < sums.size(); ++i) {
      const float factor = static_cast<float>(a_scale[i]) * static_cast<float>(b_scale[i]) / y_scale;
      sums[i] = std::nearbyint(static_cast<double>(static_cast<float>(sums[i]) * factor)) + zero;
    }
    store_doubles(sums, y);  // saturates
  }
};

OpPtr make_matmul_integer(const Attributes& attributes) {
  return std::make_shared<const MatMulInteger>(Epilogue::from(attributes));
}
OpPtr make_qlinear_matmul(const Attributes&) { return std::make_shared<const QLinearMatMul>(); }
OpPtr make_qlinear_conv(const Attributes& attributes) {
  return std::make_shared<const QLinearConv>(Window::from(attributes), group_from(attributes));
}
OpPtr make_conv_integer(const Attributes& attributes) {
  return std::make_shared<const ConvInteger>(Window::from(attributes), group_from(attributes));
}

template <int weights_index>
void import_quantized_conv(ImportNode& node) {
  require(node.has_input(0) && node.has_input(weights_index), Code::invalid_model, "input and weights are needed");
  const TensorType& x = node.graph().value(node.input(0)).type;
  const TensorType& weights = node.graph().value(node.input(weights_index)).type;
  require(3 <= x.rank() && x.rank() <= 5 && weights.rank() == x.rank(), Code::unsupported,
          "convolutions need an input of rank 3 to 5 and weights of the same rank, got {} and {}", to_string(x),
          to_string(weights));
  const Window window = import_window(node, std::span(x.dims).subspan(2), std::span(weights.dims).subspan(2));
  const Attributes attributes = attributes_of(window, group_from(node.attributes()));
  node.set_output(0, node.add(make_op(node.op_type(), attributes), node.inputs()));
}

}  // namespace

void check_zero_point(std::int64_t zero_point, DType dtype) {
  const std::int64_t low = dtype == DType::int8 ? -128 : 0;
  const std::int64_t high = dtype == DType::int8 ? 127 : dtype == DType::uint8 ? 255 : 0;
  require(low <= zero_point && zero_point <= high, Code::invalid_model, "zero_point must be {} to {} for {}, got {}",
          low, high, to_string(dtype), zero_point);
}

Attributes QLinearConv::attributes() const { return attributes_of(window_, group_); }

void QLinearConv::infer(InferContext& context) const {
  check_num_inputs(context, 8, 9);
  check_num_outputs(context, 1, 1);
  check_byte(context, 0, "the input");
  check_byte(context, 3, "the weights");
  check_byte(context, 7, "the result's zero point");
  for (const int i : {1, 4, 6}) check_float(context, i, "a scale");
  check_dtype(context, 2, context.input(0).dtype, "the input's zero point");
  check_dtype(context, 5, context.input(3).dtype, "the weights' zero point");
  for (const int i : {1, 2, 6, 7}) check_single(context, i, "the number of scales and zero points");
  const TensorType& weights = context.input(3);
  std::vector<Dim> dims = conv_output_dims(window_, {}, group_, context.input(0), weights);
  for (const int i : {4, 5}) {
    if (context.input(i).num_elements() != Dim(1)) {
      check_rank(context, i, 1, "the weights' scale and zero point");
      check_dim(context.input(i).dims[0], weights.dims[0], "the length of the weights' scale and zero point");
    }
  }
  if (context.has_input(8)) {
    check_dtype(context, 8, DType::int32, "the bias");
    check_rank(context, 8, 1, "the bias");
    check_dim(context.input(8).dims[0], weights.dims[0], "the length of the bias");
  }
  context.set_output(0, {context.input(7).dtype, std::move(dims)});
}

void QLinearConv::evaluate(EvalContext& context) const {
  const TensorView& weights = context.input(3);
  const TensorView& y = context.output(0);
  const PlainConv conv = plain_conv(window_, {}, group_, context.input(0), weights, y);
  const std::int64_t filter = weights.num_elements() / std::max<std::int64_t>(weights.dim(0), 1);
  const std::vector<double> x = load_centred(context, 0, 2, 1);
  const std::vector<double> w = load_centred(context, 3, 5, filter);
  const std::vector<double> bias = context.has_input(8) ? load_doubles(context.input(8)) : std::vector<double>{};
  std::vector<double> sums = conv.run(x, w, bias);
  const float x_scale = single_float(context, 1);
  const std::vector<double> w_scale = load_doubles(context.input(4));
  const float y_scale = single_float(context, 6);
  const auto zero = static_cast<double>(single_int(context, 7));
  const std::int64_t pixels = conv.output[0] * conv.output[1] * conv.output[2];
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const auto channel = static_cast<std::size_t>(static_cast<std::int64_t>(i) / pixels % conv.out_channels);
    const float factor = x_scale * static_cast<float>(w_scale[w_scale.size() == 1 ? 0 : channel]) / y_scale;
    sums[i] = std::nearbyint(static_cast<double>(static_cast<float>(sums[i]) * factor)) + zero;
  }
  store_doubles(sums, y);  // saturates
}

Attributes MatMulInteger::attributes() const {
  Attributes attributes;
  epilogue_.store(attributes);
  return attributes;
}

void MatMulInteger::infer(InferContext& context) const {
  const int extra = epilogue_.num_extra_inputs();
  check_num_inputs(context, 2, kFirstEpilogueInput + extra);
  check_num_outputs(context, 1, 1);
  for (int i = 0; i < 2; ++i) {
    check_byte(context, i, "a factor");
    if (context.has_input(2 + i)) check_dtype(context, 2 + i, context.input(i).dtype, "a zero point");
    check_factor_parameter(context, 2 + i, i, i == 0, "a zero point");
  }
  TensorType sums{DType::int32, matmul_output_dims(context.input(0).dims, context.input(1).dims)};
  context.set_output(0, check_epilogue(epilogue_, std::move(sums), context, kFirstEpilogueInput));
}

void MatMulInteger::evaluate(EvalContext& context) const {
  const MatMulPlan plan = plan_matmul(context.input(0).dims, context.input(1).dims, false, false);
  const std::vector<double> a = load_factor(context, 0, 2, true);
  const std::vector<double> b = load_factor(context, 1, 3, false);
  finish(epilogue_, multiply<double>(plan, a, b, false, false), context.output(0), context, kFirstEpilogueInput);
}

double MatMulInteger::flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const {
  return MatMul().flops(inputs, outputs);
}

Attributes ConvInteger::attributes() const { return attributes_of(window_, group_); }

void ConvInteger::infer(InferContext& context) const {
  check_num_inputs(context, 2, 4);
  check_num_outputs(context, 1, 1);
  check_byte(context, 0, "the input");
  check_byte(context, 1, "the weights");
  if (context.has_input(2)) {
    check_dtype(context, 2, context.input(0).dtype, "the input's zero point");
    check_single(context, 2, "the number of the input's zero points");
  }
  const TensorType& weights = context.input(1);
  std::vector<Dim> dims = conv_output_dims(window_, {}, group_, context.input(0), weights);
  if (context.has_input(3)) {
    check_dtype(context, 3, weights.dtype, "the weights' zero point");
    if (context.input(3).num_elements() != Dim(1)) {
      check_rank(context, 3, 1, "the weights' zero point");
      check_dim(context.input(3).dims[0], weights.dims[0], "the length of the weights' zero point");
    }
  }
  context.set_output(0, {DType::int32, std::move(dims)});
}

void ConvInteger::evaluate(EvalContext& context) const {
  const TensorView& weights = context.input(1);
  const PlainConv conv = plain_conv(window_, {}, group_, context.input(0), weights, context.output(0));
  const std::int64_t filter = weights.num_elements() / std::max<std::int64_t>(weights.dim(0), 1);
  const std::vector<double> x = load_centred(context, 0, 2, 1);
  const std::vector<double> w = load_centred(context, 1, 3, filter);
  store_doubles(conv.run(x, w, {}), context.output(0));
}

double ConvInteger::flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const {
  return Conv({.window = window_, .group = group_}).flops(inputs, outputs);
}

const OpDef kConvIntegerDef{"ConvInteger", make_conv_integer, import_quantized_conv<1>};
const OpDef kMatMulIntegerDef{"MatMulInteger", make_matmul_integer, import_plain};
const OpDef kQLinearConvDef{"QLinearConv", make_qlinear_conv, import_quantized_conv<3>};
const OpDef kQLinearMatMulDef{"QLinearMatMul", make_qlinear_matmul, import_plain};

}  // namespace tenfold
