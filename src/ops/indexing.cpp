#include "ops/indexing.hpp"

namespace tenfold {

void check_index_type(const InferContext& context, int index) {
  const DType dtype = context.input(index).dtype;
  require(dtype == DType::int32 || dtype == DType::int64, Code::invalid_model, "indices must be int32 or int64, got {}",
          to_string(dtype));
}

void normalize_indices(std::vector<std::int64_t>& indices, std::int64_t size, Code code) {
  for (std::int64_t& index : indices) {
    require(-size <= index && index < size, code, "index {} is outside an axis of {} elements", index, size);
    if (index < 0) index += size;
  }
}

void check_element_indices(std::span<const std::int64_t> data, std::span<const std::int64_t> indices,
                           std::size_t axis) {
  bool fits = data.size() == indices.size();
  for (std::size_t i = 0; fits && i < data.size(); ++i) fits = i == axis || indices[i] <= data[i];
  require(fits, Code::invalid_argument, "indices of shape [{}] exceed the data's shape [{}]", fmt::join(indices, ", "),
          fmt::join(data, ", "));
}

std::vector<std::int64_t> nd_offsets(std::span<const std::int64_t> data, const std::vector<std::int64_t>& indices,
                                     std::size_t batch, std::size_t depth) {
  const Shape strides = strides_of(data);
  std::vector<std::int64_t> offsets(indices.size() / depth, 0);
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    for (std::size_t d = 0; d < depth; ++d) {
      const std::int64_t size = data[batch + d];
      const std::int64_t index = indices[i * depth + d];
      require(-size <= index && index < size, Code::invalid_argument, "index {} is outside axis {} of {} elements",
              index, batch + d, size);
      offsets[i] += (index < 0 ? index + size : index) * strides[batch + d];
    }
  }
  return offsets;
}

}  // namespace tenfold
