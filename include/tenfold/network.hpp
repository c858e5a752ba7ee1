// Networks made by hand, or read from a model and changed: nodes are added one by one in the terms of ONNX, types are
// inferred at once, and the result compiles like a model file.
//
//   tenfold::Network network;
//   const auto x = network.add_input("x", DType::float32, {{"batch"}, {3}});
//   const auto y = network.add_node("Relu", {x});
//   network.mark_output(y[0], "y");
//   std::vector<std::byte> engine = tenfold::compile(network, options);
//
// Link `tenfold_build`. All errors are tenfold::Error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tenfold/compile.hpp"

namespace tenfold {

/// Data on the host: contiguous, outermost axis first. Copies share the bytes, which `owner` keeps alive.
struct HostTensor {
  DType dtype = DType::undefined;
  std::vector<std::int64_t> dims;
  const void* data = nullptr;
  std::size_t size_bytes = 0;
  std::shared_ptr<const void> owner;
};

/// What ONNX attributes hold. Floating-point attributes are doubles; ONNX's floats convert without loss.
using NodeAttribute = std::variant<std::int64_t, double, std::string, std::vector<std::int64_t>, std::vector<double>,
                                   std::vector<std::string>, HostTensor>;
using NodeAttributes = std::map<std::string, NodeAttribute>;

/// A size: a number, or -1 and the name of a symbol (empty: one of its own, "<input>#<axis>").
struct NetworkDim {
  NetworkDim(std::int64_t value) : size(value) {}                      // NOLINT(google-explicit-constructor)
  NetworkDim(std::string name) : size(-1), symbol(std::move(name)) {}  // NOLINT(google-explicit-constructor)
  std::int64_t size;
  std::string symbol;
};

/// A node as it was added or read. Values are named by their numbers; -1 is an omitted input or output.
struct NetworkNode {
  std::string name;
  std::string op_type;
  std::string domain;  ///< "" is ai.onnx
  int opset = 0;
  int model_index = -1;  ///< position in the model file; -1: added by hand
  std::vector<std::int32_t> inputs, outputs;
  NodeAttributes attributes;           ///< without subgraphs
  std::vector<std::string> subgraphs;  ///< names of the attributes that hold one
};

/// One reason why a model cannot be compiled.
struct ModelProblem {
  std::string where;  ///< "node 'conv1' (Conv)", "input 'x'"
  std::string node;   ///< the node's name; empty for the model as a whole
  std::string op_type;
  int node_index = -1;  ///< of the main graph's node that it is in; -1: none
  Code code = Code::unsupported;
  std::string message;  ///< reason and fix
};

/// A network under construction. A value is known by a number that stays the same while the value exists. Copies are
/// independent and share constant data. Not for several threads at once.
class Network {
 public:
  Network();
  Network(const Network& other);
  Network(Network&&) noexcept;
  Network& operator=(Network other) noexcept;
  ~Network();

  /// Throws Error(invalid_argument) for a name that is taken or empty, and for impossible sizes.
  std::int32_t add_input(const std::string& name, DType dtype, const std::vector<NetworkDim>& dims);
  /// An empty name, or one that is taken, is replaced by a free one. The bytes are shared, not copied.
  std::int32_t add_constant(const HostTensor& tensor, const std::string& name = {});
  /// Adds one operator in the terms of ONNX and infers the types of its results. `opset` 0: the newest known.
  /// `num_outputs` counts from the first one. Results that are known already become constants.
  /// `blocks`: subgraphs of If, Loop and Scan by attribute. A block sees the outside only through its inputs: after
  /// those that the operator defines it has one for each of `captured`, which are values of this network. Throws
  /// Error(invalid_model | unsupported) naming the node and what is wrong; the network is then as before.
  std::vector<std::int32_t> add_node(const std::string& op_type, const std::vector<std::int32_t>& inputs,
                                     const NodeAttributes& attributes = {}, int num_outputs = 1,
                                     const std::string& name = {}, const std::string& domain = {}, int opset = 0,
                                     const std::map<std::string, Network>& blocks = {},
                                     const std::vector<std::int32_t>& captured = {});
  /// Forgets all nodes but the first `num_nodes`, with their values. Marks of forgotten values are gone, too.
  void truncate(int num_nodes);

  int num_nodes() const;
  const NetworkNode& node(int index) const;
  std::vector<std::int32_t> inputs() const;
  std::vector<std::int32_t> outputs() const;

  /// Dims are -1 where `dim_names` has an expression over symbols.
  TensorInfo value(std::int32_t id) const;
  /// The value's data if it is a constant, also one that was computed on the way.
  std::optional<HostTensor> constant(std::int32_t id) const;
  /// The elements of an integer value that are known as expressions: what Shape and the arithmetic on it give.
  std::optional<std::vector<std::string>> known_elements(std::int32_t id) const;
  std::optional<std::int32_t> find_value(std::string_view name) const;
  bool has_value(std::int32_t id) const;
  /// Throws Error(invalid_argument) if another value is called so.
  void set_value_name(std::int32_t id, const std::string& name);
  /// Other data of the same dtype and shape. Results that were computed from the old data on the way are not computed
  /// again. Throws Error(invalid_argument) for what is no constant, or for another type.
  void set_constant(std::int32_t id, const HostTensor& tensor);

  /// The order of marking is the order of the engine's outputs. `name` empty: the value's. Marking again renames.
  void mark_output(std::int32_t id, const std::string& name = {});
  void unmark_output(std::int32_t id);

  /// Throws only if no model can be read from the bytes. Otherwise `problems` lists why it does not compile, and the
  /// network holds what could be understood. `path` may be empty; it is where tensors in other files are looked for.
  static Network from_onnx(std::span<const std::byte> bytes, const std::string& path,
                           std::vector<ModelProblem>& problems, std::vector<std::string>* warnings = nullptr);
  static Network from_onnx(const std::string& path, std::vector<ModelProblem>& problems,
                           std::vector<std::string>* warnings = nullptr);

  /// Of a network read from a model, for each node of its main graph: nothing speaks against compiling it. What follows
  /// a node that cannot be compiled is only judged by whether its operator is known.
  std::vector<bool> model_nodes_supported() const;

  /// The model inside an engine that was built with CompileOptions::portable: its inputs, outputs and constants under
  /// the model's names. It has no nodes that could be listed or forgotten. Throws Error(incompatible_engine), and
  /// Error(invalid_argument) for an engine without the model.
  static Network from_engine(std::span<const std::byte> engine);

  static int newest_opset();

 private:
  friend struct NetworkAccess;
  struct State;
  std::unique_ptr<State> state_;
};

/// Is there an operator of this name that can be compiled, with fitting operands?
bool supports_operator(std::string_view op_type, std::string_view domain = {});

/// Compiles a network; `name` is kept in the engine. Throws as for a model, and Error(invalid_argument) without
/// outputs.
std::vector<std::byte> compile(const Network& network, const std::string& name, const CompileOptions& options = {},
                               CompileSummary* summary = nullptr);

}  // namespace tenfold
