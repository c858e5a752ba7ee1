// Sliding windows: what Conv, ConvTranspose and the poolings share.
//
//   output = floor((input + pad_begin + pad_end - effective kernel) / stride) + 1,
//   effective kernel = (kernel - 1) * dilation + 1
// Source: ONNX operator set 22, Conv and MaxPool.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "graph/attributes.hpp"
#include "graph/tensor.hpp"
#include "ops/registry.hpp"

namespace tenfold {

/// Where a tensor keeps its channels: [N, C, spatial...] or [N, spatial..., C].
enum class ImageLayout : std::uint8_t { nchw = 0, nhwc = 1 };
std::string_view to_string(ImageLayout layout);
/// Attribute "layout"; nchw when missing.
ImageLayout layout_from(const Attributes& attributes);
inline int channel_axis(ImageLayout layout, int rank) { return layout == ImageLayout::nchw ? 1 : rank - 1; }
inline int first_spatial_axis(ImageLayout layout) { return layout == ImageLayout::nchw ? 2 : 1; }

/// Padding that depends on the input's size, as ONNX names it.
enum class AutoPad : std::uint8_t { notset = 0, same_upper = 1, same_lower = 2, valid = 3 };

struct Window {
  std::vector<std::int64_t> strides;  ///< one per spatial axis
  std::vector<std::int64_t> pads;     ///< begins, then ends; zeros when auto_pad is not `notset`
  std::vector<std::int64_t> dilations;
  AutoPad auto_pad = AutoPad::notset;
  bool ceil_mode = false;  ///< poolings: a last window that starts inside the input may hang over its end

  int spatial_rank() const { return static_cast<int>(strides.size()); }
  bool is_unit_stride() const;
  bool has_padding() const;

  /// Attributes strides (required; its length is the number of spatial axes, 1 to 3), pads, dilations, auto_pad,
  /// ceil_mode. Throws Error(invalid_model) for lists of another length and for numbers outside the sensible range.
  static Window from(const Attributes& attributes);
  void store(Attributes& attributes) const;

  /// Size of the output along spatial axis `axis`.
  Dim output_size(int axis, const Dim& input, const Dim& kernel) const;
  /// Padding before and after the input along `axis` for sizes that are known.
  std::array<std::int64_t, 2> padding(int axis, std::int64_t input, std::int64_t kernel) const;
};

/// Reads the window of an ONNX node with the defaults of its spatial rank, and turns auto_pad into pads where the sizes
/// allow it. `spatial` and `kernel` are the sizes of the input and of the kernel.
Window import_window(const ImportNode& node, std::span<const Dim> spatial, std::span<const Dim> kernel);

/// Shapes of an operator with windows, filled up to three spatial axes (sizes of 1), so that references need one loop
/// nest only.
struct Volume {
  std::array<std::int64_t, 3> size{1, 1, 1};
  std::int64_t count() const { return size[0] * size[1] * size[2]; }
};
Volume spatial_volume(const TensorView& view, ImageLayout layout);
/// The image as doubles in the order [N, C, spatial], whatever its layout.
std::vector<double> load_image(const TensorView& view, ImageLayout layout);
/// The inverse: stores doubles in the order [N, C, spatial].
void store_image(std::span<const double> values, const TensorView& view, ImageLayout layout);
/// Planar values [N, C, spatial] in the order of the image `view`.
std::vector<double> in_image_order(std::vector<double> values, const TensorView& view, ImageLayout layout);
/// One entry per axis of three, from the last spatial axis backwards; missing axes get `otherwise`.
std::array<std::int64_t, 3> fill3(std::span<const std::int64_t> values, std::int64_t otherwise);

}  // namespace tenfold
