// Planes of a few channels become pixels: [channels][pixels] -> [pixels][channels].
#pragma once

#include <cstdint>
#include <immintrin.h>

#include "backend/cpu/kernels/simd.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// Transposes eight vectors of eight floats in registers.
inline void transpose_8x8(__m256 (&v)[8]) {
  const __m256 a0 = _mm256_unpacklo_ps(v[0], v[1]), a1 = _mm256_unpackhi_ps(v[0], v[1]);
  const __m256 a2 = _mm256_unpacklo_ps(v[2], v[3]), a3 = _mm256_unpackhi_ps(v[2], v[3]);
  const __m256 a4 = _mm256_unpacklo_ps(v[4], v[5]), a5 = _mm256_unpackhi_ps(v[4], v[5]);
  const __m256 a6 = _mm256_unpacklo_ps(v[6], v[7]), a7 = _mm256_unpackhi_ps(v[6], v[7]);
  const __m256 b0 = _mm256_shuffle_ps(a0, a2, 0x44), b1 = _mm256_shuffle_ps(a0, a2, 0xee);
  const __m256 b2 = _mm256_shuffle_ps(a1, a3, 0x44), b3 = _mm256_shuffle_ps(a1, a3, 0xee);
  const __m256 b4 = _mm256_shuffle_ps(a4, a6, 0x44), b5 = _mm256_shuffle_ps(a4, a6, 0xee);
  const __m256 b6 = _mm256_shuffle_ps(a5, a7, 0x44), b7 = _mm256_shuffle_ps(a5, a7, 0xee);
  v[0] = _mm256_permute2f128_ps(b0, b4, 0x20);
  v[1] = _mm256_permute2f128_ps(b1, b5, 0x20);
  v[2] = _mm256_permute2f128_ps(b2, b6, 0x20);
  v[3] = _mm256_permute2f128_ps(b3, b7, 0x20);
  v[4] = _mm256_permute2f128_ps(b0, b4, 0x31);
  v[5] = _mm256_permute2f128_ps(b1, b5, 0x31);
  v[6] = _mm256_permute2f128_ps(b2, b6, 0x31);
  v[7] = _mm256_permute2f128_ps(b3, b7, 0x31);
}

/// Three planes: number i of plane c goes to position 3 i + c. Modulo the vector's width 3 i takes every value once, so
/// each plane needs one permutation, and the three results are blends of them.
struct ThreePlanes {
  static constexpr int kWidth = Vec::kWidth;

  /// Where lane l of permuted plane c comes from: the inverse of 3 is 11 modulo 16 and 3 modulo 8.
  struct Order {
    alignas(64) std::int32_t lanes[3][kWidth];
  };
  static constexpr Order order() {
    Order all{};
    for (int c = 0; c < 3; ++c) {
      for (int l = 0; l < kWidth; ++l) all.lanes[c][l] = (kWidth == 16 ? 11 : 3) * (l - c + kWidth) % kWidth;
    }
    return all;
  }
  /// The lanes of result `v` that hold plane `c`.
  static constexpr unsigned lanes_of(int v, int c) {
    unsigned mask = 0;
    for (int l = 0; l < kWidth; ++l) mask |= (v * kWidth + l) % 3 == c ? 1U << l : 0U;
    return mask;
  }

#if defined(__AVX512F__)
  using Index = __m512i;
  static Index load_index(const std::int32_t* p) { return _mm512_load_si512(p); }
  static Vec permute(Vec x, Index index) { return _mm512_permutexvar_ps(index, x.v); }
  template <int kResult>
  static Vec blend(const Vec (&p)[3]) {
    const __m512 two = _mm512_mask_blend_ps(static_cast<__mmask16>(lanes_of(kResult, 1)), p[0].v, p[1].v);
    return _mm512_mask_blend_ps(static_cast<__mmask16>(lanes_of(kResult, 2)), two, p[2].v);
  }
#else
  using Index = __m256i;
  static Index load_index(const std::int32_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
  static Vec permute(Vec x, Index index) { return _mm256_permutevar8x32_ps(x.v, index); }
  template <int kResult>
  static Vec blend(const Vec (&p)[3]) {
    const __m256 two = _mm256_blend_ps(p[0].v, p[1].v, lanes_of(kResult, 1));
    return _mm256_blend_ps(two, p[2].v, lanes_of(kResult, 2));
  }
#endif

  /// Returns the pixels done: whole vectors.
  static std::int64_t run(const float* in, std::int64_t plane, float* out, std::int64_t pixels) {
    static constexpr Order kOrder = order();
    const Index index[3] = {load_index(kOrder.lanes[0]), load_index(kOrder.lanes[1]), load_index(kOrder.lanes[2])};
    std::int64_t i = 0;
    for (; i + kWidth <= pixels; i += kWidth) {
      const Vec p[3] = {permute(Vec::load(in + i), index[0]), permute(Vec::load(in + plane + i), index[1]),
                        permute(Vec::load(in + 2 * plane + i), index[2])};
      blend<0>(p).store(out + 3 * i);
      blend<1>(p).store(out + 3 * i + kWidth);
      blend<2>(p).store(out + 3 * i + 2 * kWidth);
    }
    return i;
  }
};

/// out[i * channels + c] = in[c * plane + i] for i < pixels. Touches nothing else.
inline void interleave(const float* in, std::int64_t plane, float* out, std::int64_t channels, std::int64_t pixels) {
  std::int64_t i = 0;
  if (channels == 3) {
    i = ThreePlanes::run(in, plane, out, pixels);
  } else if (channels < 8) {
    // Each store writes eight floats, of which the next one overwrites those beyond `channels`.
    for (; (pixels - i - 7) * channels >= 8; i += 8) {
      __m256 v[8];
#pragma GCC unroll 8
      for (int c = 0; c < 8; ++c) v[c] = c < channels ? _mm256_loadu_ps(in + c * plane + i) : _mm256_setzero_ps();
      transpose_8x8(v);
#pragma GCC unroll 8
      for (int c = 0; c < 8; ++c) _mm256_storeu_ps(out + (i + c) * channels, v[c]);
    }
  }
  for (; i < pixels; ++i) {
    for (std::int64_t c = 0; c < channels; ++c) out[i * channels + c] = in[c * plane + i];
  }
}

}  // namespace tenfold::cpu::TENFOLD_TIER
