// Resize, nearest and linear, of one axis or two neighbouring ones. Places on the input's grid are computed in the
// kernel in double precision, as the reference does, so that any size of a profile runs without tables.
#include <algorithm>

#include "backend/cuda/loop_nest.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "backend/cuda/tactic_tools.hpp"
#include "ops/resize.hpp"

namespace tenfold::cuda {
namespace {

constexpr int kThreads = 256;

const Resize& resize_of(const Op& op) {
  const auto* resize = dynamic_cast<const Resize*>(&op);
  ensure(resize != nullptr, "a tactic of Resize was given operator {}", op.type());
  return *resize;
}
double scale_of(const Resize& resize, std::size_t axis) {
  return resize.spec().scales.empty() ? 0 : resize.spec().scales[axis];
}
bool keeps_axis(const Resize& resize, std::size_t axis, const Dim& in, const Dim& out) {
  const double scale = scale_of(resize, axis);
  return in == out && (scale == 0 || scale == 1);
}
/// First resized axis and one past the last.
std::pair<std::size_t, std::size_t> resized_axes(const Resize& resize, const TensorType& x, const TensorType& y) {
  std::size_t begin = x.dims.size(), end = 0;
  for (std::size_t a = 0; a < x.dims.size(); ++a) {
    if (keeps_axis(resize, a, x.dims[a], y.dims[a])) continue;
    begin = std::min(begin, a);
    end = a + 1;
  }
  return {begin, end};
}

/// As the kernel sees it. Input [outer, height, width, inner].
struct ResizeArguments {
  struct Axis {
    double step = 0, start = 0, divisor = 1, offset = 0;
    std::int32_t in = 1, out = 1;
  };
  const void* x = nullptr;
  void* y = nullptr;
  Axis height, width;
  std::int64_t x_pitch = 0, y_pitch = 0;  ///< from one place along the width to the next
  std::int32_t columns = 1;               ///< vectors of the inner axes
  std::int32_t height_shrinks = 0, width_shrinks = 0;
  std::int64_t threads = 0;
};

class ResizeKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || !signature.has_output(0)) return "operands are missing";
    const Resize& resize = resize_of(signature.op);
    const Resize::Spec& spec = resize.spec();
    const TensorType& x = signature.inputs[0];
    const TensorType& y = signature.outputs[0];
    const bool is_linear = spec.mode == Resize::Mode::linear;
    if (spec.mode == Resize::Mode::cubic) return "the mode is cubic";
    if (spec.antialias || spec.exclude_outside) return "antialias and exclude_outside have no kernel";
    if (spec.coordinates == Resize::Coordinates::tf_crop_and_resize) return "tf_crop_and_resize has no kernel";
    if (spec.aspect_ratio != Resize::AspectRatio::stretch) return "the aspect ratio is kept";
    if (spec.scales.empty() && signature.has_input(Resize::kScales)) return "the scales are computed";
    if (!spec.scales.empty() && spec.scales.size() != x.dims.size()) return "there is not one scale for each axis";
    if (is_linear && !is_device_float(x.dtype)) return fmt::format("{} is not interpolated", to_string(x.dtype));
    if (x.dims.size() != y.dims.size() || x.dtype != y.dtype) return "input and output differ in type";
    const auto [begin, end] = resized_axes(resize, x, y);
    if (end > begin + 2) return "more than two neighbouring axes are resized";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const Resize& resize = resize_of(*spec.op);
    const DType dtype = spec.inputs[0].dtype;
    std::string body;
    if (resize.spec().mode == Resize::Mode::nearest) {
      std::string_view nearest = "floor(x)";
      switch (resize.spec().rounding) {
        case Resize::Rounding::round_prefer_floor:
          nearest = "ceil(x - 0.5)";
          break;
        case Resize::Rounding::round_prefer_ceil:
          nearest = "floor(x + 0.5)";
          break;
        case Resize::Rounding::floor:
          break;
        case Resize::Rounding::ceil:
          nearest = "ceil(x)";
          break;
        case Resize::Rounding::simple:
          nearest = "shrinks ? ceil(x) : trunc(x)";
          break;
      }
      body = fmt::format(R"(  const auto nearest = [](const Axis& axis, int i, int shrinks) {{
    const double x = axis.offset + (i * axis.step + axis.start) / axis.divisor;
    const double place = {};
    return (int)fmin(fmax(place, 0.0), (double)(axis.in - 1));
  }};
  const int in_y = nearest(a.height, out_y, a.height_shrinks), in_x = nearest(a.width, out_x, a.width_shrinks);
  const tf::Vector<T, V> result = *(const tf::Vector<T, V>*)(x + ((long long)in_y * a.width.in + in_x) * a.x_pitch);
)",
                         nearest);
    } else {
      body = R"(  struct Between { int low, high; float part; };
  const auto between = [](const Axis& axis, int i) {
    const double x = axis.offset + (i * axis.step + axis.start) / axis.divisor;
    const double low = floor(x), most = (double)(axis.in - 1);
    return Between{(int)fmin(fmax(low, 0.0), most), (int)fmin(fmax(low + 1.0, 0.0), most), (float)(x - low)};
  };
  const Between y = between(a.height, out_y), z = between(a.width, out_x);
  const auto load = [&](int in_y, int in_x) {
    return *(const tf::Vector<T, V>*)(x + ((long long)in_y * a.width.in + in_x) * a.x_pitch);
  };
  const tf::Vector<T, V> v00 = load(y.low, z.low), v01 = load(y.low, z.high), v10 = load(y.high, z.low), v11 = load(y.high, z.high);
  tf::Vector<T, V> result;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const float upper = tf::to_float(v00.at[i]) * (1.0f - z.part) + tf::to_float(v01.at[i]) * z.part;
    const float lower = tf::to_float(v10.at[i]) * (1.0f - z.part) + tf::to_float(v11.at[i]) * z.part;
    result.at[i] = tf::from_float<T>(upper * (1.0f - y.part) + lower * y.part);
  }
)";
    }
    Source source;
    source.entries = {"vectors", "elements"};
    source.text = fmt::format(R"({}{}
struct Axis {{
  double step, start, divisor, offset;
  int in, out;
}};
struct Arguments {{
  const void* x;
  void* y;
  Axis height, width;
  long long x_pitch, y_pitch;
  int columns, height_shrinks, width_shrinks;
  long long threads;
}};
typedef {} T;
template <int V, typename Index>
TF_FN void resize(const Arguments& a) {{
  const Index index = blockIdx.x * (Index)256 + threadIdx.x;
  if (index >= a.threads) return;
  const Index pixel = index / (Index)a.columns;
  const int column = (int)(index - pixel * (Index)a.columns) * V;
  const Index row = pixel / (Index)a.width.out;
  const int out_x = (int)(pixel - row * (Index)a.width.out);
  const Index image = row / (Index)a.height.out;
  const int out_y = (int)(row - image * (Index)a.height.out);
  const T* x = (const T*)a.x + (long long)image * a.height.in * a.width.in * a.x_pitch + column;
{}  *(tf::Vector<T, V>*)((T*)a.y + (long long)pixel * a.y_pitch + column) = result;
}}
// Divisions of 32 bits are several times cheaper.
template <int V>
TF_FN void resize_any(const Arguments& a) {{
  if (a.threads < (1LL << 31)) resize<V, unsigned>(a);
  else resize<V, unsigned long long>(a);
}}
extern "C" __global__ void __launch_bounds__(256) vectors(const __grid_constant__ Arguments a) {{ resize_any<{}>(a); }}
extern "C" __global__ void __launch_bounds__(256) elements(const __grid_constant__ Arguments a) {{ resize_any<1>(a); }}
)",
                              device_prelude(), nest_prelude(), device_type(dtype), body, 16 / size_of(dtype));
    return source;
  }
  ResizeKernel(const KernelSpec& spec, const LoadedModule& module)
      : op_(spec.op),
        axes_(resized_axes(resize_of(*op_), spec.inputs[0], spec.outputs[0])),
        vectors_(module.function("vectors")),
        elements_(module.function("elements")) {}

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    const Resize& resize = resize_of(*op_);
    ResizeArguments arguments;
    arguments.x = x.data;
    arguments.y = y.data;
    const auto [begin, end] = axes_;
    for (std::size_t a = begin; a < end; ++a) {
      const Resize::Place place = resize.place(x.dims[a], y.dims[a], scale_of(resize, a));
      ResizeArguments::Axis& axis = a + 1 == end ? arguments.width : arguments.height;
      axis = {place.step,
              place.start,
              place.divisor,
              place.offset,
              static_cast<std::int32_t>(x.dims[a]),
              static_cast<std::int32_t>(y.dims[a])};
      (a + 1 == end ? arguments.width_shrinks : arguments.height_shrinks) = place.shrinks;
    }
    const std::int64_t inner = product_of_dims(x.dims, end, x.dims.size());
    const std::int64_t vector = static_cast<std::int64_t>(16 / size_of(x.dtype));
    // Only rows of one inner axis may be pitched.
    arguments.x_pitch = inner == 1 || end + 1 != x.dims.size() ? inner : x.pitch;
    arguments.y_pitch = inner == 1 || end + 1 != x.dims.size() ? inner : y.pitch;
    const auto is_aligned = [vector](const void* data, std::int64_t pitch) {
      return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && pitch % vector == 0;
    };
    const bool is_wide =
        inner % vector == 0 && is_aligned(x.data, arguments.x_pitch) && is_aligned(y.data, arguments.y_pitch);
    arguments.columns = static_cast<std::int32_t>(is_wide ? inner / vector : inner);
    arguments.threads = y.num_elements() / inner * arguments.columns;
    LaunchConfig config;
    config.function = is_wide ? vectors_ : elements_;
    config.grid.x = static_cast<unsigned>(divide_up(arguments.threads, kThreads));
    config.block.x = kThreads;
    cuda_stream(launch).launch(config, arguments);
  }

 private:
  OpPtr op_;
  std::pair<std::size_t, std::size_t> axes_;
  Function vectors_, elements_;
};

}  // namespace

const CudaTactic kResizeGrid = plain_tactic<ResizeKernel>("resize.grid", "Resize");

}  // namespace tenfold::cuda
