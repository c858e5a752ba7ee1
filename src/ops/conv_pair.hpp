// Two 1x1 convolutions of which the second reads what the first has made, and both results are wanted.
#pragma once

#include <array>
#include <string_view>

#include "ops/conv.hpp"

namespace tenfold {

/// Outputs: y = first(x), z = second(y). Inputs: x, then weights and optional bias of each, then the inputs of the
/// first one's epilogue, then those of the second one's. Both are 2-D, channels-last, of one group, with stride 1 and
/// no padding: every pixel of z needs one pixel of y.
class ConvPair final : public Op {
 public:
  /// Throws Error(invalid_model) for convolutions that are no pair.
  ConvPair(Conv::Spec first, Conv::Spec second);

  const Conv::Spec& spec(int index) const { return specs_[static_cast<std::size_t>(index)]; }
  static constexpr int weights_input(int index) { return 1 + 2 * index; }
  static constexpr int bias_input(int index) { return 2 + 2 * index; }
  int first_epilogue_input(int index) const { return 5 + (index == 0 ? 0 : spec(0).epilogue.num_extra_inputs()); }

  std::string_view type() const override { return "ConvPair"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override;

 private:
  std::array<Conv::Spec, 2> specs_;
};

}  // namespace tenfold
