// Scores are computed transposed, [keys, queries]: then k and v are read as they lie, only the few queries of the block
// are repacked; the softmax runs down columns, one query a lane; and the second product reads its left factor by
// broadcasts, for which a transposed matrix is as good.
//
// Keys come in blocks of kAttentionKeys with a running maximum and sum (Milakov and Gimelshein 2018, arXiv:1805.02867;
// Dao et al. 2022, arXiv:2205.14135). Scores carry the factor log2(e), so that the exponential is a power of two. The
// order of every sum depends on the shapes only.
#include "backend/cpu/kernels/attention.hpp"

#include "backend/cpu/kernels/gemm_block.hpp"
#include "backend/cpu/kernels/pack.hpp"
#include "backend/cpu/kernels/simd.hpp"
#include "backend/cpu/kernels/simd_math.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

namespace {

constexpr int kWidth = Vec::kWidth;
constexpr float kLog2E = 0x1.715476p+0F;
#if defined(__AVX512F__)
constexpr int kTileRows = 12;  // 2 vectors wide: 24 of 32 registers
#else
constexpr int kTileRows = 6;  // 2 vectors wide: 12 of 16 registers
#endif
/// Queries that go together through scores, softmax and values: with 128 keys their scores fill half of the first-level
/// cache (AVX-512), or less.
constexpr std::int64_t kGroup = 2 * kWidth;
/// Values that several groups read are copied together if they fit in the first-level cache: where they lie, among
/// those of other heads, their rows are a distance apart that leaves most of its sets unused. More of them are
/// transposed, as k lies already: both products are then the register tiles' own, whose panel has queries for columns.
constexpr std::int64_t kMostCopiedValues = 8192, kMostTransposedValues = 32768;

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
      : t_(task),
        out_stride_((task.value_depth + kWidth - 1) / kWidth * kWidth),
        // Whole vectors of queries; those beyond num_rows are zeros that nobody reads in the end.
        cols_((t_.num_rows + kWidth - 1) / kWidth * kWidth) {
    const std::int64_t block = t_.keys < kAttentionKeys ? t_.keys : kAttentionKeys;
    const bool has_groups = cols_ > kGroup;
    copies_ = has_groups && t_.v_row_stride > out_stride_ && block * out_stride_ <= kMostCopiedValues;
    transposes_ = has_groups && block * out_stride_ > kMostCopiedValues && block * out_stride_ <= kMostTransposedValues;
    q_ = t_.scratch;
    max_ = q_ + cols_ * t_.depth;
    sum_ = max_ + cols_;
    factor_ = sum_ + cols_;
    scores_ = factor_ + kGroup;
    mask_ = scores_ + kGroup * block;
    out_ = mask_ + (has_full_mask() ? kGroup * block : 0);
    values_ = out_ + cols_ * out_stride_;
  }

  void run() {
    pack_queries();
    fill(max_, cols_, -INFINITY);
    fill(sum_, cols_, 0.0F);
    fill(out_, (transposes_ ? cols_ : t_.num_rows) * out_stride_, 0.0F);
    for (std::int64_t begin = 0; begin < t_.keys; begin += kAttentionKeys) {
      const std::int64_t count = t_.keys - begin < kAttentionKeys ? t_.keys - begin : kAttentionKeys;
      v_ = t_.v + begin * t_.v_row_stride;
      v_stride_ = t_.v_row_stride;
      if (copies_) {
        pack_straight(v_, v_stride_, count, t_.value_depth, out_stride_, values_);
        v_ = values_;
        v_stride_ = out_stride_;
      } else if (transposes_) {
        transpose(v_, v_stride_, count, t_.value_depth, values_);
      }
      for (std::int64_t c = 0; c < cols_; c += kGroup) {
        const Group group = group_at(c);
        if (t_.causal && begin > last_visible_key(group)) continue;
        compute_scores(group, begin, count);
        if (has_full_mask()) pack_mask(group, begin, count);
        for (std::int64_t i = 0; i < group.width; i += kWidth) softmax(group, i, begin, count);
        if (transposes_) {
          if (begin > 0) scale_lanes(group, factor_);
          multiply(group, values_, count, t_.value_depth, count, scores_, transposed_results(group), begin > 0);
        } else {
          if (begin > 0) rescale(group);
          add_values(group, count);
        }
      }
    }
    if (transposes_) {
      write_transposed();
    } else {
      write_out();
    }
  }

 private:
  /// Queries from `first` on: `rows` of them in `width` lanes, which are whole vectors.
  struct Group {
    std::int64_t first, width, rows;
  };
  Group group_at(std::int64_t first) const {
    const std::int64_t width = cols_ - first < kGroup ? cols_ - first : kGroup;
    return {first, width, t_.num_rows - first < width ? t_.num_rows - first : width};
  }
  /// Calls f(lane, row, rows) for runs of a group's rows that belong to one head.
  template <typename F>
  void for_each_run(const Group& group, const F& f) const {
    for (std::int64_t lane = 0; lane < group.rows;) {
      const std::int64_t row = group.first + lane, left = t_.queries - query_of(row);
      const std::int64_t rows = left < group.rows - lane ? left : group.rows - lane;
      f(lane, row, rows);
      lane += rows;
    }
  }
  static void fill(float* p, std::int64_t n, float value) {
    for (std::int64_t i = 0; i < n; ++i) p[i] = value;
  }
  std::int64_t head_of(std::int64_t row) const { return (t_.row_begin + row) / t_.queries; }
  std::int64_t query_of(std::int64_t row) const { return (t_.row_begin + row) % t_.queries; }
  /// Is the mask the same for all rows of the block?
  bool is_key_mask() const { return t_.mask_row_stride == 0 && t_.mask_head_stride == 0; }
  bool has_full_mask() const { return t_.mask != nullptr && !is_key_mask(); }
  /// The last key that any row of the group sees.
  std::int64_t last_visible_key(const Group& group) const {
    std::int64_t last = -1;
    for (std::int64_t r = group.first; r < group.first + group.rows; ++r)
      last = query_of(r) > last ? query_of(r) : last;
    return last + t_.causal_offset;
  }

  /// q_[group][d][lane], scaled; zeros in lanes beyond the last row.
  void pack_queries() {
    const Vec factor(t_.scale * kLog2E);
    for (std::int64_t c = 0; c < cols_; c += kGroup) {
      const Group group = group_at(c);
      float* q = q_ + group.first * t_.depth;
      for_each_run(group, [&](std::int64_t lane, std::int64_t row, std::int64_t rows) {
        transpose_into(t_.q + head_of(row) * t_.q_head_stride + query_of(row) * t_.q_row_stride, t_.q_row_stride, rows,
                       t_.depth, q + lane, group.width);
      });
      for (std::int64_t d = 0; d < t_.depth; ++d, q += group.width) {
        for (std::int64_t i = 0; i < group.width; i += kWidth) {
          const std::int64_t there = group.rows - i;
          const Vec x = there >= kWidth ? Vec::load(q + i) : Vec::load_first(q + i, static_cast<int>(there));
          (x * factor).store(q + i);
        }
      }
    }
  }

  /// c[row][lane] = sum over `depth` of a[row][d] panel[d][lane], or that added to c.
  static void multiply(const Group& group, const float* a, std::int64_t a_stride, std::int64_t rows, std::int64_t depth,
                       const float* panel, float* c, bool accumulates) {
    TileArgs tile{};
    tile.depth = depth;
    tile.panel = panel;
    tile.c_stride = group.width;
    tile.tail = kWidth;
    tile.accumulates = accumulates;
    run_plain_rows(tile, rows, kTileRows, static_cast<int>(group.width / kWidth), a, a_stride, c, nullptr);
  }

  /// scores_[key][lane] = sum_d k[key][d] q[d][lane]
  void compute_scores(const Group& group, std::int64_t begin, std::int64_t count) {
    multiply(group, t_.k + begin * t_.k_row_stride, t_.k_row_stride, count, t_.depth, q_ + group.first * t_.depth,
             scores_, false);
  }

  /// mask_[key][lane]; the mask's rows are queries.
  void pack_mask(const Group& group, std::int64_t begin, std::int64_t count) {
    for (std::int64_t i = 0; i < group.width; ++i) {
      if (i >= group.rows) {
        for (std::int64_t s = 0; s < count; ++s) mask_[s * group.width + i] = 0;
        continue;
      }
      const std::int64_t r = group.first + i;
      const float* row = t_.mask + head_of(r) * t_.mask_head_stride + query_of(r) * t_.mask_row_stride;
      for (std::int64_t s = 0; s < count; ++s) mask_[s * group.width + i] = row[(begin + s) * t_.mask_key_stride];
    }
  }

  /// Turns the scores of a vector of queries, from lane `i` on, into e^(score - max), updates max_ and sum_, and says
  /// in factor_ what was summed up before must be multiplied by.
  void softmax(const Group& group, std::int64_t i, std::int64_t begin, std::int64_t count) {
    const std::int64_t c = group.first + i, stride = group.width;
    float* column = scores_ + i;
    const Vec old_max = Vec::load(max_ + c);
    Vec max = old_max;
    if (t_.mask == nullptr && !t_.causal) {
      Vec most[4] = {max, max, max, max};  // as many as the instruction takes cycles
      std::int64_t s = 0;
      for (; s + 4 <= count; s += 4) {
#pragma GCC unroll 4
        for (int u = 0; u < 4; ++u) most[u] = math::max(most[u], Vec::load(column + (s + u) * stride));
      }
      for (; s < count; ++s) most[0] = math::max(most[0], Vec::load(column + s * stride));
      max = math::max(math::max(most[0], most[1]), math::max(most[2], most[3]));
    } else {
      const Vec log2e(kLog2E);
      const float* key_mask = t_.mask != nullptr && is_key_mask() ? t_.mask + begin * t_.mask_key_stride : nullptr;
      alignas(64) float limit[kWidth];  // the last key that each lane's query sees
      for (int lane = 0; lane < kWidth; ++lane) {
        limit[lane] = !t_.causal || c + lane >= t_.num_rows ? static_cast<float>(t_.keys)
                                                            : static_cast<float>(query_of(c + lane) + t_.causal_offset);
      }
      const Vec last = Vec::load(limit);
      for (std::int64_t s = 0; s < count; ++s) {
        Vec x = Vec::load(column + s * stride);
        if (key_mask != nullptr) {
          x = fma(Vec(key_mask[s * t_.mask_key_stride]), log2e, x);
        } else if (t_.mask != nullptr) {
          x = fma(Vec::load(mask_ + s * stride + i), log2e, x);
        }
        if (t_.causal) x = math::select(last < Vec(static_cast<float>(begin + s)), Vec(-INFINITY), x);
        x.store(column + s * stride);
        max = math::max(max, x);
      }
    }
    // Nothing visible so far: any finite number does, the powers are 0.
    const Vec shift = math::select(max == Vec(-INFINITY), Vec(0.0F), max);
    Vec sum = Vec::zero(), other = Vec::zero();
    std::int64_t s = 0;
    for (; s + 2 <= count; s += 2) {
      const Vec a = math::exp2_bounded(Vec::load(column + s * stride) - shift);
      const Vec b = math::exp2_bounded(Vec::load(column + (s + 1) * stride) - shift);
      a.store(column + s * stride);
      b.store(column + (s + 1) * stride);
      sum = sum + a;
      other = other + b;
    }
    if (s < count) {
      const Vec a = math::exp2_bounded(Vec::load(column + s * stride) - shift);
      a.store(column + s * stride);
      sum = sum + a;
    }
    sum = sum + other;
    max.store(max_ + c);
    const Vec factor = math::exp2_bounded(old_max - shift);
    fma(Vec::load(sum_ + c), factor, sum).store(sum_ + c);
    factor.store(factor_ + i);
  }

  void rescale(const Group& group) {
    for (std::int64_t i = 0; i < group.rows; ++i) {
      const Vec factor(factor_[i]);
      float* row = out_ + (group.first + i) * out_stride_;
      for (std::int64_t j = 0; j < t_.value_depth; j += kWidth) (Vec::load(row + j) * factor).store(row + j);
    }
  }

  /// out_[group][j][lane]
  float* transposed_results(const Group& group) const { return out_ + group.first * out_stride_; }
  /// Each lane of the transposed results times its factor.
  void scale_lanes(const Group& group, const float* factors) const {
    for (std::int64_t i = 0; i < group.width; i += kWidth) {
      float* column = transposed_results(group) + i;
      const Vec factor = Vec::load(factors + i);
      for (std::int64_t j = 0; j < t_.value_depth; ++j, column += group.width)
        (Vec::load(column) * factor).store(column);
    }
  }
  void write_transposed() const {
    for (std::int64_t c = 0; c < cols_; c += kGroup) {
      const Group group = group_at(c);
      for (std::int64_t i = 0; i < group.width; i += kWidth) {
        // A query that sees nothing has sum 0 and gives 0.
        const Vec sum = Vec::load(sum_ + c + i), zero(0.0F);
        math::select(sum == zero, zero, Vec(1.0F) / sum).store(factor_ + i);
      }
      scale_lanes(group, factor_);
      for_each_run(group, [&](std::int64_t lane, std::int64_t row, std::int64_t rows) {
        transpose_into(transposed_results(group) + lane, group.width, t_.value_depth, rows,
                       t_.out + head_of(row) * t_.out_head_stride + query_of(row) * t_.out_row_stride,
                       t_.out_row_stride);
      });
    }
  }

  void add_values(const Group& group, std::int64_t count) {
    for (std::int64_t i = 0; i < group.rows;) {
      const int rows = static_cast<int>(next_tile_rows(group.rows - i, kTileRows));
      for (std::int64_t j = 0; j < t_.value_depth; j += 2 * kWidth) {
        const std::int64_t left = t_.value_depth - j;
        const float* p = scores_ + i;
        float* out = out_ + (group.first + i) * out_stride_ + j;
        if (left >= 2 * kWidth) {
          value_rows<2, true>(rows, p, group.width, v_ + j, v_stride_, count, out, out_stride_, kWidth);
        } else if (left > kWidth) {
          value_rows<2, false>(rows, p, group.width, v_ + j, v_stride_, count, out, out_stride_,
                               static_cast<int>(left - kWidth));
        } else if (left == kWidth) {
          value_rows<1, true>(rows, p, group.width, v_ + j, v_stride_, count, out, out_stride_, kWidth);
        } else {
          value_rows<1, false>(rows, p, group.width, v_ + j, v_stride_, count, out, out_stride_,
                               static_cast<int>(left));
        }
      }
      i += rows;
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
  std::int64_t out_stride_, cols_;
  bool copies_, transposes_;  ///< values; then results are transposed as well
  const float* v_ = nullptr;  ///< of the block's keys, where they lie or in values_
  std::int64_t v_stride_ = 0;
  float *q_, *scores_, *max_, *sum_, *factor_, *out_, *mask_, *values_;
};

void block(const AttentionTask& task) { Block(task).run(); }

}  // namespace

extern const AttentionKernels kAttentionKernels;
const AttentionKernels kAttentionKernels = {block};

}  // namespace tenfold::cpu::TENFOLD_TIER
