// Resampling of a grid: nearest, linear and cubic, axis by axis.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "graph/op.hpp"

namespace tenfold {

/// Inputs: x, then scales, sizes and region of interest where they are not attributes (each may be omitted).
/// All modes are separable: the result is one weighted sum along each axis after the other. `table` gives the weights.
class Resize final : public Op {
 public:
  enum class Mode : std::uint8_t { nearest = 0, linear = 1, cubic = 2 };
  enum class Coordinates : std::uint8_t {
    half_pixel = 0,
    half_pixel_symmetric = 1,
    pytorch_half_pixel = 2,
    align_corners = 3,
    asymmetric = 4,
    tf_half_pixel_for_nn = 5,
    tf_crop_and_resize = 6,
  };
  /// `simple` is what Resize 10 and Upsample do: floor when the axis grows, ceil when it shrinks.
  enum class Rounding : std::uint8_t { round_prefer_floor = 0, round_prefer_ceil = 1, floor = 2, ceil = 3, simple = 4 };
  enum class AspectRatio : std::uint8_t { stretch = 0, not_larger = 1, not_smaller = 2 };

  struct Spec {
    Mode mode = Mode::nearest;
    Coordinates coordinates = Coordinates::half_pixel;
    Rounding rounding = Rounding::round_prefer_floor;
    AspectRatio aspect_ratio = AspectRatio::stretch;
    double cubic_coeff_a = -0.75;
    bool exclude_outside = false;  ///< weights outside the input become 0 and the rest is scaled up
    bool antialias = false;        ///< a shrinking axis averages over all elements that it merges
    double extrapolation_value = 0;
    std::vector<double> scales;       ///< one per axis of x; empty: not given as an attribute
    std::vector<std::int64_t> sizes;  ///< one per axis of x, -1: stays as it is; empty: not given as an attribute
    std::vector<double> roi;          ///< starts, then ends, relative, one per axis of x; for tf_crop_and_resize
    std::vector<std::int64_t> axes;   ///< that the inputs scales, sizes and roi list; empty: all
  };
  static constexpr int kScales = 1;
  static constexpr int kSizes = 2;
  static constexpr int kRoi = 3;

  explicit Resize(Spec spec) : spec_(std::move(spec)) {}
  const Spec& spec() const { return spec_; }

  /// Where output i lies on the input's grid: offset + (i * step + start) / divisor.
  struct Place {
    double step = 1, start = 0, divisor = 1, offset = 0;
    bool shrinks = false;
    double at(double i) const { return offset + (i * step + start) / divisor; }
  };
  /// `scale`: the axis' entry of scales, or 0 when the output's size was given. `start`, `end`: its entries of roi.
  Place place(std::int64_t input, std::int64_t output, double scale, double start = 0, double end = 1) const;

  /// The weighted sum along one axis: output i is the sum over t of weight[i * taps + t] * input[index[i * taps + t]],
  /// indices inside the input; or extrapolation_value where `outside[i]` != 0 (empty: nowhere).
  struct Table {
    int taps = 1;
    std::vector<std::int64_t> index;
    std::vector<double> weight;
    std::vector<std::uint8_t> outside;
    bool is_identity = false;
  };
  /// `scale`: the axis' entry of scales, or 0 when the output's size was given. `start`, `end`: its entries of roi.
  Table table(std::int64_t input, std::int64_t output, double scale, double start = 0, double end = 1) const;

  std::string_view type() const override { return "Resize"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  std::vector<int> shape_inputs() const override { return {kScales, kSizes}; }

 private:
  Spec spec_;
};

}  // namespace tenfold
