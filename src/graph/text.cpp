// Graph <-> text, and graph -> Graphviz. The grammar stands in text.hpp; the reader is a recursive descent over it
// whose only recursion, blocks inside nodes, is limited in depth.
#include "graph/text.hpp"

#include <bit>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <map>
#include <set>
#include <utility>
#include <xxhash.h>

namespace tenfold {
namespace {

constexpr int kMaxBlockDepth = 32;
// A short text must not ask for much memory.
constexpr std::int64_t kMaxTextElements = std::int64_t{1} << 26;

bool is_name_char(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.'; }

std::string quote(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '\n') {
      result += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + "\"";
}

std::string plain_or_quoted(std::string_view name) {
  bool plain = !name.empty();
  for (const char c : name) plain = plain && is_name_char(c);
  return plain ? std::string(name) : quote(name);
}

// --- Printing -------------------------------------------------------------------------------------------------------

std::string elements(const Tensor& tensor) {
  if (is_float(tensor.dtype()) || tensor.dtype() == DType::float8e4m3) {
    // Shortest decimal that reads back to the same value of the tensor's own precision.
    if (tensor.dtype() == DType::float64) return fmt::format("{}", fmt::join(tensor.to_double(), ", "));
    const std::vector<double> values = tensor.to_double();
    return fmt::format("{}", fmt::join(std::vector<float>(values.begin(), values.end()), ", "));
  }
  return fmt::format("{}", fmt::join(tensor.to_int64(), ", "));
}

std::string constant_data(const Tensor& tensor, const PrintOptions& options) {
  if (tensor.num_elements() <= options.max_constant_elements) return fmt::format("data({})", elements(tensor));
  return fmt::format("large({:016x})", XXH3_64bits(tensor.data(), tensor.size_bytes()));
}

class Printer {
 public:
  explicit Printer(const PrintOptions& options) : options_(options) {}

  void graph(const Graph& graph, int indent) {
    out_ += "graph " + plain_or_quoted(graph.name) + "(";
    for (std::size_t i = 0; i < graph.inputs().size(); ++i) {
      if (i > 0) out_ += ", ";
      const Value& input = graph.value(graph.inputs()[i]);
      out_ += fmt::format("%{}: {}", plain_or_quoted(input.name), to_string(input.type));
    }
    out_ += ") {\n";
    const int inside = indent + 2;
    if (!graph.scope.empty()) line(inside, "scope " + quote(graph.scope));
    for (const auto& [symbol, bound] : graph.symbol_bounds) {
      std::string text = "symbol " + Dim::symbol(symbol).to_string();
      if (!(bound == Dim(kUnbounded))) text += " <= " + bound.to_string();
      line(inside, text);
    }
    for (ValueId id = 0; id < graph.value_limit(); ++id) {
      const Tensor* tensor = graph.is_alive_value(id) ? graph.constant(id) : nullptr;
      if (tensor == nullptr) continue;
      line(inside, fmt::format("%{} = constant {} {}", plain_or_quoted(graph.value(id).name), to_string(tensor->type()),
                               constant_data(*tensor, options_)));
    }
    for (const NodeId id : graph.order()) node(graph, graph.node(id), inside);
    std::string text = "return";
    for (std::size_t i = 0; i < graph.outputs().size(); ++i) {
      text += i > 0 ? ", " : " ";
      text += reference(graph, graph.outputs()[i]);
      const std::string& name = graph.output_names()[i];
      if (name != graph.value(graph.outputs()[i]).name) text += " as " + quote(name);
    }
    line(inside, text);
    out_ += std::string(static_cast<std::size_t>(indent), ' ') + "}";
  }

  std::string take() { return std::move(out_) + "\n"; }

 private:
  void line(int indent, std::string_view text) {
    out_.append(static_cast<std::size_t>(indent), ' ');
    out_ += text;
    out_ += '\n';
  }
  static std::string reference(const Graph& graph, ValueId id) {
    return id == kNoValue ? "_" : fmt::format("%{}", plain_or_quoted(graph.value(id).name));
  }

  void node(const Graph& graph, const Node& node, int indent) {
    out_.append(static_cast<std::size_t>(indent), ' ');
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      if (i > 0) out_ += ", ";
      out_ += reference(graph, node.outputs[i]);
      if (node.outputs[i] != kNoValue) out_ += ": " + to_string(graph.value(node.outputs[i]).type);
    }
    out_ += fmt::format(" = {}(", plain_or_quoted(node.op->type()));
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (i > 0) out_ += ", ";
      out_ += reference(graph, node.inputs[i]);
    }
    out_ += ")";
    const Attributes attributes = node.op->attributes();
    if (!attributes.empty()) out_ += " " + attributes.to_string();
    for (const Graph& block : node.blocks) {
      out_ += " ";
      this->graph(block, indent);
    }
    if (options_.origins) {
      const bool is_named =
          node.outputs.empty() || node.outputs[0] == kNoValue || graph.value(node.outputs[0]).name != node.name;
      const bool has_origins = !node.origins.empty() && !(node.origins.size() == 1 && node.origins[0] == node.name);
      if (is_named || !node.origins.empty()) out_ += "  # name " + quote(node.name);
      if (has_origins) {
        out_ += " origins ";
        for (std::size_t i = 0; i < node.origins.size(); ++i) out_ += (i > 0 ? ", " : "") + quote(node.origins[i]);
      } else if (is_named && node.origins.empty()) {
        out_ += " origins";
      }
    }
    out_ += "\n";
  }

  const PrintOptions& options_;
  std::string out_;
};

// --- Parsing --------------------------------------------------------------------------------------------------------

class Parser {
 public:
  Parser(std::string_view text, const OpFactory& make_op) : text_(text), make_op_(make_op) {}

  Graph whole() {
    Graph result = graph(0);
    skip_space();
    if (at_ < text_.size()) fail("expected nothing after the graph");
    return result;
  }

 private:
  [[noreturn]] void fail_at(std::size_t place, std::string_view message) const {
    std::size_t line = 1;
    std::size_t column = 1;
    for (std::size_t i = 0; i < place && i < text_.size(); ++i) {
      ++column;
      if (text_[i] == '\n') {
        ++line;
        column = 1;
      }
    }
    throw Error(Code::invalid_argument, fmt::format("graph text, line {}, column {}: {}", line, column, message));
  }
  [[noreturn]] void fail(std::string_view message) const { fail_at(at_, message); }
  [[noreturn]] void fail_expecting(std::string_view expected) const {
    const std::string found = at_ < text_.size() ? fmt::format("'{}'", text_[at_]) : "the end of the text";
    fail(fmt::format("expected {}, found {}", expected, found));
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool starts_with(std::string_view word) const { return text_.substr(at_, word.size()) == word; }

  /// Spaces, line ends and comments.
  void skip_space() {
    while (at_ < text_.size()) {
      if (std::isspace(static_cast<unsigned char>(text_[at_])) != 0) {
        ++at_;
      } else if (text_[at_] == '#') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      } else {
        return;
      }
    }
  }
  bool accept(char c) {
    skip_space();
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail_expecting(std::string("'") + c + "'");
  }
  bool accept_word(std::string_view word) {
    skip_space();
    if (!starts_with(word)) return false;
    if (at_ + word.size() < text_.size() && is_name_char(text_[at_ + word.size()])) return false;
    at_ += word.size();
    return true;
  }
  std::string quoted() {
    skip_space();
    if (peek() != '"') fail_expecting("a quoted string");
    const std::size_t start = at_++;
    std::string result;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] == '\\' && at_ + 1 < text_.size()) {
        ++at_;
        result += text_[at_] == 'n' ? '\n' : text_[at_];
      } else {
        result += text_[at_];
      }
      ++at_;
    }
    if (at_ >= text_.size()) fail_at(start, "the quoted string does not end");
    ++at_;
    return result;
  }
  std::string word(std::string_view what) {
    skip_space();
    if (peek() == '"') return quoted();
    const std::size_t start = at_;
    while (at_ < text_.size() && is_name_char(text_[at_])) ++at_;
    if (at_ == start) fail_expecting(what);
    return std::string(text_.substr(start, at_ - start));
  }
  /// "%name"; empty for "_".
  std::string reference() {
    skip_space();
    if (accept_word("_")) return {};
    if (peek() != '%') fail_expecting("a value (%name) or _");
    ++at_;
    std::string name = word("a value's name");
    if (name.empty()) fail("a value's name is empty");
    return name;
  }

  /// The text up to one of `stops` outside parentheses and quotes.
  std::string_view expression_text(std::string_view stops) {
    skip_space();
    const std::size_t start = at_;
    int depth = 0;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '"') {
        (void)quoted();
        continue;
      }
      if (depth == 0 && stops.find(c) != std::string_view::npos) break;
      if (c == '(') ++depth;
      if (c == ')') --depth;
      ++at_;
    }
    return text_.substr(start, at_ - start);
  }
  Dim dim(std::string_view stops) {
    const std::size_t start = at_;
    try {
      std::string_view text = expression_text(stops);
      while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) text.remove_suffix(1);
      return Dim::parse(text);
    } catch (const Error& error) {
      fail_at(start, error.message());
    }
  }
  DType dtype() {
    const std::size_t start = at_;
    const std::string name = word("an element type");
    const std::optional<DType> parsed = parse_dtype(name);
    if (!parsed || *parsed == DType::undefined) fail_at(start, fmt::format("'{}' is no element type", name));
    return *parsed;
  }
  TensorType type() {
    TensorType result;
    skip_space();
    result.dtype = dtype();
    expect('[');
    if (accept(']')) return result;
    do {
      if (result.rank() == kMaxRank) fail(fmt::format("a type has at most {} dimensions", kMaxRank));
      result.dims.push_back(dim(",]"));
    } while (accept(','));
    expect(']');
    return result;
  }
  /// A type without symbols, and with a bounded number of elements.
  TensorType static_type() {
    const std::size_t start = at_;
    TensorType result = type();
    if (!result.is_static()) fail_at(start, "a constant's shape needs numbers");
    std::int64_t count = 0;
    try {
      count = num_elements(result.static_shape());
    } catch (const Error& error) {
      fail_at(start, error.message());
    }
    if (count > kMaxTextElements) fail_at(start, fmt::format("a constant of {} elements is too large for text", count));
    return result;
  }

  std::string_view number_text() {
    skip_space();
    const std::size_t start = at_;
    while (at_ < text_.size() && (is_name_char(text_[at_]) || text_[at_] == '-' || text_[at_] == '+')) ++at_;
    if (at_ == start) fail_expecting("a number");
    return text_.substr(start, at_ - start);
  }
  double floating() {
    const std::string text(number_text());
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (*end != '\0') fail_at(at_ - text.size(), fmt::format("'{}' is no number", text));
    return value;
  }
  std::int64_t integer() {
    const std::string_view text = number_text();
    std::int64_t value = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (status != std::errc{} || end != text.data() + text.size()) {
      fail_at(at_ - text.size(), fmt::format("'{}' is no 64-bit integer", text));
    }
    return value;
  }
  /// Calls `store(index, T)` for all elements; `read` gives a double or an integer.
  template <typename ReadFloat, typename ReadInt>
  Tensor fill(const TensorType& type, const ReadFloat& read_float, const ReadInt& read_int) {
    Tensor tensor(type.dtype, type.static_shape());
    dispatch(type.dtype, [&]<typename T>() {
      for (T& element : tensor.as_mutable<T>()) {
        if constexpr (std::is_same_v<T, double>) {
          element = read_float();
        } else if constexpr (!std::is_integral_v<T>) {
          element = T(static_cast<float>(read_float()));
        } else {
          element = static_cast<T>(read_int());
        }
      }
    });
    return tensor;
  }
  Tensor listed(const TensorType& type, char open, char close) {
    expect(open);
    bool first = true;
    const auto separator = [&] {
      if (!first) expect(',');
      first = false;
    };
    Tensor tensor = fill(
        type,
        [&] {
          separator();
          return floating();
        },
        [&] {
          separator();
          if (type.dtype == DType::boolean) {
            if (accept_word("true")) return std::int64_t{1};
            if (accept_word("false")) return std::int64_t{0};
          }
          return integer();
        });
    expect(close);
    return tensor;
  }
  Tensor constant_tensor() {
    const TensorType wanted = static_type();
    const auto all = [&](double value) {
      return fill(
          wanted, [&] { return value; }, [&] { return static_cast<std::int64_t>(value); });
    };
    skip_space();
    const std::size_t start = at_;
    const std::string form = word("data(...), zeros, ones, full(x), iota or random(seed)");
    if (form == "data") return listed(wanted, '(', ')');
    if (form == "zeros") return all(0);
    if (form == "ones") return all(1);
    if (form == "iota") {
      std::int64_t next = 0;
      return fill(
          wanted, [&] { return static_cast<double>(next++); }, [&] { return next++; });
    }
    if (form == "full") {
      expect('(');
      const double value = floating();
      expect(')');
      return all(value);
    }
    if (form == "random") {
      expect('(');
      auto state = static_cast<std::uint64_t>(integer());
      expect(')');
      const auto next = [&] {  // splitmix64 (Steele, Lea, Flood 2014)
        std::uint64_t z = (state += 0x9e3779b97f4a7c15U);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
        return z ^ (z >> 31);
      };
      return fill(
          wanted, [&] { return static_cast<double>(next() >> 11) * 0x1p-52 - 1; },
          [&] { return static_cast<std::int64_t>(next() % (wanted.dtype == DType::boolean ? 2 : 8)); });
    }
    if (form == "large") fail_at(start, "a constant printed as 'large' has no data to read back");
    fail_at(start,
            fmt::format("'{}' is no form of a constant: data(...), zeros, ones, full(x), iota or random(seed)", form));
  }

  AttributeValue attribute_value() {
    skip_space();
    if (peek() == '"') return quoted();
    if (accept('[')) return attribute_list();
    const std::size_t start = at_;
    if (std::isalpha(static_cast<unsigned char>(peek())) != 0 && !starts_with("nan") && !starts_with("inf")) {
      const TensorType wanted = static_type();
      return listed(wanted, '(', ')');
    }
    const std::string_view text = number_text();
    at_ = start;
    if (text.find_first_of(".eni") == std::string_view::npos) return integer();
    return floating();
  }
  AttributeValue attribute_list() {
    if (accept(']')) return std::vector<std::int64_t>{};
    std::vector<std::int64_t> integers;
    std::vector<double> numbers;
    std::vector<std::string> strings;
    do {
      const std::size_t start = at_;
      const AttributeValue item = attribute_value();
      if (const auto* value = std::get_if<std::int64_t>(&item)) {
        integers.push_back(*value);
      } else if (const auto* number = std::get_if<double>(&item)) {
        numbers.push_back(*number);
      } else if (const auto* string = std::get_if<std::string>(&item)) {
        strings.push_back(*string);
      } else {
        fail_at(start, "a list holds integers, numbers or strings");
      }
      if (!integers.empty() + !numbers.empty() + !strings.empty() > 1)
        fail_at(start, "a list holds one kind of element");
    } while (accept(','));
    expect(']');
    if (!integers.empty()) return integers;
    if (!numbers.empty()) return numbers;
    return strings;
  }
  Attributes attributes() {
    Attributes result;
    const std::size_t before = at_;
    if (!accept('{')) {
      at_ = before;  // the comment that `accept` skipped may be the node's note
      return result;
    }
    if (accept('}')) return result;
    do {
      skip_space();
      const std::size_t start = at_;
      std::string name = word("an attribute's name");
      if (result.has(name)) fail_at(start, fmt::format("attribute '{}' is there twice", name));
      expect('=');
      result.set(std::move(name), attribute_value());
    } while (accept(','));
    expect('}');
    return result;
  }

  Graph graph(int depth) {
    if (depth > kMaxBlockDepth) fail(fmt::format("blocks are nested deeper than {}", kMaxBlockDepth));
    if (!accept_word("graph")) fail_expecting("'graph'");
    Graph result;
    skip_space();
    if (peek() != '(') result.name = word("the graph's name");
    expect('(');
    if (!accept(')')) {
      do {
        const std::size_t start = at_;
        const std::string name = reference();
        check_new_name(result, name, start);
        expect(':');
        result.add_input(name, type());
      } while (accept(','));
      expect(')');
    }
    expect('{');
    while (!accept_word("return")) {
      skip_space();
      if (peek() != '%' && peek() != '_') {
        header_line(result);
      } else {
        statement(result, depth);
      }
    }
    results(result);
    expect('}');
    return result;
  }
  void header_line(Graph& graph) {
    if (accept_word("scope")) {
      graph.scope = quoted();
    } else if (accept_word("symbol")) {
      const std::size_t start = at_;
      const std::optional<std::string> symbol = dim("<\n").as_symbol();
      if (!symbol) fail_at(start, "expected a symbol's name");
      Dim bound(kUnbounded);
      if (accept('<')) {
        expect('=');
        bound = dim("\n");
      }
      graph.symbol_bounds.insert_or_assign(*symbol, bound);
    } else {
      fail_expecting("a statement, 'return', 'scope' or 'symbol'");
    }
  }
  void results(Graph& graph) {
    std::vector<ValueId> outputs;
    std::vector<std::string> names;
    skip_space();
    while (peek() == '%') {
      const ValueId id = operand(graph);
      outputs.push_back(id);
      names.push_back(accept_word("as") ? quoted() : graph.value(id).name);
      if (!accept(',')) break;
      skip_space();
    }
    graph.set_outputs(std::move(outputs), std::move(names));
  }
  void check_new_name(const Graph& graph, const std::string& name, std::size_t place) const {
    if (name.empty()) fail_at(place, "a value needs a name here");
    if (graph.find_value(name)) fail_at(place, fmt::format("value %{} is defined twice", plain_or_quoted(name)));
  }
  ValueId operand(const Graph& graph) {
    skip_space();
    const std::size_t start = at_;
    const std::string name = reference();
    if (name.empty()) return kNoValue;
    const std::optional<ValueId> found = graph.find_value(name);
    if (!found) fail_at(start, fmt::format("value %{} is not defined before this place", plain_or_quoted(name)));
    return *found;
  }

  void statement(Graph& graph, int depth) {
    struct Target {
      std::string name;
      std::optional<TensorType> type;
    };
    skip_space();
    const std::size_t start = at_;
    std::vector<Target> targets;
    std::set<std::string> seen;
    do {
      skip_space();
      const std::size_t place = at_;
      Target target{reference(), std::nullopt};
      if (!target.name.empty()) {
        check_new_name(graph, target.name, place);
        if (!seen.insert(target.name).second) fail_at(place, "two outputs have the same name");
        if (accept(':')) target.type = type();
      }
      targets.push_back(std::move(target));
    } while (accept(','));
    expect('=');
    if (accept_word("constant")) {
      if (targets.size() != 1 || targets[0].name.empty()) fail_at(start, "a constant defines one value");
      graph.add_constant(targets[0].name, constant_tensor());
      return;
    }
    skip_space();
    const std::size_t op_place = at_;
    const std::string op_type = word("an operator's name");
    expect('(');
    std::vector<ValueId> inputs;
    if (!accept(')')) {
      do inputs.push_back(operand(graph));
      while (accept(','));
      expect(')');
    }
    const Attributes op_attributes = attributes();
    std::vector<Graph> blocks;
    while (next_is_block()) blocks.push_back(this->graph(depth + 1));
    std::string name = targets[0].name.empty() ? "node" : targets[0].name;
    std::vector<std::string> origins;
    note(name, origins);
    try {
      const NodeId id = graph.add_node(make_op_(op_type, op_attributes), std::move(inputs),
                                       static_cast<int>(targets.size()), name, std::move(origins), std::move(blocks));
      const std::vector<ValueId> outputs = graph.node(id).outputs;
      // In two steps, because the names a node gives its outputs may be those that the text gives to others of them.
      for (std::size_t i = 0; i < targets.size(); ++i) graph.rename(outputs[i], fmt::format("\x01{}", i));
      for (std::size_t i = 0; i < targets.size(); ++i) {
        if (targets[i].name.empty()) {
          graph.drop_output(id, static_cast<int>(i));
          continue;
        }
        graph.rename(outputs[i], targets[i].name);
        // Inference keeps a symbol that the output already has.
        if (targets[i].type) graph.value(outputs[i]).type = *targets[i].type;
      }
      graph.infer_types(id);
      for (std::size_t i = 0; i < targets.size(); ++i) {
        if (!targets[i].type) continue;
        const TensorType& inferred = graph.value(outputs[i]).type;
        if (!(inferred == *targets[i].type)) {
          fail_at(start,
                  fmt::format("value %{} is declared as {}, but inference gives {}", plain_or_quoted(targets[i].name),
                              to_string(*targets[i].type), to_string(inferred)));
        }
      }
    } catch (const Error& error) {
      if (error.message().starts_with("graph text, line")) throw;
      fail_at(op_place, error.message());
    }
  }
  bool next_is_block() {
    const std::size_t before = at_;
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
    const bool found = starts_with("graph") && at_ + 5 < text_.size() && !is_name_char(text_[at_ + 5]);
    if (!found) at_ = before;
    return found;
  }
  /// "# name "conv1" origins "conv1", "bn1"" on the node's own line. A name without origins is its own origin.
  void note(std::string& name, std::vector<std::string>& origins) {
    while (peek() == ' ') ++at_;
    if (!starts_with("# name \"")) return;
    at_ += std::string_view("# name ").size();
    name = quoted();
    while (peek() == ' ') ++at_;
    if (!starts_with("origins")) {
      origins.push_back(name);
      return;
    }
    at_ += std::string_view("origins").size();
    while (peek() == ' ') ++at_;
    while (peek() == '"') {
      origins.push_back(quoted());
      while (peek() == ' ') ++at_;
      if (peek() != ',') break;
      ++at_;
      while (peek() == ' ') ++at_;
    }
  }

  std::string_view text_;
  const OpFactory& make_op_;
  std::size_t at_ = 0;
};

// --- Graphviz -------------------------------------------------------------------------------------------------------

std::string dot_label(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c == '\n' ? ' ' : c;
  }
  return result;
}

class DotPrinter {
 public:
  std::string print(const Graph& graph) {
    out_ = "digraph \"" + dot_label(graph.name) + "\" {\n  node [shape=box, fontname=\"sans-serif\", fontsize=10];\n";
    body(graph, "g", 0);
    return std::move(out_) + "}\n";
  }

 private:
  void body(const Graph& graph, const std::string& prefix, int depth) {
    const std::string pad(static_cast<std::size_t>(2 * depth + 2), ' ');
    std::map<ValueId, std::string> source;  // the box a value comes from
    const auto box = [&](const std::string& id, const std::string& label, std::string_view style) {
      out_ += fmt::format("{}{} [label=\"{}\"{}];\n", pad, id, label, style);
    };
    for (const ValueId id : graph.inputs()) {
      source[id] = fmt::format("{}_v{}", prefix, id);
      const Value& input = graph.value(id);
      box(source[id], dot_label(input.name) + "\\n" + dot_label(to_string(input.type)),
          ", shape=ellipse, style=filled, fillcolor=\"#dbe9f6\"");
    }
    for (const NodeId id : graph.order()) {
      const Node& node = graph.node(id);
      const std::string me = fmt::format("{}_n{}", prefix, id);
      std::string label = dot_label(node.op->type()) + "\\n" + dot_label(node.name);
      for (const ValueId output : node.outputs) {
        if (output == kNoValue) continue;
        source[output] = me;
        label += "\\n" + dot_label(to_string(graph.value(output).type));
      }
      box(me, label, "");
      for (const ValueId input : node.inputs) {
        const auto from = source.find(input);
        if (from != source.end()) out_ += fmt::format("{}{} -> {};\n", pad, from->second, me);
      }
      for (std::size_t i = 0; i < node.blocks.size() && depth < kMaxBlockDepth; ++i) {
        const std::string inner = fmt::format("{}_b{}", me, i);
        out_ += fmt::format("{}subgraph cluster_{} {{\n{}  label=\"{}\";\n", pad, inner, pad,
                            dot_label(node.name + " / " + node.blocks[i].name));
        body(node.blocks[i], inner, depth + 1);
        out_ += pad + "}\n";
      }
    }
    for (std::size_t i = 0; i < graph.outputs().size(); ++i) {
      const std::string me = fmt::format("{}_o{}", prefix, i);
      box(me, dot_label(graph.output_names()[i]), ", shape=ellipse, style=filled, fillcolor=\"#e3f2dd\"");
      const auto from = source.find(graph.outputs()[i]);
      if (from != source.end()) out_ += fmt::format("{}{} -> {};\n", pad, from->second, me);
    }
  }

  std::string out_;
};

}  // namespace

std::string print(const Graph& graph, const PrintOptions& options) {
  Printer printer(options);
  printer.graph(graph, 0);
  return printer.take();
}

Graph parse_graph(std::string_view text, const OpFactory& make_op) { return Parser(text, make_op).whole(); }

std::string to_dot(const Graph& graph) { return DotPrinter().print(graph); }

}  // namespace tenfold
