// Depthwise convolutions of 8-bit integers, exact: lines of the image lie side by side in a lane.
//
// A block of channels is what one register holds as bytes. Vector v, lane l of it is of channel depthwise_channel(v,
// l).
//
// With the processor's instruction for quads, four neighbouring lines of each column are the four bytes of a lane, once
// for all kernel columns and for two lines of results, whose weights are shifted by one byte:  w0 w1 w2 0  and
// 0 w0 w1 w2. Without it two lines are the two 16-bit numbers of a lane, and the same weights are made wide, once for
// some lines of results. These advance by two lines of the image where possible: then only the last pair is new.
#include "backend/cpu/kernels/byte_finish.hpp"
#include "backend/cpu/kernels/byte_kernels.hpp"
#include "backend/cpu/kernels/depthwise.hpp"
#include "backend/cpu/kernels/gemm_block.hpp"
#include "backend/cpu/kernels/workers.hpp"

namespace tenfold::cpu::TENFOLD_TIER {
namespace {

constexpr int kVectors = 4;
constexpr std::int64_t kWidth = Ints::kWidth;
constexpr std::int64_t kBlock = Ints::kBytes;
static_assert(kBlock == depthwise_block(Vec::kWidth));

/// A piece of one or two lines of results, for one block of channels.
struct Piece {
  const ByteDepthwiseArgs* args;
  const std::uint8_t* quads;  ///< [column][quad][vector][kBytes]
  std::int64_t num_quads;
  const std::int8_t* weights;        ///< of the block
  const std::uint8_t* pairs;         ///< [slot][vector][column][kBytes]
  std::int64_t vector_bytes;         ///< from vector to vector of them
  const std::int64_t* steps;         ///< [pair][kernel column]: where in `pairs` the first pixel's numbers are
  std::int64_t num_steps;            ///< pairs * kernel columns
  const std::uint8_t* wide_weights;  ///< [vector][step][line of the tile][kBytes]
  const ByteLimits* limits;
  const std::int32_t* start;
  const float* scale;  ///< nullptr: the sums themselves are stored, as floats
  const float* offset;
  std::uint8_t* y;           ///< of the piece's first pixel and the block's first channel
  std::int64_t pixel_bytes;  ///< from pixel to pixel of y
  std::int64_t line_bytes;
  std::int64_t channels;  ///< of the block: 1 .. kBlock
};

Piece piece_of(const ByteDepthwiseArgs& args, std::int64_t block) {
  const std::int64_t channel = block * kBlock;
  const bool has_program = args.finish.program.program != nullptr;
  Piece piece{};
  piece.args = &args;
  piece.start = args.start + channel;
  piece.scale = has_program ? nullptr : args.finish.scale + channel;
  piece.offset = has_program ? nullptr : args.finish.offset + channel;
  piece.channels = min(kBlock, args.channels - channel);
  return piece;
}

/// Where a piece's results begin. `channel`: of the block.
std::uint8_t* results_at(const ByteDepthwiseArgs& args, std::int64_t image, std::int64_t line, std::int64_t first,
                         std::int64_t channel) {
  const ConvRows& g = args.geometry;
  const std::int64_t row = (image * g.out[1] + line) * g.out[2] + first;
  return static_cast<std::uint8_t*>(args.y) + (row * args.y_stride + channel) * bytes_of(args.finish.result);
}

/// A program's sums come first, [line][kDepthwiseLine][kBlock].
constexpr std::int64_t kProgramSums = 2 * kDepthwiseLine * kBlock;

/// Sets where the piece at pixel `first` of output line `line` goes: to the results, or to `sums` for a program.
void place(Piece& piece, std::int64_t image, std::int64_t line, std::int64_t first, float* sums) {
  const ByteDepthwiseArgs& args = *piece.args;
  if (args.finish.program.program != nullptr) {
    piece.y = reinterpret_cast<std::uint8_t*>(sums);
    piece.pixel_bytes = kBlock * 4;
    piece.line_bytes = kDepthwiseLine * kBlock * 4;
    return;
  }
  piece.y = results_at(args, image, line, first, piece.start - args.start);
  piece.pixel_bytes = args.y_stride * bytes_of(args.finish.result);
  piece.line_bytes = args.geometry.out[2] * piece.pixel_bytes;
}

/// The program, if there is one, on what `place` sent to `sums`. Behind them there is room for operands.
void run_program(const Piece& piece, std::int64_t image, std::int64_t line, std::int64_t lines, std::int64_t first,
                 std::int64_t pixels, float* sums) {
  const ByteDepthwiseArgs& args = *piece.args;
  const ByteFinish& finish = args.finish;
  if (finish.program.program == nullptr) return;
  const std::int64_t channel = piece.start - args.start, width = args.geometry.out[2];
  const std::int64_t pixel_bytes = args.y_stride * bytes_of(finish.result);
  for (std::int64_t r = 0; r < lines; ++r) {
    float* values = sums + r * kDepthwiseLine * kBlock;
    const std::int64_t row = (image * args.geometry.out[1] + line + r) * width + first;
    run_byte_program(finish, values, kBlock, row, row + pixels, channel, channel + piece.channels, sums + kProgramSums);
    std::uint8_t* to = results_at(args, image, line + r, first, channel);
    for (std::int64_t i = 0; i < pixels; ++i, to += pixel_bytes) {
      if (finish.result == ByteResult::float32) {
        std::memcpy(to, values + i * kBlock, static_cast<std::size_t>(piece.channels) * 4);
      } else {
        store_rounded(values + i * kBlock, piece.channels, finish.result, to);
      }
    }
  }
}

/// One vector of sums as floats, each to its channel.
[[gnu::noinline]] void store_floats(const Piece& piece, int v, Ints sums, float* out) {
  Vec x = sums.to_float();
  if (piece.scale != nullptr) {
    x = fma(x, Vec::load(piece.scale + v * kWidth), Vec::load(piece.offset + v * kWidth));
    x = math::min(math::max(x, Vec(piece.args->finish.low)), Vec(piece.args->finish.high));
  }
  alignas(64) float lanes[kWidth];
  x.store(lanes);
  for (int l = 0; l < kWidth; ++l) {
    const std::int64_t channel = depthwise_channel(v, l);
    if (channel < piece.channels) out[channel] = lanes[l];
  }
}

/// The results of some pixels as bytes; `target(i)` says where they go.
template <bool kHasLimits, int kCount, typename Target>
[[gnu::always_inline]] inline void store_pixels(Ints (&sums)[kCount][kVectors], const Piece& piece,
                                                const Target& target) {
  const ByteFinish& finish = piece.args->finish;
  const Vec low(finish.low), high(finish.high);
  const Ints zero = words::all(static_cast<std::int16_t>(finish.zero_point));
  TENFOLD_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    const Vec scale = Vec::load(piece.scale + v * kWidth), offset = Vec::load(piece.offset + v * kWidth);
    TENFOLD_UNROLL
    for (int i = 0; i < kCount; ++i) {
      Vec x = fma(sums[i][v].to_float(), scale, offset);
      if (kHasLimits) x = math::min(math::max(x, low), high);
      sums[i][v] = Ints::round(x);
    }
  }
  if (finish.result == ByteResult::uint8) {
    TENFOLD_UNROLL
    for (int i = 0; i < kCount; ++i) {
      pack_unsigned(sums[i][0], sums[i][1], sums[i][2], sums[i][3], zero).store_first_bytes(target(i), piece.channels);
    }
  } else {
    TENFOLD_UNROLL
    for (int i = 0; i < kCount; ++i) {
      pack_signed(sums[i][0], sums[i][1], sums[i][2], sums[i][3], zero).store_first_bytes(target(i), piece.channels);
    }
  }
}

/// From sums to results, of which `target(i)` says where they go.
template <int kCount, typename Target>
[[gnu::always_inline]] inline void finish_pixels(Ints (&sums)[kCount][kVectors], const Piece& piece,
                                                 const Target& target) {
  if (piece.scale != nullptr && piece.args->finish.result != ByteResult::float32) {
    if (piece.args->finish.has_limits) {
      store_pixels<true>(sums, piece, target);
    } else {
      store_pixels<false>(sums, piece, target);
    }
    return;
  }
  // Unrolled, like all loops over sums: indexed at run time they would live in memory throughout.
  TENFOLD_UNROLL
  for (int i = 0; i < kCount; ++i) {
    TENFOLD_UNROLL
    for (int v = 0; v < kVectors; ++v) store_floats(piece, v, sums[i][v], reinterpret_cast<float*>(target(i)));
  }
}

/// kLines of the kTileLines that the weights are made for.
template <int kLines, int kTileLines, int kPixels>
void run_quad_pixels(const Piece& piece, std::int64_t first) {
  const ConvRows& g = piece.args->geometry;
  Ints sums[kPixels * kLines][kVectors];
  TENFOLD_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    const Ints start = Ints::load(piece.start + v * kWidth);
    TENFOLD_UNROLL
    for (int i = 0; i < kPixels * kLines; ++i) sums[i][v] = start;
  }
  const std::int64_t column_bytes = piece.num_quads * kVectors * kBlock, pixel_bytes = g.stride[2] * column_bytes;
  const std::int8_t* weights = piece.weights;
  const std::uint8_t* column = piece.quads + first * pixel_bytes;
  for (std::int64_t kx = 0; kx < g.kernel[2]; ++kx, column += g.dilation[2] * column_bytes) {
    const std::uint8_t* quad = column;
    for (std::int64_t q = 0; q < piece.num_quads; ++q, quad += kVectors * kBlock) {
      Ints w[kLines][kVectors];
      TENFOLD_UNROLL
      for (int r = 0; r < kLines; ++r) {
        TENFOLD_UNROLL
        for (int v = 0; v < kVectors; ++v) w[r][v] = Ints::load(weights + (r * kVectors + v) * kBlock);
      }
      weights += kTileLines * kVectors * kBlock;
      TENFOLD_UNROLL
      for (int i = 0; i < kPixels; ++i) {
        TENFOLD_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          const Ints x = Ints::load(quad + i * pixel_bytes + v * kBlock);
          TENFOLD_UNROLL
          for (int r = 0; r < kLines; ++r) ByteDot::add(sums[i * kLines + r][v], x, w[r][v]);
        }
      }
    }
  }
  std::uint8_t* y = piece.y + first * piece.pixel_bytes;
  finish_pixels(sums, piece, [&](int i) { return y + i % kLines * piece.line_bytes + i / kLines * piece.pixel_bytes; });
}

template <int kLines, int kTileLines>
void run_quad_piece(const Piece& piece, std::int64_t pixels) {
  constexpr int kSums = kManyRegisters ? 4 : 2;
  constexpr int kPixels = kSums / kLines;
  std::int64_t i = 0;
  for (; i + kPixels <= pixels; i += kPixels) run_quad_pixels<kLines, kTileLines, kPixels>(piece, i);
  for (; i < pixels; ++i) run_quad_pixels<kLines, kTileLines, 1>(piece, i);
}

/// Four bytes of each channel, in lanes.
[[gnu::always_inline]] inline void store_quad(const Ints (&at)[4], std::uint8_t* out) {
  const Ints low01 = unpack_low_bytes(at[0], at[1]), high01 = unpack_high_bytes(at[0], at[1]);
  const Ints low23 = unpack_low_bytes(at[2], at[3]), high23 = unpack_high_bytes(at[2], at[3]);
  unpack_low_pairs(low01, low23).store(out);
  unpack_high_pairs(low01, low23).store(out + kBlock);
  unpack_low_pairs(high01, high23).store(out + 2 * kBlock);
  unpack_high_pairs(high01, high23).store(out + 3 * kBlock);
}

/// The quads of `columns` columns of the image that the piece at pixel `first` of output line `line` reads.
void transpose(const ByteDepthwiseArgs& args, std::int64_t image, std::int64_t line, std::int64_t first,
               std::int64_t columns, std::int64_t channel, std::int64_t channels, std::int64_t num_quads,
               std::uint8_t* quads) {
  const ConvRows& g = args.geometry;
  const Ints flip(args.x_is_signed ? static_cast<std::int32_t>(0x80808080U) : 0);
  const Ints outside = Ints(static_cast<std::int32_t>(args.zero * 0x01010101U)) ^ flip;
  const std::int64_t column_bytes = num_quads * kVectors * kBlock;
  const std::int64_t x = first * g.stride[2] - g.pad[2];
  const std::int64_t inside_begin = min(columns, max(0, -x)), inside_end = max(inside_begin, min(columns, g.in[2] - x));
  // Lines of the kernel beyond which no weight lies.
  const std::int64_t needed = g.kernel[1] + depthwise_tile(g.kernel[1], g.stride[1], g.dilation[1]).lines - 1;
  for (std::int64_t q = 0; q < num_quads; ++q) {
    std::uint8_t* out = quads + q * kVectors * kBlock;
    const std::uint8_t* lines[4];
    for (int j = 0; j < 4; ++j) {
      const std::int64_t y = line * g.stride[1] - g.pad[1] + (4 * q + j) * g.dilation[1];
      const bool inside = 4 * q + j < needed && 0 <= y && y < g.in[1];
      lines[j] = inside ? args.x + ((image * g.in[1] + y) * g.in[2] + x) * args.x_stride + channel : nullptr;
    }
    for (std::int64_t i = 0; i < columns; ++i, out += column_bytes) {
      Ints at[4] = {outside, outside, outside, outside};
      if (inside_begin <= i && i < inside_end) {
        for (int j = 0; j < 4; ++j) {
          if (lines[j] != nullptr) at[j] = Ints::load_first_bytes(lines[j] + i * args.x_stride, channels) ^ flip;
        }
      }
      store_quad(at, out);
    }
  }
}

void run_quads(const ByteDepthwiseArgs& args, const Workers& workers) {
  const ConvRows& g = args.geometry;
  const DepthwiseTile shape = depthwise_tile(g.kernel[1], g.stride[1], g.dilation[1]);
  const std::int64_t line_tiles = ceil_div(g.out[1], shape.lines);
  const std::int64_t blocks = ceil_div(args.channels, kBlock);
  const std::int64_t reach = (g.kernel[2] - 1) * g.dilation[2];
  const std::int64_t most_columns = (kDepthwiseLine - 1) * g.stride[2] + reach + 1;
  const std::int64_t column_bytes = shape.quads * kVectors * kBlock;
  const std::int64_t block_weights = g.kernel[2] * shape.quads * shape.lines * kVectors * kBlock;

  // Few lines: blocks of channels are work items of their own.
  const std::int64_t threads = workers.pool->num_threads();
  const std::int64_t block_parts = threads == 1 ? 1 : min(blocks, ceil_div(3 * threads, g.batch * line_tiles));
  for_each_item(workers, g.batch * line_tiles * block_parts, [&](std::int64_t item, std::byte* scratch) {
    const std::int64_t part = item % block_parts;
    const std::int64_t line = item / block_parts % line_tiles * shape.lines;
    const std::int64_t image = item / block_parts / line_tiles;
    const std::int64_t lines = min(shape.lines, g.out[1] - line);
    auto* quads = reinterpret_cast<std::uint8_t*>(scratch);
    auto* sums = reinterpret_cast<float*>(scratch + most_columns * column_bytes);
    for (std::int64_t b = blocks * part / block_parts; b < blocks * (part + 1) / block_parts; ++b) {
      const std::int64_t channel = b * kBlock;
      Piece piece = piece_of(args, b);
      piece.quads = quads;
      piece.num_quads = shape.quads;
      piece.weights = args.weights + b * block_weights;
      for (std::int64_t first = 0; first < g.out[2]; first += kDepthwiseLine) {
        const std::int64_t pixels = min(kDepthwiseLine, g.out[2] - first);
        const std::int64_t columns = (pixels - 1) * g.stride[2] + reach + 1;
        transpose(args, image, line, first, columns, channel, piece.channels, shape.quads, quads);
        place(piece, image, line, first, sums);
        (lines == 2         ? run_quad_piece<2, 2>
         : shape.lines == 2 ? run_quad_piece<1, 2>
                            : run_quad_piece<1, 1>)(piece, pixels);
        run_program(piece, image, line, lines, first, pixels, sums);
      }
    }
  });
}

/// Results of a line and up to four of its pixels, the others are numbers of no meaning, as bytes of one vector:
/// [128 bits][pixel][4].
[[gnu::always_inline]] inline Ints pixels_as_bytes(const Ints (&sums)[4], const Piece& piece, int v) {
  const ByteFinish& finish = piece.args->finish;
  const Vec scale = Vec::load(piece.scale + v * kWidth), offset = Vec::load(piece.offset + v * kWidth);
  Ints rounded[4];
  TENFOLD_UNROLL
  for (int i = 0; i < 4; ++i) {
    Vec x = fma(sums[i].to_float(), scale, offset);
    if (!finish.fits) x = math::min(math::max(x, Vec(finish.low)), Vec(finish.high));
    rounded[i] = Ints::round(x);
  }
  return piece.limits->pack(rounded);
}

/// kRuns runs of four pixels, of which the last one has kPixels, of kLines of the kTileLines that the weights are made
/// for. kStride is that of the columns, or 0: any.
template <int kTileLines, int kStride, int kLines, int kRuns, int kPixels>
void run_pair_pixels(const Piece& piece, std::int64_t first) {
  static_assert(kLines == 1 || kRuns == 1);
  constexpr int kGroups = kLines * kRuns;
  const auto pixels_of = [](int g) { return kRuns == 2 && g == 0 ? 4 : kPixels; };
  const ByteFinish& finish = piece.args->finish;
  const std::int64_t step = (kStride == 0 ? piece.args->geometry.stride[2] : kStride) * kBlock;
  const bool is_packed = piece.scale != nullptr && finish.result != ByteResult::float32;
  std::uint8_t* y = piece.y + first * piece.pixel_bytes;
  const auto target = [&](int g, int i) {
    return y + (kLines == 2 ? g * piece.line_bytes : 4 * g * piece.pixel_bytes) + i * piece.pixel_bytes;
  };
  const std::uint8_t* weights = piece.wide_weights;
  Ints packed[kGroups][kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const Ints start = Ints::load(piece.start + v * kWidth);
    Ints sums[kGroups][4];
    TENFOLD_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      TENFOLD_UNROLL
      for (int i = 0; i < 4; ++i) sums[g][i] = start;
    }
    const std::uint8_t* pairs = piece.pairs + v * piece.vector_bytes + first * step;
    for (std::int64_t s = 0; s < piece.num_steps; ++s, weights += kTileLines * kBlock) {
      const std::uint8_t* at = pairs + piece.steps[s];
      Ints w[kLines];
      TENFOLD_UNROLL
      for (int r = 0; r < kLines; ++r) w[r] = Ints::load(weights + r * kBlock);
      TENFOLD_UNROLL
      for (int i = 0; i < 4 * (kRuns - 1) + kPixels; ++i) {
        const Ints x = Ints::load(at + i * step);
        TENFOLD_UNROLL
        for (int r = 0; r < kLines; ++r) {
          Ints& sum = sums[kLines == 2 ? r : i / 4][i % 4];
          sum = sum + words::multiply_add_pairs(x, w[r]);
        }
      }
    }
    TENFOLD_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      if (is_packed) {
        packed[g][v] = pixels_as_bytes(sums[g], piece, v);
        continue;
      }
      TENFOLD_UNROLL
      for (int i = 0; i < 4; ++i) {
        if (i < pixels_of(g)) store_floats(piece, v, sums[g][i], reinterpret_cast<float*>(target(g, i)));
      }
    }
  }
  if (!is_packed) return;
  TENFOLD_UNROLL
  for (int g = 0; g < kGroups; ++g) {
    const Ints(&of)[kVectors] = packed[g];
    const Ints low01 = unpack_low_quads(of[0], of[1]), low23 = unpack_low_quads(of[2], of[3]);
    const Ints high01 = unpack_high_quads(of[0], of[1]), high23 = unpack_high_quads(of[2], of[3]);
    const Ints pixels[4] = {unpack_low_eights(low01, low23), unpack_high_eights(low01, low23),
                            unpack_low_eights(high01, high23), unpack_high_eights(high01, high23)};
    TENFOLD_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (i < pixels_of(g)) pixels[i].store_first_bytes(target(g, i), piece.channels);
    }
  }
}

template <int kTileLines, int kStride, int kLines>
void run_pair_piece(const Piece& piece, std::int64_t pixels) {
  std::int64_t i = 0;
  if constexpr (kLines == 1) {
    for (; i + 8 <= pixels; i += 8) run_pair_pixels<kTileLines, kStride, 1, 2, 4>(piece, i);
  }
  while (i < pixels) {
    const std::int64_t count = next_tile_rows(pixels - i, 4);
    (count == 4   ? run_pair_pixels<kTileLines, kStride, kLines, 1, 4>
     : count == 3 ? run_pair_pixels<kTileLines, kStride, kLines, 1, 3>
     : count == 2 ? run_pair_pixels<kTileLines, kStride, kLines, 1, 2>
                  : run_pair_pixels<kTileLines, kStride, kLines, 1, 1>)(piece, i);
    i += count;
  }
}
/// The one for so many lines of a tile.
auto find_pair_piece(std::int64_t tile_lines, std::int64_t stride, std::int64_t lines) {
  if (tile_lines == 1) return stride == 2 ? run_pair_piece<1, 2, 1> : run_pair_piece<1, 0, 1>;
  if (lines == 1) return run_pair_piece<2, 0, 1>;
  return stride == 1 ? run_pair_piece<2, 1, 2> : run_pair_piece<2, 0, 2>;
}

/// Lines `y` and `y + dilation` of `columns` columns of the image, from `x` on: as [vector][column][kBytes]. Asks for
/// the lines `ahead` below them.
void interleave(const ByteDepthwiseArgs& args, std::int64_t image, std::int64_t y, std::int64_t x, std::int64_t columns,
                std::int64_t channel, std::int64_t channels, std::int64_t vector_bytes, std::uint8_t* pairs) {
  const ConvRows& g = args.geometry;
  const Ints flip(args.x_is_signed ? static_cast<std::int32_t>(0x80808080U) : 0);
  const Ints outside = Ints(static_cast<std::int32_t>(args.zero * 0x01010101U)) ^ flip;
  const std::int64_t line_bytes = g.in[2] * args.x_stride;
  const std::int64_t inside_begin = min(columns, max(0, -x)), inside_end = max(inside_begin, min(columns, g.in[2] - x));
  const std::uint8_t* lines[2];
  bool inside[2];
  for (int j = 0; j < 2; ++j) {
    const std::int64_t line = y + j * g.dilation[1];
    inside[j] = 0 <= line && line < g.in[1];
    lines[j] = args.x + (image * g.in[1] + (inside[j] ? line : 0)) * line_bytes + x * args.x_stride + channel;
  }
  const auto store = [&](std::int64_t i, Ints first, Ints second) {
    std::uint8_t* out = pairs + i * kBlock;
    const Ints low = unpack_low_bytes(first, second), high = unpack_high_bytes(first, second);
    unpack_low_bytes(low, Ints::zero()).store(out);
    unpack_high_bytes(low, Ints::zero()).store(out + vector_bytes);
    unpack_low_bytes(high, Ints::zero()).store(out + 2 * vector_bytes);
    unpack_high_bytes(high, Ints::zero()).store(out + 3 * vector_bytes);
  };
  for (std::int64_t i = 0; i < inside_begin; ++i) store(i, outside, outside);
  for (std::int64_t i = inside_begin; i < inside_end; ++i) {
    const std::uint8_t* first = lines[0] + i * args.x_stride;
    const std::uint8_t* second = lines[1] + i * args.x_stride;
    store(i, inside[0] ? Ints::load_first_bytes(first, channels) ^ flip : outside,
          inside[1] ? Ints::load_first_bytes(second, channels) ^ flip : outside);
  }
  for (std::int64_t i = inside_end; i < columns; ++i) store(i, outside, outside);
}

/// A block's weights as `wide_weights` of a piece.
void widen_weights(const ByteDepthwiseArgs& args, const DepthwiseTile& tile, std::int64_t num_pairs,
                   const std::int8_t* weights, std::uint8_t* wide) {
  const std::int64_t kernel = args.geometry.kernel[2], vectors = tile.lines * kVectors;
  for (std::int64_t v = 0; v < kVectors; ++v) {
    for (std::int64_t p = 0; p < num_pairs; ++p) {
      for (std::int64_t kx = 0; kx < kernel; ++kx) {
        for (std::int64_t r = 0; r < tile.lines; ++r, wide += kBlock) {
          const Ints quads = Ints::load(weights + ((kx * tile.quads + p / 2) * vectors + r * kVectors + v) * kBlock);
          (p % 2 == 0 ? words::first_signed(quads) : words::last_signed(quads)).store(wide);
        }
      }
    }
  }
}

void run_pairs(const ByteDepthwiseArgs& args, const Workers& workers) {
  const ConvRows& g = args.geometry;
  const DepthwiseTile tile = depthwise_tile(g.kernel[1], g.stride[1], g.dilation[1]);
  const std::int64_t line_tiles = ceil_div(g.out[1], tile.lines);
  const std::int64_t blocks = ceil_div(args.channels, kBlock);
  const std::int64_t num_pairs = ceil_div(g.kernel[1] + tile.lines - 1, 2), num_steps = num_pairs * g.kernel[2];
  const std::int64_t block_weights = g.kernel[2] * tile.quads * tile.lines * kVectors * kBlock;
  const std::int64_t wide_bytes = num_steps * tile.lines * kVectors * kBlock;
  // From a tile of lines to the next one: pairs that are not needed again. All, unless pairs stay pairs.
  const std::int64_t advance = tile.lines * g.stride[1];
  const std::int64_t new_pairs = g.dilation[1] == 1 && advance % 2 == 0 ? min(num_pairs, advance / 2) : num_pairs;
  // Pixels of a piece: its pairs stay in the first-level cache.
  constexpr std::int64_t kPairBytes = 20 << 10, kFewestPixels = 8;
  const std::int64_t reach = (g.kernel[2] - 1) * g.dilation[2];
  const std::int64_t fitting = (kPairBytes / (num_pairs * kVectors * kBlock) - reach - 1) / g.stride[2] + 1;
  const std::int64_t piece_pixels = min(kDepthwiseLine, max(kFewestPixels, fitting));
  const std::int64_t most_columns = (piece_pixels - 1) * g.stride[2] + reach + 1;
  const std::int64_t vector_bytes = most_columns * kBlock, pair_bytes = kVectors * vector_bytes;

  // Blocks of channels come one after the other, so the lines of an item stay in the second-level cache; and it has
  // enough of them to be worth making weights wide.
  constexpr std::int64_t kLineBytes = 192 << 10, kFewestTiles = 4, kItemsPerThread = 3;
  const std::int64_t threads = workers.pool->num_threads();
  const std::int64_t wanted = threads == 1 ? 1 : kItemsPerThread * threads;
  const std::int64_t tile_bytes = advance * g.in[2] * args.channels;
  const std::int64_t cached_parts = min(line_tiles, ceil_div(line_tiles * tile_bytes, kLineBytes));
  const std::int64_t line_parts = max(cached_parts, min(line_tiles / kFewestTiles, ceil_div(wanted, g.batch)));
  const std::int64_t block_parts = min(blocks, ceil_div(wanted, g.batch * line_parts));
  const ByteLimits limits(args.finish);
  for_each_item(workers, g.batch * line_parts * block_parts, [&](std::int64_t item, std::byte* scratch) {
    const std::int64_t block_part = item % block_parts;
    const std::int64_t line_part = item / block_parts % line_parts;
    const std::int64_t image = item / block_parts / line_parts;
    const std::int64_t tile_begin = line_tiles * line_part / line_parts;
    const std::int64_t tile_end = line_tiles * (line_part + 1) / line_parts;
    auto* pairs = reinterpret_cast<std::uint8_t*>(scratch);
    auto* wide = pairs + num_pairs * pair_bytes;
    auto* steps = reinterpret_cast<std::int64_t*>(wide + wide_bytes);
    auto* sums = reinterpret_cast<float*>(steps + num_steps);
    for (std::int64_t b = blocks * block_part / block_parts; b < blocks * (block_part + 1) / block_parts; ++b) {
      Piece piece = piece_of(args, b);
      piece.limits = &limits;
      piece.pairs = pairs;
      piece.vector_bytes = vector_bytes;
      piece.steps = steps;
      piece.num_steps = num_steps;
      piece.wide_weights = wide;
      widen_weights(args, tile, num_pairs, args.weights + b * block_weights, wide);
      for (std::int64_t first = 0; first < g.out[2]; first += piece_pixels) {
        const std::int64_t pixels = min(piece_pixels, g.out[2] - first);
        const std::int64_t columns = (pixels - 1) * g.stride[2] + reach + 1;
        std::int64_t slot = 0;  // of the tile's first pair
        for (std::int64_t t = tile_begin; t < tile_end; ++t, slot = (slot + new_pairs) % num_pairs) {
          const std::int64_t line = t * tile.lines, lines = min(tile.lines, g.out[1] - line);
          for (std::int64_t p = 0; p < num_pairs; ++p) {
            const std::int64_t at = (slot + p) % num_pairs * pair_bytes;
            for (std::int64_t kx = 0; kx < g.kernel[2]; ++kx) {
              steps[p * g.kernel[2] + kx] = at + kx * g.dilation[2] * kBlock;
            }
            if (t > tile_begin && p + new_pairs < num_pairs) continue;
            interleave(args, image, line * g.stride[1] - g.pad[1] + 2 * p * g.dilation[1],
                       first * g.stride[2] - g.pad[2], columns, b * kBlock, piece.channels, vector_bytes, pairs + at);
          }
          place(piece, image, line, first, sums);
          find_pair_piece(tile.lines, g.stride[2], lines)(piece, pixels);
          run_program(piece, image, line, lines, first, pixels, sums);
        }
      }
    }
  });
}

}  // namespace

void run_byte_depthwise(const ByteDepthwiseArgs& args, const Workers& workers) {
  const ConvRows& g = args.geometry;
  if (g.batch <= 0 || g.out[1] <= 0 || g.out[2] <= 0) return;
  if (args.has_byte_dot) {
    run_quads(args, workers);
  } else {
    run_pairs(args, workers);
  }
}

}  // namespace tenfold::cpu::TENFOLD_TIER
