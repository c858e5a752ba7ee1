// Operands of epilogues in kernels that are not built around tensor cores: images stored channels last, or rows. An
// operand is one number, one for each channel (the innermost axis), one for each image and channel, or one for each
// element.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/cuda/pointwise_text.hpp"
#include "backend/cuda/tactic_tools.hpp"

namespace tenfold::cuda {

/// As the kernels see it: struct Operands in `epilogue_operands_prelude`.
struct EpilogueOperands {
  static constexpr std::size_t kMost = 8;
  const void* data[kMost] = {};
  std::int64_t pitches[kMost] = {};  ///< from one pixel to the next, of operands with one number for each element

  /// From the inputs of a launch, of which the operands begin at `first`.
  static EpilogueOperands from(std::span<const TensorView> inputs, std::size_t first);
};
/// Too many, of a type that is not read, or broadcast in another way.
Refusal refuses_epilogue_operands(const std::vector<TensorType>& inputs, std::size_t first, const TensorType& result);

std::string_view epilogue_operands_prelude();
/// Expressions of the kernel: its Operands, the element's pixel (over all images), its image, its channel.
struct ElementPlace {
  std::string_view operands, pixel, image, channel;
};
/// Loads the operands and runs the program, whose register 0 is the float `s0`.
ProgramText epilogue_text(const PointwiseProgram& program, const std::vector<TensorType>& inputs, std::size_t first,
                          const TensorType& result, const ElementPlace& place, std::string_view indent);

}  // namespace tenfold::cuda
