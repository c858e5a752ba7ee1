// The matrix products against the reference: odd sizes, transposes, batches, epilogues.
#include "kernel_case.hpp"
#include "ops/matmul.hpp"

namespace tenfold {
namespace {

Tensor floats(const Shape& shape, std::uint32_t seed) { return random_tensor(DType::float32, shape, seed, -1, 1); }

/// Operands lie in [-1, 1], so a sum of `depth` products stays below 2 sqrt(depth) nearly always, and each of its
/// additions rounds by at most 2^-24 of that. Errors of random sign add up to sqrt(depth) of them; 4 is the margin.
Tolerance tolerance_for(std::int64_t depth) { return {4 * 0x1p-24 * static_cast<double>(depth + 4), 8 * 0x1p-24}; }

Attributes with_epilogue(const std::string& program, int num_inputs, Attributes attributes = {}) {
  Epilogue{PointwiseProgram::parse(num_inputs, program)}.store(attributes);
  return attributes;
}

struct Sizes {
  std::int64_t m, n, k;
};
// Around the tile sizes of every tier, single rows and columns, and depths that are cut into blocks.
const std::vector<Sizes> kSizes = {{1, 1, 1},     {1, 7, 3},     {2, 8, 5},    {5, 9, 16},    {7, 16, 33},
                                   {6, 17, 2},    {13, 24, 40},  {49, 31, 64}, {12, 48, 100}, {3, 49, 65},
                                   {1, 100, 300}, {64, 40, 600}, {100, 65, 17}};

TEST(PackedGemm, OddSizesAgreeWithTheReference) {
  for (const Sizes& s : kSizes) {
    check_tactic({"MatMul", {}, {floats({s.m, s.k}, 1), floats({s.k, s.n}, 2)}, {false, true}}, "gemm.packed",
                 tolerance_for(s.k));
  }
}

TEST(PackedGemm, RegisterTilesOfEveryHeightAndWidthAgreeWithTheReference) {
  // Depths that are no whole turns of a tile's loop, without and with asking for the next panel, and of two blocks, so
  // that sums go on; with a bias that ends within a vector.
  for (std::int64_t rows = 2; rows <= 13; ++rows) {
    for (const std::int64_t columns : {24, 32, 39, 48, 57, 64, 136}) {
      for (const std::int64_t depth : {6, 99, 1027}) {
        if (depth > 1000 && rows % 3 != 0) continue;
        SCOPED_TRACE(fmt::format("{} x {} x {}", rows, depth, columns));
        check_tactic({"MatMul",
                      with_epilogue("add 0 1; relu 2", 2),
                      {floats({rows, depth}, 1), floats({depth, columns}, 2), floats({columns}, 3)},
                      {false, true}},
                     "gemm.packed", tolerance_for(depth));
      }
    }
  }
}

TEST(PackedGemm, FewRowsTakeManyPanelsSideBySide) {
  // More panels than a tile has places for, and a last one that is not whole; rows' own program, so that panels must
  // end where they should.
  for (std::int64_t rows = 1; rows <= 9; ++rows) {
    for (const std::int64_t columns : {100, 403, 640}) {
      SCOPED_TRACE(fmt::format("{} rows, {} columns", rows, columns));
      check_tactic({"MatMul",
                    with_epilogue("add 0 1; add 3 2; gelu 4", 3),
                    {floats({rows, 85}, 1), floats({85, columns}, 2), floats({columns}, 3), floats({rows, columns}, 4)},
                    {false, true}},
                   "gemm.packed", tolerance_for(85));
    }
  }
}

TEST(PackedGemm, ASingleRowTakesPanelsOfEveryWidth) {
  // An engine whose rows vary has the panels that suit its optimum.
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP();
  for (const std::int64_t columns : {5, 31, 64, 200, 412}) {
    const PreparedCase prepared =
        prepare({"MatMul",
                 with_epilogue("add 0 1; add 3 2; relu 4", 3),
                 {floats({1, 300}, 1), floats({300, columns}, 2), floats({columns}, 3), floats({1, columns}, 4)},
                 {false, true}});
    const std::vector<Tensor> wanted = run_reference(prepared);
    for (std::int64_t vectors = 1; vectors <= 4; ++vectors) {
      SCOPED_TRACE(fmt::format("{} columns, panels of {} vectors", columns, vectors));
      Candidate candidate;
      candidate.tactic = "gemm.packed";
      candidate.parameters = {1, vectors, 128, 48};
      check_candidate(prepared, candidate, wanted, tolerance_for(300));
    }
  }
}

TEST(PackedGemm, TheNextStepsWeightsAreAskedForAtTheEndOfAShare) {
  // Large enough to be asked for; shares that end within a panel, and several blocks of depth.
  for (const Sizes& s : {Sizes{16, 600, 300}, Sizes{40, 330, 650}, Sizes{131, 250, 600}}) {
    SCOPED_TRACE(fmt::format("{} x {} x {}", s.m, s.k, s.n));
    check_tactic({"MatMul", {}, {floats({s.m, s.k}, 1), floats({s.k, s.n}, 2)}, {false, true}}, "gemm.packed",
                 tolerance_for(s.k));
  }
}

TEST(PackedGemm, FirstWeightsAreWhatSharesBeginWith) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP();
  const std::int64_t width = cpu::vector_floats(cpu::tier());
  const PreparedCase c = prepare({"MatMul", {}, {floats({4, 100}, 1), floats({100, 5 * width}, 2)}, {false, true}});
  const std::vector<std::byte> weights(static_cast<std::size_t>(100 * 5 * width) * sizeof(float));
  KernelSpec spec{c.problem.op, "gemm.packed", {1, 2, 64, 48}, c.problem.inputs, c.problem.outputs, {weights}};
  WeightPanels first = cpu_backend().make_kernel(spec)->first_weights();
  EXPECT_EQ(first.data, weights.data());
  EXPECT_EQ(first.panels, 3);
  EXPECT_EQ(first.panel_bytes, 2 * width * 100 * 4);
  EXPECT_EQ(first.first_bytes, 2 * width * 64 * 4);
  // Fewer columns than a panel is wide.
  const PreparedCase narrow = prepare({"MatMul", {}, {floats({4, 100}, 1), floats({100, 3}, 2)}, {false, true}});
  const std::vector<std::byte> few(static_cast<std::size_t>(100 * width) * sizeof(float));
  spec = {narrow.problem.op, "gemm.packed", {1, 2, 512, 48}, narrow.problem.inputs, narrow.problem.outputs, {few}};
  first = cpu_backend().make_kernel(spec)->first_weights();
  EXPECT_EQ(first.panels, 1);
  EXPECT_EQ(first.first_bytes, width * 100 * 4);
}

TEST(PackedGemm, TransposedWeightsAndLeadingAxesWork) {
  const Attributes trans_b{{"trans_b", std::int64_t{1}}};
  check_tactic({"MatMul", trans_b, {floats({2, 3, 5, 20}, 1), floats({33, 20}, 2)}, {false, true}}, "gemm.packed",
               tolerance_for(20));
  check_tactic({"MatMul", {}, {floats({4, 9, 20}, 1), floats({1, 20, 33}, 2)}, {false, true}}, "gemm.packed",
               tolerance_for(20));
  check_tactic({"MatMul", {}, {floats({20}, 1), floats({20, 33}, 2)}, {false, true}}, "gemm.packed", tolerance_for(20));
  check_tactic({"MatMul", {}, {floats({0, 20}, 1), floats({20, 33}, 2)}, {false, true}}, "gemm.packed",
               tolerance_for(20));
}

TEST(PackedGemm, EpiloguesBroadcastLikeNumPy) {
  struct Case {
    std::string program;
    std::vector<Shape> operands;
  };
  const Shape out{2, 3, 7, 21};
  const std::vector<Case> cases = {
      {"add 0 1", {{21}}},
      {"relu 0", {}},
      {"add 0 1; relu 2", {out}},
      {"add 1 0; add 3 2; max_imm 4 -0x1p-2; min_imm 5 0x1p-1", {{21}, out}},
      {"add 0 1; add 3 2", {out, out}},
      {"add 0 1; gelu 2", {{1, 1, 1, 21}}},
      {"mul 0 1; add 3 2", {{2, 1, 1, 21}, {3, 7, 1}}},
      {"sigmoid 0; mul 0 1", {}},
      {"add 0 1; mul 2 1", {{1, 3, 1, 1}}},
      {"mul 0 1", {{}}},
      {"min_imm 0 0x1p-1; max_imm 1 -0x1p-3", {}},
      {"add 0 1; sub 0 2", {{21}}},
      {"mul 0 1", {{2, 1, 7, 1}}},
  };
  for (const Case& c : cases) {
    const int inputs = static_cast<int>(c.operands.size()) + 1;
    KernelCase packed{
        "MatMul", with_epilogue(c.program, inputs), {floats({2, 3, 7, 40}, 1), floats({40, 21}, 2)}, {false, true}};
    KernelCase batched{"MatMul", with_epilogue(c.program, inputs), {floats({2, 3, 7, 40}, 1), floats({3, 40, 21}, 2)}};
    for (std::size_t i = 0; i < c.operands.size(); ++i) {
      const Tensor operand = floats(c.operands[i], 3 + static_cast<std::uint32_t>(i));
      packed.inputs.push_back(operand);
      batched.inputs.push_back(operand);
    }
    SCOPED_TRACE(c.program);
    check_tactic(packed, "gemm.packed", tolerance_for(40));
    check_tactic(batched, "gemm.batched", tolerance_for(40));
  }
}

TEST(PackedGemm, ResidualSurvivesSeveralDepthBlocks) {
  const Attributes attributes = with_epilogue("add 0 1; relu 2", 2);
  check_tactic(
      {"MatMul", attributes, {floats({30, 1500}, 1), floats({1500, 25}, 2), floats({30, 25}, 3)}, {false, true}},
      "gemm.packed", tolerance_for(1500));
}

/// Three times what bounds the plain product, see kernels/strassen.hpp.
Tolerance strassen_tolerance_for(std::int64_t depth) {
  const Tolerance plain = tolerance_for(depth);
  return {3 * plain.absolute, 3 * plain.relative};
}

TEST(StrassenGemm, OddSizesAgreeWithTheReference) {
  // Halves of odd rows, halves of the depth that are no whole vectors, several blocks of rows and of the depth, and
  // panels narrower than a tile.
  for (const Sizes& s : std::vector<Sizes>{{24, 96, 128},
                                           {25, 96, 130},
                                           {27, 160, 142},
                                           {49, 320, 160},
                                           {101, 128, 384},
                                           {300, 224, 256},
                                           {64, 96, 1550}}) {
    check_tactic({"MatMul", {}, {floats({1, s.m, s.k}, 1), floats({s.k, s.n}, 2)}, {false, true}}, "gemm.strassen",
                 strassen_tolerance_for(s.k));
  }
  const Attributes trans_b{{"trans_b", std::int64_t{1}}};
  check_tactic({"MatMul", trans_b, {floats({3, 5, 7, 200}, 1), floats({96, 200}, 2)}, {false, true}}, "gemm.strassen",
               strassen_tolerance_for(200));
}

TEST(StrassenGemm, EpiloguesBroadcastLikeNumPy) {
  struct Case {
    std::string program;
    std::vector<Shape> operands;
  };
  for (const Case& c : std::vector<Case>{{"add 0 1", {{96}}},
                                         {"add 0 1; relu 2", {{2, 27, 96}}},
                                         {"add 1 0; add 3 2; hard_swish 4", {{96}, {2, 27, 96}}},
                                         {"prelu 0 1", {{96}}},
                                         {"add 0 1; gelu 2", {{96}}},
                                         {"mul 0 1", {{2, 27, 1}}}}) {
    SCOPED_TRACE(c.program);
    for (const std::int64_t depth : {128, 1300}) {
      KernelCase strassen{"MatMul",
                          with_epilogue(c.program, static_cast<int>(c.operands.size()) + 1),
                          {floats({2, 27, depth}, 1), floats({depth, 96}, 2)},
                          {false, true}};
      for (std::size_t i = 0; i < c.operands.size(); ++i) {
        strassen.inputs.push_back(floats(c.operands[i], 3 + static_cast<std::uint32_t>(i)));
      }
      // A result of the program may grow by a factor of 2 and a sum's error with it.
      const Tolerance once = strassen_tolerance_for(depth);
      check_tactic(strassen, "gemm.strassen", {2 * once.absolute, once.relative});
    }
  }
}

TEST(StrassenGemm, SamplesDoNotTouchEachOther) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP();
  // An infinity spoils its own sample only, whichever rows it is paired with there.
  constexpr std::size_t kRows = 40, kDepth = 128, kColumns = 96;
  const Tensor clean = floats({3, kRows, kDepth}, 1), b = floats({kDepth, kColumns}, 2);
  Tensor spoiled = floats({3, kRows, kDepth}, 1);
  spoiled.as_mutable<float>()[kRows * kDepth + 7] = std::numeric_limits<float>::infinity();
  const auto wanted = run_tactic({"MatMul", {}, {clean, b}, {false, true}}, "gemm.strassen");
  const auto got = run_tactic({"MatMul", {}, {spoiled, b}, {false, true}}, "gemm.strassen");
  ASSERT_EQ(got.size(), 1U);
  for (std::size_t i = 0; i < 3 * kRows * kColumns; ++i) {
    const float x = got[0].as<float>()[i], y = wanted[0].as<float>()[i];
    if (i / (kRows * kColumns) == 1) {
      EXPECT_TRUE(i / kColumns != kRows || !std::isfinite(x)) << i;
    } else {
      ASSERT_EQ(x, y) << i;
    }
  }
}

TEST(StrassenGemm, WhatItCannotOrMayNotDoIsRefused) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP();
  const auto product = [](std::int64_t depth, std::int64_t columns) {
    return KernelCase{"MatMul", {}, {floats({1, 40, depth}, 1), floats({depth, columns}, 2)}, {false, true}};
  };
  EXPECT_EQ(refusal_of(product(129, 96), "gemm.strassen"), "a depth of 129 has no halves");
  EXPECT_NE(refusal_of(product(128, 100), "gemm.strassen").find("not whole vectors"), std::string::npos);
  EXPECT_NE(refusal_of(product(64, 96), "gemm.strassen").find("too small"), std::string::npos);
  const KernelCase rows_are_samples{"MatMul", {}, {floats({40, 128}, 1), floats({128, 96}, 2)}, {false, true}};
  EXPECT_NE(refusal_of(rows_are_samples, "gemm.strassen").find("too small"), std::string::npos);
  const auto refusal_with = [&](bool strict, bool half_weights) {
    PreparedCase prepared = prepare(product(128, 96));
    prepared.problem.strict = strict;
    prepared.problem.half_weights = half_weights;
    for (const Candidate& candidate : cpu_backend().candidates(prepared.problem)) {
      if (candidate.tactic == "gemm.strassen") return candidate.refusal;
    }
    return std::string("there is no such tactic");
  };
  EXPECT_EQ(refusal_with(false, false), "");
  EXPECT_EQ(refusal_with(true, false), "strict arithmetic was asked for");
  EXPECT_NE(refusal_with(false, true).find("half the space"), std::string::npos);
}

TEST(BatchedGemm, OddSizesAndTransposesAgreeWithTheReference) {
  for (const Sizes& s : kSizes) {
    for (const int trans_a : {0, 1}) {
      for (const int trans_b : {0, 1}) {
        const Attributes attributes{{"trans_a", std::int64_t{trans_a}}, {"trans_b", std::int64_t{trans_b}}};
        const Shape a = trans_a != 0 ? Shape{s.k, s.m} : Shape{s.m, s.k};
        const Shape b = trans_b != 0 ? Shape{s.n, s.k} : Shape{s.k, s.n};
        check_tactic({"MatMul", attributes, {floats(a, 1), floats(b, 2)}}, "gemm.batched", tolerance_for(s.k));
      }
    }
  }
}

TEST(BatchedGemm, BatchesBroadcast) {
  const std::vector<std::pair<Shape, Shape>> shapes = {
      {{4, 9, 20}, {4, 20, 17}},    {{4, 9, 20}, {20, 17}},          {{9, 20}, {4, 20, 17}},
      {{2, 1, 9, 20}, {3, 20, 17}}, {{2, 3, 9, 20}, {2, 1, 20, 17}}, {{1, 9, 20}, {5, 20, 17}},
      {{20}, {3, 20, 17}},          {{2, 3, 0, 20}, {20, 17}},       {{2, 5, 0}, {2, 0, 6}}};
  for (const auto& [a, b] : shapes) {
    check_tactic({"MatMul", {}, {floats(a, 1), floats(b, 2)}}, "gemm.batched", tolerance_for(20));
  }
}

TEST(BatchedGemm, WideProductsArePackedInSeveralPieces) {
  check_tactic({"MatMul", {}, {floats({3, 600}, 1), floats({600, 2500}, 2)}}, "gemm.batched", tolerance_for(600));
}

TEST(GemmTactics, BrokenSpecsAreRefused) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP();
  const PreparedCase c = prepare({"MatMul", {}, {floats({4, 8}, 1), floats({8, 16}, 2)}, {false, true}});
  const std::vector<std::byte> weights(8 * 16 * 4);
  KernelSpec good{c.problem.op, "gemm.packed", {1, 1, 256, 48}, c.problem.inputs, c.problem.outputs, {weights}};
  EXPECT_NO_THROW(cpu_backend().make_kernel(good));
  KernelSpec bad = good;
  bad.parameters = {99, 1, 256, 48};
  expect_refused(bad, "register tile");
  bad.parameters = {1, 1, 0, 48};
  expect_refused(bad, "blocks");
  bad.parameters = {1, 1, 256};
  expect_refused(bad, "4 numbers");
  bad = good;
  bad.weights[0] = bad.weights[0].first(100);
  expect_refused(bad, "packed weights");
  bad = good;
  bad.inputs[1].dtype = DType::float64;
  expect_refused(bad, "float32");
  bad = good;
  bad.tactic = "gemm.nothing";
  expect_refused(bad, "gemm.nothing");
}

}  // namespace
}  // namespace tenfold
