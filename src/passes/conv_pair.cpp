// A 1x1 convolution whose result is stored for others, and a 1x1 convolution that reads it next, become a pair: the
// second multiplies what the first one's epilogue made while it is still on the processor. In a residual network that
// is the end of every block with the beginning of the next; where the image between them is large, reading it is all
// that the second one's time goes into.
#include "ops/conv_pair.hpp"

#include <algorithm>
#include <array>

#include "passes/match.hpp"
#include "passes/passes.hpp"

namespace tenfold {
namespace {

/// Pixels that give each multiprocessor several tiles of 64: with fewer, weights decide, and one convolution at a time
/// spreads them better.
constexpr double kMinPixels = 64 * 132 * 4;
/// A kernel keeps all weights and two tiles in 227 KiB of shared memory.
constexpr std::int64_t kMaxBytes = 216 << 10, kTileRows = 64, kTiles = 2;
/// Bytes of a pixel: between the convolutions in whole rows of 128, in front of them in the accelerator's rows.
constexpr std::int64_t kMiddleBytes = 128, kMaxMiddleBytes = 512, kInputBytes = 32, kMaxInputBytes = 256;
constexpr std::int64_t kMiddleChannels = 128, kMaxOutputChannels = 128;
constexpr int kMaxOperands = 6;

struct Sizes {
  std::int64_t in = 0, out = 0;
};
/// Channels of a 1x1 convolution of pixels with constant weights, of a type that tensor cores multiply; nullopt if it
/// is none.
std::optional<Sizes> pixel_product(const GraphView& graph, const Node* node) {
  const auto* conv = op_cast<Conv>(node);
  if (conv == nullptr || conv->layout() != ImageLayout::nhwc || conv->spatial_rank() != 2 || conv->group() != 1 ||
      !conv->window().is_unit_stride() || conv->window().has_padding())
    return std::nullopt;
  const TensorType& weights = graph.type(node->inputs[1]);
  const DType x = graph.type(node->inputs[0]).dtype;
  if (graph.constant(node->inputs[1]) == nullptr || weights.dims[2] != Dim(1) || weights.dims[3] != Dim(1))
    return std::nullopt;
  const bool is_half = (x == DType::float16 || x == DType::bfloat16) && weights.dtype == x;
  if (!is_half && !((x == DType::int8 || x == DType::uint8) && weights.dtype == DType::int8)) return std::nullopt;
  const ValueId bias = input_of(*node, 2);
  if (bias != kNoValue && graph.constant(bias) == nullptr) return std::nullopt;
  return Sizes{weights.dims[1].constant(), weights.dims[0].constant()};
}

/// Operands of the epilogue: numbers, channels and up to `images` of the result's own shape and type.
bool has_plain_operands(const GraphView& graph, const Node& node, int images) {
  const TensorType& result = graph.type(node.outputs[0]);
  if (node.inputs.size() > Conv::kFirstEpilogueInput + kMaxOperands) return false;
  for (std::size_t i = Conv::kFirstEpilogueInput; i < node.inputs.size(); ++i) {
    const TensorType& type = graph.type(node.inputs[i]);
    const auto is_one = [](const Dim& dim) { return dim == Dim(1); };
    if (type.dims.empty() || std::all_of(type.dims.begin(), type.dims.end() - 1, is_one)) continue;
    if (type.dims != result.dims || type.dtype != result.dtype || images-- == 0) return false;
  }
  return true;
}

std::optional<Patch> pair_convolutions(const GraphView& graph, const Node& node) {
  const std::optional<Sizes> second = pixel_product(graph, &node);
  const Node* before = graph.producer(node.inputs[0]);
  const std::optional<Sizes> first = pixel_product(graph, before);
  if (!second || !first || graph.has_single_use(node.inputs[0])) return std::nullopt;
  const TensorType& x = graph.type(before->inputs[0]);
  const TensorType& y = graph.type(node.inputs[0]);
  if (!y.is_static() || size_of(x.dtype) != size_of(y.dtype)) return std::nullopt;
  const auto size = static_cast<std::int64_t>(size_of(x.dtype));
  const std::int64_t in = first->in * size, middle = first->out * size;
  const std::int64_t tile = kTileRows * (in + middle),
                     weights = first->out * in + std::max<std::int64_t>(second->out, 64) * middle;
  if (estimated_bytes(y) / static_cast<double>(middle) < kMinPixels || in % kInputBytes != 0 || in > kMaxInputBytes ||
      middle % kMiddleBytes != 0 || first->out % kMiddleChannels != 0 || middle > kMaxMiddleBytes ||
      second->out > kMaxOutputChannels || weights + kTiles * tile > kMaxBytes)
    return std::nullopt;
  if (!has_plain_operands(graph, *before, 1) || !has_plain_operands(graph, node, 0)) return std::nullopt;
  std::vector<ValueId> inputs{before->inputs[0], before->inputs[1], input_of(*before, 2), node.inputs[1],
                              input_of(node, 2)};
  for (const Node* conv : {before, &node}) {
    for (std::size_t i = Conv::kFirstEpilogueInput; i < conv->inputs.size(); ++i) inputs.push_back(conv->inputs[i]);
  }
  while (inputs.back() == kNoValue) inputs.pop_back();
  Patch patch(graph, node);
  patch.absorb(*before);
  const ValueId results = patch.add(
      std::make_shared<const ConvPair>(op_cast<Conv>(before)->spec(), op_cast<Conv>(&node)->spec()), inputs, 2);
  patch.replace(before->outputs[0], results);
  return std::move(patch.replace(node.outputs[0], results + 1));
}

constexpr std::array kRewrites{
    Rewrite{"pair_convolutions", pair_convolutions, "A 1x1 convolution multiplies what the one before it still holds."},
};

}  // namespace

const std::span<const Rewrite> kConvPairRewrites = kRewrites;

}  // namespace tenfold
