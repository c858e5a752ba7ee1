// tenfold check MODEL: everything that keeps a model from being compiled, at once.
#include <map>

#include <fmt/format.h>

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
};

/// The steps that the device cannot run, as problems of the model's nodes.
void find_missing_kernels(const CheckCommand& command, ImportedModel& model) {
  BuildOptions options;
  options.profiles = make_profiles(model.graph, command.reading, "tenfold check " + command.model, false);
  options.fp16 = command.fp16;
  for (const MissingKernel& missing : missing_kernels(model.graph, find_backend(command.device), options)) {
    model.problems.push_back({missing.node, Code::unsupported, missing.reason});
  }
}

Exit run_check(const CheckCommand& command, const Session& session) {
  ImportedModel model = check_onnx(command.model, import_options(command.reading));
  if (command.device != "cpu" && model.problems.empty()) find_missing_kernels(command, model);

  if (session.json) {
    Json problems = Json::array();
    for (const ImportProblem& problem : model.problems) {
      problems.push_back({{"node", problem.node}, {"code", to_string(problem.code)}, {"message", problem.message}});
    }
    print_json({{"model", command.model},
                {"compiles", model.problems.empty()},
                {"nodes", model.num_model_nodes},
                {"producer", model.producer},
                {"problems", problems},
                {"warnings", model.warnings}});
    return model.problems.empty() ? Exit::ok : Exit::found_problems;
  }
  for (const std::string& warning : model.warnings) note(session, "warning: " + warning);
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
  add_common_options(*sub, session);
  sub->callback([command, &action] { action = [command](const Session& s) { return run_check(*command, s); }; });
}

}  // namespace tenfold::cli
