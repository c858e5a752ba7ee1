#include "runtime/program.hpp"

#include <algorithm>
#include <set>
#include <sys/mman.h>

#include "engine/validate.hpp"
#include "ops/registry.hpp"

namespace tenfold {
namespace {

/// Read-only memory that costs nothing until somebody reads it.
std::shared_ptr<const void> map_zeros(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  require(memory != MAP_FAILED, Code::out_of_memory, "{} bytes of address space are not there", bytes);
  return {memory, [bytes](const void* p) { ::munmap(const_cast<void*>(p), bytes); }};
}

bool makes_equal_kernels(const PlanChoice& a, const PlanChoice& b) {
  const auto is_equal = [](const PlanWeight& x, const PlanWeight& y) {
    return x.offset == y.offset && x.size == y.size;
  };
  return a.tactic == b.tactic && a.parameters == b.parameters && a.on_host == b.on_host && is_equal(a.code, b.code) &&
         std::equal(a.weights.begin(), a.weights.end(), b.weights.begin(), b.weights.end(), is_equal);
}

}  // namespace

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
  place_weights();
  steps_ = make_steps(plan.steps);
  check_in_place();
  check_repeatable();
}

void Program::check_repeatable() {
  const Plan& plan = file_.plan;
  is_repeatable_ = !backend_.is_host() &&
                   std::none_of(plan.values.begin(), plan.values.end(),
                                [](const PlanValue& value) { return value.storage == Storage::growable; }) &&
                   std::all_of(steps_.begin(), steps_.end(), [](const RunStep& step) {
                     const bool on_host = std::any_of(step.plan->choices.begin(), step.plan->choices.end(),
                                                      [](const PlanChoice& choice) { return choice.on_host; });
                     return (step.kind == StepKind::kernel || step.kind == StepKind::dim_values) &&
                            !step.infer_at_run_time && !step.sets_output_shape && !on_host;
                   });
}

void Program::check_in_place() const {
  std::map<const PlanStep*, const RunStep*> run_of;
  const std::function<void(const std::vector<RunStep>&)> collect = [&](const std::vector<RunStep>& steps) {
    for (const RunStep& step : steps) {
      run_of.emplace(step.plan, &step);
      for (const RunBlock& block : step.blocks) collect(block.steps);
    }
  };
  collect(steps_);
  visit_in_place(file_.plan, [&](const PlanStep& step, int profile, int input) {
    const RunStep& run = *run_of.at(&step);
    require(run.kind == StepKind::kernel && run.kernels[static_cast<std::size_t>(profile)]->can_run_in_place(input),
            Code::incompatible_engine, "step '{}' ({}) cannot put its result in the place of input {}", step.name,
            step.op_type, input);
  });
}

void Program::place_weights() {
  const WeightData& weights = file_.weights;
  if (backend_.is_host()) {
    weights_ = weights.data;
  } else {
    try {
      device_weights_ = backend_.allocate(std::max<std::size_t>(weights.size, 1));
    } catch (const Error& error) {
      throw error.in_context("the engine's weights");
    }
    const std::unique_ptr<Stream> stream = backend_.make_stream({.num_threads = 1});
    backend_.copy_to_device(device_weights_->data(), weights.data, weights.size, *stream);
    stream->synchronize();
    weights_ = static_cast<const std::byte*>(device_weights_->data());
  }
  std::size_t largest = 0;
  for (const PlanValue& value : file_.plan.values) {
    if (value.storage != Storage::none || !value.type.is_static()) continue;
    const auto elements = static_cast<std::size_t>(num_elements(value.type.static_shape()));
    largest = std::max(largest, elements * size_of(value.type.dtype));
  }
  if (backend_.is_host()) zeros_ = map_zeros(largest);
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
  find_next_weights(result);
  return result;
}

void Program::find_next_weights(std::vector<RunStep>& steps) {
  // What is asked for further ahead might have left the caches again.
  constexpr std::size_t kReach = 4;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    steps[i].next_weights.resize(steps[i].kernels.size());
    for (std::size_t profile = 0; profile < steps[i].kernels.size(); ++profile) {
      WeightPanels& next = steps[i].next_weights[profile];
      for (std::size_t j = i + 1; j < steps.size() && j <= i + kReach && next.data == nullptr; ++j) {
        if (steps[j].kind != StepKind::kernel) break;
        next = steps[j].kernels[profile]->first_weights();
      }
    }
  }
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
  run.shape_inputs = run.op->shape_inputs();
  run.bindings = make_bindings(step.bindings);
  const auto owner_of = [&](std::int32_t id) {
    const PlanValue& value = plan.values[static_cast<std::size_t>(id)];
    return value.storage == Storage::view ? value.view_of : id;
  };
  std::set<int> slots;
  const auto add_slots = [&](const DimProgram& program) {
    slots.insert(program.slots().begin(), program.slots().end());
  };
  for (const std::vector<std::int32_t>* list : {&step.inputs, &step.outputs}) {
    for (const std::int32_t id : *list) {
      if (id < 0) continue;
      const RunValue& value = values_[static_cast<std::size_t>(id)];
      for (const DimProgram& dim : value.dims) add_slots(dim);
      for (const DimProgram& dim : values_[static_cast<std::size_t>(owner_of(id))].dims) add_slots(dim);
      add_slots(value.view_offset);
      add_slots(value.pitch);
    }
  }
  for (const std::int32_t output : step.outputs) {
    run.wanted.push_back(output >= 0 ? 1 : 0);
    if (output < 0) continue;
    const std::int32_t owner = owner_of(output);
    const Storage storage = plan.values[static_cast<std::size_t>(owner)].storage;
    if (storage == Storage::growable || storage == Storage::output) run.growable_outputs.push_back(owner);
  }
  for (const std::int32_t input : step.inputs) {
    const std::int32_t owner = input < 0 ? -1 : owner_of(input);
    const auto computed = dim_values_.find(owner);
    const bool is_constant = owner >= 0 && plan.values[static_cast<std::size_t>(owner)].storage == Storage::constant;
    run.has_known_contents.push_back(is_constant || computed != dim_values_.end() ? 1 : 0);
    if (computed != dim_values_.end()) slots.insert(computed->second.begin(), computed->second.end());
  }
  if (step.op_type == "DimValues") {
    run.kind = StepKind::dim_values;
    for (const std::string& text : step.attributes.get_strings("elements", {})) {
      run.elements.emplace_back(Dim::parse(text), [this](const std::string& symbol) { return slot_of(symbol); });
      add_slots(run.elements.back());
    }
    dim_values_[step.outputs[0]] = {slots.begin(), slots.end()};
    return run;
  }
  if (!step.blocks.empty()) {
    static const std::map<std::string_view, StepKind> kKinds{
        {"If", StepKind::branch}, {"Loop", StepKind::loop}, {"Scan", StepKind::scan}, {"Samples", StepKind::samples}};
    run.kind = kKinds.at(step.op_type);
    for (const PlanBlock& block : step.blocks) {
      run.blocks.push_back({block.inputs, block.outputs, make_bindings(block.bindings), make_steps(block.steps)});
    }
    if (run.kind == StepKind::samples) run.sample_operands = sample_operands(step.blocks[0]);
    return run;
  }
  run.symbols.assign(slots.begin(), slots.end());
  make_kernels(step, run);
  return run;
}

std::vector<SampleOperand> Program::sample_operands(const PlanBlock& block) const {
  const auto owner_of = [&](std::int32_t id) {
    const PlanValue& value = file_.plan.values[static_cast<std::size_t>(id)];
    return value.storage == Storage::view ? value.view_of : id;
  };
  std::set<std::int32_t> made_here;
  for (const PlanStep& step : block.steps) {
    for (const std::int32_t output : step.outputs) {
      if (output >= 0) made_here.insert(owner_of(output));
    }
  }
  std::vector<SampleOperand> operands;
  for (const PlanStep& step : block.steps) {
    for (const std::vector<std::int32_t>* list : {&step.inputs, &step.outputs}) {
      for (const std::int32_t id : *list) {
        SampleOperand& operand = operands.emplace_back();
        if (id < 0) continue;
        operand.value = id;
        const std::int32_t owner = owner_of(id);
        const Storage storage = file_.plan.values[static_cast<std::size_t>(owner)].storage;
        if (storage == Storage::slice) operand.slice = owner;
        operand.in_lane = storage == Storage::arena && made_here.contains(owner);
      }
    }
  }
  return operands;
}

void Program::make_kernels(const PlanStep& step, RunStep& run) const {
  const Plan& plan = file_.plan;
  const auto is_pitched = [&](std::int32_t id) {
    const PlanValue& value = plan.values[static_cast<std::size_t>(id)];
    return value.pitch != (value.type.dims.empty() ? Dim(1) : value.type.dims.back());
  };
  for (const PlanChoice& choice : step.choices) {
    // Profiles often agree; they share what is costly to make.
    const auto made = step.choices.begin() + static_cast<std::ptrdiff_t>(run.kernels.size());
    const auto equal = std::find_if(step.choices.begin(), made,
                                    [&](const PlanChoice& other) { return makes_equal_kernels(choice, other); });
    if (equal != made) {
      run.kernels.push_back(run.kernels[static_cast<std::size_t>(equal - step.choices.begin())]);
      continue;
    }
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
      if (!backend_.is_host() && !choice.on_host) spec.device_weights.push_back(weights_ + weight.offset);
    }
    if (file_.code_is_trusted) spec.code = {file_.code.data + choice.code.offset, choice.code.size};
    const Backend& backend = choice.on_host ? cpu_backend() : backend_;
    std::shared_ptr<const Kernel> kernel;
    try {
      kernel = backend.make_kernel(spec);
    } catch (const Error& error) {
      const bool has_untrusted_code = choice.code.size > 0 && !file_.code_is_trusted;
      if (!has_untrusted_code || error.code() != Code::unsupported) throw;
      throw Error(Code::incompatible_engine,
                  fmt::format("the engine's machine code was not built by this user on this machine, so it is not run; "
                              "trust it explicitly if you know its origin, or build the engine here ({})",
                              error.message()));
    }
    for (std::size_t i = 0; i < step.inputs.size(); ++i) {
      require(step.inputs[i] < 0 || !is_pitched(step.inputs[i]) || kernel->accepts_pitched_input(static_cast<int>(i)),
              Code::incompatible_engine, "tactic '{}' cannot read input {} from a part of a wider value", choice.tactic,
              i);
    }
    for (std::size_t i = 0; i < step.outputs.size(); ++i) {
      require(
          step.outputs[i] < 0 || !is_pitched(step.outputs[i]) || kernel->accepts_pitched_output(static_cast<int>(i)),
          Code::incompatible_engine, "tactic '{}' cannot write output {} into a part of a wider value", choice.tactic,
          i);
    }
    run.kernels.push_back(kernel);
  }
}

}  // namespace tenfold
