// Quantised models: QuantizeLinear and DequantizeLinear around float operators become arithmetic on 8-bit integers or
// float8, for backends that have kernels for it. With q the quantised tensors, s their scales, z the zero point of x
// (that of w is 0):
//   Conv(s_x (q_x - z), s_w[o] q_w) + b  =  (s_x s_w[o]) Conv(q_x - z, q_w) + b
//                                        =  (s_x s_w[o]) (Conv(q_x, q_w) - z sum(q_w[o])) + b
// The sums of integers are exact; float8 has no zero point. Backends whose products know zero points get the first
// form; for others x is padded with z, where it has padding, and the second form is a shift per channel. Models that
// name the operators on integers themselves (QLinearConv, QLinearMatMul) are first brought into this form. Three
// passes, for each of the formats. Two stand before constant folding, which would turn quantised weights into floats:
// products take the integers, and DequantizeLinear moves down through operators that only move or choose elements. The
// second stands behind fusion: scales, biases, residuals and activations are in the epilogue by then, which takes the
// QuantizeLinear behind it and reads quantised residuals as they are. Multiplying by 1 / s instead of dividing by s may
// round a tie the other way.
#include <algorithm>
#include <array>
#include <cmath>

#include "ops/conv.hpp"
#include "ops/matmul.hpp"
#include "ops/pad.hpp"
#include "ops/pool.hpp"
#include "ops/quantized.hpp"
#include "ops/registry.hpp"
#include "passes/match.hpp"
#include "passes/passes.hpp"
#include "passes/program_builder.hpp"

namespace tenfold {
namespace {

/// What real numbers are quantised to. A rewrite of one format leaves the others alone: not every backend has kernels
/// for both.
enum class Format : std::uint8_t { bytes, float8, any };
constexpr bool is_byte(DType dtype) { return dtype == DType::int8 || dtype == DType::uint8; }
constexpr bool is_in(Format format, DType dtype) {
  return (format != Format::float8 && is_byte(dtype)) || (format != Format::bytes && dtype == DType::float8e4m3);
}

/// One scale and zero point for the whole tensor, both known.
struct Quantisation {
  float scale = 1;
  float zero_point = 0;
  DType dtype = DType::undefined;
  bool operator==(const Quantisation&) const = default;
};
/// Of a QuantizeLinear or DequantizeLinear between float32 and the format; nullopt if it has several scales.
template <Format kFormat>
std::optional<Quantisation> quantisation_of(const GraphView& graph, const Node& node) {
  const bool forward = is(node, "QuantizeLinear");
  if (!forward && !is(node, "DequantizeLinear")) return std::nullopt;
  const DType real = graph.type(forward ? node.inputs[0] : node.outputs[0]).dtype;
  const DType quantised = graph.type(forward ? node.outputs[0] : node.inputs[0]).dtype;
  if (real != DType::float32 || !is_in(kFormat, quantised)) return std::nullopt;
  if (node.op->attributes().get_int("saturate", 1) == 0) return std::nullopt;
  const std::optional<double> scale = scalar_of(graph, node.inputs[1]);
  std::optional<double> zero_point = 0;
  if (input_of(node, 2) != kNoValue) zero_point = scalar_of(graph, node.inputs[2]);
  if (!scale || !zero_point || !(*scale > 0) || !std::isnormal(1 / static_cast<float>(*scale))) return std::nullopt;
  return Quantisation{static_cast<float>(*scale), static_cast<float>(*zero_point), quantised};
}

/// Are the numbers known, and all of them this one?
bool are_all(const Tensor* numbers, double wanted) {
  if (numbers == nullptr) return false;
  const std::vector<double> values = numbers->to_double();
  return std::all_of(values.begin(), values.end(), [&](double value) { return value == wanted; });
}

/// The DequantizeLinear that computes `value`, if it has zero point 0 throughout.
template <Format kFormat>
const Node* centred(const GraphView& graph, ValueId value) {
  const Node* node = producer_of(graph, value, "DequantizeLinear");
  if (node == nullptr || !is_in(kFormat, graph.type(node->inputs[0]).dtype) ||
      graph.type(value).dtype != DType::float32 || node->op->attributes().get_int("block_size", 0) != 0)
    return nullptr;
  const ValueId zero_point = input_of(*node, 2);
  return zero_point == kNoValue || are_all(graph.constant(zero_point), 0) ? node : nullptr;
}

/// Scales of a product's weights, times that of its input, shaped to lie along the result's channels: [O, 1, 1 ...].
/// The weights have one scale, or one for each index of `axis`.
std::optional<Tensor> result_scale(const GraphView& graph, const Node& x, const Node& weights, std::int64_t axis,
                                   int trailing_axes) {
  const std::optional<double> x_scale = scalar_of(graph, x.inputs[1]);
  const Tensor* scales = graph.constant(weights.inputs[1]);
  const TensorType& type = graph.type(weights.inputs[0]);
  if (!x_scale || scales == nullptr || scales->dtype() != DType::float32 ||
      !type.dims[static_cast<std::size_t>(axis)].is_constant())
    return std::nullopt;
  const std::int64_t channels = type.dims[static_cast<std::size_t>(axis)].constant();
  std::int64_t scale_axis = weights.op->attributes().get_int("axis", 1);
  if (scale_axis < 0) scale_axis += type.rank();
  if (scales->num_elements() != 1 && (scales->num_elements() != channels || scale_axis != axis)) return std::nullopt;
  Shape shape(static_cast<std::size_t>(trailing_axes) + 1, 1);
  shape[0] = channels;
  Tensor result(DType::float32, shape);
  const auto from = scales->as<float>();
  const auto to = result.as_mutable<float>();
  for (std::size_t i = 0; i < to.size(); ++i) to[i] = from[from.size() == 1 ? 0 : i] * static_cast<float>(*x_scale);
  return result;
}

/// The DequantizeLinear that computes `value`, with one scale and zero point.
template <Format kFormat>
const Node* dequantised(const GraphView& graph, ValueId value) {
  const Node* node = producer_of(graph, value, "DequantizeLinear");
  return node != nullptr && quantisation_of<kFormat>(graph, *node) ? node : nullptr;
}
constexpr DType weights_type(Format format) { return format == Format::float8 ? DType::float8e4m3 : DType::int8; }

/// What the zero point of x adds to every result: -z s sum(q_w[o]), in the shape of `scale`. Weights of result o lie at
/// o * outer + i * inner.
Tensor zero_point_shift(const Tensor& weights, const Tensor& scale, float zero_point, std::size_t outer,
                        std::size_t inner) {
  Tensor shift(DType::float32, scale.shape());
  const auto numbers = weights.as<std::int8_t>();
  const auto scales = scale.as<float>();
  const auto to = shift.as_mutable<float>();
  const std::size_t count = to.empty() ? 0 : numbers.size() / to.size();
  for (std::size_t o = 0; o < to.size(); ++o) {
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < count; ++i) sum += numbers[o * outer + i * inner];
    to[o] = static_cast<float>(-static_cast<double>(zero_point) * scales[o] * static_cast<double>(sum));
  }
  return shift;
}

/// Conv of dequantised input and weights: the quantised ones' convolution, then scale and bias.
template <Format kFormat, bool kKeepsZeroPoint>
std::optional<Patch> quantised_conv(const GraphView& graph, const Node& node) {
  const auto* conv = op_cast<Conv>(&node);
  if (conv == nullptr || conv->layout() != ImageLayout::nchw || !conv->epilogue().program.empty()) return std::nullopt;
  const Node* x = dequantised<kFormat>(graph, node.inputs[0]);
  const Node* weights = centred<kFormat>(graph, node.inputs[1]);
  if (x == nullptr || weights == nullptr) return std::nullopt;
  if (graph.type(weights->inputs[0]).dtype != weights_type(kFormat)) return std::nullopt;
  std::optional<Tensor> scale = result_scale(graph, *x, *weights, 0, conv->spatial_rank());
  if (!scale) return std::nullopt;
  const float zero_point = quantisation_of<kFormat>(graph, *x)->zero_point;
  const Tensor* numbers = graph.constant(weights->inputs[0]);
  Conv::Spec spec = conv->spec();
  const bool moves_zero_point = !kKeepsZeroPoint && zero_point != 0;
  if (moves_zero_point && (numbers == nullptr || spec.window.auto_pad != AutoPad::notset)) return std::nullopt;
  Patch patch(graph, node);
  patch.absorb(*x).absorb(*weights);
  spec.epilogue.output = DType::float32;
  if (kKeepsZeroPoint) spec.zero_point = static_cast<std::int64_t>(zero_point);
  const Shape shape = scale->shape();
  ValueId image = x->inputs[0];
  if (moves_zero_point && spec.window.has_padding()) {
    const auto axes = static_cast<std::size_t>(conv->spatial_rank());
    std::vector<std::int64_t> pads(2 * axes + 4, 0);
    for (std::size_t a = 0; a < axes; ++a) {
      pads[2 + a] = spec.window.pads[a];
      pads[axes + 4 + a] = spec.window.pads[axes + a];
    }
    image = patch.add(std::make_shared<const Pad>(PadMode::constant, std::move(pads), zero_point), {image});
    spec.window.pads.assign(2 * axes, 0);
  }
  std::optional<Tensor> shift;
  if (moves_zero_point && shape[0] > 0) {
    const std::size_t count = numbers->as<std::int8_t>().size() / static_cast<std::size_t>(shape[0]);
    shift = zero_point_shift(*numbers, *scale, zero_point, count, 1);
  }
  ValueId result = patch.add(std::make_shared<const Conv>(std::move(spec)), {image, weights->inputs[0]});
  result = patch.add(make_op("Mul"), {result, patch.constant(node.name + ".scale", std::move(*scale))});
  if (shift) result = patch.add(make_op("Add"), {result, patch.constant(node.name + ".shift", std::move(*shift))});
  if (const ValueId bias = input_of(node, 2); bias != kNoValue) {
    const OpPtr reshape = make_op("Reshape", {{"dims", dim_texts({shape.begin(), shape.end()})}});
    result = patch.add(make_op("Add"), {result, patch.add(reshape, {bias})});
  }
  return std::move(patch.replace(node.outputs[0], result));
}

/// The same for a product with a matrix of weights.
template <Format kFormat, bool kKeepsZeroPoint>
std::optional<Patch> quantised_matmul(const GraphView& graph, const Node& node) {
  const auto* matmul = op_cast<MatMul>(&node);
  if (matmul == nullptr || matmul->trans_a() || !matmul->epilogue().program.empty()) return std::nullopt;
  const Node* x = dequantised<kFormat>(graph, node.inputs[0]);
  const Node* weights = centred<kFormat>(graph, node.inputs[1]);
  if (x == nullptr || weights == nullptr) return std::nullopt;
  const TensorType& type = graph.type(weights->inputs[0]);
  if (type.dtype != weights_type(kFormat) || type.rank() != 2 || graph.type(x->inputs[0]).rank() < 2)
    return std::nullopt;
  std::optional<Tensor> scale = result_scale(graph, *x, *weights, matmul->trans_b() ? 0 : 1, 0);
  if (!scale) return std::nullopt;
  const float zero_point = quantisation_of<kFormat>(graph, *x)->zero_point;
  const Tensor* numbers = graph.constant(weights->inputs[0]);
  const bool moves_zero_point = !kKeepsZeroPoint && zero_point != 0;
  if (moves_zero_point && numbers == nullptr) return std::nullopt;
  Patch patch(graph, node);
  patch.absorb(*x).absorb(*weights);
  Epilogue epilogue;
  epilogue.output = DType::float32;
  const OpPtr op = std::make_shared<const MatMul>(false, matmul->trans_b(), std::move(epilogue),
                                                  kKeepsZeroPoint ? static_cast<std::int64_t>(zero_point) : 0);
  const ValueId product = patch.add(op, {x->inputs[0], weights->inputs[0]});
  std::optional<Tensor> shift;
  if (moves_zero_point) {
    const auto columns = static_cast<std::size_t>(numbers->shape()[1]);
    shift = matmul->trans_b() ? zero_point_shift(*numbers, *scale, zero_point, columns, 1)
                              : zero_point_shift(*numbers, *scale, zero_point, 1, columns);
  }
  ValueId result = patch.add(make_op("Mul"), {product, patch.constant(node.name + ".scale", std::move(*scale))});
  if (shift) result = patch.add(make_op("Add"), {result, patch.constant(node.name + ".shift", std::move(*shift))});
  return std::move(patch.replace(node.outputs[0], result));
}

/// Unsigned bytes lie around this one as signed ones around 0.
constexpr std::int64_t kMiddleOfBytes = 128;
Tensor moved_to_signed(const Tensor& weights) {
  Tensor moved(DType::int8, weights.shape());
  const auto from = weights.as<std::uint8_t>();
  const auto to = moved.as_mutable<std::int8_t>();
  for (std::size_t i = 0; i < to.size(); ++i) to[i] = static_cast<std::int8_t>(from[i] - kMiddleOfBytes);
  return moved;
}
/// Weights that are unsigned around 128 are signed around 0.
std::optional<Patch> signed_weights(const GraphView& graph, const Node& node) {
  if (!is(node, "DequantizeLinear") || node.op->attributes().get_int("block_size", 0) != 0) return std::nullopt;
  const Tensor* weights = graph.constant(node.inputs[0]);
  const ValueId zeros = input_of(node, 2);
  if (weights == nullptr || weights->dtype() != DType::uint8 || zeros == kNoValue ||
      !are_all(graph.constant(zeros), kMiddleOfBytes))
    return std::nullopt;
  Patch patch(graph, node);
  const ValueId constant = patch.constant(node.name + ".signed", moved_to_signed(*weights));
  return std::move(patch.replace(node.outputs[0], patch.add(node.op, {constant, node.inputs[1]})));
}

/// A product of scales that are known, as a constant; nullopt if they are not.
std::optional<ValueId> product_of_scales(const GraphView& graph, Patch& patch, const Node& node, ValueId one,
                                         ValueId many) {
  const std::optional<double> factor = scalar_of(graph, one);
  const Tensor* scales = graph.constant(many);
  if (!factor || scales == nullptr || scales->dtype() != DType::float32) return std::nullopt;
  Tensor product(DType::float32, scales->shape());
  const auto from = scales->as<float>();
  const auto to = product.as_mutable<float>();
  for (std::size_t i = 0; i < to.size(); ++i) to[i] = from[i] * static_cast<float>(*factor);
  return patch.constant(node.name + ".scale", std::move(product));
}

/// QLinearConv and QLinearMatMul are float operators between DequantizeLinear and QuantizeLinear. Where the exact sum
/// is scaled, a tie may be rounded the other way.
std::optional<Patch> qlinear_conv(const GraphView& graph, const Node& node) {
  const auto* conv = op_cast<QLinearConv>(&node);
  if (conv == nullptr) return std::nullopt;
  const OpPtr dequantise = make_op("DequantizeLinear", {{"axis", std::int64_t{0}}});
  Patch patch(graph, node);
  const ValueId x = patch.add(dequantise, {node.inputs[0], node.inputs[1], node.inputs[2]});
  const ValueId weights = patch.add(dequantise, {node.inputs[3], node.inputs[4], node.inputs[5]});
  std::vector<ValueId> inputs{x, weights};
  if (input_of(node, 8) != kNoValue) {
    const std::optional<ValueId> scale = product_of_scales(graph, patch, node, node.inputs[1], node.inputs[4]);
    if (!scale) return std::nullopt;
    inputs.push_back(patch.add(dequantise, {node.inputs[8], *scale}));
  }
  const OpPtr op = std::make_shared<const Conv>(Conv::Spec{.window = conv->window(), .group = conv->group()});
  const ValueId result = patch.add(op, std::move(inputs));
  return std::move(
      patch.replace(node.outputs[0], patch.add(make_op("QuantizeLinear"), {result, node.inputs[6], node.inputs[7]})));
}
std::optional<Patch> qlinear_matmul(const GraphView& graph, const Node& node) {
  if (!is(node, "QLinearMatMul")) return std::nullopt;
  // Scales of rows have no place in DequantizeLinear where the matrix has more axes.
  if (!scalar_of(graph, node.inputs[1]) || graph.type(node.inputs[3]).rank() != 2) return std::nullopt;
  Patch patch(graph, node);
  const ValueId a = patch.add(make_op("DequantizeLinear"), {node.inputs[0], node.inputs[1], node.inputs[2]});
  const ValueId b = patch.add(make_op("DequantizeLinear"), {node.inputs[3], node.inputs[4], node.inputs[5]});
  const ValueId result = patch.add(std::make_shared<const MatMul>(), {a, b});
  return std::move(
      patch.replace(node.outputs[0], patch.add(make_op("QuantizeLinear"), {result, node.inputs[6], node.inputs[7]})));
}

/// Are the weights of a MatMulInteger or ConvInteger constant, and their zero points all in the middle of their range?
bool has_weights_around_their_middle(const GraphView& graph, const Node& node) {
  const Tensor* weights = graph.constant(node.inputs[1]);
  if (weights == nullptr) return false;
  const std::int64_t middle = weights->dtype() == DType::uint8 ? kMiddleOfBytes : 0;
  const ValueId zeros = input_of(node, 3);
  return zeros == kNoValue ? middle == 0 : are_all(graph.constant(zeros), static_cast<double>(middle));
}

/// ConvInteger behind which the sums become floats, as networks quantised dynamically have it: a convolution of
/// integers that reads its zero point. That of the weights must be in their middle.
std::optional<Patch> dynamic_conv(const GraphView& graph, const Node& node) {
  if (!is(node, "Cast") || graph.type(node.outputs[0]).dtype != DType::float32) return std::nullopt;
  const Node* source = sole_producer_of(graph, node.inputs[0], "ConvInteger");
  if (source == nullptr) return std::nullopt;
  const auto* conv = op_cast<ConvInteger>(source);
  const Tensor* weights = graph.constant(source->inputs[1]);
  if (!has_weights_around_their_middle(graph, *source)) return std::nullopt;
  Conv::Spec spec{.window = conv->window(), .group = conv->group()};
  spec.epilogue.output = DType::float32;
  Patch patch(graph, node);
  patch.absorb(*source);
  std::vector<ValueId> inputs{source->inputs[0], source->inputs[1]};
  if (weights->dtype() == DType::uint8) inputs[1] = patch.constant(source->name + ".signed", moved_to_signed(*weights));
  if (const ValueId zero = input_of(*source, 2); zero != kNoValue) {
    if (const std::optional<double> known = scalar_of(graph, zero)) {
      spec.zero_point = static_cast<std::int64_t>(*known);
    } else {
      inputs.push_back(zero);
    }
  }
  return std::move(
      patch.replace(node.outputs[0], patch.add(std::make_shared<const Conv>(std::move(spec)), std::move(inputs))));
}

/// The same for matrices: the sums become floats in the product, which already reads its zero point.
std::optional<Patch> dynamic_matmul(const GraphView& graph, const Node& node) {
  if (!is(node, "Cast") || graph.type(node.outputs[0]).dtype != DType::float32) return std::nullopt;
  const Node* source = sole_producer_of(graph, node.inputs[0], "MatMulInteger");
  if (source == nullptr || !has_weights_around_their_middle(graph, *source)) return std::nullopt;
  const ValueId zero = input_of(*source, 2);
  if (zero != kNoValue && graph.type(zero).num_elements() != Dim(1)) return std::nullopt;
  Patch patch(graph, node);
  patch.absorb(*source);
  const Epilogue epilogue{.program = {}, .output = DType::float32};
  return std::move(
      patch.replace(node.outputs[0], patch.add(std::make_shared<const MatMulInteger>(epilogue), source->inputs)));
}

/// Is the value what an integer product became by a few elementwise operators that nobody else reads?
bool comes_from_integer_product(const GraphView& graph, ValueId value) {
  constexpr int kMostSteps = 6;
  for (int i = 0; i < kMostSteps; ++i) {
    const Node* node = graph.has_single_use(value) ? graph.producer(value) : nullptr;
    if (node == nullptr) return false;
    if (is_one_of(*node, {"Conv", "MatMul"})) {
      const DType dtype = graph.type(node->inputs[0]).dtype;
      return dtype == DType::int8 || dtype == DType::uint8;
    }
    if (!is_one_of(*node, {"Mul", "Add", "Relu", "Clip"})) return false;
    value = node->inputs[0];
  }
  return false;
}

/// A product's result that becomes integers only to be added to others is rounded in its epilogue.
std::optional<Patch> round_in_place(const GraphView& graph, const Node& node) {
  if (!is(node, "DequantizeLinear")) return std::nullopt;
  const Node* source = sole_producer_of(graph, node.inputs[0], "QuantizeLinear");
  const Node* sum = graph.only_reader(node.outputs[0]);
  if (source == nullptr || !is(sum, "Add") || !same_dims(graph, node.outputs[0], sum->outputs[0])) return std::nullopt;
  const auto there = quantisation_of<Format::bytes>(graph, *source), back = quantisation_of<Format::bytes>(graph, node);
  // Of two products that are added, one stays as integers, to be read by the other's epilogue.
  if (!there || there != back ||
      producer_of(graph, other_input(*sum, node.outputs[0]), "DequantizeLinear") == nullptr ||
      !comes_from_integer_product(graph, source->inputs[0]))
    return std::nullopt;
  using enum PointwiseCode;
  const float lowest = (there->dtype == DType::int8 ? -128.0F : 0.0F) - there->zero_point;
  ProgramBuilder builder;
  int item = builder.apply(mul_imm, builder.input(source->inputs[0]), 0, 0, 1 / there->scale);
  item = builder.apply(min_imm, builder.apply(max_imm, item, 0, 0, lowest), 0, 0, lowest + 255);
  item = builder.apply(mul_imm, builder.apply(round, item), 0, 0, there->scale);
  const std::optional<BoundProgram> bound = builder.finish(item);
  if (!bound) return std::nullopt;
  Patch patch(graph, node);
  patch.absorb(*source);
  return std::move(
      patch.replace(node.outputs[0], patch.add(std::make_shared<const Pointwise>(bound->program), bound->inputs)));
}

/// Operators that only move or choose elements do so with the quantised ones as well.
template <Format kFormat>
std::optional<Patch> dequantise_later(const GraphView& graph, const Node& node) {
  static constexpr std::array<std::string_view, 9> kMoving = {
      "Transpose", "Reshape", "Slice", "Squeeze", "Unsqueeze", "Flatten", "Expand", "MaxPool", "DepthToSpace"};
  if (std::find(kMoving.begin(), kMoving.end(), node.op->type()) == kMoving.end()) return std::nullopt;
  if (node.outputs.size() > 1 && node.outputs[1] != kNoValue) return std::nullopt;
  const Node* source = producer_of(graph, node.inputs[0], "DequantizeLinear");
  if (source == nullptr || !quantisation_of<kFormat>(graph, *source)) return std::nullopt;
  if (is(node, "MaxPool") && !is_byte(graph.type(source->inputs[0]).dtype)) return std::nullopt;
  Patch patch(graph, node);
  patch.absorb(*source);
  std::vector<ValueId> inputs = node.inputs;
  inputs[0] = source->inputs[0];
  std::vector<ValueId> scaled = source->inputs;
  scaled[0] = patch.add(node.op, std::move(inputs));
  return std::move(patch.replace(node.outputs[0], patch.add(source->op, std::move(scaled))));
}

/// Quantising what was dequantised in the same way gives the same numbers.
template <Format kFormat>
std::optional<Patch> requantise_same(const GraphView& graph, const Node& node) {
  if (!is(node, "QuantizeLinear")) return std::nullopt;
  const Node* source = producer_of(graph, node.inputs[0], "DequantizeLinear");
  if (source == nullptr) return std::nullopt;
  const auto there = quantisation_of<kFormat>(graph, *source), back = quantisation_of<kFormat>(graph, node);
  if (!there || there != back) return std::nullopt;
  Patch patch(graph, node);
  return std::move(patch.replace(node.outputs[0], source->inputs[0]));
}

// --- Behind fusion

/// Where the operands of a node's program begin among its inputs; nullopt if it has none.
std::optional<std::size_t> first_operand(const Node& node) {
  if (is(node, "Pointwise")) return 0;
  if (is(node, "Conv")) return Conv::kFirstEpilogueInput;
  if (is(node, "MatMul")) return MatMul::kFirstEpilogueInput;
  return std::nullopt;
}
template <Format kFormat>
bool is_product_of(const GraphView& graph, const Node& node) {
  return is_one_of(node, {"Conv", "MatMul"}) && is_in(kFormat, graph.type(node.inputs[0]).dtype);
}

/// A node with its program in the builder.
struct OpenProgram {
  const Node* node;
  std::size_t first;
  ProgramBuilder builder;
  int result = 0;
};
/// `operand` gives the builder's index of each input value.
template <typename F>
OpenProgram open_program(const Node& node, std::size_t first, F&& operand) {
  OpenProgram open{&node, first, {}, 0};
  const bool is_pointwise = first == 0;
  const Attributes attributes = node.op->attributes();
  std::vector<int> operands;
  // Register 0 of an epilogue is the node's own result, for which its output stands here.
  if (!is_pointwise) operands.push_back(open.builder.input(node.outputs[0]));
  for (std::size_t i = first; i < node.inputs.size(); ++i) operands.push_back(operand(open.builder, node.inputs[i]));
  const PointwiseProgram program =
      is_pointwise ? op_cast<Pointwise>(&node)->program() : Epilogue::from(attributes).program;
  open.result = program.empty() ? operands[0] : open.builder.inlined(program, operands);
  return open;
}
/// The node with the builder's program, storing its result as `to`, in place of `replaced`.
std::optional<Patch> close_program(const GraphView& graph, OpenProgram& open, DType to, const Node& absorbed,
                                   ValueId replaced) {
  const Node& node = *open.node;
  const bool is_pointwise = open.first == 0;
  std::optional<BoundProgram> bound =
      open.builder.finish(open.result, is_pointwise ? std::nullopt : std::optional(node.outputs[0]));
  if (!bound) return std::nullopt;
  Patch patch(graph, node);
  patch.absorb(absorbed);
  if (is_pointwise) {
    const ValueId result = patch.add(std::make_shared<const Pointwise>(bound->program, to), bound->inputs);
    return std::move(patch.replace(replaced, result));
  }
  std::vector<ValueId> inputs = node.inputs;
  inputs.resize(std::min(inputs.size(), open.first));
  if (bound->inputs.size() > 1) inputs.resize(open.first, kNoValue);
  inputs.insert(inputs.end(), bound->inputs.begin() + 1, bound->inputs.end());
  Attributes attributes = node.op->attributes();
  attributes.erase("epilogue_inputs");
  Epilogue{bound->program, to}.store(attributes);
  if (bound->inputs.size() == 1) attributes.erase("epilogue_inputs");
  return std::move(patch.replace(replaced, patch.add(make_op(node.op->type(), attributes), std::move(inputs))));
}

/// A program behind whose result a QuantizeLinear stands alone quantises it itself.
template <Format kFormat>
std::optional<Patch> quantise_result(const GraphView& graph, const Node& node) {
  if (!is(node, "QuantizeLinear") || !graph.has_single_use(node.inputs[0])) return std::nullopt;
  const std::optional<Quantisation> quantisation = quantisation_of<kFormat>(graph, node);
  const Node* producer = graph.producer(node.inputs[0]);
  if (!quantisation || producer == nullptr) return std::nullopt;
  const std::optional<std::size_t> first = first_operand(*producer);
  if (!first || (*first != 0 && !is_product_of<kFormat>(graph, *producer))) return std::nullopt;
  using enum PointwiseCode;
  OpenProgram open =
      open_program(*producer, *first, [](ProgramBuilder& builder, ValueId value) { return builder.input(value); });
  open.result = open.builder.apply(mul_imm, open.result, 0, 0, 1 / quantisation->scale);
  if (quantisation->zero_point != 0) {
    open.result = open.builder.apply(add_imm, open.builder.apply(round, open.result), 0, 0, quantisation->zero_point);
  }
  return close_program(graph, open, quantisation->dtype, node, node.outputs[0]);
}

/// A program reads quantised operands as they are.
template <Format kFormat>
std::optional<Patch> dequantise_operand(const GraphView& graph, const Node& node) {
  const std::optional<std::size_t> first = first_operand(node);
  if (!first) return std::nullopt;
  const Node* source = nullptr;
  for (std::size_t i = *first; i < node.inputs.size() && source == nullptr; ++i) {
    const Node* producer = producer_of(graph, node.inputs[i], "DequantizeLinear");
    if (producer != nullptr && quantisation_of<kFormat>(graph, *producer)) source = producer;
  }
  // Float products keep float operands: their kernels may know no others.
  if (source == nullptr || (*first != 0 && !is_product_of<kFormat>(graph, node))) return std::nullopt;
  const Quantisation quantisation = *quantisation_of<kFormat>(graph, *source);
  using enum PointwiseCode;
  OpenProgram open = open_program(node, *first, [&](ProgramBuilder& builder, ValueId value) {
    if (value != source->outputs[0]) return builder.input(value);
    int item = builder.input(source->inputs[0]);
    if (quantisation.zero_point != 0) item = builder.apply(add_imm, item, 0, 0, -quantisation.zero_point);
    return builder.apply(mul_imm, item, 0, 0, quantisation.scale);
  });
  return close_program(graph, open, graph.type(node.outputs[0]).dtype, *source, node.outputs[0]);
}

/// Quantising keeps the order of numbers, so the largest of a window may be chosen behind it: the producer stores, and
/// the pooling reads, a byte for each element.
std::optional<Patch> quantise_before_pooling(const GraphView& graph, const Node& node) {
  if (!is(node, "QuantizeLinear") || !quantisation_of<Format::bytes>(graph, node)) return std::nullopt;
  const Node* pool = sole_producer_of(graph, node.inputs[0], "MaxPool");
  if (pool == nullptr || (pool->outputs.size() > 1 && pool->outputs[1] != kNoValue)) return std::nullopt;
  const Node* producer = graph.producer(pool->inputs[0]);
  if (producer == nullptr || !graph.has_single_use(pool->inputs[0]) ||
      !(is(*producer, "Pointwise") || is_product_of<Format::bytes>(graph, *producer)))
    return std::nullopt;
  Patch patch(graph, node);
  patch.absorb(*pool);
  std::vector<ValueId> quantised = node.inputs;
  quantised[0] = pool->inputs[0];
  const ValueId integers = patch.add(node.op, std::move(quantised));
  return std::move(patch.replace(node.outputs[0], patch.add(pool->op, {integers})));
}

/// What is quantised again in another way goes there at once.
template <Format kFormat>
std::optional<Patch> requantise(const GraphView& graph, const Node& node) {
  if (!is(node, "QuantizeLinear")) return std::nullopt;
  const Node* source = producer_of(graph, node.inputs[0], "DequantizeLinear");
  if (source == nullptr) return std::nullopt;
  const auto there = quantisation_of<kFormat>(graph, *source), back = quantisation_of<kFormat>(graph, node);
  if (!there || !back || there == back) return std::nullopt;
  using enum PointwiseCode;
  ProgramBuilder builder;
  int item = builder.input(source->inputs[0]);
  if (there->zero_point != 0) item = builder.apply(add_imm, item, 0, 0, -there->zero_point);
  item = builder.apply(mul_imm, builder.apply(mul_imm, item, 0, 0, there->scale), 0, 0, 1 / back->scale);
  if (back->zero_point != 0) item = builder.apply(add_imm, builder.apply(round, item), 0, 0, back->zero_point);
  const std::optional<BoundProgram> bound = builder.finish(item);
  if (!bound) return std::nullopt;
  Patch patch(graph, node);
  patch.absorb(*source);
  const OpPtr program = std::make_shared<const Pointwise>(bound->program, back->dtype);
  return std::move(patch.replace(node.outputs[0], patch.add(program, bound->inputs)));
}

/// What is left for others to read is a program, whose result may be of any float type.
template <Format kFormat>
std::optional<Patch> dequantise_program(const GraphView& graph, const Node& node) {
  if (!is(node, "DequantizeLinear")) return std::nullopt;
  const std::optional<Quantisation> quantisation = quantisation_of<kFormat>(graph, node);
  const Node* reader = graph.only_reader(node.outputs[0]);
  if (!quantisation || reader == nullptr || first_operand(*reader) || is(*reader, "QuantizeLinear"))
    return std::nullopt;
  using enum PointwiseCode;
  ProgramBuilder builder;
  int item = builder.input(node.inputs[0]);
  if (quantisation->zero_point != 0) item = builder.apply(add_imm, item, 0, 0, -quantisation->zero_point);
  const std::optional<BoundProgram> bound = builder.finish(builder.apply(mul_imm, item, 0, 0, quantisation->scale));
  if (!bound) return std::nullopt;
  Patch patch(graph, node);
  return std::move(
      patch.replace(node.outputs[0], patch.add(std::make_shared<const Pointwise>(bound->program), bound->inputs)));
}

/// The same for what others wrote: a program reads any float type.
template <Format kFormat>
std::optional<Patch> quantise_program(const GraphView& graph, const Node& node) {
  if (!is(node, "QuantizeLinear")) return std::nullopt;
  const std::optional<Quantisation> quantisation = quantisation_of<kFormat>(graph, node);
  const Node* producer = graph.producer(node.inputs[0]);
  // A program that nobody else reads takes it in (quantise_result), quantised numbers need none (requantise_same).
  if (!quantisation || is(producer, "DequantizeLinear")) return std::nullopt;
  if (producer != nullptr && graph.has_single_use(node.inputs[0]) &&
      (is(producer, "Pointwise") || is_product_of<kFormat>(graph, *producer)))
    return std::nullopt;
  using enum PointwiseCode;
  ProgramBuilder builder;
  int item = builder.apply(mul_imm, builder.input(node.inputs[0]), 0, 0, 1 / quantisation->scale);
  if (quantisation->zero_point != 0) {
    item = builder.apply(add_imm, builder.apply(round, item), 0, 0, quantisation->zero_point);
  }
  const std::optional<BoundProgram> bound = builder.finish(item);
  if (!bound) return std::nullopt;
  Patch patch(graph, node);
  const OpPtr program = std::make_shared<const Pointwise>(bound->program, quantisation->dtype);
  return std::move(patch.replace(node.outputs[0], patch.add(program, bound->inputs)));
}

constexpr std::array kForms{
    Rewrite{"dequantise_later", dequantise_later<Format::bytes>, "Elements are moved and pooled as integers."},
    Rewrite{"requantise_same", requantise_same<Format::bytes>,
            "Quantising what was dequantised in the same way is no work."},
    Rewrite{"qlinear_conv", qlinear_conv, "QLinearConv is a convolution of dequantised tensors."},
    Rewrite{"qlinear_matmul", qlinear_matmul, "QLinearMatMul is a product of dequantised matrices."},
    Rewrite{"signed_weights", signed_weights, "Weights that are unsigned around 128 are signed around 0."},
};
constexpr std::array kProducts{
    Rewrite{"integer_conv", quantised_conv<Format::bytes, false>,
            "A convolution of dequantised tensors becomes one of integers."},
    Rewrite{"integer_matmul", quantised_matmul<Format::bytes, false>,
            "A product of dequantised matrices becomes one of integers."},
};
constexpr std::array kProductsWithZeroPoints{
    Rewrite{"integer_conv_zero_point", quantised_conv<Format::bytes, true>,
            "The same, and the product knows its input's zero point."},
    Rewrite{"integer_matmul_zero_point", quantised_matmul<Format::bytes, true>, "The same for matrices."},
    Rewrite{"dynamic_conv", dynamic_conv, "A convolution of integers may read its zero point."},
    Rewrite{"dynamic_matmul", dynamic_matmul, "A product of integers that reads its zero point may have an epilogue."},
    Rewrite{"round_in_place", round_in_place, "What becomes integers only to be added is rounded in the epilogue."},
};
constexpr std::array kBehindFusion{
    Rewrite{"quantise_before_pooling", quantise_before_pooling, "What is pooled is stored as integers already."},
    Rewrite{"quantise_result", quantise_result<Format::bytes>,
            "A program or epilogue stores the integers that are wanted of it."},
    Rewrite{"dequantise_operand", dequantise_operand<Format::bytes>,
            "A program or epilogue reads quantised operands as they are."},
    Rewrite{"requantise", requantise<Format::bytes>,
            "What is quantised again in another way goes from integers to integers."},
    Rewrite{"quantise_program", quantise_program<Format::bytes>,
            "What others wrote is quantised by a program, from any float type."},
    Rewrite{"dequantise_program", dequantise_program<Format::bytes>,
            "What is dequantised for other operators is a program."},
    Rewrite{"requantise_same", requantise_same<Format::bytes>,
            "Quantising what was dequantised in the same way is no work."},
};
constexpr std::array kFloat8Forms{
    Rewrite{"dequantise_float8_later", dequantise_later<Format::float8>, "Elements are moved as float8."},
    Rewrite{"requantise_float8_same", requantise_same<Format::float8>,
            "Quantising what was dequantised in the same way is no work."},
};
constexpr std::array kFloat8Products{
    Rewrite{"float8_conv", quantised_conv<Format::float8, true>,
            "A convolution of dequantised tensors becomes one of float8."},
    Rewrite{"float8_matmul", quantised_matmul<Format::float8, true>,
            "A product of dequantised matrices becomes one of float8."},
};
constexpr std::array kFloat8BehindFusion{
    Rewrite{"float8_result", quantise_result<Format::float8>, "A program or epilogue stores float8 itself."},
    Rewrite{"float8_operand", dequantise_operand<Format::float8>, "A program or epilogue reads float8 as it is."},
    Rewrite{"requantise_float8", requantise<Format::any>, "What is quantised again in another way goes there at once."},
    Rewrite{"float8_program", quantise_program<Format::float8>, "What others wrote becomes float8 by a program."},
    Rewrite{"program_of_float8", dequantise_program<Format::float8>, "What others read of float8 is a program."},
    Rewrite{"requantise_float8_same", requantise_same<Format::float8>,
            "Quantising what was dequantised in the same way is no work."},
};

}  // namespace

const std::span<const Rewrite> kQuantisedFormRewrites = kForms;
const std::span<const Rewrite> kIntegerProductRewrites = kProducts;
const std::span<const Rewrite> kZeroPointRewrites = kProductsWithZeroPoints;
const std::span<const Rewrite> kIntegerEpilogueRewrites = kBehindFusion;
const std::span<const Rewrite> kFloat8FormRewrites = kFloat8Forms;
const std::span<const Rewrite> kFloat8ProductRewrites = kFloat8Products;
const std::span<const Rewrite> kFloat8EpilogueRewrites = kFloat8BehindFusion;

}  // namespace tenfold
