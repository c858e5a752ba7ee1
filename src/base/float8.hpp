// float8 e4m3 in the form of ONNX's FLOAT8E4M3FN: sign, 4 bits of exponent with bias 7, 3 of fraction; no infinities,
// 0x7f and 0xff are NaN, 448 is the largest number. A storage type: arithmetic is done in float.
// Source: Micikevicius et al. 2022, "FP8 Formats for Deep Learning" (arXiv:2209.05433); ONNX, "Float stored in 8 bits".
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

namespace tenfold {

struct Float8E4M3 {
  std::uint8_t bits = 0;

  Float8E4M3() = default;
  /// To nearest, ties to even; what is larger than 448, infinities too, becomes 448.
  explicit Float8E4M3(float value) : bits(encode(value)) {}
  explicit operator float() const { return decode(bits); }
  explicit operator double() const { return decode(bits); }

  static constexpr std::uint8_t kLargest = 0x7e, kNan = 0x7f;

  static float decode(std::uint8_t code) {
    const std::uint32_t sign = (code & 0x80U) << 24;
    const std::uint32_t magnitude = code & 0x7fU;
    if (magnitude == kNan) return std::numeric_limits<float>::quiet_NaN();
    // Scaling by 2^120 moves the exponent from bias 7 to bias 127 and makes subnormals exact.
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude << 20) * 0x1p120F) | sign);
  }

  /// `saturates` is ONNX's attribute: without it, what rounds beyond 448 becomes NaN.
  static std::uint8_t encode(float value, bool saturates = true) {
    const std::uint32_t word = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint8_t>((word >> 24) & 0x80U);
    const std::uint32_t magnitude = word & 0x7fffffffU;
    if (magnitude > 0x7f800000U) return sign | kNan;
    if (magnitude > 0x43e80000U) return sign | (saturates ? kLargest : kNan);  // 464, half a step beyond 448
    if (magnitude >= 0x43e00000U) return sign | kLargest;
    if (magnitude < 0x3c800000U) {  // subnormal: adding 2^14 aligns and rounds the bits
      const float aligned = std::bit_cast<float>(magnitude) + 0x1p14F;
      return static_cast<std::uint8_t>(sign | (std::bit_cast<std::uint32_t>(aligned) - 0x46800000U));
    }
    const std::uint32_t odd = (magnitude >> 20) & 1U;
    return static_cast<std::uint8_t>(sign | ((magnitude - 0x3c000000U + 0x7ffffU + odd) >> 20));
  }
};

}  // namespace tenfold
