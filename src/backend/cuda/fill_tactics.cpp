// Operators that write without reading much: Range, ConstantOfShape, Shape.
#include <cstring>

#include "backend/cuda/loop_nest.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "backend/cuda/tactic_tools.hpp"

namespace tenfold::cuda {
namespace {

constexpr int kThreads = 256;

LaunchConfig one_thread_each(CUfunction function, std::int64_t count) {
  LaunchConfig config;
  config.function = function;
  config.grid.x = static_cast<unsigned>(divide_up(count, kThreads));
  config.block.x = kThreads;
  return config;
}

/// y[i] = start + i * delta; start and delta lie on the device.
class RangeKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(2) || !signature.has_output(0)) return "operands are missing";
    const DType dtype = signature.outputs[0].dtype;
    for (const TensorType& input : signature.inputs) {
      if (input.dtype != dtype) return "its inputs are of other types";
    }
    if (dtype == DType::boolean) return "no kernel for bool";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const DType dtype = spec.outputs[0].dtype;
    // 16-bit floats are computed in float32.
    const bool is_half = dtype == DType::float16 || dtype == DType::bfloat16;
    return {fmt::format(R"({2}
extern "C" __global__ void __launch_bounds__(256) sequence(const {0}* start, const {0}* delta, {0}* y, long long count) {{
  const long long i = blockIdx.x * 256LL + threadIdx.x;
  if (i < count) y[i] = {5}(({1}){3} + ({1})i * ({1}){4});
}}
)",
                        device_type(dtype), is_float(dtype) ? "double" : "long long",
                        is_half ? device_prelude() : std::string_view(), is_half ? "tf::to_float(*start)" : "*start",
                        is_half ? "tf::to_float(*delta)" : "*delta",
                        is_half ? fmt::format("tf::from_float<{}>", device_type(dtype))
                                : fmt::format("({})", device_type(dtype))),
            {"sequence"}};
  }
  RangeKernel(const KernelSpec&, const LoadedModule& module) : function_(module.function("sequence")) {}
  void run(const Launch& launch) const override {
    const TensorView& y = launch.outputs[0];
    const std::int64_t count = y.num_elements();
    if (count == 0) return;
    cuda_stream(launch).launch(one_thread_each(function_, count), launch.inputs[0].data, launch.inputs[2].data, y.data,
                               static_cast<long long>(count));
  }

 private:
  Function function_;
};

/// Every element is the attribute `value`, 0 if absent.
class FillKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_output(0)) return "output 0 is not wanted";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const std::size_t bytes = size_of(spec.outputs[0].dtype);
    return {fmt::format(R"(
extern "C" __global__ void __launch_bounds__(256) fill({0}* y, unsigned long long value, long long count) {{
  const long long i = blockIdx.x * 256LL + threadIdx.x;
  if (i < count) y[i] = ({0})value;
}}
)",
                        bytes == 1   ? "unsigned char"
                        : bytes == 2 ? "unsigned short"
                        : bytes == 4 ? "unsigned"
                                     : "unsigned long long"),
            {"fill"}};
  }
  FillKernel(const KernelSpec& spec, const LoadedModule& module) : function_(module.function("fill")) {
    const Attributes attributes = spec.op->attributes();
    if (!attributes.has("value")) return;
    const Tensor value = attributes.get_tensor("value");
    require(value.num_elements() == 1 && value.dtype() == spec.outputs[0].dtype, Code::incompatible_engine,
            "tactic '{}': the value does not fit the output", spec.tactic);
    std::memcpy(&bits_, value.data(), value.size_bytes());
  }
  void run(const Launch& launch) const override {
    const TensorView& y = launch.outputs[0];
    const std::int64_t count = y.num_elements();
    if (count == 0) return;
    cuda_stream(launch).launch(one_thread_each(function_, count), y.data, static_cast<unsigned long long>(bits_),
                               static_cast<long long>(count));
  }

 private:
  Function function_;
  std::uint64_t bits_ = 0;
};

/// The sizes of some axes, which the host knows.
class ShapeKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || !signature.has_output(0)) return "operands are missing";
    return std::nullopt;
  }
  static Source source(const KernelSpec&, const DeviceTraits&) {
    return {R"(
struct Sizes { long long at[8]; };
extern "C" __global__ void sizes(long long* y, const __grid_constant__ Sizes sizes, int first, int count) {
  if (threadIdx.x < count) y[threadIdx.x] = sizes.at[first + threadIdx.x];
}
)",
            {"sizes"}};
  }
  ShapeKernel(const KernelSpec& spec, const LoadedModule& module)
      : start_(spec.op->attributes().get_int("start", 0)), function_(module.function("sizes")) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    struct {
      long long at[kMaxRank] = {};
    } sizes;
    for (std::size_t a = 0; a < x.dims.size(); ++a) sizes.at[a] = x.dims[a];
    const std::int64_t rank = x.rank();
    const std::int64_t first = std::clamp<std::int64_t>(start_ < 0 ? start_ + rank : start_, 0, rank);
    if (y.num_elements() == 0 || first + y.num_elements() > rank) return;
    LaunchConfig config;
    config.function = function_;
    config.block.x = kMaxRank;
    cuda_stream(launch).launch(config, y.data, sizes, static_cast<int>(first), static_cast<int>(y.num_elements()));
  }

 private:
  std::int64_t start_;
  Function function_;
};

}  // namespace

const CudaTactic kRangeSequence = plain_tactic<RangeKernel>("fill.sequence", "Range");
const CudaTactic kConstantOfShapeFill = plain_tactic<FillKernel>("fill.value", "ConstantOfShape");
const CudaTactic kShapeSizes = plain_tactic<ShapeKernel>("fill.sizes", "Shape");

}  // namespace tenfold::cuda
