// The text of the plain kernels: a block makes 64 x 64 results from slices of k in shared memory, a thread 4 x 4 of
// them.
#include "backend/cuda/plain_text.hpp"

#include <fmt/format.h>

#include "backend/cuda/pointwise_text.hpp"

namespace tenfold::cuda {
namespace {

constexpr std::string_view kMatrixOperands = R"(
// A thread reads column k0 + thread % kSlice of rows thread / kSlice + 16 i of a.
struct Rows {
  long long base[4];
  bool inside[4];
  long long b_base;
  TF_METHOD Rows(const GemmArguments& args, const Operands& from, int thread) {
    long long a_base = 0, index = blockIdx.z;
    b_base = 0;
    for (int axis = from.num_axes - 1; axis >= 0; --axis) {
      const long long at = index % from.axis_size[axis];
      index /= from.axis_size[axis];
      a_base += at * from.a_axis[axis];
      b_base += at * from.b_axis[axis];
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = blockIdx.x * kTile + thread / kSlice + 16 * i;
      inside[i] = row < args.m;
      base[i] = a_base + row * from.a_row;
    }
  }
  TF_METHOD void load_a(const Operands& from, int k, Sum (&v)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = inside[i] && k < from.k ? value_of(((const A*)from.a)[base[i] + k * from.a_column]) : Sum(0);
  }
  TF_METHOD Sum load_b(const Operands& from, int k, int n, int end) const {
    return k < from.k && n < end ? value_of(((const B*)from.b)[b_base + k * from.b_row + n * from.b_column]) : Sum(0);
  }
  TF_METHOD static int first_column(const GemmArguments& args, const Operands&) { return 0; }
  TF_METHOD static int end_column(const GemmArguments& args, const Operands&) { return args.n; }
  TF_METHOD static long long first_row(const GemmArguments& args) { return (long long)blockIdx.z * args.m; }
};
)";

constexpr std::string_view kImageOperands = R"(
// k runs over (position in the kernel, channel of the group); blockIdx.z is the group.
struct Rows {
  long long image[4];
  int at[4][3];
  bool inside[4];
  TF_METHOD Rows(const GemmArguments& args, const Operands& from, int thread) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      int row = blockIdx.x * kTile + thread / kSlice + 16 * i;
      inside[i] = row < args.m;
#pragma unroll
      for (int axis = 2; axis >= 0; --axis) {
        const int o = row % from.out[axis];
        row /= from.out[axis];
        at[i][axis] = kTransposed ? o + from.pad[axis] : o * from.stride[axis] - from.pad[axis];
      }
      image[i] = row;
    }
  }
  TF_METHOD void load_a(const Operands& from, int k, Sum (&v)[4]) const {
    const int tap = k / from.channels, channel = k - tap * from.channels;
    int shift[3], rest = tap;
#pragma unroll
    for (int axis = 2; axis >= 0; --axis) {
      shift[axis] = rest % from.kernel[axis] * from.dilation[axis];
      rest /= from.kernel[axis];
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      bool reads = inside[i] && k < from.k;
      long long pixel = image[i];
#pragma unroll
      for (int axis = 0; axis < 3; ++axis) {
        int position = kTransposed ? at[i][axis] - shift[axis] : at[i][axis] + shift[axis];
        if (kTransposed) {
          reads = reads && position % from.stride[axis] == 0;
          position /= from.stride[axis];
          reads = reads && at[i][axis] >= shift[axis];
        }
        reads = reads && position >= 0 && position < from.size[axis];
        pixel = pixel * from.size[axis] + position;
      }
      v[i] = reads ? value_of(((const A*)from.x)[pixel * from.pitch + blockIdx.z * from.channels + channel]) : Sum(0);
    }
  }
  TF_METHOD Sum load_b(const Operands& from, int k, int n, int end) const {
    if (k >= from.k || n >= end) return Sum(0);
    const int tap = k / from.channels, channel = k - tap * from.channels;
    long long index;
    if (kTransposed) index = ((long long)(blockIdx.z * from.channels + channel) * from.columns + n - (int)blockIdx.z * from.columns) * from.taps + tap;
    else index = ((long long)n * from.channels + channel) * from.taps + tap;
    return value_of(((const B*)from.weights)[index]);
  }
  TF_METHOD static int first_column(const GemmArguments&, const Operands& from) { return blockIdx.z * from.columns; }
  TF_METHOD static int end_column(const GemmArguments&, const Operands& from) { return (blockIdx.z + 1) * from.columns; }
  TF_METHOD static long long first_row(const GemmArguments&) { return 0; }
};
)";

constexpr std::string_view kKernel = R"(
extern "C" __global__ void __launch_bounds__(256) tenfold_plain(const __grid_constant__ GemmArguments all, const __grid_constant__ Operands from) {
  wait_for_predecessor();
  __shared__ Sum a_slice[kSlice][kTile + 4], b_slice[kSlice][kTile + 4];
  const int thread = threadIdx.x, tx = thread % 16, ty = thread / 16;
  GemmArguments args = all;
  args.n = Rows::end_column(all, from);  // a unit must not reach into the next group
  const int n0 = Rows::first_column(all, from) + blockIdx.y * kTile;
  const Rows rows(all, from, thread);
  Sum sums[4][4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) sums[i][j] = Sum(0);
  }
  for (int k0 = 0; k0 < from.k; k0 += kSlice) {
    Sum a[4], b[4];
    rows.load_a(from, k0 + thread % kSlice, a);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int k = kColumnsInner ? thread / 64 + 4 * i : thread % kSlice, n = kColumnsInner ? thread % 64 : thread / kSlice + 16 * i;
      b[i] = rows.load_b(from, k0 + k, n0 + n, args.n);
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      a_slice[thread % kSlice][thread / kSlice + 16 * i] = a[i];
      const int k = kColumnsInner ? thread / 64 + 4 * i : thread % kSlice, n = kColumnsInner ? thread % 64 : thread / kSlice + 16 * i;
      b_slice[k][n] = b[i];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kSlice; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] += a_slice[k][4 * ty + i] * b_slice[k][4 * tx + j];
      }
    }
  }
  const int channel = n0 + kUnit * tx;
  if (channel >= args.n) return;
  ChannelValues columns;
  load_channels(args, channel, columns);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = blockIdx.x * kTile + 4 * ty + i;
    if (row >= all.m) continue;
    RowValues values;
    load_rows(args, Rows::first_row(all) + row, channel, nullptr, values);
    float v[kUnit];
#pragma unroll
    for (int j = 0; j < kUnit; ++j) v[j] = (float)sums[i][j] + bias_of(from, channel + j, args.n);
    finish(v, v, columns, values, args, Rows::first_row(all) + row, channel);
  }
}
)";

}  // namespace

std::string plain_text(const PlainKernelSpec& spec, const EpilogueSpec& epilogue) {
  const bool is_image = spec.kind != PlainKernelSpec::Kind::matrix;
  const bool is_integer = spec.a == DType::int8 || spec.a == DType::uint8;
  std::string text(device_prelude());
  text += hopper_prelude();
  text += kGemmArgumentsText;
  text += is_image ? kPlainImageText : kPlainMatrixText;
  text += fmt::format(
      "typedef {} Operands;\ntypedef {} A;\ntypedef {} B;\ntypedef {} Sum;\n"
      "constexpr int kTile = {}, kSlice = 16;\nconstexpr bool kTransposed = {}, kColumnsInner = {};\n",
      is_image ? "PlainImage" : "PlainMatrix", device_type(spec.a), device_type(spec.b), is_integer ? "int" : "float",
      kPlainTile, spec.kind == PlainKernelSpec::Kind::transposed_convolution, spec.columns_inner);
  text += is_integer ? "template <typename T> TF_FN int value_of(T x) { return (int)x; }\n"
                     : "template <typename T> TF_FN float value_of(T x) { return tf::to_float(x); }\n";
  if (spec.bias == DType::undefined) {
    text += "TF_FN float bias_of(const Operands&, int, int) { return 0.0f; }\n";
  } else {
    text += fmt::format(
        "TF_FN float bias_of(const Operands& from, int channel, int end) {{ return channel < end ? "
        "tf::to_float(((const {}*)from.bias)[channel]) : 0.0f; }}\n",
        device_type(spec.bias));
  }
  text += emit_epilogue(epilogue, spec.output, kPlainUnit, false);
  text += is_image ? kImageOperands : kMatrixOperands;
  text += kKernel;
  return text;
}

}  // namespace tenfold::cuda
