// Shape inference with numbers: runs an operator's shape rule on operands that are there.
//
// For whoever runs nodes (interpreter, runtime): shapes and contents of the inputs in, shapes of the outputs out. One
// object can be used again and again; it keeps its memory.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "graph/op.hpp"

namespace tenfold {

class ConcreteInfer final : public InferContext {
 public:
  using SymbolLookup = std::function<std::int64_t(const std::string&)>;

  /// What the rule says about one output.
  struct Output {
    DType dtype = DType::undefined;
    Shape dims;    ///< -1: only the running kernel knows
    Shape bounds;  ///< equal to dims, but upper bounds (or -1) where dims are unknown
    std::optional<std::vector<std::int64_t>> integers;  ///< elements, where the rule knows them
    bool is_known() const;                              ///< no dim is -1
  };

  /// `value_of` gives the numbers behind symbols in an operator's attributes (DimValues, Reshape to stored dims); it
  /// throws for symbols that have none.
  explicit ConcreteInfer(SymbolLookup value_of) : value_of_(std::move(value_of)) {}

  /// Runs the rule of `op`. An input of undefined dtype is omitted; one without data has unknown contents (unless it
  /// has no elements); the others are read on the host. `wanted[i]` != 0: output i is wanted. Throws what the rule
  /// throws; Error(invalid_model) if it leaves an output without a type.
  void run(const Op& op, std::span<const TensorView> inputs, std::span<const std::uint8_t> wanted);
  /// Valid until the next run.
  const Output& output(int index) const { return outputs_[static_cast<std::size_t>(index)]; }

  // What the rule sees.
  int num_inputs() const override { return static_cast<int>(inputs_.size()); }
  bool has_input(int index) const override;
  const TensorType& input(int index) const override;
  const Tensor* constant(int index) const override;
  std::optional<std::vector<Dim>> integers(int index) const override;
  int num_outputs() const override { return static_cast<int>(wanted_.size()); }
  bool wants_output(int index) const override;
  std::span<Graph> blocks() override { return {}; }
  void set_output(int index, TensorType type) override;
  void set_integers(int index, std::vector<Dim> elements) override;
  Dim fresh(int output, int axis, std::optional<Dim> at_most) override;

 private:
  std::optional<std::int64_t> evaluate(const Dim& dim) const;

  SymbolLookup value_of_;
  std::span<const TensorView> inputs_;
  std::span<const std::uint8_t> wanted_;
  std::vector<TensorType> types_;
  mutable std::vector<std::optional<Tensor>> tensors_;  // made when a rule asks for contents
  std::vector<Output> outputs_;
  struct Fresh {
    int output, axis;
    std::optional<Dim> at_most;
  };
  std::vector<Fresh> fresh_;
};

}  // namespace tenfold
