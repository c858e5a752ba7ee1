// What all subcommands share: where output goes, exit codes, Ctrl-C.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <string_view>

#include "tenfold/types.hpp"

namespace tenfold::cli {

/// Results go to stdout, progress and complaints to stderr. With `json`, stdout holds exactly one JSON document.
struct Session {
  bool json = false;
  bool quiet = false;
  bool verbose = false;
};

/// The process's exit status. 64 and above follow sysexits.h and the shells.
enum class Exit : int {
  ok = 0,
  found_problems = 1,  ///< check or compare did its work and the answer is "no"
  usage = 2,           ///< the command line or an input is wrong
  invalid_model = 3,
  unsupported = 4,
  incompatible_engine = 5,
  out_of_memory = 6,
  io_failure = 7,
  device_failure = 8,
  internal = 70,
  cancelled = 130,
};
Exit exit_of(Code code);
/// The table of exit codes for --help.
std::string exit_code_help();

/// What the chosen subcommand does, set while the command line is parsed and run afterwards.
using Action = std::function<Exit(const Session&)>;

/// Every subcommand has these: --json, --quiet, --verbose.
void add_common_options(CLI::App& command, Session& session);
/// An option of trtexec that makes no sense here, or not yet. Using it is an Error(unsupported) with `reason`.
void refuse_option(CLI::App& command, const std::string& names, const std::string& reason, bool takes_value = false);
/// Options that ask for another precision than the model's.
void refuse_precision_options(CLI::App& command);
/// Options of trtexec that ask for what always holds here.
void accept_silently(CLI::App& command, const std::string& names);

/// The first Ctrl-C (or SIGTERM) makes `interrupted` true; the second ends the process at once.
void install_interrupt_handler();
bool interrupted();
/// Throws Error(cancelled) after a Ctrl-C.
void throw_if_interrupted();

void add_build(CLI::App& app, Session& session, Action& action);
void add_run(CLI::App& app, Session& session, Action& action);
void add_bench(CLI::App& app, Session& session, Action& action);
void add_inspect(CLI::App& app, Session& session, Action& action);
void add_check(CLI::App& app, Session& session, Action& action);
void add_cubins(CLI::App& app, Session& session, Action& action);
void add_compare(CLI::App& app, Session& session, Action& action);
void add_verify(CLI::App& app, Session& session, Action& action);

}  // namespace tenfold::cli
