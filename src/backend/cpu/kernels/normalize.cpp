// Sums run over several vectors of partial sums and are folded at the end, so their error grows with length / lanes.
// Variances take a second pass over the differences from the mean: no cancellation.
#include "backend/cpu/kernels/normalize.hpp"

#include "backend/cpu/kernels/simd.hpp"
#include "backend/cpu/kernels/simd_math.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

namespace {

constexpr int kWidth = Vec::kWidth;
constexpr int kUnroll = 4;

/// Folds f over all vectors of a row: acc = f(acc, x). The last, partial vector has `fill` in its missing lanes.
template <typename F>
inline Vec fold_row(const float* x, std::int64_t length, Vec start, Vec fill, F f) {
  Vec acc[kUnroll] = {start, start, start, start};
  std::int64_t i = 0;
  for (; i + kUnroll * kWidth <= length; i += kUnroll * kWidth) {
#pragma GCC unroll 4
    for (int u = 0; u < kUnroll; ++u) acc[u] = f(acc[u], Vec::load(x + i + u * kWidth));
  }
  for (; i + kWidth <= length; i += kWidth) acc[0] = f(acc[0], Vec::load(x + i));
  if (i < length) acc[1] = f(acc[1], load_first_or(x + i, static_cast<int>(length - i), fill));
  return f.join(f.join(acc[0], acc[1]), f.join(acc[2], acc[3]));
}

struct Max {
  Vec operator()(Vec acc, Vec x) const { return math::max(acc, x); }
  static Vec join(Vec a, Vec b) { return math::max(a, b); }
};
struct Sum {
  Vec operator()(Vec acc, Vec x) const { return acc + x; }
  static Vec join(Vec a, Vec b) { return a + b; }
};
struct SumOfSquares {
  Vec center;
  Vec operator()(Vec acc, Vec x) const { return fma(x - center, x - center, acc); }
  static Vec join(Vec a, Vec b) { return a + b; }
};

float row_max(const float* x, std::int64_t length) {
  const Vec lowest(-INFINITY);
  return horizontal_max(fold_row(x, length, lowest, lowest, Max{}));
}

/// y = e^(x - max); returns the sum.
float exp_row(const float* x, float* y, std::int64_t length, float max) {
  const Vec m(max);
  Vec sum0 = Vec::zero(), sum1 = Vec::zero();
  std::int64_t i = 0;
  for (; i + 2 * kWidth <= length; i += 2 * kWidth) {
    const Vec a = math::exp_bounded(Vec::load(x + i) - m);
    const Vec b = math::exp_bounded(Vec::load(x + i + kWidth) - m);
    sum0 = sum0 + a;
    sum1 = sum1 + b;
    if (y != nullptr) {
      a.store(y + i);
      b.store(y + i + kWidth);
    }
  }
  for (; i < length; i += kWidth) {
    const int n = length - i < kWidth ? static_cast<int>(length - i) : kWidth;
    const Vec a = math::exp_bounded(load_first_or(x + i, n, Vec(-INFINITY)) - m);
    sum0 = sum0 + a;
    if (y != nullptr) a.store_first(y + i, n);
  }
  return (sum0 + sum1).sum();
}

template <typename F>
inline void map_row(const float* x, float* y, std::int64_t length, F f) {
  std::int64_t i = 0;
  for (; i + kWidth <= length; i += kWidth) f(Vec::load(x + i), i, kWidth).store(y + i);
  if (i < length) {
    const int n = static_cast<int>(length - i);
    f(Vec::load_first(x + i, n), i, n).store_first(y + i, n);
  }
}

/// kVecs vectors of neighbouring columns at a time; unless kWhole, only `last` lanes of the last one exist.
template <int kVecs, bool kWhole>
inline void softmax_column_block(const float* x, float* y, std::int64_t length, std::int64_t stride, int last,
                                 bool logarithm) {
  const auto load = [&](const float* p, int v) {
    return !kWhole && v == kVecs - 1 ? Vec::load_first(p + v * kWidth, last) : Vec::load(p + v * kWidth);
  };
  const auto store = [&](Vec value, float* p, int v) {
    if (!kWhole && v == kVecs - 1) {
      value.store_first(p + v * kWidth, last);
    } else {
      value.store(p + v * kWidth);
    }
  };
  Vec max[kVecs], sum[kVecs];
  for (int v = 0; v < kVecs; ++v) max[v] = load(x, v), sum[v] = Vec::zero();
  for (std::int64_t i = 1; i < length; ++i) {
    for (int v = 0; v < kVecs; ++v) max[v] = math::max(max[v], load(x + i * stride, v));
  }
  for (std::int64_t i = 0; i < length; ++i) {
    for (int v = 0; v < kVecs; ++v) {
      const Vec e = math::exp_bounded(load(x + i * stride, v) - max[v]);
      sum[v] = sum[v] + e;
      if (!logarithm) store(e, y + i * stride, v);
    }
  }
  for (int v = 0; v < kVecs; ++v) sum[v] = logarithm ? math::log(sum[v]) : Vec(1.0F) / sum[v];
  for (std::int64_t i = 0; i < length; ++i) {
    for (int v = 0; v < kVecs; ++v) {
      if (logarithm) {
        store((load(x + i * stride, v) - max[v]) - sum[v], y + i * stride, v);
      } else {
        store(load(y + i * stride, v) * sum[v], y + i * stride, v);
      }
    }
  }
}

void softmax_columns(const float* x, float* y, std::int64_t length, std::int64_t stride, std::int64_t cols,
                     bool logarithm) {
  if (length <= 0) return;
  std::int64_t c = 0;
  for (; c + 4 * kWidth <= cols; c += 4 * kWidth) {
    softmax_column_block<4, true>(x + c, y + c, length, stride, kWidth, logarithm);
  }
  for (; c < cols; c += kWidth) {
    const int n = cols - c < kWidth ? static_cast<int>(cols - c) : kWidth;
    softmax_column_block<1, false>(x + c, y + c, length, stride, n, logarithm);
  }
}

/// A row of so few numbers leaves most lanes of its vectors empty, and its sums cross the lanes.
constexpr std::int64_t kShortRow = 8;

/// Short rows side by side, so that a lane is a row.
void softmax_short_rows(const float* x, std::int64_t x_stride, float* y, std::int64_t y_stride, std::int64_t rows,
                        std::int64_t length, bool logarithm) {
  constexpr std::int64_t kRows = 4 * kWidth;
  alignas(64) float block[kShortRow * kRows];
  for (std::int64_t begin = 0; begin < rows; begin += kRows) {
    const std::int64_t count = rows - begin < kRows ? rows - begin : kRows;
    for (std::int64_t i = 0; i < length; ++i) {
      const float* from = x + begin * x_stride + i;
      for (std::int64_t r = 0; r < count; ++r) block[i * kRows + r] = from[r * x_stride];
    }
    softmax_columns(block, block, length, kRows, count, logarithm);
    for (std::int64_t i = 0; i < length; ++i) {
      float* to = y + begin * y_stride + i;
      for (std::int64_t r = 0; r < count; ++r) to[r * y_stride] = block[i * kRows + r];
    }
  }
}

void softmax_rows(const float* x, std::int64_t x_stride, float* y, std::int64_t y_stride, std::int64_t rows,
                  std::int64_t length, bool logarithm) {
  if (length <= kShortRow) {
    softmax_short_rows(x, x_stride, y, y_stride, rows, length, logarithm);
    return;
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* in = x + r * x_stride;
    float* out = y + r * y_stride;
    const float max = row_max(in, length);
    if (logarithm) {
      const float shift = ::logf(exp_row(in, nullptr, length, max));
      const Vec m(max), s(shift);
      map_row(in, out, length, [&](Vec v, std::int64_t, int) { return (v - m) - s; });
    } else {
      const Vec factor(1.0F / exp_row(in, out, length, max));
      map_row(out, out, length, [&](Vec v, std::int64_t, int) { return v * factor; });
    }
  }
}

float row_sum(const float* x, std::int64_t length) {
  return fold_row(x, length, Vec::zero(), Vec::zero(), Sum{}).sum();
}
/// Sum of (x - center)^2.
float row_squares(const float* x, std::int64_t length, float center) {
  return fold_row(x, length, Vec::zero(), Vec(center), SumOfSquares{Vec(center)}).sum();
}

void normalize_rows(const float* x, std::int64_t x_stride, float* y, std::int64_t y_stride, std::int64_t rows,
                    std::int64_t length, const float* scale, const float* bias, float epsilon, bool centered,
                    float* mean, float* inverse_deviation) {
  const float per_element = 1.0F / static_cast<float>(length);
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* in = x + r * x_stride;
    float* out = y + r * y_stride;
    const float m = centered ? row_sum(in, length) * per_element : 0.0F;
    const float inverse = 1.0F / __builtin_sqrtf(row_squares(in, length, m) * per_element + epsilon);
    const Vec mv(m), iv(inverse);
    std::int64_t i = 0;
    for (; i + kWidth <= length; i += kWidth) {
      const Vec v = (Vec::load(in + i) - mv) * iv;
      const Vec s = Vec::load(scale + i);
      (bias != nullptr ? fma(v, s, Vec::load(bias + i)) : v * s).store(out + i);
    }
    if (i < length) {
      const int n = static_cast<int>(length - i);
      const Vec v = (Vec::load_first(in + i, n) - mv) * iv;
      const Vec s = Vec::load_first(scale + i, n);
      (bias != nullptr ? fma(v, s, Vec::load_first(bias + i, n)) : v * s).store_first(out + i, n);
    }
    if (mean != nullptr) mean[r] = m;
    if (inverse_deviation != nullptr) inverse_deviation[r] = inverse;
  }
}

/// Long rows are summed in pieces, so that no partial sum takes in more than a few hundred numbers.
constexpr std::int64_t kPiece = 8192;

void moments(const float* x, std::int64_t length, float* mean, float* variance) {
  double sum = 0;
  for (std::int64_t i = 0; i < length; i += kPiece) sum += row_sum(x + i, length - i < kPiece ? length - i : kPiece);
  const auto m = static_cast<float>(sum / static_cast<double>(length));
  double squares = 0;
  for (std::int64_t i = 0; i < length; i += kPiece) {
    squares += row_squares(x + i, length - i < kPiece ? length - i : kPiece, m);
  }
  *mean = m;
  *variance = static_cast<float>(squares / static_cast<double>(length));
}

/// f(x, v) summed down kVecs vectors of columns, in pieces of rows.
template <int kVecs, bool kWhole, typename F>
inline void sum_columns(const float* x, std::int64_t length, std::int64_t stride, int last, Vec (&total)[kVecs], F f) {
  constexpr std::int64_t kRows = 256;
  for (int v = 0; v < kVecs; ++v) total[v] = Vec::zero();
  for (std::int64_t begin = 0; begin < length; begin += kRows) {
    const std::int64_t end = begin + kRows < length ? begin + kRows : length;
    Vec sum[kVecs];
    for (int v = 0; v < kVecs; ++v) sum[v] = Vec::zero();
    for (std::int64_t i = begin; i < end; ++i) {
      for (int v = 0; v < kVecs; ++v) {
        const float* p = x + i * stride + v * kWidth;
        sum[v] = f(sum[v], !kWhole && v == kVecs - 1 ? Vec::load_first(p, last) : Vec::load(p), v);
      }
    }
    for (int v = 0; v < kVecs; ++v) total[v] = total[v] + sum[v];
  }
}

template <int kVecs, bool kWhole>
inline void column_moments_block(const float* x, std::int64_t length, std::int64_t stride, int last, float* mean,
                                 float* variance) {
  const Vec count(static_cast<float>(length));
  Vec m[kVecs], q[kVecs];
  sum_columns<kVecs, kWhole>(x, length, stride, last, m, [](Vec sum, Vec value, int) { return sum + value; });
  for (int v = 0; v < kVecs; ++v) m[v] = m[v] / count;
  sum_columns<kVecs, kWhole>(x, length, stride, last, q,
                             [&](Vec sum, Vec value, int v) { return fma(value - m[v], value - m[v], sum); });
  for (int v = 0; v < kVecs; ++v) {
    const int n = v == kVecs - 1 ? last : kWidth;
    m[v].store_first(mean + v * kWidth, n);
    (q[v] / count).store_first(variance + v * kWidth, n);
  }
}

void column_moments(const float* x, std::int64_t length, std::int64_t stride, std::int64_t cols, float* mean,
                    float* variance) {
  std::int64_t c = 0;
  for (; c + 4 * kWidth <= cols; c += 4 * kWidth) {
    column_moments_block<4, true>(x + c, length, stride, kWidth, mean + c, variance + c);
  }
  for (; c < cols; c += kWidth) {
    const int n = cols - c < kWidth ? static_cast<int>(cols - c) : kWidth;
    column_moments_block<1, false>(x + c, length, stride, n, mean + c, variance + c);
  }
}

void scale_rows(const float* x, float* y, std::int64_t rows, std::int64_t stride, std::int64_t cols,
                const float* factor, const float* summand, bool per_column) {
  for (std::int64_t r = 0; r < rows; ++r) {
    if (per_column) {
      map_row(x + r * stride, y + r * stride, cols, [&](Vec v, std::int64_t i, int n) {
        return n == kWidth ? fma(v, Vec::load(factor + i), Vec::load(summand + i))
                           : fma(v, Vec::load_first(factor + i, n), Vec::load_first(summand + i, n));
      });
    } else {
      const Vec f(*factor), s(*summand);
      map_row(x + r * stride, y + r * stride, cols, [&](Vec v, std::int64_t, int) { return fma(v, f, s); });
    }
  }
}

}  // namespace

extern const NormalizeKernels kNormalizeKernels;
const NormalizeKernels kNormalizeKernels = {softmax_rows, softmax_columns, normalize_rows,
                                            moments,      column_moments,  scale_rows};

}  // namespace tenfold::cpu::TENFOLD_TIER
