// tenfold inspect ENGINE|MODEL: what is in it, why, and where it came from.
#include <filesystem>
#include <functional>
#include <map>

#include <fmt/format.h>

#include "base/error.hpp"
#include "build/lower.hpp"
#include "engine/engine_file.hpp"
#include "graph/text.hpp"
#include "import/import.hpp"
#include "json.hpp"
#include "model.hpp"
#include "passes/pass.hpp"
#include "process.hpp"
#include "terminal.hpp"

namespace tenfold::cli {
namespace {

struct InspectCommand {
  std::string path;
  ShapeOptions reading;
  bool graph = false, optimized = false, steps = false, fusions = false, tactics = false, memory = false,
       profiles = false, provenance = false, all = false;
  std::string dot, svg;
};

std::string dot_quoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

std::string value_label(const PlanValue& value) { return fmt::format("{}: {}", value.name, to_string(value.type)); }

const PlanValue& value_at(const Plan& plan, std::int32_t index) {
  return plan.values.at(static_cast<std::size_t>(index));
}

// Every step, then those of its blocks; `depth` counts the blocks around it.
void for_each_step(const std::vector<PlanStep>& steps,
                   const std::function<void(const PlanStep& step, int depth)>& visit, int depth = 0) {
  for (const PlanStep& step : steps) {
    visit(step, depth);
    for (const PlanBlock& block : step.blocks) for_each_step(block.steps, visit, depth + 1);
  }
}

// Graphviz source: a box a step, an edge a value.
std::string plan_dot(const Plan& plan) {
  std::string text =
      "digraph engine {\n  node [shape=box, fontname=\"sans-serif\", fontsize=10];\n  edge [fontsize=8];\n";
  std::map<std::int32_t, std::string> producers;
  for (const std::int32_t input : plan.inputs) {
    producers[input] = fmt::format("v{}", input);
    text += fmt::format("  v{} [shape=ellipse, label={}];\n", input, dot_quoted(value_label(value_at(plan, input))));
  }
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    const PlanStep& step = plan.steps[i];
    text += fmt::format("  s{} [label={}];\n", i,
                        dot_quoted(fmt::format("{}\n{} {}\n{}", step.name, step.op_type,
                                               step.choices.empty() ? "" : step.choices.front().tactic,
                                               shorten(join(step.origins, " + "), 80))));
    for (const std::int32_t input : step.inputs) {
      const auto producer = producers.find(input);
      if (producer == producers.end()) continue;  // omitted, or a constant
      text += fmt::format("  {} -> s{} [label={}];\n", producer->second, i,
                          dot_quoted(to_string(value_at(plan, input).type)));
    }
    for (const std::int32_t output : step.outputs) {
      if (output >= 0) producers[output] = fmt::format("s{}", i);
    }
  }
  for (const std::int32_t output : plan.outputs) {
    text += fmt::format("  o{} [shape=ellipse, label={}];\n", output, dot_quoted(value_label(value_at(plan, output))));
    if (const auto producer = producers.find(output); producer != producers.end()) {
      text += fmt::format("  {} -> o{};\n", producer->second, output);
    }
  }
  return text + "}\n";
}

void write_pictures(const InspectCommand& command, const std::string& dot) {
  if (!command.dot.empty()) write_file(command.dot, dot);
  if (command.svg.empty()) return;
  const TemporaryFolder folder;
  write_file(folder.file("graph.dot"), dot);
  const std::string picture = folder.file("graph.svg");
  const auto result = run_process({"dot", "-Tsvg", "-o", picture, folder.file("graph.dot")});
  require(
      result.has_value(), Code::unsupported,
      "--svg needs Graphviz' program `dot`, which is not installed (apt-get install graphviz); --dot writes its input");
  require(result->status == 0, Code::io_failure, "`dot` failed with status {}: {}", result->status, result->error_text);
  std::error_code failed;
  std::filesystem::copy_file(picture, command.svg, std::filesystem::copy_options::overwrite_existing, failed);
  require(!failed, Code::io_failure, "{}: {}", command.svg, failed.message());
}

std::string parameters_text(const std::vector<std::int64_t>& parameters) {
  return parameters.empty() ? "" : fmt::format("({})", fmt::join(parameters, ","));
}

struct MemoryUse {
  std::uint64_t arena = 0, weights = 0, plain_constants = 0, packed = 0, largest_workspace = 0;
};

MemoryUse memory_of(const EngineFile& file, std::size_t profile) {
  MemoryUse use;
  use.weights = file.weights.size;
  use.arena = file.plan.profiles[profile].arena_bytes;
  for_each_step(file.plan.steps, [&](const PlanStep& step, int) {
    if (step.choices.size() <= profile) return;
    for (const PlanWeight& weight : step.choices[profile].weights) use.packed += weight.size;
    if (!step.blocks.empty()) return;  // what a sample section has is its steps' memory
    use.largest_workspace = std::max(use.largest_workspace, step.choices[profile].workspace_bytes);
  });
  for (const PlanValue& value : file.plan.values) {
    if (value.storage != Storage::constant || !value.type.is_static()) continue;
    use.plain_constants +=
        static_cast<std::uint64_t>(num_elements(value.type.static_shape())) * size_of(value.type.dtype);
  }
  return use;
}

// How many steps each operator and tactic has.
std::map<std::string, int> tactic_counts(const Plan& plan) {
  std::map<std::string, int> counts;
  for_each_step(plan.steps, [&](const PlanStep& step, int) {
    const std::string tactic = step.choices.empty() ? "" : step.choices.front().tactic;
    ++counts[tactic.empty() ? step.op_type : step.op_type + " by " + tactic];
  });
  return counts;
}

Json range_json(const PlanRange& range) { return {{"min", range.min}, {"opt", range.opt}, {"max", range.max}}; }

Json engine_json(const InspectCommand& command, const EngineFile& file) {
  const Plan& plan = file.plan;
  const auto values_json = [&](const std::vector<std::int32_t>& indices) {
    Json list = Json::array();
    for (const std::int32_t index : indices) {
      const PlanValue& value = value_at(plan, index);
      Json dims = Json::array();
      for (const Dim& dim : value.type.dims) dims.push_back(dim.to_string());
      list.push_back({{"name", value.name}, {"dtype", to_string(value.type.dtype)}, {"dims", dims}});
    }
    return list;
  };
  Json profiles = Json::array();
  for (const PlanProfile& profile : plan.profiles) {
    Json inputs = Json::object();
    for (std::size_t i = 0; i < plan.inputs.size(); ++i)
      inputs[value_at(plan, plan.inputs[i]).name] = range_json(profile.inputs[i]);
    profiles.push_back({{"inputs", inputs}, {"arena_bytes", profile.arena_bytes}});
  }
  Json steps = Json::array();
  for_each_step(plan.steps, [&](const PlanStep& step, int depth) {
    Json choices = Json::array();
    for (const PlanChoice& choice : step.choices) {
      choices.push_back(
          {{"tactic", choice.tactic}, {"parameters", choice.parameters}, {"workspace_bytes", choice.workspace_bytes}});
    }
    Json outputs = Json::array();
    for (const std::int32_t output : step.outputs) {
      if (output >= 0) outputs.push_back(value_label(value_at(plan, output)));
    }
    steps.push_back({{"name", step.name},
                     {"op", step.op_type},
                     {"attributes", step.attributes.to_string()},
                     {"depth", depth},
                     {"origins", step.origins},
                     {"outputs", outputs},
                     {"choices", choices}});
  });
  Json report = Json::array();
  for (const PlanCandidate& candidate : plan.report) {
    report.push_back({{"step", candidate.step},
                      {"profile", candidate.profile},
                      {"tactic", candidate.tactic},
                      {"parameters", candidate.parameters},
                      {"refusal", candidate.refusal},
                      {"time_us", candidate.time_us},
                      {"chosen", candidate.chosen}});
  }
  Json sections = Json::array();
  for (const EngineSection& section : file.sections) {
    sections.push_back(
        {{"name", section.name}, {"offset", section.offset}, {"size", section.size}, {"xxh3_128", section.hash}});
  }
  const PlanProvenance& from = plan.provenance;
  return {{"engine", command.path},
          {"tenfold_version", file.tenfold_version},
          {"format_version", file.format_version},
          {"backend", plan.backend},
          {"target", plan.target},
          {"threads", plan.num_threads},
          {"inputs", values_json(plan.inputs)},
          {"outputs", values_json(plan.outputs)},
          {"profiles", profiles},
          {"steps", steps},
          {"candidates", report},
          {"sections", sections},
          {"provenance",
           {{"model", from.model_name},
            {"producer", from.model_producer},
            {"model_xxh3_128", from.model_hash},
            {"options", from.options},
            {"nodes", from.model_nodes},
            {"passes", from.passes},
            {"metadata", from.metadata}}}};
}

void print_profiles(const Plan& plan) {
  for (std::size_t p = 0; p < plan.profiles.size(); ++p) {
    fmt::print("profile {}: {} for activations\n", p, format_bytes(static_cast<double>(plan.profiles[p].arena_bytes)));
    for (std::size_t i = 0; i < plan.inputs.size(); ++i) {
      const PlanRange& range = plan.profiles[p].inputs[i];
      fmt::print("  {}: min {}, opt {}, max {}\n", value_at(plan, plan.inputs[i]).name, format_shape(range.min),
                 format_shape(range.opt), format_shape(range.max));
    }
  }
}

void print_steps(const Plan& plan) {
  std::vector<std::vector<std::string>> rows;
  for_each_step(plan.steps, [&](const PlanStep& step, int depth) {
    const std::string tactic =
        step.choices.empty() ? "" : step.choices.front().tactic + parameters_text(step.choices.front().parameters);
    const auto output = std::find_if(step.outputs.begin(), step.outputs.end(), [](std::int32_t id) { return id >= 0; });
    rows.push_back({std::string(static_cast<std::size_t>(2 * depth), ' ') + shorten(step.name, 48), step.op_type,
                    tactic, std::to_string(step.origins.size()),
                    output == step.outputs.end() ? "" : to_string(value_at(plan, *output).type)});
  });
  fmt::print("{} steps\n{}", rows.size(),
             table({"step", "operator", "tactic", "nodes", "first output"}, rows, {false, false, false, true, false}));
}

void print_fusions(const Plan& plan) {
  int fused = 0;
  int count = 0;
  for_each_step(plan.steps, [&](const PlanStep& step, int) {
    ++count;
    if (step.origins.size() < 2 || !step.blocks.empty()) return;
    ++fused;
    fmt::print("  {} ({}) = {}\n", step.name, step.op_type, join(step.origins, " + "));
  });
  fmt::print("{} of {} steps stand for more than one node of the model\n", fused, count);
}

void print_tactics(const Plan& plan) {
  std::string last;
  for (const PlanCandidate& candidate : plan.report) {
    const std::string title =
        plan.profiles.size() > 1 ? fmt::format("{} (profile {})", candidate.step, candidate.profile) : candidate.step;
    if (title != last) fmt::print("{}\n", title);
    last = title;
    const std::string name = candidate.tactic + parameters_text(candidate.parameters);
    if (!candidate.refusal.empty()) {
      fmt::print("    refused  {}: {}\n", name, candidate.refusal);
    } else {
      fmt::print("  {} {}  {}\n", candidate.chosen ? "* chosen " : "  tried  ", name,
                 candidate.time_us > 0 ? fmt::format("{:.1f} us", candidate.time_us) : "not timed");
    }
  }
}

void print_memory(const EngineFile& file) {
  for (std::size_t p = 0; p < file.plan.profiles.size(); ++p) {
    const MemoryUse use = memory_of(file, p);
    fmt::print(
        "profile {}: weights {} (packed for kernels {}, as in the model {}), activations {}, largest scratch {}\n", p,
        format_bytes(static_cast<double>(use.weights)), format_bytes(static_cast<double>(use.packed)),
        format_bytes(static_cast<double>(use.plain_constants)), format_bytes(static_cast<double>(use.arena)),
        format_bytes(static_cast<double>(use.largest_workspace)));
  }
  std::vector<std::vector<std::string>> rows;
  for (const EngineSection& section : file.sections) {
    rows.push_back({section.name, std::to_string(section.offset), std::to_string(section.size)});
  }
  fmt::print("sections of the file\n{}", table({"section", "offset", "bytes"}, rows, {false, true, true}));
}

void print_provenance(const PlanProvenance& from) {
  fmt::print("model      {} ({} nodes), made by {}\n", from.model_name, from.model_nodes,
             from.model_producer.empty() ? "an unnamed exporter" : from.model_producer);
  fmt::print("XXH3-128   {}\noptions    {}\npasses     {}\n", from.model_hash, from.options, join(from.passes, ", "));
  for (const auto& [key, value] : from.metadata) fmt::print("metadata   {} = {}\n", key, shorten(value, 100));
}

Exit inspect_engine(const InspectCommand& command, const Session& session) {
  const EngineFile file = read_engine(command.path);
  const Plan& plan = file.plan;
  write_pictures(command, command.dot.empty() && command.svg.empty() ? "" : plan_dot(plan));
  require(!command.optimized, Code::invalid_argument,
          "--optimized is for models; an engine is what came out of the passes: see --steps");
  if (session.json) {
    print_json(engine_json(command, file));
    return Exit::ok;
  }
  fmt::print("{}: engine for {}, {} threads, Tenfold {}, format {}\n", command.path, plan.target, plan.num_threads,
             file.tenfold_version, file.format_version);
  for (const std::int32_t input : plan.inputs) fmt::print("  input  {}\n", value_label(value_at(plan, input)));
  for (const std::int32_t output : plan.outputs) fmt::print("  output {}\n", value_label(value_at(plan, output)));
  fmt::print("  {} nodes of {} became {} steps\n", plan.provenance.model_nodes, plan.provenance.model_name,
             count_steps(plan.steps));
  const bool any = command.graph || command.steps || command.fusions || command.tactics || command.memory ||
                   command.profiles || command.provenance || command.all || !command.dot.empty() ||
                   !command.svg.empty();
  if (!any) {
    for (const auto& [tactic, count] : tactic_counts(plan)) fmt::print("  {:5}  {}\n", count, tactic);
  }
  const auto section = [&](bool wanted, std::string_view title, const auto& print_it) {
    if (!wanted && !command.all) return;
    fmt::print("\n== {} ==\n", title);
    print_it();
  };
  section(command.profiles || !any, "profiles", [&] { print_profiles(plan); });
  section(command.memory || !any, "memory", [&] { print_memory(file); });
  section(command.steps || command.graph, "steps", [&] { print_steps(plan); });
  section(command.fusions, "fusions", [&] { print_fusions(plan); });
  section(command.tactics, "tactics", [&] { print_tactics(plan); });
  section(command.provenance || !any, "provenance", [&] { print_provenance(plan.provenance); });
  return Exit::ok;
}

Exit inspect_model(const InspectCommand& command, const Session& session) {
  ImportedModel model = import_onnx(command.path, import_options(command.reading));
  require(!command.steps && !command.tactics && !command.memory && !command.profiles, Code::invalid_argument,
          "{}: is a model; steps, tactics, memory and profiles are properties of an engine (tenfold build)",
          command.path);
  std::vector<PassReport> passes;
  const int nodes_before = model.graph.num_nodes();
  if (command.optimized || command.fusions) passes = run_pipeline(model.graph, {.is_cancelled = interrupted});
  const Graph& graph = model.graph;
  std::map<std::string, int> counts;
  for (const NodeId id : graph.order()) ++counts[std::string(graph.node(id).op->type())];
  write_pictures(command, command.dot.empty() && command.svg.empty() ? "" : to_dot(graph));

  if (session.json) {
    const auto values_json = [&](const std::vector<ValueId>& ids) {
      Json list = Json::array();
      for (const ValueId id : ids) {
        Json dims = Json::array();
        for (const Dim& dim : graph.value(id).type.dims) dims.push_back(dim.to_string());
        list.push_back(
            {{"name", graph.value(id).name}, {"dtype", to_string(graph.value(id).type.dtype)}, {"dims", dims}});
      }
      return list;
    };
    Json json = {{"model", command.path},
                 {"producer", model.producer},
                 {"xxh3_128", model.hash},
                 {"nodes_in_file", model.num_model_nodes},
                 {"nodes_imported", nodes_before},
                 {"nodes", graph.num_nodes()},
                 {"inputs", values_json(graph.inputs())},
                 {"outputs", values_json(graph.outputs())},
                 {"operators", counts},
                 {"metadata", model.metadata}};
    if (command.graph || command.all) json["graph"] = print(graph);
    print_json(json);
    return Exit::ok;
  }
  if (command.graph) {
    fmt::print("{}", print(graph));
    return Exit::ok;
  }
  fmt::print("{}: model by {}, {} nodes in the file, {} after import", command.path,
             model.producer.empty() ? "an unnamed exporter" : model.producer, model.num_model_nodes, nodes_before);
  fmt::print("{}\n", passes.empty() ? "" : fmt::format(", {} after the passes", graph.num_nodes()));
  for (const ValueId id : graph.inputs())
    fmt::print("  input  {}: {}\n", graph.value(id).name, to_string(graph.value(id).type));
  for (const ValueId id : graph.outputs())
    fmt::print("  output {}: {}\n", graph.value(id).name, to_string(graph.value(id).type));
  for (const auto& [type, count] : counts) fmt::print("  {:5}  {}\n", count, type);
  for (const PassReport& pass : passes) {
    if (pass.changes > 0)
      fmt::print("  pass {}: {} changes, {}\n", pass.name, pass.changes, format_seconds(pass.seconds));
  }
  if (command.fusions) {
    for (const NodeId id : graph.order()) {
      const Node& node = graph.node(id);
      if (node.origins.size() > 1) fmt::print("  {} = {}\n", describe(node), join(node.origins, " + "));
    }
  }
  if (command.provenance || command.all) {
    fmt::print("  XXH3-128 {}\n", model.hash);
    for (const auto& [key, value] : model.metadata) fmt::print("  metadata {} = {}\n", key, shorten(value, 100));
  }
  return Exit::ok;
}

}  // namespace

void add_inspect(CLI::App& app, Session& session, Action& action) {
  auto command = std::make_shared<InspectCommand>();
  CLI::App* sub = app.add_subcommand("inspect", "Show what is inside an engine or a model");
  sub->add_option("model,--onnx,--loadEngine", command->path, "Engine or model")->required()->type_name("ENGINE|MODEL");
  sub->add_flag("--graph", command->graph, "The graph as text (of an engine: its steps)");
  sub->add_flag("--optimized", command->optimized, "Of a model: the graph after all passes");
  sub->add_flag("--steps,--dumpLayerInfo", command->steps, "Every step with operator and tactic");
  sub->add_flag("--fusions", command->fusions, "Which nodes of the model became one");
  sub->add_flag("--tactics", command->tactics, "Every tactic that was timed or refused, with the reason");
  sub->add_flag("--memory", command->memory, "Weights, activations, scratch, sections of the file");
  sub->add_flag("--profiles", command->profiles, "Shapes that the engine accepts");
  sub->add_flag("--provenance", command->provenance, "Model, options and passes that it was made from");
  sub->add_flag("--all", command->all, "All of these");
  sub->add_option("--dot", command->dot, "Write the graph for Graphviz");
  sub->add_option("--svg", command->svg, "Draw the graph with Graphviz");
  add_import_options(*sub, command->reading);
  add_common_options(*sub, session);
  sub->callback([command, &action] {
    action = [command](const Session& s) {
      return is_engine_file(command->path) ? inspect_engine(*command, s) : inspect_model(*command, s);
    };
  });
}

}  // namespace tenfold::cli
