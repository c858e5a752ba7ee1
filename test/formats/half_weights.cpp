// Engine files whose float32 weights are float16 numbers.
#include "engine/half_weights.hpp"

#include <cstring>

#include <gtest/gtest.h>

#include "engine/engine_file.hpp"
#include "formats/small_plans.hpp"

namespace tenfold {
namespace {

constexpr std::size_t kNumbers = 10000;

/// Weights: a few bytes, a run of float16 numbers, a run of other numbers.
struct Example {
  Plan plan;
  std::vector<std::byte> weights;
};

Example example() {
  test::SmallEngine engine = test::classifier();
  Example result{std::move(engine.plan), std::move(engine.weights)};
  result.weights.resize((result.weights.size() + 63) / 64 * 64);
  for (const float step : {0.125F, 0.1F}) {
    PlanValue value;
    value.name = "w" + std::to_string(step);
    value.type = {DType::float32, {Dim(static_cast<std::int64_t>(kNumbers))}};
    value.pitch = Dim(static_cast<std::int64_t>(kNumbers));
    value.storage = Storage::constant;
    value.constant_offset = result.weights.size();
    result.plan.values.push_back(value);
    for (auto& profile : result.plan.profiles) {
      profile.arena_offsets.push_back(0);
      profile.arena_sizes.push_back(0);
    }
    for (std::size_t i = 0; i < kNumbers; ++i) {
      const float number = i == 0 ? -0.0F : step * static_cast<float>(i % 1000);
      const auto* bytes = reinterpret_cast<const std::byte*>(&number);
      result.weights.insert(result.weights.end(), bytes, bytes + sizeof number);
    }
    result.weights.resize((result.weights.size() + 63) / 64 * 64);
  }
  return result;
}

std::string refusal(std::span<const std::byte> section, std::span<const std::byte> rest) {
  try {
    (void)join_half_weights(section, rest);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::incompatible_engine);
    return error.message();
  }
}

TEST(HalfWeights, ComeBackBitByBit) {
  const Example original = example();
  const std::optional<HalfWeights> halves = split_half_weights(original.plan, original.weights);
  ASSERT_TRUE(halves.has_value());
  EXPECT_EQ(halves->rest.size(), original.weights.size() - kNumbers * sizeof(float));
  EXPECT_LT(halves->section.size(), kNumbers * sizeof(float) / 2 + 128);
  const WeightData joined = join_half_weights(halves->section, halves->rest);
  ASSERT_EQ(joined.size, original.weights.size());
  EXPECT_EQ(std::memcmp(joined.data, original.weights.data(), joined.size), 0);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(joined.data) % 64, 0U);
}

TEST(HalfWeights, AFileWithThemReadsLikeOneWithout) {
  const Example original = example();
  const std::vector<std::byte> plain = serialize_engine(original.plan, original.weights);
  const std::vector<std::byte> half = serialize_engine(original.plan, original.weights, {.half_weights = true});
  EXPECT_LT(half.size() + kNumbers, plain.size());
  const EngineFile file = read_engine(half);
  ASSERT_EQ(file.weights.size, original.weights.size());
  EXPECT_EQ(std::memcmp(file.weights.data, original.weights.data(), file.weights.size), 0);
  EXPECT_EQ(file.sections.back().name, "halves");
}

TEST(HalfWeights, NothingToGainMeansNoSection) {
  const test::SmallEngine engine = test::classifier();
  EXPECT_FALSE(split_half_weights(engine.plan, engine.weights).has_value());
}

TEST(HalfWeights, DamagedSectionsAreRefused) {
  const Example original = example();
  const HalfWeights halves = split_half_weights(original.plan, original.weights).value();
  const auto changed = [&](std::size_t at, std::uint64_t value) {
    std::vector<std::byte> section = halves.section;
    std::memcpy(&section[at], &value, sizeof value);
    return section;
  };
  EXPECT_NE(refusal({}, halves.rest).find("cut off"), std::string::npos);
  EXPECT_NE(refusal(changed(0, std::uint64_t{1} << 60), halves.rest).find("sizes"), std::string::npos);
  EXPECT_NE(refusal(changed(8, std::uint64_t{1} << 60), halves.rest).find("more runs"), std::string::npos);
  EXPECT_NE(refusal(changed(16, ~std::uint64_t{0} - 3), halves.rest).find("overlap"), std::string::npos);
  EXPECT_NE(refusal(changed(24, ~std::uint64_t{0} - 3), halves.rest).find("overlap"), std::string::npos);
  EXPECT_NE(refusal(changed(24, 6), halves.rest).find("no sequence"), std::string::npos);
  EXPECT_NE(refusal(changed(24, 8), halves.rest).find("sizes"), std::string::npos);
  EXPECT_NE(refusal(changed(40, 1), halves.rest).find("padding"), std::string::npos);
  EXPECT_NE(refusal(halves.section, std::span(halves.rest).first(8)).find("sizes"), std::string::npos);
  EXPECT_EQ(refusal(halves.section, halves.rest), "");
}

}  // namespace
}  // namespace tenfold
