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
    for (int r = 0; r < rows_; ++r) Product::add(tiles_[kA][r], tiles_[kB], tiles_[kC][r]);
  }

 private:
  int rows_of(int tile) const { return tile < 6 ? rows_ : static_cast<int>(kTileRows); }
  int rows_;
  std::byte tiles_[8][kTileRows][kTileBytes];
};

/// TDPBF16PS as the SDM (vol. 2) has it: even and odd products apart.
struct Bf16Products {
  static float widen(std::uint16_t x) {
    const std::uint32_t bits = static_cast<std::uint32_t>(x) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
  }
  static void add(const std::byte* a, const std::byte (*b)[kTileBytes], std::byte* c) {
    std::uint16_t x[32], y[16][32];
    float sums[16];
    std::memcpy(x, a, sizeof x);
    std::memcpy(y, b, sizeof y);
    std::memcpy(sums, c, sizeof sums);
    for (int n = 0; n < 16; ++n) {
      float even = 0, odd = 0;
      for (int k = 0; k < 16; ++k) {
        even += widen(x[2 * k]) * widen(y[k][2 * n]);
        odd += widen(x[2 * k + 1]) * widen(y[k][2 * n + 1]);
      }
      sums[n] += even + odd;
    }
    std::memcpy(c, sums, sizeof sums);
  }
};

/// TDPBUSD and TDPBSSD: T is a byte of A.
template <typename T>
struct ByteProducts {
  static void add(const std::byte* a, const std::byte (*b)[kTileBytes], std::byte* c) {
    T x[64];
    std::int8_t y[16][64];
    std::int32_t sums[16];
    std::memcpy(x, a, sizeof x);
    std::memcpy(y, b, sizeof y);
    std::memcpy(sums, c, sizeof sums);
    for (int n = 0; n < 16; ++n) {
      for (int k = 0; k < 64; ++k) sums[n] += x[k] * y[k / 4][4 * n + k % 4];
    }
    std::memcpy(c, sums, sizeof sums);
  }
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
