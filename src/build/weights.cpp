#include "build/weights.hpp"

#include <cstring>


namespace tenfold {

PlanWeight WeightSection::add(std::span<const std::byte> bytes) {
  constexpr std::size_t kAlignment = 64;
  const auto [entry, is_new] = places_.try_emplace(std::pair(hash128(bytes), bytes.size()));
  if (!is_new) return entry->second;
  const std::size_t offset = bytes_.size();
  bytes_.resize((offset + bytes.size() + kAlignment - 1) / kAlignment * kAlignment);
  if (!bytes.empty()) std::memcpy(bytes_.data() + offset, bytes.data(), bytes.size());
  entry->second = {offset, bytes.size()};
  return entry->second;
}

}  // namespace tenfold
