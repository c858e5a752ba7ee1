// What the libraries' kernels do behind a product, and whether a pointwise program is that:
//
//   y = activation(alpha * sums + bias of the column + residual)
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "backend/cuda/epilogue_text.hpp"

namespace tenfold::cuda {

struct VendorEpilogue {
  enum class Activation : std::uint8_t { none, relu, gelu_tanh };
  float alpha = 1;
  int bias = -1;      ///< the program's operand that is added to every row; -1: none
  int residual = -1;  ///< the operand of the result's shape that is added; -1: none
  Activation activation = Activation::none;
};

/// `operands`: how the program's registers behind register 0 lie over the result, as epilogue_spec says.
/// nullopt and a reason in `refusal` for a program that says something else.
std::optional<VendorEpilogue> vendor_epilogue(const PointwiseProgram& program,
                                              std::span<const EpilogueSpec::Operand> operands, std::string& refusal);

}  // namespace tenfold::cuda
