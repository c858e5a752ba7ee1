// The textual form of a graph: printed for people, parsed for tests. Constants print their data if they are small.
//
//   graph resnet(%x: float32[batch, 3, 8, 8]) {
//     symbol "boxes#0" <= 100*batch                            (a size that a running kernel decides, and its bound)
//     %w = constant float32[4, 3, 1, 1] data(0x1p-1, ...)      (or: zeros, ones, full(x), iota, random(seed))
//     %y: float32[batch, 4, 8, 8] = Conv(%x, %w, _) {strides=[1, 1]}  # name "conv1" origins "conv1", "bn1"
//     return %y as "scores"
//   }
// `_` is an omitted input or output. A name with other characters than letters, digits, '_' and '.' is quoted: %"a/b".
// Blocks follow the attributes as nested `graph` definitions. Types on the left are optional when parsing and checked
// when given. `as` names an output that is called differently from its value. # starts a comment, except for a node's
// own note. random(seed) is uniform in [-1, 1) for floats and 0 .. 7 for integers.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "graph/graph.hpp"

namespace tenfold {

struct PrintOptions {
  /// Constants with at most this many elements print their data; larger ones print as `large` with a hash and do not
  /// parse.
  std::int64_t max_constant_elements = 64;
  bool origins = true;
};
std::string print(const Graph& graph, const PrintOptions& options = {});
/// Makes an operator from its type and attributes: make_op of ops/registry.hpp.
using OpFactory = std::function<OpPtr(std::string_view type, const Attributes& attributes)>;
/// Throws Error(invalid_argument) with line and column. Types are inferred.
Graph parse_graph(std::string_view text, const OpFactory& make_op);

/// Graphviz source; one box a node with operator, name and output type.
std::string to_dot(const Graph& graph);

}  // namespace tenfold
