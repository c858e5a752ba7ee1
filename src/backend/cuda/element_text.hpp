// What plain kernels share: one thread for each element or column, any element type, float64 included.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>

#include "backend/cuda/cuda_tactic.hpp"
#include "backend/cuda/tactic_tools.hpp"

namespace tenfold::cuda {

/// float32, float16, bfloat16 or float64.
bool is_plain_float(DType dtype);
/// The unsigned integer that holds an element whose value does not matter.
std::string_view bits_type(std::size_t bytes);

/// Text behind `device_prelude`: in namespace tf
///   Element<T>::C (double for double, else float), Element<T>::get(T) -> C, Element<T>::put(C) -> T
///   for_each_thread(count, f): f(i) for every i < count, spread over the threads of the launch
///   key_of(T): an unsigned integer in the order of the values, NaN above all numbers, -0 equal to 0; Key<T>::type
///   sort_pairs(keys, size): a whole block sorts `size` (a power of 2) unsigned 64-bit numbers, smallest first
///   block_scan(value, total): a whole block of 256 threads: the sum over the threads before, and over all
std::string_view element_prelude();

/// As many threads as there are elements, in blocks of `block`, at most as many blocks as a grid has.
LaunchConfig one_thread_each(const Function& function, std::int64_t threads, int block = 256);

/// Dims of a tensor as kernels get them (`struct Sizes` in element_prelude), and strides in elements of a contiguous
/// one.
struct Sizes {
  std::int32_t rank = 0;
  std::int32_t padding = 0;
  std::int64_t at[kMaxRank] = {};
};
Sizes sizes_of(std::span<const std::int64_t> dims);
Sizes contiguous_strides(std::span<const std::int64_t> dims);

}  // namespace tenfold::cuda
