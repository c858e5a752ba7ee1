// What elementary functions need of the tier's float vector beyond its arithmetic: its lanes as integers, roundings,
// reductions. elementary.hpp holds the functions.
#pragma once

#include <cmath>
#include <cstdint>
#include <immintrin.h>

#include "backend/cpu/kernels/simd.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

#if defined(__AVX512F__)
inline Mask is_nan(Vec a) { return _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q); }
#else
inline Mask is_nan(Vec a) { return _mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q); }
#endif

/// Lanes below `n` from memory, the others from `fill`; touches no memory beyond them.
inline Vec load_first_or(const float* p, int n, Vec fill) {
#if defined(__AVX512F__)
  return _mm512_mask_loadu_ps(fill.v, static_cast<__mmask16>((1U << n) - 1U), p);
#else
  const __m256i first = _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  return _mm256_blendv_ps(fill.v, _mm256_maskload_ps(p, first), _mm256_castsi256_ps(first));
#endif
}
/// True in the lanes below `n`.
inline Mask first_lanes(int n) {
#if defined(__AVX512F__)
  return static_cast<__mmask16>((1U << n) - 1U);
#else
  return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
#endif
}
/// Exchanges neighbouring groups of kLanes lanes, a power of two below kWidth.
template <int kLanes>
Vec swap_neighbours(Vec a) {
#if defined(__AVX512F__)
  if constexpr (kLanes == 8) return _mm512_shuffle_f32x4(a.v, a.v, 0x4e);
  if constexpr (kLanes == 4) return _mm512_shuffle_f32x4(a.v, a.v, 0xb1);
  if constexpr (kLanes == 2) return _mm512_permute_ps(a.v, 0x4e);
  if constexpr (kLanes == 1) return _mm512_permute_ps(a.v, 0xb1);
#else
  if constexpr (kLanes == 4) return _mm256_permute2f128_ps(a.v, a.v, 1);
  if constexpr (kLanes == 2) return _mm256_permute_ps(a.v, 0x4e);
  if constexpr (kLanes == 1) return _mm256_permute_ps(a.v, 0xb1);
#endif
}
inline float first_lane(Vec a) {
#if defined(__AVX512F__)
  return _mm512_cvtss_f32(a.v);
#else
  return _mm256_cvtss_f32(a.v);
#endif
}
inline float horizontal_max(Vec a) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(a.v);
#else
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
#endif
}
inline float horizontal_min(Vec a) { return -horizontal_max(-a); }

namespace math {

/// 32-bit integers, one for each float lane.
#if defined(__AVX512F__)
using Int = __m512i;
inline Int bits(Vec a) { return _mm512_castps_si512(a.v); }
inline Vec from_bits(Int a) { return Vec(_mm512_castsi512_ps(a)); }
inline Int ints(std::int32_t x) { return _mm512_set1_epi32(x); }
inline Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
inline Int sub(Int a, Int b) { return _mm512_sub_epi32(a, b); }
inline Int bit_and(Int a, Int b) { return _mm512_and_si512(a, b); }
inline Int bit_or(Int a, Int b) { return _mm512_or_si512(a, b); }
inline Int bit_xor(Int a, Int b) { return _mm512_xor_si512(a, b); }
template <int N>
Int shift_left(Int a) {
  return _mm512_slli_epi32(a, N);
}
template <int N>
Int shift_right(Int a) {
  return _mm512_srai_epi32(a, N);
}
inline Int to_int(Vec a) { return _mm512_cvtps_epi32(a.v); }
inline Vec to_float(Int a) { return Vec(_mm512_cvtepi32_ps(a)); }
inline Mask nonzero(Int a) { return _mm512_test_epi32_mask(a, a); }
constexpr bool lookup_is_cheap() { return true; }
/// Numbers of the table, by the lowest four bits of each lane.
inline Vec lookup(const float (&table)[16], Int a) { return Vec(_mm512_permutexvar_ps(a, _mm512_load_ps(table))); }

inline Vec sqrt(Vec a) { return Vec(_mm512_sqrt_ps(a.v)); }
inline Vec round(Vec a) { return Vec(_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); }
inline Vec floor(Vec a) { return Vec(_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)); }
inline Vec ceil(Vec a) { return Vec(_mm512_roundscale_ps(a.v, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC)); }
/// a * b - c
inline Vec fms(Vec a, Vec b, Vec c) { return Vec(_mm512_fmsub_ps(a.v, b.v, c.v)); }
#else
using Int = __m256i;
inline Int bits(Vec a) { return _mm256_castps_si256(a.v); }
inline Vec from_bits(Int a) { return Vec(_mm256_castsi256_ps(a)); }
inline Int ints(std::int32_t x) { return _mm256_set1_epi32(x); }
inline Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }
inline Int sub(Int a, Int b) { return _mm256_sub_epi32(a, b); }
inline Int bit_and(Int a, Int b) { return _mm256_and_si256(a, b); }
inline Int bit_or(Int a, Int b) { return _mm256_or_si256(a, b); }
inline Int bit_xor(Int a, Int b) { return _mm256_xor_si256(a, b); }
template <int N>
Int shift_left(Int a) {
  return _mm256_slli_epi32(a, N);
}
template <int N>
Int shift_right(Int a) {
  return _mm256_srai_epi32(a, N);
}
inline Int to_int(Vec a) { return _mm256_cvtps_epi32(a.v); }
inline Vec to_float(Int a) { return Vec(_mm256_cvtepi32_ps(a)); }
inline Mask nonzero(Int a) {
  return _mm256_castsi256_ps(_mm256_xor_si256(_mm256_cmpeq_epi32(a, _mm256_setzero_si256()), _mm256_set1_epi32(-1)));
}
constexpr bool lookup_is_cheap() { return false; }
/// Numbers of the table, by the lowest four bits of each lane.
inline Vec lookup(const float (&table)[16], Int a) {
  const __m256 low = _mm256_permutevar8x32_ps(_mm256_load_ps(table), a);
  const __m256 high = _mm256_permutevar8x32_ps(_mm256_load_ps(table + 8), a);
  return Vec(_mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(a, 28))));
}

inline Vec sqrt(Vec a) { return Vec(_mm256_sqrt_ps(a.v)); }
inline Vec round(Vec a) { return Vec(_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); }
inline Vec floor(Vec a) { return Vec(_mm256_round_ps(a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)); }
inline Vec ceil(Vec a) { return Vec(_mm256_round_ps(a.v, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC)); }
/// a * b - c
inline Vec fms(Vec a, Vec b, Vec c) { return Vec(_mm256_fmsub_ps(a.v, b.v, c.v)); }
#endif
inline Vec abs(Vec a) { return from_bits(bit_and(bits(a), ints(0x7fffffff))); }
// round: half to even.
inline Int sign_bit(Vec a) { return bit_and(bits(a), ints(INT32_MIN)); }
inline Vec with_sign(Vec magnitude, Int sign) { return from_bits(bit_or(bits(magnitude), sign)); }

namespace detail {
/// Lanes beyond the vector reduction's range go through the C library one by one.
inline Vec far_lanes(Vec x, Vec near, Mask far, float (*f)(float)) {
  alignas(64) float in[Vec::kWidth], out[Vec::kWidth];
  x.store(in);
  for (int i = 0; i < Vec::kWidth; ++i) out[i] = f(in[i]);
  return select(far, Vec::load(out), near);
}
}  // namespace detail

}  // namespace math

}  // namespace tenfold::cpu::TENFOLD_TIER

#include "backend/cpu/kernels/elementary.hpp"
