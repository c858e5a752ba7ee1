// Tactic "elementwise.typed": comparisons, logic, integer arithmetic, Where, Not and Cast, with any broadcast.
#include "backend/cpu/kernels/typed.hpp"

#include <array>

#include "backend/cpu/broadcast.hpp"
#include "backend/cpu/tactic_tools.hpp"

namespace tenfold::cpu {

namespace {

std::optional<TypedElement> element_of(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return TypedElement::float32;
    case DType::int32:
      return TypedElement::int32;
    case DType::int64:
      return TypedElement::int64;
    case DType::uint8:
      return TypedElement::uint8;
    case DType::int8:
      return TypedElement::int8;
    case DType::boolean:
      return TypedElement::boolean;
    case DType::float16:
      return TypedElement::float16;
    default:
      return std::nullopt;
  }
}

struct NamedOp {
  std::string_view type;
  TypedOp op;
};
constexpr std::array kOps = {
    NamedOp{"Equal", TypedOp::equal}, NamedOp{"Greater", TypedOp::greater},
    NamedOp{"Less", TypedOp::less},   NamedOp{"GreaterOrEqual", TypedOp::greater_equal},
    NamedOp{"Add", TypedOp::add},     NamedOp{"LessOrEqual", TypedOp::less_equal},
    NamedOp{"Sub", TypedOp::sub},     NamedOp{"And", TypedOp::logical_and},
    NamedOp{"Mul", TypedOp::mul},     NamedOp{"Or", TypedOp::logical_or},
    NamedOp{"Max", TypedOp::max},     NamedOp{"Xor", TypedOp::logical_xor},
    NamedOp{"Min", TypedOp::min},
};
std::optional<TypedOp> find_typed_op(std::string_view type) {
  for (const NamedOp& entry : kOps) {
    if (entry.type == type) return entry.op;
  }
  return std::nullopt;
}

class TypedKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    const std::string_view type = signature.op.type();
    if (signature.outputs[0].rank() > kMaxRank)
      return fmt::format("rank {} is above {}", signature.outputs[0].rank(), kMaxRank);
    const DType dtype = signature.inputs[0].dtype;
    if (type == "Where" || type == "Not") return std::nullopt;
    const auto unsupported = [](DType what) { return fmt::format("{} is not among its types", to_string(what)); };
    const auto element = element_of(dtype);
    if (!element) return unsupported(dtype);
    if (type == "Cast") {
      const auto to = element_of(signature.outputs[0].dtype);
      if (!to) return unsupported(signature.outputs[0].dtype);
      if (*element == TypedElement::float16 && *to != TypedElement::float32) return unsupported(dtype);
      if (*to == TypedElement::float16 && *element != TypedElement::float32)
        return unsupported(signature.outputs[0].dtype);
      return std::nullopt;
    }
    const auto op = find_typed_op(type);
    if (!op) return "the operator is unknown";
    const bool is_logic = TypedOp::logical_and <= *op && *op <= TypedOp::logical_xor;
    const bool is_arithmetic = *op >= TypedOp::add;
    if (*element == TypedElement::float16) return unsupported(dtype);
    if (is_arithmetic && (*element == TypedElement::float32 || *element == TypedElement::boolean))
      return unsupported(dtype);
    if (is_logic && *element != TypedElement::boolean) return unsupported(dtype);
    return std::nullopt;
  }
  explicit TypedKernel(const KernelSpec& spec)
      : from_(element_of(spec.inputs[0].dtype)),
        to_(element_of(spec.outputs[0].dtype)),
        binary_(find_typed_op(spec.op->type())),
        element_bytes_(static_cast<int>(size_of(spec.outputs[0].dtype))),
        kernels_(TENFOLD_FOR_TIER(kTypedKernels)) {
    const std::string_view type = spec.op->type();
    kind_ = type == "Where"  ? Kind::choose
            : type == "Not"  ? Kind::negate
            : type == "Cast" ? Kind::convert
                             : Kind::binary;
    for (const TensorType& input : spec.inputs)
      may_share_.push_back(size_of(input.dtype) == size_of(spec.outputs[0].dtype));
  }
  void run(const Launch& launch) const override {
    const TensorView& out = launch.outputs[0];
    if (out.num_elements() == 0) return;
    constexpr int kMaxOperands = 4;
    std::array<TensorView, kMaxOperands> operands;
    const std::size_t count = launch.inputs.size();
    for (std::size_t i = 0; i < count; ++i) operands[i] = launch.inputs[i];
    operands[count] = out;
    const auto nest = make_loop_nest<kMaxOperands>(out.dims, std::span(operands).first(count + 1));
    const auto inner = static_cast<std::size_t>(nest.rank - 1);
    const std::int64_t cols = nest.dims[inner], rows = nest.num_elements() / cols;
    const auto row = [&](std::int64_t r, std::int64_t begin, std::int64_t end) {
      std::array<std::byte*, kMaxOperands> at;
      for (std::size_t i = 0; i <= count; ++i) {
        std::int64_t offset = begin * nest.strides[i][inner], rest = r;
        for (int a = nest.rank - 2; a >= 0; --a) {
          const auto axis = static_cast<std::size_t>(a);
          offset += rest % nest.dims[axis] * nest.strides[i][axis];
          rest /= nest.dims[axis];
        }
        at[i] = operands[i].as<std::byte>() + offset * static_cast<std::int64_t>(size_of(operands[i].dtype));
      }
      run_row(at, nest.strides, inner, end - begin);
    };
    constexpr double kNsPerElement = 0.3, kNsPerRow = 10;
    ThreadPool& pool = pool_of(launch);
    if (rows >= 4 * pool.num_threads()) {
      split(pool, rows, kNsPerRow + kNsPerElement * static_cast<double>(cols),
            [&](std::int64_t begin, std::int64_t end) {
              for (std::int64_t r = begin; r < end; ++r) row(r, 0, cols);
            });
    } else {
      split(
          pool, cols, kNsPerElement * static_cast<double>(rows),
          [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = 0; r < rows; ++r) row(r, begin, end);
          },
          64);
    }
  }
  bool can_run_in_place(int index) const override { return may_share_[static_cast<std::size_t>(index)]; }

 private:
  enum class Kind : std::uint8_t { binary, choose, negate, convert };

  template <typename Pointers, typename Strides>
  void run_row(const Pointers& at, const Strides& strides, std::size_t inner, std::int64_t count) const {
    switch (kind_) {
      case Kind::binary:
        return kernels_.binary(*binary_, *from_, at[0], strides[0][inner], at[1], strides[1][inner], at[2], count);
      case Kind::choose:
        return kernels_.choose(element_bytes_, at[0], strides[0][inner], at[1], strides[1][inner], at[2],
                               strides[2][inner], at[3], count);
      case Kind::negate:
        return kernels_.negate(at[0], at[1], count);
      case Kind::convert:
        return kernels_.convert(*from_, *to_, at[0], at[1], count);
    }
  }

  std::optional<TypedElement> from_, to_;
  std::optional<TypedOp> binary_;
  int element_bytes_;
  Kind kind_ = Kind::binary;
  std::vector<bool> may_share_;
  const TypedKernels& kernels_;
};

}  // namespace

#define TENFOLD_TYPED_TACTIC(op) const CpuTactic kTyped##op = plain_tactic<TypedKernel>("elementwise.typed", #op);
TENFOLD_TYPED_TACTIC(Add)
TENFOLD_TYPED_TACTIC(And)
TENFOLD_TYPED_TACTIC(Cast)
TENFOLD_TYPED_TACTIC(Equal)
TENFOLD_TYPED_TACTIC(Greater)
TENFOLD_TYPED_TACTIC(GreaterOrEqual)
TENFOLD_TYPED_TACTIC(Less)
TENFOLD_TYPED_TACTIC(LessOrEqual)
TENFOLD_TYPED_TACTIC(Max)
TENFOLD_TYPED_TACTIC(Min)
TENFOLD_TYPED_TACTIC(Mul)
TENFOLD_TYPED_TACTIC(Not)
TENFOLD_TYPED_TACTIC(Or)
TENFOLD_TYPED_TACTIC(Sub)
TENFOLD_TYPED_TACTIC(Where)
TENFOLD_TYPED_TACTIC(Xor)
#undef TENFOLD_TYPED_TACTIC

}  // namespace tenfold::cpu
