// For the inside (command line, C ABI, tests): engines made from what is already in memory.
#pragma once

#include "engine/engine_file.hpp"
#include "tenfold/tenfold.hpp"

namespace tenfold {

struct EngineAccess {
  /// Throws Error(incompatible_engine | unsupported).
  static Engine make(EngineFile file, const LoadOptions& options = {});
  /// For a backend other than the embedded one; it must outlive the engine.
  static Engine make(EngineFile file, const LoadOptions& options, const Backend& backend);
  /// Runs the file's portable section with the plain references. Requires that it was read.
  static Engine make_portable(EngineFile file);
  /// Of an engine that runs its portable section: no plan. Throws Error(invalid_argument) then.
  static const EngineFile& file(const Engine& engine);
};

}  // namespace tenfold
