// Two 1x1 convolutions of pixels in one kernel for Hopper: y = first(x), z = second(y), both stored.
//
// All weights stay in shared memory. Each warpgroup works on its own tiles of 64 pixels, without the others: it waits
// for the tile of x and, where there is one, of the residual; multiplies a chunk of channels at a time and finishes
// them in the residual's place; hands that tile to the accelerator, which stores it as y; and multiplies it by the
// second weights. `depth` tiles per warpgroup are on their way at a time.
#include "ops/conv_pair.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "backend/cuda/gemm_kernel.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "base/error.hpp"

namespace tenfold::cuda {
namespace {

constexpr std::string_view kEntry = "tenfold_pair";
constexpr int kTileRows = 64, kChunk = 128, kMiddleRow = 128;  // pixels, channels, bytes

constexpr std::string_view kText = R"(
constexpr int kThreads = kConsumers * 128;
constexpr int kBytesX = 64 * kRowX, kTileX = kLoadsX * kBytesX;
constexpr int kBlocks = kMiddle * kElementBytes / 128, kBytesMiddle = 64 * 128, kTileMiddle = kBlocks * kBytesMiddle;
constexpr int kBytesFirst = kChunk * kRowX, kBytesSecond = kColumns * 128;
constexpr int kFirstBytes = kMiddle / kChunk * kLoadsX * kBytesFirst, kSecondBytes = kBlocks * kBytesSecond;

// kUnit columns of the accumulators, from unit `group` of this lane's.
template <int kUnit, int kCount, typename T>
TF_FN void gather_unit(const T (&sums)[kCount], int group, int half, float (&v)[kUnit]) {
#pragma unroll
  for (int i = 0; i < kUnit; ++i) v[i] = (float)sums[4 * (kUnit / 2 * group + i / 2) + 2 * half + i % 2];
}

extern "C" __global__ void __launch_bounds__(kThreads, 1)
tenfold_pair(const __grid_constant__ TensorMap map_x, const __grid_constant__ TensorMap map_first, const __grid_constant__ TensorMap map_second, const __grid_constant__ TensorMap map_residual, const __grid_constant__ TensorMap map_y, const __grid_constant__ GemmArguments args_y, const __grid_constant__ GemmArguments args_z) {
  extern __shared__ char memory[];
  const u32 base = (shared_address(memory) + 1023u) & ~1023u;
  const u32 weights_first = base, weights_second = base + kFirstBytes;
  const int consumer = __shfl_sync(0xffffffffu, (int)threadIdx.x / 128, 0), thread = threadIdx.x % 128;
  const int lane = thread % 32, warp = thread / 32;
  const u32 middles = weights_second + kSecondBytes + consumer * kDepth * (kTileMiddle + kTileX);
  const u32 inputs = middles + kDepth * kTileMiddle;
  const u32 barriers = weights_second + kSecondBytes + kConsumers * kDepth * (kTileMiddle + kTileX);
  const u32 full = barriers + 8 + 8 * consumer * kDepth;  // behind the one of the weights
  if (threadIdx.x == 0) {
    for (int i = 0; i < 1 + kConsumers * kDepth; ++i) barrier_init(barriers + 8 * i, 1);
    barrier_init_fence();
  }
  __syncthreads();
  allow_successor();
  if (threadIdx.x == 0) {
    barrier_expect(barriers, kFirstBytes + kSecondBytes);
    for (int i = 0; i < kMiddle / kChunk * kLoadsX; ++i) load_tile_2d(weights_first + i * kBytesFirst, &map_first, barriers, i % kLoadsX * (kRowX / kElementBytes), i / kLoadsX * kChunk);
    for (int i = 0; i < kBlocks; ++i) load_tile_2d(weights_second + i * kBytesSecond, &map_second, barriers, i * (128 / kElementBytes), 0);
  }
  wait_for_predecessor();
  const int tiles = (args_y.m + 63) / 64, first_tile = blockIdx.x * kConsumers + consumer, step = gridDim.x * kConsumers;
  auto load = [&](int tile, int buffer) {
    const u32 barrier = full + 8 * buffer;
    barrier_expect(barrier, kTileX + (kResidual ? kTileMiddle : 0));
#pragma unroll
    for (int i = 0; i < kLoadsX; ++i) load_tile_3d(inputs + buffer * kTileX + i * kBytesX, &map_x, barrier, i * (kRowX / kElementBytes), tile * 64, 0);
    if (kResidual) {
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) load_tile_3d(middles + buffer * kTileMiddle + i * kBytesMiddle, &map_residual, barrier, i * (128 / kElementBytes), tile * 64, 0);
    }
  };
  if (thread == 0) {
    for (int i = 0; i < kDepth; ++i) {
      if (first_tile + i * step < tiles) load(first_tile + i * step, i);
    }
  }
  barrier_wait(barriers, 0);
  u32 buffer = 0, parity = 0;
  for (int tile = first_tile; tile < tiles; tile += step) {
    const u32 x = inputs + buffer * kTileX, middle = middles + buffer * kTileMiddle;
    const int row0 = warp * 16 + lane / 4;
    barrier_wait(full + 8 * buffer, parity);
#pragma unroll 1
    for (int chunk = 0; chunk < kMiddle / kChunk; ++chunk) {
      First::Value sums[kChunk / 2];
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < kLoadsX; ++i) {
#pragma unroll
        for (int k = 0; k < kRowX / 32; ++k) First::run(sums, k_major<kRowX>(x + i * kBytesX) + 2 * k, k_major<kRowX>(weights_first + (chunk * kLoadsX + i) * kBytesFirst) + 2 * k, i > 0 || k > 0);
      }
      wgmma_commit();
      wgmma_wait<0>();
      pin(sums);
#pragma unroll
      for (int group = 0; group < kChunk / (4 * first::kUnit); ++group) {
        const int channel = chunk * kChunk + group * 4 * first::kUnit + first::kUnit * (lane % 4);
        first::ChannelValues columns;
        first::load_channels(args_y, channel, columns);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = row0 + 8 * half, byte = channel * kElementBytes;
          // Rows of 128 bytes whose 16-byte parts the accelerator exchanges by the low bits of the row.
          char* const place = memory + (middle - shared_address(memory)) + byte / 128 * kBytesMiddle + row * 128 + ((byte / 16 % 8) ^ (row % 8)) * 16;
          first::RowValues rows;
          first::load_rows(args_y, 0, channel, place, rows);
          float v[first::kUnit];
          gather_unit(sums, group, half, v);
          first::Packed<first::Out> packed;
          first::complete(v, v, columns, rows, args_y, 0, channel, packed);
          first::store_unit((first::Out*)place, first::kUnit, true, packed);
        }
      }
    }
    shared_written();
    named_sync<128>(1 + consumer);
    if (thread == 0) {
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) store_tile_2d(&map_y, middle + i * kBytesMiddle, i * (128 / kElementBytes), tile * 64);
      stores_commit();
    }
    Second::Value sums[kColumns / 2];
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
#pragma unroll
      for (int k = 0; k < 4; ++k) Second::run(sums, k_major<128>(middle + i * kBytesMiddle) + 2 * k, k_major<128>(weights_second + i * kBytesSecond) + 2 * k, i > 0 || k > 0);
    }
    wgmma_commit();
    wgmma_wait<0>();
    pin(sums);
    named_sync<128>(1 + consumer);  // every warp has read the tile
    if (thread == 0) {
      stores_wait_read();
      if (tile + kDepth * step < tiles) load(tile + kDepth * step, buffer);
    }
#pragma unroll
    for (int group = 0; group < kColumns / (4 * second::kUnit); ++group) {
      const int channel = group * 4 * second::kUnit + second::kUnit * (lane % 4);
      if (channel >= args_z.n) continue;
      second::ChannelValues columns;
      second::load_channels(args_z, channel, columns);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = tile * 64 + row0 + 8 * half;
        if (row >= args_z.m) continue;
        second::RowValues rows;
        float v[second::kUnit];
        gather_unit(sums, group, half, v);
        second::finish(v, v, columns, rows, args_z, row, channel);
      }
    }
    if (++buffer == kDepth) buffer = 0, parity ^= 1;
  }
}
)";

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

const ConvPair& pair_of(const OpPtr& op) {
  const auto* pair = op_cast<ConvPair>(op);
  ensure(pair != nullptr, "a ConvPair tactic was given operator {}", op->type());
  return *pair;
}

bool has_bias(const std::vector<TensorType>& inputs, int index) {
  const auto at = static_cast<std::size_t>(ConvPair::bias_input(index));
  return at < inputs.size() && inputs[at].dtype != DType::undefined;
}

/// What a kernel is made for. Sizes of a pixel in channels.
struct Pair {
  std::int64_t in = 0, middle = 0, out = 0;
  DType x = DType::undefined, y = DType::undefined, z = DType::undefined;
  std::array<EpilogueSpec, 2> epilogues;
  bool has_residual = false;

  std::int64_t size() const { return static_cast<std::int64_t>(size_of(x)); }
  /// Bytes of x in one row of shared memory: the longest that divides a pixel.
  int row_bytes() const {
    const std::int64_t bytes = in * size();
    return bytes % 128 == 0 ? 128 : bytes % 64 == 0 ? 64 : 32;
  }
  int columns() const { return out <= 64 ? 64 : 128; }
  /// How the weights are packed, which is as products with these schedules want them.
  GemmSchedule first() const {
    return {.element = x, .output = y, .consumers = 1, .tile_n = kChunk, .row_bytes = row_bytes(), .stages = 2};
  }
  GemmSchedule second() const {
    return {.element = y, .output = z, .consumers = 1, .tile_n = columns(), .row_bytes = kMiddleRow, .stages = 2};
  }
  std::int64_t weights_bytes() const { return middle * in * size() + columns() * middle * size(); }
  std::int64_t tile_bytes() const { return kTileRows * (in + middle) * size(); }
};

/// nullopt and a reason in `refusal` when the kernel cannot do it.
std::optional<Pair> pair_from(const ConvPair& op, const std::vector<TensorType>& inputs,
                              const std::vector<TensorType>& outputs, std::string& refusal) {
  const auto no = [&](std::string reason) {
    refusal = std::move(reason);
    return std::nullopt;
  };
  if (inputs.size() < 4 || outputs.size() != 2 || outputs[0].dtype == DType::undefined ||
      outputs[1].dtype == DType::undefined)
    return no("operands are missing");
  Pair pair;
  pair.x = inputs[0].dtype;
  pair.y = outputs[0].dtype;
  pair.z = outputs[1].dtype;
  const TensorType &first = inputs[ConvPair::weights_input(0)], &second = inputs[ConvPair::weights_input(1)];
  if (auto reason = refuses_elements(pair.x, first.dtype, pair.y)) return no(*reason);
  if (auto reason = refuses_elements(pair.y, second.dtype, pair.z)) return no(*reason);
  if (pair.x == DType::float32) return no("float32 is not multiplied here");
  if (size_of(pair.x) != size_of(pair.y)) return no("the image in front and the one between differ in size");
  if (!first.is_static() || !second.is_static()) return no("the weights are computed");
  for (const TensorType* image : {&inputs[0], &first, &second, outputs.data(), &outputs[1]}) {
    if (image->rank() != 4) return no("only two spatial axes are supported");
  }
  for (int i = 0; i < 2; ++i) {
    if (has_bias(inputs, i) && !inputs[static_cast<std::size_t>(ConvPair::bias_input(i))].is_static())
      return no("the weights are computed");
  }
  pair.middle = first.dims[0].constant();
  pair.in = first.dims[1].constant();
  pair.out = second.dims[0].constant();
  if (second.dims[1] != Dim(pair.middle) || inputs[0].dims[3] != Dim(pair.in) ||
      outputs[0].dims[3] != Dim(pair.middle) || outputs[1].dims[3] != Dim(pair.out))
    return no("the convolutions do not fit each other");
  if (pair.in < 1 || pair.in * pair.size() % 32 != 0) return no("pixels of x are no multiple of 32 bytes");
  if (pair.middle < 1 || pair.middle % kChunk != 0)
    return no(fmt::format("{} channels between the convolutions are no multiple of {}", pair.middle, kChunk));
  if (pair.out < 1 || pair.out > 128) return no(fmt::format("the second one has {} channels, at most 128", pair.out));
  for (int i = 0; i < 2; ++i) {
    const auto at = static_cast<std::size_t>(i);
    auto epilogue =
        epilogue_spec(op.spec(i).epilogue.program, inputs, op.first_epilogue_input(i), outputs[at], refusal);
    if (!epilogue) return std::nullopt;
    epilogue->has_bias = has_bias(inputs, i);
    pair.epilogues[at] = std::move(*epilogue);
  }
  pair.has_residual = pair.epilogues[0].stageable(pair.y) >= 0;
  if (pair.epilogues[0].num_whole() > (pair.has_residual ? 1 : 0) || pair.epilogues[1].num_whole() > 0)
    return no("an epilogue reads images that are not staged");
  return pair;
}

/// Tiles of shared memory: warpgroups, and tiles on their way for each.
struct Schedule {
  int consumers = 2, depth = 1;
  std::int64_t shared_bytes(const Pair& pair) const {
    const std::int64_t barriers = 8 * (1 + consumers * depth);
    return 1024 + pair.weights_bytes() + consumers * depth * pair.tile_bytes() + barriers;
  }
  std::optional<std::string> refuses(const Pair& pair) const {
    if (consumers < 1 || consumers > 3 || depth < 1 || depth > 3) return "1 to 3 warpgroups with 1 to 3 tiles";
    if (shared_bytes(pair) > kMaxSharedBytes)
      return fmt::format("weights and tiles take {} bytes of shared memory, it has {}", shared_bytes(pair),
                         kMaxSharedBytes);
    return std::nullopt;
  }
};

struct CheckedSpec {
  Pair pair;
  Schedule schedule;
};
CheckedSpec check(const KernelSpec& spec) {
  std::string refusal;
  std::optional<Pair> pair = pair_from(pair_of(spec.op), spec.inputs, spec.outputs, refusal);
  Schedule schedule;
  if (pair) {
    const bool is_schedule =
        spec.parameters.size() == 2 &&
        std::all_of(spec.parameters.begin(), spec.parameters.end(), [](std::int64_t v) { return 1 <= v && v <= 3; });
    if (is_schedule) {
      schedule = {static_cast<int>(spec.parameters[0]), static_cast<int>(spec.parameters[1])};
      refusal = schedule.refuses(*pair).value_or("");
    } else {
      refusal = "the parameters are no schedule";
    }
  }
  require(refusal.empty(), Code::incompatible_engine, "tactic '{}' cannot run this ConvPair: {}", spec.tactic, refusal);
  return {std::move(*pair), schedule};
}

Source source(const KernelSpec& spec, const DeviceTraits&) {
  const CheckedSpec checked = check(spec);
  const Pair& pair = checked.pair;
  std::string text(device_prelude());
  text += hopper_prelude();
  text += kGemmArgumentsText;
  text += fmt::format(
      "constexpr int kConsumers = {}, kDepth = {}, kRowX = {}, kLoadsX = {}, kChunk = {}, kMiddle = {}, kColumns = {}, "
      "kElementBytes = {};\nconstexpr bool kResidual = {};\n",
      checked.schedule.consumers, checked.schedule.depth, pair.row_bytes(), pair.in * pair.size() / pair.row_bytes(),
      kChunk, pair.middle, pair.columns(), pair.size(), pair.has_residual);
  text += emit_wgmma("First", {.element = pair.x, .n = kChunk});
  text += emit_wgmma("Second", {.element = pair.y, .n = pair.columns()});
  text +=
      "namespace first {\n" + emit_epilogue(pair.epilogues[0], pair.y, pair.first().unit(), pair.has_residual) + "}\n";
  text += "namespace second {\n" + emit_epilogue(pair.epilogues[1], pair.z, pair.second().unit(), false) + "}\n";
  text += kText;
  return {text, {std::string(kEntry)}};
}

class PairKernel final : public Kernel {
 public:
  PairKernel(const KernelSpec& spec, CheckedSpec checked, const LoadedModule& module)
      : op_(spec.op),
        pair_(std::move(checked.pair)),
        schedule_(checked.schedule),
        function_(module.function(kEntry)),
        num_sms_(module.traits().num_sms) {
    std::size_t blob = 0;
    for (const GemmSchedule& packed : {pair_.first(), pair_.second()}) {
      const bool is_first = blob == 0;
      const std::int64_t n = is_first ? pair_.middle : pair_.out, k = is_first ? pair_.in : pair_.middle;
      const auto at = static_cast<std::size_t>(is_first ? 0 : 1);
      const std::uint64_t row = static_cast<std::uint64_t>(k * pair_.size());
      const std::array<std::uint64_t, 2> dims{static_cast<std::uint64_t>(k),
                                              static_cast<std::uint64_t>(padded_columns(packed, n))};
      const std::array<std::uint32_t, 2> box{static_cast<std::uint32_t>(packed.row_elements()),
                                             static_cast<std::uint32_t>(packed.tile_n)};
      weights_[at] = encode_tiled(map_type(packed.element), 2, module.weight(blob++), dims.data(), &row, box.data(),
                                  swizzle_of(packed.row_bytes));
      if (pair_.epilogues[at].has_bias) biases_[at] = static_cast<const float*>(module.weight(blob++));
    }
  }

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView &y = launch.outputs[0], &z = launch.outputs[1];
    if (y.num_elements() == 0) return;
    const ConvPair& op = pair_of(op_);
    const std::int64_t pixels = y.dim(0) * y.dim(1) * y.dim(2);
    std::array<GemmArguments, 2> arguments{};
    for (std::size_t i = 0; i < 2; ++i) {
      const int unit = i == 0 ? pair_.first().unit() : pair_.second().unit();
      arguments[i].m = static_cast<int>(pixels);
      arguments[i].batches = 1;
      arguments[i].bias = biases_[i];
      bind_output(i == 0 ? y : z, unit, arguments[i]);
      bind_operands(pair_.epilogues[i], launch.inputs, op.first_epilogue_input(static_cast<int>(i)), i == 0 ? y : z,
                    arguments[i]);
    }
    const TensorMap map_x = map(x, pixels, pair_.row_bytes());
    const TensorMap map_y = map_2d(y, pixels);
    TensorMap residual = map_y;
    if (pair_.has_residual) {
      const int index = pair_.epilogues[0].stageable(pair_.y);
      residual = map(launch.inputs[static_cast<std::size_t>(op.first_epilogue_input(0) + index)], pixels, kMiddleRow);
    }
    LaunchConfig config;
    config.function = function_;
    config.grid.x = static_cast<unsigned>(
        std::min<std::int64_t>(num_sms_, ceil_div(ceil_div(pixels, kTileRows), schedule_.consumers)));
    config.block.x = static_cast<unsigned>(schedule_.consumers * 128);
    config.smem_bytes = static_cast<unsigned>(schedule_.shared_bytes(pair_));
    cuda_stream(launch).launch(config, map_x, weights_[0], weights_[1], residual, map_y, arguments[0], arguments[1]);
  }
  bool accepts_pitched_output(int index) const override { return index == 1; }

 private:
  /// Of pixels [1][pixels][channels], for loads of 64 pixels by `row_bytes`.
  TensorMap map(const TensorView& view, std::int64_t pixels, int row_bytes) const {
    const auto size = static_cast<std::uint64_t>(pair_.size());
    const std::array<std::uint64_t, 3> dims{static_cast<std::uint64_t>(view.dims.back()),
                                            static_cast<std::uint64_t>(pixels), 1};
    const std::array<std::uint64_t, 2> strides{static_cast<std::uint64_t>(view.pitch) * size,
                                               static_cast<std::uint64_t>(view.pitch * pixels) * size};
    const std::array<std::uint32_t, 3> box{static_cast<std::uint32_t>(row_bytes) / static_cast<std::uint32_t>(size),
                                           kTileRows, 1};
    return encode_tiled(map_type(view.dtype), 3, view.data, dims.data(), strides.data(), box.data(),
                        swizzle_of(row_bytes));
  }
  TensorMap map_2d(const TensorView& view, std::int64_t pixels) const {
    const auto size = static_cast<std::uint64_t>(pair_.size());
    const std::array<std::uint64_t, 2> dims{static_cast<std::uint64_t>(view.dims.back()),
                                            static_cast<std::uint64_t>(pixels)};
    const std::uint64_t stride = static_cast<std::uint64_t>(view.pitch) * size;
    const std::array<std::uint32_t, 2> box{kMiddleRow / static_cast<std::uint32_t>(size), kTileRows};
    return encode_tiled(map_type(view.dtype), 2, view.data, dims.data(), &stride, box.data(), swizzle_of(kMiddleRow));
  }

  OpPtr op_;
  Pair pair_;
  Schedule schedule_;
  Function function_;
  int num_sms_;
  std::array<TensorMap, 2> weights_;
  std::array<const float*, 2> biases_{};
};

void candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  std::string refusal = refuses_device(traits).value_or("");
  std::optional<Pair> pair;
  if (refusal.empty()) pair = pair_from(pair_of(problem.op), problem.inputs, problem.outputs, refusal);
  for (int i = 0; i < 2 && pair; ++i) {
    const auto bias = static_cast<std::size_t>(ConvPair::bias_input(i));
    if (problem.constants[static_cast<std::size_t>(ConvPair::weights_input(i))] == nullptr ||
        (pair->epilogues[static_cast<std::size_t>(i)].has_bias && problem.constants[bias] == nullptr)) {
      refusal = "the weights are computed";
      pair.reset();
    }
  }
  if (!pair) return offer_refusal(refusal, out);
  const double pixels = static_cast<double>(num_elements(problem.output_shapes[0])) / static_cast<double>(pair->middle);
  const double bytes =
      pixels * static_cast<double>(pair->size() * (pair->in + (pair->has_residual ? 2 : 1) * pair->middle) +
                                   pair->out * static_cast<std::int64_t>(size_of(pair->z)));
  const std::size_t before = out.size();
  for (const Schedule schedule : {Schedule{3, 2}, Schedule{3, 1}, Schedule{2, 3}, Schedule{2, 2}, Schedule{2, 1}}) {
    refusal = schedule.refuses(*pair).value_or("");
    if (!refusal.empty()) continue;
    Candidate candidate;
    candidate.parameters = {schedule.consumers, schedule.depth};
    // Bound by memory; more tiles on their way hide more of its latency.
    constexpr double kEfficiency = 0.85, kLoss = 0.3;
    candidate.estimated_us = bytes / (traits.bandwidth_gb_s * 1000 * kEfficiency) *
                             (1 + kLoss / static_cast<double>(schedule.consumers * schedule.depth));
    out.push_back(std::move(candidate));
  }
  if (out.size() == before) offer_refusal(refusal, out);
}

PackedWeights pack(const Problem& problem, const Candidate&) {
  std::string refusal;
  const std::optional<Pair> pair = pair_from(pair_of(problem.op), problem.inputs, problem.outputs, refusal);
  ensure(pair.has_value(), "packing for a pair that was refused: {}", refusal);
  PackedWeights packed;
  for (int i = 0; i < 2; ++i) {
    const GemmSchedule schedule = i == 0 ? pair->first() : pair->second();
    const std::int64_t n = i == 0 ? pair->middle : pair->out, k = i == 0 ? pair->in : pair->middle;
    const auto weights = static_cast<std::size_t>(ConvPair::weights_input(i));
    packed.blobs.push_back(
        pack_columns(schedule, n, k, 1, problem.constants[weights]->data(),
                     [k](std::int64_t column, std::int64_t, std::int64_t channel) { return column * k + channel; }));
    packed.consumed_inputs.push_back(static_cast<int>(weights));
    if (!pair->epilogues[static_cast<std::size_t>(i)].has_bias) continue;
    const auto bias = static_cast<std::size_t>(ConvPair::bias_input(i));
    packed.blobs.push_back(pack_vector(schedule, n, problem.constants[bias]));
    packed.consumed_inputs.push_back(static_cast<int>(bias));
  }
  return packed;
}

std::unique_ptr<Kernel> make(const KernelSpec& spec, const LoadedModule& module) {
  CheckedSpec checked = check(spec);
  std::vector<std::int64_t> expected;
  for (int i = 0; i < 2; ++i) {
    const Pair& pair = checked.pair;
    const GemmSchedule schedule = i == 0 ? pair.first() : pair.second();
    const std::int64_t n = i == 0 ? pair.middle : pair.out;
    expected.push_back(packed_columns_bytes(schedule, n, i == 0 ? pair.in : pair.middle, 1));
    if (pair.epilogues[static_cast<std::size_t>(i)].has_bias)
      expected.push_back(padded_columns(schedule, n) * static_cast<std::int64_t>(sizeof(float)));
  }
  const bool fits =
      std::equal(spec.weights.begin(), spec.weights.end(), expected.begin(), expected.end(),
                 [](const auto& blob, std::int64_t bytes) { return static_cast<std::int64_t>(blob.size()) == bytes; });
  require(fits, Code::incompatible_engine, "tactic '{}' expects packed weights of {} bytes", spec.tactic,
          fmt::join(expected, ", "));
  return std::make_unique<PairKernel>(spec, std::move(checked), module);
}

}  // namespace

const CudaTactic kConvPair{"conv.wgmma_pair", "ConvPair", candidates, pack, source, make};

}  // namespace tenfold::cuda
