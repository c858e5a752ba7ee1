// The dimensions of a tensor as int64 values: Shape (of axes start .. end) and Size (their product).
// Source: ONNX operator sets 1 to 24, Shape and Size.
#include "ops/elementwise.hpp"

namespace tenfold {
namespace {

class ShapeOf final : public Op {
 public:
  ShapeOf(std::int64_t start, std::optional<std::int64_t> end) : start_(start), end_(end) {}
  std::string_view type() const override { return "Shape"; }
  Attributes attributes() const override {
    Attributes attributes{{"start", start_}};
    if (end_) attributes.set("end", *end_);
    return attributes;
  }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 1);
    const std::vector<Dim>& dims = context.input(0).dims;
    const auto [begin, end] = range(context.input(0).rank());
    std::vector<Dim> elements(dims.begin() + begin, dims.begin() + end);
    context.set_output(0, {DType::int64, {Dim(end - begin)}});
    pass_integers(context, 0, std::move(elements));
  }
  void evaluate(EvalContext& context) const override {
    const auto dims = context.input(0).dims;
    const auto [begin, end] = range(context.input(0).rank());
    check_output(context, 0, Shape{end - begin});
    std::copy(dims.begin() + begin, dims.begin() + end, context.output(0).as<std::int64_t>());
  }

 private:
  /// Negative positions count from the end; positions outside are moved to the nearest end.
  std::pair<std::int64_t, std::int64_t> range(int rank) const {
    const auto clamp = [rank](std::int64_t position) {
      if (position < 0) position = position < -rank ? 0 : position + rank;
      return std::min<std::int64_t>(position, rank);
    };
    const std::int64_t begin = clamp(start_);
    return {begin, std::max(begin, end_ ? clamp(*end_) : rank)};
  }
  std::int64_t start_;
  std::optional<std::int64_t> end_;
};

OpPtr make_shape(const Attributes& attributes) {
  std::optional<std::int64_t> end;
  if (attributes.has("end")) end = attributes.get_int("end");
  return std::make_shared<const ShapeOf>(attributes.get_int("start", 0), end);
}

class SizeOf final : public Op {
 public:
  std::string_view type() const override { return "Size"; }
  Attributes attributes() const override { return {}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 1);
    Dim count = context.input(0).num_elements();
    context.set_output(0, {DType::int64, {}});
    pass_integers(context, 0, {std::move(count)});
  }
  void evaluate(EvalContext& context) const override {
    check_output(context, 0, Shape{});
    *context.output(0).as<std::int64_t>() = context.input(0).num_elements();
  }
};

OpPtr make_size(const Attributes&) { return std::make_shared<const SizeOf>(); }

}  // namespace

const OpDef kShapeDef{"Shape", make_shape, import_plain};
const OpDef kSizeDef{"Size", make_size, import_plain};

}  // namespace tenfold
