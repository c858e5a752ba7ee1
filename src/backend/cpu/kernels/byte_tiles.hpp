// Products of 8-bit integers by the matrix unit: rows as they are where they are whole tiles, else copied together.
#pragma once

#include "backend/cpu/kernels/byte_finish.hpp"
#include "backend/cpu/kernels/byte_product.hpp"
#include "backend/cpu/kernels/copied_rows.hpp"
#include "backend/cpu/kernels/tile_product.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// What becomes of the sums of a block of rows.
class ByteTileFinish {
 public:
  /// What it needs of the scratch memory for each row: sums as floats for a program.
  static constexpr std::int64_t kRowBytes = kPanelColumns * 4;

  /// `scratch`: that of the block's rows, and what TileCut leaves in any case for a program's operands.
  ByteTileFinish(const ByteProductArgs& args, std::int64_t first_row, std::int64_t rows, std::byte* scratch)
      : args_(args),
        first_row_(first_row),
        has_program_(args.finish.program.program != nullptr),
        in_place_(has_program_ && args.finish.result == ByteResult::float32),
        values_(reinterpret_cast<float*>(scratch)),
        room_(values_ + rows * kPanelColumns) {
    static_assert(FinishArgs::kMaxOperands * kPanelColumns * 4 <= kTileMargin);
  }

  void tiles(const std::byte* sums, std::int64_t row, std::int64_t rows, std::int64_t column, int count) {
    for (int i = 0; i < count; ++i) tile(sums + i * kTileSize, row, rows, column + i * kTileColumns);
  }
  void tile(const std::byte* sums, std::int64_t row, std::int64_t rows, std::int64_t column) {
    const ByteFinish& finish = args_.finish;
    ByteSums from{};
    from.sums = reinterpret_cast<const std::int32_t*>(sums);
    from.start = args_.start + column;
    from.rows = rows;
    from.columns = min(args_.columns - column, kTileColumns);
    from.finish = &finish;
    if (has_program_ && !in_place_) {
      from.c = reinterpret_cast<std::uint8_t*>(values_ + (row - first_row_) * kPanelColumns + column % kPanelColumns);
      from.c_stride = kRowBytes;
    } else {
      from.c = result(row, column);
      from.c_stride = args_.c_stride * bytes_of(finish.result);
    }
    if (finish.scale != nullptr) {
      from.scale = finish.scale + column;
      from.offset = finish.offset + column;
    }
    if (finish.residual != nullptr) {
      const std::int64_t element = bytes_of(finish.residual_type);
      from.residual_stride = finish.residual_stride * element;
      from.residual =
          static_cast<const std::uint8_t*>(finish.residual) + (row * finish.residual_stride + column) * element;
    }
    finish_byte_sums(from);
  }
  void panel(std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
    if (!has_program_) return;
    float* values = in_place_ ? reinterpret_cast<float*>(result(row, column)) : values_;
    run_byte_program(args_.finish, values, in_place_ ? args_.c_stride : kPanelColumns, row, row + rows, column,
                     column + columns, room_);
    for (std::int64_t r = 0; r < rows && !in_place_; ++r) {
      store_rounded(values + r * kPanelColumns, columns, args_.finish.result, result(row + r, column));
    }
  }

 private:
  std::uint8_t* result(std::int64_t row, std::int64_t column) const {
    return static_cast<std::uint8_t*>(args_.c) + (row * args_.c_stride + column) * bytes_of(args_.finish.result);
  }
  const ByteProductArgs& args_;
  std::int64_t first_row_;
  bool has_program_;
  bool in_place_;  ///< the program runs on the result itself
  float* values_;
  float* room_;
};

/// The units multiply unsigned and signed bytes of A by signed ones of B.
template <typename UnsignedUnit, typename SignedUnit>
void run_byte_tiles(const ByteProductArgs& args, const Workers& workers) {
  if (args.rows <= 0 || args.columns <= 0) return;
  TileProduct product;
  product.rows = args.rows;
  product.columns = args.columns;
  product.row_bytes = args.depth;
  if (args.conv == nullptr && args.depth % kTileBytes == 0) {
    product.a = args.a;
    product.a_stride = args.a_stride;
  }
  product.panels = reinterpret_cast<const std::byte*>(args.panels);
  product.row_block = args.tiling.row_block;
  product.depth_block = args.tiling.depth_block / kTileBytes;
  const CopiedRows source{{args.a, args.a_stride, args.depth, args.conv, args.zero}};
  const TileCut cut(product, workers, args.finish.program.program == nullptr ? 0 : ByteTileFinish::kRowBytes);
  cut.for_each_block(workers, [&](const ProductBlock& block, std::byte* scratch, RowsInScratch& copied) {
    const std::int64_t rows = block.row_end - block.row_begin;
    ByteTileFinish finish(args, block.row_begin, rows, scratch + tile_scratch_bytes(product, rows));
    if (args.a_is_signed) {
      run_tile_block<SignedUnit, 1>(product, block, source, finish, scratch, copied);
    } else {
      run_tile_block<UnsignedUnit, 1>(product, block, source, finish, scratch, copied);
    }
  });
}

}  // namespace tenfold::cpu::TENFOLD_TIER
