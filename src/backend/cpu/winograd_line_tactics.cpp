// Conv with windows that are long in one direction only, by Winograd's minimal filtering: conv.winograd_line.
#include <algorithm>
#include <array>

#include "backend/cpu/conv_support.hpp"
#include "backend/cpu/finish_plan.hpp"
#include "backend/cpu/gemm_support.hpp"
#include "backend/cpu/kernels/winograd_line.hpp"

namespace tenfold::cpu {

LinePart winograd_line_part(std::int64_t out_length, std::int64_t lines, std::int64_t row_block) {
  const std::int64_t tiles = (out_length + kLineTile - 1) / kLineTile;
  if (tiles >= row_block) return {row_block, 1};
  return {std::max<std::int64_t>(tiles, 1),
          std::clamp(row_block / std::max<std::int64_t>(tiles, 1), std::int64_t{1}, std::max<std::int64_t>(lines, 1))};
}

std::int64_t winograd_line_bytes(const LinePart& part, std::int64_t kernel, std::int64_t in_channels,
                                 std::int64_t out_channels) {
  const std::int64_t inputs = (part.tiles + line_blocks(kernel) - 1) * part.lines * in_channels;
  const std::int64_t products = part.tiles * part.lines * padded_columns(out_channels);
  return (line_positions(kernel) * (inputs + products) + vector_floats(tier())) *
         static_cast<std::int64_t>(sizeof(float));
}

namespace {

/// The axis, of three, along which the window is long; -1: none, or several.
int long_axis(const ConvSizes& sizes) {
  int found = -1;
  for (int axis = 0; axis < 3; ++axis) {
    if (sizes.kernel[static_cast<std::size_t>(axis)] == 1) continue;
    if (found >= 0) return -1;
    found = axis;
  }
  return found;
}

std::optional<std::string> refuses(const Conv& conv, std::span<const TensorType> inputs,
                                   std::span<const TensorType> outputs) {
  if (auto refusal = refuses_conv(conv, inputs, outputs)) return refusal;
  const ConvSizes sizes = conv_sizes(conv, inputs[1]);
  const int axis = long_axis(sizes);
  if (axis < 0 || sizes.taps() < 3) return "the window is not three or more pixels long in one direction only";
  if (!conv.window().is_unit_stride()) return "the stride is not 1";
  const std::vector<std::int64_t>& dilations = conv.window().dilations;
  if (std::any_of(dilations.begin(), dilations.end(), [](std::int64_t d) { return d != 1; }))
    return "the window is dilated";
  if (sizes.group != 1) return "the channels are in groups";
  const int spatial = conv.spatial_rank();
  for (int i = 0; i < spatial; ++i) {
    const auto& pads = conv.window().pads;
    const auto at = static_cast<std::size_t>(i);
    if (3 - spatial + i != axis && (pads[at] != 0 || pads[at + static_cast<std::size_t>(spatial)] != 0))
      return "the image is padded in a direction in which the window is one pixel wide";
  }
  if (winograd_line_bytes({1, 1}, sizes.taps(), sizes.in_channels, sizes.out_channels) >
      static_cast<std::int64_t>(CpuStream::kScratchBytes)) {
    return "one transformed tile has too many channels for the scratch memory";
  }
  return std::nullopt;
}

/// Sizes of the lines that a convolution's images are.
void set_lines(const ConvRows& rows, int axis, WinogradLineArgs& args) {
  args.outer = rows.batch;
  args.inner = 1;
  for (int i = 0; i < 3; ++i) {
    if (i < axis) args.outer *= rows.out[i];
    if (i > axis) args.inner *= rows.out[i];
  }
  args.in_length = rows.in[axis];
  args.out_length = rows.out[axis];
  args.pad = rows.pad[axis];
}

class WinogradLineKernel final : public Kernel {
 public:
  /// weights: panels [position][panel][block][channel][column], then zeros outside the image.
  explicit WinogradLineKernel(const KernelSpec& spec)
      : op_(spec.op),
        sizes_(conv_sizes(conv_of(spec.op), spec.inputs[1])),
        axis_(long_axis(sizes_)),
        tiling_(tiling_from(spec.parameters)),
        finish_(conv_of(spec.op).epilogue(), Conv::kFirstEpilogueInput),
        panels_(packed_floats(spec, 0,
                              line_positions(sizes_.taps()) * line_blocks(sizes_.taps()) *
                                  padded_columns(sizes_.out_channels) * sizes_.in_channels)),
        zeros_(packed_floats(spec, 1, padded_columns(sizes_.in_channels))) {}

  std::size_t workspace_bytes(std::span<const TensorView>, std::span<const TensorView> outputs) const override {
    const int rank = outputs[0].rank(), axis = rank - 4 + axis_;
    std::int64_t lines = 1;
    for (int i = 0; i + 1 < rank; ++i) lines *= i == axis ? 1 : outputs[0].dim(i);
    const LinePart part = winograd_line_part(outputs[0].dim(axis), lines, tiling_.row_block);
    return static_cast<std::size_t>(winograd_line_bytes(part, sizes_.taps(), sizes_.in_channels, sizes_.out_channels));
  }

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    WinogradLineArgs args;
    set_lines(conv_rows(conv_of(op_), sizes_, x, y), axis_, args);
    args.kernel = sizes_.taps();
    args.in_channels = sizes_.in_channels;
    args.out_channels = sizes_.out_channels;
    args.x = x.as<const float>();
    args.x_stride = x.pitch;
    args.zeros = zeros_;
    args.panels = panels_;
    args.y = y.as<float>();
    args.y_stride = y.pitch;
    args.workspace = launch.workspace.data();
    args.tiling = tiling_;
    args.finish.bias = conv_bias(launch);
    finish_.resolve(launch, y.dims, args.finish);
    TENFOLD_FOR_TIER(kWinogradLineKernels).run(args, workers_of(launch));
  }
  bool accepts_pitched_input(int index) const override { return index == 0 || finish_.reads(index); }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  OpPtr op_;
  ConvSizes sizes_;
  int axis_;
  GemmTiling tiling_;
  FinishPlan finish_;
  const float* panels_;
  const float* zeros_;
};

void candidates(const Problem& problem, std::vector<Candidate>& out) {
  auto refusal = refuses(conv_of(problem.op), problem.inputs, problem.outputs);
  if (!refusal && !is_float32(problem.constants[1])) refusal = "the weights are computed";
  if (!refusal && problem.strict) refusal = "strict arithmetic was asked for";
  if (refusal) {
    out.push_back({.refusal = *refusal});
    return;
  }
  const ConvSizes sizes = conv_sizes(conv_of(problem.op), problem.inputs[1]);
  const ConvWork work = conv_work(problem, sizes);
  const std::int64_t kernel = sizes.taps();
  const Shape& y = problem.output_shapes[0];
  const std::int64_t length = y[y.size() - 4 + static_cast<std::size_t>(long_axis(sizes))];
  const std::int64_t rows = leading(y) / std::max<std::int64_t>(length, 1) * ((length + kLineTile - 1) / kLineTile);
  const auto positions = static_cast<double>(line_positions(kernel) * line_blocks(kernel));
  const auto in = static_cast<double>(sizes.in_channels), columns = static_cast<double>(sizes.out_channels);
  const auto tiles = static_cast<double>(rows);
  const double product_us =
      estimate_us(2 * positions * tiles * in * columns, 4 * positions * in * columns, 0.75 * std::min(1.0, tiles / 8));
  const double transform_us =
      estimate_us(2 * static_cast<double>(line_positions(kernel)) * tiles * (in + columns) * 6, work.bytes, 0.4);
  double rank = 1;
  for (const GemmTiling& tiling :
       promising_tilings(rows, sizes.out_channels, sizes.in_channels, {{256, 64}, {512, 64}, {256, 32}})) {
    out.push_back({.parameters = parameters_of(tiling), .estimated_us = rank * (product_us + transform_us)});
    rank += kRankStep;
  }
}

/// Transforms a block of three or four taps: G g.
void transform_taps(std::int64_t taps, const std::array<double, 4>& g, std::array<double, 7>& out) {
  constexpr double kG3[6][4] = {{1.0 / 4},
                                {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                {1.0 / 24, 1.0 / 12, 1.0 / 6},
                                {1.0 / 24, -1.0 / 12, 1.0 / 6},
                                {0, 0, 1}};
  constexpr double kG4[7][4] = {{-1.0 / 2},
                                {-1.0 / 3, -1.0 / 3, -1.0 / 3, -1.0 / 3},
                                {1.0 / 9, -1.0 / 9, 1.0 / 9, -1.0 / 9},
                                {1.0 / 36, 1.0 / 18, 1.0 / 9, 2.0 / 9},
                                {-1.0 / 60, 1.0 / 30, -1.0 / 15, 2.0 / 15},
                                {32.0 / 45, 16.0 / 45, 8.0 / 45, 4.0 / 45},
                                {0, 0, 0, 1}};
  const double(*const matrix)[4] = taps == 3 ? kG3 : kG4;
  for (std::size_t p = 0; p < (taps == 3 ? 6 : 7); ++p) {
    out[p] = 0;
    for (std::size_t i = 0; i < 4; ++i) out[p] += matrix[p][i] * g[i];
  }
}

PackedWeights pack(const Problem& problem, const Candidate& candidate) {
  const ConvSizes sizes = conv_sizes(conv_of(problem.op), problem.inputs[1]);
  const std::int64_t kernel = sizes.taps(), taps = line_block_taps(kernel), blocks = line_blocks(kernel);
  const std::int64_t channels = sizes.in_channels, depth = blocks * channels;
  const int tile_vectors = tiling_from(candidate.parameters).tile_vectors;
  const float* weights = problem.constants[1]->as<float>().data();
  const std::int64_t numbers = sizes.out_channels * depth;
  std::vector<float> transformed(static_cast<std::size_t>(line_positions(kernel) * numbers));  // [position][n][b, c]
  std::array<double, 4> block{};
  std::array<double, 7> products{};
  for (std::int64_t n = 0; n < sizes.out_channels; ++n) {
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t b = 0; b < blocks; ++b) {
        for (std::int64_t i = 0; i < 4; ++i) {
          const std::int64_t tap = b * taps + i;
          block[static_cast<std::size_t>(i)] =
              i < taps && tap < kernel ? static_cast<double>(weights[(n * channels + c) * kernel + tap]) : 0;
        }
        transform_taps(taps, block, products);
        for (std::int64_t p = 0; p < line_positions(kernel); ++p) {
          transformed[static_cast<std::size_t>(p * numbers + n * depth + b * channels + c)] =
              static_cast<float>(products[static_cast<std::size_t>(p)]);
        }
      }
    }
  }
  PackedWeights packed;
  std::vector<std::byte>& panels = packed.blobs.emplace_back();
  for (std::int64_t p = 0; p < line_positions(kernel); ++p) {
    const float* w = transformed.data() + p * numbers;
    const std::vector<std::byte> position = pack_panels(
        depth, sizes.out_channels, tile_vectors, [&](std::int64_t k, std::int64_t n) { return w[n * depth + k]; });
    panels.insert(panels.end(), position.begin(), position.end());
  }
  packed.blobs.emplace_back(static_cast<std::size_t>(padded_columns(channels)) * sizeof(float));
  packed.consumed_inputs = {1};
  return packed;
}

std::unique_ptr<Kernel> make(const KernelSpec& spec) {
  const auto refusal = refuses(conv_of(spec.op), spec.inputs, spec.outputs);
  require(!refusal, Code::incompatible_engine, "tactic '{}' cannot run this Conv: {}", spec.tactic,
          refusal.value_or(""));
  return std::make_unique<WinogradLineKernel>(spec);
}

}  // namespace

const CpuTactic kConvWinogradLine{"conv.winograd_line", "Conv", candidates, pack, make};

}  // namespace tenfold::cpu
