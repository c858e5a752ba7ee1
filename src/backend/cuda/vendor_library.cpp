#include "backend/cuda/vendor_library.hpp"

#include <algorithm>
#include <array>
#include <dlfcn.h>

#include "backend/cuda/cublaslt_api.hpp"
#include "backend/cuda/cudnn_api.hpp"
#include "base/env.hpp"
#include "base/error.hpp"

namespace tenfold::cuda {
namespace {

struct Description {
  std::string_view name;
  const EnvironmentVariable& variable;
  std::array<const char*, 4> files;  ///< tried in this order, if the variable names none
  std::string_view packages;         ///< of pip
  std::size_t oldest;                ///< version
};

// Oldest: the first with kernels for sm_90 and the functions in our tables.
const Description& describe(VendorLibrary library) {
  static const Description kCublasLt{
      "cuBLASLt",
      kCublasLtVariable,
      {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so", "/usr/local/cuda/lib64/libcublasLt.so"},
      "nvidia-cublas or nvidia-cublas-cu12",
      120000};
  static const Description kCudnn{
      "cuDNN",
      kCudnnVariable,
      {"libcudnn.so.9", "libcudnn.so", "/usr/local/cuda/lib64/libcudnn.so.9", "/usr/local/cuda/lib64/libcudnn.so"},
      "nvidia-cudnn-cu13 or nvidia-cudnn-cu12",
      90000};
  ensure(library != VendorLibrary::none, "a tactic of our own has no library");
  return library == VendorLibrary::cublas_lt ? kCublasLt : kCudnn;
}

/// What went wrong in a library for whom. `last` included.
struct Quarantine {
  VendorLibrary library;
  std::size_t first, last;
  bool (*applies)(const Signature& signature);
  std::string_view what, why, source;
};

bool is_8bit_convolution(const Signature& signature) {
  const auto is_8bit = [&](std::size_t input) {
    return signature.has_input(input) &&
           (signature.inputs[input].dtype == DType::int8 || signature.inputs[input].dtype == DType::uint8);
  };
  return signature.op.type() == "Conv" && (is_8bit(0) || is_8bit(1));
}

constexpr std::size_t kNewest = SIZE_MAX;
/// Listed in docs/cuda.md, too. An entry goes, or gets a last version, when a release repairs it.
constexpr std::array kQuarantines{
    Quarantine{VendorLibrary::cudnn, 0, kNewest, is_8bit_convolution, "convolutions of 8-bit integers",
               "fused with ReLU on channels-last images they end the process (segmentation fault)",
               "github.com/NVIDIA/cudnn-frontend/issues/422"},
};

}  // namespace

std::string_view name_of(VendorLibrary library) { return describe(library).name; }

std::string version_text(std::int64_t version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

void* open_vendor_library(VendorLibrary library) {
  const Description& description = describe(library);
  if (const auto path = read(description.variable)) {
    void* opened = dlopen(path->c_str(), RTLD_NOW | RTLD_LOCAL);
    require(opened != nullptr, Code::unsupported, "{} names no library that can be opened: {}",
            description.variable.name, opened == nullptr ? dlerror() : "");
    return opened;
  }
  for (const char* file : description.files) {
    if (void* opened = dlopen(file, RTLD_NOW | RTLD_LOCAL)) return opened;
  }
  throw Error(Code::unsupported, fmt::format("{} is not here: install it (pip: {}) and name the file with {} if it is "
                                             "not on the loader's path",
                                             description.name, description.packages, description.variable.name));
}

void* vendor_function(VendorLibrary library, void* opened, const char* symbol) {
  void* function = dlsym(opened, symbol);
  require(function != nullptr, Code::unsupported, "the {} found here lacks {}: {} or newer is needed", name_of(library),
          symbol, version_text(static_cast<std::int64_t>(describe(library).oldest)));
  return function;
}

void check_vendor_version(VendorLibrary library, std::size_t version) {
  const Description& description = describe(library);
  require(version >= description.oldest, Code::unsupported, "{} {} is here, but {} or newer is needed",
          description.name, version_text(static_cast<std::int64_t>(version)),
          version_text(static_cast<std::int64_t>(description.oldest)));
}

std::size_t vendor_version(VendorLibrary library) {
  return library == VendorLibrary::cublas_lt ? cublas_lt().version : cudnn().version;
}

void require_vendor_version(VendorLibrary library, std::int64_t built, std::string_view tactic) {
  std::size_t here = 0;
  try {
    here = vendor_version(library);
  } catch (const Error& error) {
    throw Error(Code::incompatible_engine, fmt::format("tactic '{}' needs {} {}: {}", tactic, name_of(library),
                                                       version_text(built), error.message()));
  }
  require(static_cast<std::int64_t>(here) == built, Code::incompatible_engine,
          "tactic '{}' was chosen with {} {}, but {} is here: build the engine anew, or name the other with {}", tactic,
          name_of(library), version_text(built), version_text(static_cast<std::int64_t>(here)),
          describe(library).variable.name);
}

Refusal refuses_quarantined(VendorLibrary library, std::size_t version, const Signature& signature) {
  for (const Quarantine& entry : kQuarantines) {
    if (entry.library != library || version < entry.first || version > entry.last || !entry.applies(signature))
      continue;
    return fmt::format("{} of {} {} are not used: {} ({})", entry.what, name_of(library),
                       version_text(static_cast<std::int64_t>(version)), entry.why, entry.source);
  }
  return std::nullopt;
}

void* aligned_workspace(std::span<std::byte> workspace) {
  if (workspace.empty()) return nullptr;
  const auto address = reinterpret_cast<std::uintptr_t>(workspace.data());
  return workspace.data() +
         (kVendorWorkspaceAlignment - address % kVendorWorkspaceAlignment) % kVendorWorkspaceAlignment;
}

double estimate_ranked_us(const Problem& problem, const DeviceTraits& traits, std::size_t rank) {
  // Multiply-adds per clock and multiprocessor, of 16-bit factors: whitepapers of A100, L4 and H100.
  const double half_multiplies = traits.sm >= 90 ? 2048 : traits.sm == 80 ? 1024 : 512;
  constexpr double kPlainMultiplies = 128, kOpsPerMultiply = 2, kClocksPerUs = 1000;
  const DType dtype = problem.inputs[0].dtype;
  const double multiplies = dtype == DType::float32 ? (problem.tf32 ? half_multiplies / 2 : kPlainMultiplies)
                            : size_of(dtype) == 1   ? half_multiplies * 2
                                                    : half_multiplies;
  std::vector<TensorType> inputs = problem.inputs, outputs = problem.outputs;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    inputs[i].dims.assign(problem.input_shapes[i].begin(), problem.input_shapes[i].end());
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    outputs[i].dims.assign(problem.output_shapes[i].begin(), problem.output_shapes[i].end());
  }
  const double clocks = problem.op->flops(inputs, outputs) / kOpsPerMultiply / multiplies / traits.num_sms;
  const double least = std::max(estimate_streaming_us(problem, traits), clocks / (traits.clock_ghz * kClocksPerUs));
  constexpr double kStep = 0.5;
  return least * (1 + kStep * static_cast<double>(rank));
}

}  // namespace tenfold::cuda
