// A pointwise program made ready for the CPU: operands resolved to inputs or to scratch slots, slots shared by
// registers whose lives do not overlap. Plain data, because the kernels of every instruction set tier read it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ops/pointwise_codes.hpp"

namespace tenfold {
struct PointwiseProgram;
}

namespace tenfold::cpu {

/// What the machine code of a program works on. It moves `data` and `out` on by `rows` rows.
struct NativePointwiseArgs {
  static constexpr int kMaxInputs = 8;
  const float* data[kMaxInputs];        ///< first element of the row
  std::int64_t step_bytes[kMaxInputs];  ///< from one vector to the next: a vector's bytes, or 0 to read it again
  std::int64_t row_bytes[kMaxInputs];   ///< from one row to the next
  float* out;
  std::int64_t out_row_bytes;
  std::int64_t rows;    ///< at least 1
  std::int64_t whole;   ///< vectors in a row
  std::int64_t behind;  ///< elements of a row behind them, fewer than a vector has
};

struct CompiledPointwise {
  static constexpr int kMaxInputs = 32;
  static constexpr int kMaxSteps = 64;

  struct Step {
    PointwiseCode code = PointwiseCode::constant;
    /// 0 .. num_inputs-1: an input; num_inputs + s: slot s. An operand that the code does not have is 0.
    std::uint8_t operands[3] = {};
    std::uint8_t slot = 0;  ///< where the result goes; the last step's goes to the output instead
    float immediate = 0;
  };

  int num_inputs = 0;
  int num_slots = 0;
  int num_steps = 0;  ///< at least 1
  Step steps[kMaxSteps];

  /// All steps in one pass over the operands (pointwise_jit.hpp); nullptr: kernels interpret the steps.
  void (*native)(NativePointwiseArgs* args) = nullptr;
  int native_floats = 0;  ///< elements of its vectors
};

/// Why a program cannot be compiled: too many inputs, or empty; nullopt if it can.
std::optional<std::string> refuses_pointwise(const PointwiseProgram& program);
/// Instructions that the result does not need are dropped. Throws Error(incompatible_engine) with the refusal above.
/// Without machine code: load_pointwise (pointwise_jit.hpp) adds it.
CompiledPointwise compile_pointwise(const PointwiseProgram& program);

}  // namespace tenfold::cpu
