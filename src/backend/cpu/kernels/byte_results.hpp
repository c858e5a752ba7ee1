// From the sums of a register tile to results: scale, residual, limits, and bytes packed together.
#pragma once

#include "backend/cpu/kernels/byte_finish.hpp"
#include "backend/cpu/kernels/gemm_tile.hpp"
#include "backend/cpu/kernels/simd_math.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// Where the results of a tile go and what they are made with, all from the tile's first row and column on.
struct ByteResults {
  int tail;  ///< columns of the last vector that exist: 1 .. Vec::kWidth
  std::uint8_t* c;
  std::int64_t c_stride;  ///< bytes
  const ByteFinish* finish;
  const ByteLimits* limits;
  const float* scale;  ///< nullptr: the sums themselves are stored, as floats
  const float* offset;
  const std::uint8_t* residual;
  std::int64_t residual_stride;  ///< bytes
  /// Goes on to the rows below.
  void skip_rows(std::int64_t rows) {
    c += rows * c_stride;
    if (residual != nullptr) residual += rows * residual_stride;
  }
};

/// Adds the residual of some rows, of one column of vectors. kIsWhole: all of its numbers exist.
template <bool kIsWhole, int kRows>
[[gnu::always_inline]] inline void add_residual(const ByteResults& tile, int column, int count, Vec (&x)[kRows]) {
  const ByteResult type = tile.finish->residual_type;
  const Vec factor(tile.finish->residual_scale);
  const std::uint8_t* residual = tile.residual + column * bytes_of(type);
  const int n = kIsWhole ? Vec::kWidth : count;
  const auto add = [&](const auto& load) {
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) x[i] = fma(load(residual + i * tile.residual_stride), factor, x[i]);
  };
  if (type == ByteResult::uint8) {
    add([&](const std::uint8_t* p) { return Ints::load_unsigned(p, n).to_float(); });
  } else if (type == ByteResult::int8) {
    add([&](const std::uint8_t* p) { return Ints::load_signed(p, n).to_float(); });
  } else {
    add([&](const std::uint8_t* p) { return Vec::load_first(reinterpret_cast<const float*>(p), n); });
  }
}

/// From sums to results that are neither rounded nor stored, one column of vectors at a time.
template <bool kIsWhole, int kRows>
[[gnu::always_inline]] inline void finish_column(const Ints (&sums)[kRows], const ByteResults& tile, int column,
                                                 int count, bool has_limits, Vec (&x)[kRows]) {
  TENFOLD_UNROLL
  for (int i = 0; i < kRows; ++i) x[i] = sums[i].to_float();
  if (tile.scale == nullptr) return;
  const ByteFinish& finish = *tile.finish;
  const auto load = [&](const float* p) {
    return kIsWhole ? Vec::load(p + column) : Vec::load_first(p + column, count);
  };
  const Vec scale = load(tile.scale), offset = load(tile.offset);
  TENFOLD_UNROLL
  for (int i = 0; i < kRows; ++i) x[i] = finish.rounds_product ? x[i] * scale + offset : fma(x[i], scale, offset);
  if (finish.rounds_first) {
    const Vec low(finish.first_low), high(finish.first_high), factor(finish.factor), shift(finish.shift);
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      x[i] = fma(math::round(math::min(math::max(x[i], low), high)), factor, shift);
    }
  }
  if (tile.residual != nullptr) add_residual<kIsWhole>(tile, column, count, x);
  if (has_limits) {
    const Vec low(finish.low), high(finish.high);
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) x[i] = math::min(math::max(x[i], low), high);
  }
}

template <int kRows>
[[gnu::always_inline]] inline void store_column(const Vec (&x)[kRows], const ByteResults& tile, int column, int count) {
  const ByteFinish& finish = *tile.finish;
  if (tile.scale == nullptr || finish.result == ByteResult::float32) {
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      float* c = reinterpret_cast<float*>(tile.c + i * tile.c_stride) + column;
      if (count == Vec::kWidth) {
        x[i].store(c);
      } else {
        x[i].store_first(c, count);
      }
    }
    return;
  }
  const Ints zero(finish.zero_point);
  std::uint8_t* c = tile.c + column;
  if (finish.result == ByteResult::int8) {
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) (Ints::round(x[i]) + zero).store_bytes(c + i * tile.c_stride, count, true);
  } else {
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) (Ints::round(x[i]) + zero).store_bytes(c + i * tile.c_stride, count, false);
  }
}

#if defined(__AVX512F__)
template <int kVectors>
constexpr bool kPacksTogether = false;  // there is an instruction from 32 bits to bytes
template <bool kIsWhole, int kRows, int kVectors>
void store_packed(const Vec (&)[kVectors][kRows], const ByteResults&) {}
#else
template <int kVectors>
constexpr bool kPacksTogether = kVectors != 3;

/// Bytes of four vectors at a time: of one to four rows. Limits are those of the bytes.
template <bool kIsWhole, int kRows, int kVectors>
[[gnu::always_inline]] inline void store_packed(const Vec (&x)[kVectors][kRows], const ByteResults& tile) {
  constexpr int kTogether = 4 / kVectors, kRowBytes = kVectors * Vec::kWidth;
  const int count = kIsWhole ? kRowBytes : kRowBytes - Vec::kWidth + tile.tail;
  TENFOLD_UNROLL
  for (int i = 0; i < kRows; i += kTogether) {
    Ints four[4];
    TENFOLD_UNROLL
    for (int n = 0; n < 4; ++n) {
      const int row = i + n / kVectors;
      four[n] = row < kRows ? Ints::round(x[n % kVectors][row]) : Ints::zero();
    }
    const Ints packed = in_order(tile.limits->pack(four));
    TENFOLD_UNROLL
    for (int n = 0; n < kTogether; ++n) {
      if (i + n < kRows) packed.template store_part<kRowBytes>(n, tile.c + (i + n) * tile.c_stride, count);
    }
  }
}
#endif

template <bool kIsWhole, int kRows, int kVectors>
[[gnu::always_inline]] inline void finish_vectors(const Ints (&sums)[kVectors][kRows], const ByteResults& tile,
                                                  bool makes_bytes) {
  const auto count = [&](int j) { return kIsWhole || j + 1 < kVectors ? Vec::kWidth : tile.tail; };
  if constexpr (kPacksTogether<kVectors>) {
    if (makes_bytes) {
      Vec x[kVectors][kRows];
      TENFOLD_UNROLL
      for (int j = 0; j < kVectors; ++j) {
        finish_column<kIsWhole>(sums[j], tile, j * Vec::kWidth, count(j), !tile.finish->fits, x[j]);
      }
      store_packed<kIsWhole>(x, tile);
      return;
    }
  }
  TENFOLD_UNROLL
  for (int j = 0; j < kVectors; ++j) {
    Vec x[kRows];
    finish_column<kIsWhole>(sums[j], tile, j * Vec::kWidth, count(j), tile.finish->has_limits, x);
    store_column(x, tile, j * Vec::kWidth, count(j));
  }
}

template <int kRows, int kVectors>
void store_sums(const Ints (&sums)[kVectors][kRows], const ByteResults& tile) {
  constexpr std::int64_t kSumBytes = sizeof(std::int32_t);
  TENFOLD_UNROLL
  for (int j = 0; j < kVectors; ++j) {
    const std::int64_t bytes = (j + 1 < kVectors ? Vec::kWidth : tile.tail) * kSumBytes;
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      sums[j][i].store_first_bytes(tile.c + i * tile.c_stride + j * Vec::kWidth * kSumBytes, bytes);
    }
  }
}

template <int kRows, int kVectors>
[[gnu::always_inline]] inline void finish_tile(const Ints (&sums)[kVectors][kRows], const ByteResults& tile) {
  if (tile.finish->result == ByteResult::int32) return store_sums(sums, tile);
  finish_vectors<false>(sums, tile, tile.scale != nullptr && tile.finish->result != ByteResult::float32);
}
/// Where all columns exist and results are bytes, made in registers.
template <int kRows, int kVectors>
[[gnu::always_inline]] inline void finish_whole_bytes(const Ints (&sums)[kVectors][kRows], const ByteResults& tile) {
  finish_vectors<true>(sums, tile, true);
}

}  // namespace tenfold::cpu::TENFOLD_TIER
