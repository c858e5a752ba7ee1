// Conv and MatMul with constant weights by the instructions for bfloat16.
// Factors are rounded to bfloat16, where the build allows it (--bf16):
//   conv.bf16, gemm.bf16:            vectors of pairs (AVX512_BF16)
//   conv.amx_bf16, gemm.amx_bf16:    tiles (AMX_BF16); input, result and operands of the result's shape may be
//                                    stored as bfloat16, each by itself. Weights have the input's type.
// Factors are float32 and keep all their digits (kernels/bf16_split.hpp):
//   conv.amx_split, gemm.amx_split:  tiles, each factor as the sum of three numbers
#include <algorithm>
#include <cmath>

#include "backend/cpu/conv_support.hpp"
#include "backend/cpu/finish_plan.hpp"
#include "backend/cpu/gemm_support.hpp"
#include "backend/cpu/kernels/bf16_product.hpp"
#include "backend/cpu/tile_panels.hpp"
#include "base/float16.hpp"
#include "ops/matmul.hpp"

namespace tenfold::cpu {
namespace {

/// What multiplies: vectors, tiles, or tiles of parts.
enum class Unit { vectors, tiles, split_tiles };
constexpr bool has_tiles(Unit unit) { return unit != Unit::vectors; }
constexpr int parts_of(Unit unit) { return unit == Unit::split_tiles ? static_cast<int>(kSplitParts) : 1; }

constexpr std::string_view kNotAllowed = "factors may not be rounded to bfloat16 (--bf16)";
/// A block of rows, or 16 at least, must fit in the scratch memory of a thread, all parts of them.
constexpr std::int64_t max_depth(Unit unit) { return (1 << 16) / parts_of(unit); }

/// Why the unit cannot be used at all.
std::optional<std::string> refuses(Unit unit, const Problem& problem) {
  if (unit != Unit::split_tiles && !problem.bf16) return std::string(kNotAllowed);
  if (has_tiles(unit) && !has_bf16_tiles()) return "this processor has no tiles of bfloat16 (AMX_BF16)";
  return std::nullopt;
}

bool is_bf16(const TensorType& type) { return type.dtype == DType::bfloat16; }
bool is_number(const TensorType& type) { return is_float32(type) || is_bf16(type); }

/// Why the unit does not take these types; the epilogue's inputs begin at `first_input`. nullopt if it does.
std::optional<std::string> refuses_types(Unit unit, const Epilogue& epilogue, std::span<const TensorType> inputs,
                                         const TensorType& output, int first_input) {
  if (unit != Unit::tiles) {
    if (!is_float32(inputs[0]) || !is_float32(inputs[1]) || !is_float32(output)) return "only float32 is supported";
    return FinishPlan::refuses(epilogue, inputs, first_input);
  }
  if (!is_number(inputs[0]) || inputs[1].dtype != inputs[0].dtype)
    return "input and weights are neither both float32 nor both bfloat16";
  if (!is_number(output)) return fmt::format("the result is {}", to_string(output.dtype));
  if (epilogue.program.empty()) return std::nullopt;
  for (std::size_t i = static_cast<std::size_t>(first_input); i < inputs.size(); ++i) {
    if (!is_number(inputs[i])) return "an input of the epilogue is neither float32 nor bfloat16";
    if (is_bf16(inputs[i]) && inputs[i].dims != output.dims)
      return "an input of the epilogue is bfloat16 and has not the result's shape";
  }
  return FinishPlan::refuses(epilogue);
}

/// Element i of a constant of a type that refuses_types lets pass.
float number_at(const Tensor& constant, std::int64_t i) {
  const auto at = static_cast<std::size_t>(i);
  if (constant.dtype() == DType::bfloat16) return static_cast<float>(constant.as<BFloat16>()[at]);
  return constant.as<float>()[at];
}

/// Why these weights cannot be multiplied; nullopt if they can, or are computed.
std::optional<std::string> refuses_weights(Unit unit, const Tensor* weights) {
  if (weights == nullptr) return "the weights are computed";
  if (unit != Unit::split_tiles) return std::nullopt;
  const std::span<const float> numbers = weights->as<float>();
  const float limit = std::ldexp(1.0F, kSplitLimitExponent);
  if (std::all_of(numbers.begin(), numbers.end(), [&](float x) { return std::fabs(x) < limit; })) return std::nullopt;
  return fmt::format("a weight is not below 2^{}", kSplitLimitExponent);
}

/// Bytes of memory that a product touches: A, B packed, C.
double bytes_touched(Unit unit, const Problem& problem) {
  const auto bytes = [](const TensorType& type, const Shape& shape) {
    return static_cast<double>(num_elements(shape)) * static_cast<double>(size_of(type.dtype));
  };
  return bytes(problem.inputs[0], problem.input_shapes[0]) +
         static_cast<double>(sizeof(BFloat16)) * parts_of(unit) *
             static_cast<double>(num_elements(problem.input_shapes[1])) +
         bytes(problem.outputs[0], problem.output_shapes[0]);
}

/// Pairs [pair of depth][column][2] of B[k][n], given as value(k, n), in panels; zeros in the padding.
template <typename Value>
std::vector<std::byte> pack_pairs(std::int64_t depth, std::int64_t columns, int tile_vectors, const Value& value) {
  const std::int64_t width = std::int64_t{tile_vectors} * vector_floats(tier());
  const std::int64_t padded = padded_columns(columns), pairs = (depth + 1) / 2;
  std::vector<std::byte> bytes(static_cast<std::size_t>(padded * pairs) * 2 * sizeof(BFloat16));
  std::byte* out = bytes.data();
  for (std::int64_t n = 0; n < padded; n += width) {
    const std::int64_t end = std::min(n + width, padded);
    for (std::int64_t p = 0; p < pairs; ++p) {
      for (std::int64_t j = n; j < end; ++j) {
        for (std::int64_t k = 2 * p; k < 2 * p + 2; ++k, out += sizeof(BFloat16)) {
          const BFloat16 x(j < columns && k < depth ? value(k, j) : 0.0F);
          std::memcpy(out, &x, sizeof x);
        }
      }
    }
  }
  return bytes;
}

template <typename Value>
std::vector<std::byte> pack(Unit unit, const Candidate& candidate, std::int64_t depth, std::int64_t columns,
                            const Value& value) {
  if (unit == Unit::split_tiles) return pack_split_panels(depth, columns, value);
  if (unit == Unit::tiles) return pack_tile_panels<BFloat16>(depth, columns, value);
  return pack_pairs(depth, columns, static_cast<int>(candidate.parameters.at(1)), value);
}

const std::uint16_t* packed(Unit unit, const KernelSpec& spec, std::int64_t depth, std::int64_t columns) {
  const std::int64_t bytes = has_tiles(unit) ? parts_of(unit) * tile_panel_bytes(depth * 2, columns)
                                             : padded_columns(columns) * ((depth + 1) / 2) * 4;
  require(spec.weights.size() == 1 && std::ssize(spec.weights[0]) == bytes, Code::incompatible_engine,
          "tactic '{}' expects {} bytes of packed weights, got {} blobs", spec.tactic, bytes, spec.weights.size());
  return reinterpret_cast<const std::uint16_t*>(spec.weights[0].data());
}

/// The third parameter of tiles, see append_tilings.
Windows windows_from(Unit unit, std::span<const std::int64_t> parameters) {
  if (!has_tiles(unit) || parameters.size() != 3) return Windows::copied;
  require(0 <= parameters[2] && parameters[2] <= static_cast<std::int64_t>(Windows::by_lines),
          Code::incompatible_engine, "how windows are read is 0, 1 or 2, got {}", parameters[2]);
  return static_cast<Windows>(parameters[2]);
}

// Parameters: of vectors [tile_rows, tile_vectors, row_block], of tiles see tile_blocks_from.
GemmTiling tiling_of(Unit unit, std::span<const std::int64_t> parameters) {
  if (has_tiles(unit)) {
    const TileBlocks blocks = tile_blocks_from(parameters);
    return {.tile_rows = kTileRows,
            .tile_vectors = kPanelTiles,
            .depth_block = blocks.depth_bytes / 2,
            .row_block = blocks.rows};
  }
  require(parameters.size() == 3, Code::incompatible_engine, "a tiling of pairs has 3 numbers, got {}",
          parameters.size());
  const std::array<std::int64_t, 4> with_depth = {parameters[0], parameters[1], kWholeDepth, parameters[2]};
  return tiling_from(with_depth);
}

/// `windows`: of tiles, how windows are read where they lie, if they can be. Then there is a third parameter, one of
/// Windows: this one, or that they are copied together. `row_bytes`: what a row adds to the image that is read.
void append_tilings(Unit unit, std::int64_t rows, std::int64_t columns, std::int64_t depth, Windows windows,
                    std::int64_t row_bytes, double flops, double bytes, std::vector<Candidate>& out) {
  // How many times as fast as multiply-adds of float32, at best.
  constexpr double kVectors = 1.8, kTiles = 8, kSplitTiles = 1.6;
  const double gain = unit == Unit::vectors ? kVectors : unit == Unit::tiles ? kTiles : kSplitTiles;
  const double estimated_us = estimate_us(flops / gain, bytes, 0.85);
  double rank = 1;
  if (has_tiles(unit)) {
    // The unit has phases in which it is half as fast, or worse (docs/tactics.md); what float32 does with vectors does
    // not change then.
    constexpr double kCaution = 1.1;
    // Parts stand beside all that float32 has, which the list must not crowd out.
    const std::size_t most = unit == Unit::split_tiles ? 3 : 9;
    const auto append = [&](double first_rank, double step, std::int64_t bytes_of_row, std::optional<Windows> way,
                            std::size_t count) {
      rank = first_rank;
      const bool has_lines = way.value_or(Windows::copied) != Windows::copied;
      for (const TileBlocks& blocks : promising_tile_blocks(rows, depth * 2, bytes_of_row, parts_of(unit), has_lines)) {
        if (count-- == 0) break;
        out.push_back({.parameters = {blocks.rows, blocks.depth_bytes}, .estimated_us = rank * estimated_us});
        if (way) out.back().parameters.push_back(static_cast<std::int64_t>(*way));
        if (unit == Unit::split_tiles) out.back().caution = kCaution;
        rank += step;
      }
    };
    if (windows == Windows::copied) {
      append(1, kRankStep, parts_of(unit) * depth * 2, std::nullopt, most);
    } else {
      // In turns, so that a short list has both.
      append(1, 2 * kRankStep, row_bytes, windows, most);
      append(1 + kRankStep, 2 * kRankStep, parts_of(unit) * depth * 2, Windows::copied,
             unit == Unit::split_tiles ? 1 : most);
    }
    return;
  }
  for (const GemmTiling& tiling : promising_tilings(std::max<std::int64_t>(rows, 4), columns, depth,
                                                    {{kWholeDepth, 96}, {kWholeDepth, 48}, {kWholeDepth, 192}})) {
    out.push_back(
        {.parameters = {tiling.tile_rows, tiling.tile_vectors, tiling.row_block}, .estimated_us = rank * estimated_us});
    rank += kRankStep;
  }
}

void require_instructions(Unit unit, const KernelSpec& spec) {
  require(has_bf16_dot(), Code::incompatible_engine,
          "tactic '{}' needs the instructions for bfloat16 (AVX512_BF16), which this processor has not", spec.tactic);
  require(!has_tiles(unit) || has_bf16_tiles(), Code::incompatible_engine,
          "tactic '{}' needs tiles of bfloat16 (AMX_BF16), which this processor has not, or which the operating system "
          "does not grant; build the engine anew here",
          spec.tactic);
}

void run_product(Unit unit, const Bf16Args& args, const Launch& launch) {
  const Workers workers = workers_of(launch);
  if (has_tiles(unit)) {
    TENFOLD_FOR_TIER(kBf16TileKernels).run(args, workers);
  } else {
    TENFOLD_FOR_TIER(kBf16Kernels).run(args, workers);
  }
}

/// With what both kinds of products say alike.
Bf16Args arguments(Unit unit, const TensorView& a, const TensorView& c, const std::uint16_t* panels,
                   const Launch& launch) {
  Bf16Args args{.product = {},
                .panels = panels,
                .rounded = reinterpret_cast<std::uint16_t*>(launch.workspace.data()),
                .a_is_bf16 = a.dtype == DType::bfloat16,
                .c_is_bf16 = c.dtype == DType::bfloat16,
                .is_split = unit == Unit::split_tiles};
  args.product.a = a.as<const float>();
  args.product.a_stride = a.pitch;
  args.product.c = c.as<float>();
  args.product.c_stride = c.pitch;
  return args;
}

// --- Convolutions

std::optional<std::string> refuses(Unit unit, const Conv& conv, std::span<const TensorType> inputs,
                                   std::span<const TensorType> outputs) {
  if (auto refusal = refuses_conv_shapes(conv, inputs, outputs)) return refusal;
  if (inputs.size() > 2 && inputs[2].dtype != DType::undefined && !is_float32(inputs[2]))
    return "the bias is no float32";
  if (auto refusal = refuses_types(unit, conv.epilogue(), inputs, outputs[0], Conv::kFirstEpilogueInput))
    return refusal;
  const ConvSizes sizes = conv_sizes(conv, inputs[1]);
  if (sizes.group != 1) return "the convolution has groups";
  const std::int64_t most = max_depth(unit);
  if (sizes.in_channels > most || sizes.taps() > most || sizes.taps() * sizes.in_channels > most)
    return fmt::format("a window has more than {} numbers", most);
  return std::nullopt;
}

std::int64_t kernel_lines(const ConvSizes& sizes) { return sizes.kernel[0] * sizes.kernel[1]; }
/// Depth of the panels.
std::int64_t packed_depth(const ConvSizes& sizes, Windows windows) {
  if (windows == Windows::by_lines) return kernel_lines(sizes) * window_line_depth(sizes.kernel[2], sizes.in_channels);
  return sizes.taps() * sizes.in_channels;
}
/// They may be copied together all the same, so a row must not become too long.
bool can_be_read_by_lines(Unit unit, const Conv& conv, const ConvSizes& sizes) {
  return conv.window().dilations.back() == 1 && packed_depth(sizes, Windows::by_lines) <= max_depth(unit);
}

class Bf16ConvKernel final : public Kernel {
 public:
  Bf16ConvKernel(Unit unit, const KernelSpec& spec)
      : unit_(unit),
        op_(spec.op),
        sizes_(conv_sizes(conv_of(spec.op), spec.inputs[1])),
        windows_(windows_from(unit, spec.parameters)),
        tiling_(tiling_of(unit, std::span(spec.parameters).first(blocks_in(unit, spec.parameters)))),
        finish_(conv_of(spec.op).epilogue(), Conv::kFirstEpilogueInput),
        panels_(packed(unit, spec, packed_depth(sizes_, windows_), sizes_.out_channels)) {
    require(windows_ != Windows::by_lines || can_be_read_by_lines(unit, conv_of(op_), sizes_),
            Code::incompatible_engine, "windows of dilated kernels, or of more than {} numbers, are not read by lines",
            max_depth(unit));
  }

  std::size_t workspace_bytes(std::span<const TensorView> inputs, std::span<const TensorView> outputs) const override {
    if (unit_ == Unit::vectors) return 0;
    if (inputs[0].dtype == DType::bfloat16 || is_plain_product(conv_of(op_), sizes_)) return 0;
    const std::int64_t channels = sizes_.in_channels, parts = parts_of(unit_);
    const ConvRows rows = conv_rows(conv_of(op_), sizes_, inputs[0], outputs[0]);
    const WindowLines lines =
        window_lines(rows, windows_, channels, inputs[0].pitch, false, parts, CpuStream::kScratchBytes);
    if (lines.pixels > 0) return 0;
    return static_cast<std::size_t>(parts * rounded_image_bytes(leading(inputs[0].dims), channels));
  }
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    ConvRows rows;
    Bf16Args args = arguments(unit_, x, y, panels_, launch);
    if (!is_plain_product(conv_of(op_), sizes_)) {
      rows = conv_rows(conv_of(op_), sizes_, x, y);
      args.product.conv = &rows;
      args.windows = windows_;
    }
    args.product.rows = leading(y.dims);
    args.product.columns = sizes_.out_channels;
    args.product.depth = sizes_.taps() * sizes_.in_channels;
    args.product.tiling = tiling_;
    args.product.finish.bias = conv_bias(launch);
    finish_.resolve(launch, y.dims, args.product.finish);
    run_product(unit_, args, launch);
  }
  bool accepts_pitched_input(int index) const override { return index == 0 || finish_.reads(index); }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  static std::size_t blocks_in(Unit unit, std::span<const std::int64_t> parameters) {
    return has_tiles(unit) && parameters.size() == 3 ? 2 : parameters.size();
  }

  Unit unit_;
  OpPtr op_;
  ConvSizes sizes_;
  Windows windows_;
  GemmTiling tiling_;
  FinishPlan finish_;
  const std::uint16_t* panels_;
};

template <Unit kUnit>
void conv_candidates(const Problem& problem, std::vector<Candidate>& out) {
  const Conv& conv = conv_of(problem.op);
  std::optional<std::string> refusal = refuses(kUnit, problem);
  if (!refusal) refusal = refuses(kUnit, conv, problem.inputs, problem.outputs);
  if (!refusal) refusal = refuses_weights(kUnit, problem.constants[1]);
  if (refusal) {
    out.push_back({.refusal = *refusal});
    return;
  }
  const ConvSizes sizes = conv_sizes(conv, problem.inputs[1]);
  const std::int64_t channels = sizes.in_channels;
  Windows windows = Windows::copied;
  if (!is_plain_product(conv, sizes)) {
    if (channels * 2 % kTileBytes == 0) {
      windows = Windows::by_pixels;
    } else if (sizes.kernel[2] > 1 && can_be_read_by_lines(kUnit, conv, sizes)) {
      windows = Windows::by_lines;
    }
  }
  append_tilings(kUnit, leading(problem.output_shapes[0]), sizes.out_channels, sizes.taps() * channels, windows,
                 parts_of(kUnit) * channels * 2, conv_work(problem, sizes).flops, bytes_touched(kUnit, problem), out);
}

template <Unit kUnit>
PackedWeights conv_pack(const Problem& problem, const Candidate& candidate) {
  const ConvSizes sizes = conv_sizes(conv_of(problem.op), problem.inputs[1]);
  const Tensor& w = *problem.constants[1];
  const std::int64_t taps = sizes.taps(), channels = sizes.in_channels;
  PackedWeights packed;
  const Windows windows = windows_from(kUnit, candidate.parameters);
  const bool by_lines = windows == Windows::by_lines;
  const std::int64_t depth = packed_depth(sizes, windows), packed_line = depth / kernel_lines(sizes);
  const std::int64_t line = sizes.kernel[2] * channels;
  packed.blobs.push_back(pack(kUnit, candidate, depth, sizes.out_channels, [&](std::int64_t k, std::int64_t n) {
    if (by_lines) {
      if (k % packed_line >= line) return 0.0F;
      k = k / packed_line * line + k % packed_line;
    }
    return number_at(w, (n * channels + k % channels) * taps + k / channels);
  }));
  packed.consumed_inputs = {1};
  return packed;
}

template <Unit kUnit>
std::unique_ptr<Kernel> conv_make(const KernelSpec& spec) {
  require_instructions(kUnit, spec);
  const auto refusal = refuses(kUnit, conv_of(spec.op), spec.inputs, spec.outputs);
  require(!refusal, Code::incompatible_engine, "tactic '{}' cannot run this Conv: {}", spec.tactic,
          refusal.value_or(""));
  return std::make_unique<Bf16ConvKernel>(kUnit, spec);
}

// --- Matrix products

const MatMul& matmul_of(const OpPtr& op) {
  const auto* matmul = op_cast<MatMul>(op);
  ensure(matmul != nullptr, "a MatMul tactic was given operator {}", op->type());
  return *matmul;
}

struct Matrix {
  std::int64_t depth, columns;
};
Matrix matrix_of(const MatMul& matmul, const TensorType& b) {
  const Shape shape = b.static_shape();
  return matmul.trans_b() ? Matrix{shape[1], shape[0]} : Matrix{shape[0], shape[1]};
}

std::optional<std::string> refuses(Unit unit, const MatMul& matmul, std::span<const TensorType> inputs,
                                   std::span<const TensorType> outputs) {
  if (inputs.size() < 2 || outputs.empty()) return "operands are missing";
  if (inputs[0].rank() < 2 || inputs[1].rank() != 2) return "b is no matrix, or a has no rows";
  if (matmul.trans_a()) return "a is transposed";
  if (!fits_in_panels(inputs[1])) return fmt::format("b of {} is computed, empty or too large", to_string(inputs[1]));
  if (matrix_of(matmul, inputs[1]).depth > max_depth(unit))
    return fmt::format("a row has more than {} numbers", max_depth(unit));
  return refuses_types(unit, matmul.epilogue(), inputs, outputs[0], MatMul::kFirstEpilogueInput);
}

class Bf16MatMulKernel final : public Kernel {
 public:
  Bf16MatMulKernel(Unit unit, const KernelSpec& spec)
      : unit_(unit),
        sizes_(matrix_of(matmul_of(spec.op), spec.inputs[1])),
        tiling_(tiling_of(unit, spec.parameters)),
        finish_(matmul_of(spec.op).epilogue(), MatMul::kFirstEpilogueInput),
        panels_(packed(unit, spec, sizes_.depth, sizes_.columns)) {}

  void run(const Launch& launch) const override {
    const TensorView& a = launch.inputs[0];
    const TensorView& c = launch.outputs[0];
    Bf16Args args = arguments(unit_, a, c, panels_, launch);
    args.product.rows = leading(a.dims);
    args.product.columns = sizes_.columns;
    args.product.depth = sizes_.depth;
    args.product.tiling = tiling_;
    finish_.resolve(launch, c.dims, args.product.finish);
    run_product(unit_, args, launch);
  }
  bool accepts_pitched_input(int index) const override { return index == 0 || finish_.reads(index); }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  Unit unit_;
  Matrix sizes_;
  GemmTiling tiling_;
  FinishPlan finish_;
  const std::uint16_t* panels_;
};

template <Unit kUnit>
void matmul_candidates(const Problem& problem, std::vector<Candidate>& out) {
  const MatMul& matmul = matmul_of(problem.op);
  std::optional<std::string> refusal = refuses(kUnit, problem);
  if (!refusal) refusal = refuses(kUnit, matmul, problem.inputs, problem.outputs);
  if (!refusal) refusal = refuses_weights(kUnit, problem.constants[1]);
  if (refusal) {
    out.push_back({.refusal = *refusal});
    return;
  }
  const Matrix sizes = matrix_of(matmul, problem.inputs[1]);
  const std::int64_t rows = leading(problem.input_shapes[0]);
  const double r = static_cast<double>(rows), n = static_cast<double>(sizes.columns);
  const double k = static_cast<double>(sizes.depth);
  append_tilings(kUnit, rows, sizes.columns, sizes.depth, Windows::copied, 0, 2 * r * n * k,
                 bytes_touched(kUnit, problem), out);
}

template <Unit kUnit>
PackedWeights matmul_pack(const Problem& problem, const Candidate& candidate) {
  const MatMul& matmul = matmul_of(problem.op);
  const Matrix sizes = matrix_of(matmul, problem.inputs[1]);
  const Tensor& b = *problem.constants[1];
  const std::int64_t k_stride = matmul.trans_b() ? 1 : sizes.columns;
  const std::int64_t n_stride = matmul.trans_b() ? sizes.depth : 1;
  PackedWeights packed;
  packed.blobs.push_back(pack(kUnit, candidate, sizes.depth, sizes.columns, [&](std::int64_t k, std::int64_t n) {
    return number_at(b, k * k_stride + n * n_stride);
  }));
  packed.consumed_inputs = {1};
  return packed;
}

template <Unit kUnit>
std::unique_ptr<Kernel> matmul_make(const KernelSpec& spec) {
  require_instructions(kUnit, spec);
  const auto refusal = refuses(kUnit, matmul_of(spec.op), spec.inputs, spec.outputs);
  require(!refusal, Code::incompatible_engine, "tactic '{}' cannot run this MatMul: {}", spec.tactic,
          refusal.value_or(""));
  return std::make_unique<Bf16MatMulKernel>(kUnit, spec);
}

}  // namespace

const CpuTactic kConvBf16{"conv.bf16", "Conv", conv_candidates<Unit::vectors>, conv_pack<Unit::vectors>,
                          conv_make<Unit::vectors>};
const CpuTactic kConvAmxBf16{"conv.amx_bf16", "Conv", conv_candidates<Unit::tiles>, conv_pack<Unit::tiles>,
                             conv_make<Unit::tiles>};
const CpuTactic kConvAmxSplit{"conv.amx_split", "Conv", conv_candidates<Unit::split_tiles>,
                              conv_pack<Unit::split_tiles>, conv_make<Unit::split_tiles>};
const CpuTactic kMatMulBf16{"gemm.bf16", "MatMul", matmul_candidates<Unit::vectors>, matmul_pack<Unit::vectors>,
                            matmul_make<Unit::vectors>};
const CpuTactic kMatMulAmxBf16{"gemm.amx_bf16", "MatMul", matmul_candidates<Unit::tiles>, matmul_pack<Unit::tiles>,
                               matmul_make<Unit::tiles>};
const CpuTactic kMatMulAmxSplit{"gemm.amx_split", "MatMul", matmul_candidates<Unit::split_tiles>,
                                matmul_pack<Unit::split_tiles>, matmul_make<Unit::split_tiles>};

}  // namespace tenfold::cpu
