// The tier's vector of floats: 8 (AVX2) or 16 (AVX-512) lanes, with the operations that kernels are written in.
//
// Only for files in kernels/, see tier.hpp. `math::` holds what the formulas of ops/pointwise.hpp use by that name.
#pragma once

#include <cstdint>
#include <immintrin.h>

namespace tenfold::cpu::TENFOLD_TIER {

#if defined(__AVX512F__)

struct Vec {
  static constexpr int kWidth = 16;
  __m512 v;

  Vec() = default;
  Vec(__m512 x) : v(x) {}  // NOLINT(google-explicit-constructor): an intrinsic's result is a vector
  explicit Vec(float x) : v(_mm512_set1_ps(x)) {}
  static Vec zero() { return _mm512_setzero_ps(); }
  static Vec load(const float* p) { return _mm512_loadu_ps(p); }
  /// All lanes hold *p.
  static Vec broadcast(const float* p) { return _mm512_set1_ps(*p); }
  /// The first `n` floats (0 <= n <= kWidth), zeros above; touches no memory beyond them.
  static Vec load_first(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store_first(float* p, int n) const { _mm512_mask_storeu_ps(p, first(n), v); }
  float sum() const { return _mm512_reduce_add_ps(v); }

 private:
  static __mmask16 first(int n) { return static_cast<__mmask16>((1U << n) - 1U); }
};

/// One truth value for each lane.
struct Mask {
  __mmask16 m;
  Mask(__mmask16 x) : m(x) {}  // NOLINT(google-explicit-constructor)
};
inline Mask operator&(Mask a, Mask b) { return static_cast<__mmask16>(a.m & b.m); }
inline Mask operator|(Mask a, Mask b) { return static_cast<__mmask16>(a.m | b.m); }
inline bool any(Mask a) { return a.m != 0; }
inline Mask operator<(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ); }
inline Mask operator==(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ); }

inline Vec operator+(Vec a, Vec b) { return _mm512_add_ps(a.v, b.v); }
inline Vec operator-(Vec a, Vec b) { return _mm512_sub_ps(a.v, b.v); }
inline Vec operator*(Vec a, Vec b) { return _mm512_mul_ps(a.v, b.v); }
inline Vec operator/(Vec a, Vec b) { return _mm512_div_ps(a.v, b.v); }
inline Vec operator-(Vec a) { return _mm512_xor_ps(a.v, _mm512_set1_ps(-0.0F)); }
/// a * b + c, rounded once.
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a.v, b.v, c.v); }
/// c - a * b, rounded once.
inline Vec fnma(Vec a, Vec b, Vec c) { return _mm512_fnmadd_ps(a.v, b.v, c.v); }

namespace math {
/// The larger one. NaN in either gives NaN in `a`'s place: max(NaN, x) is NaN, max(x, NaN) is x.
inline Vec max(Vec a, Vec b) { return _mm512_max_ps(b.v, a.v); }
inline Vec min(Vec a, Vec b) { return _mm512_min_ps(b.v, a.v); }
inline Vec select(Mask m, Vec yes, Vec no) { return _mm512_mask_blend_ps(m.m, no.v, yes.v); }
}  // namespace math

#else

struct Vec {
  static constexpr int kWidth = 8;
  __m256 v;

  Vec() = default;
  Vec(__m256 x) : v(x) {}  // NOLINT(google-explicit-constructor): an intrinsic's result is a vector
  explicit Vec(float x) : v(_mm256_set1_ps(x)) {}
  static Vec zero() { return _mm256_setzero_ps(); }
  static Vec load(const float* p) { return _mm256_loadu_ps(p); }
  /// All lanes hold *p.
  static Vec broadcast(const float* p) { return _mm256_broadcast_ss(p); }
  /// The first `n` floats (0 <= n <= kWidth), zeros above; touches no memory beyond them.
  static Vec load_first(const float* p, int n) { return _mm256_maskload_ps(p, first(n)); }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store_first(float* p, int n) const { _mm256_maskstore_ps(p, first(n), v); }
  float sum() const {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }

 private:
  static __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
};

/// One truth value for each lane.
struct Mask {
  __m256 m;
  Mask(__m256 x) : m(x) {}  // NOLINT(google-explicit-constructor)
};
inline Mask operator&(Mask a, Mask b) { return _mm256_and_ps(a.m, b.m); }
inline Mask operator|(Mask a, Mask b) { return _mm256_or_ps(a.m, b.m); }
inline bool any(Mask a) { return _mm256_movemask_ps(a.m) != 0; }
inline Mask operator<(Vec a, Vec b) { return _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ); }
inline Mask operator==(Vec a, Vec b) { return _mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ); }

inline Vec operator+(Vec a, Vec b) { return _mm256_add_ps(a.v, b.v); }
inline Vec operator-(Vec a, Vec b) { return _mm256_sub_ps(a.v, b.v); }
inline Vec operator*(Vec a, Vec b) { return _mm256_mul_ps(a.v, b.v); }
inline Vec operator/(Vec a, Vec b) { return _mm256_div_ps(a.v, b.v); }
inline Vec operator-(Vec a) { return _mm256_xor_ps(a.v, _mm256_set1_ps(-0.0F)); }
/// a * b + c, rounded once.
inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a.v, b.v, c.v); }
/// c - a * b, rounded once.
inline Vec fnma(Vec a, Vec b, Vec c) { return _mm256_fnmadd_ps(a.v, b.v, c.v); }

namespace math {
/// The larger one. NaN in either gives NaN in `a`'s place: max(NaN, x) is NaN, max(x, NaN) is x.
inline Vec max(Vec a, Vec b) { return _mm256_max_ps(b.v, a.v); }
inline Vec min(Vec a, Vec b) { return _mm256_min_ps(b.v, a.v); }
inline Vec select(Mask m, Vec yes, Vec no) { return _mm256_blendv_ps(no.v, yes.v, m.m); }
}  // namespace math

#endif

}  // namespace tenfold::cpu::TENFOLD_TIER
