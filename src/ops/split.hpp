// Cutting a tensor into consecutive parts along an axis.
#pragma once

#include <optional>
#include <vector>

#include "graph/graph.hpp"

namespace tenfold {

/// Attributes: axis; optional sizes, of each part along the axis. Without `sizes` they are the second input, and
/// without one all parts but the last have ceil(size / parts) elements.
class Split final : public Op {
 public:
  Split(std::int64_t axis, std::optional<std::vector<std::int64_t>> sizes) : axis_(axis), sizes_(std::move(sizes)) {}
  std::int64_t axis() const { return axis_; }
  const std::optional<std::vector<std::int64_t>>& sizes() const { return sizes_; }
  std::string_view type() const override { return "Split"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  std::vector<int> shape_inputs() const override { return sizes_ ? std::vector<int>{} : std::vector<int>{1}; }

 private:
  std::int64_t axis_;
  std::optional<std::vector<std::int64_t>> sizes_;
};

}  // namespace tenfold
