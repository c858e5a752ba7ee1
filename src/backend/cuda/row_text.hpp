// Text that kernels over rows share: a row's elements held by a warp or a block, and sums over all its threads.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "graph/dtype.hpp"

namespace tenfold::cuda {

/// How threads share a row. A warp takes a short row alone, a block a long one.
struct RowShape {
  int threads = 256;  ///< of a row: 32, or those of the block
  int block = 256;    ///< of a block
  int vector = 1;     ///< elements that a thread loads at once
  int cached = 0;     ///< such vectors that each thread keeps in registers; 0: the row is read again for every pass
  int rows() const { return block / threads; }
};
/// For rows of `length` elements (nullopt: not known before the launch) of this type, loaded `vector` at once.
RowShape row_shape(std::optional<std::int64_t> length, int vector);
/// Elements of 16 bytes.
int widest_vector(DType dtype);

/// tf::Row<T, V, Threads, Cached>, tf::row_sum<Threads>(float), tf::row_max<Threads>(float). Behind device_prelude and
/// nest_prelude.
std::string_view row_prelude();
/// "tf::Row<tf::f16, 8, 32, 3>"
std::string row_type(DType dtype, const RowShape& shape);

}  // namespace tenfold::cuda
