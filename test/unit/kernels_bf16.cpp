// Products of factors rounded to bfloat16 against the reference, which rounds nothing.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/tier.hpp"
#include "base/float16.hpp"
#include "kernel_case.hpp"
#include "ops/conv.hpp"

namespace tenfold {
namespace {

/// Numbers that bfloat16 holds are multiplied exactly, so only sums are rounded: once for each of a pair's products, by
/// an instruction that rounds to nearest.
Tolerance tolerance_of_exact(std::int64_t depth) {
  return {8 * 0x1p-24 * (static_cast<double>(depth) + 8), 16 * 0x1p-24};
}

Tensor rounded(Tensor tensor) {
  for (float& x : tensor.as_mutable<float>()) x = static_cast<float>(BFloat16(x));
  return tensor;
}
Tensor numbers(const Shape& shape, std::uint32_t seed) {
  return rounded(random_tensor(DType::float32, shape, seed, -1, 1));
}

/// By pairs, "conv.bf16", and by tiles, "conv.amx_bf16".
void check(KernelCase c, const std::string& op, const Tolerance& tolerance) {
  if (!cpu::has_bf16_dot()) {
    EXPECT_NE(cpu_backend().abilities().bf16, true);
    GTEST_SKIP() << "*** NOT EXERCISED: this processor has no instructions for bfloat16";
  }
  c.bf16 = true;
  check_tactic(c, op + ".bf16", tolerance);
  if (cpu::has_bf16_tiles()) {
    check_tactic(c, op + ".amx_bf16", tolerance);
  } else {
    std::printf("*** NOT EXERCISED: tiles of bfloat16, which this processor has not; see TileKernels\n");
  }
}

struct Window {
  Shape x;  ///< [N, H, W, C]
  std::int64_t out;
  std::vector<std::int64_t> kernel, stride{1, 1}, pads{0, 0, 0, 0}, dilation{1, 1};
  std::string program = "";
  std::vector<Shape> operands = {};
};

KernelCase conv_case(const Window& w) {
  KernelCase c{"Conv", {}, {}, {false, true, true}};
  c.attributes.set("layout", std::string("nhwc"));
  c.attributes.set("strides", w.stride);
  c.attributes.set("pads", w.pads);
  c.attributes.set("dilations", w.dilation);
  if (!w.program.empty()) {
    const int inputs = static_cast<int>(w.operands.size()) + 1;
    Epilogue{PointwiseProgram::parse(inputs, w.program)}.store(c.attributes);
  }
  c.inputs = {numbers(w.x, 1), numbers({w.out, w.x.back(), w.kernel[0], w.kernel[1]}, 2), numbers({w.out}, 3)};
  for (std::size_t i = 0; i < w.operands.size(); ++i) {
    c.inputs.push_back(numbers(w.operands[i], 4 + static_cast<std::uint32_t>(i)));
  }
  return c;
}

TEST(Bf16Kernels, Convolutions) {
  const std::vector<Window> windows = {
      {{1, 7, 9, 3}, 5, {3, 3}, {1, 1}, {1, 1, 1, 1}},
      {{2, 9, 8, 17}, 33, {3, 2}, {2, 1}, {1, 0, 1, 1}},
      {{1, 12, 12, 8}, 48, {3, 3}, {1, 1}, {2, 2, 2, 2}, {2, 2}},
      {{1, 11, 13, 64}, 70, {1, 1}},
      {{1, 6, 6, 9}, 16, {1, 1}, {2, 2}},
      {{1, 15, 15, 3}, 32, {7, 7}, {2, 2}, {3, 3, 3, 3}},
      {{1, 8, 8, 24}, 40, {3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, "add 0 1; relu 2", {{1, 8, 8, 40}}},
      {{1, 5, 5, 12}, 20, {1, 1}, {1, 1}, {0, 0, 0, 0}, {1, 1}, "silu 0"},
  };
  for (const Window& w : windows) {
    check(conv_case(w), "conv", tolerance_of_exact(w.x.back() * w.kernel[0] * w.kernel[1]));
  }
}

TEST(Bf16Kernels, MatrixProducts) {
  struct Product {
    Shape a;
    std::int64_t columns;
    bool trans_b;
  };
  for (const Product& p : {Product{{5, 64}, 40, false}, Product{{2, 9, 37}, 16, true}, Product{{1, 128}, 200, true},
                           Product{{50, 5}, 3, false}, Product{{130, 770}, 100, false}}) {
    KernelCase c{"MatMul", {{"trans_b", std::int64_t{p.trans_b}}}, {}, {false, true}};
    const std::int64_t depth = p.a.back();
    c.inputs = {numbers(p.a, 1), numbers(p.trans_b ? Shape{p.columns, depth} : Shape{depth, p.columns}, 2)};
    check(c, "gemm", tolerance_of_exact(depth));
  }
}

/// The same, stored as bfloat16 wherever a kernel takes that: `places` has bits for input, result and operands.
KernelCase stored(KernelCase c, int places) {
  const auto narrow = [](Tensor& tensor) {
    Tensor result(DType::bfloat16, tensor.shape());
    const std::span<const float> from = tensor.as<float>();
    std::transform(from.begin(), from.end(), result.as_mutable<BFloat16>().begin(),
                   [](float x) { return BFloat16(x); });
    tensor = std::move(result);
  };
  if ((places & 1) != 0) {
    narrow(c.inputs[0]);
    narrow(c.inputs[1]);
  }
  for (std::size_t i = 3; (places & 4) != 0 && i < c.inputs.size(); ++i) narrow(c.inputs[i]);
  c.attributes.set("to", std::string((places & 2) != 0 ? "bfloat16" : "float32"));
  return c;
}

TEST(Bf16Kernels, ValuesStoredAsBfloat16) {
  if (!cpu::has_bf16_tiles()) GTEST_SKIP() << "*** NOT EXERCISED: there are no tiles of bfloat16; see TileKernels";
  const std::vector<Window> windows = {
      {{1, 7, 9, 3}, 5, {3, 3}, {1, 1}, {1, 1, 1, 1}},
      {{2, 12, 21, 32}, 48, {3, 3}, {1, 1}, {2, 2, 2, 2}, {2, 2}},
      {{1, 11, 13, 64}, 70, {1, 1}},
      {{2, 9, 33, 96}, 40, {1, 1}, {2, 2}},
      {{1, 15, 31, 64}, 33, {3, 3}, {2, 2}, {1, 1, 1, 1}},
      {{1, 8, 18, 32}, 40, {3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, "add 0 1; relu 2", {{1, 8, 18, 40}}},
      {{1, 8, 8, 32}, 40, {1, 1}, {1, 1}, {0, 0, 0, 0}, {1, 1}, "silu 0; add 2 1", {{1, 8, 8, 40}}},
  };
  for (const Window& w : windows) {
    for (const int places : {1, 2, 4, 7}) {
      Tolerance tolerance = tolerance_of_exact(w.x.back() * w.kernel[0] * w.kernel[1]);
      KernelCase c = stored(conv_case(w), places);
      c.bf16 = true;
      // A result near the middle of two bfloat16 numbers may become either.
      if ((places & 2) != 0) tolerance.relative = 1.01 * 0x1p-7;
      check_tactic(c, "conv.amx_bf16", tolerance);
    }
  }
}

/// What an engine file may say, whatever the processor.
TEST(Bf16Kernels, KernelsOfFloat32RefuseBfloat16) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  for (const int places : {1, 2, 4}) {
    KernelCase c =
        stored(conv_case({{1, 4, 4, 8}, 16, {1, 1}, {1, 1}, {0, 0, 0, 0}, {1, 1}, "add 0 1", {{1, 4, 4, 16}}}), places);
    c.bf16 = true;
    const Problem problem = prepare(c).problem;
    for (const Candidate& candidate : cpu_backend().candidates(problem)) {
      if (candidate.tactic == "conv.amx_bf16" || candidate.tactic == "reference") continue;
      EXPECT_NE(candidate.refusal, "") << candidate.tactic << " takes bfloat16 in places " << places;
      try {
        cpu_backend().make_kernel({problem.op, candidate.tactic, {64, 512}, problem.inputs, problem.outputs, {}});
        ADD_FAILURE() << candidate.tactic << " was made";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::incompatible_engine) << candidate.tactic << ": " << error.what();
      }
    }
  }
}

/// Other numbers are rounded to 8 bits: each product is off by at most 2^-8 of its size, and sums of errors of random
/// sign grow with the root of the depth. Six times that is beyond chance.
TEST(Bf16Kernels, FactorsAreRounded) {
  constexpr std::int64_t kDepth = 400;
  KernelCase c{"MatMul", {}, {}, {false, true}};
  c.inputs = {random_tensor(DType::float32, {20, kDepth}, 1, -1, 1),
              random_tensor(DType::float32, {kDepth, 64}, 2, -1, 1)};
  check(c, "gemm", {6 * 0x1p-8 * std::sqrt(static_cast<double>(kDepth)) / 3, 0});
}

KernelCase with_long_numbers(KernelCase c) {
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    c.inputs[i] = random_tensor(DType::float32, c.inputs[i].shape(), 1 + static_cast<std::uint32_t>(i), -1, 1);
  }
  return c;
}

/// Products are off by as much as rounding would make them, so the tolerance is that of float32. Not with --bf16 alone.
TEST(SplitKernels, ConvolutionsAndProductsOfFloat32) {
  if (!cpu::has_bf16_tiles()) GTEST_SKIP() << "*** NOT EXERCISED: there are no tiles of bfloat16; see TileKernels";
  const std::vector<Window> windows = {
      {{1, 7, 9, 3}, 5, {3, 3}, {1, 1}, {1, 1, 1, 1}},
      {{2, 9, 8, 17}, 33, {3, 2}, {2, 1}, {1, 0, 1, 1}},
      {{2, 12, 21, 32}, 48, {3, 3}, {1, 1}, {2, 2, 2, 2}, {2, 2}},
      {{1, 11, 13, 64}, 70, {1, 1}},
      {{1, 15, 31, 64}, 33, {3, 3}, {2, 2}, {1, 1, 1, 1}},
      {{1, 15, 15, 3}, 32, {7, 7}, {2, 2}, {3, 3, 3, 3}},
      {{1, 8, 8, 24}, 40, {3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, "add 0 1; relu 2", {{1, 8, 8, 40}}},
      {{1, 5, 5, 12}, 20, {1, 1}, {1, 1}, {0, 0, 0, 0}, {1, 1}, "silu 0"},
  };
  for (const Window& w : windows) {
    check_tactic(with_long_numbers(conv_case(w)), "conv.amx_split",
                 tolerance_of_exact(w.x.back() * w.kernel[0] * w.kernel[1]));
  }
  for (const Shape& a : {Shape{1, 64}, Shape{5, 37}, Shape{2, 9, 128}, Shape{130, 770}}) {
    KernelCase c{"MatMul", {}, {}, {false, true}};
    c.inputs = {numbers(a, 1), numbers({a.back(), 100}, 2)};
    check_tactic(with_long_numbers(c), "gemm.amx_split", tolerance_of_exact(a.back()));
  }
}

/// Errors of sums are no larger than those of summing float32 products one after the other: with the depth of a
/// feed-forward layer, and with factors of very different sizes.
TEST(SplitKernels, AreAsExactAsFloat32) {
  if (!cpu::has_bf16_tiles()) GTEST_SKIP() << "*** NOT EXERCISED: there are no tiles of bfloat16; see TileKernels";
  constexpr std::int64_t kRows = 48, kDepth = 3072, kColumns = 64;
  for (const bool varies : {false, true}) {
    Tensor a = random_tensor(DType::float32, {kRows, kDepth}, 1, -1, 1);
    Tensor b = random_tensor(DType::float32, {kDepth, kColumns}, 2, -1, 1);
    if (varies) {
      for (std::int64_t i = 0; i < kRows * kDepth; ++i) {
        a.as_mutable<float>()[static_cast<std::size_t>(i)] *= std::ldexp(1.0F, static_cast<int>(i * 7 % 31) - 15);
      }
    }
    KernelCase c{"MatMul", {}, {}, {false, true}};
    c.inputs = {a, b};
    const auto error_of = [&](const auto& at) {
      double sum = 0;
      for (std::int64_t m = 0; m < kRows; ++m) {
        for (std::int64_t n = 0; n < kColumns; ++n) {
          double exact = 0;
          for (std::int64_t k = 0; k < kDepth; ++k) {
            exact += static_cast<double>(a.as<float>()[static_cast<std::size_t>(m * kDepth + k)]) *
                     b.as<float>()[static_cast<std::size_t>(k * kColumns + n)];
          }
          sum += std::pow(at(m, n) - exact, 2);
        }
      }
      return std::sqrt(sum);
    };
    const double plain = error_of([&](std::int64_t m, std::int64_t n) {
      float sum = 0;
      for (std::int64_t k = 0; k < kDepth; ++k) {
        sum += a.as<float>()[static_cast<std::size_t>(m * kDepth + k)] *
               b.as<float>()[static_cast<std::size_t>(k * kColumns + n)];
      }
      return static_cast<double>(sum);
    });
    const Tensor result = run_tactic(c, "gemm.amx_split").at(0);
    const double split = error_of([&](std::int64_t m, std::int64_t n) {
      return static_cast<double>(result.as<float>()[static_cast<std::size_t>(m * kColumns + n)]);
    });
    EXPECT_LT(split, plain) << "varies: " << varies;
  }
}

TEST(SplitKernels, WeightsAreNotTooLarge) {
  if (!cpu::has_bf16_tiles()) GTEST_SKIP() << "*** NOT EXERCISED: there are no tiles of bfloat16; see TileKernels";
  for (const float weight :
       {0x1p55F, -0x1p100F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    KernelCase c = conv_case({{1, 4, 4, 8}, 16, {1, 1}});
    c.inputs[1].as_mutable<float>()[17] = weight;
    EXPECT_EQ(refusal_of(c, "conv.amx_split"), "a weight is not below 2^55");
  }
}

/// Sixteen rows must fit in a thread's scratch memory.
TEST(SplitKernels, RowsAreNotTooDeep) {
  if (!cpu::has_bf16_tiles()) GTEST_SKIP() << "*** NOT EXERCISED: there are no tiles of bfloat16; see TileKernels";
  for (const std::int64_t depth : {21845, 21846}) {
    KernelCase c{"MatMul", {}, {}, {false, true}};
    c.inputs = {numbers({20, depth}, 1), numbers({depth, 16}, 2)};
    if (depth == 21845) {
      check_tactic(with_long_numbers(c), "gemm.amx_split", tolerance_of_exact(depth));
    } else {
      EXPECT_EQ(refusal_of(c, "gemm.amx_split"), "a row has more than 21845 numbers");
    }
  }
  KernelCase c = conv_case({{1, 1, 100, 2048}, 16, {1, 16}});
  EXPECT_EQ(refusal_of(c, "conv.amx_split"), "a window has more than 21845 numbers");
}

TEST(Bf16Kernels, TilesAreRefusedWhereThereAreNone) {
  if (cpu::tier() == cpu::Tier::none || cpu::has_bf16_tiles()) GTEST_SKIP() << "no kernels, or tiles";
  KernelCase c = conv_case({{1, 4, 4, 8}, 16, {1, 1}});
  c.bf16 = true;
  EXPECT_EQ(refusal_of(c, "conv.amx_bf16"), "this processor has no tiles of bfloat16 (AMX_BF16)");
  const PreparedCase prepared = prepare(c);
  const Problem& problem = prepared.problem;
  expect_refused({problem.op, "conv.amx_bf16", {64, 512}, problem.inputs, problem.outputs, {}},
                 "which this processor has not");
}

TEST(Bf16Kernels, OnlyWhereItIsAllowed) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  const KernelCase c = conv_case({{1, 4, 4, 8}, 16, {1, 1}});
  for (const std::string tactic : {"conv.bf16", "conv.amx_bf16"}) {
    EXPECT_EQ(refusal_of(c, tactic), "factors may not be rounded to bfloat16 (--bf16)");
  }
}

}  // namespace
}  // namespace tenfold
