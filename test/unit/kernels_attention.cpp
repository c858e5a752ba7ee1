// FusedAttention against its reference: layouts, masks, grouped queries, one query and many, keys in several blocks.
#include "kernel_case.hpp"

namespace tenfold {
namespace {

const std::string kTactic = "attention.blocks";

Tensor floats(const Shape& shape, std::uint32_t seed, double size = 1) {
  return random_tensor(DType::float32, shape, seed, -size, size);
}

/// Scores of size 8 at most carry an error of about depth / 4 + 8 roundings each, which the exponential turns into a
/// relative error of the weights; their average over values of size 1 has it, too, plus the sum over the keys.
Tolerance tolerance_for(std::int64_t depth) { return {8 * (static_cast<double>(depth) / 4 + 16) * 0x1p-24, 0}; }

struct Sizes {
  std::int64_t batch, heads, shared, queries, keys, depth, value_depth;
};

void check(const Sizes& s, const std::string& layout, const Tensor& mask = {}, bool causal = false) {
  const bool rows_first = layout == "blhd";
  const auto shape = [&](std::int64_t heads, std::int64_t rows, std::int64_t depth) {
    return rows_first ? Shape{s.batch, rows, heads, depth} : Shape{s.batch, heads, rows, depth};
  };
  KernelCase c{"FusedAttention",
               {{"scale", 0.4}, {"layout", layout}, {"causal", std::int64_t{causal}}},
               {floats(shape(s.heads, s.queries, s.depth), 1), floats(shape(s.shared, s.keys, s.depth), 2),
                floats(shape(s.shared, s.keys, s.value_depth), 3)}};
  if (!mask.empty()) c.inputs.push_back(mask);
  check_tactic(c, kTactic, tolerance_for(s.depth));
}

TEST(AttentionKernel, SizesOfAllKindsInBothLayouts) {
  for (const char* layout : {"bhld", "blhd"}) {
    check({1, 3, 3, 7, 7, 5, 5}, layout);
    check({2, 2, 2, 16, 40, 32, 32}, layout);
    check({1, 2, 2, 65, 33, 64, 20}, layout);
    check({1, 1, 1, 200, 19, 8, 17}, layout);
    check({1, 1, 1, 1, 1, 1, 1}, layout);
    check({2, 3, 3, 30, 600, 16, 40}, layout);
    check({1, 3, 3, 70, 300, 8, 20}, layout);  // values are copied together, block by block
    check({0, 3, 3, 7, 7, 5, 5}, layout);
  }
}

TEST(AttentionKernel, OneQueryAtATimeAndSharedHeads) {
  check({1, 4, 4, 1, 700, 32, 32}, "bhld");
  check({2, 8, 2, 1, 300, 64, 64}, "bhld");
  check({1, 6, 2, 13, 50, 24, 24}, "blhd");
  check({1, 40, 1, 9, 20, 8, 8}, "bhld");
}

TEST(AttentionKernel, MasksBroadcastInEveryWay) {
  const Sizes sizes{2, 6, 3, 10, 300, 16, 16};
  for (const Shape& shape : {Shape{2, 6, 10, 300}, Shape{2, 1, 1, 300}, Shape{10, 300}, Shape{300}, Shape{1, 6, 10, 1},
                             Shape{2, 6, 1, 300}, Shape{1}}) {
    check(sizes, "bhld", floats(shape, 9, 3));
  }
}

TEST(AttentionKernel, HiddenKeysCountForNothing) {
  // The first 260 keys, more than a block, are hidden from everyone; one query sees nothing at all.
  Tensor mask(DType::float32, {5, 300});
  auto values = mask.as_mutable<float>();
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = i % 300 < 260 || i / 300 == 2 ? -INFINITY : 0.0F;
  check({1, 2, 2, 5, 300, 16, 16}, "bhld", mask);
  Tensor padding(DType::float32, {1, 1, 1, 300});
  for (std::size_t i = 0; i < 290; ++i) padding.as_mutable<float>()[i] = -1e9F;
  check({1, 2, 2, 5, 300, 16, 16}, "bhld", padding);
}

TEST(AttentionKernel, CausalQueriesSeeThePast) {
  for (const char* layout : {"bhld", "blhd"}) {
    check({1, 2, 2, 40, 40, 16, 16}, layout, {}, true);
    check({1, 4, 2, 3, 600, 16, 16}, layout, {}, true);
    check({1, 2, 2, 300, 300, 8, 8}, layout, {}, true);
    check({1, 2, 1, 9, 4, 8, 8}, layout, {}, true);
    check({1, 2, 2, 40, 40, 16, 16}, layout, floats({40, 40}, 4), true);
  }
}

}  // namespace
}  // namespace tenfold
