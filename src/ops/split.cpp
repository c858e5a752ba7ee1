// Source: ONNX operator sets 2 to 18, Split.
#include "ops/split.hpp"

#include "ops/checks.hpp"
#include "ops/movement.hpp"
#include "ops/numbers.hpp"
#include "ops/shape_math.hpp"

namespace tenfold {
namespace {

constexpr int kMaxOutputs = 1 << 20;

std::vector<Dim> equal_parts(const Dim& size, int parts) {
  const Dim part = divided_up(size, parts);
  std::vector<Dim> sizes(static_cast<std::size_t>(parts), part);
  if (size.is_constant()) {
    std::int64_t left = size.constant();
    for (Dim& s : sizes) {
      s = Dim(std::min(left, part.constant()));
      left -= s.constant();
    }
  } else {
    sizes.back() = size - part * Dim(parts - 1);
  }
  return sizes;
}

template <typename T>
void cut(const T* in, std::int64_t before, std::int64_t total, T* out, std::int64_t size, std::int64_t outer,
         std::int64_t inner) {
  const std::array<std::int64_t, 2> dims{outer, size * inner};
  const std::array<std::int64_t, 2> from{total * inner, 1};
  const std::array<std::int64_t, 2> to{size * inner, 1};
  copy_strided<T>(dims, in + before * inner, from, out, to);
}

OpPtr make_split(const Attributes& attributes) {
  std::optional<std::vector<std::int64_t>> sizes;
  if (attributes.has("sizes")) {
    sizes = attributes.get_ints("sizes");
    for (const std::int64_t size : *sizes) {
      require(size >= 0 && size < kUnbounded, Code::invalid_model, "sizes {} contain an impossible size",
              to_string(*sizes));
    }
  }
  return std::make_shared<const Split>(attributes.get_int("axis", 0), std::move(sizes));
}

void import_split(ImportNode& node) {
  require(node.has_input(0), Code::invalid_model, "input 0 is missing");
  const TensorType type = node.graph().value(node.input(0)).type;
  const int axis = check_axis(node.attributes().get_int("axis", 0), type.rank());
  const Dim& size = type.dims[static_cast<std::size_t>(axis)];
  Attributes attributes{{"axis", std::int64_t{axis}}};
  std::vector<ValueId> inputs{node.input(0)};
  std::optional<std::vector<std::int64_t>> sizes;
  if (node.has_input(1)) {
    sizes = constant_integers(node, 1);
    if (!sizes) inputs.push_back(node.input(1));
  } else if (node.attributes().has("split")) {
    sizes = node.attributes().get_ints("split");
  } else if (size.is_constant()) {
    sizes.emplace();
    for (const Dim& part : equal_parts(size, std::max(node.num_outputs(), 1))) sizes->push_back(part.constant());
  }
  if (sizes) attributes.set("sizes", std::move(*sizes));
  const ValueId first = node.add(make_split(attributes), std::move(inputs), node.num_outputs());
  for (int i = 0; i < node.num_outputs(); ++i) {
    if (node.wants_output(i)) node.set_output(i, first + i);
  }
}

}  // namespace

Attributes Split::attributes() const {
  Attributes attributes{{"axis", axis_}};
  if (sizes_) attributes.set("sizes", *sizes_);
  return attributes;
}

void Split::infer(InferContext& context) const {
  check_num_inputs(context, 1, sizes_ ? 1 : 2);
  check_num_outputs(context, 1, kMaxOutputs);
  const TensorType x = context.input(0);
  const auto axis = static_cast<std::size_t>(check_axis(axis_, x.rank()));
  const Dim& total = x.dims[axis];
  const int count = context.num_outputs();

  std::optional<std::vector<Dim>> sizes;
  if (sizes_) {
    sizes.emplace(sizes_->begin(), sizes_->end());
  } else if (context.has_input(1)) {
    sizes = known_integers(context, 1);
  } else {
    sizes = equal_parts(total, count);
  }
  if (!sizes) {
    for (int i = 0; i < count; ++i) {
      if (!context.wants_output(i)) continue;
      TensorType y = x;
      y.dims[axis] = context.fresh(i, static_cast<int>(axis), total);
      context.set_output(i, std::move(y));
    }
    return;
  }
  require(static_cast<int>(sizes->size()) == count, Code::invalid_model, "{} sizes for {} outputs", sizes->size(),
          count);
  Dim sum(0);
  for (const Dim& size : *sizes) sum = sum + check_not_negative(size, "the size of a part");
  check_dim(sum, total, "the sum of the parts");

  const auto known = context.integers(0);
  Dim before(0);
  for (int i = 0; i < count; ++i) {
    const Dim& size = (*sizes)[static_cast<std::size_t>(i)];
    TensorType y = x;
    y.dims[axis] = size;
    context.set_output(i, y);
    if (known && x.is_static() && y.is_static() && before.is_constant()) {
      const Shape dims = x.static_shape();
      std::vector<Dim> elements(static_cast<std::size_t>(num_elements(y.static_shape())));
      require(before.constant() + size.constant() <= dims[axis], Code::invalid_model, "the parts exceed the input");
      cut(known->data(), before.constant(), dims[axis], elements.data(), size.constant(), product_of(dims, 0, axis),
          product_of(dims, axis + 1, dims.size()));
      pass_integers(context, i, std::move(elements));
    }
    before = before + size;
  }
}

void Split::evaluate(EvalContext& context) const {
  const TensorView& x = context.input(0);
  const auto axis = static_cast<std::size_t>(check_axis(axis_, x.rank()));
  const int count = context.num_outputs();
  std::vector<std::int64_t> sizes;
  if (sizes_) {
    sizes = *sizes_;
  } else if (context.has_input(1)) {
    sizes = read_integers(context.input(1));
  } else {
    for (const Dim& part : equal_parts(Dim(x.dims[axis]), count)) sizes.push_back(part.constant());
  }
  require(static_cast<int>(sizes.size()) == count, Code::invalid_argument, "{} sizes for {} outputs", sizes.size(),
          count);
  Shape dims(x.dims.begin(), x.dims.end());
  const std::int64_t outer = product_of(dims, 0, axis);
  const std::int64_t inner = product_of(dims, axis + 1, dims.size());
  std::int64_t before = 0;
  for (int i = 0; i < count; ++i) {
    const std::int64_t size = sizes[static_cast<std::size_t>(i)];
    require(0 <= size && size <= x.dims[axis] - before, Code::invalid_argument,
            "parts of sizes {} do not fit the input's {} elements on axis {}", to_string(sizes), x.dims[axis], axis);
    if (context.wants_output(i)) {
      dims[axis] = size;
      check_output(context, i, dims);
      dispatch_bits(x.dtype, [&]<typename T>() {
        cut(x.as<const T>(), before, x.dims[axis], context.output(i).as<T>(), size, outer, inner);
      });
    }
    before += size;
  }
}

const OpDef kSplitDef{"Split", make_split, import_split};

}  // namespace tenfold
