// The processor's measured limit of float32 multiply-adds, the yardstick of `bench`.
#pragma once

#include <string_view>

namespace tenfold::cli {

/// Billions of operations a second (a multiply-add is 2) that `num_threads` threads reach together in registers, with
/// the widest fused multiply-add that `target` ("x86-64 avx2", "x86-64 avx512") may use. The best of several short
/// tries. 0 on a processor that has neither.
double measure_peak_gflops(std::string_view target, int num_threads);

}  // namespace tenfold::cli
