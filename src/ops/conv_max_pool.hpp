// A convolution whose result only a maximum pooling reads.
#pragma once

#include <string_view>

#include "ops/conv.hpp"
#include "ops/pool.hpp"

namespace tenfold {

/// How the convolution's image is made from the operator's first input.
struct ImageSource {
  bool is_planar = false;         ///< [N, C, H, W], to be transposed
  PointwiseProgram program{};     ///< of each element, if not empty
  DType type = DType::undefined;  ///< of the program's result
};

/// y = MaxPool(Conv(x)). Inputs: those of the convolution, x as `source` says. Both are 2-D and channels-last.
class ConvMaxPool final : public Op {
 public:
  /// Throws Error(invalid_model) for other layouts.
  ConvMaxPool(Conv::Spec conv, PoolSpec pool, ImageSource source = {});

  const ImageSource& source() const { return source_; }
  /// The convolution's image, channels last.
  TensorType image_type(const TensorType& x) const;
  const Conv& conv() const { return conv_; }
  const PoolSpec& pool() const { return pool_.spec(); }

  std::string_view type() const override { return "ConvMaxPool"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override;

 private:
  Conv conv_;
  MaxPool pool_;
  ImageSource source_;
};

}  // namespace tenfold
