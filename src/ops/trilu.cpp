// The upper or lower triangle of matrices (the last two axes); the rest becomes 0. Inputs: x, optional k (a scalar):
// the diagonal that bounds the triangle. Attribute: upper. Source: ONNX operator set 14, Trilu.
#include "ops/elementwise.hpp"
#include "ops/movement.hpp"

namespace tenfold {
namespace {

class Trilu final : public Op {
 public:
  explicit Trilu(bool upper) : upper_(upper) {}
  std::string_view type() const override { return "Trilu"; }
  Attributes attributes() const override { return {{"upper", std::int64_t{upper_}}}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 2);
    check_num_outputs(context, 1, 1);
    check_types(context, 0, Types::any);
    require(context.input(0).rank() >= 2, Code::invalid_model, "the input needs rank 2 or more, got {}",
            to_string(context.input(0)));
    if (context.has_input(1)) {
      check_dtype(context, 1, DType::int64, "k");
      require(!surely_differ(context.input(1).num_elements(), Dim(1)), Code::invalid_model,
              "k must be a scalar, got {}", to_string(context.input(1)));
    }
    context.set_output(0, context.input(0));
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const TensorView& y = context.output(0);
    check_output(context, 0, x.dims);
    const std::int64_t columns = x.dims.back();
    const std::int64_t rows = x.dim(x.rank() - 2);
    std::int64_t k = 0;
    if (context.has_input(1)) {
      require(context.input(1).num_elements() == 1, Code::invalid_argument, "k must be a scalar");
      // Diagonals outside the matrix are all alike.
      k = std::clamp(*context.input(1).as<const std::int64_t>(), -rows - 1, columns + 1);
    }
    const std::int64_t all_rows = x.num_elements() / std::max<std::int64_t>(columns, 1);
    dispatch_bits(x.dtype, [&]<typename T>() {
      const T* in = x.as<const T>();
      T* out = y.as<T>();
      for (std::int64_t r = 0; r < all_rows; ++r, in += columns, out += columns) {
        // Column c is kept if c >= row + k (upper) or c <= row + k (lower).
        const std::int64_t split = std::clamp<std::int64_t>(r % rows + k + (upper_ ? 0 : 1), 0, columns);
        const std::int64_t begin = upper_ ? split : 0;
        const std::int64_t end = upper_ ? columns : split;
        std::fill_n(out, begin, T{});
        std::copy_n(in + begin, end - begin, out + begin);
        std::fill_n(out + end, columns - end, T{});
      }
    });
  }

 private:
  bool upper_;
};

OpPtr make_trilu(const Attributes& attributes) {
  return std::make_shared<const Trilu>(attributes.get_int("upper", 1) != 0);
}

}  // namespace

const OpDef kTriluDef{"Trilu", make_trilu, import_plain};

}  // namespace tenfold
