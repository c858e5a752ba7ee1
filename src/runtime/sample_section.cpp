// Sample sections: every thread takes the next sample and runs the block's steps on it, in memory of its own and with a
// stream of its own, without waiting for the others. What is left of the batch when there are fewer samples than would
// keep more than half of the threads busy is computed by all threads together, step by step.
//
// Shapes are those of one sample, so they are checked once and hold for all. Where an operand lies is a sum: base +
// sample * stride for what is a slice of a whole, base + lane * stride for what lives in the section.
#include <algorithm>
#include <cstring>

#include "runtime/executor.hpp"

namespace tenfold {

void Executor::make_lanes() {
  bool has_section = false;
  std::size_t num_operands = 0, num_steps = 0, widest = 0;
  for (const RunStep& section : program_->steps()) {
    if (section.kind != StepKind::samples) continue;
    has_section = true;
    num_operands = std::max(num_operands, section.sample_operands.size());
    num_steps = std::max(num_steps, section.blocks[0].steps.size());
    for (const RunStep& step : section.blocks[0].steps) {
      widest = std::max(widest, step.inputs.size() + step.outputs.size());
    }
  }
  if (!has_section) return;
  sample_views_.resize(num_operands);
  lanes_.resize(static_cast<std::size_t>(stream_->num_threads()));
  for (Lane& lane : lanes_) {
    lane.operands.resize(widest);
    lane.step_us.resize(num_steps);
    lane_streams_.push_back(stream_->make_lane());
    ensure(lane_streams_.back() != nullptr, "the backend '{}' has no lanes for a sample section", backend_.name());
  }
}

// A plan with fewer lanes than it has threads has no use for more: its batches are smaller.
std::size_t Executor::num_lanes(const SampleSection& planned) const {
  const auto lanes = static_cast<std::size_t>(planned.num_lanes);
  const bool may_grow = planned.lane_bytes == 0 || planned.num_lanes >= program_->plan().num_threads;
  return may_grow ? lanes_.size() : std::min(lanes, lanes_.size());
}

void Executor::place_lanes() {
  std::uint64_t most = 0;
  for (const RunStep& section : program_->steps()) {
    if (section.kind != StepKind::samples) continue;
    const SampleSection planned = SampleSection::of(section.plan->choices[static_cast<std::size_t>(profile_)]);
    const std::size_t lanes = num_lanes(planned);
    if (lanes > static_cast<std::size_t>(planned.num_lanes)) most = std::max(most, planned.lane_bytes * lanes);
  }
  if (most == 0 || (lane_memory_ && lane_memory_->size_bytes() >= most)) return;
  lane_memory_.reset();
  lane_memory_ = backend_.allocate(most);
}

std::byte* Executor::lane_data(const SampleSection& planned) {
  const bool fits = planned.lane_bytes == 0 || num_lanes(planned) <= static_cast<std::size_t>(planned.num_lanes);
  return fits ? static_cast<std::byte*>(arena_->data()) + planned.offset
              : static_cast<std::byte*>(lane_memory_->data());
}

void Executor::prepare_samples(const RunStep& step, std::int64_t num_samples) {
  const SampleSection lanes = SampleSection::of(step.plan->choices[static_cast<std::size_t>(profile_)]);
  const std::byte* planned = static_cast<std::byte*>(arena_->data()) + lanes.offset;
  std::byte* memory = lane_data(lanes);
  const RunBlock& block = step.blocks[0];
  for (const std::vector<std::int32_t>* list : {&block.inputs, &block.outputs}) {
    for (const std::int32_t slice : *list) {
      check_place(slice);
      void* data = view(plan_value(slice).view_of).data;
      if (view(slice).data != data) place(slice, data);
    }
  }
  for (std::size_t i = 0; i < step.sample_operands.size(); ++i) {
    const SampleOperand& operand = step.sample_operands[i];
    SampleView& prepared = sample_views_[i];
    prepared = {};
    if (operand.value < 0) continue;
    prepared.view = view(operand.value);
    if (operand.slice >= 0) prepared.sample_stride = bytes_of(operand.slice);
    if (operand.in_lane) {
      prepared.lane_stride = lanes.lane_bytes;
      prepared.view.data = memory + (static_cast<const std::byte*>(prepared.view.data) - planned);
    }
  }
  // Once for all samples: shapes, places, and that there is enough scratch memory.
  if (num_samples == 0) return;
  std::size_t first = 0;
  for (const RunStep& inner : block.steps) {
    Launch launch;
    const std::size_t count = inner.inputs.size() + inner.outputs.size();
    Lane& lane = lanes_[0];
    for (std::size_t i = 0; i < count; ++i) lane.operands[i] = sample_views_[first + i].view;
    first += count;
    launch.inputs = {lane.operands.data(), inner.inputs.size()};
    launch.outputs = {lane.operands.data() + inner.inputs.size(), inner.outputs.size()};
    StepState& state = states_[static_cast<std::size_t>(inner.index)];
    if (state.epoch == epoch_) continue;
    try {
      check_shapes(inner, launch);
      const std::uint64_t room = inner.plan->choices[static_cast<std::size_t>(profile_)].workspace_bytes;
      if (state.workspace_bytes > room) {
        throw Error(
            Code::incompatible_engine,
            fmt::format("it needs {} bytes of scratch memory in a lane, which has {}", state.workspace_bytes, room));
      }
    } catch (const Error& error) {
      throw error.in_context(fmt::format("step '{}' ({})", inner.plan->name, inner.plan->op_type));
    }
  }
}

std::span<const TensorView> Executor::run_sample_step(const RunStep& section, const RunStep& step,
                                                      const SampleView* operands, std::int64_t sample, std::size_t lane,
                                                      Stream& stream) {
  const auto profile = static_cast<std::size_t>(profile_);
  Lane& own = lanes_[lane];
  const std::size_t num_inputs = step.inputs.size();
  for (std::size_t i = 0; i < num_inputs + step.outputs.size(); ++i) {
    own.operands[i] = operands[i].view;
    if (operands[i].view.data == nullptr) continue;
    own.operands[i].data = static_cast<std::byte*>(operands[i].view.data) +
                           static_cast<std::size_t>(sample) * operands[i].sample_stride +
                           lane * operands[i].lane_stride;
  }
  const PlanChoice& choice = step.plan->choices[profile];
  Launch launch;
  launch.inputs = {own.operands.data(), num_inputs};
  launch.outputs = {own.operands.data() + num_inputs, step.outputs.size()};
  if (choice.workspace_bytes > 0) {
    const SampleSection planned = SampleSection::of(section.plan->choices[profile]);
    launch.workspace = {lane_data(planned) + lane * planned.lane_bytes + (choice.workspace_offset - planned.offset),
                        choice.workspace_bytes};
  }
  launch.stream = &stream;
  try {
    step.kernels[profile]->run(launch);
  } catch (const Error& error) {
    throw error.in_context(fmt::format("step '{}' ({}), sample {}", step.plan->name, step.plan->op_type, sample));
  }
  return launch.outputs;
}

void Executor::run_sample(const RunStep& section, std::int64_t sample, std::size_t lane, Stream& stream) {
  const SampleView* operands = sample_views_.data();
  const std::vector<RunStep>& steps = section.blocks[0].steps;
  for (std::size_t s = 0; s < steps.size(); ++s) {
    const double start = profiling ? now_us() : 0;
    run_sample_step(section, steps[s], operands, sample, lane, stream);
    if (profiling) lanes_[lane].step_us[s] += now_us() - start;
    operands += steps[s].inputs.size() + steps[s].outputs.size();
  }
}

void Executor::run_in_lane(const RunStep& step, std::atomic<std::int64_t>& next, std::int64_t end, std::size_t lane) {
  Lane& own = lanes_[lane];
  for (;;) {
    const std::int64_t sample = next.fetch_add(1, std::memory_order_relaxed);
    if (sample >= end) return;
    try {
      run_sample(step, sample, lane, *lane_streams_[lane]);
    } catch (...) {
      own.error = std::current_exception();
      own.failed_sample = sample;
      next.store(end, std::memory_order_relaxed);  // the others need not begin another one
      return;
    }
  }
}

void Executor::run_samples(const RunStep& step) {
  const double start = profiling ? now_us() : 0;
  for (const std::int32_t id : step.growable_outputs) make_room(id);
  const std::int64_t num_samples = view(step.inputs[0]).dim(0);
  count_iterations(step, num_samples);  // samples may be of no size, and any number of them
  prepare_samples(step, num_samples);
  if (num_samples == 0) return;
  if (observer) {
    observe_samples(step, num_samples);
    return;
  }
  for (Lane& lane : lanes_) {
    lane.error = nullptr;
    if (profiling) std::fill(lane.step_us.begin(), lane.step_us.end(), 0.0);
  }
  const auto num_threads = static_cast<std::int64_t>(lanes_.size());
  std::int64_t together = num_samples % num_threads;
  if (2 * together > num_threads || num_threads == 1) together = 0;
  const std::int64_t in_lanes = num_samples - together;
  if (in_lanes > 0) {
    struct Work {
      Executor& executor;
      const RunStep& step;
      std::int64_t end;
      std::atomic<std::int64_t> next{0};
    } work{*this, step, in_lanes};
    const SampleSection planned = SampleSection::of(step.plan->choices[static_cast<std::size_t>(profile_)]);
    const std::size_t lanes = std::min(num_lanes(planned), static_cast<std::size_t>(in_lanes));
    current_stream_->run_lanes(std::span(lane_streams_).first(lanes), [&work](int lane) {
      work.executor.run_in_lane(work.step, work.next, work.end, static_cast<std::size_t>(lane));
    });
    const Lane* failed = nullptr;
    for (const Lane& lane : lanes_) {
      if (lane.error && (failed == nullptr || lane.failed_sample < failed->failed_sample)) failed = &lane;
    }
    if (failed != nullptr) std::rethrow_exception(failed->error);
  }
  for (std::int64_t sample = in_lanes; sample < num_samples; ++sample) run_sample(step, sample, 0, *current_stream_);
  if (profiling) record_samples(step, num_samples, start - run_start_us_, now_us() - start);
}

void Executor::record_samples(const RunStep& step, std::int64_t num_samples, double start_us, double duration_us) {
  // A step's part of the time that passes: threads work side by side, so their times are scaled to add up to no more
  // than the section took. What is left is waiting, and the section's own.
  const std::vector<RunStep>& steps = step.blocks[0].steps;
  std::vector<double> busy(steps.size(), 0.0);
  double sum = 0;
  double longest = 0;
  for (const Lane& lane : lanes_) {
    double lane_us = 0;
    for (std::size_t s = 0; s < steps.size(); ++s) {
      busy[s] += lane.step_us[s];
      lane_us += lane.step_us[s];
    }
    sum += lane_us;
    longest = std::max(longest, lane_us);
  }
  const double scale = sum > 0 ? longest / sum : 0;
  double at = start_us;
  for (std::size_t s = 0; s < steps.size(); ++s) {
    record(steps[s], at, busy[s] * scale, num_samples);
    at += busy[s] * scale;
  }
  record(step, at, std::max(0.0, start_us + duration_us - at));
  step_times.back().flops = 0;
  step_times.back().bytes = 0;
}

void Executor::observe_samples(const RunStep& step, std::int64_t num_samples) {
  // One sample after the other; the observer then gets every step's results for the whole batch.
  const std::vector<RunStep>& steps = step.blocks[0].steps;
  std::vector<std::vector<std::byte>> wholes;
  for (const RunStep& inner : steps) {
    for (const std::int32_t id : inner.outputs) {
      wholes.emplace_back(id < 0 ? 0 : bytes_of(id) * static_cast<std::size_t>(num_samples));
    }
  }
  for (std::int64_t sample = 0; sample < num_samples; ++sample) {
    const SampleView* operands = sample_views_.data();
    std::size_t whole = 0;
    for (const RunStep& inner : steps) {
      const auto outputs = run_sample_step(step, inner, operands, sample, 0, *current_stream_);
      for (std::size_t i = 0; i < outputs.size(); ++i, ++whole) {
        if (inner.outputs[i] < 0) continue;
        copy_rows(outputs[i], outputs[i].data,
                  wholes[whole].data() + static_cast<std::size_t>(sample) * bytes_of(inner.outputs[i]));
      }
      operands += inner.inputs.size() + inner.outputs.size();
    }
  }
  std::size_t whole = 0;
  for (const RunStep& inner : steps) {
    std::vector<std::string> names;
    std::vector<OutputView> outputs;
    for (const std::int32_t id : inner.outputs) {
      const std::vector<std::byte>& bytes = wholes[whole++];
      if (id < 0) continue;
      const TensorView& tensor = view(id);
      OutputView output;
      output.dtype = tensor.dtype;
      output.dims.assign(tensor.dims.begin(), tensor.dims.end());
      if (output.dims.empty()) output.dims.push_back(1);
      output.dims[0] *= num_samples;
      output.size_bytes = bytes.size();
      output.data = bytes.data();
      names.push_back(plan_value(id).name);
      outputs.push_back(std::move(output));
    }
    observer(inner.plan->name, names, outputs);
  }
}

}  // namespace tenfold
