// Loop nests of elementwise kernels. Division by a constant that is known at launch: Granlund and Montgomery 1994,
// "Division by invariant integers using multiplication", figure 4.1.
#include "backend/cuda/loop_nest.hpp"

#include <algorithm>
#include <bit>

namespace tenfold::cuda {

namespace {

constexpr std::int64_t kMaxIndices = (std::int64_t{1} << 31) - 1;

void set_axis(LoopNest& nest, int axis, std::int64_t size) {
  ensure(size >= 1, "a loop of {} turns", size);
  const auto a = static_cast<std::size_t>(axis);
  nest.dims[a] = static_cast<std::uint32_t>(std::min(size, kMaxIndices));
  const std::uint64_t divisor = nest.dims[a];
  const auto shift = static_cast<std::uint32_t>(std::bit_width(divisor - 1));
  nest.shift[a] = shift;
  nest.magic[a] =
      static_cast<std::uint32_t>(((std::uint64_t{1} << 32) * ((std::uint64_t{1} << shift) - divisor)) / divisor + 1);
}

}  // namespace

NestOperand broadcast_operand(const TensorView& view, std::span<const std::int64_t> dims) {
  NestOperand operand{view.data, size_of(view.dtype), {}};
  const Strides own = strides_of_view(view);
  const std::size_t lead = dims.size() - view.dims.size();
  for (std::size_t a = 0; a < view.dims.size(); ++a) {
    if (view.dims[a] != 1) operand.strides[lead + a] = own[a];
  }
  return operand;
}

LoopNest make_nest(std::span<const std::int64_t> dims, std::span<const NestOperand> operands) {
  LoopNest nest;
  std::array<std::int64_t, kMaxRank> sizes{};
  int rank = 0;
  for (std::size_t a = 0; a < dims.size(); ++a) {
    nest.count *= dims[a];
    if (dims[a] == 1) continue;
    bool joins = rank > 0;
    for (std::size_t k = 0; k < operands.size() && joins; ++k) {
      joins = nest.operands[k].strides[rank - 1] == operands[k].strides[a] * dims[a];
    }
    ensure(joins || rank < kMaxRank, "a kernel walks over at most {} axes", kMaxRank);
    if (!joins) sizes[static_cast<std::size_t>(rank++)] = 1;
    sizes[static_cast<std::size_t>(rank - 1)] *= dims[a];
    for (std::size_t k = 0; k < operands.size(); ++k) nest.operands[k].strides[rank - 1] = operands[k].strides[a];
  }
  for (std::size_t k = 0; k < operands.size(); ++k) {
    nest.operands[k].data = operands[k].data;
    nest.operands[k].element_bytes = static_cast<std::int64_t>(operands[k].element_bytes);
  }
  if (nest.count == 0) return nest;
  nest.rank = std::max(rank, 1);
  if (rank == 0) sizes[0] = 1;
  for (int a = 0; a < nest.rank; ++a) set_axis(nest, a, sizes[static_cast<std::size_t>(a)]);
  for (std::size_t k = 0; k < operands.size(); ++k) {
    if (nest.operands[k].strides[nest.rank - 1] == 0) nest.repeated |= 1U << k;
  }
  return nest;
}

bool vectorise(LoopNest& nest, std::span<const NestOperand> operands, int vector) {
  const auto inner = static_cast<std::size_t>(nest.rank - 1);
  const std::int64_t inner_size = nest.rank == 1 ? nest.count : nest.dims[inner];
  if (nest.count == 0 || inner_size % vector != 0) return false;
  for (std::size_t k = 0; k < operands.size(); ++k) {
    const LoopNest::Operand& operand = nest.operands[k];
    if (operand.strides[inner] == 0 && k + 1 < operands.size()) continue;
    if (operand.strides[inner] != 1) return false;
    const std::size_t alignment =
        std::min<std::size_t>(16, static_cast<std::size_t>(vector) * operands[k].element_bytes);
    if (reinterpret_cast<std::uintptr_t>(operand.data) % alignment != 0) return false;
    for (std::size_t a = 0; a < inner; ++a) {
      if (static_cast<std::size_t>(operand.strides[a]) * operands[k].element_bytes % alignment != 0) return false;
    }
  }
  nest.count /= vector;
  set_axis(nest, nest.rank - 1, inner_size / vector);
  for (std::size_t k = 0; k < operands.size(); ++k) nest.operands[k].strides[inner] *= vector;
  return true;
}

void launch_nest(CudaStream& stream, CUfunction function, const LoopNest& nest, int num_operands, int threads) {
  if (nest.count == 0) return;
  if (nest.count > kMaxIndices && nest.rank > 1) {
    int widest = 0;
    for (int a = 1; a < nest.rank; ++a) {
      if (nest.dims[static_cast<std::size_t>(a)] > nest.dims[static_cast<std::size_t>(widest)]) widest = a;
    }
    const auto axis = static_cast<std::size_t>(widest);
    const std::int64_t size = nest.dims[axis];
    LoopNest half = nest;
    set_axis(half, widest, size / 2);
    half.count = nest.count / size * (size / 2);
    launch_nest(stream, function, half, num_operands, threads);
    for (int k = 0; k < num_operands; ++k) {
      LoopNest::Operand& operand = half.operands[k];
      operand.data = static_cast<std::byte*>(operand.data) + operand.strides[axis] * (size / 2) * operand.element_bytes;
    }
    set_axis(half, widest, size - size / 2);
    half.count = nest.count / size * (size - size / 2);
    return launch_nest(stream, function, half, num_operands, threads);
  }
  LaunchConfig config;
  config.function = function;
  config.grid.x = static_cast<unsigned>((nest.count + threads - 1) / threads);
  config.block.x = static_cast<unsigned>(threads);
  config.pdl = true;
  stream.launch(config, nest);
}

std::string_view nest_prelude() {
  static constexpr std::string_view kText = R"(
struct NestOperand {
  void* data;
  long long element_bytes;
  long long strides[8];
};
template <int N>
struct Nest {
  long long count;
  int rank;
  unsigned repeated;
  unsigned dims[8], magic[8], shift[8];
  NestOperand operands[N];
};
namespace tf {
// Elements that one instruction moves.
template <typename T, int V>
struct alignas(sizeof(T) * V > 16 ? 16 : sizeof(T) * V) Vector {
  T at[V];
};
// How far index `i` of the nest is from the first element, for each operand.
template <int N>
TF_FN void offsets(const Nest<N>& nest, long long i, long long (&offset)[N]) {
  if (nest.rank == 1) {
#pragma unroll
    for (int k = 0; k < N; ++k) offset[k] = i * nest.operands[k].strides[0];
    return;
  }
#pragma unroll
  for (int k = 0; k < N; ++k) offset[k] = 0;
  unsigned rest = (unsigned)i;
  for (int a = nest.rank - 1; a > 0; --a) {
    const unsigned quotient = (__umulhi(rest, nest.magic[a]) + rest) >> nest.shift[a];
    const unsigned index = rest - quotient * nest.dims[a];
#pragma unroll
    for (int k = 0; k < N; ++k) offset[k] += index * nest.operands[k].strides[a];
    rest = quotient;
  }
#pragma unroll
  for (int k = 0; k < N; ++k) offset[k] += rest * nest.operands[k].strides[0];
}
}  // namespace tf
)";
  return kText;
}

}  // namespace tenfold::cuda
