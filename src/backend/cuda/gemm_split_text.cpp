// The kernel for small products, where the weights' way from memory is the work: the blocks of a cluster each multiply
// a part of k of one tile, then each finishes a part of the tile from the partial sums in its peers' shared memory.
// The order of additions is fixed, so results do not vary from run to run.
#include "backend/cuda/gemm_text.hpp"

namespace tenfold::cuda {
namespace {

constexpr std::string_view kText = R"(
extern "C" __global__ void __launch_bounds__(kThreads, 1)
tenfold_gemm(const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b, const __grid_constant__ TensorMap map_residual, const __grid_constant__ GemmArguments args) {
  constexpr int kStageA = kLoads * kBytesA, kStageB = kLoads * kBytesB;
  constexpr int kConsumerThreads = kConsumers * 128;
  constexpr int kUnits = kBlocksM * kGroups * 2;  // of each thread
  constexpr int kTiles = kStages * (kStageA + kStageB), kPartial = kTileM * kTileN * 4;
  extern __shared__ char memory[];
  const u32 base = (shared_address(memory) + 1023u) & ~1023u;
  const u32 stage_a = base, stage_b = base + kStages * kStageA;
  const u32 full = base + (kTiles > kPartial ? kTiles : kPartial), empty = full + 8 * kStages;
  const int warpgroup = __shfl_sync(0xffffffffu, (int)threadIdx.x / 128, 0), thread = threadIdx.x % 128;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) barrier_init(full + 8 * i, 1), barrier_init(empty + 8 * i, 4 * kConsumers);
    barrier_init_fence();
  }
  __syncthreads();
  allow_successor();
  const int rank = kSplit > 1 ? (int)cluster_rank() : 0, index = blockIdx.x / kSplit;
  const int tile_m = index % args.tiles_m, tile_n = index / args.tiles_m;
  const int first = rank * args.steps_k / kSplit, steps = (rank + 1) * args.steps_k / kSplit - first;

  if (warpgroup == 0) {
    if (thread == 0) {
      const int ahead = min(kStages, steps);
      for (int step = 0; step < ahead; ++step) {
        barrier_expect(full + 8 * step, kStageA + kStageB);
#pragma unroll
        for (int i = 0; i < kLoads; ++i) load_b(stage_b + step * kStageB + i * kBytesB, &map_b, full + 8 * step, (first + step) * kLoads + i, tile_n * kTileN, 0);
      }
      wait_for_predecessor();
      const RowPosition at = row_position(args, tile_m * kTileM, 0);
      Tap tap{0, 0, 0};
      if (kRows == 1) {
        const int load = first * kLoads, position = load / args.channel_loads;
        tap = Tap{load % args.channel_loads, position % args.kernel_w, position / args.kernel_w};
      }
      u32 stage = 0, parity = 1;
      for (int step = 0; step < steps; ++step) {
        const u32 barrier = full + 8 * stage;
        if (step >= ahead) {
          barrier_wait(empty + 8 * stage, parity);
          barrier_expect(barrier, kStageA + kStageB);
        }
#pragma unroll
        for (int i = 0; i < kLoads; ++i) {
          const int load = (first + step) * kLoads + i;
          load_a(stage_a + stage * kStageA + i * kBytesA, &map_a, barrier, args, at, load, tap);
          if (step >= ahead) load_b(stage_b + stage * kStageB + i * kBytesB, &map_b, barrier, load, tile_n * kTileN, 0);
        }
        if (++stage == kStages) stage = 0, parity ^= 1;
      }
    }
    __syncwarp();
  } else {
    const int consumer = warpgroup - 1, lane = thread % 32;
    Sum sums[kBlocksM][kTileN / 2];
    u32 stage = 0, parity = 0, previous = 0;
    for (int step = 0; step < steps; ++step) {
      barrier_wait(full + 8 * stage, parity);
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < kLoads; ++i) multiply(sums, stage_a + stage * kStageA + i * kBytesA + consumer * kBlocksM * 64 * kRow, stage_b + stage * kStageB + i * kBytesB, step == 0 && i == 0);
      wgmma_commit();
      if (step > 0) {
        wgmma_wait<1>();
        if (lane == 0) barrier_arrive(empty + 8 * previous);
      }
      previous = stage;
      if (++stage == kStages) stage = 0, parity ^= 1;
    }
    wgmma_wait<0>();
#pragma unroll
    for (int block = 0; block < kBlocksM; ++block) pin(sums[block]);
    // The stages are read by nobody any more once every consumer is here; partial sums take their place.
    named_sync<kConsumerThreads>(1);
#pragma unroll
    for (int block = 0; block < kBlocksM; ++block) {
#pragma unroll
      for (int unit = 0; unit < kGroups * 2; ++unit) {
        float v[kUnit];
        gather_unit(sums[block], unit / 2, unit % 2, v);
#pragma unroll
        for (int i = 0; i < kUnit; i += 4) {
          char* to = memory + (base - shared_address(memory)) + (((block * kGroups * 2 + unit) * (kUnit / 4) + i / 4) * kConsumerThreads + consumer * 128 + thread) * 16;
          *(float4*)to = steps > 0 ? make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        }
      }
    }
  }
  __syncwarp();
  if (kSplit > 1) cluster_sync();
  else __syncthreads();
  if (warpgroup != 0) {
    wait_for_predecessor();
    const int consumer = warpgroup - 1, lane = thread % 32, warp = thread / 32;
#pragma unroll 1
    for (int unit = rank; unit < kUnits; unit += kSplit) {
      const int block = unit / (kGroups * 2), group = unit / 2 % kGroups, half = unit % 2;
      const int row = tile_m * kTileM + (consumer * kBlocksM + block) * 64 + warp * 16 + lane / 4 + 8 * half;
      const int channel = tile_n * kTileN + group * kGroup + kUnit * (lane % 4);
      const bool wanted = row < args.m && channel < args.n;
      RowValues rows;
      if (wanted) load_rows(args, row, channel, nullptr, rows);
      float v[kUnit];
#pragma unroll
      for (int i = 0; i < kUnit; ++i) v[i] = 0.0f;
#pragma unroll
      for (int peer = 0; peer < kSplit; ++peer) {
#pragma unroll
        for (int i = 0; i < kUnit; i += 4) {
          const u32 from = base + ((unit * (kUnit / 4) + i / 4) * kConsumerThreads + consumer * 128 + thread) * 16;
          const float4 part = load_from_peer(from, peer);
          v[i] += part.x, v[i + 1] += part.y, v[i + 2] += part.z, v[i + 3] += part.w;
        }
      }
      ChannelValues columns;
      load_channels(args, channel, columns);
      if (wanted) finish(v, v, columns, rows, args, row, channel);
    }
  }
  __syncwarp();
  if (kSplit > 1) cluster_sync();  // nobody leaves while a peer still reads its sums
}
)";

}  // namespace

std::string_view detail::split_gemm_text() { return kText; }

}  // namespace tenfold::cuda
