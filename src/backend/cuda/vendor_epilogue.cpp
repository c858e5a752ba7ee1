#include "backend/cuda/vendor_epilogue.hpp"

#include <fmt/format.h>

#include "ops/pointwise_form.hpp"

namespace tenfold::cuda {
namespace {

using Activation = VendorEpilogue::Activation;
using Kind = EpilogueSpec::Kind;

/// Do the instructions from `first` on compute Gelu by tanh of register `x`, in the form that fusion gives it?
/// The number of instructions; 0: they do not.
std::size_t match_gelu_tanh(const PointwiseProgram& program, std::size_t first, int x) {
  PointwiseProgram gelu;
  append_gelu_tanh(gelu);
  if (first + gelu.instructions.size() > program.instructions.size()) return 0;
  const auto moved = [&](std::uint8_t r) {
    const int shift = program.num_inputs + static_cast<int>(first) - gelu.num_inputs;
    return static_cast<std::uint8_t>(r < gelu.num_inputs ? x : r + shift);
  };
  for (std::size_t i = 0; i < gelu.instructions.size(); ++i) {
    PointwiseInstruction wanted = gelu.instructions[i];
    const int operands = num_operands(wanted.code);
    if (operands > 0) wanted.a = moved(wanted.a);
    if (operands > 1) wanted.b = moved(wanted.b);
    if (operands > 2) wanted.c = moved(wanted.c);
    if (!(program.instructions[first + i] == wanted)) return 0;
  }
  return gelu.instructions.size();
}

}  // namespace

std::optional<VendorEpilogue> vendor_epilogue(const PointwiseProgram& program,
                                              std::span<const EpilogueSpec::Operand> operands, std::string& refusal) {
  VendorEpilogue epilogue;
  int value = 0;  // the register that holds what has been made of the sums so far
  const auto is_started = [&] { return epilogue.bias >= 0 || epilogue.residual >= 0; };
  const auto refuse = [&](std::string reason) -> std::optional<VendorEpilogue> {
    refusal = std::move(reason);
    return std::nullopt;
  };
  for (std::size_t i = 0; i < program.instructions.size(); ++i) {
    const PointwiseInstruction& instruction = program.instructions[i];
    const int result = program.num_inputs + static_cast<int>(i);
    using enum PointwiseCode;
    if (epilogue.activation != Activation::none) return refuse("the library does nothing behind an activation");
    if (const std::size_t length = match_gelu_tanh(program, i, value); length > 0) {
      epilogue.activation = Activation::gelu_tanh;
      i += length - 1;
      value = program.num_inputs + static_cast<int>(i);
      continue;
    }
    switch (instruction.code) {
      case mul_imm:
        if (instruction.a != value || is_started())
          return refuse("the library multiplies the sums by a number, not what is added to them");
        epilogue.alpha *= instruction.immediate;
        break;
      case add: {
        const bool is_first = instruction.a == value;
        const int other = is_first ? instruction.b : instruction.a;
        if (!is_first && instruction.b != value) return refuse("the library adds to the sums only");
        if (other < 1 || other >= program.num_inputs)
          return refuse("the library adds operands as they are, not what was computed of them");
        const Kind kind = operands[static_cast<std::size_t>(other - 1)].kind;
        int& place = kind == Kind::column ? epilogue.bias : epilogue.residual;
        if (kind != Kind::column && kind != Kind::whole)
          return refuse("the library adds a number for each column, or an operand of the result's shape");
        if (place >= 0)
          return refuse(fmt::format("the library adds one {}", kind == Kind::column ? "bias" : "residual"));
        place = other - 1;
        break;
      }
      case relu:
        if (instruction.a != value) return refuse("the library's ReLU works on the sums only");
        epilogue.activation = Activation::relu;
        break;
      case max_imm:
        if (instruction.a != value || instruction.immediate != 0)
          return refuse("the library has no 'max_imm' but that with 0");
        epilogue.activation = Activation::relu;
        break;
      case gelu:
        return refuse("the library's GELU is that by tanh, this one is by erf");
      default:
        return refuse(fmt::format("the library has no '{}' behind a product", to_string(instruction.code)));
    }
    value = result;
  }
  return epilogue;
}

}  // namespace tenfold::cuda
