// The products are vectors times a matrix that does not fit into the first-level cache: bound by reading the weights,
// which a block reads once for up to kMaxSums sequences of the batch.
#include "backend/cpu/kernels/recurrent.hpp"

#include <algorithm>

#include "backend/cpu/kernels/simd.hpp"
#include "backend/cpu/kernels/simd_math.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

namespace {

constexpr int kWidth = Vec::kWidth;
/// Sums of four gates that registers hold beside a row of weights.
#if defined(__AVX512F__)
constexpr int kMaxRows = 6;
#else
constexpr int kMaxRows = 3;
#endif

constexpr int kLineFloats = 16;
/// How far ahead one sequence alone, which does nothing but read, fetches its weights into the first-level cache.
constexpr int kAheadFloats = 1024;

/// acc[n][g] += sum_k h[n][k] * weights[k][g] for kRows sequences. One sequence alone takes even and odd k in turns:
/// its few sums would otherwise wait for each other.
template <int kGates, int kRows>
inline void multiply(const float* weights, const float* h, std::int64_t h_stride, std::int64_t hidden,
                     Vec (&acc)[kRows][kGates]) {
  std::int64_t k = 0;
  if constexpr (kRows == 1) {
    Vec odd[kGates];
    for (int g = 0; g < kGates; ++g) odd[g] = Vec::zero();
    for (; k + 2 <= hidden; k += 2) {
      const Vec a = Vec::broadcast(h + k), b = Vec::broadcast(h + k + 1);
      const float* w = weights + k * kGates * kWidth;
#pragma GCC unroll 8
      for (int i = 0; i < 2 * kGates * kWidth; i += kLineFloats) __builtin_prefetch(w + kAheadFloats + i);
#pragma GCC unroll 4
      for (int g = 0; g < kGates; ++g) {
        acc[0][g] = fma(a, Vec::load(w + g * kWidth), acc[0][g]);
        odd[g] = fma(b, Vec::load(w + (kGates + g) * kWidth), odd[g]);
      }
    }
    for (int g = 0; g < kGates; ++g) acc[0][g] = acc[0][g] + odd[g];
  }
  for (; k < hidden; ++k) {
    const float* w = weights + k * kGates * kWidth;
    Vec row[kGates];
#pragma GCC unroll 4
    for (int g = 0; g < kGates; ++g) row[g] = Vec::load(w + g * kWidth);
#pragma GCC unroll 6
    for (int n = 0; n < kRows; ++n) {
      const Vec a = Vec::broadcast(h + n * h_stride + k);
#pragma GCC unroll 4
      for (int g = 0; g < kGates; ++g) acc[n][g] = fma(a, row[g], acc[n][g]);
    }
  }
}

inline void store_units(Vec value, float* p, std::int64_t unit, std::int64_t hidden) {
  const std::int64_t left = hidden - unit;
  if (left >= kWidth) {
    value.store(p + unit);
  } else {
    value.store_first(p + unit, static_cast<int>(left));
  }
}

/// A block's sums of up to kMaxSums sequences, in memory: for all of them the block's weights come into the first-level
/// cache once, in pieces.
constexpr int kMaxSums = 4 * kMaxRows;
constexpr std::int64_t kPieceFloats = 4096;
template <int kGates>
using Sums = float[kMaxSums][kGates][kWidth];

template <int kGates, int kRows>
void add_product(const float* weights, const float* h, std::int64_t h_stride, std::int64_t depth,
                 float (*sums)[kGates][kWidth]) {
  Vec acc[kRows][kGates];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int g = 0; g < kGates; ++g) acc[r][g] = Vec::load(sums[r][g]);
  }
  multiply<kGates, kRows>(weights, h, h_stride, depth, acc);
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int g = 0; g < kGates; ++g) acc[r][g].store(sums[r][g]);
  }
}

/// `count` sequences in groups of equal size.
// Inlined by force: out of line, gcc makes one sequence alone half as fast again.
template <int kGates>
[[gnu::always_inline]] inline void add_products(const float* weights, const float* h, std::int64_t h_stride,
                                                std::int64_t depth, std::int64_t count, float (*sums)[kGates][kWidth]) {
  for (std::int64_t n = 0; n < count;) {
    const std::int64_t rest = count - n, parts = (rest + kMaxRows - 1) / kMaxRows;
    const std::int64_t rows = (rest + parts - 1) / parts;
    const float* own_h = h + n * h_stride;
    switch (rows) {
      case 1:
        add_product<kGates, 1>(weights, own_h, h_stride, depth, sums + n);
        break;
      case 2:
        add_product<kGates, 2>(weights, own_h, h_stride, depth, sums + n);
        break;
#if defined(__AVX512F__)
      case 4:
        add_product<kGates, 4>(weights, own_h, h_stride, depth, sums + n);
        break;
      case 5:
        add_product<kGates, 5>(weights, own_h, h_stride, depth, sums + n);
        break;
      case 6:
        add_product<kGates, 6>(weights, own_h, h_stride, depth, sums + n);
        break;
#endif
      default:
        add_product<kGates, 3>(weights, own_h, h_stride, depth, sums + n);
    }
    n += rows;
  }
}

#if !defined(__AVX512F__)
/// How many groups of four sequences are taken out, so that the others come in threes: the sums of two sequences and
/// four gates are so few that the multiply-adds wait for each other, which costs as much as a third sequence.
constexpr std::int64_t num_fours(std::int64_t sequences) {
  const std::int64_t fours = sequences % 3;
  return 4 * fours <= sequences ? fours : 0;
}
/// Blocks that are computed together for groups of four: three times three gates, and the fourth gates.
constexpr int kJoined = 3;
constexpr std::int64_t kJoinedDepth = 64;

/// Four sequences by a vector of each of three columns, `step` floats from one k to the next.
inline void add_columns(const float* const (&columns)[3], std::int64_t step, const float* h, std::int64_t h_stride,
                        std::int64_t depth, float* const (&sums)[3], std::int64_t sums_stride) {
  Vec acc[4][3];
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) acc[r][j] = Vec::load(sums[j] + r * sums_stride);
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    Vec row[3];
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) row[j] = Vec::load(columns[j] + k * step);
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      const Vec a = Vec::broadcast(h + r * h_stride + k);
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) acc[r][j] = fma(a, row[j], acc[r][j]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) acc[r][j].store(sums[j] + r * sums_stride);
  }
}

/// The same for the four gates of kJoined blocks, whose weights lie `block_stride` floats apart.
inline void add_joined(const float* weights, std::int64_t block_stride, const float* h, std::int64_t h_stride,
                       std::int64_t depth, Sums<4>* sums, std::int64_t first) {
  constexpr std::int64_t kStep = 4 * kWidth;
  const auto column = [&](int block, int gate) { return weights + block * block_stride + gate * kWidth; };
  const auto sum = [&](int block, int gate) { return sums[block][first][gate]; };
  for (int b = 0; b < 3; ++b) {
    add_columns({column(b, 0), column(b, 1), column(b, 2)}, kStep, h, h_stride, depth,
                {sum(b, 0), sum(b, 1), sum(b, 2)}, kStep);
  }
  add_columns({column(0, 3), column(1, 3), column(2, 3)}, kStep, h, h_stride, depth, {sum(0, 3), sum(1, 3), sum(2, 3)},
              kStep);
}

#endif

/// Sums begin with f.start, f.finish takes them. The input's sums have `input_gates` gates.
template <int kGates, typename F>
void for_blocks(const RecurrentStep& s, const float* weights, const float* h, std::int64_t begin, std::int64_t end,
                int input_gates, F f) {
  alignas(64) Sums<kGates> sums;
  for (std::int64_t block = begin; block < end; ++block) {
    const auto input_sums = [&](std::int64_t n) { return s.sums + n * s.sums_stride + block * input_gates * kWidth; };
    for (std::int64_t first = 0; first < s.batch; first += kMaxSums) {
      const std::int64_t count = std::min<std::int64_t>(kMaxSums, s.batch - first);
      for (std::int64_t n = 0; n < count; ++n) {
#pragma GCC unroll 4
        for (int g = 0; g < kGates; ++g) f.start(input_sums(first + n), block, g).store(sums[n][g]);
      }
      const std::int64_t piece = count <= kMaxRows ? s.hidden : kPieceFloats / (kGates * kWidth);
      for (std::int64_t k = 0; k < s.hidden; k += piece) {
        add_products<kGates>(weights + (block * s.hidden + k) * kGates * kWidth, h + first * s.padded_hidden + k,
                             s.padded_hidden, std::min(piece, s.hidden - k), count, sums);
      }
      for (std::int64_t n = 0; n < count; ++n) {
        Vec gates[kGates];
#pragma GCC unroll 4
        for (int g = 0; g < kGates; ++g) gates[g] = Vec::load(sums[n][g]);
        f.finish(gates, input_sums(first + n), block, first + n);
      }
    }
  }
}

#if !defined(__AVX512F__)
/// for_blocks<4> for groups of kJoined blocks, as long as there are whole ones; returns the first block that is left.
template <typename F>
std::int64_t for_joined_blocks(const RecurrentStep& s, std::int64_t begin, std::int64_t end, F f) {
  alignas(64) Sums<4> sums[kJoined];
  const std::int64_t block_stride = s.hidden * 4 * kWidth;
  const auto input_sums = [&](std::int64_t block, std::int64_t n) {
    return s.sums + n * s.sums_stride + block * 4 * kWidth;
  };
  std::int64_t block = begin;
  for (; block + kJoined <= end; block += kJoined) {
    for (std::int64_t first = 0; first < s.batch; first += kMaxSums) {
      const std::int64_t count = std::min<std::int64_t>(kMaxSums, s.batch - first), in_fours = 4 * num_fours(count);
      for (int b = 0; b < kJoined; ++b) {
        for (std::int64_t n = 0; n < count; ++n) {
#pragma GCC unroll 4
          for (int g = 0; g < 4; ++g) f.start(input_sums(block + b, first + n), block + b, g).store(sums[b][n][g]);
        }
      }
      for (std::int64_t k = 0; k < s.hidden; k += kJoinedDepth) {
        const std::int64_t depth = std::min(kJoinedDepth, s.hidden - k);
        const float* weights = s.weights + block * block_stride + k * 4 * kWidth;
        const float* h = s.h + first * s.padded_hidden + k;
        for (std::int64_t n = 0; n < in_fours; n += 4) {
          add_joined(weights, block_stride, h + n * s.padded_hidden, s.padded_hidden, depth, sums, n);
        }
        for (int b = 0; b < kJoined; ++b) {
          add_products<4>(weights + b * block_stride, h + in_fours * s.padded_hidden, s.padded_hidden, depth,
                          count - in_fours, sums[b] + in_fours);
        }
      }
      for (int b = 0; b < kJoined; ++b) {
        for (std::int64_t n = 0; n < count; ++n) {
          Vec gates[4];
#pragma GCC unroll 4
          for (int g = 0; g < 4; ++g) gates[g] = Vec::load(sums[b][n][g]);
          f.finish(gates, input_sums(block + b, first + n), block + b, first + n);
        }
      }
    }
  }
  return block;
}
#endif

struct Common {
  const RecurrentStep& s;
  Vec start(const float* sums, std::int64_t, int gate) const { return Vec::load(sums + gate * kWidth); }
  void set_h(Vec h, std::int64_t block, std::int64_t n) const {
    h.store(s.next_h + n * s.padded_hidden + block * kWidth);
    if (s.y != nullptr) store_units(h, s.y + n * s.y_stride, block * kWidth, s.hidden);
  }
  Vec old_h(std::int64_t block, std::int64_t n) const { return Vec::load(s.h + n * s.padded_hidden + block * kWidth); }
};

struct LstmRule : Common {
  void finish(const Vec (&gate)[4], const float*, std::int64_t block, std::int64_t n) const {
    const Vec in = math::sigmoid(gate[0]), out = math::sigmoid(gate[1]), forget = math::sigmoid(gate[2]);
    float* cell = s.c + n * s.padded_hidden + block * kWidth;
    const Vec c = fma(forget, Vec::load(cell), in * math::tanh(gate[3]));
    c.store(cell);
    set_h(out * math::tanh(c), block, n);
  }
};

struct RnnRule : Common {
  void finish(const Vec (&gate)[1], const float*, std::int64_t block, std::int64_t n) const {
    set_h(math::tanh(gate[0]), block, n);
  }
};

struct GruRule : Common {
  /// The candidate's recurrent sum stays apart from its input sum.
  Vec start(const float* sums, std::int64_t block, int gate) const {
    return gate == 2 ? Vec::load(s.candidate_bias + block * kWidth) : Vec::load(sums + gate * kWidth);
  }
  void finish(const Vec (&gate)[3], const float* sums, std::int64_t block, std::int64_t n) const {
    const Vec update = math::sigmoid(gate[0]), reset = math::sigmoid(gate[1]);
    const Vec candidate = math::tanh(fma(reset, gate[2], Vec::load(sums + 2 * kWidth)));
    set_h(fma(update, old_h(block, n) - candidate, candidate), block, n);
  }
};

struct GruGatesRule : Common {
  void finish(const Vec (&gate)[2], const float*, std::int64_t block, std::int64_t n) const {
    const std::int64_t at = n * s.padded_hidden + block * kWidth;
    math::sigmoid(gate[0]).store(s.update + at);
    (math::sigmoid(gate[1]) * old_h(block, n)).store(s.reset_h + at);
  }
};

struct GruCandidateRule : Common {
  Vec start(const float* sums, std::int64_t, int) const { return Vec::load(sums + 2 * kWidth); }
  void finish(const Vec (&gate)[1], const float*, std::int64_t block, std::int64_t n) const {
    const Vec update = Vec::load(s.update + n * s.padded_hidden + block * kWidth);
    const Vec candidate = math::tanh(gate[0]);
    set_h(fma(update, old_h(block, n) - candidate, candidate), block, n);
  }
};

void lstm(const RecurrentStep& s, std::int64_t begin, std::int64_t end) {
#if !defined(__AVX512F__)
  if (num_fours(s.batch % kMaxSums) > 0) begin = for_joined_blocks(s, begin, end, LstmRule{{s}});
#endif
  for_blocks<4>(s, s.weights, s.h, begin, end, 4, LstmRule{{s}});
}
void rnn(const RecurrentStep& s, std::int64_t begin, std::int64_t end) {
  for_blocks<1>(s, s.weights, s.h, begin, end, 1, RnnRule{{s}});
}
void gru(const RecurrentStep& s, std::int64_t begin, std::int64_t end) {
  for_blocks<3>(s, s.weights, s.h, begin, end, 3, GruRule{{s}});
}
void gru_gates(const RecurrentStep& s, std::int64_t begin, std::int64_t end) {
  for_blocks<2>(s, s.weights, s.h, begin, end, 3, GruGatesRule{{s}});
}
void gru_candidate(const RecurrentStep& s, std::int64_t begin, std::int64_t end) {
  for_blocks<1>(s, s.candidate_weights, s.reset_h, begin, end, 3, GruCandidateRule{{s}});
}

}  // namespace

extern const RecurrentKernels kRecurrentKernels;
const RecurrentKernels kRecurrentKernels = {lstm, rnn, gru, gru_gates, gru_candidate};

}  // namespace tenfold::cpu::TENFOLD_TIER
