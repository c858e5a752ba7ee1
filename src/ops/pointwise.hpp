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

/// May a program read elements of this type? Floats, 8-bit integers (their value) and bool (0 or 1).
bool is_pointwise_operand(DType dtype);
/// May a program's result be stored as this type? Floats, and 8-bit integers: rounded to nearest even, saturated.
bool is_pointwise_result(DType dtype);

/// Operator Pointwise: attributes "num_inputs", "program" and optionally "to", the type of the result (float32 if
/// absent). Computes in float32 whatever the types of its operands are; the output has the broadcast shape.
class Pointwise final : public Op {
 public:
  explicit Pointwise(PointwiseProgram program, DType result = DType::float32)
      : program_(std::move(program)), result_(result) {}
  const PointwiseProgram& program() const { return program_; }
  DType result() const { return result_; }
  std::string_view type() const override { return "Pointwise"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override;

 private:
  PointwiseProgram program_;
  DType result_;
};

/// An optional program at the end of an anchor operator. Register 0 is the anchor's result; registers 1 .. are the
/// node's inputs from `first_input` on, each broadcast to the result's shape. It works on the result as it was
/// accumulated (float32, or the exact sum of integer products); what comes out is rounded once, to the output's type.
struct Epilogue {
  PointwiseProgram program;         ///< empty: none
  DType output = DType::undefined;  ///< type of the anchor's output; undefined: that of its first input
  /// Reads attributes "epilogue", "epilogue_inputs" and "to".
  static Epilogue from(const Attributes& attributes);
  void store(Attributes& attributes) const;
  int num_extra_inputs() const { return program.empty() ? 0 : program.num_inputs - 1; }
};
/// For references: `values` are the anchor's results in the order of `output`, which gets what the epilogue makes of
/// them.
void finish(const Epilogue& epilogue, std::vector<double> values, const TensorView& output, EvalContext& context,
            int first_input);
/// For inference: the output's type from the anchor's own, `result`. Checks types, and that extra inputs broadcast to
/// it.
TensorType check_epilogue(const Epilogue& epilogue, TensorType result, InferContext& context, int first_input);

}  // namespace tenfold
