// Operators that give elements another shape and leave them in order.
// Source: ONNX operator sets 5 to 24: Reshape, Flatten, Squeeze, Unsqueeze. Import makes a Reshape with known `dims` of
// all of them where no dimension waits for a running kernel; Flatten (axis), Squeeze and Unsqueeze (axes) stay
// elsewhere.
#include "ops/reshape.hpp"

#include <algorithm>
#include <cstring>

#include "ops/checks.hpp"
#include "ops/shape_math.hpp"

namespace tenfold {
namespace {

void copy_elements(EvalContext& context) {
  const TensorView& x = context.input(0);
  const TensorView& y = context.output(0);
  require(x.num_elements() == y.num_elements(), Code::invalid_argument, "{} elements do not fill shape [{}]",
          x.num_elements(), fmt::join(y.dims, ", "));
  const std::size_t bytes = static_cast<std::size_t>(x.num_elements()) * size_of(x.dtype);
  if (bytes > 0) std::memcpy(y.data, x.data, bytes);
}

void set_view(InferContext& context, std::vector<Dim> dims) {
  context.set_output(0, {context.input(0).dtype, std::move(dims)});
  if (auto elements = context.integers(0)) context.set_integers(0, std::move(*elements));
}

/// Sorted, from the front, each once.
std::vector<int> normal_axes(const std::vector<std::int64_t>& axes, int rank) {
  std::vector<int> normal;
  for (const std::int64_t axis : axes) normal.push_back(check_axis(axis, rank));
  std::sort(normal.begin(), normal.end());
  require(std::adjacent_find(normal.begin(), normal.end()) == normal.end(), Code::invalid_model,
          "axes {} name an axis twice", to_string(axes));
  return normal;
}

std::vector<Dim> flattened_dims(const std::vector<Dim>& x, std::int64_t axis) {
  const auto rank = static_cast<std::int64_t>(x.size());
  require(-rank <= axis && axis <= rank, Code::invalid_model, "axis {} is outside the input's rank {}", axis, rank);
  const auto middle = x.begin() + (axis < 0 ? axis + rank : axis);
  return {product({x.begin(), middle}), product({middle, x.end()})};
}

std::vector<Dim> squeezed_dims(const std::vector<Dim>& x, const std::vector<std::int64_t>& axes) {
  std::vector<Dim> dims = x;
  const std::vector<int> normal = normal_axes(axes, static_cast<int>(x.size()));
  for (auto axis = normal.rbegin(); axis != normal.rend(); ++axis) {
    check_dim(dims[static_cast<std::size_t>(*axis)], Dim(1), "a squeezed dimension");
    dims.erase(dims.begin() + *axis);
  }
  return dims;
}

std::vector<Dim> unsqueezed_dims(const std::vector<Dim>& x, const std::vector<std::int64_t>& axes) {
  require(x.size() + axes.size() <= kMaxRank, Code::unsupported, "rank {} is more than {}", x.size() + axes.size(),
          kMaxRank);
  std::vector<Dim> dims = x;
  for (const int axis : normal_axes(axes, static_cast<int>(x.size() + axes.size()))) {
    dims.insert(dims.begin() + axis, Dim(1));
  }
  return dims;
}

/// Flatten.
class Flatten final : public Op {
 public:
  explicit Flatten(std::int64_t axis) : axis_(axis) {}
  std::string_view type() const override { return "Flatten"; }
  Attributes attributes() const override { return {{"axis", axis_}}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 1);
    set_view(context, flattened_dims(context.input(0).dims, axis_));
  }
  void evaluate(EvalContext& context) const override { copy_elements(context); }

 private:
  std::int64_t axis_;
};

/// Squeeze and Unsqueeze.
template <bool kRemove>
class AxisInsertion final : public Op {
 public:
  explicit AxisInsertion(std::vector<std::int64_t> axes) : axes_(std::move(axes)) {}
  std::string_view type() const override { return kRemove ? "Squeeze" : "Unsqueeze"; }
  Attributes attributes() const override { return {{"axes", axes_}}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 1);
    const std::vector<Dim>& x = context.input(0).dims;
    set_view(context, kRemove ? squeezed_dims(x, axes_) : unsqueezed_dims(x, axes_));
  }
  void evaluate(EvalContext& context) const override { copy_elements(context); }

 private:
  std::vector<std::int64_t> axes_;
};
using Squeeze = AxisInsertion<true>;
using Unsqueeze = AxisInsertion<false>;

OpPtr make_reshape(const Attributes& attributes) {
  if (!attributes.has("dims")) return std::make_shared<const Reshape>(attributes.get_int("allowzero", 0) != 0);
  std::vector<Dim> dims = get_dims(attributes, "dims");
  for (const Dim& dim : dims) check_not_negative(dim, "an entry of dims");
  return std::make_shared<const Reshape>(std::move(dims));
}
OpPtr make_flatten(const Attributes& attributes) {
  return std::make_shared<const Flatten>(attributes.get_int("axis", 1));
}
OpPtr make_squeeze(const Attributes& attributes) {
  return std::make_shared<const Squeeze>(attributes.get_ints("axes"));
}
OpPtr make_unsqueeze(const Attributes& attributes) {
  return std::make_shared<const Unsqueeze>(attributes.get_ints("axes"));
}

/// Reshape to `dims` if they can be stored, else `otherwise`, an operator that derives them from its input.
void import_view(ImportNode& node, std::vector<Dim> dims, OpPtr otherwise) {
  OpPtr op = are_storable(node.graph(), dims) ? std::make_shared<const Reshape>(std::move(dims)) : std::move(otherwise);
  node.set_output(0, node.add(std::move(op), {node.input(0)}));
}
const std::vector<Dim>& input_dims(const ImportNode& node) {
  require(node.has_input(0), Code::invalid_model, "input 0 is missing");
  return node.graph().value(node.input(0)).type.dims;
}

void import_reshape(ImportNode& node) {
  require(node.has_input(0) && node.has_input(1), Code::invalid_model, "an input and a shape are needed");
  const ValueId y =
      node.add(std::make_shared<const Reshape>(node.attributes().get_int("allowzero", 0) != 0), node.inputs());
  std::vector<Dim> dims = node.graph().value(y).type.dims;
  if (!are_storable(node.graph(), dims)) {
    node.set_output(0, y);
  } else {
    node.set_output(0, node.add(std::make_shared<const Reshape>(std::move(dims)), {node.input(0)}));
  }
}

void import_flatten(ImportNode& node) {
  const std::int64_t axis = node.attributes().get_int("axis", 1);
  import_view(node, flattened_dims(input_dims(node), axis), std::make_shared<const Flatten>(axis));
}

/// `axes` was an attribute before opset 13.
std::optional<std::vector<std::int64_t>> import_axes(const ImportNode& node) {
  if (node.has_input(1)) return require_integers(node, 1, "axes");
  if (node.attributes().has("axes")) return node.attributes().get_ints("axes");
  return std::nullopt;
}

void import_squeeze(ImportNode& node) {
  const std::vector<Dim>& dims = input_dims(node);
  std::optional<std::vector<std::int64_t>> axes = import_axes(node);
  if (!axes) {
    axes.emplace();
    for (std::size_t i = 0; i < dims.size(); ++i) {
      require(dims[i].is_constant(), Code::unsupported,
              "without axes the rank of the result depends on sizes that are not known: {}", to_string(dims));
      if (dims[i] == Dim(1)) axes->push_back(static_cast<std::int64_t>(i));
    }
  }
  import_view(node, squeezed_dims(dims, *axes), std::make_shared<const Squeeze>(*axes));
}

void import_unsqueeze(ImportNode& node) {
  const std::optional<std::vector<std::int64_t>> axes = import_axes(node);
  require(axes.has_value(), Code::invalid_model, "axes are missing");
  import_view(node, unsqueezed_dims(input_dims(node), *axes), std::make_shared<const Unsqueeze>(*axes));
}

}  // namespace

std::vector<Dim> reshaped_dims(const std::vector<Dim>& x, const std::vector<Dim>& entries, bool allowzero) {
  std::vector<Dim> dims = entries;
  std::optional<std::size_t> rest;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == Dim(0) && !allowzero) {
      require(i < x.size(), Code::invalid_model, "entry {} of shape {} copies a dimension that the input {} lacks", i,
              to_string(entries), to_string(x));
      dims[i] = x[i];
    } else if (dims[i] == Dim(-1)) {
      require(!rest, Code::invalid_model, "shape {} has more than one -1", to_string(entries));
      rest = i;
    } else {
      check_not_negative(dims[i], "an entry of the shape");
    }
  }
  if (rest) {
    // Equal factors cancel before anything is multiplied: the expressions stay small, and a size of 0 does no harm.
    std::vector<Dim> numerator = x;
    std::vector<Dim> denominator;
    for (std::size_t i = 0; i < dims.size(); ++i) {
      if (i == *rest) continue;
      const auto same = std::find(numerator.begin(), numerator.end(), dims[i]);
      if (same != numerator.end()) {
        numerator.erase(same);
      } else {
        denominator.push_back(dims[i]);
      }
    }
    const Dim total = product(numerator);
    const Dim known = product(denominator);
    require(!(known == Dim(0)), Code::invalid_model, "shape {} has both 0 and -1", to_string(entries));
    require(!total.is_constant() || !known.is_constant() || total.constant() % known.constant() == 0,
            Code::invalid_model, "elements of shape {} do not fill shape {}", to_string(x), to_string(entries));
    dims[*rest] = Dim::floordiv(total, known);
  }
  require(!surely_differ(product(x), product(dims)), Code::invalid_model, "elements of shape {} do not fill shape {}",
          to_string(x), to_string(dims));
  return dims;
}

Attributes Reshape::attributes() const {
  Attributes attributes;
  if (dims_) {
    set_dims(attributes, "dims", *dims_);
  } else {
    attributes.set("allowzero", std::int64_t{allowzero_});
  }
  return attributes;
}

void Reshape::infer(InferContext& context) const {
  check_num_inputs(context, dims_ ? 1 : 2, dims_ ? 1 : 2);
  check_num_outputs(context, 1, 1);
  const std::vector<Dim>& x = context.input(0).dims;
  if (dims_) {
    require(!surely_differ(product(x), product(*dims_)), Code::invalid_model,
            "elements of shape {} do not fill shape {}", to_string(x), to_string(*dims_));
    set_view(context, *dims_);
    return;
  }
  check_rank(context, 1, 1, "the shape");
  if (const auto entries = known_integers(context, 1)) {
    require(entries->size() <= kMaxRank, Code::unsupported, "rank {} is more than {}", entries->size(), kMaxRank);
    set_view(context, reshaped_dims(x, *entries, allowzero_));
    return;
  }
  const Dim& rank = context.input(1).dims[0];
  require(rank.is_constant() && rank.constant() <= kMaxRank, Code::unsupported,
          "the result's rank {} is not known or larger than {}", rank.to_string(), kMaxRank);
  const Dim at_most = product(x);
  std::vector<Dim> dims;
  for (int axis = 0; axis < rank.constant(); ++axis) dims.push_back(context.fresh(0, axis, at_most));
  context.set_output(0, {context.input(0).dtype, std::move(dims)});
}

void Reshape::evaluate(EvalContext& context) const { copy_elements(context); }

const OpDef kFlattenDef{"Flatten", make_flatten, import_flatten};
const OpDef kReshapeDef{"Reshape", make_reshape, import_reshape};
const OpDef kSqueezeDef{"Squeeze", make_squeeze, import_squeeze};
const OpDef kUnsqueezeDef{"Unsqueeze", make_unsqueeze, import_unsqueeze};

}  // namespace tenfold
