// Model file -> graph. All problems of a model are collected and reported together.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.hpp"

namespace tenfold {

/// One thing that keeps a model from being compiled.
struct ImportProblem {
  std::string node;  ///< "node 'conv1' (Conv)"; empty for the model as a whole
  Code code = Code::unsupported;
  std::string message;  ///< reason and fix
  int node_index = -1;  ///< position of the main graph's node that it is in; -1: none
};

/// A node of the main graph and what it became, for callers that go on with the graph.
struct ImportedNode {
  std::string name;
  std::string op_type;
  std::string domain;
  int opset = 0;
  int index = -1;                ///< position in the file; -1: none
  std::vector<ValueId> inputs;   ///< kNoValue: omitted
  std::vector<ValueId> outputs;  ///< kNoValue: not wanted
  Attributes attributes;
  std::vector<std::string> subgraphs;  ///< names of the attributes that hold one
  // Nodes and values [begin, end) of the graph were made for it.
  NodeId first_node = 0, node_end = 0;
  ValueId first_value = 0, value_end = 0;
};

struct ImportOptions {
  /// Bounds for untrusted files.
  std::uint64_t max_file_bytes = std::uint64_t{1} << 40;
  std::int64_t max_nodes = 1'000'000;
  int max_subgraph_depth = 16;
  /// Sparse tensors are expanded; a few bytes of file must not ask for all memory.
  std::int64_t max_sparse_bytes = std::int64_t{1} << 30;
  /// Read tensors from files beside the model. Off for models that come from memory.
  bool external_data = true;
  /// Fixes the dims of inputs before import: name -> shape; axes of -1 stay symbolic. Needed where the model does not
  /// declare a rank. Sizes of 0 and below that the model declares mean "unknown" and become symbols "<input>#<axis>",
  /// because exporters write them so; a size of 0 given here is meant.
  std::map<std::string, Shape> input_shapes;
  /// Compiles these inputs in as constants: for models that take axes or sizes as inputs which operators need to know.
  std::map<std::string, Tensor> input_values;
  /// Fills ImportedModel::nodes and leaves the graph as it was built: every output a value of its own, nothing removed,
  /// also when there are problems.
  bool keep_nodes = false;
};

struct ImportedModel {
  Graph graph;
  std::string producer;                         ///< "pytorch 2.1"
  std::string hash;                             ///< XXH3-128 of the file, hexadecimal
  std::map<std::string, std::string> metadata;  ///< the model's key-value pairs
  std::int32_t num_model_nodes = 0;             ///< nodes in the file, subgraphs included
  std::vector<ImportProblem> problems;          ///< only filled by check_*; import_* throws instead
  std::vector<std::string> warnings;
  std::vector<ImportedNode> nodes;  ///< with ImportOptions::keep_nodes
  int num_main_nodes = 0;           ///< nodes of the main graph
};

/// Throws Error(io_failure | invalid_model | unsupported); the message lists every problem, one a line.
ImportedModel import_onnx(const std::string& path, const ImportOptions& options = {});
ImportedModel import_onnx(std::span<const std::byte> bytes, const ImportOptions& options = {});
/// Imports as far as possible and lists the problems instead of throwing (only io_failure and unreadable files throw).
ImportedModel check_onnx(const std::string& path, const ImportOptions& options = {});
/// The same for bytes. `path`: where the model was read from, which tensors in other files are found beside; empty:
/// none are allowed.
ImportedModel check_onnx(std::span<const std::byte> bytes, const std::string& path, const ImportOptions& options = {});

inline constexpr int kOldestOpset = 7;   ///< of ai.onnx: broadcasting had other rules before
inline constexpr int kNewestOpset = 28;  ///< a later one may change what an operator means

}  // namespace tenfold
