// Softmax along one axis.
#pragma once

#include <cstdint>
#include <string_view>

#include "graph/op.hpp"

namespace tenfold {

class Softmax final : public Op {
 public:
  explicit Softmax(std::int64_t axis) : axis_(axis) {}
  /// May be negative: counted from the end.
  std::int64_t axis() const { return axis_; }
  std::string_view type() const override { return "Softmax"; }
  Attributes attributes() const override { return {{"axis", axis_}}; }
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override;

 private:
  std::int64_t axis_;
};

}  // namespace tenfold
