// A float32 number as the sum of three of bfloat16, so that the matrix unit multiplies it: 24 digits are three times 8.
//
// x = x1 + x2 + x3 exactly. Of the nine products of parts the six larger ones are summed, in float32; what is left out
// is x2 y3 + x3 y2 + x3 y3. Weights are rounded to their parts (|y2| <= 2^-8 |y|, |y3| <= 2^-17 |y|, of either sign),
// numbers of A are cut (|x2| < 2^-7 |x|, |x3| < 2^-15 |x|), which takes fewer instructions. So a product is off by at
// most 1.5 * 2^-23 of its size, and sums of such errors, whose signs are those of the weights' parts, stay below what
// float32 sums lose. (The idea: Henry, Tang, Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For
// Higher-Precision Computations", 2019.)
//
// The unit takes subnormal numbers for 0, as this backend does, so parts of numbers below 2^-109 lose digits; products
// of those with weights below 2^55 are off by at most 2^-71. Infinity would meet parts that are 0, and sums of parts'
// products could exceed float32 where their own do not: rows of A with such numbers, or others from 2^55 on, are
// multiplied in float32 (repair_strip), and B must have none.
#pragma once

#include <cstdint>
#include <cstring>

#include "backend/cpu/kernels/bf16_convert.hpp"
#include "backend/cpu/kernels/bf16_product.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

#if defined(__AVX512F__)

/// What the upper half holds; the rest is cut off.
inline Vec upper_part(Vec x) {
  const __m512i mask = _mm512_set1_epi32(static_cast<std::int32_t>(0xffff0000U));
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x.v), mask));
}
/// Upper halves of both, one after the other.
inline void store_two_halves(Vec a, Vec b, std::uint8_t* to) {
  alignas(64) static constexpr auto kOdd = [] {
    struct {
      std::uint16_t at[32];
    } odd{};
    for (int i = 0; i < 32; ++i) odd.at[i] = static_cast<std::uint16_t>(2 * i + 1);
    return odd;
  }();
  _mm512_storeu_si512(
      to, _mm512_permutex2var_epi16(_mm512_castps_si512(a.v), _mm512_load_si512(kOdd.at), _mm512_castps_si512(b.v)));
}

#else

inline Vec upper_part(Vec x) {
  const __m256i mask = _mm256_set1_epi32(static_cast<std::int32_t>(0xffff0000U));
  return _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(x.v), mask));
}
inline void store_two_halves(Vec a, Vec b, std::uint8_t* to) {
  auto* out = reinterpret_cast<std::uint16_t*>(to);
  store_halves(upper_halves(a), out);
  store_halves(upper_halves(b), out + Vec::kWidth);
}

#endif

/// Parts of infinity, which has one. Those of other numbers are cut off as they are below.
inline void split_infinity(float x, std::uint16_t parts[3]) {
  parts[0] = static_cast<std::uint16_t>(__builtin_bit_cast(std::uint32_t, x) >> 16);
  parts[1] = parts[2] = 0;
}

/// Rows of float32 as three matrices of parts, `part_stride` bytes apart; `stride` in bytes. Are all numbers below
/// 2^55 (kSplitLimitExponent)? If not, their parts' sums are the numbers all the same.
inline bool split_rows(const float* from, std::int64_t from_stride, std::int64_t rows, std::int64_t numbers,
                       std::uint8_t* to, std::int64_t stride, std::int64_t part_stride) {
  constexpr std::int64_t kNumber = 2, kWidth = Vec::kWidth;
  // Numbers from the limit on become infinite.
  const Vec factor(__builtin_ldexpf(1, 128 - kSplitLimitExponent));
  if (from_stride == numbers && stride == kNumber * numbers) {
    numbers *= rows;
    rows = rows > 0 ? 1 : 0;
  }
  Vec check = Vec::zero(), other = Vec::zero();
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* row = from + r * from_stride;
    std::uint8_t* out = to + r * stride;
    std::int64_t i = 0;
    for (; i + 2 * kWidth <= numbers; i += 2 * kWidth) {
      Vec a = Vec::load(row + i), b = Vec::load(row + i + kWidth);
      check = fma(a * factor, Vec::zero(), check);
      other = fma(b * factor, Vec::zero(), other);
      std::uint8_t* at = out + i * kNumber;
#pragma GCC unroll 2
      for (int part = 0; part < 2; ++part, at += part_stride) {
        const Vec upper_a = upper_part(a), upper_b = upper_part(b);
        store_two_halves(upper_a, upper_b, at);
        a = a - upper_a;
        b = b - upper_b;
      }
      store_two_halves(a, b, at);
    }
    for (; i < numbers; i += kWidth) {
      const int count = static_cast<int>(min(numbers - i, kWidth));
      Vec a = Vec::load_first(row + i, count);
      check = fma(a * factor, Vec::zero(), check);
      std::uint8_t* at = out + i * kNumber;
      for (int part = 0; part < 3; ++part, at += part_stride) {
        const Vec upper = part < 2 ? upper_part(a) : a;
        store_first_halves(upper_halves(upper), reinterpret_cast<std::uint16_t*>(at), count);
        a = a - upper;
      }
    }
  }
  if ((check + other).sum() == 0) return true;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < numbers; ++i) {
      const float x = from[r * from_stride + i];
      if (!__builtin_isinf(x)) continue;
      std::uint16_t parts[3];
      split_infinity(x, parts);
      for (int part = 0; part < 3; ++part) {
        std::memcpy(to + r * stride + i * kNumber + part * part_stride, &parts[part], sizeof parts[part]);
      }
    }
  }
  return false;
}

}  // namespace tenfold::cpu::TENFOLD_TIER
