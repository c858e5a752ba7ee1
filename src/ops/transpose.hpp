// Transposition: axis i of the result is axis perm[i] of the input.
#pragma once

#include <vector>

#include "graph/graph.hpp"

namespace tenfold {

/// Attribute perm, a permutation of the axes; absent or empty: all axes in reverse order.
class Transpose final : public Op {
 public:
  explicit Transpose(std::vector<std::int64_t> permutation) : permutation_(std::move(permutation)) {}
  /// As given; import always gives it. For rank 0 and 1 it may be empty.
  const std::vector<std::int64_t>& permutation() const { return permutation_; }
  std::string_view type() const override { return "Transpose"; }
  Attributes attributes() const override { return {{"perm", permutation_}}; }
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;

 private:
  std::vector<std::int64_t> permutation_for(int rank) const;
  std::vector<std::int64_t> permutation_;
};

}  // namespace tenfold
