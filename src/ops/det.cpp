// Determinants of square matrices (the last two axes), by elimination with partial pivoting in double.
// Source: ONNX operator sets 11 and 22, Det.
#include <cmath>

#include "ops/elementwise.hpp"

namespace tenfold {
namespace {

/// Destroys `m`, an n x n matrix.
double determinant(double* m, std::int64_t n) {
  double result = 1;
  for (std::int64_t k = 0; k < n; ++k) {
    std::int64_t pivot = k;
    for (std::int64_t r = k + 1; r < n; ++r) {
      if (std::fabs(m[r * n + k]) > std::fabs(m[pivot * n + k])) pivot = r;
    }
    if (m[pivot * n + k] == 0) return 0;
    if (pivot != k) {
      std::swap_ranges(m + pivot * n, m + pivot * n + n, m + k * n);
      result = -result;
    }
    result *= m[k * n + k];
    for (std::int64_t r = k + 1; r < n; ++r) {
      const double factor = m[r * n + k] / m[k * n + k];
      for (std::int64_t c = k + 1; c < n; ++c) m[r * n + c] -= factor * m[k * n + c];
    }
  }
  return result;
}

class Det final : public Op {
 public:
  std::string_view type() const override { return "Det"; }
  Attributes attributes() const override { return {}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 1);
    check_types(context, 0, Types::floats);
    TensorType y = context.input(0);
    require(y.rank() >= 2 && !surely_differ(y.dims.back(), y.dims[y.dims.size() - 2]), Code::invalid_model,
            "the last two axes must form square matrices, got {}", to_string(y));
    y.dims.resize(y.dims.size() - 2);
    context.set_output(0, std::move(y));
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const std::int64_t n = x.dims.back();
    require(x.dim(x.rank() - 2) == n, Code::invalid_argument, "matrices of {} x {} are not square", x.dim(x.rank() - 2),
            n);
    check_output(context, 0, x.dims.first(x.dims.size() - 2));
    std::vector<double> elements = load_doubles(x);
    std::vector<double> results(static_cast<std::size_t>(context.output(0).num_elements()));
    for (std::size_t i = 0; i < results.size(); ++i) {
      results[i] = determinant(elements.data() + static_cast<std::int64_t>(i) * n * n, n);
    }
    store_doubles(results, context.output(0));
  }
};

OpPtr make_det(const Attributes&) { return std::make_shared<const Det>(); }

}  // namespace

const OpDef kDetDef{"Det", make_det, import_plain};

}  // namespace tenfold
