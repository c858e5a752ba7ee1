// Reductions over any axes and of any type, in double or 64-bit integers as the reference: a block makes one result.
// Neighbouring axes of 16- and 32-bit floats have a faster tactic (reduce_tactics.cpp).
#include <algorithm>

#include "backend/cuda/element_text.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "ops/reduce.hpp"

namespace tenfold::cuda {
namespace {

struct KindText {
  std::string_view start, element, join, finish;  ///< element of x; join of a and b; finish of s
};
KindText kind_text(ReduceKind kind) {
  switch (kind) {
    case ReduceKind::l1:
      return {"0", "x < 0 ? -x : x", "a + b", "s"};
    case ReduceKind::l2:
      return {"0", "x * x", "a + b", "(S)sqrt((double)s)"};
    case ReduceKind::log_sum:
      return {"0", "x", "a + b", "log(s)"};
    case ReduceKind::log_sum_exp:
      return {"0", "exp(x - largest)", "a + b", "isinf(largest) ? largest : largest + log(s)"};
    case ReduceKind::max:
      return {"kLowest", "x", "b > a || b != b ? b : a", "s"};
    case ReduceKind::mean:
      return {"0", "x", "a + b", "s / (S)a.length"};
    case ReduceKind::min:
      return {"kHighest", "x", "b < a || b != b ? b : a", "s"};
    case ReduceKind::prod:
      return {"1", "x", "a * b", "s"};
    case ReduceKind::sum:
      return {"0", "x", "a + b", "s"};
    case ReduceKind::sum_square:
      return {"0", "x * x", "a + b", "s"};
  }
  throw Error(Code::internal, "unknown reduction");
}

/// The kept axes lead to the result, the others are walked through; strides in elements of x.
struct Arguments {
  const void* x = nullptr;
  void* y = nullptr;
  std::int64_t count = 0, length = 1;
  Sizes kept, kept_strides, walked, walked_strides;
};

class PlainReduceKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    const auto* reduce = dynamic_cast<const Reduce*>(&signature.op);
    if (reduce == nullptr || !signature.has_input(0) || !signature.has_output(0)) return "operands are missing";
    if (signature.outputs[0].dtype != signature.inputs[0].dtype) return "input and output differ in type";
    const bool is_logarithm = reduce->kind() == ReduceKind::log_sum || reduce->kind() == ReduceKind::log_sum_exp;
    if (is_logarithm && !is_float(signature.inputs[0].dtype)) return "there are no logarithms of integers";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const auto& reduce = dynamic_cast<const Reduce&>(*spec.op);
    const DType dtype = spec.inputs[0].dtype;
    const KindText kind = kind_text(reduce.kind());
    const bool is_real = is_float(dtype);
    const bool is_unsigned = dtype == DType::uint64;
    std::string_view lowest = "-1.0 / 0.0", highest = "1.0 / 0.0";
    if (!is_real) {
      lowest = is_unsigned ? "0" : "(S)(1ull << 63)";
      highest = is_unsigned ? "~0ull" : "(S)(~0ull >> 1)";
    }
    const std::string_view start = kind.start == "kLowest" ? lowest : kind.start == "kHighest" ? highest : kind.start;
    const std::string_view largest = reduce.kind() != ReduceKind::log_sum_exp
                                         ? ""
                                         : "    const S largest = over_block(a, first, (S)(-1.0 / 0.0), [](S x) { "
                                           "return x; }, [](S p, S q) { return q > p "
                                           "|| q != q ? q : p; });\n";
    Source source;
    source.entries = {"reduce"};
    source.text = fmt::format(R"({}{}
typedef {} T;
typedef {} S;
struct Arguments {{
  const T* x;
  T* y;
  long long count, length;
  Sizes kept, kept_strides, walked, walked_strides;
}};
TF_FN long long offset(const Sizes& dims, const Sizes& strides, long long i) {{
  long long at = 0;
  for (int d = dims.rank - 1; d >= 0; --d) {{
    at += i % dims.at[d] * strides.at[d];
    i /= dims.at[d];
  }}
  return at;
}}
TF_FN S load(T x) {{ return (S){}; }}
// Integers wrap.
TF_FN S join(S a, S b) {{ return {}; }}
template <typename F, typename G>
TF_FN S over_block(const Arguments& a, long long first, S start, F element, G combine) {{
  S s = start, total;
  for (long long i = threadIdx.x; i < a.length; i += 256) s = combine(s, element(load(a.x[first + offset(a.walked, a.walked_strides, i)])));
  tf::block_scan(s, start, combine, total);
  return total;
}}
extern "C" __global__ void __launch_bounds__(256) reduce(const __grid_constant__ Arguments a) {{
  tf::begin_early();
  for (long long number = blockIdx.x; number < a.count; number += gridDim.x) {{
    const long long first = offset(a.kept, a.kept_strides, number);
{}    const S s = over_block(a, first, (S)({}), [&](S x) -> S {{ return {}; }}, [](S x, S y) {{ return join(x, y); }});
    if (threadIdx.x == 0) a.y[number] = {};
  }}
}}
)",
                              device_prelude(), element_prelude(), device_type(dtype),
                              is_real       ? "double"
                              : is_unsigned ? "unsigned long long"
                                            : "long long",
                              is_real ? "tf::Element<T>::get(x)" : "x", kind.join, largest, start, kind.element,
                              is_real ? fmt::format("tf::Element<T>::put((tf::Element<T>::C)({}))", kind.finish)
                                      : fmt::format("(T)({})", kind.finish));
    return source;
  }
  PlainReduceKernel(const KernelSpec& spec, const LoadedModule& module)
      : op_(spec.op),
        reduced_(dynamic_cast<const Reduce&>(*op_).reduced_axes(spec.inputs[0].rank())),
        reduce_(module.function("reduce")) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    Arguments arguments;
    arguments.x = x.data;
    arguments.y = y.data;
    arguments.count = y.num_elements();
    const Sizes strides = contiguous_strides(x.dims);
    for (std::size_t a = 0; a < x.dims.size(); ++a) {
      Sizes& dims = reduced_[a] ? arguments.walked : arguments.kept;
      Sizes& steps = reduced_[a] ? arguments.walked_strides : arguments.kept_strides;
      dims.at[dims.rank] = x.dims[a];
      steps.at[dims.rank++] = strides.at[a];
      if (reduced_[a]) arguments.length *= x.dims[a];
    }
    constexpr std::int64_t kMostBlocks = 1 << 20;
    LaunchConfig config;
    config.function = reduce_;
    config.grid.x = static_cast<unsigned>(std::min(arguments.count, kMostBlocks));
    config.block.x = 256;
    config.pdl = true;
    cuda_stream(launch).launch(config, arguments);
  }

 private:
  OpPtr op_;
  std::vector<bool> reduced_;
  Function reduce_;
};

/// Offered only where the faster tactic does not apply.
void candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  const bool has_other = std::any_of(out.begin(), out.end(), [](const Candidate& c) { return c.refusal.empty(); });
  PlainTactic<PlainReduceKernel>::candidates(problem, traits, out);
  if (has_other && out.back().refusal.empty()) out.back().refusal = "a faster tactic takes it";
}
constexpr CudaTactic plain_reduction(std::string_view op_type) {
  return {"reduce.plain",
          op_type,
          candidates,
          nullptr,
          PlainTactic<PlainReduceKernel>::source,
          PlainTactic<PlainReduceKernel>::make};
}

}  // namespace

const CudaTactic kReduceL1Plain = plain_reduction("ReduceL1");
const CudaTactic kReduceL2Plain = plain_reduction("ReduceL2");
const CudaTactic kReduceLogSumPlain = plain_reduction("ReduceLogSum");
const CudaTactic kReduceLogSumExpPlain = plain_reduction("ReduceLogSumExp");
const CudaTactic kReduceMaxPlain = plain_reduction("ReduceMax");
const CudaTactic kReduceMeanPlain = plain_reduction("ReduceMean");
const CudaTactic kReduceMinPlain = plain_reduction("ReduceMin");
const CudaTactic kReduceProdPlain = plain_reduction("ReduceProd");
const CudaTactic kReduceSumPlain = plain_reduction("ReduceSum");
const CudaTactic kReduceSumSquarePlain = plain_reduction("ReduceSumSquare");

}  // namespace tenfold::cuda
