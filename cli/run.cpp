// tenfold run ENGINE|MODEL
#include <cmath>

#include <fmt/format.h>

#include "base/error.hpp"
#include "inputs.hpp"
#include "json.hpp"
#include "model.hpp"
#include "npz.hpp"
#include "terminal.hpp"

namespace tenfold::cli {
namespace {

struct RunCommand {
  LoadingOptions loading;
  InputOptions inputs;
  std::string outputs;
  bool print_values = false;
};

struct Summary {
  double min = 0, max = 0, mean = 0;
  std::int64_t not_finite = 0;
};

Summary summarise(const std::vector<double>& values) {
  Summary summary;
  std::int64_t count = 0;
  for (const double value : values) {
    if (!std::isfinite(value)) {
      ++summary.not_finite;
      continue;
    }
    summary.min = count == 0 ? value : std::min(summary.min, value);
    summary.max = count == 0 ? value : std::max(summary.max, value);
    summary.mean += value;
    ++count;
  }
  if (count > 0) summary.mean /= static_cast<double>(count);
  return summary;
}

Exit run_run(const RunCommand& command, const Session& session) {
  const std::string called = fmt::format("tenfold run {}", command.loading.path);
  LoadingOptions loading = command.loading;
  // A model whose shapes are dynamic is built for the shapes that the files have, if nothing else is asked for.
  if (loading.compile.shapes.is_empty()) loading.compile.shapes.exact = format_shapes(shapes_of_files(command.inputs));
  const Loaded loaded = load_or_build(loading, session, called);
  const Engine& engine = loaded.engine;
  const std::vector<TensorInfo> infos = engine.inputs();
  const NamedShapes shapes = parse_shapes_or_none(command.loading.compile.shapes.exact);
  const std::vector<Tensor> inputs =
      gather_inputs(infos, engine.profile(choose_profile(engine, shapes)), shapes, command.inputs);
  NamedShapes actual;
  for (std::size_t i = 0; i < infos.size(); ++i) actual[infos[i].name] = inputs[i].shape();

  Context context = engine.make_context(choose_profile(engine, actual));
  bind_inputs(context, infos, inputs);
  throw_if_interrupted();
  const double begin = now_seconds();
  context.run();
  const double seconds = now_seconds() - begin;
  throw_if_interrupted();

  std::vector<std::pair<std::string, Tensor>> outputs;
  for (const TensorInfo& info : engine.outputs()) outputs.emplace_back(info.name, to_tensor(context.output(info.name)));
  if (!command.outputs.empty()) write_npz(command.outputs, outputs);

  Json json = {{"seconds_first_run", seconds}, {"outputs", Json::object()}};
  for (const auto& [name, tensor] : outputs) {
    const std::vector<double> values = tensor.to_double();
    const Summary summary = summarise(values);
    if (session.json) {
      Json entry = {{"dtype", to_string(tensor.dtype())},
                    {"shape", tensor.shape()},
                    {"min", summary.min},
                    {"max", summary.max},
                    {"mean", summary.mean},
                    {"not_finite", summary.not_finite}};
      if (command.print_values) entry["values"] = values;
      json["outputs"][name] = std::move(entry);
      continue;
    }
    fmt::print("{}: {}{}", name, to_string(tensor.dtype()), to_string(tensor.shape()));
    if (!values.empty()) fmt::print("  min {:.6g}, max {:.6g}, mean {:.6g}", summary.min, summary.max, summary.mean);
    if (summary.not_finite > 0) fmt::print(", {} not finite", summary.not_finite);
    fmt::print("\n");
    if (command.print_values) fmt::print("  {:.9g}\n", fmt::join(values, " "));
  }
  if (session.json) {
    print_json(json);
  } else {
    note(session, fmt::format("first run {}{}", format_ms(seconds * 1e3),
                              command.outputs.empty() ? "" : fmt::format("; outputs written to {}", command.outputs)));
  }
  return Exit::ok;
}

}  // namespace

void add_run(CLI::App& app, Session& session, Action& action) {
  auto command = std::make_shared<RunCommand>();
  CLI::App* sub = app.add_subcommand("run", "Run an engine or a model once");
  add_loading_options(*sub, command->loading);
  add_input_options(*sub, command->inputs);
  sub->add_option("--outputs", command->outputs, "Write the outputs to this .npz file, by name")->group("Outputs");
  sub->add_flag("--print-values,--dumpOutput", command->print_values, "Print every element")->group("Outputs");
  add_common_options(*sub, session);
  sub->callback([command, &action] { action = [command](const Session& s) { return run_run(*command, s); }; });
}

}  // namespace tenfold::cli
