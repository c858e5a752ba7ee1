// A run: inputs are bound, dimensions that changed are evaluated again, and the steps follow each other. In the steady
// state (same shapes as before) nothing here allocates: views, scratch operands and buffers are kept.
#include "runtime/executor.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/checked.hpp"
#include "base/float_mode.hpp"
#include "engine/limits.hpp"

namespace tenfold {
namespace {

/// A buffer that is too small is replaced by one half as large again, so that growing sizes do not reallocate each
/// time.
constexpr std::size_t kGrowNumerator = 3;
constexpr std::size_t kGrowDenominator = 2;

}  // namespace

double now_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Executor::Executor(std::shared_ptr<const Program> program, std::shared_ptr<Stream> stream, int profile,
                   std::int64_t max_loop_iterations)
    : program_(std::move(program)),
      stream_(std::move(stream)),
      current_stream_(stream_.get()),
      backend_(program_->backend()),
      inference_(
          [this](const std::string& symbol) { return symbols_[static_cast<std::size_t>(program_->slot_of(symbol))]; }) {
  const Plan& plan = program_->plan();
  symbols_.resize(static_cast<std::size_t>(program_->num_symbols()), -1);  // no size: the first one is a change
  dims_.resize(program_->num_dims(), 0);
  views_.resize(plan.values.size());
  growable_.resize(plan.values.size());
  output_index_.resize(plan.values.size(), -1);
  inputs_.resize(plan.inputs.size());
  outputs_.resize(plan.outputs.size());
  for (std::size_t i = 0; i < plan.outputs.size(); ++i) {
    output_index_[static_cast<std::size_t>(plan.outputs[i])] = static_cast<std::int32_t>(i);
  }
  max_loop_iterations_ = max_loop_iterations;
  loops_.resize(static_cast<std::size_t>(program_->num_steps()));
  states_.resize(static_cast<std::size_t>(program_->num_steps()));
  std::size_t widest = 1;
  const std::function<void(const std::vector<RunStep>&)> measure = [&](const std::vector<RunStep>& steps) {
    for (const RunStep& step : steps) {
      widest = std::max(widest, step.inputs.size() + step.outputs.size());
      for (const RunBlock& block : step.blocks) measure(block.steps);
    }
  };
  measure(program_->steps());
  operands_.resize(widest);
  host_of_.resize(plan.values.size());
  host_operands_.resize(widest);
  std::size_t sizes_bytes = 0;
  const std::function<void(const std::vector<RunStep>&)> count_sizes = [&](const std::vector<RunStep>& steps) {
    for (const RunStep& step : steps) {
      sizes_bytes += step.elements.size() * sizeof(std::int64_t);
      for (const RunBlock& block : step.blocks) count_sizes(block.steps);
    }
  };
  if (!backend_.is_host()) {
    count_sizes(program_->steps());
    sizes_ = backend_.allocate_staging(std::max<std::size_t>(sizes_bytes, 1));
  }
  resize_ = [this](int index, const Shape& dims) -> const TensorView& {
    const bool exists = index >= 0 && static_cast<std::size_t>(index) < current_->outputs.size();
    const std::int32_t id = exists ? current_->outputs[static_cast<std::size_t>(index)] : -1;
    ensure(id >= 0, "a kernel gives a shape to output {}, which does not exist", index);
    set_dims(id, dims);
    make_room(id);
    return view(id);
  };
  for (std::size_t i = 0; i < plan.values.size(); ++i) {
    const auto id = static_cast<std::int32_t>(i);
    views_[i].dtype = plan.values[i].type.dtype;
    views_[i].dims = dims_of(id);
    for (std::size_t axis = 0; axis < plan.values[i].type.dims.size(); ++axis) {
      const DimProgram& dim = run_value(id).dims[axis];
      if (dim.is_constant()) dims_of(id)[axis] = dim.evaluate({});
    }
    views_[i].pitch = run_value(id).pitch.is_constant() ? run_value(id).pitch.evaluate({}) : 0;
  }
  make_lanes();
  set_profile(profile);
}

Executor::~Executor() = default;

std::size_t Executor::bytes_of(std::int32_t id) const {
  const TensorView& tensor = views_[static_cast<std::size_t>(id)];
  return static_cast<std::size_t>(tensor.num_elements()) * size_of(tensor.dtype);
}

void Executor::set_profile(int profile) {
  const Plan& plan = program_->plan();
  require(profile >= 0 && profile < static_cast<int>(plan.profiles.size()), Code::invalid_argument,
          "profile {} does not exist; the engine has {}", profile, plan.profiles.size());
  profile_ = profile;
  const PlanProfile& chosen = plan.profiles[static_cast<std::size_t>(profile)];
  if (!arena_ || arena_->size_bytes() < chosen.arena_bytes) {
    arena_.reset();  // the old one first: both may not fit
    try {
      arena_ = backend_.allocate(std::max<std::size_t>(chosen.arena_bytes, 64));
    } catch (const Error& error) {
      throw error.in_context(fmt::format("profile {}: its activations{}", profile, smaller_profiles(profile)));
    }
  }
  auto* arena = static_cast<std::byte*>(arena_->data());
  for (std::size_t i = 0; i < plan.values.size(); ++i) {
    const auto id = static_cast<std::int32_t>(i);
    switch (plan.values[i].storage) {
      case Storage::arena:
        place(id, arena + chosen.arena_offsets[i]);
        break;
      case Storage::constant:
        if (!backend_.is_host()) host_of_[i] = program_->host_weights() + plan.values[i].constant_offset;
        place(id, const_cast<std::byte*>(program_->weights()) + plan.values[i].constant_offset);
        break;
      case Storage::none:
        view(id).data = const_cast<void*>(program_->zeros());
        break;
      default:
        break;
    }
  }
  place_lanes();
  for (InputState& input : inputs_) input.is_set = false;
  recordings_.clear();
  for (StepState& state : states_) state.is_checked = false;
  must_bind_ = true;
  ++epoch_;
}

std::string Executor::smaller_profiles(int profile) const {
  const std::vector<PlanProfile>& profiles = program_->plan().profiles;
  const auto index = static_cast<std::size_t>(profile);
  std::string text;
  for (std::size_t i = 0; i < profiles.size(); ++i) {
    if (profiles[i].arena_bytes >= profiles[index].arena_bytes) continue;
    text += fmt::format("{}profile {} needs {} bytes", text.empty() ? " (" : ", ", i, profiles[i].arena_bytes);
  }
  return text + (text.empty() ? " (an engine for smaller shapes needs less)" : ")");
}

// --- Shapes ---------------------------------------------------------------------------------------------------------

std::span<std::int64_t> Executor::dims_of(std::int32_t id) {
  const RunValue& value = run_value(id);
  return {dims_.data() + value.first_dim, value.dims.size()};
}

void Executor::update_dims(std::int32_t id) {
  const RunValue& value = run_value(id);
  const std::span<std::int64_t> dims = dims_of(id);
  // A negative size is no shape at all. The operator's own rule says so when its step is checked, in better words.
  for (std::size_t i = 0; i < dims.size(); ++i) dims[i] = std::max<std::int64_t>(0, value.dims[i].evaluate(symbols_));
  view(id).pitch = value.pitch.evaluate(symbols_);
}

void Executor::bind(const BindingGroup& group) {
  bool changed = false;
  for (const SymbolBinding& binding : group.bindings) {
    const std::int64_t size = dims_of(binding.value)[static_cast<std::size_t>(binding.axis)];
    std::int64_t& symbol = symbols_[static_cast<std::size_t>(binding.slot)];
    changed = changed || symbol != size;
    symbol = size;
  }
  if (!changed && !must_bind_) return;
  ++epoch_;
  // What a producer decided stays, so that check_dims can compare it with the plan's expressions.
  const auto is_decided = [&](std::int32_t id) {
    return std::any_of(group.bindings.begin(), group.bindings.end(),
                       [id](const SymbolBinding& binding) { return binding.value == id; });
  };
  for (const std::int32_t id : group.dependents) {
    if (!is_decided(id)) update_dims(id);
  }
  for (const std::int32_t id : group.dependents) {
    if (plan_value(id).storage == Storage::view) update_view(id);
  }
}

void Executor::check_dims(std::int32_t id) const {
  if (id < 0) return;
  const RunValue& value = run_value(id);
  const TensorView& tensor = views_[static_cast<std::size_t>(id)];
  for (std::size_t axis = 0; axis < value.dims.size(); ++axis) {
    const std::int64_t expected = value.dims[axis].evaluate(symbols_);
    require(tensor.dims[axis] == expected, Code::invalid_model,
            "value '{}' has shape [{}], but axis {} should be {} = {}", plan_value(id).name,
            fmt::join(tensor.dims, ", "), axis, plan_value(id).type.dims[axis].to_string(), expected);
  }
}

void Executor::check_dims(std::span<const std::int32_t> ids) const {
  for (const std::int32_t id : ids) check_dims(id);
}

void Executor::set_dims(std::int32_t id, std::span<const std::int64_t> dims) {
  const std::span<std::int64_t> target = dims_of(id);
  ensure(target.size() == dims.size(), "value '{}' should have rank {}, but its producer gave {}", plan_value(id).name,
         target.size(), dims.size());
  std::copy(dims.begin(), dims.end(), target.begin());
  view(id).pitch = dims.empty() ? 1 : dims.back();
}

void Executor::set_input(int index, std::span<const std::int64_t> dims, const void* data) {
  const Plan& plan = program_->plan();
  const std::int32_t id = plan.inputs.at(static_cast<std::size_t>(index));
  InputState& input = inputs_[static_cast<std::size_t>(index)];
  const std::span<std::int64_t> current = dims_of(id);
  const bool same_shape = input.is_set && std::equal(dims.begin(), dims.end(), current.begin(), current.end());
  if (!same_shape) {
    const PlanRange& range = plan.profiles[static_cast<std::size_t>(profile_)].inputs[static_cast<std::size_t>(index)];
    const std::string& name = plan_value(id).name;
    require(dims.size() == range.min.size(), Code::invalid_argument,
            "input '{}' has {} axes ({}), but a shape with {} was given: [{}]", name, range.min.size(),
            to_string(plan_value(id).type.dims), dims.size(), fmt::join(dims, ", "));
    for (std::size_t axis = 0; axis < dims.size(); ++axis) {
      require(range.min[axis] <= dims[axis] && dims[axis] <= range.max[axis], Code::invalid_argument,
              "input '{}' axis {} is {}, but profile {} accepts {}..{}; build the engine with a profile that covers it",
              name, axis, dims[axis], profile_, range.min[axis], range.max[axis]);
    }
    std::copy(dims.begin(), dims.end(), current.begin());
    view(id).pitch = dims.empty() ? 1 : dims.back();
  }
  std::size_t count = 1;
  for (const std::int64_t dim : dims) count *= static_cast<std::size_t>(dim);
  require(data != nullptr || count == 0, Code::invalid_argument, "input '{}' has no data", plan_value(id).name);
  input.data = data;
  input.is_set = true;
}

void Executor::check_inputs() {
  const Plan& plan = program_->plan();
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    require(inputs_[i].is_set, Code::invalid_argument, "input '{}' is not set", plan_value(plan.inputs[i]).name);
  }
  // Two inputs may share a dimension: binding takes it from the first, and the other must agree.
  std::vector<std::int64_t>& symbols = symbols_;
  bind(program_->input_bindings());
  must_bind_ = false;
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const std::int32_t id = plan.inputs[i];
    const RunValue& value = run_value(id);
    const std::span<const std::int64_t> dims = dims_of(id);
    for (std::size_t axis = 0; axis < dims.size(); ++axis) {
      const std::int64_t expected = value.dims[axis].evaluate(symbols);
      if (expected == dims[axis]) continue;
      const std::int64_t got = dims[axis];
      inputs_[i].is_set = false;
      throw Error(Code::invalid_argument,
                  fmt::format("input '{}' axis {} is {}, but '{}' is {} by the shapes of the inputs before it",
                              plan_value(id).name, axis, got, plan_value(id).type.dims[axis].to_string(), expected));
    }
  }
}

// --- Memory ---------------------------------------------------------------------------------------------------------

void Executor::update_view(std::int32_t id) {
  const TensorView& owner = view(plan_value(id).view_of);
  if (owner.data == nullptr) {
    view(id).data = nullptr;
    return;
  }
  const std::int64_t offset = run_value(id).view_offset.evaluate(symbols_);
  const std::int64_t bytes = offset * static_cast<std::int64_t>(size_of(owner.dtype));
  view(id).data = static_cast<std::byte*>(owner.data) + bytes;
  const void* host = host_of_[static_cast<std::size_t>(plan_value(id).view_of)];
  host_of_[static_cast<std::size_t>(id)] = host == nullptr ? nullptr : static_cast<const std::byte*>(host) + bytes;
}

void Executor::check_place(std::int32_t id) const {
  if (id < 0) return;
  const TensorView& tensor = views_[static_cast<std::size_t>(id)];
  std::uint64_t bytes = size_of(tensor.dtype);
  for (const std::int64_t dim : tensor.dims) {
    const auto product = checked_mul(bytes, static_cast<std::uint64_t>(dim));
    require(product && *product <= limits::kMaxFileBytes, Code::out_of_memory, "value '{}' would have shape [{}]",
            plan_value(id).name, fmt::join(tensor.dims, ", "));
    bytes = *product;
  }
  if (plan_value(id).storage == Storage::arena) {
    // The bound that the plan reserved holds for every shape of the profile.
    const PlanProfile& profile = program_->plan().profiles[static_cast<std::size_t>(profile_)];
    const std::uint64_t room = profile.arena_sizes[static_cast<std::size_t>(id)];
    require(bytes <= room, Code::incompatible_engine,
            "value '{}' of shape [{}] does not fit in the {} bytes that the plan has for it", plan_value(id).name,
            fmt::join(tensor.dims, ", "), room);
  }
  if (plan_value(id).storage == Storage::slice) {
    const std::int32_t whole = plan_value(id).view_of;
    check_place(whole);
    const std::int64_t num_samples = views_[static_cast<std::size_t>(whole)].dims[0];
    const auto all = checked_mul(bytes, static_cast<std::uint64_t>(num_samples));
    require(all && *all <= bytes_of(whole), Code::incompatible_engine,
            "{} samples of shape [{}] do not lie in '{}' of shape [{}]", num_samples, fmt::join(tensor.dims, ", "),
            plan_value(whole).name, fmt::join(views_[static_cast<std::size_t>(whole)].dims, ", "));
  }
  if (plan_value(id).storage != Storage::view) return;
  const std::int32_t owner_id = plan_value(id).view_of;
  check_place(owner_id);
  const TensorView& owner = views_[static_cast<std::size_t>(owner_id)];
  const std::int64_t offset = run_value(id).view_offset.evaluate(symbols_);
  const std::int64_t row = tensor.dims.empty() ? 1 : tensor.dims.back();
  const std::int64_t elements = tensor.num_elements();
  const __int128 end = elements == 0 ? 0 : static_cast<__int128>(elements / row - 1) * tensor.pitch + row;
  const bool lies_inside = offset >= 0 && tensor.pitch >= row && offset + end <= owner.num_elements();
  require(lies_inside || elements == 0, Code::incompatible_engine,
          "value '{}' of shape [{}], at {} with pitch {}, does not lie in '{}' of shape [{}]", plan_value(id).name,
          fmt::join(tensor.dims, ", "), offset, tensor.pitch, plan_value(owner_id).name, fmt::join(owner.dims, ", "));
}

void Executor::place(std::int32_t id, void* data) {
  view(id).data = data;
  for (const std::int32_t inner : run_value(id).views) update_view(inner);
}

void Executor::make_room(std::int32_t id) {
  check_place(id);
  const Storage storage = plan_value(id).storage;
  const std::size_t bytes = bytes_of(id);
  const auto grow = [&](std::unique_ptr<Buffer>& buffer) {
    if (!buffer || buffer->size_bytes() < bytes) {
      const std::size_t before = buffer ? buffer->size_bytes() : 0;
      buffer.reset();
      buffer = backend_.allocate(std::max({bytes, before / kGrowDenominator * kGrowNumerator, std::size_t{64}}));
    }
    if (view(id).data != buffer->data()) place(id, buffer->data());
  };
  if (storage == Storage::growable) {
    grow(growable_[static_cast<std::size_t>(id)]);
  } else if (storage == Storage::output) {
    OutputState& output = outputs_[static_cast<std::size_t>(output_index_[static_cast<std::size_t>(id)])];
    if (output.user_data != nullptr && can_use_in_place(output.user_data)) {
      require(bytes <= output.user_capacity, Code::invalid_argument,
              "output '{}' of shape [{}] needs {} bytes, but the buffer given has {}", plan_value(id).name,
              fmt::join(dims_of(id), ", "), bytes, output.user_capacity);
      if (view(id).data != output.user_data) place(id, output.user_data);
    } else {
      grow(output.buffer);
    }
  }
}

void Executor::copy_value(std::int32_t from, std::int32_t to) {
  check_place(from);
  const std::size_t bytes = bytes_of(from);
  if (bytes == 0 || view(from).data == view(to).data) return;
  if (backend_.is_host()) {
    std::memcpy(view(to).data, view(from).data, bytes);
    return;
  }
  const void* data = host_data(from, scratch_);
  store_from_host(to, data, bytes);
}

const void* Executor::host_data(std::int32_t id, std::vector<std::byte>& scratch) {
  check_place(id);
  if (backend_.is_host()) return view(id).data;
  if (const void* known = host_of_[static_cast<std::size_t>(id)]) return known;
  scratch.resize(bytes_of(id));
  backend_.copy_to_host(scratch.data(), view(id).data, scratch.size(), *current_stream_);
  current_stream_->synchronize();
  return scratch.data();
}

void Executor::store_from_host(std::int32_t id, const void* data, std::size_t bytes) {
  if (bytes == 0) return;
  if (backend_.is_host()) {
    std::memcpy(view(id).data, data, bytes);
  } else {
    backend_.copy_to_device(view(id).data, data, bytes, *current_stream_);
    current_stream_->synchronize();
  }
}

// --- Running --------------------------------------------------------------------------------------------------------

void Executor::set_output(int index, void* data, std::size_t capacity_bytes) {
  OutputState& output = outputs_.at(static_cast<std::size_t>(index));
  output.user_data = data;
  output.user_capacity = capacity_bytes;
}

void Executor::run() {
  try {
    run_checked();
  } catch (...) {
    // Dimensions may be half updated: all of them are evaluated anew next time. No size is negative.
    std::fill(symbols_.begin(), symbols_.end(), -1);
    for (StepState& state : states_) state.is_checked = false;
    must_bind_ = true;
    has_run_ = false;  // outputs may have lost their memory
    throw;
  }
  has_run_ = true;
}

void Executor::run_checked() {
  check_inputs();
  if (profiling) {
    step_times.clear();
    run_start_us_ = now_us();
  }
  iterations_left_ = max_loop_iterations_;
  if (!backend_.is_host()) {
    bind_device_inputs(true);
    run_on_device();
    copy_outputs_to_host(true);
    return;
  }
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const std::int32_t id = program_->plan().inputs[i];
    auto* data = const_cast<void*>(inputs_[i].data);  // kernels only read inputs
    if (view(id).data != data) place(id, data);
  }
  const InferenceFloatMode mode;
  run_steps(program_->steps());
  current_stream_->synchronize();
}

void Executor::warm_up() {
  const Plan& plan = program_->plan();
  const PlanProfile& profile = plan.profiles[static_cast<std::size_t>(profile_)];
  std::vector<std::vector<std::byte>> zeros;
  std::vector<std::size_t> borrowed;
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    if (inputs_[i].is_set) continue;
    const Shape& opt = profile.inputs[i].opt;
    zeros.emplace_back(static_cast<std::size_t>(num_elements(opt)) * size_of(plan_value(plan.inputs[i]).type.dtype) +
                       64);
    set_input(static_cast<int>(i), opt, zeros.back().data());
    borrowed.push_back(i);
  }
  run();
  if (program_->is_repeatable()) run();  // the second one is recorded
  for (const std::size_t i : borrowed) inputs_[i].is_set = false;
}

OutputView Executor::output(int index) const {
  require(has_run_, Code::invalid_argument, "an output is asked for before the first run");
  const std::int32_t id = program_->plan().outputs.at(static_cast<std::size_t>(index));
  const TensorView& tensor = views_[static_cast<std::size_t>(id)];
  const OutputState& state = outputs_[static_cast<std::size_t>(index)];
  OutputView result;
  result.dtype = tensor.dtype;
  result.dims.assign(tensor.dims.begin(), tensor.dims.end());
  result.size_bytes = bytes_of(id);
  result.data = backend_.is_host()           ? tensor.data
                : state.user_data != nullptr ? state.user_data
                                             : state.host_copy->data();
  return result;
}

std::vector<std::int64_t> Executor::output_dims(int index) {
  check_inputs();
  const RunValue& value = run_value(program_->plan().outputs.at(static_cast<std::size_t>(index)));
  const auto is_input_symbol = [&](int slot) {
    const std::vector<SymbolBinding>& bindings = program_->input_bindings().bindings;
    return std::any_of(bindings.begin(), bindings.end(), [&](const SymbolBinding& b) { return b.slot == slot; });
  };
  std::vector<std::int64_t> dims;
  for (const DimProgram& dim : value.dims) {
    const bool is_known = std::all_of(dim.slots().begin(), dim.slots().end(), is_input_symbol);
    dims.push_back(is_known ? std::max<std::int64_t>(0, dim.evaluate(symbols_)) : -1);
  }
  return dims;
}

void Executor::run_steps(const std::vector<RunStep>& steps) {
  if (!profiling && !observer) {
    for (const RunStep& step : steps) run_step(step);
    return;
  }
  for (const RunStep& step : steps) {
    const double start = now_us();
    run_step(step);
    if (step.kind == StepKind::samples) continue;  // it speaks for itself
    if (profiling) {
      current_stream_->synchronize();
      record(step, start - run_start_us_, now_us() - start);
    }
    if (observer) observe(step);
  }
}

void Executor::run_step(const RunStep& step) {
  switch (step.kind) {
    case StepKind::kernel:
      run_kernel(step);
      break;
    case StepKind::dim_values:
      run_dim_values(step);
      break;
    case StepKind::branch:
      run_branch(step);
      break;
    case StepKind::loop:
      run_loop(step);
      break;
    case StepKind::scan:
      run_scan(step);
      break;
    case StepKind::samples:
      run_samples(step);
      break;
  }
}

void Executor::run_kernel(const RunStep& step) {
  current_ = &step;
  if (step.infer_at_run_time) infer_outputs(step);
  if (!step.sets_output_shape) {
    for (const std::int32_t id : step.growable_outputs) make_room(id);
  }
  const std::size_t num_inputs = step.inputs.size();
  for (std::size_t i = 0; i < num_inputs; ++i) {
    operands_[i] = step.inputs[i] < 0 ? TensorView{} : view(step.inputs[i]);
    host_operands_[i] = step.inputs[i] < 0 ? nullptr : host_of_[static_cast<std::size_t>(step.inputs[i])];
    if (host_operands_[i] == nullptr && step.infer_at_run_time)
      host_operands_[i] = states_[static_cast<std::size_t>(step.index)].shape_data[i];
  }
  for (std::size_t i = 0; i < step.outputs.size(); ++i) {
    operands_[num_inputs + i] = step.outputs[i] < 0 ? TensorView{} : view(step.outputs[i]);
  }
  const PlanChoice& choice = step.plan->choices[static_cast<std::size_t>(profile_)];
  Launch launch;
  launch.inputs = {operands_.data(), num_inputs};
  launch.outputs = {operands_.data() + num_inputs, step.outputs.size()};
  launch.workspace = {static_cast<std::byte*>(arena_->data()) + choice.workspace_offset, choice.workspace_bytes};
  launch.stream = current_stream_;
  launch.resize = &resize_;
  launch.next_weights = step.next_weights[static_cast<std::size_t>(profile_)];
  if (!backend_.is_host()) launch.host_inputs = {host_operands_.data(), num_inputs};
  try {
    StepState& state = states_[static_cast<std::size_t>(step.index)];
    if (state.epoch != epoch_) check_shapes(step, launch);
    if (state.workspace_bytes > launch.workspace.size()) launch.workspace = own_workspace(state.workspace_bytes);
    if (choice.on_host) {
      run_on_host(step, launch);
    } else {
      step.kernels[static_cast<std::size_t>(profile_)]->run(launch);
    }
  } catch (const Error& error) {
    throw error.in_context(fmt::format("step '{}' ({})", step.plan->name, step.plan->op_type));
  }
  if (step.sets_output_shape) {
    bind(step.bindings);
    check_dims(step.outputs);
  }
}

std::span<std::byte> Executor::own_workspace(std::size_t bytes) {
  if (!workspace_ || workspace_->size_bytes() < bytes) {
    const std::size_t before = workspace_ ? workspace_->size_bytes() : 0;
    workspace_.reset();
    workspace_ = backend_.allocate(std::max(bytes, before / kGrowDenominator * kGrowNumerator));
  }
  return {static_cast<std::byte*>(workspace_->data()), workspace_->size_bytes()};
}

void Executor::check_shapes(const RunStep& step, const Launch& launch) {
  StepState& state = states_[static_cast<std::size_t>(step.index)];
  state.epoch = epoch_;
  const auto is_as_before = [&] {
    for (std::size_t i = 0; i < step.symbols.size(); ++i) {
      if (state.symbols[i] != symbols_[static_cast<std::size_t>(step.symbols[i])]) return false;
    }
    return true;
  };
  if (state.is_checked && is_as_before()) return;

  for (const std::int32_t id : step.inputs) check_place(id);
  for (const std::int32_t id : step.outputs) check_place(id);
  // The operator's own rule, with numbers: whatever the expressions left open is decided now.
  if (!step.infer_at_run_time && !step.symbols.empty()) {
    std::vector<TensorView> inputs(launch.inputs.begin(), launch.inputs.end());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const bool is_shape_input =
          std::find(step.shape_inputs.begin(), step.shape_inputs.end(), static_cast<int>(i)) != step.shape_inputs.end();
      if (step.has_known_contents[i] == 0 && !is_shape_input) inputs[i].data = nullptr;
      if (!backend_.is_host()) inputs[i].data = const_cast<void*>(launch.host_inputs[i]);  // only read
    }
    try {
      inference_.run(*step.op, inputs, step.wanted);
    } catch (const Error& error) {
      const bool is_about_shapes = error.code() == Code::invalid_model;
      throw Error(is_about_shapes ? Code::invalid_argument : error.code(), error.message());
    }
    for (std::size_t i = 0; i < step.outputs.size(); ++i) {
      if (step.outputs[i] < 0 || step.sets_output_shape) continue;
      const ConcreteInfer::Output& output = inference_.output(static_cast<int>(i));
      const TensorView& tensor = launch.outputs[i];
      const bool agrees = output.dims.size() == tensor.dims.size() &&
                          std::equal(output.dims.begin(), output.dims.end(), tensor.dims.begin(),
                                     [](std::int64_t a, std::int64_t b) { return a < 0 || a == b; });
      require(agrees, Code::incompatible_engine, "output {} has shape [{}], but its shape rule gives [{}]", i,
              fmt::join(tensor.dims, ", "), fmt::join(output.dims, ", "));
    }
  }
  state.workspace_bytes =
      step.kernels[static_cast<std::size_t>(profile_)]->workspace_bytes(launch.inputs, launch.outputs);
  state.is_checked = true;
  state.symbols.clear();
  for (const int slot : step.symbols) state.symbols.push_back(symbols_[static_cast<std::size_t>(slot)]);
}

void Executor::infer_outputs(const RunStep& step) {
  // Shapes that depend on values: the operator's own rule, now with numbers. The same numbers as before give the same
  // shapes, so the rule is asked only when one of them changed.
  StepState& state = states_[static_cast<std::size_t>(step.index)];
  const std::vector<int>& shape_inputs = step.shape_inputs;
  const auto is_shape_input = [&](std::size_t i) {
    return std::find(shape_inputs.begin(), shape_inputs.end(), static_cast<int>(i)) != shape_inputs.end();
  };
  constexpr std::size_t kMaxRemembered = 1024;
  infer_key_.clear();
  state.shape_data.assign(step.inputs.size(), nullptr);
  state.shape_copies.resize(step.inputs.size());
  bool can_remember = true;
  for (std::size_t i = 0; i < step.inputs.size(); ++i) {
    if (step.inputs[i] < 0) continue;
    const TensorView& input = view(step.inputs[i]);
    infer_key_.insert(infer_key_.end(), input.dims.begin(), input.dims.end());
    if (!is_shape_input(i)) continue;
    const std::size_t bytes = bytes_of(step.inputs[i]);
    state.shape_data[i] = host_data(step.inputs[i], state.shape_copies[i]);
    can_remember = can_remember && bytes <= kMaxRemembered;
    if (!can_remember || bytes == 0) continue;
    const std::size_t at = infer_key_.size();
    infer_key_.resize(at + (bytes + sizeof(std::int64_t) - 1) / sizeof(std::int64_t), 0);
    std::memcpy(infer_key_.data() + at, state.shape_data[i], bytes);
  }
  for (const int slot : step.symbols) infer_key_.push_back(symbols_[static_cast<std::size_t>(slot)]);
  const bool is_remembered = can_remember && !state.inferred.empty() && state.inferred_from == infer_key_;
  if (!is_remembered) {
    std::vector<TensorView> inputs;
    for (std::size_t i = 0; i < step.inputs.size(); ++i) {
      inputs.push_back(step.inputs[i] < 0 ? TensorView{} : view(step.inputs[i]));
      if (step.inputs[i] < 0) continue;
      inputs.back().data = is_shape_input(i)
                               ? const_cast<void*>(state.shape_data[i])
                               : (backend_.is_host() && step.has_known_contents[i] != 0
                                      ? inputs.back().data
                                      : const_cast<void*>(host_of_[static_cast<std::size_t>(step.inputs[i])]));
    }
    try {
      inference_.run(*step.op, inputs, step.wanted);
    } catch (const Error& error) {
      throw error.in_context(fmt::format("step '{}' ({})", step.plan->name, step.plan->op_type));
    }
    state.inferred.resize(step.outputs.size());
    for (std::size_t i = 0; i < step.outputs.size(); ++i) {
      if (step.outputs[i] < 0) continue;
      const ConcreteInfer::Output& output = inference_.output(static_cast<int>(i));
      ensure(output.is_known(), "step '{}': the shape of output {} is still not known", step.plan->name, i);
      state.inferred[i] = output.dims;
    }
    state.inferred_from.clear();
    if (can_remember) state.inferred_from = infer_key_;
    if (!can_remember) state.inferred_from.push_back(-1);  // no key is this: sizes are not negative
  }
  for (std::size_t i = 0; i < step.outputs.size(); ++i) {
    if (step.outputs[i] < 0) continue;
    set_dims(step.outputs[i], state.inferred[i]);
    check_place(step.outputs[i]);
  }
  bind(step.bindings);
  check_dims(step.outputs);
}

void Executor::run_dim_values(const RunStep& step) {
  const std::int32_t id = step.outputs[0];
  for (const std::int32_t output : step.growable_outputs) make_room(output);
  const bool narrow = view(id).dtype == DType::int32;
  const std::size_t size = narrow ? sizeof(std::int32_t) : sizeof(std::int64_t);
  const std::size_t bytes = step.elements.size() * size;
  std::byte* data = nullptr;
  if (backend_.is_host()) {
    scratch_.resize(bytes);
    data = scratch_.data();
  } else {
    data = static_cast<std::byte*>(sizes_->data()) + sizes_at_;
    sizes_at_ += step.elements.size() * sizeof(std::int64_t);
  }
  for (std::size_t i = 0; i < step.elements.size(); ++i) {
    const std::int64_t value = step.elements[i].evaluate(symbols_);
    const auto value32 = static_cast<std::int32_t>(value);
    std::memcpy(data + i * size, narrow ? static_cast<const void*>(&value32) : &value, size);
  }
  if (backend_.is_host()) {
    store_from_host(id, data, bytes);
    return;
  }
  host_of_[static_cast<std::size_t>(id)] = data;
  for (const std::int32_t inner : run_value(id).views) update_view(inner);
  backend_.copy_to_device(view(id).data, data, bytes, *current_stream_);
}

void Executor::record(const RunStep& step, double start_us, double duration_us, std::int64_t num_runs) {
  StepTime time;
  time.name = step.plan->name;
  time.origins = step.plan->origins;
  time.op_type = step.plan->op_type;
  if (!step.plan->choices.empty()) time.tactic = step.plan->choices[static_cast<std::size_t>(profile_)].tactic;
  time.start_us = start_us;
  time.duration_us = duration_us;
  std::vector<TensorType> inputs;
  std::vector<TensorType> outputs;
  for (const auto& [ids, types] : {std::pair{&step.inputs, &inputs}, std::pair{&step.outputs, &outputs}}) {
    for (const std::int32_t id : *ids) {
      if (id < 0) {
        types->emplace_back();
        continue;
      }
      const TensorView& tensor = view(id);
      types->push_back({tensor.dtype, std::vector<Dim>(tensor.dims.begin(), tensor.dims.end())});
      time.bytes += static_cast<double>(bytes_of(id));
    }
  }
  time.flops = step.op->flops(inputs, outputs) * static_cast<double>(num_runs);
  time.bytes *= static_cast<double>(num_runs);
  step_times.push_back(std::move(time));
}

void copy_rows(const TensorView& tensor, const void* from, std::byte* to) {
  const std::size_t row =
      static_cast<std::size_t>(tensor.dims.empty() ? 1 : tensor.dims.back()) * size_of(tensor.dtype);
  const std::size_t stride = static_cast<std::size_t>(tensor.pitch) * size_of(tensor.dtype);
  const std::size_t bytes = static_cast<std::size_t>(tensor.num_elements()) * size_of(tensor.dtype);
  for (std::size_t r = 0; row > 0 && r < bytes / row; ++r) {
    std::memcpy(to + r * row, static_cast<const std::byte*>(from) + r * stride, row);
  }
}

void Executor::observe(const RunStep& step) {
  std::vector<std::string> names;
  std::vector<OutputView> outputs;
  std::vector<std::vector<std::byte>> copies(step.outputs.size());
  for (std::size_t i = 0; i < step.outputs.size(); ++i) {
    const std::int32_t id = step.outputs[i];
    if (id < 0) continue;
    const TensorView& tensor = view(id);
    OutputView output;
    output.dtype = tensor.dtype;
    output.dims.assign(tensor.dims.begin(), tensor.dims.end());
    output.size_bytes = bytes_of(id);
    output.data = host_data(id, copies[i]);
    if (!tensor.is_contiguous()) {
      std::vector<std::byte> packed(output.size_bytes);
      copy_rows(tensor, output.data, packed.data());
      copies[i] = std::move(packed);
      output.data = copies[i].data();
    }
    names.push_back(plan_value(id).name);
    outputs.push_back(std::move(output));
  }
  observer(step.plan->name, names, outputs);
}

}  // namespace tenfold
