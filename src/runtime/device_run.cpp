// Runs on a device: operands that lie in its memory are used in place, others are staged; a network whose work depends
// on nothing but its input shapes is recorded once for each set of shapes and addresses, and replayed.
#include <algorithm>
#include <cstring>

#include "runtime/executor.hpp"

namespace tenfold {
namespace {

/// Shapes and addresses in use at the same time. Each recording takes memory of the driver.
constexpr std::size_t kMaxRecordings = 16;

void grow(std::unique_ptr<Buffer>& buffer, std::size_t bytes,
          const std::function<std::unique_ptr<Buffer>(std::size_t)>& make) {
  if (buffer && buffer->size_bytes() >= bytes) return;
  buffer.reset();
  buffer = make(std::max<std::size_t>(bytes, 64));
}

}  // namespace

void Executor::enqueue(Stream* stream) {
  if (backend_.is_host()) {
    run();
    return;
  }
  current_stream_ = stream != nullptr ? stream : stream_.get();
  try {
    check_inputs();
    iterations_left_ = max_loop_iterations_;
    bind_device_inputs(false);
    run_on_device();
    copy_outputs_to_host(false);
  } catch (...) {
    current_stream_ = stream_.get();
    std::fill(symbols_.begin(), symbols_.end(), -1);
    for (StepState& state : states_) state.is_checked = false;
    must_bind_ = true;
    has_run_ = false;
    throw;
  }
  current_stream_ = stream_.get();
  has_run_ = true;
}

bool Executor::can_use_in_place(const void* address) const {
  if (backend_.is_host()) return true;
  const auto alignment = static_cast<std::uintptr_t>(backend_.operand_alignment());
  return reinterpret_cast<std::uintptr_t>(address) % alignment == 0 && backend_.is_device_address(address);
}

void Executor::bind_device_inputs(bool waits) {
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const std::int32_t id = program_->plan().inputs[i];
    InputState& input = inputs_[i];
    if (can_use_in_place(input.data)) {
      auto* data = const_cast<void*>(input.data);  // kernels only read inputs
      if (view(id).data != data) place(id, data);
      continue;
    }
    const std::size_t bytes = bytes_of(id);
    grow(input.staging, bytes, [this](std::size_t size) { return backend_.allocate(size); });
    if (view(id).data != input.staging->data()) place(id, input.staging->data());
    if (bytes == 0) continue;
    if (backend_.is_device_address(input.data)) {
      backend_.copy_on_device(input.staging->data(), input.data, bytes, *current_stream_);
      continue;
    }
    const void* from = input.data;
    if (waits) {
      // The run ends before `run` returns, so nobody reads the pinned block when it is written again.
      grow(input.pinned, bytes, [this](std::size_t size) { return backend_.allocate_staging(size); });
      std::memcpy(input.pinned->data(), input.data, bytes);
      from = input.pinned->data();
    }
    backend_.copy_to_device(input.staging->data(), from, bytes, *current_stream_);
  }
}

void Executor::bind_device_outputs() {
  for (const std::int32_t id : program_->plan().outputs) make_room(id);
}

void Executor::copy_outputs_to_host(bool waits) {
  struct Copy {
    void* to;
    const void* from;
    std::size_t bytes;
  };
  std::vector<Copy> copies;
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    const std::int32_t id = program_->plan().outputs[i];
    OutputState& output = outputs_[i];
    const std::size_t bytes = bytes_of(id);
    if (output.user_data != nullptr) {
      require(bytes <= output.user_capacity, Code::invalid_argument,
              "output '{}' needs {} bytes, but the buffer given has {}", plan_value(id).name, bytes,
              output.user_capacity);
      if (view(id).data == output.user_data || bytes == 0) continue;
      if (backend_.is_device_address(output.user_data)) {
        backend_.copy_on_device(output.user_data, view(id).data, bytes, *current_stream_);
        continue;
      }
      if (!waits) {
        backend_.copy_to_host(output.user_data, view(id).data, bytes, *current_stream_);
        continue;
      }
    }
    grow(output.host_copy, bytes, [this](std::size_t size) { return backend_.allocate_staging(size); });
    backend_.copy_to_host(output.host_copy->data(), view(id).data, bytes, *current_stream_);
    if (output.user_data != nullptr) copies.push_back({output.user_data, output.host_copy->data(), bytes});
  }
  if (!waits) return;
  current_stream_->synchronize();
  for (const Copy& copy : copies) std::memcpy(copy.to, copy.from, copy.bytes);
}

void Executor::run_on_device() {
  if (!program_->is_repeatable() || observer) {
    sizes_at_ = 0;
    current_stream_->synchronize();  // an earlier run may still read the sizes that this one writes
    run_steps(program_->steps());
    return;
  }
  bind_device_outputs();
  if (profiling) profile_on_device();
  replay_or_record();
}

/// Steps that are seen the first time with some shapes and addresses are enqueued one by one, the second time they are
/// recorded: who gives other addresses each time pays for no recording.
void Executor::replay_or_record() {
  const Plan& plan = program_->plan();
  recording_key_.assign(symbols_.begin(), symbols_.end());
  for (const auto* list : {&plan.inputs, &plan.outputs}) {
    for (const std::int32_t id : *list) {
      recording_key_.push_back(static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(view(id).data)));
    }
  }
  ++num_runs_;
  for (Recording& recording : recordings_) {
    if (recording.key != recording_key_) continue;
    recording.last_use = num_runs_;
    recording.graph->replay(*current_stream_);
    return;
  }
  if (last_key_ == recording_key_) {
    Recording recording;
    recording.key = recording_key_;
    recording.sizes = backend_.allocate_staging(sizes_->size_bytes());
    std::swap(recording.sizes, sizes_);  // the recorded copies read a block of their own
    recording.graph = record_run();
    std::swap(recording.sizes, sizes_);
    if (recording.graph != nullptr) {
      if (recordings_.size() >= kMaxRecordings) {
        current_stream_->synchronize();  // the one that goes may still run
        recordings_.erase(std::min_element(recordings_.begin(), recordings_.end(),
                                           [](const auto& a, const auto& b) { return a.last_use < b.last_use; }));
      }
      recording.last_use = num_runs_;
      recording.graph->replay(*current_stream_);
      recordings_.push_back(std::move(recording));
      return;
    }
  }
  last_key_ = recording_key_;
  sizes_at_ = 0;
  current_stream_->synchronize();
  const bool was_profiling = std::exchange(profiling, false);
  run_steps(program_->steps());
  profiling = was_profiling;
}

std::unique_ptr<CapturedGraph> Executor::record_run() {
  // On the own stream: a caller's may be one that cannot record.
  Stream* const stream = std::exchange(current_stream_, stream_.get());
  const bool was_profiling = std::exchange(profiling, false);
  sizes_at_ = 0;
  std::unique_ptr<CapturedGraph> graph;
  try {
    graph = backend_.capture(*current_stream_, [this] { run_steps(program_->steps()); });
  } catch (...) {
    current_stream_ = stream;
    profiling = was_profiling;
    throw;
  }
  current_stream_ = stream;
  profiling = was_profiling;
  return graph;
}

/// What each step takes alone: the median over replays of a recording of several runs of it. Its operands may lie in
/// the cache, and in-place results go astray, so the caller runs the network again afterwards.
void Executor::profile_on_device() {
  constexpr int kRunsPerReplay = 8;
  constexpr std::size_t kReplays = 5;
  const bool was_profiling = std::exchange(profiling, false);
  double start = 0;
  sizes_at_ = 0;
  for (const RunStep& step : program_->steps()) {
    if (step.kind != StepKind::kernel) {
      run_step(step);
      continue;
    }
    run_step(step);
    const auto graph = backend_.capture(*current_stream_, [&] {
      for (int i = 0; i < kRunsPerReplay; ++i) run_step(step);
    });
    std::vector<double> times;
    for (std::size_t i = 0; i < kReplays; ++i) times.push_back(graph->replay_timed(*current_stream_) / kRunsPerReplay);
    std::nth_element(times.begin(), times.begin() + kReplays / 2, times.end());
    record(step, start, times[kReplays / 2]);
    start += times[kReplays / 2];
  }
  profiling = was_profiling;
}

/// A step without a kernel for the device, which the caller allowed to run on the host.
void Executor::run_on_host(const RunStep& step, const Launch& launch) {
  std::vector<std::vector<std::byte>> copies(launch.inputs.size() + launch.outputs.size());
  std::vector<TensorView> inputs(launch.inputs.begin(), launch.inputs.end());
  std::vector<TensorView> outputs(launch.outputs.begin(), launch.outputs.end());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].data == nullptr) continue;  // omitted, or in the packed weights
    if (const void* known = launch.host_inputs[i]) {
      inputs[i].data = const_cast<void*>(known);  // only read
      continue;
    }
    copies[i].resize(static_cast<std::size_t>(inputs[i].num_elements()) * size_of(inputs[i].dtype) + 64);
    backend_.copy_to_host(copies[i].data(), inputs[i].data, copies[i].size() - 64, *current_stream_);
    inputs[i].data = copies[i].data();
  }
  current_stream_->synchronize();
  const auto make_output = [&](std::size_t i) {
    std::vector<std::byte>& copy = copies[inputs.size() + i];
    copy.resize(static_cast<std::size_t>(outputs[i].num_elements()) * size_of(outputs[i].dtype) + 64);
    outputs[i].data = copy.data();
  };
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].dtype != DType::undefined) make_output(i);
  }
  std::function<const TensorView&(int, const Shape&)> resize = [&](int index, const Shape& dims) -> const TensorView& {
    const TensorView& device = (*launch.resize)(index, dims);
    const auto i = static_cast<std::size_t>(index);
    outputs[i] = device;
    make_output(i);
    return outputs[i];
  };
  const Kernel& kernel = *step.kernels[static_cast<std::size_t>(profile_)];
  const std::unique_ptr<Stream> stream = cpu_backend().make_stream({});
  const std::unique_ptr<Buffer> workspace = cpu_backend().allocate(kernel.workspace_bytes(inputs, outputs));
  Launch host;
  host.inputs = inputs;
  host.outputs = outputs;
  host.workspace = {static_cast<std::byte*>(workspace->data()), workspace->size_bytes()};
  host.stream = stream.get();
  host.resize = &resize;
  kernel.run(host);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].dtype == DType::undefined) continue;
    const std::int32_t id = step.outputs[i];
    backend_.copy_to_device(view(id).data, outputs[i].data,
                            static_cast<std::size_t>(outputs[i].num_elements()) * size_of(outputs[i].dtype),
                            *current_stream_);
  }
  current_stream_->synchronize();
}

}  // namespace tenfold
