// Convolution of images with few channels, such as the first of a network, on the tensor cores of Hopper.
//
// A first kernel copies the image, with its padding, into blocks of stride_h x stride_w pixels ("space to depth"), each
// padded to 16 bytes. There the convolution has stride 1 and ceil(kernel / stride) positions along each axis, and those
// of one row lie side by side: the second kernel sees a pixel that overlaps its neighbour, with the channels of all of
// them, and a kernel of one column. Seven rows of seven positions with three channels become four rows of 64 channels.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "backend/cuda/conv_fold.hpp"
#include "backend/cuda/gemm_kernel.hpp"

namespace tenfold::cuda {
namespace {

constexpr std::int64_t kMaxChannels = 32, kMaxStride = 4;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::optional<std::string> refuses(const Conv& conv, const std::vector<TensorType>& inputs,
                                   const std::vector<TensorType>& outputs) {
  if (auto refusal = refuses_conv(conv, inputs, outputs)) return refusal;
  if (conv.group() != 1) return "grouped";
  if (auto refusal = refuses_elements(inputs[0].dtype, inputs[1].dtype, outputs[0].dtype)) return refusal;
  const FilterSizes sizes = filter_sizes(inputs[1]);
  const Window& window = conv.window();
  if (sizes.channels >= kMaxChannels) return fmt::format("{} channels are many", sizes.channels);
  if (window.strides[0] > kMaxStride || window.strides[1] > kMaxStride)
    return fmt::format("a stride above {}", kMaxStride);
  if (window.dilations[0] != 1 || window.dilations[1] != 1) return "dilated";
  constexpr std::int64_t kMaxKernel = 64, kMaxFolded = 4096;
  const Fold fold = fold_of(conv, sizes, inputs[0].dtype);
  if (sizes.kernel_h > kMaxKernel || sizes.kernel_w > kMaxKernel || fold.channels > kMaxFolded)
    return "the kernel is too large";
  return std::nullopt;
}

struct CheckedSpec {
  GemmSchedule schedule;
  EpilogueSpec epilogue;
  Fold fold;
};
CheckedSpec check(const KernelSpec& spec) {
  const Conv& conv = conv_of(spec.op);
  CheckedSpec checked{.schedule = GemmSchedule::decode(spec.parameters), .epilogue = {}, .fold = {}};
  std::string refusal = refuses(conv, spec.inputs, spec.outputs).value_or("");
  std::optional<EpilogueSpec> epilogue;
  if (refusal.empty()) {
    epilogue = epilogue_spec(conv.epilogue().program, spec.inputs, Conv::kFirstEpilogueInput, spec.outputs[0], refusal);
  }
  require(refusal.empty(), Code::incompatible_engine, "tactic '{}' cannot run this Conv: {}", spec.tactic, refusal);
  checked.fold = fold_of(conv, filter_sizes(spec.inputs[1]), spec.inputs[0].dtype);
  const GemmSchedule& schedule = checked.schedule;
  require(
      schedule.columns == ColumnSource::packed && schedule.element == spec.inputs[0].dtype &&
          schedule.output == spec.outputs[0].dtype && schedule.rows == RowSource::image &&
          (schedule.staged_residuals == 0 || epilogue->stageable(schedule.output) >= 0) &&
          ceil_div(checked.fold.channels, schedule.row_elements()) * checked.fold.kernel_h % schedule.loads_per_stage ==
              0,
      Code::incompatible_engine, "tactic '{}': the schedule does not fit the operator", spec.tactic);
  checked.epilogue = std::move(*epilogue);
  checked.epilogue.has_bias = has_bias(spec.inputs);
  return checked;
}

Source source(const KernelSpec& spec, const DeviceTraits&) {
  const CheckedSpec checked = check(spec);
  Source source{gemm_text(checked.schedule, checked.epilogue), {std::string(kGemmEntry), std::string(kFoldEntry)}};
  source.text +=
      fold_text(checked.fold, filter_sizes(spec.inputs[1]).channels, checked.schedule.element, /*is_planar=*/false);
  return source;
}

class FoldedKernel final : public Kernel {
 public:
  FoldedKernel(const KernelSpec& spec, CheckedSpec checked, const LoadedModule& module)
      : op_(spec.op),
        sizes_(filter_sizes(spec.inputs[1])),
        fold_(checked.fold),
        launcher_(checked.schedule, std::move(checked.epilogue), module),
        fold_function_(module.function(kFoldEntry)),
        loads_k_(loads_along_k(launcher_.schedule(), fold_.channels, fold_.kernel_h)),
        b_(launcher_.packed_map(module.weight(0), sizes_.n, loads_k_)),
        bias_(launcher_.epilogue().has_bias ? static_cast<const float*>(module.weight(1)) : nullptr) {}

  std::size_t workspace_bytes(std::span<const TensorView>, std::span<const TensorView> outputs) const override {
    const TensorView& y = outputs[0];
    return static_cast<std::size_t>(y.dim(0) * rows(y) * columns(y) * fold_.block) *
           size_of(launcher_.schedule().element);
  }

  void run(const Launch& launch) const override {
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    const GemmSchedule& schedule = launcher_.schedule();
    launch_fold(launch, fold_function_, conv_of(op_).window(), sizes_, rows(y), columns(y));

    const auto u64 = [](std::int64_t v) { return static_cast<std::uint64_t>(v); };
    const std::uint64_t size = size_of(schedule.element);
    const std::array<std::uint64_t, 4> dims{u64(fold_.channels), u64(y.dim(2)), u64(rows(y)), u64(y.dim(0))};
    const std::array<std::uint64_t, 3> strides{u64(fold_.block) * size, u64(fold_.block * columns(y)) * size,
                                               u64(fold_.block * columns(y) * rows(y)) * size};
    const std::array<int, 2> lower{0, 0}, upper{0, static_cast<int>(1 - fold_.kernel_h)};
    const std::array<std::uint32_t, 4> steps{1, 1, 1, 1};
    const TensorMap a =
        encode_im2col(map_type(schedule.element), 4, launch.workspace.data(), dims.data(), strides.data(), lower.data(),
                      upper.data(), static_cast<unsigned>(schedule.row_elements()),
                      static_cast<unsigned>(schedule.tile_m()), steps.data(), swizzle_of(schedule.row_bytes));
    GemmArguments arguments{};
    arguments.m = static_cast<int>(y.dim(0) * y.dim(1) * y.dim(2));
    arguments.batches = 1;
    arguments.bias = bias_;
    arguments.out_h = static_cast<int>(y.dim(1));
    arguments.out_w = static_cast<int>(y.dim(2));
    arguments.channel_loads = static_cast<int>(loads_k_ / fold_.kernel_h);
    arguments.kernel_w = 1;
    arguments.stride_h = arguments.stride_w = 1;
    arguments.dilation_h = arguments.dilation_w = 1;
    launcher_.run(launch, arguments, a, b_, loads_k_, launch.inputs, Conv::kFirstEpilogueInput, y);
  }
  bool accepts_pitched_input(int index) const override { return index == 0; }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  std::int64_t rows(const TensorView& y) const { return y.dim(1) + fold_.kernel_h - 1; }
  std::int64_t columns(const TensorView& y) const { return y.dim(2) + fold_.kernel_w - 1; }

  OpPtr op_;
  FilterSizes sizes_;
  Fold fold_;
  GemmLauncher launcher_;
  Function fold_function_;
  std::int64_t loads_k_;
  TensorMap b_;
  const float* bias_;
};

void candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  const Conv& conv = conv_of(problem.op);
  const std::optional<EpilogueSpec> epilogue = epilogue_or_refusal(problem, traits, refuses, out);
  if (!epilogue) return;
  const FilterSizes sizes = filter_sizes(problem.inputs[1]);
  const Fold fold = fold_of(conv, sizes, problem.inputs[0].dtype);
  const Shape& y = problem.output_shapes[0];
  GemmShape shape;
  shape.m = std::max<std::int64_t>(1, y[0] * y[1] * y[2]);
  shape.n = sizes.n;
  shape.channels = fold.channels;
  shape.positions = fold.kernel_h;
  shape.rows = RowSource::image;
  shape.element = problem.inputs[0].dtype;
  shape.output = problem.outputs[0].dtype;
  const auto size = static_cast<double>(size_of(shape.element));
  const double folded =
      static_cast<double>(y[0] * (y[1] + fold.kernel_h - 1) * (y[2] + fold.kernel_w - 1) * fold.block) * size;
  // The copy and its way back, as bytes of the product: they share the memory's time.
  shape.input_bytes = 2 * folded + static_cast<double>(num_elements(problem.input_shapes[0])) * size;
  shape.num_whole = epilogue->num_whole();
  shape.can_stage = epilogue->stageable(shape.output) >= 0 &&
                    sizes.n * static_cast<std::int64_t>(size_of(shape.output)) % kMapAlignment == 0;
  offer_schedules(shape, traits, out);
}

PackedWeights pack(const Problem& problem, const Candidate& candidate) {
  const GemmSchedule schedule = GemmSchedule::decode(candidate.parameters);
  const FilterSizes sizes = filter_sizes(problem.inputs[1]);
  const Fold fold = fold_of(conv_of(problem.op), sizes, schedule.element);
  const auto size = static_cast<std::size_t>(schedule.element_bytes());
  // [n][folded row][folded column][row in block][column in block][channel]
  std::vector<std::byte> folded(static_cast<std::size_t>(sizes.n * fold.kernel_h * fold.channels) * size);
  for (std::int64_t n = 0; n < sizes.n; ++n) {
    for (std::int64_t r = 0; r < sizes.kernel_h; ++r) {
      for (std::int64_t s = 0; s < sizes.kernel_w; ++s) {
        for (std::int64_t c = 0; c < sizes.channels; ++c) {
          const std::int64_t inside = (r % fold.stride_h * fold.stride_w + s % fold.stride_w) * sizes.channels + c;
          const std::int64_t to =
              (n * fold.kernel_h + r / fold.stride_h) * fold.channels + s / fold.stride_w * fold.block + inside;
          const std::int64_t from = ((n * sizes.channels + c) * sizes.kernel_h + r) * sizes.kernel_w + s;
          std::memcpy(folded.data() + static_cast<std::size_t>(to) * size,
                      problem.constants[1]->data() + static_cast<std::size_t>(from) * size, size);
        }
      }
    }
  }
  PackedWeights packed;
  packed.consumed_inputs = {1};
  packed.blobs.push_back(pack_columns(schedule, sizes.n, fold.channels, fold.kernel_h, folded.data(),
                                      [&](std::int64_t n, std::int64_t position, std::int64_t channel) {
                                        return (n * fold.kernel_h + position) * fold.channels + channel;
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
  const auto columns = static_cast<std::size_t>(
      packed_columns_bytes(checked.schedule, sizes.n, checked.fold.channels, checked.fold.kernel_h));
  const std::size_t vector = sizeof(float) * static_cast<std::size_t>(padded_columns(checked.schedule, sizes.n));
  require(spec.weights.size() == (checked.epilogue.has_bias ? 2U : 1U) && spec.weights[0].size() == columns &&
              (!checked.epilogue.has_bias || spec.weights[1].size() == vector),
          Code::incompatible_engine, "tactic '{}' expects packed weights of {} bytes and a bias of {} bytes or none",
          spec.tactic, columns, vector);
  return std::make_unique<FoldedKernel>(spec, std::move(checked), module);
}

}  // namespace

const CudaTactic kConvFolded{"conv.wgmma_folded", "Conv", candidates, pack, source, make};

}  // namespace tenfold::cuda
