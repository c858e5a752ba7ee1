// ConvMaxPool: y = MaxPool(Conv(x)). No operator of ONNX; passes/conv_max_pool.cpp makes it. The formulas are Conv's
// and MaxPool's.
#include "ops/conv_max_pool.hpp"

#include <array>
#include <string>
#include <utility>

#include "ops/checks.hpp"
#include "ops/numbers.hpp"

namespace tenfold {
namespace {

constexpr std::string_view kConvPrefix = "conv_", kPoolPrefix = "pool_", kImagePrefix = "image_";

Attributes part_of(const Attributes& attributes, std::string_view prefix) {
  Attributes own;
  for (const auto& [name, value] : attributes.entries()) {
    if (name.starts_with(prefix)) own.set(name.substr(prefix.size()), value);
  }
  return own;
}
OpPtr make_conv_max_pool(const Attributes& attributes) {
  const OpPtr pool = make_op("MaxPool", part_of(attributes, kPoolPrefix));
  const Attributes image = part_of(attributes, kImagePrefix);
  ImageSource source;
  source.is_planar = layout_from(image) == ImageLayout::nchw && image.has("layout");
  if (image.has("program")) {
    const auto pointwise = make_op("Pointwise", image);
    source.program = op_cast<Pointwise>(pointwise)->program();
    source.type = op_cast<Pointwise>(pointwise)->result();
  }
  return std::make_shared<const ConvMaxPool>(Conv::spec_from(part_of(attributes, kConvPrefix)),
                                             op_cast<MaxPool>(pool)->spec(), std::move(source));
}

/// What the convolution sees of the operands: its image in place of the first input, and its own result.
class ConvTypes final : public InferContext {
 public:
  ConvTypes(InferContext& all, TensorType image) : all_(all), image_(std::move(image)) {}
  TensorType result;
  int num_inputs() const override { return all_.num_inputs(); }
  bool has_input(int index) const override { return all_.has_input(index); }
  const TensorType& input(int index) const override { return index == 0 ? image_ : all_.input(index); }
  const Tensor* constant(int index) const override { return all_.constant(index); }
  std::optional<std::vector<Dim>> integers(int index) const override { return all_.integers(index); }
  int num_outputs() const override { return 1; }
  bool wants_output(int index) const override { return index == 0; }
  std::span<Graph> blocks() override { return {}; }
  void set_output(int, TensorType type) override { result = std::move(type); }
  void set_integers(int, std::vector<Dim>) override {}
  Dim fresh(int output, int axis, std::optional<Dim> at_most) override {
    return all_.fresh(output, axis, std::move(at_most));
  }

 private:
  InferContext& all_;
  TensorType image_;
};
class PartOperands final : public EvalContext {
 public:
  /// `first` in place of the first input, if there is one.
  PartOperands(EvalContext& all, const TensorView* first, int num_inputs, TensorView output)
      : all_(all), first_(first), num_inputs_(num_inputs), output_(output) {}
  bool has_input(int index) const override { return index < num_inputs_ && all_.has_input(index); }
  const TensorView& input(int index) const override {
    return index == 0 && first_ != nullptr ? *first_ : all_.input(index);
  }
  int num_inputs() const override { return num_inputs_; }
  int num_outputs() const override { return 1; }
  bool wants_output(int index) const override { return index == 0; }
  const TensorView& output(int) const override { return output_; }
  const TensorView& resize_output(int, const Shape&) override { return output_; }

 private:
  EvalContext& all_;
  const TensorView* first_;
  int num_inputs_;
  TensorView output_;
};

}  // namespace

ConvMaxPool::ConvMaxPool(Conv::Spec conv, PoolSpec pool, ImageSource source)
    : conv_(std::move(conv)), pool_(std::move(pool), /*column_major_indices=*/false), source_(std::move(source)) {
  require(source_.program.empty() || source_.program.num_inputs == 1, Code::invalid_model,
          "the program of an image has one operand, got {}", source_.program.num_inputs);
  require(conv_.spec().layouts().input == ImageLayout::nhwc && pool_.layout() == ImageLayout::nhwc &&
              conv_.spatial_rank() == 2 && pool_.window().spatial_rank() == 2,
          Code::invalid_model, "a pooled convolution is 2-D and channels-last");
}

Attributes ConvMaxPool::attributes() const {
  Attributes all;
  const Attributes conv = conv_.attributes(), pool = pool_.attributes();
  for (const auto& [name, value] : conv.entries()) all.set(std::string(kConvPrefix) + name, value);
  for (const auto& [name, value] : pool.entries()) all.set(std::string(kPoolPrefix) + name, value);
  const std::string image(kImagePrefix);
  if (source_.is_planar) all.set(image + "layout", std::string(to_string(ImageLayout::nchw)));
  if (!source_.program.empty()) {
    const Attributes program = Pointwise(source_.program, source_.type).attributes();
    for (const auto& [name, value] : program.entries()) all.set(image + name, value);
  }
  return all;
}

TensorType ConvMaxPool::image_type(const TensorType& x) const {
  TensorType image = x;
  if (source_.is_planar) image.dims = {x.dims[0], x.dims[2], x.dims[3], x.dims[1]};
  if (!source_.program.empty()) image.dtype = source_.type;
  return image;
}

void ConvMaxPool::infer(InferContext& context) const {
  constexpr int kImageRank = 4;
  check_num_inputs(context, 2, Conv::kFirstEpilogueInput + conv_.epilogue().num_extra_inputs());
  check_rank(context, 0, kImageRank, "the input");
  require(source_.program.empty() || is_pointwise_operand(context.input(0).dtype), Code::invalid_model,
          "no program reads an image of {}", to_string(context.input(0).dtype));
  ConvTypes types(context, image_type(context.input(0)));
  conv_.infer(types);
  TensorType result = types.result;
  for (std::size_t axis = 0; axis < 2; ++axis) {
    Dim& dim = result.dims[1 + axis];
    dim = pool_.window().output_size(static_cast<int>(axis), dim, pool_.spec().kernel[axis]);
    require(!dim.is_constant() || dim.constant() >= 0, Code::invalid_model,
            "the window {} is larger than the padded input", to_string(pool_.spec().kernel));
  }
  context.set_output(0, std::move(result));
}

void ConvMaxPool::evaluate(EvalContext& context) const {
  const TensorView &weights = context.input(1), &y = context.output(0);
  TensorView x = context.input(0);
  Tensor computed, transposed;
  const auto view_of = [](Tensor& tensor) {
    return TensorView{tensor.mutable_data(), tensor.dtype(), tensor.shape(), tensor.shape().back()};
  };
  if (!source_.program.empty()) {
    computed = Tensor(source_.type, {x.dims.begin(), x.dims.end()});
    PartOperands operands(context, nullptr, 1, view_of(computed));
    Pointwise(source_.program, source_.type).evaluate(operands);
    x = view_of(computed);
  }
  if (source_.is_planar) {
    transposed = Tensor(x.dtype, {x.dim(0), x.dim(2), x.dim(3), x.dim(1)});
    store_image(load_image(x, ImageLayout::nchw), view_of(transposed), ImageLayout::nhwc);
    x = view_of(transposed);
  }
  Shape dims{x.dim(0), 0, 0, weights.dim(0)};
  for (int axis = 0; axis < 2; ++axis) {
    const Dim size = conv_.window().output_size(axis, Dim(x.dim(1 + axis)), Dim(weights.dim(2 + axis)));
    dims[static_cast<std::size_t>(1 + axis)] = size.constant();
  }
  Tensor between(y.dtype, dims);
  const TensorView view = view_of(between);
  PartOperands operands(context, &x, context.num_inputs(), view);
  conv_.evaluate(operands);
  PartOperands pooled(context, &view, 1, y);
  pool_.evaluate(pooled);
}

double ConvMaxPool::flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const {
  if (inputs.size() < 2 || outputs.empty() || !inputs[0].is_static() || !inputs[1].is_static()) return 0;
  const TensorType image = image_type(inputs[0]);
  const TensorType between{outputs[0].dtype,
                           conv_output_dims(conv_.window(), conv_.spec().layouts(), conv_.group(), image, inputs[1])};
  return conv_.flops(std::array{image, inputs[1]}, std::array{between}) + pool_.flops(inputs, outputs);
}

const OpDef kConvMaxPoolDef{"ConvMaxPool", make_conv_max_pool, nullptr};

}  // namespace tenfold
