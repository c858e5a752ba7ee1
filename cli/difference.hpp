// How far two answers differ, and how far they may.
#pragma once

#include <cstdint>
#include <string>

#include "graph/tensor.hpp"

namespace tenfold::cli {

struct Difference {
  bool same_type = true;           ///< dtype and shape agree; nothing else is meaningful otherwise
  std::int64_t num_different = 0;  ///< elements outside the tolerance
  std::int64_t num_elements = 0;
  double largest = 0;       ///< largest |actual - expected| of finite elements
  double scale = 0;         ///< largest |expected| of finite elements
  std::int64_t worst = -1;  ///< element index of the largest difference outside the tolerance
  double worst_actual = 0, worst_expected = 0;

  bool within() const { return same_type && num_different == 0; }
  /// "3 of 1000 elements differ; largest at [0, 17]: got 1.5, expected 1.25"
  std::string describe(const Tensor& actual, const Tensor& expected) const;
};

/// Floating-point elements may differ by `relative` times the largest |expected| (not the element's own size: a sum
/// whose terms cancel is as inexact as its terms are large). NaN equals NaN, infinities must agree. Integers and bools
/// must be equal.
Difference difference(const Tensor& actual, const Tensor& expected, double relative);

/// What rounding may cost an answer that is a chain of `num_roundings` float32 roundings of random sign: they add up
/// like a random walk, eps * sqrt(n). The factor 8 covers the spread between elements, tensors and orders of summation.
double rounding_tolerance(double num_roundings);

}  // namespace tenfold::cli
