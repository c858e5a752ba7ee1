// How far two answers differ.
#include "difference.hpp"

#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace tenfold::cli {
namespace {

template <typename T>
double as_double(T value) {
  return static_cast<double>(value);
}

}  // namespace

double rounding_tolerance(double num_roundings) {
  return 8 * static_cast<double>(std::numeric_limits<float>::epsilon()) * std::sqrt(std::max(num_roundings, 1.0));
}

Difference difference(const Tensor& actual, const Tensor& expected, double relative) {
  Difference result;
  result.same_type = actual.dtype() == expected.dtype() && actual.shape() == expected.shape();
  result.num_elements = expected.num_elements();
  if (!result.same_type || result.num_elements == 0) return result;
  dispatch(expected.dtype(), [&]<typename T>() {
    const auto a = actual.as<T>();
    const auto e = expected.as<T>();
    for (const T value : e) {
      const double x = std::abs(as_double(value));
      if (std::isfinite(x) && x > result.scale) result.scale = x;
    }
    // Results of 8 and 16 bits are themselves rounded: one unit in the last place of the type is within.
    double step = 0;
    if (expected.dtype() == DType::float16) step = 0x1p-10;
    if (expected.dtype() == DType::bfloat16) step = 0x1p-7;
    if (expected.dtype() == DType::float8e4m3) step = 0x1p-3;
    const double allowed = step > 0 || is_float(expected.dtype()) ? (relative + step) * result.scale : 0;
    double worst = -1;
    for (std::size_t i = 0; i < e.size(); ++i) {
      const double x = as_double(a[i]);
      const double y = as_double(e[i]);
      double distance = std::abs(x - y);
      if ((std::isnan(x) && std::isnan(y)) || x == y) distance = 0;
      if (std::isfinite(distance)) result.largest = std::max(result.largest, distance);
      if (distance <= allowed) continue;
      ++result.num_different;
      if (std::isnan(distance)) distance = std::numeric_limits<double>::infinity();
      if (distance > worst) {
        worst = distance;
        result.worst = static_cast<std::int64_t>(i);
        result.worst_actual = x;
        result.worst_expected = y;
      }
    }
  });
  return result;
}

std::string Difference::describe(const Tensor& actual, const Tensor& expected) const {
  if (!same_type) {
    return fmt::format("got {}{}, expected {}{}", to_string(actual.dtype()), to_string(actual.shape()),
                       to_string(expected.dtype()), to_string(expected.shape()));
  }
  if (within())
    return fmt::format("equal within tolerance; largest difference {:.3g}, largest value {:.3g}", largest, scale);
  Shape index(expected.shape().size());
  std::int64_t rest = worst;
  for (std::size_t i = index.size(); i-- > 0;) {
    index[i] = rest % expected.shape()[i];
    rest /= expected.shape()[i];
  }
  return fmt::format("{} of {} elements differ; largest at {}: got {:.9g}, expected {:.9g} (largest value {:.3g})",
                     num_different, num_elements, to_string(index), worst_actual, worst_expected, scale);
}

}  // namespace tenfold::cli
