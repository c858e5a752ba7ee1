// Products of bfloat16 by the matrix unit: A is rounded once, then come the tiles.
#pragma once

#include "backend/cpu/kernels/bf16_product.hpp"
#include "backend/cpu/kernels/copied_rows.hpp"
#include "backend/cpu/kernels/finish.hpp"
#include "backend/cpu/kernels/gemm_tile.hpp"
#include "backend/cpu/kernels/tile_product.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// From sums to results, as the register tiles of other products do it.
class Bf16TileFinish {
 public:
  explicit Bf16TileFinish(const GemmArgs& args) : args_(args) {
    to_.c_stride = args.c_stride;
    to_.residual_stride = args.finish.residual_stride;
    to_.activation = &args.finish.activation;
  }

  void tile(const std::byte* sums, std::int64_t row, std::int64_t rows, std::int64_t column) {
    const std::int64_t end = min(args_.columns, column + kTileColumns);
    const auto* from = reinterpret_cast<const float*>(sums);
    for (std::int64_t n = column; n < end; n += Vec::kWidth, from += Vec::kWidth) {
      to_.tail = static_cast<int>(min(end - n, Vec::kWidth));
      to_.slopes = args_.finish.activation.slopes_from(n);
      std::int64_t r = 0;
      for (; r + kRows <= rows; r += kRows) finish<kRows>(from + r * kTileColumns, row + r, n);
      for (; r < rows; ++r) finish<1>(from + r * kTileColumns, row + r, n);
    }
  }
  void panel(std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
    if (args_.finish.program == nullptr) return;
    run_finish_program(args_.finish, args_.c + row * args_.c_stride + column, args_.c_stride, row, row + rows, column,
                       column + columns);
  }

 private:
  static constexpr int kRows = 4;

  template <int kCount>
  void finish(const float* from, std::int64_t row, std::int64_t column) {
    const bool whole = to_.tail == Vec::kWidth;
    const FinishArgs& finish = args_.finish;
    const Vec bias = finish.bias == nullptr ? Vec::zero() : Vec::load_first(finish.bias + column, to_.tail);
    TileColumn<Vec, kCount> sums;
    TENFOLD_UNROLL
    for (int i = 0; i < kCount; ++i) sums.sum[i] = Vec::load(from + i * kTileColumns) + bias;
    sums.finish(to_, args_.c + row * args_.c_stride + column,
                finish.residual == nullptr ? nullptr : finish.residual + row * finish.residual_stride + column, 0,
                whole);
  }

  const GemmArgs& args_;
  TileArgs to_{};
};

/// Rounds rows or pixels, all threads together. From row to row `stride` bytes.
template <typename Round>
void round_all(const float* a, std::int64_t a_stride, std::int64_t rows, std::int64_t numbers, std::int64_t stride,
               std::uint8_t* to, const Workers& workers) {
  constexpr std::int64_t kWorthwhile = 1 << 13;
  const std::int64_t threads = workers.pool->num_threads();
  const Cut cut{rows, 1, rows * numbers < kWorthwhile * threads ? 1 : min(rows, threads)};
  for_each_item(workers, cut.parts, [&](std::int64_t part, std::byte*) {
    const std::int64_t begin = cut.begin(part), count = cut.begin(part + 1) - begin;
    Round::rows(a + begin * a_stride, a_stride, count, numbers, to + begin * stride, stride);
  });
}

/// `Round`: rows(from, from_stride, rows, numbers, to, stride) makes float32 bfloat16 and writes nothing else; the last
/// stride in bytes.
template <typename Unit, typename Round>
void run_bf16_tiles(const Bf16Args& whole, const Workers& workers) {
  const GemmArgs& args = whole.product;
  if (args.rows <= 0 || args.columns <= 0) return;
  constexpr std::int64_t kNumber = 2;
  auto* rounded = reinterpret_cast<std::uint8_t*>(whole.rounded);
  TileProduct product;
  product.rows = args.rows;
  product.columns = args.columns;
  product.row_bytes = args.depth * kNumber;
  product.panels = reinterpret_cast<const std::byte*>(whole.panels);
  product.row_block = args.tiling.row_block;
  product.depth_block = args.tiling.depth_block * kNumber / kTileBytes;
  const auto run = [&](const auto& copy) {
    TileCut(product, workers, 0).for_each_block(workers, [&](const TileBlock& block, std::byte* scratch) {
      Bf16TileFinish finish(args);
      run_tile_block<Unit>(product, block, copy, finish, scratch);
    });
  };
  if (args.conv != nullptr) {
    // A window has most numbers in common with its neighbours, so images are rounded first.
    const ConvRows& conv = *args.conv;
    const std::int64_t pixels = conv.batch * conv.in[0] * conv.in[1] * conv.in[2];
    const std::int64_t channels = args.depth / (conv.kernel[0] * conv.kernel[1] * conv.kernel[2]);
    round_all<Round>(args.a, args.a_stride, pixels, channels, channels * kNumber, rounded, workers);
    const RowSource source{rounded, channels * kNumber, product.row_bytes, args.conv, 0};
    run([&](std::int64_t first, std::int64_t rows, std::int64_t stride, std::uint8_t* to) {
      copy_rows(source, first, rows, stride, to);
    });
    return;
  }
  // Plain rows by the block that multiplies them, unless several blocks have the same.
  if (TileCut(product, workers, 0).repeats_rows()) {
    product.a = rounded;
    product.a_stride = tile_row_stride(product.row_bytes);
    round_all<Round>(args.a, args.a_stride, args.rows, args.depth, product.a_stride, rounded, workers);
    clear_row_ends(product.row_bytes, args.rows, product.a_stride, rounded);
  }
  run([&](std::int64_t first, std::int64_t rows, std::int64_t stride, std::uint8_t* to) {
    Round::rows(args.a + first * args.a_stride, args.a_stride, rows, args.depth, to, stride);
  });
}

}  // namespace tenfold::cpu::TENFOLD_TIER
