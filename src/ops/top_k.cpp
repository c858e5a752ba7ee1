// The k largest or smallest elements along an axis, with their positions. Inputs: x, k (one int64). Attributes: axis,
// largest, sorted. Of equal elements the one with the lower position comes first; NaN counts as the largest number.
// The result is sorted even when `sorted` is 0, which allows any order.
// Source: ONNX operator sets 1 to 24, TopK. Before opset 10 k is an attribute; import makes a constant of it.
#include <numeric>

#include "ops/elementwise.hpp"
#include "ops/movement.hpp"

namespace tenfold {
namespace {

class TopK final : public Op {
 public:
  TopK(std::int64_t axis, bool largest, bool sorted) : axis_(axis), largest_(largest), sorted_(sorted) {}
  std::string_view type() const override { return "TopK"; }
  Attributes attributes() const override {
    return {{"axis", axis_}, {"largest", std::int64_t{largest_}}, {"sorted", std::int64_t{sorted_}}};
  }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 2, 2);
    check_num_outputs(context, 1, 2);
    check_types(context, 0, Types::numbers);
    check_dtype(context, 1, DType::int64, "k");
    require(!surely_differ(context.input(1).num_elements(), Dim(1)), Code::invalid_model,
            "k must be one number, got {}", to_string(context.input(1)));
    const TensorType x = context.input(0);
    const int axis = check_axis(axis_, x.rank());
    const auto a = static_cast<std::size_t>(axis);
    const auto known = known_integers(context, 1);
    for (int i = 0; i < 2; ++i) {
      if (!context.wants_output(i)) continue;
      TensorType y{i == 0 ? x.dtype : DType::int64, x.dims};
      if (known && known->size() == 1) {
        y.dims[a] = check_not_negative(known->front(), "k");
        require(!is_less(x.dims[a], y.dims[a]).value_or(false), Code::invalid_model,
                "k is {}, but axis {} of {} is shorter", y.dims[a].to_string(), axis, to_string(x));
      } else if (i == 1 && context.wants_output(0)) {
        y.dims[a] = context.fresh(0, axis, x.dims[a]);  // as many positions as elements
      } else {
        y.dims[a] = context.fresh(i, axis, x.dims[a]);
      }
      context.set_output(i, std::move(y));
    }
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const auto axis = static_cast<std::size_t>(check_axis(axis_, x.rank()));
    const std::vector<std::int64_t> wanted = read_integers(context.input(1));
    const std::int64_t length = x.dims[axis];
    require(wanted.size() == 1 && wanted[0] >= 0 && wanted[0] <= length, Code::invalid_argument,
            "k is {}, but axis {} has {} elements", to_string(wanted), axis, length);
    const std::int64_t k = wanted[0];
    Shape dims(x.dims.begin(), x.dims.end());
    dims[axis] = k;
    for (int i = 0; i < context.num_outputs(); ++i) {
      if (context.wants_output(i)) check_output(context, i, dims);
    }
    const std::int64_t outer = product_of(x.dims, 0, axis);
    const std::int64_t inner = product_of(x.dims, axis + 1, x.dims.size());
    std::vector<std::int64_t> order(static_cast<std::size_t>(length));
    dispatch(x.dtype, [&]<typename T>() {
      using Compute = ComputeType<T>;
      std::vector<Compute> line(static_cast<std::size_t>(length));
      const T* data = x.as<const T>();
      T* values = context.wants_output(0) ? context.output(0).as<T>() : nullptr;
      std::int64_t* positions = context.wants_output(1) ? context.output(1).as<std::int64_t>() : nullptr;
      // A strict order, NaN above all numbers, so that any sorting algorithm gives the same answer.
      const auto less = [](Compute a, Compute b) { return a < b || (b != b && a == a); };  // NOLINT
      const auto before = [&](std::int64_t a, std::int64_t b) {
        const Compute left = line[static_cast<std::size_t>(a)];
        const Compute right = line[static_cast<std::size_t>(b)];
        if (less(left, right)) return !largest_;
        if (less(right, left)) return largest_;
        return a < b;
      };
      for (std::int64_t o = 0; o < outer; ++o) {
        for (std::int64_t i = 0; i < inner; ++i) {
          for (std::int64_t j = 0; j < length; ++j) {
            line[static_cast<std::size_t>(j)] = static_cast<Compute>(data[(o * length + j) * inner + i]);
          }
          std::iota(order.begin(), order.end(), 0);
          std::partial_sort(order.begin(), order.begin() + k, order.end(), before);
          for (std::int64_t j = 0; j < k; ++j) {
            const std::int64_t at = order[static_cast<std::size_t>(j)];
            const std::int64_t to = (o * k + j) * inner + i;
            if (values != nullptr) values[to] = data[(o * length + at) * inner + i];
            if (positions != nullptr) positions[to] = at;
          }
        }
      }
    });
  }
  std::vector<int> shape_inputs() const override { return {1}; }

 private:
  std::int64_t axis_;
  bool largest_;
  bool sorted_;
};

OpPtr make_top_k(const Attributes& attributes) {
  return std::make_shared<const TopK>(attributes.get_int("axis", -1), attributes.get_int("largest", 1) != 0,
                                      attributes.get_int("sorted", 1) != 0);
}

void import_top_k(ImportNode& node) {
  std::vector<ValueId> inputs = node.inputs();
  if (node.opset() < 10) {
    const std::int64_t k = node.attributes().get_int("k");
    inputs.push_back(node.constant(Tensor::of_int64({1}, std::span(&k, 1))));
  }
  const ValueId first = node.add(make_top_k(node.attributes()), std::move(inputs), node.num_outputs());
  for (int i = 0; i < node.num_outputs(); ++i) {
    if (node.wants_output(i)) node.set_output(i, first + i);
  }
}

}  // namespace

const OpDef kTopKDef{"TopK", make_top_k, import_top_k};

}  // namespace tenfold
