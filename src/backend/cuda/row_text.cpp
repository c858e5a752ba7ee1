#include "backend/cuda/row_text.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "backend/cuda/pointwise_text.hpp"

namespace tenfold::cuda {

int widest_vector(DType dtype) {
  constexpr std::size_t kBytes = 16;
  return static_cast<int>(kBytes / std::max<std::size_t>(size_of(dtype), 2));
}

RowShape row_shape(std::optional<std::int64_t> length, int vector) {
  constexpr int kWarp = 32, kWarpsTogether = 4, kLongBlock = 512;
  constexpr std::int64_t kLongestOfWarp = 1024, kLongestOfSmallBlock = 8192;
  constexpr int kMostFloats = 32;  // registers that a thread spends on its part of the row
  RowShape shape;
  shape.vector = vector;
  if (!length) return shape;
  if (*length <= kLongestOfWarp) {
    shape.threads = kWarp;
    shape.block = kWarp * kWarpsTogether;
  } else if (*length > kLongestOfSmallBlock) {
    shape.threads = shape.block = kLongBlock;
  }
  const std::int64_t per_round = std::int64_t{shape.threads} * vector;
  const std::int64_t rounds = (*length + per_round - 1) / per_round;
  if (rounds * vector <= kMostFloats) shape.cached = static_cast<int>(std::max<std::int64_t>(rounds, 1));
  return shape;
}

std::string row_type(DType dtype, const RowShape& shape) {
  return fmt::format("tf::Row<{}, {}, {}, {}>", device_type(dtype), shape.vector, shape.threads, shape.cached);
}

std::string_view row_prelude() {
  static constexpr std::string_view kText = R"(
namespace tf {
// Result of an associative operation over the threads of a row, the same in all of them.
template <int Threads, typename F>
TF_FN float over_row(float x, float neutral, F f) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = f(x, __shfl_xor_sync(0xffffffffu, x, step));
  if (Threads > 32) {
    __shared__ float parts[32];
    const int warp = threadIdx.x / 32;
    __syncthreads();  // the parts of the operation before have been read
    if (threadIdx.x % 32 == 0) parts[warp] = x;
    __syncthreads();
    x = threadIdx.x % 32 < Threads / 32 ? parts[threadIdx.x % 32] : neutral;
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x = f(x, __shfl_xor_sync(0xffffffffu, x, step));
  }
  return x;
}
template <int Threads>
TF_FN float row_sum(float x) {
  return over_row<Threads>(x, 0.0f, [](float a, float b) { return a + b; });
}
template <int Threads>
TF_FN float row_max(float x) {
  return over_row<Threads>(x, float_of(0xff800000u), [](float a, float b) { return maximum(a, b); });
}

// The elements of a row that this thread holds: vectors `lane`, `lane` + Threads, ...
template <typename T, int V, int Threads, int Cached>
struct Row {
  const T* data;
  int vectors, lane;
  float kept[Cached > 0 ? Cached : 1][V];

  TF_METHOD Row(const T* first, int length) : data(first), vectors(length / V), lane(threadIdx.x % Threads) {
#pragma unroll
    for (int k = 0; k < Cached; ++k) {
      if (lane + k * Threads >= vectors) continue;
      const Vector<T, V> v = *(const Vector<T, V>*)(data + (lane + k * Threads) * V);
#pragma unroll
      for (int i = 0; i < V; ++i) kept[k][i] = to_float(v.at[i]);
    }
  }
  // f(value, index of the element); a reference to the value may be kept only if the row is cached.
  template <typename F>
  TF_METHOD void each(F f) {
    if (Cached > 0) {
#pragma unroll
      for (int k = 0; k < Cached; ++k) {
        if (lane + k * Threads >= vectors) continue;
#pragma unroll
        for (int i = 0; i < V; ++i) f(kept[k][i], (lane + k * Threads) * V + i);
      }
    } else {
      for (int j = lane; j < vectors; j += Threads) {
        const Vector<T, V> v = *(const Vector<T, V>*)(data + j * V);
#pragma unroll
        for (int i = 0; i < V; ++i) {
          float x = to_float(v.at[i]);
          f(x, j * V + i);
        }
      }
    }
  }
  // Stores f(value, scale, bias) as To, with the scale and bias of the element's place in the row. Without a bias `bias`
  // may be `scale`.
  template <typename To, typename Scale, typename Bias, typename F>
  TF_METHOD void store_scaled(To* to, const Scale* scale, const Bias* bias, F f) {
#pragma unroll
    for (int k = 0; k < (Cached > 0 ? Cached : 1); ++k) {
      for (int j = lane + k * Threads; j < vectors; j += Threads) {
        const Vector<Scale, V> s = *(const Vector<Scale, V>*)(scale + j * V);
        const Vector<Bias, V> b = *(const Vector<Bias, V>*)(bias + j * V);
        const Vector<T, V> v = Cached > 0 ? Vector<T, V>() : *(const Vector<T, V>*)(data + j * V);
        Vector<To, V> result;
#pragma unroll
        for (int i = 0; i < V; ++i) {
          result.at[i] = from_float<To>(f(Cached > 0 ? kept[k][i] : to_float(v.at[i]), to_float(s.at[i]), to_float(b.at[i])));
        }
        *(Vector<To, V>*)(to + j * V) = result;
        if (Cached > 0) break;
      }
    }
  }
  // Stores f(value, index) as To.
  template <typename To, typename F>
  TF_METHOD void store(To* to, F f) {
    if (Cached > 0) {
#pragma unroll
      for (int k = 0; k < Cached; ++k) {
        if (lane + k * Threads >= vectors) continue;
        Vector<To, V> v;
#pragma unroll
        for (int i = 0; i < V; ++i) v.at[i] = from_float<To>(f(kept[k][i], (lane + k * Threads) * V + i));
        *(Vector<To, V>*)(to + (lane + k * Threads) * V) = v;
      }
    } else {
      for (int j = lane; j < vectors; j += Threads) {
        const Vector<T, V> v = *(const Vector<T, V>*)(data + j * V);
        Vector<To, V> result;
#pragma unroll
        for (int i = 0; i < V; ++i) result.at[i] = from_float<To>(f(to_float(v.at[i]), j * V + i));
        *(Vector<To, V>*)(to + j * V) = result;
      }
    }
  }
};
}  // namespace tf
)";
  return kText;
}

}  // namespace tenfold::cuda
