// Products and convolutions of float8 against their references: ragged sizes, random shapes, every tile that the model
// would time, residuals and results of float8 and float16.
#include <random>

#include "gpu/device_case.hpp"

namespace tenfold {
namespace {

constexpr DType kFloat8 = DType::float8e4m3;

Tensor floats(const Shape& shape, std::uint32_t seed, double low, double high) {
  return random_tensor(DType::float32, shape, seed, low, high);
}

/// Sums of k products of operands in [-1, 1] have a size of sqrt(k) / 3, four times that at most. Hopper's tensor cores
/// keep about 14 bits of 32 products and the sum so far, and cut off the rest. The scale brings
/// that to `size`; results have 11 bits, or 4 and steps of 2^-9 near 0.
Tolerance tolerance_for(std::int64_t k, DType output, double size, bool is_truncated) {
  const double steps = is_truncated ? static_cast<double>(k + 31) / 32 * 0x1p-13 : static_cast<double>(k) * 0x1p-24;
  const double sums = 4 * size * steps;
  return output == kFloat8 ? Tolerance{sums * 1.0625 + 0x1p-10, 0x1p-4} : Tolerance{sums + size * 0x1p-10, 0x1p-10};
}

/// A scale per column, then what a quantised residual block does.
struct Finish {
  DType output = kFloat8;
  bool residual = false;
};
constexpr double kSize = 60;
void add_finish(KernelCase& c, std::vector<DType>& types, const Finish& finish, std::int64_t k, const Shape& result) {
  const double scale = kSize / (std::sqrt(static_cast<double>(k)) / 3 + 0.1);
  c.inputs.push_back(floats({result.back()}, 4, 0.5 * scale, scale));
  types.push_back(DType::float32);
  if (finish.residual) {
    c.inputs.push_back(floats(result, 5, -40, 40));
    types.push_back(finish.output);
  }
  c.attributes.set("epilogue", std::string(finish.residual ? "fma 0 1 2; relu 3" : "mul 0 1"));
  c.attributes.set("epilogue_inputs", std::int64_t{finish.residual ? 2 : 1});
}

void check_matmul(const Shape& a, const Shape& b, bool trans_b, const Finish& finish,
                  const std::string& tactic = "gemm.wgmma", const Offers& offers = {}) {
  KernelCase c{"MatMul",
               {{"trans_b", std::int64_t{trans_b}}},
               {floats(a, 1, -1, 1), floats(b, 2, -1, 1)},
               {false, tactic != "gemm.plain"}};
  std::vector<DType> types{kFloat8, kFloat8};
  Shape result = a;
  result.back() = b[trans_b ? 0 : 1];
  add_finish(c, types, finish, a.back(), result);
  check_device_tactic(c, tactic, tolerance_for(a.back(), finish.output, kSize, tactic == "gemm.wgmma"), types,
                      finish.output, offers);
}

TEST(GpuFloat8, ProductsThatFillTilesAndThatDoNot) {
  TENFOLD_NEEDS_GPU();
  check_matmul({128, 64}, {64, 64}, false, {});
  check_matmul({1, 768}, {768, 768}, false, {DType::float16});
  check_matmul({300, 208}, {208, 136}, false, {kFloat8, true});
  check_matmul({77, 768}, {320, 768}, true, {DType::float16, true});
  check_matmul({5, 48}, {48, 7}, false, {});
  check_matmul({2, 65, 80}, {80, 1000}, false, {DType::float32});
  check_matmul({2048, 512}, {512, 640}, false, {});
}

TEST(GpuFloat8, ProductsOfRandomSizes) {
  TENFOLD_NEEDS_GPU();
  std::mt19937 random(8);
  const auto upto = [&](std::int64_t most) {
    return 1 + static_cast<std::int64_t>(random() % static_cast<unsigned>(most));
  };
  for (int i = 0; i < 8; ++i) {
    const std::int64_t m = upto(400), n = upto(300), k = 16 * upto(40);
    SCOPED_TRACE(fmt::format("{} x {} x {}", m, n, k));
    check_matmul({m, k}, {n, k}, true, {i % 3 == 0 ? DType::float16 : kFloat8, i % 2 == 1});
  }
}

TEST(GpuFloat8, ProductsByTilesAndOnOrdinaryCores) {
  TENFOLD_NEEDS_GPU();
  const Offers tiles = offers_for("l4");
  check_matmul({130, 77}, {77, 65}, false, {}, "gemm.tiles", tiles);
  check_matmul({300, 208}, {208, 136}, false, {kFloat8, true}, "gemm.tiles", tiles);
  check_matmul({64, 1026}, {100, 1026}, true, {DType::float16}, "gemm.tiles", tiles);
  check_matmul({33, 50}, {50, 20}, false, {kFloat8, true}, "gemm.plain");
}

struct Image {
  std::int64_t n, h, w, c;
};
struct Filter {
  std::int64_t out, h, w, stride = 1, pad = 0, group = 1;
};
void check_conv(const Image& x, const Filter& f, const Finish& finish, const std::string& tactic = "conv.wgmma",
                const Offers& offers = {}) {
  const std::int64_t channels = x.c / f.group, k = channels * f.h * f.w;
  KernelCase c{"Conv",
               {{"strides", std::vector<std::int64_t>{f.stride, f.stride}},
                {"pads", std::vector<std::int64_t>{f.pad, f.pad, f.pad, f.pad}},
                {"group", f.group},
                {"layout", std::string("nhwc")}},
               {floats({x.n, x.h, x.w, x.c}, 1, -1, 1), floats({f.out, channels, f.h, f.w}, 2, -1, 1),
                floats({f.out}, 3, -1, 1)},
               {false, true, true}};
  std::vector<DType> types{kFloat8, kFloat8, DType::float32};
  const std::int64_t out = (x.h + 2 * f.pad - f.h) / f.stride + 1, wide = (x.w + 2 * f.pad - f.w) / f.stride + 1;
  add_finish(c, types, finish, k, {x.n, out, wide, f.out});
  const bool is_truncated = tactic.find("wgmma") != std::string::npos;
  check_device_tactic(c, tactic, tolerance_for(k, finish.output, kSize, is_truncated), types, finish.output, offers);
}

TEST(GpuFloat8, ConvolutionsOfAllKinds) {
  TENFOLD_NEEDS_GPU();
  check_conv({2, 14, 14, 64}, {64, 3, 3, 1, 1}, {});
  check_conv({2, 14, 14, 64}, {256, 1, 1}, {kFloat8, true});
  check_conv({1, 28, 20, 128}, {128, 3, 3, 2, 1}, {DType::float16});
  check_conv({2, 17, 13, 64}, {96, 1, 1, 2, 0}, {DType::float16, true});
  check_conv({1, 9, 9, 32}, {40, 3, 3, 1, 1}, {});
  check_conv({2, 7, 7, 512}, {512, 3, 3, 1, 1}, {kFloat8, true});
  check_conv({2, 15, 14, 64}, {64, 3, 3, 1, 1}, {kFloat8, true}, "conv.wgmma_halo");
  check_conv({2, 33, 30, 3}, {64, 7, 7, 2, 3}, {}, "conv.wgmma_folded");
}

TEST(GpuFloat8, ConvolutionsOfRandomSizes) {
  TENFOLD_NEEDS_GPU();
  std::mt19937 random(9);
  const auto upto = [&](std::int64_t most) {
    return 1 + static_cast<std::int64_t>(random() % static_cast<unsigned>(most));
  };
  for (int i = 0; i < 8; ++i) {
    const Image x{upto(3), 3 + upto(20), 3 + upto(20), 32 + 16 * upto(10)};
    const std::int64_t size = 1 + 2 * (i % 2);
    const Filter f{upto(200), size, size, upto(2), size / 2};
    SCOPED_TRACE(fmt::format("{} {} {} {} by {} {} {}", x.n, x.h, x.w, x.c, f.out, f.h, f.stride));
    check_conv(x, f, {i % 3 == 0 ? DType::float16 : kFloat8, i % 4 == 3});
  }
}

TEST(GpuFloat8, ConvolutionsByTilesAndOnOrdinaryCores) {
  TENFOLD_NEEDS_GPU();
  const Offers tiles = offers_for("l4");
  check_conv({2, 9, 11, 7}, {10, 3, 3, 1, 1}, {}, "conv.tiles", tiles);
  check_conv({2, 14, 14, 64}, {64, 3, 3, 1, 1, 4}, {kFloat8, true}, "conv.tiles", tiles);
  check_conv({1, 13, 13, 48}, {64, 3, 3, 2, 1}, {DType::float16}, "conv.tiles", tiles);
}

/// Conversions between float8 and floats, as operators of their own: every code, ties, and what saturates.
TEST(GpuFloat8, ConversionsHaveTheReferencesBits) {
  TENFOLD_NEEDS_GPU();
  Tensor codes(kFloat8, {256});
  for (unsigned i = 0; i < 256; ++i) codes.as_mutable<Float8E4M3>()[i].bits = static_cast<std::uint8_t>(i);
  const Tensor scale = Tensor::scalar(0.375F);
  const Tensor values = floats({4096}, 7, -600, 600);
  const Attributes to_float8{{"output_dtype", std::string("float8e4m3")}};
  const auto exact = [](const KernelCase& c, DType output) {
    std::vector<DType> types;
    for (const Tensor& input : c.inputs) types.push_back(input.dtype());
    check_device_tactic(c, "elementwise.vectors", {0, 0}, types, output);
  };
  exact({"DequantizeLinear", {}, {codes, scale}}, DType::float32);
  exact({"Cast", {{"to", std::string("float32")}}, {codes}}, DType::float32);
  exact({"Cast", {{"to", std::string("float8e4m3")}}, {values}}, kFloat8);
  exact({"Cast", {{"to", std::string("float8e4m3")}, {"saturate", std::int64_t{0}}}, {values}}, kFloat8);
  exact({"QuantizeLinear", to_float8, {values, scale}}, kFloat8);
}

}  // namespace
}  // namespace tenfold
