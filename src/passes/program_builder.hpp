// Builds pointwise programs: instructions over graph values, equal ones shared, unused ones dropped.
#pragma once

#include <optional>
#include <vector>

#include "ops/pointwise.hpp"
#include "passes/graph_view.hpp"

namespace tenfold {

/// A program together with the values its input registers stand for.
struct BoundProgram {
  PointwiseProgram program;
  std::vector<ValueId> inputs;
};

class ProgramBuilder {
 public:
  /// More operands than this make a kernel lose its registers to pointers.
  static constexpr int kMaxInputs = 12;

  /// An index for `apply`; asking for the same value again gives the same index.
  int input(ValueId value);
  /// Adds an instruction, in a simpler form where there is one: operands that are constants become immediates.
  int apply(PointwiseCode code, int a = 0, int b = 0, int c = 0, float immediate = 0);
  int constant(float value) { return apply(PointwiseCode::constant, 0, 0, 0, value); }
  /// All instructions of `program` with `operands` in place of its inputs; the index of its result.
  int inlined(const PointwiseProgram& program, const std::vector<int>& operands);
  /// nullopt if it needs too many registers or inputs, has no instruction or no input. Input `first`, if given, becomes
  /// register 0.
  std::optional<BoundProgram> finish(int result, std::optional<ValueId> first = std::nullopt) const;

 private:
  struct Item {
    std::optional<ValueId> value;  // set: an input
    PointwiseInstruction instruction;
    int a = 0, b = 0, c = 0;
    bool operator==(const Item&) const = default;
  };
  /// The item's index; an equal one that is there already serves both.
  int share(const Item& item);
  std::optional<float> number(int index) const;
  std::optional<int> with_immediate(PointwiseCode code, int a, int b);
  std::vector<Item> items_;
};

}  // namespace tenfold
