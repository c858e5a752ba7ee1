// FusedAttention on the tensor cores of Hopper.
#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "backend/cuda/attention_schedule.hpp"
#include "backend/cuda/gemm_kernel.hpp"
#include "ops/attention.hpp"

namespace tenfold::cuda {
namespace {

constexpr double kLog2E = 1.4426950408889634;

const FusedAttention& attention_of(const OpPtr& op) {
  const auto* attention = op_cast<FusedAttention>(op);
  ensure(attention != nullptr, "an attention tactic was given operator {}", op->type());
  return *attention;
}

bool has_mask(const std::vector<TensorType>& inputs) {
  return inputs.size() > FusedAttention::kMask && inputs[FusedAttention::kMask].dtype != DType::undefined;
}

std::optional<std::string> refuses(const FusedAttention& attention, const std::vector<TensorType>& inputs,
                                   const std::vector<TensorType>& outputs) {
  if (inputs.size() < 3 || outputs.empty()) return "operands are missing";
  if (inputs[0].dtype != DType::float16 && inputs[0].dtype != DType::bfloat16) {
    return fmt::format("attention of {}", to_string(inputs[0].dtype));
  }
  for (std::size_t i = 1; i < 3; ++i) {
    if (inputs[i].dtype != inputs[0].dtype) return "the types of query, key and value differ";
  }
  if (outputs[0].dtype != inputs[0].dtype) return "the type of the result differs from the query's";
  for (std::size_t i = 0; i < 3; ++i) {
    if (inputs[i].rank() != (attention.layout() == FusedAttention::Layout::flat ? 3 : 4) ||
        !inputs[i].dims.back().is_constant())
      return "the head size is not known";
  }
  if (attention.scale() && !(*attention.scale() > 0)) return "the scale is not positive";
  return std::nullopt;
}

/// The schedule's part that the operator decides.
AttentionSchedule base_schedule(const FusedAttention& attention, const std::vector<TensorType>& inputs) {
  const auto size_of_head = [&](int index) {
    const std::int64_t size = attention.with_heads(inputs[static_cast<std::size_t>(index)].dims, index)[3].constant();
    return static_cast<int>(std::min<std::int64_t>(size, 1024));
  };
  AttentionSchedule schedule{.element = inputs[0].dtype,
                             .head_size = size_of_head(0),
                             .value_size = size_of_head(2),
                             .causal = attention.causal(),
                             .masked = has_mask(inputs)};
  if (schedule.masked) schedule.mask = inputs[FusedAttention::kMask].dtype;
  return schedule;
}

AttentionSchedule check(const KernelSpec& spec) {
  const FusedAttention& attention = attention_of(spec.op);
  const auto refusal = refuses(attention, spec.inputs, spec.outputs);
  require(!refusal && spec.weights.empty(), Code::incompatible_engine, "tactic '{}' cannot run this attention: {}",
          spec.tactic, refusal.value_or("it takes no packed weights"));
  const AttentionSchedule schedule = AttentionSchedule::decode(spec.parameters);
  AttentionSchedule expected = base_schedule(attention, spec.inputs);
  expected.tile_keys = schedule.tile_keys;
  expected.consumers = schedule.consumers;
  require(schedule == expected, Code::incompatible_engine, "tactic '{}': the schedule does not fit the operator",
          spec.tactic);
  return schedule;
}

/// [batch, head, row, element] of operand `index` in any layout, as a tensor map wants it: innermost first.
struct HeadView {
  std::int64_t batch, heads, rows, size;
  std::int64_t batch_step, head_step, row_step;  ///< elements
};
HeadView head_view(const TensorView& view, const FusedAttention& attention, int index) {
  const Shape dims = attention.with_heads(view.dims, index);
  const std::int64_t heads = dims[attention.head_axis()], rows = dims[attention.row_axis()], size = dims[3];
  switch (attention.layout()) {
    case FusedAttention::Layout::bhld:
      return {dims[0], heads, rows, size, view.pitch * rows * heads, view.pitch * rows, view.pitch};
    case FusedAttention::Layout::blhd:
      return {dims[0], heads, rows, size, view.pitch * heads * rows, view.pitch, view.pitch * heads};
    case FusedAttention::Layout::flat:
      break;
  }
  return {dims[0], heads, rows, size, view.pitch * rows, size, view.pitch};
}

TensorMap head_map(const HeadView& view, const void* data, DType dtype, int box_rows) {
  const auto u64 = [](std::int64_t v) { return static_cast<std::uint64_t>(v); };
  const std::uint64_t size = size_of(dtype);
  const std::array<std::uint64_t, 4> dims{u64(view.size), u64(view.rows), u64(view.heads), u64(view.batch)};
  const std::array<std::uint64_t, 3> strides{u64(view.row_step) * size, u64(view.head_step) * size,
                                             u64(view.batch_step) * size};
  const std::array<std::uint32_t, 4> box{64, static_cast<std::uint32_t>(box_rows), 1, 1};
  return encode_tiled(map_type(dtype), 4, data, dims.data(), strides.data(), box.data(), MapSwizzle::bytes128);
}

class AttentionKernel final : public Kernel {
 public:
  AttentionKernel(const KernelSpec& spec, const AttentionSchedule& schedule, const LoadedModule& module)
      : op_(spec.op),
        schedule_(schedule),
        scale_(static_cast<float>(
            kLog2E * attention_of(spec.op).scale().value_or(1 / std::sqrt(static_cast<double>(schedule.head_size))))),
        function_(module.function(kAttentionEntry)) {}

  void run(const Launch& launch) const override {
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    const FusedAttention& attention = attention_of(op_);
    const HeadView q = head_view(launch.inputs[0], attention, 0), k = head_view(launch.inputs[1], attention, 1);
    const HeadView v = head_view(launch.inputs[2], attention, 2), out = head_view(y, attention, 0);
    if (k.rows == 0) {
      cuda_stream(launch).fill(y.data, 0, static_cast<std::size_t>(y.num_elements()) * size_of(y.dtype));
      return;
    }
    AttentionArguments arguments{};
    arguments.out = y.data;
    arguments.out_batch = out.batch_step;
    arguments.out_head = out.head_step;
    arguments.out_row = out.row_step;
    arguments.heads = static_cast<int>(q.heads);
    arguments.key_heads = static_cast<int>(k.heads);
    arguments.queries = static_cast<int>(q.rows);
    arguments.keys = static_cast<int>(k.rows);
    arguments.scale = scale_;
    if (schedule_.masked) bind_mask(launch.inputs[FusedAttention::kMask], arguments);
    LaunchConfig config;
    config.function = function_;
    config.grid = {static_cast<unsigned>((q.rows + schedule_.tile_queries() - 1) / schedule_.tile_queries()),
                   static_cast<unsigned>(q.heads), static_cast<unsigned>(q.batch)};
    config.block.x = static_cast<unsigned>(schedule_.threads());
    config.smem_bytes = static_cast<unsigned>(schedule_.shared_bytes());
    config.pdl = true;
    cuda_stream(launch).launch(config, head_map(q, launch.inputs[0].data, schedule_.element, schedule_.tile_queries()),
                               head_map(k, launch.inputs[1].data, schedule_.element, schedule_.tile_keys),
                               head_map(v, launch.inputs[2].data, schedule_.element, schedule_.tile_keys), arguments);
  }

  bool accepts_pitched_input(int) const override { return true; }
  std::int64_t pitched_input_alignment() const override { return 16; }  // of rows in a tensor map

 private:
  /// Broadcast to [batch, heads, queries, keys]; an axis of 1 stands still.
  static void bind_mask(const TensorView& mask, AttentionArguments& arguments) {
    std::array<long long, 4> steps{};
    long long step = 1;
    for (int axis = mask.rank() - 1, to = 3; axis >= 0 && to >= 0; --axis, --to) {
      steps[static_cast<std::size_t>(to)] = mask.dim(axis) == 1 ? 0 : step;
      step *= axis == mask.rank() - 1 ? mask.pitch : mask.dim(axis);
    }
    arguments.mask = mask.data;
    arguments.mask_batch = steps[0];
    arguments.mask_head = steps[1];
    arguments.mask_row = steps[2];
    arguments.mask_key = steps[3];
  }

  OpPtr op_;
  AttentionSchedule schedule_;
  float scale_;
  Function function_;
};

/// Blocks run in waves; each tile of keys is multiplied and exponentiated (16 per clock), which overlap for the most
/// part, and has a fixed cost that more warpgroups hide better. Constants fitted to 114 measurements on an H100.
double estimate_us(const AttentionSchedule& schedule, const Problem& problem, const DeviceTraits& traits) {
  constexpr double kMultiplies = 2048 * 0.69, kExponentials = 16 * 0.78, kOverlapLoss = 0.31, kBlockClocks = 5200;
  constexpr std::array kTileClocks{243.0, 300.0, 122.0, 12.0};
  constexpr std::array kRegisters{160, 168, 128, 96};  // of a thread, by the number of warpgroups
  constexpr double kLaunchUs = 2.3, kClockEfficiency = 0.83;
  const FusedAttention& attention = attention_of(problem.op);
  const Shape q = attention.with_heads(problem.input_shapes[0], 0),
              k = attention.with_heads(problem.input_shapes[1], 1);
  const std::size_t row = attention.row_axis(), head = attention.head_axis();
  const double queries = static_cast<double>(q[row]), keys = static_cast<double>(k[row]);
  double tiles = std::ceil(keys / schedule.tile_keys);
  if (schedule.causal) tiles = (tiles + 1) / 2;
  const auto warpgroups = static_cast<std::size_t>(schedule.consumers - 1);
  const double scores = static_cast<double>(schedule.tile_queries()) * schedule.tile_keys;
  const double multiply = scores * ((schedule.head_size + 15) / 16 * 16 + schedule.value_size) / kMultiplies;
  const double exponentiate = scores / kExponentials;
  const double work = std::max(multiply, exponentiate) + kOverlapLoss * std::min(multiply, exponentiate);
  // Blocks that a multiprocessor holds at a time; each hides the others' fixed costs.
  const double resident = static_cast<double>(
      std::max<std::int64_t>(1, std::min<std::int64_t>(kMaxSharedBytes / schedule.shared_bytes(),
                                                       65536 / (schedule.threads() * kRegisters[warpgroups]))));
  const double blocks = std::ceil(queries / schedule.tile_queries()) * static_cast<double>(q[0] * q[head]);
  const double waves = std::ceil(blocks / (traits.num_sms * resident));
  const double busy = std::min(resident, std::max(1.0, blocks / traits.num_sms));
  const double tile = std::max(work + kTileClocks[warpgroups], busy * work);
  return kLaunchUs + waves * (kBlockClocks + tiles * tile) / (traits.clock_ghz * 1000 * kClockEfficiency);
}

void candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  auto refusal = refuses_device(traits);
  if (!refusal) refusal = refuses(attention_of(problem.op), problem.inputs, problem.outputs);
  bool any = false;
  if (!refusal) {
    for (const int consumers : {1, 2, 3, 4}) {
      for (const int keys : {48, 64, 80, 96, 128}) {
        AttentionSchedule schedule = base_schedule(attention_of(problem.op), problem.inputs);
        schedule.consumers = consumers;
        schedule.tile_keys = keys;
        if (auto reason = schedule.refuses()) {
          if (!refusal) refusal = std::move(reason);
          continue;
        }
        any = true;
        Candidate candidate;
        candidate.parameters = schedule.encode();
        candidate.estimated_us = estimate_us(schedule, problem, traits);
        out.push_back(std::move(candidate));
      }
    }
  }
  if (any) return;
  offer_refusal(refusal.value_or(""), out);
}

}  // namespace

const CudaTactic kAttentionWgmma{"attention.wgmma",
                                 "FusedAttention",
                                 candidates,
                                 nullptr,
                                 [](const KernelSpec& spec, const DeviceTraits&) {
                                   return Source{attention_text(check(spec)), {std::string(kAttentionEntry)}};
                                 },
                                 [](const KernelSpec& spec, const LoadedModule& module) -> std::unique_ptr<Kernel> {
                                   return std::make_unique<AttentionKernel>(spec, check(spec), module);
                                 }};

}  // namespace tenfold::cuda
