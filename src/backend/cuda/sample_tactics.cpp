// Sampling between pixels: GridSample and RoiAlign. One thread for each result; places in double, so that a sample
// falls on the side of a border where the reference sees it.
#include "backend/cuda/element_text.hpp"
#include "backend/cuda/pointwise_text.hpp"

namespace tenfold::cuda {
namespace {

constexpr std::string_view kGridText = R"(
struct Arguments {
  const T* x;
  const G* grid;
  T* y;
  long long count, channels, points;
  int axes, size[3];
};
TF_FN double reflect(double place, double low, double high) {
  const double range = high - low;
  if (range <= 0) return low;
  const double distance = fmod(fabs(place - low), 2 * range);
  return low + (distance > range ? 2 * range - distance : distance);
}
TF_FN int map_index(double index, int size) {
  const double last = size - 1;
  if (index >= 0 && index <= last) return (int)index;
  if (kPadding == 0 || !(fabs(index) < 1e300)) return -1;
  if (kPadding == 1) return index < 0 ? 0 : size - 1;
  const int folded = (int)(kAlignCorners ? reflect(index, 0, last) : reflect(index, -0.5, last + 0.5));
  return folded < 0 ? 0 : folded >= size ? size - 1 : folded;
}
constexpr int kTaps = kMode == 0 ? 2 : kMode == 1 ? 1 : 4;
TF_FN void taps_at(double coordinate, int size, int (&index)[kTaps], C (&weight)[kTaps]) {
  const double length = size;
  double place = kAlignCorners ? (coordinate + 1) / 2 * (length - 1) : ((coordinate + 1) * length - 1) / 2;
  if (kMode == 1) place = rint(place);
  const double low = kAlignCorners ? 0 : -0.5, high = length - 1 - low;
  if (place < low || place > high) {
    if (kPadding == 1) place = fmin(fmax(place, 0.0), fmax(length - 1, 0.0));
    if (kPadding == 2) place = reflect(place, low, high);
  }
  if constexpr (kMode == 1) {
    index[0] = map_index(trunc(place), size);
    weight[0] = 1;
  } else {
    const double base = floor(place), t = place - base;
    if constexpr (kMode == 0) {
      weight[0] = (C)(1 - t);
      weight[1] = (C)t;
    } else {
      constexpr double a = -0.75;
      const auto inner = [](double d) { return ((a + 2) * d - (a + 3)) * d * d + 1; };
      const auto outer = [](double d) { return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a; };
      weight[0] = (C)outer(1 + t);
      weight[1] = (C)inner(t);
      weight[2] = (C)inner(1 - t);
      weight[3] = (C)outer(2 - t);
    }
    for (int i = 0; i < kTaps; ++i) index[i] = map_index(base + (kMode == 0 ? i : i - 1), size);
  }
}
// Neighbouring threads make neighbouring points of one channel.
extern "C" __global__ void __launch_bounds__(256) sample(const __grid_constant__ Arguments a) {
  tf::begin_early();
  tf::for_each_thread(a.count, [&](long long i) {
    const long long point = i % a.points, plane = i / a.points, image = plane / a.channels;
    const G* place = a.grid + (image * a.points + point) * a.axes;
    int index[3][kTaps];
    C weight[3][kTaps];
    int taps[3];
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      taps[axis] = 1;
      index[axis][0] = 0;
      weight[axis][0] = 1;
      if (axis < 3 - a.axes) continue;
      taps[axis] = kTaps;
      taps_at((double)tf::Element<G>::get(place[2 - axis]), a.size[axis], index[axis], weight[axis]);
    }
    const T* x = a.x + plane * a.size[0] * a.size[1] * a.size[2];
    C sum = 0;
    for (int z = 0; z < taps[0]; ++z) {
      for (int row = 0; row < taps[1]; ++row) {
        for (int column = 0; column < taps[2]; ++column) {
          const int iz = index[0][z], iy = index[1][row], ix = index[2][column];
          if (iz < 0 || iy < 0 || ix < 0) continue;
          sum += weight[0][z] * weight[1][row] * weight[2][column] * E::get(x[((long long)iz * a.size[1] + iy) * a.size[2] + ix]);
        }
      }
    }
    a.y[i] = E::put(sum);
  });
}
)";

struct GridArguments {
  const void* x = nullptr;
  const void* grid = nullptr;
  void* y = nullptr;
  std::int64_t count = 0, channels = 0, points = 0;
  std::int32_t axes = 0, size[3] = {1, 1, 1};
};

class GridSampleKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || !signature.has_input(1) || !signature.has_output(0)) return "operands are missing";
    if (!is_plain_float(signature.inputs[0].dtype) || !is_plain_float(signature.inputs[1].dtype))
      return fmt::format("no kernel for {}", to_string(signature.inputs[0].dtype));
    const int rank = signature.inputs[0].rank();
    if (rank < 3 || rank > 5) return fmt::format("rank {} has not one to three spatial axes", rank);
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const Attributes attributes = spec.op->attributes();
    const std::string mode = attributes.get_string("mode"), padding = attributes.get_string("padding_mode");
    Source source;
    source.entries = {"sample"};
    source.text = fmt::format(
        "{}{}typedef {} T;\ntypedef {} G;\ntypedef tf::Element<T> E;\ntypedef E::C C;\nconstexpr int kMode = {}, "
        "kPadding "
        "= {};\nconstexpr bool kAlignCorners = {};\n{}",
        device_prelude(), element_prelude(), device_type(spec.inputs[0].dtype), device_type(spec.inputs[1].dtype),
        mode == "linear"    ? 0
        : mode == "nearest" ? 1
                            : 2,
        padding == "zeros"    ? 0
        : padding == "border" ? 1
                              : 2,
        attributes.get_int("align_corners", 0) != 0, kGridText);
    return source;
  }
  GridSampleKernel(const KernelSpec&, const LoadedModule& module) : sample_(module.function("sample")) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    if (x.num_elements() == 0) {
      cuda_stream(launch).fill(y.data, 0, static_cast<std::size_t>(y.num_elements()) * size_of(y.dtype));
      return;
    }
    GridArguments arguments{x.data, launch.inputs[1].data, y.data, y.num_elements()};
    arguments.channels = x.dims[1];
    arguments.points = product_of_dims(y.dims, 2, y.dims.size());
    arguments.axes = x.rank() - 2;
    for (int a = 0; a < arguments.axes; ++a)
      arguments.size[3 - arguments.axes + a] = static_cast<std::int32_t>(x.dim(2 + a));
    LaunchConfig config = one_thread_each(sample_, y.num_elements());
    config.pdl = true;
    cuda_stream(launch).launch(config, arguments);
  }

 private:
  Function sample_;
};

constexpr std::string_view kRoiText = R"(
struct Arguments {
  const T* x;
  const T* boxes;
  const long long* images;
  T* y;
  long long count;
  int num_images, channels, height, width;
};
TF_FN int split(double& place, int size) {
  place = fmin(fmax(place, 0.0), (double)(size - 1));
  const int low = (int)place;
  place -= low;
  return low;
}
extern "C" __global__ void __launch_bounds__(256) pool(const __grid_constant__ Arguments a) {
  tf::begin_early();
  tf::for_each_thread(a.count, [&](long long i) {
    const int pw = i % kWidth, ph = i / kWidth % kHeight, c = i / (kWidth * kHeight) % a.channels;
    const long long region = i / (kWidth * kHeight) / a.channels;
    const double offset = kHalfPixel ? 0.5 : 0.0;
    double box[4];
    for (int k = 0; k < 4; ++k) box[k] = (double)E::get(a.boxes[region * 4 + k]) * kScale - offset;
    double box_width = box[2] - box[0], box_height = box[3] - box[1];
    if (!kHalfPixel) {
      box_width = fmax(box_width, 1.0);
      box_height = fmax(box_height, 1.0);
    }
    const double bin_height = box_height / kHeight, bin_width = box_width / kWidth;
    const int rows = kSamplingRatio > 0 ? kSamplingRatio : max(0, (int)ceil(bin_height));
    const int columns = kSamplingRatio > 0 ? kSamplingRatio : max(0, (int)ceil(bin_width));
    long long image = a.images[region];
    image = image < 0 ? 0 : image >= a.num_images ? a.num_images - 1 : image;
    const T* plane = a.x + (image * a.channels + c) * a.height * a.width;
    double sum = 0, largest = -1.0 / 0.0;
    for (int r = 0; r < rows; ++r) {
      for (int k = 0; k < columns; ++k) {
        double dy = box[1] + ph * bin_height + (r + 0.5) * bin_height / rows, dx = box[0] + pw * bin_width + (k + 0.5) * bin_width / columns;
        double corners[4] = {0, 0, 0, 0};
        if (dy >= -1 && dy <= a.height && dx >= -1 && dx <= a.width) {
          const int top = split(dy, a.height), left = split(dx, a.width);
          const int bottom = min(top + 1, a.height - 1), right = min(left + 1, a.width - 1);
          corners[0] = (1 - dy) * (1 - dx) * E::get(plane[top * a.width + left]);
          corners[1] = (1 - dy) * dx * E::get(plane[top * a.width + right]);
          corners[2] = dy * (1 - dx) * E::get(plane[bottom * a.width + left]);
          corners[3] = dy * dx * E::get(plane[bottom * a.width + right]);
        }
        for (int k4 = 0; k4 < 4; ++k4) {
          sum += corners[k4];
          largest = fmax(largest, corners[k4]);
        }
      }
    }
    a.y[i] = E::put((C)({finish}));
  });
}
)";

struct RoiArguments {
  const void* x = nullptr;
  const void* boxes = nullptr;
  const void* images = nullptr;
  void* y = nullptr;
  std::int64_t count = 0;
  std::int32_t num_images = 0, channels = 0, height = 0, width = 0;
};

class RoiAlignKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    for (const std::size_t i : {0, 1, 2}) {
      if (!signature.has_input(i)) return "operands are missing";
    }
    if (!signature.has_output(0)) return "operands are missing";
    if (!is_plain_float(signature.inputs[0].dtype) || signature.inputs[1].dtype != signature.inputs[0].dtype)
      return fmt::format("no kernel for {}", to_string(signature.inputs[0].dtype));
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const Attributes attributes = spec.op->attributes();
    std::string body(kRoiText);
    const std::string_view mark = "{finish}";
    body.replace(body.find(mark), mark.size(),
                 attributes.get_string("mode") == "max" ? "rows * columns == 0 ? 0.0 : largest"
                                                        : "rows * columns == 0 ? 0.0 : sum / ((double)rows * columns)");
    Source source;
    source.entries = {"pool"};
    source.text = fmt::format(
        "{}{}typedef {} T;\ntypedef tf::Element<T> E;\ntypedef E::C C;\nconstexpr int kHeight = {}, kWidth = {}, "
        "kSamplingRatio = {};\nconstexpr double kScale = {:a};\nconstexpr bool kHalfPixel = {};\n{}",
        device_prelude(), element_prelude(), device_type(spec.inputs[0].dtype), attributes.get_int("output_height"),
        attributes.get_int("output_width"), attributes.get_int("sampling_ratio"), attributes.get_float("spatial_scale"),
        attributes.get_string("coordinate_transformation_mode") == "half_pixel", body);
    return source;
  }
  RoiAlignKernel(const KernelSpec&, const LoadedModule& module) : pool_(module.function("pool")) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    require(x.num_elements() > 0, Code::invalid_argument, "regions of an empty image");
    RoiArguments arguments{x.data, launch.inputs[1].data, launch.inputs[2].data, y.data, y.num_elements()};
    arguments.num_images = static_cast<std::int32_t>(x.dim(0));
    arguments.channels = static_cast<std::int32_t>(x.dim(1));
    arguments.height = static_cast<std::int32_t>(x.dim(2));
    arguments.width = static_cast<std::int32_t>(x.dim(3));
    LaunchConfig config = one_thread_each(pool_, y.num_elements());
    config.pdl = true;
    cuda_stream(launch).launch(config, arguments);
  }

 private:
  Function pool_;
};

}  // namespace

const CudaTactic kGridSample = plain_tactic<GridSampleKernel>("sample.grid", "GridSample");
const CudaTactic kRoiAlign = plain_tactic<RoiAlignKernel>("sample.regions", "RoiAlign");

}  // namespace tenfold::cuda
