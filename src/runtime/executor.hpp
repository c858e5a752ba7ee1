// One place to run a program: its memory, the shapes it has now, and the walk over the steps.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ops/concrete_infer.hpp"
#include "runtime/program.hpp"
#include "tenfold/tenfold.hpp"

namespace tenfold {

double now_us();
/// The tensor's rows, which begin at `from`, without the gaps between them.
void copy_rows(const TensorView& tensor, const void* from, std::byte* to);

class Executor {
 public:
  /// `stream` may be shared by executors of a host backend: its kernels run in the calling thread.
  Executor(std::shared_ptr<const Program> program, std::shared_ptr<Stream> stream, int profile,
           std::int64_t max_loop_iterations);
  ~Executor();

  void set_profile(int profile);
  /// Throws Error(invalid_argument) naming input, axis, range and value. Cheap when the shape is as before.
  void set_input(int index, std::span<const std::int64_t> dims, const void* data);
  void set_output(int index, void* data, std::size_t capacity_bytes);
  void run();
  /// Enqueues one run on `stream`, or on the own stream if it is nullptr. Host backends run it at once.
  void enqueue(Stream* stream);
  /// Runs once on zeros for inputs without data, at the shapes that are set, else at the profile's optimum.
  void warm_up();
  OutputView output(int index) const;
  /// With the inputs that are set; -1: decided while running.
  std::vector<std::int64_t> output_dims(int index);

  bool profiling = false;
  std::vector<StepTime> step_times;
  Context::StepObserver observer;

 private:
  struct InputState {
    const void* data = nullptr;
    bool is_set = false;
    std::unique_ptr<Buffer> staging;  // on a device that cannot read the caller's memory
    std::unique_ptr<Buffer> pinned;   // from where the device copies without blocking
  };
  struct OutputState {
    void* user_data = nullptr;
    std::size_t user_capacity = 0;
    std::unique_ptr<Buffer> buffer;
    std::unique_ptr<Buffer> host_copy;
  };
  /// A recorded run: for these shapes and addresses.
  struct Recording {
    std::vector<std::int64_t> key;
    std::unique_ptr<Buffer> sizes;  // what DimValues steps copy to the device
    std::unique_ptr<CapturedGraph> graph;
    std::uint64_t last_use = 0;
  };

  const PlanValue& plan_value(std::int32_t id) const { return program_->plan().values[static_cast<std::size_t>(id)]; }
  const RunValue& run_value(std::int32_t id) const { return program_->values()[static_cast<std::size_t>(id)]; }
  TensorView& view(std::int32_t id) { return views_[static_cast<std::size_t>(id)]; }
  std::size_t bytes_of(std::int32_t id) const;

  // --- Shapes
  std::span<std::int64_t> dims_of(std::int32_t id);
  void update_dims(std::int32_t id);
  /// Reads the symbols from the values' dimensions; updates what depends on them if one changed.
  void bind(const BindingGroup& group);
  /// Gives a value the dimensions that its producer decided. `check_dims` follows, once symbols are bound.
  void set_dims(std::int32_t id, std::span<const std::int64_t> dims);
  /// Are the dimensions the ones that the plan's expressions give?
  void check_dims(std::int32_t id) const;
  void check_dims(std::span<const std::int32_t> ids) const;
  /// Everything about a step that its operands' shapes decide. Does nothing while they stay the same.
  void check_shapes(const RunStep& step, const Launch& launch);
  /// Scratch memory beside the arena, for shapes that have no bound.
  std::span<std::byte> own_workspace(std::size_t bytes);
  void check_inputs();

  // --- Memory
  std::string smaller_profiles(int profile) const;
  void place(std::int32_t id, void* data);  ///< and the views that lie in it
  void update_view(std::int32_t id);
  /// Does the value, with the dimensions it has now, lie in its place, or in its owner? Its symbols must be known.
  void check_place(std::int32_t id) const;
  /// Memory for a value whose size is now known: a growable one, or a network output.
  void make_room(std::int32_t id);
  void copy_value(std::int32_t from, std::int32_t to);
  /// The value's bytes on the host; on a device copied to `scratch`.
  const void* host_data(std::int32_t id, std::vector<std::byte>& scratch);
  void store_from_host(std::int32_t id, const void* data, std::size_t bytes);

  // --- Devices
  /// Can kernels work on the caller's memory at this address?
  bool can_use_in_place(const void* address) const;
  void bind_device_inputs(bool waits);
  void bind_device_outputs();
  void copy_outputs_to_host(bool waits);
  void run_on_device();
  void replay_or_record();
  void profile_on_device();
  std::unique_ptr<CapturedGraph> record_run();
  void run_on_host(const RunStep& step, const Launch& launch);

  // --- Steps
  void run_checked();
  void run_steps(const std::vector<RunStep>& steps);
  void run_step(const RunStep& step);
  void run_kernel(const RunStep& step);
  void infer_outputs(const RunStep& step);
  void run_dim_values(const RunStep& step);
  void run_branch(const RunStep& step);
  void run_loop(const RunStep& step);
  void count_iterations(const RunStep& step, std::int64_t count);
  void run_scan(const RunStep& step);
  void run_samples(const RunStep& step);
  void finish_outputs(const RunStep& step);
  /// `num_runs`: as often with these shapes.
  void record(const RunStep& step, double start_us, double duration_us, std::int64_t num_runs = 1);
  void observe(const RunStep& step);

  /// Elements of scan outputs while a loop runs; kept between runs.
  struct Accumulator {
    std::vector<std::byte> bytes;
    Shape element;
    std::int64_t count = 0;
  };
  /// What a step was checked for.
  struct StepState {
    bool is_checked = false;
    std::uint64_t epoch = 0;            ///< of the check
    std::vector<std::int64_t> symbols;  ///< as they were
    std::size_t workspace_bytes = 0;    ///< for these shapes
    // Of a step that infers its shapes when it runs: what it found for these operands.
    std::vector<std::int64_t> inferred_from;
    std::vector<Shape> inferred;
    // By input: those that decide shapes, as the host sees them in this run, and copies from a device.
    std::vector<const void*> shape_data;
    std::vector<std::vector<std::byte>> shape_copies;
  };
  struct LoopState {
    std::vector<Accumulator> accumulators;
    std::vector<std::vector<std::byte>> carried;
    std::vector<Shape> carried_dims;
  };
  // --- Sample sections
  /// An operand as sample 0 of lane 0 sees it, and how far the others' lie apart.
  struct SampleView {
    TensorView view;
    std::size_t sample_stride = 0, lane_stride = 0;  ///< bytes
  };
  /// A thread's own place in a sample section.
  struct Lane {
    std::vector<TensorView> operands;  ///< scratch for launches, sized for the widest step
    std::vector<double> step_us;       ///< while profiling: what each of the block's steps took
    std::exception_ptr error;
    std::int64_t failed_sample = 0;
  };
  void make_lanes();
  void place_lanes();
  /// That may be used at once.
  std::size_t num_lanes(const SampleSection& planned) const;
  /// Where lane 0 begins.
  std::byte* lane_data(const SampleSection& planned);
  void prepare_samples(const RunStep& step, std::int64_t num_samples);
  /// `operands`: of this step among sample_views_. Returns the results as the kernel saw them.
  std::span<const TensorView> run_sample_step(const RunStep& section, const RunStep& step, const SampleView* operands,
                                              std::int64_t sample, std::size_t lane, Stream& stream);
  void run_sample(const RunStep& section, std::int64_t sample, std::size_t lane, Stream& stream);
  void run_in_lane(const RunStep& step, std::atomic<std::int64_t>& next, std::int64_t end, std::size_t lane);
  void observe_samples(const RunStep& step, std::int64_t num_samples);
  void record_samples(const RunStep& step, std::int64_t num_samples, double start_us, double duration_us);
  void fill_block_input(std::int32_t target, std::int32_t source);
  void append(Accumulator& accumulator, std::int32_t value);
  void finish_scan_output(const Accumulator& accumulator, std::int32_t output, std::int64_t axis, bool reversed);
  void carry_over(const RunBlock& block, std::size_t first_output, std::size_t first_input, std::size_t count,
                  LoopState& state);

  std::shared_ptr<const Program> program_;
  std::shared_ptr<Stream> stream_;
  Stream* current_stream_;  // stream_, or the caller's while `enqueue` runs
  const Backend& backend_;
  ConcreteInfer inference_;
  int profile_ = 0;
  std::vector<std::int64_t> symbols_;
  std::vector<std::int64_t> dims_;
  std::vector<TensorView> views_;
  std::vector<InputState> inputs_;
  std::vector<OutputState> outputs_;
  std::vector<std::int32_t> output_index_;         // by value; -1: no network output
  std::vector<std::unique_ptr<Buffer>> growable_;  // by value
  std::vector<const void*> host_of_;  // by value, on a device: contents that the host knows too
  std::vector<const void*> host_operands_;
  std::vector<Recording> recordings_;
  std::vector<std::int64_t> recording_key_;
  std::vector<std::int64_t> last_key_;
  std::uint64_t num_runs_ = 0;
  std::unique_ptr<Buffer> sizes_;  // of DimValues steps, on the host
  std::size_t sizes_at_ = 0;
  std::unique_ptr<Buffer> arena_;
  std::unique_ptr<Buffer> workspace_;
  std::vector<SampleView> sample_views_;  // of the section that runs now
  std::vector<Lane> lanes_;               // empty: the plan has no section
  std::vector<std::unique_ptr<Stream>> lane_streams_;
  std::unique_ptr<Buffer> lane_memory_;  // where there are more threads than the plan has lanes for
  std::vector<LoopState> loops_;   // by step
  std::vector<StepState> states_;  // by step
  std::uint64_t epoch_ = 1;        // counts changes of symbols
  bool has_run_ = false;
  bool must_bind_ = true;  // the profile changed: places must be checked again
  std::int64_t max_loop_iterations_;
  std::int64_t iterations_left_ = 0;  // of the loops of this run
  std::vector<std::int64_t> infer_key_;
  std::vector<TensorView> operands_;  // scratch for launches, sized for the widest step
  std::vector<std::byte> scratch_;
  std::function<const TensorView&(int, const Shape&)> resize_;
  const RunStep* current_ = nullptr;
  double run_start_us_ = 0;
};

}  // namespace tenfold
