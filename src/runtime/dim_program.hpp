// Dimensions compiled for the runtime: a Dim becomes a short program over an array of symbol values.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "graph/dim.hpp"

namespace tenfold {

/// Evaluates without allocating and without looking up names. Arithmetic saturates as Dim's does.
class DimProgram {
 public:
  DimProgram() = default;
  /// `slot_of` maps a symbol to its index. Throws what it throws for an unknown symbol.
  DimProgram(const Dim& dim, const std::function<int(const std::string&)>& slot_of);

  std::int64_t evaluate(std::span<const std::int64_t> symbols) const {
    if (code_.empty()) return constant_;
    return run(symbols);
  }
  bool is_constant() const { return code_.empty(); }
  /// Indices of the symbols it reads.
  const std::vector<int>& slots() const { return slots_; }

 private:
  enum class Code : std::uint8_t { constant, symbol, add, multiply, floordiv, max, min };
  struct Instruction {
    Code code;
    std::int64_t operand;
  };
  static constexpr int kMaxStack = 256;
  void compile(const Dim& dim, const std::function<int(const std::string&)>& slot_of, int depth);
  std::int64_t run(std::span<const std::int64_t> symbols) const;

  std::int64_t constant_ = 0;
  std::vector<Instruction> code_;  // postfix
  std::vector<int> slots_;
};

}  // namespace tenfold
