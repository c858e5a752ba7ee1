// Graph -> plan, told from top to bottom:
//   1. profiles: which shapes; symbols that every profile fixes become numbers
//   2. passes: fold, recognise, choose layouts, fuse
//   3. lower: values and steps in order
//   4. tactics: for each step and profile, the fastest kernel
//   5. views: Concat and Split that need no copy
//   6. sections: of a batch on a processor, what runs sample by sample; steps 3 to 5 again for every proposal
//   7. refine: between close candidates, the network decides
//   8. weights: packed constants into one section
//   9. memory: who lives where, within the workspace limit
#include "build/builder.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <set>

#include "base/cpu_count.hpp"
#include "build/examine.hpp"
#include "build/libraries.hpp"
#include "build/lower.hpp"
#include "build/place_values.hpp"
#include "build/profiles.hpp"
#include "build/refine.hpp"
#include "build/sections.hpp"
#include "build/tactics.hpp"
#include "build/timing_cache.hpp"
#include "build/views.hpp"
#include "build/weights.hpp"
#include "ops/registry.hpp"
#include "passes/bfloat16_values.hpp"
#include "passes/half_weights.hpp"
#include "passes/pass.hpp"
#include "passes/samples.hpp"

namespace tenfold {
namespace {

using Clock = std::chrono::steady_clock;

// A value whose size only the running kernel knows gets a buffer of its own when its bound is larger than this: bounds
// of such sizes (every pixel non-zero, every box kept) are rarely reached, and the arena is paid for at once.
constexpr std::uint64_t kMaxBoundedBytes = std::uint64_t{4} << 20;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

class Builder {
 public:
  Builder(const Backend& backend, const BuildOptions& options) : backend_(backend), options_(options) {
    num_threads_ = options.num_threads > 0 ? options.num_threads : cpu_count();
  }

  std::vector<MissingKernel> missing_kernels(Graph graph) {
    make_static(graph);
    LoweredPlan lowered = lower(graph);
    const StepProblems all = problems_of(lowered);
    std::vector<MissingKernel> missing;
    const PlanStep* last = nullptr;
    for (std::size_t i = 0; i < all.problems.size(); ++i) {
      const PlanStep& step = *all.steps[i];
      if (&step == last) continue;  // one profile without a kernel is enough
      const std::vector<Candidate> offered = backend_.candidates(all.problems[i]);
      if (std::any_of(offered.begin(), offered.end(), [](const Candidate& c) { return c.refusal.empty(); })) continue;
      std::string reasons;
      for (const Candidate& candidate : offered) {
        reasons += fmt::format("; {}: {}", candidate.tactic, candidate.refusal);
      }
      last = &step;
      missing.push_back({step.name, fmt::format("{} has no kernel for {}{}", step.op_type, backend_.name(), reasons)});
    }
    return missing;
  }

  KernelExamination examine_kernels(Graph graph, KernelQuestion question) {
    make_static(graph);
    LoweredPlan lowered = lower(graph);
    const StepProblems all = problems_of(lowered);
    std::vector<std::string> nodes;
    for (const PlanStep* step : all.steps) nodes.push_back(step->name);
    KernelExamination result;
    result.num_steps = static_cast<int>(std::set(all.steps.begin(), all.steps.end()).size());
    const Clock::time_point start = Clock::now();
    result.kernels = examine(all.problems, nodes, backend_, question, options_.opt_level, num_threads_,
                             [&](std::size_t done, std::size_t count) {
                               const double part = static_cast<double>(done) / static_cast<double>(count);
                               report("kernels", fmt::format("{} of {}", done, count), 0.2 + 0.8 * part,
                                      part > 0.05 ? seconds_since(start) * (1 - part) / part : -1);
                             });
    return result;
  }

  BuildResult run(Graph graph, PlanProvenance provenance) {
    const Clock::time_point start = Clock::now();
    report("profiles", {}, 0);
    require(options_.keep_float32.empty() || backend_.is_host(), Code::unsupported,
            "keeping the weights of some nodes in float32 is there for CPUs only; leave keep_float32 out");
    require(!options_.bf16 || backend_.abilities().bf16, Code::unsupported,
            "bf16 needs a processor with instructions for it (AVX512_BF16), which {} has not", backend_.device_name());
    require(!options_.bf16 || !options_.fp16, Code::invalid_argument, "bf16 and fp16 exclude each other");
    BuildResult result;
    if (const std::string sources = to_string(options_.libraries); backend_.is_host() && !sources.empty()) {
      result.warnings.push_back(fmt::format("{}: libraries of GPUs, of which an engine for a CPU uses none", sources));
    }
    add_extra_outputs(graph);
    profiles_ = resolve_profiles(graph, options_.profiles);
    if (options_.portable) result.imported = graph;
    specialize(graph, profiles_);

    const auto note = [&](const std::vector<PassReport>& passes) {
      for (const PassReport& pass : passes) {
        if (pass.changes > 0) provenance.passes.push_back(fmt::format("{}: {}", pass.name, pass.changes));
      }
    };
    // Chains are made last: which are worth it depends on whether a step has the batch before it, or one sample.
    const bool may_have_sections = batch_profile().has_value();
    note(optimize(graph, !may_have_sections));
    // Last, so that what was folded into weights is rounded once, with them.
    result.half_weights = options_.fp16 && backend_.is_host();
    if (result.half_weights) {
      const int rounded = round_weights_to_half(graph, options_.keep_float32);
      provenance.passes.push_back(fmt::format("round_weights_to_half: {}", rounded));
    }
    Graph unchained;
    if (may_have_sections) {
      unchained = graph;
      note(apply_pass(graph, kConvChainPass, pass_options(false)));
    }
    if (const int narrowed = narrow_values(graph); narrowed > 0) {
      provenance.passes.push_back(fmt::format("store_as_bfloat16: {}", narrowed));
    }
    for (ShapeRanges& profile : profiles_) add_bounds(profile, graph);
    result.seconds_passes = seconds_since(start);

    const Clock::time_point tactics_start = Clock::now();
    TimingCache cache = TimingCache::load(options_.timing_cache_path, result.warnings);
    if (options_.timing_cache && !options_.timing_cache->empty()) {
      cache.merge(*options_.timing_cache, result.warnings);
    }
    auto network = std::make_unique<Network>(std::move(graph));
    lower_network(*network);
    TacticOptions options = tactic_options(network->lowered, num_threads_);
    options.time_single = may_have_sections;
    TacticChooser chooser(backend_, cache, options);
    choose_tactics(*network, chooser, nullptr);
    if (chooser.num_without_code() > 0) {
      result.warnings.push_back(fmt::format("{} kernels could not be tried and were left out: {}",
                                            chooser.num_without_code(), chooser.why_without_code()));
    }
    place_views(*network);
    if (may_have_sections) {
      std::unique_ptr<Network> faster = find_sections(*network, unchained, chooser, cache, result.warnings);
      if (faster != nullptr) network = std::move(faster);
    }
    LoweredPlan& lowered = network->lowered;
    choices_ = std::move(network->choices);
    workspace_left_ = network->workspace_left;
    result.warnings.insert(result.warnings.end(), network->warnings.begin(), network->warnings.end());
    if (network->num_in_sections > 0) {
      provenance.passes.push_back(fmt::format("{}: {}", kSamplesPass.name, network->num_in_sections));
    }
    lowered.plan.provenance = std::move(provenance);
    refine_choices(lowered, chooser, cache, result.warnings);
    keep_timings(cache, result);
    result.seconds_tactics = seconds_since(tactics_start);

    WeightSection weights;
    WeightSection code;
    add_code(lowered, chooser, code);
    pack_weights(lowered, choices_, weights);
    plan_memory(lowered.plan, profiles_, choices_, options_.workspace_bytes);
    write_report(lowered.plan);
    result.weights = weights.take();
    result.code = code.take();
    result.plan = std::move(lowered.plan);
    result.optimized = std::move(network->graph);
    dissolve_sections(result.optimized);
    result.seconds_total = seconds_since(start);
    report("done", {}, 1);
    return result;
  }

 private:
  void report(std::string_view phase, std::string_view item, double fraction, double remaining_seconds = -1) const {
    check_cancelled();
    if (options_.on_progress)
      options_.on_progress({std::string(phase), std::string(item), fraction, remaining_seconds});
  }
  void check_cancelled() const {
    if (options_.is_cancelled && options_.is_cancelled()) throw Error(Code::cancelled, "the build was cancelled");
  }

  void add_extra_outputs(Graph& graph) const {
    if (options_.extra_outputs.empty()) return;
    std::vector<ValueId> outputs = graph.outputs();
    std::vector<std::string> names = graph.output_names();
    for (const std::string& name : options_.extra_outputs) {
      const std::optional<ValueId> value = graph.find_value(name);
      require(value.has_value(), Code::invalid_argument, "there is no value '{}' in the model to mark as an output",
              name);
      if (std::find(names.begin(), names.end(), name) != names.end()) continue;
      outputs.push_back(*value);
      names.push_back(name);
    }
    graph.set_outputs(std::move(outputs), std::move(names));
  }

  /// From the model to what is lowered, for those who want no plan.
  void make_static(Graph& graph) {
    profiles_ = resolve_profiles(graph, options_.profiles);
    specialize(graph, profiles_);
    optimize(graph);
    for (ShapeRanges& profile : profiles_) add_bounds(profile, graph);
  }

  std::vector<PassReport> optimize(Graph& graph, bool with_chains = true) const {
    std::vector<PassReport> reports = run_pipeline(graph, pass_options(with_chains));
    graph.remove_dead();
    return reports;
  }

  PassOptions pass_options(bool with_chains) const {
    PassOptions options;
    options.disabled = options_.disabled_rules;
    options.fp16 = options_.fp16 && !backend_.is_host();
    options.norm_epilogues = backend_.abilities().norm_epilogues;
    options.integer_products = backend_.abilities().integer_products;
    options.float8_products = backend_.abilities().float8_products;
    options.zero_points = backend_.abilities().zero_points;
    options.merged_products = backend_.abilities().merged_products;
    options.conv_max_pools = backend_.abilities().conv_max_pools;
    options.conv_pairs = backend_.abilities().conv_pairs;
    // Neither do kernels for images of bfloat16 read planes.
    options.planar_images = backend_.is_host() && !options_.bf16;
    options.conv_chains = with_chains && backend_.is_host();  // only the CPU has such kernels
    options.dump_directory = options_.dump_directory;
    options.is_cancelled = options_.is_cancelled;
    options.verify = options_.opt_level >= 4;
    options.on_progress = [this](std::string_view pass, double fraction) { report("passes", pass, 0.2 * fraction); };
    return options;
  }

  // --- Networks: one, or several that are compared -------------------------------------------------------------------

  void lower_network(Network& network) const {
    network.lowered = lower(network.graph);
    Plan& plan = network.lowered.plan;
    plan.backend = std::string(backend_.name());
    plan.target = backend_.target();
    plan.num_threads = num_threads_;
    choose_storage(network.lowered);
  }

  /// The profile with the most samples at its optimum; nullopt: there is nothing to run sample by sample.
  std::optional<std::size_t> batch_profile() const {
    const std::vector<std::string>& disabled = options_.disabled_rules;
    if (!backend_.is_host() || std::find(disabled.begin(), disabled.end(), kSamplesPass.name) != disabled.end()) {
      return std::nullopt;
    }
    std::optional<std::size_t> best;
    for (std::size_t p = 0; p < profiles_.size(); ++p) {
      if (num_samples(p) > (best ? num_samples(*best) : 1)) best = p;
    }
    return best;
  }
  std::int64_t num_samples(std::size_t profile) const {
    const std::vector<PlanRange>& inputs = profiles_[profile].inputs();
    return inputs.empty() || inputs[0].opt.empty() ? 1 : inputs[0].opt[0];
  }

  /// A network with sections that is faster; nullptr: there is none.
  std::unique_ptr<Network> find_sections(const Network& whole, const Graph& unchained, TacticChooser& chooser,
                                         TimingCache& cache, std::vector<std::string>& warnings) {
    SectionSearch search{.backend = backend_, .profiles = profiles_, .cache = cache, .chooser = chooser};
    search.profile = batch_profile().value();
    search.num_samples = num_samples(search.profile);
    search.num_threads = num_threads_;
    search.opt_level = options_.opt_level;
    search.workspace_bytes = options_.workspace_bytes;
    search.is_cancelled = options_.is_cancelled;
    search.report = [this](std::string_view item) { report("tactics", item, 0.9); };
    search.tactic_options = [this](const LoweredPlan& lowered) { return tactic_options(lowered, 1); };
    search.lower = [this](Graph graph) {
      apply_pass(graph, kConvChainPass, pass_options(false));
      narrow_values(graph);
      auto network = std::make_unique<Network>(std::move(graph));
      lower_network(*network);
      return network;
    };
    search.choose = [&](Network& network, TacticChooser& samples) {
      choose_tactics(network, chooser, &samples);
      place_views(network);
    };
    return search.run(whole, unchained, section_report_, warnings);
  }

  static void add_bounds(ShapeRanges& ranges, const Graph& graph) {
    ranges.add_bounds(graph.symbol_bounds);
    for (NodeId id = 0; id < graph.node_limit(); ++id) {
      if (!graph.is_alive_node(id)) continue;
      for (const Graph& block : graph.node(id).blocks) add_bounds(ranges, block);
    }
  }

  /// Arena where a bound is known for all profiles; else a buffer that grows.
  void choose_storage(LoweredPlan& lowered) const {
    std::set<std::string> run_time_symbols;
    for_each_step(lowered.plan.steps, [&](PlanStep& step, int) {
      for (const PlanBinding& binding : step.bindings) run_time_symbols.insert(binding.symbol);
      for (const PlanBlock& block : step.blocks) {
        for (const PlanBinding& binding : block.bindings) run_time_symbols.insert(binding.symbol);
      }
    });
    for (std::size_t i = 0; i < lowered.plan.values.size(); ++i) {
      PlanValue& value = lowered.plan.values[i];
      if (lowered.constants[i] != nullptr && value.storage != Storage::view) value.storage = Storage::constant;
      if (value.storage != Storage::arena) continue;
      std::set<std::string> symbols;
      for (const Dim& dim : value.type.dims) dim.collect_symbols(symbols);
      const bool sized_at_run_time = std::any_of(symbols.begin(), symbols.end(),
                                                 [&](const std::string& s) { return run_time_symbols.contains(s); });
      for (const ShapeRanges& profile : profiles_) {
        const std::optional<std::uint64_t> bytes = profile.max_bytes(value.type);
        if (!bytes || (sized_at_run_time && *bytes > kMaxBoundedBytes)) value.storage = Storage::growable;
      }
    }
  }

  /// What the build allows.
  Problem empty_problem() const {
    Problem problem;
    problem.strict = options_.strict;
    problem.tf32 = options_.tf32;
    problem.bf16 = options_.bf16;
    problem.half_weights = options_.fp16 && backend_.is_host();
    problem.libraries = options_.libraries;
    return problem;
  }
  Problem make_problem(const LoweredPlan& lowered, const PlanStep& step, const StepSource& source,
                       const ShapeRanges& profile) const {
    Problem problem = empty_problem();
    problem.op = source.node != nullptr ? source.node->op : copy_op(step);
    for (const std::int32_t input : step.inputs) {
      problem.inputs.push_back(input < 0 ? TensorType{} : lowered.plan.values[static_cast<std::size_t>(input)].type);
      problem.constants.push_back(input < 0 ? nullptr : lowered.constants[static_cast<std::size_t>(input)]);
      problem.input_shapes.push_back(profile.opt_shape(problem.inputs.back()));
    }
    for (const std::int32_t output : step.outputs) {
      problem.outputs.push_back(output < 0 ? TensorType{} : lowered.plan.values[static_cast<std::size_t>(output)].type);
      problem.output_shapes.push_back(profile.opt_shape(problem.outputs.back()));
    }
    return problem;
  }
  /// Stores as bfloat16 what the build allows and the backend is fast with; behind chains, which are float32. Returns
  /// how many values.
  int narrow_values(Graph& graph) const {
    if (!options_.bf16 || !backend_.abilities().bf16_values) return 0;
    return store_as_bfloat16(graph, [&](const auto&... about) { return has_kernel(graph, about...); });
  }
  /// Is there a kernel for the node with operands of these types, the reference not counted, at every profile?
  bool has_kernel(const Graph& graph, const Node& node, const std::vector<TensorType>& inputs,
                  const std::vector<TensorType>& outputs) const {
    return std::all_of(profiles_.begin(), profiles_.end(), [&](const ShapeRanges& profile) {
      Problem problem = empty_problem();
      problem.op = node.op;
      problem.inputs = inputs;
      problem.outputs = outputs;
      for (const ValueId input : node.inputs) problem.constants.push_back(graph.constant(input));
      for (const TensorType& type : inputs) problem.input_shapes.push_back(profile.opt_shape(type));
      for (const TensorType& type : outputs) problem.output_shapes.push_back(profile.opt_shape(type));
      const std::vector<Candidate> offered = backend_.candidates(problem);
      return std::any_of(offered.begin(), offered.end(),
                         [](const Candidate& c) { return c.refusal.empty() && c.tactic != kReferenceTactic; });
    });
  }
  /// What kernels are needed for: of each step that has one, a problem for each profile.
  struct StepProblems {
    std::vector<Problem> problems;
    std::vector<const PlanStep*> steps;  ///< of each problem
  };
  StepProblems problems_of(LoweredPlan& lowered) const {
    StepProblems all;
    for_each_step(lowered.plan.steps, [&](PlanStep& step, int index) {
      if (is_run_by_runtime(step)) return;
      for (const ShapeRanges& profile : profiles_) {
        all.problems.push_back(make_problem(lowered, step, lowered.sources[static_cast<std::size_t>(index)], profile));
        all.steps.push_back(&step);
      }
    });
    return all;
  }
  static OpPtr copy_op(const PlanStep& step) { return make_op(step.op_type, step.attributes); }

  TacticOptions tactic_options(const LoweredPlan& lowered, int num_threads) const {
    TacticOptions options;
    options.opt_level = options_.opt_level;
    options.strict = options_.strict;
    options.allow_host = options_.allow_host;
    options.num_threads = num_threads;
    options.is_cancelled = options_.is_cancelled;
    for (const Tensor* constant : lowered.constants) {
      if (constant != nullptr) options.weight_bytes += constant->size_bytes();
    }
    return options;
  }

  /// `samples` chooses for the steps of sample sections, which one thread runs.
  void choose_tactics(Network& network, TacticChooser& chooser, TacticChooser* samples) {
    LoweredPlan& lowered = network.lowered;
    const std::vector<bool> inside = steps_in_sections(lowered.plan.steps);
    const std::uint64_t values_bytes = activation_bytes(lowered.plan, profiles_);
    require(values_bytes <= options_.workspace_bytes, Code::out_of_memory,
            "the activations alone need {} bytes at the largest shapes, but the workspace limit is {}", values_bytes,
            options_.workspace_bytes);
    network.workspace_left = options_.workspace_bytes - values_bytes;

    if (!backend_.is_host()) {
      report("tactics", "compiling kernels", 0.2);
      chooser.prepare(problems_of(lowered).problems);
    }

    const auto total = static_cast<double>(std::max<std::size_t>(lowered.sources.size(), 1));
    const Clock::time_point start = Clock::now();
    std::vector<StepChoices>& all_choices = network.choices;
    all_choices.resize(lowered.sources.size());
    std::string problems;
    int limited = 0;
    for_each_step(lowered.plan.steps, [&](PlanStep& step, int index) {
      const double done = index / total;
      report("tactics", step.name, 0.2 + 0.7 * done, done > 0.05 ? seconds_since(start) * (1 - done) / done : -1);
      if (is_run_by_runtime(step)) return;
      const StepSource& source = lowered.sources[static_cast<std::size_t>(index)];
      const bool variable_shape = step.infer_at_run_time || !step.bindings.empty();
      for (const ShapeRanges& profile : profiles_) {
        try {
          const Problem problem = make_problem(lowered, step, source, profile);
          TacticChooser& by = inside[static_cast<std::size_t>(index)] && samples != nullptr ? *samples : chooser;
          all_choices[static_cast<std::size_t>(index)].push_back(
              by.choose(problem, profile, network.workspace_left, variable_shape));
        } catch (const Error& error) {
          if (error.code() != Code::unsupported) throw error.in_context(step.name);
          problems += fmt::format("\nnode '{}' ({}): {}", step.name, step.op_type, error.message());
          return;
        }
        for (const PlanCandidate& line : all_choices[static_cast<std::size_t>(index)].back().report) {
          limited += line.refusal.find("workspace limit") != std::string::npos ? 1 : 0;
        }
      }
    });
    if (!problems.empty()) throw Error(Code::unsupported, "these nodes cannot be compiled:" + problems);
    if (limited > 0) {
      network.warnings.push_back(
          fmt::format("the workspace limit of {} bytes ruled out {} candidates; see the build report",
                      options_.workspace_bytes, limited));
    }
  }

  void keep_timings(const TimingCache& cache, BuildResult& result) const {
    if (options_.timing_cache) result.timing_cache = cache.to_text();
    if (options_.timing_cache_path.empty() || !cache.is_changed()) return;
    try {
      cache.save(options_.timing_cache_path);
    } catch (const Error& error) {
      if (error.code() != Code::io_failure) throw;  // the engine is as good without
      result.warnings.push_back("the timing cache was not written: " + error.message());
    }
  }

  void refine_choices(LoweredPlan& lowered, TacticChooser& chooser, TimingCache& cache,
                      std::vector<std::string>& warnings) {
    RefineOptions options;
    options.opt_level = options_.opt_level;
    options.num_threads = num_threads_;
    options.workspace_bytes = options_.workspace_bytes;
    options.workspace_left = workspace_left_;
    options.is_cancelled = options_.is_cancelled;
    options.on_progress = [this](std::string_view item, double done) { report("tactics", item, 0.9 + 0.08 * done); };
    std::vector<const PlanStep*> steps;
    for_each_step(lowered.plan.steps, [&](PlanStep& step, int) { steps.push_back(&step); });
    for (std::size_t p = 0; p < profiles_.size(); ++p) {
      const auto problem_of = [&](std::size_t step) {
        return make_problem(lowered, *steps[step], lowered.sources[step], profiles_[p]);
      };
      refine(lowered, profiles_[p], p, problem_of, backend_, chooser, cache, options, choices_, warnings);
    }
  }

  void add_code(LoweredPlan& lowered, const TacticChooser& chooser, WeightSection& section) {
    if (backend_.is_host()) return;
    for_each_step(lowered.plan.steps, [&](PlanStep& step, int index) {
      StepChoices& choices = choices_[static_cast<std::size_t>(index)];
      for (std::size_t p = 0; p < choices.size(); ++p) {
        if (choices[p].on_host) continue;
        const Problem problem =
            make_problem(lowered, step, lowered.sources[static_cast<std::size_t>(index)], profiles_[p]);
        const std::vector<std::byte> code = backend_.device_code(chooser.spec_of(problem, choices[p]));
        if (!code.empty()) choices[p].code = section.add(code);
      }
    });
  }

  static bool is_run_by_runtime(const PlanStep& step) { return !step.blocks.empty() || step.op_type == "DimValues"; }

  void place_views(Network& network) const {
    LoweredPlan& lowered = network.lowered;
    const auto accepts = [&](int step, const auto& question) {
      const StepChoices& choices = network.choices[static_cast<std::size_t>(step)];
      return !choices.empty() && std::all_of(choices.begin(), choices.end(), [&](const Choice& choice) {
        return !choice.on_host && question(*choice.kernel);
      });
    };
    ViewRules rules;
    rules.alignment = backend_.operand_alignment();
    rules.pitched_input = [&](int step, int operand, std::int64_t alignment) {
      return accepts(step, [&](const Kernel& kernel) {
        return kernel.accepts_pitched_input(operand) && alignment % kernel.pitched_input_alignment() == 0;
      });
    };
    rules.pitched_output = [&](int step, int operand) {
      return accepts(step, [&](const Kernel& kernel) { return kernel.accepts_pitched_output(operand); });
    };
    const std::vector<bool> removed = make_views(lowered, rules);
    std::vector<StepChoices> kept;
    std::vector<StepSource> sources;
    for (std::size_t i = 0; i < removed.size(); ++i) {
      if (removed[i]) continue;
      kept.push_back(std::move(network.choices[i]));
      sources.push_back(lowered.sources[i]);
    }
    network.choices = std::move(kept);
    lowered.sources = std::move(sources);
  }

  void write_report(Plan& plan) const {
    for_each_step(plan.steps, [&](PlanStep& step, int index) {
      const StepChoices& choices = choices_[static_cast<std::size_t>(index)];
      for (std::size_t p = 0; p < choices.size(); ++p) {
        for (PlanCandidate line : choices[p].report) {
          line.step = step.name;
          line.profile = static_cast<std::int32_t>(p);
          plan.report.push_back(std::move(line));
        }
      }
    });
    plan.report.insert(plan.report.end(), section_report_.begin(), section_report_.end());
  }

  const Backend& backend_;
  const BuildOptions& options_;
  int num_threads_ = 1;
  std::vector<ShapeRanges> profiles_;
  std::vector<StepChoices> choices_;
  std::uint64_t workspace_left_ = 0;  ///< of the limit, beside the activations
  std::vector<PlanCandidate> section_report_;
};

}  // namespace

std::vector<MissingKernel> missing_kernels(Graph graph, const Backend& backend, const BuildOptions& options) {
  return Builder(backend, options).missing_kernels(std::move(graph));
}

KernelExamination examine_kernels(Graph graph, const Backend& backend, const BuildOptions& options,
                                  KernelQuestion question) {
  return Builder(backend, options).examine_kernels(std::move(graph), question);
}

BuildResult build(Graph graph, const Backend& backend, const BuildOptions& options, PlanProvenance provenance) {
  return Builder(backend, options).run(std::move(graph), std::move(provenance));
}

}  // namespace tenfold
