// cuBLASLt, opened at run time. Types and numbers are those of cublasLt.h, cublas_api.h and library_types.h (CUDA 12
// and 13); they are part of the library's stable ABI.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "backend/cuda/driver_api.hpp"
#include "graph/dtype.hpp"

namespace tenfold::cuda {

using CublasLtHandle = struct CublasLtContext*;

/// Semi-opaque descriptors, which the caller has memory for: nothing is allocated to describe a product.
struct CublasLtLayout {
  std::uint64_t opaque[8];
};
struct CublasLtProduct {
  std::uint64_t opaque[32];
};
struct CublasLtPreference {
  std::uint64_t opaque[8];
};
struct CublasLtAlgorithm {
  std::uint64_t opaque[8];
  bool operator==(const CublasLtAlgorithm&) const = default;
};
struct CublasLtResult {
  CublasLtAlgorithm algorithm;
  std::size_t workspace_bytes;
  int status;
  float waves;
  int reserved[4];
};
static_assert(sizeof(CublasLtAlgorithm) == 64 && sizeof(CublasLtResult) == 96);

namespace cublaslt {
/// cublasLtMatrixLayoutAttribute_t
inline constexpr int kLayoutBatchCount = 5, kLayoutBatchStride = 6;
/// cublasLtMatmulDescAttributes_t
inline constexpr int kProductTransA = 3, kProductTransB = 4, kProductEpilogue = 7, kProductBias = 8,
                     kProductFastAccumulation = 25, kProductBiasType = 26;
/// cublasLtMatmulPreferenceAttributes_t
inline constexpr int kPreferWorkspaceBytes = 1, kPreferReductions = 3, kPreferAlignmentA = 5, kPreferAlignmentB = 6,
                     kPreferAlignmentC = 7, kPreferAlignmentD = 8;
/// cublasLtReductionScheme_t, a mask. Partial sums in the output's memory and type, or in scratch memory as float32.
inline constexpr std::uint32_t kReduceInPlace = 1, kReduceInFloat32 = 2;
/// cublasLtEpilogue_t; its bits may be combined
inline constexpr std::uint32_t kEpilogueDefault = 1, kEpilogueRelu = 2, kEpilogueBias = 4, kEpilogueGelu = 32;
/// cublasOperation_t
inline constexpr std::int32_t kTransposed = 1;
/// cublasComputeType_t
inline constexpr int kComputeFloat32 = 68, kComputeTf32 = 77, kComputeInt32 = 72;
/// cudaDataType_t: CUDA_R_32F; data_type_of has the others.
inline constexpr int kFloat32 = 0;
/// cudaDataType_t; -1 for types that products do not have.
int data_type_of(DType dtype);
}  // namespace cublaslt

struct CublasLtApi {
#define TENFOLD_CUBLASLT(member, symbol, ...) int (*member)(__VA_ARGS__) = nullptr;
#include "backend/cuda/cublaslt_functions.inc"
#undef TENFOLD_CUBLASLT
  const char* (*status_string)(int) = nullptr;
  std::size_t version = 0;  ///< 130100 is 13.1.0
};

/// Opens the library once. Throws Error(unsupported): not here, or too old.
const CublasLtApi& cublas_lt();
/// The handle of the current context, made on first use and kept. May be used by many threads at once.
/// Throws Error(device_failure).
CublasLtHandle cublas_lt_handle();
/// Throws Error(device_failure) with `what` and the library's own words.
void check_cublas_lt(int status, std::string_view what);

}  // namespace tenfold::cuda
