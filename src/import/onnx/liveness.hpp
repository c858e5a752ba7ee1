// Which nodes of a graph the outputs need, in an order in which producers come first.
#pragma once

#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenfold::onnx {

class GraphProto;
class NodeProto;

struct LiveNodes {
  std::vector<int> order;  ///< indices of nodes; the file's order where that is a valid one
  /// Nodes on a cycle, each with a sentence that names the way around. They are not in `order`.
  std::vector<std::pair<int, std::string>> cyclic;
  /// Nodes that define a name which an earlier node of the file defines too, with that name.
  std::vector<std::pair<int, std::string>> redefined;
  std::set<std::string, std::less<>> names;  ///< all names that live nodes and the outputs read
};

/// `outputs`: the names that are needed. A name that a nested subgraph reads counts as read by the node that holds it.
LiveNodes find_live_nodes(std::span<const NodeProto* const> nodes, std::span<const std::string> outputs);

}  // namespace tenfold::onnx
