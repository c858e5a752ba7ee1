// What the files of this folder offer to pipeline.cpp.
#pragma once

#include <span>

#include "passes/pass.hpp"

namespace tenfold {

extern const std::span<const Rewrite> kFusionRewrites;  // fusion.cpp

}  // namespace tenfold
