// The C++ API over Program and Executor, and engines that run their portable section with the reference interpreter.
#include <algorithm>
#include <cstring>

#include "base/atomic_file.hpp"
#include "base/cpu_count.hpp"
#include "ops/interpreter.hpp"
#include "runtime/engine_access.hpp"
#include "runtime/executor.hpp"

namespace tenfold {

struct Engine::State {
  std::shared_ptr<const Program> program;  // nullptr: the portable section runs instead
  std::shared_ptr<Stream> stream;          // of a host backend
  StreamOptions stream_options;
  std::int64_t max_iterations = 0;
  EngineFile portable;
};

struct Context::State {
  std::shared_ptr<Engine::State> engine;
  std::unique_ptr<Executor> executor;
  std::unique_ptr<Stream> caller_stream;  // of the last `enqueue`
  void* caller_handle = nullptr;
  std::vector<TensorInfo> input_infos;
  std::vector<TensorInfo> output_infos;
  // Portable section:
  std::vector<Tensor> inputs;
  std::vector<Tensor> outputs;
  std::vector<std::pair<void*, std::size_t>> user_outputs;
};

namespace {

const Backend& backend_of(const std::string& name, const std::string& device) {
  const Backend& backend = find_backend(device.empty() ? name : device);
  require(backend.name() == name, Code::incompatible_engine,
          "the engine was built for the backend '{}' and cannot run on '{}'; build it anew for that", name, device);
  return backend;
}

TensorInfo info_of(const std::string& name, const TensorType& type) {
  TensorInfo info;
  info.name = name;
  info.dtype = type.dtype;
  for (const Dim& dim : type.dims) {
    info.dims.push_back(dim.is_constant() ? dim.constant() : -1);
    info.dim_names.push_back(dim.to_string());
  }
  return info;
}

std::string list_names(const std::vector<TensorInfo>& infos) {
  std::string text;
  for (const TensorInfo& info : infos) text += (text.empty() ? "'" : ", '") + info.name + "'";
  return text;
}

int find(const std::vector<TensorInfo>& infos, std::string_view name, std::string_view kind) {
  for (std::size_t i = 0; i < infos.size(); ++i) {
    if (infos[i].name == name) return static_cast<int>(i);
  }
  throw Error(Code::invalid_argument,
              fmt::format("there is no {} '{}'; the engine has {}", kind, name, list_names(infos)));
}

}  // namespace

Engine EngineAccess::make(EngineFile file, const LoadOptions& options) {
  const Backend& backend = backend_of(file.plan.backend, options.device);
  return make(std::move(file), options, backend);
}

Engine EngineAccess::make(EngineFile file, const LoadOptions& options, const Backend& backend) {
  Engine engine;
  engine.state_ = std::make_shared<Engine::State>();
  const int built_for = file.plan.num_threads;
  StreamOptions stream;
  stream.num_threads = options.num_threads > 0 ? options.num_threads : std::min(built_for, cpu_count());
  engine.state_->program = std::make_shared<const Program>(std::move(file), backend);
  engine.state_->stream_options = stream;
  engine.state_->max_iterations = options.max_loop_iterations;
  if (backend.is_host()) engine.state_->stream = backend.make_stream(stream);
  return engine;
}

const EngineFile& EngineAccess::file(const Engine& engine) {
  require(engine.state_->program != nullptr, Code::invalid_argument,
          "the engine runs its portable section and has no plan");
  return engine.state_->program->file();
}

Engine EngineAccess::make_portable(EngineFile file) {
  Engine engine;
  engine.state_ = std::make_shared<Engine::State>();
  engine.state_->portable = std::move(file);
  return engine;
}

std::vector<TensorInfo> Engine::inputs() const {
  std::vector<TensorInfo> infos;
  if (state_->program == nullptr) {
    const Graph& graph = *state_->portable.portable;
    for (const ValueId id : graph.inputs()) infos.push_back(info_of(graph.value(id).name, graph.value(id).type));
    return infos;
  }
  const Plan& plan = state_->program->plan();
  for (const std::int32_t id : plan.inputs) {
    const PlanValue& value = plan.values[static_cast<std::size_t>(id)];
    infos.push_back(info_of(value.name, value.type));
  }
  return infos;
}

std::vector<TensorInfo> Engine::outputs() const {
  std::vector<TensorInfo> infos;
  if (state_->program == nullptr) {
    const Graph& graph = *state_->portable.portable;
    for (std::size_t i = 0; i < graph.outputs().size(); ++i) {
      infos.push_back(info_of(graph.output_names()[i], graph.value(graph.outputs()[i]).type));
    }
    return infos;
  }
  const Plan& plan = state_->program->plan();
  for (const std::int32_t id : plan.outputs) {
    const PlanValue& value = plan.values[static_cast<std::size_t>(id)];
    infos.push_back(info_of(value.name, value.type));
  }
  return infos;
}

int Engine::num_profiles() const {
  return static_cast<int>((state_->program ? state_->program->plan() : state_->portable.plan).profiles.size());
}

std::vector<ShapeRange> Engine::profile(int index) const {
  const Plan& plan = state_->program ? state_->program->plan() : state_->portable.plan;
  require(index >= 0 && index < num_profiles(), Code::invalid_argument, "profile {} does not exist; the engine has {}",
          index, num_profiles());
  std::vector<ShapeRange> ranges;
  for (const PlanRange& range : plan.profiles[static_cast<std::size_t>(index)].inputs) {
    ranges.push_back({range.min, range.opt, range.max});
  }
  return ranges;
}

std::map<std::string, std::string> Engine::metadata() const {
  return (state_->program ? state_->program->plan() : state_->portable.plan).provenance.metadata;
}
std::uint64_t Engine::weight_bytes() const {
  return (state_->program ? state_->program->file() : state_->portable).weights.size;
}
std::uint64_t Engine::arena_bytes(int profile) const {
  const Plan& plan = state_->program ? state_->program->plan() : state_->portable.plan;
  require(profile >= 0 && profile < num_profiles(), Code::invalid_argument,
          "profile {} does not exist; the engine has {}", profile, num_profiles());
  return plan.profiles[static_cast<std::size_t>(profile)].arena_bytes;
}
int Engine::num_steps() const {
  return state_->program ? state_->program->num_steps() : state_->portable.portable->num_nodes();
}

std::vector<StepInfo> Engine::steps() const {
  std::vector<StepInfo> steps;
  if (!state_->program) return steps;
  const Plan& plan = state_->program->plan();
  const auto infos = [&](const std::vector<std::int32_t>& ids) {
    std::vector<TensorInfo> list;
    for (const std::int32_t id : ids) {
      if (id < 0) continue;
      const PlanValue& value = plan.values[static_cast<std::size_t>(id)];
      list.push_back(info_of(value.name, value.type));
    }
    return list;
  };
  std::map<std::string, std::vector<StepCandidate>> candidates;
  for (const PlanCandidate& line : plan.report) {
    candidates[line.step].push_back(
        {line.profile, line.tactic, line.parameters, line.refusal, line.time_us, line.chosen});
  }
  const auto add = [&](const PlanStep& step) {
    StepInfo info;
    info.name = step.name;
    info.origins = step.origins;
    info.op_type = step.op_type;
    info.attributes = step.attributes.to_string();
    info.inputs = infos(step.inputs);
    info.outputs = infos(step.outputs);
    for (const PlanChoice& choice : step.choices) {
      info.tactics.push_back(choice.tactic);
      info.workspace_bytes.push_back(choice.workspace_bytes);
    }
    if (const auto found = candidates.find(step.name); found != candidates.end()) info.candidates = found->second;
    steps.push_back(std::move(info));
  };
  for (const PlanStep& step : plan.steps) {
    add(step);
    if (step.op_type != "Samples") continue;
    for (const PlanStep& inner : step.blocks[0].steps) add(inner);
  }
  return steps;
}

std::span<const std::byte> Engine::file_bytes() const {
  return (state_->program ? state_->program->file() : state_->portable).bytes;
}

void Engine::save(const std::string& path) const {
  require(!file_bytes().empty(), Code::invalid_argument, "the engine was made in memory and has no file");
  write_file_atomically(path, file_bytes());
}

EngineInfo Engine::info() const {
  const Plan& plan = state_->program ? state_->program->plan() : state_->portable.plan;
  EngineInfo info;
  info.backend = plan.backend;
  info.target = plan.target;
  info.num_threads = plan.num_threads;
  info.model_name = plan.provenance.model_name;
  info.model_producer = plan.provenance.model_producer;
  info.model_hash = plan.provenance.model_hash;
  info.model_nodes = plan.provenance.model_nodes;
  info.options = plan.provenance.options;
  info.passes = plan.provenance.passes;
  info.is_portable = !state_->program;
  return info;
}

Context Engine::make_context(int profile) const {
  auto state = std::make_unique<Context::State>();
  state->engine = state_;
  if (state_->program) {
    // On the host a stream is a pool of threads, which contexts share: who finds it busy runs in its own thread. On a
    // device it is an order of work, and everyone has his own.
    const Backend& backend = state_->program->backend();
    std::shared_ptr<Stream> stream = backend.is_host() ? state_->stream : backend.make_stream(state_->stream_options);
    state->executor = std::make_unique<Executor>(state_->program, std::move(stream), profile, state_->max_iterations);
  } else {
    state->inputs.resize(inputs().size());
    state->user_outputs.resize(outputs().size());
  }
  state->input_infos = inputs();
  state->output_infos = outputs();
  return Context(std::move(state));
}

Context::Context(std::unique_ptr<State> state) : state_(std::move(state)) {}
Context::Context(Context&&) noexcept = default;
Context& Context::operator=(Context&&) noexcept = default;
Context::~Context() = default;

void Context::set_input(std::string_view name, std::span<const std::int64_t> dims, const void* data) {
  const int index = find(state_->input_infos, name, "input");
  if (state_->executor) {
    state_->executor->set_input(index, dims, data);
    return;
  }
  const TensorInfo& info = state_->input_infos[static_cast<std::size_t>(index)];
  bool fits = dims.size() == info.dims.size();
  for (std::size_t i = 0; fits && i < dims.size(); ++i) fits = info.dims[i] < 0 || info.dims[i] == dims[i];
  require(fits && data != nullptr, Code::invalid_argument, "input '{}' of shape [{}] was given the shape [{}]", name,
          fmt::join(info.dim_names, ", "), fmt::join(dims, ", "));
  state_->inputs[static_cast<std::size_t>(index)] = Tensor(info.dtype, Shape(dims.begin(), dims.end()), data, nullptr);
}

void Context::set_output(std::string_view name, void* data, std::size_t capacity_bytes) {
  const int index = find(state_->output_infos, name, "output");
  if (state_->executor) {
    state_->executor->set_output(index, data, capacity_bytes);
  } else {
    state_->user_outputs[static_cast<std::size_t>(index)] = {data, capacity_bytes};
  }
}

void Context::run() {
  if (state_->executor) {
    state_->executor->run();
    return;
  }
  for (std::size_t i = 0; i < state_->inputs.size(); ++i) {
    require(!state_->inputs[i].empty(), Code::invalid_argument, "input '{}' is not set", state_->input_infos[i].name);
  }
  state_->outputs = interpret(*state_->engine->portable.portable, state_->inputs);
  for (std::size_t i = 0; i < state_->outputs.size(); ++i) {
    const auto& [data, capacity] = state_->user_outputs[i];
    if (data == nullptr) continue;
    require(state_->outputs[i].size_bytes() <= capacity, Code::invalid_argument,
            "output '{}' needs {} bytes, but the buffer given has {}", state_->output_infos[i].name,
            state_->outputs[i].size_bytes(), capacity);
    std::memcpy(data, state_->outputs[i].data(), state_->outputs[i].size_bytes());
  }
}

void Context::enqueue(void* stream) {
  if (!state_->executor || state_->engine->program->backend().is_host()) {
    run();
    return;
  }
  if (stream == nullptr) {
    state_->executor->enqueue(nullptr);
    return;
  }
  if (state_->caller_stream == nullptr || state_->caller_handle != stream) {
    state_->caller_stream = state_->engine->program->backend().wrap_stream(stream);
    state_->caller_handle = stream;
  }
  state_->executor->enqueue(state_->caller_stream.get());
}

void Context::warm_up() {
  if (state_->executor) state_->executor->warm_up();
}

OutputView Context::output(std::string_view name) const {
  const int index = find(state_->output_infos, name, "output");
  if (state_->executor) return state_->executor->output(index);
  require(!state_->outputs.empty(), Code::invalid_argument, "output '{}' is asked for before the first run", name);
  const Tensor& tensor = state_->outputs[static_cast<std::size_t>(index)];
  return {tensor.dtype(), tensor.shape(), tensor.data(), tensor.size_bytes()};
}

std::vector<std::int64_t> Context::output_dims(std::string_view name) {
  const int index = find(state_->output_infos, name, "output");
  if (state_->executor) return state_->executor->output_dims(index);
  return state_->output_infos[static_cast<std::size_t>(index)].dims;
}

void Context::set_profile(int index) {
  if (state_->executor) state_->executor->set_profile(index);
}

void Context::set_profiling(bool on) {
  require(state_->executor != nullptr, Code::unsupported, "the portable section is not profiled");
  state_->executor->profiling = on;
}

const std::vector<StepTime>& Context::step_times() const {
  require(state_->executor != nullptr, Code::unsupported, "the portable section is not profiled");
  return state_->executor->step_times;
}

void Context::set_observer(StepObserver observer) {
  require(state_->executor != nullptr, Code::unsupported, "the portable section has no steps to observe");
  state_->executor->observer = std::move(observer);
}

}  // namespace tenfold
