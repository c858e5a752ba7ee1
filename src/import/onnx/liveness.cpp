#include "import/onnx/liveness.hpp"

#include <algorithm>
#include <map>
#include <onnx.pb.h>
#include <unordered_map>

#include <fmt/format.h>

#include "import/onnx/wire.hpp"

namespace tenfold::onnx {
namespace {

/// Names that the node reads: its inputs, and what its subgraphs read from outside. The depth of nesting is bounded by
/// check_wire.
void collect_reads(const NodeProto& node, std::set<std::string, std::less<>>& reads) {
  for (const std::string& input : node.input()) {
    if (!input.empty()) reads.insert(input);
  }
  for (const AttributeProto& attribute : node.attribute()) {
    if (!attribute.has_g()) continue;
    const GraphProto& graph = attribute.g();
    std::set<std::string, std::less<>> inner;
    for (const NodeProto& nested : graph.node()) collect_reads(nested, inner);
    for (const ValueInfoProto& output : graph.output()) inner.insert(output.name());
    for (const ValueInfoProto& input : graph.input()) inner.erase(input.name());
    for (const TensorProto& tensor : graph.initializer()) inner.erase(tensor.name());
    for (const SparseTensorProto& tensor : graph.sparse_initializer()) inner.erase(tensor.values().name());
    for (const NodeProto& nested : graph.node()) {
      for (const std::string& output : nested.output()) inner.erase(output);
    }
    reads.merge(inner);
  }
}

std::string shown_name(const NodeProto& node, int index) {
  return node.name().empty() ? fmt::format("{}_{}", printable(node.op_type()), index) : printable(node.name());
}

}  // namespace

LiveNodes find_live_nodes(std::span<const NodeProto* const> nodes, std::span<const std::string> outputs) {
  LiveNodes result;
  std::unordered_map<std::string_view, int> producer;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (const std::string& output : nodes[i]->output()) {
      if (!output.empty() && !producer.emplace(output, static_cast<int>(i)).second) {
        result.redefined.emplace_back(static_cast<int>(i), output);
      }
    }
  }
  enum : std::uint8_t { unseen, open, done };
  std::vector<std::uint8_t> state(nodes.size(), unseen);
  std::vector<std::vector<int>> needs(nodes.size());
  struct Frame {
    int node;
    std::size_t next;
  };
  std::vector<Frame> stack;
  std::set<int> cyclic;

  const auto enter = [&](int node) {
    state[static_cast<std::size_t>(node)] = open;
    std::set<std::string, std::less<>> reads;
    collect_reads(*nodes[static_cast<std::size_t>(node)], reads);
    for (const std::string& name : reads) {
      const auto found = producer.find(name);
      if (found != producer.end()) needs[static_cast<std::size_t>(node)].push_back(found->second);
    }
    result.names.merge(reads);
    stack.push_back({node, 0});
  };
  const auto visit = [&](int root) {
    if (state[static_cast<std::size_t>(root)] != unseen) return;
    enter(root);
    while (!stack.empty()) {
      const int node = stack.back().node;
      const std::vector<int>& edges = needs[static_cast<std::size_t>(node)];
      if (stack.back().next == edges.size()) {
        state[static_cast<std::size_t>(node)] = done;
        result.order.push_back(node);
        stack.pop_back();
        continue;
      }
      const int to = edges[stack.back().next++];
      if (state[static_cast<std::size_t>(to)] == unseen) {
        enter(to);
      } else if (state[static_cast<std::size_t>(to)] == open && cyclic.insert(to).second) {
        const auto begin = std::find_if(stack.begin(), stack.end(), [&](const Frame& f) { return f.node == to; });
        std::vector<std::string> way;
        for (auto frame = begin; frame != stack.end() && way.size() < 8; ++frame) {
          way.push_back("'" + shown_name(*nodes[static_cast<std::size_t>(frame->node)], frame->node) + "'");
        }
        if (stack.end() - begin > 8) way.emplace_back("...");
        way.push_back(way.front());
        result.cyclic.emplace_back(to, fmt::format("it needs its own result: {}", fmt::join(way, " needs ")));
      }
    }
  };
  for (const std::string& output : outputs) {
    result.names.insert(output);
    const auto found = producer.find(output);
    if (found != producer.end()) visit(found->second);
  }
  std::erase_if(result.order, [&](int node) { return cyclic.contains(node); });

  // The file's own order, where producers come first in it: names and numbers then follow the file.
  std::vector<int> sorted = result.order;
  std::sort(sorted.begin(), sorted.end());
  const bool is_valid = std::all_of(sorted.begin(), sorted.end(), [&](int node) {
    const std::vector<int>& edges = needs[static_cast<std::size_t>(node)];
    return std::all_of(edges.begin(), edges.end(), [&](int from) { return from < node || cyclic.contains(from); });
  });
  if (is_valid) result.order = std::move(sorted);
  return result;
}

}  // namespace tenfold::onnx
