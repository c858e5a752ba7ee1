// Products (Conv, MatMul) with constant weights round their input to bfloat16 where the build allows it, sum in
// float32, and can store what they make in either type. Operators that only move elements, and maxima, give what they
// get. So values connected by such operators are one set, which is stored as bfloat16 as a whole or not at all.
//
// What it costs in accuracy: an input of a product is rounded once instead of never or once, to the same numbers.
// Operands that a product adds (residuals) are rounded to 8 bits where they were not before.
#include "passes/bfloat16_values.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "ops/conv.hpp"
#include "ops/matmul.hpp"
#include "passes/match.hpp"

namespace tenfold {
namespace {

/// Their first input and their results have one type.
const std::set<std::string_view> kMovers = {"DepthToSpace", "Expand", "MaxPool", "Reshape",   "Resize", "Slice",
                                            "SpaceToDepth", "Split",  "Squeeze", "Transpose", "Tile",   "Unsqueeze"};

/// Fewer rows leave a tile of the matrix unit empty, and a shallower product more than a quarter of one of 32 numbers
/// of depth. A window of 3 x 3 pixels of an image is just deep enough.
constexpr std::int64_t kFewestRows = 16, kShallowest = 24;

class Storing {
 public:
  Storing(Graph& graph, const HasKernel& has_kernel) : graph_(graph), has_kernel_(has_kernel) {
    const auto values = static_cast<std::size_t>(graph.value_limit());
    parent_.resize(values);
    std::iota(parent_.begin(), parent_.end(), 0);
    stays_.resize(values);
    has_product_.resize(values);
  }

  int run() {
    const std::vector<NodeId> order = graph_.order();
    for (const NodeId id : order) look_at(id);
    for (ValueId id = 0; id < static_cast<ValueId>(parent_.size()); ++id) {
      if (!graph_.is_alive_value(id)) continue;
      const Value& value = graph_.value(id);
      if (value.type.dtype != DType::float32 || value.producer == kNoNode || graph_.is_output(id)) mark(stays_, id);
    }
    int changes = 0;
    for (const NodeId id : order) {
      if (products_.contains(id)) retype(id);
      graph_.infer_types(id);
      for (const ValueId output : graph_.node(id).outputs) changes += output != kNoValue && is_narrow(output) ? 1 : 0;
    }
    if (changes > 0) graph_.remove_dead();
    return changes;
  }

 private:
  ValueId root(ValueId value) {
    ValueId& parent = parent_[static_cast<std::size_t>(value)];
    if (parent != value) parent = root(parent);
    return parent;
  }
  void join(ValueId a, ValueId b) {
    const ValueId from = root(a), to = root(b);
    if (from == to) return;
    parent_[static_cast<std::size_t>(from)] = to;
    for (std::vector<bool>* marks : {&stays_, &has_product_}) {
      if ((*marks)[static_cast<std::size_t>(from)]) mark(*marks, to);
    }
  }
  /// Marks the whole set.
  void mark(std::vector<bool>& marks, ValueId value) { marks[static_cast<std::size_t>(root(value))] = true; }
  bool is_narrow(ValueId value) {
    if (value >= static_cast<ValueId>(parent_.size())) return false;  // a constant that was made here
    const auto set = static_cast<std::size_t>(root(value));
    return has_product_[set] && !stays_[set];
  }

  /// The inputs that may become bfloat16, and whether output 0 may by itself; all outputs of movers may, together with
  /// these inputs.
  struct Role {
    std::vector<std::size_t> inputs;
    bool is_product = false;
  };

  void look_at(NodeId id) {
    const Node& node = graph_.node(id);
    std::optional<Role> role = role_of(node);
    if (role && !can_be_run(node, *role)) role.reset();
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId input = node.inputs[i];
      if (input == kNoValue) continue;
      const bool may_change = role && std::find(role->inputs.begin(), role->inputs.end(), i) != role->inputs.end();
      if (!may_change) {
        mark(stays_, input);
      } else if (role->is_product) {
        mark(has_product_, input);
      } else {
        join(input, node.outputs[0]);
      }
    }
    for (const ValueId output : node.outputs) {
      if (output == kNoValue) continue;
      if (!role) {
        mark(stays_, output);
      } else if (role->is_product) {
        mark(has_product_, output);
      } else {
        join(output, node.outputs[0]);
      }
    }
    if (role && role->is_product) products_.insert(id);
  }

  std::optional<Role> role_of(const Node& node) const {
    if (!node.blocks.empty()) return std::nullopt;
    const auto* conv = op_cast<Conv>(&node);
    const auto* matmul = op_cast<MatMul>(&node);
    if (conv != nullptr || matmul != nullptr) {
      const Epilogue& epilogue = conv != nullptr ? conv->epilogue() : matmul->epilogue();
      return product_role(node, epilogue, conv != nullptr ? Conv::kFirstEpilogueInput : MatMul::kFirstEpilogueInput);
    }
    Role role;
    if (is(node, "Concat")) {
      role.inputs.resize(node.inputs.size());
      std::iota(role.inputs.begin(), role.inputs.end(), std::size_t{0});
      return role;
    }
    if (!kMovers.contains(node.op->type())) return std::nullopt;
    // Positions of maxima have a type of their own.
    if (!is(node, "Split") &&
        std::any_of(node.outputs.begin() + 1, node.outputs.end(), [](ValueId output) { return output != kNoValue; })) {
      return std::nullopt;
    }
    role.inputs = {0};
    return role;
  }

  std::optional<Role> product_role(const Node& node, const Epilogue& epilogue, int first_operand) const {
    const TensorType& x = graph_.value(node.inputs[0]).type;
    const TensorType& y = graph_.value(node.outputs[0]).type;
    const Tensor* weights = graph_.constant(node.inputs[1]);
    if (weights == nullptr || x.dtype != DType::float32 || weights->dtype() != DType::float32) return std::nullopt;
    if (epilogue.output != DType::undefined) return std::nullopt;
    std::optional<std::int64_t> rows = 1;
    for (std::size_t i = 0; i + 1 < y.dims.size() && rows; ++i) {
      rows = y.dims[i].is_constant() ? std::optional(*rows * y.dims[i].constant()) : std::nullopt;
    }
    if (y.dims.empty() || (rows && *rows < kFewestRows)) return std::nullopt;
    if (!y.dims.back().is_constant() || y.dims.back().constant() <= 0) return std::nullopt;
    if (weights->num_elements() / y.dims.back().constant() < kShallowest) return std::nullopt;
    Role role{{0}, true};
    for (std::size_t i = static_cast<std::size_t>(first_operand); i < node.inputs.size(); ++i) {
      const ValueId operand = node.inputs[i];
      if (operand != kNoValue && graph_.value(operand).type == y) role.inputs.push_back(i);
    }
    return role;
  }

  /// Is there a kernel if all that may become bfloat16 is?
  bool can_be_run(const Node& node, const Role& role) const {
    std::vector<TensorType> inputs, outputs;
    for (const ValueId input : node.inputs)
      inputs.push_back(input == kNoValue ? TensorType{} : graph_.value(input).type);
    for (const ValueId output : node.outputs)
      outputs.push_back(output == kNoValue ? TensorType{} : graph_.value(output).type);
    const auto narrow = [](TensorType& type) {
      if (type.dtype == DType::float32) type.dtype = DType::bfloat16;
    };
    for (const std::size_t i : role.inputs) narrow(inputs[i]);
    if (role.is_product) narrow(inputs[1]);
    std::for_each(outputs.begin(), outputs.end(), narrow);
    return has_kernel_(node, inputs, outputs);
  }

  /// A product whose input or result is narrow now. Its other operands have their types already.
  void retype(NodeId id) {
    const ValueId x = graph_.node(id).inputs[0];
    const bool reads = is_narrow(x), stores = is_narrow(graph_.node(id).outputs[0]);
    if (reads) {
      const ValueId weights = narrow_constant(graph_.node(id).inputs[1]);
      graph_.node(id).inputs[1] = weights;
    }
    if (reads == stores) return;
    const DType result = stores ? DType::bfloat16 : DType::float32;
    graph_.node(id).op = with_attributes(*graph_.node(id).op, {{"to", std::string(to_string(result))}});
  }

  ValueId narrow_constant(ValueId id) {
    const auto [entry, is_new] = constants_.try_emplace(id, kNoValue);
    if (is_new) {
      const Tensor& tensor = *graph_.constant(id);
      Tensor narrow(DType::bfloat16, tensor.shape());
      const std::span<const float> from = tensor.as<float>();
      std::transform(from.begin(), from.end(), narrow.as_mutable<BFloat16>().begin(),
                     [](float x) { return BFloat16(x); });
      entry->second = graph_.add_constant(graph_.value(id).name + "/bfloat16", std::move(narrow));
    }
    return entry->second;
  }

  Graph& graph_;
  const HasKernel& has_kernel_;
  std::vector<ValueId> parent_;    ///< of each value: another one of its set, or itself, which then is the set's root
  std::vector<bool> stays_;        ///< of a root: a value of the set must stay as it is
  std::vector<bool> has_product_;  ///< of a root: a product reads or makes one
  std::set<NodeId> products_;
  std::map<ValueId, ValueId> constants_;
};

}  // namespace

int store_as_bfloat16(Graph& graph, const HasKernel& has_kernel) { return Storing(graph, has_kernel).run(); }

}  // namespace tenfold
