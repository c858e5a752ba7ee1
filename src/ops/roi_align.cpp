// RoiAlign: pools regions of an image to a fixed size. Each bin is sampled on a regular grid with bilinear weights; the
// samples are averaged, or their largest weighted corner is taken.
// Source: He et al. 2017, arXiv:1703.06870; ONNX operator sets 10, 16 and 22.
#include <algorithm>
#include <array>
#include <cmath>

#include "ops/checks.hpp"
#include "ops/numbers.hpp"
#include "ops/registry.hpp"
#include "ops/shape_math.hpp"

namespace tenfold {
namespace {

// A region that needs more samples per bin and axis is no region of an image.
constexpr double kMaxSamples = 1 << 14;

struct Spec {
  std::int64_t height = 1, width = 1, sampling_ratio = 0;
  double scale = 1;
  bool half_pixel = true;
  bool takes_max = false;
};

/// The four pixels around a place, with their weights; zero weights outside the image.
struct Corners {
  std::array<std::int64_t, 4> pixel{};
  std::array<double, 4> weight{};
};
Corners corners_at(double y, double x, std::int64_t height, std::int64_t width) {
  Corners corners;
  const bool is_inside = y >= -1 && y <= static_cast<double>(height) && x >= -1 && x <= static_cast<double>(width);
  if (!is_inside) return corners;  // NaN included
  const auto split = [](double place, std::int64_t size) {
    place = std::clamp(place, 0.0, static_cast<double>(size - 1));
    const auto low = static_cast<std::int64_t>(place);
    return std::pair{low, place - static_cast<double>(low)};
  };
  const auto [top, dy] = split(y, height);
  const auto [left, dx] = split(x, width);
  const std::int64_t bottom = std::min(top + 1, height - 1);
  const std::int64_t right = std::min(left + 1, width - 1);
  corners.pixel = {top * width + left, top * width + right, bottom * width + left, bottom * width + right};
  corners.weight = {(1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx};
  return corners;
}

class RoiAlign final : public Op {
 public:
  explicit RoiAlign(Spec spec) : spec_(spec) {}
  std::string_view type() const override { return "RoiAlign"; }
  Attributes attributes() const override {
    return {{"coordinate_transformation_mode", std::string(spec_.half_pixel ? "half_pixel" : "output_half_pixel")},
            {"mode", std::string(spec_.takes_max ? "max" : "avg")},
            {"output_height", spec_.height},
            {"output_width", spec_.width},
            {"sampling_ratio", spec_.sampling_ratio},
            {"spatial_scale", spec_.scale}};
  }

  /// Inputs: x [N, C, H, W], regions [R, 4] (left, top, right, bottom), the image of each region [R].
  void infer(InferContext& context) const override {
    check_num_inputs(context, 3, 3);
    check_num_outputs(context, 1, 1);
    check_float(context, 0, "the input");
    check_same_dtype(context, 1, "the regions");
    check_dtype(context, 2, DType::int64, "the regions' images");
    check_rank(context, 0, 4, "the input");
    check_rank(context, 1, 2, "the regions");
    check_rank(context, 2, 1, "the regions' images");
    check_dim(context.input(1).dims[1], 4, "the last axis of the regions");
    const Dim& regions = context.input(1).dims[0];
    check_dim(context.input(2).dims[0], regions, "the number of the regions' images");
    context.set_output(0, {context.input(0).dtype, {regions, context.input(0).dims[1], spec_.height, spec_.width}});
  }

  void evaluate(EvalContext& context) const override {
    const TensorView& view = context.input(0);
    const std::int64_t images = view.dim(0), channels = view.dim(1), height = view.dim(2), width = view.dim(3);
    const std::int64_t regions = context.input(1).dim(0);
    check_output(context, 0, Shape{regions, channels, spec_.height, spec_.width});
    const std::vector<double> x = load_doubles(view);
    const std::vector<double> boxes = load_doubles(context.input(1));
    const std::vector<std::int64_t> image_of = load_int64(context.input(2));
    ensure(std::ssize(image_of) == regions, "regions and images do not fit");
    require(regions == 0 || (height > 0 && width > 0), Code::invalid_argument, "regions of an empty image");
    std::vector<double> y(static_cast<std::size_t>(context.output(0).num_elements()));
    double* out = y.data();
    for (std::int64_t r = 0; r < regions; ++r) {
      const std::int64_t image = image_of[static_cast<std::size_t>(r)];
      require(0 <= image && image < images, Code::invalid_argument, "region {} lies in image {}, but there are {}", r,
              image, images);
      const double offset = spec_.half_pixel ? 0.5 : 0;
      std::array<double, 4> box{};
      for (std::size_t i = 0; i < 4; ++i) box[i] = boxes[static_cast<std::size_t>(r) * 4 + i] * spec_.scale - offset;
      double box_width = box[2] - box[0];
      double box_height = box[3] - box[1];
      if (!spec_.half_pixel) {
        box_width = std::max(box_width, 1.0);
        box_height = std::max(box_height, 1.0);
      }
      const double bin_height = box_height / static_cast<double>(spec_.height);
      const double bin_width = box_width / static_cast<double>(spec_.width);
      const auto samples = [&](double bin) {
        if (spec_.sampling_ratio > 0) return spec_.sampling_ratio;
        require(std::abs(bin) <= kMaxSamples, Code::invalid_argument, "region {} is too large: {} pixels a bin", r,
                bin);
        return std::max<std::int64_t>(0, static_cast<std::int64_t>(std::ceil(bin)));
      };
      const std::int64_t rows = samples(bin_height);
      const std::int64_t columns = samples(bin_width);
      for (std::int64_t c = 0; c < channels; ++c) {
        const double* plane = x.data() + (image * channels + c) * height * width;
        for (std::int64_t ph = 0; ph < spec_.height; ++ph) {
          for (std::int64_t pw = 0; pw < spec_.width; ++pw) {
            double sum = 0;
            double largest = -INFINITY;
            for (std::int64_t i = 0; i < rows; ++i) {
              const double place_y = box[1] + static_cast<double>(ph) * bin_height +
                                     (static_cast<double>(i) + 0.5) * bin_height / static_cast<double>(rows);
              for (std::int64_t j = 0; j < columns; ++j) {
                const double place_x = box[0] + static_cast<double>(pw) * bin_width +
                                       (static_cast<double>(j) + 0.5) * bin_width / static_cast<double>(columns);
                const Corners corners = corners_at(place_y, place_x, height, width);
                for (std::size_t k = 0; k < 4; ++k) {
                  const double value = corners.weight[k] * plane[corners.pixel[k]];
                  sum += value;
                  largest = std::max(largest, value);
                }
              }
            }
            const std::int64_t count = std::max<std::int64_t>(rows * columns, 1);
            *out++ = spec_.takes_max ? (rows * columns == 0 ? 0 : largest) : sum / static_cast<double>(count);
          }
        }
      }
    }
    store_doubles(y, context.output(0));
  }

 private:
  Spec spec_;
};

OpPtr make_roi_align(const Attributes& attributes) {
  Spec spec;
  const auto size = [&](const char* name, std::int64_t least, std::int64_t otherwise) {
    const std::int64_t value = attributes.get_int(name, otherwise);
    require(least <= value && value <= (1 << 20), Code::invalid_model, "{} must be {} or more, got {}", name, least,
            value);
    return value;
  };
  spec.height = size("output_height", 1, 1);
  spec.width = size("output_width", 1, 1);
  spec.sampling_ratio = size("sampling_ratio", 0, 0);
  spec.scale = attributes.get_float("spatial_scale", 1);
  const std::string mode = attributes.get_string("mode", "avg");
  require(mode == "avg" || mode == "max", Code::invalid_model, "mode must be avg or max, got '{}'", mode);
  spec.takes_max = mode == "max";
  const std::string coordinates = attributes.get_string("coordinate_transformation_mode", "half_pixel");
  require(coordinates == "half_pixel" || coordinates == "output_half_pixel", Code::invalid_model,
          "coordinate_transformation_mode must be half_pixel or output_half_pixel, got '{}'", coordinates);
  spec.half_pixel = coordinates == "half_pixel";
  return std::make_shared<const RoiAlign>(spec);
}

void import_roi_align(ImportNode& node) {
  Attributes attributes = node.attributes();
  if (node.opset() < 16) attributes.set("coordinate_transformation_mode", std::string("output_half_pixel"));
  node.set_output(0, node.add(make_roi_align(attributes), node.inputs()));
}

}  // namespace

const OpDef kRoiAlignDef{"RoiAlign", make_roi_align, import_roi_align};

}  // namespace tenfold
