// Packing on the host, tensor maps, grids.
#include "backend/cuda/gemm_kernel.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

#include "backend/cuda/pointwise_text.hpp"
#include "base/error.hpp"

namespace tenfold::cuda {
namespace {

constexpr std::size_t kShortlist = 8;
/// Rows of tiles that are walked together, so that their operands meet in the second-level cache.
constexpr int kGroupM = 8;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// The column of b that lies in `row` of the packed b, for `n` columns of the result; nullopt: none, the row is
/// padding.
std::optional<std::int64_t> column_at(const GemmSchedule& schedule, std::int64_t n, std::int64_t row) {
  const std::int64_t group = 4 * schedule.unit(), tile = row / schedule.tile_n;
  const std::int64_t inside = column_of(static_cast<int>(row % schedule.tile_n), schedule.unit());
  // Of pairs, groups of first ones and of second ones take turns.
  const std::int64_t half = schedule.gated ? inside / group % 2 : 0;
  const std::int64_t column =
      tile * schedule.result_columns() + (schedule.gated ? inside / (2 * group) * group + inside % group : inside);
  return column < n ? std::optional(column + half * n) : std::nullopt;
}

}  // namespace

std::int64_t padded_columns(const GemmSchedule& schedule, std::int64_t n) {
  return ceil_div(n, schedule.result_columns()) * schedule.tile_n;
}

std::int64_t packed_columns_bytes(const GemmSchedule& schedule, std::int64_t n, std::int64_t channels,
                                  std::int64_t positions) {
  return padded_columns(schedule, n) * loads_along_k(schedule, channels, positions) * schedule.row_bytes;
}

std::vector<std::byte> pack_columns(
    const GemmSchedule& schedule, std::int64_t n, std::int64_t channels, std::int64_t positions, const std::byte* data,
    const std::function<std::int64_t(std::int64_t, std::int64_t, std::int64_t)>& index_of) {
  const std::int64_t row_elements = schedule.row_elements();
  const std::int64_t padded_channels = ceil_div(channels, row_elements) * row_elements;
  const std::int64_t row = loads_along_k(schedule, channels, positions) * row_elements;
  const auto size = static_cast<std::size_t>(schedule.element_bytes());
  std::vector<std::byte> packed(static_cast<std::size_t>(packed_columns_bytes(schedule, n, channels, positions)));
  const std::int64_t step = channels > 1 ? index_of(0, 0, 1) - index_of(0, 0, 0) : 1;
  for (std::int64_t f = 0; f < padded_columns(schedule, n); ++f) {
    const std::optional<std::int64_t> column = column_at(schedule, n, f);
    if (!column) continue;
    for (std::int64_t position = 0; position < positions; ++position) {
      std::byte* to = packed.data() + static_cast<std::size_t>(f * row + position * padded_channels) * size;
      const std::byte* from = data + static_cast<std::size_t>(index_of(*column, position, 0)) * size;
      if (step == 1) {
        std::memcpy(to, from, static_cast<std::size_t>(channels) * size);
        continue;
      }
      for (std::int64_t c = 0; c < channels; ++c) {
        std::memcpy(to + static_cast<std::size_t>(c) * size, from + static_cast<std::size_t>(c * step) * size, size);
      }
    }
  }
  if (schedule.element == DType::float32) round_to_tf32(packed);
  return packed;
}

std::vector<std::byte> pack_vector(const GemmSchedule& schedule, std::int64_t n, const Tensor* values) {
  std::vector<float> padded(static_cast<std::size_t>(padded_columns(schedule, n)), 0.0F);
  const std::vector<double> numbers = values->to_double();
  for (std::size_t i = 0; i < padded.size(); ++i) {
    if (numbers.size() == 1)
      padded[i] = static_cast<float>(numbers[0]);
    else if (i < numbers.size())
      padded[i] = static_cast<float>(numbers[i]);
  }
  std::vector<std::byte> bytes(padded.size() * sizeof(float));
  std::memcpy(bytes.data(), padded.data(), bytes.size());
  return bytes;
}

std::optional<std::string> refuses_device(const DeviceTraits& traits) {
  if (traits.sm != 90)
    return fmt::format("the kernel needs compute capability 9.0, the device has {}.{}", traits.sm / 10, traits.sm % 10);
  return std::nullopt;
}

std::optional<std::string> refuses_elements(DType a, DType b, DType result) {
  const auto is_half = [](DType dtype) { return dtype == DType::float16 || dtype == DType::bfloat16; };
  const bool is_integer = (a == DType::int8 || a == DType::uint8) && b == DType::int8;
  const bool is_tf32 = a == DType::float32 && b == DType::float32;
  const bool is_float8 = a == DType::float8e4m3 && b == a;
  if (!is_integer && !is_float8 && !is_tf32 && !(is_half(a) && a == b)) {
    return fmt::format(
        "tensor cores multiply float16, bfloat16, tf32, float8e4m3 and 8-bit integers here, not {} by {}", to_string(a),
        to_string(b));
  }
  if (result == DType::float32 || (is_half(result) && !is_tf32) || (is_float8 && result == a)) return std::nullopt;
  if (is_integer && (result == DType::int8 || result == DType::uint8)) return std::nullopt;
  return fmt::format("a product of {} is not stored as {} here", to_string(a), to_string(result));
}

void round_to_tf32(std::span<std::byte> floats) {
  for (std::size_t i = 0; i + sizeof(float) <= floats.size(); i += sizeof(float)) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, floats.data() + i, sizeof bits);
    bits = (bits + 0x1000U) & ~0x1fffU;
    std::memcpy(floats.data() + i, &bits, sizeof bits);
  }
}

std::optional<std::string> refuses_digits(const Problem& problem) {
  if (problem.strict && problem.inputs[0].dtype == DType::float8e4m3) {
    return "wgmma keeps about 14 bits of sums of float8, which is not strict";
  }
  if (problem.tf32 || problem.inputs[0].dtype != DType::float32) return std::nullopt;
  return "tensor cores would round the operands to 11 bits, which needs --tf32";
}

MapType map_type(DType dtype) {
  switch (dtype) {
    case DType::float16:
      return MapType::float16;
    case DType::bfloat16:
      return MapType::bfloat16;
    case DType::float32:
      return MapType::float32;
    case DType::int8:
    case DType::uint8:
    case DType::float8e4m3:
      return MapType::uint8;
    default:
      throw Error(Code::internal, fmt::format("no tensor map of {}", to_string(dtype)));
  }
}

MapSwizzle swizzle_of(int row_bytes) {
  return row_bytes == 128 ? MapSwizzle::bytes128 : row_bytes == 64 ? MapSwizzle::bytes64 : MapSwizzle::bytes32;
}

void offer_refusal(std::string reason, std::vector<Candidate>& out) {
  Candidate candidate;
  candidate.refusal = std::move(reason);
  out.push_back(std::move(candidate));
}

void offer_schedules(const GemmShape& shape, const DeviceTraits& traits, std::vector<Candidate>& out) {
  const std::vector<RankedSchedule> ranked = rank_schedules(shape, traits, kShortlist);
  for (const RankedSchedule& entry : ranked) {
    Candidate candidate;
    candidate.parameters = entry.schedule.encode();
    candidate.estimated_us = entry.estimated_us;
    out.push_back(std::move(candidate));
  }
  if (ranked.empty()) offer_refusal("no schedule fits this product", out);
}

GemmLauncher::GemmLauncher(const GemmSchedule& schedule, EpilogueSpec epilogue, const LoadedModule& module)
    : schedule_(schedule),
      epilogue_(std::move(epilogue)),
      function_(module.function(kGemmEntry)),
      num_sms_(module.traits().num_sms) {}

TensorMap GemmLauncher::packed_map(const void* weights, std::int64_t n, std::int64_t loads_k) const {
  const std::uint64_t row = static_cast<std::uint64_t>(loads_k * schedule_.row_bytes);
  const std::array<std::uint64_t, 2> dims{row / static_cast<std::uint64_t>(schedule_.element_bytes()),
                                          static_cast<std::uint64_t>(padded_columns(schedule_, n))};
  const std::array<std::uint32_t, 2> box{static_cast<std::uint32_t>(schedule_.row_elements()),
                                         static_cast<std::uint32_t>(schedule_.tile_n)};
  return encode_tiled(map_type(schedule_.element), 2, weights, dims.data(), &row, box.data(),
                      swizzle_of(schedule_.row_bytes));
}

TensorMap GemmLauncher::matrix_map(const void* data, std::int64_t batches, std::int64_t rows, std::int64_t columns,
                                   std::int64_t pitch, int box_columns, int box_rows) const {
  const auto size = static_cast<std::uint64_t>(schedule_.element_bytes());
  const std::array<std::uint64_t, 3> dims{static_cast<std::uint64_t>(columns), static_cast<std::uint64_t>(rows),
                                          static_cast<std::uint64_t>(batches)};
  const std::array<std::uint64_t, 2> strides{static_cast<std::uint64_t>(pitch) * size,
                                             static_cast<std::uint64_t>(pitch * rows) * size};
  const std::array<std::uint32_t, 3> box{static_cast<std::uint32_t>(box_columns), static_cast<std::uint32_t>(box_rows),
                                         1};
  return encode_tiled(map_type(schedule_.element), 3, data, dims.data(), strides.data(), box.data(),
                      swizzle_of(schedule_.row_bytes));
}

void GemmLauncher::run(const Launch& launch, GemmArguments& arguments, const TensorMap& a, const TensorMap& b,
                       std::int64_t loads_k, std::span<const TensorView> inputs, int first_input,
                       const TensorView& output) const {
  const int out_h = arguments.out_h, out_w = arguments.out_w;
  bind_output(output, schedule_.unit(), arguments);
  if (schedule_.rows == RowSource::image) {
    arguments.out_h = out_h;
    arguments.out_w = out_w;
  }
  bind_operands(epilogue_, inputs, first_input, output, arguments);
  arguments.tiles_m = static_cast<int>(ceil_div(arguments.m, schedule_.tile_m()));
  arguments.tiles_n = static_cast<int>(ceil_div(arguments.n, schedule_.result_columns()));
  arguments.group_m = kGroupM;
  arguments.steps_k = static_cast<int>(loads_k / schedule_.loads_per_stage);
  TensorMap residual = b;
  if (schedule_.staged_residuals > 0) {
    const int index = epilogue_.stageable(schedule_.output);
    const TensorView& view = inputs[static_cast<std::size_t>(first_input + index)];
    const auto size = static_cast<std::uint64_t>(schedule_.output_bytes());
    const std::uint64_t pitch = static_cast<std::uint64_t>(view.pitch) * size;
    const std::array<std::uint64_t, 2> dims{static_cast<std::uint64_t>(arguments.n),
                                            static_cast<std::uint64_t>(arguments.m)};
    const std::array<std::uint32_t, 2> box{static_cast<std::uint32_t>(4 * schedule_.unit()),
                                           static_cast<std::uint32_t>(schedule_.tile_m())};
    residual =
        encode_tiled(map_type(schedule_.output), 2, view.data, dims.data(), &pitch, box.data(), MapSwizzle::none);
  }
  const std::int64_t tiles = std::int64_t{arguments.tiles_m} * arguments.tiles_n * arguments.batches;
  if (tiles == 0) return;
  LaunchConfig config;
  config.function = function_;
  config.block.x = static_cast<unsigned>(schedule_.threads());
  config.smem_bytes = static_cast<unsigned>(schedule_.shared_bytes(loads_k));
  std::int64_t blocks = std::min<std::int64_t>(num_sms_, tiles);
  if (schedule_.resident) {
    const std::int64_t columns = arguments.tiles_n;
    blocks = std::max<std::int64_t>(1, std::min<std::int64_t>(num_sms_ / columns, arguments.tiles_m)) * columns;
  } else if (schedule_.split_k > 0) {
    blocks = tiles * schedule_.split_k;
    config.cluster.x = static_cast<unsigned>(schedule_.split_k);
  }
  config.grid.x = static_cast<unsigned>(blocks);
  // The start, and the weights' way to the multiprocessors, hides behind the kernel before.
  config.pdl = true;
  cuda_stream(launch).launch(config, a, b, residual, arguments);
}

}  // namespace tenfold::cuda
