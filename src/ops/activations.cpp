// Activation functions with parameters: y = f(x; alpha, ...).
// Source: ONNX operator sets 1 to 24, the operators of these names.
#include <cmath>
#include <numbers>

#include "ops/elementwise.hpp"

namespace tenfold {
namespace {

/// A function with one parameter. ONNX holds attributes in float, so defaults are float values.
#define TENFOLD_ACTIVATION_1(name, types, p, default_p, formula)                                           \
  struct name##Rule {                                                                                      \
    static constexpr std::string_view kName = #name;                                                       \
    static constexpr Types kTypes = types;                                                                 \
    double p = 0;                                                                                          \
    static name##Rule from(const Attributes& attributes) { return {attributes.get_float(#p, default_p)}; } \
    void store(Attributes& attributes) const { attributes.set(#p, p); }                                    \
    double apply_double(double x) const { return formula; }                                                \
  };
#define TENFOLD_ACTIVATION_2(name, types, p, default_p, q, default_q, formula)           \
  struct name##Rule {                                                                    \
    static constexpr std::string_view kName = #name;                                     \
    static constexpr Types kTypes = types;                                               \
    double p = 0, q = 0;                                                                 \
    static name##Rule from(const Attributes& attributes) {                               \
      return {attributes.get_float(#p, default_p), attributes.get_float(#q, default_q)}; \
    }                                                                                    \
    void store(Attributes& attributes) const {                                           \
      attributes.set(#p, p);                                                             \
      attributes.set(#q, q);                                                             \
    }                                                                                    \
    double apply_double(double x) const { return formula; }                              \
  };

double limit_to_unit(double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }
double sigmoid(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }

TENFOLD_ACTIVATION_1(Celu, Types::floats, alpha, 1.0, x >= 0 ? x : alpha * std::expm1(x / alpha))
TENFOLD_ACTIVATION_1(Elu, Types::floats, alpha, 1.0, x >= 0 ? x : alpha * std::expm1(x))
TENFOLD_ACTIVATION_2(HardSigmoid, Types::floats, alpha, 0.2F, beta, 0.5, limit_to_unit(alpha* x + beta))
TENFOLD_ACTIVATION_1(LeakyRelu, Types::floats, alpha, 0.01F, x >= 0 ? x : alpha * x)
TENFOLD_ACTIVATION_2(Selu, Types::floats, alpha, 1.67326319217681884765625F, gamma, 1.05070102214813232421875F,
                     gamma*(x >= 0 ? x : alpha * std::expm1(x)))
TENFOLD_ACTIVATION_1(Swish, Types::floats, alpha, 1.0, x* sigmoid(alpha* x))
TENFOLD_ACTIVATION_1(ThresholdedRelu, Types::floats, alpha, 1.0, x > alpha ? x : 0)
#undef TENFOLD_ACTIVATION_1
#undef TENFOLD_ACTIVATION_2

/// x + bias below -lambd, x - bias above lambd, 0 between.
struct ShrinkRule {
  static constexpr std::string_view kName = "Shrink";
  static constexpr Types kTypes = Types::numbers;
  double bias = 0;
  double lambd = 0.5;
  static ShrinkRule from(const Attributes& attributes) {
    return {attributes.get_float("bias", 0), attributes.get_float("lambd", 0.5)};
  }
  void store(Attributes& attributes) const {
    attributes.set("bias", bias);
    attributes.set("lambd", lambd);
  }
  template <typename T>
  T apply(T x) const {
    const auto wide = static_cast<double>(x);
    const double y = wide < -lambd ? wide + bias : wide > lambd ? wide - bias : 0;
    if constexpr (std::is_floating_point_v<T>) {
      return static_cast<T>(y);
    } else {
      // Out of range only for a bias beyond the type's range.
      return y >= static_cast<double>(std::numeric_limits<T>::lowest()) &&
                     y < static_cast<double>(std::numeric_limits<T>::max())
                 ? static_cast<T>(y)
                 : x;
    }
  }
};

/// x Phi(x), exactly or with tanh: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). Source: Hendrycks and Gimpel
/// 2016, arXiv:1606.08415.
struct GeluRule {
  static constexpr std::string_view kName = "Gelu";
  static constexpr Types kTypes = Types::floats;
  bool approximate = false;
  static GeluRule from(const Attributes& attributes) {
    const std::string kind = attributes.get_string("approximate", "none");
    require(kind == "none" || kind == "tanh", Code::invalid_model, "approximate must be none or tanh, got '{}'", kind);
    return {kind == "tanh"};
  }
  void store(Attributes& attributes) const { attributes.set("approximate", approximate ? "tanh" : "none"); }
  double apply_double(double x) const {
    if (!approximate) return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
    const double scale = std::sqrt(2 * std::numbers::inv_pi);
    return 0.5 * x * (1 + std::tanh(scale * (x + 0.044715 * x * x * x)));
  }
};

}  // namespace

#define TENFOLD_UNARY(name) const OpDef k##name##Def{#name, make_unary<name##Rule>, import_plain};
TENFOLD_UNARY(Celu)
TENFOLD_UNARY(Elu)
TENFOLD_UNARY(Gelu)
TENFOLD_UNARY(HardSigmoid)
TENFOLD_UNARY(LeakyRelu)
TENFOLD_UNARY(Selu)
TENFOLD_UNARY(Shrink)
TENFOLD_UNARY(Swish)
TENFOLD_UNARY(ThresholdedRelu)
#undef TENFOLD_UNARY

}  // namespace tenfold
