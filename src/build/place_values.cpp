#include "build/place_values.hpp"

#include <algorithm>
#include <functional>
#include <limits>

#include "build/memory_plan.hpp"

namespace tenfold {
namespace {

constexpr std::uint64_t kAlignment = 64;

/// By value: from the first step that writes it to the last that reads it, both through views; first > last: never.
struct Span {
  std::int32_t first = std::numeric_limits<std::int32_t>::max();
  std::int32_t last = -1;
  void include(std::int32_t step) {
    first = std::min(first, step);
    last = std::max(last, step);
  }
};
std::vector<Span> live_spans(Plan& plan, int& num_steps) {
  std::vector<Span> spans(plan.values.size());
  const auto touch = [&](std::int32_t value, std::int32_t step) {
    if (value < 0) return;
    const PlanValue& entry = plan.values[static_cast<std::size_t>(value)];
    spans[static_cast<std::size_t>(entry.storage == Storage::view ? entry.view_of : value)].include(step);
  };
  int next = 0;
  const std::function<void(std::vector<PlanStep>&)> walk = [&](std::vector<PlanStep>& steps) {
    for (PlanStep& step : steps) {
      const int begin = next++;
      for (PlanBlock& block : step.blocks) {
        for (const std::int32_t value : block.inputs) touch(value, begin);
        walk(block.steps);
      }
      // After its blocks a step is not over until their results are copied out. Operands and results of a step with
      // blocks are alive all the while: a body reads what it captured in every pass.
      const int end = step.blocks.empty() ? begin : next++;
      for (const PlanBlock& block : step.blocks) {
        for (const std::int32_t value : block.inputs) touch(value, end);
        for (const std::int32_t value : block.outputs) touch(value, end);
      }
      for (const std::vector<std::int32_t>* list : {&step.inputs, &step.outputs}) {
        for (const std::int32_t value : *list) {
          touch(value, begin);
          touch(value, end);
        }
      }
    }
  };
  walk(plan.steps);
  num_steps = next;
  return spans;
}

}  // namespace

void pack_weights(LoweredPlan& lowered, std::span<const StepChoices> step_choices, WeightSection& section) {
  Plan& plan = lowered.plan;
  std::size_t bytes = 0;
  for (const StepChoices& choices : step_choices) {
    for (const Choice& choice : choices) bytes += choice.weights->size_bytes();
  }
  section.reserve(bytes);
  std::vector<bool> plain(plan.values.size(), false);
  const auto need = [&](std::int32_t value) {
    if (value < 0) return;
    const PlanValue& entry = plan.values[static_cast<std::size_t>(value)];
    plain[static_cast<std::size_t>(entry.storage == Storage::view ? entry.view_of : value)] = true;
  };
  for_each_step(plan.steps, [&](PlanStep& step, int index) {
    const StepChoices& choices = step_choices[static_cast<std::size_t>(index)];
    for (std::size_t i = 0; i < step.inputs.size(); ++i) {
      const bool packed = !choices.empty() && std::all_of(choices.begin(), choices.end(), [&](const Choice& choice) {
        const std::vector<int>& consumed = choice.weights->consumed_inputs;
        return std::find(consumed.begin(), consumed.end(), static_cast<int>(i)) != consumed.end();
      });
      if (!packed) need(step.inputs[i]);
    }
    for (const PlanBlock& block : step.blocks) {
      for (const std::int32_t output : block.outputs) need(output);
    }
    for (const Choice& choice : choices) {
      PlanChoice stored;
      stored.tactic = choice.candidate.tactic;
      stored.parameters = choice.candidate.parameters;
      stored.workspace_bytes = choice.workspace_bytes;
      stored.code = choice.code;
      stored.on_host = choice.on_host;
      // What another profile packed already need not be hashed again to be found.
      const auto packed = choices.begin() + static_cast<std::ptrdiff_t>(step.choices.size());
      const auto equal =
          std::find_if(choices.begin(), packed, [&](const Choice& other) { return other.weights == choice.weights; });
      if (equal != packed) {
        stored.weights = step.choices[static_cast<std::size_t>(equal - choices.begin())].weights;
      } else {
        for (const std::span<const std::byte> blob : choice.weights->blobs) stored.weights.push_back(section.add(blob));
      }
      step.choices.push_back(std::move(stored));
    }
  });
  for (std::size_t i = 0; i < plan.values.size(); ++i) {
    PlanValue& value = plan.values[i];
    if (value.storage != Storage::constant) continue;
    if (!plain[i]) {
      value.storage = Storage::none;
      continue;
    }
    const Tensor& constant = *lowered.constants[i];
    value.constant_offset = section.add({constant.data(), constant.size_bytes()}).offset;
  }
}

std::uint64_t activation_bytes(Plan& plan, std::span<const ShapeRanges> profiles) {
  int num_steps = 0;
  const std::vector<Span> spans = live_spans(plan, num_steps);
  std::uint64_t most = 0;
  for (const ShapeRanges& profile : profiles) {
    std::vector<Lifetime> lifetimes;
    for (std::size_t i = 0; i < plan.values.size(); ++i) {
      const PlanValue& value = plan.values[i];
      if (value.storage == Storage::arena && spans[i].last >= 0) {
        lifetimes.push_back({spans[i].first, spans[i].last, profile.max_bytes(value.type).value()});
      }
    }
    const std::vector<std::uint64_t> offsets = plan_offsets(lifetimes, kAlignment);
    most = std::max(most, arena_size(lifetimes, offsets, kAlignment));
  }
  return most;
}

void plan_memory(Plan& plan, std::span<const ShapeRanges> profiles, std::uint64_t limit) {
  int num_steps = 0;
  const std::vector<Span> spans = live_spans(plan, num_steps);
  std::vector<int> position;  // of each step in time, by step index
  {
    int next = 0;
    const std::function<void(std::vector<PlanStep>&)> walk = [&](std::vector<PlanStep>& steps) {
      for (PlanStep& step : steps) {
        position.push_back(next++);
        for (PlanBlock& block : step.blocks) walk(block.steps);
        if (!step.blocks.empty()) ++next;
      }
    };
    walk(plan.steps);
  }
  for (std::size_t p = 0; p < profiles.size(); ++p) {
    const ShapeRanges& profile = profiles[p];
    std::vector<Lifetime> lifetimes;
    std::vector<std::size_t> value_of;
    for (std::size_t i = 0; i < plan.values.size(); ++i) {
      if (plan.values[i].storage != Storage::arena || spans[i].last < 0) continue;
      lifetimes.push_back({spans[i].first, spans[i].last, profile.max_bytes(plan.values[i].type).value()});
      value_of.push_back(i);
    }
    std::vector<PlanChoice*> choice_of;
    for_each_step(plan.steps, [&](PlanStep& step, int index) {
      if (step.choices.empty() || step.choices[p].workspace_bytes == 0) return;
      const int at = position[static_cast<std::size_t>(index)];
      lifetimes.push_back({at, at, step.choices[p].workspace_bytes});
      choice_of.push_back(&step.choices[p]);
    });
    const std::vector<std::uint64_t> offsets = plan_offsets(lifetimes, kAlignment);
    PlanProfile stored;
    stored.inputs = profile.inputs();
    stored.arena_bytes = arena_size(lifetimes, offsets, kAlignment);
    stored.arena_offsets.assign(plan.values.size(), 0);
    stored.arena_sizes.assign(plan.values.size(), 0);
    for (std::size_t i = 0; i < value_of.size(); ++i) {
      stored.arena_offsets[value_of[i]] = offsets[i];
      stored.arena_sizes[value_of[i]] = lifetimes[i].bytes;
    }
    for (std::size_t i = 0; i < choice_of.size(); ++i) choice_of[i]->workspace_offset = offsets[value_of.size() + i];
    require(stored.arena_bytes <= limit, Code::out_of_memory,
            "profile {} needs {} bytes of activations and scratch memory, but the workspace limit is {}", p,
            stored.arena_bytes, limit);
    plan.profiles.push_back(std::move(stored));
  }
}

}  // namespace tenfold
