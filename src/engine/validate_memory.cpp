// Who lives when, and whether two of them lie in the same place.
//
// Time is counted in steps, in the order of the file; a step with blocks has a beginning and an end around theirs. What
// a loop body reads from outside lives until the loop ends, because the body reads it again in every iteration. The
// lanes of a sample section are its scratch memory; what lies in the first one is seen as its block goes on, and the
// others are copies of it.
#include <algorithm>
#include <limits>
#include <map>
#include <queue>

#include "base/error.hpp"
#include "engine/validate.hpp"

namespace tenfold {
namespace {

struct Life {
  std::int32_t first = std::numeric_limits<std::int32_t>::max();
  std::int32_t last = -1;
};

/// The lives of owners; views count as their owner.
class Lives {
 public:
  explicit Lives(const Plan& plan) : plan_(plan), lives_(plan.values.size()) { walk(plan.steps); }

  const Life& of(std::size_t value) const { return lives_[value]; }
  /// By time: the step that begins then, or ends after its blocks.
  const std::vector<const PlanStep*>& steps() const { return steps_; }

 private:
  struct OpenLoop {
    std::int32_t begin = 0;
    std::vector<std::size_t> read_from_outside;
  };

  void touch(std::int32_t id, std::int32_t time) {
    if (id < 0) return;
    const PlanValue& entry = plan_.values[static_cast<std::size_t>(id)];
    const auto owner = static_cast<std::size_t>(entry.storage == Storage::view ? entry.view_of : id);
    Life& life = lives_[owner];
    for (OpenLoop& loop : loops_) {
      if (life.first < loop.begin) {
        loop.read_from_outside.push_back(owner);
        break;
      }
    }
    life.first = std::min(life.first, time);
    life.last = std::max(life.last, time);
  }

  void walk(const std::vector<PlanStep>& steps) {
    for (const PlanStep& step : steps) {
      const std::int32_t begin = next(step);
      for (const std::int32_t input : step.inputs) touch(input, begin);
      // A section writes its results where they belong, from its first step on.
      if (step.blocks.empty() || step.op_type == "Samples") {
        for (const std::int32_t output : step.outputs) touch(output, begin);
      }
      if (step.blocks.empty()) continue;
      loops_.push_back({begin, {}});
      for (const PlanBlock& block : step.blocks) {
        for (const std::int32_t input : block.inputs) touch(input, begin);
        walk(block.steps);
      }
      const OpenLoop loop = std::move(loops_.back());
      loops_.pop_back();
      const std::int32_t end = next(step);
      for (const std::size_t owner : loop.read_from_outside) lives_[owner].last = end;
      for (const PlanBlock& block : step.blocks) {
        for (const std::int32_t input : block.inputs) touch(input, end);
        for (const std::int32_t output : block.outputs) touch(output, end);
      }
      // A Scan reads slices of its operands in every iteration.
      for (const std::int32_t input : step.inputs) touch(input, end);
      for (const std::int32_t output : step.outputs) touch(output, end);
    }
  }
  std::int32_t next(const PlanStep& step) {
    steps_.push_back(&step);
    return static_cast<std::int32_t>(steps_.size()) - 1;
  }

  const Plan& plan_;
  std::vector<Life> lives_;
  std::vector<const PlanStep*> steps_;
  std::vector<OpenLoop> loops_;
};

/// The places of one profile, filled and emptied as time goes on.
class Arena {
 public:
  Arena(const Plan& plan, const Lives& lives, int profile, const InPlaceUse& visit)
      : plan_(plan),
        places_(plan.profiles[static_cast<std::size_t>(profile)]),
        lives_(lives),
        profile_(profile),
        visit_(visit) {}

  void run() {
    std::vector<std::size_t> starts;  // values in the order in which they begin to live
    for (std::size_t i = 0; i < plan_.values.size(); ++i) {
      if (plan_.values[i].storage == Storage::arena && lives_.of(i).last >= 0 && places_.arena_sizes[i] > 0) {
        starts.push_back(i);
      }
    }
    // At the same time, output 0 comes last: it alone may take the place of a value that is read at that time.
    std::stable_sort(starts.begin(), starts.end(), [&](std::size_t a, std::size_t b) {
      return std::pair(lives_.of(a).first, is_first_output(a)) < std::pair(lives_.of(b).first, is_first_output(b));
    });
    std::size_t next = 0;
    for (std::int32_t time = 0; time < static_cast<std::int32_t>(lives_.steps().size()); ++time) {
      while (!ends_.empty() && ends_.top().first < time) {
        remove(ends_.top().second);
        ends_.pop();
      }
      check_workspace(time, next, starts);
      for (; next < starts.size() && lives_.of(starts[next]).first == time; ++next) add(starts[next], time);
    }
  }

 private:
  const PlanStep& step_at(std::int32_t time) const { return *lives_.steps()[static_cast<std::size_t>(time)]; }
  bool is_first_output(std::size_t id) const {
    const PlanStep& step = step_at(lives_.of(id).first);
    return step.blocks.empty() && !step.outputs.empty() && step.outputs[0] == static_cast<std::int32_t>(id);
  }

  /// A value that lies in [offset, offset + size) now.
  std::optional<std::size_t> occupant(std::uint64_t offset, std::uint64_t size) const {
    const auto after = active_.lower_bound(offset + size);
    if (after == active_.begin()) return std::nullopt;
    const auto [begin, id] = *std::prev(after);
    if (begin + places_.arena_sizes[id] <= offset) return std::nullopt;
    return id;
  }
  void remove(std::size_t id) {
    const auto found = active_.find(places_.arena_offsets[id]);
    if (found != active_.end() && found->second == id) active_.erase(found);
  }

  void add(std::size_t id, std::int32_t time) {
    const std::uint64_t offset = places_.arena_offsets[id];
    while (const auto other = occupant(offset, places_.arena_sizes[id])) {
      require(shares_in_place(id, *other, time), Code::incompatible_engine,
              "values '{}' and '{}' lie in the same place at the same time in profile {}", plan_.values[id].name,
              plan_.values[*other].name, profile_);
      remove(*other);
    }
    active_.emplace(offset, id);
    ends_.push({lives_.of(id).last, id});
  }

  /// Output 0 in the place of an input that nobody reads later, of the same shape. The kernel is asked for every
  /// operand that lies there.
  bool shares_in_place(std::size_t id, std::size_t other, std::int32_t time) const {
    if (lives_.of(other).last != time || !is_first_output(id) ||
        places_.arena_offsets[id] != places_.arena_offsets[other] ||
        plan_.values[id].type != plan_.values[other].type) {
      return false;
    }
    const PlanStep& step = step_at(time);
    bool is_operand = false;
    for (std::size_t i = 0; i < step.inputs.size(); ++i) {
      if (step.inputs[i] < 0) continue;
      const PlanValue& input = plan_.values[static_cast<std::size_t>(step.inputs[i])];
      if (input.storage == Storage::view && input.view_of == static_cast<std::int32_t>(other)) return false;
      if (step.inputs[i] != static_cast<std::int32_t>(other)) continue;
      is_operand = true;
      visit_(step, profile_, static_cast<int>(i));
    }
    return is_operand;
  }

  /// Scratch memory belongs to its step alone: nothing alive then, and nothing that begins then, lies in it.
  void check_workspace(std::int32_t time, std::size_t next, const std::vector<std::size_t>& starts) const {
    const PlanStep& step = step_at(time);
    if (step.choices.empty()) return;
    const PlanChoice& choice = step.choices[static_cast<std::size_t>(profile_)];
    if (choice.workspace_bytes == 0) return;
    const auto check = [&](std::size_t id) {
      throw Error(Code::incompatible_engine,
                  fmt::format("the scratch memory of step '{}' and value '{}' lie in the same place in profile {}",
                              step.name, plan_.values[id].name, profile_));
    };
    if (const auto other = occupant(choice.workspace_offset, choice.workspace_bytes)) check(*other);
    for (; next < starts.size() && lives_.of(starts[next]).first == time; ++next) {
      const std::uint64_t offset = places_.arena_offsets[starts[next]];
      const bool overlaps = offset < choice.workspace_offset + choice.workspace_bytes &&
                            choice.workspace_offset < offset + places_.arena_sizes[starts[next]];
      if (overlaps) check(starts[next]);
    }
  }

  using End = std::pair<std::int32_t, std::size_t>;
  const Plan& plan_;
  const PlanProfile& places_;
  const Lives& lives_;
  int profile_;
  const InPlaceUse& visit_;
  std::map<std::uint64_t, std::size_t> active_;  // by offset; never overlapping
  std::priority_queue<End, std::vector<End>, std::greater<>> ends_;
};

}  // namespace

void visit_in_place(const Plan& plan, const InPlaceUse& visit) {
  const Lives lives(plan);
  for (std::size_t p = 0; p < plan.profiles.size(); ++p) Arena(plan, lives, static_cast<int>(p), visit).run();
}

}  // namespace tenfold
