#include "build/network_timing.hpp"

#include <algorithm>
#include <chrono>
#include <memory>

#include "build/operands.hpp"
#include "runtime/executor.hpp"

namespace tenfold {
namespace {

using Clock = std::chrono::steady_clock;

class Runs {
 public:
  Runs(EngineFile file, const Backend& backend, const NetworkTiming& timing) : backend_(backend), timing_(timing) {
    const std::size_t profiles = file.plan.profiles.size();
    const std::vector<PlanRange>& ranges = file.plan.profiles[0].inputs;
    stream_ = backend.make_stream({timing.num_threads});
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      const TensorType& type = file.plan.values[static_cast<std::size_t>(file.plan.inputs[i])].type;
      inputs_.push_back(make_operand(backend, *stream_, type, ranges[i].opt, nullptr));
      shapes_.push_back(ranges[i].opt);
    }
    program_ = std::make_shared<const Program>(std::move(file), backend);
    for (std::size_t p = 0; p < profiles; ++p) {
      executors_.push_back(
          std::make_unique<Executor>(program_, stream_, static_cast<int>(p), LoadOptions{}.max_loop_iterations));
      for (std::size_t i = 0; i < inputs_.size(); ++i) {
        executors_[p]->set_input(static_cast<int>(i), shapes_[i], inputs_[i].view.data);
      }
    }
    for (std::size_t i = 0; i < program_->plan().outputs.size(); ++i) place_output(static_cast<int>(i));
  }

  std::vector<double> ratios() {
    for (const std::unique_ptr<Executor>& executor : executors_) {
      check();
      for (int i = 0; i < 3; ++i) executor->enqueue(nullptr);  // the second one is recorded
      stream_->synchronize();
    }
    const double once = microseconds(0, 1);
    const int count = static_cast<int>(std::clamp(timing_.round_us / std::max(once, 1.0), 1.0, 50.0));
    std::vector<std::vector<double>> samples(executors_.size() - 1);
    for (int round = 0; round < timing_.rounds; ++round) {
      for (std::size_t p = 1; p < executors_.size(); ++p) {
        check();
        // First one, then the other one in front: a clock that rises or falls takes neither side.
        const bool base_first = (round + static_cast<int>(p)) % 2 == 0;
        const double first = microseconds(base_first ? 0 : p, count);
        const double second = microseconds(base_first ? p : 0, count);
        samples[p - 1].push_back(base_first ? second / first : first / second);
      }
      if (timing_.on_progress) timing_.on_progress((round + 1.0) / timing_.rounds);
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

 private:
  void check() const {
    if (timing_.is_cancelled && timing_.is_cancelled()) throw Error(Code::cancelled, "the build was cancelled");
  }

  /// Results stay on the device where their size is known.
  void place_output(int index) {
    const std::vector<std::int64_t> dims = executors_[0]->output_dims(index);
    if (std::any_of(dims.begin(), dims.end(), [](std::int64_t dim) { return dim < 0; })) return;
    const Plan& plan = program_->plan();
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
  std::shared_ptr<const Program> program_;
  std::vector<std::unique_ptr<Executor>> executors_;
};

}  // namespace

std::vector<double> time_profiles(EngineFile file, const Backend& backend, const NetworkTiming& timing) {
  return Runs(std::move(file), backend, timing).ratios();
}

}  // namespace tenfold
