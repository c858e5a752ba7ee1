// Scales and shifts around an anchor become part of its weights and bias:
//   (conv(x, w) + b) * s + t  =  conv(x, w * s) + (b * s + t)        s, t: one number for each output channel
//   conv(x * s + t, w) + b    =  conv(x, w * s) + (b + sum w * t)    s, t: one for each input channel; t: no padding
// Batch normalisation is such a scale and shift. Padding with zeros in front of a window becomes the window's padding.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "ops/conv.hpp"
#include "ops/matmul.hpp"
#include "ops/pool.hpp"
#include "ops/registry.hpp"
#include "passes/match.hpp"
#include "passes/passes.hpp"

namespace tenfold {
namespace {

// Weights that others read, too, are copied when they change; only small ones may be.
constexpr std::size_t kMaxCopiedWeights = std::size_t{1} << 20;

/// A Conv or ConvTranspose with float32 weights known now and nothing fused into it yet.
struct ConvAnchor {
  const Node* node = nullptr;
  bool is_transposed = false;
  const Tensor* weights = nullptr;
  const Tensor* bias = nullptr;
  std::int64_t group = 1;
  const Window* window = nullptr;
  ImageLayout layout = ImageLayout::nchw;

  std::int64_t in_channels() const { return is_transposed ? weights->shape()[0] : weights->shape()[1] * group; }
  std::int64_t out_channels() const { return is_transposed ? weights->shape()[1] * group : weights->shape()[0]; }
};

std::optional<ConvAnchor> conv_anchor(const GraphView& graph, const Node* node) {
  ConvAnchor anchor;
  anchor.node = node;
  if (const auto* conv = op_cast<Conv>(node)) {
    if (!conv->epilogue().program.empty()) return std::nullopt;
    anchor.group = conv->group();
    anchor.window = &conv->window();
    anchor.layout = conv->layout();
  } else if (const auto* transposed_conv = op_cast<ConvTranspose>(node)) {
    if (!transposed_conv->epilogue().program.empty()) return std::nullopt;
    anchor.is_transposed = true;
    anchor.group = transposed_conv->group();
    anchor.window = &transposed_conv->window();
    anchor.layout = transposed_conv->layout();
  } else {
    return std::nullopt;
  }
  anchor.weights = graph.constant(node->inputs[1]);
  if (anchor.weights == nullptr || anchor.weights->dtype() != DType::float32) return std::nullopt;
  if (!graph.has_single_use(node->inputs[1]) && anchor.weights->size_bytes() > kMaxCopiedWeights) return std::nullopt;
  const ValueId bias = input_of(*node, 2);
  anchor.bias = graph.constant(bias);
  if (bias != kNoValue && anchor.bias == nullptr) return std::nullopt;
  return anchor;
}

/// The constant as one number for each of `count` channels, if it varies along `axis` of a tensor of `rank` only.
std::optional<std::vector<float>> per_channel(const Tensor* constant, int rank, int axis, std::int64_t count) {
  if (constant == nullptr || constant->dtype() != DType::float32 || constant->rank() > rank) return std::nullopt;
  const int shift = rank - constant->rank();
  for (int i = 0; i < constant->rank(); ++i) {
    if (constant->shape()[static_cast<std::size_t>(i)] != 1 && i + shift != axis) return std::nullopt;
  }
  const auto values = constant->as<float>();
  if (values.size() == 1) return std::vector<float>(static_cast<std::size_t>(count), values[0]);
  if (static_cast<std::int64_t>(values.size()) != count) return std::nullopt;
  return std::vector<float>(values.begin(), values.end());
}

/// Calls f(weight index, input channel, output channel) for every weight of a convolution.
template <typename F>
void for_each_weight(const ConvAnchor& anchor, F&& f) {
  const Shape& shape = anchor.weights->shape();
  const std::int64_t taps = anchor.weights->num_elements() / std::max<std::int64_t>(shape[0] * shape[1], 1);
  const std::int64_t rows_in_group = std::max<std::int64_t>(shape[0] / anchor.group, 1);
  std::size_t index = 0;
  for (std::int64_t row = 0; row < shape[0]; ++row) {
    for (std::int64_t column = 0; column < shape[1]; ++column) {
      // The first axis counts all channels of one side, the second those of a group on the other.
      const std::int64_t across = row / rows_in_group * shape[1] + column;
      const std::int64_t in = anchor.is_transposed ? row : across;
      const std::int64_t out = anchor.is_transposed ? across : row;
      for (std::int64_t tap = 0; tap < taps; ++tap) f(index++, in, out);
    }
  }
}

Tensor vector_tensor(const std::vector<float>& values) {
  return Tensor::from<float>(DType::float32, {static_cast<std::int64_t>(values.size())},
                             std::span<const float>(values));
}

std::vector<float> bias_of(const ConvAnchor& anchor) {
  if (anchor.bias == nullptr) return std::vector<float>(static_cast<std::size_t>(anchor.out_channels()), 0.0F);
  const auto values = anchor.bias->as<float>();
  return {values.begin(), values.end()};
}

template <typename Scale>
Tensor scaled_weights(const ConvAnchor& anchor, const Scale& scale) {
  Tensor result(DType::float32, anchor.weights->shape());
  const auto from = anchor.weights->as<float>();
  const auto to = result.as_mutable<float>();
  for_each_weight(anchor, [&](std::size_t i, std::int64_t in, std::int64_t out) { to[i] = from[i] * scale(in, out); });
  return result;
}

/// The anchor with other weights or another bias (nullopt: as they are).
ValueId add_anchor(Patch& patch, const GraphView& graph, const ConvAnchor& anchor, ValueId x,
                   std::optional<Tensor> weights, std::optional<Tensor> bias) {
  std::vector<ValueId> inputs{x, anchor.node->inputs[1]};
  const std::string& weights_name = graph.value(anchor.node->inputs[1]).name;
  if (weights) inputs[1] = patch.constant(weights_name, std::move(*weights));
  if (bias) {
    inputs.push_back(
        patch.constant(anchor.bias != nullptr ? graph.value(anchor.node->inputs[2]).name : anchor.node->name + ".bias",
                       std::move(*bias)));
  } else if (anchor.bias != nullptr) {
    inputs.push_back(anchor.node->inputs[2]);
  }
  return patch.add(anchor.node->op, std::move(inputs), 1, anchor.node->name);
}

std::optional<Patch> batch_norm_to_affine(const GraphView& graph, const Node& node) {
  if (!is(node, "BatchNormalization") || node.inputs.size() != 5 || !is_float32(graph, node.outputs[0])) {
    return std::nullopt;
  }
  for (std::size_t i = 1; i < node.outputs.size(); ++i) {
    if (node.outputs[i] != kNoValue) return std::nullopt;  // training mode
  }
  if (node.op->attributes().get_int("training_mode", 0) != 0) return std::nullopt;
  std::array<std::vector<double>, 4> constants;  // scale, shift, mean, variance
  for (std::size_t i = 0; i < 4; ++i) {
    const Tensor* tensor = graph.constant(node.inputs[i + 1]);
    if (tensor == nullptr) return std::nullopt;
    constants[i] = tensor->to_double();
    if (constants[i].size() != constants[0].size()) return std::nullopt;
  }
  const double epsilon = node.op->attributes().get_float("epsilon", 1e-5);
  const std::size_t channels = constants[0].size();
  std::vector<float> scale(channels);
  std::vector<float> shift(channels);
  for (std::size_t c = 0; c < channels; ++c) {
    const double factor = constants[0][c] / std::sqrt(constants[3][c] + epsilon);
    scale[c] = static_cast<float>(factor);
    shift[c] = static_cast<float>(constants[1][c] - constants[2][c] * factor);
  }
  const int rank = graph.type(node.inputs[0]).rank();
  const ImageLayout layout = layout_from(node.op->attributes());
  Shape shape{static_cast<std::int64_t>(channels)};
  if (rank > 2 && layout == ImageLayout::nchw) shape.resize(static_cast<std::size_t>(rank) - 1, 1);
  Patch patch(graph, node);
  const ValueId s = patch.constant(node.name + ".scale", vector_tensor(scale).reshaped(shape));
  const ValueId t = patch.constant(node.name + ".shift", vector_tensor(shift).reshaped(shape));
  const ValueId scaled = patch.add(make_op("Mul"), {node.inputs[0], s});
  return std::move(patch.replace(node.outputs[0], patch.add(make_op("Add"), {scaled, t})));
}

/// conv * s and conv + t.
std::optional<Patch> fold_into_convolution_before(const GraphView& graph, const Node& node) {
  const bool is_scale = is(node, "Mul");
  if ((!is_scale && !is(node, "Add")) || node.inputs.size() != 2) return std::nullopt;
  for (const auto& [value, operand] : both_orders(node)) {
    if (!graph.has_single_use(value) || !same_dims(graph, value, node.outputs[0])) continue;
    const std::optional<ConvAnchor> anchor = conv_anchor(graph, graph.producer(value));
    if (!anchor) continue;
    const int rank = graph.type(value).rank();
    const auto factors =
        per_channel(graph.constant(operand), rank, channel_axis(anchor->layout, rank), anchor->out_channels());
    if (!factors) continue;
    std::vector<float> bias = bias_of(*anchor);
    for (std::size_t o = 0; o < bias.size(); ++o)
      bias[o] = is_scale ? bias[o] * (*factors)[o] : bias[o] + (*factors)[o];
    std::optional<Tensor> weights;
    if (is_scale) {
      weights = scaled_weights(
          *anchor, [&](std::int64_t, std::int64_t out) { return (*factors)[static_cast<std::size_t>(out)]; });
    }
    std::optional<Tensor> new_bias;
    if (!is_scale || anchor->bias != nullptr) new_bias = vector_tensor(bias);
    Patch patch(graph, *anchor->node);
    patch.absorb(node);
    const ValueId folded =
        add_anchor(patch, graph, *anchor, anchor->node->inputs[0], std::move(weights), std::move(new_bias));
    return std::move(patch.replace(node.outputs[0], folded));
  }
  return std::nullopt;
}

/// conv(x * s) and conv(x + t).
std::optional<Patch> fold_into_convolution_behind(const GraphView& graph, const Node& node) {
  const std::optional<ConvAnchor> anchor = conv_anchor(graph, &node);
  if (!anchor || !graph.has_single_use(node.inputs[0])) return std::nullopt;
  const Node* before = graph.producer(node.inputs[0]);
  const bool is_scale = is(before, "Mul");
  if (!is_scale && !is(before, "Add")) return std::nullopt;
  // Zeros beside a shifted image would have to be shifted, too.
  if (!is_scale && (anchor->is_transposed || anchor->window->has_padding() ||
                    (anchor->window->auto_pad != AutoPad::notset && anchor->window->auto_pad != AutoPad::valid))) {
    return std::nullopt;
  }
  for (const auto& [x, operand] : both_orders(*before)) {
    if (!same_dims(graph, x, node.inputs[0])) continue;
    const int rank = graph.type(x).rank();
    const auto factors =
        per_channel(graph.constant(operand), rank, channel_axis(anchor->layout, rank), anchor->in_channels());
    if (!factors) continue;
    std::optional<Tensor> weights;
    std::optional<Tensor> bias;
    if (is_scale) {
      weights = scaled_weights(*anchor,
                               [&](std::int64_t in, std::int64_t) { return (*factors)[static_cast<std::size_t>(in)]; });
    } else {
      const std::vector<float> old_bias = bias_of(*anchor);
      std::vector<double> sums(old_bias.begin(), old_bias.end());
      const auto from = anchor->weights->as<float>();
      for_each_weight(*anchor, [&](std::size_t i, std::int64_t in, std::int64_t out) {
        sums[static_cast<std::size_t>(out)] += static_cast<double>(from[i]) * (*factors)[static_cast<std::size_t>(in)];
      });
      bias = vector_tensor(std::vector<float>(sums.begin(), sums.end()));
    }
    Patch patch(graph, node);
    patch.absorb(*before);
    const ValueId folded = add_anchor(patch, graph, *anchor, x, std::move(weights), std::move(bias));
    return std::move(patch.replace(node.outputs[0], folded));
  }
  return std::nullopt;
}

/// The constant matrix of a product, with the number of its result's columns.
struct MatMulAnchor {
  const Node* node = nullptr;
  const MatMul* op = nullptr;
  const Tensor* b = nullptr;
};
std::optional<MatMulAnchor> matmul_anchor(const GraphView& graph, const Node* node) {
  MatMulAnchor anchor{node, op_cast<MatMul>(node), nullptr};
  if (anchor.op == nullptr || !anchor.op->epilogue().program.empty()) return std::nullopt;
  anchor.b = graph.constant(node->inputs[1]);
  if (anchor.b == nullptr || anchor.b->dtype() != DType::float32 || anchor.b->rank() != 2) return std::nullopt;
  if (graph.type(node->inputs[0]).rank() < 2) return std::nullopt;
  if (!graph.has_single_use(node->inputs[1]) && anchor.b->size_bytes() > kMaxCopiedWeights) return std::nullopt;
  return anchor;
}
/// b with its element (k, n) multiplied by scale(k, n).
template <typename Scale>
Tensor scaled_matrix(const MatMulAnchor& anchor, const Scale& scale) {
  Tensor result(DType::float32, anchor.b->shape());
  const auto from = anchor.b->as<float>();
  const auto to = result.as_mutable<float>();
  const auto columns = static_cast<std::size_t>(anchor.b->shape()[1]);
  for (std::size_t i = 0; i < to.size(); ++i) {
    const std::size_t row = i / columns;
    const std::size_t column = i % columns;
    to[i] = from[i] * (anchor.op->trans_b() ? scale(column, row) : scale(row, column));
  }
  return result;
}

/// matmul(a, B) * s with a constant for each column, and matmul(a * s, B) with one for each row of B.
std::optional<Patch> fold_scale_into_matmul(const GraphView& graph, const Node& node) {
  if (is(node, "Mul") && node.inputs.size() == 2) {
    for (const auto& [value, operand] : both_orders(node)) {
      if (!graph.has_single_use(value) || !same_dims(graph, value, node.outputs[0])) continue;
      const auto anchor = matmul_anchor(graph, graph.producer(value));
      if (!anchor) continue;
      const int rank = graph.type(value).rank();
      const std::int64_t columns = anchor->b->shape()[anchor->op->trans_b() ? 0 : 1];
      const auto factors = per_channel(graph.constant(operand), rank, rank - 1, columns);
      if (!factors) continue;
      Patch patch(graph, *anchor->node);
      patch.absorb(node);
      const ValueId b =
          patch.constant(graph.value(anchor->node->inputs[1]).name,
                         scaled_matrix(*anchor, [&](std::size_t, std::size_t n) { return (*factors)[n]; }));
      const ValueId folded = patch.add(anchor->node->op, {anchor->node->inputs[0], b});
      return std::move(patch.replace(node.outputs[0], folded));
    }
    return std::nullopt;
  }
  const auto anchor = matmul_anchor(graph, &node);
  if (!anchor || anchor->op->trans_a()) return std::nullopt;
  const Node* before = sole_producer_of(graph, node.inputs[0], "Mul");
  if (before == nullptr) return std::nullopt;
  for (const auto& [x, operand] : both_orders(*before)) {
    if (!same_dims(graph, x, node.inputs[0])) continue;
    const int rank = graph.type(x).rank();
    const std::int64_t rows = anchor->b->shape()[anchor->op->trans_b() ? 1 : 0];
    const auto factors = per_channel(graph.constant(operand), rank, rank - 1, rows);
    if (!factors) continue;
    Patch patch(graph, node);
    patch.absorb(*before);
    const ValueId b = patch.constant(graph.value(node.inputs[1]).name,
                                     scaled_matrix(*anchor, [&](std::size_t k, std::size_t) { return (*factors)[k]; }));
    return std::move(patch.replace(node.outputs[0], patch.add(node.op, {x, b})));
  }
  return std::nullopt;
}

bool is_never_negative(const Node* node) {
  return node != nullptr && is_one_of(*node, {"Relu", "Sigmoid", "Abs", "Exp", "Softmax", "HardSigmoid"});
}

/// Pad in front of Conv, MaxPool or AveragePool becomes the window's own padding. Needs: no channels or batches padded,
/// nothing cut off, and a padded value that means the same there: 0 for convolutions and averages (which then count
/// it), the lowest number for maxima, or 0 where no input is negative.
std::optional<Patch> fold_padding_into_window(const GraphView& graph, const Node& node) {
  const Node* pad = producer_of(graph, input_of(node, 0), "Pad");
  if (pad == nullptr) return std::nullopt;
  const Window* window = nullptr;
  ImageLayout layout = ImageLayout::nchw;
  std::vector<std::int64_t> kernel;
  const auto* conv = op_cast<Conv>(&node);
  const auto* max_pool = op_cast<MaxPool>(&node);
  const auto* average_pool = op_cast<AveragePool>(&node);
  if (conv != nullptr) {
    window = &conv->window();
    layout = conv->layout();
  } else if (max_pool != nullptr && node.outputs.size() == 1) {
    window = &max_pool->window();
    layout = max_pool->layout();
    kernel = max_pool->kernel();
  } else if (average_pool != nullptr) {
    window = &average_pool->window();
    layout = average_pool->layout();
  } else {
    return std::nullopt;
  }
  if (window->auto_pad != AutoPad::notset || window->ceil_mode) return std::nullopt;
  const Attributes pad_attributes = pad->op->attributes();
  if (!pad_attributes.has("pads") || pad_attributes.get_string("mode", "constant") != "constant") return std::nullopt;
  const std::vector<std::int64_t> amounts = pad_attributes.get_ints("pads");
  const auto spatial = static_cast<std::size_t>(window->spatial_rank());
  const std::size_t rank = spatial + 2;
  if (amounts.size() != 2 * rank) return std::nullopt;
  std::vector<std::int64_t> pads = window->pads;
  const auto first = static_cast<std::size_t>(first_spatial_axis(layout));
  for (std::size_t axis = 0; axis < rank; ++axis) {
    const std::int64_t begin = amounts[axis];
    const std::int64_t end = amounts[axis + rank];
    const bool is_spatial = first <= axis && axis < first + spatial;
    if (begin < 0 || end < 0 || (!is_spatial && begin + end > 0)) return std::nullopt;
    if (!is_spatial) continue;
    pads[axis - first] += begin;
    pads[axis - first + spatial] += end;
  }
  const double value = pad_attributes.get_float("value", 0);
  Attributes changed = node.op->attributes();
  changed.set("pads", pads);
  if (max_pool != nullptr) {
    const bool is_lowest = value <= static_cast<double>(std::numeric_limits<float>::lowest());
    const bool is_low_enough =
        value == 0 && is_never_negative(graph.producer(pad->inputs[0])) && !window->has_padding();
    if (!is_lowest && !is_low_enough) return std::nullopt;
    // A window over padding alone would have no element.
    for (std::size_t a = 0; a < spatial; ++a) {
      const std::int64_t extent = (kernel[a] - 1) * window->dilations[a] + 1;
      if (pads[a] >= extent || pads[a + spatial] >= extent) return std::nullopt;
    }
  } else if (value != 0) {
    return std::nullopt;
  } else if (average_pool != nullptr) {
    if (window->has_padding() && !average_pool->count_include_pad()) return std::nullopt;
    changed.set("count_include_pad", std::int64_t{1});
  }
  Patch patch(graph, node);
  patch.absorb(*pad);
  std::vector<ValueId> inputs = node.inputs;
  inputs[0] = pad->inputs[0];
  return std::move(patch.replace(node.outputs[0], patch.add(make_op(node.op->type(), changed), inputs)));
}

constexpr std::array kRewrites{
    Rewrite{"batch_norm_to_affine", batch_norm_to_affine, "Batch normalisation is a scale and a shift per channel."},
    Rewrite{"fold_into_convolution_before", fold_into_convolution_before,
            "A scale or shift behind a convolution becomes part of its weights and bias."},
    Rewrite{"fold_into_convolution_behind", fold_into_convolution_behind,
            "A scale or shift in front of a convolution becomes part of its weights and bias."},
    Rewrite{"fold_scale_into_matmul", fold_scale_into_matmul,
            "A scale beside a product with a constant matrix becomes part of the matrix."},
    Rewrite{"fold_padding_into_window", fold_padding_into_window, "Padding in front of a window becomes its own."},
};

}  // namespace

const std::span<const Rewrite> kAffineRewrites = kRewrites;

}  // namespace tenfold
