#include "backend/cuda/group_norm.hpp"

namespace tenfold::cuda {

std::int64_t groups_of(const Op& op, std::int64_t channels) {
  return op.type() == "InstanceNormalization" ? channels : op.attributes().get_int("num_groups");
}

Refusal refuses_group_norm(const Signature& signature) {
  if (!signature.has_input(2) || !signature.has_output(0)) return "operands are missing";
  const TensorType& x = signature.inputs[0];
  if (layout_from(signature.op.attributes()) != ImageLayout::nhwc) return "the layout is nchw";
  if (x.rank() < 3) return "the input is no image";
  if (!is_device_float(x.dtype) || !is_device_float(signature.outputs[0].dtype)) return "the image is no float";
  const Dim& channels = x.dims.back();
  if (!channels.is_constant() || channels.constant() < 1) return "the number of channels is not known";
  const std::int64_t groups = groups_of(signature.op, channels.constant());
  if (groups <= 0 || channels.constant() % groups != 0) return "the groups do not divide the channels";
  for (std::size_t i = 1; i < 3; ++i) {
    if (!is_device_float(signature.inputs[i].dtype) || signature.inputs[i].dims != std::vector<Dim>{channels})
      return fmt::format("input {} is not one number a channel", i);
  }
  return refuses_epilogue_operands(signature.inputs, GroupNormalization::kFirstEpilogueInput, signature.outputs[0]);
}

}  // namespace tenfold::cuda
