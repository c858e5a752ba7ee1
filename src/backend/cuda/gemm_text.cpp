// The persistent kernel: as many blocks as multiprocessors, each walks over tiles. One thread of warpgroup 0 loads; the
// others multiply. Stages change hands through two mbarriers each: `full` when the bytes have arrived, `empty` when
// every consumer warp has read them.
#include "backend/cuda/gemm_text.hpp"

#include <fmt/format.h>

#include "backend/cuda/pointwise_text.hpp"
#include "base/error.hpp"

namespace tenfold::cuda {
namespace {

/// What both kernels share: loading one stage, multiplying it, finishing an accumulator block.
constexpr std::string_view kCommon = R"(
constexpr int kThreads = (kConsumers + 1) * 128;
constexpr int kTileM = (kPingPong ? 1 : kConsumers) * kBlocksM * 64;
constexpr int kBytesA = kTileM * kRow, kBytesB = kTileN * kRow;
constexpr int kRowElements = kRow / kElementBytes;
constexpr int kGroup = 4 * kUnit;       // columns that four lanes finish together
constexpr int kGroups = kTileN / kGroup;
constexpr int kHalves = kGated ? 2 : 1;  // neighbouring groups of sums that meet in one group of results
typedef Mma::Value Sum;

// One load of A: rows m0 .. m0 + kTileM - 1, k from `load` * kRowElements.
struct RowPosition { int m0, n, h, w, batch; };
TF_FN RowPosition row_position(const GemmArguments& args, int m0, int batch) {
  RowPosition at{m0, 0, 0, 0, args.a_batched ? batch : 0};
  if (kRows == 1) {
    const int pixels = args.out_h * args.out_w;
    at.n = m0 / pixels;
    const int inside = m0 - at.n * pixels, p = inside / args.out_w;
    at.h = p * args.stride_h - args.pad_h;
    at.w = (inside - p * args.out_w) * args.stride_w - args.pad_w;
  }
  return at;
}
struct Tap { int channel_load, s, r; };
TF_FN void load_a(u32 to, const TensorMap* map, u32 barrier, const GemmArguments& args, const RowPosition& at, int load, Tap& tap) {
  if constexpr (kRows == 1) {
    load_im2col(to, map, barrier, tap.channel_load * kRowElements, at.w, at.h, at.n, (u16)(tap.s * args.dilation_w), (u16)(tap.r * args.dilation_h));
    if (++tap.channel_load == args.channel_loads) {
      tap.channel_load = 0;
      if (++tap.s == args.kernel_w) tap.s = 0, ++tap.r;
    }
  } else if constexpr (kRows == 0) {
    load_tile_3d(to, map, barrier, load * kRowElements, at.m0, at.batch);
  } else {
#pragma unroll
    for (int block = 0; block < kTileM / 64; ++block) load_tile_3d(to + block * 64 * kRow, map, barrier, at.m0 + 64 * block, load * kRowElements, at.batch);
  }
}
TF_FN void load_b(u32 to, const TensorMap* map, u32 barrier, int load, int n0, int batch) {
  if constexpr (kColumns == 0) {
    load_tile_2d(to, map, barrier, load * kRowElements, n0);
  } else if constexpr (kColumns == 1) {
    load_tile_3d(to, map, barrier, load * kRowElements, n0, batch);
  } else {
#pragma unroll
    for (int block = 0; block < kTileN / 64; ++block) load_tile_3d(to + block * 64 * kRow, map, barrier, n0 + 64 * block, load * kRowElements, batch);
  }
}

// Adds the product of one load: 64 * kBlocksM rows from `a`, all columns of `b`.
TF_FN void multiply(Sum (&sums)[kBlocksM][kTileN / 2], u32 a, u32 b, bool first) {
#pragma unroll
  for (int k = 0; k < kRow / 32; ++k) {
#pragma unroll
    for (int block = 0; block < kBlocksM; ++block) {
      u64 da, db;
      if constexpr (kRows == 2) da = mn_major<64 * kRow>(a + block * 64 * kRow + k * 2048);
      else da = k_major<kRow>(a + block * 64 * kRow) + 2 * k;
      if constexpr (kColumns == 2) db = mn_major<64 * kRow>(b + k * 2048);
      else db = k_major<kRow>(b) + 2 * k;
      Mma::run(sums[block], da, db, !(first && k == 0));
    }
  }
}

// The results of one thread: rows row0 and row0 + 8 of a block of 64, for each group the columns unit * (lane % 4) ...
TF_FN void gather_unit(const Sum (&sums)[kTileN / 2], int group, int half, float (&v)[kUnit]) {
#pragma unroll
  for (int i = 0; i < kUnit; ++i) v[i] = (float)sums[4 * (kUnit / 2 * group + i / 2) + 2 * half + i % 2];
}
)";

constexpr std::string_view kPersistent = R"(
extern "C" __global__ void __launch_bounds__(kThreads, 1)
tenfold_gemm(const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b, const __grid_constant__ TensorMap map_residual, const __grid_constant__ GemmArguments args) {
  constexpr int kStageA = kLoads * kBytesA, kStageB = kResident ? 0 : kLoads * kBytesB;
  constexpr int kResidualBytes = kTileM * kTileN * (int)sizeof(Out);
  constexpr int kResiduals = kStagedResiduals > 0 ? kStagedResiduals : 1;
  constexpr int kReaders = 4 * (kPingPong ? 1 : kConsumers);  // warps that read a stage
  extern __shared__ char memory[];
  const u32 base = (shared_address(memory) + 1023u) & ~1023u;
  const int loads_k = args.steps_k * kLoads;
  const u32 resident = base;
  const u32 stage_a = base + (kResident ? loads_k * kBytesB : 0), stage_b = stage_a + kStages * kStageA;
  const u32 residual = stage_b + kStages * kStageB;
  const u32 full = residual + kStagedResiduals * kResidualBytes, empty = full + 8 * kStages;
  const u32 residual_full = empty + 8 * kStages, residual_empty = residual_full + 8 * kStagedResiduals;
  const u32 resident_full = residual_empty + 8 * kStagedResiduals;
  const int warpgroup = __shfl_sync(0xffffffffu, (int)threadIdx.x / 128, 0), thread = threadIdx.x % 128;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) barrier_init(full + 8 * i, 1), barrier_init(empty + 8 * i, kReaders);
    for (int i = 0; i < kStagedResiduals; ++i) barrier_init(residual_full + 8 * i, 1), barrier_init(residual_empty + 8 * i, kReaders);
    barrier_init(resident_full, 1);
    barrier_init_fence();
  }
  __syncthreads();
  allow_successor();

  // Tiles in groups of group_m rows of tiles, downwards first, so that what runs at one time shares operands in L2.
  // With resident weights the block keeps its column of tiles.
  const int per_batch = args.tiles_m * args.tiles_n;
  const int num_tiles = kResident ? args.tiles_m : per_batch * args.batches;
  const int first_tile = kResident ? blockIdx.x / args.tiles_n : blockIdx.x;
  const int tile_step = kResident ? gridDim.x / args.tiles_n : gridDim.x;
  struct Tile { int m, n, batch; };
  auto tile_at = [&](int index) {
    if (kResident) return Tile{index, (int)blockIdx.x % args.tiles_n, 0};
    const int batch = args.batches == 1 ? 0 : index / per_batch;
    const int inside = index - batch * per_batch;
    const int group = inside / (args.group_m * args.tiles_n), rest = inside - group * args.group_m * args.tiles_n;
    const int rows = min(args.group_m, args.tiles_m - group * args.group_m);
    const int n = rest / rows;
    return Tile{group * args.group_m + rest - n * rows, n, batch};
  };

  if (warpgroup == 0) {
    if (kConsumers == 2) registers_down<40>();
    if (kConsumers == 3) registers_down<32>();
    if (kConsumers == 4) registers_down<24>();
    if (thread == 0) {
      // Weights do not depend on the kernel before: their loads need not wait for it.
      int loaded_ahead = 0;
      if (kResident) {
        barrier_expect(resident_full, loads_k * kBytesB);
        for (int load = 0; load < loads_k; ++load) load_b(resident + load * kBytesB, &map_b, resident_full, load, (int)blockIdx.x % args.tiles_n * kTileN, 0);
      } else if (kColumns == 0 && first_tile < num_tiles) {
        const Tile tile = tile_at(first_tile);
        loaded_ahead = min(kStages, args.steps_k);
        for (int step = 0; step < loaded_ahead; ++step) {
          barrier_expect(full + 8 * step, kStageA + kStageB);
#pragma unroll
          for (int i = 0; i < kLoads; ++i) load_b(stage_b + step * kStageB + i * kBytesB, &map_b, full + 8 * step, step * kLoads + i, tile.n * kTileN, 0);
        }
      }
      wait_for_predecessor();
      u32 stage = 0, parity = 1, slot = 0, slot_parity = 1;
      for (int index = first_tile; index < num_tiles; index += tile_step) {
        const Tile tile = tile_at(index);
        const RowPosition at = row_position(args, tile.m * kTileM, tile.batch);
        if (kStagedResiduals > 0) {
          barrier_wait(residual_empty + 8 * slot, slot_parity);
          barrier_expect(residual_full + 8 * slot, kResidualBytes);
          for (int group = 0; group < kGroups; ++group) load_tile_2d(residual + slot * kResidualBytes + group * kTileM * 64, &map_residual, residual_full + 8 * slot, tile.n * kTileN + group * kGroup, at.m0);
          if (++slot == kResiduals) slot = 0, slot_parity ^= 1;
        }
        Tap tap{0, 0, 0};
        for (int step = 0; step < args.steps_k; ++step) {
          const u32 barrier = full + 8 * stage;
          const bool ahead = loaded_ahead > 0;
          // Where nothing was loaded before, the wait is over at once. Under a condition it would make ptxas overlook
          // that the consumers have more registers than the launch gave them, and spill in their epilogue.
          barrier_wait(empty + 8 * stage, parity);
          if (ahead) --loaded_ahead;
          else barrier_expect(barrier, kStageA + kStageB);
#pragma unroll
          for (int i = 0; i < kLoads; ++i) {
            load_a(stage_a + stage * kStageA + i * kBytesA, &map_a, barrier, args, at, step * kLoads + i, tap);
            if (!kResident && !ahead) load_b(stage_b + stage * kStageB + i * kBytesB, &map_b, barrier, step * kLoads + i, tile.n * kTileN, args.b_batched ? tile.batch : 0);
          }
          if (++stage == kStages) stage = 0, parity ^= 1;
        }
      }
    }
  } else {
    if (kConsumers == 2) registers_up<232>();
    if (kConsumers == 3) registers_up<160>();
    if (kConsumers == 4) registers_up<112>();
    const int consumer = warpgroup - 1, lane = thread % 32, warp = thread / 32;
    const int block0 = (kPingPong ? 0 : consumer) * kBlocksM;  // its first block of 64 rows in the tile
    if (kResident) barrier_wait(resident_full, 0);
    wait_for_predecessor();
    Sum sums[kBlocksM][kTileN / 2];
    int steps_done = kPingPong ? consumer * args.steps_k : 0;
    u32 stage = steps_done % kStages, parity = (steps_done / kStages) & 1, slot = kPingPong ? consumer : 0;
    // Taking turns is needed for correctness too: a parity wait may run only one phase ahead, so a warpgroup must not
    // wait for its stages before its predecessor has drained its own. Named barrier 1 + w lets warpgroup w in.
    if (kPingPong && consumer == kConsumers - 1) named_arrive<256>(1);
    for (int index = kPingPong ? first_tile + consumer * tile_step : first_tile; index < num_tiles; index += (kPingPong ? kConsumers : 1) * tile_step) {
      const Tile tile = tile_at(index);
      if (kPingPong) named_sync<256>(1 + consumer);
      u32 previous = 0;
      for (int step = 0; step < args.steps_k; ++step) {
        barrier_wait(full + 8 * stage, parity);
        wgmma_fence();  // in the loop: with one fence before it ptxas serialises the products (C7520)
#pragma unroll
        for (int i = 0; i < kLoads; ++i) {
          const u32 b = kResident ? resident + (step * kLoads + i) * kBytesB : stage_b + stage * kStageB + i * kBytesB;
          multiply(sums, stage_a + stage * kStageA + i * kBytesA + block0 * 64 * kRow, b, step == 0 && i == 0);
        }
        wgmma_commit();
        if (step > 0) {  // one step stays in flight
          wgmma_wait<1>();
          if (lane == 0) barrier_arrive(empty + 8 * previous);
        }
        previous = stage;
        if (++stage == kStages) stage = 0, parity ^= 1;
      }
      if (kPingPong) named_arrive<256>(1 + (consumer + 1 == kConsumers ? 0 : consumer + 1));
      wgmma_wait<0>();
#pragma unroll
      for (int block = 0; block < kBlocksM; ++block) pin(sums[block]);
      if (lane == 0) barrier_arrive(empty + 8 * previous);
      if (kStagedResiduals > 0) barrier_wait(residual_full + 8 * (slot % kResiduals), (slot / kResiduals) & 1);
#pragma unroll
      for (int block = 0; block < kBlocksM; ++block) {
        const int row0 = (block0 + block) * 64 + warp * 16 + lane / 4;
        const int m0 = tile.m * kTileM + row0;
        const long long first_row = (long long)tile.batch * args.m + m0;
        constexpr int kAtOnce = kGroups % 2 == 0 ? 2 : 1;
        auto channel_of = [&](int group) { return tile.n * (kTileN / kHalves) + group / kHalves * kGroup + kUnit * (lane % 4); };
#pragma unroll
        for (int group0 = 0; group0 < kGroups; group0 += kAtOnce) {
          RowValues rows[kAtOnce][2];
#pragma unroll
          for (int i = 0; i < kAtOnce; i += kHalves) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              const int channel = channel_of(group0 + i);
              const char* staged = memory + (residual - shared_address(memory)) + (slot % kResiduals) * kResidualBytes + ((group0 + i) * kTileM + row0 + 8 * half) * 64 + 16 * (lane % 4);
              if (m0 + 8 * half < args.m && channel < args.n) load_rows(args, first_row + 8 * half, channel, staged, rows[i][half]);
            }
          }
#pragma unroll
          for (int i = 0; i < kAtOnce; i += kHalves) {
            const int channel = channel_of(group0 + i);
            ChannelValues columns;
            load_channels(args, channel, columns);
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              float v[kUnit], gate[kUnit];
              gather_unit(sums[block], group0 + i, half, v);
              gather_unit(sums[block], group0 + i + kHalves - 1, half, gate);
              if (m0 + 8 * half < args.m && channel < args.n) finish(v, gate, columns, rows[i][half], args, first_row + 8 * half, channel);
            }
          }
        }
      }
      if (kStagedResiduals > 0) {
        __syncwarp();
        if (lane == 0) barrier_arrive(residual_empty + 8 * (slot % kResiduals));
      }
      slot += kPingPong ? kConsumers : 1;
      if (kPingPong) {
        steps_done += kConsumers * args.steps_k;
        stage = steps_done % kStages, parity = (steps_done / kStages) & 1;
      }
    }
  }
}
)";

}  // namespace

std::string_view detail::persistent_gemm_text() { return kPersistent; }

std::string gemm_text(const GemmSchedule& schedule, const EpilogueSpec& epilogue) {
  const auto refusal = schedule.refuses();
  ensure(!refusal, "text of an impossible schedule: {}", refusal.value_or(""));
  std::string text(device_prelude());
  text += hopper_prelude();
  text += kGemmArgumentsText;
  text += fmt::format(
      "constexpr int kRows = {}, kColumns = {}, kConsumers = {}, kBlocksM = {}, kTileN = {}, kRow = {}, kLoads = {};\n"
      "constexpr int kStages = {}, kStagedResiduals = {}, kSplit = {}, kElementBytes = {};\n"
      "constexpr bool kResident = {}, kPingPong = {}, kGated = {};\n",
      static_cast<int>(schedule.rows), static_cast<int>(schedule.columns), schedule.consumers, schedule.blocks_m,
      schedule.tile_n, schedule.row_bytes, schedule.loads_per_stage, schedule.stages, schedule.staged_residuals,
      std::max(schedule.split_k, 1), schedule.element_bytes(), schedule.resident, schedule.ping_pong, schedule.gated);
  text += emit_wgmma("Mma", {.element = schedule.element,
                             .n = schedule.tile_n,
                             .a_m_major = schedule.rows == RowSource::transposed,
                             .b_n_major = schedule.columns == ColumnSource::transposed});
  text += emit_epilogue(epilogue, schedule.output, schedule.unit(), schedule.staged_residuals > 0);
  text += kCommon;
  text += schedule.split_k > 0 ? detail::split_gemm_text() : detail::persistent_gemm_text();
  return text;
}

}  // namespace tenfold::cuda
