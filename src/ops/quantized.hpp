// Quantised operators that passes and kernels look into.
#pragma once

#include <cstdint>
#include <string_view>

#include "ops/pointwise.hpp"
#include "ops/window.hpp"

namespace tenfold {

/// What DynamicQuantizeLinear makes of a range that holds 0: bytes from 0 to 255 cover it.
struct DynamicScale {
  float scale = 1;
  std::uint8_t zero_point = 0;
};
DynamicScale dynamic_scale(float low, float high);

/// saturate(round(value / scale) + zero_point) for an integer type; the quotient is rounded to float first.
std::int64_t quantize(float value, float scale, std::int64_t zero_point, DType dtype);

/// Inputs: x, scale, optional zero point. `axis` counts only where the scale has more than one element.
class QuantizeLinear final : public Op {
 public:
  QuantizeLinear(std::int64_t axis, std::int64_t block_size, DType output_dtype, bool saturates = true)
      : axis_(axis), block_size_(block_size), output_dtype_(output_dtype), saturates_(saturates) {}
  std::int64_t axis() const { return axis_; }
  std::int64_t block_size() const { return block_size_; }  ///< 0: no blocks
  bool saturates() const { return saturates_; }            ///< false: float8 beyond its range is NaN
  std::string_view type() const override { return "QuantizeLinear"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;

 private:
  std::int64_t axis_;
  std::int64_t block_size_;
  DType output_dtype_;  // undefined: the zero point's type, else uint8
  bool saturates_;
};

/// Inputs: q, scale, optional zero point.
class DequantizeLinear final : public Op {
 public:
  DequantizeLinear(std::int64_t axis, std::int64_t block_size, DType output_dtype)
      : axis_(axis), block_size_(block_size), output_dtype_(output_dtype) {}
  std::int64_t axis() const { return axis_; }
  std::int64_t block_size() const { return block_size_; }
  std::string_view type() const override { return "DequantizeLinear"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;

 private:
  std::int64_t axis_;
  std::int64_t block_size_;
  DType output_dtype_;  // undefined: the scale's type
};

/// Inputs: x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, optional bias (int32).
/// w_scale and w_zero_point are one number or one per output channel.
class QLinearConv final : public Op {
 public:
  QLinearConv(Window window, std::int64_t group) : window_(std::move(window)), group_(group) {}
  const Window& window() const { return window_; }
  std::int64_t group() const { return group_; }
  std::string_view type() const override { return "QLinearConv"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;

 private:
  Window window_;
  std::int64_t group_;
};

/// Inputs: a, b, optional a_zero_point, optional b_zero_point, then the epilogue's inputs. The sums are exact; they are
/// the output, int32, unless the epilogue has a type for it.
class MatMulInteger final : public Op {
 public:
  static constexpr int kFirstEpilogueInput = 4;

  explicit MatMulInteger(Epilogue epilogue = {}) : epilogue_(std::move(epilogue)) {}
  const Epilogue& epilogue() const { return epilogue_; }
  std::string_view type() const override { return "MatMulInteger"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override;

 private:
  Epilogue epilogue_;
};

/// Inputs: x, w, optional x_zero_point, optional w_zero_point. Output int32, exact.
class ConvInteger final : public Op {
 public:
  ConvInteger(Window window, std::int64_t group) : window_(std::move(window)), group_(group) {}
  const Window& window() const { return window_; }
  std::int64_t group() const { return group_; }
  std::string_view type() const override { return "ConvInteger"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override;

 private:
  Window window_;
  std::int64_t group_;
};

/// Of the first operand of a Conv or MatMul of 8-bit integers: a number of its type; 0 for operands of other types.
void check_zero_point(std::int64_t zero_point, DType dtype);

}  // namespace tenfold
