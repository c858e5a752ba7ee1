// How fused attention is cut up on a Hopper GPU.
//
//   out[i] = sum over j of p[i][j] v[j],  p[i] = softmax over j of (scale * q[i] . k[j] + mask[i][j])
//
// A block owns 64 queries per consumer warpgroup of one head and walks over tiles of keys with the online softmax
// (Milakov and Gimelshein 2018, arXiv:1805.02867; Dao 2023, arXiv:2307.08691): running maximum and sum in float32. The
// scores of the next tile are multiplied while this tile's are exponentiated (Shah et al. 2024, arXiv:2407.08608).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/cuda/hopper_text.hpp"
#include "graph/dtype.hpp"

namespace tenfold::cuda {

struct AttentionSchedule {
  DType element = DType::float16;  ///< float16 or bfloat16
  int head_size = 64;              ///< of q and k: multiples of 8 up to 256
  int value_size = 64;
  int tile_keys = 128;  ///< multiple of 16
  int consumers = 2;    ///< warpgroups, 1 to 4
  bool causal = false;
  bool masked = false;
  DType mask = DType::float16;

  int boxes(int size) const { return (size + 63) / 64; }  ///< blocks of 64 elements that a row is loaded in
  int tile_queries() const { return consumers * 64; }
  int threads() const { return (consumers + 1) * 128; }
  std::int64_t shared_bytes() const;
  /// nullopt: can be built.
  std::optional<std::string> refuses() const;
  std::vector<std::int64_t> encode() const;
  /// Throws Error(incompatible_engine).
  static AttentionSchedule decode(std::span<const std::int64_t> parameters);
  bool operator==(const AttentionSchedule&) const = default;
};

inline constexpr std::string_view kAttentionEntry = "tenfold_attention";

TENFOLD_SHARED_STRUCT(
    kAttentionArgumentsText, struct AttentionArguments {
      void* out;
      const void* mask;
      long long out_batch, out_head, out_row;
      long long mask_batch, mask_head, mask_row, mask_key;
      int heads, key_heads, queries, keys;
      float scale;
    });

/// The source of `kAttentionEntry(map_q, map_k, map_v, AttentionArguments)`.
std::string attention_text(const AttentionSchedule& schedule);

}  // namespace tenfold::cuda
