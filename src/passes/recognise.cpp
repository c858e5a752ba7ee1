// Recognises activations and normalisations that exporters write as many small operators:
//   Gelu         0.5 x (1 + erf(x / sqrt 2)),  0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
//   HardSigmoid  clip(a x + b, 0, m) / m,      HardSwish  x HardSigmoid(x; 1/6, 1/2)
//   Softplus     log(1 + exp x)
//   LayerNormalization  (x - mean) / sqrt(mean((x - mean)^2) + e),   RMSNormalization  x / sqrt(mean(x^2) + e)
//   GroupNormalization  from InstanceNormalization over reshaped groups
//   Gather       Cast(i == 0, 1, .. n-1) W: a product with one-hot rows picks rows of W
// Scalars may stand anywhere in a product: factors are collected, and arguments are compared as polynomials of x.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "ops/matmul.hpp"
#include "ops/registry.hpp"
#include "ops/window.hpp"
#include "passes/match.hpp"
#include "passes/passes.hpp"

namespace tenfold {
namespace {

constexpr int kMaxDepth = 8;

bool near(double got, double wanted) { return std::abs(got - wanted) <= 2e-5 * std::max(std::abs(wanted), 1e-3); }

/// Coefficients of a polynomial of degree up to 3: c[0] + c[1] x + c[2] x^2 + c[3] x^3.
using Polynomial = std::array<double, 4>;

std::optional<Polynomial> multiply(const Polynomial& a, const Polynomial& b) {
  Polynomial result{};
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t j = 0; j < 4; ++j) {
      if (a[i] * b[j] == 0) continue;
      if (i + j > 3) return std::nullopt;
      result[i + j] += a[i] * b[j];
    }
  }
  return result;
}

/// `value` as a polynomial of `x`, looking through Add, Sub, Mul, Div by scalars, Pow and Neg.
std::optional<Polynomial> polynomial(const GraphView& graph, ValueId value, ValueId x, int depth = 0) {
  if (value == x) return Polynomial{0, 1, 0, 0};
  if (const std::optional<double> number = scalar_of(graph, value)) return Polynomial{*number, 0, 0, 0};
  const Node* node = graph.producer(value);
  if (node == nullptr || depth == kMaxDepth) return std::nullopt;
  if (is(*node, "Neg")) {
    const auto inner = polynomial(graph, node->inputs[0], x, depth + 1);
    return inner ? multiply(*inner, {-1, 0, 0, 0}) : std::nullopt;
  }
  if (!is_one_of(*node, {"Add", "Sub", "Mul", "Div", "Pow"}) || node->inputs.size() != 2) return std::nullopt;
  const auto a = polynomial(graph, node->inputs[0], x, depth + 1);
  if (!a) return std::nullopt;
  const auto b = polynomial(graph, node->inputs[1], x, depth + 1);
  if (!b) return std::nullopt;
  if (is(*node, "Mul")) return multiply(*a, *b);
  if (is(*node, "Add") || is(*node, "Sub")) {
    Polynomial sum = *a;
    for (std::size_t i = 0; i < 4; ++i) sum[i] += is(*node, "Add") ? (*b)[i] : -(*b)[i];
    return sum;
  }
  if ((*b)[1] != 0 || (*b)[2] != 0 || (*b)[3] != 0) return std::nullopt;
  const double k = (*b)[0];
  if (is(*node, "Div")) return k == 0 ? std::nullopt : multiply(*a, {1 / k, 0, 0, 0});
  if (k == 1) return a;
  if (k != 2 && k != 3) return std::nullopt;
  const auto square = multiply(*a, *a);
  return k == 2 || !square ? square : multiply(*square, *a);
}

bool is_polynomial(const GraphView& graph, ValueId value, ValueId x, const Polynomial& wanted) {
  const auto got = polynomial(graph, value, x);
  if (!got) return false;
  for (std::size_t i = 0; i < 4; ++i) {
    if (wanted[i] == 0 ? (*got)[i] != 0 : !near((*got)[i], wanted[i])) return false;
  }
  return true;
}

/// A product taken apart: its scalar factors multiplied, and the other factors.
struct Product {
  double scale = 1;
  std::vector<ValueId> factors;
  std::vector<const Node*> nodes;  // the Mul nodes inside, without the root
};

void collect_factors(const GraphView& graph, ValueId value, bool is_root, Product& product, int depth) {
  if (const std::optional<double> number = scalar_of(graph, value)) {
    product.scale *= *number;
    return;
  }
  const Node* node = graph.producer(value);
  const bool may_open = is_root || graph.has_single_use(value);
  if (node != nullptr && may_open && depth < kMaxDepth && is(*node, "Mul") && node->inputs.size() == 2) {
    if (!is_root) product.nodes.push_back(node);
    for (const ValueId input : node->inputs) collect_factors(graph, input, false, product, depth + 1);
    return;
  }
  if (node != nullptr && may_open && depth < kMaxDepth && is(*node, "Div")) {
    if (const auto divisor = scalar_of(graph, node->inputs[1]); divisor && *divisor != 0) {
      product.scale /= *divisor;
      if (!is_root) product.nodes.push_back(node);
      collect_factors(graph, node->inputs[0], false, product, depth + 1);
      return;
    }
  }
  product.factors.push_back(value);
}

Product product_of(const GraphView& graph, const Node& root) {
  Product product;
  collect_factors(graph, root.outputs[0], true, product, 0);
  return product;
}

/// The other summand if `value` is `number` + something.
std::optional<ValueId> plus_number(const GraphView& graph, ValueId value, double number) {
  const Node* add = producer_of(graph, value, "Add");
  if (add == nullptr || add->inputs.size() != 2) return std::nullopt;
  for (const auto& [rest, k] : both_orders(*add)) {
    if (const auto got = scalar_of(graph, k); got && near(*got, number)) return rest;
  }
  return std::nullopt;
}

std::optional<Patch> recognise_gelu(const GraphView& graph, const Node& node) {
  if (!is_one_of(node, {"Mul", "Div"}) || !is_float32(graph, node.outputs[0])) return std::nullopt;
  const Product product = product_of(graph, node);
  if (product.factors.size() != 2 || !near(product.scale, 0.5)) return std::nullopt;
  for (std::size_t i = 0; i < 2; ++i) {
    const ValueId x = product.factors[i];
    const std::optional<ValueId> inner = plus_number(graph, product.factors[1 - i], 1);
    if (!inner || !same_dims(graph, x, node.outputs[0])) continue;
    const Node* function = graph.producer(*inner);
    if (function == nullptr) continue;
    std::string approximate;
    const double k = std::sqrt(2 / std::numbers::pi);
    if (is(*function, "Erf") && is_polynomial(graph, function->inputs[0], x, {0, std::sqrt(0.5), 0, 0})) {
      approximate = "none";
    } else if (is(*function, "Tanh") && is_polynomial(graph, function->inputs[0], x, {0, k, 0, k * 0.044715})) {
      approximate = "tanh";
    } else {
      continue;
    }
    Patch patch(graph, node);
    for (const Node* absorbed : product.nodes) patch.absorb(*absorbed);
    patch.absorb(*function);
    return std::move(patch.replace(node.outputs[0], patch.add(make_op("Gelu", {{"approximate", approximate}}), {x})));
  }
  return std::nullopt;
}

/// A value limited to [low, high] by Clip, or by Min and Max.
struct Limited {
  ValueId value = kNoValue;
  double low = 0, high = 0;
};
std::optional<Limited> limited(const GraphView& graph, ValueId value) {
  const Node* node = graph.producer(value);
  if (node == nullptr) return std::nullopt;
  if (is(*node, "Clip") && node->inputs.size() == 3) {
    const auto low = scalar_of(graph, node->inputs[1]);
    const auto high = scalar_of(graph, node->inputs[2]);
    if (low && high) return Limited{node->inputs[0], *low, *high};
  }
  if (is(*node, "Min") && node->inputs.size() == 2) {
    for (const auto& [inner, high] : both_orders(*node)) {
      const auto top = scalar_of(graph, high);
      const Node* from = graph.producer(inner);
      if (!top || from == nullptr) continue;
      if (is(*from, "Relu")) return Limited{from->inputs[0], 0, *top};
      if (!is(*from, "Max") || from->inputs.size() != 2) continue;
      for (const auto& [x, low] : both_orders(*from)) {
        if (const auto bottom = scalar_of(graph, low)) return Limited{x, *bottom, *top};
      }
    }
  }
  return std::nullopt;
}

/// scale * clip(a x + b, 0, m) with scale * m = 1, alone or times x.
std::optional<Patch> recognise_hard_sigmoid(const GraphView& graph, const Node& node) {
  if (!is_one_of(node, {"Mul", "Div"}) || !is_float32(graph, node.outputs[0])) return std::nullopt;
  const Product product = product_of(graph, node);
  if (product.factors.empty() || product.factors.size() > 2) return std::nullopt;
  for (std::size_t i = 0; i < product.factors.size(); ++i) {
    const std::optional<Limited> clip = limited(graph, product.factors[i]);
    if (!clip || clip->low != 0 || !near(clip->high * product.scale, 1)) continue;
    // What is clipped is a line of x, where x is the other factor, or whatever Add and Mul start from.
    std::vector<ValueId> starts;
    if (product.factors.size() == 2) {
      starts.push_back(product.factors[1 - i]);
    } else if (const Node* line = graph.producer(clip->value)) {
      for (const ValueId input : line->inputs) {
        if (input != kNoValue && !scalar_of(graph, input)) starts.push_back(input);
      }
    }
    for (const ValueId x : starts) {
      const auto line = polynomial(graph, clip->value, x);
      if (!line || (*line)[1] == 0 || (*line)[2] != 0 || (*line)[3] != 0) continue;
      if (!same_dims(graph, x, node.outputs[0])) continue;
      const double alpha = (*line)[1] * product.scale;
      const double beta = (*line)[0] * product.scale;
      const bool is_swish = product.factors.size() == 2;
      if (is_swish && !(near(alpha, 1.0 / 6) && near(beta, 0.5))) continue;
      Patch patch(graph, node);
      for (const Node* absorbed : product.nodes) patch.absorb(*absorbed);
      const OpPtr op = is_swish ? make_op("HardSwish") : make_op("HardSigmoid", {{"alpha", alpha}, {"beta", beta}});
      return std::move(patch.replace(node.outputs[0], patch.add(op, {x})));
    }
  }
  return std::nullopt;
}

/// x * HardSigmoid(x) with the slope 1/6 and the offset 1/2.
std::optional<Patch> recognise_hard_swish(const GraphView& graph, const Node& node) {
  if (!is(node, "Mul") || node.inputs.size() != 2 || !is_float32(graph, node.outputs[0])) return std::nullopt;
  for (const auto& [x, gate] : both_orders(node)) {
    const Node* sigmoid = producer_of(graph, gate, "HardSigmoid");
    if (sigmoid == nullptr || sigmoid->inputs[0] != x) continue;
    const Attributes attributes = sigmoid->op->attributes();
    if (!near(attributes.get_float("alpha", 0.2), 1.0 / 6) || !near(attributes.get_float("beta", 0.5), 0.5)) continue;
    Patch patch(graph, node);
    patch.absorb(*sigmoid);
    return std::move(patch.replace(node.outputs[0], patch.add(make_op("HardSwish"), {x})));
  }
  return std::nullopt;
}

/// log(1 + exp x); as one operator it does not overflow.
std::optional<Patch> recognise_softplus(const GraphView& graph, const Node& node) {
  if (!is(node, "Log") || !is_float32(graph, node.outputs[0])) return std::nullopt;
  const std::optional<ValueId> power = plus_number(graph, node.inputs[0], 1);
  const Node* exp = power ? producer_of(graph, *power, "Exp") : nullptr;
  if (exp == nullptr || !same_dims(graph, exp->inputs[0], node.outputs[0])) return std::nullopt;
  Patch patch(graph, node);
  patch.absorb(*exp);
  return std::move(patch.replace(node.outputs[0], patch.add(make_op("Softplus"), {exp->inputs[0]})));
}

// --- Normalisations -------------------------------------------------------------------------------------------------

/// First of the trailing axes that a ReduceMean with keepdims averages over; nullopt if they are not the last ones.
std::optional<std::int64_t> trailing_mean_axis(const GraphView& graph, const Node& mean) {
  const Attributes attributes = mean.op->attributes();
  if (attributes.get_int("keepdims", 1) != 1) return std::nullopt;
  std::vector<std::int64_t> axes = attributes.get_ints("axes", {});
  const int rank = graph.type(mean.inputs[0]).rank();
  for (std::int64_t& axis : axes) axis += axis < 0 ? rank : 0;
  std::sort(axes.begin(), axes.end());
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (axes[i] != rank - static_cast<std::int64_t>(axes.size() - i)) return std::nullopt;
  }
  if (axes.empty()) return std::nullopt;
  return axes[0];
}

/// The value whose square this is: x * x or x ^ 2.
ValueId square_root_of(const GraphView& graph, ValueId value) {
  const Node* node = graph.producer(value);
  if (is(node, "Mul") && node->inputs[0] == node->inputs[1]) return node->inputs[0];
  if (is(node, "Pow") && is_scalar(graph, node->inputs[1], 2)) return node->inputs[0];
  return kNoValue;
}

/// n / sqrt(mean(n^2) + epsilon), however the division is written.
struct Normalised {
  ValueId value = kNoValue;  ///< n
  std::int64_t axis = 0;
  double epsilon = 0;
};
std::optional<Normalised> normalised_by(const GraphView& graph, ValueId value, ValueId divisor) {
  const Node* root = producer_of(graph, divisor, "Sqrt");
  if (root == nullptr) return std::nullopt;
  const Node* sum = producer_of(graph, root->inputs[0], "Add");
  if (sum == nullptr || sum->inputs.size() != 2) return std::nullopt;
  for (const auto& [variance, epsilon] : both_orders(*sum)) {
    const std::optional<double> number = scalar_of(graph, epsilon);
    const Node* mean = producer_of(graph, variance, "ReduceMean");
    if (!number || mean == nullptr || square_root_of(graph, mean->inputs[0]) != value) continue;
    const std::optional<std::int64_t> axis = trailing_mean_axis(graph, *mean);
    if (axis) return Normalised{value, *axis, *number};
  }
  return std::nullopt;
}
std::optional<Normalised> normalised(const GraphView& graph, const Node& node) {
  if (is(node, "Div")) return normalised_by(graph, node.inputs[0], node.inputs[1]);
  if (!is(node, "Mul") || node.inputs.size() != 2) return std::nullopt;
  for (const auto& [value, factor] : both_orders(node)) {
    const Node* inverse_root = graph.producer(factor);
    if (is(inverse_root, "Reciprocal")) {
      if (auto found = normalised_by(graph, value, inverse_root->inputs[0])) return found;
    }
    if (is(inverse_root, "Div") && is_scalar(graph, inverse_root->inputs[0], 1)) {
      if (auto found = normalised_by(graph, value, inverse_root->inputs[1])) return found;
    }
  }
  return std::nullopt;
}

/// The shape of the normalised axes, if they are known.
std::optional<Shape> trailing_shape(const TensorType& type, std::int64_t axis) {
  Shape shape;
  for (std::size_t i = static_cast<std::size_t>(axis); i < type.dims.size(); ++i) {
    if (!type.dims[i].is_constant()) return std::nullopt;
    shape.push_back(type.dims[i].constant());
  }
  return shape;
}

Tensor filled(const Shape& shape, float value) {
  Tensor tensor(DType::float32, shape);
  const auto elements = tensor.as_mutable<float>();
  std::fill(elements.begin(), elements.end(), value);
  return tensor;
}

std::optional<Patch> recognise_normalisation(const GraphView& graph, const Node& node) {
  if (!is_one_of(node, {"Div", "Mul"}) || !is_float32(graph, node.outputs[0])) return std::nullopt;
  const std::optional<Normalised> found = normalised(graph, node);
  if (!found || graph.type(found->value) != graph.type(node.outputs[0])) return std::nullopt;
  const std::optional<Shape> shape = trailing_shape(graph.type(found->value), found->axis);
  if (!shape) return std::nullopt;
  // Is what is normalised x minus its mean over the same axes?
  ValueId x = found->value;
  bool is_centred = false;
  if (const Node* difference = producer_of(graph, x, "Sub")) {
    const Node* mean = producer_of(graph, difference->inputs[1], "ReduceMean");
    if (mean != nullptr && mean->inputs[0] == difference->inputs[0] &&
        trailing_mean_axis(graph, *mean) == std::optional(found->axis)) {
      x = difference->inputs[0];
      is_centred = true;
    }
  }
  const Attributes attributes{{"axis", found->axis}, {"epsilon", found->epsilon}};
  Patch patch(graph, node);
  const ValueId scale = patch.constant(node.name + ".scale", filled(*shape, 1));
  const ValueId result =
      patch.add(make_op(is_centred ? "LayerNormalization" : "RMSNormalization", attributes), {x, scale});
  return std::move(patch.replace(node.outputs[0], result));
}

/// Reshape to [N, groups, rest], InstanceNormalization and Reshape back normalise groups of channels.
std::optional<Patch> recognise_group_norm(const GraphView& graph, const Node& node) {
  if (!is(node, "Reshape")) return std::nullopt;
  const Node* norm = sole_producer_of(graph, node.inputs[0], "InstanceNormalization");
  if (norm == nullptr || norm->inputs.size() != 3) return std::nullopt;
  const Node* grouped = producer_of(graph, norm->inputs[0], "Reshape");
  if (grouped == nullptr || layout_from(norm->op->attributes()) != ImageLayout::nchw) return std::nullopt;
  const ValueId x = grouped->inputs[0];
  const TensorType& type = graph.type(x);
  const std::vector<Dim>& inner = graph.type(norm->inputs[0]).dims;
  if (type != graph.type(node.outputs[0]) || type.rank() < 3 || inner.size() < 3) return std::nullopt;
  if (!(inner[0] == type.dims[0]) || !inner[1].is_constant() || !type.dims[1].is_constant()) return std::nullopt;
  const std::int64_t groups = inner[1].constant();
  const std::int64_t channels = type.dims[1].constant();
  if (groups < 1 || channels % groups != 0) return std::nullopt;
  const Tensor* scale = graph.constant(norm->inputs[1]);
  const Tensor* shift = graph.constant(norm->inputs[2]);
  if (scale == nullptr || shift == nullptr || scale->dtype() != DType::float32) return std::nullopt;
  const auto repeat = [&](const Tensor& per_group) {
    Tensor result(DType::float32, {channels});
    const auto to = result.as_mutable<float>();
    for (std::size_t c = 0; c < to.size(); ++c)
      to[c] = per_group.as<float>()[c / static_cast<std::size_t>(channels / groups)];
    return result;
  };
  const Attributes attributes{{"num_groups", groups}, {"epsilon", norm->op->attributes().get_float("epsilon", 1e-5)}};
  Patch patch(graph, node);
  patch.absorb(*norm).absorb(*grouped);
  const ValueId result =
      patch.add(make_op("GroupNormalization", attributes), {x, patch.constant(norm->name + ".scale", repeat(*scale)),
                                                            patch.constant(norm->name + ".shift", repeat(*shift))});
  return std::move(patch.replace(node.outputs[0], result));
}

/// A factor or summand behind a normalisation, as one number for each element of its scale.
std::optional<std::vector<float>> like_scale(const Tensor* constant, const TensorType& type, const Node& norm,
                                             const Tensor& scale) {
  if (constant == nullptr || constant->dtype() != DType::float32 || constant->rank() > type.rank()) return std::nullopt;
  const auto values = constant->as<float>();
  std::vector<float> result(static_cast<std::size_t>(scale.num_elements()));
  if (values.size() == 1) {
    std::fill(result.begin(), result.end(), values[0]);
    return result;
  }
  if (values.size() != result.size()) return std::nullopt;
  // The axes that the scale runs along, counted from the end.
  int first = scale.rank();
  int last = 0;
  if (is_one_of(norm, {"GroupNormalization", "InstanceNormalization"})) {
    const int axis = channel_axis(layout_from(norm.op->attributes()), type.rank());
    first = type.rank() - axis;
    last = first - 1;
  }
  for (int i = 0; i < constant->rank(); ++i) {
    const int from_end = constant->rank() - i;  // 1 is the last axis
    if (constant->shape()[static_cast<std::size_t>(i)] != 1 && (from_end > first || from_end <= last))
      return std::nullopt;
  }
  // Several normalised axes: the constant must have all of them, or it would repeat.
  if (constant->rank() < first) return std::nullopt;
  std::copy(values.begin(), values.end(), result.begin());
  return result;
}

/// normalisation * s and normalisation + t become its own scale and bias.
std::optional<Patch> fold_affine_into_norm(const GraphView& graph, const Node& node) {
  const bool is_scale = is(node, "Mul");
  if ((!is_scale && !is(node, "Add")) || node.inputs.size() != 2) return std::nullopt;
  for (const auto& [value, operand] : both_orders(node)) {
    const Node* norm = graph.producer(value);
    if (norm == nullptr || !graph.has_single_use(value) || !same_dims(graph, value, node.outputs[0])) continue;
    const bool has_bias = is_one_of(*norm, {"LayerNormalization", "GroupNormalization", "InstanceNormalization"});
    if (!has_bias && !(is_scale && is(*norm, "RMSNormalization"))) continue;
    if (norm->outputs.size() > 1 && (norm->outputs[1] != kNoValue)) continue;
    const Tensor* scale = graph.constant(norm->inputs[1]);
    if (scale == nullptr || scale->dtype() != DType::float32) continue;
    const ValueId bias_value = input_of(*norm, 2);
    const Tensor* bias = graph.constant(bias_value);
    if (bias_value != kNoValue && bias == nullptr) continue;
    const auto factors = like_scale(graph.constant(operand), graph.type(value), *norm, *scale);
    if (!factors) continue;
    Tensor new_scale(DType::float32, scale->shape());
    Tensor new_bias(DType::float32, scale->shape());
    for (std::size_t i = 0; i < factors->size(); ++i) {
      const float old_bias = bias != nullptr ? bias->as<float>()[i] : 0.0F;
      new_scale.as_mutable<float>()[i] = scale->as<float>()[i] * (is_scale ? (*factors)[i] : 1.0F);
      new_bias.as_mutable<float>()[i] = is_scale ? old_bias * (*factors)[i] : old_bias + (*factors)[i];
    }
    Patch patch(graph, *norm);
    patch.absorb(node);
    std::vector<ValueId> inputs{norm->inputs[0], patch.constant(norm->name + ".scale", std::move(new_scale))};
    if (bias != nullptr || !is_scale) inputs.push_back(patch.constant(norm->name + ".bias", std::move(new_bias)));
    return std::move(patch.replace(node.outputs[0], patch.add(norm->op, std::move(inputs))));
  }
  return std::nullopt;
}

/// The integers [.., 1] of which `equal` makes one-hot rows: it compares them with 0, 1, .. n-1 along the last axis.
ValueId compared_with_range(const GraphView& graph, const Node& equal, std::int64_t n) {
  for (const auto& [integers, range] : both_orders(equal)) {
    const Tensor* constant = graph.constant(range);
    const TensorType& type = graph.type(integers);
    if (constant == nullptr || (type.dtype != DType::int32 && type.dtype != DType::int64)) continue;
    if (type.rank() < 1 || constant->rank() < 1 || constant->rank() > type.rank() || type.dims.back() != Dim(1))
      continue;
    const auto elements = known_integers(graph, range);
    if (!elements || std::ssize(*elements) != n || constant->shape().back() != n) continue;
    bool counts = true;
    for (std::int64_t i = 0; i < n; ++i) counts = counts && (*elements)[static_cast<std::size_t>(i)] == i;
    if (counts) return integers;
  }
  return kNoValue;
}

/// MatMul(one-hot rows, W) -> Gather from W with a row of zeros behind, for integers that no column stands for.
std::optional<Patch> recognise_one_hot_product(const GraphView& graph, const Node& node) {
  const auto* product = op_cast<MatMul>(&node);
  if (product == nullptr || product->trans_a() || product->trans_b() || !product->epilogue().program.empty())
    return std::nullopt;
  const Tensor* weights = graph.constant(node.inputs[1]);
  const Node* cast = producer_of(graph, node.inputs[0], "Cast");
  const Node* equal = cast == nullptr ? nullptr : producer_of(graph, cast->inputs[0], "Equal");
  if (weights == nullptr || equal == nullptr || weights->rank() != 2 || weights->dtype() != DType::float32 ||
      !is_float32(graph, node.inputs[0]))
    return std::nullopt;
  const std::int64_t n = weights->shape()[0], columns = weights->shape()[1];
  const ValueId integers = compared_with_range(graph, *equal, n);
  if (integers == kNoValue) return std::nullopt;
  std::vector<Dim> dims = graph.type(integers).dims;
  dims.pop_back();
  if (!can_be_stored(graph, dims)) return std::nullopt;
  // Zero times infinity would be NaN.
  const auto values = weights->as<float>();
  if (!std::all_of(values.begin(), values.end(), [](float w) { return std::isfinite(w); })) return std::nullopt;

  Tensor table(DType::float32, {n + 1, columns});
  std::copy(values.begin(), values.end(), table.as_mutable<float>().begin());
  std::fill(table.as_mutable<float>().begin() + std::ssize(values), table.as_mutable<float>().end(), 0.0F);
  const auto scalar = [&](std::int64_t value) {
    Tensor tensor(graph.type(integers).dtype, {});
    if (tensor.dtype() == DType::int64) {
      tensor.as_mutable<std::int64_t>()[0] = value;
    } else {
      tensor.as_mutable<std::int32_t>()[0] = static_cast<std::int32_t>(value);
    }
    return tensor;
  };
  Patch patch(graph, node);
  patch.absorb(*cast).absorb(*equal);
  // -1 and n are the row of zeros.
  ValueId index = patch.add(make_op("Reshape", {{"dims", dim_texts(dims)}}), {integers});
  index = patch.add(make_op("Max", {}), {index, patch.constant(node.name + ".low", scalar(-1))});
  index = patch.add(make_op("Min", {}), {index, patch.constant(node.name + ".high", scalar(n))});
  const ValueId rows = patch.add(make_op("Gather", {{"axis", std::int64_t{0}}}),
                                 {patch.constant(node.name + ".table", std::move(table)), index});
  return std::move(patch.replace(node.outputs[0], rows));
}

constexpr std::array kRewrites{
    Rewrite{"recognise_one_hot_product", recognise_one_hot_product, "A product with one-hot rows is a Gather."},
    Rewrite{"recognise_gelu", recognise_gelu, "Gelu from erf or tanh and arithmetic."},
    Rewrite{"recognise_hard_sigmoid", recognise_hard_sigmoid, "HardSigmoid and HardSwish from Clip and arithmetic."},
    Rewrite{"recognise_hard_swish", recognise_hard_swish, "HardSwish from HardSigmoid."},
    Rewrite{"recognise_softplus", recognise_softplus, "Softplus from log and exp."},
    Rewrite{"recognise_normalisation", recognise_normalisation,
            "LayerNormalization and RMSNormalization from means, squares and roots."},
    Rewrite{"recognise_group_norm", recognise_group_norm,
            "GroupNormalization from InstanceNormalization of reshaped channels."},
    Rewrite{"fold_affine_into_norm", fold_affine_into_norm, "A scale or shift behind a normalisation becomes its own."},
};

}  // namespace

const std::span<const Rewrite> kRecogniseRewrites = kRewrites;

}  // namespace tenfold
