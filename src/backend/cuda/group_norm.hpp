// What the kernels of GroupNormalization and InstanceNormalization of images stored channels last share.
#pragma once

#include "backend/cuda/epilogue_operands.hpp"
#include "backend/cuda/tactic_tools.hpp"
#include "ops/norm.hpp"

namespace tenfold::cuda {

/// Refuses what is no image of known channels with one scale and one bias a channel, or has an epilogue that no kernel
/// can finish with.
Refusal refuses_group_norm(const Signature& signature);

/// Groups of channels: InstanceNormalization has one channel in each.
std::int64_t groups_of(const Op& op, std::int64_t channels);

/// Sets what the arguments of every kernel begin with: the images, the factors, and the operands of the epilogue.
template <typename Arguments>
void set_images(Arguments& arguments, const Launch& launch) {
  const TensorView& x = launch.inputs[0];
  const TensorView& y = launch.outputs[0];
  arguments.x = x.data;
  arguments.y = y.data;
  arguments.scale = launch.inputs[1].data;
  arguments.bias = launch.inputs[2].data;
  arguments.x_pitch = x.pitch;
  arguments.y_pitch = y.pitch;
  arguments.pixels = static_cast<std::int32_t>(product_of_dims(x.dims, 1, x.dims.size() - 1));
  arguments.operands = EpilogueOperands::from(launch.inputs, GroupNormalization::kFirstEpilogueInput);
}

}  // namespace tenfold::cuda
