// Shape rules and import of If, Loop and Scan. Source: ONNX operator sets 11 to 21.
#include "ops/control_flow.hpp"

#include <algorithm>
#include <array>
#include <set>

#include "ops/checks.hpp"
#include "ops/registry.hpp"

namespace tenfold {
namespace {

constexpr std::int64_t kMaxCarried = 4096;

[[noreturn]] void refuse_evaluate(const Op& op) {
  throw Error(Code::internal,
              fmt::format("{} holds blocks, which only the interpreter and the runtime run", op.type()));
}

Graph& block_of(InferContext& context, std::size_t index, std::size_t count) {
  const std::span<Graph> blocks = context.blocks();
  require(blocks.size() == count, Code::invalid_model, "needs {} blocks, got {}", count, blocks.size());
  return blocks[index];
}

/// Gives a block's input the type and the known elements of an input of the node.
void feed(Graph& block, std::size_t position, TensorType type, std::optional<std::vector<Dim>> integers) {
  Value& value = block.value(block.inputs()[position]);
  value.type = std::move(type);
  value.integers = std::move(integers);
}

void feed_from(InferContext& context, int input, Graph& block, std::size_t position) {
  require(context.has_input(input), Code::invalid_model, "input {} is missing", input);
  feed(block, position, context.input(input), context.integers(input));
}

void check_counts(const Graph& block, std::size_t inputs, std::size_t outputs) {
  require(block.inputs().size() == inputs && block.outputs().size() == outputs, Code::invalid_model,
          "block '{}' has {} inputs and {} outputs, the node needs {} and {}", block.name, block.inputs().size(),
          block.outputs().size(), inputs, outputs);
}

/// Does the dimension refer to a size that only the block knows?
bool is_local(const Graph& block, const Dim& dim) {
  if (dim.is_constant()) return false;
  std::set<std::string> symbols;
  dim.collect_symbols(symbols);
  return std::any_of(symbols.begin(), symbols.end(),
                     [&](const std::string& symbol) { return block.symbol_bounds.contains(symbol); });
}

/// An upper bound that means something outside the block: its own symbols replaced by their bounds. nullopt when one
/// has none, or when the dimension does not grow with it.
std::optional<Dim> outer_bound(const Graph& block, Dim dim) {
  // A bound may refer to further symbols of the block, but not in a circle: each was made after those it refers to.
  for (std::size_t i = 0; i <= block.symbol_bounds.size() && is_local(block, dim); ++i) {
    for (const Dim::Term& term : dim.terms()) {
      for (const auto& factor : term.factors) {
        if (factor->kind == Dim::AtomKind::symbol) {
          const auto found = block.symbol_bounds.find(factor->name);
          if (found == block.symbol_bounds.end()) continue;
          if (term.coefficient < 0 || found->second == Dim(kUnbounded)) return std::nullopt;
        } else if (is_local(block, factor->arguments[0]) || is_local(block, factor->arguments[1])) {
          return std::nullopt;
        }
      }
    }
    dim = dim.substitute([&](const std::string& symbol) -> std::optional<Dim> {
      const auto found = block.symbol_bounds.find(symbol);
      return found == block.symbol_bounds.end() ? std::nullopt : std::optional<Dim>(found->second);
    });
  }
  if (is_local(block, dim)) return std::nullopt;
  return dim;
}

bool are_local(const Graph& block, const std::vector<Dim>& dims) {
  return std::any_of(dims.begin(), dims.end(), [&](const Dim& dim) { return is_local(block, dim); });
}

/// The size of an output along one axis, seen from outside the block.
Dim outer_dim(InferContext& context, const Graph& block, const Dim& dim, int output, int axis) {
  return is_local(block, dim) ? context.fresh(output, axis, outer_bound(block, dim)) : dim;
}

/// The value of a condition when it is known: a constant, or the result of shape arithmetic.
std::optional<bool> known_flag(const std::optional<std::vector<Dim>>& integers) {
  if (!integers || integers->size() != 1 || !(*integers)[0].is_constant()) return std::nullopt;
  return (*integers)[0].constant() != 0;
}

void check_condition(const InferContext& context, int index) {
  check_dtype(context, index, DType::boolean, "the condition");
  check_dim(context.input(index).num_elements(), 1, "the number of elements of the condition");
}

/// What is known about one carried value while the body is typed.
struct Carried {
  TensorType type;
  std::optional<std::vector<Dim>> integers;
  std::vector<bool> varies;  ///< per axis: the size may change from one iteration to the next
};

/// The name of the symbol for an axis that varies. One that an earlier inference gave is kept, so that inferring again
/// changes nothing.
std::string symbol_of(const Graph& body, const Value& input, const TensorType& before, std::size_t axis) {
  if (axis < before.dims.size()) {
    const std::optional<std::string> name = before.dims[axis].as_symbol();
    if (name && body.symbol_bounds.contains(*name)) return *name;
  }
  return body.scope + input.name + "#" + std::to_string(axis);
}

/// Types a body whose carried values start with the types of the node's inputs, and lets sizes that do not stay the
/// same become symbols of the block, until nothing changes. The carried values are block inputs from `first_input` on,
/// node inputs from `first_operand` on and block outputs from `first_output` on.
void infer_carried(InferContext& context, Graph& body, int num_carried, int first_operand, std::size_t first_input,
                   std::size_t first_output) {
  std::vector<Carried> carried;
  std::vector<TensorType> before;
  for (int i = 0; i < num_carried; ++i) {
    const int operand = first_operand + i;
    require(context.has_input(operand), Code::invalid_model, "carried value {} is missing", i);
    const TensorType& type = context.input(operand);
    carried.push_back({type, context.integers(operand), std::vector<bool>(type.dims.size(), false)});
    before.push_back(body.value(body.inputs()[first_input + static_cast<std::size_t>(i)]).type);
    // What varied once is not tried again: nodes of the body may have been imported for that.
    for (std::size_t a = 0; a < std::min(type.dims.size(), before.back().dims.size()); ++a) {
      if (!is_local(body, before.back().dims[a])) continue;
      carried.back().varies[a] = true;
      carried.back().integers.reset();
    }
  }
  // Every round turns at least one size into a symbol, or forgets the elements of one value; so it ends.
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t i = 0; i < carried.size(); ++i) {
      Value& input = body.value(body.inputs()[first_input + i]);
      for (std::size_t a = 0; a < carried[i].varies.size(); ++a) {
        if (!carried[i].varies[a]) continue;
        const std::string name = symbol_of(body, input, before[i], a);
        body.symbol_bounds.insert_or_assign(name, Dim(kUnbounded));
        carried[i].type.dims[a] = Dim::symbol(name);
      }
      input.type = carried[i].type;
      input.integers = carried[i].integers;
    }
    body.infer_types();
    for (std::size_t i = 0; i < carried.size(); ++i) {
      Carried& value = carried[i];
      const Value& result = body.value(body.outputs()[first_output + i]);
      require(result.type.dtype == value.type.dtype, Code::invalid_model,
              "carried value {} starts as {} and the body makes it {}", i, to_string(value.type),
              to_string(result.type));
      require(result.type.rank() == value.type.rank(), Code::unsupported,
              "carried value {} starts as {} and the body makes it {}: a rank that changes is not supported; give the "
              "initial value the rank of the others",
              i, to_string(value.type), to_string(result.type));
      for (std::size_t a = 0; a < value.varies.size(); ++a) {
        if (value.varies[a] || result.type.dims[a] == value.type.dims[a]) continue;
        value.varies[a] = changed = true;
        value.integers.reset();
      }
      if (value.integers && result.integers != value.integers) {
        value.integers.reset();
        changed = true;
      }
    }
  }
}

/// Types of the node's outputs for the carried values.
void set_carried_outputs(InferContext& context, const Graph& body, int num_carried, std::size_t first_input) {
  for (int i = 0; i < num_carried; ++i) {
    if (!context.wants_output(i)) continue;
    const Value& carried = body.value(body.inputs()[first_input + static_cast<std::size_t>(i)]);
    TensorType type = carried.type;
    for (int a = 0; a < type.rank(); ++a) {
      Dim& dim = type.dims[static_cast<std::size_t>(a)];
      dim = outer_dim(context, body, dim, i, a);
    }
    context.set_output(i, std::move(type));
    if (carried.integers && !are_local(body, *carried.integers)) context.set_integers(i, *carried.integers);
  }
}

// --- Import ---------------------------------------------------------------------------------------------------------

/// Puts the nodes of a block in the node's place and returns the values of its outputs.
std::vector<ValueId> inline_block(ImportNode& node, const Graph& block, const std::vector<ValueId>& captured) {
  std::vector<ValueId> outer(static_cast<std::size_t>(block.value_limit()), kNoValue);
  ensure(block.inputs().size() == captured.size(), "a branch has {} inputs for {} captured values",
         block.inputs().size(), captured.size());
  for (std::size_t i = 0; i < captured.size(); ++i) outer[static_cast<std::size_t>(block.inputs()[i])] = captured[i];
  const auto translate = [&](ValueId id) {
    if (id == kNoValue) return kNoValue;
    ValueId& known = outer[static_cast<std::size_t>(id)];
    if (known == kNoValue && block.constant(id) != nullptr) known = node.constant(*block.constant(id));
    return known;
  };
  for (const NodeId id : block.order()) {
    const Node& inner = block.node(id);
    std::vector<ValueId> inputs;
    for (const ValueId input : inner.inputs) inputs.push_back(translate(input));
    const auto num_outputs = static_cast<int>(inner.outputs.size());
    const ValueId first = node.add(inner.op, std::move(inputs), num_outputs, inner.blocks);
    for (int i = 0; i < num_outputs; ++i) {
      const ValueId output = inner.outputs[static_cast<std::size_t>(i)];
      if (output != kNoValue) outer[static_cast<std::size_t>(output)] = first + i;
    }
  }
  std::vector<ValueId> results;
  for (const ValueId output : block.outputs()) results.push_back(translate(output));
  return results;
}

std::optional<bool> known_flag(const Graph& graph, ValueId id) {
  const Value& value = graph.value(id);
  if (value.constant && value.constant->num_elements() == 1 &&
      (value.type.dtype == DType::boolean || is_integer(value.type.dtype))) {
    return value.constant->to_int64()[0] != 0;
  }
  return known_flag(value.integers);
}

/// The outer value that a branch hands through, or squeezes, as its only output.
ValueId captured_by(const Graph& block, ValueId value, const std::vector<ValueId>& captured) {
  const auto& inputs = block.inputs();
  const auto position = std::find(inputs.begin(), inputs.end(), value) - inputs.begin();
  return position < std::ssize(captured) ? captured[static_cast<std::size_t>(position)] : kNoValue;
}

/// "If the size of this axis is 1, squeeze it": an If whose condition compares the size with 1, whose then branch
/// squeezes and whose else branch does nothing. The axis, for the value in `squeezed`.
std::optional<std::int64_t> find_conditional_squeeze(const ImportNode& node, const std::vector<Graph>& blocks,
                                                     const std::vector<ValueId>& captured, ValueId& squeezed) {
  const Graph& then_block = blocks[0];
  const Graph& else_block = blocks[1];
  if (then_block.outputs().size() != 1 || else_block.outputs().size() != 1) return std::nullopt;
  const Value& result = then_block.value(then_block.outputs()[0]);
  const Node* producer = then_block.producer(then_block.outputs()[0]);
  if (producer == nullptr || (producer->op->type() != "Squeeze" && producer->op->type() != "Reshape"))
    return std::nullopt;
  squeezed = captured_by(then_block, producer->inputs[0], captured);
  if (squeezed == kNoValue || captured_by(else_block, else_block.outputs()[0], captured) != squeezed)
    return std::nullopt;

  const Graph& graph = node.graph();
  const Node* condition = graph.producer(node.input(0));
  if (condition == nullptr || condition->op->type() != "Equal") return std::nullopt;
  std::array<std::optional<std::vector<Dim>>, 2> sides;
  for (std::size_t i = 0; i < 2; ++i) {
    const Value& side = graph.value(condition->inputs[i]);
    sides[i] = side.integers;
    if (!sides[i] && side.constant && side.constant->num_elements() == 1 && is_integer(side.type.dtype)) {
      sides[i] = std::vector<Dim>{side.constant->to_int64()[0]};
    }
    if (!sides[i] || sides[i]->size() != 1) return std::nullopt;
  }
  if ((*sides[0])[0] == Dim(1)) std::swap(sides[0], sides[1]);
  if ((*sides[1])[0] != Dim(1)) return std::nullopt;
  const std::vector<Dim>& dims = graph.value(squeezed).type.dims;
  for (std::size_t axis = dims.size(); axis-- > 0;) {
    std::vector<Dim> rest = dims;
    rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(axis));
    if (dims[axis] == (*sides[0])[0] && rest == result.type.dims) return static_cast<std::int64_t>(axis);
  }
  return std::nullopt;
}

void import_if(ImportNode& node) {
  require(node.has_input(0), Code::invalid_model, "the condition is missing");
  if (const std::optional<bool> taken = known_flag(node.graph(), node.input(0))) {
    // Only the branch that runs is looked at: the other one may not even fit the shapes.
    std::vector<ValueId> captured;
    const Graph block = node.take_block(*taken ? "then_branch" : "else_branch", {}, captured);
    const std::vector<ValueId> results = inline_block(node, block, captured);
    for (int i = 0; i < node.num_outputs(); ++i) {
      require(static_cast<std::size_t>(i) < results.size(), Code::invalid_model, "the branch has only {} outputs",
              results.size());
      if (node.wants_output(i)) node.set_output(i, results[static_cast<std::size_t>(i)]);
    }
    return;
  }
  std::vector<ValueId> captured;
  std::vector<Graph> blocks;
  blocks.push_back(node.take_block("then_branch", {}, captured));
  blocks.push_back(node.take_block("else_branch", {}, captured));
  ValueId squeezed = kNoValue;
  if (const std::optional<std::int64_t> axis = find_conditional_squeeze(node, blocks, captured, squeezed)) {
    return node.set_output(0, node.add(make_op("CheckedSqueeze", {{"axis", *axis}}), {squeezed}));
  }
  node.pad_captures(blocks[0], 0, captured);
  captured.insert(captured.begin(), node.input(0));
  const ValueId first =
      node.add(std::make_shared<const If>(), std::move(captured), node.num_outputs(), std::move(blocks));
  for (int i = 0; i < node.num_outputs(); ++i) {
    if (node.wants_output(i)) node.set_output(i, first + i);
  }
}

/// Imports the body of a loop. Its nodes may be imported differently for different types, so it is imported again as
/// long as a carried value comes out with another size than it went in with; such sizes become symbols of the block.
/// `formals` are the types of the block's own inputs, the carried ones from `first_input` on, and block outputs from
/// `first_output` on.
Graph import_body(ImportNode& node, std::vector<TensorType> formals, int num_carried, std::size_t first_input,
                  std::size_t first_output, std::vector<ValueId>& captured) {
  std::set<std::string> symbols;
  for (;;) {
    captured.clear();
    Graph body = node.take_block("body", formals, captured);
    for (const std::string& symbol : symbols) body.symbol_bounds.insert_or_assign(symbol, Dim(kUnbounded));
    require(body.inputs().size() >= formals.size(), Code::invalid_model, "the body has {} inputs, it needs {}",
            body.inputs().size(), formals.size());
    require(body.outputs().size() >= first_output + static_cast<std::size_t>(num_carried), Code::invalid_model,
            "the body has {} outputs for {} carried values", body.outputs().size(), num_carried);
    bool changed = false;
    for (std::size_t i = 0; i < static_cast<std::size_t>(num_carried); ++i) {
      const Value& input = body.value(body.inputs()[first_input + i]);
      const TensorType& result = body.value(body.outputs()[first_output + i]).type;
      TensorType& formal = formals[first_input + i];
      if (result.rank() != formal.rank()) continue;  // the shape rule refuses it
      for (std::size_t a = 0; a < formal.dims.size(); ++a) {
        const std::optional<std::string> symbol = formal.dims[a].as_symbol();
        if ((symbol && symbols.contains(*symbol)) || result.dims[a] == formal.dims[a]) continue;
        const std::string name = body.scope + input.name + "#" + std::to_string(a);
        symbols.insert(name);
        formal.dims[a] = Dim::symbol(name);
        changed = true;
      }
    }
    if (!changed) return body;
  }
}

const TensorType& type_of(const ImportNode& node, int index, std::string_view what) {
  require(node.has_input(index), Code::invalid_model, "input {} ({}) is missing", index, what);
  return node.graph().value(node.input(index)).type;
}

void import_loop(ImportNode& node) {
  const int num_carried = std::max(0, node.num_inputs() - 2);
  std::vector<ValueId> inputs = node.inputs();
  inputs.resize(static_cast<std::size_t>(num_carried) + 2, kNoValue);
  std::vector<TensorType> formals{{DType::int64, {}}, {DType::boolean, {}}};
  for (int i = 0; i < num_carried; ++i) formals.push_back(type_of(node, 2 + i, "a carried value"));
  std::vector<ValueId> captured;
  std::vector<Graph> blocks;
  blocks.push_back(import_body(node, std::move(formals), num_carried, 2, 1, captured));
  inputs.insert(inputs.end(), captured.begin(), captured.end());
  const ValueId first =
      node.add(std::make_shared<const Loop>(num_carried), std::move(inputs), node.num_outputs(), std::move(blocks));
  for (int i = 0; i < node.num_outputs(); ++i) {
    if (node.wants_output(i)) node.set_output(i, first + i);
  }
}

void import_scan(ImportNode& node) {
  require(node.opset() >= 9, Code::unsupported,
          "Scan of opset 8 is not supported; convert the model to opset 9 or newer");
  const Attributes& attributes = node.attributes();
  const std::int64_t num_scanned = attributes.get_int("num_scan_inputs");
  require(1 <= num_scanned && num_scanned <= node.num_inputs(), Code::invalid_model,
          "num_scan_inputs is {} with {} inputs", num_scanned, node.num_inputs());
  const std::int64_t num_carried = node.num_inputs() - num_scanned;
  require(num_carried <= node.num_outputs(), Code::invalid_model, "{} carried values but {} outputs", num_carried,
          node.num_outputs());
  const auto list = [&](const char* name, std::int64_t count) {
    std::vector<std::int64_t> values =
        attributes.get_ints(name, std::vector<std::int64_t>(static_cast<std::size_t>(count), 0));
    require(std::ssize(values) == count, Code::invalid_model, "{} needs {} entries, got {}", name, count,
            values.size());
    return values;
  };
  const std::int64_t num_results = node.num_outputs() - num_carried;
  Scan::Spec spec{.num_carried = num_carried,
                  .input_axes = list("scan_input_axes", num_scanned),
                  .output_axes = list("scan_output_axes", num_results),
                  .input_directions = list("scan_input_directions", num_scanned),
                  .output_directions = list("scan_output_directions", num_results)};
  std::vector<ValueId> inputs = node.inputs();
  std::vector<TensorType> formals;
  for (int i = 0; i < node.num_inputs(); ++i) {
    formals.push_back(type_of(node, i, "a carried or scanned value"));
    if (i < num_carried) continue;
    std::vector<Dim>& dims = formals.back().dims;
    dims.erase(dims.begin() +
               check_axis(spec.input_axes[static_cast<std::size_t>(i - num_carried)], static_cast<int>(dims.size())));
  }
  std::vector<ValueId> captured;
  std::vector<Graph> blocks;
  blocks.push_back(import_body(node, std::move(formals), static_cast<int>(num_carried), 0, 0, captured));
  inputs.insert(inputs.end(), captured.begin(), captured.end());
  const ValueId first =
      node.add(std::make_shared<const Scan>(std::move(spec)), std::move(inputs), node.num_outputs(), std::move(blocks));
  for (int i = 0; i < node.num_outputs(); ++i) {
    if (node.wants_output(i)) node.set_output(i, first + i);
  }
}

OpPtr make_if(const Attributes&) { return std::make_shared<const If>(); }

std::int64_t num_carried_from(const Attributes& attributes) {
  const std::int64_t count = attributes.get_int("num_carried");
  require(0 <= count && count <= kMaxCarried, Code::invalid_model, "num_carried must be 0 to {}, got {}", kMaxCarried,
          count);
  return count;
}

OpPtr make_loop(const Attributes& attributes) { return std::make_shared<const Loop>(num_carried_from(attributes)); }

OpPtr make_scan(const Attributes& attributes) {
  Scan::Spec spec{.num_carried = num_carried_from(attributes),
                  .input_axes = attributes.get_ints("scan_input_axes"),
                  .output_axes = attributes.get_ints("scan_output_axes")};
  spec.input_directions =
      attributes.get_ints("scan_input_directions", std::vector<std::int64_t>(spec.input_axes.size(), 0));
  spec.output_directions =
      attributes.get_ints("scan_output_directions", std::vector<std::int64_t>(spec.output_axes.size(), 0));
  require(!spec.input_axes.empty() && spec.input_directions.size() == spec.input_axes.size() &&
              spec.output_directions.size() == spec.output_axes.size(),
          Code::invalid_model, "axes and directions of a Scan do not fit together");
  return std::make_shared<const Scan>(std::move(spec));
}

}  // namespace

void If::infer(InferContext& context) const {
  check_num_inputs(context, 1, context.num_inputs());
  check_condition(context, 0);
  const auto num_outputs = static_cast<std::size_t>(context.num_outputs());
  const std::optional<bool> taken = known_flag(context.integers(0));
  for (std::size_t b = 0; b < 2; ++b) {
    Graph& block = block_of(context, b, 2);
    check_counts(block, static_cast<std::size_t>(context.num_inputs()) - 1, num_outputs);
    for (int i = 1; i < context.num_inputs(); ++i) feed_from(context, i, block, static_cast<std::size_t>(i) - 1);
    try {
      block.infer_types();
    } catch (const Error&) {
      // A branch that never runs need not fit the shapes; its types stay what they were.
      if (!taken || *taken == (b == 0)) throw;
    }
  }
  const Graph& then_block = context.blocks()[0];
  const Graph& else_block = context.blocks()[1];
  for (int i = 0; i < context.num_outputs(); ++i) {
    if (!context.wants_output(i)) continue;
    const Value& a = then_block.value(then_block.outputs()[static_cast<std::size_t>(i)]);
    const Value& b = else_block.value(else_block.outputs()[static_cast<std::size_t>(i)]);
    require(taken || a.type.dtype == b.type.dtype, Code::invalid_model,
            "output {} is {} in one branch and {} in the other", i, to_string(a.type), to_string(b.type));
    require(taken || a.type.rank() == b.type.rank(), Code::unsupported,
            "output {} is {} in one branch and {} in the other: a rank that depends on the condition is not "
            "supported; give the input a fixed shape so that the condition is known",
            i, to_string(a.type), to_string(b.type));
    if (taken) {
      const Graph& block = *taken ? then_block : else_block;
      const Value& value = *taken ? a : b;
      TensorType type = value.type;
      for (int axis = 0; axis < type.rank(); ++axis) {
        Dim& dim = type.dims[static_cast<std::size_t>(axis)];
        dim = outer_dim(context, block, dim, i, axis);
      }
      context.set_output(i, std::move(type));
      if (value.integers && !are_local(block, *value.integers)) context.set_integers(i, *value.integers);
      continue;
    }
    TensorType type = a.type;
    for (int axis = 0; axis < type.rank(); ++axis) {
      Dim& dim = type.dims[static_cast<std::size_t>(axis)];
      const Dim& other = b.type.dims[static_cast<std::size_t>(axis)];
      if (dim == other && !is_local(then_block, dim) && !is_local(else_block, dim)) continue;
      const std::optional<Dim> bound = outer_bound(then_block, dim);
      const std::optional<Dim> other_bound = outer_bound(else_block, other);
      std::optional<Dim> at_most;
      if (bound && other_bound) at_most = Dim::max(*bound, *other_bound);
      dim = context.fresh(i, axis, at_most);
    }
    context.set_output(i, std::move(type));
    if (a.integers && a.integers == b.integers && !are_local(then_block, *a.integers)) {
      context.set_integers(i, *a.integers);
    }
  }
}

void If::evaluate(EvalContext&) const { refuse_evaluate(*this); }

void Loop::infer(InferContext& context) const {
  const int num_captured = context.num_inputs() - 2 - num_carried();
  require(num_captured >= 0, Code::invalid_model, "{} carried values but only {} inputs", num_carried(),
          context.num_inputs());
  Graph& body = block_of(context, 0, 1);
  const auto carried = static_cast<std::size_t>(num_carried());
  const auto num_outputs = static_cast<std::size_t>(context.num_outputs());
  require(num_outputs >= carried, Code::invalid_model, "{} carried values but {} outputs", carried, num_outputs);
  check_counts(body, static_cast<std::size_t>(context.num_inputs()), num_outputs + 1);
  if (context.has_input(0)) {
    check_dtype(context, 0, DType::int64, "the trip count");
    check_dim(context.input(0).num_elements(), 1, "the number of elements of the trip count");
  }
  if (context.has_input(1)) check_condition(context, 1);
  feed(body, 0, {DType::int64, {}}, std::nullopt);
  feed(body, 1, {DType::boolean, {}}, std::nullopt);
  for (int i = 0; i < num_captured; ++i) {
    feed_from(context, 2 + num_carried() + i, body, 2 + carried + static_cast<std::size_t>(i));
  }
  infer_carried(context, body, num_carried(), 2, 2, 1);
  set_carried_outputs(context, body, num_carried(), 2);

  const Value& condition = body.value(body.outputs()[0]);
  require(condition.type.dtype == DType::boolean && !surely_differ(condition.type.num_elements(), 1),
          Code::invalid_model, "the body's condition must be one bool, got {}", to_string(condition.type));
  // The trip count is known if nothing can end the loop early.
  std::optional<Dim> trips;
  const std::optional<std::vector<Dim>> limit = context.integers(0);
  if (limit && limit->size() == 1) trips = Dim::max((*limit)[0], 0);
  const bool starts = !context.has_input(1) || known_flag(context.integers(1)) == true;
  const bool goes_on = known_flag(body, body.outputs()[0]) == true || (body.outputs()[0] == body.inputs()[1] && starts);
  std::optional<Dim> count = starts && goes_on ? trips : std::nullopt;
  for (int i = num_carried(); i < context.num_outputs(); ++i) {
    if (!context.wants_output(i)) continue;
    // All scan outputs have as many elements; they share the first one's symbol.
    if (!count) count = context.fresh(i, 0, trips);
    const Value& element = body.value(body.outputs()[1 + static_cast<std::size_t>(i)]);
    TensorType type{element.type.dtype, {*count}};
    for (int a = 0; a < element.type.rank(); ++a) {
      type.dims.push_back(outer_dim(context, body, element.type.dims[static_cast<std::size_t>(a)], i, a + 1));
    }
    context.set_output(i, std::move(type));
  }
}

void Loop::evaluate(EvalContext&) const { refuse_evaluate(*this); }

Attributes Scan::attributes() const {
  return {{"num_carried", spec_.num_carried},
          {"scan_input_axes", spec_.input_axes},
          {"scan_input_directions", spec_.input_directions},
          {"scan_output_axes", spec_.output_axes},
          {"scan_output_directions", spec_.output_directions}};
}

void Scan::infer(InferContext& context) const {
  const int num_captured = context.num_inputs() - num_carried() - num_scanned();
  require(num_captured >= 0, Code::invalid_model, "{} carried and {} scanned values but only {} inputs", num_carried(),
          num_scanned(), context.num_inputs());
  Graph& body = block_of(context, 0, 1);
  const auto carried = static_cast<std::size_t>(num_carried());
  const auto num_outputs = static_cast<std::size_t>(context.num_outputs());
  require(num_outputs == carried + spec_.output_axes.size(), Code::invalid_model,
          "{} carried values and {} scan outputs but {} outputs", carried, spec_.output_axes.size(), num_outputs);
  check_counts(body, static_cast<std::size_t>(context.num_inputs()), num_outputs);
  std::optional<Dim> length;
  for (int i = 0; i < num_scanned(); ++i) {
    require(context.has_input(num_carried() + i), Code::invalid_model, "scanned value {} is missing", i);
    TensorType element = context.input(num_carried() + i);
    const int axis = check_axis(spec_.input_axes[static_cast<std::size_t>(i)], element.rank());
    const Dim size = element.dims[static_cast<std::size_t>(axis)];
    if (length) check_dim(size, *length, "the length of a scanned value");
    if (!length || size.is_constant()) length = size;
    element.dims.erase(element.dims.begin() + axis);
    feed(body, carried + static_cast<std::size_t>(i), std::move(element), std::nullopt);
  }
  require(length.has_value(), Code::invalid_model, "a Scan needs a scanned value");
  for (int i = 0; i < num_captured; ++i) {
    const int input = num_carried() + num_scanned() + i;
    feed_from(context, input, body, static_cast<std::size_t>(input));
  }
  infer_carried(context, body, num_carried(), 0, 0, 0);
  set_carried_outputs(context, body, num_carried(), 0);
  for (std::size_t k = 0; k < spec_.output_axes.size(); ++k) {
    const int output = num_carried() + static_cast<int>(k);
    if (!context.wants_output(output)) continue;
    const Value& element = body.value(body.outputs()[static_cast<std::size_t>(output)]);
    const int axis = check_axis(spec_.output_axes[k], element.type.rank() + 1);
    TensorType type = element.type;
    type.dims.insert(type.dims.begin() + axis, *length);
    for (int a = 0; a < type.rank(); ++a) {
      if (a == axis) continue;
      Dim& dim = type.dims[static_cast<std::size_t>(a)];
      dim = outer_dim(context, body, dim, output, a);
    }
    context.set_output(output, std::move(type));
  }
}

void Scan::evaluate(EvalContext&) const { refuse_evaluate(*this); }

const OpDef kIfDef{"If", make_if, import_if};
const OpDef kLoopDef{"Loop", make_loop, import_loop};
const OpDef kScanDef{"Scan", make_scan, import_scan};

}  // namespace tenfold
