// The weights section of an engine under construction: aligned, each distinct run of bytes once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "base/hash.hpp"
#include "engine/plan.hpp"

namespace tenfold {

class WeightSection {
 public:
  /// Makes room for so many bytes, that they need not be moved again and again while the section grows.
  void reserve(std::size_t bytes) { bytes_.reserve(bytes); }
  /// Returns where the bytes are; equal bytes share their place.
  PlanWeight add(std::span<const std::byte> bytes);
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
  std::map<std::pair<Hash128, std::size_t>, PlanWeight> places_;
};

}  // namespace tenfold
