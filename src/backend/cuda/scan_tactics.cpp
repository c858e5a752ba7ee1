// CumSum and CumProd, in double or in integers that wrap, as the reference. Which axis is an operand, so the kernel
// finds its columns itself: where neighbours in a column are neighbours in memory a block scans it, else a thread does.
#include <algorithm>

#include "backend/cuda/element_text.hpp"
#include "backend/cuda/pointwise_text.hpp"

namespace tenfold::cuda {
namespace {

class ScanKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || !signature.has_input(1) || !signature.has_output(0)) return "operands are missing";
    const DType axis = signature.inputs[1].dtype;
    if (axis != DType::int32 && axis != DType::int64) return "the axis is neither int32 nor int64";
    if (signature.inputs[0].rank() < 1) return "the input is a single number";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const DType dtype = spec.inputs[0].dtype;
    const Attributes attributes = spec.op->attributes();
    const bool is_product = spec.op->type() == "CumProd";
    const bool is_real = is_float(dtype);
    Source source;
    source.entries = {"scan"};
    source.text = fmt::format(R"({}{}
typedef {} T;
typedef {} S;
typedef {} Index;
constexpr bool kExclusive = {}, kReverse = {};
constexpr S kNeutral = {};
TF_FN S combine(S a, S b) {{ return a {} b; }}
TF_FN S load(T x) {{ return (S){}; }}
TF_FN T store(S x) {{ return {}; }}
extern "C" __global__ void __launch_bounds__(256) scan(const T* x, const Index* axes, T* y, const __grid_constant__ Sizes dims) {{
  tf::begin_early();
  long long axis = axes[0], inner = 1, outer = 1;
  if (axis < 0) axis += dims.rank;
  axis = axis < 0 ? 0 : axis >= dims.rank ? dims.rank - 1 : axis;
  for (int i = 0; i < dims.rank; ++i) {{
    if (i < axis) outer *= dims.at[i];
    if (i > axis) inner *= dims.at[i];
  }}
  const long long length = dims.at[axis];
  if (inner == 1) {{
    for (long long row = blockIdx.x; row < outer; row += gridDim.x) {{
      S before = kNeutral;
      for (long long first = 0; first < length; first += 256) {{
        const long long step = first + threadIdx.x, at = row * length + (kReverse ? length - 1 - step : step);
        const S own = step < length ? load(x[at]) : kNeutral;
        S total;
        const S sum = tf::block_scan(own, kNeutral, combine, total);
        const S exclusive = combine(before, sum);
        if (step < length) y[at] = store(kExclusive ? exclusive : combine(exclusive, own));
        before = combine(before, total);
      }}
    }}
    return;
  }}
  tf::for_each_thread(outer * inner, [&](long long column) {{
    const long long base = column / inner * length * inner + column % inner;
    S total = kNeutral;
    for (long long step = 0; step < length; ++step) {{
      const long long at = base + (kReverse ? length - 1 - step : step) * inner;
      const S with = combine(total, load(x[at]));
      y[at] = store(kExclusive ? total : with);
      total = with;
    }}
  }});
}}
)",
                              device_prelude(), element_prelude(), device_type(dtype),
                              is_real ? "double" : "unsigned long long", device_type(spec.inputs[1].dtype),
                              attributes.get_int("exclusive", 0) != 0, attributes.get_int("reverse", 0) != 0,
                              is_product ? 1 : 0, is_product ? "*" : "+", is_real ? "tf::Element<T>::get(x)" : "x",
                              is_real ? "tf::Element<T>::put((tf::Element<T>::C)x)" : "(T)x");
    return source;
  }
  ScanKernel(const KernelSpec&, const LoadedModule& module) : scan_(module.function("scan")) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    if (x.num_elements() == 0) return;
    constexpr std::int64_t kMostThreads = std::int64_t{1} << 20;  // blocks and threads walk over several columns
    LaunchConfig config = one_thread_each(scan_, std::min(x.num_elements(), kMostThreads));
    config.pdl = true;
    cuda_stream(launch).launch(config, static_cast<const void*>(x.data),
                               static_cast<const void*>(launch.inputs[1].data), launch.outputs[0].data,
                               sizes_of(x.dims));
  }

 private:
  Function scan_;
};

}  // namespace

const CudaTactic kCumSumScan = plain_tactic<ScanKernel>("scan.columns", "CumSum");
const CudaTactic kCumProdScan = plain_tactic<ScanKernel>("scan.columns", "CumProd");

}  // namespace tenfold::cuda
