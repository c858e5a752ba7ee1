#include "backend/cpu/pointwise_trace.hpp"

#include <array>
#include <bit>
#include <map>
#include <tuple>

#define TENFOLD_TIER trace

namespace tenfold::cpu::trace {

/// The program so far. Formulas are free functions, so they find it through `recorder`.
class Recorder {
 public:
  explicit Recorder(bool has_mask_registers) : mask_registers(has_mask_registers) {}
  int add(const VectorInstruction& instruction) {
    const auto& [op, a, b, c, bits, table] = instruction;
    const auto [place, is_new] = numbers_.try_emplace({op, a, b, c, bits, table}, static_cast<int>(instructions.size()));
    if (is_new) instructions.push_back(instruction);
    return place->second;
  }

  VectorProgram instructions;
  const bool mask_registers;
  bool is_complete = true;

 private:
  std::map<std::tuple<VectorOp, int, int, int, std::uint32_t, const float*>, int> numbers_;
};
thread_local Recorder* recorder = nullptr;

inline int record(VectorOp op, int a = -1, int b = -1, int c = -1, std::uint32_t bits = 0) {
  return recorder->add({op, a, b, c, bits});
}

struct Value {
  Value() = default;
  explicit Value(int recorded) : number(recorded) {}
  int number = -1;
};
struct Vec : Value {
  Vec() = default;
  explicit Vec(Value value) : Value(value) {}
  explicit Vec(float x) : Value(record(VectorOp::constant, -1, -1, -1, std::bit_cast<std::uint32_t>(x))) {}
};
struct Mask : Value {
  explicit Mask(Value value) : Value(value) {}
};

inline Vec unary(VectorOp op, Value a, std::uint32_t bits = 0) {
  return Vec(Value{record(op, a.number, -1, -1, bits)});
}
inline Vec binary(VectorOp op, Value a, Value b) { return Vec(Value{record(op, a.number, b.number)}); }
inline Vec ternary(VectorOp op, Value a, Value b, Value c) {
  return Vec(Value{record(op, a.number, b.number, c.number)});
}
inline Mask truth(VectorOp op, Value a, Value b) { return Mask(Value(record(op, a.number, b.number))); }

// What the formulas use, under the names of kernels/simd.hpp and kernels/simd_math.hpp.
inline Vec operator+(Vec a, Vec b) { return binary(VectorOp::add, a, b); }
inline Vec operator-(Vec a, Vec b) { return binary(VectorOp::sub, a, b); }
inline Vec operator*(Vec a, Vec b) { return binary(VectorOp::mul, a, b); }
inline Vec operator/(Vec a, Vec b) { return binary(VectorOp::div, a, b); }
inline Vec operator-(Vec a) { return binary(VectorOp::bit_xor, a, Vec(-0.0F)); }
inline Vec fma(Vec a, Vec b, Vec c) { return ternary(VectorOp::fma, a, b, c); }
inline Vec fnma(Vec a, Vec b, Vec c) { return ternary(VectorOp::fnma, a, b, c); }
inline Mask operator<(Vec a, Vec b) { return truth(VectorOp::less, a, b); }
inline Mask operator==(Vec a, Vec b) { return truth(VectorOp::equal, a, b); }
inline Mask is_nan(Vec a) { return truth(VectorOp::unordered, a, a); }
inline Mask operator&(Mask a, Mask b) {
  return truth(recorder->mask_registers ? VectorOp::mask_and : VectorOp::bit_and, a, b);
}
inline Mask operator|(Mask a, Mask b) {
  return truth(recorder->mask_registers ? VectorOp::mask_or : VectorOp::bit_or, a, b);
}
/// Not known yet: both ways would have to be recorded.
inline bool any(Mask) {
  recorder->is_complete = false;
  return false;
}

namespace math {

struct Int : Value {
  explicit Int(Value value) : Value(value) {}
};
inline Int integer(Value value) { return Int(value); }

inline Int bits(Vec a) { return integer(a); }
inline Vec from_bits(Int a) { return Vec(Value(a)); }
inline Int ints(std::int32_t x) {
  return integer(Value(record(VectorOp::constant, -1, -1, -1, static_cast<std::uint32_t>(x))));
}
inline Int add(Int a, Int b) { return integer(binary(VectorOp::int_add, a, b)); }
inline Int sub(Int a, Int b) { return integer(binary(VectorOp::int_sub, a, b)); }
inline Int bit_and(Int a, Int b) { return integer(binary(VectorOp::bit_and, a, b)); }
inline Int bit_or(Int a, Int b) { return integer(binary(VectorOp::bit_or, a, b)); }
inline Int bit_xor(Int a, Int b) { return integer(binary(VectorOp::bit_xor, a, b)); }
template <int N>
Int shift_left(Int a) {
  return integer(unary(VectorOp::shift_left, a, N));
}
template <int N>
Int shift_right(Int a) {
  return integer(unary(VectorOp::shift_right, a, N));
}
inline Int to_int(Vec a) { return integer(unary(VectorOp::to_int, a)); }
inline Vec to_float(Int a) { return unary(VectorOp::to_float, a); }
inline Mask nonzero(Int a) {
  if (recorder->mask_registers) return Mask(unary(VectorOp::nonzero, a));
  return Mask(binary(VectorOp::bit_xor, binary(VectorOp::int_equal, a, ints(0)), ints(-1)));
}

inline bool lookup_is_cheap() { return recorder->mask_registers; }
inline Vec lookup(const float (&table)[16], Int a) {
  const int number = recorder->add({VectorOp::table, -1, -1, -1, 0, table});
  return binary(VectorOp::lookup, a, Value(number));
}

// Rounding modes of roundps and rndscaleps (Intel SDM vol. 2, ROUNDPS), without reports of inexact results.
inline Vec round(Vec a) { return unary(VectorOp::round, a, 8 | 0); }
inline Vec floor(Vec a) { return unary(VectorOp::round, a, 8 | 1); }
inline Vec ceil(Vec a) { return unary(VectorOp::round, a, 8 | 2); }
inline Vec sqrt(Vec a) { return unary(VectorOp::sqrt, a); }
inline Vec fms(Vec a, Vec b, Vec c) { return ternary(VectorOp::fms, a, b, c); }
inline Vec max(Vec a, Vec b) { return binary(VectorOp::max, a, b); }
inline Vec min(Vec a, Vec b) { return binary(VectorOp::min, a, b); }
inline Vec select(Mask m, Vec yes, Vec no) { return ternary(VectorOp::select, m, yes, no); }
inline Vec abs(Vec a) { return from_bits(bit_and(bits(a), ints(0x7fffffff))); }
inline Int sign_bit(Vec a) { return bit_and(bits(a), ints(INT32_MIN)); }
inline Vec with_sign(Vec magnitude, Int sign) { return from_bits(bit_or(bits(magnitude), sign)); }
namespace detail {
inline Vec far_lanes(Vec, Vec near, Mask, float (*)(float)) { return near; }
}  // namespace detail

}  // namespace math

}  // namespace tenfold::cpu::trace

#include "backend/cpu/kernels/elementary.hpp"

namespace tenfold::cpu {
namespace trace {
namespace {

Vec apply(PointwiseCode code, [[maybe_unused]] float k, [[maybe_unused]] Vec a, [[maybe_unused]] Vec b,
          [[maybe_unused]] Vec c) {
  using T = Vec;
  switch (code) {
#define TENFOLD_CODE(name, operands, formula) \
  case PointwiseCode::name:                   \
    return formula;
    TENFOLD_POINTWISE_CODES(TENFOLD_CODE)
#undef TENFOLD_CODE
  }
  return a;
}

/// Without what the last instruction does not need.
VectorProgram needed_for(const VectorProgram& program, int result) {
  std::vector<bool> is_needed(program.size());
  is_needed[static_cast<std::size_t>(result)] = true;
  for (int i = result; i >= 0; --i) {
    if (!is_needed[static_cast<std::size_t>(i)]) continue;
    const VectorInstruction& instruction = program[static_cast<std::size_t>(i)];
    for (const int operand : {instruction.a, instruction.b, instruction.c}) {
      if (operand >= 0) is_needed[static_cast<std::size_t>(operand)] = true;
    }
  }
  VectorProgram kept;
  std::vector<int> number(program.size(), -1);
  for (std::size_t i = 0; i <= static_cast<std::size_t>(result); ++i) {
    if (!is_needed[i]) continue;
    VectorInstruction instruction = program[i];
    for (int* operand : {&instruction.a, &instruction.b, &instruction.c}) {
      if (*operand >= 0) *operand = number[static_cast<std::size_t>(*operand)];
    }
    number[i] = static_cast<int>(kept.size());
    kept.push_back(instruction);
  }
  return kept;
}

}  // namespace
}  // namespace trace

std::optional<VectorProgram> trace_pointwise(const CompiledPointwise& program, bool mask_registers) {
  trace::Recorder recording(mask_registers);
  trace::recorder = &recording;
  std::array<trace::Vec, CompiledPointwise::kMaxInputs + CompiledPointwise::kMaxSteps> values{};
  for (int i = 0; i < program.num_inputs; ++i) {
    values[static_cast<std::size_t>(i)] = trace::unary(VectorOp::input, trace::Value{}, static_cast<std::uint32_t>(i));
  }
  trace::Vec result;
  for (int s = 0; s < program.num_steps; ++s) {
    const CompiledPointwise::Step& step = program.steps[s];
    result = trace::apply(step.code, step.immediate, values[step.operands[0]], values[step.operands[1]],
                          values[step.operands[2]]);
    values[static_cast<std::size_t>(program.num_inputs) + step.slot] = result;
  }
  trace::recorder = nullptr;
  if (!recording.is_complete) return std::nullopt;
  return trace::needed_for(recording.instructions, result.number);
}

}  // namespace tenfold::cpu
