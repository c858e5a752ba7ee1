// When two answers count as equal.
#include "difference.hpp"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "statistics.hpp"
#include "value_store.hpp"

namespace tenfold::cli {
namespace {

Tensor floats(std::vector<float> values) {
  const auto count = static_cast<std::int64_t>(values.size());
  return Tensor::from<float>(DType::float32, {count}, values);
}

TEST(Difference, IsRelativeToTheLargestValue) {
  EXPECT_TRUE(difference(floats({1000, 0.05F}), floats({1000, 0}), 1e-4).within());
  EXPECT_FALSE(difference(floats({1000, 0.5F}), floats({1000, 0}), 1e-4).within());
}

TEST(Difference, NanEqualsNanAndInfinityItself) {
  const float nan = std::nanf("");
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(difference(floats({nan, infinity, 1}), floats({nan, infinity, 1}), 0).within());
  EXPECT_FALSE(difference(floats({nan, 1}), floats({1, 1}), 1).within());
  EXPECT_FALSE(difference(floats({-infinity, 1}), floats({infinity, 1}), 1).within());
}

TEST(Difference, IntegersMustBeEqual) {
  const std::vector<std::int64_t> a = {1000000, 1};
  const std::vector<std::int64_t> b = {1000000, 2};
  EXPECT_FALSE(difference(Tensor::of_int64({2}, a), Tensor::of_int64({2}, b), 1).within());
}

TEST(Difference, NamesTheWorstElement) {
  const Difference result = difference(floats({1, 5, 3}), floats({1, 2, 3.5F}), 0.01);
  EXPECT_EQ(result.num_different, 2);
  EXPECT_EQ(result.worst, 1);
  EXPECT_NE(result.describe(floats({1, 5, 3}), floats({1, 2, 3.5F})).find("[1]: got 5, expected 2"), std::string::npos);
}

TEST(Difference, ShapesMustAgree) {
  EXPECT_FALSE(difference(floats({1, 2}), floats({1, 2}).reshaped({2, 1}), 1).within());
}

TEST(Statistics, PercentilesAreMeasuredValues) {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) values.push_back(i);
  const Statistics result = statistics(values);
  EXPECT_EQ(result.median, 50.5);
  EXPECT_EQ(result.p90, 90);
  EXPECT_EQ(result.p99, 99);
  EXPECT_EQ(statistics({}).max, 0);
  EXPECT_EQ(statistics({3}).p99, 3);
}

TEST(ValueStore, GivesBackTheLastTensorOfAName) {
  ValueStore store;
  const Tensor first = floats({1, 2});
  const Tensor second = floats({3});
  store.put("a", first.dtype(), first.shape(), first.data(), first.size_bytes());
  store.put("b", first.dtype(), first.shape(), first.data(), first.size_bytes());
  store.put("a", second.dtype(), second.shape(), second.data(), second.size_bytes());
  EXPECT_TRUE(store.get("a").equals(second));
  EXPECT_TRUE(store.get("b").equals(first));
  EXPECT_FALSE(store.has("c"));
}

}  // namespace
}  // namespace tenfold::cli
