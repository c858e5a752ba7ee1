// Operators that move elements without changing them, as strided copies: Transpose, Concat, Split, Slice, Expand, Tile,
// DepthToSpace, SpaceToDepth. Any element type, pitched operands.
#include <algorithm>

#include "backend/cuda/strided_copy.hpp"
#include "backend/cuda/tactic_tools.hpp"

namespace tenfold::cuda {
namespace {

Refusal refuses_rank(const Signature& signature, int most = kMaxRank) {
  if (!signature.has_input(0) || signature.outputs.empty()) return "operands are missing";
  for (const auto* types : {&signature.inputs, &signature.outputs}) {
    for (const TensorType& type : *types) {
      if (type.rank() > most) return fmt::format("rank {} is above {}", type.rank(), most);
    }
  }
  return std::nullopt;
}

/// A kernel that is made of strided copies.
class MovementKernel : public Kernel {
 public:
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    return strided_copy_source(size_of(spec.inputs[0].dtype));
  }
  MovementKernel(const KernelSpec& spec, const LoadedModule& module) : copy_(size_of(spec.inputs[0].dtype), module) {}
  bool accepts_pitched_input(int index) const override { return index == 0; }
  bool accepts_pitched_output(int) const override { return true; }

 protected:
  StridedCopy copy_;
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
      if (axis < 0 || axis >= signature.inputs[0].rank() || seen[static_cast<std::size_t>(axis)])
        return "perm is no permutation of the axes";
      seen[static_cast<std::size_t>(axis)] = true;
    }
    return std::nullopt;
  }
  TransposeKernel(const KernelSpec& spec, const LoadedModule& module)
      : MovementKernel(spec, module), permutation_(permutation_of(*spec.op, spec.inputs[0].rank())) {}
  void run(const Launch& launch) const override {
    const TensorView& in = launch.inputs[0];
    const TensorView& out = launch.outputs[0];
    const auto from = view_strides(in), to = view_strides(out);
    StridedCopy::Axes axes;
    for (std::size_t a = 0; a < out.dims.size(); ++a) {
      axes.add(out.dims[a], from[static_cast<std::size_t>(permutation_[a])], to[a]);
    }
    copy_.run(axes, in.data, out.data, cuda_stream(launch));
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

/// Every input is copied to its place along the axis.
class ConcatKernel final : public MovementKernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (auto refusal = refuses_rank(signature)) return refusal;
    if (!normalized_axis(signature.op.attributes().get_int("axis", 0), signature.outputs[0].rank()))
      return "no such axis";
    return std::nullopt;
  }
  ConcatKernel(const KernelSpec& spec, const LoadedModule& module)
      : MovementKernel(spec, module),
        axis_(static_cast<std::size_t>(
            *normalized_axis(spec.op->attributes().get_int("axis", 0), spec.outputs[0].rank()))) {}
  void run(const Launch& launch) const override {
    const TensorView& out = launch.outputs[0];
    const auto to = view_strides(out);
    std::int64_t offset = 0;
    for (const TensorView& in : launch.inputs) {
      const auto from = view_strides(in);
      StridedCopy::Axes axes;
      for (std::size_t a = 0; a < in.dims.size(); ++a) axes.add(in.dims[a], from[a], to[a]);
      copy_.run(axes, in.data, element_at(out, offset * to[axis_]), cuda_stream(launch));
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
  SplitKernel(const KernelSpec& spec, const LoadedModule& module)
      : MovementKernel(spec, module),
        axis_(static_cast<std::size_t>(
            *normalized_axis(spec.op->attributes().get_int("axis", 0), spec.inputs[0].rank()))) {}
  void run(const Launch& launch) const override {
    const TensorView& in = launch.inputs[0];
    const auto from = view_strides(in);
    std::int64_t offset = 0;
    for (const TensorView& out : launch.outputs) {
      const auto to = view_strides(out);
      StridedCopy::Axes axes;
      for (std::size_t a = 0; a < out.dims.size(); ++a) axes.add(out.dims[a], from[a], to[a]);
      if (offset + out.dims[axis_] > in.dims[axis_]) return;  // the runtime has checked the shapes; stay inside anyway
      copy_.run(axes, element_at(in, offset * from[axis_]), out.data, cuda_stream(launch));
      offset += out.dims[axis_];
    }
  }

 private:
  std::size_t axis_;
};

class SliceKernel final : public MovementKernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (auto refusal = refuses_rank(signature)) return refusal;
    const Attributes attributes = signature.op.attributes();
    if (!attributes.has("starts")) return "where it starts is computed";
    for (const std::int64_t axis : attributes.get_ints("axes", {})) {
      if (!normalized_axis(axis, signature.inputs[0].rank())) return "no such axis";
    }
    return std::nullopt;
  }
  SliceKernel(const KernelSpec& spec, const LoadedModule& module) : MovementKernel(spec, module) {
    const Attributes attributes = spec.op->attributes();
    starts_ = attributes.get_ints("starts", {});
    axes_ = attributes.get_ints("axes", {});
    steps_ = attributes.get_ints("steps", {});
  }
  void run(const Launch& launch) const override {
    const TensorView& in = launch.inputs[0];
    const TensorView& out = launch.outputs[0];
    auto from = view_strides(in);
    const auto to = view_strides(out);
    std::int64_t first = 0;
    for (std::size_t i = 0; i < starts_.size(); ++i) {
      const auto a = static_cast<std::size_t>(
          *normalized_axis(axes_.empty() ? static_cast<std::int64_t>(i) : axes_[i], in.rank()));
      const std::int64_t step = steps_.empty() ? 1 : steps_[i], size = in.dims[a];
      const std::int64_t start = starts_[i] < 0 ? starts_[i] + size : starts_[i];
      const std::int64_t highest = step > 0 ? size : std::max<std::int64_t>(size - 1, 0);
      first += std::clamp<std::int64_t>(start, 0, highest) * from[a];
      if (out.dims[a] > 1) from[a] *= step;
    }
    StridedCopy::Axes axes;
    for (std::size_t a = 0; a < out.dims.size(); ++a) axes.add(out.dims[a], from[a], to[a]);
    copy_.run(axes, element_at(in, first), out.data, cuda_stream(launch));
  }

 private:
  std::vector<std::int64_t> starts_, axes_, steps_;
};

class ExpandKernel final : public MovementKernel {
 public:
  static Refusal refuses(const Signature& signature) { return refuses_rank(signature); }
  using MovementKernel::MovementKernel;
  void run(const Launch& launch) const override {
    const TensorView& in = launch.inputs[0];
    const TensorView& out = launch.outputs[0];
    const NestOperand from = broadcast_operand(in, out.dims);
    const auto to = view_strides(out);
    StridedCopy::Axes axes;
    for (std::size_t a = 0; a < out.dims.size(); ++a) axes.add(out.dims[a], from.strides[a], to[a]);
    copy_.run(axes, in.data, out.data, cuda_stream(launch));
  }
};

class TileKernel final : public MovementKernel {
 public:
  static Refusal refuses(const Signature& signature) { return refuses_rank(signature, kMaxRank / 2); }
  using MovementKernel::MovementKernel;
  void run(const Launch& launch) const override {
    const TensorView& in = launch.inputs[0];
    const TensorView& out = launch.outputs[0];
    const auto from = view_strides(in), to = view_strides(out);
    StridedCopy::Axes axes;
    for (std::size_t a = 0; a < out.dims.size(); ++a) {
      axes.add(in.dims[a] == 0 ? 0 : out.dims[a] / in.dims[a], 0, to[a] * in.dims[a]);
      axes.add(in.dims[a], from[a], to[a]);
    }
    copy_.run(axes, in.data, out.data, cuda_stream(launch));
  }
};

/// DepthToSpace and SpaceToDepth on [N, C, H, W].
class BlockKernel final : public MovementKernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (signature.inputs.empty() || signature.inputs[0].rank() != 4) return "the input is no image of rank 4";
    const Attributes attributes = signature.op.attributes();
    if (attributes.get_string("layout", "nchw") != "nchw") return "the layout is not nchw";
    if (attributes.get_int("blocksize", 0) <= 0) return "blocksize is not positive";
    return std::nullopt;
  }
  BlockKernel(const KernelSpec& spec, const LoadedModule& module) : MovementKernel(spec, module) {
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
    const auto d = view_strides(deep), w = view_strides(wide);
    const std::int64_t channels = wide.dims[1];
    // DCR: deep channel = (by b + bx) C + c; CRD: c b b + by b + bx.
    const std::int64_t c_stride = (depth_first_ ? 1 : block_ * block_) * d[1];
    const std::int64_t y_stride = (depth_first_ ? block_ * channels : block_) * d[1];
    const std::int64_t x_stride = (depth_first_ ? channels : 1) * d[1];
    struct Axis {
      std::int64_t size, deep, wide;
    };
    std::array axes = {Axis{deep.dims[0], d[0], w[0]},          Axis{channels, c_stride, w[1]},
                       Axis{deep.dims[2], d[2], w[2] * block_}, Axis{block_, y_stride, w[2]},
                       Axis{deep.dims[3], d[3], w[3] * block_}, Axis{block_, x_stride, w[3]}};
    // In the order of the output's memory.
    std::stable_sort(axes.begin(), axes.end(),
                     [this](const Axis& a, const Axis& b) { return to_space_ ? a.wide > b.wide : a.deep > b.deep; });
    StridedCopy::Axes copy;
    for (const Axis& axis : axes) {
      copy.add(axis.size, to_space_ ? axis.deep : axis.wide, to_space_ ? axis.wide : axis.deep);
    }
    copy_.run(copy, in.data, out.data, cuda_stream(launch));
  }

 private:
  std::int64_t block_ = 1;
  bool to_space_ = true, depth_first_ = true;
};

}  // namespace

const CudaTactic kTransposeCopy = plain_tactic<TransposeKernel>("copy.strided", "Transpose");
const CudaTactic kConcatCopy = plain_tactic<ConcatKernel>("copy.strided", "Concat");
const CudaTactic kSplitCopy = plain_tactic<SplitKernel>("copy.strided", "Split");
const CudaTactic kSliceCopy = plain_tactic<SliceKernel>("copy.strided", "Slice");
const CudaTactic kExpandCopy = plain_tactic<ExpandKernel>("copy.strided", "Expand");
const CudaTactic kTileCopy = plain_tactic<TileKernel>("copy.strided", "Tile");
const CudaTactic kDepthToSpaceCopy = plain_tactic<BlockKernel>("copy.strided", "DepthToSpace");
const CudaTactic kSpaceToDepthCopy = plain_tactic<BlockKernel>("copy.strided", "SpaceToDepth");

}  // namespace tenfold::cuda
