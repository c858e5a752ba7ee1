#include "backend/cpu/kernels/bf16_tiles.hpp"

#include "backend/cpu/kernels/bf16_convert.hpp"
#include "backend/cpu/kernels/tile_unit.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

#if defined(__AVX512F__)

namespace {

struct Round {
  static void rows(const float* from, std::int64_t from_stride, std::int64_t rows, std::int64_t numbers,
                   std::uint8_t* to, std::int64_t stride) {
    // Rows without gaps are one long row.
    if (from_stride == numbers && stride == 2 * numbers) {
      row(from, rows * numbers, to);
      return;
    }
    for (std::int64_t r = 0; r < rows; ++r) row(from + r * from_stride, numbers, to + r * stride);
  }

 private:
  static void row(const float* from, std::int64_t count, std::uint8_t* to) {
    constexpr std::int64_t kWidth = Vec::kWidth;
    std::int64_t i = 0;
    for (; i + kWidth <= count; i += kWidth) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 2 * i), to_bf16(Vec::load(from + i)));
    }
    if (i == count) return;
    const Vec rest = Vec::load_first(from + i, static_cast<int>(count - i));
    _mm256_mask_storeu_epi16(to + 2 * i, static_cast<__mmask16>((1U << (count - i)) - 1U), to_bf16(rest));
  }
};

}  // namespace

const Bf16TileKernels kBf16TileKernels = {run_bf16_tiles<TileUnit<Bf16Tiles>, Round>};

#else

const Bf16TileKernels kBf16TileKernels = {nullptr};

#endif

}  // namespace tenfold::cpu::TENFOLD_TIER
