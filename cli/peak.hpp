// The processor's measured limits, the yardsticks of `bench`: float32 multiply-adds, and reading memory.
#pragma once

#include <cstddef>
#include <string_view>

namespace tenfold::cli {

/// Billions of operations a second (a multiply-add is 2) that `num_threads` threads reach together in registers, with
/// the widest fused multiply-add that `target` ("x86-64 avx2", "x86-64 avx512") may use. The best of several short
/// tries. 0 on a processor that has neither.
double measure_peak_gflops(std::string_view target, int num_threads);

/// Gigabytes (1e9) a second that `num_threads` threads read together from `bytes` of memory, each from a part of its
/// own, over and over: what fits into a cache comes from there. 0 on a processor without AVX2.
double measure_read_gigabytes(std::size_t bytes, int num_threads);

}  // namespace tenfold::cli
