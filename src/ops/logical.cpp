// Logic, comparisons and operations on bits, of two broadcast operands.
// Source: ONNX operator sets 7 to 28: And, Or, Xor, Equal, Greater, GreaterOrEqual, Less, LessOrEqual, BitShift,
// BitwiseAnd, BitwiseOr, BitwiseXor.
#include "ops/elementwise.hpp"

namespace tenfold {
namespace {

std::optional<Dim> as_dim(std::optional<bool> truth) {
  if (!truth) return std::nullopt;
  return Dim(*truth ? 1 : 0);
}

#define TENFOLD_LOGIC(name, formula, fold_formula)                                     \
  struct name##Rule : NoAttributes {                                                   \
    static constexpr std::string_view kName = #name;                                   \
    static constexpr Types kTypes = Types::booleans;                                   \
    static constexpr bool kBoolean = true;                                             \
    bool apply(bool a, bool b) const { return formula; }                               \
    std::optional<Dim> fold(const Dim& a, const Dim& b) const { return fold_formula; } \
  };
TENFOLD_LOGIC(And, a&& b, Dim::min(a, b))
TENFOLD_LOGIC(Or, a || b, Dim::max(a, b))
TENFOLD_LOGIC(Xor, a != b, a + b - Dim(2) * a * b)
#undef TENFOLD_LOGIC

#define TENFOLD_COMPARISON(name, types, formula, fold_formula)                                 \
  struct name##Rule : NoAttributes {                                                           \
    static constexpr std::string_view kName = #name;                                           \
    static constexpr Types kTypes = types;                                                     \
    static constexpr bool kBoolean = true;                                                     \
    template <typename T>                                                                      \
    bool apply(T a, T b) const {                                                               \
      return formula;                                                                          \
    }                                                                                          \
    std::optional<Dim> fold(const Dim& a, const Dim& b) const { return as_dim(fold_formula); } \
  };
std::optional<bool> negated(std::optional<bool> truth) {
  if (truth) truth = !*truth;
  return truth;
}
TENFOLD_COMPARISON(Equal, Types::any, a == b, is_equal(a, b))
TENFOLD_COMPARISON(Greater, Types::numbers, a > b, is_less(b, a))
TENFOLD_COMPARISON(GreaterOrEqual, Types::numbers, a >= b, negated(is_less(a, b)))
TENFOLD_COMPARISON(Less, Types::numbers, a < b, is_less(a, b))
TENFOLD_COMPARISON(LessOrEqual, Types::numbers, a <= b, negated(is_less(b, a)))
#undef TENFOLD_COMPARISON

#define TENFOLD_BITWISE(name, formula)               \
  struct name##Rule : NoAttributes {                 \
    static constexpr std::string_view kName = #name; \
    static constexpr Types kTypes = Types::integers; \
    static constexpr bool kBoolean = false;          \
    template <typename T>                            \
    T apply(T a, T b) const {                        \
      return static_cast<T>(formula);                \
    }                                                \
  };
TENFOLD_BITWISE(BitwiseAnd, a& b)
TENFOLD_BITWISE(BitwiseOr, a | b)
TENFOLD_BITWISE(BitwiseXor, a ^ b)
#undef TENFOLD_BITWISE

/// Shifting by the width of the type or more, or by a negative number, leaves only what comes in: copies of the sign
/// when a signed number is shifted to the right, zeros elsewhere.
struct BitShiftRule {
  static constexpr std::string_view kName = "BitShift";
  static constexpr Types kTypes = Types::integers;
  static constexpr bool kBoolean = false;
  bool left = true;
  static BitShiftRule from(const Attributes& attributes) {
    const std::string direction = attributes.get_string("direction");
    require(direction == "LEFT" || direction == "RIGHT", Code::invalid_model,
            "direction must be LEFT or RIGHT, got '{}'", direction);
    return {direction == "LEFT"};
  }
  void store(Attributes& attributes) const { attributes.set("direction", left ? "LEFT" : "RIGHT"); }
  template <typename T>
  T apply(T a, T b) const {
    const auto by = static_cast<std::uint64_t>(b);  // a negative number becomes a large one
    if (by >= 8 * sizeof(T)) return static_cast<T>(!left && a < 0 ? -1 : 0);
    return static_cast<T>(left ? static_cast<T>(static_cast<std::uint64_t>(a) << by) : a >> by);
  }
};

}  // namespace

#define TENFOLD_BINARY(name) const OpDef k##name##Def{#name, make_binary<name##Rule>, import_plain};
TENFOLD_BINARY(And)
TENFOLD_BINARY(BitShift)
TENFOLD_BINARY(BitwiseAnd)
TENFOLD_BINARY(BitwiseOr)
TENFOLD_BINARY(BitwiseXor)
TENFOLD_BINARY(Equal)
TENFOLD_BINARY(Greater)
TENFOLD_BINARY(GreaterOrEqual)
TENFOLD_BINARY(Less)
TENFOLD_BINARY(LessOrEqual)
TENFOLD_BINARY(Or)
TENFOLD_BINARY(Xor)
#undef TENFOLD_BINARY

}  // namespace tenfold
