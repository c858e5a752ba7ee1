#include "build/network_timing.hpp"

#include <algorithm>
#include <chrono>
#include <memory>

#include "build/operands.hpp"
#include "build/place_values.hpp"
#include "runtime/executor.hpp"

namespace tenfold {
namespace {

using Clock = std::chrono::steady_clock;

/// One that takes part: an engine in one of its profiles.
struct Entry {
  std::shared_ptr<const Program> program;
  std::size_t profile = 0;
};

/// The first entry sets the shapes and is what the others are compared with.
class Runs {
 public:
  Runs(std::vector<Entry> entries, const Backend& backend, const NetworkTiming& timing)
      : backend_(backend), timing_(timing) {
    const Plan& plan = entries[0].program->plan();
    const std::vector<PlanRange>& ranges = plan.profiles[entries[0].profile].inputs;
    stream_ = backend.make_stream({timing.num_threads});
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      const TensorType& type = plan.values[static_cast<std::size_t>(plan.inputs[i])].type;
      inputs_.push_back(make_operand(backend, *stream_, type, ranges[i].opt, nullptr));
      shapes_.push_back(ranges[i].opt);
    }
    for (const Entry& entry : entries) {
      executors_.push_back(std::make_unique<Executor>(entry.program, stream_, static_cast<int>(entry.profile),
                                                      LoadOptions{}.max_loop_iterations));
      for (std::size_t i = 0; i < inputs_.size(); ++i) {
        executors_.back()->set_input(static_cast<int>(i), shapes_[i], inputs_[i].view.data);
      }
    }
    for (std::size_t i = 0; i < plan.outputs.size(); ++i) place_output(plan, static_cast<int>(i));
  }

  std::vector<double> ratios() {
    for (const std::unique_ptr<Executor>& executor : executors_) {
      check();
      // On a device the second one is recorded.
      for (int i = 0; i < (backend_.is_host() ? 1 : 3); ++i) executor->enqueue(nullptr);
      stream_->synchronize();
    }
    const double once = microseconds(0, 1);
    const int count = static_cast<int>(std::clamp(timing_.round_us / std::max(once, 1.0), 1.0, 50.0));
    std::vector<std::vector<double>> samples(executors_.size() - 1);
    int rounds = timing_.rounds;
    if (timing_.most_us > 0) {
      const double of_round = 2 * once * count * static_cast<double>(samples.size());
      rounds = static_cast<int>(std::clamp(timing_.most_us / std::max(of_round, 1.0), std::min(3.0, rounds * 1.0),
                                           static_cast<double>(rounds)));
    }
    for (int round = 0; round < rounds; ++round) {
      for (std::size_t p = 1; p < executors_.size(); ++p) {
        check();
        // First one, then the other one in front: a clock that rises or falls takes neither side.
        const bool base_first = (round + static_cast<int>(p)) % 2 == 0;
        const double first = microseconds(base_first ? 0 : p, count);
        const double second = microseconds(base_first ? p : 0, count);
        samples[p - 1].push_back(base_first ? second / first : first / second);
        first_us_.push_back(base_first ? first : second);
      }
      if (timing_.on_progress) timing_.on_progress((round + 1.0) / rounds);
    }
    std::vector<double> result;
    for (std::vector<double>& values : samples) {
      std::sort(values.begin(), values.end());
      const double median = values[values.size() / 2];
      const double disagreeing = median < 1 ? values[values.size() * 3 / 4] : values[values.size() / 4];
      result.push_back((median < 1) == (disagreeing < 1) ? median : 1);
    }
    return result;
  }

  /// The first entry's median time of a run, once `ratios` has run.
  double first_us() {
    if (first_us_.empty()) return 0;
    const auto middle = first_us_.begin() + static_cast<std::ptrdiff_t>(first_us_.size() / 2);
    std::nth_element(first_us_.begin(), middle, first_us_.end());
    return *middle;
  }

 private:
  void check() const {
    if (timing_.is_cancelled && timing_.is_cancelled()) throw Error(Code::cancelled, "the build was cancelled");
  }

  /// Results stay on the device where their size is known.
  void place_output(const Plan& plan, int index) {
    const std::vector<std::int64_t> dims = executors_[0]->output_dims(index);
    if (std::any_of(dims.begin(), dims.end(), [](std::int64_t dim) { return dim < 0; })) return;
    const DType dtype = plan.values[static_cast<std::size_t>(plan.outputs[static_cast<std::size_t>(index)])].type.dtype;
    const std::size_t bytes = static_cast<std::size_t>(num_elements(dims)) * size_of(dtype);
    outputs_.push_back(backend_.allocate(std::max<std::size_t>(bytes, 1)));
    for (const std::unique_ptr<Executor>& executor : executors_) {
      executor->set_output(index, outputs_.back()->data(), outputs_.back()->size_bytes());
    }
  }

  double microseconds(std::size_t profile, int count) {
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < count; ++i) executors_[profile]->enqueue(nullptr);
    stream_->synchronize();
    return std::chrono::duration<double, std::micro>(Clock::now() - start).count() / count;
  }

  const Backend& backend_;
  const NetworkTiming& timing_;
  std::shared_ptr<Stream> stream_;
  std::vector<Operand> inputs_;
  std::vector<Shape> shapes_;
  std::vector<std::unique_ptr<Buffer>> outputs_;
  std::vector<std::unique_ptr<Executor>> executors_;
  std::vector<double> first_us_;  ///< of every round
};

}  // namespace

std::vector<double> time_profiles(EngineFile file, const Backend& backend, const NetworkTiming& timing) {
  const std::size_t num_profiles = file.plan.profiles.size();
  const auto program = std::make_shared<const Program>(std::move(file), backend);
  std::vector<Entry> entries;
  for (std::size_t p = 0; p < num_profiles; ++p) entries.push_back({program, p});
  return Runs(std::move(entries), backend, timing).ratios();
}

std::vector<double> time_networks(std::vector<EngineFile> files, std::size_t profile, const Backend& backend,
                                  const NetworkTiming& timing) {
  std::vector<Entry> entries;
  entries.reserve(files.size());
  for (EngineFile& file : files) {
    entries.push_back({std::make_shared<const Program>(std::move(file), backend), profile});
  }
  Runs runs(std::move(entries), backend, timing);
  std::vector<double> times = runs.ratios();
  for (double& time : times) time *= runs.first_us();
  times.insert(times.begin(), runs.first_us());
  return times;
}

EngineFile trial_engine(LoweredPlan lowered, std::span<const StepChoices> choices,
                        std::span<const ShapeRanges> profiles, std::uint64_t workspace_limit) {
  WeightSection section;
  pack_weights(lowered, choices, section);
  plan_memory(lowered.plan, profiles, choices, workspace_limit);
  EngineFile file;
  file.plan = std::move(lowered.plan);
  const auto bytes = std::make_shared<AlignedWeights>(PackedWeights{{section.take()}, {}});
  file.weights = {bytes->blobs[0].data(), bytes->blobs[0].size(), bytes};
  return file;
}

}  // namespace tenfold
