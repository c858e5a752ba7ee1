// From a graph to answers: builder and runtime together, against the reference interpreter.
#include "support/build_and_run.hpp"

#include <thread>

#include <gtest/gtest.h>

#include "ops/registry.hpp"

namespace tenfold {
namespace {

using test::worst_error;

// Single-precision sums of at most a few hundred terms of size 1: rounding grows like eps * sqrt(terms) = 2e-6; ten
// times that.
constexpr double kTolerance = 2e-5;

TEST(BuildAndRun, AConvolutionWithBiasAndReluAnswersLikeTheReference) {
  const double error = worst_error(R"(
    graph g(%x: float32[1, 3, 9, 11]) {
      %w = constant float32[8, 3, 3, 3] random(1)
      %b = constant float32[8] random(2)
      %y = Conv(%x, %w, %b) {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1}
      %z = Relu(%y)
      return %z
    })",
                                   {}, {{}});
  EXPECT_LT(error, kTolerance);
}

TEST(BuildAndRun, AnyShapeInsideTheProfileRunsInAnyOrder) {
  const ProfileSpec profile{{"x", {{1, 3, 4, 4}, {2, 3, 16, 16}, {4, 3, 33, 29}}}};
  const double error = worst_error(
      R"(
    graph g(%x: float32[n, 3, h, w]) {
      %k = constant float32[16, 3, 3, 3] random(1)
      %y = Conv(%x, %k, _) {strides=[2, 2], pads=[1, 1, 1, 1], dilations=[1, 1], group=1}
      %r = Relu(%y)
      %s = Sigmoid(%r)
      %z = Mul(%r, %s)
      return %z
    })",
      profile, {{{"x", {1, 3, 4, 4}}}, {{"x", {4, 3, 33, 29}}}, {{"x", {2, 3, 17, 5}}}, {{"x", {1, 3, 4, 4}}}});
  EXPECT_LT(error, kTolerance);
}

TEST(BuildAndRun, ARecurrentLayerTakesSmallerBatchesThanItsMemoryIsPlannedFor) {
  // 48 sequences need more rows of sums at a time than 50 do.
  const ProfileSpec profile{{"x", {{1, 1, 6}, {10, 8, 6}, {12, 50, 6}}}};
  const double error = worst_error(
      R"(
    graph g(%x: float32[t, n, 6]) {
      %w = constant float32[2, 80, 6] random(1)
      %r = constant float32[2, 80, 20] random(2)
      %b = constant float32[2, 160] random(3)
      %y, %h, %c = LSTM(%x, %w, %r, %b) {hidden_size=20, direction="bidirectional"}
      return %y, %h, %c
    })",
      profile, {{{"x", {12, 50, 6}}}, {{"x", {11, 48, 6}}}, {{"x", {12, 1, 6}}}, {{"x", {1, 2, 6}}}});
  EXPECT_LT(error, kTolerance);
}

TEST(BuildAndRun, AModelQuantisedToFloat8AnswersLikeTheReference) {
  // A sum that is rounded another way may become the neighbouring float8, which is an eighth away.
  const ProfileSpec profile{{"x", {{1, 8, 6, 6}, {2, 8, 9, 9}, {3, 8, 9, 9}}}};
  const double error = worst_error(R"(
    graph g(%x: float32[n, 8, h, w]) {
      %s = constant float32[] full(0.02)
      %zero = constant float8e4m3[] zeros
      %w = constant float8e4m3[16, 8, 3, 3] random(1)
      %sw = constant float32[16] random(2)
      %b = constant float32[16] random(3)
      %q = QuantizeLinear(%x, %s, %zero)
      %d = DequantizeLinear(%q, %s, %zero)
      %wd = DequantizeLinear(%w, %sw) {axis=0}
      %y = Conv(%d, %wd, %b) {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1}
      %r = Relu(%y)
      %p = QuantizeLinear(%r, %s) {output_dtype="float8e4m3"}
      %t = Transpose(%p) {perm=[0, 2, 3, 1]}
      %e = DequantizeLinear(%t, %s)
      return %e, %q
    })",
                                   profile, {{{"x", {2, 8, 9, 9}}}, {{"x", {1, 8, 6, 6}}}});
  EXPECT_LT(error, 0.125);
}

TEST(BuildAndRun, OutputsThatAreInputsConstantsOrTheSameValueAreCopied) {
  const double error = worst_error(R"(
    graph g(%x: float32[2, 3]) {
      %c = constant float32[2] data(1.0, 2.0)
      %y = Relu(%x)
      return %x, %c, %y, %y
    })",
                                   {}, {{}});
  EXPECT_EQ(error, 0);
}

TEST(BuildAndRun, ConcatAndSplitOfChannelsAnswerLikeTheReference) {
  const double error = worst_error(R"(
    graph g(%x: float32[1, 8, 6, 6]) {
      %w1 = constant float32[16, 8, 1, 1] random(1)
      %w2 = constant float32[8, 8, 3, 3] random(2)
      %w3 = constant float32[4, 24, 1, 1] random(3)
      %a = Conv(%x, %w1, _) {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1}
      %p, %q = Split(%a) {axis=1, sizes=[8, 8]}
      %r = Conv(%q, %w2, _) {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1}
      %s = Concat(%p, %q, %r) {axis=1}
      %t = Conv(%s, %w3, _) {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1}
      return %t
    })",
                                   {}, {{}});
  EXPECT_LT(error, kTolerance);
}

TEST(BuildAndRun, SlicesOfTheLastAxisAnswerLikeTheReference) {
  const double error = worst_error(R"(
    graph g(%x: float32[5, 8]) {
      %w = constant float32[8, 24] random(1)
      %a = MatMul(%x, %w)
      %p = Slice(%a) {starts=[0], ends=[8], axes=[1], steps=[1]}
      %q = Slice(%a) {starts=[-8], ends=[24], axes=[-1], steps=[1]}
      %r = Slice(%a) {starts=[8], ends=[16], axes=[1], steps=[1]}
      %u = Tanh(%q)
      %v = Mul(%p, %u)
      %y = Add(%v, %r)
      return %y
    })",
                                   {}, {{}});
  EXPECT_LT(error, kTolerance);
}

TEST(BuildAndRun, PartsOfASingleRowNeedNoKernelThatKnowsPitches) {
  // Mod has only the plain reference for integers, which neither reads nor writes parts of wider rows.
  const double error = worst_error(R"(
    graph g(%x: int64[5], %z: int64[1, 6]) {
      %two = constant int64[] data(2)
      %three = constant int64[] data(3)
      %a = Mod(%x, %two) {fmod=0}
      %b = Mod(%x, %three) {fmod=0}
      %c = Concat(%a, %b) {axis=0}
      %n = Neg(%z)
      %p, %q = Split(%n) {axis=1, sizes=[2, 4]}
      %u = Mod(%q, %three) {fmod=0}
      return %c, %p, %u
    })",
                                   {}, {{}});
  EXPECT_EQ(error, 0);
}

TEST(BuildAndRun, AViewOfWhatALoopMadeMayBeAnOutput) {
  const double error = worst_error(R"(
    graph g(%x: float32[3]) {
      %n = constant int64[] data(2)
      %t = constant bool[] ones
      %last, %all = Loop(%n, %t, %x) {num_carried=1} graph body(%i: int64[], %go: bool[], %a: float32[3]) {
        %b = Add(%a, %a)
        return %go, %b, %b
      }
      %y = Reshape(%all) {dims=["6"]}
      %z = Reshape(%last) {dims=["3", "1"]}
      return %y, %z
    })",
                                   {}, {{}});
  EXPECT_EQ(error, 0);
}

TEST(BuildAndRun, SizesThatOnlyTheKernelKnowsReachTheOutput) {
  const double error =
      worst_error(R"(
    graph g(%x: int64[n]) {
      %i = NonZero(%x)
      %f = Cast(%i) {to="float32"}
      %y = Mul(%f, %f)
      return %y
    })",
                  {{"x", {{0}, {8}, {64}}}}, {{{"x", {64}}}, {{"x", {0}}}, {{"x", {7}}}, {{"x", {64}}}});
  EXPECT_EQ(error, 0);
}

TEST(BuildAndRun, AShapeOutsideTheProfileNamesInputAxisRangeAndValue) {
  const Graph graph = parse_graph("graph g(%x: float32[n, 4]) { %y = Relu(%x) return %y }");
  BuildOptions options;
  options.profiles = {{{"x", {{1, 4}, {2, 4}, {8, 4}}}}};
  const Engine engine = test::build_engine(graph, options);
  Context context = engine.make_context();
  const std::vector<float> data(64);
  try {
    context.set_input("x", {9, 4}, data.data());
    FAIL() << "a batch of 9 was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
    EXPECT_NE(error.message().find("input 'x' axis 0 is 9"), std::string::npos) << error.message();
    EXPECT_NE(error.message().find("1..8"), std::string::npos) << error.message();
  }
  EXPECT_THROW(context.set_input("y", {1, 4}, data.data()), Error);
  EXPECT_THROW(context.set_input("x", {1, 4, 1}, data.data()), Error);
  EXPECT_THROW(context.run(), Error);
}

TEST(BuildAndRun, DynamicInputsWithoutAProfileAreListed) {
  const Graph graph = parse_graph("graph g(%x: float32[n, 4]) { %y = Relu(%x) return %y }");
  try {
    (void)build(graph, cpu_backend(), {});
    FAIL() << "a dynamic model was built without a profile";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
    EXPECT_NE(error.message().find("'x': float32[n, 4]"), std::string::npos) << error.message();
  }
}

TEST(BuildAndRun, ContextsInManyThreadsGiveTheSameBits) {
  const Graph graph = parse_graph(R"(
    graph g(%x: float32[1, 8, 16, 16]) {
      %w = constant float32[32, 8, 3, 3] random(1)
      %y = Conv(%x, %w, _) {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1}
      %z = Relu(%y)
      return %z
    })");
  const Engine engine = test::build_engine(graph, {});
  const std::vector<Tensor> inputs = test::random_inputs(graph, {}, 5);
  Context first = engine.make_context();
  const std::vector<Tensor> expected = test::run_engine(first, graph, inputs);
  std::vector<std::thread> threads;
  std::vector<int> differing(8, 0);
  for (std::size_t t = 0; t < differing.size(); ++t) {
    threads.emplace_back([&, t] {
      Context context = engine.make_context();
      for (int run = 0; run < 25; ++run) {
        if (!test::run_engine(context, graph, inputs)[0].equals(expected[0])) ++differing[t];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int count : differing) EXPECT_EQ(count, 0);
}

}  // namespace
}  // namespace tenfold
