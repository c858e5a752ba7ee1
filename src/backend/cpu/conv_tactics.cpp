// Conv on channels-last images as a matrix product over packed weights.
//   conv.gemm1x1: pixels are rows
//   conv.direct:  rows are found through pointers, one for each pixel and kernel position; any window, any group
#include <algorithm>
#include <cmath>

#include "backend/cpu/conv_support.hpp"
#include "backend/cpu/finish_plan.hpp"
#include "backend/cpu/gemm_support.hpp"

namespace tenfold::cpu {
namespace {

/// Pointer tables of a block of rows must fit in the scratch memory of a thread.
constexpr std::int64_t kMaxTaps = 4096;

class ConvGemmKernel final : public Kernel {
 public:
  /// weights: panels [group][panel][tap][channel][column], and for windows the zeros outside the image.
  ConvGemmKernel(const KernelSpec& spec, bool plain)
      : op_(spec.op),
        sizes_(conv_sizes(conv_of(spec.op), spec.inputs[1])),
        tiling_(tiling_from(spec.parameters)),
        finish_(conv_of(spec.op).epilogue(), Conv::kFirstEpilogueInput),
        panels_(packed_floats(spec, 0,
                              sizes_.group * padded_columns(sizes_.out_channels) * sizes_.taps() * sizes_.in_channels)),
        zeros_(plain ? nullptr : packed_floats(spec, 1, sizes_.in_channels)) {}

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    ConvRows rows;
    GemmArgs args;
    if (zeros_ != nullptr) {
      rows = conv_rows(conv_of(op_), sizes_, x, y);
      rows.zeros = zeros_;
      args.conv = &rows;
    }
    args.rows = leading(y.dims);
    args.columns = sizes_.out_channels;
    args.depth = sizes_.in_channels;
    args.taps = sizes_.taps();
    args.groups = sizes_.group;
    args.a = x.as<const float>();
    args.a_stride = x.pitch;
    args.panels = panels_;
    args.c = y.as<float>();
    args.c_stride = y.pitch;
    args.tiling = tiling_;
    args.finish.bias = conv_bias(launch);
    finish_.resolve(launch, y.dims, args.finish);
    TENFOLD_FOR_TIER(kGemmKernels).run(args, workers_of(launch));
  }
  bool accepts_pitched_input(int index) const override { return index == 0 || finish_.reads(index); }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  OpPtr op_;
  ConvSizes sizes_;
  GemmTiling tiling_;
  FinishPlan finish_;
  const float* panels_;
  const float* zeros_;
};

std::optional<std::string> refuses(const Conv& conv, std::span<const TensorType> inputs,
                                   std::span<const TensorType> outputs, bool plain) {
  if (auto refusal = refuses_conv(conv, inputs, outputs)) return refusal;
  const ConvSizes sizes = conv_sizes(conv, inputs[1]);
  if (plain) {
    if (!is_plain_product(conv, sizes)) return "the window is more than one pixel at stride 1";
    return std::nullopt;
  }
  if (is_plain_product(conv, sizes)) return "the window is one pixel: conv.gemm1x1 does it without pointers";
  if (sizes.group > 1 && sizes.in_channels == 1 && sizes.out_channels == 1)
    return "one channel a group fills no vector";
  if (sizes.taps() > kMaxTaps)
    return fmt::format("the kernel has {} positions, at most {} are supported", sizes.taps(), kMaxTaps);
  return std::nullopt;
}

void candidates(const Problem& problem, std::vector<Candidate>& out, bool plain) {
  const Conv& conv = conv_of(problem.op);
  auto refusal = refuses(conv, problem.inputs, problem.outputs, plain);
  if (!refusal && !is_float32(problem.constants[1])) refusal = "the weights are computed";
  if (refusal) {
    out.push_back({.refusal = *refusal});
    return;
  }
  const ConvSizes sizes = conv_sizes(conv, problem.inputs[1]);
  const ConvWork work = conv_work(problem, sizes);
  const double columns = static_cast<double>(sizes.out_channels);
  const double filled = columns / static_cast<double>(padded_columns(sizes.out_channels));
  for (const GemmTiling& tiling :
       promising_tilings(leading(problem.output_shapes[0]), sizes.out_channels, sizes.in_channels * sizes.taps())) {
    const double wide = std::min(1.0, 0.6 + 0.4 * columns / (tiling.tile_vectors * vector_floats(tier())));
    out.push_back({.parameters = parameters_of(tiling),
                   .estimated_us = estimate_us(work.flops / filled, work.bytes, (plain ? 0.85 : 0.8) * wide)});
  }
}

PackedWeights pack(const Problem& problem, const Candidate& candidate, bool plain) {
  const ConvSizes sizes = conv_sizes(conv_of(problem.op), problem.inputs[1]);
  const int tile_vectors = tiling_from(candidate.parameters).tile_vectors;
  const float* weights = problem.constants[1]->as<float>().data();
  const std::int64_t taps = sizes.taps(), channels = sizes.in_channels;
  PackedWeights packed;
  std::vector<std::byte>& panels = packed.blobs.emplace_back();
  for (std::int64_t g = 0; g < sizes.group; ++g) {
    const float* w = weights + g * sizes.out_channels * channels * taps;
    const std::vector<std::byte> group = pack_panels(
        taps * channels, sizes.out_channels, tile_vectors,
        [&](std::int64_t k, std::int64_t n) { return w[(n * channels + k % channels) * taps + k / channels]; });
    panels.insert(panels.end(), group.begin(), group.end());
  }
  if (!plain) packed.blobs.emplace_back(static_cast<std::size_t>(channels) * sizeof(float));
  packed.consumed_inputs = {1};
  return packed;
}

std::unique_ptr<Kernel> make(const KernelSpec& spec, bool plain) {
  const auto refusal = refuses(conv_of(spec.op), spec.inputs, spec.outputs, plain);
  require(!refusal, Code::incompatible_engine, "tactic '{}' cannot run this Conv: {}", spec.tactic,
          refusal.value_or(""));
  return std::make_unique<ConvGemmKernel>(spec, plain);
}

}  // namespace

const CpuTactic kConvGemm{
    "conv.gemm1x1", "Conv", [](const Problem& problem, std::vector<Candidate>& out) { candidates(problem, out, true); },
    [](const Problem& problem, const Candidate& candidate) { return pack(problem, candidate, true); },
    [](const KernelSpec& spec) { return make(spec, true); }};
const CpuTactic kConvDirect{
    "conv.direct", "Conv", [](const Problem& problem, std::vector<Candidate>& out) { candidates(problem, out, false); },
    [](const Problem& problem, const Candidate& candidate) { return pack(problem, candidate, false); },
    [](const KernelSpec& spec) { return make(spec, false); }};

}  // namespace tenfold::cpu
