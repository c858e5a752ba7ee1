// A secret of this machine's user, to recognise what was made here: a file is sealed with it when it is written, and
// the seal is checked when it is read. Nobody without the key can make a seal.
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace tenfold {

/// Keyed BLAKE2b-256 (RFC 7693) over the length and the bytes of each part. All zeros: not sealed.
using Seal = std::array<std::byte, 32>;

/// The key lies in $XDG_CONFIG_HOME/tenfold/machine.key, or ~/.config/tenfold/machine.key, readable by its owner only,
/// and is made on first use. Where no key can be read or made the seal is all zeros and proves nothing.
Seal seal_here(std::span<const std::span<const std::byte>> parts);
bool is_sealed_here(std::span<const std::span<const std::byte>> parts, const Seal& seal);

}  // namespace tenfold
