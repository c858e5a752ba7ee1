// Poolings over 1 to 3 spatial axes: maximum, average and p-norm of the elements under a window.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "ops/window.hpp"

namespace tenfold {

/// What the poolings have in common.
struct PoolSpec {
  std::vector<std::int64_t> kernel;  ///< one per spatial axis
  Window window;
  ImageLayout layout = ImageLayout::nchw;
};

/// Outputs: y, and optionally the positions of the maxima: int64 indices into the whole input as if its layout were
/// nchw. Padding never wins.
class MaxPool final : public Op {
 public:
  MaxPool(PoolSpec spec, bool column_major_indices) : spec_(std::move(spec)), column_major_(column_major_indices) {}
  const PoolSpec& spec() const { return spec_; }
  const Window& window() const { return spec_.window; }
  const std::vector<std::int64_t>& kernel() const { return spec_.kernel; }
  ImageLayout layout() const { return spec_.layout; }
  std::string_view type() const override { return "MaxPool"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override;

 private:
  PoolSpec spec_;
  bool column_major_;  // ONNX storage_order 1: indices count the spatial axes in reverse order
};

/// Mean of the elements under the window. Divides by the elements inside the input or, with count_include_pad, by
/// those inside the padded input.
class AveragePool final : public Op {
 public:
  AveragePool(PoolSpec spec, bool count_include_pad) : spec_(std::move(spec)), include_pad_(count_include_pad) {}
  const PoolSpec& spec() const { return spec_; }
  const Window& window() const { return spec_.window; }
  const std::vector<std::int64_t>& kernel() const { return spec_.kernel; }
  ImageLayout layout() const { return spec_.layout; }
  bool count_include_pad() const { return include_pad_; }
  std::string_view type() const override { return "AveragePool"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override;

 private:
  PoolSpec spec_;
  bool include_pad_;
};

}  // namespace tenfold
