// Activations on results that are still in registers.
#pragma once

#include "backend/cpu/kernels/gemm.hpp"
#include "backend/cpu/kernels/simd_half.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// `slopes`: those of the columns in each x; nullptr: one slope for all. `load` reads as many columns as there are.
template <typename V, int kCount, typename Load>
[[gnu::always_inline]] inline void activate(V (&x)[kCount], const Activation& activation, const float* slopes,
                                            Load load) {
  using Kind = Activation::Kind;
  if (activation.kind == Kind::none) return;
  const V low(activation.low), high(activation.high);
  if (activation.kind == Kind::clip) {
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) x[i] = math::min(math::max(x[i], low), high);
    return;
  }
  if (activation.kind == Kind::leaky) {
    const V zero = V::zero(), slope = slopes == nullptr ? V(activation.slope) : load(slopes);
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) x[i] = math::select(x[i] < zero, x[i] * slope, x[i]);
    return;
  }
  const V slope(activation.slope), shift(activation.shift), scale(activation.scale), offset(activation.offset);
  if (activation.kind == Kind::linear_clip) {
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) {
      x[i] = fma(math::min(math::max(fma(x[i], slope, shift), low), high), scale, offset);
    }
    return;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) {
    x[i] = fma(x[i] * math::min(math::max(fma(x[i], slope, shift), low), high), scale, offset);
  }
}

}  // namespace tenfold::cpu::TENFOLD_TIER
