// Device text that the tensor-core kernels of sm_90a share: barriers, tensor memory accelerator (TMA), wgmma.
// Source: NVIDIA, PTX ISA 8.5, sections on mbarrier, cp.async.bulk.tensor and wgmma.
#pragma once

#include <string>
#include <string_view>

#include "graph/dtype.hpp"

namespace tenfold::cuda {

/// Declares a struct for the host and keeps its text for the device, so that both always agree. Only types that are
/// the same on both sides: pointers, int, unsigned, long long, float, arrays of these.
#define TENFOLD_SHARED_STRUCT(text_name, ...) \
  __VA_ARGS__;                                \
  inline constexpr std::string_view text_name = #__VA_ARGS__ ";\n"

/// Types, barriers, TMA loads, descriptors, fences. Follows device_prelude() of pointwise_text.hpp.
std::string_view hopper_prelude();

/// One kind of wgmma: D[64, n] += A[64, k] B[k, n] with k = 32 bytes of elements; D in float32, or int32 for 8-bit
/// integers (uint8 is A's type then, B is int8).
struct WgmmaKind {
  DType element = DType::float16;
  int n = 64;
  bool a_in_registers = false;
  bool a_m_major = false;  ///< A lies with M contiguous in shared memory; float16 and bfloat16 only
  bool b_n_major = false;  ///< B lies with N contiguous; float16 and bfloat16 only
};
/// A struct `name` with `Value` (float or int), kN, and `run(Value (&d)[n / 2], a, b descriptor, accumulate)`; `a` is a
/// descriptor, or const unsigned (&a)[4].
std::string emit_wgmma(std::string_view name, const WgmmaKind& kind);

}  // namespace tenfold::cuda
