// Conv with one input and one output channel in each group: conv.depthwise.
#include <algorithm>

#include "backend/cpu/conv_support.hpp"
#include "backend/cpu/finish_plan.hpp"
#include "backend/cpu/gemm_support.hpp"
#include "backend/cpu/kernels/depthwise.hpp"

namespace tenfold::cpu {
namespace {

class DepthwiseKernel final : public Kernel {
 public:
  /// weights: [kernel position][padded channels], then zeros for the columns outside the image.
  explicit DepthwiseKernel(const KernelSpec& spec)
      : op_(spec.op),
        sizes_(conv_sizes(conv_of(spec.op), spec.inputs[1])),
        finish_(conv_of(spec.op).epilogue(), Conv::kFirstEpilogueInput),
        weights_(packed_floats(spec, 0, padded_columns(sizes_.group) * sizes_.taps())),
        zeros_(packed_floats(spec, 1, padded_columns(sizes_.group))) {}

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    DepthwiseArgs args;
    args.geometry = conv_rows(conv_of(op_), sizes_, x, y);
    args.geometry.zeros = zeros_;
    args.channels = sizes_.group;
    args.x = x.as<const float>();
    args.x_stride = x.pitch;
    args.weights = weights_;
    args.weights_stride = padded_columns(sizes_.group);
    args.y = y.as<float>();
    args.y_stride = y.pitch;
    args.finish.bias = conv_bias(launch);
    finish_.resolve(launch, y.dims, args.finish);
    TENFOLD_FOR_TIER(kDepthwiseKernels).run(args, workers_of(launch));
  }
  bool accepts_pitched_input(int index) const override { return index == 0 || finish_.reads(index); }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  OpPtr op_;
  ConvSizes sizes_;
  FinishPlan finish_;
  const float* weights_;
  const float* zeros_;
};

std::optional<std::string> refuses(const Conv& conv, std::span<const TensorType> inputs,
                                   std::span<const TensorType> outputs) {
  if (auto refusal = refuses_conv(conv, inputs, outputs)) return refusal;
  const ConvSizes sizes = conv_sizes(conv, inputs[1]);
  if (sizes.in_channels != 1 || sizes.out_channels != 1) return "a group has more than one channel";
  if (conv.spatial_rank() > 2) return "three spatial axes";
  // The table of column pointers; the numbers are bounded so that nothing overflows.
  constexpr std::int64_t kMaxNumber = 1 << 20;
  ConvRows geometry;
  const std::size_t last = conv.window().strides.size() - 1;
  geometry.kernel[1] = std::min(sizes.kernel[1], kMaxNumber);
  geometry.kernel[2] = std::min(sizes.kernel[2], kMaxNumber);
  geometry.stride[2] = std::min(conv.window().strides[last], kMaxNumber);
  geometry.dilation[2] = std::min(conv.window().dilations[last], kMaxNumber);
  const std::int64_t columns = depthwise_table_width(geometry, kDepthwiseLine);
  if (columns > static_cast<std::int64_t>(CpuStream::kScratchBytes / sizeof(float*)) / geometry.kernel[1]) {
    return fmt::format("the window is too large: a piece of a line reads {} columns in {} rows", columns,
                       sizes.kernel[1]);
  }
  return std::nullopt;
}

void candidates(const Problem& problem, std::vector<Candidate>& out) {
  const Conv& conv = conv_of(problem.op);
  auto refusal = refuses(conv, problem.inputs, problem.outputs);
  if (!refusal && !is_float32(problem.constants[1])) refusal = "the weights are computed";
  if (refusal) {
    out.push_back({.refusal = *refusal});
    return;
  }
  const ConvWork work = conv_work(problem, conv_sizes(conv, problem.inputs[1]));
  out.push_back({.estimated_us = estimate_us(work.flops, work.bytes, 0.5)});
}

PackedWeights pack(const Problem& problem, const Candidate&) {
  const ConvSizes sizes = conv_sizes(conv_of(problem.op), problem.inputs[1]);
  const float* weights = problem.constants[1]->as<float>().data();
  const std::int64_t taps = sizes.taps();
  PackedWeights packed;
  packed.blobs.push_back(pack_depthwise(weights, taps, sizes.group));
  packed.blobs.emplace_back(static_cast<std::size_t>(padded_columns(sizes.group)) * sizeof(float));
  packed.consumed_inputs = {1};
  return packed;
}

std::unique_ptr<Kernel> make(const KernelSpec& spec) {
  const auto refusal = refuses(conv_of(spec.op), spec.inputs, spec.outputs);
  require(!refusal, Code::incompatible_engine, "tactic '{}' cannot run this Conv: {}", spec.tactic,
          refusal.value_or(""));
  require(spec.parameters.empty(), Code::incompatible_engine, "tactic '{}' takes no parameters", spec.tactic);
  return std::make_unique<DepthwiseKernel>(spec);
}

}  // namespace

const CpuTactic kConvDepthwise{"conv.depthwise", "Conv", candidates, pack, make};

}  // namespace tenfold::cpu
