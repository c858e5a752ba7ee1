// Integers that are known as expressions: what can be proven about them, and how operators store and pass them on.
//
// Symbols are sizes, so they are at least 0. "Proven" means: holds for all such values of the symbols.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "graph/op.hpp"
#include "ops/registry.hpp"

namespace tenfold {

/// Larger integer tensors are data, not shape arithmetic.
inline constexpr std::int64_t kMaxKnownIntegers = 1024;

/// Proven to be 0 or more.
bool is_nonnegative(const Dim& dim);
/// a < b, a == b: nullopt when it depends on the symbols, or cannot be decided.
std::optional<bool> is_less(const Dim& a, const Dim& b);
std::optional<bool> is_equal(const Dim& a, const Dim& b);
/// Quotient rounded towards zero, as ONNX divides integers. nullopt when `b` is not proven to be positive.
std::optional<Dim> truncated_div(const Dim& a, const Dim& b);

/// a / b rounded up, for b >= 1, in the form that sizes of windows have: floordiv(a + b - 1, b).
Dim divided_up(const Dim& a, std::int64_t b);

/// A list of dimensions as an attribute: a list of texts, ["batch", "12", "64"]. A list of integers is accepted, too.
std::vector<Dim> get_dims(const Attributes& attributes, std::string_view name);
void set_dims(Attributes& attributes, std::string_view name, const std::vector<Dim>& dims);
/// May these dims be stored in an attribute? Not when they refer to sizes that only a running kernel knows: such a
/// symbol vanishes when a later pass learns the size.
bool are_storable(const Graph& graph, const std::vector<Dim>& dims);

/// An element type as an attribute: its name, "float32".
DType get_dtype(const Attributes& attributes, std::string_view name);
/// The element type behind ONNX's number for it. Throws Error(unsupported) for strings, complex and 8-bit floats.
DType dtype_from_onnx(std::int64_t number);

/// Elements of an integer input that are numbers already; nullopt when they are expressions or unknown.
/// Throws Error(invalid_model) when the input is no integer tensor.
std::optional<std::vector<std::int64_t>> constant_integers(const InferContext& context, int index);
std::optional<std::vector<std::int64_t>> constant_integers(const ImportNode& node, int index);
/// The same for an input that must be known at build time. Throws Error(unsupported) naming it.
std::vector<std::int64_t> require_integers(const ImportNode& node, int index, std::string_view what);
/// Elements of an integer input as expressions; also for constants too large for shape arithmetic.
std::optional<std::vector<Dim>> known_integers(const InferContext& context, int index);

/// Leaves the elements of an output for later operators. Says nothing when an element is so large that expressions
/// cannot hold it.
void pass_integers(InferContext& context, int output, std::vector<Dim> elements);

/// The same for an operator that moves the elements of its first input: calls move(from, to) with row-major Dims when
/// they are known. `output` is the type of output 0.
template <typename F>
void pass_moved_integers(InferContext& context, const TensorType& output, F&& move) {
  const std::optional<std::vector<Dim>> elements = context.integers(0);
  if (!elements || !output.is_static() || !context.input(0).is_static()) return;
  const std::int64_t count = num_elements(output.static_shape());
  if (count > kMaxKnownIntegers) return;
  std::vector<Dim> moved(static_cast<std::size_t>(count));
  move(elements->data(), moved.data());
  pass_integers(context, 0, std::move(moved));
}

/// Elements of a host tensor of integers or booleans, widened.
std::vector<std::int64_t> read_integers(const TensorView& view);
/// Throws Error(invalid_argument) unless the output has these dims: the references rely on it to stay inside memory.
void check_output(const EvalContext& context, int index, std::span<const std::int64_t> dims);
/// The number of elements when all dims are numbers, else 0; for estimates.
double count_elements(const TensorType& type);

}  // namespace tenfold
