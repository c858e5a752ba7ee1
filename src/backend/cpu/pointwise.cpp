// Tactic "pointwise.blocks": operator Pointwise, and every single operator that is one (ops/pointwise_form.hpp).
// Intermediate values stay in registers, or in the first-level cache where the program is interpreted, so each operand
// passes through memory once. Works in place.
#include <array>
#include <cstring>

#include "backend/cpu/broadcast.hpp"
#include "backend/cpu/kernels/byte_product.hpp"
#include "backend/cpu/kernels/pointwise_program.hpp"
#include "backend/cpu/pointwise_jit.hpp"
#include "backend/cpu/tactic_tools.hpp"
#include "ops/pointwise_form.hpp"

namespace tenfold::cpu {

namespace {

constexpr int kMaxInputs = CompiledPointwise::kMaxInputs;
using Nest = LoopNest<kMaxInputs + 1>;

/// Nanoseconds for one element of a step, roughly.
double cost_ns(PointwiseCode code) {
  using enum PointwiseCode;
  switch (code) {
    case exp:
    case log:
    case tanh:
    case sigmoid:
    case erf:
    case gelu:
    case silu:
    case elu:
      return 0.5;
    case sin:
    case cos:
    case softplus:
      return 1;
    case pow:
    case pow_imm:
      return 2;
    case div:
    case reciprocal:
    case sqrt:
    case rdiv_imm:
      return 0.2;
    default:
      return 0.05;
  }
}

/// Elements of an operand that repeats, skips or is boolean, as consecutive floats: those that belong to the output's
/// elements [begin, begin + count).
template <typename T>
void gather(const Nest& nest, std::size_t operand, const T* data, std::int64_t begin, std::int64_t count, float* to) {
  const auto& strides = nest.strides[operand];
  const auto inner = static_cast<std::size_t>(nest.rank - 1);
  std::array<std::int64_t, kMaxRank> index{};
  std::int64_t rest = begin, offset = 0;
  for (int i = nest.rank - 1; i >= 0; --i) {
    const auto axis = static_cast<std::size_t>(i);
    index[axis] = rest % nest.dims[axis];
    rest /= nest.dims[axis];
    offset += index[axis] * strides[axis];
  }
  const std::int64_t step = strides[inner];
  while (count > 0) {
    const std::int64_t run = std::min(count, nest.dims[inner] - index[inner]);
    const T* from = data + offset;
    if (step == 0) {
      std::fill_n(to, run, static_cast<float>(*from));
    } else if (step == 1) {
      for (std::int64_t i = 0; i < run; ++i) to[i] = static_cast<float>(from[i]);
    } else {
      for (std::int64_t i = 0; i < run; ++i) to[i] = static_cast<float>(from[i * step]);
    }
    to += run;
    count -= run;
    // To the start of the next row.
    offset -= index[inner] * step;
    index[inner] = 0;
    for (int i = nest.rank - 2; i >= 0; --i) {
      const auto axis = static_cast<std::size_t>(i);
      offset += strides[axis];
      if (++index[axis] < nest.dims[axis]) break;
      offset -= strides[axis] * nest.dims[axis];
      index[axis] = 0;
    }
  }
}

class PointwiseKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_output(0)) return "output 0 is not wanted";
    const auto form = pointwise_form(signature.op, signature.inputs, signature.outputs[0]);
    if (!form) return "it is elementwise float32 arithmetic only for float32 operands";
    if (signature.outputs[0].rank() > kMaxRank)
      return fmt::format("rank {} is above {}", signature.outputs[0].rank(), kMaxRank);
    return refuses_pointwise(form->program);
  }
  explicit PointwiseKernel(const KernelSpec& spec)
      : PointwiseKernel(*pointwise_form(*spec.op, spec.inputs, spec.outputs[0]), spec) {}

  void run(const Launch& launch) const override {
    const TensorView& out = launch.outputs[0];
    if (out.num_elements() == 0) return;
    std::array<TensorView, kMaxInputs + 1> operands;
    const std::size_t count = inputs_.size();
    for (std::size_t i = 0; i < count; ++i) operands[i] = launch.inputs[static_cast<std::size_t>(inputs_[i])];
    operands[count] = out;
    const Nest nest = make_loop_nest<kMaxInputs + 1>(out.dims, std::span(operands).first(count + 1));

    const auto inner = static_cast<std::size_t>(nest.rank - 1);
    bool by_rows = out.dtype == DType::float32 && (nest.strides[count][inner] == 1 || nest.dims[inner] == 1);
    for (std::size_t i = 0; i < count; ++i) {
      by_rows &= operands[i].dtype == DType::float32 && nest.strides[i][inner] <= 1;
    }
    // Short rows would be mostly overhead: a few of them together make a block instead.
    constexpr std::int64_t kShortRow = 32;
    if (nest.rank > 1 && nest.dims[inner] < kShortRow) by_rows = false;
    if (by_rows) {
      run_rows(nest, operands, pool_of(launch));
    } else {
      run_blocks(nest, operands, pool_of(launch));
    }
  }
  bool accepts_pitched_input(int) const override { return true; }
  bool accepts_pitched_output(int) const override { return true; }
  bool can_run_in_place(int index) const override { return may_share_[static_cast<std::size_t>(index)]; }

 private:
  PointwiseKernel(const PointwiseForm& form, const KernelSpec& spec)
      : loaded_(load_pointwise(form.program)), inputs_(form.inputs), kernels_(TENFOLD_FOR_TIER(kPointwiseKernels)) {
    for (const TensorType& type : spec.inputs) {
      may_share_.push_back(type.dtype == DType::float32 && spec.outputs[0].dtype == DType::float32);
      ns_each_ += type.dtype == DType::undefined ? 0 : 0.1;
    }
    for (int s = 0; s < loaded_.program.num_steps; ++s) ns_each_ += cost_ns(loaded_.program.steps[s].code);
  }

  /// Rows and columns of the two innermost axes, straight from the operands' memory.
  void run_rows(const Nest& nest, std::span<const TensorView> operands, ThreadPool& pool) const {
    const std::size_t count = inputs_.size();
    const auto inner = static_cast<std::size_t>(nest.rank - 1);
    const std::int64_t cols = nest.dims[inner];
    const std::int64_t rows = nest.num_elements() / cols;
    const std::int64_t rows_of_matrix = nest.rank > 1 ? nest.dims[inner - 1] : 1;
    const auto region = [&](std::int64_t row_begin, std::int64_t row_end, std::int64_t col_begin,
                            std::int64_t col_end) {
      for (std::int64_t row = row_begin; row < row_end;) {
        std::array<std::int64_t, kMaxInputs + 1> offset{};
        const std::int64_t first = row % rows_of_matrix;
        std::int64_t rest = row / rows_of_matrix;
        for (std::size_t i = 0; i <= count && nest.rank > 1; ++i) offset[i] = first * nest.strides[i][inner - 1];
        for (int a = nest.rank - 3; a >= 0; --a) {
          const auto axis = static_cast<std::size_t>(a);
          const std::int64_t index = rest % nest.dims[axis];
          rest /= nest.dims[axis];
          for (std::size_t i = 0; i <= count; ++i) offset[i] += index * nest.strides[i][axis];
        }
        const std::int64_t num_rows = std::min(rows_of_matrix - first, row_end - row);
        std::array<PointwiseOperand, kMaxInputs> inputs;
        for (std::size_t i = 0; i < count; ++i) {
          const std::int64_t step = nest.strides[i][inner];
          inputs[i] = {operands[i].as<const float>() + offset[i] + col_begin * step,
                       nest.rank > 1 ? nest.strides[i][inner - 1] : 0, step};
        }
        kernels_.run(loaded_.program, inputs.data(), operands[count].as<float>() + offset[count] + col_begin,
                     nest.rank > 1 ? nest.strides[count][inner - 1] : 0, num_rows, col_end - col_begin);
        row += num_rows;
      }
    };
    constexpr std::int64_t kLine = 16;  // floats in a cache line: threads should not share one
    if (rows >= 4 * pool.num_threads()) {
      split(pool, rows, ns_each_ * static_cast<double>(cols),
            [&](std::int64_t begin, std::int64_t end) { region(begin, end, 0, cols); });
    } else {
      split(
          pool, cols, ns_each_ * static_cast<double>(rows),
          [&](std::int64_t begin, std::int64_t end) { region(0, rows, begin, end); }, kLine);
    }
  }

  /// Consecutive elements of the output; operands that are not consecutive floats are copied together first.
  void run_blocks(const Nest& nest, std::span<const TensorView> operands, ThreadPool& pool) const {
    constexpr std::int64_t kBlock = 256;
    const std::size_t count = inputs_.size();
    const auto inner = static_cast<std::size_t>(nest.rank - 1);
    // Whole rows, so that an operand which repeats one row looks the same in every block.
    const std::int64_t cols = nest.dims[inner];
    const std::int64_t block = cols < kBlock ? kBlock / cols * cols : kBlock;
    const bool out_is_dense = nest.is_dense(static_cast<int>(count));
    enum class Source : std::uint8_t { direct, scalar, same_row, converted, gathered };
    std::array<Source, kMaxInputs> sources{};
    for (std::size_t i = 0; i < count; ++i) {
      const bool is_float = operands[i].dtype == DType::float32, is_dense = nest.is_dense(static_cast<int>(i));
      bool repeats_row = cols <= kBlock;
      for (std::size_t axis = 0; axis < inner; ++axis) repeats_row &= nest.strides[i][axis] == 0;
      sources[i] = is_float && is_dense                              ? Source::direct
                   : is_float && nest.is_scalar(static_cast<int>(i)) ? Source::scalar
                   : repeats_row                                     ? Source::same_row
                   : is_dense && operands[i].dtype != DType::boolean ? Source::converted
                                                                     : Source::gathered;
    }
    const auto fetch = [&](std::size_t i, std::int64_t begin, std::int64_t size, float* to) {
      if (operands[i].dtype == DType::float32) {
        gather(nest, i, operands[i].as<const float>(), begin, size, to);
      } else if (operands[i].dtype == DType::int8) {
        gather(nest, i, operands[i].as<const std::int8_t>(), begin, size, to);
      } else {
        gather(nest, i, operands[i].as<const std::uint8_t>(), begin, size, to);
      }
    };
    split(
        pool, nest.num_elements(), ns_each_ + 0.5,
        [&](std::int64_t range_begin, std::int64_t range_end) {
          alignas(64) std::array<std::array<float, kBlock>, kMaxInputs> scratch;
          alignas(64) std::array<float, kBlock> result;
          std::array<PointwiseOperand, kMaxInputs> inputs;
          for (std::size_t i = 0; i < count; ++i) {
            inputs[i] = {scratch[i].data(), 0, 1};
            if (sources[i] == Source::scalar) inputs[i] = {operands[i].as<const float>(), 0, 0};
            if (sources[i] == Source::same_row) {
              fetch(i, range_begin, std::min(block, range_end - range_begin), scratch[i].data());
            }
          }
          for (std::int64_t begin = range_begin; begin < range_end; begin += block) {
            const std::int64_t size = std::min(block, range_end - begin);
            for (std::size_t i = 0; i < count; ++i) {
              if (sources[i] == Source::direct) inputs[i].data = operands[i].as<const float>() + begin;
              if (sources[i] == Source::gathered) fetch(i, begin, size, scratch[i].data());
              if (sources[i] == Source::converted) {
                bytes_.to_floats(operands[i].as<const std::uint8_t>() + begin, size, byte_type(operands[i].dtype),
                                 scratch[i].data());
              }
            }
            const DType dtype = operands[count].dtype;
            auto* out = operands[count].as<std::uint8_t>();
            const bool is_direct = out_is_dense && dtype == DType::float32;
            float* target = is_direct ? reinterpret_cast<float*>(out) + begin : result.data();
            kernels_.run(loaded_.program, inputs.data(), target, 0, 1, size);
            if (is_direct) continue;
            if (dtype == DType::float32) {
              scatter(nest, count, result.data(), begin, size, reinterpret_cast<float*>(out));
            } else if (out_is_dense) {
              bytes_.from_floats(result.data(), size, byte_type(dtype), out + begin);
            } else {
              std::array<std::uint8_t, kBlock> narrow;
              bytes_.from_floats(result.data(), size, byte_type(dtype), narrow.data());
              scatter(nest, count, narrow.data(), begin, size, out);
            }
          }
        },
        block);
  }

  static ByteResult byte_type(DType dtype) { return dtype == DType::int8 ? ByteResult::int8 : ByteResult::uint8; }

  template <typename T>
  static void scatter(const Nest& nest, std::size_t operand, const T* from, std::int64_t begin, std::int64_t count,
                      T* out) {
    for (std::int64_t i = 0; i < count; ++i) {
      std::int64_t rest = begin + i, offset = 0;
      for (int a = nest.rank - 1; a >= 0; --a) {
        const auto axis = static_cast<std::size_t>(a);
        offset += rest % nest.dims[axis] * nest.strides[operand][axis];
        rest /= nest.dims[axis];
      }
      out[offset] = from[i];
    }
  }

  LoadedPointwise loaded_;
  std::vector<int> inputs_;
  std::vector<bool> may_share_;
  double ns_each_ = 0.1;
  const PointwiseKernels& kernels_;
  const ByteKernels& bytes_ = TENFOLD_FOR_TIER(kByteKernels);
};

}  // namespace

#define TENFOLD_POINTWISE_TACTIC(op) \
  const CpuTactic kPointwise##op = plain_tactic<PointwiseKernel>("pointwise.blocks", #op);
const CpuTactic kPointwise = plain_tactic<PointwiseKernel>("pointwise.blocks", "Pointwise");
TENFOLD_POINTWISE_TACTIC(Abs)
TENFOLD_POINTWISE_TACTIC(Add)
TENFOLD_POINTWISE_TACTIC(Cast)
TENFOLD_POINTWISE_TACTIC(Ceil)
TENFOLD_POINTWISE_TACTIC(Clip)
TENFOLD_POINTWISE_TACTIC(Cos)
TENFOLD_POINTWISE_TACTIC(Div)
TENFOLD_POINTWISE_TACTIC(Elu)
TENFOLD_POINTWISE_TACTIC(Erf)
TENFOLD_POINTWISE_TACTIC(Exp)
TENFOLD_POINTWISE_TACTIC(Floor)
TENFOLD_POINTWISE_TACTIC(Gelu)
TENFOLD_POINTWISE_TACTIC(HardSigmoid)
TENFOLD_POINTWISE_TACTIC(HardSwish)
TENFOLD_POINTWISE_TACTIC(LeakyRelu)
TENFOLD_POINTWISE_TACTIC(Log)
TENFOLD_POINTWISE_TACTIC(Max)
TENFOLD_POINTWISE_TACTIC(Min)
TENFOLD_POINTWISE_TACTIC(Mish)
TENFOLD_POINTWISE_TACTIC(Mul)
TENFOLD_POINTWISE_TACTIC(Neg)
TENFOLD_POINTWISE_TACTIC(PRelu)
TENFOLD_POINTWISE_TACTIC(Pow)
TENFOLD_POINTWISE_TACTIC(Reciprocal)
TENFOLD_POINTWISE_TACTIC(Relu)
TENFOLD_POINTWISE_TACTIC(Round)
TENFOLD_POINTWISE_TACTIC(Selu)
TENFOLD_POINTWISE_TACTIC(Sigmoid)
TENFOLD_POINTWISE_TACTIC(Sin)
TENFOLD_POINTWISE_TACTIC(Softplus)
TENFOLD_POINTWISE_TACTIC(Softsign)
TENFOLD_POINTWISE_TACTIC(Sqrt)
TENFOLD_POINTWISE_TACTIC(Sub)
TENFOLD_POINTWISE_TACTIC(Swish)
TENFOLD_POINTWISE_TACTIC(Tanh)
TENFOLD_POINTWISE_TACTIC(ThresholdedRelu)
TENFOLD_POINTWISE_TACTIC(Where)
#undef TENFOLD_POINTWISE_TACTIC

}  // namespace tenfold::cpu
