// A model on its way to an engine.
#include "model.hpp"

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <unistd.h>

#include <fmt/format.h>

#include "base/atomic_file.hpp"
#include "build/libraries.hpp"
#include "engine/engine_file.hpp"
#include "runtime/engine_access.hpp"
#include "terminal.hpp"

namespace tenfold::cli {
namespace {

// What of the options decides the engine, as text for its provenance.
std::string options_text(const CompileOptions& options, const std::vector<ProfileSpec>& profiles) {
  std::string text;
  for (const ProfileSpec& profile : profiles) {
    NamedShapes min, opt, max;
    for (const auto& [name, range] : profile) {
      min[name] = range.min;
      opt[name] = range.opt;
      max[name] = range.max;
    }
    text += fmt::format("--min-shapes {} --opt-shapes {} --max-shapes {} ", format_shapes(min), format_shapes(opt),
                        format_shapes(max));
  }
  if (!options.shapes.fixed.empty()) text += fmt::format("--fix-shapes {} ", options.shapes.fixed);
  for (const std::string& value : options.shapes.values) text += fmt::format("--fix-input {} ", value);
  if (!options.workspace.empty()) text += fmt::format("--workspace {} ", options.workspace);
  text += fmt::format("--opt-level {}", options.opt_level);
  if (options.strict) text += " --strict";
  if (options.fp16) text += " --fp16";
  if (options.tf32) text += " --tf32";
  if (options.bf16) text += " --bf16";
  if (const std::string sources = to_string(options.libraries); !sources.empty()) {
    text += fmt::format(" --tactic-sources {}", sources);
  }
  if (options.allow_host) text += " --allow-host";
  if (options.portable) text += " --portable";
  for (const std::string& rule : options.disabled) text += fmt::format(" --disable {}", rule);
  return text;
}

// The engine's own ranges, so that a rebuilt engine accepts what the old one did.
std::vector<ProfileSpec> profiles_of(const Plan& plan) {
  std::vector<ProfileSpec> profiles;
  for (const PlanProfile& profile : plan.profiles) {
    ProfileSpec spec;
    for (std::size_t i = 0; i < plan.inputs.size(); ++i) {
      spec[plan.values.at(static_cast<std::size_t>(plan.inputs[i])).name] = profile.inputs.at(i);
    }
    profiles.push_back(std::move(spec));
  }
  return profiles;
}

BuildResult rebuild(const LoadingOptions& options, const Session& session) {
  EngineFile file = read_engine(options.path, {.read_portable = true});
  require(file.portable.has_value(), Code::incompatible_engine,
          "{}: it has no portable section to rebuild it from; build it again from the model", options.path);
  ProgressBar bar(session);
  BuildOptions for_build = build_options(options.compile);
  for_build.profiles = profiles_of(file.plan);
  for_build.portable = false;
  for_build.on_progress = [&](const BuildProgress& progress) { bar.update(progress); };
  return build(std::move(*file.portable), find_backend(options.compile.device), for_build, file.plan.provenance);
}

}  // namespace

void add_compile_options(CLI::App& command, CompileOptions& options) {
  add_shape_options(command, options.shapes);
  command.add_option("--workspace", options.workspace, "Limit for activations and scratch memory: 1GiB, 512MiB")
      ->group("Building");
  command
      .add_option_function<std::string>(
          "--memPoolSize",
          [&options](const std::string& text) {
            constexpr std::string_view kPool = "workspace:";
            require(text.starts_with(kPool), Code::unsupported, "--memPoolSize={}: the only pool here is 'workspace'",
                    text);
            options.workspace = std::to_string(parse_bytes(std::string_view(text).substr(kPool.size()), 1U << 20U));
          })
      ->group("");
  command
      .add_option("--timing-cache,--timingCacheFile", options.timing_cache,
                  "Reuse and extend measured times in this file")
      ->group("Building");
  command.add_option("--threads", options.num_threads, "Threads to compute with; 0: all cores of this process")
      ->check(CLI::Range(0, 256))
      ->group("Building");
  command
      .add_option("--opt-level,--builderOptimizationLevel", options.opt_level,
                  "0: time nothing ... 5: time everything longer")
      ->check(CLI::Range(0, 5))
      ->capture_default_str()
      ->group("Building");
  command
      .add_flag("--portable", options.portable,
                "Add model graph and weights, for processors that cannot run the engine")
      ->group("Building");
  command.add_option("--device", options.device, "What to compile for and run on: cpu, cuda or cuda:N")
      ->capture_default_str()
      ->group("Building");
  command
      .add_flag("--fp16", options.fp16, "On a GPU: compute in float16 where that is safe; on a CPU: store weights so")
      ->group("Building");
  command
      .add_flag("--tf32", options.tf32, "On a GPU: round the operands of float32 products to 11 bits, for tensor cores")
      ->group("Building");
  command.add_flag("--bf16", options.bf16, "On a CPU with AVX512_BF16: round the factors of products to bfloat16")
      ->group("Building");
  command
      .add_option_function<std::string>(
          "--tactic-sources,--tacticSources",
          [&options](const std::string& list) { read_tactic_sources(list, options.libraries); },
          "On a GPU: libraries whose kernels are tried too: cublas_lt,cudnn")
      ->type_name("LIST")
      ->group("Building");
  command.add_flag("--allow-host", options.allow_host, "On a GPU: operators without a GPU kernel run on the host")
      ->group("Building");
  command.add_flag("--strict", options.strict, "No arithmetic shortcuts such as Winograd")->group("Building");
  command.add_option("--disable", options.disabled, "Switch a pass or rule off by name (repeatable)")
      ->allow_extra_args(false)
      ->group("Building");
  command.add_option("--dump-dir", options.dump_directory, "Where a failing pass leaves the graph")->group("Building");
  refuse_precision_options(command);
  // True of every engine here: types are the model's, arithmetic is full float32, profiles are taken separately.
  accept_silently(
      command,
      "--stronglyTyped,--useCudaGraph,--noTF32,--separateProfileRun,--noDataTransfers,--useSpinWait,--noBuilderCache");
}

BuildOptions build_options(const CompileOptions& options) {
  BuildOptions result;
  if (!options.workspace.empty()) result.workspace_bytes = parse_bytes(options.workspace);
  result.num_threads = options.num_threads;
  result.opt_level = options.opt_level;
  result.strict = options.strict;
  result.fp16 = options.fp16;
  result.tf32 = options.tf32;
  result.bf16 = options.bf16;
  result.libraries = options.libraries;
  result.allow_host = options.allow_host;
  result.portable = options.portable;
  result.timing_cache_path = options.timing_cache;
  result.disabled_rules = options.disabled;
  result.dump_directory = options.dump_directory;
  result.is_cancelled = interrupted;
  return result;
}

std::uint64_t parse_bytes(std::string_view text, std::uint64_t unit) {
  double value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string_view suffix = text.substr(static_cast<std::size_t>(end - text.data()));
  bool known = problem == std::errc{} && value >= 0;
  if (!suffix.empty()) {
    constexpr std::string_view kPowers = "KMGT";
    unit = 1;
    if (const std::size_t power = kPowers.find(static_cast<char>(suffix.front() & ~0x20));
        power != std::string_view::npos) {
      unit = std::uint64_t{1} << (10 * (power + 1));
      suffix.remove_prefix(1);
    }
    known = known && (suffix.empty() || suffix == "B" || suffix == "iB" || suffix == "b");
  }
  const double bytes = value * static_cast<double>(unit);
  require(known && bytes < 0x1p60, Code::invalid_argument,
          "'{}' is no size: expected 1GiB, 512MiB or a number of bytes", text);
  return static_cast<std::uint64_t>(bytes);
}

Compiled compile(const std::string& model, const CompileOptions& options, const Session& session,
                 const std::string& command, bool ranges) {
  Compiled compiled;
  const double begin = now_seconds();
  ProgressBar bar(session);
  bar.update({.phase = "import", .item = model});
  ImportedModel imported = import_onnx(model, import_options(options.shapes));
  compiled.seconds_import = now_seconds() - begin;
  throw_if_interrupted();

  BuildOptions for_build = build_options(options);
  for_build.profiles = make_profiles(imported.graph, options.shapes, command, ranges);
  for_build.on_progress = [&](const BuildProgress& progress) { bar.update(progress); };

  PlanProvenance provenance;
  provenance.model_name = std::filesystem::path(model).filename().string();
  provenance.model_producer = imported.producer;
  provenance.model_hash = imported.hash;
  provenance.model_nodes = imported.num_model_nodes;
  provenance.metadata = imported.metadata;
  provenance.options = options_text(options, for_build.profiles);

  compiled.producer = imported.producer;
  compiled.hash = imported.hash;
  compiled.model_nodes = imported.num_model_nodes;
  compiled.warnings = std::move(imported.warnings);
  compiled.imported = imported.graph;
  compiled.build = build(std::move(imported.graph), find_backend(options.device), for_build, std::move(provenance));
  compiled.warnings.insert(compiled.warnings.end(), compiled.build.warnings.begin(), compiled.build.warnings.end());
  compiled.seconds_total = now_seconds() - begin;
  return compiled;
}

bool is_engine_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  require(static_cast<bool>(file), Code::io_failure, "{}: {}", path, std::strerror(errno));
  const std::string extension = std::filesystem::path(path).extension().string();
  if (extension == ".onnx") return false;
  if (extension == ".engine" || extension == ".plan" || extension == ".trt") return true;
  std::array<char, kEngineMagic.size()> magic{};
  file.read(magic.data(), magic.size());
  return std::string_view(magic.data(), magic.size()) == kEngineMagic;
}

void add_loading_options(CLI::App& command, LoadingOptions& options) {
  command
      .add_option("model,--onnx,--loadEngine,--load-engine", options.path, "Engine file, or model to build in memory")
      ->required()
      ->type_name("ENGINE|MODEL");
  command
      .add_option("--on-mismatch", options.on_mismatch,
                  "An engine for another processor or version: fail; run its portable section, slower; or rebuild from "
                  "that section in memory")
      ->check(CLI::IsMember({"fail", "portable", "rebuild"}))
      ->capture_default_str();
  command.add_flag("--trust-code", options.trust_code,
                   "Run a GPU engine's machine code although it was not built by this user on this machine");
  add_compile_options(command, options.compile);
}

Engine engine_in_memory(BuildResult& built, const LoadOptions& options) {
  EngineFile file;
  file.plan = std::move(built.plan);
  // Kernels want weights at multiples of 64 bytes, which a tensor's memory is and a vector's is not.
  Tensor weights(DType::uint8, {std::ssize(built.weights)});
  std::copy(built.weights.begin(), built.weights.end(), weights.mutable_data());
  built.weights = {};
  file.weights = {weights.data(), weights.size_bytes(), std::make_shared<const Tensor>(weights)};
  auto code = std::make_shared<const std::vector<std::byte>>(std::move(built.code));
  file.code = {code->data(), code->size(), code};
  file.code_is_trusted = true;  // made by this process
  return EngineAccess::make(std::move(file), options);
}

Loaded load_or_build(const LoadingOptions& options, const Session& session, const std::string& command) {
  LoadOptions load;
  load.num_threads = options.compile.num_threads;
  load.trust_code = options.trust_code;
  if (options.compile.device != "cpu") load.device = options.compile.device;
  if (options.on_mismatch == "portable") load.on_mismatch = LoadOptions::OnMismatch::portable;
  Loaded loaded;
  double begin = now_seconds();
  BuildResult built;
  std::optional<Graph> portable;
  if (is_engine_file(options.path)) {
    try {
      loaded.engine = Engine::load(options.path, load);
      loaded.seconds_load = now_seconds() - begin;
      return loaded;
    } catch (const Error& error) {
      if (error.code() != Code::incompatible_engine || options.on_mismatch != "rebuild") throw;
      note(session, fmt::format("{}\nrebuilding it in memory from its portable section", error.message()));
    }
    built = rebuild(options, session);
  } else {
    Compiled compiled = compile(options.path, options.compile, session, command, false);
    for (const std::string& warning : compiled.warnings) note(session, "warning: " + warning);
    built = std::move(compiled.build);
    if (options.compile.portable) portable = std::move(compiled.imported);
  }
  loaded.seconds_build = now_seconds() - begin;
  begin = now_seconds();
  loaded.engine = engine_in_memory(built, load);
  loaded.seconds_load = now_seconds() - begin;
  loaded.save = [engine = loaded.engine, portable = std::move(portable),
                 half_weights = built.half_weights](const std::string& path) {
    const EngineFile& file = EngineAccess::file(engine);
    write_engine(path, file.plan, {file.weights.data, file.weights.size},
                 {.portable = portable ? &*portable : nullptr,
                  .code = {file.code.data, file.code.size},
                  .half_weights = half_weights});
  };
  return loaded;
}

void write_file(const std::string& path, std::string_view text) {
  write_file_atomically(path, std::as_bytes(std::span(text)));
}

}  // namespace tenfold::cli
