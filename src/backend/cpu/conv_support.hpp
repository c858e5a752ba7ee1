// What the tactics of Conv share: which problems they take, and the geometry of a run.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.hpp"
#include "backend/cpu/kernels/gemm.hpp"
#include "ops/conv.hpp"

namespace tenfold::cpu {

const Conv& conv_of(const OpPtr& op);

/// Sizes that the weights [O, C/group, kernel...] fix, per group.
struct ConvSizes {
  std::int64_t group = 1;
  std::int64_t in_channels = 0, out_channels = 0;  ///< of one group
  std::array<std::int64_t, 3> kernel{1, 1, 1};     ///< right-aligned
  std::int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
};
/// Can a tactic read an image that lies in planes?
enum class Planes : std::uint8_t { refused, taken };
/// Why no tactic for channels-last float32 convolutions with constant weights takes it; nullopt if they can.
/// Does not look at Problem::constants: `make` has none.
std::optional<std::string> refuses_conv(const Conv& conv, std::span<const TensorType> inputs,
                                        std::span<const TensorType> outputs, Planes planes = Planes::refused);
/// What of it does not depend on types.
std::optional<std::string> refuses_conv_shapes(const Conv& conv, std::span<const TensorType> inputs,
                                               std::span<const TensorType> outputs, Planes planes = Planes::refused);
/// Requires that refuses_conv or refuses_conv_shapes found nothing.
ConvSizes conv_sizes(const Conv& conv, const TensorType& weights);
/// The geometry for the operands of a run, planes included; `zeros` stays nullptr.
ConvRows conv_rows(const Conv& conv, const ConvSizes& sizes, const TensorView& x, const TensorView& y);
/// The bias of a launch, or nullptr.
const float* conv_bias(const Launch& launch);
/// Multiply-adds times two, and bytes touched, at the problem's shapes.
struct ConvWork {
  double flops = 0, bytes = 0;
};
ConvWork conv_work(const Problem& problem, const ConvSizes& sizes);
/// Weights [channels, 1, kernel...] of a depthwise convolution as [kernel position][channels, padded to whole vectors].
std::vector<std::byte> pack_depthwise(const float* weights, std::int64_t taps, std::int64_t channels);
/// Is every output pixel computed from the input pixel at the same place alone?
bool is_plain_product(const Conv& conv, const ConvSizes& sizes);

}  // namespace tenfold::cpu
