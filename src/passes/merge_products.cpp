// Products of one operand with several constant matrices (query, key and value of an attention; all keys and values of
// a text; what every block makes of the time step) become one wide product and a Split, whose parts are read where they
// lie. Attention then reads and writes tokens whole, [B, L, H * D], because a part of such a row is one again.
// A product whose halves meet in one program (a gated activation) computes it before anything is stored.
#include <algorithm>
#include <array>
#include <cstring>

#include "ops/attention.hpp"
#include "ops/gated_matmul.hpp"
#include "ops/matmul.hpp"
#include "ops/registry.hpp"
#include "ops/slice.hpp"
#include "ops/split.hpp"
#include "passes/match.hpp"
#include "passes/passes.hpp"
#include "passes/program_builder.hpp"

namespace tenfold {
namespace {

/// Parts begin at multiples of so many elements: whole vectors of any element type.
constexpr std::int64_t kPartElements = 16;
/// Of a gated product; what kernels take.
constexpr std::size_t kMostOperands = 6;

/// The [B, L, C] behind a Reshape to [B, L, H, D], or kNoValue.
ValueId joined_heads(const GraphView& graph, ValueId value) {
  const Node* reshape = producer_of(graph, value, "Reshape");
  if (reshape == nullptr) return kNoValue;
  const std::vector<Dim>& from = graph.type(reshape->inputs[0]).dims;
  const std::vector<Dim>& to = graph.type(value).dims;
  const bool splits_last = from.size() == 3 && to.size() == 4 && from[0] == to[0] && from[1] == to[1] &&
                           from[2].is_constant() && to[2].is_constant();
  return splits_last ? reshape->inputs[0] : kNoValue;
}

/// Attention of tokens that were reshaped to heads reads them unreshaped.
std::optional<Patch> flatten_attention(const GraphView& graph, const Node& node) {
  const auto* attention = op_cast<FusedAttention>(&node);
  if (attention == nullptr || attention->layout() != FusedAttention::Layout::blhd) return std::nullopt;
  std::vector<ValueId> inputs = node.inputs;
  for (std::size_t i = 0; i < 3; ++i) {
    inputs[i] = joined_heads(graph, node.inputs[i]);
    if (inputs[i] == kNoValue) return std::nullopt;
  }
  const std::vector<Dim>& result = graph.type(node.outputs[0]).dims;
  if (!can_be_stored(graph, result)) return std::nullopt;
  const auto heads = [&](std::size_t i) { return graph.type(node.inputs[i]).dims[2].constant(); };
  Patch patch(graph, node);
  const ValueId flat = patch.add(
      with_attributes(*node.op, {{"layout", std::string("flat")}, {"heads", heads(0)}, {"key_heads", heads(1)}}),
      inputs);
  return std::move(
      patch.replace(node.outputs[0], patch.add(make_op("Reshape", {{"dims", dim_texts(result)}}), {flat})));
}

/// Where the operands of an epilogue begin; nullopt for operators without one that reads parts.
std::optional<std::size_t> first_part_operand(const Node& node) {
  if (is(node, "Conv")) return 3;
  if (is(node, "MatMul")) return MatMul::kFirstEpilogueInput;
  if (is(node, "Pointwise")) return 0;
  return std::nullopt;
}

/// Do all readers take a part of a wider row? Behind a Reshape that keeps rows, its readers count.
bool is_read_in_parts(const GraphView& graph, ValueId value) {
  if (graph.is_output(value)) return false;
  const std::span<const NodeId> readers = graph.readers(value);
  return std::all_of(readers.begin(), readers.end(), [&](NodeId id) {
    const Node& reader = graph.graph().node(id);
    if (is(reader, "Reshape")) {
      const ValueId result = reader.outputs[0];
      const std::vector<Dim>& dims = graph.type(result).dims;
      return !dims.empty() && dims.back() == graph.type(value).dims.back() && is_read_in_parts(graph, result);
    }
    if (const auto* attention = op_cast<FusedAttention>(&reader)) {
      return attention->layout() == FusedAttention::Layout::flat;
    }
    const std::optional<std::size_t> first = first_part_operand(reader);
    if (!first) return false;
    const auto end = reader.inputs.begin() + std::min(static_cast<std::ptrdiff_t>(*first), std::ssize(reader.inputs));
    return std::find(reader.inputs.begin(), end, value) == end;
  });
}

std::int64_t columns_of(const GraphView& graph, const Node& node) {
  return graph.type(node.outputs[0]).dims.back().constant();
}

/// A product with a constant matrix, and an epilogue of constants of one number a column.
const MatMul* mergeable(const GraphView& graph, const Node& node) {
  const auto* product = op_cast<MatMul>(&node);
  if (product == nullptr || product->trans_a() || product->epilogue().output != DType::undefined) return nullptr;
  const Tensor* b = graph.constant(node.inputs[1]);
  if (b == nullptr || b->rank() != 2 || b->dtype() != DType::float32 || graph.type(node.inputs[0]).rank() < 2) {
    return nullptr;
  }
  const std::int64_t columns = columns_of(graph, node);
  for (std::size_t i = MatMul::kFirstEpilogueInput; i < node.inputs.size(); ++i) {
    const Tensor* operand = graph.constant(node.inputs[i]);
    if (operand == nullptr || operand->dtype() != DType::float32 || operand->num_elements() != columns ||
        operand->rank() == 0 || operand->shape().back() != columns) {
      return nullptr;
    }
  }
  return columns % kPartElements == 0 && is_read_in_parts(graph, node.outputs[0]) ? product : nullptr;
}

/// Matrices [outer, n_i] side by side: [outer, sum of n_i].
Tensor side_by_side(std::span<const Tensor* const> parts, std::int64_t outer, Shape shape) {
  Tensor whole(DType::float32, shape);
  std::byte* to = whole.mutable_data();
  for (std::int64_t row = 0; row < outer; ++row) {
    for (const Tensor* part : parts) {
      const auto bytes = static_cast<std::size_t>(part->num_elements() / outer) * sizeof(float);
      std::memcpy(to, part->data() + static_cast<std::size_t>(row) * bytes, bytes);
      to += bytes;
    }
  }
  return whole;
}

std::optional<Patch> merge_products(const GraphView& graph, const Node& node) {
  const MatMul* product = mergeable(graph, node);
  if (product == nullptr) return std::nullopt;
  std::vector<const Node*> group;
  for (const NodeId id : graph.readers(node.inputs[0])) {
    const Node& other = graph.graph().node(id);
    const MatMul* sibling = mergeable(graph, other);
    if (sibling == nullptr || other.inputs[0] != node.inputs[0] || sibling->trans_b() != product->trans_b() ||
        sibling->epilogue().program != product->epilogue().program) {
      continue;
    }
    group.push_back(&other);
  }
  if (group.size() < 2 || group.front() != &node) return std::nullopt;

  Patch patch(graph, node);
  std::vector<std::int64_t> sizes;
  std::int64_t columns = 0;
  for (const Node* member : group) {
    patch.absorb(*member);
    sizes.push_back(columns_of(graph, *member));
    columns += sizes.back();
  }
  std::vector<ValueId> inputs{node.inputs[0]};
  for (std::size_t i = 1; i < node.inputs.size(); ++i) {
    std::vector<const Tensor*> parts;
    for (const Node* member : group) parts.push_back(graph.constant(member->inputs[i]));
    const std::int64_t rows = i == 1 ? parts[0]->shape()[product->trans_b() ? 1 : 0] : 1;
    const Shape shape = i > 1 ? Shape{columns} : product->trans_b() ? Shape{columns, rows} : Shape{rows, columns};
    inputs.push_back(patch.constant(graph.value(node.inputs[i]).name + "/merged",
                                    side_by_side(parts, i == 1 && !product->trans_b() ? rows : 1, shape)));
  }
  const ValueId whole = patch.add(node.op, inputs);
  const ValueId first = patch.add(make_op("Split", {{"axis", std::int64_t{-1}}, {"sizes", sizes}}), {whole},
                                  static_cast<int>(group.size()));
  for (std::size_t i = 0; i < group.size(); ++i) {
    patch.replace(group[i]->outputs[0], first + static_cast<ValueId>(i));
  }
  return patch;
}

/// A product and one half of its columns, the first (0) or the second.
struct Half {
  const Node* product;
  std::size_t index;
};
/// The half of a product's columns that `value` is, by a Split or a Slice.
std::optional<Half> half_at(const GraphView& graph, ValueId value) {
  const Node* node = graph.producer(value);
  const auto* split = op_cast<Split>(node);
  const auto* slice = op_cast<Slice>(node);
  if (split == nullptr && slice == nullptr) return std::nullopt;
  const TensorType& whole = graph.type(node->inputs[0]);
  const Dim& columns = whole.dims.back();
  const Node* product = producer_of(graph, node->inputs[0], "MatMul");
  if (product == nullptr || !columns.is_constant() || graph.type(value).dims.back() * Dim(2) != columns) {
    return std::nullopt;
  }
  const auto is_last = [&](std::int64_t axis) { return axis == -1 || axis == whole.rank() - 1; };
  if (split != nullptr) {
    if (!is_last(split->axis()) || node->outputs.size() != 2) return std::nullopt;
    return Half{product, value == node->outputs[0] ? 0U : 1U};
  }
  if (!slice->ranges() || slice->ranges()->size() != 1) return std::nullopt;
  const Slice::Range& range = slice->ranges()->front();
  const std::int64_t first = slice_extent(range, columns.constant()).first;
  if (!is_last(range.axis) || range.step != 1 || (first != 0 && first * 2 != columns.constant())) return std::nullopt;
  return Half{product, first == 0 ? 0U : 1U};
}

/// The product of which `node` alone reads both halves, and the values that these are.
struct Halves {
  const Node* product;
  std::array<ValueId, 2> values;
};
std::optional<Halves> halves_in(const GraphView& graph, const Node& node) {
  Halves found{nullptr, {kNoValue, kNoValue}};
  for (const ValueId input : node.inputs) {
    const std::optional<Half> half = half_at(graph, input);
    if (!half || (found.product != nullptr && half->product != found.product)) continue;
    if (graph.only_reader(input) != &node) return std::nullopt;
    found.product = half->product;
    found.values[half->index] = input;
  }
  if (found.values[0] == kNoValue || found.values[1] == kNoValue) return std::nullopt;
  const ValueId whole = found.product->outputs[0];
  const std::span<const NodeId> readers = graph.readers(whole);
  const bool is_read_else =
      graph.is_output(whole) || std::any_of(readers.begin(), readers.end(), [&](NodeId id) {
        const Node* reader = &graph.graph().node(id);
        return reader != graph.producer(found.values[0]) && reader != graph.producer(found.values[1]);
      });
  return is_read_else ? std::nullopt : std::optional(found);
}

/// [..., n] of a constant [..., 2 n] with one number a column: half 0 or 1.
Tensor half_of(const Tensor& tensor, std::size_t half) {
  Tensor result(tensor.dtype(), {tensor.num_elements() / 2});
  const std::size_t bytes = static_cast<std::size_t>(result.num_elements()) * size_of(tensor.dtype());
  std::memcpy(result.mutable_data(), tensor.data() + half * bytes, bytes);
  return result;
}

bool has_one_a_column(const GraphView& graph, ValueId value, std::int64_t columns) {
  const Tensor* tensor = graph.constant(value);
  return tensor != nullptr && tensor->num_elements() == columns && tensor->rank() > 0 &&
         tensor->shape().back() == columns;
}

std::optional<Patch> gate_product(const GraphView& graph, const Node& node) {
  const auto* gate = op_cast<Pointwise>(&node);
  const std::optional<Halves> found = gate != nullptr ? halves_in(graph, node) : std::nullopt;
  if (!found) return std::nullopt;
  const auto* product = op_cast<MatMul>(found->product);
  const std::vector<ValueId>& inputs = found->product->inputs;
  const DType dtype = graph.type(inputs[0]).dtype;
  const Tensor* b = graph.constant(inputs[1]);
  if (product->trans_a() || b == nullptr || b->rank() != 2 || graph.type(inputs[0]).rank() < 2) return std::nullopt;
  if ((dtype != DType::float16 && dtype != DType::bfloat16) || graph.type(node.outputs[0]).dtype != dtype) {
    return std::nullopt;
  }
  const std::int64_t columns = b->shape()[product->trans_b() ? 0 : 1],
                     k = b->num_elements() / std::max<std::int64_t>(columns, 1);
  if (columns % (2 * kPartElements) != 0 || k % kPartElements != 0) return std::nullopt;
  for (std::size_t i = MatMul::kFirstEpilogueInput; i < inputs.size(); ++i) {
    if (!has_one_a_column(graph, inputs[i], columns)) return std::nullopt;
  }

  Patch patch(graph, node);
  patch.absorb(*found->product);
  ProgramBuilder builder;
  std::array<int, 2> halves{builder.input(found->values[0]), builder.input(found->values[1])};
  if (!product->epilogue().program.empty()) {
    for (std::size_t half = 0; half < 2; ++half) {
      std::vector<int> operands{halves[half]};
      for (std::size_t i = MatMul::kFirstEpilogueInput; i < inputs.size(); ++i) {
        operands.push_back(
            builder.input(patch.constant(graph.value(inputs[i]).name + (half == 0 ? "/first" : "/second"),
                                         half_of(*graph.constant(inputs[i]), half))));
      }
      halves[half] = builder.inlined(product->epilogue().program, operands);
    }
  }
  std::vector<int> operands;
  for (const ValueId input : node.inputs) {
    const auto half = std::find(found->values.begin(), found->values.end(), input);
    if (half == found->values.end() && !has_one_a_column(graph, input, columns / 2)) return std::nullopt;
    operands.push_back(half != found->values.end() ? halves[static_cast<std::size_t>(half - found->values.begin())]
                                                   : builder.input(input));
  }
  const std::optional<BoundProgram> bound = builder.finish(builder.inlined(gate->program(), operands));
  if (!bound || bound->inputs.size() < 2 || bound->inputs[0] != found->values[0] ||
      bound->inputs[1] != found->values[1] || bound->inputs.size() > 2 + kMostOperands) {
    return std::nullopt;
  }
  std::vector<ValueId> operands_of_product{inputs[0], inputs[1]};
  operands_of_product.insert(operands_of_product.end(), bound->inputs.begin() + 2, bound->inputs.end());
  const auto op = std::make_shared<const GatedMatMul>(product->trans_b(), bound->program);
  return std::move(patch.replace(node.outputs[0], patch.add(op, std::move(operands_of_product))));
}

constexpr std::array kGates{
    Rewrite{"gate_product", gate_product, "A product of 16-bit floats whose halves meet in one program computes it."},
};

constexpr std::array kRewrites{
    Rewrite{"flatten_attention", flatten_attention, "Attention reads tokens whole instead of reshaped to heads."},
    Rewrite{"merge_products", merge_products,
            "Products of one operand with constant matrices become one, whose parts are read where they lie."},
};

}  // namespace

const std::span<const Rewrite> kMergeRewrites = kRewrites;
const std::span<const Rewrite> kGateRewrites = kGates;

}  // namespace tenfold
