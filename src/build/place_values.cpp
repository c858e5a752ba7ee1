#include "build/place_values.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <set>

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

struct Places {
  std::uint64_t arena_bytes = 0;
  std::vector<std::uint64_t> offsets, sizes;  ///< by value
};

/// Who lives when, and in what: the arena, or a lane of a sample section.
class Layout {
 public:
  /// `choices`: by step; empty: no result takes the place of an operand.
  explicit Layout(Plan& plan, std::span<const StepChoices> choices = {})
      : plan_(plan), choices_(choices), spans_(plan.values.size()), section_of_(plan.values.size(), kNone) {
    int next = 0;
    walk(plan.steps, next, kNone);
  }

  /// Where everything lies at the profile's largest shapes. With `index` scratch memory too, whose places are stored
  /// with the choices of that profile.
  Places place(const ShapeRanges& profile, std::optional<std::size_t> index) const {
    Places places{0, std::vector<std::uint64_t>(plan_.values.size(), 0),
                  std::vector<std::uint64_t>(plan_.values.size(), 0)};
    std::vector<SampleSection> lanes(sections_.size());
    for (std::size_t s = 0; s < sections_.size(); ++s) {
      const PlanValue& whole = plan_.values[static_cast<std::size_t>(sections_[s].step->inputs[0])];
      lanes[s].num_lanes = std::clamp<std::int64_t>(profile.max(whole.type.dims[0]), 1, plan_.num_threads);
      lanes[s].lane_bytes = place_in(static_cast<int>(s), profile, index, {}, places);
    }
    std::vector<Lifetime> extra;
    for (std::size_t s = 0; s < sections_.size(); ++s) {
      extra.push_back(
          {sections_[s].begin, sections_[s].end, static_cast<std::uint64_t>(lanes[s].num_lanes) * lanes[s].lane_bytes});
    }
    std::vector<std::uint64_t> section_offsets;
    places.arena_bytes = place_in(kNone, profile, index, extra, places, &section_offsets);
    // What lies in a lane was placed from its beginning on.
    for (std::size_t s = 0; s < sections_.size(); ++s) {
      lanes[s].offset = section_offsets[s];
      for (std::size_t i = 0; i < plan_.values.size(); ++i) {
        if (section_of_[i] == static_cast<int>(s) && is_placed(i)) places.offsets[i] += lanes[s].offset;
      }
      if (!index) continue;
      sections_[s].step->choices.resize(*index + 1);
      sections_[s].step->choices[*index] = lanes[s].choice();
      for (PlanStep& step : sections_[s].step->blocks[0].steps) {
        if (step.choices[*index].workspace_bytes > 0) step.choices[*index].workspace_offset += lanes[s].offset;
      }
    }
    return places;
  }

 private:
  static constexpr int kNone = -1;
  struct Section {
    PlanStep* step = nullptr;
    int begin = 0, end = 0;
  };
  struct TimedStep {
    PlanStep* step = nullptr;
    int at = 0;
    int section = kNone;
  };

  std::size_t owner_of(std::int32_t value) const {
    const PlanValue& entry = plan_.values[static_cast<std::size_t>(value)];
    return static_cast<std::size_t>(entry.storage == Storage::view ? entry.view_of : value);
  }
  void touch(std::int32_t value, std::int32_t step) {
    if (value >= 0) spans_[owner_of(value)].include(step);
  }
  bool is_placed(std::size_t value) const {
    return plan_.values[value].storage == Storage::arena && spans_[value].last >= 0;
  }

  void walk(std::vector<PlanStep>& steps, int& next, int section) {
    for (PlanStep& step : steps) {
      const int begin = next++;
      steps_.push_back({&step, begin, section});
      const bool is_section = step.op_type == "Samples";
      if (is_section) sections_.push_back({&step, begin, begin});
      const int inside = is_section ? static_cast<int>(sections_.size()) - 1 : section;
      for (PlanBlock& block : step.blocks) {
        for (const std::int32_t value : block.inputs) touch(value, begin);
        walk(block.steps, next, inside);
      }
      // After its blocks a step is not over until their results are copied out. Operands and results of a step with
      // blocks are alive all the while: a body reads what it captured in every pass.
      const int end = step.blocks.empty() ? begin : next++;
      if (is_section) sections_[static_cast<std::size_t>(inside)].end = end;
      for (PlanBlock& block : step.blocks) {
        for (const std::int32_t value : block.inputs) touch(value, end);
        for (const std::int32_t value : block.outputs) touch(value, end);
      }
      for (const std::vector<std::int32_t>* list : {&step.inputs, &step.outputs}) {
        for (const std::int32_t value : *list) {
          touch(value, begin);
          touch(value, end);
        }
      }
      for (const std::int32_t output : step.outputs) {
        if (output >= 0) section_of_[owner_of(output)] = section;
      }
    }
  }

  /// The operand whose place the step's first result takes in this profile. `index`: of the step, among all.
  std::optional<std::size_t> inherited(std::size_t index, std::size_t profile) const {
    const TimedStep& timed = steps_[index];
    const PlanStep& step = *timed.step;
    if (index >= choices_.size() || choices_[index].empty() || step.outputs.empty() || step.outputs[0] < 0)
      return std::nullopt;
    const Kernel& kernel = *choices_[index][profile].kernel;
    const auto result = static_cast<std::size_t>(step.outputs[0]);
    if (!is_placed(result) || section_of_[result] != timed.section || spans_[result].first != timed.at)
      return std::nullopt;
    for (const std::int32_t input : step.inputs) {
      if (input < 0) continue;
      const auto operand = static_cast<std::size_t>(input);
      const bool dies_here = is_placed(operand) && section_of_[operand] == timed.section &&
                             spans_[operand].last == timed.at && spans_[operand].first < timed.at;
      if (!dies_here || plan_.values[operand].type != plan_.values[result].type) continue;
      // Whatever else the step reads there must stand it too.
      bool can = true;
      for (std::size_t i = 0; i < step.inputs.size() && can; ++i) {
        if (step.inputs[i] < 0 || owner_of(step.inputs[i]) != operand) continue;
        can = step.inputs[i] == input && kernel.can_run_in_place(static_cast<int>(i));
      }
      if (can) return operand;
    }
    return std::nullopt;
  }
  /// By value: the first one of those that lie in its place one after the other. Without a profile each has its own.
  std::vector<std::size_t> first_in_place(int section, std::optional<std::size_t> profile) const {
    std::vector<std::size_t> first(plan_.values.size());
    std::iota(first.begin(), first.end(), std::size_t{0});
    for (std::size_t i = 0; i < steps_.size() && profile; ++i) {
      if (steps_[i].section != section || !steps_[i].step->blocks.empty()) continue;
      if (const auto operand = inherited(i, *profile))
        first[static_cast<std::size_t>(steps_[i].step->outputs[0])] = first[*operand];
    }
    return first;
  }

  /// Places the values and scratch memory of one section, or of none, and `extra` behind them; returns their size.
  std::uint64_t place_in(int section, const ShapeRanges& profile, std::optional<std::size_t> index,
                         std::span<const Lifetime> extra, Places& places,
                         std::vector<std::uint64_t>* extra_offsets = nullptr) const {
    std::vector<Lifetime> lifetimes;
    std::vector<std::size_t> value_of;  // those that are placed here
    std::vector<std::size_t> place_of(
        plan_.values.size());  // by value: its lifetime, or that of the first in its place
    const std::vector<std::size_t> first = first_in_place(section, index);
    for (std::size_t i = 0; i < plan_.values.size(); ++i) {
      if (!is_placed(i) || section_of_[i] != section) continue;
      value_of.push_back(i);
      if (first[i] != i) continue;
      place_of[i] = lifetimes.size();
      lifetimes.push_back({spans_[i].first, spans_[i].last, profile.max_bytes(plan_.values[i].type).value()});
    }
    for (const std::size_t i : value_of) {
      place_of[i] = place_of[first[i]];
      Lifetime& life = lifetimes[place_of[i]];
      life.last = std::max(life.last, spans_[i].last);
    }
    const std::size_t num_places = lifetimes.size();
    std::vector<PlanChoice*> choice_of;
    for (const TimedStep& timed : steps_) {
      if (!index || timed.section != section || timed.step->op_type == "Samples" || timed.step->choices.empty())
        continue;
      PlanChoice& choice = timed.step->choices[*index];
      if (choice.workspace_bytes == 0) continue;
      lifetimes.push_back({timed.at, timed.at, choice.workspace_bytes});
      choice_of.push_back(&choice);
    }
    const std::size_t first_extra = lifetimes.size();
    lifetimes.insert(lifetimes.end(), extra.begin(), extra.end());
    const std::vector<std::uint64_t> offsets = plan_offsets(lifetimes, kAlignment);
    for (const std::size_t i : value_of) {
      places.offsets[i] = offsets[place_of[i]];
      places.sizes[i] = lifetimes[place_of[i]].bytes;
    }
    for (std::size_t i = 0; i < choice_of.size(); ++i) choice_of[i]->workspace_offset = offsets[num_places + i];
    if (extra_offsets != nullptr) {
      extra_offsets->assign(offsets.begin() + static_cast<std::ptrdiff_t>(first_extra), offsets.end());
    }
    return arena_size(lifetimes, offsets, kAlignment);
  }

  Plan& plan_;
  std::span<const StepChoices> choices_;
  std::vector<Span> spans_;
  std::vector<int> section_of_;  ///< by value: the section whose block makes it
  std::vector<Section> sections_;
  std::vector<TimedStep> steps_;
};

}  // namespace

void pack_weights(LoweredPlan& lowered, std::span<const StepChoices> step_choices, WeightSection& section) {
  Plan& plan = lowered.plan;
  std::size_t bytes = 0;
  std::set<const AlignedWeights*> counted;  // profiles that chose alike share weights
  for (const StepChoices& choices : step_choices) {
    for (const Choice& choice : choices) {
      if (counted.insert(choice.weights.get()).second) bytes += choice.weights->size_bytes();
    }
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
  const Layout layout(plan);
  std::uint64_t most = 0;
  for (const ShapeRanges& profile : profiles) {
    most = std::max(most, layout.place(profile, std::nullopt).arena_bytes);
  }
  return most;
}

void plan_memory(Plan& plan, std::span<const ShapeRanges> profiles, std::span<const StepChoices> choices,
                 std::uint64_t limit) {
  const Layout layout(plan, choices);
  for (std::size_t p = 0; p < profiles.size(); ++p) {
    PlanProfile stored;
    stored.inputs = profiles[p].inputs();
    Places places = layout.place(profiles[p], p);
    stored.arena_bytes = places.arena_bytes;
    stored.arena_offsets = std::move(places.offsets);
    stored.arena_sizes = std::move(places.sizes);
    require(stored.arena_bytes <= limit, Code::out_of_memory,
            "profile {} needs {} bytes of activations and scratch memory, but the workspace limit is {}", p,
            stored.arena_bytes, limit);
    plan.profiles.push_back(std::move(stored));
  }
}

}  // namespace tenfold
