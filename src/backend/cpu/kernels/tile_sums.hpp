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

#include "backend/cpu/kernels/simd_half.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// How a tile finds its rows, see TileArgs::rows. Quads: evenly spaced rows of 8-bit integers, four of which, times
/// those of a column, are one step (VNNI).
enum class Rows { table, even, quads };

#if defined(__AVX512F__)

/// What the sums are made of, but for where they begin, the panel, and of evenly spaced rows the first tap's first one.
/// Distances in bytes. The assembly knows the members by their places, and moves `rows` and `taps` on.
struct TileSums {
  std::int64_t begin_stride;    ///< 0: from what a row's sums begin with to the next one's; 0: all begin alike
  const float* const* rows;     ///< 8: of each tap its first row of A, or, in a table, all of them
  std::int64_t offset;          ///< 16: added to each of these pointers
  std::int64_t stride;          ///< 24: from a row to the next, if evenly spaced
  std::int64_t turns;           ///< 32: of kSumSteps multiply-adds, for each tap
  std::int64_t rest;            ///< 40: multiply-adds behind them
  std::int64_t taps;            ///< 48
  const std::byte* ahead;       ///< 56: lines to be asked for
  std::int64_t lines;           ///< 64: so many, > 0, before every
  std::int64_t turns_of_piece;  ///< 72: turns, > 0
  std::int64_t turns_left;      ///< 80: of a tap, behind the piece at work; for the assembly
  std::int64_t line_stride;     ///< 88: from one line to the next
  std::int64_t piece_stride;    ///< 96: from a piece's first line to the next one's
};
static_assert(offsetof(TileSums, taps) == 48 && offsetof(TileSums, turns_left) == 80 && sizeof(TileSums) == 104);
inline constexpr std::int64_t kSumSteps = 4;

// What belongs to a step stands on its own line.
// clang-format off
// Row i of A, evenly spaced: i strides behind rax. rsi, rcx, r8 to r11 are 1, 3, 5, 7, 9 and 11 strides.
#define TENFOLD_EVEN_AT_0(at) at "(%%rax)"
#define TENFOLD_EVEN_AT_1(at) at "(%%rax,%%rsi)"
#define TENFOLD_EVEN_AT_2(at) at "(%%rax,%%rsi,2)"
#define TENFOLD_EVEN_AT_3(at) at "(%%rax,%%rcx)"
#define TENFOLD_EVEN_AT_4(at) at "(%%rax,%%rsi,4)"
#define TENFOLD_EVEN_AT_5(at) at "(%%rax,%%r8)"
#define TENFOLD_EVEN_AT_6(at) at "(%%rax,%%rcx,2)"
#define TENFOLD_EVEN_AT_7(at) at "(%%rax,%%r9)"
#define TENFOLD_EVEN_AT_8(at) at "(%%rax,%%rsi,8)"
#define TENFOLD_EVEN_AT_9(at) at "(%%rax,%%r10)"
#define TENFOLD_EVEN_AT_10(at) at "(%%rax,%%r8,2)"
#define TENFOLD_EVEN_AT_11(at) at "(%%rax,%%r11)"
// Elements of A are quads of bytes, as large as a float.
#define TENFOLD_QUADS_AT_0 TENFOLD_EVEN_AT_0
#define TENFOLD_QUADS_AT_1 TENFOLD_EVEN_AT_1
#define TENFOLD_QUADS_AT_2 TENFOLD_EVEN_AT_2
#define TENFOLD_QUADS_AT_3 TENFOLD_EVEN_AT_3
#define TENFOLD_QUADS_AT_4 TENFOLD_EVEN_AT_4
#define TENFOLD_QUADS_AT_5 TENFOLD_EVEN_AT_5
#define TENFOLD_QUADS_AT_6 TENFOLD_EVEN_AT_6
#define TENFOLD_QUADS_AT_7 TENFOLD_EVEN_AT_7
#define TENFOLD_QUADS_AT_8 TENFOLD_EVEN_AT_8
#define TENFOLD_QUADS_AT_9 TENFOLD_EVEN_AT_9
#define TENFOLD_QUADS_AT_10 TENFOLD_EVEN_AT_10
#define TENFOLD_QUADS_AT_11 TENFOLD_EVEN_AT_11
// And of a table: r13 behind a pointer of its own.
#define TENFOLD_TABLE_AT_0(at) at "(%%rax,%%r13)"
#define TENFOLD_TABLE_AT_1(at) at "(%%rsi,%%r13)"
#define TENFOLD_TABLE_AT_2(at) at "(%%rcx,%%r13)"
#define TENFOLD_TABLE_AT_3(at) at "(%%r8,%%r13)"
#define TENFOLD_TABLE_AT_4(at) at "(%%r9,%%r13)"
#define TENFOLD_TABLE_AT_5(at) at "(%%r10,%%r13)"
#define TENFOLD_TABLE_AT_6(at) at "(%%r11,%%r13)"
#define TENFOLD_TABLE_AT_7(at) at "(%%rbx,%%r13)"

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

// The vectors of B are zmm24 to zmm27, the element of A is zmm28; the compiler places the sums. The last vector is a
// whole one ("z") or the lower half of one ("y").
#define TENFOLD_BEGIN(row, vector, at) "vmovups " at "(%%rcx), %[sum" #row "_" #vector "]\n\t"
#define TENFOLD_BEGIN_2(row, _) TENFOLD_BEGIN(row, 0, "0") TENFOLD_BEGIN(row, 1, "64") "addq %%rdi, %%rcx\n\t"
#define TENFOLD_BEGIN_3(row, _) TENFOLD_BEGIN(row, 2, "128") TENFOLD_BEGIN_2(row, _)
#define TENFOLD_BEGIN_4(row, _) TENFOLD_BEGIN(row, 3, "192") TENFOLD_BEGIN_3(row, _)
#define TENFOLD_ALIKE(row, vector, half, from) "vmovaps %%" half "mm" from ", %[sum" #row "_" #vector "]\n\t"
#define TENFOLD_ALIKE_2(row, half) TENFOLD_ALIKE(row, 0, "z", "24") TENFOLD_ALIKE(row, 1, half, "25")
#define TENFOLD_ALIKE_3(row, half) TENFOLD_ALIKE_2(row, "z") TENFOLD_ALIKE(row, 2, half, "26")
#define TENFOLD_ALIKE_4(row, half) TENFOLD_ALIKE_3(row, "z") TENFOLD_ALIKE(row, 3, half, "27")
#define TENFOLD_EVEN_MULTIPLY "vfmadd231ps"
#define TENFOLD_TABLE_MULTIPLY "vfmadd231ps"
#define TENFOLD_QUADS_MULTIPLY "vpdpbusd"
#define TENFOLD_MULTIPLY(row, kind, vector, half, b) \
  TENFOLD_##kind##_MULTIPLY " %%" half "mm" b ", %%" half "mm28, %[sum" #row "_" #vector "]\n\t"
#define TENFOLD_MULTIPLY_2(row, kind, half, at) \
  "vbroadcastss " TENFOLD_##kind##_AT_##row(at) ", %%zmm28\n\t" \
  TENFOLD_MULTIPLY(row, kind, 0, "z", "24") TENFOLD_MULTIPLY(row, kind, 1, half, "25")
#define TENFOLD_MULTIPLY_3(row, kind, half, at) \
  TENFOLD_MULTIPLY_2(row, kind, "z", at) TENFOLD_MULTIPLY(row, kind, 2, half, "26")
#define TENFOLD_MULTIPLY_4(row, kind, half, at) \
  TENFOLD_MULTIPLY_3(row, kind, "z", at) TENFOLD_MULTIPLY(row, kind, 3, half, "27")

#define TENFOLD_LOAD(from, at, half, to) "vmovups " at "(" from "), %%" half "mm" to "\n\t"
#define TENFOLD_LOAD_2(from, half, b0, b1) TENFOLD_LOAD(from, b0, "z", "24") TENFOLD_LOAD(from, b1, half, "25")
#define TENFOLD_LOAD_3(from, half, b0, b1, b2) \
  TENFOLD_LOAD_2(from, "z", b0, b1) TENFOLD_LOAD(from, b2, half, "26")
#define TENFOLD_LOAD_4(from, half, b0, b1, b2, b3) \
  TENFOLD_LOAD_3(from, "z", b0, b1, b2) TENFOLD_LOAD(from, b3, half, "27")
#define TENFOLD_FIRST_2(from, half) TENFOLD_LOAD_2(from, half, "0", "64")
#define TENFOLD_FIRST_3(from, half) TENFOLD_LOAD_3(from, half, "0", "64", "128")
#define TENFOLD_FIRST_4(from, half) TENFOLD_LOAD_4(from, half, "0", "64", "128", "192")
#define TENFOLD_STEP(kind, rows, vectors, half) \
  TENFOLD_FIRST_##vectors("%%rdx", half) TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_##vectors, kind, half, "0")
#define TENFOLD_STEPS_2(kind, rows, half) \
  TENFOLD_LOAD_2("%%rdx", half, "128", "192") TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_2, kind, half, "4") \
  TENFOLD_LOAD_2("%%rdx", half, "256", "320") TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_2, kind, half, "8") \
  TENFOLD_LOAD_2("%%rdx", half, "384", "448") TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_2, kind, half, "12")
#define TENFOLD_STEPS_3(kind, rows, half) \
  TENFOLD_LOAD_3("%%rdx", half, "192", "256", "320") TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_3, kind, half, "4") \
  TENFOLD_LOAD_3("%%rdx", half, "384", "448", "512") TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_3, kind, half, "8") \
  TENFOLD_LOAD_3("%%rdx", half, "576", "640", "704") TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_3, kind, half, "12")
#define TENFOLD_STEPS_4(kind, rows, half) \
  TENFOLD_LOAD_4("%%rdx", half, "256", "320", "384", "448") TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_4, kind, half, "4") \
  TENFOLD_LOAD_4("%%rdx", half, "512", "576", "640", "704") TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_4, kind, half, "8") \
  TENFOLD_LOAD_4("%%rdx", half, "768", "832", "896", "960") TENFOLD_ROWS_##rows(TENFOLD_MULTIPLY_4, kind, half, "12")
#define TENFOLD_TURN(kind, rows, vectors, half) \
  TENFOLD_STEP(kind, rows, vectors, half) TENFOLD_STEPS_##vectors(kind, rows, half)

#define TENFOLD_EVEN_START \
  "movq 24(%[what]), %%rsi\n\tleaq (%%rsi,%%rsi,2), %%rcx\n\tleaq (%%rsi,%%rsi,4), %%r8\n\t" \
  "leaq (%%rcx,%%rsi,4), %%r9\n\tleaq (%%rsi,%%rsi,8), %%r10\n\tleaq (%%rcx,%%rsi,8), %%r11\n\t"
#define TENFOLD_EVEN_TAP
#define TENFOLD_EVEN_ADVANCE(bytes) "addq $" bytes ", %%rax\n\t"
#define TENFOLD_EVEN_NEXT \
  "addq $8, 8(%[what])\n\tmovq 8(%[what]), %%rdi\n\tmovq (%%rdi), %%rax\n\taddq 16(%[what]), %%rax\n\t"
#define TENFOLD_QUADS_START TENFOLD_EVEN_START
#define TENFOLD_QUADS_TAP TENFOLD_EVEN_TAP
#define TENFOLD_QUADS_ADVANCE(bytes) TENFOLD_EVEN_ADVANCE(bytes)
#define TENFOLD_QUADS_NEXT TENFOLD_EVEN_NEXT
#define TENFOLD_TABLE_START
#define TENFOLD_TABLE_TAP /* pointers of rows that the tile lacks are not used */ \
  "movq 8(%[what]), %%rdi\n\tmovq 0(%%rdi), %%rax\n\tmovq 8(%%rdi), %%rsi\n\tmovq 16(%%rdi), %%rcx\n\t" \
  "movq 24(%%rdi), %%r8\n\tmovq 32(%%rdi), %%r9\n\tmovq 40(%%rdi), %%r10\n\tmovq 48(%%rdi), %%r11\n\t" \
  "movq 56(%%rdi), %%rbx\n\tmovq 16(%[what]), %%r13\n\t"
#define TENFOLD_TABLE_ADVANCE(bytes) "addq $" bytes ", %%r13\n\t"
#define TENFOLD_TABLE_NEXT "addq $96, 8(%[what])\n\t"

// rdi counts turns, and the lines that are asked for; r12 is where the next one lies.
#define TENFOLD_ASKS_BEGIN \
  "movq %%rdi, 80(%[what])\n\t" \
  "6:\n\tmovq 64(%[what]), %%rdi\n\tmovq 56(%[what]), %%r12\n\t" \
  "7:\n\tprefetcht1 (%%r12)\n\taddq 88(%[what]), %%r12\n\tsubq $1, %%rdi\n\tjne 7b\n\t" \
  "movq 96(%[what]), %%rdi\n\taddq %%rdi, 56(%[what])\n\t" \
  "movq 72(%[what]), %%rdi\n\tcmpq 80(%[what]), %%rdi\n\tcmovgq 80(%[what]), %%rdi\n\tsubq %%rdi, 80(%[what])\n\t"
#define TENFOLD_ASKS_END "cmpq $0, 80(%[what])\n\tjne 6b\n\t"
#define TENFOLD_SILENT_BEGIN
#define TENFOLD_SILENT_END
#define TENFOLD_SUM_LOOP(kind, rows, vectors, half, step_bytes, turn_bytes, asks) \
  /* The sums begin. */ \
  "movq 0(%[what]), %%rdi\n\ttestq %%rdi, %%rdi\n\tjne 8f\n\t" \
  TENFOLD_FIRST_##vectors("%[begin]", half) TENFOLD_ROWS_##rows(TENFOLD_ALIKE_##vectors, half) "jmp 9f\n" \
  "8:\n\tmovq %[begin], %%rcx\n\t" TENFOLD_ROWS_##rows(TENFOLD_BEGIN_##vectors, ) \
  "9:\n\tcmpq $0, 48(%[what])\n\tje 10f\n\t" TENFOLD_##kind##_START \
  /* For each tap: turns, and the steps behind them. */ \
  "1:\n\t" TENFOLD_##kind##_TAP \
  "movq 32(%[what]), %%rdi\n\ttestq %%rdi, %%rdi\n\tje 3f\n\t" TENFOLD_##asks##_BEGIN \
  ".p2align 6\n2:\n\t" TENFOLD_TURN(kind, rows, vectors, half) \
  "addq $" turn_bytes ", %%rdx\n\t" TENFOLD_##kind##_ADVANCE("16") "subq $1, %%rdi\n\tjne 2b\n\t" \
  TENFOLD_##asks##_END \
  "3:\n\tmovq 40(%[what]), %%rdi\n\ttestq %%rdi, %%rdi\n\tje 5f\n\t" \
  "4:\n\t" TENFOLD_STEP(kind, rows, vectors, half) \
  "addq $" step_bytes ", %%rdx\n\t" TENFOLD_##kind##_ADVANCE("4") "subq $1, %%rdi\n\tjne 4b\n\t" \
  "5:\n\tsubq $1, 48(%[what])\n\tje 10f\n\t" TENFOLD_##kind##_NEXT "jmp 1b\n" \
  "10:\n\t"
#define TENFOLD_SUM_LOOP_2(kind, rows, half, asks) TENFOLD_SUM_LOOP(kind, rows, 2, half, "128", "512", asks)
#define TENFOLD_SUM_LOOP_3(kind, rows, half, asks) TENFOLD_SUM_LOOP(kind, rows, 3, half, "192", "768", asks)
#define TENFOLD_SUM_LOOP_4(kind, rows, half, asks) TENFOLD_SUM_LOOP(kind, rows, 4, half, "256", "1024", asks)

// clang-format on

#define TENFOLD_OUT(row, vector, to) [sum##row##_##vector] "=&v"(to)
#define TENFOLD_OUT_2(row, last) TENFOLD_OUT(row, 0, columns[0].sum[row].v), TENFOLD_OUT(row, 1, last.sum[row].v)
#define TENFOLD_OUT_3(row, last) TENFOLD_OUT_2(row, columns[1]), TENFOLD_OUT(row, 2, last.sum[row].v)
#define TENFOLD_OUT_4(row, last) TENFOLD_OUT_3(row, columns[2]), TENFOLD_OUT(row, 3, last.sum[row].v)
#define TENFOLD_WHOLE_2(row) TENFOLD_OUT_2(row, columns[1])
#define TENFOLD_WHOLE_3(row) TENFOLD_OUT_3(row, columns[2])
#define TENFOLD_WHOLE_4(row) TENFOLD_OUT_4(row, columns[3])
#define TENFOLD_HALF_2(row) TENFOLD_OUT_2(row, half)
#define TENFOLD_HALF_3(row) TENFOLD_OUT_3(row, half)
#define TENFOLD_HALF_4(row) TENFOLD_OUT_4(row, half)
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
#define TENFOLD_SUM_ASM(kind, rows, vectors, last, outs, asks)                                                  \
  asm volatile(TENFOLD_SUM_LOOP_##vectors(kind, rows, last, asks)                                               \
               : TENFOLD_OUTS_##rows(TENFOLD_##outs##_##vectors), "+a"(row), "+d"(panel)                        \
               : [what] "r"(what), [begin] "r"(begin)                                                           \
               : "rbx", "rcx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "xmm24", "xmm25", "xmm26", \
                 "xmm27", "xmm28", "cc", "memory")

/// The sums of a tile: of `kVectors` vectors, the last one in `half` if only its half is wanted. See TileColumn.
template <Rows kKind, int kRows, int kVectors>
struct TileSumLoop;
#define TENFOLD_TILE_SUMS(kind, name, rows, vectors)                                                                 \
  template <>                                                                                                        \
  struct TileSumLoop<Rows::name, rows, vectors> {                                                                    \
    template <bool kHalf, bool kAsks, typename Column, typename HalfColumn>                                          \
    [[gnu::always_inline]] static void run(TileSums* what, const float* begin, const float* row, const float* panel, \
                                           Column (&columns)[vectors], [[maybe_unused]] HalfColumn& half) {          \
      if constexpr (kHalf && kAsks) {                                                                                \
        TENFOLD_SUM_ASM(kind, rows, vectors, "y", HALF, ASKS);                                                       \
      } else if constexpr (kHalf) {                                                                                  \
        TENFOLD_SUM_ASM(kind, rows, vectors, "y", HALF, SILENT);                                                     \
      } else if constexpr (kAsks) {                                                                                  \
        TENFOLD_SUM_ASM(kind, rows, vectors, "z", WHOLE, ASKS);                                                      \
      } else {                                                                                                       \
        TENFOLD_SUM_ASM(kind, rows, vectors, "z", WHOLE, SILENT);                                                    \
      }                                                                                                              \
    }                                                                                                                \
  };
TENFOLD_TILE_SUMS(EVEN, even, 4, 2)
TENFOLD_TILE_SUMS(EVEN, even, 5, 2)
TENFOLD_TILE_SUMS(EVEN, even, 6, 2)
TENFOLD_TILE_SUMS(EVEN, even, 7, 2)
TENFOLD_TILE_SUMS(EVEN, even, 8, 2)
TENFOLD_TILE_SUMS(EVEN, even, 9, 2)
TENFOLD_TILE_SUMS(EVEN, even, 10, 2)
TENFOLD_TILE_SUMS(EVEN, even, 11, 2)
TENFOLD_TILE_SUMS(EVEN, even, 12, 2)
TENFOLD_TILE_SUMS(EVEN, even, 3, 3)
TENFOLD_TILE_SUMS(EVEN, even, 4, 3)
TENFOLD_TILE_SUMS(EVEN, even, 5, 3)
TENFOLD_TILE_SUMS(EVEN, even, 6, 3)
TENFOLD_TILE_SUMS(EVEN, even, 7, 3)
TENFOLD_TILE_SUMS(EVEN, even, 8, 3)
TENFOLD_TILE_SUMS(EVEN, even, 3, 4)
TENFOLD_TILE_SUMS(EVEN, even, 4, 4)
TENFOLD_TILE_SUMS(EVEN, even, 5, 4)
TENFOLD_TILE_SUMS(EVEN, even, 6, 4)
TENFOLD_TILE_SUMS(QUADS, quads, 4, 2)
TENFOLD_TILE_SUMS(QUADS, quads, 5, 2)
TENFOLD_TILE_SUMS(QUADS, quads, 6, 2)
TENFOLD_TILE_SUMS(QUADS, quads, 7, 2)
TENFOLD_TILE_SUMS(QUADS, quads, 8, 2)
TENFOLD_TILE_SUMS(QUADS, quads, 9, 2)
TENFOLD_TILE_SUMS(QUADS, quads, 10, 2)
TENFOLD_TILE_SUMS(QUADS, quads, 11, 2)
TENFOLD_TILE_SUMS(QUADS, quads, 12, 2)
TENFOLD_TILE_SUMS(QUADS, quads, 3, 3)
TENFOLD_TILE_SUMS(QUADS, quads, 4, 3)
TENFOLD_TILE_SUMS(QUADS, quads, 5, 3)
TENFOLD_TILE_SUMS(QUADS, quads, 6, 3)
TENFOLD_TILE_SUMS(QUADS, quads, 7, 3)
TENFOLD_TILE_SUMS(QUADS, quads, 8, 3)
TENFOLD_TILE_SUMS(QUADS, quads, 3, 4)
TENFOLD_TILE_SUMS(QUADS, quads, 4, 4)
TENFOLD_TILE_SUMS(QUADS, quads, 5, 4)
TENFOLD_TILE_SUMS(QUADS, quads, 6, 4)
TENFOLD_TILE_SUMS(TABLE, table, 4, 2)
TENFOLD_TILE_SUMS(TABLE, table, 5, 2)
TENFOLD_TILE_SUMS(TABLE, table, 6, 2)
TENFOLD_TILE_SUMS(TABLE, table, 7, 2)
TENFOLD_TILE_SUMS(TABLE, table, 8, 2)
TENFOLD_TILE_SUMS(TABLE, table, 3, 3)
TENFOLD_TILE_SUMS(TABLE, table, 4, 3)
TENFOLD_TILE_SUMS(TABLE, table, 5, 3)
TENFOLD_TILE_SUMS(TABLE, table, 6, 3)
TENFOLD_TILE_SUMS(TABLE, table, 7, 3)
TENFOLD_TILE_SUMS(TABLE, table, 8, 3)
TENFOLD_TILE_SUMS(TABLE, table, 3, 4)
TENFOLD_TILE_SUMS(TABLE, table, 4, 4)
TENFOLD_TILE_SUMS(TABLE, table, 5, 4)
TENFOLD_TILE_SUMS(TABLE, table, 6, 4)

/// Which tiles there are: smaller ones are in no hurry, and more than eight pointers find no registers.
template <Rows kKind, int kRows, int kVectors>
inline constexpr bool kHasTileSums = kVectors >= 2 && kRows >= (kVectors == 2 ? 4 : 3) &&
                                     (kKind != Rows::table || kRows <= 8);

#endif

}  // namespace tenfold::cpu::TENFOLD_TIER
