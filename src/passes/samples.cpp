// Which operators treat samples alone, and how a section is cut out.
#include "passes/samples.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "ops/attention.hpp"
#include "ops/conv.hpp"
#include "ops/conv_chain.hpp"
#include "ops/matmul.hpp"
#include "ops/norm.hpp"
#include "ops/pad.hpp"
#include "ops/pointwise_form.hpp"
#include "ops/reduce.hpp"
#include "ops/reshape.hpp"
#include "ops/resize.hpp"
#include "ops/samples.hpp"
#include "ops/slice.hpp"
#include "ops/transpose.hpp"
#include "passes/passes.hpp"

namespace tenfold {
namespace {

/// One rule an operator. Each sees operands that are constant or have the batch as axis 0.
class SampleRules {
 public:
  SampleRules(const Graph& graph, const Dim& batch) : graph_(graph), batch_(batch) {
    for (const ValueId id : graph.inputs()) {
      for (const Dim& dim : graph.value(id).type.dims) dim.collect_symbols(known_symbols_);
    }
  }

  bool hold(const Node& node) const {
    if (!node.blocks.empty() || !node.op->is_pure() || node.op->sets_output_shape()) return false;
    bool reads_samples = false;
    for (const ValueId id : node.inputs) {
      if (id == kNoValue || graph_.constant(id) != nullptr) continue;
      if (!is_samples(id)) return false;
      reads_samples = true;
    }
    const bool writes_samples = std::all_of(node.outputs.begin(), node.outputs.end(),
                                            [&](ValueId id) { return id == kNoValue || is_samples(id); });
    return reads_samples && writes_samples && is_listed(node);
  }

 private:
  const TensorType& type(ValueId id) const { return graph_.value(id).type; }
  /// [batch, ...], computed, of sizes that the inputs decide.
  bool is_samples(ValueId id) const {
    const Value& value = graph_.value(id);
    if (value.constant || value.integers || value.type.rank() == 0 || value.type.dims[0] != batch_) return false;
    std::set<std::string> symbols;
    for (const Dim& dim : value.type.dims) dim.collect_symbols(symbols);
    return std::includes(known_symbols_.begin(), known_symbols_.end(), symbols.begin(), symbols.end());
  }
  /// Broadcast to `rank` axes: the samples line up, or there is nothing along axis 0.
  bool broadcasts(ValueId id, int rank) const {
    if (id == kNoValue) return true;
    const TensorType& t = type(id);
    if (graph_.constant(id) == nullptr) return t.rank() == rank;
    return t.rank() < rank || (t.rank() == rank && t.dims[0] == Dim(1));
  }
  bool broadcast(const Node& node, std::size_t first, int rank) const {
    return std::all_of(node.inputs.begin() + static_cast<std::ptrdiff_t>(std::min(first, node.inputs.size())),
                       node.inputs.end(), [&](ValueId id) { return broadcasts(id, rank); });
  }
  bool are_constant(const Node& node, std::size_t first, std::size_t last) const {
    for (std::size_t i = first; i < std::min(last, node.inputs.size()); ++i) {
      if (node.inputs[i] != kNoValue && graph_.constant(node.inputs[i]) == nullptr) return false;
    }
    return true;
  }
  /// The first operand is samples and all others are constant.
  bool is_unary(const Node& node) const {
    return graph_.constant(node.inputs[0]) == nullptr && are_constant(node, 1, node.inputs.size());
  }
  /// The attribute names another axis than that of the samples.
  static bool has_inner_axis(const Node& node, int rank, std::int64_t otherwise) {
    const std::int64_t axis = node.op->attributes().get_int("axis", otherwise);
    return (axis < 0 ? axis + rank : axis) > 0;
  }

  bool is_listed(const Node& node) const {
    const std::string_view op = node.op->type();
    const int rank = type(node.inputs[0] != kNoValue ? node.inputs[0] : node.outputs[0]).rank();
    const int result_rank = type(node.outputs[0]).rank();
    if (op_cast<Conv>(&node) != nullptr) return is_product(node, Conv::kFirstEpilogueInput, result_rank);
    if (op_cast<ConvTranspose>(&node) != nullptr) {
      return is_product(node, ConvTranspose::kFirstEpilogueInput, result_rank);
    }
    if (const auto* chain = op_cast<ConvChain>(&node)) {
      return is_product(node, static_cast<std::size_t>(chain->first_epilogue_input()), result_rank);
    }
    if (const auto* product = op_cast<MatMul>(&node)) return is_matmul(node, *product, rank, result_rank);
    if (op_cast<FusedAttention>(&node) != nullptr) return is_attention(node);
    if (is_elementwise(node)) return broadcast(node, 0, result_rank);
    if (op == "Concat") {
      return has_inner_axis(node, rank, 0) && std::none_of(node.inputs.begin(), node.inputs.end(),
                                                           [&](ValueId id) { return graph_.constant(id) != nullptr; });
    }
    if (op == "LayerNormalization" || op == "RMSNormalization") {
      return is_unary(node) && has_inner_axis(node, rank, -1) && broadcast(node, 1, rank);
    }
    if (!is_unary(node)) return false;
    if (op == "Softmax" || op == "LogSoftmax" || op == "LpNormalization") return has_inner_axis(node, rank, -1);
    if (op == "ArgMax" || op == "ArgMin" || op == "Split") return has_inner_axis(node, rank, 0);
    if (op == "QuantizeLinear" || op == "DequantizeLinear") {
      return has_inner_axis(node, rank, 1) || type(node.inputs[1]).num_elements() == Dim(1);
    }
    if (op == "MaxPool") return node.outputs.size() == 1 || node.outputs[1] == kNoValue;  // positions count the batch
    if (const auto* reduce = op_cast<Reduce>(&node)) {
      return !reduce->axes().empty() && !reduce->reduced_axes(rank)[0];
    }
    if (const auto* transpose = op_cast<Transpose>(&node)) {
      return !transpose->permutation().empty() && transpose->permutation()[0] == 0;
    }
    if (const auto* reshape = op_cast<Reshape>(&node)) return reshape->dims() && node.inputs.size() == 1;
    if (const auto* slice = op_cast<Slice>(&node)) return is_inner_slice(*slice, rank);
    if (const auto* pad = op_cast<Pad>(&node)) {
      return pad->pads() && (*pad->pads())[0] == 0 && (*pad->pads())[static_cast<std::size_t>(rank)] == 0;
    }
    if (const auto* resize = op_cast<Resize>(&node)) return is_inner_resize(node, resize->spec());
    static const std::set<std::string_view> kOthers{
        "AveragePool", "BatchNormalization",    "Cast", "DepthToSpace", "GroupNormalization",
        "Identity",    "InstanceNormalization", "LRN",  "LpPool",       "SpaceToDepth"};
    return kOthers.contains(op);
  }

  /// A convolution: samples, constant weights, an epilogue whose operands broadcast to the result.
  bool is_product(const Node& node, std::size_t first_epilogue_input, int result_rank) const {
    return graph_.constant(node.inputs[0]) == nullptr && are_constant(node, 1, first_epilogue_input) &&
           broadcast(node, first_epilogue_input, result_rank);
  }
  bool is_matmul(const Node& node, const MatMul& product, int rank, int result_rank) const {
    const bool has_batch = rank > 2 || (rank == 2 && !product.trans_a());
    if (graph_.constant(node.inputs[0]) != nullptr || !has_batch) return false;
    const TensorType& right = type(node.inputs[1]);
    const bool is_constant = graph_.constant(node.inputs[1]) != nullptr;
    const bool fits =
        is_constant ? right.rank() <= 2 || broadcasts(node.inputs[1], rank) : right.rank() == rank && rank > 2;
    return fits && broadcast(node, MatMul::kFirstEpilogueInput, result_rank);
  }
  bool is_attention(const Node& node) const {
    for (std::size_t i = 0; i < 3; ++i) {
      if (graph_.constant(node.inputs[i]) != nullptr) return false;
    }
    const int mask_rank = 4;
    return broadcast(node, FusedAttention::kMask, mask_rank);
  }
  bool is_elementwise(const Node& node) const {
    std::vector<TensorType> types;
    for (const ValueId id : node.inputs) types.push_back(id == kNoValue ? TensorType{} : type(id));
    return node.outputs.size() == 1 && pointwise_form(*node.op, types, type(node.outputs[0])).has_value();
  }
  static bool is_inner_slice(const Slice& slice, int rank) {
    return slice.ranges() &&
           std::all_of(slice.ranges()->begin(), slice.ranges()->end(), [&](const Slice::Range& range) {
             return (range.axis < 0 ? range.axis + rank : range.axis) > 0;
           });
  }
  static bool is_inner_resize(const Node& node, const Resize::Spec& spec) {
    const bool has_inputs =
        std::any_of(node.inputs.begin() + 1, node.inputs.end(), [](ValueId id) { return id != kNoValue; });
    if (has_inputs || !spec.roi.empty()) return false;
    if (!spec.scales.empty()) return spec.scales[0] == 1.0;
    return !spec.sizes.empty() && spec.sizes[0] == -1;
  }

  const Graph& graph_;
  Dim batch_;
  std::set<std::string> known_symbols_;
};

/// A Reshape says its result's whole shape: that of one sample, or of a batch.
OpPtr with_samples(const OpPtr& op, const Dim& count) {
  const auto* reshape = op_cast<Reshape>(op);
  if (reshape == nullptr || !reshape->dims() || reshape->dims()->empty()) return op;
  std::vector<Dim> dims = *reshape->dims();
  dims[0] = count;
  return std::make_shared<const Reshape>(std::move(dims));
}

bool is_free(const Node& node) { return node.op->type() == "Reshape" || node.op->type() == "Identity"; }

/// Copies nodes from one graph to another. Values keep their names where these are free.
class NodeCopier {
 public:
  NodeCopier(const Graph& from, Graph& to) : from_(from), to_(to) {}

  void map(ValueId from, ValueId to) { ids_[from] = to; }
  ValueId mapped(ValueId id) {
    if (id == kNoValue) return kNoValue;
    const auto found = ids_.find(id);
    if (found != ids_.end()) return found->second;
    const Value& value = from_.value(id);
    ensure(value.constant.has_value(), "value '{}' is read, but was not copied", value.name);
    return ids_[id] = to_.add_constant(value.name, *value.constant);
  }
  void copy(const Node& node, const Dim& count) {
    std::vector<ValueId> inputs;
    for (const ValueId input : node.inputs) inputs.push_back(mapped(input));
    const NodeId id = to_.add_node(with_samples(node.op, count), std::move(inputs),
                                   static_cast<int>(node.outputs.size()), node.name, node.origins);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) {
        to_.drop_output(id, static_cast<int>(i));
      } else {
        ids_[node.outputs[i]] = to_.node(id).outputs[i];
      }
    }
  }
  void take_names(const Node& node) {
    for (const ValueId output : node.outputs) {
      if (output == kNoValue) continue;
      const std::string& name = from_.value(output).name;
      if (!to_.find_value(name)) to_.rename(ids_.at(output), name);
    }
  }

 private:
  const Graph& from_;
  Graph& to_;
  std::map<ValueId, ValueId> ids_;
};

/// A pass of its own: everything that can, runs sample by sample.
int make_largest_sections(Graph& graph) {
  int total = 0;
  int count = 0;
  do {
    count = make_section(graph, per_sample_nodes(graph));
    total += count;
  } while (count > 0);
  return total;
}

}  // namespace

const Pass kSamplesPass{
    .name = "sample_sections",
    .whole = make_largest_sections,
    .reason =
        "Only where the builder finds that it pays: it makes the sections itself, behind all passes but conv_chain."};

std::vector<NodeId> per_sample_nodes(const Graph& graph) {
  std::vector<NodeId> result;
  if (graph.inputs().empty()) return result;
  const TensorType& first = graph.value(graph.inputs()[0]).type;
  if (first.rank() == 0 || first.dims[0] == Dim(1)) return result;
  const SampleRules rules(graph, first.dims[0]);
  for (const NodeId id : graph.order()) {
    if (rules.hold(graph.node(id))) result.push_back(id);
  }
  return result;
}

int make_section(Graph& graph, std::span<const NodeId> nodes) {
  const std::set<NodeId> wanted(nodes.begin(), nodes.end());
  // A node that reads what somebody outside made of the section's results would have to run after and before it.
  std::vector<NodeId> inside;
  std::vector<bool> is_inside(static_cast<std::size_t>(graph.value_limit()), false);  // by value: made in the section
  std::vector<bool> is_behind(static_cast<std::size_t>(graph.value_limit()), false);  // made of its results, outside
  int num_computing = 0;
  for (const NodeId id : graph.order()) {
    const Node& node = graph.node(id);
    const auto reads = [&](const std::vector<bool>& values) {
      return std::any_of(node.inputs.begin(), node.inputs.end(),
                         [&](ValueId input) { return input != kNoValue && values[static_cast<std::size_t>(input)]; });
    };
    const bool behind = reads(is_behind);
    const bool taken = wanted.contains(id) && !behind;
    if (taken) {
      inside.push_back(id);
      num_computing += is_free(node) ? 0 : 1;
    }
    for (const ValueId output : node.outputs) {
      if (output == kNoValue) continue;
      is_inside[static_cast<std::size_t>(output)] = taken;
      is_behind[static_cast<std::size_t>(output)] = !taken && (behind || reads(is_inside));
    }
  }
  if (num_computing < 2) return 0;

  const std::vector<std::vector<NodeId>> readers = graph.readers();
  const std::set<NodeId> members(inside.begin(), inside.end());
  Graph block;
  block.name = "sample";
  block.scope = graph.scope;
  NodeCopier copier(graph, block);
  std::vector<ValueId> inputs, results;
  std::vector<std::string> origins;
  for (const NodeId id : inside) {
    for (const ValueId input : graph.node(id).inputs) {
      if (input == kNoValue || graph.constant(input) != nullptr || is_inside[static_cast<std::size_t>(input)]) continue;
      if (std::find(inputs.begin(), inputs.end(), input) != inputs.end()) continue;
      inputs.push_back(input);
      TensorType sample = graph.value(input).type;
      sample.dims[0] = Dim(1);
      copier.map(input, block.add_input(graph.value(input).name, std::move(sample)));
    }
  }
  std::vector<ValueId> block_results;
  for (const NodeId id : inside) {
    const Node& node = graph.node(id);
    copier.copy(node, Dim(1));
    origins.insert(origins.end(), node.origins.begin(), node.origins.end());
    for (const ValueId output : node.outputs) {
      if (output == kNoValue) continue;
      const std::vector<NodeId>& users = readers[static_cast<std::size_t>(output)];
      const bool leaves = graph.is_output(output) ||
                          std::any_of(users.begin(), users.end(), [&](NodeId user) { return !members.contains(user); });
      if (!leaves) continue;
      results.push_back(output);
      block_results.push_back(copier.mapped(output));
    }
  }
  if (results.empty()) return 0;
  for (const NodeId id : inside) copier.take_names(graph.node(id));
  block.set_outputs(block_results);
  try {
    block.infer_types();
  } catch (const Error&) {
    return 0;  // a rule that cannot do with one sample
  }
  for (const NodeId id : inside) {
    for (const ValueId output : graph.node(id).outputs) {
      if (output == kNoValue) continue;
      TensorType sample = graph.value(output).type;
      sample.dims[0] = Dim(1);
      if (block.value(copier.mapped(output)).type != sample) return 0;
    }
  }

  std::vector<std::string> names;
  names.reserve(results.size());
  for (const ValueId result : results) names.push_back(graph.value(result).name);
  const NodeId section =
      graph.add_node(std::make_shared<const Samples>(), std::move(inputs), static_cast<int>(results.size()),
                     graph.node(inside.front()).name + "/samples", std::move(origins), {std::move(block)});
  graph.infer_types(section);
  for (std::size_t i = 0; i < results.size(); ++i) graph.replace_uses(results[i], graph.node(section).outputs[i]);
  graph.remove_dead();
  for (std::size_t i = 0; i < results.size(); ++i) graph.rename(graph.node(section).outputs[i], names[i]);
  return static_cast<int>(inside.size());
}

void dissolve_sections(Graph& graph) {
  for (const NodeId id : graph.order()) {
    if (op_cast<Samples>(&graph.node(id)) == nullptr) continue;
    const Node section = graph.node(id);
    const Graph& block = section.blocks[0];
    const Dim count = graph.value(section.inputs[0]).type.dims[0];
    NodeCopier copier(block, graph);
    for (std::size_t i = 0; i < section.inputs.size(); ++i) copier.map(block.inputs()[i], section.inputs[i]);
    const std::vector<NodeId> order = block.order();
    for (const NodeId inner : order) copier.copy(block.node(inner), count);
    for (std::size_t i = 0; i < section.outputs.size(); ++i) {
      graph.replace_uses(section.outputs[i], copier.mapped(block.outputs()[i]));
    }
    graph.remove_node(id);
    for (const NodeId inner : order) copier.take_names(block.node(inner));
    graph.infer_types();  // the next section asks for the types of its operands
  }
  graph.compact();
}

}  // namespace tenfold
