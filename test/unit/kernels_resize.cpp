// Resize by tables against the reference.
#include "kernel_case.hpp"

namespace tenfold {
namespace {

// A blend of at most 4 x 4 values of size 2 with weights whose absolute sum is at most 2 along each axis.
constexpr Tolerance kTolerance{2 * 4 * 10 * 0x1p-24, 0};

void check(const Shape& shape, const std::vector<double>& scales, Attributes attributes,
           const Tolerance& tolerance = kTolerance) {
  attributes.set("scales", scales);
  check_tactic({"Resize", attributes, {random_tensor(DType::float32, shape, 1)}}, "resize.tables", tolerance);
}

TEST(ResizeKernel, NearestCopies) {
  for (const char* rounding : {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"}) {
    const Attributes attributes = {{"mode", std::string("nearest")},
                                   {"nearest_mode", std::string(rounding)},
                                   {"coordinate_transformation_mode", std::string("asymmetric")}};
    check({2, 3, 5, 7}, {1, 1, 2, 2}, attributes, {});
    check({2, 5, 7, 13}, {1, 2, 3, 1}, attributes, {});
    check({1, 3, 9, 10}, {1, 1, 0.6, 1.5}, attributes, {});
    check({4, 10}, {1, 2.5}, attributes, {});
  }
}

TEST(ResizeKernel, Bfloat16IsCopied) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  for (const std::int64_t channels : {1, 2, 5, 16, 33, 64}) {
    for (const std::vector<double>& scales : {std::vector<double>{1, 2, 2, 1}, {1, 1, 3, 1}, {1, 0.5, 1.5, 1}}) {
      const Tensor x = random_tensor(DType::bfloat16, {2, 6, 8, channels}, 1);
      check_tactic({"Resize", {{"mode", std::string("nearest")}, {"scales", scales}}, {x}}, "resize.tables", {});
    }
  }
  EXPECT_EQ(refusal_of({"Resize",
                        {{"mode", std::string("linear")}, {"scales", std::vector<double>{1, 2, 2, 1}}},
                        {random_tensor(DType::bfloat16, {1, 4, 4, 8}, 1)}},
                       "resize.tables"),
            "bfloat16 is only copied");
}

TEST(ResizeKernel, LinearAndCubicInBothLayouts) {
  for (const char* mode : {"linear", "cubic"}) {
    for (const char* coordinates : {"half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"}) {
      const Attributes attributes = {{"mode", std::string(mode)},
                                     {"coordinate_transformation_mode", std::string(coordinates)}};
      check({2, 3, 5, 7}, {1, 1, 2, 2}, attributes);
      check({2, 5, 7, 20}, {1, 2, 2, 1}, attributes);
      check({1, 3, 9, 10}, {1, 1, 0.7, 1.5}, attributes);
      check({3, 4, 50}, {1, 2, 1}, attributes);
      check({1, 64, 40, 40}, {1, 1, 2, 2}, attributes);
    }
  }
}

TEST(ResizeKernel, SizesMayBeGivenInstead) {
  check_tactic({"Resize",
                {{"mode", std::string("linear")}, {"sizes", std::vector<std::int64_t>{-1, -1, 13, 4}}},
                {random_tensor(DType::float32, {1, 2, 6, 9}, 1)}},
               "resize.tables", kTolerance);
}

TEST(ResizeKernel, DistantAxesAreRefused) {
  EXPECT_NE(refusal_of({"Resize",
                        {{"mode", std::string("nearest")}, {"scales", std::vector<double>{2, 1, 2}}},
                        {random_tensor(DType::float32, {2, 3, 4}, 1)}},
                       "resize.tables"),
            "");
}

}  // namespace
}  // namespace tenfold
