// Attention: softmax(scale * q k^T + mask) v, written by exporters as products, scalings, a softmax and transpositions,
// becomes one FusedAttention. The scale may stand on q, on k^T or on the scores; the mask is added before the softmax.
// Keys and values that are repeated for groups of query heads are read unrepeated, and transpositions from and to
// [B, L, H, D] become the operator's layout.
#include "ops/attention.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "ops/matmul.hpp"
#include "ops/registry.hpp"
#include "passes/match.hpp"
#include "passes/passes.hpp"

namespace tenfold {
namespace {

using Ints = std::vector<std::int64_t>;
const Ints kSwapHeads{0, 2, 1, 3};

/// A product of float32 without epilogue.
const MatMul* plain_product(const Node* node) {
  const auto* op = op_cast<MatMul>(node);
  return op != nullptr && op->epilogue().program.empty() ? op : nullptr;
}

/// The operand and number of a multiplication or division by a scalar that keeps the shape.
std::optional<std::pair<ValueId, double>> scaled_by(const GraphView& graph, const Node& node) {
  const ValueId result = node.outputs[0];
  if (is(node, "Mul") && node.inputs.size() == 2) {
    for (const auto& [inner, factor] : both_orders(node)) {
      if (const auto number = scalar_of(graph, factor); number && same_dims(graph, inner, result)) {
        return std::pair{inner, *number};
      }
    }
  }
  if (is(node, "Div") && same_dims(graph, node.inputs[0], result)) {
    const auto number = scalar_of(graph, node.inputs[1]);
    if (number && *number != 0) return std::pair{node.inputs[0], 1 / *number};
  }
  return std::nullopt;
}

/// What the pattern is made of, as it is found from the last product backwards.
struct Pattern {
  double scale = 1;
  double mask_scale = 1;
  ValueId mask = kNoValue;
  std::vector<const Node*> nodes;
};

/// Looks through multiplications by scalars that nobody else reads.
ValueId without_scale(const GraphView& graph, ValueId value, Pattern& pattern, double& scale) {
  for (const Node* node = graph.producer(value); node != nullptr && graph.has_single_use(value);
       node = graph.producer(value)) {
    const auto inner = scaled_by(graph, *node);
    if (!inner) break;
    pattern.nodes.push_back(node);
    scale *= inner->second;
    value = inner->first;
  }
  return value;
}

/// The same for an operand, where Reshapes and Transposes may stand between the multiplication and the product: they
/// are added again without it.
ValueId operand_without_scale(const GraphView& graph, ValueId value, Pattern& pattern, Patch& patch, int depth = 0) {
  value = without_scale(graph, value, pattern, pattern.scale);
  const Node* node = graph.producer(value);
  const bool is_moved = node != nullptr && node->inputs.size() == 1 && is_one_of(*node, {"Reshape", "Transpose"});
  if (!is_moved || !graph.has_single_use(value) || depth == 4) return value;
  const ValueId inner = operand_without_scale(graph, node->inputs[0], pattern, patch, depth + 1);
  return inner == node->inputs[0] ? value : patch.add(node->op, {inner});
}

/// Heads that an operand [B * H, ...] got from [B, H * D, ...] or [B, H, ...]: {B, H}; {1, all} if that is unknown.
std::pair<Dim, Dim> batch_and_heads(const GraphView& graph, ValueId operand) {
  const Dim& both = graph.type(operand).dims[0];
  for (const Node* node = graph.producer(operand); is(node, "Reshape") || is(node, "Transpose") || is(node, "Mul");
       node = graph.producer(node->inputs[0])) {
    const Dim& batch = graph.type(node->inputs[0]).dims.empty() ? both : graph.type(node->inputs[0]).dims[0];
    if (batch == both || batch == Dim(0)) continue;
    const Dim heads = Dim::floordiv(both, batch);
    if (heads.is_constant() && batch * heads == both) return {batch, heads};
    break;
  }
  return {Dim(1), both};
}

std::optional<Patch> recognise_attention(const GraphView& graph, const Node& node) {
  const MatMul* last = plain_product(&node);
  if (last == nullptr || last->trans_a() || !is_float32(graph, node.outputs[0])) return std::nullopt;
  const Node* softmax = sole_producer_of(graph, node.inputs[0], "Softmax");
  if (softmax == nullptr) return std::nullopt;
  const TensorType& scores_type = graph.type(node.inputs[0]);
  const int rank = scores_type.rank();
  if (rank != 3 && rank != 4) return std::nullopt;
  const std::int64_t axis = softmax->op->attributes().get_int("axis", -1);
  if (axis != -1 && axis != rank - 1) return std::nullopt;

  Pattern pattern;
  pattern.nodes.push_back(softmax);
  ValueId scores = without_scale(graph, softmax->inputs[0], pattern, pattern.scale);
  if (const Node* add = sole_producer_of(graph, scores, "Add"); add != nullptr && add->inputs.size() == 2) {
    pattern.mask_scale = pattern.scale;
    for (const auto& [inner, operand] : both_orders(*add)) {
      Pattern behind = pattern;
      const ValueId product = without_scale(graph, inner, behind, behind.scale);
      if (plain_product(graph.producer(product)) == nullptr || !same_dims(graph, product, scores)) continue;
      pattern = std::move(behind);
      pattern.mask = operand;
      pattern.nodes.push_back(add);
      scores = product;
      break;
    }
    if (!is_float32(graph, pattern.mask)) return std::nullopt;
    if (!broadcasts_into(graph.type(pattern.mask).dims, scores_type.dims)) return std::nullopt;
  }
  const Node* first_node = graph.producer(scores);
  const MatMul* first = plain_product(first_node);
  if (first == nullptr || !graph.has_single_use(scores) || !same_dims(graph, scores, node.inputs[0])) {
    return std::nullopt;
  }
  pattern.nodes.push_back(first_node);

  // Operands as [..., tokens, features]: those stored the other way round are transposed, which is free where that
  // meets a transposition, and otherwise must cost less than the scores that are no longer written and read.
  struct Operand {
    ValueId value;
    bool is_swapped;
  };
  const std::array<Operand, 3> operands{Operand{first_node->inputs[0], first->trans_a()},
                                        Operand{first_node->inputs[1], !first->trans_b()},
                                        Operand{node.inputs[1], last->trans_b()}};
  double moved_bytes = 0;
  for (const Operand& operand : operands) {
    const TensorType& type = graph.type(operand.value);
    if (type.rank() != rank || type.dtype != DType::float32) return std::nullopt;
    if (!std::equal(type.dims.begin(), type.dims.end() - 2, scores_type.dims.begin())) return std::nullopt;
    if (rank == 3 && !can_be_stored(graph, type.dims)) return std::nullopt;
    if (!operand.is_swapped) continue;
    ValueId source = operand.value;
    while (graph.producer(source) != nullptr && scaled_by(graph, *graph.producer(source))) {
      source = scaled_by(graph, *graph.producer(source))->first;
    }
    const Node* producer = graph.producer(source);
    if (producer == nullptr || !is_one_of(*producer, {"Transpose", "Reshape"})) moved_bytes += estimated_bytes(type);
    if (is(producer, "Reshape")) moved_bytes += estimated_bytes(type) / 4;  // often meets a transposition behind it
  }
  if (moved_bytes > estimated_bytes(scores_type)) return std::nullopt;
  const std::vector<Dim>& result_dims = graph.type(node.outputs[0]).dims;
  const TensorType mask_type = pattern.mask != kNoValue ? graph.type(pattern.mask) : TensorType{};
  if (rank == 3 && (!can_be_stored(graph, result_dims) || !can_be_stored(graph, mask_type.dims))) return std::nullopt;

  Patch patch(graph, node);
  const auto [batch, heads] =
      rank == 3 ? batch_and_heads(graph, operands[0].value) : std::pair{scores_type.dims[0], scores_type.dims[1]};
  const auto with_heads = [&, batch = batch, heads = heads](ValueId value, std::vector<Dim> dims) {
    if (rank == 4) return value;
    dims.erase(dims.begin());
    dims.insert(dims.begin(), {batch, heads});
    return patch.add(make_op("Reshape", {{"dims", dim_texts(dims)}}), {value});
  };
  std::vector<ValueId> inputs;
  for (const Operand& operand : operands) {
    const bool is_value = inputs.size() == 2;
    ValueId value = is_value ? operand.value : operand_without_scale(graph, operand.value, pattern, patch);
    value = with_heads(value, graph.type(operand.value).dims);
    if (operand.is_swapped) value = patch.add(make_op("Transpose", {{"perm", Ints{0, 1, 3, 2}}}), {value});
    inputs.push_back(value);
  }
  if (pattern.mask != kNoValue) {
    ValueId mask = pattern.mask;
    if (pattern.mask_scale != 1) {
      const auto factor = static_cast<float>(pattern.mask_scale);
      mask = patch.add(make_op("Mul"), {mask, patch.constant(node.name + ".scale", scalar_tensor(factor))});
    }
    // One mask for each head of each image has both axes; any other broadcasts as before.
    if (mask_type.rank() == 3 && mask_type.dims[0] == scores_type.dims[0]) mask = with_heads(mask, mask_type.dims);
    inputs.push_back(mask);
  }
  for (const Node* inner : pattern.nodes) patch.absorb(*inner);
  const Attributes attributes{{"scale", pattern.scale}, {"causal", std::int64_t{0}}, {"layout", std::string("bhld")}};
  ValueId result = patch.add(make_op("FusedAttention", attributes), inputs);
  if (rank == 3) result = patch.add(make_op("Reshape", {{"dims", dim_texts(result_dims)}}), {result});
  return std::move(patch.replace(node.outputs[0], result));
}

/// The value whose heads [B, Hk, S, D] are repeated to [B, Hk * G, S, D]: view, Expand along a new axis, view.
ValueId unrepeated_heads(const GraphView& graph, ValueId value) {
  const Node* joined = producer_of(graph, value, "Reshape");
  const Node* expand = joined != nullptr ? producer_of(graph, joined->inputs[0], "Expand") : nullptr;
  const Node* split = expand != nullptr ? graph.producer(expand->inputs[0]) : nullptr;
  if (split == nullptr || !is_one_of(*split, {"Reshape", "Unsqueeze"})) return kNoValue;
  const ValueId source = split->inputs[0];
  const std::vector<Dim>& from = graph.type(source).dims;
  const std::vector<Dim>& narrow = graph.type(expand->inputs[0]).dims;
  const std::vector<Dim>& wide = graph.type(joined->inputs[0]).dims;
  const std::vector<Dim>& to = graph.type(value).dims;
  if (from.size() != 4 || narrow.size() != 5 || wide.size() != 5 || to.size() != 4) return kNoValue;
  const bool is_repeat = narrow == std::vector<Dim>{from[0], from[1], Dim(1), from[2], from[3]} &&
                         wide == std::vector<Dim>{from[0], from[1], wide[2], from[2], from[3]} &&
                         to == std::vector<Dim>{from[0], from[1] * wide[2], from[2], from[3]};
  return is_repeat ? source : kNoValue;
}

std::optional<Patch> read_unrepeated_heads(const GraphView& graph, const Node& node) {
  const auto* attention = op_cast<FusedAttention>(&node);
  if (attention == nullptr || attention->layout() != FusedAttention::Layout::bhld) return std::nullopt;
  const ValueId k = unrepeated_heads(graph, node.inputs[1]);
  const ValueId v = unrepeated_heads(graph, node.inputs[2]);
  if (k == kNoValue || v == kNoValue || !(graph.type(k).dims[1] == graph.type(v).dims[1])) return std::nullopt;
  std::vector<ValueId> inputs = node.inputs;
  inputs[1] = k;
  inputs[2] = v;
  Patch patch(graph, node);
  return std::move(patch.replace(node.outputs[0], patch.add(node.op, inputs)));
}

bool swaps_heads(const Node* node) {
  return is(node, "Transpose") && node->op->attributes().get_ints("perm", {}) == kSwapHeads;
}

/// [B, L, H, D] inside, if the transpositions that go move more bytes than those that come.
std::optional<Patch> attention_layout(const GraphView& graph, const Node& node) {
  const auto* attention = op_cast<FusedAttention>(&node);
  if (attention == nullptr || attention->layout() != FusedAttention::Layout::bhld) return std::nullopt;
  double saved = 0;
  const auto account = [&](ValueId value, bool is_transposed, bool goes) {
    const TensorType& type = graph.type(value);
    if (type.dims[1] == Dim(1) || type.dims[2] == Dim(1)) return;  // a view
    if (!is_transposed) saved -= estimated_bytes(type);
    if (is_transposed && goes) saved += estimated_bytes(type);
  };
  for (std::size_t i = 0; i < 3; ++i) {
    account(node.inputs[i], swaps_heads(graph.producer(node.inputs[i])), graph.has_single_use(node.inputs[i]));
  }
  account(node.outputs[0], swaps_heads(graph.only_reader(node.outputs[0])), true);
  if (saved <= 0) return std::nullopt;
  Patch patch(graph, node);
  const OpPtr swap = make_op("Transpose", {{"perm", kSwapHeads}});
  std::vector<ValueId> inputs = node.inputs;
  for (std::size_t i = 0; i < 3; ++i) {
    const Node* producer = graph.producer(inputs[i]);
    inputs[i] = swaps_heads(producer) ? producer->inputs[0] : patch.add(swap, {inputs[i]});
  }
  const ValueId inside = patch.add(with_attributes(*node.op, {{"layout", std::string("blhd")}}), inputs);
  return std::move(patch.replace(node.outputs[0], patch.add(swap, {inside})));
}

constexpr std::array kRewrites{
    Rewrite{"recognise_attention", recognise_attention, "Two products around a softmax are FusedAttention."},
    Rewrite{"read_unrepeated_heads", read_unrepeated_heads,
            "Keys and values repeated for groups of query heads are read unrepeated."},
    Rewrite{"attention_layout", attention_layout, "Transpositions of heads around attention become its layout."},
};

}  // namespace

const std::span<const Rewrite> kAttentionRewrites = kRewrites;

}  // namespace tenfold
