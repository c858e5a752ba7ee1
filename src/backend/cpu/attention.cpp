// FusedAttention: softmax(scale q k^T + mask) v, one block of queries of one key-value head at a time. Query heads that
// share a key-value head are handled together, so its keys and values are read once.
#include "backend/cpu/kernels/attention.hpp"

#include <array>
#include <cmath>

#include "backend/cpu/tactic_tools.hpp"

namespace tenfold::cpu {

namespace {

/// Axes of [B, H, L, D] or [B, L, H, D].
struct HeadLayout {
  std::size_t head, row;
};
std::optional<HeadLayout> layout_of(const Op& op) {
  const std::string layout = op.attributes().get_string("layout", "bhld");
  if (layout == "bhld") return HeadLayout{1, 2};
  if (layout == "blhd") return HeadLayout{2, 1};
  return std::nullopt;
}

/// Blocks for each thread, so that one that is held up can be helped out, if they have so many rows; and at most.
constexpr std::int64_t kBlocksPerThread = 8, kFewestRows = 64, kMaxParts = 1 << 16;

class AttentionKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    constexpr std::array<std::string_view, 4> kNames = {"the query", "the key", "the value", "the mask"};
    for (std::size_t i = 0; i < kNames.size(); ++i) {
      if (i == 3 && !signature.has_input(i)) break;
      if (auto refusal = signature.refuses_dtype(i, kNames[i])) return refusal;
      const int rank = signature.inputs[i].rank();
      if (i < 3 && rank != 4) return fmt::format("{} has rank {}, expected 4", kNames[i], rank);
      if (rank > 4) return fmt::format("{} has rank {}, expected at most 4", kNames[i], rank);
    }
    if (!layout_of(signature.op)) return "the layout is neither bhld nor blhd";
    for (const std::size_t i : {0, 2}) {
      if (!signature.inputs[i].dims[3].is_constant()) return fmt::format("the last axis of {} is not known", kNames[i]);
    }
    if (scratch_bytes(signature.inputs[0].dims[3].constant(), signature.inputs[2].dims[3].constant()) >
        static_cast<double>(CpuStream::kScratchBytes)) {
      return "a block of queries needs more scratch memory than a thread has";
    }
    return std::nullopt;
  }
  explicit AttentionKernel(const KernelSpec& spec)
      : layout_(*layout_of(*spec.op)), kernels_(TENFOLD_FOR_TIER(kAttentionKernels)) {
    const Attributes attributes = spec.op->attributes();
    causal_ = attributes.get_int("causal", 0) != 0;
    const auto depth = static_cast<double>(spec.inputs[0].dims[3].constant());
    scale_ = static_cast<float>(attributes.get_float("scale", 1 / std::sqrt(depth)));
  }
  static double estimate_us(const Problem& problem) {
    constexpr double kFlopsPerUs = 50'000;
    double scores = 1;
    for (std::size_t a = 0; a < 4; ++a) scores *= static_cast<double>(problem.input_shapes[0][a]);
    const auto layout = layout_of(*problem.op);
    return 2 + 4 * scores * static_cast<double>(problem.input_shapes[1][layout->row]) / kFlopsPerUs;
  }

  void run(const Launch& launch) const override {
    const TensorView& q = launch.inputs[0];
    const TensorView& k = launch.inputs[1];
    const TensorView& v = launch.inputs[2];
    const TensorView mask = operand_of(launch.inputs, 3);
    const TensorView& out = launch.outputs[0];
    if (out.num_elements() == 0) return;
    const Place qp = place_of(q), kp = place_of(k), vp = place_of(v), op = place_of(out);
    const std::int64_t batches = q.dims[0], heads = q.dims[layout_.head], shared = k.dims[layout_.head];
    AttentionTask task{};
    task.queries = q.dims[layout_.row];
    task.keys = k.dims[layout_.row];
    task.depth = q.dims[3];
    task.value_depth = v.dims[3];
    task.scale = scale_;
    task.causal = causal_;
    task.causal_offset = task.keys - task.queries;
    task.q_head_stride = qp.head;
    task.q_row_stride = qp.row;
    task.k_row_stride = kp.row;
    task.v_row_stride = vp.row;
    task.out_head_stride = op.head;
    task.out_row_stride = op.row;
    // Strides of the mask, aligned at the last axis of [B, H, L, S]; 0 where it is broadcast.
    std::array<std::int64_t, 4> mask_strides{};
    if (mask.data != nullptr) {
      std::int64_t next = 1;
      for (int i = 1; i <= mask.rank(); ++i) {
        const std::int64_t size = mask.dims[static_cast<std::size_t>(mask.rank() - i)];
        mask_strides[static_cast<std::size_t>(4 - i)] = size == 1 ? 0 : next;
        next *= size;
      }
    }
    task.mask_head_stride = heads == shared ? 0 : mask_strides[1];  // within a block
    task.mask_row_stride = mask_strides[2];
    task.mask_key_stride = mask_strides[3];

    ThreadPool& pool = pool_of(launch);
    auto& stream = static_cast<CpuStream&>(*launch.stream);
    const std::int64_t group = heads / shared, rows = group * task.queries;
    const double total_ns = static_cast<double>(batches * shared * rows) * static_cast<double>(task.keys) *
                            (static_cast<double>(task.depth + task.value_depth) / 24 + 0.5);
    constexpr double kWorthwhileNs = 4000;
    const std::int64_t threads =
        std::clamp<std::int64_t>(static_cast<std::int64_t>(total_ns / kWorthwhileNs), 1, pool.num_threads());
    // Blocks as equal as whole vectors allow; smaller ones when there would be too few for all threads. A row's result
    // does not depend on the block it is in.
    const std::int64_t pairs = batches * shared, wanted = threads == 1 ? 1 : kBlocksPerThread * threads;
    std::int64_t blocks = (rows + kMaxAttentionRows - 1) / kMaxAttentionRows;
    if (pairs * blocks < wanted) {
      // Each block copies the values that its rows read, which few rows do not make up for.
      const std::int64_t fewest = pairs * blocks < threads ? 16 : kFewestRows;
      blocks = std::max(blocks, std::min((wanted + pairs - 1) / pairs, (rows + fewest - 1) / fewest));
    }
    const std::int64_t per_block = ((rows + blocks - 1) / blocks + 15) / 16 * 16;
    blocks = (rows + per_block - 1) / per_block;
    // Every thread has heads that follow each other: products around are shared so too.
    const auto run_item = [&](std::int64_t item, int thread) {
      AttentionTask t = task;
      t.scratch =
          reinterpret_cast<float*>(stream.scratch() + static_cast<std::size_t>(thread) * CpuStream::kScratchBytes);
      const std::int64_t b = item / blocks / shared, head = item / blocks % shared;
      t.row_begin = item % blocks * per_block;
      t.num_rows = std::min(per_block, rows - t.row_begin);
      t.q = q.as<const float>() + b * qp.batch + head * group * qp.head;
      t.k = k.as<const float>() + b * kp.batch + head * kp.head;
      t.v = v.as<const float>() + b * vp.batch + head * vp.head;
      t.out = out.as<float>() + b * op.batch + head * group * op.head;
      t.mask = mask.data == nullptr ? nullptr
                                    : mask.as<const float>() + b * mask_strides[0] + head * group * mask_strides[1];
      kernels_.block(t);
    };
    const std::int64_t items = pairs * blocks;
    const auto parts = static_cast<int>(std::min(items, threads < pool.num_threads() ? threads : kMaxParts));
    pool.run_on_threads(parts, [&](int part, int thread) {
      for (std::int64_t i = items * part / parts; i < items * (part + 1) / parts; ++i) run_item(i, thread);
    });
  }

 private:
  struct Place {
    std::int64_t batch, head, row;
  };
  Place place_of(const TensorView& view) const {
    const std::int64_t depth = view.dims[3];
    const std::int64_t batch = view.dims[1] * view.dims[2] * depth;
    if (layout_.head == 1) return {batch, view.dims[2] * depth, depth};
    return {batch, depth, view.dims[2] * depth};
  }
  /// Of one thread, whatever the number of keys; in double because sizes may be absurd.
  static double scratch_bytes(std::int64_t depth, std::int64_t value_depth) {
    if (depth > (1 << 20) || value_depth > (1 << 20)) return INFINITY;
    return 4.0 *
           static_cast<double>(attention_scratch_floats(kMaxAttentionRows, kAttentionKeys, depth, value_depth, true));
  }

  HeadLayout layout_;
  bool causal_ = false;
  float scale_ = 1;
  const AttentionKernels& kernels_;
};

}  // namespace

const CpuTactic kFusedAttention = plain_tactic<AttentionKernel>("attention.blocks", "FusedAttention");

}  // namespace tenfold::cpu
