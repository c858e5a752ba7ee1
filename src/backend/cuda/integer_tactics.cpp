// Products and convolutions of 8-bit integers with zero points (MatMulInteger, QLinearMatMul, ConvInteger, QLinearConv)
// and DynamicQuantizeLinear. Plain: one thread for each result, sums in 32-bit integers. Quantised models whose zero
// points are 0 come as Conv and MatMul and run on the tensor cores.
#include <algorithm>

#include "backend/cuda/element_text.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "ops/conv.hpp"
#include "ops/matmul.hpp"
#include "ops/quantized.hpp"

namespace tenfold::cuda {
namespace {

/// Where an operator has its operands; -1: it has none such.
struct Places {
  int a = 0, b = 1, a_zero = 2, b_zero = 3, a_scale = -1, b_scale = -1, y_scale = -1, y_zero = -1, bias = -1;
  bool is_linear() const { return y_scale >= 0; }
};
Places places_of(std::string_view type) {
  if (type == "MatMulInteger" || type == "ConvInteger") return {};
  Places places{0, 3, 2, 5, 1, 4, 6, 7, -1};
  if (type == "QLinearConv") places.bias = 8;
  return places;
}
bool is_byte(DType dtype) { return dtype == DType::int8 || dtype == DType::uint8; }

/// A result from its sum. `row` and `column` are the places of scales that are more than one.
std::string finish_text(const Places& places, const KernelSpec& spec) {
  if (!places.is_linear()) return "a.y[i] = sum;";
  const DType out = spec.outputs[0].dtype;
  return fmt::format(
      R"(const float factor = tf::to_float(a.a_scale[a.a_scales == 1 ? 0 : row]) * tf::to_float(a.b_scale[a.b_scales == 1 ? 0 : column]) / tf::to_float(a.y_scale[0]);
    const float rounded = rintf((float)sum * factor) + (float)a.y_zero[0];
    a.y[i] = ({})fminf(fmaxf(rounded, {}), {});)",
      device_type(out), out == DType::int8 ? "-128.0f" : "0.0f", out == DType::int8 ? "127.0f" : "255.0f");
}

struct ProductArguments {
  const void* a = nullptr;
  const void* b = nullptr;
  const void* a_zero = nullptr;
  const void* b_zero = nullptr;
  const void* a_scale = nullptr;
  const void* b_scale = nullptr;
  const void* y_scale = nullptr;
  const void* y_zero = nullptr;
  const void* bias = nullptr;
  void* y = nullptr;
  std::int64_t count = 0;
  std::int32_t a_zeros = 1, b_zeros = 1, a_scales = 1, b_scales = 1;
  // Of a product:
  std::int64_t m = 1, n = 1, k = 1;
  Sizes batch, a_strides, b_strides;
  // Of a convolution:
  std::int32_t in_channels = 0, out_channels = 0, group_channels = 0, group_outputs = 1;
  std::int32_t in[3] = {}, kernel[3] = {}, out[3] = {}, stride[3] = {}, dilation[3] = {}, pad[3] = {};
};

std::string arguments_text(const Places& places, const KernelSpec& spec) {
  const auto type = [&](int index) {
    const auto i = static_cast<std::size_t>(index);
    const bool is_there = index >= 0 && i < spec.inputs.size() && spec.inputs[i].dtype != DType::undefined;
    return is_there ? std::string(device_type(spec.inputs[i].dtype)) : std::string("float");
  };
  return fmt::format(R"(
struct Arguments {{
  const {}* a;
  const {}* b;
  const {}* a_zero;
  const {}* b_zero;
  const {}* a_scale;
  const {}* b_scale;
  const {}* y_scale;
  const {}* y_zero;
  const int* bias;
  {}* y;
  long long count;
  int a_zeros, b_zeros, a_scales, b_scales;
  long long m, n, k;
  Sizes batch, a_strides, b_strides;
  int in_channels, out_channels, group_channels, group_outputs;
  int in[3], kernel[3], out[3], stride[3], dilation[3], pad[3];
}};
)",
                     type(places.a), type(places.b), type(places.a), type(places.b), type(places.a_scale),
                     type(places.b_scale), type(places.y_scale), type(places.y_zero),
                     device_type(spec.outputs[0].dtype));
}

constexpr std::string_view kProductText = R"(
extern "C" __global__ void __launch_bounds__(256) multiply(const __grid_constant__ Arguments a) {{
  tf::begin_early();
  tf::for_each_thread(a.count, [&](long long i) {{
    const long long column = i % a.n, row = i / a.n % a.m;
    long long rest = i / a.n / a.m, a_at = row * a.k, b_at = column;
    for (int d = a.batch.rank - 1; d >= 0; --d) {{
      const long long place = rest % a.batch.at[d];
      rest /= a.batch.at[d];
      a_at += place * a.a_strides.at[d];
      b_at += place * a.b_strides.at[d];
    }}
    const int a_zero = a.a_zero ? a.a_zero[a.a_zeros == 1 ? 0 : row] : 0, b_zero = a.b_zero ? a.b_zero[a.b_zeros == 1 ? 0 : column] : 0;
    int sum = 0;
    for (long long k = 0; k < a.k; ++k) sum += ((int)a.a[a_at + k] - a_zero) * ((int)a.b[b_at + k * a.n] - b_zero);
    {}
  }});
}}
)";
constexpr std::string_view kConvText = R"(
extern "C" __global__ void __launch_bounds__(256) multiply(const __grid_constant__ Arguments a) {{
  tf::begin_early();
  tf::for_each_thread(a.count, [&](long long i) {{
    long long rest = i;
    int at[3];
    for (int d = 2; d >= 0; --d) {{
      at[d] = rest % a.out[d];
      rest /= a.out[d];
    }}
    const int column = rest % a.out_channels, row = 0;
    const long long image = rest / a.out_channels;
    const long long taps = (long long)a.kernel[0] * a.kernel[1] * a.kernel[2], pixels = (long long)a.in[0] * a.in[1] * a.in[2];
    const auto* x = a.a + (image * a.in_channels + column / a.group_outputs * a.group_channels) * pixels;
    const auto* w = a.b + (long long)column * a.group_channels * taps;
    const int a_zero = a.a_zero ? a.a_zero[0] : 0, b_zero = a.b_zero ? a.b_zero[a.b_zeros == 1 ? 0 : column] : 0;
    int sum = a.bias ? a.bias[column] : 0;
    for (int c = 0; c < a.group_channels; ++c) {{
      for (int kz = 0; kz < a.kernel[0]; ++kz) {{
        const int z = at[0] * a.stride[0] + kz * a.dilation[0] - a.pad[0];
        if (z < 0 || z >= a.in[0]) continue;
        for (int ky = 0; ky < a.kernel[1]; ++ky) {{
          const int line = at[1] * a.stride[1] + ky * a.dilation[1] - a.pad[1];
          if (line < 0 || line >= a.in[1]) continue;
          for (int kx = 0; kx < a.kernel[2]; ++kx) {{
            const int place = at[2] * a.stride[2] + kx * a.dilation[2] - a.pad[2];
            if (place < 0 || place >= a.in[2]) continue;
            sum += ((int)x[c * pixels + ((long long)z * a.in[1] + line) * a.in[2] + place] - a_zero) *
                   ((int)w[c * taps + ((long long)kz * a.kernel[1] + ky) * a.kernel[2] + kx] - b_zero);
          }}
        }}
      }}
    }}
    (void)row;
    {}
  }});
}}
)";

class IntegerProductKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    const std::string_view type = signature.op.type();
    const Places places = places_of(type);
    const auto input = [&](int i) -> const TensorType& { return signature.inputs[static_cast<std::size_t>(i)]; };
    const auto has = [&](int i) { return i >= 0 && signature.has_input(static_cast<std::size_t>(i)); };
    if (!has(places.a) || !has(places.b) || !signature.has_output(0)) return "operands are missing";
    if (!is_byte(input(places.a).dtype) || !is_byte(input(places.b).dtype)) return "the factors are no bytes";
    const bool is_conv = type == "ConvInteger" || type == "QLinearConv";
    // Zero points and scales: one number, or one for each row of a, each column of b, each channel.
    for (const int i : {places.a_zero, places.b_zero, places.a_scale, places.b_scale}) {
      if (has(i) && input(i).rank() > 1 && input(i).num_elements() != Dim(1))
        return fmt::format("input {} has a number for each row of each matrix", i);
    }
    if (places.is_linear()) {
      for (const int i : {places.a_scale, places.b_scale, places.y_scale}) {
        if (!has(i) || !is_device_float(input(i).dtype)) return "the scales are no floats";
      }
      if (!has(places.y_zero) || !is_byte(signature.outputs[0].dtype)) return "the result is no byte";
    }
    if (!places.is_linear() && signature.outputs[0].dtype != DType::int32) return "the sums become floats";
    if (is_conv && (input(places.a).rank() < 3 || input(places.a).rank() > 5)) return "it has not one to three axes";
    if (!is_conv && (input(places.a).rank() < 1 || input(places.b).rank() < 1)) return "the factors are no matrices";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const std::string_view type = spec.op->type();
    const Places places = places_of(type);
    const bool is_conv = type == "ConvInteger" || type == "QLinearConv";
    Source source;
    source.entries = {"multiply"};
    source.text = fmt::format("{}{}{}", device_prelude(), element_prelude(), arguments_text(places, spec)) +
                  fmt::format(fmt::runtime(is_conv ? kConvText : kProductText), finish_text(places, spec));
    return source;
  }
  IntegerProductKernel(const KernelSpec& spec, const LoadedModule& module)
      : op_(spec.op), places_(places_of(op_->type())), multiply_(module.function("multiply")) {}
  void run(const Launch& launch) const override {
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    const auto operand = [&](int i) {
      return i < 0 ? TensorView{} : operand_of(launch.inputs, static_cast<std::size_t>(i));
    };
    const TensorView a = operand(places_.a), b = operand(places_.b);
    ProductArguments arguments;
    arguments.a = a.data, arguments.b = b.data;
    arguments.a_zero = operand(places_.a_zero).data, arguments.b_zero = operand(places_.b_zero).data;
    arguments.a_scale = operand(places_.a_scale).data, arguments.b_scale = operand(places_.b_scale).data;
    arguments.y_scale = operand(places_.y_scale).data, arguments.y_zero = operand(places_.y_zero).data;
    arguments.bias = operand(places_.bias).data;
    arguments.y = y.data;
    arguments.count = y.num_elements();
    for (const auto& [place, count] :
         {std::pair(places_.a_zero, &arguments.a_zeros), std::pair(places_.b_zero, &arguments.b_zeros),
          std::pair(places_.a_scale, &arguments.a_scales), std::pair(places_.b_scale, &arguments.b_scales)}) {
      if (operand(place).data != nullptr) *count = static_cast<std::int32_t>(operand(place).num_elements());
    }
    if (op_->type() == "ConvInteger" || op_->type() == "QLinearConv") {
      describe_convolution(a, b, y, arguments);
    } else {
      describe_product(a, b, arguments);
    }
    LaunchConfig config = one_thread_each(multiply_, arguments.count);
    config.pdl = true;
    cuda_stream(launch).launch(config, arguments);
  }

 private:
  static void describe_product(const TensorView& a, const TensorView& b, ProductArguments& arguments) {
    arguments.k = a.dims.back();
    arguments.m = a.rank() > 1 ? a.dim(a.rank() - 2) : 1;
    arguments.n = b.rank() > 1 ? b.dims.back() : 1;
    const auto batch_of = [](const TensorView& view) {
      return view.dims.first(view.dims.size() - std::min<std::size_t>(view.dims.size(), 2));
    };
    const std::size_t rank = std::max(batch_of(a).size(), batch_of(b).size());
    arguments.batch.rank = static_cast<std::int32_t>(rank);
    for (std::size_t d = 0; d < rank; ++d) arguments.batch.at[d] = 1;
    const auto add = [&](const TensorView& view, Sizes& strides) {
      const auto dims = batch_of(view);
      std::int64_t step = product_of_dims(view.dims, dims.size(), view.dims.size());
      for (std::size_t d = dims.size(); d-- > 0; step *= dims[d]) {
        const std::size_t axis = d + rank - dims.size();
        if (dims[d] == 1) continue;
        arguments.batch.at[axis] = dims[d];
        strides.at[axis] = step;
      }
    };
    add(a, arguments.a_strides);
    add(b, arguments.b_strides);
  }
  void describe_convolution(const TensorView& x, const TensorView& w, const TensorView& y,
                            ProductArguments& arguments) const {
    const auto* integer = dynamic_cast<const ConvInteger*>(op_.get());
    const auto* linear = dynamic_cast<const QLinearConv*>(op_.get());
    const PlainConv conv = plain_conv(integer != nullptr ? integer->window() : linear->window(), {},
                                      integer != nullptr ? integer->group() : linear->group(), x, w, y);
    arguments.in_channels = static_cast<std::int32_t>(conv.in_channels);
    arguments.out_channels = static_cast<std::int32_t>(conv.out_channels);
    arguments.group_channels = static_cast<std::int32_t>(conv.in_channels / conv.group);
    arguments.group_outputs = static_cast<std::int32_t>(conv.out_channels / conv.group);
    for (std::size_t d = 0; d < 3; ++d) {
      arguments.in[d] = static_cast<std::int32_t>(conv.input[d]);
      arguments.kernel[d] = static_cast<std::int32_t>(conv.kernel[d]);
      arguments.out[d] = static_cast<std::int32_t>(conv.output[d]);
      arguments.stride[d] = static_cast<std::int32_t>(conv.stride[d]);
      arguments.dilation[d] = static_cast<std::int32_t>(conv.dilation[d]);
      arguments.pad[d] = static_cast<std::int32_t>(conv.pad_begin[d]);
    }
  }
  OpPtr op_;
  Places places_;
  Function multiply_;
};

/// y = x / scale + zero, with scale and zero from the range of x. Blocks find the range of their parts; every block of
/// the second kernel combines them.
class DynamicQuantizeKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || signature.inputs[0].dtype != DType::float32) return "the input is no float32";
    return std::nullopt;
  }
  static Source source(const KernelSpec&, const DeviceTraits&) {
    Source source;
    source.entries = {"find_range", "quantize"};
    source.text = fmt::format(R"({}{}
TF_FN void combine(float& low, float& high) {{
  float total_low, total_high;
  tf::block_scan(low, 0.0f, [](float a, float b) {{ return fminf(a, b); }}, total_low);
  tf::block_scan(high, 0.0f, [](float a, float b) {{ return fmaxf(a, b); }}, total_high);
  low = total_low;
  high = total_high;
}}
extern "C" __global__ void __launch_bounds__(256) find_range(const float* x, float* ranges, long long count) {{
  tf::begin_early();
  float low = 0.0f, high = 0.0f;
  tf::for_each_thread(count, [&](long long i) {{
    low = fminf(low, x[i]);
    high = fmaxf(high, x[i]);
  }});
  combine(low, high);
  if (threadIdx.x == 0) ranges[2 * blockIdx.x] = low, ranges[2 * blockIdx.x + 1] = high;
}}
extern "C" __global__ void __launch_bounds__(256) quantize(const float* x, const float* ranges, unsigned char* y, float* scale_out, unsigned char* zero_out, long long count, int parts) {{
  tf::begin_early();
  float low = 0.0f, high = 0.0f;
  for (int i = threadIdx.x; i < parts; i += 256) {{
    low = fminf(low, ranges[2 * i]);
    high = fmaxf(high, ranges[2 * i + 1]);
  }}
  combine(low, high);
  const float scale = high == low ? 1.0f : (high - low) / 255.0f;
  const float zero = fminf(fmaxf(rintf(-low / scale), 0.0f), 255.0f);
  if (blockIdx.x == 0 && threadIdx.x == 0) {{
    if (scale_out) *scale_out = scale;
    if (zero_out) *zero_out = (unsigned char)zero;
  }}
  if (!y) return;
  tf::for_each_thread(count, [&](long long i) {{ y[i] = (unsigned char)fminf(fmaxf(rintf(x[i] / scale) + zero, 0.0f), 255.0f); }});
}}
)",
                              device_prelude(), element_prelude());
    return source;
  }
  DynamicQuantizeKernel(const KernelSpec&, const LoadedModule& module)
      : find_range_(module.function("find_range")), quantize_(module.function("quantize")) {}
  std::size_t workspace_bytes(std::span<const TensorView>, std::span<const TensorView>) const override {
    return kMostParts * 2 * sizeof(float);
  }
  void run(const Launch& launch) const override {
    const std::int64_t count = launch.inputs[0].num_elements();
    const std::int64_t parts = std::clamp<std::int64_t>(divide_up(count, 4096), 1, kMostParts);
    LaunchConfig config;
    config.function = find_range_;
    config.grid.x = static_cast<unsigned>(parts);
    config.block.x = 256;
    config.pdl = true;
    CudaStream& stream = cuda_stream(launch);
    const void* x = launch.inputs[0].data;
    void* ranges = launch.workspace.data();
    stream.launch(config, x, ranges, count);
    config.function = quantize_;
    config.grid.x = static_cast<unsigned>(std::clamp<std::int64_t>(divide_up(count, 1024), 1, 4096));
    stream.launch(config, x, static_cast<const void*>(ranges), operand_of(launch.outputs, 0).data,
                  operand_of(launch.outputs, 1).data, operand_of(launch.outputs, 2).data, count,
                  static_cast<std::int32_t>(parts));
  }

 private:
  static constexpr std::int64_t kMostParts = 512;
  Function find_range_, quantize_;
};

}  // namespace

const CudaTactic kMatMulIntegerPlain = plain_tactic<IntegerProductKernel>("integers.plain", "MatMulInteger");
const CudaTactic kQLinearMatMulPlain = plain_tactic<IntegerProductKernel>("integers.plain", "QLinearMatMul");
const CudaTactic kConvIntegerPlain = plain_tactic<IntegerProductKernel>("integers.plain", "ConvInteger");
const CudaTactic kQLinearConvPlain = plain_tactic<IntegerProductKernel>("integers.plain", "QLinearConv");
const CudaTactic kDynamicQuantize = plain_tactic<DynamicQuantizeKernel>("quantize.dynamic", "DynamicQuantizeLinear");

}  // namespace tenfold::cuda
