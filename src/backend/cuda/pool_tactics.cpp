// MaxPool and AveragePool of images stored channels last. Each thread makes one pixel of 16 bytes of channels and loads
// all positions of its window before it combines them; neighbours find most of them in the first-level cache.
#include "backend/cuda/image_geometry.hpp"
#include "backend/cuda/loop_nest.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "ops/pool.hpp"

namespace tenfold::cuda {
namespace {

constexpr int kThreads = 256;

struct PoolParts {
  const PoolSpec* spec = nullptr;
  bool is_average = false, include_pad = false;
};
PoolParts parts_of(const Op& op) {
  if (const auto* pool = dynamic_cast<const MaxPool*>(&op)) return {&pool->spec(), false, false};
  if (const auto* pool = dynamic_cast<const AveragePool*>(&op)) return {&pool->spec(), true, pool->count_include_pad()};
  return {};
}

int vector_of(DType dtype) { return static_cast<int>(std::size_t{16} / size_of(dtype)); }

/// The window's state after each position: a packed maximum for float16, else one value for each channel.
std::string accumulate_text(const PoolParts& parts, DType dtype) {
  if (parts.is_average) {
    return "#pragma unroll\n        for (int i = 0; i < V; ++i) state[i] += tf::to_float(v.at[i]);\n";
  }
  if (is_float(dtype)) {
    return "#pragma unroll\n"
           "        for (int i = 0; i < V; ++i) state[i] = tf::maximum(state[i], tf::to_float(v.at[i]));\n";
  }
  // Bytes of whole vectors as pairs of 16 bits, which one instruction compares: what is larger in its upper byte is
  // larger as a pair, whatever lies below. So the words themselves find the odd bytes, and shifted by a byte the even
  // ones.
  return fmt::format(R"(        if constexpr (V == 16) {{
#pragma unroll
          for (int i = 0; i < 4; ++i) {{
            const unsigned word = ((const unsigned*)&v)[i];
            pairs[2 * i] = {0}(pairs[2 * i], word << 8);
            pairs[2 * i + 1] = {0}(pairs[2 * i + 1], word);
          }}
        }} else {{
          state[0] = state[0] > v.at[0] ? state[0] : v.at[0];
        }}
)",
                     dtype == DType::int8 ? "__vmaxs2" : "__vmaxu2");
}

/// One row of the window. A small one is loaded as a whole before any of it is used.
std::string row_text(bool is_small, const std::string& accumulate) {
  if (!is_small) {
    return fmt::format(R"(    for (int kx = 0; kx < kKernelX; ++kx) {{
      const int in_x = left + kx * kDilationX;
      if (!is_row || in_x < 0 || in_x >= a.in_width) continue;
      const tf::Vector<T, V> v = *(const tf::Vector<T, V>*)(from + in_x * a.x_pitch);
      ++seen;
{}    }}
)",
                       accumulate);
  }
  return fmt::format(R"(    tf::Vector<T, V> values[kKernelX];
    bool inside[kKernelX];
#pragma unroll
    for (int kx = 0; kx < kKernelX; ++kx) {{
      const int in_x = left + kx * kDilationX;
      inside[kx] = is_row && in_x >= 0 && in_x < a.in_width;
      if (inside[kx]) values[kx] = *(const tf::Vector<T, V>*)(from + in_x * a.x_pitch);
    }}
#pragma unroll
    for (int kx = 0; kx < kKernelX; ++kx) {{
      if (!inside[kx]) continue;
      const tf::Vector<T, V> v = values[kx];
      ++seen;
{}    }}
)",
                     accumulate);
}

class PoolKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    const PoolParts parts = parts_of(signature.op);
    if (parts.spec == nullptr || !signature.has_input(0) || !signature.has_output(0)) return "operands are missing";
    if (signature.has_output(1)) return "it does not hand out positions";
    const DType dtype = signature.inputs[0].dtype;
    const bool is_byte = dtype == DType::int8 || dtype == DType::uint8;
    if (!is_device_float(dtype) && (parts.is_average || !is_byte))
      return fmt::format("no kernel for {}", to_string(dtype));
    if (signature.outputs[0].dtype != dtype) return "input and output differ in type";
    return refuses_window(parts.spec->window, parts.spec->kernel, parts.spec->layout, signature.inputs[0],
                          signature.outputs[0]);
  }

  static Source source(const KernelSpec& kernel, const DeviceTraits&) {
    const PoolParts parts = parts_of(*kernel.op);
    const DType dtype = kernel.inputs[0].dtype;
    const WindowSize size = window_size(parts.spec->window, parts.spec->kernel);
    const bool is_integer = !is_float(dtype);
    std::string finish = "      result.at[i] = tf::from_float<T>(state[i]);\n";
    if (is_integer) {
      finish =
          "      if constexpr (V == 16) {\n"
          "        if (i % 4 == 0) ((unsigned*)&result)[i / 4] = __byte_perm(pairs[i / 2], pairs[i / 2 + 1], 0x7351);\n"
          "      } else {\n        result.at[i] = (T)state[i];\n      }\n";
    }
    std::string divisor;
    if (parts.is_average) {
      finish = "      result.at[i] = tf::from_float<T>(count == 0 ? 0.0f : state[i] / (float)count);\n";
      if (parts.include_pad) {
        divisor = R"(  int rows = 0, places = 0;
#pragma unroll
  for (int k = 0; k < kKernelY; ++k) rows += top + k * kDilationY < a.in_height + a.pad_bottom;
#pragma unroll
  for (int k = 0; k < kKernelX; ++k) places += left + k * kDilationX < a.in_width + a.pad_right;
  const int count = rows * places;
)";
      } else {
        divisor = "  const int count = seen;\n";
      }
    }
    const std::string_view lowest = parts.is_average        ? "0.0f"
                                    : dtype == DType::int8  ? "-128"
                                    : dtype == DType::uint8 ? "0"
                                                            : "tf::float_of(0xff800000u)";
    const std::string pairs = !is_integer ? ""
                                          : fmt::format(
                                                "  unsigned pairs[8];\n#pragma unroll\n"
                                                "  for (int i = 0; i < 8; ++i) pairs[i] = {};\n",
                                                dtype == DType::int8 ? "0x80808080u" : "0u");
    Source source;
    source.entries = {"vectors", "elements"};
    source.text = fmt::format(
        R"({prelude}{nest}{image}
typedef {type} T;
template <int V>
TF_FN void pool(const Image& a) {{
  tf::begin_early();
  const long long index = blockIdx.x * {threads}LL + threadIdx.x;
  if (index >= a.threads) return;
  // The host launches fewer than 2^31 threads.
  const unsigned column = (unsigned)index % (unsigned)a.columns;
  const unsigned pixel = (unsigned)index / (unsigned)a.columns;
  const unsigned out_x = pixel % a.out_width, row = pixel / a.out_width;
  const unsigned out_y = row % a.out_height, image = row / a.out_height;
  const int top = (int)out_y * kStrideY - a.pad_top, left = (int)out_x * kStrideX - a.pad_left;
  const T* x = (const T*)a.x + (long long)image * a.in_height * a.in_width * a.x_pitch + column * V;
  {state} state[V];
  int seen = 0;
#pragma unroll
  for (int i = 0; i < V; ++i) state[i] = {lowest};
{pairs}{unroll}  for (int ky = 0; ky < kKernelY; ++ky) {{
    const int in_y = top + ky * kDilationY;
    const bool is_row = in_y >= 0 && in_y < a.in_height;
    const T* from = x + (long long)in_y * a.in_width * a.x_pitch;
{window_row}  }}
{divisor}  tf::Vector<T, V> result;
#pragma unroll
  for (int i = 0; i < V; ++i) {{
{finish}  }}
  *(tf::Vector<T, V>*)((T*)a.y + pixel * a.y_pitch + column * V) = result;
}}
extern "C" __global__ void __launch_bounds__({threads}) vectors(const __grid_constant__ Image a) {{ pool<{vector}>(a); }}
extern "C" __global__ void __launch_bounds__({threads}) elements(const __grid_constant__ Image a) {{ pool<1>(a); }}
)",
        fmt::arg("prelude", device_prelude()), fmt::arg("nest", nest_prelude()), fmt::arg("image", image_prelude(size)),
        fmt::arg("type", device_type(dtype)), fmt::arg("threads", kThreads),
        fmt::arg("state", is_integer ? "int" : "float"), fmt::arg("lowest", lowest), fmt::arg("pairs", pairs),
        fmt::arg("unroll", is_small(size) ? "#pragma unroll\n" : "#pragma unroll 1\n"),
        fmt::arg("window_row", row_text(is_small(size), accumulate_text(parts, dtype))), fmt::arg("divisor", divisor),
        fmt::arg("finish", finish), fmt::arg("vector", vector_of(dtype)));
    return source;
  }
  PoolKernel(const KernelSpec& kernel, const LoadedModule& module)
      : op_(kernel.op),
        parts_(parts_of(*op_)),
        vector_(vector_of(kernel.inputs[0].dtype)),
        vectors_(module.function("vectors")),
        elements_(module.function("elements")) {}

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    ImageArguments arguments = image_arguments(parts_.spec->window, parts_.spec->kernel, x, y);
    const bool is_wide = arguments.channels % vector_ == 0 && is_vector_aligned(x, vector_) && is_vector_aligned(y, vector_);
    arguments.columns = is_wide ? arguments.channels / vector_ : arguments.channels;
    arguments.threads = y.num_elements() / arguments.channels * arguments.columns;
    LaunchConfig config;
    config.function = is_wide ? vectors_ : elements_;
    config.grid.x = image_blocks(arguments.threads, kThreads);
    config.block.x = kThreads;
    config.pdl = true;
    cuda_stream(launch).launch(config, arguments);
  }
  bool accepts_pitched_input(int index) const override { return index == 0; }
  bool accepts_pitched_output(int index) const override { return index == 0; }

 private:
  static bool is_small(const WindowSize& size) {
    constexpr std::int64_t kMostUnrolled = 64, kMostOfRow = 8;
    return size.kernel[0] * size.kernel[1] <= kMostUnrolled && size.kernel[1] <= kMostOfRow;
  }
  OpPtr op_;
  PoolParts parts_;
  int vector_;
  Function vectors_, elements_;
};

}  // namespace

const CudaTactic kMaxPoolImages = plain_tactic<PoolKernel>("images.pool", "MaxPool");
const CudaTactic kAveragePoolImages = plain_tactic<PoolKernel>("images.pool", "AveragePool");

}  // namespace tenfold::cuda
