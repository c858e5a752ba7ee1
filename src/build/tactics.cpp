// Timing. In each round all candidates run one after the other, so that a slow moment of the machine hits all of them
// (A B C, A B C ...). A candidate's time is that of its fastest round: what disturbs a processor only adds time, and
// where neighbours disturb a third of all rounds, the median of five is often a disturbed one. On a device, whose clock
// goes up and down instead, it is the median. Inputs are random, outputs and scratch memory are
// the same for all. Weights: a network streams its weights past the cache on every inference, so a kernel finds its own
// as cold as the network is large. As many copies of the packed weights are rotated as the network is larger than they
// are.
#include "build/tactics.hpp"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "base/float_mode.hpp"
#include "base/hash.hpp"
#include "build/operands.hpp"

namespace tenfold {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kMaxRotatedBytes = std::uint64_t{96} << 20;

/// How hard the search tries, by --opt-level.
struct Effort {
  int shortlist = 0;  // candidates timed at most
  int rounds = 0;
  double round_us = 0;  // aim for one candidate's part of a round
};
/// Runs of a candidate before it may be ruled out, beyond the first, as long as they take no longer than a round.
constexpr int kFirstRuns = 2;
/// On the host, of how many microseconds the fastest stretch of a round counts: short enough to fall between what
/// neighbours do to the processor.
constexpr double kStretchUs = 50;
constexpr Effort kEfforts[] = {{0, 0, 0}, {3, 3, 200}, {6, 3, 500}, {12, 5, 1000}, {24, 9, 2000}, {1000, 15, 4000}};

KernelSpec make_spec(const Problem& problem, const Candidate& candidate,
                     const std::vector<std::span<const std::byte>>& weights, const DeviceWeights* on_device) {
  KernelSpec spec{problem.op, candidate.tactic, candidate.parameters, problem.inputs, problem.outputs, weights};
  if (on_device != nullptr) spec.device_weights = on_device->addresses;
  return spec;
}

const Effort& effort_of(int opt_level) { return kEfforts[std::clamp(opt_level, 0, 5)]; }
/// Candidates that are made ready at most, unless none of them can be.
int shortlist_of(int opt_level) { return std::max(effort_of(opt_level).shortlist, 1); }

std::vector<Candidate> offers(const Problem& problem, const Backend& backend) {
  std::vector<Candidate> offered = backend.candidates(problem);
  // Best guess first; the reference is the last resort. Stable: equal guesses keep the backend's order.
  std::stable_sort(offered.begin(), offered.end(), [](const Candidate& a, const Candidate& b) {
    const bool a_last = a.tactic == kReferenceTactic;
    const bool b_last = b.tactic == kReferenceTactic;
    return a_last != b_last ? b_last : a.estimated_us < b.estimated_us;
  });
  return offered;
}

std::vector<TensorView> views_at(const std::vector<TensorType>& types, const std::vector<Shape>& shapes) {
  std::vector<TensorView> views(types.size());
  for (std::size_t i = 0; i < types.size(); ++i) {
    views[i].dtype = types[i].dtype;
    views[i].dims = shapes[i];
    views[i].pitch = shapes[i].empty() ? 1 : shapes[i].back();
  }
  return views;
}

}  // namespace

AlignedWeights::AlignedWeights(const PackedWeights& packed) : consumed_inputs(packed.consumed_inputs) {
  for (const auto& blob : packed.blobs) add(blob);
}
void AlignedWeights::add(std::span<const std::byte> blob) {
  memory_.push_back(aligned_bytes(blob.size()));
  if (!blob.empty()) std::memcpy(memory_.back().get(), blob.data(), blob.size());
  blobs.emplace_back(memory_.back().get(), blob.size());
}
std::uint64_t AlignedWeights::size_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& blob : blobs) bytes += blob.size();
  return bytes;
}
AlignedWeights AlignedWeights::copy() const {
  AlignedWeights result;
  result.consumed_inputs = consumed_inputs;
  for (const auto& blob : blobs) result.add(blob);
  return result;
}

std::string candidate_key(const Candidate& candidate) {
  return fmt::format("{}({})", candidate.tactic, fmt::join(candidate.parameters, ", "));
}

std::string problem_key(const Problem& problem, const Backend& backend, int num_threads) {
  std::string text =
      fmt::format("{} {} | {} | {} | {} threads | {} {}", backend.name(), TENFOLD_VERSION, backend.target(),
                  backend.device_name(), num_threads, problem.op->type(), problem.op->attributes().to_string());
  for (std::size_t i = 0; i < problem.inputs.size(); ++i) {
    text += fmt::format(" | {}{} {}", to_string(problem.inputs[i].dtype), to_string(problem.input_shapes[i]),
                        problem.constants[i] != nullptr ? "constant" : "");
  }
  for (std::size_t i = 0; i < problem.outputs.size(); ++i) {
    text += fmt::format(" -> {}{}", to_string(problem.outputs[i].dtype), to_string(problem.output_shapes[i]));
  }
  return hash128(std::as_bytes(std::span(text))).to_string();
}

PackedSpec pack_spec(const Problem& problem, const Candidate& candidate, const Backend& backend) {
  PackedSpec packed{AlignedWeights(backend.pack(problem, candidate)), {}};
  packed.spec = make_spec(problem, candidate, packed.weights.blobs, nullptr);
  return packed;
}

std::vector<PromisingKernel> promising_kernels(std::span<const Problem> problems, const Backend& backend, int opt_level,
                                               int num_threads) {
  std::vector<PromisingKernel> kernels;
  std::set<std::string> seen;
  for (std::size_t i = 0; i < problems.size(); ++i) {
    if (!seen.insert(problem_key(problems[i], backend, num_threads)).second) continue;
    int count = 0;
    for (Candidate& candidate : offers(problems[i], backend)) {
      if (!candidate.refusal.empty()) continue;
      if (count++ >= shortlist_of(opt_level)) break;
      kernels.push_back({i, std::move(candidate)});
    }
  }
  return kernels;
}

struct TacticChooser::Contender : Choice {
  double time_us = 0;
  std::vector<double> samples;
};

TacticChooser::TacticChooser(const Backend& backend, TimingCache& cache, TacticOptions options)
    : backend_(backend),
      cache_(cache),
      options_(std::move(options)),
      stream_(backend.make_stream({options_.num_threads})) {}

std::shared_ptr<const DeviceWeights> TacticChooser::upload(const AlignedWeights& weights) const {
  if (backend_.is_host()) return nullptr;
  auto result = std::make_shared<DeviceWeights>();
  for (const std::span<const std::byte> blob : weights.blobs) {
    result->buffers.push_back(backend_.allocate(std::max<std::size_t>(blob.size(), 1)));
    backend_.copy_to_device(result->buffers.back()->data(), blob.data(), blob.size(), *stream_);
    result->addresses.push_back(result->buffers.back()->data());
  }
  stream_->synchronize();
  return result;
}

KernelSpec TacticChooser::spec_of(const Problem& problem, const Choice& choice) const {
  return make_spec(problem, choice.candidate, choice.weights->blobs, choice.device_weights.get());
}

void TacticChooser::prepare(std::span<const Problem> problems) {
  if (backend_.is_host()) return;
  // Packed weights are made again in `choose`: a source does not look at them, but may check their sizes.
  std::vector<PackedSpec> packed;
  std::vector<KernelSpec> specs;
  for (const PromisingKernel& kernel :
       promising_kernels(problems, backend_, options_.opt_level, options_.num_threads)) {
    packed.push_back(pack_spec(problems[kernel.problem], kernel.candidate, backend_));
    specs.push_back(packed.back().spec);
  }
  backend_.prepare(specs);
}

Choice TacticChooser::make_choice(const Problem& problem, const ShapeRanges& ranges, const Candidate& candidate,
                                  bool variable_shape) const {
  Choice choice;
  choice.candidate = candidate;
  choice.weights = std::make_shared<const AlignedWeights>(backend_.pack(problem, candidate));
  choice.device_weights = upload(*choice.weights);
  choice.kernel = backend_.make_kernel(spec_of(problem, choice));

  std::vector<Shape> inputs;
  std::vector<Shape> outputs;
  for (const TensorType& type : problem.inputs) inputs.push_back(ranges.max_shape(type));
  for (const TensorType& type : problem.outputs) outputs.push_back(ranges.max_shape(type));
  // Without a bound on the shapes there is none on scratch memory: the runtime makes it when it knows the shapes.
  const auto is_unbounded = [](const Shape& shape) {
    return std::any_of(shape.begin(), shape.end(), [](std::int64_t dim) { return dim >= kUnbounded; });
  };
  const bool grows = variable_shape || std::any_of(inputs.begin(), inputs.end(), is_unbounded) ||
                     std::any_of(outputs.begin(), outputs.end(), is_unbounded);
  if (!grows) {
    choice.workspace_bytes =
        choice.kernel->workspace_bytes(views_at(problem.inputs, inputs), views_at(problem.outputs, outputs));
  }
  return choice;
}

std::span<const TimedCandidate> TacticChooser::ranking(const std::string& problem) const {
  const auto found = rankings_.find(problem);
  return found == rankings_.end() ? std::span<const TimedCandidate>{} : found->second;
}

bool TacticChooser::are_times_known(const std::string& key, std::span<const Candidate> offered) const {
  int count = 0;
  for (const Candidate& candidate : offered) {
    if (!candidate.refusal.empty() || (candidate.tactic == kReferenceTactic && count > 0)) continue;
    if (count++ == shortlist_of(options_.opt_level)) break;
    if (!cache_.find(key, candidate_key(candidate))) return false;
  }
  return count > 1;
}

double TacticChooser::time_of(const Choice& choice) const {
  const std::string key = candidate_key(choice.candidate);
  for (const TimedCandidate& timed : ranking(choice.problem)) {
    if (candidate_key(timed.candidate) == key) return timed.time_us;
  }
  return 0;
}

Choice TacticChooser::choose(const Problem& problem, const ShapeRanges& ranges, std::uint64_t workspace_limit,
                             bool variable_shape) {
  return choose(problem, ranges, workspace_limit, variable_shape, true);
}

Choice TacticChooser::choose(const Problem& problem, const ShapeRanges& ranges, std::uint64_t workspace_limit,
                             bool variable_shape, bool try_cache) {
  const Effort& effort = effort_of(options_.opt_level);
  const int shortlist = shortlist_of(options_.opt_level);
  Choice choice;
  std::vector<Candidate> offered = offers(problem, backend_);

  const std::string key = problem_key(problem, backend_, options_.num_threads);
  const auto known = chosen_.find(key);
  // Then only the fastest one's weights are packed. Not for a device: which kernels have code there must be found out.
  const bool from_cache = try_cache && backend_.is_host() && known == chosen_.end() && effort.rounds > 0 &&
                          !variable_shape && are_times_known(key, offered);
  std::vector<Contender> contenders;
  int without_code = 0;  // they count for the shortlist, but as long as all are, the search goes on
  for (Candidate& candidate : offered) {
    PlanCandidate line;
    line.tactic = candidate.tactic;
    line.parameters = candidate.parameters;
    line.refusal = candidate.refusal;
    const bool is_reference = candidate.tactic == kReferenceTactic;
    if (line.refusal.empty() && !contenders.empty()) {
      if (is_reference) {
        line.refusal = "only used where nothing else can";
      } else if (known == chosen_.end() && static_cast<int>(contenders.size()) + without_code >= shortlist) {
        line.refusal =
            fmt::format("not among the {} most promising (estimate {:.1f} us)", shortlist, candidate.estimated_us);
      }
    }
    if (line.refusal.empty() && known != chosen_.end() && candidate_key(candidate) != known->second) {
      line.refusal = "an equal step was timed before";
    }
    if (line.refusal.empty()) {
      try {
        Contender contender;
        if (from_cache) {
          contender.candidate = candidate;
        } else {
          static_cast<Choice&>(contender) = make_choice(problem, ranges, candidate, variable_shape);
        }
        if (contender.workspace_bytes > workspace_limit) {
          line.refusal = fmt::format("needs {} bytes of scratch memory; the workspace limit leaves {}",
                                     contender.workspace_bytes, workspace_limit);
        } else {
          contenders.push_back(std::move(contender));
        }
      } catch (const Error& error) {
        if (error.code() != Code::unsupported || backend_.is_host()) throw;
        line.refusal = error.message();
        ++without_code;
        if (num_without_code_++ == 0) why_without_code_ = error.message();
      }
    }
    choice.report.push_back(std::move(line));
  }
  if (contenders.empty() && options_.allow_host && !backend_.is_host()) {
    TacticOptions options = options_;
    options.opt_level = 0;  // not worth a measurement: moving the operands takes longer
    TacticChooser host(cpu_backend(), cache_, options);
    Choice on_host = host.choose(problem, ranges, workspace_limit, variable_shape);
    on_host.on_host = true;
    on_host.workspace_bytes = 0;  // the runtime takes it from the host
    on_host.report.insert(on_host.report.begin(), choice.report.begin(), choice.report.end());
    return on_host;
  }
  if (contenders.empty()) {
    std::string reasons;
    for (const PlanCandidate& line : choice.report) reasons += fmt::format("\n  {}: {}", line.tactic, line.refusal);
    throw Error(Code::unsupported, choice.report.empty() ? "the backend has no kernel for this operator"
                                                         : "no kernel can compute it:" + reasons);
  }

  if ((contenders.size() > 1 || (options_.time_single && known == chosen_.end())) && effort.rounds > 0 &&
      !variable_shape) {
    try {
      measure(problem, contenders, key);
    } catch (const Error& error) {
      // In a branch that other inputs than these would take, shapes may be wrong. One kernel need not be timed.
      if (error.code() != Code::invalid_argument || contenders.size() > 1) throw;
    }
  }
  const auto cautious = [](const auto& timed) { return timed.time_us * timed.candidate.caution; };
  const auto is_faster = [&](const auto& a, const auto& b) { return cautious(a) < cautious(b); };
  // Not timed: 0, and the first, best-estimated one wins.
  const auto best = std::min_element(contenders.begin(), contenders.end(), is_faster);
  if (from_cache) {
    static_cast<Choice&>(*best) = make_choice(problem, ranges, best->candidate, variable_shape);
    // Timed when the limit was another one.
    if (best->workspace_bytes > workspace_limit) {
      return choose(problem, ranges, workspace_limit, variable_shape, false);
    }
  }
  if (best->time_us > 0) {
    std::vector<TimedCandidate>& ranking = rankings_[key];
    for (const Contender& contender : contenders) ranking.push_back({contender.candidate, contender.time_us});
    std::stable_sort(ranking.begin(), ranking.end(), is_faster);
  }
  chosen_.emplace(key, candidate_key(best->candidate));
  for (PlanCandidate& line : choice.report) {
    for (const Contender& contender : contenders) {
      if (line.refusal.empty() && line.tactic == contender.candidate.tactic &&
          line.parameters == contender.candidate.parameters) {
        line.time_us = contender.time_us;
        line.chosen = &contender == &*best;
      }
    }
  }
  std::vector<PlanCandidate> report = std::move(choice.report);
  choice = std::move(static_cast<Choice&>(*best));
  choice.problem = key;
  choice.report = std::move(report);
  return choice;
}

void TacticChooser::measure(const Problem& problem, std::vector<Contender>& contenders, const std::string& key) {
  bool complete = true;
  for (Contender& contender : contenders) {
    const std::optional<double> cached = cache_.find(key, candidate_key(contender.candidate));
    contender.time_us = cached.value_or(0);
    complete = complete && cached.has_value();
  }
  if (complete) return;

  const Effort& effort = effort_of(options_.opt_level);
  std::vector<Operand> inputs;
  std::vector<Operand> outputs;
  std::vector<TensorView> input_views;
  std::vector<TensorView> output_views;
  for (std::size_t i = 0; i < problem.inputs.size(); ++i) {
    inputs.push_back(
        make_operand(backend_, *stream_, problem.inputs[i], problem.input_shapes[i], problem.constants[i]));
    input_views.push_back(inputs.back().view);
  }
  for (std::size_t i = 0; i < problem.outputs.size(); ++i) {
    outputs.push_back(make_operand(backend_, *stream_, problem.outputs[i], problem.output_shapes[i], nullptr));
    output_views.push_back(outputs.back().view);
  }

  // One rotation for each contender: kernels over copies of its weights, packed ones and constants that it reads as
  // they are.
  struct Rotation {
    std::vector<AlignedWeights> copies;
    std::vector<std::shared_ptr<const DeviceWeights>> device_copies;
    std::vector<std::shared_ptr<const Kernel>> kernels;
    std::vector<Operand> constants;
    std::vector<std::vector<TensorView>> inputs;  // of each kernel
    std::unique_ptr<Buffer> workspace;
    std::unique_ptr<CapturedGraph> recording;
    std::size_t workspace_bytes = 0;
    std::size_t next = 0;
    int runs = 1;           // of a round
    int timed_at_once = 1;  // on the host: of these
  };
  std::vector<Rotation> rotations(contenders.size());
  for (std::size_t i = 0; i < contenders.size(); ++i) {
    Rotation& rotation = rotations[i];
    Contender& contender = contenders[i];
    rotation.kernels.push_back(contender.kernel);
    rotation.inputs.push_back(input_views);
    const std::vector<int>& consumed = contender.weights->consumed_inputs;
    std::vector<std::size_t> plain;
    std::uint64_t bytes = contender.weights->size_bytes();
    for (std::size_t input = 0; input < problem.inputs.size(); ++input) {
      if (problem.constants[input] == nullptr) continue;
      if (std::find(consumed.begin(), consumed.end(), static_cast<int>(input)) != consumed.end()) continue;
      plain.push_back(input);
      bytes += problem.constants[input]->size_bytes();
    }
    const std::uint64_t cold = std::min(options_.weight_bytes, kMaxRotatedBytes);
    const std::uint64_t copies = bytes < 4096 ? 1 : std::clamp<std::uint64_t>(cold / bytes, 1, 32);
    for (std::uint64_t copy = 1; copy < copies; ++copy) {
      rotation.inputs.push_back(input_views);
      for (const std::size_t input : plain) {
        rotation.constants.push_back(make_operand(backend_, *stream_, problem.inputs[input],
                                                  problem.input_shapes[input], problem.constants[input]));
        rotation.inputs.back()[input] = rotation.constants.back().view;
      }
      rotation.copies.push_back(contender.weights->copy());
      rotation.device_copies.push_back(upload(rotation.copies.back()));
      rotation.kernels.push_back(backend_.make_kernel(
          make_spec(problem, contender.candidate, rotation.copies.back().blobs, rotation.device_copies.back().get())));
    }
    rotation.workspace_bytes = contender.kernel->workspace_bytes(input_views, output_views);
    rotation.workspace = backend_.allocate(std::max<std::size_t>(rotation.workspace_bytes, 1));
  }

  std::vector<const void*> host_inputs;  // constants, which a device's kernels may want to see on the host
  if (!backend_.is_host()) {
    for (const Tensor* constant : problem.constants) {
      host_inputs.push_back(constant != nullptr ? constant->data() : nullptr);
    }
  }
  const InferenceFloatMode mode;  // weights may be subnormal
  const auto enqueue = [&](Rotation& rotation, int times) {
    for (int i = 0; i < times; ++i) {
      Launch launch;
      launch.inputs = rotation.inputs[rotation.next];
      launch.outputs = output_views;
      launch.workspace = {static_cast<std::byte*>(rotation.workspace->data()), rotation.workspace_bytes};
      launch.stream = stream_.get();
      launch.host_inputs = host_inputs;
      rotation.kernels[rotation.next]->run(launch);
      rotation.next = (rotation.next + 1) % rotation.kernels.size();
    }
  };
  // On a device: replays of a recording, by the device's own clock, so that what the host takes to launch is no part of
  // it, as it is none of a network's recorded run.
  const auto run = [&](Rotation& rotation, int times) {
    if (backend_.is_host() || times < 2) {
      double fastest = std::numeric_limits<double>::max();
      for (int done = 0; done < times;) {
        const int count = std::min(rotation.timed_at_once, times - done);
        const Clock::time_point start = Clock::now();
        enqueue(rotation, count);
        stream_->synchronize();
        fastest = std::min(fastest, std::chrono::duration<double, std::micro>(Clock::now() - start).count() / count);
        done += count;
      }
      return fastest;
    }
    if (rotation.recording == nullptr) {
      rotation.recording = backend_.capture(*stream_, [&] { enqueue(rotation, times); });
      rotation.recording->replay_timed(*stream_);
    }
    return rotation.recording->replay_timed(*stream_) / times;
  };

  std::vector<bool> active(contenders.size(), true);
  double best_first = std::numeric_limits<double>::max();
  for (std::size_t i = 0; i < contenders.size(); ++i) {
    if (contenders[i].time_us > 0) continue;
    run(rotations[i], 1);
    // The best of a few short runs: one that the machine disturbed must not rule out the fastest.
    double first = run(rotations[i], 1);
    for (int again = 0; again < kFirstRuns && first * (again + 1) < effort.round_us; ++again) {
      first = std::min(first, run(rotations[i], 1));
    }
    const double most = backend_.is_host() ? 1000.0 : 100.0;  // a recording of more takes long to make
    rotations[i].runs = static_cast<int>(std::clamp(effort.round_us / std::max(first, 0.1), 1.0, most));
    rotations[i].timed_at_once = std::clamp(static_cast<int>(kStretchUs / std::max(first, 0.1)), 1, rotations[i].runs);
    if (!backend_.is_host()) rotations[i].runs = std::max(rotations[i].runs, 4);
    contenders[i].samples.push_back(first);
    best_first = std::min(best_first, first);
  }
  for (int round = 0; round < effort.rounds; ++round) {
    if (options_.is_cancelled && options_.is_cancelled()) throw Error(Code::cancelled, "the build was cancelled");
    for (std::size_t i = 0; i < contenders.size(); ++i) {
      if (contenders[i].time_us > 0 || !active[i]) continue;
      // One run that is twice as slow as the best is enough to lose.
      // On a device that single run is mostly the launch, and says little.
      const double slack = backend_.is_host() ? 1 : 30;
      if (contenders[i].samples.front() > 2 * best_first + slack) {
        active[i] = false;
        continue;
      }
      contenders[i].samples.push_back(run(rotations[i], rotations[i].runs));
    }
  }
  for (Contender& contender : contenders) {
    if (contender.time_us > 0) continue;
    std::vector<double>& samples = contender.samples;
    if (samples.size() > 1) samples.erase(samples.begin());  // the single first run only sorted out the hopeless
    std::sort(samples.begin(), samples.end());
    contender.time_us = std::max(samples[backend_.is_host() ? 0 : samples.size() / 2], 1e-3);
    cache_.add(key, candidate_key(contender.candidate), contender.time_us);
    ++num_timed_;
  }
}

}  // namespace tenfold
