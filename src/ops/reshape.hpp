// The same elements in the same order under another shape: Reshape, Flatten, Squeeze and Unsqueeze.
#pragma once

#include <optional>
#include <vector>

#include "graph/graph.hpp"

namespace tenfold {

/// Attributes: either `dims`, the resolved shape as expressions, with input x; or `allowzero`, with inputs x and shape
/// (entries: -1 is what is left over, 0 copies the input's dimension unless allowzero).
class Reshape final : public Op {
 public:
  explicit Reshape(std::vector<Dim> dims) : dims_(std::move(dims)) {}
  explicit Reshape(bool allowzero) : allowzero_(allowzero) {}
  /// nullopt: the shape is the second input.
  const std::optional<std::vector<Dim>>& dims() const { return dims_; }
  std::string_view type() const override { return "Reshape"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  std::vector<int> shape_inputs() const override { return dims_ ? std::vector<int>{} : std::vector<int>{1}; }

 private:
  std::optional<std::vector<Dim>> dims_;
  bool allowzero_ = false;
};

/// The shape that ONNX's Reshape gives for these entries. Throws Error(invalid_model) when the elements cannot fit.
std::vector<Dim> reshaped_dims(const std::vector<Dim>& x, const std::vector<Dim>& entries, bool allowzero);

}  // namespace tenfold
