// Which schedules are worth timing for a product, by a model of the device.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/cuda/cuda_tactic.hpp"
#include "backend/cuda/gemm_schedule.hpp"

namespace tenfold::cuda {

/// A product as the model sees it: sizes at the profile's optimum.
struct GemmShape {
  std::int64_t m = 1, n = 1;
  std::int64_t channels = 1;   ///< elements of k behind each kernel position
  std::int64_t positions = 1;  ///< kernel positions; 1 for matrices
  std::int64_t batches = 1;
  double input_bytes = 0;  ///< of A in memory, before any gathering
  int num_whole = 0;       ///< epilogue operands of the output's size
  bool can_stage = false;  ///< the first of them can be staged
  bool gated = false;      ///< b has 2 n columns; see GemmSchedule::gated
  RowSource rows = RowSource::matrix;
  ColumnSource columns = ColumnSource::packed;
  DType element = DType::float16;
  DType output = DType::float16;
};

struct RankedSchedule {
  GemmSchedule schedule;
  double estimated_us = 0;
};

/// Loads of schedule.row_bytes along k, each kernel position padded to whole loads.
std::int64_t loads_along_k(const GemmSchedule& schedule, std::int64_t channels, std::int64_t positions);
/// The best `count` by the model, best first. Deterministic.
std::vector<RankedSchedule> rank_schedules(const GemmShape& shape, const DeviceTraits& traits, std::size_t count);

}  // namespace tenfold::cuda
