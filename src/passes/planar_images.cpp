// Models keep the channels of an image second, convolutions want them last. For a network's first convolution that
// Transpose is a step of its own that reads and writes the whole image, though the convolution copies its few lines
// together anyway: it can just as well read them from planes.
#include <algorithm>
#include <array>

#include "ops/conv.hpp"
#include "passes/match.hpp"
#include "passes/passes.hpp"

namespace tenfold {
namespace {

/// What convolutions take by lines, see backend/cpu/conv_tactics.cpp: few channels, a window wider than a pixel.
constexpr std::int64_t kMaxChannels = 4, kMaxKernel = 16;

std::optional<Patch> convolve_planes(const GraphView& graph, const Node& node) {
  const auto* conv = op_cast<Conv>(&node);
  if (conv == nullptr || conv->layout() != ImageLayout::nhwc || conv->has_planar_input() || conv->group() != 1 ||
      conv->spatial_rank() != 2 || !is_float32(graph, node.inputs[0]) || graph.constant(node.inputs[1]) == nullptr)
    return std::nullopt;
  const TensorType& weights = graph.type(node.inputs[1]);
  const std::int64_t height = weights.dims[2].constant(), width = weights.dims[3].constant();
  const std::vector<std::int64_t>& dilations = conv->window().dilations;
  if (weights.dims[1].constant() > kMaxChannels || width == 1 || std::max(height, width) > kMaxKernel ||
      std::any_of(dilations.begin(), dilations.end(), [](std::int64_t d) { return d != 1; }))
    return std::nullopt;
  const Node* transpose = sole_producer_of(graph, node.inputs[0], "Transpose");
  if (transpose == nullptr || transpose->op->attributes().get_ints("perm") != std::vector<std::int64_t>{0, 2, 3, 1})
    return std::nullopt;
  Conv::Spec spec = conv->spec();
  spec.planar_input = true;
  std::vector<ValueId> inputs = node.inputs;
  inputs[0] = transpose->inputs[0];
  Patch patch(graph, node);
  patch.absorb(*transpose);
  const ValueId result = patch.add(std::make_shared<const Conv>(std::move(spec)), std::move(inputs));
  return std::move(patch.replace(node.outputs[0], result));
}

constexpr std::array kRewrites{
    Rewrite{"convolve_planes", convolve_planes, "A first convolution transposes its image line by line."},
};

}  // namespace

const std::span<const Rewrite> kPlanarImageRewrites = kRewrites;

}  // namespace tenfold
