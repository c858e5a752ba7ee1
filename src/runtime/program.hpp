// An engine made ready to run: the plan with operators, kernels and dimension programs in place of names and texts.
// Immutable; shared by all contexts.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.hpp"
#include "engine/engine_file.hpp"
#include "runtime/dim_program.hpp"

namespace tenfold {

/// "Symbol `slot` is the size of `value` along `axis`."
struct SymbolBinding {
  int slot = 0;
  std::int32_t value = -1;
  int axis = 0;
};

/// Symbols that become known at one place, and the values whose dimensions depend on them.
struct BindingGroup {
  std::vector<SymbolBinding> bindings;
  std::vector<std::int32_t> dependents;
};

struct RunStep;
struct RunBlock {
  std::vector<std::int32_t> inputs;
  std::vector<std::int32_t> outputs;
  BindingGroup bindings;
  std::vector<RunStep> steps;
};

enum class StepKind : std::uint8_t { kernel, dim_values, branch, loop, scan, samples };

/// An operand of a step of a sample section, of all its steps one after the other: where it lies depends on who asks.
struct SampleOperand {
  std::int32_t value = -1;
  std::int32_t slice = -1;  ///< it lies in this slice, so it moves from sample to sample
  bool in_lane = false;     ///< every lane has its own
};

struct RunStep {
  StepKind kind = StepKind::kernel;
  const PlanStep* plan = nullptr;
  OpPtr op;
  std::vector<std::int32_t> inputs;
  std::vector<std::int32_t> outputs;
  std::vector<std::shared_ptr<const Kernel>> kernels;  ///< by profile
  std::vector<WeightPanels> next_weights;              ///< by profile; Launch::next_weights
  bool infer_at_run_time = false;
  bool sets_output_shape = false;
  /// Outputs, or owners of outputs that are views, whose memory must be made before the kernel runs.
  std::vector<std::int32_t> growable_outputs;
  std::vector<int> shape_inputs;     ///< Op::shape_inputs
  std::vector<int> symbols;          ///< that the operands' shapes depend on
  std::vector<std::uint8_t> wanted;  ///< by output
  /// By input: do its contents depend on nothing but symbols? Shape rules may then look at them.
  std::vector<std::uint8_t> has_known_contents;
  BindingGroup bindings;
  std::vector<DimProgram> elements;  ///< of dim_values
  std::vector<RunBlock> blocks;
  std::vector<SampleOperand> sample_operands;  ///< of samples: inputs and outputs of each of the block's steps
  int index = 0;                               ///< position among all steps, blocks included
};

/// The dimensions, offset and pitch of a value as programs.
struct RunValue {
  std::vector<DimProgram> dims;
  DimProgram view_offset;
  DimProgram pitch;
  std::size_t first_dim = 0;        ///< where its dimensions lie in a context's flat array
  std::vector<std::int32_t> views;  ///< values that lie in this one
};

class Program {
 public:
  /// Makes operators and kernels, and asks the kernels whether they can do what the plan takes for granted: pitched
  /// operands, results in the place of operands. Throws Error(incompatible_engine) with the step's name.
  Program(EngineFile file, const Backend& backend);

  const Plan& plan() const { return file_.plan; }
  const EngineFile& file() const { return file_; }
  const Backend& backend() const { return backend_; }
  const std::vector<RunValue>& values() const { return values_; }
  const std::vector<RunStep>& steps() const { return steps_; }
  const BindingGroup& input_bindings() const { return input_bindings_; }
  int num_symbols() const { return static_cast<int>(symbols_.size()); }
  std::size_t num_dims() const { return num_dims_; }
  int num_steps() const { return num_steps_; }
  /// The symbol's index. Throws Error(incompatible_engine) if nothing in the plan binds it.
  int slot_of(const std::string& symbol) const;
  /// The weights section, on the device. `values` of Storage::constant lie in it.
  const std::byte* weights() const { return weights_; }
  /// The same on the host.
  const std::byte* host_weights() const { return file_.weights.data; }
  /// On a device: does every run with the same input shapes enqueue the same work, so that it can be recorded once?
  bool is_repeatable() const { return is_repeatable_; }
  /// Zeros, as many as the largest value that exists in packed weights only. A kernel that has packed an operand never
  /// looks here; one that an engine file led astray reads zeros and not what lies at address 0.
  const void* zeros() const { return zeros_.get(); }

 private:
  BindingGroup make_bindings(const std::vector<PlanBinding>& bindings) const;
  std::vector<RunStep> make_steps(const std::vector<PlanStep>& steps);
  RunStep make_step(const PlanStep& step);
  static void find_next_weights(std::vector<RunStep>& steps);
  void make_kernels(const PlanStep& step, RunStep& run) const;
  std::vector<SampleOperand> sample_operands(const PlanBlock& block) const;
  void check_in_place() const;
  void place_weights();
  void check_repeatable();
  void collect_symbols(const std::vector<PlanBinding>& bindings);
  void collect_symbols(const std::vector<PlanStep>& steps);

  EngineFile file_;
  const Backend& backend_;
  std::map<std::string, int, std::less<>> symbols_;
  std::vector<std::vector<std::int32_t>> dependents_;  // by symbol
  std::vector<RunValue> values_;
  std::vector<RunStep> steps_;
  BindingGroup input_bindings_;
  std::size_t num_dims_ = 0;
  int num_steps_ = 0;
  std::map<std::int32_t, std::vector<int>> dim_values_;  // outputs of DimValues seen so far: symbols they depend on
  const std::byte* weights_ = nullptr;
  bool is_repeatable_ = false;
  std::unique_ptr<Buffer> device_weights_;
  std::shared_ptr<const void> zeros_;
};

}  // namespace tenfold
