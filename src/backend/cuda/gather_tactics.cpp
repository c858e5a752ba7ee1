// Reading by position: Gather (embeddings), and Pad, whose output elements each look for their place in the input.
#include <algorithm>

#include "backend/cuda/element_text.hpp"
#include "backend/cuda/loop_nest.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "backend/cuda/tactic_tools.hpp"
#include "ops/pad.hpp"

namespace tenfold::cuda {
namespace {

constexpr int kThreads = 256;

bool is_aligned(const void* data) { return reinterpret_cast<std::uintptr_t>(data) % 16 == 0; }

/// y[outer, i, inner] = x[outer, indices[i], inner]
class GatherKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(1) || !signature.has_output(0)) return "operands are missing";
    const DType index = signature.inputs[1].dtype;
    if (index != DType::int64 && index != DType::int32) return "the indices are neither int32 nor int64";
    if (!normalized_axis(signature.op.attributes().get_int("axis", 0), signature.inputs[0].rank()))
      return "no such axis";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const std::size_t bytes = size_of(spec.inputs[0].dtype);
    Source source;
    source.entries = {"vectors", "elements"};
    source.text =
        fmt::format(R"({}{}
typedef {} T;
typedef {} Index;
struct Arguments {{
  const void* x;
  void* y;
  const void* indices;
  long long size, count, inner, threads;
}};
template <int V>
TF_FN void gather(const Arguments& a) {{
  tf::begin_early();
  const long long thread = blockIdx.x * 256LL + threadIdx.x;
  if (thread >= a.threads) return;
  const long long columns = a.inner / V;
  const long long row = thread / columns, column = (thread - row * columns) * V;
  const long long outer = row / a.count;
  long long place = (long long)((const Index*)a.indices)[row - outer * a.count];
  if (place < 0) place += a.size;
  // An index outside the axis is the caller's mistake; the kernel stays inside its memory all the same.
  place = place < 0 ? 0 : place >= a.size ? a.size - 1 : place;
  *(tf::Vector<T, V>*)((T*)a.y + row * a.inner + column) =
      *(const tf::Vector<T, V>*)((const T*)a.x + (outer * a.size + place) * a.inner + column);
}}
extern "C" __global__ void __launch_bounds__(256) vectors(const __grid_constant__ Arguments a) {{ gather<{}>(a); }}
extern "C" __global__ void __launch_bounds__(256) elements(const __grid_constant__ Arguments a) {{ gather<1>(a); }}
)",
                    device_prelude(), nest_prelude(), bits_type(bytes), device_type(spec.inputs[1].dtype), 16 / bytes);
    return source;
  }
  GatherKernel(const KernelSpec& spec, const LoadedModule& module)
      : axis_(static_cast<std::size_t>(
            *normalized_axis(spec.op->attributes().get_int("axis", 0), spec.inputs[0].rank()))),
        vector_(static_cast<std::int64_t>(16 / size_of(spec.inputs[0].dtype))),
        vectors_(module.function("vectors")),
        elements_(module.function("elements")) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    struct {
      const void* x;
      void* y;
      const void* indices;
      std::int64_t size, count, inner, threads;
    } arguments{x.data,
                y.data,
                launch.inputs[1].data,
                x.dims[axis_],
                launch.inputs[1].num_elements(),
                product_of_dims(x.dims, axis_ + 1, x.dims.size()),
                0};
    const bool is_wide = arguments.inner % vector_ == 0 && is_aligned(x.data) && is_aligned(y.data);
    arguments.threads = y.num_elements() / (is_wide ? vector_ : 1);
    LaunchConfig config;
    config.function = is_wide ? vectors_ : elements_;
    config.grid.x = static_cast<unsigned>(divide_up(arguments.threads, kThreads));
    config.block.x = kThreads;
    config.pdl = true;
    cuda_stream(launch).launch(config, arguments);
  }

 private:
  std::size_t axis_;
  std::int64_t vector_;
  Function vectors_, elements_;
};

/// As the kernel sees it. Axes that are not padded at the end are one with the elements that move together.
struct PadArguments {
  const void* x = nullptr;
  void* y = nullptr;
  std::int64_t threads = 0, inner = 1;
  std::int32_t rank = 0;
  std::int32_t in[kMaxRank] = {}, out[kMaxRank] = {}, before[kMaxRank] = {};
};

class PadKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    const auto* pad = dynamic_cast<const Pad*>(&signature.op);
    if (pad == nullptr || !signature.has_input(0) || !signature.has_output(0)) return "operands are missing";
    if (!pad->pads()) return "the padding is computed";
    if (pad->pads()->size() != 2 * signature.inputs[0].dims.size()) return "there are not two pads for each axis";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const auto& pad = dynamic_cast<const Pad&>(*spec.op);
    const DType dtype = spec.inputs[0].dtype;
    const std::size_t bytes = size_of(dtype);
    std::string_view place;
    switch (pad.mode()) {
      case PadMode::constant:
        place = "    outside |= at < 0 || at >= size;\n";
        break;
      case PadMode::edge:
        place = "    at = at < 0 ? 0 : at >= size ? size - 1 : at;\n";
        break;
      case PadMode::wrap:
        place = "    at %= size;\n    if (at < 0) at += size;\n";
        break;
      case PadMode::reflect:
        place =
            "    const int period = size > 1 ? 2 * (size - 1) : 1;\n"
            "    at %= period;\n"
            "    if (at < 0) at += period;\n"
            "    if (at >= size) at = period - at;\n";
        break;
    }
    Source source;
    source.entries = {"vectors", "elements"};
    source.text = fmt::format(
        R"({}{}
typedef {} T;
struct Arguments {{
  const void* x;
  void* y;
  long long threads, inner;
  int rank;
  int in[8], out[8], before[8];
}};
template <int V, typename Index>
TF_FN void pad(const Arguments& a) {{
  const Index thread = blockIdx.x * (Index)256 + threadIdx.x;
  if (thread >= a.threads) return;
  const Index columns = (Index)(a.inner / V);
  Index rest = thread / columns;
  const long long column = (long long)(thread - rest * columns) * V;
  long long from = 0, step = 1;
  bool outside = false;
  for (int axis = a.rank - 1; axis >= 0; --axis) {{
    const Index next = rest / (Index)a.out[axis];
    const int size = a.in[axis];
    int at = (int)(rest - next * (Index)a.out[axis]) - a.before[axis];
{}    from += at * step;
    step *= size;
    rest = next;
  }}
  tf::Vector<T, V> result;
  const {} number = {};
#pragma unroll
  for (int i = 0; i < V; ++i) result.at[i] = *(const T*)&number;
  if (!outside) result = *(const tf::Vector<T, V>*)((const T*)a.x + from * a.inner + column);
  *(tf::Vector<T, V>*)((T*)a.y + (long long)thread * V) = result;
}}
// Divisions of 32 bits are several times cheaper.
template <int V>
TF_FN void pad_any(const Arguments& a) {{
  if (a.threads < (1LL << 31)) pad<V, unsigned>(a);
  else pad<V, unsigned long long>(a);
}}
extern "C" __global__ void __launch_bounds__(256) vectors(const __grid_constant__ Arguments a) {{ pad_any<{}>(a); }}
extern "C" __global__ void __launch_bounds__(256) elements(const __grid_constant__ Arguments a) {{ pad_any<1>(a); }}
)",
        device_prelude(), nest_prelude(), bits_type(bytes), place, device_type(dtype),
        is_device_float(dtype) || dtype == DType::float8e4m3
            ? fmt::format("tf::from_float<{}>({})", device_type(dtype), float_literal(static_cast<float>(pad.value())))
            : fmt::format("({})({:a})", device_type(dtype), pad.value()),
        16 / bytes);
    return source;
  }
  PadKernel(const KernelSpec& spec, const LoadedModule& module)
      : pads_(*dynamic_cast<const Pad&>(*spec.op).pads()),
        vector_(static_cast<std::int64_t>(16 / size_of(spec.inputs[0].dtype))),
        vectors_(module.function("vectors")),
        elements_(module.function("elements")) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    PadArguments arguments;
    arguments.x = x.data;
    arguments.y = y.data;
    std::size_t rank = x.dims.size();
    while (rank > 0 && x.dims[rank - 1] == y.dims[rank - 1] && pads_[rank - 1] == 0) arguments.inner *= x.dims[--rank];
    arguments.rank = static_cast<std::int32_t>(rank);
    for (std::size_t a = 0; a < rank; ++a) {
      arguments.in[a] = static_cast<std::int32_t>(x.dims[a]);
      arguments.out[a] = static_cast<std::int32_t>(y.dims[a]);
      arguments.before[a] = static_cast<std::int32_t>(pads_[a]);
    }
    const bool is_wide = arguments.inner % vector_ == 0 && is_aligned(x.data) && is_aligned(y.data);
    arguments.threads = y.num_elements() / (is_wide ? vector_ : 1);
    LaunchConfig config;
    config.function = is_wide ? vectors_ : elements_;
    config.grid.x = static_cast<unsigned>(divide_up(arguments.threads, kThreads));
    config.block.x = kThreads;
    cuda_stream(launch).launch(config, arguments);
  }

 private:
  std::vector<std::int64_t> pads_;
  std::int64_t vector_;
  Function vectors_, elements_;
};

}  // namespace

const CudaTactic kGatherRows = plain_tactic<GatherKernel>("gather.rows", "Gather");
const CudaTactic kPadElements = plain_tactic<PadKernel>("pad.elements", "Pad");

}  // namespace tenfold::cuda
