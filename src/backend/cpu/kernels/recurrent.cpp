// The products are vectors times a matrix that does not fit into the first-level cache: bound by reading the weights,
// which a block reads once for up to kMaxSums sequences of the batch. Every other step goes through the groups from the
// last to the first, so that it finds in the second-level cache what the step before read last, also where that cache
// does not hold them all.
#include "backend/cpu/kernels/recurrent.hpp"

#include "backend/cpu/kernels/simd.hpp"
#include "backend/cpu/kernels/simd_math.hpp"
#include "backend/cpu/kernels/split.hpp"
#include "backend/cpu/kernels/tile_steps.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

namespace {

constexpr int kWidth = Vec::kWidth;
/// Sequences that are multiplied by a panel at once, and sums that hide a multiply-add's latency: few sequences take
/// several k in turns.
#if defined(__AVX512F__)
constexpr int kMaxRows = 6, kMaxGroupBlocks = 1, kEnoughSums = 8;
constexpr std::int64_t kPieceFloats = 4096;
#else
constexpr int kMaxRows = 4, kMaxGroupBlocks = 3, kEnoughSums = 12;
constexpr std::int64_t kPieceFloats = 3072;
#endif
/// Sequences that share a piece of kPieceFloats weights in the first-level cache.
constexpr int kMaxSums = 4 * kMaxRows;

constexpr int kLineFloats = 16;
/// How far ahead one sequence alone, which does nothing but read, fetches its weights into the first-level cache.
constexpr int kAheadFloats = 1024;

/// sums[n][v] += sum_k h[n][k] * weights[k][v] for kRows sequences and kVectors vectors. kAlone: there are no others,
/// so the order of a sum depends on the batch only and not on how it is shared. `next`: the weights that are read then.
template <int kRows, int kVectors, bool kAlone = false>
void add_product(const float* weights, const float* next, const float* h, std::int64_t h_stride, std::int64_t depth,
                 float* sums, std::int64_t sums_stride) {
  constexpr int kTurns = kAlone && kRows * kVectors < kEnoughSums ? kEnoughSums / (kRows * kVectors) : 1;
  constexpr int kStep = kVectors * kWidth;
  Vec acc[kTurns][kRows][kVectors];
#pragma GCC unroll 8
  for (int n = 0; n < kRows; ++n) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      acc[0][n][v] = Vec::load(sums + n * sums_stride + v * kWidth);
#pragma GCC unroll 12
      for (int t = 1; t < kTurns; ++t) acc[t][n][v] = Vec::zero();
    }
  }
  const auto multiply = [&](std::int64_t k, int turn) __attribute__((always_inline)) {
    const float* w = weights + k * kStep;
    Vec row[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) row[v] = Vec::load(w + v * kWidth);
#pragma GCC unroll 8
    for (int n = 0; n < kRows; ++n) {
      const Vec a = Vec::broadcast(h + n * h_stride + k);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[turn][n][v] = fma(a, row[v], acc[turn][n][v]);
    }
  };
  std::int64_t k = 0;
  if constexpr (kIsStepped<kRows, kVectors>) {
    if (const std::int64_t turns = depth / kTileSteps; turns > 0) {
      run_even_steps<kRows, kVectors>(
          weights, h, h_stride,
          turns, [&](int n, int v) __attribute__((always_inline))->Vec & { return acc[0][n][v]; });
      k = turns * kTileSteps;
    }
  }
  [[maybe_unused]] const std::int64_t floats = depth * kStep;
  for (; k + kTurns <= depth; k += kTurns) {
    if constexpr (kAlone && kRows == 1) {
      const std::int64_t at = k * kStep + kAheadFloats;
      const float* ahead = at < floats ? weights + at : next + (at - floats);
#pragma GCC unroll 12
      for (int i = 0; i < kTurns * kStep; i += kLineFloats) __builtin_prefetch(ahead + i);
    }
#pragma GCC unroll 12
    for (int t = 0; t < kTurns; ++t) multiply(k + t, t);
  }
  for (; k < depth; ++k) multiply(k, 0);
#pragma GCC unroll 8
  for (int n = 0; n < kRows; ++n) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 12
      for (int t = 1; t < kTurns; ++t) acc[0][n][v] = acc[0][n][v] + acc[t][n][v];
      acc[0][n][v].store(sums + n * sums_stride + v * kWidth);
    }
  }
}

using AddProduct = void (*)(const float* weights, const float* next, const float* h, std::int64_t h_stride,
                            std::int64_t depth, float* sums, std::int64_t sums_stride);
template <int kVectors>
AddProduct add_product_of(std::int64_t rows, bool alone) {
  switch (rows) {
    case 1:
      return alone ? add_product<1, kVectors, true> : add_product<1, kVectors>;
    case 2:
      return alone ? add_product<2, kVectors, true> : add_product<2, kVectors>;
    case 3:
      return add_product<3, kVectors>;
#if defined(__AVX512F__)
    case 4:
      return add_product<4, kVectors>;
    case 5:
      return add_product<5, kVectors>;
#endif
    default:
      return add_product<kMaxRows, kVectors>;
  }
}

/// A panel of `vectors` by `count` sequences; then that at `next` is read.
void add_panel(const float* weights, const float* next, const float* h, std::int64_t h_stride, std::int64_t depth,
               std::int64_t vectors, std::int64_t count, bool alone, float* sums, std::int64_t sums_stride) {
  const auto add_product_of_panel = [&](std::int64_t rows) {
    switch (vectors) {
      case 1:
        return add_product_of<1>(rows, alone);
      case 2:
        return add_product_of<2>(rows, alone);
#if defined(__AVX512F__)
      case 4:
        return add_product_of<4>(rows, alone);
#endif
      default:
        return add_product_of<3>(rows, alone);
    }
  };
  const std::int64_t piece = count <= kMaxRows ? depth : kPieceFloats / kWidth / vectors;
  for (std::int64_t k = 0; k < depth; k += piece) {
    for (std::int64_t n = 0; n < count;) {
      // The last two groups share what is left.
      const std::int64_t rest = count - n;
      const std::int64_t rows = rest >= 2 * kMaxRows ? kMaxRows : rest > kMaxRows ? (rest + 1) / 2 : rest;
      add_product_of_panel(rows)(weights + k * vectors * kWidth, next, h + n * h_stride + k, h_stride,
                                 min(piece, depth - k), sums + n * sums_stride, sums_stride);
      n += rows;
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

/// A group of blocks for some sequences, with the sums of their gates.
template <int kGates>
struct Group {
  static constexpr int kVectors = kMaxGroupBlocks * kGates;
  std::int64_t first_block, blocks, first, count;
  std::int64_t next_block;  ///< the first one of the group that comes then
  float (*sums)[kVectors * kWidth];

  /// f(sequence, block, its gates)
  template <typename F>
  void for_each(F f) const {
    for (std::int64_t n = 0; n < count; ++n) {
      for (std::int64_t b = 0; b < blocks; ++b) f(first + n, first_block + b, sums[n] + b * kGates * kWidth);
    }
  }
};

/// rule.start gives what the sums begin with, rule.finish takes them.
template <int kGates, typename Rule>
void for_groups(const Rule& rule, const float* weights, const float* h, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kPanelVectors = recurrent_panel_vectors(kGates, kWidth);
  const RecurrentStep& s = rule.s;
  const RecurrentGroups groups(s.padded_hidden / kWidth, kWidth);
  const bool alone = s.whole_batch <= kFewSequences;
  alignas(64) float sums[kMaxSums][Group<kGates>::kVectors * kWidth];
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t at = s.downwards ? begin + end - 1 - i : i;
    const std::int64_t block = groups.first_block(at), blocks = groups.first_block(at + 1) - block;
    const std::int64_t vectors = blocks * kGates;
    // Behind the last one comes the same one again, in the next step's order.
    const std::int64_t next_block = i + 1 == end ? block : groups.first_block(s.downwards ? at - 1 : at + 1);
    for (std::int64_t first = 0; first < s.batch; first += kMaxSums) {
      const std::int64_t count = min(kMaxSums, s.batch - first);
      const Group<kGates> group{block, blocks, first, count, next_block, sums};
      group.for_each([&](std::int64_t n, std::int64_t b, float* gates) {
#pragma GCC unroll 4
        for (int g = 0; g < kGates; ++g) rule.start(n, b, g).store(gates + g * kWidth);
      });
      rule.fetch_next(group);
      for (std::int64_t v = 0; v < vectors; v += kPanelVectors) {
        const auto panel_at = [&](std::int64_t vector) { return weights + vector * kWidth * s.hidden; };
        const std::int64_t wide = min(kPanelVectors, vectors - v), vector = block * kGates + v;
        const std::int64_t next = v + wide < vectors ? vector + wide : next_block * kGates;
        add_panel(panel_at(vector), panel_at(next), h + first * s.padded_hidden, s.padded_hidden, s.hidden, wide, count,
                  alone, sums[0] + v * kWidth, Group<kGates>::kVectors * kWidth);
      }
      rule.finish(group);
    }
  }
}

/// The input's sums have kInputGates gates.
template <int kInputGates>
struct Common {
  const RecurrentStep& s;

  const float* input(std::int64_t n, std::int64_t block) const {
    return s.sums + n * s.sums_stride + block * kInputGates * kWidth;
  }
  Vec start(std::int64_t n, std::int64_t block, int gate) const { return Vec::load(input(n, block) + gate * kWidth); }
  /// The next group's sums, a few lines of each row, which no processor foresees.
  template <typename G>
  void fetch_next(const G& group) const {
    const std::int64_t floats = group.blocks * kInputGates * kWidth;
    for (std::int64_t n = 0; n < group.count; ++n) {
      const float* next = input(group.first + n, group.next_block);
      for (std::int64_t i = 0; i < floats; i += kLineFloats) __builtin_prefetch(next + i);
    }
  }
  std::int64_t state(std::int64_t n, std::int64_t block) const { return n * s.padded_hidden + block * kWidth; }
  void set_h(Vec h, std::int64_t n, std::int64_t block) const {
    h.store(s.next_h + state(n, block));
    if (s.y != nullptr) store_units(h, s.y + n * s.y_stride, block * kWidth, s.hidden);
  }
  Vec old_h(std::int64_t n, std::int64_t block) const { return Vec::load(s.h + state(n, block)); }
};

struct LstmRule : Common<4> {
  // Gate by gate, so that what one vector waits for does not hold up the others.
  void finish(const Group<4>& group) const {
    group.for_each([](std::int64_t, std::int64_t, float* gates) {
#pragma GCC unroll 3
      for (int g = 0; g < 3; ++g) math::sigmoid(Vec::load(gates + g * kWidth)).store(gates + g * kWidth);
    });
    group.for_each([this](std::int64_t n, std::int64_t block, const float* gates) {
      const Vec in = Vec::load(gates), out = Vec::load(gates + kWidth), forget = Vec::load(gates + 2 * kWidth);
      float* cell = s.c + state(n, block);
      const Vec c = fma(forget, Vec::load(cell), in * math::tanh(Vec::load(gates + 3 * kWidth)));
      c.store(cell);
      set_h(out * math::tanh(c), n, block);
    });
  }
};

struct RnnRule : Common<1> {
  void finish(const Group<1>& group) const {
    group.for_each([this](std::int64_t n, std::int64_t block, const float* gates) {
      set_h(math::tanh(Vec::load(gates)), n, block);
    });
  }
};

struct GruRule : Common<3> {
  /// The candidate's recurrent sum stays apart from its input sum.
  Vec start(std::int64_t n, std::int64_t block, int gate) const {
    return gate == 2 ? Vec::load(s.candidate_bias + block * kWidth) : Common::start(n, block, gate);
  }
  void finish(const Group<3>& group) const {
    group.for_each([this](std::int64_t n, std::int64_t block, const float* gates) {
      const Vec update = math::sigmoid(Vec::load(gates)), reset = math::sigmoid(Vec::load(gates + kWidth));
      const Vec candidate = math::tanh(fma(reset, Vec::load(gates + 2 * kWidth), Common::start(n, block, 2)));
      set_h(fma(update, old_h(n, block) - candidate, candidate), n, block);
    });
  }
};

struct GruGatesRule : Common<3> {
  void finish(const Group<2>& group) const {
    group.for_each([this](std::int64_t n, std::int64_t block, const float* gates) {
      math::sigmoid(Vec::load(gates)).store(s.update + state(n, block));
      (math::sigmoid(Vec::load(gates + kWidth)) * old_h(n, block)).store(s.reset_h + state(n, block));
    });
  }
};

struct GruCandidateRule : Common<3> {
  Vec start(std::int64_t n, std::int64_t block, int) const { return Common::start(n, block, 2); }
  void finish(const Group<1>& group) const {
    group.for_each([this](std::int64_t n, std::int64_t block, const float* gates) {
      const Vec candidate = math::tanh(Vec::load(gates));
      set_h(fma(Vec::load(s.update + state(n, block)), old_h(n, block) - candidate, candidate), n, block);
    });
  }
};

void lstm(const RecurrentStep& s, std::int64_t begin, std::int64_t end) {
  for_groups<4>(LstmRule{{s}}, s.weights, s.h, begin, end);
}
void rnn(const RecurrentStep& s, std::int64_t begin, std::int64_t end) {
  for_groups<1>(RnnRule{{s}}, s.weights, s.h, begin, end);
}
void gru(const RecurrentStep& s, std::int64_t begin, std::int64_t end) {
  for_groups<3>(GruRule{{s}}, s.weights, s.h, begin, end);
}
void gru_gates(const RecurrentStep& s, std::int64_t begin, std::int64_t end) {
  for_groups<2>(GruGatesRule{{s}}, s.weights, s.h, begin, end);
}
void gru_candidate(const RecurrentStep& s, std::int64_t begin, std::int64_t end) {
  for_groups<1>(GruCandidateRule{{s}}, s.candidate_weights, s.reset_h, begin, end);
}

}  // namespace

extern const RecurrentKernels kRecurrentKernels;
const RecurrentKernels kRecurrentKernels = {lstm, rnn, gru, gru_gates, gru_candidate};

}  // namespace tenfold::cpu::TENFOLD_TIER
