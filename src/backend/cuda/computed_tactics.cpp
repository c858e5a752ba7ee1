// Slice and Pad whose positions other steps compute: kernels read them where they lie. Only the result's shape must be
// known when they start.
#include "backend/cuda/element_text.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "ops/pad.hpp"
#include "ops/slice.hpp"

namespace tenfold::cuda {
namespace {

/// Lists of positions, of type `list`: each null or as long as the axes it is for.
Refusal refuses_lists(const Signature& signature, std::initializer_list<std::size_t> lists, DType& list) {
  list = DType::undefined;
  for (const std::size_t i : lists) {
    if (!signature.has_input(i)) continue;
    const DType dtype = signature.inputs[i].dtype;
    if (dtype != DType::int32 && dtype != DType::int64) return fmt::format("input {} is neither int32 nor int64", i);
    if (list != DType::undefined && list != dtype) return "the lists of positions differ in type";
    if (signature.inputs[i].rank() != 1) return fmt::format("input {} is no list", i);
    list = dtype;
  }
  return std::nullopt;
}

class ComputedSliceKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    const auto* slice = dynamic_cast<const Slice*>(&signature.op);
    if (slice == nullptr || !signature.has_input(0) || !signature.has_output(0)) return "operands are missing";
    if (slice->ranges()) return "the positions are known when it is built";
    if (!signature.has_input(1) || !signature.has_input(2)) return "operands are missing";
    DType list{};
    return refuses_lists(signature, {1, 2, 3, 4}, list);
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    Source source;
    source.entries = {"slice"};
    source.text = fmt::format(R"({}{}
typedef {} T;
typedef {} Index;
extern "C" __global__ void __launch_bounds__(256) slice(const T* x, T* y, const Index* starts, const Index* axes, const Index* steps, long long num_ranges, long long count, const __grid_constant__ Sizes in, const __grid_constant__ Sizes out) {{
  tf::begin_early();
  __shared__ long long first[8], stride[8];
  if (threadIdx.x == 0) {{
    long long step = 1;
    for (int a = in.rank - 1; a >= 0; --a) {{
      first[a] = 0;
      stride[a] = step;
      step *= in.at[a];
    }}
    for (int i = 0; i < num_ranges; ++i) {{
      long long axis = axes ? (long long)axes[i] : i;
      if (axis < 0) axis += in.rank;
      if (axis < 0 || axis >= in.rank) continue;
      const long long by = steps ? (long long)steps[i] : 1, size = in.at[axis], highest = by > 0 ? size : size - 1;
      long long start = starts[i];
      if (start < 0) start += size;
      start = start < 0 ? 0 : start > highest ? highest : start;
      // Whatever the step is, the last element lies inside.
      if (out.at[axis] > 1) {{
        const long long last = start + (out.at[axis] - 1) * by;
        if (last < 0 || last >= size) continue;
      }} else if (start >= size) {{
        continue;
      }}
      first[axis] = start * stride[axis];
      stride[axis] *= by;
    }}
  }}
  __syncthreads();
  tf::for_each_thread(count, [&](long long i) {{
    long long rest = i, from = 0;
    for (int a = out.rank - 1; a >= 0; --a) {{
      from += first[a] + rest % out.at[a] * stride[a];
      rest /= out.at[a];
    }}
    y[i] = x[from];
  }});
}}
)",
                              device_prelude(), element_prelude(), bits_type(size_of(spec.inputs[0].dtype)),
                              device_type(spec.inputs[1].dtype));
    return source;
  }
  ComputedSliceKernel(const KernelSpec&, const LoadedModule& module) : slice_(module.function("slice")) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0 || x.num_elements() == 0) return;
    LaunchConfig config = one_thread_each(slice_, y.num_elements());
    config.pdl = true;
    cuda_stream(launch).launch(config, static_cast<const void*>(x.data), y.data,
                               static_cast<const void*>(launch.inputs[1].data),
                               static_cast<const void*>(operand_of(launch.inputs, 3).data),
                               static_cast<const void*>(operand_of(launch.inputs, 4).data),
                               launch.inputs[1].num_elements(), y.num_elements(), sizes_of(x.dims), sizes_of(y.dims));
  }

 private:
  Function slice_;
};

class ComputedPadKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    const auto* pad = dynamic_cast<const Pad*>(&signature.op);
    if (pad == nullptr || !signature.has_input(0) || !signature.has_output(0)) return "operands are missing";
    if (pad->pads()) return "the padding is known when it is built";
    if (!signature.has_input(1)) return "operands are missing";
    DType list{};
    return refuses_lists(signature, {1, 3}, list);
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    std::string_view place;
    switch (dynamic_cast<const Pad&>(*spec.op).mode()) {
      case PadMode::constant:
        place = "outside |= at < 0 || at >= size;";
        break;
      case PadMode::edge:
        place = "at = at < 0 ? 0 : at >= size ? size - 1 : at;";
        break;
      case PadMode::wrap:
        place = "at %= size;\n      if (at < 0) at += size;";
        break;
      case PadMode::reflect:
        place =
            "const long long period = size > 1 ? 2 * (size - 1) : 1;\n      at %= period;\n      if (at < 0) at += "
            "period;\n      if (at >= size) at = period - at;";
        break;
    }
    Source source;
    source.entries = {"pad"};
    source.text = fmt::format(R"({}{}
typedef {} T;
typedef {} Index;
extern "C" __global__ void __launch_bounds__(256) pad(const T* x, T* y, const Index* pads, const T* value, const Index* axes, long long num_axes, long long count, const __grid_constant__ Sizes in, const __grid_constant__ Sizes out) {{
  tf::begin_early();
  __shared__ long long before[8];
  if (threadIdx.x == 0) {{
    for (int a = 0; a < in.rank; ++a) before[a] = 0;
    for (int i = 0; i < num_axes; ++i) {{
      long long axis = axes ? (long long)axes[i] : i;
      if (axis < 0) axis += in.rank;
      if (axis >= 0 && axis < in.rank) before[axis] = pads[i];
    }}
  }}
  __syncthreads();
  const T fill = value ? *value : T(0);
  tf::for_each_thread(count, [&](long long i) {{
    long long rest = i, from = 0, step = 1;
    bool outside = false;
    for (int a = out.rank - 1; a >= 0; --a) {{
      const long long size = in.at[a];
      long long at = rest % out.at[a] - before[a];
      rest /= out.at[a];
      {}
      from += at * step;
      step *= size;
    }}
    y[i] = outside ? fill : x[from];
  }});
}}
)",
                              device_prelude(), element_prelude(), bits_type(size_of(spec.inputs[0].dtype)),
                              device_type(spec.inputs[1].dtype), place);
    return source;
  }
  ComputedPadKernel(const KernelSpec&, const LoadedModule& module) : pad_(module.function("pad")) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    LaunchConfig config = one_thread_each(pad_, y.num_elements());
    config.pdl = true;
    cuda_stream(launch).launch(
        config, static_cast<const void*>(x.data), y.data, static_cast<const void*>(launch.inputs[1].data),
        static_cast<const void*>(operand_of(launch.inputs, 2).data),
        static_cast<const void*>(operand_of(launch.inputs, 3).data), launch.inputs[1].num_elements() / 2,
        y.num_elements(), sizes_of(x.dims), sizes_of(y.dims));
  }

 private:
  Function pad_;
};

}  // namespace

const CudaTactic kSliceComputed = plain_tactic<ComputedSliceKernel>("slice.computed", "Slice");
const CudaTactic kPadComputed = plain_tactic<ComputedPadKernel>("pad.computed", "Pad");

}  // namespace tenfold::cuda
