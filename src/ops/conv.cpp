// Convolution:  y[n, o, p] = bias[o] + sum over c, k of  x[n, c, p * stride + k * dilation - pad] * w[o, c, k]
// and its transpose:  y[n, o, i * stride + k * dilation - pad] += x[n, c, i] * w[c, o, k].
// Source: ONNX operator sets 1, 11 and 22, Conv and ConvTranspose.
#include "ops/conv.hpp"

#include <algorithm>

#include "ops/checks.hpp"
#include "ops/numbers.hpp"
#include "ops/quantized.hpp"

namespace tenfold {
namespace {

constexpr std::int64_t kMaxGroup = std::int64_t{1} << 30;

std::int64_t group_from(const Attributes& attributes) {
  const std::int64_t group = attributes.get_int("group", 1);
  require(1 <= group && group <= kMaxGroup, Code::invalid_model, "group must be 1 to {}, got {}", kMaxGroup, group);
  return group;
}

/// Sizes of the spatial axes of an image.
std::vector<Dim> spatial_dims(const TensorType& type, ImageLayout layout) {
  const auto first = type.dims.begin() + first_spatial_axis(layout);
  return {first, first + (type.rank() - 2)};
}

std::vector<Dim> image_dims(const Dim& batch, const Dim& channels, std::vector<Dim> spatial, ImageLayout layout) {
  std::vector<Dim> dims{batch};
  if (layout == ImageLayout::nchw) dims.push_back(channels);
  dims.insert(dims.end(), spatial.begin(), spatial.end());
  if (layout == ImageLayout::nhwc) dims.push_back(channels);
  return dims;
}

void check_conv_ranks(const Window& window, const TensorType& x, const TensorType& weights) {
  const int rank = window.spatial_rank() + 2;
  require(x.rank() == rank, Code::invalid_model, "windows over {} spatial axes need an input of rank {}, got {}",
          rank - 2, rank, to_string(x));
  require(weights.rank() == rank, Code::invalid_model, "weights must have the input's rank {}, got {}", rank,
          to_string(weights));
}

void check_group(const Dim& channels, std::int64_t group, std::string_view what) {
  require(!channels.is_constant() || channels.constant() % group == 0, Code::invalid_model,
          "{} {} are no multiple of the group {}", channels.to_string(), what, group);
}

/// Input and weights have one float type; or they are 8-bit integers or float8, whose sums an epilogue must bring into
/// shape.
void check_operands(const InferContext& context, const Epilogue& epilogue) {
  const DType x = context.input(0).dtype;
  if (x == DType::int8 || x == DType::uint8 || x == DType::float8e4m3) {
    require(epilogue.output != DType::undefined, Code::invalid_model,
            "a convolution of {} needs the attribute 'to', the type of its result", to_string(x));
    check_dtype(context, 1, x == DType::float8e4m3 ? x : DType::int8, "the weights");
    return;
  }
  check_float(context, 0, "the input");
  check_same_dtype(context, 1, "the weights");
}

/// Input 2, if there is one.
void check_bias(const InferContext& context, const Dim& out_channels) {
  if (!context.has_input(2)) return;
  // Sums are accumulated in float32, so a bias of that type is as good as one of the input's.
  if (context.input(2).dtype != DType::float32) check_same_dtype(context, 2, "the bias");
  check_rank(context, 2, 1, "the bias");
  check_dim(context.input(2).dims[0], out_channels, "the length of the bias");
}

/// Each element of `image` (a convolution's output, a transposed one's input) meets one filter: weights[i, :, :].
double conv_flops(std::span<const TensorType> inputs, const TensorType& image) {
  if (inputs.size() < 2 || !image.is_static() || !inputs[1].is_static()) return 0;
  double flops = 2;
  for (const Dim& dim : image.dims) flops *= static_cast<double>(dim.constant());
  for (std::size_t i = 1; i < inputs[1].dims.size(); ++i) flops *= static_cast<double>(inputs[1].dims[i].constant());
  return flops;
}

OpPtr make_conv(const Attributes& attributes) { return std::make_shared<const Conv>(Conv::spec_from(attributes)); }

OpPtr make_conv_transpose(const Attributes& attributes) {
  ConvTranspose::Spec spec{.window = Window::from(attributes),
                           .group = group_from(attributes),
                           .layout = layout_from(attributes),
                           .epilogue = Epilogue::from(attributes)};
  const std::size_t rank = spec.window.strides.size();
  require(spec.window.auto_pad == AutoPad::notset, Code::invalid_model,
          "auto_pad of a transposed convolution is given as pads");
  spec.output_padding = attributes.get_ints("output_padding", std::vector<std::int64_t>(rank, 0));
  require(spec.output_padding.size() == rank, Code::invalid_model, "output_padding needs {} entries, got {}", rank,
          spec.output_padding.size());
  for (const std::int64_t p : spec.output_padding) {
    require(0 <= p && p <= kMaxGroup, Code::invalid_model, "output_padding must be 0 to {}, got {}", kMaxGroup, p);
  }
  return std::make_shared<const ConvTranspose>(std::move(spec));
}

/// Types of x and weights, checked as far as import needs it.
void check_importable(const ImportNode& node) {
  require(node.has_input(0) && node.has_input(1), Code::invalid_model, "input and weights are needed");
  const TensorType& x = node.graph().value(node.input(0)).type;
  const TensorType& weights = node.graph().value(node.input(1)).type;
  require(3 <= x.rank() && x.rank() <= 5 && weights.rank() == x.rank(), Code::unsupported,
          "convolutions need an input of rank 3 to 5 and weights of the same rank, got {} and {}", to_string(x),
          to_string(weights));
  const std::vector<std::int64_t> kernel = node.attributes().get_ints("kernel_shape", {});
  for (std::size_t a = 0; a < kernel.size(); ++a) {
    require(kernel.size() + 2 == weights.dims.size() && !surely_differ(weights.dims[a + 2], kernel[a]),
            Code::invalid_model, "kernel_shape {} contradicts weights of shape {}", to_string(kernel),
            to_string(weights.dims));
  }
}

std::span<const Dim> from_third(const TensorType& type) { return std::span(type.dims).subspan(2); }

void import_conv(ImportNode& node) {
  check_importable(node);
  const TensorType& x = node.graph().value(node.input(0)).type;
  const TensorType& weights = node.graph().value(node.input(1)).type;
  const Conv::Spec spec{.window = import_window(node, from_third(x), from_third(weights)),
                        .group = group_from(node.attributes())};
  node.set_output(0, node.add(std::make_shared<const Conv>(spec), node.inputs()));
}

void import_conv_transpose(ImportNode& node) {
  check_importable(node);
  const TensorType& x = node.graph().value(node.input(0)).type;
  const TensorType& weights = node.graph().value(node.input(1)).type;
  const std::size_t rank = x.dims.size() - 2;
  const std::string auto_pad = node.attributes().get_string("auto_pad", "NOTSET");
  Attributes attributes = node.attributes();
  for (const char* gone : {"kernel_shape", "output_shape", "auto_pad"}) attributes.erase(gone);
  if (!attributes.has("strides")) attributes.set("strides", std::vector<std::int64_t>(rank, 1));

  const std::vector<std::int64_t> wanted = node.attributes().get_ints("output_shape", {});
  const bool same = auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER";
  if (!wanted.empty() || same) {
    // Padding is what is left between the full result and the size that is asked for.
    require(wanted.empty() || wanted.size() == rank, Code::invalid_model, "output_shape needs {} entries, got {}", rank,
            wanted.size());
    attributes.erase("pads");
    const auto op = make_conv_transpose(attributes);
    const ConvTranspose::Spec& plain = op_cast<ConvTranspose>(op)->spec();
    std::vector<std::int64_t> pads(2 * rank, 0);
    std::vector<std::int64_t> output_padding = plain.output_padding;
    for (std::size_t a = 0; a < rank; ++a) {
      const Dim stride = plain.window.strides[a];
      const Dim extent = (weights.dims[a + 2] - 1) * plain.window.dilations[a] + 1;
      const Dim full = stride * (x.dims[a + 2] - 1) + output_padding[a] + extent;
      const Dim total = full - (wanted.empty() ? x.dims[a + 2] * stride : Dim(wanted[a]));
      require(total.is_constant(), Code::unsupported,
              "output_shape with an input of unknown size {}; give the input a fixed shape", to_string(x));
      const std::int64_t padding = std::max<std::int64_t>(total.constant(), 0);
      output_padding[a] += padding - total.constant();
      const std::int64_t less = padding / 2;
      pads[a] = auto_pad == "SAME_UPPER" ? less : padding - less;
      pads[a + rank] = padding - pads[a];
    }
    attributes.set("pads", pads);
    attributes.set("output_padding", output_padding);
  } else {
    require(auto_pad == "NOTSET" || auto_pad == "VALID" || auto_pad.empty(), Code::invalid_model,
            "auto_pad must be NOTSET, SAME_UPPER, SAME_LOWER or VALID, got '{}'", auto_pad);
    if (auto_pad == "VALID") attributes.erase("pads");
  }
  node.set_output(0, node.add(make_conv_transpose(attributes), node.inputs()));
}

}  // namespace

std::vector<Dim> conv_output_dims(const Window& window, ConvLayouts layouts, std::int64_t group, const TensorType& x,
                                  const TensorType& weights) {
  check_conv_ranks(window, x, weights);
  const Dim& channels = x.dims[static_cast<std::size_t>(channel_axis(layouts.input, x.rank()))];
  require(!surely_differ(channels, weights.dims[1] * group), Code::invalid_model,
          "weights of shape {} in {} groups expect {} input channels, got {}", to_string(weights.dims), group,
          (weights.dims[1] * group).to_string(), channels.to_string());
  check_group(weights.dims[0], group, "output channels");
  std::vector<Dim> spatial = spatial_dims(x, layouts.input);
  for (std::size_t a = 0; a < spatial.size(); ++a) {
    const Dim size = window.output_size(static_cast<int>(a), spatial[a], weights.dims[a + 2]);
    require(!size.is_constant() || size.constant() >= 0, Code::invalid_model,
            "the kernel of shape {} is larger than the padded input {}", to_string(weights.dims), to_string(x.dims));
    spatial[a] = size;
  }
  return image_dims(x.dims[0], weights.dims[0], std::move(spatial), layouts.output);
}

PlainConv plain_conv(const Window& window, ConvLayouts layouts, std::int64_t group, const TensorView& x,
                     const TensorView& weights, const TensorView& output) {
  PlainConv conv;
  conv.batch = x.dim(0);
  conv.in_channels = x.dim(channel_axis(layouts.input, x.rank()));
  conv.out_channels = weights.dim(0);
  conv.group = group;
  conv.input = spatial_volume(x, layouts.input).size;
  conv.kernel = fill3(weights.dims.subspan(2), 1);
  conv.output = spatial_volume(output, layouts.output).size;
  conv.stride = fill3(window.strides, 1);
  conv.dilation = fill3(window.dilations, 1);
  Shape begins;
  for (int a = 0; a < window.spatial_rank(); ++a) {
    begins.push_back(window.padding(a, x.dim(first_spatial_axis(layouts.input) + a), weights.dim(2 + a))[0]);
  }
  conv.pad_begin = fill3(begins, 0);
  ensure(weights.dim(1) * group == conv.in_channels && conv.out_channels % group == 0 &&
             output.dim(channel_axis(layouts.output, output.rank())) == conv.out_channels &&
             output.dim(0) == conv.batch,
         "convolution of inconsistent shapes");
  return conv;
}

std::vector<double> PlainConv::run(std::span<const double> x, std::span<const double> weights,
                                   std::span<const double> bias) const {
  std::array<std::int64_t, 3> in = input;
  std::array<std::int64_t, 3> out = output;
  // A kernel of one position that visits every element once sees one long row: the inner loop gets longer.
  const std::array<std::int64_t, 3> ones{1, 1, 1};
  if (kernel == ones && stride == ones && pad_begin == std::array<std::int64_t, 3>{0, 0, 0} && in == out) {
    in = {1, 1, input[0] * input[1] * input[2]};
    out = in;
  }
  const std::int64_t in_pixels = in[0] * in[1] * in[2];
  const std::int64_t out_pixels = out[0] * out[1] * out[2];
  const std::int64_t taps = kernel[0] * kernel[1] * kernel[2];
  const std::int64_t group_in = in_channels / group;
  const std::int64_t group_out = out_channels / group;
  std::vector<double> result(static_cast<std::size_t>(batch * out_channels * out_pixels));
  for (std::int64_t n = 0; n < batch; ++n) {
    for (std::int64_t o = 0; o < out_channels; ++o) {
      const std::int64_t first_channel = o / group_out * group_in;
      double* plane = result.data() + (n * out_channels + o) * out_pixels;
      std::fill(plane, plane + out_pixels, bias.empty() ? 0.0 : bias[static_cast<std::size_t>(o)]);
      for (std::int64_t c = 0; c < group_in; ++c) {
        const double* image = x.data() + (n * in_channels + first_channel + c) * in_pixels;
        const double* taps_of_channel = weights.data() + (o * group_in + c) * taps;
        for (std::int64_t tap = 0; tap < taps; ++tap) {
          const double w = taps_of_channel[tap];
          const std::int64_t dz = tap / (kernel[1] * kernel[2]) * dilation[0] - pad_begin[0];
          const std::int64_t dy = tap / kernel[2] % kernel[1] * dilation[1] - pad_begin[1];
          const std::int64_t dx = tap % kernel[2] * dilation[2] - pad_begin[2];
          // The columns whose source lies inside the image: 0 <= x * stride + dx < in.
          const std::int64_t first = dx >= 0 ? 0 : (-dx + stride[2] - 1) / stride[2];
          const std::int64_t last = std::min(out[2], (in[2] - dx + stride[2] - 1) / stride[2]);
          for (std::int64_t z = 0; z < out[0]; ++z) {
            const std::int64_t iz = z * stride[0] + dz;
            if (iz < 0 || iz >= in[0]) continue;
            for (std::int64_t y = 0; y < out[1]; ++y) {
              const std::int64_t iy = y * stride[1] + dy;
              if (iy < 0 || iy >= in[1]) continue;
              double* row = plane + (z * out[1] + y) * out[2];
              const double* source = image + (iz * in[1] + iy) * in[2] + dx;
              if (stride[2] == 1) {
                for (std::int64_t i = first; i < last; ++i) row[i] += w * source[i];
              } else {
                for (std::int64_t i = first; i < last; ++i) row[i] += w * source[i * stride[2]];
              }
            }
          }
        }
      }
    }
  }
  return result;
}

Conv::Spec Conv::spec_from(const Attributes& attributes) {
  Spec spec{.window = Window::from(attributes),
            .group = group_from(attributes),
            .layout = layout_from(attributes),
            .epilogue = Epilogue::from(attributes),
            .zero_point = attributes.get_int("zero_point", 0),
            .planar_input = attributes.get_int("planar_input", 0) != 0};
  require(!spec.planar_input || spec.layout == ImageLayout::nhwc, Code::invalid_model,
          "planar_input is only for convolutions of layout nhwc, got {}", to_string(spec.layout));
  return spec;
}

Attributes Conv::attributes() const {
  Attributes attributes;
  spec_.window.store(attributes);
  attributes.set("group", spec_.group);
  attributes.set("layout", std::string(to_string(spec_.layout)));
  spec_.epilogue.store(attributes);
  if (spec_.zero_point != 0) attributes.set("zero_point", spec_.zero_point);
  if (spec_.planar_input) attributes.set("planar_input", std::int64_t{1});
  return attributes;
}

void Conv::infer(InferContext& context) const {
  check_num_inputs(context, 2, kFirstEpilogueInput + spec_.epilogue.num_extra_inputs());
  check_num_outputs(context, 1, 1);
  check_operands(context, spec_.epilogue);
  const TensorType& x = context.input(0);
  const TensorType& weights = context.input(1);
  check_zero_point(spec_.zero_point, x.dtype);
  if (context.has_input(2) && is_zero_point(x.dtype, context.input(2).dtype)) {
    check_dtype(context, 2, x.dtype, "the zero point");
    check_dim(context.input(2).num_elements(), 1, "the number of zero points");
    require(spec_.zero_point == 0, Code::invalid_model, "there is a zero point as an attribute, {}, and as an input",
            spec_.zero_point);
  } else {
    check_bias(context, weights.dims[0]);
  }
  TensorType result{x.dtype, conv_output_dims(spec_.window, spec_.layouts(), spec_.group, x, weights)};
  context.set_output(0, check_epilogue(spec_.epilogue, std::move(result), context, kFirstEpilogueInput));
}

void Conv::evaluate(EvalContext& context) const {
  const TensorView& x = context.input(0);
  const TensorView& weights = context.input(1);
  const TensorView& output = context.output(0);
  const PlainConv conv = plain_conv(spec_.window, spec_.layouts(), spec_.group, x, weights, output);
  std::vector<double> bias = context.has_input(2) ? load_doubles(context.input(2)) : std::vector<double>{};
  auto zero_point = static_cast<double>(spec_.zero_point);
  if (!bias.empty() && is_zero_point(x.dtype, context.input(2).dtype)) {
    zero_point = bias[0];
    bias.clear();
  }
  std::vector<double> image = load_image(x, spec_.layouts().input);
  for (double& value : image) value -= zero_point;
  std::vector<double> sums = conv.run(image, load_doubles(weights), bias);
  finish(spec_.epilogue, in_image_order(std::move(sums), output, spec_.layout), output, context, kFirstEpilogueInput);
}

double Conv::flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const {
  return outputs.empty() ? 0 : conv_flops(inputs, outputs[0]);
}

Attributes ConvTranspose::attributes() const {
  Attributes attributes;
  spec_.window.store(attributes);
  attributes.set("output_padding", spec_.output_padding);
  attributes.set("group", spec_.group);
  attributes.set("layout", std::string(to_string(spec_.layout)));
  spec_.epilogue.store(attributes);
  return attributes;
}

void ConvTranspose::infer(InferContext& context) const {
  check_num_inputs(context, 2, kFirstEpilogueInput + spec_.epilogue.num_extra_inputs());
  check_num_outputs(context, 1, 1);
  check_operands(context, spec_.epilogue);
  const TensorType& x = context.input(0);
  const TensorType& weights = context.input(1);
  check_conv_ranks(spec_.window, x, weights);
  const Dim& channels = x.dims[static_cast<std::size_t>(channel_axis(spec_.layout, x.rank()))];
  check_dim(channels, weights.dims[0], "the number of input channels");
  check_group(channels, spec_.group, "input channels");
  std::vector<Dim> spatial = spatial_dims(x, spec_.layout);
  const std::size_t rank = spatial.size();
  for (std::size_t a = 0; a < rank; ++a) {
    const Dim extent = (weights.dims[a + 2] - 1) * spec_.window.dilations[a] + 1;
    spatial[a] = (spatial[a] - 1) * spec_.window.strides[a] + spec_.output_padding[a] + extent - spec_.window.pads[a] -
                 spec_.window.pads[a + rank];
    check_not_negative(spatial[a], "the size of the output");
  }
  const Dim out_channels = weights.dims[1] * spec_.group;
  TensorType result{x.dtype, image_dims(x.dims[0], out_channels, std::move(spatial), spec_.layout)};
  check_bias(context, out_channels);
  context.set_output(0, check_epilogue(spec_.epilogue, std::move(result), context, kFirstEpilogueInput));
}

void ConvTranspose::evaluate(EvalContext& context) const {
  const TensorView& x = context.input(0);
  const TensorView& weights_view = context.input(1);
  const TensorView& output = context.output(0);
  const std::int64_t in_channels = x.dim(channel_axis(spec_.layout, x.rank()));
  const std::int64_t out_channels = output.dim(channel_axis(spec_.layout, output.rank()));
  const std::int64_t group_in = in_channels / spec_.group;
  const std::int64_t group_out = out_channels / spec_.group;
  ensure(weights_view.dim(0) == in_channels && weights_view.dim(1) == group_out && output.dim(0) == x.dim(0) &&
             group_in * spec_.group == in_channels,
         "transposed convolution of inconsistent shapes");
  const auto in = spatial_volume(x, spec_.layout).size;
  const auto out = spatial_volume(output, spec_.layout).size;
  const auto kernel = fill3(weights_view.dims.subspan(2), 1);
  const auto stride = fill3(spec_.window.strides, 1);
  const auto dilation = fill3(spec_.window.dilations, 1);
  const auto pad = fill3(std::span(spec_.window.pads).first(spec_.window.strides.size()), 0);
  const std::int64_t in_pixels = in[0] * in[1] * in[2];
  const std::int64_t out_pixels = out[0] * out[1] * out[2];
  const std::int64_t taps = kernel[0] * kernel[1] * kernel[2];

  const std::vector<double> image = load_image(x, spec_.layout);
  const std::vector<double> weights = load_doubles(weights_view);
  const std::vector<double> bias = context.has_input(2) ? load_doubles(context.input(2)) : std::vector<double>{};
  std::vector<double> result(static_cast<std::size_t>(output.num_elements()));
  for (std::int64_t n = 0; n < x.dim(0); ++n) {
    for (std::int64_t o = 0; o < out_channels; ++o) {
      double* plane = result.data() + (n * out_channels + o) * out_pixels;
      std::fill(plane, plane + out_pixels, bias.empty() ? 0.0 : bias[static_cast<std::size_t>(o)]);
      const std::int64_t first_channel = o / group_out * group_in;
      for (std::int64_t c = first_channel; c < first_channel + group_in; ++c) {
        const double* source = image.data() + (n * in_channels + c) * in_pixels;
        const double* taps_of_channel = weights.data() + (c * group_out + o % group_out) * taps;
        for (std::int64_t tap = 0; tap < taps; ++tap) {
          const double w = taps_of_channel[tap];
          const std::int64_t dz = tap / (kernel[1] * kernel[2]) * dilation[0] - pad[0];
          const std::int64_t dy = tap / kernel[2] % kernel[1] * dilation[1] - pad[1];
          const std::int64_t dx = tap % kernel[2] * dilation[2] - pad[2];
          for (std::int64_t z = 0; z < in[0]; ++z) {
            const std::int64_t oz = z * stride[0] + dz;
            if (oz < 0 || oz >= out[0]) continue;
            for (std::int64_t y = 0; y < in[1]; ++y) {
              const std::int64_t oy = y * stride[1] + dy;
              if (oy < 0 || oy >= out[1]) continue;
              double* row = plane + (oz * out[1] + oy) * out[2];
              const double* from = source + (z * in[1] + y) * in[2];
              for (std::int64_t i = 0; i < in[2]; ++i) {
                const std::int64_t ox = i * stride[2] + dx;
                if (0 <= ox && ox < out[2]) row[ox] += w * from[i];
              }
            }
          }
        }
      }
    }
  }
  finish(spec_.epilogue, in_image_order(std::move(result), output, spec_.layout), output, context, kFirstEpilogueInput);
}

double ConvTranspose::flops(std::span<const TensorType> inputs, std::span<const TensorType>) const {
  return inputs.empty() ? 0 : conv_flops(inputs, inputs[0]);
}

const OpDef kConvDef{"Conv", make_conv, import_conv};
const OpDef kConvTransposeDef{"ConvTranspose", make_conv_transpose, import_conv_transpose};

}  // namespace tenfold
