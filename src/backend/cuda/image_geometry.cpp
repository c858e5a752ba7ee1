#include "backend/cuda/image_geometry.hpp"

namespace tenfold::cuda {

Refusal refuses_window(const Window& window, std::span<const std::int64_t> kernel, ImageLayout layout,
                       const TensorType& x, const TensorType& y) {
  constexpr std::int64_t kMostPositions = 1024, kLargest = 1 << 20;
  if (layout != ImageLayout::nhwc) return "the layout is nchw";
  const int axes = window.spatial_rank();
  if (axes > 2) return "three spatial axes";
  if (x.rank() != axes + 2 || y.rank() != axes + 2 || static_cast<int>(kernel.size()) != axes)
    return "the ranks of image and window differ";
  std::int64_t positions = 1;
  for (const std::int64_t size : kernel) {
    if (size < 1 || size > kMostPositions) return fmt::format("a window of {} positions along an axis", size);
    positions *= size;
  }
  if (positions > kMostPositions)
    return fmt::format("the window has {} positions, at most {}", positions, kMostPositions);
  for (int a = 0; a < axes; ++a) {
    const auto i = static_cast<std::size_t>(a);
    if (window.strides[i] > kLargest || window.dilations[i] > kLargest) return "stride or dilation is too large";
  }
  return std::nullopt;
}

WindowSize window_size(const Window& window, std::span<const std::int64_t> kernel) {
  WindowSize size;
  const std::size_t axes = kernel.size();
  for (std::size_t a = 0; a < axes; ++a) {
    const std::size_t to = a + 2 - axes;
    size.kernel[to] = kernel[a];
    size.stride[to] = window.strides[a];
    size.dilation[to] = window.dilations[a];
  }
  return size;
}

ImageArguments image_arguments(const Window& window, std::span<const std::int64_t> kernel, const TensorView& x,
                               const TensorView& y) {
  ImageArguments arguments;
  arguments.x = x.data;
  arguments.y = y.data;
  arguments.x_pitch = x.pitch;
  arguments.y_pitch = y.pitch;
  arguments.channels = static_cast<std::int32_t>(y.dims.back());
  const int axes = window.spatial_rank();
  for (int a = 0; a < axes; ++a) {
    const auto [begin, end] = window.padding(a, x.dim(1 + a), kernel[static_cast<std::size_t>(a)]);
    const bool is_width = a == axes - 1;
    (is_width ? arguments.in_width : arguments.in_height) = static_cast<std::int32_t>(x.dim(1 + a));
    (is_width ? arguments.out_width : arguments.out_height) = static_cast<std::int32_t>(y.dim(1 + a));
    (is_width ? arguments.pad_left : arguments.pad_top) = static_cast<std::int32_t>(begin);
    (is_width ? arguments.pad_right : arguments.pad_bottom) = static_cast<std::int32_t>(end);
  }
  return arguments;
}

unsigned image_blocks(std::int64_t threads, int block) {
  constexpr std::int64_t kMost = (std::int64_t{1} << 31) - 1;
  require(threads <= kMost, Code::unsupported, "an image of {} parts is worked on, at most {}; split the batch",
          threads, kMost);
  return static_cast<unsigned>(divide_up(threads, block));
}

std::string image_prelude(const WindowSize& size) {
  return fmt::format(R"(
struct Image {{
  const void* x;
  void* y;
  long long x_pitch, y_pitch;
  int in_height, in_width, out_height, out_width, pad_top, pad_left, pad_bottom, pad_right, channels, columns;
  long long threads;
}};
constexpr int kKernelY = {}, kKernelX = {}, kStrideY = {}, kStrideX = {}, kDilationY = {}, kDilationX = {};
)",
                     size.kernel[0], size.kernel[1], size.stride[0], size.stride[1], size.dilation[0],
                     size.dilation[1]);
}

}  // namespace tenfold::cuda
