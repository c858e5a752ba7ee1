// The door of a backend that is a library of its own. It is built together with the runtime and private to a version:
// both sides share the C++ types of backend.hpp, so the library refuses a runtime that is not its own.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "backend/backend.hpp"
#include "backend/code_archive.hpp"
#include "base/log.hpp"

namespace tenfold {

struct BackendHost {
  std::string_view version;        ///< the runtime's
  std::size_t interface_size = 0;  ///< of the types that cross the door
  std::string preset;              ///< "h100": no device, only what can be said about one; empty: a device
  /// Where the library's messages go: it has a log of its own.
  void (*log)(LogLevel level, std::string_view message) = [](LogLevel level, std::string_view message) {
    log_message(level, message);
  };
};
struct BackendFailure {
  Code code = Code::internal;
  std::string message;
};

/// extern "C" under kOpenBackendSymbol. The backend lives as long as the process; nullptr: see `failure`.
using OpenBackend = const Backend* (*)(const BackendHost& host, int device, BackendFailure& failure);
inline constexpr const char* kOpenBackendSymbol = "tenfold_open_backend";

/// extern "C" under kArchiveCodeSymbol, if the backend compiles anything: see archive_code. false: see `failure`.
using ArchiveCode = bool (*)(const std::string& path, CodeArchiveSummary& summary, BackendFailure& failure);
inline constexpr const char* kArchiveCodeSymbol = "tenfold_archive_code";

}  // namespace tenfold
