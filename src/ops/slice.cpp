// Source: ONNX operator sets 1 to 13, Slice. Before opset 10 the positions are attributes.
#include "ops/slice.hpp"

#include <algorithm>
#include <limits>

#include "ops/checks.hpp"
#include "ops/movement.hpp"
#include "ops/numbers.hpp"
#include "ops/shape_math.hpp"

namespace tenfold {
namespace {

/// Exporters write "to the end" as the largest integer of 32 or 64 bits.
constexpr std::int64_t kToTheEnd = std::numeric_limits<std::int32_t>::max();

bool is_proven_negative(const Dim& dim) { return is_nonnegative(-dim - Dim(1)); }

/// The number of elements as an expression; nullopt when a position may be counted from either end.
std::optional<Dim> sliced_size(const Dim& size, const Dim& start, const Dim& end, const Dim& step_dim) {
  if (!step_dim.is_constant()) return std::nullopt;
  const std::int64_t step = step_dim.constant();
  if (size.is_constant() && start.is_constant() && end.is_constant()) {
    return Dim(slice_extent({0, start.constant(), end.constant(), step}, size.constant()).count);
  }
  const auto is_at_least = [](const Dim& dim, std::int64_t bound) {
    return dim.is_constant() && dim.constant() >= bound;
  };
  const auto is_at_most = [](const Dim& dim, std::int64_t bound) {
    return dim.is_constant() && dim.constant() <= bound;
  };
  if (step > 0) {
    // A start beyond the size gives a count below 0, so it needs no limit of its own.
    Dim from = start;
    if (is_at_most(start, -kToTheEnd)) {
      from = Dim(0);
    } else if (is_proven_negative(start)) {
      from = Dim::max(size + start, Dim(0));
    } else if (!is_nonnegative(start)) {
      return std::nullopt;
    }
    if (is_at_least(end, kToTheEnd) || end == size) {
      if (step == 1 && is_proven_negative(start) && !(from == Dim(0)))
        return Dim::min(size, -start);  // the last -start elements
      return Dim::max(divided_up(size - from, step), Dim(0));
    }
    Dim to(0);
    if (is_proven_negative(end)) {
      to = size + end;  // below 0: so is the count
    } else if (is_nonnegative(end)) {
      to = Dim::min(end, size);
    } else {
      return std::nullopt;
    }
    return Dim::max(divided_up(to - from, step), Dim(0));
  }
  Dim from(0);
  if (is_at_least(start, kToTheEnd)) {
    from = size - Dim(1);
  } else if (is_proven_negative(start)) {
    from = start == Dim(-1) ? size - Dim(1) : Dim::max(size + start, Dim(0));
  } else if (is_nonnegative(start)) {
    from = Dim::min(start, size - Dim(1));
  } else {
    return std::nullopt;
  }
  Dim to(-1);
  if (!is_at_most(end, -kToTheEnd)) {
    if (is_proven_negative(end)) {
      to = Dim::max(size + end, Dim(-1));
    } else if (is_nonnegative(end)) {
      to = Dim::min(end, size - Dim(1));
    } else {
      return std::nullopt;
    }
  }
  // An empty axis has a `from` that Dim::max may have lifted to 0; the number of elements stays below the size.
  return Dim::min(
      Dim::max(divided_up(from - to, step == std::numeric_limits<std::int64_t>::min() ? kUnbounded : -step), Dim(0)),
      size);
}

template <typename T>
void slice(std::span<const std::int64_t> in_dims, const std::vector<Slice::Range>& ranges, const T* in, T* out) {
  Shape dims(in_dims.begin(), in_dims.end());
  Shape from = strides_of(in_dims);
  for (const Slice::Range& range : ranges) {
    const auto axis = static_cast<std::size_t>(range.axis);
    const SliceExtent extent = slice_extent(range, in_dims[axis]);
    if (extent.count == 0) return;
    in += extent.first * from[axis];
    from[axis] *= extent.count > 1 ? range.step : 1;
    dims[axis] = extent.count;
  }
  copy_strided<T>(dims, in, from, out, strides_of(dims));
}

/// Axes from the front, each once; steps other than 0.
void check_ranges(std::vector<Slice::Range>& ranges, int rank) {
  std::vector<bool> seen(static_cast<std::size_t>(rank), false);
  for (Slice::Range& range : ranges) {
    range.axis = check_axis(range.axis, rank);
    require(!seen[static_cast<std::size_t>(range.axis)], Code::invalid_model, "axis {} is sliced twice", range.axis);
    seen[static_cast<std::size_t>(range.axis)] = true;
  }
}

std::vector<Slice::Range> zip(const std::vector<std::int64_t>& starts, const std::vector<std::int64_t>& ends,
                              std::optional<std::vector<std::int64_t>> axes,
                              std::optional<std::vector<std::int64_t>> steps) {
  const std::size_t count = starts.size();
  if (!axes) {
    axes.emplace(count);
    for (std::size_t i = 0; i < count; ++i) (*axes)[i] = static_cast<std::int64_t>(i);
  }
  if (!steps) steps.emplace(count, 1);
  require(ends.size() == count && axes->size() == count && steps->size() == count, Code::invalid_model,
          "{} starts, {} ends, {} axes and {} steps must be equally many", count, ends.size(), axes->size(),
          steps->size());
  std::vector<Slice::Range> ranges;
  for (std::size_t i = 0; i < count; ++i) {
    require((*steps)[i] != 0, Code::invalid_model, "a step is 0");
    ranges.push_back({(*axes)[i], starts[i], ends[i], (*steps)[i]});
  }
  return ranges;
}

OpPtr make_slice(const Attributes& attributes) {
  if (!attributes.has("starts")) return std::make_shared<const Slice>();
  std::optional<std::vector<std::int64_t>> axes;
  std::optional<std::vector<std::int64_t>> steps;
  if (attributes.has("axes")) axes = attributes.get_ints("axes");
  if (attributes.has("steps")) steps = attributes.get_ints("steps");
  return std::make_shared<const Slice>(
      zip(attributes.get_ints("starts"), attributes.get_ints("ends"), std::move(axes), std::move(steps)));
}

void import_slice(ImportNode& node) {
  require(node.has_input(0), Code::invalid_model, "input 0 is missing");
  const int rank = node.graph().value(node.input(0)).type.rank();
  std::optional<std::vector<std::int64_t>> starts;
  std::optional<std::vector<std::int64_t>> ends;
  std::optional<std::vector<std::int64_t>> axes;
  std::optional<std::vector<std::int64_t>> steps;
  bool known = true;
  if (node.opset() < 10) {
    starts = node.attributes().get_ints("starts");
    ends = node.attributes().get_ints("ends");
    if (node.attributes().has("axes")) axes = node.attributes().get_ints("axes");
  } else {
    starts = constant_integers(node, 1);
    ends = constant_integers(node, 2);
    if (node.has_input(3)) axes = constant_integers(node, 3);
    if (node.has_input(4)) steps = constant_integers(node, 4);
    known = starts && ends && (axes || !node.has_input(3)) && (steps || !node.has_input(4));
  }
  if (!known) {
    node.set_output(0, node.add(std::make_shared<const Slice>(), node.inputs()));
    return;
  }
  std::vector<Slice::Range> ranges = zip(*starts, *ends, std::move(axes), std::move(steps));
  check_ranges(ranges, rank);
  node.set_output(0, node.add(std::make_shared<const Slice>(std::move(ranges)), {node.input(0)}));
}

}  // namespace

SliceExtent slice_extent(const Slice::Range& range, std::int64_t size) {
  if (size == 0) return {0, 0};
  const bool forward = range.step > 0;
  const auto place = [size](std::int64_t position, std::int64_t low, std::int64_t high) {
    if (position < 0) position = position < -size ? low : position + size;
    return std::clamp(position, low, high);
  };
  const std::int64_t first = place(range.start, 0, forward ? size : size - 1);
  const std::int64_t last = place(range.end, forward ? 0 : -1, forward ? size : size - 1);
  const std::int64_t distance = forward ? last - first : first - last;
  if (distance <= 0) return {first, 0};
  // The lowest step has no negative; any step as large as the axis takes one element.
  const std::int64_t stride = forward ? range.step : -std::max(range.step, -size);
  return {first, (distance - 1) / stride + 1};
}

Attributes Slice::attributes() const {
  if (!ranges_) return {};
  std::vector<std::int64_t> starts, ends, axes, steps;
  for (const Range& range : *ranges_) {
    starts.push_back(range.start);
    ends.push_back(range.end);
    axes.push_back(range.axis);
    steps.push_back(range.step);
  }
  return {
      {"starts", std::move(starts)}, {"ends", std::move(ends)}, {"axes", std::move(axes)}, {"steps", std::move(steps)}};
}

void Slice::infer(InferContext& context) const {
  check_num_inputs(context, ranges_ ? 1 : 3, ranges_ ? 1 : 5);
  check_num_outputs(context, 1, 1);
  const TensorType x = context.input(0);
  TensorType y = x;

  std::optional<std::vector<Range>> ranges = ranges_;
  std::size_t count = 0;
  std::array<std::optional<std::vector<Dim>>, 5> known;
  if (!ranges_) {
    for (int i = 1; i <= 4; ++i) {
      if (context.has_input(i)) {
        check_rank(context, i, 1, "a list of positions");
        known[static_cast<std::size_t>(i)] = known_integers(context, i);
      }
    }
    // Exact numbers: expressions cannot hold the largest integers.
    std::array<std::optional<std::vector<std::int64_t>>, 5> numbers;
    bool all = true;
    for (int i = 1; i <= 4; ++i) {
      if (!context.has_input(i)) continue;
      numbers[static_cast<std::size_t>(i)] = constant_integers(context, i);
      all = all && numbers[static_cast<std::size_t>(i)];
    }
    if (all) ranges = zip(*numbers[1], *numbers[2], numbers[3], numbers[4]);
  }
  if (ranges) {
    check_ranges(*ranges, x.rank());
    for (const Range& range : *ranges) {
      Dim& dim = y.dims[static_cast<std::size_t>(range.axis)];
      const std::optional<Dim> size = sliced_size(dim, Dim(range.start), Dim(range.end), Dim(range.step));
      ensure(size.has_value(), "a slice between constants has no size");
      dim = *size;
    }
    context.set_output(0, y);
    pass_moved_integers(context, y, [&](const Dim* from, Dim* to) { slice(x.static_shape(), *ranges, from, to); });
    return;
  }

  // Which axes are touched must be known to say anything about the others.
  std::optional<std::vector<std::int64_t>> axes;
  const auto& lengths = context.input(1).dims[0];
  if (context.has_input(3)) {
    axes = constant_integers(context, 3);
  } else if (lengths.is_constant() && lengths.constant() <= x.rank()) {
    axes.emplace();
    for (std::int64_t i = 0; i < lengths.constant(); ++i) axes->push_back(i);
  }
  if (!axes) {
    for (int axis = 0; axis < x.rank(); ++axis) {
      y.dims[static_cast<std::size_t>(axis)] = context.fresh(0, axis, x.dims[static_cast<std::size_t>(axis)]);
    }
    context.set_output(0, std::move(y));
    return;
  }
  count = axes->size();
  for (std::size_t i = 1; i <= 4; ++i) {
    require(!known[i] || known[i]->size() == count, Code::invalid_model,
            "starts, ends, axes and steps must be equally many");
  }
  std::vector<bool> seen(y.dims.size(), false);
  for (std::size_t i = 0; i < count; ++i) {
    const int axis = check_axis((*axes)[i], x.rank());
    const auto a = static_cast<std::size_t>(axis);
    require(!seen[a], Code::invalid_model, "axis {} is sliced twice", axis);
    seen[a] = true;
    std::optional<Dim> size;
    if (known[1] && known[2] && (known[4] || !context.has_input(4))) {
      const Dim step = known[4] ? (*known[4])[i] : Dim(1);
      require(!(step == Dim(0)), Code::invalid_model, "a step is 0");
      size = sliced_size(x.dims[a], (*known[1])[i], (*known[2])[i], step);
    }
    y.dims[a] = size ? *size : context.fresh(0, axis, x.dims[a]);
  }
  context.set_output(0, std::move(y));
}

void Slice::evaluate(EvalContext& context) const {
  const TensorView& x = context.input(0);
  std::vector<Range> ranges;
  if (ranges_) {
    ranges = *ranges_;
  } else {
    const auto read = [&](int i) -> std::optional<std::vector<std::int64_t>> {
      if (!context.has_input(i)) return std::nullopt;
      return read_integers(context.input(i));
    };
    ranges = zip(*read(1), *read(2), read(3), read(4));
  }
  check_ranges(ranges, x.rank());
  Shape dims(x.dims.begin(), x.dims.end());
  for (const Range& range : ranges) {
    std::int64_t& dim = dims[static_cast<std::size_t>(range.axis)];
    dim = slice_extent(range, dim).count;
  }
  check_output(context, 0, dims);
  dispatch_bits(x.dtype, [&]<typename T>() { slice(x.dims, ranges, x.as<const T>(), context.output(0).as<T>()); });
}

const OpDef kSliceDef{"Slice", make_slice, import_slice};

}  // namespace tenfold
