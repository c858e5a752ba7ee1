// Attributes of an operator: named constants. One listing serves printing, comparing, hashing and storage.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "graph/tensor.hpp"

namespace tenfold {

/// Floating-point attributes are held as double; an ONNX float converts to double and back without loss.
using AttributeValue = std::variant<std::int64_t, double, std::string, std::vector<std::int64_t>, std::vector<double>,
                                    std::vector<std::string>, Tensor>;

/// Sorted by name. A getter throws Error(invalid_model) when the attribute is there with another type; without a
/// default it also throws when the attribute is missing.
class Attributes {
 public:
  Attributes() = default;
  Attributes(std::initializer_list<std::pair<std::string, AttributeValue>> entries);

  void set(std::string name, AttributeValue value);
  void erase(std::string_view name);
  bool has(std::string_view name) const { return find(name) != nullptr; }
  const AttributeValue* find(std::string_view name) const;

  std::int64_t get_int(std::string_view name) const;
  std::int64_t get_int(std::string_view name, std::int64_t otherwise) const;
  double get_float(std::string_view name) const;  ///< also accepts an integer attribute
  double get_float(std::string_view name, double otherwise) const;
  std::string get_string(std::string_view name) const;
  std::string get_string(std::string_view name, std::string_view otherwise) const;
  std::vector<std::int64_t> get_ints(std::string_view name) const;
  std::vector<std::int64_t> get_ints(std::string_view name, std::vector<std::int64_t> otherwise) const;
  std::vector<double> get_floats(std::string_view name) const;
  std::vector<double> get_floats(std::string_view name, std::vector<double> otherwise) const;
  std::vector<std::string> get_strings(std::string_view name, std::vector<std::string> otherwise) const;
  Tensor get_tensor(std::string_view name) const;

  const std::vector<std::pair<std::string, AttributeValue>>& entries() const { return entries_; }
  bool empty() const { return entries_.empty(); }
  /// Same names, types and values (tensors by bytes).
  bool operator==(const Attributes& other) const;
  /// "{axis=1, mode=\"linear\", pads=[0, 1]}"; parsed by the graph's text reader. Doubles round-trip.
  std::string to_string() const;

 private:
  std::vector<std::pair<std::string, AttributeValue>> entries_;
};

}  // namespace tenfold
