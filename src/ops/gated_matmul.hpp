// A matrix product whose columns meet in pairs, as gated activations want it (GEGLU, SwiGLU: Shazeer 2020,
// arXiv:2002.05202).
#pragma once

#include <string_view>

#include "ops/pointwise.hpp"

namespace tenfold {

/// y[..., i, j] = program(s[..., i, j], s[..., i, N + j], operands ...),  s = a b
/// Inputs: a [..., M, K], b [K, 2 N] ([2 N, K] with trans_b), then the program's inputs from register 2 on, each
/// broadcast to the result [..., M, N]. The program works on the sums as they were accumulated.
class GatedMatMul final : public Op {
 public:
  static constexpr int kFirstOperand = 2;
  static constexpr int kOwnRegisters = 2;

  GatedMatMul(bool trans_b, PointwiseProgram program) : trans_b_(trans_b), program_(std::move(program)) {}
  bool trans_b() const { return trans_b_; }
  const PointwiseProgram& program() const { return program_; }
  int num_operands() const { return program_.num_inputs - kOwnRegisters; }

  std::string_view type() const override { return "GatedMatMul"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override;

 private:
  bool trans_b_;
  PointwiseProgram program_;
};

}  // namespace tenfold
