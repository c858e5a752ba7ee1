#include "build/profiles.hpp"

#include <algorithm>
#include <functional>
#include <set>

#include "ops/registry.hpp"

namespace tenfold {
namespace {

constexpr int kMaxBoundDepth = 64;

std::string at(const std::string& input, std::size_t axis) { return fmt::format("input '{}' axis {}", input, axis); }

using Replacement = std::function<std::optional<Dim>(const std::string&)>;

/// Sizes that operators hold as expressions: `dims` of Reshape, Expand and ConstantOfShape, `elements` of DimValues.
bool substitute_in_attributes(Graph& graph, const Replacement& value_of) {
  bool changed = false;
  for (NodeId id = 0; id < graph.node_limit(); ++id) {
    if (!graph.is_alive_node(id)) continue;
    Node& node = graph.node(id);
    for (Graph& block : node.blocks) changed = substitute_in_attributes(block, value_of) || changed;
    Attributes attributes = node.op->attributes();
    bool node_changed = false;
    for (const std::string name : {"dims", "elements"}) {
      const AttributeValue* found = attributes.find(name);
      if (found == nullptr || !std::holds_alternative<std::vector<std::string>>(*found)) continue;
      std::vector<std::string> texts = std::get<std::vector<std::string>>(*found);
      for (std::string& text : texts) {
        std::string replaced = Dim::parse(text).substitute(value_of).to_string();
        node_changed = node_changed || replaced != text;
        text = std::move(replaced);
      }
      attributes.set(name, std::move(texts));
    }
    if (!node_changed) continue;
    node.op = make_op(node.op->type(), attributes);
    changed = true;
  }
  return changed;
}

}  // namespace

ShapeRanges::ShapeRanges(const Graph& graph, const ProfileSpec& spec) {
  std::set<std::string> known;
  for (const ValueId id : graph.inputs()) {
    const Value& input = graph.value(id);
    known.insert(input.name);
    PlanRange range;
    if (const auto given = spec.find(input.name); given != spec.end()) {
      range = given->second;
    } else {
      require(input.type.is_static(), Code::invalid_argument,
              "input '{}' has the dynamic shape {}: give its min, opt and max shapes", input.name,
              to_string(input.type.dims));
      range = {input.type.static_shape(), input.type.static_shape(), input.type.static_shape()};
    }
    const auto rank = static_cast<std::size_t>(input.type.rank());
    for (const Shape* shape : {&range.min, &range.opt, &range.max}) {
      require(shape->size() == rank, Code::invalid_argument,
              "input '{}' has {} axes ({}), but the profile gives the shape {}", input.name, rank,
              to_string(input.type.dims), to_string(*shape));
    }
    for (std::size_t axis = 0; axis < rank; ++axis) {
      const std::int64_t low = range.min[axis];
      const std::int64_t best = range.opt[axis];
      const std::int64_t high = range.max[axis];
      require(0 <= low && low <= best && best <= high, Code::invalid_argument,
              "{}: the profile needs 0 <= min <= opt <= max, but has {}, {}, {}", at(input.name, axis), low, best,
              high);
      const Dim& dim = input.type.dims[axis];
      if (dim.is_constant()) {
        require(low == dim.constant() && high == dim.constant(), Code::invalid_argument,
                "{} is fixed to {} by the model, but the profile gives {}..{}", at(input.name, axis), dim.constant(),
                low, high);
        continue;
      }
      const std::optional<std::string> symbol = dim.as_symbol();
      if (!symbol) continue;  // an expression of other inputs' symbols: checked when it runs
      const auto [entry, is_new] = symbols_.try_emplace(*symbol, SymbolRange{{low, high}, best, at(input.name, axis)});
      if (is_new) continue;
      SymbolRange& seen = entry->second;
      require(seen.opt == best && seen.range == Interval{low, high}, Code::invalid_argument,
              "{} and {} are the same dimension '{}', but the profile gives {}..{} (opt {}) and {}..{} (opt {})",
              seen.where, at(input.name, axis), *symbol, seen.range.low, seen.range.high, seen.opt, low, high, best);
    }
    inputs_.push_back(std::move(range));
  }
  for (const auto& [name, range] : spec) {
    if (known.contains(name)) continue;
    require(false, Code::invalid_argument, "the profile names an input '{}' that the model does not have; it has: {}",
            name, fmt::join(known, ", "));
  }
  bounds_ = graph.symbol_bounds;
}

void ShapeRanges::add_bounds(const std::map<std::string, Dim>& symbol_bounds) {
  for (const auto& [symbol, bound] : symbol_bounds) bounds_.insert_or_assign(symbol, bound);
}

Interval ShapeRanges::range_of(const std::string& symbol, int depth) const {
  if (const auto found = symbols_.find(symbol); found != symbols_.end()) return found->second.range;
  const auto bound = bounds_.find(symbol);
  if (bound == bounds_.end() || depth > kMaxBoundDepth) return {0, kUnbounded};
  return {0, bound->second.bounds([&](const std::string& name) { return range_of(name, depth + 1); }).high};
}

Interval ShapeRanges::range(const Dim& dim) const {
  return dim.bounds([&](const std::string& symbol) { return range_of(symbol, 0); });
}

std::int64_t ShapeRanges::opt(const Dim& dim) const {
  return dim.evaluate([&](const std::string& symbol) -> std::int64_t {
    if (const auto found = symbols_.find(symbol); found != symbols_.end()) return found->second.opt;
    return std::min(range_of(symbol, 0).high, kAssumedSize);
  });
}

Shape ShapeRanges::max_shape(const TensorType& type) const {
  Shape shape;
  for (const Dim& dim : type.dims) shape.push_back(std::max<std::int64_t>(0, max(dim)));
  return shape;
}
Shape ShapeRanges::opt_shape(const TensorType& type) const {
  Shape shape;
  for (const Dim& dim : type.dims) shape.push_back(std::max<std::int64_t>(0, opt(dim)));
  return shape;
}

std::optional<std::uint64_t> ShapeRanges::max_bytes(const TensorType& type) const {
  __int128 bytes = static_cast<__int128>(size_of(type.dtype));
  for (const Dim& dim : type.dims) {
    bytes *= std::max<std::int64_t>(0, max(dim));
    if (bytes > (__int128{1} << 50)) return std::nullopt;
  }
  // The product of the bounds can exceed the bound of the product, when one axis grows as another shrinks.
  const std::int64_t elements = max(type.num_elements());
  bytes = std::min<__int128>(bytes, static_cast<__int128>(std::max<std::int64_t>(elements, 0)) * size_of(type.dtype));
  return static_cast<std::uint64_t>(bytes);
}

std::optional<std::int64_t> ShapeRanges::fixed(const std::string& symbol) const {
  const auto found = symbols_.find(symbol);
  if (found == symbols_.end() || found->second.range.low != found->second.range.high) return std::nullopt;
  return found->second.opt;
}

std::vector<ShapeRanges> resolve_profiles(const Graph& graph, std::span<const ProfileSpec> specs) {
  std::vector<ShapeRanges> profiles;
  if (specs.empty()) {
    std::string missing;
    for (const ValueId id : graph.inputs()) {
      const Value& input = graph.value(id);
      if (!input.type.is_static()) missing += fmt::format("\n  '{}': {}", input.name, to_string(input.type));
    }
    require(missing.empty(), Code::invalid_argument,
            "the model has dynamic inputs; give min, opt and max shapes (or one fixed shape) for each:{}", missing);
    profiles.emplace_back(graph, ProfileSpec{});
  }
  for (std::size_t i = 0; i < specs.size(); ++i) {
    try {
      profiles.emplace_back(graph, specs[i]);
    } catch (const Error& error) {
      throw error.in_context(fmt::format("profile {}", i));
    }
  }
  return profiles;
}

void specialize(Graph& graph, std::span<const ShapeRanges> profiles) {
  const auto value_of = [&](const std::string& symbol) -> std::optional<Dim> {
    const std::optional<std::int64_t> first = profiles[0].fixed(symbol);
    if (!first) return std::nullopt;
    for (const ShapeRanges& profile : profiles) {
      if (profile.fixed(symbol) != first) return std::nullopt;
    }
    return Dim(*first);
  };
  bool changed = substitute_in_attributes(graph, value_of);
  for (const ValueId id : graph.inputs()) {
    for (Dim& dim : graph.value(id).type.dims) {
      Dim replaced = dim.substitute(value_of);
      changed = changed || !(replaced == dim);
      dim = std::move(replaced);
    }
  }
  if (changed) graph.infer_types();
}

}  // namespace tenfold
