// Compiles a graph into a plan: passes, lowering, measured tactics, memory plan. `builder.cpp` tells the story.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.hpp"
#include "engine/plan.hpp"
#include "graph/graph.hpp"

namespace tenfold {

/// Per input name: what one profile accepts. Inputs not listed must have static shapes.
using ProfileSpec = std::map<std::string, PlanRange>;

struct BuildProgress {
  std::string phase;              ///< "import", "passes", "tactics", "kernels", "weights", "write"
  std::string item;               ///< what is being done now: a pass, a node
  double fraction = 0;            ///< of the whole build, 0..1
  double remaining_seconds = -1;  ///< honest estimate; -1 while there is none
};

struct BuildOptions {
  /// Empty: one profile whose shapes are the model's own; dynamic dims without a range become an error that lists them.
  std::vector<ProfileSpec> profiles;
  std::uint64_t workspace_bytes = std::uint64_t{1} << 40;  ///< limit for the arena of activations and scratch memory
  int num_threads = 0;                                     ///< 0: all cores this process may use
  int opt_level = 3;                        ///< 0: no tactic is timed, first that fits; 5: everything is timed longer
  bool allow_host = false;                  ///< steps without a kernel on the device run on the host
  bool fp16 = false;                        ///< float32 becomes float16 where that is safe; on the host: weights only
  bool tf32 = false;                        ///< products of float32 may round their operands to 11 bits
  bool bf16 = false;                        ///< factors of products may be rounded to bfloat16
  LibraryTactics libraries;                 ///< on a GPU: whose kernels are tried beside our own
  bool strict = false;                      ///< no Winograd, no Strassen
  bool portable = false;                    ///< add the portable section
  std::string timing_cache_path;            ///< read before, merged and written after; empty: none
  std::optional<std::string> timing_cache;  ///< text; BuildResult::timing_cache is what it has become
  std::vector<std::string> disabled_rules;  ///< passes or rules switched off by name
  std::vector<std::string> extra_outputs;   ///< values to expose as outputs besides the model's
  std::vector<std::string> keep_float32;    ///< on the host: names of the model's nodes whose weights are not rounded
  std::string dump_directory;               ///< where a failing pass leaves its graph; empty: nowhere
  std::function<void(const BuildProgress&)> on_progress;
  std::function<bool()> is_cancelled;  ///< polled often; true makes build throw Error(cancelled)
};

struct BuildResult {
  Plan plan;
  std::vector<std::byte> weights;     ///< the weights section
  std::vector<std::byte> code;        ///< machine code of a device's kernels
  bool half_weights = false;          ///< weights are float16 numbers: see EngineWriteOptions
  Graph imported;                     ///< as given, for the portable section
  Graph optimized;                    ///< after the passes, for inspection
  std::string timing_cache;           ///< if BuildOptions::timing_cache was given
  std::vector<std::string> warnings;  ///< for instance: what the workspace limit cost
  double seconds_passes = 0, seconds_tactics = 0, seconds_total = 0;
};

/// A step of the optimised graph that a backend has no kernel for, under the name of its node.
struct MissingKernel {
  std::string node;
  std::string reason;  ///< with the operator's name and every refusal
};
/// What would keep `build` from finding kernels, without timing, packing or compiling any: the backend needs no device.
std::vector<MissingKernel> missing_kernels(Graph graph, const Backend& backend, const BuildOptions& options);

/// What is to be found out about the kernels that `build` would time.
enum class KernelQuestion : std::uint8_t {
  facts,  ///< what the compiler says; compiles all of them. Throws Error(unsupported) without a compiler
  code,   ///< whether a build here would have their code; compiles what is not kept somewhere
};
/// A kernel that `build` would time.
struct ExaminedKernel {
  std::string node;  ///< the first step that it is for
  std::string tactic;
  std::vector<std::int64_t> parameters;
  std::vector<CodeFacts> entries;
  std::string problem;  ///< why it does not compile, or has no code; empty if all is well
};
struct KernelExamination {
  std::vector<ExaminedKernel> kernels;  ///< those of equal code once; those that need no compiling not at all
  int num_steps = 0;                    ///< that kernels run
};
/// Looks at every kernel that `build` would time, on all cores. The backend needs no device. Steps without a kernel are
/// left out: see missing_kernels.
KernelExamination examine_kernels(Graph graph, const Backend& backend, const BuildOptions& options,
                                  KernelQuestion question = KernelQuestion::facts);

/// Throws Error(unsupported) listing all nodes that cannot be compiled, Error(invalid_argument) for profiles that do
/// not fit the inputs, Error(out_of_memory) when nothing fits in the workspace limit.
/// `provenance` fields other than passes and counts are the caller's to fill.
BuildResult build(Graph graph, const Backend& backend, const BuildOptions& options, PlanProvenance provenance = {});

}  // namespace tenfold
