// Resize in all modes: cubic, antialiased, any number of axes, any type, scales that are computed. One thread makes one
// result as a weighted sum over its neighbours along all resized axes, in double. Nearest and linear of one or two
// neighbouring axes have a faster tactic (resize_tactics.cpp).
#include <algorithm>
#include <cmath>

#include "backend/cuda/element_text.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "ops/numbers.hpp"
#include "ops/resize.hpp"

namespace tenfold::cuda {
namespace {

/// As the kernel sees it. Only axes that are resized.
struct ResizeArguments {
  struct Axis {
    double step = 0, start = 0, divisor = 1, offset = 0;
    double shrink = 1;
    std::int64_t in = 1, out = 1, x_stride = 0, y_stride = 0;
    std::int32_t first = 0, last = 0;
    std::int32_t shrinks = 0, padding = 0;
  };
  const void* x = nullptr;
  void* y = nullptr;
  std::int64_t count = 0;
  std::int32_t axes = 0, all = 0;
  Axis axis[kMaxRank];
  Sizes y_dims, y_strides, x_strides;  ///< of all axes; x_strides is 0 along those that are resized
};

constexpr std::string_view kText = R"(
struct Axis {
  double step, start, divisor, offset, shrink;
  long long in, out, x_stride, y_stride;
  int first, last, shrinks, padding;
};
struct Arguments {
  const T* x;
  T* y;
  long long count;
  int axes, all;
  Axis axis[8];
  Sizes y_dims, y_strides, x_strides;
};
TF_FN double tap_weight(double distance) {
  distance = fabs(distance);
  if (kMode == 1) return fmax(0.0, 1.0 - distance);
  if (distance <= 1) return ((kCubic + 2) * distance - (kCubic + 3)) * distance * distance + 1;
  if (distance < 2) return ((kCubic * distance - 5 * kCubic) * distance + 8 * kCubic) * distance - 4 * kCubic;
  return 0;
}
TF_FN long long clamp(double i, long long in) { return (long long)fmin(fmax(i, 0.0), (double)(in - 1)); }
extern "C" __global__ void __launch_bounds__(256) resize(const __grid_constant__ Arguments a) {
  tf::begin_early();
  tf::for_each_thread(a.count, [&](long long i) {
    long long from = 0;
    for (int d = 0; d < a.all; ++d) from += i / a.y_strides.at[d] % a.y_dims.at[d] * a.x_strides.at[d];
    double place[8], base[8], scale[8];
    int tap[8];
    bool outside = false;
    for (int d = 0; d < a.axes; ++d) {
      const Axis& axis = a.axis[d];
      const double x = axis.offset + ((double)(i / axis.y_stride % axis.out) * axis.step + axis.start) / axis.divisor;
      outside |= kCrops && (x < 0 || x > axis.in - 1);
      place[d] = x;
      base[d] = kMode == 0 ? ({rounding}) : ceil(x) - 1;
      tap[d] = axis.first;
      scale[d] = 1;
      if (kMode != 0 && (kExclude || axis.shrink < 1)) {
        double sum = 0;
        for (int k = axis.first; k <= axis.last; ++k) {
          const double neighbour = base[d] + k;
          if (!kExclude || (neighbour >= 0 && neighbour <= axis.in - 1)) sum += tap_weight((neighbour - x) * axis.shrink);
        }
        if (sum != 0) scale[d] = 1 / sum;
      }
    }
    double sum = 0;
    for (bool more = true; more;) {
      double weight = 1;
      long long at = from;
      for (int d = 0; d < a.axes; ++d) {
        const Axis& axis = a.axis[d];
        const double neighbour = base[d] + tap[d];
        if (kMode != 0) {
          weight *= tap_weight((neighbour - place[d]) * axis.shrink) * scale[d];
          if (kExclude && (neighbour < 0 || neighbour > axis.in - 1)) weight = 0;
        }
        at += clamp(neighbour, axis.in) * axis.x_stride;
      }
      if (weight != 0) sum += weight * get(a.x[at]);
      more = false;
      for (int d = a.axes - 1; d >= 0 && !more; --d) {
        more = ++tap[d] <= a.axis[d].last;
        if (!more) tap[d] = a.axis[d].first;
      }
    }
    a.y[i] = put(outside ? kExtrapolation : sum);
  });
}
)";

const Resize& resize_of(const Op& op) {
  const auto* resize = dynamic_cast<const Resize*>(&op);
  ensure(resize != nullptr, "a tactic of Resize was given operator {}", op.type());
  return *resize;
}

class ResizeTapsKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || !signature.has_output(0)) return "operands are missing";
    const Resize::Spec& spec = resize_of(signature.op).spec();
    if (signature.has_input(Resize::kRoi) && spec.roi.empty() &&
        spec.coordinates == Resize::Coordinates::tf_crop_and_resize)
      return "the region of interest is computed";
    if (signature.has_input(Resize::kScales) && !is_float(signature.inputs[Resize::kScales].dtype))
      return "the scales are no floats";
    if (spec.aspect_ratio != Resize::AspectRatio::stretch && spec.sizes.empty()) return "the sizes are computed";
    return std::nullopt;
  }
  static Source source(const KernelSpec& kernel, const DeviceTraits&) {
    const Resize::Spec& spec = resize_of(*kernel.op).spec();
    const DType dtype = kernel.inputs[0].dtype;
    std::string_view rounding = "floor(x)";
    switch (spec.rounding) {
      case Resize::Rounding::round_prefer_floor:
        rounding = "ceil(x - 0.5)";
        break;
      case Resize::Rounding::round_prefer_ceil:
        rounding = "floor(x + 0.5)";
        break;
      case Resize::Rounding::floor:
        break;
      case Resize::Rounding::ceil:
        rounding = "ceil(x)";
        break;
      case Resize::Rounding::simple:
        rounding = "axis.shrinks ? ceil(x) : trunc(x)";
        break;
    }
    std::string body(kText);
    const std::string_view mark = "{rounding}";
    body.replace(body.find(mark), mark.size(), rounding);
    Source source;
    source.entries = {"resize"};
    source.text = fmt::format(
        "{}{}typedef {} T;\nTF_FN double get(T x) {{ return (double){}; }}\nTF_FN T put(double x) {{ return {}; "
        "}}\nconstexpr int kMode = {};\nconstexpr double kCubic = {:a}, kExtrapolation = {:a};\nconstexpr bool "
        "kExclude "
        "= {}, kCrops = {};\n{}",
        device_prelude(), element_prelude(), device_type(dtype), is_float(dtype) ? "tf::Element<T>::get(x)" : "x",
        dtype == DType::boolean ? "x != 0"
        : is_float(dtype)       ? "tf::Element<T>::put((tf::Element<T>::C)x)"
                                : "(T)x",
        static_cast<int>(spec.mode), spec.cubic_coeff_a, spec.extrapolation_value, spec.exclude_outside,
        spec.coordinates == Resize::Coordinates::tf_crop_and_resize, body);
    return source;
  }
  ResizeTapsKernel(const KernelSpec& spec, const LoadedModule& module)
      : op_(spec.op), resize_(resize_of(*op_)), function_(module.function("resize")) {}

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    require(x.num_elements() > 0, Code::invalid_argument, "an empty axis cannot be enlarged");
    const Resize::Spec& spec = resize_.spec();
    const std::vector<double> scales = scales_of(launch);
    ResizeArguments arguments;
    arguments.x = x.data;
    arguments.y = y.data;
    arguments.count = y.num_elements();
    arguments.all = x.rank();
    arguments.y_dims = sizes_of(y.dims);
    arguments.y_strides = contiguous_strides(y.dims);
    arguments.x_strides = contiguous_strides(x.dims);
    const bool crops = spec.coordinates == Resize::Coordinates::tf_crop_and_resize;
    for (std::size_t a = 0; a < x.dims.size(); ++a) {
      const std::int64_t in = x.dims[a], out = y.dims[a];
      if (in == out && (scales[a] == 0 || scales[a] == 1) && !crops) continue;
      const bool has_region = spec.roi.size() == 2 * x.dims.size();
      const Resize::Place place =
          resize_.place(in, out, scales[a], has_region ? spec.roi[a] : 0, has_region ? spec.roi[a + x.dims.size()] : 1);
      ResizeArguments::Axis& axis = arguments.axis[arguments.axes++];
      axis.step = place.step, axis.start = place.start, axis.divisor = place.divisor, axis.offset = place.offset;
      axis.shrinks = place.shrinks;
      axis.in = in, axis.out = out;
      axis.x_stride = arguments.x_strides.at[a];
      axis.y_stride = arguments.y_strides.at[a];
      arguments.x_strides.at[a] = 0;
      const double factor = scales[a] != 0 ? scales[a] : static_cast<double>(out) / static_cast<double>(in);
      if (spec.antialias) axis.shrink = std::min(factor, 1.0);
      if (spec.mode == Resize::Mode::nearest) continue;
      const double radius = spec.mode == Resize::Mode::linear ? 1 : 2;
      axis.first = static_cast<std::int32_t>(std::floor(-radius / axis.shrink)) + 1;
      axis.last = 1 - axis.first;
    }
    LaunchConfig config = one_thread_each(function_, arguments.count);
    config.pdl = true;
    cuda_stream(launch).launch(config, arguments);
  }

 private:
  /// One for each axis; 0 where the output's size says it.
  std::vector<double> scales_of(const Launch& launch) const {
    const Resize::Spec& spec = resize_.spec();
    const TensorView& x = launch.inputs[0];
    if (!spec.scales.empty()) return spec.scales;
    std::vector<double> scales(x.dims.size(), 0);
    if (spec.aspect_ratio != Resize::AspectRatio::stretch) {
      double common = 0;
      for (std::size_t a = 0; a < scales.size(); ++a) {
        if (spec.sizes[a] < 0) continue;
        const double scale = static_cast<double>(spec.sizes[a]) / static_cast<double>(x.dims[a]);
        const bool is_better = spec.aspect_ratio == Resize::AspectRatio::not_larger ? scale < common : scale > common;
        if (common == 0 || is_better) common = scale;
      }
      for (std::size_t a = 0; a < scales.size(); ++a) {
        if (spec.sizes[a] >= 0) scales[a] = common;
      }
      return scales;
    }
    const TensorView given = operand_of(launch.inputs, Resize::kScales);
    if (given.dtype == DType::undefined || given.num_elements() == 0) return scales;
    const void* host = launch.host_inputs.size() > Resize::kScales ? launch.host_inputs[Resize::kScales] : nullptr;
    ensure(host != nullptr, "the scales are not known on the host");
    const std::vector<double> values = load_doubles({const_cast<void*>(host), given.dtype, given.dims, given.pitch});
    std::fill(scales.begin(), scales.end(), 1.0);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::int64_t axis = spec.axes.empty() ? static_cast<std::int64_t>(i) : spec.axes[i];
      scales.at(static_cast<std::size_t>(axis < 0 ? axis + x.rank() : axis)) = values[i];
    }
    return scales;
  }
  OpPtr op_;
  const Resize& resize_;
  Function function_;
};

/// Offered only where the faster tactic does not apply.
void candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  const bool has_other = std::any_of(out.begin(), out.end(), [](const Candidate& c) { return c.refusal.empty(); });
  PlainTactic<ResizeTapsKernel>::candidates(problem, traits, out);
  if (has_other && out.back().refusal.empty()) out.back().refusal = "a faster tactic takes it";
}

}  // namespace

const CudaTactic kResizeTaps = {"resize.taps",
                                "Resize",
                                candidates,
                                nullptr,
                                PlainTactic<ResizeTapsKernel>::source,
                                PlainTactic<ResizeTapsKernel>::make};

}  // namespace tenfold::cuda
