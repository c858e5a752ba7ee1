// Seven functions of the CUDA runtime's C interface over the host's memory, for tools that hold their buffers through
// libcudart and have no GPU. "Device" addresses are host addresses, copies are done when they return, and streams only
// have an identity. tenfold.tensorrt.cudart says how a process comes to load this library; nothing links it.
//
// Results are cudaError_t numbers of the CUDA runtime API (CUDA Toolkit documentation, section 6.36): 0 success,
// 1 invalid value, 2 out of memory, 400 invalid resource handle.
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>

#define TENFOLD_CUDART extern "C" __attribute__((visibility("default"))) int

namespace {

constexpr int kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2, kInvalidHandle = 400;
constexpr std::size_t kAlignment = 256;  // what cudaMalloc guarantees

/// Addresses that were given out and not taken back: a second free is an error, not a crash.
class Given {
 public:
  void add(void* address) {
    const std::lock_guard lock(mutex_);
    addresses_.insert(address);
  }
  bool take_back(void* address) {
    const std::lock_guard lock(mutex_);
    return addresses_.erase(address) == 1;
  }
  bool has(void* address) {
    const std::lock_guard lock(mutex_);
    return addresses_.contains(address);
  }

 private:
  std::mutex mutex_;
  std::set<void*> addresses_;
};

Given& memory() {
  static Given given;
  return given;
}
Given& streams() {
  static Given given;
  return given;
}

int give(void** where, std::size_t size, Given& given) noexcept try {
  if (where == nullptr) return kInvalidValue;
  *where = nullptr;
  void* address = nullptr;
  if (posix_memalign(&address, kAlignment, size == 0 ? 1 : size) != 0) return kOutOfMemory;
  given.add(address);
  *where = address;
  return kSuccess;
} catch (...) {
  return kOutOfMemory;
}

int copy(void* to, const void* from, std::size_t size) noexcept {
  if (size == 0) return kSuccess;
  if (to == nullptr || from == nullptr) return kInvalidValue;
  std::memmove(to, from, size);
  return kSuccess;
}

bool is_stream(void* stream) { return stream == nullptr || streams().has(stream); }

}  // namespace

TENFOLD_CUDART cudaMalloc(void** address, std::size_t size) { return give(address, size, memory()); }

TENFOLD_CUDART cudaFree(void* address) {
  if (address == nullptr) return kSuccess;
  if (!memory().take_back(address)) return kInvalidValue;
  std::free(address);
  return kSuccess;
}

TENFOLD_CUDART cudaMemcpy(void* to, const void* from, std::size_t size, int /*kind*/) { return copy(to, from, size); }

TENFOLD_CUDART cudaMemcpyAsync(void* to, const void* from, std::size_t size, int /*kind*/, void* stream) {
  return is_stream(stream) ? copy(to, from, size) : kInvalidHandle;
}

TENFOLD_CUDART cudaStreamCreate(void** stream) { return give(stream, 1, streams()); }

TENFOLD_CUDART cudaStreamDestroy(void* stream) {
  if (!streams().take_back(stream)) return kInvalidHandle;
  std::free(stream);
  return kSuccess;
}

TENFOLD_CUDART cudaStreamSynchronize(void* stream) { return is_stream(stream) ? kSuccess : kInvalidHandle; }
