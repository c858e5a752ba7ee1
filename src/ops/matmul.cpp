// y[..., i, j] = sum over k of a[..., i, k] * b[..., k, j].
// Source: ONNX operator set 13, MatMul; Gemm (operator sets 7 to 13) is alpha * a' * b' + beta * c and is imported as
// MatMul, Mul and Add.
#include "ops/matmul.hpp"

#include <algorithm>

#include "ops/checks.hpp"
#include "ops/numbers.hpp"
#include "ops/quantized.hpp"
#include "ops/registry.hpp"

namespace tenfold {
namespace {

bool flag_from(const Attributes& attributes, std::string_view name) {
  const std::int64_t value = attributes.get_int(name, 0);
  require(value == 0 || value == 1, Code::invalid_model, "{} must be 0 or 1, got {}", name, value);
  return value == 1;
}

OpPtr make_matmul(const Attributes& attributes) {
  return std::make_shared<const MatMul>(flag_from(attributes, "trans_a"), flag_from(attributes, "trans_b"),
                                        Epilogue::from(attributes), attributes.get_int("zero_point", 0));
}

/// A scalar of the given type, for alpha and beta.
Tensor scalar_of(DType dtype, double value) {
  Tensor tensor(dtype, {});
  const TensorView view{tensor.mutable_data(), dtype, {}, 0};
  store_doubles(std::span(&value, 1), view);
  return tensor;
}

void import_gemm(ImportNode& node) {
  require(node.has_input(0) && node.has_input(1), Code::invalid_model, "inputs A and B are needed");
  const Attributes& attributes = node.attributes();
  const double alpha = attributes.get_float("alpha", 1);
  const double beta = attributes.get_float("beta", 1);
  for (int i = 0; i < 2; ++i) {
    const TensorType& type = node.graph().value(node.input(i)).type;
    require(type.rank() == 2, Code::invalid_model, "input {} must be a matrix, got {}", i, to_string(type));
  }
  const DType dtype = node.graph().value(node.input(0)).type.dtype;
  require(is_float(dtype) || (alpha == static_cast<double>(static_cast<std::int64_t>(alpha)) &&
                              beta == static_cast<double>(static_cast<std::int64_t>(beta))),
          Code::unsupported, "alpha {} and beta {} with integer matrices", alpha, beta);
  // The attributes' old spelling with capitals in between is ONNX's: transA, transB.
  const auto op = std::make_shared<const MatMul>(flag_from(attributes, "transA"), flag_from(attributes, "transB"));
  ValueId result = node.add(op, {node.input(0), node.input(1)});
  if (alpha != 1) result = node.add(make_op("Mul"), {result, node.constant(scalar_of(dtype, alpha))});
  if (node.has_input(2) && beta != 0) {
    ValueId c = node.input(2);
    if (beta != 1) c = node.add(make_op("Mul"), {c, node.constant(scalar_of(dtype, beta))});
    check_broadcasts_to(node.graph().value(c).type.dims, node.graph().value(result).type.dims, "input C");
    result = node.add(make_op("Add"), {result, c});
  }
  node.set_output(0, result);
}

}  // namespace

std::vector<Dim> matmul_output_dims(const std::vector<Dim>& a, const std::vector<Dim>& b, bool trans_a, bool trans_b) {
  require(!a.empty() && !b.empty(), Code::invalid_model,
          "a matrix product needs inputs of rank 1 or more, got {} and {}", to_string(a), to_string(b));
  require((!trans_a || a.size() >= 2) && (!trans_b || b.size() >= 2), Code::invalid_model,
          "a vector cannot be transposed");
  const std::size_t a_rank = a.size();
  const std::size_t b_rank = b.size();
  const Dim& a_inner = a_rank == 1 ? a[0] : a[a_rank - (trans_a ? 2 : 1)];
  const Dim& b_inner = b_rank == 1 ? b[0] : b[b_rank - (trans_b ? 1 : 2)];
  require(!surely_differ(a_inner, b_inner), Code::invalid_model,
          "matrices of shapes {} and {} do not fit: {} columns against {} rows", to_string(a), to_string(b),
          a_inner.to_string(), b_inner.to_string());
  const auto batch = [](const std::vector<Dim>& dims) {
    return std::vector<Dim>(dims.begin(), dims.end() - std::min<std::ptrdiff_t>(2, std::ssize(dims)));
  };
  std::vector<Dim> result = broadcast_dims(batch(a), batch(b));
  if (a_rank > 1) result.push_back(a[a_rank - (trans_a ? 1 : 2)]);
  if (b_rank > 1) result.push_back(b[b_rank - (trans_b ? 2 : 1)]);
  return result;
}

MatMulPlan plan_matmul(std::span<const std::int64_t> a, std::span<const std::int64_t> b, bool trans_a, bool trans_b) {
  MatMulPlan plan;
  ensure(!a.empty() && !b.empty(), "product of scalars");
  plan.k = a.size() == 1 ? a[0] : a[a.size() - (trans_a ? 2 : 1)];
  plan.m = a.size() == 1 ? 1 : a[a.size() - (trans_a ? 1 : 2)];
  plan.n = b.size() == 1 ? 1 : b[b.size() - (trans_b ? 2 : 1)];
  require(plan.k == (b.size() == 1 ? b[0] : b[b.size() - (trans_b ? 1 : 2)]), Code::invalid_model,
          "matrices of shapes {} and {} do not fit", to_string(Shape(a.begin(), a.end())),
          to_string(Shape(b.begin(), b.end())));
  const auto a_batch = a.first(a.size() - std::min<std::size_t>(2, a.size()));
  const auto b_batch = b.first(b.size() - std::min<std::size_t>(2, b.size()));
  Shape batch(std::max(a_batch.size(), b_batch.size()), 1);
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const std::int64_t left = i < a_batch.size() ? a_batch[a_batch.size() - 1 - i] : 1;
    const std::int64_t right = i < b_batch.size() ? b_batch[b_batch.size() - 1 - i] : 1;
    batch[batch.size() - 1 - i] = left == 1 ? right : left;
  }
  const std::vector<Shape> strides{broadcast_strides(a_batch, batch), broadcast_strides(b_batch, batch)};
  for_each_index(batch, strides, [&](std::span<const std::int64_t> offsets) {
    plan.a_offsets.push_back(offsets[0] * plan.m * plan.k);
    plan.b_offsets.push_back(offsets[1] * plan.k * plan.n);
  });
  return plan;
}

Attributes MatMul::attributes() const {
  Attributes attributes{{"trans_a", std::int64_t{trans_a_}}, {"trans_b", std::int64_t{trans_b_}}};
  epilogue_.store(attributes);
  if (zero_point_ != 0) attributes.set("zero_point", zero_point_);
  return attributes;
}

void MatMul::infer(InferContext& context) const {
  check_num_inputs(context, 2, kFirstEpilogueInput + epilogue_.num_extra_inputs());
  check_num_outputs(context, 1, 1);
  const TensorType& a = context.input(0);
  require(a.dtype != DType::boolean && a.dtype != DType::undefined, Code::invalid_model,
          "a matrix product needs numbers, got {}", to_string(a.dtype));
  if (a.dtype == DType::uint8 && epilogue_.output != DType::undefined) {
    check_dtype(context, 1, DType::int8, "the second matrix");
  } else {
    check_same_dtype(context, 1, "the second matrix");
  }
  require(a.dtype != DType::float8e4m3 || epilogue_.output != DType::undefined, Code::invalid_model,
          "a matrix product of {} needs the attribute 'to', the type of its result", to_string(a.dtype));
  check_zero_point(zero_point_, epilogue_.output == DType::undefined ? DType::undefined : a.dtype);
  TensorType result{a.dtype, matmul_output_dims(a.dims, context.input(1).dims, trans_a_, trans_b_)};
  context.set_output(0, check_epilogue(epilogue_, std::move(result), context, kFirstEpilogueInput));
}

void MatMul::evaluate(EvalContext& context) const {
  const TensorView& a = context.input(0);
  const TensorView& b = context.input(1);
  const TensorView& output = context.output(0);
  const MatMulPlan plan = plan_matmul(a.dims, b.dims, trans_a_, trans_b_);
  if (is_float(a.dtype) || epilogue_.output != DType::undefined) {
    std::vector<double> left = load_doubles(a);
    for (double& value : left) value -= static_cast<double>(zero_point_);
    finish(epilogue_, multiply<double>(plan, left, load_doubles(b), trans_a_, trans_b_), output, context,
           kFirstEpilogueInput);
  } else {
    const auto as_words = [](const std::vector<std::int64_t>& values) {
      return std::vector<std::uint64_t>(values.begin(), values.end());
    };
    const std::vector<std::uint64_t> result =
        multiply<std::uint64_t>(plan, as_words(load_int64(a)), as_words(load_int64(b)), trans_a_, trans_b_);
    ensure(static_cast<std::int64_t>(result.size()) == output.num_elements(), "product of inconsistent shapes");
    dispatch(output.dtype, [&]<typename T>() {
      if constexpr (std::is_integral_v<T>) {
        for (std::size_t i = 0; i < result.size(); ++i) output.as<T>()[i] = static_cast<T>(result[i]);
      }
    });
  }
}

double MatMul::flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const {
  if (inputs.size() < 2 || outputs.empty() || !inputs[0].is_static() || !outputs[0].is_static()) return 0;
  const std::vector<Dim>& a = inputs[0].dims;
  double flops = 2 * static_cast<double>(a[a.size() - (trans_a_ ? 2 : 1)].constant());
  for (const Dim& dim : outputs[0].dims) flops *= static_cast<double>(dim.constant());
  return flops;
}

const OpDef kGemmDef{"Gemm", nullptr, import_gemm};
const OpDef kMatMulDef{"MatMul", make_matmul, import_plain};

}  // namespace tenfold
