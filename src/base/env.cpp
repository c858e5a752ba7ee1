#include "base/env.hpp"

#include <array>
#include <cstdlib>

#include "base/error.hpp"

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

bool is_set(const EnvironmentVariable& variable) {
  const auto value = read(variable);
  require(!value || *value == variable.values, Code::invalid_argument, "environment variable {} must be {}, got '{}'",
          variable.name, variable.values, value.value_or(""));
  return value.has_value();
}

}  // namespace tenfold
