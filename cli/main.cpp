// The command line: finds the subcommand, runs it, turns errors into one sentence and an exit code.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <new>
#include <system_error>

#include <fmt/format.h>

#include "base/error.hpp"
#include "json.hpp"
#include "session.hpp"
#include "terminal.hpp"

namespace tenfold::cli {
namespace {

// trtexec has no subcommands: it builds and measures. Its command lines work unchanged.
std::vector<std::string> with_subcommand(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const auto has = [&](std::string_view option) {
    return std::any_of(arguments.begin(), arguments.end(), [&](const std::string& argument) {
      return argument == option || argument.starts_with(std::string(option) + "=");
    });
  };
  const bool is_trtexec_style =
      !arguments.empty() && arguments.front().starts_with("--") && (has("--onnx") || has("--loadEngine"));
  if (is_trtexec_style)
    arguments.insert(arguments.begin(), has("--skipInference") || has("--buildOnly") ? "build" : "bench");
  return arguments;
}

Exit report(const Session& session, Code code, const std::string& message) {
  if (session.json) print_json({{"error", {{"code", to_string(code)}, {"message", message}}}});
  fmt::print(stderr, "tenfold: {}\n", message);
  if (code == Code::internal) fmt::print(stderr, "tenfold: this is a fault of Tenfold itself; please report it\n");
  return exit_of(code);
}

Exit run_program(int argc, char** argv) {
  CLI::App app{"Tenfold compiles a trained network into an engine for this processor, and runs it."};
  app.name("tenfold");
  app.set_version_flag("--version", "tenfold " TENFOLD_VERSION);
  app.require_subcommand(1);
  app.footer(exit_code_help() + "\nAll about the options, and which of trtexec's are understood: docs/cli.md");
  app.option_defaults()->always_capture_default(false);

  Session session;
  Action action;
  add_build(app, session, action);
  add_run(app, session, action);
  add_bench(app, session, action);
  add_inspect(app, session, action);
  add_check(app, session, action);
  add_compare(app, session, action);
  add_verify(app, session, action);
  add_cubins(app, session, action);

  try {
    std::vector<std::string> arguments = with_subcommand(argc, argv);
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
    try {
      app.parse(arguments);
    } catch (const CLI::ParseError& error) {
      return app.exit(error, std::cout, std::cerr) == 0 ? Exit::ok : Exit::usage;
    }
    install_interrupt_handler();
    set_log_sink(
        [session](LogLevel level, std::string_view message) {
          note(session, fmt::format("{}{}", level == LogLevel::warning ? "warning: " : "", message));
        },
        session.verbose ? LogLevel::debug : LogLevel::warning);
    const Exit result = action(session);
    require(std::fflush(stdout) == 0 && std::ferror(stdout) == 0, Code::io_failure, "stdout cannot be written");
    return result;
  } catch (const Error& error) {
    return report(session, error.code(), error.message());
  } catch (const std::bad_alloc&) {
    return report(session, Code::out_of_memory, "not enough memory");
  } catch (const std::system_error& error) {  // fmt, about the standard streams
    session.json = false;
    return report(session, Code::io_failure, fmt::format("the result cannot be written: {}", error.what()));
  } catch (const std::exception& error) {
    return report(session, Code::internal, error.what());
  }
}

}  // namespace

void print_json(const Json& json) { fmt::print("{}", to_text(json)); }

}  // namespace tenfold::cli

int main(int argc, char** argv) { return static_cast<int>(tenfold::cli::run_program(argc, argv)); }
