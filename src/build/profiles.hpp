// Profiles: which shapes an engine accepts, and what that says about every dimension of the graph.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "build/builder.hpp"
#include "engine/plan.hpp"
#include "graph/graph.hpp"

namespace tenfold {

/// One profile against one graph: numbers for dimensions.
class ShapeRanges {
 public:
  /// `spec` per input name; inputs not listed must be static. Throws Error(invalid_argument) naming input and axis.
  ShapeRanges(const Graph& graph, const ProfileSpec& spec);

  const std::vector<PlanRange>& inputs() const { return inputs_; }
  /// Adds the symbols that a running kernel decides, of this graph and its blocks.
  void add_bounds(const std::map<std::string, Dim>& symbol_bounds);

  Interval range(const Dim& dim) const;
  std::int64_t max(const Dim& dim) const { return range(dim).high; }
  /// At the optimum; a size that only the running kernel knows counts as its bound, at most kAssumedSize.
  std::int64_t opt(const Dim& dim) const;
  Shape max_shape(const TensorType& type) const;
  Shape opt_shape(const TensorType& type) const;
  /// Bytes of the largest tensor of this type; nullopt when no bound is known.
  std::optional<std::uint64_t> max_bytes(const TensorType& type) const;
  /// The value if min = opt = max.
  std::optional<std::int64_t> fixed(const std::string& symbol) const;

 private:
  struct SymbolRange {
    Interval range;
    std::int64_t opt = 0;
    std::string where;  // "input 'x' axis 2"
  };
  Interval range_of(const std::string& symbol, int depth) const;

  std::vector<PlanRange> inputs_;
  std::map<std::string, SymbolRange> symbols_;
  std::map<std::string, Dim> bounds_;
};

inline constexpr std::int64_t kAssumedSize = 64;

/// All profiles; with none given, one made of the model's own static shapes.
/// Throws Error(invalid_argument) that lists the dynamic inputs when shapes are missing.
std::vector<ShapeRanges> resolve_profiles(const Graph& graph, std::span<const ProfileSpec> specs);

/// Replaces symbols that all profiles fix to the same number, so that the passes see static shapes.
void specialize(Graph& graph, std::span<const ShapeRanges> profiles);

}  // namespace tenfold
