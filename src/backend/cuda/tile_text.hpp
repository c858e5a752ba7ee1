// Kernels of tiled products and convolutions, as text from a schedule.
#pragma once

#include <string>
#include <string_view>

#include "backend/cuda/epilogue_text.hpp"
#include "backend/cuda/tile_schedule.hpp"

namespace tenfold::cuda {

inline constexpr std::string_view kTileEntry = "tenfold_tiles";

/// The source of one kernel, `kTileEntry(GemmArguments, TileOperands)`. Grid: tiles, batches or groups. Pure: equal
/// schedules and epilogues give equal text. Runs on sm_80 and later.
std::string tile_text(const TileSchedule& schedule, const EpilogueSpec& epilogue);

}  // namespace tenfold::cuda
