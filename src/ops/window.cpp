#include "ops/window.hpp"

#include <algorithm>

#include "ops/checks.hpp"
#include "ops/numbers.hpp"

namespace tenfold {
namespace {

// Larger numbers are no network; below it no product or sum of two overflows.
constexpr std::int64_t kMaxExtent = std::int64_t{1} << 30;

constexpr std::array<std::string_view, 4> kAutoPads{"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"};

AutoPad auto_pad_from(const Attributes& attributes) {
  const std::string name = attributes.get_string("auto_pad", "NOTSET");
  if (name.empty()) return AutoPad::notset;
  for (std::size_t i = 0; i < kAutoPads.size(); ++i) {
    if (kAutoPads[i] == name) return static_cast<AutoPad>(i);
  }
  throw Error(Code::invalid_model,
              fmt::format("auto_pad must be NOTSET, SAME_UPPER, SAME_LOWER or VALID, got '{}'", name));
}

void check_range(const std::vector<std::int64_t>& values, std::size_t count, std::int64_t low, std::string_view name) {
  require(values.size() == count, Code::invalid_model, "{} needs {} entries, got {}", name, count, values.size());
  for (const std::int64_t v : values) {
    require(low <= v && v <= kMaxExtent, Code::invalid_model, "{} must be {} to {}, got {}", name, low, kMaxExtent, v);
  }
}

/// Padding that keeps ceil(input / stride) outputs.
std::array<std::int64_t, 2> same_padding(std::int64_t total, AutoPad mode) {
  total = std::max<std::int64_t>(total, 0);
  const std::int64_t less = total / 2;
  if (mode == AutoPad::same_upper) return {less, total - less};
  return {total - less, less};
}

}  // namespace

std::string_view to_string(ImageLayout layout) { return layout == ImageLayout::nchw ? "nchw" : "nhwc"; }

ImageLayout layout_from(const Attributes& attributes) {
  const std::string name = attributes.get_string("layout", "nchw");
  if (name == "nchw") return ImageLayout::nchw;
  require(name == "nhwc", Code::invalid_model, "layout must be nchw or nhwc, got '{}'", name);
  return ImageLayout::nhwc;
}

bool Window::is_unit_stride() const {
  return std::all_of(strides.begin(), strides.end(), [](std::int64_t s) { return s == 1; });
}

bool Window::has_padding() const {
  return auto_pad == AutoPad::same_lower || auto_pad == AutoPad::same_upper ||
         std::any_of(pads.begin(), pads.end(), [](std::int64_t p) { return p != 0; });
}

Window Window::from(const Attributes& attributes) {
  Window window;
  window.strides = attributes.get_ints("strides");
  const std::size_t rank = window.strides.size();
  require(1 <= rank && rank <= 3, Code::unsupported, "windows over {} spatial axes are not supported, only 1 to 3",
          rank);
  check_range(window.strides, rank, 1, "strides");
  window.pads = attributes.get_ints("pads", std::vector<std::int64_t>(2 * rank, 0));
  check_range(window.pads, 2 * rank, 0, "pads");
  window.dilations = attributes.get_ints("dilations", std::vector<std::int64_t>(rank, 1));
  check_range(window.dilations, rank, 1, "dilations");
  window.auto_pad = auto_pad_from(attributes);
  if (window.auto_pad != AutoPad::notset) window.pads.assign(2 * rank, 0);
  if (window.auto_pad == AutoPad::valid) window.auto_pad = AutoPad::notset;  // the same as no padding
  const std::int64_t ceil_mode = attributes.get_int("ceil_mode", 0);
  require(ceil_mode == 0 || ceil_mode == 1, Code::invalid_model, "ceil_mode must be 0 or 1, got {}", ceil_mode);
  window.ceil_mode = ceil_mode == 1;
  return window;
}

void Window::store(Attributes& attributes) const {
  attributes.set("strides", strides);
  attributes.set("pads", pads);
  attributes.set("dilations", dilations);
  if (auto_pad != AutoPad::notset)
    attributes.set("auto_pad", std::string(kAutoPads[static_cast<std::size_t>(auto_pad)]));
  if (ceil_mode) attributes.set("ceil_mode", std::int64_t{1});
}

Dim Window::output_size(int axis, const Dim& input, const Dim& kernel) const {
  const auto a = static_cast<std::size_t>(axis);
  const Dim stride = strides[a];
  if (auto_pad != AutoPad::notset) return Dim::ceildiv(input, stride);
  const std::int64_t begin = pads[a];
  const std::int64_t end = pads[a + strides.size()];
  const Dim extent = (kernel - 1) * dilations[a] + 1;
  const Dim room = input + begin + end - extent;
  if (!ceil_mode) return Dim::floordiv(room, stride) + 1;
  const Dim size = Dim::ceildiv(room, stride) + 1;
  // No window may start in the padding at the end: o * stride < input + begin. That needs a look only if a window can
  // start so late.
  const Dim slack = extent - end - stride;
  if (slack.is_constant() && slack.constant() >= 0) return size;
  return Dim::min(size, Dim::ceildiv(input + begin, stride));
}

std::array<std::int64_t, 2> Window::padding(int axis, std::int64_t input, std::int64_t kernel) const {
  const auto a = static_cast<std::size_t>(axis);
  if (auto_pad == AutoPad::notset) return {pads[a], pads[a + strides.size()]};
  const std::int64_t extent = (kernel - 1) * dilations[a] + 1;
  const std::int64_t outputs = (input + strides[a] - 1) / strides[a];
  return same_padding((outputs - 1) * strides[a] + extent - input, auto_pad);
}

Window import_window(const ImportNode& node, std::span<const Dim> spatial, std::span<const Dim> kernel) {
  const std::size_t rank = spatial.size();
  Attributes attributes = node.attributes();
  if (!attributes.has("strides")) attributes.set("strides", std::vector<std::int64_t>(rank, 1));
  Window window = Window::from(attributes);
  require(window.strides.size() == rank, Code::invalid_model, "strides has {} entries for {} spatial axes",
          window.strides.size(), rank);
  if (window.auto_pad == AutoPad::notset) return window;
  // With a stride of 1 the padding does not depend on the input's size.
  std::vector<std::int64_t> pads(2 * rank, 0);
  for (std::size_t a = 0; a < rank; ++a) {
    if (!kernel[a].is_constant() || !(spatial[a].is_constant() || window.strides[a] == 1)) return window;
    const std::int64_t size = spatial[a].is_constant() ? spatial[a].constant() : kernel[a].constant();
    const auto [begin, end] = window.padding(static_cast<int>(a), size, kernel[a].constant());
    pads[a] = begin;
    pads[a + rank] = end;
  }
  window.pads = std::move(pads);
  window.auto_pad = AutoPad::notset;
  return window;
}

std::array<std::int64_t, 3> fill3(std::span<const std::int64_t> values, std::int64_t otherwise) {
  std::array<std::int64_t, 3> filled{otherwise, otherwise, otherwise};
  ensure(values.size() <= 3, "more than three spatial axes");
  std::copy(values.begin(), values.end(), filled.end() - static_cast<std::ptrdiff_t>(values.size()));
  return filled;
}

Volume spatial_volume(const TensorView& view, ImageLayout layout) {
  ensure(view.rank() >= 2 && view.rank() <= 5, "an image has rank 3 to 5");
  const auto first = static_cast<std::size_t>(first_spatial_axis(layout));
  return {fill3(view.dims.subspan(first, view.dims.size() - 2), 1)};
}

std::vector<double> load_image(const TensorView& view, ImageLayout layout) {
  std::vector<double> values = load_doubles(view);
  if (layout == ImageLayout::nchw || values.empty()) return values;
  const std::int64_t channels = view.dims.back();
  const std::int64_t pixels = spatial_volume(view, layout).count();
  std::vector<double> planar(values.size());
  const double* from = values.data();
  for (std::int64_t n = 0; n < view.dim(0); ++n) {
    for (std::int64_t p = 0; p < pixels; ++p) {
      for (std::int64_t c = 0; c < channels; ++c) {
        planar[static_cast<std::size_t>((n * channels + c) * pixels + p)] = *from++;
      }
    }
  }
  return planar;
}

std::vector<double> in_image_order(std::vector<double> values, const TensorView& view, ImageLayout layout) {
  if (layout == ImageLayout::nchw || values.empty()) return values;
  const std::int64_t channels = view.dims.back();
  const std::int64_t pixels = spatial_volume(view, layout).count();
  std::vector<double> interleaved(values.size());
  double* to = interleaved.data();
  for (std::int64_t n = 0; n < view.dim(0); ++n) {
    for (std::int64_t p = 0; p < pixels; ++p) {
      for (std::int64_t c = 0; c < channels; ++c) {
        *to++ = values[static_cast<std::size_t>((n * channels + c) * pixels + p)];
      }
    }
  }
  return interleaved;
}

void store_image(std::span<const double> values, const TensorView& view, ImageLayout layout) {
  if (layout == ImageLayout::nchw) return store_doubles(values, view);
  store_doubles(in_image_order({values.begin(), values.end()}, view, layout), view);
}

}  // namespace tenfold
