// Parts of ByteKernels that have files of their own.
#pragma once

#include "backend/cpu/kernels/byte_product.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// ByteKernels::run where panels are ordered; byte_ordered.cpp.
void run_ordered_product(const ByteProductArgs& args, const Workers& workers);

/// ByteKernels::run_depthwise; byte_depthwise.cpp.
void run_byte_depthwise(const ByteDepthwiseArgs& args, const Workers& workers);

}  // namespace tenfold::cpu::TENFOLD_TIER
