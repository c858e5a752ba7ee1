// Samples: a part of a network that runs sample by sample.
//
//   y[n] = block(x[n])   for every n = 0 .. N-1
//
// The builder makes such nodes of operators that treat samples alone (passes/samples.cpp). Inputs x, [N, ...] each; the
// block has one input and one output, [1, ...], for each of the node's. It captures nothing: what else it uses is
// constant. Who runs a graph runs the block: `evaluate` throws.
#pragma once

#include "graph/graph.hpp"

namespace tenfold {

class Samples final : public Op {
 public:
  std::string_view type() const override { return "Samples"; }
  Attributes attributes() const override { return {}; }
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
};

}  // namespace tenfold
