// One step of a recurrent layer for a range of groups of unit blocks. A block is one vector of units with all its
// gates, so the step's state is updated right where the sums are: no exchange between blocks within a step.
#pragma once

#include <cstdint>

#include "backend/cpu/tier.hpp"

namespace tenfold::cpu {

/// Recurrent weights are the vectors of all units in the order [block][gate], cut into groups of blocks and these into
/// panels [hidden][vector] of so many vectors; a group's last panel may be narrower. With AVX2, four sequences by three
/// vectors leave no register unused; with AVX-512, six by the gates of a block.
constexpr std::int64_t recurrent_panel_vectors(std::int64_t gates, std::int64_t vector_floats) {
  return vector_floats == 16 ? gates : 3;
}
/// Groups are one block, or three, which fill whole panels. Single blocks are at both ends, so that two threads that
/// share the groups share the blocks.
class RecurrentGroups {
 public:
  RecurrentGroups(std::int64_t blocks, std::int64_t vector_floats) : blocks_(blocks) {
    if (vector_floats == 16) {
      front_ = blocks;
      return;
    }
    const std::int64_t rest = blocks % 3, singles = rest == 1 && blocks >= 4 ? 4 : rest;
    front_ = (singles + 1) / 2;
    triples_ = (blocks - singles) / 3;
  }
  std::int64_t count() const { return blocks_ - 2 * triples_; }
  /// group == count(): all blocks.
  std::int64_t first_block(std::int64_t group) const {
    if (group <= front_) return group;
    return group < front_ + triples_ ? front_ + 3 * (group - front_) : group + 2 * triples_;
  }

 private:
  std::int64_t blocks_, front_, triples_ = 0;
};

/// Batches so small that their sums would wait for each other: they take several k in turns, and stay together.
inline constexpr std::int64_t kFewSequences = 2;

struct RecurrentStep {
  std::int64_t batch, hidden;
  bool downwards;            ///< through the groups from the last to the first; in turns with `false`
  std::int64_t whole_batch;  ///< with the sequences that other threads take
  /// Rows of state: `batch` rows of padded_hidden floats.
  std::int64_t padded_hidden;
  /// Recurrent weights in panels. LSTM gates i o f c; GRU z r h, or z r only when the
  /// candidate has a product of its own; RNN one.
  const float* weights;
  /// GRU whose reset gate acts before the product: the candidate's weights, of one gate.
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
  void (*lstm)(const RecurrentStep& step, std::int64_t group_begin, std::int64_t group_end);
  void (*rnn)(const RecurrentStep& step, std::int64_t group_begin, std::int64_t group_end);
  /// Reset after the product: the whole step.
  void (*gru)(const RecurrentStep& step, std::int64_t group_begin, std::int64_t group_end);
  /// Reset before: first the gates of all blocks, then the candidates.
  void (*gru_gates)(const RecurrentStep& step, std::int64_t group_begin, std::int64_t group_end);
  void (*gru_candidate)(const RecurrentStep& step, std::int64_t group_begin, std::int64_t group_end);
};
TENFOLD_TIER_TABLE(RecurrentKernels, kRecurrentKernels)

}  // namespace tenfold::cpu
