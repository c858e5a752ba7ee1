#include "backend/cpu/kernels/pack.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

constexpr std::int64_t kWidth = Vec::kWidth;

/// out[j * out_stride + i] = in[i * in_stride + j] for 8 x 8 floats: interleave pairs, then pairs of pairs, then
/// halves.
void transpose8(const float* in, std::int64_t in_stride, float* out, std::int64_t out_stride) {
  __m256 r[8], t[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(in + i * in_stride);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    r[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    r[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    r[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    r[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(out + i * out_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(out + (i + 4) * out_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}

}  // namespace

void transpose_into(const float* a, std::int64_t stride, std::int64_t rows, std::int64_t count, float* out,
                    std::int64_t out_stride) {
  const std::int64_t whole_rows = rows / 8 * 8, whole_count = count / 8 * 8;
  for (std::int64_t i = 0; i < whole_rows; i += 8) {
    for (std::int64_t j = 0; j < whole_count; j += 8) {
      transpose8(a + i * stride + j, stride, out + j * out_stride + i, out_stride);
    }
    for (std::int64_t j = whole_count; j < count; ++j) {
      for (std::int64_t r = i; r < i + 8; ++r) out[j * out_stride + r] = a[r * stride + j];
    }
  }
  for (std::int64_t i = whole_rows; i < rows; ++i) {
    for (std::int64_t j = 0; j < count; ++j) out[j * out_stride + i] = a[i * stride + j];
  }
}

void pack_straight(const float* b, std::int64_t stride, std::int64_t depth, std::int64_t count, std::int64_t width,
                   float* panel) {
  const std::int64_t whole = count / kWidth * kWidth;
  for (std::int64_t k = 0; k < depth; ++k, b += stride, panel += width) {
    for (std::int64_t n = 0; n < whole; n += kWidth) Vec::load(b + n).store(panel + n);
    if (whole < width) Vec::load_first(b + whole, static_cast<int>(count - whole)).store(panel + whole);
  }
}

void pack_transposed(const float* b, std::int64_t stride, std::int64_t depth, std::int64_t count, std::int64_t width,
                     float* panel) {
  transpose_into(b, stride, count, depth, panel, width);
  for (std::int64_t n = count; n < width; ++n) {
    for (std::int64_t k = 0; k < depth; ++k) panel[k * width + n] = 0;
  }
}

void transpose(const float* a, std::int64_t stride, std::int64_t rows, std::int64_t count, float* out) {
  transpose_into(a, stride, rows, count, out, rows);
}

}  // namespace tenfold::cpu::TENFOLD_TIER
