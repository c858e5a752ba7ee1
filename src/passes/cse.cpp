// Common subexpressions: of nodes with the same operator, attributes and inputs, and of equal constants, one stays.
#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <xxhash.h>

#include "passes/passes.hpp"

namespace tenfold {
namespace {

/// Equal constants become one: bytes are hashed once, and compared where hashes agree.
int merge_constants(const Graph& graph, std::vector<ValueId>& renamed) {
  std::unordered_map<std::uint64_t, std::vector<ValueId>> by_hash;
  int merged = 0;
  for (ValueId id = 0; id < graph.value_limit(); ++id) {
    const Tensor* tensor = graph.is_alive_value(id) ? graph.constant(id) : nullptr;
    if (tensor == nullptr) continue;
    // A sample is enough to tell most large tensors apart without reading all of a mapped file.
    const std::size_t bytes = std::min<std::size_t>(tensor->size_bytes(), 4096);
    const std::uint64_t hash = XXH3_64bits_withSeed(tensor->data(), bytes, tensor->size_bytes());
    std::vector<ValueId>& same_hash = by_hash[hash];
    const auto equal = std::find_if(same_hash.begin(), same_hash.end(), [&](ValueId other) {
      const Tensor& kept = *graph.constant(other);
      return kept.dtype() == tensor->dtype() && kept.shape() == tensor->shape() &&
             (kept.data() == tensor->data() || kept.equals(*tensor));
    });
    if (equal == same_hash.end()) {
      same_hash.push_back(id);
    } else {
      renamed[static_cast<std::size_t>(id)] = *equal;
      ++merged;
    }
  }
  return merged;
}

}  // namespace

int merge_common_subexpressions(Graph& graph) {
  std::vector<ValueId> renamed(static_cast<std::size_t>(graph.value_limit()));
  for (ValueId id = 0; id < graph.value_limit(); ++id) renamed[static_cast<std::size_t>(id)] = id;
  int merged = merge_constants(graph, renamed);

  // Operator text by identity first: many nodes share one operator, and printing attributes is not free.
  std::map<std::tuple<std::string, std::vector<ValueId>, std::size_t>, NodeId> first;
  std::vector<NodeId> dead;
  for (const NodeId id : graph.order()) {
    Node& node = graph.node(id);
    for (ValueId& input : node.inputs) {
      if (input != kNoValue) input = renamed[static_cast<std::size_t>(input)];
    }
    if (!node.blocks.empty() || !node.op->is_pure()) continue;
    std::string key = std::string(node.op->type()) + node.op->attributes().to_string();
    const auto [entry, is_new] = first.try_emplace({std::move(key), node.inputs, node.outputs.size()}, id);
    if (is_new) continue;
    Node& kept = graph.node(entry->second);
    bool fits = true;
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      fits = fits && (node.outputs[i] == kNoValue || kept.outputs[i] != kNoValue);
    }
    if (!fits) continue;
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] != kNoValue) renamed[static_cast<std::size_t>(node.outputs[i])] = kept.outputs[i];
    }
    kept.origins.insert(kept.origins.end(), node.origins.begin(), node.origins.end());
    std::sort(kept.origins.begin(), kept.origins.end());
    kept.origins.erase(std::unique(kept.origins.begin(), kept.origins.end()), kept.origins.end());
    dead.push_back(id);
    ++merged;
  }
  if (merged == 0) return 0;
  std::vector<ValueId> outputs = graph.outputs();
  for (ValueId& output : outputs) output = renamed[static_cast<std::size_t>(output)];
  graph.set_outputs(std::move(outputs), graph.output_names());
  for (const NodeId id : dead) graph.remove_node(id);
  // Fresh symbols of merged nodes go with them.
  graph.infer_types();
  graph.remove_dead();
  return merged;
}

int remove_dead_code(Graph& graph) {
  const int before = graph.num_nodes();
  graph.remove_dead();
  return before - graph.num_nodes();
}

}  // namespace tenfold
