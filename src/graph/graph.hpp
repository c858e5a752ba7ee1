// The graph: typed values in single-assignment form.
//
// A Graph is a value: copying it copies nodes and types; operators and constant data are shared. A node's blocks (the
// branches of If, the body of Loop) are graphs of their own whose inputs are all listed in the node's inputs: a block
// never refers to a value outside it. Constants used inside are constants of the block (the bytes are shared).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/op.hpp"
#include "graph/tensor.hpp"

namespace tenfold {

using ValueId = std::int32_t;
using NodeId = std::int32_t;
/// An omitted optional input or output.
inline constexpr ValueId kNoValue = -1;
inline constexpr NodeId kNoNode = -1;

struct Value {
  std::string name;  ///< unique within the graph; the model's name where it has one
  TensorType type;
  std::optional<Tensor> constant;            ///< set exactly for constants
  std::optional<std::vector<Dim>> integers;  ///< elements of an integer value that are known as expressions
  NodeId producer = kNoNode;                 ///< kNoNode: graph input or constant
  int output_index = 0;
};

struct Node {
  OpPtr op;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  std::string name;                  ///< unique within the graph
  std::vector<std::string> origins;  ///< names of the model's nodes this one stands for, sorted, unique
  std::vector<Graph> blocks;
};

class Graph {
 public:
  std::string name;
  /// Put before the names of fresh symbols, so that those of a block differ from those around it: "loop1/".
  std::string scope;
  /// Symbols that a running kernel decides, with their upper bounds in terms of other symbols (kUnbounded: none known).
  std::map<std::string, Dim> symbol_bounds;

  // --- Values -------------------------------------------------------------------------------------------------------
  /// `name` is made unique by a suffix if it is taken.
  ValueId add_input(const std::string& name, TensorType type);
  ValueId add_constant(const std::string& name, Tensor tensor);
  /// Removes the input at `position`, which must have no readers and be no output.
  void remove_input(std::size_t position);
  /// `names`: what the caller knows the outputs by; empty: the values' names. They stay through every rewrite, also
  /// when an output becomes an input, a constant, or the same value as another output.
  void set_outputs(std::vector<ValueId> outputs, std::vector<std::string> names = {});
  /// Renames `value`; the name must be free.
  void rename(ValueId value, const std::string& name);

  const Value& value(ValueId id) const;
  Value& value(ValueId id);
  std::optional<ValueId> find_value(std::string_view name) const;
  const std::vector<ValueId>& inputs() const { return inputs_; }
  const std::vector<ValueId>& outputs() const { return outputs_; }
  const std::vector<std::string>& output_names() const { return output_names_; }
  /// One past the largest id ever used; some ids below may be dead.
  ValueId value_limit() const { return static_cast<ValueId>(values_.size()); }
  bool is_alive_value(ValueId id) const;

  // --- Nodes --------------------------------------------------------------------------------------------------------
  /// Adds a node with `num_outputs` new values, named after `name` ("conv1", "conv1:1"), types not yet inferred.
  NodeId add_node(OpPtr op, std::vector<ValueId> inputs, int num_outputs, const std::string& name,
                  std::vector<std::string> origins = {}, std::vector<Graph> blocks = {});
  /// Removes a node and its outputs, which must have no readers.
  void remove_node(NodeId id);
  /// Makes an optional output one that nobody wants (kNoValue). It must have no readers.
  void drop_output(NodeId id, int output_index);
  const Node& node(NodeId id) const;
  Node& node(NodeId id);
  bool is_alive_node(NodeId id) const;
  NodeId node_limit() const { return static_cast<NodeId>(nodes_.size()); }
  int num_nodes() const;
  /// Live nodes so that producers come before readers; ties by id, so the order is deterministic.
  /// Throws Error(invalid_model) naming a node on a cycle.
  std::vector<NodeId> order() const;

  /// The node that computes `value`, or nullptr for inputs and constants.
  const Node* producer(ValueId value) const;
  /// Readers of each value, indexed by ValueId; a node that reads a value twice is listed twice. O(graph).
  std::vector<std::vector<NodeId>> readers() const;
  bool is_output(ValueId value) const;
  const Tensor* constant(ValueId value) const;  ///< nullptr for kNoValue and for what is no constant
  void replace_uses(ValueId from, ValueId to);  ///< in all nodes and in outputs()

  // --- Whole graph ------------------------------------------------------------------------------------------------
  /// Infers the types of all node outputs in order. Errors carry the node's name and operator.
  void infer_types();
  /// One node; true if the type or the known integers of an output changed.
  bool infer_types(NodeId node);
  /// The readers of `changed`, their readers and so on, as far as types change.
  void infer_downstream(std::span<const ValueId> changed);
  /// Drops nodes whose outputs nobody needs, unused constants and dead ids' storage. Graph inputs stay. Ids stay valid.
  void remove_dead();
  /// Renumbers without holes; ids change.
  void compact();
  /// Checks the invariants: ids alive, single producer, acyclic, names unique, types present and equal to what
  /// inference gives, blocks closed. Throws Error(internal) naming the first violation.
  void verify() const;

 private:
  ValueId add_value(Value value);
  std::string unique_name(const std::string& name) const;
  std::string unique_node_name(const std::string& name) const;

  std::vector<Value> values_;
  std::vector<bool> value_alive_;
  std::vector<Node> nodes_;
  std::vector<bool> node_alive_;
  std::vector<ValueId> inputs_;
  std::vector<ValueId> outputs_;
  std::vector<std::string> output_names_;
  std::map<std::string, ValueId, std::less<>> value_names_;
  std::map<std::string, NodeId, std::less<>> node_names_;
  mutable std::map<std::string, int, std::less<>> next_suffix_;  // where the search for a free name continues
};

/// What `infer` of one node gives, without touching the graph; `blocks` are the node's, possibly refined.
struct InferredTypes {
  std::vector<TensorType> types;  ///< dtype undefined: the rule did not set it
  std::vector<std::optional<std::vector<Dim>>> integers;
  std::map<std::string, Dim> fresh_symbols;  ///< with their bounds
  std::vector<Graph> blocks;
};
/// Throws with the node's name and operator in front.
InferredTypes infer_node(const Graph& graph, const Node& node);

/// "node 'conv1' (Conv)"
std::string describe(const Node& node);
/// op_cast on a node; nullptr for a null node.
template <typename T>
const T* op_cast(const Node* node) {
  return node ? dynamic_cast<const T*>(node->op.get()) : nullptr;
}

}  // namespace tenfold
