// Tenfold's C++ API: compile a model into an engine, load an engine, run it.
//
//   tenfold::Engine engine = tenfold::Engine::load("model.engine");
//   tenfold::Context context = engine.make_context();
//   context.set_input("x", {1, 3, 224, 224}, pixels);
//   context.run();
//   std::span<const float> scores = context.output("y").values<float>();
//
// Link `tenfold_runtime` to load and run; link `tenfold` to compile as well. All errors are tenfold::Error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tenfold/types.hpp"

namespace tenfold {

/// A named input or output of an engine. A dimension of -1 is decided when it runs.
struct TensorInfo {
  std::string name;
  DType dtype = DType::undefined;
  std::vector<std::int64_t> dims;
  std::vector<std::string> dim_names;  ///< the model's expression for each dimension: "batch", "2*floordiv(w, 8)"
};

/// The shapes that one profile accepts for one input, per axis.
struct ShapeRange {
  std::vector<std::int64_t> min, opt, max;
};

/// A kernel that the builder looked at for one step.
struct StepCandidate {
  int profile = 0;
  std::string tactic;
  std::vector<std::int64_t> parameters;
  std::string refusal;  ///< why it cannot compute the step; empty if it can
  double time_us = 0;   ///< 0 if it was not timed
  bool chosen = false;
};

/// One step of an engine.
struct StepInfo {
  std::string name;
  std::vector<std::string> origins;  ///< names of the model's nodes it computes
  std::string op_type;
  std::string attributes;  ///< "{axis=1}"
  std::vector<TensorInfo> inputs, outputs;
  // By profile; empty for what the runtime does itself (control flow, shape arithmetic).
  std::vector<std::string> tactics;
  std::vector<std::uint64_t> workspace_bytes;
  std::vector<StepCandidate> candidates;
};

/// Where an engine comes from and what it was built for.
struct EngineInfo {
  std::string backend;  ///< "cpu"
  std::string target;   ///< the processor's properties that it needs
  int num_threads = 1;  ///< its kernels were chosen for so many
  std::string model_name, model_producer, model_hash;
  int model_nodes = 0;
  std::string options;              ///< how it was built
  std::vector<std::string> passes;  ///< "fold_conv_bn: 52"
  bool is_portable = false;         ///< runs the model's own graph, since the engine does not fit this processor
};

/// What a run took, per step.
struct StepTime {
  std::string name;                  ///< the step
  std::vector<std::string> origins;  ///< names of the model's nodes it computes
  std::string op_type;
  std::string tactic;   ///< the kernel
  double start_us = 0;  ///< since the start of the run
  double duration_us = 0;
  double flops = 0;  ///< arithmetic operations (multiply-add is 2); 0 if it only moves data
  double bytes = 0;  ///< operands read and written once
};

/// One output after a run. The memory belongs to the context and is valid until its next run.
struct OutputView {
  DType dtype = DType::undefined;
  std::vector<std::int64_t> dims;
  const void* data = nullptr;
  std::size_t size_bytes = 0;
  template <typename T>
  std::span<const T> values() const {
    return {static_cast<const T*>(data), size_bytes / sizeof(T)};
  }
};

struct LoadOptions {
  bool verify = true;   ///< check every section's hash before use
  int num_threads = 0;  ///< 0: as many as the engine was built for, at most the cores available
  /// A loop of the network that runs longer stops the run with an error, as it might never end.
  std::int64_t max_loop_iterations = 10'000'000;
  /// What to do when the engine was built for another processor: fail, or run the portable section if there is one.
  enum class OnMismatch { fail, portable } on_mismatch = OnMismatch::fail;
  /// Where to run: "cpu", "cuda", "cuda:1". Empty: where the engine says, the first such device.
  std::string device;
  /// Run the machine code in the file although it was not built by this user on this machine. Only for files whose
  /// origin you know: machine code cannot be checked. Without it, such an engine's kernels are compiled anew.
  bool trust_code = false;
};

class Context;
struct EngineAccess;

/// A loaded engine. Cheap to copy: copies share everything. Thread-safe.
class Engine {
 public:
  /// Maps the file and checks it. Throws Error(incompatible_engine | io_failure | invalid_argument).
  static Engine load(const std::string& path, const LoadOptions& options = {});
  /// The same from memory; `bytes` is copied.
  static Engine load(std::span<const std::byte> bytes, const LoadOptions& options = {});

  std::vector<TensorInfo> inputs() const;
  std::vector<TensorInfo> outputs() const;
  int num_profiles() const;
  /// By input, in the order of inputs().
  std::vector<ShapeRange> profile(int index) const;
  std::map<std::string, std::string> metadata() const;
  std::uint64_t weight_bytes() const;
  std::uint64_t arena_bytes(int profile = 0) const;
  int num_steps() const;
  /// Top-level steps as they run, and behind each sample section its own; none if the portable section runs.
  std::vector<StepInfo> steps() const;
  EngineInfo info() const;
  /// The engine file that was loaded, byte by byte. Valid while this engine, a copy of it, or a context of it exists.
  std::span<const std::byte> file_bytes() const;
  /// Writes the engine file: `path` holds either what it held before or the whole file. Throws Error(io_failure).
  void save(const std::string& path) const;

  /// A place to run. Contexts of one engine share its weights; one context runs in one thread at a time.
  Context make_context(int profile = 0) const;

 private:
  friend class Context;
  friend struct EngineAccess;
  struct State;
  std::shared_ptr<State> state_;
};

class Context {
 public:
  Context(Context&&) noexcept;
  Context& operator=(Context&&) noexcept;
  ~Context();

  /// The input's shape and data for the next runs. The data is read during `run`; it is not copied and must stay valid.
  /// With an engine for a GPU the data may lie in its memory or in the host's.
  /// Throws Error(invalid_argument) naming input, axis, range and value.
  void set_input(std::string_view name, std::span<const std::int64_t> dims, const void* data);
  void set_input(std::string_view name, std::initializer_list<std::int64_t> dims, const void* data) {
    set_input(name, std::span<const std::int64_t>(dims.begin(), dims.size()), data);
  }
  /// Writes this output to the caller's memory instead of the context's. nullptr undoes it.
  /// `capacity_bytes` must hold the output at the shapes that are set, or `run` throws.
  void set_output(std::string_view name, void* data, std::size_t capacity_bytes);

  /// Runs once, from the inputs set, and waits. After a first run with the same shapes it allocates nothing.
  /// Throws Error(invalid_argument) for an input not set, and device_failure.
  void run();
  /// For engines of a GPU: enqueues one run on the caller's stream (a cudaStream_t or CUstream; nullptr: the context's
  /// own) and returns. Inputs and outputs that lie in the GPU's memory are used in place; outputs in the host's memory
  /// hold the results once the stream is synchronized. On other engines it is `run`.
  /// Throws like `run`, except that what fails on the device comes with the stream's next synchronization.
  void enqueue(void* stream = nullptr);
  /// Does all lazy work for the profile's optimum shapes, or those set, so that the next run is not slower than later
  /// ones.
  void warm_up();
  OutputView output(std::string_view name) const;
  /// The shape that this output will have with the inputs that are set; -1 for sizes that only running decides.
  /// Throws Error(invalid_argument) for an input not set and for shapes that contradict each other.
  std::vector<std::int64_t> output_dims(std::string_view name);
  /// Makes another profile current; inputs must be set again.
  void set_profile(int index);

  /// The next runs record per-step times.
  void set_profiling(bool on);
  const std::vector<StepTime>& step_times() const;

  /// Called after each step of a run with its outputs, for debugging; nullptr switches it off.
  using StepObserver = std::function<void(std::string_view step, std::span<const std::string> value_names,
                                          std::span<const OutputView> outputs)>;
  void set_observer(StepObserver observer);

 private:
  friend class Engine;
  struct State;
  explicit Context(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace tenfold
