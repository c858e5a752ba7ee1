// Elementwise operators on other types than float32 arithmetic: comparisons, logic, integers, conversions, choices.
#pragma once

#include <cstdint>

#include "backend/cpu/tier.hpp"

namespace tenfold::cpu {

enum class TypedOp : std::uint8_t {
  equal = 0,
  greater = 1,
  greater_equal = 2,
  less = 3,
  less_equal = 4,
  logical_and = 5,
  logical_or = 6,
  logical_xor = 7,
  add = 8,
  sub = 9,
  mul = 10,
  max = 11,
  min = 12,
};
enum class TypedElement : std::uint8_t {
  float32 = 0,
  int32 = 1,
  int64 = 2,
  uint8 = 3,
  int8 = 4,
  boolean = 5,  ///< a byte, 0 or 1
  float16 = 6,  ///< for conversions from and to float32
};

/// Steps are 1, or 0 for an operand that is one element. Integers wrap.
struct TypedKernels {
  void (*binary)(TypedOp op, TypedElement type, const void* a, std::int64_t a_step, const void* b, std::int64_t b_step,
                 void* out, std::int64_t count);
  /// out = condition ? a : b; elements of 1, 2, 4 or 8 bytes.
  void (*choose)(int element_bytes, const void* condition, std::int64_t condition_step, const void* a,
                 std::int64_t a_step, const void* b, std::int64_t b_step, void* out, std::int64_t count);
  void (*negate)(const void* in, void* out, std::int64_t count);  ///< of booleans
  /// Floats to integers: towards zero, saturating, NaN gives 0; to booleans: is it not 0? Integers wrap.
  void (*convert)(TypedElement from, TypedElement to, const void* in, void* out, std::int64_t count);
};
TENFOLD_TIER_TABLE(TypedKernels, kTypedKernels)

}  // namespace tenfold::cpu
