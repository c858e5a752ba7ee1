#include "backend/cpu/compiled_pointwise.hpp"

#include <array>
#include <vector>

#include <fmt/format.h>

#include "base/error.hpp"
#include "ops/pointwise.hpp"

namespace tenfold::cpu {

namespace {

static_assert(CompiledPointwise::kMaxSteps >= PointwiseProgram::kMaxRegisters);
constexpr int kNever = -1;

/// Cheaper codes of the same meaning. x^2 and 1/x are what pow is mostly used for.
PointwiseInstruction simplified(PointwiseInstruction instruction) {
  if (instruction.code == PointwiseCode::pow_imm && instruction.immediate == 2.0F)
    instruction.code = PointwiseCode::square;
  if (instruction.code == PointwiseCode::pow_imm && instruction.immediate == -1.0F) {
    instruction.code = PointwiseCode::reciprocal;
  }
  return instruction;
}

}  // namespace

std::optional<std::string> refuses_pointwise(const PointwiseProgram& program) {
  if (program.empty()) return "the program is empty";
  if (program.num_inputs < 0 || program.num_inputs > CompiledPointwise::kMaxInputs) {
    return fmt::format("the program has {} inputs, at most {} are supported", program.num_inputs,
                       CompiledPointwise::kMaxInputs);
  }
  if (program.result() >= PointwiseProgram::kMaxRegisters) {
    return fmt::format("the program has {} registers, at most {} are supported", program.result() + 1,
                       PointwiseProgram::kMaxRegisters);
  }
  for (std::size_t i = 0; i < program.instructions.size(); ++i) {
    const PointwiseInstruction& instruction = program.instructions[i];
    const std::array<int, 3> operands = {instruction.a, instruction.b, instruction.c};
    for (int k = 0; k < num_operands(instruction.code); ++k) {
      if (operands[static_cast<std::size_t>(k)] >= program.num_inputs + static_cast<int>(i)) {
        return fmt::format("instruction {} reads register {}, which is not written yet", i,
                           operands[static_cast<std::size_t>(k)]);
      }
    }
  }
  return std::nullopt;
}

CompiledPointwise compile_pointwise(const PointwiseProgram& program) {
  if (const auto refusal = refuses_pointwise(program)) throw Error(Code::incompatible_engine, *refusal);
  const int inputs = program.num_inputs;
  const int count = static_cast<int>(program.instructions.size());

  // Last reader of each register, counting only instructions that the result needs.
  std::vector<int> last_reader(static_cast<std::size_t>(inputs + count), kNever);
  last_reader.back() = count;
  for (int i = count - 1; i >= 0; --i) {
    if (last_reader[static_cast<std::size_t>(inputs + i)] == kNever) continue;
    const PointwiseInstruction& instruction = program.instructions[static_cast<std::size_t>(i)];
    const std::array<int, 3> operands = {instruction.a, instruction.b, instruction.c};
    for (int k = 0; k < num_operands(instruction.code); ++k) {
      int& reader = last_reader[static_cast<std::size_t>(operands[static_cast<std::size_t>(k)])];
      if (reader < i) reader = i;
    }
  }

  CompiledPointwise compiled;
  compiled.num_inputs = inputs;
  std::vector<int> slot_of(static_cast<std::size_t>(inputs + count), kNever);
  std::vector<int> free_slots;
  for (int i = 0; i < count; ++i) {
    if (last_reader[static_cast<std::size_t>(inputs + i)] == kNever) continue;
    const PointwiseInstruction instruction = simplified(program.instructions[static_cast<std::size_t>(i)]);
    const std::array<int, 3> operands = {instruction.a, instruction.b, instruction.c};
    CompiledPointwise::Step& step = compiled.steps[compiled.num_steps++];
    step.code = instruction.code;
    step.immediate = instruction.immediate;
    for (int k = 0; k < num_operands(instruction.code); ++k) {
      const int r = operands[static_cast<std::size_t>(k)];
      step.operands[k] = static_cast<std::uint8_t>(r < inputs ? r : inputs + slot_of[static_cast<std::size_t>(r)]);
    }
    // A slot that is read here for the last time may take the result: elementwise steps read before they write.
    for (int k = 0; k < num_operands(instruction.code); ++k) {
      const auto r = static_cast<std::size_t>(operands[static_cast<std::size_t>(k)]);
      if (static_cast<int>(r) >= inputs && last_reader[r] == i && slot_of[r] != kNever) {
        free_slots.push_back(slot_of[r]);
        slot_of[r] = kNever;
      }
    }
    int slot = compiled.num_slots;
    if (free_slots.empty()) {
      ++compiled.num_slots;
    } else {
      slot = free_slots.back();
      free_slots.pop_back();
    }
    slot_of[static_cast<std::size_t>(inputs + i)] = slot;
    step.slot = static_cast<std::uint8_t>(slot);
  }
  return compiled;
}

}  // namespace tenfold::cpu
