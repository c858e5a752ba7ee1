// Conv on channels-last images as a matrix product over packed weights.
//   conv.gemm1x1: pixels are rows
//   conv.strassen: the same with an eighth fewer multiplications
//   conv.direct:  rows are found through pointers, one for each pixel and kernel position; any window, any group
//   conv.lines:   lines of the kernel are rows' neighbours in memory and need no pointers; for few channels
//   conv.dots:    the same for a few channels out: lanes run along the lines
#include <algorithm>
#include <cmath>

#include "backend/cpu/conv_support.hpp"
#include "backend/cpu/finish_plan.hpp"
#include "backend/cpu/gemm_support.hpp"

namespace tenfold::cpu {
namespace {

enum class Way { plain, strassen, direct, lines, dots };
/// Do their kernels copy lines of the image together? See GemmKernels::run_lines.
bool goes_by_lines(Way way) { return way == Way::lines || way == Way::dots; }

/// Images one pixel wide are lines that stand upright: their windows are lines too.
bool is_upright(const Conv& conv, const ConvSizes& sizes, const TensorType& x) {
  if (conv.has_planar_input() || x.rank() < 4 || sizes.kernel[2] != 1 ||
      x.dims[static_cast<std::size_t>(x.rank() - 2)] != Dim(1))
    return false;
  const auto padding = conv.window().padding(conv.spatial_rank() - 1, 1, 1);
  return padding[0] == 0 && padding[1] == 0;
}
/// Positions of a line of the kernel, and lines.
struct KernelLines {
  std::int64_t positions = 1, dilation = 1, count = 1;
};
KernelLines kernel_lines(const Conv& conv, const ConvSizes& sizes, const TensorType& x) {
  const bool upright = is_upright(conv, sizes, x);
  const std::vector<std::int64_t>& dilations = conv.window().dilations;
  const std::int64_t positions = upright ? sizes.kernel[1] : sizes.kernel[2];
  return {positions, dilations[dilations.size() - (upright ? 2 : 1)], sizes.taps() / positions};
}
/// Axes [z, y, x = 1] as [1, z, y].
void lay_down(ConvRows& rows) {
  for (auto* axes : {&rows.in, &rows.out, &rows.kernel, &rows.stride, &rows.dilation}) {
    (*axes)[2] = (*axes)[1];
    (*axes)[1] = (*axes)[0];
    (*axes)[0] = 1;
  }
  rows.pad[2] = rows.pad[1];
  rows.pad[1] = rows.pad[0];
  rows.pad[0] = 0;
}

/// Pointer tables of some register tiles must fit in the scratch memory of a thread.
constexpr std::int64_t kMaxTaps = 4096;
/// Multiply-adds of a window beyond which its weights are taken in several parts.
constexpr std::int64_t kDeepWindow = 4096;

class ConvGemmKernel final : public Kernel {
 public:
  /// weights: panels [group][panel][tap][channel][column], and for conv.direct the zeros outside the image; of
  /// conv.dots see GemmArgs::dots.
  ConvGemmKernel(const KernelSpec& spec, Way way)
      : op_(spec.op),
        sizes_(conv_sizes(conv_of(spec.op), spec.inputs[1])),
        tiling_(way == Way::dots       ? dot_tiling_from(spec.parameters)
                : way == Way::strassen ? strassen_tiling_from(spec.parameters)
                                       : tiling_from(spec.parameters)),
        finish_(conv_of(spec.op).epilogue(), Conv::kFirstEpilogueInput),
        panels_(packed_floats(spec, 0, panel_floats(spec, way))),
        way_(way),
        is_upright_(is_upright(conv_of(spec.op), sizes_, spec.inputs[0])),
        zeros_(way == Way::direct ? packed_floats(spec, 1, sizes_.in_channels) : nullptr),
        residual_(find_residual(spec, finish_, way,
                                goes_by_lines(way) || tiling_.depth_block >= sizes_.taps() * sizes_.in_channels)) {}

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    ConvRows rows;
    GemmArgs args;
    if (way_ != Way::plain && way_ != Way::strassen) {
      rows = conv_rows(conv_of(op_), sizes_, x, y);
      rows.zeros = zeros_;
      if (is_upright_ && way_ != Way::direct) lay_down(rows);
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
    args.dots = way_ == Way::dots;
    args.c = y.as<float>();
    args.c_stride = y.pitch;
    args.tiling = tiling_;
    args.next_weights = launch.next_weights;
    args.finish.bias = conv_bias(launch);
    finish_.resolve(launch, y.dims, args.finish);
    const GemmKernels& kernels = TENFOLD_FOR_TIER(kGemmKernels);
    if (way_ == Way::strassen) {
      TENFOLD_FOR_TIER(kStrassenKernels).run({args, sample_rows(y.dims)}, workers_of(launch));
    } else {
      (goes_by_lines(way_) ? kernels.run_lines : kernels.run)(args, workers_of(launch));
    }
  }
  WeightPanels first_weights() const override {
    if ((way_ != Way::plain && way_ != Way::direct) || sizes_.group != 1) return {};
    return weight_panels(panels_, sizes_.out_channels, sizes_.taps() * sizes_.in_channels, tiling_);
  }
  bool accepts_pitched_input(int index) const override {
    return (index == 0 && !conv_of(op_).has_planar_input()) || finish_.reads(index);
  }
  bool accepts_pitched_output(int) const override { return true; }
  bool can_run_in_place(int index) const override { return index == residual_; }

 private:
  /// The input whose place the result may take; -1: none. Tiles add a residual when they store a result for the first
  /// time, if sums do not stop at blocks of the depth.
  static int find_residual(const KernelSpec& spec, const FinishPlan& finish, Way way, bool stores_once) {
    const bool has_bias = spec.inputs.size() > 2 && spec.inputs[2].dtype != DType::undefined;
    return way != Way::strassen && stores_once ? finish.residual_input(spec.inputs, spec.outputs[0], has_bias) : -1;
  }
  static std::int64_t panel_floats(const KernelSpec& spec, Way way) {
    const Conv& conv = conv_of(spec.op);
    const ConvSizes sizes = conv_sizes(conv, spec.inputs[1]);
    if (way == Way::strassen) return strassen_floats(sizes.in_channels, sizes.out_channels);
    if (way != Way::dots) return sizes.group * padded_columns(sizes.out_channels) * sizes.taps() * sizes.in_channels;
    const KernelLines lines = kernel_lines(conv, sizes, spec.inputs[0]);
    return sizes.group * sizes.out_channels * lines.count * padded_dot_depth(lines.positions * sizes.in_channels);
  }

  OpPtr op_;
  ConvSizes sizes_;
  GemmTiling tiling_;
  FinishPlan finish_;
  const float* panels_;
  Way way_;
  bool is_upright_;
  const float* zeros_;
  int residual_;
};

std::optional<std::string> refuses(const Conv& conv, std::span<const TensorType> inputs,
                                   std::span<const TensorType> outputs, Way way) {
  const Planes planes = goes_by_lines(way) ? Planes::taken : Planes::refused;
  if (auto refusal = refuses_conv(conv, inputs, outputs, planes)) return refusal;
  const ConvSizes sizes = conv_sizes(conv, inputs[1]);
  if (way == Way::plain || way == Way::strassen) {
    if (!is_plain_product(conv, sizes)) return "the window is more than one pixel at stride 1";
    if (way == Way::plain) return std::nullopt;
    return sizes.group != 1 ? "the channels are in groups" : refuses_strassen(sizes.in_channels, sizes.out_channels);
  }
  if (is_plain_product(conv, sizes) && way != Way::dots)
    return "the window is one pixel: conv.gemm1x1 does it without pointers";
  if (sizes.group > 1 && sizes.in_channels == 1 && sizes.out_channels == 1)
    return "one channel a group fills no vector";
  if (way == Way::dots && sizes.out_channels > kMaxDotColumns) {
    return fmt::format("{} output channels in a group, at most {} are taken by dot products", sizes.out_channels,
                       kMaxDotColumns);
  }
  if (goes_by_lines(way)) {
    if (conv.has_planar_input() && sizes.group != 1) return "planes in groups";
    const KernelLines lines = kernel_lines(conv, sizes, inputs[0]);
    if (way == Way::lines && lines.positions == 1)
      return "a line of the kernel is one pixel: conv.direct does the same";
    if (way == Way::dots && lines.positions > 1 && lines.dilation > 1) return "a line of the kernel is dilated";
    const std::int64_t reach = (lines.positions - 1) * std::min(lines.dilation, kMaxLinesDepth) + 1;
    const std::int64_t window = lines.count * reach * sizes.in_channels;
    if (window > kMaxLinesDepth) {
      return fmt::format("a window has {} numbers, at most {} are taken by lines", window, kMaxLinesDepth);
    }
    return std::nullopt;
  }
  if (sizes.taps() > kMaxTaps)
    return fmt::format("the kernel has {} positions, at most {} are supported", sizes.taps(), kMaxTaps);
  return std::nullopt;
}

void candidates(const Problem& problem, std::vector<Candidate>& out, Way way) {
  const Conv& conv = conv_of(problem.op);
  auto refusal = refuses(conv, problem.inputs, problem.outputs, way);
  if (!refusal && !is_float32(problem.constants[1])) refusal = "the weights are computed";
  if (!refusal && way == Way::strassen) {
    const ConvSizes sizes = conv_sizes(conv, problem.inputs[1]);
    refusal = refuses_strassen(problem, sample_rows(problem.output_shapes[0]), sizes.in_channels, sizes.out_channels);
  }
  if (refusal) {
    out.push_back({.refusal = *refusal});
    return;
  }
  const ConvSizes sizes = conv_sizes(conv, problem.inputs[1]);
  const ConvWork work = conv_work(problem, sizes);
  const double columns = static_cast<double>(sizes.out_channels);
  // Short rows at each tap keep the multiply-adds waiting.
  const std::int64_t line = kernel_lines(conv, sizes, problem.inputs[0]).positions;
  const auto depth = static_cast<double>((way == Way::lines ? line : 1) * sizes.in_channels);
  if (way == Way::dots) {
    // Every result needs its lanes added up.
    const double efficiency = 0.4 / (1 + 20 / static_cast<double>(sizes.taps() * sizes.in_channels));
    for (const std::int64_t row_block : {96, 384}) {
      out.push_back({.parameters = {row_block}, .estimated_us = estimate_us(work.flops, work.bytes, efficiency)});
    }
    return;
  }
  const double efficiency =
      way == Way::plain || way == Way::strassen ? 0.85 : 0.85 * depth / (depth + 6) * (way == Way::lines ? 0.98 : 1);
  const double filled = columns / static_cast<double>(padded_columns(sizes.out_channels));
  const std::int64_t rows = leading(problem.output_shapes[0]);
  const std::int64_t whole_depth = sizes.in_channels * sizes.taps();
  std::vector<GemmTiling> tilings;
  switch (way) {
    case Way::plain:
      tilings = plain_tilings(rows, !problem.outputs[0].is_static(), sizes.out_channels, whole_depth);
      break;
    case Way::strassen:
      tilings = strassen_tilings(sample_rows(problem.output_shapes[0]), sizes.out_channels, sizes.in_channels);
      break;
    case Way::direct:
      // Deep windows outgrow the cache: then some taps at a time, for many rows.
      tilings = whole_depth <= kDeepWindow
                    ? promising_tilings(rows, sizes.out_channels, whole_depth,
                                        {{kWholeDepth, 96}, {kWholeDepth, 24}, {kWholeDepth, 384}})
                    : promising_tilings(rows, sizes.out_channels, whole_depth,
                                        {{1024, 384}, {kWholeDepth, 96}, {2048, 192}, {kWholeDepth, 24}});
      break;
    case Way::lines:
      tilings = promising_tilings(rows, sizes.out_channels, whole_depth, {{kWholeDepth, 96}, {kWholeDepth, 384}});
      break;
    case Way::dots:
      break;
  }
  // Tilings come with the most promising first.
  double rank = way == Way::strassen ? strassen_share(sizes.in_channels, sizes.out_channels) : 1;
  for (const GemmTiling& tiling : tilings) {
    const double wide = std::min(1.0, 0.6 + 0.4 * columns / (tiling.tile_vectors * vector_floats(tier())));
    out.push_back({.parameters = parameters_of(tiling),
                   .estimated_us = rank * estimate_us(work.flops / filled, work.bytes, efficiency * wide)});
    rank += kRankStep;
  }
}

PackedWeights pack(const Problem& problem, const Candidate& candidate, Way way) {
  const ConvSizes sizes = conv_sizes(conv_of(problem.op), problem.inputs[1]);
  const float* weights = problem.constants[1]->as<float>().data();
  const std::int64_t taps = sizes.taps(), channels = sizes.in_channels;
  PackedWeights packed;
  std::vector<std::byte>& panels = packed.blobs.emplace_back();
  for (std::int64_t g = 0; g < sizes.group; ++g) {
    const float* w = weights + g * sizes.out_channels * channels * taps;
    if (way == Way::dots) {
      const KernelLines lines = kernel_lines(conv_of(problem.op), sizes, problem.inputs[0]);
      pack_dots(
          lines.count, lines.positions * channels, sizes.out_channels,
          [&](std::int64_t line, std::int64_t k, std::int64_t n) {
            return w[(n * channels + k % channels) * taps + line * lines.positions + k / channels];
          },
          panels);
      continue;
    }
    const GemmTiling tiling = tiling_from(candidate.parameters);
    const auto value = [&](std::int64_t k, std::int64_t n) {
      return w[(n * channels + k % channels) * taps + k / channels];
    };
    const std::vector<std::byte> group =
        way == Way::strassen ? pack_strassen(channels, sizes.out_channels, tiling, value)
                             : pack_panels(taps * channels, sizes.out_channels, tiling.tile_vectors, value);
    panels.insert(panels.end(), group.begin(), group.end());
  }
  if (way == Way::direct) packed.blobs.emplace_back(static_cast<std::size_t>(sizes.in_channels) * sizeof(float));
  packed.consumed_inputs = {1};
  return packed;
}

std::unique_ptr<Kernel> make(const KernelSpec& spec, Way way) {
  const auto refusal = refuses(conv_of(spec.op), spec.inputs, spec.outputs, way);
  require(!refusal, Code::incompatible_engine, "tactic '{}' cannot run this Conv: {}", spec.tactic,
          refusal.value_or(""));
  return std::make_unique<ConvGemmKernel>(spec, way);
}

template <Way kWay>
constexpr CpuTactic tactic(std::string_view name) {
  return {name, "Conv", [](const Problem& problem, std::vector<Candidate>& out) { candidates(problem, out, kWay); },
          [](const Problem& problem, const Candidate& candidate) { return pack(problem, candidate, kWay); },
          [](const KernelSpec& spec) { return make(spec, kWay); }};
}

}  // namespace

const CpuTactic kConvGemm = tactic<Way::plain>("conv.gemm1x1");
const CpuTactic kConvStrassen = tactic<Way::strassen>("conv.strassen");
const CpuTactic kConvDirect = tactic<Way::direct>("conv.direct");
const CpuTactic kConvLines = tactic<Way::lines>("conv.lines");
const CpuTactic kConvDots = tactic<Way::dots>("conv.dots");

}  // namespace tenfold::cpu
