#include "backend/cuda/cudnn_api.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "backend/cuda/vendor_library.hpp"
#include "base/error.hpp"

namespace tenfold::cuda {
namespace {

CudnnApi open_cudnn() {
  constexpr VendorLibrary kLibrary = VendorLibrary::cudnn;
  void* library = open_vendor_library(kLibrary);
  CudnnApi api;
  const auto find = [library](auto& function, const char* symbol) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(
        vendor_function(kLibrary, library, symbol));  // NOLINT: dlsym
  };
  std::size_t (*version)() = nullptr;
  find(version, "cudnnGetVersion");
  api.version = version();
  check_vendor_version(kLibrary, api.version);
#define TENFOLD_CUDNN(member, symbol, ...) find(api.member, #symbol);
#include "backend/cuda/cudnn_functions.inc"
#undef TENFOLD_CUDNN
  find(api.error_string, "cudnnGetErrorString");
  return api;
}

}  // namespace

std::int32_t cudnn_number::data_type_of(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return cudnn_number::kFloat32;
    case DType::float16:
      return 2;
    case DType::bfloat16:
      return 9;
    default:
      return -1;
  }
}

const CudnnApi& cudnn() {
  static const CudnnApi api = open_cudnn();  // an exception leaves it to the next call
  return api;
}

void check_cudnn(int status, std::string_view what) {
  require(status == 0, Code::device_failure, "cuDNN, {}: {}", what, cudnn().error_string(status));
}

CudnnSession& CudnnSession::current() {
  static std::mutex mutex;
  static std::map<CUcontext, std::unique_ptr<CudnnSession>> sessions;
  CUcontext context = nullptr;
  check(driver().current_context(&context), "asking for the current context");
  const std::lock_guard lock(mutex);
  std::unique_ptr<CudnnSession>& session = sessions[context];
  if (session == nullptr) {
    session = std::make_unique<CudnnSession>();
    check_cudnn(cudnn().create(&session->handle_), "starting");
  }
  return *session;
}

void CudnnSession::use(const std::function<void(CudnnHandle)>& work) {
  const std::lock_guard lock(mutex_);
  work(handle_);
}

void CudnnSession::use(CUstream stream, const std::function<void(CudnnHandle)>& work) {
  const std::lock_guard lock(mutex_);
  check_cudnn(cudnn().set_stream(handle_, stream), "choosing a stream");
  work(handle_);
}

CudnnDescriptor::CudnnDescriptor(int type) { check_cudnn(cudnn().create_descriptor(type, &handle_), "describing"); }

void CudnnDescriptor::reset() noexcept {
  if (handle_ != nullptr) cudnn().destroy_descriptor(handle_);
  handle_ = nullptr;
}

void CudnnDescriptor::set_raw(int attribute, int type, std::int64_t count, const void* values) {
  const int status = cudnn().set_attribute(handle_, attribute, type, count, values);
  require(status == 0, Code::device_failure, "cuDNN, setting attribute {}: {}", attribute,
          cudnn().error_string(status));
}
void CudnnDescriptor::set(int attribute, std::int64_t value) {
  set_raw(attribute, cudnn_number::kTypeInt64, 1, &value);
}
void CudnnDescriptor::set(int attribute, std::span<const std::int64_t> values) {
  set_raw(attribute, cudnn_number::kTypeInt64, static_cast<std::int64_t>(values.size()), values.data());
}
void CudnnDescriptor::set(int attribute, bool value) { set_raw(attribute, cudnn_number::kTypeBoolean, 1, &value); }
void CudnnDescriptor::set(int attribute, float value) { set_raw(attribute, cudnn_number::kTypeFloat, 1, &value); }
void CudnnDescriptor::set(int attribute, double value) { set_raw(attribute, cudnn_number::kTypeDouble, 1, &value); }
void CudnnDescriptor::set(int attribute, const CudnnDescriptor& value) {
  set_raw(attribute, cudnn_number::kTypeDescriptor, 1, &value.handle_);
}
void CudnnDescriptor::set(int attribute, std::span<const CudnnDescriptor> values) {
  std::vector<void*> handles;
  for (const CudnnDescriptor& value : values) handles.push_back(value.handle_);
  set_raw(attribute, cudnn_number::kTypeDescriptor, static_cast<std::int64_t>(handles.size()), handles.data());
}
void CudnnDescriptor::set_handle(int attribute, CudnnHandle handle) {
  set_raw(attribute, cudnn_number::kTypeHandle, 1, &handle);
}
void CudnnDescriptor::finalize(std::string_view what) { check_cudnn(try_finalize(), what); }
int CudnnDescriptor::try_finalize() { return cudnn().finalize(handle_); }

std::int64_t CudnnDescriptor::get_int64(int attribute) const {
  std::int64_t value = 0, count = 0;
  check_cudnn(cudnn().get_attribute(handle_, attribute, cudnn_number::kTypeInt64, 1, &count, &value),
              "asking for a number");
  return value;
}
std::int32_t CudnnDescriptor::get_enum(int attribute, int type) const {
  std::int32_t value = 0;
  std::int64_t count = 0;
  check_cudnn(cudnn().get_attribute(handle_, attribute, type, 1, &count, &value), "asking for a number");
  return value;
}
std::vector<std::int32_t> CudnnDescriptor::get_enums(int attribute, int type, std::size_t most) const {
  std::vector<std::int32_t> values(most);
  std::int64_t count = 0;
  check_cudnn(cudnn().get_attribute(handle_, attribute, type, static_cast<std::int64_t>(most), &count, values.data()),
              "asking for numbers");
  values.resize(std::min(most, static_cast<std::size_t>(std::max<std::int64_t>(count, 0))));
  return values;
}
std::int64_t CudnnDescriptor::count_descriptors(int attribute) const {
  std::int64_t count = 0;
  check_cudnn(cudnn().get_attribute(handle_, attribute, cudnn_number::kTypeDescriptor, 0, &count, nullptr), "counting");
  return count;
}
std::vector<CudnnDescriptor> CudnnDescriptor::get_descriptors(int attribute, int descriptor_type,
                                                              std::size_t most) const {
  // The caller makes the descriptors, the library fills them.
  std::vector<CudnnDescriptor> values;
  std::vector<void*> handles;
  for (std::size_t i = 0; i < most; ++i) handles.push_back(values.emplace_back(descriptor_type).get());
  std::int64_t count = 0;
  check_cudnn(cudnn().get_attribute(handle_, attribute, cudnn_number::kTypeDescriptor, static_cast<std::int64_t>(most),
                                    &count, handles.data()),
              "asking for descriptors");
  values.resize(std::min(most, static_cast<std::size_t>(std::max<std::int64_t>(count, 0))));
  return values;
}

}  // namespace tenfold::cuda
