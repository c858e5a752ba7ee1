// Layout assignment: convolutions run channels-last, and so does whatever lies between them.
//
// The graph is walked once, in order. A value of the model, channels second ("nchw"), may get a twin with the same
// elements channels last ("nhwc"). Convolutions always take and give twins; an operator that works on any layout
// follows if its largest operand has a twin. Where somebody needs the model's own layout a Transpose brings it back,
// once for each value. Transposes that were in the model are joined with those, and cancel. Cost: a twin is made by a
// Transpose only for operands of convolutions and for smaller operands of followers; followers move a Transpose, they
// never add one on their largest operand. Where all spatial axes are 1 a Reshape does it for free.
#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <optional>
#include <set>

#include "ops/conv.hpp"
#include "ops/norm.hpp"
#include "ops/pad.hpp"
#include "ops/pool.hpp"
#include "ops/quantized.hpp"
#include "ops/reduce.hpp"
#include "ops/registry.hpp"
#include "ops/resize.hpp"
#include "ops/slice.hpp"
#include "ops/split.hpp"
#include "ops/transpose.hpp"
#include "passes/match.hpp"
#include "passes/passes.hpp"

namespace tenfold {
namespace {

using Axes = std::vector<std::int64_t>;

/// [0, 2, ..., rank-1, 1]
Axes to_nhwc(int rank) {
  Axes perm(static_cast<std::size_t>(rank));
  std::iota(perm.begin(), perm.end(), std::int64_t{0});
  std::rotate(perm.begin() + 1, perm.begin() + 2, perm.end());
  return perm;
}
bool is_identity(const Axes& perm) {
  for (std::size_t i = 0; i < perm.size(); ++i) {
    if (perm[i] != static_cast<std::int64_t>(i)) return false;
  }
  return true;
}
/// Where axis `axis` of a channels-second tensor lies in its twin.
std::int64_t twin_axis(std::int64_t axis, int rank) {
  if (axis < 0) axis += rank;
  return axis == 0 ? 0 : axis == 1 ? rank - 1 : axis - 1;
}
template <typename T>
std::vector<T> permuted(const std::vector<T>& values, const Axes& perm) {
  std::vector<T> result;
  result.reserve(perm.size());
  for (const std::int64_t axis : perm) result.push_back(values[static_cast<std::size_t>(axis)]);
  return result;
}

/// Elementwise operators whose operands broadcast together and that have no axis.
bool is_elementwise(const Node& node) {
  // clang-format off: one name a line would take a page
  static constexpr std::array<std::string_view, 59> kTypes{"Abs",
                                                           "Add",
                                                           "And",
                                                           "Atan",
                                                           "Cast",
                                                           "Ceil",
                                                           "Celu",
                                                           "Clip",
                                                           "Cos",
                                                           "Cosh",
                                                           "Div",
                                                           "Elu",
                                                           "Equal",
                                                           "Erf",
                                                           "Exp",
                                                           "Floor",
                                                           "Gelu",
                                                           "Greater",
                                                           "GreaterOrEqual",
                                                           "HardSigmoid",
                                                           "HardSwish",
                                                           "IsInf",
                                                           "IsNaN",
                                                           "LeakyRelu",
                                                           "Less",
                                                           "LessOrEqual",
                                                           "Log",
                                                           "Max",
                                                           "Mean",
                                                           "Min",
                                                           "Mish",
                                                           "Mod",
                                                           "Mul",
                                                           "Neg",
                                                           "Not",
                                                           "Or",
                                                           "PRelu",
                                                           "Pointwise",
                                                           "Pow",
                                                           "Reciprocal",
                                                           "Relu",
                                                           "Round",
                                                           "Selu",
                                                           "Shrink",
                                                           "Sigmoid",
                                                           "Sign",
                                                           "Sin",
                                                           "Sinh",
                                                           "Softplus",
                                                           "Softsign",
                                                           "Sqrt",
                                                           "Sub",
                                                           "Sum",
                                                           "Swish",
                                                           "Tan",
                                                           "Tanh",
                                                           "ThresholdedRelu",
                                                           "Where",
                                                           "Xor"};
  // clang-format on
  return std::find(kTypes.begin(), kTypes.end(), node.op->type()) != kTypes.end();
}

class LayoutAssignment {
 public:
  explicit LayoutAssignment(Graph& graph) : graph_(graph) {}

  int run() {
    const std::vector<NodeId> order = graph_.order();
    const bool has_anchor =
        std::any_of(order.begin(), order.end(), [&](NodeId id) { return is_anchor(graph_.node(id)); });
    if (!has_anchor) return 0;
    for (const NodeId id : order) {
      if (!convert(id)) restore_inputs(id);
    }
    std::vector<ValueId> outputs = graph_.outputs();
    for (ValueId& output : outputs) output = nchw(output);
    graph_.set_outputs(std::move(outputs), graph_.output_names());
    graph_.remove_dead();
    return changes_;
  }

 private:
  bool is_anchor(const Node& node) const {
    if (const auto* conv = op_cast<Conv>(&node)) return conv->layout() == ImageLayout::nchw;
    if (const auto* conv = op_cast<ConvTranspose>(&node)) return conv->layout() == ImageLayout::nchw;
    return false;
  }
  int rank(ValueId id) const { return graph_.value(id).type.rank(); }
  const std::vector<Dim>& dims(ValueId id) const { return graph_.value(id).type.dims; }
  bool has_twin(ValueId id) const { return twins_.contains(id); }

  // --- Going from one layout to the other ----------------------------------------------------------------------------
  ValueId add(const Node& near, OpPtr op, std::vector<ValueId> inputs) {
    const NodeId id = graph_.add_node(std::move(op), std::move(inputs), 1, near.name + "/layout", near.origins);
    graph_.infer_types(id);
    return graph_.node(id).outputs[0];
  }
  ValueId reshape(const Node& near, ValueId value, const std::vector<Dim>& to) {
    return add(near, make_op("Reshape", {{"dims", dim_texts(to)}}), {value});
  }
  /// A Reshape if no two axes longer than 1 change places.
  ValueId transpose(const Node& near, ValueId value, const Axes& perm) {
    if (is_identity(perm)) return value;
    std::int64_t last = -1;
    bool keeps_order = true;
    for (const std::int64_t axis : perm) {
      if (dims(value)[static_cast<std::size_t>(axis)] == Dim(1)) continue;
      keeps_order = keeps_order && axis > last;
      last = axis;
    }
    const std::vector<Dim> to = permuted(dims(value), perm);
    if (keeps_order && storable(to)) return reshape(near, value, to);
    return add(near, std::make_shared<const Transpose>(perm), {value});
  }
  /// Sizes that a kernel decides are known by names that change when nodes are rewritten.
  bool storable(const std::vector<Dim>& all) const {
    std::set<std::string> symbols;
    for (const Dim& dim : all) dim.collect_symbols(symbols);
    return std::none_of(symbols.begin(), symbols.end(),
                        [&](const std::string& symbol) { return graph_.symbol_bounds.contains(symbol); });
  }

  /// The twin of `value`, made if there is none.
  ValueId nhwc(const Node& near, ValueId value) {
    if (const auto found = twins_.find(value); found != twins_.end()) return found->second;
    const Axes perm = to_nhwc(rank(value));
    ValueId twin = kNoValue;
    if (const Tensor* constant = graph_.constant(value)) {
      twin = graph_.add_constant(graph_.value(value).name + "/nhwc", transposed(*constant, perm));
    } else {
      const Node* producer = graph_.producer(value);
      const auto* before = op_cast<Transpose>(producer);
      twin = before != nullptr && before->permutation().size() == perm.size()
                 ? transpose(near, producer->inputs[0], compose(before->permutation(), perm))
                 : transpose(near, value, perm);
    }
    twins_.emplace(value, twin);
    return twin;
  }
  /// `value` itself if its node is still the one that computes it, else its twin turned back.
  ValueId nchw(ValueId value) {
    if (value == kNoValue || !moved_.contains(value)) return value;
    const auto found = restored_.find(value);
    if (found != restored_.end()) return found->second;
    const Node near = *graph_.producer(value);
    const ValueId back = transpose(near, twins_.at(value), inverse(to_nhwc(rank(value))));
    restored_.emplace(value, back);
    return back;
  }
  void restore_inputs(NodeId id) {
    for (std::size_t i = 0; i < graph_.node(id).inputs.size(); ++i) {
      const ValueId original = graph_.node(id).inputs[i];
      const ValueId plain = nchw(original);
      graph_.node(id).inputs[i] = plain;
    }
  }

  /// A smaller operand of a follower, shaped so that it broadcasts to a twin of rank `to`; nullopt: not possible.
  std::optional<ValueId> broadcast_operand(const Node& near, ValueId value, int to) {
    if (value == kNoValue) return kNoValue;
    const int from = rank(value);
    if (from == to) return nhwc(near, value);
    if (from > to) return std::nullopt;
    const bool single =
        std::all_of(dims(value).begin(), dims(value).end(), [](const Dim& dim) { return dim == Dim(1); });
    if (single && from <= 1) return value;
    std::vector<Dim> full(static_cast<std::size_t>(to - from), Dim(1));
    full.insert(full.end(), dims(value).begin(), dims(value).end());
    if (const Tensor* constant = graph_.constant(value)) {
      Shape shape;
      for (const Dim& dim : full) shape.push_back(dim.constant());
      return graph_.add_constant(graph_.value(value).name + "/nhwc",
                                 transposed(constant->reshaped(shape), to_nhwc(to)));
    }
    if (!storable(full)) return std::nullopt;
    return transpose(near, reshape(near, nchw(value), full), to_nhwc(to));
  }

  // --- Nodes ---------------------------------------------------------------------------------------------------------
  /// Adds the channels-last form of a node. Its outputs become the twins of the node's own, unless a size comes out
  /// differently (one that only the running kernel knows): then nothing happens and the answer is false.
  bool replace(NodeId id, OpPtr op, std::vector<ValueId> inputs) {
    const Node node = graph_.node(id);
    const NodeId added = graph_.add_node(std::move(op), std::move(inputs), static_cast<int>(node.outputs.size()),
                                         node.name, node.origins);
    graph_.infer_types(added);
    bool same = true;
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) continue;
      const TensorType& before = graph_.value(node.outputs[i]).type;
      const TensorType& after = graph_.value(graph_.node(added).outputs[i]).type;
      same = same && before.rank() >= 3 && permuted(before.dims, to_nhwc(before.rank())) == after.dims;
    }
    if (!same) {
      graph_.remove_node(added);
      return false;
    }
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) continue;
      twins_.insert_or_assign(node.outputs[i], graph_.node(added).outputs[i]);
      moved_.insert(node.outputs[i]);
    }
    ++changes_;
    return true;
  }
  /// The node's output is computed by `value`, in the model's own layout.
  bool substitute(NodeId id, ValueId value) {
    const ValueId output = graph_.node(id).outputs[0];
    if (dims(value) != dims(output)) return false;
    graph_.replace_uses(output, value);
    ++changes_;
    return true;
  }

  bool convert(NodeId id) {
    const Node node = graph_.node(id);
    if (!node.blocks.empty() || node.inputs.empty() || node.inputs[0] == kNoValue) return false;
    if (is_anchor(node)) return convert_anchor(id, node);
    if (is_elementwise(node)) return convert_elementwise(id, node);
    const ValueId x = node.inputs[0];
    if (is(node, "Concat")) return convert_concat(id, node);
    if (!has_twin(x) && rank(x) >= 3) find_twin(node);
    if (!has_twin(x) || rank(x) < 3) return false;
    const int r = rank(x);
    const auto rest = [&](std::size_t from) {
      std::vector<ValueId> inputs{nhwc(node, x)};
      for (std::size_t i = from; i < node.inputs.size(); ++i) inputs.push_back(nchw(node.inputs[i]));
      return inputs;
    };
    if (const auto* pool = op_cast<MaxPool>(&node)) {
      if (pool->layout() != ImageLayout::nchw || node.outputs.size() != 1) return false;
      return replace(id, with_attributes(*node.op, {{"layout", std::string("nhwc")}}), rest(1));
    }
    if (is_one_of(node, {"AveragePool", "InstanceNormalization", "GroupNormalization", "BatchNormalization"})) {
      if (layout_from(node.op->attributes()) != ImageLayout::nchw) return false;
      return replace(id, with_attributes(*node.op, {{"layout", std::string("nhwc")}}), rest(1));
    }
    if (is_one_of(node, {"Softmax", "LogSoftmax"})) {
      const std::int64_t axis = node.op->attributes().get_int("axis", -1);
      return replace(id, with_attributes(*node.op, {{"axis", twin_axis(axis, r)}}), rest(1));
    }
    if (const auto* split = op_cast<Split>(&node)) {
      return replace(id, with_attributes(*node.op, {{"axis", twin_axis(split->axis(), r)}}), rest(1));
    }
    if (const auto* reduce = op_cast<Reduce>(&node)) return convert_reduce(id, node, *reduce);
    if (const auto* slice = op_cast<Slice>(&node); slice != nullptr && slice->ranges()) {
      Axes axes;
      for (const Slice::Range& range : *slice->ranges()) axes.push_back(twin_axis(range.axis, r));
      return replace(id, with_attributes(*node.op, {{"axes", axes}}), rest(1));
    }
    if (const auto* pad = op_cast<Pad>(&node); pad != nullptr && pad->pads()) {
      const Axes perm = to_nhwc(r);
      const auto half = pad->pads()->begin() + r;
      Axes pads = permuted(Axes(pad->pads()->begin(), half), perm);
      const Axes ends = permuted(Axes(half, pad->pads()->end()), perm);
      pads.insert(pads.end(), ends.begin(), ends.end());
      return replace(id, with_attributes(*node.op, {{"pads", pads}}), rest(1));
    }
    if (const auto* resize = op_cast<Resize>(&node)) return convert_resize(id, node, *resize);
    if (is_one_of(node, {"QuantizeLinear", "DequantizeLinear"})) {
      const Attributes attributes = node.op->attributes();
      if (attributes.get_int("block_size", 0) != 0) return false;
      return replace(id, with_attributes(*node.op, {{"axis", twin_axis(attributes.get_int("axis", 1), r)}}), rest(1));
    }
    if (is(node, "DynamicQuantizeLinear")) return convert_dynamic_quantisation(node);
    if (const auto* permute = op_cast<Transpose>(&node)) {
      if (permute->permutation().size() != static_cast<std::size_t>(r)) return false;
      const Axes combined = compose(inverse(to_nhwc(r)), permute->permutation());
      return substitute(id, transpose(node, twins_.at(x), combined));
    }
    if (is(node, "Reshape")) return convert_reshape(id, node);
    return false;
  }

  /// What the model itself transposes from channels last to channels second had its twin before.
  void find_twin(const Node& node) {
    const auto* permute = op_cast<Transpose>(&node);
    if (permute == nullptr || permute->permutation() != inverse(to_nhwc(rank(node.inputs[0])))) return;
    twins_.emplace(node.outputs[0], node.inputs[0]);
  }

  bool convert_anchor(NodeId id, const Node& node) {
    const int r = rank(node.inputs[0]);
    std::vector<ValueId> inputs = node.inputs;
    inputs[0] = nhwc(node, node.inputs[0]);
    for (std::size_t i = 1; i < inputs.size(); ++i) {
      if (i < 3) {
        inputs[i] = nchw(inputs[i]);
        continue;
      }
      const std::optional<ValueId> extra = broadcast_operand(node, inputs[i], r);
      if (!extra) return false;
      inputs[i] = *extra;
    }
    return replace(id, with_attributes(*node.op, {{"layout", std::string("nhwc")}}), std::move(inputs));
  }

  /// Follows its largest operand.
  bool convert_elementwise(NodeId id, const Node& node) {
    if (node.outputs.size() != 1) return false;
    const int r = rank(node.outputs[0]);
    ValueId largest = kNoValue;
    for (const ValueId input : node.inputs) {
      if (input == kNoValue || graph_.constant(input) != nullptr) continue;
      if (largest == kNoValue ||
          estimated_bytes(graph_.value(input).type) > estimated_bytes(graph_.value(largest).type) ||
          (has_twin(input) && !has_twin(largest) &&
           estimated_bytes(graph_.value(input).type) == estimated_bytes(graph_.value(largest).type))) {
        largest = input;
      }
    }
    if (largest == kNoValue || !has_twin(largest) || r < 3 || rank(largest) != r) return false;
    std::vector<ValueId> inputs;
    for (const ValueId input : node.inputs) {
      const std::optional<ValueId> operand = broadcast_operand(node, input, r);
      if (!operand) return false;
      inputs.push_back(*operand);
    }
    return replace(id, node.op, std::move(inputs));
  }

  /// Bytes follow the layout of what they are made of; scale and zero point are the same.
  bool convert_dynamic_quantisation(const Node& node) {
    if (node.outputs.size() != 3 || node.outputs[0] == kNoValue) return false;
    const NodeId added = graph_.add_node(node.op, {nhwc(node, node.inputs[0])}, 3, node.name, node.origins);
    graph_.infer_types(added);
    twins_.insert_or_assign(node.outputs[0], graph_.node(added).outputs[0]);
    moved_.insert(node.outputs[0]);
    for (const std::size_t i : {std::size_t{1}, std::size_t{2}}) {
      if (node.outputs[i] != kNoValue) graph_.replace_uses(node.outputs[i], graph_.node(added).outputs[i]);
    }
    ++changes_;
    return true;
  }

  bool convert_concat(NodeId id, const Node& node) {
    const int r = rank(node.outputs[0]);
    double with_twin = 0;
    double without = 0;
    for (const ValueId input : node.inputs) {
      if (input == kNoValue || rank(input) != r) return false;
      (has_twin(input) ? with_twin : without) += estimated_bytes(graph_.value(input).type);
    }
    if (r < 3 || with_twin <= without) return false;
    std::vector<ValueId> inputs;
    for (const ValueId input : node.inputs) inputs.push_back(nhwc(node, input));
    const std::int64_t axis = twin_axis(node.op->attributes().get_int("axis"), r);
    return replace(id, with_attributes(*node.op, {{"axis", axis}}), std::move(inputs));
  }

  bool convert_reduce(NodeId id, const Node& node, const Reduce& reduce) {
    const ValueId x = node.inputs[0];
    const int r = rank(x);
    const std::vector<bool> reduced = reduce.reduced_axes(r);
    Axes axes;
    for (int axis = 0; axis < r; ++axis) {
      if (reduced[static_cast<std::size_t>(axis)]) axes.push_back(twin_axis(axis, r));
    }
    std::sort(axes.begin(), axes.end());
    OpPtr op = with_attributes(*node.op, {{"axes", axes}});
    if (reduce.keep_dims()) return replace(id, std::move(op), {twins_.at(x)});
    // Without the reduced axes the order of the others must be the model's: it is when the channels are the last or
    // only one left ([N, C] after a global pool), or are gone.
    std::vector<std::int64_t> left_plain;
    std::vector<std::int64_t> left_twin;
    for (int axis = 0; axis < r; ++axis) {
      if (!reduced[static_cast<std::size_t>(axis)]) left_plain.push_back(axis);
    }
    for (const std::int64_t axis : to_nhwc(r)) {
      if (!reduced[static_cast<std::size_t>(axis)]) left_twin.push_back(axis);
    }
    if (left_plain != left_twin) return false;
    return substitute(id, add(node, std::move(op), {twins_.at(x)}));
  }

  bool convert_resize(NodeId id, const Node& node, const Resize& resize) {
    const Axes perm = to_nhwc(rank(node.inputs[0]));
    const Resize::Spec& spec = resize.spec();
    if (!spec.axes.empty()) return false;
    std::vector<ValueId> inputs = node.inputs;
    inputs[0] = twins_.at(node.inputs[0]);
    for (std::size_t i = 1; i < inputs.size(); ++i) {
      if (inputs[i] == kNoValue) continue;
      // Scales and sizes that are computed list the model's axes; sizes that are known as expressions can be reordered.
      const auto& sizes = graph_.value(inputs[i]).integers;
      if (i != Resize::kSizes || !sizes || sizes->size() != perm.size() || !storable(*sizes)) return false;
      const std::vector<Dim> elements = permuted(*sizes, perm);
      inputs[i] = add(node, make_op("DimValues", {{"elements", dim_texts(elements)}}), {});
    }
    Attributes attributes = resize.attributes();
    if (!spec.scales.empty()) attributes.set("scales", permuted(spec.scales, perm));
    if (!spec.sizes.empty()) attributes.set("sizes", permuted(spec.sizes, perm));
    if (!spec.roi.empty()) {
      const auto half = spec.roi.begin() + static_cast<std::ptrdiff_t>(perm.size());
      std::vector<double> roi = permuted(std::vector<double>(spec.roi.begin(), half), perm);
      const std::vector<double> ends = permuted(std::vector<double>(half, spec.roi.end()), perm);
      roi.insert(roi.end(), ends.begin(), ends.end());
      attributes.set("roi", roi);
    }
    return replace(id, make_op("Resize", attributes), std::move(inputs));
  }

  /// [N, C, rest...] -> [N, C, other rest...] leaves the channels alone; with nothing but 1s behind the channels the
  /// two layouts hold the same bytes.
  bool convert_reshape(NodeId id, const Node& node) {
    const ValueId x = node.inputs[0];
    const std::vector<Dim> from = dims(x);
    const std::vector<Dim> to = dims(node.outputs[0]);
    if (!storable(to)) return false;
    if (std::all_of(from.begin() + 2, from.end(), [](const Dim& dim) { return dim == Dim(1); })) {
      return substitute(id, reshape(node, twins_.at(x), to));
    }
    if (to.size() < 3 || !(to[0] == from[0]) || !(to[1] == from[1])) return false;
    const ValueId twin = reshape(node, twins_.at(x), permuted(to, to_nhwc(static_cast<int>(to.size()))));
    twins_.insert_or_assign(node.outputs[0], twin);
    moved_.insert(node.outputs[0]);
    ++changes_;
    return true;
  }

  Graph& graph_;
  int changes_ = 0;
  std::map<ValueId, ValueId> twins_;
  std::map<ValueId, ValueId> restored_;
  std::set<ValueId> moved_;  // values whose own node is replaced: only the twin is computed
};

}  // namespace

int assign_layouts(Graph& graph) { return LayoutAssignment(graph).run(); }

}  // namespace tenfold
