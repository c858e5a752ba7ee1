#include "ops/concrete_infer.hpp"

#include <algorithm>
#include <set>

#include "graph/graph.hpp"
#include "ops/numbers.hpp"

namespace tenfold {
namespace {

// Elements of larger integer tensors are data, not shape arithmetic; as in the graph's inference.
constexpr std::int64_t kMaxKnownIntegers = 1024;
// A size that only the kernel knows; no network's symbol starts with a space.
constexpr std::string_view kUnknown = " unknown";

}  // namespace

bool ConcreteInfer::Output::is_known() const {
  return std::none_of(dims.begin(), dims.end(), [](std::int64_t d) { return d < 0; });
}

void ConcreteInfer::run(const Op& op, std::span<const TensorView> inputs, std::span<const std::uint8_t> wanted) {
  inputs_ = inputs;
  wanted_ = wanted;
  fresh_.clear();
  if (types_.size() < inputs.size()) types_.resize(inputs.size());
  tensors_.clear();
  tensors_.resize(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    types_[i].dtype = inputs[i].dtype;
    types_[i].dims.assign(inputs[i].dims.begin(), inputs[i].dims.end());
  }
  if (outputs_.size() < wanted.size()) outputs_.resize(wanted.size());
  for (Output& output : outputs_) {
    output.dtype = DType::undefined;
    output.dims.clear();
    output.bounds.clear();
    output.integers.reset();
  }
  op.infer(*this);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    require(wanted[i] == 0 || outputs_[i].dtype != DType::undefined, Code::invalid_model,
            "the shape rule of {} leaves output {} without a type", op.type(), i);
  }
}

bool ConcreteInfer::has_input(int index) const {
  return index >= 0 && index < num_inputs() && inputs_[static_cast<std::size_t>(index)].dtype != DType::undefined;
}

const TensorType& ConcreteInfer::input(int index) const {
  require(has_input(index), Code::invalid_model, "input {} is missing", index);
  return types_[static_cast<std::size_t>(index)];
}

const Tensor* ConcreteInfer::constant(int index) const {
  if (!has_input(index)) return nullptr;
  const TensorView& view = inputs_[static_cast<std::size_t>(index)];
  if (view.data == nullptr && view.num_elements() != 0) return nullptr;
  std::optional<Tensor>& tensor = tensors_[static_cast<std::size_t>(index)];
  if (!tensor) tensor.emplace(view.dtype, Shape(view.dims.begin(), view.dims.end()), view.data, nullptr);
  return &*tensor;
}

std::optional<std::vector<Dim>> ConcreteInfer::integers(int index) const {
  if (!has_input(index)) return std::nullopt;
  const TensorView& view = inputs_[static_cast<std::size_t>(index)];
  if (!is_integer(view.dtype) && view.dtype != DType::boolean) return std::nullopt;
  const std::int64_t count = view.num_elements();
  if (count > kMaxKnownIntegers || (view.data == nullptr && count != 0)) return std::nullopt;
  const std::vector<std::int64_t> elements = load_int64(view);
  return std::vector<Dim>(elements.begin(), elements.end());
}

bool ConcreteInfer::wants_output(int index) const {
  return index >= 0 && index < num_outputs() && wanted_[static_cast<std::size_t>(index)] != 0;
}

std::optional<std::int64_t> ConcreteInfer::evaluate(const Dim& dim) const {
  if (dim.is_constant()) return dim.constant();
  bool known = true;
  const std::int64_t value = dim.evaluate([&](const std::string& symbol) -> std::int64_t {
    if (!symbol.starts_with(kUnknown)) return value_of_(symbol);
    known = false;
    return 0;
  });
  return known ? std::optional(value) : std::nullopt;
}

void ConcreteInfer::set_output(int index, TensorType type) {
  if (!wants_output(index)) return;
  require(type.rank() <= kMaxRank, Code::unsupported, "output {} would have rank {}; at most {} is supported", index,
          type.rank(), kMaxRank);
  Output& output = outputs_[static_cast<std::size_t>(index)];
  output.dtype = type.dtype;
  output.dims.clear();
  output.bounds.clear();
  for (const Dim& dim : type.dims) {
    const std::optional<std::int64_t> size = evaluate(dim);
    std::optional<std::int64_t> bound = size;
    if (!size) {
      for (const Fresh& fresh : fresh_) {
        const std::string name = fmt::format("{}{}#{}", kUnknown, fresh.output, fresh.axis);
        if (dim.as_symbol() == name && fresh.at_most) bound = evaluate(*fresh.at_most);
      }
    }
    require(!size || *size >= 0, Code::invalid_model, "output {} would have shape {}", index, to_string(type.dims));
    output.dims.push_back(size.value_or(-1));
    output.bounds.push_back(bound.value_or(-1));
  }
  if (output.is_known()) {
    const std::int64_t elements = num_elements(output.dims);
    require(elements < kUnbounded / 16, Code::invalid_model, "output {} would have shape {}", index,
            to_string(output.dims));
  }
}

void ConcreteInfer::set_integers(int index, std::vector<Dim> elements) {
  if (!wants_output(index)) return;
  std::vector<std::int64_t> values;
  values.reserve(elements.size());
  for (const Dim& element : elements) {
    const std::optional<std::int64_t> value = evaluate(element);
    if (!value) return;
    values.push_back(*value);
  }
  outputs_[static_cast<std::size_t>(index)].integers = std::move(values);
}

Dim ConcreteInfer::fresh(int output, int axis, std::optional<Dim> at_most) {
  fresh_.push_back({output, axis, std::move(at_most)});
  return Dim::symbol(fmt::format("{}{}#{}", kUnknown, output, axis));
}

}  // namespace tenfold
