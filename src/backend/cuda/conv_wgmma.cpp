// Channels-last convolution over two axes on the tensor cores of Hopper, as an implicit matrix product: a row is an
// output pixel, k runs over (kernel row, kernel column, channel), and the tensor memory accelerator gathers the pixels
// ("im2col"), writing zeros for what lies outside the image.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "backend/cuda/conv_filter.hpp"
#include "backend/cuda/gemm_kernel.hpp"

namespace tenfold::cuda {
namespace {

/// What an im2col tensor map can say.
constexpr std::int64_t kMaxStride = 8, kMaxCorner = 127;

std::optional<std::string> refuses(const Conv& conv, const std::vector<TensorType>& inputs,
                                   const std::vector<TensorType>& outputs) {
  if (auto refusal = refuses_conv(conv, inputs, outputs)) return refusal;
  if (conv.group() != 1) return "grouped";
  if (auto refusal = refuses_elements(inputs[0].dtype, inputs[1].dtype, outputs[0].dtype)) return refusal;
  const FilterSizes sizes = filter_sizes(inputs[1]);
  if (sizes.channels * static_cast<std::int64_t>(size_of(inputs[0].dtype)) % kMapAlignment != 0) {
    return fmt::format("pixels of {} channels are no multiple of {} bytes", sizes.channels, kMapAlignment);
  }
  const Window& window = conv.window();
  const std::array kernel{sizes.kernel_h, sizes.kernel_w};
  for (std::size_t axis = 0; axis < 2; ++axis) {
    const std::int64_t reach = (kernel[axis] - 1) * window.dilations[axis];
    const bool auto_padded = window.auto_pad != AutoPad::notset;
    const std::int64_t pad = auto_padded ? reach : std::max(window.pads[axis], window.pads[axis + 2]);
    if (window.strides[axis] > kMaxStride || reach + pad > kMaxCorner)
      return "stride, padding or dilation exceed what im2col loads can do";
  }
  return std::nullopt;
}

/// 1x1 with stride 1 and no padding is a plain product of the pixels' matrix.
bool is_matrix(const Conv& conv, const FilterSizes& sizes) {
  return sizes.positions() == 1 && conv.window().is_unit_stride() && !conv.window().has_padding() &&
         conv.window().auto_pad == AutoPad::notset;
}

struct CheckedSpec {
  GemmSchedule schedule;
  EpilogueSpec epilogue;
};
CheckedSpec check(const KernelSpec& spec) {
  const Conv& conv = conv_of(spec.op);
  CheckedSpec checked{.schedule = GemmSchedule::decode(spec.parameters), .epilogue = {}};
  std::string refusal = refuses(conv, spec.inputs, spec.outputs).value_or("");
  std::optional<EpilogueSpec> epilogue;
  if (refusal.empty()) {
    epilogue = epilogue_spec(conv.epilogue().program, spec.inputs, Conv::kFirstEpilogueInput, spec.outputs[0], refusal);
  }
  require(refusal.empty(), Code::incompatible_engine, "tactic '{}' cannot run this Conv: {}", spec.tactic, refusal);
  const FilterSizes sizes = filter_sizes(spec.inputs[1]);
  const GemmSchedule& schedule = checked.schedule;
  require(schedule.columns == ColumnSource::packed && schedule.element == spec.inputs[0].dtype &&
              schedule.output == spec.outputs[0].dtype &&
              schedule.rows == (is_matrix(conv, sizes) ? RowSource::matrix : RowSource::image) &&
              (schedule.staged_residuals == 0 || epilogue->stageable(schedule.output) >= 0) &&
              (schedule.rows == RowSource::matrix || (sizes.channels + schedule.row_elements() - 1) /
                                                             schedule.row_elements() * sizes.positions() %
                                                             schedule.loads_per_stage ==
                                                         0),
          Code::incompatible_engine, "tactic '{}': the schedule does not fit the operator", spec.tactic);
  checked.epilogue = std::move(*epilogue);
  checked.epilogue.has_bias = has_bias(spec.inputs);
  return checked;
}

class ConvKernel final : public Kernel {
 public:
  ConvKernel(const KernelSpec& spec, CheckedSpec checked, const LoadedModule& module)
      : op_(spec.op),
        sizes_(filter_sizes(spec.inputs[1])),
        launcher_(checked.schedule, std::move(checked.epilogue), module),
        loads_k_(loads_along_k(launcher_.schedule(), sizes_.channels, sizes_.positions())),
        b_(launcher_.packed_map(module.weight(0), sizes_.n, loads_k_)),
        bias_(launcher_.epilogue().has_bias ? static_cast<const float*>(module.weight(1)) : nullptr) {}

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    const Window& window = conv_of(op_).window();
    const GemmSchedule& schedule = launcher_.schedule();
    GemmArguments arguments{};
    const std::int64_t pixels = y.dim(0) * y.dim(1) * y.dim(2);
    arguments.m = static_cast<int>(pixels);
    arguments.batches = 1;
    arguments.bias = bias_;
    arguments.out_h = static_cast<int>(y.dim(1));
    arguments.out_w = static_cast<int>(y.dim(2));
    TensorMap a;
    if (schedule.rows == RowSource::matrix) {
      a = launcher_.matrix_map(x.data, 1, pixels, sizes_.channels, x.pitch, schedule.row_elements(), schedule.tile_m());
    } else {
      const auto pad_h = window.padding(0, x.dim(1), sizes_.kernel_h),
                 pad_w = window.padding(1, x.dim(2), sizes_.kernel_w);
      const std::int64_t reach_h = (sizes_.kernel_h - 1) * window.dilations[0];
      const std::int64_t reach_w = (sizes_.kernel_w - 1) * window.dilations[1];
      const auto size = static_cast<std::uint64_t>(schedule.element_bytes());
      const auto u64 = [](std::int64_t v) { return static_cast<std::uint64_t>(v); };
      const std::array<std::uint64_t, 4> dims{u64(x.dim(3)), u64(x.dim(2)), u64(x.dim(1)), u64(x.dim(0))};
      const std::array<std::uint64_t, 3> strides{u64(x.pitch) * size, u64(x.pitch * x.dim(2)) * size,
                                                 u64(x.pitch * x.dim(2) * x.dim(1)) * size};
      const std::array<int, 2> lower{static_cast<int>(-pad_w[0]), static_cast<int>(-pad_h[0])};
      const std::array<int, 2> upper{static_cast<int>(pad_w[1] - reach_w), static_cast<int>(pad_h[1] - reach_h)};
      const std::array<std::uint32_t, 4> steps{1, static_cast<std::uint32_t>(window.strides[1]),
                                               static_cast<std::uint32_t>(window.strides[0]), 1};
      a = encode_im2col(map_type(schedule.element), 4, x.data, dims.data(), strides.data(), lower.data(), upper.data(),
                        static_cast<unsigned>(schedule.row_elements()), static_cast<unsigned>(schedule.tile_m()),
                        steps.data(), swizzle_of(schedule.row_bytes));
      arguments.channel_loads = static_cast<int>(loads_k_ / sizes_.positions());
      arguments.kernel_w = static_cast<int>(sizes_.kernel_w);
      arguments.stride_h = static_cast<int>(window.strides[0]);
      arguments.stride_w = static_cast<int>(window.strides[1]);
      arguments.pad_h = static_cast<int>(pad_h[0]);
      arguments.pad_w = static_cast<int>(pad_w[0]);
      arguments.dilation_h = static_cast<int>(window.dilations[0]);
      arguments.dilation_w = static_cast<int>(window.dilations[1]);
    }
    launcher_.run(launch, arguments, a, b_, loads_k_, launch.inputs, Conv::kFirstEpilogueInput, y);
  }
  bool accepts_pitched_input(int) const override { return true; }
  bool accepts_pitched_output(int) const override { return true; }
  std::int64_t pitched_input_alignment() const override { return kMapAlignment; }

 private:
  OpPtr op_;
  FilterSizes sizes_;
  GemmLauncher launcher_;
  std::int64_t loads_k_;
  TensorMap b_;
  const float* bias_;
};

void candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  const Conv& conv = conv_of(problem.op);
  const std::optional<EpilogueSpec> epilogue = epilogue_or_refusal(problem, traits, refuses, out);
  if (!epilogue) return;
  const FilterSizes sizes = filter_sizes(problem.inputs[1]);
  const Shape& y = problem.output_shapes[0];
  GemmShape shape;
  shape.m = std::max<std::int64_t>(1, y[0] * y[1] * y[2]);
  shape.n = sizes.n;
  shape.channels = sizes.channels;
  shape.positions = sizes.positions();
  shape.rows = is_matrix(conv, sizes) ? RowSource::matrix : RowSource::image;
  shape.element = problem.inputs[0].dtype;
  shape.output = problem.outputs[0].dtype;
  shape.input_bytes =
      static_cast<double>(num_elements(problem.input_shapes[0])) * static_cast<double>(size_of(shape.element));
  shape.num_whole = epilogue->num_whole();
  shape.can_stage = epilogue->stageable(shape.output) >= 0 &&
                    sizes.n * static_cast<std::int64_t>(size_of(shape.output)) % kMapAlignment == 0;
  offer_schedules(shape, traits, out);
}

PackedWeights pack(const Problem& problem, const Candidate& candidate) {
  const GemmSchedule schedule = GemmSchedule::decode(candidate.parameters);
  const FilterSizes sizes = filter_sizes(problem.inputs[1]);
  PackedWeights packed;
  packed.consumed_inputs = {1};
  packed.blobs.push_back(pack_columns(schedule, sizes.n, sizes.channels, sizes.positions(),
                                      problem.constants[1]->data(),
                                      [&](std::int64_t n, std::int64_t position, std::int64_t channel) {
                                        return (n * sizes.channels + channel) * sizes.positions() + position;
                                      }));
  if (has_bias(problem.inputs)) {
    packed.blobs.push_back(pack_vector(schedule, sizes.n, problem.constants[kConvBias]));
    packed.consumed_inputs.push_back(kConvBias);
  }
  return packed;
}

std::unique_ptr<Kernel> make(const KernelSpec& spec, const LoadedModule& module) {
  CheckedSpec checked = check(spec);
  const FilterSizes sizes = filter_sizes(spec.inputs[1]);
  const auto columns =
      static_cast<std::size_t>(packed_columns_bytes(checked.schedule, sizes.n, sizes.channels, sizes.positions()));
  const std::size_t vector = sizeof(float) * static_cast<std::size_t>(padded_columns(checked.schedule, sizes.n));
  require(spec.weights.size() == (checked.epilogue.has_bias ? 2U : 1U) && spec.weights[0].size() == columns &&
              (!checked.epilogue.has_bias || spec.weights[1].size() == vector),
          Code::incompatible_engine, "tactic '{}' expects packed weights of {} bytes and a bias of {} bytes or none",
          spec.tactic, columns, vector);
  return std::make_unique<ConvKernel>(spec, std::move(checked), module);
}

}  // namespace

const CudaTactic kConvWgmma{"conv.wgmma",
                            "Conv",
                            candidates,
                            pack,
                            [](const KernelSpec& spec, const DeviceTraits&) {
                              const CheckedSpec checked = check(spec);
                              return Source{gemm_text(checked.schedule, checked.epilogue), {std::string(kGemmEntry)}};
                            },
                            make};

}  // namespace tenfold::cuda
