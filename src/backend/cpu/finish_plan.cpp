#include "backend/cpu/finish_plan.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

namespace tenfold::cpu {
namespace {

constexpr int kMaxAdditions = 2;  // a bias and a residual

bool reads_register(const PointwiseInstruction& instruction, int index) {
  const std::array<int, 3> operands = {instruction.a, instruction.b, instruction.c};
  for (int i = 0; i < num_operands(instruction.code); ++i) {
    if (operands[static_cast<std::size_t>(i)] == index) return true;
  }
  return false;
}

/// If the program begins by adding an input to register 0, and does not need the register any more: which input.
std::optional<int> leading_addition(const PointwiseProgram& program) {
  if (program.empty() || program.instructions.front().code != PointwiseCode::add) return std::nullopt;
  const PointwiseInstruction& add = program.instructions.front();
  const int other = add.a == 0 ? add.b : add.a;
  if ((add.a != 0 && add.b != 0) || other == 0 || other >= program.num_inputs) return std::nullopt;
  for (std::size_t i = 1; i < program.instructions.size(); ++i) {
    if (reads_register(program.instructions[i], 0)) return std::nullopt;
  }
  return other;
}

/// The program whose register 0 is the first instruction's result.
PointwiseProgram without_first(const PointwiseProgram& program) {
  PointwiseProgram rest;
  rest.num_inputs = program.num_inputs;
  const auto moved = [&](std::uint8_t r) -> std::uint8_t {
    if (r < program.num_inputs) return r;
    return r == program.num_inputs ? 0 : static_cast<std::uint8_t>(r - 1);
  };
  for (std::size_t i = 1; i < program.instructions.size(); ++i) {
    PointwiseInstruction instruction = program.instructions[i];
    instruction.a = moved(instruction.a);
    instruction.b = moved(instruction.b);
    instruction.c = moved(instruction.c);
    rest.instructions.push_back(instruction);
  }
  return rest;
}

/// The program as an activation in registers, if it is one. An empty program is none.
std::optional<Activation> as_activation(const PointwiseProgram& program) {
  using enum PointwiseCode;
  if (program.empty()) return std::nullopt;
  const PointwiseInstruction& first = program.instructions.front();
  if (program.instructions.size() == 1 && first.a == 0 && first.code == leaky_relu)
    return Activation{.kind = Activation::Kind::leaky, .slope = first.immediate};
  if (program.instructions.size() == 1 && first.a == 0 && first.code == prelu && first.b != 0)
    return Activation{.kind = Activation::Kind::leaky};
  Activation result{.low = -std::numeric_limits<float>::infinity(), .high = std::numeric_limits<float>::infinity()};
  // Read in this order, each part at most once: slope and shift, limits, the product with the result, scale and offset.
  enum { slope, shift, limits, gate, scale, offset, finished } part = slope;
  bool is_linear = false;
  int current = 0;
  for (std::size_t i = 0; i < program.instructions.size(); ++i) {
    const PointwiseInstruction& instruction = program.instructions[i];
    const bool is_gate =
        instruction.code == mul && part <= gate && part > slope &&
        ((instruction.a == 0 && instruction.b == current) || (instruction.b == 0 && instruction.a == current));
    if (!is_gate && instruction.a != current) return std::nullopt;
    const float k = instruction.immediate;
    if (is_gate) {
      result.kind = Activation::Kind::gated_clip;
      part = scale;
    } else if (instruction.code == hard_swish && part == slope) {
      result = {.kind = Activation::Kind::gated_clip, .low = 0, .high = 1, .slope = 1.0F / 6, .shift = 0.5F};
      part = scale;
    } else if (instruction.code == mul_imm && part == slope) {
      result.slope = k;
      is_linear = true;
      part = shift;
    } else if (instruction.code == add_imm && part <= shift) {
      result.shift = k;
      is_linear = true;
      part = limits;
    } else if ((instruction.code == relu || instruction.code == max_imm || instruction.code == min_imm) &&
               part <= limits) {
      if (instruction.code == min_imm) {
        result.high = std::min(result.high, k);
      } else {
        result.low = std::max(result.low, instruction.code == relu ? 0.0F : k);
      }
      part = limits;
    } else if (instruction.code == mul_imm && limits <= part && part <= scale) {
      result.scale = k;
      is_linear = true;
      part = offset;
    } else if (instruction.code == add_imm && limits <= part && part <= offset) {
      result.offset = k;
      is_linear = true;
      part = finished;
    } else {
      return std::nullopt;
    }
    current = program.num_inputs + static_cast<int>(i);
  }
  // With crossed limits the order of the two steps would matter. NaN limits fail here too.
  if (!(result.low <= result.high)) return std::nullopt;
  if (result.kind == Activation::Kind::none) {
    result.kind = is_linear ? Activation::Kind::linear_clip : Activation::Kind::clip;
  }
  return result;
}

}  // namespace

std::optional<std::string> FinishPlan::refuses(const Epilogue& epilogue, std::span<const TensorType> inputs,
                                               int first_input) {
  if (epilogue.output != DType::undefined && epilogue.output != DType::float32)
    return fmt::format("the result is {}", to_string(epilogue.output));
  if (epilogue.program.empty()) return std::nullopt;
  for (std::size_t i = static_cast<std::size_t>(first_input); i < inputs.size(); ++i) {
    if (inputs[i].dtype != DType::float32) return "an input of the epilogue is no float32";
  }
  return refuses(epilogue);
}

std::optional<std::string> FinishPlan::refuses(const Epilogue& epilogue) {
  if (epilogue.program.empty()) return std::nullopt;
  if (epilogue.program.num_inputs > FinishArgs::kMaxOperands) {
    return fmt::format("the epilogue has {} inputs, at most {} are supported", epilogue.program.num_inputs,
                       FinishArgs::kMaxOperands);
  }
  if (epilogue.program.num_inputs < 1) return "the epilogue does not read the result";
  return refuses_pointwise(epilogue.program);
}

FinishPlan::FinishPlan(const Epilogue& epilogue, int first_input, bool in_registers)
    : first_input_(first_input), num_operands_(epilogue.num_extra_inputs()) {
  if (const auto refusal = refuses(epilogue)) throw Error(Code::incompatible_engine, *refusal);
  if (!in_registers && !epilogue.program.empty()) {
    stages_.push_back({.activation = {}, .program = load_pointwise(epilogue.program)});
    return;
  }
  PointwiseProgram program = epilogue.program;
  int added_input = 0;
  for (;;) {
    Stage stage;
    stage.added_input = added_input;
    for (int i = 0; i < program.num_inputs; ++i) {
      stage.reads.push_back(
          std::any_of(program.instructions.begin(), program.instructions.end(),
                      [i](const PointwiseInstruction& instruction) { return reads_register(instruction, i); }));
    }
    if (const auto activation = as_activation(program)) {
      stage.activation = *activation;
      if (program.instructions.front().code == PointwiseCode::prelu) stage.slope_input = program.instructions.front().b;
    }
    if (!program.empty() && (stage.activation.kind == Activation::Kind::none || stage.slope_input != 0)) {
      stage.program = load_pointwise(program);
    }
    stages_.push_back(std::move(stage));
    const auto added = leading_addition(program);
    if (!added || static_cast<int>(stages_.size()) > kMaxAdditions) break;
    added_input = *added;
    program = without_first(program);
  }
}

int FinishPlan::residual_input(std::span<const TensorType> inputs, const TensorType& output, bool has_bias) const {
  const auto is_static_one = [](const Dim& dim) { return dim == Dim(1); };
  const auto is_row = [&](const TensorType& type) {
    return type.rank() > 0 && type.dims.back() == output.dims.back() &&
           std::all_of(type.dims.begin(), type.dims.end() - 1, is_static_one);
  };
  if (output.rank() == 0 || is_row(output)) return -1;
  // What `resolve` adds as residual, whatever the sizes: the first or, behind a bias, second addition, if no other
  // operand's shape cuts the rows into groups.
  for (int i = 0; i < num_operands_; ++i) {
    const TensorType& type = inputs[static_cast<std::size_t>(first_input_ + i)];
    if (type != output && !is_row(type)) return -1;
  }
  const auto added_by = [&](std::size_t stage) { return first_input_ + stages_[stage].added_input - 1; };
  const auto type_added_by = [&](std::size_t stage) { return inputs[static_cast<std::size_t>(added_by(stage))]; };
  std::size_t stage = 1;
  if (!has_bias && stages_.size() > 2 && is_row(type_added_by(1))) stage = 2;
  if (stages_.size() <= stage || type_added_by(stage) != output) return -1;
  return stages_[stage].reads[static_cast<std::size_t>(stages_[stage].added_input)] ? -1 : added_by(stage);
}

void FinishPlan::resolve(const Launch& launch, std::span<const std::int64_t> dims, FinishArgs& args) const {
  const int rank = static_cast<int>(dims.size());
  const int row_axes = rank - 1;
  std::int64_t strides[FinishArgs::kMaxOperands][kMaxRank] = {};
  const int operands = num_operands_ + 1;
  for (int i = 1; i < operands; ++i) {
    const TensorView& view = launch.inputs[static_cast<std::size_t>(first_input_ + i - 1)];
    args.operands[i].data = static_cast<const float*>(view.data);
    args.operands[i].is_bf16 = view.dtype == DType::bfloat16;
    const int shift = rank - view.rank();
    std::int64_t stride = 1;
    for (int axis = view.rank() - 1; axis >= 0; --axis) {
      strides[i][axis + shift] = view.dim(axis) == 1 ? 0 : stride;
      stride = axis == view.rank() - 1 ? view.pitch : stride * view.dim(axis);
    }
    args.operands[i].col_stride = strides[i][rank - 1];
  }

  // The innermost row axes over which every operand is affine.
  int inner = row_axes;
  std::int64_t group_rows = 1;
  for (int i = 1; i < operands; ++i) args.operands[i].row_stride = 0;
  for (int axis = row_axes - 1; axis >= 0; --axis) {
    const std::int64_t size = dims[static_cast<std::size_t>(axis)];
    if (size != 1) {
      bool affine = true;
      for (int i = 1; i < operands && group_rows != 1; ++i) {
        affine = affine && strides[i][axis] == args.operands[i].row_stride * group_rows;
      }
      if (!affine) break;
      if (group_rows == 1) {
        for (int i = 1; i < operands; ++i) args.operands[i].row_stride = strides[i][axis];
      }
      group_rows *= size;
    }
    inner = axis;
  }
  args.group_rows = std::max<std::int64_t>(group_rows, 1);
  for (int i = 1; i < operands; ++i) {
    FinishOperand& operand = args.operands[i];
    operand.num_outer = inner;
    for (int axis = 0; axis < inner; ++axis) {
      operand.outer_dims[axis] = dims[static_cast<std::size_t>(axis)];
      operand.outer_strides[axis] = strides[i][axis];
    }
  }

  const auto one_for_each_column = [&](int input) {
    bool same = !args.operands[input].is_bf16 &&
                (args.operands[input].col_stride == 1 || dims[static_cast<std::size_t>(rank - 1)] == 1);
    for (int axis = 0; axis < row_axes; ++axis) same = same && strides[input][axis] == 0;
    return same;
  };
  std::size_t stage = 0;
  for (; stage + 1 < stages_.size(); ++stage) {
    const int added = stages_[stage + 1].added_input;
    const FinishOperand& operand = args.operands[added];
    const bool affine = inner == 0 && (operand.col_stride == 1 || dims[static_cast<std::size_t>(rank - 1)] == 1);
    if (one_for_each_column(added) && args.bias == nullptr) {
      args.bias = operand.data;
    } else if (affine && args.residual == nullptr) {
      args.residual = operand.data;
      args.residual_is_bf16 = operand.is_bf16;
      args.residual_stride = operand.row_stride;
    } else {
      break;
    }
  }
  const Stage& chosen = stages_[stage];
  const bool in_registers = chosen.slope_input == 0 || one_for_each_column(chosen.slope_input);
  args.activation = in_registers ? chosen.activation : Activation{};
  if (in_registers && chosen.slope_input != 0) args.activation.slopes = args.operands[chosen.slope_input].data;
  args.program = chosen.program && !(in_registers && chosen.slope_input != 0) ? &chosen.program->program : nullptr;
}

}  // namespace tenfold::cpu
