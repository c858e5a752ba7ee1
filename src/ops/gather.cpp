// Reading by index. Negative indices count from the end; one outside the axis is an error.
//   Gather:          y[.., i.., ..] = x[.., indices[i..], ..]                     attribute axis
//   GatherElements:  y[i, j, k] = x[i, indices[i, j, k], k]                       attribute axis (here 1)
//   GatherND:        y[b.., i.., ..] = x[b.., indices[b.., i.., :], ..]           attribute batch_dims
// Source: ONNX operator sets 1 to 13, Gather, GatherElements, GatherND.
#include "ops/elementwise.hpp"
#include "ops/indexing.hpp"
#include "ops/movement.hpp"

namespace tenfold {
namespace {

/// `size` elements of the axis, `inner` after it; `indices` are normal.
template <typename T>
void gather(const T* in, std::int64_t outer, std::int64_t size, std::int64_t inner,
            const std::vector<std::int64_t>& indices, T* out) {
  for (std::int64_t o = 0; o < outer; ++o, in += size * inner) {
    if (inner == 1) {
      for (const std::int64_t index : indices) *out++ = in[index];
    } else {
      for (const std::int64_t index : indices) out = std::copy_n(in + index * inner, inner, out);
    }
  }
}

class Gather final : public Op {
 public:
  explicit Gather(std::int64_t axis) : axis_(axis) {}
  std::string_view type() const override { return "Gather"; }
  Attributes attributes() const override { return {{"axis", axis_}}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 2, 2);
    check_num_outputs(context, 1, 1);
    check_index_type(context, 1);
    const TensorType x = context.input(0);
    const auto axis = static_cast<std::size_t>(check_axis(axis_, x.rank()));
    TensorType y = x;
    y.dims.erase(y.dims.begin() + static_cast<std::ptrdiff_t>(axis));
    const std::vector<Dim>& places = context.input(1).dims;
    y.dims.insert(y.dims.begin() + static_cast<std::ptrdiff_t>(axis), places.begin(), places.end());
    context.set_output(0, y);
    std::optional<std::vector<std::int64_t>> indices = constant_integers(context, 1);
    if (!indices) return;
    if (x.dims[axis].is_constant()) normalize_indices(*indices, x.dims[axis].constant(), Code::invalid_model);
    pass_moved_integers(context, y, [&](const Dim* from, Dim* to) {
      const Shape dims = x.static_shape();
      gather(from, product_of(dims, 0, axis), dims[axis], product_of(dims, axis + 1, dims.size()), *indices, to);
    });
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const TensorView& places = context.input(1);
    const auto axis = static_cast<std::size_t>(check_axis(axis_, x.rank()));
    Shape dims(x.dims.begin(), x.dims.begin() + static_cast<std::ptrdiff_t>(axis));
    dims.insert(dims.end(), places.dims.begin(), places.dims.end());
    dims.insert(dims.end(), x.dims.begin() + static_cast<std::ptrdiff_t>(axis) + 1, x.dims.end());
    check_output(context, 0, dims);
    if (context.output(0).num_elements() == 0) return;
    std::vector<std::int64_t> indices = read_integers(places);
    normalize_indices(indices, x.dims[axis], Code::invalid_argument);
    dispatch_bits(x.dtype, [&]<typename T>() {
      gather(x.as<const T>(), product_of(x.dims, 0, axis), x.dims[axis], product_of(x.dims, axis + 1, x.dims.size()),
             indices, context.output(0).as<T>());
    });
  }

 private:
  std::int64_t axis_;
};

class GatherElements final : public Op {
 public:
  explicit GatherElements(std::int64_t axis) : axis_(axis) {}
  std::string_view type() const override { return "GatherElements"; }
  Attributes attributes() const override { return {{"axis", axis_}}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 2, 2);
    check_num_outputs(context, 1, 1);
    check_index_type(context, 1);
    const TensorType& x = context.input(0);
    check_rank(context, 1, x.rank(), "the tensor of indices");
    (void)check_axis(axis_, x.rank());
    context.set_output(0, {x.dtype, context.input(1).dims});
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const TensorView& places = context.input(1);
    const auto axis = static_cast<std::size_t>(check_axis(axis_, x.rank()));
    check_output(context, 0, places.dims);
    check_element_indices(x.dims, places.dims, axis);
    std::vector<std::int64_t> indices = read_integers(places);
    if (indices.empty()) return;
    normalize_indices(indices, x.dims[axis], Code::invalid_argument);
    dispatch_bits(x.dtype, [&]<typename T>() {
      const T* in = x.as<const T>();
      T* out = context.output(0).as<T>();
      for_each_element_index(x.dims, places.dims, axis, indices,
                             [&](std::int64_t i, std::int64_t at) { out[i] = in[at]; });
    });
  }

 private:
  std::int64_t axis_;
};

class GatherND final : public Op {
 public:
  explicit GatherND(std::int64_t batch_dims) : batch_dims_(batch_dims) {}
  std::string_view type() const override { return "GatherND"; }
  Attributes attributes() const override { return {{"batch_dims", batch_dims_}}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 2, 2);
    check_num_outputs(context, 1, 1);
    check_index_type(context, 1);
    const TensorType& x = context.input(0);
    const TensorType& places = context.input(1);
    require(batch_dims_ < std::min(x.rank(), places.rank()), Code::invalid_model,
            "batch_dims {} must be less than the ranks of {} and {}", batch_dims_, to_string(x), to_string(places));
    const Dim& depth = places.dims.back();
    require(depth.is_constant(), Code::unsupported, "the length {} of an index is not known", depth.to_string());
    require(depth.constant() >= 1 && depth.constant() <= x.rank() - batch_dims_, Code::invalid_model,
            "an index of {} numbers does not fit an input of rank {} with {} batch axes", depth.constant(), x.rank(),
            batch_dims_);
    for (std::size_t i = 0; i < static_cast<std::size_t>(batch_dims_); ++i) {
      check_dim(places.dims[i], x.dims[i], "a batch dimension of the indices");
    }
    TensorType y{x.dtype, places.dims};
    y.dims.pop_back();
    y.dims.insert(y.dims.end(), x.dims.begin() + batch_dims_ + depth.constant(), x.dims.end());
    context.set_output(0, std::move(y));
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const TensorView& places = context.input(1);
    const auto batch = static_cast<std::size_t>(batch_dims_);
    const auto depth = static_cast<std::size_t>(places.dims.back());
    require(1 <= depth && batch + depth <= x.dims.size(), Code::invalid_argument,
            "an index of {} numbers does not fit an input of rank {}", depth, x.rank());
    Shape dims(places.dims.begin(), places.dims.end() - 1);
    dims.insert(dims.end(), x.dims.begin() + static_cast<std::ptrdiff_t>(batch + depth), x.dims.end());
    check_output(context, 0, dims);
    require(std::equal(x.dims.begin(), x.dims.begin() + static_cast<std::ptrdiff_t>(batch), places.dims.begin()),
            Code::invalid_argument, "batch dimensions of input and indices differ");
    if (context.output(0).num_elements() == 0) return;
    const std::vector<std::int64_t> indices = read_integers(places);
    const std::vector<std::int64_t> offsets = nd_offsets(x.dims, indices, batch, depth);
    const std::int64_t inner = product_of(x.dims, batch + depth, x.dims.size());
    const std::int64_t batches = product_of(x.dims, 0, batch);
    const auto per_batch = static_cast<std::int64_t>(offsets.size()) / batches;
    const std::int64_t batch_stride = product_of(x.dims, batch, x.dims.size());
    dispatch_bits(x.dtype, [&]<typename T>() {
      T* out = context.output(0).as<T>();
      for (std::int64_t i = 0; i < static_cast<std::int64_t>(offsets.size()); ++i) {
        const T* from = x.as<const T>() + i / per_batch * batch_stride + offsets[static_cast<std::size_t>(i)];
        out = std::copy_n(from, inner, out);
      }
    });
  }

 private:
  std::int64_t batch_dims_;
};

OpPtr make_gather(const Attributes& attributes) {
  return std::make_shared<const Gather>(attributes.get_int("axis", 0));
}
OpPtr make_gather_elements(const Attributes& attributes) {
  return std::make_shared<const GatherElements>(attributes.get_int("axis", 0));
}
OpPtr make_gather_nd(const Attributes& attributes) {
  const std::int64_t batch_dims = attributes.get_int("batch_dims", 0);
  require(0 <= batch_dims && batch_dims < kMaxRank, Code::invalid_model, "batch_dims must be 0 to {}, got {}",
          kMaxRank - 1, batch_dims);
  return std::make_shared<const GatherND>(batch_dims);
}

}  // namespace

const OpDef kGatherDef{"Gather", make_gather, import_plain};
const OpDef kGatherElementsDef{"GatherElements", make_gather_elements, import_plain};
const OpDef kGatherNDDef{"GatherND", make_gather_nd, import_plain};

}  // namespace tenfold
