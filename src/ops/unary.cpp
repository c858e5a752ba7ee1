// Elementwise functions of one operand without parameters: y = f(x).
// Source: ONNX operator sets 6 to 22, the operators of these names. Functions of floating-point numbers are computed in
// double, so that the reference is exact to the last bit or nearly so.
#include <cmath>

#include "ops/elementwise.hpp"

namespace tenfold {
namespace {

#define TENFOLD_FLOAT_FUNCTION(name, formula)               \
  struct name##Rule : NoAttributes {                        \
    static constexpr std::string_view kName = #name;        \
    static constexpr Types kTypes = Types::floats;          \
    double apply_double(double x) const { return formula; } \
  };

/// Without overflow for large |x|.
double softplus(double x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }
double sigmoid(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }
/// Limits to [0, 1]; NaN stays.
double unit(double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }

TENFOLD_FLOAT_FUNCTION(Acos, std::acos(x))
TENFOLD_FLOAT_FUNCTION(Acosh, std::acosh(x))
TENFOLD_FLOAT_FUNCTION(Asin, std::asin(x))
TENFOLD_FLOAT_FUNCTION(Asinh, std::asinh(x))
TENFOLD_FLOAT_FUNCTION(Atan, std::atan(x))
TENFOLD_FLOAT_FUNCTION(Atanh, std::atanh(x))
TENFOLD_FLOAT_FUNCTION(Ceil, std::ceil(x))
TENFOLD_FLOAT_FUNCTION(Cos, std::cos(x))
TENFOLD_FLOAT_FUNCTION(Cosh, std::cosh(x))
TENFOLD_FLOAT_FUNCTION(Erf, std::erf(x))
TENFOLD_FLOAT_FUNCTION(Exp, std::exp(x))
TENFOLD_FLOAT_FUNCTION(Floor, std::floor(x))
TENFOLD_FLOAT_FUNCTION(HardSwish, x* unit(x / 6 + 0.5))
TENFOLD_FLOAT_FUNCTION(Log, std::log(x))
TENFOLD_FLOAT_FUNCTION(Mish, x* std::tanh(softplus(x)))
TENFOLD_FLOAT_FUNCTION(Reciprocal, 1 / x)
TENFOLD_FLOAT_FUNCTION(Round, std::nearbyint(x))
TENFOLD_FLOAT_FUNCTION(Sigmoid, sigmoid(x))
TENFOLD_FLOAT_FUNCTION(Sin, std::sin(x))
TENFOLD_FLOAT_FUNCTION(Sinh, std::sinh(x))
TENFOLD_FLOAT_FUNCTION(Softplus, softplus(x))
TENFOLD_FLOAT_FUNCTION(Softsign, x / (1 + std::fabs(x)))
TENFOLD_FLOAT_FUNCTION(Sqrt, std::sqrt(x))
TENFOLD_FLOAT_FUNCTION(Tan, std::tan(x))
TENFOLD_FLOAT_FUNCTION(Tanh, std::tanh(x))
#undef TENFOLD_FLOAT_FUNCTION

struct AbsRule : NoAttributes {
  static constexpr std::string_view kName = "Abs";
  static constexpr Types kTypes = Types::numbers;
  template <typename T>
  T apply(T x) const {
    if constexpr (std::is_floating_point_v<T>) {
      return std::fabs(x);
    } else if constexpr (std::is_unsigned_v<T>) {
      return x;
    } else {
      // Unsigned arithmetic wraps: the lowest value is its own absolute value.
      return x < 0 ? static_cast<T>(std::uint64_t{0} - static_cast<std::uint64_t>(x)) : x;
    }
  }
  std::optional<Dim> fold(const Dim& x) const { return is_nonnegative(x) ? x : Dim::max(x, -x); }
};

struct NegRule : NoAttributes {
  static constexpr std::string_view kName = "Neg";
  static constexpr Types kTypes = Types::signed_numbers;
  template <typename T>
  T apply(T x) const {
    if constexpr (std::is_floating_point_v<T>) {
      return -x;
    } else {
      return static_cast<T>(std::uint64_t{0} - static_cast<std::uint64_t>(x));
    }
  }
  std::optional<Dim> fold(const Dim& x) const { return -x; }
};

/// -1, 0 or 1; NaN and signed zeros stay what they are.
struct SignRule : NoAttributes {
  static constexpr std::string_view kName = "Sign";
  static constexpr Types kTypes = Types::numbers;
  template <typename T>
  T apply(T x) const {
    if (x > T(0)) return T(1);
    if constexpr (std::is_signed_v<T>) {
      if (x < T(0)) return T(-1);
    }
    return x;
  }
};

struct ReluRule : NoAttributes {
  static constexpr std::string_view kName = "Relu";
  static constexpr Types kTypes = Types::signed_numbers;
  template <typename T>
  T apply(T x) const {
    return x < T(0) ? T(0) : x;
  }
  std::optional<Dim> fold(const Dim& x) const { return Dim::max(x, Dim(0)); }
};

struct NotRule : NoAttributes {
  static constexpr std::string_view kName = "Not";
  static constexpr Types kTypes = Types::booleans;
  bool apply(bool x) const { return !x; }
  std::optional<Dim> fold(const Dim& x) const { return Dim(1) - x; }
};

struct BitwiseNotRule : NoAttributes {
  static constexpr std::string_view kName = "BitwiseNot";
  static constexpr Types kTypes = Types::integers;
  template <typename T>
  T apply(T x) const {
    return static_cast<T>(~x);
  }
};

struct IsNaNRule : NoAttributes {
  static constexpr std::string_view kName = "IsNaN";
  static constexpr Types kTypes = Types::floats;
  template <typename T>
  bool apply(T x) const {
    return std::isnan(x);
  }
};

struct IsInfRule {
  static constexpr std::string_view kName = "IsInf";
  static constexpr Types kTypes = Types::floats;
  bool positive = true;
  bool negative = true;
  static IsInfRule from(const Attributes& attributes) {
    return {attributes.get_int("detect_positive", 1) != 0, attributes.get_int("detect_negative", 1) != 0};
  }
  void store(Attributes& attributes) const {
    attributes.set("detect_positive", std::int64_t{positive});
    attributes.set("detect_negative", std::int64_t{negative});
  }
  template <typename T>
  bool apply(T x) const {
    return std::isinf(x) && (x > 0 ? positive : negative);
  }
};

}  // namespace

#define TENFOLD_UNARY(name) const OpDef k##name##Def{#name, make_unary<name##Rule>, import_plain};
TENFOLD_UNARY(Abs)
TENFOLD_UNARY(Acos)
TENFOLD_UNARY(Acosh)
TENFOLD_UNARY(Asin)
TENFOLD_UNARY(Asinh)
TENFOLD_UNARY(Atan)
TENFOLD_UNARY(Atanh)
TENFOLD_UNARY(BitwiseNot)
TENFOLD_UNARY(Ceil)
TENFOLD_UNARY(Cos)
TENFOLD_UNARY(Cosh)
TENFOLD_UNARY(Erf)
TENFOLD_UNARY(Exp)
TENFOLD_UNARY(Floor)
TENFOLD_UNARY(HardSwish)
TENFOLD_UNARY(IsInf)
TENFOLD_UNARY(IsNaN)
TENFOLD_UNARY(Log)
TENFOLD_UNARY(Mish)
TENFOLD_UNARY(Neg)
TENFOLD_UNARY(Not)
TENFOLD_UNARY(Reciprocal)
TENFOLD_UNARY(Relu)
TENFOLD_UNARY(Round)
TENFOLD_UNARY(Sigmoid)
TENFOLD_UNARY(Sign)
TENFOLD_UNARY(Sin)
TENFOLD_UNARY(Sinh)
TENFOLD_UNARY(Softplus)
TENFOLD_UNARY(Softsign)
TENFOLD_UNARY(Sqrt)
TENFOLD_UNARY(Tan)
TENFOLD_UNARY(Tanh)
#undef TENFOLD_UNARY

}  // namespace tenfold
