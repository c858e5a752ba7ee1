#include "graph/attributes.hpp"

#include <algorithm>
#include <bit>

namespace tenfold {
namespace {

std::string_view type_name(const AttributeValue& value) {
  static constexpr std::string_view kNames[] = {
      "an integer", "a number", "a string", "a list of integers", "a list of numbers", "a list of strings", "a tensor"};
  return kNames[value.index()];
}

template <typename T>
const T& expect(const AttributeValue& value, std::string_view name, std::string_view wanted) {
  const T* typed = std::get_if<T>(&value);
  require(typed != nullptr, Code::invalid_model, "attribute '{}' should be {}, but is {}", name, wanted,
          type_name(value));
  return *typed;
}

bool same(const AttributeValue& a, const AttributeValue& b) {
  if (a.index() != b.index()) return false;
  if (const auto* tensor = std::get_if<Tensor>(&a)) return tensor->equals(std::get<Tensor>(b));
  // Bitwise, so that NaN equals itself and -0.0 differs from 0.0.
  const auto bits_equal = [](double x, double y) {
    return std::bit_cast<std::uint64_t>(x) == std::bit_cast<std::uint64_t>(y);
  };
  if (const auto* number = std::get_if<double>(&a)) return bits_equal(*number, std::get<double>(b));
  if (const auto* list = std::get_if<std::vector<double>>(&a)) {
    const auto& other = std::get<std::vector<double>>(b);
    return std::equal(list->begin(), list->end(), other.begin(), other.end(), bits_equal);
  }
  return std::visit(
      [&](const auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, Tensor>) {
          return false;
        } else {
          return value == std::get<T>(b);
        }
      },
      a);
}

std::string quote(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (c == '\n') {
      result += "\\n";
    } else {
      result += c;
    }
  }
  return result + "\"";
}
/// Shortest text that reads back to the same double, and that is recognisably no integer.
std::string number(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".eni") == std::string::npos) text += ".0";
  return text;
}
std::string print(const Tensor& tensor) {
  std::string text = fmt::format("{}(", to_string(tensor.type()));
  const bool integral = is_integer(tensor.dtype()) || tensor.dtype() == DType::boolean;
  bool first = true;
  const auto item = [&](const std::string& element) {
    if (!first) text += ", ";
    text += element;
    first = false;
  };
  if (integral) {
    for (const std::int64_t value : tensor.to_int64()) item(std::to_string(value));
  } else {
    for (const double value : tensor.to_double()) item(number(value));
  }
  return text + ")";
}

struct Printer {
  std::string operator()(std::int64_t value) const { return std::to_string(value); }
  std::string operator()(double value) const { return number(value); }
  std::string operator()(const std::string& value) const { return quote(value); }
  std::string operator()(const Tensor& value) const { return print(value); }
  template <typename T>
  std::string operator()(const std::vector<T>& values) const {
    std::string text = "[";
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (i > 0) text += ", ";
      text += (*this)(values[i]);
    }
    return text + "]";
  }
};

}  // namespace

Attributes::Attributes(std::initializer_list<std::pair<std::string, AttributeValue>> entries) {
  for (const auto& [name, value] : entries) set(name, value);
}

void Attributes::set(std::string name, AttributeValue value) {
  const auto place = std::lower_bound(entries_.begin(), entries_.end(), name,
                                      [](const auto& entry, const std::string& key) { return entry.first < key; });
  if (place != entries_.end() && place->first == name) {
    place->second = std::move(value);
  } else {
    entries_.insert(place, {std::move(name), std::move(value)});
  }
}

void Attributes::erase(std::string_view name) {
  std::erase_if(entries_, [&](const auto& entry) { return entry.first == name; });
}

const AttributeValue* Attributes::find(std::string_view name) const {
  const auto place = std::lower_bound(entries_.begin(), entries_.end(), name,
                                      [](const auto& entry, std::string_view key) { return entry.first < key; });
  return place != entries_.end() && place->first == name ? &place->second : nullptr;
}

namespace {
const AttributeValue& need(const Attributes& attributes, std::string_view name) {
  const AttributeValue* value = attributes.find(name);
  require(value != nullptr, Code::invalid_model, "attribute '{}' is missing", name);
  return *value;
}
}  // namespace

std::int64_t Attributes::get_int(std::string_view name) const {
  return expect<std::int64_t>(need(*this, name), name, "an integer");
}
std::int64_t Attributes::get_int(std::string_view name, std::int64_t otherwise) const {
  return has(name) ? get_int(name) : otherwise;
}
double Attributes::get_float(std::string_view name) const {
  const AttributeValue& value = need(*this, name);
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return static_cast<double>(*integer);
  return expect<double>(value, name, "a number");
}
double Attributes::get_float(std::string_view name, double otherwise) const {
  return has(name) ? get_float(name) : otherwise;
}
std::string Attributes::get_string(std::string_view name) const {
  return expect<std::string>(need(*this, name), name, "a string");
}
std::string Attributes::get_string(std::string_view name, std::string_view otherwise) const {
  return has(name) ? get_string(name) : std::string(otherwise);
}

namespace {
/// An empty list has no element type in text form; any list attribute may then be read as any other.
bool is_empty_list(const AttributeValue& value) {
  return std::visit(
      [](const auto& v) {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, std::vector<std::int64_t>> || std::is_same_v<T, std::vector<double>> ||
                      std::is_same_v<T, std::vector<std::string>>) {
          return v.empty();
        } else {
          return false;
        }
      },
      value);
}
}  // namespace

std::vector<std::int64_t> Attributes::get_ints(std::string_view name) const {
  const AttributeValue& value = need(*this, name);
  if (is_empty_list(value)) return {};
  return expect<std::vector<std::int64_t>>(value, name, "a list of integers");
}
std::vector<std::int64_t> Attributes::get_ints(std::string_view name, std::vector<std::int64_t> otherwise) const {
  return has(name) ? get_ints(name) : std::move(otherwise);
}
std::vector<double> Attributes::get_floats(std::string_view name) const {
  const AttributeValue& value = need(*this, name);
  if (is_empty_list(value)) return {};
  if (const auto* integers = std::get_if<std::vector<std::int64_t>>(&value))
    return {integers->begin(), integers->end()};
  return expect<std::vector<double>>(value, name, "a list of numbers");
}
std::vector<double> Attributes::get_floats(std::string_view name, std::vector<double> otherwise) const {
  return has(name) ? get_floats(name) : std::move(otherwise);
}
std::vector<std::string> Attributes::get_strings(std::string_view name, std::vector<std::string> otherwise) const {
  if (!has(name)) return otherwise;
  const AttributeValue& value = need(*this, name);
  if (is_empty_list(value)) return {};
  return expect<std::vector<std::string>>(value, name, "a list of strings");
}
Tensor Attributes::get_tensor(std::string_view name) const {
  return expect<Tensor>(need(*this, name), name, "a tensor");
}

bool Attributes::operator==(const Attributes& other) const {
  return std::equal(entries_.begin(), entries_.end(), other.entries_.begin(), other.entries_.end(),
                    [](const auto& a, const auto& b) { return a.first == b.first && same(a.second, b.second); });
}

std::string Attributes::to_string() const {
  std::string text = "{";
  for (const auto& [name, value] : entries_) {
    if (text.size() > 1) text += ", ";
    text += name + "=" + std::visit(Printer{}, value);
  }
  return text + "}";
}

}  // namespace tenfold
