// All operators, by name. `list.inc` is the only registration; CMake builds every file of this folder.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.hpp"

namespace tenfold {

/// One node of a model file on its way into the graph, free of the file's own types.
/// An operator's import function reads attributes and inputs and calls `set_output` for each output that is wanted.
class ImportNode {
 public:
  virtual ~ImportNode() = default;
  virtual std::string_view op_type() const = 0;
  virtual std::string_view domain() const = 0;  ///< "" is ai.onnx
  virtual int opset() const = 0;                ///< of the node's domain
  virtual const Attributes& attributes() const = 0;
  virtual int num_inputs() const = 0;
  virtual int num_outputs() const = 0;
  virtual bool has_input(int index) const = 0;
  virtual bool wants_output(int index) const = 0;
  virtual ValueId input(int index) const = 0;  ///< kNoValue when omitted
  virtual std::vector<ValueId> inputs() const = 0;
  /// Imports the subgraph in `attribute` as a block. Its first inputs are its own; `formals` gives their types, one
  /// each (empty for the branches of If). After them comes one input for each value of `captured`, in order: outer
  /// values that the block reads and that are not listed yet are appended to both. Pass one list for all blocks of a
  /// node, then give the earlier blocks the inputs they lack with `pad_captures`. May be called again with other types
  /// (a loop that changes carried shapes): each call imports anew.
  virtual Graph take_block(std::string_view attribute, std::span<const TensorType> formals,
                           std::vector<ValueId>& captured) = 0;
  /// Adds unread inputs to `block` until it has `num_formals` + captured.size() of them.
  void pad_captures(Graph& block, int num_formals, std::span<const ValueId> captured) const;

  /// The graph under construction: types of what exists already are inferred.
  virtual const Graph& graph() const = 0;
  /// Adds a node and infers its types; returns its first output, further ones follow consecutively.
  virtual ValueId add(OpPtr op, std::vector<ValueId> inputs, int num_outputs = 1, std::vector<Graph> blocks = {}) = 0;
  virtual ValueId constant(Tensor tensor) = 0;
  virtual void set_output(int index, ValueId value) = 0;

  /// The constant behind an input, for operators whose input must be known at build time.
  /// Throws Error(unsupported) naming the input when it is computed by the network.
  const Tensor& constant_input(int index, std::string_view what) const;
};

/// One operator: how to make it and how ONNX spells it.
struct OpDef {
  std::string_view type;
  /// From its attributes; throws Error(invalid_model) for values outside the legal range. Every path makes operators
  /// through this: import, text, engine file. nullptr: the ONNX operator is always imported as other operators.
  OpPtr (*make)(const Attributes& attributes);
  /// ONNX nodes of this name, all opsets. nullptr: no ONNX operator has this name (internal operators).
  /// `import_plain` maps inputs and attributes one to one.
  void (*import_onnx)(ImportNode& node);
};
void import_plain(ImportNode& node);

#define TENFOLD_OP(name) extern const OpDef k##name##Def;
#include "ops/list.inc"
#undef TENFOLD_OP

/// nullptr for an unknown type.
const OpDef* find_op(std::string_view type);
/// What a model calls by this name; nullptr if it cannot be imported. "" is ai.onnx; operators of other domains have
/// the domain in their type: "com.microsoft.QLinearAdd".
const OpDef* find_imported_op(std::string_view domain, std::string_view type);
std::span<const OpDef* const> all_ops();
/// Throws Error(unsupported) for an unknown type.
OpPtr make_op(std::string_view type, const Attributes& attributes = {});
/// Reads the textual form (graph/text.hpp) with these operators.
Graph parse_graph(std::string_view text);

}  // namespace tenfold
