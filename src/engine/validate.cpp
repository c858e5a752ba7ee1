#include "engine/validate.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "base/checked.hpp"
#include "base/error.hpp"
#include "engine/limits.hpp"
#include "ops/control_flow.hpp"
#include "ops/registry.hpp"

namespace tenfold {
namespace {

constexpr std::uint64_t kAlignment = 64;
constexpr std::int32_t kMaxThreads = 256;

template <typename... Args>
void check(bool holds, fmt::format_string<Args...> format, Args&&... args) {
  require(holds, Code::incompatible_engine, format, std::forward<Args>(args)...);
}

/// Bytes of a value of known shape; nullopt on overflow.
std::optional<std::uint64_t> static_bytes(const TensorType& type) {
  std::optional<std::uint64_t> bytes = size_of(type.dtype);
  for (const Dim& dim : type.dims) bytes = checked_mul(*bytes, static_cast<std::uint64_t>(dim.constant()));
  return bytes;
}

bool is_single(const TensorType& type, DType dtype) {
  return type.dtype == dtype && type.is_static() && static_bytes(type) == size_of(dtype);
}

/// What the shape rule of one step sees: types as the plan stores them, constants, and integers computed from sizes.
class StepInference final : public InferContext {
 public:
  struct Known {
    const Plan& plan;
    const WeightData& weights;
    const std::map<std::int32_t, std::vector<Dim>>& integers;  // elements that are expressions, by value
  };
  StepInference(Known known, const PlanStep& step) : known_(known), step_(step) {
    for (const std::int32_t input : step.inputs) {
      constants_.push_back(input < 0 ? std::nullopt : constant_of(value(input)));
    }
    types.resize(step.outputs.size());
    fresh_axes.resize(step.outputs.size());
    integers_of_output.resize(step.outputs.size());
  }

  int num_inputs() const override { return static_cast<int>(step_.inputs.size()); }
  bool has_input(int index) const override { return index >= 0 && index < num_inputs() && input_id(index) >= 0; }
  const TensorType& input(int index) const override {
    check(has_input(index), "input {} is missing", index);
    return value(input_id(index)).type;
  }
  const Tensor* constant(int index) const override {
    if (!has_input(index)) return nullptr;
    const auto& tensor = constants_[static_cast<std::size_t>(index)];
    return tensor ? &*tensor : nullptr;
  }
  std::optional<std::vector<Dim>> integers(int index) const override {
    if (!has_input(index)) return std::nullopt;
    std::int32_t id = input_id(index);
    if (value(id).storage == Storage::view && value(id).view_offset == Dim(0)) id = value(id).view_of;
    if (const auto found = known_.integers.find(id); found != known_.integers.end()) {
      const auto count = Dim(static_cast<std::int64_t>(found->second.size()));
      if (value(input_id(index)).type.num_elements() == count) return found->second;
    }
    constexpr std::int64_t kMaxKnownIntegers = 1024;
    const Tensor* tensor = constant(index);
    if (tensor == nullptr || tensor->num_elements() > kMaxKnownIntegers) return std::nullopt;
    if (!is_integer(tensor->dtype()) && tensor->dtype() != DType::boolean) return std::nullopt;
    const std::vector<std::int64_t> elements = tensor->to_int64();
    return std::vector<Dim>(elements.begin(), elements.end());
  }
  int num_outputs() const override { return static_cast<int>(step_.outputs.size()); }
  bool wants_output(int index) const override {
    return index >= 0 && index < num_outputs() && step_.outputs[static_cast<std::size_t>(index)] >= 0;
  }
  std::span<Graph> blocks() override { return {}; }
  void set_output(int index, TensorType type) override {
    if (wants_output(index)) types[static_cast<std::size_t>(index)] = std::move(type);
  }
  void set_integers(int index, std::vector<Dim> elements) override {
    if (wants_output(index)) integers_of_output[static_cast<std::size_t>(index)] = std::move(elements);
  }
  Dim fresh(int output, int axis, std::optional<Dim>) override {
    check(wants_output(output), "the size of output {}, which nobody wants, is asked for", output);
    fresh_axes[static_cast<std::size_t>(output)].insert(axis);
    const std::vector<Dim>& dims = value(step_.outputs[static_cast<std::size_t>(output)]).type.dims;
    if (axis >= 0 && static_cast<std::size_t>(axis) < dims.size()) {
      const Dim& stored = dims[static_cast<std::size_t>(axis)];
      if (stored.as_symbol()) return stored;
    }
    return Dim::symbol(fmt::format("?{}#{}", output, axis));
  }

  std::vector<TensorType> types;          // by output; dtype undefined: the rule did not set it
  std::vector<std::set<int>> fresh_axes;  // by output
  std::vector<std::optional<std::vector<Dim>>> integers_of_output;

 private:
  std::int32_t input_id(int index) const { return step_.inputs[static_cast<std::size_t>(index)]; }
  const PlanValue& value(std::int32_t id) const { return known_.plan.values[static_cast<std::size_t>(id)]; }
  std::optional<Tensor> constant_of(const PlanValue& entry) const {
    const PlanValue* owner = &entry;
    if (entry.storage == Storage::view && entry.view_offset == Dim(0)) owner = &value(entry.view_of);
    if (owner->storage != Storage::constant || !entry.type.is_static()) return std::nullopt;
    if (static_bytes(entry.type) != static_bytes(owner->type)) return std::nullopt;
    return Tensor(entry.type.dtype, entry.type.static_shape(), known_.weights.data + owner->constant_offset,
                  known_.weights.owner);
  }

  const Known known_;
  const PlanStep& step_;
  std::vector<std::optional<Tensor>> constants_;
};

class PlanValidator {
 public:
  PlanValidator(const Plan& plan, const WeightData& weights, std::uint64_t code_bytes)
      : plan_(plan), weights_(weights), code_bytes_(code_bytes) {}

  void run() {
    check(plan_.num_threads >= 1 && plan_.num_threads <= kMaxThreads, "the plan asks for {} threads",
          plan_.num_threads);
    check_values();
    check_interface();
    check_profiles();
    check_steps(plan_.steps);
    for (std::size_t i = 0; i < plan_.values.size(); ++i) {
      check(plan_.values[i].storage != Storage::slice || slices_[i] != Slice::none,
            "value {} '{}' is a slice, but of no section", i, plan_.values[i].name);
    }
    for (const std::int32_t output : plan_.outputs) {
      check(is_readable(output), "output '{}' is never computed", value(output).name);
    }
  }

 private:
  const PlanValue& value(std::int32_t id) const { return plan_.values[static_cast<std::size_t>(id)]; }
  bool is_value(std::int32_t id) const { return id >= 0 && static_cast<std::size_t>(id) < plan_.values.size(); }
  std::int32_t owner_of(std::int32_t id) const { return value(id).storage == Storage::view ? value(id).view_of : id; }

  // --- Values -------------------------------------------------------------------------------------------------------

  void check_values() {
    for (std::size_t i = 0; i < plan_.values.size(); ++i) {
      const PlanValue& entry = plan_.values[i];
      try {
        check_value(entry, static_cast<std::int32_t>(i));
      } catch (const Error& error) {
        throw error.in_context(fmt::format("value {} '{}'", i, entry.name));
      }
    }
  }

  void check_value(const PlanValue& entry, std::int32_t id) const {
    for (const Dim& dim : entry.type.dims) {
      check(!dim.is_constant() || (dim.constant() >= 0 && dim.constant() < limits::kMaxDimension), "its shape is {}",
            to_string(entry.type.dims));
    }
    if (entry.type.is_static()) {
      const auto bytes = static_bytes(entry.type);
      check(bytes && *bytes <= limits::kMaxFileBytes, "its shape is {}", to_string(entry.type.dims));
    }
    if (entry.storage == Storage::slice) {
      check(is_value(entry.view_of) && entry.view_of != id && value(entry.view_of).storage != Storage::slice,
            "it is a slice of value {}", entry.view_of);
      check(entry.view_offset == Dim(0), "it is a slice, but has an offset");
      check(entry.pitch == natural_pitch(entry.type), "it is a slice, but has the pitch {}", entry.pitch.to_string());
    } else if (entry.storage == Storage::view) {
      check(is_value(entry.view_of) && entry.view_of != id, "it is a view of value {}", entry.view_of);
      const PlanValue& owner = value(entry.view_of);
      check(owner.storage != Storage::view && owner.storage != Storage::none, "it is a view of a value without memory");
      check(owner.type.dtype == entry.type.dtype, "it is a view of a value of another type");
      check_static_view(entry, owner);
    } else {
      check(entry.view_of == -1 && entry.view_offset == Dim(0), "it is no view, but has an owner or an offset");
      check(entry.pitch == natural_pitch(entry.type), "it is no view, but has the pitch {}", entry.pitch.to_string());
    }
    check(entry.storage != Storage::none || entry.type.is_static(), "it is a packed constant of unknown shape");
    if (entry.storage == Storage::constant) {
      check(entry.type.is_static(), "it is a constant of unknown shape");
      check(entry.constant_offset % kAlignment == 0, "it is a constant at offset {}", entry.constant_offset);
      check(fits(entry.constant_offset, *static_bytes(entry.type), weights_.size),
            "it is a constant that does not lie in the weights");
    } else {
      check(entry.constant_offset == 0, "it is no constant, but has a place in the weights");
    }
  }
  static Dim natural_pitch(const TensorType& type) { return type.dims.empty() ? Dim(1) : type.dims.back(); }

  /// A view whose numbers are all known; the others are checked when they are.
  static void check_static_view(const PlanValue& entry, const PlanValue& owner) {
    if (!entry.type.is_static() || !owner.type.is_static()) return;
    if (!entry.view_offset.is_constant() || !entry.pitch.is_constant()) return;
    const std::uint64_t size = size_of(entry.type.dtype);
    const std::uint64_t elements = *static_bytes(entry.type) / size;
    const std::int64_t offset = entry.view_offset.constant();
    const std::int64_t pitch = entry.pitch.constant();
    const auto row = static_cast<std::uint64_t>(natural_pitch(entry.type).constant());
    check(offset >= 0 && pitch >= 0 && static_cast<std::uint64_t>(pitch) >= row, "it is a view with the pitch {}",
          pitch);
    std::uint64_t extent = 0;
    if (elements > 0) {
      const auto rows = checked_mul(elements / row - 1, static_cast<std::uint64_t>(pitch));
      const auto end = rows ? checked_add(*rows, row) : std::nullopt;
      check(end.has_value(), "its size overflows");
      extent = *end;
    }
    check(fits(static_cast<std::uint64_t>(offset), extent, *static_bytes(owner.type) / size),
          "it is a view that does not lie in its owner");
  }

  // --- Inputs, outputs, profiles ------------------------------------------------------------------------------------

  void check_interface() {
    written_.assign(plan_.values.size(), Written::no);
    parts_written_.assign(plan_.values.size(), 0);
    slices_.assign(plan_.values.size(), Slice::none);
    std::vector<bool> is_interface(plan_.values.size(), false);
    const auto check_list = [&](const std::vector<std::int32_t>& list, Storage storage, std::string_view kind) {
      std::set<std::string_view> names;
      for (const std::int32_t id : list) {
        check(is_value(id) && value(id).storage == storage && !is_interface[static_cast<std::size_t>(id)],
              "{} {} is no value of that kind, or comes twice", kind, id);
        is_interface[static_cast<std::size_t>(id)] = true;
        check(!value(id).name.empty() && names.insert(value(id).name).second, "{} name '{}' is empty or comes twice",
              kind, value(id).name);
      }
    };
    check_list(plan_.inputs, Storage::input, "input");
    check_list(plan_.outputs, Storage::output, "output");
    for (std::size_t i = 0; i < plan_.values.size(); ++i) {
      const Storage storage = plan_.values[i].storage;
      check(is_interface[i] == (storage == Storage::input || storage == Storage::output),
            "value {} '{}' is stored as an input or output, but is none", i, plan_.values[i].name);
      // What packed weights hold counts as there: a kernel must say that it does not read it.
      if (storage == Storage::input || storage == Storage::constant || storage == Storage::none) {
        written_[i] = Written::yes;
      }
    }
    bind(plan_.bindings, plan_.inputs, "the plan");
    for (const std::int32_t id : plan_.inputs) check_symbols(id, "input");
  }

  void check_profiles() const {
    check(!plan_.profiles.empty(), "the plan has no profile");
    for (std::size_t p = 0; p < plan_.profiles.size(); ++p) {
      try {
        check_profile(plan_.profiles[p]);
      } catch (const Error& error) {
        throw error.in_context(fmt::format("profile {}", p));
      }
    }
  }

  void check_profile(const PlanProfile& profile) const {
    check(profile.inputs.size() == plan_.inputs.size(), "ranges for {} inputs, but there are {}", profile.inputs.size(),
          plan_.inputs.size());
    for (std::size_t i = 0; i < profile.inputs.size(); ++i) {
      const PlanValue& input = value(plan_.inputs[i]);
      const PlanRange& range = profile.inputs[i];
      const std::size_t rank = input.type.dims.size();
      check(range.min.size() == rank && range.opt.size() == rank && range.max.size() == rank,
            "input '{}' has {} axes, its range has others", input.name, rank);
      for (std::size_t axis = 0; axis < rank; ++axis) {
        const std::int64_t low = range.min[axis], best = range.opt[axis], high = range.max[axis];
        check(0 <= low && low <= best && best <= high && high < limits::kMaxDimension,
              "input '{}' axis {} has the range {}, {}, {}", input.name, axis, low, best, high);
        const Dim& dim = input.type.dims[axis];
        check(!dim.is_constant() || (low == dim.constant() && high == dim.constant()),
              "input '{}' axis {} is {}, but has the range {}..{}", input.name, axis, dim.to_string(), low, high);
      }
    }
    check(profile.arena_bytes <= limits::kMaxArenaBytes, "the arena has {} bytes", profile.arena_bytes);
    check(profile.arena_offsets.size() == plan_.values.size() && profile.arena_sizes.size() == plan_.values.size(),
          "places for {} and sizes for {} of {} values", profile.arena_offsets.size(), profile.arena_sizes.size(),
          plan_.values.size());
    for (std::size_t i = 0; i < plan_.values.size(); ++i) {
      const PlanValue& entry = plan_.values[i];
      const std::uint64_t offset = profile.arena_offsets[i], size = profile.arena_sizes[i];
      if (entry.storage != Storage::arena) {
        check(offset == 0 && size == 0, "value '{}' has a place in the arena, but is stored elsewhere", entry.name);
        continue;
      }
      check(offset % kAlignment == 0 && fits(offset, size, profile.arena_bytes), "value '{}' does not lie in the arena",
            entry.name);
    }
  }

  // --- Symbols ------------------------------------------------------------------------------------------------------

  /// Each symbol is decided in one place; `candidates` become known there.
  void bind(const std::vector<PlanBinding>& bindings, const std::vector<std::int32_t>& candidates,
            std::string_view where) {
    for (const PlanBinding& binding : bindings) {
      check(
          std::find(candidates.begin(), candidates.end(), binding.value) != candidates.end() && is_value(binding.value),
          "{} takes symbol '{}' from a value that is not known there", where, binding.symbol);
      const std::vector<Dim>& dims = value(binding.value).type.dims;
      check(binding.axis >= 0 && static_cast<std::size_t>(binding.axis) < dims.size() &&
                dims[static_cast<std::size_t>(binding.axis)] == Dim::symbol(binding.symbol),
            "{} takes symbol '{}' from axis {} of '{}', which is not called so", where, binding.symbol, binding.axis,
            value(binding.value).name);
      check(symbols_.emplace(binding.symbol, true).second, "{} decides symbol '{}' a second time", where,
            binding.symbol);
    }
  }
  /// Symbols of a block mean nothing outside it, and no other place may decide them again.
  void forget(const std::vector<PlanBinding>& bindings) {
    for (const PlanBinding& binding : bindings) symbols_.at(binding.symbol) = false;
  }
  void check_symbols(const Dim& dim, std::string_view what) const {
    if (dim.is_constant()) return;
    std::set<std::string> used;
    dim.collect_symbols(used);
    for (const std::string& symbol : used) {
      const auto found = symbols_.find(symbol);
      check(found != symbols_.end() && found->second, "{} depends on '{}', which nothing decides before", what, symbol);
    }
  }
  void check_symbols(std::int32_t id, std::string_view kind) const {
    const PlanValue& entry = value(id);
    for (const Dim& dim : entry.type.dims) check_symbols(dim, kind);
    check_symbols(entry.view_offset, kind);
    check_symbols(entry.pitch, kind);
    if (entry.storage == Storage::view) {
      for (const Dim& dim : value(entry.view_of).type.dims) check_symbols(dim, kind);
    }
  }

  // --- Order --------------------------------------------------------------------------------------------------------

  bool is_readable(std::int32_t id) const {
    const auto owner = static_cast<std::size_t>(owner_of(id));
    return written_[static_cast<std::size_t>(id)] == Written::yes || written_[owner] == Written::yes ||
           parts_written_[owner] > 0;
  }
  void check_read(std::int32_t id, std::string_view kind) const {
    check(is_value(id), "{} {} does not exist", kind, id);
    check(is_readable(id), "{} '{}' is read before it is computed", kind, value(id).name);
    check_symbols(id, kind);
  }
  void write(std::int32_t id, std::string_view kind) {
    check(is_value(id), "{} {} does not exist", kind, id);
    const PlanValue& entry = value(id);
    const Storage storage = value(owner_of(id)).storage;
    const bool is_result =
        storage == Storage::slice && slices_[static_cast<std::size_t>(owner_of(id))] == Slice::open_result;
    check(storage == Storage::arena || storage == Storage::growable || storage == Storage::output || is_result,
          "{} '{}' has no memory that can be written", kind, entry.name);
    if (section_ != nullptr) check_lane(id, storage);
    for (const PlanProfile& profile : plan_.profiles) {
      if (storage != Storage::arena || entry.storage == Storage::view || !entry.type.is_static()) continue;
      check(*static_bytes(entry.type) <= profile.arena_sizes[static_cast<std::size_t>(id)],
            "{} '{}' needs {} bytes, but has room for {}", kind, entry.name, *static_bytes(entry.type),
            profile.arena_sizes[static_cast<std::size_t>(id)]);
    }
    check(written_[static_cast<std::size_t>(id)] == Written::no, "{} '{}' is computed twice", kind, entry.name);
    written_[static_cast<std::size_t>(id)] = Written::yes;
    writes_.push_back(id);
    if (entry.storage == Storage::view) ++parts_written_[static_cast<std::size_t>(entry.view_of)];
  }

  // --- Steps --------------------------------------------------------------------------------------------------------

  void check_steps(const std::vector<PlanStep>& steps) {
    for (const PlanStep& step : steps) {
      try {
        check_step(step);
      } catch (const Error& error) {
        throw Error(Code::incompatible_engine,
                    fmt::format("step '{}' ({}): {}", step.name, step.op_type, error.message()));
      }
    }
  }

  void check_step(const PlanStep& step) {
    for (const std::int32_t input : step.inputs) {
      if (input != -1) check_read(input, "input");
    }
    const OpPtr op = make_op(step.op_type, step.attributes);
    const bool is_control_flow = step.op_type == "If" || step.op_type == "Loop" || step.op_type == "Scan";
    const bool is_section = step.op_type == "Samples";
    const bool is_run_by_runtime = is_control_flow || step.op_type == "DimValues";
    check(is_control_flow || is_section || step.blocks.empty(), "the operator holds no blocks");
    check(step.choices.size() == (is_run_by_runtime ? 0 : plan_.profiles.size()), "{} choices for {} profiles",
          step.choices.size(), plan_.profiles.size());
    if (section_ != nullptr) check_sample_step(step, *op);
    for (std::size_t p = 0; p < step.choices.size(); ++p) {
      check_choice(step.choices[p], plan_.profiles[p]);
      if (section_ != nullptr) check_lane(step.choices[p], p);
    }

    const bool decides_shapes = is_control_flow || step.infer_at_run_time || op->sets_output_shape();
    check(decides_shapes || step.bindings.empty(), "it decides symbols, but its shapes are known before it runs");
    if (is_control_flow) {
      check(!step.infer_at_run_time, "control flow does not infer shapes");
      check_control_flow(step, *op);
    }
    if (is_section) {
      check(!step.infer_at_run_time, "a sample section does not infer shapes");
      check_section(step);
    }
    // A step whose sizes are known beforehand gets its memory beforehand.
    if (!decides_shapes) {
      for (const std::int32_t output : step.outputs) {
        if (output != -1 && is_value(output)) check_symbols(output, "output");
      }
    }
    for (const std::int32_t output : step.outputs) {
      if (output == -1) continue;
      write(output, "output");
      check(!decides_shapes || value(output).storage != Storage::view || step.bindings.empty(),
            "output '{}' is a view, but its size is not known before", value(output).name);
    }
    bind(step.bindings, step.outputs, "it");
    for (const std::int32_t output : step.outputs) {
      if (output != -1) check_symbols(output, "output");
    }
    if (step.op_type == "DimValues") check_dim_values(step);
    if (!is_control_flow && !is_section) check_types(step, *op);
  }

  void check_choice(const PlanChoice& choice, const PlanProfile& profile) const {
    check(choice.workspace_offset % kAlignment == 0 &&
              fits(choice.workspace_offset, choice.workspace_bytes, profile.arena_bytes),
          "its scratch memory does not lie in the arena");
    for (const PlanWeight& weight : choice.weights) {
      check(weight.offset % kAlignment == 0 && fits(weight.offset, weight.size, weights_.size),
            "its packed weights do not lie in the weights");
    }
    check(choice.code.offset % kAlignment == 0 && fits(choice.code.offset, choice.code.size, code_bytes_),
          "its machine code does not lie in the code section");
    check(!choice.on_host || plan_.backend != "cpu", "it runs on the host anyway");
  }

  void check_types(const PlanStep& step, const Op& op) {
    StepInference inference({plan_, weights_, integers_}, step);
    op.infer(inference);
    for (std::size_t i = 0; i < step.outputs.size(); ++i) {
      if (step.outputs[i] < 0) continue;
      if (auto& elements = inference.integers_of_output[i]) {
        integers_.insert_or_assign(step.outputs[i], std::move(*elements));
      }
      const TensorType& stored = value(step.outputs[i]).type;
      const TensorType& inferred = inference.types[i];
      check(stored.dtype == inferred.dtype && stored.rank() == inferred.rank(),
            "output {} is stored as {}, but its shape rule gives {}", i, to_string(stored), to_string(inferred));
      for (int axis = 0; axis < stored.rank(); ++axis) {
        const Dim& a = stored.dims[static_cast<std::size_t>(axis)];
        const Dim& b = inferred.dims[static_cast<std::size_t>(axis)];
        if (inference.fresh_axes[i].contains(axis)) {
          const bool is_bound = std::any_of(
              step.bindings.begin(), step.bindings.end(),
              [&](const PlanBinding& binding) { return binding.value == step.outputs[i] && binding.axis == axis; });
          check(is_bound || step.infer_at_run_time || op.sets_output_shape(),
                "only a run can tell the size of output {} axis {}, but the plan does not ask for it", i, axis);
          continue;
        }
        check(!a.is_constant() || !b.is_constant() || a == b, "output {} is stored as {}, but its shape rule gives {}",
              i, to_string(stored), to_string(inferred));
      }
    }
  }

  void check_dim_values(const PlanStep& step) const {
    check(step.outputs.size() == 1 && step.outputs[0] >= 0, "it needs one output");
    check(value(step.outputs[0]).storage != Storage::view, "its output is a view");
    std::vector<Dim> elements;
    for (const std::string& text : step.attributes.get_strings("elements", {})) {
      elements.push_back(Dim::parse(text));
      check_symbols(elements.back(), "an element");
    }
    check(value(step.outputs[0]).type.num_elements() == Dim(static_cast<std::int64_t>(elements.size())),
          "{} elements for an output of shape {}", elements.size(), to_string(value(step.outputs[0]).type.dims));
  }

  // --- Control flow -------------------------------------------------------------------------------------------------

  /// Values computed and symbols decided inside the block end with it.
  void check_block(const PlanBlock& block, std::size_t num_inputs, std::size_t num_outputs) {
    check(block.inputs.size() == num_inputs && block.outputs.size() == num_outputs,
          "a block has {} inputs and {} outputs, the operator needs {} and {}", block.inputs.size(),
          block.outputs.size(), num_inputs, num_outputs);
    const std::size_t writes_before = writes_.size();
    for (const std::int32_t input : block.inputs) {
      write(input, "block input");
      check(value(input).storage != Storage::view, "block input '{}' is a view", value(input).name);
    }
    bind(block.bindings, block.inputs, "a block");
    for (const std::int32_t input : block.inputs) check_symbols(input, "block input");
    ++depth_;
    check_steps(block.steps);
    --depth_;
    for (const std::int32_t output : block.outputs) {
      check_read(output, "block output");
      check(value(output).storage != Storage::none, "block output '{}' has no memory", value(output).name);
      check(is_contiguous(output), "block output '{}' is not contiguous", value(output).name);
    }
    forget(block.bindings);
    for (const PlanStep& step : block.steps) forget(step.bindings);
    close_block(writes_before);
  }
  void close_block(std::size_t writes_before) {
    for (std::size_t i = writes_before; i < writes_.size(); ++i) {
      const std::int32_t id = writes_[i];
      written_[static_cast<std::size_t>(id)] = Written::in_block;
      if (value(id).storage == Storage::view) --parts_written_[static_cast<std::size_t>(value(id).view_of)];
    }
    writes_.resize(writes_before);
  }

  bool is_contiguous(std::int32_t id) const { return value(id).pitch == natural_pitch(value(id).type); }

  /// The runtime itself copies these operands.
  void check_copied(const std::vector<std::int32_t>& operands, std::size_t count) const {
    for (std::size_t i = 0; i < count; ++i) {
      if (operands[i] < 0) continue;
      check(value(operands[i]).storage != Storage::none && is_contiguous(operands[i]),
            "operand '{}' has no memory or is not contiguous", value(operands[i]).name);
    }
  }
  void check_single(std::int32_t id, DType dtype, std::string_view what) const {
    check(is_single(value(id).type, dtype), "{} must be one {}, but is {}", what, to_string(dtype),
          to_string(value(id).type));
  }
  /// `extra`: axes that `b` has more than `a`.
  void check_same_kind(std::int32_t a, std::int32_t b, int extra, std::string_view what) const {
    check(is_value(a) && is_value(b), "{} is missing", what);
    check(value(a).type.dtype == value(b).type.dtype && value(a).type.rank() + extra == value(b).type.rank(),
          "{}: '{}' is {}, but '{}' is {}", what, value(a).name, to_string(value(a).type), value(b).name,
          to_string(value(b).type));
  }

  void check_control_flow(const PlanStep& step, const Op& op) {
    for (const std::int32_t output : step.outputs) {
      check(output == -1 || (is_value(output) && value(output).storage != Storage::view),
            "an output of control flow is a view or does not exist");
    }
    if (op.type() == "If") {
      check_if(step);
    } else if (const auto* loop = dynamic_cast<const Loop*>(&op)) {
      check_loop(step, *loop);
    } else if (const auto* scan = dynamic_cast<const Scan*>(&op)) {
      check_scan(step, scan->spec());
    }
  }

  void check_if(const PlanStep& step) {
    check(step.blocks.size() == 2, "{} blocks, not 2", step.blocks.size());
    check(!step.inputs.empty() && step.inputs[0] >= 0, "there is no condition");
    check_single(step.inputs[0], DType::boolean, "the condition");
    check_copied(step.inputs, 1);
    for (const PlanBlock& block : step.blocks) {
      check_block(block, 0, step.outputs.size());
      for (std::size_t i = 0; i < step.outputs.size(); ++i) {
        if (step.outputs[i] >= 0) check_same_kind(block.outputs[i], step.outputs[i], 0, "a result");
      }
    }
  }

  void check_loop(const PlanStep& step, const Loop& loop) {
    const auto carried = static_cast<std::size_t>(loop.num_carried());
    check(step.blocks.size() == 1, "{} blocks, not 1", step.blocks.size());
    check(step.inputs.size() >= 2 + carried && step.outputs.size() >= carried, "too few inputs or outputs");
    check_copied(step.inputs, 2 + carried);
    if (step.inputs[0] >= 0) check_single(step.inputs[0], DType::int64, "the trip count");
    if (step.inputs[1] >= 0) check_single(step.inputs[1], DType::boolean, "the condition");
    const PlanBlock& body = step.blocks[0];
    check_block(body, 2 + carried, 1 + step.outputs.size());
    check_single(body.inputs[0], DType::int64, "the iteration");
    check_single(body.inputs[1], DType::boolean, "the body's condition");
    check_single(body.outputs[0], DType::boolean, "the next condition");
    for (std::size_t i = 0; i < carried; ++i) {
      check_same_kind(step.inputs[2 + i], body.inputs[2 + i], 0, "a carried value");
      check_same_kind(body.outputs[1 + i], body.inputs[2 + i], 0, "a carried value");
      if (step.outputs[i] >= 0) check_same_kind(body.inputs[2 + i], step.outputs[i], 0, "a carried value");
    }
    for (std::size_t i = carried; i < step.outputs.size(); ++i) {
      if (step.outputs[i] >= 0) check_same_kind(body.outputs[1 + i], step.outputs[i], 1, "a scan output");
    }
  }

  void check_scan(const PlanStep& step, const Scan::Spec& spec) {
    const auto carried = static_cast<std::size_t>(spec.num_carried);
    const std::size_t scanned = spec.input_axes.size();
    check(step.blocks.size() == 1, "{} blocks, not 1", step.blocks.size());
    check(scanned >= 1 && spec.input_directions.size() == scanned, "it scans nothing");
    check(step.inputs.size() >= carried + scanned && step.outputs.size() == carried + spec.output_axes.size() &&
              spec.output_directions.size() == spec.output_axes.size(),
          "the numbers of inputs and outputs do not fit the operator");
    check_copied(step.inputs, carried + scanned);
    const PlanBlock& body = step.blocks[0];
    check_block(body, carried + scanned, step.outputs.size());
    const auto check_axis = [](std::int64_t axis, int rank) {
      check(-rank <= axis && axis < rank, "axis {} of a value with {} axes", axis, rank);
    };
    for (std::size_t i = 0; i < carried; ++i) {
      check_same_kind(step.inputs[i], body.inputs[i], 0, "a carried value");
      check_same_kind(body.outputs[i], body.inputs[i], 0, "a carried value");
      if (step.outputs[i] >= 0) check_same_kind(body.inputs[i], step.outputs[i], 0, "a carried value");
    }
    for (std::size_t i = 0; i < scanned; ++i) {
      check_same_kind(body.inputs[carried + i], step.inputs[carried + i], 1, "a scanned value");
      check_axis(spec.input_axes[i], value(step.inputs[carried + i]).type.rank());
    }
    for (std::size_t i = carried; i < step.outputs.size(); ++i) {
      if (step.outputs[i] < 0) continue;
      check_same_kind(body.outputs[i], step.outputs[i], 1, "a scan output");
      check_axis(spec.output_axes[i - carried], value(step.outputs[i]).type.rank());
    }
  }

  // --- Sample sections ----------------------------------------------------------------------------------------------

  /// Slices of operands can be read in the block, those of results are written there. Both exist for this step only.
  void check_section(const PlanStep& step) {
    check(depth_ == 0, "a sample section inside a block");
    check(plan_.backend == "cpu", "sample sections are there for the backend cpu only");
    check(step.blocks.size() == 1, "{} blocks, not 1", step.blocks.size());
    const PlanBlock& block = step.blocks[0];
    check(!step.inputs.empty() && !step.outputs.empty() && block.inputs.size() == step.inputs.size() &&
              block.outputs.size() == step.outputs.size(),
          "{} inputs and {} outputs, but the block has {} and {}", step.inputs.size(), step.outputs.size(),
          block.inputs.size(), block.outputs.size());
    check(block.bindings.empty(), "the block decides symbols");
    for (std::size_t p = 0; p < step.choices.size(); ++p) {
      const PlanChoice& choice = step.choices[p];
      check(choice.tactic == SampleSection::kTactic && choice.parameters.size() == 1 && choice.weights.empty() &&
                choice.code.size == 0 && !choice.on_host,
            "its choice for profile {} is none of a sample section", p);
      const std::int64_t lanes = choice.parameters[0];
      check(1 <= lanes && lanes <= kMaxThreads &&
                choice.workspace_bytes % (static_cast<std::uint64_t>(lanes) * kAlignment) == 0,
            "{} bytes for {} lanes in profile {}", choice.workspace_bytes, lanes, p);
    }
    const auto check_slice = [&](std::int32_t whole, std::int32_t slice, Slice use) {
      check(is_value(whole) && value(whole).storage != Storage::none && value(whole).storage != Storage::slice &&
                is_contiguous(whole),
            "operand {} is no value with samples", whole);
      check(is_value(slice) && value(slice).storage == Storage::slice && value(slice).view_of == whole,
            "value {} of the block is no slice of '{}'", slice, value(whole).name);
      check(slices_[static_cast<std::size_t>(slice)] == Slice::none, "the slice '{}' comes twice", value(slice).name);
      slices_[static_cast<std::size_t>(slice)] = use;
      const TensorType& of_all = value(whole).type;
      const TensorType& of_one = value(slice).type;
      const bool fits = of_one.dtype == of_all.dtype && of_one.rank() == of_all.rank() && of_one.rank() > 0 &&
                        of_one.dims[0] == Dim(1) &&
                        std::equal(of_one.dims.begin() + 1, of_one.dims.end(), of_all.dims.begin() + 1);
      check(fits, "'{}' is {}, which is no sample of {}", value(slice).name, to_string(of_one), to_string(of_all));
      check(of_all.dims[0] == value(step.inputs[0]).type.dims[0], "'{}' has {} samples, '{}' has {}", value(whole).name,
            of_all.dims[0].to_string(), value(step.inputs[0]).name, value(step.inputs[0]).type.dims[0].to_string());
      check_symbols(whole, "an operand");
    };
    check(step.inputs[0] >= 0 && value(step.inputs[0]).type.rank() > 0, "its first input has no samples");
    for (std::size_t i = 0; i < step.inputs.size(); ++i) {
      check_slice(step.inputs[i], block.inputs[i], Slice::operand);
      written_[static_cast<std::size_t>(block.inputs[i])] = Written::yes;
    }
    for (std::size_t i = 0; i < step.outputs.size(); ++i) {
      check_slice(step.outputs[i], block.outputs[i], Slice::open_result);
    }
    const std::size_t writes_before = writes_.size();
    section_ = &step;
    check_steps(block.steps);
    section_ = nullptr;
    for (const std::int32_t output : block.outputs) check_read(output, "block output");
    close_block(writes_before);
    for (const std::int32_t input : block.inputs) written_[static_cast<std::size_t>(input)] = Written::in_block;
    for (const std::int32_t output : block.outputs) slices_[static_cast<std::size_t>(output)] = Slice::result;
  }

  /// A kernel whose shapes are known before it runs.
  static void check_sample_step(const PlanStep& step, const Op& op) {
    check(step.blocks.empty() && !step.choices.empty() && !step.infer_at_run_time && step.bindings.empty() &&
              !op.sets_output_shape(),
          "a sample section holds nothing but kernels whose shapes are known before they run");
  }
  /// What the section writes belongs to one lane, or is a slice of a result.
  void check_lane(std::int32_t id, Storage storage) const {
    check(storage == Storage::arena || storage == Storage::slice, "'{}' is written in a section, but has no lane",
          value(id).name);
    if (storage == Storage::slice) return;
    const auto owner = static_cast<std::size_t>(owner_of(id));
    for (std::size_t p = 0; p < plan_.profiles.size(); ++p) {
      const SampleSection lanes = SampleSection::of(section_->choices[p]);
      const PlanProfile& profile = plan_.profiles[p];
      check(profile.arena_offsets[owner] >= lanes.offset &&
                fits(profile.arena_offsets[owner] - lanes.offset, profile.arena_sizes[owner], lanes.lane_bytes),
            "'{}' does not lie in the section's first lane in profile {}", value(id).name, p);
    }
  }
  void check_lane(const PlanChoice& choice, std::size_t p) const {
    if (choice.workspace_bytes == 0) return;
    const SampleSection lanes = SampleSection::of(section_->choices[p]);
    check(choice.workspace_offset >= lanes.offset &&
              fits(choice.workspace_offset - lanes.offset, choice.workspace_bytes, lanes.lane_bytes),
          "its scratch memory does not lie in the section's first lane in profile {}", p);
  }

  enum class Written : std::uint8_t { no, yes, in_block };  // in_block: in one that is over

  const Plan& plan_;
  const WeightData& weights_;
  std::uint64_t code_bytes_;
  std::map<std::string, bool> symbols_;                                    // false: decided in a block that is over
  std::vector<Written> written_;                                           // by value
  std::vector<int> parts_written_;                                         // by value: views into it that are written
  std::vector<std::int32_t> writes_;                                       // in order, of the blocks that are open
  enum class Slice : std::uint8_t { none, operand, open_result, result };  // open: of the section that is checked
  std::vector<Slice> slices_;                                              // by value
  const PlanStep* section_ = nullptr;                                      // whose block is checked
  int depth_ = 0;                                                          // of blocks of control flow
  std::map<std::int32_t, std::vector<Dim>> integers_;
};

}  // namespace

void validate_plan(const Plan& plan, const WeightData& weights, std::uint64_t code_bytes) {
  try {
    PlanValidator(plan, weights, code_bytes).run();
    visit_in_place(plan, [](const PlanStep&, int, int) {});
  } catch (const Error& error) {
    throw Error(Code::incompatible_engine, fmt::format("section 'plan': {}", error.message()));
  }
}

}  // namespace tenfold
