#include "backend/cuda/element_text.hpp"

#include <algorithm>

namespace tenfold::cuda {

bool is_plain_float(DType dtype) { return is_device_float(dtype) || dtype == DType::float64; }

std::string_view bits_type(std::size_t bytes) {
  return bytes == 1 ? "unsigned char" : bytes == 2 ? "unsigned short" : bytes == 4 ? "unsigned" : "unsigned long long";
}

LaunchConfig one_thread_each(const Function& function, std::int64_t threads, int block) {
  constexpr std::int64_t kMostBlocks = (std::int64_t{1} << 31) - 1;
  LaunchConfig config;
  config.function = function;
  config.grid.x = static_cast<unsigned>(std::min(divide_up(threads, block), kMostBlocks));
  config.block.x = static_cast<unsigned>(block);
  return config;
}

Sizes sizes_of(std::span<const std::int64_t> dims) {
  ensure(dims.size() <= kMaxRank, "rank {} is above {}", dims.size(), kMaxRank);
  Sizes sizes;
  sizes.rank = static_cast<std::int32_t>(dims.size());
  std::copy(dims.begin(), dims.end(), sizes.at);
  return sizes;
}

Sizes contiguous_strides(std::span<const std::int64_t> dims) {
  Sizes strides = sizes_of(dims);
  std::int64_t step = 1;
  for (std::size_t a = dims.size(); a-- > 0; step *= dims[a]) strides.at[a] = step;
  return strides;
}

std::string_view element_prelude() {
  static constexpr std::string_view kText = R"(
struct Sizes {
  int rank, padding;
  long long at[8];
};
namespace tf {
template <typename T>
struct Element {
  typedef float C;
  TF_METHOD static C get(T x) { return to_float(x); }
  TF_METHOD static T put(C x) { return from_float<T>(x); }
};
template <>
struct Element<double> {
  typedef double C;
  TF_METHOD static C get(double x) { return x; }
  TF_METHOD static double put(C x) { return x; }
};
template <typename F>
TF_FN void for_each_thread(long long count, F f) {
  for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < count; i += (long long)gridDim.x * blockDim.x) f(i);
}
// Floats of 16 and 32 bits by their float value, the others as they are.
template <typename T> struct Key { typedef unsigned type; };
template <> struct Key<double> { typedef unsigned long long type; };
template <> struct Key<long long> { typedef unsigned long long type; };
template <> struct Key<unsigned long long> { typedef unsigned long long type; };
TF_FN unsigned key_of(float x) {
  if (x != x) return 0xffffffffu;
  const unsigned bits = bits_of(x == 0.0f ? 0.0f : x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
TF_FN unsigned key_of(f16 x) { return key_of(to_float(x)); }
TF_FN unsigned key_of(bf16 x) { return key_of(to_float(x)); }
TF_FN unsigned key_of(int x) { return (unsigned)x ^ 0x80000000u; }
TF_FN unsigned key_of(short x) { return key_of((int)x); }
TF_FN unsigned key_of(signed char x) { return key_of((int)x); }
TF_FN unsigned key_of(unsigned x) { return x; }
TF_FN unsigned key_of(unsigned short x) { return x; }
TF_FN unsigned key_of(unsigned char x) { return x; }
TF_FN unsigned key_of(bool x) { return x; }
TF_FN unsigned long long key_of(long long x) { return (unsigned long long)x ^ (1ull << 63); }
TF_FN unsigned long long key_of(unsigned long long x) { return x; }
TF_FN unsigned long long key_of(double x) {
  if (x != x) return ~0ull;
  const long long bits = __double_as_longlong(x == 0.0 ? 0.0 : x);
  return bits < 0 ? ~(unsigned long long)bits : (unsigned long long)bits | 1ull << 63;
}
// Bitonic sort: Batcher 1968. The numbers may lie in shared or in device memory.
TF_FN void sort_pairs(unsigned long long* keys, int size) {
  for (int run = 2; run <= size; run *= 2) {
    for (int step = run / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int i = threadIdx.x; i < size / 2; i += blockDim.x) {
        const int low = 2 * step * (i / step) + i % step, high = low + step;
        const unsigned long long a = keys[low], b = keys[high];
        if ((a > b) == ((low & run) == 0)) {
          keys[low] = b;
          keys[high] = a;
        }
      }
    }
  }
  __syncthreads();
}
// Over the threads of a block of 256 in their order.
template <typename S, typename F>
TF_FN S block_scan(S value, S neutral, F combine, S& total) {
  __shared__ S parts[8];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  S sum = value;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const S other = __shfl_up_sync(0xffffffffu, sum, step);
    if (lane >= step) sum = combine(other, sum);
  }
  const S own = __shfl_up_sync(0xffffffffu, sum, 1);
  __syncthreads();  // the parts of the scan before have been read
  if (lane == 31) parts[warp] = sum;
  __syncthreads();
  S before = neutral;
  total = neutral;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i == warp) before = total;
    total = combine(total, parts[i]);
  }
  return lane == 0 ? before : combine(before, own);
}
}  // namespace tf
)";
  return kText;
}

}  // namespace tenfold::cuda
