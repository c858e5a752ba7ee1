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
  const auto refused = [](KernelSpec spec, const std::string& word) {
    try {
      cpu_backend().make_kernel(spec);
      ADD_FAILURE() << "accepted although " << word;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::incompatible_engine);
      EXPECT_NE(error.message().find(word), std::string::npos) << error.message();
    }
  };
  KernelSpec bad = good;
  bad.parameters = {99, 1, 256, 48};
  refused(bad, "register tile");
  bad.parameters = {1, 1, 0, 48};
  refused(bad, "blocks");
  bad.parameters = {1, 1, 256};
  refused(bad, "4 numbers");
  bad = good;
  bad.weights[0] = bad.weights[0].first(100);
  refused(bad, "packed weights");
  bad = good;
  bad.inputs[1].dtype = DType::float64;
  refused(bad, "float32");
  bad = good;
  bad.tactic = "gemm.nothing";
  refused(bad, "gemm.nothing");
}

}  // namespace
}  // namespace tenfold
