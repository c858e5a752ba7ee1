// A fused chain (or DAG) of float elementwise operations: one pass over the data instead of one for each operation.
//
// The program is a list of instructions over registers. Registers 0 .. num_inputs-1 hold the inputs, broadcast to the
// output's shape (NumPy rules); each instruction writes the next register; the last register is the result.
// Text form, used as the attribute "program":  "add 0 1; relu 2; mul 3 0"  or with an immediate: "const 0x1p-1".
// The same program serves as operator Pointwise and as the epilogue of an anchor (Conv, Gemm ...), where register 0 is
// the anchor's result.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/op.hpp"
#include "ops/pointwise_codes.hpp"

namespace tenfold {

struct PointwiseInstruction {
  PointwiseCode code = PointwiseCode::constant;
  std::uint8_t a = 0, b = 0, c = 0;  ///< operand registers
  float immediate = 0;               ///< for codes that use k
  bool operator==(const PointwiseInstruction&) const = default;
};

struct PointwiseProgram {
  static constexpr int kMaxRegisters = 64;
  int num_inputs = 1;
  std::vector<PointwiseInstruction> instructions;

  bool empty() const { return instructions.empty(); }
  /// Appends and returns the new register.
  int append(PointwiseCode code, int a = 0, int b = 0, int c = 0, float immediate = 0);
  int result() const { return num_inputs + static_cast<int>(instructions.size()) - 1; }
  /// Immediates print as hexadecimal floating point, so nothing is lost.
  std::string to_string() const;
  /// Throws Error(invalid_model) for an unknown code, a register not yet written, or more than kMaxRegisters.
  static PointwiseProgram parse(int num_inputs, std::string_view text);
  bool operator==(const PointwiseProgram&) const = default;
};
int num_operands(PointwiseCode code);
bool has_immediate(PointwiseCode code);
std::string_view to_string(PointwiseCode code);
/// The scalar meaning, evaluated in double.
double evaluate(const PointwiseInstruction& instruction, double a, double b, double c);

/// Operator Pointwise: attributes "num_inputs", "program". Inputs float32 (an input may be bool, read as 0 or 1),
/// output float32 of the broadcast shape.
class Pointwise final : public Op {
 public:
  explicit Pointwise(PointwiseProgram program) : program_(std::move(program)) {}
  const PointwiseProgram& program() const { return program_; }
  std::string_view type() const override { return "Pointwise"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override;

 private:
  PointwiseProgram program_;
};

/// An optional program at the end of an anchor operator. Register 0 is the anchor's result; registers 1 .. are the
/// node's inputs from `first_input` on, each broadcast to the result's shape.
struct Epilogue {
  PointwiseProgram program;  ///< empty: none
  /// Reads attributes "epilogue" and "epilogue_inputs".
  static Epilogue from(const Attributes& attributes);
  void store(Attributes& attributes) const;
  int num_extra_inputs() const { return program.empty() ? 0 : program.num_inputs - 1; }
};
/// For references: applies the epilogue in place to a float32 result.
void apply_epilogue(const Epilogue& epilogue, const TensorView& result, EvalContext& context, int first_input);
/// For inference: checks that extra inputs are float32 and broadcast to `result`.
void check_epilogue(const Epilogue& epilogue, const TensorType& result, InferContext& context, int first_input);

}  // namespace tenfold
