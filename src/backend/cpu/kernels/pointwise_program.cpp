#include "backend/cpu/kernels/pointwise_program.hpp"

#include "backend/cpu/kernels/simd.hpp"
#include "backend/cpu/kernels/simd_math.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

namespace {

constexpr int kWidth = Vec::kWidth;
/// Floats of scratch for all slots together: half of a 32 KB first-level cache.
constexpr int kScratchFloats = 4096;
constexpr int kMaxBlockFloats = 512;

/// An operand within a block: col_step is 1, or 0 for a row-wise number, which is then stored kWidth times.
struct Source {
  const float* data;
  std::int64_t row_stride;
  std::int64_t col_step;
};

/// rows x cols results of one step. Sources and target may be read and written past `cols` only in slots, whose rows
/// are padded; so the last, partial vector of a row is always loaded and stored with a mask.
struct Block {
  std::int64_t rows;
  std::int64_t cols;
  Source a, b, c;
  float k;
  float* out;
  std::int64_t out_row_stride;
};

template <int kOperands, typename F>
void for_each(const Block& block, F formula) {
  const std::int64_t whole = block.cols / kWidth * kWidth;
  const int rest = static_cast<int>(block.cols - whole);
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const float* a = kOperands > 0 ? block.a.data + r * block.a.row_stride : nullptr;
    const float* b = kOperands > 1 ? block.b.data + r * block.b.row_stride : nullptr;
    const float* c = kOperands > 2 ? block.c.data + r * block.c.row_stride : nullptr;
    float* out = block.out + r * block.out_row_stride;
    const std::int64_t a_step = block.a.col_step, b_step = block.b.col_step, c_step = block.c.col_step;
    const Vec none(0.0F);
    for (std::int64_t i = 0; i < whole; i += kWidth) {
      formula(kOperands > 0 ? Vec::load(a + i * a_step) : none, kOperands > 1 ? Vec::load(b + i * b_step) : none,
              kOperands > 2 ? Vec::load(c + i * c_step) : none)
          .store(out + i);
    }
    if (rest > 0) {
      // A repeated number has kWidth copies, so its masked load is safe too.
      formula(kOperands > 0 ? Vec::load_first(a + whole * a_step, rest) : none,
              kOperands > 1 ? Vec::load_first(b + whole * b_step, rest) : none,
              kOperands > 2 ? Vec::load_first(c + whole * c_step, rest) : none)
          .store_first(out + whole, rest);
    }
  }
}

/// One function for each code, out of the one table of formulas.
#define TENFOLD_CODE(name, operands, formula)                                                              \
  void run_##name(const Block& block) {                                                                    \
    using T = Vec;                                                                                         \
    [[maybe_unused]] const float k = block.k;                                                              \
    for_each<operands>(block, [k]([[maybe_unused]] T a, [[maybe_unused]] T b, [[maybe_unused]] T c) -> T { \
      (void)k;                                                                                             \
      return formula;                                                                                      \
    });                                                                                                    \
  }
TENFOLD_POINTWISE_CODES(TENFOLD_CODE)
#undef TENFOLD_CODE

using RunStep = void (*)(const Block&);
constexpr RunStep kRunStep[] = {
#define TENFOLD_CODE(name, operands, formula) run_##name,
    TENFOLD_POINTWISE_CODES(TENFOLD_CODE)
#undef TENFOLD_CODE
};

/// By the program's machine code: straight from the operands, where a number repeats from kWidth copies of it.
void run_native(const CompiledPointwise& program, const PointwiseOperand* inputs, float* out,
                std::int64_t out_row_stride, std::int64_t rows, std::int64_t cols) {
  constexpr auto kFloatBytes = static_cast<std::int64_t>(sizeof(float));
  alignas(64) float repeated[NativePointwiseArgs::kMaxInputs][kWidth];
  NativePointwiseArgs args;
  bool has_row_numbers = false;
  for (int i = 0; i < program.num_inputs; ++i) {
    const PointwiseOperand& input = inputs[i];
    if (input.col_stride == 0) {
      Vec(*input.data).store(repeated[i]);
      args.data[i] = repeated[i];
      args.step_bytes[i] = args.row_bytes[i] = 0;
      has_row_numbers |= input.row_stride != 0;
    } else {
      args.data[i] = input.data;
      args.step_bytes[i] = kWidth * kFloatBytes;
      args.row_bytes[i] = input.row_stride * kFloatBytes;
    }
  }
  args.out = out;
  args.out_row_bytes = out_row_stride * kFloatBytes;
  args.whole = cols / kWidth;
  args.behind = cols % kWidth;
  args.rows = has_row_numbers ? 1 : rows;
  program.native(&args);
  for (std::int64_t row = args.rows; row < rows; ++row) {
    for (int i = 0; i < program.num_inputs; ++i) {
      if (inputs[i].col_stride == 0) Vec(inputs[i].data[row * inputs[i].row_stride]).store(repeated[i]);
    }
    program.native(&args);
  }
}

}  // namespace

void run_pointwise(const CompiledPointwise& program, const PointwiseOperand* inputs, float* out,
                   std::int64_t out_row_stride, std::int64_t rows, std::int64_t cols) {
  if (rows <= 0 || cols <= 0) return;
  if (program.native != nullptr && program.native_floats == kWidth) {
    run_native(program, inputs, out, out_row_stride, rows, cols);
    return;
  }
  alignas(64) float slots[kScratchFloats];
  // Row-wise numbers of a block, kWidth copies each.
  alignas(64) float repeated[CompiledPointwise::kMaxInputs][kWidth];

  // Every slot gets the same number of floats, a multiple of kWidth; a single-step program needs none.
  int slot_floats = kMaxBlockFloats;
  if (program.num_steps > 1 && program.num_slots > 0 && slot_floats * program.num_slots > kScratchFloats) {
    slot_floats = kScratchFloats / program.num_slots / kWidth * kWidth;
  }
  bool has_row_numbers = false;
  for (int i = 0; i < program.num_inputs; ++i) {
    has_row_numbers |= inputs[i].col_stride == 0 && inputs[i].row_stride != 0;
  }
  const std::int64_t block_cols = cols < slot_floats ? cols : slot_floats;
  const std::int64_t slot_stride = (block_cols + kWidth - 1) / kWidth * kWidth;
  // Numbers that differ from row to row are repeated for one row at a time.
  const std::int64_t rows_that_fit = slot_floats / slot_stride;
  const std::int64_t block_rows = has_row_numbers || rows_that_fit < 1 ? 1 : rows_that_fit;

  for (int i = 0; i < program.num_inputs; ++i) {
    if (inputs[i].col_stride == 0 && inputs[i].row_stride == 0) Vec(*inputs[i].data).store(repeated[i]);
  }
  Source sources[CompiledPointwise::kMaxInputs + CompiledPointwise::kMaxSteps];
  for (int s = 0; s < program.num_slots; ++s)
    sources[program.num_inputs + s] = {slots + s * slot_floats, slot_stride, 1};

  for (std::int64_t row = 0; row < rows; row += block_rows) {
    const std::int64_t num_rows = rows - row < block_rows ? rows - row : block_rows;
    if (has_row_numbers) {
      for (int i = 0; i < program.num_inputs; ++i) {
        const PointwiseOperand& input = inputs[i];
        if (input.col_stride == 0 && input.row_stride != 0) Vec(input.data[row * input.row_stride]).store(repeated[i]);
      }
    }
    for (std::int64_t col = 0; col < cols; col += block_cols) {
      const std::int64_t num_cols = cols - col < block_cols ? cols - col : block_cols;
      for (int i = 0; i < program.num_inputs; ++i) {
        const PointwiseOperand& input = inputs[i];
        sources[i] = input.col_stride == 0 ? Source{repeated[i], 0, 0}
                                           : Source{input.data + row * input.row_stride + col, input.row_stride, 1};
      }
      for (int s = 0; s < program.num_steps; ++s) {
        const CompiledPointwise::Step& step = program.steps[s];
        const bool is_last = s == program.num_steps - 1;
        const Block block{num_rows,
                          num_cols,
                          sources[step.operands[0]],
                          sources[step.operands[1]],
                          sources[step.operands[2]],
                          step.immediate,
                          is_last ? out + row * out_row_stride + col : slots + step.slot * slot_floats,
                          is_last ? out_row_stride : slot_stride};
        kRunStep[static_cast<int>(step.code)](block);
      }
    }
  }
}

extern const PointwiseKernels kPointwiseKernels;
const PointwiseKernels kPointwiseKernels = {run_pointwise};

}  // namespace tenfold::cpu::TENFOLD_TIER
