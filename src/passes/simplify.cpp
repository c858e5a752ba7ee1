// Operators that do nothing, arithmetic with constants, and casts: what needs no look at where elements lie.
#include <algorithm>
#include <array>
#include <cmath>

#include "ops/pool.hpp"
#include "ops/registry.hpp"
#include "passes/match.hpp"
#include "passes/passes.hpp"

namespace tenfold {
namespace {

Patch replace_output(const GraphView& graph, const Node& node, ValueId replacement) {
  Patch patch(graph, node);
  return std::move(patch.replace(node.outputs[0], replacement));
}

/// The shape of a node with one data input is provably the input's.
bool keeps_type(const GraphView& graph, const Node& node) {
  return !node.inputs.empty() && node.inputs[0] != kNoValue && !node.outputs.empty() && node.outputs[0] != kNoValue &&
         graph.type(node.inputs[0]) == graph.type(node.outputs[0]);
}

bool all_equal(const Tensor& tensor, double wanted) {
  if (tensor.num_elements() > 4096) return false;  // neutral operands are scalars or small vectors
  const std::vector<double> values = tensor.to_double();
  return !values.empty() && std::all_of(values.begin(), values.end(), [&](double value) { return value == wanted; });
}

/// Identity, and operators whose attributes make them one: Cast to the same type, Reshape, Expand to the same shape,
/// Slice of everything, Pad by nothing, Concat or Split of one part, Transpose that keeps the order, reductions over
/// axes of size 1.
std::optional<Patch> remove_no_op(const GraphView& graph, const Node& node) {
  if (!keeps_type(graph, node) || node.outputs.size() != 1) return std::nullopt;
  const Attributes attributes = node.op->attributes();
  const std::string_view type = node.op->type();
  const auto all = [&](std::string_view name, std::int64_t wanted) {
    const std::vector<std::int64_t> values = attributes.get_ints(name, {});
    return std::all_of(values.begin(), values.end(), [&](std::int64_t value) { return value == wanted; });
  };
  bool is_no_op = false;
  if (is_one_of(node, {"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Expand"})) {
    is_no_op = true;
  } else if (type == "Slice") {
    is_no_op = attributes.has("starts") && all("steps", 1);
  } else if (type == "Pad") {
    is_no_op = attributes.has("pads") && all("pads", 0);
  } else if (type == "Concat" || type == "Sum" || type == "Mean" || type == "Max" || type == "Min") {
    is_no_op = node.inputs.size() == 1;
  } else if (type == "Split") {
    is_no_op = true;
  } else if (type == "Transpose") {
    const std::vector<std::int64_t> perm = attributes.get_ints("perm", {});
    is_no_op = std::is_sorted(perm.begin(), perm.end()) && !perm.empty();
  } else if (is_one_of(node, {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"})) {
    // With keepdims and the same shape, every reduced axis has size 1. Without axes the rule is left to inference.
    const std::vector<Dim>& dims = graph.type(node.inputs[0]).dims;
    const std::vector<std::int64_t> axes = attributes.get_ints("axes", {});
    is_no_op = attributes.get_int("keepdims", 1) == 1 && !axes.empty() &&
               std::all_of(axes.begin(), axes.end(), [&](std::int64_t axis) {
                 return axis >= 0 && dims[static_cast<std::size_t>(axis)] == Dim(1);
               });
  }
  if (!is_no_op) return std::nullopt;
  return replace_output(graph, node, node.inputs[0]);
}

/// x + 0, x - 0, x * 1, x / 1, x ^ 1, where the constant does not widen the shape.
std::optional<Patch> remove_neutral_operand(const GraphView& graph, const Node& node) {
  const std::string_view type = node.op->type();
  const bool is_sum = type == "Add" || type == "Sub";
  if (!is_sum && type != "Mul" && type != "Div" && type != "Pow") return std::nullopt;
  if (node.inputs.size() != 2) return std::nullopt;
  const bool commutes = type == "Add" || type == "Mul";
  for (const auto& [kept, neutral] : both_orders(node)) {
    const Tensor* constant = graph.constant(neutral);
    if (constant != nullptr && all_equal(*constant, is_sum ? 0 : 1) &&
        graph.type(kept) == graph.type(node.outputs[0])) {
      return replace_output(graph, node, kept);
    }
    if (!commutes) break;
  }
  return std::nullopt;
}

/// x - c becomes x + (-c), and x / c becomes x * (1 / c): exact, and off by at most one rounding. Additions and
/// multiplications are what the rules behind this one fold.
std::optional<Patch> subtract_or_divide_by_constant(const GraphView& graph, const Node& node) {
  const bool is_division = is(node, "Div");
  if ((!is_division && !is(node, "Sub")) || !is_float32(graph, node.outputs[0])) return std::nullopt;
  const Tensor* constant = graph.constant(node.inputs[1]);
  if (constant == nullptr || graph.constant(node.inputs[0]) != nullptr) return std::nullopt;
  Tensor changed(DType::float32, constant->shape());
  const auto from = constant->as<float>();
  const auto to = changed.as_mutable<float>();
  for (std::size_t i = 0; i < to.size(); ++i) {
    to[i] = is_division ? 1 / from[i] : -from[i];
    if (is_division && !std::isnormal(to[i])) return std::nullopt;
  }
  Patch patch(graph, node);
  const ValueId operand = patch.constant(graph.value(node.inputs[1]).name, std::move(changed));
  const ValueId result = patch.add(make_op(is_division ? "Mul" : "Add"), {node.inputs[0], operand});
  return std::move(patch.replace(node.outputs[0], result));
}

/// (x + a) + b and (x * a) * b with constants a and b need one operation: a + b and a * b are folded.
std::optional<Patch> join_constant_operands(const GraphView& graph, const Node& node) {
  if (!is_one_of(node, {"Add", "Mul"}) || !is_float32(graph, node.outputs[0])) return std::nullopt;
  for (const auto& [value, outer] : both_orders(node)) {
    const Node* inner = sole_producer_of(graph, value, node.op->type());
    if (inner == nullptr || graph.constant(outer) == nullptr) continue;
    for (const auto& [x, constant] : both_orders(*inner)) {
      if (graph.constant(constant) == nullptr || graph.constant(x) != nullptr) continue;
      // A constant may be small only because the other one is: their combination must not be larger than the result.
      if (estimated_bytes(graph.type(constant)) + estimated_bytes(graph.type(outer)) > estimated_bytes(graph.type(x))) {
        continue;
      }
      Patch patch(graph, node);
      patch.absorb(*inner);
      const ValueId both = patch.add(node.op, {constant, outer});
      return std::move(patch.replace(node.outputs[0], patch.add(node.op, {x, both})));
    }
  }
  return std::nullopt;
}

/// The exponent takes the base's element type, as the arithmetic has it.
std::optional<Patch> pow_exponent_to_float(const GraphView& graph, const Node& node) {
  if (!is(node, "Pow") || !is_float32(graph, node.inputs[0])) return std::nullopt;
  const Tensor* exponent = graph.constant(node.inputs[1]);
  if (exponent == nullptr || exponent->dtype() == DType::float32) return std::nullopt;
  const std::vector<double> values = exponent->to_double();
  const std::vector<float> floats(values.begin(), values.end());
  Patch patch(graph, node);
  const ValueId operand =
      patch.constant(graph.value(node.inputs[1]).name,
                     Tensor::from<float>(DType::float32, exponent->shape(), std::span<const float>(floats)));
  return std::move(patch.replace(node.outputs[0], patch.add(node.op, {node.inputs[0], operand})));
}

/// Can every value of `from` be stored in `to` and come back?
bool holds_all(DType from, DType to) {
  if (from == to) return true;
  if (from == DType::boolean) return true;
  if (is_float(from)) return to == DType::float64 || (to == DType::float32 && from != DType::float64);
  if (!is_integer(from)) return false;
  const std::size_t digits = 8 * size_of(from) - (is_signed(from) ? 1 : 0);
  if (to == DType::float64) return digits <= 53;
  if (to == DType::float32) return digits <= 24;
  if (!is_integer(to) || (is_signed(from) && !is_signed(to))) return false;
  return 8 * size_of(to) - (is_signed(to) ? 1 : 0) >= digits;
}

/// A cast to a wider type and on to another is one cast.
std::optional<Patch> join_casts(const GraphView& graph, const Node& node) {
  if (!is(node, "Cast")) return std::nullopt;
  const Node* inner = producer_of(graph, node.inputs[0], "Cast");
  if (inner == nullptr) return std::nullopt;
  const DType from = graph.type(inner->inputs[0]).dtype;
  if (!holds_all(from, graph.type(node.inputs[0]).dtype)) return std::nullopt;
  Patch patch(graph, node);
  patch.absorb(*inner);
  if (from == graph.type(node.outputs[0]).dtype) return std::move(patch.replace(node.outputs[0], inner->inputs[0]));
  return std::move(patch.replace(node.outputs[0], patch.add(node.op, {inner->inputs[0]})));
}

/// An elementwise operator broadcasts by itself: an Expand, or a tensor of one repeated value, in front of it goes.
std::optional<Patch> remove_explicit_broadcast(const GraphView& graph, const Node& node) {
  if (!is_one_of(node, {"Add", "Sub", "Mul", "Div", "Pow", "Where", "Max", "Min", "Less", "LessOrEqual", "Greater",
                        "GreaterOrEqual", "Equal", "And", "Or"})) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const Node* from = graph.producer(node.inputs[i]);
    if (!is(from, "Expand") && !is(from, "ConstantOfShape")) continue;
    Patch patch(graph, node);
    patch.absorb(*from);
    std::vector<ValueId> inputs = node.inputs;
    std::vector<ValueId> others = inputs;
    if (is(from, "Expand")) {
      inputs[i] = others[i] = from->inputs[0];
    } else {
      inputs[i] =
          patch.constant(graph.value(node.inputs[i]).name, from->op->attributes().get_tensor("value").reshaped({}));
      others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
    }
    if (!broadcasts_exactly(graph, others, graph.type(node.outputs[0]).dims)) continue;
    return std::move(patch.replace(node.outputs[0], patch.add(node.op, inputs)));
  }
  return std::nullopt;
}

/// A pooling over the whole image is a reduction of the spatial axes.
std::optional<Patch> pool_to_reduction(const GraphView& graph, const Node& node) {
  const auto* average = op_cast<AveragePool>(&node);
  const auto* maximum = op_cast<MaxPool>(&node);
  if ((average == nullptr && maximum == nullptr) || node.outputs.size() != 1) return std::nullopt;
  const Window& window = average != nullptr ? average->window() : maximum->window();
  const std::vector<std::int64_t>& kernel = average != nullptr ? average->kernel() : maximum->kernel();
  if (window.has_padding() || window.ceil_mode || node.op->attributes().get_string("auto_pad", "NOTSET") != "NOTSET") {
    return std::nullopt;
  }
  const auto first =
      static_cast<std::size_t>(first_spatial_axis(average != nullptr ? average->layout() : maximum->layout()));
  std::vector<std::int64_t> axes;
  for (std::size_t i = 0; i < kernel.size(); ++i) {
    if (!(graph.type(node.inputs[0]).dims[first + i] == Dim(kernel[i])) || window.dilations[i] != 1)
      return std::nullopt;
    axes.push_back(static_cast<std::int64_t>(first + i));
  }
  Patch patch(graph, node);
  const OpPtr op =
      make_op(average != nullptr ? "ReduceMean" : "ReduceMax", {{"axes", axes}, {"keepdims", std::int64_t{1}}});
  return std::move(patch.replace(node.outputs[0], patch.add(op, {node.inputs[0]})));
}

/// concat(-a, b) is concat(a, b) times a constant of signs, which joins the arithmetic behind it (rotary embeddings).
std::optional<Patch> negate_after_concat(const GraphView& graph, const Node& node) {
  if (!is(node, "Concat") || !is_float32(graph, node.outputs[0])) return std::nullopt;
  const int rank = graph.type(node.outputs[0]).rank();
  std::int64_t axis = node.op->attributes().get_int("axis");
  if (axis < 0) axis += rank;
  if (axis != rank - 1) return std::nullopt;
  const auto last = static_cast<std::size_t>(axis);
  std::vector<ValueId> inputs;
  std::vector<float> signs;
  Patch patch(graph, node);
  for (const ValueId input : node.inputs) {
    const Dim& size = graph.type(input).dims[last];
    if (!size.is_constant() || size.constant() > 4096) return std::nullopt;
    const Node* negation = sole_producer_of(graph, input, "Neg");
    signs.insert(signs.end(), static_cast<std::size_t>(size.constant()), negation != nullptr ? -1.0F : 1.0F);
    inputs.push_back(negation != nullptr ? negation->inputs[0] : input);
    if (negation != nullptr) patch.absorb(*negation);
  }
  if (std::find(signs.begin(), signs.end(), -1.0F) == signs.end()) return std::nullopt;
  const Shape shape{static_cast<std::int64_t>(signs.size())};
  const ValueId sign =
      patch.constant(node.name + ".signs", Tensor::from<float>(DType::float32, shape, std::span<const float>(signs)));
  const ValueId joined = patch.add(node.op, inputs);
  return std::move(patch.replace(node.outputs[0], patch.add(make_op("Mul"), {joined, sign})));
}

/// Where with a condition known everywhere is the chosen branch.
std::optional<Patch> choose_known_branch(const GraphView& graph, const Node& node) {
  if (!is(node, "Where")) return std::nullopt;
  const Tensor* condition = graph.constant(node.inputs[0]);
  if (condition == nullptr) return std::nullopt;
  const bool yes = all_equal(*condition, 1);
  if (!yes && !all_equal(*condition, 0)) return std::nullopt;
  const ValueId chosen = node.inputs[yes ? 1 : 2];
  if (graph.type(chosen) != graph.type(node.outputs[0])) return std::nullopt;
  return replace_output(graph, node, chosen);
}

constexpr std::array kRewrites{
    Rewrite{"remove_no_op", remove_no_op, "Operators whose attributes make them the identity."},
    Rewrite{"remove_neutral_operand", remove_neutral_operand, "x + 0, x * 1 and their like are x."},
    Rewrite{"subtract_or_divide_by_constant", subtract_or_divide_by_constant,
            "x - c and x / c become x + (-c) and x * (1/c), which later rules fold."},
    Rewrite{"join_constant_operands", join_constant_operands, "(x + a) + b becomes x + (a + b), the same for *."},
    Rewrite{"pow_exponent_to_float", pow_exponent_to_float, "An integer exponent of a float base becomes a float."},
    Rewrite{"join_casts", join_casts, "A cast to a wider type and on to another is one cast."},
    Rewrite{"remove_explicit_broadcast", remove_explicit_broadcast, "Elementwise operators broadcast by themselves."},
    Rewrite{"pool_to_reduction", pool_to_reduction, "A pooling over the whole image is a reduction."},
    Rewrite{"negate_after_concat", negate_after_concat, "A negation in front of Concat becomes a sign behind it."},
    Rewrite{"choose_known_branch", choose_known_branch, "Where with a constant condition is one of its operands."},
};

}  // namespace

const std::span<const Rewrite> kSimplifyRewrites = kRewrites;

}  // namespace tenfold
