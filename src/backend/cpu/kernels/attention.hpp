// One head's attention for a block of queries: softmax(scale q k^T + mask) v.
#pragma once

#include <cstdint>

#include "backend/cpu/tier.hpp"

namespace tenfold::cpu {

/// Rows of one key-value head: the query heads that share it (grouped queries) one after the other, each with
/// `queries` rows. Strides in floats.
struct AttentionTask {
  const float* q;  ///< of the first of the query heads
  std::int64_t q_head_stride, q_row_stride;
  const float* k;
  std::int64_t k_row_stride;
  const float* v;
  std::int64_t v_row_stride;
  float* out;
  std::int64_t out_head_stride, out_row_stride;
  std::int64_t queries, keys, depth, value_depth;
  std::int64_t row_begin, num_rows;  ///< of the heads' rows together; num_rows <= kMaxAttentionRows
  float scale;
  bool causal;
  std::int64_t causal_offset;  ///< query l sees keys up to l + causal_offset
  const float* mask;           ///< may be null; strides may be 0
  std::int64_t mask_head_stride, mask_row_stride, mask_key_stride;
  float* scratch;  ///< attention_scratch_floats(...), 64-byte aligned
};

inline constexpr std::int64_t kMaxAttentionRows = 128;
/// Keys that are handled at a time: their scores, for the queries that go together, are 32 KiB at most.
inline constexpr std::int64_t kAttentionKeys = 256;
/// What `block` needs at most, whatever the tier. Rows are lanes of whole vectors, of which two go together.
constexpr std::int64_t attention_scratch_floats(std::int64_t rows, std::int64_t keys, std::int64_t depth,
                                                std::int64_t value_depth, bool has_full_mask) {
  const std::int64_t block = keys < kAttentionKeys ? keys : kAttentionKeys;
  const std::int64_t lanes = (rows + 15) / 16 * 16 + 16;
  const std::int64_t columns = (value_depth + 15) / 16 * 16;
  return lanes * (depth + block * (has_full_mask ? 2 : 1) + 4 + columns) + block * columns + 64;
}

struct AttentionKernels {
  void (*block)(const AttentionTask& task);
};
TENFOLD_TIER_TABLE(AttentionKernels, kAttentionKernels)

}  // namespace tenfold::cpu
