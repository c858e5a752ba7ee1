// Convolutions whose kernel lines are taken as one tap each, kernel[2] * depth long: channels-last, the positions of a
// line are neighbours in memory. (Of a dilated line each position is a tap.) Some output pixels of a line are computed
// at once; the input lines that they need are copied with zeros outside the image, so that the windows of neighbouring
// pixels begin a fixed distance apart and a register tile needs no table. An input line inside the image is read in
// place, and a copy serves all the output lines of a work item that need it. Of an image that lies in planes the copy
// has the channels last.
#pragma once

#include "backend/cpu/kernels/finish.hpp"
#include "backend/cpu/kernels/gemm_block.hpp"
#include "backend/cpu/kernels/interleave.hpp"
#include "backend/cpu/kernels/split.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

inline void copy_floats(const float* from, float* to, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + Vec::kWidth <= count; i += Vec::kWidth) Vec::load(from + i).store(to + i);
  const int rest = static_cast<int>(count - i);
  if (rest > 0) Vec::load_first(from + i, rest).store_first(to + i, rest);
}
inline void clear_floats(float* to, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + Vec::kWidth <= count; i += Vec::kWidth) Vec::zero().store(to + i);
  if (i < count) Vec::zero().store_first(to + i, static_cast<int>(count - i));
}

/// A run of output pixels of one line after the other, for some panels of one group.
class LineBlock {
 public:
  LineBlock() = default;
  /// `args` must outlive it. `scratch`: see line_block_bytes.
  LineBlock(const GemmArgs& args, std::int64_t group, std::int64_t begin, std::int64_t count, std::byte* scratch)
      : args_(&args),
        g_(args.conv),
        group_(group),
        begin_(begin),
        count_(count),
        taps_(g_->kernel[0] * g_->kernel[1]),
        first_(begin * g_->stride[2] - g_->pad[2]),
        span_((count - 1) * g_->stride[2] + (g_->kernel[2] - 1) * g_->dilation[2] + 1),
        positions_(g_->dilation[2] == 1 ? 1 : g_->kernel[2]),
        table_(reinterpret_cast<const float**>(scratch)),
        held_(reinterpret_cast<std::int64_t*>(scratch) + taps_ * positions_),
        copies_(reinterpret_cast<float*>(held_ + taps_)) {
    reads_in_place_ = g_->plane == 0 && args.a_stride == args.depth && first_ >= 0 && first_ + span_ <= g_->in[2];
    for (std::int64_t t = 0; t < taps_; ++t) held_[t] = -1;
  }

  /// Output line `line` counts over the batch and the outer axes; its pixels go to `line_c`.
  void run(std::int64_t line, float* line_c, std::int64_t panel_begin, std::int64_t panel_end) {
    find_taps(line);
    TileArgs tile{};
    tile.rows = table_;
    tile.row_stride = g_->stride[2] * args_->depth;
    tile.taps = taps_ * positions_;
    tile.depth = g_->kernel[2] / positions_ * args_->depth;
    tile.c_stride = args_->c_stride;
    tile.residual_stride = args_->finish.residual_stride;
    tile.activation = &args_->finish.activation;
    if (args_->dots) return run_dots(tile, line, line_c);
    const std::int64_t padded = ceil_div(args_->columns, Vec::kWidth) * Vec::kWidth;
    const std::int64_t window = taps_ * g_->kernel[2] * args_->depth;
    const float* panels = args_->panels + group_ * padded * window;
    const std::int64_t first_pixel = line * g_->out[2] + begin_;
    for (std::int64_t p = panel_begin; p < panel_end; ++p) {
      const std::int64_t n = p * args_->tiling.tile_vectors * Vec::kWidth;
      const PanelColumns columns = panel_columns(args_->columns - n, args_->tiling.tile_vectors);
      const std::int64_t column = group_ * args_->columns + n;
      tile.panel = panels + n * window;
      tile.tail = columns.tail;
      tile.bias = args_->finish.bias == nullptr ? nullptr : args_->finish.bias + column;
      tile.slopes = args_->finish.activation.slopes_from(column);
      float* c = line_c + begin_ * args_->c_stride + column;
      const float* residual = args_->finish.residual == nullptr
                                  ? nullptr
                                  : args_->finish.residual + first_pixel * args_->finish.residual_stride + column;
      for (std::int64_t r = 0; r < count_;) {
        const std::int64_t rows = next_tile_rows(count_ - r, args_->tiling.tile_rows);
        tile.offset = r * tile.row_stride;
        tile.c = c + r * args_->c_stride;
        tile.residual = residual == nullptr ? nullptr : residual + r * args_->finish.residual_stride;
        tile.more = equal_tiles(count_ - r, args_->tiling.tile_rows) - 1;
        find_tile<Rows::even>(static_cast<int>(rows), columns.vectors, columns.tail)(tile);
        r += rows * (1 + tile.more);
      }
      if (args_->finish.program != nullptr) {
        const std::int64_t end = group_ * args_->columns + min(args_->columns, n + columns.vectors * Vec::kWidth);
        run_finish_program(args_->finish, c, args_->c_stride, first_pixel, first_pixel + count_, column, end);
      }
    }
  }

 private:
  /// All columns of the group; they are few. `tile` lacks what depends on the row.
  void run_dots(TileArgs& tile, std::int64_t line, float* line_c) {
    const std::int64_t padded = ceil_div(tile.depth, kDotLanes) * kDotLanes;
    const std::int64_t column = group_ * args_->columns;
    const std::int64_t first_pixel = line * g_->out[2] + begin_;
    const FinishArgs& finish = args_->finish;
    tile.panel = args_->panels + column * tile.taps * padded;
    tile.bias = finish.bias == nullptr ? nullptr : finish.bias + column;
    tile.slopes = finish.activation.slopes_from(column);
    float* c = line_c + begin_ * args_->c_stride + column;
    for (std::int64_t r = 0; r < count_;) {
      const int rows = next_dot_rows(count_ - r, static_cast<int>(args_->columns));
      tile.offset = r * tile.row_stride;
      tile.c = c + r * args_->c_stride;
      tile.residual =
          finish.residual == nullptr ? nullptr : finish.residual + (first_pixel + r) * finish.residual_stride + column;
      tile.more = (count_ - r) / rows - 1;
      find_dot_tile(rows, static_cast<int>(args_->columns))(tile);
      r += rows * (1 + tile.more);
    }
    if (finish.program != nullptr) {
      run_finish_program(finish, c, args_->c_stride, first_pixel, first_pixel + count_, column,
                         column + args_->columns);
    }
  }

  void find_taps(std::int64_t line) {
    const std::int64_t oy = line % g_->out[1], oz = line / g_->out[1] % g_->out[0],
                       image = line / g_->out[1] / g_->out[0];
    for (std::int64_t kz = 0; kz < g_->kernel[0]; ++kz) {
      const std::int64_t iz = oz * g_->stride[0] - g_->pad[0] + kz * g_->dilation[0];
      for (std::int64_t ky = 0; ky < g_->kernel[1]; ++ky) {
        const std::int64_t iy = oy * g_->stride[1] - g_->pad[1] + ky * g_->dilation[1];
        const std::int64_t t = kz * g_->kernel[1] + ky;
        const bool inside = 0 <= iz && iz < g_->in[0] && 0 <= iy && iy < g_->in[1];
        if (!inside) {
          table_[t * positions_] = nullptr;
          continue;
        }
        const std::int64_t in_line = (image * g_->in[0] + iz) * g_->in[1] + iy;
        if (reads_in_place_) {
          table_[t * positions_] = args_->a + (in_line * g_->in[2] + first_) * args_->a_stride;
        } else {
          // Lines in turn keep their place while the window moves on by less than its own height.
          table_[t * positions_] = copied(in_line, g_->kernel[0] == 1 && g_->dilation[1] == 1 ? iy % taps_ : t);
        }
      }
    }
    // Behind all others, so that the zeros take a place that no line of this window needs.
    const float* zeros = nullptr;
    for (std::int64_t t = 0; t < taps_; ++t) {
      if (table_[t * positions_] != nullptr) continue;
      if (zeros == nullptr) zeros = zero_line();
      table_[t * positions_] = zeros;
    }
    for (std::int64_t t = 0; t < taps_ * positions_; ++t) {
      const std::int64_t position = t % positions_;
      table_[t] = table_[t - position] + position * g_->dilation[2] * args_->depth;
    }
  }

  float* place(std::int64_t slot) { return copies_ + slot * span_ * args_->depth; }

  const float* copied(std::int64_t in_line, std::int64_t slot) {
    float* to = place(slot);
    if (held_[slot] == in_line) return to;
    held_[slot] = in_line;
    const std::int64_t depth = args_->depth;
    const std::int64_t left = min(span_, max(0, -first_));
    const std::int64_t right = max(left, min(span_, g_->in[2] - first_));
    clear_floats(to, left * depth);
    const float* from = args_->a + in_line * g_->in[2] * args_->a_stride + group_ * depth;
    if (g_->plane != 0) {
      const std::int64_t lines = g_->in[0] * g_->in[1];
      const float* planes = args_->a + in_line / lines * depth * g_->plane + in_line % lines * g_->in[2];
      interleave(planes + first_ + left, g_->plane, to + left * depth, depth, right - left);
    } else if (args_->a_stride == depth) {
      copy_floats(from + (first_ + left) * depth, to + left * depth, (right - left) * depth);
    } else {
      for (std::int64_t i = left; i < right; ++i) {
        copy_floats(from + (first_ + i) * args_->a_stride, to + i * depth, depth);
      }
    }
    clear_floats(to + right * depth, (span_ - right) * depth);
    return to;
  }

  const float* zero_line() {
    float* zeros = place(taps_);
    if (!has_zeros_) clear_floats(zeros, span_ * args_->depth);
    has_zeros_ = true;
    return zeros;
  }

  const GemmArgs* args_ = nullptr;
  const ConvRows* g_ = nullptr;
  std::int64_t group_ = 0, begin_ = 0, count_ = 0, taps_ = 0;
  std::int64_t first_ = 0, span_ = 0;  ///< input pixels of a line, from which one on; maybe outside the image
  std::int64_t positions_ = 0;         ///< taps of a line
  const float** table_ = nullptr;      ///< [taps][positions]
  std::int64_t* held_ = nullptr;       ///< which input line each copy holds
  float* copies_ = nullptr;            ///< [taps + 1][span][depth], zeros last
  bool reads_in_place_ = false;
  bool has_zeros_ = false;
};

}  // namespace tenfold::cpu::TENFOLD_TIER
