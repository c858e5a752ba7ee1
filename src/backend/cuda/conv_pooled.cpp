// The first convolution of a network of images with the maximum pooling behind it, for Hopper.
//
// A first kernel folds the image into blocks (conv_fold.hpp), their 16-byte parts in planes. Then a row of the
// convolution is a product whose operand lies in memory as it is: 8 neighbouring pixels are one core matrix of wgmma's
// plain layout, and the next position of the kernel is the same bytes 16 further. Each warpgroup takes strips of pooled
// rows of one image: it copies the blocks under a strip, makes the rows under a window, finished and rounded, in a ring
// in shared memory, and stores their maxima.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "backend/cuda/conv_fold.hpp"
#include "backend/cuda/gemm_kernel.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "base/error.hpp"
#include "ops/conv_max_pool.hpp"

namespace tenfold::cuda {
namespace {

constexpr std::string_view kEntry = "tenfold_conv_pool";
constexpr int kColumns = 64;  // filters, padded
constexpr std::int64_t kMaxKernel = 16, kMaxStride = 4, kMaxPool = 3, kSlack = 1024;

TENFOLD_SHARED_STRUCT(
    kPoolArgumentsText, struct PoolArguments {
      const void* blocks;
      int images, strips, conv_h, conv_w, out_h, out_w, pad_h, pad_w, rows, columns;
    });

constexpr std::string_view kText = R"(
constexpr int kThreads = kConsumers * 128;
constexpr int kPixel = 64 * (int)sizeof(Out);  // bytes of a finished pixel
constexpr int kSteps = kTapRows * kParts * kTapColumns / 2;
constexpr int kLoads = (kSteps * 32 + 127) / 128, kWeights = kLoads * 64 * 128;

TF_FN void copy_bytes(u32 to, const void* from, u32 bytes, u32 barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from), "r"(bytes), "r"(barrier) : "memory");
}
// Descriptor without swizzle: core matrices of 8 pixels by 16 bytes follow each other, and along k lie 16 bytes apart.
TF_FN u64 plain_k_major(u32 address) { return (u64)((address & 0x3ffffu) >> 4) | ((u64)1 << 16) | ((u64)8 << 32); }

extern "C" __global__ void __launch_bounds__(kThreads, 1)
tenfold_conv_pool(const __grid_constant__ TensorMap map_weights, const __grid_constant__ PoolArguments pool, const __grid_constant__ GemmArguments args) {
  extern __shared__ char memory[];
  const u32 base = (shared_address(memory) + 1023u) & ~1023u;
  const int consumer = __shfl_sync(0xffffffffu, (int)threadIdx.x / 128, 0), thread = threadIdx.x % 128;
  const int lane = thread % 32, warp = thread / 32;
  const u32 part_bytes = pool.columns * 16, row_bytes = kParts * part_bytes, ring_row = pool.conv_w * kPixel;
  const u32 ring_bytes = kPoolH * ring_row, own = ring_bytes + kStripRows * row_bytes + kSlack;
  const u32 ring = base + kWeights + consumer * own, strip = ring + ring_bytes;
  const u32 barriers = base + kWeights + kConsumers * own, full = barriers + 8 + 8 * consumer;
  char* const ring_data = memory + (ring - shared_address(memory));
  if (threadIdx.x == 0) {
    for (int i = 0; i < 1 + kConsumers; ++i) barrier_init(barriers + 8 * i, 1);
    barrier_init_fence();
  }
  __syncthreads();
  allow_successor();
  if (threadIdx.x == 0) {
    barrier_expect(barriers, kWeights);
    for (int i = 0; i < kLoads; ++i) load_tile_2d(base + i * 64 * 128, &map_weights, barriers, i * (128 / (int)sizeof(Element)), 0);
  }
  wait_for_predecessor();
  // Rows of the convolution [begin, end) under the pooled rows [first, last).
  auto first_row = [&](int first) { return max(first * kPoolStrideH - pool.pad_h, 0); };
  auto last_row = [&](int last) { return min((last - 1) * kPoolStrideH - pool.pad_h + kPoolH, pool.conv_h); };
  auto load = [&](int unit) {
    const int image = unit / pool.strips, first = unit % pool.strips * kStrip, last = min(first + kStrip, pool.out_h);
    const int row = first_row(first);
    const u32 bytes = (last_row(last) - row + kTapRows - 1) * row_bytes;
    barrier_expect(full, bytes);
    copy_bytes(strip, (const char*)pool.blocks + ((long long)image * pool.rows + row) * row_bytes, bytes, full);
  };
  const int units = pool.images * pool.strips, step = gridDim.x * kConsumers;
  int unit = blockIdx.x * kConsumers + consumer;
  if (thread == 0 && unit < units) load(unit);
  barrier_wait(barriers, 0);
  u32 parity = 0;
  for (; unit < units; unit += step, parity ^= 1) {
    const int image = unit / pool.strips, first = unit % pool.strips * kStrip, last = min(first + kStrip, pool.out_h);
    const int strip_row = first_row(first);
    int next = strip_row;
    barrier_wait(full, parity);
    for (int out_row = first; out_row < last; ++out_row) {
      const int begin = first_row(out_row), end = last_row(out_row + 1);
      for (int row = max(next, begin); row < end; ++row) {
        char* const slot = ring_data + row % kPoolH * ring_row;
        for (int column0 = 0; column0 < pool.conv_w; column0 += 64) {
          Mma::Value sums[32];
          wgmma_fence();
#pragma unroll
          for (int k = 0; k < kSteps; ++k) {
            const int tap = k / (kParts * kTapColumns / 2), part = k / (kTapColumns / 2) % kParts, column = 2 * (k % (kTapColumns / 2));
            const u32 a = strip + (row - strip_row + tap) * row_bytes + part * part_bytes + (column0 + column) * 16;
            Mma::run(sums, plain_k_major(a), k_major<128>(base + k / 4 * 64 * 128) + 2 * (k % 4), k > 0);
          }
          wgmma_commit();
          wgmma_wait<0>();
          pin(sums);
#pragma unroll
          for (int group = 0; group < 64 / (4 * kUnit); ++group) {
            const int channel = group * 4 * kUnit + kUnit * (lane % 4);
            if (channel >= args.n) continue;
            ChannelValues columns;
            load_channels(args, channel, columns);
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              const int column = column0 + warp * 16 + lane / 4 + 8 * half;
              if (column >= pool.conv_w) continue;
              RowValues rows;
              float v[kUnit];
#pragma unroll
              for (int i = 0; i < kUnit; ++i) v[i] = (float)sums[4 * (kUnit / 2 * group + i / 2) + 2 * half + i % 2];
              Packed<Out> packed;
              complete(v, v, columns, rows, args, 0, channel, packed);
              store_unit((Out*)(slot + column * kPixel) + channel, kUnit, true, packed);
            }
          }
        }
      }
      next = end;
      named_sync<128>(1 + consumer);
      // The blocks have been read: the next strip's come while this one's maxima are taken.
      if (thread == 0 && out_row + 1 == last && unit + step < units) load(unit + step);
      const int parts = args.n * (int)sizeof(Out) / 16;
      for (int item = thread; item < pool.out_w * parts; item += 128) {
        const int column = item / parts, part = item % parts, left = column * kPoolStrideW - pool.pad_w;
        Largest largest;
#pragma unroll
        for (int y = 0; y < kPoolH; ++y) {
          if (begin + y >= end) continue;
          const char* const from = ring_data + (begin + y) % kPoolH * ring_row + part * 16;
#pragma unroll
          for (int x = 0; x < kPoolW; ++x) {
            if (left + x >= 0 && left + x < pool.conv_w) largest.take(*(const uint4*)(from + (left + x) * kPixel));
          }
        }
        *(uint4*)((Out*)args.out + (((long long)image * pool.out_h + out_row) * pool.out_w + column) * args.out_pitch + part * (16 / (int)sizeof(Out))) = largest.get();
      }
      named_sync<128>(1 + consumer);
    }
  }
}
)";

/// The largest of 16-byte vectors, element by element. Of bytes, pairs are compared: what is larger in its upper byte
/// is larger as a pair, so the words find the odd bytes, and shifted by a byte the even ones.
std::string largest_text(DType dtype) {
  if (size_of(dtype) == 1) {
    return fmt::format(R"(
struct Largest {{
  u32 even[4] = {{{1}, {1}, {1}, {1}}}, odd[4] = {{{1}, {1}, {1}, {1}}};
  TF_METHOD void take(const uint4& v) {{
    const u32 words[4] = {{v.x, v.y, v.z, v.w}};
#pragma unroll
    for (int i = 0; i < 4; ++i) even[i] = {0}(even[i], words[i] << 8), odd[i] = {0}(odd[i], words[i]);
  }}
  TF_METHOD uint4 get() const {{
    u32 words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) words[i] = __byte_perm(even[i], odd[i], 0x7351);
    return make_uint4(words[0], words[1], words[2], words[3]);
  }}
}};
)",
                       dtype == DType::int8 ? "__vmaxs2" : "__vmaxu2", dtype == DType::int8 ? "0x80808080u" : "0u");
  }
  return fmt::format(R"(
struct Largest {{
  u32 pairs[4] = {{{1}, {1}, {1}, {1}}};
  TF_METHOD void take(const uint4& v) {{
    const u32 words[4] = {{v.x, v.y, v.z, v.w}};
#pragma unroll
    for (int i = 0; i < 4; ++i) asm("max.NaN.{0}x2 %0, %0, %1;" : "+r"(pairs[i]) : "r"(words[i]));
  }}
  TF_METHOD uint4 get() const {{ return make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]); }}
}};
)",
                     dtype == DType::float16 ? "f16" : "bf16", dtype == DType::float16 ? "0xfc00fc00u" : "0xff80ff80u");
}

const ConvMaxPool& pooled_of(const OpPtr& op) {
  const auto* pooled = op_cast<ConvMaxPool>(op);
  ensure(pooled != nullptr, "a ConvMaxPool tactic was given operator {}", op->type());
  return *pooled;
}

/// What a kernel is made for.
struct Pooled {
  FilterSizes sizes;
  Fold fold{};
  DType element = DType::undefined, output = DType::undefined;
  Dim width = 1;  ///< of the image
  EpilogueSpec epilogue;
  std::array<std::int64_t, 2> pool{}, pool_stride{};

  std::int64_t size() const { return static_cast<std::int64_t>(size_of(element)); }
  std::int64_t parts() const { return fold.block * size() / 16; }
  std::int64_t k() const { return fold.kernel_h * fold.channels; }
  /// How the weights are packed, which is as a product with this schedule wants them.
  GemmSchedule packing() const {
    return {.element = element, .output = output, .consumers = 1, .tile_n = kColumns, .stages = 2};
  }
  std::int64_t strip_rows(std::int64_t strip) const {
    return (strip - 1) * pool_stride[0] + pool[0] + fold.kernel_h - 1;
  }
};

/// nullopt and a reason in `refusal` when the kernel cannot do it.
std::optional<Pooled> pooled_from(const ConvMaxPool& op, const std::vector<TensorType>& inputs,
                                  const std::vector<TensorType>& outputs, std::string& refusal) {
  const auto no = [&](std::string reason) {
    refusal = std::move(reason);
    return std::nullopt;
  };
  if (inputs.empty() || inputs[0].rank() != 4) return no("the input is no image");
  std::vector<TensorType> seen = inputs;
  seen[0] = op.image_type(inputs[0]);
  if (auto reason = refuses_conv(op.conv(), seen, outputs)) return no(*reason);
  Pooled pooled;
  pooled.width = seen[0].dims[2];
  pooled.element = seen[0].dtype;
  pooled.output = outputs[0].dtype;
  if (auto reason = refuses_elements(pooled.element, inputs[1].dtype, pooled.output)) return no(*reason);
  if (pooled.element == DType::float32) return no("float32 is not multiplied here");
  if (size_of(pooled.element) != size_of(pooled.output)) return no("the image and the result differ in size");
  const Window &window = op.conv().window(), &pooling = op.pool().window;
  for (std::size_t axis = 0; axis < 2; ++axis) {
    if (window.dilations[axis] != 1 || pooling.dilations[axis] != 1) return no("dilated");
    if (window.strides[axis] > kMaxStride || pooling.strides[axis] > kMaxPool || op.pool().kernel[axis] > kMaxPool)
      return no(fmt::format("a stride above {}, or a pooling above {}", kMaxStride, kMaxPool));
    pooled.pool[axis] = op.pool().kernel[axis];
    pooled.pool_stride[axis] = pooling.strides[axis];
  }
  pooled.sizes = filter_sizes(inputs[1]);
  if (outputs[0].rank() != 4 || outputs[0].dims[3] != Dim(pooled.sizes.n) ||
      seen[0].dims[3] != Dim(pooled.sizes.channels))
    return no("filter and images do not fit each other");
  if (std::max(pooled.sizes.kernel_h, pooled.sizes.kernel_w) > kMaxKernel || pooled.sizes.channels > 4)
    return no("the kernel is too large");
  if (pooled.sizes.n > kColumns || pooled.sizes.n * static_cast<std::int64_t>(size_of(pooled.output)) % 16 != 0)
    return no(fmt::format("{} filters are above {} or no multiple of 16 bytes", pooled.sizes.n, kColumns));
  pooled.fold = fold_of(op.conv(), pooled.sizes, pooled.element);
  if (pooled.fold.kernel_w % 2 != 0) return no("an odd number of blocks along the kernel's rows");
  // The epilogue sees pixels of the convolution, of which it knows the channel only.
  TensorType between = outputs[0];
  auto epilogue = epilogue_spec(op.conv().epilogue().program, inputs, Conv::kFirstEpilogueInput, between, refusal);
  if (!epilogue) return std::nullopt;
  for (const EpilogueSpec::Operand& operand : epilogue->operands) {
    if (operand.kind != EpilogueSpec::Kind::scalar && operand.kind != EpilogueSpec::Kind::column)
      return no("the epilogue reads more than channels");
  }
  epilogue->has_bias = has_bias(inputs);
  pooled.epilogue = std::move(*epilogue);
  return pooled;
}

/// Warpgroups, and pooled rows that one works on at a time.
struct Schedule {
  int consumers = 2, strip = 2;
  std::int64_t shared_bytes(const Pooled& pooled, std::int64_t conv_w) const {
    const std::int64_t loads = divide_up(pooled.k() * pooled.size(), 128);
    const std::int64_t columns = conv_w + pooled.fold.kernel_w - 1;
    const std::int64_t own = pooled.pool[0] * conv_w * kColumns * pooled.size() +
                             pooled.strip_rows(strip) * pooled.parts() * columns * 16 + kSlack;
    return 1024 + loads * kColumns * 128 + consumers * own + 8 * (1 + consumers);
  }
};

struct CheckedSpec {
  Pooled pooled;
  Schedule schedule;
};
CheckedSpec check(const KernelSpec& spec) {
  std::string refusal;
  std::optional<Pooled> pooled = pooled_from(pooled_of(spec.op), spec.inputs, spec.outputs, refusal);
  if (pooled && (spec.parameters.size() != 2 || spec.parameters[0] < 1 || spec.parameters[0] > 4 ||
                 spec.parameters[1] < 1 || spec.parameters[1] > 64 || !pooled->width.is_constant())) {
    refusal = "the parameters are no schedule";
  }
  Schedule schedule;
  if (refusal.empty()) {
    schedule = {static_cast<int>(spec.parameters[0]), static_cast<int>(spec.parameters[1])};
    const Dim width = pooled_of(spec.op).conv().window().output_size(1, pooled->width, Dim(pooled->sizes.kernel_w));
    if (!width.is_constant() || schedule.shared_bytes(*pooled, width.constant()) > kMaxSharedBytes)
      refusal = "a strip does not fit in shared memory";
  }
  require(refusal.empty(), Code::incompatible_engine, "tactic '{}' cannot run this ConvMaxPool: {}", spec.tactic,
          refusal);
  return {std::move(*pooled), schedule};
}

Source source(const KernelSpec& spec, const DeviceTraits&) {
  const CheckedSpec checked = check(spec);
  const Pooled& pooled = checked.pooled;
  std::string text(device_prelude());
  text += hopper_prelude();
  text += kGemmArgumentsText;
  text += kPoolArgumentsText;
  text += fold_text(pooled.fold, pooled.sizes.channels, pooled.element, /*is_planar=*/true,
                    {spec.inputs[0].dtype, pooled_of(spec.op).source().is_planar, pooled_of(spec.op).source().program});
  text += fmt::format(
      "constexpr int kConsumers = {}, kStrip = {}, kStripRows = {}, kTapRows = {}, kTapColumns = {}, kParts = {}, "
      "kPoolH = {}, kPoolW = {}, kPoolStrideH = {}, kPoolStrideW = {}, kSlack = {};\n",
      checked.schedule.consumers, checked.schedule.strip, pooled.strip_rows(checked.schedule.strip),
      pooled.fold.kernel_h, pooled.fold.kernel_w, pooled.parts(), pooled.pool[0], pooled.pool[1], pooled.pool_stride[0],
      pooled.pool_stride[1], kSlack);
  text += emit_wgmma("Mma", {.element = pooled.element, .n = kColumns});
  text += emit_epilogue(pooled.epilogue, pooled.output, pooled.packing().unit(), false);
  text += largest_text(pooled.output);
  text += kText;
  return {text, {std::string(kEntry), std::string(kFoldEntry)}};
}

class PooledKernel final : public Kernel {
 public:
  PooledKernel(const KernelSpec& spec, CheckedSpec checked, const LoadedModule& module)
      : op_(spec.op),
        pooled_(std::move(checked.pooled)),
        schedule_(checked.schedule),
        fold_function_(module.function(kFoldEntry)),
        function_(module.function(kEntry)),
        num_sms_(module.traits().num_sms),
        bias_(pooled_.epilogue.has_bias ? static_cast<const float*>(module.weight(1)) : nullptr) {
    const GemmSchedule packing = pooled_.packing();
    const std::int64_t row = loads_along_k(packing, pooled_.k(), 1) * packing.row_bytes;
    const auto row_bytes = static_cast<std::uint64_t>(row);
    const std::array<std::uint64_t, 2> dims{row_bytes / size_of(packing.element), kColumns};
    const std::array<std::uint32_t, 2> box{static_cast<std::uint32_t>(packing.row_elements()), kColumns};
    weights_ = encode_tiled(map_type(packing.element), 2, module.weight(0), dims.data(), &row_bytes, box.data(),
                            swizzle_of(packing.row_bytes));
  }

  std::size_t workspace_bytes(std::span<const TensorView> inputs, std::span<const TensorView>) const override {
    const auto [h, w] = conv_sizes(inputs[0]);
    return static_cast<std::size_t>(inputs[0].dim(0) * rows(h) * columns(w) * pooled_.fold.block * pooled_.size());
  }

  void run(const Launch& launch) const override {
    const TensorView &x = launch.inputs[0], &y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    const ConvMaxPool& op = pooled_of(op_);
    const auto [conv_h, conv_w] = conv_sizes(x);
    launch_fold(launch, fold_function_, op.conv().window(), pooled_.sizes, rows(conv_h), columns(conv_w),
                op.source().is_planar);
    PoolArguments pool{};
    pool.blocks = launch.workspace.data();
    pool.images = static_cast<int>(y.dim(0));
    pool.strips = static_cast<int>(divide_up(y.dim(1), schedule_.strip));
    pool.conv_h = static_cast<int>(conv_h);
    pool.conv_w = static_cast<int>(conv_w);
    pool.out_h = static_cast<int>(y.dim(1));
    pool.out_w = static_cast<int>(y.dim(2));
    pool.pad_h = static_cast<int>(op.pool().window.padding(0, conv_h, pooled_.pool[0])[0]);
    pool.pad_w = static_cast<int>(op.pool().window.padding(1, conv_w, pooled_.pool[1])[0]);
    pool.rows = static_cast<int>(rows(conv_h));
    pool.columns = static_cast<int>(columns(conv_w));
    GemmArguments arguments{};
    arguments.bias = bias_;
    bind_output(y, pooled_.packing().unit(), arguments);
    bind_operands(pooled_.epilogue, launch.inputs, Conv::kFirstEpilogueInput, y, arguments);
    LaunchConfig config;
    config.function = function_;
    config.grid.x = static_cast<unsigned>(
        std::min<std::int64_t>(num_sms_, divide_up(std::int64_t{pool.images} * pool.strips, schedule_.consumers)));
    config.block.x = static_cast<unsigned>(schedule_.consumers * 128);
    config.smem_bytes = static_cast<unsigned>(schedule_.shared_bytes(pooled_, conv_w));
    cuda_stream(launch).launch(config, weights_, pool, arguments);
  }
  bool accepts_pitched_input(int index) const override { return index == 0 && !pooled_of(op_).source().is_planar; }

 private:
  std::array<std::int64_t, 2> conv_sizes(const TensorView& x) const {
    const Window& window = pooled_of(op_).conv().window();
    const int first = pooled_of(op_).source().is_planar ? 2 : 1;
    return {window.output_size(0, Dim(x.dim(first)), Dim(pooled_.sizes.kernel_h)).constant(),
            window.output_size(1, Dim(x.dim(first + 1)), Dim(pooled_.sizes.kernel_w)).constant()};
  }
  std::int64_t rows(std::int64_t conv_h) const { return conv_h + pooled_.fold.kernel_h - 1; }
  std::int64_t columns(std::int64_t conv_w) const { return conv_w + pooled_.fold.kernel_w - 1; }

  OpPtr op_;
  Pooled pooled_;
  Schedule schedule_;
  Function fold_function_, function_;
  int num_sms_;
  const float* bias_;
  TensorMap weights_;
};

void candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  std::string refusal = refuses_device(traits).value_or("");
  std::optional<Pooled> pooled;
  if (refusal.empty()) pooled = pooled_from(pooled_of(problem.op), problem.inputs, problem.outputs, refusal);
  if (pooled &&
      (problem.constants[1] == nullptr || (pooled->epilogue.has_bias && problem.constants[kConvBias] == nullptr))) {
    refusal = "the weights are computed";
    pooled.reset();
  }
  if (pooled && !pooled->width.is_constant()) {
    refusal = "the image's width is not known";
    pooled.reset();
  }
  if (!pooled) return offer_refusal(refusal, out);
  const Window& window = pooled_of(problem.op).conv().window();
  const std::int64_t width = window.output_size(1, pooled->width, Dim(pooled->sizes.kernel_w)).constant();
  const Shape& y = problem.output_shapes[0];
  struct Choice {
    Schedule schedule;
    double rows = 0;  ///< of the convolution, that the busiest multiprocessor computes
  };
  for (int consumers = 4; consumers >= 2; --consumers) {
    std::vector<Choice> choices;
    for (int strip = 1; strip <= std::min<std::int64_t>(28, y[1]); ++strip) {
      const Schedule schedule{consumers, strip};
      if (schedule.shared_bytes(*pooled, width) > kMaxSharedBytes) break;
      const std::int64_t units = y[0] * divide_up(y[1], strip);
      const std::int64_t rounds = divide_up(units, std::int64_t{traits.num_sms} * consumers);
      const std::int64_t rows = (strip - 1) * pooled->pool_stride[0] + pooled->pool[0];
      choices.push_back({schedule, static_cast<double>(rounds * rows * consumers)});
    }
    std::stable_sort(choices.begin(), choices.end(), [](const Choice& a, const Choice& b) { return a.rows < b.rows; });
    for (std::size_t i = 0; i < std::min<std::size_t>(2, choices.size()); ++i) {
      Candidate candidate;
      candidate.parameters = {choices[i].schedule.consumers, choices[i].schedule.strip};
      // A row's epilogue keeps the multiprocessor busy; more warpgroups hide more of what else it waits for.
      constexpr double kClocksOfPixel = 6, kLoss = 0.5;
      candidate.estimated_us = choices[i].rows * static_cast<double>(width) * kClocksOfPixel * (1 + kLoss / consumers) /
                               (traits.clock_ghz * 1000);
      out.push_back(std::move(candidate));
    }
  }
  if (out.empty()) offer_refusal("a strip does not fit in shared memory", out);
}

PackedWeights pack(const Problem& problem, const Candidate&) {
  std::string refusal;
  const std::optional<Pooled> pooled = pooled_from(pooled_of(problem.op), problem.inputs, problem.outputs, refusal);
  ensure(pooled.has_value(), "packing for a pooled convolution that was refused: {}", refusal);
  const Fold& fold = pooled->fold;
  const FilterSizes& sizes = pooled->sizes;
  const auto size = static_cast<std::size_t>(pooled->size());
  const std::int64_t part = 16 / pooled->size(), parts = pooled->parts();
  // [n][folded row][part of a block][folded column][element]
  std::vector<std::byte> folded(static_cast<std::size_t>(sizes.n * pooled->k()) * size);
  for (std::int64_t n = 0; n < sizes.n; ++n) {
    for (std::int64_t r = 0; r < sizes.kernel_h; ++r) {
      for (std::int64_t s = 0; s < sizes.kernel_w; ++s) {
        for (std::int64_t c = 0; c < sizes.channels; ++c) {
          const std::int64_t inside = (r % fold.stride_h * fold.stride_w + s % fold.stride_w) * sizes.channels + c;
          const std::int64_t place =
              ((r / fold.stride_h * parts + inside / part) * fold.kernel_w + s / fold.stride_w) * part + inside % part;
          const std::int64_t from = ((n * sizes.channels + c) * sizes.kernel_h + r) * sizes.kernel_w + s;
          std::memcpy(folded.data() + static_cast<std::size_t>(n * pooled->k() + place) * size,
                      problem.constants[1]->data() + static_cast<std::size_t>(from) * size, size);
        }
      }
    }
  }
  const std::int64_t k = pooled->k();
  PackedWeights packed;
  packed.consumed_inputs = {1};
  packed.blobs.push_back(
      pack_columns(pooled->packing(), sizes.n, k, 1, folded.data(),
                   [k](std::int64_t n, std::int64_t, std::int64_t channel) { return n * k + channel; }));
  if (pooled->epilogue.has_bias) {
    packed.blobs.push_back(pack_vector(pooled->packing(), sizes.n, problem.constants[kConvBias]));
    packed.consumed_inputs.push_back(kConvBias);
  }
  return packed;
}

std::unique_ptr<Kernel> make(const KernelSpec& spec, const LoadedModule& module) {
  CheckedSpec checked = check(spec);
  const auto columns = static_cast<std::size_t>(
      packed_columns_bytes(checked.pooled.packing(), checked.pooled.sizes.n, checked.pooled.k(), 1));
  const bool has_bias = checked.pooled.epilogue.has_bias;
  require(spec.weights.size() == (has_bias ? 2U : 1U) && spec.weights[0].size() == columns &&
              (!has_bias || spec.weights[1].size() == kColumns * sizeof(float)),
          Code::incompatible_engine, "tactic '{}' expects packed weights of {} bytes and a bias of {} bytes or none",
          spec.tactic, columns, kColumns * sizeof(float));
  return std::make_unique<PooledKernel>(spec, std::move(checked), module);
}

}  // namespace

const CudaTactic kConvPooled{"conv.wgmma_pooled", "ConvMaxPool", candidates, pack, source, make};

}  // namespace tenfold::cuda
