// Writing by index into a copy of the data, optionally combined with what is there. Negative indices count from the
// end; one outside the axis is an error.
//   ScatterElements:  y[i, indices[i, j, k], k] = updates[i, j, k]        attributes axis (here 1), reduction
//   ScatterND:        y[indices[i.., :], ..] = updates[i.., ..]           attribute reduction
// reduction: none, add, mul, max, min; updates are applied in row-major order.
// Source: ONNX operator sets 9 to 18, Scatter, ScatterElements, ScatterND.
#include "ops/elementwise.hpp"
#include "ops/indexing.hpp"
#include "ops/movement.hpp"

namespace tenfold {
namespace {

enum class Reduction { none, add, mul, max, min };
constexpr std::string_view kReductionNames[] = {"none", "add", "mul", "max", "min"};

Reduction reduction_from(const Attributes& attributes) {
  const std::string name = attributes.get_string("reduction", "none");
  for (int i = 0; i < 5; ++i) {
    if (name == kReductionNames[i]) return static_cast<Reduction>(i);
  }
  throw Error(Code::invalid_model, fmt::format("reduction must be none, add, mul, max or min, got '{}'", name));
}
std::string reduction_name(Reduction reduction) { return std::string(kReductionNames[static_cast<int>(reduction)]); }

/// Calls f(combine), where combine(old, update) gives the new element.
template <typename T, typename F>
void with_combination(Reduction reduction, F&& f) {
  const auto arithmetic = [&](auto formula) {
    f([formula](const T& old, const T& update) {
      if constexpr (std::is_same_v<T, bool>) {
        return static_cast<bool>(formula(static_cast<int>(old), static_cast<int>(update)));
      } else if constexpr (std::is_integral_v<T>) {
        // Unsigned arithmetic wraps.
        return static_cast<T>(formula(static_cast<std::uint64_t>(old), static_cast<std::uint64_t>(update)));
      } else {
        return static_cast<T>(formula(static_cast<ComputeType<T>>(old), static_cast<ComputeType<T>>(update)));
      }
    });
  };
  const auto choice = [&](auto takes_update) {
    f([takes_update](const T& old, const T& update) {
      return takes_update(static_cast<ComputeType<T>>(old), static_cast<ComputeType<T>>(update)) ? update : old;
    });
  };
  switch (reduction) {
    case Reduction::none:
      return f([](const T&, const T& update) { return update; });
    case Reduction::add:
      return arithmetic([](auto a, auto b) { return a + b; });
    case Reduction::mul:
      return arithmetic([](auto a, auto b) { return a * b; });
    case Reduction::max:
      return choice([](auto old, auto update) { return update > old || update != update; });
    case Reduction::min:
      return choice([](auto old, auto update) { return update < old || update != update; });
  }
}

void check_data_and_updates(InferContext& context) {
  check_num_inputs(context, 3, 3);
  check_num_outputs(context, 1, 1);
  check_types(context, 0, Types::any);
  check_index_type(context, 1);
  check_same_dtype(context, 2, "updates");
}

/// Elements of data and updates when the output's can be told as well.
struct KnownScatter {
  std::vector<Dim> data, updates;
  std::vector<std::int64_t> indices;
};
std::optional<KnownScatter> known_scatter(InferContext& context, Reduction reduction) {
  const auto data = context.integers(0);
  const auto updates = context.integers(2);
  const auto indices = constant_integers(context, 1);
  if (!data || !updates || !indices || reduction != Reduction::none) return std::nullopt;
  for (int i = 0; i < 3; ++i) {
    if (!context.input(i).is_static()) return std::nullopt;
  }
  return KnownScatter{*data, *updates, *indices};
}

void copy_data(EvalContext& context) {
  const TensorView& x = context.input(0);
  check_output(context, 0, x.dims);
  dispatch_bits(x.dtype,
                [&]<typename T>() { std::copy_n(x.as<const T>(), x.num_elements(), context.output(0).as<T>()); });
}

class ScatterElements final : public Op {
 public:
  ScatterElements(std::int64_t axis, Reduction reduction) : axis_(axis), reduction_(reduction) {}
  std::string_view type() const override { return "ScatterElements"; }
  Attributes attributes() const override { return {{"axis", axis_}, {"reduction", reduction_name(reduction_)}}; }
  void infer(InferContext& context) const override {
    check_data_and_updates(context);
    const TensorType x = context.input(0);
    const auto axis = static_cast<std::size_t>(check_axis(axis_, x.rank()));
    check_rank(context, 1, x.rank(), "the tensor of indices");
    check_rank(context, 2, x.rank(), "updates");
    for (std::size_t i = 0; i < x.dims.size(); ++i) {
      check_dim(context.input(2).dims[i], context.input(1).dims[i], "a dimension of the updates");
    }
    context.set_output(0, x);
    auto known = known_scatter(context, reduction_);
    if (!known) return;
    const Shape data = x.static_shape();
    const Shape places = context.input(1).static_shape();
    check_element_indices(data, places, axis);
    normalize_indices(known->indices, data[axis], Code::invalid_model);
    for_each_element_index(data, places, axis, known->indices, [&](std::int64_t i, std::int64_t at) {
      known->data[static_cast<std::size_t>(at)] = known->updates[static_cast<std::size_t>(i)];
    });
    pass_integers(context, 0, std::move(known->data));
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const TensorView& places = context.input(1);
    const TensorView& updates = context.input(2);
    const auto axis = static_cast<std::size_t>(check_axis(axis_, x.rank()));
    check_element_indices(x.dims, places.dims, axis);
    require(std::equal(places.dims.begin(), places.dims.end(), updates.dims.begin(), updates.dims.end()),
            Code::invalid_argument, "indices and updates differ in shape");
    std::vector<std::int64_t> indices = read_integers(places);
    normalize_indices(indices, x.dims[axis], Code::invalid_argument);
    copy_data(context);
    if (indices.empty()) return;
    dispatch(x.dtype, [&]<typename T>() {
      T* out = context.output(0).as<T>();
      const T* from = updates.as<const T>();
      with_combination<T>(reduction_, [&](auto combine) {
        for_each_element_index(x.dims, places.dims, axis, indices,
                               [&](std::int64_t i, std::int64_t at) { out[at] = combine(out[at], from[i]); });
      });
    });
  }

 private:
  std::int64_t axis_;
  Reduction reduction_;
};

class ScatterND final : public Op {
 public:
  explicit ScatterND(Reduction reduction) : reduction_(reduction) {}
  std::string_view type() const override { return "ScatterND"; }
  Attributes attributes() const override { return {{"reduction", reduction_name(reduction_)}}; }
  void infer(InferContext& context) const override {
    check_data_and_updates(context);
    const TensorType x = context.input(0);
    const TensorType& places = context.input(1);
    require(places.rank() >= 1, Code::invalid_model, "indices need rank 1 or more");
    const Dim& depth = places.dims.back();
    require(depth.is_constant(), Code::unsupported, "the length {} of an index is not known", depth.to_string());
    require(0 <= depth.constant() && depth.constant() <= x.rank(), Code::invalid_model,
            "an index of {} numbers does not fit data of rank {}", depth.constant(), x.rank());
    std::vector<Dim> expected(places.dims.begin(), places.dims.end() - 1);
    expected.insert(expected.end(), x.dims.begin() + depth.constant(), x.dims.end());
    check_rank(context, 2, static_cast<int>(expected.size()), "updates");
    for (std::size_t i = 0; i < expected.size(); ++i) {
      check_dim(context.input(2).dims[i], expected[i], "a dimension of the updates");
    }
    context.set_output(0, x);
    auto known = known_scatter(context, reduction_);
    if (!known) return;
    scatter<Dim>(
        x.static_shape(), places.static_shape(), known->indices, known->updates.data(),
        [](const Dim&, const Dim& update) { return update; }, known->data.data());
    pass_integers(context, 0, std::move(known->data));
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const TensorView& places = context.input(1);
    const TensorView& updates = context.input(2);
    const auto depth = static_cast<std::ptrdiff_t>(places.dims.back());
    require(depth <= x.rank(), Code::invalid_argument, "an index of {} numbers does not fit data of rank {}", depth,
            x.rank());
    Shape expected(places.dims.begin(), places.dims.end() - 1);
    expected.insert(expected.end(), x.dims.begin() + depth, x.dims.end());
    require(std::equal(expected.begin(), expected.end(), updates.dims.begin(), updates.dims.end()),
            Code::invalid_argument, "updates have shape [{}] instead of {}", fmt::join(updates.dims, ", "),
            to_string(expected));
    copy_data(context);
    if (updates.num_elements() == 0) return;
    const std::vector<std::int64_t> indices = read_integers(places);
    dispatch(x.dtype, [&]<typename T>() {
      with_combination<T>(reduction_, [&](auto combine) {
        scatter<T>(x.dims, places.dims, indices, updates.as<const T>(), combine, context.output(0).as<T>());
      });
    });
  }

 private:
  template <typename T, typename F>
  static void scatter(std::span<const std::int64_t> data, std::span<const std::int64_t> places,
                      const std::vector<std::int64_t>& indices, const T* updates, const F& combine, T* out) {
    const auto depth = static_cast<std::size_t>(places.back());
    const std::int64_t inner = product_of(data, depth, data.size());
    // An index of no numbers means the whole tensor.
    const auto count = static_cast<std::size_t>(product_of(places, 0, places.size() - 1));
    const std::vector<std::int64_t> offsets =
        depth == 0 ? std::vector<std::int64_t>(count, 0) : nd_offsets(data, indices, 0, depth);
    for (const std::int64_t offset : offsets) {
      for (std::int64_t i = 0; i < inner; ++i) out[offset + i] = combine(out[offset + i], *updates++);
    }
  }
  Reduction reduction_;
};

OpPtr make_scatter_elements(const Attributes& attributes) {
  return std::make_shared<const ScatterElements>(attributes.get_int("axis", 0), reduction_from(attributes));
}
OpPtr make_scatter_nd(const Attributes& attributes) {
  return std::make_shared<const ScatterND>(reduction_from(attributes));
}
/// Its name until operator set 10.
void import_scatter(ImportNode& node) {
  node.set_output(0, node.add(make_scatter_elements(node.attributes()), node.inputs()));
}

}  // namespace

const OpDef kScatterDef{"Scatter", nullptr, import_scatter};
const OpDef kScatterElementsDef{"ScatterElements", make_scatter_elements, import_plain};
const OpDef kScatterNDDef{"ScatterND", make_scatter_nd, import_plain};

}  // namespace tenfold
