// NonMaxSuppression. A block takes one class of one image: it gathers the boxes whose score is high enough, sorts them
// by score, and walks down: each box that is still alive is kept, and all threads strike out what it covers, a bit for
// each box in shared memory. When the host has read how many each class kept, it makes room and they are written.
// Overlaps are computed in double, as the reference does: the answer is a list of numbers, which is right or wrong.
#include <algorithm>
#include <bit>

#include "backend/cuda/element_text.hpp"
#include "backend/cuda/pointwise_text.hpp"

namespace tenfold::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostShared = 8192;  // pairs of 8 bytes that are sorted in shared memory

constexpr std::string_view kText = R"(
struct Arguments {
  const float* boxes;
  const float* scores;
  const long long* most;
  const float* overlap;
  const float* least;
  unsigned long long* pairs;
  int* counts;
  long long count, padded;
  int classes, shared_pairs;
};
struct Box { double top, left, bottom, right; };
TF_FN Box box_at(const float* v) {
  if (kCenterPoint) {
    const double x = v[0], y = v[1], half_width = (double)v[2] / 2, half_height = (double)v[3] / 2;
    return {y - half_height, x - half_width, y + half_height, x + half_width};
  }
  return {fmin((double)v[0], (double)v[2]), fmin((double)v[1], (double)v[3]), fmax((double)v[0], (double)v[2]), fmax((double)v[1], (double)v[3])};
}
TF_FN double area(const Box& b) { return (b.bottom - b.top) * (b.right - b.left); }
TF_FN bool covers(const Box& a, const Box& b, double threshold) {
  const double height = fmin(a.bottom, b.bottom) - fmax(a.top, b.top), width = fmin(a.right, b.right) - fmax(a.left, b.left);
  const double both = height <= 0 || width <= 0 ? 0.0 : height * width, either = area(a) + area(b) - both;
  return (either <= 0 || both == 0.0 ? 0.0 : both / either) > threshold;
}
// The numbers of the kept boxes replace the pairs.
extern "C" __global__ void __launch_bounds__(256) suppress(const __grid_constant__ Arguments a) {
  extern __shared__ unsigned long long shared[];
  __shared__ int found, next;
  const long long row = blockIdx.x;
  const float* scores = a.scores + row * a.count;
  const float* boxes = a.boxes + row / a.classes * a.count * 4;
  unsigned long long* kept = a.pairs + row * a.padded;
  const long long most = a.most ? *a.most : 0;
  const double threshold = a.overlap ? (double)*a.overlap : 0.0;
  if (threadIdx.x == 0) found = 0;
  __syncthreads();
  for (long long i = threadIdx.x; i < a.count; i += 256) {
    const float score = scores[i];
    if (a.least && !(score > *a.least)) continue;
    if (score != score) continue;
    if (!a.least && score == tf::float_of(0xff800000u)) continue;
    kept[atomicAdd(&found, 1)] = (unsigned long long)~tf::key_of(score) << 32 | (unsigned)i;
  }
  __syncthreads();
  const int total = found;
  int size = 1;
  while (size < total) size *= 2;
  const bool is_shared = size <= a.shared_pairs;
  unsigned long long* pairs = is_shared ? shared : kept;
  unsigned* alive = (unsigned*)(shared + a.shared_pairs);
  for (int i = threadIdx.x; i < size; i += 256) {
    if (is_shared) pairs[i] = i < total ? kept[i] : ~0ull;
    else if (i >= total) pairs[i] = ~0ull;
  }
  tf::sort_pairs(pairs, size);
  const int words = (total + 31) / 32;
  for (int w = threadIdx.x; w < words; w += 256) alive[w] = w < words - 1 || total % 32 == 0 ? 0xffffffffu : (1u << total % 32) - 1;
  __syncthreads();
  int count = 0;
  for (int at = 0; at < total && count < most;) {
    // The first that is alive from `at` on.
    if (threadIdx.x < 32) {
      int place = total;
      for (int w = at / 32; w < words; w += 32) {
        const int own = w + threadIdx.x;
        unsigned bits = own < words ? alive[own] : 0;
        if (own == at / 32) bits &= 0xffffffffu << at % 32;
        const unsigned any = __ballot_sync(0xffffffffu, bits != 0);
        if (any == 0) continue;
        const int lane = __ffs(any) - 1;
        const unsigned first = __shfl_sync(0xffffffffu, bits, lane);
        place = (w + lane) * 32 + __ffs(first) - 1;
        break;
      }
      if (threadIdx.x == 0) next = place;
    }
    __syncthreads();
    const int place = next;
    if (place >= total) break;
    const unsigned number = (unsigned)pairs[place];
    const Box box = box_at(boxes + number * 4ll);
    // Pairs up to `place` are read no more, and `count` is at most `place`.
    for (int w = place / 32 + threadIdx.x / 32; w < words; w += 8) {
      const int i = w * 32 + threadIdx.x % 32;
      bool strikes = i == place;
      if (i > place && i < total && (alive[w] >> threadIdx.x % 32 & 1)) strikes = covers(box, box_at(boxes + (unsigned)pairs[i] * 4ll), threshold);
      const unsigned struck = __ballot_sync(0xffffffffu, strikes);
      if (threadIdx.x % 32 == 0) alive[w] &= ~struck;
    }
    __syncthreads();
    if (threadIdx.x == 0) kept[count] = number;
    ++count;
    at = place + 1;
  }
  if (threadIdx.x == 0) a.counts[row] = count;
}
extern "C" __global__ void __launch_bounds__(256) write_kept(const unsigned long long* pairs, const int* counts, const long long* first, long long* y, long long padded, int classes) {
  const long long row = blockIdx.x;
  for (int i = threadIdx.x; i < counts[row]; i += 256) {
    long long* to = y + (first[row] + i) * 3;
    to[0] = row / classes;
    to[1] = row % classes;
    to[2] = (long long)pairs[row * padded + i];
  }
}
)";

struct Arguments {
  const void* boxes = nullptr;
  const void* scores = nullptr;
  const void* most = nullptr;
  const void* overlap = nullptr;
  const void* least = nullptr;
  void* pairs = nullptr;
  void* counts = nullptr;
  std::int64_t count = 0, padded = 0;
  std::int32_t classes = 0, shared_pairs = 0;
};

class NonMaxSuppressionKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || !signature.has_input(1) || !signature.has_output(0)) return "operands are missing";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    Source source;
    source.entries = {"suppress", "write_kept"};
    source.text = fmt::format("{}{}constexpr bool kCenterPoint = {};\n{}", device_prelude(), element_prelude(),
                              spec.op->attributes().get_int("center_point_box", 0) == 1, kText);
    return source;
  }
  NonMaxSuppressionKernel(const KernelSpec&, const LoadedModule& module)
      : smem_bytes_(module.traits().smem_optin_bytes),
        suppress_(module.function("suppress")),
        write_(module.function("write_kept")) {}
  /// Pairs of each class, how many it kept, and where its part of the result begins.
  std::size_t workspace_bytes(std::span<const TensorView> inputs, std::span<const TensorView>) const override {
    const TensorView& scores = inputs[1];
    const std::int64_t rows = scores.dim(0) * scores.dim(1);
    return static_cast<std::size_t>(rows * padded(scores.dim(2)) + 2 * rows) * sizeof(std::int64_t);
  }
  void run(const Launch& launch) const override {
    const TensorView& scores = launch.inputs[1];
    const std::int64_t rows = scores.dim(0) * scores.dim(1), count = scores.dim(2);
    CudaStream& stream = cuda_stream(launch);
    Arguments arguments;
    arguments.boxes = launch.inputs[0].data;
    arguments.scores = scores.data;
    arguments.most = operand_of(launch.inputs, 2).data;
    arguments.overlap = operand_of(launch.inputs, 3).data;
    arguments.least = operand_of(launch.inputs, 4).data;
    arguments.count = count;
    arguments.padded = padded(count);
    arguments.pairs = launch.workspace.data();
    auto* counts = launch.workspace.data() + static_cast<std::size_t>(rows * arguments.padded) * sizeof(std::int64_t);
    auto* first = counts + static_cast<std::size_t>(rows) * sizeof(std::int64_t);
    arguments.counts = counts;
    arguments.classes = static_cast<std::int32_t>(scores.dim(1));
    arguments.shared_pairs = static_cast<std::int32_t>(std::min(arguments.padded, kMostShared));
    std::vector<std::int32_t> kept(static_cast<std::size_t>(rows), 0);
    if (rows > 0 && count > 0) {
      LaunchConfig config;
      config.function = suppress_;
      config.grid.x = static_cast<unsigned>(rows);
      config.block.x = kThreads;
      config.smem_bytes =
          static_cast<unsigned>(static_cast<std::size_t>(arguments.shared_pairs) * sizeof(std::int64_t) +
                                static_cast<std::size_t>(divide_up(count, 32)) * sizeof(std::int32_t));
      require(config.smem_bytes <= smem_bytes_, Code::unsupported, "{} boxes are more than a block can mark", count);
      stream.launch(config, arguments);
      stream.read(kept.data(), counts, kept.size() * sizeof(std::int32_t));
    }
    std::vector<std::int64_t> begins(kept.size());
    std::int64_t total = 0;
    for (std::size_t row = 0; row < kept.size(); ++row) {
      begins[row] = total;
      total += kept[row];
    }
    ensure(launch.resize != nullptr, "nobody makes room for a result of a size that only the kernel knows");
    const TensorView& y = (*launch.resize)(0, {total, 3});
    if (total == 0) return;
    stream.write(first, begins.data(), begins.size() * sizeof(std::int64_t));
    LaunchConfig config;
    config.function = write_;
    config.grid.x = static_cast<unsigned>(rows);
    config.block.x = kThreads;
    stream.launch(config, static_cast<const void*>(arguments.pairs), static_cast<const void*>(counts),
                  static_cast<const void*>(first), y.data, arguments.padded, arguments.classes);
  }

 private:
  static std::int64_t padded(std::int64_t count) {
    return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(count, 1))));
  }
  std::size_t smem_bytes_;
  Function suppress_, write_;
};

}  // namespace

const CudaTactic kNonMaxSuppressionSort = plain_tactic<NonMaxSuppressionKernel>("boxes.suppress", "NonMaxSuppression");

}  // namespace tenfold::cuda
