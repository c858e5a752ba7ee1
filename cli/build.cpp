// tenfold build MODEL -o ENGINE
#include <filesystem>

#include <fmt/format.h>

#include "base/error.hpp"
#include "build/lower.hpp"
#include "engine/engine_file.hpp"
#include "json.hpp"
#include "model.hpp"
#include "terminal.hpp"

namespace tenfold::cli {
namespace {

struct BuildCommand {
  std::string model;
  std::string output;
  CompileOptions compile;
};

std::uint64_t largest_arena(const Plan& plan) {
  std::uint64_t bytes = 0;
  for (const PlanProfile& profile : plan.profiles) bytes = std::max(bytes, profile.arena_bytes);
  return bytes;
}

Exit run_build(const BuildCommand& command, const Session& session) {
  require(!std::filesystem::is_directory(command.output), Code::invalid_argument,
          "{}: is a folder; -o names the engine file", command.output);
  const std::string called = fmt::format("tenfold build {} -o {}", command.model, command.output);
  const Compiled compiled = compile(command.model, command.compile, session, called, true);
  throw_if_interrupted();
  const Plan& plan = compiled.build.plan;
  const double begin = now_seconds();
  const Graph* portable = command.compile.portable ? &compiled.imported : nullptr;
  write_engine(command.output, plan, compiled.build.weights,
               {.portable = portable, .code = compiled.build.code, .half_weights = compiled.build.half_weights});
  const double seconds_write = now_seconds() - begin;
  const double seconds_total = compiled.seconds_total + seconds_write;
  const std::uint64_t file_bytes = std::filesystem::file_size(command.output);

  if (session.json) {
    print_json({{"model", command.model},
                {"engine", command.output},
                {"target", plan.target},
                {"threads", plan.num_threads},
                {"nodes_in_model", compiled.model_nodes},
                {"steps", count_steps(plan.steps)},
                {"profiles", plan.profiles.size()},
                {"weight_bytes", compiled.build.weights.size()},
                {"arena_bytes", largest_arena(plan)},
                {"file_bytes", file_bytes},
                {"seconds",
                 {{"import", compiled.seconds_import},
                  {"passes", compiled.build.seconds_passes},
                  {"tactics", compiled.build.seconds_tactics},
                  {"write", seconds_write},
                  {"total", seconds_total}}},
                {"passes", plan.provenance.passes},
                {"warnings", compiled.warnings}});
    return Exit::ok;
  }
  for (const std::string& warning : compiled.warnings) note(session, "warning: " + warning);
  fmt::print("{} -> {}\n", command.model, command.output);
  fmt::print("  nodes      {} in the model, {} steps in the engine\n", compiled.model_nodes, count_steps(plan.steps));
  fmt::print("  target     {}, {} thread{}\n", plan.target, plan.num_threads, plan.num_threads == 1 ? "" : "s");
  fmt::print("  size       {} file, {} of it weights; {} memory for activations\n",
             format_bytes(static_cast<double>(file_bytes)),
             format_bytes(static_cast<double>(compiled.build.weights.size())),
             format_bytes(static_cast<double>(largest_arena(plan))));
  fmt::print("  time       {} (import {}, passes {}, tactics {}, write {})\n", format_seconds(seconds_total),
             format_seconds(compiled.seconds_import), format_seconds(compiled.build.seconds_passes),
             format_seconds(compiled.build.seconds_tactics), format_seconds(seconds_write));
  if (session.verbose) {
    fmt::print("  passes     {}\n", join(plan.provenance.passes, ", "));
  }
  return Exit::ok;
}

}  // namespace

void add_build(CLI::App& app, Session& session, Action& action) {
  auto command = std::make_shared<BuildCommand>();
  CLI::App* sub = app.add_subcommand("build", "Compile a model into an engine file");
  sub->add_option("model,--onnx", command->model, "ONNX file")->required()->type_name("MODEL");
  sub->add_option("-o,--output,--saveEngine,--save-engine", command->output, "Engine file to write")
      ->required()
      ->type_name("ENGINE");
  add_compile_options(*sub, command->compile);
  accept_silently(*sub, "--skipInference,--buildOnly");
  add_common_options(*sub, session);
  sub->callback([command, &action] { action = [command](const Session& s) { return run_build(*command, s); }; });
}

}  // namespace tenfold::cli
