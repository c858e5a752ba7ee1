// Exit codes, options that every subcommand has, and Ctrl-C.
#include "session.hpp"

#include <csignal>

#include "base/error.hpp"

namespace tenfold::cli {
namespace {

volatile std::sig_atomic_t g_interrupted = 0;

extern "C" void on_interrupt(int signal_number) {
  if (g_interrupted != 0) {
    std::signal(signal_number, SIG_DFL);
    std::raise(signal_number);
  }
  g_interrupted = 1;
}

}  // namespace

Exit exit_of(Code code) {
  switch (code) {
    case Code::ok:
      return Exit::ok;
    case Code::invalid_argument:
      return Exit::usage;
    case Code::invalid_model:
      return Exit::invalid_model;
    case Code::unsupported:
      return Exit::unsupported;
    case Code::out_of_memory:
      return Exit::out_of_memory;
    case Code::device_failure:
      return Exit::device_failure;
    case Code::incompatible_engine:
      return Exit::incompatible_engine;
    case Code::cancelled:
      return Exit::cancelled;
    case Code::io_failure:
      return Exit::io_failure;
    case Code::internal:
      return Exit::internal;
  }
  return Exit::internal;
}

std::string exit_code_help() {
  return "Exit codes: 0 success; 1 check or compare found problems; 2 wrong usage or input;\n"
         "3 invalid model; 4 unsupported; 5 incompatible or broken engine; 6 out of memory; 7 file not readable or\n"
         "writable; 8 device failure; 70 internal error (please report it); 130 cancelled.";
}

void add_common_options(CLI::App& command, Session& session) {
  command.add_flag("--json", session.json, "Print one JSON document to stdout instead of text");
  command.add_flag("-q,--quiet", session.quiet, "No progress and no notes on stderr");
  command.add_flag("-v,--verbose", session.verbose, "More detail");
  command.footer(exit_code_help());
}

void refuse_option(CLI::App& command, const std::string& names, const std::string& reason, bool takes_value) {
  const auto refuse = [names, reason] { throw Error(Code::unsupported, names + ": " + reason); };
  CLI::Option* option =
      takes_value ? command.add_option_function<std::string>(names, [refuse](const std::string&) { refuse(); })
                  : command.add_flag_callback(names, refuse);
  option->group("");  // not in --help
}

void refuse_precision_options(CLI::App& command) {
  for (const char* name : {"--int8", "--fp8", "--int4", "--best"}) {
    refuse_option(command, name,
                  "this version computes in the precisions that the model itself states and changes none of them; "
                  "leave the option out");
  }
  for (const char* name :
       {"--calib", "--precisionConstraints", "--layerPrecisions", "--layerOutputTypes", "--sparsity"}) {
    refuse_option(command, name, "this version changes no precision and prunes no weights; leave the option out", true);
  }
  for (const char* name : {"--useDLACore", "--plugins", "--staticPlugins", "--dynamicPlugins"}) {
    refuse_option(command, name, "this version knows no such devices and loads no code; leave the option out", true);
  }
  refuse_option(command, "--allowGPUFallback",
                "there is no DLA to fall back from; --allow-host is for operators "
                "without a GPU kernel");
}

void accept_silently(CLI::App& command, const std::string& names) { command.add_flag(names)->group(""); }

void install_interrupt_handler() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  // A reader that goes away (`tenfold inspect x | head`) shall end the process quietly, which is SIGPIPE's default;
  // a full disk or a file-size limit shall come back as an error of write(), not as a signal.
  std::signal(SIGXFSZ, SIG_IGN);
}

bool interrupted() { return g_interrupted != 0; }

void throw_if_interrupted() {
  if (interrupted()) throw Error(Code::cancelled, "interrupted");
}

}  // namespace tenfold::cli
