// The CUDA driver, opened at run time: no header and no library of CUDA is needed to build Tenfold.
//
// Types and numbers are those of the CUDA Driver API reference (12.0); their layout is part of the driver's stable ABI.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tenfold::cuda {

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = struct CUctx_st*;
using CUstream = struct CUstream_st*;
using CUevent = struct CUevent_st*;
using CUmodule = struct CUmod_st*;
using CUfunction = struct CUfunc_st*;
using CUgraph = struct CUgraph_st*;
using CUgraphExec = struct CUgraphExec_st*;

/// CUtensorMap: an opaque descriptor of a tensor for the tensor memory accelerator. Passed to kernels by value, as a
/// `const __grid_constant__ TensorMap` parameter.
struct alignas(64) TensorMap {
  std::uint64_t opaque[16];
};

struct CUlaunchAttribute {
  int id = 0;
  int padding = 0;
  union Value {
    char bytes[64];
    unsigned cluster[3];
    int programmatic_serialization;
  } value{};
};
struct CUlaunchConfig {
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
  CUstream stream;
  CUlaunchAttribute* attributes;
  unsigned num_attributes;
};
static_assert(sizeof(CUlaunchAttribute) == 72 && sizeof(CUlaunchConfig) == 56 && sizeof(TensorMap) == 128);

inline constexpr CUresult kSuccess = 0;
inline constexpr CUresult kErrorOutOfMemory = 2;

/// CUlaunchAttributeID
inline constexpr int kAttributeCluster = 4;
inline constexpr int kAttributeProgrammaticSerialization = 6;
/// CUfunction_attribute
inline constexpr int kFunctionSharedBytes = 1;
inline constexpr int kFunctionLocalBytes = 3;
inline constexpr int kFunctionRegisters = 4;
inline constexpr int kFunctionMaxDynamicSharedBytes = 8;

/// CUtensorMapDataType
enum class MapType : int {
  uint8 = 0,
  uint16 = 1,
  uint32 = 2,
  int32 = 3,
  float16 = 6,
  float32 = 7,
  bfloat16 = 9,
  tfloat32 = 11
};
/// CUtensorMapSwizzle
enum class MapSwizzle : int { none = 0, bytes32 = 1, bytes64 = 2, bytes128 = 3 };

struct DriverApi {
#define TENFOLD_DRIVER(member, symbol, ...) CUresult (*member)(__VA_ARGS__) = nullptr;
#include "backend/cuda/driver_functions.inc"
#undef TENFOLD_DRIVER
};

/// Opens and initialises the driver once. Throws Error(device_failure): no driver, too old a driver, no device.
const DriverApi& driver();
/// Throws Error(device_failure) with `what` and the driver's own words; Error(out_of_memory) where that is the reason.
void check(CUresult result, std::string_view what);
/// "an illegal memory access was encountered (CUDA_ERROR_ILLEGAL_ADDRESS)"
std::string describe(CUresult result);

/// cuTensorMapEncodeTiled for a row-major tensor. Innermost axis first, as the hardware counts: `dims` and `box` in
/// elements, `strides` in bytes of all axes but the innermost (multiples of 16). Outside of the tensor reads give 0.
/// A tensor that the hardware cannot describe throws Error(device_failure); a tactic refuses such shapes beforehand.
TensorMap encode_tiled(MapType type, int rank, const void* data, const std::uint64_t* dims,
                       const std::uint64_t* strides, const std::uint32_t* box, MapSwizzle swizzle,
                       const std::uint32_t* element_strides = nullptr);
/// cuTensorMapEncodeIm2col. `lower` and `upper`: corners of the bounding box, innermost spatial axis first.
TensorMap encode_im2col(MapType type, int rank, const void* data, const std::uint64_t* dims,
                        const std::uint64_t* strides, const int* lower, const int* upper, unsigned channels_per_pixel,
                        unsigned pixels_per_column, const std::uint32_t* element_strides, MapSwizzle swizzle);

}  // namespace tenfold::cuda
