#include "ops/numbers.hpp"

#include <cmath>
#include <limits>

namespace tenfold {

std::vector<double> load_doubles(const TensorView& view) {
  ensure(view.is_contiguous(), "a reference reads contiguous tensors only");
  std::vector<double> values(static_cast<std::size_t>(view.num_elements()));
  dispatch(view.dtype, [&]<typename T>() {
    const T* data = view.as<const T>();
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(data[i]);
  });
  return values;
}

std::vector<std::int64_t> load_int64(const TensorView& view) {
  ensure(view.is_contiguous() && (is_integer(view.dtype) || view.dtype == DType::boolean),
         "a reference reads contiguous integers here");
  std::vector<std::int64_t> values(static_cast<std::size_t>(view.num_elements()));
  dispatch(view.dtype, [&]<typename T>() {
    const T* data = view.as<const T>();
    for (std::size_t i = 0; i < values.size(); ++i) {
      if constexpr (std::is_integral_v<T>) values[i] = static_cast<std::int64_t>(data[i]);
    }
  });
  return values;
}

std::int64_t lowest_of(DType dtype) {
  return dispatch(dtype, []<typename T>() -> std::int64_t {
    if constexpr (std::is_integral_v<T>) return static_cast<std::int64_t>(std::numeric_limits<T>::lowest());
    throw Error(Code::internal, "range of a type that is no integer");
  });
}

std::int64_t highest_of(DType dtype) {
  return dispatch(dtype, []<typename T>() -> std::int64_t {
    if constexpr (std::is_same_v<T, std::uint64_t>) return std::numeric_limits<std::int64_t>::max();
    if constexpr (std::is_integral_v<T>) return static_cast<std::int64_t>(std::numeric_limits<T>::max());
    throw Error(Code::internal, "range of a type that is no integer");
  });
}

std::int64_t saturate(double value, DType dtype) {
  if (std::isnan(value)) return 0;
  const std::int64_t low = lowest_of(dtype);
  const std::int64_t high = highest_of(dtype);
  const double rounded = std::nearbyint(value);
  // Compared as doubles first: converting a double outside the range of int64 is undefined.
  if (rounded <= static_cast<double>(low)) return low;
  if (rounded >= static_cast<double>(high)) return high;
  return static_cast<std::int64_t>(rounded);
}

void store_doubles(std::span<const double> values, const TensorView& view) {
  ensure(view.is_contiguous(), "a reference writes contiguous tensors only");
  ensure(static_cast<std::int64_t>(values.size()) == view.num_elements(), "{} values for a tensor of {} elements",
         values.size(), view.num_elements());
  dispatch(view.dtype, [&]<typename T>() {
    T* data = view.as<T>();
    for (std::size_t i = 0; i < values.size(); ++i) {
      if constexpr (std::is_same_v<T, bool>) {
        data[i] = values[i] != 0;
      } else if constexpr (std::is_integral_v<T>) {
        data[i] = static_cast<T>(saturate(values[i], view.dtype));
      } else if constexpr (std::is_same_v<T, double>) {
        data[i] = values[i];
      } else {
        data[i] = static_cast<T>(static_cast<float>(values[i]));
      }
    }
  });
}

Shape strides_of(std::span<const std::int64_t> dims) {
  Shape strides(dims.size(), 1);
  for (std::size_t i = dims.size(); i-- > 1;) strides[i - 1] = strides[i] * dims[i];
  return strides;
}

Shape broadcast_strides(std::span<const std::int64_t> from, std::span<const std::int64_t> to) {
  require(from.size() <= to.size(), Code::invalid_model, "rank {} does not broadcast to rank {}", from.size(),
          to.size());
  const Shape own = strides_of(from);
  const std::size_t lead = to.size() - from.size();
  Shape strides(to.size(), 0);
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (from[i] == to[lead + i]) {
      strides[lead + i] = own[i];
    } else {
      require(from[i] == 1, Code::invalid_model, "shape {} does not broadcast to {}",
              to_string(Shape(from.begin(), from.end())), to_string(Shape(to.begin(), to.end())));
    }
  }
  return strides;
}

}  // namespace tenfold
