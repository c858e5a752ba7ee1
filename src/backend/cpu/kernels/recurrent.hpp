// One step of a recurrent layer for a range of unit blocks. A block is one vector of units with all its gates, so the
// step's state is updated right where the sums are: no exchange between blocks within a step.
#pragma once

#include <cstdint>

#include "backend/cpu/tier.hpp"

namespace tenfold::cpu {

struct RecurrentStep {
  std::int64_t batch, hidden;
  /// Rows of state: `batch` rows of padded_hidden floats.
  std::int64_t padded_hidden;
  /// Recurrent weights, [block][hidden][gate][vector of units]. LSTM gates i o f c; GRU z r h, or z r only when the
  /// candidate has a product of its own; RNN one.
  const float* weights;
  /// GRU whose reset gate acts before the product: the candidate's weights [block][hidden][vector].
  const float* candidate_weights;
  /// GRU whose reset gate acts after it: the candidate's recurrent bias, padded_hidden numbers.
  const float* candidate_bias;
  /// Products with the step's input, biases included: `batch` rows of [block][all gates][vector].
  const float* sums;
  std::int64_t sums_stride;
  const float* h;  ///< of the step before
  float* next_h;
  float* c;        ///< LSTM: updated in place
  float* reset_h;  ///< GRU, reset before: r . h between the two halves of the step
  float* update;   ///< the same: z
  float* y;        ///< output rows of `hidden` floats, or null
  std::int64_t y_stride;
};

struct RecurrentKernels {
  void (*lstm)(const RecurrentStep& step, std::int64_t block_begin, std::int64_t block_end);
  void (*rnn)(const RecurrentStep& step, std::int64_t block_begin, std::int64_t block_end);
  /// Reset after the product: the whole step.
  void (*gru)(const RecurrentStep& step, std::int64_t block_begin, std::int64_t block_end);
  /// Reset before: first the gates of all blocks, then the candidates.
  void (*gru_gates)(const RecurrentStep& step, std::int64_t block_begin, std::int64_t block_end);
  void (*gru_candidate)(const RecurrentStep& step, std::int64_t block_begin, std::int64_t block_end);
};
TENFOLD_TIER_TABLE(RecurrentKernels, kRecurrentKernels)

}  // namespace tenfold::cpu
