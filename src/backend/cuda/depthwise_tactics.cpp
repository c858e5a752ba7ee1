// Tactic "conv.depthwise": convolutions of images stored channels last where every channel is a group of its own. Bound
// by memory, so it runs on the ordinary cores: each thread makes 16 bytes of channels of a few neighbouring pixels,
// loads every element of a row of its window once, and accumulates in float32. Parameter 0: pixels of one thread.
#include <algorithm>

#include "backend/cuda/epilogue_operands.hpp"
#include "backend/cuda/image_geometry.hpp"
#include "backend/cuda/loop_nest.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "ops/conv.hpp"

namespace tenfold::cuda {
namespace {

constexpr int kThreads = 128;
constexpr std::array<std::int64_t, 3> kPixels = {1, 2, 4};
constexpr std::int64_t kMostUnrolled = 64;

const Conv& conv_of(const Op& op) {
  const auto* conv = dynamic_cast<const Conv*>(&op);
  ensure(conv != nullptr, "a depthwise tactic was given operator {}", op.type());
  return *conv;
}
int vector_of(DType dtype) { return static_cast<int>(std::size_t{16} / size_of(dtype)); }

Shape kernel_of(const TensorType& weights) {
  const Shape shape = weights.static_shape();
  return {shape.begin() + 2, shape.end()};
}

Refusal refuses(const Conv& conv, const std::vector<TensorType>& inputs, const std::vector<TensorType>& outputs) {
  if (inputs.size() < 2 || outputs.empty()) return "operands are missing";
  const DType dtype = inputs[0].dtype;
  if (!is_device_float(dtype) || inputs[1].dtype != dtype) return fmt::format("no kernel for {}", to_string(dtype));
  if (!is_device_float(outputs[0].dtype))
    return fmt::format("no kernel for results of {}", to_string(outputs[0].dtype));
  if (!inputs[1].is_static() || inputs[1].rank() != conv.spatial_rank() + 2) return "the weights have no fixed shape";
  const Shape weights = inputs[1].static_shape();
  if (weights[0] != conv.group() || weights[1] != 1) return "a group has more than one channel";
  if (inputs[0].dims.back() != Dim(conv.group())) return "the number of channels is not known";
  if (auto refusal = refuses_window(conv.window(), kernel_of(inputs[1]), conv.layout(), inputs[0], outputs[0]))
    return refusal;
  std::int64_t positions = 1;
  for (const std::int64_t size : kernel_of(inputs[1])) positions *= size;
  if (positions > kMostUnrolled)
    return fmt::format("the window has {} positions, at most {}", positions, kMostUnrolled);
  if (inputs.size() > 2 && inputs[2].dtype != DType::undefined && !is_device_float(inputs[2].dtype))
    return "the bias is no float";
  return refuses_epilogue_operands(inputs, Conv::kFirstEpilogueInput, outputs[0]);
}

/// Columns of a row of the input that the windows of `pixels` neighbouring outputs span; the kernel's loop over them is
/// unrolled.
std::int64_t span_of(const Conv& conv, const TensorType& weights, std::int64_t pixels) {
  const WindowSize size = window_size(conv.window(), kernel_of(weights));
  return (pixels - 1) * size.stride[1] + (size.kernel[1] - 1) * size.dilation[1] + 1;
}

struct DepthwiseArguments {
  ImageArguments image;
  const void* weights = nullptr;
  const void* bias = nullptr;
  EpilogueOperands operands;
};

void candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  const Conv& conv = conv_of(*problem.op);
  Refusal refusal = refuses(conv, problem.inputs, problem.outputs);
  if (!refusal && problem.constants[1] == nullptr) refusal = "the weights are computed";
  if (!refusal && span_of(conv, problem.inputs[1], 1) > kMostUnrolled)
    refusal =
        fmt::format("the window spans {} columns, at most {}", span_of(conv, problem.inputs[1], 1), kMostUnrolled);
  if (refusal) {
    out.emplace_back();
    out.back().refusal = *refusal;
    return;
  }
  for (const std::int64_t pixels : kPixels) {
    if (pixels > 1 && problem.output_shapes[0][problem.output_shapes[0].size() - 2] < pixels) continue;
    if (span_of(conv, problem.inputs[1], pixels) > kMostUnrolled) continue;
    out.emplace_back();
    out.back().parameters = {pixels};
    out.back().estimated_us = estimate_streaming_us(problem, traits);
  }
}

/// [kernel positions][channels], in the image's type.
PackedWeights pack(const Problem& problem, const Candidate&) {
  const Tensor& weights = *problem.constants[1];
  const std::int64_t channels = weights.shape()[0], positions = weights.num_elements() / channels;
  PackedWeights packed;
  packed.consumed_inputs = {1};
  const std::size_t bytes = size_of(weights.dtype());
  std::vector<std::byte> blob(weights.size_bytes());
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t p = 0; p < positions; ++p) {
      std::copy_n(weights.data() + static_cast<std::size_t>(c * positions + p) * bytes, bytes,
                  blob.data() + static_cast<std::size_t>(p * channels + c) * bytes);
    }
  }
  packed.blobs.push_back(std::move(blob));
  return packed;
}

void check(const KernelSpec& spec) {
  const auto refusal = refuses(conv_of(*spec.op), spec.inputs, spec.outputs);
  require(!refusal, Code::incompatible_engine, "tactic '{}' cannot run this Conv: {}", spec.tactic,
          refusal.value_or(""));
  require(spec.parameters.size() == 1 && std::find(kPixels.begin(), kPixels.end(), spec.parameters[0]) != kPixels.end(),
          Code::incompatible_engine, "tactic '{}' takes one parameter: 1, 2 or 4 pixels", spec.tactic);
  require(span_of(conv_of(*spec.op), spec.inputs[1], spec.parameters[0]) <= kMostUnrolled, Code::incompatible_engine,
          "tactic '{}': the windows of {} pixels span too many columns", spec.tactic, spec.parameters[0]);
  const Shape weights = spec.inputs[1].static_shape();
  require(spec.weights.size() == 1 &&
              spec.weights[0].size() == static_cast<std::size_t>(num_elements(weights)) * size_of(spec.inputs[1].dtype),
          Code::incompatible_engine, "tactic '{}': the packed weights do not fit weights of shape {}", spec.tactic,
          to_string(weights));
}

Source source(const KernelSpec& spec, const DeviceTraits&) {
  check(spec);
  const Conv& conv = conv_of(*spec.op);
  const DType dtype = spec.inputs[0].dtype, output = spec.outputs[0].dtype;
  const bool has_bias = spec.inputs.size() > 2 && spec.inputs[2].dtype != DType::undefined;
  // For channel i of pixel p.
  const ProgramText text =
      epilogue_text(conv.epilogue().program, spec.inputs, Conv::kFirstEpilogueInput, spec.outputs[0],
                    {"a.operands", "pixel + p", "image", "channel + i"}, "      ");
  const std::string bias =
      has_bias ? fmt::format(" + tf::to_float(((const {}*)a.bias)[channel + i])", device_type(spec.inputs[2].dtype))
               : "";
  const std::string finish =
      fmt::format("      const float s0 = sum[p][i]{};\n{}      result.at[i] = tf::from_float<Out>({});\n", bias,
                  text.statements, text.result);
  Source result;
  result.entries = {"vectors", "elements"};
  result.text =
      fmt::format(R"({prelude}{nest}{image}{operands}
struct Arguments {{
  Image image;
  const void* weights;
  const void* bias;
  Operands operands;
}};
typedef {x} T;
typedef {y} Out;
constexpr int kPixels = {pixels};
// Places of a row of the input that the windows of kPixels neighbouring outputs see.
constexpr int kPlaces = (kPixels - 1) * kStrideX + (kKernelX - 1) * kDilationX + 1;
template <int V>
TF_FN void convolve(const Arguments& a) {{
  const long long index = blockIdx.x * {threads}LL + threadIdx.x;
  if (index >= a.image.threads) return;
  // The host launches fewer than 2^31 threads.
  const int channel = (int)((unsigned)index % (unsigned)a.image.columns) * V;
  const unsigned group = (unsigned)index / (unsigned)a.image.columns;
  const unsigned groups = (a.image.out_width + kPixels - 1) / kPixels;
  const unsigned out_x = group % groups * kPixels, row = group / groups;
  const unsigned out_y = row % a.image.out_height, image = row / a.image.out_height;
  const int top = (int)out_y * kStrideY - a.image.pad_top, left = (int)out_x * kStrideX - a.image.pad_left;
  const T* x = (const T*)a.image.x + (long long)image * a.image.in_height * a.image.in_width * a.image.x_pitch + channel;
  const T* weights = (const T*)a.weights + channel;
  float sum[kPixels][V];
#pragma unroll
  for (int p = 0; p < kPixels; ++p) {{
#pragma unroll
    for (int i = 0; i < V; ++i) sum[p][i] = 0.0f;
  }}
#pragma unroll
  for (int ky = 0; ky < kKernelY; ++ky) {{
    const int in_y = top + ky * kDilationY;
    if (in_y < 0 || in_y >= a.image.in_height) continue;
    const T* from = x + (long long)in_y * a.image.in_width * a.image.x_pitch;
    tf::Vector<T, V> w[kKernelX];
#pragma unroll
    for (int kx = 0; kx < kKernelX; ++kx) w[kx] = *(const tf::Vector<T, V>*)(weights + (ky * kKernelX + kx) * a.image.channels);
#pragma unroll
    for (int place = 0; place < kPlaces; ++place) {{
      const int in_x = left + place;
      if (in_x < 0 || in_x >= a.image.in_width) continue;
      bool is_read = false;
#pragma unroll
      for (int p = 0; p < kPixels; ++p) {{
#pragma unroll
        for (int kx = 0; kx < kKernelX; ++kx) is_read |= p * kStrideX + kx * kDilationX == place;
      }}
      if (!is_read) continue;
      const tf::Vector<T, V> v = *(const tf::Vector<T, V>*)(from + in_x * a.image.x_pitch);
#pragma unroll
      for (int p = 0; p < kPixels; ++p) {{
#pragma unroll
        for (int kx = 0; kx < kKernelX; ++kx) {{
          if (p * kStrideX + kx * kDilationX != place) continue;
#pragma unroll
          for (int i = 0; i < V; ++i) sum[p][i] += tf::to_float(v.at[i]) * tf::to_float(w[kx].at[i]);
        }}
      }}
    }}
  }}
  const long long pixel = ((long long)image * a.image.out_height + out_y) * a.image.out_width + out_x;
#pragma unroll
  for (int p = 0; p < kPixels; ++p) {{
    if (out_x + p >= a.image.out_width) break;
    tf::Vector<Out, V> result;
#pragma unroll
    for (int i = 0; i < V; ++i) {{
{finish}    }}
    *(tf::Vector<Out, V>*)((Out*)a.image.y + (pixel + p) * a.image.y_pitch + channel) = result;
  }}
}}
extern "C" __global__ void __launch_bounds__({threads}) vectors(const __grid_constant__ Arguments a) {{ convolve<{vector}>(a); }}
extern "C" __global__ void __launch_bounds__({threads}) elements(const __grid_constant__ Arguments a) {{ convolve<1>(a); }}
)",
                  fmt::arg("prelude", device_prelude()), fmt::arg("nest", nest_prelude()),
                  fmt::arg("image", image_prelude(window_size(conv.window(), kernel_of(spec.inputs[1])))),
                  fmt::arg("operands", epilogue_operands_prelude()), fmt::arg("x", device_type(dtype)),
                  fmt::arg("y", device_type(output)), fmt::arg("pixels", spec.parameters[0]),
                  fmt::arg("threads", kThreads), fmt::arg("finish", finish), fmt::arg("vector", vector_of(dtype)));
  return result;
}

class DepthwiseKernel final : public Kernel {
 public:
  DepthwiseKernel(const KernelSpec& spec, const LoadedModule& module)
      : op_(spec.op),
        kernel_(kernel_of(spec.inputs[1])),
        vector_(vector_of(spec.inputs[0].dtype)),
        pixels_(spec.parameters[0]),
        weights_(module.weight(0)),
        vectors_(module.function("vectors")),
        elements_(module.function("elements")) {}
  void run(const Launch& launch) const override {
    const Conv& conv = conv_of(*op_);
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    DepthwiseArguments arguments;
    arguments.image = image_arguments(conv.window(), kernel_, x, y);
    arguments.weights = weights_;
    arguments.bias = operand_of(launch.inputs, 2).data;
    arguments.operands = EpilogueOperands::from(launch.inputs, Conv::kFirstEpilogueInput);
    ImageArguments& image = arguments.image;
    const bool is_wide = image.channels % vector_ == 0 && is_vector_aligned(x, vector_) && is_vector_aligned(y, vector_);
    image.columns = is_wide ? image.channels / vector_ : image.channels;
    image.threads = x.dims[0] * image.out_height * divide_up(image.out_width, pixels_) * image.columns;
    LaunchConfig config;
    config.function = is_wide ? vectors_ : elements_;
    config.grid.x = image_blocks(image.threads, kThreads);
    config.block.x = kThreads;
    cuda_stream(launch).launch(config, arguments);
  }
  bool accepts_pitched_input(int index) const override { return index == 0; }
  bool accepts_pitched_output(int index) const override { return index == 0; }

 private:
  OpPtr op_;
  Shape kernel_;
  int vector_;
  std::int64_t pixels_;
  const void* weights_;
  Function vectors_, elements_;
};

std::unique_ptr<Kernel> make(const KernelSpec& spec, const LoadedModule& module) {
  check(spec);
  return std::make_unique<DepthwiseKernel>(spec, module);
}

}  // namespace

const CudaTactic kConvDepthwise = {"conv.depthwise", "Conv", candidates, pack, source, make};

}  // namespace tenfold::cuda
