// Runs the passes: applies what rewrites propose until none proposes more, removes what became dead, verifies, counts,
// times, and leaves a dump of the graph behind when a pass throws.
#include <algorithm>
#include <chrono>
#include <deque>
#include <filesystem>
#include <fstream>
#include <set>
#include <utility>

#include "graph/text.hpp"
#include "passes/pass.hpp"

namespace tenfold {
namespace {

constexpr int kMaxBlockDepth = 32;

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Counts and times by name, in the order of first use.
class Report {
 public:
  PassReport& line(std::string_view name) {
    for (PassReport& report : lines_) {
      if (report.name == name) return report;
    }
    return lines_.emplace_back(PassReport{std::string(name), 0, 0});
  }
  std::vector<PassReport> take() { return {lines_.begin(), lines_.end()}; }

 private:
  std::deque<PassReport> lines_;  // references stay valid
};

void check_cancelled(const PassOptions& options) {
  require(!options.is_cancelled || !options.is_cancelled(), Code::cancelled, "the passes were cancelled");
}

/// Applies rewrites to one graph (not to its blocks) until none proposes anything.
class RewriteRun {
 public:
  RewriteRun(Graph& graph, std::span<const Rewrite* const> rewrites, const PassOptions& options, Report& report)
      : graph_(graph), rewrites_(rewrites), options_(options), view_(graph) {
    for (const Rewrite* rewrite : rewrites) lines_.push_back(&report.line(rewrite->name));
    counts_.resize(rewrites.size(), 0);
    // Every rule strictly simplifies, so a few changes a node are normal and hundreds are two rules undoing each other.
    budget_ = 10000 + 100 * graph.num_nodes();
  }

  int run() {
    while (true) {
      const int before = total_;
      for (const NodeId id : graph_.order()) push(id);
      while (!queue_.empty()) {
        const NodeId id = queue_.front();
        queue_.pop_front();
        queued_[static_cast<std::size_t>(id)] = false;
        if (graph_.is_alive_node(id)) visit(id);
      }
      if (total_ == before) break;
      std::erase_if(retyped_, [&](ValueId id) { return !graph_.is_alive_value(id); });
      graph_.infer_downstream(retyped_);
      retyped_.clear();
    }
    if (total_ > 0) graph_.remove_dead();
    return total_;
  }

 private:
  void push(NodeId id) {
    queued_.resize(static_cast<std::size_t>(graph_.node_limit()), false);
    if (queued_[static_cast<std::size_t>(id)]) return;
    queued_[static_cast<std::size_t>(id)] = true;
    queue_.push_back(id);
  }

  void visit(NodeId id) {
    if (++visits_ % 256 == 0) check_cancelled(options_);
    Clock::time_point start = Clock::now();
    for (std::size_t i = 0; i < rewrites_.size(); ++i) {
      std::optional<Patch> patch;
      try {
        patch = rewrites_[i]->propose(view_, graph_.node(id));
        if (patch) apply(*patch);
      } catch (const Error& error) {
        throw error.in_context(fmt::format("rewrite '{}'", rewrites_[i]->name));
      }
      const Clock::time_point now = Clock::now();
      lines_[i]->seconds += std::chrono::duration<double>(now - start).count();
      start = now;
      if (!patch) continue;
      ++lines_[i]->changes;
      ++counts_[i];
      ++total_;
      check_budget();
      if (graph_.is_alive_node(id)) push(id);
      return;
    }
  }

  void apply(const Patch& patch) {
    const AppliedPatch applied = patch.apply_deferred(graph_);
    view_.update(applied);
    retyped_.insert(retyped_.end(), applied.retyped.begin(), applied.retyped.end());
    // What may match now: the new nodes, what stands before them (fewer readers), and what stands behind.
    for (const NodeId added : applied.added) {
      push(added);
      push_producers(graph_.node(added));
    }
    for (const auto& [old, now] : applied.replaced) {
      for (const NodeId reader : view_.readers(now)) push(reader);
      if (graph_.value(now).producer != kNoNode) push(graph_.value(now).producer);
    }
    std::vector<NodeId> unused = applied.added;
    for (const auto& [old, now] : applied.replaced) {
      if (graph_.value(old).producer != kNoNode) unused.push_back(graph_.value(old).producer);
    }
    remove_unused(std::move(unused));
  }
  void push_producers(const Node& node) {
    for (const ValueId input : node.inputs) {
      if (input != kNoValue && graph_.value(input).producer != kNoNode) push(graph_.value(input).producer);
    }
  }
  void remove_unused(std::vector<NodeId> work) {
    while (!work.empty()) {
      const NodeId id = work.back();
      work.pop_back();
      if (!graph_.is_alive_node(id)) continue;
      const Node& node = graph_.node(id);
      const bool is_used = std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId output) {
        return output != kNoValue && view_.num_uses(output) > 0;
      });
      if (is_used) continue;
      for (const ValueId input : node.inputs) {
        if (input != kNoValue && graph_.value(input).producer != kNoNode) work.push_back(graph_.value(input).producer);
      }
      push_producers(node);
      view_.removed(node, id);
      graph_.remove_node(id);
    }
  }
  void check_budget() const {
    if (total_ <= budget_) return;
    const auto worst = static_cast<std::size_t>(std::max_element(counts_.begin(), counts_.end()) - counts_.begin());
    throw Error(Code::internal,
                fmt::format("rewrites do not come to an end: {} changes in a graph of {} nodes, {} of them by '{}'",
                            total_, graph_.num_nodes(), counts_[worst], rewrites_[worst]->name));
  }

  Graph& graph_;
  std::span<const Rewrite* const> rewrites_;
  const PassOptions& options_;
  GraphView view_;
  std::vector<PassReport*> lines_;
  std::vector<int> counts_;
  std::deque<NodeId> queue_;
  std::vector<bool> queued_;
  std::vector<ValueId> retyped_;
  std::int64_t visits_ = 0;
  int total_ = 0;
  int budget_ = 0;
};

/// One pass on a graph and on all blocks inside it. Innermost blocks first, so that what they simplify to is known
/// where they are used.
int run_on(Graph& graph, const Pass& pass, std::span<const Rewrite* const> rewrites, const PassOptions& options,
           Report& report, int depth) {
  ensure(depth <= kMaxBlockDepth, "blocks are nested deeper than {}", kMaxBlockDepth);
  int changes = 0;
  std::vector<ValueId> retyped;
  for (NodeId id = 0; id < graph.node_limit(); ++id) {
    if (!graph.is_alive_node(id) || graph.node(id).blocks.empty()) continue;
    int inside = 0;
    for (Graph& block : graph.node(id).blocks) inside += run_on(block, pass, rewrites, options, report, depth + 1);
    changes += inside;
    if (inside > 0 && graph.infer_types(id)) {
      for (const ValueId output : graph.node(id).outputs) {
        if (output != kNoValue) retyped.push_back(output);
      }
    }
  }
  graph.infer_downstream(retyped);
  if (pass.whole != nullptr) changes += pass.whole(graph);
  if (!rewrites.empty()) changes += RewriteRun(graph, rewrites, options, report).run();
  return changes;
}

void dump(const Graph& graph, std::string_view pass, const std::string& directory) {
  if (directory.empty()) return;
  try {
    std::ofstream file(std::filesystem::path(directory) / (std::string(pass) + ".graph.txt"));
    file << print(graph);
  } catch (const std::exception&) {
    // The error that made the dump worth writing is the one to report.
  }
}

int run_pass(Graph& graph, const Pass& pass, const PassOptions& options, Report& report) {
  const auto is_disabled = [&](std::string_view name) {
    return std::find(options.disabled.begin(), options.disabled.end(), name) != options.disabled.end();
  };
  if (is_disabled(pass.name)) return 0;
  std::vector<const Rewrite*> rewrites;
  for (const Rewrite& rewrite : pass.rewrites) {
    if (!is_disabled(rewrite.name)) rewrites.push_back(&rewrite);
  }
  const Clock::time_point start = Clock::now();
  int changes = 0;
  try {
    check_cancelled(options);
    changes = run_on(graph, pass, rewrites, options, report, 0);
    if (options.verify && changes > 0) graph.verify();
  } catch (const Error& error) {
    if (error.code() == Code::cancelled) throw;
    dump(graph, pass.name, options.dump_directory);
    throw error.in_context(fmt::format("pass '{}'", pass.name));
  } catch (...) {
    dump(graph, pass.name, options.dump_directory);
    throw;
  }
  PassReport& line = report.line(pass.name);
  line.changes += changes;
  line.seconds += seconds_since(start);
  return changes;
}

}  // namespace

namespace {

/// Those of the pipeline and the optional ones.
std::vector<const Pass*> all_passes() {
  const std::span<const Pass* const> optional = optional_passes();
  std::vector<const Pass*> passes(optional.begin(), optional.end());
  for (const Pass& pass : pipeline()) passes.push_back(&pass);
  return passes;
}

}  // namespace

std::vector<std::string> pass_names() {
  std::set<std::string> names;
  for (const Pass* pass : all_passes()) {
    names.emplace(pass->name);
    for (const Rewrite& rewrite : pass->rewrites) names.emplace(rewrite.name);
  }
  return {names.begin(), names.end()};
}

const Rewrite* find_rewrite(std::string_view name) {
  for (const Pass* pass : all_passes()) {
    for (const Rewrite& rewrite : pass->rewrites) {
      if (rewrite.name == name) return &rewrite;
    }
  }
  return nullptr;
}

const Pass* find_pass(std::string_view name) {
  for (const Pass* pass : all_passes()) {
    if (pass->name == name) return pass;
  }
  return nullptr;
}

std::vector<PassReport> run_pipeline(Graph& graph, const PassOptions& options) {
  const std::vector<std::string> known = pass_names();
  for (const std::string& name : options.disabled) {
    require(std::binary_search(known.begin(), known.end(), name), Code::invalid_argument,
            "no pass or rewrite is called '{}'; there are: {}", name, fmt::join(known, ", "));
  }
  Report report;
  const std::span<const Pass> passes = pipeline();
  if (options.fp16) run_pass(graph, kWidenPass, options, report);
  if (options.integer_products) {
    run_pass(graph, kQuantisedFormPass, options, report);
    run_pass(graph, options.zero_points ? kZeroPointPass : kIntegerProductPass, options, report);
  }
  if (options.float8_products) {
    run_pass(graph, kFloat8FormPass, options, report);
    run_pass(graph, kFloat8ProductPass, options, report);
  }
  for (std::size_t i = 0; i < passes.size(); ++i) {
    if (options.on_progress) options.on_progress(passes[i].name, static_cast<double>(i) / passes.size());
    run_pass(graph, passes[i], options, report);
  }
  if (options.norm_epilogues) run_pass(graph, kNormFusionPass, options, report);
  if (options.integer_products) run_pass(graph, kIntegerEpiloguePass, options, report);
  if (options.float8_products) run_pass(graph, kFloat8EpiloguePass, options, report);
  if (options.merged_products) run_pass(graph, kMergePass, options, report);
  if (options.planar_images) run_pass(graph, kPlanarImagePass, options, report);
  if (options.conv_chains) run_pass(graph, kConvChainPass, options, report);
  if (options.fp16) run_pass(graph, kNarrowPass, options, report);
  if (options.merged_products) run_pass(graph, kGatePass, options, report);
  if (options.conv_max_pools) run_pass(graph, kConvMaxPoolPass, options, report);
  if (options.conv_pairs) run_pass(graph, kConvPairPass, options, report);
  graph.compact();
  if (options.on_progress) options.on_progress("done", 1);
  return report.take();
}

std::vector<PassReport> apply_pass(Graph& graph, const Pass& pass, const PassOptions& options) {
  Report report;
  run_pass(graph, pass, options, report);
  graph.compact();
  return report.take();
}

int apply_rewrites(Graph& graph, std::span<const Rewrite> rewrites, const PassOptions& options) {
  Report report;
  return run_pass(graph, Pass{.name = "rewrites", .rewrites = rewrites}, options, report);
}

}  // namespace tenfold
