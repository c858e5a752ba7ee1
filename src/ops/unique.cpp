// The distinct elements of a tensor, or its distinct slices along `axis`. Outputs: the values; the position of each
// one's first occurrence; for each input element or slice, which value it is; how often each value occurs. Attributes:
// axis (absent: elements of the flattened input), sorted (ascending; 0: in order of first occurrence). NaN comes after
// all numbers and equals itself. Source: ONNX operator set 11, Unique.
#include <numeric>

#include "ops/elementwise.hpp"
#include "ops/movement.hpp"

namespace tenfold {
namespace {

class Unique final : public Op {
 public:
  Unique(std::optional<std::int64_t> axis, bool sorted) : axis_(axis), sorted_(sorted) {}
  std::string_view type() const override { return "Unique"; }
  Attributes attributes() const override {
    Attributes attributes{{"sorted", std::int64_t{sorted_}}};
    if (axis_) attributes.set("axis", *axis_);
    return attributes;
  }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 4);
    check_types(context, 0, Types::any);
    const TensorType x = context.input(0);
    const Dim items = axis_ ? x.dims[static_cast<std::size_t>(check_axis(*axis_, x.rank()))] : x.num_elements();
    // All outputs that list values are equally long: they share one symbol.
    std::optional<Dim> distinct;
    for (int i = 0; i < context.num_outputs(); ++i) {
      if (!context.wants_output(i)) continue;
      if (i == 2) {
        context.set_output(i, {DType::int64, {items}});
        continue;
      }
      if (!distinct) distinct = context.fresh(i, i == 0 && axis_ ? check_axis(*axis_, x.rank()) : 0, items);
      TensorType y{DType::int64, {*distinct}};
      if (i == 0) {
        y.dtype = x.dtype;
        if (axis_) {
          y.dims = x.dims;
          y.dims[static_cast<std::size_t>(check_axis(*axis_, x.rank()))] = *distinct;
        }
      }
      context.set_output(i, std::move(y));
    }
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    Shape dims{x.num_elements()};
    std::size_t axis = 0;
    if (axis_) {
      axis = static_cast<std::size_t>(check_axis(*axis_, x.rank()));
      dims.assign(x.dims.begin(), x.dims.end());
    }
    const std::int64_t items = dims[axis];
    const std::int64_t outer = product_of(dims, 0, axis);
    const std::int64_t inner = product_of(dims, axis + 1, dims.size());

    dispatch(x.dtype, [&]<typename T>() {
      const T* data = x.as<const T>();
      // -1, 0, 1 as slice a comes before, equals or comes after slice b.
      const auto compare = [&](std::int64_t a, std::int64_t b) {
        for (std::int64_t o = 0; o < outer; ++o) {
          for (std::int64_t i = 0; i < inner; ++i) {
            const auto left = static_cast<ComputeType<T>>(data[(o * items + a) * inner + i]);
            const auto right = static_cast<ComputeType<T>>(data[(o * items + b) * inner + i]);
            const bool left_is_nan = left != left;     // NOLINT(misc-redundant-expression)
            const bool right_is_nan = right != right;  // NOLINT(misc-redundant-expression)
            if (left < right || (right_is_nan && !left_is_nan)) return -1;
            if (right < left || (left_is_nan && !right_is_nan)) return 1;
          }
        }
        return 0;
      };
      std::vector<std::int64_t> order(static_cast<std::size_t>(items));
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return compare(a, b) < 0; });

      // Equal items stand together, the first occurrence in front.
      std::vector<std::int64_t> firsts;
      std::vector<std::int64_t> counts;
      std::vector<std::int64_t> group_of(order.size());
      for (std::size_t i = 0; i < order.size(); ++i) {
        if (i == 0 || compare(order[i - 1], order[i]) != 0) {
          firsts.push_back(order[i]);
          counts.push_back(0);
        }
        ++counts.back();
        group_of[static_cast<std::size_t>(order[i])] = static_cast<std::int64_t>(firsts.size()) - 1;
      }
      if (!sorted_) {
        std::vector<std::size_t> by_occurrence(firsts.size());
        std::iota(by_occurrence.begin(), by_occurrence.end(), std::size_t{0});
        std::sort(by_occurrence.begin(), by_occurrence.end(),
                  [&](std::size_t a, std::size_t b) { return firsts[a] < firsts[b]; });
        std::vector<std::int64_t> rank(firsts.size());
        std::vector<std::int64_t> new_firsts;
        std::vector<std::int64_t> new_counts;
        for (std::size_t i = 0; i < by_occurrence.size(); ++i) {
          rank[by_occurrence[i]] = static_cast<std::int64_t>(i);
          new_firsts.push_back(firsts[by_occurrence[i]]);
          new_counts.push_back(counts[by_occurrence[i]]);
        }
        for (std::int64_t& group : group_of) group = rank[static_cast<std::size_t>(group)];
        firsts = std::move(new_firsts);
        counts = std::move(new_counts);
      }

      const auto distinct = static_cast<std::int64_t>(firsts.size());
      if (context.wants_output(0)) {
        dims[axis] = distinct;
        T* out = context.resize_output(0, dims).as<T>();
        for (std::int64_t o = 0; o < outer; ++o) {
          for (const std::int64_t item : firsts) out = std::copy_n(data + (o * items + item) * inner, inner, out);
        }
      }
      const auto write = [&](int output, const std::vector<std::int64_t>& values) {
        if (!context.wants_output(output)) return;
        const TensorView& y = context.resize_output(output, {static_cast<std::int64_t>(values.size())});
        std::copy(values.begin(), values.end(), y.as<std::int64_t>());
      };
      write(1, firsts);
      write(2, group_of);
      write(3, counts);
    });
  }
  bool sets_output_shape() const override { return true; }

 private:
  std::optional<std::int64_t> axis_;
  bool sorted_;
};

OpPtr make_unique_op(const Attributes& attributes) {
  std::optional<std::int64_t> axis;
  if (attributes.has("axis")) axis = attributes.get_int("axis");
  return std::make_shared<const Unique>(axis, attributes.get_int("sorted", 1) != 0);
}

}  // namespace

const OpDef kUniqueDef{"Unique", make_unique_op, import_plain};

}  // namespace tenfold
