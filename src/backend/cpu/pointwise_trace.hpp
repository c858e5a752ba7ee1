// A pointwise program as one list of vector operations: its formulas (ops/pointwise_codes.hpp, kernels/elementary.hpp)
// run once on values that record what is done to them.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "backend/cpu/compiled_pointwise.hpp"

namespace tenfold::cpu {

/// What one instruction of the processor does with each lane. Operands are named a, b, c.
enum class VectorOp : std::uint8_t {
  input,     ///< number `bits`
  constant,  ///< `bits` in every lane
  add,
  sub,
  mul,
  div,
  max,  ///< b's NaN is lost, a's is kept
  min,
  sqrt,
  round,  ///< to an integer; `bits` is the instruction's rounding mode
  fma,    ///< a * b + c, rounded once
  fms,    ///< a * b - c
  fnma,   ///< c - a * b
  bit_and,
  bit_or,
  bit_xor,
  int_add,
  int_sub,
  int_equal,    ///< all bits, or none
  shift_left,   ///< by `bits`
  shift_right,  ///< the same, keeping the sign
  to_int,
  to_float,
  table,   ///< the sixteen numbers of `table`, which only `lookup` may read
  lookup,  ///< of table b, by the lowest four bits of a; AVX-512 only
  // These give truth values, see VectorProgram.
  less,
  equal,
  unordered,
  nonzero,
  mask_and,
  mask_or,
  select,  ///< a ? b : c
};

struct VectorInstruction {
  VectorOp op = VectorOp::constant;
  int a = -1, b = -1, c = -1;  ///< earlier instructions; -1: there is no such operand
  std::uint32_t bits = 0;
  const float* table = nullptr;
};

/// In single-assignment form: instruction i is value i. No two are equal, and the last one, the result, needs all.
using VectorProgram = std::vector<VectorInstruction>;

/// `mask_registers`: truth values have registers of their own; else they are vectors of all or no bits, and of the
/// operations on them only less, equal, unordered and select are left.
/// nullopt for programs with a function that leaves the vector unit (sin, cos).
std::optional<VectorProgram> trace_pointwise(const CompiledPointwise& program, bool mask_registers);

}  // namespace tenfold::cpu
