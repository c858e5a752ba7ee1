#include "ops/gated_matmul.hpp"

#include <vector>

#include "ops/checks.hpp"
#include "ops/matmul.hpp"
#include "ops/numbers.hpp"
#include "ops/registry.hpp"

namespace tenfold {
namespace {

OpPtr make_gated_matmul(const Attributes& attributes) {
  const std::int64_t trans_b = attributes.get_int("trans_b", 0);
  require(trans_b == 0 || trans_b == 1, Code::invalid_model, "trans_b must be 0 or 1, got {}", trans_b);
  const std::int64_t count = attributes.get_int("num_inputs");
  require(GatedMatMul::kOwnRegisters <= count && count < PointwiseProgram::kMaxRegisters, Code::invalid_model,
          "num_inputs must be {} to {}, got {}", GatedMatMul::kOwnRegisters, PointwiseProgram::kMaxRegisters - 1,
          count);
  PointwiseProgram program = PointwiseProgram::parse(static_cast<int>(count), attributes.get_string("program"));
  require(!program.empty(), Code::invalid_model, "the program is empty");
  return std::make_shared<const GatedMatMul>(trans_b == 1, std::move(program));
}

}  // namespace

Attributes GatedMatMul::attributes() const {
  return {{"trans_b", std::int64_t{trans_b_}},
          {"num_inputs", std::int64_t{program_.num_inputs}},
          {"program", program_.to_string()}};
}

void GatedMatMul::infer(InferContext& context) const {
  check_num_inputs(context, kFirstOperand + num_operands(), kFirstOperand + num_operands());
  check_num_outputs(context, 1, 1);
  check_float(context, 0, "the first matrix");
  check_same_dtype(context, 1, "the second matrix");
  check_rank(context, 1, 2, "the second matrix");
  TensorType result{context.input(0).dtype,
                    matmul_output_dims(context.input(0).dims, context.input(1).dims, false, trans_b_)};
  const Dim columns = result.dims.back();
  require(columns.is_constant() && columns.constant() % 2 == 0, Code::invalid_model, "{} columns do not make pairs",
          columns.to_string());
  result.dims.back() = Dim(columns.constant() / 2);
  for (int i = 0; i < num_operands(); ++i) {
    const int index = kFirstOperand + i;
    require(context.has_input(index) && is_pointwise_operand(context.input(index).dtype), Code::invalid_model,
            "operand {} of the program is missing, or of a type that it does not read", i);
    check_broadcasts_to(context.input(index).dims, result.dims, "an operand of the program");
  }
  context.set_output(0, std::move(result));
}

void GatedMatMul::evaluate(EvalContext& context) const {
  const TensorView& a = context.input(0);
  const TensorView& b = context.input(1);
  const TensorView& y = context.output(0);
  if (y.num_elements() == 0) return;
  const MatMulPlan plan = plan_matmul(a.dims, b.dims, false, trans_b_);
  const std::vector<double> sums = multiply<double>(plan, load_doubles(a), load_doubles(b), false, trans_b_);
  const std::int64_t columns = plan.n / 2;
  ensure(static_cast<std::int64_t>(sums.size()) == 2 * y.num_elements(), "a gated product of inconsistent shapes");
  std::vector<std::vector<double>> operands;
  std::vector<std::vector<std::int64_t>> strides;
  for (int i = 0; i < num_operands(); ++i) {
    const TensorView& operand = context.input(kFirstOperand + i);
    operands.push_back(load_doubles(operand));
    strides.push_back(broadcast_strides(operand.dims, y.dims));
  }
  std::vector<double> results;
  std::vector<double> registers;
  for_each_index(Shape(y.dims.begin(), y.dims.end()), strides, [&](std::span<const std::int64_t> offsets) {
    const auto index = static_cast<std::int64_t>(results.size());
    const auto first = static_cast<std::size_t>(index / columns * plan.n + index % columns);
    registers = {sums[first], sums[first + static_cast<std::size_t>(columns)]};
    for (std::size_t i = 0; i < operands.size(); ++i) {
      registers.push_back(operands[i][static_cast<std::size_t>(offsets[i])]);
    }
    for (const PointwiseInstruction& instruction : program_.instructions) {
      registers.push_back(
          tenfold::evaluate(instruction, registers[instruction.a], registers[instruction.b], registers[instruction.c]));
    }
    results.push_back(registers.back());
  });
  store_doubles(results, y);
}

double GatedMatMul::flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const {
  if (inputs.size() < 2 || outputs.empty() || !inputs[0].is_static() || !outputs[0].is_static()) return 0;
  double flops = 4 * static_cast<double>(inputs[0].dims.back().constant());
  for (const Dim& dim : outputs[0].dims) flops *= static_cast<double>(dim.constant());
  return flops;
}

const OpDef kGatedMatMulDef{"GatedMatMul", make_gated_matmul, nullptr};

}  // namespace tenfold
