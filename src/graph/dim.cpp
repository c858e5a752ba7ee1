#include "graph/dim.hpp"

#include <algorithm>
#include <cctype>
#include <limits>
#include <numeric>
#include <utility>

#include "base/error.hpp"

namespace tenfold {

struct Dim::Sum {
  std::vector<Term> terms;
  std::string key;
};

namespace {

// A model can ask for a product of many sums; beyond this size an expression helps nobody.
constexpr std::size_t kMaxTerms = 256;
constexpr int kMaxParseDepth = 64;
constexpr std::size_t kMaxParseBytes = 65536;
constexpr int kMaxParseOperators = 256;

std::int64_t saturate(__int128 value) {
  if (value > kUnbounded) return kUnbounded;
  if (value < -kUnbounded) return -kUnbounded;
  return static_cast<std::int64_t>(value);
}
std::int64_t add(std::int64_t a, std::int64_t b) { return saturate(static_cast<__int128>(a) + b); }
std::int64_t mul(std::int64_t a, std::int64_t b) { return saturate(static_cast<__int128>(a) * b); }
std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  const std::int64_t quotient = a / b;
  return (a % b != 0 && (a < 0) != (b < 0)) ? quotient - 1 : quotient;
}

using Term = Dim::Term;
using Atom = Dim::Atom;
using AtomPtr = std::shared_ptr<const Atom>;

bool same_factors(const Term& a, const Term& b) {
  return std::equal(a.factors.begin(), a.factors.end(), b.factors.begin(), b.factors.end(),
                    [](const AtomPtr& x, const AtomPtr& y) { return x->key == y->key; });
}
/// Graded order: longer products first, then by key; the constant comes last.
bool comes_before(const Term& a, const Term& b) {
  if (a.factors.size() != b.factors.size()) return a.factors.size() > b.factors.size();
  for (std::size_t i = 0; i < a.factors.size(); ++i) {
    if (const int order = a.factors[i]->key.compare(b.factors[i]->key); order != 0) return order < 0;
  }
  return false;
}

std::vector<Term> canonical(std::vector<Term> terms) {
  std::sort(terms.begin(), terms.end(), comes_before);
  std::vector<Term> merged;
  for (Term& term : terms) {
    if (!merged.empty() && same_factors(merged.back(), term)) {
      merged.back().coefficient = add(merged.back().coefficient, term.coefficient);
    } else {
      merged.push_back(std::move(term));
    }
  }
  std::erase_if(merged, [](const Term& term) { return term.coefficient == 0; });
  require(merged.size() <= kMaxTerms, Code::unsupported, "a dimension's expression has more than {} terms", kMaxTerms);
  return merged;
}

std::string print_terms(const std::vector<Term>& terms) {
  if (terms.empty()) return "0";
  std::string text;
  for (const Term& term : terms) {
    const bool negative = term.coefficient < 0;
    if (text.empty()) {
      if (negative) text += "-";
    } else {
      text += negative ? " - " : " + ";
    }
    const std::int64_t magnitude = negative ? -term.coefficient : term.coefficient;
    bool first = true;
    if (magnitude != 1 || term.factors.empty()) {
      text += std::to_string(magnitude);
      first = false;
    }
    for (const AtomPtr& factor : term.factors) {
      if (!first) text += "*";
      text += factor->key;
      first = false;
    }
  }
  return text;
}

bool is_identifier(std::string_view name) {
  if (name.empty() || (std::isalpha(static_cast<unsigned char>(name[0])) == 0 && name[0] != '_')) return false;
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.'; });
}
std::string quoted(std::string_view name) {
  std::string text = "\"";
  for (const char c : name) {
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text + "\"";
}
/// a / b if every factor of b is in a and the coefficient divides.
std::optional<Term> divide(const Term& a, const Term& b) {
  if (b.coefficient == 0 || a.coefficient % b.coefficient != 0) return std::nullopt;
  Term quotient{a.coefficient / b.coefficient, a.factors};
  for (const AtomPtr& factor : b.factors) {
    const auto found = std::find_if(quotient.factors.begin(), quotient.factors.end(),
                                    [&](const AtomPtr& f) { return f->key == factor->key; });
    if (found == quotient.factors.end()) return std::nullopt;
    quotient.factors.erase(found);
  }
  return quotient;
}

/// The atom as a dimension of its own.
Dim dim_of(const Atom& atom) {
  switch (atom.kind) {
    case Dim::AtomKind::floordiv:
      return Dim::floordiv(atom.arguments[0], atom.arguments[1]);
    case Dim::AtomKind::max:
      return Dim::max(atom.arguments[0], atom.arguments[1]);
    case Dim::AtomKind::min:
      return Dim::min(atom.arguments[0], atom.arguments[1]);
    case Dim::AtomKind::symbol:
      break;
  }
  return Dim::symbol(atom.name);
}

/// Symbols are sizes, so they are not negative; true only if that settles the sign.
bool provably_nonnegative(const Dim& dim, int depth = 0);
bool provably_nonnegative(const Atom& atom) {
  switch (atom.kind) {
    case Dim::AtomKind::symbol:
      return true;
    case Dim::AtomKind::floordiv:
    case Dim::AtomKind::min:
      return provably_nonnegative(atom.arguments[0]) && provably_nonnegative(atom.arguments[1]);
    case Dim::AtomKind::max:
      return provably_nonnegative(atom.arguments[0]) || provably_nonnegative(atom.arguments[1]);
  }
  return false;
}
bool are_provably_nonnegative(const std::vector<AtomPtr>& factors) {
  return std::all_of(factors.begin(), factors.end(), [](const AtomPtr& f) { return provably_nonnegative(*f); });
}
/// What the atom cannot exceed: an argument of min, the dividend of a division by 1 or more.
std::vector<Dim> upper_bounds(const Atom& atom) {
  if (atom.kind == Dim::AtomKind::min) return atom.arguments;
  if (atom.kind == Dim::AtomKind::floordiv && atom.arguments[1].is_constant() && atom.arguments[1].constant() >= 1 &&
      provably_nonnegative(atom.arguments[0])) {
    return {atom.arguments[0]};
  }
  return {};
}
bool provably_nonnegative(const Dim& dim, int depth) {
  if (dim.is_constant()) return dim.constant() >= 0;
  if (std::all_of(dim.terms().begin(), dim.terms().end(),
                  [](const Term& term) { return term.coefficient >= 0 && are_provably_nonnegative(term.factors); })) {
    return true;
  }
  // A term below 0 does not fall further when a factor gives way to its upper bound: n - min(n, 5) >= n - n.
  constexpr int kMaxDepth = 3;
  if (depth == kMaxDepth) return false;
  for (const Term& term : dim.terms()) {
    if (term.coefficient >= 0 || !are_provably_nonnegative(term.factors)) continue;
    for (std::size_t i = 0; i < term.factors.size(); ++i) {
      for (const Dim& bound : upper_bounds(*term.factors[i])) {
        Dim change = bound - dim_of(*term.factors[i]);
        for (std::size_t j = 0; j < term.factors.size(); ++j) {
          if (j != i) change = change * dim_of(*term.factors[j]);
        }
        if (provably_nonnegative(dim + change * Dim(term.coefficient), depth + 1)) return true;
      }
    }
  }
  return false;
}

/// `dim` if it is exactly one function of that kind.
const Atom* as_atom(const Dim& dim, Dim::AtomKind kind) {
  if (dim.is_constant() || dim.terms().size() != 1) return nullptr;
  const Term& term = dim.terms()[0];
  if (term.coefficient != 1 || term.factors.size() != 1 || term.factors[0]->kind != kind) return nullptr;
  return term.factors[0].get();
}
bool has_argument(const Dim& dim, Dim::AtomKind kind, const Dim& argument) {
  const Atom* atom = as_atom(dim, kind);
  return atom != nullptr && (atom->arguments[0] == argument || atom->arguments[1] == argument);
}

}  // namespace

Dim::Dim(std::int64_t value) : value_(saturate(value)) {}

Dim Dim::symbol(std::string name) {
  Atom atom;
  atom.kind = AtomKind::symbol;
  atom.key = is_identifier(name) && name != "floordiv" && name != "max" && name != "min" ? name : quoted(name);
  atom.name = std::move(name);
  return from_atom(std::move(atom));
}

Dim Dim::from_atom(Atom atom) {
  Term term;
  term.coefficient = 1;
  term.factors.push_back(std::make_shared<const Atom>(std::move(atom)));
  std::vector<Term> terms;
  terms.push_back(std::move(term));
  return from_terms(std::move(terms));
}

Dim Dim::from_terms(std::vector<Term> terms) {
  terms = canonical(std::move(terms));
  if (terms.empty()) return Dim(0);
  if (terms.size() == 1 && terms[0].factors.empty()) return Dim(terms[0].coefficient);
  auto sum = std::make_shared<Sum>();
  sum->key = print_terms(terms);
  sum->terms = std::move(terms);
  return Dim(std::shared_ptr<const Sum>(std::move(sum)));
}

bool Dim::is_constant() const { return sum_ == nullptr; }
std::int64_t Dim::constant() const {
  ensure(is_constant(), "dimension '{}' is not a constant", to_string());
  return value_;
}
std::optional<std::string> Dim::as_symbol() const {
  if (!sum_ || sum_->terms.size() != 1) return std::nullopt;
  const Term& term = sum_->terms[0];
  if (term.coefficient != 1 || term.factors.size() != 1 || term.factors[0]->kind != AtomKind::symbol)
    return std::nullopt;
  return term.factors[0]->name;
}

const std::vector<Term>& Dim::terms() const {
  static const std::vector<Term> kNone;
  ensure(sum_ != nullptr, "terms() of the constant {}", value_);
  return sum_ ? sum_->terms : kNone;
}

namespace {
std::vector<Term> terms_of(const Dim& dim) {
  if (!dim.is_constant()) return dim.terms();
  if (dim.constant() == 0) return {};
  return {Term{dim.constant(), {}}};
}
}  // namespace

Dim Dim::operator+(const Dim& other) const {
  if (is_constant() && other.is_constant()) return {add(value_, other.value_)};
  std::vector<Term> terms = terms_of(*this);
  for (Term& term : terms_of(other)) terms.push_back(std::move(term));
  return from_terms(std::move(terms));
}

Dim Dim::operator*(const Dim& other) const {
  if (is_constant() && other.is_constant()) return {mul(value_, other.value_)};
  std::vector<Term> terms;
  const std::vector<Term> left = terms_of(*this);
  const std::vector<Term> right = terms_of(other);
  require(left.size() * right.size() <= kMaxTerms * kMaxTerms, Code::unsupported,
          "a dimension's expression has more than {} terms", kMaxTerms);
  for (const Term& a : left) {
    for (const Term& b : right) {
      Term term{mul(a.coefficient, b.coefficient), a.factors};
      term.factors.insert(term.factors.end(), b.factors.begin(), b.factors.end());
      std::sort(term.factors.begin(), term.factors.end(),
                [](const AtomPtr& x, const AtomPtr& y) { return x->key < y->key; });
      terms.push_back(std::move(term));
    }
  }
  return from_terms(std::move(terms));
}

Dim Dim::operator-(const Dim& other) const { return *this + other * Dim(-1); }

Dim Dim::floordiv(const Dim& a, const Dim& b) {
  require(!(b.is_constant() && b.value_ == 0), Code::invalid_model, "dimension '{}' is divided by 0", a.to_string());
  if (a.is_constant() && b.is_constant()) return {floor_divide(a.value_, b.value_)};
  if (b.is_constant() && b.value_ == 1) return a;
  if (a.is_constant() && a.value_ == 0) return {0};
  if (a == b) return {1};

  // What divides without remainder leaves the division: floordiv(k*b + r, b) = k + floordiv(r, b).
  Dim whole(0);
  Dim rest = a;
  if (b.is_constant() && b.value_ > 0) {
    std::vector<Term> quotient;
    std::vector<Term> remainder;
    for (const Term& term : terms_of(a)) {
      const std::int64_t q = floor_divide(term.coefficient, b.value_);
      quotient.push_back({q, term.factors});
      remainder.push_back({term.coefficient - q * b.value_, term.factors});
    }
    whole = from_terms(std::move(quotient));
    rest = from_terms(std::move(remainder));
    if (rest.is_constant()) return whole + Dim(floor_divide(rest.value_, b.value_));
    // A common factor cancels, and takes a smaller constant with it: floordiv(2*n + 1, 4) = floordiv(n, 2).
    std::int64_t common = b.value_;
    for (const Term& term : rest.terms()) {
      if (!term.factors.empty()) common = std::gcd(common, term.coefficient);
    }
    if (common > 1) {
      std::vector<Term> reduced = rest.terms();
      for (Term& term : reduced) term.coefficient = floor_divide(term.coefficient, common);
      return whole + floordiv(from_terms(std::move(reduced)), Dim(b.value_ / common));
    }
    // floordiv(floordiv(x, d) + k, c) = floordiv(x + k*d, d*c) for positive constants c, d.
    const std::vector<Term>& terms = rest.terms();
    if (terms.size() <= 2 && terms[0].coefficient == 1 && terms[0].factors.size() == 1 &&
        (terms.size() == 1 || terms[1].factors.empty())) {
      const Atom& inner = *terms[0].factors[0];
      if (inner.kind == AtomKind::floordiv && inner.arguments[1].is_constant() && inner.arguments[1].value_ > 0) {
        const Dim& divisor = inner.arguments[1];
        const Dim shift(terms.size() == 2 ? terms[1].coefficient : 0);
        return whole + floordiv(inner.arguments[0] + shift * divisor, divisor * b);
      }
    }
  } else if (!b.is_constant()) {
    // Polynomial division; kept only if the remainder vanishes or b is a single term.
    const Term& lead = b.terms().front();
    Dim quotient(0);
    Dim remainder = a;
    for (std::size_t step = 0; step < kMaxTerms && !(remainder.is_constant() && remainder.value_ == 0); ++step) {
      std::optional<Term> q;
      for (const Term& term : terms_of(remainder)) {
        if ((q = divide(term, lead))) break;
      }
      if (!q) break;
      const Dim part = from_terms({*q});
      quotient = quotient + part;
      remainder = remainder - part * b;
    }
    if (remainder.is_constant() && remainder.value_ == 0) return quotient;
    if (b.terms().size() == 1) {
      whole = quotient;
      rest = remainder;
    }
  }
  Atom atom;
  atom.kind = AtomKind::floordiv;
  atom.key = "floordiv(" + rest.to_string() + ", " + b.to_string() + ")";
  atom.arguments = {rest, b};
  return whole + from_atom(std::move(atom));
}

Dim Dim::max(const Dim& a, const Dim& b) {
  for (const auto& [one, other] : {std::pair(&a, &b), std::pair(&b, &a)}) {
    if (has_argument(*one, AtomKind::min, *other)) return *other;
    if (has_argument(*one, AtomKind::max, *other)) return *one;
  }
  if (provably_nonnegative(a - b)) return a;
  if (provably_nonnegative(b - a)) return b;
  const bool ordered = a < b;
  Atom atom;
  atom.kind = AtomKind::max;
  atom.arguments = ordered ? std::vector<Dim>{a, b} : std::vector<Dim>{b, a};
  atom.key = "max(" + atom.arguments[0].to_string() + ", " + atom.arguments[1].to_string() + ")";
  return from_atom(std::move(atom));
}

Dim Dim::min(const Dim& a, const Dim& b) {
  for (const auto& [one, other] : {std::pair(&a, &b), std::pair(&b, &a)}) {
    if (has_argument(*one, AtomKind::max, *other)) return *other;
    if (has_argument(*one, AtomKind::min, *other)) return *one;
  }
  if (provably_nonnegative(a - b)) return b;
  if (provably_nonnegative(b - a)) return a;
  const bool ordered = a < b;
  Atom atom;
  atom.kind = AtomKind::min;
  atom.arguments = ordered ? std::vector<Dim>{a, b} : std::vector<Dim>{b, a};
  atom.key = "min(" + atom.arguments[0].to_string() + ", " + atom.arguments[1].to_string() + ")";
  return from_atom(std::move(atom));
}

bool Dim::operator==(const Dim& other) const {
  if (!sum_ || !other.sum_) return !sum_ && !other.sum_ && value_ == other.value_;
  return sum_ == other.sum_ || sum_->key == other.sum_->key;
}
bool Dim::operator<(const Dim& other) const {
  if (is_constant() != other.is_constant()) return is_constant();
  if (is_constant()) return value_ < other.value_;
  return sum_->key < other.sum_->key;
}

std::int64_t Dim::evaluate(const std::function<std::int64_t(const std::string&)>& value_of) const {
  if (!sum_) return value_;
  std::int64_t total = 0;
  for (const Term& term : sum_->terms) {
    std::int64_t value = term.coefficient;
    for (const AtomPtr& factor : term.factors) {
      std::int64_t operand = 0;
      if (factor->kind == AtomKind::symbol) {
        operand = value_of(factor->name);
      } else {
        const std::int64_t a = factor->arguments[0].evaluate(value_of);
        const std::int64_t b = factor->arguments[1].evaluate(value_of);
        switch (factor->kind) {
          case AtomKind::floordiv:
            operand = b == 0 ? 0 : floor_divide(a, b);
            break;
          case AtomKind::max:
            operand = std::max(a, b);
            break;
          case AtomKind::min:
            operand = std::min(a, b);
            break;
          case AtomKind::symbol:
            break;
        }
      }
      value = mul(value, operand);
    }
    total = add(total, value);
  }
  return total;
}

Interval Dim::bounds(const std::function<Interval(const std::string&)>& range_of) const {
  if (!sum_) return {value_, value_};
  Interval total{0, 0};
  for (const Term& term : sum_->terms) {
    Interval value{term.coefficient, term.coefficient};
    for (const AtomPtr& factor : term.factors) {
      Interval operand;
      if (factor->kind == AtomKind::symbol) {
        operand = range_of(factor->name);
      } else {
        const Interval a = factor->arguments[0].bounds(range_of);
        const Interval b = factor->arguments[1].bounds(range_of);
        switch (factor->kind) {
          case AtomKind::floordiv: {
            // A divisor of 0 evaluates to 0; the range then covers that as well.
            std::vector<std::int64_t> divisors;
            for (const std::int64_t d : {b.low, b.high, std::int64_t{1}, std::int64_t{-1}}) {
              if (d != 0 && d >= b.low && d <= b.high) divisors.push_back(d);
            }
            operand = {std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::min()};
            if (b.low <= 0 && b.high >= 0) operand = {0, 0};
            for (const std::int64_t d : divisors) {
              for (const std::int64_t n : {a.low, a.high}) {
                operand.low = std::min(operand.low, floor_divide(n, d));
                operand.high = std::max(operand.high, floor_divide(n, d));
              }
            }
            break;
          }
          case AtomKind::max:
            operand = {std::max(a.low, b.low), std::max(a.high, b.high)};
            break;
          case AtomKind::min:
            operand = {std::min(a.low, b.low), std::min(a.high, b.high)};
            break;
          case AtomKind::symbol:
            break;
        }
      }
      const std::int64_t corners[] = {mul(value.low, operand.low), mul(value.low, operand.high),
                                      mul(value.high, operand.low), mul(value.high, operand.high)};
      value = {*std::min_element(std::begin(corners), std::end(corners)),
               *std::max_element(std::begin(corners), std::end(corners))};
    }
    total = {add(total.low, value.low), add(total.high, value.high)};
  }
  return total;
}

Dim Dim::substitute(const std::function<std::optional<Dim>(const std::string&)>& replacement) const {
  if (!sum_) return *this;
  Dim total(0);
  for (const Term& term : sum_->terms) {
    Dim value(term.coefficient);
    for (const AtomPtr& factor : term.factors) {
      if (factor->kind == AtomKind::symbol) {
        const std::optional<Dim> other = replacement(factor->name);
        value = value * (other ? *other : symbol(factor->name));
        continue;
      }
      const Dim a = factor->arguments[0].substitute(replacement);
      const Dim b = factor->arguments[1].substitute(replacement);
      switch (factor->kind) {
        case AtomKind::floordiv:
          value = value * (b == Dim(0) ? Dim(0) : floordiv(a, b));
          break;
        case AtomKind::max:
          value = value * max(a, b);
          break;
        case AtomKind::min:
          value = value * min(a, b);
          break;
        case AtomKind::symbol:
          break;
      }
    }
    total = total + value;
  }
  return total;
}

void Dim::collect_symbols(std::set<std::string>& into) const {
  if (!sum_) return;
  for (const Term& term : sum_->terms) {
    for (const AtomPtr& factor : term.factors) {
      if (factor->kind == AtomKind::symbol) into.insert(factor->name);
      for (const Dim& argument : factor->arguments) argument.collect_symbols(into);
    }
  }
}

std::string Dim::to_string() const { return sum_ ? sum_->key : std::to_string(value_); }

namespace {

// expression := ['-'] product { ('+' | '-') product };  product := factor { '*' factor }
// factor := number | symbol | "quoted symbol" | name '(' expression ',' expression ')' | '(' expression ')'
class DimParser {
 public:
  explicit DimParser(std::string_view text) : text_(text) {}

  Dim parse() {
    if (text_.size() > kMaxParseBytes) fail(fmt::format("at most {} bytes", kMaxParseBytes));
    Dim dim = expression(0);
    skip_spaces();
    if (at_ != text_.size()) fail("end of text");
    return dim;
  }

 private:
  [[noreturn]] void fail(std::string_view expected) const {
    throw Error(Code::invalid_argument,
                fmt::format("dimension '{}', character {}: expected {}", text_.substr(0, 200), at_ + 1, expected));
  }
  void skip_spaces() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  bool accept(char c) {
    skip_spaces();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    if (++operators_ > kMaxParseOperators) fail("fewer operators");
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail(std::string("'") + c + "'");
  }
  Dim expression(int depth) {
    if (depth > kMaxParseDepth) fail("less nesting");
    Dim total = accept('-') ? -product(depth) : product(depth);
    while (true) {
      if (accept('+')) {
        total = total + product(depth);
      } else if (accept('-')) {
        total = total - product(depth);
      } else {
        return total;
      }
    }
  }
  Dim product(int depth) {
    Dim value = factor(depth);
    while (accept('*')) value = value * factor(depth);
    return value;
  }
  Dim factor(int depth) {
    skip_spaces();
    if (at_ >= text_.size()) fail("a number, a symbol or a function");
    const char c = text_[at_];
    if (std::isdigit(static_cast<unsigned char>(c)) != 0) return number();
    if (accept('(')) {
      Dim value = expression(depth + 1);
      expect(')');
      return value;
    }
    if (c == '"') return Dim::symbol(quoted_name());
    std::string name;
    while (at_ < text_.size() && is_identifier(name + text_[at_])) name += text_[at_++];
    if (name.empty()) fail("a number, a symbol or a function");
    if (name != "floordiv" && name != "max" && name != "min") return Dim::symbol(name);
    expect('(');
    const Dim a = expression(depth + 1);
    expect(',');
    const Dim b = expression(depth + 1);
    expect(')');
    if (name == "max") return Dim::max(a, b);
    if (name == "min") return Dim::min(a, b);
    if (b == Dim(0)) fail("a divisor other than 0");
    return Dim::floordiv(a, b);
  }
  Dim number() {
    std::int64_t value = 0;
    while (at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])) != 0) {
      value = add(mul(value, 10), text_[at_++] - '0');
    }
    return {value};
  }
  std::string quoted_name() {
    ++at_;
    std::string name;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] == '\\' && at_ + 1 < text_.size()) ++at_;
      name += text_[at_++];
    }
    if (at_ >= text_.size()) fail("a closing quote");
    ++at_;
    return name;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int operators_ = 0;
};

}  // namespace

Dim Dim::parse(std::string_view text) { return DimParser(text).parse(); }

Dim product(const std::vector<Dim>& dims) {
  Dim result(1);
  for (const Dim& dim : dims) result = result * dim;
  return result;
}

std::string to_string(const std::vector<Dim>& dims) {
  std::string text = "[";
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (i > 0) text += ", ";
    text += dims[i].to_string();
  }
  return text + "]";
}

}  // namespace tenfold
