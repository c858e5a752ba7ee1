// If, Loop and Scan: the runtime runs their blocks. Values captured from outside need nothing; carried values are
// copied from a block's outputs to its inputs between iterations; elements of scan outputs are collected.
#include "ops/control_flow.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "runtime/executor.hpp"

namespace tenfold {
namespace {

/// A loop must not fill all memory before its iterations run out.
constexpr std::size_t kMaxStackedBytes = std::size_t{1} << 36;

/// Any byte other than 0 is true.
bool read_bool(const void* data) { return *static_cast<const unsigned char*>(data) != 0; }

}  // namespace

void Executor::count_iterations(const RunStep& step, std::int64_t count) {
  require(count <= iterations_left_, Code::invalid_model,
          "step '{}' ({}): the loops of this run took more than {} iterations; LoadOptions::max_loop_iterations allows "
          "more",
          step.plan->name, step.plan->op_type, max_loop_iterations_);
  iterations_left_ -= count;
}

void Executor::run_branch(const RunStep& step) {
  const bool taken = read_bool(host_data(step.inputs[0], scratch_));
  const RunBlock& block = step.blocks[taken ? 0 : 1];
  run_steps(block.steps);
  for (std::size_t i = 0; i < step.outputs.size(); ++i) {
    if (step.outputs[i] < 0) continue;
    set_dims(step.outputs[i], view(block.outputs[i]).dims);
    make_room(step.outputs[i]);
    copy_value(block.outputs[i], step.outputs[i]);
  }
  bind(step.bindings);
  check_dims(step.outputs);
}

void Executor::fill_block_input(std::int32_t target, std::int32_t source) {
  set_dims(target, view(source).dims);
  make_room(target);
  copy_value(source, target);
}

void Executor::append(Accumulator& accumulator, std::int32_t value) {
  const TensorView& tensor = view(value);
  if (accumulator.count == 0) {
    accumulator.element.assign(tensor.dims.begin(), tensor.dims.end());
    accumulator.bytes.clear();
  }
  require(std::equal(tensor.dims.begin(), tensor.dims.end(), accumulator.element.begin(), accumulator.element.end()),
          Code::invalid_model, "scan output '{}' has shape [{}] in iteration {}, but [{}] before",
          plan_value(value).name, fmt::join(tensor.dims, ", "), accumulator.count,
          fmt::join(accumulator.element, ", "));
  const auto* data = static_cast<const std::byte*>(host_data(value, scratch_));
  require(accumulator.bytes.size() + bytes_of(value) <= kMaxStackedBytes, Code::out_of_memory,
          "the scan output stacked from '{}' has more than {} bytes", plan_value(value).name, kMaxStackedBytes);
  accumulator.bytes.insert(accumulator.bytes.end(), data, data + bytes_of(value));
  ++accumulator.count;
}

void Executor::finish_scan_output(const Accumulator& accumulator, std::int32_t output, std::int64_t axis,
                                  bool reversed) {
  if (output < 0) return;
  Shape dims;
  if (accumulator.count > 0) {
    dims = accumulator.element;
    dims.insert(dims.begin() + axis, accumulator.count);
  } else {
    dims.assign(dims_of(output).begin(), dims_of(output).end());
    dims.at(static_cast<std::size_t>(axis)) = 0;
  }
  set_dims(output, dims);
  make_room(output);
  if (accumulator.bytes.empty()) return;
  if (axis == 0 && !reversed) {
    store_from_host(output, accumulator.bytes.data(), accumulator.bytes.size());
    return;
  }
  // Element i goes to index i along `axis`, counted from the end if reversed.
  const std::size_t element_size = size_of(plan_value(output).type.dtype);
  std::size_t outer = 1;
  std::size_t inner = element_size;
  for (std::size_t i = 0; i < accumulator.element.size(); ++i) {
    (static_cast<std::int64_t>(i) < axis ? outer : inner) *= static_cast<std::size_t>(accumulator.element[i]);
  }
  std::vector<std::byte> stacked(accumulator.bytes.size());
  const auto count = static_cast<std::size_t>(accumulator.count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t place = reversed ? count - 1 - i : i;
    for (std::size_t o = 0; o < outer; ++o) {
      std::memcpy(stacked.data() + (o * count + place) * inner, accumulator.bytes.data() + (i * outer + o) * inner,
                  inner);
    }
  }
  store_from_host(output, stacked.data(), stacked.size());
}

void Executor::carry_over(const RunBlock& block, std::size_t first_output, std::size_t first_input, std::size_t count,
                          LoopState& state) {
  // All values leave before the first one enters: a body may swap what it carries.
  state.carried.resize(count);
  state.carried_dims.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t from = block.outputs[first_output + i];
    if (from == block.inputs[first_input + i]) continue;
    const auto* data = static_cast<const std::byte*>(host_data(from, scratch_));
    state.carried[i].assign(data, data + bytes_of(from));
    state.carried_dims[i].assign(view(from).dims.begin(), view(from).dims.end());
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t to = block.inputs[first_input + i];
    if (block.outputs[first_output + i] == to) continue;
    set_dims(to, state.carried_dims[i]);
    make_room(to);
    store_from_host(to, state.carried[i].data(), state.carried[i].size());
  }
}

void Executor::run_loop(const RunStep& step) {
  const auto& loop = static_cast<const Loop&>(*step.op);
  const RunBlock& body = step.blocks[0];
  LoopState& state = loops_[static_cast<std::size_t>(step.index)];
  const auto num_carried = static_cast<std::size_t>(loop.num_carried());
  state.accumulators.resize(step.outputs.size() - num_carried);
  for (Accumulator& accumulator : state.accumulators) {
    accumulator.count = 0;
    accumulator.bytes.clear();
  }
  std::int64_t trips = std::numeric_limits<std::int64_t>::max();
  if (step.inputs[0] >= 0) std::memcpy(&trips, host_data(step.inputs[0], scratch_), sizeof trips);
  bool go_on = true;
  if (step.inputs[1] >= 0) go_on = read_bool(host_data(step.inputs[1], scratch_));
  for (std::size_t i = 0; i < num_carried; ++i) fill_block_input(body.inputs[2 + i], step.inputs[2 + i]);

  for (std::int64_t iteration = 0; iteration < trips && go_on; ++iteration) {
    count_iterations(step, 1);
    bind(body.bindings);
    check_dims(body.inputs);
    make_room(body.inputs[0]);
    make_room(body.inputs[1]);
    store_from_host(body.inputs[0], &iteration, sizeof iteration);
    store_from_host(body.inputs[1], &go_on, sizeof go_on);
    run_steps(body.steps);
    go_on = read_bool(host_data(body.outputs[0], scratch_));
    for (std::size_t i = 0; i < state.accumulators.size(); ++i) {
      append(state.accumulators[i], body.outputs[1 + num_carried + i]);
    }
    carry_over(body, 1, 2, num_carried, state);
  }
  for (std::size_t i = 0; i < num_carried; ++i) {
    if (step.outputs[i] >= 0) fill_block_input(step.outputs[i], body.inputs[2 + i]);
  }
  for (std::size_t i = 0; i < state.accumulators.size(); ++i) {
    finish_scan_output(state.accumulators[i], step.outputs[num_carried + i], 0, false);
  }
  bind(step.bindings);
  check_dims(step.outputs);
}

void Executor::run_scan(const RunStep& step) {
  const Scan::Spec& spec = static_cast<const Scan&>(*step.op).spec();
  const RunBlock& body = step.blocks[0];
  LoopState& state = loops_[static_cast<std::size_t>(step.index)];
  const auto num_carried = static_cast<std::size_t>(spec.num_carried);
  const std::size_t num_scanned = spec.input_axes.size();
  state.accumulators.resize(step.outputs.size() - num_carried);
  for (Accumulator& accumulator : state.accumulators) {
    accumulator.count = 0;
    accumulator.bytes.clear();
  }
  std::int64_t trips = 0;
  for (std::size_t i = 0; i < num_scanned; ++i) {
    const TensorView& scanned = view(step.inputs[num_carried + i]);
    const std::int64_t length =
        scanned.dim(static_cast<int>(spec.input_axes[i] + (spec.input_axes[i] < 0 ? scanned.rank() : 0)));
    require(i == 0 || length == trips, Code::invalid_argument, "step '{}': scanned inputs have {} and {} elements",
            step.plan->name, trips, length);
    trips = length;
  }
  for (std::size_t i = 0; i < num_carried; ++i) fill_block_input(body.inputs[i], step.inputs[i]);

  std::vector<std::byte> slice;
  for (std::int64_t iteration = 0; iteration < trips; ++iteration) {
    for (std::size_t i = 0; i < num_scanned; ++i) {
      const TensorView& scanned = view(step.inputs[num_carried + i]);
      const std::int64_t axis = spec.input_axes[i] + (spec.input_axes[i] < 0 ? scanned.rank() : 0);
      const std::int64_t place = spec.input_directions[i] == 1 ? trips - 1 - iteration : iteration;
      Shape dims(scanned.dims.begin(), scanned.dims.end());
      dims.erase(dims.begin() + axis);
      std::int64_t outer = 1;
      auto inner = static_cast<std::int64_t>(size_of(scanned.dtype));
      for (std::int64_t a = 0; a < scanned.rank(); ++a) {
        if (a != axis) (a < axis ? outer : inner) *= scanned.dim(static_cast<int>(a));
      }
      const auto* data = static_cast<const std::byte*>(host_data(step.inputs[num_carried + i], scratch_));
      slice.resize(static_cast<std::size_t>(outer * inner));
      for (std::int64_t o = 0; o < outer && inner > 0; ++o) {
        std::memcpy(slice.data() + o * inner, data + (o * trips + place) * inner, static_cast<std::size_t>(inner));
      }
      const std::int32_t target = body.inputs[num_carried + i];
      set_dims(target, dims);
      make_room(target);
      store_from_host(target, slice.data(), slice.size());
    }
    count_iterations(step, 1);
    bind(body.bindings);
    check_dims(body.inputs);
    run_steps(body.steps);
    for (std::size_t i = 0; i < state.accumulators.size(); ++i)
      append(state.accumulators[i], body.outputs[num_carried + i]);
    carry_over(body, 0, 0, num_carried, state);
  }
  for (std::size_t i = 0; i < num_carried; ++i) {
    if (step.outputs[i] >= 0) fill_block_input(step.outputs[i], body.inputs[i]);
  }
  for (std::size_t i = 0; i < state.accumulators.size(); ++i) {
    const std::int32_t output = step.outputs[num_carried + i];
    if (output < 0) continue;
    const std::int64_t axis = spec.output_axes[i] + (spec.output_axes[i] < 0 ? view(output).rank() : 0);
    finish_scan_output(state.accumulators[i], output, axis, spec.output_directions[i] == 1);
  }
  bind(step.bindings);
  check_dims(step.outputs);
}

}  // namespace tenfold
