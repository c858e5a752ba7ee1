#include "backend/cpu/kernels/finish.hpp"

#include "backend/cpu/kernels/pointwise_program.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

void run_finish_program(const FinishArgs& finish, float* c, std::int64_t c_stride, std::int64_t row_begin,
                        std::int64_t row_end, std::int64_t column_begin, std::int64_t column_end,
                        const float* const* widened, std::int64_t widened_stride) {
  const CompiledPointwise& program = *finish.program;
  PointwiseOperand inputs[FinishArgs::kMaxOperands];
  for (std::int64_t row = row_begin; row < row_end;) {
    const std::int64_t group = row / finish.group_rows;
    const std::int64_t first = group * finish.group_rows;
    const std::int64_t end = first + finish.group_rows < row_end ? first + finish.group_rows : row_end;
    inputs[0] = {c, c_stride, 1};
    for (int i = 1; i < program.num_inputs; ++i) {
      const FinishOperand& operand = finish.operands[i];
      if (operand.is_bf16) {
        inputs[i] = {widened[i] + (row - row_begin) * widened_stride, widened_stride, 1};
        continue;
      }
      const float* data = operand.data + (row - first) * operand.row_stride + column_begin * operand.col_stride;
      std::int64_t rest = group;
      for (int axis = operand.num_outer - 1; axis >= 0; --axis) {
        data += rest % operand.outer_dims[axis] * operand.outer_strides[axis];
        rest /= operand.outer_dims[axis];
      }
      inputs[i] = {data, operand.row_stride, operand.col_stride};
    }
    const std::int64_t rows = end - row, columns = column_end - column_begin;
    // Rows without gaps are one long row: a vector holds many pixels of few channels.
    bool joins = c_stride == columns;
    for (int i = 1; i < program.num_inputs; ++i) {
      const bool is_number = inputs[i].row_stride == 0 && inputs[i].col_stride == 0;
      joins = joins && (is_number || (inputs[i].row_stride == columns && (inputs[i].col_stride == 1 || columns == 1)));
    }
    if (joins) {
      for (int i = 1; i < program.num_inputs; ++i) {
        if (inputs[i].row_stride != 0) inputs[i].col_stride = 1;
      }
      run_pointwise(program, inputs, c, rows * columns, 1, rows * columns);
    } else {
      run_pointwise(program, inputs, c, c_stride, rows, columns);
    }
    c += (end - row) * c_stride;
    row = end;
  }
}

}  // namespace tenfold::cpu::TENFOLD_TIER
