// Size arithmetic that notices overflow. Sizes out of files go through these before anything is allocated or indexed.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>

namespace tenfold {

template <std::integral T>
constexpr std::optional<T> checked_add(T a, T b) {
  T result{};
  if (__builtin_add_overflow(a, b, &result)) return std::nullopt;
  return result;
}

template <std::integral T>
constexpr std::optional<T> checked_mul(T a, T b) {
  T result{};
  if (__builtin_mul_overflow(a, b, &result)) return std::nullopt;
  return result;
}

/// The least multiple of `alignment` that is not below `value`. `alignment` is a power of two, `value` not negative.
template <std::integral T>
constexpr std::optional<T> checked_align_up(T value, T alignment) {
  const std::optional<T> sum = checked_add<T>(value, alignment - 1);
  if (!sum) return std::nullopt;
  return *sum & ~(alignment - 1);
}

/// Does [offset, offset + size) lie inside [0, limit)?
constexpr bool fits(std::uint64_t offset, std::uint64_t size, std::uint64_t limit) {
  return offset <= limit && size <= limit - offset;
}

}  // namespace tenfold
