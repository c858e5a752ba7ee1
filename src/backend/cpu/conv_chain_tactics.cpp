// Operator ConvChain line by line: chain.lines. 1x1 convolutions at stride 1 and depthwise ones, behind one with any
// window; what lies between them stays in the cache.
#include <algorithm>

#include "backend/cpu/conv_support.hpp"
#include "backend/cpu/finish_plan.hpp"
#include "backend/cpu/gemm_support.hpp"
#include "backend/cpu/kernels/conv_chain.hpp"
#include "backend/cpu/kernels/depthwise.hpp"
#include "ops/conv_chain.hpp"

namespace tenfold::cpu {
namespace {

/// Bounds of numbers, so that sizes of scratch memory cannot overflow.
constexpr std::int64_t kMaxWindow = 64, kMaxSize = 1 << 20;

const ConvChain& chain_of(const OpPtr& op) {
  const auto* chain = op_cast<ConvChain>(op);
  ensure(chain != nullptr, "a ConvChain tactic was given operator {}", op->type());
  return *chain;
}

/// A stage as a convolution of its own, with the types that its operands have in the chain.
struct Stage {
  Conv conv;
  ConvSizes sizes;
  std::vector<TensorType> inputs;
  TensorType output;
  ChainStage::Kind kind = ChainStage::Kind::product;
};
/// Requires that the operator's shape rule accepts the types.
std::vector<Stage> stages_of(const ConvChain& chain, std::span<const TensorType> inputs) {
  std::vector<Stage> stages;
  TensorType x = inputs[0];
  for (int i = 0; i < static_cast<int>(chain.stages().size()); ++i) {
    Stage stage{Conv(chain.stages()[static_cast<std::size_t>(i)]), {}, {}, {}};
    const auto bias = static_cast<std::size_t>(ConvChain::bias_input(i));
    stage.inputs = {x, inputs[static_cast<std::size_t>(ConvChain::weights_input(i))],
                    bias < inputs.size() ? inputs[bias] : TensorType{}};
    stage.output = {x.dtype, conv_output_dims(stage.conv.window(), stage.conv.spec().layouts(), stage.conv.group(), x,
                                              stage.inputs[1])};
    stages.push_back(std::move(stage));
    x = stages.back().output;
  }
  return stages;
}

std::optional<std::string> refuses(const ConvChain& chain, std::span<const TensorType> inputs,
                                   std::span<const TensorType> outputs, std::vector<Stage>& stages) {
  if (inputs.size() < 2 * chain.stages().size() || outputs.empty()) return "operands are missing";
  stages = stages_of(chain, inputs);
  std::int64_t bytes = kChainStateBytes;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    Stage& stage = stages[i];
    if (const auto refusal = refuses_conv(stage.conv, stage.inputs, std::span(&stage.output, 1), Planes::taken)) {
      return fmt::format("convolution {}: {}", i, *refusal);
    }
    stage.sizes = conv_sizes(stage.conv, stage.inputs[1]);
    const ConvSizes& sizes = stage.sizes;
    const bool depthwise = sizes.group > 1 && sizes.in_channels == 1 && sizes.out_channels == 1;
    if (!depthwise && sizes.group != 1) return fmt::format("convolution {} is in groups", i);
    stage.kind = depthwise                             ? ChainStage::Kind::depthwise
                 : is_plain_product(stage.conv, sizes) ? ChainStage::Kind::product
                                                       : ChainStage::Kind::window;
    if (stage.conv.has_planar_input() && stage.kind != ChainStage::Kind::window)
      return "planes are read by a first convolution with a window";
    if (stage.kind == ChainStage::Kind::window && i > 0)
      return fmt::format("convolution {} is neither depthwise nor 1 x 1 at stride 1", i);
    if (stage.conv.window().auto_pad != AutoPad::notset || stage.conv.window().ceil_mode)
      return fmt::format("the padding of convolution {} depends on the size of the image", i);
    // Lines between the stages, and pointers of a depthwise one.
    if (!stage.output.dims[2].is_constant()) return "the width of the image is not known";
    const Window& window = stage.conv.window();
    const std::int64_t largest = std::max({sizes.kernel[1], sizes.kernel[2], window.strides[0], window.strides[1],
                                           window.dilations[0], window.dilations[1]});
    if (largest > kMaxWindow) return fmt::format("the window of convolution {} is too large", i);
    if (sizes.group * sizes.in_channels > kMaxSize || stage.output.dims[2].constant() > kMaxSize)
      return "the image is too large";
    ConvRows geometry;
    geometry.kernel[1] = sizes.kernel[1];
    geometry.kernel[2] = sizes.kernel[2];
    geometry.stride[2] = window.strides[1];
    geometry.dilation[2] = window.dilations[1];
    geometry.out[2] = stage.output.dims[2].constant();
    if (stage.kind == ChainStage::Kind::depthwise) {
      bytes +=
          depthwise_table_width(geometry, kDepthwiseLine) * sizes.kernel[1] * static_cast<std::int64_t>(sizeof(float*));
    } else if (stage.kind == ChainStage::Kind::window) {
      bytes += (chain_window_floats(geometry, sizes.in_channels) + 16) * static_cast<std::int64_t>(sizeof(float));
    }
    if (i + 1 < stages.size()) {
      const Conv& next = stages[i + 1].conv;
      const Shape next_weights = stages[i + 1].inputs[1].is_static() ? stages[i + 1].inputs[1].static_shape() : Shape{};
      const std::int64_t width = stage.output.dims[2].constant(), channels = sizes.group * sizes.out_channels;
      if (next_weights.size() != 4 || channels > kMaxSize || next_weights[2] > kMaxWindow)
        return "the image is too large";
      const std::int64_t lines = (next_weights[2] - 1) * next.window().dilations[0] + 1;
      bytes += (lines * width * channels + 16) * static_cast<std::int64_t>(sizeof(float));
    }
    if (bytes > static_cast<std::int64_t>(CpuStream::kScratchBytes))
      return "the lines between the convolutions do not fit in the scratch memory";
  }
  return std::nullopt;
}

class ConvChainKernel final : public Kernel {
 public:
  /// parameters: a tiling for each stage but depthwise ones. weights: panels [position][channel]; for a depthwise one
  /// [kernel position][padded channels], then zeros for the columns outside the image.
  ConvChainKernel(const KernelSpec& spec, const std::vector<Stage>& stages)
      : op_(spec.op), first_epilogue_input_(chain_of(spec.op).first_epilogue_input()) {
    std::size_t blob = 0, parameter = 0;
    for (std::size_t i = 0; i < stages.size(); ++i) {
      const Stage& stage = stages[i];
      Part part{stage.conv,
                stage.sizes,
                stage.kind,
                {},
                nullptr,
                nullptr,
                FinishPlan(stage.conv.epilogue(), first_epilogue_input_)};
      if (stage.kind == ChainStage::Kind::depthwise) {
        const std::int64_t padded = padded_columns(stage.sizes.group);
        part.weights = packed_floats(spec, blob++, padded * stage.sizes.taps());
        part.zeros = packed_floats(spec, blob++, padded);
      } else {
        require(spec.parameters.size() >= parameter + 4, Code::incompatible_engine,
                "tactic '{}' needs 4 parameters for each matrix product, got {}", spec.tactic, spec.parameters.size());
        part.tiling = tiling_from(std::span(spec.parameters).subspan(parameter, 4));
        parameter += 4;
        part.weights = packed_floats(
            spec, blob++, padded_columns(stage.sizes.out_channels) * stage.sizes.taps() * stage.sizes.in_channels);
      }
      parts_.push_back(std::move(part));
    }
    require(parameter == spec.parameters.size(), Code::incompatible_engine, "tactic '{}' expects {} parameters, got {}",
            spec.tactic, parameter, spec.parameters.size());
  }

  void run(const Launch& launch) const override {
    const TensorView& y = launch.outputs[0];
    ConvChainArgs args;
    args.num_stages = static_cast<int>(parts_.size());
    args.x = launch.inputs[0].as<const float>();
    args.x_stride = launch.inputs[0].pitch;
    args.y = y.as<float>();
    args.y_stride = y.pitch;
    TensorView x = launch.inputs[0];
    std::array<std::int64_t, 4> dims[ConvChain::kMaxStages];
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const Part& part = parts_[i];
      const bool last = i + 1 == parts_.size();
      TensorView out = y;
      if (!last) {
        dims[i] = {x.dim(0), 0, 0, part.sizes.group * part.sizes.out_channels};
        for (int axis = 0; axis < 2; ++axis) {
          const std::int64_t size = x.dim(first_spatial_axis(part.conv.spec().layouts().input) + axis);
          const std::int64_t kernel = part.sizes.kernel[static_cast<std::size_t>(1 + axis)];
          const Window& window = part.conv.window();
          const auto a = static_cast<std::size_t>(axis);
          const auto padding = window.padding(axis, size, kernel);
          const std::int64_t span = size + padding[0] + padding[1] - (kernel - 1) * window.dilations[a] - 1;
          dims[i][a + 1] = span / window.strides[a] + 1;
        }
        out.dims = dims[i];
      }
      ChainStage& stage = args.stages[i];
      stage.kind = part.kind;
      stage.geometry = conv_rows(part.conv, part.sizes, x, out);
      stage.geometry.zeros = part.zeros;
      stage.depth = part.sizes.group * part.sizes.in_channels;
      stage.columns = out.dims.back();
      stage.weights = part.weights;
      stage.weights_stride = part.kind == ChainStage::Kind::depthwise ? padded_columns(part.sizes.group) : 0;
      stage.tiling = part.tiling;
      const auto bias = static_cast<std::size_t>(ConvChain::bias_input(static_cast<int>(i)));
      if (bias < launch.inputs.size() && launch.inputs[bias].dtype != DType::undefined)
        stage.finish.bias = launch.inputs[bias].as<const float>();
      part.finish.resolve(launch, out.dims, stage.finish);
      x = out;
    }
    TENFOLD_FOR_TIER(kConvChainKernels).run(args, workers_of(launch));
  }
  bool accepts_pitched_input(int index) const override {
    return (index == 0 && !parts_[0].conv.has_planar_input()) || parts_.back().finish.reads(index);
  }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  struct Part {
    Conv conv;
    ConvSizes sizes;
    ChainStage::Kind kind;
    GemmTiling tiling;
    const float* weights;
    const float* zeros;
    FinishPlan finish;
  };
  OpPtr op_;
  int first_epilogue_input_;
  std::vector<Part> parts_;
};

void candidates(const Problem& problem, std::vector<Candidate>& out) {
  const ConvChain& chain = chain_of(problem.op);
  std::vector<Stage> stages;
  auto refusal = refuses(chain, problem.inputs, problem.outputs, stages);
  for (std::size_t i = 0; !refusal && i < stages.size(); ++i) {
    if (!is_float32(problem.constants[static_cast<std::size_t>(ConvChain::weights_input(static_cast<int>(i)))]))
      refusal = "the weights are computed";
  }
  if (refusal) {
    out.push_back({.refusal = *refusal});
    return;
  }
  // The stages' tilings, best guesses together and second guesses together.
  constexpr std::size_t kGuesses = 2;
  for (std::size_t guess = 0; guess < kGuesses; ++guess) {
    Candidate candidate;
    for (const Stage& stage : stages) {
      if (stage.kind == ChainStage::Kind::depthwise) continue;
      const std::vector<GemmTiling> tilings =
          promising_tilings(stage.output.dims[2].constant(), stage.sizes.out_channels,
                            stage.sizes.taps() * stage.sizes.in_channels, {{kWholeDepth, kWholeDepth}});
      const std::vector<std::int64_t> parameters = parameters_of(tilings[std::min(guess, tilings.size() - 1)]);
      candidate.parameters.insert(candidate.parameters.end(), parameters.begin(), parameters.end());
    }
    if (!out.empty() && out.back().parameters == candidate.parameters) continue;
    candidate.estimated_us = (1 + kRankStep * static_cast<double>(guess)) *
                             estimate_us(problem.op->flops(problem.inputs, problem.outputs), 0, 0.8);
    out.push_back(std::move(candidate));
  }
}

PackedWeights pack(const Problem& problem, const Candidate& candidate) {
  const ConvChain& chain = chain_of(problem.op);
  std::vector<Stage> stages;
  ensure(!refuses(chain, problem.inputs, problem.outputs, stages), "a refused chain is packed");
  PackedWeights packed;
  std::size_t parameter = 0;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const ConvSizes& sizes = stages[i].sizes;
    const int input = ConvChain::weights_input(static_cast<int>(i));
    const float* weights = problem.constants[static_cast<std::size_t>(input)]->as<float>().data();
    const std::int64_t taps = sizes.taps(), channels = sizes.in_channels;
    if (stages[i].kind == ChainStage::Kind::depthwise) {
      packed.blobs.push_back(pack_depthwise(weights, taps, sizes.group));
      packed.blobs.emplace_back(static_cast<std::size_t>(padded_columns(sizes.group)) * sizeof(float));
    } else {
      const int tile_vectors = tiling_from(std::span(candidate.parameters).subspan(parameter, 4)).tile_vectors;
      parameter += 4;
      packed.blobs.push_back(
          pack_panels(taps * channels, sizes.out_channels, tile_vectors, [&](std::int64_t k, std::int64_t n) {
            return weights[(n * channels + k % channels) * taps + k / channels];
          }));
    }
    packed.consumed_inputs.push_back(input);
  }
  return packed;
}

std::unique_ptr<Kernel> make(const KernelSpec& spec) {
  std::vector<Stage> stages;
  const auto refusal = refuses(chain_of(spec.op), spec.inputs, spec.outputs, stages);
  require(!refusal, Code::incompatible_engine, "tactic '{}' cannot run this ConvChain: {}", spec.tactic,
          refusal.value_or(""));
  return std::make_unique<ConvChainKernel>(spec, stages);
}

}  // namespace

const CpuTactic kConvChainLines{"chain.lines", "ConvChain", candidates, pack, make};

}  // namespace tenfold::cpu
