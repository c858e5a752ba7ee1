// Elementwise operators from one formula each: a rule is a small struct with a name, the element types it takes and the
// formula as a template over the scalar; UnaryOp and BinaryOp make operators of it.
#pragma once

#include <array>
#include <memory>
#include <type_traits>

#include "ops/checks.hpp"
#include "ops/numbers.hpp"
#include "ops/registry.hpp"
#include "ops/shape_math.hpp"

namespace tenfold {

/// Element types that an operator takes.
enum class Types { floats, signed_numbers, numbers, integers, unsigned_integers, booleans, any };
bool accepts(Types types, DType dtype);
/// Throws Error(invalid_model) unless input `index` has one of these types.
void check_types(const InferContext& context, int index, Types types);
template <typename T>
constexpr bool accepts_type(Types types) {
  constexpr bool floating = !std::is_integral_v<T> && !std::is_same_v<T, Float8E4M3>;
  constexpr bool integer = std::is_integral_v<T> && !std::is_same_v<T, bool>;
  switch (types) {
    case Types::floats:
      return floating;
    case Types::signed_numbers:
      return floating || (integer && std::is_signed_v<T>);
    case Types::numbers:
      return floating || integer;
    case Types::integers:
      return integer;
    case Types::unsigned_integers:
      return integer && !std::is_signed_v<T>;
    case Types::booleans:
      return std::is_same_v<T, bool>;
    case Types::any:
      return true;
  }
  return false;
}

/// The type a formula computes in: floats of 8 and 16 bits are stored only.
template <typename T>
using ComputeType =
    std::conditional_t<std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16> || std::is_same_v<T, Float8E4M3>,
                       float, T>;

/// Calls f(out_offset, offsets, strides, count) for runs of consecutive output elements; operand i of the run starts at
/// offsets[i] and advances by strides[i], 0 or 1, an element. Throws unless every operand broadcasts to `out_dims`.
template <std::size_t N, typename F>
void for_each_run(std::span<const std::int64_t> out_dims, const std::array<std::span<const std::int64_t>, N>& operands,
                  F&& f) {
  std::array<Shape, N> wide;
  for (std::size_t i = 0; i < N; ++i) wide[i] = broadcast_strides(operands[i], out_dims);
  // Axes of size 1 vanish; neighbours that every operand walks through alike become one.
  Shape dims;
  std::array<Shape, N> strides;
  for (std::size_t a = 0; a < out_dims.size(); ++a) {
    if (out_dims[a] == 0) return;
    if (out_dims[a] == 1) continue;
    bool merge = !dims.empty();
    for (std::size_t i = 0; i < N && merge; ++i) merge = strides[i].back() == wide[i][a] * out_dims[a];
    if (merge) {
      dims.back() *= out_dims[a];
      for (std::size_t i = 0; i < N; ++i) strides[i].back() = wide[i][a];
    } else {
      dims.push_back(out_dims[a]);
      for (std::size_t i = 0; i < N; ++i) strides[i].push_back(wide[i][a]);
    }
  }
  std::int64_t count = 1;
  std::array<std::int64_t, N> inner{};
  if (!dims.empty()) {
    count = dims.back();
    dims.pop_back();
    for (std::size_t i = 0; i < N; ++i) {
      inner[i] = strides[i].back();
      strides[i].pop_back();
    }
  }
  std::int64_t out = 0;
  for_each_index(dims, strides, [&](std::span<const std::int64_t> offsets) {
    std::array<std::int64_t, N> starts;
    std::copy_n(offsets.begin(), N, starts.begin());
    f(out, starts, inner, count);
    out += count;
  });
}

/// Attributes of a rule without any.
struct NoAttributes {
  void store(Attributes& attributes) const { (void)attributes; }
};
template <typename Rule>
Rule make_rule(const Attributes& attributes) {
  if constexpr (requires { Rule::from(attributes); }) {
    return Rule::from(attributes);
  } else {
    (void)attributes;
    return Rule{};
  }
}

/// y = f(x). A Rule has
///   static constexpr std::string_view kName;  static constexpr Types kTypes;
///   template <typename T> R apply(T x) const        computed in T's ComputeType; a bool result makes a boolean tensor;
///   or double apply_double(double x) const             computed in double whatever the type is std::optional<Dim>
///   fold(const Dim&) const       optional: the meaning on shape arithmetic from(attributes), store(attributes) if it
///   has attributes
template <typename Rule>
class UnaryOp final : public Op {
 public:
  explicit UnaryOp(Rule rule) : rule_(std::move(rule)) {}
  std::string_view type() const override { return Rule::kName; }
  Attributes attributes() const override {
    Attributes attributes;
    rule_.store(attributes);
    return attributes;
  }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 1);
    check_types(context, 0, Rule::kTypes);
    TensorType type = context.input(0);
    if (gives_boolean()) type.dtype = DType::boolean;
    context.set_output(0, std::move(type));
    if constexpr (requires(const Dim& d) { rule_.fold(d); }) {
      std::optional<std::vector<Dim>> elements = context.integers(0);
      if (!elements) return;
      for (Dim& element : *elements) {
        const std::optional<Dim> folded = rule_.fold(element);
        if (!folded) return;
        element = *folded;
      }
      pass_integers(context, 0, std::move(*elements));
    }
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const TensorView& y = context.output(0);
    check_output(context, 0, x.dims);
    const std::int64_t count = x.num_elements();
    dispatch(x.dtype, [&]<typename T>() {
      if constexpr (accepts_type<T>(Rule::kTypes)) {
        const T* in = x.as<const T>();
        if constexpr (requires { rule_.apply_double(0.0); }) {
          T* out = y.as<T>();
          for (std::int64_t i = 0; i < count; ++i) {
            const double value = rule_.apply_double(static_cast<double>(in[i]));
            if constexpr (std::is_same_v<T, double>) {
              out[i] = value;
            } else {
              out[i] = static_cast<T>(static_cast<float>(value));
            }
          }
        } else {
          using Compute = ComputeType<T>;
          using Result = std::conditional_t<std::is_same_v<decltype(rule_.apply(Compute{})), bool>, bool, T>;
          Result* out = y.as<Result>();
          for (std::int64_t i = 0; i < count; ++i)
            out[i] = static_cast<Result>(rule_.apply(static_cast<Compute>(in[i])));
        }
      } else {
        throw Error(Code::internal, fmt::format("{} on {}", Rule::kName, to_string(x.dtype)));
      }
    });
  }
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override {
    (void)inputs;
    return outputs.empty() ? 0 : count_elements(outputs[0]);
  }

 private:
  static constexpr bool gives_boolean() {
    if constexpr (requires(const Rule& rule) { rule.apply_double(0.0); }) {
      return false;
    } else if constexpr (Rule::kTypes == Types::booleans) {
      return true;
    } else {
      using Sample = std::conditional_t<Rule::kTypes == Types::integers, int, float>;
      return std::is_same_v<decltype(std::declval<const Rule&>().apply(Sample{})), bool>;
    }
  }
  Rule rule_;
};
template <typename Rule>
OpPtr make_unary(const Attributes& attributes) {
  return std::make_shared<const UnaryOp<Rule>>(make_rule<Rule>(attributes));
}

/// y = f(a, b), broadcast. A Rule is as for UnaryOp, with apply(a, b), fold(a, b) and
///   static constexpr bool kBoolean;             the result is boolean
///   static constexpr bool kUnidirectional       optional: b broadcasts to a
template <typename Rule>
class BinaryOp final : public Op {
 public:
  explicit BinaryOp(Rule rule) : rule_(std::move(rule)) {}
  std::string_view type() const override { return Rule::kName; }
  Attributes attributes() const override {
    Attributes attributes;
    rule_.store(attributes);
    return attributes;
  }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 2, 2);
    check_num_outputs(context, 1, 1);
    check_types(context, 0, Rule::kTypes);
    check_same_dtype(context, 1, "the second operand");
    const TensorType& a = context.input(0);
    const TensorType& b = context.input(1);
    TensorType type{Rule::kBoolean ? DType::boolean : a.dtype, {}};
    if constexpr (requires { Rule::kUnidirectional; }) {
      check_broadcasts_to(b.dims, a.dims, "the second operand");
      type.dims = a.dims;
    } else {
      type.dims = broadcast_dims(a.dims, b.dims);
    }
    context.set_output(0, type);
    if constexpr (requires(const Dim& d) { rule_.fold(d, d); }) {
      const auto left = context.integers(0);
      const auto right = context.integers(1);
      if (!left || !right || !type.is_static() || !a.is_static() || !b.is_static()) return;
      const Shape dims = type.static_shape();
      const std::array strides{broadcast_strides(a.static_shape(), dims), broadcast_strides(b.static_shape(), dims)};
      std::vector<Dim> elements;
      bool known = true;
      for_each_index(dims, strides, [&](std::span<const std::int64_t> at) {
        if (!known) return;
        auto folded = rule_.fold((*left)[static_cast<std::size_t>(at[0])], (*right)[static_cast<std::size_t>(at[1])]);
        known = folded.has_value();
        if (known) elements.push_back(std::move(*folded));
      });
      if (known) pass_integers(context, 0, std::move(elements));
    }
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& a = context.input(0);
    const TensorView& b = context.input(1);
    const TensorView& y = context.output(0);
    dispatch(a.dtype, [&]<typename T>() {
      if constexpr (accepts_type<T>(Rule::kTypes)) {
        using Compute = ComputeType<T>;
        using Result = std::conditional_t<Rule::kBoolean, bool, T>;
        const auto f = [this](T left, T right) {
          return static_cast<Result>(rule_.apply(static_cast<Compute>(left), static_cast<Compute>(right)));
        };
        for_each_run<2>(y.dims, {a.dims, b.dims},
                        [&](std::int64_t out, const auto& at, const auto& strides, std::int64_t count) {
                          const T* left = a.as<const T>() + at[0];
                          const T* right = b.as<const T>() + at[1];
                          Result* result = y.as<Result>() + out;
                          // Loops that compilers vectorise.
                          if (strides[0] == 1 && strides[1] == 1) {
                            for (std::int64_t i = 0; i < count; ++i) result[i] = f(left[i], right[i]);
                          } else if (strides[0] == 1) {
                            const T scalar = *right;
                            for (std::int64_t i = 0; i < count; ++i) result[i] = f(left[i], scalar);
                          } else if (strides[1] == 1) {
                            const T scalar = *left;
                            for (std::int64_t i = 0; i < count; ++i) result[i] = f(scalar, right[i]);
                          } else {
                            std::fill_n(result, count, f(*left, *right));
                          }
                        });
      } else {
        throw Error(Code::internal, fmt::format("{} on {}", Rule::kName, to_string(a.dtype)));
      }
    });
  }
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override {
    (void)inputs;
    return outputs.empty() ? 0 : count_elements(outputs[0]);
  }

 private:
  Rule rule_;
};
template <typename Rule>
OpPtr make_binary(const Attributes& attributes) {
  return std::make_shared<const BinaryOp<Rule>>(make_rule<Rule>(attributes));
}

}  // namespace tenfold
