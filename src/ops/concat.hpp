// Joining tensors along an axis.
#pragma once

#include "graph/graph.hpp"

namespace tenfold {

/// Attribute axis; negative counts from the end (import makes it non-negative). One input or more.
class Concat final : public Op {
 public:
  explicit Concat(std::int64_t axis) : axis_(axis) {}
  std::int64_t axis() const { return axis_; }
  std::string_view type() const override { return "Concat"; }
  Attributes attributes() const override { return {{"axis", axis_}}; }
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;

 private:
  std::int64_t axis_;
};

}  // namespace tenfold
