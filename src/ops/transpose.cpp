// Source: ONNX operator sets 1 to 24, Transpose.
#include "ops/transpose.hpp"

#include <algorithm>

#include "ops/checks.hpp"
#include "ops/movement.hpp"
#include "ops/numbers.hpp"
#include "ops/shape_math.hpp"

namespace tenfold {
namespace {

template <typename T>
void transpose(std::span<const std::int64_t> in_dims, const std::vector<std::int64_t>& permutation, const T* in,
               T* out) {
  const Shape strides = strides_of(in_dims);
  Shape dims;
  Shape from;
  for (const std::int64_t axis : permutation) {
    dims.push_back(in_dims[static_cast<std::size_t>(axis)]);
    from.push_back(strides[static_cast<std::size_t>(axis)]);
  }
  copy_strided(dims, in, from, out, strides_of(dims));
}

OpPtr make_transpose(const Attributes& attributes) {
  return std::make_shared<const Transpose>(attributes.get_ints("perm", {}));
}

void import_transpose(ImportNode& node) {
  require(node.has_input(0), Code::invalid_model, "input 0 is missing");
  std::vector<std::int64_t> permutation = node.attributes().get_ints("perm", {});
  if (permutation.empty()) {
    for (int i = node.graph().value(node.input(0)).type.rank(); i-- > 0;) permutation.push_back(i);
  }
  node.set_output(0, node.add(std::make_shared<const Transpose>(std::move(permutation)), {node.input(0)}));
}

}  // namespace

std::vector<std::int64_t> Transpose::permutation_for(int rank) const {
  std::vector<std::int64_t> permutation = permutation_;
  if (permutation.empty()) {
    for (int i = rank; i-- > 0;) permutation.push_back(i);
  }
  std::vector<bool> seen(static_cast<std::size_t>(rank), false);
  bool valid = static_cast<int>(permutation.size()) == rank;
  for (const std::int64_t axis : permutation) {
    valid = valid && 0 <= axis && axis < rank && !seen[static_cast<std::size_t>(axis)];
    if (valid) seen[static_cast<std::size_t>(axis)] = true;
  }
  require(valid, Code::invalid_model, "perm {} is no permutation of the {} axes", to_string(permutation_), rank);
  return permutation;
}

void Transpose::infer(InferContext& context) const {
  check_num_inputs(context, 1, 1);
  check_num_outputs(context, 1, 1);
  const TensorType& x = context.input(0);
  const std::vector<std::int64_t> permutation = permutation_for(x.rank());
  TensorType y{x.dtype, {}};
  for (const std::int64_t axis : permutation) y.dims.push_back(x.dims[static_cast<std::size_t>(axis)]);
  context.set_output(0, y);
  pass_moved_integers(
      context, y, [&](const Dim* from, Dim* to) { transpose(context.input(0).static_shape(), permutation, from, to); });
}

void Transpose::evaluate(EvalContext& context) const {
  const TensorView& x = context.input(0);
  const std::vector<std::int64_t> permutation = permutation_for(x.rank());
  Shape dims;
  for (const std::int64_t axis : permutation) dims.push_back(x.dim(static_cast<int>(axis)));
  check_output(context, 0, dims);
  dispatch_bits(x.dtype,
                [&]<typename T>() { transpose(x.dims, permutation, x.as<const T>(), context.output(0).as<T>()); });
}

const OpDef kTransposeDef{"Transpose", make_transpose, import_transpose};

}  // namespace tenfold
