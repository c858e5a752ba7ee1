// tenfold check MODEL: everything that keeps a model from being compiled, at once; and what the compiler for a GPU
// makes of the kernels that a build would time.
#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "base/error.hpp"
#include "import/import.hpp"
#include "json.hpp"
#include "model.hpp"
#include "terminal.hpp"

namespace tenfold::cli {
namespace {

struct CheckCommand {
  std::string model;
  ShapeOptions reading;
  std::string device = "cpu";
  bool fp16 = false;
  bool tf32 = false;
  bool kernels = false, code = false;
  int opt_level = 3;
  std::int64_t max_spill_bytes = -1;  ///< -1: any number will do
};

BuildOptions build_options(const CheckCommand& command, const Graph& graph) {
  BuildOptions options;
  options.profiles = make_profiles(graph, command.reading, "tenfold check " + command.model, false);
  options.fp16 = command.fp16;
  options.tf32 = command.tf32;
  options.opt_level = command.opt_level;
  options.is_cancelled = interrupted;
  return options;
}

/// The steps that the device cannot run, as problems of the model's nodes.
void find_missing_kernels(const CheckCommand& command, ImportedModel& model) {
  const BuildOptions options = build_options(command, model.graph);
  for (const MissingKernel& missing : missing_kernels(model.graph, find_backend(command.device), options)) {
    model.problems.push_back({missing.node, Code::unsupported, missing.reason});
  }
}

std::int64_t spill_bytes(const CodeFacts& facts) { return std::max(facts.spill_store_bytes, facts.spill_load_bytes); }
std::int64_t spill_bytes(const ExaminedKernel& kernel) {
  std::int64_t bytes = 0;
  for (const CodeFacts& facts : kernel.entries) bytes = std::max(bytes, spill_bytes(facts));
  return bytes;
}
std::string name_of(const ExaminedKernel& kernel) {
  return fmt::format("{}({})", kernel.tactic, fmt::join(kernel.parameters, ", "));
}

/// Kernels that do not compile or, when that is asked, have no code here; or spill more than the command allows, as
/// problems of their nodes.
KernelExamination examine(const CheckCommand& command, ImportedModel& model, const Session& session) {
  BuildOptions options = build_options(command, model.graph);
  ProgressBar bar(session);
  options.on_progress = [&](const BuildProgress& progress) { bar.update(progress); };
  KernelExamination examination = examine_kernels(model.graph, find_backend(command.device), options,
                                                  command.kernels ? KernelQuestion::facts : KernelQuestion::code);
  std::stable_sort(examination.kernels.begin(), examination.kernels.end(),
                   [](const ExaminedKernel& a, const ExaminedKernel& b) { return spill_bytes(a) > spill_bytes(b); });
  for (const ExaminedKernel& kernel : examination.kernels) {
    if (!kernel.problem.empty()) {
      model.problems.push_back({kernel.node, command.kernels ? Code::internal : Code::unsupported,
                                fmt::format("{}: {}", name_of(kernel), kernel.problem)});
    } else if (command.max_spill_bytes >= 0 && spill_bytes(kernel) > command.max_spill_bytes) {
      model.problems.push_back({kernel.node, Code::unsupported,
                                fmt::format("{} spills {} bytes of registers, more than {}", name_of(kernel),
                                            spill_bytes(kernel), command.max_spill_bytes)});
    }
  }
  return examination;
}

Json to_json(const KernelExamination& examination) {
  Json kernels = Json::array();
  for (const ExaminedKernel& kernel : examination.kernels) {
    Json entries = Json::array();
    for (const CodeFacts& facts : kernel.entries) {
      entries.push_back({{"entry", facts.entry},
                         {"registers", facts.registers},
                         {"shared_bytes", facts.shared_bytes},
                         {"stack_bytes", facts.stack_bytes},
                         {"spill_store_bytes", facts.spill_store_bytes},
                         {"spill_load_bytes", facts.spill_load_bytes}});
    }
    kernels.push_back({{"node", kernel.node},
                       {"tactic", kernel.tactic},
                       {"parameters", kernel.parameters},
                       {"entries", std::move(entries)},
                       {"problem", kernel.problem}});
  }
  return kernels;
}

void print(const KernelExamination& examination, const CheckCommand& command) {
  const std::string target = find_backend(command.device).target();
  if (!command.kernels) {
    const auto missing = std::count_if(examination.kernels.begin(), examination.kernels.end(),
                                       [](const ExaminedKernel& kernel) { return !kernel.problem.empty(); });
    fmt::print("{} kernels of {} steps for {}: {} without code\n", examination.kernels.size(), examination.num_steps,
               target, missing);
    return;
  }
  std::vector<std::vector<std::string>> rows;
  std::size_t spilling = 0;
  for (const ExaminedKernel& kernel : examination.kernels) {
    spilling += spill_bytes(kernel) > 0 ? 1 : 0;
    for (const CodeFacts& facts : kernel.entries) {
      rows.push_back({kernel.node, name_of(kernel), facts.entry, std::to_string(facts.registers),
                      std::to_string(facts.shared_bytes), std::to_string(facts.stack_bytes),
                      std::to_string(facts.spill_store_bytes), std::to_string(facts.spill_load_bytes)});
    }
  }
  fmt::print("{}", table({"node", "kernel", "entry", "registers", "shared", "stack", "spill stores", "spill loads"},
                         rows, {false, false, false, true, true, true, true, true}));
  fmt::print("{} kernels of {} steps compiled for {}: {} spill\n", examination.kernels.size(), examination.num_steps,
             target, spilling);
}

Exit run_check(const CheckCommand& command, const Session& session) {
  require((!command.kernels && !command.code) || command.device != "cpu", Code::invalid_argument,
          "--kernels and --code are about a GPU's kernels; name one with --device, for instance cuda:h100");
  require(command.max_spill_bytes < 0 || command.kernels, Code::invalid_argument, "--max-spill-bytes needs --kernels");
  ImportedModel model = check_onnx(command.model, import_options(command.reading));
  const bool imported = model.problems.empty();
  if (command.device != "cpu" && imported) find_missing_kernels(command, model);
  std::optional<KernelExamination> examination;
  if ((command.kernels || command.code) && imported) examination = examine(command, model, session);

  if (session.json) {
    Json problems = Json::array();
    for (const ImportProblem& problem : model.problems) {
      problems.push_back({{"node", problem.node}, {"code", to_string(problem.code)}, {"message", problem.message}});
    }
    Json document = {{"model", command.model},         {"compiles", model.problems.empty()},
                     {"nodes", model.num_model_nodes}, {"producer", model.producer},
                     {"problems", problems},           {"warnings", model.warnings}};
    if (examination) {
      document["target"] = find_backend(command.device).target();
      document["steps"] = examination->num_steps;
      document["kernels"] = to_json(*examination);
    }
    print_json(document);
    return model.problems.empty() ? Exit::ok : Exit::found_problems;
  }
  for (const std::string& warning : model.warnings) note(session, "warning: " + warning);
  if (examination) print(*examination, command);
  if (model.problems.empty()) {
    fmt::print("{}: all {} nodes can be compiled\n", command.model, model.num_model_nodes);
    std::vector<std::string> dynamic;
    for (const ValueId id : model.graph.inputs()) {
      const Value& value = model.graph.value(id);
      fmt::print("  input {}: {}\n", value.name, to_string(value.type));
      if (!value.type.is_static()) dynamic.push_back(value.name);
    }
    if (!dynamic.empty()) {
      fmt::print("  the shapes of {} are dynamic: give --min-shapes, --opt-shapes and --max-shapes to build\n",
                 join(dynamic, ", "));
    }
    return Exit::ok;
  }
  fmt::print("{}: {} problem{} in {} nodes\n", command.model, model.problems.size(),
             model.problems.size() == 1 ? "" : "s", model.num_model_nodes);
  for (const ImportProblem& problem : model.problems) {
    fmt::print("  {}{}{}: {}\n", problem.node, problem.node.empty() ? "" : ": ", to_string(problem.code),
               problem.message);
  }
  return Exit::found_problems;
}

}  // namespace

void add_check(CLI::App& app, Session& session, Action& action) {
  auto command = std::make_shared<CheckCommand>();
  CLI::App* sub = app.add_subcommand("check", "List everything that keeps a model from being compiled");
  sub->add_option("model,--onnx", command->model, "ONNX file")->required()->type_name("MODEL");
  add_shape_options(*sub, command->reading);
  sub->add_option("--device", command->device,
                  "Also name the operators without a kernel there: cuda, cuda:N, cuda:h100")
      ->capture_default_str();
  sub->add_flag("--fp16", command->fp16, "As the model would be built with --fp16");
  sub->add_flag("--tf32", command->tf32, "As the model would be built with --tf32");
  sub->add_option("--opt-level", command->opt_level, "The same: how many kernels it would time for a step")
      ->check(CLI::Range(0, 5))
      ->capture_default_str();
  sub->add_flag("--kernels", command->kernels,
                "Compile the kernels that a build would time; list registers, shared memory and spills");
  sub->add_flag("--code", command->code,
                "Name the kernels whose code a build here would lack: neither compiled ahead of time, nor cached, nor "
                "to be compiled")
      ->excludes("--kernels");
  sub->add_option("--max-spill-bytes", command->max_spill_bytes, "A kernel that spills more is a problem")
      ->check(CLI::NonNegativeNumber)
      ->type_name("N");
  add_common_options(*sub, session);
  sub->callback([command, &action] { action = [command](const Session& s) { return run_check(*command, s); }; });
}

}  // namespace tenfold::cli
