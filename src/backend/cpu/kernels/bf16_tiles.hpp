// Products of bfloat16 by the matrix unit: A as it is, rounded once, or split into parts; then come the tiles.
#pragma once

#include "backend/cpu/kernels/activation.hpp"
#include "backend/cpu/kernels/bf16_convert.hpp"
#include "backend/cpu/kernels/bf16_product.hpp"
#include "backend/cpu/kernels/bf16_split.hpp"
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

  ResultPlace place(std::int64_t row, std::int64_t column) const {
    const std::int64_t size = stores_bf16_ ? kNumber : std::int64_t{sizeof(float)};
    const std::int64_t bytes = min(args_.columns - column, kPanelColumns) * size;
    return {reinterpret_cast<std::byte*>(args_.c) + (row * args_.c_stride + column) * size, args_.c_stride * size,
            static_cast<int>(ceil_div(bytes, kTileBytes))};
  }

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

/// Rows of float32, each number as kParts of bfloat16; `stride` and `part_stride` in bytes. False: see split_rows.
template <int kParts>
bool convert_rows(const float* from, std::int64_t from_stride, std::int64_t rows, std::int64_t numbers,
                  std::uint8_t* to, std::int64_t stride, std::int64_t part_stride) {
  if constexpr (kParts == 1) {
    round_rows(from, from_stride, rows, numbers, to, stride);
    return true;
  } else {
    return split_rows(from, from_stride, rows, numbers, to, stride, part_stride);
  }
}

/// Converts pixels, all threads together. False: see split_rows.
template <int kParts>
bool convert_pixels(const float* a, std::int64_t a_stride, std::int64_t pixels, std::int64_t channels,
                    std::int64_t part_stride, std::uint8_t* to, const Workers& workers) {
  constexpr std::int64_t kWorthwhile = 1 << 13, kNumber = 2;
  const std::int64_t threads = workers.pool->num_threads(), stride = channels * kNumber;
  const Cut cut{pixels, 1, pixels * channels < kWorthwhile * threads ? 1 : min(pixels, threads)};
  bool has_others = false;
  for_each_item(workers, cut.parts, [&](std::int64_t part, std::byte*) {
    const std::int64_t begin = cut.begin(part), count = cut.begin(part + 1) - begin;
    if (!convert_rows<kParts>(a + begin * a_stride, a_stride, count, channels, to + begin * stride, stride,
                              part_stride)) {
      __atomic_store_n(&has_others, true, __ATOMIC_RELAXED);
    }
  });
  return !has_others;
}

/// Plain rows of float32, converted as they are copied.
template <int kParts>
struct ConvertedRows {
  const GemmArgs& args;
  bool copy(std::int64_t first, std::int64_t rows, std::int64_t stride, std::int64_t part_stride,
            std::uint8_t* to) const {
    return convert_rows<kParts>(args.a + first * args.a_stride, args.a_stride, rows, args.depth, to, stride,
                                part_stride);
  }
};

/// See WindowLines.
template <int kParts>
class LineWindows {
 public:
  LineWindows(const Bf16Args& whole, const WindowLines& lines, std::int64_t channels)
      : whole_(whole),
        conv_(*whole.product.conv),
        lines_(lines),
        pixel_bytes_((lines.is_copied ? channels : whole.product.a_stride) * kNumber),
        channels_(channels) {}

  /// Of the lines of results that begin with a row, as many as these rows are.
  class Block {
   public:
    Block(const LineWindows& windows, std::int64_t first, std::int64_t rows, std::byte* scratch)
        : w_(windows),
          conv_(windows.conv_),
          to_(reinterpret_cast<std::uint8_t*>(scratch)),
          begin_(first / conv_.out[2]),
          end_((first + rows) / conv_.out[2]) {
      const std::int64_t last = slab_of(end_ - 1);
      const std::int64_t count = w_.lines_.is_copied ? first_line(last) + conv_.kernel[0] * lines_of(last) : 0;
      zeros_ = count * w_.lines_.line_bytes;
      part_stride_ = ceil_div(zeros_ + w_.lines_.line_bytes + kTileBytes, kTileBytes) * kTileBytes;
    }

    bool copy() const {
      for (int part = 0; part < kParts; ++part) {
        fill_bytes(0, w_.lines_.line_bytes + kTileBytes, to_ + part * part_stride_ + zeros_);
      }
      bool is_small = true;
      if (!w_.lines_.is_copied) return is_small;
      for (std::int64_t slab = slab_of(begin_); slab <= slab_of(end_ - 1); ++slab) {
        const std::int64_t image = slab / conv_.out[0], count = lines_of(slab);
        const std::int64_t y_begin = first_y(slab) * conv_.stride[1] - conv_.pad[1];
        for (std::int64_t kz = 0; kz < conv_.kernel[0]; ++kz) {
          const std::int64_t z = slab % conv_.out[0] * conv_.stride[0] - conv_.pad[0] + kz * conv_.dilation[0];
          for (std::int64_t i = 0; i < count; ++i) {
            std::uint8_t* at = to_ + (first_line(slab) + kz * count + i) * w_.lines_.line_bytes;
            if (i % conv_.stride[1] < w_.lines_.extent && is_inside(z, y_begin + i)) {
              const std::int64_t line = (image * conv_.in[0] + z) * conv_.in[1] + y_begin + i;
              if (!w_.copy_line(line, at, part_stride_)) is_small = false;
            } else {
              // The last tile of the line before may end here, where it meets zeros of B.
              for (int part = 0; part < kParts; ++part) {
                fill_bytes(0, min(w_.lines_.line_bytes, kTileBytes), at + part * part_stride_);
              }
            }
          }
        }
      }
      return is_small;
    }
    std::int64_t part_stride() const { return part_stride_; }

    void place(std::int64_t first, std::int64_t steps, const std::uint8_t** to) const {
      const PixelWalk pixel(conv_, first);
      const std::int64_t slab = slab_of(first / conv_.out[2]), count = lines_of(slab);
      const std::int64_t y_begin = first_y(slab) * conv_.stride[1] - conv_.pad[1];
      const std::int64_t columns = w_.whole_.windows == Windows::by_lines ? 1 : conv_.kernel[2];
      const std::int64_t pixel_steps = steps / (conv_.kernel[0] * conv_.kernel[1] * columns);
      const std::int64_t x = (pixel.x + conv_.pad[2]) * w_.pixel_bytes_;
      const std::int64_t kernel_column = conv_.dilation[2] * w_.pixel_bytes_;
      for (std::int64_t kz = 0; kz < conv_.kernel[0]; ++kz) {
        const std::int64_t z = pixel.z + kz * conv_.dilation[0];
        for (std::int64_t ky = 0; ky < conv_.kernel[1]; ++ky) {
          const std::int64_t y = pixel.y + ky * conv_.dilation[1];
          const std::uint8_t* at = to_ + zeros_;
          if (is_inside(z, y)) {
            at = w_.lines_.is_copied
                     ? to_ + (first_line(slab) + kz * count + y - y_begin) * w_.lines_.line_bytes
                     : w_.numbers() + ((pixel.image * conv_.in[0] + z) * conv_.in[1] + y) * w_.lines_.line_bytes;
          }
          at += x;
          for (std::int64_t kx = 0; kx < columns; ++kx, at += kernel_column) {
            for (std::int64_t step = 0; step < pixel_steps; ++step) *to++ = at + step * kTileBytes;
          }
        }
      }
    }

   private:
    bool is_inside(std::int64_t z, std::int64_t y) const {
      return 0 <= z && z < conv_.in[0] && 0 <= y && y < conv_.in[1];
    }
    // A slab: lines of results of one image that differ in y only.
    std::int64_t slab_of(std::int64_t line) const { return line / conv_.out[1]; }
    std::int64_t first_y(std::int64_t slab) const { return slab == slab_of(begin_) ? begin_ % conv_.out[1] : 0; }
    /// Lines of the image that a slab needs for each kernel position in z.
    std::int64_t lines_of(std::int64_t slab) const {
      const std::int64_t y_end = min(conv_.out[1], end_ - slab * conv_.out[1]);
      return (y_end - first_y(slab) - 1) * conv_.stride[1] + w_.lines_.extent;
    }
    /// The first of them here.
    std::int64_t first_line(std::int64_t slab) const {
      const std::int64_t slabs = slab - slab_of(begin_);
      if (slabs == 0) return 0;
      const std::int64_t whole = (conv_.out[1] - 1) * conv_.stride[1] + w_.lines_.extent;
      const std::int64_t lines = lines_of(slab_of(begin_)) + (slabs - 1) * whole;
      return conv_.kernel[0] * lines;
    }

    const LineWindows& w_;
    const ConvRows& conv_;
    std::uint8_t* to_;
    std::int64_t begin_, end_;  ///< lines of results
    std::int64_t zeros_, part_stride_;
  };
  Block block(std::int64_t first, std::int64_t rows, std::byte* scratch) const { return {*this, first, rows, scratch}; }

 private:
  static constexpr std::int64_t kNumber = 2;  // bytes
  /// If they are bfloat16.
  const std::uint8_t* numbers() const { return reinterpret_cast<const std::uint8_t*>(whole_.product.a); }

  /// A line of the image as bfloat16, with zeros left and right. False: see split_rows; or, where it matters, something
  /// is not finite.
  bool copy_line(std::int64_t line, std::uint8_t* to, std::int64_t part_stride) const {
    const std::int64_t stride = whole_.product.a_stride, first = line * conv_.in[2] * stride;
    const std::int64_t left = conv_.pad[2] * pixel_bytes_, inner = conv_.in[2] * pixel_bytes_;
    for (std::uint8_t* p = to; p != to + kParts * part_stride; p += part_stride) {
      fill_bytes(0, left, p);
      fill_bytes(0, lines_.line_bytes - left - inner, p + left + inner);
    }
    bool is_small = true;
    if (!whole_.a_is_bf16) {
      is_small = convert_rows<kParts>(whole_.product.a + first, stride, conv_.in[2], channels_, to + left, pixel_bytes_,
                                      part_stride);
    } else if (stride == channels_) {
      copy_bytes(numbers() + first * kNumber, inner, to + left);
    } else {
      copy_strided(numbers() + first * kNumber, stride * kNumber, pixel_bytes_, conv_.in[2], to + left, pixel_bytes_);
    }
    if (kParts > 1 || whole_.windows != Windows::by_lines) return is_small;
    return are_finite(reinterpret_cast<const std::uint16_t*>(to + left), conv_.in[2] * channels_);
  }

  const Bf16Args& whole_;
  const ConvRows& conv_;
  const WindowLines& lines_;
  std::int64_t pixel_bytes_, channels_;
};

template <typename Unit, int kParts>
void run_bf16_tiles(const Bf16Args& whole, const Workers& workers) {
  const GemmArgs& args = whole.product;
  constexpr std::int64_t kNumber = 2;
  const auto* numbers = reinterpret_cast<const std::uint8_t*>(args.a);  // if they are bfloat16
  auto* rounded = reinterpret_cast<std::uint8_t*>(whole.rounded);
  TileProduct product;
  product.rows = args.rows;
  product.columns = args.columns;
  product.parts = kParts;
  product.limit = kParts > 1 ? __builtin_ldexpf(1, kSplitLimitExponent) : __builtin_inff();
  product.row_bytes = args.depth * kNumber;
  product.panels = reinterpret_cast<const std::byte*>(whole.panels);
  product.row_block = args.tiling.row_block;
  product.depth_block = args.tiling.depth_block * kNumber / kTileBytes;
  const auto run = [&](const auto& rows) {
    TileCut(product, workers, 0)
        .for_each_block(workers, [&](const ProductBlock& block, std::byte* scratch, RowsInScratch& copied) {
          Bf16TileFinish finish(whole);
          run_tile_block<Unit, kParts>(product, block, rows, finish, scratch, copied);
        });
  };
  if (args.conv != nullptr) {
    const ConvRows& conv = *args.conv;
    const std::int64_t channels = args.depth / (conv.kernel[0] * conv.kernel[1] * conv.kernel[2]);
    const std::int64_t image_lines = conv.batch * conv.in[0] * conv.in[1];
    const bool by_lines = whole.windows == Windows::by_lines;
    const std::int64_t line_bytes = by_lines ? window_line_depth(conv.kernel[2], channels) * kNumber : 0;
    const WindowLines lines = window_lines(conv, whole.windows, channels, args.a_stride, whole.a_is_bf16, kParts,
                                           static_cast<std::int64_t>(workers.scratch_bytes));
    if (by_lines) {
      product.row_bytes = conv.kernel[0] * conv.kernel[1] * line_bytes;
      product.piece_steps = line_bytes / kTileBytes;
      product.piece_numbers = conv.kernel[2] * channels;
    }
    if (lines.pixels > 0) {
      product.line_rows = conv.out[2];
      product.scratch_per_line = lines.bytes_per_line;
      product.scratch_besides = lines.bytes_besides;
      product.a_stride = conv.stride[2] * (lines.is_copied ? channels : args.a_stride) * kNumber;
      return run(LineWindows<kParts>(whole, lines, channels));
    }
    RowSource source{numbers, args.a_stride * kNumber, args.depth * kNumber, args.conv, 0, line_bytes};
    const std::int64_t pixels = image_lines * conv.in[2], part_stride = rounded_image_bytes(pixels, channels);
    if (!whole.a_is_bf16) {
      // A window has most numbers in common with its neighbours, so images are converted first.
      source.a = rounded;
      source.stride = channels * kNumber;
      product.has_large =
          !convert_pixels<kParts>(args.a, args.a_stride, pixels, channels, part_stride, rounded, workers);
    }
    return run(CopiedRows{source, kParts, part_stride});
  }
  if (whole.a_is_bf16) {
    if (product.row_bytes % kTileBytes == 0) {
      product.a = numbers;
      product.a_stride = args.a_stride * kNumber;
    }
    return run(CopiedRows{{numbers, args.a_stride * kNumber, product.row_bytes, nullptr, 0}});
  }
  run(ConvertedRows<kParts>{args});
}

template <typename Unit>
void run_bf16_tiles(const Bf16Args& args, const Workers& workers) {
  if (args.product.rows <= 0 || args.product.columns <= 0) return;
  if (args.is_split) return run_bf16_tiles<Unit, static_cast<int>(kSplitParts)>(args, workers);
  run_bf16_tiles<Unit, 1>(args, workers);
}

}  // namespace tenfold::cpu::TENFOLD_TIER
