// Products of bfloat16 by the matrix unit: A as it is, or rounded once; then come the tiles.
#pragma once

#include "backend/cpu/kernels/activation.hpp"
#include "backend/cpu/kernels/bf16_convert.hpp"
#include "backend/cpu/kernels/bf16_product.hpp"
#include "backend/cpu/kernels/copied_rows.hpp"
#include "backend/cpu/kernels/finish.hpp"
#include "backend/cpu/kernels/gemm_tile.hpp"
#include "backend/cpu/kernels/tile_product.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// From sums to results, one or two tiles at a time: in registers, or through as many floats that a program works on.
class Bf16TileFinish {
 public:
  explicit Bf16TileFinish(const Bf16Args& args) : args_(args.product), stores_bf16_(args.c_is_bf16) {}

  void tiles(const std::byte* sums, std::int64_t row, std::int64_t rows, std::int64_t column, int count) {
    const auto* from = reinterpret_cast<const float*>(sums);
    const Part part{row, rows, column, min(args_.columns - column, count * kTileColumns)};
    const std::int64_t at = row * args_.c_stride + column;
    if (args_.finish.program != nullptr) {
      run_program(from, part, at);
    } else if (stores_bf16_) {
      finish(from, part, halves(args_.c) + at, args_.c_stride);
    } else {
      finish(from, part, args_.c + at, args_.c_stride);
    }
  }
  void panel(std::int64_t, std::int64_t, std::int64_t, std::int64_t) {}

 private:
  static constexpr int kRows = 4;
  static constexpr std::int64_t kNumber = 2;  // bytes
  /// Of the result.
  struct Part {
    std::int64_t row, rows, column, columns;
  };

  static std::uint16_t* halves(float* p) { return reinterpret_cast<std::uint16_t*>(p); }
  static const std::uint16_t* halves(const float* p) { return reinterpret_cast<const std::uint16_t*>(p); }

  /// Bias, residual and activation; results go to the part's first element, `to`. Line by line, so that both halves of
  /// a cache line are written together.
  template <typename T>
  void finish(const float* from, const Part& part, T* to, std::int64_t to_stride) {
    std::int64_t r = 0;
    for (; r + kRows <= part.rows; r += kRows) finish_rows<kRows>(from, part, r, to, to_stride);
    for (; r < part.rows; ++r) finish_rows<1>(from, part, r, to, to_stride);
  }
  template <int kCount, typename T>
  void finish_rows(const float* from, const Part& part, std::int64_t r, T* to, std::int64_t to_stride) {
    constexpr std::int64_t kTileFloats = kTileRows * kTileColumns;
    for (std::int64_t n = 0; n < part.columns; n += Vec::kWidth) {
      finish_vectors<kCount>(from + n / kTileColumns * kTileFloats + r * kTileColumns + n % kTileColumns, part.row + r,
                             part.column + n, static_cast<int>(min(part.columns - n, Vec::kWidth)),
                             to + r * to_stride + n, to_stride);
    }
  }
  template <int kCount, typename T>
  void finish_vectors(const float* from, std::int64_t row, std::int64_t column, int tail, T* to,
                      std::int64_t to_stride) {
    const FinishArgs& finish = args_.finish;
    const bool whole = tail == Vec::kWidth;
    const auto load = [&](const auto* p) { return whole ? load_number(p) : load_first_numbers(p, tail); };
    const Vec bias = finish.bias == nullptr ? Vec::zero() : load(finish.bias + column);
    Vec x[kCount];
    TENFOLD_UNROLL
    for (int i = 0; i < kCount; ++i) x[i] = Vec::load(from + i * kTileColumns) + bias;
    const auto add = [&](const auto* residual) {
      TENFOLD_UNROLL
      for (int i = 0; i < kCount; ++i) x[i] = x[i] + load(residual + i * finish.residual_stride);
    };
    if (finish.residual != nullptr) {
      const std::int64_t at = row * finish.residual_stride + column;
      finish.residual_is_bf16 ? add(halves(finish.residual) + at) : add(finish.residual + at);
    }
    activate(x, finish.activation, finish.activation.slopes_from(column), load);
    TENFOLD_UNROLL
    for (int i = 0; i < kCount; ++i) {
      if (whole) {
        store_number(x[i], to + i * to_stride);
      } else {
        store_first_numbers(x[i], to + i * to_stride, tail);
      }
    }
  }

  /// `at`: of the part's first element in C.
  void run_program(const float* from, const Part& part, std::int64_t at) {
    const FinishArgs& finish = args_.finish;
    // Without gaps between rows a program has one long one.
    const std::int64_t stride = part.columns;
    alignas(64) float operands[FinishArgs::kMaxOperands][kTileRows * kPanelColumns];
    const float* widened[FinishArgs::kMaxOperands] = {};
    for (int i = 1; i < finish.program->num_inputs; ++i) {
      const FinishOperand& operand = finish.operands[i];
      if (!operand.is_bf16) continue;
      widened[i] = operands[i];
      const std::uint16_t* p = halves(operand.data) + part.row * operand.row_stride + part.column;
      for (std::int64_t r = 0; r < part.rows; ++r, p += operand.row_stride) {
        for (std::int64_t n = 0; n < part.columns; n += Vec::kWidth) {
          const int tail = static_cast<int>(min(part.columns - n, Vec::kWidth));
          load_first_bf16(p + n, tail).store_first(operands[i] + r * stride + n, tail);
        }
      }
    }
    const auto run = [&](float* values, std::int64_t values_stride) {
      this->finish(from, part, values, values_stride);
      run_finish_program(finish, values, values_stride, part.row, part.row + part.rows, part.column,
                         part.column + part.columns, widened, stride);
    };
    if (!stores_bf16_) return run(args_.c + at, args_.c_stride);
    alignas(64) float values[kTileRows * kPanelColumns];
    run(values, stride);
    round_rows(values, stride, part.rows, part.columns, reinterpret_cast<std::uint8_t*>(halves(args_.c) + at),
               args_.c_stride * kNumber);
  }

  const GemmArgs& args_;
  bool stores_bf16_;
};

/// Rounds rows or pixels, all threads together. From row to row `stride` bytes.
inline void round_all(const float* a, std::int64_t a_stride, std::int64_t rows, std::int64_t numbers,
                      std::int64_t stride, std::uint8_t* to, const Workers& workers) {
  constexpr std::int64_t kWorthwhile = 1 << 13;
  const std::int64_t threads = workers.pool->num_threads();
  const Cut cut{rows, 1, rows * numbers < kWorthwhile * threads ? 1 : min(rows, threads)};
  for_each_item(workers, cut.parts, [&](std::int64_t part, std::byte*) {
    const std::int64_t begin = cut.begin(part), count = cut.begin(part + 1) - begin;
    round_rows(a + begin * a_stride, a_stride, count, numbers, to + begin * stride, stride);
  });
}

/// Plain rows of float32, rounded as they are copied.
struct RoundedRows {
  const GemmArgs& args;
  void copy(std::int64_t first, std::int64_t rows, std::int64_t stride, std::uint8_t* to) const {
    round_rows(args.a + first * args.a_stride, args.a_stride, rows, args.depth, to, stride);
  }
};

/// See WindowLines.
struct PlacedWindows {
  const ConvRows& conv;
  std::int64_t kernel_columns;             ///< that are placed one by one; 1: a line of the kernel is one piece
  const std::uint8_t* image;               ///< its lines, one after the other
  const std::uint8_t* zeros;               ///< one line
  std::int64_t pixel_stride, line_stride;  ///< bytes

  void place(std::int64_t first, std::int64_t steps, const std::uint8_t** to) const {
    const PixelWalk pixel(conv, first);
    const std::int64_t pixel_steps = steps / (conv.kernel[0] * conv.kernel[1] * kernel_columns);
    const std::int64_t x = (pixel.x + conv.pad[2]) * pixel_stride, kernel_column = conv.dilation[2] * pixel_stride;
    for (std::int64_t k = 0; k < conv.kernel[0] * conv.kernel[1]; ++k) {
      const std::int64_t z = pixel.z + k / conv.kernel[1] * conv.dilation[0];
      const std::int64_t y = pixel.y + k % conv.kernel[1] * conv.dilation[1];
      const bool inside = 0 <= z && z < conv.in[0] && 0 <= y && y < conv.in[1];
      const std::uint8_t* at =
          (inside ? image + ((pixel.image * conv.in[0] + z) * conv.in[1] + y) * line_stride : zeros) + x;
      for (std::int64_t kx = 0; kx < kernel_columns; ++kx, at += kernel_column) {
        for (std::int64_t step = 0; step < pixel_steps; ++step) *to++ = at + step * kTileBytes;
      }
    }
  }
};

/// Lines of the image with zeros left and right, as bfloat16, and a line of zeros behind them. Is all of it finite?
/// (If that matters: it is looked at where windows are read by lines.)
inline bool copy_window_lines(const Bf16Args& whole, std::int64_t channels, const WindowLines& lines, std::uint8_t* to,
                              const Workers& workers) {
  constexpr std::int64_t kNumber = 2, kWorthwhile = 1 << 13;
  const GemmArgs& args = whole.product;
  const ConvRows& conv = *args.conv;
  const std::int64_t pixel = channels * kNumber, line_bytes = lines.pixels * pixel;
  const std::int64_t left = conv.pad[2] * pixel, inner = conv.in[2] * pixel;
  const std::int64_t count = conv.batch * conv.in[0] * conv.in[1], threads = workers.pool->num_threads();
  const Cut cut{count, 1, count * lines.pixels * channels < kWorthwhile * threads ? 1 : min(count, threads)};
  fill_bytes(0, line_bytes + kTileBytes, to + count * line_bytes);
  bool has_others = false;
  for_each_item(workers, cut.parts, [&](std::int64_t part, std::byte*) {
    for (std::int64_t line = cut.begin(part); line < cut.begin(part + 1); ++line) {
      std::uint8_t* out = to + line * line_bytes;
      const std::int64_t first = line * conv.in[2] * args.a_stride;
      fill_bytes(0, left, out);
      if (whole.a_is_bf16) {
        const auto* from = reinterpret_cast<const std::uint8_t*>(args.a) + first * kNumber;
        if (args.a_stride == channels) {
          copy_bytes(from, inner, out + left);
        } else {
          copy_strided(from, args.a_stride * kNumber, pixel, conv.in[2], out + left, pixel);
        }
      } else {
        round_rows(args.a + first, args.a_stride, conv.in[2], channels, out + left, pixel);
      }
      fill_bytes(0, line_bytes - left - inner, out + left + inner);
      if (whole.windows == Windows::by_lines &&
          !are_finite(reinterpret_cast<const std::uint16_t*>(out + left), conv.in[2] * channels)) {
        __atomic_store_n(&has_others, true, __ATOMIC_RELAXED);
      }
    }
  });
  return !has_others;
}

template <typename Unit>
void run_bf16_tiles(const Bf16Args& whole, const Workers& workers) {
  const GemmArgs& args = whole.product;
  if (args.rows <= 0 || args.columns <= 0) return;
  constexpr std::int64_t kNumber = 2;
  const auto* numbers = reinterpret_cast<const std::uint8_t*>(args.a);  // if they are bfloat16
  auto* rounded = reinterpret_cast<std::uint8_t*>(whole.rounded);
  TileProduct product;
  product.rows = args.rows;
  product.columns = args.columns;
  product.row_bytes = args.depth * kNumber;
  product.panels = reinterpret_cast<const std::byte*>(whole.panels);
  product.row_block = args.tiling.row_block;
  product.depth_block = args.tiling.depth_block * kNumber / kTileBytes;
  const auto run = [&](const auto& rows) {
    TileCut(product, workers, 0).for_each_block(workers, [&](const ProductBlock& block, std::byte* scratch) {
      Bf16TileFinish finish(whole);
      run_tile_block<Unit>(product, block, rows, finish, scratch);
    });
  };
  if (args.conv != nullptr) {
    const ConvRows& conv = *args.conv;
    const std::int64_t channels = args.depth / (conv.kernel[0] * conv.kernel[1] * conv.kernel[2]);
    const std::int64_t image_lines = conv.batch * conv.in[0] * conv.in[1];
    const bool by_lines = whole.windows == Windows::by_lines;
    const std::int64_t line_bytes = by_lines ? window_line_depth(conv.kernel[2], channels) * kNumber : 0;
    if (by_lines) product.row_bytes = conv.kernel[0] * conv.kernel[1] * line_bytes;
    RowSource source{numbers, args.a_stride * kNumber, args.depth * kNumber, args.conv, 0, line_bytes};
    const WindowLines lines =
        window_lines(conv, whole.windows, channels, whole.a_is_bf16, static_cast<std::int64_t>(workers.scratch_bytes));
    if (lines.pixels > 0) {
      PlacedWindows windows{conv, by_lines ? 1 : conv.kernel[2], rounded, nullptr, channels * kNumber, 0};
      bool can_be_read = true;
      if (lines.is_copied) {
        can_be_read = copy_window_lines(whole, channels, lines, rounded, workers);
      } else {
        windows.image = numbers;
        windows.pixel_stride = args.a_stride * kNumber;
      }
      windows.line_stride = lines.pixels * windows.pixel_stride;
      windows.zeros = rounded + (lines.is_copied ? image_lines * windows.line_stride : 0);
      if (!lines.is_copied) fill_bytes(0, windows.line_stride, rounded);
      if (!can_be_read) {
        // Infinity or NaN would meet the zeros of other windows. Copied together from the longer lines they do not.
        ConvRows longer = conv;
        longer.in[2] = lines.pixels;
        longer.pad[2] = 0;
        source.a = rounded;
        source.stride = windows.pixel_stride;
        source.conv = &longer;
        return run(CopiedRows{source});
      }
      product.line_rows = conv.out[2];
      product.a_stride = conv.stride[2] * windows.pixel_stride;
      return run(windows);
    }
    if (!whole.a_is_bf16) {
      // A window has most numbers in common with its neighbours, so images are rounded first.
      source.a = rounded;
      source.stride = channels * kNumber;
      round_all(args.a, args.a_stride, image_lines * conv.in[2], channels, source.stride, rounded, workers);
    }
    return run(CopiedRows{source});
  }
  if (whole.a_is_bf16) {
    if (product.row_bytes % kTileBytes == 0) {
      product.a = numbers;
      product.a_stride = args.a_stride * kNumber;
    }
    return run(CopiedRows{{numbers, args.a_stride * kNumber, product.row_bytes, nullptr, 0}});
  }
  // Plain rows are rounded by the block that multiplies them, unless several blocks have the same.
  if (TileCut(product, workers, 0).repeats_rows()) {
    product.a = rounded;
    product.a_stride = tile_row_stride(product.row_bytes);
    round_all(args.a, args.a_stride, args.rows, args.depth, product.a_stride, rounded, workers);
    clear_row_ends(product.row_bytes, args.rows, product.a_stride, rounded);
  }
  run(RoundedRows{args});
}

}  // namespace tenfold::cpu::TENFOLD_TIER
