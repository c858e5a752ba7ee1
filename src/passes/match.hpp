// Small questions that rewrites ask again and again.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "passes/graph_view.hpp"

namespace tenfold {

inline bool is(const Node* node, std::string_view type) { return node != nullptr && node->op->type() == type; }
inline bool is(const Node& node, std::string_view type) { return node.op->type() == type; }
bool is_one_of(const Node& node, std::initializer_list<std::string_view> types);

/// Input `index`, or kNoValue beyond the end.
ValueId input_of(const Node& node, std::size_t index);
/// The node of operator `type` that computes `value`, or nullptr.
const Node* producer_of(const GraphView& graph, ValueId value, std::string_view type);
/// The same, if this is its only use: then the producer can be absorbed.
const Node* sole_producer_of(const GraphView& graph, ValueId value, std::string_view type);
/// The operand of a two-input node that is not `value`. Requires that `value` is one of them.
ValueId other_input(const Node& node, ValueId value);
/// Both operands of a commutative node in either order: {operand 0, operand 1}, {operand 1, operand 0}.
std::vector<std::pair<ValueId, ValueId>> both_orders(const Node& node);

bool is_float32(const GraphView& graph, ValueId value);
/// Provably the same dims.
bool same_dims(const GraphView& graph, ValueId a, ValueId b);
/// Do the values, broadcast together, provably have exactly these dims?
bool broadcasts_exactly(const GraphView& graph, const std::vector<ValueId>& values, const std::vector<Dim>& dims);
/// Does the value broadcast to these dims without changing them, provably?
bool broadcasts_into(const std::vector<Dim>& from, const std::vector<Dim>& dims);
/// The number behind a constant of one element, whatever its rank and dtype.
std::optional<double> scalar_of(const GraphView& graph, ValueId value);
/// Is it a constant of one element equal to `wanted` up to float32 rounding?
bool is_scalar(const GraphView& graph, ValueId value, double wanted);
/// Elements of a constant or known integer value, if all are numbers.
std::optional<std::vector<std::int64_t>> known_integers(const GraphView& graph, ValueId value);

/// May these dims become an attribute? Only with symbols of network inputs: sizes that a kernel decides get other names
/// when their nodes are rewritten.
bool can_be_stored(const GraphView& graph, const std::vector<Dim>& dims);

/// The same operator with some attributes set to other values.
OpPtr with_attributes(const Op& op, std::initializer_list<std::pair<std::string, AttributeValue>> changes);

/// A dim as a number for estimates of cost: symbols count as 64.
double estimated_size(const Dim& dim);
double estimated_bytes(const TensorType& type);

/// "float32" tensor of one element.
Tensor scalar_tensor(float value);
/// Copies with axes permuted: result axis i is axis perm[i] of `tensor`. Any dtype.
Tensor transposed(const Tensor& tensor, const std::vector<std::int64_t>& perm);
/// perm after which `perm` gives the identity.
std::vector<std::int64_t> inverse(const std::vector<std::int64_t>& perm);
/// One permutation with the effect of `first`, then `second`.
std::vector<std::int64_t> compose(const std::vector<std::int64_t>& first, const std::vector<std::int64_t>& second);
/// Dims as the texts that the `dims` attribute of Reshape, Expand and ConstantOfShape holds.
std::vector<std::string> dim_texts(const std::vector<Dim>& dims);

}  // namespace tenfold
