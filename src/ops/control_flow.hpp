// If, Loop and Scan: operators whose node holds blocks (graphs of their own).
//
// A block sees the outside only through its inputs, so the values it captures are inputs of the node and, in the same
// order, the last inputs of the block. `infer` types the blocks from the node's inputs. A carried value whose size
// changes from one iteration to the next gets a symbol of the block ("loop1/x#0"). Who runs a graph runs the blocks:
// `evaluate` of these operators throws.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "graph/graph.hpp"

namespace tenfold {

/// Inputs: condition (bool scalar), captured values. Blocks: then, else; both take all captured values.
class If final : public Op {
 public:
  std::string_view type() const override { return "If"; }
  Attributes attributes() const override { return {}; }
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
};

/// Inputs: maximal trip count (int64 scalar, may be omitted), condition (bool scalar, may be omitted), carried values,
/// captured values. Block inputs: iteration (int64 scalar), condition, carried, captured; block outputs: condition,
/// carried, then one element of each scan output. Outputs: carried, scan outputs (stacked along a new first axis).
class Loop final : public Op {
 public:
  explicit Loop(std::int64_t num_carried) : num_carried_(num_carried) {}
  int num_carried() const { return static_cast<int>(num_carried_); }
  std::string_view type() const override { return "Loop"; }
  Attributes attributes() const override { return {{"num_carried", num_carried_}}; }
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;

 private:
  std::int64_t num_carried_;
};

/// Inputs: carried values, scanned values, captured values. Block inputs: carried, one element of each scanned value,
/// captured; block outputs: carried, one element of each scan output. Outputs: carried, scan outputs.
class Scan final : public Op {
 public:
  struct Spec {
    std::int64_t num_carried = 0;
    std::vector<std::int64_t> input_axes, output_axes;              ///< one per scanned value / scan output
    std::vector<std::int64_t> input_directions, output_directions;  ///< 1: from the end to the beginning
  };
  explicit Scan(Spec spec) : spec_(std::move(spec)) {}
  const Spec& spec() const { return spec_; }
  int num_carried() const { return static_cast<int>(spec_.num_carried); }
  int num_scanned() const { return static_cast<int>(spec_.input_axes.size()); }
  std::string_view type() const override { return "Scan"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;

 private:
  Spec spec_;
};

}  // namespace tenfold
