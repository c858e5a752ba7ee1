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
  bool planar = false;  ///< the image has its channels second
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
  if (layer.planar) c.attributes.set("planar_input", std::int64_t{1});
  Shape x{layer.batch};
  if (layer.planar) x.push_back(layer.in);
  x.insert(x.end(), layer.image.begin(), layer.image.end());
  if (!layer.planar) x.push_back(layer.in);
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

TEST(DirectConv, RegisterTilesOfEveryHeightAndWidthAgreeWithTheReference) {
  // Depths of a window's position that are no whole turns of a tile's loop, and that take several pieces.
  for (const std::int64_t in : {6, 35, 98}) {
    for (const std::int64_t out : {23, 32, 40, 48, 64}) {
      for (std::int64_t width = 3; width <= 13; width += in > 90 ? 5 : 1)
        check({.image = {2, width}, .in = in, .out = out}, "conv.direct");
    }
  }
}

TEST(LinesConv, WindowsOfEveryKindAgreeWithTheReference) {
  for (const Layer& layer : windows()) {
    if (layer.kernel.back() > 1) check(layer, "conv.lines");
  }
  check({.batch = 2, .image = {20, 21}, .in = 3, .out = 32, .kernel = {7, 7}, .stride = {2, 2}, .pads = {3, 3, 3, 3}},
        "conv.lines");
}

TEST(LinesConv, AnImageOnePixelWideIsALine) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  for (const Layer& layer : std::vector<Layer>{
           {.image = {33, 1}, .in = 6, .out = 24, .kernel = {7, 1}, .stride = {2, 1}, .pads = {3, 0, 3, 0}},
           {.batch = 2,
           .image = {40, 1},
           .in = 1,
           .out = 40,
           .kernel = {16, 1},
           .stride = {4, 1},
           .pads = {0, 0, 2, 0}},
           {.image = {20, 1}, .in = 3, .out = 8, .kernel = {3, 1}, .pads = {2, 0, 2, 0}, .dilation = {2, 1}},
       }) {
    check(layer, "conv.lines");
  }
  // Zeros beside the line make it wider than one pixel.
  const Layer padded{.image = {20, 1}, .in = 3, .out = 8, .kernel = {3, 1}, .stride = {1, 2}, .pads = {1, 1, 1, 0}};
  EXPECT_EQ(refusal_of(conv_case(padded), "conv.lines"),
            "a line of the kernel is one pixel: conv.direct does the same");
}

TEST(LinesConv, LongLinesAreCutAndShareTheirCopies) {
  check({.image = {9, 300}, .in = 3, .out = 24, .kernel = {5, 5}, .stride = {2, 2}, .pads = {2, 2, 2, 2}},
        "conv.lines");
  check({.batch = 2, .image = {6, 40}, .in = 20, .out = 56, .group = 2, .kernel = {3, 3}}, "conv.lines");
}

TEST(LinesConv, ImagesMayLieInPlanes) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  for (const std::int64_t channels : {1, 2, 3, 4, 9}) {
    for (Layer layer : std::vector<Layer>{
             {.batch = 2, .image = {20, 75}, .out = 32, .stride = {2, 2}},
             {.batch = 3, .image = {11, 6}, .out = 33, .kernel = {5, 2}, .stride = {3, 2}, .pads = {0, 2, 1, 0}},
             {.image = {1, 1}, .out = 8},
             {.image = {9, 300}, .out = 24, .kernel = {7, 7}, .stride = {2, 2}, .pads = {3, 3, 3, 3}},
             {.image = {10, 40}, .out = 8, .pads = {3, 0, 0, 3}, .dilation = {1, 3}},
             {.batch = 2, .image = {12, 19}, .out = 16, .pads = {0, 0, 0, 0}},
             {.image = {30}, .out = 20, .kernel = {5}, .stride = {2}, .pads = {2, 2}, .dilation = {1}},
             {.batch = 2,
             .image = {5, 6, 17},
             .out = 10,
             .kernel = {3, 2, 3},
             .stride = {1, 2, 1},
             .pads = {1, 0, 1, 1, 1, 1},
             .dilation = {1, 1, 1}},
             {.batch = 0, .image = {6, 6}, .out = 8},
         }) {
      layer.in = channels;
      layer.planar = true;
      check(layer, "conv.lines");
      layer.out = 3;
      if (layer.dilation.back() == 1) check(layer, "conv.dots");
    }
  }
  const KernelCase planar = conv_case({.planar = true});
  for (const char* tactic : {"conv.direct", "conv.winograd2", "conv.winograd4"})
    EXPECT_EQ(refusal_of(planar, tactic), "the image lies in planes");
  EXPECT_EQ(refusal_of(conv_case({.in = 4, .out = 8, .group = 2, .planar = true}), "conv.lines"), "planes in groups");
}

TEST(DotsConv, WindowsOfEveryKindAgreeWithTheReference) {
  for (const Layer& layer : std::vector<Layer>{
           {.image = {7, 29}, .in = 8, .out = 1},
           {.image = {1, 1}, .in = 4, .out = 3},
           {.batch = 3, .image = {11, 15}, .in = 17, .out = 2, .stride = {2, 1}},
           {.batch = 2, .image = {9, 12}, .in = 5, .out = 4, .kernel = {5, 2}, .stride = {3, 2}, .pads = {0, 2, 1, 0}},
           {.image = {13, 13}, .in = 3, .out = 3, .pads = {2, 1, 2, 1}, .dilation = {2, 1}},
           {.batch = 2, .image = {8, 300}, .in = 12, .out = 6, .group = 3},
           {.image = {30}, .in = 7, .out = 1, .kernel = {5}, .stride = {2}, .pads = {2, 2}, .dilation = {1}},
           {.image = {5, 6, 7},
           .in = 3,
           .out = 2,
           .kernel = {3, 2, 3},
           .stride = {1, 1, 1},
           .pads = {1, 0, 1, 1, 1, 1},
           .dilation = {1, 1, 1}},
           {.image = {6, 9}, .in = 40, .out = 1, .kernel = {1, 1}, .pads = {0, 0, 0, 0}},
           {.image = {6, 6}, .in = 9, .out = 3, .kernel = {1, 1}, .stride = {2, 2}, .pads = {1, 1, 1, 1}},
           {.image = {70, 1},
           .in = 1,
           .out = 1,
           .kernel = {16, 1},
           .stride = {2, 1},
           .pads = {3, 0, 3, 0},
           .bias = false},
           {.image = {20, 1}, .in = 3, .out = 2, .kernel = {3, 1}, .stride = {1, 2}, .pads = {1, 1, 1, 0}},
           {.image = {6, 21}, .in = 8, .out = 1, .program = "add 0 1; relu 2", .operands = {{1, 6, 21, 1}}},
           {.image = {6, 21}, .in = 8, .out = 3, .program = "add 0 1; prelu 2 1", .operands = {{3}}},
           {.image = {6, 21}, .in = 8, .out = 3, .program = "prelu 0 1", .operands = {{3}}},
           {.batch = 2,
           .image = {6, 5},
           .in = 8,
           .out = 2,
           .program = "sigmoid 0; mul 2 1",
           .operands = {{2, 1, 1, 2}}},
           {.batch = 0, .image = {6, 6}, .in = 8, .out = 1},
       }) {
    check(layer, "conv.dots");
  }
}

/// What is done in registers, and what looks like it but is not.
TEST(ConvEpilogue, ActivationsAgreeWithTheReference) {
  const std::string paddle = "add_imm 0 0x1.8p+1; relu 1; min_imm 2 0x1.8p+2; mul 0 3";
  for (const std::string program :
       {"relu 0", "hard_swish 0", "leaky_relu 0 0x1p-2", "mul_imm 0 0x1p-1; add_imm 1 0x1p-1; relu 2; min_imm 3 0x1p0",
        "relu 0; mul_imm 1 -0x1p-2; add_imm 2 0x1p0", "min_imm 0 0x1p-3; max_imm 1 -0x1p-2", "mul_imm 0 0x1p-1",
        "add_imm 0 0x1p-2; mul_imm 1 0x1p1; relu 2", "relu 0; relu 1; mul 0 2", "mul 0 0; relu 1", "sigmoid 0",
        "max_imm 0 0x1p0; min_imm 1 -0x1p0"}) {
    for (const std::int64_t out : {1, 24, 40}) {
      Layer layer{.image = {6, 7}, .in = 8, .out = out, .program = program};
      check(layer, "conv.direct");
      check(layer, "conv.lines");
      check(layer, "conv.winograd2", 4);
      layer.in = layer.group = out;
      check(layer, "conv.depthwise");
    }
  }
  for (const std::string& program : {paddle, paddle + "; mul_imm 4 0x1.8p-1; add_imm 5 -0x1p-2"}) {
    check({.image = {6, 7}, .in = 8, .out = 40, .program = program}, "conv.lines");
    check({.image = {6, 7}, .in = 8, .out = 20, .kernel = {1, 1}, .pads = {0, 0, 0, 0}, .program = program},
          "conv.gemm1x1");
  }
}

TEST(ConvEpilogue, SlopesBelowZeroMayDifferByChannel) {
  for (const Shape& slopes : std::vector<Shape>{{10}, {1, 1, 1, 10}, {6, 7, 1}, {1}}) {
    Layer layer{.image = {6, 7}, .in = 8, .out = 10, .program = "prelu 0 1", .operands = {slopes}};
    check(layer, "conv.lines");
    check(layer, "conv.winograd4", 16);
    layer.in = layer.group = 10;
    check(layer, "conv.depthwise");
    check({.image = {6, 7},
           .in = 8,
           .out = 10,
           .kernel = {1, 1},
           .pads = {0, 0, 0, 0},
           .program = "add 0 2; prelu 3 1",
           .operands = {slopes, {6, 7, 10}}},
          "conv.gemm1x1");
  }
}

TEST(DepthwiseConv, WindowsOfEveryKindAgreeWithTheReference) {
  for (const std::int64_t channels : {1, 5, 8, 24, 29, 33}) {
    for (const std::int64_t kernel : {1, 2, 3, 5, 7}) {
      for (const std::int64_t stride : {1, 2, 3}) {
        const std::int64_t pad = kernel / 2;
        check({.batch = 2,
               .image = {9, 14},
               .in = channels,
               .out = channels,
               .group = channels,
               .kernel = {kernel, kernel},
               .stride = {stride, stride},
               .pads = {pad, pad, pad, pad}},
              "conv.depthwise");
      }
    }
  }
  for (Layer layer : std::vector<Layer>{
           {.image = {1, 1}},
           {.batch = 2, .image = {7, 7}},
           {.image = {5, 130}, .kernel = {3, 3}, .stride = {1, 2}},
           {.image = {3, 47}, .kernel = {3, 3}},
           {.image = {5, 66}, .kernel = {5, 5}, .stride = {2, 2}, .pads = {2, 2, 2, 2}},
           {.image = {12, 12}, .kernel = {3, 3}, .pads = {2, 2, 2, 2}, .dilation = {2, 2}},
           {.image = {4, 4}, .kernel = {5, 5}, .pads = {4, 0, 0, 4}, .dilation = {1, 1}},
           {.image = {3, 3}, .kernel = {3, 3}, .stride = {1, 1}, .pads = {5, 5, 5, 5}},
           {.image = {25}, .kernel = {9}, .stride = {1}, .pads = {4, 4}, .dilation = {1}},
           {.batch = 2, .image = {6, 7}, .program = "add 0 1; relu 2", .operands = {{2, 6, 7, 21}}},
           {.batch = 2, .image = {6, 7}, .bias = false, .program = "add 0 1; hard_swish 2", .operands = {{21}}},
           {.batch = 2, .image = {6, 7}, .program = "mul 0 1", .operands = {{2, 1, 1, 21}}}}) {
    layer.in = layer.out = layer.group = 21;
    check(layer, "conv.depthwise");
  }
}

/// Tiles that are two or three lines high, and what they leave: widths that they divide and others, lines longer than
/// one piece, every number of lines left, channels in whole vectors and behind them.
TEST(DepthwiseConv, BlocksOfLinesAgreeWithTheReference) {
  for (const std::int64_t kernel : {3, 5}) {
    for (const std::int64_t stride : {1, 2}) {
      for (const std::int64_t width : {7, 8, 14, 19, 60}) {
        for (const std::int64_t height : {1, 2, 3, 4, 5, 7}) {
          const std::int64_t pad = kernel / 2;
          Layer layer{.image = {height * stride, width * stride},
                      .in = 32,
                      .out = 32,
                      .group = 32,
                      .kernel = {kernel, kernel},
                      .stride = {stride, stride},
                      .pads = {pad, pad, pad, pad},
                      .program = "relu 0"};
          check(layer, "conv.depthwise");
          layer.in = layer.out = layer.group = 21;
          layer.program = "add 0 1; relu 2";
          layer.operands = {{1, height, width, 21}};
          check(layer, "conv.depthwise");
        }
      }
    }
  }
}

/// A long window's table of pointers fills the scratch memory, whatever parts the threads' shares are cut into.
TEST(DirectConv, LongWindowsOfManyPixelsFitInTheScratchMemory) {
  check({.batch = 15,
         .image = {1520},
         .in = 1,
         .out = 24,
         .kernel = {512},
         .stride = {4},
         .pads = {0, 0},
         .dilation = {1}},
        "conv.direct");
}

TEST(DirectConv, LargeDepthIsCutIntoBlocks) { check({.image = {5, 5}, .in = 200, .out = 30}, "conv.direct"); }

TEST(GemmConv, PixelsAreRows) {
  const Layer plain{.kernel = {1, 1}, .pads = {0, 0, 0, 0}};
  for (Layer layer : std::vector<Layer>{{.image = {1, 1}, .in = 3, .out = 5},
                                        {.batch = 2, .image = {7, 5}, .in = 33, .out = 17},
                                        {.image = {9, 9}, .in = 700, .out = 40},
                                        {.image = {4, 6}, .in = 12, .out = 20, .group = 2},
                                        {.batch = 3, .image = {1, 1}, .in = 60, .out = 141, .group = 3},
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

std::vector<Layer> winograd_layers() {
  return {
      {},
      {.image = {1, 1}, .in = 4, .out = 9},
      {.batch = 2, .image = {7, 10}, .in = 17, .out = 33},
      {.image = {12, 5}, .in = 8, .out = 16, .pads = {0, 2, 3, 0}, .bias = false},
      {.batch = 2, .image = {33, 30}, .in = 9, .out = 8},  // more tiles than are transformed at once
      {.image = {6, 6}, .in = 600, .out = 24},
      {.batch = 2, .image = {14, 14}, .in = 40, .out = 21, .program = "add 0 1; relu 2", .operands = {{2, 14, 14, 21}}},
      {.batch = 2, .image = {6, 5}, .in = 8, .out = 12, .program = "mul 0 1; silu 2", .operands = {{2, 1, 1, 12}}},
      {.batch = 0, .image = {6, 6}, .in = 8, .out = 8},
  };
}

TEST(WinogradConv, SmallTilesAgreeWithTheReference) {
  // The transforms add up to 4 values of the input and 3 x 3 of the products: errors grow by about 2.
  for (const Layer& layer : winograd_layers()) check(layer, "conv.winograd2", 4);
}

TEST(WinogradConv, LargeTilesAgreeWithTheReference) {
  // Constants up to 8 on either side: errors grow by about 10.
  for (const Layer& layer : winograd_layers()) check(layer, "conv.winograd4", 16);
}

TEST(WinogradConv, TilesAtStrideTwoAgreeWithTheReference) {
  for (Layer layer : winograd_layers()) {
    layer.stride = {2, 2};
    layer.in = std::max<std::int64_t>(layer.in, 16);
    layer.out = std::max<std::int64_t>(layer.out, 17);
    if (!layer.operands.empty() && layer.operands[0][1] > 1) layer.operands[0] = {2, 7, 7, layer.out};
    if (!layer.operands.empty()) layer.operands[0].back() = layer.out;
    check(layer, "conv.winograd2_stride2", 4);
    check(layer, "conv.winograd4_stride2", 16);
  }
}

/// Windows that are long in one direction: of one block, of several that fill up with zeros or do not, along either
/// axis of an image and along the only one of a signal; more channels than a vector, and fewer.
TEST(WinogradConv, LinesAgreeWithTheReference) {
  for (Layer layer :
       std::vector<Layer>{{.image = {21}, .in = 8, .out = 16, .kernel = {3}, .pads = {1, 1}},
                          {.batch = 3, .image = {50}, .in = 19, .out = 21, .kernel = {4}, .pads = {0, 3}},
                          {.batch = 2, .image = {13}, .in = 40, .out = 9, .kernel = {5}, .pads = {2, 2}, .bias = false},
                          {.image = {70}, .in = 3, .out = 33, .kernel = {17}, .pads = {8, 8}},
                          {.image = {9, 30}, .in = 12, .out = 24, .kernel = {1, 7}, .pads = {0, 3, 0, 3}},
                          {.batch = 2, .image = {30, 9}, .in = 12, .out = 24, .kernel = {7, 1}, .pads = {2, 0, 4, 0}},
                          {.image = {300, 1}, .in = 24, .out = 40, .kernel = {16, 1}, .pads = {8, 0, 7, 0}},
                          {.image = {2, 3}, .in = 8, .out = 8, .kernel = {1, 9}, .pads = {0, 6, 0, 6}},
                          {.image = {5}, .in = 300, .out = 24, .kernel = {12}, .pads = {20, 20}},
                          {.batch = 2,
                          .image = {6, 14},
                          .in = 16,
                          .out = 21,
                          .kernel = {1, 3},
                          .pads = {0, 1, 0, 1},
                          .program = "add 0 1; relu 2",
                          .operands = {{2, 6, 14, 21}}},
                          {.batch = 2,
                          .image = {14, 6},
                          .in = 16,
                          .out = 12,
                          .kernel = {5, 1},
                          .pads = {2, 0, 2, 0},
                          .program = "mul 0 1; silu 2",
                          .operands = {{2, 1, 1, 12}}},
                          {.image = {14, 6},
                          .in = 16,
                          .out = 12,
                          .kernel = {5, 1},
                          .pads = {2, 0, 2, 0},
                          .program = "prelu 0 1",
                          .operands = {{12}}},
                          {.batch = 0, .image = {6}, .in = 8, .out = 8, .kernel = {3}, .pads = {1, 1}}}) {
    layer.stride.assign(layer.kernel.size(), 1);
    layer.dilation.assign(layer.kernel.size(), 1);
    // Constants up to 9/2 and 8: errors grow by about 2, those of the largest results by more.
    check(layer, "conv.winograd_line", 16);
  }
}

TEST(WinogradConv, LinesThatOthersTakeAreRefused) {
  const auto refusal = [](Layer layer) {
    const PreparedCase prepared = prepare(conv_case(layer));
    for (const Candidate& candidate : cpu_backend().candidates(prepared.problem)) {
      if (candidate.tactic == "conv.winograd_line") return candidate.refusal;
    }
    return std::string("no such tactic");
  };
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  const std::string shape = "the window is not three or more pixels long in one direction only";
  EXPECT_EQ(refusal({}), shape);
  EXPECT_EQ(refusal({.kernel = {1, 2}, .pads = {0, 0, 0, 0}}), shape);
  EXPECT_EQ(refusal({.kernel = {1, 5}, .stride = {1, 2}, .pads = {0, 0, 0, 0}}), "the stride is not 1");
  EXPECT_EQ(refusal({.kernel = {1, 5}, .pads = {0, 0, 0, 0}, .dilation = {1, 2}}), "the window is dilated");
  EXPECT_EQ(refusal({.kernel = {1, 5}, .pads = {1, 0, 0, 0}}),
            "the image is padded in a direction in which the window is one pixel wide");
}

TEST(WinogradConv, StrictArithmeticIsHonoured) {
  PreparedCase prepared = prepare(conv_case({}));
  prepared.problem.strict = true;
  for (const Candidate& candidate : cpu_backend().candidates(prepared.problem)) {
    const bool is_winograd = candidate.tactic.find("winograd") != std::string::npos;
    EXPECT_TRUE(!is_winograd || !candidate.refusal.empty()) << candidate.tactic;
  }
}

TEST(StrassenConv, PixelsAgreeWithTheReference) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  Layer layer{.batch = 2, .image = {7, 9}, .in = 160, .out = 96, .kernel = {1, 1}, .pads = {0, 0, 0, 0}};
  check(layer, "conv.strassen", 3);
  layer.program = "add 0 1; relu 2";
  layer.operands = {{2, 7, 9, 96}};
  check(layer, "conv.strassen", 3);
  layer.program = "silu 0";
  layer.operands = {};
  layer.bias = false;
  check(layer, "conv.strassen", 3);
  layer.kernel = {3, 3};
  EXPECT_EQ(refusal_of(conv_case(layer), "conv.strassen"), "the window is more than one pixel at stride 1");
}

struct TransposedLayer {
  Layer layer;
  std::vector<std::int64_t> output_padding;
  bool joins = false;  ///< do windows of a line lie side by side, without operands of an epilogue?
};
TEST(TransposedConv, WindowsOfEveryKindAgreeWithTheReference) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  const std::vector<TransposedLayer> layers = {
      {{.image = {5, 6}, .in = 7, .out = 9, .kernel = {2, 2}, .stride = {2, 2}, .pads = {0, 0, 0, 0}}, {0, 0}, true},
      {{.batch = 2, .image = {5, 9}, .in = 24, .out = 17, .kernel = {4, 4}, .stride = {2, 2}}, {0, 0}},
      {{.image = {4, 7}, .in = 8, .out = 33, .kernel = {3, 3}, .stride = {2, 2}}, {1, 1}},
      {{.image = {4, 3}, .in = 8, .out = 8, .kernel = {2, 2}, .stride = {3, 3}, .pads = {0, 0, 0, 0}}, {0, 1}},
      {{.image = {1, 1}, .in = 6, .out = 5, .kernel = {4, 4}, .stride = {1, 1}, .pads = {0, 0, 0, 0}}, {0, 0}},
      {{.image = {6, 6},
        .in = 6,
        .out = 8,
        .kernel = {3, 3},
        .stride = {2, 3},
        .pads = {2, 0, 1, 3},
        .dilation = {2, 3}},
       {0, 0}},
      {{.image = {6, 6}, .in = 6, .out = 8, .group = 2, .kernel = {3, 3}, .stride = {2, 2}, .bias = false}, {0, 0}},
      {{.batch = 2, .image = {5, 21}, .in = 24, .out = 1, .kernel = {2, 2}, .stride = {2, 2}, .pads = {0, 0, 0, 0}},
       {0, 0},
       true},
      {{.image = {5, 22},
        .in = 9,
        .out = 2,
        .kernel = {4, 2},
        .stride = {3, 2},
        .pads = {1, 0, 2, 0},
        .program = "sigmoid 0"},
       {1, 0},
       true},
      {{.image = {7},
        .in = 5,
        .out = 1,
        .kernel = {3},
        .stride = {3},
        .pads = {0, 0},
        .dilation = {1},
        .bias = false,
        .program = "relu 0"},
       {0},
       true},
      {{.image = {3, 4, 9},
        .in = 16,
        .out = 2,
        .kernel = {1, 3, 4},
        .stride = {1, 2, 4},
        .pads = {0, 1, 0, 0, 1, 0},
        .dilation = {1, 1, 1}},
       {0, 0, 0},
       true},
      {{.image = {5, 22}, .in = 9, .out = 2, .kernel = {4, 4}, .stride = {2, 2}, .program = "sigmoid 0"}, {1, 0}},
      {{.image = {6, 15},
        .in = 6,
        .out = 3,
        .kernel = {3, 3},
        .stride = {2, 3},
        .pads = {2, 0, 1, 3},
        .dilation = {2, 3},
        .program = "add 0 1; relu 2",
        .operands = {{1, 12, 46, 3}}},
       {0, 0}},
      {{.image = {19}, .in = 6, .out = 20, .kernel = {5}, .stride = {3}, .pads = {1, 2}, .dilation = {1}}, {0}},
      // Pixels that no position of the kernel reaches, as many as fill register tiles.
      {{.image = {5, 19}, .in = 6, .out = 24, .kernel = {2, 2}, .stride = {3, 3}, .pads = {0, 0, 0, 0}}, {0, 0}},
      {{.image = {5, 19},
        .in = 7,
        .out = 72,
        .kernel = {1, 2},
        .stride = {2, 3},
        .pads = {0, 0, 0, 0},
        .program = "add 0 1",
        .operands = {{1, 9, 56, 72}}},
       {0, 0}},
      {{.image = {3, 4, 3},
        .in = 5,
        .out = 8,
        .kernel = {2, 3, 2},
        .stride = {2, 1, 2},
        .pads = {0, 1, 0, 0, 1, 0},
        .dilation = {1, 1, 1}},
       {0, 0, 0},
       true},
      {{.batch = 2,
        .image = {4, 4},
        .in = 8,
        .out = 12,
        .kernel = {2, 2},
        .stride = {2, 2},
        .pads = {0, 0, 0, 0},
        .program = "add 0 1; hard_swish 2",
        .operands = {{2, 8, 8, 12}}},
       {0, 0}},
      {{.batch = 2,
        .image = {4, 4},
        .in = 8,
        .out = 12,
        .kernel = {2, 2},
        .stride = {2, 2},
        .pads = {0, 0, 0, 0},
        .program = "mul 0 1; add 3 2",
        .operands = {{2, 1, 1, 12}, {2, 8, 8, 1}}},
       {0, 0}},
  };
  for (const TransposedLayer& t : layers) {
    KernelCase c = conv_case(t.layer);
    c.op = "ConvTranspose";
    c.attributes.set("output_padding", t.output_padding);
    Shape w{t.layer.in, t.layer.out / t.layer.group};
    w.insert(w.end(), t.layer.kernel.begin(), t.layer.kernel.end());
    c.inputs[1] = floats(w, 2);
    check_tactic(c, "convtranspose.phases", tolerance_for(t.layer));
    if (t.layer.out / t.layer.group <= 4) check_tactic(c, "convtranspose.dots", tolerance_for(t.layer));
    const bool joins = refusal_of(c, "convtranspose.lines").empty();
    EXPECT_EQ(joins, t.joins);
    if (!joins) continue;
    check_tactic(c, "convtranspose.lines", tolerance_for(t.layer));
    if (t.layer.out * t.layer.kernel.back() <= 4) check_tactic(c, "convtranspose.line_dots", tolerance_for(t.layer));
  }
}

TEST(ConvTactics, RefusalsSayWhy) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  KernelCase planar = conv_case({});
  planar.attributes.set("layout", std::string("nchw"));
  planar.inputs[0] = floats({1, 3, 7, 9}, 1);
  EXPECT_EQ(refusal_of(planar, "conv.direct"), "the layout is nchw");
  KernelCase computed = conv_case({});
  computed.constant = {};
  EXPECT_EQ(refusal_of(computed, "conv.direct"), "the weights are computed");
  EXPECT_NE(refusal_of(conv_case({}), "conv.gemm1x1"), "");
  EXPECT_EQ(refusal_of(conv_case({}), "conv.dots"),
            "5 output channels in a group, at most 4 are taken by dot products");
}

}  // namespace
}  // namespace tenfold
