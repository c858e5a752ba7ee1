// cuDNN 9, opened at run time. Types and numbers are those of cudnn_graph_v9.h; they are part of the library's stable
// ABI.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "backend/cuda/driver_api.hpp"
#include "graph/dtype.hpp"

namespace tenfold::cuda {

using CudnnHandle = struct CudnnContext*;

namespace cudnn_number {
/// cudnnBackendDescriptorType_t
inline constexpr int kPointwise = 0, kConvolution = 1, kEngine = 2, kEngineConfig = 3, kEngineHeuristic = 4,
                     kExecutionPlan = 5, kKnobChoice = 7, kOperationConvolution = 10, kOperationPointwise = 13,
                     kOperationGraph = 15, kVariantPack = 16, kTensor = 17;
/// cudnnBackendAttributeType_t
inline constexpr int kTypeHandle = 0, kTypeDataType = 1, kTypeBoolean = 2, kTypeInt64 = 3, kTypeFloat = 4,
                     kTypeDouble = 5, kTypePointer = 6, kTypeConvolutionMode = 7, kTypeHeuristicMode = 8, kTypeKnob = 9,
                     kTypeNumericalNote = 11, kTypePointwiseMode = 14, kTypeDescriptor = 15;
/// cudnnBackendAttributeName_t
inline constexpr int kPointwiseMode = 0, kPointwisePrecision = 1, kReluLowerClip = 3, kReluUpperClip = 4,
                     kReluLowerSlope = 5;
inline constexpr int kConvolutionPrecision = 100, kConvolutionMode = 101, kConvolutionDilations = 102,
                     kConvolutionStrides = 103, kConvolutionPostPaddings = 104, kConvolutionPrePaddings = 105,
                     kConvolutionSpatialDims = 106;
inline constexpr int kHeuristicMode = 200, kHeuristicGraph = 201, kHeuristicResults = 202;
inline constexpr int kConfigEngine = 300, kConfigKnobs = 302;
inline constexpr int kPlanHandle = 400, kPlanConfig = 401, kPlanWorkspaceBytes = 402;
inline constexpr int kKnobType = 600, kKnobValue = 601;
inline constexpr int kForwardAlpha = 700, kForwardBeta = 701, kForwardConvolution = 702, kForwardW = 703,
                     kForwardX = 704, kForwardY = 705;
inline constexpr int kPointwiseDescriptor = 750, kPointwiseX = 751, kPointwiseB = 752, kPointwiseY = 753,
                     kPointwiseAlpha1 = 754, kPointwiseAlpha2 = 755;
inline constexpr int kGraphHandle = 800, kGraphOperations = 801;
inline constexpr int kTensorAlignment = 900, kTensorDataType = 901, kTensorDims = 902, kTensorStrides = 903,
                     kTensorId = 906, kTensorIsVirtual = 907;
inline constexpr int kPackIds = 1000, kPackPointers = 1001, kPackWorkspace = 1003;
inline constexpr int kEngineGraph = 1300, kEngineIndex = 1301, kEngineNumericalNotes = 1303;
/// cudnnDataType_t: CUDNN_DATA_FLOAT
inline constexpr std::int32_t kFloat32 = 0;
/// cudnnConvolutionMode_t, cudnnPointwiseMode_t
inline constexpr std::int32_t kCrossCorrelation = 1, kAdd = 0, kReluForward = 100;
/// cudnnBackendHeurMode_t
inline constexpr std::int32_t kHeuristicModeA = 3, kHeuristicModeFallback = 2;
/// cudnnBackendNumericalNote_t
inline constexpr std::int32_t kNoteTensorCore = 0, kNoteRoundsInputs = 1, kNoteReducedSums = 2, kNoteFft = 3,
                              kNoteNondeterministic = 4, kNoteWinograd = 5, kNoteWinogradLast = 8;
/// cudnnBackendNumericalNote_t and cudnnBackendKnobType_t: more than any version has
inline constexpr std::size_t kMostNotes = 32, kMostKnobs = 64;
/// cudnnDataType_t; -1 for types that convolutions do not have here.
std::int32_t data_type_of(DType dtype);
}  // namespace cudnn_number

struct CudnnApi {
#define TENFOLD_CUDNN(member, symbol, ...) int (*member)(__VA_ARGS__) = nullptr;
#include "backend/cuda/cudnn_functions.inc"
#undef TENFOLD_CUDNN
  const char* (*error_string)(int) = nullptr;
  std::size_t version = 0;  ///< 91900 is 9.19.0
};

/// Opens the library once. Throws Error(unsupported): not here, or too old.
const CudnnApi& cudnn();
/// Throws Error(device_failure) with `what` and the library's own words.
void check_cudnn(int status, std::string_view what);

/// The handle of the current context, made on first use and kept. It has one stream at a time.
class CudnnSession {
 public:
  /// Throws Error(device_failure).
  static CudnnSession& current();
  /// Calls `work` with the handle while nobody else uses it.
  void use(const std::function<void(CudnnHandle)>& work);
  /// The same, on `stream`.
  void use(CUstream stream, const std::function<void(CudnnHandle)>& work);

 private:
  CudnnHandle handle_ = nullptr;
  std::mutex mutex_;
};

/// A descriptor of the backend interface.
class CudnnDescriptor {
 public:
  CudnnDescriptor() = default;
  /// Throws Error(device_failure), as do the others.
  explicit CudnnDescriptor(int type);
  ~CudnnDescriptor() { reset(); }
  CudnnDescriptor(CudnnDescriptor&& other) noexcept : handle_(other.handle_) { other.handle_ = nullptr; }
  CudnnDescriptor& operator=(CudnnDescriptor&& other) noexcept {
    if (this != &other) {
      reset();
      handle_ = other.handle_;
      other.handle_ = nullptr;
    }
    return *this;
  }

  void* get() const { return handle_; }
  void set_raw(int attribute, int type, std::int64_t count, const void* values);
  void set(int attribute, int type, std::int32_t value) { set_raw(attribute, type, 1, &value); }
  void set(int attribute, std::int64_t value);
  void set(int attribute, std::span<const std::int64_t> values);
  void set(int attribute, bool value);
  void set(int attribute, float value);
  void set(int attribute, double value);
  void set(int attribute, const CudnnDescriptor& value);
  void set(int attribute, std::span<const CudnnDescriptor> values);
  void set_handle(int attribute, CudnnHandle handle);
  void finalize(std::string_view what);
  /// The library's status instead of an exception.
  int try_finalize();

  std::int64_t get_int64(int attribute) const;
  std::int32_t get_enum(int attribute, int type) const;
  /// Numbers of an enumeration, at most `most`.
  std::vector<std::int32_t> get_enums(int attribute, int type, std::size_t most) const;
  /// Descriptors of `descriptor_type`, at most `most`.
  std::vector<CudnnDescriptor> get_descriptors(int attribute, int descriptor_type, std::size_t most) const;
  /// How many there are.
  std::int64_t count_descriptors(int attribute) const;

 private:
  void reset() noexcept;
  void* handle_ = nullptr;
};

}  // namespace tenfold::cuda
