#include "build/views.hpp"

#include <algorithm>
#include <numeric>
#include <set>

#include "ops/registry.hpp"
#include "ops/slice.hpp"

namespace tenfold {
namespace {

struct Use {
  int step = 0;
  int operand = 0;
};

class ViewMaker {
 public:
  ViewMaker(LoweredPlan& lowered, const ViewRules& rules) : plan_(lowered.plan), rules_(rules) {
    readers_.resize(plan_.values.size());
    writer_.resize(plan_.values.size());
    in_block_.resize(plan_.values.size(), false);
    note_lists(plan_.steps, 0);
    for_each_step(plan_.steps, [&](PlanStep& step, int index) {
      steps_.push_back(&step);
      for (std::size_t i = 0; i < step.inputs.size(); ++i) {
        if (step.inputs[i] >= 0)
          readers_[static_cast<std::size_t>(step.inputs[i])].push_back({index, static_cast<int>(i)});
      }
      for (std::size_t i = 0; i < step.outputs.size(); ++i) {
        if (step.outputs[i] >= 0)
          writer_[static_cast<std::size_t>(step.outputs[i])] = {index, static_cast<int>(i), true};
      }
      for (const PlanBinding& binding : step.bindings) run_time_symbols_.insert(binding.symbol);
      for (const PlanBlock& block : step.blocks) {
        for (const PlanBinding& binding : block.bindings) run_time_symbols_.insert(binding.symbol);
        for (const std::int32_t value : block.inputs) in_block_[static_cast<std::size_t>(value)] = true;
        for (const std::int32_t value : block.outputs) in_block_[static_cast<std::size_t>(value)] = true;
      }
    });
    aliases_.resize(plan_.values.size());
    for (std::size_t i = 0; i < plan_.values.size(); ++i) {
      const PlanValue& value = plan_.values[i];
      if (value.storage == Storage::view) {
        aliases_[static_cast<std::size_t>(value.view_of)].push_back(static_cast<std::int32_t>(i));
      }
    }
    removed_.resize(steps_.size(), false);
  }

  std::vector<bool> run() {
    // From the last to the first, so that a Concat inside a Concat finds its output placed already.
    for (int index = static_cast<int>(steps_.size()) - 1; index >= 0; --index) {
      if (steps_[static_cast<std::size_t>(index)]->op_type == "Concat") try_concat(index);
    }
    for (int index = 0; index < static_cast<int>(steps_.size()); ++index) {
      if (steps_[static_cast<std::size_t>(index)]->op_type == "Split") try_split(index);
      if (steps_[static_cast<std::size_t>(index)]->op_type == "Slice") try_slice(index);
    }
    return removed_;
  }

 private:
  struct Writer {
    int step = 0;
    int operand = 0;
    bool exists = false;
  };
  /// Numbers the lists of steps: the network's own is 0, every block has its own.
  void note_lists(const std::vector<PlanStep>& steps, int list) {
    for (const PlanStep& step : steps) {
      list_of_.push_back(list);
      for (const PlanBlock& block : step.blocks) note_lists(block.steps, ++num_lists_);
    }
  }
  PlanValue& value(std::int32_t id) { return plan_.values[static_cast<std::size_t>(id)]; }

  /// The part of `whole` that begins `before` elements along `axis`: contiguous if nothing but 1s lies outside the
  /// axis, else pitched if it is the last axis. nullopt: needs a copy.
  struct Placement {
    Dim offset;
    Dim pitch;
    bool pitched = false;
  };
  std::optional<Placement> place(const PlanValue& whole, const PlanValue& part, int axis, const Dim& before) {
    const std::vector<Dim>& dims = whole.type.dims;
    bool outermost = true;
    for (int i = 0; i < axis; ++i) outermost = outermost && dims[static_cast<std::size_t>(i)] == Dim(1);
    const bool whole_is_pitched = !(whole.pitch == dims.back());
    if (axis == whole.type.rank() - 1) {
      if (outermost) return Placement{whole.view_offset + before, part.type.dims.back(), false};
      return Placement{whole.view_offset + before, whole.pitch, true};
    }
    if (!outermost || whole_is_pitched) return std::nullopt;
    Dim inner(1);
    for (std::size_t i = static_cast<std::size_t>(axis) + 1; i < dims.size(); ++i) inner = inner * dims[i];
    return Placement{whole.view_offset + before * inner, part.type.dims.back(), false};
  }

  std::int32_t owner_of(std::int32_t id) {
    const PlanValue& entry = value(id);
    return entry.storage == Storage::view ? entry.view_of : id;
  }
  /// What a dimension is a multiple of whatever its symbols are: 0 for 0.
  static std::int64_t divisor_of(const Dim& dim) {
    if (dim.is_constant()) return dim.constant();
    std::int64_t divisor = 0;
    for (const Dim::Term& term : dim.terms()) divisor = std::gcd(divisor, term.coefficient);
    return divisor;
  }
  /// May the value and its reshaped aliases, whose rows must be the value's own, be read where they are placed?
  bool all_readers_accept(std::int32_t id, const Placement& placement, int except) {
    const auto element_bytes = static_cast<std::int64_t>(size_of(value(id).type.dtype));
    const std::int64_t start = divisor_of(placement.offset);
    if (!placement.pitched) return start * element_bytes % rules_.alignment == 0;
    const std::int64_t alignment = std::gcd(start, divisor_of(placement.pitch)) * element_bytes;
    const auto accept = [&](std::int32_t read) {
      const std::vector<Use>& uses = readers_[static_cast<std::size_t>(read)];
      return std::all_of(uses.begin(), uses.end(), [&](const Use& use) {
        return use.step == except ||
               (!removed_[static_cast<std::size_t>(use.step)] && rules_.pitched_input(use.step, use.operand, alignment));
      });
    };
    const std::vector<std::int32_t>& aliases = aliases_[static_cast<std::size_t>(id)];
    return accept(id) && std::all_of(aliases.begin(), aliases.end(), [&](std::int32_t alias) {
             const std::vector<Dim>& dims = value(alias).type.dims;
             return !dims.empty() && dims.back() == value(id).type.dims.back() && accept(alias);
           });
  }
  /// Has neither views made here, which have places of their own in it, nor readers in other lists of steps.
  bool can_be_placed(std::int32_t id) {
    const std::vector<std::int32_t>& aliases = aliases_[static_cast<std::size_t>(id)];
    return value(id).storage == Storage::arena && !viewed_.contains(id) && !in_block_[static_cast<std::size_t>(id)] &&
           std::none_of(aliases.begin(), aliases.end(),
                        [&](std::int32_t alias) { return in_block_[static_cast<std::size_t>(alias)]; });
  }
  /// May parts be read where they lie in it? Views keep their owner alive.
  static bool can_be_viewed(const PlanValue& whole) {
    return whole.storage == Storage::arena || whole.storage == Storage::view || whole.storage == Storage::input ||
           whole.storage == Storage::slice;
  }
  void make_view(std::int32_t id, std::int32_t owner, const Placement& placement) {
    const auto place_at = [&](std::int32_t view, const Dim& pitch) {
      PlanValue& entry = value(view);
      entry.storage = Storage::view;
      entry.view_of = owner;
      entry.view_offset = placement.offset;
      entry.pitch = pitch;
    };
    place_at(id, placement.pitch);
    for (const std::int32_t alias : aliases_[static_cast<std::size_t>(id)]) {
      place_at(alias, placement.pitched ? placement.pitch : value(alias).pitch);
    }
    viewed_.insert(owner);
  }

  void try_concat(int index) {
    const PlanStep& step = *steps_[static_cast<std::size_t>(index)];
    const std::int32_t whole_id = step.outputs[0];
    const PlanValue whole = value(whole_id);
    const int rank = whole.type.rank();
    if (rank == 0 || !step.bindings.empty()) return;
    // The whole must have its size, and so its memory, when the first part is written.
    std::set<std::string> symbols;
    for (const Dim& dim : whole.type.dims) dim.collect_symbols(symbols);
    if (std::any_of(symbols.begin(), symbols.end(),
                    [&](const std::string& symbol) { return run_time_symbols_.contains(symbol); })) {
      return;
    }
    std::int64_t axis = step.attributes.get_int("axis", 0);
    if (axis < 0) axis += rank;
    if (std::set<std::int32_t>(step.inputs.begin(), step.inputs.end()).size() != step.inputs.size()) return;
    std::vector<Placement> placements;
    Dim before(0);
    for (const std::int32_t id : step.inputs) {
      const PlanValue& part = value(id);
      const Writer& writer = writer_[static_cast<std::size_t>(id)];
      const std::optional<Placement> placement = place(whole, part, static_cast<int>(axis), before);
      before = before + part.type.dims[static_cast<std::size_t>(axis)];
      // Only a whole, arena-owned result of one kernel can be made somewhere else.
      if (!placement || !writer.exists || !can_be_placed(id)) return;
      // A buffer that belongs to one pass through a loop cannot hold what was made outside.
      if (list_of_[static_cast<std::size_t>(writer.step)] != list_of_[static_cast<std::size_t>(index)]) return;
      const PlanStep& producer = *steps_[static_cast<std::size_t>(writer.step)];
      if (!producer.blocks.empty() || !producer.bindings.empty() || producer.op_type == "DimValues") return;
      if (placement->pitched && !rules_.pitched_output(writer.step, writer.operand)) return;
      if (!all_readers_accept(id, *placement, index)) return;
      placements.push_back(*placement);
    }
    const std::int32_t owner = owner_of(whole_id);
    for (std::size_t i = 0; i < step.inputs.size(); ++i) make_view(step.inputs[i], owner, placements[i]);
    removed_[static_cast<std::size_t>(index)] = true;
  }

  void try_split(int index) {
    const PlanStep& step = *steps_[static_cast<std::size_t>(index)];
    const std::int32_t whole_id = step.inputs[0];
    const PlanValue whole = value(whole_id);
    const int rank = whole.type.rank();
    if (rank == 0 || !step.bindings.empty()) return;
    if (!can_be_viewed(whole)) return;
    std::int64_t axis = step.attributes.get_int("axis", 0);
    if (axis < 0) axis += rank;
    std::vector<Placement> placements;
    Dim before(0);
    for (const std::int32_t id : step.outputs) {
      if (id < 0) return;
      const PlanValue& part = value(id);
      const std::optional<Placement> placement = place(whole, part, static_cast<int>(axis), before);
      before = before + part.type.dims[static_cast<std::size_t>(axis)];
      if (!placement || !can_be_placed(id) || !all_readers_accept(id, *placement, index)) return;
      placements.push_back(*placement);
    }
    const std::int32_t owner = owner_of(whole_id);
    for (std::size_t i = 0; i < step.outputs.size(); ++i) make_view(step.outputs[i], owner, placements[i]);
    removed_[static_cast<std::size_t>(index)] = true;
  }

  /// A slice without gaps along one axis of known size is a part as Split makes it.
  void try_slice(int index) {
    const PlanStep& step = *steps_[static_cast<std::size_t>(index)];
    const std::int32_t whole_id = step.inputs[0];
    const std::int32_t id = step.outputs[0];
    const PlanValue whole = value(whole_id);
    const PlanValue& part = value(id);
    const OpPtr op = make_op(step.op_type, step.attributes);
    const auto* slice = op_cast<Slice>(op);
    if (slice == nullptr || !slice->ranges() || slice->ranges()->size() != 1 || !step.bindings.empty()) return;
    if (!can_be_viewed(whole)) return;
    const Slice::Range range = slice->ranges()->front();
    const int rank = whole.type.rank();
    const auto axis = static_cast<int>(range.axis < 0 ? range.axis + rank : range.axis);
    if (range.step != 1 || axis < 0 || axis >= rank) return;
    const Dim& size = whole.type.dims[static_cast<std::size_t>(axis)];
    if (!size.is_constant()) return;
    const SliceExtent extent = slice_extent(range, size.constant());
    const std::optional<Placement> placement = place(whole, part, axis, Dim(extent.first));
    if (!placement || extent.count == 0 || !can_be_placed(id) || !all_readers_accept(id, *placement, index)) return;
    make_view(id, owner_of(whole_id), *placement);
    removed_[static_cast<std::size_t>(index)] = true;
  }

  Plan& plan_;
  const ViewRules& rules_;
  std::vector<PlanStep*> steps_;
  std::vector<int> list_of_;
  int num_lists_ = 0;
  std::vector<std::vector<Use>> readers_;
  std::vector<Writer> writer_;
  std::vector<bool> in_block_;
  std::set<std::int32_t> viewed_;                   // have views made here
  std::vector<std::vector<std::int32_t>> aliases_;  // by value: what lowering made views of it, from its first element
  std::set<std::string> run_time_symbols_;          // that a step or a block decides
  std::vector<bool> removed_;
};

void erase_steps(std::vector<PlanStep>& steps, const std::vector<bool>& removed, int& index) {
  std::vector<PlanStep> kept;
  for (PlanStep& step : steps) {
    const bool gone = removed[static_cast<std::size_t>(index++)];
    for (PlanBlock& block : step.blocks) erase_steps(block.steps, removed, index);
    if (!gone) kept.push_back(std::move(step));
  }
  steps = std::move(kept);
}

}  // namespace

std::vector<bool> make_views(LoweredPlan& lowered, const ViewRules& rules) {
  std::vector<bool> removed = ViewMaker(lowered, rules).run();
  int index = 0;
  erase_steps(lowered.plan.steps, removed, index);
  return removed;
}

}  // namespace tenfold
