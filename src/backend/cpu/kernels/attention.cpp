// Scores are computed transposed, [keys, queries]: then k and v are read as they lie, only the few queries of the block
// are repacked; the softmax runs down columns, one query a lane; and the second product reads its left factor by
// broadcasts, for which a transposed matrix is as good.
//
// Keys come in blocks of kAttentionKeys with a running maximum and sum (Milakov and Gimelshein 2018, arXiv:1805.02867;
// Dao et al. 2022, arXiv:2205.14135). Scores carry the factor log2(e), so that the exponential is a power of two. The
// order of every sum depends on the shapes only.
#include "backend/cpu/kernels/attention.hpp"

#include "backend/cpu/kernels/pack.hpp"
#include "backend/cpu/kernels/simd.hpp"
#include "backend/cpu/kernels/simd_math.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

namespace {

constexpr int kWidth = Vec::kWidth;
constexpr float kLog2E = 0x1.715476p+0F;
#if defined(__AVX512F__)
constexpr int kScoreRows = 12, kValueRows = 12;  // 2 vectors wide: 24 of 32 registers
#else
constexpr int kScoreRows = 6, kValueRows = 6;  // 2 vectors wide: 12 of 16 registers
#endif

/// scores[r][j] = sum_d k[r][d] q[d][j] for kRows keys and kVecs vectors of queries.
template <int kRows, int kVecs>
inline void score_tile(const float* k, std::int64_t k_stride, const float* q, std::int64_t stride, std::int64_t depth,
                       float* scores) {
  Vec acc[kRows][kVecs];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kVecs; ++j) acc[r][j] = Vec::zero();
  }
  for (std::int64_t d = 0; d < depth; ++d) {
    Vec b[kVecs];
#pragma GCC unroll 2
    for (int j = 0; j < kVecs; ++j) b[j] = Vec::load(q + d * stride + j * kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Vec a = Vec::broadcast(k + r * k_stride + d);
#pragma GCC unroll 2
      for (int j = 0; j < kVecs; ++j) acc[r][j] = fma(a, b[j], acc[r][j]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kVecs; ++j) acc[r][j].store(scores + r * stride + j * kWidth);
  }
}

template <int kVecs>
void score_rows(int rows, const float* k, std::int64_t k_stride, const float* q, std::int64_t stride,
                std::int64_t depth, float* scores) {
  switch (rows) {
#define TENFOLD_CASE(n) \
  case n:               \
    return score_tile<n, kVecs>(k, k_stride, q, stride, depth, scores);
    TENFOLD_CASE(1)
    TENFOLD_CASE(2)
    TENFOLD_CASE(3)
    TENFOLD_CASE(4)
    TENFOLD_CASE(5)
    TENFOLD_CASE(6)
#if defined(__AVX512F__)
    TENFOLD_CASE(7)
    TENFOLD_CASE(8)
    TENFOLD_CASE(9)
    TENFOLD_CASE(10)
    TENFOLD_CASE(11)
    TENFOLD_CASE(12)
#endif
#undef TENFOLD_CASE
    default:
      return;
  }
}

/// out[r][j] += sum_s p[s][r] v[s][j] for kRows queries and kVecs vectors of value columns; the last vector has `last`
/// columns unless kWhole.
template <int kRows, int kVecs, bool kWhole>
inline void value_tile(const float* p, std::int64_t stride, const float* v, std::int64_t v_stride, std::int64_t keys,
                       float* out, std::int64_t out_stride, int last) {
  Vec acc[kRows][kVecs];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kVecs; ++j) acc[r][j] = Vec::load(out + r * out_stride + j * kWidth);
  }
  for (std::int64_t s = 0; s < keys; ++s) {
    Vec b[kVecs];
#pragma GCC unroll 2
    for (int j = 0; j < kVecs; ++j) {
      const float* from = v + s * v_stride + j * kWidth;
      b[j] = kWhole || j < kVecs - 1 ? Vec::load(from) : Vec::load_first(from, last);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Vec a = Vec::broadcast(p + s * stride + r);
#pragma GCC unroll 2
      for (int j = 0; j < kVecs; ++j) acc[r][j] = fma(a, b[j], acc[r][j]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kVecs; ++j) acc[r][j].store(out + r * out_stride + j * kWidth);
  }
}

template <int kVecs, bool kWhole>
void value_rows(int rows, const float* p, std::int64_t stride, const float* v, std::int64_t v_stride, std::int64_t keys,
                float* out, std::int64_t out_stride, int last) {
  switch (rows) {
#define TENFOLD_CASE(n) \
  case n:               \
    return value_tile<n, kVecs, kWhole>(p, stride, v, v_stride, keys, out, out_stride, last);
    TENFOLD_CASE(1)
    TENFOLD_CASE(2)
    TENFOLD_CASE(3)
    TENFOLD_CASE(4)
    TENFOLD_CASE(5)
    TENFOLD_CASE(6)
#if defined(__AVX512F__)
    TENFOLD_CASE(7)
    TENFOLD_CASE(8)
    TENFOLD_CASE(9)
    TENFOLD_CASE(10)
    TENFOLD_CASE(11)
    TENFOLD_CASE(12)
#endif
#undef TENFOLD_CASE
    default:
      return;
  }
}

class Block {
 public:
  explicit Block(const AttentionTask& task)
      : t_(task), stride_(attention_stride(task.num_rows)), out_stride_((task.value_depth + 15) / 16 * 16 + 16) {
    const std::int64_t block = t_.keys < kAttentionKeys ? t_.keys : kAttentionKeys;
    q_ = t_.scratch;
    scores_ = q_ + stride_ * t_.depth;
    max_ = scores_ + stride_ * block;
    sum_ = max_ + stride_;
    factor_ = sum_ + stride_;

    out_ = factor_ + stride_;
    mask_ = out_ + t_.num_rows * out_stride_;
    // Whole vectors of queries; those beyond num_rows are zeros that nobody reads in the end.
    cols_ = (t_.num_rows + kWidth - 1) / kWidth * kWidth;
  }

  void run() {
    pack_queries();
    fill(max_, cols_, -INFINITY);
    fill(sum_, cols_, 0.0F);
    fill(out_, t_.num_rows * out_stride_, 0.0F);
    for (std::int64_t begin = 0; begin < t_.keys; begin += kAttentionKeys) {
      const std::int64_t count = t_.keys - begin < kAttentionKeys ? t_.keys - begin : kAttentionKeys;
      if (t_.causal && begin > last_visible_key()) break;
      compute_scores(begin, count);
      if (t_.mask != nullptr && !is_key_mask()) pack_mask(begin, count);
      softmax(begin, count);
      add_values(begin, count);
    }
    write_out();
  }

 private:
  static void fill(float* p, std::int64_t n, float value) {
    for (std::int64_t i = 0; i < n; ++i) p[i] = value;
  }
  std::int64_t head_of(std::int64_t row) const { return (t_.row_begin + row) / t_.queries; }
  std::int64_t query_of(std::int64_t row) const { return (t_.row_begin + row) % t_.queries; }
  /// The last key that any row of the block sees.
  std::int64_t last_visible_key() const {
    std::int64_t last = -1;
    for (std::int64_t r = 0; r < t_.num_rows; ++r) last = query_of(r) > last ? query_of(r) : last;
    return last + t_.causal_offset;
  }

  /// q_[d][row], scaled; whole vectors of rows, zeros beyond the last.
  void pack_queries() {
    for (std::int64_t r = 0; r < t_.num_rows;) {
      const std::int64_t query = query_of(r);
      const std::int64_t rows = t_.queries - query < t_.num_rows - r ? t_.queries - query : t_.num_rows - r;
      transpose_into(t_.q + head_of(r) * t_.q_head_stride + query * t_.q_row_stride, t_.q_row_stride, rows, t_.depth,
                     q_ + r, stride_);
      r += rows;
    }
    const Vec factor(t_.scale * kLog2E);
    const std::int64_t whole = t_.num_rows / kWidth * kWidth;
    const int rest = static_cast<int>(t_.num_rows - whole);
    for (std::int64_t d = 0; d < t_.depth; ++d) {
      float* row = q_ + d * stride_;
      for (std::int64_t r = 0; r < whole; r += kWidth) (Vec::load(row + r) * factor).store(row + r);
      if (rest > 0) (Vec::load_first(row + whole, rest) * factor).store(row + whole);
    }
  }

  /// Is the mask the same for all rows of the block?
  bool is_key_mask() const { return t_.mask_row_stride == 0 && t_.mask_head_stride == 0; }

  /// mask_[key][row]; the mask's rows are queries.
  void pack_mask(std::int64_t begin, std::int64_t count) {
    for (std::int64_t r = 0; r < cols_; ++r) {
      if (r >= t_.num_rows) {
        for (std::int64_t s = 0; s < count; ++s) mask_[s * stride_ + r] = 0;
        continue;
      }
      const float* row = t_.mask + head_of(r) * t_.mask_head_stride + query_of(r) * t_.mask_row_stride;
      for (std::int64_t s = 0; s < count; ++s) mask_[s * stride_ + r] = row[(begin + s) * t_.mask_key_stride];
    }
  }

  void compute_scores(std::int64_t begin, std::int64_t count) {
    const float* k = t_.k + begin * t_.k_row_stride;
    for (std::int64_t c = 0; c < cols_; c += 2 * kWidth) {
      const bool pair = c + kWidth < cols_;
      for (std::int64_t s = 0; s < count; s += kScoreRows) {
        const int rows = count - s < kScoreRows ? static_cast<int>(count - s) : kScoreRows;
        const float* from = k + s * t_.k_row_stride;
        float* to = scores_ + s * stride_ + c;
        if (pair) {
          score_rows<2>(rows, from, t_.k_row_stride, q_ + c, stride_, t_.depth, to);
        } else {
          score_rows<1>(rows, from, t_.k_row_stride, q_ + c, stride_, t_.depth, to);
        }
      }
    }
  }

  /// Turns scores into e^(score - max), updates max_ and sum_, and rescales what was summed up before.
  void softmax(std::int64_t begin, std::int64_t count) {
    const bool is_first = begin == 0;
    bool rescale = false;
    for (std::int64_t c = 0; c < cols_; c += kWidth) {
      float* column = scores_ + c;
      const Vec old_max = Vec::load(max_ + c);
      Vec max = old_max;
      const float* key_mask = nullptr;
      if (t_.mask != nullptr && is_key_mask()) {
        key_mask = t_.mask + begin * t_.mask_key_stride;
      }
      if (t_.mask == nullptr && !t_.causal) {
        Vec other = max;
        std::int64_t s = 0;
        for (; s + 2 <= count; s += 2) {
          max = math::max(max, Vec::load(column + s * stride_));
          other = math::max(other, Vec::load(column + (s + 1) * stride_));
        }
        if (s < count) max = math::max(max, Vec::load(column + s * stride_));
        max = math::max(max, other);
      } else {
        const Vec log2e(kLog2E);
        alignas(64) float limit[kWidth];  // the last key that each lane's query sees
        for (int i = 0; i < kWidth; ++i) {
          limit[i] = !t_.causal || c + i >= t_.num_rows ? static_cast<float>(t_.keys)
                                                        : static_cast<float>(query_of(c + i) + t_.causal_offset);
        }
        const Vec last = Vec::load(limit);
        for (std::int64_t s = 0; s < count; ++s) {
          Vec x = Vec::load(column + s * stride_);
          if (key_mask != nullptr) {
            x = fma(Vec(key_mask[s * t_.mask_key_stride]), log2e, x);
          } else if (t_.mask != nullptr) {
            x = fma(Vec::load(mask_ + s * stride_ + c), log2e, x);
          }
          if (t_.causal) x = math::select(last < Vec(static_cast<float>(begin + s)), Vec(-INFINITY), x);
          x.store(column + s * stride_);
          max = math::max(max, x);
        }
      }
      // Nothing visible so far: any finite number does, the powers are 0.
      const Vec shift = math::select(max == Vec(-INFINITY), Vec(0.0F), max);
      Vec sum = Vec::zero(), other = Vec::zero();
      std::int64_t s = 0;
      for (; s + 2 <= count; s += 2) {
        const Vec a = math::exp2_bounded(Vec::load(column + s * stride_) - shift);
        const Vec b = math::exp2_bounded(Vec::load(column + (s + 1) * stride_) - shift);
        a.store(column + s * stride_);
        b.store(column + (s + 1) * stride_);
        sum = sum + a;
        other = other + b;
      }
      if (s < count) {
        const Vec a = math::exp2_bounded(Vec::load(column + s * stride_) - shift);
        a.store(column + s * stride_);
        sum = sum + a;
      }
      sum = sum + other;
      max.store(max_ + c);
      if (is_first) {
        sum.store(sum_ + c);
        continue;
      }
      const Vec factor = math::exp2_bounded(old_max - shift);
      fma(Vec::load(sum_ + c), factor, sum).store(sum_ + c);
      factor.store(factor_ + c);
      rescale = true;
    }
    if (!rescale) return;
    for (std::int64_t r = 0; r < t_.num_rows; ++r) {
      const Vec factor(factor_[r]);
      for (std::int64_t j = 0; j < t_.value_depth; j += kWidth) {
        (Vec::load(out_ + r * out_stride_ + j) * factor).store(out_ + r * out_stride_ + j);
      }
    }
  }

  void add_values(std::int64_t begin, std::int64_t count) {
    const float* v = t_.v + begin * t_.v_row_stride;
    const std::int64_t stride = t_.v_row_stride;
    for (std::int64_t r = 0; r < t_.num_rows; r += kValueRows) {
      const int rows = t_.num_rows - r < kValueRows ? static_cast<int>(t_.num_rows - r) : kValueRows;
      for (std::int64_t j = 0; j < t_.value_depth; j += 2 * kWidth) {
        const std::int64_t left = t_.value_depth - j;
        float* out = out_ + r * out_stride_ + j;
        if (left >= 2 * kWidth) {
          value_rows<2, true>(rows, scores_ + r, stride_, v + j, stride, count, out, out_stride_, kWidth);
        } else if (left > kWidth) {
          value_rows<2, false>(rows, scores_ + r, stride_, v + j, stride, count, out, out_stride_,
                               static_cast<int>(left - kWidth));
        } else if (left == kWidth) {
          value_rows<1, true>(rows, scores_ + r, stride_, v + j, stride, count, out, out_stride_, kWidth);
        } else {
          value_rows<1, false>(rows, scores_ + r, stride_, v + j, stride, count, out, out_stride_,
                               static_cast<int>(left));
        }
      }
    }
  }

  void write_out() {
    for (std::int64_t r = 0; r < t_.num_rows; ++r) {
      float* to = t_.out + head_of(r) * t_.out_head_stride + query_of(r) * t_.out_row_stride;
      const float* from = out_ + r * out_stride_;
      // A query that sees nothing has sum 0 and gives 0.
      const Vec factor(sum_[r] == 0.0F ? 0.0F : 1.0F / sum_[r]);
      std::int64_t j = 0;
      for (; j + kWidth <= t_.value_depth; j += kWidth) (Vec::load(from + j) * factor).store(to + j);
      if (j < t_.value_depth) {
        (Vec::load(from + j) * factor).store_first(to + j, static_cast<int>(t_.value_depth - j));
      }
    }
  }

  const AttentionTask& t_;
  std::int64_t stride_, out_stride_, cols_;
  float *q_, *scores_, *max_, *sum_, *factor_, *out_, *mask_;
};

void block(const AttentionTask& task) { Block(task).run(); }

}  // namespace

extern const AttentionKernels kAttentionKernels;
const AttentionKernels kAttentionKernels = {block};

}  // namespace tenfold::cpu::TENFOLD_TIER
