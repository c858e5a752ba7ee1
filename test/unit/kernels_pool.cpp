// Poolings against their references in both layouts, with every kind of border.
#include "kernel_case.hpp"

namespace tenfold {
namespace {

using Ints = std::vector<std::int64_t>;

struct Window {
  Ints kernel, strides, pads, dilations;
  std::int64_t ceil_mode = 0;
};

void check_pools(const Shape& nchw, const Window& window) {
  // An average of n numbers: n roundings of sums, one of the division.
  double taps = 1;
  for (const std::int64_t k : window.kernel) taps *= static_cast<double>(k);
  const Tolerance average{2 * (taps + 2) * 0x1p-24, 0};
  for (const char* layout : {"nchw", "nhwc"}) {
    Shape shape = nchw;
    if (std::string(layout) == "nhwc") {
      shape.erase(shape.begin() + 1);
      shape.push_back(nchw[1]);
    }
    const Tensor x = random_tensor(DType::float32, shape, 3);
    Attributes attributes = {{"kernel_shape", window.kernel}, {"strides", window.strides},
                             {"pads", window.pads},           {"dilations", window.dilations},
                             {"ceil_mode", window.ceil_mode}, {"layout", std::string(layout)}};
    check_tactic({"MaxPool", attributes, {x}}, "pool.window", {});
    if (std::string(layout) == "nhwc") {
      check_tactic({"MaxPool", attributes, {random_tensor(DType::bfloat16, shape, 4)}}, "pool.window", {});
    }
    check_tactic({"AveragePool", attributes, {x}}, "pool.window", average);
    attributes.set("count_include_pad", std::int64_t{1});
    check_tactic({"AveragePool", attributes, {x}}, "pool.window", average);
  }
}

TEST(PoolKernel, TwoSpatialAxes) {
  for (const std::int64_t channels : {1, 3, 8, 10, 28, 40, 67}) {
    check_pools({2, channels, 9, 11}, {{3, 3}, {2, 2}, {1, 1, 1, 1}, {1, 1}});
  }
  check_pools({1, 5, 17, 40}, {{2, 2}, {2, 2}, {0, 0, 0, 0}, {1, 1}});
  check_pools({1, 5, 17, 40}, {{3, 5}, {1, 1}, {1, 2, 1, 2}, {1, 1}});
  check_pools({1, 5, 17, 40}, {{2, 3}, {3, 4}, {0, 1, 1, 0}, {2, 3}});
  check_pools({1, 5, 16, 41}, {{3, 3}, {2, 2}, {0, 0, 0, 0}, {1, 1}, 1});
  check_pools({1, 4, 20, 20}, {{13, 13}, {1, 1}, {6, 6, 6, 6}, {1, 1}});
  check_pools({1, 2, 3, 5000}, {{3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}});
  check_pools({1, 2, 3, 9000}, {{1, 2}, {1, 2}, {0, 0, 0, 0}, {1, 1}});
  check_pools({0, 2, 8, 8}, {{2, 2}, {2, 2}, {0, 0, 0, 0}, {1, 1}});
}

TEST(PoolKernel, OneAndThreeSpatialAxes) {
  check_pools({2, 6, 50}, {{4}, {3}, {1, 2}, {1}});
  check_pools({1, 6, 5, 7, 9}, {{2, 3, 2}, {1, 2, 2}, {0, 1, 1, 1, 1, 0}, {1, 1, 2}});
}

TEST(PoolKernel, LargeImagesUseAllThreads) { check_pools({1, 64, 56, 56}, {{3, 3}, {2, 2}, {1, 1, 1, 1}, {1, 1}}); }

}  // namespace
}  // namespace tenfold
