// The model: a tile costs the longest of multiplying, filling shared memory and finishing (their sum where a schedule
// does not overlap them); a kernel costs its waves of tiles, but at least its bytes of device memory. Its constants are
// fitted to 610 measurements of 98 shapes on an H100; other devices of sm_90 scale by multiprocessors, clock,
// bandwidth.
#include "backend/cuda/gemm_candidates.hpp"

#include <algorithm>
#include <array>
#include <tuple>

namespace tenfold::cuda {
namespace {

/// Per clock and multiprocessor: multiply-adds of 16-bit elements, bytes from the second-level cache, and bytes of
/// partial sums from the other blocks of a cluster.
constexpr double kHalfMultiplies = 2048, kFillBytes = 46, kReduceBytes = 12;
/// What is reached of the peak rates.
constexpr double kMmaEfficiency = 0.835, kStreamEfficiency = 0.85, kClockEfficiency = 0.83;
/// Clocks: before the first product, of a tile's epilogue, of each result and each of its operands, of a reduction.
constexpr double kFillLatency = 1340, kFinishLatency = 1100, kFinishResult = 0.057, kFinishOperand = 0.038;
constexpr double kReduceLatency = 680;
constexpr double kLaunchUs = 0.75, kOverlapLoss = 0.15;
constexpr int kMaxStages = 8;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

double estimate_us(const GemmSchedule& schedule, const GemmShape& shape, const DeviceTraits& traits) {
  const double loads = static_cast<double>(loads_along_k(schedule, shape.channels, shape.positions));
  const double k = loads * schedule.row_elements();
  const double tile_m = schedule.tile_m(), tile_n = schedule.tile_n;
  const double rate = kHalfMultiplies * 2.0 / schedule.element_bytes() * kMmaEfficiency;
  const std::int64_t tiles_m = ceil_div(shape.m, schedule.tile_m()),
                     tiles_n = ceil_div(shape.n, schedule.result_columns());
  const std::int64_t tiles = tiles_m * tiles_n * shape.batches;
  const double split = std::max(schedule.split_k, 1);
  const double multiply = tile_m * tile_n * k / split / rate;
  const double fill = (tile_m + (schedule.resident ? 0 : tile_n)) * loads * schedule.row_bytes / split / kFillBytes;
  const double operands = shape.num_whole;
  const double finish = (kFinishLatency + tile_m * tile_n * (kFinishResult + kFinishOperand * operands) / split) *
                        (operands > 0 && schedule.staged_residuals == 0 ? 1.6 : 1.0);
  const double sms = traits.num_sms;
  double clocks = 0;
  if (schedule.split_k > 0) {
    const double per_sm = schedule.shared_bytes(0) * 2 <= kMaxSharedBytes ? 2 : 1;
    const double blocks = static_cast<double>(tiles) * split;
    const double waves = std::ceil(blocks / (sms * per_sm));
    const double busy = std::min(per_sm, std::max(1.0, blocks / sms));
    const double reduce = schedule.split_k > 1 ? kReduceLatency + tile_m * tile_n * 4 / kReduceBytes : 0;
    clocks = waves * (kFillLatency + busy * std::max(multiply, fill) + finish + reduce);
  } else {
    double blocks = sms;
    if (schedule.resident) blocks = std::floor(sms / static_cast<double>(tiles_n)) * static_cast<double>(tiles_n);
    const double turns = std::ceil(static_cast<double>(tiles) / blocks);
    const double overlapped = std::max({multiply, fill, finish / schedule.consumers});
    const double tile = schedule.ping_pong ? overlapped : std::max(multiply, fill) + finish;
    clocks = kFillLatency + turns * tile + (schedule.ping_pong ? finish : 0);
    if (schedule.resident) clocks += loads * tile_n * schedule.row_bytes / kFillBytes;
  }
  const double results = static_cast<double>(shape.m * shape.batches) * static_cast<double>(shape.n);
  double bytes = shape.input_bytes + results * schedule.output_bytes() * (1 + operands) +
                 static_cast<double>(shape.n) * (shape.gated ? 2 : 1) * k * schedule.element_bytes() *
                     (shape.columns == ColumnSource::packed ? 1.0 : static_cast<double>(shape.batches));
  const double compute_us = clocks / (traits.clock_ghz * 1000 * kClockEfficiency);
  const double memory_us = bytes / (traits.bandwidth_gb_s * 1000 * kStreamEfficiency);
  const double longer = std::max(compute_us, memory_us), shorter = std::min(compute_us, memory_us);
  return kLaunchUs + longer + kOverlapLoss * shorter;
}

struct Tile {
  int consumers, blocks_m, tile_n;
  bool ping_pong;
};
constexpr std::array kTiles{
    Tile{1, 1, 64, false},  Tile{1, 1, 128, false}, Tile{2, 1, 64, false},  Tile{2, 1, 96, false},
    Tile{2, 1, 128, false}, Tile{2, 1, 160, false}, Tile{2, 1, 192, false}, Tile{2, 1, 256, false},
    Tile{2, 2, 64, false},  Tile{2, 2, 128, false}, Tile{3, 1, 128, false}, Tile{2, 1, 128, true},
    Tile{2, 1, 256, true},  Tile{2, 2, 64, true},   Tile{2, 2, 128, true},  Tile{3, 1, 64, true},
    Tile{3, 1, 128, true},  Tile{3, 2, 64, true},   Tile{2, 1, 32, false},
};
struct SplitTile {
  int consumers, blocks_m, tile_n;
};
constexpr std::array kSplitTiles{SplitTile{1, 1, 32},  SplitTile{1, 1, 64},  SplitTile{1, 1, 128},
                                 SplitTile{2, 1, 32},  SplitTile{2, 1, 64},  SplitTile{2, 1, 128},
                                 SplitTile{2, 1, 160}, SplitTile{2, 1, 256}, SplitTile{2, 2, 128}};
constexpr std::array kSplits{1, 2, 3, 4, 5, 6, 8};

/// Bytes of one load along k: as long as they waste little of a kernel position's channels.
int row_bytes_for(const GemmShape& shape) {
  if (shape.rows != RowSource::image) return 128;
  const std::int64_t bytes = shape.channels * static_cast<std::int64_t>(size_of(shape.element));
  int best = 128;
  for (const int row : {64, 32}) {
    if (ceil_div(bytes, row) * row * 5 <= ceil_div(bytes, best) * best * 4) best = row;
  }
  return best;
}

/// Fills shared memory with stages; nullopt-like false if fewer than two fit.
bool fit_stages(GemmSchedule& schedule, std::int64_t loads_k) {
  for (schedule.stages = kMaxStages; schedule.stages >= 2; --schedule.stages) {
    if (schedule.shared_bytes(loads_k) <= kMaxSharedBytes) return true;
  }
  return false;
}

}  // namespace

std::int64_t loads_along_k(const GemmSchedule& schedule, std::int64_t channels, std::int64_t positions) {
  const std::int64_t loads = ceil_div(channels, schedule.row_elements()) * positions;
  return ceil_div(loads, schedule.loads_per_stage) * schedule.loads_per_stage;
}

std::vector<RankedSchedule> rank_schedules(const GemmShape& shape, const DeviceTraits& traits, std::size_t count) {
  std::vector<RankedSchedule> ranked;
  const int row_bytes = row_bytes_for(shape);
  const auto offer = [&](GemmSchedule schedule) {
    const std::int64_t loads = loads_along_k(schedule, shape.channels, shape.positions);
    // A load behind the last kernel position would leave the image, so stages must divide k evenly there.
    if (shape.rows == RowSource::image &&
        loads != ceil_div(shape.channels, schedule.row_elements()) * shape.positions) {
      return;
    }
    if (!fit_stages(schedule, loads) || schedule.refuses()) return;
    if (schedule.resident && ceil_div(shape.n, schedule.result_columns()) * 4 > traits.num_sms) return;
    if (schedule.resident && schedule.stages < 3) return;
    ranked.push_back({schedule, estimate_us(schedule, shape, traits)});
  };
  const GemmSchedule base{.element = shape.element,
                          .output = shape.output,
                          .rows = shape.rows,
                          .columns = shape.columns,
                          .row_bytes = row_bytes,
                          .loads_per_stage = 1,
                          .gated = shape.gated};
  for (const Tile& tile : kTiles) {
    // A tile much wider than the product only wastes.
    if (tile.tile_n > 64 && tile.tile_n >= 2 * shape.n) continue;
    for (const int loads : {1, 2, 4}) {
      if (loads * row_bytes > 256) continue;
      for (const bool resident : {false, true}) {
        for (const bool staged : {false, true}) {
          GemmSchedule schedule = base;
          schedule.consumers = tile.consumers;
          schedule.blocks_m = tile.blocks_m;
          schedule.tile_n = tile.tile_n;
          schedule.ping_pong = tile.ping_pong;
          schedule.loads_per_stage = loads;
          schedule.resident = resident;
          if (staged && !shape.can_stage) continue;
          if (staged) schedule.staged_residuals = tile.ping_pong ? 2 * tile.consumers : 2;
          offer(schedule);
        }
      }
    }
  }
  if (shape.columns == ColumnSource::packed && shape.batches == 1 && !shape.gated) {
    for (const SplitTile& tile : kSplitTiles) {
      for (const int split : kSplits) {
        for (const int loads : {1, 2, 4}) {
          if (loads * row_bytes > 256) continue;
          GemmSchedule schedule = base;
          schedule.consumers = tile.consumers;
          schedule.blocks_m = tile.blocks_m;
          schedule.tile_n = tile.tile_n;
          schedule.loads_per_stage = loads;
          schedule.split_k = split;
          const std::int64_t steps = loads_along_k(schedule, shape.channels, shape.positions) / loads;
          const std::int64_t tiles = ceil_div(shape.m, schedule.tile_m()) * ceil_div(shape.n, tile.tile_n);
          if (steps < split || tiles * split > std::int64_t{8} * traits.num_sms) continue;
          offer(schedule);
        }
      }
    }
  }
  const auto key = [](const RankedSchedule& r) { return std::tuple(r.estimated_us, r.schedule.encode()); };
  std::sort(ranked.begin(), ranked.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
  // Twins that differ only in how k is cut into stages would crowd out other tiles: the better one stands for both.
  std::vector<RankedSchedule> chosen;
  for (const RankedSchedule& candidate : ranked) {
    const auto is_twin = [&](const RankedSchedule& other) {
      GemmSchedule a = candidate.schedule, b = other.schedule;
      a.stages = b.stages, a.loads_per_stage = b.loads_per_stage;
      return a == b;
    };
    if (std::none_of(chosen.begin(), chosen.end(), is_twin)) chosen.push_back(candidate);
    if (chosen.size() == count) break;
  }
  return chosen;
}

}  // namespace tenfold::cuda
