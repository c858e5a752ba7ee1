#include "backend/cpu/kernels/resize.hpp"

#include "backend/cpu/kernels/simd.hpp"
#include "backend/cpu/kernels/simd_math.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

namespace {

constexpr int kWidth = Vec::kWidth;

void blend_rows(const float* from, std::int64_t stride, const std::int32_t* index, const float* weight, int taps,
                float* to, std::int64_t length) {
  for (std::int64_t i = 0; i < length; i += kWidth) {
    const int n = length - i < kWidth ? static_cast<int>(length - i) : kWidth;
    Vec sum = Vec::zero();
    for (int t = 0; t < taps; ++t) {
      const float* p = from + index[t] * stride + i;
      sum = fma(n == kWidth ? Vec::load(p) : Vec::load_first(p, n), Vec(weight[t]), sum);
    }
    if (n == kWidth) {
      sum.store(to + i);
    } else {
      sum.store_first(to + i, n);
    }
  }
}

/// Wide enough that each output pixel is a row by itself.
void blend_wide_columns(const float* from, const ResizeTable& table, std::int64_t cols, std::int64_t inner, float* to) {
  for (std::int64_t x = 0; x < cols; ++x) {
    blend_rows(from, inner, table.index + x * table.taps, table.weight + x * table.taps, table.taps, to + x * inner,
               inner);
  }
}

template <int kTaps>
void blend_two_or_more(const float* from, const ResizeTable& table, std::int64_t cols, std::int64_t inner, float* to) {
  const int taps = kTaps > 0 ? kTaps : table.taps;
  for (std::int64_t x = 0; x < cols; ++x) {
    const std::int32_t* index = table.index + x * taps;
    const float* weight = table.weight + x * taps;
    for (std::int64_t c = 0; c < inner; ++c) {
      float sum = 0;
      for (int t = 0; t < taps; ++t) sum = __builtin_fmaf(from[index[t] * inner + c], weight[t], sum);
      to[x * inner + c] = sum;
    }
  }
}

void copy_columns(const float* from, const ResizeTable& table, std::int64_t cols, std::int64_t inner, float* to) {
  if (inner == 1) {
    for (std::int64_t x = 0; x < cols; ++x) to[x] = from[table.index[x]];
    return;
  }
  for (std::int64_t x = 0; x < cols; ++x) {
    const float* p = from + table.index[x] * inner;
    float* q = to + x * inner;
    std::int64_t c = 0;
    for (; c + kWidth <= inner; c += kWidth) Vec::load(p + c).store(q + c);
    for (; c < inner; ++c) q[c] = p[c];
  }
}

void blend_columns(const float* from, const ResizeTable& table, std::int64_t cols, std::int64_t inner, float* to) {
  if (table.weight == nullptr) {
    copy_columns(from, table, cols, inner, to);
  } else if (inner >= kWidth) {
    blend_wide_columns(from, table, cols, inner, to);
  } else if (table.taps == 2) {
    blend_two_or_more<2>(from, table, cols, inner, to);
  } else {
    blend_two_or_more<0>(from, table, cols, inner, to);
  }
}

}  // namespace

extern const ResizeKernels kResizeKernels;
const ResizeKernels kResizeKernels = {blend_rows, blend_columns};

}  // namespace tenfold::cpu::TENFOLD_TIER
