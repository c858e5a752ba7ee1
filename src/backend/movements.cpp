#include "backend/movements.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace tenfold {
namespace {

Refusal refuses_rank(const Signature& signature) {
  if (!signature.has_input(0) || signature.outputs.empty()) return "operands are missing";
  for (const auto* types : {&signature.inputs, &signature.outputs}) {
    for (const TensorType& type : *types) {
      if (type.rank() > kMaxRank) return fmt::format("rank {} is above {}", type.rank(), kMaxRank);
    }
  }
  return std::nullopt;
}

std::vector<std::int64_t> permutation_of(const Op& op, int rank) {
  std::vector<std::int64_t> permutation = op.attributes().get_ints("perm", {});
  if (permutation.empty()) {
    for (int axis = rank - 1; axis >= 0; --axis) permutation.push_back(axis);
  }
  return permutation;
}

/// The attribute `axis` of an operand of this rank.
std::optional<int> axis_of(const Op& op, int rank) { return normalized_axis(op.attributes().get_int("axis", 0), rank); }

/// Element `index` of an int32 or int64 tensor.
std::int64_t integer_at(const TensorView& view, std::int64_t index) {
  return view.dtype == DType::int64 ? view.as<const std::int64_t>()[index] : view.as<const std::int32_t>()[index];
}

}  // namespace

Strides strides_of_view(const TensorView& view) {
  Strides strides{};
  std::int64_t next = 1;
  for (int i = view.rank() - 1; i >= 0; --i) {
    strides[static_cast<std::size_t>(i)] = next;
    next = i == view.rank() - 1 ? std::max(view.pitch, view.dim(i)) : next * view.dim(i);
  }
  return strides;
}

Refusal TransposeMovement::refuses(const Signature& signature) {
  if (auto refusal = refuses_rank(signature)) return refusal;
  const int rank = signature.inputs[0].rank();
  const std::vector<std::int64_t> permutation = permutation_of(signature.op, rank);
  if (static_cast<int>(permutation.size()) != rank) return "perm has not one entry for each axis";
  std::array<bool, kMaxRank> seen{};
  for (const std::int64_t axis : permutation) {
    if (axis < 0 || axis >= rank || seen[static_cast<std::size_t>(axis)]) return "perm is no permutation of the axes";
    seen[static_cast<std::size_t>(axis)] = true;
  }
  return std::nullopt;
}
TransposeMovement::TransposeMovement(const KernelSpec& spec)
    : permutation_(permutation_of(*spec.op, spec.inputs[0].rank())) {}

Refusal ConcatMovement::refuses(const Signature& signature) {
  if (auto refusal = refuses_rank(signature)) return refusal;
  if (!axis_of(signature.op, signature.outputs[0].rank())) return "no such axis";
  return std::nullopt;
}
ConcatMovement::ConcatMovement(const KernelSpec& spec)
    : axis_(static_cast<std::size_t>(axis_of(*spec.op, spec.outputs[0].rank()).value())) {}

Refusal SplitMovement::refuses(const Signature& signature) {
  if (auto refusal = refuses_rank(signature)) return refusal;
  for (const TensorType& type : signature.outputs) {
    if (type.dtype == DType::undefined) return "an output that is not wanted hides where the next one starts";
  }
  if (!axis_of(signature.op, signature.inputs[0].rank())) return "no such axis";
  return std::nullopt;
}
SplitMovement::SplitMovement(const KernelSpec& spec)
    : axis_(static_cast<std::size_t>(axis_of(*spec.op, spec.inputs[0].rank()).value())) {}

Refusal SliceMovement::refuses(const Signature& signature) {
  if (auto refusal = refuses_rank(signature)) return refusal;
  for (std::size_t i = 1; i < signature.inputs.size(); ++i) {
    const DType dtype = signature.inputs[i].dtype;
    if (signature.has_input(i) && dtype != DType::int64 && dtype != DType::int32) {
      return fmt::format("input {} is {}, expected int32 or int64", i, to_string(dtype));
    }
  }
  for (const std::int64_t axis : signature.op.attributes().get_ints("axes", {})) {
    if (!normalized_axis(axis, signature.inputs[0].rank())) return "no such axis";
  }
  return std::nullopt;
}
SliceMovement::SliceMovement(const KernelSpec& spec) {
  const Attributes attributes = spec.op->attributes();
  from_inputs_ = !attributes.has("starts");
  starts_ = attributes.get_ints("starts", {});
  axes_ = attributes.get_ints("axes", {});
  steps_ = attributes.get_ints("steps", {});
}
std::int64_t SliceMovement::place(std::span<const TensorView> inputs, const TensorView& out, CopyAxes& axes) const {
  const TensorView& in = inputs[0];
  Strides from = strides_of_view(in);
  const Strides to = strides_of_view(out);
  const auto given = [&](std::size_t input) { return from_inputs_ ? operand_of(inputs, input) : TensorView{}; };
  const TensorView starts = given(1), given_axes = given(3), steps = given(4);
  const std::int64_t count = from_inputs_ ? starts.num_elements() : static_cast<std::int64_t>(starts_.size());
  const auto value = [this](const TensorView& view, const std::vector<std::int64_t>& list, std::int64_t i,
                            std::int64_t otherwise) {
    if (from_inputs_) return view.data == nullptr ? otherwise : integer_at(view, i);
    return list.empty() ? otherwise : list[static_cast<std::size_t>(i)];
  };
  std::int64_t first = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto axis = normalized_axis(value(given_axes, axes_, i, i), in.rank());
    if (!axis) continue;
    const auto a = static_cast<std::size_t>(*axis);
    const std::int64_t step = value(steps, steps_, i, 1), size = in.dims[a];
    std::int64_t start = value(starts, starts_, i, 0);
    if (start < 0) start += size;
    start = std::clamp<std::int64_t>(start, 0, step > 0 ? size : std::max<std::int64_t>(size - 1, 0));
    first += start * from[a];
    if (out.dims[a] > 1) from[a] *= step;
  }
  for (std::size_t a = 0; a < out.dims.size(); ++a) axes.add(out.dims[a], from[a], to[a]);
  return first;
}

Refusal ExpandMovement::refuses(const Signature& signature) { return refuses_rank(signature); }
Refusal TileMovement::refuses(const Signature& signature) { return refuses_rank(signature); }

Refusal BlockMovement::refuses(const Signature& signature) {
  if (auto refusal = refuses_rank(signature)) return refusal;
  if (signature.inputs[0].rank() != 4) return fmt::format("rank {} is not 4", signature.inputs[0].rank());
  const Attributes attributes = signature.op.attributes();
  if (attributes.get_string("layout", "nchw") != "nchw") return "the layout is not nchw";
  if (attributes.get_int("blocksize", 0) <= 0) return "blocksize is not positive";
  return std::nullopt;
}
BlockMovement::BlockMovement(const KernelSpec& spec) {
  const Attributes attributes = spec.op->attributes();
  block_ = attributes.get_int("blocksize");
  to_space_ = spec.op->type() == "DepthToSpace";
  depth_first_ = attributes.get_string("mode", "DCR") == "DCR";
}
CopyAxes BlockMovement::axes_of(const TensorView& in, const TensorView& out) const {
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
  // In the output's order: for a deep output the block comes before the channels (SpaceToDepth always writes DCR), and
  // the pixels last.
  constexpr std::array kWideOrder = {0, 1, 2, 3, 4, 5};
  constexpr std::array kDeepOrder = {0, 3, 5, 1, 2, 4};
  CopyAxes copy;
  for (const int i : to_space_ ? kWideOrder : kDeepOrder) {
    const Axis& axis = axes[static_cast<std::size_t>(i)];
    copy.add(axis.size, to_space_ ? axis.deep : axis.wide, to_space_ ? axis.wide : axis.deep);
  }
  return copy;
}

}  // namespace tenfold
