// Operators that move elements without changing them, as strided copies: Transpose, Concat, Split, Slice, Expand, Tile,
// Reshape, DepthToSpace, SpaceToDepth. Any element type, any rank, pitched operands.
#include <array>

#include "backend/cpu/strided_copy.hpp"
#include "backend/cpu/tactic_tools.hpp"

namespace tenfold::cpu {

namespace {

using Strides = std::array<std::int64_t, kMaxRank>;

const std::byte* bytes_at(const TensorView& view, std::int64_t element) {
  return view.as<const std::byte>() + element * static_cast<std::int64_t>(size_of(view.dtype));
}
std::byte* writable_bytes_at(const TensorView& view, std::int64_t element) {
  return view.as<std::byte>() + element * static_cast<std::int64_t>(size_of(view.dtype));
}

Refusal refuses_rank(const Signature& signature) {
  for (const auto* types : {&signature.inputs, &signature.outputs}) {
    for (const TensorType& type : *types) {
      if (type.rank() > kMaxRank) return fmt::format("rank {} is above {}", type.rank(), kMaxRank);
    }
  }
  return std::nullopt;
}

class MovementKernel : public Kernel {
 public:
  static double estimate_us(const Problem& problem) { return estimate_streaming_us(problem); }
  bool accepts_pitched_input(int index) const override { return index == 0; }
  bool accepts_pitched_output(int) const override { return true; }
};

class TransposeKernel final : public MovementKernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (auto refusal = refuses_rank(signature)) return refusal;
    const auto permutation = permutation_of(signature.op, signature.inputs[0].rank());
    std::array<bool, kMaxRank> seen{};
    if (static_cast<int>(permutation.size()) != signature.inputs[0].rank())
      return "perm has not one entry for each axis";
    for (const std::int64_t axis : permutation) {
      if (axis < 0 || axis >= signature.inputs[0].rank() || seen[static_cast<std::size_t>(axis)]) {
        return "perm is no permutation of the axes";
      }
      seen[static_cast<std::size_t>(axis)] = true;
    }
    return std::nullopt;
  }
  explicit TransposeKernel(const KernelSpec& spec) : permutation_(permutation_of(*spec.op, spec.inputs[0].rank())) {}
  void run(const Launch& launch) const override {
    const TensorView& in = launch.inputs[0];
    const TensorView& out = launch.outputs[0];
    const Strides from = strides_of_view(in), to = strides_of_view(out);
    StridedCopy copy(size_of(in.dtype));
    for (std::size_t a = 0; a < out.dims.size(); ++a) {
      copy.add_axis(out.dims[a], from[static_cast<std::size_t>(permutation_[a])], to[a]);
    }
    copy.run(in.data, out.data, pool_of(launch));
  }

 private:
  static std::vector<std::int64_t> permutation_of(const Op& op, int rank) {
    std::vector<std::int64_t> permutation = op.attributes().get_ints("perm", {});
    if (permutation.empty()) {
      for (int axis = rank - 1; axis >= 0; --axis) permutation.push_back(axis);
    }
    return permutation;
  }
  std::vector<std::int64_t> permutation_;
};

/// Reshape and the like: the same elements in the same order.
class ReshapeKernel final : public MovementKernel {
 public:
  static Refusal refuses(const Signature& signature) { return refuses_rank(signature); }
  explicit ReshapeKernel(const KernelSpec&) {}
  void run(const Launch& launch) const override {
    const TensorView& in = launch.inputs[0];
    const TensorView& out = launch.outputs[0];
    StridedCopy copy(size_of(in.dtype));
    copy.add_axis(in.num_elements(), 1, 1);
    copy.run(in.data, out.data, pool_of(launch));
  }
  bool accepts_pitched_input(int) const override { return false; }
  bool accepts_pitched_output(int) const override { return false; }
};

/// Concat: every input is copied to its place along the axis. Split: every output from its place.
class ConcatKernel final : public MovementKernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (auto refusal = refuses_rank(signature)) return refusal;
    if (!normalized_axis(signature.op.attributes().get_int("axis", 0), signature.outputs[0].rank()))
      return "no such axis";
    return std::nullopt;
  }
  explicit ConcatKernel(const KernelSpec& spec)
      : axis_(static_cast<std::size_t>(
            *normalized_axis(spec.op->attributes().get_int("axis", 0), spec.outputs[0].rank()))) {}
  void run(const Launch& launch) const override {
    const TensorView& out = launch.outputs[0];
    const Strides to = strides_of_view(out);
    std::int64_t offset = 0;
    for (const TensorView& in : launch.inputs) {
      StridedCopy copy(size_of(in.dtype));
      const Strides from = strides_of_view(in);
      for (std::size_t a = 0; a < in.dims.size(); ++a) copy.add_axis(in.dims[a], from[a], to[a]);
      copy.run(in.data, writable_bytes_at(out, offset * to[axis_]), pool_of(launch));
      offset += in.dims[axis_];
    }
  }
  bool accepts_pitched_input(int) const override { return true; }

 private:
  std::size_t axis_;
};

class SplitKernel final : public MovementKernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (auto refusal = refuses_rank(signature)) return refusal;
    for (const TensorType& type : signature.outputs) {
      if (type.dtype == DType::undefined) return "an output that is not wanted hides where the next one starts";
    }
    if (!normalized_axis(signature.op.attributes().get_int("axis", 0), signature.inputs[0].rank()))
      return "no such axis";
    return std::nullopt;
  }
  explicit SplitKernel(const KernelSpec& spec)
      : axis_(static_cast<std::size_t>(
            *normalized_axis(spec.op->attributes().get_int("axis", 0), spec.inputs[0].rank()))) {}
  void run(const Launch& launch) const override {
    const TensorView& in = launch.inputs[0];
    const Strides from = strides_of_view(in);
    std::int64_t offset = 0;
    for (const TensorView& out : launch.outputs) {
      StridedCopy copy(size_of(in.dtype));
      const Strides to = strides_of_view(out);
      for (std::size_t a = 0; a < out.dims.size(); ++a) copy.add_axis(out.dims[a], from[a], to[a]);
      if (offset + out.dims[axis_] > in.dims[axis_]) return;  // the runtime has checked the shapes; stay inside anyway
      copy.run(bytes_at(in, offset * from[axis_]), out.data, pool_of(launch));
      offset += out.dims[axis_];
    }
  }

 private:
  std::size_t axis_;
};

/// Element `index` of an int32 or int64 host tensor.
std::int64_t integer_at(const TensorView& view, std::int64_t index) {
  return view.dtype == DType::int64 ? view.as<const std::int64_t>()[index] : view.as<const std::int32_t>()[index];
}

class SliceKernel final : public MovementKernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (auto refusal = refuses_rank(signature)) return refusal;
    for (std::size_t i = 1; i < signature.inputs.size(); ++i) {
      const DType dtype = signature.inputs[i].dtype;
      if (signature.has_input(i) && dtype != DType::int64 && dtype != DType::int32) {
        return fmt::format("input {} is {}, expected int32 or int64", i, to_string(dtype));
      }
    }
    return std::nullopt;
  }
  explicit SliceKernel(const KernelSpec& spec) {
    const Attributes attributes = spec.op->attributes();
    from_inputs_ = !attributes.has("starts");
    starts_ = attributes.get_ints("starts", {});
    axes_ = attributes.get_ints("axes", {});
    steps_ = attributes.get_ints("steps", {});
  }
  void run(const Launch& launch) const override {
    const TensorView& in = launch.inputs[0];
    const TensorView& out = launch.outputs[0];
    Strides from = strides_of_view(in);
    const Strides to = strides_of_view(out);
    const TensorView starts = from_inputs_ ? operand(launch.inputs, 1) : TensorView{};
    const TensorView axes = from_inputs_ ? operand(launch.inputs, 3) : TensorView{};
    const TensorView steps = from_inputs_ ? operand(launch.inputs, 4) : TensorView{};
    const std::int64_t count = from_inputs_ ? starts.num_elements() : static_cast<std::int64_t>(starts_.size());
    const auto value = [this](const TensorView& view, const std::vector<std::int64_t>& list, std::int64_t i,
                              std::int64_t otherwise) {
      if (from_inputs_) return view.data == nullptr ? otherwise : integer_at(view, i);
      return list.empty() ? otherwise : list[static_cast<std::size_t>(i)];
    };
    std::int64_t first = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const auto axis = normalized_axis(value(axes, axes_, i, i), in.rank());
      if (!axis) continue;
      const auto a = static_cast<std::size_t>(*axis);
      const std::int64_t step = value(steps, steps_, i, 1), size = in.dims[a];
      std::int64_t start = value(starts, starts_, i, 0);
      if (start < 0) start += size;
      start = step > 0 ? std::clamp<std::int64_t>(start, 0, size)
                       : std::clamp<std::int64_t>(start, 0, std::max<std::int64_t>(size - 1, 0));
      first += start * from[a];
      if (out.dims[a] > 1) from[a] *= step;
    }
    StridedCopy copy(size_of(in.dtype));
    for (std::size_t a = 0; a < out.dims.size(); ++a) copy.add_axis(out.dims[a], from[a], to[a]);
    copy.run(bytes_at(in, first), out.data, pool_of(launch));
  }

 private:
  bool from_inputs_ = false;
  std::vector<std::int64_t> starts_, axes_, steps_;
};

class ExpandKernel final : public MovementKernel {
 public:
  static Refusal refuses(const Signature& signature) { return refuses_rank(signature); }
  explicit ExpandKernel(const KernelSpec&) {}
  void run(const Launch& launch) const override {
    const TensorView& in = launch.inputs[0];
    const TensorView& out = launch.outputs[0];
    const Strides from = strides_of_view(in), to = strides_of_view(out);
    StridedCopy copy(size_of(in.dtype));
    const std::size_t missing = out.dims.size() - in.dims.size();
    for (std::size_t a = 0; a < out.dims.size(); ++a) {
      const bool repeats = a < missing || in.dims[a - missing] == 1;
      copy.add_axis(out.dims[a], repeats ? 0 : from[a - missing], to[a]);
    }
    copy.run(in.data, out.data, pool_of(launch));
  }
};

class TileKernel final : public MovementKernel {
 public:
  static Refusal refuses(const Signature& signature) { return refuses_rank(signature); }
  explicit TileKernel(const KernelSpec&) {}
  void run(const Launch& launch) const override {
    const TensorView& in = launch.inputs[0];
    const TensorView& out = launch.outputs[0];
    const Strides from = strides_of_view(in), to = strides_of_view(out);
    StridedCopy copy(size_of(in.dtype));
    for (std::size_t a = 0; a < out.dims.size(); ++a) {
      copy.add_axis(in.dims[a] == 0 ? 0 : out.dims[a] / in.dims[a], 0, to[a] * in.dims[a]);
      copy.add_axis(in.dims[a], from[a], to[a]);
    }
    copy.run(in.data, out.data, pool_of(launch));
  }
};

/// DepthToSpace and SpaceToDepth on [N, C, H, W].
class BlockKernel final : public MovementKernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (signature.inputs[0].rank() != 4) return fmt::format("rank {} is not 4", signature.inputs[0].rank());
    const Attributes attributes = signature.op.attributes();
    if (attributes.get_string("layout", "nchw") != "nchw") return "the layout is not nchw";
    if (attributes.get_int("blocksize", 0) <= 0) return "blocksize is not positive";
    return std::nullopt;
  }
  explicit BlockKernel(const KernelSpec& spec) {
    const Attributes attributes = spec.op->attributes();
    block_ = attributes.get_int("blocksize");
    to_space_ = spec.op->type() == "DepthToSpace";
    depth_first_ = attributes.get_string("mode", "DCR") == "DCR";
  }
  void run(const Launch& launch) const override {
    const TensorView& in = launch.inputs[0];
    const TensorView& out = launch.outputs[0];
    // Both directions pair deep [N, C b b, H, W] with wide [N, C, H b, W b].
    const TensorView& deep = to_space_ ? in : out;
    const TensorView& wide = to_space_ ? out : in;
    const Strides d = strides_of_view(deep), w = strides_of_view(wide);
    const std::int64_t channels = wide.dims[1];
    // DCR: deep channel = (by b + bx) C + c; CRD: c b b + by b + bx.
    const std::int64_t c_stride = (depth_first_ ? 1 : block_ * block_) * d[1];
    const std::int64_t y_stride = (depth_first_ ? block_ * channels : block_) * d[1];
    const std::int64_t x_stride = (depth_first_ ? channels : 1) * d[1];
    struct Axis {
      std::int64_t size, deep, wide;
    };
    const std::array axes = {Axis{deep.dims[0], d[0], w[0]},          Axis{channels, c_stride, w[1]},
                             Axis{deep.dims[2], d[2], w[2] * block_}, Axis{block_, y_stride, w[2]},
                             Axis{deep.dims[3], d[3], w[3] * block_}, Axis{block_, x_stride, w[3]}};
    // In the output's order: for a deep output the block comes before the channels (DCR) or after them (SpaceToDepth
    // always writes DCR), and the pixels last.
    constexpr std::array kWideOrder = {0, 1, 2, 3, 4, 5};
    constexpr std::array kDeepOrder = {0, 3, 5, 1, 2, 4};
    StridedCopy copy(size_of(in.dtype));
    for (const int i : to_space_ ? kWideOrder : kDeepOrder) {
      const Axis& axis = axes[static_cast<std::size_t>(i)];
      copy.add_axis(axis.size, to_space_ ? axis.deep : axis.wide, to_space_ ? axis.wide : axis.deep);
    }
    copy.run(in.data, out.data, pool_of(launch));
  }

 private:
  std::int64_t block_ = 1;
  bool to_space_ = true, depth_first_ = true;
};

}  // namespace

const CpuTactic kTransposeCopy = plain_tactic<TransposeKernel>("copy.strided", "Transpose");
const CpuTactic kReshapeCopy = plain_tactic<ReshapeKernel>("copy.strided", "Reshape");
const CpuTactic kConcatCopy = plain_tactic<ConcatKernel>("copy.strided", "Concat");
const CpuTactic kSplitCopy = plain_tactic<SplitKernel>("copy.strided", "Split");
const CpuTactic kSliceCopy = plain_tactic<SliceKernel>("copy.strided", "Slice");
const CpuTactic kExpandCopy = plain_tactic<ExpandKernel>("copy.strided", "Expand");
const CpuTactic kTileCopy = plain_tactic<TileKernel>("copy.strided", "Tile");
const CpuTactic kDepthToSpaceCopy = plain_tactic<BlockKernel>("copy.strided", "DepthToSpace");
const CpuTactic kSpaceToDepthCopy = plain_tactic<BlockKernel>("copy.strided", "SpaceToDepth");

}  // namespace tenfold::cpu
