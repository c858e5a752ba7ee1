// Chains of convolutions line by line against the reference.
#include "kernel_case.hpp"
#include "ops/conv_chain.hpp"

namespace tenfold {
namespace {

Tensor floats(const Shape& shape, std::uint32_t seed) { return random_tensor(DType::float32, shape, seed, -1, 1); }

struct Chain {
  std::int64_t batch = 1;
  std::vector<std::int64_t> image{9, 11};
  std::int64_t in = 5, middle = 24, out = 12;  ///< expanded and projected channels; 0: no such stage
  bool expands = true, projects = true;
  std::int64_t first_kernel = 1, first_stride = 1;  ///< of the expanding stage
  std::vector<std::int64_t> kernel{3, 3}, stride{1, 1}, pads{1, 1, 1, 1}, dilation{1, 1};
  std::string program = "relu 0";
  std::string last = "";
  std::vector<Shape> operands = {};
  bool planar = false;  ///< the image has its channels second
};

KernelCase chain_case(const Chain& chain) {
  std::vector<Conv::Spec> stages;
  const std::int64_t channels = chain.expands ? chain.in : chain.middle;
  std::vector<Tensor> inputs{floats(chain.planar ? Shape{chain.batch, channels, chain.image[0], chain.image[1]}
                                                 : Shape{chain.batch, chain.image[0], chain.image[1], channels},
                                    1)};
  std::uint32_t seed = 2;
  const auto add = [&](Conv::Spec spec, const Shape& weights, bool bias) {
    spec.layout = ImageLayout::nhwc;
    stages.push_back(std::move(spec));
    inputs.push_back(floats(weights, seed++));
    inputs.push_back(bias ? floats({weights[0]}, seed++) : Tensor());
  };
  const Window point{.strides = {1, 1}, .pads = {0, 0, 0, 0}, .dilations = {1, 1}};
  const Epilogue epilogue{PointwiseProgram::parse(1, chain.program)};
  if (chain.expands) {
    const std::int64_t k = chain.first_kernel, s = chain.first_stride, p = k / 2;
    add({.window = {.strides = {s, s}, .pads = {p, p, p, p}, .dilations = {1, 1}},
         .epilogue = epilogue,
         .planar_input = chain.planar},
        {chain.middle, chain.in, k, k}, true);
  }
  add({.window = {.strides = chain.stride, .pads = chain.pads, .dilations = chain.dilation},
       .group = chain.middle,
       .epilogue = epilogue},
      {chain.middle, 1, chain.kernel[0], chain.kernel[1]}, !chain.projects);
  if (chain.projects) add({.window = point}, {chain.out, chain.middle, 1, 1}, true);
  if (!chain.last.empty()) {
    stages.back().epilogue = {PointwiseProgram::parse(static_cast<int>(chain.operands.size()) + 1, chain.last)};
  }
  for (const Shape& shape : chain.operands) inputs.push_back(floats(shape, seed++));
  std::vector<bool> constant(1 + 2 * stages.size(), true);
  constant[0] = false;
  return {"ConvChain", ConvChain(stages).attributes(), inputs, constant};
}

void check(const Chain& chain) {
  // Errors of one stage are summed up by the next: as for one product as deep as all stages' sums together, times the
  // size that values of the stages before can have.
  const double first_window = static_cast<double>(chain.in * chain.first_kernel * chain.first_kernel);
  const double expanded = chain.expands ? first_window + 8 : 2;
  const double window = static_cast<double>(chain.kernel[0] * chain.kernel[1]) + 8;
  const double projected = chain.projects ? static_cast<double>(chain.middle) + 8 : 2;
  check_tactic(chain_case(chain), "chain.lines", {4 * 0x1p-24 * expanded * window * projected, 16 * 0x1p-24});
}

TEST(ConvChainKernel, BlocksOfEveryKindAgreeWithTheReference) {
  for (const Chain& chain : std::vector<Chain>{
           {},
           {.batch = 3, .image = {30, 7}, .in = 16, .middle = 96, .out = 24, .stride = {2, 2}},
           {.image = {1, 1}},
           {.image = {40, 20}, .in = 24, .middle = 33, .out = 40, .kernel = {5, 5}, .pads = {2, 2, 2, 2}},
           {.image = {17, 5}, .expands = false, .kernel = {5, 3}, .stride = {2, 1}, .pads = {1, 0, 2, 2}},
           {.image = {17, 5}, .projects = false, .kernel = {3, 3}, .stride = {1, 2}},
           {.image = {12, 12}, .kernel = {3, 3}, .pads = {2, 2, 2, 2}, .dilation = {2, 2}, .program = "hard_swish 0"},
           {.image = {3, 3}, .pads = {5, 5, 5, 5}},
           {.image = {20, 6}, .kernel = {3, 3}, .stride = {4, 4}, .pads = {0, 0, 0, 0}, .program = "silu 0"},
           {.batch = 2, .image = {24, 9}, .last = "add 0 1; relu 2", .operands = {{2, 24, 9, 12}}},
           {.batch = 2, .image = {24, 9}, .last = "mul 0 1; tanh 2", .operands = {{2, 1, 1, 12}}},
           {.batch = 2, .image = {31, 45}, .in = 3, .middle = 32, .out = 16, .first_kernel = 3, .first_stride = 2},
           {.image = {9, 30}, .in = 1, .middle = 8, .out = 40, .first_kernel = 5, .stride = {2, 1}},
           {.batch = 2, .image = {29, 28}, .in = 8, .middle = 48, .out = 24},
           {.image = {28, 28}, .in = 8, .middle = 48, .out = 24, .stride = {2, 2}},
           {.image = {20, 14}, .middle = 40, .projects = false, .last = "add 0 1", .operands = {{20, 14, 40}}},
           {.image = {13, 35}, .middle = 32, .expands = false, .kernel = {5, 5}, .pads = {2, 2, 2, 2}},
           {.batch = 2,
           .image = {31, 45},
           .in = 3,
           .middle = 32,
           .out = 16,
           .first_kernel = 3,
           .first_stride = 2,
           .planar = true},
           {.image = {9, 30}, .in = 2, .middle = 8, .out = 40, .first_kernel = 5, .stride = {2, 1}, .planar = true},
           {.batch = 0},
       }) {
    check(chain);
  }
}

TEST(ConvChainKernel, RefusesWhatItCannotKeepInCache) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "there are no kernels without AVX2";
  EXPECT_NE(refusal_of(chain_case({.image = {3, 20000}, .middle = 64}), "chain.lines").find("scratch memory"),
            std::string::npos);
  EXPECT_EQ(refusal_of(chain_case({.in = 3, .planar = true}), "chain.lines"),
            "planes are read by a first convolution with a window");
}

}  // namespace
}  // namespace tenfold
