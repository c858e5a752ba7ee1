// Finds backends by name, and opens the libraries of those that are not embedded.
#include <dlfcn.h>
#include <filesystem>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>

#include "backend/backend.hpp"
#include "backend/backend_library.hpp"
#include "base/env.hpp"
#include "base/error.hpp"

namespace tenfold {
namespace {

/// The folder of the library or program that this code is in.
std::filesystem::path own_folder() {
  Dl_info info{};
  static const char marker = 0;
  std::error_code error;
  std::filesystem::path file;
  if (dladdr(&marker, &info) != 0 && info.dli_fname != nullptr)
    file = std::filesystem::canonical(info.dli_fname, error);
  // A program is known by the name it was called with, which need not be a path.
  if (file.empty() || error) file = std::filesystem::canonical("/proc/self/exe", error);
  return error ? std::filesystem::path() : file.parent_path();
}

/// The handle of the backend's library, which stays open.
void* open_library(const std::string& name) {
  const std::string file = "libtenfold_" + name + ".so";
  std::vector<std::filesystem::path> candidates;
  if (const auto folder = read(kBackendPathVariable)) {
    candidates.push_back(std::filesystem::path(*folder) / file);
  } else {
    const std::filesystem::path own = own_folder();
    candidates = {own / file, own.parent_path() / "lib" / file, file};
  }
  std::string tried;
  for (const std::filesystem::path& candidate : candidates) {
    void* library = dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      tried += fmt::format("{}{}", tried.empty() ? "" : "; ", dlerror());
      continue;
    }
    require(dlsym(library, kOpenBackendSymbol) != nullptr, Code::unsupported, "'{}' is no backend of Tenfold",
            candidate.string());
    return library;
  }
  throw Error(Code::unsupported, fmt::format("the backend '{}' is not installed ({}); {} names the folder of {}", name,
                                             tried, kBackendPathVariable.name, file));
}

}  // namespace

std::unique_ptr<Stream> Backend::wrap_stream(void* native) const {
  (void)native;
  throw Error(Code::unsupported, fmt::format("the backend '{}' has no streams of others", name()));
}

void Backend::copy_on_device(void* to, const void* from, std::size_t bytes, Stream& stream) const {
  copy_to_device(to, from, bytes, stream);
}

const Backend& find_backend(std::string_view device) {
  if (device == cpu_backend().name()) return cpu_backend();
  const std::string name(device.substr(0, device.find(':')));
  require(name == "cuda", Code::invalid_argument, "there is no device '{}'; known are cpu, cuda and cuda:N", device);
  int index = 0;
  std::string preset;
  if (name.size() != device.size()) {
    preset = device.substr(name.size() + 1);
    constexpr std::size_t kMaxDigits = 4;
    const bool is_number = preset.find_first_not_of("0123456789") == std::string::npos;
    require(!preset.empty() && (!is_number || preset.size() <= kMaxDigits), Code::invalid_argument,
            "device '{}': after the colon comes the device's number", device);
    if (is_number) index = std::stoi(std::exchange(preset, {}));
  }
  static std::mutex mutex;
  static std::map<std::tuple<std::string, int, std::string>, const Backend*> opened;
  const std::lock_guard lock(mutex);
  const Backend*& backend = opened[{name, index, preset}];
  if (backend == nullptr) {
    BackendHost host;
    host.version = TENFOLD_VERSION;
    host.interface_size = sizeof(KernelSpec) + sizeof(Launch) + sizeof(Problem) + sizeof(Candidate);
    host.preset = preset;
    BackendFailure failure;
    const auto open = reinterpret_cast<OpenBackend>(dlsym(open_library(name), kOpenBackendSymbol));  // NOLINT: dlsym
    backend = open(host, index, failure);
    if (backend == nullptr) throw Error(failure.code, failure.message);
  }
  return *backend;
}

CodeArchiveSummary archive_code(std::string_view device, const std::string& path) {
  const Backend& backend = find_backend(device);
  void* symbol = backend.is_host() ? nullptr : dlsym(open_library(std::string(backend.name())), kArchiveCodeSymbol);
  require(symbol != nullptr, Code::unsupported, "the backend '{}' compiles nothing that could be kept", backend.name());
  CodeArchiveSummary summary;
  BackendFailure failure;
  const auto archive = reinterpret_cast<ArchiveCode>(symbol);  // NOLINT: dlsym
  if (!archive(path, summary, failure)) throw Error(failure.code, failure.message);
  return summary;
}

}  // namespace tenfold
