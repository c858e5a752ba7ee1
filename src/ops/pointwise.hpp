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
  X(gelu, 1, T(0.5F) * a * (T(1.0F) + math::erf(a * T(0.70710678F))))                   \
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
