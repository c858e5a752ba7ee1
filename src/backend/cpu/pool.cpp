// MaxPool and AveragePool in both layouts.
#include "backend/cpu/kernels/pool.hpp"

#include <algorithm>
#include <array>

#include "backend/cpu/tactic_tools.hpp"
#include "ops/pool.hpp"

namespace tenfold::cpu {

namespace {

const PoolSpec* spec_of(const Op& op) {
  if (const auto* pool = dynamic_cast<const MaxPool*>(&op)) return &pool->spec();
  if (const auto* pool = dynamic_cast<const AveragePool*>(&op)) return &pool->spec();
  return nullptr;
}

class PoolKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    const PoolSpec* spec = spec_of(signature.op);
    if (spec == nullptr) return "the pooling is neither a maximum nor an average";
    const DType dtype = signature.inputs[0].dtype;
    if (dtype == DType::int8 || dtype == DType::uint8) {
      if (signature.op.type() != "MaxPool") return "8-bit integers are pooled by their maximum";
    } else if (dtype == DType::bfloat16) {
      if (signature.op.type() != "MaxPool" || spec->layout != ImageLayout::nhwc)
        return "bfloat16 is pooled by its maximum, channels last";
    } else if (auto refusal = signature.refuses_dtype(0, "the input")) {
      return refusal;
    }
    if (signature.has_output(1)) return "the positions of the maxima are wanted";
    if (signature.inputs[0].rank() != spec->window.spatial_rank() + 2)
      return "the window does not fit the input's rank";
    if (spec->layout == ImageLayout::nchw &&
        (spec->kernel.back() - 1) * spec->window.dilations.back() >= kMaxPoolReach) {
      return fmt::format("the window reaches over {} elements of a row, at most {} are supported",
                         (spec->kernel.back() - 1) * spec->window.dilations.back() + 1, kMaxPoolReach);
    }
    return std::nullopt;
  }
  explicit PoolKernel(const KernelSpec& spec)
      : op_(spec.op), spec_(*spec_of(*spec.op)), kernels_(TENFOLD_FOR_TIER(kPoolKernels)) {
    if (const auto* pool = dynamic_cast<const AveragePool*>(spec.op.get())) {
      average_ = true;
      include_pad_ = pool->count_include_pad();
    }
  }
  static double estimate_us(const Problem& problem) { return 2 * estimate_streaming_us(problem); }

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    PoolShape shape{};
    shape.average = average_;
    shape.include_pad = include_pad_;
    const int spatial_rank = spec_.window.spatial_rank(), first = first_spatial_axis(spec_.layout);
    for (int a = 0; a < 3; ++a) {
      shape.in[a] = shape.out[a] = shape.kernel[a] = shape.stride[a] = shape.dilation[a] = 1;
      const int axis = a - (3 - spatial_rank);
      if (axis < 0) continue;
      const auto i = static_cast<std::size_t>(axis);
      shape.in[a] = x.dim(first + axis);
      shape.out[a] = y.dim(first + axis);
      shape.kernel[a] = spec_.kernel[i];
      shape.stride[a] = spec_.window.strides[i];
      shape.dilation[a] = spec_.window.dilations[i];
      const auto [begin, end] = spec_.window.padding(axis, shape.in[a], shape.kernel[a]);
      shape.pad_begin[a] = begin;
      shape.pad_end[a] = end;
    }
    const auto* in = x.as<const float>();
    auto* out = y.as<float>();
    const std::int64_t in_pixels = shape.in[0] * shape.in[1] * shape.in[2];
    const std::int64_t out_pixels = shape.out[0] * shape.out[1] * shape.out[2];
    const auto taps = static_cast<double>(shape.kernel[0] * shape.kernel[1] * shape.kernel[2]);
    constexpr double kNsPerTap = 0.05;
    if (spec_.layout == ImageLayout::nhwc) {
      const std::int64_t channels = x.dims.back(), rows = shape.out[0] * shape.out[1];
      split(pool_of(launch), x.dims[0] * rows, kNsPerTap * taps * static_cast<double>(shape.out[2] * channels),
            [&](std::int64_t begin, std::int64_t end) {
              for (std::int64_t at = begin; at < end;) {
                const std::int64_t n = at / rows, row = at % rows, last = std::min(rows, row + end - at);
                if (x.dtype == DType::bfloat16) {
                  kernels_.nhwc_bf16(shape, x.as<const std::uint16_t>() + n * in_pixels * x.pitch, x.pitch,
                                     y.as<std::uint16_t>() + n * out_pixels * y.pitch, y.pitch, channels, row, last);
                  at += last - row;
                  continue;
                }
                if (x.dtype != DType::float32) {
                  const auto* bytes = static_cast<const std::uint8_t*>(x.data);
                  kernels_.nhwc_bytes(shape, x.dtype == DType::int8, bytes + n * in_pixels * x.pitch, x.pitch,
                                      static_cast<std::uint8_t*>(y.data) + n * out_pixels * y.pitch, y.pitch, channels,
                                      row, last);
                  at += last - row;
                  continue;
                }
                kernels_.nhwc(shape, in + n * in_pixels * x.pitch, x.pitch, out + n * out_pixels * y.pitch, y.pitch,
                              channels, row, last);
                at += last - row;
              }
            });
      return;
    }
    // Cost of a plane: down the columns of the input, then along the rows.
    split(pool_of(launch), x.dims[0] * x.dims[1], 2 * kNsPerTap * taps * static_cast<double>(out_pixels) + 20,
          [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t p = begin; p < end && x.dtype != DType::float32; ++p) {
              // A plane is an image of one channel. Slow, but models pool between convolutions, channels last.
              kernels_.nhwc_bytes(
                  shape, x.dtype == DType::int8, static_cast<const std::uint8_t*>(x.data) + p * in_pixels, 1,
                  static_cast<std::uint8_t*>(y.data) + p * out_pixels, 1, 1, 0, shape.out[0] * shape.out[1]);
            }
            for (std::int64_t p = begin; p < end && x.dtype == DType::float32; ++p)
              kernels_.plane(shape, in + p * in_pixels, out + p * out_pixels);
          });
  }
  bool accepts_pitched_input(int) const override { return spec_.layout == ImageLayout::nhwc; }
  bool accepts_pitched_output(int) const override { return spec_.layout == ImageLayout::nhwc; }

 private:
  OpPtr op_;  // owns spec_
  const PoolSpec& spec_;
  bool average_ = false, include_pad_ = false;
  const PoolKernels& kernels_;
};

}  // namespace

const CpuTactic kMaxPoolWindow = plain_tactic<PoolKernel>("pool.window", "MaxPool");
const CpuTactic kAveragePoolWindow = plain_tactic<PoolKernel>("pool.window", "AveragePool");

}  // namespace tenfold::cpu
