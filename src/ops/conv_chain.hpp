// Convolutions that follow each other and are computed together, so that what lies between them need not be stored.
#pragma once

#include <string_view>
#include <vector>

#include "ops/conv.hpp"

namespace tenfold {

/// Inputs: x, then weights and optional bias of each stage, then the inputs of the last stage's epilogue. All
/// convolutions are 2-D and channels-last, but the first one may read planes; each reads the result of the one before
/// it, and only the last one's epilogue has inputs.
class ConvChain final : public Op {
 public:
  static constexpr int kMaxStages = 3;
  /// Throws Error(invalid_model) for stages that are none.
  explicit ConvChain(std::vector<Conv::Spec> stages);

  const std::vector<Conv::Spec>& stages() const { return stages_; }
  static constexpr int weights_input(int stage) { return 1 + 2 * stage; }
  static constexpr int bias_input(int stage) { return 2 + 2 * stage; }
  int first_epilogue_input() const { return 1 + 2 * static_cast<int>(stages_.size()); }

  std::string_view type() const override { return "ConvChain"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override;

 private:
  std::vector<Conv::Spec> stages_;
};

}  // namespace tenfold
