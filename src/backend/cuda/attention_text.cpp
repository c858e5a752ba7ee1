// The attention kernel. One thread of warpgroup 0 loads q once and the keys and values of each tile; every other
// warpgroup owns 64 queries. Scores, probabilities and results stay in registers.
#include <array>

#include <fmt/format.h>

#include "backend/cuda/attention_schedule.hpp"
#include "backend/cuda/gemm_schedule.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "base/error.hpp"

namespace tenfold::cuda {
namespace {

constexpr int kStages = 2;
constexpr std::size_t kNumParameters = 8;

constexpr std::string_view kText = R"(
constexpr int kThreads = (kConsumers + 1) * 128;
constexpr int kQueries = kConsumers * 64;
constexpr int kStages = 2;
constexpr int kBoxesK = (kHead + 63) / 64, kBoxesV = (kValue + 63) / 64, kStepsK = (kHead + 15) / 16;
constexpr int kBytesQ = kBoxesK * kQueries * 128, kBytesK = kBoxesK * kKeys * 128, kBytesV = kBoxesV * kKeys * 128;
constexpr int kScores = kKeys / 2, kResults = kValue / 2;  // registers of a thread
#define NO_SCORE tf::float_of(0xff800000u)

TF_FN u32 pack_pair(float low, float high) {
  u32 r;
  if constexpr (kIsBf16) asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  else asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

// A descriptor of what lies `bytes` further. The address is in the low word, and shared memory is too small to carry.
TF_FN u64 further(u64 descriptor, u32 bytes) { return (descriptor & 0xffffffff00000000ull) | ((u32)descriptor + bytes / 16); }
// `q`, `k`, `v`: descriptors.
TF_FN void multiply_scores(float (&scores)[kScores], u64 q, u64 k) {
#pragma unroll
  for (int step = 0; step < kStepsK; ++step) ScoreMma::run(scores, further(q, step / 4 * kQueries * 128 + step % 4 * 32), further(k, step / 4 * kKeys * 128 + step % 4 * 32), step != 0);
}
TF_FN void multiply_values(float (&results)[kResults], const u32 (&p)[kKeys / 16][4], u64 v, bool first) {
#pragma unroll
  for (int step = 0; step < kKeys / 16; ++step) ValueMma::run(results, p[step], further(v, step * 2048), !(first && step == 0));
}

// Scores of keys that are not there, or not visible, or masked. `row`: the query of half 0; half 1 is 8 further.
TF_FN void mask_scores(float (&scores)[kScores], const AttentionArguments& args, const Mask* mask, int key0, int row, int lane, bool cut) {
  const int first = key0 + lane % 4 * 2, step = (int)args.mask_key;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = row + 8 * half, visible = kCausal ? min(args.keys, query + 1 + args.keys - args.queries) : args.keys;
    const int known = query < args.queries ? args.keys - first : 0;
    const Mask* from = mask + query * args.mask_row + first * args.mask_key;
    asm volatile("" : "+l"(from));  // opaque, so that addresses are not computed ahead of the loop over tiles
#pragma unroll
    for (int i = 0; i < kScores / 2; ++i) {
      float& score = scores[i / 2 * 4 + 2 * half + i % 2];
      const int offset = i / 2 * 8 + i % 2;  // keys behind the first
      if (kMasked) {
        // In units of the exponent to 2: args.scale is log2(e) * scale.
        float m = 0.0f;
        if (offset < known) m = tf::to_float(from[offset * step]);
        score = fmaf(score, args.scale, m * 0x1.715476p+0f);
      }
      if (cut && first + offset >= visible) score = NO_SCORE;
    }
  }
}

struct Running { float largest[2], sum[2]; };
// Scores become probabilities relative to the new running maximum; `shrink` is what older results are multiplied with.
TF_FN void exponentiate(float (&scores)[kScores], Running& running, float (&shrink)[2], float scale) {
  // Four maxima and sums for each row, because one of either would be a chain of dependent instructions.
  float part[2][4];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int k = 0; k < 4; ++k) part[half][k] = k == 0 ? running.largest[half] : NO_SCORE;
  }
#pragma unroll
  for (int i = 0; i < kScores; ++i) part[i / 2 % 2][i / 4 % 2 * 2 + i % 2] = fmaxf(part[i / 2 % 2][i / 4 % 2 * 2 + i % 2], scores[i]);
  float reference[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = fmaxf(fmaxf(part[half][0], part[half][1]), fmaxf(part[half][2], part[half][3]));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
    // While no key is visible there is nothing to be relative to.
    reference[half] = largest == NO_SCORE ? 0.0f : largest * scale;
    shrink[half] = tf::ex2(fmaf(running.largest[half], scale, -reference[half]));
    running.largest[half] = largest;
#pragma unroll
    for (int k = 0; k < 4; ++k) part[half][k] = 0.0f;
  }
#pragma unroll
  for (int i = 0; i < kScores; ++i) {
    scores[i] = tf::ex2(fmaf(scores[i], scale, -reference[i / 2 % 2]));
    part[i / 2 % 2][i / 4 % 2 * 2 + i % 2] += scores[i];
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) running.sum[half] = fmaf(running.sum[half], shrink[half], (part[half][0] + part[half][1]) + (part[half][2] + part[half][3]));
}
TF_FN void pack_probabilities(const float (&scores)[kScores], u32 (&p)[kKeys / 16][4]) {
#pragma unroll
  for (int step = 0; step < kKeys / 16; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) p[step][i] = pack_pair(scores[8 * step + 2 * i], scores[8 * step + 2 * i + 1]);
  }
}

extern "C" __global__ void __launch_bounds__(kThreads, 1)
tenfold_attention(const __grid_constant__ TensorMap map_q, const __grid_constant__ TensorMap map_k, const __grid_constant__ TensorMap map_v, const __grid_constant__ AttentionArguments args) {
  extern __shared__ char memory[];
  const u32 base = (shared_address(memory) + 1023u) & ~1023u;
  const u32 at_q = base, at_k = at_q + kBytesQ, at_v = at_k + kStages * kBytesK, barriers = at_v + kStages * kBytesV;
  const u32 q_full = barriers, k_full = q_full + 8, k_empty = k_full + 8 * kStages, v_full = k_empty + 8 * kStages, v_empty = v_full + 8 * kStages;
  const int warpgroup = __shfl_sync(0xffffffffu, (int)threadIdx.x / 128, 0), thread = threadIdx.x % 128;
  if (threadIdx.x == 0) {
    barrier_init(q_full, 1);
    for (int i = 0; i < kStages; ++i) {
      barrier_init(k_full + 8 * i, 1), barrier_init(k_empty + 8 * i, 4 * kConsumers);
      barrier_init(v_full + 8 * i, 1), barrier_init(v_empty + 8 * i, 4 * kConsumers);
    }
    barrier_init_fence();
  }
  __syncthreads();
  allow_successor();
  // With a causal mask the last queries have most to do, so they begin.
  const int tile_q = kCausal ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
  const int query0 = tile_q * kQueries, head = blockIdx.y, batch = blockIdx.z;
  int visible = args.keys;
  if (kCausal) visible = max(0, min(args.keys, query0 + kQueries + args.keys - args.queries));
  const int tiles = (visible + kKeys - 1) / kKeys;

  if (warpgroup == 0) {
    if (kConsumers == 2) registers_down<40>();
    if (kConsumers == 3) registers_down<32>();
    if (kConsumers == 4) registers_down<24>();
    if (thread == 0 && tiles > 0) {
      wait_for_predecessor();
      const int key_head = head * args.key_heads / args.heads;
      auto load = [&](u32 to, const TensorMap* map, u32 barrier, int box, int row, int which) { load_tile_4d(to, map, barrier, box * 64, row, which, batch); };
      barrier_expect(q_full, kBytesQ);
      for (int box = 0; box < kBoxesK; ++box) load(at_q + box * kQueries * 128, &map_q, q_full, box, query0, head);
      auto load_keys = [&](int tile) {
        const u32 stage = tile % kStages;
        barrier_wait(k_empty + 8 * stage, (tile / kStages & 1) ^ 1);
        barrier_expect(k_full + 8 * stage, kBytesK);
        for (int box = 0; box < kBoxesK; ++box) load(at_k + stage * kBytesK + box * kKeys * 128, &map_k, k_full + 8 * stage, box, tile * kKeys, key_head);
      };
      load_keys(0);
      for (int tile = 0; tile < tiles; ++tile) {
        if (tile + 1 < tiles) load_keys(tile + 1);
        const u32 stage = tile % kStages;
        barrier_wait(v_empty + 8 * stage, (tile / kStages & 1) ^ 1);
        barrier_expect(v_full + 8 * stage, kBytesV);
        for (int box = 0; box < kBoxesV; ++box) load(at_v + stage * kBytesV + box * kKeys * 128, &map_v, v_full + 8 * stage, box, tile * kKeys, key_head);
      }
    }
  } else {
    if (kConsumers == 2) registers_up<232>();
    if (kConsumers == 3) registers_up<160>();
    if (kConsumers == 4) registers_up<112>();
    const int consumer = warpgroup - 1, lane = thread % 32, warp = thread / 32;
    const int row = query0 + consumer * 64 + warp * 16 + lane / 4;
    const u64 q = k_major<128>(at_q + consumer * 64 * 128), k = k_major<128>(at_k), v = mn_major<kKeys * 128>(at_v);
    wait_for_predecessor();
    const Mask* mask = (const Mask*)args.mask + batch * args.mask_batch + head * args.mask_head;
    const float scale = kMasked ? 1.0f : args.scale;
    // A warpgroup's own last tiles, where some keys are behind the end or the diagonal.
    const int first_cut = kCausal ? min(args.keys, query0 + consumer * 64 + 1 + args.keys - args.queries) / kKeys : args.keys / kKeys;
    float results[kResults];
#pragma unroll
    for (int i = 0; i < kResults; ++i) results[i] = 0.0f;
    Running running{{NO_SCORE, NO_SCORE}, {0.0f, 0.0f}};
    if (tiles > 0) {
      float scores[kScores], shrink[2];
      u32 p[kKeys / 16][4];
      barrier_wait(q_full, 0);
      barrier_wait(k_full, 0);
      wgmma_fence();
      multiply_scores(scores, q, k);
      wgmma_commit();
      wgmma_wait<0>();
      pin(scores);
      if (lane == 0) barrier_arrive(k_empty);
      if (kMasked || first_cut <= 0) mask_scores(scores, args, mask, 0, row, lane, first_cut <= 0);
      exponentiate(scores, running, shrink, scale);
      pack_probabilities(scores, p);
      if (tiles > 1) barrier_wait(k_full + 8, 0);
      for (u32 tile = 1; tile < (u32)tiles; ++tile) {
        const u32 stage = tile % kStages, before = stage ^ 1;
        wgmma_fence();
        multiply_scores(scores, q, further(k, stage * kBytesK));
        wgmma_commit();
        barrier_wait(v_full + 8 * before, (tile - 1) / kStages & 1);
        wgmma_fence();
        multiply_values(results, p, further(v, before * kBytesV), tile == 1);
        wgmma_commit();
        wgmma_wait<1>();
        pin(scores);
        if (lane == 0) barrier_arrive(k_empty + 8 * stage);
        if (kMasked || (int)tile >= first_cut) mask_scores(scores, args, mask, tile * kKeys, row, lane, (int)tile >= first_cut);
        exponentiate(scores, running, shrink, scale);
        // The next keys are awaited here because ptxas moves no exponential behind the loop in that wait: it would put
        // them all behind wgmma_wait, and nothing would be exponentiated while values are multiplied.
        pin(scores);
        if (tile + 1 < (u32)tiles) barrier_wait(k_full + 8 * before, (tile + 1) / kStages & 1);
        wgmma_wait<0>();
        pin(results);
        if (lane == 0) barrier_arrive(v_empty + 8 * before);
#pragma unroll
        for (int i = 0; i < kResults; ++i) results[i] *= shrink[i / 2 % 2];
        pack_probabilities(scores, p);
      }
      const u32 last = (tiles - 1) % kStages;
      barrier_wait(v_full + 8 * last, (tiles - 1) / kStages & 1);
      wgmma_fence();
      multiply_values(results, p, further(v, last * kBytesV), tiles == 1);
      wgmma_commit();
      wgmma_wait<0>();
      pin(results);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = running.sum[half];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      const float factor = sum > 0.0f ? 1.0f / sum : 0.0f;  // a query that sees no key gives 0
      const int query = row + 8 * half;
      if (query >= args.queries) continue;
      u16* to = (u16*)args.out + batch * args.out_batch + head * args.out_head + query * args.out_row;
#pragma unroll
      for (int i = 0; i < kResults / 4; ++i) *(u32*)(to + 8 * i + lane % 4 * 2) = pack_pair(results[4 * i + 2 * half] * factor, results[4 * i + 2 * half + 1] * factor);
    }
  }
}
)";

}  // namespace

std::int64_t AttentionSchedule::shared_bytes() const {
  constexpr std::int64_t kRowBytes = 128;
  const std::int64_t q = std::int64_t{boxes(head_size)} * tile_queries() * kRowBytes;
  const std::int64_t k = std::int64_t{boxes(head_size)} * tile_keys * kRowBytes;
  const std::int64_t v = std::int64_t{boxes(value_size)} * tile_keys * kRowBytes;
  return 1024 + q + kStages * (k + v) + 8 * (1 + 4 * kStages);
}

std::optional<std::string> AttentionSchedule::refuses() const {
  if (element != DType::float16 && element != DType::bfloat16) return "only float16 and bfloat16 are supported";
  if (head_size < 8 || head_size > 256 || head_size % 8 != 0)
    return fmt::format("a head size of {} is no multiple of 8 up to 256", head_size);
  if (value_size < 8 || value_size > 256 || value_size % 8 != 0)
    return fmt::format("a value size of {} is no multiple of 8 up to 256", value_size);
  if (tile_keys < 16 || tile_keys > 192 || tile_keys % 16 != 0) return "tiles of 16 to 192 keys, a multiple of 16";
  if (consumers < 1 || consumers > 4) return "1 to 4 warpgroups";
  // Scores in float32, probabilities in 16 bits, results in float32; the rest of the registers for addresses.
  // With more of them ptxas spills, or serialises the products.
  const int registers = tile_keys / 2 + tile_keys / 4 + value_size / 2 + (masked ? 40 : 0);
  if (registers > (consumers <= 2 ? 140 : consumers == 3 ? 100 : 70)) return "too many registers";
  if (masked && mask != DType::float16 && mask != DType::bfloat16 && mask != DType::float32)
    return "the mask's type is not supported";
  if (shared_bytes() > kMaxSharedBytes) return "the tiles do not fit in shared memory";
  return std::nullopt;
}

std::vector<std::int64_t> AttentionSchedule::encode() const {
  return {static_cast<std::int64_t>(element), head_size, value_size, tile_keys, consumers, causal, masked,
          static_cast<std::int64_t>(mask)};
}

AttentionSchedule AttentionSchedule::decode(std::span<const std::int64_t> parameters) {
  bool in_range = parameters.size() == kNumParameters;
  for (const std::int64_t value : parameters) in_range = in_range && 0 <= value && value <= 256;
  require(
      in_range && parameters[0] < kNumDTypes && parameters[5] <= 1 && parameters[6] <= 1 && parameters[7] < kNumDTypes,
      Code::incompatible_engine, "the parameters of an attention kernel are no schedule");
  const auto number = [&](std::size_t i) { return static_cast<int>(parameters[i]); };
  const AttentionSchedule schedule{.element = static_cast<DType>(number(0)),
                                   .head_size = number(1),
                                   .value_size = number(2),
                                   .tile_keys = number(3),
                                   .consumers = number(4),
                                   .causal = number(5) == 1,
                                   .masked = number(6) == 1,
                                   .mask = static_cast<DType>(number(7))};
  const auto refusal = schedule.refuses();
  require(!refusal, Code::incompatible_engine, "the schedule of an attention kernel cannot be built: {}",
          refusal.value_or(""));
  return schedule;
}

std::string attention_text(const AttentionSchedule& schedule) {
  const auto refusal = schedule.refuses();
  ensure(!refusal, "text of an impossible schedule: {}", refusal.value_or(""));
  std::string text(device_prelude());
  text += hopper_prelude();
  text += kAttentionArgumentsText;
  text += fmt::format(
      "constexpr int kHead = {}, kValue = {}, kKeys = {}, kConsumers = {};\n"
      "constexpr bool kCausal = {}, kMasked = {}, kIsBf16 = {};\ntypedef {} Mask;\n",
      schedule.head_size, schedule.value_size, schedule.tile_keys, schedule.consumers, schedule.causal, schedule.masked,
      schedule.element == DType::bfloat16, device_type(schedule.masked ? schedule.mask : schedule.element));
  text += emit_wgmma("ScoreMma", {.element = schedule.element, .n = schedule.tile_keys});
  text += emit_wgmma(
      "ValueMma", {.element = schedule.element, .n = schedule.value_size, .a_in_registers = true, .b_n_major = true});
  text += kText;
  return text;
}

}  // namespace tenfold::cuda
