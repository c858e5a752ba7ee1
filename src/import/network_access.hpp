// For the inside: the graph that a Network stands for.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "graph/graph.hpp"
#include "import/import.hpp"
#include "tenfold/network.hpp"

namespace tenfold {

struct NetworkAccess {
  static Network from_model(ImportedModel model, std::vector<ModelProblem>& problems,
                            std::vector<std::string>* warnings);
  /// A network whose nodes are not listed.
  static Network from_graph(Graph graph);
  /// A copy, with outputs set and nothing that they do not need.
  /// Throws Error(invalid_argument) without outputs, or when two are called the same.
  static Graph graph(const Network& network);
  /// What the model file said about itself; empty for a network made by hand.
  static const std::string& producer(const Network& network);
  static const std::string& model_hash(const Network& network);
  static const std::map<std::string, std::string>& metadata(const Network& network);
};

}  // namespace tenfold
