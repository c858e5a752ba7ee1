// ConvPair: y = first(x), z = second(y). No operator of ONNX; passes/conv_pair.cpp makes it. The formula of each is
// Conv's.
#include "ops/conv_pair.hpp"

#include <string>
#include <utility>

#include "ops/checks.hpp"
#include "ops/numbers.hpp"

namespace tenfold {
namespace {

constexpr int kImageRank = 4;

std::string prefix(int index) { return index == 0 ? "first_" : "second_"; }

Conv::Spec spec_of(const Attributes& attributes, int index) {
  Attributes own;
  const std::string start = prefix(index);
  for (const auto& [name, value] : attributes.entries()) {
    if (name.starts_with(start)) own.set(name.substr(start.size()), value);
  }
  return Conv::spec_from(own);
}
OpPtr make_conv_pair(const Attributes& attributes) {
  return std::make_shared<const ConvPair>(spec_of(attributes, 0), spec_of(attributes, 1));
}

bool is_byte(DType dtype) { return dtype == DType::int8 || dtype == DType::uint8; }

}  // namespace

ConvPair::ConvPair(Conv::Spec first, Conv::Spec second) : specs_{std::move(first), std::move(second)} {
  for (const Conv::Spec& spec : specs_) {
    require(spec.layouts().input == ImageLayout::nhwc && spec.window.spatial_rank() == 2 && spec.group == 1 &&
                spec.window.is_unit_stride() && !spec.window.has_padding(),
            Code::invalid_model,
            "a convolution of a pair is 2-D and channels-last, with one group, stride 1, no padding");
  }
}

Attributes ConvPair::attributes() const {
  Attributes all;
  for (int i = 0; i < 2; ++i) {
    const Attributes own = Conv(spec(i)).attributes();
    for (const auto& [name, value] : own.entries()) all.set(prefix(i) + name, value);
  }
  return all;
}

void ConvPair::infer(InferContext& context) const {
  check_num_inputs(context, 2, first_epilogue_input(1) + spec(1).epilogue.num_extra_inputs());
  check_num_outputs(context, 2, 2);
  check_rank(context, 0, kImageRank, "the input");
  TensorType x = context.input(0);
  for (int i = 0; i < 2; ++i) {
    require(context.has_input(weights_input(i)), Code::invalid_model, "convolution {} of the pair has no weights", i);
    const TensorType& weights = context.input(weights_input(i));
    require(weights.rank() == kImageRank && !surely_differ(weights.dims[2], Dim(1)) &&
                !surely_differ(weights.dims[3], Dim(1)),
            Code::invalid_model, "convolution {} of the pair has a kernel of {}, must be 1x1", i,
            to_string(weights.dims));
    if (is_byte(x.dtype)) {
      require(spec(i).epilogue.output != DType::undefined, Code::invalid_model,
              "a convolution of {} needs the attribute 'to', the type of its result", to_string(x.dtype));
      check_dtype(context, weights_input(i), DType::int8, "the weights");
    } else {
      require(is_float(x.dtype) && weights.dtype == x.dtype, Code::invalid_model,
              "convolution {} of the pair multiplies {} by {}", i, to_string(x.dtype), to_string(weights.dtype));
    }
    if (context.has_input(bias_input(i))) {
      check_rank(context, bias_input(i), 1, "the bias");
      check_dim(context.input(bias_input(i)).dims[0], weights.dims[0], "the length of the bias");
    }
    TensorType y{x.dtype, conv_output_dims(spec(i).window, spec(i).layouts(), 1, x, weights)};
    y = check_epilogue(spec(i).epilogue, std::move(y), context, first_epilogue_input(i));
    context.set_output(i, y);
    x = std::move(y);
  }
}

void ConvPair::evaluate(EvalContext& context) const {
  TensorView x = context.input(0);
  for (int i = 0; i < 2; ++i) {
    const TensorView& weights = context.input(weights_input(i));
    const TensorView& output = context.output(i);
    const PlainConv conv = plain_conv(spec(i).window, spec(i).layouts(), 1, x, weights, output);
    const std::vector<double> bias =
        context.has_input(bias_input(i)) ? load_doubles(context.input(bias_input(i))) : std::vector<double>{};
    std::vector<double> sums = conv.run(load_image(x, spec(i).layout), load_doubles(weights), bias);
    finish(spec(i).epilogue, in_image_order(std::move(sums), output, spec(i).layout), output, context,
           first_epilogue_input(i));
    x = output;
  }
}

double ConvPair::flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const {
  double total = 0;
  for (int i = 0; i < 2 && outputs.size() == 2 && inputs.size() >= 4; ++i) {
    const std::array operands{i == 0 ? inputs[0] : outputs[0], inputs[static_cast<std::size_t>(weights_input(i))]};
    total += Conv(spec(i)).flops(operands, std::array{outputs[static_cast<std::size_t>(i)]});
  }
  return total;
}

const OpDef kConvPairDef{"ConvPair", make_conv_pair, nullptr};

}  // namespace tenfold
