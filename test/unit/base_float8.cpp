// float8 e4m3: every code both ways, and rounding against the numbers themselves.
#include <cmath>

#include <gtest/gtest.h>

#include "base/float8.hpp"
#include "graph/dtype.hpp"

namespace tenfold {
namespace {

bool is_nan_code(unsigned code) { return (code & 0x7fU) == 0x7fU; }
std::uint8_t encode(float value) { return Float8E4M3(value).bits; }
float decode(unsigned code) { return Float8E4M3::decode(static_cast<std::uint8_t>(code)); }

/// (-1)^s 2^(e - 7) (1 + f / 8), subnormals 2^-6 f / 8: the format's definition.
float defined(unsigned code) {
  const int exponent = static_cast<int>(code >> 3 & 15U), fraction = static_cast<int>(code & 7U);
  const double size = exponent == 0 ? std::ldexp(fraction / 8.0, -6) : std::ldexp(1 + fraction / 8.0, exponent - 7);
  return static_cast<float>((code & 0x80U) != 0 ? -size : size);
}

TEST(Float8, EveryCodeIsItsNumberAndComesBack) {
  for (unsigned code = 0; code < 256; ++code) {
    const float value = decode(code);
    if (is_nan_code(code)) {
      EXPECT_TRUE(std::isnan(value)) << code;
      EXPECT_TRUE(is_nan_code(encode(value))) << code;
      continue;
    }
    EXPECT_EQ(value, defined(code)) << code;
    EXPECT_EQ(std::signbit(value), (code & 0x80U) != 0) << code;
    EXPECT_EQ(encode(value), code);
  }
}

TEST(Float8, RoundsToTheNearestAndTiesToEven) {
  for (unsigned code = 0; code + 1 < 0x7fU; ++code) {
    const float low = decode(code), high = decode(code + 1), middle = (low + high) / 2;  // exact
    for (const unsigned sign : {0U, 0x80U}) {
      const float factor = sign == 0 ? 1.0F : -1.0F;
      EXPECT_EQ(encode(factor * middle), ((code & 1U) == 0 ? code : code + 1) | sign) << middle;
      EXPECT_EQ(encode(factor * std::nextafter(middle, 0.0F)), code | sign) << middle;
      EXPECT_EQ(encode(factor * std::nextafter(middle, 1e9F)), (code + 1) | sign) << middle;
    }
  }
  EXPECT_EQ(encode(0x1p-140F), 0);
}

TEST(Float8, SaturatesOrBecomesNan) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float value : {448.0F, 464.0F, std::nextafter(464.0F, 500.0F), 1e30F, kInfinity}) {
    EXPECT_EQ(encode(value), 0x7e) << value;
    EXPECT_EQ(encode(-value), 0xfe) << value;
    // 464 is a tie between 448 and 480, which would be the code of NaN: 448 is the even one.
    const unsigned wanted = value <= 464.0F ? 0x7e : 0x7f;
    EXPECT_EQ(Float8E4M3::encode(value, false), wanted) << value;
    EXPECT_EQ(Float8E4M3::encode(-value, false), wanted | 0x80U) << value;
  }
  EXPECT_TRUE(is_nan_code(encode(std::numeric_limits<float>::quiet_NaN())));
  EXPECT_TRUE(is_nan_code(Float8E4M3::encode(-std::numeric_limits<float>::quiet_NaN(), false)));
}

TEST(Float8, HasAnElementTypeThatIsNeitherFloatNorInteger) {
  EXPECT_EQ(size_of(DType::float8e4m3), 1U);
  EXPECT_EQ(parse_dtype("float8e4m3"), DType::float8e4m3);
  EXPECT_EQ(to_string(DType::float8e4m3), "float8e4m3");
  // Operators on floats do not take it: it is stored, moved, converted and multiplied.
  EXPECT_FALSE(is_float(DType::float8e4m3));
  EXPECT_FALSE(is_integer(DType::float8e4m3));
  EXPECT_TRUE(is_signed(DType::float8e4m3));
}

}  // namespace
}  // namespace tenfold
