// Depthwise convolutions of 8-bit integers, exact: four lines of the image are the four bytes of a lane.
//
// A block of channels is what one register holds as bytes. Of each column of the image four neighbouring lines are
// transposed ("quads"): vector v, lane l then holds four bytes of channel depthwise_channel(v, l), once for all kernel
// columns and for two lines of results, whose weights are shifted by one byte:  w0 w1 w2 0  and  0 w0 w1 w2.
#include "backend/cpu/kernels/byte_finish.hpp"
#include "backend/cpu/kernels/byte_kernels.hpp"
#include "backend/cpu/kernels/depthwise.hpp"
#include "backend/cpu/kernels/gemm_tile.hpp"
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
  const std::int8_t* weights;  ///< of the block
  const std::int32_t* start;
  const float* scale;  ///< nullptr: the sums themselves are stored, as floats
  const float* offset;
  std::uint8_t* y;           ///< of the piece's first pixel and the block's first channel
  std::int64_t pixel_bytes;  ///< from pixel to pixel of y
  std::int64_t line_bytes;
  std::int64_t channels;  ///< of the block: 1 .. kBlock
};

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
template <typename Dot, int kLines, int kTileLines, int kPixels>
void run_pixels(const Piece& piece, std::int64_t first) {
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
      typename Dot::Right w[kLines][kVectors];
      TENFOLD_UNROLL
      for (int r = 0; r < kLines; ++r) {
        TENFOLD_UNROLL
        for (int v = 0; v < kVectors; ++v) w[r][v] = Dot::right(Ints::load(weights + (r * kVectors + v) * kBlock));
      }
      weights += kTileLines * kVectors * kBlock;
      TENFOLD_UNROLL
      for (int i = 0; i < kPixels; ++i) {
        TENFOLD_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          const typename Dot::Left x = Dot::left(Ints::load(quad + i * pixel_bytes + v * kBlock));
          TENFOLD_UNROLL
          for (int r = 0; r < kLines; ++r) Dot::add(sums[i * kLines + r][v], x, w[r][v]);
        }
      }
    }
  }
  std::uint8_t* y = piece.y + first * piece.pixel_bytes;
  finish_pixels(sums, piece, [&](int i) { return y + i % kLines * piece.line_bytes + i / kLines * piece.pixel_bytes; });
}

template <typename Dot, int kLines, int kTileLines>
void run_piece(const Piece& piece, std::int64_t pixels) {
  constexpr int kSums = kManyRegisters ? 4 : 2;
  constexpr int kPixels = kSums / kLines;
  std::int64_t i = 0;
  for (; i + kPixels <= pixels; i += kPixels) run_pixels<Dot, kLines, kTileLines, kPixels>(piece, i);
  for (; i < pixels; ++i) run_pixels<Dot, kLines, kTileLines, 1>(piece, i);
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

template <typename Dot>
void run(const ByteDepthwiseArgs& args, const Workers& workers) {
  const ConvRows& g = args.geometry;
  if (g.batch <= 0 || g.out[1] <= 0 || g.out[2] <= 0) return;
  const DepthwiseTile shape = depthwise_tile(g.kernel[1], g.stride[1], g.dilation[1]);
  const std::int64_t line_tiles = ceil_div(g.out[1], shape.lines);
  const std::int64_t blocks = ceil_div(args.channels, kBlock);
  const std::int64_t reach = (g.kernel[2] - 1) * g.dilation[2];
  const std::int64_t most_columns = (kDepthwiseLine - 1) * g.stride[2] + reach + 1;
  const std::int64_t column_bytes = shape.quads * kVectors * kBlock;
  const std::int64_t block_weights = g.kernel[2] * shape.quads * shape.lines * kVectors * kBlock;
  const ByteFinish& finish = args.finish;
  const bool has_program = finish.program.program != nullptr;
  const std::int64_t element = bytes_of(finish.result);

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
      Piece piece{};
      piece.args = &args;
      piece.quads = quads;
      piece.num_quads = shape.quads;
      piece.weights = args.weights + b * block_weights;
      piece.start = args.start + channel;
      piece.scale = has_program ? nullptr : finish.scale + channel;
      piece.offset = has_program ? nullptr : finish.offset + channel;
      piece.channels = min(kBlock, args.channels - channel);
      for (std::int64_t first = 0; first < g.out[2]; first += kDepthwiseLine) {
        const std::int64_t pixels = min(kDepthwiseLine, g.out[2] - first);
        const std::int64_t columns = (pixels - 1) * g.stride[2] + reach + 1;
        transpose(args, image, line, first, columns, channel, piece.channels, shape.quads, quads);
        const std::int64_t row = (image * g.out[1] + line) * g.out[2] + first;
        std::uint8_t* y = static_cast<std::uint8_t*>(args.y) + (row * args.y_stride + channel) * element;
        piece.y = has_program ? reinterpret_cast<std::uint8_t*>(sums) : y;
        piece.pixel_bytes = has_program ? kBlock * 4 : args.y_stride * element;
        piece.line_bytes = has_program ? kDepthwiseLine * kBlock * 4 : g.out[2] * args.y_stride * element;
        (lines == 2         ? run_piece<Dot, 2, 2>
         : shape.lines == 2 ? run_piece<Dot, 1, 2>
                            : run_piece<Dot, 1, 1>)(piece, pixels);
        for (std::int64_t r = 0; r < lines && has_program; ++r) {
          float* values = sums + r * kDepthwiseLine * kBlock;
          const std::int64_t at = row + r * g.out[2];
          run_byte_program(finish, values, kBlock, at, at + pixels, channel, channel + piece.channels,
                           sums + 2 * kDepthwiseLine * kBlock);
          for (std::int64_t i = 0; i < pixels; ++i) {
            std::uint8_t* to = y + (r * g.out[2] + i) * args.y_stride * element;
            if (finish.result == ByteResult::float32) {
              std::memcpy(to, values + i * kBlock, static_cast<std::size_t>(piece.channels) * 4);
            } else {
              store_rounded(values + i * kBlock, piece.channels, finish.result, to);
            }
          }
        }
      }
    }
  });
}

}  // namespace

void run_byte_depthwise(const ByteDepthwiseArgs& args, const Workers& workers) {
  if (args.has_byte_dot) {
    run<ByteDot>(args, workers);
  } else {
    run<WordDot>(args, workers);
  }
}

}  // namespace tenfold::cpu::TENFOLD_TIER
