// Runs every case of test/passes/*.txt: a graph before, the rules, the graph expected after.
//
//   case a sentence that says what happens
//   rule fold_identity other_rule        (names of rewrites or of whole passes; `rule all` is the whole pipeline)
//   before
//   graph ...
//   after                                (or: `after same`)
//   graph ...
//
// Names of values, nodes and the order of nodes do not matter. Integer constants must be equal; of floating-point
// constants only the type is compared here, and their values through the interpreter: both graphs must compute the
// same from random inputs. A line "tolerance 1e-4" widens the bound, "sizes n=2 m=3" gives symbols their values,
// "no interpreter" leaves the numbers out.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <sstream>

#include <gtest/gtest.h>

#include "graph/text.hpp"
#include "ops/interpreter.hpp"
#include "ops/registry.hpp"
#include "passes/pass.hpp"

namespace tenfold {
namespace {

struct Case {
  std::string file;
  std::string title;
  std::vector<std::string> rules;
  std::string before, after;
  std::map<std::string, std::int64_t> sizes;
  double tolerance = 1e-5;
  bool runs = true;
};
void PrintTo(const Case& test, std::ostream* out) { *out << test.file << ": " << test.title; }

std::vector<Case> read_cases(const std::filesystem::path& path) {
  std::vector<Case> cases;
  std::string* text = nullptr;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string first;
    words >> first;
    if (line.starts_with("case ")) {
      cases.push_back({path.stem().string(), line.substr(5), {}, {}, {}, {}});
      text = nullptr;
    } else if (cases.empty()) {
      continue;
    } else if (line.starts_with("rule ")) {
      for (std::string name; words >> name;) cases.back().rules.push_back(name);
    } else if (line.starts_with("tolerance ")) {
      words >> cases.back().tolerance;
    } else if (line.starts_with("sizes ")) {
      for (std::string word; words >> word;) {
        const std::size_t equals = word.find('=');
        cases.back().sizes[word.substr(0, equals)] = std::stoll(word.substr(equals + 1));
      }
    } else if (line == "no interpreter") {
      cases.back().runs = false;
    } else if (line == "before") {
      text = &cases.back().before;
    } else if (line == "after same") {
      cases.back().after = cases.back().before;
    } else if (line == "after") {
      text = &cases.back().after;
    } else if (text != nullptr && !line.starts_with("#")) {
      *text += line + "\n";
    }
  }
  return cases;
}

std::vector<Case> all_cases() {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(TENFOLD_TEST_DATA) / "passes")) {
    if (entry.path().extension() == ".txt") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<Case> cases;
  for (const auto& path : paths) {
    for (Case& test : read_cases(path)) cases.push_back(std::move(test));
  }
  return cases;
}

/// The graph as text that depends on its structure alone: values are numbered from the outputs backwards, constants
/// stand where they are read.
class Canonical {
 public:
  static std::string text(const Graph& graph) {
    Canonical canonical(graph);
    std::string returned = "return";
    for (const ValueId output : graph.outputs()) returned += " " + canonical.reference(output);
    std::string head = "graph(";
    for (const ValueId input : graph.inputs()) {
      head += fmt::format(" {}: {}", canonical.reference(input), to_string(graph.value(input).type));
    }
    return head + " )\n" + canonical.lines_ + returned + "\n";
  }

 private:
  explicit Canonical(const Graph& graph) : graph_(graph) {}

  std::string reference(ValueId id) {
    if (id == kNoValue) return "_";
    const Value& value = graph_.value(id);
    if (value.constant) {
      std::string text = "constant " + to_string(value.type);
      if (is_integer(value.type.dtype) || value.type.dtype == DType::boolean)
        text += fmt::format(" {}", fmt::join(value.constant->to_int64(), ","));
      return "<" + text + ">";
    }
    const Node* node = graph_.producer(id);
    if (node == nullptr) return "%" + value.name;
    const auto found = numbers_.find(node->name);
    const int number = found != numbers_.end() ? found->second : emit(*node);
    return value.output_index == 0 ? fmt::format("%{}", number) : fmt::format("%{}:{}", number, value.output_index);
  }
  int emit(const Node& node) {
    std::string operands;
    for (const ValueId input : node.inputs) operands += (operands.empty() ? "" : ", ") + reference(input);
    const int number = next_++;
    numbers_[node.name] = number;
    lines_ += fmt::format("  %{}:", number);
    for (const ValueId output : node.outputs) {
      lines_ += " " + (output == kNoValue ? "_" : to_string(graph_.value(output).type));
    }
    lines_ += fmt::format(" = {}({}) {}", node.op->type(), operands, node.op->attributes().to_string());
    for (const Graph& block : node.blocks) lines_ += " " + text(block);
    lines_ += "\n";
    return number;
  }

  const Graph& graph_;
  std::map<std::string, int> numbers_;
  std::string lines_;
  int next_ = 0;
};

void run_rules(Graph& graph, const std::vector<std::string>& rules) {
  if (rules == std::vector<std::string>{"all"}) {
    run_pipeline(graph);
    return;
  }
  std::vector<Rewrite> rewrites;
  for (const std::string& name : rules) {
    if (const Rewrite* rewrite = find_rewrite(name)) {
      rewrites.push_back(*rewrite);
    } else if (const Pass* pass = find_pass(name)) {
      rewrites.insert(rewrites.end(), pass->rewrites.begin(), pass->rewrites.end());
      if (pass->whole != nullptr) {
        pass->whole(graph);
        graph.verify();
      }
    } else {
      FAIL() << "no rewrite or pass is called '" << name << "'";
    }
  }
  if (!rewrites.empty()) apply_rewrites(graph, rewrites);
  graph.remove_dead();
}

Tensor random_tensor(const TensorType& type, const std::map<std::string, std::int64_t>& sizes, std::mt19937& random) {
  Shape shape;
  for (const Dim& dim : type.dims) {
    shape.push_back(dim.evaluate([&](const std::string& symbol) {
      const auto found = sizes.find(symbol);
      return found == sizes.end() ? 2 : found->second;
    }));
  }
  Tensor tensor(type.dtype, shape);
  std::uniform_real_distribution<float> uniform(-2, 2);
  dispatch(type.dtype, [&]<typename T>() {
    for (T& element : tensor.as_mutable<T>()) {
      if constexpr (std::is_same_v<T, bool>) {
        element = random() % 2 == 1;
      } else if constexpr (std::is_integral_v<T>) {
        element = static_cast<T>(random() % 2);
      } else {
        element = static_cast<T>(uniform(random));
      }
    }
  });
  return tensor;
}

void expect_same_answers(const Graph& a, const Graph& b, const Case& test) {
  std::mt19937 random(1);
  std::vector<Tensor> inputs;
  for (const ValueId input : a.inputs()) inputs.push_back(random_tensor(a.value(input).type, test.sizes, random));
  const std::vector<Tensor> expected = interpret(a, inputs);
  const std::vector<Tensor> got = interpret(b, inputs);
  ASSERT_EQ(expected.size(), got.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(expected[i].dtype(), got[i].dtype()) << "output " << i;
    ASSERT_EQ(expected[i].shape(), got[i].shape()) << "output " << i;
    const std::vector<double> x = expected[i].to_double();
    const std::vector<double> y = got[i].to_double();
    double largest = 1;
    for (const double value : x) largest = std::max(largest, std::abs(value));
    for (std::size_t k = 0; k < x.size(); ++k) {
      if (std::isnan(x[k]) && std::isnan(y[k])) continue;
      if (x[k] == y[k]) continue;
      ASSERT_LE(std::abs(x[k] - y[k]), test.tolerance * largest) << "output " << i << ", element " << k;
    }
  }
}

class PassCase : public testing::TestWithParam<Case> {};

TEST_P(PassCase, TurnsBeforeIntoAfterAndKeepsTheAnswers) {
  const Case& test = GetParam();
  const Graph original = parse_graph(test.before);
  const Graph expected = parse_graph(test.after);
  Graph graph = original;
  run_rules(graph, test.rules);
  graph.verify();
  EXPECT_EQ(Canonical::text(graph), Canonical::text(expected)) << print(graph);
  Graph again = graph;
  run_rules(again, test.rules);
  EXPECT_EQ(Canonical::text(graph), Canonical::text(again)) << "the rules change their own result";
  if (test.runs) expect_same_answers(original, graph, test);
}

std::string test_name(const testing::TestParamInfo<Case>& info) {
  std::string name = info.param.file + "_" + info.param.title;
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
}
INSTANTIATE_TEST_SUITE_P(Files, PassCase, testing::ValuesIn(all_cases()), test_name);

}  // namespace
}  // namespace tenfold
