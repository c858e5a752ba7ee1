// Order statistics of measured times.
#include "statistics.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tenfold::cli {

Statistics statistics(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto percentile = [&](double share) {
    const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(values.size())));
    return values[std::clamp<std::size_t>(rank, 1, values.size()) - 1];
  };
  const std::size_t middle = values.size() / 2;
  return {.min = values.front(),
          .max = values.back(),
          .mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size()),
          .median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2,
          .p90 = percentile(0.90),
          .p95 = percentile(0.95),
          .p99 = percentile(0.99)};
}

}  // namespace tenfold::cli
