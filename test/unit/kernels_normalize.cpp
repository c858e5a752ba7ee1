// Softmax and the normalizations against their references.
//
// Tolerances: sums of n floats over at least 32 partial sums have relative error of about (n / 32 + 8) 2^-24; exp has
// 1.1 units in the last place, everything else one rounding or a few. Values are of size 1.
#include "kernel_case.hpp"

namespace tenfold {
namespace {

constexpr double kRounding = 0x1p-24;

Tensor floats(const Shape& shape, std::uint32_t seed, double low = -2, double high = 2) {
  return random_tensor(DType::float32, shape, seed, low, high);
}
Tolerance tolerance_for(std::int64_t summed) {
  const double relative = (static_cast<double>(summed) / 32 + 16) * kRounding;
  return {8 * relative, relative};
}

TEST(NormalizeKernel, SoftmaxAlongEveryAxis) {
  const std::vector<Shape> shapes = {{3, 7},    {2, 12, 33},  {2, 5, 130},  {4, 16, 3}, {1, 1000},   {65},    {2, 0, 3},
                                     {2, 3, 0}, {300, 65, 1}, {7, 3, 2, 5}, {40, 1},    {9, 100, 2}, {150, 8}};
  for (const char* op : {"Softmax", "LogSoftmax"}) {
    for (const Shape& shape : shapes) {
      for (std::int64_t axis = 0; axis < static_cast<std::int64_t>(shape.size()); ++axis) {
        check_tactic({op, {{"axis", axis}}, {floats(shape, 1, -9, 9)}}, "softmax.lines",
                     tolerance_for(shape[static_cast<std::size_t>(axis)]));
      }
    }
  }
}

TEST(NormalizeKernel, SoftmaxOfLargeAndInfiniteLogits) {
  Tensor x = floats({4, 19}, 3, -5, 5);
  auto values = x.as_mutable<float>();
  values[0] = 3e38F;
  values[1] = -3e38F;
  values[20] = -INFINITY;
  for (std::size_t i = 38; i < 57; ++i) values[i] = -INFINITY;  // a row that is masked out: NaN, as the formula says
  check_tactic({"Softmax", {{"axis", std::int64_t{1}}}, {x}}, "softmax.lines", tolerance_for(19));
  // The same numbers in rows short enough to lie side by side.
  Tensor short_rows(DType::float32, {38, 2});
  std::copy(x.as<float>().begin(), x.as<float>().end(), short_rows.as_mutable<float>().begin());
  check_tactic({"Softmax", {{"axis", std::int64_t{1}}}, {short_rows}}, "softmax.lines", tolerance_for(2));
}

TEST(NormalizeKernel, LayerNormalizationOfRows) {
  if (find_op("LayerNormalization") == nullptr) return;
  for (const Shape& shape : {Shape{3, 5, 384}, Shape{2, 7}, Shape{130, 40}, Shape{1, 1}}) {
    const Tensor scale = floats({shape.back()}, 2), bias = floats({shape.back()}, 3);
    const Tolerance tolerance = shape.back() == 1 ? Tolerance{1e-6, 0} : tolerance_for(shape.back());
    const Attributes attributes = {{"axis", std::int64_t{-1}}, {"epsilon", 1e-5}};
    check_tactic({"LayerNormalization", attributes, {floats(shape, 1), scale, bias}}, "normalize.rows", tolerance);
    check_tactic({"LayerNormalization", attributes, {floats(shape, 1), scale}}, "normalize.rows", tolerance);
  }
  check_tactic({"LayerNormalization",
                {{"axis", std::int64_t{1}}},
                {floats({4, 6, 10}, 1), floats({6, 10}, 2), floats({6, 10}, 3)}},
               "normalize.rows", tolerance_for(60));
}

TEST(NormalizeKernel, RmsNormalizationOfRows) {
  if (find_op("RMSNormalization") == nullptr) return;
  check_tactic({"RMSNormalization", {{"axis", std::int64_t{-1}}}, {floats({9, 100}, 1), floats({100}, 2)}},
               "normalize.rows", tolerance_for(100));
}

TEST(NormalizeKernel, InstanceAndGroupNormalizationInBothLayouts) {
  for (const char* layout : {"nchw", "nhwc"}) {
    const bool nhwc = std::string(layout) == "nhwc";
    for (const std::int64_t channels : {6, 72, 130}) {
      const Shape shape = nhwc ? Shape{2, 9, 11, channels} : Shape{2, channels, 9, 11};
      const std::vector<Tensor> inputs = {floats(shape, 1, -1, 3), floats({channels}, 2), floats({channels}, 3)};
      // Mean 1 and deviation 1: the differences from the mean lose one bit.
      const Tolerance tolerance{16 * tolerance_for(99).relative, 4 * tolerance_for(99).relative};
      if (find_op("InstanceNormalization") != nullptr) {
        check_tactic({"InstanceNormalization", {{"epsilon", 1e-5}, {"layout", std::string(layout)}}, inputs},
                     "normalize.channels", tolerance);
      }
      if (find_op("GroupNormalization") != nullptr) {
        check_tactic({"GroupNormalization",
                      {{"epsilon", 1e-5}, {"num_groups", std::int64_t{2}}, {"layout", std::string(layout)}},
                      inputs},
                     "normalize.channels", tolerance);
      }
    }
  }
}

}  // namespace
}  // namespace tenfold
