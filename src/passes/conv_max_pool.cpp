// The first convolution of a network of images and the maximum pooling behind it become one operator: few channels give
// large images that only the pooling reads, and storing and reading them is all that both of their times go into.
#include "ops/conv_max_pool.hpp"

#include <algorithm>
#include <array>

#include "passes/match.hpp"
#include "passes/passes.hpp"

namespace tenfold {
namespace {

/// Rows of pooled pixels that give each multiprocessor several strips of rows.
constexpr std::int64_t kMinRows = 132 * 2 * 4;
constexpr std::int64_t kMaxChannels = 4, kMaxFilters = 64, kMaxKernel = 16, kMaxStride = 4, kMaxPool = 3;
/// A strip of rows, and the rows of the convolution under a window, are in shared memory for each of two warpgroups.
constexpr std::int64_t kMaxBytes = 90 << 10, kMaxWeightBytes = 32 << 10;

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

bool is_tensor_core_type(DType x, DType weights) {
  if (x == DType::int8 || x == DType::uint8) return weights == DType::int8;
  return (x == DType::float16 || x == DType::bfloat16) && weights == x;
}

/// Does what two warpgroups keep fit? Sizes as the kernel has them.
bool fits(const GraphView& graph, const Node& node, const Conv& conv, const PoolSpec& pool) {
  const TensorType& weights = graph.type(node.inputs[1]);
  const TensorType& between = graph.type(node.outputs[0]);
  const auto size = static_cast<std::int64_t>(size_of(graph.type(node.inputs[0]).dtype));
  const auto& strides = conv.window().strides;
  const std::int64_t parts = divide_up(strides[0] * strides[1] * weights.dims[1].constant() * size, 16);
  const std::int64_t tap_rows = divide_up(weights.dims[2].constant(), strides[0]);
  const std::int64_t tap_columns = divide_up(weights.dims[3].constant(), strides[1]);
  const std::int64_t width = between.dims[2].constant();
  const std::int64_t strip =
      (pool.window.strides[0] + pool.kernel[0] + tap_rows - 1) * (width + tap_columns) * parts * 16;
  const std::int64_t rows = pool.kernel[0] * width * kMaxFilters * size;
  return tap_columns % 2 == 0 && strip + rows <= kMaxBytes &&
         kMaxFilters * tap_rows * tap_columns * parts * 16 <= kMaxWeightBytes;
}

std::optional<Patch> pool_convolution(const GraphView& graph, const Node& node) {
  const auto* pool = op_cast<MaxPool>(&node);
  if (pool == nullptr || pool->layout() != ImageLayout::nhwc ||
      (node.outputs.size() > 1 && node.outputs[1] != kNoValue))
    return std::nullopt;
  const Node* before = sole_producer_of(graph, node.inputs[0], "Conv");
  const auto* conv = op_cast<Conv>(before);
  if (conv == nullptr || conv->layout() != ImageLayout::nhwc || conv->spatial_rank() != 2 || conv->group() != 1)
    return std::nullopt;
  const TensorType &x = graph.type(before->inputs[0]), &weights = graph.type(before->inputs[1]);
  const TensorType &between = graph.type(node.inputs[0]), &y = graph.type(node.outputs[0]);
  const ValueId bias = input_of(*before, 2);
  if (!y.is_static() || !x.is_static() || graph.constant(before->inputs[1]) == nullptr ||
      (bias != kNoValue && graph.constant(bias) == nullptr) || !is_tensor_core_type(x.dtype, weights.dtype) ||
      size_of(between.dtype) != size_of(x.dtype))
    return std::nullopt;
  const Window &window = conv->window(), &pooling = pool->window();
  const auto all_at_most = [](const std::vector<std::int64_t>& values, std::int64_t most) {
    return std::all_of(values.begin(), values.end(), [most](std::int64_t v) { return v <= most; });
  };
  const std::int64_t filters = weights.dims[0].constant();
  if (weights.dims[1].constant() > kMaxChannels || filters > kMaxFilters ||
      filters * static_cast<std::int64_t>(size_of(between.dtype)) % 16 != 0 ||
      std::max(weights.dims[2].constant(), weights.dims[3].constant()) > kMaxKernel ||
      !all_at_most(window.strides, kMaxStride) || !all_at_most(window.dilations, 1) ||
      !all_at_most(pool->spec().kernel, kMaxPool) || !all_at_most(pooling.dilations, 1) ||
      !all_at_most(pooling.strides, kMaxPool) || y.dims[0].constant() * y.dims[1].constant() < kMinRows)
    return std::nullopt;
  for (std::size_t i = Conv::kFirstEpilogueInput; i < before->inputs.size(); ++i) {
    const TensorType& operand = graph.type(before->inputs[i]);
    if (operand.rank() > 1 &&
        !std::all_of(operand.dims.begin(), operand.dims.end() - 1, [](const Dim& dim) { return dim == Dim(1); }))
      return std::nullopt;
  }
  if (before->inputs.size() > Conv::kFirstEpilogueInput + 6 || !fits(graph, *before, *conv, pool->spec()))
    return std::nullopt;
  Patch patch(graph, node);
  patch.absorb(*before);
  const ValueId result = patch.add(std::make_shared<const ConvMaxPool>(conv->spec(), pool->spec()), before->inputs);
  return std::move(patch.replace(node.outputs[0], result));
}

/// A Transpose from planes in front of it, and a program of one operand in front of that, are done as the image is
/// read.
std::optional<Patch> read_planes(const GraphView& graph, const Node& node) {
  const auto* pooled = op_cast<ConvMaxPool>(&node);
  if (pooled == nullptr || pooled->source().is_planar || !pooled->source().program.empty()) return std::nullopt;
  const Node* transpose = sole_producer_of(graph, node.inputs[0], "Transpose");
  if (transpose == nullptr || transpose->op->attributes().get_ints("perm") != std::vector<std::int64_t>{0, 2, 3, 1})
    return std::nullopt;
  Patch patch(graph, node);
  patch.absorb(*transpose);
  ImageSource source{.is_planar = true};
  std::vector<ValueId> inputs = node.inputs;
  inputs[0] = transpose->inputs[0];
  const Node* before = sole_producer_of(graph, inputs[0], "Pointwise");
  if (before != nullptr && before->inputs.size() == 1) {
    source.program = op_cast<Pointwise>(before)->program();
    source.type = op_cast<Pointwise>(before)->result();
    inputs[0] = before->inputs[0];
    patch.absorb(*before);
  }
  const auto joined = std::make_shared<const ConvMaxPool>(pooled->conv().spec(), pooled->pool(), std::move(source));
  return std::move(patch.replace(node.outputs[0], patch.add(joined, std::move(inputs))));
}

constexpr std::array kRewrites{
    Rewrite{"pool_convolution", pool_convolution, "What only a pooling reads is pooled before it is stored."},
    Rewrite{"read_planes", read_planes, "An image is transposed and quantised as it is read."},
};

}  // namespace

const std::span<const Rewrite> kConvMaxPoolRewrites = kRewrites;

}  // namespace tenfold
