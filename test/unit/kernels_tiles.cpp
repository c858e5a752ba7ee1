// Products by the processor's matrix unit (AMX), whose part an emulation plays: everything around the instructions is
// tried on every machine with AVX2. The instructions are in kernels_bf16.cpp.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/compiled_pointwise.hpp"
#include "backend/cpu/cpu_tactic.hpp"
#include "backend/cpu/tile_panels.hpp"
#include "base/float16.hpp"
#include "emulation/tile_products.hpp"
#include "kernel_case.hpp"
#include "ops/pointwise.hpp"

namespace tenfold {
namespace {

/// Behind the scratch memory that a product is told of.
constexpr std::int64_t kGuardBytes = 64 << 10;

struct Product {
  std::int64_t rows, columns, depth;
  std::int64_t row_block = 256, depth_block = 256;
  bool bias = false, residual = false, clips = false, program = false;
  std::int64_t extra_pitch = 0;                                      ///< of A and C
  cpu::ConvRows conv = {};                                           ///< kernel of one position: a plain product
  bool a_is_bf16 = false, c_is_bf16 = false, other_is_bf16 = false;  ///< how A, C and the residual are stored
  cpu::Windows windows = cpu::Windows::copied;
  bool is_split = false;  ///< factors are float32 and keep their digits
  std::int64_t scratch_bytes = cpu::CpuStream::kScratchBytes - kGuardBytes;
};

/// Numbers that bfloat16 holds.
Tensor numbers(const Shape& shape, std::uint32_t seed) {
  Tensor tensor = random_tensor(DType::float32, shape, seed, -1, 1);
  for (float& x : tensor.as_mutable<float>()) x = static_cast<float>(BFloat16(x));
  return tensor;
}

/// The same, of which bfloat16 holds only a third.
Tensor long_numbers(const Shape& shape, std::uint32_t seed) {
  return random_tensor(DType::float32, shape, seed, -1, 1);
}

/// As they are, or stored as bfloat16.
Tensor stored(const Tensor& tensor, bool is_bf16) {
  if (!is_bf16) return tensor;
  Tensor result(DType::bfloat16, tensor.shape());
  const std::span<const float> from = tensor.as<float>();
  std::transform(from.begin(), from.end(), result.as_mutable<BFloat16>().begin(), [](float x) { return BFloat16(x); });
  return result;
}

struct Operands {
  std::int64_t pixels, channels;
  bool is_conv;
  Tensor a, b, bias, residual;
  explicit Operands(const Product& p) {
    const std::int64_t taps = p.conv.kernel[0] * p.conv.kernel[1] * p.conv.kernel[2];
    is_conv = p.conv.out[2] > 1;
    channels = p.depth / taps;
    pixels = is_conv ? p.conv.batch * p.conv.in[0] * p.conv.in[1] * p.conv.in[2] : p.rows;
    const auto factors = p.is_split ? long_numbers : numbers;
    a = factors({pixels, channels + p.extra_pitch}, 1);
    b = factors({p.depth, p.columns}, 2);
    bias = numbers({p.columns}, 3);
    residual = numbers({p.rows, p.columns}, 4);
  }
  /// A[m][k] of the product.
  double left(const Product& p, std::int64_t m, std::int64_t k) const {
    const std::int64_t at = place(p, m, k);
    return at < 0 ? 0 : a.as<float>()[static_cast<std::size_t>(at)];
  }
  /// Where it is; -1: outside the image.
  std::int64_t place(const Product& p, std::int64_t m, std::int64_t k) const {
    if (!is_conv) return m * a.shape()[1] + k;
    const cpu::ConvRows& c = p.conv;
    std::int64_t at[3], tap = k / channels, rest = m;
    for (int axis = 2; axis >= 0; --axis) {
      at[axis] = rest % c.out[axis] * c.stride[axis] - c.pad[axis] + tap % c.kernel[axis] * c.dilation[axis];
      rest /= c.out[axis];
      tap /= c.kernel[axis];
      if (at[axis] < 0 || at[axis] >= c.in[axis]) return -1;
    }
    const std::int64_t pixel = ((rest * c.in[0] + at[0]) * c.in[1] + at[1]) * c.in[2] + at[2];
    return pixel * a.shape()[1] + k % channels;
  }
};

Tensor expected(const Product& p, const Operands& operands) {
  Tensor result(DType::float32, {p.rows, p.columns});
  const float* b = operands.b.as<float>().data();
  for (std::int64_t m = 0; m < p.rows; ++m) {
    std::vector<double> row(static_cast<std::size_t>(p.depth));
    for (std::int64_t k = 0; k < p.depth; ++k) row[static_cast<std::size_t>(k)] = operands.left(p, m, k);
    for (std::int64_t n = 0; n < p.columns; ++n) {
      double sum = p.bias ? static_cast<double>(operands.bias.as<float>()[static_cast<std::size_t>(n)]) : 0;
      for (std::int64_t k = 0; k < p.depth; ++k) sum += row[static_cast<std::size_t>(k)] * b[k * p.columns + n];
      const auto i = static_cast<std::size_t>(m * p.columns + n);
      const double other = operands.residual.as<float>()[i];
      if (p.residual) sum += other;
      if (p.clips) sum = std::clamp(sum, -1.0, 1.5);
      if (p.program) sum = sum * other + 0.5;
      result.as_mutable<float>()[i] = static_cast<float>(sum);
    }
  }
  return result;
}

Tensor run_emulated(const Product& p, const Operands& operands, int threads) {
  const float* b = operands.b.as<float>().data();
  const bool by_lines = p.windows == cpu::Windows::by_lines;
  const std::int64_t lines = by_lines ? p.conv.kernel[0] * p.conv.kernel[1] : 1, line = p.depth / lines;
  const std::int64_t packed_line = by_lines ? cpu::window_line_depth(p.conv.kernel[2], operands.channels) : line;
  const auto weight = [&](std::int64_t k, std::int64_t n) {
    return k % packed_line >= line ? 0.0F : b[(k / packed_line * line + k % packed_line) * p.columns + n];
  };
  const std::vector<std::byte> panels = p.is_split
                                            ? cpu::pack_split_panels(lines * packed_line, p.columns, weight)
                                            : cpu::pack_tile_panels<BFloat16>(lines * packed_line, p.columns, weight);
  const Tensor a = stored(operands.a, p.a_is_bf16), other = stored(operands.residual, p.other_is_bf16);
  const auto floats = [](const Tensor& tensor) { return reinterpret_cast<const float*>(tensor.data()); };
  const std::int64_t parts = p.is_split ? cpu::kSplitParts : 1;
  const cpu::WindowLines image = cpu::window_lines(p.conv, p.windows, operands.channels, operands.a.shape()[1],
                                                   p.a_is_bf16, parts, p.scratch_bytes);
  const bool is_converted = operands.is_conv && image.pixels == 0 && !p.a_is_bf16;
  const std::int64_t room = is_converted ? parts * cpu::rounded_image_bytes(operands.pixels, operands.channels) : 0;
  kernel_case_detail::GuardedBuffer rounded(DType::uint8, {room}, 0);
  kernel_case_detail::GuardedBuffer c(p.c_is_bf16 ? DType::bfloat16 : DType::float32, {p.rows, p.columns},
                                      p.extra_pitch);
  cpu::Bf16Args args;
  args.a_is_bf16 = p.a_is_bf16;
  args.c_is_bf16 = p.c_is_bf16;
  args.is_split = p.is_split;
  args.windows = p.windows;
  args.panels = reinterpret_cast<const std::uint16_t*>(panels.data());
  args.rounded = static_cast<std::uint16_t*>(rounded.view().data);
  cpu::GemmArgs& product = args.product;
  product.rows = p.rows;
  product.columns = p.columns;
  product.depth = p.depth;
  product.a = floats(a);
  product.a_stride = operands.a.shape()[1];
  product.conv = operands.is_conv ? &p.conv : nullptr;
  product.c = static_cast<float*>(c.view().data);
  product.c_stride = c.view().pitch;
  product.tiling = {.tile_rows = 16, .tile_vectors = 2, .depth_block = p.depth_block, .row_block = p.row_block};
  cpu::FinishArgs& finish = product.finish;
  if (p.bias) finish.bias = operands.bias.as<float>().data();
  if (p.residual) {
    finish.residual = floats(other);
    finish.residual_is_bf16 = p.other_is_bf16;
    finish.residual_stride = p.columns;
  }
  if (p.clips) finish.activation = {.kind = cpu::Activation::Kind::clip, .low = -1, .high = 1.5};
  const auto program = cpu::compile_pointwise(PointwiseProgram::parse(2, "mul 0 1; add_imm 2 0x1p-1"));
  if (p.program) {
    finish.program = &program;
    finish.operands[1] = {.data = floats(other), .is_bf16 = p.other_is_bf16, .row_stride = p.columns, .col_stride = 1};
    finish.group_rows = p.rows;
  }
  cpu::CpuStream stream(threads);
  // NaN in all that must be written before it is read.
  std::memset(args.rounded, 0xff, static_cast<std::size_t>(room));
  if (threads == 1) std::memset(stream.scratch(), 0xff, cpu::CpuStream::kScratchBytes);
  test::run_emulated_bf16_tiles(args, {&stream.pool(), stream.scratch(), static_cast<std::size_t>(p.scratch_bytes)});
  const std::byte* guard = stream.scratch() + p.scratch_bytes;
  EXPECT_TRUE(threads > 1 || std::all_of(guard, guard + kGuardBytes, [](std::byte x) { return x == std::byte{0xff}; }))
      << "written behind the scratch memory";
  EXPECT_TRUE(rounded.is_intact()) << "written beyond the room for A";
  EXPECT_TRUE(c.is_intact()) << "written around the result";
  return c.to_tensor();
}

void check_as_stored(const Product& p) {
  SCOPED_TRACE(testing::Message() << p.rows << " x " << p.columns << " x " << p.depth << ", blocks of " << p.row_block
                                  << " x " << p.depth_block << ", bfloat16: " << p.a_is_bf16 << p.c_is_bf16
                                  << p.other_is_bf16 << (p.is_split ? ", split" : ""));
  const Operands operands(p);
  // Factors are exact, so only sums are rounded, each of at most depth + 3 terms of at most 1; then perhaps the result,
  // to 8 bits. Products of split factors are off by as much as rounding would make them.
  Tolerance tolerance{2 * 0x1p-24 * static_cast<double>((p.depth + 3) * (p.depth + 3)) / 4, 4 * 0x1p-24};
  if (p.c_is_bf16) tolerance = {1.01 * tolerance.absolute, 1.01 * 0x1p-8};
  const Tensor first = run_emulated(p, operands, 1);
  const auto widened = [](const Tensor& tensor) {
    Tensor result(DType::float32, tensor.shape());
    const std::vector<double> numbers = tensor.to_double();
    std::transform(numbers.begin(), numbers.end(), result.as_mutable<float>().begin(),
                   [](double x) { return static_cast<float>(x); });
    return result;
  };
  EXPECT_EQ(difference(widened(first), expected(p, operands), tolerance), "");
  for (const int threads : {2, 7}) {
    EXPECT_TRUE(run_emulated(p, operands, threads).equals(first)) << "depends on the number of threads: " << threads;
  }
}

/// With float32 and bfloat16 in every place, alone and together; and with split factors.
void check(Product p) {
  if (cpu::machine_tier() == cpu::Tier::none) GTEST_SKIP() << "the emulation needs AVX2";
  for (const int places : {0b000, 0b001, 0b010, 0b111}) {
    p.a_is_bf16 = (places & 1) != 0;
    p.c_is_bf16 = (places & 2) != 0;
    p.other_is_bf16 = (places & 4) != 0;
    check_as_stored(p);
    if (!p.residual && !p.program) continue;
    p.other_is_bf16 = !p.other_is_bf16;
    check_as_stored(p);
  }
  p.a_is_bf16 = p.c_is_bf16 = p.other_is_bf16 = false;
  p.is_split = true;
  check_as_stored(p);
}

/// What is done with sums of bytes.
struct ByteEnd {
  DType result = DType::float32;
  bool rounds_first = false, residual = false, program = false;
  bool scales_before = false;  ///< the program follows scales and offsets, whose products are rounded
};
cpu::ByteResult byte_result(DType dtype) {
  return dtype == DType::int8    ? cpu::ByteResult::int8
         : dtype == DType::uint8 ? cpu::ByteResult::uint8
                                 : cpu::ByteResult::float32;
}

/// The same for bytes, exact. The same operations in the same order as in ByteFinish, so results are equal too.
void check_bytes(const Product& p, DType dtype, std::int64_t zero, const ByteEnd& end) {
  if (cpu::machine_tier() == cpu::Tier::none) GTEST_SKIP() << "the emulation needs AVX2";
  SCOPED_TRACE(testing::Message() << p.rows << " x " << p.columns << " x " << p.depth << " of " << to_string(dtype)
                                  << " to " << to_string(end.result) << ", blocks of " << p.row_block << " x "
                                  << p.depth_block);
  const bool is_signed = dtype == DType::int8, to_bytes = end.result != DType::float32;
  const std::int64_t taps = p.conv.kernel[0] * p.conv.kernel[1] * p.conv.kernel[2], channels = p.depth / taps;
  const std::int64_t pixels = taps > 1 ? p.conv.batch * p.conv.in[0] * p.conv.in[1] * p.conv.in[2] : p.rows;
  const Tensor a =
      random_tensor(dtype, {pixels, channels + p.extra_pitch}, 1, is_signed ? -128 : 0, is_signed ? 128 : 256);
  const Tensor b = random_tensor(DType::int8, {p.depth, p.columns}, 2, -128, 128);
  const double size = 0x1p-12 / std::sqrt(static_cast<double>(p.depth));
  const Tensor scale = random_tensor(DType::float32, {p.columns}, 3, -size, size);
  const Tensor offset = random_tensor(DType::float32, {p.columns}, 4, -1, 1);
  const Tensor other = random_tensor(DType::uint8, {p.rows, p.columns}, 5, 0, 256);

  cpu::ByteProductArgs args;
  args.rows = p.rows;
  args.columns = p.columns;
  args.depth = p.depth;
  args.a = reinterpret_cast<const std::uint8_t*>(a.data());
  args.a_stride = a.shape()[1];
  args.a_is_signed = is_signed;
  args.zero = static_cast<std::uint8_t>(zero);
  args.conv = taps > 1 ? &p.conv : nullptr;
  const std::int8_t* weights = b.as<std::int8_t>().data();
  const std::vector<std::byte> panels = cpu::pack_tile_panels<std::int8_t>(
      p.depth, p.columns, [&](std::int64_t k, std::int64_t n) { return weights[k * p.columns + n]; });
  args.panels = reinterpret_cast<const std::int8_t*>(panels.data());
  std::vector<std::int32_t> start(static_cast<std::size_t>(cpu::whole_tiles(p.columns, 16) * 16));
  for (std::int64_t k = 0; k < p.depth; ++k) {
    for (std::int64_t n = 0; n < p.columns; ++n) {
      start[static_cast<std::size_t>(n)] -= static_cast<std::int32_t>(zero) * weights[k * p.columns + n];
    }
  }
  args.start = start.data();
  args.tiling = {16, 2, p.row_block, p.depth_block};
  cpu::ByteFinish& finish = args.finish;
  finish.result = byte_result(end.result);
  if (!end.program || end.scales_before) {
    finish.scale = scale.as<float>().data();
    finish.offset = offset.as<float>().data();
  }
  finish.rounds_product = end.scales_before;
  finish.low = to_bytes ? -20 : -1e30F;
  finish.high = to_bytes ? 90 : 1e30F;
  finish.zero_point = to_bytes ? 21 : 0;
  finish.rounds_first = end.rounds_first;
  finish.first_low = -3;
  finish.first_high = 2;
  finish.factor = 8;
  finish.shift = 0.5F;
  if (end.residual) {
    finish.residual = other.data();
    finish.residual_type = cpu::ByteResult::uint8;
    finish.residual_stride = p.columns;
    finish.residual_scale = 0.25F;
  }
  const auto program = cpu::compile_pointwise(PointwiseProgram::parse(2, "mul_imm 0 0x1p-10; add 2 1"));
  if (end.program) {
    finish.program.program = &program;
    finish.program.operands[1] = {
        .data = reinterpret_cast<const float*>(other.data()), .row_stride = p.columns, .col_stride = 1};
    finish.program.group_rows = p.rows;
    finish.operand_types[1] = cpu::ByteResult::uint8;
  }

  Tensor wanted(end.result, {p.rows, p.columns});
  Operands geometry(p);
  for (std::int64_t m = 0; m < p.rows; ++m) {
    std::vector<std::int32_t> row(static_cast<std::size_t>(p.depth));
    for (std::int64_t k = 0; k < p.depth; ++k) {
      const std::int64_t at = geometry.place(p, m, k);
      const std::int64_t byte = at < 0      ? zero
                                : is_signed ? a.as<std::int8_t>()[static_cast<std::size_t>(at)]
                                            : a.as<std::uint8_t>()[static_cast<std::size_t>(at)];
      row[static_cast<std::size_t>(k)] = static_cast<std::int32_t>(byte - zero);
    }
    for (std::int64_t n = 0; n < p.columns; ++n) {
      const auto i = static_cast<std::size_t>(m * p.columns + n), column = static_cast<std::size_t>(n);
      std::int32_t sum = 0;
      for (std::int64_t k = 0; k < p.depth; ++k) sum += row[static_cast<std::size_t>(k)] * weights[k * p.columns + n];
      const auto residual = static_cast<float>(other.as<std::uint8_t>()[i]);
      auto x = static_cast<float>(sum);
      if (end.program) {
        if (end.scales_before) x = x * scale.as<float>()[column] + offset.as<float>()[column];
        x = x * 0x1p-10F + residual;
      } else {
        x = std::fma(x, scale.as<float>()[column], offset.as<float>()[column]);
        if (end.rounds_first) x = std::fma(std::nearbyint(std::clamp(x, -3.0F, 2.0F)), 8.0F, 0.5F);
        if (end.residual) x = std::fma(residual, 0.25F, x);
        x = std::clamp(x, finish.low, finish.high);
        if (to_bytes) x = std::nearbyint(x) + 21;
      }
      if (end.result == DType::uint8) {
        wanted.as_mutable<std::uint8_t>()[i] = static_cast<std::uint8_t>(std::clamp(std::nearbyint(x), 0.0F, 255.0F));
      } else if (end.result == DType::int8) {
        wanted.as_mutable<std::int8_t>()[i] = static_cast<std::int8_t>(std::clamp(std::nearbyint(x), -128.0F, 127.0F));
      } else {
        wanted.as_mutable<float>()[i] = x;
      }
    }
  }
  for (const int threads : {1, 2, 7}) {
    kernel_case_detail::GuardedBuffer c(end.result, {p.rows, p.columns}, p.extra_pitch);
    args.c = c.view().data;
    args.c_stride = c.view().pitch;
    cpu::CpuStream stream(threads);
    test::run_emulated_byte_tiles(args, {&stream.pool(), stream.scratch(), cpu::CpuStream::kScratchBytes});
    EXPECT_TRUE(c.is_intact()) << "written around the result";
    EXPECT_EQ(difference(c.to_tensor(), wanted, {}), "") << threads << " threads";
  }
}

TEST(TileKernels, BytesWithTailsOfRowsColumnsAndDepth) {
  for (const std::int64_t rows : {1, 16, 17, 33, 49}) {
    for (const std::int64_t columns : {1, 15, 17, 32, 50}) {
      for (const std::int64_t depth : {3, 64, 65, 128}) {
        check_bytes({rows, columns, depth}, DType::uint8, 7, {});
        check_bytes({rows, columns, depth, 16, 64}, DType::int8, -5, {.result = DType::uint8});
      }
    }
  }
}

TEST(TileKernels, WhatHappensToSumsOfBytes) {
  for (const DType dtype : {DType::uint8, DType::int8}) {
    for (const DType result : {DType::float32, DType::uint8, DType::int8}) {
      for (const ByteEnd& end : {ByteEnd{result}, ByteEnd{result, true}, ByteEnd{result, true, true},
                                 ByteEnd{result, false, true}, ByteEnd{result, false, false, true}}) {
        check_bytes({.rows = 75, .columns = 45, .depth = 200, .row_block = 32, .depth_block = 64, .extra_pitch = 3},
                    dtype, 3, end);
      }
    }
    check_bytes({.rows = 75, .columns = 45, .depth = 200, .row_block = 32, .depth_block = 64, .extra_pitch = 3}, dtype,
                3, {.program = true, .scales_before = true});
  }
}

/// Ties go to even numbers, what is too large to infinity, and NaN stays NaN.
TEST(TileKernels, ResultsAreRoundedToBfloat16) {
  if (cpu::machine_tier() == cpu::Tier::none) GTEST_SKIP() << "the emulation needs AVX2";
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> values = {1, 1 + 0x1p-8F, 1 + 0x3p-8F, -1 - 0x1p-8F, 3.4e38F, kInfinity, -kInfinity, kNan,
                                     0};
  const auto columns = static_cast<std::int64_t>(values.size());
  const std::vector<std::byte> panels =
      cpu::pack_tile_panels<BFloat16>(1, columns, [](std::int64_t, std::int64_t) { return 0.0F; });
  const BFloat16 zero(0.0F);
  std::vector<BFloat16> results(values.size());
  cpu::Bf16Args args;
  args.panels = reinterpret_cast<const std::uint16_t*>(panels.data());
  args.a_is_bf16 = args.c_is_bf16 = true;
  args.product.rows = args.product.depth = args.product.a_stride = 1;
  args.product.columns = args.product.c_stride = columns;
  args.product.a = reinterpret_cast<const float*>(&zero);
  args.product.c = reinterpret_cast<float*>(results.data());
  args.product.finish.bias = values.data();
  args.product.tiling = {.tile_rows = 16, .tile_vectors = 2, .depth_block = 32, .row_block = 16};
  cpu::CpuStream stream(1);
  test::run_emulated_bf16_tiles(args, {&stream.pool(), stream.scratch(), cpu::CpuStream::kScratchBytes});
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) {
      EXPECT_TRUE(std::isnan(static_cast<float>(results[i])));
    } else {
      EXPECT_EQ(results[i].bits, BFloat16(values[i]).bits) << values[i];
    }
  }
}

TEST(TileKernels, TailsOfRowsColumnsAndDepth) {
  for (const std::int64_t rows : {1, 7, 16, 17, 31, 32, 33, 49, 70}) {
    for (const std::int64_t columns : {1, 15, 16, 17, 32, 33, 48, 61}) {
      for (const std::int64_t depth : {1, 31, 32, 33, 70}) check({rows, columns, depth});
    }
  }
}

TEST(TileKernels, BlocksOfRowsAndDepth) {
  for (const std::int64_t row_block : {1, 16, 48, 100}) {
    for (const std::int64_t depth_block : {32, 64, 96, 1024}) {
      check({.rows = 145, .columns = 72, .depth = 200, .row_block = row_block, .depth_block = depth_block});
    }
  }
}

TEST(TileKernels, BlocksThatExceedTheScratchMemory) {
  check_as_stored({.rows = 55, .columns = 8, .depth = 40000, .row_block = 1 << 20, .depth_block = 4096});
  check_as_stored(
      {.rows = 55, .columns = 8, .depth = 39999, .row_block = 1 << 20, .depth_block = 4096, .a_is_bf16 = true});
  Product windows{.rows = 45, .columns = 8, .depth = 48000, .row_block = 1 << 20, .depth_block = 4096};
  windows.conv = {.in = {1, 7, 12}, .out = {1, 5, 9}, .kernel = {1, 3, 4}};
  check_as_stored(windows);
  // As deep as gemm.amx_split takes.
  check_as_stored(
      {.rows = 55, .columns = 8, .depth = 21845, .row_block = 1 << 20, .depth_block = 4096, .is_split = true});
  windows.depth = 21600;
  windows.is_split = true;
  check_as_stored(windows);
}

TEST(TileKernels, WhatHappensToSums) {
  for (const std::int64_t depth_block : {32, 128}) {
    check({.rows = 37, .columns = 45, .depth = 100, .depth_block = depth_block, .bias = true});
    check({.rows = 37,
           .columns = 45,
           .depth = 100,
           .depth_block = depth_block,
           .bias = true,
           .residual = true,
           .clips = true,
           .extra_pitch = 3});
    check({.rows = 60,
           .columns = 40,
           .depth = 64,
           .depth_block = depth_block,
           .bias = true,
           .clips = true,
           .program = true});
    check({.rows = 200,
           .columns = 33,
           .depth = 50,
           .row_block = 32,
           .depth_block = depth_block,
           .program = true,
           .extra_pitch = 1});
  }
}

TEST(TileKernels, Windows) {
  struct Window {
    cpu::ConvRows conv;
    std::int64_t channels, columns;
  };
  const Window windows[] = {
      {{.in = {1, 7, 9}, .out = {1, 7, 9}, .kernel = {1, 3, 3}, .pad = {0, 1, 1}}, 3, 5},
      {{.batch = 2, .in = {1, 9, 8}, .out = {1, 5, 7}, .kernel = {1, 3, 2}, .stride = {1, 2, 1}, .pad = {0, 1, 0}},
       17,
       33},
      {{.in = {1, 12, 12}, .out = {1, 12, 12}, .kernel = {1, 3, 3}, .dilation = {1, 2, 2}, .pad = {0, 2, 2}}, 8, 48},
      {{.in = {5, 6, 7},
        .out = {5, 3, 5},
        .kernel = {3, 2, 3},
        .stride = {1, 2, 1},
        .dilation = {1, 1, 2},
        .pad = {1, 0, 1}},
       3,
       10},
      {{.batch = 3, .in = {1, 14, 14}, .out = {1, 14, 14}, .kernel = {1, 3, 3}, .pad = {0, 1, 1}}, 32, 64},
      {{.in = {1, 2, 1}, .out = {1, 4, 3}, .kernel = {1, 3, 3}, .pad = {0, 2, 2}}, 5, 8},
  };
  for (const Window& w : windows) {
    const std::int64_t rows = w.conv.batch * w.conv.out[0] * w.conv.out[1] * w.conv.out[2];
    const std::int64_t depth = w.channels * w.conv.kernel[0] * w.conv.kernel[1] * w.conv.kernel[2];
    for (const std::int64_t extra_pitch : {0, 3}) {
      Product p{.rows = rows, .columns = w.columns, .depth = depth, .row_block = 64, .depth_block = 128, .bias = true};
      p.clips = true;
      p.extra_pitch = extra_pitch;
      p.conv = w.conv;
      check(p);
      for (const cpu::Windows way : {cpu::Windows::by_pixels, cpu::Windows::by_lines}) {
        if (way == cpu::Windows::by_lines && w.conv.dilation[2] > 1) continue;
        p.windows = way;
        check(p);
      }
      check_bytes(p, DType::uint8, 130, {.result = DType::int8});
      check_bytes(p, DType::int8, -128, {.result = DType::uint8});
    }
  }
}

TEST(TileKernels, WindowsWhereTheyLie) {
  if (cpu::machine_tier() == cpu::Tier::none) GTEST_SKIP() << "the emulation needs AVX2";
  struct Window {
    cpu::ConvRows conv;
    std::int64_t channels, columns;
    bool is_copied = true;  ///< an image of bfloat16
  };
  std::vector<Window> windows = {
      {{.batch = 2, .in = {1, 9, 8}, .out = {1, 5, 7}, .kernel = {1, 3, 2}, .stride = {1, 2, 1}, .pad = {0, 1, 0}},
       32,
       33,
       false},
      {{.in = {1, 12, 20}, .out = {1, 12, 20}, .kernel = {1, 3, 3}, .dilation = {1, 2, 2}, .pad = {0, 2, 2}}, 64, 48},
      {{.batch = 2, .in = {1, 9, 57}, .out = {1, 5, 29}, .kernel = {1, 1, 1}, .stride = {1, 2, 2}}, 96, 40, false},
      {{.in = {1, 15, 31}, .out = {1, 8, 16}, .kernel = {1, 3, 3}, .stride = {1, 2, 2}, .pad = {0, 1, 1}}, 32, 16},
      {{.in = {5, 6, 7},
        .out = {5, 3, 5},
        .kernel = {3, 2, 3},
        .stride = {1, 2, 1},
        .dilation = {1, 1, 2},
        .pad = {1, 0, 1}},
       32,
       10},
      {{.in = {1, 2, 1}, .out = {1, 4, 3}, .kernel = {1, 3, 3}, .pad = {0, 2, 2}}, 32, 8},
      // Windows that end before the image does, and some that lie outside altogether.
      {{.in = {1, 4, 40}, .out = {1, 4, 7}, .kernel = {1, 1, 3}, .stride = {1, 1, 3}}, 32, 20, false},
      {{.in = {1, 3, 4}, .out = {1, 9, 12}, .kernel = {1, 1, 2}, .pad = {0, 3, 5}}, 64, 8}};
  for (const std::int64_t width : {7, 16, 17, 33, 56}) {
    windows.push_back(
        {{.batch = 2, .in = {1, 3, width}, .out = {1, 3, width}, .kernel = {1, 3, 3}, .pad = {0, 1, 1}}, 64, 24});
  }
  for (const Window& w : windows) {
    for (const bool is_bf16 : {false, true}) {
      const cpu::WindowLines lines = cpu::window_lines(w.conv, cpu::Windows::by_pixels, w.channels, w.channels, is_bf16,
                                                       1, cpu::CpuStream::kScratchBytes);
      EXPECT_GT(lines.pixels, 0);
      EXPECT_EQ(lines.is_copied, w.is_copied || !is_bf16);
    }
    const std::int64_t rows = w.conv.batch * w.conv.out[0] * w.conv.out[1] * w.conv.out[2];
    const std::int64_t depth = w.channels * w.conv.kernel[0] * w.conv.kernel[1] * w.conv.kernel[2];
    for (const std::int64_t extra_pitch : {0, 3}) {
      Product p{.rows = rows, .columns = w.columns, .depth = depth, .row_block = 64, .depth_block = 64};
      if (extra_pitch > 0) p.depth_block = 1024;
      p.bias = p.clips = p.residual = true;
      p.windows = cpu::Windows::by_pixels;
      p.extra_pitch = extra_pitch;
      p.conv = w.conv;
      check(p);
    }
  }
}

/// Blocks as large as the scratch memory lets them be, of several images, and of parts of them.
TEST(TileKernels, WindowsThatFillTheScratchMemory) {
  const cpu::ConvRows convs[] = {
      {.batch = 5, .in = {1, 13, 20}, .out = {1, 13, 20}, .kernel = {1, 3, 3}, .pad = {0, 1, 1}},
      {.batch = 9, .in = {1, 4, 40}, .out = {1, 2, 20}, .kernel = {1, 5, 2}, .stride = {1, 2, 2}, .pad = {0, 2, 0}},
      {.batch = 3, .in = {4, 9, 17}, .out = {2, 3, 17}, .kernel = {2, 1, 1}, .stride = {2, 4, 1}},
  };
  for (const cpu::ConvRows& conv : convs) {
    Product p{.rows = conv.batch * conv.out[0] * conv.out[1] * conv.out[2], .columns = 20};
    p.depth = 32 * conv.kernel[0] * conv.kernel[1] * conv.kernel[2];
    p.row_block = 1 << 20;
    p.depth_block = 64;
    p.conv = conv;
    for (const std::int64_t kilobytes : {160, 250, 400}) {
      p.scratch_bytes = kilobytes << 10;
      for (const cpu::Windows way : {cpu::Windows::copied, cpu::Windows::by_pixels, cpu::Windows::by_lines}) {
        p.windows = way;
        check(p);
      }
    }
  }
}

/// Numbers beside a window, which zeros of B meet where windows are read by lines, do not come into it.
TEST(TileKernels, NanOutsideAWindow) {
  if (cpu::machine_tier() == cpu::Tier::none) GTEST_SKIP() << "the emulation needs AVX2";
  for (const bool is_bf16 : {false, true}) {
    Product p{.rows = 2 * 9 * 20, .columns = 20, .depth = 5 * 9, .row_block = 64, .a_is_bf16 = is_bf16};
    p.conv = {.batch = 2, .in = {1, 9, 20}, .out = {1, 9, 20}, .kernel = {1, 3, 3}, .pad = {0, 1, 1}};
    Operands operands(p);
    operands.a.as_mutable<float>()[5 * (9 * 20 + 4 * 20 + 7) + 2] = std::numeric_limits<float>::quiet_NaN();
    operands.a.as_mutable<float>()[5 * (2 * 20 + 18)] = std::numeric_limits<float>::infinity();
    const Tensor copied = run_emulated(p, operands, 1);
    p.windows = cpu::Windows::by_lines;
    const Tensor by_lines = run_emulated(p, operands, 2);
    // The same sums, in another order.
    EXPECT_EQ(difference(by_lines, copied, {2 * 46 * 46 * 0x1p-24, 0}), "");
    int finite = 0;
    for (const double x : by_lines.to_double()) finite += std::isfinite(x) ? 1 : 0;
    EXPECT_EQ(finite, (2 * 9 * 20 - 2 * 9) * 20);
  }
}

/// Infinity, NaN and numbers whose parts' products exceed float32 give what float32 gives; other rows are as they were.
TEST(TileKernels, SplitFactorsOfAnySize) {
  if (cpu::machine_tier() == cpu::Tier::none) GTEST_SKIP() << "the emulation needs AVX2";
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kLargest = std::numeric_limits<float>::max();
  struct Number {
    std::int64_t at;  ///< of A's numbers
    float value;
  };
  const std::vector<Number> others = {
      {3, kInfinity},   {70, -kInfinity},      {140, std::numeric_limits<float>::quiet_NaN()},
      {205, kLargest},  {301, -3e38F},         {303, 1.5e30F},
      {401, 0x1p-140F}, {500, 0x1.fffffep54F}, {560, 0x1p55F}};
  Product plain{.rows = 70, .columns = 40, .depth = 50, .row_block = 16, .bias = true, .is_split = true};
  Product window{.rows = 2 * 9 * 20, .columns = 20, .depth = 5 * 9, .row_block = 64, .is_split = true};
  window.conv = {.batch = 2, .in = {1, 9, 20}, .out = {1, 9, 20}, .kernel = {1, 3, 3}, .pad = {0, 1, 1}};
  Product pixels{.rows = 40, .columns = 20, .depth = 32 * 3, .row_block = 64, .is_split = true};
  pixels.conv = {.in = {1, 2, 20}, .out = {1, 2, 20}, .kernel = {1, 1, 3}, .pad = {0, 0, 1}};
  for (Product p : {plain, window, pixels}) {
    for (const cpu::Windows way : {cpu::Windows::copied, cpu::Windows::by_pixels, cpu::Windows::by_lines}) {
      p.windows = way;
      Operands operands(p);
      for (const Number& number : others) {
        operands.a.as_mutable<float>()[static_cast<std::size_t>(number.at)] = number.value;
      }
      // In double, infinities come only from infinities and from the last rounding.
      const Tensor wanted = expected(p, operands);
      for (const int threads : {1, 2}) {
        const Tensor result = run_emulated(p, operands, threads);
        for (std::size_t i = 0; i < wanted.as<float>().size(); ++i) {
          const float x = result.as<float>()[i], y = wanted.as<float>()[i];
          if (std::isnan(y)) {
            EXPECT_TRUE(std::isnan(x)) << i << ": " << x;
          } else if (std::isinf(y)) {
            EXPECT_EQ(x, y) << i;
          } else {
            // Of a sum with terms as large as A's largest number; smaller sums have only terms of at most 1.
            const float size = std::fabs(y) > 1e3F ? kLargest / 0x1p24F * 100 : 1e-3F;
            EXPECT_LE(std::fabs(x - y), size) << i;
          }
        }
      }
    }
  }
}

TEST(TileKernels, WindowsThatAreCopiedTogether) {
  const cpu::ConvRows plain = {.in = {1, 8, 8}, .out = {1, 8, 8}, .kernel = {1, 3, 3}, .pad = {0, 1, 1}};
  EXPECT_EQ(cpu::window_lines(plain, cpu::Windows::by_pixels, 48, 48, true, 1, 4 << 20).pixels, 0)
      << "a pixel is no whole tiles";
  EXPECT_EQ(cpu::window_lines(plain, cpu::Windows::by_pixels, 64, 64, true, 1, 32 << 10).pixels, 0)
      << "a line's sums exceed the scratch memory";
  cpu::ConvRows wide = plain;
  wide.in[2] = wide.out[2] = std::int64_t{1} << 40;
  EXPECT_EQ(cpu::window_lines(wide, cpu::Windows::by_pixels, 64, 64, true, 1, 4 << 20).pixels, 0);
}

}  // namespace
}  // namespace tenfold
