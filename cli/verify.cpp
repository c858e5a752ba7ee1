// tenfold verify ENGINE: is it whole, of this version, and for this processor?
#include <filesystem>

#include <fmt/format.h>

#include "backend/backend.hpp"
#include "engine/engine_file.hpp"
#include "json.hpp"
#include "terminal.hpp"

namespace tenfold::cli {
namespace {

struct VerifyCommand {
  std::string engine;
};

Exit run_verify(const VerifyCommand& command, const Session& session) {
  // First without a backend: what is wrong with the file itself is an error of its own, with section and offset.
  const EngineFile file = read_engine(command.engine, {.verify_hashes = true, .read_portable = true});
  std::string refusal;
  try {
    read_engine(command.engine, {.verify_hashes = false, .backend = &cpu_backend()});
  } catch (const Error& error) {
    if (error.code() != Code::incompatible_engine) throw;
    refusal = error.message();
  }

  if (session.json) {
    Json sections = Json::array();
    for (const EngineSection& section : file.sections) {
      sections.push_back(
          {{"name", section.name}, {"offset", section.offset}, {"size", section.size}, {"xxh3_128", section.hash}});
    }
    print_json({{"engine", command.engine},
                {"intact", true},
                {"runs_here", refusal.empty()},
                {"refusal", refusal},
                {"tenfold_version", file.tenfold_version},
                {"format_version", file.format_version},
                {"target", file.plan.target},
                {"this_machine", cpu_backend().target()},
                {"has_portable_section", file.portable.has_value()},
                {"sections", sections}});
    return refusal.empty() ? Exit::ok : Exit::incompatible_engine;
  }
  fmt::print("{}: intact, {} in {} sections, every hash is right\n", command.engine,
             format_bytes(static_cast<double>(std::filesystem::file_size(command.engine))), file.sections.size());
  if (session.verbose) {
    std::vector<std::vector<std::string>> rows;
    for (const EngineSection& section : file.sections) {
      rows.push_back({section.name, std::to_string(section.offset), std::to_string(section.size), section.hash});
    }
    fmt::print("{}", table({"section", "offset", "bytes", "XXH3-128"}, rows, {false, true, true, false}));
  }
  fmt::print("  version    Tenfold {}, format {}\n", file.tenfold_version, file.format_version);
  fmt::print("  target     built for {}, this is {}{}\n", file.plan.target, cpu_backend().target(),
             refusal.empty() ? ""
             : file.portable ? "; it has a portable section"
                             : "");
  fmt::print("{}\n", refusal.empty() ? "  runs here  yes" : "  runs here  no: " + refusal);
  return refusal.empty() ? Exit::ok : Exit::incompatible_engine;
}

}  // namespace

void add_verify(CLI::App& app, Session& session, Action& action) {
  auto command = std::make_shared<VerifyCommand>();
  CLI::App* sub = app.add_subcommand("verify", "Check an engine file: integrity, version, target");
  sub->add_option("engine,--loadEngine", command->engine, "Engine file")->required()->type_name("ENGINE");
  add_common_options(*sub, session);
  sub->callback([command, &action] { action = [command](const Session& s) { return run_verify(*command, s); }; });
}

}  // namespace tenfold::cli
