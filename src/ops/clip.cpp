// Limits to a range: y = min(max(x, low), high). Inputs x, optional low, optional high: scalars of x's type.
// Source: ONNX operator sets 6 to 13, Clip. Before opset 11 the limits are attributes; import makes constants of them.
#include "ops/elementwise.hpp"

namespace tenfold {
namespace {

class Clip final : public Op {
 public:
  std::string_view type() const override { return "Clip"; }
  Attributes attributes() const override { return {}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 3);
    check_num_outputs(context, 1, 1);
    check_types(context, 0, Types::numbers);
    std::array<std::optional<Dim>, 3> limits;
    bool known = true;
    for (int i = 1; i <= 2; ++i) {
      if (!context.has_input(i)) continue;
      check_same_dtype(context, i, "a limit");
      const TensorType& limit = context.input(i);
      require(!surely_differ(limit.num_elements(), Dim(1)), Code::invalid_model, "a limit must be a scalar, got {}",
              to_string(limit));
      const auto elements = context.integers(i);
      known = known && elements && elements->size() == 1;
      if (known) limits[static_cast<std::size_t>(i)] = elements->front();
    }
    context.set_output(0, context.input(0));
    auto elements = context.integers(0);
    if (!known || !elements) return;
    for (Dim& element : *elements) {
      if (limits[1]) element = Dim::max(element, *limits[1]);
      if (limits[2]) element = Dim::min(element, *limits[2]);
    }
    pass_integers(context, 0, std::move(*elements));
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const TensorView& y = context.output(0);
    check_output(context, 0, x.dims);
    for (int i = 1; i <= 2; ++i) {
      require(!context.has_input(i) || context.input(i).num_elements() == 1, Code::invalid_argument,
              "input {}, a limit, must have one element", i);
    }
    const std::int64_t count = x.num_elements();
    dispatch(x.dtype, [&]<typename T>() {
      using Compute = ComputeType<T>;
      const T* in = x.as<const T>();
      T* out = y.as<T>();
      // NaN compares false both times and stays.
      const auto limit = [&](auto f) {
        for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<T>(f(static_cast<Compute>(in[i])));
      };
      const auto read = [&](int i) { return static_cast<Compute>(*context.input(i).as<const T>()); };
      if (context.has_input(1) && context.has_input(2)) {
        limit([low = read(1), high = read(2)](Compute v) {
          const Compute raised = v < low ? low : v;
          return raised > high ? high : raised;
        });
      } else if (context.has_input(1)) {
        limit([low = read(1)](Compute v) { return v < low ? low : v; });
      } else if (context.has_input(2)) {
        limit([high = read(2)](Compute v) { return v > high ? high : v; });
      } else {
        limit([](Compute v) { return v; });
      }
    });
  }
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override {
    (void)inputs;
    return outputs.empty() ? 0 : count_elements(outputs[0]);
  }
};

OpPtr make_clip(const Attributes&) { return std::make_shared<const Clip>(); }

void import_clip(ImportNode& node) {
  require(node.has_input(0), Code::invalid_model, "input 0 is missing");
  if (node.opset() >= 11) {
    std::vector<ValueId> inputs = node.inputs();
    while (!inputs.empty() && inputs.back() == kNoValue) inputs.pop_back();
    node.set_output(0, inputs.size() == 1 ? inputs[0] : node.add(make_op("Clip"), inputs));
    return;
  }
  const DType dtype = node.graph().value(node.input(0)).type.dtype;
  require(is_float(dtype), Code::invalid_model, "input 0 must be of a floating-point type, got {}", to_string(dtype));
  std::vector<ValueId> inputs{node.input(0), kNoValue, kNoValue};
  for (std::size_t i = 1; i <= 2; ++i) {
    const char* name = i == 1 ? "min" : "max";
    if (!node.attributes().has(name)) continue;
    Tensor limit(dtype, {});
    TensorView view = view_of(limit);
    view.data = limit.mutable_data();
    const double value = node.attributes().get_float(name);
    store_doubles(std::span(&value, 1), view);
    inputs[i] = node.constant(std::move(limit));
  }
  node.set_output(0, inputs[1] == kNoValue && inputs[2] == kNoValue ? inputs[0] : node.add(make_op("Clip"), inputs));
}

}  // namespace

const OpDef kClipDef{"Clip", make_clip, import_clip};

}  // namespace tenfold
