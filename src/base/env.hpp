// The environment variables that Tenfold reads: one table, so that they can be listed, documented and found.
#pragma once

#include <optional>
#include <span>
#include <string>

namespace tenfold {

struct EnvironmentVariable {
  const char* name;
  const char* values;   ///< what may be set
  const char* meaning;  ///< one sentence
};

inline constexpr EnvironmentVariable kCpuTierVariable{
    "TENFOLD_CPU_TIER", "avx512 | avx2 | none",
    "Highest instruction set that CPU kernels may use; engines are built for it and must be run with the same one."};

inline constexpr EnvironmentVariable kCpuExtensionsVariable{
    "TENFOLD_CPU_EXTENSIONS", "none",
    "CPU kernels leave out instructions beyond their set, those for 8-bit integers and bfloat16."};
inline constexpr EnvironmentVariable kCpuJitVariable{
    "TENFOLD_CPU_JIT", "none",
    "Elementwise programs are interpreted, not made into machine code when an engine is loaded."};
inline constexpr EnvironmentVariable kCpuSubnormalsVariable{
    "TENFOLD_CPU_SUBNORMALS", "keep",
    "CPU kernels compute with numbers below 2^-126, which takes up to a hundred times as long, and do not take them "
    "for zero."};
inline constexpr EnvironmentVariable kBackendPathVariable{
    "TENFOLD_BACKEND_PATH", "a folder", "Where libtenfold_cuda.so lies, if not beside the program or libtenfold."};
inline constexpr EnvironmentVariable kNvrtcVariable{
    "TENFOLD_NVRTC", "a file",
    "CUDA's run-time compiler libnvrtc.so, if the loader does not find it; needed to build."};
inline constexpr EnvironmentVariable kCublasLtVariable{
    "TENFOLD_CUBLASLT", "a file",
    "The library cuBLASLt (libcublasLt.so.13), if the loader does not find it; needed only by what asks for it."};
inline constexpr EnvironmentVariable kCudnnVariable{
    "TENFOLD_CUDNN", "a file",
    "The library cuDNN (libcudnn.so.9), if the loader does not find it; needed only by what asks for it."};
inline constexpr EnvironmentVariable kCubinsVariable{
    "TENFOLD_CUBINS", "a file",
    "GPU kernels compiled ahead of time, if not tenfold_cuda.cubins beside libtenfold_cuda.so."};
inline constexpr EnvironmentVariable kCacheVariable{
    "TENFOLD_CACHE_DIR", "a folder", "Where compiled GPU kernels are kept; ~/.cache/tenfold if not set."};

/// All of them.
std::span<const EnvironmentVariable* const> environment_variables();
/// The variable's value; nullopt when it is not set or empty.
std::optional<std::string> read(const EnvironmentVariable& variable);
/// Is a variable set that has one value only? Throws Error(invalid_argument) if it is set to anything else.
bool is_set(const EnvironmentVariable& variable);

}  // namespace tenfold
