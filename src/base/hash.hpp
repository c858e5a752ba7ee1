// Hashes: XXH3-128, fast and not cryptographic, identifies model files, sections and timing-cache keys;
// SHA-256 shows that bytes are the ones somebody vouched for.
#pragma once

#include <array>
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

/// The hash of many bytes, by all cores: up to kHashedPiece bytes `hash128`; of more, `hash128` of the hashes of their
/// pieces of so many bytes (low 64 bits, then high ones, little-endian), the last of which may be shorter.
Hash128 hash128_of_pieces(std::span<const std::byte> bytes);
inline constexpr std::size_t kHashedPiece = std::size_t{4} << 20;

using Sha256 = std::array<std::byte, 32>;
Sha256 sha256(std::span<const std::byte> bytes);
/// 64 hexadecimal digits, as `sha256sum` prints them.
std::string to_string(const Sha256& hash);

}  // namespace tenfold
