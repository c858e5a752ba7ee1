// ConvTranspose on channels-last images: convtranspose.phases, and convtranspose.dots for a few channels out. Where the
// windows of a line lie side by side, convtranspose.lines and convtranspose.line_dots make all that one input pixel
// gives to an output line the columns of one product: results are written without gaps, and every input is read once
// for them.
#include <algorithm>
#include <numeric>
#include <utility>

#include "backend/cpu/conv_support.hpp"
#include "backend/cpu/finish_plan.hpp"
#include "backend/cpu/gemm_support.hpp"
#include "backend/cpu/kernels/conv_transpose.hpp"

namespace tenfold::cpu {

PhaseTaps phase_taps(std::int64_t phase, std::int64_t kernel, std::int64_t stride, std::int64_t dilation) {
  // k * dilation = phase (mod stride) repeats every stride / gcd(stride, dilation).
  PhaseTaps taps;
  taps.step = stride / std::gcd(stride, dilation);
  for (taps.first = 0; taps.first < taps.step; ++taps.first) {
    if (taps.first * dilation % stride == phase) {
      taps.count = taps.first < kernel ? (kernel - taps.first + taps.step - 1) / taps.step : 0;
      return taps;
    }
  }
  taps.first = 0;
  return taps;  // no kernel position serves this phase
}

namespace {

const ConvTranspose& op_of(const OpPtr& op) {
  const auto* conv = op_cast<ConvTranspose>(op);
  ensure(conv != nullptr, "a ConvTranspose tactic was given operator {}", op->type());
  return *conv;
}

/// How a tactic computes: see the names at the end of this file.
struct Way {
  bool dots = false;
  bool joins = false;  ///< the pixels under a window of a line, times channels, are columns
};

/// Why the pixels that a window covers in a line cannot be columns.
std::optional<std::string> refuses_joining(const ConvTranspose& conv, std::int64_t kernel) {
  const auto line = static_cast<std::size_t>(conv.spatial_rank() - 1);
  const Window& window = conv.window();
  const std::int64_t stride = window.strides[line];
  if (stride < 2) return "windows move by one pixel";
  if (kernel != stride || window.dilations[line] != 1) return "windows of a line overlap or leave gaps";
  if (window.pads[line] != 0 || window.pads[window.strides.size() + line] != 0) return "lines are cut by padding";
  if (conv.spec().output_padding[line] != 0) return "lines are longer than their windows";
  if (conv.group() != 1) return "channels come in groups";
  if (conv.epilogue().num_extra_inputs() != 0) return "the epilogue has operands";
  return std::nullopt;
}

constexpr std::int64_t kMaxTaps = 4096;
constexpr std::int64_t kMaxStride = 64;

std::optional<std::string> refuses(const ConvTranspose& conv, std::span<const TensorType> inputs,
                                   std::span<const TensorType> outputs, Way way) {
  if (inputs.size() < 2 || outputs.empty()) return "operands are missing";
  if (conv.layout() != ImageLayout::nhwc) return "the layout is nchw";
  if (!is_float32(inputs[0]) || !is_float32(inputs[1])) return "only float32 is supported";
  if (inputs.size() > 2 && inputs[2].dtype != DType::undefined && !is_float32(inputs[2]))
    return "the bias is no float32";
  if (!fits_in_panels(inputs[1]))
    return fmt::format("weights of {} are computed, empty or too large", to_string(inputs[1]));
  const int rank = conv.spatial_rank() + 2;
  if (inputs[0].rank() != rank || inputs[1].rank() != rank) return "ranks of input and weights differ";
  const Shape weights = inputs[1].static_shape();
  if (weights[0] % conv.group() != 0) return "the input channels are no multiple of the group";
  if (inputs[0].dims.back() != Dim(weights[0])) {
    return fmt::format("the input has {} channels, the weights are for {}", inputs[0].dims.back().to_string(),
                       weights[0]);
  }
  std::int64_t taps = 1;
  for (std::size_t i = 2; i < weights.size(); ++i) taps *= weights[i];
  if (taps > kMaxTaps) return fmt::format("the kernel has {} positions, at most {} are supported", taps, kMaxTaps);
  for (const std::int64_t stride : conv.window().strides) {
    if (stride > kMaxStride) return fmt::format("a stride of {} is larger than {}", stride, kMaxStride);
  }
  if (way.joins) {
    if (auto refusal = refuses_joining(conv, weights.back())) return refusal;
  }
  const std::int64_t columns = way.joins ? weights[1] * weights.back() : weights[1];
  if (way.dots && columns > kMaxDotColumns) {
    return fmt::format("{} {}, at most {} are taken by dot products", columns,
                       way.joins ? "channels of the pixels in a window" : "output channels in a group", kMaxDotColumns);
  }
  return FinishPlan::refuses(conv.epilogue(), inputs, ConvTranspose::kFirstEpilogueInput);
}

/// With joined pixels they count as output channels, and the kernel is one pixel wide.
ConvSizes sizes_of(const ConvTranspose& conv, const TensorType& weights, bool joins) {
  const Shape shape = weights.static_shape();
  ConvSizes sizes;
  sizes.group = conv.group();
  sizes.in_channels = shape[0] / conv.group();
  sizes.out_channels = shape[1];
  std::copy(shape.begin() + 2, shape.end(), sizes.kernel.end() - conv.spatial_rank());
  if (joins) sizes.out_channels *= std::exchange(sizes.kernel[2], 1);
  return sizes;
}

class ConvTransposeKernel final : public Kernel {
 public:
  /// weights: panels [group][phase][panel][tap][channel][column], or see ConvTransposeArgs::dots; then zeros outside
  /// the image.
  ConvTransposeKernel(const KernelSpec& spec, Way way)
      : op_(spec.op),
        sizes_(sizes_of(op_of(spec.op), spec.inputs[1], way.joins)),
        way_(way),
        tiling_(way.dots ? dot_tiling_from(spec.parameters) : tiling_from(spec.parameters)),
        finish_(op_of(spec.op).epilogue(), ConvTranspose::kFirstEpilogueInput),
        panels_(packed_floats(spec, 0,
                              sizes_.group * sizes_.taps() *
                                  (way.dots ? sizes_.out_channels * padded_dot_depth(sizes_.in_channels)
                                            : padded_columns(sizes_.out_channels) * sizes_.in_channels))),
        zeros_(packed_floats(spec, 1, sizes_.in_channels)) {}

  std::size_t workspace_bytes(std::span<const TensorView>, std::span<const TensorView>) const override {
    return way_.joins ? sizeof(float) * static_cast<std::size_t>(sizes_.out_channels) : 0;  // a bias for each column
  }
  void run(const Launch& launch) const override {
    const ConvTranspose& conv = op_of(op_);
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    ConvTransposeArgs args;
    ConvRows& g = args.geometry;
    g.batch = x.dim(0);
    const int spatial = conv.spatial_rank();
    for (int i = 0; i < spatial; ++i) {
      const int axis = 3 - spatial + i;
      const auto s = static_cast<std::size_t>(i);
      g.in[axis] = x.dim(1 + i);
      g.out[axis] = y.dim(1 + i);
      g.kernel[axis] = sizes_.kernel[static_cast<std::size_t>(axis)];
      g.stride[axis] = conv.window().strides[s];
      g.dilation[axis] = conv.window().dilations[s];
      g.pad[axis] = conv.window().pads[s];
    }
    g.zeros = zeros_;
    args.columns = sizes_.out_channels;
    args.depth = sizes_.in_channels;
    args.groups = sizes_.group;
    args.x = x.as<const float>();
    args.x_stride = x.pitch;
    args.panels = panels_;
    args.y = y.as<float>();
    args.y_stride = y.pitch;
    args.tiling = tiling_;
    args.dots = way_.dots;
    args.finish.bias = conv_bias(launch);
    finish_.resolve(launch, y.dims, args.finish);
    if (way_.joins) join_pixels(launch, args);
    TENFOLD_FOR_TIER(kConvTransposeKernels).run(args, workers_of(launch));
  }
  bool accepts_pitched_input(int index) const override { return index == 0 || finish_.reads(index); }
  bool accepts_pitched_output(int) const override { return !way_.joins; }

 private:
  /// An output pixel becomes all pixels that a window covers in a line.
  void join_pixels(const Launch& launch, ConvTransposeArgs& args) const {
    ConvRows& g = args.geometry;
    const std::int64_t pixels = std::exchange(g.stride[2], 1);
    g.out[2] = g.in[2];
    args.y_stride *= pixels;
    if (args.finish.bias == nullptr) return;
    auto* bias = reinterpret_cast<float*>(launch.workspace.data());
    const std::int64_t channels = sizes_.out_channels / pixels;
    for (std::int64_t i = 0; i < pixels; ++i) std::copy_n(args.finish.bias, channels, bias + i * channels);
    args.finish.bias = bias;
  }

  OpPtr op_;
  ConvSizes sizes_;
  Way way_;
  GemmTiling tiling_;
  FinishPlan finish_;
  const float* panels_;
  const float* zeros_;
};

template <bool kDots, bool kJoins>
void candidates(const Problem& problem, std::vector<Candidate>& out) {
  const ConvTranspose& conv = op_of(problem.op);
  auto refusal = refuses(conv, problem.inputs, problem.outputs, {kDots, kJoins});
  if (!refusal && !is_float32(problem.constants[1])) refusal = "the weights are computed";
  if (refusal) {
    out.push_back({.refusal = *refusal});
    return;
  }
  const ConvSizes sizes = sizes_of(conv, problem.inputs[1], kJoins);
  const double x = static_cast<double>(num_elements(problem.input_shapes[0]));
  const double y = static_cast<double>(num_elements(problem.output_shapes[0]));
  const double flops = 2 * x * static_cast<double>(sizes.out_channels * sizes.taps());
  const double bytes = 4 * (x + y + static_cast<double>(num_elements(problem.input_shapes[1])));
  const std::int64_t rows = leading(problem.input_shapes[0]);
  if (kDots) {
    for (const std::int64_t row_block : {96, 384}) {
      out.push_back({.parameters = {row_block}, .estimated_us = estimate_us(flops, bytes, 0.2)});
    }
    return;
  }
  for (const GemmTiling& tiling :
       promising_tilings(rows, sizes.out_channels, sizes.in_channels, {{kWholeDepth, 96}, {kWholeDepth, 384}})) {
    out.push_back({.parameters = parameters_of(tiling), .estimated_us = estimate_us(flops, bytes, 0.6)});
  }
}

template <bool kDots, bool kJoins>
PackedWeights pack(const Problem& problem, const Candidate& candidate) {
  const ConvTranspose& conv = op_of(problem.op);
  const ConvSizes sizes = sizes_of(conv, problem.inputs[1], kJoins);
  const int tile_vectors = kDots ? 0 : tiling_from(candidate.parameters).tile_vectors;
  const float* weights = problem.constants[1]->as<float>().data();
  std::array<std::int64_t, 3> stride{1, 1, 1}, dilation{1, 1, 1};
  std::copy(conv.window().strides.begin(), conv.window().strides.end(), stride.end() - conv.spatial_rank());
  std::copy(conv.window().dilations.begin(), conv.window().dilations.end(), dilation.end() - conv.spatial_rank());
  // Joined, a filter's lines are columns: those of one pixel after the other, each with all channels.
  const std::int64_t pixels = kJoins ? std::exchange(stride[2], 1) : 1;
  const std::int64_t channels = sizes.out_channels / pixels;

  PackedWeights packed;
  std::vector<std::byte>& panels = packed.blobs.emplace_back();
  std::vector<std::int64_t> positions;  // of one phase, as offsets within a filter
  for (std::int64_t group = 0; group < sizes.group; ++group) {
    const float* w = weights + group * sizes.in_channels * sizes.out_channels * sizes.taps();
    for (std::int64_t pz = 0; pz < stride[0]; ++pz) {
      for (std::int64_t py = 0; py < stride[1]; ++py) {
        for (std::int64_t px = 0; px < stride[2]; ++px) {
          const PhaseTaps z = phase_taps(pz, sizes.kernel[0], stride[0], dilation[0]);
          const PhaseTaps y = phase_taps(py, sizes.kernel[1], stride[1], dilation[1]);
          const PhaseTaps x = phase_taps(px, sizes.kernel[2], stride[2], dilation[2]);
          positions.clear();
          for (std::int64_t i = 0; i < z.count; ++i) {
            for (std::int64_t j = 0; j < y.count; ++j) {
              for (std::int64_t k = 0; k < x.count; ++k) {
                positions.push_back(((z.first + i * z.step) * sizes.kernel[1] + y.first + j * y.step) *
                                        sizes.kernel[2] +
                                    x.first + k * x.step);
              }
            }
          }
          const auto num_taps = static_cast<std::int64_t>(positions.size());
          const auto weight = [&](std::int64_t tap, std::int64_t c, std::int64_t n) {
            const std::int64_t position = positions[static_cast<std::size_t>(tap)];
            return w[((c * channels + n % channels) * sizes.taps() + position) * pixels + n / channels];
          };
          if (kDots) {
            pack_dots(num_taps, sizes.in_channels, sizes.out_channels, weight, panels);
            continue;
          }
          const std::vector<std::byte> phase = pack_panels(
              num_taps * sizes.in_channels, sizes.out_channels, tile_vectors,
              [&](std::int64_t k, std::int64_t n) { return weight(k / sizes.in_channels, k % sizes.in_channels, n); });
          panels.insert(panels.end(), phase.begin(), phase.end());
        }
      }
    }
  }
  packed.blobs.emplace_back(static_cast<std::size_t>(sizes.in_channels) * sizeof(float));
  packed.consumed_inputs = {1};
  return packed;
}

template <bool kDots, bool kJoins>
std::unique_ptr<Kernel> make(const KernelSpec& spec) {
  const auto refusal = refuses(op_of(spec.op), spec.inputs, spec.outputs, {kDots, kJoins});
  require(!refusal, Code::incompatible_engine, "tactic '{}' cannot run this ConvTranspose: {}", spec.tactic,
          refusal.value_or(""));
  return std::make_unique<ConvTransposeKernel>(spec, Way{kDots, kJoins});
}

}  // namespace

#define TENFOLD_WAY(...) candidates<__VA_ARGS__>, pack<__VA_ARGS__>, make<__VA_ARGS__>
const CpuTactic kConvTransposePhases{"convtranspose.phases", "ConvTranspose", TENFOLD_WAY(false, false)};
const CpuTactic kConvTransposeDots{"convtranspose.dots", "ConvTranspose", TENFOLD_WAY(true, false)};
const CpuTactic kConvTransposeLines{"convtranspose.lines", "ConvTranspose", TENFOLD_WAY(false, true)};
const CpuTactic kConvTransposeLineDots{"convtranspose.line_dots", "ConvTranspose", TENFOLD_WAY(true, true)};
#undef TENFOLD_WAY

}  // namespace tenfold::cpu
