// Quantisation kernels against their references: the same bits, special values included.
#include <array>

#include "kernel_case.hpp"

namespace tenfold {
namespace {

const std::string kTactic = "quantize.rows";

Tensor reals(const Shape& shape, double size) {
  Tensor x = random_tensor(DType::float32, shape, 1, -size, size);
  auto values = x.as_mutable<float>();
  // Ties, far outside, no numbers.
  const std::array special = {0.5F, 1.5F, -2.5F, 1e30F, -1e30F, INFINITY, -INFINITY, NAN, -0.0F, 127.5F, 255.5F};
  for (std::size_t i = 0; i < special.size() && i < values.size(); ++i) values[i] = special[i];
  return x;
}

TEST(QuantizeKernel, OneScaleForAll) {
  const Tensor one = Tensor::scalar(1.0F), scale = Tensor::scalar(0.037F);
  for (const DType dtype : {DType::int8, DType::uint8, DType::int16, DType::uint16}) {
    const Tensor zero_point = random_tensor(dtype, {}, 3, 1, 100);
    for (const Shape& shape : {Shape{3, 41}, Shape{7}, Shape{100, 300}, Shape{}, Shape{0}}) {
      check_tactic({"QuantizeLinear", {}, {reals(shape, 300), one, zero_point}}, kTactic, {});
      check_tactic({"QuantizeLinear", {}, {reals(shape, 10), scale, zero_point}}, kTactic, {});
      check_tactic({"DequantizeLinear", {}, {random_tensor(dtype, shape, 5, 0, 127), scale, zero_point}}, kTactic, {});
    }
  }
  check_tactic({"QuantizeLinear", {}, {reals({50}, 10), scale}}, kTactic, {});
  check_tactic({"DequantizeLinear", {}, {random_tensor(DType::int32, {50}, 5, -1e6, 1e6), scale}}, kTactic, {});
}

TEST(QuantizeKernel, OneScaleForEachElementOfAnAxis) {
  for (const std::int64_t axis : {0, 1, 2}) {
    const Shape shape = {5, 19, 11};
    const std::int64_t count = shape[static_cast<std::size_t>(axis)];
    const Tensor scale = random_tensor(DType::float32, {count}, 2, 0.01, 0.1);
    const Tensor zero_point = random_tensor(DType::int8, {count}, 3, -50, 50);
    check_tactic({"QuantizeLinear", {{"axis", axis}}, {reals(shape, 5), scale, zero_point}}, kTactic, {});
    check_tactic(
        {"DequantizeLinear", {{"axis", axis}}, {random_tensor(DType::int8, shape, 5, -128, 128), scale, zero_point}},
        kTactic, {});
  }
}

}  // namespace
}  // namespace tenfold
