#include "backend/cpu/kernels/pool.hpp"

#include "backend/cpu/kernels/bf16_convert.hpp"
#include "backend/cpu/kernels/simd.hpp"
#include "backend/cpu/kernels/simd_int.hpp"
#include "backend/cpu/kernels/simd_math.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

namespace {

constexpr int kWidth = Vec::kWidth;

/// The part of a window along one axis that lies inside the input: taps [first, last), and how many count for an
/// average.
struct Taps {
  std::int64_t first, last, start, count;
};
Taps taps_at(const PoolShape& shape, int axis, std::int64_t position) {
  Taps taps{};
  taps.start = position * shape.stride[axis] - shape.pad_begin[axis];
  const std::int64_t d = shape.dilation[axis];
  if (taps.start >= 0 && taps.start + (shape.kernel[axis] - 1) * d < shape.in[axis]) {
    taps.last = taps.count = shape.kernel[axis];
    return taps;
  }
  taps.first = taps.start < 0 ? (-taps.start + d - 1) / d : 0;
  // Taps below `end`: start + k d < in.
  const auto below = [&](std::int64_t end) {
    const std::int64_t k = end <= taps.start ? 0 : (end - taps.start + d - 1) / d;
    return k < shape.kernel[axis] ? k : shape.kernel[axis];
  };
  taps.last = below(shape.in[axis]);
  if (taps.first > taps.last) taps.first = taps.last;
  taps.count = shape.include_pad ? below(shape.in[axis] + shape.pad_end[axis]) : taps.last - taps.first;
  return taps;
}

/// A result, which is an element where maxima of bfloat16 numbers are taken.
inline void store_result(Vec x, float* p) { x.store(p); }
inline void store_result(Vec x, std::uint16_t* p) { store_halves(upper_halves(x), p); }
inline void store_first_results(Vec x, float* p, int n) { x.store_first(p, n); }
inline void store_first_results(Vec x, std::uint16_t* p, int n) { store_first_halves(upper_halves(x), p, n); }

struct MaxRule {
  static Vec start() { return Vec(-INFINITY); }
  static Vec join(Vec acc, Vec x) { return math::max(acc, x); }
};
struct SumRule {
  static Vec start() { return Vec(0.0F); }
  static Vec join(Vec acc, Vec x) { return acc + x; }
};

/// How the windows of an output line's pixel lie in the input.
struct PixelTaps {
  Taps z, y, x;
};

/// One output pixel, kVecs vectors of channels, of which the last one begins at channel `last` and, unless kWhole, has
/// `lanes` only. kColumns: taps along the line, 0 if it is any other number.
template <typename Rule, int kVecs, bool kWhole, int kColumns, typename T>
inline void pixel_of(const PoolShape& shape, const T* x, std::int64_t x_pitch, const PixelTaps& taps, T* y,
                     std::int64_t last, int lanes, Vec factor) {
  const auto channel = [&](int v) { return v == kVecs - 1 ? last : v * kWidth; };
  Vec acc[kVecs];
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) acc[v] = Rule::start();
  const std::int64_t column = shape.dilation[2] * x_pitch;
  const auto join = [&](const T* p) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      const T* at = p + channel(v);
      acc[v] = Rule::join(acc[v], !kWhole && v == kVecs - 1 ? load_first_numbers(at, lanes) : load_number(at));
    }
  };
  const T* plane = x + (taps.x.start + taps.x.first * shape.dilation[2]) * x_pitch;
  for (std::int64_t kz = taps.z.first; kz < taps.z.last; ++kz) {
    const std::int64_t z = (taps.z.start + kz * shape.dilation[0]) * shape.in[1];
    for (std::int64_t ky = taps.y.first; ky < taps.y.last; ++ky) {
      const T* p = plane + (z + taps.y.start + ky * shape.dilation[1]) * shape.in[2] * x_pitch;
      if constexpr (kColumns > 0) {
#pragma GCC unroll 4
        for (int kx = 0; kx < kColumns; ++kx) join(p + kx * column);
      } else {
        for (std::int64_t kx = taps.x.first; kx < taps.x.last; ++kx, p += column) join(p);
      }
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) {
    const Vec result = shape.average ? acc[v] / factor : acc[v];
    if (!kWhole && v == kVecs - 1) {
      store_first_results(result, y + channel(v), lanes);
    } else {
      store_result(result, y + channel(v));
    }
  }
}

template <typename Rule, int kVecs, bool kWhole, typename T>
inline void pixel(const PoolShape& shape, const T* x, std::int64_t x_pitch, const PixelTaps& taps, T* y,
                  std::int64_t last, int lanes, Vec factor) {
  switch (taps.x.last - taps.x.first) {
    case 2:
      return pixel_of<Rule, kVecs, kWhole, 2>(shape, x, x_pitch, taps, y, last, lanes, factor);
    case 3:
      return pixel_of<Rule, kVecs, kWhole, 3>(shape, x, x_pitch, taps, y, last, lanes, factor);
    default:
      return pixel_of<Rule, kVecs, kWhole, 0>(shape, x, x_pitch, taps, y, last, lanes, factor);
  }
}

template <typename Rule, typename T>
void run_nhwc(const PoolShape& shape, const T* x, std::int64_t x_pitch, T* y, std::int64_t y_pitch,
              std::int64_t channels, std::int64_t row_begin, std::int64_t row_end) {
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    PixelTaps taps{taps_at(shape, 0, row / shape.out[1]), taps_at(shape, 1, row % shape.out[1]), {}};
    for (std::int64_t ox = 0; ox < shape.out[2]; ++ox) {
      taps.x = taps_at(shape, 2, ox);
      const std::int64_t count = taps.z.count * taps.y.count * taps.x.count;
      // A window without a single element gives 0 as an average.
      const Vec divisor(count == 0 ? 1.0F : static_cast<float>(count));
      T* out = y + (row * shape.out[2] + ox) * y_pitch;
      if (channels < kWidth) {
        pixel<Rule, 1, false>(shape, x, x_pitch, taps, out, 0, static_cast<int>(channels), divisor);
        continue;
      }
      for (std::int64_t c = 0; c < channels; c += 4 * kWidth) {
        // A last vector that is not whole begins further to the left: what is written twice is the same.
        const std::int64_t rest = channels - c;
        const std::int64_t last = rest < 4 * kWidth ? rest - kWidth : 3 * kWidth;
        const auto run = last > 2 * kWidth ? pixel<Rule, 4, true, T>
                         : last > kWidth   ? pixel<Rule, 3, true, T>
                         : last > 0        ? pixel<Rule, 2, true, T>
                                           : pixel<Rule, 1, true, T>;
        run(shape, x + c, x_pitch, taps, out + c, last, kWidth, divisor);
      }
    }
  }
}

template <bool kSigned>
void run_nhwc_bytes(const PoolShape& shape, const std::uint8_t* x, std::int64_t x_pitch, std::uint8_t* y,
                    std::int64_t y_pitch, std::int64_t channels, std::int64_t row_begin, std::int64_t row_end) {
  const Ints lowest(kSigned ? static_cast<std::int32_t>(0x80808080U) : 0);
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const Taps tz = taps_at(shape, 0, row / shape.out[1]);
    const Taps ty = taps_at(shape, 1, row % shape.out[1]);
    for (std::int64_t ox = 0; ox < shape.out[2]; ++ox) {
      const Taps tx = taps_at(shape, 2, ox);
      std::uint8_t* out = y + (row * shape.out[2] + ox) * y_pitch;
      for (std::int64_t c = 0; c < channels; c += Ints::kBytes) {
        Ints most = lowest;
        for (std::int64_t kz = tz.first; kz < tz.last; ++kz) {
          for (std::int64_t ky = ty.first; ky < ty.last; ++ky) {
            const std::uint8_t* line =
                x + ((tz.start + kz * shape.dilation[0]) * shape.in[1] + ty.start + ky * shape.dilation[1]) *
                        shape.in[2] * x_pitch;
            for (std::int64_t kx = tx.first; kx < tx.last; ++kx) {
              const std::uint8_t* p = line + (tx.start + kx * shape.dilation[2]) * x_pitch + c;
              const Ints at = Ints::load_first_bytes(p, channels - c);
              most = kSigned ? max_signed_bytes(most, at) : max_unsigned_bytes(most, at);
            }
          }
        }
        most.store_first_bytes(out + c, channels - c);
      }
    }
  }
}

void nhwc_bytes(const PoolShape& shape, bool is_signed, const std::uint8_t* x, std::int64_t x_pitch, std::uint8_t* y,
                std::int64_t y_pitch, std::int64_t channels, std::int64_t row_begin, std::int64_t row_end) {
  (is_signed ? run_nhwc_bytes<true> : run_nhwc_bytes<false>)(shape, x, x_pitch, y, y_pitch, channels, row_begin,
                                                             row_end);
}

void nhwc(const PoolShape& shape, const float* x, std::int64_t x_pitch, float* y, std::int64_t y_pitch,
          std::int64_t channels, std::int64_t row_begin, std::int64_t row_end) {
  if (shape.average) {
    run_nhwc<SumRule>(shape, x, x_pitch, y, y_pitch, channels, row_begin, row_end);
  } else {
    run_nhwc<MaxRule>(shape, x, x_pitch, y, y_pitch, channels, row_begin, row_end);
  }
}

void nhwc_bf16(const PoolShape& shape, const std::uint16_t* x, std::int64_t x_pitch, std::uint16_t* y,
               std::int64_t y_pitch, std::int64_t channels, std::int64_t row_begin, std::int64_t row_end) {
  run_nhwc<MaxRule>(shape, x, x_pitch, y, y_pitch, channels, row_begin, row_end);
}

/// kWidth floats that are two apart.
inline Vec load_every_second(const float* p) {
#if defined(__AVX512F__)
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return _mm512_permutex2var_ps(_mm512_loadu_ps(p), even, _mm512_loadu_ps(p + 16));
#else
  const __m256 pairs = _mm256_shuffle_ps(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8), 0x88);
  return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(pairs), 0xd8));
#endif
}

/// The window is separable: first down the columns of a stretch of rows into a buffer that includes the padding, then
/// along the buffer.
template <typename Rule>
void run_plane(const PoolShape& shape, const float* x, float* y) {
  constexpr std::int64_t kBuffer = 4096;
  // Room for whole vectors of every second element behind the last output.
  alignas(64) float buffer[kBuffer + 4 * kWidth];
  float divisor[kBuffer];
  const std::int64_t stride = shape.stride[2], dilation = shape.dilation[2];
  const std::int64_t reach = (shape.kernel[2] - 1) * dilation;
  std::int64_t chunk = (kBuffer - 1 - reach) / stride + 1;  // outputs whose windows fit into the buffer
  if (chunk > shape.out[2]) chunk = shape.out[2];
  for (std::int64_t x0 = 0; x0 < shape.out[2]; x0 += chunk) {
    const std::int64_t count = shape.out[2] - x0 < chunk ? shape.out[2] - x0 : chunk;
    const std::int64_t start = x0 * stride - shape.pad_begin[2];  // input position of buffer[0]
    const std::int64_t span = (count - 1) * stride + reach + 1;
    // The part of the buffer that input elements fill.
    const std::int64_t from = start < 0 ? -start : 0;
    const std::int64_t to = span < shape.in[2] - start ? span : shape.in[2] - start;
    if (shape.average) {
      for (std::int64_t i = 0; i < count; ++i) divisor[i] = static_cast<float>(taps_at(shape, 2, x0 + i).count);
    }
    for (std::int64_t i = 0; i < span + 4 * kWidth && i < kBuffer + 4 * kWidth; i += kWidth) {
      if (i + kWidth <= kBuffer + 4 * kWidth) Rule::start().store(buffer + i);
    }
    for (std::int64_t row = 0; row < shape.out[0] * shape.out[1]; ++row) {
      const Taps tz = taps_at(shape, 0, row / shape.out[1]);
      const Taps ty = taps_at(shape, 1, row % shape.out[1]);
      for (std::int64_t i = from; i < to; i += kWidth) {
        const int n = to - i < kWidth ? static_cast<int>(to - i) : kWidth;
        Vec acc = Rule::start();
        for (std::int64_t kz = tz.first; kz < tz.last; ++kz) {
          for (std::int64_t ky = ty.first; ky < ty.last; ++ky) {
            const float* p =
                x +
                ((tz.start + kz * shape.dilation[0]) * shape.in[1] + ty.start + ky * shape.dilation[1]) * shape.in[2] +
                start + i;
            acc = Rule::join(acc, n == kWidth ? Vec::load(p) : Vec::load_first(p, n));
          }
        }
        if (n == kWidth) {
          acc.store(buffer + i);
        } else {
          acc.store_first(buffer + i, n);
        }
      }
      float* out = y + row * shape.out[2] + x0;
      std::int64_t i = 0;
      for (; i + kWidth <= count && stride <= 2; i += kWidth) {
        Vec acc = Rule::start();
        for (std::int64_t k = 0; k < shape.kernel[2]; ++k) {
          const float* p = buffer + i * stride + k * dilation;
          acc = Rule::join(acc, stride == 1 ? Vec::load(p) : load_every_second(p));
        }
        acc.store(out + i);
      }
      for (; i < count; ++i) {
        Vec acc = Rule::start();
        for (std::int64_t k = 0; k < shape.kernel[2]; ++k) {
          acc = Rule::join(acc, Vec(buffer[i * stride + k * dilation]));
        }
        acc.store_first(out + i, 1);
      }
      if (shape.average) {
        const auto rows = static_cast<float>(tz.count * ty.count);
        for (i = 0; i < count; ++i) {
          const float n = rows * divisor[i];
          out[i] = n == 0.0F ? 0.0F : out[i] / n;
        }
      }
    }
  }
}

void plane(const PoolShape& shape, const float* x, float* y) {
  if (shape.average) {
    run_plane<SumRule>(shape, x, y);
  } else {
    run_plane<MaxRule>(shape, x, y);
  }
}

}  // namespace

extern const PoolKernels kPoolKernels;
const PoolKernels kPoolKernels = {nhwc, nhwc_bf16, nhwc_bytes, plane};

}  // namespace tenfold::cpu::TENFOLD_TIER
