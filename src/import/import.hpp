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
};

struct ImportedModel {
  Graph graph;
  std::string producer;                         ///< "pytorch 2.1"
  std::string hash;                             ///< XXH3-128 of the file, hexadecimal
  std::map<std::string, std::string> metadata;  ///< the model's key-value pairs
  std::int32_t num_model_nodes = 0;             ///< nodes in the file, subgraphs included
  std::vector<ImportProblem> problems;          ///< only filled by check_*; import_* throws instead
  std::vector<std::string> warnings;
};

/// Throws Error(io_failure | invalid_model | unsupported); the message lists every problem, one a line.
ImportedModel import_onnx(const std::string& path, const ImportOptions& options = {});
ImportedModel import_onnx(std::span<const std::byte> bytes, const ImportOptions& options = {});
/// Imports as far as possible and lists the problems instead of throwing (only io_failure and unreadable files throw).
ImportedModel check_onnx(const std::string& path, const ImportOptions& options = {});

}  // namespace tenfold
