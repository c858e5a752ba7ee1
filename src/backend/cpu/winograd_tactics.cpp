// Conv with 3 x 3 windows by Winograd's minimal filtering: conv.winograd2 and conv.winograd4, and at stride 2
// conv.winograd2_stride2 and conv.winograd4_stride2.
#include <algorithm>
#include <array>

#include "backend/cpu/conv_support.hpp"
#include "backend/cpu/finish_plan.hpp"
#include "backend/cpu/gemm_support.hpp"
#include "backend/cpu/kernels/winograd.hpp"

namespace tenfold::cpu {

std::int64_t winograd_tiles(int tile_size, const ConvRows& g) {
  return g.batch * ((g.out[1] + tile_size - 1) / tile_size) * ((g.out[2] + tile_size - 1) / tile_size);
}

std::int64_t winograd_bytes(int tile_size, std::int64_t stride, std::int64_t tiles, std::int64_t in_channels,
                            std::int64_t out_channels) {
  const std::int64_t positions = winograd_positions(tile_size, stride);
  return positions * positions * tiles * (padded_columns(in_channels) + padded_columns(out_channels)) *
         static_cast<std::int64_t>(sizeof(float));
}

namespace {

/// Transforms one 3 x 3 filter: G g G^T, row-major.
void transform_filter(int tile_size, std::int64_t stride, const float* g, double* out) {
  constexpr double kG2[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
  constexpr double kG4[6][3] = {{1.0 / 4, 0, 0},
                                {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                {1.0 / 24, 1.0 / 12, 1.0 / 6},
                                {1.0 / 24, -1.0 / 12, 1.0 / 6},
                                {0, 0, 1}};
  constexpr double kG2Stride2[4][3] = {{1, 0, 0}, {1, 0, 1}, {0, 0, 1}, {0, 1, 0}};
  constexpr double kG4Stride2[6][3] = {
      {1.0 / 2, 0, 0}, {-1.0 / 2, 0, -1.0 / 2}, {-1.0 / 6, 0, 1.0 / 6}, {1.0 / 6, 0, 1.0 / 3}, {0, 0, 1}, {0, 1, 0}};
  const double(*const matrix)[3] = stride == 1 ? tile_size == 4 ? kG4 : kG2 : tile_size == 4 ? kG4Stride2 : kG2Stride2;
  const auto size = static_cast<int>(winograd_filters(tile_size));
  for (int i = 0; i < size; ++i) {
    for (int j = 0; j < size; ++j) {
      double sum = 0;
      for (int a = 0; a < 3; ++a) {
        for (int b = 0; b < 3; ++b) sum += matrix[i][a] * matrix[j][b] * static_cast<double>(g[a * 3 + b]);
      }
      out[i * size + j] = sum;
    }
  }
}

template <int kTile, int kStride>
class WinogradKernel final : public Kernel {
 public:
  static constexpr std::int64_t kFilters = winograd_filters(kTile) * winograd_filters(kTile);

  /// weights: panels [filter][panel][channel][column], then zeros outside the image.
  explicit WinogradKernel(const KernelSpec& spec)
      : op_(spec.op),
        sizes_(conv_sizes(conv_of(spec.op), spec.inputs[1])),
        tiling_(tiling_from(spec.parameters)),
        finish_(conv_of(spec.op).epilogue(), Conv::kFirstEpilogueInput),
        panels_(packed_floats(spec, 0, kFilters * padded_columns(sizes_.out_channels) * sizes_.in_channels)),
        zeros_(packed_floats(spec, 1, padded_columns(sizes_.in_channels))) {}

  std::size_t workspace_bytes(std::span<const TensorView>, std::span<const TensorView> outputs) const override {
    ConvRows rows;
    rows.batch = outputs[0].dim(0);
    rows.out[1] = outputs[0].dim(1);
    rows.out[2] = outputs[0].dim(2);
    const std::int64_t tiles = std::min(winograd_tiles(kTile, rows), kWinogradSharedTiles);
    return static_cast<std::size_t>(winograd_bytes(kTile, kStride, tiles, sizes_.in_channels, sizes_.out_channels));
  }

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    WinogradArgs args;
    args.tile_size = kTile;
    args.geometry = conv_rows(conv_of(op_), sizes_, x, y);
    args.geometry.zeros = zeros_;
    args.in_channels = sizes_.in_channels;
    args.out_channels = sizes_.out_channels;
    args.x = x.as<const float>();
    args.x_stride = x.pitch;
    args.panels = panels_;
    args.y = y.as<float>();
    args.y_stride = y.pitch;
    args.workspace = launch.workspace.data();
    args.tiling = tiling_;
    args.finish.bias = conv_bias(launch);
    finish_.resolve(launch, y.dims, args.finish);
    TENFOLD_FOR_TIER(kWinogradKernels).run(args, workers_of(launch));
  }
  bool accepts_pitched_input(int index) const override { return index == 0 || finish_.reads(index); }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  OpPtr op_;
  ConvSizes sizes_;
  GemmTiling tiling_;
  FinishPlan finish_;
  const float* panels_;
  const float* zeros_;
};

std::optional<std::string> refuses(const Conv& conv, std::span<const TensorType> inputs,
                                   std::span<const TensorType> outputs, int tile_size, std::int64_t stride) {
  if (auto refusal = refuses_conv(conv, inputs, outputs)) return refusal;
  const ConvSizes sizes = conv_sizes(conv, inputs[1]);
  if (conv.spatial_rank() != 2 || sizes.kernel[1] != 3 || sizes.kernel[2] != 3) return "the window is not 3 x 3";
  const std::vector<std::int64_t>& strides = conv.window().strides;
  if (strides[0] != stride || strides[1] != stride) return fmt::format("the stride is not {}", stride);
  if (conv.window().dilations[0] != 1 || conv.window().dilations[1] != 1) return "the window is dilated";
  if (sizes.group != 1) return "the channels are in groups";
  if (winograd_bytes(tile_size, stride, 1, sizes.in_channels, sizes.out_channels) >
      static_cast<std::int64_t>(CpuStream::kScratchBytes)) {
    return "one transformed tile has too many channels for the scratch memory";
  }
  return std::nullopt;
}

template <int kTile, int kStride>
void candidates(const Problem& problem, std::vector<Candidate>& out) {
  auto refusal = refuses(conv_of(problem.op), problem.inputs, problem.outputs, kTile, kStride);
  if (!refusal && !is_float32(problem.constants[1])) refusal = "the weights are computed";
  if (!refusal && problem.strict) refusal = "strict arithmetic was asked for";
  if (!refusal && kStride == 2) {
    // A third of the products saved at most: transforms must be few beside them.
    constexpr std::int64_t kFewestChannels = 16;
    const ConvSizes sizes = conv_sizes(conv_of(problem.op), problem.inputs[1]);
    if (sizes.in_channels < kFewestChannels || sizes.out_channels < kFewestChannels) {
      refusal = fmt::format("{} to {} channels are too few: transforms would take more time than they save",
                            sizes.in_channels, sizes.out_channels);
    }
  }
  if (refusal) {
    out.push_back({.refusal = *refusal});
    return;
  }
  const ConvSizes sizes = conv_sizes(conv_of(problem.op), problem.inputs[1]);
  const ConvWork work = conv_work(problem, sizes);
  const Shape& y = problem.output_shapes[0];
  ConvRows geometry;
  geometry.batch = y[0];
  geometry.out[1] = y[1];
  geometry.out[2] = y[2];
  constexpr auto kPositions =
      static_cast<double>(winograd_positions(kTile, kStride) * winograd_positions(kTile, kStride));
  constexpr auto kFilters = static_cast<double>(WinogradKernel<kTile, kStride>::kFilters);
  const auto tiles = static_cast<double>(winograd_tiles(kTile, geometry));
  const auto in = static_cast<double>(sizes.in_channels), columns = static_cast<double>(sizes.out_channels);
  const double product_flops = 2 * kPositions * tiles * in * columns;
  // Short rows keep the multiply-adds waiting.
  const double efficiency = 0.75 * std::min(1.0, tiles / 8) * in / (in + 6);
  const double product_us = estimate_us(product_flops, 4 * kFilters * in * columns, efficiency);
  const double padded = static_cast<double>(padded_columns(sizes.in_channels) + padded_columns(sizes.out_channels));
  const double transform_us = estimate_us(2 * kPositions * tiles * padded * 6, work.bytes, 0.4);
  double rank = 1;
  for (const GemmTiling& tiling : promising_tilings(winograd_tiles(kTile, geometry), sizes.out_channels,
                                                    sizes.in_channels, {{512, 64}, {512, 16}, {512, 32}})) {
    out.push_back({.parameters = parameters_of(tiling), .estimated_us = rank * (product_us + transform_us)});
    rank += kRankStep;
  }
}

template <int kTile, int kStride>
PackedWeights pack(const Problem& problem, const Candidate& candidate) {
  constexpr std::int64_t kFilters = WinogradKernel<kTile, kStride>::kFilters;
  const ConvSizes sizes = conv_sizes(conv_of(problem.op), problem.inputs[1]);
  const int tile_vectors = tiling_from(candidate.parameters).tile_vectors;
  const float* weights = problem.constants[1]->as<float>().data();
  const std::int64_t filters = sizes.in_channels * sizes.out_channels;
  std::vector<float> transformed(static_cast<std::size_t>(kFilters * filters));  // [filter][n][k]
  std::array<double, static_cast<std::size_t>(kFilters)> filter{};
  for (std::int64_t i = 0; i < filters; ++i) {
    transform_filter(kTile, kStride, weights + i * 9, filter.data());
    for (std::int64_t p = 0; p < kFilters; ++p) {
      transformed[static_cast<std::size_t>(p * filters + i)] = static_cast<float>(filter[static_cast<std::size_t>(p)]);
    }
  }
  PackedWeights packed;
  std::vector<std::byte>& panels = packed.blobs.emplace_back();
  for (std::int64_t p = 0; p < kFilters; ++p) {
    const float* w = transformed.data() + p * filters;
    const std::vector<std::byte> position =
        pack_panels(sizes.in_channels, sizes.out_channels, tile_vectors,
                    [&](std::int64_t k, std::int64_t n) { return w[n * sizes.in_channels + k]; });
    panels.insert(panels.end(), position.begin(), position.end());
  }
  packed.blobs.emplace_back(static_cast<std::size_t>(padded_columns(sizes.in_channels)) * sizeof(float));
  packed.consumed_inputs = {1};
  return packed;
}

template <int kTile, int kStride>
std::unique_ptr<Kernel> make(const KernelSpec& spec) {
  const auto refusal = refuses(conv_of(spec.op), spec.inputs, spec.outputs, kTile, kStride);
  require(!refusal, Code::incompatible_engine, "tactic '{}' cannot run this Conv: {}", spec.tactic,
          refusal.value_or(""));
  return std::make_unique<WinogradKernel<kTile, kStride>>(spec);
}

}  // namespace

const CpuTactic kConvWinograd2{"conv.winograd2", "Conv", candidates<2, 1>, pack<2, 1>, make<2, 1>};
const CpuTactic kConvWinograd4{"conv.winograd4", "Conv", candidates<4, 1>, pack<4, 1>, make<4, 1>};
const CpuTactic kConvWinograd2Stride2{"conv.winograd2_stride2", "Conv", candidates<2, 2>, pack<2, 2>, make<2, 2>};
const CpuTactic kConvWinograd4Stride2{"conv.winograd4_stride2", "Conv", candidates<4, 2>, pack<4, 2>, make<4, 2>};

}  // namespace tenfold::cpu
