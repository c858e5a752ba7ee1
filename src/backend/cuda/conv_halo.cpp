// Convolutions with stride 1 of images with few channels inside a network, for Hopper: a tile of image rows is loaded
// once, with its border, and every position of the kernel multiplies it where it lies.
//
// A pixel is one row of shared memory, so the pixels under a position of the kernel are the same rows, some further;
// the accelerator's swizzle depends on the address alone, and a descriptor may start at any row. All weights stay in
// shared memory. Each warpgroup works on its own tiles, `depth` of which are on their way at a time.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "backend/cuda/conv_filter.hpp"
#include "backend/cuda/gemm_kernel.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "backend/cuda/tactic_tools.hpp"
#include "base/error.hpp"

namespace tenfold::cuda {
namespace {

constexpr std::string_view kEntry = "tenfold_halo";
/// What a box of the tensor memory accelerator can have along an axis.
constexpr std::int64_t kMaxBox = 256;
constexpr std::int64_t kMaxColumns = 128, kMaxPositions = 25;

TENFOLD_SHARED_STRUCT(
    kHaloArgumentsText, struct HaloArguments {
      int images, tiles_h, tile_rows, height, width, pitch, pad_h, pad_w, box_bytes, stage_bytes;
    });

constexpr std::string_view kText = R"(
constexpr int kThreads = kConsumers * 128, kPositions = kKernelH * kKernelW;
constexpr int kBytesB = kColumns * kRow;

extern "C" __global__ void __launch_bounds__(kThreads, 1)
tenfold_halo(const __grid_constant__ TensorMap map_x, const __grid_constant__ TensorMap map_weights, const __grid_constant__ HaloArguments halo, const __grid_constant__ GemmArguments args) {
  extern __shared__ char memory[];
  const u32 base = (shared_address(memory) + 1023u) & ~1023u;
  const int consumer = __shfl_sync(0xffffffffu, (int)threadIdx.x / 128, 0), thread = threadIdx.x % 128;
  const int lane = thread % 32, warp = thread / 32;
  const u32 weights = base + kConsumers * kDepth * halo.stage_bytes, stages = base + consumer * kDepth * halo.stage_bytes;
  const u32 barriers = weights + kPositions * kBytesB, full = barriers + 8 + 8 * consumer * kDepth;
  if (threadIdx.x == 0) {
    for (int i = 0; i < 1 + kConsumers * kDepth; ++i) barrier_init(barriers + 8 * i, 1);
    barrier_init_fence();
  }
  __syncthreads();
  allow_successor();
  if (threadIdx.x == 0) {
    barrier_expect(barriers, kPositions * kBytesB);
    for (int i = 0; i < kPositions; ++i) load_tile_2d(weights + i * kBytesB, &map_weights, barriers, i * (kRow / kElementBytes), 0);
  }
  wait_for_predecessor();
  const int tiles = halo.images * halo.tiles_h, step = gridDim.x * kConsumers, first_tile = blockIdx.x * kConsumers + consumer;
  auto load = [&](int tile, int buffer) {
    const int image = tile / halo.tiles_h, row = tile % halo.tiles_h * halo.tile_rows;
    barrier_expect(full + 8 * buffer, halo.box_bytes);
    load_tile_4d(stages + buffer * halo.stage_bytes, &map_x, full + 8 * buffer, 0, -halo.pad_w, row - halo.pad_h, image);
  };
  if (thread == 0) {
    for (int i = 0; i < kDepth; ++i) {
      if (first_tile + i * step < tiles) load(first_tile + i * step, i);
    }
  }
  barrier_wait(barriers, 0);
  u32 buffer = 0, parity = 0;
  for (int tile = first_tile; tile < tiles; tile += step) {
    u32 stage = stages + buffer * halo.stage_bytes, filters = weights;
    // The compiler computes the descriptors of all positions ahead of the loop. Of long rows they are more than there are
    // registers for, so it shall not know the address; of short ones (8-bit pixels of 64 channels) that saves 5 %.
    if (kRow > 64) asm volatile("" : "+r"(stage), "+r"(filters));
    Mma::Value sums[kBlocksM][kColumns / 2];
    barrier_wait(full + 8 * buffer, parity);
    wgmma_fence();
#pragma unroll
    for (int position = 0; position < kPositions; ++position) {
      const u32 a = stage + (position / kKernelW * halo.pitch + position % kKernelW) * kRow;
#pragma unroll
      for (int k = 0; k < kRow / 32; ++k) {
#pragma unroll
        for (int block = 0; block < kBlocksM; ++block) Mma::run(sums[block], k_major<kRow>(a + block * 64 * kRow) + 2 * k, k_major<kRow>(filters + position * kBytesB) + 2 * k, position > 0 || k > 0);
      }
    }
    wgmma_commit();
    wgmma_wait<0>();
#pragma unroll
    for (int block = 0; block < kBlocksM; ++block) pin(sums[block]);
    named_sync<128>(1 + consumer);  // every warp has read the tile
    if (thread == 0 && tile + kDepth * step < tiles) load(tile + kDepth * step, buffer);
    const int image = tile / halo.tiles_h, row0 = tile % halo.tiles_h * halo.tile_rows;
#pragma unroll
    for (int block = 0; block < kBlocksM; ++block) {
#pragma unroll
      for (int group = 0; group < kColumns / (4 * kUnit); ++group) {
        const int channel = group * 4 * kUnit + kUnit * (lane % 4);
        if (channel >= args.n) continue;
        ChannelValues columns;
        load_channels(args, channel, columns);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const u32 pixel = block * 64 + warp * 16 + lane / 4 + 8 * half;
          const int y = pixel / (u32)halo.pitch, x = pixel - y * halo.pitch;
          if (x >= halo.width || y >= halo.tile_rows || row0 + y >= halo.height) continue;
          const long long row = ((long long)image * halo.height + row0 + y) * halo.width + x;
          RowValues rows;
          load_rows(args, row, channel, nullptr, rows);
          float v[kUnit];
#pragma unroll
          for (int i = 0; i < kUnit; ++i) v[i] = (float)sums[block][4 * (kUnit / 2 * group + i / 2) + 2 * half + i % 2];
          finish(v, v, columns, rows, args, row, channel);
        }
      }
    }
    if (++buffer == kDepth) buffer = 0, parity ^= 1;
  }
}
)";

std::optional<std::string> refuses(const Conv& conv, const std::vector<TensorType>& inputs,
                                   const std::vector<TensorType>& outputs) {
  if (auto refusal = refuses_conv(conv, inputs, outputs)) return refusal;
  if (auto refusal = refuses_elements(inputs[0].dtype, inputs[1].dtype, outputs[0].dtype)) return refusal;
  if (inputs[0].dtype == DType::float32) return "float32 is not multiplied here";
  const FilterSizes sizes = filter_sizes(inputs[1]);
  const std::int64_t row = sizes.channels * static_cast<std::int64_t>(size_of(inputs[0].dtype));
  if (row != 64 && row != 128) return fmt::format("a pixel has {} bytes, not 64 or 128", row);
  if (sizes.n > kMaxColumns) return fmt::format("{} filters, at most {}", sizes.n, kMaxColumns);
  if (sizes.positions() == 1 || sizes.positions() > kMaxPositions)
    return fmt::format("a kernel of {} positions", sizes.positions());
  const Window& window = conv.window();
  if (!window.is_unit_stride() || window.dilations[0] != 1 || window.dilations[1] != 1) return "strided or dilated";
  if (!inputs[0].dims[2].is_constant() || !outputs[0].dims[2].is_constant()) return "the image's width is not known";
  if (outputs[0].dims[2].constant() + sizes.kernel_w - 1 > kMaxBox) return "a line of the image is too long";
  if (outputs[0].dims[2].constant() < 1) return "the image is empty";
  return std::nullopt;
}

struct Halo {
  FilterSizes sizes;
  DType element = DType::undefined, output = DType::undefined;
  std::int64_t width = 0;  ///< of the result
  EpilogueSpec epilogue;

  std::int64_t row_bytes() const { return sizes.channels * static_cast<std::int64_t>(size_of(element)); }
  std::int64_t pitch() const { return width + sizes.kernel_w - 1; }
  int columns() const { return sizes.n <= 64 ? 64 : 128; }
  /// How the weights are packed, which is as a product with this schedule wants them.
  GemmSchedule packing() const {
    return {.element = element,
            .output = output,
            .rows = RowSource::image,
            .consumers = 1,
            .tile_n = columns(),
            .row_bytes = static_cast<int>(row_bytes()),
            .stages = 2};
  }
};
Halo halo_of(const std::vector<TensorType>& inputs, const std::vector<TensorType>& outputs, EpilogueSpec epilogue) {
  Halo halo;
  halo.sizes = filter_sizes(inputs[1]);
  halo.element = inputs[0].dtype;
  halo.output = outputs[0].dtype;
  halo.width = outputs[0].dims[2].constant();
  halo.epilogue = std::move(epilogue);
  halo.epilogue.has_bias = has_bias(inputs);
  return halo;
}

/// Warpgroups, tiles on their way for each, and blocks of 64 pixels of a tile.
struct Schedule {
  int consumers = 2, depth = 1, blocks_m = 2;
  /// Lines of the result in one tile.
  std::int64_t tile_rows(const Halo& halo) const {
    const std::int64_t pixels = std::int64_t{64} * blocks_m;
    return halo.width > pixels ? 0 : (pixels - halo.width) / halo.pitch() + 1;
  }
  std::int64_t box_bytes(const Halo& halo) const {
    return (tile_rows(halo) + halo.sizes.kernel_h - 1) * halo.pitch() * halo.row_bytes();
  }
  /// Products read behind the last pixel what no result needs.
  std::int64_t stage_bytes(const Halo& halo) const {
    const std::int64_t read =
        (64 * blocks_m + (halo.sizes.kernel_h - 1) * halo.pitch() + halo.sizes.kernel_w - 1) * halo.row_bytes();
    return divide_up(std::max(read, box_bytes(halo)), 1024) * 1024;
  }
  std::int64_t shared_bytes(const Halo& halo) const {
    return 1024 + consumers * depth * stage_bytes(halo) + halo.sizes.positions() * halo.columns() * halo.row_bytes() +
           8 * (1 + consumers * depth);
  }
  std::optional<std::string> refuses(const Halo& halo) const {
    if (consumers < 1 || consumers > 3 || depth < 1 || depth > 4 || blocks_m < 1 || blocks_m > 2)
      return "1 to 3 warpgroups with 1 to 4 tiles of 1 or 2 blocks";
    if (blocks_m * halo.columns() / 2 > (consumers <= 2 ? 128 : 64)) return "too many accumulators per thread";
    if (tile_rows(halo) < 1) return "a line of the image is longer than a tile";
    if (tile_rows(halo) + halo.sizes.kernel_h - 1 > kMaxBox) return "a tile has too many lines";
    if (shared_bytes(halo) > kMaxSharedBytes)
      return fmt::format("weights and tiles take {} bytes of shared memory, it has {}", shared_bytes(halo),
                         kMaxSharedBytes);
    return std::nullopt;
  }
};

struct CheckedSpec {
  Halo halo;
  Schedule schedule;
};
CheckedSpec check(const KernelSpec& spec) {
  const Conv& conv = conv_of(spec.op);
  std::string refusal = refuses(conv, spec.inputs, spec.outputs).value_or("");
  std::optional<EpilogueSpec> epilogue;
  if (refusal.empty()) {
    epilogue = epilogue_spec(conv.epilogue().program, spec.inputs, Conv::kFirstEpilogueInput, spec.outputs[0], refusal);
  }
  CheckedSpec checked;
  if (epilogue) {
    checked.halo = halo_of(spec.inputs, spec.outputs, std::move(*epilogue));
    const bool is_schedule =
        spec.parameters.size() == 3 &&
        std::all_of(spec.parameters.begin(), spec.parameters.end(), [](std::int64_t v) { return 1 <= v && v <= 4; });
    if (is_schedule) {
      checked.schedule = {static_cast<int>(spec.parameters[0]), static_cast<int>(spec.parameters[1]),
                          static_cast<int>(spec.parameters[2])};
      refusal = checked.schedule.refuses(checked.halo).value_or("");
    } else {
      refusal = "the parameters are no schedule";
    }
  }
  require(refusal.empty(), Code::incompatible_engine, "tactic '{}' cannot run this Conv: {}", spec.tactic, refusal);
  return checked;
}

Source source(const KernelSpec& spec, const DeviceTraits&) {
  const CheckedSpec checked = check(spec);
  const Halo& halo = checked.halo;
  std::string text(device_prelude());
  text += hopper_prelude();
  text += kGemmArgumentsText;
  text += kHaloArgumentsText;
  text += fmt::format(
      "constexpr int kConsumers = {}, kDepth = {}, kBlocksM = {}, kKernelH = {}, kKernelW = {}, kRow = {}, kColumns = "
      "{}, kElementBytes = {};\n",
      checked.schedule.consumers, checked.schedule.depth, checked.schedule.blocks_m, halo.sizes.kernel_h,
      halo.sizes.kernel_w, halo.row_bytes(), halo.columns(), size_of(halo.element));
  text += emit_wgmma("Mma", {.element = halo.element, .n = halo.columns()});
  text += emit_epilogue(halo.epilogue, halo.output, halo.packing().unit(), false);
  text += kText;
  return {text, {std::string(kEntry)}};
}

class HaloKernel final : public Kernel {
 public:
  HaloKernel(const KernelSpec& spec, CheckedSpec checked, const LoadedModule& module)
      : op_(spec.op),
        halo_(std::move(checked.halo)),
        schedule_(checked.schedule),
        function_(module.function(kEntry)),
        num_sms_(module.traits().num_sms),
        bias_(halo_.epilogue.has_bias ? static_cast<const float*>(module.weight(1)) : nullptr) {
    const GemmSchedule packing = halo_.packing();
    const auto row = static_cast<std::uint64_t>(halo_.sizes.positions() * halo_.row_bytes());
    const std::array<std::uint64_t, 2> dims{row / size_of(halo_.element), static_cast<std::uint64_t>(halo_.columns())};
    const std::array<std::uint32_t, 2> box{static_cast<std::uint32_t>(packing.row_elements()),
                                           static_cast<std::uint32_t>(halo_.columns())};
    weights_ = encode_tiled(map_type(halo_.element), 2, module.weight(0), dims.data(), &row, box.data(),
                            swizzle_of(packing.row_bytes));
  }

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    const Window& window = conv_of(op_).window();
    const FilterSizes& sizes = halo_.sizes;
    HaloArguments halo{};
    halo.images = static_cast<int>(y.dim(0));
    halo.tile_rows = static_cast<int>(schedule_.tile_rows(halo_));
    halo.tiles_h = static_cast<int>(divide_up(y.dim(1), halo.tile_rows));
    halo.height = static_cast<int>(y.dim(1));
    halo.width = static_cast<int>(y.dim(2));
    halo.pitch = static_cast<int>(halo_.pitch());
    halo.pad_h = static_cast<int>(window.padding(0, x.dim(1), sizes.kernel_h)[0]);
    halo.pad_w = static_cast<int>(window.padding(1, x.dim(2), sizes.kernel_w)[0]);
    halo.box_bytes = static_cast<int>(schedule_.box_bytes(halo_));
    halo.stage_bytes = static_cast<int>(schedule_.stage_bytes(halo_));
    const auto u64 = [](std::int64_t v) { return static_cast<std::uint64_t>(v); };
    const std::uint64_t size = size_of(halo_.element);
    const std::array<std::uint64_t, 4> dims{u64(x.dim(3)), u64(x.dim(2)), u64(x.dim(1)), u64(x.dim(0))};
    const std::array<std::uint64_t, 3> strides{u64(x.pitch) * size, u64(x.pitch * x.dim(2)) * size,
                                               u64(x.pitch * x.dim(2) * x.dim(1)) * size};
    const std::array<std::uint32_t, 4> box{static_cast<std::uint32_t>(sizes.channels),
                                           static_cast<std::uint32_t>(halo.pitch),
                                           static_cast<std::uint32_t>(halo.tile_rows + sizes.kernel_h - 1), 1};
    const TensorMap map = encode_tiled(map_type(halo_.element), 4, x.data, dims.data(), strides.data(), box.data(),
                                       swizzle_of(static_cast<int>(halo_.row_bytes())));
    GemmArguments arguments{};
    arguments.m = static_cast<int>(y.dim(0) * y.dim(1) * y.dim(2));
    arguments.batches = 1;
    arguments.bias = bias_;
    bind_output(y, halo_.packing().unit(), arguments);
    bind_operands(halo_.epilogue, launch.inputs, Conv::kFirstEpilogueInput, y, arguments);
    LaunchConfig config;
    config.function = function_;
    const std::int64_t tiles = std::int64_t{halo.images} * halo.tiles_h;
    config.grid.x = static_cast<unsigned>(std::min<std::int64_t>(num_sms_, divide_up(tiles, schedule_.consumers)));
    config.block.x = static_cast<unsigned>(schedule_.consumers * 128);
    config.smem_bytes = static_cast<unsigned>(schedule_.shared_bytes(halo_));
    cuda_stream(launch).launch(config, map, weights_, halo, arguments);
  }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  OpPtr op_;
  Halo halo_;
  Schedule schedule_;
  Function function_;
  int num_sms_;
  const float* bias_;
  TensorMap weights_;
};

void candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  std::optional<EpilogueSpec> epilogue = epilogue_or_refusal(problem, traits, refuses, out);
  if (!epilogue) return;
  const Halo halo = halo_of(problem.inputs, problem.outputs, std::move(*epilogue));
  const Shape& y = problem.output_shapes[0];
  const auto size = static_cast<double>(size_of(halo.element));
  const double bytes = static_cast<double>(num_elements(problem.input_shapes[0])) * size +
                       static_cast<double>(num_elements(y)) * static_cast<double>(size_of(halo.output)) *
                           (1 + halo.epilogue.num_whole());
  std::string refusal;
  const std::size_t before = out.size();
  for (const Schedule schedule : {Schedule{3, 3, 2}, Schedule{3, 2, 2}, Schedule{3, 1, 2}, Schedule{2, 3, 2},
                                  Schedule{2, 2, 2}, Schedule{2, 1, 2}, Schedule{3, 3, 1}, Schedule{2, 4, 1}}) {
    if (auto reason = schedule.refuses(halo)) {
      refusal = *reason;
      continue;
    }
    // Rates of the tensor cores and of the second-level cache per clock, and what is reached of them.
    constexpr double kMultiplies = 4096, kReached = 0.6, kFillBytes = 46, kStreamReached = 0.85;
    const std::int64_t tiles = y[0] * divide_up(y[1], schedule.tile_rows(halo));
    const std::int64_t rounds = divide_up(tiles, std::int64_t{traits.num_sms} * schedule.consumers);
    const double products = 64.0 * schedule.blocks_m * halo.columns() * static_cast<double>(halo.sizes.positions()) *
                            static_cast<double>(halo.row_bytes());
    const double clocks =
        std::max(products / (kMultiplies * kReached), static_cast<double>(schedule.box_bytes(halo)) / kFillBytes);
    Candidate candidate;
    candidate.parameters = {schedule.consumers, schedule.depth, schedule.blocks_m};
    candidate.estimated_us =
        std::max(static_cast<double>(rounds * schedule.consumers) * clocks / (traits.clock_ghz * 1000),
                 bytes / (traits.bandwidth_gb_s * 1000 * kStreamReached));
    out.push_back(std::move(candidate));
  }
  if (out.size() == before) offer_refusal(refusal, out);
}

PackedWeights pack(const Problem& problem, const Candidate&) {
  const Halo halo = halo_of(problem.inputs, problem.outputs, {});
  const FilterSizes& sizes = halo.sizes;
  PackedWeights packed;
  packed.consumed_inputs = {1};
  packed.blobs.push_back(pack_columns(halo.packing(), sizes.n, sizes.channels, sizes.positions(),
                                      problem.constants[1]->data(),
                                      [&](std::int64_t n, std::int64_t position, std::int64_t channel) {
                                        return (n * sizes.channels + channel) * sizes.positions() + position;
                                      }));
  if (has_bias(problem.inputs)) {
    packed.blobs.push_back(pack_vector(halo.packing(), sizes.n, problem.constants[kConvBias]));
    packed.consumed_inputs.push_back(kConvBias);
  }
  return packed;
}

std::unique_ptr<Kernel> make(const KernelSpec& spec, const LoadedModule& module) {
  CheckedSpec checked = check(spec);
  const Halo& halo = checked.halo;
  const auto columns = static_cast<std::size_t>(
      packed_columns_bytes(halo.packing(), halo.sizes.n, halo.sizes.channels, halo.sizes.positions()));
  const std::size_t vector = sizeof(float) * static_cast<std::size_t>(padded_columns(halo.packing(), halo.sizes.n));
  require(spec.weights.size() == (halo.epilogue.has_bias ? 2U : 1U) && spec.weights[0].size() == columns &&
              (!halo.epilogue.has_bias || spec.weights[1].size() == vector),
          Code::incompatible_engine, "tactic '{}' expects packed weights of {} bytes and a bias of {} bytes or none",
          spec.tactic, columns, vector);
  return std::make_unique<HaloKernel>(spec, std::move(checked), module);
}

}  // namespace

const CudaTactic kConvHalo{"conv.wgmma_halo", "Conv", candidates, pack, source, make};

}  // namespace tenfold::cuda
