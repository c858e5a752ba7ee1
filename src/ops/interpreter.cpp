// Runs a graph node by node with the plain references.
//
// Every node's shape rule runs again with numbers before the node does: it checks what symbolic sizes left open, and
// the result must be what the graph's types promise. A symbol gets its number from an input's shape, or from the output
// of the node that decides it.
#include "ops/interpreter.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "ops/concrete_infer.hpp"
#include "ops/control_flow.hpp"
#include "ops/numbers.hpp"
#include "ops/samples.hpp"

namespace tenfold {
namespace {

constexpr int kMaxBlockDepth = 64;

using Symbols = std::map<std::string, std::int64_t>;

/// The dimension's number; nullopt if one of its symbols has none.
std::optional<std::int64_t> try_evaluate(const Dim& dim, const Symbols& symbols) {
  if (dim.is_constant()) return dim.constant();
  bool known = true;
  const std::int64_t value = dim.evaluate([&](const std::string& symbol) -> std::int64_t {
    const auto found = symbols.find(symbol);
    if (found != symbols.end()) return found->second;
    known = false;
    return 0;
  });
  return known ? std::optional(value) : std::nullopt;
}

/// Compares a shape with a type, and gives symbols that have no number yet theirs. A reason if they contradict.
std::optional<std::string> bind_sizes(const TensorType& type, const Tensor& tensor, Symbols& symbols) {
  if (type.dtype != tensor.dtype()) {
    return fmt::format("expected {}, got {}", to_string(type.dtype), to_string(tensor.dtype()));
  }
  if (type.rank() != tensor.rank()) {
    return fmt::format("expected shape {}, got {}", to_string(type.dims), to_string(tensor.shape()));
  }
  for (std::size_t a = 0; a < type.dims.size(); ++a) {
    const std::int64_t size = tensor.shape()[a];
    std::optional<std::int64_t> expected = try_evaluate(type.dims[a], symbols);
    if (!expected) {
      if (const auto symbol = type.dims[a].as_symbol()) symbols.emplace(*symbol, size);
      continue;
    }
    if (*expected != size) {
      return fmt::format("expected shape {}, got {}: axis {} must be {}", to_string(type.dims),
                         to_string(tensor.shape()), a, *expected);
    }
  }
  return std::nullopt;
}

void store_integers(const std::vector<std::int64_t>& values, const TensorView& view) {
  ensure(std::ssize(values) == view.num_elements(), "{} sizes for {} elements", values.size(), view.num_elements());
  dispatch(view.dtype, [&]<typename T>() {
    if constexpr (std::is_integral_v<T>) std::copy(values.begin(), values.end(), view.as<T>());
  });
}

class Evaluation final : public EvalContext {
 public:
  Evaluation(std::span<const Tensor> inputs, std::size_t num_outputs, const InterpretOptions& options)
      : outputs_(num_outputs), output_views_(num_outputs), options_(options) {
    for (const Tensor& input : inputs) input_views_.push_back(input.empty() ? TensorView{} : view_of(input));
  }

  std::span<const TensorView> inputs() const { return input_views_; }
  bool has_input(int index) const override {
    return index >= 0 && index < num_inputs() &&
           input_views_[static_cast<std::size_t>(index)].dtype != DType::undefined;
  }
  const TensorView& input(int index) const override {
    ensure(has_input(index), "input {} is missing", index);
    return input_views_[static_cast<std::size_t>(index)];
  }
  int num_inputs() const override { return static_cast<int>(input_views_.size()); }
  int num_outputs() const override { return static_cast<int>(outputs_.size()); }
  bool wants_output(int index) const override {
    return index >= 0 && index < num_outputs() &&
           output_views_[static_cast<std::size_t>(index)].dtype != DType::undefined;
  }
  const TensorView& output(int index) const override {
    ensure(wants_output(index), "output {} is not wanted", index);
    return output_views_[static_cast<std::size_t>(index)];
  }
  const TensorView& resize_output(int index, const Shape& dims) override {
    ensure(wants_output(index), "output {} is not wanted", index);
    return allocate(index, output_views_[static_cast<std::size_t>(index)].dtype, dims);
  }

  const TensorView& allocate(int index, DType dtype, const Shape& dims) {
    const auto i = static_cast<std::size_t>(index);
    const std::int64_t elements = num_elements(dims);
    require(elements <= options_.max_tensor_bytes / static_cast<std::int64_t>(size_of(dtype)), Code::out_of_memory,
            "output {} of shape {} needs more than the limit of {} bytes a tensor", index, to_string(dims),
            options_.max_tensor_bytes);
    outputs_[i] = Tensor(dtype, dims);
    output_views_[i] = view_of(outputs_[i]);
    return output_views_[i];
  }
  /// A wanted output whose size only the operator knows.
  void declare(int index, DType dtype) { output_views_[static_cast<std::size_t>(index)].dtype = dtype; }
  Tensor& tensor(int index) { return outputs_[static_cast<std::size_t>(index)]; }
  std::vector<Tensor> take() { return std::move(outputs_); }

 private:
  std::vector<TensorView> input_views_;
  std::vector<Tensor> outputs_;
  std::vector<TensorView> output_views_;
  const InterpretOptions& options_;
};

/// Copies `count` elements along `axis` of `from`, starting at `from_index`, to `to` starting at `to_index`. The
/// tensors agree in the other axes; `axis` of `element` may be missing, which counts as a size of 1.
void copy_along(const Tensor& from, std::int64_t from_index, std::int64_t from_size, Tensor& to, std::int64_t to_index,
                std::int64_t to_size, std::int64_t outer, std::int64_t inner_bytes) {
  const std::byte* source = from.data();
  std::byte* target = to.mutable_data();
  for (std::int64_t o = 0; o < outer; ++o) {
    std::memcpy(target + (o * to_size + to_index) * inner_bytes, source + (o * from_size + from_index) * inner_bytes,
                static_cast<std::size_t>(inner_bytes));
  }
}

struct Extent {
  std::int64_t outer = 1, size = 1, inner_bytes = 1;
};
Extent extent_of(const Shape& shape, std::size_t axis, DType dtype) {
  Extent extent;
  for (std::size_t a = 0; a < axis; ++a) extent.outer *= shape[a];
  extent.size = shape[axis];
  extent.inner_bytes = static_cast<std::int64_t>(size_of(dtype));
  for (std::size_t a = axis + 1; a < shape.size(); ++a) extent.inner_bytes *= shape[a];
  return extent;
}

/// tensor[..., index, ...] along `axis`, without that axis.
Tensor take_element(const Tensor& tensor, std::size_t axis, std::int64_t index) {
  const Extent extent = extent_of(tensor.shape(), axis, tensor.dtype());
  Shape shape = tensor.shape();
  shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(axis));
  Tensor element(tensor.dtype(), std::move(shape));
  if (element.num_elements() == 0) return element;
  copy_along(tensor, index, extent.size, element, 0, 1, extent.outer, extent.inner_bytes);
  return element;
}

class Interpreter {
 public:
  explicit Interpreter(const InterpretOptions& options) : options_(options) {}

  /// The values of the graph's outputs. `symbols` holds the numbers known outside.
  std::vector<Tensor> run_graph(const Graph& graph, std::span<const Tensor> inputs, Symbols symbols, bool top_level) {
    struct DepthGuard {
      int& depth;
      ~DepthGuard() { --depth; }
    } guard{++depth_};
    require(depth_ <= kMaxBlockDepth, Code::unsupported, "blocks are nested more than {} deep", kMaxBlockDepth);
    require(inputs.size() == graph.inputs().size(), Code::invalid_argument, "{} inputs expected, got {}",
            graph.inputs().size(), inputs.size());
    std::vector<Tensor> values(static_cast<std::size_t>(graph.value_limit()));
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Value& declared = graph.value(graph.inputs()[i]);
      if (const auto reason = bind_sizes(declared.type, inputs[i], symbols)) {
        throw Error(Code::invalid_argument, fmt::format("input '{}': {}", declared.name, *reason));
      }
      values[static_cast<std::size_t>(graph.inputs()[i])] = inputs[i];
    }
    const std::vector<NodeId> order = graph.order();
    std::vector<int> uses(values.size(), 0);
    for (const NodeId id : order) {
      for (const ValueId input : graph.node(id).inputs) {
        if (input != kNoValue) ++uses[static_cast<std::size_t>(input)];
      }
    }
    for (const ValueId output : graph.outputs()) ++uses[static_cast<std::size_t>(output)];

    const auto operand = [&](ValueId id) -> Tensor {
      if (id == kNoValue) return {};
      if (const Tensor* constant = graph.constant(id)) return *constant;
      return values[static_cast<std::size_t>(id)];
    };
    for (const NodeId id : order) {
      const Node& node = graph.node(id);
      std::vector<Tensor> operands;
      for (const ValueId input : node.inputs) operands.push_back(operand(input));
      std::vector<Tensor> results;
      try {
        results = run_node(node, operands, symbols, {});
        for (std::size_t i = 0; i < results.size(); ++i) {
          if (node.outputs[i] == kNoValue) continue;
          const auto reason = bind_sizes(graph.value(node.outputs[i]).type, results[i], symbols);
          ensure(!reason, "output {} contradicts the graph: {}", i, reason ? *reason : "");
        }
      } catch (const Error& error) {
        throw error.in_context(describe(node));
      }
      if (top_level && options_.on_node && !options_.on_node(node, results)) return {};
      if (top_level && options_.substitute) options_.substitute(node, results);
      for (std::size_t i = 0; i < results.size(); ++i) {
        const ValueId output = node.outputs[i];
        if (output != kNoValue && uses[static_cast<std::size_t>(output)] > 0) {
          values[static_cast<std::size_t>(output)] = std::move(results[i]);
        }
      }
      for (const ValueId input : node.inputs) {
        if (input != kNoValue && --uses[static_cast<std::size_t>(input)] == 0) {
          values[static_cast<std::size_t>(input)] = Tensor();
        }
      }
    }
    std::vector<Tensor> outputs;
    for (const ValueId output : graph.outputs()) outputs.push_back(operand(output));
    return outputs;
  }

  /// `types`: of the outputs where the caller knows them with static sizes; may be empty.
  std::vector<Tensor> run_node(const Node& node, std::span<const Tensor> inputs, const Symbols& symbols,
                               std::span<const TensorType> types) {
    if (const auto* op = op_cast<If>(node.op)) return run_if(*op, node, inputs, symbols);
    if (const auto* op = op_cast<Loop>(node.op)) return run_loop(*op, node, inputs, symbols);
    if (const auto* op = op_cast<Scan>(node.op)) return run_scan(*op, node, inputs, symbols);
    if (op_cast<Samples>(node.op) != nullptr) return run_samples(node, inputs, symbols);
    Evaluation evaluation(inputs, node.outputs.size(), options_);
    // Types that hold only numbers need no rule, except where the rule is all there is to compute.
    if (types.size() == node.outputs.size() && !node.inputs.empty() && !node.op->sets_output_shape() &&
        std::all_of(types.begin(), types.end(), [](const TensorType& t) { return t.is_static(); })) {
      for (std::size_t i = 0; i < types.size(); ++i) {
        if (node.outputs[i] == kNoValue) continue;
        evaluation.allocate(static_cast<int>(i), types[i].dtype, types[i].static_shape());
      }
      node.op->evaluate(evaluation);
      return evaluation.take();
    }
    ConcreteInfer infer([&](const std::string& symbol) -> std::int64_t {
      const auto found = symbols.find(symbol);
      require(found != symbols.end(), Code::invalid_argument, "the size '{}' has no value here", symbol);
      return found->second;
    });
    std::vector<std::uint8_t> wanted;
    for (const ValueId output : node.outputs) wanted.push_back(output != kNoValue ? 1 : 0);
    infer.run(*node.op, evaluation.inputs(), wanted);
    bool is_known = true;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      if (wanted[i] == 0) continue;
      const ConcreteInfer::Output& output = infer.output(static_cast<int>(i));
      if (output.is_known()) {
        evaluation.allocate(static_cast<int>(i), output.dtype, output.dims);
      } else {
        ensure(node.op->sets_output_shape(), "the shape of output {} is not known", i);
        evaluation.declare(static_cast<int>(i), output.dtype);
      }
      // Values that are sizes: nothing is left to compute.
      if (node.inputs.empty() && output.integers) {
        store_integers(*output.integers, evaluation.output(static_cast<int>(i)));
      } else {
        is_known = false;
      }
    }
    if (!is_known) node.op->evaluate(evaluation);
    return evaluation.take();
  }

 private:
  static bool flag_of(const Tensor& tensor) {
    require(tensor.num_elements() == 1, Code::invalid_model, "a condition must have one element, got {}",
            tensor.num_elements());
    return tensor.to_int64()[0] != 0;
  }

  static void check_block_outputs(const Node& node, std::size_t expected, std::size_t got) {
    ensure(expected == got, "a block of {} has {} outputs, {} are needed", describe(node), got, expected);
  }

  /// Outputs that nobody wants stay empty.
  static void drop_unwanted(const Node& node, std::vector<Tensor>& results) {
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (node.outputs[i] == kNoValue) results[i] = Tensor();
    }
  }

  void count_iteration() {
    require(++iterations_ <= options_.max_iterations, Code::invalid_model,
            "loops ran for more than the limit of {} iterations", options_.max_iterations);
  }

  std::vector<Tensor> run_if(const If&, const Node& node, std::span<const Tensor> inputs, const Symbols& symbols) {
    ensure(node.blocks.size() == 2 && !inputs.empty(), "If needs a condition and two blocks");
    const Graph& block = node.blocks[flag_of(inputs[0]) ? 0 : 1];
    std::vector<Tensor> results = run_graph(block, inputs.subspan(1), symbols, false);
    check_block_outputs(node, node.outputs.size(), results.size());
    drop_unwanted(node, results);
    return results;
  }

  /// Stacks the elements that the iterations gave. Without any, the sizes come from the block's types; those that only
  /// a running block would know are 0.
  Tensor stack(const std::vector<Tensor>& elements, const TensorType& element_type, std::int64_t axis, bool reverse,
               const Symbols& symbols) const {
    Shape shape;
    if (elements.empty()) {
      for (const Dim& dim : element_type.dims) shape.push_back(try_evaluate(dim, symbols).value_or(0));
    } else {
      shape = elements.front().shape();
    }
    const auto position = static_cast<std::size_t>(axis < 0 ? axis + std::ssize(shape) + 1 : axis);
    ensure(position <= shape.size(), "scan output axis {} outside rank {}", axis, shape.size() + 1);
    shape.insert(shape.begin() + static_cast<std::ptrdiff_t>(position), std::ssize(elements));
    const std::int64_t count = num_elements(shape);
    require(count <= options_.max_tensor_bytes / static_cast<std::int64_t>(size_of(element_type.dtype)),
            Code::out_of_memory, "a scan output of shape {} needs more than the limit of {} bytes a tensor",
            to_string(shape), options_.max_tensor_bytes);
    Tensor stacked(element_type.dtype, shape);
    if (count == 0) return stacked;
    const Extent extent = extent_of(shape, position, element_type.dtype);
    for (std::size_t i = 0; i < elements.size(); ++i) {
      require(elements[i].shape() == elements[0].shape(), Code::invalid_model,
              "a scan output changes its shape from {} to {}", to_string(elements[0].shape()),
              to_string(elements[i].shape()));
      const auto index = static_cast<std::int64_t>(reverse ? elements.size() - 1 - i : i);
      copy_along(elements[i], 0, 1, stacked, index, extent.size, extent.outer, extent.inner_bytes);
    }
    return stacked;
  }

  std::vector<Tensor> run_loop(const Loop& op, const Node& node, std::span<const Tensor> inputs,
                               const Symbols& symbols) {
    const auto carried = static_cast<std::size_t>(op.num_carried());
    ensure(node.blocks.size() == 1 && inputs.size() >= 2 + carried && node.outputs.size() >= carried,
           "Loop of inconsistent counts");
    const Graph& body = node.blocks[0];
    const std::int64_t limit = inputs[0].empty() ? -1 : std::max<std::int64_t>(inputs[0].to_int64().at(0), 0);
    bool goes_on = inputs[1].empty() || flag_of(inputs[1]);
    std::vector<Tensor> state(inputs.begin() + 2, inputs.begin() + 2 + static_cast<std::ptrdiff_t>(carried));
    std::vector<std::vector<Tensor>> scans(node.outputs.size() - carried);
    for (std::int64_t i = 0; goes_on && (limit < 0 || i < limit); ++i) {
      count_iteration();
      Tensor condition(DType::boolean, {});
      condition.as_mutable<bool>()[0] = true;
      std::vector<Tensor> arguments{Tensor::of_int64({}, std::span(&i, 1)), condition};
      arguments.insert(arguments.end(), state.begin(), state.end());
      arguments.insert(arguments.end(), inputs.begin() + 2 + static_cast<std::ptrdiff_t>(carried), inputs.end());
      std::vector<Tensor> results = run_graph(body, arguments, symbols, false);
      check_block_outputs(node, node.outputs.size() + 1, results.size());
      goes_on = flag_of(results[0]);
      for (std::size_t k = 0; k < carried; ++k) state[k] = std::move(results[1 + k]);
      for (std::size_t k = 0; k < scans.size(); ++k) {
        if (node.outputs[carried + k] != kNoValue) scans[k].push_back(std::move(results[1 + carried + k]));
      }
    }
    std::vector<Tensor> outputs = std::move(state);
    for (std::size_t k = 0; k < scans.size(); ++k) {
      const bool wanted = node.outputs[carried + k] != kNoValue;
      const TensorType& element = body.value(body.outputs().at(1 + carried + k)).type;
      outputs.push_back(wanted ? stack(scans[k], element, 0, false, symbols) : Tensor());
    }
    drop_unwanted(node, outputs);
    return outputs;
  }

  std::vector<Tensor> run_scan(const Scan& op, const Node& node, std::span<const Tensor> inputs,
                               const Symbols& symbols) {
    const auto carried = static_cast<std::size_t>(op.num_carried());
    const auto scanned = static_cast<std::size_t>(op.num_scanned());
    const Scan::Spec& spec = op.spec();
    ensure(node.blocks.size() == 1 && inputs.size() >= carried + scanned &&
               node.outputs.size() == carried + spec.output_axes.size(),
           "Scan of inconsistent counts");
    const Graph& body = node.blocks[0];
    std::vector<Tensor> state(inputs.begin(), inputs.begin() + static_cast<std::ptrdiff_t>(carried));
    std::vector<std::size_t> axes;
    std::int64_t length = 0;
    for (std::size_t k = 0; k < scanned; ++k) {
      const Tensor& values = inputs[carried + k];
      const std::int64_t axis = spec.input_axes[k] < 0 ? spec.input_axes[k] + values.rank() : spec.input_axes[k];
      require(0 <= axis && axis < values.rank(), Code::invalid_model, "scan axis {} outside rank {}",
              spec.input_axes[k], values.rank());
      axes.push_back(static_cast<std::size_t>(axis));
      const std::int64_t size = values.shape()[axes[k]];
      require(k == 0 || size == length, Code::invalid_model, "scanned values have lengths {} and {}", length, size);
      length = size;
    }
    std::vector<std::vector<Tensor>> scans(spec.output_axes.size());
    for (std::int64_t i = 0; i < length; ++i) {
      count_iteration();
      std::vector<Tensor> arguments = state;
      for (std::size_t k = 0; k < scanned; ++k) {
        const std::int64_t index = spec.input_directions[k] != 0 ? length - 1 - i : i;
        arguments.push_back(take_element(inputs[carried + k], axes[k], index));
      }
      arguments.insert(arguments.end(), inputs.begin() + static_cast<std::ptrdiff_t>(carried + scanned), inputs.end());
      std::vector<Tensor> results = run_graph(body, arguments, symbols, false);
      check_block_outputs(node, node.outputs.size(), results.size());
      for (std::size_t k = 0; k < carried; ++k) state[k] = std::move(results[k]);
      for (std::size_t k = 0; k < scans.size(); ++k) scans[k].push_back(std::move(results[carried + k]));
    }
    std::vector<Tensor> outputs = std::move(state);
    for (std::size_t k = 0; k < scans.size(); ++k) {
      const TensorType& element = body.value(body.outputs().at(carried + k)).type;
      outputs.push_back(stack(scans[k], element, spec.output_axes[k], spec.output_directions[k] != 0, symbols));
    }
    drop_unwanted(node, outputs);
    return outputs;
  }

  std::vector<Tensor> run_samples(const Node& node, std::span<const Tensor> inputs, const Symbols& symbols) {
    ensure(node.blocks.size() == 1 && !inputs.empty(), "Samples needs a block and an input");
    const Graph& block = node.blocks[0];
    const std::int64_t count = inputs[0].shape().at(0);
    std::vector<std::vector<Tensor>> samples(node.outputs.size());
    for (std::int64_t n = 0; n < count; ++n) {
      std::vector<Tensor> arguments;
      for (const Tensor& whole : inputs) {
        require(whole.shape().at(0) == count, Code::invalid_argument, "inputs of {} and {} samples", count,
                whole.shape()[0]);
        Shape shape = whole.shape();
        shape[0] = 1;
        arguments.push_back(take_element(whole, 0, n).reshaped(std::move(shape)));
      }
      const std::vector<Tensor> results = run_graph(block, arguments, symbols, false);
      check_block_outputs(node, node.outputs.size(), results.size());
      for (std::size_t i = 0; i < results.size(); ++i) {
        samples[i].push_back(results[i].reshaped(Shape(results[i].shape().begin() + 1, results[i].shape().end())));
      }
    }
    std::vector<Tensor> outputs;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      TensorType element = block.value(block.outputs()[i]).type;
      element.dims.erase(element.dims.begin());
      outputs.push_back(stack(samples[i], element, 0, false, symbols));
    }
    drop_unwanted(node, outputs);
    return outputs;
  }

  const InterpretOptions& options_;
  std::int64_t iterations_ = 0;
  int depth_ = 0;
};

}  // namespace

std::vector<Tensor> interpret(const Graph& graph, std::span<const Tensor> inputs, const InterpretOptions& options) {
  return Interpreter(options).run_graph(graph, inputs, {}, true);
}

std::vector<Tensor> evaluate_node(const Node& node, std::span<const Tensor* const> inputs,
                                  std::span<const TensorType> output_types, const InterpretOptions& options) {
  std::vector<Tensor> operands;
  for (const Tensor* input : inputs) operands.push_back(input != nullptr ? *input : Tensor());
  try {
    return Interpreter(options).run_node(node, operands, {}, output_types);
  } catch (const Error& error) {
    throw error.in_context(describe(node));
  }
}

}  // namespace tenfold
