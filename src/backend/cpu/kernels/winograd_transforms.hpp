// What Winograd's minimal filtering does to inputs and products along one axis; see winograd.hpp and winograd_line.hpp.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/activation.hpp"
#include "backend/cpu/kernels/gemm.hpp"
#include "backend/cpu/kernels/simd.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// B^T d for points 0, 1, -1, infinity.
inline void transform_input(const Vec (&d)[4], Vec (&o)[4]) {
  o[0] = d[0] - d[2];
  o[1] = d[1] + d[2];
  o[2] = d[2] - d[1];
  o[3] = d[1] - d[3];
}
/// B^T d for points 0, 1, -1, 2, -2, infinity.
inline void transform_input(const Vec (&d)[6], Vec (&o)[6]) {
  const Vec two(2.0F), four(4.0F), five(5.0F);
  o[0] = fma(four, d[0], fnma(five, d[2], d[4]));
  Vec even = fnma(four, d[2], d[4]), odd = fnma(four, d[1], d[3]);
  o[1] = even + odd;
  o[2] = even - odd;
  even = d[4] - d[2];
  odd = two * (d[3] - d[1]);
  o[3] = even + odd;
  o[4] = even - odd;
  o[5] = fma(four, d[1], fnma(five, d[3], d[5]));
}
/// B^T d for points 0, 1, -1, 2, -2, 1/2, infinity.
inline void transform_input(const Vec (&d)[7], Vec (&o)[7]) {
  const auto times = [](float factor, Vec x, Vec y) { return fma(Vec(factor), x, y); };
  o[0] = times(-2, d[0], times(4, d[1], times(2.5F, d[2], times(-5, d[3], times(-0.5F, d[4], d[5])))));
  o[1] = times(2, d[1] - d[2], times(-4.5F, d[3], times(0.5F, d[4], d[5])));
  o[2] = times(-2, d[1], times(6, d[2], times(-3.5F, d[3], times(-1.5F, d[4], d[5]))));
  o[3] = times(-2, d[3], times(1.5F, d[4] - d[2], d[1] + d[5]));
  o[4] = times(2.5F, d[2] - d[4], d[5] - d[1]);
  o[5] = times(4, d[1], times(-5, d[3], d[5]));
  o[6] = times(-2, d[1], times(4, d[2], times(2.5F, d[3], times(-5, d[4], times(-0.5F, d[5], d[6])))));
}
/// The same at stride 2 for windows of three: two taps meet the even inputs, points 0, 1, infinity; one the odd ones.
inline void transform_input(const Vec (&d)[5], Vec (&o)[5]) {
  o[0] = d[0] - d[2];
  o[1] = d[2];
  o[2] = d[4] - d[2];
  o[3] = d[1];
  o[4] = d[3];
}
/// With points 0, 1, -1, 2, infinity.
inline void transform_input(const Vec (&d)[9], Vec (&o)[9]) {
  const Vec two(2.0F), difference = d[6] - d[2];
  o[0] = fma(two, d[0] - d[4], difference);
  o[1] = fnma(two, d[2], d[6] - d[4]);
  o[2] = fma(two, d[2], fnma(Vec(3.0F), d[4], d[6]));
  o[3] = difference;
  o[4] = fnma(two, difference, d[8] - d[4]);
  o[5] = d[1];
  o[6] = d[3];
  o[7] = d[5];
  o[8] = d[7];
}
/// A^T m.
inline void transform_output(const Vec (&m)[4], Vec (&o)[2]) {
  o[0] = m[0] + m[1] + m[2];
  o[1] = m[1] - m[2] - m[3];
}
inline void transform_output(const Vec (&m)[6], Vec (&o)[4]) {
  const Vec sum1 = m[1] + m[2], difference1 = m[1] - m[2], sum2 = m[3] + m[4], difference2 = m[3] - m[4];
  o[0] = m[0] + sum1 + sum2;
  o[1] = fma(Vec(2.0F), difference2, difference1);
  o[2] = fma(Vec(4.0F), sum2, sum1);
  o[3] = fma(Vec(8.0F), difference2, difference1) + m[5];
}
inline void transform_output(const Vec (&m)[5], Vec (&o)[2]) {
  o[0] = m[0] + m[1] + m[3];
  o[1] = m[1] + m[2] + m[4];
}
inline void transform_output(const Vec (&m)[9], Vec (&o)[4]) {
  const Vec sum = m[1] + m[2], difference = m[1] - m[2];
  o[0] = m[0] + sum + m[3] + m[5];
  o[1] = fma(Vec(2.0F), m[3], difference) + m[6];
  o[2] = fma(Vec(4.0F), m[3], sum) + m[7];
  o[3] = fma(Vec(8.0F), m[3], difference) + m[4] + m[8];
}
/// A^T m: of seven for four results and windows of four.
inline void transform_output(const Vec (&m)[7], Vec (&o)[4]) {
  const Vec sum1 = m[1] + m[2], difference1 = m[1] - m[2], sum2 = m[3] + m[4], difference2 = m[3] - m[4];
  o[0] = m[0] + sum1 + sum2 + m[5];
  o[1] = fma(Vec(2.0F), difference2, fma(Vec(0.5F), m[5], difference1));
  o[2] = fma(Vec(4.0F), sum2, fma(Vec(0.25F), m[5], sum1));
  o[3] = fma(Vec(8.0F), difference2, fma(Vec(0.125F), m[5], difference1)) + m[6];
}

/// Where the results of a tile along one axis go: pixels `apart` from each other, of which the first `count` exist.
struct TilePixels {
  std::int64_t first, apart;
  int count;
};
/// Finishes and stores a vector of channels, from c on, of which `tail` exist. y: channel 0 of pixel 0.
template <int kTile>
inline void store_pixels(Vec (&o)[kTile], const TilePixels& pixels, const FinishArgs& finish, std::int64_t c, int tail,
                         float* y, std::int64_t y_stride) {
  const Vec bias = finish.bias == nullptr ? Vec::zero() : Vec::load_first(finish.bias + c, tail);
  for (int j = 0; j < pixels.count; ++j) {
    o[j] = o[j] + bias;
    if (finish.residual != nullptr) {
      const std::int64_t pixel = pixels.first + j * pixels.apart;
      o[j] = o[j] + Vec::load_first(finish.residual + pixel * finish.residual_stride + c, tail);
    }
  }
  activate(o, finish.activation, finish.activation.slopes_from(c),
           [tail](const float* p) { return Vec::load_first(p, tail); });
  for (int j = 0; j < pixels.count; ++j) {
    float* p = y + (pixels.first + j * pixels.apart) * y_stride + c;
    if (tail == Vec::kWidth) {
      o[j].store(p);
    } else {
      o[j].store_first(p, tail);
    }
  }
}

/// Rows of a product, tiles, that are worth a pass over the filters.
inline constexpr std::int64_t kFewestTiles = 8;
/// Does each thread rather keep tiles of its own than multiply some positions of all tiles? `filters` and
/// `exchanged`: numbers that are read for a position, of the filters and of tiles that else go to and fro.
inline bool pays_to_keep_tiles(std::int64_t tiles, std::int64_t threads, std::int64_t filters, std::int64_t exchanged) {
  // A byte from another core's cache takes as long as so many of filters from one that all share, or longer.
  constexpr std::int64_t kExchangeCost = 3;
  return tiles >= kFewestTiles * threads && filters <= kExchangeCost * exchanged;
}

}  // namespace tenfold::cpu::TENFOLD_TIER
