// A rounded weight differs from w by at most 2^-11 |w|, or by 2^-25 where |w| < 2^-14 (IEEE 754-2019, binary16, round
// to nearest even). A product of n terms |w x| <= m is then off by at most n m 2^-11, and by about sqrt(n) m 2^-11
// where the errors are independent.
#include "passes/half_weights.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace tenfold {
namespace {

constexpr std::array<std::string_view, 9> kProducts = {"Conv", "ConvTranspose", "Einsum", "GRU", "Gather",
                                                       "Gemm", "LSTM",          "MatMul", "RNN"};
constexpr std::int64_t kLeastElements = 256;
constexpr float kLargestHalf = 65504;

bool is_rounded_in(const Node& node, std::span<const std::string> keep) {
  if (std::find(kProducts.begin(), kProducts.end(), node.op->type()) == kProducts.end()) return false;
  return std::none_of(node.origins.begin(), node.origins.end(), [&](const std::string& origin) {
    return std::find(keep.begin(), keep.end(), origin) != keep.end();
  });
}

std::optional<Tensor> rounded(const Tensor& weights) {
  const std::span<const float> from = weights.as<float>();
  if (std::any_of(from.begin(), from.end(), [](float w) { return !(std::fabs(w) <= kLargestHalf); }))
    return std::nullopt;
  Tensor result(DType::float32, weights.shape());
  std::transform(from.begin(), from.end(), result.as_mutable<float>().begin(),
                 [](float w) { return static_cast<float>(Float16(w)); });
  return result;
}

}  // namespace

int round_weights_to_half(Graph& graph, std::span<const std::string> keep) {
  int changes = 0;
  const std::vector<std::vector<NodeId>> readers = graph.readers();
  for (ValueId id = 0; id < graph.value_limit(); ++id) {
    if (!graph.is_alive_value(id)) continue;
    const Tensor* weights = graph.constant(id);
    if (weights == nullptr || weights->dtype() != DType::float32 || weights->rank() < 2) continue;
    const std::vector<NodeId>& nodes = readers[static_cast<std::size_t>(id)];
    if (weights->num_elements() < kLeastElements || nodes.empty() || graph.is_output(id)) continue;
    if (!std::all_of(nodes.begin(), nodes.end(), [&](NodeId node) { return is_rounded_in(graph.node(node), keep); }))
      continue;
    if (std::optional<Tensor> half = rounded(*weights)) {
      graph.value(id).constant = std::move(*half);
      ++changes;
    }
  }
  for (NodeId id = 0; id < graph.node_limit(); ++id) {
    if (!graph.is_alive_node(id)) continue;
    for (Graph& block : graph.node(id).blocks) changes += round_weights_to_half(block, keep);
  }
  return changes;
}

}  // namespace tenfold
