#include "backend/cpu/kernels/strassen.hpp"

#include "backend/cpu/kernels/activation.hpp"
#include "backend/cpu/kernels/finish.hpp"
#include "backend/cpu/kernels/gemm_block.hpp"
#include "backend/cpu/kernels/product_blocks.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

constexpr std::int64_t kWidth = Vec::kWidth;
/// Every part of the panels makes the sums of A again: few parts.
constexpr std::int64_t kItemsPerThread = 2;

/// Rows of the sums lie so far apart that neighbours do not share sets of the first-level cache.
std::int64_t sums_stride(std::int64_t depth) {
  constexpr std::int64_t kSameSets = 512;
  const std::int64_t stride = ceil_div(depth, kLineFloats) * kLineFloats;
  return stride % kSameSets == 0 ? stride + kLineFloats : stride;
}

/// Of A: which sums the products need, in the order of the products; M3 and M4 take halves as they are.
struct Left {
  const float* data;
  std::int64_t stride;
};

/// The five sums of one vector of a row's halves, each `sums_size` floats behind the one before.
template <typename Load>
[[gnu::always_inline]] inline void add_quarters(const float* upper, const float* lower, std::int64_t depth, float* sums,
                                                std::int64_t sums_size, Load load) {
  const Vec a11 = load(upper), a12 = load(upper + depth), a21 = load(lower), a22 = load(lower + depth);
  (a11 + a22).store(sums);
  (a21 + a22).store(sums + sums_size);
  (a11 + a12).store(sums + 2 * sums_size);
  (a21 - a11).store(sums + 3 * sums_size);
  (a12 - a22).store(sums + 4 * sums_size);
}

/// Those of `rows` rows of a block's upper and lower half; writes up to the next whole vector.
void add_halves(const float* upper, const float* lower, std::int64_t stride, std::int64_t rows, std::int64_t depth,
                float* sums, std::int64_t sums_size, std::int64_t sums_row) {
  const std::int64_t whole = depth / kWidth * kWidth;
  const int rest = static_cast<int>(depth - whole);
  for (std::int64_t i = 0; i < rows; ++i, upper += stride, lower += stride, sums += sums_row) {
    for (std::int64_t k = 0; k < whole; k += kWidth) {
      add_quarters(upper + k, lower + k, depth, sums + k, sums_size, [](const float* p) { return Vec::load(p); });
    }
    if (rest > 0) {
      add_quarters(upper + whole, lower + whole, depth, sums + whole, sums_size,
                   [rest](const float* p) { return Vec::load_first(p, rest); });
    }
  }
}

/// Where the four results of a row and a vector of columns go, and what is added to them.
struct Quarters {
  const float* products;     ///< [product][row][width]
  std::int64_t size, width;  ///< of one product
  float* c[2];               ///< upper and lower rows, left columns
  std::int64_t c_stride, right;
  const float* residual[2];  ///< nullptr: none
  std::int64_t residual_stride;
  const float* bias;  ///< nullptr: none
  const float* slopes;
  const Activation* activation;  ///< nullptr: not the last block of the depth
  bool accumulates;
};

/// One row of either half. The lower one may be another block's upper row: then it is not written.
void combine_row(const Quarters& q, std::int64_t row, bool writes_lower) {
  const float* m = q.products + row * q.width;
  float* const upper = q.c[0] + row * q.c_stride;
  float* const lower = q.c[1] + row * q.c_stride;
  const bool finishes = q.activation != nullptr;
  const auto load = [](const float* p) { return Vec::load(p); };
  for (std::int64_t j = 0; j < q.width; j += kWidth, m += kWidth) {
    const Vec m1 = Vec::load(m), m2 = Vec::load(m + q.size), m3 = Vec::load(m + 2 * q.size);
    const Vec m4 = Vec::load(m + 3 * q.size), m5 = Vec::load(m + 4 * q.size), m6 = Vec::load(m + 5 * q.size);
    const Vec m7 = Vec::load(m + 6 * q.size);
    Vec left[2] = {(m1 + m4) + (m7 - m5), m2 + m4}, right[2] = {m3 + m5, (m1 - m2) + (m3 + m6)};
    if (q.accumulates) {
      left[0] = left[0] + Vec::load(upper + j);
      left[1] = left[1] + Vec::load(lower + j);
      right[0] = right[0] + Vec::load(upper + q.right + j);
      right[1] = right[1] + Vec::load(lower + q.right + j);
    }
    if (finishes) {
      if (q.bias != nullptr) {
        const Vec bias_left = Vec::load(q.bias + j), bias_right = Vec::load(q.bias + q.right + j);
        for (int half = 0; half < 2; ++half) {
          left[half] = left[half] + bias_left;
          right[half] = right[half] + bias_right;
        }
      }
      if (q.residual[0] != nullptr) {
        for (int half = 0; half < 2; ++half) {
          const float* residual = q.residual[half] + row * q.residual_stride + j;
          left[half] = left[half] + Vec::load(residual);
          right[half] = right[half] + Vec::load(residual + q.right);
        }
      }
      activate(left, *q.activation, q.slopes == nullptr ? nullptr : q.slopes + j, load);
      activate(right, *q.activation, q.slopes == nullptr ? nullptr : q.slopes + q.right + j, load);
    }
    left[0].store(upper + j);
    right[0].store(upper + q.right + j);
    if (writes_lower) {
      left[1].store(lower + j);
      right[1].store(lower + q.right + j);
    }
  }
}

/// One work item: a block of rows x some panels.
void run_block(const GemmArgs& args, const ProductBlock& block, std::byte* scratch) {
  const FinishArgs& finish = args.finish;
  const std::int64_t rows = block.row_end - block.row_begin;
  // An odd number of rows: the middle one is in both halves, and written as one of the upper.
  const std::int64_t half_rows = ceil_div(rows, 2), lower_row = rows - half_rows;
  const std::int64_t half_columns = args.columns / 2;
  const std::int64_t panel_width = args.tiling.tile_vectors * kWidth;
  const float* a = args.a + block.row_begin * args.a_stride;
  TileArgs tile{};
  Quarters q{};
  q.c_stride = args.c_stride;
  q.right = half_columns;
  q.residual_stride = finish.residual_stride;
  for (std::int64_t k = 0; k < args.depth; k += args.tiling.depth_block) {
    const std::int64_t whole_depth = min(args.tiling.depth_block, args.depth - k), depth = whole_depth / 2;
    const bool last = k + whole_depth == args.depth;
    const std::int64_t row_floats = sums_stride(depth), sums_size = half_rows * row_floats;
    auto* sums = reinterpret_cast<float*>(scratch);
    float* products = sums + 5 * sums_size;
    const float* upper = a + k;
    const float* lower = upper + lower_row * args.a_stride;
    add_halves(upper, lower, args.a_stride, half_rows, depth, sums, sums_size, row_floats);
    const Left lefts[kStrassenProducts] = {
        {sums, row_floats},
        {sums + sums_size, row_floats},
        {upper, args.a_stride},
        {lower + depth, args.a_stride},
        {sums + 2 * sums_size, row_floats},
        {sums + 3 * sums_size, row_floats},
        {sums + 4 * sums_size, row_floats},
    };
    const auto panel_at = [&](std::int64_t panel) {
      const std::int64_t before = k / 2 * half_columns + panel * panel_width * depth;
      return args.panels + kStrassenProducts * before;
    };
    tile.depth = depth;
    tile.tail = static_cast<int>(kWidth);
    for (std::int64_t p = block.panel_begin; p < block.panel_end; ++p) {
      const std::int64_t n = p * panel_width;
      const std::int64_t width = min(panel_width, half_columns - n);
      q.products = products;
      q.width = width;
      q.size = half_rows * width;
      tile.c_stride = width;
      tile.panel = panel_at(p);
      for (std::int64_t i = 0; i < kStrassenProducts; ++i) {
        const std::int64_t floats = depth * width;
        // Within the block, what follows in memory follows in time.
        const bool is_inner = i + 1 < kStrassenProducts || p + 1 < block.panel_end;
        PanelAhead ahead;
        if (is_inner || (whole_depth == args.depth && block.next_panel >= 0)) {
          const float* next = is_inner ? tile.panel + floats : panel_at(block.next_panel);
          ahead = PanelAhead(next, kFloatBytes * floats, half_rows, args.tiling.tile_rows, depth);
        }
        run_plain_rows(tile, half_rows, args.tiling.tile_rows, static_cast<int>(width / kWidth), lefts[i].data,
                       lefts[i].stride, products + i * q.size, nullptr, ahead);
        tile.panel += floats;
      }
      q.accumulates = k > 0;
      q.activation = last ? &finish.activation : nullptr;
      q.bias = finish.bias == nullptr ? nullptr : finish.bias + n;
      q.slopes = finish.activation.slopes_from(n);
      for (int half = 0; half < 2; ++half) {
        const std::int64_t row = block.row_begin + half * lower_row;
        q.c[half] = args.c + row * args.c_stride + n;
        q.residual[half] = finish.residual == nullptr ? nullptr : finish.residual + row * finish.residual_stride + n;
      }
      for (std::int64_t r = 0; r < half_rows; ++r) combine_row(q, r, r > 0 || rows % 2 == 0);
      if (last && finish.program != nullptr) {
        for (const std::int64_t column : {n, half_columns + n}) {
          run_finish_program(finish, args.c + block.row_begin * args.c_stride + column, args.c_stride, block.row_begin,
                             block.row_end, column, column + width);
        }
      }
    }
  }
}

void run(const StrassenArgs& whole, const Workers& workers) {
  const GemmArgs& args = whole.product;
  if (args.rows <= 0 || args.columns <= 0) return;
  const std::int64_t rows = whole.sample_rows, samples = args.rows / rows;
  const std::int64_t grain = 2 * args.tiling.tile_rows;
  const std::int64_t panel_width = args.tiling.tile_vectors * kWidth;
  const std::int64_t panels = ceil_div(args.columns / 2, panel_width);
  // Sums and products of a block must fit in the scratch memory.
  const std::int64_t depth = min(args.depth, args.tiling.depth_block) / 2;
  const std::int64_t pair_bytes = (5 * sums_stride(depth) + kStrassenProducts * panel_width) * 4;
  const std::int64_t most_rows = 2 * (static_cast<std::int64_t>(workers.scratch_bytes) / pair_bytes) / grain * grain;
  std::int64_t row_parts = max(1, (rows + args.tiling.row_block / 2) / args.tiling.row_block);
  while (ceil_div(ceil_div(rows, grain), row_parts) * grain > most_rows) ++row_parts;
  const std::int64_t threads = workers.pool->num_threads();
  const std::int64_t wanted = threads == 1 ? 1 : kItemsPerThread * threads;
  const std::int64_t panel_parts = min(panels, max(1, ceil_div(wanted, samples * row_parts)));
  for_each_product_block(workers, samples, {rows, grain, row_parts},
                         {panels, 1, panel_parts, shares_of(threads, samples * row_parts, panel_parts)},
                         [&](ProductBlock block, std::byte* scratch) {
                           block.row_begin += block.group * rows;
                           block.row_end += block.group * rows;
                           run_block(args, block, scratch);
                         });
}

}  // namespace

const StrassenKernels kStrassenKernels = {run};

}  // namespace tenfold::cpu::TENFOLD_TIER
