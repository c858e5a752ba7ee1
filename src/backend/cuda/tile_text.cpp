// A block makes one tile. Its threads copy slices of k, chunks of 16 bytes at swizzled places, several stages ahead;
// every warp multiplies its part of the tile. All elements have the same fragments: a row's 16 bytes by ldmatrix.
#include "backend/cuda/tile_text.hpp"

#include <fmt/format.h>

#include "backend/cuda/pointwise_text.hpp"
#include "base/error.hpp"

namespace tenfold::cuda {
namespace {

constexpr std::string_view kCopies = R"(
constexpr int kThreads = 32 * kWarpsM * kWarpsN, kTileM = kWarpsM * kWarpM, kTileN = kWarpsN * kWarpN;
constexpr int kChunks = kRow / 16, kSlice = kRow / kElementBytes;  // of a row in one slice of k: chunks, elements
constexpr int kStageA = kTileM * kRow, kStage = kStageA + kTileN * kRow;
constexpr int kRowsAtOnce = kThreads / kChunks, kPassesA = kTileM / kRowsAtOnce, kPassesB = kTileN / kRowsAtOnce;
constexpr int kParts = 16 / kVector, kVectorElements = kVector / kElementBytes;
constexpr bool kAsync = kVector >= 4;  // shorter ones pass through registers
constexpr int kGroup = 4 * kUnit;      // columns that four lanes finish together
// Of a transposed b: rows of k with chunks across the columns.
constexpr int kAcross = kTileN * kElementBytes / 16, kRowsAcross = kThreads / kAcross > 0 ? kThreads / kAcross : 1;
typedef Math::Value Sum;

// Eight rows of one chunk column lie in different banks.
TF_FN u32 place(int row, int chunk) { return row * kRow + 16 * (kRow == 128 ? chunk ^ (row & 7) : chunk ^ (row >> 1 & 3)); }
TF_FN u32 place_across(int row, int chunk) { return row * kAcross * 16 + 16 * (chunk ^ (row & 7)); }
TF_FN int divide(int x, int divisor, u32 magic) { return divisor == 1 ? x : (int)__umulhi((u32)x, magic); }

template <int kBytes>
TF_FN void copy_async(u32 to, const char* from, bool valid) {
  if constexpr (kBytes == 16) asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0) : "memory");
  else asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(kBytes), "r"(valid ? kBytes : 0) : "memory");
}
TF_FN void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
TF_FN void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory"); }
TF_FN void store_chunk(u32 to, const u32 (&w)[4]) { asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]) : "memory"); }
TF_FN void add_part(u32 (&words)[4], int part, const char* from, bool valid) {
  u32 bits = 0;
  if (valid) bits = kVector == 1 ? *(const unsigned char*)from : *(const u16*)from;
  words[part * kVector / 4] |= bits << (8 * (part * kVector % 4));
}

// Where a thread finds its chunks of a: column thread % kChunks of rows thread / kChunks + kRowsAtOnce * pass.
struct RowsOfA {
  const char* base;
  int row[kPassesA], h[kPassesA], w[kPassesA];  // an image's row is the pixel at the window's corner
  TF_METHOD RowsOfA(const GemmArguments& args, const TileOperands& from, int m0, int thread) {
    base = (const char*)from.a + (long long)blockIdx.y * from.a_batch * kElementBytes;
#pragma unroll
    for (int pass = 0; pass < kPassesA; ++pass) {
      const int m = m0 + thread / kChunks + kRowsAtOnce * pass;
      row[pass] = m;
      h[pass] = m < args.m ? 0 : -1;
      w[pass] = 0;
      if constexpr (kImage) {
        const int pixels = args.out_h * args.out_w, n = m / pixels, inside = m - n * pixels, p = inside / args.out_w;
        const int y = p * args.stride_h - args.pad_h, x = (inside - p * args.out_w) * args.stride_w - args.pad_w;
        row[pass] = (n * from.in_h + y) * from.in_w + x;
        h[pass] = m < args.m ? y : -(1 << 30);
        w[pass] = x;
      }
    }
  }
  // f(pass, part, address, is inside) for all of the slice at k0.
  template <typename F>
  TF_METHOD void each(const GemmArguments& args, const TileOperands& from, int k0, int thread, F f) const {
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const int k = k0 + (thread % kChunks * kParts + part) * kVectorElements;
      const bool inside = k < from.k;
      if constexpr (kImage) {
        const int tap = divide(k, from.channels, from.channels_magic), channel = k - tap * from.channels;
        const int r = divide(tap, args.kernel_w, from.kernel_w_magic), s = tap - r * args.kernel_w;
        const int dh = r * args.dilation_h, dw = s * args.dilation_w, shift = dh * from.in_w + dw;
#pragma unroll
        for (int pass = 0; pass < kPassesA; ++pass) {
          const bool valid = inside && (u32)(h[pass] + dh) < (u32)from.in_h && (u32)(w[pass] + dw) < (u32)from.in_w;
          f(pass, part, base + ((long long)(row[pass] + shift) * from.a_pitch + channel) * kElementBytes, valid);
        }
      } else {
#pragma unroll
        for (int pass = 0; pass < kPassesA; ++pass) f(pass, part, base + (row[pass] * from.a_pitch + k) * kElementBytes, inside && h[pass] == 0);
      }
    }
  }
};

// The same for a computed b: f(pass, part, address, is inside, place in the stage).
template <typename F>
TF_FN void each_of_b(const TileOperands& from, int n0, int n, int k0, int thread, F f) {
  const char* const base = (const char*)from.b + (long long)blockIdx.y * from.b_batch * kElementBytes;
#pragma unroll
  for (int pass = 0; pass < kPassesB; ++pass) {
    const int row = kColumns == 1 ? thread / kChunks + kRowsAtOnce * pass : thread / kAcross + kRowsAcross * pass;
    const int chunk = kColumns == 1 ? thread % kChunks : thread % kAcross;
    const u32 to = kColumns == 1 ? place(row, chunk) : place_across(row, chunk);
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const int along = (chunk * kParts + part) * kVectorElements;
      const int k = k0 + (kColumns == 1 ? along : row), column = n0 + (kColumns == 1 ? row : along);
      const bool valid = k < from.k && column < n;
      f(pass, part, base + (kColumns == 1 ? column * from.b_pitch + k : k * from.b_pitch + column) * kElementBytes, valid, to);
    }
  }
}

// A slice on its way: async copies are under way at once, short vectors wait in registers until `store`.
struct Slice {
  u32 a[kAsync ? 1 : kPassesA][4], b[kAsync || kColumns == 0 ? 1 : kPassesB][4];
  TF_METHOD void copy_packed_b(const TileOperands& from, int n0, int step, u32 stage, int thread) {
    const char* const base = (const char*)from.b + (long long)blockIdx.y * from.b_batch * kElementBytes;
#pragma unroll
    for (int pass = 0; pass < kPassesB; ++pass) {
      const int row = thread / kChunks + kRowsAtOnce * pass, chunk = thread % kChunks;
      copy_async<16>(stage + kStageA + place(row, chunk), base + ((long long)(n0 + row) * from.steps + step) * kRow + 16 * chunk, true);
    }
  }
  TF_METHOD void fetch(const RowsOfA& rows, const GemmArguments& args, const TileOperands& from, int n0, int step, u32 stage, int thread) {
    if constexpr (kAsync) {
      rows.each(args, from, step * kSlice, thread, [&](int pass, int part, const char* at, bool valid) {
        copy_async<kVector>(stage + place(thread / kChunks + kRowsAtOnce * pass, thread % kChunks) + part * kVector, at, valid);
      });
      if constexpr (kColumns != 0) each_of_b(from, n0, args.n, step * kSlice, thread, [&](int, int part, const char* at, bool valid, u32 to) { copy_async<kVector>(stage + kStageA + to + part * kVector, at, valid); });
    } else {
#pragma unroll
      for (int pass = 0; pass < kPassesA; ++pass) a[pass][0] = a[pass][1] = a[pass][2] = a[pass][3] = 0;
      rows.each(args, from, step * kSlice, thread, [&](int pass, int part, const char* at, bool valid) { add_part(a[pass], part, at, valid); });
      if constexpr (kColumns != 0) {
#pragma unroll
        for (int pass = 0; pass < kPassesB; ++pass) b[pass][0] = b[pass][1] = b[pass][2] = b[pass][3] = 0;
        each_of_b(from, n0, args.n, step * kSlice, thread, [&](int pass, int part, const char* at, bool valid, u32) { add_part(b[pass], part, at, valid); });
      }
    }
  }
  TF_METHOD void store(u32 stage, int thread) const {
    if constexpr (!kAsync) {
#pragma unroll
      for (int pass = 0; pass < kPassesA; ++pass) store_chunk(stage + place(thread / kChunks + kRowsAtOnce * pass, thread % kChunks), a[pass]);
      if constexpr (kColumns != 0) {
#pragma unroll
        for (int pass = 0; pass < kPassesB; ++pass) store_chunk(stage + kStageA + (kColumns == 1 ? place(thread / kChunks + kRowsAtOnce * pass, thread % kChunks) : place_across(thread / kAcross + kRowsAcross * pass, thread % kAcross)), b[pass]);
      }
    }
  }
};
)";

/// Lane -> row r and r + 8 of 16, columns 2 q and 2 q + 1 of 8.
constexpr std::string_view kTensorCores = R"(
TF_FN int lane_r(int lane) { return lane / 4; }
TF_FN int lane_q(int lane) { return lane % 4; }
TF_FN void load_matrices(u32 (&r)[4], u32 address) { asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory"); }
TF_FN void load_transposed(u32 (&r)[4], u32 address) { asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory"); }
TF_FN u32 load_word(u32 address) { u32 w; asm volatile("ld.shared.b32 %0, [%1];" : "=r"(w) : "r"(address) : "memory"); return w; }

// 32 bytes of k of the warp's rows (row0 ...) and columns (column0 ...).
struct Fragments {
  u32 a[kWarpM / 16][4], b[kWarpN / 16][4];
  TF_METHOD void load(u32 stage, int row0, int column0, int k, int lane) {
#pragma unroll
    for (int i = 0; i < kWarpM / 16; ++i) {
      load_matrices(a[i], stage + place(row0 + 16 * i + lane % 16, 2 * k + lane / 16));
      if (kTf32) round(a[i]);
    }
#pragma unroll
    for (int j = 0; j < kWarpN / 16; ++j) {
      if constexpr (kColumns != 2) {
        load_matrices(b[j], stage + kStageA + place(column0 + 16 * j + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
      } else if constexpr (kElementBytes == 2) {
        load_transposed(b[j], stage + kStageA + place_across(16 * k + lane % 16, column0 / 8 + 2 * j + lane / 16));
      } else {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int column = column0 + 16 * j + e / 2 * 8 + lane / 4;
          b[j][e] = load_word(stage + kStageA + place_across(8 * k + e % 2 * 4 + lane % 4, column / 4) + column % 4 * 4);
        }
      }
      if (kTf32 && kColumns != 0) round(b[j]);
    }
  }
  // To nearest: the tensor cores ignore the last 13 bits.
  TF_METHOD static void round(u32 (&r)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) r[i] += 0x1000u;
  }
};
TF_FN void multiply(Sum (&sums)[kWarpM / 16][kWarpN / 8][4], u32 stage, int row0, int column0, int lane) {
  Fragments fragments[2];
  fragments[0].load(stage, row0, column0, 0, lane);
#pragma unroll
  for (int k = 0; k < kRow / 32; ++k) {
    if (k + 1 < kRow / 32) fragments[(k + 1) % 2].load(stage, row0, column0, k + 1, lane);
    const Fragments& now = fragments[k % 2];
#pragma unroll
    for (int i = 0; i < kWarpM / 16; ++i) {
#pragma unroll
      for (int j = 0; j < kWarpN / 8; ++j) Math::run(sums[i][j], now.a[i], now.b[j / 2][2 * (j % 2)], now.b[j / 2][2 * (j % 2) + 1]);
    }
  }
}
)";

/// Neighbouring lanes share columns, the next ones rows: so that loads of 16 bytes of a warp merge.
constexpr std::string_view kOrdinaryCores = R"(
TF_FN int lane_r(int lane) { return lane / 8 * 2 + lane % 2; }
TF_FN int lane_q(int lane) { return lane / 2 % 4; }
TF_FN float4 load_four(u32 address) { float4 v; asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(address) : "memory"); return v; }
TF_FN float load_one(u32 address) { float v; asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(address) : "memory"); return v; }
TF_FN void multiply(Sum (&sums)[kWarpM / 16][kWarpN / 8][4], u32 stage, int row0, int column0, int lane) {
#pragma unroll 1  // unrolled, loads of the next chunks would take the registers
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    float4 a[kWarpM / 8];
#pragma unroll
    for (int i = 0; i < kWarpM / 8; ++i) a[i] = load_four(stage + place(row0 + 8 * i + lane_r(lane), chunk));
#pragma unroll
    for (int j = 0; j < kWarpN / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int column = column0 + 8 * j + 2 * lane_q(lane) + e;
        float4 b;
        if constexpr (kColumns != 2) {
          b = load_four(stage + kStageA + place(column, chunk));
        } else {
          const auto at = [&](int k) { return load_one(stage + kStageA + place_across(4 * chunk + k, column / 4) + column % 4 * 4); };
          b = make_float4(at(0), at(1), at(2), at(3));
        }
#pragma unroll
        for (int i = 0; i < kWarpM / 8; ++i) {
          float& sum = sums[i / 2][j][2 * (i % 2) + e];
          sum = fmaf(a[i].x, b.x, sum);
          sum = fmaf(a[i].y, b.y, sum);
          sum = fmaf(a[i].z, b.z, sum);
          sum = fmaf(a[i].w, b.w, sum);
        }
      }
    }
  }
}
)";

constexpr std::string_view kKernel = R"(
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks) tenfold_tiles(const __grid_constant__ GemmArguments all, const __grid_constant__ TileOperands from) {
  extern __shared__ __align__(128) char memory[];
  const u32 base = shared_address(memory);
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int row0 = warp % kWarpsM * kWarpM, column0 = warp / kWarpsM * kWarpN;
  allow_successor();
  // Tiles in groups of group_m rows of tiles, downwards first, so that what runs at one time shares operands in L2.
  const int group = blockIdx.x / (all.group_m * all.tiles_n), rest = blockIdx.x - group * all.group_m * all.tiles_n;
  const int rows_of_tiles = min(all.group_m, all.tiles_m - group * all.group_m), tile_n = rest / rows_of_tiles;
  const int m0 = (group * all.group_m + rest - tile_n * rows_of_tiles) * kTileM, n0 = tile_n * kTileN;
  const RowsOfA rows(all, from, m0, thread);

  // Weights do not depend on the kernel before: their copies need not wait for it.
  Slice slice;
  if (kColumns == 0) {
#pragma unroll
    for (int step = 0; step < kStages - 1; ++step) {
      if (step < from.steps) slice.copy_packed_b(from, n0, step, base + step * kStage, thread);
    }
  }
  wait_for_predecessor();
#pragma unroll
  for (int step = 0; step < kStages - 1; ++step) {
    if (step < from.steps) {
      slice.fetch(rows, all, from, n0, step, base + step * kStage, thread);
      slice.store(base + step * kStage, thread);
    }
    copy_commit();
  }
  Sum sums[kWarpM / 16][kWarpN / 8][4];
#pragma unroll
  for (int i = 0; i < kWarpM / 16; ++i) {
#pragma unroll
    for (int j = 0; j < kWarpN / 8; ++j) sums[i][j][0] = sums[i][j][1] = sums[i][j][2] = sums[i][j][3] = Sum(0);
  }
  int stage = 0, next_stage = kStages - 1;
  for (int step = 0; step < from.steps; ++step) {
    copy_wait<kStages - 2>();
    __syncthreads();  // the slice is here for all, and the one before has been read by all
    const int next = step + kStages - 1;
    const bool fetches = next < from.steps;
    if (fetches) {
      if (kColumns == 0) slice.copy_packed_b(from, n0, next, base + next_stage * kStage, thread);
      slice.fetch(rows, all, from, n0, next, base + next_stage * kStage, thread);
    }
    copy_commit();
    multiply(sums, base + stage * kStage, row0, column0, lane);
    if (fetches) slice.store(base + next_stage * kStage, thread);
    if (++stage == kStages) stage = 0;
    if (++next_stage == kStages) next_stage = 0;
  }

  GemmArguments args = all;
  long long first_row = 0;
  int first_column = n0 + column0;
  if (kImage) {  // a group's columns: a unit must not reach into the next one
    const int before = blockIdx.y * from.columns;
    args.bias = all.bias + (blockIdx.y * from.padded_columns - before);
    args.n = before + from.columns;
    first_column += before;
  } else {
    first_row = (long long)blockIdx.y * all.m;
  }
#pragma unroll
  for (int group = 0; group < kWarpN / kGroup; ++group) {
    const int channel = first_column + group * kGroup + kUnit * lane_q(lane);
    if (channel >= args.n) continue;
    ChannelValues columns;
    load_channels(args, channel, columns);
#pragma unroll
    for (int i = 0; i < kWarpM / 16; ++i) {
      const int row = m0 + row0 + 16 * i + lane_r(lane);
      RowValues values[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (row + 8 * half < all.m) load_rows(args, first_row + row + 8 * half, channel, nullptr, values[half]);
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float v[kUnit];
#pragma unroll
        for (int e = 0; e < kUnit; ++e) v[e] = (float)sums[i][kUnit / 2 * group + e / 2][2 * half + e % 2];
        if (row + 8 * half < all.m) finish(v, v, columns, values[half], args, first_row + row + 8 * half, channel);
      }
    }
  }
}
)";

/// `Math`: the type of sums and, on tensor cores, one product of 16 rows by 8 columns by 32 bytes of k.
std::string math_text(const TileSchedule& schedule) {
  if (schedule.is_exact()) return "struct Math { typedef float Value; };\n";
  struct Words {
    std::string_view shape, types, value, letter;
  };
  const auto words = [&]() -> Words {
    switch (schedule.element) {
      case DType::float16:
        return {"m16n8k16", "f32.f16.f16.f32", "float", "f"};
      case DType::bfloat16:
        return {"m16n8k16", "f32.bf16.bf16.f32", "float", "f"};
      case DType::float32:
        return {"m16n8k8", "f32.tf32.tf32.f32", "float", "f"};
      case DType::float8e4m3:
        return {"m16n8k32", "f32.e4m3.e4m3.f32", "float", "f"};
      case DType::int8:
        return {"m16n8k32", "s32.s8.s8.s32", "int", "r"};
      default:
        return {"m16n8k32", "s32.u8.s8.s32", "int", "r"};
    }
  }();
  return fmt::format(R"(struct Math {{
  typedef {0} Value;
  TF_METHOD static void run({0} (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {{
    asm("mma.sync.aligned.{1}.row.col.{2} {{%0, %1, %2, %3}}, {{%4, %5, %6, %7}}, {{%8, %9}}, {{%0, %1, %2, %3}};"
      : "+{3}"(d[0]), "+{3}"(d[1]), "+{3}"(d[2]), "+{3}"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }}
}};
)",
                     words.value, words.shape, words.types, words.letter);
}

/// Blocks on one multiprocessor that registers are to allow: more hide the copies of a small one, fewer leave large
/// ones their accumulators. Hopper's mma.sync multiplies float8 as float16, which takes twice the registers.
int blocks_of(const TileSchedule& schedule) {
  constexpr int kThreadsOfLarge = 256, kAccumulatorsOfLarge = 64;
  if (schedule.accumulators() > kAccumulatorsOfLarge) return 1;
  const int fewer = schedule.element == DType::float8e4m3 ? 1 : 0;
  const int blocks = (schedule.threads() >= kThreadsOfLarge ? 2 : 3) - fewer;
  // What a thread holds beside addresses and fragments: its sums, and chunks of a that are too short for async copies.
  constexpr int kShortestAsync = 4, kChunkBytes = 16, kRegisters = 65536, kOthers = 64;
  const int chunks = schedule.tile_m() * schedule.row_bytes / kChunkBytes / schedule.threads();
  const int waiting = schedule.vector_bytes < kShortestAsync ? chunks * kChunkBytes / 4 : 0;
  const bool spills = schedule.accumulators() + waiting + kOthers > kRegisters / (blocks * schedule.threads());
  return spills && blocks > 1 ? blocks - 1 : blocks;
}

}  // namespace

std::string tile_text(const TileSchedule& schedule, const EpilogueSpec& epilogue) {
  const auto refusal = schedule.refuses();
  ensure(!refusal, "text of an impossible schedule: {}", refusal.value_or(""));
  std::string text(device_prelude());
  text += hopper_prelude();
  text += kGemmArgumentsText;
  text += kTileOperandsText;
  text += fmt::format(
      "constexpr bool kImage = {};\n"
      "constexpr int kColumns = {}, kWarpsM = {}, kWarpsN = {}, kWarpM = {}, kWarpN = {}, kRow = {}, kStages = {};\n"
      "constexpr int kVector = {}, kElementBytes = {}, kBlocks = {};\n",
      schedule.rows == RowSource::image, static_cast<int>(schedule.columns), schedule.warps_m, schedule.warps_n,
      schedule.warp_m, schedule.warp_n, schedule.row_bytes, schedule.stages, schedule.vector_bytes,
      schedule.element_bytes(), blocks_of(schedule));
  text += math_text(schedule);
  text += emit_epilogue(epilogue, schedule.output, schedule.unit(), false);
  text += kCopies;
  if (schedule.is_exact()) {
    text += kOrdinaryCores;
  } else {
    text += fmt::format("constexpr bool kTf32 = {};\n", schedule.tf32);
    text += kTensorCores;
  }
  text += kKernel;
  return text;
}

}  // namespace tenfold::cuda
