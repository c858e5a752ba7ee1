// Windows over images that are stored channels last: sizes for a launch, the same for poolings and depthwise
// convolutions. One thread makes `vector` neighbouring channels of one or more pixels.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "backend/cuda/cuda_tactic.hpp"
#include "backend/cuda/tactic_tools.hpp"
#include "ops/window.hpp"

namespace tenfold::cuda {

/// As the kernels see it (`image_prelude` declares the same). Sizes of one axis are 1 where an image has only one.
struct ImageArguments {
  const void* x = nullptr;
  void* y = nullptr;
  std::int64_t x_pitch = 0, y_pitch = 0;  ///< elements from one pixel to the next
  std::int32_t in_height = 1, in_width = 1, out_height = 1, out_width = 1;
  std::int32_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  std::int32_t channels = 0;
  std::int32_t columns = 0;  ///< threads across the channels
  std::int64_t threads = 0;  ///< in all
};

/// Kernel, stride and dilation of both axes, 1 where there is only one.
struct WindowSize {
  std::int64_t kernel[2] = {1, 1}, stride[2] = {1, 1}, dilation[2] = {1, 1};
};
/// One or two spatial axes, a window of at most 1024 positions; nullopt: it fits.
Refusal refuses_window(const Window& window, std::span<const std::int64_t> kernel, ImageLayout layout,
                       const TensorType& x, const TensorType& y);
WindowSize window_size(const Window& window, std::span<const std::int64_t> kernel);
/// Fills everything but `columns` and `threads`.
ImageArguments image_arguments(const Window& window, std::span<const std::int64_t> kernel, const TensorView& x,
                               const TensorView& y);
/// The blocks of a launch. Throws Error(unsupported) for 2^31 threads or more, whose places the kernels do not reach.
unsigned image_blocks(std::int64_t threads, int block);
/// Text: struct Image, and the window's sizes as constants.
std::string image_prelude(const WindowSize& size);

}  // namespace tenfold::cuda
