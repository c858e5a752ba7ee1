// Elementary functions on float vectors, elementwise and without branches except where noted. They are written over
// names that stand before this file: of a tier's vectors (simd_math.hpp), or of the values that a trace records
// (pointwise_trace.cpp).
//
// Each reduces its argument to a small interval and evaluates a polynomial or a rational function there. The
// coefficients are minimax fits (Lawson's reweighted least squares against 40-digit values), rounded to float one after
// the other from the lowest order, the rest fitted again each time. Errors stated below are the largest over the floats
// of the range, in units in the last place of the result; test/unit/kernels_math.cpp measures them.
// NaN gives NaN; infinities and zeros give what the C library gives, except where noted.
#pragma once

#include <cmath>
#include <cstdint>

namespace tenfold::cpu::TENFOLD_TIER {

namespace math {

/// c[0] + c[1] x + c[2] x^2 + ...
template <typename... C>
Vec polynomial(Vec x, float c, C... rest) {
  if constexpr (sizeof...(rest) == 0) {
    return Vec(c);
  } else {
    return fma(polynomial(x, rest...), x, Vec(c));
  }
}

/// 2^n for -126 <= n <= 127.
inline Vec exp2_integer(Int n) { return from_bits(shift_left<23>(add(n, ints(127)))); }

namespace detail {
/// x = n ln2 + r, |r| <= ln2 / 2: leaves n, returns e^r.
inline Vec exp_reduced(Vec x, Vec& n) {
  n = round(x * Vec(0x1.715476p+0F));
  Vec r = fnma(n, Vec(0x1.62e43p-1F), x);
  r = fnma(n, Vec(-0x1.05c61p-29F), r);
  const Vec q = polynomial(r, 0x1.fffffcp-2F, 0x1.555492p-3F, 0x1.5558bp-5F, 0x1.12398ep-7F, 0x1.6a4d6p-10F);
  return fma(q, r * r, r) + Vec(1.0F);
}
}  // namespace detail

/// e^x; 1.1 ulp, gradual underflow included.
inline Vec exp(Vec x) {
  // Outside, the result is 0 or infinity. The bounds leave room for both halves of the exponent.
  x = min(max(x, Vec(-110.0F)), Vec(90.0F));
  Vec n;
  const Vec p = detail::exp_reduced(x, n);
  const Int k = to_int(n);
  const Int half = shift_right<1>(k);
  return p * exp2_integer(half) * exp2_integer(sub(k, half));
}

namespace detail {
/// 2^(i/16), i = 0 .. 15, its bits less those of i/16 in the exponent's unit: adding the bits of n + i/16 there gives
/// 2^(n + i/16).
alignas(64) inline constexpr float kSixteenths[16] = {
    0x1p+0F,        0x1.fb5586p-1F, 0x1.f72b84p-1F, 0x1.f387a6p-1F, 0x1.f06fe0p-1F, 0x1.edea64p-1F,
    0x1.ebfdaep-1F, 0x1.eab07ep-1F, 0x1.ea09e6p-1F, 0x1.ea1148p-1F, 0x1.eace54p-1F, 0x1.ec4918p-1F,
    0x1.ee89fap-1F, 0x1.f199bep-1F, 0x1.f5818ep-1F, 0x1.fa4afap-1F};
/// A number of this size has sixteenths for its last bits: adding it rounds to sixteenths, in its lowest four bits.
inline constexpr float kToSixteenths = 0x1.8p19F;
/// 2^s (1 + p) for s in sixteenths, -127 <= s < 128, given as s + kToSixteenths. s = -127 gives 0, up to -126 less
/// than the smallest normal number.
inline Vec scale_by_sixteenths(Vec s_shifted, Vec p) {
  const Int s = bits(s_shifted);
  const Vec power = from_bits(add(bits(lookup(kSixteenths, s)), shift_left<19>(s)));
  return fma(power, p, power);
}
}  // namespace detail

/// e^x for x <= 88, cheaper than exp; 1.1 ulp. Results below 2^-126 become 0 or stay below it.
inline Vec exp_bounded(Vec x) {
  x = max(x, Vec(-88.0F));
  if (lookup_is_cheap()) {
    const Vec shifted = fma(x, Vec(0x1.715476p+0F), Vec(detail::kToSixteenths));
    const Vec s = shifted - Vec(detail::kToSixteenths);
    Vec r = fnma(s, Vec(0x1.62e43p-1F), x);
    r = fnma(s, Vec(-0x1.05c61p-29F), r);
    return detail::scale_by_sixteenths(shifted, fma(polynomial(r, 0x1.00022p-1F, 0x1.555714p-3F), r * r, r));
  }
  Vec n;
  const Vec p = detail::exp_reduced(x, n);
  // The biased exponents 0 and 255 of n = -127 and n = 128 read as 0 and infinity.
  return p * exp2_integer(to_int(n));
}

/// 2^x for x <= 127, cheaper still; 1 ulp. Limits as of exp_bounded.
inline Vec exp2_bounded(Vec x) {
  x = max(x, Vec(-127.0F));
  if (lookup_is_cheap()) {
    const Vec shifted = x + Vec(detail::kToSixteenths);
    const Vec r = x - (shifted - Vec(detail::kToSixteenths));
    return detail::scale_by_sixteenths(shifted, r * polynomial(r, 0x1.62e43p-1F, 0x1.ebfff2p-3F, 0x1.c6ae9ap-5F));
  }
  const Vec n = round(x);
  const Vec r = x - n;
  const Vec p = polynomial(r, 1.0F, 0x1.62e43p-1F, 0x1.ebfbdcp-3F, 0x1.c6af7ap-5F, 0x1.3b2ddap-7F, 0x1.5f0976p-10F,
                           0x1.417284p-13F);
  return p * exp2_integer(to_int(n));
}

/// Natural logarithm; 1 ulp. 0 gives -infinity, negative numbers NaN.
inline Vec log(Vec x) {
  const Mask tiny = x < Vec(0x1p-126F);
  const Vec scaled = select(tiny, x * Vec(0x1p23F), x);
  // x = 2^e * (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2): subtracting the bits of sqrt(1/2) splits there.
  const Int offset = sub(bits(scaled), ints(0x3f3504f3));
  const Int exponent = shift_right<23>(offset);
  const Vec f = from_bits(add(bit_and(offset, ints(0x007fffff)), ints(0x3f3504f3))) - Vec(1.0F);
  const Vec e = to_float(exponent) - select(tiny, Vec(23.0F), Vec(0.0F));
  const Vec p = polynomial(f, 0x1.555554p-2F, -0x1.000228p-2F, 0x1.99a026p-3F, -0x1.54720ap-3F, 0x1.22d7d2p-3F,
                           -0x1.0d85aep-3F, 0x1.056a46p-3F, -0x1.38d512p-4F);
  const Vec f2 = f * f;
  // e ln2 in two parts; the large part is added last.
  Vec small = fma(p, f2 * f, e * Vec(-0x1.05c61p-29F));
  small = fma(f2, Vec(-0.5F), small);
  Vec y = fma(e, Vec(0x1.62e43p-1F), f + small);
  y = select(x == Vec(0.0F), Vec(-INFINITY), y);
  y = select(x == Vec(INFINITY), x, y);
  y = select(x < Vec(0.0F), Vec(NAN), y);
  return select(is_nan(x), x, y);
}

/// Hyperbolic tangent; 6 ulp, never beyond +-1.
inline Vec tanh(Vec x) {
  const Vec z = min(max(x, Vec(-9.02F)), Vec(9.02F));
  const Vec s = z * z;
  const Vec p = polynomial(s, 1.0F, 0x1.120442p-3F, 0x1.c9f85cp-9F, 0x1.595568p-16F, 0x1.c9a3dep-27F);
  const Vec q = polynomial(s, 1.0F, 0x1.de576ap-2F, 0x1.a7df26p-6F, 0x1.5841dep-12F, 0x1.a0b86ep-21F);
  return min(max(z * p / q, Vec(-1.0F)), Vec(1.0F));
}

/// 1 / (1 + e^-x); 2.5 ulp, where lookups are cheap 3. Results below 2^-126 become 0 or stay below it.
inline Vec sigmoid(Vec x) { return Vec(1.0F) / (Vec(1.0F) + exp_bounded(-max(x, Vec(-88.0F)))); }

/// Error function; 6 ulp, never beyond +-1.
inline Vec erf(Vec x) {
  const Vec z = min(max(x, Vec(-3.93F)), Vec(3.93F));
  const Vec s = z * z;
  const Vec p =
      polynomial(s, 0x1.20dd74p+0F, 0x1.86b9c2p-3F, 0x1.b0754cp-5F, 0x1.ef66d8p-9F, 0x1.2aa4b6p-12F, 0x1.1211760p-19F);
  const Vec q = polynomial(s, 1.0F, 0x1.013bf8p-1F, 0x1.d3ffc4p-4F, 0x1.eb6fbcp-7F, 0x1.31742cp-10F, 0x1.3ecd0ap-15F);
  return min(max(z * p / q, Vec(-1.0F)), Vec(1.0F));
}

namespace detail {
/// Coefficients of g(a) = a erfc(a / sqrt 2) / 2 around a = 13/32 i, i = 0 .. 14, for |a - 13/32 i| <= 13/64: row k has
/// those of the power k. Largest error 1.8e-8. From a = 5.89 on g is below 1.2e-8, and 0 here.
alignas(64) inline constexpr float kGeluTail[6][16] = {
    {0.0F, 0x1.1cc6c8p-3F, 0x1.5a8832p-3F, 0x1.163a6p-3F, 0x1.5aa72cp-4F, 0x1.5f59cp-5F, 0x1.274f9ap-6F,
     0x1.9f785cp-8F, 0x1.eb9b52p-10F, 0x1.ea9a62p-12F, 0x1.9da19cp-14F, 0x1.26f084p-16F, 0x1.63fabcp-19F,
     0x1.6bcdap-22F, 0x1.3aebfap-25F, 0.0F},
    {0x1p-1F, 0x1.8b5bd2p-3F, -0x1.95b26ap-6F, -0x1.eb1042p-4F, -0x1.efcb3cp-4F, -0x1.4f4beep-4F, -0x1.5bd286p-5F,
     -0x1.21708cp-6F, -0x1.8a5ae2p-8F, -0x1.bcac2p-10F, -0x1.a1aba8p-12F, -0x1.482814p-14F, -0x1.b08f76p-17F,
     -0x1.df4512p-20F, -0x1.bf05e2p-23F, 0.0F},
    {-0x1.9883bp-2F, -0x1.591d4p-2F, -0x1.897b1ep-3F, -0x1.903a22p-5F, 0x1.178814p-5F, 0x1.b975dep-5F,
     0x1.4a3498p-5F, 0x1.5cdff8p-6F, 0x1.1ca8ap-7F, 0x1.73b522p-9F, 0x1.8b70bep-11F, 0x1.5a5958p-13F,
     0x1.f6d7c2p-16F, 0x1.2fea54p-18F, 0x1.32dcb4p-21F, 0.0F},
    {-0x1.6b2f58p-14F, 0x1.86aaecp-4F, 0x1.09a31p-3F, 0x1.8d2aa4p-4F, 0x1.4158fp-5F, -0x1.1b477p-9F, -0x1.084aecp-6F,
     -0x1.bc147ap-7F, -0x1.d8b60ep-8F, -0x1.7558fcp-9F, -0x1.cdb554p-11F, -0x1.ca93fcp-13F, -0x1.731c38p-15F,
     -0x1.eddaa8p-18F, -0x1.0fd4p-20F, 0.0F},
    {0x1.14b044p-4F, 0x1.6589cap-5F, -0x1.01700ap-9F, -0x1.0befeep-5F, -0x1.0f70a2p-5F, -0x1.10c1c4p-6F,
     -0x1.10ba6p-9F, 0x1.def214p-9F, 0x1.cb5466p-9F, 0x1.e7e04ap-10F, 0x1.720488p-11F, 0x1.af2bc4p-13F,
     0x1.8ed49p-15F, 0x1.2a23c2p-17F, 0x1.6c4648p-20F, 0.0F},
    {-0x1.63a8fep-8F, -0x1.464144p-6F, -0x1.6220cp-6F, -0x1.e9e85ap-8F, 0x1.781f6ap-8F, 0x1.21765cp-7F,
     0x1.489bf6p-8F, 0x1.f18d46p-11F, -0x1.78080ap-11F, -0x1.89cd4ap-11F, -0x1.93e1a4p-12F, -0x1.1ee7bep-13F,
     -0x1.3482e6p-15F, -0x1.04cd64p-17F, -0x1.61e1acp-20F, 0.0F}};
}  // namespace detail

/// x (1 + erf(x / sqrt 2)) / 2, wrong by at most 2.8 * 2^-24 (|x| + 1/8); where lookups are cheap it is
/// relu(x) - g(|x|), which needs no quotient: 1.1 * 2^-24 (|x| + 1/8).
inline Vec gelu(Vec x) {
  if (!lookup_is_cheap()) return Vec(0.5F) * x * (Vec(1.0F) + erf(x * Vec(0.70710678F)));
  const Vec a = min(abs(x), Vec(6.0F));
  // Rounds to a whole number in the lowest bits, and so do NaNs to some row.
  const Vec shifted = fma(a, Vec(32.0F / 13), Vec(0x1.8p23F));
  const Vec r = fnma(shifted - Vec(0x1.8p23F), Vec(13.0F / 32), a);
  const Int i = bits(shifted);
  Vec g = lookup(detail::kGeluTail[5], i);
  for (int k = 4; k >= 0; --k) g = fma(g, r, lookup(detail::kGeluTail[k], i));
  return max(x, Vec(0.0F)) - g;
}

namespace detail {
/// sin(x + quarter * pi/2) for |x| <= 1e5: x = n pi/2 + r by Cody and Waite's three parts, exact with fused
/// multiply-adds.
inline Vec sin_near(Vec x, std::int32_t quarter) {
  const Vec n = round(x * Vec(0x1.45f306p-1F));
  Vec r = fnma(n, Vec(0x1.921fb6p+0F), x);
  r = fnma(n, Vec(-0x1.777a5cp-25F), r);
  r = fnma(n, Vec(-0x1.ee59dap-50F), r);
  const Int k = add(to_int(n), ints(quarter));
  const Vec s = r * r;
  const Vec sine = fma(polynomial(s, -0x1.555546p-3F, 0x1.110774p-7F, -0x1.9951fap-13F), s * r, r);
  const Vec cosine =
      fma(polynomial(s, 0x1.55554ap-5F, -0x1.6c0c28p-10F, 0x1.99e816p-16F), s * s, fnma(s, Vec(0.5F), Vec(1.0F)));
  const Vec y = select(nonzero(bit_and(k, ints(1))), cosine, sine);
  return from_bits(bit_xor(bits(y), shift_left<30>(bit_and(k, ints(2)))));
}
}  // namespace detail

/// Sine; 1.5 ulp for |x| <= 1e5, beyond through the C library (slow).
inline Vec sin(Vec x) {
  const Mask far = Vec(1e5F) < abs(x);
  // -0 stays: the reduction gives +0.
  const Vec near = select(x == Vec(0.0F), x, detail::sin_near(x, 0));
  if (!any(far)) [[likely]]
    return near;
  return detail::far_lanes(x, near, far, [](float value) { return ::sinf(value); });
}

/// Cosine; as sin.
inline Vec cos(Vec x) {
  const Mask far = Vec(1e5F) < abs(x);
  const Vec near = detail::sin_near(x, 1);
  if (!any(far)) [[likely]]
    return near;
  return detail::far_lanes(x, near, far, [](float value) { return ::cosf(value); });
}

/// log(1 + e^x), computed as max(x, 0) + log1p(e^-|x|); 3 ulp. Results below 2^-126 become 0.
inline Vec softplus(Vec x) {
  const Vec t = exp_bounded(-abs(x));
  // log1p(t) = log(u) + (t - (u - 1)) / u with u = 1 + t rounded: what rounding took away comes back in first order.
  const Vec u = Vec(1.0F) + t;
  return max(x, Vec(0.0F)) + (log(u) + (t - (u - Vec(1.0F))) / u);
}

/// a^b as the C library's pow, special cases included; 1.5 ulp.
/// log2|a| is carried in two floats, so that the error does not grow with the exponent.
inline Vec pow(Vec a, Vec b) {
  const Vec magnitude = abs(a);
  const Mask tiny = magnitude < Vec(0x1p-126F);
  const Vec scaled = select(tiny, magnitude * Vec(0x1p23F), magnitude);
  const Int offset = sub(bits(scaled), ints(0x3f3504f3));
  const Vec m = from_bits(add(bit_and(offset, ints(0x007fffff)), ints(0x3f3504f3)));
  const Vec e = to_float(shift_right<23>(offset)) - select(tiny, Vec(23.0F), Vec(0.0F));

  // log2(m) = 2/ln2 * atanh(t), t = (m - 1) / (m + 1) = t_high + t_low.
  const Vec numerator = m - Vec(1.0F);
  const Vec g = m + Vec(1.0F);
  const Vec g_low = m - (g - Vec(1.0F));
  const Vec t = numerator / g;
  const Vec t_low = fnma(t, g_low, fnma(t, g, numerator)) / g;
  const Vec s = t * t;
  // Odd part beyond the linear term; then the linear term in two floats: 2/ln2 = c_high + c_low.
  const Vec c_high(0x1.715476p+1F), c_low(0x1.4ae0cp-25F);
  const Vec cubic = polynomial(s, 0x1.ec709ep-1F, 0x1.2776e2p-1F, 0x1.a5cedp-2F, 0x1.58b11ep-2F) * s * t;
  const Vec linear = t * c_high;
  const Vec linear_low = fma(t, c_low, fma(t_low, c_high, fms(t, c_high, linear)));
  // log2|a| = high + low: two exact sums (|e| >= |linear| or e = 0), then what is left.
  const Vec sum1 = e + linear;
  const Vec rest1 = linear - (sum1 - e);
  const Vec tail = cubic + (linear_low + rest1);
  const Vec high = sum1 + tail;
  const Vec low = tail - (high - sum1);

  // 2^(b * log2|a|). Clamped well outside of the range of float so that the integer part stays small.
  Vec product = b * high;
  const Vec product_low = fma(b, low, fms(b, high, product));
  const Mask wide = Vec(512.0F) < abs(product);
  product = min(max(product, Vec(-512.0F)), Vec(512.0F));
  const Vec n = round(product);
  const Vec r = (product - n) + select(wide, Vec(0.0F), product_low);
  const Vec p = fma(polynomial(r, 0x1.62e43p-1F, 0x1.ebfbep-3F, 0x1.c6b06ep-5F, 0x1.3b2a5cp-7F, 0x1.5da584p-10F,
                               0x1.440e4ap-13F, 0x1.e0b4f4p-17F),
                    r, Vec(1.0F));
  const Int k = to_int(min(max(n, Vec(-200.0F)), Vec(200.0F)));
  const Int half = shift_right<1>(k);
  Vec y = p * exp2_integer(half) * exp2_integer(sub(k, half));

  // Special cases, in rising precedence.
  const Vec zero(0.0F), one(1.0F), infinity(INFINITY);
  const Vec b_magnitude = abs(b);
  const Mask b_negative = b < zero;
  const Mask b_integer = floor(b) == b;
  const Vec b_half = b * Vec(0.5F);
  const Mask b_odd = b_integer & (b_magnitude < Vec(0x1p24F)) & nonzero(bits(b_half - floor(b_half)));
  y = select(magnitude == zero, select(b_negative, infinity, zero), y);
  y = select(magnitude == infinity, select(b_negative, zero, infinity), y);
  y = select(b_magnitude == infinity,
             select(magnitude == one, one,
                    from_bits(bit_and(bits(infinity), bits(select(magnitude < one, select(b_negative, infinity, zero),
                                                                  select(b_negative, zero, infinity)))))),
             y);
  y = select(b_odd, with_sign(y, sign_bit(a)), y);
  const Mask finite_negative = (a < zero) & (magnitude < infinity);
  y = select(finite_negative & (b_magnitude < infinity), select(b_integer, y, Vec(NAN)), y);
  y = select(is_nan(a), a, y);
  y = select(is_nan(b), b, y);
  return select((b == zero) | (a == one), one, y);
}

}  // namespace math

}  // namespace tenfold::cpu::TENFOLD_TIER
