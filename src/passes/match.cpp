#include "passes/match.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "ops/registry.hpp"
#include "ops/shape_math.hpp"

namespace tenfold {

bool is_one_of(const Node& node, std::initializer_list<std::string_view> types) {
  return std::find(types.begin(), types.end(), node.op->type()) != types.end();
}

ValueId input_of(const Node& node, std::size_t index) {
  return index < node.inputs.size() ? node.inputs[index] : kNoValue;
}

const Node* producer_of(const GraphView& graph, ValueId value, std::string_view type) {
  const Node* node = graph.producer(value);
  return is(node, type) ? node : nullptr;
}

const Node* sole_producer_of(const GraphView& graph, ValueId value, std::string_view type) {
  const Node* node = producer_of(graph, value, type);
  return node != nullptr && graph.has_single_use(value) ? node : nullptr;
}

ValueId other_input(const Node& node, ValueId value) {
  return node.inputs[0] == value ? node.inputs[1] : node.inputs[0];
}

std::vector<std::pair<ValueId, ValueId>> both_orders(const Node& node) {
  return {{node.inputs[0], node.inputs[1]}, {node.inputs[1], node.inputs[0]}};
}

bool is_float32(const GraphView& graph, ValueId value) {
  return value != kNoValue && graph.type(value).dtype == DType::float32;
}

bool same_dims(const GraphView& graph, ValueId a, ValueId b) { return graph.type(a).dims == graph.type(b).dims; }

bool broadcasts_into(const std::vector<Dim>& from, const std::vector<Dim>& dims) {
  if (from.size() > dims.size()) return false;
  const std::size_t shift = dims.size() - from.size();
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (!(from[i] == dims[shift + i]) && !(from[i] == Dim(1))) return false;
  }
  return true;
}

bool broadcasts_exactly(const GraphView& graph, const std::vector<ValueId>& values, const std::vector<Dim>& dims) {
  std::vector<bool> covered(dims.size(), false);
  for (const ValueId value : values) {
    const std::vector<Dim>& from = graph.type(value).dims;
    if (!broadcasts_into(from, dims)) return false;
    const std::size_t shift = dims.size() - from.size();
    for (std::size_t i = 0; i < from.size(); ++i) covered[shift + i] = covered[shift + i] || from[i] == dims[shift + i];
  }
  return std::find(covered.begin(), covered.end(), false) == covered.end();
}

std::optional<double> scalar_of(const GraphView& graph, ValueId value) {
  const Tensor* tensor = graph.constant(value);
  if (tensor == nullptr || tensor->num_elements() != 1) return std::nullopt;
  return tensor->to_double()[0];
}

bool is_scalar(const GraphView& graph, ValueId value, double wanted) {
  const std::optional<double> number = scalar_of(graph, value);
  // Exporters write constants with fewer digits than float32 has (0.7071067), so a little more than one rounding.
  return number && std::abs(*number - wanted) <= 1e-6 * std::abs(wanted);
}

std::optional<std::vector<std::int64_t>> known_integers(const GraphView& graph, ValueId value) {
  if (value == kNoValue) return std::nullopt;
  if (const Tensor* tensor = graph.constant(value)) {
    if (!is_integer(tensor->dtype()) && tensor->dtype() != DType::boolean) return std::nullopt;
    return tensor->to_int64();
  }
  const auto& integers = graph.value(value).integers;
  if (!integers) return std::nullopt;
  std::vector<std::int64_t> result;
  for (const Dim& element : *integers) {
    if (!element.is_constant()) return std::nullopt;
    result.push_back(element.constant());
  }
  return result;
}

OpPtr with_attributes(const Op& op, std::initializer_list<std::pair<std::string, AttributeValue>> changes) {
  Attributes attributes = op.attributes();
  for (const auto& [name, value] : changes) attributes.set(name, value);
  return make_op(op.type(), attributes);
}

bool can_be_stored(const GraphView& graph, const std::vector<Dim>& dims) {
  if (!are_storable(graph, dims)) return false;
  // Inside a block, the fresh symbols of the graph around it are only recognisable by their form.
  if (graph.graph().scope.empty()) return true;
  std::set<std::string> symbols;
  for (const Dim& dim : dims) dim.collect_symbols(symbols);
  return std::none_of(symbols.begin(), symbols.end(),
                      [](const std::string& symbol) { return symbol.find('#') != std::string::npos; });
}

double estimated_size(const Dim& dim) {
  if (dim.is_constant()) return static_cast<double>(dim.constant());
  return static_cast<double>(dim.evaluate([](const std::string&) { return std::int64_t{64}; }));
}

double estimated_bytes(const TensorType& type) {
  double bytes = static_cast<double>(size_of(type.dtype));
  for (const Dim& dim : type.dims) bytes *= std::max(estimated_size(dim), 1.0);
  return bytes;
}

Tensor scalar_tensor(float value) { return Tensor::scalar(value); }

Tensor transposed(const Tensor& tensor, const std::vector<std::int64_t>& perm) {
  const std::size_t rank = perm.size();
  ensure(static_cast<int>(rank) == tensor.rank(), "a permutation of {} axes for a tensor of rank {}", rank,
         tensor.rank());
  Shape strides(rank, 1);
  for (std::size_t i = rank; i-- > 1;) strides[i - 1] = strides[i] * tensor.shape()[i];
  Shape shape(rank);
  Shape steps(rank);  // of the source, along each axis of the result
  for (std::size_t i = 0; i < rank; ++i) {
    const auto from = static_cast<std::size_t>(perm[i]);
    shape[i] = tensor.shape()[from];
    steps[i] = strides[from];
  }
  Tensor result(tensor.dtype(), shape);
  const std::size_t size = size_of(tensor.dtype());
  const std::byte* source = tensor.data();
  std::byte* target = result.mutable_data();
  Shape index(rank, 0);
  std::int64_t offset = 0;
  for (std::int64_t i = 0; i < result.num_elements(); ++i) {
    std::memcpy(target + static_cast<std::size_t>(i) * size, source + static_cast<std::size_t>(offset) * size, size);
    for (std::size_t axis = rank; axis-- > 0;) {
      offset += steps[axis];
      if (++index[axis] < shape[axis]) break;
      offset -= steps[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return result;
}

std::vector<std::int64_t> inverse(const std::vector<std::int64_t>& perm) {
  std::vector<std::int64_t> result(perm.size());
  for (std::size_t i = 0; i < perm.size(); ++i) {
    result[static_cast<std::size_t>(perm[i])] = static_cast<std::int64_t>(i);
  }
  return result;
}

std::vector<std::int64_t> compose(const std::vector<std::int64_t>& first, const std::vector<std::int64_t>& second) {
  std::vector<std::int64_t> result(first.size());
  for (std::size_t i = 0; i < second.size(); ++i) result[i] = first[static_cast<std::size_t>(second[i])];
  return result;
}

std::vector<std::string> dim_texts(const std::vector<Dim>& dims) {
  std::vector<std::string> texts;
  for (const Dim& dim : dims) texts.push_back(dim.to_string());
  return texts;
}

}  // namespace tenfold
