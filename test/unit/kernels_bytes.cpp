// Convolutions and matrix products of 8-bit integers against the reference: windows of every kind, zero points, and
// epilogues that run in registers or as programs. (See kernels_conv.cpp for those of floats.)
#include <utility>

#include "backend/cpu/tier.hpp"
#include "kernel_case.hpp"
#include "ops/conv.hpp"

namespace tenfold {
namespace {

struct Finish {
  std::string program;
  std::vector<DType> operands;  ///< of the whole result's shape if they are bytes or `whole`, else one for each column
  DType result = DType::float32;
  bool whole = false;
};

/// Sums of `depth` products of bytes are about 2^12 sqrt(depth); scales bring them to the range of the result.
std::vector<Finish> finishes() {
  return {
      {"", {}},
      {"mul 0 1; add 3 2", {DType::float32, DType::float32}},
      {"mul 0 1; add 3 2; relu 4; mul_imm 5 0x1p+5", {DType::float32, DType::float32}, DType::uint8},
      {"mul 0 1; max_imm 2 -0x1p+0; min_imm 3 0x1p+1; mul_imm 4 0x1p+4; round 5; add_imm 6 -0x1.4p+3",
       {DType::float32},
       DType::int8},
      {"mul 0 1; add_imm 2 -0x1p+3; mul_imm 4 0x1p-4; add 3 5; relu 6; mul_imm 7 0x1p+3; round 8; add_imm 9 0x1.8p+1",
       {DType::float32, DType::uint8},
       DType::uint8},
      {"mul 0 1; add 4 2; mul_imm 5 0x1p+5; max_imm 6 -0x1.4p+5; min_imm 7 0x1.8p+5; round 8; mul_imm 9 0x1p-5; "
       "add_imm 3 -0x1p+3; mul_imm 11 0x1p-4; add 10 12; relu 13; mul_imm 14 0x1p+4; round 15; add_imm 16 0x1p+1",
       {DType::float32, DType::float32, DType::uint8},
       DType::uint8},
      {"mul 0 1; mul_imm 2 0x1p-6; add 3 4", {DType::float32, DType::int8}},
      {"mul 0 1; add 3 2", {DType::float32, DType::float32}, DType::float32, true},
      {"mul 0 1; silu 2; mul_imm 3 0x1p+4; round 4; add_imm 5 0x1p+4", {DType::float32}, DType::uint8},
      {"mul 0 1; silu 3; mul_imm 2 0x1p-5; add 4 5; mul_imm 6 0x1p+4", {DType::float32, DType::int8}, DType::int8},
      {"mul 0 1; sigmoid 2", {DType::float32}},
  };
}

void add_finish(KernelCase& c, const Finish& finish, const Shape& result, std::int64_t depth) {
  const int count = static_cast<int>(finish.operands.size());
  Epilogue{PointwiseProgram::parse(count + 1, finish.program), finish.result}.store(c.attributes);
  for (int i = 0; i < count; ++i) {
    const auto seed = static_cast<std::uint32_t>(40 + i);
    const DType dtype = finish.operands[static_cast<std::size_t>(i)];
    const bool is_whole = dtype != DType::float32 || (finish.whole && i + 1 == count);
    const double size = i == 0 ? 0x1p-12 / std::sqrt(static_cast<double>(depth)) : 1;
    c.inputs.push_back(is_whole ? random_tensor(dtype, result, seed, dtype == DType::int8 ? -128 : 0, 127)
                                : random_tensor(dtype, {result.back()}, seed, -size, size));
    c.constant.push_back(!is_whole);
  }
}

/// Sums are exact. Scaling folds factors that the reference applies one after the other: a few roundings of terms of
/// order 1, which for integers decide ties.
Tolerance tolerance_of(const Finish& finish) {
  if (finish.result != DType::float32) return {1, 0};
  if (finish.program.empty()) return {0, 0};
  return {32 * 0x1p-24, 16 * 0x1p-24};
}

struct ByteLayer {
  std::int64_t batch = 1;
  std::vector<std::int64_t> image{7, 9};
  std::int64_t in = 3, out = 5, group = 1;
  std::vector<std::int64_t> kernel{3, 3}, stride{1, 1}, pads{1, 1, 1, 1}, dilation{1, 1};
  DType dtype = DType::uint8;
  std::int64_t zero_point = 0;
  double weights = 128;  ///< they lie below it, and not below its negative
};

Shape result_shape(const ByteLayer& layer) {
  Shape shape{layer.batch};
  const std::size_t rank = layer.image.size();
  for (std::size_t a = 0; a < rank; ++a) {
    const std::int64_t extent = (layer.kernel[a] - 1) * layer.dilation[a] + 1;
    shape.push_back((layer.image[a] + layer.pads[a] + layer.pads[a + rank] - extent) / layer.stride[a] + 1);
  }
  shape.push_back(layer.out);
  return shape;
}

KernelCase byte_conv(const ByteLayer& layer, const Finish& finish) {
  KernelCase c{"Conv", {}, {}, {false, true, true}};
  c.attributes.set("layout", std::string("nhwc"));
  c.attributes.set("strides", layer.stride);
  c.attributes.set("pads", layer.pads);
  c.attributes.set("dilations", layer.dilation);
  c.attributes.set("group", layer.group);
  if (layer.zero_point != 0) c.attributes.set("zero_point", layer.zero_point);
  Shape x{layer.batch}, w{layer.out, layer.in / layer.group};
  x.insert(x.end(), layer.image.begin(), layer.image.end());
  x.push_back(layer.in);
  w.insert(w.end(), layer.kernel.begin(), layer.kernel.end());
  std::int64_t depth = layer.in / layer.group;
  for (const std::int64_t k : layer.kernel) depth *= k;
  const bool is_signed = layer.dtype == DType::int8;
  c.inputs = {random_tensor(layer.dtype, x, 1, is_signed ? -128 : 0, is_signed ? 128 : 256),
              random_tensor(DType::int8, w, 2, -layer.weights, layer.weights), Tensor()};
  add_finish(c, finish, result_shape(layer), depth);
  return c;
}

/// The same with the zero point as an input.
KernelCase with_computed_zero_point(ByteLayer layer, const Finish& finish) {
  const std::int64_t zero_point = std::exchange(layer.zero_point, 0);
  KernelCase c = byte_conv(layer, finish);
  c.inputs[2] = Tensor(layer.dtype, {});
  c.inputs[2].mutable_data()[0] = static_cast<std::byte>(zero_point);
  c.constant[2] = false;
  return c;
}

/// By vectors, "conv.bytes", and by tiles, "conv.amx_bytes".
void check_product(const KernelCase& c, const std::string& op, const Tolerance& tolerance) {
  check_tactic(c, op + ".bytes", tolerance);
  const std::string tiles = op + ".amx_bytes";
  if (cpu::has_byte_tiles() && refusal_of(c, tiles) != "the convolution has groups") check_tactic(c, tiles, tolerance);
}

std::vector<ByteLayer> windows() {
  return {
      {},
      {.image = {6, 6}, .in = 16, .out = 48, .kernel = {1, 1}, .pads = {0, 0, 0, 0}, .zero_point = 130},
      {.batch = 2,
       .image = {9, 7},
       .in = 20,
       .out = 65,
       .kernel = {1, 1},
       .pads = {0, 0, 0, 0},
       .dtype = DType::int8,
       .zero_point = -7},
      {.image = {5, 5}, .in = 7, .out = 33, .kernel = {1, 1}, .pads = {0, 0, 0, 0}, .zero_point = 3},
      {.image = {8, 8}, .in = 8, .out = 16, .kernel = {1, 1}, .stride = {2, 2}, .pads = {0, 0, 0, 0}},
      {.batch = 3, .image = {11, 6}, .in = 17, .out = 33, .stride = {2, 1}, .dtype = DType::int8, .zero_point = -128},
      {.image = {15, 12},
       .in = 3,
       .out = 32,
       .kernel = {7, 7},
       .stride = {2, 2},
       .pads = {3, 3, 3, 3},
       .zero_point = 114},
      {.image = {13, 13},
       .in = 8,
       .out = 17,
       .pads = {2, 2, 2, 2},
       .dilation = {2, 2},
       .dtype = DType::int8,
       .zero_point = 5},
      {.image = {2, 1}, .in = 5, .out = 8, .pads = {2, 3, 2, 3}, .zero_point = 255},
      {.batch = 2, .image = {8, 8}, .in = 12, .out = 18, .group = 3, .zero_point = 9},
      {.image = {8, 8}, .in = 4, .out = 8, .group = 4, .dtype = DType::int8, .zero_point = 1},
      {.image = {30},
       .in = 7,
       .out = 20,
       .kernel = {5},
       .stride = {2},
       .pads = {2, 2},
       .dilation = {1},
       .zero_point = 2},
      {.image = {5, 6, 7},
       .in = 3,
       .out = 10,
       .kernel = {3, 2, 3},
       .stride = {1, 2, 1},
       .pads = {1, 0, 1, 1, 1, 1},
       .dilation = {1, 1, 2},
       .zero_point = 77},
      {.image = {14, 14}, .in = 40, .out = 112, .zero_point = 128},
      {.image = {5, 7}, .in = 1, .out = 6, .kernel = {3, 4}, .pads = {1, 2, 1, 2}, .zero_point = 17},
      // Windows of 4 to 8, 9 to 16 and 17 to 32 bytes in a line.
      {.image = {5, 9}, .in = 2, .out = 6, .stride = {2, 2}, .dtype = DType::int8, .zero_point = 17},
      {.image = {5, 9}, .in = 5, .out = 6, .zero_point = 17},
      {.image = {5, 9}, .in = 10, .out = 6, .stride = {1, 3}, .zero_point = 17},
  };
}

TEST(ByteKernels, ConvolutionsOfEveryWindow) {
  for (const ByteLayer& layer : windows()) {
    for (const std::size_t finish : {0, 2}) {
      check_product(byte_conv(layer, finishes()[finish]), "conv", tolerance_of(finishes()[finish]));
    }
  }
}

TEST(ByteKernels, ZeroPointsThatAreComputed) {
  for (const ByteLayer& layer : windows()) {
    for (const std::size_t finish : {0, 2}) {
      check_product(with_computed_zero_point(layer, finishes()[finish]), "conv", tolerance_of(finishes()[finish]));
    }
  }
}

/// Scales, offsets and residuals in registers, and what follows by a program.
TEST(ByteKernels, ScalesThatAreComputed) {
  for (const char* program :
       {"mul 0 1; add 4 2; add 5 3", "mul 0 1; add 4 2; add 5 3; silu 6", "mul 0 1; mul 4 2; add 5 3"}) {
    const Finish finish{program, {DType::float32, DType::float32, DType::float32}, DType::float32, true};
    for (const ByteLayer& layer : windows()) {
      KernelCase c = with_computed_zero_point(layer, finish);
      std::fill(c.constant.begin() + 3, c.constant.end(), false);
      check_product(c, "conv", tolerance_of(finish));
    }
  }
}

/// Smaller weights let more products be added in 16 bits.
TEST(ByteKernels, ConvolutionsWithWeightsOfEverySize) {
  for (const double weights : {12, 20, 45, 70, 100}) {
    for (const DType dtype : {DType::uint8, DType::int8}) {
      for (const std::int64_t in : {20, 64, 136}) {
        check_tactic(byte_conv({.image = {5, 5},
                                .in = in,
                                .out = 40,
                                .kernel = {1, 1},
                                .pads = {0, 0, 0, 0},
                                .dtype = dtype,
                                .zero_point = 3,
                                .weights = weights},
                               finishes()[0]),
                     "conv.bytes", {});
      }
      check_tactic(byte_conv({.in = 24, .out = 19, .dtype = dtype, .zero_point = 3, .weights = weights}, finishes()[0]),
                   "conv.bytes", {});
    }
  }
}

TEST(ByteKernels, ConvolutionsWithEveryEpilogue) {
  for (const Finish& finish : finishes()) {
    check_product(byte_conv({.image = {9, 5}, .in = 12, .out = 37, .zero_point = 3}, finish), "conv",
                  tolerance_of(finish));
  }
}

std::vector<ByteLayer> depthwise_windows() {
  return {
      {.in = 16, .out = 16, .group = 16, .zero_point = 7},
      {.batch = 2, .image = {9, 8}, .in = 64, .out = 64, .group = 64, .dtype = DType::int8, .zero_point = -128},
      {.image = {11, 70}, .in = 70, .out = 70, .group = 70, .stride = {2, 2}, .pads = {0, 0, 1, 1}, .zero_point = 255},
      {.image = {10, 9}, .in = 130, .out = 130, .group = 130, .kernel = {5, 5}, .pads = {2, 2, 2, 2}, .zero_point = 4},
      {.image = {12, 9},
       .in = 33,
       .out = 33,
       .group = 33,
       .kernel = {5, 5},
       .stride = {2, 2},
       .pads = {1, 1, 2, 2},
       .dtype = DType::int8,
       .zero_point = 11},
      {.image = {9, 9}, .in = 20, .out = 20, .group = 20, .pads = {2, 2, 2, 2}, .dilation = {2, 2}, .zero_point = 1},
      {.image = {1, 1}, .in = 5, .out = 5, .group = 5, .zero_point = 9},
      {.image = {40}, .in = 12, .out = 12, .group = 12, .kernel = {9}, .stride = {1}, .pads = {4, 4}, .dilation = {1}},
      {.image = {9, 6}, .in = 8, .out = 8, .group = 8, .kernel = {7, 1}, .pads = {3, 0, 3, 0}, .zero_point = 31},
      // Lines longer than a piece; lines that advance by one and a half, two and no pairs.
      {.image = {7, 133}, .in = 48, .out = 48, .group = 48, .zero_point = 5},
      {.image = {13, 8}, .in = 9, .out = 9, .group = 9, .stride = {3, 3}, .dtype = DType::int8, .zero_point = 5},
      {.image = {21, 9},
       .in = 9,
       .out = 9,
       .group = 9,
       .kernel = {7, 7},
       .stride = {4, 1},
       .pads = {3, 3, 3, 3},
       .zero_point = 5},
      {.image = {9, 30}, .in = 9, .out = 9, .group = 9, .stride = {1, 2}, .zero_point = 5},
      {.image = {9, 30}, .in = 9, .out = 9, .group = 9, .stride = {2, 1}, .zero_point = 5},
  };
}

TEST(ByteKernels, DepthwiseConvolutionsOfEveryWindow) {
  for (const ByteLayer& layer : depthwise_windows()) {
    for (const std::size_t finish : {0, 3}) {
      check_tactic(byte_conv(layer, finishes()[finish]), "conv.bytes_depthwise", tolerance_of(finishes()[finish]));
    }
  }
}

TEST(ByteKernels, DepthwiseConvolutionsWithZeroPointsThatAreComputed) {
  for (const ByteLayer& layer : depthwise_windows()) {
    check_tactic(with_computed_zero_point(layer, finishes()[3]), "conv.bytes_depthwise", tolerance_of(finishes()[3]));
  }
}

TEST(ByteKernels, DepthwiseConvolutionsWithEveryEpilogue) {
  for (const Finish& finish : finishes()) {
    check_tactic(byte_conv({.image = {7, 6}, .in = 72, .out = 72, .group = 72, .zero_point = 3}, finish),
                 "conv.bytes_depthwise", tolerance_of(finish));
  }
}

TEST(ByteKernels, MatrixProducts) {
  struct Product {
    Shape a;
    std::int64_t columns;
    bool trans_b;
    DType dtype;
    std::int64_t zero_point;
  };
  for (const Product& p :
       {Product{{5, 64}, 40, false, DType::uint8, 12}, Product{{2, 9, 37}, 16, true, DType::int8, -3},
        Product{{1, 128}, 200, true, DType::uint8, 128}, Product{{50, 4}, 3, false, DType::int8, 0},
        Product{{31, 1030}, 70, false, DType::uint8, 1}, Product{{3, 8200}, 5, true, DType::int8, 7}}) {
    for (const Finish& finish : finishes()) {
      KernelCase c{"MatMul", {}, {}, {false, true}};
      c.attributes.set("trans_b", std::int64_t{p.trans_b});
      if (p.zero_point != 0) c.attributes.set("zero_point", p.zero_point);
      const std::int64_t depth = p.a.back();
      const bool is_signed = p.dtype == DType::int8;
      c.inputs = {
          random_tensor(p.dtype, p.a, 1, is_signed ? -128 : 0, is_signed ? 128 : 256),
          random_tensor(DType::int8, p.trans_b ? Shape{p.columns, depth} : Shape{depth, p.columns}, 2, -128, 128)};
      Shape result = p.a;
      result.back() = p.columns;
      add_finish(c, finish, result, depth);
      check_product(c, "gemm", tolerance_of(finish));
    }
  }
}

/// The largest inputs with weights around those where sums of two, four and eight products no longer fit in 16 bits, in
/// every order of large ones and zeros within four.
TEST(ByteKernels, ExtremeNumbersDoNotSaturate) {
  // The first of each four is larger by `more`.
  for (const auto& [weight, more] :
       {std::pair{16, 0}, {16, 1}, {17, 0}, {32, 0}, {32, 1}, {33, 0}, {64, 0}, {64, 1}, {65, 0}, {127, 0}, {128, 0}}) {
    for (const int zeros : {0, 1, 2, 4, 8, 3, 5, 9}) {
      for (const bool mixed : {false, true}) {
        KernelCase c =
            byte_conv({.image = {4, 4}, .in = 64, .out = 32, .kernel = {1, 1}, .pads = {0, 0, 0, 0}}, finishes()[0]);
        std::fill(c.inputs[0].as_mutable<std::uint8_t>().begin(), c.inputs[0].as_mutable<std::uint8_t>().end(), 255);
        const auto w = c.inputs[1].as_mutable<std::int8_t>();
        for (std::size_t i = 0; i < w.size(); ++i) {
          const bool negative = weight == 128 || (mixed ? w[i] < 0 : i / 64 % 2 == 1);
          const int size = i % 4 == 0 ? weight + more : weight;
          w[i] = static_cast<std::int8_t>((zeros >> i % 4 & 1) != 0 ? 0 : negative ? -size : size);
        }
        check_product(c, "conv", {});
      }
    }
  }
}

TEST(ByteKernels, OrdersThatLeadOutsideARowAreRefused) {
  const Backend& backend = cpu_backend();
  const PreparedCase prepared = prepare(byte_conv({.in = 8, .out = 8}, finishes()[0]));
  const Problem& problem = prepared.problem;
  for (const Candidate& candidate : backend.candidates(problem)) {
    if (candidate.tactic != "conv.bytes" || !candidate.refusal.empty()) continue;
    PackedWeights packed = backend.pack(problem, candidate);
    if (packed.blobs.size() < 3) GTEST_SKIP() << "processors with VNNI need no order";
    for (const std::size_t at : {0, 2, 4, 8}) {  // how many are in fours, paired, single; where the first quad is
      PackedWeights broken = packed;
      broken.blobs[2][at] = broken.blobs[2][at + 1] = std::byte{0xff};
      KernelSpec spec{problem.op, candidate.tactic, candidate.parameters, problem.inputs, problem.outputs, {}};
      for (const auto& blob : broken.blobs) spec.weights.emplace_back(blob.data(), blob.size());
      try {
        backend.make_kernel(spec);
        ADD_FAILURE() << "accepted, with " << at;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::incompatible_engine);
        EXPECT_STREQ(error.what(), "tactic 'conv.bytes': the order of panel 0 is not one of 18 quads");
      }
    }
  }
}

TEST(ByteKernels, WhatTheyRefuse) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  KernelCase computed = byte_conv({}, finishes()[0]);
  computed.constant = {};
  EXPECT_EQ(refusal_of(computed, "conv.bytes"), "the weights are computed");
  EXPECT_EQ(refusal_of(byte_conv({}, finishes()[0]), "conv.bytes_depthwise"), "a group has more than one channel");
  EXPECT_EQ(refusal_of(byte_conv({.in = 8, .out = 8, .group = 8}, finishes()[0]), "conv.bytes"),
            "one channel a group fills no vector");
  // Of ordered panels, whose sums begin with more than the zero point makes of them.
  const PreparedCase prepared = prepare(with_computed_zero_point({.in = 16}, finishes()[0]));
  const std::int64_t width = cpu::vector_floats(cpu::tier());
  const std::vector<std::byte> panels(static_cast<std::size_t>(36 * 4 * width)),
      numbers(static_cast<std::size_t>(4 * (width + 10)));
  std::vector<std::uint16_t> order{36, 0, 0, 1};
  for (std::uint16_t quad = 0; quad < 36; ++quad) order.push_back(quad);
  expect_refused({prepared.problem.op,
                  "conv.bytes",
                  {1, 1, 96, 160, 1},
                  prepared.problem.inputs,
                  prepared.problem.outputs,
                  {panels, numbers, std::as_bytes(std::span(order))}},
                 "ordered panels need a zero point that is known");
}

TEST(ByteKernels, TilesAreRefusedWhereThereAreNone) {
  if (cpu::tier() == cpu::Tier::none || cpu::has_byte_tiles()) GTEST_SKIP() << "no kernels, or tiles";
  const KernelCase c = byte_conv({}, finishes()[0]);
  EXPECT_EQ(refusal_of(c, "conv.amx_bytes"), "this processor has no tiles of bytes (AMX_INT8)");
  const PreparedCase prepared = prepare(c);
  const Problem& problem = prepared.problem;
  expect_refused({problem.op, "conv.amx_bytes", {64, 512, 1}, problem.inputs, problem.outputs, {}},
                 "which this processor has not");
}

TEST(ByteKernels, LargestOfAWindow) {
  for (const DType dtype : {DType::int8, DType::uint8}) {
    KernelCase c{"MaxPool", {}, {random_tensor(dtype, {2, 9, 8, 70}, 5, dtype == DType::int8 ? -128 : 0, 127)}, {}};
    c.attributes.set("layout", std::string("nhwc"));
    c.attributes.set("kernel_shape", std::vector<std::int64_t>{3, 3});
    c.attributes.set("strides", std::vector<std::int64_t>{2, 2});
    c.attributes.set("pads", std::vector<std::int64_t>{1, 1, 1, 1});
    check_tactic(c, "pool.window", {});
    c.attributes.set("layout", std::string("nchw"));
    check_tactic(c, "pool.window", {});
  }
}

TEST(ByteKernels, ProgramsOnBytes) {
  const auto program = [](const std::string& text, DType to, std::vector<Tensor> inputs) {
    KernelCase c{"Pointwise", {}, std::move(inputs), {}};
    c.attributes.set("num_inputs", static_cast<std::int64_t>(c.inputs.size()));
    c.attributes.set("program", text);
    if (to != DType::float32) c.attributes.set("to", std::string(to_string(to)));
    check_tactic(c, "pointwise.blocks", {to == DType::float32 ? 0x1p-20 : 0, 0x1p-20});
  };
  const Tensor u = random_tensor(DType::uint8, {3, 50, 7}, 1, 0, 256),
               s = random_tensor(DType::int8, {3, 50, 7}, 2, -128, 128);
  const Tensor row = random_tensor(DType::int8, {7}, 3, -128, 128),
               x = random_tensor(DType::float32, {3, 50, 7}, 4, -300, 300);
  program("add_imm 0 -0x1p+7; mul_imm 1 0x1p-3", DType::float32, {u});
  program("add 0 1; mul_imm 2 0x1p-1; round 3; add_imm 4 0x1p+2", DType::uint8, {u, s});
  program("sub 0 1; mul_imm 2 0x1p-1", DType::int8, {s, row});
  program("mul_imm 0 0x1p-1", DType::int8, {x});
  program("mul_imm 0 0x1p+1", DType::uint8, {x});
}

}  // namespace
}  // namespace tenfold
