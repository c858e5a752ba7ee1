#include "base/env.hpp"

#include <array>
#include <cstdlib>

namespace tenfold {

std::span<const EnvironmentVariable* const> environment_variables() {
  static constexpr std::array kAll = {
      &kCpuTierVariable, &kCpuExtensionsVariable, &kCpuJitVariable, &kCpuSubnormalsVariable, &kBackendPathVariable,
      &kNvrtcVariable,   &kCublasLtVariable,      &kCudnnVariable,  &kCubinsVariable,        &kCacheVariable};
  return kAll;
}

std::optional<std::string> read(const EnvironmentVariable& variable) {
  const char* value = std::getenv(variable.name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

}  // namespace tenfold
