// Softmax, LogSoftmax and the normalizations. Statistics never mix threads: a row, a group or a block of columns
// belongs to one, so results do not depend on their number.
#include "backend/cpu/kernels/normalize.hpp"

#include <array>
#include <cmath>

#include "backend/cpu/tactic_tools.hpp"
#include "ops/pointwise.hpp"

namespace tenfold::cpu {

namespace {

/// Columns that one call handles: a few vectors, whole cache lines.
constexpr std::int64_t kColumnBlock = 64;

/// Rows of a view whose last axes from `axis` on are one row. Only a row that is the last axis alone may be pitched.
struct Rows {
  std::int64_t count, length, stride;
};
Rows rows_from(const TensorView& view, std::size_t axis) {
  const std::int64_t length = product_of_dims(view.dims, axis, view.dims.size());
  return {product_of_dims(view.dims, 0, axis), length, axis + 1 == view.dims.size() ? view.pitch : length};
}

class SoftmaxKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (auto refusal = signature.refuses_dtype(0, "the input")) return refusal;
    if (!axis_of(signature)) return "no such axis";
    return std::nullopt;
  }
  explicit SoftmaxKernel(const KernelSpec& spec)
      : axis_(static_cast<std::size_t>(*axis_of({*spec.op, spec.inputs, spec.outputs}))),
        is_last_(axis_ + 1 == spec.inputs[0].dims.size()),
        logarithm_(spec.op->type() == "LogSoftmax"),
        kernels_(TENFOLD_FOR_TIER(kNormalizeKernels)) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (x.num_elements() == 0) return;
    ThreadPool& pool = pool_of(launch);
    constexpr double kNsPerElement = 0.6;
    const auto* in = x.as<const float>();
    auto* out = y.as<float>();
    const std::int64_t length = x.dims[axis_];
    if (is_last_) {
      const std::int64_t rows = x.num_elements() / length;
      split(pool, rows, kNsPerElement * static_cast<double>(length), [&](std::int64_t begin, std::int64_t end) {
        kernels_.softmax_rows(in + begin * x.pitch, x.pitch, out + begin * y.pitch, y.pitch, end - begin, length,
                              logarithm_);
      });
      return;
    }
    const std::int64_t inner = product_of_dims(x.dims, axis_ + 1, x.dims.size());
    const std::int64_t blocks = (inner + kColumnBlock - 1) / kColumnBlock;
    const std::int64_t outer = x.num_elements() / (length * inner);
    split(pool, outer * blocks, kNsPerElement * static_cast<double>(length * std::min(inner, kColumnBlock)),
          [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t task = begin; task < end; ++task) {
              const std::int64_t col = task % blocks * kColumnBlock;
              const std::int64_t offset = task / blocks * length * inner + col;
              kernels_.softmax_columns(in + offset, out + offset, length, inner, std::min(kColumnBlock, inner - col),
                                       logarithm_);
            }
          });
  }
  bool accepts_pitched_input(int) const override { return is_last_; }
  bool accepts_pitched_output(int) const override { return is_last_; }
  bool can_run_in_place(int) const override { return true; }

 private:
  static std::optional<int> axis_of(const Signature& signature) {
    return normalized_axis(signature.op.attributes().get_int("axis", -1), signature.inputs[0].rank());
  }
  std::size_t axis_;
  bool is_last_;
  bool logarithm_;
  const NormalizeKernels& kernels_;
};

/// LayerNormalization and RMSNormalization: rows from `axis` to the end.
class LayerNormKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (auto refusal = signature.refuses_dtype(0, "the input")) return refusal;
    if (auto refusal = signature.refuses_dtype(1, "the scale")) return refusal;
    if (signature.has_input(2)) {
      if (auto refusal = signature.refuses_dtype(2, "the bias")) return refusal;
    }
    const std::optional<int> axis = axis_of(signature);
    if (!axis) return "no such axis";
    const auto& x = signature.inputs[0].dims;
    for (std::size_t i = 1; i < signature.inputs.size(); ++i) {
      if (!signature.has_input(i)) continue;
      // One factor for each element of a row; leading axes of size 1 do not matter.
      std::vector<Dim> dims = signature.inputs[i].dims;
      const std::size_t wanted = x.size() - static_cast<std::size_t>(*axis);
      while (dims.size() > wanted && dims.front() == Dim(1)) dims.erase(dims.begin());
      if (dims != std::vector<Dim>(x.begin() + *axis, x.end())) {
        return fmt::format("input {} has not the shape of the axes that are normalized", i);
      }
    }
    for (std::size_t i = 0; i < signature.outputs.size(); ++i) {
      if (signature.has_output(i) && signature.outputs[i].dtype != DType::float32) return "an output is not float32";
    }
    return std::nullopt;
  }
  explicit LayerNormKernel(const KernelSpec& spec)
      : axis_(static_cast<std::size_t>(*axis_of({*spec.op, spec.inputs, spec.outputs}))),
        is_last_(axis_ + 1 == spec.inputs[0].dims.size()),
        centered_(spec.op->type() == "LayerNormalization"),
        epsilon_(static_cast<float>(spec.op->attributes().get_float("epsilon", 1e-5))),
        kernels_(TENFOLD_FOR_TIER(kNormalizeKernels)) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    const Rows in = rows_from(x, axis_), out = rows_from(y, axis_);
    if (in.count == 0 || in.length == 0) return;
    const auto* scale = launch.inputs[1].as<const float>();
    const auto* bias = operand_of(launch.inputs, 2).as<const float>();
    auto* mean = operand_of(launch.outputs, 1).as<float>();
    auto* inverse = operand_of(launch.outputs, 2).as<float>();
    constexpr double kNsPerElement = 0.3;
    split(pool_of(launch), in.count, kNsPerElement * static_cast<double>(in.length),
          [&](std::int64_t begin, std::int64_t end) {
            kernels_.normalize_rows(x.as<const float>() + begin * in.stride, in.stride,
                                    y.as<float>() + begin * out.stride, out.stride, end - begin, in.length, scale, bias,
                                    epsilon_, centered_, mean == nullptr ? nullptr : mean + begin,
                                    inverse == nullptr ? nullptr : inverse + begin);
          });
  }
  bool accepts_pitched_input(int index) const override { return index == 0 && is_last_; }
  bool accepts_pitched_output(int index) const override { return index == 0 && is_last_; }
  bool can_run_in_place(int index) const override { return index == 0; }

 private:
  static std::optional<int> axis_of(const Signature& signature) {
    return normalized_axis(signature.op.attributes().get_int("axis", -1), signature.inputs[0].rank());
  }
  std::size_t axis_;
  bool is_last_;
  bool centered_;
  float epsilon_;
  const NormalizeKernels& kernels_;
};

/// InstanceNormalization and GroupNormalization: statistics over the pixels of each channel, or of each group of
/// neighbouring channels. Input [N, C, pixels] or [N, pixels, C].
class GroupNormKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    for (std::size_t i = 0; i < 3; ++i) {
      if (auto refusal = signature.refuses_dtype(i, i == 0 ? "the input" : i == 1 ? "the scale" : "the bias"))
        return refusal;
    }
    const TensorType& x = signature.inputs[0];
    if (x.rank() < 2) return fmt::format("rank {} has no channels", x.rank());
    const bool nhwc = is_nhwc(signature.op);
    const Dim& channels = x.dims[nhwc ? static_cast<std::size_t>(x.rank() - 1) : 1];
    for (std::size_t i = 1; i < 3; ++i) {
      if (signature.inputs[i].dims != std::vector<Dim>{channels})
        return fmt::format("input {} is not one number a channel", i);
    }
    if (signature.op.type() == "GroupNormalization") {
      const Epilogue epilogue = Epilogue::from(signature.op.attributes());
      if (!epilogue.program.empty() || epilogue.output != DType::undefined) return "it has an epilogue";
      const std::int64_t groups = signature.op.attributes().get_int("num_groups");
      if (groups <= 0) return "num_groups is not positive";
      if (!channels.is_constant() || channels.constant() % groups != 0) return "the groups do not divide the channels";
    }
    return std::nullopt;
  }
  explicit GroupNormKernel(const KernelSpec& spec)
      : nhwc_(is_nhwc(*spec.op)),
        groups_(spec.op->type() == "GroupNormalization" ? spec.op->attributes().get_int("num_groups") : 0),
        epsilon_(static_cast<float>(spec.op->attributes().get_float("epsilon", 1e-5))),
        kernels_(TENFOLD_FOR_TIER(kNormalizeKernels)) {}
  std::size_t workspace_bytes(std::span<const TensorView> inputs, std::span<const TensorView>) const override {
    // nhwc: per image and channel a mean and a variance, then a factor and a summand.
    if (!nhwc_ || inputs[0].dims.empty()) return 0;
    return 2 * sizeof(float) * static_cast<std::size_t>(inputs[0].dims.front() * inputs[0].dims.back());
  }
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    if (x.num_elements() == 0) return;
    if (nhwc_) {
      run_nhwc(launch);
    } else {
      run_nchw(launch);
    }
  }
  bool can_run_in_place(int index) const override { return index == 0; }

 private:
  static constexpr double kNsPerElement = 0.3;
  static bool is_nhwc(const Op& op) { return op.attributes().get_string("layout", "nchw") == "nhwc"; }

  void run_nchw(const Launch& launch) const {
    const TensorView& x = launch.inputs[0];
    const auto* in = x.as<const float>();
    auto* out = launch.outputs[0].as<float>();
    const auto* scale = launch.inputs[1].as<const float>();
    const auto* bias = launch.inputs[2].as<const float>();
    const std::int64_t channels = x.dims[1], pixels = product_of_dims(x.dims, 2, x.dims.size());
    const std::int64_t groups = groups_ == 0 ? channels : groups_, width = channels / groups;
    split(pool_of(launch), x.dims[0] * groups, kNsPerElement * static_cast<double>(width * pixels),
          [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t g = begin; g < end; ++g) {
              float mean = 0, variance = 0;
              kernels_.moments(in + g * width * pixels, width * pixels, &mean, &variance);
              for (std::int64_t i = 0; i < width; ++i) {
                const std::int64_t c = g % groups * width + i, offset = (g * width + i) * pixels;
                const float factor = scale[c] / std::sqrt(variance + epsilon_);
                const float summand = bias[c] - mean * factor;
                kernels_.scale_rows(in + offset, out + offset, 1, pixels, pixels, &factor, &summand, false);
              }
            }
          });
  }

  void run_nhwc(const Launch& launch) const {
    const TensorView& x = launch.inputs[0];
    const auto* in = x.as<const float>();
    auto* out = launch.outputs[0].as<float>();
    const auto* scale = launch.inputs[1].as<const float>();
    const auto* bias = launch.inputs[2].as<const float>();
    const std::int64_t images = x.dims.front(), channels = x.dims.back();
    const std::int64_t pixels = product_of_dims(x.dims, 1, x.dims.size() - 1);
    auto* factor = reinterpret_cast<float*>(launch.workspace.data());
    float* summand = factor + images * channels;
    ThreadPool& pool = pool_of(launch);
    // First a mean and a variance for each channel, in the places of factor and summand.
    const std::int64_t blocks = (channels + kColumnBlock - 1) / kColumnBlock;
    split(pool, images * blocks, kNsPerElement * static_cast<double>(pixels * std::min(channels, kColumnBlock)),
          [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t task = begin; task < end; ++task) {
              const std::int64_t n = task / blocks, c = task % blocks * kColumnBlock;
              kernels_.column_moments(in + n * pixels * channels + c, pixels, channels,
                                      std::min(kColumnBlock, channels - c), factor + n * channels + c,
                                      summand + n * channels + c);
            }
          });
    const std::int64_t groups = groups_ == 0 ? channels : groups_, width = channels / groups;
    for (std::int64_t g = 0; g < images * groups; ++g) {
      float* mean = factor + g * width;
      float* variance = summand + g * width;
      // Every channel has as many pixels: the group's mean is the mean of the means, its variance the mean of the
      // variances plus the variance of the means.
      double m = 0, v = 0;
      for (std::int64_t i = 0; i < width; ++i) m += mean[i];
      m /= static_cast<double>(width);
      for (std::int64_t i = 0; i < width; ++i) v += variance[i] + (mean[i] - m) * (mean[i] - m);
      v /= static_cast<double>(width);
      const double inverse = 1 / std::sqrt(v + static_cast<double>(epsilon_));
      for (std::int64_t i = 0; i < width; ++i) {
        const std::int64_t c = g % groups * width + i;
        const double f = scale[c] * inverse;
        mean[i] = static_cast<float>(f);
        variance[i] = static_cast<float>(bias[c] - m * f);
      }
    }
    for (std::int64_t n = 0; n < images; ++n) {
      const std::int64_t offset = n * pixels * channels;
      split(pool, pixels, kNsPerElement * static_cast<double>(channels), [&](std::int64_t begin, std::int64_t end) {
        kernels_.scale_rows(in + offset + begin * channels, out + offset + begin * channels, end - begin, channels,
                            channels, factor + n * channels, summand + n * channels, true);
      });
    }
  }

  bool nhwc_;
  std::int64_t groups_;  ///< 0: each channel by itself
  float epsilon_;
  const NormalizeKernels& kernels_;
};

}  // namespace

const CpuTactic kSoftmax = plain_tactic<SoftmaxKernel>("softmax.lines", "Softmax");
const CpuTactic kLogSoftmax = plain_tactic<SoftmaxKernel>("softmax.lines", "LogSoftmax");
const CpuTactic kLayerNorm = plain_tactic<LayerNormKernel>("normalize.rows", "LayerNormalization");
const CpuTactic kRmsNorm = plain_tactic<LayerNormKernel>("normalize.rows", "RMSNormalization");
const CpuTactic kInstanceNorm = plain_tactic<GroupNormKernel>("normalize.channels", "InstanceNormalization");
const CpuTactic kGroupNorm = plain_tactic<GroupNormKernel>("normalize.channels", "GroupNormalization");

}  // namespace tenfold::cpu
