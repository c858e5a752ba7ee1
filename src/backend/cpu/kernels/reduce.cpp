// Long sums are cut into pieces whose sums are added up separately: the error grows with the length of a piece and the
// number of pieces, not with their product.
#include "backend/cpu/kernels/reduce.hpp"

#include "backend/cpu/kernels/simd.hpp"
#include "backend/cpu/kernels/simd_math.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

namespace {

constexpr int kWidth = Vec::kWidth;

struct SumRule {
  static constexpr float kStart = 0.0F;
  static Vec take(Vec x, Vec) { return x; }
  static Vec join(Vec a, Vec b) { return a + b; }
};
struct SumAbsRule : SumRule {
  static Vec take(Vec x, Vec) { return math::abs(x); }
};
struct SumSquareRule : SumRule {
  static Vec take(Vec x, Vec) { return x * x; }
};
struct SumExpRule : SumRule {
  static Vec take(Vec x, Vec offset) { return math::exp_bounded(x - offset); }
};
struct MaxRule {
  static constexpr float kStart = -INFINITY;
  static Vec take(Vec x, Vec) { return x; }
  /// NaN on either side wins.
  static Vec join(Vec a, Vec b) { return math::select(is_nan(b), b, math::max(a, b)); }
};
struct MinRule {
  static constexpr float kStart = INFINITY;
  static Vec take(Vec x, Vec) { return x; }
  static Vec join(Vec a, Vec b) { return math::select(is_nan(b), b, math::min(a, b)); }
};
struct ProductRule {
  static constexpr float kStart = 1.0F;
  static Vec take(Vec x, Vec) { return x; }
  static Vec join(Vec a, Vec b) { return a * b; }
};

/// All lanes joined, in a fixed order: halves first.
template <typename Rule>
float join_lanes(Vec v) {
  if constexpr (kWidth == 16) v = Rule::join(v, swap_neighbours<kWidth / 2>(v));
  v = Rule::join(v, swap_neighbours<4>(v));
  v = Rule::join(v, swap_neighbours<2>(v));
  v = Rule::join(v, swap_neighbours<1>(v));
  return first_lane(v);
}

template <typename Rule>
Vec fold_piece(const float* x, std::int64_t length, Vec offset) {
  const Vec start(Rule::kStart);
  Vec acc[4] = {start, start, start, start};
  std::int64_t i = 0;
  for (; i + 4 * kWidth <= length; i += 4 * kWidth) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) acc[u] = Rule::join(acc[u], Rule::take(Vec::load(x + i + u * kWidth), offset));
  }
  for (; i + kWidth <= length; i += kWidth) acc[0] = Rule::join(acc[0], Rule::take(Vec::load(x + i), offset));
  if (i < length) {
    const int n = static_cast<int>(length - i);
    // Lanes beyond the end take no part: they keep the starting value.
    acc[1] = Rule::join(acc[1], math::select(first_lanes(n), Rule::take(Vec::load_first(x + i, n), offset), start));
  }
  return Rule::join(Rule::join(acc[0], acc[1]), Rule::join(acc[2], acc[3]));
}

template <typename Rule>
void rows(const float* x, std::int64_t row_stride, std::int64_t count, std::int64_t length, float* acc,
          const float* offset) {
  constexpr std::int64_t kPiece = 4096;
  for (std::int64_t r = 0; r < count; ++r) {
    const float* row = x + r * row_stride;
    const Vec shift(offset == nullptr ? 0.0F : offset[r]);
    Vec total(Rule::kStart);
    for (std::int64_t i = 0; i < length; i += kPiece) {
      total = Rule::join(total, fold_piece<Rule>(row + i, length - i < kPiece ? length - i : kPiece, shift));
    }
    // Through the same join, so that NaN is treated alike.
    acc[r] = first_lane(Rule::join(Vec(acc[r]), Vec(join_lanes<Rule>(total))));
  }
}

template <typename Rule, int kVecs, bool kWhole>
void column_block(const float* x, std::int64_t length, std::int64_t stride, int last, float* acc, const float* offset) {
  constexpr std::int64_t kPiece = 128;
  const auto load = [&](const float* p, int v) {
    return !kWhole && v == kVecs - 1 ? Vec::load_first(p + v * kWidth, last) : Vec::load(p + v * kWidth);
  };
  Vec total[kVecs], shift[kVecs];
  for (int v = 0; v < kVecs; ++v) {
    total[v] = load(acc, v);
    shift[v] = offset == nullptr ? Vec::zero() : load(offset, v);
  }
  for (std::int64_t begin = 0; begin < length; begin += kPiece) {
    const std::int64_t end = begin + kPiece < length ? begin + kPiece : length;
    Vec sum[kVecs];
    for (int v = 0; v < kVecs; ++v) sum[v] = Vec(Rule::kStart);
    for (std::int64_t i = begin; i < end; ++i) {
      for (int v = 0; v < kVecs; ++v) sum[v] = Rule::join(sum[v], Rule::take(load(x + i * stride, v), shift[v]));
    }
    for (int v = 0; v < kVecs; ++v) total[v] = Rule::join(total[v], sum[v]);
  }
  for (int v = 0; v < kVecs; ++v) {
    if (!kWhole && v == kVecs - 1) {
      total[v].store_first(acc + v * kWidth, last);
    } else {
      total[v].store(acc + v * kWidth);
    }
  }
}

template <typename Rule>
void columns(const float* x, std::int64_t length, std::int64_t stride, std::int64_t cols, float* acc,
             const float* offset) {
  const auto at = [offset](std::int64_t c) { return offset == nullptr ? nullptr : offset + c; };
  std::int64_t c = 0;
  for (; c + 4 * kWidth <= cols; c += 4 * kWidth) {
    column_block<Rule, 4, true>(x + c, length, stride, kWidth, acc + c, at(c));
  }
  for (; c + kWidth <= cols; c += kWidth) {
    column_block<Rule, 1, true>(x + c, length, stride, kWidth, acc + c, at(c));
  }
  if (c < cols) column_block<Rule, 1, false>(x + c, length, stride, static_cast<int>(cols - c), acc + c, at(c));
}

template <typename F>
void for_rule(Fold fold, F&& f) {
  switch (fold) {
    case Fold::sum:
      return f(SumRule{});
    case Fold::sum_abs:
      return f(SumAbsRule{});
    case Fold::sum_square:
      return f(SumSquareRule{});
    case Fold::max:
      return f(MaxRule{});
    case Fold::min:
      return f(MinRule{});
    case Fold::product:
      return f(ProductRule{});
    case Fold::sum_exp:
      return f(SumExpRule{});
  }
}

void reduce_rows(Fold fold, const float* x, std::int64_t row_stride, std::int64_t count, std::int64_t length,
                 float* acc, const float* offset) {
  for_rule(fold, [&](auto rule) { rows<decltype(rule)>(x, row_stride, count, length, acc, offset); });
}

void reduce_columns(Fold fold, const float* x, std::int64_t length, std::int64_t stride, std::int64_t cols, float* acc,
                    const float* offset) {
  for_rule(fold, [&](auto rule) { columns<decltype(rule)>(x, length, stride, cols, acc, offset); });
}

void arg_rows(const float* x, std::int64_t row_stride, std::int64_t count, std::int64_t length, bool largest, bool last,
              std::int64_t* index) {
  for (std::int64_t r = 0; r < count; ++r) {
    const float* row = x + r * row_stride;
    // The extreme first, by vectors; then its position. NaN never compares as better.
    Vec best(largest ? -INFINITY : INFINITY);
    std::int64_t i = 0;
    for (; i + kWidth <= length; i += kWidth) {
      const Vec v = Vec::load(row + i);
      best = largest ? math::max(best, v) : math::min(best, v);
    }
    float extreme = largest ? horizontal_max(best) : horizontal_min(best);
    for (; i < length; ++i) {
      if (largest ? extreme < row[i] : row[i] < extreme) extreme = row[i];
    }
    std::int64_t found = 0;
    if (last) {
      for (std::int64_t k = length; k-- > 0;) {
        if (row[k] == extreme) {
          found = k;
          break;
        }
      }
    } else {
      std::int64_t k = 0;
      const Vec wanted(extreme);
      while (k + kWidth <= length && !any(Vec::load(row + k) == wanted)) k += kWidth;
      while (k < length && row[k] != extreme) ++k;
      found = k < length ? k : 0;
    }
    index[r] = found;
  }
}

void arg_columns(const float* x, std::int64_t length, std::int64_t stride, std::int64_t cols, bool largest, bool last,
                 std::int64_t* index) {
  constexpr std::int64_t kBlock = 64;
  for (std::int64_t c0 = 0; c0 < cols; c0 += kBlock) {
    const std::int64_t n = cols - c0 < kBlock ? cols - c0 : kBlock;
    float best[kBlock];
    std::int32_t where[kBlock];
    for (std::int64_t c = 0; c < n; ++c) best[c] = x[c0 + c], where[c] = 0;
    for (std::int64_t i = 1; i < length; ++i) {
      const float* row = x + i * stride + c0;
      for (std::int64_t c = 0; c < n; ++c) {
        const float v = row[c];
        const bool better = (largest ? v > best[c] : v < best[c]) || (last && v == best[c]);
        best[c] = better ? v : best[c];
        where[c] = better ? static_cast<std::int32_t>(i) : where[c];
      }
    }
    for (std::int64_t c = 0; c < n; ++c) index[c0 + c] = where[c];
  }
}

}  // namespace

extern const ReduceKernels kReduceKernels;
const ReduceKernels kReduceKernels = {reduce_rows, reduce_columns, arg_rows, arg_columns};

}  // namespace tenfold::cpu::TENFOLD_TIER
