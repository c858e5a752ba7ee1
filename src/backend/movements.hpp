// Operators that move elements without changing them: Transpose, Concat, Split, Slice, Expand, Tile, DepthToSpace,
// SpaceToDepth. Each is a few strided copies; every backend has its own way to make one. Any element type, pitched
// operands.
//
// A movement M has
//   static Refusal refuses(const Signature&)   checked before the constructor, also for what an engine file says
//   explicit M(const KernelSpec&)
//   void for_each_copy(inputs, outputs, copy)  calls copy(axes, in, from, out, to) for each of them: from element
//   `from`
//                                              of the view `in` to element `to` of the view `out`
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.hpp"
#include "backend/signature.hpp"

namespace tenfold {

/// Axes of a strided copy in the order of the output's memory, outermost first. Strides in elements; `from` may be 0
/// (the element is repeated) or negative. Fixed size: nothing is allocated while an engine runs.
struct CopyAxes {
  static constexpr int kMost = 2 * kMaxRank;
  int rank = 0;
  std::array<std::int64_t, kMost> dims{}, from{}, to{};

  void add(std::int64_t size, std::int64_t from_stride, std::int64_t to_stride) {
    const auto a = static_cast<std::size_t>(rank++);
    dims[a] = size;
    from[a] = from_stride;
    to[a] = to_stride;
  }
};

using Strides = std::array<std::int64_t, kMaxRank>;
/// Element strides of a view, pitch included. Requires rank <= kMaxRank.
Strides strides_of_view(const TensorView& view);

/// The address of an element, counted with the view's strides.
inline void* element_at(const TensorView& view, std::int64_t element) {
  return view.as<std::byte>() + element * static_cast<std::int64_t>(size_of(view.dtype));
}

class TransposeMovement {
 public:
  static Refusal refuses(const Signature& signature);
  explicit TransposeMovement(const KernelSpec& spec);
  template <typename Copy>
  void for_each_copy(std::span<const TensorView> inputs, std::span<const TensorView> outputs, const Copy& copy) const {
    const Strides from = strides_of_view(inputs[0]), to = strides_of_view(outputs[0]);
    CopyAxes axes;
    for (std::size_t a = 0; a < permutation_.size(); ++a) {
      axes.add(outputs[0].dims[a], from[static_cast<std::size_t>(permutation_[a])], to[a]);
    }
    copy(axes, inputs[0], 0, outputs[0], 0);
  }

 private:
  std::vector<std::int64_t> permutation_;
};

/// Every input is copied to its place along the axis.
class ConcatMovement {
 public:
  static Refusal refuses(const Signature& signature);
  explicit ConcatMovement(const KernelSpec& spec);
  template <typename Copy>
  void for_each_copy(std::span<const TensorView> inputs, std::span<const TensorView> outputs, const Copy& copy) const {
    const TensorView& out = outputs[0];
    const Strides to = strides_of_view(out);
    std::int64_t offset = 0;
    for (const TensorView& in : inputs) {
      const Strides from = strides_of_view(in);
      CopyAxes axes;
      for (std::size_t a = 0; a < in.dims.size(); ++a) axes.add(in.dims[a], from[a], to[a]);
      copy(axes, in, 0, out, offset * to[axis_]);
      offset += in.dims[axis_];
    }
  }

 private:
  std::size_t axis_;
};

/// Every output is copied from its place along the axis.
class SplitMovement {
 public:
  static Refusal refuses(const Signature& signature);
  explicit SplitMovement(const KernelSpec& spec);
  template <typename Copy>
  void for_each_copy(std::span<const TensorView> inputs, std::span<const TensorView> outputs, const Copy& copy) const {
    const TensorView& in = inputs[0];
    const Strides from = strides_of_view(in);
    std::int64_t offset = 0;
    for (const TensorView& out : outputs) {
      const Strides to = strides_of_view(out);
      CopyAxes axes;
      for (std::size_t a = 0; a < out.dims.size(); ++a) axes.add(out.dims[a], from[a], to[a]);
      if (offset + out.dims[axis_] > in.dims[axis_]) return;  // the runtime has checked the shapes; stay inside anyway
      copy(axes, in, offset * from[axis_], out, 0);
      offset += out.dims[axis_];
    }
  }

 private:
  std::size_t axis_;
};

/// Starts, axes and steps are attributes, or inputs 1, 3 and 4, which are then read on the host.
class SliceMovement {
 public:
  static Refusal refuses(const Signature& signature);
  explicit SliceMovement(const KernelSpec& spec);
  template <typename Copy>
  void for_each_copy(std::span<const TensorView> inputs, std::span<const TensorView> outputs, const Copy& copy) const {
    CopyAxes axes;
    const std::int64_t first = place(inputs, outputs[0], axes);
    copy(axes, inputs[0], first, outputs[0], 0);
  }

 private:
  /// Returns the first element.
  std::int64_t place(std::span<const TensorView> inputs, const TensorView& out, CopyAxes& axes) const;

  bool from_inputs_ = false;
  std::vector<std::int64_t> starts_, axes_, steps_;
};

/// Axes that are missing in front, or of size 1, are repeated.
class ExpandMovement {
 public:
  static Refusal refuses(const Signature& signature);
  explicit ExpandMovement(const KernelSpec&) {}
  template <typename Copy>
  void for_each_copy(std::span<const TensorView> inputs, std::span<const TensorView> outputs, const Copy& copy) const {
    const TensorView& in = inputs[0];
    const TensorView& out = outputs[0];
    const Strides from = strides_of_view(in), to = strides_of_view(out);
    const std::size_t missing = out.dims.size() - in.dims.size();
    CopyAxes axes;
    for (std::size_t a = 0; a < out.dims.size(); ++a) {
      const bool repeats = a < missing || in.dims[a - missing] == 1;
      axes.add(out.dims[a], repeats ? 0 : from[a - missing], to[a]);
    }
    copy(axes, in, 0, out, 0);
  }
};

class TileMovement {
 public:
  static Refusal refuses(const Signature& signature);
  explicit TileMovement(const KernelSpec&) {}
  template <typename Copy>
  void for_each_copy(std::span<const TensorView> inputs, std::span<const TensorView> outputs, const Copy& copy) const {
    const TensorView& in = inputs[0];
    const TensorView& out = outputs[0];
    const Strides from = strides_of_view(in), to = strides_of_view(out);
    CopyAxes axes;
    for (std::size_t a = 0; a < out.dims.size(); ++a) {
      axes.add(in.dims[a] == 0 ? 0 : out.dims[a] / in.dims[a], 0, to[a] * in.dims[a]);
      axes.add(in.dims[a], from[a], to[a]);
    }
    copy(axes, in, 0, out, 0);
  }
};

/// DepthToSpace and SpaceToDepth on [N, C, H, W].
class BlockMovement {
 public:
  static Refusal refuses(const Signature& signature);
  explicit BlockMovement(const KernelSpec& spec);
  template <typename Copy>
  void for_each_copy(std::span<const TensorView> inputs, std::span<const TensorView> outputs, const Copy& copy) const {
    copy(axes_of(inputs[0], outputs[0]), inputs[0], 0, outputs[0], 0);
  }

 private:
  CopyAxes axes_of(const TensorView& in, const TensorView& out) const;

  std::int64_t block_ = 1;
  bool to_space_ = true, depth_first_ = true;
};

}  // namespace tenfold
