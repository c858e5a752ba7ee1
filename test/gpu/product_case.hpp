// Products and convolutions as test cases, and how far from the reference their kernels may be.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "gpu/device_case.hpp"

namespace tenfold {

inline Tensor floats(const Shape& shape, std::uint32_t seed, double size = 1) {
  return random_tensor(DType::float32, shape, seed, -size, size);
}

/// Sums of k products of operands in [-1, 1] have a size of sqrt(k) / 3; results are rounded to their type, and float32
/// sums lose one rounding for each addition at worst.
inline Tolerance tolerance_for(std::int64_t k, DType dtype) {
  const double size = 1 + std::sqrt(static_cast<double>(k)) / 3;
  if (dtype == DType::float32) return {static_cast<double>(k) * 0x1p-24 * size, 0x1p-22};
  const double unit = dtype == DType::bfloat16 ? 0x1p-7 : 0x1p-10;
  return {unit * size, unit};
}

/// tf32 rounds both operands to 11 bits: products are off by 2^-10 of their size at worst, their sum by the root of k
/// times that.
inline Offers as_tf32(const Offers& offers) {
  return [offers](const Problem& problem) {
    Problem rounded = problem;
    rounded.tf32 = true;
    return offers(rounded);
  };
}
inline Tolerance tf32_tolerance(std::int64_t k) { return {0x1p-10 * std::sqrt(static_cast<double>(k)), 0x1p-10}; }

inline void add_epilogue(KernelCase& c, const std::string& program, const std::vector<Shape>& operands) {
  if (program.empty()) return;
  c.attributes.set("epilogue", program);
  if (operands.empty()) return;
  c.attributes.set("epilogue_inputs", static_cast<std::int64_t>(operands.size()));
  std::uint32_t seed = 100;
  for (const Shape& shape : operands) c.inputs.push_back(floats(shape, ++seed));
}

struct Image {
  std::int64_t n, h, w, c;
};
struct Filter {
  std::int64_t out, h, w, stride = 1, pad = 0, dilation = 1, group = 1;
};
inline KernelCase conv_case(const Image& x, const Filter& f, const std::string& program = "",
                            const std::vector<Shape>& operands = {}) {
  KernelCase c{"Conv",
               {{"strides", std::vector<std::int64_t>{f.stride, f.stride}},
                {"pads", std::vector<std::int64_t>{f.pad, f.pad, f.pad, f.pad}},
                {"dilations", std::vector<std::int64_t>{f.dilation, f.dilation}},
                {"group", f.group},
                {"layout", std::string("nhwc")}},
               {floats({x.n, x.h, x.w, x.c}, 1), floats({f.out, x.c / f.group, f.h, f.w}, 2), floats({f.out}, 3)},
               {false, true, true}};
  add_epilogue(c, program, operands);
  return c;
}

}  // namespace tenfold
