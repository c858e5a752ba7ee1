// How a CUDA kernel is offered: one entry per tactic, listed in tactics.inc; cuda_backend.cpp does the rest.
//
// A tactic's kernels are CUDA C++ text that `source` makes from a validated spec; NVRTC compiles it for the device. The
// text is a pure function of spec and traits, so that equal kernels are compiled once and an engine can be rebuilt.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.hpp"
#include "backend/cuda/driver_api.hpp"

namespace tenfold::cuda {

/// What a tactic may know about a device. Two devices with equal traits run the same engines.
struct DeviceTraits {
  std::string name;
  int sm = 0;  ///< compute capability: 90 is 9.0
  int num_sms = 0;
  std::size_t smem_optin_bytes = 0;  ///< shared memory that one block may ask for
  std::size_t l2_bytes = 0;
  std::size_t memory_bytes = 0;
  double clock_ghz = 0;
  double bandwidth_gb_s = 0;  ///< of device memory, by its data sheet
};
/// Tensor cores multiply float8 from this compute capability on.
inline constexpr int kFloat8Sm = 89;
/// "h100", "a100", "l4": for tests on machines without a GPU. Throws Error(invalid_argument) for another name.
DeviceTraits preset_traits(std::string_view name);

/// A module's text. `entries`: the names of its `extern "C" __global__` functions.
struct Source {
  std::string text;
  std::vector<std::string> entries;
};

/// A function of a loaded module, which it keeps loaded. May ask for shared memory up to the device's limit.
class Function {
 public:
  Function() = default;
  Function(CUfunction handle, std::shared_ptr<const void> module) : handle_(handle), module_(std::move(module)) {}
  operator CUfunction() const { return handle_; }  // NOLINT(google-explicit-constructor): it stands for the handle

 private:
  CUfunction handle_ = nullptr;
  std::shared_ptr<const void> module_;
};

/// What `make` gets: the functions of the tactic's module, and where its packed weights lie on the device.
class LoadedModule {
 public:
  virtual ~LoadedModule() = default;
  /// Throws Error(incompatible_engine) if the module has no such entry.
  virtual Function function(std::string_view entry) const = 0;
  /// Device address of packed weight `index`, 64-byte aligned (256 at build time); outlives the kernel.
  virtual const void* weight(std::size_t index) const = 0;
  virtual const DeviceTraits& traits() const = 0;
};

/// Whose kernel a tactic runs: our own, or that of a library of NVIDIA (vendor_library.hpp).
enum class VendorLibrary : std::uint8_t { none, cublas_lt, cudnn };

struct CudaTactic {
  std::string_view name;     ///< "softmax.rows"; stored in engines, never reused for something else
  std::string_view op_type;  ///< the operator it computes
  /// Appends one candidate for each set of parameters worth timing, or one with a refusal. Called only for op_type.
  void (*candidates)(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out);
  /// On the host. nullptr: keeps no constants of its own.
  PackedWeights (*pack)(const Problem& problem, const Candidate& candidate);
  /// Validates the spec like `make`. nullptr: the kernel needs no module.
  Source (*source)(const KernelSpec& spec, const DeviceTraits& traits);
  /// Validates parameters, types and weight sizes; throws Error(incompatible_engine).
  std::unique_ptr<Kernel> (*make)(const KernelSpec& spec, const LoadedModule& module);
  /// Its tactics are offered where Problem::libraries asks for them and there is a device, which is then current.
  VendorLibrary library = VendorLibrary::none;
};

#define TENFOLD_CUDA_TACTIC(name) extern const CudaTactic name;
#include "backend/cuda/tactics.inc"
#undef TENFOLD_CUDA_TACTIC

std::span<const CudaTactic* const> all_tactics();
/// nullptr if there is none.
const CudaTactic* find_tactic(std::string_view name, std::string_view op_type);

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct LaunchConfig {
  CUfunction function = nullptr;
  Dim3 grid, block;
  unsigned smem_bytes = 0;  ///< dynamic shared memory
  Dim3 cluster;
  /// Programmatic dependent launch, where the device has it (sm_90): the kernel may start before its predecessor ends,
  /// and every thread must execute griddepcontrol.wait before it touches global memory that another kernel writes or
  /// reads.
  bool pdl = false;
};

/// The stream of the CUDA backend. Its methods enqueue; none allocates.
class CudaStream final : public Stream {
 public:
  /// Owns a new stream of `context`, or borrows `handle` when that is given.
  /// `has_pdl`: the device knows programmatic dependent launch.
  CudaStream(CUcontext context, CUstream handle, bool owns, bool has_pdl)
      : context_(context), handle_(handle), owns_(owns), has_pdl_(has_pdl) {}
  ~CudaStream() override;
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  CUstream handle() const { return handle_; }
  CUcontext context() const { return context_; }
  void make_current() const { check(driver().set_context(context_), "making the device current"); }
  void synchronize() override;

  /// Arguments are copied; each must have exactly the type of the kernel's parameter.
  template <typename... Args>
  void launch(const LaunchConfig& config, const Args&... args) {
    std::array<void*, sizeof...(Args) + 1> pointers = {const_cast<void*>(static_cast<const void*>(&args))..., nullptr};
    launch_pointers(config, pointers.data());
  }
  void launch_pointers(const LaunchConfig& config, void** arguments);
  void copy(void* to, const void* from, std::size_t bytes);  ///< on the device
  void fill(void* to, unsigned char value, std::size_t bytes);
  /// Waits for the bytes: for operators that set their output's shape, which are never recorded.
  void read(void* host, const void* from, std::size_t bytes);
  /// The same in the other direction: when it returns, `host` may change.
  void write(void* to, const void* host, std::size_t bytes);

 private:
  CUcontext context_;
  CUstream handle_;
  bool owns_;
  bool has_pdl_;
};
inline CudaStream& cuda_stream(const Launch& launch) { return static_cast<CudaStream&>(*launch.stream); }

}  // namespace tenfold::cuda
