// Repetition: Expand broadcasts to a shape, Tile repeats whole copies along each axis.
// Expand has input x and either the attribute `dims`, the result's shape as expressions, or a second input shape, which
// is broadcast with x's. Tile has inputs x and repeats. Source: ONNX operator sets 6 to 13, Expand and Tile.
#include "ops/elementwise.hpp"
#include "ops/movement.hpp"

namespace tenfold {
namespace {

class Expand final : public Op {
 public:
  explicit Expand(std::optional<std::vector<Dim>> dims) : dims_(std::move(dims)) {}
  std::string_view type() const override { return "Expand"; }
  Attributes attributes() const override {
    Attributes attributes;
    if (dims_) set_dims(attributes, "dims", *dims_);
    return attributes;
  }
  void infer(InferContext& context) const override {
    check_num_inputs(context, dims_ ? 1 : 2, dims_ ? 1 : 2);
    check_num_outputs(context, 1, 1);
    TensorType y = context.input(0);
    if (dims_) {
      check_broadcasts_to(y.dims, *dims_, "the input");
      y.dims = *dims_;
    } else {
      check_rank(context, 1, 1, "the shape");
      if (const auto shape = known_integers(context, 1)) {
        require(shape->size() <= kMaxRank, Code::unsupported, "rank {} is more than {}", shape->size(), kMaxRank);
        for (const Dim& dim : *shape) check_not_negative(dim, "an entry of the shape");
        y.dims = broadcast_dims(y.dims, *shape);
      } else {
        const Dim& length = context.input(1).dims[0];
        require(length.is_constant() && length.constant() <= kMaxRank, Code::unsupported,
                "the result's rank {} is not known or larger than {}", length.to_string(), kMaxRank);
        const int rank = std::max(y.rank(), static_cast<int>(length.constant()));
        y.dims.clear();
        for (int axis = 0; axis < rank; ++axis) y.dims.push_back(context.fresh(0, axis));
      }
    }
    context.set_output(0, y);
    pass_moved_integers(context, y, [&](const Dim* from, Dim* to) {
      const Shape dims = y.static_shape();
      copy_strided<Dim>(dims, from, broadcast_strides(context.input(0).static_shape(), dims), to, strides_of(dims));
    });
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const TensorView& y = context.output(0);
    const Shape strides = broadcast_strides(x.dims, y.dims);
    dispatch_bits(x.dtype, [&]<typename T>() {
      copy_strided<T>(y.dims, x.as<const T>(), strides, y.as<T>(), strides_of(y.dims));
    });
  }
  std::vector<int> shape_inputs() const override { return dims_ ? std::vector<int>{} : std::vector<int>{1}; }

 private:
  std::optional<std::vector<Dim>> dims_;
};

OpPtr make_expand(const Attributes& attributes) {
  std::optional<std::vector<Dim>> dims;
  if (attributes.has("dims")) {
    dims = get_dims(attributes, "dims");
    for (const Dim& dim : *dims) check_not_negative(dim, "an entry of dims");
  }
  return std::make_shared<const Expand>(std::move(dims));
}

void import_expand(ImportNode& node) {
  const ValueId y = node.add(std::make_shared<const Expand>(std::nullopt), node.inputs());
  std::vector<Dim> dims = node.graph().value(y).type.dims;
  if (!are_storable(node.graph(), dims)) {
    node.set_output(0, y);
  } else {
    node.set_output(0, node.add(std::make_shared<const Expand>(std::move(dims)), {node.input(0)}));
  }
}

template <typename T>
void tile(std::span<const std::int64_t> x, std::span<const std::int64_t> repeats, const T* in, T* out) {
  // Each axis becomes two: which copy, and where in it.
  const Shape strides = strides_of(x);
  Shape dims;
  Shape from;
  for (std::size_t i = 0; i < x.size(); ++i) {
    dims.insert(dims.end(), {repeats[i], x[i]});
    from.insert(from.end(), {0, strides[i]});
  }
  copy_strided<T>(dims, in, from, out, strides_of(dims));
}

class Tile final : public Op {
 public:
  std::string_view type() const override { return "Tile"; }
  Attributes attributes() const override { return {}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 2, 2);
    check_num_outputs(context, 1, 1);
    check_rank(context, 1, 1, "repeats");
    const TensorType x = context.input(0);
    check_dim(context.input(1).dims[0], Dim(x.rank()), "the length of repeats");
    TensorType y = x;
    const auto repeats = known_integers(context, 1);
    for (int axis = 0; axis < x.rank(); ++axis) {
      const auto a = static_cast<std::size_t>(axis);
      y.dims[a] = repeats ? x.dims[a] * check_not_negative((*repeats)[a], "a repetition") : context.fresh(0, axis);
    }
    context.set_output(0, y);
    pass_moved_integers(context, y, [&](const Dim* from, Dim* to) {
      const auto times = constant_integers(context, 1);
      ensure(times.has_value(), "a static shape from unknown repetitions");
      tile<Dim>(x.static_shape(), *times, from, to);
    });
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const std::vector<std::int64_t> repeats = read_integers(context.input(1));
    require(static_cast<int>(repeats.size()) == x.rank(), Code::invalid_argument, "{} repetitions for {} axes",
            repeats.size(), x.rank());
    Shape dims(x.dims.begin(), x.dims.end());
    for (std::size_t i = 0; i < dims.size(); ++i) {
      require(repeats[i] >= 0 && !__builtin_mul_overflow(dims[i], repeats[i], &dims[i]), Code::invalid_argument,
              "{} repetitions of {} elements", repeats[i], x.dims[i]);
    }
    check_output(context, 0, dims);
    dispatch_bits(x.dtype, [&]<typename T>() { tile<T>(x.dims, repeats, x.as<const T>(), context.output(0).as<T>()); });
  }
  std::vector<int> shape_inputs() const override { return {1}; }
};

OpPtr make_tile(const Attributes&) { return std::make_shared<const Tile>(); }

}  // namespace

const OpDef kExpandDef{"Expand", make_expand, import_expand};
const OpDef kTileDef{"Tile", make_tile, import_plain};

}  // namespace tenfold
