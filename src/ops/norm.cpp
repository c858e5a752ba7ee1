// Normalisations, references and import. Variances are population variances: mean((x - mean(x))^2).
// Source: ONNX operator sets 9 to 23: BatchNormalization, InstanceNormalization, GroupNormalization,
// LayerNormalization, RMSNormalization, LpNormalization, MeanVarianceNormalization, LRN.
#include "ops/norm.hpp"

#include <algorithm>
#include <cmath>

#include "ops/checks.hpp"
#include "ops/numbers.hpp"
#include "ops/shape_math.hpp"

namespace tenfold {
namespace {

double epsilon_from(const Attributes& attributes) {
  const double epsilon = attributes.get_float("epsilon", 1e-5F);
  require(epsilon >= 0 && epsilon < INFINITY, Code::invalid_model, "epsilon must be a number of 0 or more, got {}",
          epsilon);
  return epsilon;
}

Attributes attributes_of(double epsilon, ImageLayout layout) {
  return {{"epsilon", epsilon}, {"layout", std::string(to_string(layout))}};
}

/// x is an image of rank `least_rank` or more, and inputs 1 .. num_vectors are vectors with one element per channel.
void infer_per_channel(InferContext& context, ImageLayout layout, int least_rank, int num_vectors,
                       const Epilogue& epilogue = {}) {
  check_num_inputs(context, 1 + num_vectors, 1 + num_vectors + epilogue.num_extra_inputs());
  check_num_outputs(context, 1, 1);
  check_float(context, 0, "the input");
  const TensorType& x = context.input(0);
  require(x.rank() >= least_rank, Code::invalid_model, "the input must have rank {} or more, got {}", least_rank,
          to_string(x));
  for (int i = 1; i <= num_vectors; ++i) {
    check_float(context, i, "a vector of the normalisation");
    check_rank(context, i, 1, "a vector of the normalisation");
    check_dim(context.input(i).dims[0], x.dims[static_cast<std::size_t>(channel_axis(layout, x.rank()))],
              "the length of a vector of the normalisation");
  }
  context.set_output(0, check_epilogue(epilogue, x, context, 1 + num_vectors));
}

struct Moments {
  double mean = 0, variance = 0;
};
Moments moments_of(std::span<const double> values) {
  Moments moments;
  if (values.empty()) return moments;
  for (const double v : values) moments.mean += v;
  moments.mean /= static_cast<double>(values.size());
  for (const double v : values) moments.variance += (v - moments.mean) * (v - moments.mean);
  moments.variance /= static_cast<double>(values.size());
  return moments;
}

/// The image as doubles [N, C, pixels] of any rank from 2 on.
struct Planes {
  std::int64_t batch, channels, pixels;
  ImageLayout layout;

  Planes(const TensorView& x, ImageLayout order)
      : batch(x.dim(0)), channels(x.dim(channel_axis(order, x.rank()))), pixels(1), layout(order) {
    const int first = first_spatial_axis(layout);
    for (int a = first; a < first + x.rank() - 2; ++a) pixels *= x.dim(a);
  }
  std::vector<double> load(const TensorView& x) const { return permute(load_doubles(x), true); }
  void store(std::vector<double> values, const TensorView& y) const {
    store_doubles(permute(std::move(values), false), y);
  }

  /// To planar order or back.
  std::vector<double> permute(std::vector<double> values, bool to_planar) const {
    if (layout == ImageLayout::nchw) return values;
    std::vector<double> result(values.size());
    std::size_t interleaved = 0;
    for (std::int64_t n = 0; n < batch; ++n) {
      for (std::int64_t p = 0; p < pixels; ++p) {
        for (std::int64_t c = 0; c < channels; ++c, ++interleaved) {
          const auto planar = static_cast<std::size_t>((n * channels + c) * pixels + p);
          if (to_planar) {
            result[planar] = values[interleaved];
          } else {
            result[interleaved] = values[planar];
          }
        }
      }
    }
    return result;
  }
};

void check_channels(const EvalContext& context, const Planes& planes, int num_vectors) {
  for (int i = 1; i <= num_vectors; ++i) {
    ensure(context.input(i).num_elements() == planes.channels, "a vector of {} elements for {} channels",
           context.input(i).num_elements(), planes.channels);
  }
  check_output(context, 0, context.input(0).dims);
}

/// Mean and variance over each image and each of `groups` runs of channels, then scale and bias by channel.
void normalise_groups(EvalContext& context, ImageLayout layout, std::int64_t groups, double epsilon,
                      const Epilogue& epilogue = {}) {
  const TensorView& x = context.input(0);
  const Planes planes(x, layout);
  check_channels(context, planes, 2);
  ensure(planes.channels % groups == 0, "{} channels in {} groups", planes.channels, groups);
  std::vector<double> values = planes.load(x);
  const std::vector<double> scale = load_doubles(context.input(1));
  const std::vector<double> bias = load_doubles(context.input(2));
  const std::int64_t group_channels = planes.channels / groups;
  for (std::int64_t n = 0; n < planes.batch; ++n) {
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::span<double> run(values.data() + (n * planes.channels + g * group_channels) * planes.pixels,
                                  static_cast<std::size_t>(group_channels * planes.pixels));
      const Moments moments = moments_of(run);
      const double factor = 1 / std::sqrt(moments.variance + epsilon);
      for (std::size_t i = 0; i < run.size(); ++i) {
        const auto c = static_cast<std::size_t>(g * group_channels + static_cast<std::int64_t>(i) / planes.pixels);
        run[i] = (run[i] - moments.mean) * factor * scale[c] + bias[c];
      }
    }
  }
  finish(epilogue, planes.permute(std::move(values), false), context.output(0), context, 3);
}

/// Elements of input `index` as if broadcast to the shape of x.
std::vector<double> load_broadcast(const EvalContext& context, int index) {
  const TensorView& x = context.input(0);
  const std::vector<double> values = load_doubles(context.input(index));
  const std::vector<Shape> strides{broadcast_strides(context.input(index).dims, x.dims)};
  std::vector<double> result;
  result.reserve(static_cast<std::size_t>(x.num_elements()));
  for_each_index(x.dims, strides, [&](std::span<const std::int64_t> offsets) {
    result.push_back(values[static_cast<std::size_t>(offsets[0])]);
  });
  return result;
}

/// Sizes before and from `axis` on.
std::pair<std::int64_t, std::int64_t> split_at(const TensorView& x, int axis) {
  std::int64_t outer = 1;
  std::int64_t inner = 1;
  for (int a = 0; a < x.rank(); ++a) (a < axis ? outer : inner) *= x.dim(a);
  return {outer, inner};
}

/// y = x / norm(x) along one axis, p = 1 or 2; 0 where the norm is 0.
class LpNormalization final : public Op {
 public:
  LpNormalization(std::int64_t axis, std::int64_t p) : axis_(axis), p_(p) {}
  std::string_view type() const override { return "LpNormalization"; }
  Attributes attributes() const override { return {{"axis", axis_}, {"p", p_}}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 1);
    check_float(context, 0, "the input");
    check_axis(axis_, context.input(0).rank());
    context.set_output(0, context.input(0));
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    check_output(context, 0, x.dims);
    const int axis = check_axis(axis_, x.rank());
    const auto [outer, rest] = split_at(x, axis);
    const std::int64_t length = x.dim(axis);
    const std::int64_t stride = length == 0 ? 0 : rest / length;
    std::vector<double> values = load_doubles(x);
    for (std::int64_t line = 0; line < outer * stride; ++line) {
      double* first = values.data() + line / stride * rest + line % stride;
      double norm = 0;
      for (std::int64_t i = 0; i < length; ++i) {
        const double v = first[i * stride];
        norm += p_ == 1 ? std::abs(v) : v * v;
      }
      if (p_ == 2) norm = std::sqrt(norm);
      for (std::int64_t i = 0; i < length; ++i) first[i * stride] = norm == 0 ? 0 : first[i * stride] / norm;
    }
    store_doubles(values, context.output(0));
  }

 private:
  std::int64_t axis_;
  std::int64_t p_;
};

/// y[c] = x[c] / (bias + alpha / size * sum over the channels around c of x^2)^beta; input [N, C, ...].
class Lrn final : public Op {
 public:
  Lrn(std::int64_t size, double alpha, double beta, double bias)
      : size_(size), alpha_(alpha), beta_(beta), bias_(bias) {}
  std::string_view type() const override { return "LRN"; }
  Attributes attributes() const override {
    return {{"size", size_}, {"alpha", alpha_}, {"beta", beta_}, {"bias", bias_}};
  }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 1);
    check_float(context, 0, "the input");
    require(context.input(0).rank() >= 2, Code::invalid_model, "the input must have rank 2 or more, got {}",
            to_string(context.input(0)));
    context.set_output(0, context.input(0));
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    check_output(context, 0, x.dims);
    const Planes planes(x, ImageLayout::nchw);
    const std::vector<double> values = planes.load(x);
    std::vector<double> result(values.size());
    const std::int64_t before = (size_ - 1) / 2;
    const std::int64_t after = size_ - 1 - before;
    for (std::int64_t n = 0; n < planes.batch; ++n) {
      for (std::int64_t c = 0; c < planes.channels; ++c) {
        for (std::int64_t p = 0; p < planes.pixels; ++p) {
          double sum = 0;
          for (std::int64_t i = std::max<std::int64_t>(0, c - before); i <= std::min(planes.channels - 1, c + after);
               ++i) {
            const double v = values[static_cast<std::size_t>((n * planes.channels + i) * planes.pixels + p)];
            sum += v * v;
          }
          const auto at = static_cast<std::size_t>((n * planes.channels + c) * planes.pixels + p);
          result[at] = values[at] / std::pow(bias_ + alpha_ / static_cast<double>(size_) * sum, beta_);
        }
      }
    }
    planes.store(std::move(result), context.output(0));
  }

 private:
  std::int64_t size_;
  double alpha_, beta_, bias_;
};

OpPtr make_batch(const Attributes& attributes) {
  return std::make_shared<const BatchNormalization>(epsilon_from(attributes), layout_from(attributes));
}
OpPtr make_instance(const Attributes& attributes) {
  return std::make_shared<const InstanceNormalization>(epsilon_from(attributes), layout_from(attributes));
}
OpPtr make_group(const Attributes& attributes) {
  const std::int64_t groups = attributes.get_int("num_groups");
  require(1 <= groups && groups <= (std::int64_t{1} << 30), Code::invalid_model, "num_groups must be 1 or more, got {}",
          groups);
  return std::make_shared<const GroupNormalization>(groups, epsilon_from(attributes), layout_from(attributes),
                                                    Epilogue::from(attributes));
}
OpPtr make_layer(const Attributes& attributes) {
  return std::make_shared<const LayerNormalization>(attributes.get_int("axis", -1), epsilon_from(attributes));
}
OpPtr make_rms(const Attributes& attributes) {
  return std::make_shared<const RMSNormalization>(attributes.get_int("axis", -1), epsilon_from(attributes));
}
OpPtr make_lp(const Attributes& attributes) {
  const std::int64_t p = attributes.get_int("p", 2);
  require(p == 1 || p == 2, Code::invalid_model, "p must be 1 or 2, got {}", p);
  return std::make_shared<const LpNormalization>(attributes.get_int("axis", -1), p);
}
OpPtr make_lrn(const Attributes& attributes) {
  const std::int64_t size = attributes.get_int("size");
  require(1 <= size && size <= (std::int64_t{1} << 30), Code::invalid_model, "size must be 1 or more, got {}", size);
  return std::make_shared<const Lrn>(size, attributes.get_float("alpha", 1e-4F), attributes.get_float("beta", 0.75),
                                     attributes.get_float("bias", 1));
}

void import_batch(ImportNode& node) {
  require(node.attributes().get_int("training_mode", 0) == 0, Code::unsupported,
          "training_mode 1 is not supported; export the model for inference");
  require(node.attributes().get_int("spatial", 1) == 1, Code::unsupported, "spatial 0 is not supported");
  for (int i = 1; i < node.num_outputs(); ++i) {
    require(!node.wants_output(i), Code::unsupported,
            "output {} exists in training only and is not supported; export the model for inference", i);
  }
  const auto op = std::make_shared<const BatchNormalization>(epsilon_from(node.attributes()), ImageLayout::nchw);
  node.set_output(0, node.add(op, node.inputs()));
}

void import_group(ImportNode& node) {
  std::vector<ValueId> inputs = node.inputs();
  require(inputs.size() == 3 && node.has_input(0), Code::invalid_model, "needs 3 inputs, got {}", inputs.size());
  const OpPtr op = make_group(node.attributes());
  if (node.opset() < 21) {
    // Scale and bias have one element per group there: repeat each for the group's channels.
    const Dim groups = op_cast<GroupNormalization>(op)->num_groups();
    const TensorType x = node.graph().value(inputs[0]).type;
    require(x.rank() >= 2 && x.dims[1].is_constant(), Code::unsupported,
            "the number of channels of {} is not known; give the input a fixed shape", to_string(x));
    const Dim channels = x.dims[1];
    const auto resize = [&](std::string_view type, ValueId value, const std::vector<Dim>& dims) {
      Attributes attributes;
      set_dims(attributes, "dims", dims);
      return node.add(make_op(type, attributes), {value});
    };
    for (std::size_t i = 1; i < 3; ++i) {
      require(node.has_input(static_cast<int>(i)), Code::invalid_model, "input {} is missing", i);
      inputs[i] = resize("Reshape", inputs[i], {groups, 1});
      inputs[i] = resize("Expand", inputs[i], {groups, Dim::floordiv(channels, groups)});
      inputs[i] = resize("Reshape", inputs[i], {channels});
    }
  }
  node.set_output(0, node.add(op, inputs));
}

void import_mean_variance(ImportNode& node) {
  require(node.has_input(0), Code::invalid_model, "the input is missing");
  const ValueId x = node.input(0);
  const TensorType type = node.graph().value(x).type;
  std::vector<std::int64_t> axes = node.attributes().get_ints("axes", {0, 2, 3});
  for (std::int64_t& axis : axes) axis = check_axis(axis, type.rank());
  std::sort(axes.begin(), axes.end());
  const Attributes reduce{{"axes", axes}, {"keepdims", std::int64_t{1}}};
  const ValueId mean = node.add(make_op("ReduceMean", reduce), {x});
  const ValueId centred = node.add(make_op("Sub"), {x, mean});
  const ValueId square = node.add(make_op("Mul"), {centred, centred});
  const ValueId deviation = node.add(make_op("Sqrt"), {node.add(make_op("ReduceMean", reduce), {square})});
  Tensor epsilon(type.dtype, {});
  const double value = 1e-9;  // as in the operator's definition
  store_doubles(std::span(&value, 1), {epsilon.mutable_data(), type.dtype, {}, 1});
  const ValueId divisor = node.add(make_op("Add"), {deviation, node.constant(epsilon)});
  node.set_output(0, node.add(make_op("Div"), {centred, divisor}));
}

}  // namespace

Attributes BatchNormalization::attributes() const { return attributes_of(epsilon_, layout_); }

void BatchNormalization::infer(InferContext& context) const { infer_per_channel(context, layout_, 2, 4); }

void BatchNormalization::evaluate(EvalContext& context) const {
  const Planes planes(context.input(0), layout_);
  check_channels(context, planes, 4);
  std::vector<double> values = planes.load(context.input(0));
  const std::vector<double> scale = load_doubles(context.input(1));
  const std::vector<double> bias = load_doubles(context.input(2));
  const std::vector<double> mean = load_doubles(context.input(3));
  const std::vector<double> variance = load_doubles(context.input(4));
  double* value = values.data();
  for (std::int64_t n = 0; n < planes.batch; ++n) {
    for (std::size_t c = 0; c < scale.size(); ++c) {
      const double factor = scale[c] / std::sqrt(variance[c] + epsilon_);
      for (std::int64_t p = 0; p < planes.pixels; ++p, ++value) *value = (*value - mean[c]) * factor + bias[c];
    }
  }
  planes.store(std::move(values), context.output(0));
}

Attributes InstanceNormalization::attributes() const { return attributes_of(epsilon_, layout_); }

void InstanceNormalization::infer(InferContext& context) const { infer_per_channel(context, layout_, 3, 2); }

void InstanceNormalization::evaluate(EvalContext& context) const {
  const TensorView& x = context.input(0);
  normalise_groups(context, layout_, std::max<std::int64_t>(1, x.dim(channel_axis(layout_, x.rank()))), epsilon_);
}

Attributes GroupNormalization::attributes() const {
  Attributes attributes = attributes_of(epsilon_, layout_);
  attributes.set("num_groups", num_groups_);
  epilogue_.store(attributes);
  return attributes;
}

void GroupNormalization::infer(InferContext& context) const {
  infer_per_channel(context, layout_, 2, 2, epilogue_);
  const TensorType& x = context.input(0);
  const Dim& channels = x.dims[static_cast<std::size_t>(channel_axis(layout_, x.rank()))];
  require(!channels.is_constant() || channels.constant() % num_groups_ == 0, Code::invalid_model,
          "{} channels do not divide into {} groups", channels.to_string(), num_groups_);
}

void GroupNormalization::evaluate(EvalContext& context) const {
  normalise_groups(context, layout_, num_groups_, epsilon_, epilogue_);
}

Attributes LayerNormalization::attributes() const { return {{"axis", axis_}, {"epsilon", epsilon_}}; }

void LayerNormalization::infer(InferContext& context) const {
  check_num_inputs(context, 2, 3);
  check_num_outputs(context, 1, 3);
  check_float(context, 0, "the input");
  const TensorType& x = context.input(0);
  const int axis = check_axis(axis_, x.rank());
  for (int i = 1; i < context.num_inputs(); ++i) {
    if (!context.has_input(i)) continue;
    check_float(context, i, "scale and bias");
    check_broadcasts_to(context.input(i).dims, x.dims, "scale or bias");
  }
  for (int i = 1; i < 3; ++i) {
    if (!context.wants_output(i)) continue;
    // Statistics are kept in float32 at least.
    TensorType statistics{x.dtype == DType::float64 ? DType::float64 : DType::float32, x.dims};
    for (auto a = static_cast<std::size_t>(axis); a < x.dims.size(); ++a) statistics.dims[a] = 1;
    context.set_output(i, std::move(statistics));
  }
  context.set_output(0, x);
}

void LayerNormalization::evaluate(EvalContext& context) const {
  const TensorView& x = context.input(0);
  check_output(context, 0, x.dims);
  const auto [rows, length] = split_at(x, check_axis(axis_, x.rank()));
  std::vector<double> values = load_doubles(x);
  const std::vector<double> scale = load_broadcast(context, 1);
  const std::vector<double> bias = context.has_input(2) ? load_broadcast(context, 2) : std::vector<double>{};
  std::vector<double> means, factors;
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto first = static_cast<std::size_t>(r * length);
    const std::span<double> row(values.data() + first, static_cast<std::size_t>(length));
    const Moments moments = moments_of(row);
    means.push_back(moments.mean);
    factors.push_back(1 / std::sqrt(moments.variance + epsilon_));
    for (std::size_t i = 0; i < row.size(); ++i) {
      row[i] = (row[i] - moments.mean) * factors.back() * scale[first + i] + (bias.empty() ? 0 : bias[first + i]);
    }
  }
  store_doubles(values, context.output(0));
  if (context.wants_output(1)) store_doubles(means, context.output(1));
  if (context.wants_output(2)) store_doubles(factors, context.output(2));
}

Attributes RMSNormalization::attributes() const { return {{"axis", axis_}, {"epsilon", epsilon_}}; }

void RMSNormalization::infer(InferContext& context) const {
  check_num_inputs(context, 2, 2);
  check_num_outputs(context, 1, 1);
  check_float(context, 0, "the input");
  check_float(context, 1, "the scale");
  const TensorType& x = context.input(0);
  check_axis(axis_, x.rank());
  check_broadcasts_to(context.input(1).dims, x.dims, "the scale");
  context.set_output(0, x);
}

void RMSNormalization::evaluate(EvalContext& context) const {
  const TensorView& x = context.input(0);
  check_output(context, 0, x.dims);
  const auto [rows, length] = split_at(x, check_axis(axis_, x.rank()));
  std::vector<double> values = load_doubles(x);
  const std::vector<double> scale = load_broadcast(context, 1);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t first = r * length;
    double sum = 0;
    for (std::int64_t i = first; i < first + length; ++i)
      sum += values[static_cast<std::size_t>(i)] * values[static_cast<std::size_t>(i)];
    const double factor = 1 / std::sqrt(sum / static_cast<double>(length) + epsilon_);
    for (std::int64_t i = first; i < first + length; ++i) {
      values[static_cast<std::size_t>(i)] *= factor * scale[static_cast<std::size_t>(i)];
    }
  }
  store_doubles(values, context.output(0));
}

const OpDef kBatchNormalizationDef{"BatchNormalization", make_batch, import_batch};
const OpDef kGroupNormalizationDef{"GroupNormalization", make_group, import_group};
const OpDef kInstanceNormalizationDef{"InstanceNormalization", make_instance, import_plain};
const OpDef kLayerNormalizationDef{"LayerNormalization", make_layer, import_plain};
const OpDef kLpNormalizationDef{"LpNormalization", make_lp, import_plain};
const OpDef kLRNDef{"LRN", make_lrn, import_plain};
const OpDef kMeanVarianceNormalizationDef{"MeanVarianceNormalization", nullptr, import_mean_variance};
const OpDef kRMSNormalizationDef{"RMSNormalization", make_rms, import_plain};

}  // namespace tenfold
