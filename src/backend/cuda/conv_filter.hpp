// What the CUDA convolutions share about their operands.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "backend/cuda/gemm_kernel.hpp"
#include "base/error.hpp"
#include "ops/conv.hpp"

namespace tenfold::cuda {

inline constexpr std::size_t kConvBias = 2;
/// Bytes that rows of a tensor map are a multiple of.
inline constexpr std::int64_t kMapAlignment = 16;

inline const Conv& conv_of(const OpPtr& op) {
  const auto* conv = op_cast<Conv>(op);
  ensure(conv != nullptr, "a Conv tactic was given operator {}", op->type());
  return *conv;
}

/// Of constant weights [n, channels, kernel_h, kernel_w].
struct FilterSizes {
  std::int64_t n = 0, channels = 0, kernel_h = 0, kernel_w = 0;
  std::int64_t positions() const { return kernel_h * kernel_w; }
};
inline FilterSizes filter_sizes(const TensorType& weights) {
  return {weights.dims[0].constant(), weights.dims[1].constant(), weights.dims[2].constant(),
          weights.dims[3].constant()};
}
inline bool has_bias(const std::vector<TensorType>& inputs) {
  return inputs.size() > kConvBias && inputs[kConvBias].dtype != DType::undefined;
}

/// Why no implicit product of this backend can run it; std::nullopt: groups, filter and window are to be looked at.
inline std::optional<std::string> refuses_conv(const Conv& conv, const std::vector<TensorType>& inputs,
                                               const std::vector<TensorType>& outputs) {
  if (inputs.size() < 2 || outputs.empty()) return "operands are missing";
  if (conv.layout() != ImageLayout::nhwc || conv.has_planar_input()) return "the image is not channels-last";
  if (inputs[0].rank() != 4 || inputs[1].rank() != 4) return "only two spatial axes are supported";
  if (!inputs[1].is_static() || (has_bias(inputs) && !inputs[kConvBias].is_static())) return "the weights are computed";
  const FilterSizes sizes = filter_sizes(inputs[1]);
  if (sizes.n < 1 || sizes.channels < 1 || sizes.positions() < 1) return "the filter is empty";
  return std::nullopt;
}

/// The epilogue of a problem that a tensor-core convolution takes; else the refusal is offered, and there is none.
/// `refuses` is what the tactic itself says of operator and operands.
inline std::optional<EpilogueSpec> epilogue_or_refusal(
    const Problem& problem, const DeviceTraits& traits,
    std::optional<std::string> (*refuses)(const Conv&, const std::vector<TensorType>&, const std::vector<TensorType>&),
    std::vector<Candidate>& out) {
  const Conv& conv = conv_of(problem.op);
  auto refusal = refuses_device(traits);
  if (!refusal) refusal = refuses_digits(problem);
  if (!refusal) refusal = refuses(conv, problem.inputs, problem.outputs);
  if (!refusal &&
      (problem.constants[1] == nullptr || (has_bias(problem.inputs) && problem.constants[kConvBias] == nullptr))) {
    refusal = "the weights are computed";
  }
  std::string reason = refusal.value_or("");
  std::optional<EpilogueSpec> epilogue;
  if (!refusal) {
    epilogue =
        epilogue_spec(conv.epilogue().program, problem.inputs, Conv::kFirstEpilogueInput, problem.outputs[0], reason);
  }
  if (!epilogue) offer_refusal(reason, out);
  return epilogue;
}

}  // namespace tenfold::cuda
