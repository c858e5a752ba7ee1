// The innermost loop of AVX2's two largest register tiles, 6 x 2 and 4 x 3 vectors: sixteen registers leave none to
// spare.
//
// In assembly, because every instruction counts. Most virtual processors are one of two threads of a core, which take
// turns at its front end: three instructions of each in a cycle (Zen 3), where the multiply-adds of a tile alone are
// two. A compiler's loop has 25 instructions for 12 multiply-adds, this one 20 or 21: alone both run at the peak,
// beside a busy neighbour at 75 and 92 % of it.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/simd.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// Steps of the inner index that one turn of the loop takes.
inline constexpr std::int64_t kTileSteps = 4;

#if defined(__AVX2__) && !defined(__AVX512F__)

inline constexpr bool kHasTileSteps = true;

// Rows of A, `at` bytes from the row's pointer: the third and the later ones lie once and twice the stride from two
// pointers, or each has a pointer of its own and an offset that all share.
#define TENFOLD_EVEN_ROW_0(at) at "(%%rax)"
#define TENFOLD_EVEN_ROW_1(at) at "(%%rax,%%rsi)"
#define TENFOLD_EVEN_ROW_2(at) at "(%%rax,%%rsi,2)"
#define TENFOLD_EVEN_ROW_3(at) at "(%%rcx)"
#define TENFOLD_EVEN_ROW_4(at) at "(%%rcx,%%rsi)"
#define TENFOLD_EVEN_ROW_5(at) at "(%%rcx,%%rsi,2)"
#define TENFOLD_TABLE_ROW_0(at) at "(%%rax,%%rsi)"
#define TENFOLD_TABLE_ROW_1(at) at "(%%rcx,%%rsi)"
#define TENFOLD_TABLE_ROW_2(at) at "(%%r8,%%rsi)"
#define TENFOLD_TABLE_ROW_3(at) at "(%%r9,%%rsi)"
#define TENFOLD_TABLE_ROW_4(at) at "(%%r10,%%rsi)"
#define TENFOLD_TABLE_ROW_5(at) at "(%%r11,%%rsi)"

#define TENFOLD_LOAD(at, to) "vmovups " at "(%%rdx), %%ymm" to "\n\t"
#define TENFOLD_ROW_OF_2(row, sum0, sum1) \
  "vbroadcastss " row                     \
  ", %%ymm15\n\t"                         \
  "vfmadd231ps %%ymm13, %%ymm15, %" sum0  \
  "\n\t"                                  \
  "vfmadd231ps %%ymm14, %%ymm15, %" sum1 "\n\t"
#define TENFOLD_ROW_OF_3(row, sum0, sum1, sum2) \
  "vbroadcastss " row                           \
  ", %%ymm15\n\t"                               \
  "vfmadd231ps %%ymm12, %%ymm15, %" sum0        \
  "\n\t"                                        \
  "vfmadd231ps %%ymm13, %%ymm15, %" sum1        \
  "\n\t"                                        \
  "vfmadd231ps %%ymm14, %%ymm15, %" sum2 "\n\t"

#define TENFOLD_STEP_6X2(kind, at, b0, b1)               \
  TENFOLD_LOAD(b0, "13")                                 \
  TENFOLD_LOAD(b1, "14")                                 \
  TENFOLD_ROW_OF_2(TENFOLD_##kind##_ROW_0(at), "0", "1") \
  TENFOLD_ROW_OF_2(TENFOLD_##kind##_ROW_1(at), "2", "3") \
  TENFOLD_ROW_OF_2(TENFOLD_##kind##_ROW_2(at), "4", "5") \
  TENFOLD_ROW_OF_2(TENFOLD_##kind##_ROW_3(at), "6", "7") \
  TENFOLD_ROW_OF_2(TENFOLD_##kind##_ROW_4(at), "8", "9") \
  TENFOLD_ROW_OF_2(TENFOLD_##kind##_ROW_5(at), "10", "11")
#define TENFOLD_STEP_4X3(kind, at, b0, b1, b2)                \
  TENFOLD_LOAD(b0, "12")                                      \
  TENFOLD_LOAD(b1, "13")                                      \
  TENFOLD_LOAD(b2, "14")                                      \
  TENFOLD_ROW_OF_3(TENFOLD_##kind##_ROW_0(at), "0", "1", "2") \
  TENFOLD_ROW_OF_3(TENFOLD_##kind##_ROW_1(at), "3", "4", "5") \
  TENFOLD_ROW_OF_3(TENFOLD_##kind##_ROW_2(at), "6", "7", "8") \
  TENFOLD_ROW_OF_3(TENFOLD_##kind##_ROW_3(at), "9", "10", "11")
#define TENFOLD_STEPS_6X2(kind)             \
  TENFOLD_STEP_6X2(kind, "0", "0", "32")    \
  TENFOLD_STEP_6X2(kind, "4", "64", "96")   \
  TENFOLD_STEP_6X2(kind, "8", "128", "160") \
  TENFOLD_STEP_6X2(kind, "12", "192", "224")
#define TENFOLD_STEPS_4X3(kind)                    \
  TENFOLD_STEP_4X3(kind, "0", "0", "32", "64")     \
  TENFOLD_STEP_4X3(kind, "4", "96", "128", "160")  \
  TENFOLD_STEP_4X3(kind, "8", "192", "224", "256") \
  TENFOLD_STEP_4X3(kind, "12", "288", "320", "352")

// Operands 0 to 11 are the sums, 12 the panel, 13 how many turns, 14 the bytes from an evenly spaced row to the next or
// the offset of a table's rows, 15 and 16 the first and the fourth row, or 15 the table.
#define TENFOLD_LOOP(begin, steps, panel_bytes, advance)                                                               \
  "movq %12, %%rdx\n\tmovq %13, %%rdi\n\t" begin ".p2align 5\n1:\n\t" steps "addq $" panel_bytes ", %%rdx\n\t" advance \
  "subq $1, %%rdi\n\tjne 1b\n\t"
#define TENFOLD_EVEN_BEGIN "movq %14, %%rsi\n\tmovq %15, %%rax\n\tmovq %16, %%rcx\n\t"
#define TENFOLD_EVEN_ADVANCE "addq $16, %%rax\n\taddq $16, %%rcx\n\t"
#define TENFOLD_TABLE_BEGIN                                                               \
  "movq %14, %%rsi\n\tmovq 0(%15), %%rax\n\tmovq 8(%15), %%rcx\n\tmovq 16(%15), %%r8\n\t" \
  "movq 24(%15), %%r9\n\tmovq 32(%15), %%r10\n\tmovq 40(%15), %%r11\n\t"
#define TENFOLD_TABLE_ADVANCE "addq $16, %%rsi\n\t"
#define TENFOLD_SUMS                                                                                          \
  "+x"(s[0]), "+x"(s[1]), "+x"(s[2]), "+x"(s[3]), "+x"(s[4]), "+x"(s[5]), "+x"(s[6]), "+x"(s[7]), "+x"(s[8]), \
      "+x"(s[9]), "+x"(s[10]), "+x"(s[11])
#define TENFOLD_CLOBBERED "rax", "rcx", "rdx", "rsi", "rdi", "xmm12", "xmm13", "xmm14", "xmm15", "cc", "memory"

template <int kRows, int kVectors, typename Sum, typename F>
[[gnu::always_inline]] inline void with_sums(const Sum& sum, const F& f) {
  static_assert((kRows == 6 && kVectors == 2) || (kRows == 4 && kVectors == 3));
  __m256 s[12];
#pragma GCC unroll 12
  for (int i = 0; i < 12; ++i) s[i] = sum(i / kVectors, i % kVectors).v;
  f(s);
#pragma GCC unroll 12
  for (int i = 0; i < 12; ++i) sum(i / kVectors, i % kVectors).v = s[i];
}

/// sum(row, vector) += A(row, k) * B(k, vector) for kTileSteps * turns steps, turns > 0. `sum` gives a reference to a
/// Vec. Rows lie `stride` floats apart.
template <int kRows, int kVectors, typename Sum>
[[gnu::always_inline]] inline void run_even_steps(const float* panel, const float* row, std::int64_t stride,
                                                  std::int64_t turns, const Sum& sum) {
  const std::int64_t bytes = stride * static_cast<std::int64_t>(sizeof(float));
  const float* fourth = row + 3 * stride;
  with_sums<kRows, kVectors>(
      sum, [&](__m256(&s)[12]) __attribute__((always_inline)) {
        if constexpr (kVectors == 2) {
          asm volatile(TENFOLD_LOOP(TENFOLD_EVEN_BEGIN, TENFOLD_STEPS_6X2(EVEN), "256", TENFOLD_EVEN_ADVANCE)
                       : TENFOLD_SUMS
                       : "r"(panel), "r"(turns), "r"(bytes), "r"(row), "r"(fourth)
                       : TENFOLD_CLOBBERED);
        } else {
          asm volatile(TENFOLD_LOOP(TENFOLD_EVEN_BEGIN, TENFOLD_STEPS_4X3(EVEN), "384", TENFOLD_EVEN_ADVANCE)
                       : TENFOLD_SUMS
                       : "r"(panel), "r"(turns), "r"(bytes), "r"(row), "r"(fourth)
                       : TENFOLD_CLOBBERED);
        }
      });
}
/// The same for rows that begin `offset` floats behind the pointers of a table, of which six are read.
template <int kRows, int kVectors, typename Sum>
[[gnu::always_inline]] inline void run_table_steps(const float* panel, const float* const* rows, std::int64_t offset,
                                                   std::int64_t turns, const Sum& sum) {
  const std::int64_t bytes = offset * static_cast<std::int64_t>(sizeof(float));
  with_sums<kRows, kVectors>(
      sum, [&](__m256(&s)[12]) __attribute__((always_inline)) {
        if constexpr (kVectors == 2) {
          asm volatile(TENFOLD_LOOP(TENFOLD_TABLE_BEGIN, TENFOLD_STEPS_6X2(TABLE), "256", TENFOLD_TABLE_ADVANCE)
                       : TENFOLD_SUMS
                       : "r"(panel), "r"(turns), "r"(bytes), "r"(rows)
                       : "r8", "r9", "r10", "r11", TENFOLD_CLOBBERED);
        } else {
          asm volatile(TENFOLD_LOOP(TENFOLD_TABLE_BEGIN, TENFOLD_STEPS_4X3(TABLE), "384", TENFOLD_TABLE_ADVANCE)
                       : TENFOLD_SUMS
                       : "r"(panel), "r"(turns), "r"(bytes), "r"(rows)
                       : "r8", "r9", "r10", "r11", TENFOLD_CLOBBERED);
        }
      });
}

#else
inline constexpr bool kHasTileSteps = false;
#endif

template <int kRows, int kVectors>
inline constexpr bool kIsStepped = kHasTileSteps && ((kRows == 6 && kVectors == 2) || (kRows == 4 && kVectors == 3));

}  // namespace tenfold::cpu::TENFOLD_TIER
