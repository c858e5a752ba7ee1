// What can be said about the tensor-core kernels without a GPU: their schedules, their text, what the compiler reports.
#include <cstring>
#include <set>

#include <gtest/gtest.h>

#include "backend/cuda/attention_schedule.hpp"
#include "backend/cuda/cubin.hpp"
#include "backend/cuda/gemm_candidates.hpp"
#include "backend/cuda/gemm_kernel.hpp"
#include "backend/cuda/plain_text.hpp"
#include "backend/cuda/ptxas_log.hpp"
#include "backend/cuda/tile_text.hpp"
#include "base/error.hpp"
#include "ops/conv_max_pool.hpp"
#include "ops/conv_pair.hpp"

namespace tenfold::cuda {
namespace {

std::vector<GemmSchedule> schedules() {
  return {
      {.tile_n = 128, .stages = 6},
      {.tile_n = 256, .stages = 4},
      {.rows = RowSource::image, .tile_n = 160, .stages = 5},
      {.rows = RowSource::image, .blocks_m = 2, .tile_n = 64, .stages = 4, .resident = true},
      {.tile_n = 128, .stages = 6, .resident = true, .ping_pong = true, .staged_residuals = 4},
      {.consumers = 3, .tile_n = 128, .stages = 5},
      {.rows = RowSource::image, .tile_n = 64, .stages = 6, .split_k = 8},
      {.columns = ColumnSource::matrix, .tile_n = 128, .stages = 6},
      {.rows = RowSource::transposed, .columns = ColumnSource::transposed, .tile_n = 128, .stages = 6},
      {.element = DType::bfloat16, .output = DType::bfloat16, .tile_n = 128, .stages = 6},
      {.tile_n = 256, .stages = 4, .gated = true},
      {.tile_n = 128, .stages = 6, .ping_pong = true, .gated = true},
      {.element = DType::int8,
       .output = DType::int8,
       .rows = RowSource::image,
       .tile_n = 128,
       .stages = 6,
       .staged_residuals = 2},
      {.element = DType::float8e4m3,
       .output = DType::float8e4m3,
       .rows = RowSource::image,
       .tile_n = 128,
       .stages = 6,
       .staged_residuals = 2},
      {.element = DType::float8e4m3, .output = DType::float8e4m3, .consumers = 1, .tile_n = 64},
      {.element = DType::float8e4m3, .output = DType::float16, .tile_n = 256, .stages = 4},
      {.element = DType::float8e4m3, .output = DType::float16, .tile_n = 96, .stages = 6, .split_k = 4},
      {.element = DType::float8e4m3, .output = DType::float8e4m3, .consumers = 3, .tile_n = 64, .ping_pong = true},
      {.element = DType::float32, .output = DType::float32, .tile_n = 128, .stages = 6, .split_k = 4},
      {.element = DType::float32, .output = DType::float32, .rows = RowSource::image, .tile_n = 128, .stages = 6},
  };
}

EpilogueSpec epilogue_for(const GemmSchedule& schedule) {
  EpilogueSpec spec;
  spec.has_bias = schedule.columns == ColumnSource::packed;
  spec.program.num_inputs = 1;
  if (schedule.staged_residuals > 0) {
    spec.program.num_inputs = 2;
    spec.operands.push_back({EpilogueSpec::Kind::whole, schedule.output, true});
    spec.program.append(PointwiseCode::add, 0, 1);
    spec.program.append(PointwiseCode::relu, 2);
  } else if (schedule.gated) {
    spec.has_bias = false;
    spec.gated = true;
    spec.program.num_inputs = 4;
    spec.operands = {{EpilogueSpec::Kind::column, schedule.output, true},
                     {EpilogueSpec::Kind::column, schedule.output, true}};
    spec.program.append(PointwiseCode::add, 0, 2);
    spec.program.append(PointwiseCode::add, 1, 3);
    spec.program.append(PointwiseCode::gelu, 5);
    spec.program.append(PointwiseCode::mul, 4, 6);
  } else {
    spec.program.append(PointwiseCode::gelu, 0);
  }
  return spec;
}

/// Machine code; the test is skipped where there is no compiler.
std::optional<Cubin> compiled(const std::string& text, std::string_view entry, int sm = 90) {
  try {
    return compile_source({text, {std::string(entry)}}, sm);
  } catch (const Error& error) {
    if (error.code() != Code::unsupported) throw;
    return std::nullopt;
  }
}

/// The compiler serialises products that it cannot follow (C75xx), which costs half of the speed, and spills registers
/// of the main loop when a schedule asks for too many.
void expect_clean(const Cubin& cubin, const std::string& what, std::int64_t max_spill_bytes = 0) {
  const PtxasReport report = read_ptxas_log(cubin.log);
  EXPECT_FALSE(report.entries.empty()) << what << ":\n" << cubin.log;
  EXPECT_TRUE(report.serialised.empty()) << what << ":\n" << cubin.log;
  for (const CodeFacts& facts : report.entries) {
    EXPECT_LE(facts.spill_store_bytes, max_spill_bytes) << what << ":\n" << cubin.log;
  }
}

TEST(CudaTensorCores, ProductsCompileWithoutSpillsAndWithoutSerialisation) {
  for (const GemmSchedule& schedule : schedules()) {
    const auto cubin = compiled(gemm_text(schedule, epilogue_for(schedule)), kGemmEntry);
    if (!cubin) GTEST_SKIP() << "NVRTC is not installed";
    expect_clean(*cubin, schedule.describe());
  }
}

TEST(CudaTensorCores, AttentionCompilesWithoutSpillsAndWithoutSerialisation) {
  const std::vector<AttentionSchedule> all = {
      {},
      {.head_size = 40, .value_size = 40, .tile_keys = 80},
      {.head_size = 160, .value_size = 160, .tile_keys = 64},
      {.causal = true},
      {.tile_keys = 80, .masked = true},
      {.tile_keys = 80, .masked = true, .mask = DType::float32},
      {.head_size = 32, .value_size = 32, .tile_keys = 96, .masked = true},
      {.head_size = 128, .value_size = 128, .tile_keys = 48, .masked = true},
      {.tile_keys = 64, .consumers = 3},
      {.head_size = 40, .value_size = 40, .tile_keys = 64, .consumers = 4},
  };
  for (const AttentionSchedule& schedule : all) {
    ASSERT_EQ(schedule.refuses(), std::nullopt);
    const auto cubin = compiled(attention_text(schedule), kAttentionEntry);
    if (!cubin) GTEST_SKIP() << "NVRTC is not installed";
    expect_clean(*cubin, std::to_string(schedule.head_size) + " by " + std::to_string(schedule.tile_keys));
  }
}

TensorType type_of(DType dtype, const Shape& shape) {
  TensorType type{dtype, {}};
  for (const std::int64_t size : shape) type.dims.emplace_back(size);
  return type;
}
Conv::Spec channels_last(std::int64_t stride, std::int64_t pad, const std::string& program, int operands,
                         DType output) {
  Conv::Spec spec;
  spec.window = {{stride, stride}, {pad, pad, pad, pad}, {1, 1}};
  spec.layout = ImageLayout::nhwc;
  spec.epilogue = {PointwiseProgram::parse(1 + operands, program), output};
  return spec;
}

TEST(CudaTensorCores, JoinedConvolutionsCompileWithoutSpillsAndWithoutSerialisation) {
  const DType f32 = DType::float32, i8 = DType::int8, f16 = DType::float16;
  KernelSpec pair, halves, pooled, halo, halo_of_halves;
  halo.op = std::make_shared<const Conv>(channels_last(1, 1, "mul 0 1; relu 2", 1, i8));
  halo.inputs = {type_of(i8, {8, 56, 56, 64}), type_of(i8, {64, 64, 3, 3}), {}, type_of(f32, {64})};
  halo.outputs = {type_of(i8, {8, 56, 56, 64})};
  halo.parameters = {3, 3, 2};
  halo_of_halves.op = std::make_shared<const Conv>(channels_last(1, 1, "sigmoid 0; mul 0 1", 0, DType::undefined));
  halo_of_halves.inputs = {type_of(f16, {1, 56, 56, 64}), type_of(f16, {64, 64, 3, 3}), type_of(f32, {64})};
  halo_of_halves.outputs = {type_of(f16, {1, 56, 56, 64})};
  halo_of_halves.parameters = {3, 1, 2};
  pair.op = std::make_shared<const ConvPair>(channels_last(1, 0, "mul 0 1; add 3 2; relu 4", 2, i8),
                                             channels_last(1, 0, "mul 0 1; relu 2", 1, i8));
  pair.inputs = {type_of(i8, {8, 28, 28, 128}),
                 type_of(i8, {512, 128, 1, 1}),
                 {},
                 type_of(i8, {128, 512, 1, 1}),
                 {},
                 type_of(f32, {512}),
                 type_of(i8, {8, 28, 28, 512}),
                 type_of(f32, {128})};
  pair.outputs = {type_of(i8, {8, 28, 28, 512}), type_of(i8, {8, 28, 28, 128})};
  pair.parameters = {2, 1};
  halves.op = std::make_shared<const ConvPair>(channels_last(1, 0, "add 0 1; relu 2", 1, DType::undefined),
                                               channels_last(1, 0, "relu 0", 0, DType::undefined));
  halves.inputs = {type_of(f16, {8, 56, 56, 64}),  type_of(f16, {256, 64, 1, 1}), type_of(f32, {256}),
                   type_of(f16, {128, 256, 1, 1}), type_of(f32, {128}),           type_of(f16, {8, 56, 56, 256})};
  halves.outputs = {type_of(f16, {8, 56, 56, 256}), type_of(f16, {8, 56, 56, 128})};
  halves.parameters = {3, 1};
  pooled.op =
      std::make_shared<const ConvMaxPool>(channels_last(2, 3, "mul 0 1; relu 2", 1, i8),
                                          PoolSpec{{3, 3}, {{2, 2}, {1, 1, 1, 1}, {1, 1}}, ImageLayout::nhwc},
                                          ImageSource{true, PointwiseProgram::parse(1, "mul_imm 0 0x1p+5"), i8});
  pooled.inputs = {type_of(f32, {8, 3, 224, 224}), type_of(i8, {64, 3, 7, 7}), {}, type_of(f32, {64})};
  pooled.outputs = {type_of(i8, {8, 56, 56, 64})};
  pooled.parameters = {4, 4};
  for (const auto& [tactic, spec] : {std::pair("conv.wgmma_pair", &pair), std::pair("conv.wgmma_pair", &halves),
                                     std::pair("conv.wgmma_pooled", &pooled), std::pair("conv.wgmma_halo", &halo),
                                     std::pair("conv.wgmma_halo", &halo_of_halves)}) {
    const Source source = find_tactic(tactic, spec->op->type())->source(*spec, preset_traits("h100"));
    const auto cubin = compiled(source.text, source.entries[0]);
    if (!cubin) GTEST_SKIP() << "NVRTC is not installed";
    expect_clean(*cubin, tactic);
  }
  pair.parameters = {3, 3};
  EXPECT_THROW(find_tactic("conv.wgmma_pair", "ConvPair")->source(pair, preset_traits("h100")), Error);
  pooled.parameters = {4, 60};
  EXPECT_THROW(find_tactic("conv.wgmma_pooled", "ConvMaxPool")->source(pooled, preset_traits("h100")), Error);
}

TEST(CudaTensorCores, PlainKernelsCompileForOlderDevices) {
  EpilogueSpec epilogue;
  epilogue.program.num_inputs = 1;
  epilogue.program.append(PointwiseCode::relu, 0);
  const PlainKernelSpec product{.a = DType::float16, .b = DType::float16, .output = DType::float16};
  const PlainKernelSpec integers{.kind = PlainKernelSpec::Kind::convolution,
                                 .a = DType::uint8,
                                 .b = DType::int8,
                                 .bias = DType::float32,
                                 .output = DType::int8};
  for (const auto& [spec, sm] : {std::pair(product, 80), std::pair(integers, 89)}) {
    const auto cubin = compiled(plain_text(spec, epilogue), kPlainEntry, sm);
    if (!cubin) GTEST_SKIP() << "NVRTC is not installed";
    expect_clean(*cubin, "sm " + std::to_string(sm));
  }
}

std::vector<TileSchedule> tiles() {
  return {
      {.warps_n = 4},
      {.warp_n = 64, .row_bytes = 128, .stages = 3},
      {.rows = RowSource::image, .warps_n = 4, .vector_bytes = 8},
      {.rows = RowSource::image, .warp_m = 32, .vector_bytes = 2},
      {.columns = ColumnSource::matrix, .warps_n = 4, .vector_bytes = 2},
      {.columns = ColumnSource::transposed, .warps_n = 4},
      {.element = DType::bfloat16, .output = DType::bfloat16, .warps_n = 4},
      {.element = DType::int8, .output = DType::int8, .rows = RowSource::image, .warp_m = 32, .warp_n = 64},
      {.element = DType::uint8, .output = DType::uint8, .rows = RowSource::image, .warp_n = 64, .vector_bytes = 1},
      {.element = DType::float32, .output = DType::float32, .tf32 = true, .warps_n = 4},
      {.element = DType::float8e4m3, .rows = RowSource::image, .warp_m = 32, .warp_n = 64},
      {.element = DType::float8e4m3, .output = DType::float8e4m3, .warps_m = 4, .warp_m = 32, .warp_n = 64},
      {.element = DType::float32, .output = DType::float32, .tf32 = true, .columns = ColumnSource::transposed},
      {.element = DType::float32, .output = DType::float32, .warps_n = 4},
      {.element = DType::float32, .output = DType::float32, .rows = RowSource::image, .warps_n = 4, .vector_bytes = 4},
      {.element = DType::float32, .output = DType::float32, .columns = ColumnSource::transposed},
  };
}

TEST(CudaTensorCores, TilesCompileForEveryDevice) {
  EpilogueSpec epilogue;
  epilogue.program.num_inputs = 1;
  epilogue.program.append(PointwiseCode::relu, 0);
  int next = 0;
  for (const TileSchedule& schedule : tiles()) {
    ASSERT_EQ(schedule.refuses(), std::nullopt) << schedule.describe();
    epilogue.has_bias = schedule.columns == ColumnSource::packed;
    const int sm = std::array{80, 86, 89, 90}[static_cast<std::size_t>(next++ % 4)];
    const auto cubin = compiled(tile_text(schedule, epilogue), kTileEntry, sm);
    if (!cubin) GTEST_SKIP() << "NVRTC is not installed";
    constexpr std::int64_t kAddress = 8;  // one of the copies', kept beside a full set of accumulators
    expect_clean(*cubin, schedule.describe() + " on sm " + std::to_string(sm), kAddress);
  }
}

TEST(CudaTensorCores, SchedulesSurviveTheEngineFile) {
  for (const TileSchedule& schedule : tiles()) EXPECT_EQ(TileSchedule::decode(schedule.encode()), schedule);

  for (const GemmSchedule& schedule : schedules()) {
    EXPECT_EQ(schedule.refuses(), std::nullopt) << schedule.describe();
    EXPECT_EQ(GemmSchedule::decode(schedule.encode()), schedule);
  }
  const AttentionSchedule attention{.head_size = 40, .value_size = 80, .tile_keys = 96, .causal = true};
  EXPECT_EQ(AttentionSchedule::decode(attention.encode()), attention);
}

TEST(CudaTensorCores, NumbersThatAreNoScheduleAreRefused) {
  const std::vector<std::int64_t> good = GemmSchedule{}.encode();
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const std::int64_t wrong : {std::int64_t{-1}, std::int64_t{255}, std::int64_t{1} << 40}) {
      std::vector<std::int64_t> changed = good;
      changed[i] = wrong;
      EXPECT_THROW(GemmSchedule::decode(changed), Error) << "parameter " << i << " = " << wrong;
    }
  }
  EXPECT_THROW(GemmSchedule::decode(std::span(good).first(5)), Error);
  EXPECT_THROW(AttentionSchedule::decode(good), Error);
  std::vector<std::int64_t> attention = AttentionSchedule{}.encode();
  attention[3] = 100;  // no multiple of 16
  EXPECT_THROW(AttentionSchedule::decode(attention), Error);
}

TEST(CudaTensorCores, SmallProductsAreSplitAlongKAndLargeOnesAreNot) {
  const DeviceTraits traits = preset_traits("h100");
  const auto best = [&](std::int64_t m, std::int64_t n, std::int64_t k) {
    GemmShape shape;
    shape.m = m, shape.n = n, shape.channels = k;
    shape.input_bytes = 2.0 * static_cast<double>(m * k);
    const auto ranked = rank_schedules(shape, traits, 6);
    EXPECT_FALSE(ranked.empty());
    for (const RankedSchedule& entry : ranked) EXPECT_EQ(entry.schedule.refuses(), std::nullopt);
    return ranked.front().schedule;
  };
  EXPECT_GT(best(128, 768, 3072).split_k, 1);
  EXPECT_GT(best(1, 1000, 2048).split_k, 1);
  EXPECT_EQ(best(8192, 8192, 8192).split_k, 0);
  EXPECT_GE(best(8192, 8192, 8192).tile_m() * best(8192, 8192, 8192).tile_n, 128 * 128);
}

TEST(CudaTensorCores, PackedColumnsHoldEveryWeightOnce) {
  // Each thread of four finishes neighbours: position -> column is a permutation inside each tile.
  for (const int unit : {4, 8, 16}) {
    std::vector<bool> seen(static_cast<std::size_t>(8 * unit), false);
    for (int i = 0; i < 8 * unit; ++i) seen[static_cast<std::size_t>(column_of(i, unit))] = true;
    EXPECT_EQ(std::count(seen.begin(), seen.end(), true), 8 * unit);
  }
  const GemmSchedule schedule{.tile_n = 32, .row_bytes = 32};
  const std::int64_t n = 40, channels = 18, positions = 2;
  std::vector<std::uint16_t> weights(static_cast<std::size_t>(n * channels * positions));
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<std::uint16_t>(i + 1);
  const auto bytes = pack_columns(schedule, n, channels, positions, reinterpret_cast<const std::byte*>(weights.data()),
                                  [&](std::int64_t column, std::int64_t position, std::int64_t channel) {
                                    return (column * channels + channel) * positions + position;
                                  });
  ASSERT_EQ(static_cast<std::int64_t>(bytes.size()), packed_columns_bytes(schedule, n, channels, positions));
  std::vector<std::uint16_t> packed(bytes.size() / 2);
  std::memcpy(packed.data(), bytes.data(), bytes.size());
  std::multiset<std::uint16_t> values(packed.begin(), packed.end());
  for (const std::uint16_t w : weights) EXPECT_EQ(values.count(w), 1U);
  // The same with 20 pairs: columns 0 .. 31 of a tile of 64 lie in front of their partners, 20 columns further.
  GemmSchedule pairs = schedule;
  pairs.tile_n = 64;
  pairs.gated = true;
  const auto paired =
      pack_columns(pairs, n / 2, channels, positions, reinterpret_cast<const std::byte*>(weights.data()),
                   [&](std::int64_t column, std::int64_t position, std::int64_t channel) {
                     return (column * channels + channel) * positions + position;
                   });
  std::vector<std::uint16_t> halves(paired.size() / 2);
  std::memcpy(halves.data(), paired.data(), paired.size());
  const std::size_t pair_row = halves.size() / 64;
  EXPECT_EQ(halves[2 * pair_row], weights[static_cast<std::size_t>(8 * channels * positions)]);
  EXPECT_EQ(halves[34 * pair_row], weights[static_cast<std::size_t>(28 * channels * positions)]);
  // Row 2 of the first tile is column 8 (lane 1 of the first four columns in units of 8), at [position][channel].
  const std::size_t row = packed.size() / 64;
  EXPECT_EQ(packed[2 * row], weights[static_cast<std::size_t>(8 * channels * positions)]);
  EXPECT_EQ(packed[2 * row + 32], weights[static_cast<std::size_t>(8 * channels * positions + 1)]);
}

}  // namespace
}  // namespace tenfold::cuda
