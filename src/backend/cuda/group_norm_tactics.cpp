// GroupNormalization and InstanceNormalization of images stored channels last, [N, pixels, C], in two kernels.
//   statistics: each block takes some pixels of one image and hands on mean and sum of squared differences of each
//   group apply:      each block joins these (Chan, Golub and LeVeque 1983: updating formulae for a pair of samples),
//   turns
//               them into one factor and one shift a channel, and writes its pixels, finished by the epilogue's program
// The second kernel finds the image in the second-level cache if it fits there.
#include <algorithm>

#include "backend/cuda/group_norm.hpp"
#include "backend/cuda/loop_nest.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "backend/cuda/row_text.hpp"

namespace tenfold::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostChunks = 64;
constexpr std::int64_t kMostChannels = 8192;
constexpr std::size_t kFirstOperand = GroupNormalization::kFirstEpilogueInput;

struct GroupArguments {
  const void* x = nullptr;
  void* y = nullptr;
  const void* scale = nullptr;
  const void* bias = nullptr;
  float* partial = nullptr;  ///< [N, chunks, groups, 2]
  std::int64_t x_pitch = 0, y_pitch = 0;
  std::int32_t pixels = 0, channels = 0, groups = 0, chunks = 0, apply_pixels = 0;
  EpilogueOperands operands;
};

class GroupNormKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (auto refusal = refuses_group_norm(signature)) return refusal;
    const std::int64_t channels = signature.inputs[0].dims.back().constant();
    if (channels > kMostChannels) return fmt::format("{} channels are more than {}", channels, kMostChannels);
    return std::nullopt;
  }

  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const Attributes attributes = spec.op->attributes();
    const DType output = spec.outputs[0].dtype;
    const ProgramText program = epilogue_text(
        Epilogue::from(attributes).program, spec.inputs, kFirstOperand, spec.outputs[0],
        {"a.operands", "(long long)blockIdx.y * a.pixels + first + pixel", "blockIdx.y", "column * V + k"},
        "          ");
    Source source;
    source.entries = {"statistics", "apply", "statistics_elements", "apply_elements"};
    source.text = fmt::format(
        R"({prelude}{nest}{operands}
struct Arguments {{
  const void* x;
  void* y;
  const void* scale;
  const void* bias;
  float* partial;
  long long x_pitch, y_pitch;
  int pixels, channels, groups, chunks, apply_pixels;
  Operands operands;
}};
struct Moments {{ float count, mean, squares; }};
TF_FN Moments joined(Moments a, Moments b) {{
  const float count = a.count + b.count;
  if (count == 0.0f) return a;
  const float part = b.count / count, difference = b.mean - a.mean;
  return Moments{{count, a.mean + difference * part, a.squares + b.squares + difference * difference * a.count * part}};
}}
TF_FN Moments joined_warp(Moments m) {{
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {{
    Moments other;
    other.count = __shfl_xor_sync(0xffffffffu, m.count, step);
    other.mean = __shfl_xor_sync(0xffffffffu, m.mean, step);
    other.squares = __shfl_xor_sync(0xffffffffu, m.squares, step);
    m = joined(m, other);
  }}
  return m;
}}
template <int V>
TF_FN void statistics_of(const Arguments& a) {{
  tf::begin_early();
  typedef tf::Vector<{x}, V> In;
  extern __shared__ float shared[];  // [lines, channels, 2]: means and squares of what each line of threads saw
  const int columns = a.channels / V;
  const int lines = columns < {threads} ? {threads} / columns : 1;
  const int chunk_pixels = (a.pixels + a.chunks - 1) / a.chunks;
  const int first = blockIdx.x * chunk_pixels;
  const int last = first + chunk_pixels < a.pixels ? first + chunk_pixels : a.pixels;
  const {x}* image = (const {x}*)a.x + (long long)blockIdx.y * a.pixels * a.x_pitch;
  const int line = lines == 1 ? 0 : threadIdx.x / columns;
  if (line < lines) {{
    for (int column = lines == 1 ? threadIdx.x : threadIdx.x % columns; column < columns; column += {threads}) {{
      // Sums of differences to the first pixel: no large numbers cancel.
      float origin[V], sum[V], squares[V];
#pragma unroll
      for (int i = 0; i < V; ++i) origin[i] = sum[i] = squares[i] = 0.0f;
      const int own = first + line;
      const int count = own < last ? (last - own + lines - 1) / lines : 0;
      if (count > 0) {{
        const In v = *(const In*)(image + own * a.x_pitch + column * V);
#pragma unroll
        for (int i = 0; i < V; ++i) origin[i] = tf::to_float(v.at[i]);
      }}
#pragma unroll 4
      for (int pixel = own + lines; pixel < last; pixel += lines) {{
        const In v = *(const In*)(image + pixel * a.x_pitch + column * V);
#pragma unroll
        for (int i = 0; i < V; ++i) {{
          const float difference = tf::to_float(v.at[i]) - origin[i];
          sum[i] += difference;
          squares[i] += difference * difference;
        }}
      }}
      const float share = count > 0 ? 1.0f / (float)count : 0.0f;
#pragma unroll
      for (int i = 0; i < V; ++i) {{
        float* to = shared + 2 * (line * a.channels + column * V + i);
        to[0] = origin[i] + sum[i] * share;
        to[1] = squares[i] - sum[i] * sum[i] * share;
      }}
    }}
  }}
  __syncthreads();
  const int size = a.channels / a.groups;
  for (int group = threadIdx.x / 32; group < a.groups; group += {threads} / 32) {{
    Moments m = {{0.0f, 0.0f, 0.0f}};
    for (int i = threadIdx.x % 32; i < lines * size; i += 32) {{
      const int from = i / size, channel = group * size + i % size;
      const int left = last - first - from;
      const float count = left > 0 ? (float)((left + lines - 1) / lines) : 0.0f;
      const float* moments = shared + 2 * (from * a.channels + channel);
      m = joined(m, Moments{{count, moments[0], moments[1]}});
    }}
    m = joined_warp(m);
    if (threadIdx.x % 32 == 0) {{
      float* to = a.partial + 2 * (((long long)blockIdx.y * a.chunks + blockIdx.x) * a.groups + group);
      to[0] = m.mean;
      to[1] = m.squares;
    }}
  }}
}}
template <int V>
TF_FN void apply_to(const Arguments& a) {{
  tf::begin_early();
  typedef tf::Vector<{x}, V> In;
  typedef tf::Vector<{y}, V> Out;
  extern __shared__ float shared[];  // factors, shifts; then of each group mean and factor
  float* factors = shared;
  float* shifts = shared + a.channels;
  float* groups = shared + 2 * a.channels;
  const int size = a.channels / a.groups;
  const int chunk_pixels = (a.pixels + a.chunks - 1) / a.chunks;
  for (int group = threadIdx.x / 32; group < a.groups; group += {threads} / 32) {{
    Moments m = {{0.0f, 0.0f, 0.0f}};
    for (int chunk = threadIdx.x % 32; chunk < a.chunks; chunk += 32) {{
      const int left = a.pixels - chunk * chunk_pixels;
      const int seen = left < 0 ? 0 : left < chunk_pixels ? left : chunk_pixels;
      const float* from = a.partial + 2 * (((long long)blockIdx.y * a.chunks + chunk) * a.groups + group);
      m = joined(m, Moments{{(float)seen * (float)size, from[0], from[1]}});
    }}
    m = joined_warp(m);
    if (threadIdx.x % 32 == 0) {{
      groups[2 * group] = m.mean;
      groups[2 * group + 1] = 1.0f / sqrtf(m.squares / m.count + {epsilon});
    }}
  }}
  __syncthreads();
  for (int channel = threadIdx.x; channel < a.channels; channel += {threads}) {{
    const int group = channel / size;
    const float factor = groups[2 * group + 1] * tf::to_float(((const {scale}*)a.scale)[channel]);
    factors[channel] = factor;
    shifts[channel] = tf::to_float(((const {bias}*)a.bias)[channel]) - groups[2 * group] * factor;
  }}
  __syncthreads();
  const int columns = a.channels / V;
  const int first = blockIdx.x * a.apply_pixels;
  const int count = (a.pixels - first < a.apply_pixels ? a.pixels - first : a.apply_pixels) * columns;
  const {x}* from = (const {x}*)a.x + ((long long)blockIdx.y * a.pixels + first) * a.x_pitch;
  {y}* to = ({y}*)a.y + ((long long)blockIdx.y * a.pixels + first) * a.y_pitch;
  int pixel = threadIdx.x / columns, column = threadIdx.x % columns;
  const int pixel_step = {threads} / columns, column_step = {threads} % columns;
#pragma unroll 2
  for (int i = threadIdx.x; i < count; i += {threads}) {{
    const In v = *(const In*)(from + pixel * a.x_pitch + column * V);
    Out result;
#pragma unroll
    for (int k = 0; k < V; ++k) {{
          const float s0 = tf::to_float(v.at[k]) * factors[column * V + k] + shifts[column * V + k];
{statements}      result.at[k] = tf::from_float<{y}>({result});
    }}
    *(Out*)(to + pixel * a.y_pitch + column * V) = result;
    pixel += pixel_step;
    column += column_step;
    if (column >= columns) {{
      column -= columns;
      ++pixel;
    }}
  }}
}}
extern "C" __global__ void __launch_bounds__({threads}, 4) statistics(const __grid_constant__ Arguments a) {{ statistics_of<{vector}>(a); }}
extern "C" __global__ void __launch_bounds__({threads}, 4) apply(const __grid_constant__ Arguments a) {{ apply_to<{vector}>(a); }}
extern "C" __global__ void __launch_bounds__({threads}) statistics_elements(const __grid_constant__ Arguments a) {{ statistics_of<1>(a); }}
extern "C" __global__ void __launch_bounds__({threads}) apply_elements(const __grid_constant__ Arguments a) {{ apply_to<1>(a); }}
)",
        fmt::arg("prelude", device_prelude()), fmt::arg("nest", nest_prelude()),
        fmt::arg("operands", epilogue_operands_prelude()), fmt::arg("vector", vector_of(spec)),
        fmt::arg("x", device_type(spec.inputs[0].dtype)), fmt::arg("y", device_type(output)),
        fmt::arg("scale", device_type(spec.inputs[1].dtype)), fmt::arg("bias", device_type(spec.inputs[2].dtype)),
        fmt::arg("threads", kThreads), fmt::arg("statements", program.statements), fmt::arg("result", program.result),
        fmt::arg("epsilon", float_literal(static_cast<float>(attributes.get_float("epsilon", 1e-5)))));
    return source;
  }

  GroupNormKernel(const KernelSpec& spec, const LoadedModule& module)
      : channels_(spec.inputs[0].dims.back().constant()),
        groups_(groups_of(*spec.op, channels_)),
        vector_(vector_of(spec)),
        num_sms_(module.traits().num_sms),
        statistics_(module.function("statistics")),
        apply_(module.function("apply")),
        statistics_elements_(module.function("statistics_elements")),
        apply_elements_(module.function("apply_elements")) {}

  std::size_t workspace_bytes(std::span<const TensorView> inputs, std::span<const TensorView>) const override {
    return static_cast<std::size_t>(inputs[0].dims[0] * kMostChunks * groups_ * 2) * sizeof(float);
  }
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (x.num_elements() == 0) return;
    GroupArguments arguments;
    set_images(arguments, launch);
    arguments.partial = reinterpret_cast<float*>(launch.workspace.data());
    const std::int64_t batch = x.dims[0];
    const std::int64_t pixels = arguments.pixels;
    const bool is_wide = is_vector_aligned(x, vector_) && is_vector_aligned(y, vector_);
    const std::int64_t columns = is_wide ? channels_ / vector_ : channels_;
    const std::int64_t lines = std::max<std::int64_t>(1, kThreads / columns);
    arguments.channels = static_cast<std::int32_t>(channels_);
    arguments.groups = static_cast<std::int32_t>(groups_);
    constexpr std::int64_t kBlocksPerSm = 4, kPixelsPerThread = 4;
    const std::int64_t wanted = divide_up(kBlocksPerSm * num_sms_, batch);
    const std::int64_t most = divide_up(pixels, lines * kPixelsPerThread);
    const std::int64_t chunks = std::clamp<std::int64_t>(std::min(wanted, most), 1, kMostChunks);
    arguments.chunks = static_cast<std::int32_t>(chunks);
    LaunchConfig config;
    config.function = is_wide ? statistics_ : statistics_elements_;
    config.grid = {static_cast<unsigned>(chunks), static_cast<unsigned>(batch), 1};
    config.block.x = kThreads;
    config.smem_bytes = static_cast<unsigned>(static_cast<std::size_t>(2 * lines * channels_) * sizeof(float));
    config.pdl = true;
    const std::int64_t apply_blocks = std::clamp<std::int64_t>(std::min(2 * wanted, most), 1, pixels);
    arguments.apply_pixels = static_cast<std::int32_t>(divide_up(pixels, apply_blocks));
    cuda_stream(launch).launch(config, arguments);
    config.function = is_wide ? apply_ : apply_elements_;
    config.grid.x = static_cast<unsigned>(divide_up(pixels, arguments.apply_pixels));
    config.smem_bytes = static_cast<unsigned>(static_cast<std::size_t>(2 * (channels_ + groups_)) * sizeof(float));
    cuda_stream(launch).launch(config, arguments);
  }
  bool accepts_pitched_input(int index) const override { return index == 0; }
  bool accepts_pitched_output(int) const override { return true; }
  bool can_run_in_place(int index) const override { return index == 0; }

 private:
  /// Channels that a thread loads at once, where the views are aligned.
  static int vector_of(const KernelSpec& spec) {
    const std::int64_t channels = spec.inputs[0].dims.back().constant();
    int vector = widest_vector(spec.inputs[0].dtype);
    while (channels % vector != 0) vector /= 2;
    return vector;
  }

  std::int64_t channels_, groups_;
  int vector_;
  int num_sms_;
  Function statistics_, apply_, statistics_elements_, apply_elements_;
};

/// The same in one kernel, for images of which one group fits into shared memory: a block reads it once, takes both
/// statistics from there, and writes it.
class GroupBlockKernel final : public Kernel {
 public:
  static constexpr int kBlock = 512;

  static Refusal refuses(const Signature& signature, std::size_t smem_bytes) {
    if (auto refusal = GroupNormKernel::refuses(signature)) return refusal;
    const TensorType& x = signature.inputs[0];
    std::int64_t elements = 1;
    for (std::size_t a = 1; a < x.dims.size(); ++a) {
      if (!x.dims[a].is_constant()) return "the size of the image is not known";
      elements *= x.dims[a].constant();
    }
    const std::int64_t groups = groups_of(signature.op, x.dims.back().constant());
    const std::size_t bytes = bytes_of(elements / groups, x.dims.back().constant() / groups, x.dtype);
    if (bytes > smem_bytes)
      return fmt::format("a group needs {} bytes of shared memory, a block has {}", bytes, smem_bytes);
    return std::nullopt;
  }
  static void candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
    Candidate candidate;
    const Signature signature{*problem.op, problem.inputs, problem.outputs};
    if (auto refusal = refuses(signature, usable_bytes(traits))) {
      candidate.refusal = std::move(*refusal);
    } else {
      candidate.estimated_us = estimate_streaming_us(problem, traits);
    }
    out.push_back(std::move(candidate));
  }
  static void check(const KernelSpec& spec, const DeviceTraits& traits) {
    const auto refusal = refuses(Signature{*spec.op, spec.inputs, spec.outputs}, usable_bytes(traits));
    require(!refusal && spec.parameters.empty() && spec.weights.empty(), Code::incompatible_engine,
            "tactic '{}' does not fit: {}", spec.tactic, refusal.value_or("it takes no parameters and no weights"));
  }
  static Source source(const KernelSpec& spec, const DeviceTraits& traits) {
    check(spec, traits);
    const Attributes attributes = spec.op->attributes();
    const DType output = spec.outputs[0].dtype;
    const ProgramText program = epilogue_text(
        Epilogue::from(attributes).program, spec.inputs, kFirstOperand, spec.outputs[0],
        {"a.operands", "(long long)blockIdx.y * a.pixels + pixel", "blockIdx.y", "first + column * V + k"}, "      ");
    return {
        fmt::format(
            R"({prelude}{nest}{row}{operands}
struct Arguments {{
  const void* x;
  void* y;
  const void* scale;
  const void* bias;
  float* partial;
  long long x_pitch, y_pitch;
  int pixels, channels, groups, chunks, apply_pixels;
  Operands operands;
}};
constexpr int kBlock = {block};
typedef {x} T;
typedef {y} Out;
template <int V>
TF_FN void normalise(const Arguments& a) {{
  tf::begin_early();
  extern __shared__ float shared[];  // factors, shifts, then the group's elements
  const int size = a.channels / a.groups, columns = size / V, first = blockIdx.x * size;
  float* factors = shared;
  float* shifts = shared + size;
  tf::Vector<T, V>* kept = (tf::Vector<T, V>*)(shared + (2 * size + 3) / 4 * 4);
  const T* x = (const T*)a.x + (long long)blockIdx.y * a.pixels * a.x_pitch + first;
  const int count = a.pixels * columns;
  const int pixel_step = kBlock / columns, column_step = kBlock % columns;
  int pixel = threadIdx.x / columns, column = threadIdx.x % columns;
  float sum = 0.0f;
#pragma unroll 8
  for (int i = threadIdx.x; i < count; i += kBlock) {{
    const tf::Vector<T, V> v = *(const tf::Vector<T, V>*)(x + pixel * a.x_pitch + column * V);
    kept[i] = v;
#pragma unroll
    for (int k = 0; k < V; ++k) sum += tf::to_float(v.at[k]);
    pixel += pixel_step;
    column += column_step;
    if (column >= columns) {{
      column -= columns;
      ++pixel;
    }}
  }}
  const float share = 1.0f / ((float)a.pixels * (float)size);
  const float mean = tf::row_sum<kBlock>(sum) * share;
  float squares = 0.0f;
#pragma unroll 4
  for (int i = threadIdx.x; i < count; i += kBlock) {{
    const tf::Vector<T, V> v = kept[i];
#pragma unroll
    for (int k = 0; k < V; ++k) {{
      const float difference = tf::to_float(v.at[k]) - mean;
      squares += difference * difference;
    }}
  }}
  const float deviation = 1.0f / sqrtf(tf::row_sum<kBlock>(squares) * share + {epsilon});
  for (int c = threadIdx.x; c < size; c += kBlock) {{
    const float factor = deviation * tf::to_float(((const {scale}*)a.scale)[first + c]);
    factors[c] = factor;
    shifts[c] = tf::to_float(((const {bias}*)a.bias)[first + c]) - mean * factor;
  }}
  __syncthreads();
  Out* y = (Out*)a.y + (long long)blockIdx.y * a.pixels * a.y_pitch + first;
  pixel = threadIdx.x / columns;
  column = threadIdx.x % columns;
#pragma unroll 2
  for (int i = threadIdx.x; i < count; i += kBlock) {{
    const tf::Vector<T, V> v = kept[i];
    tf::Vector<Out, V> result;
#pragma unroll
    for (int k = 0; k < V; ++k) {{
      const float s0 = tf::to_float(v.at[k]) * factors[column * V + k] + shifts[column * V + k];
{statements}      result.at[k] = tf::from_float<Out>({result});
    }}
    *(tf::Vector<Out, V>*)(y + pixel * a.y_pitch + column * V) = result;
    pixel += pixel_step;
    column += column_step;
    if (column >= columns) {{
      column -= columns;
      ++pixel;
    }}
  }}
}}
extern "C" __global__ void __launch_bounds__(kBlock) vectors(const __grid_constant__ Arguments a) {{ normalise<{vector}>(a); }}
extern "C" __global__ void __launch_bounds__(kBlock) elements(const __grid_constant__ Arguments a) {{ normalise<1>(a); }}
)",
            fmt::arg("prelude", device_prelude()), fmt::arg("nest", nest_prelude()), fmt::arg("row", row_prelude()),
            fmt::arg("operands", epilogue_operands_prelude()), fmt::arg("block", kBlock),
            fmt::arg("x", device_type(spec.inputs[0].dtype)), fmt::arg("y", device_type(output)),
            fmt::arg("scale", device_type(spec.inputs[1].dtype)), fmt::arg("bias", device_type(spec.inputs[2].dtype)),
            fmt::arg("epsilon", float_literal(static_cast<float>(attributes.get_float("epsilon", 1e-5)))),
            fmt::arg("statements", program.statements), fmt::arg("result", program.result),
            fmt::arg("vector", group_vector(spec))),
        {"vectors", "elements"}};
  }
  static std::unique_ptr<Kernel> make(const KernelSpec& spec, const LoadedModule& module) {
    check(spec, module.traits());
    return std::make_unique<GroupBlockKernel>(spec, module);
  }
  GroupBlockKernel(const KernelSpec& spec, const LoadedModule& module)
      : channels_(spec.inputs[0].dims.back().constant()),
        groups_(groups_of(*spec.op, channels_)),
        vector_(group_vector(spec)),
        vectors_(module.function("vectors")),
        elements_(module.function("elements")) {}

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (x.num_elements() == 0) return;
    GroupArguments arguments;
    set_images(arguments, launch);
    arguments.channels = static_cast<std::int32_t>(channels_);
    arguments.groups = static_cast<std::int32_t>(groups_);
    LaunchConfig config;
    config.function = is_vector_aligned(x, vector_) && is_vector_aligned(y, vector_) ? vectors_ : elements_;
    config.grid = {static_cast<unsigned>(groups_), static_cast<unsigned>(x.dims[0]), 1};
    config.block.x = kBlock;
    const std::int64_t size = channels_ / groups_;
    config.smem_bytes = static_cast<unsigned>(bytes_of(arguments.pixels * size, size, x.dtype));
    config.pdl = true;
    cuda_stream(launch).launch(config, arguments);
  }
  bool accepts_pitched_input(int index) const override { return index == 0; }
  bool accepts_pitched_output(int) const override { return true; }
  bool can_run_in_place(int index) const override { return index == 0; }

 private:
  static std::size_t usable_bytes(const DeviceTraits& traits) {
    constexpr std::size_t kOwn = 1024;  // what the sums over a block take
    return traits.smem_optin_bytes > kOwn ? traits.smem_optin_bytes - kOwn : 0;
  }
  static std::size_t bytes_of(std::int64_t elements, std::int64_t size, DType dtype) {
    return static_cast<std::size_t>((2 * size + 3) / 4 * 4) * sizeof(float) +
           static_cast<std::size_t>(elements) * size_of(dtype);
  }
  /// Channels that a thread loads at once: a group begins at any multiple of its size.
  static int group_vector(const KernelSpec& spec) {
    const std::int64_t channels = spec.inputs[0].dims.back().constant();
    const std::int64_t size = channels / groups_of(*spec.op, channels);
    int vector = widest_vector(spec.inputs[0].dtype);
    while (size % vector != 0) vector /= 2;
    return vector;
  }
  std::int64_t channels_, groups_;
  int vector_;
  Function vectors_, elements_;
};

constexpr CudaTactic group_block_tactic(std::string_view op_type) {
  return {"groups.normalize",    op_type, GroupBlockKernel::candidates, nullptr, GroupBlockKernel::source,
          GroupBlockKernel::make};
}

}  // namespace

const CudaTactic kGroupNormImages = plain_tactic<GroupNormKernel>("images.normalize", "GroupNormalization");
const CudaTactic kGroupNormGroups = group_block_tactic("GroupNormalization");
const CudaTactic kInstanceNormGroups = group_block_tactic("InstanceNormalization");
const CudaTactic kInstanceNormImages = plain_tactic<GroupNormKernel>("images.normalize", "InstanceNormalization");

}  // namespace tenfold::cuda
