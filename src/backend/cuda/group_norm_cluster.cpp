// GroupNormalization of images stored channels last, [N, pixels, C], in one kernel that reads the image once.
//
// A cluster of blocks takes some neighbouring groups of one image (a slab, whose pixels are multiples of 16 bytes),
// each block a part of the pixels, which it keeps in shared memory. Mean and sum of squared differences of a part are
// exact two-pass sums; the blocks of a cluster read each other's through distributed shared memory and join them (Chan,
// Golub and LeVeque 1983). Thread t of a block owns 16 bytes of every pixel it visits, always the same channels, so
// their factors stay in registers. The kernel may start early: it waits before it reads.
#include <algorithm>

#include "backend/cuda/group_norm.hpp"
#include "backend/cuda/loop_nest.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "backend/cuda/row_text.hpp"

namespace tenfold::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kColumnBytes = 16;
constexpr std::int64_t kMostColumns = 32;  // in a pixel of a slab
constexpr std::int64_t kMostClusterBlocks = 8;
constexpr std::int64_t kMostSharedBytes = std::int64_t{200} << 10;
constexpr std::int64_t kLeastPixels = 16;  // of a block
constexpr std::size_t kFirstOperand = GroupNormalization::kFirstEpilogueInput;

/// What the text is made for.
struct Slab {
  std::int64_t channels = 0;    ///< of a slab
  std::int64_t groups = 0;      ///< of a slab
  std::int64_t group_size = 0;  ///< channels
  std::int64_t vector = 0;      ///< channels in 16 bytes
  std::int64_t columns() const { return channels / vector; }
  std::int64_t lines() const { return kThreads / columns(); }
  std::int64_t bytes_besides_pixels() const {
    return (lines() * channels + 4 * groups) * static_cast<std::int64_t>(sizeof(float));
  }
};

std::optional<Slab> slab_of(const Op& op, const TensorType& x) {
  const std::int64_t channels = x.dims.back().constant();
  const std::int64_t groups = op.attributes().get_int("num_groups");
  Slab slab;
  slab.vector = widest_vector(x.dtype);
  slab.group_size = channels / groups;
  slab.groups = 1;
  while (slab.groups * slab.group_size % slab.vector != 0) slab.groups *= 2;
  if (groups % slab.groups != 0) return std::nullopt;
  slab.channels = slab.groups * slab.group_size;
  return slab.columns() <= kMostColumns ? std::optional(slab) : std::nullopt;
}

struct ClusterArguments {
  const void* x = nullptr;
  void* y = nullptr;
  const void* scale = nullptr;
  const void* bias = nullptr;
  std::int64_t x_pitch = 0, y_pitch = 0;
  std::int32_t pixels = 0, chunk = 0;
  EpilogueOperands operands;
};

class ClusterGroupNorm final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (auto refusal = refuses_group_norm(signature)) return refusal;
    const TensorType& x = signature.inputs[0];
    if (x.dtype != signature.outputs[0].dtype) return "input and output are of different types";
    const std::optional<Slab> slab = slab_of(signature.op, x);
    if (!slab) return "groups of 16 bytes are too wide, or there are none";
    std::int64_t pixels = 1;
    for (int axis = 1; axis + 1 < x.rank(); ++axis) {
      const Dim& size = x.dims[static_cast<std::size_t>(axis)];
      if (!size.is_constant()) return "the number of pixels is not known";
      pixels *= size.constant();
    }
    const std::int64_t bytes =
        divide_up(pixels, kMostClusterBlocks) * slab->columns() * kColumnBytes + slab->bytes_besides_pixels();
    if (bytes > kMostSharedBytes)
      return fmt::format("{} bytes of an image do not fit in the shared memory of a block ({})", bytes,
                         kMostSharedBytes);
    return std::nullopt;
  }

  static Source source(const KernelSpec& spec, const DeviceTraits& traits) {
    require(traits.sm >= 90, Code::incompatible_engine, "tactic '{}' needs clusters of blocks", spec.tactic);
    const Attributes attributes = spec.op->attributes();
    const Slab slab = *slab_of(*spec.op, spec.inputs[0]);
    const ProgramText program = epilogue_text(
        Epilogue::from(attributes).program, spec.inputs, kFirstOperand, spec.outputs[0],
        {"a.operands", "(long long)blockIdx.z * a.pixels + first + pixel", "blockIdx.z", "channel + k"}, "        ");
    Source source;
    source.entries = {"normalize"};
    source.text = fmt::format(
        R"({prelude}{nest}{operands}
struct Arguments {{
  const void* x;
  void* y;
  const void* scale;
  const void* bias;
  long long x_pitch, y_pitch;
  int pixels, chunk;
  Operands operands;
}};
constexpr int kColumns = {columns}, kLines = {lines}, kVector = {vector}, kChannels = {channels}, kGroups = {groups}, kSize = {size};
// Sum of what all lines left for the channels of one group, in every lane of a warp.
TF_FN float sum_of_group(const float* lines, int group) {{
  float sum = 0.0f;
  for (int i = threadIdx.x % 32; i < kLines * kSize; i += 32) sum += lines[i / kSize * kChannels + group * kSize + i % kSize];
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  return sum;
}}
extern "C" __global__ void __launch_bounds__({threads}) normalize(const __grid_constant__ Arguments a) {{
  typedef tf::Vector<{x}, kVector> Pixel;
  extern __shared__ __align__(16) unsigned char shared[];
  Pixel* tile = (Pixel*)shared;                                   // [chunk, kColumns]
  float* lines = (float*)(tile + (long long)a.chunk * kColumns);  // [kLines, kChannels]
  float* moments = lines + kLines * kChannels;                    // [kGroups]: mean, squares of this block's pixels
  float* factors = moments + 2 * kGroups;                         // [kGroups]: mean, 1 / deviation of the image
  const int first = blockIdx.x * a.chunk;
  const int left = a.pixels - first;
  const int count = left < 0 ? 0 : left < a.chunk ? left : a.chunk;
  const int column = threadIdx.x % kColumns, line = threadIdx.x / kColumns;
  const bool is_active = line < kLines;
  const int channel = blockIdx.y * kChannels + column * kVector;
  const {x}* from = (const {x}*)a.x + ((long long)blockIdx.z * a.pixels + first) * a.x_pitch + channel;
  float sums[kVector];
#pragma unroll
  for (int k = 0; k < kVector; ++k) sums[k] = 0.0f;
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
  if (is_active) {{
    constexpr int kBatch = 8;
    for (int pixel = line; pixel < count; pixel += kBatch * kLines) {{
      Pixel loaded[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {{
        if (pixel + i * kLines < count) loaded[i] = *(const Pixel*)(from + (pixel + i * kLines) * a.x_pitch);
      }}
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {{
        if (pixel + i * kLines >= count) break;
        tile[(pixel + i * kLines) * kColumns + column] = loaded[i];
#pragma unroll
        for (int k = 0; k < kVector; ++k) sums[k] += tf::to_float(loaded[i].at[k]);
      }}
    }}
#pragma unroll
    for (int k = 0; k < kVector; ++k) lines[line * kChannels + column * kVector + k] = sums[k];
  }}
  __syncthreads();
  const float share = count > 0 ? 1.0f / ((float)count * kSize) : 0.0f;
  for (int group = threadIdx.x / 32; group < kGroups; group += {threads} / 32) {{
    const float sum = sum_of_group(lines, group);
    if (threadIdx.x % 32 == 0) moments[2 * group] = sum * share;
  }}
  __syncthreads();
  if (is_active) {{
    float means[kVector];
#pragma unroll
    for (int k = 0; k < kVector; ++k) {{
      means[k] = moments[2 * ((column * kVector + k) / kSize)];
      sums[k] = 0.0f;
    }}
#pragma unroll 4
    for (int pixel = line; pixel < count; pixel += kLines) {{
      const Pixel v = tile[pixel * kColumns + column];
#pragma unroll
      for (int k = 0; k < kVector; ++k) {{
        const float difference = tf::to_float(v.at[k]) - means[k];
        sums[k] += difference * difference;
      }}
    }}
#pragma unroll
    for (int k = 0; k < kVector; ++k) lines[line * kChannels + column * kVector + k] = sums[k];
  }}
  __syncthreads();
  for (int group = threadIdx.x / 32; group < kGroups; group += {threads} / 32) {{
    const float sum = sum_of_group(lines, group);
    if (threadIdx.x % 32 == 0) moments[2 * group + 1] = sum;
  }}
  __syncthreads();
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
  if (threadIdx.x < kGroups) {{
    float seen = 0.0f, mean = 0.0f, squares = 0.0f;
    for (int block = 0; block < (int)gridDim.x; ++block) {{
      const int there = a.pixels - block * a.chunk;
      const float n = (float)(there < 0 ? 0 : there < a.chunk ? there : a.chunk) * kSize;
      if (n == 0.0f) break;
      unsigned address;
      float other_mean, other_squares;
      asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"((unsigned)__cvta_generic_to_shared(moments + 2 * threadIdx.x)), "r"(block));
      asm volatile("ld.shared::cluster.v2.f32 {{%0, %1}}, [%2];" : "=f"(other_mean), "=f"(other_squares) : "r"(address) : "memory");
      const float part = n / (seen + n), difference = other_mean - mean;
      mean += difference * part;
      squares += other_squares + difference * difference * seen * part;
      seen += n;
    }}
    factors[2 * threadIdx.x] = mean;
    factors[2 * threadIdx.x + 1] = 1.0f / sqrtf(squares / seen + {epsilon});
  }}
  __syncthreads();
  // Nobody leaves while others may read its moments.
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
  if (is_active) {{
    float factor[kVector], shift[kVector];
#pragma unroll
    for (int k = 0; k < kVector; ++k) {{
      const int group = (column * kVector + k) / kSize;
      factor[k] = factors[2 * group + 1] * tf::to_float(((const {scale}*)a.scale)[channel + k]);
      shift[k] = tf::to_float(((const {bias}*)a.bias)[channel + k]) - factors[2 * group] * factor[k];
    }}
    {x}* to = ({x}*)a.y + ((long long)blockIdx.z * a.pixels + first) * a.y_pitch + channel;
#pragma unroll 2
    for (int pixel = line; pixel < count; pixel += kLines) {{
      const Pixel v = tile[pixel * kColumns + column];
      Pixel result;
#pragma unroll
      for (int k = 0; k < kVector; ++k) {{
        const float s0 = tf::to_float(v.at[k]) * factor[k] + shift[k];
{statements}        result.at[k] = tf::from_float<{x}>({result});
      }}
      *(Pixel*)(to + pixel * a.y_pitch) = result;
    }}
  }}
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
}}
)",
        fmt::arg("prelude", device_prelude()), fmt::arg("nest", nest_prelude()),
        fmt::arg("operands", epilogue_operands_prelude()), fmt::arg("x", device_type(spec.inputs[0].dtype)),
        fmt::arg("scale", device_type(spec.inputs[1].dtype)), fmt::arg("bias", device_type(spec.inputs[2].dtype)),
        fmt::arg("columns", slab.columns()), fmt::arg("lines", slab.lines()), fmt::arg("vector", slab.vector),
        fmt::arg("channels", slab.channels), fmt::arg("groups", slab.groups), fmt::arg("size", slab.group_size),
        fmt::arg("threads", kThreads), fmt::arg("statements", program.statements), fmt::arg("result", program.result),
        fmt::arg("epsilon", float_literal(static_cast<float>(attributes.get_float("epsilon", 1e-5)))));
    return source;
  }

  ClusterGroupNorm(const KernelSpec& spec, const LoadedModule& module)
      : slab_(*slab_of(*spec.op, spec.inputs[0])),
        num_slabs_(spec.inputs[0].dims.back().constant() / slab_.channels),
        num_sms_(module.traits().num_sms),
        function_(module.function("normalize")) {}

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    if (x.num_elements() == 0) return;
    ClusterArguments arguments;
    set_images(arguments, launch);
    const std::int64_t batch = x.dims[0];
    const std::int64_t pixels = arguments.pixels;
    // More blocks until all processors have one, as long as each has enough to do; and as many as the memory asks for.
    std::int64_t blocks = 1;
    const auto shared_bytes = [&] {
      return divide_up(pixels, blocks) * slab_.columns() * kColumnBytes + slab_.bytes_besides_pixels();
    };
    while (blocks < kMostClusterBlocks &&
           (shared_bytes() > kMostSharedBytes ||
            (batch * num_slabs_ * blocks < num_sms_ && pixels >= 2 * blocks * kLeastPixels))) {
      blocks *= 2;
    }
    arguments.chunk = static_cast<std::int32_t>(divide_up(pixels, blocks));
    LaunchConfig config;
    config.function = function_;
    config.grid = {static_cast<unsigned>(blocks), static_cast<unsigned>(num_slabs_), static_cast<unsigned>(batch)};
    config.block.x = kThreads;
    config.cluster.x = static_cast<unsigned>(blocks);
    config.smem_bytes = static_cast<unsigned>(shared_bytes());
    config.pdl = true;
    cuda_stream(launch).launch(config, arguments);
  }
  bool accepts_pitched_input(int index) const override { return index == 0; }
  std::int64_t pitched_input_alignment() const override { return kColumnBytes; }
  bool can_run_in_place(int index) const override { return index == 0; }

 private:
  Slab slab_;
  std::int64_t num_slabs_;
  int num_sms_;
  Function function_;
};

}  // namespace

const CudaTactic kGroupNormCluster = plain_tactic<ClusterGroupNorm>("images.normalize_cluster", "GroupNormalization");

}  // namespace tenfold::cuda
