// Tactics that move elements, against the reference: results must be the same bits.
#include <array>

#include "kernel_case.hpp"

namespace tenfold {
namespace {

const std::string kTactic = "copy.strided";
using Ints = std::vector<std::int64_t>;

/// Distinct elements wherever the type is wide enough.
Tensor counted(DType dtype, const Shape& shape) {
  Tensor tensor(dtype, shape);
  dispatch(dtype, [&]<typename T>() {
    std::int64_t i = 0;
    for (T& value : tensor.as_mutable<T>()) {
      if constexpr (std::is_same_v<T, bool>) {
        value = i++ % 3 == 0;
      } else if constexpr (std::is_integral_v<T>) {
        value = static_cast<T>(i++);
      } else {
        value = static_cast<T>(static_cast<float>(i++));
      }
    }
  });
  return tensor;
}

TEST(MovementKernel, TransposesEveryPermutationAndElementSize) {
  const std::vector<std::pair<Shape, Ints>> cases = {{{37, 50}, {1, 0}},
                                                     {{8, 8}, {1, 0}},
                                                     {{7, 3}, {1, 0}},
                                                     {{3, 1000}, {1, 0}},
                                                     {{1000, 3}, {1, 0}},
                                                     {{1, 3, 20, 30}, {0, 2, 3, 1}},
                                                     {{2, 20, 30, 3}, {0, 3, 1, 2}},
                                                     {{2, 64, 9, 9}, {0, 2, 3, 1}},
                                                     {{2, 9, 9, 64}, {0, 3, 1, 2}},
                                                     {{2, 16, 12, 32}, {0, 2, 1, 3}},
                                                     {{2, 16, 12, 32}, {0, 2, 3, 1}},
                                                     {{4, 5, 6}, {2, 1, 0}},
                                                     {{2, 3, 4, 5, 6}, {4, 2, 0, 3, 1}},
                                                     {{5}, {0}},
                                                     {{}, {}},
                                                     {{0, 4}, {1, 0}},
                                                     {{1, 1, 7}, {2, 0, 1}},
                                                     {{2, 300, 260}, {0, 2, 1}},
                                                     {{15, 9}, {1, 0}},
                                                     {{9, 17}, {1, 0}},
                                                     {{5, 16}, {1, 0}},
                                                     {{2000, 7}, {1, 0}},
                                                     {{7, 2000}, {1, 0}},
                                                     {{2, 50}, {1, 0}},
                                                     {{3, 18}, {1, 0}},
                                                     {{4, 33}, {1, 0}}};
  for (const DType dtype : {DType::float32, DType::uint8, DType::float16, DType::int64}) {
    for (const auto& [shape, perm] : cases) {
      check_tactic({"Transpose", {{"perm", perm}}, {counted(dtype, shape)}}, kTactic, {});
    }
  }
}

TEST(MovementKernel, ConcatAndSplitAlongEveryAxis) {
  for (const std::int64_t axis : {0, 1, 2}) {
    std::vector<Tensor> parts;
    for (const std::int64_t size : {3, 1, 8}) {
      Shape shape = {4, 5, 6};
      shape[static_cast<std::size_t>(axis)] = size;
      parts.push_back(counted(DType::float32, shape));
    }
    check_tactic({"Concat", {{"axis", axis}}, parts}, kTactic, {});
    Shape shape = {9, 9, 9};
    check_tactic({"Split", {{"axis", axis}, {"sizes", Ints{2, 3, 4}}}, {counted(DType::int64, shape)}, {}, 3}, kTactic,
                 {});
  }
  check_tactic(
      {"Concat", {{"axis", std::int64_t{0}}}, {counted(DType::float32, {0, 3}), counted(DType::float32, {2, 3})}},
      kTactic, {});
  check_tactic({"Concat",
                {{"axis", std::int64_t{1}}},
                {counted(DType::float32, {200, 300}), counted(DType::float32, {200, 20})}},
               kTactic, {});
}

TEST(MovementKernel, SlicesWithStepsAndFromTheEnd) {
  const Tensor x = counted(DType::float32, {4, 9, 20});
  const auto slice = [&](Ints starts, Ints ends, Ints axes, Ints steps) {
    check_tactic({"Slice", {{"starts", starts}, {"ends", ends}, {"axes", axes}, {"steps", steps}}, {x}}, kTactic, {});
  };
  slice({1}, {3}, {0}, {1});
  slice({-5}, {1000000}, {2}, {1});
  slice({2, 1}, {7, 19}, {1, 2}, {2, 3});
  slice({-1}, {-1000}, {2}, {-1});
  slice({8, 19}, {0, 2}, {1, 2}, {-3, -2});
  slice({5}, {5}, {2}, {1});
  const Tensor starts = Tensor::of_int64({2}, std::array<std::int64_t, 2>{1, -3});
  const Tensor ends = Tensor::of_int64({2}, std::array<std::int64_t, 2>{8, 20});
  const Tensor axes = Tensor::of_int64({2}, std::array<std::int64_t, 2>{1, 2});
  check_tactic({"Slice", {}, {x, starts, ends, axes}, {false, true, true, true}}, kTactic, {});
}

TEST(MovementKernel, ExpandAndTileRepeat) {
  const auto shape = [](std::vector<std::int64_t> dims) {
    return Tensor::of_int64({static_cast<std::int64_t>(dims.size())}, dims);
  };
  check_tactic({"Expand", {}, {counted(DType::float32, {3, 1}), shape({2, 3, 40})}, {false, true}}, kTactic, {});
  check_tactic({"Expand", {}, {counted(DType::int64, {1, 40}), shape({5, 1})}, {false, true}}, kTactic, {});
  check_tactic({"Expand", {}, {counted(DType::boolean, {}), shape({5, 6})}, {false, true}}, kTactic, {});
  check_tactic({"Tile", {}, {counted(DType::float32, {2, 3, 4}), shape({2, 1, 3})}, {false, true}}, kTactic, {});
  check_tactic({"Tile", {}, {counted(DType::uint8, {7}), shape({50})}, {false, true}}, kTactic, {});
}

TEST(MovementKernel, ReshapeKeepsTheOrder) {
  check_tactic({"Reshape", {{"dims", std::vector<std::string>{"6", "35"}}}, {counted(DType::float32, {2, 3, 35})}},
               kTactic, {});
}

TEST(MovementKernel, BlocksMoveBetweenDepthAndSpace) {
  if (find_op("DepthToSpace") != nullptr) {
    for (const char* mode : {"DCR", "CRD"}) {
      check_tactic({"DepthToSpace",
                    {{"blocksize", std::int64_t{2}}, {"mode", std::string(mode)}},
                    {counted(DType::float32, {2, 12, 5, 7})}},
                   kTactic, {});
    }
  }
  if (find_op("SpaceToDepth") != nullptr) {
    check_tactic({"SpaceToDepth", {{"blocksize", std::int64_t{3}}}, {counted(DType::float32, {2, 2, 9, 6})}}, kTactic,
                 {});
  }
}

TEST(MovementKernel, GatherPicksRowsAndElements) {
  const auto check = [](const Shape& shape, std::int64_t axis, const Tensor& indices) {
    for (const DType dtype : {DType::float32, DType::uint8, DType::int64}) {
      check_tactic({"Gather", {{"axis", axis}}, {counted(dtype, shape), indices}}, "copy.indexed", {});
    }
  };
  const Tensor indices = Tensor::of_int64({2, 3}, std::array<std::int64_t, 6>{0, -1, 4, 2, 2, -5});
  check({5, 40}, 0, indices);
  check({3, 5, 7}, 1, indices);
  check({3, 5}, 1, indices);
  check({300, 5}, 1, indices);
  check({5, 3}, 0, Tensor::of_int64({}, std::array<std::int64_t, 1>{3}));
  check({5, 3}, 0, Tensor(DType::int64, {0}));
  check({5, 300}, 0, random_tensor(DType::int32, {50}, 1, 0, 5));
}

TEST(MovementKernel, GatherOutsideTheAxisIsAnError) {
  if (cpu::tier() == cpu::Tier::none) return;
  const Tensor indices = Tensor::of_int64({1}, std::array<std::int64_t, 1>{7});
  const PreparedCase prepared =
      prepare({"Gather", {{"axis", std::int64_t{0}}}, {counted(DType::float32, {5, 3}), indices}});
  const auto kernel = cpu_backend().make_kernel(
      {prepared.problem.op, "copy.indexed", {}, prepared.problem.inputs, prepared.problem.outputs, {}});
  try {
    run_kernel(prepared, *kernel, {}, {});
    FAIL() << "index 7 of 5 was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
    EXPECT_NE(error.message().find("index 7"), std::string::npos) << error.message();
  }
}

TEST(MovementKernel, PadsAndCropsEveryAxis) {
  for (const Ints& pads : {Ints{0, 1, 2, 0, 3, 1}, Ints{1, 0, 0, 1, 0, 0}, Ints{0, -1, 2, 0, 0, -3},
                           Ints{0, 0, 0, 0, 0, 0}, Ints{-1, -1, -1, 0, 0, 0}, Ints{0, 2, 0, 0, 2, 0}}) {
    check_tactic({"Pad",
                  {{"mode", std::string("constant")}, {"pads", pads}, {"value", 1.5}},
                  {counted(DType::float32, {3, 4, 9})}},
                 kTactic, {});
  }
  check_tactic({"Pad", {{"mode", std::string("constant")}, {"pads", Ints{1, 2}}}, {counted(DType::float32, {0})}},
               kTactic, {});
}

TEST(MovementKernel, PadsThatShowTheInputAgain) {
  for (const char* mode : {"reflect", "edge", "wrap"}) {
    for (const Ints& pads : {Ints{0, 1, 2, 0, 3, 1}, Ints{1, 0, 0, 1, 0, 0}, Ints{0, -1, 2, 0, 0, -3},
                             Ints{0, 3, 0, 0, 2, 0}, Ints{0, 0, 0, 0, 0, 0}}) {
      for (const DType dtype : {DType::float32, DType::int64}) {
        check_tactic({"Pad", {{"mode", std::string(mode)}, {"pads", pads}}, {counted(dtype, {3, 4, 9})}}, kTactic, {});
      }
    }
  }
}

}  // namespace
}  // namespace tenfold
