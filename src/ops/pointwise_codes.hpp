// The instructions of pointwise programs (ops/pointwise.hpp): one table that the reference, the kernels of every
// instruction set and the names in text are made from. Stands alone, so that kernels need no other header of the graph.
#pragma once

#include <cstdint>

namespace tenfold {

/// name, number of register operands, formula over scalars a, b, c of type T and immediate k. `math::` functions exist
/// for float and for each SIMD type. Order is stored in engine files: append only.
#define TENFOLD_POINTWISE_CODES(X)                                                      \
  X(constant, 0, T(k))                                                                  \
  X(add, 2, a + b)                                                                      \
  X(sub, 2, a - b)                                                                      \
  X(mul, 2, a* b)                                                                       \
  X(div, 2, a / b)                                                                      \
  X(max, 2, math::max(a, b))                                                            \
  X(min, 2, math::min(a, b))                                                            \
  X(pow, 2, math::pow(a, b))                                                            \
  X(neg, 1, -a)                                                                         \
  X(abs, 1, math::abs(a))                                                               \
  X(relu, 1, math::max(a, T(0.0F)))                                                     \
  X(exp, 1, math::exp(a))                                                               \
  X(log, 1, math::log(a))                                                               \
  X(sqrt, 1, math::sqrt(a))                                                             \
  X(reciprocal, 1, T(1.0F) / a)                                                         \
  X(square, 1, a* a)                                                                    \
  X(tanh, 1, math::tanh(a))                                                             \
  X(sigmoid, 1, math::sigmoid(a))                                                       \
  X(erf, 1, math::erf(a))                                                               \
  X(gelu, 1, math::gelu(a))                                                             \
  X(silu, 1, a* math::sigmoid(a))                                                       \
  X(hard_swish, 1, a* math::max(T(0.0F), math::min(T(1.0F), a* T(1.0F / 6) + T(0.5F)))) \
  X(floor, 1, math::floor(a))                                                           \
  X(ceil, 1, math::ceil(a))                                                             \
  X(round, 1, math::round(a))                                                           \
  X(sin, 1, math::sin(a))                                                               \
  X(cos, 1, math::cos(a))                                                               \
  X(softplus, 1, math::softplus(a))                                                     \
  X(add_imm, 1, a + T(k))                                                               \
  X(mul_imm, 1, a* T(k))                                                                \
  X(max_imm, 1, math::max(a, T(k)))                                                     \
  X(min_imm, 1, math::min(a, T(k)))                                                     \
  X(rsub_imm, 1, T(k) - a)                                                              \
  X(rdiv_imm, 1, T(k) / a)                                                              \
  X(pow_imm, 1, math::pow(a, T(k)))                                                     \
  X(leaky_relu, 1, math::select(a < T(0.0F), a * T(k), a))                              \
  X(elu, 1, math::select(a < T(0.0F), T(k) * (math::exp(a) - T(1.0F)), a))              \
  X(prelu, 2, math::select(a < T(0.0F), a * b, a))                                      \
  X(fma, 3, a* b + c)                                                                   \
  X(less, 2, math::select(a < b, T(1.0F), T(0.0F)))                                     \
  X(equal, 2, math::select(a == b, T(1.0F), T(0.0F)))                                   \
  X(select, 3, math::select(a == T(0.0F), c, b))

enum class PointwiseCode : std::uint8_t {
#define TENFOLD_CODE(name, operands, formula) name,
  TENFOLD_POINTWISE_CODES(TENFOLD_CODE)
#undef TENFOLD_CODE
};

}  // namespace tenfold
