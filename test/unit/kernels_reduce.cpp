// Reductions and positions of extremes against their references.
#include "kernel_case.hpp"

namespace tenfold {
namespace {

using Ints = std::vector<std::int64_t>;

Tensor floats(const Shape& shape, std::uint32_t seed, double low = -2, double high = 2) {
  return random_tensor(DType::float32, shape, seed, low, high);
}

/// A fold over `count` numbers of size `size`: pieces of at most 4096 numbers in at least 8 lanes, then the pieces.
Tolerance tolerance_for(std::int64_t count, double size) {
  const double rounding =
      0x1p-24 * (std::min(static_cast<double>(count), 512.0) + static_cast<double>(count) / 128 + 16);
  return {rounding * size, rounding};
}

std::int64_t folded_count(const Shape& shape, const Ints& axes) {
  std::int64_t count = 1;
  for (const std::int64_t axis : axes) count *= shape[static_cast<std::size_t>(axis)];
  return count;
}

TEST(ReduceKernel, EverySetOfAxes) {
  const Shape shape = {3, 5, 9, 21};
  for (const char* op : {"ReduceSum", "ReduceMean", "ReduceMax"}) {
    for (int set = 0; set < 16; ++set) {
      Ints axes;
      for (std::int64_t a = 0; a < 4; ++a) {
        if ((set >> a & 1) != 0) axes.push_back(a);
      }
      for (const std::int64_t keep : {0, 1}) {
        check_tactic({op, {{"axes", axes}, {"keepdims", keep}}, {floats(shape, 1)}}, "reduce.fold",
                     tolerance_for(3 * 5 * 9 * 21, 8));
      }
    }
  }
}

TEST(ReduceKernel, EveryFold) {
  for (const char* op : {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
                         "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"}) {
    for (const Ints& axes : {Ints{1}, Ints{0}, Ints{0, 2}}) {
      const Shape shape = {4, 13, 70};
      check_tactic({op, {{"axes", axes}}, {floats(shape, 1, 0.5, 1.5)}}, "reduce.fold",
                   tolerance_for(folded_count(shape, axes), 1));
    }
  }
}

TEST(ReduceKernel, ImagesInBothLayoutsLargeAndSmall) {
  const std::vector<std::pair<Shape, Ints>> cases = {
      {{1, 7, 7, 1280}, {1, 2}}, {{1, 320, 7, 7}, {2, 3}}, {{2, 112, 112, 16}, {1, 2}}, {{1, 16, 112, 112}, {2, 3}},
      {{2, 30, 40}, {2}},        {{600000}, {0}},          {{3, 100000}, {1}},          {{100000, 3}, {0}}};
  for (const auto& [shape, axes] : cases) {
    for (const char* op : {"ReduceMean", "ReduceMax", "ReduceLogSumExp"}) {
      // Sums of signed numbers: the error is relative to the sum of their magnitudes, about their count.
      const double size = std::string(op) == "ReduceMean" ? 2 : 16;
      check_tactic({op, {{"axes", axes}}, {floats(shape, 1)}}, "reduce.fold",
                   tolerance_for(folded_count(shape, axes), size));
    }
  }
}

TEST(ReduceKernel, EmptyFoldsGiveTheNeutralElement) {
  check_tactic({"ReduceSum", {{"axes", Ints{1}}}, {floats({3, 0}, 1)}}, "reduce.fold", {});
  check_tactic({"ReduceProd", {{"axes", Ints{0}}}, {floats({0, 5}, 1)}}, "reduce.fold", {});
  check_tactic({"ReduceSum", {{"axes", Ints{1}}}, {floats({0, 4}, 1)}}, "reduce.fold", {});
}

TEST(ReduceKernel, InfinitiesSurviveLogSumExp) {
  Tensor x = floats({3, 20}, 1);
  for (std::size_t i = 0; i < 20; ++i) x.as_mutable<float>()[i] = -INFINITY;
  x.as_mutable<float>()[25] = INFINITY;
  check_tactic({"ReduceLogSumExp", {{"axes", Ints{1}}}, {x}}, "reduce.fold", tolerance_for(20, 4));
}

TEST(ReduceKernel, PositionsOfExtremes) {
  if (find_op("ArgMax") == nullptr) return;
  // Few distinct values, so that equal ones occur.
  Tensor x = random_tensor(DType::float32, {4, 37, 19}, 5);
  for (float& value : x.as_mutable<float>()) value = std::floor(value * 3);
  for (const char* op : {"ArgMax", "ArgMin"}) {
    for (const std::int64_t axis : {0, 1, 2}) {
      for (const std::int64_t last : {0, 1}) {
        check_tactic({op, {{"axis", axis}, {"select_last_index", last}}, {x}}, "reduce.position", {});
      }
    }
  }
}

}  // namespace
}  // namespace tenfold
