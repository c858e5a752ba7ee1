// Convolutions by lines, see line_block.hpp: how lines and pixels are spread over threads.
#include "backend/cpu/kernels/line_block.hpp"
#include "backend/cpu/kernels/workers.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

constexpr std::int64_t kWidth = Vec::kWidth;
constexpr std::int64_t kItemsPerThread = 4;

}  // namespace

void run_lines(const GemmArgs& args, const Workers& workers) {
  const ConvRows& g = *args.conv;
  if (args.rows <= 0 || args.columns <= 0) return;
  const std::int64_t threads = workers.pool->num_threads();
  const std::int64_t tile_rows = args.tiling.tile_rows;
  const std::int64_t lines = g.batch * g.out[0] * g.out[1];
  const std::int64_t panels = ceil_div(args.columns, args.tiling.tile_vectors * kWidth);
  // As many pixels of a line at once as have room for what they read.
  const std::int64_t taps = g.kernel[0] * g.kernel[1], reach = (g.kernel[2] - 1) * g.dilation[2] + 1;
  const std::int64_t room = (static_cast<std::int64_t>(workers.scratch_bytes) / 8 - (1 + g.kernel[2]) * taps) * 2;
  const std::int64_t fitting = (room / ((taps + 1) * args.depth) - reach) / g.stride[2] + 1;
  std::int64_t x_parts = ceil_div(g.out[2], max(1, min(args.tiling.row_block, fitting)));
  const std::int64_t wanted = threads == 1 ? 1 : kItemsPerThread * threads;
  const std::int64_t line_parts = min(lines, max(1, ceil_div(wanted, args.groups * x_parts)));
  if (args.groups * line_parts * x_parts < wanted) {
    x_parts = max(x_parts, min(ceil_div(g.out[2], tile_rows), ceil_div(wanted, args.groups * line_parts)));
  }
  const std::int64_t panel_parts = min(panels, max(1, ceil_div(wanted, args.groups * line_parts * x_parts)));
  const Cut x_cut{g.out[2], 1, x_parts}, line_cut{lines, 1, line_parts, shares_of(threads, args.groups, line_parts)};
  // Neighbouring parts of a line follow each other, so that every thread gets a band of whole lines.
  for_each_item(workers, args.groups * line_parts * x_parts * panel_parts, [&](std::int64_t item, std::byte* scratch) {
    const std::int64_t panel_part = item % panel_parts;
    const std::int64_t x_part = item / panel_parts % x_parts;
    const std::int64_t line_part = item / panel_parts / x_parts % line_parts;
    const std::int64_t group = item / panel_parts / x_parts / line_parts;
    const std::int64_t begin = x_cut.begin(x_part), count = x_cut.begin(x_part + 1) - begin;
    if (count <= 0) return;
    LineBlock block(args, group, begin, count, scratch);
    const std::int64_t end = line_cut.begin(line_part + 1);
    for (std::int64_t line = line_cut.begin(line_part); line < end; ++line) {
      block.run(line, args.c + line * g.out[2] * args.c_stride, panels * panel_part / panel_parts,
                panels * (panel_part + 1) / panel_parts);
    }
  });
}

}  // namespace tenfold::cpu::TENFOLD_TIER
