// Engine::load: reads the file for the backend that is here, or falls back to the portable section if the caller wants
// it.
#include "runtime/engine_access.hpp"

namespace tenfold {
namespace {

template <typename Source>
EngineFile read_for(const Source& source, const LoadOptions& options, bool& portable) {
  EngineReadOptions read;
  read.verify_hashes = options.verify;
  read.trust_code = options.trust_code;
  portable = false;
  try {
    // The file says which backend it wants; whether that one accepts it is asked once it is open.
    read.find_backend = [&](const std::string& name) -> const Backend& {
      return find_backend(options.device.empty() ? name : options.device);
    };
    return read_engine(source, read);
  } catch (const Error& error) {
    if (error.code() != Code::incompatible_engine || options.on_mismatch != LoadOptions::OnMismatch::portable) throw;
    read.find_backend = nullptr;
    read.read_portable = true;
    EngineFile file = read_engine(source, read);
    if (!file.portable) throw Error(error.code(), error.message() + "; it has no portable section either");
    portable = true;
    return file;
  }
}

}  // namespace

Engine Engine::load(const std::string& path, const LoadOptions& options) {
  bool portable = false;
  EngineFile file = read_for(path, options, portable);
  return portable ? EngineAccess::make_portable(std::move(file)) : EngineAccess::make(std::move(file), options);
}

Engine Engine::load(std::span<const std::byte> bytes, const LoadOptions& options) {
  bool portable = false;
  EngineFile file = read_for(bytes, options, portable);
  return portable ? EngineAccess::make_portable(std::move(file)) : EngineAccess::make(std::move(file), options);
}

}  // namespace tenfold
