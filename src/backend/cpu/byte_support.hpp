// What tactics of 8-bit integers share: packed panels, and numbers beside them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/cpu/gemm_support.hpp"

namespace tenfold::cpu {

inline bool is_byte(DType dtype) { return dtype == DType::int8 || dtype == DType::uint8; }

/// Number i of so many bytes of this type.
inline std::int32_t byte_at(const void* bytes, DType dtype, std::int64_t i) {
  return dtype == DType::int8 ? static_cast<const std::int8_t*>(bytes)[i] : static_cast<const std::uint8_t*>(bytes)[i];
}

/// What sums begin with where the zero point is known only now: `factor` times each of the columns' packed numbers, in
/// `workspace`. Modulo 2^32: numbers of an engine file may be any.
inline const std::int32_t* scaled_starts(std::int32_t factor, const std::int32_t* packed, std::int64_t count,
                                         std::span<std::byte> workspace) {
  auto* starts = reinterpret_cast<std::int32_t*>(workspace.data());
  for (std::int64_t i = 0; i < count; ++i)
    starts[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(factor) * static_cast<std::uint32_t>(packed[i]));
  return starts;
}

template <typename T>
void append(std::vector<std::byte>& bytes, const std::vector<T>& values) {
  const auto* data = reinterpret_cast<const std::byte*>(values.data());
  bytes.insert(bytes.end(), data, data + values.size() * sizeof(T));
}

/// Throws Error(incompatible_engine) unless weights[index] has exactly so many bytes; returns them.
inline const std::byte* packed_bytes(const KernelSpec& spec, std::size_t index, std::int64_t bytes) {
  require(index < spec.weights.size() && std::ssize(spec.weights[index]) == bytes, Code::incompatible_engine,
          "tactic '{}' expects {} bytes of packed weights at {}, got {} blobs{}", spec.tactic, bytes, index,
          spec.weights.size(),
          index < spec.weights.size() ? fmt::format(", this one of {} bytes", spec.weights[index].size()) : "");
  return spec.weights[index].data();
}

/// Panels [quad][column][4] of B[k][n], given as value(k, n); zeros in the padding.
template <typename Value>
std::vector<std::byte> pack_byte_panels(std::int64_t depth, std::int64_t columns, int tile_vectors,
                                        const Value& value) {
  const std::int64_t width = std::int64_t{tile_vectors} * vector_floats(tier());
  const std::int64_t padded = padded_columns(columns), quads = (depth + 3) / 4;
  std::vector<std::byte> bytes(static_cast<std::size_t>(padded * quads * 4));
  std::size_t out = 0;
  for (std::int64_t n = 0; n < padded; n += width) {
    const std::int64_t end = std::min(n + width, padded);
    for (std::int64_t q = 0; q < quads; ++q) {
      for (std::int64_t j = n; j < end; ++j) {
        for (std::int64_t k = 4 * q; k < 4 * q + 4; ++k, ++out) {
          if (j < columns && k < depth) bytes[out] = static_cast<std::byte>(value(k, j));
        }
      }
    }
  }
  return bytes;
}

}  // namespace tenfold::cpu
