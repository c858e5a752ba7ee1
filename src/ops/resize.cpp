// Resize: y[i] = sum over t of w(x - t) * input[t], with x the place of output i on the input's grid.
//   linear  w(d) = max(0, 1 - |d|)
//   cubic   w(d) = (a+2)|d|^3 - (a+3)|d|^2 + 1 for |d| <= 1;  a|d|^3 - 5a|d|^2 + 8a|d| - 4a for |d| < 2
// An antialiased axis that shrinks by s < 1 uses w(s * d), normalised. Source: ONNX operator sets 10 to 19, Resize and
// Upsample; Keys 1981 for the cubic kernel.
#include "ops/resize.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "ops/checks.hpp"
#include "ops/numbers.hpp"
#include "ops/registry.hpp"
#include "ops/shape_math.hpp"

namespace tenfold {
namespace {

constexpr double kMaxScale = 1 << 20;

constexpr std::array<std::string_view, 3> kModes{"nearest", "linear", "cubic"};
constexpr std::array<std::string_view, 7> kCoordinates{
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
    "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize"};
constexpr std::array<std::string_view, 5> kRoundings{"round_prefer_floor", "round_prefer_ceil", "floor", "ceil",
                                                     "simple"};
constexpr std::array<std::string_view, 3> kAspectRatios{"stretch", "not_larger", "not_smaller"};

template <typename Enum, std::size_t N>
Enum parse_enum(const Attributes& attributes, std::string_view name, const std::array<std::string_view, N>& names) {
  const std::string text = attributes.get_string(name, names[0]);
  const auto found = std::find(names.begin(), names.end(), text);
  require(found != names.end(), Code::invalid_model, "{} must be one of {}, got '{}'", name, fmt::join(names, ", "),
          text);
  return static_cast<Enum>(found - names.begin());
}

/// A scale as a fraction with a small denominator, if a float that close to one is meant: 0.7F is 7/10.
struct Fraction {
  std::int64_t numerator = 0, denominator = 0;
};
std::optional<Fraction> as_fraction(double scale) {
  for (std::int64_t q = 1; q <= 64; ++q) {
    const auto p = static_cast<std::int64_t>(std::llround(scale * static_cast<double>(q)));
    if (p < 1 || p > 4096) continue;
    if (static_cast<float>(static_cast<double>(p) / static_cast<double>(q)) == static_cast<float>(scale)) {
      return Fraction{p, q};
    }
  }
  return std::nullopt;
}

/// floor(input * scale); nullopt if that is no expression.
std::optional<Dim> scaled_size(const Dim& input, double scale) {
  if (const std::optional<Fraction> fraction = as_fraction(scale)) {
    return Dim::floordiv(input * fraction->numerator, fraction->denominator);
  }
  if (!input.is_constant()) return std::nullopt;
  // In float, as the scale is given: the product may round up to the whole number that was meant.
  return Dim(static_cast<std::int64_t>(std::floor(static_cast<float>(input.constant()) * static_cast<float>(scale))));
}

double cubic_weight(double distance, double a) {
  const double d = std::abs(distance);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  if (d < 2) return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  return 0;
}

void check_scales(const std::vector<double>& scales) {
  for (const double scale : scales) {
    require(scale > 0 && scale <= kMaxScale, Code::invalid_model, "a scale must be above 0 and at most {}, got {}",
            kMaxScale, scale);
  }
}

/// Spreads the entries for `axes` over all axes of a rank.
template <typename T>
std::vector<T> spread(const std::vector<T>& values, const std::vector<std::int64_t>& axes, int rank, T otherwise,
                      std::string_view what) {
  const std::size_t expected = axes.empty() ? static_cast<std::size_t>(rank) : axes.size();
  require(values.size() == expected, Code::invalid_model, "{} needs {} entries, got {}", what, expected, values.size());
  if (axes.empty()) return values;
  std::vector<T> full(static_cast<std::size_t>(rank), otherwise);
  for (std::size_t i = 0; i < axes.size(); ++i) full[static_cast<std::size_t>(check_axis(axes[i], rank))] = values[i];
  return full;
}

std::vector<double> spread_roi(const std::vector<double>& roi, const std::vector<std::int64_t>& axes, int rank) {
  const std::size_t half = roi.size() / 2;
  require(roi.size() % 2 == 0, Code::invalid_model, "the region of interest needs starts and ends");
  std::vector<double> full =
      spread({roi.begin(), roi.begin() + static_cast<std::ptrdiff_t>(half)}, axes, rank, 0.0, "the region of interest");
  const std::vector<double> ends =
      spread({roi.begin() + static_cast<std::ptrdiff_t>(half), roi.end()}, axes, rank, 1.0, "the region of interest");
  full.insert(full.end(), ends.begin(), ends.end());
  return full;
}

/// The common scale of all resized axes, for the policies that keep the aspect ratio.
double common_scale(Resize::AspectRatio policy, std::span<const std::int64_t> input,
                    const std::vector<std::int64_t>& sizes) {
  double scale = policy == Resize::AspectRatio::not_larger ? INFINITY : 0;
  for (std::size_t a = 0; a < sizes.size(); ++a) {
    if (sizes[a] < 0) continue;
    const double ratio = static_cast<double>(sizes[a]) / static_cast<double>(std::max<std::int64_t>(input[a], 1));
    scale = policy == Resize::AspectRatio::not_larger ? std::min(scale, ratio) : std::max(scale, ratio);
  }
  return scale;
}

OpPtr make_resize(const Attributes& attributes) {
  Resize::Spec spec;
  spec.mode = parse_enum<Resize::Mode>(attributes, "mode", kModes);
  spec.coordinates = parse_enum<Resize::Coordinates>(attributes, "coordinate_transformation_mode", kCoordinates);
  spec.rounding = parse_enum<Resize::Rounding>(attributes, "nearest_mode", kRoundings);
  spec.aspect_ratio = parse_enum<Resize::AspectRatio>(attributes, "keep_aspect_ratio_policy", kAspectRatios);
  spec.cubic_coeff_a = attributes.get_float("cubic_coeff_a", -0.75);
  spec.exclude_outside = attributes.get_int("exclude_outside", 0) != 0;
  spec.antialias = attributes.get_int("antialias", 0) != 0;
  spec.extrapolation_value = attributes.get_float("extrapolation_value", 0);
  spec.scales = attributes.get_floats("scales", {});
  spec.sizes = attributes.get_ints("sizes", {});
  spec.roi = attributes.get_floats("roi", {});
  spec.axes = attributes.get_ints("axes", {});
  check_scales(spec.scales);
  for (const std::int64_t size : spec.sizes) {
    require(-1 <= size && size <= (std::int64_t{1} << 40), Code::invalid_model, "sizes {} are outside the legal range",
            to_string(spec.sizes));
  }
  return std::make_shared<const Resize>(std::move(spec));
}

/// The attributes that Resize and Upsample share; scales and sizes where they are known.
void import_scaling(ImportNode& node, Attributes attributes, std::optional<std::vector<double>> scales,
                    ValueId scales_input, ValueId sizes_input, ValueId roi_input) {
  const Graph& graph = node.graph();
  const TensorType x = graph.value(node.input(0)).type;
  std::vector<std::int64_t> axes = attributes.get_ints("axes", {});
  for (std::int64_t& axis : axes) axis = check_axis(axis, x.rank());
  attributes.erase("axes");
  std::vector<ValueId> inputs{node.input(0), kNoValue, kNoValue, kNoValue};
  if (const Tensor* constant = graph.constant(scales_input); constant != nullptr && !scales) {
    scales = constant->to_double();
  }
  if (scales) {
    attributes.set("scales", spread(*scales, axes, x.rank(), 1.0, "scales"));
  } else if (scales_input != kNoValue) {
    inputs[Resize::kScales] = scales_input;
    if (!axes.empty()) attributes.set("axes", axes);
  } else {
    require(sizes_input != kNoValue, Code::invalid_model, "neither scales nor sizes are given");
    const Value& value = graph.value(sizes_input);
    std::optional<std::vector<Dim>> wanted = value.integers;
    if (value.constant) {
      const std::vector<std::int64_t> numbers = value.constant->to_int64();
      wanted = std::vector<Dim>(numbers.begin(), numbers.end());
    }
    bool is_known = wanted.has_value();
    if (wanted) {
      const std::vector<Dim> full = spread(*wanted, axes, x.rank(), Dim(-1), "sizes");
      std::vector<std::int64_t> sizes;
      std::vector<double> factors;
      bool all_multiples = attributes.get_string("keep_aspect_ratio_policy", "stretch") == "stretch";
      for (std::size_t a = 0; a < full.size(); ++a) {
        // An axis keeps its size where that is what is asked for, whatever it is.
        const bool keeps = full[a] == Dim(-1) || full[a] == x.dims[a];
        sizes.push_back(keeps ? -1 : full[a].is_constant() ? full[a].constant() : -2);
        double factor = 0;
        for (int k = 1; k <= 64 && factor == 0 && !x.dims[a].is_constant(); ++k) {
          if (full[a] == x.dims[a] * k) factor = k;
        }
        if (keeps) factor = 1;
        factors.push_back(factor);
        all_multiples = all_multiples && factor > 0;
      }
      is_known = std::find(sizes.begin(), sizes.end(), -2) == sizes.end();
      if (is_known) {
        attributes.set("sizes", sizes);
      } else if (all_multiples) {
        is_known = true;
        attributes.set("scales", factors);
      }
    }
    if (!is_known) {
      inputs[Resize::kSizes] = sizes_input;
      if (!axes.empty()) attributes.set("axes", axes);
    }
  }
  if (attributes.get_string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize") {
    require(roi_input != kNoValue, Code::invalid_model, "tf_crop_and_resize needs a region of interest");
    if (const Tensor* roi = graph.constant(roi_input)) {
      attributes.set("roi", spread_roi(roi->to_double(), axes, x.rank()));
    } else {
      inputs[Resize::kRoi] = roi_input;
      if (!axes.empty()) attributes.set("axes", axes);
    }
  }
  while (inputs.back() == kNoValue) inputs.pop_back();
  node.set_output(0, node.add(make_resize(attributes), inputs));
}

/// An input that is missing or an empty tensor counts as not given.
ValueId given_input(const ImportNode& node, int index) {
  if (!node.has_input(index)) return kNoValue;
  const Value& value = node.graph().value(node.input(index));
  const Dim count = value.type.num_elements();
  return count.is_constant() && count.constant() == 0 ? kNoValue : node.input(index);
}

void import_resize(ImportNode& node) {
  require(node.has_input(0), Code::invalid_model, "the input is missing");
  Attributes attributes = node.attributes();
  if (node.opset() < 11) {
    attributes.set("coordinate_transformation_mode", std::string("asymmetric"));
    attributes.set("nearest_mode", std::string("simple"));
    return import_scaling(node, attributes, std::nullopt, given_input(node, 1), kNoValue, kNoValue);
  }
  import_scaling(node, attributes, std::nullopt, given_input(node, 2), given_input(node, 3), given_input(node, 1));
}

void import_upsample(ImportNode& node) {
  require(node.has_input(0), Code::invalid_model, "the input is missing");
  Attributes attributes = node.attributes();
  std::optional<std::vector<double>> scales;
  if (attributes.has("scales")) scales = attributes.get_floats("scales");
  if (attributes.get_string("mode", "nearest") == "bilinear") attributes.set("mode", std::string("linear"));
  attributes.set("coordinate_transformation_mode", std::string("asymmetric"));
  attributes.set("nearest_mode", std::string("simple"));
  const ValueId input = given_input(node, 1);
  require(scales || input != kNoValue, Code::invalid_model, "scales are missing");
  import_scaling(node, attributes, scales, input, kNoValue, kNoValue);
}

}  // namespace

Attributes Resize::attributes() const {
  Attributes attributes{
      {"mode", std::string(kModes[static_cast<std::size_t>(spec_.mode)])},
      {"coordinate_transformation_mode", std::string(kCoordinates[static_cast<std::size_t>(spec_.coordinates)])}};
  if (spec_.mode == Mode::nearest) {
    attributes.set("nearest_mode", std::string(kRoundings[static_cast<std::size_t>(spec_.rounding)]));
  }
  if (spec_.aspect_ratio != AspectRatio::stretch) {
    attributes.set("keep_aspect_ratio_policy",
                   std::string(kAspectRatios[static_cast<std::size_t>(spec_.aspect_ratio)]));
  }
  if (spec_.mode == Mode::cubic) attributes.set("cubic_coeff_a", spec_.cubic_coeff_a);
  if (spec_.exclude_outside) attributes.set("exclude_outside", std::int64_t{1});
  if (spec_.antialias) attributes.set("antialias", std::int64_t{1});
  if (spec_.extrapolation_value != 0) attributes.set("extrapolation_value", spec_.extrapolation_value);
  if (!spec_.scales.empty()) attributes.set("scales", spec_.scales);
  if (!spec_.sizes.empty()) attributes.set("sizes", spec_.sizes);
  if (!spec_.roi.empty()) attributes.set("roi", spec_.roi);
  if (!spec_.axes.empty()) attributes.set("axes", spec_.axes);
  return attributes;
}

Resize::Place Resize::place(std::int64_t input, std::int64_t output, double scale, double start, double end) const {
  // The scale as a quotient, so that places that should be whole numbers are: x / scale = x * den / num.
  double num = static_cast<double>(output);
  double den = static_cast<double>(std::max<std::int64_t>(input, 1));
  if (scale != 0) {
    num = scale;
    den = 1;
    if (const std::optional<Fraction> fraction = as_fraction(scale)) {
      num = static_cast<double>(fraction->numerator);
      den = static_cast<double>(fraction->denominator);
    }
  }
  const auto in = static_cast<double>(input);
  const auto out = static_cast<double>(output);
  Place place{.shrinks = num < den};
  switch (spec_.coordinates) {
    case Coordinates::half_pixel_symmetric:
      place.offset = in / 2 * (1 - out / (num / den * in));
      [[fallthrough]];
    case Coordinates::half_pixel:
      place.step = 2 * den;
      place.start = den - num;
      place.divisor = 2 * num;
      break;
    case Coordinates::pytorch_half_pixel:
      place.step = output > 1 ? 2 * den : 0;
      place.start = output > 1 ? den - num : 0;
      place.divisor = 2 * num;
      break;
    case Coordinates::align_corners:
      place.step = output > 1 ? in - 1 : 0;
      place.divisor = output > 1 ? out - 1 : 1;
      break;
    case Coordinates::asymmetric:
      place.step = den;
      place.divisor = num;
      break;
    case Coordinates::tf_half_pixel_for_nn:
      place.step = 2 * den;
      place.start = den;
      place.divisor = 2 * num;
      break;
    case Coordinates::tf_crop_and_resize:
      place.offset = output > 1 ? start * (in - 1) : 0.5 * (start + end) * (in - 1);
      place.step = output > 1 ? (end - start) * (in - 1) : 0;
      place.divisor = output > 1 ? out - 1 : 1;
      break;
  }
  return place;
}

Resize::Table Resize::table(std::int64_t input, std::int64_t output, double scale, double start, double end) const {
  Table table;
  table.is_identity =
      input == output && (scale == 0 || scale == 1) && spec_.coordinates != Coordinates::tf_crop_and_resize;
  const Place line = place(input, output, scale, start, end);
  // How many outputs there are for one input, for antialiasing.
  const double factor =
      scale != 0 ? scale : static_cast<double>(output) / static_cast<double>(std::max<std::int64_t>(input, 1));
  const double shrink = spec_.antialias ? std::min(factor, 1.0) : 1.0;
  const auto in = static_cast<double>(input);
  const auto clamp = [&](double i) { return static_cast<std::int64_t>(std::clamp(i, 0.0, in - 1)); };

  // Neighbours reach from `first` to `last` around the element to the left of the place.
  std::int64_t first = 0;
  std::int64_t last = 0;
  if (spec_.mode != Mode::nearest) {
    const double radius = spec_.mode == Mode::linear ? 1 : 2;
    first = static_cast<std::int64_t>(std::floor(-radius / shrink)) + 1;
    last = 1 - first;
  }
  table.taps = static_cast<int>(last - first + 1);
  for (std::int64_t i = 0; i < output; ++i) {
    const double x = line.at(static_cast<double>(i));
    if (spec_.coordinates == Coordinates::tf_crop_and_resize) table.outside.push_back(x < 0 || x > in - 1 ? 1 : 0);
    if (spec_.mode == Mode::nearest) {
      double nearest = std::floor(x);
      switch (spec_.rounding) {
        case Rounding::round_prefer_floor:
          nearest = std::ceil(x - 0.5);
          break;
        case Rounding::round_prefer_ceil:
          nearest = std::floor(x + 0.5);
          break;
        case Rounding::floor:
          break;
        case Rounding::ceil:
          nearest = std::ceil(x);
          break;
        case Rounding::simple:
          nearest = line.shrinks ? std::ceil(x) : std::trunc(x);
          break;
      }
      table.index.push_back(clamp(nearest));
      table.weight.push_back(1);
      continue;
    }
    const double base = std::ceil(x) - 1;  // a whole place counts as the right neighbour of the one before
    double sum = 0;
    const std::size_t begin = table.weight.size();
    for (std::int64_t k = first; k <= last; ++k) {
      const double neighbour = base + static_cast<double>(k);
      const double distance = (neighbour - x) * shrink;
      double weight = spec_.mode == Mode::linear ? std::max(0.0, 1 - std::abs(distance))
                                                 : cubic_weight(distance, spec_.cubic_coeff_a);
      if (spec_.exclude_outside && (neighbour < 0 || neighbour > in - 1)) weight = 0;
      sum += weight;
      table.index.push_back(clamp(neighbour));
      table.weight.push_back(weight);
    }
    if ((spec_.exclude_outside || shrink < 1) && sum != 0) {
      for (std::size_t k = begin; k < table.weight.size(); ++k) table.weight[k] /= sum;
    }
  }
  return table;
}

void Resize::infer(InferContext& context) const {
  check_num_inputs(context, 1, 4);
  check_num_outputs(context, 1, 1);
  const TensorType& x = context.input(0);
  const int rank = x.rank();
  require(x.dtype != DType::boolean || spec_.mode == Mode::nearest, Code::invalid_model,
          "bools cannot be interpolated");
  TensorType result = x;
  const auto unknown = [&](std::size_t a, std::optional<Dim> at_most = std::nullopt) {
    return context.fresh(0, static_cast<int>(a), std::move(at_most));
  };
  std::vector<double> scales = spec_.scales;
  require(scales.empty() || std::ssize(scales) == rank, Code::invalid_model, "{} scales for an input of rank {}",
          scales.size(), rank);
  const bool scales_as_input = scales.empty() && context.has_input(kScales);
  if (scales_as_input) {
    const std::int64_t count = spec_.axes.empty() ? rank : std::ssize(spec_.axes);
    check_float(context, kScales, "scales");
    check_dim(context.input(kScales).num_elements(), count, "the number of scales");
    if (const Tensor* tensor = context.constant(kScales)) {
      scales = spread(tensor->to_double(), spec_.axes, rank, 1.0, "scales");
      check_scales(scales);
    }
  }
  if (!scales.empty() || scales_as_input) {
    for (std::size_t a = 0; a < x.dims.size(); ++a) {
      if (scales.empty()) {
        const bool listed = spec_.axes.empty() ||
                            std::any_of(spec_.axes.begin(), spec_.axes.end(),
                                        [&](std::int64_t i) { return check_axis(i, rank) == static_cast<int>(a); });
        if (listed) result.dims[a] = unknown(a);
      } else if (const std::optional<Dim> size = scaled_size(x.dims[a], scales[a])) {
        result.dims[a] = *size;
      } else {
        result.dims[a] = unknown(a, x.dims[a] * static_cast<std::int64_t>(std::ceil(scales[a])));
      }
    }
  } else {
    std::optional<std::vector<Dim>> sizes;
    if (!spec_.sizes.empty()) {
      sizes.emplace(spec_.sizes.begin(), spec_.sizes.end());
    } else {
      require(context.has_input(kSizes), Code::invalid_model, "neither scales nor sizes are given");
      sizes = known_integers(context, kSizes);
      const std::int64_t count = spec_.axes.empty() ? rank : std::ssize(spec_.axes);
      check_dim(context.input(kSizes).num_elements(), count, "the number of sizes");
      if (sizes) {
        sizes = spread(*sizes, spec_.axes, rank, Dim(-1), "sizes");
      } else {
        sizes.emplace();
        for (std::size_t a = 0; a < x.dims.size(); ++a) {
          const bool listed = spec_.axes.empty() ||
                              std::any_of(spec_.axes.begin(), spec_.axes.end(),
                                          [&](std::int64_t i) { return check_axis(i, rank) == static_cast<int>(a); });
          sizes->push_back(listed ? unknown(a) : Dim(-1));
        }
      }
    }
    require(std::ssize(*sizes) == rank, Code::invalid_model, "{} sizes for an input of rank {}", sizes->size(), rank);
    const auto is_number = [](const Dim& d) { return d.is_constant(); };
    if (spec_.aspect_ratio != AspectRatio::stretch) {
      const bool known = x.is_static() && std::all_of(sizes->begin(), sizes->end(), is_number);
      std::vector<std::int64_t> numbers;
      if (known) {
        for (const Dim& size : *sizes) numbers.push_back(size.constant());
      }
      for (std::size_t a = 0; a < x.dims.size(); ++a) {
        if ((*sizes)[a] == Dim(-1)) continue;
        if (!known) {
          result.dims[a] = unknown(a);
          continue;
        }
        const double scale = common_scale(spec_.aspect_ratio, x.static_shape(), numbers);
        result.dims[a] = static_cast<std::int64_t>(std::floor(scale * static_cast<double>(x.dims[a].constant()) + 0.5));
      }
    } else {
      for (std::size_t a = 0; a < x.dims.size(); ++a) {
        if ((*sizes)[a] != Dim(-1)) result.dims[a] = check_not_negative((*sizes)[a], "a size");
      }
    }
  }
  require(spec_.roi.empty() || std::ssize(spec_.roi) == 2 * rank, Code::invalid_model,
          "a region of interest of {} numbers for rank {}", spec_.roi.size(), rank);
  if (spec_.coordinates == Coordinates::tf_crop_and_resize && spec_.roi.empty()) {
    require(context.has_input(kRoi), Code::invalid_model, "tf_crop_and_resize needs a region of interest");
    check_float(context, kRoi, "the region of interest");
  }
  context.set_output(0, std::move(result));
}

void Resize::evaluate(EvalContext& context) const {
  const TensorView& x = context.input(0);
  const TensorView& y = context.output(0);
  const int rank = x.rank();
  std::vector<double> scales = spec_.scales;
  if (scales.empty() && context.has_input(kScales)) {
    scales = spread(load_doubles(context.input(kScales)), spec_.axes, rank, 1.0, "scales");
    check_scales(scales);
  }
  if (scales.empty()) {
    scales.assign(static_cast<std::size_t>(rank), 0);
    if (spec_.aspect_ratio != AspectRatio::stretch) {
      const std::vector<std::int64_t> sizes =
          spec_.sizes.empty() ? spread(load_int64(context.input(kSizes)), spec_.axes, rank, std::int64_t{-1}, "sizes")
                              : spec_.sizes;
      for (std::size_t a = 0; a < scales.size(); ++a) {
        if (sizes[a] >= 0) scales[a] = common_scale(spec_.aspect_ratio, x.dims, sizes);
      }
    }
  }
  std::vector<double> roi = spec_.roi;
  if (roi.empty() && context.has_input(kRoi)) roi = spread_roi(load_doubles(context.input(kRoi)), spec_.axes, rank);

  ensure(y.rank() == rank && static_cast<int>(scales.size()) == rank, "resizing of inconsistent ranks");
  std::vector<double> values = load_doubles(x);
  Shape shape(x.dims.begin(), x.dims.end());
  const auto all = static_cast<std::size_t>(rank);
  std::vector<std::vector<std::uint8_t>> outside(all);
  for (std::size_t a = 0; a < all; ++a) {
    const Table steps = roi.size() == 2 * all ? table(shape[a], y.dims[a], scales[a], roi[a], roi[a + all])
                                              : table(shape[a], y.dims[a], scales[a]);
    outside[a] = steps.outside;
    if (steps.is_identity) continue;
    require(shape[a] > 0 || y.dims[a] == 0, Code::invalid_model, "an empty axis cannot be enlarged");
    std::int64_t outer = 1;
    std::int64_t inner = 1;
    for (std::size_t i = 0; i < a; ++i) outer *= shape[i];
    for (std::size_t i = a + 1; i < all; ++i) inner *= shape[i];
    std::vector<double> next(static_cast<std::size_t>(outer * y.dims[a] * inner));
    for (std::int64_t o = 0; o < outer; ++o) {
      for (std::int64_t i = 0; i < y.dims[a]; ++i) {
        double* to = next.data() + (o * y.dims[a] + i) * inner;
        for (int t = 0; t < steps.taps; ++t) {
          const auto tap = static_cast<std::size_t>(i * steps.taps + t);
          const double weight = steps.weight[tap];
          if (weight == 0) continue;
          const double* from = values.data() + (o * shape[a] + steps.index[tap]) * inner;
          for (std::int64_t k = 0; k < inner; ++k) to[k] += weight * from[k];
        }
      }
    }
    values = std::move(next);
    shape[a] = y.dims[a];
  }
  ensure(std::equal(shape.begin(), shape.end(), y.dims.begin(), y.dims.end()), "resizing of inconsistent shapes");
  if (std::any_of(outside.begin(), outside.end(), [](const auto& flags) { return !flags.empty(); })) {
    const Shape strides = strides_of(shape);
    for (std::size_t a = 0; a < all; ++a) {
      for (std::size_t i = 0; i < values.size() && !outside[a].empty(); ++i) {
        const auto index = static_cast<std::int64_t>(i) / strides[a] % shape[a];
        if (outside[a][static_cast<std::size_t>(index)] != 0) values[i] = spec_.extrapolation_value;
      }
    }
  }
  if (is_integer(y.dtype)) {
    for (double& value : values) value = std::trunc(value);  // conversion to an integer drops the fraction
  }
  store_doubles(values, y);
}

const OpDef kResizeDef{"Resize", make_resize, import_resize};
const OpDef kUpsampleDef{"Upsample", nullptr, import_upsample};

}  // namespace tenfold
