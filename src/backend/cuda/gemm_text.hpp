// Kernels of matrix products and convolutions, as text from a schedule.
#pragma once

#include <string>

#include "backend/cuda/epilogue_text.hpp"
#include "backend/cuda/gemm_schedule.hpp"

namespace tenfold::cuda {

inline constexpr std::string_view kGemmEntry = "tenfold_gemm";

/// The source of one kernel, `kGemmEntry(map_a, map_b, map_residual, GemmArguments)`: persistent blocks, or, with
/// split_k, one tile per cluster of blocks. Pure: equal schedules and epilogues give equal text.
std::string gemm_text(const GemmSchedule& schedule, const EpilogueSpec& epilogue);

namespace detail {
std::string_view persistent_gemm_text();
std::string_view split_gemm_text();
}  // namespace detail

}  // namespace tenfold::cuda
