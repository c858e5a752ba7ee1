// Pointwise programs (ops/pointwise.hpp) as CUDA C++ text: kernels of programs and the epilogues of GEMMs,
// convolutions, attention and normalisations all come from here. The formulas are those of ops/pointwise_codes.hpp,
// word for word.
//
// The text also compiles as host C++ (the tests run it that way), where the device's approximations are replaced by
// functions at least as exact.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "graph/dtype.hpp"
#include "ops/pointwise.hpp"

namespace tenfold::cuda {

enum class MathMode : std::uint8_t {
  exact,  ///< CUDA's functions, at most a few units in the last place of float32
  fast,  ///< the special-function unit; error below 2^-10 of the result's scale, for float16, bfloat16 and int8 results
};
/// Exact where a float32 (or wider) result would show the difference.
MathMode math_mode_for(DType result);

/// Element types and program functions, in namespace tf. Needs no header; stands once at the head of a source.
/// Types: tf::f16, tf::bf16 (16 bits each), and the built-in ones; see `device_type`.
/// Functions: float tf::to_float(T), T tf::from_float<T>(float). To int8 and uint8 `from_float` rounds to nearest even
/// and saturates (QuantizeLinear); to bool it compares with 0; to other integers it truncates (Cast).
std::string_view device_prelude();

/// The type's name in the text: "float", "tf::f16", "signed char", "long long", "bool" ...
std::string_view device_type(DType dtype);
/// A float literal without loss: "0x1.8p+1f"; infinities and NaN by their bits.
std::string float_literal(float value);

struct ProgramText {
  std::string statements;  ///< lines that each define one const float, named <prefix><register>
  std::string result;      ///< the name, or for an empty program the operand, that holds the result
};
/// `operands[i]` is a float expression (best a name) for register i; one for each of the program's inputs.
/// Instructions that the result does not need are left out. `indent` starts each line.
ProgramText emit_program(const PointwiseProgram& program, std::span<const std::string> operands,
                         std::string_view prefix, MathMode mode, std::string_view indent = "  ");

}  // namespace tenfold::cuda
