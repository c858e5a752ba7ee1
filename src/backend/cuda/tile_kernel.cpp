// The model that ranks tiles: blocks share a multiprocessor; a slice of k costs the longest of multiplying, of reading
// shared memory and of filling it.
#include "backend/cuda/tile_kernel.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <tuple>

#include <fmt/format.h>

#include "base/error.hpp"

namespace tenfold::cuda {
namespace {

constexpr std::size_t kShortlist = 6;
constexpr int kGroupM = 8;
/// The hardware's limit on blocks along y.
constexpr std::int64_t kMaxBatches = 65535;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

struct Tile {
  int warps_m, warps_n, warp_m, warp_n;
};
constexpr std::array kTiles{
    Tile{2, 4, 64, 32}, Tile{2, 2, 64, 64}, Tile{2, 2, 64, 32}, Tile{2, 2, 32, 64}, Tile{2, 4, 64, 64},
    Tile{4, 2, 64, 64}, Tile{4, 2, 32, 64}, Tile{2, 2, 32, 32}, Tile{4, 1, 32, 32}, Tile{4, 1, 32, 64},
    Tile{4, 1, 64, 32}, Tile{2, 2, 16, 32}, Tile{1, 4, 16, 32}, Tile{1, 2, 16, 32}, Tile{1, 4, 16, 64},
    Tile{2, 2, 32, 16}, Tile{4, 1, 32, 16}, Tile{4, 1, 64, 16}, Tile{2, 2, 16, 64}, Tile{1, 4, 32, 64},
};

/// Multiply-adds of 16-bit elements (of exact float32) per clock and multiprocessor that mma.sync (the ordinary cores)
/// reach. CUDA C++ Programming Guide, arithmetic throughput; on sm_90 mma.sync gets less than two thirds of wgmma's.
double multiplies_per_clock(const TileSchedule& schedule, const DeviceTraits& traits) {
  if (schedule.is_exact()) return traits.sm == 80 ? 64 : 128;
  const double half = traits.sm == 80 ? 1024 : traits.sm == 90 ? 1250 : 512;
  return half * 2 / schedule.element_bytes();
}

int blocks_per_sm(const TileSchedule& schedule, const DeviceTraits& traits) {
  constexpr int kMost = 4;
  const int by_accumulators = schedule.accumulators() > 64 ? (schedule.threads() > 128 ? 1 : 2)
                              : schedule.threads() > 128   ? 2
                                                           : kMost;
  return std::clamp(static_cast<int>(static_cast<std::int64_t>(traits.smem_optin_bytes) / schedule.shared_bytes()), 1,
                    by_accumulators);
}

double estimate_us(const TileSchedule& schedule, const TileShape& shape, const DeviceTraits& traits) {
  constexpr double kEfficiency = 0.75, kSharedBytes = 128, kFillBytes = 40, kStreamEfficiency = 0.85;
  constexpr double kFillLatency = 1200, kFinishLatency = 700, kFinishResult = 0.09, kLaunchUs = 1, kShortVectorClocks = 3;
  const double slices = static_cast<double>(slices_of(schedule, shape.k));
  const double tile_m = schedule.tile_m(), tile_n = schedule.tile_n(), warps = schedule.threads() / 32;
  const double multiply = tile_m * tile_n * schedule.slice() / (multiplies_per_clock(schedule, traits) * kEfficiency);
  const double read = warps * (schedule.warp_m + schedule.warp_n) * schedule.row_bytes / kSharedBytes *
                      (schedule.is_exact() ? 4 : 1);  // a warp reads a float again for each of its lanes' rows
  const double bytes = (tile_m + tile_n) * schedule.row_bytes;
  const double copies = tile_m * schedule.row_bytes / schedule.vector_bytes * kShortVectorClocks / 32;
  const double slice = std::max({multiply, read, bytes / kFillBytes, copies});
  const double finish = kFinishLatency + tile_m * tile_n * kFinishResult * (1 + 0.7 * shape.num_whole);
  const double tiles = static_cast<double>(ceil_div(shape.m, schedule.tile_m()) *
                                           ceil_div(shape.n, schedule.tile_n()) * shape.batches);
  const double per_sm = blocks_per_sm(schedule, traits);
  const double waves = std::ceil(tiles / (traits.num_sms * per_sm));
  const double busy = std::min(per_sm, std::max(1.0, std::ceil(tiles / traits.num_sms)));
  // Blocks of one multiprocessor hide each other's starts and ends.
  const double clocks = kFillLatency + waves * (busy * slices * slice + finish);
  const double results = static_cast<double>(shape.m * shape.n) * static_cast<double>(shape.batches);
  const double memory = shape.input_bytes + results * schedule.output_bytes() * (1 + shape.num_whole) +
                        static_cast<double>(shape.n * shape.k * shape.batches) * schedule.element_bytes();
  return kLaunchUs + std::max(clocks / (traits.clock_ghz * 1000 * 0.85),
                              memory / (traits.bandwidth_gb_s * 1000 * kStreamEfficiency));
}

/// As many stages as leave the multiprocessor its blocks.
bool fit_stages(TileSchedule& schedule, const DeviceTraits& traits) {
  constexpr int kMostStages = 5;
  const auto optin = static_cast<std::int64_t>(traits.smem_optin_bytes);
  const int wanted = schedule.accumulators() > 64 && schedule.threads() > 128 ? 1 : 2;
  for (const int blocks : {wanted, 1}) {
    for (schedule.stages = kMostStages; schedule.stages >= 3; --schedule.stages) {
      if (schedule.shared_bytes() * blocks <= optin) return true;
    }
  }
  schedule.stages = 2;
  return schedule.shared_bytes() <= optin;
}

unsigned magic_of(int divisor) {
  return static_cast<unsigned>(((std::uint64_t{1} << 32) + static_cast<std::uint64_t>(divisor) - 1) /
                               static_cast<std::uint64_t>(divisor));
}

}  // namespace

int vector_bytes_of(std::initializer_list<std::int64_t> bytes) {
  std::int64_t together = 16;
  for (const std::int64_t b : bytes) together |= b;
  return 1 << std::countr_zero(static_cast<std::uint64_t>(together));
}

std::int64_t padded_columns(const TileSchedule& schedule, std::int64_t n) {
  return ceil_div(n, schedule.tile_n()) * schedule.tile_n();
}
std::int64_t slices_of(const TileSchedule& schedule, std::int64_t k) { return ceil_div(k, schedule.slice()); }
std::int64_t packed_tiles_bytes(const TileSchedule& schedule, std::int64_t groups, std::int64_t n, std::int64_t k) {
  return groups * padded_columns(schedule, n) * slices_of(schedule, k) * schedule.row_bytes;
}

std::optional<std::string> refuses_tile_elements(DType a, DType b, DType result) {
  if (a == DType::float32 && b == DType::float32 && result == DType::float32) return std::nullopt;
  return refuses_elements(a, b, result);
}

void offer_tiles(const TileShape& shape, const DeviceTraits& traits, std::vector<Candidate>& out) {
  if (shape.batches > kMaxBatches) {
    offer_refusal(fmt::format("{} batches or groups, at most {}", shape.batches, kMaxBatches), out);
    return;
  }
  if (shape.element == DType::float8e4m3 && traits.sm < kFloat8Sm) {
    offer_refusal(fmt::format("tensor cores multiply float8e4m3 from compute capability 8.9 on, the device has {}.{}",
                              traits.sm / 10, traits.sm % 10),
                  out);
    return;
  }
  struct Ranked {
    TileSchedule schedule;
    double us;
  };
  std::vector<Ranked> ranked;
  for (const Tile& tile : kTiles) {
    for (const int row_bytes : {64, 128}) {
      TileSchedule schedule{.element = shape.element,
                            .output = shape.output,
                            .tf32 = shape.tf32,
                            .rows = shape.rows,
                            .columns = shape.columns,
                            .warps_m = tile.warps_m,
                            .warps_n = tile.warps_n,
                            .warp_m = tile.warp_m,
                            .warp_n = tile.warp_n,
                            .row_bytes = row_bytes,
                            .vector_bytes = shape.vector_bytes};
      if (!fit_stages(schedule, traits) || schedule.refuses()) continue;
      ranked.push_back({schedule, estimate_us(schedule, shape, traits)});
    }
  }
  const auto key = [](const Ranked& r) { return std::tuple(r.us, r.schedule.encode()); };
  std::sort(ranked.begin(), ranked.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
  if (ranked.size() > kShortlist) ranked.resize(kShortlist);
  for (const Ranked& entry : ranked) {
    Candidate candidate;
    candidate.parameters = entry.schedule.encode();
    candidate.estimated_us = entry.us;
    out.push_back(std::move(candidate));
  }
  if (ranked.empty()) offer_refusal("no tile fits this product", out);
}

std::vector<std::byte> pack_tiles(
    const TileSchedule& schedule, std::int64_t groups, std::int64_t n, std::int64_t k, const std::byte* data,
    const std::function<std::int64_t(std::int64_t, std::int64_t, std::int64_t)>& place) {
  std::vector<std::byte> packed(static_cast<std::size_t>(packed_tiles_bytes(schedule, groups, n, k)));
  const std::int64_t padded = padded_columns(schedule, n), row = slices_of(schedule, k) * schedule.slice();
  const auto size = static_cast<std::size_t>(schedule.element_bytes());
  for (std::int64_t f = 0; f < groups * padded; ++f) {
    const std::int64_t group = f / padded, within = f - group * padded, inside = within % schedule.tile_n();
    const std::int64_t column = within - inside + column_of(static_cast<int>(inside), schedule.unit());
    if (column >= n) continue;
    for (std::int64_t i = 0; i < k; ++i) {
      const std::int64_t from = place(group, column, i);
      if (from < 0) continue;
      std::memcpy(packed.data() + static_cast<std::size_t>(f * row + i) * size, data + static_cast<std::size_t>(from) * size, size);
    }
  }
  if (schedule.tf32) round_to_tf32(packed);
  return packed;
}

TileLauncher::TileLauncher(const TileSchedule& schedule, EpilogueSpec epilogue, const LoadedModule& module)
    : schedule_(schedule), epilogue_(std::move(epilogue)), function_(module.function(kTileEntry)) {
  require(static_cast<std::size_t>(schedule.shared_bytes()) <= module.traits().smem_optin_bytes,
          Code::incompatible_engine, "the tiles of the engine need {} bytes of shared memory, this device has {}",
          schedule.shared_bytes(), module.traits().smem_optin_bytes);
}

void TileLauncher::run(const Launch& launch, GemmArguments& arguments, TileOperands& operands, std::int64_t n,
                       std::int64_t batches, int first_input) const {
  const TensorView& output = launch.outputs[0];
  bind_output(output, schedule_.unit(), arguments);
  bind_operands(epilogue_, launch.inputs, first_input, output, arguments);
  if (n % schedule_.unit() != 0 && n != arguments.n) arguments.aligned = 0;  // groups begin between units
  arguments.tiles_m = static_cast<int>(ceil_div(arguments.m, schedule_.tile_m()));
  arguments.tiles_n = static_cast<int>(ceil_div(n, schedule_.tile_n()));
  arguments.group_m = kGroupM;
  operands.steps = static_cast<int>(slices_of(schedule_, operands.k));
  operands.columns = static_cast<int>(n);
  operands.padded_columns = static_cast<int>(padded_columns(schedule_, n));
  operands.channels_magic = magic_of(std::max(operands.channels, 1));
  operands.kernel_w_magic = magic_of(std::max(arguments.kernel_w, 1));
  LaunchConfig config;
  config.function = function_;
  config.block.x = static_cast<unsigned>(schedule_.threads());
  config.grid = {static_cast<unsigned>(arguments.tiles_m * arguments.tiles_n), static_cast<unsigned>(batches), 1};
  config.smem_bytes = static_cast<unsigned>(schedule_.shared_bytes());
  config.pdl = true;
  cuda_stream(launch).launch(config, arguments, operands);
}

}  // namespace tenfold::cuda
