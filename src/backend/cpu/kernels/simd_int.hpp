// The tier's vector of 32-bit integers, and how 8-bit integers enter and leave it.
//
// Only for files in kernels/, see tier.hpp.
#pragma once

#include <cstdint>
#include <cstring>

#include "backend/cpu/kernels/simd.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

#if defined(__AVX512F__)

struct Ints {
  static constexpr int kWidth = Vec::kWidth;
  static constexpr int kBytes = 64;
  __m512i v;

  Ints() = default;
  Ints(__m512i x) : v(x) {}  // NOLINT(google-explicit-constructor): an intrinsic's result is a vector
  explicit Ints(std::int32_t x) : v(_mm512_set1_epi32(x)) {}
  static Ints load(const void* p) { return _mm512_loadu_si512(p); }
  /// `n` bytes (0 <= n <= kBytes), zeros above; touches no memory beyond them.
  static Ints load_first_bytes(const void* p, std::int64_t n) {
    if (n >= kBytes) return _mm512_loadu_si512(p);
    return _mm512_maskz_loadu_epi8((std::uint64_t{1} << n) - 1, p);
  }
  static Ints zero() { return _mm512_setzero_si512(); }
  /// Four bytes, in all lanes.
  static Ints broadcast(const void* p) {
    std::int32_t quad;
    std::memcpy(&quad, p, sizeof quad);
    return _mm512_set1_epi32(quad);
  }
  /// Whole numbers; the first `n`, zeros above.
  static Ints load_unsigned(const void* p, int n) { return _mm512_cvtepu8_epi32(bytes(p, n)); }
  static Ints load_signed(const void* p, int n) { return _mm512_cvtepi8_epi32(bytes(p, n)); }
  /// Rounded to nearest, ties to even.
  static Ints round(Vec x) { return _mm512_cvtps_epi32(x.v); }
  Vec to_float() const { return _mm512_cvtepi32_ps(v); }
  /// The first `n` numbers as bytes, saturated.
  void store_bytes(void* p, int n, bool is_signed) const {
    const __m128i low =
        is_signed ? _mm512_cvtsepi32_epi8(v) : _mm512_cvtusepi32_epi8(_mm512_max_epi32(v, _mm512_setzero_si512()));
    if (n == kWidth) {
      _mm_storeu_si128(static_cast<__m128i*>(p), low);
    } else {
      _mm_mask_storeu_epi8(p, static_cast<__mmask16>((1U << n) - 1U), low);
    }
  }
  void store(void* p) const { _mm512_storeu_si512(p, v); }
  void store_first_bytes(void* p, std::int64_t n) const {
    if (n >= kBytes) {
      _mm512_storeu_si512(p, v);
    } else {
      _mm512_mask_storeu_epi8(p, (std::uint64_t{1} << n) - 1, v);
    }
  }

 private:
  static __m128i bytes(const void* p, int n) {
    if (n == kWidth) return _mm_loadu_si128(static_cast<const __m128i*>(p));
    return _mm_maskz_loadu_epi8(static_cast<__mmask16>((1U << n) - 1U), p);
  }
};

inline Ints operator+(Ints a, Ints b) { return _mm512_add_epi32(a.v, b.v); }
inline Ints operator^(Ints a, Ints b) { return _mm512_xor_si512(a.v, b.v); }
inline Ints operator&(Ints a, Ints b) { return _mm512_and_si512(a.v, b.v); }
/// Within each 128 bits: bytes, or two, four or eight of them, of a and b in turns.
inline Ints unpack_low_bytes(Ints a, Ints b) { return _mm512_unpacklo_epi8(a.v, b.v); }
inline Ints unpack_high_bytes(Ints a, Ints b) { return _mm512_unpackhi_epi8(a.v, b.v); }
inline Ints unpack_low_pairs(Ints a, Ints b) { return _mm512_unpacklo_epi16(a.v, b.v); }
inline Ints unpack_high_pairs(Ints a, Ints b) { return _mm512_unpackhi_epi16(a.v, b.v); }
inline Ints unpack_low_quads(Ints a, Ints b) { return _mm512_unpacklo_epi32(a.v, b.v); }
inline Ints unpack_high_quads(Ints a, Ints b) { return _mm512_unpackhi_epi32(a.v, b.v); }
inline Ints unpack_low_eights(Ints a, Ints b) { return _mm512_unpacklo_epi64(a.v, b.v); }
inline Ints unpack_high_eights(Ints a, Ints b) { return _mm512_unpackhi_epi64(a.v, b.v); }
/// Within each 128 bits: the four of a, b, c, d as 16 bytes, saturated; first as 16-bit numbers, to which those of
/// `shift` are added.
inline Ints pack_unsigned(Ints a, Ints b, Ints c, Ints d, Ints shift) {
  return _mm512_packus_epi16(_mm512_adds_epi16(_mm512_packs_epi32(a.v, b.v), shift.v),
                             _mm512_adds_epi16(_mm512_packs_epi32(c.v, d.v), shift.v));
}
inline Ints pack_signed(Ints a, Ints b, Ints c, Ints d, Ints shift) {
  return _mm512_packs_epi16(_mm512_adds_epi16(_mm512_packs_epi32(a.v, b.v), shift.v),
                            _mm512_adds_epi16(_mm512_packs_epi32(c.v, d.v), shift.v));
}

inline Ints max_unsigned_bytes(Ints a, Ints b) { return _mm512_max_epu8(a.v, b.v); }
inline Ints max_signed_bytes(Ints a, Ints b) { return _mm512_max_epi8(a.v, b.v); }
inline Ints min_unsigned_bytes(Ints a, Ints b) { return _mm512_min_epu8(a.v, b.v); }
inline Ints min_signed_bytes(Ints a, Ints b) { return _mm512_min_epi8(a.v, b.v); }

namespace words {
inline Ints even_unsigned(Ints a) { return _mm512_and_si512(a.v, _mm512_set1_epi16(0xff)); }
inline Ints odd_unsigned(Ints a) { return _mm512_srli_epi16(a.v, 8); }
inline Ints even_signed(Ints a) { return _mm512_srai_epi16(_mm512_slli_epi16(a.v, 8), 8); }
inline Ints odd_signed(Ints a) { return _mm512_srai_epi16(a.v, 8); }
inline Ints multiply_add_pairs(Ints a, Ints b) { return _mm512_madd_epi16(a.v, b.v); }
/// Products of unsigned and signed bytes, two added in 16 bits: saturates.
inline Ints multiply_add_bytes(Ints a, Ints b) { return _mm512_maddubs_epi16(a.v, b.v); }
inline Ints add(Ints a, Ints b) { return _mm512_add_epi16(a.v, b.v); }
inline Ints all(std::int16_t x) { return _mm512_set1_epi16(x); }
/// The first and the last two of the signed bytes of each lane.
inline Ints first_signed(Ints quads) {
  const __m512i high = _mm512_shuffle_epi8(
      quads.v, _mm512_broadcast_i32x4(_mm_setr_epi8(-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13)));
  return _mm512_srai_epi16(high, 8);
}
inline Ints last_signed(Ints quads) {
  const __m512i high = _mm512_shuffle_epi8(
      quads.v, _mm512_broadcast_i32x4(_mm_setr_epi8(-1, 2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15)));
  return _mm512_srai_epi16(high, 8);
}
}  // namespace words

#else

struct Ints {
  static constexpr int kWidth = Vec::kWidth;
  static constexpr int kBytes = 32;
  __m256i v;

  Ints() = default;
  Ints(__m256i x) : v(x) {}  // NOLINT(google-explicit-constructor): an intrinsic's result is a vector
  explicit Ints(std::int32_t x) : v(_mm256_set1_epi32(x)) {}
  static Ints load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  /// `n` bytes (0 <= n <= kBytes), zeros above; touches no memory beyond them.
  static Ints load_first_bytes(const void* p, std::int64_t n) {
    if (n >= kBytes) return load(p);
    if (n == kBytes / 2) return _mm256_zextsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p)));
    alignas(32) std::uint8_t copy[kBytes] = {};
    std::memcpy(copy, p, static_cast<std::size_t>(n));
    return load(copy);
  }
  static Ints zero() { return _mm256_setzero_si256(); }
  /// Four bytes, in all lanes.
  static Ints broadcast(const void* p) {
    std::int32_t quad;
    std::memcpy(&quad, p, sizeof quad);
    return _mm256_set1_epi32(quad);
  }
  /// Whole numbers; the first `n`, zeros above.
  static Ints load_unsigned(const void* p, int n) { return _mm256_cvtepu8_epi32(bytes(p, n)); }
  static Ints load_signed(const void* p, int n) { return _mm256_cvtepi8_epi32(bytes(p, n)); }
  /// Rounded to nearest, ties to even.
  static Ints round(Vec x) { return _mm256_cvtps_epi32(x.v); }
  Vec to_float() const { return _mm256_cvtepi32_ps(v); }
  /// The first `n` numbers as bytes, saturated.
  void store_bytes(void* p, int n, bool is_signed) const {
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    const __m128i all = is_signed ? _mm_packs_epi16(words, words) : _mm_packus_epi16(words, words);
    if (n == kWidth) {
      _mm_storel_epi64(static_cast<__m128i*>(p), all);
    } else {
      const std::int64_t packed = _mm_cvtsi128_si64(all);
      std::memcpy(p, &packed, static_cast<std::size_t>(n));
    }
  }
  void store(void* p) const { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
  void store_first_bytes(void* p, std::int64_t n) const {
    if (n >= kBytes) return store(p);
    if (n == kBytes / 2) return _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_castsi256_si128(v));
    alignas(32) std::uint8_t copy[kBytes];
    store(copy);
    std::memcpy(p, copy, static_cast<std::size_t>(n));
  }
  /// Of parts of kPart bytes, 8, 16 or 32, the first `n` bytes of one.
  template <int kPart>
  [[gnu::always_inline]] void store_part(int part, void* p, int n) const {
    const int at = part * kPart;
    __m128i half = at < 16 ? _mm256_castsi256_si128(v) : _mm256_extracti128_si256(v, 1);
    if (n < kPart) {
      alignas(32) std::uint8_t copy[kBytes];
      store(copy);
      std::memcpy(p, copy + at, static_cast<std::size_t>(n));
    } else if constexpr (kPart == 32) {
      store(p);
    } else if constexpr (kPart == 16) {
      _mm_storeu_si128(static_cast<__m128i*>(p), half);
    } else if (at % 16 == 0) {
      _mm_storel_epi64(static_cast<__m128i*>(p), half);
    } else {
      _mm_storeh_pd(static_cast<double*>(p), _mm_castsi128_pd(half));
    }
  }

 private:
  static __m128i bytes(const void* p, int n) {
    if (n == kWidth) return _mm_loadl_epi64(static_cast<const __m128i*>(p));
    std::int64_t packed = 0;
    std::memcpy(&packed, p, static_cast<std::size_t>(n));
    return _mm_cvtsi64_si128(packed);
  }
};

inline Ints operator+(Ints a, Ints b) { return _mm256_add_epi32(a.v, b.v); }
inline Ints operator^(Ints a, Ints b) { return _mm256_xor_si256(a.v, b.v); }
inline Ints operator&(Ints a, Ints b) { return _mm256_and_si256(a.v, b.v); }
/// Within each 128 bits: bytes, or two, four or eight of them, of a and b in turns.
inline Ints unpack_low_bytes(Ints a, Ints b) { return _mm256_unpacklo_epi8(a.v, b.v); }
inline Ints unpack_high_bytes(Ints a, Ints b) { return _mm256_unpackhi_epi8(a.v, b.v); }
inline Ints unpack_low_pairs(Ints a, Ints b) { return _mm256_unpacklo_epi16(a.v, b.v); }
inline Ints unpack_high_pairs(Ints a, Ints b) { return _mm256_unpackhi_epi16(a.v, b.v); }
inline Ints unpack_low_quads(Ints a, Ints b) { return _mm256_unpacklo_epi32(a.v, b.v); }
inline Ints unpack_high_quads(Ints a, Ints b) { return _mm256_unpackhi_epi32(a.v, b.v); }
inline Ints unpack_low_eights(Ints a, Ints b) { return _mm256_unpacklo_epi64(a.v, b.v); }
inline Ints unpack_high_eights(Ints a, Ints b) { return _mm256_unpackhi_epi64(a.v, b.v); }
/// Within each 128 bits: the four of a, b, c, d as 16 bytes, saturated; first as 16-bit numbers, to which those of
/// `shift` are added.
inline Ints pack_unsigned(Ints a, Ints b, Ints c, Ints d, Ints shift) {
  return _mm256_packus_epi16(_mm256_adds_epi16(_mm256_packs_epi32(a.v, b.v), shift.v),
                             _mm256_adds_epi16(_mm256_packs_epi32(c.v, d.v), shift.v));
}
inline Ints pack_signed(Ints a, Ints b, Ints c, Ints d, Ints shift) {
  return _mm256_packs_epi16(_mm256_adds_epi16(_mm256_packs_epi32(a.v, b.v), shift.v),
                            _mm256_adds_epi16(_mm256_packs_epi32(c.v, d.v), shift.v));
}

/// Of what pack_signed or pack_unsigned gives: all bytes of a, then those of b, c and d.
inline Ints in_order(Ints packed) {
  return _mm256_permutevar8x32_epi32(packed.v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

inline Ints max_unsigned_bytes(Ints a, Ints b) { return _mm256_max_epu8(a.v, b.v); }
inline Ints max_signed_bytes(Ints a, Ints b) { return _mm256_max_epi8(a.v, b.v); }
inline Ints min_unsigned_bytes(Ints a, Ints b) { return _mm256_min_epu8(a.v, b.v); }
inline Ints min_signed_bytes(Ints a, Ints b) { return _mm256_min_epi8(a.v, b.v); }

namespace words {
inline Ints even_unsigned(Ints a) { return _mm256_and_si256(a.v, _mm256_set1_epi16(0xff)); }
inline Ints odd_unsigned(Ints a) { return _mm256_srli_epi16(a.v, 8); }
inline Ints even_signed(Ints a) { return _mm256_srai_epi16(_mm256_slli_epi16(a.v, 8), 8); }
inline Ints odd_signed(Ints a) { return _mm256_srai_epi16(a.v, 8); }
inline Ints multiply_add_pairs(Ints a, Ints b) { return _mm256_madd_epi16(a.v, b.v); }
/// Products of unsigned and signed bytes, two added in 16 bits: saturates.
inline Ints multiply_add_bytes(Ints a, Ints b) { return _mm256_maddubs_epi16(a.v, b.v); }
inline Ints add(Ints a, Ints b) { return _mm256_add_epi16(a.v, b.v); }
inline Ints all(std::int16_t x) { return _mm256_set1_epi16(x); }
/// The first and the last two of the signed bytes of each lane.
inline Ints first_signed(Ints quads) {
  const __m256i high = _mm256_shuffle_epi8(
      quads.v, _mm256_broadcastsi128_si256(_mm_setr_epi8(-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13)));
  return _mm256_srai_epi16(high, 8);
}
inline Ints last_signed(Ints quads) {
  const __m256i high = _mm256_shuffle_epi8(
      quads.v, _mm256_broadcastsi128_si256(_mm_setr_epi8(-1, 2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15)));
  return _mm256_srai_epi16(high, 8);
}
}  // namespace words

#endif

/// Sums of four products of unsigned and signed bytes in each lane, exact: the processor's own instruction ...
struct ByteDot {
  using Left = Ints;
  using Right = Ints;
  static Left left(Ints quads) { return quads; }
  static Right right(Ints quads) { return quads; }
  static void add(Ints& sum, const Left& a, const Right& b) {
    // As text, because the tier must be compiled for processors without it. On a copy: gcc keeps an array of sums in
    // memory if one of its elements is an operand.
    auto v = sum.v;
#if defined(__AVX512F__)
    asm("vpdpbusd %2, %1, %0" : "+v"(v) : "v"(a.v), "v"(b.v));
#else
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(v) : "x"(a.v), "x"(b.v));
#endif
    sum.v = v;
  }
};
/// ... or products of 16-bit numbers, even and odd bytes apart. (The instruction for bytes, vpmaddubsw, saturates.)
struct WordDot {
  struct Left {
    Ints even, odd;
  };
  using Right = Left;
  static Left left(Ints quads) { return {words::even_unsigned(quads), words::odd_unsigned(quads)}; }
  static Right right(Ints quads) { return {words::even_signed(quads), words::odd_signed(quads)}; }
  static void add(Ints& sum, const Left& a, const Right& b) {
    sum = sum + words::multiply_add_pairs(a.even, b.even) + words::multiply_add_pairs(a.odd, b.odd);
  }
};

/// The same order of the bytes in all quads of 32 bytes, some of them subtracted from 255.
struct QuadShuffle {
  __m256i order, flip;
  QuadShuffle(const int (&of_quad)[4], const bool (&flips)[4]) {
    std::int32_t quad = 0;
    std::uint32_t flipped = 0;
    for (int i = 0; i < 4; ++i) {
      quad |= of_quad[i] << 8 * i;
      if (flips[i]) flipped |= 0xffU << 8 * i;
    }
    constexpr std::int32_t kNext = 0x04040404;
    order = _mm256_add_epi32(_mm256_set1_epi32(quad),
                             _mm256_setr_epi32(0, kNext, 2 * kNext, 3 * kNext, 0, kNext, 2 * kNext, 3 * kNext));
    flip = _mm256_set1_epi32(static_cast<std::int32_t>(flipped));
  }
};
/// Eight quads of bytes of each of eight rows: a square, in both tiers alike.
struct QuadRows {
  static constexpr int kRows = 8;
  static constexpr std::int64_t kBytes = 32;
  __m256i v[kRows];

  /// 32 bytes of `rows` rows, unsigned as they are or, from signed ones, shifted by 128; zeros in the other rows and
  /// beyond `end`.
  void load(const std::uint8_t* p, std::int64_t stride, int rows, const std::uint8_t* end, bool flips) {
    const __m256i flip = _mm256_set1_epi8(flips ? static_cast<char>(0x80) : '\0');
    for (int i = 0; i < kRows; ++i, p += stride) {
      if (i >= rows) {
        v[i] = _mm256_setzero_si256();
        continue;
      }
      if (end - p >= kBytes) {
        v[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
      } else {
        alignas(32) std::uint8_t copy[kBytes] = {};
        std::memcpy(copy, p, static_cast<std::size_t>(end - p));
        v[i] = _mm256_load_si256(reinterpret_cast<const __m256i*>(copy));
      }
      v[i] = _mm256_xor_si256(v[i], flip);
    }
  }
  /// From [row][quad] to [quad][row].
  void transpose() {
    __m256i fours[kRows];  // of four rows, two quads each
    for (int i = 0; i < kRows; i += 4) {
      const __m256i low01 = _mm256_unpacklo_epi32(v[i], v[i + 1]), high01 = _mm256_unpackhi_epi32(v[i], v[i + 1]);
      const __m256i low23 = _mm256_unpacklo_epi32(v[i + 2], v[i + 3]);
      const __m256i high23 = _mm256_unpackhi_epi32(v[i + 2], v[i + 3]);
      fours[i] = _mm256_unpacklo_epi64(low01, low23);
      fours[i + 1] = _mm256_unpackhi_epi64(low01, low23);
      fours[i + 2] = _mm256_unpacklo_epi64(high01, high23);
      fours[i + 3] = _mm256_unpackhi_epi64(high01, high23);
    }
    for (int i = 0; i < 4; ++i) {
      v[i] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x20);
      v[i + 4] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x31);
    }
  }
  void store_shuffled(const QuadShuffle& shuffle, std::uint8_t* to) const {
    for (int i = 0; i < kRows; ++i) {
      const __m256i shuffled = _mm256_xor_si256(_mm256_shuffle_epi8(v[i], shuffle.order), shuffle.flip);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i * kBytes), shuffled);
    }
  }
};

}  // namespace tenfold::cpu::TENFOLD_TIER
