// Pointwise programs as CUDA C++ text.
//
// Each code becomes a function template over the scalar type T from its formula's own words. T is float, or tf::fast, a
// float whose operators and functions use the special-function unit:
//   exp(x) = ex2(x log2 e); 1/x and division by approximate reciprocal (2 units in the last place); tanh.approx (2^-11)
//   erf by Abramowitz and Stegun 7.1.26, absolute error 1.5e-7
#include "backend/cuda/pointwise_text.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include <fmt/format.h>

namespace tenfold::cuda {

namespace {

constexpr std::string_view kPreludeHead = R"(// Element types and scalar functions.
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define TF_FN __device__ __forceinline__
#define TF_METHOD __device__ __forceinline__
#else
#include <cmath>
#define TF_FN static inline
#define TF_METHOD inline
#endif
namespace tf {
struct f16 { unsigned short bits; };
struct bf16 { unsigned short bits; };
struct f8 { unsigned char bits; };  // e4m3 without infinities
// First of all in kernels that are launched early (LaunchConfig::pdl): lets the next one begin, waits for the one before.
TF_FN void begin_early() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

#ifdef __CUDA_ARCH__
TF_FN unsigned bits_of(float x) { return __float_as_uint(x); }
TF_FN float float_of(unsigned x) { return __uint_as_float(x); }
TF_FN float to_float(f16 x) { float r; asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x.bits)); return r; }
TF_FN float maximum(float a, float b) { float r; asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }
TF_FN float minimum(float a, float b) { float r; asm("min.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }
TF_FN float ex2(float x) { float r; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x)); return r; }
TF_FN float lg2(float x) { float r; asm("lg2.approx.f32 %0, %1;" : "=f"(r) : "f"(x)); return r; }
TF_FN float rcp(float x) { float r; asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x)); return r; }
TF_FN float root(float x) { float r; asm("sqrt.approx.f32 %0, %1;" : "=f"(r) : "f"(x)); return r; }
TF_FN float divide(float a, float b) { float r; asm("div.full.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }
TF_FN float tanh_approx(float x) { float r; asm("tanh.approx.f32 %0, %1;" : "=f"(r) : "f"(x)); return r; }
template <typename T> struct From;
template <> struct From<f16> { TF_METHOD static f16 convert(float x) { f16 r; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(x)); return r; } };
template <> struct From<bf16> { TF_METHOD static bf16 convert(float x) { bf16 r; asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(x)); return r; } };
template <> struct From<signed char> { TF_METHOD static signed char convert(float x) { int r; asm("cvt.rni.sat.s8.f32 %0, %1;" : "=r"(r) : "f"(x)); return (signed char)r; } };
template <> struct From<unsigned char> { TF_METHOD static unsigned char convert(float x) { unsigned r; asm("cvt.rni.sat.u8.f32 %0, %1;" : "=r"(r) : "f"(x)); return (unsigned char)r; } };
#else
TF_FN unsigned bits_of(float x) { unsigned r; __builtin_memcpy(&r, &x, 4); return r; }
TF_FN float float_of(unsigned x) { float r; __builtin_memcpy(&r, &x, 4); return r; }
TF_FN float to_float(f16 x) {
  unsigned sign = (x.bits & 0x8000u) << 16, exponent = (x.bits >> 10) & 31u, fraction = x.bits & 1023u;
  if (exponent == 31u) return float_of(sign | 0x7f800000u | (fraction << 13));
  float magnitude = exponent == 0u ? (float)fraction * 0x1p-24f : float_of(((exponent + 112u) << 23) | (fraction << 13));
  return float_of(bits_of(magnitude) | sign);
}
TF_FN float maximum(float a, float b) { return a > b || a != a ? a : b; }
TF_FN float minimum(float a, float b) { return a < b || a != a ? a : b; }
TF_FN float ex2(float x) { return exp2f(x); }
TF_FN float lg2(float x) { return log2f(x); }
TF_FN float rcp(float x) { return 1.0f / x; }
TF_FN float root(float x) { return sqrtf(x); }
TF_FN float divide(float a, float b) { return a / b; }
TF_FN float tanh_approx(float x) { return tanhf(x); }
template <typename T> struct From;
template <> struct From<f16> {
  static f16 convert(float x) {
    unsigned sign = (bits_of(x) >> 16) & 0x8000u;
    float magnitude = fabsf(x);
    if (x != x) return f16{(unsigned short)(sign | 0x7e00u)};
    if (magnitude >= 65520.0f) return f16{(unsigned short)(sign | 0x7c00u)};
    if (magnitude < 0x1p-14f) return f16{(unsigned short)(sign | (unsigned)nearbyintf(magnitude * 0x1p24f))};
    unsigned bits = bits_of(magnitude);
    bits += 0xfffu + ((bits >> 13) & 1u);
    return f16{(unsigned short)(sign | ((bits >> 13) - (112u << 10)))};
  }
};
template <> struct From<bf16> {
  static bf16 convert(float x) {
    unsigned bits = bits_of(x);
    if (x != x) return bf16{(unsigned short)((bits >> 16) | 0x40u)};
    return bf16{(unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
  }
};
template <> struct From<signed char> {
  static signed char convert(float x) { return x != x ? 0 : (signed char)fminf(fmaxf(nearbyintf(x), -128.0f), 127.0f); }
};
template <> struct From<unsigned char> {
  static unsigned char convert(float x) { return x != x ? 0 : (unsigned char)fminf(fmaxf(nearbyintf(x), 0.0f), 255.0f); }
};
#endif
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
TF_FN float to_float(f8 x) { unsigned r; asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(r) : "h"((unsigned short)x.bits)); return to_float(f16{(unsigned short)r}); }
template <> struct From<f8> { TF_METHOD static f8 convert(float x) { unsigned short r; asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(r) : "f"(0.0f), "f"(x)); return f8{(unsigned char)r}; } };
#else
TF_FN float to_float(f8 x) {
  const unsigned magnitude = x.bits & 0x7fu;
  const float r = magnitude == 0x7fu ? float_of(0x7fc00000u) : float_of(magnitude << 20) * 0x1p120f;
  return float_of(bits_of(r) | (x.bits & 0x80u) << 24);
}
template <> struct From<f8> {
  TF_METHOD static f8 convert(float x) {
    const unsigned sign = (bits_of(x) >> 24) & 0x80u, bits = bits_of(x) & 0x7fffffffu;
    if (x != x) return f8{(unsigned char)(sign | 0x7fu)};
    if (bits >= 0x43e00000u) return f8{(unsigned char)(sign | 0x7eu)};
    if (bits < 0x3c800000u) return f8{(unsigned char)(sign | (bits_of(float_of(bits) + 0x1p14f) - 0x46800000u))};
    return f8{(unsigned char)(sign | ((bits - 0x3c000000u + 0x7ffffu + ((bits >> 20) & 1u)) >> 20))};
  }
};
#endif
template <> struct From<float> { TF_METHOD static float convert(float x) { return x; } };
template <> struct From<double> { TF_METHOD static double convert(float x) { return x; } };
template <> struct From<bool> { TF_METHOD static bool convert(float x) { return x != 0.0f; } };
template <> struct From<short> { TF_METHOD static short convert(float x) { return (short)(int)x; } };
template <> struct From<unsigned short> { TF_METHOD static unsigned short convert(float x) { return (unsigned short)(int)x; } };
template <> struct From<int> { TF_METHOD static int convert(float x) { return (int)x; } };
template <> struct From<unsigned> { TF_METHOD static unsigned convert(float x) { return (unsigned)x; } };
template <> struct From<long long> { TF_METHOD static long long convert(float x) { return (long long)x; } };
template <> struct From<unsigned long long> { TF_METHOD static unsigned long long convert(float x) { return (unsigned long long)x; } };
template <typename T> TF_FN T from_float(float x) { return From<T>::convert(x); }
template <typename T> TF_FN float to_float(T x) { return (float)x; }
TF_FN float to_float(bf16 x) { return float_of((unsigned)x.bits << 16); }

struct fast {
  float v;
  TF_METHOD explicit fast(float x) : v(x) {}
};
TF_FN fast operator+(fast a, fast b) { return fast(a.v + b.v); }
TF_FN fast operator-(fast a, fast b) { return fast(a.v - b.v); }
TF_FN fast operator-(fast a) { return fast(-a.v); }
TF_FN fast operator*(fast a, fast b) { return fast(a.v * b.v); }
TF_FN fast operator/(fast a, fast b) { return fast(divide(a.v, b.v)); }
TF_FN bool operator<(fast a, fast b) { return a.v < b.v; }
TF_FN bool operator==(fast a, fast b) { return a.v == b.v; }
namespace math {
TF_FN float max(float a, float b) { return maximum(a, b); }
TF_FN float min(float a, float b) { return minimum(a, b); }
TF_FN float select(bool condition, float a, float b) { return condition ? a : b; }
TF_FN float pow(float a, float b) { return powf(a, b); }
TF_FN float abs(float a) { return fabsf(a); }
TF_FN float exp(float a) { return expf(a); }
TF_FN float log(float a) { return logf(a); }
TF_FN float sqrt(float a) { return sqrtf(a); }
TF_FN float tanh(float a) { return tanhf(a); }
TF_FN float sigmoid(float a) { return 1.0f / (1.0f + expf(-a)); }
TF_FN float erf(float a) { return erff(a); }
TF_FN float gelu(float a) { return 0.5f * a * (1.0f + erff(a * 0x1.6a09e6p-1f)); }
TF_FN float floor(float a) { return floorf(a); }
TF_FN float ceil(float a) { return ceilf(a); }
TF_FN float round(float a) { return rintf(a); }
TF_FN float sin(float a) { return sinf(a); }
TF_FN float cos(float a) { return cosf(a); }
TF_FN float softplus(float a) { return max(a, 0.0f) + log1pf(expf(-fabsf(a))); }
TF_FN fast max(fast a, fast b) { return fast(maximum(a.v, b.v)); }
TF_FN fast min(fast a, fast b) { return fast(minimum(a.v, b.v)); }
TF_FN fast select(bool condition, fast a, fast b) { return condition ? a : b; }
TF_FN fast pow(fast a, fast b) { return fast(powf(a.v, b.v)); }
TF_FN fast abs(fast a) { return fast(fabsf(a.v)); }
TF_FN fast exp(fast a) { return fast(ex2(a.v * 0x1.715476p+0f)); }
TF_FN fast log(fast a) { return fast(lg2(a.v) * 0x1.62e43p-1f); }
TF_FN fast sqrt(fast a) { return fast(root(a.v)); }
TF_FN fast tanh(fast a) { return fast(tanh_approx(a.v)); }
TF_FN fast sigmoid(fast a) { return fast(rcp(1.0f + ex2(a.v * -0x1.715476p+0f))); }
TF_FN fast erf(fast a) {
  float x = fabsf(a.v);
  float t = rcp(1.0f + 0x1.4f740ap-2f * x);
  float p = ((((0x1.0fb844p+0f * t - 0x1.7401c6p+0f) * t + 0x1.6be1c6p+0f) * t - 0x1.23531cp-2f) * t + 0x1.04f20cp-2f) * t;
  float r = 1.0f - p * ex2(x * x * -0x1.715476p+0f);
  // Near 0 the difference keeps no digits, but the series 2/sqrt(pi) (x - x^3/3) does.
  if (x < 0x1p-4f) r = x * (0x1.20dd76p+0f - 0x1.812746p-2f * x * x);
  return fast(a.v < 0.0f ? -r : r);
}
TF_FN fast gelu(fast a) { return fast(0.5f) * a * (fast(1.0f) + erf(a * fast(0x1.6a09e6p-1f))); }
TF_FN fast floor(fast a) { return fast(floorf(a.v)); }
TF_FN fast ceil(fast a) { return fast(ceilf(a.v)); }
TF_FN fast round(fast a) { return fast(rintf(a.v)); }
TF_FN fast sin(fast a) { return fast(sinf(a.v)); }
TF_FN fast cos(fast a) { return fast(cosf(a.v)); }
TF_FN fast softplus(fast a) { return fast(maximum(a.v, 0.0f) + lg2(1.0f + ex2(fabsf(a.v) * -0x1.715476p+0f)) * 0x1.62e43p-1f); }
}  // namespace math
)";

struct CodeText {
  std::string_view name;
  std::string_view formula;
};
constexpr std::array kCodes{
#define TENFOLD_CODE(name, operands, formula) CodeText{#name, #formula},
    TENFOLD_POINTWISE_CODES(TENFOLD_CODE)
#undef TENFOLD_CODE
};

std::string make_prelude() {
  std::string text(kPreludeHead);
  for (const CodeText& code : kCodes) {
    text += fmt::format("template <typename T> TF_FN T code_{}(T a, T b, T c, float k) {{ return {}; }}\n", code.name,
                        code.formula);
  }
  text += "}  // namespace tf\n";
  return text;
}

}  // namespace

MathMode math_mode_for(DType result) {
  switch (result) {
    case DType::float16:
    case DType::bfloat16:
    case DType::int8:
    case DType::uint8:
    case DType::float8e4m3:
      return MathMode::fast;
    default:
      return MathMode::exact;
  }
}

std::string_view device_prelude() {
  static const std::string text = make_prelude();
  return text;
}

std::string_view device_type(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return "float";
    case DType::float64:
      return "double";
    case DType::float16:
      return "tf::f16";
    case DType::bfloat16:
      return "tf::bf16";
    case DType::float8e4m3:
      return "tf::f8";
    case DType::int8:
      return "signed char";
    case DType::uint8:
      return "unsigned char";
    case DType::int16:
      return "short";
    case DType::uint16:
      return "unsigned short";
    case DType::int32:
      return "int";
    case DType::uint32:
      return "unsigned";
    case DType::int64:
      return "long long";
    case DType::uint64:
      return "unsigned long long";
    case DType::boolean:
      return "bool";
    case DType::undefined:
      break;
  }
  throw Error(Code::internal, "an undefined element type has no name in kernels");
}

std::string float_literal(float value) {
  if (!std::isfinite(value)) return fmt::format("tf::float_of(0x{:08x}u)", std::bit_cast<std::uint32_t>(value));
  return fmt::format("{:a}f", value);
}

ProgramText emit_program(const PointwiseProgram& program, std::span<const std::string> operands,
                         std::string_view prefix, MathMode mode, std::string_view indent) {
  ensure(static_cast<int>(operands.size()) == program.num_inputs, "a program of {} inputs was given {}",
         program.num_inputs, operands.size());
  const auto num_inputs = operands.size();
  if (program.empty()) return {"", operands.front()};

  std::vector<bool> needed(num_inputs + program.instructions.size(), false);
  needed.back() = true;
  for (std::size_t i = program.instructions.size(); i-- > 0;) {
    if (!needed[num_inputs + i]) continue;
    const PointwiseInstruction& instruction = program.instructions[i];
    const std::array registers{instruction.a, instruction.b, instruction.c};
    for (int k = 0; k < num_operands(instruction.code); ++k) needed[registers[static_cast<std::size_t>(k)]] = true;
  }

  const auto name_of = [&](std::size_t index) {
    return index < num_inputs ? operands[index] : fmt::format("{}{}", prefix, index);
  };
  const std::string_view type = mode == MathMode::fast ? "tf::fast" : "float";
  std::string statements;
  for (std::size_t i = 0; i < program.instructions.size(); ++i) {
    if (!needed[num_inputs + i]) continue;
    const PointwiseInstruction& instruction = program.instructions[i];
    const std::array registers{instruction.a, instruction.b, instruction.c};
    std::string arguments;
    for (int k = 0; k < 3; ++k) {
      const bool is_read = k < num_operands(instruction.code);
      const std::string operand = is_read ? name_of(registers[static_cast<std::size_t>(k)]) : std::string("0.0f");
      arguments += fmt::format("{}({}), ", type, operand);
    }
    statements += fmt::format("{}const float {} = tf::code_{}<{}>({}{}){};\n", indent, name_of(num_inputs + i),
                              kCodes[static_cast<std::size_t>(instruction.code)].name, type, arguments,
                              float_literal(instruction.immediate), mode == MathMode::fast ? ".v" : "");
  }
  return {std::move(statements), name_of(num_inputs + program.instructions.size() - 1)};
}

}  // namespace tenfold::cuda
