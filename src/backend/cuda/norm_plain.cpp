// Normalisations beyond rows and images: LayerNormalization that hands out its statistics or whose scale broadcasts in
// other ways, BatchNormalization whose parameters are computed, LRN. Plain: sums in double.
#include <algorithm>

#include "backend/cuda/element_text.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "ops/window.hpp"

namespace tenfold::cuda {
namespace {

struct LayerArguments {
  const void* x = nullptr;
  const void* scale = nullptr;
  const void* bias = nullptr;
  void* y = nullptr;
  void* mean = nullptr;
  void* factor = nullptr;
  std::int64_t rows = 0, length = 0;
  Sizes dims, scale_strides, bias_strides;
};

/// Strides of an operand broadcast to `dims`.
Sizes broadcast_strides_of(const TensorView& view, std::span<const std::int64_t> dims) {
  Sizes strides;
  strides.rank = static_cast<std::int32_t>(dims.size());
  const Sizes own = contiguous_strides(view.dims);
  const std::size_t lead = dims.size() - view.dims.size();
  for (std::size_t a = 0; a < view.dims.size(); ++a) {
    if (view.dims[a] != 1) strides.at[lead + a] = own.at[a];
  }
  return strides;
}

class LayerNormKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || !signature.has_input(1) || signature.outputs.empty()) return "operands are missing";
    const TensorType& x = signature.inputs[0];
    for (const auto* types : {&signature.inputs, &signature.outputs}) {
      for (const TensorType& type : *types) {
        if (type.dtype != DType::undefined && !is_plain_float(type.dtype))
          return fmt::format("no kernel for {}", to_string(type.dtype));
      }
    }
    if (!normalized_axis(signature.op.attributes().get_int("axis", -1), x.rank())) return "no such axis";
    for (std::size_t i = 1; i < signature.inputs.size(); ++i) {
      if (signature.has_input(i) && signature.inputs[i].rank() > x.rank())
        return "scale and bias have more axes than x";
    }
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const auto type = [](const std::vector<TensorType>& types, std::size_t i) {
      const bool is_there = i < types.size() && types[i].dtype != DType::undefined;
      return is_there ? device_type(types[i].dtype) : std::string_view("float");
    };
    Source source;
    source.entries = {"normalize"};
    source.text = fmt::format(R"({}{}
typedef {} T;
typedef {} W;
typedef {} B;
typedef {} Y;
typedef {} M;
typedef {} F;
struct Arguments {{
  const T* x;
  const W* scale;
  const B* bias;
  Y* y;
  M* mean;
  F* factor;
  long long rows, length;
  Sizes dims, scale_strides, bias_strides;
}};
TF_FN long long offset(const Sizes& dims, const Sizes& strides, long long i) {{
  long long at = 0;
  for (int d = dims.rank - 1; d >= 0; --d) {{
    at += i % dims.at[d] * strides.at[d];
    i /= dims.at[d];
  }}
  return at;
}}
template <typename V>
TF_FN double value(V x) {{ return (double)tf::Element<V>::get(x); }}
template <typename V>
TF_FN V stored(double x) {{ return tf::Element<V>::put((typename tf::Element<V>::C)x); }}
TF_FN double total_of(double x) {{
  double total;
  tf::block_scan(x, 0.0, [](double a, double b) {{ return a + b; }}, total);
  return total;
}}
extern "C" __global__ void __launch_bounds__(256) normalize(const __grid_constant__ Arguments a) {{
  tf::begin_early();
  for (long long row = blockIdx.x; row < a.rows; row += gridDim.x) {{
    const long long first = row * a.length;
    double sum = 0;
    for (long long i = threadIdx.x; i < a.length; i += 256) sum += value(a.x[first + i]);
    const double mean = total_of(sum) / (double)a.length;
    sum = 0;
    for (long long i = threadIdx.x; i < a.length; i += 256) {{
      const double d = value(a.x[first + i]) - mean;
      sum += d * d;
    }}
    const double factor = 1.0 / sqrt(total_of(sum) / (double)a.length + {:a});
    if (a.y) {{
      for (long long i = threadIdx.x; i < a.length; i += 256) {{
        const double bias = a.bias ? value(a.bias[offset(a.dims, a.bias_strides, first + i)]) : 0.0;
        a.y[first + i] = stored<Y>((value(a.x[first + i]) - mean) * factor * value(a.scale[offset(a.dims, a.scale_strides, first + i)]) + bias);
      }}
    }}
    if (threadIdx.x == 0) {{
      if (a.mean) a.mean[row] = stored<M>(mean);
      if (a.factor) a.factor[row] = stored<F>(factor);
    }}
  }}
}}
)",
                              device_prelude(), element_prelude(), type(spec.inputs, 0), type(spec.inputs, 1),
                              type(spec.inputs, 2), type(spec.outputs, 0), type(spec.outputs, 1), type(spec.outputs, 2),
                              spec.op->attributes().get_float("epsilon", 0));
    return source;
  }
  LayerNormKernel(const KernelSpec& spec, const LoadedModule& module)
      : axis_(static_cast<std::size_t>(
            *normalized_axis(spec.op->attributes().get_int("axis", -1), spec.inputs[0].rank()))),
        normalize_(module.function("normalize")) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    if (x.num_elements() == 0) return;
    const TensorView bias = operand_of(launch.inputs, 2);
    LayerArguments arguments;
    arguments.x = x.data;
    arguments.scale = launch.inputs[1].data;
    arguments.bias = bias.data;
    arguments.y = operand_of(launch.outputs, 0).data;
    arguments.mean = operand_of(launch.outputs, 1).data;
    arguments.factor = operand_of(launch.outputs, 2).data;
    arguments.rows = product_of_dims(x.dims, 0, axis_);
    arguments.length = product_of_dims(x.dims, axis_, x.dims.size());
    arguments.dims = sizes_of(x.dims);
    arguments.scale_strides = broadcast_strides_of(launch.inputs[1], x.dims);
    if (bias.data != nullptr) arguments.bias_strides = broadcast_strides_of(bias, x.dims);
    constexpr std::int64_t kMostBlocks = 1 << 20;
    LaunchConfig config;
    config.function = normalize_;
    config.grid.x = static_cast<unsigned>(std::min(arguments.rows, kMostBlocks));
    config.block.x = 256;
    config.pdl = true;
    cuda_stream(launch).launch(config, arguments);
  }

 private:
  std::size_t axis_;
  Function normalize_;
};

struct ChannelArguments {
  const void* x = nullptr;
  const void* scale = nullptr;
  const void* bias = nullptr;
  const void* mean = nullptr;
  const void* variance = nullptr;
  void* y = nullptr;
  std::int64_t count = 0, channels = 0, pixels = 0;
};

/// BatchNormalization and LRN: a thread for each element; channels lie `pixels` elements apart.
class ChannelNormKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || !signature.has_output(0)) return "operands are missing";
    const DType dtype = signature.inputs[0].dtype;
    if (!is_plain_float(dtype) || signature.outputs[0].dtype != dtype)
      return fmt::format("no kernel for {}", to_string(dtype));
    if (signature.op.type() == "LRN") return std::nullopt;
    for (std::size_t i = 1; i < 5; ++i) {
      if (!signature.has_input(i) || !is_plain_float(signature.inputs[i].dtype)) return "a parameter is no float";
    }
    if (signature.inputs[1].dtype != signature.inputs[2].dtype ||
        signature.inputs[3].dtype != signature.inputs[4].dtype)
      return "the parameters differ in type";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const Attributes attributes = spec.op->attributes();
    const bool is_lrn = spec.op->type() == "LRN";
    std::string body;
    if (is_lrn) {
      const std::int64_t size = attributes.get_int("size"), before = (size - 1) / 2;
      body = fmt::format(R"(double sum = 0;
    for (long long k = channel - {} < 0 ? 0 : channel - {}; k <= channel + {} && k < a.channels; ++k) {{
      const double v = value(a.x[i + (k - channel) * a.pixels]);
      sum += v * v;
    }}
    a.y[i] = stored(value(a.x[i]) / pow({:a} + {:a} * sum, {:a}));)",
                         before, before, size - 1 - before, attributes.get_float("bias", 1),
                         attributes.get_float("alpha", 0) / static_cast<double>(size), attributes.get_float("beta", 0));
    } else {
      body = fmt::format(
          "a.y[i] = stored((value(a.x[i]) - value(a.mean[channel])) / sqrt(value(a.variance[channel]) + {:a}) * "
          "value(a.scale[channel]) + value(a.bias[channel]));",
          attributes.get_float("epsilon", 0));
    }
    Source source;
    source.entries = {"normalize"};
    source.text = fmt::format(
        R"({}{}
typedef {} T;
struct Arguments {{
  const T* x;
  const {}* scale;
  const {}* bias;
  const {}* mean;
  const {}* variance;
  T* y;
  long long count, channels, pixels;
}};
template <typename V>
TF_FN double value(V x) {{ return (double)tf::Element<V>::get(x); }}
TF_FN T stored(double x) {{ return tf::Element<T>::put((tf::Element<T>::C)x); }}
extern "C" __global__ void __launch_bounds__(256) normalize(const __grid_constant__ Arguments a) {{
  tf::begin_early();
  tf::for_each_thread(a.count, [&](long long i) {{
    const long long channel = i / a.pixels % a.channels;
    {}
  }});
}}
)",
        device_prelude(), element_prelude(), device_type(spec.inputs[0].dtype),
        device_type(spec.inputs[is_lrn ? 0 : 1].dtype), device_type(spec.inputs[is_lrn ? 0 : 2].dtype),
        device_type(spec.inputs[is_lrn ? 0 : 3].dtype), device_type(spec.inputs[is_lrn ? 0 : 4].dtype), body);
    return source;
  }
  ChannelNormKernel(const KernelSpec& spec, const LoadedModule& module)
      : layout_(layout_from(spec.op->attributes())), normalize_(module.function("normalize")) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    if (x.num_elements() == 0) return;
    ChannelArguments arguments{x.data,
                               operand_of(launch.inputs, 1).data,
                               operand_of(launch.inputs, 2).data,
                               operand_of(launch.inputs, 3).data,
                               operand_of(launch.inputs, 4).data,
                               launch.outputs[0].data,
                               x.num_elements()};
    const auto axis = static_cast<std::size_t>(x.rank() == 1 ? 0 : channel_axis(layout_, x.rank()));
    arguments.channels = x.dims[axis];
    arguments.pixels = product_of_dims(x.dims, axis + 1, x.dims.size());
    LaunchConfig config = one_thread_each(normalize_, arguments.count);
    config.pdl = true;
    cuda_stream(launch).launch(config, arguments);
  }

 private:
  ImageLayout layout_;
  Function normalize_;
};

/// Offered only where the tactic for rows does not apply.
void candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  const bool has_other = std::any_of(out.begin(), out.end(), [](const Candidate& c) { return c.refusal.empty(); });
  PlainTactic<LayerNormKernel>::candidates(problem, traits, out);
  if (has_other && out.back().refusal.empty()) out.back().refusal = "a faster tactic takes it";
}

}  // namespace

const CudaTactic kLayerNormPlain = {"normalize.plain",
                                    "LayerNormalization",
                                    candidates,
                                    nullptr,
                                    PlainTactic<LayerNormKernel>::source,
                                    PlainTactic<LayerNormKernel>::make};
const CudaTactic kBatchNormPlain = plain_tactic<ChannelNormKernel>("normalize.channels", "BatchNormalization");
const CudaTactic kLrnPlain = plain_tactic<ChannelNormKernel>("normalize.channels", "LRN");

}  // namespace tenfold::cuda
