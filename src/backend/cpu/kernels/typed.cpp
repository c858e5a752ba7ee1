// Plain loops that the compiler vectorises for the tier.
#include "backend/cpu/kernels/typed.hpp"

#include <immintrin.h>

namespace tenfold::cpu::TENFOLD_TIER {

namespace {

/// Unsigned arithmetic wraps; the conversion back is modular.
template <typename T>
struct Wrapping {
  using Type = std::uint64_t;
};
template <>
struct Wrapping<std::int32_t> {
  using Type = std::uint32_t;
};
template <>
struct Wrapping<std::int8_t> {
  using Type = std::uint32_t;
};
template <>
struct Wrapping<std::uint8_t> {
  using Type = std::uint32_t;
};

template <typename T, typename R, typename F>
inline void loop(const void* a, std::int64_t a_step, const void* b, std::int64_t b_step, void* out, std::int64_t count,
                 F f) {
  const T* left = static_cast<const T*>(a);
  const T* right = static_cast<const T*>(b);
  R* result = static_cast<R*>(out);
  if (a_step != 0 && b_step != 0) {
    for (std::int64_t i = 0; i < count; ++i) result[i] = static_cast<R>(f(left[i], right[i]));
  } else if (a_step != 0) {
    const T y = *right;
    for (std::int64_t i = 0; i < count; ++i) result[i] = static_cast<R>(f(left[i], y));
  } else if (b_step != 0) {
    const T x = *left;
    for (std::int64_t i = 0; i < count; ++i) result[i] = static_cast<R>(f(x, right[i]));
  } else {
    const R value = static_cast<R>(f(*left, *right));
    for (std::int64_t i = 0; i < count; ++i) result[i] = value;
  }
}

template <typename T>
void compare(TypedOp op, const void* a, std::int64_t a_step, const void* b, std::int64_t b_step, void* out,
             std::int64_t count) {
  const auto run = [&](auto f) { loop<T, std::uint8_t>(a, a_step, b, b_step, out, count, f); };
  switch (op) {
    case TypedOp::equal:
      return run([](T x, T y) { return x == y; });
    case TypedOp::greater:
      return run([](T x, T y) { return x > y; });
    case TypedOp::greater_equal:
      return run([](T x, T y) { return x >= y; });
    case TypedOp::less:
      return run([](T x, T y) { return x < y; });
    default:
      return run([](T x, T y) { return x <= y; });
  }
}

template <typename T>
void compute(TypedOp op, const void* a, std::int64_t a_step, const void* b, std::int64_t b_step, void* out,
             std::int64_t count) {
  using U = typename Wrapping<T>::Type;
  const auto run = [&](auto f) { loop<T, T>(a, a_step, b, b_step, out, count, f); };
  switch (op) {
    case TypedOp::add:
      return run([](T x, T y) { return static_cast<U>(x) + static_cast<U>(y); });
    case TypedOp::sub:
      return run([](T x, T y) { return static_cast<U>(x) - static_cast<U>(y); });
    case TypedOp::mul:
      return run([](T x, T y) { return static_cast<U>(x) * static_cast<U>(y); });
    case TypedOp::max:
      return run([](T x, T y) { return x < y ? y : x; });
    case TypedOp::min:
      return run([](T x, T y) { return y < x ? y : x; });
    default:
      return compare<T>(op, a, a_step, b, b_step, out, count);
  }
}

void binary(TypedOp op, TypedElement type, const void* a, std::int64_t a_step, const void* b, std::int64_t b_step,
            void* out, std::int64_t count) {
  switch (type) {
    case TypedElement::float32:
      return compare<float>(op, a, a_step, b, b_step, out, count);
    case TypedElement::int32:
      return compute<std::int32_t>(op, a, a_step, b, b_step, out, count);
    case TypedElement::int64:
      return compute<std::int64_t>(op, a, a_step, b, b_step, out, count);
    case TypedElement::int8:
      return compute<std::int8_t>(op, a, a_step, b, b_step, out, count);
    case TypedElement::uint8:
      return compute<std::uint8_t>(op, a, a_step, b, b_step, out, count);
    default:
      break;
  }
  // Bytes of 0 and 1.
  const auto run = [&](auto f) { loop<std::uint8_t, std::uint8_t>(a, a_step, b, b_step, out, count, f); };
  if (op == TypedOp::logical_and) return run([](std::uint8_t x, std::uint8_t y) { return x & y; });
  if (op == TypedOp::logical_or) return run([](std::uint8_t x, std::uint8_t y) { return x | y; });
  if (op == TypedOp::logical_xor) return run([](std::uint8_t x, std::uint8_t y) { return x ^ y; });
  compare<std::uint8_t>(op, a, a_step, b, b_step, out, count);
}

/// Aliases elements of any type of that size.
template <typename T>
struct [[gnu::may_alias]] Bits {
  T value;
};

template <typename T>
void choose_bits(const void* condition, std::int64_t condition_step, const void* a, std::int64_t a_step, const void* b,
                 std::int64_t b_step, void* out, std::int64_t count) {
  const auto* c = static_cast<const std::uint8_t*>(condition);
  const auto* left = static_cast<const Bits<T>*>(a);
  const auto* right = static_cast<const Bits<T>*>(b);
  auto* result = static_cast<Bits<T>*>(out);
  if (condition_step == 1 && a_step == 1 && b_step == 1) {
    for (std::int64_t i = 0; i < count; ++i) result[i].value = c[i] != 0 ? left[i].value : right[i].value;
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const T yes = left[i * a_step].value, no = right[i * b_step].value;
    result[i].value = c[i * condition_step] != 0 ? yes : no;
  }
}

void choose(int element_bytes, const void* condition, std::int64_t condition_step, const void* a, std::int64_t a_step,
            const void* b, std::int64_t b_step, void* out, std::int64_t count) {
  switch (element_bytes) {
    case 1:
      return choose_bits<std::uint8_t>(condition, condition_step, a, a_step, b, b_step, out, count);
    case 2:
      return choose_bits<std::uint16_t>(condition, condition_step, a, a_step, b, b_step, out, count);
    case 4:
      return choose_bits<std::uint32_t>(condition, condition_step, a, a_step, b, b_step, out, count);
    default:
      return choose_bits<std::uint64_t>(condition, condition_step, a, a_step, b, b_step, out, count);
  }
}

void negate(const void* in, void* out, std::int64_t count) {
  const auto* x = static_cast<const std::uint8_t*>(in);
  auto* y = static_cast<std::uint8_t*>(out);
  for (std::int64_t i = 0; i < count; ++i) y[i] = x[i] ^ 1U;
}

struct ToBoolean {
  std::uint8_t value;
};
/// Smallest and largest value as floats: powers of two (or zero), so they are exact; the largest one lies just above.
template <typename To>
struct Range;
template <>
struct Range<std::int32_t> {
  static constexpr float low = -0x1p31F, above = 0x1p31F;
  static constexpr std::int32_t lowest = INT32_MIN, highest = INT32_MAX;
};
template <>
struct Range<std::int64_t> {
  static constexpr float low = -0x1p63F, above = 0x1p63F;
  static constexpr std::int64_t lowest = INT64_MIN, highest = INT64_MAX;
};
template <>
struct Range<std::int8_t> {
  static constexpr float low = -128.0F, above = 128.0F;
  static constexpr std::int8_t lowest = INT8_MIN, highest = INT8_MAX;
};
template <>
struct Range<std::uint8_t> {
  static constexpr float low = 0.0F, above = 256.0F;
  static constexpr std::uint8_t lowest = 0, highest = UINT8_MAX;
};

template <typename To>
inline To truncate(float x) {
  if (!(x >= Range<To>::low)) return x != x ? To(0) : Range<To>::lowest;
  return x >= Range<To>::above ? Range<To>::highest : static_cast<To>(x);
}

template <typename From, typename To>
void convert_loop(const void* in, void* out, std::int64_t count) {
  const From* x = static_cast<const From*>(in);
  if constexpr (__is_same(To, ToBoolean)) {
    auto* y = static_cast<std::uint8_t*>(out);
    for (std::int64_t i = 0; i < count; ++i) y[i] = x[i] != From(0) ? 1 : 0;
  } else if constexpr (__is_same(From, float) && !__is_same(To, float)) {
    To* y = static_cast<To*>(out);
    for (std::int64_t i = 0; i < count; ++i) y[i] = truncate<To>(x[i]);
  } else {
    To* y = static_cast<To*>(out);
    for (std::int64_t i = 0; i < count; ++i) y[i] = static_cast<To>(x[i]);
  }
}

template <typename From>
void convert_from(TypedElement to, const void* in, void* out, std::int64_t count) {
  switch (to) {
    case TypedElement::float32:
      return convert_loop<From, float>(in, out, count);
    case TypedElement::int32:
      return convert_loop<From, std::int32_t>(in, out, count);
    case TypedElement::int64:
      return convert_loop<From, std::int64_t>(in, out, count);
    case TypedElement::int8:
      return convert_loop<From, std::int8_t>(in, out, count);
    case TypedElement::uint8:
      return convert_loop<From, std::uint8_t>(in, out, count);
    case TypedElement::boolean:
      return convert_loop<From, ToBoolean>(in, out, count);
    case TypedElement::float16:
      break;
  }
}

void from_half(const void* in, void* out, std::int64_t count) {
  const auto* x = static_cast<const std::uint16_t*>(in);
  auto* y = static_cast<float*>(out);
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i))));
  }
  for (; i < count; ++i) y[i] = _cvtsh_ss(x[i]);
}
void to_half(const void* in, void* out, std::int64_t count) {
  const auto* x = static_cast<const float*>(in);
  auto* y = static_cast<std::uint16_t*>(out);
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
  }
  for (; i < count; ++i) y[i] = _cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT);
}

void convert(TypedElement from, TypedElement to, const void* in, void* out, std::int64_t count) {
  if (from == TypedElement::float16) return from_half(in, out, count);
  if (to == TypedElement::float16) return to_half(in, out, count);
  switch (from) {
    case TypedElement::float32:
      return convert_from<float>(to, in, out, count);
    case TypedElement::int32:
      return convert_from<std::int32_t>(to, in, out, count);
    case TypedElement::int64:
      return convert_from<std::int64_t>(to, in, out, count);
    case TypedElement::int8:
      return convert_from<std::int8_t>(to, in, out, count);
    default:
      return convert_from<std::uint8_t>(to, in, out, count);
  }
}

}  // namespace

extern const TypedKernels kTypedKernels;
const TypedKernels kTypedKernels = {binary, choose, negate, convert};

}  // namespace tenfold::cpu::TENFOLD_TIER
