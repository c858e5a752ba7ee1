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

struct Clip {
  float low = -std::numeric_limits<float>::infinity();
  float high = std::numeric_limits<float>::infinity();
};
/// The program as clip(x, low, high), if that is all it does. An empty program is no clip.
std::optional<Clip> as_clip(const PointwiseProgram& program) {
  if (program.empty() || program.instructions.size() > 2) return std::nullopt;
  Clip clip;
  int current = 0;
  for (const PointwiseInstruction& instruction : program.instructions) {
    if (instruction.a != current) return std::nullopt;
    switch (instruction.code) {
      case PointwiseCode::relu:
        clip.low = std::max(clip.low, 0.0F);
        break;
      case PointwiseCode::max_imm:
        clip.low = std::max(clip.low, instruction.immediate);
        break;
      case PointwiseCode::min_imm:
        clip.high = std::min(clip.high, instruction.immediate);
        break;
      default:
        return std::nullopt;
    }
    current = current == 0 ? program.num_inputs : current + 1;
  }
  // With crossed limits the order of the two steps would matter. NaN limits fail here too.
  if (!(clip.low <= clip.high)) return std::nullopt;
  return clip;
}

}  // namespace

std::optional<std::string> FinishPlan::refuses(const Epilogue& epilogue) {
  if (epilogue.program.empty()) return std::nullopt;
  if (epilogue.program.num_inputs > FinishArgs::kMaxOperands) {
    return fmt::format("the epilogue has {} inputs, at most {} are supported", epilogue.program.num_inputs,
                       FinishArgs::kMaxOperands);
  }
  if (epilogue.program.num_inputs < 1) return "the epilogue does not read the result";
  return refuses_pointwise(epilogue.program);
}

FinishPlan::FinishPlan(const Epilogue& epilogue, int first_input)
    : first_input_(first_input), num_operands_(epilogue.num_extra_inputs()) {
  if (const auto refusal = refuses(epilogue)) throw Error(Code::incompatible_engine, *refusal);
  PointwiseProgram program = epilogue.program;
  int added_input = 0;
  for (;;) {
    Stage stage;
    stage.added_input = added_input;
    if (const auto clip = as_clip(program)) {
      stage.clips = true;
      stage.low = clip->low;
      stage.high = clip->high;
    } else if (!program.empty()) {
      stage.program = compile_pointwise(program);
    }
    stages_.push_back(std::move(stage));
    const auto added = leading_addition(program);
    if (!added || static_cast<int>(stages_.size()) > kMaxAdditions) break;
    added_input = *added;
    program = without_first(program);
  }
}

void FinishPlan::resolve(const Launch& launch, std::span<const std::int64_t> dims, FinishArgs& args) const {
  const int rank = static_cast<int>(dims.size());
  const int row_axes = rank - 1;
  std::int64_t strides[FinishArgs::kMaxOperands][kMaxRank] = {};
  const int operands = num_operands_ + 1;
  for (int i = 1; i < operands; ++i) {
    const TensorView& view = launch.inputs[static_cast<std::size_t>(first_input_ + i - 1)];
    args.operands[i].data = view.as<const float>();
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

  std::size_t stage = 0;
  for (; stage + 1 < stages_.size(); ++stage) {
    const FinishOperand& operand = args.operands[stages_[stage + 1].added_input];
    bool affine = inner == 0 && (operand.col_stride == 1 || dims[static_cast<std::size_t>(rank - 1)] == 1);
    bool same_for_rows = operand.col_stride == 1 || dims[static_cast<std::size_t>(rank - 1)] == 1;
    for (int axis = 0; axis < row_axes; ++axis)
      same_for_rows = same_for_rows && strides[stages_[stage + 1].added_input][axis] == 0;
    if (same_for_rows && args.bias == nullptr) {
      args.bias = operand.data;
    } else if (affine && args.residual == nullptr) {
      args.residual = operand.data;
      args.residual_stride = operand.row_stride;
    } else {
      break;
    }
  }
  args.clips = stages_[stage].clips;
  args.low = stages_[stage].low;
  args.high = stages_[stage].high;
  args.program = stages_[stage].program ? &*stages_[stage].program : nullptr;
}

}  // namespace tenfold::cpu
