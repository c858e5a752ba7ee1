// Tiles of products with so few columns that vectors of them would be mostly empty: lanes run along the depth instead,
// and eight sums of eight lanes become one vector of eight results.
#include "backend/cpu/kernels/gemm_tile.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

#if defined(__AVX512F__)
using Eight = Half;
#else
using Eight = Vec;
#endif
static_assert(Eight::kWidth == kDotLanes);

/// *p in the first lane, zeros above.
[[gnu::always_inline]] inline Eight first_only(const float* p) { return Eight(_mm256_zextps128_ps256(_mm_load_ss(p))); }

/// The sums of the lanes of eight vectors.
[[gnu::always_inline]] inline Eight sums_of(const Eight (&x)[kDotLanes]) {
  const __m256 low = _mm256_hadd_ps(_mm256_hadd_ps(x[0].v, x[1].v), _mm256_hadd_ps(x[2].v, x[3].v));
  const __m256 high = _mm256_hadd_ps(_mm256_hadd_ps(x[4].v, x[5].v), _mm256_hadd_ps(x[6].v, x[7].v));
  return _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}

/// One tile, `row` rows below the first.
template <int kRows, int kColumns>
[[gnu::always_inline]] inline void run_one(const TileArgs& args, std::int64_t row) {
  constexpr int kResults = kRows * kColumns;
  float* const c = args.c + row * args.c_stride;
  Eight sum[kDotLanes];
  // What is added to a sum begins in its first lane.
  TENFOLD_UNROLL
  for (int i = 0; i < kDotLanes; ++i) sum[i] = Eight::zero();
  if (args.bias != nullptr) {
    TENFOLD_UNROLL
    for (int i = 0; i < kResults; ++i) sum[i] = first_only(args.bias + i % kColumns);
  }
  if (args.residual != nullptr) {
    TENFOLD_UNROLL
    for (int i = 0; i < kResults; ++i) {
      const float* residual = args.residual + (row + i / kColumns) * args.residual_stride + i % kColumns;
      sum[i] = sum[i] + first_only(residual);
    }
  }

  const std::int64_t padded = (args.depth + kDotLanes - 1) / kDotLanes * kDotLanes;
  const std::int64_t column_stride = args.taps * padded;
  const std::int64_t whole = args.depth / kDotLanes * kDotLanes;
  const int rest = static_cast<int>(args.depth - whole);
  for (std::int64_t t = 0; t < args.taps; ++t) {
    const float* a = args.rows[t] + args.offset + row * args.row_stride;
    const float* b = args.panel + t * padded;
    const auto multiply_add = [&](std::int64_t k, auto load) __attribute__((always_inline)) {
      Eight weights[kColumns];
      TENFOLD_UNROLL
      for (int j = 0; j < kColumns; ++j) weights[j] = Eight::load(b + j * column_stride + k);
      TENFOLD_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const Eight x = load(a + i * args.row_stride + k);
        TENFOLD_UNROLL
        for (int j = 0; j < kColumns; ++j) sum[i * kColumns + j] = fma(x, weights[j], sum[i * kColumns + j]);
      }
    };
    for (std::int64_t k = 0; k < whole; k += kDotLanes) multiply_add(k, [](const float* p) { return Eight::load(p); });
    if (rest > 0) multiply_add(whole, [rest](const float* p) { return Eight::load_first(p, rest); });
  }

  Eight result[1] = {sums_of(sum)};
  if (args.slopes == nullptr) {
    activate(result, *args.activation, nullptr, [](const float* p) { return Eight::load(p); });
    if (args.c_stride == kColumns) {
      if constexpr (kResults == kDotLanes) {
        result[0].store(c);
      } else {
        result[0].store_first(c, kResults);
      }
      return;
    }
  }
  float results[kDotLanes];
  result[0].store(results);
  if (args.slopes != nullptr) {
    for (int i = 0; i < kResults; ++i) results[i] *= results[i] < 0 ? args.slopes[i % kColumns] : 1;
  }
  TENFOLD_UNROLL
  for (int i = 0; i < kResults; ++i) c[i / kColumns * args.c_stride + i % kColumns] = results[i];
}

template <int kRows, int kColumns>
void run_tile(const TileArgs& args) {
  for (std::int64_t tile = 0; tile <= args.more; ++tile) run_one<kRows, kColumns>(args, tile * kRows);
}

}  // namespace

TileFunction find_dot_tile(int rows, int columns) {
  switch (rows * 10 + columns) {
    case 81:
      return run_tile<8, 1>;
    case 41:
      return run_tile<4, 1>;
    case 11:
      return run_tile<1, 1>;
    case 42:
      return run_tile<4, 2>;
    case 12:
      return run_tile<1, 2>;
    case 23:
      return run_tile<2, 3>;
    case 13:
      return run_tile<1, 3>;
    case 24:
      return run_tile<2, 4>;
    case 14:
      return run_tile<1, 4>;
    default:
      return nullptr;
  }
}

}  // namespace tenfold::cpu::TENFOLD_TIER
