// Strided copies. Where input and output are contiguous along the same axis, 16 bytes move at once. Where they are
// contiguous along different axes (a matrix transposition), square tiles go through shared memory, so that both sides
// see whole rows; the odd pitch of a tile's rows keeps columns free of bank conflicts.
#include "backend/cuda/strided_copy.hpp"

#include <fmt/format.h>

#include "backend/cuda/elementwise_text.hpp"
#include "backend/cuda/pointwise_text.hpp"

namespace tenfold::cuda {

namespace {

constexpr int kThreads = 256, kLanes = 32;
// Below this many rows or columns most of a tile would be empty.
constexpr std::int64_t kLeastTile = 12;

DType bits_of(std::size_t bytes) {
  switch (bytes) {
    case 1:
      return DType::uint8;
    case 2:
      return DType::uint16;
    case 4:
      return DType::uint32;
    case 8:
      return DType::uint64;
    default:
      throw Error(Code::internal, fmt::format("elements of {} bytes are copied", bytes));
  }
}
/// Elements of a tile that one lane moves at once.
int wide_elements(std::size_t element_bytes) { return element_bytes >= 4 ? 1 : static_cast<int>(4 / element_bytes); }

ElementwiseSpec copy_spec(std::size_t element_bytes) {
  const DType bits = bits_of(element_bytes);
  return {{bits}, bits, fmt::format("    const {} y = x0;\n", device_type(bits))};
}

/// As the kernels see it: a batch of matrices, transposed.
struct TileArguments {
  std::uint32_t columns, rows;       ///< contiguous in the input; contiguous in the output
  std::int64_t from_row, to_column;  ///< strides of the other axis
  LoopNest batch;                    ///< two operands
};

}  // namespace

Source strided_copy_source(std::size_t element_bytes) {
  Source source = elementwise_source(copy_spec(element_bytes));
  source.entries.insert(source.entries.end(), {"wide_tiles", "tiles", "interleave_2", "interleave_3", "interleave_4"});
  source.text += fmt::format(R"(
struct Tiles {{
  unsigned columns, rows;
  long long from_row, to_column;
  Nest<2> batch;
}};
// One block moves a square of 32 E x 32 E elements; a lane moves E neighbours at once.
template <typename T, int E>
TF_FN void move_tile(const Tiles& a) {{
  tf::begin_early();
  constexpr int kSide = 32 * E;
  __shared__ T tile[kSide][kSide + 1];
  const unsigned across = (a.columns + kSide - 1) / kSide, down = (a.rows + kSide - 1) / kSide;
  const unsigned matrix = blockIdx.x / (across * down), place = blockIdx.x % (across * down);
  // Neighbouring blocks write neighbouring columns of the output.
  const unsigned first_row = place % down * kSide, first_column = place / down * kSide;
  long long offset[2];
  tf::offsets(a.batch, matrix, offset);
  const T* from = (const T*)a.batch.operands[0].data + offset[0];
  T* to = (T*)a.batch.operands[1].data + offset[1];
  const unsigned lane = threadIdx.x % 32 * E, warp = threadIdx.x / 32;
#pragma unroll
  for (int r = 0; r < kSide; r += 8) {{
    const unsigned row = first_row + r + warp, column = first_column + lane;
    if (row < a.rows && column < a.columns) {{
      const tf::Vector<T, E> v = *(const tf::Vector<T, E>*)(from + row * a.from_row + column);
#pragma unroll
      for (int e = 0; e < E; ++e) tile[r + warp][lane + e] = v.at[e];
    }}
  }}
  __syncthreads();
#pragma unroll
  for (int c = 0; c < kSide; c += 8) {{
    const unsigned column = first_column + c + warp, row = first_row + lane;
    if (row < a.rows && column < a.columns) {{
      tf::Vector<T, E> v;
#pragma unroll
      for (int e = 0; e < E; ++e) v.at[e] = tile[lane + e][c + warp];
      *(tf::Vector<T, E>*)(to + column * a.to_column + row) = v;
    }}
  }}
}}
// A thread takes 16 bytes of each of C planes and writes them element by element in turn.
template <typename T, int C>
TF_FN void interleave(const Tiles& a) {{
  constexpr int V = 16 / sizeof(T);
  const long long thread = blockIdx.x * 256LL + threadIdx.x;
  const unsigned parts = a.columns / V;
  const long long matrix = thread / parts;
  if (matrix >= a.batch.count) return;
  const unsigned column = (unsigned)(thread - matrix * parts) * V;
  long long offset[2];
  tf::offsets(a.batch, matrix, offset);
  const T* from = (const T*)a.batch.operands[0].data + offset[0] + column;
  T* to = (T*)a.batch.operands[1].data + offset[1] + (long long)column * C;
  tf::Vector<T, V> planes[C], result[C];
#pragma unroll
  for (int c = 0; c < C; ++c) planes[c] = *(const tf::Vector<T, V>*)(from + c * a.from_row);
#pragma unroll
  for (int i = 0; i < V * C; ++i) result[i / V].at[i % V] = planes[i % C].at[i / C];
#pragma unroll
  for (int c = 0; c < C; ++c) *(tf::Vector<T, V>*)(to + c * V) = result[c];
}}
extern "C" __global__ void __launch_bounds__(256) interleave_2(const __grid_constant__ Tiles a) {{ interleave<{type}, 2>(a); }}
extern "C" __global__ void __launch_bounds__(256) interleave_3(const __grid_constant__ Tiles a) {{ interleave<{type}, 3>(a); }}
extern "C" __global__ void __launch_bounds__(256) interleave_4(const __grid_constant__ Tiles a) {{ interleave<{type}, 4>(a); }}
extern "C" __global__ void __launch_bounds__(256) wide_tiles(const __grid_constant__ Tiles a) {{ move_tile<{type}, {wide}>(a); }}
extern "C" __global__ void __launch_bounds__(256) tiles(const __grid_constant__ Tiles a) {{ move_tile<{type}, 1>(a); }}
)",
                             fmt::arg("type", device_type(bits_of(element_bytes))),
                             fmt::arg("wide", wide_elements(element_bytes)));
  return source;
}

StridedCopy::StridedCopy(std::size_t element_bytes, const LoadedModule& module)
    : element_bytes_(element_bytes),
      vector_(elementwise_vector(copy_spec(element_bytes))),
      vectors_(module.function("vectors")),
      elements_(module.function("elements")),
      wide_tiles_(module.function("wide_tiles")),
      tiles_(module.function("tiles")),
      interleave_{module.function("interleave_2"), module.function("interleave_3"), module.function("interleave_4")} {}

void StridedCopy::run(const CopyAxes& axes, const void* from, void* to, CudaStream& stream) const {
  std::array<NestOperand, 2> operands;
  operands[0] = {const_cast<void*>(from), element_bytes_, axes.from};
  operands[1] = {to, element_bytes_, axes.to};
  LoopNest nest = make_nest(std::span(axes.dims).first(static_cast<std::size_t>(axes.rank)), operands);
  if (nest.count == 0) return;
  if (vectorise(nest, operands, vector_)) return launch_nest(stream, vectors_, nest, 2);
  if (run_transposed(nest, stream) || run_interleaved(nest, stream)) return;
  launch_nest(stream, elements_, nest, 2);
}

/// A few planes become as many channels of each pixel.
bool StridedCopy::run_interleaved(const LoopNest& nest, CudaStream& stream) const {
  if (nest.rank < 2) return false;
  const auto inner = static_cast<std::size_t>(nest.rank - 1), pixels = inner - 1;
  const LoopNest::Operand& from = nest.operands[0];
  const LoopNest::Operand& to = nest.operands[1];
  const std::int64_t planes = nest.dims[inner];
  const auto vector = static_cast<std::int64_t>(16 / element_bytes_);
  if (planes < 2 || planes > 4 || to.strides[inner] != 1 || from.strides[pixels] != 1 || to.strides[pixels] != planes)
    return false;
  bool is_aligned = nest.dims[pixels] % vector == 0 && from.strides[inner] % vector == 0;
  TileArguments arguments;
  arguments.columns = nest.dims[pixels];
  arguments.rows = nest.dims[inner];
  arguments.from_row = from.strides[inner];
  arguments.to_column = to.strides[pixels];
  std::array<std::int64_t, kMaxRank> dims{};
  std::array<NestOperand, 2> operands{NestOperand{from.data, element_bytes_, {}},
                                      NestOperand{to.data, element_bytes_, {}}};
  for (std::size_t a = 0; a < pixels; ++a) {
    dims[a] = nest.dims[a];
    operands[0].strides[a] = from.strides[a];
    operands[1].strides[a] = to.strides[a];
    is_aligned &= from.strides[a] % vector == 0 && to.strides[a] % vector == 0;
  }
  for (const NestOperand& operand : operands) is_aligned &= reinterpret_cast<std::uintptr_t>(operand.data) % 16 == 0;
  if (!is_aligned) return false;
  arguments.batch = make_nest(std::span(dims).first(pixels), operands);
  LaunchConfig config;
  config.function = interleave_[static_cast<std::size_t>(planes - 2)];
  config.grid.x =
      static_cast<unsigned>((arguments.batch.count * (arguments.columns / vector) + kThreads - 1) / kThreads);
  config.block.x = kThreads;
  stream.launch(config, arguments);
  return true;
}

bool StridedCopy::run_transposed(const LoopNest& nest, CudaStream& stream) const {
  const auto inner = static_cast<std::size_t>(nest.rank - 1);
  const LoopNest::Operand& from = nest.operands[0];
  const LoopNest::Operand& to = nest.operands[1];
  if (nest.rank < 2 || to.strides[inner] != 1 || from.strides[inner] == 1) return false;
  std::size_t across = inner;
  for (std::size_t a = 0; a < inner; ++a) {
    if (from.strides[a] == 1) across = a;
  }
  if (across == inner || nest.dims[across] < kLeastTile || nest.dims[inner] < kLeastTile) return false;

  TileArguments arguments;
  arguments.columns = nest.dims[across];
  arguments.rows = nest.dims[inner];
  arguments.from_row = from.strides[inner];
  arguments.to_column = to.strides[across];
  std::array<std::int64_t, kMaxRank> dims{};
  std::array<NestOperand, 2> operands{NestOperand{from.data, element_bytes_, {}},
                                      NestOperand{to.data, element_bytes_, {}}};
  std::size_t rank = 0;
  for (std::size_t a = 0; a < inner; ++a) {
    if (a == across) continue;
    operands[0].strides[rank] = from.strides[a];
    operands[1].strides[rank] = to.strides[a];
    dims[rank++] = nest.dims[a];
  }
  arguments.batch = make_nest(std::span(dims).first(rank), operands);

  const auto wide = static_cast<std::int64_t>(wide_elements(element_bytes_));
  const auto is_wide = [&](std::int64_t elements) { return elements % wide == 0; };
  bool can_be_wide = is_wide(arguments.columns) && is_wide(arguments.rows) && is_wide(arguments.from_row) &&
                     is_wide(arguments.to_column);
  for (const NestOperand& operand : operands) {
    can_be_wide &=
        reinterpret_cast<std::uintptr_t>(operand.data) % (static_cast<std::size_t>(wide) * element_bytes_) == 0;
    for (const std::int64_t stride : operand.strides) can_be_wide &= is_wide(stride);
  }
  const std::int64_t side = kLanes * (can_be_wide ? wide : 1);
  const std::int64_t blocks =
      (arguments.columns + side - 1) / side * ((arguments.rows + side - 1) / side) * arguments.batch.count;
  if (blocks >= (std::int64_t{1} << 31)) return false;
  LaunchConfig config;
  config.function = can_be_wide ? wide_tiles_ : tiles_;
  config.grid.x = static_cast<unsigned>(blocks);
  config.block.x = kThreads;
  config.pdl = true;
  stream.launch(config, arguments);
  return true;
}

}  // namespace tenfold::cuda
