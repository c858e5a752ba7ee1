// Moving elements without changing them: strided copies for the references of Transpose, Slice, Concat and their like.
//
// Templates over the element: the same code moves tensor data (as bit patterns of 1, 2, 4 or 8 bytes) and known
// integers (Dim), so a shape rule passes values on exactly as the kernel would.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <type_traits>

#include "graph/tensor.hpp"

namespace tenfold {

/// Bit patterns that may alias elements of any type of that size.
struct [[gnu::may_alias]] Bits8 {
  std::uint8_t bits;
};
struct [[gnu::may_alias]] Bits16 {
  std::uint16_t bits;
};
struct [[gnu::may_alias]] Bits32 {
  std::uint32_t bits;
};
struct [[gnu::may_alias]] Bits64 {
  std::uint64_t bits;
};

/// Calls f.template operator()<Bits>() with the bit pattern that is as large as an element of `dtype`.
template <typename F>
void dispatch_bits(DType dtype, F&& f) {
  switch (size_of(dtype)) {
    case 1:
      return f.template operator()<Bits8>();
    case 2:
      return f.template operator()<Bits16>();
    case 4:
      return f.template operator()<Bits32>();
    case 8:
      return f.template operator()<Bits64>();
    default:
      throw Error(Code::internal, "elements of an undefined dtype are moved");
  }
}

/// out[index . out_strides] = in[index . in_strides] for every index inside `dims`. Strides count elements and may be 0
/// (an element is repeated) or negative for `in`. At most kMaxCopyRank axes.
inline constexpr int kMaxCopyRank = 2 * kMaxRank;
template <typename T>
void copy_strided(std::span<const std::int64_t> dims, const T* in, std::span<const std::int64_t> in_strides, T* out,
                  std::span<const std::int64_t> out_strides) {
  ensure(dims.size() <= kMaxCopyRank && dims.size() == in_strides.size() && dims.size() == out_strides.size(),
         "a copy over {} axes", dims.size());
  struct Axis {
    std::int64_t size, in, out;
  };
  // Axes of size 1 vanish, and two that are contiguous in both tensors become one.
  std::array<Axis, kMaxCopyRank + 1> axes;
  int rank = 0;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0) return;
    if (dims[i] == 1) continue;
    const Axis axis{dims[i], in_strides[i], out_strides[i]};
    if (rank > 0) {
      Axis& outer = axes[static_cast<std::size_t>(rank - 1)];
      if (outer.in == axis.in * axis.size && outer.out == axis.out * axis.size) {
        outer = {outer.size * axis.size, axis.in, axis.out};
        continue;
      }
    }
    axes[static_cast<std::size_t>(rank++)] = axis;
  }
  if (rank == 0) {
    *out = *in;
    return;
  }
  Axis inner = axes[static_cast<std::size_t>(--rank)];
  // A transposition: some outer axis is contiguous in `in`. Taken as second loop, tile by tile, every cache line that
  // is fetched is used before it is dropped.
  Axis across{1, 0, 0};
  if (inner.in != 1 && inner.in != 0) {
    for (int i = 0; i < rank; ++i) {
      if (axes[static_cast<std::size_t>(i)].in != 1) continue;
      across = axes[static_cast<std::size_t>(i)];
      for (int j = i; j + 1 < rank; ++j) axes[static_cast<std::size_t>(j)] = axes[static_cast<std::size_t>(j + 1)];
      --rank;
      break;
    }
  }
  const auto block = [&](const T* from, T* to) {
    if (across.size > 1) {
      constexpr std::int64_t kTile = 16;
      for (std::int64_t a = 0; a < across.size; a += kTile) {
        const std::int64_t a_end = std::min(a + kTile, across.size);
        for (std::int64_t i = 0; i < inner.size; i += kTile) {
          const std::int64_t i_end = std::min(i + kTile, inner.size);
          for (std::int64_t x = a; x < a_end; ++x) {
            for (std::int64_t y = i; y < i_end; ++y) to[x * across.out + y * inner.out] = from[x + y * inner.in];
          }
        }
      }
    } else if (inner.out == 1 && inner.in == 1) {
      std::copy_n(from, inner.size, to);
    } else if (inner.out == 1 && inner.in == 0) {
      std::fill_n(to, inner.size, *from);
    } else {
      for (std::int64_t i = 0; i < inner.size; ++i) to[i * inner.out] = from[i * inner.in];
    }
  };
  std::array<std::int64_t, kMaxCopyRank + 1> index{};
  while (true) {
    block(in, out);
    int axis = rank - 1;
    for (; axis >= 0; --axis) {
      const auto a = static_cast<std::size_t>(axis);
      if (++index[a] < axes[a].size) {
        in += axes[a].in;
        out += axes[a].out;
        break;
      }
      in -= axes[a].in * (axes[a].size - 1);
      out -= axes[a].out * (axes[a].size - 1);
      index[a] = 0;
    }
    if (axis < 0) return;
  }
}

/// Product of dims[begin .. end).
inline std::int64_t product_of(std::span<const std::int64_t> dims, std::size_t begin, std::size_t end) {
  std::int64_t count = 1;
  for (std::size_t i = begin; i < end; ++i) count *= dims[i];
  return count;
}

}  // namespace tenfold
