// tenfold cubins MODEL... -o FILE: compiles, without a GPU, the kernels that builds of models would time, into an
// archive for machines without a compiler.
#include <fmt/format.h>

#include "backend/code_archive.hpp"
#include "base/error.hpp"
#include "import/import.hpp"
#include "json.hpp"
#include "model.hpp"
#include "terminal.hpp"

namespace tenfold::cli {
namespace {

struct CubinsCommand {
  std::vector<std::string> models;
  std::string output;
  CompileOptions compile;
};

Exit run_cubins(const CubinsCommand& command, const Session& session) {
  const Backend& backend = find_backend(command.compile.device);
  require(!backend.is_host(), Code::invalid_argument,
          "an archive holds kernels of a GPU; name one with --device, for instance cuda:h100");
  const double begin = now_seconds();
  std::size_t broken = 0;
  Json models = Json::array();
  for (const std::string& model : command.models) {
    ImportedModel imported = import_onnx(model, import_options(command.compile.shapes));
    for (const std::string& warning : imported.warnings) note(session, fmt::format("warning: {}: {}", model, warning));
    ProgressBar bar(session);
    BuildOptions options = build_options(command.compile);
    options.profiles = make_profiles(imported.graph, command.compile.shapes, "tenfold cubins " + model, true);
    options.on_progress = [&](const BuildProgress& progress) { bar.update(progress); };
    const KernelExamination examination = examine_kernels(std::move(imported.graph), backend, options);
    bar.finish();
    for (const ExaminedKernel& kernel : examination.kernels) {
      if (kernel.problem.empty()) continue;
      ++broken;
      note(session, fmt::format("warning: {}: {}: {}", model, kernel.node, kernel.problem));
    }
    if (!session.json) {
      fmt::print("{}: {} kernels of {} steps\n", model, examination.kernels.size(), examination.num_steps);
    }
    models.push_back({{"model", model}, {"kernels", examination.kernels.size()}, {"steps", examination.num_steps}});
  }
  const CodeArchiveSummary archive = archive_code(command.compile.device, command.output);
  const double seconds = now_seconds() - begin;
  if (session.json) {
    print_json({{"archive", command.output},
                {"target", backend.target()},
                {"models", models},
                {"kernels", archive.num_kernels},
                {"new", archive.num_new},
                {"file_bytes", archive.file_bytes},
                {"seconds", seconds}});
  } else {
    fmt::print("{}: {} kernels, {} of them new, {}; {}\n", command.output, archive.num_kernels, archive.num_new,
               format_bytes(static_cast<double>(archive.file_bytes)), format_seconds(seconds));
  }
  return broken == 0 ? Exit::ok : Exit::found_problems;
}

}  // namespace

void add_cubins(CLI::App& app, Session& session, Action& action) {
  auto command = std::make_shared<CubinsCommand>();
  CLI::App* sub =
      app.add_subcommand("cubins", "Compile a GPU's kernels ahead of time, for machines without a compiler");
  sub->add_option("models", command->models, "ONNX files")->required()->type_name("MODEL");
  sub->add_option("-o,--output", command->output, "Archive to write, or to add to")->required()->type_name("FILE");
  add_compile_options(*sub, command->compile);
  add_common_options(*sub, session);
  sub->callback([command, &action] { action = [command](const Session& s) { return run_cubins(*command, s); }; });
}

}  // namespace tenfold::cli
