// A model on its way to an engine: the options of `build`, which `run`, `bench` and `compare` share.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "build/builder.hpp"
#include "import/import.hpp"
#include "session.hpp"
#include "shapes.hpp"
#include "tenfold/tenfold.hpp"

namespace tenfold::cli {

struct CompileOptions {
  ShapeOptions shapes;
  std::string workspace;
  std::string timing_cache;
  int num_threads = 0;
  int opt_level = 3;
  bool portable = false;
  bool strict = false;
  std::string device = "cpu";
  bool fp16 = false;
  bool tf32 = false;
  bool bf16 = false;
  LibraryTactics libraries;
  bool allow_host = false;
  std::vector<std::string> disabled;
  std::string dump_directory;
};
void add_compile_options(CLI::App& command, CompileOptions& options);
/// What they mean to a build; profiles and progress are left to the caller. Ctrl-C ends the build.
BuildOptions build_options(const CompileOptions& options);

struct Compiled {
  BuildResult build;
  Graph imported;  ///< before the passes
  std::string producer, hash;
  std::int32_t model_nodes = 0;
  double seconds_import = 0, seconds_total = 0;
  std::vector<std::string> warnings;
};
/// Imports and builds, with progress on stderr. `command` and `ranges`: see make_profiles.
Compiled compile(const std::string& model, const CompileOptions& options, const Session& session,
                 const std::string& command, bool ranges);

/// Is this an engine (and not a model)? Decided by name, then by content. Throws Error(io_failure) if it cannot be
/// read.
bool is_engine_file(const std::string& path);
/// "1GiB", "512M", "1073741824" as bytes. `unit`: what a bare number counts. Throws Error(invalid_argument).
std::uint64_t parse_bytes(std::string_view text, std::uint64_t unit = 1);

/// A runnable engine, from an engine file or built in memory from a model.
struct Loaded {
  Engine engine;
  double seconds_build = 0;  ///< 0 for an engine file
  double seconds_load = 0;
  /// Writes an engine that was built in memory; empty for an engine file.
  std::function<void(const std::string& path)> save;
};
/// The engine without a detour through a file. Takes the plan and weights out of `compiled`.
Engine engine_in_memory(BuildResult& built, const LoadOptions& options = {});
struct LoadingOptions {
  std::string path;
  CompileOptions compile;
  bool trust_code = false;
  std::string on_mismatch = "fail";  ///< "fail", "portable" or "rebuild"
};
Loaded load_or_build(const LoadingOptions& options, const Session& session, const std::string& command);

/// ENGINE|MODEL with the spellings of trtexec, compile options, --on-mismatch.
void add_loading_options(CLI::App& command, LoadingOptions& options);

/// Text as a file; the old one stays until the new one is whole. Throws Error(io_failure).
void write_file(const std::string& path, std::string_view text);

}  // namespace tenfold::cli
