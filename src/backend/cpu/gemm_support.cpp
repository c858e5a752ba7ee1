#include "backend/cpu/gemm_support.hpp"

#include <algorithm>
#include <bit>

namespace tenfold::cpu {

std::int64_t padded_columns(std::int64_t columns) {
  const std::int64_t width = vector_floats(tier());
  return (columns + width - 1) / width * width;
}

std::vector<std::int64_t> parameters_of(const GemmTiling& tiling) {
  return {tiling.tile_rows, tiling.tile_vectors, tiling.depth_block, tiling.row_block};
}

GemmTiling tiling_from(std::span<const std::int64_t> parameters, std::size_t first) {
  require(parameters.size() == first + 4, Code::incompatible_engine,
          "a tiling has 4 numbers after the first {}, got {}", first, parameters.size());
  const auto p = parameters.subspan(first);
  constexpr std::int64_t kMaxBlock = std::int64_t{1} << 40;
  const int vectors = 0 < p[1] && p[1] <= 64 ? static_cast<int>(p[1]) : 0;
  require(vectors > 0 && 0 < p[0] && p[0] <= TENFOLD_FOR_TIER(kGemmKernels).max_tile_rows(vectors),
          Code::incompatible_engine, "there is no register tile of {} x {} vectors for {}", p[0], p[1],
          target_string(tier()));
  require(0 < p[2] && p[2] <= kMaxBlock && 0 < p[3] && p[3] <= kMaxBlock, Code::incompatible_engine,
          "blocks of {} x {} are outside the sensible range", p[2], p[3]);
  return {static_cast<int>(p[0]), vectors, p[2], p[3]};
}

GemmTiling dot_tiling_from(std::span<const std::int64_t> parameters) {
  constexpr std::int64_t kMaxBlock = std::int64_t{1} << 40;
  require(parameters.size() == 1 && 0 < parameters[0] && parameters[0] <= kMaxBlock, Code::incompatible_engine,
          "dot products need one sensible number of rows, got {} numbers", parameters.size());
  return {.tile_rows = kDotLanes, .tile_vectors = 1, .depth_block = 1, .row_block = parameters[0]};
}

namespace {

struct RegisterTile {
  int rows, vectors;
};

/// Cycles of a row and a multiply-add of depth over all columns: each needs half a cycle, or a load for each vector of
/// B and each element of A, whichever is more. A last panel that is narrower has the same rows.
double cycles(const RegisterTile& tile, std::int64_t vectors) {
  const auto panel = [&](std::int64_t width) {
    return std::max(0.5 * static_cast<double>(tile.rows * width), static_cast<double>(tile.rows + width));
  };
  const std::int64_t whole = vectors / tile.vectors, rest = vectors % tile.vectors;
  return (static_cast<double>(whole) * panel(tile.vectors) + (rest == 0 ? 0 : panel(rest))) / tile.rows;
}
/// The two best register tiles of AVX-512 for so many columns.
std::vector<RegisterTile> widest_tiles(std::int64_t vectors) {
  std::vector<RegisterTile> tiles{{8, 3}, {6, 4}, {12, 2}};
  std::stable_sort(tiles.begin(), tiles.end(), [&](const RegisterTile& a, const RegisterTile& b) {
    return cycles(a, vectors) < cycles(b, vectors);
  });
  tiles.pop_back();
  return tiles;
}

}  // namespace

std::vector<GemmTiling> promising_tilings(std::int64_t rows, std::int64_t columns, std::int64_t depth,
                                          std::initializer_list<GemmBlocks> blocks) {
  const bool wide = tier() == Tier::avx512;
  const std::int64_t vectors = padded_columns(columns) / vector_floats(tier());
  std::vector<RegisterTile> tiles;
  if (rows <= 3 && vectors >= 4) {
    // Few rows: the panels are read once, so the more sums are in flight the better.
    tiles = {{3, 4}};
  } else if (vectors == 1) {
    tiles = {{wide ? 12 : 8, 1}};
  } else if (!wide && (rows == 7 || rows == 8) && vectors > 2) {
    // One pass: weights that come from memory are read once, and multiplied while they come.
    tiles = {{8, 1}, {6, 2}, {4, 3}};
  } else if (vectors == 2) {
    tiles = {{wide ? 12 : 6, 2}};
  } else {
    tiles = wide ? widest_tiles(vectors) : std::vector<RegisterTile>{{6, 2}, {4, 3}};
  }
  std::vector<GemmTiling> tilings;
  for (const GemmBlocks& block : blocks) {
    for (const RegisterTile& tile : tiles) {
      // Rounded up to a power of two, so that dynamic sizes near the optimum still fit in one block.
      const auto cut = [](std::int64_t wanted, std::int64_t size) {
        return wanted >= size ? static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(size))) : wanted;
      };
      const GemmTiling tiling{tile.rows, tile.vectors, cut(block.depth, depth), cut(block.rows, rows)};
      const auto same = [&](const GemmTiling& t) { return parameters_of(t) == parameters_of(tiling); };
      if (std::none_of(tilings.begin(), tilings.end(), same)) tilings.push_back(tiling);
    }
  }
  return tilings;
}

std::vector<GemmTiling> plain_tilings(std::int64_t rows, bool rows_vary, std::int64_t columns, std::int64_t depth) {
  // The product rounds to the nearest number of blocks: what becomes one is the same as all rows.
  const auto block = [&](std::int64_t wanted) { return 2 * rows < 3 * wanted ? rows : wanted; };
  std::vector<GemmTiling> tilings = promising_tilings(
      rows, columns, depth, {{512, block(96)}, {kWholeDepth, block(192)}, {1024, block(48)}, {512, block(192)}});
  const GemmKernels& kernels = TENFOLD_FOR_TIER(kGemmKernels);
  if (rows_vary || kernels.max_row_panels(rows, 1) < 2) return tilings;
  GemmTiling places = tilings.front();
  places.tile_vectors = 1;
  places.tile_rows = kernels.max_tile_rows(places.tile_vectors);
  if (rows == 1) return {places};
  tilings.insert(tilings.begin(), places);
  return tilings;
}

WeightPanels weight_panels(const float* panels, std::int64_t columns, std::int64_t depth, const GemmTiling& tiling) {
  const std::int64_t width =
      std::min(std::int64_t{tiling.tile_vectors} * vector_floats(tier()), padded_columns(columns));
  constexpr auto kFloatBytes = static_cast<std::int64_t>(sizeof(float));
  return {.data = reinterpret_cast<const std::byte*>(panels),
          .panels = (columns + width - 1) / width,
          .panel_bytes = depth * width * kFloatBytes,
          .first_bytes = std::min(depth, tiling.depth_block) * width * kFloatBytes};
}

std::optional<std::string> refuses_strassen(std::int64_t depth, std::int64_t columns) {
  if (depth % 2 != 0) return fmt::format("a depth of {} has no halves", depth);
  const std::int64_t width = vector_floats(tier());
  if (columns % (2 * width) != 0)
    return fmt::format("halves of {} columns are not whole vectors of {}", columns, width);
  return std::nullopt;
}

std::optional<std::string> refuses_strassen(const Problem& problem, std::int64_t rows, std::int64_t depth,
                                            std::int64_t columns) {
  if (problem.strict) return "strict arithmetic was asked for";
  if (problem.half_weights) return "weights are to take half the space; sums of them would take more";
  if (auto refusal = refuses_strassen(depth, columns)) return refusal;
  constexpr std::int64_t kFewestRows = 24, kShallowest = 128, kNarrowest = 96;
  if (rows < kFewestRows || depth < kShallowest || columns < kNarrowest) {
    return fmt::format("{} x {} x {} is too small: sums would take more time than an eighth of the products", rows,
                       depth, columns);
  }
  return std::nullopt;
}

GemmTiling strassen_tiling_from(std::span<const std::int64_t> parameters) {
  const GemmTiling tiling = tiling_from(parameters);
  require(tiling.depth_block % 2 == 0 && tiling.depth_block <= kMaxStrassenDepthBlock, Code::incompatible_engine,
          "a block of {} numbers has no halves, or is deeper than {}", tiling.depth_block, kMaxStrassenDepthBlock);
  return tiling;
}

std::vector<GemmTiling> strassen_tilings(std::int64_t rows, std::int64_t columns, std::int64_t depth) {
  // As deep as the plain product's register tiles like it, twice: the sums of a block stay in the second-level cache.
  return promising_tilings(rows, columns / 2, depth, {{768, 96}, {512, 144}, {1024, 64}});
}

double strassen_share(std::int64_t depth, std::int64_t columns) {
  // Seven eighths of the products; a sum of A for each product it serves, and a result's products stored and read.
  return 0.875 + 6 / static_cast<double>(columns) + 16 / static_cast<double>(depth);
}

const float* packed_floats(const KernelSpec& spec, std::size_t index, std::int64_t floats) {
  require(index < spec.weights.size() && floats >= 0 &&
              spec.weights[index].size() == static_cast<std::size_t>(floats) * sizeof(float),
          Code::incompatible_engine, "tactic '{}' expects {} floats of packed weights at {}, got {} blobs{}",
          spec.tactic, floats, index, spec.weights.size(),
          index < spec.weights.size() ? fmt::format(", this one of {} bytes", spec.weights[index].size()) : "");
  return reinterpret_cast<const float*>(spec.weights[index].data());
}

bool fits_in_panels(const TensorType& weights) {
  if (!weights.is_static()) return false;
  constexpr std::int64_t kMaxElements = std::int64_t{1} << 40;
  std::int64_t elements = 1;
  for (const std::int64_t dim : weights.static_shape()) {
    if (dim <= 0 || dim > kMaxElements / elements) return false;
    elements *= dim;
  }
  return true;
}

double estimate_us(double flops, double bytes, double efficiency) {
  // Orders of magnitude of one current core; only the ranking of candidates depends on them.
  const double flops_per_us = (tier() == Tier::avx512 ? 150e3 : 95e3) * efficiency;
  constexpr double kBytesPerUs = 13e3;
  return 1 + std::max(flops / flops_per_us, bytes / kBytesPerUs);
}

bool is_float32(const TensorType& type) { return type.dtype == DType::float32; }
bool is_float32(const Tensor* tensor) { return tensor != nullptr && tensor->dtype() == DType::float32; }

}  // namespace tenfold::cpu
