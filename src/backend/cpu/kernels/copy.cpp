#include "backend/cpu/kernels/copy.hpp"

#include <immintrin.h>

#include "backend/cpu/kernels/interleave.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

namespace {

void copy_rows(const std::byte* in, std::int64_t in_stride, std::byte* out, std::int64_t out_stride, std::int64_t rows,
               std::int64_t row_bytes) {
  constexpr std::int64_t kCallWorthwhile = 2048;
  if (row_bytes >= kCallWorthwhile) {
    for (std::int64_t r = 0; r < rows; ++r) {
      __builtin_memcpy(out + r * out_stride, in + r * in_stride, static_cast<std::size_t>(row_bytes));
    }
  } else if (row_bytes >= 32) {
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::byte* from = in + r * in_stride;
      std::byte* to = out + r * out_stride;
      std::int64_t i = 0;
      for (; i + 32 <= row_bytes; i += 32) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i),
                            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)));
      }
      if (i < row_bytes) {
        // The last 32 bytes again, overlapping what is written already.
        i = row_bytes - 32;
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i),
                            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)));
      }
    }
  } else if (row_bytes >= 8) {
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::byte* from = in + r * in_stride;
      std::byte* to = out + r * out_stride;
      for (std::int64_t i = 0; i + 8 <= row_bytes; i += 8) __builtin_memcpy(to + i, from + i, 8);
      __builtin_memcpy(to + row_bytes - 8, from + row_bytes - 8, 8);
    }
  } else {
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::byte* from = in + r * in_stride;
      std::byte* to = out + r * out_stride;
      for (std::int64_t i = 0; i < row_bytes; ++i) to[i] = from[i];
    }
  }
}

/// Aliases elements of any type of that size.
template <typename T>
struct [[gnu::may_alias]] Bits {
  T value;
};

template <typename T>
void transpose_plain(const Bits<T>* in, std::int64_t in_stride, Bits<T>* out, std::int64_t out_stride,
                     std::int64_t rows, std::int64_t cols) {
  // Tiles as wide as a cache line, so that every line fetched is used up before it is dropped.
  constexpr std::int64_t kTile =
      64 / static_cast<std::int64_t>(sizeof(T)) < 16 ? 16 : 64 / static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t c0 = 0; c0 < cols; c0 += kTile) {
    const std::int64_t c1 = c0 + kTile < cols ? c0 + kTile : cols;
    for (std::int64_t r0 = 0; r0 < rows; r0 += kTile) {
      const std::int64_t r1 = r0 + kTile < rows ? r0 + kTile : rows;
      for (std::int64_t c = c0; c < c1; ++c) {
        for (std::int64_t r = r0; r < r1; ++r) out[c * out_stride + r] = in[r * in_stride + c];
      }
    }
  }
}

inline void transpose_block(const float* in, std::int64_t in_stride, float* out, std::int64_t out_stride) {
  __m256 v[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) v[i] = _mm256_loadu_ps(in + i * in_stride);
  transpose_8x8(v);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) _mm256_storeu_ps(out + i * out_stride, v[i]);
}

/// The inverse of `interleave`: [rows, cols] -> [cols, rows] with cols < 8 and input rows without gaps. Returns the
/// rows done.
std::int64_t deinterleave(const float* in, float* out, std::int64_t out_stride, std::int64_t rows, std::int64_t cols) {
  std::int64_t r = 0;
  // The last of eight loads starts at row r + 7 and reads eight floats.
  for (; (rows - r - 7) * cols >= 8; r += 8) {
    __m256 v[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) v[i] = _mm256_loadu_ps(in + (r + i) * cols);
    transpose_8x8(v);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      if (i < cols) _mm256_storeu_ps(out + i * out_stride + r, v[i]);
    }
  }
  return r;
}

void transpose_floats(const float* in, std::int64_t in_stride, float* out, std::int64_t out_stride, std::int64_t rows,
                      std::int64_t cols) {
  if (rows >= 8 && cols >= 8) {
    // Blocks at the ends are moved back to overlap what is done already. Tiles: 16 columns are a line of the input, 64
    // rows four lines of each output row.
    for (std::int64_t c0 = 0; c0 < cols; c0 += 16) {
      const std::int64_t c1 = c0 + 16 < cols ? c0 + 16 : cols;
      for (std::int64_t r0 = 0; r0 < rows; r0 += 64) {
        const std::int64_t r1 = r0 + 64 < rows ? r0 + 64 : rows;
        for (std::int64_t c = c0; c < c1; c += 8) {
          const std::int64_t cc = c + 8 <= cols ? c : cols - 8;
          for (std::int64_t r = r0; r < r1; r += 8) {
            const std::int64_t rr = r + 8 <= rows ? r : rows - 8;
            transpose_block(in + rr * in_stride + cc, in_stride, out + cc * out_stride + rr, out_stride);
          }
        }
      }
    }
    return;
  }
  if (rows < 8 && out_stride == rows) return interleave(in, in_stride, out, rows, cols);
  const std::int64_t done = cols < 8 && in_stride == cols ? deinterleave(in, out, out_stride, rows, cols) : 0;
  for (std::int64_t c = 0; c < cols; ++c) {
    for (std::int64_t r = done; r < rows; ++r) out[c * out_stride + r] = in[r * in_stride + c];
  }
}

/// Images of two to four channels of bytes: [rows, cols] -> [cols, rows] without gaps. Each store writes 16 bytes, of
/// which the next one overwrites those beyond four columns. Returns the columns done.
std::int64_t interleave_bytes(const std::byte* in, std::int64_t in_stride, std::byte* out, std::int64_t rows,
                              std::int64_t cols) {
  // From [column][4] to [column][rows].
  const __m128i three = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
  const __m128i two = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1);
  std::int64_t c = 0;
  // The last of four stores begins 12 columns behind the first.
  for (; (cols - c - 12) * rows >= 16 && c + 16 <= cols; c += 16) {
    const auto row = [&](std::int64_t r) {
      return r < rows ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + r * in_stride + c)) : _mm_setzero_si128();
    };
    const __m128i first = row(0), second = row(1), third = row(2), fourth = row(3);
    const __m128i low01 = _mm_unpacklo_epi8(first, second), high01 = _mm_unpackhi_epi8(first, second);
    const __m128i low23 = _mm_unpacklo_epi8(third, fourth), high23 = _mm_unpackhi_epi8(third, fourth);
    const __m128i quads[4] = {_mm_unpacklo_epi16(low01, low23), _mm_unpackhi_epi16(low01, low23),
                              _mm_unpacklo_epi16(high01, high23), _mm_unpackhi_epi16(high01, high23)};
    for (int i = 0; i < 4; ++i) {
      const __m128i packed = rows == 4   ? quads[i]
                             : rows == 3 ? _mm_shuffle_epi8(quads[i], three)
                                         : _mm_shuffle_epi8(quads[i], two);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + (c + 4 * i) * rows), packed);
    }
  }
  return c;
}

void transpose(const std::byte* in, std::int64_t in_stride, std::byte* out, std::int64_t out_stride, std::int64_t rows,
               std::int64_t cols, int element_bytes) {
  const auto plain = [&](auto sample) {
    using T = decltype(sample);
    transpose_plain(reinterpret_cast<const Bits<T>*>(in), in_stride, reinterpret_cast<Bits<T>*>(out), out_stride, rows,
                    cols);
  };
  switch (element_bytes) {
    case 1:
      if (2 <= rows && rows <= 4 && out_stride == rows) {
        const std::int64_t done = interleave_bytes(in, in_stride, out, rows, cols);
        in += done;
        out += done * rows;
        cols -= done;
      }
      return plain(std::uint8_t{});
    case 2:
      return plain(std::uint16_t{});
    case 4:
      // Moving bit patterns through float registers changes nothing.
      return transpose_floats(reinterpret_cast<const float*>(in), in_stride, reinterpret_cast<float*>(out), out_stride,
                              rows, cols);
    default:
      return plain(std::uint64_t{});
  }
}

}  // namespace

extern const CopyKernels kCopyKernels;
const CopyKernels kCopyKernels = {copy_rows, transpose};

}  // namespace tenfold::cpu::TENFOLD_TIER
