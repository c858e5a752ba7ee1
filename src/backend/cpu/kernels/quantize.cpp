#include "backend/cpu/kernels/quantize.hpp"

#include <cstddef>
#include <immintrin.h>

namespace tenfold::cpu::TENFOLD_TIER {

namespace {

/// Eight floats as integers, not yet narrowed: far outside of 16 bits they stay far outside.
inline __m256i round_and_shift(__m256 x, __m256 scale, __m256i zero_point) {
  const __m256 quotient = _mm256_div_ps(x, scale);
  const __m256 limit = _mm256_set1_ps(200'000.0F);
  // min and max give their second operand for NaN: a number, replaced by 0 below.
  const __m256 limited = _mm256_max_ps(_mm256_min_ps(quotient, limit), _mm256_sub_ps(_mm256_setzero_ps(), limit));
  const __m256i shifted = _mm256_add_epi32(_mm256_cvtps_epi32(limited), zero_point);
  const __m256 is_number = _mm256_cmp_ps(quotient, quotient, _CMP_ORD_Q);
  return _mm256_and_si256(shifted, _mm256_castps_si256(is_number));
}

inline void store_narrow(__m256i v, QuantizedType type, void* out) {
  const __m128i low = _mm256_castsi256_si128(v), high = _mm256_extracti128_si256(v, 1);
  if (type == QuantizedType::uint16) {
    _mm_storeu_si128(static_cast<__m128i*>(out), _mm_packus_epi32(low, high));
    return;
  }
  const __m128i words = _mm_packs_epi32(low, high);
  if (type == QuantizedType::int16) {
    _mm_storeu_si128(static_cast<__m128i*>(out), words);
  } else if (type == QuantizedType::int8) {
    _mm_storel_epi64(static_cast<__m128i*>(out), _mm_packs_epi16(words, words));
  } else {
    _mm_storel_epi64(static_cast<__m128i*>(out), _mm_packus_epi16(words, words));
  }
}

inline __m256i load_wide(const void* q, QuantizedType type) {
  const auto* p = static_cast<const __m128i*>(q);
  switch (type) {
    case QuantizedType::int8:
      return _mm256_cvtepi8_epi32(_mm_loadl_epi64(p));
    case QuantizedType::uint8:
      return _mm256_cvtepu8_epi32(_mm_loadl_epi64(p));
    case QuantizedType::int16:
      return _mm256_cvtepi16_epi32(_mm_loadu_si128(p));
    case QuantizedType::uint16:
      return _mm256_cvtepu16_epi32(_mm_loadu_si128(p));
    case QuantizedType::int32:
      break;
  }
  return _mm256_loadu_si256(static_cast<const __m256i*>(q));
}

constexpr int element_bytes(QuantizedType type) {
  return type == QuantizedType::int32 ? 4 : type == QuantizedType::int16 || type == QuantizedType::uint16 ? 2 : 1;
}

void quantize(const float* x, std::int64_t count, const float* scale, const std::int32_t* zero_point, bool per_element,
              QuantizedType type, void* q) {
  auto* out = static_cast<std::byte*>(q);
  const int bytes = element_bytes(type);
  __m256 s = _mm256_set1_ps(*scale);
  __m256i z = _mm256_set1_epi32(*zero_point);
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    if (per_element) {
      s = _mm256_loadu_ps(scale + i);
      z = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(zero_point + i));
    }
    store_narrow(round_and_shift(_mm256_loadu_ps(x + i), s, z), type, out + i * bytes);
  }
  if (i == count) return;
  const auto rest = static_cast<std::size_t>(count - i);
  float last[8] = {};
  float scales[8] = {1, 1, 1, 1, 1, 1, 1, 1};
  std::int32_t points[8] = {};
  alignas(32) std::byte narrow[32];
  for (std::size_t k = 0; k < rest; ++k) {
    last[k] = x[i + static_cast<std::int64_t>(k)];
    scales[k] = per_element ? scale[i + static_cast<std::int64_t>(k)] : *scale;
    points[k] = per_element ? zero_point[i + static_cast<std::int64_t>(k)] : *zero_point;
  }
  store_narrow(round_and_shift(_mm256_loadu_ps(last), _mm256_loadu_ps(scales),
                               _mm256_loadu_si256(reinterpret_cast<const __m256i*>(points))),
               type, narrow);
  __builtin_memcpy(out + i * bytes, narrow, rest * static_cast<std::size_t>(bytes));
}

void dequantize(const void* q, QuantizedType type, std::int64_t count, const float* scale,
                const std::int32_t* zero_point, bool per_element, float* x) {
  const auto* in = static_cast<const std::byte*>(q);
  const int bytes = element_bytes(type);
  __m256 s = _mm256_set1_ps(*scale);
  __m256i z = _mm256_set1_epi32(*zero_point);
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    if (per_element) {
      s = _mm256_loadu_ps(scale + i);
      z = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(zero_point + i));
    }
    const __m256 value = _mm256_cvtepi32_ps(_mm256_sub_epi32(load_wide(in + i * bytes, type), z));
    _mm256_storeu_ps(x + i, _mm256_mul_ps(value, s));
  }
  if (i == count) return;
  const auto rest = static_cast<std::size_t>(count - i);
  alignas(32) std::byte narrow[32] = {};
  __builtin_memcpy(narrow, in + i * bytes, rest * static_cast<std::size_t>(bytes));
  alignas(32) std::int32_t wide[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(wide), load_wide(narrow, type));
  for (std::size_t k = 0; k < rest; ++k) {
    const std::int64_t at = i + static_cast<std::int64_t>(k);
    x[at] =
        static_cast<float>(wide[k] - (per_element ? zero_point[at] : *zero_point)) * (per_element ? scale[at] : *scale);
  }
}

}  // namespace

extern const QuantizeKernels kQuantizeKernels;
const QuantizeKernels kQuantizeKernels = {quantize, dequantize};

}  // namespace tenfold::cpu::TENFOLD_TIER
