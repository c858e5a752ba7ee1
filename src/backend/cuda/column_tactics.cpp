// Softmax, LogSoftmax, Hardmax and LpNormalization along any axis: a thread makes one column, whose elements lie
// `inner` apart, so neighbouring threads read neighbours. Softmax and LogSoftmax along the innermost axis have faster
// tactics.
#include "backend/cuda/element_text.hpp"
#include "backend/cuda/pointwise_text.hpp"

namespace tenfold::cuda {
namespace {

struct Arguments {
  const void* x = nullptr;
  void* y = nullptr;
  std::int64_t columns = 0, inner = 0, length = 0;
};

class ColumnKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || !signature.has_output(0)) return "operands are missing";
    const DType dtype = signature.inputs[0].dtype;
    if (!is_plain_float(dtype) || signature.outputs[0].dtype != dtype)
      return fmt::format("no kernel for {}", to_string(dtype));
    const auto axis = axis_of(signature.op, signature.inputs[0].rank());
    if (!axis) return "no such axis";
    const bool is_innermost = *axis + 1 == signature.inputs[0].rank();
    if (is_innermost && is_device_float(dtype) && signature.op.type() != "Hardmax" &&
        signature.op.type() != "LpNormalization")
      return "the axis is the innermost, which whole rows are for";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const std::string_view type = spec.op->type();
    std::string_view body;
    if (type == "Hardmax") {
      body = R"(
    long long best = 0;
    C largest = E::get(x[0]);
    for (long long i = 1; i < a.length; ++i) {
      const C value = E::get(x[i * a.inner]);
      if (value > largest) best = i, largest = value;
    }
    for (long long i = 0; i < a.length; ++i) y[i * a.inner] = E::put(i == best ? C(1) : C(0));)";
    } else if (type == "LpNormalization") {
      body = spec.op->attributes().get_int("p", 2) == 2 ? R"(
    C norm = 0;
    for (long long i = 0; i < a.length; ++i) norm += E::get(x[i * a.inner]) * E::get(x[i * a.inner]);
    norm = sqrt(norm);
    for (long long i = 0; i < a.length; ++i) y[i * a.inner] = E::put(norm == 0 ? C(0) : E::get(x[i * a.inner]) / norm);)"
                                                        : R"(
    C norm = 0;
    for (long long i = 0; i < a.length; ++i) norm += fabs(E::get(x[i * a.inner]));
    for (long long i = 0; i < a.length; ++i) y[i * a.inner] = E::put(norm == 0 ? C(0) : E::get(x[i * a.inner]) / norm);)";
    } else if (type == "LogSoftmax") {
      body = R"(
    C largest = E::get(x[0]), sum = 0;
    for (long long i = 1; i < a.length; ++i) largest = fmax(largest, E::get(x[i * a.inner]));
    for (long long i = 0; i < a.length; ++i) sum += exp(E::get(x[i * a.inner]) - largest);
    const C shift = largest + log(sum);
    for (long long i = 0; i < a.length; ++i) y[i * a.inner] = E::put(E::get(x[i * a.inner]) - shift);)";
    } else {
      body = R"(
    C largest = E::get(x[0]), sum = 0;
    for (long long i = 1; i < a.length; ++i) largest = fmax(largest, E::get(x[i * a.inner]));
    for (long long i = 0; i < a.length; ++i) sum += exp(E::get(x[i * a.inner]) - largest);
    const C factor = C(1) / sum;
    for (long long i = 0; i < a.length; ++i) y[i * a.inner] = E::put(exp(E::get(x[i * a.inner]) - largest) * factor);)";
    }
    Source source;
    source.entries = {"columns"};
    source.text = fmt::format(R"({}{}
typedef {} T;
typedef tf::Element<T> E;
typedef E::C C;
struct Arguments {{
  const T* x;
  T* y;
  long long columns, inner, length;
}};
extern "C" __global__ void __launch_bounds__(256) columns(const __grid_constant__ Arguments a) {{
  tf::begin_early();
  tf::for_each_thread(a.columns, [&](long long column) {{
    const long long first = column / a.inner * a.length * a.inner + column % a.inner;
    const T* x = a.x + first;
    T* y = a.y + first;{}
  }});
}}
)",
                              device_prelude(), element_prelude(), device_type(spec.inputs[0].dtype), body);
    return source;
  }
  ColumnKernel(const KernelSpec& spec, const LoadedModule& module)
      : axis_(static_cast<std::size_t>(*axis_of(*spec.op, spec.inputs[0].rank()))),
        columns_(module.function("columns")) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    if (x.num_elements() == 0) return;
    Arguments arguments{x.data, launch.outputs[0].data};
    arguments.length = x.dims[axis_];
    arguments.inner = product_of_dims(x.dims, axis_ + 1, x.dims.size());
    arguments.columns = x.num_elements() / arguments.length;
    LaunchConfig config = one_thread_each(columns_, arguments.columns);
    config.pdl = true;
    cuda_stream(launch).launch(config, arguments);
  }

 private:
  static std::optional<int> axis_of(const Op& op, int rank) {
    return normalized_axis(op.attributes().get_int("axis", -1), rank);
  }
  std::size_t axis_;
  Function columns_;
};

}  // namespace

const CudaTactic kSoftmaxColumns = plain_tactic<ColumnKernel>("columns.softmax", "Softmax");
const CudaTactic kLogSoftmaxColumns = plain_tactic<ColumnKernel>("columns.softmax", "LogSoftmax");
const CudaTactic kLpNormalizationColumns = plain_tactic<ColumnKernel>("columns.normalize", "LpNormalization");
const CudaTactic kHardmaxColumns = plain_tactic<ColumnKernel>("columns.softmax", "Hardmax");

}  // namespace tenfold::cuda
