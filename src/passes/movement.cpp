// Movement: views, transpositions and parts. Views join and vanish, transpositions cancel, and parts are taken before
// the whole is moved.
#include <algorithm>
#include <array>

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

/// The dims of a view before and after it, cut into common factors: [2n, 3, 4] and [n, 2, 12] have n, 2, 3, 4.
struct CommonFactors {
  std::vector<Dim> factors;
  std::vector<std::vector<std::size_t>> before, after;  ///< per dim: its factors, outermost first
};
std::optional<CommonFactors> common_factors(const std::vector<Dim>& before, const std::vector<Dim>& after) {
  CommonFactors common;
  common.before.resize(before.size());
  common.after.resize(after.size());
  const Dim one(1);
  std::size_t i = 0;
  std::size_t j = 0;
  Dim a = before.empty() ? one : before[0];
  Dim b = after.empty() ? one : after[0];
  const auto next_before = [&] { a = ++i < before.size() ? before[i] : one; };
  const auto next_after = [&] { b = ++j < after.size() ? after[j] : one; };
  while (i < before.size() || j < after.size()) {
    if (i < before.size() && a == one) {
      next_before();
      continue;
    }
    if (j < after.size() && b == one) {
      next_after();
      continue;
    }
    if (i == before.size() || j == after.size() || a == Dim(0) || b == Dim(0)) return std::nullopt;
    const auto divides = [](const Dim& small, const Dim& large) {
      return Dim::floordiv(large, small) * small == large;
    };
    const Dim factor = divides(b, a) ? b : a;
    if (!divides(factor, a) || !divides(factor, b)) return std::nullopt;
    common.before[i].push_back(common.factors.size());
    common.after[j].push_back(common.factors.size());
    common.factors.push_back(factor);
    a = Dim::floordiv(a, factor);
    b = Dim::floordiv(b, factor);
  }
  return common;
}

/// Transpose, view, Transpose is a view if the elements end in the order they started in; otherwise it is one Transpose
/// between two views.
std::optional<Patch> join_transposes_around_view(const GraphView& graph, const Node& node) {
  if (!is(node, "Transpose")) return std::nullopt;
  const Node* view = producer_of(graph, node.inputs[0], "Reshape");
  const Node* inner = view != nullptr ? producer_of(graph, view->inputs[0], "Transpose") : nullptr;
  if (inner == nullptr) return std::nullopt;
  const std::vector<std::int64_t> first = inner->op->attributes().get_ints("perm", {});
  const std::vector<std::int64_t> second = node.op->attributes().get_ints("perm", {});
  const std::vector<Dim>& middle = graph.type(view->inputs[0]).dims;
  if (first.size() != middle.size() || second.size() != graph.type(node.inputs[0]).dims.size()) return std::nullopt;
  const std::optional<CommonFactors> common = common_factors(middle, graph.type(node.inputs[0]).dims);
  if (!common) return std::nullopt;

  // The factors in the order of the first input, and in that of the result.
  std::vector<std::size_t> start;
  for (const std::int64_t place : inverse(first)) {
    const auto& factors = common->before[static_cast<std::size_t>(place)];
    start.insert(start.end(), factors.begin(), factors.end());
  }
  std::vector<std::int64_t> perm;  // of positions in `start`
  for (const std::int64_t axis : second) {
    for (const std::size_t factor : common->after[static_cast<std::size_t>(axis)]) {
      perm.push_back(std::find(start.begin(), start.end(), factor) - start.begin());
    }
  }
  const std::vector<Dim>& dims = graph.type(node.outputs[0]).dims;
  if (!can_be_stored(graph, dims)) return std::nullopt;
  Patch patch(graph, node);
  patch.absorb(*view).absorb(*inner);
  const auto reshape = [&](ValueId value, const std::vector<Dim>& to) {
    return patch.add(make_op("Reshape", {{"dims", dim_texts(to)}}), {value});
  };
  if (std::is_sorted(perm.begin(), perm.end())) {
    return std::move(patch.replace(node.outputs[0], reshape(inner->inputs[0], dims)));
  }
  if (!graph.has_single_use(node.inputs[0]) || !graph.has_single_use(view->inputs[0])) return std::nullopt;

  // Factors that stay neighbours move as one axis.
  std::vector<std::vector<std::int64_t>> runs;
  for (const std::int64_t position : perm) {
    if (!runs.empty() && runs.back().back() + 1 == position) {
      runs.back().push_back(position);
    } else {
      runs.push_back({position});
    }
  }
  if (static_cast<int>(runs.size()) > kMaxRank) return std::nullopt;
  std::vector<std::vector<std::int64_t>> ordered = runs;
  std::sort(ordered.begin(), ordered.end());
  std::vector<Dim> wide;
  for (const auto& run : ordered) {
    Dim size(1);
    for (const std::int64_t position : run) size = size * common->factors[start[static_cast<std::size_t>(position)]];
    wide.push_back(size);
  }
  std::vector<std::int64_t> moved;
  for (const auto& run : runs) moved.push_back(std::lower_bound(ordered.begin(), ordered.end(), run) - ordered.begin());
  if (!can_be_stored(graph, wide)) return std::nullopt;
  const ValueId result = patch.add(make_op("Transpose", {{"perm", moved}}), {reshape(inner->inputs[0], wide)});
  return std::move(patch.replace(node.outputs[0], reshape(result, dims)));
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
    Rewrite{"join_views", join_views, "A Reshape of a Reshape is one Reshape."},
    Rewrite{"transpose_to_view", transpose_to_view, "A Transpose that moves only axes of size 1 is a Reshape."},
    Rewrite{"join_transposes", join_transposes, "A Transpose of a Transpose is one, or none."},
    Rewrite{"join_transposes_around_view", join_transposes_around_view,
            "Two Transposes with a Reshape between them are one, or none."},
    Rewrite{"reduce_without_axes", reduce_without_axes,
            "A Reshape that drops the reduced axes is part of the reduction."},
    Rewrite{"join_parts", join_parts, "Concat of consecutive parts of one value reads it whole."},
    Rewrite{"slice_before_transpose", slice_before_transpose, "Parts are taken before a transposition."},
    Rewrite{"squeeze_before_transpose", squeeze_before_transpose, "Axes of size 1 are dropped before a transposition."},
    Rewrite{"slice_before_reshape", slice_before_reshape, "Parts are taken before the Reshape that split their axis."},
    Rewrite{"gather_to_slice", gather_to_slice, "Gather of one constant position is a Slice."},
};

}  // namespace

const std::span<const Rewrite> kMovementRewrites = kRewrites;

}  // namespace tenfold
