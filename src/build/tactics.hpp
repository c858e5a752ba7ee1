// Chooses a tactic for every step: asks the backend, times what does not refuse, keeps the fastest.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.hpp"
#include "build/profiles.hpp"
#include "build/timing_cache.hpp"
#include "engine/plan.hpp"

namespace tenfold {

struct TacticOptions {
  int opt_level = 3;
  bool strict = false;
  bool allow_host = false;  ///< an operator that the backend cannot run is given to the CPU backend
  int num_threads = 1;
  bool time_single = false;        ///< also what has one candidate only, for those who compare networks
  std::uint64_t weight_bytes = 0;  ///< of the whole network: decides how cold a kernel's weights are when it runs
  std::function<bool()> is_cancelled;
};

/// The tactic of every backend that runs an operator's plain reference.
inline constexpr std::string_view kReferenceTactic = "reference";

/// Packed weights in memory aligned as kernels expect it.
struct AlignedWeights {
  explicit AlignedWeights(const PackedWeights& packed);
  std::vector<std::span<const std::byte>> blobs;
  std::vector<int> consumed_inputs;
  std::uint64_t size_bytes() const;
  AlignedWeights copy() const;

 private:
  AlignedWeights() = default;
  void add(std::span<const std::byte> blob);
  std::vector<std::shared_ptr<std::byte>> memory_;
};

/// A candidate's spec, and the packed weights that it refers to.
struct PackedSpec {
  AlignedWeights weights;
  KernelSpec spec;
};
PackedSpec pack_spec(const Problem& problem, const Candidate& candidate, const Backend& backend);

/// One kernel that a build may time: a candidate for one of several problems.
struct PromisingKernel {
  std::size_t problem = 0;  ///< index of the first problem of its kind
  Candidate candidate;
};
/// What a build at `opt_level` times for these problems, unless one needs too much scratch memory: the candidates of
/// each that do not refuse, best estimate first, as many as the level takes. Equal problems once.
std::vector<PromisingKernel> promising_kernels(std::span<const Problem> problems, const Backend& backend, int opt_level,
                                               int num_threads);

/// A copy of packed weights in a device's memory.
struct DeviceWeights {
  std::vector<std::unique_ptr<Buffer>> buffers;
  std::vector<const void*> addresses;
};

/// What was chosen for one step and one profile.
struct Choice {
  std::string problem;  ///< its key; equal problems take equal kernels
  Candidate candidate;
  bool on_host = false;  ///< the candidate is the CPU backend's
  std::shared_ptr<const AlignedWeights> weights;
  std::shared_ptr<const DeviceWeights> device_weights;  ///< of `kernel`; on a device only
  std::shared_ptr<const Kernel> kernel;
  PlanWeight code;                    ///< in the code section; left to the caller
  std::uint64_t workspace_bytes = 0;  ///< at the profile's maximum
  std::vector<PlanCandidate> report;  ///< all candidates; `step` and `profile` are left to the caller
};
/// Of one step: what each profile chose. Empty for steps that the runtime itself carries out.
using StepChoices = std::vector<Choice>;

/// A candidate with its time alone.
struct TimedCandidate {
  Candidate candidate;
  double time_us = 0;
};

class TacticChooser {
 public:
  TacticChooser(const Backend& backend, TimingCache& cache, TacticOptions options);

  /// `workspace_limit`: candidates that need more scratch memory refuse.
  /// `variable_shape`: the shapes are not known before the step runs, so nothing can be timed.
  /// Throws Error(unsupported) with all refusals if nothing is left.
  Choice choose(const Problem& problem, const ShapeRanges& ranges, std::uint64_t workspace_limit, bool variable_shape);

  /// A candidate made ready to run; `problem` and `report` are left empty.
  Choice make_choice(const Problem& problem, const ShapeRanges& ranges, const Candidate& candidate,
                     bool variable_shape = false) const;
  /// All candidates that were timed for a problem, or found in the cache, fastest first. Empty if none was.
  std::span<const TimedCandidate> ranking(const std::string& problem) const;

  /// Of the candidate that was chosen, alone; 0 if it was not timed.
  double time_of(const Choice& choice) const;

  int num_timed() const { return num_timed_; }
  /// Candidates that a device's backend could not make for want of code, and a compiler for it; `why` of the first.
  int num_without_code() const { return num_without_code_; }
  const std::string& why_without_code() const { return why_without_code_; }
  /// Compiles ahead, many at once, what `choose` will need for these problems. Does nothing on the host.
  void prepare(std::span<const Problem> problems);
  /// The spec with which a choice's kernel was made, for Backend::device_code.
  KernelSpec spec_of(const Problem& problem, const Choice& choice) const;

 private:
  struct Contender;
  Choice choose(const Problem& problem, const ShapeRanges& ranges, std::uint64_t workspace_limit, bool variable_shape,
                bool try_cache);
  /// Whether the timing cache holds a time of each candidate that would be timed, and of more than one.
  bool are_times_known(const std::string& key, std::span<const Candidate> offered) const;
  std::shared_ptr<const DeviceWeights> upload(const AlignedWeights& weights) const;
  void measure(const Problem& problem, std::vector<Contender>& contenders, const std::string& key);

  const Backend& backend_;
  TimingCache& cache_;
  TacticOptions options_;
  std::unique_ptr<Stream> stream_;
  int num_timed_ = 0;
  int num_without_code_ = 0;
  std::string why_without_code_;
  // The same problem again (ResNet's repeated blocks): the choice is known. Keyed like the timing cache.
  std::map<std::string, std::string> chosen_;
  std::map<std::string, std::vector<TimedCandidate>> rankings_;
};

/// Everything that can change a kernel's speed: operator, types, shapes, device, threads, version.
std::string problem_key(const Problem& problem, const Backend& backend, int num_threads);
/// "conv.direct(6, 16)"
std::string candidate_key(const Candidate& candidate);

}  // namespace tenfold
