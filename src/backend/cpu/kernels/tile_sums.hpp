// All sums of a register tile of AVX-512, from where they begin to the last multiply-add, in assembly.
//
// Why assembly: see tile_steps.hpp. gcc 12's loops of 8 x 3 and 6 x 4 vectors have 40.5 and 38.5 instructions for 24
// multiply-adds, some of which move sums from register to register; these have 36 and 35. It has to be the whole sum,
// not a loop that continues one: an assembly statement takes at most 30 operands, and a sum that goes in and out counts
// twice. Elements of A are broadcast by instructions of their own: a multiply-add that does it for itself has to load
// the element for each of its row's vectors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/kernels/simd.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

#if defined(__AVX512F__)

/// What the sums are made of, but for where they begin, the first tap's first row and the panel. Distances in bytes. The
/// assembly knows the members by their places, and moves `rows` and `taps` on.
struct TileSums {
  std::int64_t begin_stride;    ///< 0: from what a row's sums begin with to the next one's; 0: all begin alike
  const float* const* rows;     ///< 8: of each tap, its first row of A
  std::int64_t offset;          ///< 16: added to each of these pointers
  std::int64_t stride;          ///< 24: from a row to the next
  std::int64_t turns;           ///< 32: of kSumSteps multiply-adds, for each tap
  std::int64_t rest;            ///< 40: multiply-adds behind them
  std::int64_t taps;            ///< 48: > 0
  const std::byte* ahead;       ///< 56: lines to be asked for
  std::int64_t lines;           ///< 64: so many, > 0, before every
  std::int64_t turns_of_piece;  ///< 72: turns, > 0
};
inline constexpr std::int64_t kSumSteps = 4;

// Row i of A lies i strides behind rax. rsi, rcx, r8 to r11 are 1, 3, 5, 7, 9 and 11 strides.
#define TENFOLD_ROW_AT_0(at) at "(%%rax)"
#define TENFOLD_ROW_AT_1(at) at "(%%rax,%%rsi)"
#define TENFOLD_ROW_AT_2(at) at "(%%rax,%%rsi,2)"
#define TENFOLD_ROW_AT_3(at) at "(%%rax,%%rcx)"
#define TENFOLD_ROW_AT_4(at) at "(%%rax,%%rsi,4)"
#define TENFOLD_ROW_AT_5(at) at "(%%rax,%%r8)"
#define TENFOLD_ROW_AT_6(at) at "(%%rax,%%rcx,2)"
#define TENFOLD_ROW_AT_7(at) at "(%%rax,%%r9)"
#define TENFOLD_ROW_AT_8(at) at "(%%rax,%%rsi,8)"
#define TENFOLD_ROW_AT_9(at) at "(%%rax,%%r10)"
#define TENFOLD_ROW_AT_10(at) at "(%%rax,%%r8,2)"
#define TENFOLD_ROW_AT_11(at) at "(%%rax,%%r11)"

// f(row, ...) for the first rows.
#define TENFOLD_ROWS_3(f, ...) f(0, __VA_ARGS__) f(1, __VA_ARGS__) f(2, __VA_ARGS__)
#define TENFOLD_ROWS_4(f, ...) TENFOLD_ROWS_3(f, __VA_ARGS__) f(3, __VA_ARGS__)
#define TENFOLD_ROWS_5(f, ...) TENFOLD_ROWS_4(f, __VA_ARGS__) f(4, __VA_ARGS__)
#define TENFOLD_ROWS_6(f, ...) TENFOLD_ROWS_5(f, __VA_ARGS__) f(5, __VA_ARGS__)
#define TENFOLD_ROWS_7(f, ...) TENFOLD_ROWS_6(f, __VA_ARGS__) f(6, __VA_ARGS__)
#define TENFOLD_ROWS_8(f, ...) TENFOLD_ROWS_7(f, __VA_ARGS__) f(7, __VA_ARGS__)
#define TENFOLD_ROWS_9(f, ...) TENFOLD_ROWS_8(f, __VA_ARGS__) f(8, __VA_ARGS__)
#define TENFOLD_ROWS_10(f, ...) TENFOLD_ROWS_9(f, __VA_ARGS__) f(9, __VA_ARGS__)
#define TENFOLD_ROWS_11(f, ...) TENFOLD_ROWS_10(f, __VA_ARGS__) f(10, __VA_ARGS__)
#define TENFOLD_ROWS_12(f, ...) TENFOLD_ROWS_11(f, __VA_ARGS__) f(11, __VA_ARGS__)

// The vectors of B are zmm24 to zmm27, the element of A is zmm28; the compiler places the sums.
#define TENFOLD_BEGIN(row, vector, at) "vmovups " at "(%%rcx), %[sum" #row "_" #vector "]\n\t"
#define TENFOLD_BEGIN_2(row, _) TENFOLD_BEGIN(row, 0, "0") TENFOLD_BEGIN(row, 1, "64") "addq %%rdi, %%rcx\n\t"
#define TENFOLD_BEGIN_3(row, _) TENFOLD_BEGIN(row, 2, "128") TENFOLD_BEGIN_2(row, _)
#define TENFOLD_BEGIN_4(row, _) TENFOLD_BEGIN(row, 3, "192") TENFOLD_BEGIN_3(row, _)
#define TENFOLD_COPY(at, to) "vmovups " at "(%[begin]), %%" to "\n\t"
#define TENFOLD_COPY_2 TENFOLD_COPY("0", "zmm24") TENFOLD_COPY("64", "zmm25")
#define TENFOLD_COPY_3 TENFOLD_COPY_2 TENFOLD_COPY("128", "zmm26")
#define TENFOLD_COPY_4 TENFOLD_COPY_3 TENFOLD_COPY("192", "zmm27")
#define TENFOLD_ALIKE(row, vector, at) "vmovaps %%zmm2" at ", %[sum" #row "_" #vector "]\n\t"
#define TENFOLD_ALIKE_2(row, _) TENFOLD_ALIKE(row, 0, "4") TENFOLD_ALIKE(row, 1, "5")
#define TENFOLD_ALIKE_3(row, _) TENFOLD_ALIKE_2(row, _) TENFOLD_ALIKE(row, 2, "6")
#define TENFOLD_ALIKE_4(row, _) TENFOLD_ALIKE_3(row, _) TENFOLD_ALIKE(row, 3, "7")
#define TENFOLD_MULTIPLY(row, vector, b) "vfmadd231ps %%" b ", %%zmm28, %[sum" #row "_" #vector "]\n\t"
#define TENFOLD_MULTIPLY_2(row, at)                                                          \
  "vbroadcastss " TENFOLD_ROW_AT_##row(at) ", %%zmm28\n\t" TENFOLD_MULTIPLY(row, 0, "zmm24") \
      TENFOLD_MULTIPLY(row, 1, "zmm25")
#define TENFOLD_MULTIPLY_3(row, at) TENFOLD_MULTIPLY_2(row, at) TENFOLD_MULTIPLY(row, 2, "zmm26")
#define TENFOLD_MULTIPLY_4(row, at) TENFOLD_MULTIPLY_3(row, at) TENFOLD_MULTIPLY(row, 3, "zmm27")

#define TENFOLD_LOAD_B(at, to) "vmovups " at "(%%rdx), %%" to "\n\t"
#define TENFOLD_LOAD_2(b0, b1) TENFOLD_LOAD_B(b0, "zmm24") TENFOLD_LOAD_B(b1, "zmm25")
#define TENFOLD_LOAD_3(b0, b1, b2) TENFOLD_LOAD_2(b0, b1) TENFOLD_LOAD_B(b2, "zmm26")
#define TENFOLD_LOAD_4(b0, b1, b2, b3) TENFOLD_LOAD_3(b0, b1, b2) TENFOLD_LOAD_B(b3, "zmm27")
#define TENFOLD_FIRST_2 TENFOLD_LOAD_2("0", "64")
#define TENFOLD_FIRST_3 TENFOLD_LOAD_3("0", "64", "128")
#define TENFOLD_FIRST_4 TENFOLD_LOAD_4("0", "64", "128", "192")
#define TENFOLD_STEP_2(rows) TENFOLD_FIRST_2 TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_2, "0")
#define TENFOLD_STEP_3(rows) TENFOLD_FIRST_3 TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_3, "0")
#define TENFOLD_STEP_4(rows) TENFOLD_FIRST_4 TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_4, "0")
#define TENFOLD_TURN_2(rows)                                                    \
  TENFOLD_STEP_2(rows)                                                          \
  TENFOLD_LOAD_2("128", "192")                                                  \
  TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_2, "4") TENFOLD_LOAD_2("256", "320")     \
      TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_2, "8") TENFOLD_LOAD_2("384", "448") \
          TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_2, "12")
#define TENFOLD_TURN_3(rows)                                                           \
  TENFOLD_STEP_3(rows)                                                                 \
  TENFOLD_LOAD_3("192", "256", "320")                                                  \
  TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_3, "4") TENFOLD_LOAD_3("384", "448", "512")     \
      TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_3, "8") TENFOLD_LOAD_3("576", "640", "704") \
          TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_3, "12")
#define TENFOLD_TURN_4(rows)                                                                  \
  TENFOLD_STEP_4(rows)                                                                        \
  TENFOLD_LOAD_4("256", "320", "384", "448")                                                  \
  TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_4, "4") TENFOLD_LOAD_4("512", "576", "640", "704")     \
      TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_4, "8") TENFOLD_LOAD_4("768", "832", "896", "960") \
          TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_4, "12")

// rdi counts turns. With pieces r12 is what is asked for, r13 the turns of the tap behind the piece, rbx counts lines.
#define TENFOLD_PIECES_BEGIN                                                                                      \
  "movq %%rdi, %%r13\n\t"                                                                                         \
  "6:\n\tmovq 64(%[what]), %%rbx\n\t"                                                                            \
  "7:\n\tprefetcht1 (%%r12)\n\taddq $64, %%r12\n\tsubq $1, %%rbx\n\tjne 7b\n\t"                                \
  "movq 72(%[what]), %%rdi\n\tcmpq %%r13, %%rdi\n\tcmovgq %%r13, %%rdi\n\tsubq %%rdi, %%r13\n\t"
#define TENFOLD_PIECES_END "testq %%r13, %%r13\n\tjne 6b\n\t"
#define TENFOLD_SUM_LOOP(rows, vectors, step_bytes, turn_bytes, pieces_begin, pieces_end)                          \
  /* The sums begin. */                                                                                            \
  "movq 0(%[what]), %%rdi\n\ttestq %%rdi, %%rdi\n\tjne 8f\n\t"                                                    \
  TENFOLD_COPY_##vectors TENFOLD_ROWS_##rows(TENFOLD_ALIKE_##vectors, )                \
  "jmp 9f\n"                                                                                                       \
  "8:\n\tmovq %[begin], %%rcx\n\t" TENFOLD_ROWS_##rows(TENFOLD_BEGIN_##vectors, )                                 \
  "9:\n\tmovq 24(%[what]), %%rsi\n\tmovq 56(%[what]), %%r12\n\t"   \
  "leaq (%%rsi,%%rsi,2), %%rcx\n\tleaq (%%rsi,%%rsi,4), %%r8\n\tleaq (%%rcx,%%rsi,4), %%r9\n\t"                  \
  "leaq (%%rsi,%%rsi,8), %%r10\n\tleaq (%%rcx,%%rsi,8), %%r11\n\t"                                               \
  /* For each tap: turns, and the steps behind them. */                                                            \
  "1:\n\tmovq 32(%[what]), %%rdi\n\ttestq %%rdi, %%rdi\n\tje 3f\n\t"                                            \
  pieces_begin                                                                                                     \
  ".p2align 6\n2:\n\t" TENFOLD_TURN_##vectors(rows)                                                               \
  "addq $" turn_bytes ", %%rdx\n\taddq $16, %%rax\n\tsubq $1, %%rdi\n\tjne 2b\n\t"                               \
  pieces_end                                                                                                       \
  "3:\n\tmovq 40(%[what]), %%rdi\n\ttestq %%rdi, %%rdi\n\tje 5f\n\t"                                            \
  "4:\n\t" TENFOLD_STEP_##vectors(rows)                                                                            \
  "addq $" step_bytes ", %%rdx\n\taddq $4, %%rax\n\tsubq $1, %%rdi\n\tjne 4b\n\t"                                \
  "5:\n\tsubq $1, 48(%[what])\n\tje 10f\n\t"                                                                     \
  "addq $8, 8(%[what])\n\tmovq 8(%[what]), %%rdi\n\tmovq (%%rdi), %%rax\n\taddq 16(%[what]), %%rax\n\tjmp 1b\n"  \
  "10:\n\t"
#define TENFOLD_SUM_LOOP_2(rows, begin, end) TENFOLD_SUM_LOOP(rows, 2, "128", "512", begin, end)
#define TENFOLD_SUM_LOOP_3(rows, begin, end) TENFOLD_SUM_LOOP(rows, 3, "192", "768", begin, end)
#define TENFOLD_SUM_LOOP_4(rows, begin, end) TENFOLD_SUM_LOOP(rows, 4, "256", "1024", begin, end)

#define TENFOLD_SUM(row, vector) [sum##row##_##vector] "=&v"(sums[row][vector].v)
#define TENFOLD_OUT_2(row) TENFOLD_SUM(row, 0), TENFOLD_SUM(row, 1)
#define TENFOLD_OUT_3(row) TENFOLD_OUT_2(row), TENFOLD_SUM(row, 2)
#define TENFOLD_OUT_4(row) TENFOLD_OUT_3(row), TENFOLD_SUM(row, 3)
#define TENFOLD_OUTS_3(f) f(0), f(1), f(2)
#define TENFOLD_OUTS_4(f) TENFOLD_OUTS_3(f), f(3)
#define TENFOLD_OUTS_5(f) TENFOLD_OUTS_4(f), f(4)
#define TENFOLD_OUTS_6(f) TENFOLD_OUTS_5(f), f(5)
#define TENFOLD_OUTS_7(f) TENFOLD_OUTS_6(f), f(6)
#define TENFOLD_OUTS_8(f) TENFOLD_OUTS_7(f), f(7)
#define TENFOLD_OUTS_9(f) TENFOLD_OUTS_8(f), f(8)
#define TENFOLD_OUTS_10(f) TENFOLD_OUTS_9(f), f(9)
#define TENFOLD_OUTS_11(f) TENFOLD_OUTS_10(f), f(10)
#define TENFOLD_OUTS_12(f) TENFOLD_OUTS_11(f), f(11)
#define TENFOLD_SUM_CLOBBERS                                                                                   \
  "rbx", "rcx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "xmm24", "xmm25", "xmm26", \
      "xmm27", "xmm28", "cc", "memory"

template <int kRows, int kVectors>
struct TileSumLoop;
#define TENFOLD_TILE_SUMS(rows, vectors)                                                        \
  template <>                                                                                   \
  struct TileSumLoop<rows, vectors> {                                                           \
    template <bool kAsks>                                                                       \
    [[gnu::always_inline]] static void run(TileSums* what, const float* begin, const float* row, const float* panel,  \
                                           Vec (&sums)[rows][vectors]) {        \
      if constexpr (kAsks) {                                                                    \
        asm volatile(TENFOLD_SUM_LOOP_##vectors(rows, TENFOLD_PIECES_BEGIN, TENFOLD_PIECES_END) \
                     : TENFOLD_OUTS_##rows(TENFOLD_OUT_##vectors), "+a"(row), "+d"(panel)                               \
                     : [what] "r"(what), [begin] "r"(begin)                                                         \
                     : TENFOLD_SUM_CLOBBERS);                                                   \
      } else {                                                                                  \
        asm volatile(TENFOLD_SUM_LOOP_##vectors(rows, "", "")                                   \
                     : TENFOLD_OUTS_##rows(TENFOLD_OUT_##vectors), "+a"(row), "+d"(panel)                               \
                     : [what] "r"(what), [begin] "r"(begin)                                                         \
                     : TENFOLD_SUM_CLOBBERS);                                                   \
      }                                                                                         \
    }                                                                                           \
  };
TENFOLD_TILE_SUMS(4, 2)
TENFOLD_TILE_SUMS(5, 2)
TENFOLD_TILE_SUMS(6, 2)
TENFOLD_TILE_SUMS(7, 2)
TENFOLD_TILE_SUMS(8, 2)
TENFOLD_TILE_SUMS(9, 2)
TENFOLD_TILE_SUMS(10, 2)
TENFOLD_TILE_SUMS(11, 2)
TENFOLD_TILE_SUMS(12, 2)
TENFOLD_TILE_SUMS(3, 3)
TENFOLD_TILE_SUMS(4, 3)
TENFOLD_TILE_SUMS(5, 3)
TENFOLD_TILE_SUMS(6, 3)
TENFOLD_TILE_SUMS(7, 3)
TENFOLD_TILE_SUMS(8, 3)
TENFOLD_TILE_SUMS(3, 4)
TENFOLD_TILE_SUMS(4, 4)
TENFOLD_TILE_SUMS(5, 4)
TENFOLD_TILE_SUMS(6, 4)

/// Which tiles there are: smaller ones are in no hurry.
template <int kRows, int kVectors>
inline constexpr bool kHasTileSums = kVectors >= 2 && kRows >= (kVectors == 2 ? 4 : 3);

#else
template <int kRows, int kVectors>
inline constexpr bool kHasTileSums = false;
#endif

}  // namespace tenfold::cpu::TENFOLD_TIER
