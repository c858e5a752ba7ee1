// Attention: softmax(scale * q k^T + mask) v, written by exporters as products, scalings, a softmax and transpositions,
// becomes one FusedAttention. The scale may stand on q, on k^T or on the scores; the mask is added before the softmax.
// Keys and values that are repeated for groups of query heads are read unrepeated, and transpositions from and to
// [B, L, H, D] become the operator's layout.
#include "ops/attention.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include "ops/matmul.hpp"
#include "ops/registry.hpp"
#include "passes/match.hpp"
#include "passes/passes.hpp"

namespace tenfold {
namespace {

using Ints = std::vector<std::int64_t>;
const Ints kSwapHeads{0, 2, 1, 3};

/// A product without epilogue and without transposed left operand.
const MatMul* plain_product(const Node* node) {
  const auto* op = op_cast<MatMul>(node);
  return op != nullptr && op->epilogue().program.empty() && !op->trans_a() ? op : nullptr;
}

/// Looks through multiplications by scalars that nobody else reads, and collects them.
ValueId without_scale(const GraphView& graph, ValueId value, double& scale, std::vector<const Node*>& absorbed) {
  for (const Node* node = graph.producer(value); node != nullptr && graph.has_single_use(value);
       node = graph.producer(value)) {
    ValueId next = kNoValue;
    if (is(*node, "Mul") && node->inputs.size() == 2) {
      for (const auto& [inner, factor] : both_orders(*node)) {
        if (const auto number = scalar_of(graph, factor); number && same_dims(graph, inner, value)) {
          scale *= *number;
          next = inner;
          break;
        }
      }
    } else if (is(*node, "Div")) {
      if (const auto number = scalar_of(graph, node->inputs[1]);
          number && *number != 0 && same_dims(graph, node->inputs[0], value)) {
        scale /= *number;
        next = node->inputs[0];
      }
    }
    if (next == kNoValue) break;
    absorbed.push_back(node);
    value = next;
  }
  return value;
}

std::optional<Patch> recognise_attention(const GraphView& graph, const Node& node) {
  const MatMul* last = plain_product(&node);
  if (last == nullptr || last->trans_b() || !is_float32(graph, node.outputs[0])) return std::nullopt;
  const Node* softmax = sole_producer_of(graph, node.inputs[0], "Softmax");
  if (softmax == nullptr) return std::nullopt;
  const TensorType& scores_type = graph.type(node.inputs[0]);
  const int rank = scores_type.rank();
  if (rank != 3 && rank != 4) return std::nullopt;
  const std::int64_t axis = softmax->op->attributes().get_int("axis", -1);
  if (axis != -1 && axis != rank - 1) return std::nullopt;

  std::vector<const Node*> absorbed{softmax};
  double scale = 1;
  double scale_behind_mask = 1;
  ValueId mask = kNoValue;
  ValueId scores = without_scale(graph, softmax->inputs[0], scale, absorbed);
  if (const Node* add = sole_producer_of(graph, scores, "Add"); add != nullptr && add->inputs.size() == 2) {
    scale_behind_mask = scale;
    for (const auto& [inner, operand] : both_orders(*add)) {
      double inner_scale = 1;
      std::vector<const Node*> inner_absorbed;
      const ValueId product = without_scale(graph, inner, inner_scale, inner_absorbed);
      if (plain_product(graph.producer(product)) == nullptr || !same_dims(graph, product, scores)) continue;
      mask = operand;
      scale *= inner_scale;
      scores = product;
      absorbed.push_back(add);
      absorbed.insert(absorbed.end(), inner_absorbed.begin(), inner_absorbed.end());
      break;
    }
    if (mask == kNoValue || !is_float32(graph, mask)) return std::nullopt;
    if (!broadcasts_into(graph.type(mask).dims, scores_type.dims)) return std::nullopt;
  }
  const Node* first_node = graph.producer(scores);
  const MatMul* first = plain_product(first_node);
  if (first == nullptr || !graph.has_single_use(scores) || !same_dims(graph, scores, node.inputs[0])) {
    return std::nullopt;
  }
  absorbed.push_back(first_node);
  ValueId q = without_scale(graph, first_node->inputs[0], scale, absorbed);
  ValueId k = without_scale(graph, first_node->inputs[1], scale, absorbed);
  ValueId v = node.inputs[1];
  // A key matrix that is not transposed for this product would have to be transposed for the fused operator.
  const Node* transpose = first->trans_b() ? nullptr : producer_of(graph, k, "Transpose");
  if (!first->trans_b() && transpose == nullptr) return std::nullopt;
  for (const ValueId operand : {q, k, v}) {
    const TensorType& type = graph.type(operand);
    if (type.rank() != rank || type.dtype != DType::float32) return std::nullopt;
    for (int i = 0; i < rank - 2; ++i) {
      const auto a = static_cast<std::size_t>(i);
      if (!(type.dims[a] == scores_type.dims[a])) return std::nullopt;
    }
    if (rank == 3 && !can_be_stored(graph, type.dims)) return std::nullopt;
  }
  if (rank == 3 && (!can_be_stored(graph, graph.type(node.outputs[0]).dims) ||
                    (mask != kNoValue && !can_be_stored(graph, graph.type(mask).dims)))) {
    return std::nullopt;
  }

  Patch patch(graph, node);
  for (const Node* inner : absorbed) patch.absorb(*inner);
  if (transpose != nullptr) {
    const Ints inner = transpose->op->attributes().get_ints("perm", {});
    if (static_cast<int>(inner.size()) != rank) return std::nullopt;
    const Ints perm = compose(inner, rank == 3 ? Ints{0, 2, 1} : Ints{0, 1, 3, 2});
    const bool cancels = std::is_sorted(perm.begin(), perm.end());
    k = cancels ? transpose->inputs[0] : patch.add(make_op("Transpose", {{"perm", perm}}), {transpose->inputs[0]});
    patch.absorb(*transpose);
  }
  const auto with_batch = [&](ValueId value, std::vector<Dim> dims) {
    dims.insert(dims.begin(), Dim(1));
    return patch.add(make_op("Reshape", {{"dims", dim_texts(dims)}}), {value});
  };
  const TensorType mask_type = mask != kNoValue ? graph.type(mask) : TensorType{};
  if (mask != kNoValue && scale_behind_mask != 1) {
    const ValueId factor = patch.constant(node.name + ".scale", scalar_tensor(static_cast<float>(scale_behind_mask)));
    mask = patch.add(make_op("Mul"), {mask, factor});
  }
  if (rank == 3) {
    const std::vector<Dim>& q_dims = graph.type(q).dims;
    const std::vector<Dim>& v_dims = graph.type(v).dims;
    const std::vector<Dim> k_dims{q_dims[0], v_dims[1], q_dims[2]};
    // A mask of the scores' rank gets the new batch axis, too; one of lower rank broadcasts as before.
    if (mask != kNoValue && mask_type.rank() == 3) mask = with_batch(mask, mask_type.dims);
    q = with_batch(q, q_dims);
    k = with_batch(k, k_dims);
    v = with_batch(v, v_dims);
  }
  std::vector<ValueId> inputs{q, k, v};
  if (mask != kNoValue) inputs.push_back(mask);
  const Attributes attributes{{"scale", scale}, {"causal", std::int64_t{0}}, {"layout", std::string("bhld")}};
  ValueId result = patch.add(make_op("FusedAttention", attributes), inputs);
  if (rank == 3) {
    result = patch.add(make_op("Reshape", {{"dims", dim_texts(graph.type(node.outputs[0]).dims)}}), {result});
  }
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
