// XXH3-128: fast, not cryptographic. Identifies model files, sections and timing-cache keys.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace tenfold {

struct Hash128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  auto operator<=>(const Hash128&) const = default;
  /// 32 hexadecimal digits, as `xxhsum -H2` prints them.
  std::string to_string() const;
};
Hash128 hash128(std::span<const std::byte> bytes);

}  // namespace tenfold
