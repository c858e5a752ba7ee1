// Every work item is a band of output lines. A line is asked of the last stage, which asks the stage before it for the
// lines under its window, and so on: each stage keeps as many lines as the next one's window is high, in a ring, so the
// lines between the stages never leave the cache. Depthwise stages compute several lines at once, which load what their
// windows share once. A thread goes on where its last band ended; other bands compute the lines at their seams twice.
#include "backend/cpu/kernels/conv_chain.hpp"

#include <new>
#include <type_traits>

#include "backend/cpu/kernels/depthwise_line.hpp"
#include "backend/cpu/kernels/line_block.hpp"
#include "backend/cpu/kernels/workers.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

constexpr std::int64_t kWidth = Vec::kWidth;
/// A thread's share of the lines is cut into so many bands that grow smaller, so that threads end together; but the
/// lowest must pay for the lines at its seam if another thread takes it.
constexpr std::int64_t kMostBands = 6, kFewestLines = 3;

/// How many lines each stage computes at once, what that takes, and what else all bands share.
class ChainLines {
 public:
  /// As many as pay, if they fit in the scratch memory, else one.
  ChainLines(const ConvChainArgs& args, std::size_t scratch_bytes) : args_(args) {
    for (int s = 0; s < args.num_stages; ++s) {
      const ChainStage& stage = args.stages[s];
      if (stage.kind != ChainStage::Kind::depthwise) continue;
      // The next stage must be through with all lines before new ones take their place.
      const bool one_by_one = s + 1 == args.num_stages || args.stages[s + 1].kind == ChainStage::Kind::product;
      if (one_by_one) blocks_[s] = find_depthwise_blocks(stage.geometry);
    }
    if (bytes() > scratch_bytes) {
      for (DepthwiseBlocks& blocks : blocks_) blocks = {};
    }
    const ChainStage& first = args.stages[0];
    window_.depth = first.depth;
    window_.columns = first.columns;
    window_.a = args.x;
    window_.a_stride = args.x_stride;
    window_.conv = &first.geometry;
    window_.panels = first.weights;
    window_.c_stride = first.columns;
    window_.finish = first.finish;
    window_.tiling = first.tiling;
  }
  /// A first stage with a window as a product.
  const GemmArgs& window() const { return window_; }
  const DepthwiseBlocks& blocks(int s) const { return blocks_[s]; }
  /// Lines that stage s keeps for the next one.
  std::int64_t ring(int s) const {
    const ConvRows& next = args_.stages[s + 1].geometry;
    const std::int64_t under_window = (next.kernel[1] - 1) * next.dilation[1] + 1;
    return max(blocks_[s].lines, under_window + (blocks_[s + 1].lines - 1) * next.stride[1]);
  }
  /// Their size, rounded up to whole cache lines.
  std::int64_t floats(int s) const {
    const ChainStage& stage = args_.stages[s];
    return ceil_div(ring(s) * stage.geometry.out[2] * stage.columns, kLineFloats) * kLineFloats;
  }
  /// Input lines of a first stage with a window.
  static std::int64_t window_floats(const ChainStage& stage) {
    return ceil_div(chain_window_floats(stage.geometry, stage.depth), kWidth) * kWidth;
  }

 private:
  std::size_t bytes() const {
    std::int64_t floats_of_all = 0, pointers = 0;
    for (int s = 0; s < args_.num_stages; ++s) {
      const ChainStage& stage = args_.stages[s];
      const ConvRows& g = stage.geometry;
      if (s + 1 < args_.num_stages) floats_of_all += floats(s);
      if (stage.kind == ChainStage::Kind::window) floats_of_all += window_floats(stage);
      if (stage.kind == ChainStage::Kind::depthwise) {
        const std::int64_t rows = g.kernel[1] + (blocks_[s].lines - 1) * g.stride[1];
        pointers = max(pointers, rows * depthwise_table_width(g, kDepthwiseLine));
      }
    }
    return kChainStateBytes + static_cast<std::size_t>(floats_of_all) * sizeof(float) +
           static_cast<std::size_t>(pointers) * sizeof(float*);
  }

  const ConvChainArgs& args_;
  DepthwiseBlocks blocks_[ConvChainArgs::kMaxStages];
  GemmArgs window_;
};

class Band {
 public:
  /// Output lines from `begin` on of an image.
  Band(const ConvChainArgs& args, const ChainLines& plan, std::int64_t image, std::int64_t begin, std::byte* scratch)
      : args_(args), plan_(plan), image_(image) {
    auto* memory = reinterpret_cast<float*>(scratch);
    for (int s = args.num_stages - 1; s >= 0; --s) {
      Lines& lines = lines_[s];
      if (s + 1 == args.num_stages) {
        lines.next = begin;
        continue;
      }
      lines.next = max(0, first_input(s + 1, lines_[s + 1].next));
      lines.ring = plan.ring(s);
      lines.memory = memory;
      memory += plan.floats(s);
    }
    const ChainStage& first = args.stages[0];
    if (first.kind == ChainStage::Kind::window) {
      block_ = LineBlock(plan.window(), 0, 0, first.geometry.out[2], reinterpret_cast<std::byte*>(memory));
      memory += ChainLines::window_floats(first);
    }
    table_ = reinterpret_cast<const float**>(memory);
  }

  /// Is this the next line that it would compute?
  bool is_next(std::int64_t image, std::int64_t line) const {
    return image == image_ && line == lines_[args_.num_stages - 1].next;
  }
  /// Computes the lines before `end`.
  void run_to(std::int64_t end) {
    const int last = args_.num_stages - 1;
    lines_[last].end = end;
    for (int s = last; s > 0; --s) lines_[s - 1].end = end_of_input(s, lines_[s].end - 1);
    while (lines_[last].next < end) run_next(last);
  }

 private:
  /// The next output line of stage s, or the next ones.
  void run_next(int s) {
    const ChainStage& stage = args_.stages[s];
    const ConvRows& g = stage.geometry;
    const DepthwiseBlocks& blocks = plan_.blocks(s);
    const std::int64_t line = lines_[s].next;
    const int count = next_depthwise_lines(lines_[s].end - line, blocks.lines);
    lines_[s].next += count;
    lines_[s].block = line;
    const float* in = args_.x + image_ * g.in[1] * g.in[2] * args_.x_stride;
    std::int64_t in_stride = args_.x_stride, ring = g.in[1];
    if (s > 0) {
      Lines& before = lines_[s - 1];
      const std::int64_t to = end_of_input(s, line + count - 1);
      while (before.next < to) run_next(s - 1);
      in = before.memory;
      in_stride = stage.depth;
      ring = before.ring;
    }
    const bool last = s + 1 == args_.num_stages;
    const std::int64_t pixel = (image_ * g.out[1] + line) * g.out[2];
    float* out = last ? args_.y + pixel * args_.y_stride : place(s, line);
    const std::int64_t out_stride = last ? args_.y_stride : stage.columns;
    if (stage.kind == ChainStage::Kind::window) {
      const std::int64_t width = stage.tiling.tile_vectors * kWidth;
      block_.run(image_ * g.out[1] + line, out, 0, (stage.columns + width - 1) / width);
    } else if (stage.kind == ChainStage::Kind::depthwise) {
      DepthwiseArgs args;
      args.geometry = g;
      args.channels = stage.columns;
      args.x_stride = in_stride;
      args.weights = stage.weights;
      args.weights_stride = stage.weights_stride;
      args.y_stride = out_stride;
      args.finish = stage.finish;
      run_depthwise_lines(args, blocks, {in, ring, line, out, pixel}, count, table_);
    } else {
      run_product(stage, s > 0 ? place(s - 1, line) : in + line * g.in[2] * in_stride, in_stride, out, out_stride,
                  pixel);
    }
  }

  struct Lines {
    std::int64_t next = 0, end = 0;  ///< the band needs no lines from `end` on
    std::int64_t ring = 0;           ///< so many are in memory, see `place`
    std::int64_t block = 0;          ///< the first of those that were computed at once
    float* memory = nullptr;
  };

  /// Where line `line` of stage s lies. Lines that are computed at once lie one behind the other.
  float* place(int s, std::int64_t line) const {
    const ChainStage& stage = args_.stages[s];
    const Lines& lines = lines_[s];
    const std::int64_t slot = plan_.blocks(s).lines > 1 ? line - lines.block : line % lines.ring;
    return lines.memory + slot * stage.geometry.out[2] * stage.columns;
  }

  std::int64_t first_input(int s, std::int64_t line) const {
    const ConvRows& g = args_.stages[s].geometry;
    return line * g.stride[1] - g.pad[1];
  }
  /// Behind the last input line that stage s reads for a line.
  std::int64_t end_of_input(int s, std::int64_t line) const {
    const ConvRows& g = args_.stages[s].geometry;
    return min(g.in[1], first_input(s, line) + (g.kernel[1] - 1) * g.dilation[1] + 1);
  }

  static void run_product(const ChainStage& stage, const float* in, std::int64_t in_stride, float* out,
                          std::int64_t out_stride, std::int64_t first_row) {
    const FinishArgs& finish = stage.finish;
    const std::int64_t rows = stage.geometry.out[2];
    TileArgs tile{};
    tile.c_stride = out_stride;
    tile.residual_stride = finish.residual_stride;
    tile.activation = &finish.activation;
    tile.depth = stage.depth;
    for (std::int64_t n = 0; n < stage.columns; n += stage.tiling.tile_vectors * kWidth) {
      const PanelColumns columns = panel_columns(stage.columns - n, stage.tiling.tile_vectors);
      tile.panel = stage.weights + n * stage.depth;
      tile.tail = columns.tail;
      tile.bias = finish.bias == nullptr ? nullptr : finish.bias + n;
      tile.slopes = finish.activation.slopes_from(n);
      const float* residual =
          finish.residual == nullptr ? nullptr : finish.residual + first_row * finish.residual_stride + n;
      run_plain_rows(tile, rows, stage.tiling.tile_rows, columns.vectors, in, in_stride, out + n, residual);
      if (finish.program != nullptr) {
        run_finish_program(finish, out + n, out_stride, first_row, first_row + rows, n,
                           min(stage.columns, n + columns.vectors * kWidth));
      }
    }
  }

  const ConvChainArgs& args_;
  const ChainLines& plan_;
  std::int64_t image_;
  Lines lines_[ConvChainArgs::kMaxStages];
  const float** table_;
  LineBlock block_;  ///< of a first stage with a window
};

/// What a thread keeps at the beginning of its scratch memory from one part of a job to the next.
struct Held {
  bool has_band;
  alignas(Band) std::byte band[sizeof(Band)];

  static Held& at(std::byte* scratch) { return *reinterpret_cast<Held*>(scratch); }
  Band& get() { return *std::launder(reinterpret_cast<Band*>(band)); }
};
static_assert(sizeof(Held) <= kChainStateBytes && kChainStateBytes % kLineBytes == 0);
static_assert(std::is_trivially_destructible_v<Band>);

void run(const ConvChainArgs& args, const Workers& workers) {
  const ConvRows& g = args.stages[args.num_stages - 1].geometry;
  if (g.batch <= 0 || g.out[1] <= 0 || g.out[2] <= 0) return;
  const std::int64_t threads = workers.pool->num_threads(), lines = g.batch * g.out[1];
  std::int64_t bands = 1;
  while (bands < kMostBands && threads * (bands + 1) * (bands + 2) / 2 * kFewestLines <= lines) ++bands;
  const std::int64_t parts = threads == 1 ? 1 : min(lines, threads * bands);
  const Cut cut{lines, 1, parts, shares_of(threads, 1, parts)};
  const ChainLines plan(args, workers.scratch_bytes);
  for (std::int64_t t = 0; t < threads; ++t) {
    Held::at(workers.scratch + static_cast<std::size_t>(t) * workers.scratch_bytes).has_band = false;
  }
  for_each_item(workers, parts, [&](std::int64_t part, std::byte* scratch) {
    Held& held = Held::at(scratch);
    const std::int64_t end = cut.begin(part + 1);
    for (std::int64_t line = cut.begin(part); line < end;) {
      const std::int64_t image = line / g.out[1], first = image * g.out[1];
      if (!held.has_band || !held.get().is_next(image, line - first)) {
        new (held.band) Band(args, plan, image, line - first, scratch + kChainStateBytes);
        held.has_band = true;
      }
      held.get().run_to(min(end - first, g.out[1]));
      line = min(end, first + g.out[1]);
    }
  });
}

}  // namespace

extern const ConvChainKernels kConvChainKernels;
const ConvChainKernels kConvChainKernels = {run};

}  // namespace tenfold::cpu::TENFOLD_TIER
