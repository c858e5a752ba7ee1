// Reductions over neighbouring axes, accumulated in float32. The input is [outer, length, inner]:
//   rows     inner = 1: a warp or a block walks along a row
//   columns  else: neighbouring threads take neighbouring columns (16 bytes each), several lines of threads share the
//            length and meet in shared memory. Global pooling of images stored channels last is this.
// And ArgMax and ArgMin, which keep the first (or last) of equal elements.
#include <algorithm>

#include "backend/cuda/loop_nest.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "backend/cuda/row_text.hpp"
#include "backend/cuda/tactic_tools.hpp"
#include "ops/reduce.hpp"

namespace tenfold::cuda {
namespace {

constexpr int kColumnThreads = 32, kColumnLines = 8;

/// The axes [begin, end) are those that are reduced.
struct ReducedAxes {
  std::size_t begin = 0, end = 0;
};
std::optional<ReducedAxes> reduced_axes(const Reduce& reduce, const TensorType& x) {
  const std::vector<bool> reduced = reduce.reduced_axes(x.rank());
  ReducedAxes axes{x.dims.size(), 0};
  for (std::size_t a = 0; a < reduced.size(); ++a) {
    if (!reduced[a] || x.dims[a] == Dim(1)) continue;
    axes.begin = std::min(axes.begin, a);
    axes.end = a + 1;
  }
  if (axes.end == 0) return ReducedAxes{0, 0};
  for (std::size_t a = axes.begin; a < axes.end; ++a) {
    if (!reduced[a] && !(x.dims[a] == Dim(1))) return std::nullopt;
  }
  return axes;
}

/// What a kind of reduction does with a float.
struct KindText {
  std::string_view start, element, join, finish;  ///< element of x; join of a and b; finish of s
};
KindText kind_text(ReduceKind kind) {
  switch (kind) {
    case ReduceKind::l1:
      return {"0.0f", "fabsf(x)", "a + b", "s"};
    case ReduceKind::l2:
      return {"0.0f", "x * x", "a + b", "sqrtf(s)"};
    case ReduceKind::log_sum:
      return {"0.0f", "x", "a + b", "logf(s)"};
    case ReduceKind::log_sum_exp:
      return {"0.0f", "expf(x - largest)", "a + b", "logf(s) + largest"};
    case ReduceKind::max:
      return {"tf::float_of(0xff800000u)", "x", "tf::maximum(a, b)", "s"};
    case ReduceKind::mean:
      return {"0.0f", "x", "a + b", "s / (float)a.length"};
    case ReduceKind::min:
      return {"tf::float_of(0x7f800000u)", "x", "tf::minimum(a, b)", "s"};
    case ReduceKind::prod:
      return {"1.0f", "x", "a * b", "s"};
    case ReduceKind::sum:
      return {"0.0f", "x", "a + b", "s"};
    case ReduceKind::sum_square:
      return {"0.0f", "x * x", "a + b", "s"};
  }
  throw Error(Code::internal, "unknown reduction");
}

struct ReduceArguments {
  const void* x = nullptr;
  void* y = nullptr;
  std::int64_t outer = 1, length = 1, inner = 1;
};

std::optional<std::int64_t> known_product(const TensorType& type, std::size_t begin, std::size_t end) {
  std::int64_t product = 1;
  for (std::size_t a = begin; a < end; ++a) {
    if (!type.dims[a].is_constant()) return std::nullopt;
    product *= type.dims[a].constant();
  }
  return product;
}

class ReduceKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    const auto* reduce = dynamic_cast<const Reduce*>(&signature.op);
    if (reduce == nullptr || !signature.has_input(0) || !signature.has_output(0)) return "operands are missing";
    const TensorType& x = signature.inputs[0];
    if (!is_device_float(x.dtype) || signature.outputs[0].dtype != x.dtype)
      return fmt::format("no kernel for {}", to_string(x.dtype));
    if (!reduced_axes(*reduce, x)) return "other axes lie between those that are reduced";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const auto& reduce = dynamic_cast<const Reduce&>(*spec.op);
    const TensorType& x = spec.inputs[0];
    const KindText kind = kind_text(reduce.kind());
    const bool needs_largest = reduce.kind() == ReduceKind::log_sum_exp;
    const int vector = widest_vector(x.dtype);
    const RowShape wide = shape_of(x, *reduced_axes(reduce, x), vector),
                   narrow = shape_of(x, *reduced_axes(reduce, x), 1);
    Source source;
    source.entries = {"row_vectors", "row_elements", "column_vectors", "column_elements"};
    source.text = fmt::format(
        R"({prelude}{nest}{row}
typedef {type} T;
struct Arguments {{
  const void* x;
  void* y;
  long long outer, length, inner;
}};
TF_FN float join(float a, float b) {{ return {join}; }}
template <int V, int Threads, int Block, int Cached>
TF_FN void rows(const Arguments& a) {{
  const long long number = blockIdx.x * (long long)(Block / Threads) + threadIdx.x / Threads;
  if (number >= a.outer) return;
  tf::Row<T, V, Threads, Cached> row((const T*)a.x + number * a.length, (int)a.length);
  float largest = 0.0f;
  if ({needs_largest}) {{
    largest = tf::float_of(0xff800000u);
    row.each([&](float& x, int) {{ largest = tf::maximum(largest, x); }});
    largest = tf::row_max<Threads>(largest);
  }}
  float s = {start};
  row.each([&](float& x, int) {{ s = join(s, {element}); }});
  s = tf::over_row<Threads>(s, {start}, [](float p, float q) {{ return join(p, q); }});
  if (threadIdx.x % Threads == 0) ((T*)a.y)[number] = tf::from_float<T>({finish});
}}
template <int V>
TF_FN void columns(const Arguments& a) {{
  __shared__ float shared[{lines}][{threads} * V + 1];
  const unsigned across = (unsigned)((a.inner / V + {threads} - 1) / {threads});
  const long long outer = blockIdx.x / across;
  const int lane = threadIdx.x % {threads}, line = threadIdx.x / {threads};
  const long long column = ((long long)(blockIdx.x % across) * {threads} + lane) * V;
  const T* x = (const T*)a.x + outer * a.length * a.inner + column;
  float largest_of[V], sums[V];
#pragma unroll
  for (int i = 0; i < V; ++i) {{
    largest_of[i] = {needs_largest} ? tf::float_of(0xff800000u) : 0.0f;
    sums[i] = {start};
  }}
  if (column < a.inner) {{
    if ({needs_largest}) {{
      for (long long j = 0; j < a.length; ++j) {{
        const tf::Vector<T, V> v = *(const tf::Vector<T, V>*)(x + j * a.inner);
#pragma unroll
        for (int i = 0; i < V; ++i) largest_of[i] = tf::maximum(largest_of[i], tf::to_float(v.at[i]));
      }}
    }}
#pragma unroll 4
    for (long long j = line; j < a.length; j += {lines}) {{
      const tf::Vector<T, V> v = *(const tf::Vector<T, V>*)(x + j * a.inner);
#pragma unroll
      for (int i = 0; i < V; ++i) {{
        const float x = tf::to_float(v.at[i]), largest = largest_of[i];
        sums[i] = join(sums[i], {element});
      }}
    }}
  }}
#pragma unroll
  for (int i = 0; i < V; ++i) shared[line][i * {threads} + lane] = sums[i];
  __syncthreads();
  if (line != 0 || column >= a.inner) return;
  tf::Vector<T, V> result;
#pragma unroll
  for (int i = 0; i < V; ++i) {{
    float s = shared[0][i * {threads} + lane];
#pragma unroll
    for (int k = 1; k < {lines}; ++k) s = join(s, shared[k][i * {threads} + lane]);
    const float largest = largest_of[i];
    result.at[i] = tf::from_float<T>({finish});
  }}
  *(tf::Vector<T, V>*)((T*)a.y + outer * a.inner + column) = result;
}}
extern "C" __global__ void __launch_bounds__({wide_block}) row_vectors(const __grid_constant__ Arguments a) {{ rows<{vector}, {wide_threads}, {wide_block}, {wide_cached}>(a); }}
extern "C" __global__ void __launch_bounds__({narrow_block}) row_elements(const __grid_constant__ Arguments a) {{ rows<1, {narrow_threads}, {narrow_block}, {narrow_cached}>(a); }}
extern "C" __global__ void __launch_bounds__({threads} * {lines}) column_vectors(const __grid_constant__ Arguments a) {{ columns<{vector}>(a); }}
extern "C" __global__ void __launch_bounds__({threads} * {lines}) column_elements(const __grid_constant__ Arguments a) {{ columns<1>(a); }}
)",
        fmt::arg("prelude", device_prelude()), fmt::arg("nest", nest_prelude()), fmt::arg("row", row_prelude()),
        fmt::arg("type", device_type(x.dtype)), fmt::arg("join", kind.join), fmt::arg("start", kind.start),
        fmt::arg("element", kind.element), fmt::arg("finish", kind.finish),
        fmt::arg("needs_largest", needs_largest ? "true" : "false"), fmt::arg("vector", vector),
        fmt::arg("threads", kColumnThreads), fmt::arg("lines", kColumnLines), fmt::arg("wide_block", wide.block),
        fmt::arg("wide_threads", wide.threads), fmt::arg("wide_cached", wide.cached),
        fmt::arg("narrow_block", narrow.block), fmt::arg("narrow_threads", narrow.threads),
        fmt::arg("narrow_cached", narrow.cached));
    return source;
  }
  ReduceKernel(const KernelSpec& spec, const LoadedModule& module)
      : type_(spec.inputs[0]),
        axes_(*reduced_axes(dynamic_cast<const Reduce&>(*spec.op), type_)),
        row_vectors_(module.function("row_vectors")),
        row_elements_(module.function("row_elements")),
        column_vectors_(module.function("column_vectors")),
        column_elements_(module.function("column_elements")) {}

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    ReduceArguments arguments;
    arguments.x = x.data;
    arguments.y = y.data;
    arguments.outer = product_of_dims(x.dims, 0, axes_.begin);
    arguments.length = product_of_dims(x.dims, axes_.begin, axes_.end);
    arguments.inner = product_of_dims(x.dims, axes_.end, x.dims.size());
    const int vector = widest_vector(x.dtype);
    const auto is_aligned = [](const TensorView& view) {
      return reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0;
    };
    LaunchConfig config;
    if (arguments.inner == 1) {
      const bool is_wide = arguments.length % vector == 0 && is_aligned(x);
      const RowShape shape = shape_of(type_, axes_, is_wide ? vector : 1);
      config.function = is_wide ? row_vectors_ : row_elements_;
      config.grid.x = static_cast<unsigned>(divide_up(arguments.outer, shape.rows()));
      config.block.x = static_cast<unsigned>(shape.block);
    } else {
      const bool is_wide = arguments.inner % vector == 0 && is_aligned(x) && is_aligned(y);
      const std::int64_t columns = is_wide ? arguments.inner / vector : arguments.inner;
      config.function = is_wide ? column_vectors_ : column_elements_;
      config.grid.x = static_cast<unsigned>(arguments.outer * divide_up(columns, kColumnThreads));
      config.block.x = kColumnThreads * kColumnLines;
    }
    cuda_stream(launch).launch(config, arguments);
  }

 private:
  static RowShape shape_of(const TensorType& x, const ReducedAxes& axes, int vector) {
    return row_shape(known_product(x, axes.begin, axes.end), vector);
  }
  TensorType type_;
  ReducedAxes axes_;
  Function row_vectors_, row_elements_, column_vectors_, column_elements_;
};

// --- ArgMax and ArgMin

class ArgKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || !signature.has_output(0)) return "operands are missing";
    if (!normalized_axis(signature.op.attributes().get_int("axis", 0), signature.inputs[0].rank()))
      return "no such axis";
    if (signature.outputs[0].dtype != DType::int64) return "positions are not int64";
    if (signature.inputs[0].dtype == DType::boolean) return "no kernel for bool";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const DType dtype = spec.inputs[0].dtype;
    const bool is_half = dtype == DType::float16 || dtype == DType::bfloat16;
    const bool largest = spec.op->type() == "ArgMax";
    const bool last = spec.op->attributes().get_int("select_last_index", 0) != 0;
    Source source;
    source.entries = {"rows", "columns"};
    source.text =
        fmt::format(R"({prelude}
typedef {type} T;
typedef {value} Value;
struct Arguments {{
  const void* x;
  void* y;
  long long outer, length, inner;
}};
struct Best {{ Value value; long long at; }};
// Is b better than a? NaN beats every number.
TF_FN bool is_better(Best a, Best b) {{
  if (b.at < 0) return false;
  if (a.at < 0) return true;
  const bool a_is_nan = a.value != a.value, b_is_nan = b.value != b.value;
  if (a_is_nan != b_is_nan) return b_is_nan;
  if (!a_is_nan && a.value != b.value) return b.value {compare} a.value;
  return {last} ? b.at > a.at : b.at < a.at;
}}
TF_FN Value load(const Arguments& a, long long place) {{ return {load}; }}
extern "C" __global__ void __launch_bounds__(128) rows(const __grid_constant__ Arguments a) {{
  const long long number = blockIdx.x * 4LL + threadIdx.x / 32;
  if (number >= a.outer) return;
  Best best = {{(Value)0, -1}};
  for (long long i = threadIdx.x % 32; i < a.length; i += 32) {{
    const Best next = {{load(a, number * a.length + i), i}};
    if (is_better(best, next)) best = next;
  }}
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {{
    const Best other = {{__shfl_xor_sync(0xffffffffu, best.value, step), __shfl_xor_sync(0xffffffffu, best.at, step)}};
    if (is_better(best, other)) best = other;
  }}
  if (threadIdx.x % 32 == 0) ((long long*)a.y)[number] = best.at;
}}
extern "C" __global__ void __launch_bounds__(128) columns(const __grid_constant__ Arguments a) {{
  const long long number = blockIdx.x * 128LL + threadIdx.x;
  if (number >= a.outer * a.inner) return;
  const long long outer = number / a.inner, inner = number - outer * a.inner;
  Best best = {{(Value)0, -1}};
  for (long long i = 0; i < a.length; ++i) {{
    const Best next = {{load(a, (outer * a.length + i) * a.inner + inner), i}};
    if (is_better(best, next)) best = next;
  }}
  ((long long*)a.y)[number] = best.at;
}}
)",
                    fmt::arg("prelude", device_prelude()), fmt::arg("type", device_type(dtype)),
                    fmt::arg("value", is_half              ? "float"
                                      : size_of(dtype) < 4 ? "int"
                                                           : device_type(dtype)),
                    fmt::arg("compare", largest ? ">" : "<"), fmt::arg("last", last ? "true" : "false"),
                    fmt::arg("load", is_half ? "tf::to_float(((const T*)a.x)[place])" : "((const T*)a.x)[place]"));
    return source;
  }
  ArgKernel(const KernelSpec& spec, const LoadedModule& module)
      : axis_(static_cast<std::size_t>(
            *normalized_axis(spec.op->attributes().get_int("axis", 0), spec.inputs[0].rank()))),
        rows_(module.function("rows")),
        columns_(module.function("columns")) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    if (launch.outputs[0].num_elements() == 0) return;
    ReduceArguments arguments;
    arguments.x = x.data;
    arguments.y = launch.outputs[0].data;
    arguments.outer = product_of_dims(x.dims, 0, axis_);
    arguments.length = x.dims[axis_];
    arguments.inner = product_of_dims(x.dims, axis_ + 1, x.dims.size());
    constexpr int kThreads = 128, kRows = 4;
    LaunchConfig config;
    config.function = arguments.inner == 1 ? rows_ : columns_;
    config.grid.x =
        static_cast<unsigned>(arguments.inner == 1 ? divide_up(arguments.outer, kRows)
                                                   : divide_up(arguments.outer * arguments.inner, kThreads));
    config.block.x = kThreads;
    cuda_stream(launch).launch(config, arguments);
  }

 private:
  std::size_t axis_;
  Function rows_, columns_;
};

}  // namespace

const CudaTactic kReduceL1 = plain_tactic<ReduceKernel>("reduce.sums", "ReduceL1");
const CudaTactic kReduceL2 = plain_tactic<ReduceKernel>("reduce.sums", "ReduceL2");
const CudaTactic kReduceLogSum = plain_tactic<ReduceKernel>("reduce.sums", "ReduceLogSum");
const CudaTactic kReduceLogSumExp = plain_tactic<ReduceKernel>("reduce.sums", "ReduceLogSumExp");
const CudaTactic kReduceMax = plain_tactic<ReduceKernel>("reduce.sums", "ReduceMax");
const CudaTactic kReduceMean = plain_tactic<ReduceKernel>("reduce.sums", "ReduceMean");
const CudaTactic kReduceMin = plain_tactic<ReduceKernel>("reduce.sums", "ReduceMin");
const CudaTactic kReduceProd = plain_tactic<ReduceKernel>("reduce.sums", "ReduceProd");
const CudaTactic kReduceSum = plain_tactic<ReduceKernel>("reduce.sums", "ReduceSum");
const CudaTactic kReduceSumSquare = plain_tactic<ReduceKernel>("reduce.sums", "ReduceSumSquare");
const CudaTactic kArgMax = plain_tactic<ArgKernel>("reduce.position", "ArgMax");
const CudaTactic kArgMin = plain_tactic<ArgKernel>("reduce.position", "ArgMin");

}  // namespace tenfold::cuda
