// Reductions over axes: sums, means, norms, extremes.
#pragma once

#include <vector>

#include "graph/graph.hpp"

namespace tenfold {

enum class ReduceKind { l1, l2, log_sum, log_sum_exp, max, mean, min, prod, sum, sum_square };

/// Attributes: axes (empty: all; import gives them all, sorted and from the front), keepdims (0 or 1).
class Reduce final : public Op {
 public:
  Reduce(ReduceKind kind, std::vector<std::int64_t> axes, bool keep_dims)
      : kind_(kind), axes_(std::move(axes)), keep_dims_(keep_dims) {}
  ReduceKind kind() const { return kind_; }
  const std::vector<std::int64_t>& axes() const { return axes_; }
  bool keep_dims() const { return keep_dims_; }
  /// For each axis of an input of this rank: is it reduced? Throws Error(invalid_model) for axes outside.
  std::vector<bool> reduced_axes(int rank) const;
  std::string_view type() const override;
  Attributes attributes() const override { return {{"axes", axes_}, {"keepdims", std::int64_t{keep_dims_}}}; }
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override;

 private:
  ReduceKind kind_;
  std::vector<std::int64_t> axes_;
  bool keep_dims_;
};

}  // namespace tenfold
