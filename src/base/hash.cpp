#include "base/hash.hpp"

#include <algorithm>
#include <array>
#include <sodium.h>
#include <vector>
#include <xxh_x86dispatch.h>  // XXH3 by the widest vectors of this processor; by SSE2 it takes 1.5 times as long

#include <fmt/format.h>

#include "base/all_cores.hpp"

namespace tenfold {

std::string Hash128::to_string() const { return fmt::format("{:016x}{:016x}", high, low); }

Hash128 hash128(std::span<const std::byte> bytes) {
  // The library chooses at the first hash of more than 240 bytes, in variables that it does not guard.
  [[maybe_unused]] static const auto chosen = [] {
    constexpr std::array<std::byte, 256> kZeros{};
    return XXH3_128bits(kZeros.data(), kZeros.size()).low64;
  }();
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {.high = hash.high64, .low = hash.low64};
}

Hash128 hash128_of_pieces(std::span<const std::byte> bytes) {
  if (bytes.size() <= kHashedPiece) return hash128(bytes);
  std::vector<std::array<std::uint64_t, 2>> hashes((bytes.size() + kHashedPiece - 1) / kHashedPiece);
  run_on_all_cores(hashes.size(), [&](std::size_t i) {
    const std::span<const std::byte> rest = bytes.subspan(i * kHashedPiece);
    const Hash128 hash = hash128(rest.first(std::min(rest.size(), kHashedPiece)));
    hashes[i] = {hash.low, hash.high};
  });
  return hash128(std::as_bytes(std::span(hashes)));
}

Sha256 sha256(std::span<const std::byte> bytes) {
  static_assert(std::tuple_size_v<Sha256> == crypto_hash_sha256_BYTES);
  Sha256 hash{};
  crypto_hash_sha256(reinterpret_cast<unsigned char*>(hash.data()),
                     reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  return hash;
}

std::string to_string(const Sha256& hash) {
  std::string text;
  for (const std::byte byte : hash) text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return text;
}

}  // namespace tenfold
