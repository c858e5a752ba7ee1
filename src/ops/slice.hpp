// Every step-th element between start and end, along some axes.
#pragma once

#include <optional>
#include <vector>

#include "graph/graph.hpp"

namespace tenfold {

/// Attributes starts, ends, axes, steps (same length); or none, and inputs x, starts, ends, optional axes, optional
/// steps. Negative positions count from the end, positions outside are moved to the nearest end.
class Slice final : public Op {
 public:
  struct Range {
    std::int64_t axis, start, end, step;
  };
  Slice() = default;
  explicit Slice(std::vector<Range> ranges) : ranges_(std::move(ranges)) {}
  /// nullopt: they are inputs.
  const std::optional<std::vector<Range>>& ranges() const { return ranges_; }
  std::string_view type() const override { return "Slice"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  std::vector<int> shape_inputs() const override { return ranges_ ? std::vector<int>{} : std::vector<int>{1, 2, 3, 4}; }

 private:
  std::optional<std::vector<Range>> ranges_;
};

/// First element and number of elements of `range` on an axis of `size` elements.
struct SliceExtent {
  std::int64_t first, count;
};
SliceExtent slice_extent(const Slice::Range& range, std::int64_t size);

}  // namespace tenfold
