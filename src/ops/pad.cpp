// Source: ONNX operator sets 2 to 24, Pad. Before opset 11 pads and value are attributes.
#include "ops/pad.hpp"

#include <algorithm>

#include "ops/elementwise.hpp"
#include "ops/movement.hpp"

namespace tenfold {
namespace {

constexpr std::string_view kModeNames[] = {"constant", "reflect", "edge", "wrap"};
/// Keeps sums of a dimension and its padding far from overflow.
constexpr std::int64_t kMaxPad = std::int64_t{1} << 40;

PadMode mode_from(const Attributes& attributes) {
  const std::string name = attributes.get_string("mode", "constant");
  for (int i = 0; i < 4; ++i) {
    if (name == kModeNames[i]) return static_cast<PadMode>(i);
  }
  throw Error(Code::invalid_model, fmt::format("mode must be constant, reflect, edge or wrap, got '{}'", name));
}

void check_pads(const std::vector<std::int64_t>& pads) {
  for (const std::int64_t pad : pads) {
    require(-kMaxPad <= pad && pad <= kMaxPad, Code::invalid_model, "pads {} contain an impossible size",
            to_string(pads));
  }
}

/// Pads of some axes as pads of all. Works on numbers and on expressions.
template <typename T>
std::vector<T> full_pads(const std::vector<T>& pads, const std::optional<std::vector<std::int64_t>>& axes, int rank) {
  if (!axes) {
    require(pads.size() == 2 * static_cast<std::size_t>(rank), Code::invalid_model, "{} pads for {} axes", pads.size(),
            rank);
    return pads;
  }
  require(pads.size() == 2 * axes->size(), Code::invalid_model, "{} pads for {} axes", pads.size(), axes->size());
  std::vector<T> full(2 * static_cast<std::size_t>(rank), T(0));
  std::vector<bool> seen(static_cast<std::size_t>(rank), false);
  for (std::size_t i = 0; i < axes->size(); ++i) {
    const auto axis = static_cast<std::size_t>(check_axis((*axes)[i], rank));
    require(!seen[axis], Code::invalid_model, "axis {} is padded twice", axis);
    seen[axis] = true;
    full[axis] = pads[i];
    full[axis + static_cast<std::size_t>(rank)] = pads[i + axes->size()];
  }
  return full;
}

/// Which input position each output position of an axis shows.
std::vector<std::int64_t> source_positions(PadMode mode, std::int64_t size, std::int64_t before, std::int64_t padded) {
  std::vector<std::int64_t> positions(static_cast<std::size_t>(padded));
  for (std::int64_t i = 0; i < padded; ++i) {
    std::int64_t at = i - before;
    if (mode == PadMode::edge) {
      at = std::clamp<std::int64_t>(at, 0, size - 1);
    } else if (mode == PadMode::wrap) {
      at = (at % size + size) % size;
    } else if (size == 1) {
      at = 0;
    } else {
      // Reflection without repeating the border has period 2 (size - 1).
      const std::int64_t period = 2 * (size - 1);
      at = (at % period + period) % period;
      at = std::min(at, period - at);
    }
    positions[static_cast<std::size_t>(i)] = at;
  }
  return positions;
}

template <typename T>
void pad_constant(std::span<const std::int64_t> x, std::span<const std::int64_t> pads, const T* in,
                  std::span<const std::int64_t> y, const T& value, T* out) {
  std::fill_n(out, product_of(y, 0, y.size()), value);
  // What remains of the input after cropping, in both tensors.
  const Shape from = strides_of(x);
  const Shape to = strides_of(y);
  Shape dims;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::int64_t begin = std::max<std::int64_t>(0, -pads[i]);
    const std::int64_t end = std::min(x[i], y[i] - pads[i]);
    if (end <= begin) return;
    dims.push_back(end - begin);
    in += begin * from[i];
    out += (begin + pads[i]) * to[i];
  }
  copy_strided<T>(dims, in, from, out, to);
}

template <typename T>
void pad_by_position(std::span<const std::int64_t> x, const std::vector<std::vector<std::int64_t>>& positions,
                     const T* in, std::span<const std::int64_t> y, T* out) {
  const Shape strides = strides_of(x);
  const std::vector<std::int64_t>& last = positions.back();
  Shape index(y.size() - 1, 0);
  const std::int64_t rows = product_of(y, 0, y.size() - 1);
  for (std::int64_t row = 0; row < rows; ++row) {
    const T* from = in;
    for (std::size_t a = 0; a + 1 < y.size(); ++a)
      from += positions[a][static_cast<std::size_t>(index[a])] * strides[a];
    for (const std::int64_t position : last) *out++ = from[position];
    for (std::size_t a = y.size() - 1; a-- > 0;) {
      if (++index[a] < y[a]) break;
      index[a] = 0;
    }
  }
}

OpPtr make_pad(const Attributes& attributes) {
  std::optional<std::vector<std::int64_t>> pads;
  if (attributes.has("pads")) {
    pads = attributes.get_ints("pads");
    check_pads(*pads);
  }
  return std::make_shared<const Pad>(mode_from(attributes), std::move(pads), attributes.get_float("value", 0));
}

void import_pad(ImportNode& node) {
  require(node.has_input(0), Code::invalid_model, "input 0 is missing");
  const TensorType x = node.graph().value(node.input(0)).type;
  Attributes attributes{{"mode", node.attributes().get_string("mode", "constant")}};
  if (node.opset() < 11) {
    attributes.set("pads", node.attributes().get_ints("pads"));
    attributes.set("value", node.attributes().get_float("value", 0));
    node.set_output(0, node.add(make_pad(attributes), {node.input(0)}));
    return;
  }
  const auto pads = constant_integers(node, 1);
  std::optional<std::vector<std::int64_t>> axes;
  if (node.has_input(3)) axes = constant_integers(node, 3);
  std::optional<double> value = 0;
  if (node.has_input(2) && attributes.get_string("mode") == "constant") {
    const Tensor* tensor = node.graph().constant(node.input(2));
    value.reset();
    if (tensor != nullptr && tensor->num_elements() == 1 && tensor->dtype() == x.dtype) value = tensor->to_double()[0];
    // A double holds 64-bit integers up to 2^53 only.
    if (value && is_integer(x.dtype) && std::abs(*value) > 0x1p53) value.reset();
  }
  if (!pads || !value || (node.has_input(3) && !axes)) {
    node.set_output(0, node.add(make_pad(attributes), node.inputs()));
    return;
  }
  attributes.set("pads", full_pads(*pads, axes, x.rank()));
  attributes.set("value", *value);
  node.set_output(0, node.add(make_pad(attributes), {node.input(0)}));
}

}  // namespace

Attributes Pad::attributes() const {
  Attributes attributes{{"mode", std::string(kModeNames[static_cast<int>(mode_)])}};
  if (pads_) {
    attributes.set("pads", *pads_);
    attributes.set("value", value_);
  }
  return attributes;
}

void Pad::infer(InferContext& context) const {
  check_num_inputs(context, pads_ ? 1 : 2, pads_ ? 1 : 4);
  check_num_outputs(context, 1, 1);
  check_types(context, 0, Types::any);
  const TensorType x = context.input(0);
  std::optional<std::vector<Dim>> pads;
  bool axes_known = true;
  if (pads_) {
    pads = full_pads(std::vector<Dim>(pads_->begin(), pads_->end()), std::nullopt, x.rank());
  } else {
    check_rank(context, 1, 1, "pads");
    std::optional<std::vector<std::int64_t>> axes;
    if (context.has_input(3)) {
      axes = constant_integers(context, 3);
      axes_known = axes.has_value();
    }
    if (context.has_input(2)) {
      check_same_dtype(context, 2, "the value");
      require(!surely_differ(context.input(2).num_elements(), Dim(1)), Code::invalid_model,
              "the value must be a scalar, got {}", to_string(context.input(2)));
    }
    pads = known_integers(context, 1);
    if (pads && axes_known) pads = full_pads(*pads, axes, x.rank());
  }
  TensorType y = x;
  for (int axis = 0; axis < x.rank(); ++axis) {
    const auto a = static_cast<std::size_t>(axis);
    if (pads && axes_known) {
      y.dims[a] = x.dims[a] + (*pads)[a] + (*pads)[a + x.dims.size()];
      check_not_negative(y.dims[a], "a padded dimension");
    } else {
      y.dims[a] = context.fresh(0, axis);
    }
  }
  context.set_output(0, std::move(y));
}

void Pad::evaluate(EvalContext& context) const {
  const TensorView& x = context.input(0);
  const TensorView& y = context.output(0);
  std::vector<std::int64_t> pads;
  if (pads_) {
    pads = full_pads(*pads_, std::nullopt, x.rank());
  } else {
    std::optional<std::vector<std::int64_t>> axes;
    if (context.has_input(3)) axes = read_integers(context.input(3));
    pads = full_pads(read_integers(context.input(1)), axes, x.rank());
    check_pads(pads);
  }
  Shape dims(x.dims.begin(), x.dims.end());
  for (std::size_t i = 0; i < dims.size(); ++i) {
    dims[i] += pads[i] + pads[i + dims.size()];
    require(dims[i] >= 0, Code::invalid_argument, "axis {} of {} elements is cropped to {}", i, x.dims[i], dims[i]);
    require(mode_ == PadMode::constant || x.dims[i] > 0 || dims[i] == 0, Code::invalid_argument,
            "axis {} is empty and cannot be padded with its elements", i);
  }
  check_output(context, 0, dims);
  if (y.num_elements() == 0) return;
  dispatch(x.dtype, [&]<typename T>() {
    if (mode_ == PadMode::constant || x.rank() == 0) {
      T value{};
      if (!pads_ && context.has_input(2)) {
        require(context.input(2).num_elements() == 1, Code::invalid_argument, "the value must be a scalar");
        value = *context.input(2).as<const T>();
      } else {
        TensorView view{&value, x.dtype, {}, 1};
        store_doubles(std::span(&value_, 1), view);
      }
      pad_constant<T>(x.dims, pads, x.as<const T>(), y.dims, value, y.as<T>());
      return;
    }
    std::vector<std::vector<std::int64_t>> positions;
    for (std::size_t i = 0; i < dims.size(); ++i) {
      positions.push_back(source_positions(mode_, x.dims[i], pads[i], dims[i]));
    }
    pad_by_position(x.dims, positions, x.as<const T>(), y.dims, y.as<T>());
  });
}

const OpDef kPadDef{"Pad", make_pad, import_pad};

}  // namespace tenfold
