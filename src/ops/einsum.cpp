// Einstein summation: the product of all inputs, with each letter of the equation an axis, summed over the letters that
// the result lacks. "bij,bjk->bik" is a batched matrix product. An ellipsis stands for axes that broadcast.
// Source: ONNX operator set 12, Einsum; NumPy's einsum.
//
// Import turns two inputs that contract at least one letter into Transpose, Reshape and MatMul.
#include "ops/einsum.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "ops/checks.hpp"
#include "ops/matmul.hpp"
#include "ops/numbers.hpp"
#include "ops/registry.hpp"
#include "ops/shape_math.hpp"

namespace tenfold {
namespace {

/// The axes of one term, outermost first: letters, and for each axis of an ellipsis a code above all letters.
using Labels = std::vector<int>;
constexpr int kFirstEllipsis = 256;

struct Equation {
  std::vector<std::string> inputs;  // terms with '.' for an ellipsis
  std::optional<std::string> output;
};

/// Splits "ij,jk->ik" and checks that it is made of letters, commas, one arrow and at most one ellipsis a term.
Equation parse_equation(std::string_view text) {
  const auto fail = [&](std::string_view why) {
    throw Error(Code::invalid_model, fmt::format("equation '{}': {}", text, why));
  };
  Equation equation;
  equation.inputs.emplace_back();
  std::string* term = &equation.inputs.back();
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == ' ') continue;
    if (('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z')) {
      *term += c;
    } else if (c == ',' && !equation.output) {
      equation.inputs.emplace_back();
      term = &equation.inputs.back();
    } else if (text.substr(i).starts_with("->") && !equation.output) {
      equation.output.emplace();
      term = &*equation.output;
      ++i;
    } else if (text.substr(i).starts_with("...") && term->find('.') == std::string::npos) {
      *term += '.';
      i += 2;
    } else {
      fail(fmt::format("unexpected '{}'", c));
    }
    require(term->size() <= 64 && equation.inputs.size() <= 64, Code::invalid_model, "the equation is too long");
  }
  if (equation.output) {
    for (std::size_t i = 0; i < equation.output->size(); ++i) {
      const char c = (*equation.output)[i];
      if (c != '.' && equation.output->find(c, i + 1) != std::string::npos) fail("the result repeats a letter");
    }
  }
  return equation;
}

/// The equation with ellipses resolved for inputs of known ranks.
struct Resolved {
  std::vector<Labels> inputs;
  Labels output;
};
Resolved resolve(const Equation& equation, std::span<const int> ranks) {
  require(ranks.size() == equation.inputs.size(), Code::invalid_model, "the equation has {} terms for {} inputs",
          equation.inputs.size(), ranks.size());
  int ellipsis_rank = 0;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    const std::string& term = equation.inputs[i];
    const bool has_ellipsis = term.find('.') != std::string::npos;
    const int letters = static_cast<int>(term.size()) - (has_ellipsis ? 1 : 0);
    require(has_ellipsis ? ranks[i] >= letters : ranks[i] == letters, Code::invalid_model,
            "term '{}' does not fit input {} of rank {}", term, i, ranks[i]);
    if (has_ellipsis) ellipsis_rank = std::max(ellipsis_rank, ranks[i] - letters);
  }
  const auto expand = [&](const std::string& term, int count) {
    Labels labels;
    for (const char c : term) {
      if (c != '.') {
        labels.push_back(c);
      } else {
        // Counted from the end, as broadcasting does.
        for (int k = count; k-- > 0;) labels.push_back(kFirstEllipsis + k);
      }
    }
    return labels;
  };
  Resolved resolved;
  std::map<int, int> uses;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    const std::string& term = equation.inputs[i];
    resolved.inputs.push_back(expand(term, ranks[i] - static_cast<int>(term.size()) + 1));
    for (const int label : resolved.inputs.back()) ++uses[label];
  }
  if (equation.output) {
    resolved.output = expand(*equation.output, ellipsis_rank);
    for (const int label : resolved.output) {
      require(uses.contains(label), Code::invalid_model, "the result has letter '{}', which no input has",
              static_cast<char>(label));
    }
  } else {
    // Without an arrow: the ellipsis, then the letters that appear once, in alphabetic order.
    for (int k = ellipsis_rank; k-- > 0;) resolved.output.push_back(kFirstEllipsis + k);
    for (const auto& [label, count] : uses) {
      if (label < kFirstEllipsis && count == 1) resolved.output.push_back(label);
    }
  }
  return resolved;
}

class Einsum final : public Op {
 public:
  explicit Einsum(std::string text) : text_(std::move(text)), equation_(parse_equation(text_)) {}
  std::string_view type() const override { return "Einsum"; }
  Attributes attributes() const override { return {{"equation", text_}}; }

  void infer(InferContext& context) const override {
    const auto count = static_cast<int>(equation_.inputs.size());
    check_num_inputs(context, count, count);
    check_num_outputs(context, 1, 1);
    std::vector<int> ranks;
    for (int i = 0; i < count; ++i) {
      check_same_dtype(context, i, "an input");
      ranks.push_back(context.input(i).rank());
    }
    require(context.input(0).dtype != DType::boolean, Code::invalid_model, "the inputs must be numbers");
    const Resolved resolved = resolve(equation_, ranks);
    std::map<int, Dim> sizes;
    for (int i = 0; i < count; ++i) {
      const Labels& labels = resolved.inputs[static_cast<std::size_t>(i)];
      for (std::size_t a = 0; a < labels.size(); ++a) {
        const Dim& size = context.input(i).dims[a];
        const auto [known, is_new] = sizes.emplace(labels[a], size);
        if (is_new) continue;
        known->second = broadcast_dims({known->second}, {size})[0];
      }
    }
    TensorType result{context.input(0).dtype, {}};
    for (const int label : resolved.output) result.dims.push_back(sizes.at(label));
    context.set_output(0, std::move(result));
  }

  void evaluate(EvalContext& context) const override {
    std::vector<Shape> dims;
    std::vector<std::vector<double>> operands;
    for (int i = 0; i < context.num_inputs(); ++i) {
      dims.emplace_back(context.input(i).dims.begin(), context.input(i).dims.end());
      operands.push_back(load_doubles(context.input(i)));
    }
    const EinsumLoops loops = einsum_loops(text_, dims);
    check_output(context, 0, loops.outer);
    std::vector<double> result;
    result.reserve(static_cast<std::size_t>(num_elements(loops.outer)));
    for_each_index(loops.outer, loops.outer_strides, [&](std::span<const std::int64_t> first) {
      double sum = 0;
      for_each_index(loops.inner, loops.inner_strides, [&](std::span<const std::int64_t> offsets) {
        double product = 1;
        for (std::size_t i = 0; i < operands.size(); ++i) {
          product *= operands[i][static_cast<std::size_t>(first[i] + offsets[i])];
        }
        sum += product;
      });
      result.push_back(sum);
    });
    store_doubles(result, context.output(0));
  }

 private:
  std::string text_;
  Equation equation_;
};

OpPtr make_einsum(const Attributes& attributes) {
  return std::make_shared<const Einsum>(attributes.get_string("equation"));
}

// --- Import as a matrix product -------------------------------------------------------------------------------------

bool contains(const Labels& labels, int label) {
  return std::find(labels.begin(), labels.end(), label) != labels.end();
}

/// One operand of the product: its axes in the order batch, rows, columns.
struct Factor {
  ValueId value = kNoValue;
  Labels labels;
  std::map<int, Dim> sizes;
};

/// The factor with its axes in the order of `groups` and each group after the batch axes made one axis.
ValueId arrange(ImportNode& node, const Factor& factor, const Labels& batch, const Labels& rows,
                const Labels& columns) {
  Labels wanted = batch;
  wanted.insert(wanted.end(), rows.begin(), rows.end());
  wanted.insert(wanted.end(), columns.begin(), columns.end());
  ValueId value = factor.value;
  if (wanted != factor.labels) {
    std::vector<std::int64_t> order;
    for (const int label : wanted) {
      order.push_back(std::find(factor.labels.begin(), factor.labels.end(), label) - factor.labels.begin());
    }
    value = node.add(make_op("Transpose", {{"perm", order}}), {value});
  }
  if (rows.size() != 1 || columns.size() != 1) {
    std::vector<Dim> dims;
    for (const int label : batch) dims.push_back(factor.sizes.at(label));
    for (const Labels* group : {&rows, &columns}) {
      Dim size = 1;
      for (const int label : *group) size = size * factor.sizes.at(label);
      dims.push_back(size);
    }
    Attributes attributes;
    set_dims(attributes, "dims", dims);
    value = node.add(make_op("Reshape", attributes), {value});
  }
  return value;
}

/// Two inputs whose letters are each: of both and of the result (batch), of both only (contracted), or of one and the
/// result. Returns false if the equation is of another kind.
bool import_as_matmul(ImportNode& node, const Resolved& resolved) {
  if (resolved.inputs.size() != 2) return false;
  std::array<Factor, 2> factors;
  std::vector<Dim> all_dims;
  for (std::size_t i = 0; i < 2; ++i) {
    Factor& factor = factors[i];
    factor.value = node.input(static_cast<int>(i));
    factor.labels = resolved.inputs[i];
    const std::vector<Dim>& dims = node.graph().value(factor.value).type.dims;
    for (std::size_t a = 0; a < dims.size(); ++a) {
      if (!factor.sizes.emplace(factor.labels[a], dims[a]).second) return false;  // a diagonal
    }
    all_dims.insert(all_dims.end(), dims.begin(), dims.end());
  }
  if (!are_storable(node.graph(), all_dims)) return false;
  Labels batch, contracted, rows, columns;
  for (const int label : factors[0].labels) {
    const bool in_other = factors[1].sizes.contains(label);
    const bool in_result = contains(resolved.output, label);
    // Broadcasting between the two is left to the general operator.
    if (in_other && factors[0].sizes.at(label) != factors[1].sizes.at(label)) return false;
    if (!in_other && !in_result) return false;
    (in_other ? (in_result ? batch : contracted) : rows).push_back(label);
  }
  for (const int label : factors[1].labels) {
    if (factors[0].sizes.contains(label)) continue;
    if (!contains(resolved.output, label)) return false;
    columns.push_back(label);
  }
  if (contracted.empty()) return false;
  // Batch axes in the order of the result; rows and columns too, so that the product needs no transposition.
  const auto by_result = [&](int a, int b) {
    const auto& output = resolved.output;
    return std::find(output.begin(), output.end(), a) < std::find(output.begin(), output.end(), b);
  };
  for (Labels* group : {&batch, &rows, &columns}) std::sort(group->begin(), group->end(), by_result);

  // A factor that already holds its last two axes the other way round is read transposed.
  const auto is_swapped = [&](const Factor& factor, const Labels& first, const Labels& second) {
    Labels swapped = batch;
    swapped.insert(swapped.end(), second.begin(), second.end());
    swapped.insert(swapped.end(), first.begin(), first.end());
    return first.size() == 1 && second.size() == 1 && factor.labels == swapped;
  };
  const bool trans_a = is_swapped(factors[0], rows, contracted);
  const bool trans_b = is_swapped(factors[1], contracted, columns);
  const ValueId a = trans_a ? factors[0].value : arrange(node, factors[0], batch, rows, contracted);
  const ValueId b = trans_b ? factors[1].value : arrange(node, factors[1], batch, contracted, columns);
  ValueId result = node.add(std::make_shared<const MatMul>(trans_a, trans_b), {a, b});

  Labels labels = batch;
  labels.insert(labels.end(), rows.begin(), rows.end());
  labels.insert(labels.end(), columns.begin(), columns.end());
  if (rows.size() != 1 || columns.size() != 1) {
    std::vector<Dim> dims;
    for (const int label : labels) {
      dims.push_back(factors[factors[0].sizes.contains(label) ? 0 : 1].sizes.at(label));
    }
    Attributes attributes;
    set_dims(attributes, "dims", dims);
    result = node.add(make_op("Reshape", attributes), {result});
  }
  if (labels != resolved.output) {
    std::vector<std::int64_t> order;
    for (const int label : resolved.output) {
      order.push_back(std::find(labels.begin(), labels.end(), label) - labels.begin());
    }
    result = node.add(make_op("Transpose", {{"perm", order}}), {result});
  }
  node.set_output(0, result);
  return true;
}

void import_einsum(ImportNode& node) {
  const std::string text = node.attributes().get_string("equation");
  std::vector<int> ranks;
  for (int i = 0; i < node.num_inputs(); ++i) {
    require(node.has_input(i), Code::invalid_model, "input {} is missing", i);
    ranks.push_back(node.graph().value(node.input(i)).type.rank());
  }
  if (import_as_matmul(node, resolve(parse_equation(text), ranks))) return;
  node.set_output(0, node.add(make_einsum(node.attributes()), node.inputs()));
}

}  // namespace

EinsumLoops einsum_loops(const std::string& equation, const std::vector<Shape>& dims) {
  std::vector<int> ranks;
  for (const Shape& shape : dims) ranks.push_back(static_cast<int>(shape.size()));
  const Resolved resolved = resolve(parse_equation(equation), ranks);
  // All labels, those of the result first; then one loop nest over all of them.
  Labels order = resolved.output;
  std::map<int, std::int64_t> sizes;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    const Labels& labels = resolved.inputs[i];
    for (std::size_t a = 0; a < labels.size(); ++a) {
      if (std::find(order.begin(), order.end(), labels[a]) == order.end()) order.push_back(labels[a]);
      std::int64_t& size = sizes.emplace(labels[a], 1).first->second;
      const std::int64_t dim = dims[i][a];
      require(size == 1 || dim == 1 || size == dim, Code::invalid_model, "an axis has sizes {} and {}", size, dim);
      if (dim != 1) size = dim;
    }
  }
  EinsumLoops loops;
  for (std::size_t i = 0; i < order.size(); ++i) {
    (i < resolved.output.size() ? loops.outer : loops.inner).push_back(sizes.at(order[i]));
  }
  for (std::size_t i = 0; i < dims.size(); ++i) {
    const Shape own = strides_of(dims[i]);
    const Labels& labels = resolved.inputs[i];
    Shape strides(order.size(), 0);
    for (std::size_t a = 0; a < labels.size(); ++a) {
      // A letter that a term repeats walks along the diagonal.
      if (dims[i][a] == 1) continue;
      strides[static_cast<std::size_t>(std::find(order.begin(), order.end(), labels[a]) - order.begin())] += own[a];
    }
    const auto split = strides.begin() + static_cast<std::ptrdiff_t>(loops.outer.size());
    loops.outer_strides.emplace_back(strides.begin(), split);
    loops.inner_strides.emplace_back(split, strides.end());
  }
  return loops;
}

const OpDef kEinsumDef{"Einsum", make_einsum, import_einsum};

}  // namespace tenfold
