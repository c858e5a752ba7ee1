// MatMul, Conv and ConvTranspose by the plain kernels: what no tensor-core kernel takes, and float32.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "backend/cuda/gemm_kernel.hpp"
#include "backend/cuda/plain_text.hpp"
#include "ops/conv.hpp"
#include "ops/matmul.hpp"

namespace tenfold::cuda {
namespace {

constexpr std::size_t kBias = 2;
/// The hardware's limit on blocks along y and z.
constexpr std::int64_t kMaxBlocks = 65535;

using Refusal = std::optional<std::string>;
using Types = std::vector<TensorType>;

bool is_float_type(DType dtype) {
  return dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16;
}

Refusal refuses_types(const Types& inputs, const Types& outputs) {
  if (inputs.size() < 2 || outputs.empty()) return "operands are missing";
  const DType a = inputs[0].dtype, b = inputs[1].dtype, result = outputs[0].dtype;
  const bool is_integer = (a == DType::int8 || a == DType::uint8) && b == DType::int8;
  const bool is_float8 = a == DType::float8e4m3 && b == a;
  if (!(is_float_type(a) && a == b) && !is_integer && !is_float8)
    return fmt::format("no kernel for {} by {}", to_string(a), to_string(b));
  if (!is_float_type(result) && !(is_integer && (result == DType::int8 || result == DType::uint8)) &&
      !(is_float8 && result == a)) {
    return fmt::format("no kernel for results of {}", to_string(result));
  }
  return std::nullopt;
}

/// About a third of what the ordinary cores can do.
double estimate_us(const Problem& problem, const DeviceTraits& traits) {
  constexpr double kFlopsPerClock = 2 * 128 * 0.35, kClocksPerUs = 1000, kLaunchUs = 3;
  const double flops = problem.op->flops(problem.inputs, problem.outputs);
  double work = flops;
  if (work == 0) {
    // With open dimensions the operator does not know; results times the depth of the reduction do.
    work = 2 * static_cast<double>(num_elements(problem.output_shapes[0])) *
           static_cast<double>(
               std::max<std::int64_t>(1, problem.input_shapes[0].empty() ? 1 : problem.input_shapes[0].back()));
  }
  return kLaunchUs + work / (kFlopsPerClock * traits.num_sms * traits.clock_ghz * kClocksPerUs);
}

/// Checks and offers one candidate without parameters.
void offer(const Problem& problem, const DeviceTraits& traits, Refusal refusal, std::vector<Candidate>& out) {
  if (refusal) return offer_refusal(std::move(*refusal), out);
  Candidate candidate;
  candidate.estimated_us = estimate_us(problem, traits);
  out.push_back(std::move(candidate));
}

EpilogueSpec checked_epilogue(const KernelSpec& spec, const Epilogue& epilogue, int first, Refusal refusal) {
  std::string reason = refusal.value_or("");
  std::optional<EpilogueSpec> result;
  if (!refusal) result = epilogue_spec(epilogue.program, spec.inputs, first, spec.outputs[0], reason);
  require(result.has_value(), Code::incompatible_engine, "tactic '{}' cannot run this {}: {}", spec.tactic,
          spec.op->type(), reason);
  require(spec.parameters.empty() && spec.weights.empty(), Code::incompatible_engine,
          "tactic '{}' takes no parameters and no weights", spec.tactic);
  return std::move(*result);
}

Refusal refuses_epilogue(const Epilogue& epilogue, const Types& inputs, int first, const Types& outputs) {
  std::string reason;
  if (epilogue_spec(epilogue.program, inputs, first, outputs[0], reason)) return std::nullopt;
  return reason;
}

LaunchConfig grid_of(CUfunction function, std::int64_t rows, std::int64_t columns, std::int64_t batches) {
  LaunchConfig config;
  config.function = function;
  config.block.x = kPlainThreads;
  config.grid = {static_cast<unsigned>((rows + kPlainTile - 1) / kPlainTile),
                 static_cast<unsigned>((columns + kPlainTile - 1) / kPlainTile), static_cast<unsigned>(batches)};
  return config;
}

// --- MatMul

const MatMul& matmul_of(const OpPtr& op) {
  const auto* matmul = op_cast<MatMul>(op);
  ensure(matmul != nullptr, "a MatMul tactic was given operator {}", op->type());
  return *matmul;
}

Refusal refuses_matmul(const MatMul& matmul, const Types& inputs, const Types& outputs) {
  if (auto refusal = refuses_types(inputs, outputs)) return refusal;
  if (inputs[0].rank() > kMaxPlainAxes + 2 || inputs[1].rank() > kMaxPlainAxes + 2) return "too many axes";
  // The columns of the kernel are the last axis of the result, to which epilogues are broadcast.
  if (inputs[1].rank() < 2) return "b is a vector";
  return refuses_epilogue(matmul.epilogue(), inputs, MatMul::kFirstEpilogueInput, outputs);
}

PlainKernelSpec plain_matmul(const KernelSpec& spec) {
  return {.kind = PlainKernelSpec::Kind::matrix,
          .a = spec.inputs[0].dtype,
          .b = spec.inputs[1].dtype,
          .output = spec.outputs[0].dtype,
          .columns_inner = !matmul_of(spec.op).trans_b()};
}

class PlainMatMulKernel final : public Kernel {
 public:
  PlainMatMulKernel(const KernelSpec& spec, EpilogueSpec epilogue, const LoadedModule& module)
      : op_(spec.op), epilogue_(std::move(epilogue)), function_(module.function(kPlainEntry)) {}

  void run(const Launch& launch) const override {
    const TensorView& a = launch.inputs[0];
    const TensorView& b = launch.inputs[1];
    const TensorView& c = launch.outputs[0];
    if (c.num_elements() == 0) return;
    const bool trans_a = matmul_of(op_).trans_a() && a.rank() > 1, trans_b = matmul_of(op_).trans_b();
    PlainMatrix from{};
    from.a = a.data;
    from.b = b.data;
    const std::int64_t a_rows = a.rank() > 1 ? a.dim(a.rank() - 2) : 1, b_rows = b.dim(b.rank() - 2);
    from.k = static_cast<int>(trans_a ? a_rows : a.dims.back());
    from.a_row = trans_a ? 1 : a.pitch;
    from.a_column = trans_a ? a.pitch : 1;
    from.b_row = trans_b ? 1 : b.pitch;
    from.b_column = trans_b ? b.pitch : 1;
    const int matrix_axes = a.rank() > 1 ? 2 : 1;  // of c
    from.num_axes = c.rank() - matrix_axes;
    std::int64_t batches = 1;
    long long a_step = a_rows * a.pitch, b_step = b_rows * b.pitch;
    for (int axis = from.num_axes - 1; axis >= 0; --axis) {
      const int from_end = from.num_axes - 1 - axis;
      const int a_axis = a.rank() - 3 - from_end, b_axis = b.rank() - 3 - from_end;
      const std::int64_t a_size = a_axis >= 0 ? a.dim(a_axis) : 1, b_size = b_axis >= 0 ? b.dim(b_axis) : 1;
      from.axis_size[axis] = static_cast<int>(c.dim(axis));
      from.a_axis[axis] = a_size == 1 ? 0 : a_step;
      from.b_axis[axis] = b_size == 1 ? 0 : b_step;
      a_step *= a_size;
      b_step *= b_size;
      batches *= c.dim(axis);
    }
    GemmArguments arguments{};
    arguments.m = static_cast<int>(matrix_axes == 1 ? 1 : c.dim(c.rank() - 2));
    bind_output(c, kPlainUnit, arguments);
    bind_operands(epilogue_, launch.inputs, MatMul::kFirstEpilogueInput, c, arguments);
    // Batch axes that b lacks are more rows of a.
    bool only_rows = !trans_a;
    for (int axis = 0; axis < from.num_axes; ++axis) {
      only_rows = only_rows && from.b_axis[axis] == 0 && (from.a_axis[axis] != 0 || from.axis_size[axis] == 1);
    }
    if (only_rows) {
      arguments.m *= static_cast<int>(batches);
      from.num_axes = 0;
      batches = 1;
    }
    require(batches <= kMaxBlocks, Code::unsupported, "a batch of {} matrices is larger than {}", batches, kMaxBlocks);
    cuda_stream(launch).launch(grid_of(function_, arguments.m, arguments.n, batches), arguments, from);
  }
  bool accepts_pitched_input(int) const override { return true; }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  OpPtr op_;
  EpilogueSpec epilogue_;
  Function function_;
};

// --- Conv and ConvTranspose

struct ConvView {
  const Window& window;
  std::int64_t group;
  ConvLayouts layouts;
  const Epilogue& epilogue;
  bool is_transposed;
};
ConvView view_of_conv(const OpPtr& op) {
  if (const auto* conv = op_cast<Conv>(op))
    return {conv->window(), conv->group(), conv->spec().layouts(), conv->epilogue(), false};
  const auto* conv = op_cast<ConvTranspose>(op);
  ensure(conv != nullptr, "a convolution tactic was given operator {}", op->type());
  return {conv->window(), conv->group(), {conv->layout(), conv->layout()}, conv->epilogue(), true};
}

Refusal refuses_convolution(const ConvView& conv, const Types& inputs, const Types& outputs) {
  if (auto refusal = refuses_types(inputs, outputs)) return refusal;
  if (conv.layouts.input != ImageLayout::nhwc || conv.layouts.output != ImageLayout::nhwc)
    return "the image is not channels-last";
  if (inputs[0].rank() < 3 || inputs[0].rank() > 5) return "one to three spatial axes are supported";
  if (!inputs[0].dims.back().is_constant() || !inputs[1].is_static()) return "the number of channels is not known";
  if (conv.group > kMaxBlocks) return fmt::format("more than {} groups", kMaxBlocks);
  if (inputs.size() > kBias && inputs[kBias].dtype != DType::undefined && !is_float_type(inputs[kBias].dtype)) {
    return fmt::format("a bias of {}", to_string(inputs[kBias].dtype));
  }
  return refuses_epilogue(conv.epilogue, inputs, Conv::kFirstEpilogueInput, outputs);
}

PlainKernelSpec plain_convolution(const KernelSpec& spec) {
  return {.kind = view_of_conv(spec.op).is_transposed ? PlainKernelSpec::Kind::transposed_convolution
                                                      : PlainKernelSpec::Kind::convolution,
          .a = spec.inputs[0].dtype,
          .b = spec.inputs[1].dtype,
          .bias = spec.inputs.size() > kBias ? spec.inputs[kBias].dtype : DType::undefined,
          .output = spec.outputs[0].dtype};
}

class PlainConvKernel final : public Kernel {
 public:
  PlainConvKernel(const KernelSpec& spec, EpilogueSpec epilogue, const LoadedModule& module)
      : op_(spec.op),
        epilogue_(std::move(epilogue)),
        has_bias_(plain_convolution(spec).bias != DType::undefined),
        function_(module.function(kPlainEntry)) {}

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& weights = launch.inputs[1];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    const ConvView conv = view_of_conv(op_);
    PlainImage from{};
    from.x = x.data;
    from.weights = weights.data;
    from.bias = has_bias_ ? launch.inputs[kBias].data : nullptr;
    from.pitch = x.pitch;
    from.channels = static_cast<int>(x.dims.back() / conv.group);
    from.columns = static_cast<int>(y.dims.back() / conv.group);
    from.taps = 1;
    std::int64_t rows = y.dim(0);
    const int spatial = x.rank() - 2;
    for (int i = 0; i < 3; ++i) {
      const int axis = i - (3 - spatial);  // the first of three axes are missing
      const bool exists = axis >= 0;
      const auto a = static_cast<std::size_t>(std::max(axis, 0));
      from.size[i] = exists ? static_cast<int>(x.dim(1 + axis)) : 1;
      from.out[i] = exists ? static_cast<int>(y.dim(1 + axis)) : 1;
      from.kernel[i] = exists ? static_cast<int>(weights.dim(2 + axis)) : 1;
      from.stride[i] = exists ? static_cast<int>(conv.window.strides[a]) : 1;
      from.dilation[i] = exists ? static_cast<int>(conv.window.dilations[a]) : 1;
      from.pad[i] = exists ? static_cast<int>(conv.window.padding(axis, x.dim(1 + axis), weights.dim(2 + axis))[0]) : 0;
      from.taps *= from.kernel[i];
      rows *= from.out[i];
    }
    from.k = from.taps * from.channels;
    GemmArguments arguments{};
    arguments.m = static_cast<int>(rows);
    bind_output(y, kPlainUnit, arguments);
    bind_operands(epilogue_, launch.inputs, Conv::kFirstEpilogueInput, y, arguments);
    if (from.columns % kPlainUnit != 0) arguments.aligned = 0;
    cuda_stream(launch).launch(grid_of(function_, rows, from.columns, conv.group), arguments, from);
  }
  bool accepts_pitched_input(int index) const override { return index == 0 || index >= Conv::kFirstEpilogueInput; }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  OpPtr op_;
  EpilogueSpec epilogue_;
  bool has_bias_;
  Function function_;
};

void conv_candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  offer(problem, traits, refuses_convolution(view_of_conv(problem.op), problem.inputs, problem.outputs), out);
}
Source conv_source(const KernelSpec& spec, const DeviceTraits&) {
  const ConvView conv = view_of_conv(spec.op);
  const EpilogueSpec epilogue = checked_epilogue(spec, conv.epilogue, Conv::kFirstEpilogueInput,
                                                 refuses_convolution(conv, spec.inputs, spec.outputs));
  return {plain_text(plain_convolution(spec), epilogue), {std::string(kPlainEntry)}};
}
std::unique_ptr<Kernel> conv_make(const KernelSpec& spec, const LoadedModule& module) {
  const ConvView conv = view_of_conv(spec.op);
  EpilogueSpec epilogue = checked_epilogue(spec, conv.epilogue, Conv::kFirstEpilogueInput,
                                           refuses_convolution(conv, spec.inputs, spec.outputs));
  return std::make_unique<PlainConvKernel>(spec, std::move(epilogue), module);
}

EpilogueSpec matmul_epilogue(const KernelSpec& spec) {
  const MatMul& matmul = matmul_of(spec.op);
  return checked_epilogue(spec, matmul.epilogue(), MatMul::kFirstEpilogueInput,
                          refuses_matmul(matmul, spec.inputs, spec.outputs));
}

}  // namespace

const CudaTactic kGemmPlain{"gemm.plain",
                            "MatMul",
                            [](const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
                              offer(problem, traits,
                                    refuses_matmul(matmul_of(problem.op), problem.inputs, problem.outputs), out);
                            },
                            nullptr,
                            [](const KernelSpec& spec, const DeviceTraits&) {
                              const EpilogueSpec epilogue = matmul_epilogue(spec);
                              return Source{plain_text(plain_matmul(spec), epilogue), {std::string(kPlainEntry)}};
                            },
                            [](const KernelSpec& spec, const LoadedModule& module) -> std::unique_ptr<Kernel> {
                              return std::make_unique<PlainMatMulKernel>(spec, matmul_epilogue(spec), module);
                            }};
const CudaTactic kConvPlain{"conv.plain", "Conv", conv_candidates, nullptr, conv_source, conv_make};
const CudaTactic kConvTransposePlain{
    "conv_transpose.plain", "ConvTranspose", conv_candidates, nullptr, conv_source, conv_make};

}  // namespace tenfold::cuda
