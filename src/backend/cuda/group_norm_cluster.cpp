// GroupNormalization of images stored channels last, [N, pixels, C], in one kernel that reads the image once.
//
// A cluster of blocks takes some neighbouring groups of one image (a slab, whose pixels are multiples of 16 bytes),
// each block a part of the pixels, which it keeps in shared memory. Thread t of a block owns 16 bytes of every pixel it
// visits, always the same channels. It sums differences to its first pixel, so no large numbers cancel; a warp then
// joins the means and the sums of squared differences of a group's channels, and eight lanes those of the cluster's
// blocks, which they read through distributed shared memory (Chan, Golub and LeVeque 1983). The kernel is short, so
// nothing in it waits twice: scale and bias are on their way before the pixels, all blocks' moments are read at once.
// The kernel may start early: it waits before it reads.
#include <algorithm>
#include <numeric>

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
  /// Neighbouring channels that belong to one thread and to one group.
  std::int64_t piece() const { return std::gcd(group_size, vector); }
  std::int64_t bytes_besides_pixels() const {
    return (2 * lines() * channels / piece() + 4 * groups) * static_cast<std::int64_t>(sizeof(float));
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
constexpr int kPiece = {piece}, kPieces = kChannels / kPiece;  // neighbouring channels of one thread and one group
constexpr int kMostBlocks = {most_blocks};  // of a cluster: as many lanes join their moments
TF_FN float sum_of_lanes(float value, int lanes) {{
  for (int step = lanes / 2; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}}
TF_FN int pixels_of_line(int line, int count) {{ return count > line ? (count - line - 1) / kLines + 1 : 0; }}
extern "C" __global__ void __launch_bounds__({threads}) normalize(const __grid_constant__ Arguments a) {{
  typedef tf::Vector<{x}, kVector> Pixel;
  extern __shared__ __align__(16) unsigned char shared[];
  Pixel* tile = (Pixel*)shared;                                     // [chunk, kColumns]
  float2* lines = (float2*)(tile + (long long)a.chunk * kColumns);  // [kLines, kPieces]: mean, squares of its pixels
  float2* moments = lines + kLines * kPieces;                       // [kGroups]: the same of this block's pixels
  float2* factors = moments + kGroups;                              // [kGroups]: mean, 1 / deviation of the image
  const int first = blockIdx.x * a.chunk;
  const int left = a.pixels - first;
  const int count = left < 0 ? 0 : left < a.chunk ? left : a.chunk;
  const int column = threadIdx.x % kColumns, line = threadIdx.x / kColumns;
  const bool is_active = line < kLines;
  const int channel = blockIdx.y * kChannels + column * kVector;
  const {x}* from = (const {x}*)a.x + ((long long)blockIdx.z * a.pixels + first) * a.x_pitch + channel;
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
  tf::Vector<{scale}, kVector> scale;
  tf::Vector<{bias}, kVector> bias;
  if (is_active) {{
    scale = *(const tf::Vector<{scale}, kVector>*)((const {scale}*)a.scale + channel);
    bias = *(const tf::Vector<{bias}, kVector>*)((const {bias}*)a.bias + channel);
    float origin[kVector], sum[kVector], squares[kVector];
#pragma unroll
    for (int k = 0; k < kVector; ++k) origin[k] = sum[k] = squares[k] = 0.0f;
    constexpr int kBatch = 12;
    for (int pixel = line; pixel < count; pixel += kBatch * kLines) {{
      Pixel loaded[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {{
        if (pixel + i * kLines < count) loaded[i] = *(const Pixel*)(from + (pixel + i * kLines) * a.x_pitch);
      }}
      if (pixel == line) {{
#pragma unroll
        for (int k = 0; k < kVector; ++k) origin[k] = tf::to_float(loaded[0].at[k]);
      }}
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {{
        if (pixel + i * kLines >= count) break;
        tile[(pixel + i * kLines) * kColumns + column] = loaded[i];
#pragma unroll
        for (int k = 0; k < kVector; ++k) {{
          const float difference = tf::to_float(loaded[i].at[k]) - origin[k];
          sum[k] += difference;
          squares[k] += difference * difference;
        }}
      }}
    }}
    const int seen = pixels_of_line(line, count);
    const float share = seen > 0 ? 1.0f / (float)seen : 0.0f;
#pragma unroll
    for (int piece = 0; piece < kVector / kPiece; ++piece) {{
      float means[kPiece], mean = 0.0f, joined = 0.0f;
#pragma unroll
      for (int i = 0; i < kPiece; ++i) {{
        const int k = piece * kPiece + i;
        means[i] = origin[k] + sum[k] * share;
        mean += means[i] * (1.0f / kPiece);
        joined += squares[k] - sum[k] * sum[k] * share;
      }}
#pragma unroll
      for (int i = 0; i < kPiece; ++i) joined += (float)seen * (means[i] - mean) * (means[i] - mean);
      lines[line * kPieces + column * (kVector / kPiece) + piece] = make_float2(mean, joined);
    }}
  }}
  __syncthreads();
  // Of what all lines left for the pieces of a group: first the mean, then squares around it.
  for (int group = threadIdx.x / 32; group < kGroups; group += {threads} / 32) {{
    constexpr int kOfGroup = kSize / kPiece, kOwn = (kLines * kOfGroup + 31) / 32;  // pieces, and those of a lane
    float2 own[kOwn];
    float weight[kOwn];
    float sum = 0.0f, squares = 0.0f;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {{
      const int index = i * 32 + threadIdx.x % 32, of_line = index / kOfGroup;
      own[i] = make_float2(0.0f, 0.0f);
      weight[i] = 0.0f;
      if (of_line < kLines) {{
        own[i] = lines[of_line * kPieces + group * kOfGroup + index % kOfGroup];
        weight[i] = (float)(pixels_of_line(of_line, count) * kPiece);
      }}
      sum += own[i].x * weight[i];
    }}
    const float mean = count > 0 ? sum_of_lanes(sum, 32) / ((float)count * kSize) : 0.0f;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) squares += own[i].y + weight[i] * (own[i].x - mean) * (own[i].x - mean);
    squares = sum_of_lanes(squares, 32);
    if (threadIdx.x % 32 == 0) moments[group] = make_float2(mean, squares);
  }}
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
  // Eight lanes for a group, each with the moments of one block.
  for (int i = threadIdx.x; i < (kGroups * kMostBlocks + 31) / 32 * 32; i += {threads}) {{
    const int group = i / kMostBlocks, block = i % kMostBlocks;
    const int there = a.pixels - block * a.chunk;
    float2 other = make_float2(0.0f, 0.0f);
    float weight = 0.0f;
    if (group < kGroups && block < (int)gridDim.x && there > 0) {{
      weight = (float)(there < a.chunk ? there : a.chunk) * kSize;
      unsigned address;
      asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"((unsigned)__cvta_generic_to_shared(moments + group)), "r"(block));
      asm volatile("ld.shared::cluster.v2.f32 {{%0, %1}}, [%2];" : "=f"(other.x), "=f"(other.y) : "r"(address) : "memory");
    }}
    const float share = 1.0f / ((float)a.pixels * kSize);
    const float mean = sum_of_lanes(other.x * weight, kMostBlocks) * share;
    const float squares = sum_of_lanes(other.y + weight * (other.x - mean) * (other.x - mean), kMostBlocks);
    if (group < kGroups && block == 0) factors[group] = make_float2(mean, 1.0f / sqrtf(squares * share + {epsilon}));
  }}
  __syncthreads();
  // Nobody leaves while others may read its moments.
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
  if (is_active) {{
    float factor[kVector], shift[kVector];
#pragma unroll
    for (int k = 0; k < kVector; ++k) {{
      const int group = (column * kVector + k) / kSize;
      factor[k] = factors[group].y * tf::to_float(scale.at[k]);
      shift[k] = tf::to_float(bias.at[k]) - factors[group].x * factor[k];
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
        fmt::arg("threads", kThreads), fmt::arg("most_blocks", kMostClusterBlocks), fmt::arg("piece", slab.piece()),
        fmt::arg("statements", program.statements), fmt::arg("result", program.result),
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
