#include "backend/cuda/cublaslt_api.hpp"

#include <map>
#include <mutex>

#include "backend/cuda/vendor_library.hpp"
#include "base/error.hpp"

namespace tenfold::cuda {
namespace {

CublasLtApi open_cublas_lt() {
  constexpr VendorLibrary kLibrary = VendorLibrary::cublas_lt;
  void* library = open_vendor_library(kLibrary);
  CublasLtApi api;
  const auto find = [library](auto& function, const char* symbol) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(
        vendor_function(kLibrary, library, symbol));  // NOLINT: dlsym
  };
  std::size_t (*version)() = nullptr;
  find(version, "cublasLtGetVersion");
  api.version = version();
  check_vendor_version(kLibrary, api.version);
#define TENFOLD_CUBLASLT(member, symbol, ...) find(api.member, #symbol);
#include "backend/cuda/cublaslt_functions.inc"
#undef TENFOLD_CUBLASLT
  find(api.status_string, "cublasLtGetStatusString");
  return api;
}

}  // namespace

int cublaslt::data_type_of(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return kFloat32;
    case DType::float16:
      return 2;
    case DType::int8:
      return 3;
    case DType::bfloat16:
      return 14;
    case DType::float8e4m3:
      return 28;
    default:
      return -1;
  }
}

const CublasLtApi& cublas_lt() {
  static const CublasLtApi api = open_cublas_lt();  // an exception leaves it to the next call
  return api;
}

CublasLtHandle cublas_lt_handle() {
  static std::mutex mutex;
  static std::map<CUcontext, CublasLtHandle> handles;
  CUcontext context = nullptr;
  check(driver().current_context(&context), "asking for the current context");
  const std::lock_guard lock(mutex);
  CublasLtHandle& handle = handles[context];
  if (handle == nullptr) check_cublas_lt(cublas_lt().create(&handle), "starting");
  return handle;
}

void check_cublas_lt(int status, std::string_view what) {
  require(status == 0, Code::device_failure, "cuBLASLt, {}: {}", what, cublas_lt().status_string(status));
}

}  // namespace tenfold::cuda
