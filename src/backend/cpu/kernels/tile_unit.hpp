// The processor's matrix unit (AMX): this thread's tiles, and the instructions on them (Intel SDM vol. 2: LDTILECFG,
// TILELOADD, TDPBF16PS, TDPBSSD, TDPBUSD). As text, because the tier must be compiled for processors without them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/kernels/tile_product.hpp"

#if defined(__AVX512F__)

namespace tenfold::cpu::TENFOLD_TIER {

/// `Product`: what multiplies two tiles. For a run_tile_block at a time: threads with tiles in use are slower to
/// switch.
template <typename Product>
class TileUnit {
 public:
  /// Requires has_bf16_tiles() or has_byte_tiles().
  explicit TileUnit(int rows) {
    struct alignas(64) Configuration {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {};
      std::uint8_t rows[16] = {};
    } configuration;
    static_assert(sizeof configuration == 64);
    for (int tile = 0; tile < 8; ++tile) {
      configuration.row_bytes[tile] = kTileBytes;
      configuration.rows[tile] = static_cast<std::uint8_t>(tile < 6 ? rows : kTileRows);
    }
    asm volatile("ldtilecfg %0" : : "m"(configuration));
  }
  ~TileUnit() { asm volatile("tilerelease"); }
  TileUnit(const TileUnit&) = delete;
  TileUnit& operator=(const TileUnit&) = delete;

  template <int kTile>
  void clear() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  template <int kTile>
  void load(const void* p, std::int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kTile>
  void store(void* p, std::int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kC, int kA, int kB>
  void multiply() {
    Product::template add<kC, kA, kB>();
  }
};

/// Pairs of bfloat16: even and odd products are summed apart within a tile of depth, then added to the float32 sum.
struct Bf16Tiles {
  template <int kC, int kA, int kB>
  static void add() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
  }
};

/// Quads of bytes, exact in 32 bits.
struct SignedByteTiles {
  template <int kC, int kA, int kB>
  static void add() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
  }
};
struct UnsignedByteTiles {
  template <int kC, int kA, int kB>
  static void add() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
  }
};

}  // namespace tenfold::cpu::TENFOLD_TIER

#endif
