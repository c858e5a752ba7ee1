#include "runtime/dim_program.hpp"

#include <algorithm>
#include <array>

#include "base/error.hpp"

namespace tenfold {
namespace {

std::int64_t saturate(__int128 value) {
  return static_cast<std::int64_t>(std::clamp<__int128>(value, -kUnbounded, kUnbounded));
}
std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  if (b == 0) return 0;
  const std::int64_t quotient = a / b;
  return (a % b != 0 && (a < 0) != (b < 0)) ? quotient - 1 : quotient;
}

}  // namespace

DimProgram::DimProgram(const Dim& dim, const std::function<int(const std::string&)>& slot_of) {
  if (dim.is_constant()) {
    constant_ = dim.constant();
    return;
  }
  compile(dim, slot_of, 0);
  std::sort(slots_.begin(), slots_.end());
  slots_.erase(std::unique(slots_.begin(), slots_.end()), slots_.end());
}

void DimProgram::compile(const Dim& dim, const std::function<int(const std::string&)>& slot_of, int depth) {
  // `depth` values lie on the stack when this expression starts; it needs at most three more before it recurses.
  require(depth + 4 < kMaxStack, tenfold::Code::unsupported, "dimension '{}' is nested too deeply", dim.to_string());
  if (dim.is_constant()) {
    code_.push_back({Code::constant, dim.constant()});
    return;
  }
  bool first_term = true;
  for (const Dim::Term& term : dim.terms()) {
    const int base = depth + (first_term ? 0 : 1);
    code_.push_back({Code::constant, term.coefficient});
    for (const auto& factor : term.factors) {
      if (factor->kind == Dim::AtomKind::symbol) {
        const int slot = slot_of(factor->name);
        slots_.push_back(slot);
        code_.push_back({Code::symbol, slot});
      } else {
        compile(factor->arguments[0], slot_of, base + 1);
        compile(factor->arguments[1], slot_of, base + 2);
        code_.push_back({factor->kind == Dim::AtomKind::floordiv ? Code::floordiv
                         : factor->kind == Dim::AtomKind::max    ? Code::max
                                                                 : Code::min,
                         0});
      }
      code_.push_back({Code::multiply, 0});
    }
    if (!first_term) code_.push_back({Code::add, 0});
    first_term = false;
  }
}

std::int64_t DimProgram::run(std::span<const std::int64_t> symbols) const {
  std::array<std::int64_t, kMaxStack> stack;
  std::size_t top = 0;
  for (const Instruction& instruction : code_) {
    switch (instruction.code) {
      case Code::constant:
        stack[top++] = instruction.operand;
        continue;
      case Code::symbol:
        stack[top++] = symbols[static_cast<std::size_t>(instruction.operand)];
        continue;
      default:
        break;
    }
    const std::int64_t b = stack[--top];
    std::int64_t& a = stack[top - 1];
    switch (instruction.code) {
      case Code::add:
        a = saturate(static_cast<__int128>(a) + b);
        break;
      case Code::multiply:
        a = saturate(static_cast<__int128>(a) * b);
        break;
      case Code::floordiv:
        a = floor_divide(a, b);
        break;
      case Code::max:
        a = std::max(a, b);
        break;
      case Code::min:
        a = std::min(a, b);
        break;
      default:
        break;
    }
  }
  return stack[0];
}

}  // namespace tenfold
