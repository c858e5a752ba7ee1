// TopK along the innermost axis: each block sorts one row in shared memory (bitonic sort: Batcher 1968) as pairs of a
// key and a position. Keys are unsigned integers in the order of the values, NaN above all numbers; equal values come
// in the order of their positions.
#include <algorithm>
#include <bit>

#include "backend/cuda/loop_nest.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "backend/cuda/tactic_tools.hpp"

namespace tenfold::cuda {
namespace {

constexpr int kThreads = 512;
constexpr std::int64_t kLongest = 16384;  // 8 bytes each

class TopKKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || signature.outputs.empty()) return "operands are missing";
    const TensorType& x = signature.inputs[0];
    if (!is_device_float(x.dtype)) return fmt::format("no kernel for {}", to_string(x.dtype));
    const auto axis = normalized_axis(signature.op.attributes().get_int("axis", -1), x.rank());
    if (!axis) return "no such axis";
    if (*axis != x.rank() - 1) return "the axis is not the innermost";
    if (!x.dims.back().is_constant()) return "the length of a row is not known";
    if (x.dims.back().constant() > kLongest || x.dims.back().constant() < 1)
      return fmt::format("rows of {} elements, a block sorts 1 to {}", x.dims.back().constant(), kLongest);
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const bool largest = spec.op->attributes().get_int("largest", 1) != 0;
    Source source;
    source.entries = {"sort_rows"};
    source.text = fmt::format(R"({prelude}
typedef {type} T;
extern "C" __global__ void __launch_bounds__({threads}) sort_rows(const T* x, T* values, long long* positions, int length, int k) {{
  extern __shared__ unsigned long long pairs[];  // key above, position below: smaller comes first
  constexpr int kSize = {size};
  const T* row = x + (long long)blockIdx.x * length;
  for (int i = threadIdx.x; i < kSize; i += {threads}) {{
    unsigned long long pair = ~0ull;
    if (i < length) {{
      const float value = tf::to_float(row[i]);
      unsigned key = value != value ? 0xffffffffu : tf::bits_of(value == 0.0f ? 0.0f : value);
      if (value == value) key = key & 0x80000000u ? ~key : key | 0x80000000u;
      if ({largest}) key = ~key;
      pair = (unsigned long long)key << 32 | (unsigned)i;
    }}
    pairs[i] = pair;
  }}
  for (int run = 2; run <= kSize; run *= 2) {{
    for (int step = run / 2; step > 0; step /= 2) {{
      __syncthreads();
      for (int i = threadIdx.x; i < kSize / 2; i += {threads}) {{
        const int low = 2 * step * (i / step) + i % step, high = low + step;
        const unsigned long long a = pairs[low], b = pairs[high];
        if ((a > b) == ((low & run) == 0)) {{
          pairs[low] = b;
          pairs[high] = a;
        }}
      }}
    }}
  }}
  __syncthreads();
  for (int i = threadIdx.x; i < k; i += {threads}) {{
    const unsigned at = (unsigned)pairs[i];
    if (values) values[(long long)blockIdx.x * k + i] = row[at];
    if (positions) positions[(long long)blockIdx.x * k + i] = at;
  }}
}}
)",
                              fmt::arg("prelude", device_prelude()),
                              fmt::arg("type", device_type(spec.inputs[0].dtype)), fmt::arg("threads", kThreads),
                              fmt::arg("size", padded(spec)), fmt::arg("largest", largest ? "true" : "false"));
    return source;
  }
  TopKKernel(const KernelSpec& spec, const LoadedModule& module)
      : smem_bytes_(static_cast<unsigned>(padded(spec) * 8)), function_(module.function("sort_rows")) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView values = operand_of(launch.outputs, 0), positions = operand_of(launch.outputs, 1);
    const TensorView& any = values.data != nullptr ? values : positions;
    if (any.data == nullptr || any.num_elements() == 0) return;
    LaunchConfig config;
    config.function = function_;
    config.grid.x = static_cast<unsigned>(product_of_dims(x.dims, 0, x.dims.size() - 1));
    config.block.x = kThreads;
    config.smem_bytes = smem_bytes_;
    cuda_stream(launch).launch(config, static_cast<const void*>(x.data), values.data, positions.data,
                               static_cast<int>(x.dims.back()), static_cast<int>(any.dims.back()));
  }

 private:
  static std::uint64_t padded(const KernelSpec& spec) {
    return std::max<std::uint64_t>(2, std::bit_ceil(static_cast<std::uint64_t>(spec.inputs[0].dims.back().constant())));
  }
  unsigned smem_bytes_;
  Function function_;
};

}  // namespace

const CudaTactic kTopKSort = plain_tactic<TopKKernel>("top_k.sort", "TopK");

}  // namespace tenfold::cuda
