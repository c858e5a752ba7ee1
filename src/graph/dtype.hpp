// Element types of tensors: the enumeration is public (tenfold/types.hpp); this adds what the inside needs.
#pragma once

#include "tenfold/types.hpp"

namespace tenfold {

inline constexpr int kNumDTypes = 15;

}  // namespace tenfold
