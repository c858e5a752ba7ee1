// Networks made by hand: a graph, and beside it the list of nodes as they were added. Operators come in through the
// same import functions as those of a model file.
#include "tenfold/network.hpp"

#include <algorithm>
#include <set>

#include "import/import.hpp"
#include "import/network_access.hpp"
#include "import/node_builder.hpp"

namespace tenfold {
namespace {

constexpr std::int64_t kMaxSize = std::int64_t{1} << 31;

Tensor to_tensor(const HostTensor& given) {
  require(given.dtype != DType::undefined, Code::invalid_argument, "the tensor has no dtype");
  require(given.dims.size() <= static_cast<std::size_t>(kMaxRank), Code::invalid_argument,
          "the tensor has rank {}; at most {} is supported", given.dims.size(), kMaxRank);
  const auto bytes = static_cast<std::size_t>(num_elements(given.dims)) * size_of(given.dtype);
  require(bytes == given.size_bytes && (bytes == 0 || given.data != nullptr), Code::invalid_argument,
          "a tensor {}{} needs {} bytes, but {} were given", to_string(given.dtype), to_string(given.dims), bytes,
          given.size_bytes);
  if (bytes == 0) return {given.dtype, given.dims};
  return {given.dtype, given.dims, given.data, given.owner};
}

HostTensor to_host(const Tensor& tensor) {
  // The tensor itself is the owner of its bytes.
  auto owner = std::make_shared<const Tensor>(tensor);
  return {tensor.dtype(), tensor.shape(), tensor.data(), tensor.size_bytes(), owner};
}

AttributeValue to_attribute(const NodeAttribute& given) {
  return std::visit(
      [](const auto& value) -> AttributeValue {
        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, HostTensor>) {
          return to_tensor(value);
        } else {
          return value;
        }
      },
      given);
}

NodeAttribute from_attribute(const AttributeValue& value) {
  return std::visit(
      [](const auto& held) -> NodeAttribute {
        if constexpr (std::is_same_v<std::decay_t<decltype(held)>, Tensor>) {
          return to_host(held);
        } else {
          return held;
        }
      },
      value);
}

/// A node that a caller describes.
class HandMadeNode final : public NodeBuilder {
 public:
  HandMadeNode(Graph& graph, const NetworkNode& node, Attributes attributes,
               const std::map<std::string, Network>& blocks, const std::vector<std::int32_t>& captured)
      : NodeBuilder(graph, node.name, node.opset, node.inputs, std::vector<bool>(node.outputs.size(), true)),
        op_type_(node.op_type),
        domain_(node.domain),
        blocks_(blocks),
        captured_(captured) {
    set_attributes(std::move(attributes));
  }
  std::string_view op_type() const override { return op_type_; }
  std::string_view domain() const override { return domain_; }
  /// The block as its network has it, with the types that it gets here.
  Graph take_block(std::string_view attribute, std::span<const TensorType> formals,
                   std::vector<ValueId>& captured) override {
    const auto found = blocks_.find(std::string(attribute));
    require(found != blocks_.end(), Code::invalid_argument, "it needs the subgraph '{}'", attribute);
    Graph block = NetworkAccess::graph(found->second);
    require(block.inputs().size() == formals.size() + captured_.size(), Code::invalid_argument,
            "subgraph '{}' has {} inputs, but {} of its own and {} captured values were expected", attribute,
            block.inputs().size(), formals.size(), captured_.size());
    block.name = std::string(attribute);
    block.scope = fmt::format("{}#{}#", label(), attribute);
    for (std::size_t i = 0; i < block.inputs().size(); ++i) {
      const bool is_formal = i < formals.size();
      const TensorType& type = is_formal ? formals[i] : graph().value(captured_[i - formals.size()]).type;
      Value& input = block.value(block.inputs()[i]);
      require(input.type.dtype == type.dtype && input.type.rank() == type.rank(), Code::invalid_argument,
              "input {} of subgraph '{}' is {}, but gets {}", i, attribute, to_string(input.type), to_string(type));
      input.type = type;
    }
    block.infer_types();
    captured = captured_;
    return block;
  }

 private:
  std::string op_type_;
  std::string domain_;
  const std::map<std::string, Network>& blocks_;
  const std::vector<std::int32_t>& captured_;
};

/// What was made for one node.
struct Made {
  NodeId first_node = 0, node_end = 0;
  ValueId first_value = 0, value_end = 0;
};

}  // namespace

struct Network::State {
  Graph graph;
  std::vector<NetworkNode> nodes;
  std::vector<Made> made;  // by node
  std::set<std::string, std::less<>> node_names;
  std::vector<std::pair<ValueId, std::string>> outputs;
  std::string producer, model_hash;
  std::map<std::string, std::string> metadata;
  std::vector<bool> supported;  // by node of the model
  std::set<ValueId> forgotten;  // constants made for nodes that are gone

  bool has(ValueId id) const { return graph.is_alive_value(id) && !forgotten.contains(id); }
  void need(ValueId id) const { require(has(id), Code::invalid_argument, "there is no value {} in the network", id); }
  std::string free_name(const std::string& wanted) const {
    if (!node_names.contains(wanted)) return wanted;
    for (int i = 2;; ++i) {
      std::string name = fmt::format("{}_{}", wanted, i);
      if (!node_names.contains(name)) return name;
    }
  }
  /// Removes what was made for a node.
  void roll_back(const Made& to_forget) {
    for (NodeId id = to_forget.node_end; id-- > to_forget.first_node;) {
      if (graph.is_alive_node(id)) graph.remove_node(id);
    }
    for (ValueId id = to_forget.value_end; id-- > to_forget.first_value;) {
      // What is left are constants. They disappear when the graph is compiled; until then their names must be free.
      if (!graph.is_alive_value(id)) continue;
      graph.rename(id, fmt::format("forgotten#{}", id));
      forgotten.insert(id);
    }
  }
};

Network::Network() : state_(std::make_unique<State>()) { state_->graph.name = "network"; }
Network::Network(const Network& other) : state_(std::make_unique<State>(*other.state_)) {}
Network::Network(Network&&) noexcept = default;
Network& Network::operator=(Network other) noexcept {
  state_ = std::move(other.state_);
  return *this;
}
Network::~Network() = default;

int Network::newest_opset() { return kNewestOpset; }

std::int32_t Network::add_input(const std::string& name, DType dtype, const std::vector<NetworkDim>& dims) {
  require(!name.empty() && !state_->graph.find_value(name), Code::invalid_argument,
          "an input cannot be called '{}': {}", name,
          name.empty() ? "it needs a name" : "a value has this name already");
  require(dtype != DType::undefined, Code::invalid_argument, "input '{}' has no dtype", name);
  require(dims.size() <= static_cast<std::size_t>(kMaxRank), Code::unsupported,
          "input '{}' has rank {}; at most {} is supported", name, dims.size(), kMaxRank);
  TensorType type;
  type.dtype = dtype;
  for (std::size_t axis = 0; axis < dims.size(); ++axis) {
    const NetworkDim& dim = dims[axis];
    require(dim.size >= -1 && dim.size < kMaxSize, Code::invalid_argument,
            "input '{}' axis {} has size {}; sizes are 0 .. 2^31 - 1, or -1 for one that is decided later", name, axis,
            dim.size);
    if (dim.size >= 0) {
      type.dims.emplace_back(dim.size);
    } else {
      type.dims.push_back(Dim::symbol(dim.symbol.empty() ? fmt::format("{}#{}", name, axis) : dim.symbol));
    }
  }
  return state_->graph.add_input(name, std::move(type));
}

std::int32_t Network::add_constant(const HostTensor& tensor, const std::string& name) {
  return state_->graph.add_constant(name.empty() ? "constant" : name, to_tensor(tensor));
}

std::vector<std::int32_t> Network::add_node(const std::string& op_type, const std::vector<std::int32_t>& inputs,
                                            const NodeAttributes& attributes, int num_outputs, const std::string& name,
                                            const std::string& domain, int opset,
                                            const std::map<std::string, Network>& blocks,
                                            const std::vector<std::int32_t>& captured) {
  State& state = *state_;
  NetworkNode node;
  node.op_type = op_type;
  node.domain = domain == "ai.onnx" ? "" : domain;
  node.opset = opset == 0 ? kNewestOpset : opset;
  node.name = state.free_name(name.empty() ? fmt::format("{}_{}", op_type, state.nodes.size()) : name);
  node.inputs = inputs;
  node.attributes = attributes;
  for (const auto& [attribute, block] : blocks) node.subgraphs.push_back(attribute);
  const std::string where = fmt::format("node '{}' ({})", node.name, op_type);
  require(num_outputs >= 1 && num_outputs <= 4096, Code::invalid_argument, "{}: {} outputs were asked for", where,
          num_outputs);
  node.outputs.resize(static_cast<std::size_t>(num_outputs), kNoValue);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    require(inputs[i] == kNoValue || state.has(inputs[i]), Code::invalid_argument,
            "{}: input {} is value {}, which does not exist", where, i, inputs[i]);
  }
  for (const std::int32_t value : captured) state.need(value);
  const OpDef* op = find_imported_op(node.domain, op_type);
  require(op != nullptr, Code::unsupported, "{}: the operator {} of {} is not supported", where, op_type,
          node.domain.empty() ? "ai.onnx" : node.domain);
  require(!node.domain.empty() || (node.opset >= kOldestOpset && node.opset <= kNewestOpset), Code::unsupported,
          "{}: opset {} is not supported, only {} .. {}", where, node.opset, kOldestOpset, kNewestOpset);

  Made made;
  made.first_node = state.graph.node_limit();
  made.first_value = state.graph.value_limit();
  try {
    Attributes converted;
    for (const auto& [key, value] : attributes) converted.set(key, to_attribute(value));
    HandMadeNode builder(state.graph, node, std::move(converted), blocks, captured);
    op->import_onnx(builder);
    for (int i = 0; i < num_outputs; ++i) {
      builder.separate_output(i);
      builder.name_output(i, i == 0 ? node.name : fmt::format("{}:{}", node.name, i));
      node.outputs[static_cast<std::size_t>(i)] = builder.output(i);
    }
  } catch (const Error& error) {
    made.node_end = state.graph.node_limit();
    made.value_end = state.graph.value_limit();
    state.roll_back(made);
    // Shape inference names the node itself.
    if (error.message().starts_with("node '")) throw;
    throw error.in_context(where);
  } catch (...) {
    made.node_end = state.graph.node_limit();
    made.value_end = state.graph.value_limit();
    state.roll_back(made);
    throw;
  }
  made.node_end = state.graph.node_limit();
  made.value_end = state.graph.value_limit();
  state.node_names.insert(node.name);
  state.made.push_back(made);
  state.nodes.push_back(std::move(node));
  return state.nodes.back().outputs;
}

void Network::truncate(int num_nodes) {
  State& state = *state_;
  require(num_nodes >= 0 && num_nodes <= static_cast<int>(state.nodes.size()), Code::invalid_argument,
          "the network has {} nodes, so {} of them cannot be kept", state.nodes.size(), num_nodes);
  while (static_cast<int>(state.nodes.size()) > num_nodes) {
    state.roll_back(state.made.back());
    state.node_names.erase(state.nodes.back().name);
    state.nodes.pop_back();
    state.made.pop_back();
  }
  std::erase_if(state.outputs, [&](const auto& output) { return !state.has(output.first); });
}

int Network::num_nodes() const { return static_cast<int>(state_->nodes.size()); }

const NetworkNode& Network::node(int index) const {
  require(index >= 0 && index < num_nodes(), Code::invalid_argument, "node {} does not exist; the network has {}",
          index, num_nodes());
  return state_->nodes[static_cast<std::size_t>(index)];
}

std::vector<std::int32_t> Network::inputs() const { return state_->graph.inputs(); }

std::vector<std::int32_t> Network::outputs() const {
  std::vector<std::int32_t> ids;
  for (const auto& [id, name] : state_->outputs) ids.push_back(id);
  return ids;
}

TensorInfo Network::value(std::int32_t id) const {
  state_->need(id);
  const Value& value = state_->graph.value(id);
  TensorInfo info;
  info.name = value.name;
  info.dtype = value.type.dtype;
  for (const Dim& dim : value.type.dims) {
    info.dims.push_back(dim.is_constant() ? dim.constant() : -1);
    info.dim_names.push_back(dim.to_string());
  }
  return info;
}

std::optional<HostTensor> Network::constant(std::int32_t id) const {
  state_->need(id);
  const Tensor* tensor = state_->graph.constant(id);
  if (tensor == nullptr) return std::nullopt;
  return to_host(*tensor);
}

std::optional<std::vector<std::string>> Network::known_elements(std::int32_t id) const {
  state_->need(id);
  const Value& value = state_->graph.value(id);
  std::vector<std::string> elements;
  if (value.integers) {
    for (const Dim& dim : *value.integers) elements.push_back(dim.to_string());
    return elements;
  }
  if (!value.constant || value.constant->num_elements() > kMaxFoldedElements || !is_integer(value.type.dtype)) {
    return std::nullopt;
  }
  for (const std::int64_t element : value.constant->to_int64()) elements.push_back(std::to_string(element));
  return elements;
}

std::optional<std::int32_t> Network::find_value(std::string_view name) const { return state_->graph.find_value(name); }
bool Network::has_value(std::int32_t id) const { return state_->has(id); }

void Network::set_value_name(std::int32_t id, const std::string& name) {
  state_->need(id);
  const std::optional<ValueId> holder = state_->graph.find_value(name);
  require(!name.empty() && (!holder || *holder == id), Code::invalid_argument, "a value cannot be called '{}': {}",
          name, name.empty() ? "it needs a name" : "another one has this name");
  state_->graph.rename(id, name);
}

void Network::set_constant(std::int32_t id, const HostTensor& tensor) {
  state_->need(id);
  Value& value = state_->graph.value(id);
  require(value.constant.has_value(), Code::invalid_argument, "value '{}' is no constant", value.name);
  Tensor replacement = to_tensor(tensor);
  require(replacement.type() == value.type, Code::invalid_argument, "constant '{}' is {}, but {} was given", value.name,
          to_string(value.type), to_string(replacement.type()));
  value.constant = std::move(replacement);
}

void Network::mark_output(std::int32_t id, const std::string& name) {
  state_->need(id);
  const auto found = std::find_if(state_->outputs.begin(), state_->outputs.end(),
                                  [&](const auto& output) { return output.first == id; });
  if (found != state_->outputs.end()) {
    found->second = name;
  } else {
    state_->outputs.emplace_back(id, name);
  }
}

void Network::unmark_output(std::int32_t id) {
  const auto removed = std::erase_if(state_->outputs, [&](const auto& output) { return output.first == id; });
  require(removed > 0, Code::invalid_argument, "value {} is not marked as an output", id);
}

// --- From models -----------------------------------------------------------------------------------------------------

namespace {

ImportOptions keep_all(bool external_data) {
  ImportOptions options;
  options.keep_nodes = true;
  options.external_data = external_data;
  return options;
}

/// "node 'conv1' (Conv)" -> conv1, Conv
void split_where(ModelProblem& problem) {
  const std::string& where = problem.where;
  const std::size_t type = where.rfind("' (");
  if (!where.starts_with("node '") || type == std::string::npos || !where.ends_with(")")) return;
  problem.node = where.substr(6, type - 6);
  problem.op_type = where.substr(type + 3, where.size() - type - 4);
}

}  // namespace

Network NetworkAccess::from_model(ImportedModel model, std::vector<ModelProblem>& problems,
                                  std::vector<std::string>* warnings) {
  Network network;
  Network::State& state = *network.state_;
  state.graph = std::move(model.graph);
  for (std::size_t i = 0; i < state.graph.outputs().size(); ++i) {
    state.outputs.emplace_back(state.graph.outputs()[i], state.graph.output_names()[i]);
  }
  state.graph.set_outputs({});
  for (ImportedNode& imported : model.nodes) {
    NetworkNode node;
    node.name = std::move(imported.name);
    node.op_type = std::move(imported.op_type);
    node.domain = std::move(imported.domain);
    node.opset = imported.opset;
    node.model_index = imported.index;
    node.inputs = std::move(imported.inputs);
    node.outputs = std::move(imported.outputs);
    node.subgraphs = std::move(imported.subgraphs);
    for (const auto& [name, value] : imported.attributes.entries()) node.attributes[name] = from_attribute(value);
    state.node_names.insert(node.name);
    state.nodes.push_back(std::move(node));
    state.made.push_back({imported.first_node, imported.node_end, imported.first_value, imported.value_end});
  }
  state.producer = std::move(model.producer);
  state.model_hash = std::move(model.hash);
  state.metadata = std::move(model.metadata);
  problems.clear();
  state.supported.assign(static_cast<std::size_t>(model.num_main_nodes), true);
  for (ImportProblem& found : model.problems) {
    if (found.node_index >= 0) state.supported[static_cast<std::size_t>(found.node_index)] = false;
    ModelProblem problem;
    problem.where = std::move(found.node);
    problem.node_index = found.node_index;
    problem.code = found.code;
    problem.message = std::move(found.message);
    split_where(problem);
    problems.push_back(std::move(problem));
  }
  if (warnings != nullptr) *warnings = std::move(model.warnings);
  return network;
}

std::vector<bool> Network::model_nodes_supported() const { return state_->supported; }

Network Network::from_onnx(std::span<const std::byte> bytes, const std::string& path,
                           std::vector<ModelProblem>& problems, std::vector<std::string>* warnings) {
  return NetworkAccess::from_model(check_onnx(bytes, path, keep_all(!path.empty())), problems, warnings);
}

Network Network::from_onnx(const std::string& path, std::vector<ModelProblem>& problems,
                           std::vector<std::string>* warnings) {
  return NetworkAccess::from_model(check_onnx(path, keep_all(true)), problems, warnings);
}

bool supports_operator(std::string_view op_type, std::string_view domain) {
  return find_imported_op(domain == "ai.onnx" ? "" : domain, op_type) != nullptr;
}

// --- For the inside --------------------------------------------------------------------------------------------------

Network NetworkAccess::from_graph(Graph graph) {
  Network network;
  for (std::size_t i = 0; i < graph.outputs().size(); ++i) {
    network.state_->outputs.emplace_back(graph.outputs()[i], graph.output_names()[i]);
  }
  graph.set_outputs({});
  network.state_->graph = std::move(graph);
  return network;
}

Graph NetworkAccess::graph(const Network& network) {
  const Network::State& state = *network.state_;
  require(!state.outputs.empty(), Code::invalid_argument, "the network has no outputs; mark at least one value");
  Graph graph = state.graph;
  std::vector<ValueId> ids;
  std::vector<std::string> names;
  for (const auto& [id, name] : state.outputs) {
    ids.push_back(id);
    names.push_back(name.empty() ? graph.value(id).name : name);
    require(std::count(names.begin(), names.end(), names.back()) == 1, Code::invalid_argument,
            "two outputs are called '{}'", names.back());
  }
  graph.set_outputs(std::move(ids), std::move(names));
  graph.remove_dead();
  graph.compact();
  return graph;
}

const std::string& NetworkAccess::producer(const Network& network) { return network.state_->producer; }
const std::string& NetworkAccess::model_hash(const Network& network) { return network.state_->model_hash; }
const std::map<std::string, std::string>& NetworkAccess::metadata(const Network& network) {
  return network.state_->metadata;
}

}  // namespace tenfold
