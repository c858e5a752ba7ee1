// Rows of a product's left factor, or the windows of a convolution, copied together byte by byte.
#pragma once

#include <cstdint>
#include <cstring>

#include "backend/cpu/kernels/pixel_walk.hpp"
#include "backend/cpu/kernels/simd_int.hpp"
#include "backend/cpu/kernels/split.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

template <typename T>
inline void copy_as(const std::uint8_t* from, std::uint8_t* to) {
  T x;
  std::memcpy(&x, from, sizeof x);
  std::memcpy(to, &x, sizeof x);
}
/// `times` copies of `count` bytes.
inline void copy_strided(const std::uint8_t* from, std::int64_t from_stride, std::int64_t count, std::int64_t times,
                         std::uint8_t* to, std::int64_t to_stride) {
  // Two pieces, as large as fit, which may overlap.
  const auto in_two = [&]<typename T>(T) {
    const auto second = count - static_cast<std::int64_t>(sizeof(T));
    for (std::int64_t i = 0; i < times; ++i, from += from_stride, to += to_stride) {
      copy_as<T>(from, to);
      copy_as<T>(from + second, to + second);
    }
  };
  if (4 <= count && count <= 8) return in_two(std::uint32_t{});
  if (8 < count && count <= 16) return in_two(std::uint64_t{});
  if (16 < count && count <= 32) return in_two(__m128i{});
  for (; times > 0; --times, from += from_stride, to += to_stride) {
    std::int64_t i = 0;
    for (; i + Ints::kBytes <= count; i += Ints::kBytes) Ints::load(from + i).store(to + i);
    if (i == count) continue;
    if (i > 0) {
      Ints::load(from + count - Ints::kBytes).store(to + count - Ints::kBytes);
    } else {
      Ints::load_first_bytes(from, count).store_first_bytes(to, count);
    }
  }
}
inline void copy_bytes(const std::uint8_t* from, std::int64_t count, std::uint8_t* to) {
  copy_strided(from, 0, count, 1, to, 0);
}
inline void fill_bytes(std::uint8_t value, std::int64_t count, std::uint8_t* to) {
  const Ints all(static_cast<std::int32_t>(value * 0x01010101U));
  for (std::int64_t i = 0; i < count; i += Ints::kBytes) all.store_first_bytes(to + i, count - i);
}

struct RowSource {
  const std::uint8_t* a;
  std::int64_t stride;   ///< bytes from row to row; with `conv` from pixel to pixel
  std::int64_t bytes;    ///< of a row; with `conv` of all taps
  const ConvRows* conv;  ///< nullptr: plain rows
  std::uint8_t zero;     ///< every byte outside the image
  /// What a line of the kernel takes, zeros behind its own bytes; 0: those alone.
  std::int64_t line_bytes = 0;
};

/// Rows from `first` on, one after the other, `stride` bytes apart: those of A, or the windows of a convolution.
inline void copy_rows(const RowSource& source, std::int64_t first, std::int64_t rows, std::int64_t stride,
                      std::uint8_t* to) {
  if (source.conv == nullptr)
    return copy_strided(source.a + first * source.stride, source.stride, source.bytes, rows, to, stride);
  const ConvRows& conv = *source.conv;
  const std::int64_t channels = source.bytes / (conv.kernel[0] * conv.kernel[1] * conv.kernel[2]);
  // A line of the kernel is contiguous in memory where nothing lies between its pixels' channels.
  const bool joins = conv.dilation[2] == 1 && source.stride == channels;
  const std::int64_t tap_columns = joins ? conv.kernel[2] : 1, tap_bytes = tap_columns * channels;
  const std::int64_t step = conv.stride[2];
  for (std::int64_t end = first + rows; first < end;) {
    // Neighbouring pixels of a line, one tap of them all after the other.
    const PixelWalk pixel(conv, first);
    const std::int64_t run = min(end - first, conv.out[2] - first % conv.out[2]);
    std::uint8_t* tap = to;
    for (std::int64_t k = 0; k < conv.kernel[0] * conv.kernel[1]; ++k) {
      const std::int64_t z = pixel.z + k / conv.kernel[1] * conv.dilation[0];
      const std::int64_t y = pixel.y + k % conv.kernel[1] * conv.dilation[1];
      const bool inside = 0 <= z && z < conv.in[0] && 0 <= y && y < conv.in[1];
      const std::uint8_t* line =
          source.a + ((pixel.image * conv.in[0] + z) * conv.in[1] + y) * conv.in[2] * source.stride;
      for (std::int64_t kx = 0; kx < conv.kernel[2]; kx += tap_columns, tap += tap_bytes) {
        const std::int64_t x = pixel.x + kx * conv.dilation[2], last_inside = conv.in[2] - tap_columns;
        // Of these pixels all columns of the tap lie inside.
        const std::int64_t begin = !inside ? run : min(run, x < 0 ? ceil_div(-x, step) : 0);
        const std::int64_t stop =
            !inside || x > last_inside ? begin : max(begin, min(run, (last_inside - x) / step + 1));
        const auto copy_edge = [&](std::int64_t i) {
          const std::int64_t at = x + i * step;
          const std::int64_t before = inside ? min(tap_columns, max(0, -at)) : tap_columns;
          const std::int64_t after = inside ? max(before, min(tap_columns, conv.in[2] - at)) : tap_columns;
          std::uint8_t* out = tap + i * stride;
          fill_bytes(source.zero, before * channels, out);
          copy_bytes(line + (at + before) * source.stride, (after - before) * channels, out + before * channels);
          fill_bytes(source.zero, (tap_columns - after) * channels, out + after * channels);
        };
        for (std::int64_t i = 0; i < begin; ++i) copy_edge(i);
        for (std::int64_t i = stop; i < run; ++i) copy_edge(i);
        copy_strided(line + (x + begin * step) * source.stride, step * source.stride, tap_bytes, stop - begin,
                     tap + begin * stride, stride);
      }
      if (source.line_bytes > 0) {
        const std::int64_t rest = source.line_bytes - conv.kernel[2] * channels;
        for (std::int64_t i = 0; i < run; ++i) fill_bytes(0, rest, tap + i * stride);
        tap += rest;
      }
    }
    first += run;
    to += run * stride;
  }
}

/// For run_tile_block. Parts of the source are `source_part_stride` bytes apart.
struct CopiedRows {
  RowSource source;
  int parts = 1;
  std::int64_t source_part_stride = 0;
  bool copy(std::int64_t first, std::int64_t rows, std::int64_t stride, std::int64_t part_stride,
            std::uint8_t* to) const {
    RowSource part = source;
    for (int i = 0; i < parts; ++i, part.a += source_part_stride, to += part_stride) {
      copy_rows(part, first, rows, stride, to);
    }
    return true;
  }
};

}  // namespace tenfold::cpu::TENFOLD_TIER
