#include "import/node_builder.hpp"

#include <algorithm>
#include <optional>

#include "ops/interpreter.hpp"

namespace tenfold {

ValueId NodeBuilder::add(OpPtr op, std::vector<ValueId> inputs, int num_outputs, std::vector<Graph> blocks) {
  const NodeId id = graph_.add_node(std::move(op), std::move(inputs), num_outputs, label_, {label_}, std::move(blocks));
  try {
    graph_.infer_types(id);
  } catch (...) {
    graph_.remove_node(id);
    throw;
  }
  const std::vector<ValueId> made = graph_.node(id).outputs;
  if (num_outputs == 1) {
    const ValueId folded = fold(id);
    unnamed_.insert(folded);
    return folded;
  }
  unnamed_.insert(made.begin(), made.end());
  return made.empty() ? kNoValue : made.front();
}

/// A small result that is known already becomes a constant, because operators need many of their inputs as constants.
/// Returns the constant's id, or the node's own output.
ValueId NodeBuilder::fold(NodeId id) {
  const Node& node = graph_.node(id);
  const ValueId output = node.outputs.front();
  const TensorType type = graph_.value(output).type;
  if (!type.is_static() || num_elements(type.static_shape()) > kMaxFoldedElements) return output;
  // Quantised weights stay as they are: products may take the integers.
  if (node.op->type() == "DequantizeLinear" && type.rank() >= 2) return output;

  std::optional<Tensor> known;
  const std::optional<std::vector<Dim>>& integers = graph_.value(output).integers;
  if (integers && std::all_of(integers->begin(), integers->end(), [](const Dim& d) { return d.is_constant(); })) {
    known.emplace(type.dtype, type.static_shape());
    dispatch(type.dtype, [&]<typename T>() {
      if constexpr (std::is_integral_v<T>) {
        auto out = known->as_mutable<T>();
        for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<T>((*integers)[i].constant());
      }
    });
  } else if (node.op->is_pure() && !node.op->sets_output_shape() && node.blocks.empty()) {
    std::vector<const Tensor*> operands;
    for (const ValueId input : node.inputs) {
      const Tensor* tensor = graph_.constant(input);
      if (input != kNoValue && (tensor == nullptr || tensor->num_elements() > kMaxFoldedElements)) return output;
      operands.push_back(tensor);
    }
    try {
      std::vector<Tensor> results = evaluate_node(node, operands, std::span(&type, 1));
      known = std::move(results.front());
    } catch (const Error&) {
      return output;  // the node fails when it runs; whether it runs is not decided here
    }
  }
  if (!known || known->type() != type) return output;
  graph_.remove_node(id);
  return graph_.add_constant(label_, std::move(*known));
}

ValueId NodeBuilder::constant(Tensor tensor) {
  const ValueId id = graph_.add_constant(label_, std::move(tensor));
  unnamed_.insert(id);
  return id;
}

void NodeBuilder::set_output(int index, ValueId value) {
  ensure(index >= 0 && index < num_outputs(), "output {} set, but the node has {}", index, num_outputs());
  ensure(graph_.is_alive_value(value), "output {} set to a value that does not exist", index);
  outputs_[static_cast<std::size_t>(index)] = value;
}

ValueId NodeBuilder::output(int index) const {
  const ValueId id = outputs_.at(static_cast<std::size_t>(index));
  ensure(id != kNoValue, "the import of {} sets no output {}", op_type(), index);
  return id;
}

void NodeBuilder::name_output(int index, const std::string& name) {
  const ValueId id = output(index);
  if (unnamed_.erase(id) > 0 && !graph_.find_value(name)) graph_.rename(id, name);
}

void NodeBuilder::separate_output(int index) {
  const ValueId id = output(index);
  if (unnamed_.contains(id)) return;
  const NodeId node = graph_.add_node(make_op("Identity"), {id}, 1, label_, {label_});
  graph_.infer_types(node);
  const ValueId own = graph_.node(node).outputs.front();
  unnamed_.insert(own);
  outputs_[static_cast<std::size_t>(index)] = own;
}

}  // namespace tenfold
