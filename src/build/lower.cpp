#include "build/lower.hpp"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "ops/control_flow.hpp"
#include "ops/samples.hpp"

namespace tenfold {
namespace {

/// Operators that only give their input another shape.
bool is_view(const Node& node) { return node.op->type() == "Reshape" || node.op->type() == "Identity"; }

class Lowering {
 public:
  LoweredPlan run(const Graph& graph) {
    std::vector<std::int32_t> index(static_cast<std::size_t>(graph.value_limit()), -1);
    for (const ValueId id : graph.inputs()) {
      const std::int32_t value = add_value(graph.value(id), Storage::input);
      index[static_cast<std::size_t>(id)] = value;
      plan_.inputs.push_back(value);
      bind(value, plan_.bindings);
    }
    plan_.steps = lower_nodes(graph, index);
    lower_outputs(graph, index);
    return {std::move(plan_), std::move(sources_), std::move(constants_)};
  }

 private:
  std::int32_t add_value(const Value& value, Storage storage, std::string_view scope = {}) {
    PlanValue entry;
    entry.name = std::string(scope) + value.name;
    entry.type = value.type;
    entry.storage = storage;
    entry.pitch = value.type.dims.empty() ? Dim(1) : value.type.dims.back();
    plan_.values.push_back(std::move(entry));
    constants_.push_back(value.constant ? &*value.constant : nullptr);
    return static_cast<std::int32_t>(plan_.values.size()) - 1;
  }

  /// Symbols that become known with `value`.
  void bind(std::int32_t value, std::vector<PlanBinding>& bindings) {
    const TensorType& type = plan_.values[static_cast<std::size_t>(value)].type;
    for (int axis = 0; axis < type.rank(); ++axis) {
      const std::optional<std::string> symbol = type.dims[static_cast<std::size_t>(axis)].as_symbol();
      if (symbol && defined_.insert(*symbol).second) bindings.push_back({*symbol, value, axis});
    }
  }

  bool has_undefined_symbol(const TensorType& type) const {
    std::set<std::string> symbols;
    for (const Dim& dim : type.dims) dim.collect_symbols(symbols);
    return std::any_of(symbols.begin(), symbols.end(), [&](const std::string& s) { return !defined_.contains(s); });
  }

  std::int32_t operand(const Graph& graph, ValueId id, std::vector<std::int32_t>& index) {
    if (id == kNoValue) return -1;
    std::int32_t& found = index[static_cast<std::size_t>(id)];
    if (found < 0) {
      ensure(graph.value(id).constant.has_value(), "value '{}' is read before it is computed", graph.value(id).name);
      found = add_value(graph.value(id), Storage::constant, graph.scope);
    }
    return found;
  }

  std::int32_t root(std::int32_t value) const {
    while (plan_.values[static_cast<std::size_t>(value)].storage == Storage::view) {
      value = plan_.values[static_cast<std::size_t>(value)].view_of;
    }
    return value;
  }

  std::vector<PlanStep> lower_nodes(const Graph& graph, std::vector<std::int32_t>& index) {
    std::vector<PlanStep> steps;
    for (const NodeId id : graph.order()) {
      const Node& node = graph.node(id);
      if (is_view(node) && !has_undefined_symbol(graph.value(node.outputs[0]).type)) {
        const std::int32_t source = operand(graph, node.inputs[0], index);
        const std::int32_t alias = add_value(graph.value(node.outputs[0]), Storage::view, graph.scope);
        plan_.values[static_cast<std::size_t>(alias)].view_of = root(source);
        index[static_cast<std::size_t>(node.outputs[0])] = alias;
        continue;
      }
      steps.push_back(lower_node(graph, node, index));
    }
    return steps;
  }

  PlanStep lower_node(const Graph& graph, const Node& node, std::vector<std::int32_t>& index) {
    sources_.push_back({&graph, &node});
    PlanStep step;
    step.name = graph.scope + node.name;
    step.origins = node.origins;
    step.op_type = std::string(node.op->type());
    step.attributes = node.op->attributes();
    for (const ValueId input : node.inputs) step.inputs.push_back(operand(graph, input, index));
    for (std::size_t i = 0; i < node.blocks.size(); ++i) {
      step.blocks.push_back(lower_block(node, node.blocks[i], step.inputs));
    }
    for (const ValueId output : node.outputs) {
      if (output == kNoValue) {
        step.outputs.push_back(-1);
        continue;
      }
      const std::int32_t value = add_value(graph.value(output), Storage::arena, graph.scope);
      index[static_cast<std::size_t>(output)] = value;
      step.outputs.push_back(value);
    }
    if (op_cast<Samples>(&node) != nullptr) lower_sample_results(*node.blocks.data(), step);
    for (const std::int32_t output : step.outputs) {
      if (output >= 0) bind(output, step.bindings);
    }
    for (const std::int32_t output : step.outputs) {
      if (output < 0) continue;
      const PlanValue& value = plan_.values[static_cast<std::size_t>(output)];
      ensure(!has_undefined_symbol(value.type), "{}: nothing decides a dimension of {}", describe(node),
             to_string(value.type));
    }
    step.infer_at_run_time = node.blocks.empty() && !node.op->sets_output_shape() &&
                             (!step.bindings.empty() || shape_is_computed(node, step));
    if (step.op_type == "DimValues") known_on_load_.insert(step.outputs[0]);
    return step;
  }

  /// Does the output's shape depend on contents that neither a constant nor the sizes of the inputs decide?
  bool shape_is_computed(const Node& node, const PlanStep& step) const {
    const std::vector<int> shape_inputs = node.op->shape_inputs();
    return std::any_of(shape_inputs.begin(), shape_inputs.end(), [&](int i) {
      if (i >= static_cast<int>(step.inputs.size()) || step.inputs[static_cast<std::size_t>(i)] < 0) return false;
      const std::int32_t owner = root(step.inputs[static_cast<std::size_t>(i)]);
      return constants_[static_cast<std::size_t>(owner)] == nullptr && !known_on_load_.contains(owner);
    });
  }

  /// Block inputs: the step's own operands become values of the block; captured ones are the outer values themselves.
  PlanBlock lower_block(const Node& node, const Graph& block, const std::vector<std::int32_t>& operands) {
    const std::size_t own_operands = operands.size() - num_captured(node, operands);
    const std::size_t own_inputs = op_cast<If>(&node) != nullptr ? 0 : own_operands;
    PlanBlock result;
    std::vector<std::int32_t> index(static_cast<std::size_t>(block.value_limit()), -1);
    for (std::size_t i = 0; i < block.inputs().size(); ++i) {
      const ValueId id = block.inputs()[i];
      if (i < own_inputs) {
        const bool is_slice = op_cast<Samples>(&node) != nullptr;
        const std::int32_t value = add_value(block.value(id), is_slice ? Storage::slice : Storage::arena, block.scope);
        if (is_slice) plan_.values[static_cast<std::size_t>(value)].view_of = operands[i];
        index[static_cast<std::size_t>(id)] = value;
        result.inputs.push_back(value);
        bind(value, result.bindings);
      } else {
        index[static_cast<std::size_t>(id)] = operands[own_operands + (i - own_inputs)];
      }
    }
    result.steps = lower_nodes(block, index);
    for (const ValueId id : block.outputs()) result.outputs.push_back(operand(block, id, index));
    return result;
  }

  /// The block's results are made where they belong, as slices of the step's.
  void lower_sample_results(const Graph& graph, PlanStep& step) {
    PlanBlock& block = step.blocks[0];
    for (std::size_t i = 0; i < block.outputs.size(); ++i) {
      std::int32_t& result = block.outputs[i];
      const std::int32_t owner = root(result);
      if (plan_.values[static_cast<std::size_t>(owner)].storage == Storage::arena) {
        take_over(result, Storage::slice);
        plan_.values[static_cast<std::size_t>(result)].view_of = step.outputs[i];
        continue;
      }
      // A value that came from outside, or is a result already: copied.
      const Value& value = graph.value(graph.outputs()[i]);
      const std::int32_t copy = add_value(value, Storage::slice, graph.scope);
      plan_.values[static_cast<std::size_t>(copy)].view_of = step.outputs[i];
      block.steps.push_back(make_copy_step(step.name + "/copy", result, copy, value.type));
      sources_.push_back({&graph, nullptr});
      result = copy;
    }
  }

  /// `value` gets memory of its own kind; if it was a view, what owned it becomes a view of it.
  void take_over(std::int32_t value, Storage storage) {
    const std::int32_t owner = root(value);
    PlanValue& entry = plan_.values[static_cast<std::size_t>(value)];
    entry.storage = storage;
    entry.view_of = -1;
    if (owner == value) return;
    for (PlanValue& other : plan_.values) {
      if (&other != &entry && other.storage == Storage::view && other.view_of == owner) other.view_of = value;
    }
    PlanValue& owning = plan_.values[static_cast<std::size_t>(owner)];
    owning.storage = Storage::view;
    owning.view_of = value;
  }

  /// The node's last operands are what its blocks use from outside.
  static std::size_t num_captured(const Node& node, const std::vector<std::int32_t>& operands) {
    std::size_t own = 1;  // If: the condition
    if (const auto* loop = op_cast<Loop>(&node)) own = 2 + static_cast<std::size_t>(loop->num_carried());
    if (const auto* scan = op_cast<Scan>(&node))
      own = static_cast<std::size_t>(scan->num_carried() + scan->num_scanned());
    if (op_cast<Samples>(&node) != nullptr) own = operands.size();  // it captures nothing
    ensure(own <= operands.size(), "{} has {} operands of at least {}", describe(node), operands.size(), own);
    return operands.size() - own;
  }

  void lower_outputs(const Graph& graph, std::vector<std::int32_t>& index) {
    std::set<std::int32_t> by_control_flow;  // made where the runtime puts them, never inside another value
    for (const PlanStep& step : plan_.steps) {
      const bool is_in_place = step.op_type == "Samples";
      if (!step.blocks.empty() && !is_in_place) by_control_flow.insert(step.outputs.begin(), step.outputs.end());
    }
    for (std::size_t i = 0; i < graph.outputs().size(); ++i) {
      const std::int32_t value = operand(graph, graph.outputs()[i], index);
      PlanValue& entry = plan_.values[static_cast<std::size_t>(value)];
      const std::int32_t owner = root(value);
      PlanValue& owning = plan_.values[static_cast<std::size_t>(owner)];
      const std::string& name = graph.output_names()[i];
      if (owning.storage == Storage::arena && (owner == value || !by_control_flow.contains(owner))) {
        // The caller's buffer holds it; what was the owner becomes a view of the output.
        take_over(value, Storage::output);
        entry.name = name;
        plan_.outputs.push_back(value);
        continue;
      }
      // An input, a constant, a value that is an output already, or a view of what control flow made: copied.
      Value copy;
      copy.name = name;
      copy.type = entry.type;
      const std::int32_t output = add_value(copy, Storage::output);
      plan_.steps.push_back(make_copy_step("copy to " + name, value, output, copy.type));
      sources_.push_back({&graph, nullptr});
      plan_.outputs.push_back(output);
    }
  }

  Plan plan_;
  std::vector<StepSource> sources_;
  std::vector<const Tensor*> constants_;
  std::set<std::string> defined_;
  std::set<std::int32_t> known_on_load_;  // values of DimValues
};

}  // namespace

LoweredPlan lower(const Graph& graph) { return Lowering().run(graph); }

void for_each_step(std::vector<PlanStep>& steps, const std::function<void(PlanStep&, int)>& visit) {
  int index = 0;
  const std::function<void(std::vector<PlanStep>&)> walk = [&](std::vector<PlanStep>& list) {
    for (PlanStep& step : list) {
      visit(step, index++);
      for (PlanBlock& block : step.blocks) walk(block.steps);
    }
  };
  walk(steps);
}

int count_steps(const std::vector<PlanStep>& steps) {
  int count = 0;
  for (const PlanStep& step : steps) {
    count += step.op_type == "Samples" ? 0 : 1;
    for (const PlanBlock& block : step.blocks) count += count_steps(block.steps);
  }
  return count;
}

std::vector<bool> steps_in_sections(std::vector<PlanStep>& steps) {
  std::vector<bool> inside;
  std::size_t end = 0;  // behind the steps of the last section's block
  for_each_step(steps, [&](PlanStep& step, int index) {
    const auto at = static_cast<std::size_t>(index);
    inside.push_back(at < end);
    if (step.op_type == "Samples") end = at + 1 + step.blocks[0].steps.size();
  });
  return inside;
}

PlanStep make_copy_step(const std::string& name, std::int32_t from, std::int32_t to, const TensorType& type) {
  PlanStep step;
  step.name = name;
  step.op_type = "Reshape";
  std::vector<std::string> dims;
  for (const Dim& dim : type.dims) dims.push_back(dim.to_string());
  step.attributes.set("dims", std::move(dims));
  step.inputs = {from};
  step.outputs = {to};
  return step;
}

}  // namespace tenfold
