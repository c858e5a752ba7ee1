// The portable section: u64 size of the records, zeros to 64, the records, zeros to 64, the constants' bytes.
// Values are numbered: inputs, then constants, then the nodes' outputs in order.
#include <algorithm>
#include <cstring>
#include <set>

#include "base/checked.hpp"
#include "base/error.hpp"
#include "engine/bytes.hpp"
#include "engine/codec.hpp"
#include "engine/limits.hpp"
#include "ops/registry.hpp"

namespace tenfold {
namespace {

constexpr std::size_t kAlignment = 64;

class GraphEncoder {
 public:
  std::vector<std::byte> encode(const Graph& whole) {
    graph(whole, 0);
    const std::vector<std::byte> records = out_.finish();
    const std::uint64_t size = records.size();
    std::vector<std::byte> section(kAlignment, std::byte{0});
    std::memcpy(section.data(), &size, sizeof size);
    section.insert(section.end(), records.begin(), records.end());
    section.resize(checked_align_up(section.size(), kAlignment).value(), std::byte{0});
    section.insert(section.end(), data_.begin(), data_.end());
    return section;
  }

 private:
  void type(const TensorType& value) {
    out_.u8(static_cast<std::uint8_t>(value.dtype));
    out_.dims(value.dims);
  }

  void graph(const Graph& source, int depth) {
    require(depth <= limits::kMaxBlockDepth, Code::unsupported, "an engine holds at most {} blocks inside each other",
            limits::kMaxBlockDepth);
    std::vector<std::int32_t> number(static_cast<std::size_t>(source.value_limit()), -1);
    std::int32_t next = 0;
    const auto index = [&](ValueId id) { return id == kNoValue ? -1 : number[static_cast<std::size_t>(id)]; };

    out_.string(source.name);
    out_.string(source.scope);
    out_.count(source.symbol_bounds.size(), limits::kMaxValues, "symbols");
    for (const auto& [symbol, bound] : source.symbol_bounds) {
      out_.string(symbol);
      out_.dim(bound);
    }
    out_.count(source.inputs().size(), limits::kMaxOperands, "inputs of a graph");
    for (const ValueId id : source.inputs()) {
      const Value& value = source.value(id);
      number[static_cast<std::size_t>(id)] = next++;
      out_.string(value.name);
      type(value.type);
      out_.u8(value.integers ? 1 : 0);
      if (!value.integers) continue;
      out_.count(value.integers->size(), limits::kMaxValues, "known elements");
      for (const Dim& element : *value.integers) out_.dim(element);
    }
    std::vector<ValueId> constants;
    for (ValueId id = 0; id < source.value_limit(); ++id) {
      if (source.is_alive_value(id) && source.value(id).constant) constants.push_back(id);
    }
    out_.count(constants.size(), limits::kMaxValues, "constants");
    for (const ValueId id : constants) {
      number[static_cast<std::size_t>(id)] = next++;
      out_.string(source.value(id).name);
      type(source.value(id).type);
      out_.u64(place(*source.value(id).constant));
    }
    const std::vector<NodeId> order = source.order();
    out_.count(order.size(), limits::kMaxSteps, "nodes");
    for (const NodeId id : order) {
      const Node& node = source.node(id);
      out_.string(node.name);
      out_.count(node.origins.size(), limits::kMaxSteps, "model nodes of a node");
      for (const std::string& origin : node.origins) out_.string(origin);
      out_.string(node.op->type());
      out_.attributes(node.op->attributes());
      out_.count(node.inputs.size(), limits::kMaxOperands, "inputs of a node");
      for (const ValueId input : node.inputs) out_.i32(index(input));
      out_.count(node.outputs.size(), limits::kMaxOperands, "outputs of a node");
      for (const ValueId output : node.outputs) {
        out_.u8(output != kNoValue ? 1 : 0);
        if (output == kNoValue) continue;
        number[static_cast<std::size_t>(output)] = next++;
        out_.string(source.value(output).name);
        type(source.value(output).type);
      }
      out_.count(node.blocks.size(), limits::kMaxBlocks, "blocks of a node");
      for (const Graph& block : node.blocks) graph(block, depth + 1);
    }
    out_.count(source.outputs().size(), limits::kMaxOperands, "outputs of a graph");
    for (std::size_t i = 0; i < source.outputs().size(); ++i) {
      out_.i32(index(source.outputs()[i]));
      out_.string(source.output_names()[i]);
    }
  }

  /// Copies of a constant share their bytes.
  std::uint64_t place(const Tensor& tensor) {
    const auto [entry, is_new] = places_.try_emplace({tensor.data(), tensor.size_bytes()}, data_.size());
    if (is_new) {
      data_.insert(data_.end(), tensor.data(), tensor.data() + tensor.size_bytes());
      data_.resize(checked_align_up(data_.size(), kAlignment).value(), std::byte{0});
    }
    return entry->second;
  }

  RecordWriter out_;
  std::vector<std::byte> data_;
  std::map<std::pair<const std::byte*, std::size_t>, std::uint64_t> places_;
};

class GraphDecoder {
 public:
  GraphDecoder(std::span<const std::byte> records, std::span<const std::byte> data,
               const std::shared_ptr<const void>& owner)
      : in_("portable", records), data_(data), owner_(owner) {}

  Graph decode() {
    Graph result = graph(0);
    in_.finish();
    return result;
  }

 private:
  TensorType type() {
    TensorType result;
    result.dtype = in_.dtype();
    result.dims = in_.dims();
    return result;
  }
  /// The name of a value that does not exist yet.
  const std::string& name(const Graph& graph) {
    const std::string& text = in_.string();
    if (text.empty() || graph.find_value(text)) in_.fail(fmt::format("value name '{}' is empty or taken", text));
    return text;
  }
  static ValueId operand(const RecordReader& in, std::int32_t index, const std::vector<ValueId>& values) {
    if (index == -1) return kNoValue;
    if (index < 0 || static_cast<std::size_t>(index) >= values.size()) {
      in.fail(fmt::format("value {} is used before it exists", index));
    }
    return values[static_cast<std::size_t>(index)];
  }

  Graph graph(int depth) {
    if (depth > limits::kMaxBlockDepth) {
      in_.fail(fmt::format("more than {} blocks inside each other", limits::kMaxBlockDepth));
    }
    Graph result;
    std::vector<ValueId> values;
    result.name = in_.string();
    result.scope = in_.string();
    const std::size_t num_symbols = in_.count(limits::kMaxValues, 8, "symbols");
    for (std::size_t i = 0; i < num_symbols; ++i) {
      const std::string& symbol = in_.string();
      result.symbol_bounds.insert_or_assign(symbol, in_.dim());
    }
    const std::size_t num_inputs = in_.count(limits::kMaxOperands, 10, "inputs of a graph");
    for (std::size_t i = 0; i < num_inputs; ++i) {
      const std::string& text = name(result);
      values.push_back(result.add_input(text, type()));
      if (!in_.flag()) continue;
      std::vector<Dim> elements(in_.count(limits::kMaxValues, 4, "known elements"));
      for (Dim& element : elements) element = in_.dim();
      result.value(values.back()).integers = std::move(elements);
    }
    const std::size_t num_constants = in_.count(limits::kMaxValues, 17, "constants");
    for (std::size_t i = 0; i < num_constants; ++i) {
      const std::string& text = name(result);
      const TensorType constant = type();
      values.push_back(result.add_constant(text, tensor(constant, in_.u64())));
    }
    const std::size_t num_nodes = in_.count(limits::kMaxSteps, 28, "nodes");
    for (std::size_t i = 0; i < num_nodes; ++i) node(result, values, depth);

    const std::size_t num_outputs = in_.count(limits::kMaxOperands, 8, "outputs of a graph");
    std::vector<ValueId> outputs;
    std::vector<std::string> names;
    for (std::size_t i = 0; i < num_outputs; ++i) {
      outputs.push_back(operand(in_, in_.i32(), values));
      if (outputs.back() == kNoValue) in_.fail("an output is missing");
      names.push_back(in_.string());
    }
    result.set_outputs(std::move(outputs), std::move(names));
    return result;
  }

  void node(Graph& graph_now, std::vector<ValueId>& values, int depth) {
    if (++num_nodes_ > limits::kMaxSteps) in_.fail(fmt::format("more than {} nodes", limits::kMaxSteps));
    const std::string& node_name = in_.string();
    std::vector<std::string> origins(in_.count(limits::kMaxSteps, 4, "model nodes of a node"));
    for (std::string& origin : origins) origin = in_.string();
    const std::string& op_type = in_.string();
    const OpPtr op = make_op(op_type, in_.attributes());
    std::vector<ValueId> inputs(in_.count(limits::kMaxOperands, 4, "inputs of a node"));
    for (ValueId& input : inputs) input = operand(in_, in_.i32(), values);

    struct Output {
      std::string name;
      TensorType type;
    };
    std::vector<std::optional<Output>> outputs(in_.count(limits::kMaxOperands, 1, "outputs of a node"));
    std::set<std::string_view> names;
    for (std::optional<Output>& output : outputs) {
      if (!in_.flag()) continue;
      const std::string& output_name = name(graph_now);
      if (!names.insert(output_name).second) in_.fail(fmt::format("value name '{}' is taken", output_name));
      output = Output{output_name, type()};
    }
    std::vector<Graph> blocks;
    const std::size_t num_blocks = in_.count(limits::kMaxBlocks, 24, "blocks of a node");
    for (std::size_t i = 0; i < num_blocks; ++i) blocks.push_back(graph(depth + 1));

    const NodeId id = graph_now.add_node(op, std::move(inputs), static_cast<int>(outputs.size()), node_name,
                                         std::move(origins), std::move(blocks));
    // First to names that no value has, because the names the node came with may stand in each other's way.
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      graph_now.rename(graph_now.node(id).outputs[i], fmt::format("\x01output {} of {}", i, id));
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (!outputs[i]) {
        graph_now.drop_output(id, static_cast<int>(i));
        continue;
      }
      const ValueId value = graph_now.node(id).outputs[i];
      graph_now.rename(value, outputs[i]->name);
      graph_now.value(value).type = outputs[i]->type;  // keeps the names of symbols that the node decides
      values.push_back(value);
    }
    graph_now.infer_types(id);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (!outputs[i]) continue;
      const TensorType& inferred = graph_now.value(graph_now.node(id).outputs[i]).type;
      if (inferred != outputs[i]->type) {
        in_.fail(fmt::format("value '{}' is stored as {}, but its node computes {}", outputs[i]->name,
                             to_string(outputs[i]->type), to_string(inferred)));
      }
    }
  }

  Tensor tensor(const TensorType& constant, std::uint64_t offset) {
    if (!constant.is_static()) in_.fail("a constant's shape is not constant");
    const Shape shape = constant.static_shape();
    const auto size = checked_mul(num_elements(shape), static_cast<std::int64_t>(size_of(constant.dtype)));
    if (!size || offset % kAlignment != 0 || !fits(offset, static_cast<std::uint64_t>(*size), data_.size())) {
      in_.fail("a constant does not lie in the section");
    }
    return {constant.dtype, shape, data_.data() + offset, owner_};
  }

  RecordReader in_;
  std::span<const std::byte> data_;
  std::shared_ptr<const void> owner_;
  std::size_t num_nodes_ = 0;
};

}  // namespace

std::vector<std::byte> encode_graph(const Graph& graph) { return GraphEncoder().encode(graph); }

Graph decode_graph(std::span<const std::byte> section, const std::shared_ptr<const void>& owner) {
  std::uint64_t size = 0;
  require(section.size() >= kAlignment, Code::incompatible_engine, "section 'portable' is too short");
  std::memcpy(&size, section.data(), sizeof size);
  const std::span<const std::byte> rest = section.subspan(kAlignment);
  const auto data_begin = checked_align_up<std::uint64_t>(size, kAlignment);
  require(data_begin && *data_begin <= rest.size(), Code::incompatible_engine,
          "section 'portable', offset 0: {} bytes of records do not fit in the section", size);
  const auto is_zero = [](std::byte b) { return b == std::byte{0}; };
  const auto padding = rest.subspan(size, *data_begin - size);
  require(std::all_of(section.begin() + sizeof size, section.begin() + kAlignment, is_zero) &&
              std::all_of(padding.begin(), padding.end(), is_zero),
          Code::incompatible_engine, "section 'portable': padding is not zero");
  try {
    return GraphDecoder(rest.first(size), rest.subspan(*data_begin), owner).decode();
  } catch (const Error& error) {
    if (error.code() == Code::incompatible_engine) throw;
    throw Error(Code::incompatible_engine, fmt::format("section 'portable': {}", error.message()));
  }
}

}  // namespace tenfold
