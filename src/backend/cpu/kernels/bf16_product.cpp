#include "backend/cpu/kernels/bf16_product.hpp"

#include <utility>

#include "backend/cpu/kernels/bf16_convert.hpp"
#include "backend/cpu/kernels/finish.hpp"
#include "backend/cpu/kernels/gemm_block.hpp"
#include "backend/cpu/kernels/pixel_walk.hpp"
#include "backend/cpu/kernels/product_blocks.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

#if defined(__AVX512F__)

namespace {

constexpr std::int64_t kWidth = Vec::kWidth;
constexpr std::int64_t kItemsPerThread = 3;
/// Multiply-adds that are not worth a second thread.
constexpr std::int64_t kSerialWork = 1 << 17;
constexpr int kTallest[kMaxTileVectors] = {12, 12, 8, 6};

// As text, because the tier must be compiled for processors without it.
inline void add_pairs(Vec& sum, Vec a, Vec b) { asm("vdpbf16ps %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v)); }

struct PairTile {
  TileArgs finish;  ///< what TileColumn needs of it
  const std::uint16_t* a;
  std::int64_t row_stride;
  std::int64_t pairs;
  const std::uint16_t* panel;
};

template <int kRows, int kVectors>
void run_tile(const PairTile& tile) {
  TileColumn<Vec, kRows> columns[kVectors];
  const bool last_is_whole = tile.finish.tail == kWidth;
  TENFOLD_UNROLL
  for (int j = 0; j < kVectors; ++j)
    columns[j].start(tile.finish, tile.finish.c, j * kWidth, j + 1 < kVectors || last_is_whole);
  constexpr int kPointers = (kRows + 2) / 3;
  const std::uint16_t* a[kPointers];
  TENFOLD_UNROLL
  for (int i = 0; i < kPointers; ++i) a[i] = tile.a + 3 * i * tile.row_stride;
  const std::int64_t stride = tile.row_stride;
  const std::uint16_t* panel = tile.panel;
  for (std::int64_t k = 0; k < tile.pairs; ++k) {
    Vec b[kVectors];
    TENFOLD_UNROLL
    for (int j = 0; j < kVectors; ++j) b[j] = Vec::load(reinterpret_cast<const float*>(panel + j * kWidth * 2));
    TENFOLD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const Vec x = Vec::broadcast(reinterpret_cast<const float*>(a[i / 3] + (i % 3) * stride));
      TENFOLD_UNROLL
      for (int j = 0; j < kVectors; ++j) add_pairs(columns[j].sum[i], x, b[j]);
    }
    TENFOLD_UNROLL
    for (int i = 0; i < kPointers; ++i) a[i] += 2;
    panel += kVectors * kWidth * 2;
  }
  TENFOLD_UNROLL
  for (int j = 0; j < kVectors; ++j)
    columns[j].finish(tile.finish, tile.finish.c, tile.finish.residual, j * kWidth, j + 1 < kVectors || last_is_whole);
}

using TileRun = void (*)(const PairTile&);
/// By rows, from 1.
struct Tiles {
  TileRun by_rows[kMaxTileRows];
};
template <int kVectors, int... kLess>
constexpr Tiles make_tiles(std::integer_sequence<int, kLess...>) {
  return {{run_tile<kLess + 1, kVectors>...}};
}
template <int kVectors>
constexpr Tiles kTiles = make_tiles<kVectors>(std::make_integer_sequence<int, kTallest[kVectors - 1]>());
constexpr Tiles kAllTiles[kMaxTileVectors] = {kTiles<1>, kTiles<2>, kTiles<3>, kTiles<4>};

/// Rounded to nearest even; zeros up to the end of the last vector. Copies are made from front to back, so that what
/// one writes beyond its end is written again.
void convert(const float* from, std::int64_t count, std::uint16_t* to) {
  for (std::int64_t i = 0; i < count; i += kWidth) {
    const Vec x = Vec::load_first(from + i, static_cast<int>(min(count - i, kWidth)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), to_bf16(x));
  }
}
void clear(std::int64_t count, std::uint16_t* to) {
  for (std::int64_t i = 0; i < count; i += kWidth) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), _mm256_setzero_si256());
  }
}

/// `rows` rows from `first` on, `stride` numbers apart. Writes up to a vector beyond the last one.
void copy_rows(const GemmArgs& args, std::int64_t first, std::int64_t rows, std::int64_t stride, std::uint16_t* to) {
  if (args.conv == nullptr) {
    for (std::int64_t r = 0; r < rows; ++r) convert(args.a + (first + r) * args.a_stride, args.depth, to + r * stride);
    return;
  }
  const ConvRows& conv = *args.conv;
  const std::int64_t channels = args.depth / (conv.kernel[0] * conv.kernel[1] * conv.kernel[2]);
  PixelWalk pixel(conv, first);
  for (std::int64_t r = 0; r < rows; ++r, pixel.next()) {
    std::uint16_t* out = to + r * stride;
    for (std::int64_t kz = 0; kz < conv.kernel[0]; ++kz) {
      const std::int64_t z = pixel.z + kz * conv.dilation[0];
      for (std::int64_t ky = 0; ky < conv.kernel[1]; ++ky) {
        const std::int64_t y = pixel.y + ky * conv.dilation[1];
        const bool is_line = 0 <= z && z < conv.in[0] && 0 <= y && y < conv.in[1];
        const float* line = args.a + ((pixel.image * conv.in[0] + z) * conv.in[1] + y) * conv.in[2] * args.a_stride;
        for (std::int64_t kx = 0; kx < conv.kernel[2]; ++kx, out += channels) {
          const std::int64_t x = pixel.x + kx * conv.dilation[2];
          if (is_line && 0 <= x && x < conv.in[2]) {
            convert(line + x * args.a_stride, channels, out);
          } else {
            clear(channels, out);
          }
        }
      }
    }
  }
}

/// One number more than the depth, so that the second of the last pair is always written.
std::int64_t copied_stride(std::int64_t depth) {
  constexpr std::int64_t kLine = 32, kSameSets = 2048;
  const std::int64_t stride = ceil_div(depth + 1, kLine) * kLine;
  return stride % kSameSets == 0 ? stride + kLine : stride;
}

void run_block(const Bf16Args& whole, const ProductBlock& block, std::byte* scratch) {
  const GemmArgs& args = whole.product;
  const FinishArgs& finish = args.finish;
  const std::int64_t rows = block.row_end - block.row_begin;
  const std::int64_t pairs = ceil_div(args.depth, 2);
  const std::int64_t panel_width = args.tiling.tile_vectors * kWidth;
  auto* copy = reinterpret_cast<std::uint16_t*>(scratch);
  PairTile tile{};
  tile.row_stride = copied_stride(args.depth);
  tile.pairs = pairs;
  copy_rows(args, block.row_begin, rows, tile.row_stride, copy);
  for (std::int64_t r = 0; r < rows && args.depth % 2 != 0; ++r) copy[r * tile.row_stride + args.depth] = 0;
  tile.finish.c_stride = args.c_stride;
  tile.finish.residual_stride = finish.residual_stride;
  tile.finish.activation = &finish.activation;
  for (std::int64_t p = block.panel_begin; p < block.panel_end; ++p) {
    const std::int64_t n = p * panel_width;
    const PanelColumns columns = panel_columns(args.columns - n, args.tiling.tile_vectors);
    tile.panel = whole.panels + n * pairs * 2;
    tile.finish.tail = columns.tail;
    tile.finish.bias = finish.bias == nullptr ? nullptr : finish.bias + n;
    tile.finish.slopes = finish.activation.slopes_from(n);
    float* c = args.c + block.row_begin * args.c_stride + n;
    const float* residual =
        finish.residual == nullptr ? nullptr : finish.residual + block.row_begin * finish.residual_stride + n;
    for (std::int64_t r = 0; r < rows;) {
      const std::int64_t count = next_tile_rows(rows - r, args.tiling.tile_rows);
      tile.a = copy + r * tile.row_stride;
      tile.finish.c = c + r * args.c_stride;
      tile.finish.residual = residual == nullptr ? nullptr : residual + r * finish.residual_stride;
      kAllTiles[columns.vectors - 1].by_rows[count - 1](tile);
      r += count;
    }
    if (finish.program != nullptr) {
      run_finish_program(finish, c, args.c_stride, block.row_begin, block.row_end, n,
                         min(args.columns, n + panel_width));
    }
  }
}

void run(const Bf16Args& args, const Workers& workers) {
  const GemmArgs& product = args.product;
  if (product.rows <= 0 || product.columns <= 0) return;
  const std::int64_t tile_rows = product.tiling.tile_rows;
  const std::int64_t panels = ceil_div(product.columns, product.tiling.tile_vectors * kWidth);
  // Two tiles of the end share the rows of one to two, so one more may be needed; and a vector behind the last.
  const std::int64_t row_bytes = copied_stride(product.depth) * 2;
  const std::int64_t tiles = (static_cast<std::int64_t>(workers.scratch_bytes) - 64) / (row_bytes * tile_rows) - 1;
  const std::int64_t row_block = max(1, min(product.tiling.row_block, tiles * tile_rows));
  const std::int64_t threads = workers.pool->num_threads();
  const std::int64_t work = product.rows * product.columns * product.depth;
  const std::int64_t wanted = threads == 1 || work < kSerialWork ? 1 : kItemsPerThread * threads;
  std::int64_t row_parts = ceil_div(product.rows, row_block);
  // Rows are cut first: every part of the panels rounds its rows again.
  if (row_parts < wanted) row_parts = max(row_parts, min(product.rows / (4 * tile_rows), wanted));
  const std::int64_t panel_parts = min(panels, max(1, ceil_div(wanted, row_parts)));
  for_each_product_block(workers, 1, {product.rows, tile_rows, row_parts}, {panels, 1, panel_parts},
                         [&](const ProductBlock& block, std::byte* scratch) { run_block(args, block, scratch); });
}

}  // namespace

const Bf16Kernels kBf16Kernels = {run};

#else

const Bf16Kernels kBf16Kernels = {nullptr};

#endif

}  // namespace tenfold::cpu::TENFOLD_TIER
