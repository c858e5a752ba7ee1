// Results as long as the data says: NonZero and Compress. Blocks count what they keep, one block turns the counts into
// places, and when the host has read the sum, and made room for the result, the kept elements are written in order.
#include <algorithm>

#include "backend/cuda/element_text.hpp"
#include "backend/cuda/pointwise_text.hpp"

namespace tenfold::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kPerBlock = 4096;  // elements that a block looks at

/// Positions that are kept of `count`, in order, by a predicate over elements of type T.
constexpr std::string_view kSelectText = R"(
extern "C" __global__ void __launch_bounds__(256) count_kept(const T* data, long long* counts, long long count) {{
  long long kept = 0;
  for (long long i = blockIdx.x * {per_block}LL + threadIdx.x; i < count && i < (blockIdx.x + 1) * {per_block}LL; i += 256) kept += is_kept(data[i]);
  long long total;
  tf::block_scan(kept, 0ll, [](long long a, long long b) {{ return a + b; }}, total);
  if (threadIdx.x == 0) counts[blockIdx.x] = total;
}}
// counts[i] becomes the sum of those before, counts[blocks] the sum of all. One block.
extern "C" __global__ void __launch_bounds__(256) place_blocks(long long* counts, long long blocks) {{
  long long before = 0;
  for (long long first = 0; first < blocks; first += 256) {{
    const long long i = first + threadIdx.x;
    long long total;
    const long long own = tf::block_scan(i < blocks ? counts[i] : 0ll, 0ll, [](long long a, long long b) {{ return a + b; }}, total);
    if (i < blocks) counts[i] = before + own;
    before += total;
  }}
  if (threadIdx.x == 0) counts[blocks] = before;
}}
// write(place among the kept, position)
template <typename F>
TF_FN void for_each_kept(const T* data, const long long* counts, long long count, F write) {{
  long long before = counts[blockIdx.x];
  for (long long first = blockIdx.x * {per_block}LL; first < count && first < (blockIdx.x + 1) * {per_block}LL; first += 256) {{
    const long long i = first + threadIdx.x;
    const bool kept = i < count && is_kept(data[i]);
    long long total;
    const long long own = tf::block_scan(kept ? 1ll : 0ll, 0ll, [](long long a, long long b) {{ return a + b; }}, total);
    if (kept) write(before + own, i);
    before += total;
  }}
}}
)";

std::string select_text() { return fmt::format(fmt::runtime(kSelectText), fmt::arg("per_block", kPerBlock)); }

std::int64_t num_blocks(std::int64_t count) { return divide_up(count, kPerBlock); }

/// Runs the first two kernels and waits for the number of kept elements.
std::int64_t count_kept(const Function& count, const Function& place, const Launch& launch, const TensorView& data) {
  auto* counts = launch.workspace.data();
  CudaStream& stream = cuda_stream(launch);
  const std::int64_t elements = data.num_elements(), blocks = num_blocks(elements);
  if (elements == 0) return 0;
  LaunchConfig config;
  config.function = count;
  config.grid.x = static_cast<unsigned>(blocks);
  config.block.x = kThreads;
  stream.launch(config, static_cast<const void*>(data.data), static_cast<void*>(counts), elements);
  config.function = place;
  config.grid.x = 1;
  stream.launch(config, static_cast<void*>(counts), blocks);
  std::int64_t kept = 0;
  stream.read(&kept, counts + static_cast<std::size_t>(blocks) * sizeof(std::int64_t), sizeof kept);
  return kept;
}

const TensorView& resize_output(const Launch& launch, const Shape& dims) {
  ensure(launch.resize != nullptr, "nobody makes room for a result of a size that only the kernel knows");
  return (*launch.resize)(0, dims);
}

class NonZeroKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || !signature.has_output(0)) return "operands are missing";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const DType dtype = spec.inputs[0].dtype;
    Source source;
    source.entries = {"count_kept", "place_blocks", "write_kept"};
    source.text = fmt::format(R"({}{}
typedef {} T;
TF_FN bool is_kept(T x) {{ return {}; }}
{}
extern "C" __global__ void __launch_bounds__(256) write_kept(const T* data, const long long* counts, long long* y, long long count, long long kept, const __grid_constant__ Sizes dims) {{
  for_each_kept(data, counts, count, [&](long long place, long long i) {{
    for (int axis = dims.rank - 1; axis >= 0; --axis) {{
      y[axis * kept + place] = i % dims.at[axis];
      i /= dims.at[axis];
    }}
  }});
}}
)",
                              device_prelude(), element_prelude(), device_type(dtype),
                              is_device_float(dtype) ? "tf::to_float(x) != 0.0f" : "x != 0", select_text());
    return source;
  }
  NonZeroKernel(const KernelSpec&, const LoadedModule& module)
      : count_(module.function("count_kept")),
        place_(module.function("place_blocks")),
        write_(module.function("write_kept")) {}
  std::size_t workspace_bytes(std::span<const TensorView> inputs, std::span<const TensorView>) const override {
    return static_cast<std::size_t>(num_blocks(inputs[0].num_elements()) + 1) * sizeof(std::int64_t);
  }
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const std::int64_t kept = count_kept(count_, place_, launch, x);
    const TensorView& y = resize_output(launch, {x.rank(), kept});
    if (y.num_elements() == 0) return;
    LaunchConfig config;
    config.function = write_;
    config.grid.x = static_cast<unsigned>(num_blocks(x.num_elements()));
    config.block.x = kThreads;
    cuda_stream(launch).launch(config, static_cast<const void*>(x.data),
                               static_cast<const void*>(launch.workspace.data()), y.data, x.num_elements(), kept,
                               sizes_of(x.dims));
  }

 private:
  Function count_, place_, write_;
};

class CompressKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || !signature.has_input(1) || !signature.has_output(0)) return "operands are missing";
    const Attributes attributes = signature.op.attributes();
    if (attributes.has("axis") && !normalized_axis(attributes.get_int("axis"), signature.inputs[0].rank()))
      return "no such axis";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    Source source;
    source.entries = {"count_kept", "place_blocks", "write_places", "copy_kept"};
    source.text =
        fmt::format(R"({}{}
typedef bool T;
typedef {} Item;
TF_FN bool is_kept(T x) {{ return x; }}
{}
extern "C" __global__ void __launch_bounds__(256) write_places(const T* data, const long long* counts, long long* places, long long count) {{
  for_each_kept(data, counts, count, [&](long long place, long long i) {{ places[place] = i; }});
}}
extern "C" __global__ void __launch_bounds__(256) copy_kept(const Item* x, const long long* places, Item* y, long long count, long long kept, long long size, long long inner) {{
  tf::for_each_thread(count, [&](long long i) {{
    const long long place = places[i / inner % kept];
    y[i] = x[(i / inner / kept * size + (place < size ? place : size - 1)) * inner + i % inner];
  }});
}}
)",
                    device_prelude(), element_prelude(), bits_type(size_of(spec.inputs[0].dtype)), select_text());
    return source;
  }
  CompressKernel(const KernelSpec& spec, const LoadedModule& module)
      : count_(module.function("count_kept")),
        place_(module.function("place_blocks")),
        write_(module.function("write_places")),
        copy_(module.function("copy_kept")) {
    const Attributes attributes = spec.op->attributes();
    if (attributes.has("axis")) axis_ = *normalized_axis(attributes.get_int("axis"), spec.inputs[0].rank());
  }
  /// Counts, then the kept places.
  std::size_t workspace_bytes(std::span<const TensorView> inputs, std::span<const TensorView>) const override {
    const std::int64_t count = inputs[1].num_elements();
    return static_cast<std::size_t>(num_blocks(count) + 1 + count) * sizeof(std::int64_t);
  }
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& condition = launch.inputs[1];
    const std::int64_t kept = count_kept(count_, place_, launch, condition);
    // Without an axis the input is one of many slices of one element.
    Shape dims{x.num_elements()};
    if (axis_ >= 0) dims.assign(x.dims.begin(), x.dims.end());
    const auto axis = static_cast<std::size_t>(std::max(axis_, 0));
    const std::int64_t size = dims[axis];
    require(kept <= size, Code::invalid_argument, "{} conditions hold, but the axis has {} elements", kept, size);
    dims[axis] = kept;
    const TensorView& y = resize_output(launch, dims);
    if (y.num_elements() == 0) return;
    auto* counts = launch.workspace.data();
    auto* places = counts + static_cast<std::size_t>(num_blocks(condition.num_elements()) + 1) * sizeof(std::int64_t);
    LaunchConfig config;
    config.function = write_;
    config.grid.x = static_cast<unsigned>(num_blocks(condition.num_elements()));
    config.block.x = kThreads;
    CudaStream& stream = cuda_stream(launch);
    stream.launch(config, static_cast<const void*>(condition.data), static_cast<const void*>(counts),
                  static_cast<void*>(places), condition.num_elements());
    stream.launch(one_thread_each(copy_, y.num_elements()), static_cast<const void*>(x.data),
                  static_cast<const void*>(places), y.data, y.num_elements(), kept, size,
                  product_of_dims(dims, axis + 1, dims.size()));
  }

 private:
  int axis_ = -1;
  Function count_, place_, write_, copy_;
};

}  // namespace

const CudaTactic kNonZeroSelect = plain_tactic<NonZeroKernel>("select.places", "NonZero");
const CudaTactic kCompressSelect = plain_tactic<CompressKernel>("select.places", "Compress");

}  // namespace tenfold::cuda
