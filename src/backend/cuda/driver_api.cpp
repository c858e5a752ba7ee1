#include "backend/cuda/driver_api.hpp"

#include <dlfcn.h>

#include "base/error.hpp"

namespace tenfold::cuda {
namespace {

constexpr int kOldestDriver = 12000;  // CUDA 12.0: launch attributes, tensor maps
constexpr int kInterleaveNone = 0;
constexpr int kPromote256Bytes = 3;
constexpr int kFillZeros = 0;

/// Errors after which the process's context refuses all further work. Source: CUDA Driver API, CUresult.
bool stays(CUresult result) {
  constexpr CUresult kIllegalAddress = 700, kTimeout = 702, kAssert = 710, kFirstFault = 714, kLastFault = 719;
  return result == kIllegalAddress || result == kTimeout || result == kAssert ||
         (kFirstFault <= result && result <= kLastFault);
}

std::string version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

/// Never closed: streams and modules may live until the process ends.
DriverApi open_driver() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  require(library != nullptr, Code::device_failure,
          "there is no NVIDIA driver here (libcuda.so.1: {}); install one, or use --device cpu", dlerror());
  DriverApi api;
  const auto find = [library](const char* symbol) {
    void* function = dlsym(library, symbol);
    require(function != nullptr, Code::device_failure,
            "the NVIDIA driver lacks {}: it is older than CUDA {}; update it", symbol, version_text(kOldestDriver));
    return function;
  };
#define TENFOLD_DRIVER(member, symbol, ...) \
  api.member = reinterpret_cast<decltype(api.member)>(find(#symbol)); /* NOLINT: dlsym */
#include "backend/cuda/driver_functions.inc"
#undef TENFOLD_DRIVER
  int version = 0;
  const bool answers = api.driver_version(&version) == kSuccess;
  require(answers && version >= kOldestDriver, Code::device_failure,
          "the NVIDIA driver supports CUDA {}, but {} is needed; update it", version_text(version),
          version_text(kOldestDriver));
  const CUresult result = api.init(0);
  const char* words = nullptr;
  if (result != kSuccess) api.error_string(result, &words);
  require(result == kSuccess, Code::device_failure, "the NVIDIA driver does not start: {} (error {})",
          words != nullptr ? words : "unknown error", result);
  int count = 0;
  require(api.device_count(&count) == kSuccess && count > 0, Code::device_failure,
          "the NVIDIA driver sees no GPU; is one visible to this process (CUDA_VISIBLE_DEVICES)?");
  return api;
}

}  // namespace

const DriverApi& driver() {
  static const DriverApi api = open_driver();  // an exception leaves it to the next call
  return api;
}

std::string describe(CUresult result) {
  const char* name = nullptr;
  const char* words = nullptr;
  driver().error_name(result, &name);
  driver().error_string(result, &words);
  if (name == nullptr || words == nullptr) return fmt::format("error {}", result);
  return fmt::format("{} ({})", words, name);
}

void check(CUresult result, std::string_view what) {
  if (result == kSuccess) [[likely]]
    return;
  throw Error(result == kErrorOutOfMemory ? Code::out_of_memory : Code::device_failure,
              fmt::format("{}: {}{}", what, describe(result),
                          stays(result) ? "; nothing runs on this GPU any more in this process: start it anew" : ""));
}

TensorMap encode_tiled(MapType type, int rank, const void* data, const std::uint64_t* dims,
                       const std::uint64_t* strides, const std::uint32_t* box, MapSwizzle swizzle,
                       const std::uint32_t* element_strides) {
  static constexpr std::uint32_t kOnes[5] = {1, 1, 1, 1, 1};
  TensorMap map;
  check(driver().encode_tiled(&map, static_cast<int>(type), static_cast<unsigned>(rank), const_cast<void*>(data), dims,
                              strides, box, element_strides != nullptr ? element_strides : kOnes, kInterleaveNone,
                              static_cast<int>(swizzle), kPromote256Bytes, kFillZeros),
        "describing a tensor to the copy engine");
  return map;
}

TensorMap encode_im2col(MapType type, int rank, const void* data, const std::uint64_t* dims,
                        const std::uint64_t* strides, const int* lower, const int* upper, unsigned channels_per_pixel,
                        unsigned pixels_per_column, const std::uint32_t* element_strides, MapSwizzle swizzle) {
  TensorMap map;
  check(driver().encode_im2col(&map, static_cast<int>(type), static_cast<unsigned>(rank), const_cast<void*>(data), dims,
                               strides, lower, upper, channels_per_pixel, pixels_per_column, element_strides,
                               kInterleaveNone, static_cast<int>(swizzle), kPromote256Bytes, kFillZeros),
        "describing an image to the copy engine");
  return map;
}

}  // namespace tenfold::cuda
