// Operators that do nothing, or that together with their producer do less than it seems.
#include <algorithm>
#include <array>
#include <cmath>

#include "ops/reduce.hpp"
#include "ops/registry.hpp"
#include "ops/reshape.hpp"
#include "passes/match.hpp"
#include "passes/passes.hpp"

namespace tenfold {
namespace {

bool is_view(const Node* node) {
  return node != nullptr && is_one_of(*node, {"Reshape", "Squeeze", "Unsqueeze", "Flatten"});
}

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

/// A view of a view is one view.
std::optional<Patch> join_views(const GraphView& graph, const Node& node) {
  if (!is(node, "Reshape") || !node.op->attributes().has("dims")) return std::nullopt;
  const Node* inner = graph.producer(node.inputs[0]);
  if (!is_view(inner)) return std::nullopt;
  Patch patch(graph, node);
  patch.absorb(*inner);
  return std::move(patch.replace(node.outputs[0], patch.add(node.op, {inner->inputs[0]})));
}

/// A transposition that moves only axes of size 1 keeps the elements in order.
std::optional<Patch> transpose_to_view(const GraphView& graph, const Node& node) {
  if (!is(node, "Transpose")) return std::nullopt;
  const std::vector<std::int64_t> perm = node.op->attributes().get_ints("perm", {});
  const TensorType& from = graph.type(node.inputs[0]);
  if (static_cast<int>(perm.size()) != from.rank() || std::is_sorted(perm.begin(), perm.end())) return std::nullopt;
  std::vector<std::int64_t> moved;  // axes that hold more than one element, in the order of the result
  for (const std::int64_t axis : perm) {
    if (!(from.dims[static_cast<std::size_t>(axis)] == Dim(1))) moved.push_back(axis);
  }
  if (!std::is_sorted(moved.begin(), moved.end())) return std::nullopt;
  const std::vector<Dim>& dims = graph.type(node.outputs[0]).dims;
  if (!can_be_stored(graph, dims)) return std::nullopt;
  Patch patch(graph, node);
  const ValueId view = patch.add(make_op("Reshape", {{"dims", dim_texts(dims)}}), {node.inputs[0]});
  return std::move(patch.replace(node.outputs[0], view));
}

/// Two transpositions are one, or none.
std::optional<Patch> join_transposes(const GraphView& graph, const Node& node) {
  if (!is(node, "Transpose")) return std::nullopt;
  const Node* inner = producer_of(graph, node.inputs[0], "Transpose");
  if (inner == nullptr) return std::nullopt;
  const std::vector<std::int64_t> first = inner->op->attributes().get_ints("perm", {});
  const std::vector<std::int64_t> second = node.op->attributes().get_ints("perm", {});
  if (first.empty() || first.size() != second.size()) return std::nullopt;
  const std::vector<std::int64_t> perm = compose(first, second);
  Patch patch(graph, node);
  patch.absorb(*inner);
  if (std::is_sorted(perm.begin(), perm.end())) return std::move(patch.replace(node.outputs[0], inner->inputs[0]));
  const ValueId joined = patch.add(make_op("Transpose", {{"perm", perm}}), {inner->inputs[0]});
  return std::move(patch.replace(node.outputs[0], joined));
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

/// Gather of one known position is a Slice, which is a view of the data.
std::optional<Patch> gather_to_slice(const GraphView& graph, const Node& node) {
  if (!is(node, "Gather")) return std::nullopt;
  const Tensor* index = graph.constant(node.inputs[1]);
  if (index == nullptr || index->num_elements() != 1 || index->rank() > 1) return std::nullopt;
  const TensorType& from = graph.type(node.inputs[0]);
  const std::vector<Dim>& dims = graph.type(node.outputs[0]).dims;
  if (from.rank() == 0 || !can_be_stored(graph, dims)) return std::nullopt;
  std::int64_t axis = node.op->attributes().get_int("axis", 0);
  if (axis < 0) axis += from.rank();
  const Dim& size = from.dims[static_cast<std::size_t>(axis)];
  const std::int64_t position = index->to_int64()[0];
  // An index outside is an error of the model, which Slice would hide.
  if (size.is_constant() ? (position < -size.constant() || position >= size.constant()) : true) return std::nullopt;
  const std::int64_t start = position < 0 ? position + size.constant() : position;
  Patch patch(graph, node);
  using Ints = std::vector<std::int64_t>;
  const ValueId slice = patch.add(
      make_op("Slice", {{"starts", Ints{start}}, {"ends", Ints{start + 1}}, {"axes", Ints{axis}}, {"steps", Ints{1}}}),
      {node.inputs[0]});
  const ValueId result = patch.add(make_op("Reshape", {{"dims", dim_texts(dims)}}), {slice});
  return std::move(patch.replace(node.outputs[0], result));
}

/// A run of elements of another value along one axis: an output of Split, or a Slice.
struct Part {
  ValueId source = kNoValue;
  std::int64_t axis = 0, begin = 0, end = 0;
  const Node* node = nullptr;
};
std::optional<Part> part_of(const GraphView& graph, ValueId value) {
  const Node* node = graph.producer(value);
  if (node == nullptr) return std::nullopt;
  const Attributes attributes = node->op->attributes();
  if (is(*node, "Split") && attributes.has("sizes")) {
    const std::vector<std::int64_t> sizes = attributes.get_ints("sizes");
    const auto index = static_cast<std::size_t>(graph.value(value).output_index);
    Part part{node->inputs[0], attributes.get_int("axis", 0), 0, 0, node};
    for (std::size_t i = 0; i < index; ++i) part.begin += sizes[i];
    part.end = part.begin + sizes[index];
    if (part.axis < 0) part.axis += graph.type(value).rank();
    return part;
  }
  if (is(*node, "Slice") && attributes.has("starts")) {
    const std::vector<std::int64_t> axes = attributes.get_ints("axes", {});
    if (axes.size() != 1 || axes[0] < 0 || attributes.get_ints("steps", {1})[0] != 1) return std::nullopt;
    const Dim& size = graph.type(node->inputs[0]).dims[static_cast<std::size_t>(axes[0])];
    const Dim& count = graph.type(value).dims[static_cast<std::size_t>(axes[0])];
    const std::int64_t start = attributes.get_ints("starts")[0];
    if (!size.is_constant() || !count.is_constant()) return std::nullopt;
    const std::int64_t begin = std::min(start < 0 ? start + size.constant() : start, size.constant());
    if (begin < 0) return std::nullopt;
    return Part{node->inputs[0], axes[0], begin, begin + count.constant(), node};
  }
  return std::nullopt;
}

/// A reduction whose axes of size 1 a Reshape drops need not keep them.
std::optional<Patch> reduce_without_axes(const GraphView& graph, const Node& node) {
  const auto* view = op_cast<Reshape>(&node);
  const auto* reduce = view != nullptr ? op_cast<Reduce>(graph.producer(node.inputs[0])) : nullptr;
  if (reduce == nullptr || !reduce->keep_dims() || !graph.has_single_use(node.inputs[0])) return std::nullopt;
  const Node& inner = *graph.producer(node.inputs[0]);
  const std::vector<bool> is_reduced = reduce->reduced_axes(graph.type(inner.inputs[0]).rank());
  std::vector<Dim> kept;
  for (std::size_t i = 0; i < is_reduced.size(); ++i) {
    if (!is_reduced[i]) kept.push_back(graph.type(node.inputs[0]).dims[i]);
  }
  if (kept != graph.type(node.outputs[0]).dims) return std::nullopt;
  Patch patch(graph, inner);
  patch.absorb(node);
  const ValueId result = patch.add(with_attributes(*inner.op, {{"keepdims", std::int64_t{0}}}), {inner.inputs[0]});
  return std::move(patch.replace(node.outputs[0], result));
}

/// Concat of consecutive parts of one value reads the value, or one larger part of it.
std::optional<Patch> join_parts(const GraphView& graph, const Node& node) {
  if (!is(node, "Concat")) return std::nullopt;
  const int rank = graph.type(node.outputs[0]).rank();
  std::int64_t axis = node.op->attributes().get_int("axis");
  if (axis < 0) axis += rank;
  Patch patch(graph, node);
  std::vector<ValueId> inputs;
  bool any = false;
  for (std::size_t i = 0; i < node.inputs.size();) {
    std::optional<Part> run = part_of(graph, node.inputs[i]);
    const std::size_t first = i++;
    while (run && run->axis == axis && i < node.inputs.size()) {
      const std::optional<Part> next = part_of(graph, node.inputs[i]);
      if (!next || next->source != run->source || next->axis != axis || next->begin != run->end) break;
      run->end = next->end;
      patch.absorb(*next->node);
      ++i;
    }
    if (i == first + 1) {
      inputs.push_back(node.inputs[first]);
      continue;
    }
    any = true;
    patch.absorb(*run->node);
    const bool is_whole =
        run->begin == 0 && graph.type(run->source).dims[static_cast<std::size_t>(axis)] == Dim(run->end);
    using Ints = std::vector<std::int64_t>;
    inputs.push_back(is_whole ? run->source
                              : patch.add(make_op("Slice", {{"starts", Ints{run->begin}},
                                                            {"ends", Ints{run->end}},
                                                            {"axes", Ints{axis}},
                                                            {"steps", Ints{1}}}),
                                          {run->source}));
  }
  if (!any) return std::nullopt;
  const ValueId result = inputs.size() == 1 ? inputs[0] : patch.add(node.op, inputs);
  return std::move(patch.replace(node.outputs[0], result));
}

/// A part of a transposed value is the transposed part: less is moved. Needs that only parts are read.
std::optional<Patch> slice_before_transpose(const GraphView& graph, const Node& node) {
  if (!is(node, "Slice") || !node.op->attributes().has("starts")) return std::nullopt;
  const Node* transpose = producer_of(graph, node.inputs[0], "Transpose");
  if (transpose == nullptr || graph.is_output(node.inputs[0])) return std::nullopt;
  for (const NodeId reader : graph.readers(node.inputs[0])) {
    if (!is(graph.graph().node(reader), "Slice")) return std::nullopt;
  }
  const std::vector<std::int64_t> perm = transpose->op->attributes().get_ints("perm", {});
  std::vector<std::int64_t> axes = node.op->attributes().get_ints("axes", {});
  if (perm.empty() || axes.empty()) return std::nullopt;
  for (std::int64_t& axis : axes)
    axis = perm[static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(perm.size()) : axis)];
  Patch patch(graph, node);
  patch.absorb(*transpose);
  const ValueId slice = patch.add(with_attributes(*node.op, {{"axes", axes}}), {transpose->inputs[0]});
  return std::move(patch.replace(node.outputs[0], patch.add(transpose->op, {slice})));
}

/// A Reshape that only drops axes of size 1 of a transposed value drops them before the transposition, which then
/// moves fewer axes.
std::optional<Patch> squeeze_before_transpose(const GraphView& graph, const Node& node) {
  if (!is(node, "Reshape") || !node.op->attributes().has("dims")) return std::nullopt;
  const Node* transpose = sole_producer_of(graph, node.inputs[0], "Transpose");
  if (transpose == nullptr) return std::nullopt;
  const std::vector<std::int64_t> perm = transpose->op->attributes().get_ints("perm", {});
  const std::vector<Dim>& wide = graph.type(node.inputs[0]).dims;
  const std::vector<Dim>& narrow = graph.type(node.outputs[0]).dims;
  if (perm.size() != wide.size() || narrow.size() >= wide.size()) return std::nullopt;
  std::vector<std::int64_t> kept;  // axes of the transposition's input that stay, in the order of the result
  std::size_t next = 0;
  for (std::size_t i = 0; i < wide.size(); ++i) {
    if (next < narrow.size() && wide[i] == narrow[next]) {
      kept.push_back(perm[i]);
      ++next;
    } else if (!(wide[i] == Dim(1))) {
      return std::nullopt;
    }
  }
  if (next != narrow.size()) return std::nullopt;
  std::vector<std::int64_t> order = kept;
  std::sort(order.begin(), order.end());
  const std::vector<Dim>& from = graph.type(transpose->inputs[0]).dims;
  std::vector<Dim> dims;
  for (const std::int64_t axis : order) dims.push_back(from[static_cast<std::size_t>(axis)]);
  std::vector<std::int64_t> new_perm;
  for (const std::int64_t axis : kept) {
    new_perm.push_back(std::lower_bound(order.begin(), order.end(), axis) - order.begin());
  }
  if (!can_be_stored(graph, dims)) return std::nullopt;
  Patch patch(graph, node);
  patch.absorb(*transpose);
  const ValueId view = patch.add(make_op("Reshape", {{"dims", dim_texts(dims)}}), {transpose->inputs[0]});
  return std::move(patch.replace(node.outputs[0], patch.add(make_op("Transpose", {{"perm", new_perm}}), {view})));
}

/// A part of an axis that a Reshape split off the last one is a part of the last one:
/// [..., n * m] -> [..., n, m], positions a to b of n  =  positions a m to b m before the Reshape.
std::optional<Patch> slice_before_reshape(const GraphView& graph, const Node& node) {
  const std::optional<Part> part = is(node, "Slice") ? part_of(graph, node.outputs[0]) : std::nullopt;
  if (!part) return std::nullopt;
  const Node* view = producer_of(graph, part->source, "Reshape");
  if (view == nullptr || graph.is_output(part->source)) return std::nullopt;
  for (const NodeId reader : graph.readers(part->source)) {
    if (!is(graph.graph().node(reader), "Slice")) return std::nullopt;
  }
  const std::vector<Dim>& from = graph.type(view->inputs[0]).dims;
  const std::vector<Dim>& to = graph.type(part->source).dims;
  const auto axis = static_cast<std::size_t>(part->axis);
  if (from.size() != axis + 1 || to.size() <= from.size()) return std::nullopt;
  if (!std::equal(to.begin(), to.begin() + part->axis, from.begin())) return std::nullopt;
  std::int64_t stride = 1;
  for (std::size_t i = axis + 1; i < to.size(); ++i) {
    if (!to[i].is_constant()) return std::nullopt;
    stride *= to[i].constant();
  }
  const std::vector<Dim>& dims = graph.type(node.outputs[0]).dims;
  if (!(from[axis] == to[axis] * Dim(stride)) || !can_be_stored(graph, dims)) return std::nullopt;
  using Ints = std::vector<std::int64_t>;
  Patch patch(graph, node);
  patch.absorb(*view);
  const ValueId slice = patch.add(make_op("Slice", {{"starts", Ints{part->begin * stride}},
                                                    {"ends", Ints{part->end * stride}},
                                                    {"axes", Ints{part->axis}},
                                                    {"steps", Ints{1}}}),
                                  {view->inputs[0]});
  return std::move(patch.replace(node.outputs[0], patch.add(make_op("Reshape", {{"dims", dim_texts(dims)}}), {slice})));
}

constexpr std::array kRewrites{
    Rewrite{"remove_no_op", remove_no_op, "Operators whose attributes make them the identity."},
    Rewrite{"join_views", join_views, "A Reshape of a Reshape is one Reshape."},
    Rewrite{"transpose_to_view", transpose_to_view, "A Transpose that moves only axes of size 1 is a Reshape."},
    Rewrite{"join_transposes", join_transposes, "A Transpose of a Transpose is one, or none."},
    Rewrite{"remove_neutral_operand", remove_neutral_operand, "x + 0, x * 1 and their like are x."},
    Rewrite{"subtract_or_divide_by_constant", subtract_or_divide_by_constant,
            "x - c and x / c become x + (-c) and x * (1/c), which later rules fold."},
    Rewrite{"join_constant_operands", join_constant_operands, "(x + a) + b becomes x + (a + b), the same for *."},
    Rewrite{"pow_exponent_to_float", pow_exponent_to_float, "An integer exponent of a float base becomes a float."},
    Rewrite{"join_casts", join_casts, "A cast to a wider type and on to another is one cast."},
    Rewrite{"remove_explicit_broadcast", remove_explicit_broadcast, "Elementwise operators broadcast by themselves."},
    Rewrite{"choose_known_branch", choose_known_branch, "Where with a constant condition is one of its operands."},
    Rewrite{"reduce_without_axes", reduce_without_axes,
            "A Reshape that drops the reduced axes is part of the reduction."},
    Rewrite{"join_parts", join_parts, "Concat of consecutive parts of one value reads it whole."},
    Rewrite{"slice_before_transpose", slice_before_transpose, "Parts are taken before a transposition."},
    Rewrite{"squeeze_before_transpose", squeeze_before_transpose, "Axes of size 1 are dropped before a transposition."},
    Rewrite{"slice_before_reshape", slice_before_reshape, "Parts are taken before the Reshape that split their axis."},
    Rewrite{"gather_to_slice", gather_to_slice, "Gather of one constant position is a Slice."},
};

}  // namespace

const std::span<const Rewrite> kSimplifyRewrites = kRewrites;

}  // namespace tenfold
