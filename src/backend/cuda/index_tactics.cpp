// Places that come as data, or follow from an element's own place: GatherElements, GatherND, ScatterElements,
// ScatterND, OneHot, Trilu, EyeLike, ReverseSequence. One thread for each element, of any type.
//
// Several updates of one element: without a reduction the last in row-major order wins, found by a maximum over their
// numbers; with one, a thread applies the updates of its column (elements that no other column's updates reach) in
// their order. Either way the result is the same in every run. An index outside its axis is the caller's mistake;
// kernels stay inside their memory all the same.
#include <algorithm>

#include "backend/cuda/element_text.hpp"
#include "backend/cuda/pointwise_text.hpp"

namespace tenfold::cuda {
namespace {

bool is_index(DType dtype) { return dtype == DType::int32 || dtype == DType::int64; }

constexpr std::string_view kInside = R"(
// An index counted from the front, inside the axis whatever it was.
TF_FN long long inside(long long index, long long size) {
  if (index < 0) index += size;
  return index < 0 ? 0 : index >= size ? size - 1 : index;
}
)";

/// How many elements an index of an ND operator has, if it is known.
std::optional<std::int64_t> depth_of(const TensorType& indices) {
  if (indices.dims.empty() || !indices.dims.back().is_constant()) return std::nullopt;
  return indices.dims.back().constant();
}

struct GatherArguments {
  const void* x = nullptr;
  const void* indices = nullptr;
  void* y = nullptr;
  std::int64_t count = 0, inner = 1, depth = 0, per_batch = 1, batch_stride = 0;
  Sizes dims;     ///< of the indices; ND: of the axes that an index names
  Sizes strides;  ///< of x along them
  std::int64_t axis = 0, size = 0, along = 0;
};
constexpr std::string_view kGatherArguments = R"(
struct Arguments {
  const T* x;
  const Index* indices;
  T* y;
  long long count, inner, depth, per_batch, batch_stride;
  Sizes dims, strides;
  long long axis, size, along;
};
)";

/// GatherElements and GatherND.
class GatherPlacesKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || !signature.has_input(1) || !signature.has_output(0)) return "operands are missing";
    if (!is_index(signature.inputs[1].dtype)) return "the indices are neither int32 nor int64";
    const int rank = signature.inputs[0].rank();
    if (signature.op.type() == "GatherElements") {
      if (signature.inputs[1].rank() != rank) return "indices and input differ in rank";
      if (!normalized_axis(signature.op.attributes().get_int("axis", 0), rank)) return "no such axis";
      return std::nullopt;
    }
    const auto depth = depth_of(signature.inputs[1]);
    const std::int64_t batch = signature.op.attributes().get_int("batch_dims", 0);
    if (!depth || *depth < 1 || batch < 0 || batch + *depth > rank || batch >= signature.inputs[1].rank())
      return "an index does not fit the input";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const std::string_view elements = R"(
    long long rest = i, from = inside(a.indices[i], a.size) * a.along;
    for (int axis = a.dims.rank - 1; axis >= 0; --axis) {
      const long long place = rest % a.dims.at[axis];
      rest /= a.dims.at[axis];
      if (axis != a.axis) from += place * a.strides.at[axis];
    }
    a.y[i] = a.x[from];)";
    const std::string_view tuples = R"(
    const long long number = i / a.inner;
    const Index* index = a.indices + number * a.depth;
    long long from = number / a.per_batch * a.batch_stride + i % a.inner;
    for (int d = 0; d < a.depth; ++d) from += inside(index[d], a.dims.at[d]) * a.strides.at[d];
    a.y[i] = a.x[from];)";
    Source source;
    source.entries = {"gather"};
    source.text = fmt::format(
        "{}{}typedef {} T;\ntypedef {} Index;\n{}{}extern \"C\" __global__ void __launch_bounds__(256) gather(const "
        "__grid_constant__ Arguments a) {{\n  tf::begin_early();\n  tf::for_each_thread(a.count, [&](long long i) "
        "{{{}\n  }});\n}}\n",
        device_prelude(), element_prelude(), bits_type(size_of(spec.inputs[0].dtype)),
        device_type(spec.inputs[1].dtype), kInside, kGatherArguments,
        spec.op->type() == "GatherElements" ? elements : tuples);
    return source;
  }
  GatherPlacesKernel(const KernelSpec& spec, const LoadedModule& module)
      : is_elements_(spec.op->type() == "GatherElements"), gather_(module.function("gather")) {
    const Attributes attributes = spec.op->attributes();
    axis_ = is_elements_ ? *normalized_axis(attributes.get_int("axis", 0), spec.inputs[0].rank()) : 0;
    batch_ = attributes.get_int("batch_dims", 0);
  }
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& places = launch.inputs[1];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0 || x.num_elements() == 0) return;
    GatherArguments arguments;
    arguments.x = x.data;
    arguments.indices = places.data;
    arguments.y = y.data;
    arguments.count = y.num_elements();
    if (is_elements_) {
      arguments.dims = sizes_of(places.dims);
      arguments.strides = contiguous_strides(x.dims);
      arguments.axis = axis_;
      arguments.size = x.dims[static_cast<std::size_t>(axis_)];
      arguments.along = arguments.strides.at[axis_];
    } else {
      const auto batch = static_cast<std::size_t>(batch_), depth = static_cast<std::size_t>(places.dims.back());
      const Sizes strides = contiguous_strides(x.dims);
      arguments.depth = places.dims.back();
      arguments.inner = product_of_dims(x.dims, batch + depth, x.dims.size());
      arguments.batch_stride = product_of_dims(x.dims, batch, x.dims.size());
      arguments.per_batch = std::max<std::int64_t>(1, product_of_dims(places.dims, batch, places.dims.size() - 1));
      for (std::size_t d = 0; d < depth; ++d) {
        arguments.dims.at[d] = x.dims[batch + d];
        arguments.strides.at[d] = strides.at[batch + d];
      }
    }
    LaunchConfig config = one_thread_each(gather_, arguments.count);
    config.pdl = true;
    cuda_stream(launch).launch(config, arguments);
  }

 private:
  bool is_elements_;
  std::int64_t axis_ = 0, batch_ = 0;
  Function gather_;
};

struct ScatterArguments {
  const void* indices = nullptr;
  const void* updates = nullptr;
  void* y = nullptr;
  void* winner = nullptr;                        ///< for each place one more than the last update's number, 0: none
  std::int64_t count = 0, inner = 1, depth = 0;  ///< updates of `inner` elements each
  Sizes dims;                                    ///< of the indices; ND: of the axes that an index names
  Sizes strides;
  std::int64_t axis = 0, size = 0, along = 0, length = 0, columns = 0;
};

/// ScatterElements and ScatterND.
class ScatterKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || !signature.has_input(1) || !signature.has_input(2) || !signature.has_output(0))
      return "operands are missing";
    if (!is_index(signature.inputs[1].dtype)) return "the indices are neither int32 nor int64";
    const int rank = signature.inputs[0].rank();
    if (signature.op.type() == "ScatterElements") {
      if (signature.inputs[1].rank() != rank) return "indices and input differ in rank";
      if (!normalized_axis(signature.op.attributes().get_int("axis", 0), rank)) return "no such axis";
      return std::nullopt;
    }
    const auto depth = depth_of(signature.inputs[1]);
    if (!depth || *depth < 0 || *depth > rank) return "an index does not fit the input";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const std::string reduction = spec.op->attributes().get_string("reduction", "none");
    const DType dtype = spec.inputs[0].dtype;
    const bool is_elements = spec.op->type() == "ScatterElements";
    // Where update `i` goes: of elements, or of places of `inner` elements.
    const std::string_view place = is_elements ? R"(
TF_FN long long place_of(const Arguments& a, long long i) {
  long long rest = i, to = inside(a.indices[i], a.size) * a.along;
  for (int axis = a.dims.rank - 1; axis >= 0; --axis) {
    const long long place = rest % a.dims.at[axis];
    rest /= a.dims.at[axis];
    if (axis != a.axis) to += place * a.strides.at[axis];
  }
  return to;
}
)"
                                               : R"(
TF_FN long long place_of(const Arguments& a, long long i) {
  long long to = 0;
  for (int d = 0; d < a.depth; ++d) to += inside(a.indices[i * a.depth + d], a.dims.at[d]) * a.strides.at[d];
  return to;
}
)";
    std::string kernels;
    if (reduction == "none") {
      kernels = R"(
extern "C" __global__ void __launch_bounds__(256) claim(const __grid_constant__ Arguments a) {
  tf::for_each_thread(a.count, [&](long long i) { atomicMax(a.winner + place_of(a, i), (unsigned long long)i + 1); });
}
extern "C" __global__ void __launch_bounds__(256) apply(const __grid_constant__ Arguments a) {
  tf::for_each_thread(a.count * a.inner, [&](long long i) {
    const long long number = i / a.inner, place = place_of(a, number);
    if (a.winner[place] == (unsigned long long)number + 1) a.y[place * a.inner + i % a.inner] = a.updates[i];
  });
}
)";
    } else {
      const std::string_view formula = reduction == "add"   ? "E::put(old + update)"
                                       : reduction == "mul" ? "E::put(old * update)"
                                       : reduction == "max" ? "update > old || update != update ? value : a.y[to]"
                                                            : "update < old || update != update ? value : a.y[to]";
      // A column: of elements all updates that differ along the axis only, of places one of the `inner` elements.
      kernels = fmt::format(R"(
extern "C" __global__ void __launch_bounds__(256) apply(const __grid_constant__ Arguments a) {{
  tf::for_each_thread(a.columns, [&](long long column) {{
    const long long first = {};
    for (long long k = 0; k < a.length; ++k) {{
      const long long i = first + k * {};
      const long long to = {};
      const T value = a.updates[i];
      const auto old = E::get(a.y[to]), update = E::get(value);
      a.y[to] = {};
    }}
  }});
}}
)",
                            is_elements ? "column / a.inner * a.inner * a.length + column % a.inner" : "column",
                            "a.inner", is_elements ? "place_of(a, i)" : "place_of(a, k) * a.inner + column", formula);
    }
    // Integers in their own arithmetic, which wraps.
    const bool is_real = is_float(dtype);
    const std::string type(is_real || reduction != "none" ? device_type(dtype) : bits_type(size_of(dtype)));
    const std::string integer = fmt::format(
        "struct E {{\n  TF_METHOD static {0} get(T x) {{ return x; }}\n  TF_METHOD static T put({0} x) {{ return (T)x; "
        "}}\n}};\n",
        dtype == DType::boolean ? "int" : type);
    Source source;
    source.entries = {"apply"};
    if (reduction == "none") source.entries.emplace_back("claim");
    source.text = fmt::format(R"({}{}
typedef {} T;
typedef {} Index;
{}{}
struct Arguments {{
  const Index* indices;
  const T* updates;
  T* y;
  unsigned long long* winner;
  long long count, inner, depth;
  Sizes dims, strides;
  long long axis, size, along, length, columns;
}};
{}{})",
                              device_prelude(), element_prelude(), type, device_type(spec.inputs[1].dtype),
                              is_real ? std::string("typedef tf::Element<T> E;\n") : integer, kInside, place, kernels);
    return source;
  }
  ScatterKernel(const KernelSpec& spec, const LoadedModule& module)
      : is_elements_(spec.op->type() == "ScatterElements"),
        replaces_(spec.op->attributes().get_string("reduction", "none") == "none"),
        apply_(module.function("apply")) {
    if (replaces_) claim_ = module.function("claim");
    if (is_elements_) axis_ = *normalized_axis(spec.op->attributes().get_int("axis", 0), spec.inputs[0].rank());
  }
  std::size_t workspace_bytes(std::span<const TensorView> inputs, std::span<const TensorView>) const override {
    if (!replaces_) return 0;
    const TensorView& x = inputs[0];
    const std::size_t named = is_elements_ ? x.dims.size() : static_cast<std::size_t>(inputs[1].dims.back());
    return static_cast<std::size_t>(product_of_dims(x.dims, 0, named)) * sizeof(std::int64_t);
  }
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& places = launch.inputs[1];
    const TensorView& y = launch.outputs[0];
    CudaStream& stream = cuda_stream(launch);
    if (y.data != x.data) stream.copy(y.data, x.data, static_cast<std::size_t>(x.num_elements()) * size_of(x.dtype));
    if (x.num_elements() == 0 || launch.inputs[2].num_elements() == 0) return;
    ScatterArguments arguments;
    arguments.indices = places.data;
    arguments.updates = launch.inputs[2].data;
    arguments.y = y.data;
    arguments.winner = launch.workspace.data();
    if (is_elements_) {
      const auto axis = static_cast<std::size_t>(axis_);
      arguments.dims = sizes_of(places.dims);
      arguments.strides = contiguous_strides(x.dims);
      arguments.axis = axis_;
      arguments.size = x.dims[axis];
      arguments.along = arguments.strides.at[axis_];
      arguments.count = places.num_elements();
      arguments.length = places.dims[axis];
      arguments.columns = arguments.count / arguments.length;
      if (!replaces_) arguments.inner = product_of_dims(places.dims, axis + 1, places.dims.size());
    } else {
      const auto depth = static_cast<std::size_t>(places.dims.back());
      arguments.depth = places.dims.back();
      arguments.count = product_of_dims(places.dims, 0, places.dims.size() - 1);
      arguments.inner = product_of_dims(x.dims, depth, x.dims.size());
      arguments.length = arguments.count;
      arguments.columns = arguments.inner;
      arguments.dims = sizes_of(x.dims.first(depth));
      arguments.strides = contiguous_strides(x.dims.first(depth));
    }
    if (replaces_) {
      stream.fill(arguments.winner, 0, workspace_bytes(launch.inputs, launch.outputs));
      stream.launch(one_thread_each(claim_, arguments.count), arguments);
      stream.launch(one_thread_each(apply_, arguments.count * arguments.inner), arguments);
    } else {
      stream.launch(one_thread_each(apply_, arguments.columns), arguments);
    }
  }
  bool can_run_in_place(int index) const override { return index == 0; }

 private:
  bool is_elements_, replaces_;
  std::int64_t axis_ = 0;
  Function apply_, claim_;
};

/// y[.., k, ..] = on where k is the index, off elsewhere. Inputs: indices, depth, (off, on).
class OneHotKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || !signature.has_input(2) || !signature.has_output(0)) return "operands are missing";
    if (!normalized_axis(signature.op.attributes().get_int("axis", -1), signature.outputs[0].rank()))
      return "no such axis";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    Source source;
    source.entries = {"one_hot"};
    source.text = fmt::format(R"({}{}
typedef {} Index;
typedef {} T;
extern "C" __global__ void __launch_bounds__(256) one_hot(const Index* indices, const T* values, T* y, long long count, long long depth, long long inner) {{
  tf::begin_early();
  tf::for_each_thread(count, [&](long long i) {{
    const long long column = i % inner, k = i / inner % depth, row = i / inner / depth;
    long long index = (long long)tf::Element<Index>::get(indices[row * inner + column]);
    if (index < 0) index += depth;
    y[i] = values[index == k];
  }});
}}
)",
                              device_prelude(), element_prelude(), device_type(spec.inputs[0].dtype),
                              bits_type(size_of(spec.outputs[0].dtype)));
    if (!is_float(spec.inputs[0].dtype)) {  // integers beyond 2^24 are no floats
      const std::string_view by_float = "(long long)tf::Element<Index>::get(indices[row * inner + column])";
      source.text.replace(source.text.find(by_float), by_float.size(), "(long long)indices[row * inner + column]");
    }
    return source;
  }
  OneHotKernel(const KernelSpec& spec, const LoadedModule& module)
      : axis_(static_cast<std::size_t>(
            *normalized_axis(spec.op->attributes().get_int("axis", -1), spec.outputs[0].rank()))),
        one_hot_(module.function("one_hot")) {}
  void run(const Launch& launch) const override {
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    LaunchConfig config = one_thread_each(one_hot_, y.num_elements());
    config.pdl = true;
    cuda_stream(launch).launch(config, static_cast<const void*>(launch.inputs[0].data),
                               static_cast<const void*>(launch.inputs[2].data), y.data, y.num_elements(), y.dims[axis_],
                               product_of_dims(y.dims, axis_ + 1, y.dims.size()));
  }

 private:
  std::size_t axis_;
  Function one_hot_;
};

/// Trilu keeps one side of a diagonal; EyeLike writes ones on it.
class DiagonalKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || !signature.has_output(0)) return "operands are missing";
    if (signature.inputs[0].rank() < 2) return "the input is no matrix";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const Attributes attributes = spec.op->attributes();
    const bool is_trilu = spec.op->type() == "Trilu";
    const DType dtype = spec.outputs[0].dtype;
    const std::string type(is_trilu ? bits_type(size_of(dtype)) : device_type(dtype));
    std::string value = fmt::format("column - row == k ? tf::from_float<T>(1.0f) : tf::from_float<T>(0.0f)");
    if (is_trilu)
      value = fmt::format("column - row {} k ? x[i] : T(0)", attributes.get_int("upper", 1) != 0 ? ">=" : "<=");
    Source source;
    source.entries = {"diagonal"};
    source.text = fmt::format(R"({}{}
typedef {} T;
extern "C" __global__ void __launch_bounds__(256) diagonal(const T* x, const long long* offset, T* y, long long count, long long rows, long long columns, long long given) {{
  tf::begin_early();
  const long long k = offset ? *offset : given;
  tf::for_each_thread(count, [&](long long i) {{
    const long long column = i % columns, row = i / columns % rows;
    y[i] = {};
  }});
}}
)",
                              device_prelude(), element_prelude(), type, value);
    return source;
  }
  DiagonalKernel(const KernelSpec& spec, const LoadedModule& module)
      : offset_(spec.op->attributes().get_int("k", 0)), diagonal_(module.function("diagonal")) {}
  void run(const Launch& launch) const override {
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    LaunchConfig config = one_thread_each(diagonal_, y.num_elements());
    config.pdl = true;
    cuda_stream(launch).launch(config, static_cast<const void*>(launch.inputs[0].data),
                               static_cast<const void*>(operand_of(launch.inputs, 1).data), y.data, y.num_elements(),
                               y.dim(y.rank() - 2), y.dims.back(), offset_);
  }

 private:
  std::int64_t offset_;
  Function diagonal_;
};

class ReverseSequenceKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || !signature.has_input(1) || !signature.has_output(0)) return "operands are missing";
    if (signature.inputs[0].rank() < 2) return "there is no axis of time";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const bool time_first = spec.op->attributes().get_int("time_axis", 0) == 0;
    Source source;
    source.entries = {"reverse"};
    source.text = fmt::format(R"({}{}
typedef {} T;
extern "C" __global__ void __launch_bounds__(256) reverse(const T* x, const long long* lengths, T* y, long long count, long long batch, long long times, long long inner) {{
  tf::begin_early();
  tf::for_each_thread(count, [&](long long i) {{
    const long long row = i / inner;
    const long long b = {}, t = {};
    const long long length = lengths[b] < times ? lengths[b] : times;
    const long long from = t < length ? length - 1 - t : t;
    y[i] = x[({}) * inner + i % inner];
  }});
}}
)",
                              device_prelude(), element_prelude(), bits_type(size_of(spec.inputs[0].dtype)),
                              time_first ? "row % batch" : "row / times", time_first ? "row / batch" : "row % times",
                              time_first ? "from * batch + b" : "b * times + from");
    return source;
  }
  ReverseSequenceKernel(const KernelSpec& spec, const LoadedModule& module)
      : time_axis_(spec.op->attributes().get_int("time_axis", 0) == 0 ? 0 : 1), reverse_(module.function("reverse")) {}
  void run(const Launch& launch) const override {
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    LaunchConfig config = one_thread_each(reverse_, y.num_elements());
    config.pdl = true;
    cuda_stream(launch).launch(config, static_cast<const void*>(launch.inputs[0].data),
                               static_cast<const void*>(launch.inputs[1].data), y.data, y.num_elements(),
                               y.dims[1 - time_axis_], y.dims[time_axis_], product_of_dims(y.dims, 2, y.dims.size()));
  }

 private:
  std::size_t time_axis_;
  Function reverse_;
};

}  // namespace

const CudaTactic kGatherElementsPlaces = plain_tactic<GatherPlacesKernel>("gather.places", "GatherElements");
const CudaTactic kGatherNdPlaces = plain_tactic<GatherPlacesKernel>("gather.places", "GatherND");
const CudaTactic kScatterElementsPlaces = plain_tactic<ScatterKernel>("scatter.places", "ScatterElements");
const CudaTactic kScatterNdPlaces = plain_tactic<ScatterKernel>("scatter.places", "ScatterND");
const CudaTactic kOneHotFill = plain_tactic<OneHotKernel>("fill.one_hot", "OneHot");
const CudaTactic kTriluDiagonal = plain_tactic<DiagonalKernel>("fill.diagonal", "Trilu");
const CudaTactic kEyeLikeDiagonal = plain_tactic<DiagonalKernel>("fill.diagonal", "EyeLike");
const CudaTactic kReverseSequenceCopy = plain_tactic<ReverseSequenceKernel>("copy.reversed", "ReverseSequence");

}  // namespace tenfold::cuda
