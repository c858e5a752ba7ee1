// A *variant* is the network with another kernel for one problem. All variants are profiles of one trial engine that
// share its weights; they run in turns with the network as it is (A B A C A D ...), and a variant's time is the median
// of its ratios to the run before it. What saves time alone is joined, and the joined network must be faster again.
#include "build/refine.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "base/hash.hpp"
#include "build/network_timing.hpp"

namespace tenfold {
namespace {

/// How hard it tries, by --opt-level.
struct Effort {
  int variants = 0;
  int rounds = 0;
  double round_us = 0;
};
constexpr Effort kOnDevice[] = {{0, 0, 0}, {0, 0, 0}, {0, 0, 0}, {24, 9, 2000}, {64, 11, 4000}, {200, 15, 8000}};
// A processor's runs vary by more than most variants differ: it takes many to see anything.
constexpr Effort kOnHost[] = {{0, 0, 0}, {0, 0, 0}, {0, 0, 0}, {0, 0, 0}, {16, 15, 4000}, {64, 25, 8000}};

constexpr double kCloseBy = 1.15;                             ///< alone, times the fastest
constexpr std::size_t kAlternatives = 3;                      ///< of one problem
constexpr double kLeastGain = 0.002;                          ///< of the network's time
constexpr std::uint64_t kMostBytes = std::uint64_t{4} << 30;  ///< of weights that are packed for variants

std::size_t level(const RefineOptions& options) {
  return static_cast<std::size_t>(std::clamp(options.opt_level, 0, 5));
}

/// Every step with this problem takes this kernel.
struct Change {
  std::string problem;
  Candidate candidate;
  Choice first;  ///< the candidate made ready for the first of these steps
  std::string key() const { return problem + " " + candidate_key(candidate); }
};
using Variant = std::vector<const Change*>;

class Refiner {
 public:
  Refiner(const LoweredPlan& lowered, const ShapeRanges& ranges, std::size_t profile,
          const std::function<Problem(std::size_t)>& problem_of, const Backend& backend, const TacticChooser& chooser,
          TimingCache& cache, const RefineOptions& options, std::vector<StepChoices>& choices)
      : lowered_(lowered),
        ranges_(ranges),
        profile_(profile),
        problem_of_(problem_of),
        backend_(backend),
        chooser_(chooser),
        cache_(cache),
        options_(options),
        choices_(choices),
        effort_(backend.is_host() ? kOnHost[level(options)] : kOnDevice[level(options)]) {}

  void run() {
    if (effort_.variants == 0) return;
    find_problems();
    const std::vector<Change> changes = propose();
    if (changes.empty()) return;
    std::vector<Variant> variants;
    for (const Change& change : changes) variants.push_back({&change});
    const std::vector<double> ratios = time(variants, 0);

    // The best of each problem, the best ones first.
    std::map<std::string, std::size_t> best;
    for (std::size_t i = 0; i < changes.size(); ++i) {
      if (ratios[i] > 1 - kLeastGain) continue;
      const auto [entry, is_new] = best.try_emplace(changes[i].problem, i);
      if (!is_new && ratios[i] < ratios[entry->second]) entry->second = i;
    }
    std::vector<std::size_t> kept;
    for (const auto& [problem, index] : best) kept.push_back(index);
    std::sort(kept.begin(), kept.end(), [&](std::size_t a, std::size_t b) { return ratios[a] < ratios[b]; });
    if (kept.empty()) return;

    // Changes may be worth less together than alone: all of them, half of them, one.
    std::vector<Variant> joined;
    for (std::size_t count = kept.size(); count > 0; count /= 2) {
      Variant& variant = joined.emplace_back();
      for (std::size_t i = 0; i < count; ++i) variant.push_back(&changes[kept[i]]);
    }
    const std::vector<double> joined_ratios = time(joined, 0.7);
    const auto fastest = std::min_element(joined_ratios.begin(), joined_ratios.end());
    if (*fastest > 1 - kLeastGain) return;
    apply(joined[static_cast<std::size_t>(fastest - joined_ratios.begin())]);
  }

 private:
  void find_problems() {
    std::string network;
    for (std::size_t step = 0; step < choices_.size(); ++step) {
      if (choices_[step].empty()) continue;
      const Choice& choice = choices_[step][profile_];
      network += choice.problem + candidate_key(choice.candidate);
      if (!choice.on_host && !chooser_.ranking(choice.problem).empty()) steps_of_[choice.problem].push_back(step);
    }
    for (const PlanValue& value : lowered_.plan.values) network += fmt::format(" {}", static_cast<int>(value.storage));
    cache_key_ = "network " + hash128(std::as_bytes(std::span(network))).to_string();
  }

  /// What may be worth a run of the network, the largest stakes first: a share of the time spent in the problem.
  std::vector<Change> propose() const {
    struct Proposal {
      Change change;
      double stake = 0;
      std::uint64_t bytes = 0;
    };
    std::vector<Proposal> proposals;
    for (const auto& [problem, steps] : steps_of_) {
      const std::span<const TimedCandidate> ranking = chooser_.ranking(problem);
      const Choice& present = choices_[steps[0]][profile_];
      std::size_t taken = 0;
      for (const TimedCandidate& entry : ranking) {
        if (entry.time_us > kCloseBy * ranking[0].time_us || taken == kAlternatives) break;
        if (candidate_key(entry.candidate) == candidate_key(present.candidate)) continue;
        ++taken;
        const double count = static_cast<double>(steps.size());
        const double lead = entry.time_us / ranking[0].time_us;
        proposals.push_back({{problem, entry.candidate, {}},
                             count * ranking[0].time_us * (kCloseBy - lead),
                             steps.size() * present.weights->size_bytes()});
      }
    }
    std::stable_sort(proposals.begin(), proposals.end(),
                     [](const Proposal& a, const Proposal& b) { return a.stake > b.stake; });
    std::vector<Change> changes;
    std::uint64_t bytes = 0;
    for (Proposal& proposal : proposals) {
      if (static_cast<int>(changes.size()) == effort_.variants) break;
      if (bytes + proposal.bytes > kMostBytes || !make_fitting(proposal.change)) continue;
      bytes += proposal.bytes;
      changes.push_back(std::move(proposal.change));
    }
    return changes;
  }

  /// Makes change.first. Can its kernel do what the plan takes for granted of the present one, in the memory there is?
  bool make_fitting(Change& change) const {
    const std::size_t step = steps_of_.at(change.problem)[0];
    const Choice& present = choices_[step][profile_];
    const Problem problem = problem_of_(step);
    Choice& other = change.first;
    other = chooser_.make_choice(problem, ranges_, change.candidate);
    other.problem = change.problem;
    if (other.workspace_bytes > options_.workspace_left) return false;
    for (int i = 0; i < static_cast<int>(problem.inputs.size()); ++i) {
      if (!present.kernel->accepts_pitched_input(i)) continue;
      if (!other.kernel->accepts_pitched_input(i)) return false;
      if (present.kernel->pitched_input_alignment() % other.kernel->pitched_input_alignment() != 0) return false;
    }
    for (int i = 0; i < static_cast<int>(problem.outputs.size()); ++i) {
      if (present.kernel->accepts_pitched_output(i) && !other.kernel->accepts_pitched_output(i)) return false;
    }
    return true;
  }

  /// What each step takes in a variant.
  std::vector<Choice> choices_of(const Change& change) const {
    std::vector<Choice> result{change.first};
    const std::vector<std::size_t>& steps = steps_of_.at(change.problem);
    for (std::size_t i = 1; i < steps.size(); ++i) {
      Choice& choice = result.emplace_back(chooser_.make_choice(problem_of_(steps[i]), ranges_, change.candidate));
      choice.problem = change.problem;
    }
    return result;
  }

  /// Ratios to the time of the network as it is.
  std::vector<double> time(const std::vector<Variant>& variants, double progress) {
    std::vector<std::string> names;
    std::vector<double> ratios;
    for (const Variant& variant : variants) {
      std::string name;
      for (const Change* change : variant) name += change->key() + "; ";
      names.push_back(hash128(std::as_bytes(std::span(name))).to_string());
      if (const std::optional<double> known = cache_.find(cache_key_, names.back())) ratios.push_back(*known);
    }
    if (ratios.size() == variants.size()) return ratios;

    const NetworkTiming timing{
        .rounds = effort_.rounds,
        .round_us = effort_.round_us,
        .num_threads = options_.num_threads,
        .is_cancelled = options_.is_cancelled,
        .on_progress = [&](double done) { report(progress + done * (progress > 0 ? 0.3 : 0.7)); }};
    ratios = time_profiles(engine_of(variants), backend_, timing);
    for (std::size_t i = 0; i < variants.size(); ++i) cache_.add(cache_key_, names[i], ratios[i]);
    return ratios;
  }
  void report(double done) const {
    if (options_.on_progress) options_.on_progress("kernels in the network", done);
  }

  /// Profile 0 is the network as it is, each of the others one variant.
  EngineFile engine_of(const std::vector<Variant>& variants) const {
    std::vector<StepChoices> all(choices_.size());
    for (std::size_t step = 0; step < choices_.size(); ++step) {
      if (choices_[step].empty()) continue;
      Choice present = choices_[step][profile_];
      present.report.clear();
      all[step].assign(variants.size() + 1, present);
    }
    std::map<std::string, std::vector<Choice>> made;
    for (std::size_t v = 0; v < variants.size(); ++v) {
      for (const Change* change : variants[v]) {
        const auto [entry, is_new] = made.try_emplace(change->key());
        if (is_new) entry->second = choices_of(*change);
        const std::vector<std::size_t>& steps = steps_of_.at(change->problem);
        for (std::size_t i = 0; i < steps.size(); ++i) all[steps[i]][v + 1] = entry->second[i];
      }
    }
    const std::vector<ShapeRanges> profiles(variants.size() + 1, ranges_);
    return trial_engine(lowered_, all, profiles, options_.workspace_bytes);
  }

  void apply(const Variant& chosen) {
    for (const Change* change : chosen) {
      const std::vector<std::size_t>& steps = steps_of_.at(change->problem);
      std::vector<Choice> made = choices_of(*change);
      for (std::size_t i = 0; i < steps.size(); ++i) {
        Choice& choice = choices_[steps[i]][profile_];
        made[i].report = std::move(choice.report);
        for (PlanCandidate& line : made[i].report) {
          const bool is_it = line.tactic == change->candidate.tactic && line.parameters == change->candidate.parameters;
          line.chosen = is_it;
          if (is_it) line.refusal.clear();
        }
        choice = std::move(made[i]);
      }
    }
  }

  const LoweredPlan& lowered_;
  const ShapeRanges& ranges_;
  std::size_t profile_;
  const std::function<Problem(std::size_t)>& problem_of_;
  const Backend& backend_;
  const TacticChooser& chooser_;
  TimingCache& cache_;
  const RefineOptions& options_;
  std::vector<StepChoices>& choices_;
  Effort effort_;
  std::map<std::string, std::vector<std::size_t>> steps_of_;  // by problem
  std::string cache_key_;
};

}  // namespace

void refine(const LoweredPlan& lowered, const ShapeRanges& ranges, std::size_t profile,
            const std::function<Problem(std::size_t)>& problem_of, const Backend& backend, const TacticChooser& chooser,
            TimingCache& cache, const RefineOptions& options, std::vector<StepChoices>& choices,
            std::vector<std::string>& warnings) {
  try {
    Refiner(lowered, ranges, profile, problem_of, backend, chooser, cache, options, choices).run();
  } catch (const Error& error) {
    const std::set<Code> expected{Code::out_of_memory, Code::invalid_argument, Code::unsupported};
    if (!expected.contains(error.code())) throw;
    warnings.push_back("close kernels were not compared in the network: " + error.message());
  }
}

}  // namespace tenfold
