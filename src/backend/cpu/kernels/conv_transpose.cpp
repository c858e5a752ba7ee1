#include "backend/cpu/kernels/conv_transpose.hpp"

#include "backend/cpu/kernels/finish.hpp"
#include "backend/cpu/kernels/gemm_block.hpp"
#include "backend/cpu/kernels/split.hpp"
#include "backend/cpu/kernels/workers.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

constexpr std::int64_t kWidth = Vec::kWidth;
constexpr std::int64_t kItemsPerThread = 4;

/// Pixels of an output axis with one phase: o = first + i * stride.
struct Phase {
  PhaseTaps taps;
  std::int64_t first, count;
  std::int64_t input;            ///< (first + pad) / stride; pixel i reads input + i - offset(number of the tap)
  std::int64_t offset, advance;  ///< of the first tap, and from tap to tap
  std::int64_t offset_of(std::int64_t tap) const { return offset + tap * advance; }
};

Phase phase_of(const ConvRows& g, int axis, std::int64_t phase) {
  const std::int64_t stride = g.stride[axis];
  Phase p;
  p.taps = phase_taps(phase, g.kernel[axis], stride, g.dilation[axis]);
  // The smallest o >= 0 with (o + pad) mod stride == phase.
  const std::int64_t pad = g.pad[axis];
  p.first = ((phase - pad) % stride + stride) % stride;
  p.count = p.first < g.out[axis] ? ceil_div(g.out[axis] - p.first, stride) : 0;
  p.input = (p.first + pad - phase) / stride;
  p.offset = (p.taps.first * g.dilation[axis] - phase) / stride;
  p.advance = p.taps.step * g.dilation[axis] / stride;
  return p;
}
struct Item {
  std::int64_t group, line_begin, line_end, panel_begin, panel_end;
};

/// One output line's pixels of one phase.
struct LinePhase {
  std::int64_t image, iz, iy;  ///< input coordinates before the taps' offsets
  std::int64_t y_pixel;        ///< index of its first output pixel
};

void run_line(const ConvTransposeArgs& args, const LinePhase& line, const Phase (&phase)[3], const float* panels,
              const Item& item, const float** scratch) {
  const ConvRows& g = args.geometry;
  const int tile_rows = args.tiling.tile_rows;
  const std::int64_t taps = phase[0].taps.count * phase[1].taps.count * phase[2].taps.count;
  const std::int64_t panel_width = args.tiling.tile_vectors * kWidth;
  const std::int64_t first_column = item.group * args.columns;
  const float* x = args.x + item.group * args.depth;

  // Rows whose inputs all lie inside the image are evenly spaced.
  std::int64_t inside_begin = 0, inside_end = phase[2].count;
  const auto keep_inside = [&](int axis, std::int64_t first, std::int64_t in) {
    for (std::int64_t i = 0; i < phase[axis].taps.count; ++i) {
      const std::int64_t from = first - phase[axis].offset_of(i);
      if (axis < 2 && (from < 0 || from >= in)) inside_end = 0;
      if (axis == 2) {
        inside_begin = max(inside_begin, -from);
        inside_end = min(inside_end, in - from);
      }
    }
  };
  keep_inside(0, line.iz, g.in[0]);
  keep_inside(1, line.iy, g.in[1]);
  keep_inside(2, phase[2].input, g.in[2]);

  /// The pointers of `rows` rows from row r on: [taps][step].
  const auto fill = [&](std::int64_t r, std::int64_t rows, std::int64_t step, const float** out) {
    for (std::int64_t tz = 0; tz < phase[0].taps.count; ++tz) {
      const std::int64_t iz = line.iz - phase[0].offset_of(tz);
      for (std::int64_t ty = 0; ty < phase[1].taps.count; ++ty) {
        const std::int64_t iy = line.iy - phase[1].offset_of(ty);
        const bool inside = 0 <= iz && iz < g.in[0] && 0 <= iy && iy < g.in[1];
        const std::int64_t row = ((line.image * g.in[0] + iz) * g.in[1] + iy) * g.in[2];
        for (std::int64_t tx = 0; tx < phase[2].taps.count; ++tx, out += step) {
          const std::int64_t ix0 = phase[2].input + r - phase[2].offset_of(tx);
          for (std::int64_t i = 0; i < rows; ++i) {
            const std::int64_t ix = ix0 + i;
            out[i] = inside && 0 <= ix && ix < g.in[2] ? x + (row + ix) * args.x_stride : g.zeros;
          }
        }
      }
    }
  };
  const float** inside_rows = scratch;  // of row inside_begin
  const float** table = scratch + taps;
  if (inside_begin < inside_end) fill(inside_begin, 1, 1, inside_rows);

  TileArgs tile{};
  tile.taps = taps;
  tile.depth = args.depth;
  tile.c_stride = args.y_stride * g.stride[2];
  tile.residual_stride = args.finish.residual_stride * g.stride[2];
  tile.activation = &args.finish.activation;
  tile.row_stride = args.x_stride;
  const int dot_columns = args.dots ? static_cast<int>(args.columns) : 0;
  for (std::int64_t r = 0; r < phase[2].count;) {
    bool is_even = inside_begin <= r && r < inside_end;
    std::int64_t count = next_tile_rows(phase[2].count - r, tile_rows);
    if (args.dots) {
      count = is_even ? next_dot_rows(inside_end - r, dot_columns) : 1;
    } else {
      is_even = is_even && r + count <= inside_end;
    }
    tile.more = 0;
    if (is_even) {
      tile.rows = inside_rows;
      tile.offset = (r - inside_begin) * args.x_stride;
      const std::int64_t fit = (inside_end - r) / count;
      tile.more = (args.dots ? fit : min(fit, equal_tiles(phase[2].count - r, tile_rows))) - 1;
    } else {
      fill(r, count, args.dots ? 1 : kMaxTileRows, table);
      tile.rows = table;
      tile.offset = 0;
    }
    const std::int64_t pixel = line.y_pixel + r * g.stride[2];
    for (std::int64_t p = item.panel_begin; p < item.panel_end; ++p) {
      const std::int64_t n = p * panel_width;
      const PanelColumns columns = panel_columns(args.columns - n, args.tiling.tile_vectors);
      const int rows = static_cast<int>(count);
      tile.panel = panels + n * taps * args.depth;
      tile.tail = columns.tail;
      tile.bias = args.finish.bias == nullptr ? nullptr : args.finish.bias + first_column + n;
      tile.slopes = args.finish.activation.slopes_from(first_column + n);
      tile.c = args.y + pixel * args.y_stride + first_column + n;
      tile.residual = args.finish.residual == nullptr
                          ? nullptr
                          : args.finish.residual + pixel * args.finish.residual_stride + first_column + n;
      const TileFunction run_tile = args.dots ? find_dot_tile(rows, dot_columns)
                                    : is_even ? find_tile<Rows::even>(rows, columns.vectors, columns.tail)
                                              : find_tile<Rows::table>(rows, columns.vectors, columns.tail);
      run_tile(tile);
    }
    r += count * (1 + tile.more);
  }
}

void run_item(const ConvTransposeArgs& args, const Item& item, const float** scratch) {
  const ConvRows& g = args.geometry;
  // Floats of one kernel position.
  const std::int64_t position = args.dots ? args.columns * ceil_div(args.depth, kDotLanes) * kDotLanes
                                          : args.depth * ceil_div(args.columns, kWidth) * kWidth;
  const float* panels = args.panels + item.group * position * g.kernel[0] * g.kernel[1] * g.kernel[2];
  std::int64_t index[3];
  Phase phase[3];
  for (index[0] = 0; index[0] < g.stride[0]; ++index[0]) {
    phase[0] = phase_of(g, 0, index[0]);
    for (index[1] = 0; index[1] < g.stride[1]; ++index[1]) {
      phase[1] = phase_of(g, 1, index[1]);
      for (index[2] = 0; index[2] < g.stride[2]; ++index[2]) {
        phase[2] = phase_of(g, 2, index[2]);
        for (std::int64_t l = item.line_begin; l < item.line_end; ++l) {
          const std::int64_t oy = l % g.out[1], oz = l / g.out[1] % g.out[0], image = l / g.out[1] / g.out[0];
          if ((oy + g.pad[1]) % g.stride[1] != index[1] || (oz + g.pad[0]) % g.stride[0] != index[0]) continue;
          const LinePhase line{image, (oz + g.pad[0]) / g.stride[0], (oy + g.pad[1]) / g.stride[1],
                               l * g.out[2] + phase[2].first};
          run_line(args, line, phase, panels, item, scratch);
        }
        panels += position * phase[0].taps.count * phase[1].taps.count * phase[2].taps.count;
      }
    }
  }
  if (args.finish.program != nullptr) {
    const std::int64_t panel_width = args.tiling.tile_vectors * kWidth;
    const std::int64_t begin = item.group * args.columns + item.panel_begin * panel_width;
    const std::int64_t end = item.group * args.columns + min(args.columns, item.panel_end * panel_width);
    const std::int64_t row = item.line_begin * g.out[2];
    run_finish_program(args.finish, args.y + row * args.y_stride + begin, args.y_stride, row, item.line_end * g.out[2],
                       begin, end);
  }
}

void run(const ConvTransposeArgs& args, const Workers& workers) {
  const ConvRows& g = args.geometry;
  const std::int64_t lines = g.batch * g.out[0] * g.out[1];
  if (lines <= 0 || g.out[2] <= 0 || args.columns <= 0) return;
  const std::int64_t threads = workers.pool->num_threads();
  const std::int64_t panels = ceil_div(args.columns, args.tiling.tile_vectors * kWidth);
  // Lines of one item reuse the panels of each phase; `row_block` output pixels is the aim.
  std::int64_t line_parts = max(1, lines * g.out[2] / max(1, args.tiling.row_block * g.stride[1] * g.stride[2]));
  const std::int64_t wanted = threads == 1 ? 1 : kItemsPerThread * threads;
  line_parts = min(lines, max(line_parts, ceil_div(wanted, args.groups)));
  const std::int64_t panel_parts = min(panels, ceil_div(wanted, args.groups * line_parts));
  for_each_item(workers, args.groups * line_parts * panel_parts, [&](std::int64_t i, std::byte* scratch) {
    const std::int64_t panel_part = i % panel_parts, line_part = i / panel_parts % line_parts;
    const Item item{i / panel_parts / line_parts, lines * line_part / line_parts, lines * (line_part + 1) / line_parts,
                    panels * panel_part / panel_parts, panels * (panel_part + 1) / panel_parts};
    run_item(args, item, reinterpret_cast<const float**>(scratch));
  });
}

}  // namespace

const ConvTransposeKernels kConvTransposeKernels = {run};

}  // namespace tenfold::cpu::TENFOLD_TIER
