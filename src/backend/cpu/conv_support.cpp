#include "backend/cpu/conv_support.hpp"

#include <algorithm>

#include "backend/cpu/finish_plan.hpp"
#include "backend/cpu/gemm_support.hpp"

namespace tenfold::cpu {

const Conv& conv_of(const OpPtr& op) {
  const auto* conv = op_cast<Conv>(op);
  ensure(conv != nullptr, "a Conv tactic was given operator {}", op->type());
  return *conv;
}

std::optional<std::string> refuses_conv(const Conv& conv, std::span<const TensorType> inputs,
                                        std::span<const TensorType> outputs, Planes planes) {
  if (auto refusal = refuses_conv_shapes(conv, inputs, outputs, planes)) return refusal;
  if (!is_float32(inputs[0]) || !is_float32(inputs[1])) return "only float32 is supported";
  if (inputs.size() > 2 && inputs[2].dtype != DType::undefined && !is_float32(inputs[2]))
    return "the bias is no float32";
  return FinishPlan::refuses(conv.epilogue(), inputs, Conv::kFirstEpilogueInput);
}

std::optional<std::string> refuses_conv_shapes(const Conv& conv, std::span<const TensorType> inputs,
                                               std::span<const TensorType> outputs, Planes planes) {
  if (inputs.size() < 2 || outputs.empty()) return "operands are missing";
  if (conv.layout() != ImageLayout::nhwc) return "the layout is nchw";
  if (conv.has_planar_input() && planes == Planes::refused) return "the image lies in planes";
  if (!fits_in_panels(inputs[1]))
    return fmt::format("weights of {} are computed, empty or too large", to_string(inputs[1]));
  const int rank = conv.spatial_rank() + 2;
  if (inputs[0].rank() != rank || inputs[1].rank() != rank) return "ranks of input and weights differ";
  const Shape weights = inputs[1].static_shape();
  if (weights[0] % conv.group() != 0) return "the output channels are no multiple of the group";
  const Dim& channels = inputs[0].dims[static_cast<std::size_t>(channel_axis(conv.spec().layouts().input, rank))];
  if (channels != Dim(weights[1]) * Dim(conv.group())) {
    return fmt::format("the input has {} channels, the weights are for {}", channels.to_string(),
                       weights[1] * conv.group());
  }
  return std::nullopt;
}

ConvSizes conv_sizes(const Conv& conv, const TensorType& weights) {
  const Shape shape = weights.static_shape();
  ConvSizes sizes;
  sizes.group = conv.group();
  sizes.out_channels = shape[0] / conv.group();
  sizes.in_channels = shape[1];
  std::copy(shape.begin() + 2, shape.end(), sizes.kernel.end() - conv.spatial_rank());
  return sizes;
}

ConvRows conv_rows(const Conv& conv, const ConvSizes& sizes, const TensorView& x, const TensorView& y) {
  ConvRows rows;
  rows.batch = x.dim(0);
  const int spatial = conv.spatial_rank(), first_in = first_spatial_axis(conv.spec().layouts().input);
  for (int i = 0; i < spatial; ++i) {
    const int axis = 3 - spatial + i;
    const auto s = static_cast<std::size_t>(i);
    rows.in[axis] = x.dim(first_in + i);
    rows.out[axis] = y.dim(1 + i);
    rows.kernel[axis] = sizes.kernel[static_cast<std::size_t>(axis)];
    rows.stride[axis] = conv.window().strides[s];
    rows.dilation[axis] = conv.window().dilations[s];
    rows.pad[axis] = conv.window().padding(i, rows.in[axis], rows.kernel[axis])[0];
  }
  if (conv.has_planar_input()) rows.plane = rows.in[0] * rows.in[1] * rows.in[2];
  return rows;
}

const float* conv_bias(const Launch& launch) {
  return launch.inputs.size() > 2 && launch.inputs[2].dtype != DType::undefined ? launch.inputs[2].as<const float>()
                                                                                : nullptr;
}

ConvWork conv_work(const Problem& problem, const ConvSizes& sizes) {
  const double results = static_cast<double>(num_elements(problem.output_shapes[0]));
  const double weights = static_cast<double>(num_elements(problem.input_shapes[1]));
  ConvWork work;
  work.flops = 2 * results * static_cast<double>(sizes.taps() * sizes.in_channels);
  work.bytes = 4 * (results + weights + static_cast<double>(num_elements(problem.input_shapes[0])));
  return work;
}

std::vector<std::byte> pack_depthwise(const float* weights, std::int64_t taps, std::int64_t channels) {
  // One panel as wide as all channels.
  return pack_panels(taps, channels, static_cast<int>(padded_columns(channels) / vector_floats(tier())),
                     [&](std::int64_t tap, std::int64_t c) { return weights[c * taps + tap]; });
}

bool is_plain_product(const Conv& conv, const ConvSizes& sizes) {
  return sizes.taps() == 1 && conv.window().is_unit_stride() && !conv.window().has_padding();
}

}  // namespace tenfold::cpu
