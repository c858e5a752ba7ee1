#include <gtest/gtest.h>

#include "ops/interpreter.hpp"
#include "ops/pointwise.hpp"
#include "ops/registry.hpp"

namespace tenfold {
namespace {

Tensor floats(Shape shape, std::vector<float> values) {
  return Tensor::from<float>(DType::float32, std::move(shape), std::span<const float>(values));
}

std::string failure_of(int num_inputs, std::string_view text) {
  try {
    PointwiseProgram::parse(num_inputs, text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_model);
    return error.message();
  }
  return "no failure";
}

TEST(PointwiseProgram, TheTextIsReadBackUnchanged) {
  PointwiseProgram program;
  program.num_inputs = 2;
  const int sum = program.append(PointwiseCode::add, 0, 1);
  const int leaky = program.append(PointwiseCode::leaky_relu, sum, 0, 0, 0.01F);
  const int tenth = program.append(PointwiseCode::constant, 0, 0, 0, -0.1F);
  program.append(PointwiseCode::fma, leaky, tenth, 0);
  const PointwiseProgram again = PointwiseProgram::parse(2, program.to_string());
  EXPECT_EQ(again, program);
  EXPECT_EQ(again.to_string(), program.to_string());
  EXPECT_EQ(program.result(), 5);
}

TEST(PointwiseProgram, InfinitiesAndNanAreReadBack) {
  PointwiseProgram program;
  program.append(PointwiseCode::min_imm, 0, 0, 0, INFINITY);
  program.append(PointwiseCode::max_imm, 1, 0, 0, -INFINITY);
  EXPECT_EQ(PointwiseProgram::parse(1, program.to_string()), program);
}

TEST(PointwiseProgram, BrokenTextIsRefused) {
  EXPECT_NE(failure_of(1, "sqr 0").find("unknown pointwise instruction"), std::string::npos);
  EXPECT_NE(failure_of(1, "add 0 1").find("reads register 1"), std::string::npos);
  EXPECT_NE(failure_of(1, "add 0").find("needs 2 registers"), std::string::npos);
  EXPECT_NE(failure_of(1, "relu 0 0").find("too many operands"), std::string::npos);
  EXPECT_NE(failure_of(1, "const").find("needs a number"), std::string::npos);
  EXPECT_NE(failure_of(1, "const 0x").find("needs a number"), std::string::npos);
  EXPECT_NE(failure_of(1, "relu -1").find("reads register -1"), std::string::npos);
  EXPECT_NE(failure_of(65, "").find("1 to 64 inputs"), std::string::npos);
  std::string longest = "relu 0";
  for (int i = 0; i < 62; ++i) longest += "; relu 0";
  EXPECT_EQ(failure_of(1, longest), "no failure");
  EXPECT_NE(failure_of(1, longest + "; relu 0").find("at most 64 registers"), std::string::npos);
}

TEST(PointwiseProgram, EveryCodeHasItsMeaning) {
  const auto value = [](PointwiseCode code, double a, double b = 0, double c = 0, float k = 0) {
    return evaluate(PointwiseInstruction{.code = code, .immediate = k}, a, b, c);
  };
  EXPECT_EQ(value(PointwiseCode::fma, 2, 3, 4), 10);
  EXPECT_EQ(value(PointwiseCode::select, 0, 3, 4), 4);
  EXPECT_EQ(value(PointwiseCode::select, 1, 3, 4), 3);
  EXPECT_EQ(value(PointwiseCode::round, 2.5), 2);
  EXPECT_EQ(value(PointwiseCode::rsub_imm, 3, 0, 0, 10), 7);
  EXPECT_EQ(value(PointwiseCode::leaky_relu, -4, 0, 0, 0.25F), -1);
  EXPECT_DOUBLE_EQ(value(PointwiseCode::softplus, 1000), 1000);
  EXPECT_DOUBLE_EQ(value(PointwiseCode::sigmoid, -1000), 0);
  EXPECT_NEAR(value(PointwiseCode::hard_swish, 1), 4.0 / 6, 1e-7);  // 1/6 is a float
  EXPECT_TRUE(std::isnan(value(PointwiseCode::relu, NAN)));
  EXPECT_TRUE(std::isnan(value(PointwiseCode::max, 1, NAN)));
}

TEST(Pointwise, BroadcastsItsInputsAndReadsBools) {
  const Graph graph = parse_graph(R"(graph g(%x: float32[2, 2], %b: bool[2], %c: float32[2, 1]) {
    %y = Pointwise(%x, %b, %c) {num_inputs=3, program="mul 0 1; add 3 2"}
    return %y
  })");
  const bool mask[] = {true, false};
  const std::vector<Tensor> inputs{floats({2, 2}, {1, 2, 3, 4}), Tensor::from<bool>(DType::boolean, {2}, mask),
                                   floats({2, 1}, {10, 20})};
  EXPECT_EQ(interpret(graph, inputs)[0].to_double(), (std::vector<double>{11, 10, 23, 20}));
}

TEST(Epilogue, AddsAResidualAndActivates) {
  // 1x1 convolution by 2, then + residual, then relu.
  const Graph graph = parse_graph(R"(graph g(%x: float32[1, 1, 1, 3], %r: float32[1, 1, 1, 3]) {
    %w = constant float32[1, 1, 1, 1] full(2)
    %y = Conv(%x, %w, _, %r) {strides=[1, 1], epilogue="add 0 1; relu 2", epilogue_inputs=1}
    return %y
  })");
  const std::vector<Tensor> inputs{floats({1, 1, 1, 3}, {1, 2, -3}), floats({1, 1, 1, 3}, {-5, 1, 7})};
  EXPECT_EQ(interpret(graph, inputs)[0].to_double(), (std::vector<double>{0, 5, 1}));
}

TEST(Epilogue, AnInputThatDoesNotBroadcastToTheResultIsRefused) {
  EXPECT_THROW(parse_graph(R"(graph g(%x: float32[1, 1, 1, 3], %r: float32[2, 1, 1, 3]) {
    %w = constant float32[1, 1, 1, 1] full(2)
    %y = Conv(%x, %w, _, %r) {strides=[1, 1], epilogue="add 0 1", epilogue_inputs=1}
    return %y
  })"),
               Error);
}

}  // namespace
}  // namespace tenfold
