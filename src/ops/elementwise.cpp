#include "ops/elementwise.hpp"

namespace tenfold {

bool accepts(Types types, DType dtype) {
  if (dtype == DType::undefined) return false;
  return dispatch(dtype, [&]<typename T>() { return accepts_type<T>(types); });
}

void check_types(const InferContext& context, int index, Types types) {
  const auto name = [&]() -> std::string_view {
    switch (types) {
      case Types::floats:
        return "a floating-point type";
      case Types::signed_numbers:
        return "a signed numeric type";
      case Types::numbers:
        return "a numeric type";
      case Types::integers:
        return "an integer type";
      case Types::unsigned_integers:
        return "an unsigned integer type";
      case Types::booleans:
        return "bool";
      case Types::any:
        break;
    }
    return "an element type";
  };
  const DType dtype = context.input(index).dtype;
  require(accepts(types, dtype), Code::invalid_model, "input {} must be of {}, got {}", index, name(),
          to_string(dtype));
}

}  // namespace tenfold
