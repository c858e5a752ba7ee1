// Panels of 8-bit weights in an order in which 16-bit sums cannot saturate, see kernels/byte_product.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tenfold::cpu {

struct OrderedPanels {
  std::vector<std::byte> panels;
  std::vector<std::uint16_t> orders;
};

/// Appends the panels of a group by segments. `panels`: [panel][quad][column][4], each of one vector of columns. Adds
/// to where the sums of the group's columns `start` what products with the other sign leave there.
void append_ordered_panels(std::span<const std::byte> panels, std::int64_t depth, std::int64_t columns,
                           std::int64_t segment, std::span<std::int32_t> start, OrderedPanels& out);

}  // namespace tenfold::cpu
