// Convolutions around a depthwise one become a chain: expand (1x1), depthwise, project (1x1), the blocks of MobileNets.
// A backend computes a chain line by line, and what lies between its convolutions is never stored. That pays where it
// would not have stayed in the cache, and as long as the weights, which are read again for every line, do.
#include "ops/conv_chain.hpp"

#include <algorithm>
#include <array>

#include "passes/match.hpp"
#include "passes/passes.hpp"

namespace tenfold {
namespace {

/// What lies between two convolutions leaves a core's own cache when it is larger.
constexpr double kCachedBytes = 1 << 20;
/// Weights of a 1x1 convolution that stay in the first-level cache, or nearly.
constexpr double kMaxWeightBytes = 64 << 10;
/// Lines that wait for the next stage's window.
constexpr double kMaxLinesBytes = 512 << 10;
constexpr std::int64_t kMaxKernel = 7;
constexpr double kMaxStemChannels = 4;
constexpr int kMaxEpilogueInputs = 2;

/// A 2-D, channels-last float32 convolution with constant weights; else nullptr.
const Conv* image_conv(const GraphView& graph, const Node* node) {
  const auto* conv = op_cast<Conv>(node);
  if (conv == nullptr || conv->layout() != ImageLayout::nhwc || conv->spatial_rank() != 2) return nullptr;
  if (conv->window().auto_pad != AutoPad::notset || !is_float32(graph, node->inputs[0])) return nullptr;
  if (conv->epilogue().output != DType::undefined) return nullptr;
  if (graph.constant(node->inputs[1]) == nullptr || conv->epilogue().num_extra_inputs() > kMaxEpilogueInputs)
    return nullptr;
  return conv;
}
bool is_pointwise(const GraphView& graph, const Node& node, const Conv& conv) {
  const TensorType& weights = graph.type(node.inputs[1]);
  return conv.group() == 1 && weights.dims[2] == Dim(1) && weights.dims[3] == Dim(1) &&
         conv.window().is_unit_stride() && !conv.window().has_padding() && estimated_bytes(weights) <= kMaxWeightBytes;
}
/// A network's first convolution: few channels in, so that its lines are cheap to keep.
bool is_stem(const GraphView& graph, const Node& node, const Conv& conv) {
  const TensorType& weights = graph.type(node.inputs[1]);
  return conv.group() == 1 && estimated_size(weights.dims[1]) <= kMaxStemChannels &&
         std::max(estimated_size(weights.dims[2]), estimated_size(weights.dims[3])) <= kMaxKernel &&
         conv.window().dilations == std::vector<std::int64_t>{1, 1} && estimated_bytes(weights) <= kMaxWeightBytes &&
         graph.type(node.outputs[0]).dims[2].is_constant();
}
bool is_depthwise(const GraphView& graph, const Node& node, const Conv& conv) {
  const TensorType& weights = graph.type(node.inputs[1]);
  return conv.group() > 1 && weights.dims[0] == Dim(conv.group()) && weights.dims[1] == Dim(1) &&
         std::max(estimated_size(weights.dims[2]), estimated_size(weights.dims[3])) <= kMaxKernel;
}
bool leaves_cache(const GraphView& graph, ValueId value) { return estimated_bytes(graph.type(value)) > kCachedBytes; }
bool lines_fit(const GraphView& graph, ValueId value, std::int64_t lines) {
  const TensorType& type = graph.type(value);
  if (!type.dims[2].is_constant()) return false;
  return static_cast<double>(lines) * estimated_size(type.dims[2]) * estimated_size(type.dims[3]) * sizeof(float) <=
         kMaxLinesBytes;
}

/// [expand or stem] - depthwise - [project], at least two of them, where what lies between is large.
std::optional<Patch> fuse_convolutions(const GraphView& graph, const Node& node) {
  const Conv* middle = image_conv(graph, &node);
  if (middle == nullptr || !is_depthwise(graph, node, *middle)) return std::nullopt;
  const Window& window = middle->window();
  const std::int64_t lines = (graph.type(node.inputs[1]).dims[2].constant() - 1) * window.dilations[0] + 1;

  const Node* before = graph.has_single_use(node.inputs[0]) ? graph.producer(node.inputs[0]) : nullptr;
  const Conv* expand = image_conv(graph, before);
  if (expand != nullptr && !is_pointwise(graph, *before, *expand) && !is_stem(graph, *before, *expand))
    expand = nullptr;
  if (expand != nullptr && (expand->epilogue().num_extra_inputs() > 0 || !leaves_cache(graph, node.inputs[0]) ||
                            !lines_fit(graph, node.inputs[0], lines))) {
    expand = nullptr;
  }
  const Node* after = middle->epilogue().num_extra_inputs() == 0 ? graph.only_reader(node.outputs[0]) : nullptr;
  const Conv* project = image_conv(graph, after);
  if (project != nullptr && (after->inputs[0] != node.outputs[0] || !is_pointwise(graph, *after, *project) ||
                             !lines_fit(graph, node.outputs[0], 1))) {
    project = nullptr;
  }
  // Once the lines are made in the cache, the projection finds them there.
  if (expand == nullptr && (project == nullptr || !leaves_cache(graph, node.outputs[0]))) return std::nullopt;

  std::vector<Conv::Spec> stages;
  std::vector<ValueId> inputs{expand != nullptr ? before->inputs[0] : node.inputs[0]};
  const Node* last = nullptr;
  for (const auto& [conv, at] : {std::pair{expand, before}, std::pair{middle, &node}, std::pair{project, after}}) {
    if (conv == nullptr) continue;
    stages.push_back(conv->spec());
    inputs.push_back(at->inputs[1]);
    inputs.push_back(input_of(*at, 2));
    last = at;
  }
  for (std::size_t i = Conv::kFirstEpilogueInput; i < last->inputs.size(); ++i) inputs.push_back(last->inputs[i]);
  while (inputs.back() == kNoValue) inputs.pop_back();
  Patch patch(graph, *last);
  if (expand != nullptr) patch.absorb(*before);
  if (last != &node) patch.absorb(node);
  const ValueId joined = patch.add(std::make_shared<const ConvChain>(std::move(stages)), std::move(inputs));
  return std::move(patch.replace(last->outputs[0], joined));
}

constexpr std::array kRewrites{
    Rewrite{"fuse_convolutions", fuse_convolutions,
            "A depthwise convolution and 1x1 convolutions around it run line by line."},
};

}  // namespace

const std::span<const Rewrite> kConvChainRewrites = kRewrites;

}  // namespace tenfold
