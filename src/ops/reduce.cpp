// Reductions. Floating-point sums are accumulated in double, integer ones wrap around in 64 bits.
//   ReduceL1 sum |x|     ReduceL2 sqrt(sum x^2)     ReduceLogSum log(sum x)     ReduceLogSumExp log(sum exp x)
//   ReduceMax  ReduceMean  ReduceMin  ReduceProd  ReduceSum  ReduceSumSquare sum x^2
// Of no elements: 0, product 1, mean NaN, and the type's lowest and highest value for max and min.
// Source: ONNX operator sets 1 to 20, the operators of these names. Axes became an input in 13 (ReduceSum) and 18.
#include "ops/reduce.hpp"

#include <cmath>
#include <limits>

#include "ops/elementwise.hpp"
#include "ops/movement.hpp"

namespace tenfold {
namespace {

constexpr std::string_view kNames[] = {"ReduceL1",   "ReduceL2",  "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
                                       "ReduceMean", "ReduceMin", "ReduceProd",   "ReduceSum",       "ReduceSumSquare"};

/// Calls f(in_offset, out_offset, out_stride, count) for runs of consecutive input elements: the j-th goes to the
/// output element out_offset + j * out_stride, and the stride is 0 or 1.
template <typename F>
void for_each_input_run(std::span<const std::int64_t> dims, const std::vector<bool>& reduced, F&& f) {
  // Neighbouring axes that are both reduced, or both kept, act as one.
  Shape sizes;
  std::vector<bool> gone;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0) return;
    if (dims[i] == 1) continue;
    if (!gone.empty() && gone.back() == reduced[i]) {
      sizes.back() *= dims[i];
    } else {
      sizes.push_back(dims[i]);
      gone.push_back(reduced[i]);
    }
  }
  std::vector<Shape> strides(1, Shape(sizes.size(), 0));
  std::int64_t stride = 1;
  for (std::size_t i = sizes.size(); i-- > 0;) {
    if (gone[i]) continue;
    strides[0][i] = stride;
    stride *= sizes[i];
  }
  std::int64_t count = 1;
  std::int64_t inner = 0;
  if (!sizes.empty()) {
    count = sizes.back();
    inner = strides[0].back();
    sizes.pop_back();
    strides[0].pop_back();
  }
  std::int64_t in = 0;
  for_each_index(sizes, strides, [&](std::span<const std::int64_t> at) {
    f(in, at[0], inner, count);
    in += count;
  });
}

/// total[out] = combine(total[out], x) over all elements.
template <typename T, typename Total, typename F>
void accumulate(const TensorView& x, const std::vector<bool>& reduced, std::vector<Total>& totals, F combine) {
  const T* data = x.as<const T>();
  for_each_input_run(x.dims, reduced, [&](std::int64_t in, std::int64_t out, std::int64_t stride, std::int64_t count) {
    const T* from = data + in;
    Total* to = totals.data() + out;
    if (stride == 0) {
      Total total = *to;
      for (std::int64_t i = 0; i < count; ++i) total = combine(total, static_cast<Total>(from[i]));
      *to = total;
    } else {
      for (std::int64_t i = 0; i < count; ++i) to[i] = combine(to[i], static_cast<Total>(from[i]));
    }
  });
}

template <typename T>
T float_from(double value) {
  if constexpr (std::is_same_v<T, double>) {
    return value;
  } else {
    return static_cast<T>(static_cast<float>(value));
  }
}

template <typename T>
void reduce_float(ReduceKind kind, const TensorView& x, const std::vector<bool>& reduced, const TensorView& y) {
  const auto size = static_cast<std::size_t>(y.num_elements());
  const double infinity = std::numeric_limits<double>::infinity();
  const double start = kind == ReduceKind::prod  ? 1
                       : kind == ReduceKind::max ? -infinity
                       : kind == ReduceKind::min ? infinity
                                                 : 0;
  std::vector<double> totals(size, start);
  const auto run = [&](auto combine) { accumulate<T>(x, reduced, totals, combine); };
  const auto finish = [&](auto f) {
    T* out = y.as<T>();
    for (std::size_t i = 0; i < size; ++i) out[i] = float_from<T>(f(totals[i], i));
  };
  const auto as_is = [](double total, std::size_t) { return total; };
  switch (kind) {
    case ReduceKind::sum:
      run([](double a, double v) { return a + v; });
      return finish(as_is);
    case ReduceKind::mean: {
      run([](double a, double v) { return a + v; });
      const double count = size == 0 ? 1 : static_cast<double>(x.num_elements()) / static_cast<double>(size);
      return finish([count](double total, std::size_t) { return total / count; });
    }
    case ReduceKind::l1:
      run([](double a, double v) { return a + std::fabs(v); });
      return finish(as_is);
    case ReduceKind::sum_square:
      run([](double a, double v) { return a + v * v; });
      return finish(as_is);
    case ReduceKind::l2:
      run([](double a, double v) { return a + v * v; });
      return finish([](double total, std::size_t) { return std::sqrt(total); });
    case ReduceKind::log_sum:
      run([](double a, double v) { return a + v; });
      return finish([](double total, std::size_t) { return std::log(total); });
    case ReduceKind::prod:
      run([](double a, double v) { return a * v; });
      return finish(as_is);
    case ReduceKind::max:
      run([](double a, double v) { return v > a || std::isnan(v) ? v : a; });
      return finish(as_is);
    case ReduceKind::min:
      run([](double a, double v) { return v < a || std::isnan(v) ? v : a; });
      return finish(as_is);
    case ReduceKind::log_sum_exp: {
      // exp(x - max) cannot overflow. Where the maximum is infinite it is the answer.
      std::vector<double> highest(size, -infinity);
      accumulate<T>(x, reduced, highest, [](double a, double v) { return v > a || std::isnan(v) ? v : a; });
      const T* data = x.as<const T>();
      for_each_input_run(x.dims, reduced,
                         [&](std::int64_t in, std::int64_t out, std::int64_t stride, std::int64_t count) {
                           for (std::int64_t i = 0; i < count; ++i) {
                             const auto at = static_cast<std::size_t>(out + i * stride);
                             totals[at] += std::exp(static_cast<double>(data[in + i]) - highest[at]);
                           }
                         });
      return finish([&](double total, std::size_t i) {
        return std::isinf(highest[i]) ? highest[i] : highest[i] + std::log(total);
      });
    }
  }
}

template <typename T>
void reduce_integer(ReduceKind kind, const TensorView& x, const std::vector<bool>& reduced, const TensorView& y) {
  // Totals are as wide as they can be and as signed as T.
  using Total = std::conditional_t<std::is_same_v<T, std::uint64_t>, std::uint64_t, std::int64_t>;
  using Wrapping = std::uint64_t;
  const auto size = static_cast<std::size_t>(y.num_elements());
  Total start = 0;
  if (kind == ReduceKind::prod) start = 1;
  if (kind == ReduceKind::max) start = static_cast<Total>(std::numeric_limits<T>::lowest());
  if (kind == ReduceKind::min) start = static_cast<Total>(std::numeric_limits<T>::max());
  std::vector<Total> totals(size, start);
  const auto run = [&](auto combine) { accumulate<T>(x, reduced, totals, combine); };
  const auto sum = [](Total a, Total v) {
    return static_cast<Total>(static_cast<Wrapping>(a) + static_cast<Wrapping>(v));
  };
  const auto product = [](Total a, Total b) {
    return static_cast<Total>(static_cast<Wrapping>(a) * static_cast<Wrapping>(b));
  };
  switch (kind) {
    case ReduceKind::sum:
    case ReduceKind::mean:
      run(sum);
      break;
    case ReduceKind::l1:
      run([&](Total a, Total v) { return v < 0 ? sum(a, product(v, static_cast<Total>(-1))) : sum(a, v); });
      break;
    case ReduceKind::l2:
    case ReduceKind::sum_square:
      run([&](Total a, Total v) { return sum(a, product(v, v)); });
      break;
    case ReduceKind::prod:
      run(product);
      break;
    case ReduceKind::max:
      run([](Total a, Total v) { return std::max(a, v); });
      break;
    case ReduceKind::min:
      run([](Total a, Total v) { return std::min(a, v); });
      break;
    case ReduceKind::log_sum:
    case ReduceKind::log_sum_exp:
      throw Error(Code::internal, "logarithms of integers");
  }
  const std::int64_t count = size == 0 ? 0 : x.num_elements() / static_cast<std::int64_t>(size);
  T* out = y.as<T>();
  for (std::size_t i = 0; i < size; ++i) {
    Total total = totals[i];
    if (kind == ReduceKind::mean) total = count == 0 ? 0 : total / static_cast<Total>(count);
    if (kind == ReduceKind::l2) total = static_cast<Total>(std::sqrt(static_cast<double>(total)));
    out[i] = static_cast<T>(total);
  }
}

template <ReduceKind kKind>
OpPtr make_reduce(const Attributes& attributes) {
  return std::make_shared<const Reduce>(kKind, attributes.get_ints("axes", {}), attributes.get_int("keepdims", 1) != 0);
}

/// What a reduction over no axis at all does to each element.
ValueId import_without_axes(ImportNode& node, ReduceKind kind) {
  const ValueId x = node.input(0);
  const auto square = [&] { return node.add(make_op("Mul"), {x, x}); };
  switch (kind) {
    case ReduceKind::l1:
    case ReduceKind::l2:
      return node.add(make_op("Abs"), {x});
    case ReduceKind::log_sum:
      return node.add(make_op("Log"), {x});
    case ReduceKind::sum_square:
      return square();
    default:
      return x;
  }
}

template <ReduceKind kKind>
void import_reduce(ImportNode& node) {
  require(node.has_input(0), Code::invalid_model, "input 0 is missing");
  const int rank = node.graph().value(node.input(0)).type.rank();
  std::vector<std::int64_t> axes;
  if (node.has_input(1)) {
    axes = require_integers(node, 1, "axes");
  } else {
    axes = node.attributes().get_ints("axes", {});
  }
  if (axes.empty() && node.attributes().get_int("noop_with_empty_axes", 0) != 0) {
    node.set_output(0, import_without_axes(node, kKind));
    return;
  }
  if (axes.empty()) {
    for (int i = 0; i < rank; ++i) axes.push_back(i);
  }
  for (std::int64_t& axis : axes) axis = check_axis(axis, rank);
  std::sort(axes.begin(), axes.end());
  const bool keep = node.attributes().get_int("keepdims", 1) != 0;
  node.set_output(0, node.add(std::make_shared<const Reduce>(kKind, std::move(axes), keep), {node.input(0)}));
}

}  // namespace

std::string_view Reduce::type() const { return kNames[static_cast<int>(kind_)]; }

std::vector<bool> Reduce::reduced_axes(int rank) const {
  std::vector<bool> reduced(static_cast<std::size_t>(rank), axes_.empty());
  for (const std::int64_t axis : axes_) {
    auto place = reduced.begin() + check_axis(axis, rank);
    require(!*place, Code::invalid_model, "axes {} name an axis twice", to_string(axes_));
    *place = true;
  }
  return reduced;
}

void Reduce::infer(InferContext& context) const {
  check_num_inputs(context, 1, 1);
  check_num_outputs(context, 1, 1);
  const TensorType x = context.input(0);
  const bool extreme = kind_ == ReduceKind::max || kind_ == ReduceKind::min;
  const bool logarithm = kind_ == ReduceKind::log_sum || kind_ == ReduceKind::log_sum_exp;
  if (!(extreme && x.dtype == DType::boolean)) check_types(context, 0, logarithm ? Types::floats : Types::numbers);
  const std::vector<bool> reduced = reduced_axes(x.rank());
  TensorType y{x.dtype, {}};
  for (std::size_t i = 0; i < reduced.size(); ++i) {
    if (!reduced[i]) {
      y.dims.push_back(x.dims[i]);
    } else if (keep_dims_) {
      y.dims.emplace_back(1);
    }
  }
  context.set_output(0, y);

  // Products and sums of sizes.
  const auto elements = context.integers(0);
  if (!elements || elements->empty() || !x.is_static() || !y.is_static()) return;
  std::vector<std::optional<Dim>> totals(static_cast<std::size_t>(num_elements(y.static_shape())));
  const auto combine = [&](const Dim& a, const Dim& b) -> std::optional<Dim> {
    switch (kind_) {
      case ReduceKind::sum:
        return a + b;
      case ReduceKind::prod:
        return a * b;
      case ReduceKind::max:
        return Dim::max(a, b);
      case ReduceKind::min:
        return Dim::min(a, b);
      default:
        return std::nullopt;
    }
  };
  bool known = true;
  for_each_input_run(x.static_shape(), reduced,
                     [&](std::int64_t in, std::int64_t out, std::int64_t stride, std::int64_t count) {
                       for (std::int64_t i = 0; known && i < count; ++i) {
                         std::optional<Dim>& total = totals[static_cast<std::size_t>(out + i * stride)];
                         const Dim& element = (*elements)[static_cast<std::size_t>(in + i)];
                         total = total ? combine(*total, element) : combine(element, element) ? element : total;
                         known = total.has_value();
                       }
                     });
  if (!known) return;
  std::vector<Dim> result;
  for (std::optional<Dim>& total : totals) result.push_back(std::move(*total));
  pass_integers(context, 0, std::move(result));
}

void Reduce::evaluate(EvalContext& context) const {
  const TensorView& x = context.input(0);
  const TensorView& y = context.output(0);
  const std::vector<bool> reduced = reduced_axes(x.rank());
  Shape dims;
  for (std::size_t i = 0; i < reduced.size(); ++i) {
    if (!reduced[i] || keep_dims_) dims.push_back(reduced[i] ? 1 : x.dims[i]);
  }
  check_output(context, 0, dims);
  dispatch(x.dtype, [&]<typename T>() {
    if constexpr (std::is_integral_v<T>) {
      reduce_integer<T>(kind_, x, reduced, y);
    } else {
      reduce_float<T>(kind_, x, reduced, y);
    }
  });
}

double Reduce::flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const {
  (void)outputs;
  return inputs.empty() ? 0 : count_elements(inputs[0]);
}

#define TENFOLD_REDUCE(name, kind) \
  const OpDef k##name##Def{#name, make_reduce<ReduceKind::kind>, import_reduce<ReduceKind::kind>};
TENFOLD_REDUCE(ReduceL1, l1)
TENFOLD_REDUCE(ReduceL2, l2)
TENFOLD_REDUCE(ReduceLogSum, log_sum)
TENFOLD_REDUCE(ReduceLogSumExp, log_sum_exp)
TENFOLD_REDUCE(ReduceMax, max)
TENFOLD_REDUCE(ReduceMean, mean)
TENFOLD_REDUCE(ReduceMin, min)
TENFOLD_REDUCE(ReduceProd, prod)
TENFOLD_REDUCE(ReduceSum, sum)
TENFOLD_REDUCE(ReduceSumSquare, sum_square)
#undef TENFOLD_REDUCE

}  // namespace tenfold
