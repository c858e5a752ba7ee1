// tenfold compare MODEL: is the engine's answer right, and if not, which node is the first to go wrong?
//
// The engine runs as it is, fused. Every step's outputs go to a file on disk. Then the reference interpreter walks
// through the same optimised graph; after each node its result is compared with the engine's, and the engine's is put
// in its place, so that each step is judged on the inputs it really had and an early rounding does not blame a later
// step. The whole answer is compared with the reference of the model before any pass, and with ONNX Runtime.
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "base/error.hpp"
#include "build/lower.hpp"
#include "difference.hpp"
#include "inputs.hpp"
#include "json.hpp"
#include "model.hpp"
#include "onnxruntime.hpp"
#include "ops/interpreter.hpp"
#include "terminal.hpp"
#include "value_store.hpp"

namespace tenfold::cli {
namespace {

struct CompareCommand {
  std::string model;
  CompileOptions compile;
  InputOptions inputs;
  std::string run_shapes;
  double tolerance = 0;
  std::string python = "python3";
  bool no_onnxruntime = false;
  bool no_reference = false;
};

// Operations behind one element of a node's result: the length of its sums. `types` holds those of all values so far.
double roundings_per_element(const Node& node, const std::map<ValueId, TensorType>& types) {
  const auto types_of = [&](const std::vector<ValueId>& ids) {
    std::vector<TensorType> list;
    for (const ValueId id : ids) {
      const auto found = types.find(id);
      list.push_back(found == types.end() ? TensorType{} : found->second);
    }
    return list;
  };
  const std::vector<TensorType> outputs = types_of(node.outputs);
  double elements = 0;
  for (const TensorType& type : outputs) {
    if (type.dtype != DType::undefined) elements += static_cast<double>(type.num_elements().constant());
  }
  return elements > 0 ? std::max(4.0, node.op->flops(types_of(node.inputs), outputs) / elements) : 4.0;
}

struct StepProblem {
  std::string node, origins, value, what;
};

struct Report {
  std::vector<std::string> lines;
  std::vector<StepProblem> steps;
  int steps_compared = 0;
  double largest_step_error = 0;  // relative to the largest value
  Json outputs = Json::array();
  bool good = true;
};

void compare_outputs(Report& report, std::string_view against,
                     const std::vector<std::pair<std::string, Tensor>>& actual,
                     const std::vector<std::pair<std::string, Tensor>>& expected, double tolerance) {
  for (const auto& [name, tensor] : expected) {
    const auto found = std::find_if(actual.begin(), actual.end(),
                                    [&, &wanted = name](const auto& entry) { return entry.first == wanted; });
    if (found == actual.end()) continue;
    const Difference result = difference(found->second, tensor, tolerance);
    report.good = report.good && result.within();
    report.lines.push_back(fmt::format("{} output '{}' against {}: {}", result.within() ? "ok  " : "DIFF", name,
                                       against, result.describe(found->second, tensor)));
    report.outputs.push_back({{"output", name},
                              {"against", against},
                              {"equal", result.within()},
                              {"largest_difference", result.largest},
                              {"largest_value", result.scale},
                              {"tolerance", tolerance},
                              {"elements", result.num_elements},
                              {"elements_different", result.num_different}});
  }
}

// The engine's steps, one by one, on their own inputs.
void compare_steps(Report& report, const Graph& optimized, const std::vector<Tensor>& inputs, const ValueStore& store,
                   double tolerance) {
  std::map<ValueId, TensorType> types;
  for (ValueId id = 0; id < optimized.value_limit(); ++id) {
    if (optimized.is_alive_value(id) && optimized.constant(id)) types[id] = optimized.constant(id)->type();
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) types[optimized.inputs()[i]] = inputs[i].type();
  InterpretOptions options;
  options.on_node = [](const Node&, std::span<const Tensor>) { return !interrupted(); };
  options.substitute = [&](const Node& node, std::span<Tensor> outputs) {
    for (std::size_t i = 0; i < outputs.size() && i < node.outputs.size(); ++i) {
      if (node.outputs[i] != kNoValue) types[node.outputs[i]] = outputs[i].type();
    }
    const double roundings = roundings_per_element(node, types);
    for (std::size_t i = 0; i < outputs.size() && i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) continue;
      const std::string& name = optimized.value(node.outputs[i]).name;
      if (!store.has(name)) continue;
      Tensor actual = store.get(name);
      const double allowed = tolerance > 0 ? tolerance : rounding_tolerance(roundings);
      const Difference result = difference(actual, outputs[i], allowed);
      ++report.steps_compared;
      if (result.scale > 0)
        report.largest_step_error = std::max(report.largest_step_error, result.largest / result.scale);
      if (!result.within()) {
        report.steps.push_back({describe(node), join(node.origins, " + "), name, result.describe(actual, outputs[i])});
      }
      if (result.same_type) outputs[i] = std::move(actual);
    }
  };
  interpret(optimized, inputs, options);
  throw_if_interrupted();
}

// Values that have the same name before and after the passes must be equal; the first that is not was made wrong by a
// pass.
std::string first_wrong_pass_value(const Graph& imported, const Graph& optimized, const std::vector<Tensor>& inputs,
                                   double tolerance) {
  ValueStore store;
  InterpretOptions keep;
  keep.on_node = [&](const Node& node, std::span<const Tensor> outputs) {
    for (std::size_t i = 0; i < outputs.size() && i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue || outputs[i].empty()) continue;
      store.put(optimized.value(node.outputs[i]).name, outputs[i].dtype(), outputs[i].shape(), outputs[i].data(),
                outputs[i].size_bytes());
    }
    return !interrupted();
  };
  interpret(optimized, inputs, keep);
  std::string found;
  InterpretOptions check;
  check.on_node = [&](const Node& node, std::span<const Tensor> outputs) {
    for (std::size_t i = 0; i < outputs.size() && i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) continue;
      const std::string& name = imported.value(node.outputs[i]).name;
      if (!store.has(name)) continue;
      const Tensor after = store.get(name);
      const Difference result = difference(after, outputs[i], tolerance);
      if (!result.same_type || result.within()) continue;  // the same name in another layout says nothing
      found = fmt::format("{}, value '{}': {}", describe(node), name, result.describe(after, outputs[i]));
      return false;
    }
    return !interrupted();
  };
  interpret(imported, inputs, check);
  throw_if_interrupted();
  return found;
}

double total_roundings(const Graph& graph) { return static_cast<double>(std::max(graph.num_nodes(), 1)) * 64; }

Exit run_compare(const CompareCommand& command, const Session& session) {
  require(!is_engine_file(command.model), Code::invalid_argument,
          "{}: is an engine; compare needs the model, whose meaning is the reference (it builds the engine in memory)",
          command.model);
  CompileOptions compile_options = command.compile;
  if (compile_options.shapes.is_empty()) compile_options.shapes.exact = format_shapes(shapes_of_files(command.inputs));
  Compiled compiled =
      compile(command.model, compile_options, session, fmt::format("tenfold compare {}", command.model), false);
  const int num_steps = count_steps(compiled.build.plan.steps);
  const Engine engine = engine_in_memory(compiled.build);
  const std::vector<TensorInfo> infos = engine.inputs();
  const NamedShapes shapes = parse_shapes_or_none(command.run_shapes);
  InputOptions input_options = command.inputs;
  if (!input_options.seed) input_options.seed = 0;
  const std::vector<Tensor> inputs =
      gather_inputs(infos, engine.profile(choose_profile(engine, shapes)), shapes, input_options);
  NamedShapes actual_shapes;
  std::vector<std::pair<std::string, Tensor>> named_inputs;
  for (std::size_t i = 0; i < infos.size(); ++i) {
    actual_shapes[infos[i].name] = inputs[i].shape();
    named_inputs.emplace_back(infos[i].name, inputs[i]);
  }

  // The engine's run, with every step's outputs kept.
  ValueStore store;
  Context context = engine.make_context(choose_profile(engine, actual_shapes));
  bind_inputs(context, infos, inputs);
  context.set_observer([&](std::string_view, std::span<const std::string> names, std::span<const OutputView> outputs) {
    for (std::size_t i = 0; i < outputs.size() && i < names.size(); ++i) {
      if (outputs[i].dtype != DType::undefined)
        store.put(names[i], outputs[i].dtype, outputs[i].dims, outputs[i].data, outputs[i].size_bytes);
    }
  });
  context.run();
  throw_if_interrupted();
  std::vector<std::pair<std::string, Tensor>> answers;
  for (const TensorInfo& info : engine.outputs()) answers.emplace_back(info.name, to_tensor(context.output(info.name)));

  Report report;
  const Graph& imported = compiled.imported;
  const Graph& optimized = compiled.build.optimized;
  const double tolerance = command.tolerance > 0 ? command.tolerance : rounding_tolerance(total_roundings(imported));
  std::string wrong_pass_value;
  if (!command.no_reference) {
    note(session, "running the reference (plain loops in double precision; large models take minutes)");
    compare_steps(report, optimized, inputs, store, command.tolerance);
    const std::vector<Tensor> reference =
        interpret(imported, inputs, {.on_node = [](const Node&, std::span<const Tensor>) { return !interrupted(); }});
    throw_if_interrupted();
    std::vector<std::pair<std::string, Tensor>> expected;
    for (std::size_t i = 0; i < reference.size() && i < answers.size(); ++i)
      expected.emplace_back(answers[i].first, reference[i]);
    compare_outputs(report, "the reference", answers, expected, tolerance);
    if (!report.good && report.steps.empty()) {
      wrong_pass_value = first_wrong_pass_value(imported, optimized, inputs, tolerance);
    }
  }
  std::string ort_note;
  if (!command.no_onnxruntime) {
    for (const auto& [name, value] : import_options(command.compile.shapes).input_values)
      named_inputs.emplace_back(name, value);
    const OrtAnswer ort = run_onnxruntime(command.python, command.model, named_inputs);
    ort_note = ort.unavailable;
    compare_outputs(report, "ONNX Runtime", answers, ort.outputs, tolerance);
  }
  report.good = report.good && report.steps.empty();

  if (session.json) {
    Json steps = Json::array();
    for (const StepProblem& step : report.steps) {
      steps.push_back(
          {{"node", step.node}, {"origins", step.origins}, {"value", step.value}, {"difference", step.what}});
    }
    print_json({{"model", command.model},
                {"equal", report.good},
                {"shapes", format_shapes(actual_shapes)},
                {"outputs", report.outputs},
                {"steps_compared", report.steps_compared},
                {"largest_relative_step_error", report.largest_step_error},
                {"diverging_steps", steps},
                {"diverging_pass_value", wrong_pass_value},
                {"onnxruntime_unavailable", ort_note}});
    return report.good ? Exit::ok : Exit::found_problems;
  }
  fmt::print("{} with {}\n", command.model, format_shapes(actual_shapes));
  for (const std::string& line : report.lines) fmt::print("  {}\n", line);
  if (!command.no_reference) {
    fmt::print("  {} values of {} steps compared with the reference one by one; largest relative error {:.3g}\n",
               report.steps_compared, num_steps, report.largest_step_error);
  }
  if (!report.steps.empty()) {
    const StepProblem& first = report.steps.front();
    fmt::print("first node that diverges: {}, value '{}'\n  nodes of the model: {}\n  {}\n", first.node, first.value,
               first.origins, first.what);
    const std::size_t shown = session.verbose ? report.steps.size() : std::min<std::size_t>(report.steps.size(), 5);
    for (std::size_t i = 1; i < shown; ++i) fmt::print("also: {}: {}\n", report.steps[i].node, report.steps[i].what);
    if (shown < report.steps.size()) fmt::print("and {} more\n", report.steps.size() - shown);
  } else if (!wrong_pass_value.empty()) {
    fmt::print("every step computes what it should; a pass changed the meaning, first seen at {}\n", wrong_pass_value);
  }
  if (!ort_note.empty()) note(session, "ONNX Runtime was left out: " + ort_note);
  fmt::print("{}\n", report.good ? "equal" : "DIFFERENT");
  return report.good ? Exit::ok : Exit::found_problems;
}

}  // namespace

void add_compare(CLI::App& app, Session& session, Action& action) {
  auto command = std::make_shared<CompareCommand>();
  CLI::App* sub =
      app.add_subcommand("compare", "Compare the engine of a model with the reference and with ONNX Runtime");
  sub->add_option("model,--onnx", command->model, "ONNX file")->required()->type_name("MODEL");
  add_compile_options(*sub, command->compile);
  add_input_options(*sub, command->inputs);
  sub->add_option("--run-shapes", command->run_shapes, "Shapes to run with, if not the optimum of the first profile")
      ->group("Inputs");
  sub->add_option("--tolerance", command->tolerance,
                  "Allowed difference relative to the largest value; default: derived from the number of roundings")
      ->check(CLI::NonNegativeNumber);
  sub->add_option("--python", command->python, "Python that has ONNX Runtime")
      ->envname("TENFOLD_PYTHON")
      ->capture_default_str();
  sub->add_flag("--no-onnxruntime", command->no_onnxruntime, "Leave ONNX Runtime out");
  sub->add_flag("--no-reference", command->no_reference, "Leave the (slow) reference out");
  add_common_options(*sub, session);
  sub->callback([command, &action] { action = [command](const Session& s) { return run_compare(*command, s); }; });
}

}  // namespace tenfold::cli
