// Operators whose result is as large as the data says.
//   NonZero: the positions of elements other than 0, [rank, count], in row-major order.
//   Compress: the slices along `axis` (absent: elements of the flattened input) whose condition holds.
// Source: ONNX operator sets 9 to 13, NonZero and Compress.
#include "ops/elementwise.hpp"
#include "ops/movement.hpp"

namespace tenfold {
namespace {

class NonZero final : public Op {
 public:
  std::string_view type() const override { return "NonZero"; }
  Attributes attributes() const override { return {}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 1);
    check_types(context, 0, Types::any);
    const TensorType& x = context.input(0);
    context.set_output(0, {DType::int64, {Dim(x.rank()), context.fresh(0, 1, x.num_elements())}});
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    std::vector<std::int64_t> found;
    dispatch(x.dtype, [&]<typename T>() {
      const T* data = x.as<const T>();
      const std::int64_t count = x.num_elements();
      for (std::int64_t i = 0; i < count; ++i) {
        if (static_cast<ComputeType<T>>(data[i]) != ComputeType<T>(0)) found.push_back(i);
      }
    });
    const auto count = static_cast<std::int64_t>(found.size());
    const TensorView& y = context.resize_output(0, {x.rank(), count});
    std::int64_t stride = 1;
    for (int axis = x.rank(); axis-- > 0;) {
      std::int64_t* row = y.as<std::int64_t>() + axis * count;
      for (std::int64_t i = 0; i < count; ++i) row[i] = found[static_cast<std::size_t>(i)] / stride % x.dim(axis);
      stride *= x.dim(axis);
    }
  }
  bool sets_output_shape() const override { return true; }
};

class Compress final : public Op {
 public:
  explicit Compress(std::optional<std::int64_t> axis) : axis_(axis) {}
  std::string_view type() const override { return "Compress"; }
  Attributes attributes() const override {
    Attributes attributes;
    if (axis_) attributes.set("axis", *axis_);
    return attributes;
  }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 2, 2);
    check_num_outputs(context, 1, 1);
    check_dtype(context, 1, DType::boolean, "the condition");
    check_rank(context, 1, 1, "the condition");
    const TensorType x = context.input(0);
    TensorType y{x.dtype, {}};
    if (axis_) {
      const int axis = check_axis(*axis_, x.rank());
      y.dims = x.dims;
      y.dims[static_cast<std::size_t>(axis)] = context.fresh(0, axis, x.dims[static_cast<std::size_t>(axis)]);
    } else {
      y.dims = {context.fresh(0, 0, x.num_elements())};
    }
    context.set_output(0, std::move(y));
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const TensorView& condition = context.input(1);
    // Without an axis the input is one of many slices of one element.
    Shape dims{x.num_elements()};
    std::size_t axis = 0;
    if (axis_) {
      axis = static_cast<std::size_t>(check_axis(*axis_, x.rank()));
      dims.assign(x.dims.begin(), x.dims.end());
    }
    std::vector<std::int64_t> kept;
    for (std::int64_t i = 0; i < condition.dim(0); ++i) {
      if (!condition.as<const bool>()[i]) continue;
      require(i < dims[axis], Code::invalid_argument, "condition {} holds, but the axis has {} elements", i,
              dims[axis]);
      kept.push_back(i);
    }
    const std::int64_t size = dims[axis];
    const std::int64_t outer = product_of(dims, 0, axis);
    const std::int64_t inner = product_of(dims, axis + 1, dims.size());
    dims[axis] = static_cast<std::int64_t>(kept.size());
    const TensorView& y = context.resize_output(0, dims);
    dispatch_bits(x.dtype, [&]<typename T>() {
      T* out = y.as<T>();
      for (std::int64_t o = 0; o < outer; ++o) {
        for (const std::int64_t i : kept) out = std::copy_n(x.as<const T>() + (o * size + i) * inner, inner, out);
      }
    });
  }
  bool sets_output_shape() const override { return true; }

 private:
  std::optional<std::int64_t> axis_;
};

OpPtr make_non_zero(const Attributes&) { return std::make_shared<const NonZero>(); }
OpPtr make_compress(const Attributes& attributes) {
  std::optional<std::int64_t> axis;
  if (attributes.has("axis")) axis = attributes.get_int("axis");
  return std::make_shared<const Compress>(axis);
}

}  // namespace

const OpDef kCompressDef{"Compress", make_compress, import_plain};
const OpDef kNonZeroDef{"NonZero", make_non_zero, import_plain};

}  // namespace tenfold
