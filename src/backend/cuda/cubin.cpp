#include "backend/cuda/cubin.hpp"

#include <array>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <filesystem>
#include <future>
#include <limits>
#include <map>
#include <mutex>
#include <set>

#include "base/atomic_file.hpp"
#include "base/env.hpp"
#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/log.hpp"
#include "base/mapped_file.hpp"

namespace tenfold::cuda {
namespace {

using Program = struct NvrtcProgram_st*;

/// The part of NVRTC's interface that is used. Source: NVRTC documentation, CUDA 12 and 13.
struct Nvrtc {
  int (*version)(int*, int*) = nullptr;
  int (*create)(Program*, const char*, const char*, int, const char* const*, const char* const*) = nullptr;
  int (*destroy)(Program*) = nullptr;
  int (*compile)(Program, int, const char* const*) = nullptr;
  int (*cubin_size)(Program, std::size_t*) = nullptr;
  int (*cubin)(Program, char*) = nullptr;
  int (*log_size)(Program, std::size_t*) = nullptr;
  int (*log)(Program, char*) = nullptr;
  const char* (*error_string)(int) = nullptr;
  int compiler = 0;  ///< 1000 major + 10 minor
};

Nvrtc open_nvrtc() {
  void* library = nullptr;
  const std::optional<std::string> named = read(kNvrtcVariable);
  if (named) {
    library = dlopen(named->c_str(), RTLD_NOW | RTLD_LOCAL);
    require(library != nullptr, Code::unsupported, "compiling CUDA kernels needs NVRTC, but what {} names is none: {}",
            kNvrtcVariable.name, dlerror());
  } else {
    for (const char* name : {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so", "/usr/local/cuda/lib64/libnvrtc.so"}) {
      library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
      if (library != nullptr) break;
    }
  }
  require(library != nullptr, Code::unsupported,
          "compiling CUDA kernels needs NVRTC, which is not here: install CUDA's libnvrtc (12 or 13; pip: "
          "nvidia-cuda-nvrtc) and name it with {} if it is not on the loader's path",
          kNvrtcVariable.name);
  Nvrtc nvrtc;
  const auto find = [library](auto& function, const char* symbol) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, symbol));  // NOLINT: dlsym
    require(function != nullptr, Code::unsupported, "the NVRTC found here lacks {}; install CUDA 12 or later", symbol);
  };
  find(nvrtc.version, "nvrtcVersion");
  find(nvrtc.create, "nvrtcCreateProgram");
  find(nvrtc.destroy, "nvrtcDestroyProgram");
  find(nvrtc.compile, "nvrtcCompileProgram");
  find(nvrtc.cubin_size, "nvrtcGetCUBINSize");
  find(nvrtc.cubin, "nvrtcGetCUBIN");
  find(nvrtc.log_size, "nvrtcGetProgramLogSize");
  find(nvrtc.log, "nvrtcGetProgramLog");
  find(nvrtc.error_string, "nvrtcGetErrorString");
  int major = 0;
  int minor = 0;
  nvrtc.version(&major, &minor);
  nvrtc.compiler = 1000 * major + 10 * minor;
  return nvrtc;
}

const Nvrtc& nvrtc() {
  static const Nvrtc instance = open_nvrtc();
  return instance;
}

std::vector<std::string> compile_options(int sm) {
  return {"--gpu-architecture=" + architecture_name(sm), "--std=c++17", "--ptxas-options=-v"};
}

std::filesystem::path cache_folder() {
  const auto from = [](const char* name) -> std::filesystem::path {
    const char* value = std::getenv(name);
    return value != nullptr ? value : "";
  };
  if (const auto folder = read(kCacheVariable)) return std::filesystem::path(*folder) / "cubin";
  if (const auto base = from("XDG_CACHE_HOME"); !base.empty()) return base / "tenfold" / "cubin";
  if (const auto home = from("HOME"); !home.empty()) return home / ".cache" / "tenfold" / "cubin";
  return {};
}

Hash128 key_of(const Source& source, int sm) {
  std::string key = source.text;
  for (const std::string& option : compile_options(sm)) key += '\n' + option;
  return hash128(std::as_bytes(std::span(key)));
}

/// Of a cached file: KEY-VERSION.cubin.
std::string file_name(const Hash128& key, int compiler) {
  return fmt::format("{}-{}.cubin", key.to_string(), compiler);
}

/// The newest compiler whose code this machine's driver runs: drivers take code of their own major version of CUDA and
/// of older ones. Without a driver nothing runs, and any will do.
int newest_compiler() {
  try {
    int version = 0;
    check(driver().driver_version(&version), "asking for the driver's version");
    return version / 1000 * 1000 + 999;
  } catch (const Error&) {
    return std::numeric_limits<int>::max();
  }
}

/// The folder of the library or program that this code is in.
std::filesystem::path own_folder() {
  Dl_info info{};
  static const char marker = 0;
  if (dladdr(&marker, &info) == 0 || info.dli_fname == nullptr) return {};
  std::error_code error;
  const std::filesystem::path file = std::filesystem::canonical(info.dli_fname, error);
  return error ? std::filesystem::path() : file.parent_path();
}

/// The archive of kernels compiled ahead of time; nullptr if there is none. One that cannot be used is warned of once.
const CubinArchive* archive() {
  constexpr std::string_view kFile = "tenfold_cuda.cubins";
  std::filesystem::path path;
  if (const auto named = read(kCubinsVariable)) {
    path = *named;
  } else {
    static const std::filesystem::path folder = own_folder();
    std::error_code error;
    path = folder / kFile;
    if (!std::filesystem::exists(path, error)) path = folder.parent_path() / "lib" / kFile;
    if (!std::filesystem::exists(path, error)) return nullptr;
  }
  static std::mutex mutex;
  static std::map<std::filesystem::path, std::optional<CubinArchive>> opened;
  const std::lock_guard lock(mutex);
  const auto [entry, is_new] = opened.try_emplace(path);
  if (is_new) {
    try {
      entry->second = CubinArchive::open(path.string());
      const int oldest = entry->second->oldest_compiler();
      if (oldest > newest_compiler()) {
        log(LogLevel::warning,
            "kernels compiled ahead of time are not used: {} was made by CUDA {}, the driver here runs code of CUDA {} "
            "and older; update the driver, or make the file with an older NVRTC",
            path.string(), oldest / 1000, newest_compiler() / 1000);
      }
    } catch (const Error& error) {
      log(LogLevel::warning, "kernels compiled ahead of time are not used: {}", error.message());
    }
  }
  return entry->second ? &*entry->second : nullptr;
}

/// The file: 16 bytes hash of the code, the code.
constexpr std::size_t kHashBytes = 16;
std::array<std::byte, kHashBytes> hash_bytes(std::span<const std::byte> code) {
  const Hash128 hash = hash128(code);
  std::array<std::byte, kHashBytes> bytes{};
  std::memcpy(bytes.data(), &hash.low, sizeof hash.low);
  std::memcpy(bytes.data() + sizeof hash.low, &hash.high, sizeof hash.high);
  return bytes;
}

std::shared_ptr<const std::vector<std::byte>> read_cubin(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return nullptr;
  try {
    const auto file = MappedFile::open(path.string());
    const std::span<const std::byte> bytes = file->bytes();
    if (bytes.size() <= kHashBytes) return nullptr;
    const std::span<const std::byte> code = bytes.subspan(kHashBytes);
    const auto hash = hash_bytes(code);
    if (std::memcmp(hash.data(), bytes.data(), kHashBytes) != 0) return nullptr;
    return std::make_shared<const std::vector<std::byte>>(code.begin(), code.end());
  } catch (const Error& failure) {
    log(LogLevel::debug, "cubin cache: {}", failure.message());
    return nullptr;
  }
}

/// What any compiler made that the driver runs, for machines that have none.
std::shared_ptr<const std::vector<std::byte>> read_any_cubin(const std::filesystem::path& folder, const Hash128& key) {
  static std::mutex mutex;
  static std::map<std::filesystem::path, std::set<std::string>> listed;  // a process without a compiler adds nothing
  const std::lock_guard lock(mutex);
  const auto [entry, is_new] = listed.try_emplace(folder);
  if (is_new) {
    std::error_code error;
    for (std::filesystem::directory_iterator file(folder, error), end; !error && file != end; file.increment(error)) {
      entry->second.insert(file->path().filename().string());
    }
  }
  const std::string prefix = key.to_string() + "-";
  const int newest = newest_compiler();
  for (auto name = entry->second.lower_bound(prefix); name != entry->second.end() && name->starts_with(prefix);
       ++name) {
    int compiler = 0;
    std::from_chars(name->data() + prefix.size(), name->data() + name->size(), compiler);
    if (compiler > newest || *name != file_name(key, compiler)) continue;
    if (auto code = read_cubin(folder / *name)) return code;
  }
  return nullptr;
}

void write_cubin(const std::filesystem::path& path, const std::vector<std::byte>& code) {
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  if (error) return;
  const auto hash = hash_bytes(code);
  const std::array<std::span<const std::byte>, 2> parts = {std::span<const std::byte>(hash), code};
  try {
    write_file_atomically(path.string(), parts);
  } catch (const Error& failure) {
    log(LogLevel::debug, "cubin cache: {}", failure.message());
  }
}

/// Makes the value of a key once: who asks meanwhile waits. What fails is tried again by the next who asks.
template <typename T>
class Memo {
 public:
  using Shared = std::shared_ptr<const T>;
  template <typename F>
  Shared get(const Hash128& key, const F& make) {
    std::promise<Shared> promise;
    std::shared_future<Shared> future;
    bool is_mine = false;
    {
      const std::lock_guard lock(mutex_);
      const auto [entry, is_new] = known_.try_emplace(key);
      if (is_new) entry->second = promise.get_future().share();
      is_mine = is_new;
      future = entry->second;
    }
    if (!is_mine) return future.get();
    try {
      promise.set_value(make());
    } catch (...) {
      {
        const std::lock_guard lock(mutex_);
        known_.erase(key);
      }
      promise.set_exception(std::current_exception());
    }
    return future.get();
  }

  /// nullptr: it is not made, or not yet.
  Shared find(const Hash128& key) {
    const std::lock_guard lock(mutex_);
    const auto found = known_.find(key);
    return found == known_.end() ? nullptr : value_of(found->second);
  }
  std::map<Hash128, Shared> all() {
    const std::lock_guard lock(mutex_);
    std::map<Hash128, Shared> made;
    for (const auto& [key, future] : known_) {
      if (Shared value = value_of(future)) made.emplace(key, std::move(value));
    }
    return made;
  }

 private:
  static Shared value_of(const std::shared_future<Shared>& future) {
    if (future.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return nullptr;
    try {
      return future.get();
    } catch (const Error&) {  // about to be forgotten
      return nullptr;
    }
  }

  std::mutex mutex_;
  std::map<Hash128, std::shared_future<Shared>> known_;
};

Memo<Cubin>& compiled() {
  static Memo<Cubin> instance;
  return instance;
}

}  // namespace

std::string architecture_name(int sm) { return fmt::format("sm_{}{}", sm, sm == 90 ? "a" : ""); }

Cubin compile_source(const Source& source, int sm) {
  const Nvrtc& api = nvrtc();
  const auto must = [&api](int result, std::string_view what) {
    require(result == 0, Code::internal, "NVRTC, {}: {}", what, api.error_string(result));
  };
  Program program = nullptr;
  must(api.create(&program, source.text.c_str(), "tenfold.cu", 0, nullptr, nullptr), "creating a program");
  const std::unique_ptr<Program, void (*)(Program*)> owner(&program, [](Program* p) { nvrtc().destroy(p); });
  std::vector<std::string> options = compile_options(sm);
  constexpr int kFirstWithCache = 12090;
  // Its own cache, of 12.9 and later, gives code without a log; ours stands in front.
  if (api.compiler >= kFirstWithCache) options.emplace_back("--no-cache");
  std::vector<const char*> texts;
  for (const std::string& option : options) texts.push_back(option.c_str());
  const int result = api.compile(program, static_cast<int>(texts.size()), texts.data());
  Cubin cubin;
  std::size_t size = 0;
  must(api.log_size(program, &size), "asking for the log");
  cubin.log.resize(size);
  must(api.log(program, cubin.log.data()), "asking for the log");
  while (!cubin.log.empty() && cubin.log.back() == '\0') cubin.log.pop_back();
  require(result == 0, Code::internal, "a generated kernel does not compile: {}\n{}", api.error_string(result),
          cubin.log);
  must(api.cubin_size(program, &size), "asking for the code");
  cubin.compiler = api.compiler;
  cubin.code.resize(size);
  must(api.cubin(program, reinterpret_cast<char*>(cubin.code.data())), "asking for the code");
  return cubin;
}

std::shared_ptr<const Cubin> compiled_cubin(const Source& source, int sm) {
  const Hash128 key = key_of(source, sm);
  return compiled().get(key, [&] {
    auto cubin = std::make_shared<const Cubin>(compile_source(source, sm));
    const std::filesystem::path folder = cache_folder();
    if (!folder.empty()) write_cubin(folder / file_name(key, cubin->compiler), cubin->code);
    return cubin;
  });
}

std::vector<KeyedCode> compiled_so_far() {
  const auto made = compiled().all();
  std::vector<KeyedCode> all;
  all.reserve(made.size());
  for (const auto& [key, cubin] : made) all.push_back({key, cubin->compiler, cubin->code});
  return all;
}

std::shared_ptr<const std::vector<std::byte>> cached_cubin(const Source& source, int sm) {
  static Memo<std::vector<std::byte>> known;
  const Hash128 key = key_of(source, sm);
  return known.get(key, [&]() -> std::shared_ptr<const std::vector<std::byte>> {
    if (const auto cubin = compiled().find(key)) return {cubin, &cubin->code};
    if (const CubinArchive* made_before = archive()) {
      if (auto found = made_before->find(key, newest_compiler())) {
        return std::make_shared<const std::vector<std::byte>>(std::move(found->code));
      }
    }
    const std::filesystem::path folder = cache_folder();
    try {
      if (auto code = folder.empty() ? nullptr : read_cubin(folder / file_name(key, nvrtc().compiler))) return code;
      const std::shared_ptr<const Cubin> cubin = compiled_cubin(source, sm);
      return {cubin, &cubin->code};
    } catch (const Error& error) {
      if (error.code() != Code::unsupported) throw;
      if (auto code = folder.empty() ? nullptr : read_any_cubin(folder, key)) return code;
      throw error.in_context("a kernel's code is neither in tenfold_cuda.cubins nor in the cache");
    }
  });
}

}  // namespace tenfold::cuda
