// Tiled products and convolutions, which older devices run everywhere and Hopper where its own kernels refuse: the tiles
// that an A100 would time, of every element type, with rows of every alignment, and groups.
#include "gpu/product_case.hpp"

namespace tenfold {
namespace {

void check_matmul(const Shape& a, const Shape& b, bool trans_b, DType dtype, bool is_constant = true, bool tf32 = false,
                  const std::string& program = "", const std::vector<Shape>& operands = {}) {
  KernelCase c{"MatMul", {{"trans_b", std::int64_t{trans_b}}}, {floats(a, 1), floats(b, 2)}, {false, is_constant}};
  add_epilogue(c, program, operands);
  const Offers offers = offers_for("a100");
  check_device_tactic(c, is_constant ? "gemm.tiles" : "gemm.tiles_batched",
                      tf32 ? tf32_tolerance(a.back()) : tolerance_for(a.back(), dtype), dtype,
                      tf32 ? as_tf32(offers) : offers);
}

TEST(GpuTiles, ProductsOfEveryTypeAndAlignment) {
  TENFOLD_NEEDS_GPU();
  for (const DType dtype : {DType::float16, DType::bfloat16, DType::float32}) {
    check_matmul({300, 200}, {200, 136}, false, dtype);
    check_matmul({130, 77}, {77, 65}, false, dtype);
    check_matmul({2, 65, 36}, {333, 36}, true, dtype, true, false, "add 0 1; relu 2", {{333}});
    check_matmul({1, 1026}, {1026, 100}, false, dtype);
  }
  check_matmul({520, 512}, {512, 640}, false, DType::float16, true, false, "add 0 1; add 3 2", {{640}, {520, 640}});
  check_matmul({520, 512}, {512, 640}, false, DType::float32, true, false, "add 0 1; add 3 2", {{640}, {520, 640}});
}

TEST(GpuTiles, ComputedOperandsInBothOrientations) {
  TENFOLD_NEEDS_GPU();
  for (const DType dtype : {DType::float16, DType::float32}) {
    check_matmul({2, 3, 130, 64}, {2, 3, 64, 72}, false, dtype, false);
    check_matmul({2, 3, 130, 64}, {2, 3, 77, 64}, true, dtype, false);
    check_matmul({3, 50, 33}, {3, 33, 41}, false, dtype, false);
    check_matmul({3, 50, 33}, {41, 33}, true, dtype, false);
    check_matmul({1, 128, 40}, {3, 40, 64}, false, dtype, false, false, "mul_imm 0 0x1p-1; add 2 1", {{3, 128, 64}});
  }
}

TEST(GpuTiles, Tf32KeepsElevenBits) {
  TENFOLD_NEEDS_GPU();
  check_matmul({300, 200}, {200, 136}, false, DType::float32, true, true);
  check_matmul({130, 77}, {77, 65}, false, DType::float32, true, true);
  check_matmul({2, 3, 130, 64}, {2, 3, 64, 72}, false, DType::float32, false, true);
  check_matmul({2, 3, 130, 64}, {2, 3, 77, 64}, true, DType::float32, false, true);
}

void check_conv(const Image& x, const Filter& f, DType dtype, bool tf32 = false, const std::string& program = "",
                const std::vector<Shape>& operands = {}) {
  const KernelCase c = conv_case(x, f, program, operands);
  const std::int64_t k = x.c / f.group * f.h * f.w;
  const Offers offers = offers_for("a100");
  check_device_tactic(c, "conv.tiles", tf32 ? tf32_tolerance(k) : tolerance_for(k, dtype), dtype,
                      tf32 ? as_tf32(offers) : offers);
}

TEST(GpuTiles, WindowsOfAllKinds) {
  TENFOLD_NEEDS_GPU();
  for (const DType dtype : {DType::float16, DType::bfloat16, DType::float32}) {
    check_conv({2, 14, 14, 64}, {64, 3, 3, 1, 1}, dtype, false, "add 0 1; relu 2", {{2, 14, 14, 64}});
    check_conv({1, 19, 23, 3}, {20, 7, 7, 2, 3}, dtype);
    check_conv({2, 9, 11, 20}, {24, 3, 5, 1, 2, 2}, dtype);
    check_conv({3, 10, 10, 70}, {33, 1, 1, 2, 0}, dtype, false, "silu 0; mul 2 1", {{3, 1, 1, 33}});
  }
  check_conv({2, 14, 14, 64}, {64, 3, 3, 1, 1}, DType::float32, true);
  check_conv({1, 19, 23, 3}, {20, 7, 7, 2, 3}, DType::float32, true);
}

TEST(GpuTiles, Groups) {
  TENFOLD_NEEDS_GPU();
  for (const DType dtype : {DType::float16, DType::float32}) {
    check_conv({2, 12, 13, 128}, {128, 3, 3, 1, 1, 1, 32}, dtype, false, "relu 0");
    check_conv({2, 12, 13, 128}, {256, 3, 3, 2, 1, 1, 2}, dtype);
    check_conv({1, 9, 9, 30}, {105, 3, 3, 1, 1, 1, 3}, dtype, false, "add 0 1", {{1, 9, 9, 105}});
    check_conv({1, 9, 9, 15}, {10, 3, 3, 1, 1, 1, 5}, dtype);
  }
}

/// Whole numbers, as a quantised network has them.
Tensor integers(const Shape& shape, std::uint32_t seed, double low, double high) {
  Tensor tensor = random_tensor(DType::float32, shape, seed, low, high);
  for (float& v : tensor.as_mutable<float>()) v = std::floor(v);
  return tensor;
}
TEST(GpuTiles, IntegersAreExact) {
  TENFOLD_NEEDS_GPU();
  const auto check = [](const Image& x, const Filter& f, DType image, DType output) {
    const std::int64_t k = x.c / f.group * f.h * f.w;
    KernelCase c{
        "Conv",
        {{"strides", std::vector<std::int64_t>{1, 1}},
         {"pads", std::vector<std::int64_t>{f.pad, f.pad, f.pad, f.pad}},
         {"group", f.group},
         {"layout", std::string("nhwc")}},
        {image == DType::int8 ? integers({x.n, x.h, x.w, x.c}, 1, -127, 128) : integers({x.n, x.h, x.w, x.c}, 1, 0, 256),
         integers({f.out, x.c / f.group, f.h, f.w}, 2, -127, 128), floats({f.out}, 3, 1000)},
        {false, true, true}};
    const double size = 50 / (127.0 * 127 / 3 * std::sqrt(static_cast<double>(k)));
    c.inputs.push_back(random_tensor(DType::float32, {f.out}, 4, 0.5 * size, size));
    c.attributes.set("epilogue", std::string("mul 0 1"));
    c.attributes.set("epilogue_inputs", std::int64_t{1});
    // An exact result halfway between two integers may become either; float16 keeps 11 bits.
    check_device_tactic(c, "conv.tiles", output == DType::float16 ? Tolerance{0.1, 0x1p-10} : Tolerance{0.501, 0},
                        {image, DType::int8, DType::float32, DType::float32}, output, offers_for("a100"));
  };
  check({2, 14, 14, 64}, {64, 3, 3, 1, 1}, DType::int8, DType::int8);
  check({2, 13, 15, 70}, {65, 3, 3, 1, 1}, DType::uint8, DType::uint8);
  check({1, 9, 9, 33}, {40, 3, 3, 1, 1}, DType::int8, DType::float16);
  check({1, 9, 9, 36}, {24, 3, 3, 1, 1, 1, 3}, DType::int8, DType::int8);
}

TEST(GpuTiles, HoppersOwnKernelsTakeTf32) {
  TENFOLD_NEEDS_GPU();
  const Offers offers = as_tf32([](const Problem& problem) { return TestDevice::instance().backend().candidates(problem); });
  const auto check = [&](KernelCase c, const std::string& tactic, std::int64_t k) {
    // Operands that are computed lose their last bits without rounding, which doubles the error of a product.
    Tolerance tolerance = tf32_tolerance(k);
    tolerance.absolute *= 2;
    check_device_tactic(c, tactic, tolerance, DType::float32, offers);
  };
  check({"MatMul", {}, {floats({300, 200}, 1), floats({200, 136}, 2)}, {false, true}}, "gemm.wgmma", 200);
  check({"MatMul", {{"trans_b", std::int64_t{1}}}, {floats({3, 130, 64}, 1), floats({3, 80, 64}, 2)}},
        "gemm.wgmma_batched", 64);
  const auto conv = [](const Image& x, const Filter& f) {
    return KernelCase{"Conv",
                      {{"strides", std::vector<std::int64_t>{f.stride, f.stride}},
                       {"pads", std::vector<std::int64_t>{f.pad, f.pad, f.pad, f.pad}},
                       {"layout", std::string("nhwc")}},
                      {floats({x.n, x.h, x.w, x.c}, 1), floats({f.out, x.c, f.h, f.w}, 2), floats({f.out}, 3)},
                      {false, true, true}};
  };
  check(conv({2, 14, 14, 64}, {64, 3, 3, 1, 1}), "conv.wgmma", 576);
  check(conv({1, 17, 15, 12}, {36, 3, 3, 2, 1}), "conv.wgmma", 108);
  check(conv({2, 33, 30, 3}, {64, 7, 7, 2, 3}), "conv.wgmma_folded", 147);
}

TEST(GpuTiles, HopperIsOfferedThemWhereItsOwnKernelsRefuse) {
  TENFOLD_NEEDS_GPU();
  KernelCase c{"MatMul", {}, {floats({130, 77}, 1), floats({77, 65}, 2)}, {false, true}};
  check_device_tactic(c, "gemm.tiles", tolerance_for(77, DType::float16));
}

}  // namespace
}  // namespace tenfold
