// Matrix product with NumPy's broadcasting of the leading axes.
#pragma once

#include <string_view>

#include "ops/pointwise.hpp"

namespace tenfold {

/// Inputs: a [..., M, K], b [..., K, N], then the epilogue's inputs. With trans_a / trans_b the last two axes of that
/// input are stored swapped. An input of rank 1 is a row (a) or a column (b), which the result lacks.
/// Integer products wrap; with a type for the epilogue's output (8-bit operands only) the sums are exact, and
/// `zero_point` is subtracted from a.
class MatMul final : public Op {
 public:
  static constexpr int kFirstEpilogueInput = 2;

  explicit MatMul(bool trans_a = false, bool trans_b = false, Epilogue epilogue = {}, std::int64_t zero_point = 0)
      : trans_a_(trans_a), trans_b_(trans_b), epilogue_(std::move(epilogue)), zero_point_(zero_point) {}
  bool trans_a() const { return trans_a_; }
  bool trans_b() const { return trans_b_; }
  const Epilogue& epilogue() const { return epilogue_; }
  std::int64_t zero_point() const { return zero_point_; }

  std::string_view type() const override { return "MatMul"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override;

 private:
  bool trans_a_;
  bool trans_b_;
  Epilogue epilogue_;
  std::int64_t zero_point_;
};

/// Output dims of a product of these two, checked. Shared by the quantised products.
std::vector<Dim> matmul_output_dims(const std::vector<Dim>& a, const std::vector<Dim>& b, bool trans_a = false,
                                    bool trans_b = false);

/// How a product of concrete shapes walks through its operands; one entry per matrix of the broadcast batch.
struct MatMulPlan {
  std::int64_t m = 1, n = 1, k = 1;
  std::vector<std::int64_t> a_offsets, b_offsets;  ///< first element of each matrix
};
MatMulPlan plan_matmul(std::span<const std::int64_t> a, std::span<const std::int64_t> b, bool trans_a, bool trans_b);

/// The product of all matrices, row-major. T is double for floats and std::uint64_t for integers (which wrap).
template <typename T>
std::vector<T> multiply(const MatMulPlan& plan, std::span<const T> a, std::span<const T> b, bool trans_a,
                        bool trans_b) {
  std::vector<T> result(plan.a_offsets.size() * static_cast<std::size_t>(plan.m * plan.n));
  T* row = result.data();
  for (std::size_t matrix = 0; matrix < plan.a_offsets.size(); ++matrix) {
    const T* left = a.data() + plan.a_offsets[matrix];
    const T* right = b.data() + plan.b_offsets[matrix];
    for (std::int64_t i = 0; i < plan.m; ++i, row += plan.n) {
      if (trans_b) {
        for (std::int64_t j = 0; j < plan.n; ++j) {
          T sum = 0;
          for (std::int64_t p = 0; p < plan.k; ++p) {
            sum += (trans_a ? left[p * plan.m + i] : left[i * plan.k + p]) * right[j * plan.k + p];
          }
          row[j] = sum;
        }
      } else {
        for (std::int64_t p = 0; p < plan.k; ++p) {
          const T factor = trans_a ? left[p * plan.m + i] : left[i * plan.k + p];
          for (std::int64_t j = 0; j < plan.n; ++j) row[j] += factor * right[p * plan.n + j];
        }
      }
    }
  }
  return result;
}

}  // namespace tenfold
