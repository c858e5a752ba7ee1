// How products of 8-bit integers are cut into work items, and where the results of one go.
#pragma once

#include "backend/cpu/kernels/byte_results.hpp"
#include "backend/cpu/kernels/gemm_block.hpp"
#include "backend/cpu/kernels/product_blocks.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// Channels of a pixel that belong to one group, or the whole row.
inline std::int64_t group_channels(const ByteProductArgs& args) {
  if (args.conv == nullptr) return args.depth;
  return args.depth / (args.conv->kernel[0] * args.conv->kernel[1] * args.conv->kernel[2]);
}

/// From row to row of copies: whole lines of the cache, which do not all fall into the same sets.
inline std::int64_t copied_row_stride(std::int64_t bytes) {
  constexpr std::int64_t kLine = 64, kSameSets = 4096;
  const std::int64_t stride = ceil_div(bytes, kLine) * kLine;
  return stride % kSameSets == 0 ? stride + kLine : stride;
}

/// The results from this row and column on, all but `tail`. With a program: of the sums as floats, where they can be
/// stored in place.
inline ByteResults byte_results(const ByteProductArgs& args, const ByteLimits& limits, std::int64_t row,
                                std::int64_t column) {
  const ByteFinish& finish = args.finish;
  const std::int64_t element = bytes_of(finish.result), residual_element = bytes_of(finish.residual_type);
  ByteResults to{};
  to.c = static_cast<std::uint8_t*>(args.c) + (row * args.c_stride + column) * element;
  to.c_stride = args.c_stride * element;
  to.finish = &finish;
  to.limits = &limits;
  if (finish.scale == nullptr || finish.result == ByteResult::int32) return to;
  to.scale = finish.scale + column;
  to.offset = finish.offset + column;
  if (finish.residual != nullptr) {
    to.residual =
        static_cast<const std::uint8_t*>(finish.residual) + (row * finish.residual_stride + column) * residual_element;
    to.residual_stride = finish.residual_stride * residual_element;
  }
  return to;
}

/// Calls f(block, scratch) for blocks of about `row_block` rows and, at least, so many parts of the panels.
template <typename F>
void for_each_block(const ByteProductArgs& args, const Workers& workers, std::int64_t row_block,
                    std::int64_t panel_width, std::int64_t least_panel_parts, const F& f) {
  constexpr std::int64_t kItemsPerThread = 3;
  /// Multiply-adds that are not worth a second thread.
  constexpr std::int64_t kSerialWork = 1 << 18;
  const std::int64_t tile_rows = args.tiling.tile_rows, panels = ceil_div(args.columns, panel_width);
  const std::int64_t threads = workers.pool->num_threads();
  const std::int64_t work = args.rows * args.columns * args.depth;
  const std::int64_t wanted = threads == 1 || work < kSerialWork ? 1 : kItemsPerThread * threads;
  std::int64_t row_parts = ceil_div(args.rows, row_block);
  // Rows are cut first: every part of the panels copies the windows again.
  if (args.groups * row_parts < wanted) {
    row_parts = max(row_parts, min(args.rows / (4 * tile_rows), ceil_div(wanted, args.groups)));
  }
  const std::int64_t panel_parts = min(panels, max(least_panel_parts, ceil_div(wanted, args.groups * row_parts)));
  // Parts of a thread's share grow smaller, if blocks of rows do not become larger than they may be.
  Cut row_cut{args.rows, tile_rows, row_parts};
  if (panel_parts == 1 && wanted > 1) row_cut.shares = shares_of(threads, args.groups, row_parts);
  if (row_cut.largest() > row_block) row_cut.shares = 0;
  const Cut panel_cut{panels, 1, panel_parts,
                      wanted == 1 ? 0 : shares_of(threads, args.groups * row_parts, panel_parts)};
  for_each_product_block(workers, args.groups, row_cut, panel_cut, f);
}

}  // namespace tenfold::cpu::TENFOLD_TIER
