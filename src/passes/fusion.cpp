// Pointwise fusion: float32 elementwise operators become programs, programs join, and a program behind an anchor (Conv,
// ConvTranspose, MatMul, MatMulInteger) becomes its epilogue, so that the anchor's result is written once and in its
// final form.
#include <algorithm>
#include <array>

#include "ops/matmul.hpp"
#include "ops/pointwise_form.hpp"
#include "ops/quantized.hpp"
#include "ops/registry.hpp"
#include "passes/match.hpp"
#include "passes/passes.hpp"
#include "passes/program_builder.hpp"

namespace tenfold {
namespace {

constexpr int kMaxConditionDepth = 4;

/// The operand as an item of the program; a float32 constant of one element becomes part of the program.
int operand(const GraphView& graph, ProgramBuilder& builder, ValueId value) {
  const std::optional<double> number = scalar_of(graph, value);
  if (number && is_float32(graph, value)) return builder.constant(static_cast<float>(*number));
  return builder.input(value);
}

/// 1 where the boolean value holds, else 0. Comparisons that nobody else reads become instructions.
int condition(const GraphView& graph, ProgramBuilder& builder, ValueId value, int depth = 0) {
  using enum PointwiseCode;
  const Node* node = graph.producer(value);
  if (node == nullptr || !graph.has_single_use(value) || depth == kMaxConditionDepth) return builder.input(value);
  const std::string_view type = node->op->type();
  if (type == "Not") return builder.apply(rsub_imm, condition(graph, builder, node->inputs[0], depth + 1), 0, 0, 1.0F);
  if (node->inputs.size() != 2 || !is_float32(graph, node->inputs[0])) return builder.input(value);
  const int a = operand(graph, builder, node->inputs[0]);
  const int b = operand(graph, builder, node->inputs[1]);
  if (type == "Less") return builder.apply(less, a, b);
  if (type == "Greater") return builder.apply(less, b, a);
  if (type == "Equal") return builder.apply(equal, a, b);
  // Not as "not greater", which would be wrong for NaN.
  if (type == "LessOrEqual") return builder.apply(add, builder.apply(less, a, b), builder.apply(equal, a, b));
  if (type == "GreaterOrEqual") return builder.apply(add, builder.apply(less, b, a), builder.apply(equal, a, b));
  return builder.input(value);
}

/// A float32 elementwise operator becomes a program of its own.
std::optional<Patch> operator_to_program(const GraphView& graph, const Node& node) {
  if (node.outputs.size() != 1 || node.inputs.empty() || is(node, "Pointwise")) return std::nullopt;
  if (!is_float32(graph, node.outputs[0])) return std::nullopt;
  std::vector<TensorType> input_types;
  for (const ValueId input : node.inputs) {
    input_types.push_back(input == kNoValue ? TensorType{} : graph.type(input));
  }
  const std::optional<PointwiseForm> form = pointwise_form(*node.op, input_types, graph.type(node.outputs[0]));
  if (!form) return std::nullopt;
  ProgramBuilder builder;
  std::vector<int> operands;
  for (const int index : form->inputs) {
    const ValueId value = node.inputs[static_cast<std::size_t>(index)];
    const bool is_condition = is(node, "Where") && index == 0;
    operands.push_back(is_condition ? condition(graph, builder, value) : operand(graph, builder, value));
  }
  const std::optional<BoundProgram> bound = builder.finish(builder.inlined(form->program, operands));
  if (!bound) return std::nullopt;
  // An immediate has no shape, so what is left must still broadcast to the whole output.
  if (!broadcasts_exactly(graph, bound->inputs, graph.type(node.outputs[0]).dims)) return std::nullopt;
  Patch patch(graph, node);
  const ValueId replacement = patch.add(std::make_shared<const Pointwise>(bound->program), bound->inputs);
  return std::move(patch.replace(node.outputs[0], replacement));
}

/// Two programs of one shape, the first only read by the second, become one.
std::optional<Patch> join_programs(const GraphView& graph, const Node& node) {
  const auto* consumer = op_cast<Pointwise>(&node);
  if (consumer == nullptr) return std::nullopt;
  for (const ValueId input : node.inputs) {
    const Node* producer_node = graph.producer(input);
    const auto* producer = op_cast<Pointwise>(producer_node);
    if (producer == nullptr || !graph.has_single_use(input) || !same_dims(graph, input, node.outputs[0])) continue;
    ProgramBuilder builder;
    std::vector<int> operands;
    for (const ValueId value : producer_node->inputs) operands.push_back(builder.input(value));
    const int inner = builder.inlined(producer->program(), operands);
    operands.clear();
    for (const ValueId value : node.inputs) operands.push_back(value == input ? inner : builder.input(value));
    const std::optional<BoundProgram> bound = builder.finish(builder.inlined(consumer->program(), operands));
    if (!bound) continue;
    Patch patch(graph, node);
    patch.absorb(*producer_node);
    const ValueId joined = patch.add(std::make_shared<const Pointwise>(bound->program), bound->inputs);
    return std::move(patch.replace(node.outputs[0], joined));
  }
  return std::nullopt;
}

/// Where an operator's epilogue inputs begin; nullopt for operators without an epilogue.
using FirstInput = std::optional<std::size_t> (*)(const Node& node);
std::optional<std::size_t> first_epilogue_input(const Node& node) {
  if (is(node, "Conv") || is(node, "ConvTranspose")) return 3;
  if (is(node, "MatMul")) return MatMul::kFirstEpilogueInput;
  // Sums that stay integers have none.
  if (const auto* product = op_cast<MatMulInteger>(&node);
      product != nullptr && product->epilogue().output != DType::undefined)
    return MatMulInteger::kFirstEpilogueInput;
  return std::nullopt;
}

/// The same for norms, whose epilogues only some backends compute.
std::optional<std::size_t> first_norm_epilogue_input(const Node& node) {
  if (is(node, "GroupNormalization")) return 3;
  return std::nullopt;
}

/// A program that reads an anchor's result, which nobody else reads, becomes the anchor's epilogue. No cycle can arise:
/// the program's other operands cannot depend on a value that only the program reads.
std::optional<Patch> to_epilogue_of(const GraphView& graph, const Node& node, FirstInput first_input) {
  const auto* program = op_cast<Pointwise>(&node);
  if (program == nullptr) return std::nullopt;
  for (const ValueId input : node.inputs) {
    if (graph.type(input).dtype != DType::float32) return std::nullopt;
  }
  for (const ValueId input : node.inputs) {
    const Node* anchor = graph.producer(input);
    if (anchor == nullptr || !graph.has_single_use(input) || !same_dims(graph, input, node.outputs[0])) continue;
    const std::optional<std::size_t> first = first_input(*anchor);
    if (!first) continue;
    const Attributes attributes = anchor->op->attributes();
    const Epilogue before = Epilogue::from(attributes);
    ProgramBuilder builder;
    int result = builder.input(input);
    if (!before.program.empty()) {
      std::vector<int> operands{result};
      for (std::size_t i = *first; i < anchor->inputs.size(); ++i) operands.push_back(builder.input(anchor->inputs[i]));
      result = builder.inlined(before.program, operands);
    }
    std::vector<int> operands;
    for (const ValueId value : node.inputs) operands.push_back(value == input ? result : builder.input(value));
    const std::optional<BoundProgram> bound = builder.finish(builder.inlined(program->program(), operands), input);
    if (!bound) continue;
    std::vector<ValueId> inputs = anchor->inputs;
    if (bound->inputs.size() > 1 || inputs.size() > *first) inputs.resize(*first, kNoValue);
    inputs.insert(inputs.end(), bound->inputs.begin() + 1, bound->inputs.end());
    Attributes changed = attributes;
    Epilogue{bound->program}.store(changed);
    if (bound->inputs.size() == 1) changed.erase("epilogue_inputs");
    Patch patch(graph, *anchor);
    patch.absorb(node);
    const ValueId fused = patch.add(make_op(anchor->op->type(), changed), std::move(inputs));
    return std::move(patch.replace(node.outputs[0], fused));
  }
  return std::nullopt;
}

std::optional<Patch> program_to_epilogue(const GraphView& graph, const Node& node) {
  return to_epilogue_of(graph, node, first_epilogue_input);
}
std::optional<Patch> program_to_norm_epilogue(const GraphView& graph, const Node& node) {
  return to_epilogue_of(graph, node, first_norm_epilogue_input);
}

constexpr std::array kNormRewrites{
    Rewrite{"program_to_norm_epilogue", program_to_norm_epilogue,
            "A pointwise program behind a group normalisation becomes its epilogue."},
};

constexpr std::array kRewrites{
    Rewrite{"operator_to_program", operator_to_program, "A float32 elementwise operator becomes a pointwise program."},
    Rewrite{"join_programs", join_programs, "A pointwise program that only another of its shape reads joins it."},
    Rewrite{"program_to_epilogue", program_to_epilogue,
            "A pointwise program behind a convolution or matrix product becomes its epilogue."},
};

}  // namespace

const std::span<const Rewrite> kFusionRewrites = kRewrites;
const std::span<const Rewrite> kNormFusionRewrites = kNormRewrites;

}  // namespace tenfold
