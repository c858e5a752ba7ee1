// Where a kernel of the host begins to read its weights, for the step before it, which may ask for them ahead.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tenfold {

/// Weights in panels, of which each of n threads reads its own: thread t begins with panel t * panels / n.
struct WeightPanels {
  const std::byte* data = nullptr;  ///< nullptr: none
  std::int64_t panels = 0;
  std::int64_t panel_bytes = 0;  ///< of all but the last one, which may be narrower
  std::int64_t first_bytes = 0;  ///< of a panel, that are read before the next one is
};

}  // namespace tenfold
