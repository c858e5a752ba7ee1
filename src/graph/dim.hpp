// A dimension: an integer that may be known only when the engine runs.
//
// A Dim is a polynomial over atoms, kept in canonical form, so that equal expressions compare equal:
//   sum of  coefficient * atom * atom * ...      atom = symbol | floordiv(a, b) | max(a, b) | min(a, b)
// A symbol stands for an axis of a network input ("batch") or for a size that only a running kernel knows ("boxes#0").
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace tenfold {

/// Inclusive range of integers.
struct Interval {
  std::int64_t low = 0;
  std::int64_t high = 0;
  bool operator==(const Interval&) const = default;
};

/// "No bound known": large enough to mean unbounded, small enough to survive arithmetic that saturates.
inline constexpr std::int64_t kUnbounded = std::int64_t{1} << 60;

class Dim {
 public:
  enum class AtomKind : std::uint8_t { symbol = 0, floordiv = 1, max = 2, min = 3 };
  struct Atom;
  struct Term;

  Dim(std::int64_t value = 0);  // NOLINT(google-explicit-constructor): an integer is a dimension
  static Dim symbol(std::string name);

  bool is_constant() const;
  /// The value. Requires is_constant().
  std::int64_t constant() const;
  /// The symbol's name when this is exactly one symbol.
  std::optional<std::string> as_symbol() const;

  Dim operator+(const Dim& other) const;
  Dim operator-(const Dim& other) const;
  Dim operator*(const Dim& other) const;
  Dim operator-() const { return Dim(0) - *this; }
  /// Largest integer not above a / b. `b` must not be the constant 0.
  static Dim floordiv(const Dim& a, const Dim& b);
  static Dim ceildiv(const Dim& a, const Dim& b) { return -floordiv(-a, b); }
  static Dim max(const Dim& a, const Dim& b);
  static Dim min(const Dim& a, const Dim& b);

  /// Proven equal. Two Dims that differ in form may still be equal in value.
  bool operator==(const Dim& other) const;
  /// An arbitrary but fixed order, for use as a key.
  bool operator<(const Dim& other) const;

  /// `value_of(name)` gives each symbol's value. Arithmetic saturates at +-kUnbounded.
  std::int64_t evaluate(const std::function<std::int64_t(const std::string&)>& value_of) const;
  /// Interval arithmetic: every value that `evaluate` can give lies inside. Saturates.
  Interval bounds(const std::function<Interval(const std::string&)>& range_of) const;
  /// Replaces symbols; a symbol that `replacement` maps to nullopt stays.
  Dim substitute(const std::function<std::optional<Dim>(const std::string&)>& replacement) const;
  void collect_symbols(std::set<std::string>& into) const;

  /// "2*batch*floordiv(height + 1, 2) + 3"; a symbol that is not an identifier is printed in double quotes.
  std::string to_string() const;
  /// The inverse of to_string. Throws Error(invalid_argument) with the offending position, also for a text that is too
  /// long or has too many operators: bringing it into canonical form costs more than its length.
  static Dim parse(std::string_view text);

  /// The canonical terms: empty for 0; a constant is one term without factors. For serialisation and for tests.
  const std::vector<Term>& terms() const;

 private:
  struct Sum;
  explicit Dim(std::shared_ptr<const Sum> sum) : sum_(std::move(sum)) {}
  static Dim from_terms(std::vector<Term> terms);
  static Dim from_atom(Atom atom);

  // A constant needs no allocation: sum_ is null and value_ holds it.
  std::int64_t value_ = 0;
  std::shared_ptr<const Sum> sum_;
};

struct Dim::Atom {
  AtomKind kind = AtomKind::symbol;
  std::string name;            // of a symbol
  std::vector<Dim> arguments;  // of a function: exactly two
  std::string key;             // canonical text; decides order and equality
};

struct Dim::Term {
  std::int64_t coefficient = 0;
  std::vector<std::shared_ptr<const Atom>> factors;  // sorted by key
};

/// Product of all dimensions; 1 for a scalar.
Dim product(const std::vector<Dim>& dims);
/// "[batch, 3, 224, 224]"
std::string to_string(const std::vector<Dim>& dims);

}  // namespace tenfold
