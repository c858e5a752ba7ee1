// Drivers of the matrix products: how rows, panels and depth are cut into blocks and spread over threads.
#include "backend/cpu/kernels/gemm.hpp"

#include "backend/cpu/kernels/finish.hpp"
#include "backend/cpu/kernels/gemm_block.hpp"
#include "backend/cpu/kernels/pack.hpp"
#include "backend/cpu/kernels/pixel_walk.hpp"
#include "backend/cpu/kernels/product_blocks.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

constexpr std::int64_t kWidth = Vec::kWidth;
/// Work items for each thread, so that a thread that is held up can be helped out.
constexpr std::int64_t kItemsPerThread = 3;
/// The same where work is cut at will: at most so many, the smallest of so many multiply-adds and tiles of rows.
constexpr std::int64_t kMostParts = 6, kSmallestPart = 1 << 18, kFewestTiles = 2;
/// Multiply-adds that are not worth a second thread.
constexpr std::int64_t kSerialWork = 1 << 16;
/// The same as weights of a product that waits for them.
constexpr std::int64_t kSerialWeights = 1 << 15;

/// Fills the pointer table of `rows` rows from output pixel `first`: [tile][tap][kMaxTileRows].
void fill_row_table(const ConvRows& conv, const float* a, std::int64_t pixel_stride, std::int64_t first,
                    std::int64_t rows, int tile_rows, const float** table) {
  const std::int64_t taps = conv.kernel[0] * conv.kernel[1] * conv.kernel[2];
  PixelWalk pixel(conv, first);
  for (std::int64_t r = 0; r < rows;) {
    const std::int64_t count = next_tile_rows(rows - r, tile_rows);
    for (std::int64_t i = 0; i < count; ++i, pixel.next()) {
      const float** out = table + i;
      for (std::int64_t kz = 0; kz < conv.kernel[0]; ++kz) {
        const std::int64_t iz = pixel.z + kz * conv.dilation[0];
        const bool z_inside = 0 <= iz && iz < conv.in[0];
        for (std::int64_t ky = 0; ky < conv.kernel[1]; ++ky) {
          const std::int64_t iy = pixel.y + ky * conv.dilation[1];
          const bool y_inside = z_inside && 0 <= iy && iy < conv.in[1];
          const std::int64_t line = ((pixel.image * conv.in[0] + iz) * conv.in[1] + iy) * conv.in[2];
          for (std::int64_t kx = 0; kx < conv.kernel[2]; ++kx) {
            const std::int64_t ix = pixel.x + kx * conv.dilation[2];
            *out = y_inside && 0 <= ix && ix < conv.in[2] ? a + (line + ix) * pixel_stride : conv.zeros;
            out += kMaxTileRows;
          }
        }
      }
    }
    table += taps * kMaxTileRows;
    r += count;
  }
}

/// Panels that a tile goes through at once, if it takes all rows of the product; else 0.
std::int64_t row_tile_panels(const GemmArgs& args) {
  return args.conv == nullptr ? max_row_panels(args.rows, args.tiling.tile_vectors) : 0;
}

/// One work item of a product whose tiles take all its rows: some panels of one group.
void run_panels(const GemmArgs& args, const ProductBlock& block) {
  const int vectors = args.tiling.tile_vectors, rows = static_cast<int>(args.rows);
  const std::int64_t panel_width = vectors * kWidth, stride = panel_width * args.depth;
  const std::int64_t padded_columns = ceil_div(args.columns, kWidth) * kWidth;
  const float* panels = args.panels + block.group * padded_columns * args.depth;
  const float* a = args.a + block.group * args.depth;
  const std::int64_t whole_panels = padded_columns / panel_width;  // the last one may be narrower
  TileArgs tile{};
  tile.rows = &a;
  tile.row_stride = args.a_stride;
  tile.depth = args.depth;
  tile.panel_stride = stride;
  tile.c_stride = args.c_stride;
  tile.residual_stride = args.finish.residual_stride;
  tile.activation = &args.finish.activation;
  for (std::int64_t p = block.panel_begin; p < block.panel_end;) {
    const std::int64_t rest = min(block.panel_end, whole_panels) - p;
    const std::int64_t count = rest > 0 ? ceil_div(rest, ceil_div(rest, row_tile_panels(args))) : 1;
    const std::int64_t n = p * panel_width, column = block.group * args.columns + n;
    const std::int64_t columns = min(args.columns - n, count * panel_width);
    tile.panel = panels + p * stride;
    tile.tail = static_cast<int>(columns - (ceil_div(columns, kWidth) - 1) * kWidth);
    tile.bias = args.finish.bias == nullptr ? nullptr : args.finish.bias + column;
    tile.slopes = args.finish.activation.slopes_from(column);
    tile.c = args.c + column;
    tile.residual = args.finish.residual == nullptr ? nullptr : args.finish.residual + column;
    find_row_tile(rows, rest > 0 ? vectors : panel_columns(columns, vectors).vectors, count)(tile);
    if (args.finish.program != nullptr) {
      run_finish_program(args.finish, tile.c, args.c_stride, 0, rows, column, column + columns);
    }
    p += count;
  }
}

/// What a thread at the end of its share asks for: its first panel of the next step's weights; nullptr: nothing.
const std::byte* first_of_next_step(const WeightPanels& next, std::int64_t share, std::int64_t threads) {
  const bool asks = share >= 0 && next.data != nullptr && !are_weights_near(next.panels * next.panel_bytes);
  return asks ? next.data + share * next.panels / threads * next.panel_bytes : nullptr;
}

/// One work item of `run`: rows x panels of one group.
void run_block(const GemmArgs& whole, const ProductBlock& block, std::int64_t num_threads, std::byte* scratch) {
  GemmArgs args = whole;
  const std::int64_t rows = block.row_end - block.row_begin;
  const float* a = whole.a + block.group * whole.depth;
  if (whole.conv == nullptr) a += block.row_begin * whole.a_stride;
  const int tile_rows = args.tiling.tile_rows;
  const std::int64_t panel_width = args.tiling.tile_vectors * kWidth;
  // Every group's panels hold whole vectors only.
  const std::int64_t padded_columns = ceil_div(args.columns, kWidth) * kWidth;
  const float* panels = args.panels + block.group * padded_columns * args.depth * args.taps;
  const std::int64_t first_column = block.group * args.columns;
  const auto table = reinterpret_cast<const float**>(scratch);
  if (args.conv != nullptr) {
    // A pixel outside the image reads zeros, whatever the group: taps of zeros are not shifted by it.
    fill_row_table(*args.conv, a, args.a_stride, block.row_begin, rows, tile_rows, table);
  }

  TileArgs tile{};
  tile.c_stride = args.c_stride;
  tile.residual_stride = args.finish.residual_stride;
  tile.rows_ahead = are_rows_far(whole);
  const std::int64_t next_item =
      are_weights_near(args.columns * args.depth * args.taps * kFloatBytes) ? -1 : block.next_panel;

  const std::int64_t taps_block = min(args.taps, max(1, args.tiling.depth_block / args.depth));
  const std::int64_t depth_block = args.taps == 1 ? min(args.depth, args.tiling.depth_block) : args.depth;
  for (std::int64_t t = 0; t < args.taps; t += taps_block) {
    for (std::int64_t k = 0; k < args.depth; k += depth_block) {
      const std::int64_t taps = min(taps_block, args.taps - t);
      const std::int64_t depth = min(depth_block, args.depth - k);
      const bool first = t == 0 && k == 0;
      const bool last = t + taps == args.taps && k + depth == args.depth;
      tile.accumulates = !first;
      tile.activation = last ? &args.finish.activation : nullptr;
      tile.depth = depth;
      for (std::int64_t p = block.panel_begin; p < block.panel_end; ++p) {
        const std::int64_t n = p * panel_width;
        const PanelColumns columns = panel_columns(args.columns - n, args.tiling.tile_vectors);
        const auto panel_at = [&](std::int64_t panel, std::int64_t depth_done) {
          const std::int64_t column = panel * panel_width;
          const int vectors = panel_columns(args.columns - column, args.tiling.tile_vectors).vectors;
          return panels + column * args.depth * args.taps + depth_done * vectors * kWidth;
        };
        const std::int64_t done = t * args.depth + k;
        tile.panel = panel_at(p, done);
        tile.tail = columns.tail;
        const std::int64_t deep = taps * depth, panel_bytes = kFloatBytes * deep * columns.vectors * kWidth;
        // The panel that follows: the next one, then the next blocks of depth, then the next item's.
        const bool is_inner = p + 1 < block.panel_end;
        const std::int64_t next = is_inner ? p + 1 : last ? next_item : block.panel_begin;
        const std::byte* from = nullptr;
        std::int64_t from_bytes = panel_bytes;
        if (next >= 0) {
          from = reinterpret_cast<const std::byte*>(panel_at(next, is_inner ? done : last ? 0 : done + deep));
        } else if (last) {
          from = first_of_next_step(args.next_weights, block.ended_share, num_threads);
          from_bytes = args.next_weights.first_bytes;
        }
        PanelAhead ahead;
        if (from != nullptr) {
          ahead = PanelAhead(from, from_bytes, block.rows_before + rows + block.rows_behind, tile_rows, deep);
          ahead.skip(block.rows_before / tile_rows);
        }
        tile.bias = args.finish.bias == nullptr ? nullptr : args.finish.bias + first_column + n;
        tile.slopes = args.finish.activation.slopes_from(first_column + n);
        float* c = args.c + block.row_begin * args.c_stride + first_column + n;
        const float* residual =
            !last || args.finish.residual == nullptr
                ? nullptr
                : args.finish.residual + block.row_begin * args.finish.residual_stride + first_column + n;
        if (args.conv == nullptr) {
          run_plain_rows(tile, rows, tile_rows, columns.vectors, a + k, args.a_stride, c, residual, ahead);
        } else {
          const float* const* pointers = table + t * kMaxTileRows;
          tile.taps = taps;
          tile.offset = k;
          for (std::int64_t r = 0; r < rows; pointers += args.taps * kMaxTileRows) {
            const std::int64_t count = next_tile_rows(rows - r, tile_rows);
            tile.rows = pointers;
            tile.c = c + r * args.c_stride;
            tile.residual = residual == nullptr ? nullptr : residual + r * tile.residual_stride;
            const bool fetches = ahead.next(tile.ahead, 1);
            find_tile<Rows::table>(static_cast<int>(count), columns.vectors, columns.tail, fetches)(tile);
            r += count;
          }
        }
        if (last && args.finish.program != nullptr) {
          run_finish_program(args.finish, c, args.c_stride, block.row_begin, block.row_end, first_column + n,
                             first_column + min(args.columns, n + panel_width));
        }
      }
    }
  }
}

void run(const GemmArgs& args, const Workers& workers) {
  if (args.rows <= 0 || args.columns <= 0) return;
  const std::int64_t tile_rows = args.tiling.tile_rows;
  const std::int64_t panels = ceil_div(args.columns, args.tiling.tile_vectors * kWidth);
  std::int64_t row_block = args.tiling.row_block;
  if (args.conv != nullptr) {
    const std::int64_t tile_table_bytes = args.taps * kMaxTileRows * static_cast<std::int64_t>(sizeof(float*));
    // Two tiles of the end share the rows of one to two, so one more may be needed.
    const std::int64_t tiles = static_cast<std::int64_t>(workers.scratch_bytes) / tile_table_bytes - 1;
    row_block = min(row_block, tiles * tile_rows);
  }
  const std::int64_t threads = workers.pool->num_threads();
  const std::int64_t work = args.rows * args.columns * args.depth * args.taps;
  if (const std::int64_t at_once = row_tile_panels(args); at_once > 0) {
    const std::int64_t share = threads == 1 || args.columns * args.depth < kSerialWeights ? 1 : threads;
    const std::int64_t parts = ceil_div(ceil_div(panels, at_once), share) * share;
    for_each_product_block(workers, args.groups, {1, 1, 1}, {panels, 1, min(panels, parts)},
                           [&](const ProductBlock& block, std::byte*) { run_panels(args, block); });
    return;
  }
  // A last block of a few rows would cost nearly as much as a whole one: round to the nearest number of blocks. With a
  // table, blocks must not grow.
  const std::int64_t rounding = args.conv != nullptr ? row_block - 1 : row_block / 2;
  std::int64_t row_parts = max(1, (args.rows + rounding) / row_block);
  ProductPieces pieces{panels, 1, 1, 1};
  if (threads > 1 && work >= kSerialWork) {
    // Where rows are more than weights, each thread has rows of its own: they are in its cache if the steps around
    // share alike, and a weight is read from a cache that all threads share.
    const std::int64_t activations = args.rows * (args.depth + args.columns);
    if (args.groups == 1 && activations > args.depth * args.taps * args.columns) {
      row_parts = min(ceil_div(args.rows, tile_rows), ceil_div(row_parts, threads) * threads);
    }
    pieces.shares = threads;
    while (pieces.parts < kMostParts && pieces.parts * (pieces.parts + 1) / 2 * kSmallestPart * threads < work) {
      ++pieces.parts;
    }
    const std::int64_t smallest = pieces.shares * pieces.parts * (pieces.parts + 1) / 2;
    const std::int64_t tiles = ceil_div(ceil_div(args.rows, row_parts), tile_rows);
    pieces.rows = min(ceil_div(smallest, args.groups * row_parts * panels), max(1, tiles / kFewestTiles));
    const std::int64_t all = args.groups * row_parts * panels * pieces.rows;
    pieces.shares = min(pieces.shares, all);
    pieces.parts = min(pieces.parts, all / pieces.shares);
  }
  for_each_product_piece(
      workers, args.groups, {args.rows, tile_rows, row_parts}, tile_rows, pieces,
      [&](const ProductBlock& block, std::byte* scratch) { run_block(args, block, threads, scratch); });
}

void run_batched(const BatchedGemmArgs& args, const Workers& workers) {
  if (args.rows <= 0 || args.columns <= 0 || args.batch <= 0) return;
  const std::int64_t tile_rows = args.tiling.tile_rows;
  const std::int64_t panel_width = args.tiling.tile_vectors * kWidth;
  const std::int64_t panels = ceil_div(args.columns, panel_width);
  const std::int64_t depth_block = max(1, min(args.depth, args.tiling.depth_block));
  const std::int64_t row_block = args.tiling.row_block;
  const std::int64_t threads = workers.pool->num_threads();

  // Half of the scratch holds packed panels, the other half a transposed block of A.
  const std::int64_t half = static_cast<std::int64_t>(workers.scratch_bytes / 2 / sizeof(float));
  const std::int64_t panels_that_fit = max(1, half / (depth_block * panel_width));
  const std::int64_t work = args.batch * args.rows * args.columns * args.depth;
  const std::int64_t wanted = threads == 1 || work < kSerialWork ? 1 : kItemsPerThread * threads;
  std::int64_t panel_parts = ceil_div(panels, panels_that_fit);
  if (args.batch * panel_parts < wanted) panel_parts = min(panels, ceil_div(wanted, args.batch));
  // Rows are split last: each part packs the same panels again.
  std::int64_t row_parts = 1;
  if (args.batch * panel_parts < threads) {
    row_parts = min(ceil_div(args.rows, 4 * tile_rows), ceil_div(threads, args.batch * panel_parts));
  }
  const Cut row_cut{args.rows, tile_rows, row_parts};
  const Cut panel_cut{panels, 1, panel_parts};

  for_each_product_block(workers, args.batch, row_cut, panel_cut, [&](const ProductBlock& block, std::byte* scratch) {
    const auto packed = reinterpret_cast<float*>(scratch);
    float* transposed = packed + half;
    const std::int64_t matrix = block.group, row_begin = block.row_begin, row_end = block.row_end;
    const std::int64_t panel_begin = block.panel_begin, panel_end = block.panel_end;
    const float* a = args.a;
    const float* b = args.b;
    std::int64_t rest = matrix;
    for (int axis = args.num_axes - 1; axis >= 0; --axis) {
      const std::int64_t index = rest % args.axis_dims[axis];
      rest /= args.axis_dims[axis];
      a += index * args.a_axis_strides[axis];
      b += index * args.b_axis_strides[axis];
    }
    float* c = args.c + matrix * args.c_matrix_stride;
    const std::int64_t first_row = matrix * args.rows;

    TileArgs tile{};
    tile.c_stride = args.c_stride;
    tile.residual_stride = args.finish.residual_stride;
    std::int64_t k = 0;
    do {  // once even for a depth of 0, whose sums are 0
      const std::int64_t depth = min(depth_block, args.depth - k);
      const bool last = k + depth == args.depth;
      tile.accumulates = k > 0;
      tile.activation = last ? &args.finish.activation : nullptr;
      tile.depth = depth;
      float* target = packed;
      for (std::int64_t p = panel_begin; p < panel_end; ++p) {
        const std::int64_t n = p * panel_width;
        const PanelColumns columns = panel_columns(args.columns - n, args.tiling.tile_vectors);
        const std::int64_t width = columns.vectors * kWidth;
        const std::int64_t count = min(width, args.columns - n);
        if (args.trans_b) {
          pack_transposed(b + n * args.b_stride + k, args.b_stride, depth, count, width, target);
        } else {
          pack_straight(b + k * args.b_stride + n, args.b_stride, depth, count, width, target);
        }
        target += depth * width;
      }
      const std::int64_t most_rows = args.trans_a ? max(1, min(row_block, half / max(1, depth))) : row_block;
      for (std::int64_t r = row_begin; r < row_end; r += most_rows) {
        const std::int64_t rows = min(most_rows, row_end - r);
        const float* left = a + r * args.a_stride + k;
        std::int64_t left_stride = args.a_stride;
        if (args.trans_a) {
          transpose(a + k * args.a_stride + r, args.a_stride, depth, rows, transposed);
          left = transposed;
          left_stride = depth;
        }
        const float* panel = packed;
        for (std::int64_t p = panel_begin; p < panel_end; ++p) {
          const std::int64_t n = p * panel_width;
          const PanelColumns columns = panel_columns(args.columns - n, args.tiling.tile_vectors);
          tile.panel = panel;
          tile.tail = columns.tail;
          tile.bias = args.finish.bias == nullptr ? nullptr : args.finish.bias + n;
          tile.slopes = args.finish.activation.slopes_from(n);
          const float* residual = !last || args.finish.residual == nullptr
                                      ? nullptr
                                      : args.finish.residual + (first_row + r) * args.finish.residual_stride + n;
          run_plain_rows(tile, rows, static_cast<int>(tile_rows), columns.vectors, left, left_stride,
                         c + r * args.c_stride + n, residual);
          if (last && args.finish.program != nullptr) {
            run_finish_program(args.finish, c + r * args.c_stride + n, args.c_stride, first_row + r,
                               first_row + r + rows, n, min(args.columns, n + panel_width));
          }
          panel += depth * columns.vectors * kWidth;
        }
      }
      k += depth_block;
    } while (k < args.depth);
  });
}

}  // namespace

const GemmKernels kGemmKernels = {max_tile_rows, max_row_panels, run, run_lines, run_batched};

}  // namespace tenfold::cpu::TENFOLD_TIER
