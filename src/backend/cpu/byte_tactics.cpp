// Conv and MatMul of 8-bit integers, exact.
//   conv.bytes, gemm.bytes:          windows or rows times packed weights
//   conv.amx_bytes, gemm.amx_bytes:  the same by tiles (AMX_INT8)
//   conv.bytes_depthwise:            one channel a group
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "backend/cpu/byte_finish_plan.hpp"
#include "backend/cpu/byte_order.hpp"
#include "backend/cpu/byte_support.hpp"
#include "backend/cpu/conv_support.hpp"
#include "backend/cpu/gemm_support.hpp"
#include "backend/cpu/kernels/depthwise.hpp"
#include "backend/cpu/tile_panels.hpp"
#include "ops/matmul.hpp"

namespace tenfold::cpu {
namespace {

/// Sums of so many products of bytes stay in 32 bits.
constexpr std::int64_t kMaxDepth = 1 << 16;

/// Segments of ordered panels are multiples of what is copied of a row at once.
constexpr std::int64_t kSegmentStep = 32;

/// What multiplies.
enum class Unit { vectors, tiles };

/// The zero point as a byte of the operand, and as the number that products see: vectors multiply unsigned bytes.
std::uint8_t zero_byte(std::int64_t zero_point) { return static_cast<std::uint8_t>(zero_point); }
std::int32_t unsigned_zero(std::int64_t zero_point, DType dtype) {
  return static_cast<std::int32_t>(zero_point) + (dtype == DType::int8 ? 128 : 0);
}
std::int32_t zero_in(Unit unit, std::int64_t zero_point, DType dtype) {
  return unit == Unit::tiles ? static_cast<std::int32_t>(zero_point) : unsigned_zero(zero_point, dtype);
}

/// The zero point of a convolution's input: an attribute, or computed, and then input 2.
class ConvZeroPoint {
 public:
  ConvZeroPoint(const Conv& conv, std::span<const TensorType> inputs)
      : dtype_(inputs[0].dtype), is_computed_(is_computed(inputs)), attribute_(conv.zero_point()) {}
  static bool is_computed(std::span<const TensorType> inputs) {
    return inputs.size() > 2 && inputs[2].dtype != DType::undefined;
  }
  /// What sums begin with is packed for this one.
  std::int32_t packed_in(Unit unit) const { return is_computed_ ? 1 : zero_in(unit, attribute_, dtype_); }
  std::int64_t value(const Launch& launch) const {
    return is_computed_ ? byte_at(launch.inputs[2].data, dtype_, 0) : attribute_;
  }
  std::size_t workspace_bytes(std::int64_t starts) const {
    return is_computed_ ? static_cast<std::size_t>(starts) * sizeof(std::int32_t) : 0;
  }
  /// What the launch's sums begin with.
  const std::int32_t* starts(Unit unit, const Launch& launch, const std::int32_t* packed, std::int64_t count) const {
    if (!is_computed_) return packed;
    return scaled_starts(zero_in(unit, value(launch), dtype_), packed, count, launch.workspace);
  }

 private:
  DType dtype_;
  bool is_computed_;
  std::int64_t attribute_;
};

/// The numbers beside the weights: where sums start, then scales and offsets if the epilogue has a form.
struct ColumnNumbers {
  const std::int32_t* start;
  const float* scale = nullptr;
  const float* offset = nullptr;
  std::int64_t columns = 0;
  bool fit(const ByteFinishPlan& finish, std::int64_t depth) const {
    if (scale == nullptr) return false;
    const auto count = static_cast<std::size_t>(columns);
    return finish.fits({scale, count}, {offset, count}, depth);
  }
};
ColumnNumbers column_numbers(const KernelSpec& spec, std::int64_t starts, std::int64_t columns, bool has_form) {
  const std::byte* data = packed_bytes(spec, 1, 4 * (starts + (has_form ? 2 * columns : 0)));
  ColumnNumbers numbers{reinterpret_cast<const std::int32_t*>(data)};
  if (has_form) {
    numbers.scale = reinterpret_cast<const float*>(data) + starts;
    numbers.offset = numbers.scale + columns;
    numbers.columns = columns;
  }
  return numbers;
}

/// `place(n)`: where column n lies.
template <typename Place>
void append_form(std::vector<std::byte>& bytes, const ByteForm& form, std::int64_t columns, std::int64_t places,
                 const Place& place) {
  for (const std::vector<double>* numbers : {&form.scale, &form.offset}) {
    std::vector<float> values(static_cast<std::size_t>(places));
    for (std::int64_t n = 0; n < columns; ++n) {
      values[static_cast<std::size_t>(place(n))] =
          static_cast<float>((*numbers)[numbers->size() == 1 ? 0 : static_cast<std::size_t>(n)]);
    }
    append(bytes, values);
  }
}

/// Where sums begin: what the columns of B[k][n], given as value(k, n), sum to, times -zero; 0 in the padding.
template <typename Value>
void append_starts(std::int64_t depth, std::int64_t columns, std::int32_t zero, const Value& value,
                   std::vector<std::int32_t>& start) {
  for (std::int64_t n = 0; n < padded_columns(columns); ++n) {
    std::int32_t sum = 0;
    for (std::int64_t k = 0; k < depth && n < columns; ++k) sum += value(k, n);
    start.push_back(-zero * sum);
  }
}

/// Throws Error(incompatible_engine) unless the blob at 2 holds an order for every panel of the groups, by segments,
/// and the one at 0 the panels of these orders. Sets where each is.
const std::uint16_t* panel_orders(const KernelSpec& spec, std::int64_t groups, std::int64_t depth, std::int64_t columns,
                                  std::int64_t segment, std::vector<std::int64_t>& offsets) {
  const std::int64_t width = vector_floats(tier()), panels = padded_columns(columns) / width;
  const std::int64_t segments = (depth + segment - 1) / segment;
  const std::int64_t numbers = groups * panels * (segments * kOrderHead + (depth + 3) / 4);
  const auto* orders = reinterpret_cast<const std::uint16_t*>(packed_bytes(spec, 2, numbers * 2));
  const std::uint16_t* order = orders;
  std::int64_t offset = 0;
  for (std::int64_t i = 0; i < groups * segments * panels; ++i) {
    const std::int64_t begin = i / panels % segments * segment, part = std::min(segment, depth - begin);
    const std::int64_t quads = (part + 3) / 4;
    const std::int64_t narrow = order[0] + order[1] + order[2];
    const auto* const wide = order + kOrderHead + std::min(quads, narrow);
    const auto* const end = order + panel_order_size(quads);
    const auto lies_below = [](std::int64_t limit) { return [limit](std::uint16_t quad) { return quad < limit; }; };
    require(order[0] % 4 == 0 && order[1] % 2 == 0 && narrow <= quads && order[3] < 1U << kNumQuadVersions &&
                std::all_of(order + kOrderHead, wide, lies_below(kNumQuadVersions * version_quads(part))) &&
                std::all_of(wide, end, lies_below(quads)),
            Code::incompatible_engine, "tactic '{}': the order of panel {} is not one of {} quads", spec.tactic, i,
            quads);
    offsets.push_back(offset);
    offset += ordered_panel_vectors(order, quads) * width * 4;
    order = end;
  }
  packed_bytes(spec, 0, offset);
  return orders;
}

// Parameters: of vectors [tile_rows, tile_vectors, row_block, depth of a segment of ordered panels or 0, has_form], of
// tiles see tile_blocks_from, then has_form.
std::int64_t ordered_segment(std::span<const std::int64_t> parameters) {
  return parameters.size() == 5 ? parameters[3] : 0;
}
ByteTiling byte_tiling_from(Unit unit, std::span<const std::int64_t> p) {
  const std::size_t sizes = unit == Unit::tiles ? 2 : 4, count = sizes + 1;
  require(p.size() == count, Code::incompatible_engine, "a tiling of bytes has {} numbers, got {}", count, p.size());
  require(p.back() == 0 || p.back() == 1, Code::incompatible_engine, "the epilogue's form is 0 or 1, got {}", p.back());
  if (unit == Unit::tiles) {
    const TileBlocks blocks = tile_blocks_from(p.first(sizes));
    return {static_cast<int>(kTileRows), static_cast<int>(kPanelTiles), blocks.rows, blocks.depth_bytes};
  }
  constexpr std::int64_t kMaxBlock = std::int64_t{1} << 40;
  require(p[3] == 0 || (0 < p[3] && p[3] <= kMaxOrderedDepth && p[3] % kSegmentStep == 0), Code::incompatible_engine,
          "a segment of ordered panels is 0 or a multiple of {} up to {}, got {}", kSegmentStep, kMaxOrderedDepth,
          p[3]);
  const int vectors = 0 < p[1] && p[1] <= 64 ? static_cast<int>(p[1]) : 0;
  const std::int64_t tallest = p[3] == 0      ? TENFOLD_FOR_TIER(kByteKernels).max_tile_rows(vectors)
                               : vectors == 1 ? kMaxOrderedRows
                                              : 0;
  require(vectors > 0 && 0 < p[0] && p[0] <= tallest, Code::incompatible_engine,
          "there is no register tile of bytes of {} x {} vectors for {}", p[0], p[1], target_string(tier()));
  require(0 < p[2] && p[2] <= kMaxBlock, Code::incompatible_engine, "a block of {} rows is outside the sensible range",
          p[2]);
  return {static_cast<int>(p[0]), vectors, p[2], p[3]};
}

/// `can_order`: what sums begin with is known when panels are packed, so these may be ordered.
void append_tilings(Unit unit, std::int64_t rows, std::int64_t columns, std::int64_t depth, bool can_order,
                    bool has_form, double estimated_us, std::vector<Candidate>& out) {
  double rank = 1;
  if (unit == Unit::tiles) {
    for (const TileBlocks& blocks : promising_tile_blocks(rows, depth, depth)) {
      out.push_back(
          {.parameters = {blocks.rows, blocks.depth_bytes, has_form ? 1 : 0}, .estimated_us = rank * estimated_us});
      rank += kRankStep;
    }
    return;
  }
  const auto append = [&](std::int64_t tile_rows, std::int64_t tile_vectors, std::int64_t block, std::int64_t segment) {
    out.push_back({.parameters = {tile_rows, tile_vectors, block, segment, has_form ? 1 : 0},
                   .estimated_us = rank * estimated_us});
    rank += kRankStep;
  };
  // Panels are ordered for processors without the instruction for quads. Ordered ones run everywhere too, others as
  // well, but not as fast.
  if (!has_byte_dot() && can_order) {
    for (const std::int64_t wanted : {512, 256, 1024}) {
      // Equal segments.
      const std::int64_t segments = (depth + wanted - 1) / wanted, step = segments * kSegmentStep;
      const std::int64_t segment = (depth + step - 1) / step * kSegmentStep;
      append(kMaxOrderedRows, 1, 96, segment);
      if (depth <= 256) break;
    }
    return;
  }
  struct RegisterTile {
    int rows, vectors;
  };
  const bool wide = tier() == Tier::avx512;
  const std::int64_t vectors = padded_columns(columns) / vector_floats(tier());
  std::vector<RegisterTile> tiles;
  if (vectors == 1) {
    tiles = {{wide ? 14 : 6, 1}};
  } else if (vectors == 2 || !wide) {
    tiles = {{wide ? 12 : 4, 2}};
  } else {
    tiles = {{8, 3}, {12, 2}};
    if (vectors % 4 == 0) tiles.push_back({6, 4});
  }
  // Rows that stay in the second-level cache beside the panels.
  constexpr std::int64_t kBlockBytes = 256 << 10;
  const std::int64_t most = std::max<std::int64_t>(24, kBlockBytes / depth);
  for (const std::int64_t block : {std::int64_t{96}, std::int64_t{384}, std::int64_t{24}}) {
    if (block > 96 && (rows <= 96 || most < block)) continue;
    if (block < 96 && depth < 1024) continue;
    for (const RegisterTile& tile : tiles) append(tile.rows, tile.vectors, std::min(block, most), 0);
  }
}

/// How many times as fast as multiply-adds of floats.
double speed_of_bytes(Unit unit = Unit::vectors) { return unit == Unit::tiles ? 16 : has_byte_dot() ? 4 : 1.4; }

/// Why the unit cannot be used at all; for what an engine file says, an error.
std::optional<std::string> refuses(Unit unit) {
  if (unit == Unit::tiles && !has_byte_tiles()) return "this processor has no tiles of bytes (AMX_INT8)";
  return std::nullopt;
}
void require_instructions(Unit unit, const KernelSpec& spec) {
  require(unit == Unit::vectors || has_byte_tiles(), Code::incompatible_engine,
          "tactic '{}' needs tiles of bytes (AMX_INT8), which this processor has not, or which the operating system "
          "does not grant; build the engine anew here",
          spec.tactic);
}

/// What a kernel has packed of the weights, see the packing functions.
struct PackedProduct {
  const std::int8_t* panels = nullptr;
  const std::uint16_t* orders = nullptr;  ///< nullptr: as they are
  std::vector<std::int64_t> offsets;      ///< of ordered panels
  void set(ByteProductArgs& args) const {
    args.panels = panels;
    args.orders = orders;
    args.panel_offsets = offsets.data();
  }
};
PackedProduct packed_product(Unit unit, const KernelSpec& spec, std::int64_t groups, std::int64_t depth,
                             std::int64_t columns) {
  PackedProduct product;
  if (const std::int64_t segment = ordered_segment(spec.parameters); segment != 0) {
    product.orders = panel_orders(spec, groups, depth, columns, segment, product.offsets);
  } else {
    packed_bytes(spec, 0,
                 unit == Unit::tiles ? tile_panel_bytes(depth, columns)
                                     : groups * padded_columns(columns) * ((depth + 3) / 4) * 4);
  }
  product.panels = reinterpret_cast<const std::int8_t*>(spec.weights[0].data());
  return product;
}
void run_product(Unit unit, const ByteProductArgs& args, const Launch& launch) {
  if (unit == Unit::tiles) {
    TENFOLD_FOR_TIER(kByteTileKernels).run(args, workers_of(launch));
  } else {
    TENFOLD_FOR_TIER(kByteKernels).run(args, workers_of(launch));
  }
}

/// Inputs that the packed numbers stand for.
std::vector<int> consumed(const std::optional<ByteForm>& form, int first_input) {
  std::vector<int> inputs{1};
  if (form) {
    for (const int input : form->constants) inputs.push_back(first_input + input - 1);
  }
  return inputs;
}

std::optional<ByteForm> form_in(const KernelSpec& spec, const Epilogue& epilogue, int first_input) {
  if (spec.parameters.back() == 0) {
    require(!epilogue.program.empty(), Code::incompatible_engine, "tactic '{}' has no program to run", spec.tactic);
    return std::nullopt;
  }
  auto form = ByteFinishPlan::form_of(epilogue, first_input, spec.inputs, spec.outputs[0], {});
  require(form.has_value(), Code::incompatible_engine, "tactic '{}' cannot run this epilogue in registers",
          spec.tactic);
  return form;
}

// --- Convolutions

std::optional<std::string> refuses_byte_conv(const Conv& conv, std::span<const TensorType> inputs,
                                             std::span<const TensorType> outputs) {
  if (auto refusal = refuses_conv_shapes(conv, inputs, outputs)) return refusal;
  if (!is_byte(inputs[0].dtype) || inputs[1].dtype != DType::int8) return "only 8-bit integers are supported";
  if (ConvZeroPoint::is_computed(inputs) && (inputs[2].dtype != inputs[0].dtype || inputs[2].num_elements() != Dim(1)))
    return "the bias is not in the epilogue";
  const ConvSizes sizes = conv_sizes(conv, inputs[1]);
  if (sizes.in_channels > kMaxDepth || sizes.taps() > kMaxDepth || sizes.taps() * sizes.in_channels > kMaxDepth)
    return fmt::format("more than {} products might not fit in 32 bits", kMaxDepth);
  return ByteFinishPlan::refuses(conv.epilogue(), inputs, Conv::kFirstEpilogueInput);
}

bool is_depthwise(const ConvSizes& sizes) { return sizes.in_channels == 1 && sizes.out_channels == 1; }

std::optional<std::string> refuses_product(Unit unit, const Conv& conv, std::span<const TensorType> inputs,
                                           std::span<const TensorType> outputs) {
  if (auto refusal = refuses_byte_conv(conv, inputs, outputs)) return refusal;
  const ConvSizes sizes = conv_sizes(conv, inputs[1]);
  if (sizes.group > 1 && is_depthwise(sizes)) return "one channel a group fills no vector";
  if (sizes.group > 1 && unit == Unit::tiles) return "the convolution has groups";
  return std::nullopt;
}

class ByteConvKernel final : public Kernel {
 public:
  ByteConvKernel(Unit unit, const KernelSpec& spec)
      : unit_(unit),
        op_(spec.op),
        sizes_(conv_sizes(conv_of(spec.op), spec.inputs[1])),
        dtype_(spec.inputs[0].dtype),
        tiling_(byte_tiling_from(unit, spec.parameters)),
        zero_point_(conv_of(spec.op), spec.inputs),
        num_starts_(sizes_.group * padded_columns(sizes_.out_channels)),
        scaling_(scaling_of(spec)),
        finish_(scaling_.rest(), Conv::kFirstEpilogueInput, spec.inputs,
                form_in(spec, conv_of(spec.op).epilogue(), Conv::kFirstEpilogueInput)) {
    product_ = packed_product(unit, spec, sizes_.group, sizes_.taps() * sizes_.in_channels, sizes_.out_channels);
    require(product_.orders == nullptr || !ConvZeroPoint::is_computed(spec.inputs), Code::incompatible_engine,
            "tactic '{}': ordered panels need a zero point that is known", spec.tactic);
    numbers_ = column_numbers(spec, num_starts_, sizes_.group * sizes_.out_channels, spec.parameters.back() == 1);
    fits_ = numbers_.fit(finish_, sizes_.taps() * sizes_.in_channels);
  }
  std::size_t workspace_bytes(std::span<const TensorView>, std::span<const TensorView>) const override {
    return starts_bytes() + scaling_.workspace_bytes(num_starts_);
  }

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    const Conv& conv = conv_of(op_);
    ConvRows rows;
    ByteProductArgs args;
    if (!is_plain_product(conv, sizes_)) {
      rows = conv_rows(conv, sizes_, x, y);
      args.conv = &rows;
    }
    args.rows = leading(y.dims);
    args.columns = sizes_.out_channels;
    args.depth = sizes_.in_channels * sizes_.taps();
    args.groups = sizes_.group;
    args.a = static_cast<const std::uint8_t*>(x.data);
    args.a_stride = x.pitch;
    args.a_is_signed = dtype_ == DType::int8;
    args.zero = zero_byte(zero_point_.value(launch));
    product_.set(args);
    args.start = zero_point_.starts(unit_, launch, numbers_.start, num_starts_);
    args.c = y.data;
    args.c_stride = y.pitch;
    args.tiling = tiling_;
    args.has_byte_dot = has_byte_dot();
    args.finish.scale = numbers_.scale;
    args.finish.offset = numbers_.offset;
    args.finish.fits = fits_;
    scaling_.resolve(launch, sizes_.group * sizes_.out_channels, num_starts_, launch.workspace.subspan(starts_bytes()),
                     args.finish);
    finish_.resolve(launch, y.dims, args.finish);
    run_product(unit_, args, launch);
  }
  bool accepts_pitched_input(int index) const override {
    return index == 0 || finish_.reads(index) || scaling_.reads(index);
  }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  /// Numbers of a form are packed; a program's may be computed.
  static ComputedScaling scaling_of(const KernelSpec& spec) {
    const Epilogue& epilogue = conv_of(spec.op).epilogue();
    if (spec.parameters.back() != 0) return ComputedScaling(epilogue);
    return ComputedScaling(epilogue, Conv::kFirstEpilogueInput, spec.inputs, spec.outputs[0]);
  }
  std::size_t starts_bytes() const { return zero_point_.workspace_bytes(num_starts_); }

  Unit unit_;
  OpPtr op_;
  ConvSizes sizes_;
  DType dtype_;
  ByteTiling tiling_;
  ConvZeroPoint zero_point_;
  std::int64_t num_starts_;
  ComputedScaling scaling_;
  ByteFinishPlan finish_;  ///< behind it
  PackedProduct product_;
  ColumnNumbers numbers_{};
  bool fits_ = false;
};

template <Unit kUnit>
void conv_candidates(const Problem& problem, std::vector<Candidate>& out) {
  const Conv& conv = conv_of(problem.op);
  auto refusal = refuses(kUnit);
  if (!refusal) refusal = refuses_product(kUnit, conv, problem.inputs, problem.outputs);
  if (!refusal && problem.constants[1] == nullptr) refusal = "the weights are computed";
  if (refusal) {
    out.push_back({.refusal = *refusal});
    return;
  }
  const ConvSizes sizes = conv_sizes(conv, problem.inputs[1]);
  const ConvWork work = conv_work(problem, sizes);
  const auto form = ByteFinishPlan::form_of(conv.epilogue(), Conv::kFirstEpilogueInput, problem.inputs,
                                            problem.outputs[0], problem.constants);
  append_tilings(kUnit, leading(problem.output_shapes[0]), sizes.out_channels, sizes.in_channels * sizes.taps(),
                 !ConvZeroPoint::is_computed(problem.inputs), form.has_value(),
                 estimate_us(work.flops / speed_of_bytes(kUnit), work.bytes / 4, 0.8), out);
}

template <Unit kUnit>
PackedWeights conv_pack(const Problem& problem, const Candidate& candidate) {
  const Conv& conv = conv_of(problem.op);
  const ConvSizes sizes = conv_sizes(conv, problem.inputs[1]);
  const int tile_vectors = byte_tiling_from(kUnit, candidate.parameters).tile_vectors;
  const std::int32_t zero = ConvZeroPoint(conv, problem.inputs).packed_in(kUnit);
  const std::int8_t* weights = problem.constants[1]->as<std::int8_t>().data();
  const std::int64_t taps = sizes.taps(), channels = sizes.in_channels, filters = sizes.out_channels;
  PackedWeights packed;
  packed.blobs.resize(2);
  std::vector<std::int32_t> start;
  const std::int64_t segment = ordered_segment(candidate.parameters);
  OrderedPanels ordered;
  for (std::int64_t g = 0; g < sizes.group; ++g) {
    const std::int8_t* w = weights + g * filters * channels * taps;
    const auto value = [&](std::int64_t k, std::int64_t n) {
      return w[(n * channels + k % channels) * taps + k / channels];
    };
    append_starts(taps * channels, filters, zero, value, start);
    if (kUnit == Unit::tiles) {
      packed.blobs[0] = pack_tile_panels<std::int8_t>(taps * channels, filters, value);
      continue;
    }
    const std::vector<std::byte> panels = pack_byte_panels(taps * channels, filters, tile_vectors, value);
    if (segment != 0) {
      append_ordered_panels(panels, taps * channels, filters, segment,
                            std::span(start).last(static_cast<std::size_t>(padded_columns(filters))), ordered);
    } else {
      append(packed.blobs[0], panels);
    }
  }
  if (segment != 0) {
    packed.blobs[0] = std::move(ordered.panels);
    append(packed.blobs.emplace_back(), ordered.orders);
  }
  append(packed.blobs[1], start);
  std::optional<ByteForm> form;
  if (candidate.parameters.back() == 1) {
    form = ByteFinishPlan::form_of(conv.epilogue(), Conv::kFirstEpilogueInput, problem.inputs, problem.outputs[0],
                                   problem.constants);
    const std::int64_t columns = sizes.group * filters;
    append_form(packed.blobs[1], *form, columns, columns, [](std::int64_t n) { return n; });
  }
  packed.consumed_inputs = consumed(form, Conv::kFirstEpilogueInput);
  return packed;
}

template <Unit kUnit>
std::unique_ptr<Kernel> conv_make(const KernelSpec& spec) {
  require_instructions(kUnit, spec);
  const auto refusal = refuses_product(kUnit, conv_of(spec.op), spec.inputs, spec.outputs);
  require(!refusal, Code::incompatible_engine, "tactic '{}' cannot run this Conv: {}", spec.tactic,
          refusal.value_or(""));
  return std::make_unique<ByteConvKernel>(kUnit, spec);
}

// --- Depthwise convolutions

/// Residuals, and what is rounded twice, are left to programs.
std::optional<ByteForm> depthwise_form(const Conv& conv, std::span<const TensorType> inputs, const TensorType& output,
                                       std::span<const Tensor* const> constants) {
  auto form = ByteFinishPlan::form_of(conv.epilogue(), Conv::kFirstEpilogueInput, inputs, output, constants);
  if (form && (form->residual_input != 0 || form->rounds_first)) return std::nullopt;
  return form;
}

struct DepthwiseSizes {
  std::int64_t places;   ///< channels, padded to whole blocks
  std::int64_t weights;  ///< bytes
  DepthwiseTile tile;
};
DepthwiseSizes depthwise_sizes(const Conv& conv, const ConvSizes& sizes) {
  const std::vector<std::int64_t>& strides = conv.window().strides;
  const std::vector<std::int64_t>& dilations = conv.window().dilations;
  const bool has_lines = strides.size() > 1;
  DepthwiseSizes result{};
  result.tile = depthwise_tile(sizes.kernel[1], has_lines ? strides[strides.size() - 2] : 1,
                               has_lines ? dilations[dilations.size() - 2] : 1);
  const std::int64_t block = depthwise_block(vector_floats(tier()));
  result.places = (sizes.group + block - 1) / block * block;
  result.weights = result.places * sizes.kernel[2] * result.tile.quads * result.tile.lines * 4;
  return result;
}

std::optional<std::string> refuses_depthwise(const Conv& conv, std::span<const TensorType> inputs,
                                             std::span<const TensorType> outputs) {
  if (auto refusal = refuses_byte_conv(conv, inputs, outputs)) return refusal;
  const ConvSizes sizes = conv_sizes(conv, inputs[1]);
  if (!is_depthwise(sizes)) return "a group has more than one channel";
  if (conv.spatial_rank() > 2) return "three spatial axes";
  // What a piece of a line reads must fit in the scratch memory; the numbers are bounded so that nothing overflows.
  constexpr std::int64_t kMaxNumber = 1 << 16;
  const std::size_t last = conv.window().strides.size() - 1;
  ConvRows geometry;
  geometry.kernel[2] = sizes.kernel[2];
  geometry.stride[2] = std::min(conv.window().strides[last], kMaxNumber);
  geometry.dilation[2] = std::min(conv.window().dilations[last], kMaxNumber);
  const std::int64_t columns = depthwise_table_width(geometry, kDepthwiseLine);
  constexpr std::int64_t kBytes = CpuStream::kScratchBytes / 2;  // the other half holds sums of two lines and operands
  // Of a column as 16-bit numbers, which weights are as well: those of two lines, and where the columns are.
  const std::int64_t bytes = depthwise_sizes(conv, sizes).tile.quads * 8 * depthwise_block(vector_floats(tier()));
  if (columns + 3 * geometry.kernel[2] > kBytes / bytes) {
    return fmt::format("the window is too large: a piece of a line reads {} columns in {} rows", columns,
                       sizes.kernel[1]);
  }
  return std::nullopt;
}

class ByteDepthwiseKernel final : public Kernel {
 public:
  explicit ByteDepthwiseKernel(const KernelSpec& spec)
      : op_(spec.op),
        sizes_(conv_sizes(conv_of(spec.op), spec.inputs[1])),
        dtype_(spec.inputs[0].dtype),
        zero_point_(conv_of(spec.op), spec.inputs),
        finish_(conv_of(spec.op).epilogue(), Conv::kFirstEpilogueInput, spec.inputs, form_of(spec)) {
    const DepthwiseSizes packed = depthwise_sizes(conv_of(op_), sizes_);
    weights_ = reinterpret_cast<const std::int8_t*>(packed_bytes(spec, 0, packed.weights));
    num_starts_ = packed.places;
    numbers_ = column_numbers(spec, num_starts_, num_starts_, spec.parameters.back() == 1);
    fits_ = numbers_.fit(finish_, sizes_.taps());
  }
  std::size_t workspace_bytes(std::span<const TensorView>, std::span<const TensorView>) const override {
    return zero_point_.workspace_bytes(num_starts_);
  }

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    const Conv& conv = conv_of(op_);
    ByteDepthwiseArgs args;
    args.geometry = conv_rows(conv, sizes_, x, y);
    args.channels = sizes_.group;
    args.x = static_cast<const std::uint8_t*>(x.data);
    args.x_stride = x.pitch;
    args.x_is_signed = dtype_ == DType::int8;
    args.zero = zero_byte(zero_point_.value(launch));
    args.weights = weights_;
    args.start = zero_point_.starts(Unit::vectors, launch, numbers_.start, num_starts_);
    args.y = y.data;
    args.y_stride = y.pitch;
    args.has_byte_dot = has_byte_dot();
    args.finish.scale = numbers_.scale;
    args.finish.offset = numbers_.offset;
    args.finish.fits = fits_;
    finish_.resolve(launch, y.dims, args.finish);
    TENFOLD_FOR_TIER(kByteKernels).run_depthwise(args, workers_of(launch));
  }
  bool accepts_pitched_input(int index) const override { return index == 0 || finish_.reads(index); }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  static std::optional<ByteForm> form_of(const KernelSpec& spec) {
    const Epilogue& epilogue = conv_of(spec.op).epilogue();
    const auto form = form_in(spec, epilogue, Conv::kFirstEpilogueInput);
    require(!form || (form->residual_input == 0 && !form->rounds_first), Code::incompatible_engine,
            "tactic '{}' cannot run this epilogue in registers", spec.tactic);
    return form;
  }
  OpPtr op_;
  ConvSizes sizes_;
  DType dtype_;
  ConvZeroPoint zero_point_;
  std::int64_t num_starts_ = 0;
  ByteFinishPlan finish_;
  const std::int8_t* weights_ = nullptr;
  ColumnNumbers numbers_{};
  bool fits_ = false;
};

void depthwise_candidates(const Problem& problem, std::vector<Candidate>& out) {
  const Conv& conv = conv_of(problem.op);
  auto refusal = refuses_depthwise(conv, problem.inputs, problem.outputs);
  if (!refusal && problem.constants[1] == nullptr) refusal = "the weights are computed";
  if (refusal) {
    out.push_back({.refusal = *refusal});
    return;
  }
  const ConvWork work = conv_work(problem, conv_sizes(conv, problem.inputs[1]));
  const bool has_form = depthwise_form(conv, problem.inputs, problem.outputs[0], problem.constants).has_value();
  out.push_back({.parameters = {has_form ? 1 : 0},
                 .estimated_us = estimate_us(work.flops / speed_of_bytes(), work.bytes / 4, 0.4)});
}

PackedWeights depthwise_pack(const Problem& problem, const Candidate& candidate) {
  const Conv& conv = conv_of(problem.op);
  const ConvSizes sizes = conv_sizes(conv, problem.inputs[1]);
  const DepthwiseSizes packed_sizes = depthwise_sizes(conv, sizes);
  const std::int8_t* weights = problem.constants[1]->as<std::int8_t>().data();
  const std::int64_t lanes = vector_floats(tier()), block = depthwise_block(vector_floats(tier()));
  const std::int64_t rows = sizes.kernel[1], columns = sizes.kernel[2];
  PackedWeights packed;
  packed.blobs.resize(2);
  std::vector<std::byte>& out = packed.blobs[0];
  out.reserve(static_cast<std::size_t>(packed_sizes.weights));
  // The place of each channel among the blocks' lanes.
  std::vector<std::int64_t> places(static_cast<std::size_t>(sizes.group));
  for (std::int64_t b = 0; b < packed_sizes.places; b += block) {
    for (std::int64_t v = 0; v < 4; ++v) {
      for (std::int64_t l = 0; l < lanes; ++l) {
        const std::int64_t channel = b + depthwise_channel(v, l);
        if (channel < sizes.group) places[static_cast<std::size_t>(channel)] = b + v * lanes + l;
      }
    }
    for (std::int64_t x = 0; x < columns; ++x) {
      for (std::int64_t q = 0; q < packed_sizes.tile.quads; ++q) {
        for (std::int64_t line = 0; line < packed_sizes.tile.lines; ++line) {
          for (std::int64_t v = 0; v < 4; ++v) {
            for (std::int64_t l = 0; l < lanes; ++l) {
              const std::int64_t channel = b + depthwise_channel(v, l);
              for (std::int64_t y = 4 * q - line; y < 4 * q - line + 4; ++y) {
                const bool exists = channel < sizes.group && 0 <= y && y < rows;
                out.push_back(static_cast<std::byte>(exists ? weights[(channel * rows + y) * columns + x] : 0));
              }
            }
          }
        }
      }
    }
  }
  std::vector<std::int32_t> start(static_cast<std::size_t>(packed_sizes.places));
  const std::int32_t zero = ConvZeroPoint(conv, problem.inputs).packed_in(Unit::vectors);
  for (std::int64_t c = 0; c < sizes.group; ++c) {
    std::int32_t& at = start[static_cast<std::size_t>(places[static_cast<std::size_t>(c)])];
    for (std::int64_t i = 0; i < rows * columns; ++i) at -= zero * weights[c * rows * columns + i];
  }
  append(packed.blobs[1], start);
  std::optional<ByteForm> form;
  if (candidate.parameters.back() == 1) {
    form = depthwise_form(conv, problem.inputs, problem.outputs[0], problem.constants);
    append_form(packed.blobs[1], *form, sizes.group, packed_sizes.places,
                [&](std::int64_t n) { return places[static_cast<std::size_t>(n)]; });
  }
  packed.consumed_inputs = consumed(form, Conv::kFirstEpilogueInput);
  return packed;
}

std::unique_ptr<Kernel> depthwise_make(const KernelSpec& spec) {
  const auto refusal = refuses_depthwise(conv_of(spec.op), spec.inputs, spec.outputs);
  require(!refusal, Code::incompatible_engine, "tactic '{}' cannot run this Conv: {}", spec.tactic,
          refusal.value_or(""));
  require(spec.parameters.size() == 1 && (spec.parameters[0] == 0 || spec.parameters[0] == 1),
          Code::incompatible_engine, "tactic '{}' takes one parameter, 0 or 1", spec.tactic);
  return std::make_unique<ByteDepthwiseKernel>(spec);
}

// --- Matrix products

const MatMul& matmul_of(const OpPtr& op) {
  const auto* matmul = op_cast<MatMul>(op);
  ensure(matmul != nullptr, "a MatMul tactic was given operator {}", op->type());
  return *matmul;
}

struct ByteMatrix {
  std::int64_t depth, columns;
};
ByteMatrix matrix_of(const MatMul& matmul, const TensorType& b) {
  const Shape shape = b.static_shape();
  return matmul.trans_b() ? ByteMatrix{shape[1], shape[0]} : ByteMatrix{shape[0], shape[1]};
}

std::optional<std::string> refuses_matmul(const MatMul& matmul, std::span<const TensorType> inputs,
                                          std::span<const TensorType> outputs) {
  if (inputs.size() < 2 || outputs.empty()) return "operands are missing";
  if (!is_byte(inputs[0].dtype) || inputs[1].dtype != DType::int8) return "only 8-bit integers are supported";
  if (inputs[1].rank() != 2 || inputs[0].rank() < 2) return "b is no matrix, or a has no rows";
  if (matmul.trans_a()) return "a is transposed";
  if (!fits_in_panels(inputs[1])) return fmt::format("b of {} is computed, empty or too large", to_string(inputs[1]));
  if (matrix_of(matmul, inputs[1]).depth > kMaxDepth)
    return fmt::format("more than {} products might not fit in 32 bits", kMaxDepth);
  return ByteFinishPlan::refuses(matmul.epilogue(), inputs, MatMul::kFirstEpilogueInput);
}

class ByteMatMulKernel final : public Kernel {
 public:
  ByteMatMulKernel(Unit unit, const KernelSpec& spec)
      : unit_(unit),
        sizes_(matrix_of(matmul_of(spec.op), spec.inputs[1])),
        dtype_(spec.inputs[0].dtype),
        tiling_(byte_tiling_from(unit, spec.parameters)),
        finish_(matmul_of(spec.op).epilogue(), MatMul::kFirstEpilogueInput, spec.inputs,
                form_in(spec, matmul_of(spec.op).epilogue(), MatMul::kFirstEpilogueInput)),
        product_(packed_product(unit, spec, 1, sizes_.depth, sizes_.columns)),
        numbers_(column_numbers(spec, padded_columns(sizes_.columns), sizes_.columns, spec.parameters.back() == 1)),
        fits_(numbers_.fit(finish_, sizes_.depth)) {}

  void run(const Launch& launch) const override {
    const TensorView& a = launch.inputs[0];
    const TensorView& c = launch.outputs[0];
    ByteProductArgs args;
    args.rows = leading(a.dims);
    args.columns = sizes_.columns;
    args.depth = sizes_.depth;
    args.a = static_cast<const std::uint8_t*>(a.data);
    args.a_stride = a.pitch;
    args.a_is_signed = dtype_ == DType::int8;
    product_.set(args);
    args.start = numbers_.start;
    args.c = c.data;
    args.c_stride = c.pitch;
    args.tiling = tiling_;
    args.has_byte_dot = has_byte_dot();
    args.finish.scale = numbers_.scale;
    args.finish.offset = numbers_.offset;
    args.finish.fits = fits_;
    finish_.resolve(launch, c.dims, args.finish);
    run_product(unit_, args, launch);
  }
  bool accepts_pitched_input(int index) const override { return index == 0 || finish_.reads(index); }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  Unit unit_;
  ByteMatrix sizes_;
  DType dtype_;
  ByteTiling tiling_;
  ByteFinishPlan finish_;
  PackedProduct product_;
  ColumnNumbers numbers_;
  bool fits_;
};

template <Unit kUnit>
void matmul_candidates(const Problem& problem, std::vector<Candidate>& out) {
  const MatMul& matmul = matmul_of(problem.op);
  auto refusal = refuses(kUnit);
  if (!refusal) refusal = refuses_matmul(matmul, problem.inputs, problem.outputs);
  if (!refusal && problem.constants[1] == nullptr) refusal = "b is computed";
  if (refusal) {
    out.push_back({.refusal = *refusal});
    return;
  }
  const ByteMatrix sizes = matrix_of(matmul, problem.inputs[1]);
  const std::int64_t rows = leading(problem.input_shapes[0]);
  const auto form = ByteFinishPlan::form_of(matmul.epilogue(), MatMul::kFirstEpilogueInput, problem.inputs,
                                            problem.outputs[0], problem.constants);
  const double work = static_cast<double>(rows) * static_cast<double>(sizes.columns) * static_cast<double>(sizes.depth);
  const double bytes = static_cast<double>(rows + sizes.columns) * static_cast<double>(sizes.depth);
  append_tilings(kUnit, rows, sizes.columns, sizes.depth, true, form.has_value(),
                 estimate_us(2 * work / speed_of_bytes(kUnit), bytes, 0.8), out);
}

template <Unit kUnit>
PackedWeights matmul_pack(const Problem& problem, const Candidate& candidate) {
  const MatMul& matmul = matmul_of(problem.op);
  const ByteMatrix sizes = matrix_of(matmul, problem.inputs[1]);
  const std::int8_t* b = problem.constants[1]->as<std::int8_t>().data();
  const std::int64_t k_stride = matmul.trans_b() ? 1 : sizes.columns;
  const std::int64_t n_stride = matmul.trans_b() ? sizes.depth : 1;
  const int tile_vectors = byte_tiling_from(kUnit, candidate.parameters).tile_vectors;
  const auto value = [&](std::int64_t k, std::int64_t n) { return b[k * k_stride + n * n_stride]; };
  PackedWeights packed;
  packed.blobs.resize(2);
  std::vector<std::int32_t> start;
  append_starts(sizes.depth, sizes.columns, zero_in(kUnit, matmul.zero_point(), problem.inputs[0].dtype), value, start);
  if (kUnit == Unit::tiles) {
    packed.blobs[0] = pack_tile_panels<std::int8_t>(sizes.depth, sizes.columns, value);
  } else {
    packed.blobs[0] = pack_byte_panels(sizes.depth, sizes.columns, tile_vectors, value);
  }
  if (const std::int64_t segment = ordered_segment(candidate.parameters); segment != 0) {
    OrderedPanels ordered;
    append_ordered_panels(packed.blobs[0], sizes.depth, sizes.columns, segment, start, ordered);
    packed.blobs[0] = std::move(ordered.panels);
    append(packed.blobs.emplace_back(), ordered.orders);
  }
  append(packed.blobs[1], start);
  std::optional<ByteForm> form;
  if (candidate.parameters.back() == 1) {
    form = ByteFinishPlan::form_of(matmul.epilogue(), MatMul::kFirstEpilogueInput, problem.inputs, problem.outputs[0],
                                   problem.constants);
    append_form(packed.blobs[1], *form, sizes.columns, sizes.columns, [](std::int64_t n) { return n; });
  }
  packed.consumed_inputs = consumed(form, MatMul::kFirstEpilogueInput);
  return packed;
}

template <Unit kUnit>
std::unique_ptr<Kernel> matmul_make(const KernelSpec& spec) {
  require_instructions(kUnit, spec);
  const auto refusal = refuses_matmul(matmul_of(spec.op), spec.inputs, spec.outputs);
  require(!refusal, Code::incompatible_engine, "tactic '{}' cannot run this MatMul: {}", spec.tactic,
          refusal.value_or(""));
  return std::make_unique<ByteMatMulKernel>(kUnit, spec);
}

}  // namespace

const CpuTactic kConvBytes{"conv.bytes", "Conv", conv_candidates<Unit::vectors>, conv_pack<Unit::vectors>,
                           conv_make<Unit::vectors>};
const CpuTactic kConvAmxBytes{"conv.amx_bytes", "Conv", conv_candidates<Unit::tiles>, conv_pack<Unit::tiles>,
                              conv_make<Unit::tiles>};
const CpuTactic kConvBytesDepthwise{"conv.bytes_depthwise", "Conv", depthwise_candidates, depthwise_pack,
                                    depthwise_make};
const CpuTactic kMatMulBytes{"gemm.bytes", "MatMul", matmul_candidates<Unit::vectors>, matmul_pack<Unit::vectors>,
                             matmul_make<Unit::vectors>};
const CpuTactic kMatMulAmxBytes{"gemm.amx_bytes", "MatMul", matmul_candidates<Unit::tiles>, matmul_pack<Unit::tiles>,
                                matmul_make<Unit::tiles>};

}  // namespace tenfold::cpu
