// Between floats and quantised integers.
#pragma once

#include <cstdint>

#include "backend/cpu/tier.hpp"

namespace tenfold::cpu {

enum class QuantizedType : std::uint8_t { int8 = 0, uint8 = 1, int16 = 2, uint16 = 3, int32 = 4 };

struct QuantizeKernels {
  /// q[i] = saturate(round(x[i] / scale) + zero_point), ties to even; NaN gives 0. `scale` and `zero_point` are one
  /// number or, with `per_element`, one for each i. Not for int32.
  void (*quantize)(const float* x, std::int64_t count, const float* scale, const std::int32_t* zero_point,
                   bool per_element, QuantizedType type, void* q);
  /// x[i] = (q[i] - zero_point) * scale.
  void (*dequantize)(const void* q, QuantizedType type, std::int64_t count, const float* scale,
                     const std::int32_t* zero_point, bool per_element, float* x);
};
TENFOLD_TIER_TABLE(QuantizeKernels, kQuantizeKernels)

}  // namespace tenfold::cpu
