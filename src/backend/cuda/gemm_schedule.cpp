// Sizes that follow from a schedule, and what cannot be built.
#include "backend/cuda/gemm_schedule.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/error.hpp"

namespace tenfold::cuda {
namespace {

constexpr std::size_t kNumParameters = 15;

constexpr std::array kElements{DType::float16, DType::bfloat16,   DType::int8,
                               DType::uint8,   DType::float8e4m3, DType::float32};

}  // namespace

int GemmSchedule::element_bytes() const { return static_cast<int>(size_of(element)); }
int GemmSchedule::output_bytes() const { return static_cast<int>(size_of(output)); }

int GemmSchedule::unit() const { return columns == ColumnSource::packed ? 16 / output_bytes() : 2; }

std::int64_t GemmSchedule::shared_bytes(std::int64_t loads_k) const {
  const std::int64_t row = row_bytes;
  const std::int64_t a = std::int64_t{loads_per_stage} * tile_m() * row;
  const std::int64_t b = std::int64_t{loads_per_stage} * tile_n * row;
  const std::int64_t residual = std::int64_t{staged_residuals} * tile_m() * tile_n * output_bytes();
  const std::int64_t barriers = 8 * (2 * stages + 2 * staged_residuals + 1);
  // 1024 to align the first tile. Partial sums of a split product reuse the stages.
  std::int64_t tiles = stages * (a + (resident ? 0 : b)) + (resident ? loads_k * tile_n * row : 0);
  if (split_k > 0) tiles = std::max(tiles, std::int64_t{tile_m()} * tile_n * 4);
  return 1024 + tiles + residual + barriers;
}

std::optional<std::string> GemmSchedule::refuses() const {
  const auto known = [](DType dtype) {
    return std::find(kElements.begin(), kElements.end(), dtype) != kElements.end();
  };
  if (!known(element) || !known(output)) return "the element type has no tensor-core product";
  if (consumers < 1 || consumers > 4 || blocks_m < 1 || blocks_m > 2) return "1 to 4 warpgroups of 64 or 128 rows";
  if (tile_m() > 256) return "tiles of at most 256 rows";
  if (tile_n < 8 || tile_n > 256 || tile_n % (4 * unit()) != 0) {
    return fmt::format("tile_n of {} is no multiple of {} up to 256", tile_n, 4 * unit());
  }
  // With more accumulators than this ptxas spills, or serialises the products.
  if (blocks_m * tile_n / 2 > (consumers <= 2 ? 128 : 64)) return "too many accumulators per thread";
  if (row_bytes != 128 && row_bytes != 64 && row_bytes != 32) return "rows of 32, 64 or 128 bytes";
  if (loads_per_stage < 1 || loads_per_stage > 4 || stages < 2 || stages > 12) return "2 to 12 stages of 1 to 4 loads";
  if (staged_residuals < 0 || staged_residuals > 8) return "up to 8 staged residuals";
  if (split_k < 0 || split_k > 8) return "split over at most 8 blocks";
  const bool is_half = element == DType::float16 || element == DType::bfloat16;
  const bool transposes = rows == RowSource::transposed || columns == ColumnSource::transposed;
  if (transposes && (!is_half || row_bytes != 128)) return "transposed operands are 16-bit, in rows of 128 bytes";
  if (columns == ColumnSource::transposed && tile_n % 64 != 0) return "transposed columns come in blocks of 64";
  if (columns != ColumnSource::packed && (resident || staged_residuals != 0 || split_k != 0 || element_bytes() == 1)) {
    return "computed columns go with the plain schedule only";
  }
  if (ping_pong && (consumers < 2 || split_k != 0)) return "taking turns needs two warpgroups or more";
  if (split_k != 0 && (resident || staged_residuals != 0)) return "a split product keeps nothing";
  if (gated && (columns != ColumnSource::packed || split_k != 0 || staged_residuals != 0 || element_bytes() == 1 ||
                tile_n % (8 * unit()) != 0)) {
    return "pairs of columns go with packed floats of 16 bits or more and whole k only";
  }
  if (staged_residuals != 0 && staged_residuals < (ping_pong ? consumers : 2)) return "too few staged residuals";
  if (shared_bytes(0) > kMaxSharedBytes) return "the stages do not fit in shared memory";
  return std::nullopt;
}

std::string GemmSchedule::describe() const {
  return fmt::format("{} {}x{} {} warpgroups, {} stages of {}x{} bytes{}{}{}{}{}", to_string(element), tile_m(), tile_n,
                     consumers, stages, loads_per_stage, row_bytes, resident ? ", resident weights" : "",
                     ping_pong ? ", ping-pong" : "", staged_residuals > 0 ? ", staged residual" : "",
                     split_k > 0 ? fmt::format(", k over {} blocks", split_k) : "", gated ? ", gated" : "");
}

std::vector<std::int64_t> GemmSchedule::encode() const {
  return {static_cast<std::int64_t>(element),
          static_cast<std::int64_t>(output),
          static_cast<std::int64_t>(rows),
          static_cast<std::int64_t>(columns),
          consumers,
          blocks_m,
          tile_n,
          row_bytes,
          loads_per_stage,
          stages,
          resident,
          ping_pong,
          staged_residuals,
          split_k,
          gated};
}

GemmSchedule GemmSchedule::decode(std::span<const std::int64_t> parameters) {
  require(parameters.size() == kNumParameters &&
              std::all_of(parameters.begin(), parameters.end(), [](std::int64_t v) { return 0 <= v && v <= 256; }) &&
              parameters[2] <= 2 && parameters[3] <= 2 && parameters[10] <= 1 && parameters[11] <= 1 &&
              parameters[14] <= 1,
          Code::incompatible_engine, "the parameters of a tensor-core product are no schedule");
  const auto number = [&](std::size_t i) { return static_cast<int>(parameters[i]); };
  const GemmSchedule schedule{.element = static_cast<DType>(number(0)),
                              .output = static_cast<DType>(number(1)),
                              .rows = static_cast<RowSource>(number(2)),
                              .columns = static_cast<ColumnSource>(number(3)),
                              .consumers = number(4),
                              .blocks_m = number(5),
                              .tile_n = number(6),
                              .row_bytes = number(7),
                              .loads_per_stage = number(8),
                              .stages = number(9),
                              .resident = number(10) == 1,
                              .ping_pong = number(11) == 1,
                              .staged_residuals = number(12),
                              .split_k = number(13),
                              .gated = number(14) == 1};
  const auto refusal = schedule.refuses();
  require(!refusal, Code::incompatible_engine, "the schedule of a tensor-core product cannot be built: {}",
          refusal.value_or(""));
  return schedule;
}

}  // namespace tenfold::cuda
