// Sizes that follow from a schedule, and what cannot be built.
#include "backend/cuda/tile_schedule.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/error.hpp"

namespace tenfold::cuda {
namespace {

constexpr std::size_t kNumParameters = 12;
constexpr std::array kElements{DType::float16, DType::bfloat16,   DType::int8,
                               DType::uint8,   DType::float8e4m3, DType::float32};
constexpr int kChunkBytes = 16;

}  // namespace

int TileSchedule::element_bytes() const { return static_cast<int>(size_of(element)); }
int TileSchedule::output_bytes() const { return static_cast<int>(size_of(output)); }
int TileSchedule::unit() const { return columns == ColumnSource::packed ? kChunkBytes / output_bytes() : 2; }

std::int64_t TileSchedule::shared_bytes() const {
  return std::int64_t{stages} * (tile_m() + tile_n()) * row_bytes;
}

std::optional<std::string> TileSchedule::refuses() const {
  const auto known = [](DType dtype) {
    return std::find(kElements.begin(), kElements.end(), dtype) != kElements.end();
  };
  if (!known(element) || !known(output)) return "the element type has no product";
  if (tf32 && element != DType::float32) return "tf32 is a way to multiply float32";
  if (rows == RowSource::transposed) return "a is transposed";
  const auto within = [](int value, std::initializer_list<int> values) {
    return std::find(values.begin(), values.end(), value) != values.end();
  };
  if (!within(warps_m, {1, 2, 4}) || !within(warps_n, {1, 2, 4}) || warps_m * warps_n > 8) return "1 to 8 warps";
  if (!within(warp_m, {16, 32, 64}) || !within(warp_n, {16, 32, 64, 128})) return "warps of 16 to 64 rows";
  // On Hopper the registers of float8 operands hold them as float16: with more, or longer slices, ptxas spills.
  const bool is_float8 = element == DType::float8e4m3;
  if (accumulators() > 128 || (is_float8 && accumulators() * row_bytes > 64 * 64)) {
    return "too many accumulators per thread";
  }
  if (warp_n % (4 * unit()) != 0) return fmt::format("columns of a warp are no multiple of {}", 4 * unit());
  if (!within(row_bytes, {64, 128}) || stages < 2 || stages > 8) return "2 to 8 stages of 64 or 128 bytes";
  if (!within(vector_bytes, {1, 2, 4, 8, 16}) || vector_bytes < element_bytes()) return "vectors of an element or more";
  const int chunks = row_bytes / kChunkBytes;
  if (tile_m() * chunks % threads() != 0 || tile_n() * chunks % threads() != 0) return "threads without a copy";
  if (columns != ColumnSource::packed && element_bytes() == 1) return "computed 8-bit operands";
  if (columns == ColumnSource::transposed) {
    const int across = tile_n() * element_bytes() / kChunkBytes;
    if (across < 8 || threads() % across != 0) return "rows of transposed columns are too short or too long";
  }
  if (shared_bytes() > kMaxSharedBytes) return "the stages do not fit in shared memory";
  return std::nullopt;
}

std::string TileSchedule::describe() const {
  return fmt::format("{} {}x{} by {}x{} warps, {} stages of {} bytes, vectors of {}", tf32 ? "tf32" : to_string(element),
                     tile_m(), tile_n(), warps_m, warps_n, stages, row_bytes, vector_bytes);
}

std::vector<std::int64_t> TileSchedule::encode() const {
  return {static_cast<std::int64_t>(element),
          static_cast<std::int64_t>(output),
          tf32,
          static_cast<std::int64_t>(rows),
          static_cast<std::int64_t>(columns),
          warps_m,
          warps_n,
          warp_m,
          warp_n,
          row_bytes,
          stages,
          vector_bytes};
}

TileSchedule TileSchedule::decode(std::span<const std::int64_t> parameters) {
  require(parameters.size() == kNumParameters &&
              std::all_of(parameters.begin(), parameters.end(), [](std::int64_t v) { return 0 <= v && v <= 128; }) &&
              parameters[2] <= 1 && parameters[3] <= 2 && parameters[4] <= 2,
          Code::incompatible_engine, "the parameters of a tiled product are no schedule");
  const auto number = [&](std::size_t i) { return static_cast<int>(parameters[i]); };
  const TileSchedule schedule{.element = static_cast<DType>(number(0)),
                              .output = static_cast<DType>(number(1)),
                              .tf32 = number(2) == 1,
                              .rows = static_cast<RowSource>(number(3)),
                              .columns = static_cast<ColumnSource>(number(4)),
                              .warps_m = number(5),
                              .warps_n = number(6),
                              .warp_m = number(7),
                              .warp_n = number(8),
                              .row_bytes = number(9),
                              .stages = number(10),
                              .vector_bytes = number(11)};
  const auto refusal = schedule.refuses();
  require(!refusal, Code::incompatible_engine, "the schedule of a tiled product cannot be built: {}",
          refusal.value_or(""));
  return schedule;
}

}  // namespace tenfold::cuda
