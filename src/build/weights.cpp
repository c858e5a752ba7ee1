#include "build/weights.hpp"

namespace tenfold {

PlanWeight WeightSection::add(std::span<const std::byte> bytes) {
  constexpr std::size_t kAlignment = 64;
  const auto [entry, is_new] = places_.try_emplace(std::pair(hash128(bytes), bytes.size()));
  if (!is_new) return entry->second;
  const std::size_t offset = bytes_.size();
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  bytes_.resize((bytes_.size() + kAlignment - 1) / kAlignment * kAlignment);
  entry->second = {offset, bytes.size()};
  return entry->second;
}

}  // namespace tenfold
