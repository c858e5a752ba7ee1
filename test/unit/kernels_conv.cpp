// The convolution tactics against the reference: windows of every kind on images of odd sizes.
#include "kernel_case.hpp"
#include "ops/conv.hpp"

namespace tenfold {
namespace {

Tensor floats(const Shape& shape, std::uint32_t seed) { return random_tensor(DType::float32, shape, seed, -1, 1); }

struct Layer {
  std::int64_t batch = 1;
  std::vector<std::int64_t> image{7, 9};
  std::int64_t in = 3, out = 5, group = 1;
  std::vector<std::int64_t> kernel{3, 3}, stride{1, 1}, pads{1, 1, 1, 1}, dilation{1, 1};
  bool bias = true;
  std::string program = "";
  std::vector<Shape> operands = {};
};

KernelCase conv_case(const Layer& layer) {
  KernelCase c{"Conv", {}, {}, {false, true, true}};
  c.attributes.set("layout", std::string("nhwc"));
  c.attributes.set("strides", layer.stride);
  c.attributes.set("pads", layer.pads);
  c.attributes.set("dilations", layer.dilation);
  c.attributes.set("group", layer.group);
  if (!layer.program.empty()) {
    const int inputs = static_cast<int>(layer.operands.size()) + 1;
    Epilogue{PointwiseProgram::parse(inputs, layer.program)}.store(c.attributes);
  }
  Shape x{layer.batch};
  x.insert(x.end(), layer.image.begin(), layer.image.end());
  x.push_back(layer.in);
  Shape w{layer.out, layer.in / layer.group};
  w.insert(w.end(), layer.kernel.begin(), layer.kernel.end());
  c.inputs = {floats(x, 1), floats(w, 2), layer.bias ? floats({layer.out}, 3) : Tensor()};
  for (std::size_t i = 0; i < layer.operands.size(); ++i) {
    c.inputs.push_back(floats(layer.operands[i], 4 + static_cast<std::uint32_t>(i)));
  }
  return c;
}

/// As for matrix products (kernels_gemm.cpp), times what the arithmetic of the algorithm amplifies.
Tolerance tolerance_for(const Layer& layer, double amplification = 1) {
  double depth = static_cast<double>(layer.in / layer.group);
  for (const std::int64_t k : layer.kernel) depth *= static_cast<double>(k);
  return {4 * 0x1p-24 * (depth + 8) * amplification, 16 * 0x1p-24};
}

void check(const Layer& layer, const std::string& tactic, double amplification = 1) {
  check_tactic(conv_case(layer), tactic, tolerance_for(layer, amplification));
}

std::vector<Layer> windows() {
  return {
      {},
      {.image = {1, 1}, .in = 4, .out = 9},
      {.image = {1, 1}, .in = 4, .out = 9, .kernel = {1, 1}, .stride = {2, 2}, .pads = {0, 0, 0, 0}},
      {.batch = 3, .image = {11, 6}, .in = 17, .out = 33, .stride = {2, 1}},
      {.batch = 2, .image = {9, 12}, .in = 5, .out = 24, .kernel = {5, 2}, .stride = {3, 2}, .pads = {0, 2, 1, 0}},
      {.image = {13, 13}, .in = 8, .out = 16, .pads = {2, 2, 2, 2}, .dilation = {2, 2}},
      {.image = {10, 10}, .in = 6, .out = 8, .pads = {3, 0, 0, 3}, .dilation = {1, 3}, .bias = false},
      {.batch = 2, .image = {8, 8}, .in = 12, .out = 18, .group = 3},
      {.image = {8, 8}, .in = 4, .out = 8, .group = 4},
      {.image = {30}, .in = 7, .out = 20, .kernel = {5}, .stride = {2}, .pads = {2, 2}, .dilation = {1}},
      {.image = {5, 6, 7},
       .in = 3,
       .out = 10,
       .kernel = {3, 2, 3},
       .stride = {1, 2, 1},
       .pads = {1, 0, 1, 1, 1, 1},
       .dilation = {1, 1, 2}},
      {.image = {6, 6}, .in = 9, .out = 16, .kernel = {1, 1}, .pads = {1, 1, 1, 1}},
      {.image = {14, 14}, .in = 40, .out = 48, .program = "add 0 1; relu 2", .operands = {{1, 14, 14, 48}}},
      {.batch = 2,
       .image = {6, 5},
       .in = 8,
       .out = 12,
       .program = "mul 0 1; hard_swish 2",
       .operands = {{2, 1, 1, 12}}},
      {.image = {6, 5}, .in = 8, .out = 12, .group = 2, .program = "add 0 1; silu 2", .operands = {{12}}},
      {.batch = 0, .image = {6, 6}, .in = 8, .out = 8},
  };
}

TEST(DirectConv, WindowsOfEveryKindAgreeWithTheReference) {
  for (const Layer& layer : windows()) check(layer, "conv.direct");
}

TEST(DirectConv, LargeDepthIsCutIntoBlocks) { check({.image = {5, 5}, .in = 200, .out = 30}, "conv.direct"); }

TEST(GemmConv, PixelsAreRows) {
  const Layer plain{.kernel = {1, 1}, .pads = {0, 0, 0, 0}};
  for (Layer layer : std::vector<Layer>{{.image = {1, 1}, .in = 3, .out = 5},
                                        {.batch = 2, .image = {7, 5}, .in = 33, .out = 17},
                                        {.image = {9, 9}, .in = 700, .out = 40},
                                        {.image = {4, 6}, .in = 12, .out = 20, .group = 2},
                                        {.batch = 2,
                                        .image = {6, 6},
                                        .in = 16,
                                        .out = 24,
                                        .program = "add 0 1; max_imm 2 0x0p0; min_imm 3 0x1.8p2",
                                        .operands = {{2, 6, 6, 24}}},
                                        {.batch = 2,
                                        .image = {6, 6},
                                        .in = 16,
                                        .out = 24,
                                        .bias = false,
                                        .program = "mul 0 1; add 3 2",
                                        .operands = {{24}, {2, 6, 6, 24}}}}) {
    layer.kernel = plain.kernel;
    layer.pads = plain.pads;
    check(layer, "conv.gemm1x1");
  }
}

TEST(ConvTactics, RefusalsSayWhy) {
  KernelCase planar = conv_case({});
  planar.attributes.set("layout", std::string("nchw"));
  planar.inputs[0] = floats({1, 3, 7, 9}, 1);
  EXPECT_EQ(refusal_of(planar, "conv.direct"), "the layout is nchw");
  KernelCase computed = conv_case({});
  computed.constant = {};
  EXPECT_EQ(refusal_of(computed, "conv.direct"), "the weights are computed");
  EXPECT_NE(refusal_of(conv_case({}), "conv.gemm1x1"), "");
}

}  // namespace
}  // namespace tenfold
