// Matrix products with constant right-hand sides by Strassen's algorithm (Numerische Mathematik 13, 1969), one level:
// seven products of halves instead of eight.
//
//   M1 = (A11 + A22)(B11 + B22)   M2 = (A21 + A22) B11   M3 = A11 (B12 - B22)   M4 = A22 (B21 - B11)
//   M5 = (A11 + A12) B22   M6 = (A21 - A11)(B11 + B12)   M7 = (A12 - A22)(B21 + B22)
//   C11 = M1 + M4 - M5 + M7   C12 = M3 + M5   C21 = M2 + M4   C22 = M1 - M2 + M3 + M6
//
// What is made of B is made at build time. A is cut into blocks of rows, each halved by itself, so its sums and the
// products of one panel stay in a core's cache, and each result is written once, finished. Winograd's variant needs
// three additions less, but its sums of four terms lose more digits; the additions are not what takes time here.
//
// Errors are bounded by the norms of the matrices and not element by element: for n x n matrices by
// (3 n^2 + 25 n) u max|A| max|B|, three times what bounds the plain product (Higham, Accuracy and Stability of
// Numerical Algorithms, 2002, theorem 23.2; u: unit roundoff). So a row of small numbers loses digits beside one of
// large ones, and beside an infinity all of them: rows are paired within a sample only, never with those of another
// one.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/gemm.hpp"

namespace tenfold::cpu {

inline constexpr std::int64_t kStrassenProducts = 7;
/// The depth of a block, which bounds what its sums take of the scratch memory.
inline constexpr std::int64_t kMaxStrassenDepthBlock = 4096;

struct StrassenArgs {
  GemmArgs product;
  std::int64_t sample_rows = 0;  ///< rows of a sample; a divisor of the product's rows
};

struct StrassenKernels {
  /// Requires one tap, one group, no `conv`; an even depth; halves of the columns that are whole vectors;
  /// tiling.depth_block even and at most kMaxStrassenDepthBlock. Panels, `width` columns of the left half and the same
  /// of the right one: [depth block][panel][product][half of the block's depth][width], the last panel as narrow as
  /// the half is. Which rows are paired depends on sample_rows and tiling.row_block alone, so results depend
  /// neither on the number of threads nor on the other samples.
  void (*run)(const StrassenArgs& args, const Workers& workers);
};
TENFOLD_TIER_TABLE(StrassenKernels, kStrassenKernels)

}  // namespace tenfold::cpu
