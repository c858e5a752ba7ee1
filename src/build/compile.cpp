// Model file -> engine file in one call: import, build, write.
#include "tenfold/compile.hpp"

#include <filesystem>

#include "build/builder.hpp"
#include "build/libraries.hpp"
#include "build/lower.hpp"
#include "engine/engine_file.hpp"
#include "import/import.hpp"
#include "import/network_access.hpp"
#include "tenfold/network.hpp"

namespace tenfold {
namespace {

BuildOptions build_options(const CompileOptions& options) {
  BuildOptions result;
  for (const auto& profile : options.profiles) {
    ProfileSpec spec;
    for (const auto& [name, range] : profile) spec[name] = {range.min, range.opt, range.max};
    result.profiles.push_back(std::move(spec));
  }
  result.workspace_bytes = options.workspace_bytes;
  result.num_threads = options.num_threads;
  result.opt_level = options.opt_level;
  result.strict = options.strict;
  result.allow_host = options.allow_host;
  result.fp16 = options.fp16;
  result.tf32 = options.tf32;
  result.bf16 = options.bf16;
  result.libraries = read_tactic_sources(options.tactic_sources);
  result.portable = options.portable;
  result.timing_cache_path = options.timing_cache_path;
  result.timing_cache = options.timing_cache;
  result.disabled_rules = options.disabled_rules;
  result.extra_outputs = options.extra_outputs;
  result.keep_float32 = options.keep_float32;
  result.is_cancelled = options.is_cancelled;
  if (options.on_progress) {
    result.on_progress = [&](const BuildProgress& progress) {
      options.on_progress({progress.phase, progress.item, progress.fraction, progress.remaining_seconds});
    };
  }
  return result;
}

/// What of the options decides the engine; threads and level are in the plan and in the report.
std::string describe(const CompileOptions& options) {
  std::string text = fmt::format("opt-level={}", options.opt_level);
  for (const auto& profile : options.profiles) {
    text += " profile:";
    for (const auto& [name, range] : profile) {
      text += fmt::format(" {}:{}..{}..{}", name, fmt::join(range.min, "x"), fmt::join(range.opt, "x"),
                          fmt::join(range.max, "x"));
    }
  }
  if (options.strict) text += " strict";
  if (options.fp16) text += " fp16";
  if (options.tf32) text += " tf32";
  if (options.bf16) text += " bf16";
  if (const std::string sources = to_string(read_tactic_sources(options.tactic_sources)); !sources.empty()) {
    text += " tactic-sources=" + sources;
  }
  if (options.allow_host) text += " allow-host";
  if (options.portable) text += " portable";
  for (const std::string& rule : options.disabled_rules) text += " disable=" + rule;
  for (const std::string& output : options.extra_outputs) text += " output=" + output;
  for (const std::string& node : options.keep_float32) text += " keep-float32=" + node;
  return text;
}

struct Compiled {
  BuildResult build;
  CompileSummary summary;
};

Compiled build_model(ImportedModel model, const std::string& name, const CompileOptions& options) {
  PlanProvenance provenance;
  provenance.model_name = name;
  provenance.model_producer = model.producer;
  provenance.model_hash = model.hash;
  provenance.model_nodes = model.num_model_nodes;
  provenance.metadata = model.metadata;
  for (const auto& [key, value] : options.metadata) provenance.metadata.insert_or_assign(key, value);
  provenance.options = describe(options);
  Compiled result;
  result.summary.model_nodes = model.num_model_nodes;
  result.summary.warnings = std::move(model.warnings);
  result.build =
      build(std::move(model.graph), find_backend(options.device), build_options(options), std::move(provenance));
  for_each_step(result.build.plan.steps,
                [&](const PlanStep& step, int) { result.summary.engine_steps += step.op_type != "Samples" ? 1 : 0; });
  result.summary.seconds = result.build.seconds_total;
  result.summary.timing_cache = std::move(result.build.timing_cache);
  for (std::string& warning : result.build.warnings) result.summary.warnings.push_back(std::move(warning));
  return result;
}

EngineWriteOptions write_options(const Compiled& compiled, const CompileOptions& options) {
  return {.portable = options.portable ? &compiled.build.imported : nullptr,
          .code = compiled.build.code,
          .half_weights = compiled.build.half_weights};
}

std::vector<std::byte> serialize(Compiled compiled, const CompileOptions& options, CompileSummary* summary) {
  if (summary != nullptr) *summary = std::move(compiled.summary);
  return serialize_engine(compiled.build.plan, compiled.build.weights, write_options(compiled, options));
}

void report_import(const CompileOptions& options, const std::string& name) {
  if (options.on_progress) options.on_progress({"import", name, 0, -1});
}

}  // namespace

std::vector<std::byte> compile_file(const std::string& model_path, const CompileOptions& options,
                                    CompileSummary* summary) {
  report_import(options, model_path);
  Compiled compiled = build_model(import_onnx(model_path), std::filesystem::path(model_path).filename(), options);
  return serialize(std::move(compiled), options, summary);
}

bool has_bf16(const std::string& device) { return find_backend(device).abilities().bf16; }

CompileSummary compile(const std::string& model_path, const std::string& engine_path, const CompileOptions& options) {
  report_import(options, model_path);
  Compiled compiled = build_model(import_onnx(model_path), std::filesystem::path(model_path).filename(), options);
  write_engine(engine_path, compiled.build.plan, compiled.build.weights, write_options(compiled, options));
  return std::move(compiled.summary);
}

std::vector<std::byte> compile(std::span<const std::byte> model, const CompileOptions& options,
                               CompileSummary* summary) {
  report_import(options, "model");
  ImportOptions import_options;
  import_options.external_data = false;
  Compiled compiled = build_model(import_onnx(model, import_options), "", options);
  return serialize(std::move(compiled), options, summary);
}

Network Network::from_engine(std::span<const std::byte> engine) {
  EngineFile file = read_engine(engine, {.read_portable = true});
  require(file.portable.has_value(), Code::invalid_argument,
          "the engine does not hold the model; build it with the option `portable`");
  return NetworkAccess::from_graph(std::move(*file.portable));
}

std::vector<std::byte> compile(const Network& network, const std::string& name, const CompileOptions& options,
                               CompileSummary* summary) {
  ImportedModel model;
  model.graph = NetworkAccess::graph(network);
  model.producer = NetworkAccess::producer(network);
  model.hash = NetworkAccess::model_hash(network);
  model.metadata = NetworkAccess::metadata(network);
  model.num_model_nodes = network.num_nodes();
  Compiled compiled = build_model(std::move(model), name, options);
  return serialize(std::move(compiled), options, summary);
}

}  // namespace tenfold
