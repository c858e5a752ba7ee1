// Poolings in any layout, of one to three spatial axes and any type: one thread for each result. Channels-last images
// have a faster tactic (pool_tactics.cpp); this one also hands out positions, and computes LpPool.
#include <algorithm>

#include "backend/cuda/element_text.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "ops/pool.hpp"

namespace tenfold::cuda {
namespace {

struct PoolArguments {
  const void* x = nullptr;
  void* y = nullptr;
  void* positions = nullptr;
  std::int64_t count = 0, channels = 0;
  std::int64_t in[3], out[3], begin[3], end[3];
};

class PlainPoolKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || signature.outputs.empty()) return "operands are missing";
    const DType dtype = signature.inputs[0].dtype;
    if (signature.has_output(0) && signature.outputs[0].dtype != dtype) return "input and output differ in type";
    const int rank = signature.inputs[0].rank();
    if (rank < 3 || rank > 5) return fmt::format("rank {} has not one to three spatial axes", rank);
    const Attributes attributes = signature.op.attributes();
    const auto spatial = static_cast<std::size_t>(rank - 2);
    if (attributes.get_ints("kernel_shape", {}).size() != spatial ||
        static_cast<std::size_t>(Window::from(attributes).spatial_rank()) != spatial)
      return "window and input differ in rank";
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const Attributes attributes = spec.op->attributes();
    const Window window = Window::from(attributes);
    const DType dtype = spec.inputs[0].dtype;
    const auto list = [](const std::array<std::int64_t, 3>& values) {
      return fmt::format("{{{}, {}, {}}}", values[0], values[1], values[2]);
    };
    const std::string_view type = spec.op->type();
    std::string start, visit, finish;
    if (type == "MaxPool") {
      start = "T best = T();\n    long long position = -1;";
      visit = "if (position < 0 || E::get(x[from]) > E::get(best)) best = x[from], position = place;";
      finish = fmt::format(R"(if (a.y) a.y[i] = best;
    if (a.positions) {{
      if ({}) position = position % a.in[2] * a.in[1] * a.in[0] + position / a.in[2] % a.in[1] * a.in[0] + position / (a.in[1] * a.in[2]);
      a.positions[i] = plane * a.in[0] * a.in[1] * a.in[2] + position;
    }})",
                           attributes.get_int("storage_order", 0) != 0);
    } else if (type == "AveragePool") {
      start = "C sum = 0;\n    long long seen = 0;";
      visit = "sum += E::get(x[from]), ++seen;";
      finish = fmt::format(R"(if ({}) {{
      seen = 1;
      for (int axis = 0; axis < 3; ++axis) {{
        long long inside = 0;
        for (int k = 0; k < kKernel[axis]; ++k) inside += at[axis] * kStride[axis] + k * kDilation[axis] - a.begin[axis] < a.in[axis] + a.end[axis];
        seen *= inside;
      }}
    }}
    a.y[i] = E::put(seen == 0 ? C(0) : sum / (C)seen);)",
                           attributes.get_int("count_include_pad", 0) != 0);
    } else {
      start = "C sum = 0;";
      visit = fmt::format("sum += pow(fabs(E::get(x[from])), C({}));", attributes.get_int("p", 2));
      finish = fmt::format("a.y[i] = E::put(pow(sum, C(1) / C({})));", attributes.get_int("p", 2));
    }
    Source source;
    source.entries = {"pool"};
    source.text = fmt::format(
        R"({prelude}{elements}
typedef {type} T;
typedef tf::Element<T> E;
typedef E::C C;
struct Arguments {{
  const T* x;
  T* y;
  long long* positions;
  long long count, channels;
  long long in[3], out[3], begin[3], end[3];
}};
__constant__ const int kKernel[3] = {kernel}, kStride[3] = {stride}, kDilation[3] = {dilation};
constexpr bool kChannelsLast = {nhwc};
extern "C" __global__ void __launch_bounds__(256) pool(const __grid_constant__ Arguments a) {{
  tf::begin_early();
  tf::for_each_thread(a.count, [&](long long i) {{
    long long rest = kChannelsLast ? i / a.channels : i, at[3];
    for (int axis = 2; axis >= 0; --axis) {{
      at[axis] = rest % a.out[axis];
      rest /= a.out[axis];
    }}
    const long long plane = kChannelsLast ? rest * a.channels + i % a.channels : rest, pixels = a.in[0] * a.in[1] * a.in[2];
    const T* x = kChannelsLast ? a.x + rest * pixels * a.channels + i % a.channels : a.x + rest * pixels;
    {start}
    for (int kz = 0; kz < kKernel[0]; ++kz) {{
      const long long z = at[0] * kStride[0] + kz * kDilation[0] - a.begin[0];
      if (z < 0 || z >= a.in[0]) continue;
      for (int ky = 0; ky < kKernel[1]; ++ky) {{
        const long long row = at[1] * kStride[1] + ky * kDilation[1] - a.begin[1];
        if (row < 0 || row >= a.in[1]) continue;
        for (int kx = 0; kx < kKernel[2]; ++kx) {{
          const long long column = at[2] * kStride[2] + kx * kDilation[2] - a.begin[2];
          if (column < 0 || column >= a.in[2]) continue;
          const long long place = (z * a.in[1] + row) * a.in[2] + column, from = kChannelsLast ? place * a.channels : place;
          {visit}
        }}
      }}
    }}
    (void)plane;
    {finish}
  }});
}}
)",
        fmt::arg("prelude", device_prelude()), fmt::arg("elements", element_prelude()),
        fmt::arg("type", device_type(dtype)), fmt::arg("kernel", list(fill3(attributes.get_ints("kernel_shape"), 1))),
        fmt::arg("stride", list(fill3(window.strides, 1))), fmt::arg("dilation", list(fill3(window.dilations, 1))),
        fmt::arg("nhwc", layout_from(attributes) == ImageLayout::nhwc), fmt::arg("start", start),
        fmt::arg("visit", visit), fmt::arg("finish", finish));
    return source;
  }
  PlainPoolKernel(const KernelSpec& spec, const LoadedModule& module)
      : window_(Window::from(spec.op->attributes())),
        kernel_(spec.op->attributes().get_ints("kernel_shape")),
        layout_(layout_from(spec.op->attributes())),
        pool_(module.function("pool")) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView y = operand_of(launch.outputs, 0), positions = operand_of(launch.outputs, 1);
    const TensorView& any = y.data != nullptr ? y : positions;
    if (any.data == nullptr || any.num_elements() == 0) return;
    PoolArguments arguments;
    arguments.x = x.data;
    arguments.y = y.data;
    arguments.positions = positions.data;
    arguments.count = any.num_elements();
    arguments.channels = x.dim(channel_axis(layout_, x.rank()));
    const auto copy = [](const std::array<std::int64_t, 3>& from, std::int64_t(&to)[3]) {
      std::copy(from.begin(), from.end(), to);
    };
    copy(spatial_volume(x, layout_).size, arguments.in);
    copy(spatial_volume(any, layout_).size, arguments.out);
    std::vector<std::int64_t> begins, ends;
    for (int a = 0; a < window_.spatial_rank(); ++a) {
      const auto [begin, end] =
          window_.padding(a, x.dim(first_spatial_axis(layout_) + a), kernel_[static_cast<std::size_t>(a)]);
      begins.push_back(begin);
      ends.push_back(end);
    }
    copy(fill3(begins, 0), arguments.begin);
    copy(fill3(ends, 0), arguments.end);
    LaunchConfig config = one_thread_each(pool_, arguments.count);
    config.pdl = true;
    cuda_stream(launch).launch(config, arguments);
  }

 private:
  Window window_;
  std::vector<std::int64_t> kernel_;
  ImageLayout layout_;
  Function pool_;
};

/// Where the tactic for channels-last images applies it is the better one, and no measurement is needed.
template <typename K>
struct LastResort : PlainTactic<K> {
  static void candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
    const bool has_other = std::any_of(out.begin(), out.end(), [](const Candidate& c) { return c.refusal.empty(); });
    PlainTactic<K>::candidates(problem, traits, out);
    if (has_other && out.back().refusal.empty()) out.back().refusal = "a faster tactic takes it";
  }
};

}  // namespace

const CudaTactic kMaxPoolPlain = {"pool.plain",
                                  "MaxPool",
                                  LastResort<PlainPoolKernel>::candidates,
                                  nullptr,
                                  PlainTactic<PlainPoolKernel>::source,
                                  PlainTactic<PlainPoolKernel>::make};
const CudaTactic kAveragePoolPlain = {"pool.plain",
                                      "AveragePool",
                                      LastResort<PlainPoolKernel>::candidates,
                                      nullptr,
                                      PlainTactic<PlainPoolKernel>::source,
                                      PlainTactic<PlainPoolKernel>::make};
const CudaTactic kLpPoolPlain = plain_tactic<PlainPoolKernel>("pool.plain", "LpPool");

}  // namespace tenfold::cuda
