// Matrix products and convolutions on the ordinary cores: any sizes, strides, groups and types, float32 with all of its
// digits. The tensor-core kernels beat them where they apply.
#pragma once

#include <string>

#include "backend/cuda/epilogue_text.hpp"
#include "backend/cuda/gemm_schedule.hpp"

namespace tenfold::cuda {

inline constexpr std::string_view kPlainEntry = "tenfold_plain";
inline constexpr int kPlainTile = 64, kPlainThreads = 256, kPlainUnit = 4;
inline constexpr int kMaxPlainAxes = 6;

TENFOLD_SHARED_STRUCT(
    kPlainMatrixText, struct PlainMatrix {
      const void* a;
      const void* b;
      long long a_row, a_column, b_row, b_column;
      int k, num_axes;
      int axis_size[6];
      long long a_axis[6];
      long long b_axis[6];
    });

TENFOLD_SHARED_STRUCT(
    kPlainImageText, struct PlainImage {
      const void* x;
      const void* weights;
      const void* bias;
      long long pitch;
      int k, taps, channels, columns;
      int size[3];
      int out[3];
      int kernel[3];
      int stride[3];
      int pad[3];
      int dilation[3];
    });

struct PlainKernelSpec {
  enum class Kind : std::uint8_t { matrix, convolution, transposed_convolution };
  Kind kind = Kind::matrix;
  DType a = DType::float32, b = DType::float32, bias = DType::undefined, output = DType::float32;
  bool columns_inner = false;  ///< matrix: b's columns are its inner axis
};
/// The source of `kPlainEntry(GemmArguments, PlainMatrix or PlainImage)`. Grid: tiles of rows, tiles of columns,
/// batches or groups.
std::string plain_text(const PlainKernelSpec& spec, const EpilogueSpec& epilogue);

}  // namespace tenfold::cuda
