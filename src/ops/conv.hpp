// Convolution and transposed convolution over 1 to 3 spatial axes.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "ops/pointwise.hpp"
#include "ops/window.hpp"

namespace tenfold {

/// Where a convolution's image and its result keep their channels.
struct ConvLayouts {
  ImageLayout input = ImageLayout::nchw, output = ImageLayout::nchw;
};

/// Inputs: x, weights [O, C/group, kernel...], optional bias [O], then the epilogue's inputs.
/// x is [N, C, spatial...] or, with layout nhwc, [N, spatial..., C]; so is the output. With `planar_input` x is
/// [N, C, spatial...] all the same. Weights never change their order. Of 8-bit integers `zero_point` is subtracted, so
/// padding means it: sum of (x - zero_point) * weights. In place of a bias these may have a computed zero point, one
/// number of x's type.
class Conv final : public Op {
 public:
  struct Spec {
    Window window;
    std::int64_t group = 1;
    ImageLayout layout = ImageLayout::nchw;
    Epilogue epilogue;
    std::int64_t zero_point = 0;  ///< of an input of 8-bit integers
    bool planar_input = false;    ///< only with layout nhwc
    ConvLayouts layouts() const { return {planar_input ? ImageLayout::nchw : layout, layout}; }
  };
  static constexpr int kFirstEpilogueInput = 3;

  explicit Conv(Spec spec) : spec_(std::move(spec)) {}
  /// The inverse of attributes(). Throws Error(invalid_model).
  static Spec spec_from(const Attributes& attributes);
  const Spec& spec() const { return spec_; }
  const Window& window() const { return spec_.window; }
  std::int64_t group() const { return spec_.group; }
  ImageLayout layout() const { return spec_.layout; }
  bool has_planar_input() const { return spec_.planar_input; }
  const Epilogue& epilogue() const { return spec_.epilogue; }
  std::int64_t zero_point() const { return spec_.zero_point; }
  int spatial_rank() const { return spec_.window.spatial_rank(); }
  /// Is input 2, of type `second`, a zero point and no bias?
  static bool is_zero_point(DType x, DType second) {
    const auto is_byte = [](DType dtype) { return dtype == DType::int8 || dtype == DType::uint8; };
    return is_byte(x) && is_byte(second);
  }

  std::string_view type() const override { return "Conv"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override;

 private:
  Spec spec_;
};

/// Inputs: x, weights [C, O/group, kernel...], optional bias [O], then the epilogue's inputs.
///   output = (input - 1) * stride + output_padding + effective kernel - pad_begin - pad_end
class ConvTranspose final : public Op {
 public:
  struct Spec {
    Window window;                             ///< auto_pad is notset: import resolves it
    std::vector<std::int64_t> output_padding;  ///< one per spatial axis
    std::int64_t group = 1;
    ImageLayout layout = ImageLayout::nchw;
    Epilogue epilogue;
  };
  static constexpr int kFirstEpilogueInput = 3;

  explicit ConvTranspose(Spec spec) : spec_(std::move(spec)) {}
  const Spec& spec() const { return spec_; }
  const Window& window() const { return spec_.window; }
  std::int64_t group() const { return spec_.group; }
  ImageLayout layout() const { return spec_.layout; }
  const Epilogue& epilogue() const { return spec_.epilogue; }
  int spatial_rank() const { return spec_.window.spatial_rank(); }

  std::string_view type() const override { return "ConvTranspose"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override;

 private:
  Spec spec_;
};

/// The plain convolution of planar doubles that the references of Conv, QLinearConv and ConvInteger share.
/// x is [N, C, spatial], weights [O, C/group, kernel], the result [N, O, spatial]; `padding` is the value outside x.
struct PlainConv {
  std::int64_t batch = 0, in_channels = 0, out_channels = 0, group = 1;
  std::array<std::int64_t, 3> input{1, 1, 1}, kernel{1, 1, 1}, output{1, 1, 1};
  std::array<std::int64_t, 3> stride{1, 1, 1}, dilation{1, 1, 1}, pad_begin{0, 0, 0};
  std::vector<double> run(std::span<const double> x, std::span<const double> weights,
                          std::span<const double> bias) const;
};
/// Fills it from the shapes of x, weights and output.
PlainConv plain_conv(const Window& window, ConvLayouts layouts, std::int64_t group, const TensorView& x,
                     const TensorView& weights, const TensorView& output);
/// The shape rule shared by the convolutions: output dims from x and weights. Checks ranks and channels.
std::vector<Dim> conv_output_dims(const Window& window, ConvLayouts layouts, std::int64_t group, const TensorType& x,
                                  const TensorType& weights);

}  // namespace tenfold
