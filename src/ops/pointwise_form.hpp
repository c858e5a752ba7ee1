// Which operators are elementwise float32 arithmetic, and as which pointwise program. Fusion builds larger programs out
// of these; a backend runs those that are left unfused with the kernel that it has for Pointwise.
#pragma once

#include <optional>
#include <vector>

#include "ops/pointwise.hpp"

namespace tenfold {

struct PointwiseForm {
  PointwiseProgram program;
  std::vector<int> inputs;  ///< register r holds the node's input inputs[r]; omitted operands are left out
};

/// `input_types` as on the node; dtype undefined means omitted. Needs float32 results and float32 operands, except that
/// operands of Pointwise, the condition of Where and the input of Cast may be bool (read as 0 or 1), and operands and
/// result of Pointwise 8-bit integers (the result rounded to nearest even, saturated).
/// nullopt when the operator is no elementwise arithmetic, or on other types.
std::optional<PointwiseForm> pointwise_form(const Op& op, const std::vector<TensorType>& input_types,
                                            const TensorType& output_type);

/// The instructions that fusion makes of Gelu by tanh, on register 0: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
void append_gelu_tanh(PointwiseProgram& program);

}  // namespace tenfold
