#include "backend/signature.hpp"

#include <fmt/format.h>

namespace tenfold {

Refusal Signature::refuses_dtype(std::size_t index, std::string_view what, DType expected) const {
  if (!has_input(index)) return fmt::format("{} is missing", what);
  if (inputs[index].dtype == expected) return std::nullopt;
  return fmt::format("{} is {}, expected {}", what, to_string(inputs[index].dtype), to_string(expected));
}

}  // namespace tenfold
