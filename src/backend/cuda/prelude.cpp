#include "backend/cuda/cuda_tactic.hpp"

namespace tenfold::cuda {

std::string_view kernel_prelude() {
  // f16 and bf16 hold bits; arithmetic is done in float. Conversions round to nearest even and keep NaN; a float beyond
  // an integer's range is converted as the hardware does: to the nearest integer of the range.
  static constexpr std::string_view kText = R"(
struct f16 { unsigned short bits; };
struct bf16 { unsigned short bits; };
struct alignas(64) TensorMap { unsigned long long opaque[16]; };
__device__ __forceinline__ float to_float(f16 x) { float y; asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits)); return y; }
__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float((unsigned)x.bits << 16); }
__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ f16 to_f16(float x) { f16 y; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); return y; }
__device__ __forceinline__ bf16 to_bf16(float x) { bf16 y; asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); return y; }
template <typename To, typename From> struct Convert { static __device__ __forceinline__ To of(From x) { return (To)x; } };
template <typename From> struct Convert<f16, From> { static __device__ __forceinline__ f16 of(From x) { return to_f16((float)x); } };
template <typename From> struct Convert<bf16, From> { static __device__ __forceinline__ bf16 of(From x) { return to_bf16((float)x); } };
template <typename To> struct Convert<To, f16> { static __device__ __forceinline__ To of(f16 x) { return (To)to_float(x); } };
template <typename To> struct Convert<To, bf16> { static __device__ __forceinline__ To of(bf16 x) { return (To)to_float(x); } };
template <> struct Convert<f16, f16> { static __device__ __forceinline__ f16 of(f16 x) { return x; } };
template <> struct Convert<bf16, bf16> { static __device__ __forceinline__ bf16 of(bf16 x) { return x; } };
template <> struct Convert<f16, bf16> { static __device__ __forceinline__ f16 of(bf16 x) { return to_f16(to_float(x)); } };
template <> struct Convert<bf16, f16> { static __device__ __forceinline__ bf16 of(f16 x) { return to_bf16(to_float(x)); } };
template <typename From> struct Convert<bool, From> { static __device__ __forceinline__ bool of(From x) { return x != (From)0; } };
template <> struct Convert<bool, f16> { static __device__ __forceinline__ bool of(f16 x) { return (x.bits & 0x7fff) != 0; } };
template <> struct Convert<bool, bf16> { static __device__ __forceinline__ bool of(bf16 x) { return (x.bits & 0x7fff) != 0; } };
template <typename To, typename From> __device__ __forceinline__ To convert(From x) { return Convert<To, From>::of(x); }
)";
  return kText;
}

}  // namespace tenfold::cuda
