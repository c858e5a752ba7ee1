// Text of barriers, TMA and wgmma. What each function needs is in the PTX ISA; what surprised us stands beside it.
#include "backend/cuda/hopper_text.hpp"

#include <fmt/format.h>

#include "base/error.hpp"

namespace tenfold::cuda {
namespace {

constexpr std::string_view kPrelude = R"(
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;
struct alignas(64) TensorMap { u64 opaque[16]; };

TF_FN u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// --- mbarrier
TF_FN void barrier_init(u32 barrier, u32 count) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory"); }
TF_FN void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
TF_FN void barrier_expect(u32 barrier, u32 bytes) { asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory"); }
TF_FN void barrier_arrive(u32 barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory"); }
TF_FN bool barrier_try(u32 barrier, u32 parity) {
  u32 done;
  asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}" : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
  return done;
}
// A parity wait may run only one phase ahead of the barrier. A broken protocol traps after some seconds, so that it
// cannot hang the device.
TF_FN void barrier_wait(u32 barrier, u32 parity) {
  if (barrier_try(barrier, parity)) return;
  const long long start = clock64();
  while (!barrier_try(barrier, parity)) {
    if (clock64() - start > 20000000000LL) __trap();
  }
}

// --- TMA: global memory to shared memory, completing on a barrier
TF_FN void load_tile_2d(u32 to, const TensorMap* map, u32 barrier, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(to), "l"(map), "r"(barrier), "r"(x), "r"(y) : "memory");
}
TF_FN void load_tile_3d(u32 to, const TensorMap* map, u32 barrier, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to), "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z) : "memory");
}
TF_FN void load_tile_4d(u32 to, const TensorMap* map, u32 barrier, int x, int y, int z, int w) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to), "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
}
TF_FN void load_im2col(u32 to, const TensorMap* map, u32 barrier, int c, int w, int h, int n, u16 offset_w, u16 offset_h) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};" ::"r"(to), "l"(map), "r"(barrier), "r"(c), "r"(w), "r"(h), "r"(n), "h"(offset_w), "h"(offset_h) : "memory");
}
// --- and back: what threads wrote must be behind shared_written(). The bytes may be overwritten behind the wait.
TF_FN void shared_written() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
TF_FN void store_tile_2d(const TensorMap* map, u32 from, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map), "r"(from), "r"(x), "r"(y) : "memory");
}
TF_FN void stores_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
TF_FN void stores_wait_read() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }

// --- wgmma
// Descriptor of an operand with K contiguous: rows of kRow bytes, which is the swizzle span too (128, 64 or 32); groups
// of 8 rows follow each other. A start at any row is allowed, with base offset 0.
template <int kRow>
TF_FN u64 k_major(u32 address) {
  return (u64)((address & 0x3ffffu) >> 4) | ((u64)1 << 16) | ((u64)(8 * kRow / 16) << 32) | ((u64)(kRow == 128 ? 1 : kRow == 64 ? 2 : 3) << 62);
}
// Descriptor of an operand with M or N contiguous, in blocks of 64 elements by any number of k, kBlock bytes apart.
template <int kBlock>
TF_FN u64 mn_major(u32 address) {
  return (u64)((address & 0x3ffffu) >> 4) | ((u64)(kBlock / 16) << 16) | ((u64)(1024 / 16) << 32) | ((u64)1 << 62);
}
TF_FN void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
TF_FN void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
TF_FN void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory"); }
// Accumulators may be read only behind the wait; this keeps the compiler from moving the reading in front of it.
template <int kCount>
TF_FN void pin(float (&sums)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}
template <int kCount>
TF_FN void pin(int (&sums)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(sums[i])::"memory");
}
template <int kRegisters>
TF_FN void registers_down() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters)); }
template <int kRegisters>
TF_FN void registers_up() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters)); }

// --- order between threads, blocks and kernels
template <int kThreads>
TF_FN void named_sync(int id) { asm volatile("bar.sync %0, %1;" ::"r"(id), "n"(kThreads) : "memory"); }
template <int kThreads>
TF_FN void named_arrive(int id) { asm volatile("bar.arrive %0, %1;" ::"r"(id), "n"(kThreads) : "memory"); }
TF_FN void cluster_sync() { asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory"); }
TF_FN u32 cluster_rank() { u32 rank; asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank)); return rank; }
TF_FN float4 load_from_peer(u32 address, u32 rank) {
  float4 v;
  asm volatile("{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %4, %5;\nld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [remote];\n}" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(address), "r"(rank) : "memory");
  return v;
}
// What the kernel before wrote may be read, and what it read may be overwritten, only behind this.
#if __CUDA_ARCH__ >= 900
TF_FN void wait_for_predecessor() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
TF_FN void allow_successor() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
#else
TF_FN void wait_for_predecessor() {}
TF_FN void allow_successor() {}
#endif
)";

}  // namespace

std::string_view hopper_prelude() { return kPrelude; }

std::string emit_wgmma(std::string_view name, const WgmmaKind& kind) {
  struct Words {
    std::string_view types, accumulator, value;
    int k;
    bool scales;  // has the operands' sign immediates
  };
  const auto words = [&]() -> Words {
    switch (kind.element) {
      case DType::float16:
        return {"f32.f16.f16", "f", "float", 16, true};
      case DType::bfloat16:
        return {"f32.bf16.bf16", "f", "float", 16, true};
      case DType::float32:
        return {"f32.tf32.tf32", "f", "float", 8, true};
      case DType::float8e4m3:
        return {"f32.e4m3.e4m3", "f", "float", 32, true};
      case DType::int8:
        return {"s32.s8.s8", "r", "int", 32, false};
      case DType::uint8:
        return {"s32.u8.s8", "r", "int", 32, false};
      default:
        break;
    }
    throw Error(Code::internal, fmt::format("no wgmma for {}", to_string(kind.element)));
  }();
  const bool is_half = kind.element == DType::float16 || kind.element == DType::bfloat16;
  ensure(kind.n % 8 == 0 && 8 <= kind.n && kind.n <= 256, "no wgmma with n = {}", kind.n);
  ensure(is_half || (!kind.a_m_major && !kind.b_n_major), "only 16-bit wgmma can read transposed operands");
  const int count = kind.n / 2;
  std::string registers, operands;
  for (int i = 0; i < count; ++i) {
    registers += fmt::format("{}%{}", i == 0 ? "" : ", ", i);
    operands += fmt::format("{}\"+{}\"(d[{}])", i == 0 ? "" : ", ", words.accumulator, i);
  }
  std::string a = fmt::format("%{}", count);
  std::string a_operand = "\"l\"(a)";
  if (kind.a_in_registers) {
    a = fmt::format("{{%{}, %{}, %{}, %{}}}", count, count + 1, count + 2, count + 3);
    a_operand = "\"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3])";
  }
  const int next = count + (kind.a_in_registers ? 4 : 1);
  std::string tail = words.scales ? ", 1, 1" : "";
  if (is_half && !kind.a_in_registers) tail += kind.a_m_major ? ", 1" : ", 0";
  if (is_half) tail += kind.b_n_major ? ", 1" : ", 0";
  return fmt::format(R"(struct {name} {{
  typedef {value} Value;
  static constexpr int kN = {n};
  TF_METHOD static void run(Value (&d)[{count}], {a_type}, u64 b, int accumulate) {{
    asm volatile("{{\n.reg .pred p;\nsetp.ne.b32 p, %{flag}, 0;\nwgmma.mma_async.sync.aligned.m64n{n}k{k}.{types} {{{registers}}}, {a}, %{b}, p{tail};\n}}"
      : {operands} : {a_operand}, "l"(b), "r"(accumulate));
  }}
}};
)",
                     fmt::arg("name", name), fmt::arg("value", words.value), fmt::arg("n", kind.n),
                     fmt::arg("count", count), fmt::arg("a_type", kind.a_in_registers ? "const u32 (&a)[4]" : "u64 a"),
                     fmt::arg("flag", next + 1), fmt::arg("k", words.k), fmt::arg("types", words.types),
                     fmt::arg("registers", registers), fmt::arg("a", a), fmt::arg("b", next), fmt::arg("tail", tail),
                     fmt::arg("operands", operands), fmt::arg("a_operand", a_operand));
}

}  // namespace tenfold::cuda
