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
};

/// Why a program cannot be compiled: too many inputs, or empty; nullopt if it can.
std::optional<std::string> refuses_pointwise(const PointwiseProgram& program);
/// Instructions that the result does not need are dropped. Throws Error(incompatible_engine) with the refusal above.
CompiledPointwise compile_pointwise(const PointwiseProgram& program);

}  // namespace tenfold::cpu
