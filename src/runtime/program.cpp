#include "runtime/program.hpp"

#include <algorithm>
#include <set>

#include "ops/registry.hpp"

namespace tenfold {

Program::Program(EngineFile file, const Backend& backend) : file_(std::move(file)), backend_(backend) {
  const Plan& plan = file_.plan;
  collect_symbols(plan.bindings);
  collect_symbols(plan.steps);
  dependents_.resize(symbols_.size());

  const auto slot = [this](const std::string& symbol) { return slot_of(symbol); };
  values_.resize(plan.values.size());
  for (std::size_t i = 0; i < plan.values.size(); ++i) {
    const PlanValue& value = plan.values[i];
    RunValue& run = values_[i];
    run.first_dim = num_dims_;
    num_dims_ += value.type.dims.size();
    std::set<int> slots;
    const auto compile = [&](const Dim& dim) {
      DimProgram program(dim, slot);
      slots.insert(program.slots().begin(), program.slots().end());
      return program;
    };
    for (const Dim& dim : value.type.dims) run.dims.push_back(compile(dim));
    run.view_offset = compile(value.view_offset);
    run.pitch = compile(value.pitch);
    for (const int s : slots) dependents_[static_cast<std::size_t>(s)].push_back(static_cast<std::int32_t>(i));
    if (value.storage == Storage::view) {
      values_[static_cast<std::size_t>(value.view_of)].views.push_back(static_cast<std::int32_t>(i));
    }
  }
  input_bindings_ = make_bindings(plan.bindings);
  steps_ = make_steps(plan.steps);
}

void Program::collect_symbols(const std::vector<PlanBinding>& bindings) {
  for (const PlanBinding& binding : bindings) symbols_.try_emplace(binding.symbol, static_cast<int>(symbols_.size()));
}

void Program::collect_symbols(const std::vector<PlanStep>& steps) {
  for (const PlanStep& step : steps) {
    collect_symbols(step.bindings);
    for (const PlanBlock& block : step.blocks) {
      collect_symbols(block.bindings);
      collect_symbols(block.steps);
    }
  }
}

int Program::slot_of(const std::string& symbol) const {
  const auto found = symbols_.find(symbol);
  require(found != symbols_.end(), Code::incompatible_engine, "nothing decides dimension '{}'", symbol);
  return found->second;
}

BindingGroup Program::make_bindings(const std::vector<PlanBinding>& bindings) const {
  BindingGroup group;
  std::set<std::int32_t> dependents;
  for (const PlanBinding& binding : bindings) {
    const int slot = slot_of(binding.symbol);
    group.bindings.push_back({slot, binding.value, binding.axis});
    const std::vector<std::int32_t>& values = dependents_[static_cast<std::size_t>(slot)];
    dependents.insert(values.begin(), values.end());
  }
  group.dependents.assign(dependents.begin(), dependents.end());
  return group;
}

std::vector<RunStep> Program::make_steps(const std::vector<PlanStep>& steps) {
  std::vector<RunStep> result;
  result.reserve(steps.size());
  for (const PlanStep& step : steps) {
    try {
      result.push_back(make_step(step));
    } catch (const Error& error) {
      throw error.in_context(fmt::format("step '{}' ({})", step.name, step.op_type));
    }
  }
  return result;
}

RunStep Program::make_step(const PlanStep& step) {
  const Plan& plan = file_.plan;
  RunStep run;
  run.plan = &step;
  run.index = num_steps_++;
  run.op = make_op(step.op_type, step.attributes);
  run.inputs = step.inputs;
  run.outputs = step.outputs;
  run.infer_at_run_time = step.infer_at_run_time;
  run.sets_output_shape = run.op->sets_output_shape();
  run.bindings = make_bindings(step.bindings);
  for (const std::int32_t output : step.outputs) {
    if (output < 0) continue;
    const Storage storage = plan.values[static_cast<std::size_t>(output)].storage;
    if (storage == Storage::growable || storage == Storage::output) run.growable_outputs.push_back(output);
  }
  if (step.op_type == "DimValues") {
    run.kind = StepKind::dim_values;
    for (const std::string& text : step.attributes.get_strings("elements", {})) {
      run.elements.emplace_back(Dim::parse(text), [this](const std::string& symbol) { return slot_of(symbol); });
    }
    return run;
  }
  if (!step.blocks.empty()) {
    run.kind = step.op_type == "If" ? StepKind::branch : step.op_type == "Loop" ? StepKind::loop : StepKind::scan;
    for (const PlanBlock& block : step.blocks) {
      run.blocks.push_back({block.inputs, block.outputs, make_bindings(block.bindings), make_steps(block.steps)});
    }
    return run;
  }
  for (const PlanChoice& choice : step.choices) {
    KernelSpec spec;
    spec.op = run.op;
    spec.tactic = choice.tactic;
    spec.parameters = choice.parameters;
    for (const std::int32_t input : step.inputs) {
      spec.inputs.push_back(input < 0 ? TensorType{} : plan.values[static_cast<std::size_t>(input)].type);
    }
    for (const std::int32_t output : step.outputs) {
      spec.outputs.push_back(output < 0 ? TensorType{} : plan.values[static_cast<std::size_t>(output)].type);
    }
    for (const PlanWeight& weight : choice.weights) {
      spec.weights.emplace_back(file_.weights.data + weight.offset, weight.size);
    }
    run.kernels.push_back(backend_.make_kernel(spec));
  }
  return run;
}

}  // namespace tenfold
