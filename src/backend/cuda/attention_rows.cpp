// Tactic "attention.rows": attention of any float type and any head size up to 256, on the ordinary cores, for what the
// tensor cores do not take. One warp makes one row of the result: it walks over the keys 32 at a time, one a lane, and
// keeps maximum and sum of the softmax as it goes (Milakov and Gimelshein 2018, arXiv:1805.02867), all in float32.
#include <algorithm>
#include <cmath>

#include "backend/cuda/loop_nest.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "backend/cuda/tactic_tools.hpp"
#include "ops/attention.hpp"

namespace tenfold::cuda {
namespace {

constexpr std::int64_t kWidest = 256;
constexpr int kWarps = 4, kLanes = 32;

const FusedAttention& attention_of(const Op& op) {
  const auto* attention = dynamic_cast<const FusedAttention*>(&op);
  ensure(attention != nullptr, "an attention tactic was given operator {}", op.type());
  return *attention;
}

/// As the kernel sees it. Strides in elements, of batch, head and row.
struct AttentionArguments {
  struct Operand {
    const void* data = nullptr;
    std::int64_t batch = 0, head = 0, row = 0, column = 0;
  };
  Operand q, k, v, y, mask;
  std::int64_t rows = 0;  ///< of all batches and heads
  std::int32_t heads = 1, key_heads = 1, queries = 1, keys = 1;
  float scale = 1;
};

std::int64_t head_size(const FusedAttention& attention, const std::vector<TensorType>& inputs, int index) {
  return attention.with_heads(inputs[static_cast<std::size_t>(index)].dims, index)[3].constant();
}

class AttentionRowsKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(2) || !signature.has_output(0)) return "operands are missing";
    for (std::size_t i = 0; i < signature.inputs.size(); ++i) {
      if (signature.has_input(i) && !is_device_float(signature.inputs[i].dtype))
        return fmt::format("input {} is {}", i, to_string(signature.inputs[i].dtype));
    }
    const FusedAttention& attention = attention_of(signature.op);
    for (std::size_t i = 0; i < 3; ++i) {
      const TensorType& type = signature.inputs[i];
      if (type.rank() != (attention.layout() == FusedAttention::Layout::flat ? 3 : 4) ||
          !type.dims.back().is_constant())
        return "the head size is not known";
      const std::int64_t size = head_size(attention, signature.inputs, static_cast<int>(i));
      if (size < 1 || size > kWidest) return fmt::format("a head size of {}, at most {}", size, kWidest);
    }
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const bool has_mask =
        spec.inputs.size() > FusedAttention::kMask && spec.inputs[FusedAttention::kMask].dtype != DType::undefined;
    const DType dtype = spec.inputs[0].dtype;
    const bool is_fast = math_mode_for(spec.outputs[0].dtype) == MathMode::fast;
    const std::string mask =
        has_mask
            ? fmt::format(
                  "      score += tf::to_float(((const {}*)a.mask.data)[batch * a.mask.batch + head * a.mask.head + "
                  "query * a.mask.row + key * a.mask.column]);\n",
                  device_type(spec.inputs[FusedAttention::kMask].dtype))
            : "";
    return {fmt::format(
                R"({prelude}
typedef {type} T;
struct Operand {{ const void* data; long long batch, head, row, column; }};
struct Arguments {{
  Operand q, k, v, y, mask;
  long long rows;
  int heads, key_heads, queries, keys;
  float scale;
}};
constexpr int kDepth = {depth}, kWidth = {width}, kParts = (kWidth + 31) / 32;
TF_FN float power(float x) {{ return {exp}; }}
extern "C" __global__ void __launch_bounds__(128) attend(const __grid_constant__ Arguments a) {{
  __shared__ float queries[4][kDepth];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const long long number = blockIdx.x * 4LL + warp;
  if (number >= a.rows) return;
  const int query = (int)(number % a.queries);
  const int head = (int)(number / a.queries % a.heads);
  const long long batch = number / a.queries / a.heads;
  const int key_head = (int)((long long)head * a.key_heads / a.heads);
  const T* q = (const T*)a.q.data + batch * a.q.batch + head * a.q.head + query * a.q.row;
  const T* k = (const T*)a.k.data + batch * a.k.batch + key_head * a.k.head;
  const T* v = (const T*)a.v.data + batch * a.v.batch + key_head * a.v.head;
  for (int d = lane; d < kDepth; d += 32) queries[warp][d] = tf::to_float(q[d]) * a.scale;
  __syncwarp();
  int visible = a.keys;
  if ({causal}) {{
    visible = query + 1 + a.keys - a.queries;
    visible = visible < 0 ? 0 : visible > a.keys ? a.keys : visible;
  }}
  const float lowest = tf::float_of(0xff800000u);
  float largest = lowest, sum = 0.0f, result[kParts];
#pragma unroll
  for (int p = 0; p < kParts; ++p) result[p] = 0.0f;
  for (int first = 0; first < visible; first += 32) {{
    const int key = first + lane;
    float score = lowest;
    if (key < visible) {{
      score = 0.0f;
      const T* row = k + key * a.k.row;
#pragma unroll 8
      for (int d = 0; d < kDepth; ++d) score += queries[warp][d] * tf::to_float(row[d]);
{mask}    }}
    float next = score;
#pragma unroll
    for (int step = 16; step > 0; step /= 2) next = fmaxf(next, __shfl_xor_sync(0xffffffffu, next, step));
    next = fmaxf(next, largest);
    if (next == lowest) continue;
    const float weight = power(score - next), rest = power(largest - next);
    float weights = weight;
#pragma unroll
    for (int step = 16; step > 0; step /= 2) weights += __shfl_xor_sync(0xffffffffu, weights, step);
    sum = sum * rest + weights;
    largest = next;
#pragma unroll
    for (int p = 0; p < kParts; ++p) result[p] *= rest;
    const int count = visible - first < 32 ? visible - first : 32;
    for (int j = 0; j < count; ++j) {{
      const float share = __shfl_sync(0xffffffffu, weight, j);
      const T* row = v + (first + j) * a.v.row;
#pragma unroll
      for (int p = 0; p < kParts; ++p) {{
        if (lane + 32 * p < kWidth) result[p] += share * tf::to_float(row[lane + 32 * p]);
      }}
    }}
  }}
  T* y = (T*)a.y.data + batch * a.y.batch + head * a.y.head + query * a.y.row;
#pragma unroll
  for (int p = 0; p < kParts; ++p) {{
    if (lane + 32 * p < kWidth) y[lane + 32 * p] = tf::from_float<T>(sum == 0.0f ? 0.0f : result[p] / sum);
  }}
}}
)",
                fmt::arg("prelude", device_prelude()), fmt::arg("type", device_type(dtype)),
                fmt::arg("depth", head_size(attention_of(*spec.op), spec.inputs, 0)),
                fmt::arg("width", head_size(attention_of(*spec.op), spec.inputs, 2)),
                fmt::arg("exp", is_fast ? "tf::math::exp(tf::fast(x)).v" : "expf(x)"),
                fmt::arg("causal", attention_of(*spec.op).causal() ? "true" : "false"), fmt::arg("mask", mask)),
            {"attend"}};
  }
  AttentionRowsKernel(const KernelSpec& spec, const LoadedModule& module)
      : op_(spec.op), function_(module.function("attend")) {}

  void run(const Launch& launch) const override {
    const FusedAttention& attention = attention_of(*op_);
    const std::size_t head = attention.head_axis(), row = attention.row_axis();
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    const Shape q = attention.with_heads(launch.inputs[0].dims, 0), k = attention.with_heads(launch.inputs[1].dims, 1);
    const auto operand = [&](const TensorView& view, int index) {
      const auto strides = strides_of_view(view);
      if (attention.layout() == FusedAttention::Layout::flat)
        return AttentionArguments::Operand{view.data, strides[0], attention.with_heads(view.dims, index)[3], strides[1],
                                           1};
      return AttentionArguments::Operand{view.data, strides[0], strides[head], strides[row], 1};
    };
    AttentionArguments arguments;
    arguments.q = operand(launch.inputs[0], 0);
    arguments.k = operand(launch.inputs[1], 1);
    arguments.v = operand(launch.inputs[2], 2);
    arguments.y = operand(y, 0);
    arguments.heads = static_cast<std::int32_t>(q[head]);
    arguments.key_heads = static_cast<std::int32_t>(k[head]);
    arguments.queries = static_cast<std::int32_t>(q[row]);
    arguments.keys = static_cast<std::int32_t>(k[row]);
    arguments.rows = q[0] * q[head] * q[row];
    arguments.scale = static_cast<float>(attention.scale().value_or(1 / std::sqrt(static_cast<double>(q[3]))));
    const TensorView mask = operand_of(launch.inputs, FusedAttention::kMask);
    if (mask.data != nullptr) {
      const std::array<std::int64_t, 4> dims{q[0], q[head], q[row], k[row]};
      const NestOperand broadcast = broadcast_operand(mask, dims);
      arguments.mask = {mask.data, broadcast.strides[0], broadcast.strides[1], broadcast.strides[2],
                        broadcast.strides[3]};
    }
    LaunchConfig config;
    config.function = function_;
    config.grid.x = static_cast<unsigned>(divide_up(arguments.rows, kWarps));
    config.block.x = kWarps * kLanes;
    cuda_stream(launch).launch(config, arguments);
  }

 private:
  OpPtr op_;
  Function function_;
};

void candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  PlainTactic<AttentionRowsKernel>::candidates(problem, traits, out);
  // Every product of two numbers costs an instruction on a core that loads its operands for itself.
  constexpr double kFlopsPerUs = 2e6;
  if (out.back().refusal.empty()) {
    out.back().estimated_us += problem.op->flops(problem.inputs, problem.outputs) / kFlopsPerUs;
  }
}

}  // namespace

const CudaTactic kAttentionRows = {"attention.rows",
                                   "FusedAttention",
                                   candidates,
                                   nullptr,
                                   PlainTactic<AttentionRowsKernel>::source,
                                   PlainTactic<AttentionRowsKernel>::make};

}  // namespace tenfold::cuda
