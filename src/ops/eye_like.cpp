// A matrix with ones on its k-th diagonal, of the input's shape. Attributes: k; dtype, the name of the result's element
// type (absent: the input's). Source: ONNX operator sets 9 to 22, EyeLike.
#include "ops/elementwise.hpp"
#include "ops/movement.hpp"

namespace tenfold {
namespace {

class EyeLike final : public Op {
 public:
  EyeLike(std::int64_t k, DType dtype) : k_(k), dtype_(dtype) {}
  std::string_view type() const override { return "EyeLike"; }
  Attributes attributes() const override {
    Attributes attributes{{"k", k_}};
    if (dtype_ != DType::undefined) attributes.set("dtype", std::string(to_string(dtype_)));
    return attributes;
  }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 1);
    check_rank(context, 0, 2, "the input");
    const TensorType& x = context.input(0);
    context.set_output(0, {dtype_ == DType::undefined ? x.dtype : dtype_, x.dims});
  }
  void evaluate(EvalContext& context) const override {
    check_output(context, 0, context.input(0).dims);
    const TensorView& y = context.output(0);
    const std::int64_t rows = y.dim(0);
    const std::int64_t columns = y.dim(1);
    dispatch(y.dtype, [&]<typename T>() {
      T* out = y.as<T>();
      std::fill_n(out, rows * columns, T{});
      // Column of row r is r + k; compared so that an extreme k does not overflow.
      for (std::int64_t r = 0; r < rows; ++r) {
        if (k_ >= -r && k_ < columns - r) out[r * columns + r + k_] = T(ComputeType<T>(1));
      }
    });
  }

 private:
  std::int64_t k_;
  DType dtype_;
};

OpPtr make_eye_like(const Attributes& attributes) {
  const DType dtype = attributes.has("dtype") ? get_dtype(attributes, "dtype") : DType::undefined;
  return std::make_shared<const EyeLike>(attributes.get_int("k", 0), dtype);
}

void import_eye_like(ImportNode& node) {
  Attributes attributes{{"k", node.attributes().get_int("k", 0)}};
  if (node.attributes().has("dtype")) {
    attributes.set("dtype", std::string(to_string(dtype_from_onnx(node.attributes().get_int("dtype")))));
  }
  node.set_output(0, node.add(make_op("EyeLike", attributes), node.inputs()));
}

}  // namespace

const OpDef kEyeLikeDef{"EyeLike", make_eye_like, import_eye_like};

}  // namespace tenfold
