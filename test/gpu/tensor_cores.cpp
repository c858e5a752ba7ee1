// Products, convolutions and attention on the tensor cores against their references: ragged sizes, every tile that the
// model would time, epilogues with operands of every broadcast.
#include <fmt/format.h>

#include "gpu/device_case.hpp"
#include "ops/conv_max_pool.hpp"
#include "ops/conv_pair.hpp"

namespace tenfold {
namespace {

Tensor floats(const Shape& shape, std::uint32_t seed, double size = 1) {
  return random_tensor(DType::float32, shape, seed, -size, size);
}

/// Sums of k products of operands in [-1, 1] have a size of sqrt(k) / 3. The result is rounded to 11 bits (8 for
/// bfloat16), and functions of the epilogue may be off by 2^-10 of its size.
Tolerance tolerance_for(std::int64_t k, DType dtype = DType::float16) {
  const double unit = dtype == DType::bfloat16 ? 0x1p-7 : 0x1p-10;
  return {unit * (1 + std::sqrt(static_cast<double>(k)) / 3), unit};
}

struct Extra {
  std::string program;
  std::vector<Shape> operands;
};
void add_epilogue(KernelCase& c, const Extra& extra, std::size_t first) {
  if (extra.program.empty()) return;
  c.attributes.set("epilogue", extra.program);
  if (!extra.operands.empty()) c.attributes.set("epilogue_inputs", static_cast<std::int64_t>(extra.operands.size()));
  if (extra.operands.empty()) return;
  c.inputs.resize(first);
  std::uint32_t seed = 100;
  for (const Shape& shape : extra.operands) c.inputs.push_back(floats(shape, ++seed));
}

void check_matmul(const Shape& a, const Shape& b, bool trans_b = false, const Extra& extra = {},
                  DType dtype = DType::float16) {
  KernelCase c{"MatMul", {{"trans_b", std::int64_t{trans_b}}}, {floats(a, 1), floats(b, 2)}, {false, true}};
  add_epilogue(c, extra, 2);
  check_device_tactic(c, "gemm.wgmma", tolerance_for(a.back(), dtype), dtype);
}

TEST(GpuGemm, SizesThatFillTilesAndSizesThatDoNot) {
  TENFOLD_NEEDS_GPU();
  check_matmul({128, 64}, {64, 64});
  check_matmul({1, 768}, {768, 768});
  check_matmul({128, 768}, {768, 3072});
  check_matmul({300, 200}, {200, 136});
  check_matmul({77, 768}, {320, 768}, true);
  check_matmul({5, 40}, {40, 7});
  check_matmul({1030, 128}, {33, 128}, true);
  check_matmul({2, 65, 72}, {72, 1000});
  check_matmul({2048, 512}, {512, 640});
  check_matmul({256, 320}, {320, 320}, false, {}, DType::bfloat16);
}

TEST(GpuGemm, EpiloguesWithEveryBroadcast) {
  TENFOLD_NEEDS_GPU();
  check_matmul({300, 128}, {128, 256}, false, {"add 0 1; gelu 2", {{256}}});
  check_matmul({3, 100, 128}, {128, 256}, false, {"add 0 1; add 3 2", {{256}, {3, 100, 256}}});
  check_matmul({300, 128}, {128, 129}, false, {"add 0 1; add 3 2; relu 4", {{129}, {300, 129}}});
  check_matmul({3, 100, 128}, {128, 256}, false,
               {"mul 0 1; add 5 2; add 6 3; mul 7 4", {{1}, {3, 1, 256}, {1, 100, 256}, {3, 100, 1}}});
  check_matmul({4, 768}, {768, 3072}, false, {"add 0 1; silu 3; mul 4 2", {{3072}, {4, 3072}}});
}

void check_gated(const Shape& a, const Shape& b, bool trans_b, const std::string& program,
                 const std::vector<Shape>& operands = {}) {
  KernelCase c{"GatedMatMul",
               {{"trans_b", std::int64_t{trans_b}},
                {"num_inputs", static_cast<std::int64_t>(2 + operands.size())},
                {"program", program}},
               {floats(a, 1), floats(b, 2)},
               {false, true}};
  std::uint32_t seed = 100;
  for (const Shape& shape : operands) c.inputs.push_back(floats(shape, ++seed));
  // The activation may be off by 2^-10 of its size, times the other factor.
  const auto size = static_cast<double>(a.back()) / 9;
  check_device_tactic(c, "gemm.wgmma_gated", {0x1p-10 * (1 + size), 0x1p-10});
}

TEST(GpuGemm, PairsOfColumnsMeet) {
  TENFOLD_NEEDS_GPU();
  check_gated({300, 128}, {128, 512}, false, "gelu 1; mul 0 2");
  check_gated({2, 65, 72}, {400, 72}, true, "silu 0; mul 2 1");
  check_gated({1024, 320}, {320, 2560}, false, "add 0 2; add 1 3; gelu 5; mul 4 6", {{1280}, {1280}});
  check_gated({130, 64}, {64, 48}, false, "sub 0 1; add 3 2", {{130, 24}});
}

void check_batched(const Shape& a, const Shape& b, bool trans_a, bool trans_b, const Extra& extra = {}) {
  KernelCase c{
      "MatMul", {{"trans_a", std::int64_t{trans_a}}, {"trans_b", std::int64_t{trans_b}}}, {floats(a, 1), floats(b, 2)}};
  add_epilogue(c, extra, 2);
  check_device_tactic(c, "gemm.wgmma_batched", tolerance_for(trans_a ? a[a.size() - 2] : a.back()));
}

TEST(GpuGemm, ComputedOperandsInEveryOrientation) {
  TENFOLD_NEEDS_GPU();
  check_batched({2, 3, 130, 64}, {2, 3, 64, 72}, false, false);
  check_batched({2, 3, 130, 64}, {2, 3, 77, 64}, false, true);
  check_batched({4, 64, 136}, {4, 64, 80}, true, false);
  check_batched({4, 64, 136}, {4, 80, 64}, true, true);
  check_batched({6, 100, 128}, {128, 256}, false, false);
  check_batched({1, 128, 40}, {3, 40, 64}, false, false, {"mul_imm 0 0x1p-1; add 2 1", {{3, 128, 64}}});
  check_batched({2, 2, 7, 8}, {2, 2, 8, 16}, false, false);
}

struct Image {
  std::int64_t n, h, w, c;
};
struct Filter {
  std::int64_t out, h, w, stride = 1, pad = 0, dilation = 1;
};
void check_conv(const Image& x, const Filter& f, bool bias = true, const Extra& extra = {},
                const std::string& tactic = "conv.wgmma") {
  KernelCase c{"Conv",
               {{"strides", std::vector<std::int64_t>{f.stride, f.stride}},
                {"pads", std::vector<std::int64_t>{f.pad, f.pad, f.pad, f.pad}},
                {"dilations", std::vector<std::int64_t>{f.dilation, f.dilation}},
                {"layout", std::string("nhwc")}},
               {floats({x.n, x.h, x.w, x.c}, 1), floats({f.out, x.c, f.h, f.w}, 2)},
               {false, true, true}};
  c.inputs.push_back(bias ? floats({f.out}, 3) : Tensor{});
  add_epilogue(c, extra, 3);
  check_device_tactic(c, tactic, tolerance_for(x.c * f.h * f.w));
}

TEST(GpuConv, WindowsOfAllKinds) {
  TENFOLD_NEEDS_GPU();
  check_conv({2, 14, 14, 64}, {64, 3, 3, 1, 1});
  check_conv({1, 28, 20, 128}, {128, 3, 3, 2, 1});
  check_conv({2, 17, 13, 64}, {96, 1, 1, 2, 0}, false);
  check_conv({3, 9, 11, 72}, {40, 3, 3, 1, 1});
  check_conv({1, 20, 20, 24}, {32, 5, 5, 1, 2});
  check_conv({1, 16, 16, 16}, {8, 3, 3, 1, 2, 2}, false);
  check_conv({2, 8, 8, 320}, {320, 3, 3, 1, 1});
  check_conv({2, 7, 7, 96}, {4, 3, 3, 1, 1});
  check_conv({5, 10, 10, 256}, {512, 1, 1});
  check_conv({1, 30, 30, 8}, {64, 7, 7, 2, 3});
}

TEST(GpuConv, FewChannels) {
  TENFOLD_NEEDS_GPU();
  check_conv({2, 33, 30, 3}, {64, 7, 7, 2, 3}, true, {"relu 0", {}}, "conv.wgmma_folded");
  check_conv({2, 16, 16, 4}, {320, 3, 3, 1, 1}, true, {}, "conv.wgmma_folded");
  check_conv({1, 19, 23, 1}, {20, 5, 5, 1, 2}, false, {}, "conv.wgmma_folded");
  check_conv({1, 20, 22, 3}, {32, 4, 4, 4, 0}, true, {}, "conv.wgmma_folded");
  check_conv({1, 20, 22, 13}, {16, 3, 3, 3, 1}, true, {"add 0 1", {{1, 7, 8, 16}}}, "conv.wgmma_folded");
}

TEST(GpuConv, ResidualsAndPerImageChannels) {
  TENFOLD_NEEDS_GPU();
  check_conv({2, 14, 14, 64}, {256, 1, 1}, true, {"add 0 1; relu 2", {{2, 14, 14, 256}}});
  check_conv({2, 15, 14, 64}, {128, 3, 3, 1, 1}, true,
             {"add 0 1; silu 3; add 4 2", {{2, 1, 1, 128}, {2, 15, 14, 128}}});
  check_conv({2, 9, 9, 64}, {36, 3, 3, 1, 1}, true, {"add 0 1; relu 2", {{2, 9, 9, 36}}});
  check_conv({2, 8, 8, 640}, {1280, 3, 3, 1, 1}, true, {"add 0 1", {{2, 1, 1, 1280}}});
}

/// Whole numbers, as a quantised network has them.
Tensor integers(const Shape& shape, std::uint32_t seed, double low, double high) {
  Tensor tensor = random_tensor(DType::float32, shape, seed, low, high);
  for (float& v : tensor.as_mutable<float>()) v = std::floor(v);
  return tensor;
}
/// int8 or uint8 by int8, brought to `output` by a scale per channel, with a residual where there is one.
void check_integer_conv(const Image& x, const Filter& f, DType image, DType output, bool residual,
                        const std::string& tactic = "conv.wgmma") {
  const std::int64_t k = x.c * f.h * f.w;
  KernelCase c{
      "Conv",
      {{"strides", std::vector<std::int64_t>{f.stride, f.stride}},
       {"pads", std::vector<std::int64_t>{f.pad, f.pad, f.pad, f.pad}},
       {"layout", std::string("nhwc")}},
      {image == DType::int8 ? integers({x.n, x.h, x.w, x.c}, 1, -127, 128) : integers({x.n, x.h, x.w, x.c}, 1, 0, 256),
       integers({f.out, x.c, f.h, f.w}, 2, -127, 128), floats({f.out}, 3, 1000)},
      {false, true, true}};
  const double size = 50 / (127.0 * 127 / 3 * std::sqrt(static_cast<double>(k)));
  c.inputs.push_back(random_tensor(DType::float32, {f.out}, 4, 0.5 * size, size));
  std::vector<DType> types{image, DType::int8, DType::float32, DType::float32};
  c.attributes.set("epilogue", std::string(residual ? "fma 0 1 2; relu 3" : "mul 0 1"));
  c.attributes.set("epilogue_inputs", std::int64_t{residual ? 2 : 1});
  if (residual) {
    const std::int64_t out = (x.h + 2 * f.pad - f.h) / f.stride + 1, wide = (x.w + 2 * f.pad - f.w) / f.stride + 1;
    c.inputs.push_back(integers({x.n, out, wide, f.out}, 5, -60, 60));
    types.push_back(output == DType::float16 ? DType::float16 : DType::int8);
  }
  // An exact result halfway between two integers may become either; float16 keeps 11 bits.
  const Tolerance tolerance = output == DType::float16 ? Tolerance{0.1, 0x1p-10} : Tolerance{0.501, 0};
  check_device_tactic(c, tactic, tolerance, types, output);
}

TEST(GpuConv, IntegersAreExact) {
  TENFOLD_NEEDS_GPU();
  check_integer_conv({2, 14, 14, 64}, {64, 3, 3, 1, 1}, DType::int8, DType::int8, false);
  check_integer_conv({2, 14, 14, 64}, {256, 1, 1}, DType::int8, DType::int8, true);
  check_integer_conv({2, 13, 15, 128}, {128, 3, 3, 2, 1}, DType::uint8, DType::uint8, false);
  check_integer_conv({1, 9, 9, 32}, {40, 3, 3, 1, 1}, DType::int8, DType::float16, false);
  check_integer_conv({4, 7, 7, 512}, {512, 3, 3, 1, 1}, DType::int8, DType::int8, true);
  check_integer_conv({2, 33, 30, 3}, {64, 7, 7, 2, 3}, DType::int8, DType::int8, false, "conv.wgmma_folded");
  check_integer_conv({2, 9, 11, 7}, {10, 3, 3, 1, 1}, DType::int8, DType::int8, true, "conv.plain");
}

/// The reference of a node with these operands in their own types.
Tensor reference_of(const OpPtr& op, const std::vector<Tensor>& inputs, int output) {
  Graph graph;
  std::vector<ValueId> ids;
  for (const Tensor& tensor : inputs)
    ids.push_back(tensor.empty() ? kNoValue : graph.add_constant("c" + std::to_string(ids.size()), tensor));
  const NodeId node = graph.add_node(op, ids, op->type() == "ConvPair" ? 2 : 1, "node");
  graph.infer_types(node);
  KernelSpec spec;
  spec.op = op;
  spec.tactic = "reference";
  for (const Tensor& tensor : inputs) spec.inputs.push_back(tensor.empty() ? TensorType{} : tensor.type());
  std::vector<Tensor> results;
  for (const ValueId id : graph.node(node).outputs) {
    spec.outputs.push_back(graph.value(id).type);
    results.emplace_back(spec.outputs.back().dtype, spec.outputs.back().static_shape());
  }
  const auto view = [](const Tensor& tensor) {
    return tensor.empty() ? TensorView{}
                          : TensorView{const_cast<std::byte*>(tensor.data()), tensor.dtype(), tensor.shape(),
                                       tensor.shape().empty() ? 1 : tensor.shape().back()};
  };
  std::vector<TensorView> in, out;
  for (const Tensor& tensor : inputs) in.push_back(view(tensor));
  for (const Tensor& tensor : results) out.push_back(view(tensor));
  Launch launch;
  launch.inputs = in;
  launch.outputs = out;
  cpu_backend().make_kernel(spec)->run(launch);
  return results[static_cast<std::size_t>(output)];
}

/// Each candidate's y beside the reference, and its z beside the reference of the second convolution on that y.
void check_pair(const Image& x, std::int64_t middle, std::int64_t out, DType dtype, DType result, bool residual,
                bool bias) {
  const bool is_integer = size_of(dtype) == 1;
  const auto operand = [&](const Shape& shape, std::uint32_t seed) {
    return cast_tensor(is_integer ? integers(shape, seed, dtype == DType::int8 ? -60 : 0, 60) : floats(shape, seed),
                       dtype);
  };
  const auto weights = [&](const Shape& shape, std::uint32_t seed) {
    return is_integer ? cast_tensor(integers(shape, seed, -127, 128), DType::int8)
                      : cast_tensor(floats(shape, seed), dtype);
  };
  const auto scale = [&](std::int64_t channels, std::int64_t k, std::uint32_t seed) {
    const double size =
        is_integer ? 1 / (35 * 73 * std::sqrt(static_cast<double>(k))) * 40 : 2 / std::sqrt(static_cast<double>(k));
    return random_tensor(DType::float32, {channels}, seed, 0.5 * size, size);
  };
  Conv::Spec first, second;
  for (Conv::Spec* spec : {&first, &second}) {
    spec->window = {{1, 1}, {0, 0, 0, 0}, {1, 1}};
    spec->layout = ImageLayout::nhwc;
  }
  first.epilogue = {PointwiseProgram::parse(residual ? 3 : 2, residual ? "fma 0 1 2; relu 3" : "mul 0 1; relu 2"),
                    dtype};
  second.epilogue = {PointwiseProgram::parse(2, "mul 0 1"), result};
  const auto op = std::make_shared<const ConvPair>(first, second);
  const Shape y{x.n, x.h, x.w, middle};
  std::vector<Tensor> inputs{operand({x.n, x.h, x.w, x.c}, 1),           weights({middle, x.c, 1, 1}, 2),
                             bias ? floats({middle}, 3, 0.5) : Tensor{}, weights({out, middle, 1, 1}, 4),
                             bias ? floats({out}, 5, 0.5) : Tensor{},    scale(middle, x.c, 6)};
  if (residual) inputs.push_back(operand(y, 7));
  inputs.push_back(scale(out, middle, 8));

  Problem problem;
  problem.op = op;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    problem.inputs.push_back(inputs[i].empty() ? TensorType{} : inputs[i].type());
    problem.input_shapes.push_back(inputs[i].empty() ? Shape{} : inputs[i].shape());
    problem.constants.push_back(1 <= i && i <= 4 && !inputs[i].empty() ? &inputs[i] : nullptr);
  }
  const Tensor wanted_y = reference_of(op, inputs, 0);
  problem.output_shapes = {y, {x.n, x.h, x.w, out}};
  problem.outputs = {wanted_y.type(), TensorType{result, wanted_y.type().dims}};
  problem.outputs[1].dims.back() = Dim(out);
  TestDevice& device = TestDevice::instance();
  int ran = 0;
  for (const Candidate& candidate : device.backend().candidates(problem)) {
    ASSERT_EQ(candidate.refusal, "");
    const std::string what = fmt::format("{}>{}>{} of {} by {} {}", x.c, middle, out, to_string(dtype),
                                         candidate.parameters[0], candidate.parameters[1]);
    const DeviceKernel made = make_device_kernel(problem, candidate);
    std::vector<std::unique_ptr<DeviceOperand>> operands;
    std::vector<TensorView> in, results;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const bool is_consumed =
          std::count(made.packed.consumed_inputs.begin(), made.packed.consumed_inputs.end(), i) > 0;
      in.emplace_back();
      if (inputs[i].empty() || is_consumed) continue;
      operands.push_back(std::make_unique<DeviceOperand>(inputs[i].dtype(), inputs[i].shape(), 0));
      operands.back()->fill_from(inputs[i]);
      in.back() = operands.back()->view();
    }
    DeviceOperand got_y(dtype, y, 0), got_z(result, problem.output_shapes[1], 16);
    results = {got_y.view(), got_z.view()};
    Launch launch;
    launch.inputs = in;
    launch.outputs = results;
    launch.stream = &device.stream();
    made.kernel->run(launch);
    device.stream().synchronize();
    const Tensor first_result = got_y.download();
    // A tie between two integers may become either; else as for single convolutions.
    EXPECT_EQ(device_difference(first_result, wanted_y, is_integer ? Tolerance{1, 0} : tolerance_for(x.c)), "") << what;
    std::vector<Tensor> second_inputs{first_result, inputs[3], inputs[4], inputs.back()};
    const Tensor wanted_z = reference_of(std::make_shared<const Conv>(second), second_inputs, 0);
    const Tolerance tolerance = size_of(result) == 1 ? Tolerance{1, 0}
                                : is_integer         ? Tolerance{0.1, 0x1p-10}
                                                     : tolerance_for(middle);
    EXPECT_EQ(device_difference(got_z.download(), wanted_z, tolerance), "") << what;
    EXPECT_TRUE(got_y.is_intact() && got_z.is_intact()) << what;
    ++ran;
  }
  EXPECT_GT(ran, 0);
}

TEST(GpuConv, PairsMultiplyWhatTheyHold) {
  TENFOLD_NEEDS_GPU();
  check_pair({2, 14, 14, 64}, 256, 64, DType::int8, DType::int8, true, false);
  check_pair({1, 56, 56, 64}, 256, 64, DType::int8, DType::int8, true, true);
  check_pair({2, 17, 13, 128}, 512, 128, DType::int8, DType::int8, true, false);
  check_pair({2, 17, 13, 96}, 128, 40, DType::uint8, DType::float16, false, true);
  check_pair({2, 15, 14, 64}, 256, 64, DType::float16, DType::float16, true, true);
  check_pair({2, 15, 14, 64}, 256, 128, DType::float16, DType::float16, true, false);
  check_pair({2, 15, 14, 48}, 128, 72, DType::bfloat16, DType::bfloat16, false, false);
}

TEST(GpuConv, PixelsAreLoadedOnceForAllPositions) {
  TENFOLD_NEEDS_GPU();
  const std::string tactic = "conv.wgmma_halo";
  check_conv({2, 14, 14, 64}, {64, 3, 3, 1, 1}, true, {"relu 0", {}}, tactic);
  check_conv({1, 56, 56, 64}, {64, 3, 3, 1, 1}, true, {"add 0 1; relu 2", {{1, 56, 56, 64}}}, tactic);
  check_conv({1, 9, 11, 32}, {40, 3, 3, 1, 1}, false, {}, tactic);
  check_conv({1, 20, 20, 32}, {32, 5, 5, 1, 2}, true, {}, tactic);
  check_conv({2, 13, 15, 64}, {72, 1, 3, 1, 0}, true, {}, tactic);
  check_integer_conv({1, 56, 56, 64}, {64, 3, 3, 1, 1}, DType::int8, DType::int8, false, tactic);
  check_integer_conv({2, 28, 28, 128}, {128, 3, 3, 1, 1}, DType::int8, DType::int8, true, tactic);
  check_integer_conv({1, 9, 9, 64}, {40, 3, 3, 1, 1}, DType::uint8, DType::float16, false, tactic);
}

struct Pooling {
  std::int64_t kernel, stride, pad;
};
void check_pooled(const Image& x, const Filter& f, const Pooling& p, DType image, DType output) {
  using List = std::vector<std::int64_t>;
  const bool is_integer = size_of(image) == 1;
  const std::int64_t k = x.c * f.h * f.w;
  const double size = is_integer ? 50 / (127.0 * 127 / 3 * std::sqrt(static_cast<double>(k))) : 1;
  KernelCase c{
      "ConvMaxPool",
      {{"conv_strides", List{f.stride, f.stride}},
       {"conv_pads", List(4, f.pad)},
       {"conv_layout", std::string("nhwc")},
       {"conv_epilogue", std::string("mul 0 1")},
       {"conv_epilogue_inputs", std::int64_t{1}},
       {"pool_kernel_shape", List{p.kernel, p.kernel}},
       {"pool_strides", List{p.stride, p.stride}},
       {"pool_pads", List(4, p.pad)},
       {"pool_layout", std::string("nhwc")}},
      {is_integer ? integers({x.n, x.h, x.w, x.c}, 1, image == DType::int8 ? -127 : 0, image == DType::int8 ? 128 : 256)
                  : floats({x.n, x.h, x.w, x.c}, 1),
       is_integer ? integers({f.out, x.c, f.h, f.w}, 2, -127, 128) : floats({f.out, x.c, f.h, f.w}, 2),
       floats({f.out}, 3, is_integer ? 1000 : 1), random_tensor(DType::float32, {f.out}, 4, 0.5 * size, size)},
      {false, true, true}};
  const std::vector<DType> types{image, is_integer ? DType::int8 : image, DType::float32, DType::float32};
  // The largest of rounded numbers is the largest number rounded; a tie may become either.
  check_device_tactic(c, "conv.wgmma_pooled", is_integer ? Tolerance{0.501, 0} : tolerance_for(k, image), types,
                      output);
}

/// The image in planes of float32 that are quantised as they are read, or of the convolution's own type.
void check_planes(const Image& x, DType dtype) {
  const bool is_integer = size_of(dtype) == 1;
  Conv::Spec conv;
  conv.window = {{2, 2}, {3, 3, 3, 3}, {1, 1}};
  conv.layout = ImageLayout::nhwc;
  conv.epilogue = {PointwiseProgram::parse(2, "mul 0 1; relu 2"), dtype};
  PoolSpec pool{{3, 3}, {{2, 2}, {1, 1, 1, 1}, {1, 1}}, ImageLayout::nhwc};
  ImageSource source{.is_planar = true};
  if (is_integer) source = {true, PointwiseProgram::parse(1, "mul_imm 0 0x1p+5"), dtype};
  const auto op = std::make_shared<const ConvMaxPool>(conv, pool, source);
  const double size = is_integer ? 1 / (18.0 * 73 * 12) * 40 : 0.1;
  std::vector<Tensor> inputs{cast_tensor(floats({x.n, x.c, x.h, x.w}, 1), is_integer ? DType::float32 : dtype),
                             is_integer ? cast_tensor(integers({64, x.c, 7, 7}, 2, -127, 128), DType::int8)
                                        : cast_tensor(floats({64, x.c, 7, 7}, 2), dtype),
                             Tensor{}, random_tensor(DType::float32, {64}, 4, 0.5 * size, size)};
  Problem problem;
  problem.op = op;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    problem.inputs.push_back(inputs[i].empty() ? TensorType{} : inputs[i].type());
    problem.input_shapes.push_back(inputs[i].empty() ? Shape{} : inputs[i].shape());
    problem.constants.push_back(i == 1 ? &inputs[i] : nullptr);
  }
  const Tensor wanted = reference_of(op, inputs, 0);
  problem.outputs = {wanted.type()};
  problem.output_shapes = {wanted.shape()};
  TestDevice& device = TestDevice::instance();
  int ran = 0;
  for (const Candidate& candidate : device.backend().candidates(problem)) {
    ASSERT_EQ(candidate.refusal, "");
    const DeviceKernel made = make_device_kernel(problem, candidate);
    DeviceOperand image(inputs[0].dtype(), inputs[0].shape(), 0), scale(DType::float32, {64}, 0);
    DeviceOperand got(dtype, wanted.shape(), 0);
    image.fill_from(inputs[0]);
    scale.fill_from(inputs[3]);
    const std::vector<TensorView> in{image.view(), {}, {}, scale.view()}, out{got.view()};
    DeviceOperand workspace(DType::uint8, {static_cast<std::int64_t>(made.kernel->workspace_bytes(in, out))}, 0);
    Launch launch;
    launch.inputs = in;
    launch.outputs = out;
    launch.workspace = {static_cast<std::byte*>(workspace.view().data), made.kernel->workspace_bytes(in, out)};
    launch.stream = &device.stream();
    made.kernel->run(launch);
    device.stream().synchronize();
    EXPECT_EQ(device_difference(got.download(), wanted, is_integer ? Tolerance{1, 0} : tolerance_for(147)), "")
        << to_string(dtype) << " by " << candidate.parameters[0] << " " << candidate.parameters[1];
    EXPECT_TRUE(got.is_intact());
    ++ran;
  }
  EXPECT_GT(ran, 0);
}

TEST(GpuConv, ImagesInPlanesAreQuantisedAsTheyAreRead) {
  TENFOLD_NEEDS_GPU();
  check_planes({2, 33, 30, 3}, DType::int8);
  check_planes({2, 33, 30, 3}, DType::float16);
}

TEST(GpuConv, PooledBeforeTheyAreStored) {
  TENFOLD_NEEDS_GPU();
  check_pooled({2, 33, 30, 3}, {64, 7, 7, 2, 3}, {3, 2, 1}, DType::int8, DType::int8);
  check_pooled({1, 40, 300, 3}, {64, 7, 7, 2, 3}, {3, 2, 1}, DType::int8, DType::int8);
  check_pooled({1, 60, 62, 1}, {32, 5, 5, 3, 2}, {2, 2, 0}, DType::uint8, DType::uint8);
  check_pooled({2, 33, 30, 3}, {64, 7, 7, 2, 3}, {3, 2, 1}, DType::float16, DType::float16);
  check_pooled({1, 25, 144, 4}, {40, 3, 3, 2, 1}, {3, 1, 0}, DType::float16, DType::float16);
  check_pooled({1, 20, 22, 3}, {64, 4, 4, 2, 0}, {2, 3, 0}, DType::bfloat16, DType::bfloat16);
}

TEST(GpuPlain, ProductsOfAnyShape) {
  TENFOLD_NEEDS_GPU();
  const auto check = [](const Shape& a, const Shape& b, bool trans_a, bool trans_b, const Extra& extra, DType dtype) {
    KernelCase c{"MatMul",
                 {{"trans_a", std::int64_t{trans_a}}, {"trans_b", std::int64_t{trans_b}}},
                 {floats(a, 1), floats(b, 2)}};
    add_epilogue(c, extra, 2);
    // Sums of 200 products in float32: well below 200 roundings of their size.
    check_device_tactic(c, "gemm.plain",
                        dtype == DType::float32 ? Tolerance{200 * 0x1p-24, 0x1p-22} : tolerance_for(200), dtype);
  };
  check({3, 70, 33}, {33, 65}, false, false, {"add 0 1; gelu 2", {{65}}}, DType::float32);
  check({2, 3, 50, 200}, {2, 1, 7, 200}, false, true, {}, DType::float32);
  check({200, 9}, {2, 200, 5}, true, false, {}, DType::float32);
  check({33}, {4, 33, 6}, false, false, {}, DType::float32);
  check({5, 1, 3, 10}, {4, 10, 11}, false, false, {"add 0 1", {{5, 1, 3, 11}}}, DType::float16);
}

TEST(GpuPlain, ConvolutionsOfAnyShape) {
  TENFOLD_NEEDS_GPU();
  const auto check = [](const std::string& op, const Shape& x, const Shape& weights, const Attributes& attributes,
                        DType dtype) {
    KernelCase c{op, attributes, {floats(x, 1), floats(weights, 2)}};
    c.attributes.set("layout", std::string("nhwc"));
    const std::int64_t group = c.attributes.get_int("group", 1);
    c.inputs.push_back(floats({op == "Conv" ? weights[0] : weights[1] * group}, 3));
    c.attributes.set("epilogue", std::string("relu 0"));
    check_device_tactic(c, op == "Conv" ? "conv.plain" : "conv_transpose.plain",
                        dtype == DType::float32 ? Tolerance{300 * 0x1p-24, 0x1p-22} : tolerance_for(300), dtype);
  };
  using List = std::vector<std::int64_t>;
  check("Conv", {2, 9, 11, 5}, {7, 5, 3, 3},
        {{"strides", List{2, 1}}, {"pads", List{1, 0, 1, 2}}, {"dilations", List{1, 2}}}, DType::float32);
  check("Conv", {2, 9, 11, 12}, {18, 4, 3, 3},
        {{"strides", List{1, 1}}, {"pads", List{1, 1, 1, 1}}, {"group", std::int64_t{3}}}, DType::float32);
  check("Conv", {2, 40, 6}, {9, 6, 5}, {{"strides", List{3}}, {"pads", List{2, 2}}}, DType::float16);
  check("Conv", {1, 5, 6, 7, 3}, {4, 3, 3, 2, 3}, {{"strides", List{1, 2, 1}}, {"pads", List{1, 0, 1, 1, 0, 1}}},
        DType::float32);
  check("ConvTranspose", {2, 7, 9, 6}, {6, 5, 3, 4}, {{"strides", List{2, 3}}, {"pads", List{1, 1, 0, 2}}},
        DType::float32);
  check("ConvTranspose", {1, 8, 8}, {8, 2, 4},
        {{"strides", List{2}}, {"pads", List{1, 1}}, {"group", std::int64_t{2}}, {"dilations", List{2}}},
        DType::float32);
}

struct Heads {
  std::int64_t batch, heads, shared, queries, keys, size;
};
void check_attention(const Heads& s, const std::string& layout, bool causal = false, const Shape& mask = {},
                     double size = 2) {
  const bool rows_first = layout == "blhd";
  const auto shape = [&](std::int64_t heads, std::int64_t rows) {
    if (layout == "flat") return Shape{s.batch, rows, heads * s.size};
    return rows_first ? Shape{s.batch, rows, heads, s.size} : Shape{s.batch, heads, rows, s.size};
  };
  KernelCase c{"FusedAttention",
               {{"layout", layout}, {"causal", std::int64_t{causal}}},
               {floats(shape(s.heads, s.queries), 1, size), floats(shape(s.shared, s.keys), 2, size),
                floats(shape(s.shared, s.keys), 3)}};
  if (layout == "flat") {
    c.attributes.set("heads", s.heads);
    c.attributes.set("key_heads", s.shared);
  }
  if (!mask.empty()) c.inputs.push_back(floats(mask, 9, 3));
  // Probabilities are rounded to 11 bits before they meet the values of size 1, and so is the result.
  check_device_tactic(c, "attention.wgmma", {3 * 0x1p-10, 0x1p-10});
}

TEST(GpuAttention, HeadSizesLayoutsAndLengths) {
  TENFOLD_NEEDS_GPU();
  for (const std::int64_t size : {8, 32, 40, 64, 72, 80, 128, 160}) check_attention({2, 3, 3, 130, 200, size}, "blhd");
  check_attention({1, 12, 12, 128, 128, 64}, "bhld");
  check_attention({2, 8, 8, 300, 77, 40}, "blhd");
  check_attention({1, 2, 2, 1, 1000, 64}, "bhld");
  check_attention({1, 2, 2, 65, 1, 64}, "blhd");
  check_attention({1, 2, 2, 500, 513, 80}, "bhld");
  check_attention({2, 6, 2, 100, 90, 64}, "blhd");
}

TEST(GpuAttention, TokensWhole) {
  TENFOLD_NEEDS_GPU();
  check_attention({2, 3, 3, 130, 200, 40}, "flat");
  check_attention({2, 6, 2, 100, 90, 64}, "flat", true);
  check_attention({1, 2, 2, 65, 77, 80}, "flat", false, {1, 2, 1, 77});
}

TEST(GpuAttention, CausalAndMasked) {
  TENFOLD_NEEDS_GPU();
  check_attention({1, 3, 3, 300, 300, 64}, "bhld", true);
  check_attention({1, 3, 3, 100, 260, 40}, "blhd", true);
  check_attention({1, 2, 2, 260, 100, 64}, "bhld", true);
  for (const Shape& mask :
       {Shape{2, 1, 1, 150}, Shape{130, 150}, Shape{2, 4, 130, 150}, Shape{1, 4, 1, 150}, Shape{150}}) {
    check_attention({2, 4, 4, 130, 150, 64}, "bhld", false, mask);
  }
  check_attention({2, 4, 4, 130, 150, 64}, "blhd", true, {2, 1, 1, 150});
}

TEST(GpuAttention, LargeScoresStayFinite) {
  TENFOLD_NEEDS_GPU();
  // Scores of some thousands: the exponential of any of them overflows, their differences decide.
  check_attention({1, 2, 2, 70, 140, 64}, "bhld", false, {}, 30);
}

}  // namespace
}  // namespace tenfold
