// The walk over the model. A Block is a graph under construction; a Scope is a set of names that see each other. A
// subgraph has a block and a scope of its own and looks outwards; an inlined function has a scope of its own within the
// caller's block and sees only what it was given.
#include "import/onnx/importer.hpp"

#include <algorithm>
#include <functional>
#include <new>
#include <onnx.pb.h>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

#include "import/node_builder.hpp"
#include "import/onnx/liveness.hpp"
#include "import/onnx/wire.hpp"
#include "ops/registry.hpp"

namespace tenfold::onnx {
namespace {

constexpr std::int64_t kMaxDim = std::int64_t{1} << 31;
constexpr int kMaxCallDepth = 64;

/// Thrown when a node cannot be imported for a reason that is already in the list of problems.
struct AlreadyReported {};

using Opsets = std::map<std::string, int, std::less<>>;
using AttributeBindings = std::map<std::string, const AttributeProto*, std::less<>>;

/// "" and "ai.onnx" are the same domain.
std::string_view plain_domain(const std::string& domain) { return domain == "ai.onnx" ? "" : std::string_view(domain); }
std::string shown_domain(std::string_view domain) { return domain.empty() ? "ai.onnx" : printable(domain); }

/// A '#' in a symbol separates the value from the axis, so names do not have one.
std::string plain_name(std::string_view name) {
  std::string result = printable(name, 4096);
  std::replace(result.begin(), result.end(), '#', '_');
  return result;
}

/// A tensor of type `given` may be fed where `declared` is expected.
bool fits(const TensorType& given, const TensorType& declared) {
  if (given.dtype != declared.dtype || given.rank() != declared.rank()) return false;
  for (std::size_t i = 0; i < given.dims.size(); ++i) {
    if (declared.dims[i].is_constant() && given.dims[i] != declared.dims[i]) return false;
  }
  return true;
}

/// One call of a model-local function, or the model itself.
struct Call {
  const Call* caller = nullptr;
  const FunctionProto* function = nullptr;  ///< nullptr: the model
  const Opsets* opsets = nullptr;
  AttributeBindings attributes;
  std::string prefix;  ///< of node and value names: "block1/"
  int depth = 0;
};

struct Block {
  Graph graph;
  int depth = 0;  ///< subgraphs around it
  /// Of a subgraph: values of the block around it that became inputs, and the id of every outer value seen so far.
  std::vector<ValueId>* captured = nullptr;
  std::unordered_map<ValueId, ValueId> inner_ids;
};

struct Scope {
  Block& block;
  Scope* outer = nullptr;  ///< the scope around a subgraph; nullptr for the model and for functions
  const Call& call;
  std::map<std::string, ValueId, std::less<>> values{};  ///< kNoValue: an optional argument that was omitted
  std::set<std::string, std::less<>> failed{};           ///< defined by something that could not be imported
};

struct Lookup {
  enum Kind : std::uint8_t { found, failed, missing } kind = missing;
  ValueId id = kNoValue;
};

std::string function_key(std::string_view domain, std::string_view name, std::string_view overload) {
  return fmt::format("{}\n{}\n{}", domain, name, overload);
}

class Importer {
 public:
  Importer(TensorReader& tensors, const ImportOptions& options, ImportedModel& result)
      : tensors_(tensors), options_(options), result_(result) {}

  void import(ModelProto& model);

 private:
  friend class NodeImporter;

  void problem(std::string where, Code code, std::string message) {
    result_.problems.push_back({std::move(where), code, std::move(message), main_node_});
  }
  Opsets read_opsets(const google::protobuf::RepeatedPtrField<OperatorSetIdProto>& imports, const Opsets& otherwise,
                     std::string_view where);
  void add_inputs(Scope& scope, const GraphProto& graph, const std::set<std::string>& initializers);
  std::optional<TensorType> input_type(const ValueInfoProto& input);
  Dim symbol_for(const std::string& dim_param, const std::string& input, int axis);
  void add_initializers(Scope& scope, GraphProto& graph, const LiveNodes& live);

  void define(Scope& scope, const std::string& name, ValueId id);
  static void fail(Scope& scope, const std::string& name) {
    if (!name.empty()) scope.failed.insert(name);
  }
  Lookup lookup(Scope& scope, std::string_view name);
  static ValueId capture(Block& outer, Block& inner, ValueId id);

  void import_nodes(Scope& scope, google::protobuf::RepeatedPtrField<NodeProto>& nodes, const LiveNodes& live);
  /// Returns the name that the node goes by.
  std::string import_node(Scope& scope, NodeProto& node, int index);
  void keep_node(Scope& scope, NodeProto& node, const std::string& label, NodeId first_node, ValueId first_value);
  void call_function(Scope& scope, const NodeProto& node, FunctionProto& function, const std::string& label,
                     const std::string& where, const std::vector<ValueId>& inputs);
  Graph import_block(Scope& outer, GraphProto& proto, const std::string& label, std::string_view attribute,
                     std::span<const TensorType> formals, std::vector<ValueId>& captured);
  /// Follows ref_attr_name; nullptr for a reference that the call leaves open.
  const AttributeProto* resolve(const Scope& scope, const AttributeProto& attribute) const;
  Attributes convert_attributes(const Scope& scope, NodeProto& node, std::map<std::string, GraphProto*>& graphs);
  void count_node();

  TensorReader& tensors_;
  const ImportOptions& options_;
  ImportedModel& result_;
  std::map<std::string, FunctionProto*, std::less<>> functions_;
  std::map<std::string, std::string, std::less<>> symbols_;  // dim_param -> symbol
  std::set<std::string> symbol_names_;
  std::string unique_label(std::string label);
  /// Forgets the labels given since `labels_given_` had this size.
  void take_back_labels(std::size_t size);
  std::map<std::string, int, std::less<>> labels_;  // of nodes, with how often each was wanted
  std::vector<std::string> labels_given_;           // keys of labels_, in order
  std::int64_t num_imported_ = 0;
  int main_node_ = -1;  // of the main graph, the one being imported
};

/// A node of the file, with its subgraphs.
class NodeImporter final : public NodeBuilder {
 public:
  NodeImporter(Importer& importer, Scope& scope, const NodeProto& proto, std::string label, int opset,
               std::vector<ValueId> inputs)
      : NodeBuilder(scope.block.graph, std::move(label), opset, std::move(inputs), wanted_outputs(proto)),
        importer_(importer),
        scope_(scope),
        proto_(proto) {}

  std::string_view op_type() const override { return proto_.op_type(); }
  std::string_view domain() const override { return plain_domain(proto_.domain()); }
  Graph take_block(std::string_view attribute, std::span<const TensorType> formals,
                   std::vector<ValueId>& captured) override {
    const auto found = graphs_.find(std::string(attribute));
    require(found != graphs_.end(), Code::invalid_model, "attribute '{}' with a subgraph is missing", attribute);
    const auto [block, is_first] = visited_.emplace(found->first, importer_.labels_given_.size());
    if (!is_first) importer_.take_back_labels(block->second);
    return importer_.import_block(scope_, *found->second, label(), attribute, formals, captured);
  }

  void read_attributes(NodeProto& node) { set_attributes(importer_.convert_attributes(scope_, node, graphs_)); }
  /// Defines the model's names of the outputs.
  void publish();
  /// Looks for problems in subgraphs that the operator's import did not come to.
  void check_remaining_blocks();

 private:
  static std::vector<bool> wanted_outputs(const NodeProto& proto) {
    std::vector<bool> wanted;
    for (const std::string& name : proto.output()) wanted.push_back(!name.empty());
    return wanted;
  }

  Importer& importer_;
  Scope& scope_;
  const NodeProto& proto_;
  std::map<std::string, GraphProto*> graphs_;
  std::map<std::string, std::size_t> visited_;  // subgraphs imported, with how many labels were given before
};

void NodeImporter::publish() {
  for (int i = 0; i < num_outputs(); ++i) {
    if (!wants_output(i)) continue;
    if (importer_.options_.keep_nodes && scope_.outer == nullptr) separate_output(i);
    name_output(i, plain_name(scope_.call.prefix + proto_.output(i)));
    importer_.define(scope_, proto_.output(i), output(i));
  }
}

void NodeImporter::check_remaining_blocks() {
  for (const auto& [attribute, proto] : graphs_) {
    if (visited_.contains(attribute) || proto->input_size() > 0) continue;
    std::vector<ValueId> captured;
    try {
      (void)importer_.import_block(scope_, *proto, label(), attribute, {}, captured);
    } catch (const AlreadyReported&) {
    } catch (const Error&) {
      // The node has failed with a reason already.
    }
  }
}

// --- Model
// ------------------------------------------------------------------------------------------------------------

Opsets Importer::read_opsets(const google::protobuf::RepeatedPtrField<OperatorSetIdProto>& imports,
                             const Opsets& otherwise, std::string_view where) {
  Opsets opsets = otherwise;
  std::set<std::string_view> seen;
  for (const OperatorSetIdProto& import : imports) {
    const std::string_view domain = plain_domain(import.domain());
    if (!seen.insert(domain).second) {
      problem(std::string(where), Code::invalid_model,
              fmt::format("domain '{}' is imported twice", shown_domain(domain)));
    }
    const bool fits = import.version() > 0 && import.version() < 100'000;
    if (!fits) {
      problem(std::string(where), Code::invalid_model,
              fmt::format("version {} of domain '{}' does not exist", import.version(), shown_domain(domain)));
    }
    opsets[std::string(domain)] = fits ? static_cast<int>(import.version()) : 0;
  }
  const auto standard = opsets.find("");
  if (standard != opsets.end() && standard->second > kNewestOpset) {
    problem(std::string(where), Code::unsupported,
            fmt::format("the model uses ai.onnx opset {}; the newest that this version knows is {}. Export it again "
                        "for that one, or convert it with onnx.version_converter",
                        standard->second, kNewestOpset));
  }
  if (standard != opsets.end() && standard->second > 0 && standard->second < kOldestOpset) {
    problem(std::string(where), Code::unsupported,
            fmt::format("the model uses ai.onnx opset {}; the oldest that is supported is {}. Convert it with "
                        "onnx.version_converter",
                        standard->second, kOldestOpset));
  }
  return opsets;
}

Dim Importer::symbol_for(const std::string& dim_param, const std::string& input, int axis) {
  // '?' and the like are no names: two axes called so need not be equal.
  const bool is_name = !dim_param.empty() && dim_param != "?" && dim_param != "-1" && dim_param != "None";
  if (!is_name) return Dim::symbol(fmt::format("{}#{}", input, axis));
  const auto known = symbols_.find(dim_param);
  if (known != symbols_.end()) return Dim::symbol(known->second);
  std::string symbol = plain_name(dim_param);
  for (int i = 2; !symbol_names_.insert(symbol).second; ++i) symbol = fmt::format("{}_{}", plain_name(dim_param), i);
  symbols_.emplace(dim_param, symbol);
  return Dim::symbol(symbol);
}

std::optional<TensorType> Importer::input_type(const ValueInfoProto& input) {
  const std::string shown = printable(input.name());
  const std::string where = fmt::format("input '{}'", shown);
  try {
    require(input.type().has_tensor_type(), Code::unsupported,
            "it is no tensor (a sequence, a map, an optional or a sparse tensor)");
    const TypeProto::Tensor& declared = input.type().tensor_type();
    TensorType type;
    type.dtype = dtype_of(declared.elem_type());
    const auto given = options_.input_shapes.find(input.name());
    const bool is_given = given != options_.input_shapes.end();
    require(declared.has_shape() || is_given, Code::unsupported,
            "the model does not say how many axes it has; give its shape (--shapes {}:...)", shown);
    const int rank = declared.has_shape() ? declared.shape().dim_size() : static_cast<int>(given->second.size());
    require(rank <= kMaxRank, Code::unsupported, "it has rank {}; at most {} is supported", rank, kMaxRank);
    require(!is_given || static_cast<int>(given->second.size()) == rank, Code::invalid_argument,
            "the shape {} was given, but it has {} axes", is_given ? to_string(given->second) : "", rank);
    for (int axis = 0; axis < rank; ++axis) {
      // Exporters write 0 and -1 for sizes they do not know, so neither is taken as a size. An input that is really
      // empty can be had by giving its shape.
      std::optional<std::int64_t> fixed;
      std::string param;
      if (declared.has_shape()) {
        const TensorShapeProto::Dimension& dim = declared.shape().dim(axis);
        if (dim.has_dim_value() && dim.dim_value() > 0) fixed = dim.dim_value();
        if (dim.has_dim_param()) param = dim.dim_param();
      }
      require(!fixed || *fixed < kMaxDim, Code::invalid_model, "axis {} has size {}; sizes stay below {}", axis,
              fixed.value_or(0), kMaxDim);
      const std::int64_t wanted = is_given ? given->second[static_cast<std::size_t>(axis)] : -1;
      require(wanted >= -1 && wanted < kMaxDim, Code::invalid_argument, "the size {} was given for axis {}", wanted,
              axis);
      require(wanted == -1 || !fixed || wanted == *fixed, Code::invalid_argument,
              "the size {} was given for axis {}, which the model fixes at {}", wanted, axis, fixed.value_or(0));
      if (wanted >= 0) fixed = wanted;
      type.dims.push_back(fixed ? Dim(*fixed) : symbol_for(param, plain_name(input.name()), axis));
    }
    return type;
  } catch (const Error& error) {
    problem(where, error.code(), error.message());
    return std::nullopt;
  }
}

void Importer::add_inputs(Scope& scope, const GraphProto& graph, const std::set<std::string>& initializers) {
  for (const ValueInfoProto& input : graph.input()) {
    if (initializers.contains(input.name())) continue;
    if (scope.values.contains(input.name()) || scope.failed.contains(input.name()) || input.name().empty()) {
      problem(fmt::format("input '{}'", printable(input.name())), Code::invalid_model,
              input.name().empty() ? "it has no name" : "two inputs have this name");
      continue;
    }
    const std::optional<TensorType> type = input_type(input);
    const auto value = options_.input_values.find(input.name());
    if (type && value != options_.input_values.end()) {
      if (fits(value->second.type(), *type)) {
        scope.values.emplace(input.name(), scope.block.graph.add_constant(plain_name(input.name()), value->second));
      } else {
        problem(fmt::format("input '{}'", printable(input.name())), Code::invalid_argument,
                fmt::format("the value given for it is {}, but the model declares {}", to_string(value->second.type()),
                            to_string(*type)));
        fail(scope, input.name());
      }
    } else if (type) {
      // Callers use this name, so it is kept as it is.
      scope.values.emplace(input.name(), scope.block.graph.add_input(printable(input.name(), 4096), *type));
    } else {
      fail(scope, input.name());
    }
  }
}

void Importer::add_initializers(Scope& scope, GraphProto& graph, const LiveNodes& live) {
  const auto add = [&](const std::string& name, const auto& read) {
    if (!live.names.contains(name)) return;
    try {
      Tensor tensor = read();
      define(scope, name, scope.block.graph.add_constant(plain_name(scope.call.prefix + name), std::move(tensor)));
    } catch (const Error& error) {
      problem(fmt::format("initializer '{}'", printable(name)), error.code(), error.message());
      fail(scope, name);
    }
  };
  for (TensorProto& tensor : *graph.mutable_initializer()) {
    add(tensor.name(), [&] { return tensors_.read(tensor); });
  }
  for (SparseTensorProto& tensor : *graph.mutable_sparse_initializer()) {
    add(tensor.values().name(), [&] { return tensors_.read(tensor); });
  }
}

std::vector<std::string> output_names(const GraphProto& graph) {
  std::vector<std::string> names;
  for (const ValueInfoProto& output : graph.output()) names.push_back(output.name());
  return names;
}

LiveNodes live_nodes(const google::protobuf::RepeatedPtrField<NodeProto>& nodes, std::span<const std::string> outputs) {
  std::vector<const NodeProto*> list;
  list.reserve(static_cast<std::size_t>(nodes.size()));
  for (const NodeProto& node : nodes) list.push_back(&node);
  return find_live_nodes(list, outputs);
}

void Importer::import(ModelProto& model) {
  result_.producer = printable(model.producer_name());
  if (!model.producer_version().empty()) result_.producer += " " + printable(model.producer_version());
  for (const StringStringEntryProto& item : model.metadata_props()) {
    result_.metadata[printable(item.key())] = printable(item.value(), std::size_t{1} << 20);
  }
  // The first versions of the format had one operator set only.
  const Opsets opsets = read_opsets(model.opset_import(), model.ir_version() < 3 ? Opsets{{"", 1}} : Opsets{}, "model");
  if (!result_.problems.empty()) return;
  for (FunctionProto& function : *model.mutable_functions()) {
    const std::string_view domain = plain_domain(function.domain());
    if (!functions_.emplace(function_key(domain, function.name(), function.overload()), &function).second) {
      problem(fmt::format("function '{}'", printable(function.name())), Code::invalid_model,
              fmt::format("domain '{}' has two functions of this name", shown_domain(domain)));
    }
  }

  GraphProto& graph = *model.mutable_graph();
  result_.num_main_nodes = graph.node_size();
  std::set<std::string> input_names;
  for (const ValueInfoProto& input : graph.input()) input_names.insert(input.name());
  std::set<std::string> initializers;
  const auto note_initializer = [&](const std::string& name) {
    if (initializers.insert(name).second && input_names.contains(name) && model.ir_version() >= 4) {
      result_.warnings.push_back(fmt::format(
          "input '{}' has a default value; it is compiled in as a constant and cannot be set when the engine runs",
          printable(name)));
    }
  };
  for (const TensorProto& tensor : graph.initializer()) note_initializer(tensor.name());
  for (const SparseTensorProto& tensor : graph.sparse_initializer()) note_initializer(tensor.values().name());
  std::set<std::string> given;
  for (const auto& [name, shape] : options_.input_shapes) given.insert(name);
  for (const auto& [name, value] : options_.input_values) given.insert(name);
  for (const std::string& name : given) {
    if (!input_names.contains(name) || initializers.contains(name)) {
      std::vector<std::string> known;
      for (const std::string& input : input_names) {
        if (!initializers.contains(input)) known.push_back("'" + printable(input) + "'");
      }
      problem("model", Code::invalid_argument,
              fmt::format("a shape or value was given for input '{}', which the model does not have; its inputs are {}",
                          printable(name), fmt::join(known, ", ")));
    }
  }

  const Call call{.opsets = &opsets};
  Block block;
  block.graph.name = plain_name(graph.name());
  Scope scope{.block = block, .call = call};
  const std::vector<std::string> outputs = output_names(graph);
  const LiveNodes live = live_nodes(graph.node(), outputs);
  add_inputs(scope, graph, initializers);
  add_initializers(scope, graph, live);
  import_nodes(scope, *graph.mutable_node(), live);

  std::vector<ValueId> ids;
  std::vector<std::string> names;
  std::set<std::string> seen;
  for (const std::string& name : outputs) {
    const std::string where = fmt::format("output '{}'", printable(name));
    if (!seen.insert(name).second) {
      problem(where, Code::invalid_model, "two outputs have this name");
      continue;
    }
    const Lookup found = lookup(scope, name);
    if (found.kind == Lookup::missing) {
      problem(where, Code::invalid_model, "no node, input or initializer defines it");
    } else if (found.kind == Lookup::found) {
      ids.push_back(found.id);
      names.push_back(printable(name, 4096));
    }
  }
  if (outputs.empty()) problem("model", Code::invalid_model, "it has no outputs");
  block.graph.set_outputs(std::move(ids), std::move(names));
  if (result_.problems.empty() && !options_.keep_nodes) {
    block.graph.remove_dead();
    block.graph.compact();
  }
  result_.graph = std::move(block.graph);
}

// --- Names
// ------------------------------------------------------------------------------------------------------------

void Importer::define(Scope& scope, const std::string& name, ValueId id) {
  require(!name.empty(), Code::invalid_model, "a value has no name");
  require(scope.values.emplace(name, id).second, Code::invalid_model, "'{}' is defined a second time", printable(name));
}

Lookup Importer::lookup(Scope& scope, std::string_view name) {
  const auto own = scope.values.find(name);
  if (own != scope.values.end()) return {Lookup::found, own->second};
  if (scope.failed.contains(name)) return {Lookup::failed};
  if (scope.outer == nullptr) return {Lookup::missing};
  Lookup result = lookup(*scope.outer, name);
  if (result.kind == Lookup::found && result.id != kNoValue) {
    result.id = capture(scope.outer->block, scope.block, result.id);
  }
  return result;
}

ValueId Importer::capture(Block& outer, Block& inner, ValueId id) {
  const auto known = inner.inner_ids.find(id);
  if (known != inner.inner_ids.end()) return known->second;
  const Value& value = outer.graph.value(id);
  ValueId result = kNoValue;
  if (value.constant) {
    result = inner.graph.add_constant(value.name, *value.constant);
  } else {
    result = inner.graph.add_input(value.name, value.type);
    inner.graph.value(result).integers = value.integers;
    inner.captured->push_back(id);
  }
  inner.inner_ids.emplace(id, result);
  return result;
}

// --- Nodes
// ------------------------------------------------------------------------------------------------------------

void Importer::count_node() {
  // Functions are copied at every call and loop bodies may be imported twice, so the file's own count is no bound.
  require(++num_imported_ <= 4 * options_.max_nodes, Code::unsupported,
          "the model has more than {} nodes once its functions are expanded", 4 * options_.max_nodes);
}

void Importer::import_nodes(Scope& scope, google::protobuf::RepeatedPtrField<NodeProto>& nodes, const LiveNodes& live) {
  const auto give_up = [&](int index, const std::string& reason) {
    const NodeProto& node = nodes[index];
    const std::string name = node.name().empty() ? fmt::format("{}_{}", node.op_type(), index) : node.name();
    problem(fmt::format("node '{}' ({})", printable(scope.call.prefix + name), printable(node.op_type())),
            Code::invalid_model, reason);
    for (const std::string& output : node.output()) fail(scope, output);
  };
  const bool is_main = scope.outer == nullptr && scope.call.caller == nullptr;
  for (const auto& [index, reason] : live.cyclic) {
    if (is_main) main_node_ = index;
    give_up(index, reason);
  }
  for (const auto& [index, name] : live.redefined) {
    if (is_main) main_node_ = index;
    give_up(index, fmt::format("its output '{}' is defined by an earlier node already", printable(name)));
  }
  for (const int index : live.order) {
    if (is_main) main_node_ = index;
    const NodeId first_node = scope.block.graph.node_limit();
    const ValueId first_value = scope.block.graph.value_limit();
    const std::string label = import_node(scope, nodes[index], index);
    if (is_main && options_.keep_nodes) keep_node(scope, nodes[index], label, first_node, first_value);
  }
  if (is_main) main_node_ = -1;
}

void Importer::keep_node(Scope& scope, NodeProto& node, const std::string& label, NodeId first_node,
                         ValueId first_value) {
  ImportedNode kept;
  kept.name = label;
  kept.op_type = printable(node.op_type());
  kept.domain = printable(plain_domain(node.domain()));
  const auto opset = scope.call.opsets->find(plain_domain(node.domain()));
  kept.opset = opset == scope.call.opsets->end() ? 0 : opset->second;
  kept.index = main_node_;
  const auto ids_of = [&](const auto& names, std::vector<ValueId>& ids) {
    for (const std::string& name : names) {
      const Lookup found = name.empty() ? Lookup{Lookup::found, kNoValue} : lookup(scope, name);
      if (found.kind != Lookup::found) return false;
      ids.push_back(found.id);
    }
    return true;
  };
  if (!ids_of(node.input(), kept.inputs) || !ids_of(node.output(), kept.outputs)) return;  // it failed
  std::map<std::string, GraphProto*> graphs;
  kept.attributes = convert_attributes(scope, node, graphs);
  for (const auto& [name, graph] : graphs) kept.subgraphs.push_back(printable(name));
  kept.first_node = first_node;
  kept.node_end = scope.block.graph.node_limit();
  kept.first_value = first_value;
  kept.value_end = scope.block.graph.value_limit();
  result_.nodes.push_back(std::move(kept));
}

std::string Importer::unique_label(std::string label) {
  const int before = labels_[label]++;
  labels_given_.push_back(label);
  if (before == 0) return label;
  std::string unique;
  int suffix = before;
  do unique = fmt::format("{}_{}", label, ++suffix);
  while (labels_.contains(unique));
  labels_.emplace(unique, 1);
  labels_given_.push_back(unique);
  return unique;
}

void Importer::take_back_labels(std::size_t size) {
  for (; labels_given_.size() > size; labels_given_.pop_back()) {
    const auto found = labels_.find(labels_given_.back());
    if (--found->second == 0) labels_.erase(found);
  }
}

std::string Importer::import_node(Scope& scope, NodeProto& node, int index) {
  count_node();
  const std::string own_name = node.name().empty() ? fmt::format("{}_{}", node.op_type(), index) : node.name();
  const std::string label = unique_label(plain_name(scope.call.prefix + own_name));
  const std::string where = fmt::format("node '{}' ({})", label, printable(node.op_type()));
  const auto give_up = [&] {
    for (const std::string& output : node.output()) fail(scope, output);
  };

  try {
    std::vector<ValueId> inputs;
    bool any_failed = false;
    for (const std::string& name : node.input()) {
      const Lookup found = name.empty() ? Lookup{Lookup::found, kNoValue} : lookup(scope, name);
      require(found.kind != Lookup::missing, Code::invalid_model,
              "it reads '{}', which no node, input or initializer defines", printable(name));
      any_failed = any_failed || found.kind == Lookup::failed;
      inputs.push_back(found.id);
    }

    const std::string_view domain = plain_domain(node.domain());
    const auto function = functions_.find(function_key(domain, node.op_type(), node.overload()));
    if (function != functions_.end()) {
      if (any_failed) {
        give_up();
      } else {
        call_function(scope, node, *function->second, label, where, inputs);
      }
      return label;
    }
    const auto opset = scope.call.opsets->find(domain);
    require(opset != scope.call.opsets->end(), Code::invalid_model,
            "it belongs to domain '{}', for which the model names no version (opset_import)", shown_domain(domain));
    const OpDef* op = find_imported_op(domain, node.op_type());
    require(op != nullptr, Code::unsupported,
            "operator {} of {} opset {} is not supported by this version; replace it by supported operators before "
            "exporting, or give the model a local function that defines it",
            printable(node.op_type()), shown_domain(domain), opset->second);
    // Without its operands a node cannot be judged any further; that its operator is known could be said.
    if (any_failed) {
      give_up();
      return label;
    }
    NodeImporter importer(*this, scope, node, label, opset->second, std::move(inputs));
    importer.read_attributes(node);
    try {
      op->import_onnx(importer);
      importer.publish();
    } catch (...) {
      importer.check_remaining_blocks();
      throw;
    }
  } catch (const AlreadyReported&) {
    give_up();
  } catch (const Error& error) {
    // Shape inference names the node itself.
    std::string_view message = error.message();
    const std::size_t end = message.starts_with("node '") ? message.find("): ") : std::string_view::npos;
    if (end != std::string_view::npos && message.starts_with(fmt::format("node '{}", label))) {
      message.remove_prefix(end + 3);
    }
    problem(where, error.code(), std::string(message));
    give_up();
  } catch (const std::bad_alloc&) {
    problem(where, Code::out_of_memory, "memory is exhausted");
    give_up();
  }
  return label;
}

void Importer::call_function(Scope& scope, const NodeProto& node, FunctionProto& function, const std::string& label,
                             const std::string& where, const std::vector<ValueId>& inputs) {
  require(node.input_size() <= function.input_size() && node.output_size() <= function.output_size(),
          Code::invalid_model, "it has {} inputs and {} outputs, but the function {} takes {} and gives {}",
          node.input_size(), node.output_size(), printable(function.name()), function.input_size(),
          function.output_size());
  for (const Call* active = &scope.call; active != nullptr; active = active->caller) {
    require(active->function != &function, Code::invalid_model, "the function {} calls itself",
            printable(function.name()));
  }
  require(scope.call.depth < kMaxCallDepth, Code::unsupported, "functions are nested deeper than {}", kMaxCallDepth);

  const std::size_t problems_before = result_.problems.size();
  const Opsets opsets = read_opsets(function.opset_import(), *scope.call.opsets, where);
  if (result_.problems.size() > problems_before) throw AlreadyReported{};
  Call call{.caller = &scope.call, .function = &function, .opsets = &opsets};
  call.prefix = label + "/";
  call.depth = scope.call.depth + 1;
  for (const AttributeProto& attribute : function.attribute_proto()) call.attributes[attribute.name()] = &attribute;
  for (const AttributeProto& given : node.attribute()) {
    if (const AttributeProto* attribute = resolve(scope, given)) call.attributes[given.name()] = attribute;
  }

  Scope body{.block = scope.block, .call = call};
  for (int i = 0; i < function.input_size(); ++i) {
    define(body, function.input(i),
           i < static_cast<int>(inputs.size()) ? inputs[static_cast<std::size_t>(i)] : kNoValue);
  }
  std::vector<std::string> wanted;
  for (int i = 0; i < node.output_size(); ++i) {
    if (!node.output(i).empty()) wanted.push_back(function.output(i));
  }
  const LiveNodes live = live_nodes(function.node(), wanted);
  import_nodes(body, *function.mutable_node(), live);
  for (int i = 0; i < node.output_size(); ++i) {
    if (node.output(i).empty()) continue;
    const Lookup found = lookup(body, function.output(i));
    require(found.kind != Lookup::missing && (found.kind == Lookup::failed || found.id != kNoValue),
            Code::invalid_model, "the function {} does not compute its output '{}'", printable(function.name()),
            printable(function.output(i)));
    if (found.kind == Lookup::failed) {
      fail(scope, node.output(i));
    } else {
      define(scope, node.output(i), found.id);
    }
  }
}

Graph Importer::import_block(Scope& outer, GraphProto& proto, const std::string& label, std::string_view attribute,
                             std::span<const TensorType> formals, std::vector<ValueId>& captured) {
  require(outer.block.depth < options_.max_subgraph_depth, Code::unsupported, "subgraphs are nested deeper than {}",
          options_.max_subgraph_depth);
  require(static_cast<int>(formals.size()) == proto.input_size(), Code::invalid_model,
          "the subgraph '{}' has {} inputs, expected {}", attribute, proto.input_size(), formals.size());
  Block block;
  block.depth = outer.block.depth + 1;
  block.captured = &captured;
  block.graph.name = plain_name(proto.name());
  block.graph.scope = fmt::format("{}#{}#", label, attribute);
  Scope scope{.block = block, .outer = &outer, .call = outer.call};
  for (int i = 0; i < proto.input_size(); ++i) {
    const ValueInfoProto& input = proto.input(i);
    require(!scope.values.contains(input.name()), Code::invalid_model, "the subgraph '{}' has two inputs called '{}'",
            attribute, printable(input.name()));
    define(scope, input.name(),
           block.graph.add_input(plain_name(outer.call.prefix + input.name()), formals[static_cast<std::size_t>(i)]));
  }
  for (const ValueId id : captured) {
    const Value& value = outer.block.graph.value(id);
    const ValueId inner = block.graph.add_input(value.name, value.type);
    block.graph.value(inner).integers = value.integers;
    block.inner_ids.emplace(id, inner);
  }

  const std::vector<std::string> outputs = output_names(proto);
  const LiveNodes live = live_nodes(proto.node(), outputs);
  add_initializers(scope, proto, live);
  import_nodes(scope, *proto.mutable_node(), live);
  std::vector<ValueId> ids;
  bool any_failed = !scope.failed.empty();
  for (const std::string& name : outputs) {
    const Lookup found = lookup(scope, name);
    require(found.kind != Lookup::missing && (found.kind == Lookup::failed || found.id != kNoValue),
            Code::invalid_model, "the subgraph '{}' does not compute its output '{}'", attribute, printable(name));
    any_failed = any_failed || found.kind == Lookup::failed;
    ids.push_back(found.id);
  }
  if (any_failed) throw AlreadyReported{};
  block.graph.set_outputs(std::move(ids));
  block.graph.remove_dead();
  return std::move(block.graph);
}

// --- Attributes
// -------------------------------------------------------------------------------------------------------

const AttributeProto* Importer::resolve(const Scope& scope, const AttributeProto& attribute) const {
  if (attribute.ref_attr_name().empty()) return &attribute;
  require(scope.call.function != nullptr, Code::invalid_model,
          "attribute '{}' refers to a function's attribute '{}', but the node is in no function",
          printable(attribute.name()), printable(attribute.ref_attr_name()));
  const auto found = scope.call.attributes.find(attribute.ref_attr_name());
  return found == scope.call.attributes.end() ? nullptr : found->second;
}

/// Files of the first version have no types; only one field is set then.
AttributeProto::AttributeType type_of(const AttributeProto& attribute) {
  if (attribute.has_type() && attribute.type() != AttributeProto::UNDEFINED) return attribute.type();
  if (attribute.has_f()) return AttributeProto::FLOAT;
  if (attribute.has_i()) return AttributeProto::INT;
  if (attribute.has_s()) return AttributeProto::STRING;
  if (attribute.has_t()) return AttributeProto::TENSOR;
  if (attribute.has_g()) return AttributeProto::GRAPH;
  if (attribute.floats_size() > 0) return AttributeProto::FLOATS;
  if (attribute.ints_size() > 0) return AttributeProto::INTS;
  if (attribute.strings_size() > 0) return AttributeProto::STRINGS;
  return AttributeProto::UNDEFINED;
}

Attributes Importer::convert_attributes(const Scope& scope, NodeProto& node,
                                        std::map<std::string, GraphProto*>& graphs) {
  Attributes result;
  std::set<std::string_view> seen;
  require(node.attribute_size() <= 256, Code::invalid_model, "it has {} attributes; at most 256 are accepted",
          node.attribute_size());
  for (AttributeProto& given : *node.mutable_attribute()) {
    const std::string& name = given.name();
    require(!name.empty() && seen.insert(name).second, Code::invalid_model, "two attributes are called '{}'",
            printable(name));
    const AttributeProto* resolved = resolve(scope, given);
    if (resolved == nullptr) continue;
    // Tensors are moved out of the message the first time they are read.
    auto& attribute = const_cast<AttributeProto&>(*resolved);
    try {
      switch (type_of(attribute)) {
        case AttributeProto::FLOAT:
          result.set(name, static_cast<double>(attribute.f()));
          break;
        case AttributeProto::INT:
          result.set(name, std::int64_t{attribute.i()});
          break;
        case AttributeProto::STRING:
          result.set(name, attribute.s());
          break;
        case AttributeProto::TENSOR:
          result.set(name, tensors_.read(*attribute.mutable_t()));
          break;
        case AttributeProto::SPARSE_TENSOR:
          result.set(name, tensors_.read(*attribute.mutable_sparse_tensor()));
          break;
        case AttributeProto::FLOATS:
          result.set(name, std::vector<double>(attribute.floats().begin(), attribute.floats().end()));
          break;
        case AttributeProto::INTS:
          result.set(name, std::vector<std::int64_t>(attribute.ints().begin(), attribute.ints().end()));
          break;
        case AttributeProto::STRINGS:
          result.set(name, std::vector<std::string>(attribute.strings().begin(), attribute.strings().end()));
          break;
        case AttributeProto::GRAPH:
          require(resolved == &given, Code::unsupported, "subgraphs as arguments of functions are not supported");
          graphs.emplace(name, given.mutable_g());
          break;
        case AttributeProto::UNDEFINED:
          throw Error(Code::invalid_model, "it has no value");
        case AttributeProto::TENSORS:
        case AttributeProto::GRAPHS:
        case AttributeProto::SPARSE_TENSORS:
        case AttributeProto::TYPE_PROTO:
        case AttributeProto::TYPE_PROTOS:
          throw Error(Code::unsupported, "lists of tensors or graphs, and types, are not supported");
      }
    } catch (const Error& error) {
      throw error.in_context(fmt::format("attribute '{}'", printable(name)));
    }
  }
  return result;
}

}  // namespace

void import_model(ModelProto& model, TensorReader& tensors, const ImportOptions& options, ImportedModel& result) {
  Importer(tensors, options, result).import(model);
}

}  // namespace tenfold::onnx
