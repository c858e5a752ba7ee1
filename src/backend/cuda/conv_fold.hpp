// "Space to depth" in front of convolutions of images with few channels: blocks of stride_h x stride_w pixels, padded
// to 16 bytes, over which the convolution has stride 1 and ceil(kernel / stride) positions along each axis.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "backend/cuda/conv_filter.hpp"
#include "backend/cuda/image_geometry.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "backend/cuda/tactic_tools.hpp"

namespace tenfold::cuda {

inline constexpr std::string_view kFoldEntry = "tenfold_fold";

TENFOLD_SHARED_STRUCT(
    kFoldArgumentsText, struct FoldArguments {
      const void* image;
      void* blocks;
      long long pitch;
      long long count;
      int h, w, rows, columns, pad_h, pad_w;
    });

/// One thread makes one block from pixels of `Pixel`, channels last or, kPlanarImage, in planes. Its 16-byte parts
/// follow each other; or, planar, each part of a row of blocks does.
inline constexpr std::string_view kFoldText = R"(
extern "C" __global__ void __launch_bounds__(256) tenfold_fold(const __grid_constant__ FoldArguments args) {
  wait_for_predecessor();
  const u32 index = blockIdx.x * 256 + threadIdx.x;  // the host launches fewer than 2^31 threads
  if (index >= args.count) return;
  const int column = index % args.columns;
  const u32 rest = index / args.columns;
  const int row = rest % args.rows;
  const long long image = rest / args.rows;
  constexpr int kPerWord = 4 / (int)sizeof(Element), kParts = kBlock / kPerWord / 4;
  u32 words[kBlock / kPerWord];
#pragma unroll
  for (int i = 0; i < kBlock / kPerWord; ++i) words[i] = 0;
  // As many pixels at a time as have 16 elements: they are loaded before any of them is used.
  constexpr int kPixels = kStrideH * kStrideW, kMany = kChannels >= 16 ? 1 : 16 / kChannels, kAhead = kMany < kPixels ? kMany : kPixels;
#pragma unroll
  for (int i0 = 0; i0 < kPixels; i0 += kAhead) {
    Pixel values[kAhead][kChannels];
    bool inside[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      const int i = i0 + j, h = row * kStrideH - args.pad_h + i / kStrideW, w = column * kStrideW - args.pad_w + i % kStrideW;
      inside[j] = i < kPixels && h >= 0 && h < args.h && w >= 0 && w < args.w;
      const long long plane = (long long)args.h * args.w, pixel = h * args.w + w;
      const Pixel* from = (const Pixel*)args.image + (kPlanarImage ? image * kChannels * plane + pixel : (image * plane + pixel) * args.pitch);
#pragma unroll
      for (int c = 0; c < kChannels; ++c) {
        if (inside[j]) values[j][c] = from[kPlanarImage ? c * plane : c];
      }
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
#pragma unroll
      for (int c = 0; c < kChannels; ++c) {
        const int element = (i0 + j) * kChannels + c;
        if (inside[j]) words[element / kPerWord] |= (u32)element_of(values[j][c]) << (8 * (int)sizeof(Element) * (element % kPerWord));
      }
    }
  }
  uint4* to = (uint4*)args.blocks + (kPlanar ? (long long)rest * kParts * args.columns + column : (long long)index * kParts);
  const int step = kPlanar ? args.columns : 1;
#pragma unroll
  for (int i = 0; i < kParts; ++i) to[i * step] = make_uint4(words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3]);
}
)";

/// Sizes of the folded convolution.
struct Fold {
  std::int64_t stride_h, stride_w, block, kernel_h, kernel_w, channels;
};
inline Fold fold_of(const Conv& conv, const FilterSizes& sizes, DType dtype) {
  const std::int64_t unit = kMapAlignment / static_cast<std::int64_t>(size_of(dtype));
  Fold fold{};
  fold.stride_h = conv.window().strides[0];
  fold.stride_w = conv.window().strides[1];
  fold.block = divide_up(fold.stride_h * fold.stride_w * sizes.channels, unit) * unit;
  fold.kernel_h = divide_up(sizes.kernel_h, fold.stride_h);
  fold.kernel_w = divide_up(sizes.kernel_w, fold.stride_w);
  fold.channels = fold.kernel_w * fold.block;
  return fold;
}

/// What pixels are, and what is done to each element on the way.
struct FoldSource {
  DType type = DType::undefined;  ///< undefined: the elements as they are
  bool is_planar = false;
  PointwiseProgram program{};
};
/// The fold kernel's text, behind hopper_prelude().
inline std::string fold_text(const Fold& fold, std::int64_t channels, DType element, bool is_planar,
                             const FoldSource& source = {}) {
  std::string text(kFoldArgumentsText);
  text += fmt::format(
      "constexpr int kStrideH = {}, kStrideW = {}, kChannels = {}, kBlock = {};\nconstexpr bool kPlanar = {};\n"
      "typedef {} Element;\n",
      fold.stride_h, fold.stride_w, channels, fold.block, is_planar,
      size_of(element) == 4   ? "u32"
      : size_of(element) == 2 ? "u16"
                              : "unsigned char");
  text += fmt::format("constexpr bool kPlanarImage = {};\n", source.is_planar);
  if (source.program.empty()) {
    text += "typedef Element Pixel;\nTF_FN Element element_of(Pixel x) { return x; }\n";
  } else {
    const std::vector<std::string> names{"x"};
    const ProgramText program = emit_program(source.program, names, "r", math_mode_for(element), "  ");
    text += fmt::format(
        "typedef {0} Pixel;\nTF_FN Element element_of(Pixel pixel) {{\n  const float x = tf::to_float(pixel);\n{1}"
        "  const {2} y = tf::from_float<{2}>({3});\n  return *(const Element*)&y;\n}}\n",
        device_type(source.type), program.statements, device_type(element), program.result);
  }
  text += kFoldText;
  return text;
}

/// Writes [n][rows][columns] blocks of the image, [n, h, w, c] or planar.
inline void launch_fold(const Launch& launch, CUfunction function, const Window& window, const FilterSizes& sizes,
                        std::int64_t rows, std::int64_t columns, bool is_planar = false) {
  constexpr int kFoldThreads = 256;
  const TensorView& x = launch.inputs[0];
  FoldArguments fold{};
  fold.image = x.data;
  fold.blocks = launch.workspace.data();
  fold.pitch = x.pitch;
  fold.count = x.dim(0) * rows * columns;
  const int first = is_planar ? 2 : 1;
  fold.h = static_cast<int>(x.dim(first));
  fold.w = static_cast<int>(x.dim(first + 1));
  fold.rows = static_cast<int>(rows);
  fold.columns = static_cast<int>(columns);
  fold.pad_h = static_cast<int>(window.padding(0, fold.h, sizes.kernel_h)[0]);
  fold.pad_w = static_cast<int>(window.padding(1, fold.w, sizes.kernel_w)[0]);
  LaunchConfig config;
  config.function = function;
  config.grid.x = image_blocks(fold.count, kFoldThreads);
  config.block.x = kFoldThreads;
  cuda_stream(launch).launch(config, fold);
}

}  // namespace tenfold::cuda
