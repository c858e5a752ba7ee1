#include "backend/cpu/strided_copy.hpp"

#include <algorithm>
#include <cstring>

#include "backend/cpu/kernels/copy.hpp"
#include "backend/cpu/tactic_tools.hpp"
#include "base/error.hpp"

namespace tenfold::cpu {

namespace {

/// Nanoseconds a kilobyte takes when it comes from the outer caches.
constexpr double kNsPerByte = 0.1;

template <typename T>
struct [[gnu::may_alias]] Bits {
  T value;
};

/// A line of elements whose source has a stride other than 1.
template <typename T>
void copy_line(const std::byte* in, std::int64_t in_stride, std::byte* out, std::int64_t out_stride,
               std::int64_t count) {
  const auto* from = reinterpret_cast<const Bits<T>*>(in);
  auto* to = reinterpret_cast<Bits<T>*>(out);
  if (in_stride == 0 && out_stride == 1) {
    std::fill_n(to, count, *from);
  } else if (out_stride == 1) {
    for (std::int64_t i = 0; i < count; ++i) to[i] = from[i * in_stride];
  } else {
    for (std::int64_t i = 0; i < count; ++i) to[i * out_stride] = from[i * in_stride];
  }
}

}  // namespace

void StridedCopy::add_axis(std::int64_t size, std::int64_t in_stride, std::int64_t out_stride) {
  if (size == 0) is_empty_ = true;
  if (size == 1) return;
  if (rank_ > 0) {
    Axis& outer = axes_[static_cast<std::size_t>(rank_ - 1)];
    if (outer.in == in_stride * size && outer.out == out_stride * size) {
      outer = {outer.size * size, in_stride, out_stride};
      return;
    }
  }
  ensure(rank_ < kMaxAxes, "a copy over more than {} axes", kMaxAxes);
  axes_[static_cast<std::size_t>(rank_++)] = {size, in_stride, out_stride};
}

void StridedCopy::run(const void* in, void* out, ThreadPool& pool) const {
  if (is_empty_) return;
  const CopyKernels& kernels = TENFOLD_FOR_TIER(kCopyKernels);
  std::array<Axis, kMaxAxes> axes = axes_;
  int rank = rank_;
  const auto take = [&](int i) {
    const Axis taken = axes[static_cast<std::size_t>(i)];
    for (int j = i; j + 1 < rank; ++j) axes[static_cast<std::size_t>(j)] = axes[static_cast<std::size_t>(j + 1)];
    --rank;
    return taken;
  };
  // The core is a rectangle of `across` x `inner` elements. Rows: inner is contiguous on both sides, and the longest
  // remaining axis goes across. Transposition: across is contiguous in the source instead.
  Axis inner{1, 1, 1}, across{1, 0, 0};
  if (rank > 0) inner = take(rank - 1);
  const bool is_rows = inner.in == 1 && inner.out == 1;
  bool is_transposition = false;
  if (is_rows) {
    if (rank > 0) across = take(rank - 1);
  } else if (inner.out == 1 && inner.in != 0) {
    for (int i = rank - 1; i >= 0 && !is_transposition; --i) {
      if (axes[static_cast<std::size_t>(i)].in != 1) continue;
      across = take(i);
      is_transposition = true;
    }
  }
  std::int64_t outer = 1;
  for (int i = 0; i < rank; ++i) outer *= axes[static_cast<std::size_t>(i)].size;

  // Tasks: pieces of the core along `across`, or along `inner` when there is nothing across, for every outer index.
  const std::int64_t e = element_bytes_;
  const bool cut_inner = across.size == 1;
  const std::int64_t length = cut_inner ? inner.size : across.size;
  const std::int64_t width = cut_inner ? 1 : inner.size;
  constexpr std::int64_t kTaskBytes = 16384, kLine = 64;
  std::int64_t piece = std::max<std::int64_t>(1, kTaskBytes / (width * e));
  piece = std::min(length, (piece + kLine - 1) / kLine * kLine);
  const std::int64_t pieces = (length + piece - 1) / piece;

  const auto* source = static_cast<const std::byte*>(in);
  auto* target = static_cast<std::byte*>(out);
  const auto task = [&](const std::byte* from, std::byte* to, std::int64_t begin, std::int64_t count) {
    if (cut_inner) {
      from += begin * inner.in * e;
      to += begin * inner.out * e;
      if (is_rows) {
        kernels.rows(from, 0, to, 0, 1, count * e);
        return;
      }
      switch (e) {
        case 1:
          return copy_line<std::uint8_t>(from, inner.in, to, inner.out, count);
        case 2:
          return copy_line<std::uint16_t>(from, inner.in, to, inner.out, count);
        case 4:
          return copy_line<std::uint32_t>(from, inner.in, to, inner.out, count);
        default:
          return copy_line<std::uint64_t>(from, inner.in, to, inner.out, count);
      }
    }
    from += begin * across.in * e;
    to += begin * across.out * e;
    if (is_rows) {
      kernels.rows(from, across.in * e, to, across.out * e, count, inner.size * e);
    } else {
      kernels.transpose(from, inner.in, to, across.out, inner.size, count, static_cast<int>(e));
    }
  };
  split(pool, outer * pieces, static_cast<double>(piece * width * e) * kNsPerByte,
        [&](std::int64_t begin, std::int64_t end) {
          std::array<std::int64_t, kMaxAxes> index{};
          std::int64_t rest = begin / pieces, in_offset = 0, out_offset = 0;
          for (int i = rank - 1; i >= 0; --i) {
            const Axis& axis = axes[static_cast<std::size_t>(i)];
            index[static_cast<std::size_t>(i)] = rest % axis.size;
            in_offset += rest % axis.size * axis.in;
            out_offset += rest % axis.size * axis.out;
            rest /= axis.size;
          }
          std::int64_t p = begin % pieces;
          for (std::int64_t t = begin; t < end; ++t) {
            task(source + in_offset * e, target + out_offset * e, p * piece, std::min(piece, length - p * piece));
            if (++p < pieces) continue;
            p = 0;
            for (int i = rank - 1; i >= 0; --i) {
              const Axis& axis = axes[static_cast<std::size_t>(i)];
              in_offset += axis.in;
              out_offset += axis.out;
              if (++index[static_cast<std::size_t>(i)] < axis.size) break;
              in_offset -= axis.in * axis.size;
              out_offset -= axis.out * axis.size;
              index[static_cast<std::size_t>(i)] = 0;
            }
          }
        });
}

}  // namespace tenfold::cpu
