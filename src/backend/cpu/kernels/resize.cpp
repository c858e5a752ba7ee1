#include "backend/cpu/kernels/resize.hpp"

#include "backend/cpu/kernels/copied_rows.hpp"
#include "backend/cpu/kernels/simd.hpp"
#include "backend/cpu/kernels/simd_math.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

namespace {

constexpr int kWidth = Vec::kWidth;

/// to[i] = sum over t of weight[t] * from[index[t] * stride + i]; kTaps 0: as many as `taps` says. Source and target do
/// not overlap, so that the last vector may begin before the end of the one before it.
template <int kTaps>
[[gnu::always_inline]] inline void blend_row(const float* from, std::int64_t stride, const std::int32_t* index,
                                             const float* weight, int taps, float* to, std::int64_t length) {
  const auto blend = [&](auto load, auto store) __attribute__((always_inline)) {
    if constexpr (kTaps == 2) {
      const float* first = from + index[0] * stride;
      const float* second = from + index[1] * stride;
      const Vec w0(weight[0]), w1(weight[1]);
      return [=](std::int64_t i) __attribute__((always_inline)) {
        store(to + i, fma(load(second + i), w1, load(first + i) * w0));
      };
    } else {
      return [=](std::int64_t i) __attribute__((always_inline)) {
        Vec sum = Vec::zero();
        for (int t = 0; t < taps; ++t) sum = fma(load(from + index[t] * stride + i), Vec(weight[t]), sum);
        store(to + i, sum);
      };
    }
  };
  if (length < kWidth) {
    const int n = static_cast<int>(length);
    blend([n](const float* p) { return Vec::load_first(p, n); }, [n](float* p, Vec v) { v.store_first(p, n); })(0);
    return;
  }
  const auto at = blend([](const float* p) { return Vec::load(p); }, [](float* p, Vec v) { v.store(p); });
  std::int64_t i = 0;
  for (; i + kWidth <= length; i += kWidth) at(i);
  if (i < length) at(length - kWidth);
}

void blend_rows(const float* from, std::int64_t stride, const std::int32_t* index, const float* weight, int taps,
                float* to, std::int64_t length) {
  if (length <= 0) return;
  if (taps == 2) {
    blend_row<2>(from, stride, index, weight, taps, to, length);
  } else {
    blend_row<0>(from, stride, index, weight, taps, to, length);
  }
}

/// Wide enough that each output pixel is a row by itself.
template <int kTaps>
void blend_wide_columns(const float* from, const ResizeTable& table, std::int64_t cols, std::int64_t inner, float* to) {
  const int taps = kTaps > 0 ? kTaps : table.taps;
  for (std::int64_t x = 0; x < cols; ++x) {
    blend_row<kTaps>(from, inner, table.index + x * taps, table.weight + x * taps, taps, to + x * inner, inner);
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
    if (c < inner && inner >= kWidth) {
      Vec::load(p + inner - kWidth).store(q + inner - kWidth);
    } else {
      for (; c < inner; ++c) q[c] = p[c];
    }
  }
}

void blend_columns(const float* from, const ResizeTable& table, std::int64_t cols, std::int64_t inner, float* to) {
  if (table.weight == nullptr) {
    copy_columns(from, table, cols, inner, to);
  } else if (inner >= kWidth && table.taps == 2) {
    blend_wide_columns<2>(from, table, cols, inner, to);
  } else if (inner >= kWidth) {
    blend_wide_columns<0>(from, table, cols, inner, to);
  } else if (table.taps == 2) {
    blend_two_or_more<2>(from, table, cols, inner, to);
  } else {
    blend_two_or_more<0>(from, table, cols, inner, to);
  }
}

void copy_halves(const std::uint16_t* from, const ResizeTable& table, std::int64_t cols, std::int64_t inner,
                 std::uint16_t* to) {
  const auto bytes = static_cast<std::int64_t>(sizeof *from) * inner;
  for (std::int64_t x = 0; x < cols; ++x, to += inner) {
    copy_bytes(reinterpret_cast<const std::uint8_t*>(from + table.index[x] * inner), bytes,
               reinterpret_cast<std::uint8_t*>(to));
  }
}

}  // namespace

extern const ResizeKernels kResizeKernels;
const ResizeKernels kResizeKernels = {blend_rows, blend_columns, copy_halves};

}  // namespace tenfold::cpu::TENFOLD_TIER
