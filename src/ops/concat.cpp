// Source: ONNX operator sets 4 to 13, Concat.
#include "ops/concat.hpp"

#include "ops/checks.hpp"
#include "ops/movement.hpp"
#include "ops/numbers.hpp"
#include "ops/shape_math.hpp"

namespace tenfold {
namespace {

constexpr int kMaxInputs = 1 << 20;

/// One input into its place: `size` of `total` elements along the axis, after `before`. `inner`, `outer`: elements
/// after and before the axis.
template <typename T>
void place(const T* in, std::int64_t size, T* out, std::int64_t before, std::int64_t total, std::int64_t outer,
           std::int64_t inner) {
  const std::array<std::int64_t, 2> dims{outer, size * inner};
  const std::array<std::int64_t, 2> from{size * inner, 1};
  const std::array<std::int64_t, 2> to{total * inner, 1};
  copy_strided<T>(dims, in, from, out + before * inner, to);
}

OpPtr make_concat(const Attributes& attributes) { return std::make_shared<const Concat>(attributes.get_int("axis")); }

void import_concat(ImportNode& node) {
  require(node.has_input(0), Code::invalid_model, "input 0 is missing");
  if (node.num_inputs() == 1) {
    node.set_output(0, node.input(0));
    return;
  }
  const int rank = node.graph().value(node.input(0)).type.rank();
  const std::int64_t axis = check_axis(node.attributes().get_int("axis"), rank);
  node.set_output(0, node.add(std::make_shared<const Concat>(axis), node.inputs()));
}

}  // namespace

void Concat::infer(InferContext& context) const {
  const int count = context.num_inputs();
  check_num_inputs(context, 1, kMaxInputs);
  check_num_outputs(context, 1, 1);
  TensorType y = context.input(0);
  const auto axis = static_cast<std::size_t>(check_axis(axis_, y.rank()));
  for (int i = 1; i < count; ++i) {
    require(context.has_input(i), Code::invalid_model, "input {} is missing", i);
    const TensorType& x = context.input(i);
    check_same_dtype(context, i, "an input");
    check_rank(context, i, y.rank(), "an input");
    for (std::size_t a = 0; a < y.dims.size(); ++a) {
      if (a == axis) {
        y.dims[a] = y.dims[a] + x.dims[a];
      } else {
        require(!surely_differ(y.dims[a], x.dims[a]), Code::invalid_model,
                "input {} of shape {} differs from the others, {}, outside axis {}", i, to_string(x.dims),
                to_string(y.dims), axis);
        if (x.dims[a].is_constant()) y.dims[a] = x.dims[a];  // all are equal, so the one that is a number says most
      }
    }
  }
  context.set_output(0, y);

  if (!y.is_static()) return;
  const Shape dims = y.static_shape();
  const std::int64_t total = num_elements(dims);
  if (total > kMaxKnownIntegers) return;
  const std::int64_t outer = product_of(dims, 0, axis);
  const std::int64_t inner = product_of(dims, axis + 1, dims.size());
  std::vector<Dim> elements(static_cast<std::size_t>(total));
  std::int64_t before = 0;
  for (int i = 0; i < count; ++i) {
    const auto known = context.integers(i);
    const TensorType& x = context.input(i);
    if (!known || !x.is_static()) return;
    const std::int64_t size = x.dims[axis].constant();
    place(known->data(), size, elements.data(), before, dims[axis], outer, inner);
    before += size;
  }
  pass_integers(context, 0, std::move(elements));
}

void Concat::evaluate(EvalContext& context) const {
  const auto axis = static_cast<std::size_t>(check_axis(axis_, context.input(0).rank()));
  Shape dims(context.input(0).dims.begin(), context.input(0).dims.end());
  dims[axis] = 0;
  for (int i = 0; i < context.num_inputs(); ++i) {
    const TensorView& x = context.input(i);
    bool fits = x.dims.size() == dims.size();
    for (std::size_t a = 0; fits && a < dims.size(); ++a) fits = a == axis || x.dims[a] == dims[a];
    require(fits, Code::invalid_argument, "input {} of shape [{}] does not fit the first one, [{}], outside axis {}", i,
            fmt::join(x.dims, ", "), fmt::join(context.input(0).dims, ", "), axis);
    dims[axis] += x.dims[axis];
  }
  check_output(context, 0, dims);
  const std::int64_t outer = product_of(dims, 0, axis);
  const std::int64_t inner = product_of(dims, axis + 1, dims.size());
  dispatch_bits(context.output(0).dtype, [&]<typename T>() {
    std::int64_t before = 0;
    for (int i = 0; i < context.num_inputs(); ++i) {
      const TensorView& x = context.input(i);
      place(x.as<const T>(), x.dims[axis], context.output(0).as<T>(), before, dims[axis], outer, inner);
      before += x.dims[axis];
    }
  });
}

const OpDef kConcatDef{"Concat", make_concat, import_concat};

}  // namespace tenfold
