// Order statistics of measured times.
#pragma once

#include <vector>

namespace tenfold::cli {

struct Statistics {
  double min = 0, max = 0, mean = 0, median = 0, p90 = 0, p95 = 0, p99 = 0;
};
/// Zeros for no values. Percentiles are the smallest value with at least that share of values at or below it.
Statistics statistics(std::vector<double> values);

}  // namespace tenfold::cli
