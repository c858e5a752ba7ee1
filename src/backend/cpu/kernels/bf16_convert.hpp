// bfloat16 in memory, float32 in registers: rounded to nearest even, NaN kept.
#pragma once

#include <cstdint>
#include <cstring>

#include "backend/cpu/kernels/simd.hpp"
#include "backend/cpu/kernels/split.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

// A bfloat16 is the upper half of a float32, so reading one is a shift.
#if defined(__AVX512F__)

/// By the processor's instruction. Requires has_bf16_dot(); as text, because the tier must be compiled for processors
/// without.
inline __m256i to_bf16(Vec x) {
  __m256i result;
  asm("vcvtneps2bf16 %1, %0" : "=v"(result) : "v"(x.v));
  return result;
}
/// Numbers that bfloat16 holds; on every processor.
inline __m256i upper_halves(Vec x) { return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(x.v), 16)); }
inline Vec from_bf16(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }
inline void store_halves(__m256i x, std::uint16_t* p) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x); }
inline void store_first_halves(__m256i x, std::uint16_t* p, int n) {
  _mm256_mask_storeu_epi16(p, static_cast<__mmask16>((1U << n) - 1U), x);
}
inline Vec load_bf16(const std::uint16_t* p) {
  return from_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Vec load_first_bf16(const std::uint16_t* p, int n) {
  return from_bf16(_mm256_maskz_loadu_epi16(static_cast<__mmask16>((1U << n) - 1U), p));
}

#else

/// The lower halves of 8 numbers that fit in them.
inline __m128i packed_halves(__m256i x) {
  return _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
}
inline __m128i to_bf16(Vec x) {
  const __m256i bits = _mm256_castps_si256(x.v), upper = _mm256_srli_epi32(bits, 16);
  const __m256i half = _mm256_add_epi32(_mm256_and_si256(upper, _mm256_set1_epi32(1)), _mm256_set1_epi32(0x7fff));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
  const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x.v, x.v, _CMP_UNORD_Q));
  return packed_halves(_mm256_blendv_epi8(rounded, quiet, is_nan));
}
inline __m128i upper_halves(Vec x) { return packed_halves(_mm256_srli_epi32(_mm256_castps_si256(x.v), 16)); }
inline Vec from_bf16(__m128i x) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16)); }
inline void store_halves(__m128i x, std::uint16_t* p) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), x); }
inline void store_first_halves(__m128i x, std::uint16_t* p, int n) {
  alignas(16) std::uint16_t all[8];
  _mm_store_si128(reinterpret_cast<__m128i*>(all), x);
  std::memcpy(p, all, static_cast<std::size_t>(n) * sizeof *p);
}
inline Vec load_bf16(const std::uint16_t* p) { return from_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline Vec load_first_bf16(const std::uint16_t* p, int n) {
  alignas(16) std::uint16_t all[8] = {};
  std::memcpy(all, p, static_cast<std::size_t>(n) * sizeof *p);
  return from_bf16(_mm_load_si128(reinterpret_cast<const __m128i*>(all)));
}

#endif

/// Numbers as they are stored, T being float or std::uint16_t for bfloat16.
inline Vec load_number(const float* p) { return Vec::load(p); }
inline Vec load_number(const std::uint16_t* p) { return load_bf16(p); }
inline Vec load_first_numbers(const float* p, int n) { return Vec::load_first(p, n); }
inline Vec load_first_numbers(const std::uint16_t* p, int n) { return load_first_bf16(p, n); }
/// Rounded, see to_bf16.
inline void store_number(Vec x, float* p) { x.store(p); }
inline void store_number(Vec x, std::uint16_t* p) { store_halves(to_bf16(x), p); }
inline void store_first_numbers(Vec x, float* p, int n) { x.store_first(p, n); }
inline void store_first_numbers(Vec x, std::uint16_t* p, int n) { store_first_halves(to_bf16(x), p, n); }

/// Rows of float32 rounded to bfloat16; `stride` in bytes.
inline void round_rows(const float* from, std::int64_t from_stride, std::int64_t rows, std::int64_t numbers,
                       std::uint8_t* to, std::int64_t stride) {
  constexpr std::int64_t kNumber = 2;
  // Rows without gaps are one long row.
  if (from_stride == numbers && stride == kNumber * numbers) {
    numbers *= rows;
    rows = rows > 0 ? 1 : 0;
  }
  for (std::int64_t r = 0; r < rows; ++r, from += from_stride, to += stride) {
    auto* out = reinterpret_cast<std::uint16_t*>(to);
    std::int64_t i = 0;
    for (; i + Vec::kWidth <= numbers; i += Vec::kWidth) store_number(Vec::load(from + i), out + i);
    if (i == numbers) continue;
    const int rest = static_cast<int>(numbers - i);
    store_first_numbers(Vec::load_first(from + i, rest), out + i, rest);
  }
}

/// Is there neither infinity nor NaN?
inline bool are_finite(const std::uint16_t* p, std::int64_t count) {
  Vec sum = Vec::zero();
  for (std::int64_t i = 0; i < count; i += Vec::kWidth) {
    const std::int64_t rest = count - i;
    const Vec x = rest < Vec::kWidth ? load_first_bf16(p + i, static_cast<int>(rest)) : load_bf16(p + i);
    sum = fma(x, Vec::zero(), sum);
  }
  return sum.sum() == 0;
}

}  // namespace tenfold::cpu::TENFOLD_TIER
