#include "passes/program_builder.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace tenfold {

int ProgramBuilder::share(const Item& item) {
  const auto found = std::find(items_.begin(), items_.end(), item);
  if (found != items_.end()) return static_cast<int>(found - items_.begin());
  items_.push_back(item);
  return static_cast<int>(items_.size()) - 1;
}

int ProgramBuilder::input(ValueId value) {
  Item item;
  item.value = value;
  return share(item);
}

std::optional<float> ProgramBuilder::number(int index) const {
  const Item& item = items_[static_cast<std::size_t>(index)];
  if (item.value || item.instruction.code != PointwiseCode::constant) return std::nullopt;
  return item.instruction.immediate;
}

std::optional<int> ProgramBuilder::with_immediate(PointwiseCode code, int a, int b) {
  using enum PointwiseCode;
  const std::optional<float> left = number(a);
  const std::optional<float> right = number(b);
  if (left && right) return this->constant(static_cast<float>(evaluate({.code = code}, *left, *right, 0)));
  const auto imm = [&](PointwiseCode with_k, int x, float k) { return apply(with_k, x, 0, 0, k); };
  if (right) {
    if (code == add) return imm(add_imm, a, *right);
    if (code == sub) return imm(add_imm, a, -*right);
    if (code == mul) return imm(mul_imm, a, *right);
    // Multiplying by the reciprocal differs by at most one rounding.
    if (code == div && std::isnormal(1 / *right)) return imm(mul_imm, a, 1 / *right);
    if (code == max) return imm(max_imm, a, *right);
    if (code == min) return imm(min_imm, a, *right);
    if (code == pow) return imm(pow_imm, a, *right);
    if (code == prelu) return imm(leaky_relu, a, *right);
  }
  if (left) {
    if (code == add) return imm(add_imm, b, *left);
    if (code == sub) return imm(rsub_imm, b, *left);
    if (code == mul) return imm(mul_imm, b, *left);
    if (code == div) return imm(rdiv_imm, b, *left);
    if (code == max) return imm(max_imm, b, *left);
    if (code == min) return imm(min_imm, b, *left);
  }
  return std::nullopt;
}

int ProgramBuilder::apply(PointwiseCode code, int a, int b, int c, float immediate) {
  using enum PointwiseCode;
  const int operands = num_operands(code);
  if (operands == 1 && number(a))
    return this->constant(static_cast<float>(evaluate({code, 0, 0, 0, immediate}, *number(a), 0, 0)));
  if (operands == 2) {
    if (const std::optional<int> simpler = with_immediate(code, a, b)) return *simpler;
  }
  const Item first = operands > 0 ? items_[static_cast<std::size_t>(a)] : Item{};
  const auto is_first = [&](PointwiseCode wanted) {
    return operands > 0 && !first.value && first.instruction.code == wanted;
  };
  if (code == mul) {
    // x * sigmoid(x) is one instruction cheaper as silu, and kernels know it.
    for (const auto& [x, gate] : {std::pair{a, b}, std::pair{b, a}}) {
      const Item& item = items_[static_cast<std::size_t>(gate)];
      if (!item.value && item.instruction.code == sigmoid && item.a == x) return apply(silu, x);
    }
    if (a == b) return apply(square, a);
  }
  if (code == max_imm && immediate == 0) return apply(relu, a);
  if (code == relu && is_first(relu)) return a;
  if (code == add_imm && is_first(add_imm))
    return apply(add_imm, first.a, 0, 0, immediate + first.instruction.immediate);
  if (code == mul_imm && is_first(mul_imm))
    return apply(mul_imm, first.a, 0, 0, immediate * first.instruction.immediate);
  // An input times 1 stays: it may be the whole program.
  if (((code == mul_imm && immediate == 1) || (code == add_imm && immediate == 0)) && !first.value) return a;
  if (code == pow_imm) {
    if (immediate == 2) return apply(square, a);
    if (immediate == 3) return apply(mul, apply(square, a), a);
    if (immediate == 0.5F) return apply(sqrt, a);
    if (immediate == -1) return apply(reciprocal, a);
  }
  Item item;
  item.instruction.code = code;
  if (operands > 0) item.a = a;
  if (operands > 1) item.b = b;
  if (operands > 2) item.c = c;
  if (has_immediate(code)) item.instruction.immediate = immediate;
  return share(item);
}

int ProgramBuilder::inlined(const PointwiseProgram& program, const std::vector<int>& operands) {
  std::vector<int> registers = operands;
  for (const PointwiseInstruction& i : program.instructions) {
    registers.push_back(apply(i.code, registers[i.a], registers[i.b], registers[i.c], i.immediate));
  }
  return registers.back();
}

std::optional<BoundProgram> ProgramBuilder::finish(int result, std::optional<ValueId> first) const {
  std::vector<bool> used(items_.size(), false);
  used[static_cast<std::size_t>(result)] = true;
  for (std::size_t i = items_.size(); i-- > 0;) {
    if (!used[i] || items_[i].value) continue;
    const int operands = num_operands(items_[i].instruction.code);
    if (operands > 0) used[static_cast<std::size_t>(items_[i].a)] = true;
    if (operands > 1) used[static_cast<std::size_t>(items_[i].b)] = true;
    if (operands > 2) used[static_cast<std::size_t>(items_[i].c)] = true;
  }
  BoundProgram bound;
  std::vector<int> registers(items_.size(), 0);
  if (first) bound.inputs.push_back(*first);
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (!used[i] || !items_[i].value || items_[i].value == first) continue;
    registers[i] = static_cast<int>(bound.inputs.size());
    bound.inputs.push_back(*items_[i].value);
  }
  const auto instructions = std::count_if(items_.begin(), items_.end(), [&](const Item& item) {
    return used[static_cast<std::size_t>(&item - items_.data())] && !item.value;
  });
  if (instructions == 0 || bound.inputs.empty() || static_cast<int>(bound.inputs.size()) > kMaxInputs) {
    return std::nullopt;
  }
  if (static_cast<int>(bound.inputs.size()) + instructions > PointwiseProgram::kMaxRegisters) return std::nullopt;
  bound.program.num_inputs = static_cast<int>(bound.inputs.size());
  // Operands stand before their readers, so the result comes last.
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (!used[i] || items_[i].value) continue;
    const Item& item = items_[i];
    registers[i] = bound.program.append(item.instruction.code, registers[static_cast<std::size_t>(item.a)],
                                        registers[static_cast<std::size_t>(item.b)],
                                        registers[static_cast<std::size_t>(item.c)], item.instruction.immediate);
  }
  return bound;
}

}  // namespace tenfold
