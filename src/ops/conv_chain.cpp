// ConvChain: y = conv_n(... conv_1(x)), each with its bias and epilogue. No operator of ONNX; passes/conv_chain.cpp
// makes it. The formula of a stage is Conv's.
#include "ops/conv_chain.hpp"

#include <array>
#include <utility>

#include "ops/checks.hpp"
#include "ops/numbers.hpp"

namespace tenfold {
namespace {

constexpr int kImageRank = 4;

std::string prefix(std::size_t stage) { return "stage" + std::to_string(stage) + "_"; }

OpPtr make_conv_chain(const Attributes& attributes) {
  const std::int64_t count = attributes.get_int("stages");
  require(2 <= count && count <= ConvChain::kMaxStages, Code::invalid_model, "a chain has 2 to {} convolutions, got {}",
          ConvChain::kMaxStages, count);
  std::vector<Conv::Spec> stages;
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    Attributes own;
    const std::string start = prefix(i);
    for (const auto& [name, value] : attributes.entries()) {
      if (name.starts_with(start)) own.set(name.substr(start.size()), value);
    }
    stages.push_back(Conv::spec_from(own));
  }
  return std::make_shared<const ConvChain>(std::move(stages));
}

/// What a stage computes, from the operands of the chain.
TensorType stage_type(const Conv::Spec& stage, const TensorType& x, const TensorType& weights) {
  return {x.dtype, conv_output_dims(stage.window, stage.layouts(), stage.group, x, weights)};
}

TensorView view_of(Tensor& tensor) {
  return {tensor.mutable_data(), tensor.dtype(), tensor.shape(), tensor.shape().back()};
}

}  // namespace

ConvChain::ConvChain(std::vector<Conv::Spec> stages) : stages_(std::move(stages)) {
  require(2 <= stages_.size() && stages_.size() <= kMaxStages, Code::invalid_model,
          "a chain has 2 to {} convolutions, got {}", kMaxStages, stages_.size());
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    require(stages_[i].layout == ImageLayout::nhwc && stages_[i].window.spatial_rank() == 2, Code::invalid_model,
            "convolution {} of a chain must be 2-D and channels-last", i);
    require(i == 0 || !stages_[i].planar_input, Code::invalid_model,
            "only the first convolution of a chain may read planes, convolution {} does", i);
    require(stages_[i].epilogue.output == DType::undefined, Code::invalid_model,
            "convolution {} of a chain must not change its type", i);
    require(i + 1 == stages_.size() || stages_[i].epilogue.num_extra_inputs() == 0, Code::invalid_model,
            "only the last convolution of a chain may have inputs of its epilogue, convolution {} has {}", i,
            stages_[i].epilogue.num_extra_inputs());
  }
}

Attributes ConvChain::attributes() const {
  Attributes all{{"stages", static_cast<std::int64_t>(stages_.size())}};
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const Attributes own = Conv(stages_[i]).attributes();
    for (const auto& [name, value] : own.entries()) all.set(prefix(i) + name, value);
  }
  return all;
}

void ConvChain::infer(InferContext& context) const {
  check_num_inputs(context, 2, first_epilogue_input() + stages_.back().epilogue.num_extra_inputs());
  check_num_outputs(context, 1, 1);
  check_float(context, 0, "the input");
  check_rank(context, 0, kImageRank, "the input");
  TensorType type = context.input(0);
  for (int i = 0; i < static_cast<int>(stages_.size()); ++i) {
    require(context.has_input(weights_input(i)), Code::invalid_model, "convolution {} of the chain has no weights", i);
    check_same_dtype(context, weights_input(i), "the weights");
    const TensorType& weights = context.input(weights_input(i));
    type = stage_type(stages_[static_cast<std::size_t>(i)], type, weights);
    if (!context.has_input(bias_input(i))) continue;
    check_same_dtype(context, bias_input(i), "the bias");
    check_rank(context, bias_input(i), 1, "the bias");
    check_dim(context.input(bias_input(i)).dims[0], weights.dims[0], "the length of the bias");
  }
  context.set_output(0, check_epilogue(stages_.back().epilogue, std::move(type), context, first_epilogue_input()));
}

void ConvChain::evaluate(EvalContext& context) const {
  TensorView x = context.input(0);
  Tensor between;
  for (int i = 0; i < static_cast<int>(stages_.size()); ++i) {
    const Conv::Spec& stage = stages_[static_cast<std::size_t>(i)];
    const bool last = i + 1 == static_cast<int>(stages_.size());
    const TensorView& weights = context.input(weights_input(i));
    Tensor result;
    TensorView output = context.output(0);
    if (!last) {
      Shape dims{x.dim(0), 0, 0, weights.dim(0)};
      for (int axis = 0; axis < 2; ++axis) {
        const std::int64_t in = x.dim(first_spatial_axis(stage.layouts().input) + axis);
        const Dim size = stage.window.output_size(axis, Dim(in), Dim(weights.dim(2 + axis)));
        dims[static_cast<std::size_t>(1 + axis)] = size.constant();
      }
      result = Tensor(x.dtype, dims);
      output = view_of(result);
    }
    const PlainConv conv = plain_conv(stage.window, stage.layouts(), stage.group, x, weights, output);
    const std::vector<double> bias =
        context.has_input(bias_input(i)) ? load_doubles(context.input(bias_input(i))) : std::vector<double>{};
    std::vector<double> sums = conv.run(load_image(x, stage.layouts().input), load_doubles(weights), bias);
    finish(stage.epilogue, in_image_order(std::move(sums), output, stage.layout), output, context,
           first_epilogue_input());
    between = std::move(result);
    x = last ? output : view_of(between);
  }
}

double ConvChain::flops(std::span<const TensorType> inputs, std::span<const TensorType>) const {
  if (inputs.size() < 2 * stages_.size() || !inputs[0].is_static()) return 0;
  double total = 0;
  TensorType x = inputs[0];
  for (int i = 0; i < static_cast<int>(stages_.size()); ++i) {
    const TensorType& weights = inputs[static_cast<std::size_t>(weights_input(i))];
    const TensorType y = stage_type(stages_[static_cast<std::size_t>(i)], x, weights);
    const std::array<TensorType, 2> operands{x, weights};
    total += Conv(stages_[static_cast<std::size_t>(i)]).flops(operands, std::array{y});
    x = y;
  }
  return total;
}

const OpDef kConvChainDef{"ConvChain", make_conv_chain, nullptr};

}  // namespace tenfold
