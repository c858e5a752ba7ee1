// Libraries of NVIDIA whose kernels may stand beside our own: cuBLASLt and cuDNN. They are opened at run time, on the
// first use by a build that asks for them or by an engine that took a kernel of one; nobody else needs them.
//
// An engine holds the version of the library that its kernels were chosen from, and runs with that one only: the names
// of algorithms mean something to one version, and answers shall not change with a library that is updated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "backend/cuda/tactic_tools.hpp"

namespace tenfold::cuda {

/// Opens it. Throws Error(unsupported) saying how to get it.
void* open_vendor_library(VendorLibrary library);
/// The function of this name. Throws Error(unsupported): the library is older than we need.
void* vendor_function(VendorLibrary library, void* opened, const char* symbol);
/// Throws Error(unsupported) for one that is older than we need.
void check_vendor_version(VendorLibrary library, std::size_t version);

/// "cuBLASLt", "cuDNN"
std::string_view name_of(VendorLibrary library);
/// "13.1.0" for 130100, as both libraries count.
std::string version_text(std::int64_t version);
/// The version of the library here, which is opened for that. Throws Error(unsupported).
std::size_t vendor_version(VendorLibrary library);
/// Of an engine's kernel, chosen from the library's version `built`. Throws Error(incompatible_engine): it is not here,
/// or in another version.
void require_vendor_version(VendorLibrary library, std::int64_t built, std::string_view tactic);

/// What is known to go wrong in a library, so that no build offers it and no engine may ask for it: the reason, with
/// the library's version and where it was reported. std::nullopt: nothing is known.
Refusal refuses_quarantined(VendorLibrary library, std::size_t version, const Signature& signature);

/// Libraries want scratch memory at multiples of this, a launch's lies at multiples of 64.
inline constexpr std::size_t kVendorWorkspaceAlignment = 256;
inline std::size_t vendor_workspace_bytes(std::size_t needed) {
  return needed == 0 ? 0 : needed + kVendorWorkspaceAlignment;
}
/// The first place in a launch's scratch memory that fits; nullptr if it has none.
void* aligned_workspace(std::span<std::byte> workspace);

/// For the library's `rank`-th guess, from 0. Of the first: what any kernel takes at least, its products at the peak
/// rate and its operands once through device memory, so that it is timed whenever the library was asked for; the others
/// stand behind it, among our own.
double estimate_ranked_us(const Problem& problem, const DeviceTraits& traits, std::size_t rank);

}  // namespace tenfold::cuda
