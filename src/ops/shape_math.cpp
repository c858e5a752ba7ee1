#include "ops/shape_math.hpp"

#include <algorithm>
#include <set>

namespace tenfold {

bool is_nonnegative(const Dim& dim) { return Dim::max(dim, Dim(0)) == dim; }

std::optional<bool> is_less(const Dim& a, const Dim& b) {
  if (is_nonnegative(b - a - Dim(1))) return true;
  if (is_nonnegative(a - b)) return false;
  return std::nullopt;
}

std::optional<bool> is_equal(const Dim& a, const Dim& b) {
  if (a == b) return true;
  const Dim difference = a - b;
  if (difference == Dim(0)) return true;
  if (is_nonnegative(difference - Dim(1)) || is_nonnegative(-difference - Dim(1))) return false;
  return std::nullopt;
}

std::optional<Dim> truncated_div(const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant()) {
    if (b.constant() == 0) return std::nullopt;
    return Dim(a.constant() / b.constant());
  }
  // A symbolic divisor may be 0 for some sizes; what the quotient is then does not matter.
  if (!is_nonnegative(b) || b == Dim(0)) return std::nullopt;
  if (is_nonnegative(a)) return Dim::floordiv(a, b);
  if (is_nonnegative(-a)) return -Dim::floordiv(-a, b);
  return Dim::floordiv(Dim::max(a, Dim(0)), b) - Dim::floordiv(Dim::max(-a, Dim(0)), b);
}

Dim divided_up(const Dim& a, std::int64_t b) { return Dim::floordiv(a + Dim(b - 1), Dim(b)); }

std::vector<Dim> get_dims(const Attributes& attributes, std::string_view name) {
  const AttributeValue* value = attributes.find(name);
  if (value != nullptr && std::holds_alternative<std::vector<std::int64_t>>(*value)) {
    const auto numbers = attributes.get_ints(name);
    return {numbers.begin(), numbers.end()};
  }
  require(value != nullptr, Code::invalid_model, "attribute '{}' is missing", name);
  std::vector<Dim> dims;
  for (const std::string& text : attributes.get_strings(name, {})) {
    try {
      dims.push_back(Dim::parse(text));
    } catch (const Error& error) {
      throw Error(Code::invalid_model, fmt::format("attribute '{}': {}", name, error.message()));
    }
  }
  return dims;
}

void set_dims(Attributes& attributes, std::string_view name, const std::vector<Dim>& dims) {
  std::vector<std::string> texts;
  texts.reserve(dims.size());
  for (const Dim& dim : dims) texts.push_back(dim.to_string());
  attributes.set(std::string(name), std::move(texts));
}

bool are_storable(const Graph& graph, const std::vector<Dim>& dims) {
  std::set<std::string> symbols;
  for (const Dim& dim : dims) dim.collect_symbols(symbols);
  return std::none_of(symbols.begin(), symbols.end(),
                      [&](const std::string& symbol) { return graph.symbol_bounds.contains(symbol); });
}

DType get_dtype(const Attributes& attributes, std::string_view name) {
  const std::string text = attributes.get_string(name);
  const std::optional<DType> dtype = parse_dtype(text);
  require(dtype.has_value(), Code::invalid_model, "attribute '{}': '{}' is no element type", name, text);
  return *dtype;
}

DType dtype_from_onnx(std::int64_t number) {
  switch (number) {
    case 1:
      return DType::float32;
    case 2:
      return DType::uint8;
    case 3:
      return DType::int8;
    case 4:
      return DType::uint16;
    case 5:
      return DType::int16;
    case 6:
      return DType::int32;
    case 7:
      return DType::int64;
    case 9:
      return DType::boolean;
    case 10:
      return DType::float16;
    case 11:
      return DType::float64;
    case 12:
      return DType::uint32;
    case 13:
      return DType::uint64;
    case 16:
      return DType::bfloat16;
    case 17:
      return DType::float8e4m3;
    case 18:
    case 19:
    case 20:
      throw Error(Code::unsupported, "of the float8 types of ONNX only FLOAT8E4M3FN is supported");
    case 8:
      throw Error(Code::unsupported, "tensors of strings are not supported");
    default:
      throw Error(Code::unsupported, fmt::format("ONNX element type {} is not supported", number));
  }
}

namespace {

void check_integers(DType dtype, int index) {
  require(is_integer(dtype) || dtype == DType::boolean, Code::invalid_model,
          "input {} must be a tensor of integers, got {}", index, to_string(dtype));
}
std::optional<std::vector<std::int64_t>> as_numbers(const std::optional<std::vector<Dim>>& elements) {
  if (!elements) return std::nullopt;
  std::vector<std::int64_t> numbers;
  numbers.reserve(elements->size());
  for (const Dim& element : *elements) {
    if (!element.is_constant()) return std::nullopt;
    numbers.push_back(element.constant());
  }
  return numbers;
}

}  // namespace

std::optional<std::vector<std::int64_t>> constant_integers(const InferContext& context, int index) {
  check_integers(context.input(index).dtype, index);
  if (const Tensor* tensor = context.constant(index)) return tensor->to_int64();
  return as_numbers(context.integers(index));
}

std::optional<std::vector<std::int64_t>> constant_integers(const ImportNode& node, int index) {
  require(node.has_input(index), Code::invalid_model, "input {} is missing", index);
  const Value& value = node.graph().value(node.input(index));
  check_integers(value.type.dtype, index);
  if (value.constant) return value.constant->to_int64();
  return as_numbers(value.integers);
}

std::vector<std::int64_t> require_integers(const ImportNode& node, int index, std::string_view what) {
  if (auto numbers = constant_integers(node, index)) return std::move(*numbers);
  return node.constant_input(index, what).to_int64();
}

std::optional<std::vector<Dim>> known_integers(const InferContext& context, int index) {
  check_integers(context.input(index).dtype, index);
  if (auto elements = context.integers(index)) return elements;
  const Tensor* tensor = context.constant(index);
  if (tensor == nullptr) return std::nullopt;
  const std::vector<std::int64_t> numbers = tensor->to_int64();
  return std::vector<Dim>(numbers.begin(), numbers.end());
}

void pass_integers(InferContext& context, int output, std::vector<Dim> elements) {
  const bool exact = std::all_of(elements.begin(), elements.end(), [](const Dim& element) {
    return !element.is_constant() || (element.constant() < kUnbounded && element.constant() > -kUnbounded);
  });
  if (exact) context.set_integers(output, std::move(elements));
}

std::vector<std::int64_t> read_integers(const TensorView& view) {
  ensure(is_integer(view.dtype) || view.dtype == DType::boolean, "a tensor of {} read as integers",
         to_string(view.dtype));
  std::vector<std::int64_t> numbers;
  dispatch(view.dtype, [&]<typename T>() {
    if constexpr (std::is_integral_v<T>) {
      const T* data = view.as<const T>();
      numbers.assign(data, data + view.num_elements());
    }
  });
  return numbers;
}

void check_output(const EvalContext& context, int index, std::span<const std::int64_t> dims) {
  const TensorView& output = context.output(index);
  require(std::equal(dims.begin(), dims.end(), output.dims.begin(), output.dims.end()), Code::invalid_argument,
          "the result has shape [{}], but [{}] was expected for these inputs", fmt::join(output.dims, ", "),
          fmt::join(dims, ", "));
}

double count_elements(const TensorType& type) {
  double count = 1;
  for (const Dim& dim : type.dims) {
    if (!dim.is_constant()) return 0;
    count *= static_cast<double>(dim.constant());
  }
  return count;
}

}  // namespace tenfold
