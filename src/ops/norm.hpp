// Normalisations: subtract a mean, divide by a standard deviation, scale and shift.
#pragma once

#include <cstdint>
#include <string_view>

#include "ops/pointwise.hpp"
#include "ops/window.hpp"

namespace tenfold {

/// Inputs: x [N, C, ...], scale [C], bias [C], mean [C], variance [C].
///   y = (x - mean) / sqrt(variance + epsilon) * scale + bias
class BatchNormalization final : public Op {
 public:
  BatchNormalization(double epsilon, ImageLayout layout) : epsilon_(epsilon), layout_(layout) {}
  double epsilon() const { return epsilon_; }
  ImageLayout layout() const { return layout_; }
  std::string_view type() const override { return "BatchNormalization"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;

 private:
  double epsilon_;
  ImageLayout layout_;
};

/// Inputs: x [N, C, ...], scale [C], bias [C]. Mean and variance are those of each image and channel.
class InstanceNormalization final : public Op {
 public:
  InstanceNormalization(double epsilon, ImageLayout layout) : epsilon_(epsilon), layout_(layout) {}
  double epsilon() const { return epsilon_; }
  ImageLayout layout() const { return layout_; }
  std::string_view type() const override { return "InstanceNormalization"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;

 private:
  double epsilon_;
  ImageLayout layout_;
};

/// Inputs: x [N, C, ...], scale [C], bias [C], then the epilogue's inputs. Mean and variance are those of each image
/// and group of channels.
class GroupNormalization final : public Op {
 public:
  static constexpr int kFirstEpilogueInput = 3;

  GroupNormalization(std::int64_t num_groups, double epsilon, ImageLayout layout, Epilogue epilogue = {})
      : num_groups_(num_groups), epsilon_(epsilon), layout_(layout), epilogue_(std::move(epilogue)) {}
  const Epilogue& epilogue() const { return epilogue_; }
  std::int64_t num_groups() const { return num_groups_; }
  double epsilon() const { return epsilon_; }
  ImageLayout layout() const { return layout_; }
  std::string_view type() const override { return "GroupNormalization"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;

 private:
  std::int64_t num_groups_;
  double epsilon_;
  ImageLayout layout_;
  Epilogue epilogue_;
};

/// Inputs: x, scale, optional bias; scale and bias broadcast to x. Mean and variance are taken over the axes from
/// `axis` (which may be negative) on. Outputs: y, and optionally the means and the inverse standard deviations.
class LayerNormalization final : public Op {
 public:
  LayerNormalization(std::int64_t axis, double epsilon) : axis_(axis), epsilon_(epsilon) {}
  std::int64_t axis() const { return axis_; }
  double epsilon() const { return epsilon_; }
  std::string_view type() const override { return "LayerNormalization"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;

 private:
  std::int64_t axis_;
  double epsilon_;
};

/// Inputs: x, scale.  y = x / sqrt(mean(x^2) + epsilon) * scale, the mean over the axes from `axis` on.
class RMSNormalization final : public Op {
 public:
  RMSNormalization(std::int64_t axis, double epsilon) : axis_(axis), epsilon_(epsilon) {}
  std::int64_t axis() const { return axis_; }
  double epsilon() const { return epsilon_; }
  std::string_view type() const override { return "RMSNormalization"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;

 private:
  std::int64_t axis_;
  double epsilon_;
};

}  // namespace tenfold
