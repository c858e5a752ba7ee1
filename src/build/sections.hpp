// Which parts of a network run sample by sample.
//
// A batch takes all samples through every step, so that what a step leaves has left the caches when the next one reads
// it. Sample by sample it stays, but weights are read again for every sample. So it pays where activations are large
// and weights small, which is where networks begin, and where some end. Times of kernels alone, for the batch and for
// one sample, say where to cut; whether it pays the network decides, with and without sections in turns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.hpp"
#include "build/lower.hpp"
#include "build/profiles.hpp"
#include "build/tactics.hpp"
#include "build/timing_cache.hpp"
#include "graph/graph.hpp"

namespace tenfold {

/// Nodes that become one section.
using SectionNodes = std::vector<NodeId>;

/// A network on its way to a plan: one of several that are compared.
struct Network {
  explicit Network(Graph g) : graph(std::move(g)) {}
  Graph graph;  ///< `lowered` points into it
  LoweredPlan lowered;
  std::vector<StepChoices> choices;  ///< by step
  std::vector<std::string> warnings;
  std::uint64_t workspace_left = 0;  ///< of the limit, beside the activations
  int num_in_sections = 0;           ///< nodes, as they were before chains were made
};

/// What the search needs to know of the build.
struct SectionSearch {
  const Backend& backend;
  const std::vector<ShapeRanges>& profiles;
  TimingCache& cache;
  const TacticChooser& chooser;  ///< that chose for the network without sections
  std::size_t profile = 0;       ///< the one with the largest batch
  std::int64_t num_samples = 1;  ///< at its optimum
  int num_threads = 1;
  int opt_level = 3;
  std::uint64_t workspace_bytes = 0;
  std::function<bool()> is_cancelled;
  std::function<void(std::string_view item)> report;
  std::function<TacticOptions(const LoweredPlan&)> tactic_options;  ///< for kernels that one thread runs
  std::function<std::unique_ptr<Network>(Graph)> lower;             ///< and joins chains of convolutions
  std::function<void(Network&, TacticChooser& samples)> choose;     ///< tactics and views

  /// A network with sections that is faster than `whole`, or nullptr. `unchained` is its graph from before chains of
  /// convolutions were made. Adds what was compared to `lines`. At level 0 the estimate decides.
  std::unique_ptr<Network> run(const Network& whole, const Graph& unchained, std::vector<PlanCandidate>& lines,
                               std::vector<std::string>& warnings) const;

 private:
  std::unique_ptr<Network> measure(const Network& whole, const Graph& unchained,
                                   const std::vector<SectionNodes>& hopeful, std::vector<PlanCandidate>& lines) const;
  std::unique_ptr<Network> lower_with(const Graph& unchained, const std::vector<SectionNodes>& sections) const;
  std::size_t fastest(const std::vector<const Network*>& networks, std::vector<PlanCandidate>& lines) const;
};

/// How many rounds of samples, each by one thread, `num_samples` take on `num_threads`.
double rounds_of_samples(std::int64_t num_samples, int num_threads);

struct SectionEstimate {
  std::int64_t num_samples = 0;
  int num_threads = 1;
  bool is_optimistic = false;  ///< what could be gained at best: what is not worth a measurement
};
/// By position in `nodes`: bytes that need not move between caches when the node runs sample by sample, weighted by how
/// far; negative where weights that are read again outweigh them.
std::vector<double> estimated_gains(const Graph& graph, std::span<const NodeId> nodes, const ShapeRanges& profile,
                                    const SectionEstimate& estimate);

/// The at most `count` runs of nodes with the largest sum of gains, less `entry_cost` for each.
std::vector<SectionNodes> best_sections(std::span<const NodeId> nodes, std::span<const double> gains, std::size_t count,
                                        double entry_cost);

/// Where a step of a lowered network belongs in a graph from before nodes were joined: at the last node that it stands
/// for, by the names of the model's nodes.
class StepPositions {
 public:
  explicit StepPositions(const Graph& graph);
  /// nullptr: nothing is known of it.
  const NodeId* find(const PlanStep& step) const;

 private:
  struct Place {
    std::size_t position = 0;
    NodeId node = kNoNode;
  };
  std::map<std::string, Place> last_;
};

}  // namespace tenfold
