// Products of bfloat16 by the matrix unit: A is rounded once, all threads together; then the tiles.
#pragma once

#include "backend/cpu/kernels/bf16_product.hpp"
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

/// `Round`: round(from, count, to) makes float32 bfloat16 and writes nothing else.
template <typename Unit, typename Round>
void run_bf16_tiles(const Bf16Args& whole, const Workers& workers) {
  const GemmArgs& args = whole.product;
  if (args.rows <= 0 || args.columns <= 0) return;
  constexpr std::int64_t kNumber = 2;
  const bool in_place = args.conv == nullptr;
  auto* rounded = reinterpret_cast<std::uint8_t*>(whole.rounded);
  std::int64_t rows = args.rows, numbers = args.depth, stride = tile_row_stride(args.depth * kNumber);
  if (!in_place) {
    const ConvRows& conv = *args.conv;
    rows = conv.batch * conv.in[0] * conv.in[1] * conv.in[2];
    numbers = args.depth / (conv.kernel[0] * conv.kernel[1] * conv.kernel[2]);
    stride = numbers * kNumber;
  }
  // Pixels without gaps are one row to round.
  const bool joins = !in_place && args.a_stride == numbers;
  constexpr std::int64_t kWorthwhile = 1 << 13;
  const std::int64_t threads = workers.pool->num_threads();
  const std::int64_t parts = rows * numbers < kWorthwhile * threads ? 1 : min(rows, threads);
  const Cut cut{rows, 1, parts};
  for_each_item(workers, parts, [&](std::int64_t part, std::byte*) {
    const std::int64_t begin = cut.begin(part), end = cut.begin(part + 1);
    const float* from = args.a + begin * args.a_stride;
    std::uint8_t* to = rounded + begin * stride;
    if (joins) {
      Round::round(from, (end - begin) * numbers, to);
      return;
    }
    for (std::int64_t r = begin; r < end; ++r, from += args.a_stride, to += stride) Round::round(from, numbers, to);
    if (in_place) clear_row_ends(numbers * kNumber, end - begin, stride, rounded + begin * stride);
  });

  TileProduct product;
  product.rows = args.rows;
  product.columns = args.columns;
  product.a = {rounded, stride, args.depth * kNumber, args.conv, 0};
  product.in_place = in_place;
  product.panels = reinterpret_cast<const std::byte*>(whole.panels);
  product.row_block = args.tiling.row_block;
  product.depth_block = args.tiling.depth_block * kNumber / kTileBytes;
  for_each_tile_block(product, workers, 0, [&](const TileBlock& block, std::byte* scratch) {
    Bf16TileFinish finish(args);
    run_tile_block<Unit>(product, block, finish, scratch);
  });
}

}  // namespace tenfold::cpu::TENFOLD_TIER
