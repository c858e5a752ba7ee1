// What the tactics built on the packed matrix product share: tilings, packed panels, checks, estimates.
#pragma once

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/cpu/cpu_tactic.hpp"
#include "backend/cpu/kernels/gemm.hpp"
#include "backend/cpu/kernels/strassen.hpp"

namespace tenfold::cpu {

inline Workers workers_of(const Launch& launch) {
  auto& stream = static_cast<CpuStream&>(*launch.stream);
  return {&stream.pool(), stream.scratch(), CpuStream::kScratchBytes};
}

/// Depth and rows of a block, see GemmTiling.
struct GemmBlocks {
  std::int64_t depth, rows;
};
/// Blocks that are no smaller than the product are the same as larger ones.
inline constexpr std::int64_t kWholeDepth = std::int64_t{1} << 30;
/// Tilings worth timing: the register tiles that suit so many rows and columns, each with every one of the blocks.
/// Blocks are cut to the sizes of the product, and those that become the same are given once.
std::vector<GemmTiling> promising_tilings(std::int64_t rows, std::int64_t columns, std::int64_t depth,
                                          std::initializer_list<GemmBlocks> blocks);
/// The same for a product whose rows lie where they are. Few rows, if they do not vary, are offered panels of one
/// vector: these are as many places to read at once as there can be, see row_tiles.cpp.
std::vector<GemmTiling> plain_tilings(std::int64_t rows, bool rows_vary, std::int64_t columns, std::int64_t depth);
/// Each further tiling is guessed to be this much slower, so that a short list holds the first ones of every tactic.
inline constexpr double kRankStep = 0.03;
/// Candidate parameters: [tile_rows, tile_vectors, depth_block, row_block].
std::vector<std::int64_t> parameters_of(const GemmTiling& tiling);
/// Throws Error(incompatible_engine) unless the kernels of this tier have such a tile and the blocks are sensible.
/// `first`: where the four numbers begin; there must be exactly first + 4.
GemmTiling tiling_from(std::span<const std::int64_t> parameters, std::size_t first = 0);

/// Columns rounded up to whole vectors: what the panels of `columns` hold.
std::int64_t padded_columns(std::int64_t columns);

/// Packs B[k][n], given as value(k, n), into panels `tile_vectors` wide; zeros in the padding. depth * taps are one
/// running index k here.
template <typename Value>
std::vector<std::byte> pack_panels(std::int64_t depth, std::int64_t columns, int tile_vectors, const Value& value) {
  const std::int64_t width = std::int64_t{tile_vectors} * vector_floats(tier());
  const std::int64_t padded = padded_columns(columns);
  std::vector<std::byte> bytes(static_cast<std::size_t>(padded * depth) * sizeof(float));
  std::byte* out = bytes.data();
  for (std::int64_t n = 0; n < padded; n += width) {
    const std::int64_t end = n + width < padded ? n + width : padded;
    for (std::int64_t k = 0; k < depth; ++k) {
      for (std::int64_t j = n; j < end; ++j, out += sizeof(float)) {
        const float x = j < columns ? value(k, j) : 0.0F;
        std::memcpy(out, &x, sizeof x);
      }
    }
  }
  return bytes;
}
/// Where such panels are read first, see Kernel::first_weights.
WeightPanels weight_panels(const float* panels, std::int64_t columns, std::int64_t depth, const GemmTiling& tiling);

/// Why a product of these sizes cannot be cut into quarters, see kernels/strassen.hpp; nullopt if it can.
std::optional<std::string> refuses_strassen(std::int64_t depth, std::int64_t columns);
/// The same, or why it would not pay or may not be done; `rows`: of a sample.
std::optional<std::string> refuses_strassen(const Problem& problem, std::int64_t rows, std::int64_t depth,
                                            std::int64_t columns);
/// A tiling of Strassen's algorithm; throws Error(incompatible_engine) like tiling_from.
GemmTiling strassen_tiling_from(std::span<const std::int64_t> parameters);
/// Tilings worth timing.
std::vector<GemmTiling> strassen_tilings(std::int64_t rows, std::int64_t columns, std::int64_t depth);
/// What its time is of that of the plain product, roughly.
double strassen_share(std::int64_t depth, std::int64_t columns);
constexpr std::int64_t strassen_floats(std::int64_t depth, std::int64_t columns) {
  return kStrassenProducts * (depth / 2) * (columns / 2);
}
/// One number of a right-hand side of the seven products, out of quarter(row, column), which are counted from 0.
template <typename Quarter>
float strassen_term(int product, const Quarter& quarter) {
  switch (product) {
    case 0:
      return quarter(0, 0) + quarter(1, 1);
    case 1:
      return quarter(0, 0);
    case 2:
      return quarter(0, 1) - quarter(1, 1);
    case 3:
      return quarter(1, 0) - quarter(0, 0);
    case 4:
      return quarter(1, 1);
    case 5:
      return quarter(0, 0) + quarter(0, 1);
    default:
      return quarter(1, 0) + quarter(1, 1);
  }
}
/// Packs B[k][n], given as value(k, n): the right-hand sides of the seven products, see StrassenKernels. Requires that
/// refuses_strassen found nothing.
template <typename Value>
std::vector<std::byte> pack_strassen(std::int64_t depth, std::int64_t columns, const GemmTiling& tiling,
                                     const Value& value) {
  const std::int64_t width = std::int64_t{tiling.tile_vectors} * vector_floats(tier());
  const std::int64_t right = columns / 2;
  std::vector<std::byte> bytes(static_cast<std::size_t>(strassen_floats(depth, columns)) * sizeof(float));
  std::byte* out = bytes.data();
  for (std::int64_t block = 0; block < depth; block += tiling.depth_block) {
    const std::int64_t half = std::min(tiling.depth_block, depth - block) / 2;
    for (std::int64_t n = 0; n < right; n += width) {
      for (int product = 0; product < kStrassenProducts; ++product) {
        for (std::int64_t k = block; k < block + half; ++k) {
          for (std::int64_t j = n; j < std::min(n + width, right); ++j, out += sizeof(float)) {
            const float term =
                strassen_term(product, [&](int row, int column) { return value(k + row * half, j + column * right); });
            std::memcpy(out, &term, sizeof term);
          }
        }
      }
    }
  }
  return bytes;
}
/// Products with few columns as dot products, see GemmArgs::dots. Candidate parameters: [row_block].
GemmTiling dot_tiling_from(std::span<const std::int64_t> parameters);
/// What one column's panel holds of a tap.
constexpr std::int64_t padded_dot_depth(std::int64_t depth) { return (depth + kDotLanes - 1) / kDotLanes * kDotLanes; }
/// Appends a group's or phase's B, given as value(tap, k, n), as [column][tap][depth, padded with zeros].
template <typename Value>
void pack_dots(std::int64_t taps, std::int64_t depth, std::int64_t columns, const Value& value,
               std::vector<std::byte>& out) {
  const std::int64_t padded = padded_dot_depth(depth);
  std::size_t at = out.size();
  out.resize(at + static_cast<std::size_t>(columns * taps * padded) * sizeof(float));
  for (std::int64_t n = 0; n < columns; ++n) {
    for (std::int64_t t = 0; t < taps; ++t) {
      for (std::int64_t k = 0; k < padded; ++k, at += sizeof(float)) {
        const float x = k < depth ? value(t, k, n) : 0.0F;
        std::memcpy(out.data() + at, &x, sizeof x);
      }
    }
  }
}

/// Throws Error(incompatible_engine) unless weights[index] has exactly `floats` floats; returns them.
const float* packed_floats(const KernelSpec& spec, std::size_t index, std::int64_t floats);

/// Rows of a matrix of these dims, but for its last axis, that belong to one sample: the first axis counts samples.
inline std::int64_t sample_rows(std::span<const std::int64_t> dims) {
  std::int64_t n = 1;
  for (std::size_t i = 1; i + 1 < dims.size(); ++i) n *= dims[i];
  return n;
}

/// Static, not empty, and small enough that packed sizes cannot overflow.
bool fits_in_panels(const TensorType& weights);

/// A guess at the time of `flops` operations at `efficiency` of the peak and `bytes` of memory traffic, on one thread.
double estimate_us(double flops, double bytes, double efficiency);

/// Product of the dims but the last one.
inline std::int64_t leading(std::span<const std::int64_t> dims) {
  std::int64_t n = 1;
  for (std::size_t i = 0; i + 1 < dims.size(); ++i) n *= dims[i];
  return n;
}
bool is_float32(const TensorType& type);
/// nullptr-safe: a constant of dtype float32.
bool is_float32(const Tensor* tensor);

}  // namespace tenfold::cpu
