#include "build/sections.hpp"

#include <algorithm>
#include <limits>
#include <optional>
#include <set>

#include "base/hash.hpp"
#include "build/network_timing.hpp"
#include "passes/pass.hpp"
#include "passes/samples.hpp"

namespace tenfold {
namespace {

// Caches as processors have them today; what counts is where activations cross them, within a factor of two.
constexpr double kCoreCacheBytes = 1 << 20;
constexpr double kSharedCacheBytes = 16 << 20;
/// What a byte costs from the shared cache, and from memory.
constexpr double kSharedCost = 1;
constexpr double kMemoryCost = 3;
/// All threads together are as fast as this part of them would be alone, on what one sample gives them to do.
constexpr double kTogether = 0.7;

/// Sections of a network: at its beginning and at its end.
constexpr std::size_t kMostSections = 2;
/// What entering a section takes, and threads that wait for each other at its end.
constexpr double kSectionUs = 5;
/// Less than that is not worth a measurement: weighted bytes (see estimated_gains).
constexpr double kLeastGainBytes = 1 << 20;
/// Nodes that take a smaller part of the network's time are left alone: they cannot win enough.
constexpr double kLeastShare = 0.05;
/// A network with sections is taken when it saves so much, and is slower than this in no profile.
constexpr double kLeastGain = 0.01;
constexpr double kWorstRatio = 1.03;
/// What the times of kernels alone say of a network is wrong by as much, as part of its time.
constexpr double kPredictionError = 0.05;

/// How long whole networks are compared, by --opt-level.
struct Effort {
  int rounds = 0;
  double most_us = 0;
};
constexpr Effort kEfforts[] = {{0, 0}, {3, 1e6}, {5, 2e6}, {11, 4e6}, {15, 10e6}, {25, 30e6}};
constexpr double kRoundUs = 8000;

double bytes_at(const ShapeRanges& profile, const TensorType& type) {
  double bytes = static_cast<double>(size_of(type.dtype));
  for (const Dim& dim : type.dims) bytes *= static_cast<double>(std::max<std::int64_t>(profile.opt(dim), 0));
  return bytes;
}

double cost_of(double bytes, double core_bytes, double all_bytes) {
  if (all_bytes > kSharedCacheBytes) return bytes * kMemoryCost;
  return core_bytes > kCoreCacheBytes ? bytes * kSharedCost : 0;
}

std::uint64_t section_weight_bytes(LoweredPlan& lowered) {
  const std::vector<bool> inside = steps_in_sections(lowered.plan.steps);
  std::set<const Tensor*> weights;
  for_each_step(lowered.plan.steps, [&](PlanStep& step, int index) {
    if (!inside[static_cast<std::size_t>(index)]) return;
    for (const std::int32_t input : step.inputs) {
      if (input >= 0) weights.insert(lowered.constants[static_cast<std::size_t>(input)]);
    }
  });
  std::uint64_t bytes = 0;
  for (const Tensor* tensor : weights) bytes += tensor != nullptr ? tensor->size_bytes() : 0;
  return bytes;
}

}  // namespace

double rounds_of_samples(std::int64_t num_samples, int num_threads) {
  const std::int64_t rest = num_samples % num_threads;
  const std::int64_t whole = num_samples / num_threads;
  const auto full = static_cast<double>(whole);
  if (2 * rest > num_threads) return full + 1;
  return full + static_cast<double>(rest) / (num_threads == 1 ? 1 : num_threads * kTogether);
}

std::vector<double> estimated_gains(const Graph& graph, std::span<const NodeId> nodes, const ShapeRanges& profile,
                                    const SectionEstimate& estimate) {
  const auto count = static_cast<double>(estimate.num_samples);
  const double threads = estimate.num_threads;
  std::vector<double> gains;
  for (const NodeId id : nodes) {
    const Node& node = graph.node(id);
    double activations = 0, weights = 0;  // of all samples; of none
    for (const ValueId input : node.inputs) {
      if (input == kNoValue) continue;
      (graph.constant(input) != nullptr ? weights : activations) += bytes_at(profile, graph.value(input).type);
    }
    for (const ValueId output : node.outputs) {
      if (output != kNoValue) activations += bytes_at(profile, graph.value(output).type);
    }
    if (node.op->type() == "Reshape") activations = 0;  // most are views
    const double again = (count - 1) * weights * kSharedCost;
    if (estimate.is_optimistic) {
      gains.push_back(activations * kSharedCost - again);
      continue;
    }
    const double sample = activations / count;
    gains.push_back(cost_of(activations, activations / threads, activations) -
                    cost_of(activations, sample, sample * threads) - again);
  }
  return gains;
}

std::vector<SectionNodes> best_sections(std::span<const NodeId> nodes, std::span<const double> gains, std::size_t count,
                                        double entry_cost) {
  // State s of a walk over the nodes: an odd one is inside section (s + 1) / 2, an even one outside, after s / 2.
  const std::size_t num_states = 2 * count + 1;
  const double impossible = -std::numeric_limits<double>::infinity();
  std::vector<double> best(num_states, impossible);
  best[0] = 0;
  std::vector<std::vector<std::size_t>> came_from(nodes.size(), std::vector<std::size_t>(num_states, 0));
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    std::vector<double> next(num_states, impossible);
    for (std::size_t s = 0; s < num_states; ++s) {
      const bool inside = s % 2 == 1;
      // On a draw a section begins early: nodes that are joined with others later count where the last one stands.
      next[s] = best[s];
      came_from[i][s] = s;
      if (s > 0 && best[s - 1] - (inside ? entry_cost : 0) > next[s]) {
        next[s] = best[s - 1] - (inside ? entry_cost : 0);
        came_from[i][s] = s - 1;
      }
      if (inside) next[s] += gains[i];
    }
    best = std::move(next);
  }
  auto state = static_cast<std::size_t>(std::max_element(best.begin(), best.end()) - best.begin());
  std::vector<SectionNodes> sections(count);
  for (std::size_t i = nodes.size(); i-- > 0;) {
    if (state % 2 == 1) sections[state / 2].push_back(nodes[i]);
    state = came_from[i][state];
  }
  std::erase_if(sections, [](const SectionNodes& section) { return section.empty(); });
  for (SectionNodes& section : sections) std::reverse(section.begin(), section.end());
  return sections;
}

std::unique_ptr<Network> SectionSearch::run(const Network& whole, const Graph& unchained,
                                            std::vector<PlanCandidate>& lines,
                                            std::vector<std::string>& warnings) const {
  const std::vector<NodeId> nodes = per_sample_nodes(unchained);
  const SectionEstimate estimate{num_samples, num_threads, opt_level > 0};
  const std::vector<SectionNodes> hopeful = best_sections(
      nodes, estimated_gains(unchained, nodes, profiles[profile], estimate), kMostSections, kLeastGainBytes);
  if (hopeful.empty()) return nullptr;
  try {
    if (opt_level > 0) return measure(whole, unchained, hopeful, lines);
    std::unique_ptr<Network> network = lower_with(unchained, hopeful);
    if (network == nullptr) return nullptr;
    TacticChooser samples(backend, cache, tactic_options(network->lowered));
    choose(*network, samples);
    return network;
  } catch (const Error& error) {
    const std::set<Code> expected{Code::out_of_memory, Code::invalid_argument, Code::unsupported};
    if (!expected.contains(error.code())) throw;
    warnings.push_back("sections that run sample by sample were not tried: " + error.message());
    return nullptr;
  }
}

std::unique_ptr<Network> SectionSearch::measure(const Network& whole, const Graph& unchained,
                                                const std::vector<SectionNodes>& hopeful,
                                                std::vector<PlanCandidate>& lines) const {
  // What each node gains: what its kernel takes alone, for the batch, less what that for single samples takes.
  const StepPositions positions(unchained);
  std::map<NodeId, double> gain_of;
  double whole_us = 0;
  const auto add = [&](const Network& network, bool is_whole, double factor, const TacticChooser& by) {
    LoweredPlan lowered = network.lowered;
    const std::vector<bool> inside = steps_in_sections(lowered.plan.steps);
    for_each_step(lowered.plan.steps, [&](PlanStep& step, int index) {
      const StepChoices& choices = network.choices[static_cast<std::size_t>(index)];
      if (choices.empty() || (!is_whole && !inside[static_cast<std::size_t>(index)])) return;
      const double us = factor * by.time_of(choices[profile]);
      if (is_whole) whole_us += us;
      if (const NodeId* node = positions.find(step)) gain_of[*node] += us;
    });
  };
  add(whole, true, 1, chooser);
  double hopeful_us = 0;
  for (const SectionNodes& section : hopeful) {
    for (const NodeId node : section) hopeful_us += gain_of[node];
  }
  if (hopeful_us < kLeastShare * whole_us) return nullptr;

  std::vector<std::unique_ptr<Network>> made;
  made.push_back(lower_with(unchained, hopeful));
  if (made[0] == nullptr) return nullptr;
  // Kernels of one sample: timed once for all proposals, by one thread, with weights as cold as the section is large.
  TacticOptions options = tactic_options(made[0]->lowered);
  options.time_single = true;
  options.weight_bytes = section_weight_bytes(made[0]->lowered);
  TacticChooser samples(backend, cache, options);
  choose(*made[0], samples);
  add(*made[0], false, -rounds_of_samples(num_samples, num_threads), samples);
  std::vector<NodeId> nodes;
  std::vector<double> gains;
  for (const SectionNodes& section : hopeful) {
    for (const NodeId node : section) {
      nodes.push_back(node);
      gains.push_back(gain_of[node]);
    }
  }

  // Kernels alone do not see what their neighbours leave in the caches: a loss that they predict may be a gain.
  const auto predicted_us = [&](const std::vector<SectionNodes>& sections) {
    double sum = 0;
    for (const SectionNodes& section : sections) {
      sum -= kSectionUs;
      for (const NodeId node : section) sum += gain_of[node];
    }
    return sum;
  };
  double best_us = predicted_us(hopeful);
  if (best_us < -kPredictionError * whole_us) made.clear();
  std::vector<std::vector<SectionNodes>> proposals;
  for (const std::size_t count : {std::size_t{1}, kMostSections}) {
    std::vector<SectionNodes> proposal = best_sections(nodes, gains, count, kSectionUs);
    // Another one is worth a look where it promises more than a measurement can miss.
    const double gain_us = predicted_us(proposal);
    if (gain_us < std::max(best_us, 0.0) + kLeastGain * whole_us) continue;
    best_us = gain_us;
    proposals.push_back(std::move(proposal));
  }
  for (const std::vector<SectionNodes>& proposal : proposals) {
    std::unique_ptr<Network> network = lower_with(unchained, proposal);
    if (network == nullptr) continue;
    choose(*network, samples);
    made.push_back(std::move(network));
  }
  if (made.empty()) return nullptr;
  std::vector<const Network*> networks{&whole};
  for (const std::unique_ptr<Network>& network : made) networks.push_back(network.get());
  const std::size_t best = fastest(networks, lines);
  return best == 0 ? nullptr : std::move(made[best - 1]);
}

/// nullptr where no section could be made, or where one cannot be run.
std::unique_ptr<Network> SectionSearch::lower_with(const Graph& unchained,
                                                   const std::vector<SectionNodes>& sections) const {
  Graph graph = unchained;
  int count = 0;
  for (const SectionNodes& section : sections) count += make_section(graph, section);
  if (count == 0) return nullptr;
  std::unique_ptr<Network> network = lower(std::move(graph));
  network->num_in_sections = count;
  LoweredPlan& lowered = network->lowered;
  const std::vector<bool> inside = steps_in_sections(lowered.plan.steps);
  bool can_run = true;
  for_each_step(lowered.plan.steps, [&](PlanStep& step, int index) {
    if (!inside[static_cast<std::size_t>(index)]) return;
    can_run = can_run && step.bindings.empty() && !step.infer_at_run_time;
    for (const std::int32_t output : step.outputs) {
      can_run =
          can_run && (output < 0 || lowered.plan.values[static_cast<std::size_t>(output)].storage != Storage::growable);
    }
  });
  return can_run ? std::move(network) : nullptr;
}

/// The index of the network to keep.
std::size_t SectionSearch::fastest(const std::vector<const Network*>& networks,
                                   std::vector<PlanCandidate>& lines) const {
  std::vector<std::string> keys;
  for (const Network* network : networks) {
    std::string text;
    for (const PlanValue& value : network->lowered.plan.values) {
      text += fmt::format(" {}", static_cast<int>(value.storage));
    }
    for (const StepChoices& choices : network->choices) {
      for (const Choice& choice : choices) text += choice.problem + candidate_key(choice.candidate);
    }
    keys.push_back(hash128(std::as_bytes(std::span(text))).to_string());
  }
  const Effort& effort = kEfforts[static_cast<std::size_t>(std::clamp(opt_level, 0, 5))];
  std::vector<double> score(networks.size(), 1.0);
  std::vector<double> worst(networks.size(), 1.0);
  std::vector<double> us_of_batch;  // in the profile with the largest batch
  for (std::size_t p = 0; p < profiles.size(); ++p) {
    const std::string key = fmt::format("sections {} {} {} threads", keys[0], p, num_threads);
    std::vector<double> times;
    for (const std::string& network : keys) {
      if (const std::optional<double> known = cache.find(key, network)) times.push_back(*known);
    }
    if (times.size() < networks.size()) {
      report("sections that run sample by sample");
      std::vector<EngineFile> files;
      files.reserve(networks.size());
      for (const Network* network : networks) {
        files.push_back(trial_engine(network->lowered, network->choices, profiles, workspace_bytes));
      }
      times = time_networks(std::move(files), p, backend,
                            {.rounds = effort.rounds,
                             .round_us = kRoundUs,
                             .most_us = effort.most_us,
                             .num_threads = num_threads,
                             .is_cancelled = is_cancelled,
                             .on_progress = {}});
      for (std::size_t i = 0; i < networks.size(); ++i) cache.add(key, keys[i], times[i]);
    }
    for (std::size_t i = 1; i < networks.size(); ++i) {
      const double ratio = times[i] / times[0];
      score[i] *= ratio;
      worst[i] = std::max(worst[i], ratio);
    }
    if (p == profile) us_of_batch = std::move(times);
  }
  std::size_t best = 0;
  for (std::size_t i = 1; i < networks.size(); ++i) {
    if (worst[i] <= kWorstRatio && score[i] < std::min(score[best], 1 - kLeastGain)) best = i;
  }
  for (std::size_t i = 0; i < networks.size(); ++i) {
    PlanCandidate line;
    line.step = "the network";
    line.profile = static_cast<std::int32_t>(profile);
    line.tactic = i == 0 ? "whole batches" : kSamplesPass.name;
    if (i > 0) line.parameters = {networks[i]->num_in_sections};
    line.time_us = us_of_batch[i];
    line.chosen = i == best;
    lines.push_back(std::move(line));
  }
  return best;
}

StepPositions::StepPositions(const Graph& graph) {
  std::size_t position = 0;
  for (const NodeId id : graph.order()) {
    ++position;
    for (const std::string& origin : graph.node(id).origins) last_[origin] = {position, id};
  }
}

const NodeId* StepPositions::find(const PlanStep& step) const {
  const Place* last = nullptr;
  for (const std::string& origin : step.origins) {
    const auto found = last_.find(origin);
    if (found != last_.end() && (last == nullptr || found->second.position > last->position)) last = &found->second;
  }
  return last == nullptr ? nullptr : &last->node;
}

}  // namespace tenfold
