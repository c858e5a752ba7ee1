// Built as the kernels of tier avx2 are.
#include "emulation/tile_products.hpp"

#include <cstring>

#include "backend/cpu/kernels/bf16_tiles.hpp"
#include "backend/cpu/kernels/byte_tiles.hpp"

namespace tenfold {
namespace cpu::TENFOLD_TIER {
namespace {

/// Eight tiles, of which A and C (0 to 5) have so many rows, B (6, 7) all 16. Rows that a tile has not are poisoned,
/// and so are all tiles at the start.
template <typename Product>
class EmulatedUnit {
 public:
  explicit EmulatedUnit(int rows) : rows_(rows) { std::memset(tiles_, 0xff, sizeof tiles_); }

  template <int kTile>
  void clear() {
    std::memset(tiles_[kTile], 0, sizeof tiles_[kTile]);
  }
  template <int kTile>
  void load(const void* p, std::int64_t stride) {
    for (int r = 0; r < rows_of(kTile); ++r) {
      std::memcpy(tiles_[kTile][r], static_cast<const std::byte*>(p) + r * stride, kTileBytes);
    }
  }
  template <int kTile>
  void store(void* p, std::int64_t stride) {
    for (int r = 0; r < rows_of(kTile); ++r) {
      std::memcpy(static_cast<std::byte*>(p) + r * stride, tiles_[kTile][r], kTileBytes);
    }
  }
  template <int kC, int kA, int kB>
  void multiply() {
    const Product product(tiles_[kB]);
    for (int r = 0; r < rows_; ++r) product.add(tiles_[kA][r], tiles_[kC][r]);
  }

 private:
  int rows_of(int tile) const { return tile < 6 ? rows_ : static_cast<int>(kTileRows); }
  int rows_;
  std::byte tiles_[8][kTileRows][kTileBytes];
};

/// TDPBF16PS as the SDM (vol. 2) has it: even and odd products apart.
class Bf16Products {
 public:
  explicit Bf16Products(const std::byte (*b)[kTileBytes]) {
    std::uint16_t y[16][32];
    std::memcpy(y, b, sizeof y);
    for (int k = 0; k < 32; ++k) {
      for (int n = 0; n < 16; ++n) b_[k][n] = widen(y[k / 2][2 * n + k % 2]);
    }
  }
  void add(const std::byte* a, std::byte* c) const {
    std::uint16_t x[32];
    float sums[16], parts[2][16] = {};
    std::memcpy(x, a, sizeof x);
    std::memcpy(sums, c, sizeof sums);
    for (int k = 0; k < 32; ++k) {
      for (int n = 0; n < 16; ++n) parts[k % 2][n] += widen(x[k]) * b_[k][n];
    }
    for (int n = 0; n < 16; ++n) sums[n] += parts[0][n] + parts[1][n];
    std::memcpy(c, sums, sizeof sums);
  }

 private:
  static float widen(std::uint16_t x) {
    const std::uint32_t bits = static_cast<std::uint32_t>(x) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
  }
  float b_[32][16];
};

/// TDPBUSD and TDPBSSD: T is a byte of A.
template <typename T>
class ByteProducts {
 public:
  explicit ByteProducts(const std::byte (*b)[kTileBytes]) {
    std::int8_t y[16][64];
    std::memcpy(y, b, sizeof y);
    for (int k = 0; k < 64; ++k) {
      for (int n = 0; n < 16; ++n) b_[k][n] = y[k / 4][4 * n + k % 4];
    }
  }
  void add(const std::byte* a, std::byte* c) const {
    T x[64];
    std::int32_t sums[16];
    std::memcpy(x, a, sizeof x);
    std::memcpy(sums, c, sizeof sums);
    for (int k = 0; k < 64; ++k) {
      for (int n = 0; n < 16; ++n) sums[n] += x[k] * b_[k][n];
    }
    std::memcpy(c, sums, sizeof sums);
  }

 private:
  std::int32_t b_[64][16];
};

}  // namespace
}  // namespace cpu::TENFOLD_TIER

namespace test {

void run_emulated_bf16_tiles(const cpu::Bf16Args& args, const cpu::Workers& workers) {
  using namespace cpu::TENFOLD_TIER;
  run_bf16_tiles<EmulatedUnit<Bf16Products>>(args, workers);
}

void run_emulated_byte_tiles(const cpu::ByteProductArgs& args, const cpu::Workers& workers) {
  using namespace cpu::TENFOLD_TIER;
  run_byte_tiles<EmulatedUnit<ByteProducts<std::uint8_t>>, EmulatedUnit<ByteProducts<std::int8_t>>>(args, workers);
}

}  // namespace test
}  // namespace tenfold
