// Rounds the weights of products to float16 numbers, still held as float32: the arithmetic stays in float32, and the
// engine file stores them in half the space (engine/half_weights.hpp).
#pragma once

#include <span>
#include <string>

#include "graph/graph.hpp"

namespace tenfold {

/// `keep`: names of the model's nodes whose weights stay as they are. A weight whose largest magnitude float16 cannot
/// hold stays as well, as do biases and small constants. Returns how many constants were rounded, blocks included.
int round_weights_to_half(Graph& graph, std::span<const std::string> keep);

}  // namespace tenfold
