// What tactics of every backend look at before they accept a problem.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/op.hpp"
#include "graph/tensor.hpp"

namespace tenfold {

/// Why; nullopt: accepted.
using Refusal = std::optional<std::string>;

/// An operator with the types of its operands.
struct Signature {
  const Op& op;
  const std::vector<TensorType>& inputs;
  const std::vector<TensorType>& outputs;

  bool has_input(std::size_t index) const { return index < inputs.size() && inputs[index].dtype != DType::undefined; }
  bool has_output(std::size_t index) const {
    return index < outputs.size() && outputs[index].dtype != DType::undefined;
  }
  /// "the weights are float64, expected float32"; nullopt when input `index` has this dtype.
  Refusal refuses_dtype(std::size_t index, std::string_view what, DType expected = DType::float32) const;
};

/// The operand, or a view without data if the node has fewer.
inline TensorView operand_of(std::span<const TensorView> operands, std::size_t index) {
  return index < operands.size() ? operands[index] : TensorView{};
}
/// Product of dims[begin .. end).
inline std::int64_t product_of_dims(std::span<const std::int64_t> dims, std::size_t begin, std::size_t end) {
  std::int64_t count = 1;
  for (std::size_t i = begin; i < end; ++i) count *= dims[i];
  return count;
}
/// The axis counted from the front, or nullopt if there is none such.
inline std::optional<int> normalized_axis(std::int64_t axis, int rank) {
  if (axis < -rank || axis >= rank) return std::nullopt;
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

}  // namespace tenfold
