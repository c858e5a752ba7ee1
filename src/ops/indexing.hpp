// Positions that come as data: what Gather and Scatter and their variants share.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "graph/op.hpp"
#include "ops/numbers.hpp"

namespace tenfold {

/// int32 or int64.
void check_index_type(const InferContext& context, int index);
/// Counts negative indices from the end. Throws Error(code) for one outside an axis of `size` elements.
void normalize_indices(std::vector<std::int64_t>& indices, std::int64_t size, Code code);
/// Throws Error(invalid_argument) unless the indices' shape lies within the data's, `axis` aside.
void check_element_indices(std::span<const std::int64_t> data, std::span<const std::int64_t> indices, std::size_t axis);
/// For each index tuple of `depth` numbers: its offset in elements from the start of its batch, whose axes are
/// data[0 .. batch). Throws Error(invalid_argument) for an index outside.
std::vector<std::int64_t> nd_offsets(std::span<const std::int64_t> data, const std::vector<std::int64_t>& indices,
                                     std::size_t batch, std::size_t depth);

/// Calls f(i, at) for each element i of `indices` (normal, of shape `dims`): at is the place in a tensor of shape
/// `data` whose position along `axis` is indices[i] and which has i's position along the others.
template <typename F>
void for_each_element_index(std::span<const std::int64_t> data, std::span<const std::int64_t> dims, std::size_t axis,
                            const std::vector<std::int64_t>& indices, F&& f) {
  std::vector<Shape> strides{strides_of(data)};
  const std::int64_t along = strides[0][axis];
  strides[0][axis] = 0;
  std::int64_t i = 0;
  for_each_index(dims, strides, [&](std::span<const std::int64_t> at) {
    f(i, at[0] + indices[static_cast<std::size_t>(i)] * along);
    ++i;
  });
}

}  // namespace tenfold
