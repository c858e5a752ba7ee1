// TopK along any axis. A block takes one line: by one digit of 8 bits after the other it finds the key of the k-th
// element (radix selection), gathers what comes before it and, in their order, as many elements equal to it as are
// wanted, and sorts those. Keys are unsigned integers in the order of the values, NaN above all numbers; equal values
// come in the order of their positions.
#include <algorithm>
#include <bit>

#include "backend/cuda/element_text.hpp"
#include "backend/cuda/pointwise_text.hpp"

namespace tenfold::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostShared = 8192;  // chosen elements that are sorted in shared memory

constexpr std::string_view kText = R"(
typedef typename tf::Key<T>::type K;
// What the selection compares: smaller comes first.
TF_FN K rank_of(T x) {
  const K key = tf::key_of(x);
  return kLargest ? ~key : key;
}
struct Arguments {
  const T* x;
  T* values;
  long long* positions;
  unsigned long long* chosen;
  long long length, inner, k, padded;
  int shared_pairs;
};
// Keys of 64 bits do not fit into a pair with their position: the sort compares ranks that it looks up.
TF_FN bool is_before(const T* line, long long inner, unsigned long long a, unsigned long long b) {
  if (a == ~0ull || b == ~0ull) return a < b;
  const K left = rank_of(line[(long long)a * inner]), right = rank_of(line[(long long)b * inner]);
  return left < right || (left == right && a < b);
}
TF_FN void sort_places(const T* line, long long inner, unsigned long long* places, int size) {
  for (int run = 2; run <= size; run *= 2) {
    for (int step = run / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int i = threadIdx.x; i < size / 2; i += 256) {
        const int low = 2 * step * (i / step) + i % step, high = low + step;
        const unsigned long long a = places[low], b = places[high];
        if (is_before(line, inner, b, a) == ((low & run) == 0)) {
          places[low] = b;
          places[high] = a;
        }
      }
    }
  }
  __syncthreads();
}
extern "C" __global__ void __launch_bounds__(256) select(const __grid_constant__ Arguments a) {
  tf::begin_early();
  extern __shared__ unsigned long long shared[];
  __shared__ int histogram[256];
  __shared__ K prefix;
  __shared__ long long wanted;
  __shared__ int count;
  // Lines are fewer than 2^32, so divisions of 32 bits do.
  const long long outer = blockIdx.x / (unsigned)a.inner, lane = blockIdx.x % (unsigned)a.inner;
  const T* line = a.x + outer * a.length * a.inner + lane;
  if (threadIdx.x == 0) prefix = 0, wanted = a.k, count = 0;
  // `prefix` are the leading digits of the k-th rank, and `wanted` how many of the lines that begin with them are chosen.
  for (int shift = 8 * sizeof(K) - 8; shift >= 0; shift -= 8) {
    histogram[threadIdx.x] = 0;
    __syncthreads();
    const K above = shift == 8 * (int)sizeof(K) - 8 ? (K)0 : (K)(prefix >> (shift + 8));
    for (long long i = threadIdx.x; i < a.length; i += 256) {
      const K rank = rank_of(line[i * a.inner]);
      if (shift == 8 * (int)sizeof(K) - 8 || (K)(rank >> (shift + 8)) == above) atomicAdd(&histogram[(int)(rank >> shift) & 255], 1);
    }
    __syncthreads();
    int total;
    const int mine = histogram[threadIdx.x];
    const int before = tf::block_scan(mine, 0, [](int x, int y) { return x + y; }, total);
    const long long rest = wanted;
    __syncthreads();
    if (before < rest && rest <= before + mine) {
      prefix |= (K)threadIdx.x << shift;
      wanted = rest - before;
    }
    __syncthreads();
  }
  const K border = prefix;
  const long long ties = wanted;
  unsigned long long* places = a.padded <= a.shared_pairs ? shared : a.chosen + blockIdx.x * a.padded;
  long long seen = 0;
  for (long long first = 0; first < a.length; first += 256) {
    const long long i = first + threadIdx.x;
    const K rank = i < a.length ? rank_of(line[i * a.inner]) : (K)0;
    if (i < a.length && rank < border) places[atomicAdd(&count, 1)] = i;
    if (seen < ties) {  // the same in all threads
      int total;
      const bool is_tie = i < a.length && rank == border;
      const int before = tf::block_scan(is_tie ? 1 : 0, 0, [](int x, int y) { return x + y; }, total);
      if (is_tie && seen + before < ties) places[a.k - ties + seen + before] = i;
      seen += total;
    }
  }
  for (long long i = a.k + threadIdx.x; i < a.padded; i += 256) places[i] = ~0ull;
  __syncthreads();
  if constexpr (sizeof(K) == 4) {
    for (long long i = threadIdx.x; i < a.k; i += 256) places[i] |= (unsigned long long)rank_of(line[(long long)places[i] * a.inner]) << 32;
    tf::sort_pairs(places, (int)a.padded);
  } else {
    sort_places(line, a.inner, places, (int)a.padded);
  }
  const long long to = outer * a.k * a.inner + lane;
  for (long long i = threadIdx.x; i < a.k; i += 256) {
    const long long at = sizeof(K) == 4 ? (long long)(unsigned)places[i] : (long long)places[i];
    if (a.values) a.values[to + i * a.inner] = line[at * a.inner];
    if (a.positions) a.positions[to + i * a.inner] = at;
  }
}
)";

struct Arguments {
  const void* x = nullptr;
  void* values = nullptr;
  void* positions = nullptr;
  void* chosen = nullptr;
  std::int64_t length = 0, inner = 0, k = 0, padded = 0;
  std::int32_t shared_pairs = 0;
};

class TopKKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || signature.outputs.empty()) return "operands are missing";
    if (!axis_of(signature.op, signature.inputs[0].rank())) return "no such axis";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    Source source;
    source.entries = {"select"};
    source.text =
        fmt::format("{}{}typedef {} T;\nconstexpr bool kLargest = {};\n{}", device_prelude(), element_prelude(),
                    device_type(spec.inputs[0].dtype), spec.op->attributes().get_int("largest", 1) != 0, kText);
    return source;
  }
  TopKKernel(const KernelSpec& spec, const LoadedModule& module)
      : axis_(static_cast<std::size_t>(*axis_of(*spec.op, spec.inputs[0].rank()))),
        select_(module.function("select")) {}
  /// The chosen elements of each line, where they are too many for shared memory.
  std::size_t workspace_bytes(std::span<const TensorView> inputs, std::span<const TensorView> outputs) const override {
    const std::int64_t k = chosen_of(outputs);
    const std::int64_t room = padded(k);
    if (room <= kMostShared) return 0;
    const TensorView& x = inputs[0];
    const std::int64_t lines = product_of_dims(x.dims, 0, axis_) * product_of_dims(x.dims, axis_ + 1, x.dims.size());
    return static_cast<std::size_t>(lines * room) * sizeof(std::int64_t);
  }
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView values = operand_of(launch.outputs, 0), positions = operand_of(launch.outputs, 1);
    const TensorView& any = values.data != nullptr ? values : positions;
    if (any.data == nullptr || any.num_elements() == 0) return;
    Arguments arguments;
    arguments.x = x.data;
    arguments.values = values.data;
    arguments.positions = positions.data;
    arguments.chosen = launch.workspace.data();
    arguments.length = x.dims[axis_];
    arguments.inner = product_of_dims(x.dims, axis_ + 1, x.dims.size());
    arguments.k = any.dims[axis_];
    arguments.padded = padded(arguments.k);
    arguments.shared_pairs = static_cast<std::int32_t>(kMostShared);
    LaunchConfig config;
    config.function = select_;
    config.grid.x = static_cast<unsigned>(x.num_elements() / arguments.length);
    config.block.x = kThreads;
    if (arguments.padded <= kMostShared) config.smem_bytes = static_cast<unsigned>(arguments.padded * 8);
    config.pdl = true;
    cuda_stream(launch).launch(config, arguments);
  }

 private:
  static std::optional<int> axis_of(const Op& op, int rank) {
    return normalized_axis(op.attributes().get_int("axis", -1), rank);
  }
  std::int64_t chosen_of(std::span<const TensorView> outputs) const {
    const TensorView values = operand_of(outputs, 0);
    return (values.dtype != DType::undefined ? values : operand_of(outputs, 1)).dims[axis_];
  }
  static std::int64_t padded(std::int64_t k) {
    return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(k, 1))));
  }
  std::size_t axis_;
  Function select_;
};

}  // namespace

const CudaTactic kTopKSelect = plain_tactic<TopKKernel>("top_k.select", "TopK");

}  // namespace tenfold::cuda
