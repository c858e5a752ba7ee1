// Adding elements before and after each axis, or removing them where the padding is negative.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "graph/graph.hpp"

namespace tenfold {

enum class PadMode { constant, reflect, edge, wrap };

/// Attributes: mode; pads (before each axis, then after each axis) and value, when both are known at build time.
/// Without `pads` the inputs are x, pads, optional value, optional axes, as in ONNX.
class Pad final : public Op {
 public:
  Pad(PadMode mode, std::optional<std::vector<std::int64_t>> pads, double value)
      : mode_(mode), pads_(std::move(pads)), value_(value) {}
  PadMode mode() const { return mode_; }
  /// nullopt: they are an input, and so is the value.
  const std::optional<std::vector<std::int64_t>>& pads() const { return pads_; }
  double value() const { return value_; }
  std::string_view type() const override { return "Pad"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  std::vector<int> shape_inputs() const override { return pads_ ? std::vector<int>{} : std::vector<int>{1, 3}; }

 private:
  PadMode mode_;
  std::optional<std::vector<std::int64_t>> pads_;
  double value_;
};

}  // namespace tenfold
