// GridSample: the image at places that a second tensor gives, in coordinates from -1 to 1 over each axis (x first).
//   with align_corners  place = (g + 1) / 2 * (size - 1),  without  place = ((g + 1) * size - 1) / 2
// Source: ONNX operator sets 16 and 20 (which renamed the modes); Jaderberg et al. 2015, arXiv:1506.02025.
#include <algorithm>
#include <array>
#include <cmath>

#include "ops/checks.hpp"
#include "ops/numbers.hpp"
#include "ops/registry.hpp"
#include "ops/shape_math.hpp"

namespace tenfold {
namespace {

enum class Mode : std::uint8_t { linear = 0, nearest = 1, cubic = 2 };
enum class Padding : std::uint8_t { zeros = 0, border = 1, reflection = 2 };
constexpr std::array<std::string_view, 3> kModes{"linear", "nearest", "cubic"};
constexpr std::array<std::string_view, 3> kPaddings{"zeros", "border", "reflection"};

/// Folds a place back between the borders, as often as needed.
double reflect(double place, double low, double high) {
  const double range = high - low;
  if (range <= 0) return low;
  double distance = std::fmod(std::abs(place - low), 2 * range);
  if (distance > range) distance = 2 * range - distance;
  return low + distance;
}

/// Up to four neighbours along one axis, with weights; an index of -1 stands for a zero.
struct Taps {
  int count = 0;
  std::array<std::int64_t, 4> index{};
  std::array<double, 4> weight{};
};

class GridSample final : public Op {
 public:
  GridSample(Mode mode, Padding padding, bool align_corners)
      : mode_(mode), padding_(padding), align_corners_(align_corners) {}
  std::string_view type() const override { return "GridSample"; }
  Attributes attributes() const override {
    return {{"mode", std::string(kModes[static_cast<std::size_t>(mode_)])},
            {"padding_mode", std::string(kPaddings[static_cast<std::size_t>(padding_)])},
            {"align_corners", std::int64_t{align_corners_}}};
  }

  /// Inputs: x [N, C, spatial...], grid [N, output spatial..., number of spatial axes].
  void infer(InferContext& context) const override {
    check_num_inputs(context, 2, 2);
    check_num_outputs(context, 1, 1);
    check_float(context, 0, "the input");
    check_float(context, 1, "the grid");
    const std::vector<Dim>& x = context.input(0).dims;
    const std::vector<Dim>& grid = context.input(1).dims;
    require(3 <= x.size() && x.size() <= 5, Code::unsupported, "the input must have rank 3 to 5, got {}", to_string(x));
    check_rank(context, 1, context.input(0).rank(), "the grid");
    check_dim(grid[0], x[0], "the grid's batch");
    check_dim(grid.back(), static_cast<std::int64_t>(x.size()) - 2, "the last axis of the grid");
    std::vector<Dim> dims{x[0], x[1]};
    dims.insert(dims.end(), grid.begin() + 1, grid.end() - 1);
    context.set_output(0, {context.input(0).dtype, std::move(dims)});
  }

  void evaluate(EvalContext& context) const override {
    const TensorView& view = context.input(0);
    const std::size_t axes = view.dims.size() - 2;
    const std::vector<double> x = load_doubles(view);
    const std::vector<double> grid = load_doubles(context.input(1));
    std::int64_t pixels = 1;
    for (std::size_t a = 0; a < axes; ++a) pixels *= view.dims[a + 2];
    const std::int64_t batch = view.dim(0);
    const std::int64_t channels = view.dim(1);
    const auto points =
        static_cast<std::int64_t>(grid.size()) / std::max<std::int64_t>(1, batch * static_cast<std::int64_t>(axes));
    ensure(context.output(0).num_elements() == batch * channels * points &&
               std::ssize(grid) == batch * points * static_cast<std::int64_t>(axes),
           "grid of inconsistent shape");
    std::vector<double> y(static_cast<std::size_t>(batch * channels * points));
    std::array<Taps, 3> taps;
    for (std::int64_t n = 0; n < batch; ++n) {
      for (std::int64_t p = 0; p < points; ++p) {
        // The grid names the innermost axis first. Missing leading axes have one tap.
        taps.fill(Taps{.count = 1, .index = {0}, .weight = {1}});
        std::array<std::int64_t, 3> size{1, 1, 1};
        const double* place = grid.data() + (n * points + p) * static_cast<std::int64_t>(axes);
        for (std::size_t a = 0; a < axes; ++a) {
          size[3 - axes + a] = view.dims[a + 2];
          taps[3 - axes + a] = taps_at(place[axes - 1 - a], view.dims[a + 2]);
        }
        for (std::int64_t c = 0; c < channels; ++c) {
          const double* plane = x.data() + (n * channels + c) * pixels;
          y[static_cast<std::size_t>((n * channels + c) * points + p)] = weighted_sum(plane, taps, size);
        }
      }
    }
    store_doubles(y, context.output(0));
  }

 private:
  std::int64_t map_index(double index, std::int64_t size) const {
    const auto last = static_cast<double>(size - 1);
    if (index >= 0 && index <= last) return static_cast<std::int64_t>(index);
    if (size == 0 || padding_ == Padding::zeros || !std::isfinite(index)) return -1;
    if (padding_ == Padding::border) return index < 0 ? 0 : size - 1;
    const double folded = align_corners_ ? reflect(index, 0, last) : reflect(index, -0.5, last + 0.5);
    return std::clamp<std::int64_t>(static_cast<std::int64_t>(folded), 0, size - 1);
  }

  Taps taps_at(double coordinate, std::int64_t size) const {
    const auto length = static_cast<double>(size);
    double place = align_corners_ ? (coordinate + 1) / 2 * (length - 1) : ((coordinate + 1) * length - 1) / 2;
    if (mode_ == Mode::nearest) place = std::nearbyint(place);
    const double low = align_corners_ ? 0 : -0.5;
    const double high = length - 1 - low;
    if (place < low || place > high) {
      if (padding_ == Padding::border) place = std::clamp(place, 0.0, std::max(length - 1, 0.0));
      if (padding_ == Padding::reflection) place = reflect(place, low, high);
    }
    Taps taps;
    if (mode_ == Mode::nearest) {
      taps.count = 1;
      taps.index[0] = map_index(std::trunc(place), size);
      taps.weight[0] = 1;
      return taps;
    }
    const double base = std::floor(place);
    const double t = place - base;
    if (mode_ == Mode::linear) {
      taps.count = 2;
      taps.weight = {1 - t, t};
    } else {
      constexpr double a = -0.75;
      const auto inner = [](double d) { return ((a + 2) * d - (a + 3)) * d * d + 1; };
      const auto outer = [](double d) { return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a; };
      taps.count = 4;
      taps.weight = {outer(1 + t), inner(t), inner(1 - t), outer(2 - t)};
    }
    for (int i = 0; i < taps.count; ++i) {
      const double offset = mode_ == Mode::linear ? i : i - 1;
      taps.index[static_cast<std::size_t>(i)] = map_index(base + offset, size);
    }
    return taps;
  }

  static double weighted_sum(const double* plane, const std::array<Taps, 3>& taps,
                             const std::array<std::int64_t, 3>& size) {
    double sum = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(taps[0].count); ++i) {
      for (std::size_t j = 0; j < static_cast<std::size_t>(taps[1].count); ++j) {
        for (std::size_t k = 0; k < static_cast<std::size_t>(taps[2].count); ++k) {
          const std::int64_t z = taps[0].index[i], row = taps[1].index[j], column = taps[2].index[k];
          if (z < 0 || row < 0 || column < 0) continue;
          sum +=
              taps[0].weight[i] * taps[1].weight[j] * taps[2].weight[k] * plane[(z * size[1] + row) * size[2] + column];
        }
      }
    }
    return sum;
  }

  Mode mode_;
  Padding padding_;
  bool align_corners_;
};

OpPtr make_grid_sample(const Attributes& attributes) {
  std::string mode = attributes.get_string("mode", "linear");
  if (mode == "bilinear") mode = "linear";
  if (mode == "bicubic") mode = "cubic";
  const auto* found = std::find(kModes.begin(), kModes.end(), mode);
  require(found != kModes.end(), Code::invalid_model, "mode must be linear, nearest or cubic, got '{}'", mode);
  const std::string padding = attributes.get_string("padding_mode", "zeros");
  const auto* padding_found = std::find(kPaddings.begin(), kPaddings.end(), padding);
  require(padding_found != kPaddings.end(), Code::invalid_model,
          "padding_mode must be zeros, border or reflection, got '{}'", padding);
  return std::make_shared<const GridSample>(static_cast<Mode>(found - kModes.begin()),
                                            static_cast<Padding>(padding_found - kPaddings.begin()),
                                            attributes.get_int("align_corners", 0) != 0);
}

}  // namespace

const OpDef kGridSampleDef{"GridSample", make_grid_sample, import_plain};

}  // namespace tenfold
