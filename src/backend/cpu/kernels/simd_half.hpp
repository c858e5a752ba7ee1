// Half of the tier's vector, where half of it is worth having.
#pragma once

#include "backend/cpu/kernels/simd.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// The lower half of a vector, for a last vector with so few columns. Where two halves take the time of a whole one it
/// saves that time; elsewhere it costs nothing.
#if defined(__AVX512F__)
struct Half {
  static constexpr int kWidth = Vec::kWidth / 2;
  __m256 v;
  Half() = default;
  Half(__m256 x) : v(x) {}  // NOLINT(google-explicit-constructor): an intrinsic's result is a vector
  explicit Half(float x) : v(_mm256_set1_ps(x)) {}
  explicit Half(Vec x) : v(_mm512_castps512_ps256(x.v)) {}
  static Half zero() { return _mm256_setzero_ps(); }
  static Half broadcast(const float* p) { return _mm256_broadcast_ss(p); }
  static Half load(const float* p) { return _mm256_loadu_ps(p); }
  static Half load_first(const float* p, int n) { return _mm256_maskz_loadu_ps(first(n), p); }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store_first(float* p, int n) const { _mm256_mask_storeu_ps(p, first(n), v); }
  friend Half operator+(Half a, Half b) { return _mm256_add_ps(a.v, b.v); }
  friend Half operator*(Half a, Half b) { return _mm256_mul_ps(a.v, b.v); }
  friend __mmask8 operator<(Half a, Half b) { return _mm256_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ); }
  friend Half fma(Half a, Half b, Half c) { return _mm256_fmadd_ps(a.v, b.v, c.v); }

 private:
  static __mmask8 first(int n) { return static_cast<__mmask8>((1U << n) - 1U); }
};
namespace math {
inline Half max(Half a, Half b) { return _mm256_max_ps(b.v, a.v); }
inline Half min(Half a, Half b) { return _mm256_min_ps(b.v, a.v); }
inline Half select(__mmask8 m, Half yes, Half no) { return _mm256_mask_blend_ps(m, no.v, yes.v); }
}  // namespace math
inline constexpr bool kHasHalf = true;
#else
struct Half : Vec {
  Half() = default;
  Half(Vec x) : Vec(x) {}  // NOLINT(google-explicit-constructor): it is one
};
inline constexpr bool kHasHalf = false;
#endif

}  // namespace tenfold::cpu::TENFOLD_TIER
