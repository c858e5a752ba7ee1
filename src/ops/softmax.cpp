// Along one axis, with m = max_j x[j]:
//   Softmax     y[i] = exp(x[i] - m) / sum_j exp(x[j] - m)
//   LogSoftmax  y[i] = x[i] - m - log(sum_j exp(x[j] - m))
//   Hardmax     y[i] = 1 for the first i with x[i] = m, else 0
// Source: ONNX operator set 13. Before opset 13 the input is first flattened to 2-D at `axis`.
#include "ops/softmax.hpp"

#include <algorithm>
#include <cmath>

#include "ops/checks.hpp"
#include "ops/numbers.hpp"
#include "ops/registry.hpp"

namespace tenfold {
namespace {

void infer_same(InferContext& context, std::int64_t axis) {
  check_num_inputs(context, 1, 1);
  check_num_outputs(context, 1, 1);
  check_float(context, 0, "the input");
  check_axis(axis, context.input(0).rank());
  context.set_output(0, context.input(0));
}

/// Calls f(first element, stride, length) for each line of elements along `axis`, over the data as doubles.
template <typename F>
void transform_lines(EvalContext& context, std::int64_t axis, F&& f) {
  const TensorView& x = context.input(0);
  std::vector<double> values = load_doubles(x);
  const auto a = static_cast<std::size_t>(check_axis(axis, x.rank()));
  const std::int64_t length = x.dims[a];
  std::int64_t stride = 1;
  for (std::size_t i = a + 1; i < x.dims.size(); ++i) stride *= x.dims[i];
  if (!values.empty()) {
    const auto outer = static_cast<std::int64_t>(values.size()) / (length * stride);
    for (std::int64_t o = 0; o < outer; ++o) {
      for (std::int64_t i = 0; i < stride; ++i) f(values.data() + o * length * stride + i, stride, length);
    }
  }
  store_doubles(values, context.output(0));
}

double line_max(const double* line, std::int64_t stride, std::int64_t length) {
  double best = line[0];
  for (std::int64_t i = 1; i < length; ++i) best = std::max(best, line[i * stride]);
  return best;
}

class LogSoftmax final : public Op {
 public:
  explicit LogSoftmax(std::int64_t axis) : axis_(axis) {}
  std::string_view type() const override { return "LogSoftmax"; }
  Attributes attributes() const override { return {{"axis", axis_}}; }
  void infer(InferContext& context) const override { infer_same(context, axis_); }
  void evaluate(EvalContext& context) const override {
    transform_lines(context, axis_, [](double* line, std::int64_t stride, std::int64_t length) {
      const double m = line_max(line, stride, length);
      double sum = 0;
      for (std::int64_t i = 0; i < length; ++i) sum += std::exp(line[i * stride] - m);
      for (std::int64_t i = 0; i < length; ++i) line[i * stride] -= m + std::log(sum);
    });
  }

 private:
  std::int64_t axis_;
};

class Hardmax final : public Op {
 public:
  explicit Hardmax(std::int64_t axis) : axis_(axis) {}
  std::string_view type() const override { return "Hardmax"; }
  Attributes attributes() const override { return {{"axis", axis_}}; }
  void infer(InferContext& context) const override { infer_same(context, axis_); }
  void evaluate(EvalContext& context) const override {
    transform_lines(context, axis_, [](double* line, std::int64_t stride, std::int64_t length) {
      std::int64_t best = 0;
      for (std::int64_t i = 1; i < length; ++i) {
        if (line[i * stride] > line[best * stride]) best = i;
      }
      for (std::int64_t i = 0; i < length; ++i) line[i * stride] = i == best ? 1 : 0;
    });
  }

 private:
  std::int64_t axis_;
};

template <typename T>
OpPtr make(const Attributes& attributes) {
  return std::make_shared<const T>(attributes.get_int("axis", -1));
}

std::vector<std::string> texts(const std::vector<Dim>& dims) {
  std::vector<std::string> result;
  for (const Dim& dim : dims) result.push_back(dim.to_string());
  return result;
}

void import_softmax(ImportNode& node) {
  require(node.has_input(0), Code::invalid_model, "the input is missing");
  const bool flattens = node.opset() < 13;
  const std::int64_t given = node.attributes().get_int("axis", flattens ? 1 : -1);
  const TensorType x = node.graph().value(node.input(0)).type;
  const int axis = check_axis(given, x.rank());
  const bool last_axes_are_one = std::all_of(x.dims.begin() + axis + 1, x.dims.end(),
                                             [](const Dim& d) { return d.is_constant() && d.constant() == 1; });
  if (!flattens || last_axes_are_one) {
    const Attributes attributes{{"axis", std::int64_t{axis}}};
    return node.set_output(0, node.add(make_op(node.op_type(), attributes), {node.input(0)}));
  }
  const Dim rows = product({x.dims.begin(), x.dims.begin() + axis});
  const Dim columns = product({x.dims.begin() + axis, x.dims.end()});
  const ValueId flat = node.add(make_op("Reshape", {{"dims", texts({rows, columns})}}), {node.input(0)});
  const ValueId result = node.add(make_op(node.op_type(), {{"axis", std::int64_t{1}}}), {flat});
  node.set_output(0, node.add(make_op("Reshape", {{"dims", texts(x.dims)}}), {result}));
}

}  // namespace

void Softmax::infer(InferContext& context) const { infer_same(context, axis_); }

void Softmax::evaluate(EvalContext& context) const {
  transform_lines(context, axis_, [](double* line, std::int64_t stride, std::int64_t length) {
    const double m = line_max(line, stride, length);
    double sum = 0;
    for (std::int64_t i = 0; i < length; ++i) sum += line[i * stride] = std::exp(line[i * stride] - m);
    for (std::int64_t i = 0; i < length; ++i) line[i * stride] /= sum;
  });
}

double Softmax::flops(std::span<const TensorType>, std::span<const TensorType> outputs) const {
  if (outputs.empty() || !outputs[0].is_static()) return 0;
  double flops = 4;  // subtract, exponential, add, divide
  for (const Dim& dim : outputs[0].dims) flops *= static_cast<double>(dim.constant());
  return flops;
}

const OpDef kHardmaxDef{"Hardmax", make<Hardmax>, import_softmax};
const OpDef kLogSoftmaxDef{"LogSoftmax", make<LogSoftmax>, import_softmax};
const OpDef kSoftmaxDef{"Softmax", make<Softmax>, import_softmax};

}  // namespace tenfold
